//! The maintenance a hypervisor owes to TLBs and caches, checked as a CPU would suffer from its lack: a model TLB fills from the
//! tables on every translation and forgets by `Event::Invalidate` alone. What it holds must never differ from the tables.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;
#[path = "common/stage2.rs"]
mod stage2;

use std::collections::BTreeMap;

use common::{Random, Story, tell_all};
use hyp::{
    Abort, BLOCK_1G, BLOCK_2M, Cpu, Error, EsrEl2, Event, Pgprot, Policy, Refusal, Resolution, S2Kind, Slot, Vm, Vma,
};
use mmu::{
    Arena, Ia, Oa, PAGE,
    arm::{self, S2Attrs, Stage2, entry_size},
};
use stage2::{mapped, sound};

const SLOTS: usize = 6;
type TestVm = Vm<Arena<Vec<u64>>, SLOTS>;

/// From the first byte to the last.
type Range = (u64, u64);

const fn range(first: u64, size: u64) -> Range {
    (first, first + (size - 1))
}
const fn meet(a: Range, b: Range) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}
const fn covers(a: Range, b: Range) -> bool {
    a.0 <= b.0 && b.1 <= a.1
}

/// The VM, and what a CPU knows of it.
struct Machine {
    vm: TestVm,
    /// By IPA: bytes, PA, attributes. What was in the tables after the last call.
    entries: BTreeMap<u64, (u64, u64, S2Attrs)>,
    /// By page: what a translation gave. Emptied by [`Event::Invalidate`] alone.
    tlb: BTreeMap<u64, (u64, S2Attrs)>,
}

impl Machine {
    fn new(policy: Policy, cpu: Cpu, mte: bool, frames: usize) -> Self {
        let vm = TestVm::new(policy, cpu, Arena::new(Oa(0x10_0000), vec![0; frames * 512])).unwrap();
        Self { vm: if mte { vm.with_mte() } else { vm }, entries: BTreeMap::new(), tlb: BTreeMap::new() }
    }

