//! What measurements say: statistics, and what may be inferred from timing. Pure.

use std::fmt;

use serde::{Serialize, Serializer};

/// What came of a test. A measurement is an observation on one machine, never a guarantee.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The architecture promises it: no measurement is needed.
    GuaranteedBySpec,
    /// Each time, of so many.
    ObservedAlways(u64),
    /// Sometimes.
    ObservedSometimes {
        /// How often.
        hits: u64,
        /// Of how many.
        of: u64,
    },
    /// Never.
    NeverObserved,
    /// It faulted.
    Fault(String),
    /// What was read back is not what was written.
    Corrupt,
    /// Nothing can be said.
    NotTested,
}

impl Verdict {
    /// So many of so many.
    #[must_use]
    pub const fn of(hits: u64, of: u64) -> Self {
        match hits {
            _ if of == 0 => Self::NotTested,
            0 => Self::NeverObserved,
            _ if hits >= of => Self::ObservedAlways(of),
            _ => Self::ObservedSometimes { hits, of },
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GuaranteedBySpec => f.write_str("guaranteed-by-spec"),
            Self::ObservedAlways(n) => write!(f, "observed-always({n})"),
            Self::ObservedSometimes { hits, of } => write!(f, "observed-sometimes({hits}/{of})"),
            Self::NeverObserved => f.write_str("never-observed"),
            Self::Fault(kind) => write!(f, "fault({kind})"),
            Self::Corrupt => f.write_str("corrupt"),
            Self::NotTested => f.write_str("not-tested"),
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A share that was seen, with the interval in which the true one lies with a probability of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// How often.
    pub hits: u64,
    /// Of how many.
    pub of: u64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Rate {
    /// Of a count: the score interval of Wilson (1927), which is sound at 0 and at 1 too. Nothing where nothing was tried, or more hit
    /// than were tried.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of tries")]
    pub fn new(hits: u64, of: u64) -> Option<Self> {
        const Z: f64 = 1.959_963_984_540_054;
        if of == 0 || hits > of {
            return None;
        }
        let (n, p) = (of as f64, hits as f64 / of as f64);
        let middle = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        let low = if hits == 0 { 0.0 } else { (middle - half) / scale };
        let high = if hits == of { 1.0 } else { (middle + half) / scale };
        Some(Self { hits, of, low, high })
    }
}

/// `30 of 32 (80 to 98 %)`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({:.0} to {:.0} %)", self.hits, self.of, 100.0 * self.low, 100.0 * self.high)
    }
}

/// Of samples in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub n: usize,
    /// The least.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// 90 % are not above it.
    pub p90: f64,
    /// 99 % are not above it.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Sorts them. Nothing where there is none, or one is not a number.
    #[must_use]
    pub fn of(samples: &mut [f64]) -> Option<Self> {
        if samples.iter().any(|s| !s.is_finite()) {
            return None;
        }
        samples.sort_by(f64::total_cmp);
        let (min, max) = (*samples.first()?, *samples.last()?);
        // Nearest rank: the least that as many percent of the samples do not exceed.
        let at = |percent: usize| samples[(samples.len() * percent).div_ceil(100).max(1) - 1];
        Some(Self { n: samples.len(), min, p50: at(50), p90: at(90), p99: at(99), max })
    }
}

/// `62 ns`, `1.4 µs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nanoseconds(pub f64);

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            t if t < 10.0 => format!("{t:.1} ns"),
            t if t < 1e3 => format!("{t:.0} ns"),
            t if t < 1e4 => format!("{:.1} µs", t / 1e3),
            t if t < 1e6 => format!("{:.0} µs", t / 1e3),
            t => format!("{:.1} ms", t / 1e6),
        };
        f.pad(&text)
    }
}

/// What a number of stores of 8 bytes to ascending addresses, then a drain, costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// How many stores, from the beginning of a line.
    pub stores: usize,
    /// Nanoseconds.
    pub cost: f64,
}

/// A cost curve taken apart: a constant, so much for each line of 64 bytes that is begun, so much for each store.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fit {
    /// The drain and what else does not grow.
    pub constant: f64,
    /// For each line begun.
    pub line: f64,
    /// For each store.
    pub store: f64,
}

