//! What else decides beside the two descriptors: the cache and MMU enables of a guest, the overrides of its hypervisor, and
//! whether an access is a load or store, an instruction fetch, or a walk of a stage-1 table.
//!
//! Of the EL1&0 regime with stage 2 on and HCR_EL2.TGE = 0: a guest. The enables are bits of SCTLR_EL1 that the guest owns;
//! the overrides are bits of HCR_EL2 that the hypervisor owns.
//!
//! ```
//! use memtype::arm::{Access, Features, Regime, Stage1, Stage2};
//!
//! // A guest that has not turned its caches on reads memory past them ...
//! let s1 = Stage1::decode(0xff, 0b11, Features::LATEST);
//! let plain = Stage2::decode(false, 0b1111, 0b11, Features::LATEST);
//! let off = Regime { sctlr_c: false, ..Regime::RUNNING };
//! assert_eq!(off.combine(Access::Data, &s1, &plain).combined().ty.name(), "normal-nc");
//! // ... unless the hypervisor forces Write-Back (FEAT_S2FWB, MemAttr 0b110), which stage 2 applies after it.
//! let forced = Stage2::decode(true, 0b0110, 0b11, Features::LATEST);
//! assert_eq!(off.combine(Access::Data, &s1, &forced).combined().ty.name(), "normal-wb");
//! ```

use super::key::key;
use super::{
    Alignment, Because, Cache, Cacheability, Combined, Device, Hints, Rule, Shareability, Stage1, Stage2, Tagging,
    Type, combine,
};

/// What reaches memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// A load or a store.
    Data,
    /// An instruction fetch, from a location that is not execute-never.
    Fetch,
    /// A read or an update of a stage-1 translation table; stage 1 is then what TCR_EL1 says of the tables
    /// ([`Stage1::of_walk`]).
    Walk,
}

/// Something that a machine cannot do, and that its kernel works around.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quirk {
    /// Normal Non-cacheable writes to PCIe go wrong (with Ampere Altra those whose byte enables have holes), and the
    /// kernel that owns stage 1 puts Device-nGnRE in its place: NVIDIA's kernels do so in MAIR_EL1, with
    /// `mair_el1_nc_to_ngnre=1`. It holds for the mappings of that kernel and its processes. A guest has a MAIR of its own:
    /// without the workaround there, only stage 2 can keep it from Normal Non-cacheable.
    NcAsDevice,
}

/// The controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Regime {
    /// SCTLR_EL1.M: stage 1 is on.
    pub sctlr_m: bool,
    /// SCTLR_EL1.C: stage 1 may make data accesses cacheable.
    pub sctlr_c: bool,
    /// SCTLR_EL1.I: stage 1 may make instruction fetches cacheable.
    pub sctlr_i: bool,
    /// HCR_EL2.DC: stage 1 counts as off, and as Write-Back.
    pub hcr_dc: bool,
    /// HCR_EL2.DCT: what DC gives is Tagged (FEAT_MTE2).
    pub hcr_dct: bool,
    /// HCR_EL2.CD: stage 2 makes data accesses and table walks Non-cacheable.
    pub hcr_cd: bool,
    /// HCR_EL2.ID: stage 2 makes instruction fetches Non-cacheable.
    pub hcr_id: bool,
    /// HCR_EL2.PTW: a walk of a stage-1 table in Device memory faults.
    pub hcr_ptw: bool,
    /// What the machine cannot do.
    pub quirk: Option<Quirk>,
}

/// Whether the memory type makes an access fault for lack of permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// It does not.
    Ok,
    /// The implementation decides: a fetch from Device memory.
    MayFault {
        /// 1 or 2.
        stage: u8,
    },
    /// It does: a walk that stage 2 has in Device memory.
    Fault {
        /// 2.
        stage: u8,
    },
}

impl Regime {
    /// A guest that runs: MMU and caches on, no override.
    pub const RUNNING: Self = Self {
        sctlr_m: true,
        sctlr_c: true,
        sctlr_i: true,
        hcr_dc: false,
        hcr_dct: false,
        hcr_cd: false,
        hcr_id: false,
        hcr_ptw: false,
        quirk: None,
    };
    /// A guest whose MMU and caches are off.
    pub const OFF: Self = Self { sctlr_m: false, sctlr_c: false, sctlr_i: false, ..Self::RUNNING };

    /// Whether stage 1 translates.
    #[inline]
    #[must_use]
    pub const fn stage1_on(&self) -> bool {
        self.sctlr_m && !self.hcr_dc
    }

    /// What is in force for an access. `s1` is what the descriptor and MAIR_EL1 say, or TCR_EL1 for a walk; it does not count
    /// where stage 1 is off.
    #[must_use]
    pub const fn combine(self, access: Access, s1: &Stage1, s2: &Stage2) -> InForce {
        let given = if matches!(access, Access::Walk) { *s1 } else { self.mapped(access, s1) };
        let both = combine(&self.enabled(access, given), s2);
        let device = both.ty.is_device();
        let nc = match access {
            Access::Data => self.hcr_cd && !device,
            Access::Fetch => self.hcr_id || device,
            Access::Walk => {
                if device {
                    !self.hcr_ptw
                } else {
                    self.hcr_cd
                }
            }
        };
        let quirked = self.stage1_on() && !matches!(access, Access::Walk) && self.replaces(s1);
        InForce { regime: self, access, given, quirked, stages: both, both: if nc { both.as_nc() } else { both } }
    }

