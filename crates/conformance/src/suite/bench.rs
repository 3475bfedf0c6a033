//! What the tests have in common: a device that was begun with, addresses that can be used, and what can be asked of it.

use std::fmt;

use super::{Stop, Tested, Verdict};
use crate::{
    Can, Device, Fresh, Reply,
    bytes::{
        Attach, Config, Detach, F_ALL, F_BYPASS, F_BYPASS_CONFIG, F_DOMAIN_RANGE, F_INPUT_RANGE, F_MAP_UNMAP, F_PROBE,
        MAP_READ, MAP_WRITE, Map, Probe, Request, ResvMem, S_OK, TAIL, Tail, Unmap, feature_names, properties,
        status_name,
    },
    device::CANARY,
};

/// How many units of addresses a test has. Of memory it has half as many.
pub(super) const UNITS: u64 = 32;

/// READ and WRITE.
pub(super) const RW: u32 = MAP_READ | MAP_WRITE;

/// It holds.
pub(super) const PASS: Tested = Ok(Verdict::Pass);

/// It does not.
pub(super) fn fail(saw: impl Into<String>, wanted: impl Into<String>) -> Verdict {
    Verdict::Fail { saw: saw.into(), wanted: wanted.into() }
}

/// Not shown, as an end.
pub(super) fn not_shown(why: impl Into<String>) -> Stop {
    Stop::Verdict(Verdict::NotShown { why: why.into() })
}

/// What a request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) reply: Reply,
    /// Where the tail is.
    at: usize,
}

impl Got {
    /// The status, if the used length covers the tail.
    pub(super) fn status(&self) -> Option<u8> {
        Tail::of(&self.reply, self.at).map(|tail| tail.status)
    }
    pub(super) fn tail(&self) -> Option<Tail> {
        Tail::of(&self.reply, self.at)
    }
    pub(super) fn is_ok(&self) -> bool {
        self.status() == Some(S_OK)
    }
    /// Nothing was written.
    pub(super) fn is_unwritten(&self) -> bool {
        self.reply.buffer.iter().all(|&byte| byte == CANARY)
    }
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.reply.used;
        if let Some(status) = self.status() {
            return f.write_str(&status_name(status));
        }
        match self.reply.buffer.get(self.at) {
            _ if self.is_unwritten() => write!(f, "nothing written, used length {used}"),
            Some(&status) if status != CANARY => write!(f, "{} beyond the used length {used}", status_name(status)),
            _ => write!(f, "no tail within the used length {used}"),
        }
    }
}

/// A device that was begun with.
pub struct Bench<'a> {
    pub(super) device: &'a mut dyn Device,
    /// What it offers, of what the specification has.
    pub(super) offered: u64,
    /// What of it was taken.
    pub(super) taken: u64,
    /// As it was at the start.
    pub(super) config: Config,
    pub(super) granule: u64,
    /// What tests map at a time: a granule, or 4 KiB where that is less.
    pub(super) unit: u64,
    pub(super) can: Can,
    /// The first does DMA, if any does.
    pub(super) one: u32,
    pub(super) other: u32,
    pub(super) absent: u32,
    /// The RESV_MEM of the two.
    pub(super) reserved: Vec<(u32, ResvMem)>,
    window: Option<u64>,
    pattern: u64,
}

impl fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bench").field("taken", &self.taken).field("config", &self.config).finish_non_exhaustive()
    }
}