impl Fit {
    /// Least squares. Nothing where the points do not decide it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "some tens of stores")]
    pub fn of(points: &[Point]) -> Option<Self> {
        let mut m = [[0.0f64; 4]; 3];
        for p in points {
            let row = [1.0, p.stores.div_ceil(8) as f64, p.stores as f64];
            for i in 0..3 {
                for j in 0..3 {
                    m[i][j] += row[i] * row[j];
                }
                m[i][3] += row[i] * p.cost;
            }
        }
        // Gauss and Jordan, with the largest as the pivot.
        for i in 0..3 {
            let pivot = (i..3).max_by(|a, b| m[*a][i].abs().total_cmp(&m[*b][i].abs()))?;
            m.swap(i, pivot);
            if m[i][i].abs() < 1e-9 || !m[i][i].is_finite() {
                return None;
            }
            let by = m[i][i];
            m[i].iter_mut().for_each(|v| *v /= by);
            let row = m[i];
            for (_, other) in m.iter_mut().enumerate().filter(|(j, _)| *j != i) {
                let by = other[i];
                other.iter_mut().zip(row).for_each(|(v, r)| *v -= by * r);
            }
        }
        let it = Self { constant: m[0][3], line: m[1][3], store: m[2][3] };
        [it.constant, it.line, it.store].iter().all(|v| v.is_finite()).then_some(it)
    }

    /// How much of what a line costs is paid by the store: 1 if each store is a transaction, 0 if a line is. Nothing where neither
    /// costs anything.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        let (line, stores) = (self.line.max(0.0), 8.0 * self.store.max(0.0));
        (line + stores > 0.0).then(|| stores / (line + stores))
    }
}

/// What a cost curve says of combining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combining {
    /// It is flat within a line and steps from line to line.
    Combined,
    /// It grows with each store.
    Separate,
    /// Neither clearly.
    Unclear,
    /// It costs about what ordinary memory does: nothing shows that the stores leave the CPU.
    NoBus,
}

/// Below this share the line is what costs; above one minus it the store is.
const CLEAR: f64 = 0.35;
/// Stores that leave the CPU cost at least so many times what stores to ordinary memory do.
const BUS: f64 = 3.0;

/// What a curve says, beside what the same stores cost on ordinary memory (its most expensive point).
#[must_use]
pub fn combining(points: &[Point], memory: f64) -> Combining {
    let most = points.iter().map(|p| p.cost).fold(0.0, f64::max);
    if most < BUS * memory {
        return Combining::NoBus;
    }
    match Fit::of(points).and_then(Fit::share) {
        Some(share) if share < CLEAR => Combining::Combined,
        Some(share) if share > 1.0 - CLEAR => Combining::Separate,
        _ => Combining::Unclear,
    }
}

/// Above this a store is not a store any more: real uncached stores take 50 to 300 ns when the posted queue is full.
pub const TRAPPED: f64 = 1000.0;

/// Whether a line of the kernel's log says that an access went wrong: an uncorrectable PCIe error (drivers/pci/pcie/aer.c), downstream
/// port containment (dpc.c), an SError or a synchronous external abort (arch/arm64), a record of the firmware's (cper.c), a machine
/// check.
#[must_use]
pub fn is_alarm(line: &str) -> bool {
    let has = |what: &str| line.contains(what);
    (has("AER:") || has("PCIe Bus Error")) && has("ncorrect")
        || has("DPC: containment event")
        || has("SError Interrupt")
        || has("synchronous external abort")
        || has("[Hardware Error]") && !has("event severity: corrected")
        || has("Machine check events logged")
}

