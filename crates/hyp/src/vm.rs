//! A virtual machine's memory: slots, and stage-2 tables filled on demand.

use core::fmt;

use mmu::{
    Frames, Ia, Oa, PAGE,
    arm::{self, Config, MapError, S2Attrs, Stage2, WalkError},
};

use crate::{Abort, Cpu, Decision, EFAULT, EsrEl2, Policy, Resolution, UnsupportedFsc};

/// The host mapping behind a slot, as far as a decision looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vma {
    /// Its pages are the kernel's own memory: anonymous memory, hugetlb, shmem.
    pub kernel_memory: bool,
    /// VM_ALLOW_ANY_UNCACHED: the driver of the device says that a guest may have any uncached type.
    pub allow_any_uncached: bool,
}

impl Vma {
    /// Anonymous memory.
    pub const RAM: Self = Self { kernel_memory: true, allow_any_uncached: false };
    /// A BAR that vfio-pci mapped: Device-nGnRnE in the host, VM_ALLOW_ANY_UNCACHED where the kernel knows it (6.9).
    pub const VFIO_PCI_BAR: Self = Self { kernel_memory: false, allow_any_uncached: true };
    /// Any other mapping of device memory: sysfs `resourceN`, vfio-platform, UIO, /dev/mem.
    pub const OTHER_DEVICE: Self = Self { kernel_memory: false, allow_any_uncached: false };
}

/// A memory slot: KVM_SET_USER_MEMORY_REGION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// First guest-physical address.
    pub ipa: Ia,
    /// Bytes.
    pub size: u64,
    /// The host-physical address behind its first byte. The slot is contiguous there.
    pub pa: Oa,
    /// KVM_MEM_READONLY.
    pub readonly: bool,
    /// The host mapping.
    pub vma: Vma,
}

impl Slot {
    /// The last guest-physical address.
    #[must_use]
    pub const fn last(&self) -> Ia {
        Ia(self.ipa.0 + (self.size - 1))
    }
    fn contains(&self, ipa: Ia) -> bool {
        (self.ipa..=self.last()).contains(&ipa)
    }
}

/// Why a VM or a slot was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// No frame for the root tables, or the frames given out are not consecutive and aligned as a concatenated root must be.
    NoRoot,
    /// An address or the size is no multiple of 4 KiB, the size is zero, or the end is beyond the addresses configured.
    BadSlot(Slot),
    /// It overlaps a slot there is.
    Overlap {
        /// The slot refused.
        slot: Slot,
        /// The slot in the way.
        with: Slot,
    },
    /// Every place for a slot is taken.
    TooMany {
        /// How many there are.
        slots: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoot => f.write_str("no consecutive, aligned frames for the stage-2 root tables"),
            Self::BadSlot(s) => write!(
                f,
                "slot {:#x}+{:#x}: address and size must be multiples of 4 KiB, inside the address size, the size not zero",
                s.ipa.0, s.size
            ),
            Self::Overlap { slot, with } => write!(
                f,
                "slot {:#x}+{:#x} overlaps the slot {:#x}+{:#x}",
                slot.ipa.0, slot.size, with.ipa.0, with.size
            ),
            Self::TooMany { slots } => write!(f, "all {slots} memory slots are taken"),
        }
    }
}

impl core::error::Error for Error {}

/// Bits of guest-physical addresses: what a VMM asks KVM_CREATE_VM for.
pub const IPA_BITS: u8 = 40;

/// A VM with up to `N` slots, its tables in `M`.
#[derive(Debug)]
pub struct Vm<M, const N: usize> {
    policy: Policy,
    cpu: Cpu,
    config: Config,
    root: Oa,
    tables: M,
    slots: [Option<Slot>; N],
    /// HCR_EL2 bits of no concern to memory types are not modelled; DC, CD and ID are 0, as KVM has them.
    largest: u64,
}