impl<'a> Bench<'a> {
    /// Begins, with every feature of the specification but BYPASS, and with `bypass` 0: what is attached to nothing reaches nothing.
    ///
    /// # Errors
    /// The device broke, or has not what a test needs.
    pub fn start(device: &'a mut dyn Device) -> Result<Self, Stop> {
        let setup = device.setup().clone();
        let [one, other, ..] = setup.endpoints[..] else {
            return Err(not_shown("two endpoints are needed"));
        };
        let can = device.can();
        let mut bench = Self {
            device,
            offered: 0,
            taken: 0,
            config: Config::default(),
            granule: 1,
            unit: 1,
            can,
            one,
            other,
            absent: setup.absent,
            reserved: Vec::new(),
            window: None,
            pattern: 0x5eed_0000_0000_0001,
        };
        bench.start_with(F_ALL & !F_BYPASS)?;
        Ok(bench)
    }
    /// Begins anew with those of the offered features, and with `bypass` 0 if that can be written.
    pub(super) fn start_with(&mut self, accept: u64) -> Result<(), Stop> {
        self.start_as_it_is(accept)?;
        if self.taken & F_BYPASS_CONFIG != 0 {
            self.write_bypass(0);
        }
        Ok(())
    }
    /// Begins anew with those of the offered features, and `bypass` as it is.
    pub(super) fn start_as_it_is(&mut self, accept: u64) -> Result<(), Stop> {
        self.device.fresh(Fresh { accept })?;
        self.began(accept)
    }
    /// A reset of the device alone.
    pub(super) fn reset(&mut self, accept: u64) -> Result<(), Stop> {
        self.device.reset(Fresh { accept })?;
        self.began(accept)
    }
    fn began(&mut self, accept: u64) -> Result<(), Stop> {
        self.offered = self.device.offered() & F_ALL;
        self.taken = self.offered & accept;
        self.config = self.read_config();
        self.granule = 1 << self.config.page_size_mask.trailing_zeros().min(63);
        self.unit = self.granule.max(0x1000);
        // With less memory than the tests map, nothing can be seen of it.
        self.can = Can { dma: self.device.can().dma && self.memory_units() >= UNITS / 2, ..self.device.can() };
        self.reserved = Vec::new();
        if self.taken & F_PROBE != 0 {
            for endpoint in [self.one, self.other] {
                let regions = self.properties(endpoint)?;
                let regions = properties(&regions).0.into_iter().filter_map(|p| p.resv_mem());
                self.reserved.extend(regions.map(|region| (endpoint, region)));
            }
        }
        self.window = self.find_window();
        Ok(())
    }
    /// Addresses that can be mapped: within `input_range`, outside of each RESV_MEM, and, if there is room, above 4 GiB and away
    /// from guest memory, so that what goes there by mistake is not taken for anything else.
    fn find_window(&self) -> Option<u64> {
        let size = self.unit.checked_mul(UNITS)?;
        let (from, to) = self.input_range();
        let ram = &self.device.setup().ram;
        let mut taken: Vec<_> = self.reserved.iter().map(|(_, it)| (it.start, it.end)).collect();
        let search = |from: u64, taken: &[(u64, u64)]| {
            // Not at 0, where there is nothing below to look at.
            let mut at = from.max(size).checked_next_multiple_of(size)?;
            for _ in 0..=taken.len() {
                let end = at.checked_add(size - 1).filter(|&end| end <= to)?;
                match taken.iter().find(|&&(first, last)| first <= end && at <= last) {
                    None => return Some(at),
                    Some(&(_, last)) => at = last.checked_add(1)?.checked_next_multiple_of(size)?,
                }
            }
            None
        };
        taken.push((*ram.start(), *ram.end()));
        let away = search(from.max(1 << 32), &taken).or_else(|| search(from, &taken));
        taken.pop();
        away.or_else(|| search(from, &taken))
    }
    pub(super) fn has(&self, feature: u64) -> bool {
        self.taken & feature != 0
    }
    /// Goes on only if the feature was taken.
    pub(super) fn needs(&self, feature: u64) -> Result<(), Stop> {
        if self.has(feature) {
            return Ok(());
        }
        Err(not_shown(format!("{} is not offered", feature_names(feature).join(", "))))
    }
    pub(super) fn needs_dma(&self) -> Result<(), Stop> {
        if !self.can.dma {
            return Err(not_shown("no DMA of its endpoints can be seen"));
        }
        Ok(())
    }
    /// MAP and UNMAP, and DMA to see what they do.
    pub(super) fn needs_mappings(&self) -> Result<(), Stop> {
        self.needs(F_MAP_UNMAP)?;
        self.needs_dma()
    }
    /// `input_range`, or all.
    pub(super) fn input_range(&self) -> (u64, u64) {
        if self.offered & F_INPUT_RANGE != 0 { self.config.input_range } else { (0, u64::MAX) }
    }
    /// `domain_range`, or all.
    pub(super) fn domain_range(&self) -> (u32, u32) {
        if self.offered & F_DOMAIN_RANGE != 0 { self.config.domain_range } else { (0, u32::MAX) }
    }
    /// A domain of the range.
    pub(super) fn domain(&self, index: u32) -> Result<u32, Stop> {
        let (from, to) = self.domain_range();
        let domain = from.checked_add(index).filter(|&d| d <= to);
        domain.ok_or_else(|| not_shown(format!("domain_range {from} to {to} is too small")))
    }
    fn memory_units(&self) -> u64 {
        let ram = &self.device.setup().ram;
        ((ram.end() - ram.start()) / self.unit).saturating_add(1)
    }
    /// An address that can be mapped.
    pub(super) fn iova(&self, index: u64) -> Result<u64, Stop> {
        let (from, to) = self.input_range();
        let room = || not_shown(format!("no room for {UNITS} mappings of {:#x} in {from:#x} to {to:#x}", self.unit));
        self.window.map(|at| at + index * self.unit).ok_or_else(room)
    }
    /// Guest memory.
    pub(super) fn memory(&self, index: u64) -> u64 {
        self.device.setup().ram.start() + index * self.unit
    }

