//! What came out of a run, and what was expected of it.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

/// What a machine saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// How the run ended.
    pub outcome: Outcome,
    /// The registers the program names as a destination, as they were at the end: `x0` and so on.
    pub registers: BTreeMap<u8, u64>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// The program reached its end.
    Completed,
    /// The program reached its end without one access to memory, by the guest, user space or a device.
    Untouched,
    /// A bound on steps or time ended it.
    Endless,
    /// An exception taken to the guest's EL1 (`ESR_EL1`, `FAR_EL1`).
    GuestAbort {
        /// `ESR_EL1`.
        esr: u64,
        /// `FAR_EL1`.
        far: u64,
    },
    /// A stage-2 abort that the hypervisor has no answer to: KVM_RUN failed.
    RunFailed {
        /// The errno of KVM_RUN; 14 is EFAULT.
        errno: i32,
        /// `ESR_EL2`, from the kernel's log line or the model.
        esr: Option<u64>,
        /// `FAR_EL2`; a machine that has no way to see it leaves it out.
        far: Option<u64>,
        /// `HPFAR_EL2.FIPA` as an address; left out where the architecture leaves it UNKNOWN or the machine does not show it.
        ipa: Option<u64>,
        /// The kernel's log line, from `Unsupported FSC` on.
        log: Option<String>,
    },
    /// The access left to user space: KVM_EXIT_MMIO.
    Mmio {
        /// A store.
        write: bool,
        /// Guest-physical address.
        ipa: u64,
        /// Bytes.
        len: u32,
        /// What was stored, little-endian; 0 for a load.
        data: u64,
    },
    /// The access left to user space undecoded: KVM_EXIT_ARM_NISV (`ESR_EL2.ISS.ISV` is 0).
    NoValidSyndrome {
        /// `ESR_EL2.ISS` as KVM gives it.
        iss: u64,
        /// Guest-physical address.
        ipa: u64,
    },
    /// The guest was told of an access that failed on the bus: by an External abort or an SError, which of them is
    /// IMPLEMENTATION DEFINED.
    ContainedError {
        /// The address of the access; left out where the machine does not show it.
        far: Option<u64>,
    },
    /// An error that nobody can put down to the guest: the host is lost.
    UncontainedError,
    /// `KVM_SET_USER_MEMORY_REGION`, or the mmap before it, failed. No guest ran.
    SlotRefused {
        /// The errno; 22 is EINVAL.
        errno: i32,
        /// Why, in words.
        why: String,
    },
    /// A page fault of the guest's own table (x86).
    PageFault {
        /// `CR2`.
        far: u64,
        /// A store (bit 1 of the error code).
        write: bool,
    },
    /// Anything else that ends a vCPU's run.
    Other {
        /// In words, with the values.
        what: String,
    },
}

/// What kind of fault an ESR reports, as far as expectations name it (`DFSC`/`IFSC`, DDI 0487 D24.2.40).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// 0b0000LL.
    AddressSize,
    /// 0b0001LL.
    Translation,
    /// 0b0010LL.
    AccessFlag,
    /// 0b0011LL.
    Permission,
    /// 0b010000.
    ExternalAbort,
    /// 0b100001.
    Alignment,
    /// 0b110101: unsupported Exclusive or Atomic access.
    UnsupportedAtomic,
    /// Exception class 0x22: a branch to an address that is no multiple of 4. No stage of translation has a part in it.
    PcAlignment,
    /// Any other code, or an exception that is no abort.
    Unknown,
}

impl FaultKind {
    /// By the exception class and fault status code of an ESR.
    #[must_use]
    pub const fn of_esr(esr: u64) -> Self {
        match (esr >> 26) & 0x3f {
            0x20 | 0x21 | 0x24 | 0x25 => {}
            0x22 => return Self::PcAlignment,
            _ => return Self::Unknown,
        }
        match esr & 0x3f {
            0x00..=0x03 => Self::AddressSize,
            0x04..=0x07 => Self::Translation,
            0x08..=0x0b => Self::AccessFlag,
            0x0c..=0x0f => Self::Permission,
            0x10 => Self::ExternalAbort,
            0x21 => Self::Alignment,
            0x35 => Self::UnsupportedAtomic,
            _ => Self::Unknown,
        }
    }

