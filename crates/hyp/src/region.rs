//! VFIO's regions, and every way that was proposed for user space to say which memory type it wants of one.
//!
//! A [`Device`] has BAR regions, index 0 to 5 as vfio-pci has them. Parts of a BAR may not be mapped: all but its sparse areas
//! (`VFIO_REGION_INFO_CAP_SPARSE_MMAP`), and the pages of its MSI-X table and PBA where VFIO keeps those
//! (`VFIO_REGION_INFO_CAP_MSIX_MAPPABLE` is absent). What user space asks goes by one of the [`Uapi`]s; they differ in what can be
//! asked, and when. One rule holds for all: **no page has two live mappings of different types**. Whoever asks for the second is
//! refused, with the mapping in the way.
//!
//! ```
//! use hyp::region::{Bar, Device, Index, Refused, Uapi};
//! use hyp::{Facts, Pgprot, Policy};
//! use memtype::Attribute;
//! use mmu::Oa;
//!
//! // A doorbell page and a write-combining buffer in one BAR: thread 001.
//! let bar = Bar::new(2, Oa(0x50_0000_0000), 1 << 20);
//! let mut device = Device::<8, 8>::new(Policy::Subregions, Uapi::Subregions, &[bar]).unwrap();
//! let bar = Index(2);
//! let buffer = device.create(bar, 0x1_0000, 0x1_0000, Attribute::WriteCombine).unwrap();
//! assert_eq!(device.create(bar, 0x1_0000, 0x1_0000, Attribute::WriteCombine), Ok(buffer), "asked twice, there once");
//! let wc = device.mmap(buffer, 0, 0x1_0000).unwrap();
//! let regs = device.mmap(bar, 0, 0x1_0000).unwrap();
//! assert_eq!(device.mapping(wc).unwrap().vma.pgprot, Pgprot::WriteCombine);
//! assert_eq!(device.mapping(regs).unwrap().vma.pgprot, Pgprot::Noncached);
//! // The same page by way of the BAR would be of another type.
//! assert!(matches!(device.mmap(bar, 0x1_0000, 0x1000), Err(Refused::Conflict { .. })));
//! assert!(matches!(device.remove(buffer), Err(Refused::Busy { .. })));
//! ```

use core::fmt;

use memtype::Attribute;
use mmu::{Oa, PAGE};

use crate::{Facts, NoAttribute, Policy, Vma, WhyMapped};

/// The number of a region: 0 to 5 a BAR, from [`FIRST_DYNAMIC`] on what user space created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u32);

/// The first index of a region created at run time: `VFIO_PCI_NUM_REGIONS`, where device-specific regions begin.
pub const FIRST_DYNAMIC: u32 = 9;
/// Most sparse areas of a BAR.
pub const MAX_AREAS: usize = 4;

/// How user space says which type it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Uapi {
    /// An ioctl sets the attribute of the next mmap ("a rather gross interface").
    NextMmap,
    /// An ioctl sets the attribute of a whole region index before it is mapped.
    WholeIndex,
    /// An ioctl makes a child of a region, with an index, a range and an attribute of its own.
    Subregions,
    /// A device feature makes an alias of a whole region, with an index and an attribute of its own.
    Alias,
    /// A range is exported as a dma-buf; a device feature sets the buffer's attribute; the buffer is what is mapped.
    DmaBuf,
}