    pub(super) fn read_config(&mut self) -> Config {
        let mut bytes = [0; Config::SIZE];
        self.device.read_config(0, &mut bytes);
        Config::parse(&bytes)
    }
    pub(super) fn read_bypass(&mut self) -> u8 {
        let mut byte = [0];
        self.device.read_config(Config::BYPASS, &mut byte);
        byte[0]
    }
    pub(super) fn write_bypass(&mut self, value: u8) {
        self.device.write_config(Config::BYPASS, &[value]);
    }

    /// A request, whose tail is after so many device-writable bytes.
    pub(super) fn raw(&mut self, readable: &[u8], writable: usize, tail: usize) -> Result<Got, Stop> {
        let reply = self.device.handle(readable, writable)?;
        Ok(Got { reply, at: tail })
    }
    pub(super) fn ask(&mut self, request: &Request) -> Result<Got, Stop> {
        let writable = request.writable(self.config.probe_size.min(1 << 20));
        self.raw(&request.readable(), writable, writable - TAIL)
    }
    pub(super) fn attach(&mut self, domain: u32, endpoint: u32) -> Result<Got, Stop> {
        self.ask(&Request::Attach(Attach::new(domain, endpoint)))
    }
    pub(super) fn attach_flags(&mut self, domain: u32, endpoint: u32, flags: u32) -> Result<Got, Stop> {
        self.ask(&Request::Attach(Attach { flags, ..Attach::new(domain, endpoint) }))
    }
    pub(super) fn detach(&mut self, domain: u32, endpoint: u32) -> Result<Got, Stop> {
        self.ask(&Request::Detach(Detach::new(domain, endpoint)))
    }
    pub(super) fn map(&mut self, domain: u32, from: u64, to: u64, phys: u64, flags: u32) -> Result<Got, Stop> {
        self.ask(&Request::Map(Map::new(domain, from, to, phys, flags)))
    }
    pub(super) fn unmap(&mut self, domain: u32, from: u64, to: u64) -> Result<Got, Stop> {
        self.ask(&Request::Unmap(Unmap::new(domain, from, to)))
    }
    /// Maps units, READ and WRITE, each to the memory of that number; the test is about something that comes after.
    pub(super) fn have_mapped(&mut self, domain: u32, first: u64, units: u64, memory: u64) -> Result<(), Stop> {
        self.have_mapped_for(domain, first, units, memory, RW)
    }
    pub(super) fn have_mapped_for(
        &mut self,
        domain: u32,
        first: u64,
        units: u64,
        memory: u64,
        flags: u32,
    ) -> Result<(), Stop> {
        let from = self.iova(first)?;
        let got = self.map(domain, from, from + (units * self.unit - 1), self.memory(memory), flags)?;
        begins(&got, "MAP")
    }
    /// Attaches; the test is about something that comes after.
    pub(super) fn have_attached(&mut self, domain: u32, endpoint: u32) -> Result<(), Stop> {
        begins(&self.attach(domain, endpoint)?, "ATTACH")
    }
    /// Attaches and maps one unit.
    pub(super) fn have_one_mapping(&mut self) -> Result<u32, Stop> {
        let domain = self.domain(0)?;
        self.have_attached(domain, self.one)?;
        self.have_mapped(domain, 0, 1, 0)?;
        Ok(domain)
    }
    /// The bytes of `properties`.
    pub(super) fn properties(&mut self, endpoint: u32) -> Result<Vec<u8>, Stop> {
        let got = self.ask(&Request::Probe(Probe::new(endpoint)))?;
        let size = got.reply.buffer.len() - TAIL;
        Ok(if got.is_ok() { got.reply.buffer[..size].to_vec() } else { Vec::new() })
    }