    /// Calls, and checks the events against what the tables were and are.
    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut TestVm, &mut dyn FnMut(Event)) -> T,
    ) -> Result<(T, Vec<Event>), String> {
        let mut events = Vec::new();
        let answer = call(&mut self.vm, &mut |event| events.push(event));
        let now: BTreeMap<_, _> = mapped(&self.vm)?.into_iter().map(|(ia, s, pa, a)| (ia, (s, pa, a))).collect();
        let wrong = |what: &str, event: &Event| Err(format!("{what}: {event:x?} in {events:x?}"));
        // Broken and not yet invalidated; what the caches were told.
        let mut pending: Vec<Range> = Vec::new();
        let mut cleaned: Vec<Range> = Vec::new();
        let mut fetchable: Vec<Range> = Vec::new();
        for event in &events {
            match *event {
                Event::Broke { ipa, level } => match self.entries.remove(&ipa.0) {
                    Some((size, ..)) if size == entry_size(level) => pending.push(range(ipa.0, size)),
                    _ => return wrong("breaks what was not there", event),
                },
                Event::Invalidate { ipa, size } => {
                    let all = range(ipa.0, size);
                    self.tlb.retain(|page, _| !meet(all, range(*page, PAGE)));
                    pending.retain(|broken| !covers(all, *broken));
                }
                Event::Made { ipa, size } => {
                    let made = range(ipa.0, size);
                    // D8.17.1: between the break and the make comes the invalidation.
                    if pending.iter().any(|broken| meet(made, *broken)) {
                        return wrong("made before the TLBs knew of the break", event);
                    }
                    if self.entries.iter().any(|(ipa, (size, ..))| meet(made, range(*ipa, *size))) {
                        return wrong("made over a valid entry", event);
                    }
                    let Some((s, pa, attrs)) = now.get(&ipa.0).copied().filter(|e| e.0 == size) else {
                        return wrong("said to be made, and is not there", event);
                    };
                    let cacheable = matches!(attrs.memattr, 0b1111 | 0b0110);
                    let memory = range(pa, s);
                    if cacheable && !self.vm.cpu().fwb && !cleaned.iter().any(|c| covers(*c, memory)) {
                        return wrong("Normal, no FWB, and the data cache was not cleaned before", event);
                    }
                    if attrs.xn == 0 && !self.vm.cpu().dic && !fetchable.iter().any(|c| covers(*c, memory)) {
                        return wrong(
                            "executable, no DIC, and the instruction cache was not invalidated before",
                            event,
                        );
                    }
                    self.entries.insert(ipa.0, (s, pa, attrs));
                }
                Event::CleanDcache { pa, size } => cleaned.push(range(pa.0, size)),
                Event::InvalidateIcache { pa, size } => fetchable.push(range(pa.0, size)),
            }
        }
        if !pending.is_empty() {
            return Err(format!("broken and never invalidated: {pending:x?} in {events:x?}"));
        }
        let cpu = self.vm.cpu();
        if cpu.fwb && !cleaned.is_empty() || cpu.dic && !fetchable.is_empty() {
            return Err(format!("cache maintenance that {cpu:?} makes needless: {events:x?}"));
        }
        // Everything that is no longer as it was has its events, and nothing else has.
        if self.entries != now {
            return Err(format!("by {events:x?} the tables should be {:x?}, and are {now:x?}", self.entries));
        }
        for (page, held) in &self.tlb {
            if self.translate(*page) != Some(*held) {
                return Err(format!("the TLB holds {page:#x} -> {held:x?} after {events:x?}"));
            }
        }
        sound(&self.vm)?;
        Ok((answer, events))
    }

    fn translate(&self, ipa: u64) -> Option<(u64, S2Attrs)> {
        let leaf = arm::walk::<Stage2, _>(self.vm.root(), self.vm.config(), self.vm.tables(), Ia(ipa)).ok()?;
        Some((leaf.oa.0, leaf.attrs))
    }
    /// A translation by the guest: through the TLB, which fills.
    fn access(&mut self, ipa: u64) -> Option<(u64, S2Attrs)> {
        let page = ipa & !(PAGE - 1);
        let held = self.tlb.get(&page).copied().or_else(|| self.translate(page))?;
        self.tlb.insert(page, held);
        Some(held)
    }

    fn abort(&mut self, abort: Abort) -> Result<(Resolution, Vec<Event>), String> {
        self.call(|vm, log| vm.abort(&abort, &mut |e| log(e)))
    }
    fn remapped(&mut self, pa: u64, size: u64, vma: Vma) -> Result<(usize, Vec<Event>), String> {
        self.call(|vm, log| vm.remapped(Oa(pa), size, vma, &mut |e| log(e)))
    }
    fn invalidate(&mut self, ipa: u64, size: u64) -> Result<(u64, Vec<Event>), String> {
        self.call(|vm, log| vm.invalidate(Ia(ipa), size, &mut |e| log(e)))
    }
    fn remove_slot(&mut self, ipa: u64) -> Result<(Result<Slot, Error>, Vec<Event>), String> {
        self.call(|vm, log| vm.remove_slot(Ia(ipa), &mut |e| log(e)))
    }
}

// ---- any sequence -------------------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy)]
struct Setting {
    policy: Policy,
    cpu: Cpu,
    mte: bool,
    frames: usize,
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Slot(Slot),
    Remove(u64),
    Remapped(u64, u64, Vma),
    Invalidate(u64, u64),
    Abort(Abort),
    Access(u64),
}

const IPA: u64 = 0x1_0000_0000;
const PA: u64 = 0x50_0000_0000;

fn vma(r: &mut Random) -> Vma {
    let vma = match r.below(10) {
        0..=2 => Vma::RAM,
        3 | 4 => Vma::VFIO_PCI_BAR,
        n => Vma::device(Pgprot::ALL[n as usize % 4]),
    };
    // Now and then what no kernel has: it must not end badly either.
    let odd = Vma {
        kernel_memory: r.one_in(2),
        pfnmap: r.one_in(2),
        allow_any_uncached: r.one_in(2),
        mte_allowed: r.one_in(2),
        ..vma
    };
    Vma {
        largest: r.of(&[PAGE, BLOCK_2M, BLOCK_2M, BLOCK_1G, 0, 3 * PAGE, u64::MAX]),
        ..if r.one_in(8) { odd } else { vma }
    }
}

