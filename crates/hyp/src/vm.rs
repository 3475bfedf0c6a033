//! A virtual machine's memory: slots, and stage-2 tables filled on demand.

use core::fmt;

use mmu::{
    Frames, Ia, Oa, PAGE,
    arm::{self, Config, MapError, S2Attrs, Stage2, WalkError},
};

use crate::{
    Abort, BLOCK_1G, BLOCK_2M, Cpu, Decision, EFAULT, EINVAL, EsrEl2, Event, Maintenance, Pgprot, Policy, Resolution,
    S2Kind, UnsupportedFsc, Vma, policy::CacheableRefused,
};

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
    /// KVM_MEM_LOG_DIRTY_PAGES.
    pub log_dirty: bool,
    /// The host mapping.
    pub vma: Vma,
}

impl Slot {
    /// A writable slot.
    #[must_use]
    pub const fn new(ipa: Ia, size: u64, pa: Oa, vma: Vma) -> Self {
        Self { ipa, size, pa, readonly: false, log_dirty: false, vma }
    }
    /// The last guest-physical address.
    #[must_use]
    pub const fn last(&self) -> Ia {
        Ia(self.ipa.0 + (self.size - 1))
    }
    fn contains(&self, ipa: Ia) -> bool {
        (self.ipa..=self.last()).contains(&ipa)
    }
}

/// Why KVM will not have the mapping behind a slot (`kvm_arch_prepare_memory_region`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The VM has MTE and the mapping lacks VM_MTE_ALLOWED, as every BAR's does.
    Mte,
    /// KVM_MEM_LOG_DIRTY_PAGES of a VM_PFNMAP mapping.
    DirtyLog,
    /// A cacheable VM_PFNMAP mapping without FWB and DIC; since Linux 6.17.
    Cacheable(CacheableRefused),
}

impl Refusal {
    /// Why a slot with this mapping behind it is refused, if it is: the tests of `kvm_arch_prepare_memory_region`, in its order.
    #[must_use]
    pub const fn of(policy: Policy, cpu: Cpu, mte: bool, log_dirty: bool, vma: &Vma) -> Option<Self> {
        if mte && !vma.mte_allowed {
            Some(Self::Mte)
        } else if vma.pfnmap && log_dirty {
            Some(Self::DirtyLog)
        } else if vma.pfnmap
            && matches!(vma.pgprot, Pgprot::Cached)
            && policy.refuses_cacheable()
            && !cpu.cacheable_pfnmap()
        {
            // Whose memory it is is not asked before the fault.
            Some(Self::Cacheable(CacheableRefused(cpu)))
        } else {
            None
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mte => f.write_str("the VM has MTE and the mapping lacks VM_MTE_ALLOWED"),
            Self::DirtyLog => f.write_str("KVM_MEM_LOG_DIRTY_PAGES, and the mapping is VM_PFNMAP"),
            Self::Cacheable(c) => c.fmt(f),
        }
    }
}

/// Why a VM or a slot was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// KVM will not have the mapping behind it.
    Refused {
        /// The slot refused.
        slot: Slot,
        /// Why.
        why: Refusal,
    },
    /// There is no slot that begins there.
    NoSlot(Ia),
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