    fn next_pattern(&mut self, bytes: usize) -> Vec<u8> {
        // Distinct from what was there in every byte, so that one byte is enough to tell.
        self.pattern = self.pattern.rotate_left(8).wrapping_add(0x1b);
        self.pattern.to_le_bytes()[..bytes].to_vec()
    }
    /// Whether what the endpoint writes there gets to that place of memory.
    pub(super) fn writes(&mut self, endpoint: u32, iova: u64, memory: u64) -> Result<bool, Stop> {
        self.writes_bytes(endpoint, iova, memory, 8)
    }
    pub(super) fn writes_bytes(&mut self, endpoint: u32, iova: u64, memory: u64, bytes: usize) -> Result<bool, Stop> {
        let pattern = self.next_pattern(bytes);
        let before: Vec<u8> = pattern.iter().map(|byte| !byte).collect();
        self.device.ram_write(memory, &before)?;
        self.device.dma_write(endpoint, iova, &pattern)?;
        Ok(self.device.ram_read(memory, bytes)? == pattern)
    }
    /// Whether the endpoint reads there what is at that place of memory.
    pub(super) fn reads(&mut self, endpoint: u32, iova: u64, memory: u64) -> Result<bool, Stop> {
        let pattern = self.next_pattern(8);
        self.device.ram_write(memory, &pattern)?;
        Ok(self.device.dma_read(endpoint, iova, pattern.len())? == pattern)
    }
    /// Both.
    pub(super) fn reaches(&mut self, endpoint: u32, iova: u64, memory: u64) -> Result<Reach, Stop> {
        Ok(Reach { reads: self.reads(endpoint, iova, memory)?, writes: self.writes(endpoint, iova, memory)? })
    }
    /// Where that unit is mapped to that memory.
    pub(super) fn unit_reaches(&mut self, endpoint: u32, unit: u64, memory: u64) -> Result<Reach, Stop> {
        let (iova, memory) = (self.iova(unit)?, self.memory(memory));
        self.reaches(endpoint, iova, memory)
    }
    /// Whether the domain is there; nothing if MAP takes domains that are not.
    pub(super) fn is_domain(&mut self, domain: u32, never: u32) -> Result<Option<bool>, Stop> {
        if !self.has(F_MAP_UNMAP) {
            return Ok(None);
        }
        let at = self.iova(UNITS - 1)?;
        let (end, memory) = (at + (self.unit - 1), self.memory(0));
        if self.map(never, at, end, memory, RW)?.is_ok() {
            return Ok(None);
        }
        let there = self.map(domain, at, end, memory, RW)?.is_ok();
        if there {
            self.unmap(domain, at, end)?;
        }
        Ok(Some(there))
    }
}

/// What an endpoint can do at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    reads: bool,
    writes: bool,
}

impl Reach {
    pub(super) const ALL: Self = Self { reads: true, writes: true };
    pub(super) const NOTHING: Self = Self { reads: false, writes: false };

    /// Holds if it is everything.
    pub(super) fn all(self, whose: &str) -> Result<(), Stop> {
        self.is(Self::ALL, whose)
    }
    /// Holds if it is nothing.
    pub(super) fn nothing(self, whose: &str) -> Result<(), Stop> {
        self.is(Self::NOTHING, whose)
    }
    fn is(self, wanted: Self, whose: &str) -> Result<(), Stop> {
        if self == wanted { Ok(()) } else { Err(Stop::Verdict(fail(format!("{whose}: {self}"), wanted.to_string()))) }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.reads, self.writes) {
            (true, true) => "reads and writes get through",
            (true, false) => "reads get through, writes do not",
            (false, true) => "writes get through, reads do not",
            (false, false) => "nothing gets through",
        })
    }
}

/// A request that a test begins with, and is not about.
pub(super) fn begins(got: &Got, what: &str) -> Result<(), Stop> {
    if got.is_ok() { Ok(()) } else { Err(not_shown(format!("the {what} that it begins with: {got}"))) }
}

/// Holds if the status is that.
pub(super) fn answered(got: &Got, status: u8, what: &str) -> Result<(), Stop> {
    if got.status() == Some(status) {
        return Ok(());
    }
    Err(Stop::Verdict(fail(format!("{what}: {got}"), status_name(status))))
}
