//! The plan for a VM: of each BAR what is direct and what is trapped, what KVM and VFIO will refuse, and what the guest is to be
//! told. A value for a VMM; `docs/plan.md` describes its JSON.

use std::collections::BTreeMap;

use ::viommu::config_space::{self, Guest};
use firmware::iort::{Access, Kind};
use host::{Bar, Bytes, Fact, Function, Hole, Host, IommuKind, Why};
use hyp::Refusal;
use memtype::x86::kvm::{Asked, Era, Says};
use memtype::{Arch, MemoryType};
use platform::Bdf;
use serde::{Serialize, Serializer};

use crate::bus::bytes;
use crate::request::{DeviceRequest, GuestFirmware, GuestIommu, SnoopWish, VmRequest, Want, hex};
use crate::seat::{self, Seat, cache_coherency};
use crate::viommu::{self, ViommuFirmware, ViommuPlan};
use crate::{Gets, Layer, Sure, Way, cacheable, gathers, is_wc, kernel, process, reads_ahead, slot};

/// The form of the JSON: it changes where a reader of the old one would go wrong.
pub const VERSION: u32 = 1;

/// What is to be done for a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// Nothing is refused.
    pub possible: bool,
    /// What is refused, in the order in which one would meet it.
    pub refusals: Vec<Refused>,
    /// What is not refused and does not do what one may think.
    pub warnings: Vec<String>,
    /// The guest's architecture.
    #[serde(serialize_with = "arch_name")]
    pub arch: Option<Arch>,
    /// The kernel that runs it.
    pub kernel: String,
    /// The devices.
    pub devices: Vec<DevicePlan>,
    /// What KVM is to be told.
    pub kvm: KvmPlan,
    /// What the guest is to be told of its PCI host bridge and IOMMU.
    pub firmware: FirmwarePlan,
    /// A virtio-iommu's endpoints; nothing if the guest sees none.
    pub viommu: Option<ViommuPlan>,
}

fn arch_name<S: Serializer>(arch: &Option<Arch>, to: S) -> Result<S::Ok, S::Error> {
    arch.map(Arch::name).serialize(to)
}

/// Who refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// What is asked for contradicts the machine.
    Request,
    /// VFIO or iommufd will not give the device.
    Vfio,
    /// KVM will not have the memory slot: EINVAL of KVM_SET_USER_MEMORY_REGION.
    Kvm,
    /// The slot is there, and what is wanted of it cannot be had.
    Want,
}

impl By {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Vfio => "vfio",
            Self::Kvm => "kvm",
            Self::Want => "want",
        }
    }
}

/// Something that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refused {
    /// By whom.
    pub by: By,
    /// Of which device.
    #[serde(serialize_with = "shown")]
    pub device: Option<Bdf>,
    /// Of which of its BARs; empty where it is of the device, or of the VM.
    pub bars: Vec<u8>,
    /// Why.
    pub why: String,
    /// What to do about it, where something can be.
    pub remedy: Option<String>,
}

fn shown<S: Serializer>(bdf: &Option<Bdf>, to: S) -> Result<S::Ok, S::Error> {
    bdf.map(|b| b.to_string()).serialize(to)
}

fn one<S: Serializer>(bdf: &Bdf, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(bdf)
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DevicePlan {
    /// Where it is on the host.
    #[serde(serialize_with = "one")]
    pub bdf: Bdf,
    /// What it is called.
    pub name: Option<String>,
    /// `/dev/vfio/7`: its group's file.
    pub group: Option<String>,
    /// `/dev/vfio/devices/vfio0`: its own.
    pub cdev: Option<String>,
    /// Its BARs.
    pub bars: Vec<BarPlan>,
    /// Whether its DMA snoops the CPU's caches, as the guest is to be told.
    pub coherent: bool,
    /// How sure that is.
    pub coherent_sure: Sure,
    /// Enable No Snoop.
    pub no_snoop: SnoopPlan,
}

/// A BAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BarPlan {
    /// Which; also the VFIO region.
    pub index: u8,
    /// Bytes.
    #[serde(serialize_with = "hex")]
    pub size: u64,
    /// Bytes that the guest's BAR needs: a whole page where the device's is smaller and direct.
    #[serde(serialize_with = "hex")]
    pub guest_size: u64,
    /// An I/O BAR.
    pub io: bool,
    /// 64-bit, as the guest's is to be.
    pub wide: bool,
    /// Bit 3, as the guest's is to be: by it the guest's kernel decides on write-combining.
    pub prefetchable: bool,
    /// The window in which the guest's is to lie: `prefetchable`, `non-prefetchable`, `io`.
    pub window: &'static str,
    /// The mapping in the VMM.
    pub vma: Option<Layer>,
    /// Stage 2 of the parts that are direct.
    pub stage2: Option<Layer>,
    /// What the guest may ask of them, and gets.
    pub guest: Vec<Gets>,
    /// Its parts, in ascending order and without holes.
    pub parts: Vec<PartPlan>,
}

/// A part of a BAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartPlan {
    /// From the BAR's first byte, and so from the VFIO region's.
    #[serde(serialize_with = "hex")]
    pub offset: u64,
    /// Bytes.
    #[serde(serialize_with = "hex")]
    pub size: u64,
    /// What is wanted of it.
    pub want: Want,
    /// Direct or trapped.
    pub how: How,
    /// Why.
    pub why: String,
    /// The slot, of a direct part.
    pub slot: Option<SlotPlan>,
}

