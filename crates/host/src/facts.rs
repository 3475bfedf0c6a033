//! What is gathered, as values. Nothing here decides; crate `plan` does.

use std::collections::BTreeMap;

use memtype::Arch;
use platform::{Bdf, errata::Midr, errata::PciId};
use serde::{Deserialize, Serialize, Serializer};

pub use bar::text::{Cachemode, Reserved};
pub use bar::vfio::{Opened, OpenedRegion};

use crate::fact::{Fact, Hole};

/// A physical address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pa(pub u64);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// Physical addresses from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// The first.
    pub first: Pa,
    /// The last; not below the first.
    pub last: Pa,
}

impl Serialize for Pa {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:#x}", self.0))
    }
}

impl Span {
    /// From one to another; nothing if the last is below the first.
    #[must_use]
    pub const fn new(first: Pa, last: Pa) -> Option<Self> {
        if last.0 < first.0 { None } else { Some(Self { first, last }) }
    }
    /// Whether they have a byte in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first.0 <= other.last.0 && other.first.0 <= self.last.0
    }
    /// Whether the other lies wholly within.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.first.0 <= other.first.0 && other.last.0 <= self.last.0
    }
    /// How many bytes; the whole of 2^64 saturates.
    #[must_use]
    pub const fn size(self) -> Bytes {
        Bytes((self.last.0 - self.first.0).saturating_add(1))
    }
}

/// The machine, as far as it could be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// The running kernel and what it runs on.
    pub kernel: Kernel,
    /// The CPU.
    pub cpu: Cpu,
    /// KVM, asked for behaviour.
    pub kvm: Fact<Kvm>,
    /// VFIO.
    pub vfio: Vfio,
    /// The IOMMUs, by their names in `/sys/class/iommu`.
    pub iommus: BTreeMap<String, Iommu>,
    /// Every PCI function, by address.
    pub functions: BTreeMap<Bdf, Function>,
    /// What the firmware says.
    pub firmware: Firmware,
    /// x86: `/sys/kernel/debug/x86/pat_memtype_list`.
    pub pat: Fact<Vec<Reserved>>,
    /// x86: `/proc/mtrr`.
    pub mtrr: Fact<Vec<Mtrr>>,
    /// The "System RAM" of `/proc/iomem`: what is outside of it is device memory to KVM.
    pub ram: Fact<Vec<Span>>,
    /// Names of the errata that match (`platform::errata`).
    pub errata: Vec<&'static str>,
    /// Everything that could not be found out, in the order in which it was asked.
    pub holes: Vec<Hole>,
}

/// The running kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// `uname -r`: a hint, never proof.
    pub release: Fact<String>,
    /// The first numbers of it, as (major, minor, patch).
    pub version: Option<(u16, u16, u16)>,
    /// `uname -m`, if it is an architecture that has memory types here.
    #[serde(serialize_with = "arch_name")]
    pub arch: Option<Arch>,
    /// Bytes of a page.
    pub page: Bytes,
    /// Parameters of the kernel that decide something here (`iommu=`, `nopat`, `pci=`, `intel_iommu=`, `arm-smmu.…`); no others.
    pub parameters: Fact<Vec<String>>,
    /// Lockdown: `none`, `integrity` or `confidentiality`.
    pub lockdown: Fact<String>,
    /// Under which hypervisor it runs, where that can be told.
    pub hypervisor: Fact<String>,
}

fn arch_name<S: Serializer>(arch: &Option<Arch>, to: S) -> Result<S::Ok, S::Error> {
    match arch {
        Some(arch) => to.serialize_some(arch.name()),
        None => to.serialize_none(),
    }
}

/// The CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// The model in words.
    pub model: Fact<String>,
    /// arm64: MIDR_EL1 of every kind of core there is.
    #[serde(serialize_with = "midrs")]
    pub midr: Fact<Vec<Midr>>,
    /// arm64: FEAT_S2FWB, ID_AA64MMFR2_EL1.FWB as KVM gives it, or the kernel's log.
    pub fwb: Fact<bool>,
    /// arm64: CTR_EL0.DIC.
    pub dic: Fact<bool>,
    /// arm64: FEAT_LS64, `ls64` of the HWCAPs.
    pub ls64: Fact<bool>,
    /// arm64: FEAT_DGH, `dgh` of the HWCAPs.
    pub dgh: Fact<bool>,
    /// x86: `pat` of the flags, and not turned off.
    pub pat: Fact<bool>,
    /// x86: `mtrr`.
    pub mtrr: Fact<bool>,
    /// x86: `ss`, self-snoop.
    pub self_snoop: Fact<bool>,
    /// x86: `movdir64b`.
    pub movdir64b: Fact<bool>,
    /// x86: `vmx`: KVM nests by EPT.
    pub vmx: Fact<bool>,
    /// x86: `svm`: KVM nests by NPT.
    pub svm: Fact<bool>,
}