impl Uapi {
    /// All, in the order of their proposal.
    pub const ALL: [Self; 5] = [Self::NextMmap, Self::WholeIndex, Self::Subregions, Self::Alias, Self::DmaBuf];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NextMmap => "next-mmap",
            Self::WholeIndex => "whole-index",
            Self::Subregions => "subregions",
            Self::Alias => "alias",
            Self::DmaBuf => "dma-buf",
        }
    }
    /// By name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|u| u.name() == name)
    }
    /// Who proposed it, where and when.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::NextMmap | Self::WholeIndex | Self::Subregions => "Herrenschmidt, thread 001, 2023-07-14",
            Self::Alias => "Williamson and Adam on the kvm list, 2025-08: region aliases with attributes",
            Self::DmaBuf => "Evans on the kvm list, 2026-06: VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR (v3)",
        }
    }
    /// Whether user space makes regions by it.
    #[must_use]
    pub const fn creates(self) -> bool {
        matches!(self, Self::Subregions | Self::Alias | Self::DmaBuf)
    }
    /// Whether a region made by it may be of a part of a BAR.
    #[must_use]
    pub const fn parts(self) -> bool {
        matches!(self, Self::Subregions | Self::DmaBuf)
    }
    /// Whether two regions made by it may overlap. Where they may, the conflict is found when the second is mapped.
    #[must_use]
    pub const fn overlaps(self) -> bool {
        matches!(self, Self::Alias | Self::DmaBuf)
    }
    /// Whether the same asked twice is there once. Every export makes a new buffer.
    #[must_use]
    pub const fn shares(self) -> bool {
        matches!(self, Self::Subregions | Self::Alias)
    }
    /// Whether an attribute can change while it is mapped: the mappings are zapped and come back with the new type. Thread 001
    /// does not have that; Herrenschmidt proposed it later, for ranges of a region (quoted on the kvm list, 2025-08-07).
    #[must_use]
    pub const fn changes_mapped(self) -> bool {
        matches!(self, Self::Subregions)
    }
}

/// A range of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Area {
    /// Its first byte, from the BAR's.
    pub offset: u64,
    /// Bytes; not zero.
    pub size: u64,
}

impl Area {
    const fn last(self) -> u64 {
        self.offset + (self.size - 1)
    }
    const fn meets(self, other: Self) -> bool {
        self.offset <= other.last() && other.offset <= self.last()
    }
    const fn holds(self, other: Self) -> bool {
        self.offset <= other.offset && other.last() <= self.last()
    }
}

/// A BAR, as VFIO finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bar {
    /// 0 to 5; the index of its region.
    pub index: u8,
    /// Where it lies.
    pub pa: Oa,
    /// Bytes: a power of two, at least a page.
    pub size: u64,
    /// `VFIO_REGION_INFO_FLAG_MMAP`: it may be mapped at all.
    pub mmap: bool,
    /// What decides its memory type.
    pub facts: Facts,
    /// The MSI-X table and PBA, where VFIO keeps them from user space.
    pub msix: Option<Area>,
    /// The only areas that may be mapped; all `None`: every one.
    pub sparse: [Option<Area>; MAX_AREAS],
}

impl Bar {
    /// A BAR without holes.
    #[must_use]
    pub const fn new(index: u8, pa: Oa, size: u64) -> Self {
        let facts = Facts { prefetchable: false, vga: false, cached: false, platform: platform::Platform::USUAL };
        Self { index, pa, size, mmap: true, facts, msix: None, sparse: [None; MAX_AREAS] }
    }
    /// With these facts.
    #[must_use]
    pub const fn with(self, facts: Facts) -> Self {
        Self { facts, ..self }
    }
    const fn whole(&self) -> Area {
        Area { offset: 0, size: self.size }
    }
}

/// A region user space made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region {
    /// Its index.
    pub index: Index,
    /// The BAR it is a part, an alias or an export of.
    pub bar: u8,
    /// Which part.
    pub area: Area,
    /// What user space asked for.
    pub attribute: Attribute,
}

/// The number of a live mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapId(pub u32);

