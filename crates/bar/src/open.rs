//! A function's BARs: opened, and mapped by the best way that this kernel has for the type asked for.
//!
//! ```no_run
//! use bar::{Attributes, Bar, Device};
//! use memtype::Attribute;
//!
//! let gpu = Device::new("0000:01:00.0".parse()?);
//! let bar = Bar::open(&gpu, 2)?;
//! let frames = bar.map(0x10_0000..0x20_0000, Attributes::of(Attribute::WriteCombine))?;
//! let registers = bar.map(0..0x1000, Attributes::default())?;
//! println!("{} by {}, {}", frames.ty().ty, frames.way(), frames.ty().known);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! VFIO and sysfs do not go together on one function: what VFIO has claimed sysfs does not map, and what sysfs has mapped VFIO's claim
//! takes away. Parts of several types are therefore all mapped by sysfs: map the write-combining ones first, and the others follow.

mod confirm;
mod sysfs;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use memtype::linux::{self, Helper};
use memtype::{Arch, Attribute, MemoryType, x86};
use platform::Bdf;

use crate::mapping::{Mapping, Parts};
use crate::registry::{Conflict, Live, Machine, Registry};
use crate::sys::Vma;
use crate::text::{Cachemode, Resource, resources};
use crate::vfio::{self, By, Removal};
use crate::{Why, cpu};

/// The architecture this is built for.
pub const ARCH: Arch = if cfg!(target_arch = "aarch64") { Arch::Arm64 } else { Arch::X86 };

/// A way from a BAR to a mapping of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// mmap of VFIO's device file, by group and container.
    VfioGroup,
    /// The same, by cdev and iommufd.
    VfioCdev,
    /// A region of VFIO that is another's alias with an attribute. Proposed; no kernel has it.
    VfioAlias,
    /// A dma-buf of VFIO with an attribute. Proposed; no kernel has it.
    VfioDmaBuf,
    /// mmap of `resourceN`.
    Sysfs,
    /// mmap of `resourceN_wc`.
    SysfsWc,
}

impl Way {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::VfioGroup, Self::VfioCdev, Self::VfioAlias, Self::VfioDmaBuf, Self::Sysfs, Self::SysfsWc];

    /// `vfio-group`, `sysfs-write-combine`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VfioGroup => "vfio-group",
            Self::VfioCdev => "vfio-cdev",
            Self::VfioAlias => "vfio-alias",
            Self::VfioDmaBuf => "vfio-dma-buf",
            Self::Sysfs => "sysfs",
            Self::SysfsWc => "sysfs-write-combine",
        }
    }
    /// By name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }
    /// By which of Linux's helpers it maps, where it exists.
    #[must_use]
    pub const fn helper(self) -> Option<Helper> {
        match self {
            // vfio_pci_core_mmap(), drivers/vfio/pci/vfio_pci_core.c, 6.1 to 7.3.
            Self::VfioGroup | Self::VfioCdev => Some(Helper::PgprotNoncached),
            // pci_mmap_resource_range(), drivers/pci/mmap.c.
            Self::Sysfs => Some(Helper::PgprotDevice),
            Self::SysfsWc => Some(Helper::PgprotWritecombine),
            Self::VfioAlias | Self::VfioDmaBuf => None,
        }
    }
    /// What it needs, in words.
    #[must_use]
    pub const fn needs(self) -> &'static str {
        match self {
            Self::VfioGroup => {
                "bound to vfio-pci, all of its IOMMU group too; resets the function; nobody else has the group open"
            }
            Self::VfioCdev => "bound to vfio-pci; a kernel with IOMMUFD and cdevs; resets the function",
            Self::VfioAlias => "a kernel that does not exist: proposed by Williamson and Adam, kvm list, 2025-08",
            Self::VfioDmaBuf => "a kernel that does not exist: proposed by Evans, kvm list, 2026-06",
            Self::Sysfs => "root, no lockdown; memory decode on; the BAR not claimed exclusively by a driver",
            Self::SysfsWc => "as sysfs; a prefetchable BAR; arm64, powerpc, x86 with PAT, s390 from 7.2",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How it is known which type a mapping has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// By Linux's source: this helper, always.
    Rule(Helper),
    /// By Linux's source, under a condition that could not be looked at.
    Unless {
        /// This helper.
        helper: Helper,
        /// Under this condition.
        condition: &'static str,
        /// What it is otherwise.
        otherwise: MemoryType,
        /// Why the condition could not be looked at.
        unseen: String,
    },
    /// x86: the kernel's PAT memtype list has it, and a BAR's MTRR says UC.
    Seen(Cachemode),
    /// A variant driver of VFIO maps it its own way, by its source.
    Driver(&'static str),
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(helper) => write!(f, "by rule: {helper}()"),
            Self::Unless { helper, condition, otherwise, unseen } => {
                write!(f, "by rule: {helper}(), {condition}, else {otherwise}; not seen: {unseen}")
            }
            Self::Seen(kind) => write!(f, "seen in pat_memtype_list: {kind}"),
            Self::Driver(why) => write!(f, "by rule: {why}"),
        }
    }
}