/// Direct or trapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// mmap of the VFIO region, in a memory slot.
    Direct,
    /// No slot: the VMM reads and writes the VFIO region for the guest.
    Trap,
}

impl How {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Trap => "trap",
        }
    }
}

/// A memory slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SlotPlan {
    /// Bytes of the slot and of the mapping: whole pages.
    #[serde(serialize_with = "hex")]
    pub size: u64,
    /// Host and guest address are to be as the physical one modulo this, for leaves as large as can be.
    #[serde(serialize_with = "hex")]
    pub align: u64,
    /// What the physical address is modulo that.
    #[serde(serialize_with = "hex")]
    pub align_offset: u64,
}

/// Enable No Snoop, bit 11 of the PCIe Device Control register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnoopPlan {
    /// The VMM keeps the bit clear, whatever the guest writes. VFIO lets it through.
    pub mask: bool,
    /// Whether the IOMMU takes No Snoop off; nothing if that is not known.
    pub enforced: Option<bool>,
    /// Why.
    pub why: String,
}

/// What KVM is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KvmPlan {
    /// Make KVM_DEV_TYPE_VFIO and add the devices' files (KVM_DEV_VFIO_FILE_ADD): what it decides here depends on it.
    pub vfio_device: bool,
    /// Why.
    pub vfio_device_why: String,
    /// x86: what an EPT leaf of the guest's RAM says.
    pub ram: Option<String>,
    /// x86: whether KVM_X86_QUIRK_IGNORE_GUEST_PAT (bit 9) can be disabled, for a guest that maps its RAM uncached or
    /// write-combining for a virtual device. No BAR depends on it. Nothing if KVM was not asked.
    pub guest_pat_quirk: Option<bool>,
    /// KVM_CAP_ARM_MTE.
    pub mte: bool,
    /// KVM_MEM_LOG_DIRTY_PAGES of the slots.
    pub dirty_log: bool,
}

/// What the guest is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FirmwarePlan {
    /// The IOMMU it sees.
    pub iommu: GuestIommu,
    /// By what it is told.
    pub kind: GuestFirmware,
    /// The DMA of what is behind the host bridge snoops.
    pub coherent: bool,
    /// ACPI: `_CCA` of the host bridge.
    pub cca: Option<u8>,
    /// Device tree: `dma-coherent` on the host bridge's node.
    pub dma_coherent: Option<bool>,
    /// ACPI on arm64: memory access properties of IORT's root complex node.
    pub iort: Option<IortPlan>,
    /// A virtual SMMUv3: COHACC override in IORT, or `dma-coherent` on its node.
    pub smmu_cohacc: Option<bool>,
    /// A virtio-iommu: VIOT, or its node and `iommu-map` of the host bridge.
    pub viommu: Option<ViommuFirmware>,
    /// Sentences, each with its source.
    pub because: Vec<String>,
}

/// Memory access properties of IORT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct IortPlan {
    /// Cache Coherent Attribute.
    pub cca: u32,
    /// Coherent path to memory, flag bit 0.
    pub cpm: bool,
    /// Device attributes are cacheable and inner shareable, flag bit 1.
    pub dacs: bool,
    /// Flag bit 2, from issue E.f on.
    pub canwbs: bool,
}

/// The plan for a VM on this machine.
#[must_use]
pub fn vm(host: &Host, request: &VmRequest) -> Plan {
    let mut making = Making { host, request, refusals: Vec::new(), warnings: Vec::new() };
    making.whole();
    let mut devices: Vec<DevicePlan> = request.devices.iter().filter_map(|d| making.device(d)).collect();
    let firmware = making.firmware(&mut devices);
    let kvm = making.kvm(&devices);
    let viommu = (request.iommu == GuestIommu::VirtioIommu).then(|| viommu::of(host, &request.viommu, &devices));
    let Making { mut refusals, warnings, .. } = making;
    // Stable: within one, by device.
    refusals.sort_by_key(|r| r.by);
    Plan {
        version: VERSION,
        possible: refusals.is_empty(),
        refusals,
        warnings,
        arch: request.arch.or(host.kernel.arch),
        kernel: kernel::version(&host.kernel),
        devices,
        kvm,
        firmware,
        viommu,
    }
}

struct Making<'a> {
    host: &'a Host,
    request: &'a VmRequest,
    refusals: Vec<Refused>,
    warnings: Vec<String>,
}

/// A BAR where a device has none.
pub(crate) static NO_BAR: Bar = Bar {
    index: 0,
    at: None,
    size: Bytes(0),
    io: true,
    wide: false,
    prefetchable: false,
    file: false,
    file_wc: false,
    behind: Vec::new(),
};