/// A live mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Its number.
    pub id: MapId,
    /// The region it was made by.
    pub region: Index,
    /// The BAR.
    pub bar: u8,
    /// Which part of the BAR.
    pub area: Area,
    /// What it is in the host.
    pub vma: Vma,
    /// Why.
    pub why: WhyMapped,
}

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The proposal has no such call.
    NoCall {
        /// The proposal.
        uapi: Uapi,
    },
    /// The attribute cannot be had.
    Attribute(NoAttribute),
    /// A BAR of which the region table can make nothing: an index over 5 or twice, a size that is no power of two or less than
    /// a page, an address that is not aligned to it, a hole outside.
    BadBar {
        /// Its number.
        index: u8,
        /// Where it lies.
        pa: Oa,
        /// Bytes.
        size: u64,
    },
    /// No region has this index.
    NoRegion(Index),
    /// A child of a child: a region of user space's own is no parent.
    NotABar(Index),
    /// The offset or size is no multiple of a page, or the size is zero.
    Unaligned(Area),
    /// The range leaves the region.
    Outside {
        /// The range.
        area: Area,
        /// The region's bytes.
        size: u64,
    },
    /// The region may not be mapped, or not there: an MSI-X table, or outside the sparse areas.
    NotMappable(Area),
    /// The range overlaps a region there is.
    Overlap {
        /// The range.
        area: Area,
        /// The region in the way.
        with: Region,
    },
    /// A page of the range is mapped with another type.
    Conflict {
        /// The range.
        area: Area,
        /// The mapping in the way.
        with: Mapping,
    },
    /// The region is mapped.
    Busy {
        /// By this mapping.
        with: Mapping,
    },
    /// No live mapping has this number.
    NoMapping(MapId),
    /// Every place in a table is taken.
    Full {
        /// How many there are.
        places: usize,
    },
}

impl Refused {
    /// The errno a kernel would give.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        match self {
            Self::NoCall { .. } | Self::Attribute(NoAttribute::NoCall { .. }) => 25,
            Self::Overlap { .. } => 17,
            Self::Conflict { .. } | Self::Busy { .. } => 16,
            Self::Full { .. } => 28,
            Self::NoRegion(_) | Self::NoMapping(_) => 2,
            Self::Attribute(NoAttribute::NotCacheable) => 95,
            _ => crate::EINVAL,
        }
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.offset, self.size)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the mapping of BAR {} {} ({}, by region {})",
            self.bar,
            self.area,
            self.vma.pgprot.name(),
            self.region.0
        )
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCall { uapi } => write!(f, "`{}` has no such call", uapi.name()),
            Self::Attribute(why) => why.fmt(f),
            Self::BadBar { index, pa, size } => write!(
                f,
                "BAR {index} at {:#x}, {size:#x} bytes: an index of 0 to 5, once; a power of two from 4 KiB on, aligned to itself; \
                 its holes inside",
                pa.0
            ),
            Self::NoRegion(i) => write!(f, "there is no region {}", i.0),
            Self::NotABar(i) => write!(f, "region {} is no BAR: only of a BAR can another be made", i.0),
            Self::Unaligned(a) => write!(f, "{a}: offset and size must be multiples of 4 KiB, the size not zero"),
            Self::Outside { area, size } => write!(f, "{area} leaves the region, which has {size:#x} bytes"),
            Self::NotMappable(a) => write!(f, "{a} may not be mapped: an MSI-X table, or no sparse area"),
            Self::Overlap { area, with } => write!(
                f,
                "{area} overlaps region {} ({}, `{}`): remove that one, or ask for the same range and attribute",
                with.index.0, with.area, with.attribute
            ),
            Self::Conflict { area, with } => {
                write!(f, "{area} has a page in {with}: no page has two types at once; unmap that one first")
            }
            Self::Busy { with } => write!(f, "in use by {with}: unmap it first"),
            Self::NoMapping(id) => write!(f, "there is no mapping {}", id.0),
            Self::Full { places } => write!(f, "all {places} places are taken"),
        }
    }
}

impl core::error::Error for Refused {}

/// What changed under the live mappings of a region: for each, KVM has to be told ([`Vm::remapped`](crate::Vm::remapped)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zap {
    /// First physical address of the mappings zapped.
    pub pa: Oa,
    /// Bytes.
    pub size: u64,
    /// What they come back as.
    pub vma: Vma,
}

/// Most BARs.
pub const BARS: usize = 6;

/// A device under VFIO: up to `R` regions of user space's own, up to `M` live mappings.
#[derive(Debug, Clone)]
pub struct Device<const R: usize, const M: usize> {
    policy: Policy,
    uapi: Uapi,
    bars: [Option<Bar>; BARS],
    regions: [Option<Region>; R],
    mappings: [Option<Mapping>; M],
    /// [`Uapi::NextMmap`]: what the next mmap gets.
    next: Attribute,
    /// [`Uapi::WholeIndex`]: what each BAR is set to.
    whole: [Attribute; BARS],
    /// Counts up, so that no index or number comes twice.
    next_index: u32,
    next_map: u32,
}

