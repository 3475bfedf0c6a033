//! What there is to say of each policy: its rule, where it comes from, who wanted it, what was said against it, what it breaks.

use crate::Policy;

/// What somebody said of a policy, in our words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Who.
    pub who: &'static str,
    /// Where: a thread, with the date.
    pub thread: &'static str,
    /// What, paraphrased.
    pub what: &'static str,
}

/// What there is to say of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The rule in a sentence.
    pub rule: &'static str,
    /// Where the rule comes from: function and version, or thread.
    pub source: &'static str,
    /// Who proposed it, when.
    pub proposed: &'static str,
    /// What was said for it.
    pub for_it: &'static [Said],
    /// What was said against it.
    pub against: &'static [Said],
    /// What it breaks, as scenarios show it.
    pub breaks: &'static [&'static str],
    /// What became of it.
    pub became: &'static str,
}

impl Policy {
    /// The rule in a sentence.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        self.about().rule
    }
    /// Where the rule comes from.
    #[must_use]
    pub const fn source(self) -> &'static str {
        self.about().source
    }
    /// What there is to say of it.
    #[must_use]
    pub const fn about(self) -> &'static About {
        match self {
            Self::Linux6_1 => &About {
                rule: "Device memory is Device-nGnRE at stage 2, always.",
                source: "Linux 6.1 user_mem_abort, kvm_is_device_pfn; the kernel of thread 002",
                proposed: "",
                for_it: &[],
                against: &[],
                breaks: &[],
                became: "",
            },
            Self::Prefetchable => &About {
                rule: "A prefetchable BAR gets a write-combining VMA; stage 2 follows it.",
                source: "thread 000",
                proposed: "",
                for_it: &[],
                against: &[],
                breaks: &[],
                became: "",
            },
            Self::Vga => &About {
                rule: "A BAR of a VGA-class device gets a write-combining VMA; stage 2 follows it.",
                source: "thread 002",
                proposed: "",
                for_it: &[],
                against: &[],
                breaks: &[],
                became: "",
            },
            Self::FollowVma => &About {
                rule: "Stage 2 copies the VMA's memory type, cacheable included.",
                source: "threads 001 and 002",
                proposed: "",
                for_it: &[],
                against: &[],
                breaks: &[],
                became: "",
            },
            Self::Subregions => &About {
                rule: "User space attaches an attribute to a part of a region; stage 2 follows the mapping.",
                source: "thread 001",
                proposed: "",
                for_it: &[],
                against: &[],
                breaks: &[],
                became: "",
            },
            Self::Linux6_9 => &About {
                rule: "Normal-NC at stage 2 where VFIO says so: the guest chooses Device or Normal-NC.",
                source: "Linux 6.9 user_mem_abort, VM_ALLOW_ANY_UNCACHED; thread 003",
                proposed: "",
                for_it: &[],
                against: &[],
                breaks: &[],
                became: "",
            },
            Self::Linux6_17 => &About {
                rule: "As linux-6.9; a cacheable mapping of device memory is Normal, on a CPU with FWB and DIC.",
                source: "Linux 6.17 user_mem_abort, kvm_supports_cacheable_pfnmap",
                proposed: "",
                for_it: &[],
                against: &[],
                breaks: &[],
                became: "",
            },
            Self::Firmware => &About {
                rule: "Normal-NC where the platform's description says that it works and no quirk takes that back.",
                source: "thread 002",
                proposed: "",
                for_it: &[],
                against: &[],
                breaks: &[],
                became: "",
            },
            Self::X86Ept => &About {
                rule: "x86: UC for MMIO with the guest's PAT honoured; RAM is forced Write-Back unless DMA may be non-coherent.",
                source: "Linux vmx_get_mt_mask; thread 002",
                proposed: "",
                for_it: &[],
                against: &[],
                breaks: &[],
                became: "",
            },
        }
    }
}