impl Making<'_> {
    fn refuse(&mut self, by: By, device: Option<Bdf>, bar: Option<u8>, why: String, remedy: Option<String>) {
        if let Some(same) = self.refusals.iter_mut().find(|r| (r.by, r.device) == (by, device) && r.why == why) {
            same.bars.extend(bar.filter(|b| !same.bars.contains(b)));
            return;
        }
        self.refusals.push(Refused { by, device, bars: bar.into_iter().collect(), why, remedy });
    }

    fn warn(&mut self, what: String) {
        if !self.warnings.contains(&what) {
            self.warnings.push(what);
        }
    }

    /// What is refused of the VM as such.
    fn whole(&mut self) {
        let (host, request) = (self.host, self.request);
        let arch = host.kernel.arch;
        if request.arch.is_some() && request.arch != arch {
            let asked = request.arch.map_or("", Arch::name);
            let here = arch.map_or("of no architecture known here", Arch::name);
            self.refuse(
                By::Request,
                None,
                None,
                format!("arch is {asked} and the host is {here}: KVM runs guests of the host's architecture"),
                Some("leave arch out".into()),
            );
        }
        if request.mte && arch != Some(Arch::Arm64) {
            self.refuse(By::Request, None, None, "mte is of arm64".into(), Some("leave mte out".into()));
        }
        if request.iommu == GuestIommu::Smmuv3 && arch != Some(Arch::Arm64) {
            let remedy = Some("iommu = \"virtio-iommu\" or \"none\"".into());
            self.refuse(By::Request, None, None, "an SMMUv3 is of arm64".into(), remedy);
        }
        if host.kvm == Fact::Absent {
            let remedy = Some("modprobe kvm; firmware may have virtualization turned off".into());
            self.refuse(By::Kvm, None, None, "there is no /dev/kvm".into(), remedy);
        }
        if request.iommu == GuestIommu::Smmuv3 && arch == Some(Arch::Arm64) && !host.vfio.iommufd {
            self.refuse(
                By::Vfio,
                None,
                None,
                "a virtual SMMUv3 before devices of the host nests its stage 1 in the host's SMMU, by iommufd; there is no \
                 /dev/iommu [Linux iommufd, IOMMU_VIOMMU_ALLOC]"
                    .into(),
                Some("modprobe iommufd, on Linux 6.13 or later; or iommu = \"virtio-iommu\"".into()),
            );
        }
    }

    fn device(&mut self, asked: &DeviceRequest) -> Option<DevicePlan> {
        let host = self.host;
        let Some(function) = host.functions.get(&asked.bdf) else {
            let why = format!("there is no {} on this machine", asked.bdf);
            self.refuse(By::Request, Some(asked.bdf), None, why, Some("see `bartender inspect`".into()));
            return None;
        };
        for wanted in &asked.bars {
            if !function.bars.iter().any(|b| b.index == wanted.index) {
                let there: Vec<_> = function.bars.iter().map(|b| b.index.to_string()).collect();
                let remedy = format!("it has BARs {}", there.join(", "));
                let why = format!("{} has no BAR {}", asked.bdf, wanted.index);
                self.refuse(By::Request, Some(asked.bdf), Some(wanted.index), why, Some(remedy));
            }
        }
        let none = Seat::new(host, function, &NO_BAR);
        for block in process::device_blocks(&none) {
            self.refuse(By::Vfio, Some(asked.bdf), None, block.why, block.remedy);
        }
        self.group(function);
        if none.no_iommu() {
            self.warn(format!(
                "{}: VFIO without an IOMMU: the guest can have it write anywhere in the host",
                asked.bdf
            ));
        }
        let bars = function.bars.iter().map(|bar| self.bar(function, bar, asked)).collect();
        let (coherent, coherent_sure) = self.coherent(&none);
        let no_snoop = self.no_snoop(&none, asked);
        if let Some(physical) = function.physical.filter(|_| no_snoop.mask) {
            self.warn(format!(
                "{}: the Enable No Snoop that counts for a virtual function is that of its physical function, {physical}: keep \
                 that clear too [SR-IOV, Device Control of VFs; not verified here]",
                asked.bdf
            ));
        }
        Some(DevicePlan {
            bdf: asked.bdf,
            name: asked.name.clone(),
            group: function.group.known().map(|g| format!("/dev/vfio/{}", g.number)),
            cdev: function.vfio_cdev.as_ref().map(|name| format!("/dev/vfio/devices/{name}")),
            bars,
            coherent,
            coherent_sure,
            no_snoop,
        })
    }

    /// A group goes to one VM whole.
    fn group(&mut self, function: &Function) {
        let Some(group) = function.group.known() else { return };
        let asked = |bdf: &Bdf| self.request.devices.iter().any(|d| d.bdf == *bdf);
        let driver = |bdf: &Bdf| self.host.functions.get(bdf)?.driver.known();
        let others = group.members.iter().filter(|m| !asked(m) && driver(m).is_some_and(|d| seat::is_vfio(d)));
        let others: Vec<_> = others.map(ToString::to_string).collect();
        if !others.is_empty() {
            self.warn(format!(
                "{} is in IOMMU group {} with {}: what is not given to this VM cannot go to another",
                function.bdf,
                group.number,
                others.join(", ")
            ));
        }
    }

    fn bar(&mut self, function: &Function, bar: &Bar, asked: &DeviceRequest) -> BarPlan {
        let seat = Seat::new(self.host, function, bar);
        let wanted = asked.bars.iter().find(|b| b.index == bar.index);
        let by_bit = if bar.prefetchable { Want::WriteCombine } else { Want::Registers };
        let rest = wanted.and_then(|w| w.want);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = 0;
        let whole =
            |from: u64, to: u64| Piece { from, to, want: rest.unwrap_or(by_bit), explicit: rest.is_some(), trap: None };
        for part in wanted.into_iter().flat_map(|w| &w.parts) {
            let end = part.offset.saturating_add(part.size);
            let fault = if part.size == 0 || end > bar.size.0 {
                Some(format!("is not within BAR {}, which has {:#x} bytes", bar.index, bar.size.0))
            } else if !(part.offset | part.size).is_multiple_of(seat.page()) {
                Some(format!("is not of whole pages of the host, {}", bytes(seat.page())))
            } else if part.offset < at {
                Some("overlaps the one before it".into())
            } else {
                None
            };
            if let Some(fault) = fault {
                let why = format!("the part at {:#x} of {:#x} bytes {fault}", part.offset, part.size);
                self.refuse(By::Request, Some(asked.bdf), Some(bar.index), why, None);
                continue;
            }
            if !(part.offset | part.size).is_multiple_of(self.request.page) {
                self.warn(format!(
                    "{} BAR {}: the part at {:#x} ends or begins within a page of the guest's, which cannot map the two \
                     sides differently",
                    asked.bdf, bar.index, part.offset
                ));
            }
            if at < part.offset {
                pieces.push(whole(at, part.offset));
            }
            pieces.push(Piece { from: part.offset, to: end, want: part.want, explicit: true, trap: None });
            at = end;
        }
        if at < bar.size.0 {
            pieces.push(whole(at, bar.size.0));
        }
        cut(&mut pieces, &seat);
        let slot = slot::slot(&seat, Way::Vfio);
        let parts: Vec<PartPlan> = pieces.iter().map(|piece| self.part(&seat, piece, &slot)).collect();
        let direct = parts.iter().any(|p| p.how == How::Direct);
        BarPlan {
            index: bar.index,
            size: bar.size.0,
            guest_size: if direct { bar.size.0.max(seat.page()) } else { bar.size.0 },
            io: bar.io,
            wide: bar.wide,
            prefetchable: bar.prefetchable,
            window: match (bar.io, bar.prefetchable) {
                (true, _) => "io",
                (false, true) => "prefetchable",
                (false, false) => "non-prefetchable",
            },
            vma: direct.then(|| process::vma(&seat, Way::Vfio)),
            stage2: slot.layer.filter(|_| direct),
            guest: if direct { slot.guest } else { Vec::new() },
            parts,
        }
    }

    fn part(&mut self, seat: &Seat<'_>, piece: &Piece, slot: &slot::Slot) -> PartPlan {
        let (bdf, index) = (seat.function.bdf, seat.bar.index);
        let plan = |how, why: String, slot| PartPlan {
            offset: piece.from,
            size: piece.to - piece.from,
            want: piece.want,
            how,
            why,
            slot,
        };
        if let Some(why) = &piece.trap {
            return plan(How::Trap, why.clone(), None);
        }
        if piece.want == Want::Trap {
            return plan(How::Trap, "asked for".into(), None);
        }
        if seat.bar.io {
            return plan(How::Trap, "an I/O BAR cannot be mapped".into(), None);
        }
        let Some(at) = seat.bar.at else {
            return plan(How::Trap, "the BAR has no address".into(), None);
        };
        if let Some(block) = process::unmappable(seat) {
            if piece.explicit && piece.want != Want::Registers {
                let why = format!("{} is wanted, and it cannot be mapped: {}", piece.want.name(), block.why);
                self.refuse(By::Want, Some(bdf), Some(index), why, block.remedy);
            }
            return plan(How::Trap, block.why, None);
        }
        let wanted = had(piece.want, &slot.guest);
        if piece.want == Want::Registers && wanted == Some(false) && slot.refused.is_none() {
            return plan(
                How::Trap,
                "stage 2 makes every access cacheable: no guest can have registers of it".into(),
                None,
            );
        }
        self.kvm_refuses(seat, slot);
        if wanted == Some(false) && slot.refused.is_none() {
            self.not_had(seat, piece, slot);
        }
        if wanted.is_none() {
            self.warn(format!(
                "{bdf} BAR {index}: whether a guest gets {} is not known: {}",
                piece.want.name(),
                slot.layer.as_ref().map_or("the architecture is not known", |l| l.why.as_str())
            ));
        }
        let page = seat.page();
        let first = at.first.0.saturating_add(piece.from);
        let size = (piece.to - piece.from).checked_next_multiple_of(page).unwrap_or(u64::MAX - (page - 1));
        let align = leaf(page, first, size);
        let why = match wanted {
            Some(true) => format!("a guest can have {}", piece.want.name()),
            Some(false) => format!("a guest cannot have {}", piece.want.name()),
            None => format!("whether a guest can have {} is not known", piece.want.name()),
        };
        plan(How::Direct, why, Some(SlotPlan { size, align, align_offset: first % align }))
    }

    /// What KVM refuses of a slot, all of it, in its order.
    fn kvm_refuses(&mut self, seat: &Seat<'_>, slot: &slot::Slot) {
        let (bdf, index) = (seat.function.bdf, seat.bar.index);
        match seat.arch() {
            Some(Arch::Arm64) => {
                let known = kernel::arm(seat);
                let (mut mte, mut log) = (self.request.mte, self.request.dirty_log);
                // Those of every kernel it may be; the last is the one that versions differ in.
                let policies: Vec<_> =
                    known.policies.iter().flat_map(|p| known.cpus.iter().map(move |c| (*p, *c))).collect();
                let refusal = |mte, log| {
                    let mut all = policies.iter().map(|&(policy, cpu)| {
                        let vma = process::as_kvm_sees(seat, Way::Vfio, policy, known.marks)?;
                        Refusal::of(policy, cpu, mte, log, &vma)
                    });
                    let first = all.next()??;
                    all.all(|it| it.is_some()).then_some(first)
                };
                while let Some(why) = refusal(mte, log) {
                    let remedy = match why {
                        Refusal::Mte => "mte = false; or want = \"trap\" of every BAR",
                        Refusal::DirtyLog => {
                            "dirty-log = false: leave the flag off the slots of BARs, of which the device's own driver has to \
                             migrate the state; or want = \"trap\""
                        }
                        Refusal::Cacheable(_) => "no guest can have it directly on this CPU; want = \"trap\"",
                    };
                    let source = if matches!(why, Refusal::Cacheable(_)) { "Linux 6.17" } else { "Linux" };
                    let why_text = format!("{why} [{source}, kvm_arch_prepare_memory_region]");
                    self.refuse(By::Kvm, Some(bdf), Some(index), why_text, Some(remedy.into()));
                    match why {
                        Refusal::Mte => mte = false,
                        Refusal::DirtyLog => log = false,
                        Refusal::Cacheable(_) => break,
                    }
                }
            }
            Some(Arch::Riscv) => {
                if self.request.dirty_log {
                    self.refuse(
                        By::Kvm,
                        Some(bdf),
                        Some(index),
                        format!("{} [Linux 6.12 and 7.2, arch/riscv/kvm/mmu.c]", Refusal::DirtyLog),
                        Some("dirty-log = false".into()),
                    );
                }
                if let Some(why) = &slot.refused {
                    self.refuse(By::Kvm, Some(bdf), Some(index), why.clone(), Some("another kernel".into()));
                }
            }
            _ => {}
        }
    }

    /// The slot is there and a guest cannot have of it what is wanted.
    fn not_had(&mut self, seat: &Seat<'_>, piece: &Piece, slot: &slot::Slot) {
        let (bdf, index) = (seat.function.bdf, seat.bar.index);
        let stage2 = slot.layer.as_ref().map_or("", |l| l.what.as_str());
        let ends = slot.guest.iter().find(|g| g.asks.is_some_and(is_wc)).and_then(|g| g.unaligned.as_ref().err());
        let why = match piece.want {
            Want::WriteCombine => {
                let unaligned = ends.map_or_else(String::new, |e| format!(", and an unaligned access is {e}"));
                format!("a guest cannot have it write-combining: stage 2 is {stage2}{unaligned}")
            }
            want => format!("a guest cannot have it as {}: stage 2 is {stage2}", want.name()),
        };
        if !piece.explicit {
            self.warn(format!("{bdf} BAR {index}: {why}"));
            return;
        }
        let remedy = match (piece.want, seat.arch()) {
            (Want::WriteCombine, Some(Arch::Arm64)) => {
                "Linux 6.9 or later, or 8c47ce3e1d2c with a39d3a966a09; or leave `want` out to take what there is; or \
                 want = \"trap\", which is slow, and takes an unaligned access but no DC ZVA"
            }
            _ => "leave `want` out to take what there is",
        };
        self.refuse(By::Want, Some(bdf), Some(index), why, Some(remedy.into()));
    }

    /// Whether the device's DMA snoops, as the guest is to be told.
    fn coherent(&mut self, seat: &Seat<'_>) -> (bool, Sure) {
        let function = seat.function;
        let bdf = function.bdf;
        let says = function.coherent.known();
        let fwb = self.host.cpu.fwb.known() == Some(&true);
        if let Some(says) = says.filter(|s| !s.coherent) {
            self.warn(format!(
                "{bdf}: the host's firmware says that its DMA does not snoop ({}); VFIO asks only the IOMMU, and maps the \
                 guest's memory cacheable all the same{} [Linux vfio_iommu_type1, iommufd]",
                says.says,
                if fwb {
                    ". Under FWB the guest cannot have its RAM uncached either: a buffer that it maps uncached is cached"
                } else {
                    ""
                }
            ));
            return (false, Sure::Seen(says.says.clone()));
        }
        if seat.errata.iter().any(|e| e.effect.coherent == Some(false)) {
            self.warn(format!("{bdf}: an erratum of this machine says that DMA of PCIe devices does not snoop"));
            return (false, Sure::Rule("errata of the machine".into()));
        }
        let accepts = seat.iommu().and_then(|i| cache_coherency(i, says.map(|s| s.coherent)));
        if seat.iommu().is_some_and(|i| i.kind == IommuKind::Virtio) && says.is_none() {
            let why = Why::Failed("a virtio-iommu says coherent without asking anybody [thread 004]".into());
            return (true, Sure::Rests(vec![Hole { at: "_CCA, dma-coherent".into(), why }]));
        }
        if seat.on_vfio() && function.iommu.known().is_some() {
            let rule = "VFIO has registered the device, which it does only where IOMMU_CAP_CACHE_COHERENCY holds";
            return (true, Sure::Rule(rule.into()));
        }
        match (accepts, says) {
            (Some(true), _) => {
                (true, Sure::Rule("its IOMMU is coherent, and VFIO maps the guest's RAM IOMMU_CACHE".into()))
            }
            (_, Some(says)) => (true, Sure::Seen(says.says.clone())),
            (_, None) => {
                let hole = function.coherent.hole().cloned();
                let hole =
                    hole.unwrap_or(Hole { at: "_CCA, dma-coherent".into(), why: Why::Failed("nothing says".into()) });
                (true, Sure::Rests(vec![hole]))
            }
        }
    }

    fn no_snoop(&mut self, seat: &Seat<'_>, asked: &DeviceRequest) -> SnoopPlan {
        let enforced = seat.enforced().0;
        let x86 = seat.arch() == Some(Arch::X86);
        if seat.function.no_snoop == Fact::Absent {
            return SnoopPlan { mask: false, enforced, why: "it has no PCIe Device Control register".into() };
        }
        let says = |mask, why: &str| SnoopPlan { mask, enforced, why: why.to_owned() };
        // On x86 KVM is told of the device, and lets the guest's PAT and WBINVD count.
        let guest = if x86 { Guest::Maintains } else { Guest::Unaware };
        let mask = config_space::mask(viommu::no_snoop(enforced), guest);
        match (asked.no_snoop, enforced, x86) {
            (Some(SnoopWish::Forbid), ..) => says(true, "asked for"),
            (_, Some(true), _) => says(
                mask,
                if x86 {
                    "the IOMMU takes No Snoop off, so that the guest may set the bit [IOMMU_CAP_ENFORCE_CACHE_COHERENCY]"
                } else {
                    "the host's firmware promises that No Snoop needs no maintenance (CANWBS), so that the guest may set the \
                     bit [IOMMU_CAP_ENFORCE_CACHE_COHERENCY]"
                },
            ),
            (_, None, true) => says(
                mask,
                "whether the IOMMU takes No Snoop off is not known; KVM asks by its VFIO device, and if not, the guest's PAT and \
                 WBINVD count [Linux kvm_vfio_update_coherency]",
            ),
            (_, Some(false), true) => says(
                mask,
                "the IOMMU cannot take No Snoop off; KVM is told by its VFIO device, and the guest's PAT and WBINVD count \
                 [Linux kvm_vfio_update_coherency]",
            ),
            (Some(SnoopWish::Allow), ..) => {
                self.warn(format!(
                    "{}: No Snoop is allowed and nothing takes it off: such DMA goes past the caches, and neither KVM nor VFIO \
                     cleans them. A guest can read what memory held before the host cleared it",
                    asked.bdf
                ));
                says(false, "asked for")
            }
            (None, _, false) => says(
                mask,
                "nothing here takes No Snoop off, and VFIO lets the guest set the bit: keep it clear \
                 [Linux init_pci_cap_exp_perm; thread 004, case C]",
            ),
        }
    }

    fn kvm(&self, devices: &[DevicePlan]) -> KvmPlan {
        let x86 = self.host.kernel.arch == Some(Arch::X86);
        let noncoherent = x86 && devices.iter().any(|d| d.no_snoop.enforced != Some(true));
        let known = devices.iter().all(|d| d.no_snoop.enforced.is_some());
        let vfio_device_why = if devices.is_empty() {
            "there is no device"
        } else if !x86 {
            "nothing of memory types depends on it outside of x86; harmless [Linux kvm_arch_register_noncoherent_dma]"
        } else if !noncoherent {
            "every IOMMU here takes No Snoop off: it changes nothing; harmless"
        } else if known {
            "DMA may go past the caches: with it KVM honours the guest's PAT for RAM and executes WBINVD \
             [Linux kvm_vfio_update_coherency]"
        } else {
            "whether DMA may go past the caches is not known; KVM finds out by it [Linux kvm_vfio_update_coherency]"
        };
        let self_snoop = self.host.cpu.self_snoop.known().copied().unwrap_or(false);
        let intel = slot::maker(self.host) == Some(slot::Maker::Intel);
        let ram = (x86 && intel && !devices.is_empty() && known).then(|| {
            let (major, minor, patch) = self.host.kernel.version?;
            let asked = Asked { noncoherent_dma: noncoherent, self_snoop, ..Asked::RAM };
            let answer = Era::of_release(major, minor, patch).leaf(asked);
            let leaf = match answer.says {
                Says::Leaf { ty, ipat } => format!("{ty}, IPAT {}", u8::from(ipat)),
                Says::GuestMtrr => "the guest's MTRRs, IPAT 0".into(),
            };
            Some(format!("{leaf}: {}", answer.rule))
        });
        KvmPlan {
            vfio_device: noncoherent,
            vfio_device_why: vfio_device_why.into(),
            ram: ram.flatten(),
            guest_pat_quirk: self.host.kvm.known().and_then(|k| k.quirks).filter(|_| x86).map(|q| q >> 9 & 1 != 0),
            mte: self.request.mte,
            dirty_log: self.request.dirty_log,
        }
    }

    fn firmware(&mut self, devices: &mut [DevicePlan]) -> FirmwarePlan {
        let (host, request) = (self.host, self.request);
        let arm = host.kernel.arch == Some(Arch::Arm64);
        let acpi = request.firmware == GuestFirmware::Acpi;
        let coherent = devices.iter().all(|d| d.coherent);
        if devices.iter().any(|d| d.coherent != coherent) {
            let other: Vec<_> = devices.iter().filter(|d| !d.coherent).map(|d| d.bdf.to_string()).collect();
            self.warn(format!(
                "{} differ from the others in coherency, which firmware says of a whole host bridge: give the guest two",
                other.join(", ")
            ));
        }
        let mut because = Vec::new();
        let says = if devices.is_empty() {
            "There is no device whose DMA would say otherwise."
        } else if coherent {
            "VFIO takes only devices whose IOMMU is coherent, and maps the guest's RAM IOMMU_CACHE: the guest may be told so. \
             [Linux __vfio_register_dev, vfio_iommu_type1]"
        } else {
            "DMA of a device does not snoop: the guest has to be told. [_CCA, dma-coherent of the host]"
        };
        because.push(says.to_owned());
        let cca = acpi.then_some(u8::from(coherent));
        if acpi && arm {
            because.push("On arm64 a host bridge without _CCA has no DMA at all. [Linux acpi_init_coherency]".into());
        } else if acpi {
            because.push(
                "Only arm64 needs _CCA; elsewhere one that is missing counts as 1. [Linux ACPI_CCA_REQUIRED]".into(),
            );
        }
        let access: BTreeMap<Bdf, Option<Access>> =
            devices.iter().map(|d| (d.bdf, root_complex(host, d.bdf))).collect();
        let all = |it: fn(Access) -> bool| !access.is_empty() && access.values().all(|a| a.is_some_and(it));
        let nested = request.iommu == GuestIommu::Smmuv3;
        let iort = (acpi && arm).then(|| IortPlan {
            cca: u32::from(coherent),
            cpm: coherent,
            // Without a stage 1 of the guest's before it, VFIO's own mapping makes every access cacheable.
            dacs: coherent && (!nested || all(Access::dacs)),
            canwbs: coherent && all(Access::canwbs),
        });
        if iort.is_some() {
            because.push(
                "Linux reads CANWBS and the SMMU's COHACC override from IORT, and of coherency nothing else: _CCA has to say it. \
                 [Linux drivers/acpi/arm64/iort.c]"
                    .into(),
            );
        }
        match request.iommu {
            GuestIommu::None => {}
            GuestIommu::Smmuv3 => {
                because.push(
                    "A host's SMMU that VFIO takes is coherent, so the virtual one is: COHACC override (IORT), dma-coherent \
                     (device tree). [Linux uapi/linux/iommufd.h: struct iommu_hw_info_arm_smmuv3]"
                        .into(),
                );
                self.nested(devices);
            }
            GuestIommu::VirtioIommu => {
                because.push(
                    "Linux in the guest takes a virtio-iommu for coherent without asking; what is not, the device cannot say: \
                     put no device behind it whose DMA does not snoop. [thread 004, Brucker; viommu_capable]"
                        .into(),
                );
                because.push(match request.firmware {
                    GuestFirmware::Acpi => {
                        "VIOT says which functions are behind the IOMMU, and nothing of coherency: that stays with _CCA and \
                         IORT. [Linux drivers/acpi/viot.c]"
                            .into()
                    }
                    GuestFirmware::DeviceTree => {
                        "The IOMMU's own DMA goes through no IOMMU: iommu-map leaves its requester id out. \
                         [Linux bindings/virtio/pci-iommu.yaml]"
                            .into()
                    }
                });
                if request.viommu.coherency {
                    because.push(
                        "VIRTIO_IOMMU_F_COHERENCY is a proposal: no guest reads it yet, and firmware has to say the same. \
                         [docs/virtio-iommu-coherency.md]"
                            .into(),
                    );
                }
                if !coherent {
                    self.warn("a device whose DMA does not snoop is behind the virtio-iommu: VFIO in the guest will not see it".into());
                    self.warn(
                        "the virtio-iommu's own queues are coherent memory: put it behind a host bridge of which the guest is told \
                         that [thread 004, case D]"
                            .into(),
                    );
                }
            }
        }
        FirmwarePlan {
            iommu: request.iommu,
            kind: request.firmware,
            coherent,
            cca,
            dma_coherent: (!acpi).then_some(coherent),
            iort,
            smmu_cohacc: nested.then_some(true),
            viommu: (request.iommu == GuestIommu::VirtioIommu)
                .then(|| viommu::firmware(&request.viommu, request.firmware)),
            because,
        }
    }

    /// A guest's stage 1 nested in the host's SMMU needs CANWBS or S2FWB.
    fn nested(&mut self, devices: &[DevicePlan]) {
        for device in devices {
            let Some(function) = self.host.functions.get(&device.bdf) else { continue };
            let seat = Seat::new(self.host, function, &NO_BAR);
            let Some(iommu) = seat.iommu() else { continue };
            let canwbs = root_complex(self.host, device.bdf).map(Access::canwbs);
            match (iommu.s2fwb.known(), canwbs) {
                (Some(true), _) | (_, Some(true)) => {}
                (Some(false), Some(false)) => self.refuse(
                    By::Vfio,
                    Some(device.bdf),
                    None,
                    "a virtual SMMUv3 needs the host's to have S2FWB, or CANWBS of the root complex: without both a guest's \
                     stage 1 makes DMA not coherent [Linux 6.13, arm_vsmmu_alloc]"
                        .into(),
                    Some("iommu = \"virtio-iommu\" or \"none\"".into()),
                ),
                _ => self.warn(format!(
                    "{}: a virtual SMMUv3 needs S2FWB of the host's SMMU or CANWBS of its root complex, and neither is known",
                    device.bdf
                )),
            }
        }
    }
}