impl<const R: usize, const M: usize> Device<R, M> {
    /// A device with these BARs.
    ///
    /// # Errors
    /// [`Refused::BadBar`].
    pub fn new(policy: Policy, uapi: Uapi, bars: &[Bar]) -> Result<Self, Refused> {
        let mut table = [None; BARS];
        for bar in bars {
            let inside = |a: &Area| a.size != 0 && a.offset.checked_add(a.size).is_some_and(|end| end <= bar.size);
            let holes = bar.msix.iter().chain(bar.sparse.iter().flatten()).all(inside);
            let sized = bar.size.is_power_of_two() && bar.size >= PAGE && bar.pa.0 % bar.size == 0;
            match table.get_mut(usize::from(bar.index)) {
                Some(place @ None) if holes && sized && bar.pa.0.checked_add(bar.size - 1).is_some() => {
                    *place = Some(*bar);
                }
                _ => return Err(Refused::BadBar { index: bar.index, pa: bar.pa, size: bar.size }),
            }
        }
        Ok(Self {
            policy,
            uapi,
            bars: table,
            regions: [None; R],
            mappings: [None; M],
            next: Attribute::Default,
            whole: [Attribute::Default; BARS],
            next_index: FIRST_DYNAMIC,
            next_map: 0,
        })
    }