fn slot(r: &mut Random) -> Slot {
    let size = match r.below(6) {
        0 => PAGE * (1 + r.below(4)),
        1 => PAGE * (510 + r.below(5)),
        2 | 3 => BLOCK_2M * (1 + r.below(3)),
        4 => BLOCK_1G,
        _ => BLOCK_1G + PAGE * r.below(1024),
    };
    let ipa =
        IPA + r.of(&[0, BLOCK_2M, BLOCK_1G, 3 * BLOCK_1G / 2]) + if r.one_in(3) { PAGE * r.below(600) } else { 0 };
    let pa = match r.below(4) {
        0 => PA + PAGE * r.below(1024),
        // Where another slot may lie: the same memory twice in a guest.
        1 => PA + BLOCK_2M * r.below(4),
        _ => PA + (ipa - IPA),
    };
    let slot = Slot::new(Ia(ipa), size, Oa(pa), vma(r));
    Slot { readonly: r.one_in(6), log_dirty: r.one_in(6), ..slot }
}

/// An address in or about a slot that was asked for.
fn near(r: &mut Random, slots: &[Slot]) -> u64 {
    let slot = if slots.is_empty() { Slot::new(Ia(IPA), BLOCK_1G, Oa(PA), Vma::RAM) } else { r.of(slots) };
    let step = r.of(&[PAGE, PAGE, BLOCK_2M, BLOCK_1G]);
    match r.below(8) {
        0 => slot.ipa.0.wrapping_sub(PAGE),
        1 => slot.ipa.0 + slot.size,
        2 => slot.ipa.0 + slot.size - 1,
        _ => slot.ipa.0 + (r.below(5) * step + r.below(3) * PAGE + 8 * r.below(512)) % slot.size,
    }
}

fn extent(r: &mut Random) -> u64 {
    r.of(&[0, 1, PAGE, PAGE, 3 * PAGE, BLOCK_2M, BLOCK_2M + PAGE, BLOCK_1G, 4 * BLOCK_1G, 1 << 40, u64::MAX])
}

fn data(ipa: u64, iss: u64) -> Abort {
    Abort { esr: EsrEl2(0x24 << 26 | 1 << 25 | iss), far: ipa, ipa_page: Some(Ia(ipa & !0xfff)) }
}
fn fetch(ipa: u64, iss: u64) -> Abort {
    Abort { esr: EsrEl2(0x20 << 26 | 1 << 25 | iss), ..data(ipa, 0) }
}
const TRANSLATION: u64 = 0b00_0111;
const PERMISSION: u64 = 0b00_1111;
const WNR: u64 = 1 << 6;

fn call(r: &mut Random, slots: &mut Vec<Slot>) -> Call {
    if slots.is_empty() || r.one_in(9) {
        let slot = slot(r);
        slots.push(slot);
        return Call::Slot(slot);
    }
    match r.below(20) {
        0 => Call::Remove(if r.one_in(6) { near(r, slots) } else { r.of(slots).ipa.0 }),
        1 | 2 => {
            let slot = r.of(slots);
            let (pa, size) = match r.below(4) {
                0 => (slot.pa.0 + PAGE, extent(r)),
                1 => (r.of(&[0, PA, u64::MAX, slot.pa.0]), extent(r)),
                _ => (slot.pa.0, slot.size),
            };
            Call::Remapped(pa, size, vma(r))
        }
        3 => Call::Invalidate(if r.one_in(8) { r.next() } else { near(r, slots) }, extent(r)),
        4..=9 => Call::Access(near(r, slots)),
        _ => {
            let iss = r.of(&[TRANSLATION, TRANSLATION, TRANSLATION, PERMISSION]) | if r.one_in(2) { WNR } else { 0 };
            let ipa = near(r, slots);
            Call::Abort(if r.one_in(4) { fetch(ipa, iss & !WNR) } else { data(ipa, iss) })
        }
    }
}

fn story(seed: u64) -> Story<Setting, Call> {
    let r = &mut Random(seed);
    let setting = Setting {
        policy: r.of(&Policy::ALL),
        cpu: Cpu { fwb: r.one_in(2), dic: r.one_in(2) },
        mte: r.one_in(5),
        frames: if r.one_in(4) { 2 + r.below(6) as usize } else { 24 },
    };
    let mut slots = Vec::new();
    Story { setting, events: (0..4 + r.below(60)).map(|_| call(r, &mut slots)).collect() }
}