    /// As an expectation writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddressSize => "address size fault",
            Self::Translation => "translation fault",
            Self::AccessFlag => "access flag fault",
            Self::Permission => "permission fault",
            Self::ExternalAbort => "external abort",
            Self::Alignment => "alignment fault",
            Self::UnsupportedAtomic => "unsupported atomic fault",
            Self::PcAlignment => "pc alignment fault",
            Self::Unknown => "unknown fault",
        }
    }

    /// Every kind an expectation may name by its stage.
    pub const NAMED: [Self; 7] = [
        Self::AddressSize,
        Self::Translation,
        Self::AccessFlag,
        Self::Permission,
        Self::ExternalAbort,
        Self::Alignment,
        Self::UnsupportedAtomic,
    ];
}

impl Outcome {
    /// The stage a fault is of: 1 when it was taken to EL1, 2 when to EL2. `None` where the outcome is no fault.
    #[must_use]
    pub const fn stage(&self) -> Option<u8> {
        match self {
            Self::GuestAbort { esr, .. } => match FaultKind::of_esr(*esr) {
                FaultKind::PcAlignment => None,
                _ => Some(1),
            },
            Self::RunFailed { .. } => Some(2),
            _ => None,
        }
    }

    /// The syndrome of a fault.
    #[must_use]
    pub const fn esr(&self) -> Option<u64> {
        match self {
            Self::GuestAbort { esr, .. } => Some(*esr),
            Self::RunFailed { esr, .. } => *esr,
            _ => None,
        }
    }

    /// The faulting address of a fault, or of an access that failed on the bus.
    #[must_use]
    pub const fn far(&self) -> Option<u64> {
        match self {
            Self::GuestAbort { far, .. } | Self::PageFault { far, .. } => Some(*far),
            Self::RunFailed { far, .. } | Self::ContainedError { far } => *far,
            _ => None,
        }
    }

    /// The outcome as an expectation writes it, `stage-2 alignment fault`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Completed => "completed".into(),
            Self::Untouched => "untouched".into(),
            Self::Endless => "endless".into(),
            Self::GuestAbort { esr, .. } => match FaultKind::of_esr(*esr) {
                kind @ FaultKind::PcAlignment => kind.name().into(),
                kind => format!("stage-1 {}", kind.name()),
            },
            Self::RunFailed { esr, .. } => {
                format!("stage-2 {}", esr.map_or(FaultKind::Unknown, FaultKind::of_esr).name())
            }
            Self::Mmio { write: true, .. } => "mmio write".into(),
            Self::Mmio { write: false, .. } => "mmio read".into(),
            Self::NoValidSyndrome { .. } => "no valid syndrome".into(),
            Self::ContainedError { .. } => "contained error".into(),
            Self::UncontainedError => "uncontained error".into(),
            Self::SlotRefused { .. } => "slot refused".into(),
            Self::PageFault { .. } => "page fault".into(),
            Self::Other { .. } => "other".into(),
        }
    }
}

/// Every name [`Outcome::name`] can give and an expectation may use.
#[must_use]
pub fn outcome_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "completed",
        "untouched",
        "endless",
        "mmio read",
        "mmio write",
        "no valid syndrome",
        "contained error",
        "uncontained error",
        "slot refused",
        "page fault",
        "pc alignment fault",
    ]
    .map(Into::into)
    .into();
    for stage in 1..=2 {
        names.extend(FaultKind::NAMED.iter().map(|k| format!("stage-{stage} {}", k.name())));
    }
    names
}