fn midrs<S: Serializer>(midr: &Fact<Vec<Midr>>, to: S) -> Result<S::Ok, S::Error> {
    midr.clone().map(|all| all.iter().map(|m| format!("{:#010x} {m}", m.0)).collect::<Vec<_>>()).serialize(to)
}

/// What KVM answers, asked with a VM of no memory that is gone again at once. In a snapshot as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kvm {
    /// arm64, `KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED` (243) on the VM; nothing if the kernel does not know it.
    pub cacheable_pfnmap: Option<bool>,
    /// arm64: `ID_AA64MMFR2_EL1` of a vCPU; bits 43:40 are FWB.
    pub mmfr2: Option<u64>,
    /// arm64: `CTR_EL0` of a vCPU; bit 29 is DIC.
    pub ctr: Option<u64>,
    /// x86: the quirks that can be turned off, `KVM_CHECK_EXTENSION(KVM_CAP_DISABLE_QUIRKS2)`.
    pub quirks: Option<u64>,
    /// Bits of an intermediate physical address.
    pub ipa_bits: Option<u32>,
    /// x86: whether stages nest in hardware (`ept` or `npt`), from the module's parameter.
    pub nested_paging: Option<bool>,
    /// Whether there is `KVM_DEV_TYPE_VFIO`, by which KVM is told of non-coherent DMA.
    pub vfio_device: Option<bool>,
}

/// VFIO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vfio {
    /// `/dev/vfio/vfio` is there: group and container.
    pub container: bool,
    /// `/dev/iommu` is there: iommufd.
    pub iommufd: bool,
    /// `vfio-pci` is loaded.
    pub driver: bool,
    /// `enable_unsafe_noiommu_mode`.
    pub noiommu: Fact<bool>,
}

/// An IOMMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Iommu {
    /// What it is.
    pub kind: IommuKind,
    /// It takes No Snoop off where the domain asks (VT-d ECAP.SC, AMD; SMMUv3 with CANWBS): `IOMMU_CAP_ENFORCE_CACHE_COHERENCY`.
    pub enforces: Fact<bool>,
    /// Its own table walks are coherent (VT-d ECAP.C, SMMUv3 COHACC or `dma-coherent`).
    pub coherent_walk: Fact<bool>,
    /// SMMUv3 IDR3.FWB: a VM's stage 1 cannot make DMA non-coherent. No file says it; asked of iommufd.
    pub s2fwb: Fact<bool>,
    /// The register it was read from, where it was: VT-d ECAP, AMD EFR.
    pub register: Option<u64>,
}

/// A kind of IOMMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IommuKind {
    /// Intel VT-d.
    IntelVtd,
    /// AMD-Vi.
    Amd,
    /// Arm SMMUv3.
    SmmuV3,
    /// Arm SMMUv1 or v2.
    Smmu,
    /// virtio-iommu: it says coherent without asking anybody (thread 004).
    Virtio,
    /// RISC-V IOMMU.
    Riscv,
    /// Another.
    Other,
}

impl IommuKind {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::IntelVtd, Self::Amd, Self::SmmuV3, Self::Smmu, Self::Virtio, Self::Riscv, Self::Other];

    /// As JSON and a condition of crate `diagnose` have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IntelVtd => "intel-vtd",
            Self::Amd => "amd",
            Self::SmmuV3 => "smmu-v3",
            Self::Smmu => "smmu",
            Self::Virtio => "virtio",
            Self::Riscv => "riscv",
            Self::Other => "other",
        }
    }
}

