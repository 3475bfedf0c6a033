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

    /// What speaks against it, or those there are already. That is one or none, but for buffers whose attributes were set alike.
    fn create(&self, parent: u32, offset: u64, size: u64, asked: Attribute) -> Result<Vec<u32>, Against> {
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
        let same = of_this.iter().filter(|p| p.asked == asked && pages_of(p.offset, p.size) == wanted);
        let same: Vec<_> = same.map(|p| p.index).collect();
        // Every export is a buffer of its own.
        if !same.is_empty() && self.uapi != Uapi::DmaBuf {
            assert_eq!(same.len(), 1);
            return Ok(same);
        }
        if !overlaps && of_this.iter().any(|p| !pages_of(p.offset, p.size).is_disjoint(&wanted)) {
            against.push(Class::Overlap);
        }
        if self.parts.len() == self.places.0 {
            against.push(Class::Full);
        }
        if against.is_empty() { Ok(Vec::new()) } else { Err(against) }
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
            let in_an_area =
                |a: &Area| (a.offset..a.offset + a.size).contains(&first) && first + size <= a.offset + a.size;
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
                let there = expected.unwrap();
                if there.is_empty() {
                    if index.0 < FIRST_DYNAMIC || !self.indices.insert(index.0) {
                        return Err(format!("{call:x?}: {index:?} comes twice; there were {:?}", self.indices));
                    }
                    self.naive.parts.push(Part { index: index.0, bar: parent as u8, offset, size, asked });
                } else if !there.contains(&index.0) {
                    return Err(format!("{call:x?}: {index:?}, but {there:?} was there"));
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

// ---- clause by clause ---------------------------------------------------------------------------------------------------------

const K64: u64 = 0x1_0000;
const M1: u64 = 1 << 20;
const BAR2: Index = Index(2);
const WC: Attribute = Attribute::WriteCombine;

type Dev = Device<4, 6>;

fn device(uapi: Uapi) -> Dev {
    Dev::new(Policy::Subregions, uapi, &[Bar::new(2, BAR_PA, M1)]).unwrap()
}
fn pgprot(d: &Dev, id: MapId) -> Pgprot {
    d.mapping(id).unwrap().vma.pgprot
}

/// A doorbell in the first 64 KiB, a buffer to be write-combining in the next. Each uAPI does what it can; the answer is how
/// the two are mapped.
fn doorbell_and_buffer(uapi: Uapi, d: &mut Dev) -> Result<(Pgprot, Pgprot), Class> {
    let both = (|| {
        let buffer = match uapi {
            Uapi::NextMmap => {
                d.set_next(WC)?;
                d.mmap(BAR2, K64, K64)?
            }
            Uapi::WholeIndex => {
                d.set(BAR2, WC)?;
                let buffer = d.mmap(BAR2, K64, K64)?;
                d.set(BAR2, Attribute::Uncached)?;
                buffer
            }
            Uapi::Subregions => {
                let part = d.create(BAR2, K64, K64, WC)?;
                d.mmap(part, 0, K64)?
            }
            Uapi::Alias => {
                let alias = d.create(BAR2, 0, M1, WC)?;
                d.mmap(alias, K64, K64)?
            }
            Uapi::DmaBuf => {
                let buffer = d.create(BAR2, K64, K64, Attribute::Default)?;
                d.set(buffer, WC)?;
                d.mmap(buffer, 0, K64)?
            }
        };
        Ok((d.mmap(BAR2, 0, K64)?, buffer))
    })();
    both.map(|(doorbell, buffer)| (pgprot(d, doorbell), pgprot(d, buffer))).map_err(|e| class(&e))
}

/// What user space can say of one BAR by each uAPI, and what a guest gets when a VMM that has said it maps the BAR whole.
#[test]
fn a_doorbell_and_a_write_combining_buffer_in_one_bar() {
    use Pgprot::{Noncached, WriteCombine};
    let both = Ok((Noncached, WriteCombine));
    let apart: &[_] = &[(0, K64, Noncached), (K64, K64, WriteCombine), (2 * K64, M1 - 2 * K64, Noncached)];
    let all_wc: &[_] = &[(0, M1, WriteCombine)];
    let all_nc: &[_] = &[(0, M1, Noncached)];
    for (uapi, process, guest) in [
        // One mmap after the other: a process can; of a BAR mapped whole nothing can be said in part.
        (Uapi::NextMmap, both, all_nc),
        // The index is one, and it is mapped.
        (Uapi::WholeIndex, Err(Class::Busy), all_wc),
        (Uapi::Subregions, both, apart),
        // By index a process can; the alias is of the whole BAR, and so is what a guest gets by it.
        (Uapi::Alias, both, all_wc),
        (Uapi::DmaBuf, both, apart),
    ] {
        let mut d = device(uapi);
        assert_eq!(doorbell_and_buffer(uapi, &mut d), process, "{uapi:?}");
        // The process goes, what it asked for stays.
        for id in d.mappings().map(|m| m.id).collect::<Vec<_>>() {
            d.munmap(id).unwrap();
        }
        let mut pieces = Vec::new();
        let whole: Result<(), Refused> = d.mmap_bar(2, |m, pa| {
            assert_eq!(pa.0, BAR_PA.0 + m.area.offset);
            pieces.push((m.area.offset, m.area.size, m.vma.pgprot));
            Ok(())
        });
        assert_eq!((whole, &pieces[..]), (Ok(()), guest), "{uapi:?}");
    }
    // Under a policy without attributes nobody can ask, by whichever uAPI.
    for policy in Policy::ALL.into_iter().filter(|p| *p != Policy::Subregions) {
        for uapi in Uapi::ALL {
            let mut d = Dev::new(policy, uapi, &[Bar::new(2, BAR_PA, M1)]).unwrap();
            assert_eq!(doorbell_and_buffer(uapi, &mut d), Err(Class::NoAttribute), "{policy:?} {uapi:?}");
        }
    }
}

#[test]
fn each_uapi_has_its_calls_and_no_other() {
    for uapi in Uapi::ALL {
        let mut d = device(uapi);
        let has = |r: Result<(), Refused>| !matches!(r, Err(Refused::NoCall { uapi: u }) if u == uapi);
        let set_next = has(d.set_next(WC));
        let set_bar = has(d.set(BAR2, Attribute::Default).map(drop));
        let part = d.create(BAR2, 0, K64, WC);
        let whole = d.create(BAR2, 0, M1, Attribute::Default);
        let set_own = whole.or(part).is_ok_and(|own| has(d.set(own, Attribute::Uncached).map(drop)));
        let overlap = matches!((&part, &whole), (Ok(_), Ok(_)));
        let calls = (set_next, set_bar, has(part.map(drop)), has(whole.map(drop)), set_own, overlap);
        assert_eq!(
            calls,
            match uapi {
                Uapi::NextMmap => (true, false, false, false, false, false),
                Uapi::WholeIndex => (false, true, false, false, false, false),
                // The whole BAR overlaps the part.
                Uapi::Subregions => (false, false, true, true, true, false),
                Uapi::Alias => (false, false, false, true, false, false),
                Uapi::DmaBuf => (false, false, true, true, true, true),
            },
            "{uapi:?}"
        );
        assert_eq!(Uapi::named(uapi.name()), Some(uapi));
        assert!(!uapi.source().is_empty());
    }
}

#[test]
fn asked_twice_it_is_there_once_and_no_index_comes_twice() {
    for uapi in [Uapi::Subregions, Uapi::Alias, Uapi::DmaBuf] {
        let mut d = device(uapi);
        let a = d.create(BAR2, 0, M1, WC).unwrap();
        let again = if uapi == Uapi::DmaBuf { Index(FIRST_DYNAMIC + 1) } else { a };
        assert_eq!((a, d.create(BAR2, 0, M1, WC)), (Index(FIRST_DYNAMIC), Ok(again)));
        d.remove(a).unwrap();
        if uapi == Uapi::DmaBuf {
            d.remove(again).unwrap();
        }
        assert_eq!(d.create(BAR2, 0, M1, WC), Ok(Index(again.0 + 1)), "{uapi:?}");
        // Nor does a mapping's number, and a stale one maps nothing.
        let first = d.mmap(BAR2, 0, PAGE).unwrap();
        d.munmap(first).unwrap();
        let second = d.mmap(BAR2, 0, PAGE).unwrap();
        assert!(first != second && d.munmap(first) == Err(Refused::NoMapping(first)));
    }
}

#[test]
fn subregions_overlap_is_refused_when_they_are_made_and_an_alias_when_it_is_mapped() {
    let mut d = device(Uapi::Subregions);
    let part = d.create(BAR2, K64, K64, WC).unwrap();
    for (offset, size) in [(0, K64 + PAGE), (2 * K64 - PAGE, PAGE), (K64, K64), (0, M1)] {
        let answer = d.create(BAR2, offset, size, Attribute::Uncached);
        assert!(matches!(answer, Err(Refused::Overlap { with, .. }) if with.index == part), "{answer:?}");
    }
    d.create(BAR2, 0, K64, Attribute::Uncached).unwrap();
    d.create(BAR2, 2 * K64, PAGE, Attribute::Uncached).unwrap();
    assert_eq!(d.create(part, 0, PAGE, WC), Err(Refused::NotABar(part)), "a child has no children");

    let mut d = device(Uapi::Alias);
    let wc = d.create(BAR2, 0, M1, WC).unwrap();
    let uc = d.create(BAR2, 0, M1, Attribute::Uncached).unwrap();
    let mapped = d.mmap(wc, 0, 2 * PAGE).unwrap();
    for index in [BAR2, uc] {
        let answer = d.mmap(index, PAGE, PAGE);
        assert!(matches!(answer, Err(Refused::Conflict { with, .. }) if with.id == mapped), "{answer:?}");
        d.mmap(index, 2 * PAGE, PAGE).unwrap();
    }
    // The same type twice is no conflict; nor is another once the first is gone.
    let again = d.mmap(wc, 0, PAGE).unwrap();
    d.munmap(mapped).unwrap();
    d.mmap(uc, PAGE, PAGE).unwrap();
    assert!(matches!(d.mmap(uc, 0, PAGE), Err(Refused::Conflict { .. })));
    d.munmap(again).unwrap();
    d.mmap(uc, 0, PAGE).unwrap();
}

/// Two mappings differ where their types do: that one was asked for and the other is the default is no difference.
#[test]
fn uncached_that_was_asked_for_is_the_uncached_of_the_default() {
    let facts = |cached| Facts { cached, ..Facts::default() };
    for (cached, asked) in [(false, Attribute::Uncached), (true, Attribute::Cached)] {
        let bar = Bar::new(2, BAR_PA, M1).with(facts(cached));
        let mut d = Dev::new(Policy::Subregions, Uapi::Alias, &[bar]).unwrap();
        let alias = d.create(BAR2, 0, M1, asked).unwrap();
        let (a, b) = (d.mmap(BAR2, 0, PAGE).unwrap(), d.mmap(alias, 0, PAGE).unwrap());
        let (a, b) = (d.mapping(a).unwrap(), d.mapping(b).unwrap());
        assert!(a.vma == b.vma && a.why != b.why, "{a:?} {b:?}");
    }
}

#[test]
fn what_is_mapped_is_not_removed_nor_detached() {
    let mut d = device(Uapi::Subregions);
    let part = d.create(BAR2, 0, K64, WC).unwrap();
    let (a, b) = (d.mmap(part, 0, PAGE).unwrap(), d.mmap(part, PAGE, PAGE).unwrap());
    for id in [a, b] {
        let busy = Err(Refused::Busy { with: *d.mapping(id).unwrap() });
        assert_eq!((d.remove(part), d.detach()), (busy, busy));
        d.munmap(id).unwrap();
    }
    let bar = d.mmap(BAR2, M1 - PAGE, PAGE).unwrap();
    // Mapped by the BAR: that is not by the part. It is by the device.
    d.remove(part).unwrap();
    assert!(d.detach().is_err());
    d.munmap(bar).unwrap();
    assert_eq!(d.detach(), Ok(()));
    assert_eq!(d.remove(BAR2), Err(Refused::NoRegion(BAR2)), "a BAR is not removed");
}

#[test]
fn an_attribute_changes_under_a_mapping_where_the_proposal_has_that() {
    // A subregion's: what is mapped of it comes back, and KVM is told of all of it.
    let mut d = device(Uapi::Subregions);
    let part = d.create(BAR2, K64, K64, Attribute::Uncached).unwrap();
    assert_eq!(d.set(part, Attribute::Uncached), Ok(None), "nothing is mapped");
    let (a, b) = (d.mmap(part, 0, PAGE).unwrap(), d.mmap(part, 8 * PAGE, PAGE).unwrap());
    let zap = d.set(part, WC).unwrap().unwrap();
    assert_eq!((zap.pa, zap.size, zap.vma.pgprot), (Oa(BAR_PA.0 + K64), K64, Pgprot::WriteCombine));
    assert_eq!((pgprot(&d, a), pgprot(&d, b)), (Pgprot::WriteCombine, Pgprot::WriteCombine));
    // A whole index and a buffer: before they are mapped.
    let mut d = device(Uapi::WholeIndex);
    assert_eq!(d.set(BAR2, WC), Ok(None));
    let id = d.mmap(BAR2, 0, PAGE).unwrap();
    assert_eq!(d.set(BAR2, Attribute::Default), Err(Refused::Busy { with: *d.mapping(id).unwrap() }));
    let mut d = device(Uapi::DmaBuf);
    let buffer = d.create(BAR2, 0, K64, Attribute::Default).unwrap();
    assert_eq!(d.set(buffer, WC), Ok(None));
    let id = d.mmap(buffer, 0, PAGE).unwrap();
    assert_eq!(d.set(buffer, Attribute::Default), Err(Refused::Busy { with: *d.mapping(id).unwrap() }));
}

/// KVM is told of a range: where the BAR's own mapping, of another type, lies in it, what it is told would be false of that.
#[test]
fn an_attribute_does_not_change_around_the_mapping_of_another_region() {
    let mut d = device(Uapi::Subregions);
    let part = d.create(BAR2, 0, 2 * PAGE, Attribute::Uncached).unwrap();
    d.mmap(part, 0, PAGE).unwrap();
    let own = d.mmap(BAR2, PAGE, PAGE).unwrap();
    assert!(matches!(d.set(part, WC), Err(Refused::Conflict { with, .. }) if with.id == own));
    assert_eq!(d.region(part).unwrap().attribute, Attribute::Uncached);
    // To the type that is there it does.
    assert!(d.set(part, Attribute::Default).unwrap().is_some());
    d.munmap(own).unwrap();
    assert!(d.set(part, WC).unwrap().is_some());
}

/// "A rather gross interface": it is a device's, and whoever maps next has it.
#[test]
fn the_next_mmap_takes_the_attribute_whoever_it_is_and_whether_or_not_it_succeeds() {
    let bars =
        [Bar::new(0, Oa(BAR_PA.0 + M1), K64), Bar { mmap: false, ..Bar::new(1, Oa(0), PAGE) }, Bar::new(2, BAR_PA, M1)];
    let next = || {
        let mut d = Device::<1, 1>::new(Policy::Subregions, Uapi::NextMmap, &bars).unwrap();
        d.set_next(WC).unwrap();
        d
    };
    // Meant for BAR 2, had by BAR 0.
    let mut d = next();
    let id = d.mmap(Index(0), 0, PAGE).unwrap();
    assert_eq!(d.mapping(id).unwrap().vma.pgprot, Pgprot::WriteCombine);
    d.set_next(Attribute::Cached).unwrap();
    // No driver's authority: that is found when it is mapped.
    assert_eq!(d.mmap(BAR2, 0, PAGE), Err(Refused::Attribute(NoAttribute::NotCacheable)));
    d.set_next(WC).unwrap();
    assert!(matches!(d.mmap(BAR2, 0, PAGE), Err(Refused::Full { places: 1 })));
    d.munmap(id).unwrap();
    let id = d.mmap(BAR2, 0, PAGE).unwrap();
    assert_eq!(d.mapping(id).unwrap().vma.pgprot, Pgprot::Noncached);
    // Refused for each reason, early or late.
    for (index, offset, size, refused) in [
        (7, 0, PAGE, Class::NoRegion),
        (2, 1, PAGE, Class::Unaligned),
        (2, M1, PAGE, Class::Outside),
        (1, 0, PAGE, Class::NotMappable),
    ] {
        let mut d = next();
        assert_eq!(class(&d.mmap(Index(index), offset, size).unwrap_err()), refused);
        let id = d.mmap(BAR2, 0, PAGE).unwrap();
        assert_eq!(d.mapping(id).unwrap().vma.pgprot, Pgprot::Noncached, "{refused:?}");
    }
}

/// "A device specific kernel driver providing adequate authority": without it nobody has cacheable memory.
#[test]
fn cached_takes_the_authority_of_a_driver() {
    for uapi in Uapi::ALL {
        for cached in [false, true] {
            let bar = Bar::new(2, BAR_PA, M1).with(Facts { cached, prefetchable: true, vga: true, ..Facts::default() });
            let mut d = Dev::new(Policy::Subregions, uapi, &[bar]).unwrap();
            let ask = match uapi {
                Uapi::NextMmap => d.set_next(Attribute::Cached).and_then(|()| d.mmap(BAR2, 0, M1)).map(drop),
                Uapi::WholeIndex => d.set(BAR2, Attribute::Cached).map(drop),
                _ => d.create(BAR2, 0, M1, Attribute::Cached).map(drop),
            };
            let wanted = if cached { Ok(()) } else { Err(Refused::Attribute(NoAttribute::NotCacheable)) };
            assert_eq!(ask, wanted, "{uapi:?}");
        }
    }
}

#[test]
fn the_pages_of_an_msix_table_are_not_mapped() {
    // A table of 40 entries and its PBA, from the middle of a page over the next.
    let msix = Some(Area { offset: 0x4800, size: 0x900 });
    let mut d = Dev::new(Policy::Linux6_1, Uapi::NextMmap, &[Bar { msix, ..Bar::new(2, BAR_PA, M1) }]).unwrap();
    for (offset, size, fine) in [
        (0, 0x4000, true),
        (0x6000, M1 - 0x6000, true),
        (0, 0x5000, false),
        (0x4000, PAGE, false),
        (0x5000, PAGE, false),
        (0x5000, M1 - 0x5000, false),
        (0, M1, false),
    ] {
        let answer = d.mmap(BAR2, offset, size);
        let refused = Err(Refused::NotMappable(Area { offset, size }));
        assert!(if fine { answer.is_ok() } else { answer == refused }, "{offset:#x}+{size:#x}: {answer:?}");
    }
    // A whole BAR with a hole in it cannot be mapped.
    assert!(matches!(d.mmap_bar(2, |_, _| Ok::<_, Refused>(())), Err(Refused::NotMappable(_))));
}

#[test]
fn only_sparse_areas_are_mapped_and_each_by_itself() {
    let mut sparse = [None; MAX_AREAS];
    sparse[0] = Some(Area { offset: 0, size: 0x4000 });
    sparse[3] = Some(Area { offset: 0x8000, size: 0x2000 });
    let mut d = Dev::new(Policy::Subregions, Uapi::Subregions, &[Bar { sparse, ..Bar::new(2, BAR_PA, M1) }]).unwrap();
    for (offset, size, fine) in [
        (0, 0x4000, true),
        (0x1000, 0x1000, true),
        (0x8000, 0x2000, true),
        (0x3000, 0x2000, false),
        (0x4000, 0x1000, false),
        (0x7000, 0x2000, false),
        (0, 0xa000, false),
        (M1 - PAGE, PAGE, false),
    ] {
        let answer = d.mmap(BAR2, offset, size);
        let refused = Err(Refused::NotMappable(Area { offset, size }));
        assert!(if fine { answer.is_ok() } else { answer == refused }, "{offset:#x}+{size:#x}: {answer:?}");
    }
    // A part may lie over the end of an area; of it, too, the area alone is mapped.
    let part = d.create(BAR2, 0x3000, 0x2000, Attribute::Uncached).unwrap();
    d.mmap(part, 0, PAGE).unwrap();
    assert_eq!(d.mmap(part, PAGE, PAGE), Err(Refused::NotMappable(Area { offset: 0x4000, size: PAGE })));
}

#[test]
fn full_tables_refuse_and_what_is_there_is_still_found() {
    let mut d = Device::<1, 1>::new(Policy::Subregions, Uapi::Subregions, &[Bar::new(2, BAR_PA, M1)]).unwrap();
    let part = d.create(BAR2, 0, PAGE, WC).unwrap();
    assert_eq!(d.create(BAR2, PAGE, PAGE, WC), Err(Refused::Full { places: 1 }));
    assert_eq!(d.create(BAR2, 0, PAGE, WC), Ok(part));
    let id = d.mmap(part, 0, PAGE).unwrap();
    assert_eq!(d.mmap(part, 0, PAGE), Err(Refused::Full { places: 1 }));
    d.munmap(id).unwrap();
    d.mmap(part, 0, PAGE).unwrap();
}

/// Any description of a device is taken or refused, and at the ends of all addresses the calls still answer.
#[test]
fn hostile_bars() {
    const NUMBERS: [u64; 14] =
        [0, 1, 4095, 4096, 4097, 8192, 12288, 1 << 20, 1 << 31, 1 << 62, 1 << 63, (1 << 63) + 4096, !4095, u64::MAX];
    let r = &mut Random(7);
    let mut taken = 0;
    for _ in 0..200_000 {
        let wild = |r: &mut Random| Area { offset: r.of(&NUMBERS), size: r.of(&NUMBERS) };
        let mut bars = Vec::new();
        for _ in 0..1 + r.below(2) {
            let mut bar = Bar::new(r.below(8) as u8, Oa(r.of(&NUMBERS)), r.of(&NUMBERS));
            bar.msix = r.one_in(3).then(|| wild(r));
            bar.sparse[r.below(4) as usize] = r.one_in(4).then(|| wild(r));
            bars.push(bar);
        }
        let good = |(i, bar): (usize, &Bar)| {
            let (pa, size) = (u128::from(bar.pa.0), u128::from(bar.size));
            let inside = |a: &Area| a.size > 0 && u128::from(a.offset) + u128::from(a.size) <= size;
            bar.index < 6
                && bars[..i].iter().all(|b| b.index != bar.index)
                && [12..=63].iter().flat_map(|bits| bits.clone()).any(|bit| size == 1 << bit)
                && pa.is_multiple_of(size)
                && pa + size <= 1 << 64
                && bar.msix.iter().chain(bar.sparse.iter().flatten()).all(inside)
        };
        let fine = bars.iter().enumerate().all(good);
        let device = Dev::new(Policy::Subregions, Uapi::DmaBuf, &bars);
        assert_eq!(device.is_ok(), fine, "{bars:x?}: {device:x?}");
        let Ok(mut d) = device else { continue };
        taken += 1;
        for bar in &bars {
            let index = Index(bar.index.into());
            for (offset, size) in
                [(0, bar.size), (bar.size - PAGE, PAGE), (bar.size, PAGE), (!4095, PAGE), (PAGE, !4095)]
            {
                let made = d.create(index, offset, size, WC);
                assert_eq!(
                    made.is_ok(),
                    offset < bar.size && size <= bar.size,
                    "{bar:x?} {offset:#x} {size:#x}: {made:?}"
                );
                let _ = made.and_then(|i| d.mmap(i, 0, size)).map(|_| ());
                let _ = d.mmap(index, offset, size);
            }
            let _: Result<(), Refused> = d.mmap_bar(bar.index, |_, _| Ok(()));
        }
    }
    assert!(taken > 100, "{taken}");
}

/// Each refusal says what to do about it, and gives the errno a kernel would.
#[test]
fn refusals_have_words_and_numbers() {
    let mut d = device(Uapi::Subregions);
    let part = d.create(BAR2, 0, K64, WC).unwrap();
    let id = d.mmap(part, 0, K64).unwrap();
    let with = *d.mapping(id).unwrap();
    let area = Area { offset: 0, size: K64 };
    for (refused, errno, words) in [
        (Refused::NoCall { uapi: Uapi::Alias }, 25, "`alias` has no such call"),
        (d.mmap(BAR2, 0, K64).unwrap_err(), 16, "no page has two types at once; unmap that one first"),
        (
            d.remove(part).unwrap_err(),
            16,
            "in use by the mapping of BAR 2 0x0+0x10000 (pgprot_writecombine, by region 9)",
        ),
        (d.create(BAR2, 0, PAGE, WC).unwrap_err(), 17, "0x0+0x1000 overlaps region 9 (0x0+0x10000, `write-combine`)"),
        (d.create(BAR2, K64, K64, Attribute::Cached).unwrap_err(), 95, "this one has none"),
        (d.mmap(Index(77), 0, K64).unwrap_err(), 2, "there is no region 77"),
        (d.munmap(MapId(77)).unwrap_err(), 2, "there is no mapping 77"),
        (d.mmap(part, 0, M1).unwrap_err(), 22, "0x0+0x100000 leaves the region, which has 0x10000 bytes"),
        (d.mmap(part, 0, 1).unwrap_err(), 22, "0x0+0x1: offset and size must be multiples of 4 KiB"),
        (d.create(part, 0, PAGE, WC).unwrap_err(), 22, "region 9 is no BAR"),
        (Refused::NotMappable(area), 22, "0x0+0x10000 may not be mapped"),
        (Refused::Full { places: 4 }, 28, "all 4 places are taken"),
        (Refused::Busy { with }, 16, "unmap it first"),
        (Dev::new(Policy::Vga, Uapi::Alias, &[Bar::new(6, Oa(0), 1)]).unwrap_err(), 22, "BAR 6 at 0x0, 0x1 bytes"),
    ] {
        assert!(refused.to_string().contains(words), "{refused}");
        assert_eq!(refused.errno(), errno, "{refused}");
    }
}
