//! What every layer looks at: one BAR of one function of one machine.

use std::cell::OnceCell;

use host::{Bar, Fact, Function, Hole, Host, Iommu, IommuKind, Span, Why};
use memtype::Arch;
use platform::Platform;
use platform::errata::{self, Erratum};

use crate::Sure;
use crate::kernel::Marks;

/// One BAR of one function of one machine.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    pub(crate) host: &'a Host,
    pub(crate) function: &'a Function,
    pub(crate) bar: &'a Bar,
    /// The errata that match the machine.
    pub(crate) errata: Vec<&'static Erratum>,
    /// The usual platform, with what the errata do to it.
    pub(crate) platform: Platform,
    /// What is seen of any BAR that vfio-pci mapped, when it is looked for.
    pub(crate) elsewhere: OnceCell<Option<Marks>>,
}

impl<'a> Seat<'a> {
    pub(crate) fn new(host: &'a Host, function: &'a Function, bar: &'a Bar) -> Self {
        let errata: Vec<_> = host.errata.iter().filter_map(|name| errata::named(name)).collect();
        let mut platform = errata.iter().fold(Platform::USUAL, |p, e| e.apply(p));
        if let Some(says) = function.coherent.known() {
            platform.coherent &= says.coherent;
        }
        Self { host, function, bar, errata, platform, elsewhere: OnceCell::new() }
    }

    pub(crate) const fn arch(&self) -> Option<Arch> {
        self.host.kernel.arch
    }
    /// Bytes of a page of the host; 4 KiB where it says nonsense.
    pub(crate) const fn page(&self) -> u64 {
        page(self.host)
    }
    /// The IOMMU before the function.
    pub(crate) fn iommu(&self) -> Option<&'a Iommu> {
        self.host.iommus.get(self.function.iommu.known()?)
    }
    /// Whether the device's DMA is not confined, since VFIO is to be used without an IOMMU.
    pub(crate) fn no_iommu(&self) -> bool {
        self.function.iommu == Fact::Absent && self.host.vfio.noiommu == Fact::Known(true)
    }
    /// Whether the driver it is bound to is one of VFIO's.
    pub(crate) fn on_vfio(&self) -> bool {
        self.function.vfio_cdev.is_some() || self.function.driver.known().is_some_and(|d| is_vfio(d))
    }
    /// Whether No Snoop is taken off, IOMMU_CAP_ENFORCE_CACHE_COHERENCY; nothing if that is not known. And how sure that is.
    pub(crate) fn enforced(&self) -> (Option<bool>, Sure) {
        let by =
            |it: &Iommu| it.enforces.known().map(|e| (*e, Sure::Rule(format!("by what the {} says", it.kind.name()))));
        let opened = || {
            let it = self.function.opened.known()?.enforces_coherency?;
            Some((it, Sure::Seen("VFIO_DMA_CC_IOMMU of the device's container, or the file's own answer".into())))
        };
        if let Some((it, sure)) = self.iommu().and_then(by).or_else(opened) {
            return (Some(it), sure);
        }
        let hole = self.iommu().and_then(|it| it.enforces.hole()).or(self.function.iommu.hole()).cloned();
        let none = || Hole { at: "IOMMU_CAP_ENFORCE_CACHE_COHERENCY".into(), why: Why::Failed("nothing says".into()) };
        (None, Sure::Rests(vec![hole.unwrap_or_else(none)]))
    }
    /// NVIDIA's variant, which maps part of the device's memory cacheable.
    pub(crate) fn nvgrace(&self) -> bool {
        self.function.driver.known().is_some_and(|d| d.starts_with("nvgrace"))
    }
    /// Whether an erratum or the firmware says that the device's DMA does not snoop.
    pub(crate) const fn incoherent(&self) -> bool {
        !self.platform.coherent
    }
    /// Whether the BAR lies in the kernel's own memory: false where that is not known, since no BAR of a sound machine does.
    pub(crate) fn in_ram(&self) -> bool {
        let Some(at) = self.bar.at else { return false };
        self.host.ram.known().is_some_and(|ram| ram.iter().any(|r| r.overlaps(at)))
    }
    /// BARs of any function that share a page with this one.
    pub(crate) fn page_sharers(&self, at: Span) -> impl Iterator<Item = (&'a Function, &'a Bar)> {
        let mask = self.page() - 1;
        let (first, last) = (at.first.0 & !mask, at.last.0 | mask);
        let me = (self.function.bdf, self.bar.index);
        self.host.functions.values().flat_map(|f| f.bars.iter().map(move |b| (f, b))).filter(move |(f, b)| {
            (f.bdf, b.index) != me && !b.io && b.at.is_some_and(|s| s.first.0 <= last && first <= s.last.0)
        })
    }
    /// Why the version is not known.
    pub(crate) fn version_hole(&self) -> Hole {
        match &self.host.kernel.release {
            Fact::Hole(hole) => hole.clone(),
            Fact::Known(text) => Hole { at: "uname -r".into(), why: Why::Malformed(text.clone()) },
            Fact::Absent => Hole { at: "uname -r".into(), why: Why::Failed("there is none".into()) },
        }
    }
    /// Why the architecture is not known.
    pub(crate) fn arch_hole() -> Hole {
        Hole { at: "uname -m".into(), why: Why::Failed("an architecture whose memory types are not known here".into()) }
    }
}

/// Bytes of a page of the host; 4 KiB where it says nonsense.
pub(crate) const fn page(host: &Host) -> u64 {
    let page = host.kernel.page.0;
    if page.is_power_of_two() && page >= 4096 && page <= 1 << 20 { page } else { 4096 }
}

/// Whether a driver is VFIO's: `vfio-pci` and the variants, which all have it in their names.
pub(crate) fn is_vfio(driver: &str) -> bool {
    driver.contains("vfio")
}

/// Whether Linux takes an IOMMU for one with which DMA can be coherent, IOMMU_CAP_CACHE_COHERENCY: what VFIO asks of it.
/// Nothing if that is not known.
pub(crate) fn cache_coherency(iommu: &Iommu, device_is_coherent: Option<bool>) -> Option<bool> {
    match iommu.kind {
        IommuKind::IntelVtd | IommuKind::Amd | IommuKind::Virtio => Some(true),
        IommuKind::SmmuV3 => iommu.coherent_walk.known().copied(),
        // COHERENT_WALK, or what firmware says of the device.
        IommuKind::Smmu => match (iommu.coherent_walk.known(), device_is_coherent) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        IommuKind::Riscv => Some(false),
        IommuKind::Other => None,
    }
}