/// Memory access properties of the root complex above a function, in the host's IORT.
fn root_complex(host: &Host, bdf: Bdf) -> Option<Access> {
    let node = host.firmware.iort.known()?.root_complex(bdf.domain())?;
    match node.kind {
        Kind::RootComplex { access, .. } => Some(access),
        _ => None,
    }
}

/// A stretch of a BAR on the way to a part: up to `to`, without it.
struct Piece {
    from: u64,
    to: u64,
    want: Want,
    explicit: bool,
    trap: Option<String>,
}

/// Cuts out what cannot be mapped: the pages of the MSI-X table, and what VFIO says is no part of what can be.
fn cut(pieces: &mut Vec<Piece>, seat: &Seat<'_>) {
    let mask = seat.page() - 1;
    let mut holes: Vec<(u64, u64, &str)> = Vec::new();
    if let Some(msix) = seat.function.msix.known()
        && msix.table.0 == seat.bar.index
    {
        let first = u64::from(msix.table.1);
        let last = first + (u64::from(msix.vectors) * 16).max(1) - 1;
        holes.push((first & !mask, (last | mask) + 1, "the MSI-X table is in these pages: the VMM emulates it"));
    }
    let opened = seat.function.opened.known().and_then(|o| o.regions.get(&u32::from(seat.bar.index)));
    if let Some(sparse) = opened.and_then(|r| r.sparse.as_ref()) {
        let mut areas = sparse.clone();
        areas.sort_unstable();
        let mut at = 0;
        for (offset, size) in areas {
            if at < offset {
                holes.push((at, offset, "VFIO does not let these pages be mapped"));
            }
            at = at.max(offset.saturating_add(size));
        }
        if at < seat.bar.size.0 {
            holes.push((at, seat.bar.size.0, "VFIO does not let these pages be mapped"));
        }
    }
    for (from, to, why) in holes {
        let mut out = Vec::new();
        for piece in pieces.drain(..) {
            let (a, b) = (from.clamp(piece.from, piece.to), to.clamp(piece.from, piece.to));
            if a == b {
                out.push(piece);
                continue;
            }
            let like = |from, to, trap| Piece { from, to, want: piece.want, explicit: piece.explicit, trap };
            if piece.from < a {
                out.push(like(piece.from, a, piece.trap.clone()));
            }
            out.push(like(a, b, Some(why.to_owned())));
            if b < piece.to {
                out.push(like(b, piece.to, piece.trap.clone()));
            }
        }
        *pieces = out;
    }
}

