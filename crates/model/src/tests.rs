//! What only the inside of the machine can show.

use hyp::{BLOCK_1G, Cpu, Event, Policy, Vma};
use memtype::Arch;
use mmu::Oa;
use scenario::{Layout, Outcome, Scenario, layout::DEVICE_BASE, parse};

use crate::{
    arm,
    choice::Log,
    guest,
    host::Host,
    machine::{Flow, Job, Machine, Processor},
};

const CPU: Cpu = Cpu { fwb: true, dic: true };

fn scenario(size: &str, program: &str) -> Scenario {
    let text = format!(
        "title = \"t\"\n[[device]]\nname = \"d\"\nbars = [{{ index = 0, size = \"{size}\" }}]\n\
         [[map]]\nname = \"m\"\nbar = \"d.0\"\ntype = \"normal-nc\"\n\
         [guest]\nprogram = \"\"\"\n{program}\n\"\"\"\n[expect]\nall = \"completed\"\n"
    );
    parse("inline", &text).unwrap()
}

/// Runs `program` on a CPU whose host `change` had its hands on first.
fn with_cpu<T>(size: &str, program: &str, change: impl FnOnce(&mut Host), then: impl FnOnce(arm::Cpu<'_>) -> T) -> T {
    let scenario = scenario(size, program);
    let layout = Layout::of(&scenario);
    let lowered = scenario.program.lower(&layout);
    let guest = guest::guest_of(&scenario, &layout, &lowered).unwrap();
    let job = Job { scenario: &scenario, layout: &layout, lowered: &lowered, guest: &guest };
    let mut host = Host::new(&scenario, &layout, Policy::Linux6_9, CPU).unwrap();
    change(&mut host);
    let machine = Machine::new(job, Arch::Arm64, host, scenario.platform, Log::default());
    then(arm::Cpu::new(machine, guest::stage1_config().unwrap(), &[]))
}

#[test]
fn one_abort_maps_a_bar_of_a_gibibyte_whole() {
    let program = "store.8 m, 1\nstore.8 m+0x1fffff8, 2\nstore.8 m+0x3ffffff8, 3\nload.8 m+0x3ffffff8 -> x0";
    let largest = |host: &mut Host| {
        let slot = *host.vm.slot_at(mmu::Ia(DEVICE_BASE)).unwrap();
        let vma = Vma { largest: BLOCK_1G, ..slot.vma };
        assert_eq!(host.vm.remapped(slot.pa, slot.size, vma, &mut ()), 1);
    };
    let run = with_cpu("1G", program, largest, |cpu| cpu.run());
    assert_eq!((run.observation.outcome, run.observation.registers[&0]), (Outcome::Completed, 3));
    let device: Vec<&Event> =
        run.events.iter().filter(|e| matches!(e, Event::Made { ipa, .. } if ipa.0 >= DEVICE_BASE)).collect();
    assert_eq!(device, [&Event::Made { ipa: mmu::Ia(DEVICE_BASE), size: BLOCK_1G }]);
}

/// Stage 2 changes from Normal-NC to Device under a page that was accessed; the TLB is told, or is not.
fn after_a_change(told: bool) -> bool {
    with_cpu(
        "64K",
        "store.8 m+1, 7\nstore.8 m+1, 8",
        |_| {},
        |mut cpu| {
            let insns = cpu.machine().job.lowered.insns.clone();
            let (last, first) = insns.split_last().unwrap();
            for (pc, insn) in first.iter().enumerate() {
                assert!(matches!(cpu.step(pc, *insn), Flow::Next));
            }
            let m = cpu.machine();
            let slot = *m.host.vm.slot_at(mmu::Ia(DEVICE_BASE)).unwrap();
            let vma = Vma { allow_any_uncached: false, ..slot.vma };
            let mut events = Vec::new();
            m.host.vm.remapped(Oa(slot.pa.0), slot.size, vma, &mut |e| events.push(e));
            assert!(events.iter().any(|e| matches!(e, Event::Invalidate { .. })));
            if told {
                m.maintain(events);
            }
            matches!(cpu.step(first.len(), *last), Flow::Next)
        },
    )
}

#[test]
fn an_invalidation_that_is_missing_shows() {
    assert!(!after_a_change(true), "stage 2 is Device now: the unaligned store faults");
    assert!(after_a_change(false), "nobody told the TLB: the stale Normal-NC entry is used");
}
