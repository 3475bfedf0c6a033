//! What a mapping really does, found out by accesses to it.
//!
//! The rules of safety are here and not with the caller: nothing is stored without [`Settings::scratch`], nothing is loaded without
//! [`Settings::read`] or that; plain stores of one register come before anything that an emulated location could not decode; what was
//! there is put back; the kernel's log is watched, and the first error in it ends the probe, as does the time limit.
#![expect(unsafe_code, reason = "accesses to the window that is probed, and memory to compare it with")]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::access::Window;
use crate::arch;
use crate::cpu::{self, Features};
use crate::fault::{self, Curve, Fault, Idiom, Width};
use crate::measure::{self, Combining, Fit, Nanoseconds, Point, Rate, Summary, TRAPPED, Verdict};

/// What is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Loads have no effect on the device.
    pub read: bool,
    /// The bytes from the offset on are nobody's: they may be written, and read. They are put back.
    pub scratch: bool,
    /// An unaligned access may be tried. In an arm64 guest it stops the whole VM where stage 1 says Normal and stage 2 Device
    /// (Linux before 6.9: `Unsupported FSC: EC=0x24 xFSC=0x21`).
    pub unaligned: bool,
    /// Idioms of more than one register may be tried. Where the location is emulated an arm64 KVM cannot decode them.
    pub vectors: bool,
    /// How long it may take.
    pub time: Duration,
}

/// Something that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// A short name: `unaligned-load`.
    pub name: &'static str,
    /// What it was.
    pub what: String,
    /// What came of it, in words.
    pub result: String,
    /// The same in one word.
    pub verdict: Verdict,
    /// Nanoseconds, where time was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Summary>,
    /// Bytes that each time is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// A cost curve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<Point>,
}

/// What came of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Each test, in the order in which they were made.
    pub tests: Vec<Measured>,
    /// What the unaligned access says of the type.
    pub kind: Kind,
    /// The CPU to which the thread was bound, if it could be.
    pub cpu: Option<usize>,
    /// Why it ended early.
    pub stopped: Option<String>,
    /// Whether the kernel's log was watched; if not, why.
    pub watched: Result<(), String>,
    /// Whether what was there before is there again; nothing where nothing was written.
    pub restored: Option<bool>,
}

/// What an unaligned access says of the memory type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It faulted: Device (DDI 0487 B2.8.2).
    Device,
    /// It worked: Normal. Or Device at a location that supports it, which is IMPLEMENTATION DEFINED.
    Normal,
    /// It says nothing: not tried, or this is an architecture on which it works on every type.
    Unknown,
}

/// Bytes that are written at most.
const SCRATCH: usize = 64 << 10;
/// Where the unaligned access goes: within 16 bytes, so that it crosses nothing.
const ODD: usize = 1;
/// Without scratch no byte beyond this is read, from a multiple of 64 on.
pub const READS: usize = ODD + 8;
/// How often a curve is taken.
const CURVES: u64 = 16;
/// Stores of the longest curve: four lines.
const LONGEST: usize = 32;
/// A single measurement takes about so long.
const SAMPLE: f64 = 20_000.0;

/// Probes a window from an offset on.
///
/// # Errors
/// The window is too small: there must be 64 bytes at a multiple of 64.
pub fn run(window: Window<'_>, offset: usize, settings: Settings) -> Result<Report, crate::access::Bad> {
    let first = offset.next_multiple_of(64);
    let len = window.len().saturating_sub(first).min(SCRATCH) & !63;
    let window = window.part(first, len.max(64))?;
    let (log, watched) = match Log::open() {
        Ok(log) => (Some(log), Ok(())),
        Err(e) => (None, Err(format!("/dev/kmsg: {e}"))),
    };
    let mut it = Probe {
        window,
        settings,
        features: Features::detect(),
        ends: Instant::now().checked_add(settings.time),
        log,
        tests: Vec::new(),
        kind: Kind::Unknown,
        stopped: None,
    };
    let cpu = cpu::pin();
    let restored = it.all();
    Ok(Report { tests: it.tests, kind: it.kind, cpu, stopped: it.stopped, watched, restored })
}