/// A PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Function {
    /// Where.
    pub bdf: Bdf,
    /// Vendor and device.
    #[serde(serialize_with = "shown")]
    pub id: PciId,
    /// What the PCI id database calls it, if it has it: vendor, device.
    pub name: Option<(&'static str, Option<&'static str>)>,
    /// Class code, 24 bits.
    pub class: u32,
    /// The BARs that are there.
    pub bars: Vec<Bar>,
    /// A bridge's windows.
    pub windows: Vec<Window>,
    /// The bridges above it, the root port first.
    pub above: Vec<Bdf>,
    /// The driver it is bound to.
    pub driver: Fact<String>,
    /// The IOMMU group.
    pub group: Fact<Group>,
    /// The IOMMU that stands before it: a key of [`Host::iommus`].
    pub iommu: Fact<String>,
    /// Its VFIO cdev, `vfio0`: it is registered with VFIO, which took it only because its IOMMU says IOMMU_CAP_CACHE_COHERENCY.
    pub vfio_cdev: Option<String>,
    /// The command register: memory decode, bus mastering.
    pub command: Fact<Command>,
    /// `D0`, `D3hot`, `unknown`.
    pub power: Fact<String>,
    /// PCIe Device Control, Enable No Snoop.
    pub no_snoop: Fact<bool>,
    /// Where MSI-X lives.
    pub msix: Fact<Msix>,
    /// A virtual function of that one.
    pub physical: Option<Bdf>,
    /// What the firmware says of its DMA.
    pub coherent: Fact<Coherent>,
    /// What VFIO answered when it was opened.
    pub opened: Fact<Opened>,
}

fn shown<S: Serializer, T: std::fmt::Display>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// A BAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Which, 0 to 5.
    pub index: u8,
    /// Where it is; nothing if it was given no address (the file says 0, or the viewer may not know).
    pub at: Option<Span>,
    /// How many bytes.
    pub size: Bytes,
    /// An I/O BAR: has no memory type.
    pub io: bool,
    /// 64-bit.
    pub wide: bool,
    /// Bit 3.
    pub prefetchable: bool,
    /// `resourceN` is there.
    pub file: bool,
    /// `resourceN_wc` is there.
    pub file_wc: bool,
    /// The windows it lies in, the root port's first: prefetchable or not.
    pub behind: Vec<Window>,
}

/// A window of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The bridge.
    pub bridge: Bdf,
    /// Which addresses.
    pub span: Span,
    /// The prefetchable window.
    pub prefetchable: bool,
    /// The I/O window.
    pub io: bool,
}

/// An IOMMU group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its number.
    pub number: u32,
    /// `/sys/kernel/iommu_groups/N/type`: `DMA`, `identity`, `blocked`, …
    pub kind: Fact<String>,
    /// Every function in it, this one too.
    pub members: Vec<Bdf>,
}

/// Of the command register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Command {
    /// Memory Space Enable.
    pub memory: bool,
    /// Bus Master Enable.
    pub master: bool,
}

/// The MSI-X capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Msix {
    /// Vectors.
    pub vectors: u16,
    /// The table: BAR and offset.
    pub table: (u8, u32),
    /// The pending bits: BAR and offset.
    pub pba: (u8, u32),
}

/// What the firmware says of a function's DMA, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coherent {
    /// It snoops the CPU's caches.
    pub coherent: bool,
    /// Who says so: `_CCA of \_SB.PCI0`, `dma-coherent of /pcie@10000000`, `the architecture's default`.
    pub says: String,
}

/// What the firmware says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Firmware {
    /// `acpi`, `device-tree`, or neither.
    pub kind: Option<&'static str>,
    /// The `compatible` of the device tree's root.
    pub compatible: Vec<String>,
    /// IORT.
    pub iort: Fact<firmware::iort::Iort>,
    /// MCFG.
    pub mcfg: Fact<Vec<firmware::mcfg::Ecam>>,
    /// VIOT.
    pub viot: Fact<firmware::viot::Viot>,
    /// `_CCA` by the path of its device, out of the DSDT and SSDTs.
    pub cca: Fact<BTreeMap<String, bool>>,
    /// PCI host bridges of the device tree.
    pub bridges: Fact<Vec<firmware::dt::HostBridge>>,
}

/// A variable-range MTRR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mtrr {
    /// Which.
    pub register: u8,
    /// Which addresses.
    pub span: Span,
    /// `uncachable`, `write-combining`, … as x86 names it here: `uc`, `wc`.
    #[serde(serialize_with = "shown_type")]
    pub kind: memtype::x86::Type,
}

fn shown_type<S: Serializer>(ty: &memtype::x86::Type, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(ty.name())
}

/// What has no file. Others ask it (`vmm` of KVM, `bar` of VFIO and the CPU) and hand it in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// KVM.
    pub kvm: Fact<Kvm>,
    /// arm64: CTR_EL0, which a process may read.
    pub ctr: Fact<u64>,
    /// Devices opened through VFIO.
    pub opened: BTreeMap<Bdf, Fact<Opened>>,
    /// `sysconf(_SC_PAGESIZE)`.
    pub page: Bytes,
}