/// What speaks against a slot, by the documentation of each refusal.
fn against(vm: &TestVm, mte: bool, slot: &Slot) -> Vec<&'static str> {
    let mut all = Vec::new();
    let end = |start: u64| u128::from(start) + u128::from(slot.size);
    if slot.size == 0 || [slot.size, slot.ipa.0, slot.pa.0].iter().any(|n| n % PAGE != 0) {
        all.push("bad");
    }
    if end(slot.ipa.0) > 1 << 40 || end(slot.pa.0) > 1 << 48 {
        all.push("bad");
    }
    if vm.slots().any(|s| u128::from(s.ipa.0) < end(slot.ipa.0) && slot.ipa.0 < s.ipa.0 + s.size) {
        all.push("overlap");
    }
    if vm.slots().count() == SLOTS {
        all.push("too many");
    }
    if mte && !slot.vma.mte_allowed {
        all.push("mte");
    }
    if slot.log_dirty && slot.vma.pfnmap {
        all.push("dirty log");
    }
    let cacheable_pfnmap = slot.vma.pfnmap && slot.vma.pgprot == Pgprot::Cached;
    if vm.policy() == Policy::Linux6_17 && cacheable_pfnmap && !(vm.cpu().fwb && vm.cpu().dic) {
        all.push("cacheable");
    }
    all
}

fn tell(story: &Story<Setting, Call>) -> Result<(), String> {
    let Setting { policy, cpu, mte, frames } = story.setting;
    let mut m = Machine::new(policy, cpu, mte, frames);
    for call in &story.events {
        let told = |e: String| format!("{call:x?}: {e}");
        match *call {
            Call::Slot(slot) => {
                let against = against(&m.vm, mte, &slot);
                let before = m.vm.slots().count();
                let (answer, events) = m.call(|vm, _| vm.add_slot(slot)).map_err(told)?;
                let class = answer.map_err(|e| match e {
                    Error::BadSlot(_) => "bad",
                    Error::Overlap { .. } => "overlap",
                    Error::TooMany { .. } => "too many",
                    Error::Refused { why: Refusal::Mte, .. } => "mte",
                    Error::Refused { why: Refusal::DirtyLog, .. } => "dirty log",
                    Error::Refused { why: Refusal::Cacheable(_), .. } => "cacheable",
                    Error::NoRoot | Error::NoSlot(_) => "what?",
                });
                let fine = class.map_or_else(|c| against.contains(&c), |()| against.is_empty());
                let more = m.vm.slots().count() - before;
                if !fine || more != usize::from(class.is_ok()) || !events.is_empty() {
                    return Err(told(format!("{class:?}, but against it speaks {against:?}")));
                }
            }
            Call::Remove(ipa) => {
                let there = m.vm.slots().copied().find(|s| s.ipa.0 == ipa);
                let (answer, _) = m.remove_slot(ipa).map_err(told)?;
                if answer != there.ok_or(Error::NoSlot(Ia(ipa))) || m.vm.slots().any(|s| s.ipa.0 == ipa) {
                    return Err(told(format!("{answer:x?}")));
                }
            }
            Call::Remapped(pa, size, vma) => {
                let before: Vec<_> = m.vm.slots().copied().collect();
                let (count, _) = m.remapped(pa, size, vma).map_err(told)?;
                let end = u128::from(pa) + u128::from(size);
                let inside =
                    |s: &Slot| s.pa.0 >= pa && u128::from(s.pa.0) + u128::from(s.size) <= end && end <= 1 << 64;
                let wanted: Vec<_> = before.iter().map(|s| if inside(s) { Slot { vma, ..*s } } else { *s }).collect();
                let now: Vec<_> = m.vm.slots().copied().collect();
                if now != wanted || count != before.iter().filter(|s| inside(s)).count() {
                    return Err(told(format!("{count} slots, now {now:x?}")));
                }
                let stale = |s: &&Slot| m.entries.keys().any(|ipa| (s.ipa.0..=s.last().0).contains(ipa));
                if let Some(s) = before.iter().filter(|s| inside(s)).find(stale) {
                    return Err(told(format!("of {s:x?} something is still mapped")));
                }
            }
            Call::Invalidate(ipa, size) => {
                let (broken, events) = m.invalidate(ipa, size).map_err(told)?;
                let said = events.iter().filter(|e| matches!(e, Event::Broke { .. })).count() as u64;
                let left = m
                    .entries
                    .iter()
                    .find(|(i, (s, ..))| size != 0 && meet((ipa, ipa.saturating_add(size - 1)), range(**i, *s)));
                if broken != said || left.is_some() {
                    return Err(told(format!("{broken} broken, {said} said, left {left:x?}")));
                }
            }
            Call::Abort(abort) => {
                let ipa = abort.ipa().unwrap();
                let slot = m.vm.slot_at(ipa).copied();
                let (answer, _) = m.abort(abort).map_err(told)?;
                // Maintenance by an address of the kernel's, of memory that has none.
                let lost = slot.is_some_and(|s| {
                    let unmapped = s.vma.pfnmap && !s.vma.kernel_memory;
                    let normal = policy.decide(&s.vma, cpu).is_ok_and(|d| d.kind == S2Kind::Normal);
                    normal && unmapped && (!cpu.fwb || !cpu.dic && abort.esr.is_fetch())
                });
                match answer {
                    Resolution::HostFault { .. } if !lost => return Err(told(format!("{answer:x?} without need"))),
                    Resolution::Again { .. } if lost => return Err(told(format!("{answer:x?} of {slot:x?}"))),
                    Resolution::Again { size, .. } => {
                        let slot = slot.unwrap();
                        if size > slot.vma.largest.max(PAGE) || slot.log_dirty && size != PAGE {
                            return Err(told(format!("{answer:x?} of {slot:x?}")));
                        }
                        m.access(ipa.0).unwrap();
                    }
                    _ => {}
                }
            }
            Call::Access(ipa) => drop(m.access(ipa)),
        }
    }
    Ok(())
}