struct Probe<'a> {
    window: Window<'a>,
    settings: Settings,
    features: Features,
    ends: Option<Instant>,
    log: Option<Log>,
    tests: Vec<Measured>,
    kind: Kind,
    stopped: Option<String>,
}

/// What a test gives: words, and a verdict.
type Outcome = Result<(String, Verdict), Fault>;

impl Probe<'_> {
    /// Each test, in the order that is safest. Whether what was there is there again.
    fn all(&mut self) -> Option<bool> {
        if !(self.settings.read || self.settings.scratch) {
            self.skip("loads", "any access", "nothing says that reading this device does no harm");
            return None;
        }
        self.unaligned_load();
        self.test("aligned-load", "aligned loads, 4 and 8 bytes", Self::aligned_loads);
        self.latency();
        if !self.settings.scratch {
            self.skip("stores", "any store", "needs --scratch");
            return None;
        }
        let saved = match self.save() {
            Ok(saved) => saved,
            Err(fault) => {
                self.push("save", "saving what is there".into(), fault.to_string(), Verdict::Fault(fault.to_string()));
                return None;
            }
        };
        self.test("aligned-store", "aligned stores, 1 to 8 bytes", Self::aligned_stores);
        self.test("wide-and-narrow", "8 bytes against 2 x 4", Self::wide_and_narrow);
        if self.kind == Kind::Device {
            let fault = "Device: the load faulted, and a store does too";
            self.skip("unaligned-store", "unaligned stores, 2 to 8 bytes", fault);
        } else if self.settings.unaligned {
            self.test("unaligned-store", "unaligned stores, 2 to 8 bytes", Self::unaligned_stores);
        }
        self.test("holes", "lines with holes", Self::holes);
        self.timing();
        let restored = self.restore(&saved);
        let result = if restored { "there again" } else { "lost" };
        let verdict = if restored { Verdict::ObservedAlways(1) } else { Verdict::Corrupt };
        self.push("restored", "what was there".into(), result.into(), verdict);
        Some(restored)
    }

    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        self.window.check(offset, len).ok()
    }
    /// A load, if it is within.
    fn load(&self, offset: usize, width: Width) -> Result<u64, Fault> {
        let Some(at) = self.at(offset, width.bytes()) else { return Ok(0) };
        // SAFETY: mapped; that reading does no harm is what `Settings` says, and was asked before anything else.
        unsafe { fault::load(at, width) }
    }
    /// A store, if it is within.
    fn store(&self, offset: usize, width: Width, value: u64) -> Result<(), Fault> {
        let Some(at) = self.at(offset, width.bytes()) else { return Ok(()) };
        // SAFETY: mapped, and no Rust object by the promise of the window's maker; stores are made with `Settings::scratch` only.
        unsafe { fault::store(at, width, value) }
    }
    fn fill(&self, offset: usize, bytes: usize, idiom: Idiom, value: u64) -> Result<(), Fault> {
        let step = idiom.step();
        let Some(at) = self.at(offset, bytes).filter(|at| at.addr() % step == 0 && bytes.is_multiple_of(step)) else {
            return Ok(());
        };
        // SAFETY: as a store; the multiples were checked; whether the CPU has the idiom is asked by `idioms`.
        unsafe { fault::fill(at, bytes, idiom, value) }
    }
    fn curve(&self, stores: usize, rounds: usize, kind: Curve) -> Result<(), Fault> {
        let Some(at) = self.at(0, 8 * stores) else { return Ok(()) };
        // SAFETY: as a store; the window begins at a multiple of 64.
        unsafe { fault::curve(at, stores, rounds, kind, 0x0123_4567_89ab_cdef) }
    }

    fn save(&self) -> Result<Vec<u64>, Fault> {
        (0..self.window.len() / 8).map(|i| self.load(8 * i, Width::U64)).collect()
    }
    fn restore(&self, saved: &[u64]) -> bool {
        let put = saved.iter().enumerate().try_for_each(|(i, value)| self.store(8 * i, Width::U64, *value));
        arch::flush();
        put.is_ok() && self.save().is_ok_and(|now| now == saved)
    }

    /// Whether anything more may be done; if not, why is noted.
    fn goes_on(&mut self) -> bool {
        if self.stopped.is_none() {
            if let Some(line) = self.log.as_mut().and_then(Log::alarm) {
                self.stopped = Some(format!("the kernel's log: {line}"));
            } else if self.ends.is_some_and(|ends| Instant::now() >= ends) {
                self.stopped = Some("time is up".into());
            }
        }
        self.stopped.is_none()
    }
    fn push(&mut self, name: &'static str, what: String, result: String, verdict: Verdict) {
        self.tests.push(Measured { name, what, result, verdict, time: None, bytes: None, curve: Vec::new() });
    }
    fn skip(&mut self, name: &'static str, what: &str, why: &str) {
        self.push(name, what.into(), why.into(), Verdict::NotTested);
    }
    fn test(&mut self, name: &'static str, what: &str, test: impl FnOnce(&mut Self) -> Outcome) {
        if !self.goes_on() {
            let why = self.stopped.clone().unwrap_or_default();
            return self.skip(name, what, &why);
        }
        let (result, verdict) = test(self).unwrap_or_else(|fault| {
            (format!("{fault} at offset {:#x}", self.offset_of(fault.address)), Verdict::Fault(fault.to_string()))
        });
        self.push(name, what.into(), result, verdict);
    }
    fn offset_of(&self, address: u64) -> u64 {
        address.wrapping_sub(self.window.base().addr() as u64)
    }

    fn unaligned_load(&mut self) {
        const WHAT: &str = "unaligned loads within 16 bytes";
        if !self.settings.unaligned {
            let why = "in a guest it would stop the VM if stage 2 is Device under Normal: --risk-vm";
            return self.skip("unaligned-load", WHAT, why);
        }
        self.test("unaligned-load", WHAT, |it| {
            let loads = [Width::U32, Width::U64].map(|width| it.load(ODD, width));
            let fault = loads.into_iter().find_map(Result::err);
            it.kind = match fault {
                Some(fault) if fault.is_alignment() => Kind::Device,
                None if cfg!(target_arch = "aarch64") => Kind::Normal,
                _ => Kind::Unknown,
            };
            match fault {
                Some(fault) => Err(fault),
                None if cfg!(target_arch = "aarch64") => {
                    Ok(("work: Normal, not Device".into(), Verdict::ObservedAlways(2)))
                }
                None => Ok(("work, as on every x86 type: says nothing".into(), Verdict::GuaranteedBySpec)),
            }
        });
    }

    fn aligned_loads(&mut self) -> Outcome {
        let mut values = Vec::new();
        // Registers seldom take less.
        for width in [Width::U32, Width::U64] {
            values.push(format!("{:#x}", self.load(0, width)?));
        }
        Ok((format!("read {}", values.join(", ")), Verdict::ObservedAlways(2)))
    }

    fn aligned_stores(&mut self) -> Outcome {
        let mut tried = 0;
        for width in Width::ALL {
            for offset in (0..64).step_by(width.bytes()) {
                let value = pattern(tried) & mask(width);
                self.store(offset, width, value)?;
                arch::flush();
                let back = self.load(offset, width)?;
                if back != value {
                    let text = format!("{} bytes at {offset:#x}: wrote {value:#x}, read {back:#x}", width.bytes());
                    return Ok((text, Verdict::Corrupt));
                }
                tried += 1;
            }
        }
        Ok(("read back as written".into(), Verdict::ObservedAlways(tried)))
    }

    /// BCM2711 (Raspberry Pi 4) breaks accesses of 64 bits to PCIe.
    fn wide_and_narrow(&mut self) -> Outcome {
        for i in 0..32 {
            let value = pattern(i);
            let halves = [value & 0xffff_ffff, value >> 32];
            self.store(8, Width::U64, value)?;
            arch::flush();
            if [self.load(8, Width::U32)?, self.load(12, Width::U32)?] != halves {
                return Ok((format!("{value:#x} written as 8 bytes reads otherwise as 2 x 4"), Verdict::Corrupt));
            }
            self.store(24, Width::U32, halves[0])?;
            self.store(28, Width::U32, halves[1])?;
            arch::flush();
            if self.load(24, Width::U64)? != value {
                return Ok((format!("{value:#x} written as 2 x 4 bytes reads otherwise as 8"), Verdict::Corrupt));
            }
        }
        Ok(("intact".into(), Verdict::ObservedAlways(32)))
    }

    /// What a naive memory would hold after the same stores, beside what it holds.
    fn unaligned_stores(&mut self) -> Outcome {
        let span = self.window.len().min(128 + 8);
        let mut expected = (0..span).map(|i| Ok(self.load(i, Width::U8)? as u8)).collect::<Result<Vec<_>, Fault>>()?;
        let mut tried = 0;
        for width in [Width::U16, Width::U32, Width::U64] {
            for offset in 0..expected.len() - width.bytes() {
                let value = pattern(tried) & mask(width);
                self.store(offset, width, value)?;
                expected[offset..offset + width.bytes()].copy_from_slice(&value.to_le_bytes()[..width.bytes()]);
                tried += 1;
            }
            arch::flush();
            for (i, byte) in expected.iter().enumerate() {
                let back = self.load(i, Width::U8)? as u8;
                if back != *byte {
                    let text = format!(
                        "after unaligned stores of {} bytes, byte {i:#x} is {back:#x}, not {byte:#x}",
                        width.bytes()
                    );
                    return Ok((text, Verdict::Corrupt));
                }
            }
        }
        Ok(("work, and read back as written".into(), Verdict::ObservedAlways(tried)))
    }

    /// Altra (PCIE_65) writes what is not contiguous in a line to wrong addresses: everything within 4 KiB is looked at.
    fn holes(&mut self) -> Outcome {
        const BACKGROUND: u64 = 0x3c3c_3c3c_3c3c_3c3c;
        let span = self.window.len().min(8192 + 64);
        let line = (span / 2) & !63;
        let mut tried = 0;
        for (name, bytes) in measure::holes() {
            self.fill(0, span & !7, Idiom::Loop(Width::U64), BACKGROUND)?;
            arch::flush();
            for i in (0..64).filter(|i| bytes >> i & 1 != 0) {
                self.store(line + i, Width::U8, 0xc3)?;
            }
            arch::flush();
            for i in (0..span & !7).step_by(8) {
                let back = self.load(i, Width::U64)?.to_le_bytes();
                for (j, byte) in back.into_iter().enumerate() {
                    let within = (i + j).checked_sub(line).filter(|k| *k < 64);
                    let expected = if within.is_some_and(|k| bytes >> k & 1 != 0) { 0xc3 } else { 0x3c };
                    if byte != expected {
                        let away = (i + j).cast_signed() - line.cast_signed();
                        return Ok((
                            format!("{name}: the byte {away:+} from the line is {byte:#x}, not {expected:#x}"),
                            Verdict::Corrupt,
                        ));
                    }
                }
            }
            tried += 1;
        }
        Ok((
            format!("{tried} patterns intact, and 4 KiB around them, read back through the same mapping"),
            Verdict::ObservedAlways(tried),
        ))
    }

    /// How long a load takes that must answer before the next.
    fn latency(&mut self) {
        let what = "a load, waited for";
        self.timed("read-latency", what, 1, None, |it, rounds| {
            let Some(at) = it.at(0, 8) else { return Ok(()) };
            // SAFETY: as a load.
            unsafe { fault::chase(at, rounds) }
        });
    }

    /// Times something that does itself so many times, of which each counts as `per`.
    fn timed(
        &mut self,
        name: &'static str,
        what: &str,
        per: usize,
        bytes: Option<usize>,
        mut run: impl FnMut(&Self, usize) -> Result<(), Fault>,
    ) -> Option<Summary> {
        let mut summary = None;
        self.test(name, what, |it| {
            let mut samples = it.sample(50, &mut run)?;
            samples.iter_mut().for_each(|s| *s /= per as f64);
            summary = Summary::of(&mut samples);
            Ok(summary.map_or_else(
                || ("nothing could be measured".into(), Verdict::NotTested),
                |s| {
                    let rate = bytes.map(|b| format!("  {:.0} MB/s", b as f64 / s.p50 * 1e3)).unwrap_or_default();
                    let text = format!("{:>7}  (99 %: {}){rate}", Nanoseconds(s.p50), Nanoseconds(s.p99));
                    (text, Verdict::ObservedAlways(s.n as u64))
                },
            ))
        });
        if let (Some(last), Some(s)) = (self.tests.last_mut(), summary) {
            last.time = Some(s);
            last.bytes = bytes;
        }
        summary
    }

    /// The time of one, in nanoseconds, so many times. Each measurement is of as many as take about [`SAMPLE`].
    fn sample(&mut self, n: usize, run: &mut impl FnMut(&Self, usize) -> Result<(), Fault>) -> Result<Vec<f64>, Fault> {
        let clock = |it: &Self, rounds: usize, run: &mut dyn FnMut(&Self, usize) -> Result<(), Fault>| {
            let start = Instant::now();
            run(it, rounds)?;
            Ok(start.elapsed().as_secs_f64() * 1e9 / rounds as f64)
        };
        let warm = clock(self, 1, run)?.min(clock(self, 16, run)?).max(0.1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 200000")]
        let rounds = (SAMPLE / warm).clamp(1.0, 200_000.0) as usize;
        let mut out = Vec::with_capacity(n);
        for _ in 0..n {
            out.push(clock(self, rounds, run)?);
            if self.ends.is_some_and(|ends| Instant::now() >= ends) {
                break;
            }
        }
        Ok(out)
    }

    fn timing(&mut self) {
        // The least of some: an interrupt is no trap.
        let mut one = f64::INFINITY;
        self.test("store", "a store of 4 bytes", |it| {
            for _ in 0..64 {
                let start = Instant::now();
                it.fill(0, 64, Idiom::Loop(Width::U32), 0)?;
                one = one.min(start.elapsed().as_secs_f64() * 1e9 / 16.0);
            }
            let trapped = one > TRAPPED;
            let why = if trapped { ": trapped or emulated" } else { "" };
            Ok((format!("{:>7}{why}", Nanoseconds(one)), Verdict::ObservedAlways(64)))
        });
        if one > TRAPPED {
            return self.skip(
                "timing",
                "throughput, combining, drain",
                "each store is trapped: time says nothing of the mapping",
            );
        }
        self.idioms();
        self.combining();
        self.drain();
    }

    fn idioms(&mut self) {
        for &idiom in Idiom::ALL {
            let what = idiom.name();
            if idiom == Idiom::Wide && !self.features.store64() {
                self.skip("throughput", what, "this CPU has none");
                continue;
            }
            if !idiom.is_plain() && !self.settings.vectors {
                self.skip("throughput", what, "an emulated location could not decode it: only on hardware");
                continue;
            }
            let len = self.window.len();
            for size in [64, 4096].into_iter().filter(|s| *s <= len) {
                self.timed("throughput", &format!("{what}, {size} bytes"), 1, Some(size), |it, rounds| {
                    for _ in 0..rounds {
                        it.fill(0, size, idiom, 0x5555_5555_5555_5555)?;
                        arch::flush();
                    }
                    Ok(())
                });
            }
        }
    }

    /// Which kinds of curve are taken: what is probed, and on x86 two controls that show that the method can tell.
    fn combining(&mut self) {
        let memory = Memory::new(8 * LONGEST);
        let reference = memory.and_then(|memory| {
            let own = Probe { window: memory.window(), log: None, tests: Vec::new(), stopped: None, ..*self };
            own.curve_of(Curve::Plain).ok().and_then(|c| c.iter().map(|p| p.cost).max_by(f64::total_cmp))
        });
        let Some(reference) = reference else {
            return self.skip("combining", "combining, from timing", "no ordinary memory to compare with");
        };
        self.curves("combining", "combining, from timing", Curve::Plain, reference);
        self.curves("separate", "with a fence after each store", Curve::Fenced, reference);
    }

    fn curves(&mut self, name: &'static str, what: &str, kind: Curve, reference: f64) {
        let mut median = Vec::new();
        self.test(name, what, |it| {
            let mut seen: Vec<(Combining, Vec<Point>)> = Vec::new();
            for _ in 0..CURVES {
                let points = it.curve_of(kind)?;
                seen.push((measure::combining(&points, reference), points));
                if !it.goes_on() {
                    break;
                }
            }
            median = middle(&seen);
            Ok(said(&seen, &median))
        });
        if let Some(last) = self.tests.last_mut() {
            last.curve = median;
        }
    }

    fn curve_of(&self, kind: Curve) -> Result<Vec<Point>, Fault> {
        let longest = LONGEST.min(self.window.len() / 8);
        let start = Instant::now();
        self.curve(longest, 4, kind)?;
        let warm = (start.elapsed().as_secs_f64() * 1e9 / 4.0).max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 4 and 1000")]
        let rounds = (SAMPLE / warm).clamp(4.0, 1000.0) as usize;
        (1..=longest)
            .map(|stores| {
                let mut best = f64::INFINITY;
                for _ in 0..3 {
                    let start = Instant::now();
                    self.curve(stores, rounds, kind)?;
                    best = best.min(start.elapsed().as_secs_f64() * 1e9 / rounds as f64);
                }
                Ok(Point { stores, cost: best })
            })
            .collect()
    }

    /// What the drain itself costs after so many stores.
    fn drain(&mut self) {
        let len = self.window.len();
        for stores in [0usize, 1, 8, 64, 512].into_iter().filter(|s| 8 * s <= len) {
            let mut summary = None;
            let what = format!("drain and clock after {stores} stores");
            self.test("drain", &what, |it| {
                let mut samples = Vec::with_capacity(200);
                for _ in 0..200 {
                    it.fill(0, 8 * stores, Idiom::Loop(Width::U64), 0xaaaa_aaaa_aaaa_aaaa)?;
                    let start = Instant::now();
                    arch::flush();
                    samples.push(start.elapsed().as_secs_f64() * 1e9);
                }
                summary = Summary::of(&mut samples);
                Ok(summary.map_or_else(
                    || (String::new(), Verdict::NotTested),
                    |s| {
                        (
                            format!("{:>7}  (99 %: {})", Nanoseconds(s.p50), Nanoseconds(s.p99)),
                            Verdict::ObservedAlways(200),
                        )
                    },
                ))
            });
            if let Some(last) = self.tests.last_mut() {
                last.time = summary;
            }
        }
    }
}