/// The type of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Which.
    pub ty: MemoryType,
    /// How it is known.
    pub known: Known,
}

impl Type {
    /// Whether it is what was asked for, whichever way an open condition turns out. What the attributes are on an architecture is
    /// what Linux's helpers give there.
    #[must_use]
    pub fn is(&self, asked: Attribute) -> bool {
        let arch = self.ty.arch();
        let gives = |helpers: &[Helper], ty: MemoryType, or_else: bool| {
            let found = helpers.iter().filter_map(|helper| linux::of(arch, *helper));
            found.into_iter().any(|entry| entry.ty == Some(ty) || or_else && entry.otherwise == Some(ty))
        };
        let one = |ty| match asked {
            Attribute::Default => true,
            Attribute::Uncached => gives(&[Helper::PgprotNoncached, Helper::PgprotDevice], ty, true),
            Attribute::WriteCombine => gives(&[Helper::PgprotWritecombine], ty, false),
            Attribute::Cached => gives(&[Helper::IoremapCache], ty, false),
        };
        let otherwise = match &self.known {
            Known::Unless { otherwise, .. } => Some(*otherwise),
            _ => None,
        };
        one(self.ty) && otherwise.is_none_or(one)
    }
}

/// What is asked of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Which type.
    pub kind: Attribute,
    /// Take what can be had, where the type asked for cannot.
    pub accept_less: bool,
    /// By this way and no other.
    pub by: Option<Way>,
    /// Only to read.
    pub read_only: bool,
    /// Allow a writable mapping by sysfs of the pages of the MSI-X table, by which any address could be made the target of an
    /// interrupt's write.
    pub over_msix: bool,
}

impl Attributes {
    /// Of a type, by the best way, to read and write.
    #[must_use]
    pub const fn of(kind: Attribute) -> Self {
        Self { kind, accept_less: false, by: None, read_only: false, over_msix: false }
    }
}

/// A way that was tried, and why it is not the one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The way.
    pub way: Way,
    /// Why not.
    pub why: Why,
}

/// Why there is no mapping.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such function.
    #[error("{path}: {source}")]
    NoDevice {
        /// What was looked for.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no such BAR, or it cannot be mapped.
    #[error("{bdf} has no memory BAR {index}: {why}")]
    NoBar {
        /// The function.
        bdf: Bdf,
        /// Which was asked for.
        index: u8,
        /// What there is.
        why: String,
    },
    /// The range is not within the BAR.
    #[error("{start:#x} to {end:#x} is no part of BAR {index} of {bdf}, which has {size:#x} bytes")]
    Range {
        /// The function.
        bdf: Bdf,
        /// The BAR.
        index: u8,
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: u64,
        /// Bytes there are.
        size: u64,
    },
    /// No way gives what was asked for.
    #[error("{asked} cannot be had of BAR {index} of {bdf}{}", Ways(tried))]
    Refused {
        /// The function.
        bdf: Bdf,
        /// The BAR.
        index: u8,
        /// The type.
        asked: Attribute,
        /// Each way, the best first.
        tried: Vec<Tried>,
    },
}