/// Whether a guest can have what is wanted; nothing if that is not known.
fn had(want: Want, guest: &[Gets]) -> Option<bool> {
    let get: Vec<MemoryType> = guest.iter().filter_map(|g| g.gets).collect();
    let open = guest.is_empty() || get.len() < guest.len();
    let yes = match want {
        Want::Trap => return Some(true),
        Want::Registers => get.iter().any(|ty| !gathers(*ty) && !reads_ahead(*ty)),
        Want::WriteCombine => {
            let wc = guest.iter().find(|g| g.asks.is_some_and(is_wc))?;
            return wc.gets.map(|ty| gathers(ty) && !cacheable(ty));
        }
        Want::Cached => get.iter().any(|ty| cacheable(*ty)),
    };
    if yes {
        Some(true)
    } else if open {
        None
    } else {
        Some(false)
    }
}

/// The largest leaf that a slot can have, were host and guest address aligned to the physical one.
fn leaf(page: u64, first: u64, size: u64) -> u64 {
    // A table is a page of 8-byte entries. Above level 2 only pages of 4 KiB have blocks everywhere.
    let block = page * (page / 8);
    let huge = if page == 4096 { block * 512 } else { block };
    let holds = |leaf: u64| {
        let start = first.checked_next_multiple_of(leaf);
        start.is_some_and(|s| s.checked_add(leaf).is_some_and(|e| e <= first.saturating_add(size)))
    };
    [huge, block].into_iter().find(|l| holds(*l)).unwrap_or(page)
}