/// The lowest cost of each point over all curves.
fn middle(seen: &[(Combining, Vec<Point>)]) -> Vec<Point> {
    let Some((_, first)) = seen.first() else { return Vec::new() };
    let best = |i: usize| {
        let mut costs: Vec<f64> = seen.iter().filter_map(|(_, points)| Some(points.get(i)?.cost)).collect();
        Summary::of(&mut costs).map_or(0.0, |s| s.p50)
    };
    first.iter().enumerate().map(|(i, p)| Point { stores: p.stores, cost: best(i) }).collect()
}

fn said(seen: &[(Combining, Vec<Point>)], median: &[Point]) -> (String, Verdict) {
    let of = seen.len() as u64;
    let count = |which| seen.iter().filter(|(c, _)| *c == which).count() as u64;
    let (combined, separate, nothing) =
        (count(Combining::Combined), count(Combining::Separate), count(Combining::NoBus));
    let cost = Fit::of(median)
        .map(|f| {
            format!(
                "{} for each line and {} for each store",
                Nanoseconds(f.line.max(0.0)),
                Nanoseconds(f.store.max(0.0))
            )
        })
        .unwrap_or_default();
    if 2 * nothing >= of {
        return ("as fast as ordinary memory: time says nothing".into(), Verdict::NotTested);
    }
    if 2 * (combined + separate) < of {
        return (format!("neither flat nor a slope ({cost}): time says nothing"), Verdict::NotTested);
    }
    let text = match Rate::new(combined, combined + separate) {
        Some(rate) if combined > 0 => format!("{cost}; lines combined in {rate}"),
        _ => format!("{cost}; each store by itself"),
    };
    (text, Verdict::of(combined, combined + separate))
}