impl Error {
    /// The mapping that is in the way, if that is why.
    #[must_use]
    pub fn conflict(&self) -> Option<&Conflict> {
        let Self::Refused { tried, .. } = self else { return None };
        tried.iter().find_map(|one| match &one.why {
            Why::Conflict(conflict) => Some(conflict),
            _ => None,
        })
    }
}

struct Ways<'a>(&'a [Tried]);

/// A line each.
impl fmt::Display for Ways<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|one| one.way.name().len()).max().unwrap_or(0);
        for Tried { way, why } in self.0 {
            write!(f, "\n{way:<width$}  {why}")?;
            why.remedy().lines().try_for_each(|line| write!(f, "\n{:width$}  -> {line}", ""))?;
        }
        Ok(())
    }
}

/// A PCI function of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub(crate) root: PathBuf,
    pub(crate) bdf: Bdf,
}

impl Device {
    /// Of this machine.
    #[must_use]
    pub fn new(bdf: Bdf) -> Self {
        Self::under(Path::new("/"), bdf)
    }
    /// Of a machine whose `/sys`, `/dev` and `/proc` are in another folder.
    #[must_use]
    pub fn under(root: &Path, bdf: Bdf) -> Self {
        Self { root: root.to_path_buf(), bdf }
    }
    /// Where it is.
    #[must_use]
    pub const fn bdf(&self) -> Bdf {
        self.bdf
    }
    /// Its folder in sysfs.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.join(format!("sys/bus/pci/devices/{}", self.bdf))
    }
    /// The driver it is bound to.
    #[must_use]
    pub fn driver(&self) -> Option<String> {
        vfio::driver(&self.root, self.bdf)
    }
    /// Its memory BARs: number, bytes, whether it is prefetchable.
    ///
    /// # Errors
    /// There is no such function.
    pub fn bars(&self) -> Result<Vec<(u8, u64, bool)>, Error> {
        let found = (0u8..6).zip(self.resources()?);
        let bar = |(index, found): (u8, Option<Resource>)| {
            found.filter(Resource::is_memory).map(|r| (index, r.size(), r.is_prefetchable()))
        };
        Ok(found.filter_map(bar).collect())
    }
    fn resources(&self) -> Result<Vec<Option<Resource>>, Error> {
        let path = self.folder().join("resource");
        let text = fs::read_to_string(&path).map_err(|source| Error::NoDevice { path, source })?;
        Ok(resources(&text))
    }
}

/// A memory BAR.
#[derive(Debug, Clone)]
pub struct Bar {
    pub(crate) device: Device,
    pub(crate) index: u8,
    pub(crate) resource: Resource,
}

/// What is mapped: whole pages.
#[derive(Debug, Clone, Copy)]
struct Pages {
    /// From the start of the page in which the BAR begins.
    start: u64,
    len: usize,
    /// Where the range asked for begins in them.
    skip: usize,
    /// Physical addresses, both included.
    first: u64,
    last: u64,
}

impl Bar {
    /// Finds a BAR. Nothing is opened yet.
    ///
    /// # Errors
    /// There is no such function; it has no such BAR, or none of memory, or one that was given no address.
    pub fn open(device: &Device, index: u8) -> Result<Self, Error> {
        let all = device.resources()?;
        let no = |why: String| Error::NoBar { bdf: device.bdf, index, why };
        let resource = all.iter().take(6).nth(usize::from(index)).copied().flatten();
        let resource = resource.ok_or_else(|| {
            let wide = index.checked_sub(1).and_then(|below| all.get(usize::from(below)).copied().flatten());
            if wide.is_some_and(|below| below.is_wide()) && index < 6 {
                return no(format!("it is the upper half of BAR {}", index - 1));
            }
            let there: Vec<_> = (0..6)
                .zip(&all)
                .filter_map(|(i, r)| r.as_ref().filter(|r| r.is_memory()).map(|_| i.to_string()))
                .collect();
            no(if there.is_empty() { "it has none".into() } else { format!("it has {}", there.join(", ")) })
        })?;
        if !resource.is_memory() {
            return Err(no("that one is of I/O ports, which have no memory type".into()));
        }
        if !resource.is_placed() {
            return Err(no("it was given no address".into()));
        }
        Ok(Self { device: device.clone(), index, resource })
    }