/// A file that asks for the devices of this machine that a VM could have, for [`request`](crate::request::request).
#[must_use]
pub fn example(host: &Host) -> String {
    use std::fmt::Write as _;
    // Those that a file can name.
    let known = [Arch::Arm64, Arch::X86, Arch::Riscv, Arch::LoongArch];
    let arch = host.kernel.arch.filter(|arch| known.contains(arch));
    let (none, arch) = arch.map_or(("# ", "arm64"), |arch| ("", arch.name()));
    let mte = if (none, arch) == ("", "arm64") { "" } else { "# " };
    let mut out =
        "# A VM with devices of this machine, for `bartender plan`. Everything but `bdf` may be left out.\n\n[vm]\n"
            .to_owned();
    for (key, says) in [
        (format!("{none}arch = \"{arch}\""), "the host's"),
        ("vmm = \"kvm\"".into(), "there is no other"),
        (format!("{mte}mte = false"), "arm64: memory tagging for the guest"),
        ("dirty-log = false".into(), "migration with dirty logging of every slot"),
        ("iommu = \"none\"".into(), "or \"smmuv3\", \"virtio-iommu\""),
        ("firmware = \"acpi\"".into(), "or \"device-tree\""),
        ("page = \"4K\"".into(), "of the guest"),
    ] {
        let _ = writeln!(out, "{key:<20} # {says}");
    }
    let ready = |f: &&Function| Seat::new(host, f, &NO_BAR).on_vfio();
    let endpoint = |f: &&Function| f.class >> 16 != 0x06 && f.bars.iter().any(|b| !b.io && b.at.is_some());
    let mut some: Vec<&Function> = host.functions.values().filter(endpoint).filter(ready).collect();
    if some.is_empty() {
        out.push_str("\n# No device is bound to vfio-pci. What could be:\n");
        some = host.functions.values().filter(endpoint).take(8).collect();
    }
    if some.is_empty() {
        out.push_str("# nothing: there is no PCI device with memory here\n");
    }
    let comment = if some.iter().any(ready) { "" } else { "# " };
    for function in some.into_iter().take(crate::request::MAX_DEVICES) {
        let name = function.name.map_or_else(|| function.id.to_string(), |(v, d)| format!("{v} {}", d.unwrap_or("")));
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        let _ = write!(out, "\n{comment}[[device]] # {}\n{comment}bdf = \"{}\"\n", name.trim(), function.bdf);
        if let Some(bar) = function.bars.iter().find(|b| b.prefetchable && !b.io && b.size.0 >= seat::page(host)) {
            let _ = writeln!(out, "{comment}bars = [ {{ index = {}, want = \"write-combine\" }} ]", bar.index);
        }
    }
    out
}