    /// The BAR with this number.
    #[must_use]
    pub fn bar(&self, number: u8) -> Option<&Bar> {
        self.bars.get(usize::from(number)).and_then(Option::as_ref)
    }
    /// The regions user space made.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter().flatten()
    }
    /// The live mappings.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().flatten()
    }
    /// The live mapping with this number.
    #[must_use]
    pub fn mapping(&self, id: MapId) -> Option<&Mapping> {
        self.mappings().find(|m| m.id == id)
    }

    /// The region of an index, be it a BAR or user space's own.
    ///
    /// # Errors
    /// [`Refused::NoRegion`].
    pub fn region(&self, index: Index) -> Result<Region, Refused> {
        if let Some(region) = self.regions().find(|r| r.index == index) {
            return Ok(*region);
        }
        let bar = u8::try_from(index.0).ok().and_then(|i| self.bar(i)).ok_or(Refused::NoRegion(index))?;
        let attribute = self.whole[usize::from(bar.index)];
        Ok(Region { index, bar: bar.index, area: bar.whole(), attribute })
    }

    /// Makes a region: a child of a BAR, an alias of one, or an exported range. Asked twice for the same, it gives the same, but
    /// for exports ([`Uapi::shares`]).
    ///
    /// # Errors
    /// [`Refused`]; an alias is of a whole BAR.
    pub fn create(&mut self, parent: Index, offset: u64, size: u64, attribute: Attribute) -> Result<Index, Refused> {
        if !self.uapi.creates() {
            return Err(Refused::NoCall { uapi: self.uapi });
        }
        let parent = self.region(parent)?;
        if self.regions().any(|r| r.index == parent.index) {
            return Err(Refused::NotABar(parent.index));
        }
        let area = within(parent.area, offset, size)?;
        if !self.uapi.parts() && area != parent.area {
            return Err(Refused::NoCall { uapi: self.uapi });
        }
        // Whether it could be mapped so is known now; later would be late.
        self.vma(parent.bar, attribute)?;
        let same = |r: &&Region| r.bar == parent.bar && r.area == area && r.attribute == attribute;
        if let Some(region) = self.regions().find(same)
            && self.uapi.shares()
        {
            return Ok(region.index);
        }
        if let Some(with) = self.regions().find(|r| r.bar == parent.bar && r.area.meets(area))
            && !self.uapi.overlaps()
        {
            return Err(Refused::Overlap { area, with: *with });
        }
        let index = Index(self.next_index);
        let next = self.next_index.checked_add(1).ok_or(Refused::Full { places: R })?;
        let place = self.regions.iter_mut().find(|r| r.is_none()).ok_or(Refused::Full { places: R })?;
        *place = Some(Region { index, bar: parent.bar, area, attribute });
        self.next_index = next;
        Ok(index)
    }

    /// Removes a region user space made.
    ///
    /// # Errors
    /// [`Refused::Busy`] while it is mapped; a BAR is not removed.
    pub fn remove(&mut self, index: Index) -> Result<(), Refused> {
        self.idle(index)?;
        let place = self.regions.iter_mut().find(|r| r.is_some_and(|r| r.index == index));
        *place.ok_or(Refused::NoRegion(index))? = None;
        Ok(())
    }

    /// Sets the attribute of the next mmap ([`Uapi::NextMmap`]). It is a device's, not a thread's: whoever maps next gets it.
    ///
    /// # Errors
    /// [`Refused::NoCall`].
    pub const fn set_next(&mut self, attribute: Attribute) -> Result<(), Refused> {
        if !matches!(self.uapi, Uapi::NextMmap) {
            return Err(Refused::NoCall { uapi: self.uapi });
        }
        self.next = attribute;
        Ok(())
    }

    /// Sets the attribute of a region that is not mapped ([`Uapi::WholeIndex`]: of a BAR; [`Uapi::DmaBuf`]: of a buffer), or,
    /// where the proposal has that ([`Uapi::changes_mapped`]), of one that is. Gives what there is to tell KVM, if anything
    /// was mapped: all live mappings of a region lie in its area, and come back with the new type; mappings of another type
    /// by another region may not lie there.
    ///
    /// # Errors
    /// [`Refused::Busy`], [`Refused::Conflict`] with a mapping by another region, and what [`create`](Self::create) refuses.
    pub fn set(&mut self, index: Index, attribute: Attribute) -> Result<Option<Zap>, Refused> {
        let region = self.region(index)?;
        let own = self.regions().any(|r| r.index == index);
        match self.uapi {
            Uapi::WholeIndex if !own => {}
            Uapi::Subregions | Uapi::DmaBuf if own => {}
            _ => return Err(Refused::NoCall { uapi: self.uapi }),
        }
        let (vma, why) = self.vma(region.bar, attribute)?;
        let mapped = self.mappings().any(|m| m.region == index);
        if mapped && !self.uapi.changes_mapped() {
            return self.idle(index).map(|()| None);
        }
        // The whole region, not only what is mapped of it: what KVM is told is true of every mapping in its area.
        let other =
            |m: &&Mapping| m.region != index && m.bar == region.bar && m.area.meets(region.area) && m.vma != vma;
        if mapped && let Some(with) = self.mappings().find(other) {
            return Err(Refused::Conflict { area: region.area, with: *with });
        }
        for r in self.regions.iter_mut().flatten().filter(|r| r.index == index) {
            r.attribute = attribute;
        }
        if !own {
            self.whole[usize::from(region.bar)] = attribute;
        }
        for m in self.mappings.iter_mut().flatten().filter(|m| m.region == index) {
            (m.vma, m.why) = (vma, why);
        }
        let pa = self.bar(region.bar).map_or(0, |b| b.pa.0) + region.area.offset;
        Ok(mapped.then_some(Zap { pa: Oa(pa), size: region.area.size, vma }))
    }

    /// Sets the attribute of the region of user space's own that holds this offset of a BAR; where none does, the BAR's.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_at(&mut self, bar: u8, offset: u64, attribute: Attribute) -> Result<Option<Zap>, Refused> {
        let holds = |r: &&Region| r.bar == bar && (r.area.offset..=r.area.last()).contains(&offset);
        let index = self.regions().find(holds).map_or(Index(u32::from(bar)), |r| r.index);
        self.set(index, attribute)
    }

    /// Maps a part of a region: `offset` is from the region's first byte.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn mmap(&mut self, index: Index, offset: u64, size: u64) -> Result<MapId, Refused> {
        // Used up by the call, whether it succeeds or not: whoever comes next must not inherit it.
        let next = core::mem::take(&mut self.next);
        let region = self.region(index)?;
        let area = within(region.area, offset, size)?;
        let bar = *self.bar(region.bar).ok_or(Refused::NoRegion(index))?;
        let sparse = bar.sparse.iter().flatten();
        let inside = bar.sparse.iter().all(Option::is_none) || sparse.clone().any(|a| a.holds(area));
        if !bar.mmap || !inside || bar.msix.is_some_and(|hole| pages(hole).meets(area)) {
            return Err(Refused::NotMappable(area));
        }
        let attribute = if self.uapi == Uapi::NextMmap { next } else { region.attribute };
        let (vma, why) = self.vma(region.bar, attribute)?;
        let other = |m: &&Mapping| m.bar == region.bar && m.area.meets(area) && m.vma != vma;
        if let Some(with) = self.mappings().find(other) {
            return Err(Refused::Conflict { area, with: *with });
        }
        let id = MapId(self.next_map);
        let next = self.next_map.checked_add(1).ok_or(Refused::Full { places: M })?;
        let place = self.mappings.iter_mut().find(|m| m.is_none()).ok_or(Refused::Full { places: M })?;
        *place = Some(Mapping { id, region: index, bar: region.bar, area, vma, why });
        self.next_map = next;
        Ok(id)
    }

    /// Unmaps.
    ///
    /// # Errors
    /// [`Refused::NoMapping`].
    pub fn munmap(&mut self, id: MapId) -> Result<(), Refused> {
        let place = self.mappings.iter_mut().find(|m| m.is_some_and(|m| m.id == id));
        *place.ok_or(Refused::NoMapping(id))? = None;
        Ok(())
    }

    /// The device goes from VFIO: not while anything of it is mapped.
    ///
    /// # Errors
    /// [`Refused::Busy`].
    pub fn detach(&self) -> Result<(), Refused> {
        self.mappings().next().map_or(Ok(()), |with| Err(Refused::Busy { with: *with }))
    }

    /// Maps a BAR whole, as a VMM does for a guest: every region user space made of it by that region, and what is between by
    /// the BAR's own. Calls `each` with every mapping made, in ascending order. A BAR with holes cannot be mapped whole: map it
    /// around them.
    ///
    /// # Errors
    /// As [`mmap`](Self::mmap). Mappings made before stay.
    pub fn mmap_bar<E: From<Refused>>(
        &mut self,
        number: u8,
        mut each: impl FnMut(&Mapping, Oa) -> Result<(), E>,
    ) -> Result<(), E> {
        let index = Index(u32::from(number));
        let bar = *self.bar(number).ok_or(Refused::NoRegion(index))?;
        let mut at = 0;
        while at < bar.size {
            let next = self.regions().filter(|r| r.bar == number && r.area.offset >= at).min_by_key(|r| r.area.offset);
            let (region, offset, size) = match next.copied() {
                Some(r) if r.area.offset == at => (r.index, 0, r.area.size),
                Some(r) => (index, at, r.area.offset - at),
                None => (index, at, bar.size - at),
            };
            let id = self.mmap(region, offset, size)?;
            let mapping = self.mapping(id).copied().ok_or(Refused::NoMapping(id))?;
            each(&mapping, Oa(bar.pa.0 + at))?;
            at += size;
        }
        Ok(())
    }

    fn vma(&self, bar: u8, attribute: Attribute) -> Result<(Vma, WhyMapped), Refused> {
        let bar = self.bar(bar).ok_or(Refused::NoRegion(Index(u32::from(bar))))?;
        self.policy.mmap(&bar.facts, attribute).map_err(Refused::Attribute)
    }

    fn idle(&self, index: Index) -> Result<(), Refused> {
        self.mappings().find(|m| m.region == index).map_or(Ok(()), |with| Err(Refused::Busy { with: *with }))
    }
}

/// The pages an area touches.
const fn pages(area: Area) -> Area {
    let offset = area.offset & !(PAGE - 1);
    Area { offset, size: (area.last() | (PAGE - 1)) - offset + 1 }
}

/// `offset` and `size` inside a region, as an area of the BAR.
fn within(region: Area, offset: u64, size: u64) -> Result<Area, Refused> {
    let area = Area { offset, size };
    if size == 0 || !(offset | size).is_multiple_of(PAGE) {
        return Err(Refused::Unaligned(area));
    }
    if offset.checked_add(size).is_none_or(|end| end > region.size) {
        return Err(Refused::Outside { area, size: region.size });
    }
    Ok(Area { offset: region.offset + offset, size })
}