    /// The function.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }
    /// Which.
    #[must_use]
    pub const fn index(&self) -> u8 {
        self.index
    }
    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.resource.size()
    }
    /// Its first address, as the CPU has it.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.resource.first
    }
    /// Whether it says prefetchable.
    #[must_use]
    pub const fn is_prefetchable(&self) -> bool {
        self.resource.is_prefetchable()
    }
    /// By which it can be seen that the kernel wants the device back. If it is open through VFIO, VFIO says so.
    #[must_use]
    pub fn removal(&self) -> Removal {
        let device = vfio::Device::of(&self.device.root, self.device.bdf);
        Removal { event: device.and_then(|device| device.asks_back()), folder: self.device.folder() }
    }

    /// Maps a part of it, `0..bar.size()` for all of it. What is mapped are whole pages; what can be reached is the part.
    ///
    /// # Errors
    /// The range is not within; or no way gives the type asked for, each with its reason.
    pub fn map(&self, range: Range<u64>, asked: Attributes) -> Result<Mapping, Error> {
        let pages = self.pages(&range)?;
        let machine = Machine::of(&self.device.root);
        // Held over looking, mapping and noting.
        let mut registry = machine.lock();
        let mut tried = Vec::new();
        for way in self.order(&asked, &registry) {
            match self.attempt(way, &range, pages, &asked, &registry) {
                Ok(mut parts) => {
                    let live = self.live(&range, way, parts.ty.ty);
                    match machine.enter(&mut registry, pages.first, pages.last, live) {
                        Ok(entry) => {
                            parts.entry = Some(entry);
                            return Ok(Mapping::new(self, range, parts));
                        }
                        Err(conflict) => tried.push(Tried { way, why: Why::Conflict(conflict) }),
                    }
                }
                Err(why) => tried.push(Tried { way, why }),
            }
        }
        Err(Error::Refused { bdf: self.device.bdf, index: self.index, asked: asked.kind, tried })
    }

    fn live(&self, range: &Range<u64>, way: Way, ty: MemoryType) -> Live {
        Live { bdf: self.device.bdf, bar: self.index, offset: range.start, size: range.end - range.start, ty, way }
    }

    fn pages(&self, range: &Range<u64>) -> Result<Pages, Error> {
        let Range { start, end } = *range;
        let size = self.size();
        let bad = || Error::Range { bdf: self.device.bdf, index: self.index, start, end, size };
        if start >= end || end > size {
            return Err(bad());
        }
        let page = cpu::page_size() as u64;
        // The BAR may begin within a page, if it is smaller than one.
        let lead = self.resource.first % page;
        let from = (lead + start) / page * page;
        let to = (lead + end).checked_next_multiple_of(page).ok_or_else(bad)?;
        let first = self.resource.first - lead + from;
        let (Ok(len), Ok(skip)) = (usize::try_from(to - from), usize::try_from(lead + start - from)) else {
            return Err(bad());
        };
        Ok(Pages { start: from, len, skip, first, last: first.checked_add(to - from - 1).ok_or_else(bad)? })
    }

    /// The ways in the order in which they are tried: those that give what is asked for by rule, those that cannot.
    fn order(&self, asked: &Attributes, registry: &Registry) -> Vec<Way> {
        if let Some(way) = asked.by {
            return vec![way];
        }
        let vfio = self.device.driver().is_some_and(|driver| driver.contains("vfio"));
        let mut ways = vec![Way::Sysfs, Way::VfioGroup, Way::VfioCdev];
        // Whoever binds a device to VFIO wants it from there; not if that would take another mapping away.
        let vfio = vfio && registry.by_sysfs(self.device.bdf).is_none();
        ways.rotate_left(usize::from(vfio));
        ways.extend([Way::SysfsWc, Way::VfioAlias, Way::VfioDmaBuf]);
        ways.sort_by_key(|way| {
            !self.rule(*way).is_some_and(|(ty, ..)| Type { ty, known: Known::Rule(Helper::Ioremap) }.is(asked.kind))
        });
        if matches!(asked.kind, Attribute::Default | Attribute::Uncached) {
            // Nothing is gained by a proposal, nor by write-combining where it is not asked for.
            ways.retain(|way| !matches!(way, Way::VfioAlias | Way::VfioDmaBuf | Way::SysfsWc));
        }
        ways
    }

    /// What a way gives by Linux's source, and how that is known.
    fn rule(&self, way: Way) -> Option<(MemoryType, Known)> {
        // The regions of nvgrace-gpu: index 4 is memory of the GPU and stays cacheable; 2 is write-combining where there is one of
        // its own, which no call says (drivers/vfio/pci/nvgrace-gpu/main.c of 6.12).
        let special = matches!(way, Way::VfioGroup | Way::VfioCdev)
            && matches!(self.index, 2 | 4)
            && self.device.driver().is_some_and(|driver| driver.starts_with("nvgrace"));
        if special {
            let cached = linux::of(ARCH, Helper::IoremapCache).and_then(|entry| entry.ty);
            return cached
                .filter(|_| self.index == 4)
                .map(|ty| (ty, Known::Driver("nvgrace-gpu leaves region 4 cacheable")));
        }
        let helper = way.helper()?;
        let entry = linux::of(ARCH, helper)?;
        let known = match entry.otherwise {
            Some(otherwise) => Known::Unless { helper, condition: entry.condition, otherwise, unseen: String::new() },
            None => Known::Rule(helper),
        };
        Some((entry.ty?, known))
    }

    fn attempt(
        &self,
        way: Way,
        range: &Range<u64>,
        pages: Pages,
        asked: &Attributes,
        registry: &Registry,
    ) -> Result<Parts, Why> {
        if matches!(way, Way::VfioAlias | Way::VfioDmaBuf) {
            return Err(self.proposal(way, asked));
        }
        let Some((ty, known)) = self.rule(way) else {
            return Err(Why::no(
                "which type it gives depends on the device, and no call says",
                "ask for another BAR or way",
            ));
        };
        let by_rule = Type { ty, known };
        // What cannot be, whichever way the condition is, is not even tried.
        let possible = Type { ty, known: Known::Rule(Helper::Ioremap) }.is(asked.kind);
        if !possible && !asked.accept_less {
            let because = match (asked.kind, way) {
                (Attribute::Cached, _) => {
                    vec!["only a device's own driver can say that its memory may be cached".into()]
                }
                _ => Vec::new(),
            };
            let known = match by_rule.known {
                Known::Unless { helper, .. } => Known::Rule(helper),
                known => known,
            };
            return Err(Why::Less { gives: Type { ty, known }, because });
        }
        registry.check(pages.first, pages.last, &self.live(range, way, ty)).map_err(Why::Conflict)?;
        let (vma, handle) = match way {
            Way::Sysfs | Way::SysfsWc => (self.by_sysfs(way == Way::SysfsWc, pages, asked)?, None),
            Way::VfioGroup => self.by_vfio(By::Group, pages, asked, registry)?,
            Way::VfioCdev => self.by_vfio(By::Cdev, pages, asked, registry)?,
            Way::VfioAlias | Way::VfioDmaBuf => return Err(self.proposal(way, asked)),
        };
        let ty = self.confirm(by_rule, pages.first, pages.last);
        if !ty.is(asked.kind) && !asked.accept_less {
            drop(vma);
            return Err(Why::Less { because: self.holders(&ty, pages.first, pages.last), gives: ty });
        }
        Ok(Parts { vma, skip: pages.skip, way, ty, writable: !asked.read_only, entry: None, handle })
    }

    fn by_vfio(
        &self,
        by: By,
        pages: Pages,
        asked: &Attributes,
        registry: &Registry,
    ) -> Result<(Vma, Option<vfio::Device>), Why> {
        use std::os::fd::AsFd;

        // vfio-pci requests the BAR's addresses, and a request revokes what /dev/mem and sysfs have mapped of them (revoke_iomem(),
        // kernel/resource.c, with CONFIG_IO_STRICT_DEVMEM): accesses become SIGBUS. Seen with 6.12 on arm64 and x86.
        if let Some(live) = registry.by_sysfs(self.device.bdf) {
            return Err(Why::no(
                format!("VFIO would take away what is mapped by sysfs in this process: {live}"),
                "map all by sysfs",
            ));
        }
        let bdf = self.device.bdf;
        let handle = vfio::Device::open_by(&self.device.root, bdf, by)?;
        let what = format!("VFIO_DEVICE_GET_REGION_INFO of BAR {}", self.index);
        let region = handle.region(u32::from(self.index)).map_err(|error| Why::system(what, &error, ""))?;
        if region.size != self.size() && !region.mmap {
            return Err(Why::no(format!("VFIO gives it {:#x} bytes, sysfs {:#x}", region.size, self.size()), ""));
        }
        let end = (pages.start + pages.len as u64).min(region.size);
        if !self.resource.first.is_multiple_of(cpu::page_size() as u64)
            || !region.maps(pages.start, end.saturating_sub(pages.start))
        {
            let why = match &region.sparse {
                Some(areas) => {
                    let areas: Vec<_> = areas.iter().map(|(at, size)| format!("{at:#x}+{size:#x}")).collect();
                    format!("VFIO lets only these parts of it be mapped: {}", areas.join(", "))
                }
                None => "VFIO does not let it be mapped (smaller than a page, or the driver says so)".into(),
            };
            return Err(Why::no(why, "sysfs may; VFIO's read and write work"));
        }
        if !region.write && !asked.read_only {
            return Err(Why::no("VFIO lets it only be read", "ask for a mapping to read"));
        }
        handle.enable_memory().map_err(|error| Why::system(format!("enable memory decode of {bdf}"), &error, ""))?;
        let file = handle.file().ok_or_else(|| Why::no("it is closed", ""))?;
        let vma = Vma::new(file.as_fd(), region.offset.saturating_add(pages.start), pages.len, !asked.read_only);
        let vma =
            vma.map_err(|error| Why::system(format!("mmap of BAR {} of VFIO's {bdf}", self.index), &error, ""))?;
        Ok((vma, Some(handle)))
    }

    /// What has no number in a released header cannot be called. What has one is asked, where it was asked for by name.
    fn proposal(&self, way: Way, asked: &Attributes) -> Why {
        let export = match (way, asked.by) {
            (Way::VfioDmaBuf, Some(Way::VfioDmaBuf)) => {
                let (root, bdf) = (&self.device.root, self.device.bdf);
                let device =
                    vfio::Device::of(root, bdf).map_or_else(|| vfio::Device::open_by(root, bdf, By::Group), Ok);
                match device.map(|device| device.exports_dma_buf()) {
                    Ok(Ok(())) => "; VFIO_DEVICE_FEATURE_DMA_BUF, which exports, is there",
                    Ok(Err(_)) => "; VFIO_DEVICE_FEATURE_DMA_BUF, which exports, is not there either",
                    Err(_) => "",
                }
            }
            _ => "",
        };
        let what = if way == Way::VfioAlias { "alias regions" } else { "dma-bufs with an attribute" };
        Why::no(format!("no kernel has {what}: there is no number to call{export}"), "")
    }
}

/// What the reserved type comes to: of a BAR the MTRR says UC.
fn with_mtrr(kind: Cachemode) -> x86::Type {
    let pat = match kind {
        Cachemode::Uncached => x86::Pat::Uc,
        Cachemode::UncachedMinus => x86::Pat::UcMinus,
        Cachemode::WriteBack => x86::Pat::Wb,
        Cachemode::WriteCombining => x86::Pat::Wc,
        Cachemode::WriteThrough => x86::Pat::Wt,
        Cachemode::WriteProtected => x86::Pat::Wp,
    };
    x86::effective(x86::Type::Uc, pat)
}