#[test]
fn after_any_calls_the_tlb_holds_what_the_tables_say() {
    tell_all(200, story, tell);
}

// ---- rule by rule -------------------------------------------------------------------------------------------------------------

const FWB_DIC: Cpu = Cpu { fwb: true, dic: true };
const NEITHER: Cpu = Cpu { fwb: false, dic: false };
const BAR_WC: Vma = Vma { largest: PAGE, ..Vma::device(Pgprot::WriteCombine) };

fn machine(policy: Policy, cpu: Cpu, slots: &[Slot]) -> Machine {
    let mut m = Machine::new(policy, cpu, false, 64);
    for slot in slots {
        m.vm.add_slot(*slot).unwrap();
    }
    m
}
fn kind(r: Resolution) -> S2Kind {
    let Resolution::Again { decision, .. } = r else { panic!("{r:?}") };
    decision.kind
}
fn size(r: Resolution) -> u64 {
    let Resolution::Again { size, .. } = r else { panic!("{r:?}") };
    size
}

/// User space changes the attribute of what a guest has mapped: the next access has the new type.
#[test]
fn a_remapped_bar_comes_back_as_the_new_mapping_says() {
    let bar = Slot::new(Ia(IPA), 16 * PAGE, Oa(PA), Vma::device(Pgprot::Noncached));
    let mut m = machine(Policy::Subregions, NEITHER, &[bar]);
    for page in [0, 3] {
        let (r, _) = m.abort(data(IPA + page * PAGE, TRANSLATION)).unwrap();
        assert_eq!(kind(r), S2Kind::DeviceNgnre);
        assert_eq!(m.access(IPA + page * PAGE).unwrap().1.memattr, 0b0001);
    }
    let (count, events) = m.remapped(PA, 16 * PAGE, BAR_WC).unwrap();
    let broke = |page: u64| Event::Broke { ipa: Ia(IPA + page * PAGE), level: 3 };
    let all = Event::Invalidate { ipa: Ia(IPA), size: 4 * PAGE };
    assert_eq!((count, events), (1, vec![broke(0), broke(3), all]));
    assert_eq!(m.access(IPA), None, "it faults again");
    let (r, events) = m.abort(data(IPA, TRANSLATION)).unwrap();
    assert_eq!((kind(r), events), (S2Kind::NormalNc, vec![Event::Made { ipa: Ia(IPA), size: PAGE }]));
    assert_eq!(m.access(IPA).unwrap().1.memattr, 0b0101);
    // Where nothing was mapped there is nothing to break, and the slot is told all the same.
    let (count, events) = m.remapped(PA, u64::MAX - PA + 1, bar.vma).unwrap();
    assert_eq!((count, events.len()), (1, 2));
    let (count, events) = m.remapped(PA, 16 * PAGE, BAR_WC).unwrap();
    assert_eq!((count, events), (1, Vec::new()));
    assert_eq!(kind(m.abort(data(IPA, TRANSLATION)).unwrap().0), S2Kind::NormalNc);
    // A part of a slot is no mapping of its own: what was mapped of it goes, the slot stays as it is.
    let gone = [Event::Broke { ipa: Ia(IPA), level: 3 }, Event::Invalidate { ipa: Ia(IPA), size: PAGE }];
    assert_eq!(m.remapped(PA, 15 * PAGE, bar.vma).unwrap(), (0, gone.to_vec()));
    assert_eq!(kind(m.abort(data(IPA, TRANSLATION)).unwrap().0), S2Kind::NormalNc);
    for size in [0, u64::MAX] {
        assert_eq!(m.remapped(PA, size, bar.vma).unwrap().0, 0);
    }
}

