//! VFIO's regions: each clause of the documentation of `hyp::region` by name, and any sequence of calls beside a naive
//! reference that keeps, for every page, the mappings it has.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::{Random, Story, tell_all};
use hyp::{
    Facts, NoAttribute, Pgprot, Policy,
    region::{Area, BARS, Bar, Device, FIRST_DYNAMIC, Index, MAX_AREAS, MapId, Refused, Uapi},
};
use memtype::Attribute;
use mmu::{Oa, PAGE};
use platform::{NcDefect, Platform};

const BAR_PA: Oa = Oa(0x50_0000_0000);

// ---- a naive reference --------------------------------------------------------------------------------------------------------

/// What a call was refused for, without its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    NoCall,
    NoAttribute,
    NotCacheable,
    BadBar,
    NoRegion,
    NotABar,
    Unaligned,
    Outside,
    NotMappable,
    Overlap,
    Conflict,
    Busy,
    NoMapping,
    Full,
}

fn class(refused: &Refused) -> Class {
    match refused {
        Refused::NoCall { .. } => Class::NoCall,
        Refused::Attribute(NoAttribute::NoCall { .. }) => Class::NoAttribute,
        Refused::Attribute(NoAttribute::NotCacheable) => Class::NotCacheable,
        Refused::BadBar { .. } => Class::BadBar,
        Refused::NoRegion(_) => Class::NoRegion,
        Refused::NotABar(_) => Class::NotABar,
        Refused::Unaligned(_) => Class::Unaligned,
        Refused::Outside { .. } => Class::Outside,
        Refused::NotMappable(_) => Class::NotMappable,
        Refused::Overlap { .. } => Class::Overlap,
        Refused::Conflict { .. } => Class::Conflict,
        Refused::Busy { .. } => Class::Busy,
        Refused::NoMapping(_) => Class::NoMapping,
        Refused::Full { .. } => Class::Full,
    }
}

/// How a page is mapped, as far as memory types go: the page protection, and VM_ALLOW_ANY_UNCACHED.
type Type = (Pgprot, bool);

