//! A stage-2 abort as the CPU reports it, and what the hypervisor makes of it.

use core::fmt;

use mmu::{Ia, Oa};

use crate::Decision;

/// `-EFAULT`, the errno KVM_RUN fails with.
pub const EFAULT: i32 = 14;
/// `-EINVAL`, the errno KVM_SET_USER_MEMORY_REGION fails with.
pub const EINVAL: i32 = 22;

/// `ESR_EL2` of an instruction or data abort from a lower Exception level (D24.2.40).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EsrEl2(pub u64);

impl EsrEl2 {
    /// Exception class.
    #[must_use]
    pub const fn ec(self) -> u8 {
        (self.0 >> 26 & 0x3f) as u8
    }
    /// EC 0x20: an instruction abort.
    #[must_use]
    pub const fn is_fetch(self) -> bool {
        self.ec() == 0x20
    }
    /// DFSC or IFSC.
    #[must_use]
    pub const fn fsc(self) -> u8 {
        (self.0 & 0x3f) as u8
    }
    /// A synchronous External abort, or a parity or ECC error (`esr_fsc_is_sea_ttw`, `kvm_vcpu_abt_issea`).
    #[must_use]
    pub const fn is_external_abort(self) -> bool {
        matches!(self.fsc(), 0x10 | 0x14..=0x18 | 0x1c..=0x1f)
    }
    /// ISV: the syndrome says what the instruction was.
    #[must_use]
    pub const fn isv(self) -> bool {
        self.0 >> 24 & 1 != 0
    }
    /// Bytes accessed, from SAS; meaningful with ISV.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        1 << (self.0 >> 22 & 3)
    }
    /// The transfer register, SRT; meaningful with ISV.
    #[must_use]
    pub const fn srt(self) -> u8 {
        (self.0 >> 16 & 0x1f) as u8
    }
    /// CM: a cache maintenance instruction.
    #[must_use]
    pub const fn cm(self) -> bool {
        self.0 >> 8 & 1 != 0
    }
    /// S1PTW: on a stage-1 walk.
    #[must_use]
    pub const fn s1ptw(self) -> bool {
        self.0 >> 7 & 1 != 0
    }
    /// WnR: a write, for a data abort that is not on a walk.
    #[must_use]
    pub const fn wnr(self) -> bool {
        self.0 >> 6 & 1 != 0
    }
}

impl fmt::Debug for EsrEl2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EsrEl2({:#x})", self.0)
    }
}

/// A stage-2 abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// The syndrome.
    pub esr: EsrEl2,
    /// `FAR_EL2`.
    pub far: u64,
    /// `HPFAR_EL2.FIPA` as an address, a multiple of 4 KiB; `None` where the architecture leaves it UNKNOWN (`IPAValid`).
    pub ipa_page: Option<Ia>,
}

impl Abort {
    /// The faulting IPA: the page of HPFAR with FAR's low 12 bits.
    #[must_use]
    pub const fn ipa(&self) -> Option<Ia> {
        match self.ipa_page {
            Some(page) => Some(Ia(page.0 & !0xfff | self.far & 0xfff)),
            None => None,
        }
    }
}

/// What the hypervisor does about an abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It mapped the page, or relaxed its permissions: run the instruction again.
    Again {
        /// What was decided for the page.
        decision: Decision,
        /// First IPA of the block or page.
        ipa: Ia,
        /// Its size.
        size: u64,
    },
    /// It skips the instruction (cache maintenance where nothing is).
    Skip,
    /// It injects a synchronous External abort into the guest: the fetch, or the walk, went where nothing can be.
    Inject {
        /// For the guest's instruction side.
        fetch: bool,
        /// The guest's `ESR_EL1`, as the kernel writes it.
        esr: u64,
        /// The guest's `FAR_EL1`.
        far: u64,
    },
    /// A synchronous External abort was the guest's doing: it injects a virtual SError (`HCR_EL2.VSE`), and the guest goes on.
    SError,
    /// It maintains the caches by an address that it has no mapping for: the host is lost.
    HostFault {
        /// The physical address it would have maintained.
        pa: Oa,
    },
    /// The access leaves to user space (KVM_EXIT_MMIO).
    Mmio {
        /// The faulting IPA.
        ipa: Ia,
        /// Bytes.
        len: u32,
        /// A write.
        write: bool,
        /// The transfer register.
        srt: u8,
    },
    /// The access leaves to user space undecoded (KVM_EXIT_ARM_NISV, with KVM_CAP_ARM_NISV_TO_USER on).
    NoValidSyndrome {
        /// The faulting IPA.
        ipa: Ia,
        /// The part of the syndrome user space gets: CM, WnR and the fault status code
        /// (`kvm_vcpu_dabt_iss_nisv_sanitized`).
        iss: u64,
    },
    /// KVM_RUN fails.
    Fail {
        /// The errno.
        errno: i32,
        /// What the kernel logs, if anything.
        log: Option<UnsupportedFsc>,
    },
}

/// The line `kvm_handle_guest_abort` logs for a fault it has no answer to, as `kvm [pid]: ` prefixes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsupportedFsc(pub EsrEl2);

impl fmt::Display for UnsupportedFsc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let esr = self.0;
        write!(f, "Unsupported FSC: EC={:#x} xFSC={:#x} ESR_EL2={:#x}", esr.ec(), esr.fsc(), esr.0)
    }
}
