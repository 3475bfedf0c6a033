//! Random aborts: none panics, and whatever came before, stage 2 maps what the slots say, as the policy decides, and no
//! more.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;
#[path = "common/stage2.rs"]
mod stage2;

use common::{Random, Story, tell_all};
use hyp::{Abort, Cpu, EsrEl2, IPA_BITS, Policy, Resolution, Slot, Vm, Vma};
use mmu::{
    Arena, Ia, Oa, PAGE,
    arm::{self, Stage2},
};
use stage2::{Mapped, mapped, sound};

const SLOTS: usize = 6;
const BLOCK: u64 = 2 << 20;
type TestVm = Vm<Arena<Vec<u64>>, SLOTS>;

#[derive(Debug, Clone, Copy)]
enum Event {
    Slot(Slot),
    Abort(Abort),
}

/// A VM.
#[derive(Debug, Clone, Copy)]
struct Setting {
    policy: Policy,
    cpu: Cpu,
    /// Frames for tables; a few only now and then, so that they run out.
    frames: usize,
}

fn slot(r: &mut Random) -> Slot {
    let pages = match r.below(4) {
        0 => 1 + r.below(4),
        1 => 511 + r.below(3),
        2 => 512 << r.below(6),
        _ => 1 + r.below(4000),
    };
    // Near one another, so that slots meet in one block; some near the end of what can be addressed; some refused.
    let near = match r.below(8) {
        0 => (1 << IPA_BITS) - 16 * BLOCK,
        1 => 0,
        _ => 0x1_0000_0000,
    };
    let ipa = near + if r.one_in(2) { r.below(16) * BLOCK } else { r.below(8192) * PAGE };
    // On the same offset in a block as the IPA, or on another.
    let pa = 0x50_0000_0000 + r.below(1 << 12) * BLOCK;
    let pa = if r.one_in(3) { pa + r.below(512) * PAGE } else { pa + ipa % BLOCK };
    let vma = r.of(&[Vma::RAM, Vma::VFIO_PCI_BAR, Vma::OTHER_DEVICE]);
    Slot { readonly: r.one_in(3), ..Slot::new(Ia(ipa), pages * PAGE, Oa(pa), vma) }
}

fn abort(r: &mut Random, slots: &[Slot]) -> Abort {
    let ipa = match (r.below(10), slots) {
        (0, _) => r.next() & ((1 << 52) - 1),
        (1, _) => r.below(1 << IPA_BITS),
        (_, []) => r.below(1 << 33),
        (kind, slots) => {
            let slot = r.of(slots);
            match kind {
                2 => slot.ipa.0.wrapping_sub(1 + r.below(PAGE)),
                3 => slot.ipa.0 + slot.size + r.below(PAGE),
                4 => slot.ipa.0,
                5 => slot.ipa.0 + slot.size - 1,
                _ => slot.ipa.0 + r.below(slot.size),
            }
        }
    };
    let ec = if r.one_in(16) { r.below(64) } else { r.of(&[0x24, 0x24, 0x20]) };
    let fsc = match r.below(8) {
        0 => r.below(64),
        1 | 2 => 0b00_1100 | r.below(4),
        _ => 0b00_0100 | r.below(4),
    };
    let mut esr = ec << 26 | 1 << 25 | fsc;
    // WnR, S1PTW, CM, and ISV with SAS, SSE, SRT and SF.
    for (bits, n) in [(1 << 6, 2), (1 << 7, 6), (1 << 8, 10), (1 << 24 | r.below(1 << 10) << 14, 2)] {
        if r.one_in(n) {
            esr |= bits;
        }
    }
    if r.one_in(32) {
        esr = r.next();
    }
    let far = if r.one_in(4) { r.next() } else { ipa };
    let page = ipa & !(PAGE - 1);
    Abort { esr: EsrEl2(esr), far, ipa_page: (!r.one_in(16)).then_some(Ia(page)) }
}

fn story(seed: u64) -> Story<Setting, Event> {
    let r = &mut Random(seed);
    let policy = r.of(&Policy::ALL);
    let cpu = Cpu { fwb: r.one_in(2), dic: r.one_in(2) };
    let frames = if r.one_in(4) { 2 + r.below(12) as usize } else { 128 };
    let mut slots = Vec::new();
    let mut events = Vec::new();
    for i in 0..1 + r.below(60) {
        if i == 0 || r.one_in(10) {
            let slot = slot(r);
            slots.push(slot);
            events.push(Event::Slot(slot));
        } else {
            events.push(Event::Abort(abort(r, &slots)));
        }
    }
    Story { setting: Setting { policy, cpu, frames }, events }
}

/// What must hold of an answer.
fn answered(vm: &TestVm, had: &[Mapped], abort: &Abort, answer: Resolution) -> Result<(), String> {
    let walk = |ipa: Ia| arm::walk::<Stage2, _>(vm.root(), vm.config(), vm.tables(), ipa);
    let wrong = |what: &str| Err(format!("{what}: {answer:?}"));
    match answer {
        Resolution::Again { decision, ipa, size } => {
            let Some(at) = abort.ipa() else { return wrong("an answer to an unknown address") };
            let Ok(leaf) = walk(at) else { return wrong("to be run again, and nothing is mapped") };
            let slot = vm.slot_at(at).unwrap();
            let data_write = abort.esr.wnr() && !abort.esr.is_fetch() && !abort.esr.s1ptw();
            if leaf.size() != size
                || ipa.0 != at.0 & !(size - 1)
                || Ok(decision) != vm.policy().decide(&slot.vma, vm.cpu())
            {
                return wrong("not what was mapped");
            }
            if data_write && !leaf.privileges.write || abort.esr.is_fetch() && !leaf.privileges.execute {
                return wrong("the same access would abort again");
            }
        }
        Resolution::Mmio { ipa, len, .. } => {
            let free = vm.slot_at(ipa).is_none_or(|s| s.readonly && abort.esr.wnr());
            if !free || len > 8 || abort.ipa() != Some(ipa) {
                return wrong("an access that a slot lets pass leaves to user space");
            }
        }
        // Nothing else maps anything. (It may have unmapped: break before make, and then no frame.)
        _ => {
            if mapped(vm)?.iter().any(|m| !had.contains(m)) {
                return wrong("something was mapped");
            }
        }
    }
    Ok(())
}

fn tell(story: &Story<Setting, Event>) -> Result<(), String> {
    let Setting { policy, cpu, frames } = story.setting;
    let tables = Arena::new(Oa(0x10_0000), vec![0; frames * 512]);
    let mut vm = TestVm::new(policy, cpu, tables).map_err(|e| e.to_string())?;
    for event in &story.events {
        match event {
            // Refused where it overlaps, lies beyond, or is one too many: that, too, must change nothing.
            Event::Slot(slot) => drop(vm.add_slot(*slot)),
            Event::Abort(abort) => {
                let had = mapped(&vm)?;
                let answer = vm.abort(abort, &mut ());
                answered(&vm, &had, abort, answer)?;
            }
        }
    }
    sound(&vm)
}

#[test]
fn after_any_aborts_stage_2_maps_the_slots_as_decided_and_no_more() {
    tell_all(300, story, tell);
}
