//! Whether what was found is what was predicted. Pure.

use bar::text::Cachemode;
use memtype::MemoryType;
use memtype::x86;
use serde::Serialize;

/// What the unaligned access says, without the machinery that finds it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// A Device type.
    Device,
    /// A Normal type, cacheable or not.
    Normal,
    /// Nothing.
    Nothing,
}

/// Whether it is as predicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Agreement {
    /// Yes: what was predicted of it, and what was seen.
    Agrees {
        /// What follows from the prediction.
        predicted: String,
        /// What was seen.
        seen: String,
    },
    /// No.
    Differs {
        /// What follows from the prediction.
        predicted: String,
        /// What was seen.
        seen: String,
    },
    /// No, and it is known why: by the name of a finding (`bartender findings`).
    Known {
        /// The finding.
        finding: &'static str,
        /// What follows from the prediction.
        predicted: String,
        /// What was seen.
        seen: String,
    },
    /// Nothing was seen that could say.
    Open(String),
}

impl Agreement {
    pub(super) const fn is_no(&self) -> bool {
        matches!(self, Self::Differs { .. })
    }

    /// The same, if what differs is that Device memory took an unaligned access, and this is a QEMU with a single possible CPU:
    /// there TCG checks no alignment.
    pub(super) fn unless_serial(self, hypervisor: Option<&str>, possible: &str) -> Self {
        match self {
            Self::Differs { predicted, seen }
                if seen == WORKED && hypervisor.is_some_and(|h| h.contains("QEMU")) && possible.trim() == "0" =>
            {
                Self::Known { finding: "qemu-serial", predicted, seen }
            }
            other => other,
        }
    }

    fn of(same: bool, predicted: String, seen: String) -> Self {
        if same { Self::Agrees { predicted, seen } } else { Self::Differs { predicted, seen } }
    }
}

/// What the kernel reserved an address as, as a memory type with its name. UC- is UC here, since no MTRR is known to make it WC.
pub(super) const fn mode(mode: Cachemode) -> (x86::Type, &'static str) {
    match mode {
        Cachemode::Uncached => (x86::Type::Uc, "uncached"),
        Cachemode::UncachedMinus => (x86::Type::Uc, "uncached-minus"),
        Cachemode::WriteBack => (x86::Type::Wb, "write-back"),
        Cachemode::WriteCombining => (x86::Type::Wc, "write-combining"),
        Cachemode::WriteThrough => (x86::Type::Wt, "write-through"),
        Cachemode::WriteProtected => (x86::Type::Wp, "write-protected"),
    }
}

/// For people: without the architecture, as it writes it.
pub(super) fn typed(ty: MemoryType) -> String {
    match ty {
        MemoryType::Arm64(ty) => ty.to_string(),
        MemoryType::X86(ty) => ty.to_string(),
        other => other.name().to_owned(),
    }
}

/// What is seen of an unaligned access that did not fault.
const WORKED: &str = "it worked";

/// Compares. On arm64 the unaligned access decides between Device and Normal; on x86 the kernel's list names the type.
pub(super) fn agreement(
    predicted: Option<MemoryType>,
    seen: Seen,
    fault: Option<&str>,
    listed: Option<Cachemode>,
) -> Agreement {
    let Some(predicted) = predicted else { return Agreement::Open(String::from("nothing is predicted")) };
    match (predicted, seen, listed) {
        (MemoryType::Arm64(ty), Seen::Device | Seen::Normal, _) => {
            let follows = if ty.is_device() { "an unaligned load faults" } else { "an unaligned load works" };
            let found = if seen == Seen::Device { fault.unwrap_or("it faulted") } else { WORKED };
            Agreement::of(ty.is_device() == (seen == Seen::Device), format!("{ty}: {follows}"), found.to_owned())
        }
        (MemoryType::X86(ty), _, Some(listed)) => {
            let (is, name) = mode(listed);
            Agreement::of(ty == is, format!("{ty}"), format!("the kernel's PAT memtype list has it as {name}"))
        }
        (MemoryType::X86(_), _, None) => Agreement::Open(String::from(
            "an unaligned access works on every x86 type, and the kernel's list of types \
             (/sys/kernel/debug/x86/pat_memtype_list, root) says nothing of these addresses",
        )),
        _ => Agreement::Open(String::from("no unaligned access was made")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memtype::arm;

    #[test]
    fn every_case() {
        let device = MemoryType::Arm64(arm::Type::Device(arm::Device::nGnRnE));
        let nc = MemoryType::Arm64(arm::Type::NORMAL_NC);
        let no = |p, s, l| agreement(p, s, None, l).is_no();
        let open = |p, s, l| matches!(agreement(p, s, None, l), Agreement::Open(_));
        assert!(!no(Some(device), Seen::Device, None) && no(Some(device), Seen::Normal, None));
        assert!(!no(Some(nc), Seen::Normal, None) && no(Some(nc), Seen::Device, None));
        assert!(open(Some(nc), Seen::Nothing, None) && open(None, Seen::Device, None));
        let (uc, wc) = (MemoryType::X86(x86::Type::Uc), MemoryType::X86(x86::Type::Wc));
        assert!(!no(Some(uc), Seen::Nothing, Some(Cachemode::UncachedMinus)));
        assert!(no(Some(uc), Seen::Nothing, Some(Cachemode::WriteCombining)));
        assert!(no(Some(wc), Seen::Nothing, Some(Cachemode::UncachedMinus)));
        assert!(!no(Some(wc), Seen::Nothing, Some(Cachemode::WriteCombining)));
        assert!(open(Some(wc), Seen::Nothing, None));
        let serial = |p, s, cpus| agreement(Some(p), s, None, None).unless_serial(Some("QEMU or like"), cpus);
        assert!(matches!(serial(device, Seen::Normal, "0\n"), Agreement::Known { finding: "qemu-serial", .. }));
        assert!(serial(device, Seen::Normal, "0-1\n").is_no() && serial(nc, Seen::Device, "0\n").is_no());
        assert!(agreement(Some(device), Seen::Normal, None, None).unless_serial(None, "0").is_no());
        let it = agreement(Some(device), Seen::Device, Some("SIGBUS BUS_ADRALN"), None);
        let expected = Agreement::Agrees {
            predicted: "Device-nGnRnE: an unaligned load faults".into(),
            seen: "SIGBUS BUS_ADRALN".into(),
        };
        assert_eq!(it, expected);
    }
}