#[test]
fn one_memory_in_two_slots_is_remapped_in_both() {
    let at = |ipa| Slot::new(Ia(ipa), 4 * PAGE, Oa(PA), Vma::device(Pgprot::Noncached));
    let mut m = machine(Policy::FollowVma, FWB_DIC, &[at(IPA), at(IPA + BLOCK_1G)]);
    for ipa in [IPA, IPA + BLOCK_1G] {
        m.abort(data(ipa, TRANSLATION)).unwrap();
        m.access(ipa).unwrap();
    }
    let (count, events) = m.remapped(PA, 4 * PAGE, BAR_WC).unwrap();
    assert_eq!((count, events.len()), (2, 4));
}

#[test]
fn a_removed_slot_is_gone_from_the_tables_and_the_tlbs() {
    let ram = Slot::new(Ia(IPA), 2 * BLOCK_2M, Oa(PA), Vma::RAM);
    let mut m = machine(Policy::Linux6_9, NEITHER, &[ram]);
    for ipa in [IPA, IPA + BLOCK_2M] {
        m.abort(data(ipa, TRANSLATION)).unwrap();
        m.access(ipa + PAGE).unwrap();
    }
    let (removed, events) = m.remove_slot(IPA).unwrap();
    assert_eq!((removed, events.len()), (Ok(ram), 3));
    assert_eq!((m.access(IPA), m.tlb.len()), (None, 0));
    assert_eq!(m.remove_slot(IPA).unwrap(), (Err(Error::NoSlot(Ia(IPA))), Vec::new()));
    // Other memory at the same place: nothing is left of what was.
    m.vm.add_slot(Slot { pa: Oa(PA + BLOCK_1G), ..ram }).unwrap();
    m.abort(data(IPA, TRANSLATION)).unwrap();
    assert_eq!(m.access(IPA).unwrap().0, PA + BLOCK_1G);
}

/// `get_vma_page_shift`, `fault_supports_stage2_huge_mapping`, `transparent_hugepage_adjust`: no larger than the host's own
/// leaf, aligned alike on both sides, inside the slot.
#[test]
fn blocks_are_as_large_as_the_hosts() {
    for (largest, wanted) in [(PAGE, PAGE), (BLOCK_2M, BLOCK_2M), (BLOCK_1G, BLOCK_1G), (u64::MAX, BLOCK_1G), (0, PAGE)]
    {
        for vma in [Vma::RAM, Vma::VFIO_PCI_BAR] {
            let slot = Slot::new(Ia(IPA), 2 * BLOCK_1G, Oa(PA), Vma { largest, ..vma });
            let at = BLOCK_1G + 3 * BLOCK_2M + 5 * PAGE + 8;
            let mut m = machine(Policy::Linux6_9, FWB_DIC, &[slot]);
            let (r, events) = m.abort(data(IPA + at, TRANSLATION)).unwrap();
            let ipa = Ia(IPA + at / wanted * wanted);
            assert!(matches!(r, Resolution::Again { ipa: i, size, .. } if (i, size) == (ipa, wanted)), "{r:?}");
            assert_eq!(events, [Event::Made { ipa, size: wanted }]);
            assert_eq!(m.access(IPA + at).unwrap().0, PA + at - 8);
            // Pages of the same memory a page off: no block.
            let off = Slot { pa: Oa(PA + PAGE), ..slot };
            let mut m = machine(Policy::Linux6_9, FWB_DIC, &[off]);
            assert_eq!(size(m.abort(data(IPA + at, TRANSLATION)).unwrap().0), PAGE);
            // A slot that ends a page short of the block.
            let short = Slot { size: BLOCK_2M - PAGE, ..slot };
            let mut m = machine(Policy::Linux6_9, FWB_DIC, &[short]);
            assert_eq!(size(m.abort(data(IPA, TRANSLATION)).unwrap().0), PAGE);
        }
    }
    // While dirty pages are logged: pages (`memslot_is_logging`).
    let logged =
        Slot { log_dirty: true, ..Slot::new(Ia(IPA), BLOCK_1G, Oa(PA), Vma { largest: BLOCK_1G, ..Vma::RAM }) };
    let mut m = machine(Policy::Linux6_9, FWB_DIC, &[logged]);
    assert_eq!(size(m.abort(data(IPA, TRANSLATION)).unwrap().0), PAGE);
}