/// The table of the policies, by what a BAR is under each when nothing is asked, and what asking changes.
fn type_of(policy: Policy, facts: &Facts, asked: Attribute) -> Result<Type, Class> {
    let plain = (Pgprot::Noncached, false);
    let if_wc = |wc| if wc { (Pgprot::WriteCombine, false) } else { plain };
    let or_cached = |other| if facts.cached { (Pgprot::Cached, false) } else { other };
    let described = facts.platform.described && facts.platform.normal_nc == NcDefect::None;
    let unasked = match policy.name() {
        "linux-6.1" | "x86-ept" => plain,
        "prefetchable" => if_wc(facts.prefetchable),
        "vga" => if_wc(facts.vga),
        "follow-vma" | "subregions" => or_cached(plain),
        "linux-6.9" | "linux-6.17" => or_cached((Pgprot::Noncached, true)),
        "firmware" => (Pgprot::Noncached, described),
        other => panic!("{other} is new"),
    };
    match (asked, policy.name()) {
        (Attribute::Default, _) => Ok(unasked),
        (Attribute::Uncached, "subregions") => Ok(plain),
        (Attribute::WriteCombine, "subregions") => Ok((Pgprot::WriteCombine, false)),
        (Attribute::Cached, "subregions") if facts.cached => Ok((Pgprot::Cached, false)),
        (Attribute::Cached, "subregions") => Err(Class::NotCacheable),
        _ => Err(Class::NoAttribute),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    index: u32,
    bar: u8,
    offset: u64,
    size: u64,
    asked: Attribute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Live {
    id: u32,
    by: u32,
    bar: u8,
    offset: u64,
    size: u64,
    ty: Type,
}

fn pages_of(offset: u64, size: u64) -> BTreeSet<u64> {
    (offset / PAGE..(offset + size).div_ceil(PAGE)).collect()
}

/// Regions and mappings as plain lists; every question is asked page by page.
#[derive(Debug)]
struct Naive {
    policy: Policy,
    uapi: Uapi,
    bars: Vec<Bar>,
    places: (usize, usize),
    parts: Vec<Part>,
    live: Vec<Live>,
    next: Attribute,
    whole: [Attribute; BARS],
}

/// What speaks against a call: the device must give one of these, and success where there is none.
type Against = Vec<Class>;

impl Naive {
    fn new(setting: &Setting) -> Self {
        Self {
            policy: setting.policy,
            uapi: setting.uapi,
            bars: setting.bars.clone(),
            places: setting.places,
            parts: Vec::new(),
            live: Vec::new(),
            next: Attribute::Default,
            whole: [Attribute::Default; BARS],
        }
    }
    fn bar(&self, index: u32) -> Option<&Bar> {
        self.bars.iter().find(|b| u32::from(b.index) == index)
    }
    fn part(&self, index: u32) -> Option<Part> {
        self.parts.iter().copied().find(|p| p.index == index).or_else(|| {
            let bar = self.bar(index)?;
            Some(Part { index, bar: bar.index, offset: 0, size: bar.size, asked: self.whole[usize::from(bar.index)] })
        })
    }
    fn ty(&self, bar: u8, asked: Attribute) -> Result<Type, Class> {
        type_of(self.policy, &self.bar(u32::from(bar)).unwrap().facts, asked)
    }
    /// What is wrong with a range of a region of `size` bytes, in numbers that do not overflow.
    fn range(size: u64, offset: u64, bytes: u64) -> Against {
        let page = u128::from(PAGE);
        let (o, b) = (u128::from(offset), u128::from(bytes));
        let mut against = Against::new();
        if b == 0 || !o.is_multiple_of(page) || !b.is_multiple_of(page) {
            against.push(Class::Unaligned);
        }
        if o + b > u128::from(size) {
            against.push(Class::Outside);
        }
        against
    }
    fn mapped(&self, index: u32) -> bool {
        self.live.iter().any(|l| l.by == index)
    }
    /// Whether one of these pages has a mapping of another type, by whomever `but` does not name.
    fn conflict(&self, bar: u8, pages: &BTreeSet<u64>, ty: Type, but: Option<u32>) -> bool {
        let others = self.live.iter().filter(|l| l.bar == bar && l.ty != ty && Some(l.by) != but);
        others.into_iter().any(|l| !pages_of(l.offset, l.size).is_disjoint(pages))
    }

    /// What speaks against it, or the index there is already.
    fn create(&self, parent: u32, offset: u64, size: u64, asked: Attribute) -> Result<Option<u32>, Against> {
        let (creates, parts, overlaps) = match self.uapi {
            Uapi::NextMmap | Uapi::WholeIndex => (false, false, false),
            Uapi::Subregions => (true, true, false),
            Uapi::Alias => (true, false, true),
            Uapi::DmaBuf => (true, true, true),
        };
        let mut against = Against::new();
        if !creates {
            against.push(Class::NoCall);
        }
        let Some(bar) = self.bar(parent) else {
            against.push(if self.part(parent).is_some() { Class::NotABar } else { Class::NoRegion });
            return Err(against);
        };
        against.extend(Self::range(bar.size, offset, size));
        if !parts && (offset, size) != (0, bar.size) {
            against.push(Class::NoCall);
        }
        against.extend(self.ty(bar.index, asked).err());
        if !against.is_empty() {
            return Err(against);
        }
        let wanted = pages_of(offset, size);
        let of_this: Vec<_> = self.parts.iter().filter(|p| p.bar == bar.index).collect();
        if let Some(same) = of_this.iter().find(|p| p.asked == asked && pages_of(p.offset, p.size) == wanted) {
            return Ok(Some(same.index));
        }
        if !overlaps && of_this.iter().any(|p| !pages_of(p.offset, p.size).is_disjoint(&wanted)) {
            against.push(Class::Overlap);
        }
        if self.parts.len() == self.places.0 {
            against.push(Class::Full);
        }
        if against.is_empty() { Ok(None) } else { Err(against) }
    }

    fn remove(&self, index: u32) -> Against {
        let mut against = Against::new();
        if self.mapped(index) {
            against.push(Class::Busy);
        }
        if !self.parts.iter().any(|p| p.index == index) {
            against.push(Class::NoRegion);
        }
        against
    }

    fn set(&self, index: u32, asked: Attribute) -> Against {
        let Some(part) = self.part(index) else { return vec![Class::NoRegion] };
        let a_bar = self.bar(index).is_some();
        let mut against = Against::new();
        let has = match self.uapi {
            Uapi::NextMmap | Uapi::Alias => false,
            Uapi::WholeIndex => a_bar,
            Uapi::Subregions | Uapi::DmaBuf => !a_bar,
        };
        if !has {
            against.push(Class::NoCall);
        }
        match self.ty(part.bar, asked) {
            Err(class) => against.push(class),
            Ok(_) if self.mapped(index) && self.uapi != Uapi::Subregions => against.push(Class::Busy),
            // What KVM is told covers the whole region: nothing of another type may lie in it.
            Ok(ty) if self.mapped(index) => {
                if self.conflict(part.bar, &pages_of(part.offset, part.size), ty, Some(index)) {
                    against.push(Class::Conflict);
                }
            }
            Ok(_) => {}
        }
        against
    }

    /// What speaks against it, or the mapping as it will be, but for its number.
    fn mmap(&self, index: u32, offset: u64, size: u64) -> Result<Live, Against> {
        let Some(part) = self.part(index) else { return Err(vec![Class::NoRegion]) };
        let mut against = Self::range(part.size, offset, size);
        let asked = if self.uapi == Uapi::NextMmap { self.next } else { part.asked };
        let ty = self.ty(part.bar, asked);
        against.extend(ty.err());
        let bar = self.bar(u32::from(part.bar)).unwrap();
        if !against.contains(&Class::Outside) {
            let first = part.offset + offset;
            let wanted = pages_of(first, size);
            let in_an_area = |a: &Area| (a.offset..a.offset + a.size).contains(&first) && first + size <= a.offset + a.size;
            let areas: Vec<_> = bar.sparse.iter().flatten().collect();
            if !bar.mmap
                || bar.msix.is_some_and(|m| !pages_of(m.offset, m.size).is_disjoint(&wanted))
                || !areas.is_empty() && !areas.into_iter().any(in_an_area)
            {
                against.push(Class::NotMappable);
            }
            if ty.is_ok_and(|ty| self.conflict(part.bar, &wanted, ty, None)) {
                against.push(Class::Conflict);
            }
        }
        if self.live.len() == self.places.1 {
            against.push(Class::Full);
        }
        if against.is_empty() {
            Ok(Live { id: 0, by: index, bar: part.bar, offset: part.offset + offset, size, ty: ty.unwrap() })
        } else {
            Err(against)
        }
    }
}

// ---- any sequence of calls ----------------------------------------------------------------------------------------------------

#[derive(Debug, Clone)]
struct Setting {
    policy: Policy,
    uapi: Uapi,
    bars: Vec<Bar>,
    /// Places for regions and for mappings: few, so that they fill.
    places: (usize, usize),
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Create(u32, u64, u64, Attribute),
    Remove(u32),
    SetNext(Attribute),
    Set(u32, Attribute),
    Mmap(u32, u64, u64),
    /// A BAR, whole; who maps it gives up after so many mappings.
    MmapBar(u8, u8),
    Munmap(u32),
    Detach,
}

fn facts(r: &mut Random) -> Facts {
    let platform = Platform { described: r.one_in(2), normal_nc: r.of(&NcDefect::ALL), ..Platform::USUAL };
    Facts { prefetchable: r.one_in(2), vga: r.one_in(2), cached: r.one_in(2), platform }
}

fn area(r: &mut Random, size: u64, grain: u64) -> Area {
    let offset = r.below(size / grain) * grain;
    Area { offset, size: grain * (1 + r.below((size - offset) / grain)) }
}

fn bar(r: &mut Random, index: u8) -> Bar {
    let size = PAGE << r.below(6);
    let mut bar = Bar::new(index, Oa(BAR_PA.0 + u64::from(index) * (1 << 20)), size).with(facts(r));
    bar.mmap = !r.one_in(12);
    if r.one_in(6) {
        bar.msix = Some(area(r, size, 16));
    }
    if r.one_in(6) {
        for place in &mut bar.sparse[..1 + r.below(MAX_AREAS as u64) as usize] {
            *place = (!r.one_in(4)).then(|| area(r, size, PAGE));
        }
    }
    bar
}

fn attribute(r: &mut Random) -> Attribute {
    r.of(&[Attribute::Default, Attribute::Default, Attribute::Uncached, Attribute::WriteCombine, Attribute::Cached])
}

/// A range that mostly lies in a small region, and sometimes nowhere.
fn range(r: &mut Random) -> (u64, u64) {
    const HOSTILE: [u64; 12] =
        [0, 1, 2048, 4095, 4097, 1 << 20, 1 << 32, 1 << 63, !PAGE + 1, !0xfff - 4096, u64::MAX - 1, u64::MAX];
    let pages = |r: &mut Random| r.below(4) * r.below(4) * PAGE;
    match r.below(12) {
        0 => (r.of(&HOSTILE), r.of(&HOSTILE)),
        1 => (pages(r), r.of(&HOSTILE)),
        2 => (r.of(&HOSTILE), pages(r)),
        // A region whole.
        3 => (0, PAGE << r.below(6)),
        _ => (pages(r), PAGE + pages(r)),
    }
}

fn index(r: &mut Random) -> u32 {
    match r.below(16) {
        0 => r.of(&[6, 7, 8, 255, 256, 258, u32::MAX]),
        1..=7 => r.below(3) as u32,
        _ => FIRST_DYNAMIC + r.below(8) as u32,
    }
}

fn call(r: &mut Random) -> Call {
    let (offset, size) = range(r);
    match r.below(24) {
        0..=5 => Call::Create(if r.one_in(10) { index(r) } else { r.below(3) as u32 }, offset, size, attribute(r)),
        6 | 7 => Call::Remove(index(r)),
        8 | 9 => Call::SetNext(attribute(r)),
        10..=12 => Call::Set(index(r), attribute(r)),
        13..=18 => Call::Mmap(index(r), offset, size),
        19 => Call::MmapBar(if r.one_in(8) { r.next() as u8 } else { r.below(3) as u8 }, r.below(6) as u8),
        20..=22 => Call::Munmap(if r.one_in(8) { r.next() as u32 } else { r.below(12) as u32 }),
        _ => Call::Detach,
    }
}

fn story(seed: u64) -> Story<Setting, Call> {
    let r = &mut Random(seed);
    let bars = (0..1 + r.below(3) as u8).map(|i| bar(r, i)).collect();
    // Most attributes are refused by all but one policy.
    let policy = if r.one_in(2) { Policy::Subregions } else { r.of(&Policy::ALL) };
    let places = r.of(&[(0, 0), (1, 2), (3, 4), (6, 8), (6, 8), (6, 8), (6, 8)]);
    let uapi = if r.one_in(3) { Uapi::Subregions } else { r.of(&Uapi::ALL) };
    let setting = Setting { policy, uapi, bars, places };
    Story { setting, events: (0..2 + r.below(80)).map(|_| call(r)).collect() }
}

/// The answer of the device beside the reasons the reference has.
fn agree<T: std::fmt::Debug>(call: &Call, answer: Result<&T, &Refused>, against: &[Class]) -> Result<(), String> {
    let fine = match answer {
        Ok(_) => against.is_empty(),
        Err(refused) => {
            assert!(!refused.to_string().is_empty() && refused.errno() > 0);
            against.contains(&class(refused))
        }
    };
    if fine { Ok(()) } else { Err(format!("{call:x?}: {answer:x?}, but against it speaks {against:?}")) }
}

/// Who maps a BAR stops because it was refused, or of its own.
#[derive(Debug)]
enum Stop {
    Refused(Refused),
    Enough,
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

struct Pair<const R: usize, const M: usize> {
    device: Device<R, M>,
    naive: Naive,
    /// Every index and every number of a mapping there ever was.
    indices: BTreeSet<u32>,
    ids: BTreeSet<u32>,
}

impl<const R: usize, const M: usize> Pair<R, M> {
    fn mapped(&mut self, id: MapId, live: Live) -> Result<(), String> {
        if !self.ids.insert(id.0) {
            return Err(format!("the number {id:?} comes twice"));
        }
        self.naive.live.push(Live { id: id.0, ..live });
        Ok(())
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        let before = self.device.clone();
        let refused = self.answer(call)?;
        // A refused call changes nothing, but that an attribute set for the next mmap is spent.
        let mut expected = before;
        if matches!(call, Call::Mmap(..)) {
            let _ = expected.set_next(Attribute::Default);
        }
        if refused && format!("{expected:?}") != format!("{:?}", self.device) {
            return Err(format!("{call:x?} was refused and changed the device: {expected:x?} to {:x?}", self.device));
        }
        Ok(())
    }

    /// Whether it was refused.
    fn answer(&mut self, call: &Call) -> Result<bool, String> {
        match *call {
            Call::Create(parent, offset, size, asked) => {
                let answer = self.device.create(Index(parent), offset, size, asked);
                let expected = self.naive.create(parent, offset, size, asked);
                agree(call, answer.as_ref(), expected.as_ref().err().map_or(&[], |a| a))?;
                let Ok(index) = answer else { return Ok(true) };
                match expected.unwrap() {
                    Some(there) if there == index.0 => {}
                    None if index.0 >= FIRST_DYNAMIC && self.indices.insert(index.0) => {
                        self.naive.parts.push(Part { index: index.0, bar: parent as u8, offset, size, asked });
                    }
                    there => return Err(format!("{call:x?}: {index:?}, but {there:?} was there; before: {:?}", self.indices)),
                }
            }
            Call::Remove(index) => {
                let answer = self.device.remove(Index(index));
                agree(call, answer.as_ref(), &self.naive.remove(index))?;
                if answer.is_err() {
                    return Ok(true);
                }
                self.naive.parts.retain(|p| p.index != index);
            }
            Call::SetNext(asked) => {
                let answer = self.device.set_next(asked);
                let has = self.naive.uapi == Uapi::NextMmap;
                agree(call, answer.as_ref(), if has { &[] } else { &[Class::NoCall] })?;
                if !has {
                    return Ok(true);
                }
                self.naive.next = asked;
            }
            Call::Set(index, asked) => {
                let answer = self.device.set(Index(index), asked);
                agree(call, answer.as_ref(), &self.naive.set(index, asked))?;
                let Ok(zap) = answer else { return Ok(true) };
                let part = self.naive.part(index).unwrap();
                let ty = self.naive.ty(part.bar, asked).unwrap();
                if zap.is_some() != self.naive.mapped(index) {
                    return Err(format!("{call:x?}: {zap:?} of a region that is mapped or is not"));
                }
                match self.naive.parts.iter_mut().find(|p| p.index == index) {
                    Some(part) => part.asked = asked,
                    None => self.naive.whole[usize::from(part.bar)] = asked,
                }
                for l in self.naive.live.iter_mut().filter(|l| l.by == index) {
                    l.ty = ty;
                }
                if let Some(zap) = zap {
                    // Everything that changed lies in it, and everything in it has the type KVM is told.
                    let bar = self.naive.bar(u32::from(part.bar)).unwrap();
                    let first = zap.pa.0 - bar.pa.0;
                    let told = pages_of(first, zap.size);
                    for l in self.naive.live.iter().filter(|l| l.bar == part.bar) {
                        let pages = pages_of(l.offset, l.size);
                        if l.by == index && !pages.is_subset(&told)
                            || !pages.is_disjoint(&told) && l.ty != (zap.vma.pgprot, zap.vma.allow_any_uncached)
                        {
                            return Err(format!("{call:x?}: {zap:x?} is not true of {l:x?}"));
                        }
                    }
                }
            }
            Call::Mmap(index, offset, size) => {
                let answer = self.device.mmap(Index(index), offset, size);
                let expected = self.naive.mmap(index, offset, size);
                self.naive.next = Attribute::Default;
                agree(call, answer.as_ref(), expected.as_ref().err().map_or(&[], |a| a))?;
                let Ok(id) = answer else { return Ok(true) };
                self.mapped(id, expected.unwrap())?;
            }
            Call::MmapBar(number, patience) => self.mmap_bar(call, number, patience)?,
            Call::Munmap(id) => {
                let answer = self.device.munmap(MapId(id));
                let there = self.naive.live.iter().position(|l| l.id == id);
                agree(call, answer.as_ref(), if there.is_some() { &[] } else { &[Class::NoMapping] })?;
                let Some(there) = there else { return Ok(true) };
                self.naive.live.remove(there);
            }
            Call::Detach => {
                let answer = self.device.detach();
                agree(call, answer.as_ref(), if self.naive.live.is_empty() { &[] } else { &[Class::Busy] })?;
                return Ok(answer.is_err());
            }
        }
        Ok(false)
    }

    /// The pieces come in ascending order without a gap, each is a region whole or lies between regions, and each is mapped
    /// as if by itself. It ends at the end of the BAR, at the first piece refused, or where the caller stops.
    fn mmap_bar(&mut self, call: &Call, number: u8, patience: u8) -> Result<(), String> {
        let mut pieces = Vec::new();
        let answer: Result<(), Stop> = self.device.mmap_bar(number, |mapping, pa| {
            pieces.push((*mapping, pa));
            if pieces.len() > usize::from(patience) { Err(Stop::Enough) } else { Ok(()) }
        });
        let Some(bar) = self.naive.bar(u32::from(number)).copied() else {
            return match answer {
                Err(Stop::Refused(Refused::NoRegion(_))) if pieces.is_empty() => Ok(()),
                other => Err(format!("{call:?}: {other:?}")),
            };
        };
        let mut at = 0;
        for (mapping, pa) in &pieces {
            let part = self.naive.part(mapping.region.0).ok_or("a piece by no region")?;
            let own = part.index >= FIRST_DYNAMIC;
            let begun = self.naive.parts.iter().find(|p| {
                p.bar == number && (mapping.area.offset..mapping.area.offset + mapping.area.size).contains(&p.offset)
            });
            if mapping.area.offset != at
                || *pa != Oa(bar.pa.0 + at)
                || own && (part.offset, part.size) != (mapping.area.offset, mapping.area.size)
                || !own && begun.is_some()
            {
                return Err(format!("{call:?}: {mapping:x?} at {pa:x?}, when {at:#x} was to be next"));
            }
            let live = self.naive.mmap(mapping.region.0, at - part.offset, mapping.area.size);
            self.naive.next = Attribute::Default;
            let live = live.map_err(|a| format!("{call:?}: {mapping:x?}, but against it speaks {a:?}"))?;
            self.mapped(mapping.id, live)?;
            at += mapping.area.size;
        }
        match answer {
            Ok(()) if at == bar.size => {}
            Err(Stop::Enough) if pieces.len() == usize::from(patience) + 1 => {}
            Err(Stop::Refused(refused)) => {
                // The piece that was to be next.
                let here = self.naive.parts.iter().filter(|p| p.bar == number && p.offset == at);
                let mut tries: Vec<_> = here.map(|p| (p.index, 0, p.size)).collect();
                if tries.is_empty() {
                    let ends = self.naive.parts.iter().filter(|p| p.bar == number && p.offset > at).map(|p| p.offset);
                    tries.push((u32::from(number), at, ends.min().unwrap_or(bar.size) - at));
                }
                let reasons = tries.into_iter().filter_map(|(i, o, s)| self.naive.mmap(i, o, s).err()).flatten();
                let reasons: Vec<_> = reasons.collect();
                self.naive.next = Attribute::Default;
                if !reasons.contains(&class(&refused)) {
                    return Err(format!("{call:?}: {refused:x?} at {at:#x}, but against it speaks {reasons:?}"));
                }
            }
            other => return Err(format!("{call:?}: {other:?} at {at:#x}")),
        }
        Ok(())
    }

    /// What must hold of the device at any time, and that the reference sees the same.
    fn sound(&self) -> Result<(), String> {
        let live: Vec<_> = self.device.mappings().copied().collect();
        for a in &live {
            for b in &live {
                let shared = a.bar == b.bar
                    && !pages_of(a.area.offset, a.area.size).is_disjoint(&pages_of(b.area.offset, b.area.size));
                let ty = |m: &hyp::region::Mapping| (m.vma.pgprot, m.vma.allow_any_uncached, m.vma.pfnmap);
                if shared && ty(a) != ty(b) {
                    return Err(format!("a page has two types: {a:x?}, {b:x?}"));
                }
            }
        }
        let mut seen: Vec<_> = live
            .iter()
            .map(|m| {
                let ty = (m.vma.pgprot, m.vma.allow_any_uncached);
                Live { id: m.id.0, by: m.region.0, bar: m.bar, offset: m.area.offset, size: m.area.size, ty }
            })
            .collect();
        seen.sort_by_key(|l| l.id);
        let mut expected = self.naive.live.clone();
        expected.sort_by_key(|l| l.id);
        if seen != expected {
            return Err(format!("live are {seen:x?}, not {expected:x?}"));
        }
        let mut seen: Vec<_> = self
            .device
            .regions()
            .map(|r| Part {
                index: r.index.0,
                bar: r.bar,
                offset: r.area.offset,
                size: r.area.size,
                asked: r.attribute,
            })
            .collect();
        seen.sort_by_key(|p| p.index);
        let mut expected = self.naive.parts.clone();
        expected.sort_by_key(|p| p.index);
        if seen != expected {
            return Err(format!("the regions are {seen:x?}, not {expected:x?}"));
        }
        for bar in (0..12).chain([u32::MAX]) {
            let seen = self.device.region(Index(bar)).ok().map(|r| r.attribute);
            if seen != self.naive.part(bar).map(|p| p.asked) {
                return Err(format!("region {bar} is {seen:?}"));
            }
        }
        Ok(())
    }
}

fn tell(story: &Story<Setting, Call>) -> Result<(), String> {
    fn with<const R: usize, const M: usize>(story: &Story<Setting, Call>) -> Result<(), String> {
        let Setting { policy, uapi, bars, .. } = &story.setting;
        let device = Device::<R, M>::new(*policy, *uapi, bars).map_err(|e| e.to_string())?;
        let (indices, ids) = (BTreeSet::new(), BTreeSet::new());
        let mut pair = Pair { device, naive: Naive::new(&story.setting), indices, ids };
        for call in &story.events {
            pair.call(call)?;
            pair.sound().map_err(|e| format!("after {call:x?}: {e}"))?;
        }
        Ok(())
    }
    match story.setting.places {
        (0, 0) => with::<0, 0>(story),
        (1, 2) => with::<1, 2>(story),
        (3, 4) => with::<3, 4>(story),
        (6, 8) => with::<6, 8>(story),
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_calls_give_what_the_reference_gives() {
    tell_all(2000, story, tell);
}

/// The stories reach what they are for.
#[test]
fn the_stories_meet_every_refusal() {
    let mut met = Vec::new();
    let mut taken = 0;
    for seed in 0..2000 {
        let story = story(seed);
        if story.setting.places != (6, 8) {
            continue;
        }
        let Setting { policy, uapi, bars, .. } = &story.setting;
        let mut device = Device::<6, 8>::new(*policy, *uapi, bars).unwrap();
        for call in &story.events {
            let answer = match *call {
                Call::Create(i, o, s, a) => device.create(Index(i), o, s, a).map(drop),
                Call::Remove(i) => device.remove(Index(i)),
                Call::SetNext(a) => device.set_next(a),
                Call::Set(i, a) => device.set(Index(i), a).map(drop),
                Call::Mmap(i, o, s) => device.mmap(Index(i), o, s).map(drop),
                Call::MmapBar(n, _) => device.mmap_bar(n, |_, _| Ok(())),
                Call::Munmap(i) => device.munmap(MapId(i)),
                Call::Detach => device.detach(),
            };
            match answer {
                Ok(()) => taken += 1,
                Err(refused) if met.contains(&class(&refused)) => {}
                Err(refused) => met.push(class(&refused)),
            }
        }
    }
    assert!(taken > 2000, "{taken}");
    assert_eq!(met.len(), 13, "all but a bad BAR: {met:?}");
}