impl Error {
    /// The errno of KVM_SET_USER_MEMORY_REGION.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        match self {
            Self::NoRoot => 12,
            Self::Overlap { .. } => 17,
            Self::Refused { .. } | Self::BadSlot(_) | Self::TooMany { .. } | Self::NoSlot(_) => EINVAL,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { slot, why } => write!(f, "slot {:#x}+{:#x}: {why}", slot.ipa.0, slot.size),
            Self::NoSlot(ipa) => write!(f, "no slot begins at {:#x}", ipa.0),
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
    /// KVM_CAP_ARM_MTE is on. HCR_EL2 bits of no concern to memory types are not modelled; DC, CD and ID are 0, as KVM has
    /// them.
    mte: bool,
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
        Ok(Self { policy, cpu, config, root, tables, slots: [None; N], mte: false })
    }

    /// The VM with KVM_CAP_ARM_MTE. Slots already there are not looked at again.
    #[must_use]
    pub fn with_mte(self) -> Self {
        Self { mte: true, ..self }
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
        if let Some(why) = self.refusal(&slot) {
            return Err(Error::Refused { slot, why });
        }
        *self.slots.iter_mut().find(|s| s.is_none()).ok_or(Error::TooMany { slots: N })? = Some(slot);
        Ok(())
    }

    const fn refusal(&self, slot: &Slot) -> Option<Refusal> {
        Refusal::of(self.policy, self.cpu, self.mte, slot.log_dirty, &slot.vma)
    }

    /// Removes the slot that begins at `ipa`, and all stage 2 maps of it.
    ///
    /// # Errors
    /// [`Error::NoSlot`].
    pub fn remove_slot(&mut self, ipa: Ia, maintenance: &mut impl Maintenance) -> Result<Slot, Error> {
        let slot = self.slots.iter_mut().find(|s| s.is_some_and(|s| s.ipa == ipa)).and_then(Option::take);
        let slot = slot.ok_or(Error::NoSlot(ipa))?;
        self.invalidate(slot.ipa, slot.size, maintenance);
        Ok(slot)
    }

    /// The host changed the mapping of `size` bytes of device memory at `pa`: what the MMU notifier tells KVM when VFIO zaps
    /// a mapping (`unmap_mapping_range`) and it comes back as `vma`. Everything stage 2 maps of it goes, and every slot that
    /// lies in it whole has the new mapping from now on; a slot here is of one mapping. Gives how many slots that were.
    pub fn remapped(&mut self, pa: Oa, size: u64, vma: Vma, maintenance: &mut impl Maintenance) -> usize {
        let Some(last) = size.checked_sub(1).and_then(|s| pa.0.checked_add(s)) else { return 0 };
        let mut count = 0;
        for i in 0..N {
            let Some(slot) = self.slots[i] else { continue };
            let slot_last = slot.pa.0 + (slot.size - 1);
            let (first, end) = (slot.pa.0.max(pa.0), slot_last.min(last));
            if first > end {
                continue;
            }
            self.invalidate(Ia(slot.ipa.0 + (first - slot.pa.0)), end - first + 1, maintenance);
            if (first, end) == (slot.pa.0, slot_last) {
                self.slots[i] = Some(Slot { vma, ..slot });
                count += 1;
            }
        }
        count
    }

    /// Makes stage 2 map nothing of these IPAs: every entry that overlaps them is broken, then the TLBs are told
    /// (`kvm_unmap_gfn_range`, `kvm_tlb_flush_vmid_range`). Gives how many entries that were.
    pub fn invalidate(&mut self, ipa: Ia, size: u64, maintenance: &mut impl Maintenance) -> u64 {
        let (mut broken, mut begin, mut end) = (0, u64::MAX, 0);
        let each = |ia: Ia, level: u8| {
            maintenance.event(Event::Broke { ipa: ia, level });
            broken += 1;
            begin = begin.min(ia.0);
            end = end.max(ia.0 + (arm::entry_size(level) - 1));
        };
        // Where the tables cannot be read any more, what was broken before is told all the same.
        let _ = arm::unmap_with::<Stage2, _>(self.root, self.config, &mut self.tables, ipa, size, each);
        if broken > 0 {
            maintenance.event(Event::Invalidate { ipa: Ia(begin), size: end - begin + 1 });
        }
        broken
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
    /// What the CPU has.
    #[must_use]
    pub const fn cpu(&self) -> Cpu {
        self.cpu
    }
    /// The slots, in no order.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flatten()
    }
    /// The slot that holds `ipa`.
    #[must_use]
    pub fn slot_at(&self, ipa: Ia) -> Option<&Slot> {
        self.slots.iter().flatten().find(|s| s.contains(ipa))
    }

    /// A stage-2 abort: what `kvm_handle_guest_abort` does about it (Linux 6.1 and 6.12 agree in all of this).
    ///
    /// Total: an abort without an IPA, tables that cannot be read, no frame left all end in [`Resolution::Fail`].
    pub fn abort(&mut self, abort: &Abort, maintenance: &mut impl Maintenance) -> Resolution {
        const FAIL: Resolution = Resolution::Fail { errno: EFAULT, log: None };
        const ENOMEM: Resolution = Resolution::Fail { errno: 12, log: None };
        let esr = abort.esr;
        let unsupported = Resolution::Fail { errno: EFAULT, log: Some(UnsupportedFsc(esr)) };
        if esr.is_external_abort() {
            // `kvm_handle_guest_sea` has nothing to say without firmware-first error records: `kvm_inject_vabt`.
            return Resolution::SError;
        }
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
        let Ok(decision) = self.policy.decide(&slot.vma, self.cpu) else { return FAIL };
        if esr.is_fetch() && decision.kind != S2Kind::Normal {
            // Device and Normal-NC are never executable: -ENOEXEC, then kvm_inject_sea.
            return self.inject(true, abort.far);
        }
        // On a Permission fault a read can gain nothing: every mapping is readable.
        if permission && !write && !esr.is_fetch() {
            return FAIL;
        }
        let (level, executable) = match arm::walk::<Stage2, _>(self.root, self.config, &self.tables, ipa) {
            Ok(leaf) => (leaf.step.level, leaf.privileges.execute),
            Err(WalkError::Fault(fault, _)) => (fault.level, false),
            Err(WalkError::Memory { .. }) => return FAIL,
        };
        // Tables stay: where one is, from the time of smaller pages, the block is as small. (Linux frees it:
        // `stage2_map_walk_table_pre`.)
        let size = Self::block_size(&slot, ipa).min(arm::entry_size(level.min(3)));
        let ia = Ia(ipa.0 & !(size - 1));
        let attrs = self.attrs(decision, !slot.readonly, esr.is_fetch() || executable);
        let pa = Oa(slot.pa.0 + (ia.0 - slot.ipa.0));
        let clean = decision.kind == S2Kind::Normal && !self.cpu.fwb;
        let fetched = attrs.xn == 0 && !self.cpu.dic;
        if (clean || fetched) && slot.vma.pfnmap && !slot.vma.kernel_memory {
            // `dcache_clean_inval_poc` and `icache_inval_pou` go by an address of the kernel's, and there is none.
            return Resolution::HostFault { pa };
        }
        // Break, maintain, make (`stage2_map_walker_try_leaf`); where there was nothing this breaks nothing.
        self.invalidate(ia, size, maintenance);
        if clean {
            maintenance.event(Event::CleanDcache { pa, size });
        }
        if fetched {
            maintenance.event(Event::InvalidateIcache { pa, size });
        }
        match arm::map::<Stage2, _>(self.root, self.config, &mut self.tables, (ia, pa, size), &attrs, size) {
            Ok(()) => {
                maintenance.event(Event::Made { ipa: ia, size });
                Resolution::Again { decision, ipa: ia, size }
            }
            Err(MapError::NoFrame) => ENOMEM,
            Err(_) => FAIL,
        }
    }

    /// The largest block that lies inside the slot, is aligned on both sides and is no larger than the host's own leaf: what
    /// `fault_supports_stage2_huge_mapping` and `get_vma_page_shift` allow. Pages alone while dirty pages are logged.
    fn block_size(slot: &Slot, ipa: Ia) -> u64 {
        let fits = |size: u64| {
            let start = ipa.0 & !(size - 1);
            let aligned = (slot.ipa.0 ^ slot.pa.0) & (size - 1) == 0;
            aligned && start >= slot.ipa.0 && start + (size - 1) <= slot.last().0
        };
        let largest = if slot.log_dirty { PAGE } else { slot.vma.largest };
        [BLOCK_1G, BLOCK_2M].into_iter().find(|size| *size <= largest && fits(*size)).unwrap_or(PAGE)
    }

    /// The leaf attributes `stage2_set_prot_attr` writes.
    fn attrs(&self, decision: Decision, write: bool, execute: bool) -> S2Attrs {
        let normal = decision.kind == S2Kind::Normal;
        let execute = normal && (execute || self.cpu.dic);
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
    /// ESR_EL1 has its upper half all ones. Linux 6.9 to 6.11 do so too; every other
    /// [`Policy`] stands on a mended kernel.
    const fn inject(&self, fetch: bool, far: u64) -> Resolution {
        let esr: u32 = if fetch { 0x21 << 26 } else { 0x25 << 26 } | 1 << 25 | 0b01_0000;
        let esr = match self.policy {
            Policy::Linux6_1 => esr.cast_signed() as i64 as u64,
            _ => esr as u64,
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