    /// What stage 1 gives before the cache enables count.
    const fn mapped(self, access: Access, s1: &Stage1) -> Stage1 {
        const READ: Hints = Hints::new(true, false, false);
        const WT: Cache = Cache { policy: Cacheability::WriteThrough, hints: READ };
        if self.hcr_dc {
            let tagging = if self.hcr_dct { Tagging::Tagged } else { Tagging::Untagged };
            return Stage1 { tagging, ..Stage1::new(Type::NORMAL_WB, Shareability::Non) };
        }
        if !self.sctlr_m {
            return match access {
                Access::Fetch if self.sctlr_i => {
                    Stage1::new(Type::Normal { inner: WT, outer: WT }, Shareability::Outer)
                }
                Access::Fetch => Stage1::new(Type::NORMAL_NC, Shareability::Outer),
                Access::Data | Access::Walk => Stage1::MMU_OFF,
            };
        }
        if self.replaces(s1) { s1.with_type(Type::Device(Device::nGnRE)) } else { *s1 }
    }

    /// Whether the quirk has another byte in MAIR.
    const fn replaces(self, s1: &Stage1) -> bool {
        matches!(self.quirk, Some(Quirk::NcAsDevice)) && s1.key == key(Type::NORMAL_NC)
    }

    /// What SCTLR_EL1.{C, I} leave of it (`AArch64.S1TreatAsNormalNC`, and `AArch64.S1Walk` for the walk).
    const fn enabled(self, access: Access, s1: Stage1) -> Stage1 {
        let nc = match access {
            Access::Data => self.stage1_on() && !self.sctlr_c && !s1.is_device(),
            Access::Fetch => self.stage1_on() && (!self.sctlr_i || s1.is_device()),
            Access::Walk => !self.sctlr_c && !self.hcr_dc,
        };
        if nc { s1.with_type(Type::NORMAL_NC) } else { s1 }
    }
}

/// What is in force for an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InForce {
    regime: Regime,
    access: Access,
    /// Stage 1 before the cache enables.
    given: Stage1,
    /// The quirk made it Device.
    quirked: bool,
    /// The two stages, before the overrides of HCR_EL2.
    stages: Combined,
    both: Combined,
}

impl InForce {
    /// The attributes. Where [`permission`](Self::permission) is a fault they are those that made it fault.
    #[inline]
    #[must_use]
    pub const fn combined(&self) -> &Combined {
        &self.both
    }
    /// The controls.
    #[must_use]
    pub const fn regime(&self) -> &Regime {
        &self.regime
    }
    /// The kind of access.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// As [`Combined::unaligned`]; only a load or a store can be unaligned.
    #[inline]
    #[must_use]
    pub const fn unaligned(&self) -> Alignment {
        match self.access {
            Access::Data => self.both.unaligned(),
            Access::Fetch | Access::Walk => Alignment::Ok,
        }
    }

    /// Whether the memory type makes it fault for lack of permission; what the descriptors permit is not asked here.
    #[must_use]
    pub const fn permission(&self) -> Permission {
        match self.access {
            Access::Fetch if self.given.is_device() => Permission::MayFault { stage: 1 },
            Access::Fetch if self.stages.ty.is_device() => Permission::MayFault { stage: 2 },
            Access::Walk if self.both.ty.is_device() => Permission::Fault { stage: 2 },
            Access::Data | Access::Fetch | Access::Walk => Permission::Ok,
        }
    }

    /// The rules, in the order they apply.
    #[must_use]
    pub const fn because(&self) -> Because {
        let Regime { sctlr_m, sctlr_c, sctlr_i, hcr_dc, hcr_cd, hcr_id, .. } = self.regime;
        let fetch = matches!(self.access, Access::Fetch);
        let walk = matches!(self.access, Access::Walk);
        let normal = !self.given.is_device();
        let on = self.regime.stage1_on();
        let mut b = Because::new();
        if !walk {
            b = b.and_if(hcr_dc, Rule::DefaultCacheable);
            b = b.and_if(!hcr_dc && !sctlr_m, if fetch { Rule::MmuOffFetch } else { Rule::MmuOff });
            b = b.and_if(self.quirked, Rule::NcAsDevice);
        }
        if fetch {
            b = b.and_if(on && normal && !sctlr_i, Rule::Stage1UncachedFetch);
            b = b.and_if(!normal, Rule::FetchFromDevice);
        } else {
            let off = if walk { !sctlr_c && !hcr_dc } else { on && normal && !sctlr_c };
            b = b.and_if(off, Rule::Stage1Uncached);
            b = b.and_if(off && matches!(self.given.tagging, Tagging::Tagged), Rule::Stage1UncachedTagged);
        }
        b = self.stages.of_stages(b);
        if walk && self.stages.ty.is_device() {
            b = b.and(if self.regime.hcr_ptw { Rule::WalkFaults } else { Rule::WalkOnDevice });
        } else if fetch {
            b = b.and_if(normal && self.stages.ty.is_device(), Rule::FetchFromDevice);
            b = b.and_if(hcr_id, Rule::Stage2UncachedFetch);
        } else {
            b = b.and_if(hcr_cd && !self.stages.ty.is_device(), Rule::Stage2Uncached);
        }
        b = self.both.of_sharing(b);
        match self.access {
            Access::Fetch | Access::Walk => b,
            Access::Data => {
                let b = self.both.of_access(b);
                if self.both.atomics_guaranteed() {
                    b.and(Rule::AtomicsGuaranteed)
                } else {
                    b.and(Rule::AtomicsSystemDefined)
                }
            }
        }
    }
}