/// Bits of a line: which bytes are written, by patterns that a broken byte-enable path does not survive.
#[must_use]
pub fn holes() -> Vec<(&'static str, u64)> {
    vec![
        ("every second byte", 0x5555_5555_5555_5555),
        ("the other bytes", 0xaaaa_aaaa_aaaa_aaaa),
        ("halves of words", 0x0f0f_0f0f_0f0f_0f0f),
        ("every second word", 0x00ff_00ff_00ff_00ff),
        ("runs of three", 0x7777_7777_7777_7777),
        ("first and last", 0x8000_0000_0000_0001),
        ("one in the middle", 0x0000_0001_0000_0000),
        ("all but one", 0xffff_ffdf_ffff_ffff),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn curve(constant: f64, line: f64, store: f64) -> Vec<Point> {
        let cost = |n: usize| constant + line * n.div_ceil(8) as f64 + store * n as f64;
        (1..=32).map(|stores| Point { stores, cost: cost(stores) }).collect()
    }

    #[test]
    fn summary() {
        let mut samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let it = Summary::of(&mut samples).unwrap();
        assert_eq!((it.n, it.min, it.p50, it.p90, it.p99, it.max), (200, 1.0, 100.0, 180.0, 198.0, 200.0));
        assert_eq!(Summary::of(&mut [3.0]).map(|s| (s.p50, s.p99)), Some((3.0, 3.0)));
        assert_eq!(Summary::of(&mut []), None);
        assert_eq!(Summary::of(&mut [1.0, f64::NAN]), None);
    }

    /// Against the published values of the interval: 0 of 10 ends at 27.8 %, 8 of 10 is 49.0 to 94.3 %.
    #[test]
    fn rate() {
        let close = |a: f64, b: f64| (a - b).abs() < 5e-4;
        let none = Rate::new(0, 10).unwrap();
        assert!(none.low == 0.0 && close(none.high, 0.2775), "{none:?}");
        let most = Rate::new(8, 10).unwrap();
        assert!(close(most.low, 0.4902) && close(most.high, 0.9433), "{most:?}");
        assert_eq!(most.to_string(), "8 of 10 (49 to 94 %)");
        assert_eq!(Rate::new(0, 0), None);
        assert_eq!(Rate::new(2, 1), None);
    }

    #[test]
    fn verdicts() {
        let words = [(0, 0), (0, 5), (5, 5), (2, 5)].map(|(hits, of)| Verdict::of(hits, of).to_string());
        assert_eq!(words, ["not-tested", "never-observed", "observed-always(5)", "observed-sometimes(2/5)"]);
    }

    /// The figures of NVIDIA Olympus (a line costs the same whether 8 or 64 bytes of it are written), and of a CPU that posts each
    /// store of 8 bytes.
    #[test]
    fn combining_from_timing() {
        assert_eq!(combining(&curve(0.0, 68.0, 0.15), 4.0), Combining::Combined);
        assert_eq!(combining(&curve(40.0, 0.0, 60.0), 4.0), Combining::Separate);
        assert_eq!(combining(&curve(40.0, 40.0, 5.0), 4.0), Combining::Unclear);
        assert_eq!(combining(&curve(2.0, 0.1, 0.3), 10.0), Combining::NoBus);
        assert_eq!(combining(&curve(500.0, 0.0, 0.0), 4.0), Combining::Unclear);
        assert_eq!(combining(&[], 4.0), Combining::NoBus);
        assert_eq!(combining(&[Point { stores: 1, cost: 100.0 }], 4.0), Combining::Unclear);
    }

    #[test]
    fn alarms() {
        for line in [
            "3,1034,81234567,-;pcieport 0000:00:01.0: AER: Uncorrectable (Non-Fatal) error message received from 0000:01:00.0",
            "nvme 0000:01:00.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Transaction Layer, (Requester ID)",
            "SError Interrupt on CPU3, code 0x00000000be000011 -- SError",
            "{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 4",
            "pcieport 0000:00:1c.0: DPC: containment event, status:0x1f01 source:0x0000",
        ] {
            assert!(is_alarm(line), "{line}");
        }
        for line in [
            "pcieport 0000:00:01.0: AER: enabled with IRQ 27",
            "pcieport 0000:00:01.0: AER: Correctable error message received from 0000:01:00.0",
            "{1}[Hardware Error]: event severity: corrected",
            "vfio-pci 0000:01:00.0: enabling device (0000 -> 0002)",
        ] {
            assert!(!is_alarm(line), "{line}");
        }
    }

    #[test]
    fn times() {
        let shown = [0.3, 9.96, 62.4, 1400.0, 81_000.0, 3e6].map(|t| Nanoseconds(t).to_string());
        assert_eq!(shown, ["0.3 ns", "10.0 ns", "62 ns", "1.4 µs", "81 µs", "3.0 ms"]);
    }

    proptest! {
        /// The fit finds what a curve was made of.
        #[test]
        fn fit(constant in 0.0f64..500.0, line in 0.0f64..200.0, store in 0.0f64..100.0) {
            let it = Fit::of(&curve(constant, line, store)).unwrap();
            prop_assert!((it.constant - constant).abs() < 1e-6 && (it.line - line).abs() < 1e-6 && (it.store - store).abs() < 1e-6);
        }

        /// No points, however wild, make it panic, and a share is one.
        #[test]
        fn any_points(points in proptest::collection::vec((0usize..1000, any::<f64>()), 0..40), memory in any::<f64>()) {
            let points: Vec<_> = points.into_iter().map(|(stores, cost)| Point { stores, cost }).collect();
            let _ = combining(&points, memory);
            if let Some(share) = Fit::of(&points).and_then(Fit::share) {
                prop_assert!((0.0..=1.0).contains(&share) || share.is_nan());
            }
        }

        #[test]
        fn rates(hits in 0u64..1000, more in 0u64..1000) {
            if let Some(it) = Rate::new(hits, hits + more) {
                let p = hits as f64 / (hits + more) as f64;
                prop_assert!(0.0 <= it.low && it.low <= p && p <= it.high && it.high <= 1.0);
            }
        }
    }
}