/// A load over the end of a page needs both pages at once: what maps the second may not take the first away.
#[test]
fn two_pages_stay_mapped_side_by_side_whatever_the_tables_were_before() {
    for (before, after) in
        [(PAGE, BLOCK_2M), (PAGE, BLOCK_1G), (BLOCK_2M, BLOCK_1G), (BLOCK_1G, PAGE), (BLOCK_1G, BLOCK_2M)]
    {
        let vma = |largest| Vma { largest, ..Vma::VFIO_PCI_BAR };
        let mut m = machine(Policy::Linux6_9, NEITHER, &[Slot::new(Ia(IPA), BLOCK_1G, Oa(PA), vma(before))]);
        let ends = [BLOCK_2M - PAGE, BLOCK_2M];
        for end in ends {
            m.abort(data(IPA + end, TRANSLATION)).unwrap();
        }
        m.remapped(PA, BLOCK_1G, vma(after)).unwrap();
        for end in [ends, [0, PAGE], [0, BLOCK_1G - PAGE]].as_flattened() {
            if m.access(IPA + end).is_none() {
                m.abort(data(IPA + end, TRANSLATION)).unwrap();
            }
        }
        for end in [ends, [0, PAGE], [0, BLOCK_1G - PAGE]].as_flattened() {
            assert!(m.access(IPA + end).is_some(), "from leaves of {before:#x} to {after:#x}: {end:#x} is gone");
        }
    }
}

/// `stage2_map_walker_try_leaf`: break, maintain the caches, make.
#[test]
fn caches_are_maintained_between_the_break_and_the_make() {
    let ram = Slot::new(Ia(IPA), BLOCK_2M, Oa(PA), Vma { largest: PAGE, ..Vma::RAM });
    let made = Event::Made { ipa: Ia(IPA), size: PAGE };
    let clean = Event::CleanDcache { pa: Oa(PA), size: PAGE };
    let fetched = Event::InvalidateIcache { pa: Oa(PA), size: PAGE };
    let broke = Event::Broke { ipa: Ia(IPA), level: 3 };
    let gone = Event::Invalidate { ipa: Ia(IPA), size: PAGE };
    for (fwb, dic) in [(false, false), (false, true), (true, false), (true, true)] {
        let cpu = Cpu { fwb, dic };
        for policy in Policy::ALL {
            let mut m = machine(policy, cpu, &[ram]);
            let (_, events) = m.abort(data(IPA, TRANSLATION)).unwrap();
            // With DIC the page is executable at once, and the instruction cache has no need.
            let wanted: Vec<_> = [(!fwb).then_some(clean), Some(made)].into_iter().flatten().collect();
            assert_eq!(events, wanted, "{policy:?} {cpu:?}");
            assert_eq!(m.access(IPA).unwrap().1.xn == 0, dic, "{policy:?} {cpu:?}");
            // The guest fetches from it.
            let (_, events) = m.abort(fetch(IPA, PERMISSION)).unwrap();
            let wanted = [Some(broke), Some(gone), (!fwb).then_some(clean), (!dic).then_some(fetched), Some(made)];
            assert_eq!(events, wanted.into_iter().flatten().collect::<Vec<_>>(), "{policy:?} {cpu:?}");
            assert_eq!(m.access(IPA).unwrap().1.xn, 0);
        }
    }
}