impl<M: Frames, const N: usize> Vm<M, N> {
    /// A VM without slots, its 40-bit stage 2 empty.
    ///
    /// # Errors
    /// [`Error::NoRoot`].
    pub fn new(policy: Policy, cpu: Cpu, mut tables: M) -> Result<Self, Error> {
        let config = Config::stage2(IPA_BITS, 48, 1).ok_or(Error::NoRoot)?;
        let root = tables.frame().ok_or(Error::NoRoot)?;
        for i in 1..config.root_frames() {
            if tables.frame() != Some(Oa(root.0 + i * PAGE)) {
                return Err(Error::NoRoot);
            }
        }
        if !root.0.is_multiple_of(config.root_frames() * PAGE) {
            return Err(Error::NoRoot);
        }
        Ok(Self { policy, cpu, config, root, tables, slots: [None; N], largest: arm::entry_size(2) })
    }

    /// Adds a slot: KVM_SET_USER_MEMORY_REGION. Nothing is mapped yet.
    ///
    /// # Errors
    /// [`Error`], with the slot.
    pub fn add_slot(&mut self, slot: Slot) -> Result<(), Error> {
        let fits = |start: u64, bits: u8| start.checked_add(slot.size.wrapping_sub(1)).is_some_and(|l| l >> bits == 0);
        if !(slot.ipa.0 | slot.size | slot.pa.0).is_multiple_of(PAGE)
            || slot.size == 0
            || !fits(slot.ipa.0, self.config.ia_bits())
            || !fits(slot.pa.0, self.config.oa_bits())
        {
            return Err(Error::BadSlot(slot));
        }
        if let Some(with) = self.slots.iter().flatten().find(|s| s.ipa <= slot.last() && slot.ipa <= s.last()) {
            return Err(Error::Overlap { slot, with: *with });
        }
        *self.slots.iter_mut().find(|s| s.is_none()).ok_or(Error::TooMany { slots: N })? = Some(slot);
        Ok(())
    }

    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }
    /// The root of stage 2 (VTTBR_EL2.BADDR).
    #[must_use]
    pub const fn root(&self) -> Oa {
        self.root
    }
    /// The shape of stage 2 (VTCR_EL2).
    #[must_use]
    pub const fn config(&self) -> Config {
        self.config
    }
    /// The memory that holds the tables.
    #[must_use]
    pub const fn tables(&self) -> &M {
        &self.tables
    }
    /// HCR_EL2.FWB.
    #[must_use]
    pub const fn fwb(&self) -> bool {
        self.cpu.fwb
    }
    /// The slot that holds `ipa`.
    #[must_use]
    pub fn slot_at(&self, ipa: Ia) -> Option<&Slot> {
        self.slots.iter().flatten().find(|s| s.contains(ipa))
    }

    /// A stage-2 abort: what `kvm_handle_guest_abort` does about it (Linux 6.1 and 6.12 agree in all of this).
    ///
    /// Total: an abort without an IPA, tables that cannot be read, no frame left all end in [`Resolution::Fail`].
    pub fn abort(&mut self, abort: &Abort) -> Resolution {
        const FAIL: Resolution = Resolution::Fail { errno: EFAULT, log: None };
        const ENOMEM: Resolution = Resolution::Fail { errno: 12, log: None };
        let esr = abort.esr;
        let unsupported = Resolution::Fail { errno: EFAULT, log: Some(UnsupportedFsc(esr)) };
        let permission = match esr.fsc() >> 2 {
            0b0001 => false,
            0b0011 => true,
            // The Access flag is set in every descriptor written here; any other fault has no handler.
            _ => return unsupported,
        };
        let Some(ipa) = abort.ipa() else { return FAIL };
        // A fetch or a walk reads; on a walk WnR says whether the walk was for a write (the tables are only read, then).
        let write = esr.wnr() && !esr.s1ptw() && !esr.is_fetch();
        let slot = self.slot_at(ipa).copied();
        let Some(slot) = slot.filter(|s| !(write && s.readonly)) else {
            return self.outside(abort, ipa);
        };
        let decision = self.policy.decide(&slot.vma);
        if esr.is_fetch() && decision.kind != crate::S2Kind::Normal {
            // Device and Normal-NC are never executable: -ENOEXEC, then kvm_inject_sea.
            return self.inject(true, abort.far);
        }
        // On a Permission fault a read can gain nothing: every mapping is readable.
        if permission && !write && !esr.is_fetch() {
            return FAIL;
        }
        let size = self.block_size(&slot, ipa);
        let ia = Ia(ipa.0 & !(size - 1));
        let had = arm::walk::<Stage2, _>(self.root, self.config, &self.tables, ipa);
        let executable = match had {
            Ok(leaf) => leaf.privileges.execute,
            Err(WalkError::Fault(..)) => false,
            Err(WalkError::Memory { .. }) => return FAIL,
        };
        let attrs = self.attrs(decision, !slot.readonly, esr.is_fetch() || executable);
        // Break before make; where there was nothing this clears nothing.
        let range = (ia, Oa(slot.pa.0 + (ia.0 - slot.ipa.0)), size);
        if arm::unmap::<Stage2, _>(self.root, self.config, &mut self.tables, ia, size).is_err() {
            return FAIL;
        }
        match arm::map::<Stage2, _>(self.root, self.config, &mut self.tables, range, &attrs, size) {
            Ok(()) => Resolution::Again { decision, ipa: ia, size },
            // Pages were there before the block could be: map the one page.
            Err(MapError::Occupied { .. }) => {
                let page = Ia(ipa.0 & !(PAGE - 1));
                let range = (page, Oa(slot.pa.0 + (page.0 - slot.ipa.0)), PAGE);
                match arm::map::<Stage2, _>(self.root, self.config, &mut self.tables, range, &attrs, PAGE) {
                    Ok(()) => Resolution::Again { decision, ipa: page, size: PAGE },
                    Err(_) => ENOMEM,
                }
            }
            Err(MapError::NoFrame) => ENOMEM,
            Err(_) => FAIL,
        }
    }

    /// The largest block that lies inside the slot and is aligned on both sides: what `fault_supports_stage2_huge_mapping`
    /// and `get_vma_page_shift` allow, up to 2 MiB.
    fn block_size(&self, slot: &Slot, ipa: Ia) -> u64 {
        let size = self.largest;
        let start = ipa.0 & !(size - 1);
        let aligned = (slot.ipa.0 ^ slot.pa.0) & (size - 1) == 0;
        let inside = start >= slot.ipa.0 && start + (size - 1) <= slot.last().0;
        if aligned && inside { size } else { PAGE }
    }

    /// The leaf attributes `stage2_set_prot_attr` writes.
    fn attrs(&self, decision: Decision, write: bool, execute: bool) -> S2Attrs {
        let normal = decision.kind == crate::S2Kind::Normal;
        let execute = normal && (execute || self.cpu.fwb && self.cpu.dic);
        S2Attrs {
            memattr: decision.kind.memattr(self.cpu.fwb),
            sh: 0b11,
            read: true,
            write,
            accessed: true,
            fnxs: false,
            contiguous: false,
            xn: if execute { 0b00 } else { 0b10 },
        }
    }

    /// A synchronous External abort for the guest: `kvm_inject_dabt`, `kvm_inject_pabt`.
    ///
    /// Before Linux 6.12 (b6db3eb6c373) the exception class of an abort is shifted as a signed 32-bit number, so the guest's
    /// ESR_EL1 has its upper half all ones. Linux 6.9 to 6.11 do so too; [`Policy::Linux6_9`] is the mended kernel.
    const fn inject(&self, fetch: bool, far: u64) -> Resolution {
        let esr: u32 = if fetch { 0x21 << 26 } else { 0x25 << 26 } | 1 << 25 | 0b01_0000;
        let esr = match self.policy {
            Policy::Linux6_1 => esr.cast_signed() as i64 as u64,
            Policy::Linux6_9 => esr as u64,
        };
        Resolution::Inject { fetch, esr, far }
    }

    /// An access where no slot lets it: `kvm_handle_guest_abort` and `io_mem_abort`.
    const fn outside(&self, abort: &Abort, ipa: Ia) -> Resolution {
        let esr: EsrEl2 = abort.esr;
        if esr.is_fetch() || esr.s1ptw() {
            self.inject(esr.is_fetch(), abort.far)
        } else if esr.cm() {
            Resolution::Skip
        } else if esr.isv() {
            Resolution::Mmio { ipa, len: esr.bytes(), write: esr.wnr(), srt: esr.srt() }
        } else {
            Resolution::NoValidSyndrome { ipa, iss: esr.0 & (1 << 8 | 1 << 6 | 0x3f) }
        }
    }
}