/// Digits that are in no order, and other ones each time.
const fn pattern(i: u64) -> u64 {
    (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

const fn mask(width: Width) -> u64 {
    u64::MAX >> (64 - 8 * width.bytes())
}

/// The kernel's log, from now on.
#[derive(Debug)]
struct Log(File);

impl Log {
    fn open() -> io::Result<Self> {
        let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }
    /// The first new line that is alarming.
    fn alarm(&mut self) -> Option<String> {
        let mut record = [0; 8192];
        // A read gives one record. EPIPE: some were overwritten.
        for _ in 0..10_000 {
            match self.0.read(&mut record) {
                Ok(0) => return None,
                Ok(n) => {
                    let text = String::from_utf8_lossy(&record[..n]);
                    let line = text.lines().next().unwrap_or_default();
                    if measure::is_alarm(line) {
                        return Some(line.split_once(';').map_or(line, |(_, text)| text).to_owned());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
                Err(_) => return None,
            }
        }
        None
    }
}

/// Ordinary memory, as a window: what the method is tried on, and compared with.
#[derive(Debug)]
pub struct Memory {
    base: *mut u8,
    len: usize,
}

impl Memory {
    /// Zeroed, and there; nothing where there is none to be had.
    #[must_use]
    pub fn new(len: usize) -> Option<Self> {
        let len = len.max(1).checked_next_multiple_of(cpu::page_size())?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        (base != libc::MAP_FAILED).then_some(Self { base: base.cast(), len })
    }
    /// The whole of it.
    #[must_use]
    pub const fn window(&self) -> Window<'_> {
        // SAFETY: mapped for as long as it is borrowed; nothing else knows the address.
        unsafe { Window::new(self.base, self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length; no window outlives it.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// Whether the method can tell: on x86, non-temporal stores are write-combining on ordinary memory, and with a fence after each they
/// are not. One test that must come out combined, and one that must not.
#[must_use]
pub fn controls() -> Vec<Measured> {
    let Some(memory) = Memory::new(SCRATCH) else { return Vec::new() };
    let mut it = Probe {
        window: memory.window(),
        settings: Settings { read: true, scratch: true, unaligned: true, vectors: true, time: Duration::from_secs(5) },
        features: Features::detect(),
        ends: Instant::now().checked_add(Duration::from_secs(5)),
        log: None,
        tests: Vec::new(),
        kind: Kind::Unknown,
        stopped: None,
    };
    if cfg!(target_arch = "x86_64") {
        let reference = it.curve_of(Curve::Plain).ok().and_then(|c| c.iter().map(|p| p.cost).max_by(f64::total_cmp));
        let reference = reference.unwrap_or(f64::INFINITY);
        it.curves("control-combined", "control: MOVNTI combines", Curve::Stream, reference);
        it.curves("control-separate", "control: with fences it does not", Curve::StreamFenced, reference);
    } else {
        it.skip("control", "stores known to combine", "this architecture has none on ordinary memory");
    }
    it.tests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { read: false, scratch: false, unaligned: true, vectors: true, time: Duration::from_secs(20) }
    }

    fn verdict<'a>(report: &'a Report, name: &str) -> &'a Verdict {
        &report.tests.iter().find(|t| t.name == name).unwrap().verdict
    }

    #[test]
    fn nothing_is_touched_without_leave() {
        let none = Memory::new(4096).unwrap();
        let report = run(none.window(), 0, settings()).unwrap();
        assert_eq!(report.tests.iter().map(|t| t.verdict.clone()).collect::<Vec<_>>(), [Verdict::NotTested]);
        assert_eq!(report.kind, Kind::Unknown);
        assert_eq!(report.restored, None);
    }

    #[test]
    fn without_scratch_nothing_is_stored() {
        let memory = Memory::new(4096).unwrap();
        // SAFETY: the mapping is this test's.
        let protected = unsafe { libc::mprotect(memory.base.cast(), memory.len, libc::PROT_READ) };
        assert_eq!(protected, 0);
        let report = run(memory.window(), 0, Settings { read: true, ..settings() }).unwrap();
        assert!(report.tests.iter().all(|t| !matches!(t.verdict, Verdict::Fault(_) | Verdict::Corrupt)), "{report:?}");
        assert_eq!(verdict(&report, "stores"), &Verdict::NotTested);
        // And with it, a store is a fault and not the end.
        let report = run(memory.window(), 0, Settings { scratch: true, ..settings() }).unwrap();
        assert_eq!(verdict(&report, "aligned-store"), &Verdict::Fault("SIGSEGV SEGV_ACCERR".into()));
        assert_eq!(report.restored, Some(false));
    }

    #[test]
    fn ordinary_memory_is_intact_and_put_back() {
        let memory = Memory::new(16384).unwrap();
        let registers = memory.window().registers();
        for i in 0..2048 {
            registers.write_relaxed(8 * i, pattern(i as u64)).unwrap();
        }
        let report = run(memory.window(), 100, Settings { scratch: true, ..settings() }).unwrap();
        for name in ["aligned-store", "wide-and-narrow", "unaligned-store", "holes", "restored"] {
            assert!(matches!(verdict(&report, name), Verdict::ObservedAlways(_)), "{name}: {report:#?}");
        }
        assert_eq!(verdict(&report, "combining"), &Verdict::NotTested, "{report:#?}");
        assert!((0..2048).all(|i| registers.read_relaxed(8 * i) == Ok(pattern(i as u64))));
    }

    #[test]
    fn time_is_up() {
        let memory = Memory::new(4096).unwrap();
        let report = run(memory.window(), 0, Settings { scratch: true, time: Duration::ZERO, ..settings() }).unwrap();
        assert_eq!(report.stopped.as_deref(), Some("time is up"));
        assert!(
            report.tests.iter().filter(|t| t.name != "restored").all(|t| t.verdict == Verdict::NotTested),
            "{report:#?}"
        );
    }

    #[test]
    fn too_small() {
        let memory = Memory::new(4096).unwrap();
        assert!(run(memory.window(), 4096, settings()).is_err());
        assert!(run(memory.window(), 4095, settings()).is_err());
        assert!(run(memory.window().part(0, 63).unwrap(), 0, settings()).is_err());
    }
}