/// One allowed outcome: a name, and what else must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pattern {
    /// An [`Outcome::name`].
    pub outcome: String,
    /// The syndrome, where the file gives it.
    pub esr: Option<u64>,
    /// The faulting address, where the file gives it.
    pub far: Option<u64>,
    /// Register values.
    pub registers: BTreeMap<u8, u64>,
}

impl Pattern {
    /// Whether `seen` is this outcome. Where a machine could not see `FAR` or the ESR, that is no match against a pattern
    /// which asks for it.
    #[must_use]
    pub fn matches(&self, seen: &Observation) -> bool {
        self.outcome == seen.outcome.name()
            && self.esr.is_none_or(|esr| seen.outcome.esr() == Some(esr))
            && self.far.is_none_or(|far| seen.outcome.far() == Some(far))
            && self.registers.iter().all(|(r, v)| seen.registers.get(r) == Some(v))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.outcome)?;
        for (name, value) in [("esr", self.esr), ("far", self.far)] {
            if let Some(value) = value {
                write!(f, " {name}={value:#x}")?;
            }
        }
        self.registers.iter().try_for_each(|(r, v)| write!(f, " x{r}={v:#x}"))
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.outcome.name())?;
        match &self.outcome {
            Outcome::Mmio { ipa, len, data, write } => {
                write!(f, " ipa={ipa:#x} len={len}")?;
                if *write {
                    write!(f, " data={data:#x}")?;
                }
            }
            Outcome::NoValidSyndrome { iss, ipa } => write!(f, " ipa={ipa:#x} iss={iss:#x}")?,
            Outcome::SlotRefused { errno, why } => write!(f, " errno={errno}: {why}")?,
            Outcome::PageFault { write, .. } => f.write_str(if *write { " write" } else { " read" })?,
            Outcome::Other { what } => write!(f, ": {what}")?,
            _ => {}
        }
        for (name, value) in [("esr", self.outcome.esr()), ("far", self.outcome.far())] {
            if let Some(value) = value {
                write!(f, " {name}={value:#x}")?;
            }
        }
        self.registers.iter().try_for_each(|(r, v)| write!(f, " x{r}={v:#x}"))
    }
}

impl Observation {
    /// Whether a real machine's observation is the one predicted. What the machine could not see (`FAR` of a stage-2 abort
    /// without tracing, an IPA the architecture leaves UNKNOWN, which the prediction leaves out) is not compared, nor is prose;
    /// all else is.
    #[must_use]
    pub fn agrees_with(&self, predicted: &Self) -> bool {
        fn same<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        let outcome = match (&self.outcome, &predicted.outcome) {
            (
                Outcome::RunFailed { errno, esr, far, ipa, log },
                Outcome::RunFailed { errno: e2, esr: esr2, far: far2, ipa: ipa2, log: log2 },
            ) => {
                // The syndrome must have been seen: without it the fault is anybody's.
                errno == e2
                    && esr.is_some()
                    && esr == esr2
                    && same(far.as_ref(), far2.as_ref())
                    && same(ipa.as_ref(), ipa2.as_ref())
                    && same(log.as_ref(), log2.as_ref())
            }
            (Outcome::ContainedError { far }, Outcome::ContainedError { far: far2 }) => {
                same(far.as_ref(), far2.as_ref())
            }
            (Outcome::SlotRefused { errno, .. }, Outcome::SlotRefused { errno: e2, .. }) => errno == e2,
            (a, b) => a == b,
        };
        outcome && self.registers == predicted.registers
    }
}

/// Why a set of outcomes is not the one expected: every outcome must be expected, and every expectation come out. `None`:
/// the expectation is met.
#[must_use]
pub fn unmet(expected: &[Pattern], allowed: &[Observation]) -> Option<String> {
    if let Some(o) = allowed.iter().find(|o| !expected.iter().any(|p| p.matches(o))) {
        return Some(format!("came out, not expected: {o}"));
    }
    expected.iter().find(|p| !allowed.iter().any(|o| p.matches(o))).map(|p| format!("expected, did not come out: {p}"))
}