/// Device and Normal-NC take no maintenance: the guest has no cacheable way to them, and they are never executable.
#[test]
fn uncached_memory_takes_no_maintenance() {
    for policy in Policy::ALL {
        for pgprot in [Pgprot::Noncached, Pgprot::Device, Pgprot::WriteCombine] {
            let mut m = machine(policy, NEITHER, &[Slot::new(Ia(IPA), BLOCK_2M, Oa(PA), Vma::device(pgprot))]);
            let (r, events) = m.abort(data(IPA, TRANSLATION | WNR)).unwrap();
            assert_eq!(events, [Event::Made { ipa: Ia(IPA), size: BLOCK_2M }], "{policy:?} {pgprot:?}");
            assert!(kind(r) != S2Kind::Normal);
        }
    }
}

/// The reason for Linux 6.17's refusal (`kvm_supports_cacheable_pfnmap`): maintenance goes by an address of the kernel's, and
/// of this memory there is none. FWB takes the need away for data, DIC for instructions; a policy that does not ask is lost.
#[test]
fn cacheable_memory_without_a_kernel_mapping_takes_fwb_for_data_and_dic_for_code() {
    let slot = Slot::new(Ia(IPA), BLOCK_2M, Oa(PA), Vma { largest: PAGE, ..Vma::device(Pgprot::Cached) });
    for policy in [Policy::FollowVma, Policy::Subregions] {
        for (fwb, dic) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut m = machine(policy, Cpu { fwb, dic }, &[slot]);
            let lost = |lost| if lost { Some(Resolution::HostFault { pa: Oa(PA) }) } else { None };
            let (by_data, events) = m.abort(data(IPA, TRANSLATION)).unwrap();
            assert_eq!(Some(by_data).filter(|r| !matches!(r, Resolution::Again { .. })), lost(!fwb), "{fwb} {dic}");
            assert_eq!(events.len(), usize::from(fwb));
            let (by_fetch, _) = m.abort(fetch(IPA, if fwb { PERMISSION } else { TRANSLATION })).unwrap();
            assert_eq!(
                Some(by_fetch).filter(|r| !matches!(r, Resolution::Again { .. })),
                lost(!fwb || !dic),
                "{fwb} {dic}"
            );
        }
    }
    // Those that never give Normal to it are not.
    for policy in [Policy::Linux6_1, Policy::Linux6_9, Policy::Prefetchable, Policy::Vga, Policy::Firmware] {
        let mut m = machine(policy, NEITHER, &[slot]);
        assert_eq!(kind(m.abort(data(IPA, TRANSLATION)).unwrap().0), S2Kind::DeviceNgnre, "{policy:?}");
    }
}

#[test]
fn invalidating_covers_every_entry_it_breaks_and_hostile_sizes_end() {
    let slot = Slot::new(Ia(IPA), BLOCK_1G, Oa(PA), Vma::RAM);
    let mut m = machine(Policy::Linux6_9, FWB_DIC, &[slot]);
    let fill = |m: &mut Machine| {
        for block in 0..3 {
            m.abort(data(IPA + block * BLOCK_2M, TRANSLATION)).unwrap();
            m.access(IPA + block * BLOCK_2M).unwrap();
        }
    };
    // One byte in the middle of a block breaks all of it, and no other.
    fill(&mut m);
    let (broken, events) = m.invalidate(IPA + BLOCK_2M + 5 * PAGE + 1, 1).unwrap();
    let block = Ia(IPA + BLOCK_2M);
    assert_eq!(events, [Event::Broke { ipa: block, level: 2 }, Event::Invalidate { ipa: block, size: BLOCK_2M }]);
    assert_eq!((broken, m.tlb.len()), (1, 2));
    fill(&mut m);
    for (ipa, size) in
        [(0, 0), (IPA, 0), (IPA - 1, 1), (IPA + 3 * BLOCK_2M, u64::MAX), (u64::MAX, u64::MAX), (1 << 40, 1)]
    {
        assert_eq!(m.invalidate(ipa, size).unwrap(), (0, Vec::new()), "{ipa:#x} {size:#x}");
    }
    assert_eq!(m.invalidate(IPA + BLOCK_2M - 1, 2).unwrap().0, 2);
    fill(&mut m);
    assert_eq!(m.invalidate(0, u64::MAX).unwrap().0, 3);
    assert!(m.tlb.is_empty());
}
