//! What the machine does beyond translation: TLB, caches, devices, user space, reads ahead, gathering, errors, x86; each with
//! a program small enough to be told by hand.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use hyp::{Cpu, Event, Policy};
use model::{Finding, Is, Report};
use scenario::{Outcome, Scenario, parse};

/// A scenario in few words: what stands before `[guest]`, and the program.
fn scenario(head: &str, program: &str) -> Scenario {
    let text =
        format!("title = \"t\"\n{head}\n[guest]\nprogram = \"\"\"\n{program}\n\"\"\"\n[expect]\nall = \"completed\"\n");
    parse("inline", &text).unwrap_or_else(|e| panic!("{e}"))
}

/// One device with BAR 0 of 64 KiB, so declared, and the maps given as (name, type).
fn bar(platform: &str, device: &str, bar: &str, maps: &[(&str, &str)]) -> String {
    let mut head =
        format!("{platform}\n[[device]]\nname = \"d\"\n{device}\nbars = [{{ index = 0, size = \"64K\"{bar} }}]\n");
    for (name, ty) in maps {
        head += &format!("[[map]]\nname = \"{name}\"\nbar = \"d.0\"\ntype = \"{ty}\"\n");
    }
    head
}

const RAM: &str = "[[map]]\nname = \"ram\"\nram = \"4K\"\ntype = \"normal-wb\"\n";
const NC_RAM: &str = "[[map]]\nname = \"ram\"\nram = \"4K\"\ntype = \"normal-nc\"\n";

fn run_fwb(s: &Scenario, policy: Policy, fwb: bool) -> Report {
    model::run_with(s, policy, Cpu { fwb, dic: true }).unwrap()
}

fn run(head: &str, program: &str, policy: Policy) -> Report {
    run_fwb(&scenario(head, program), policy, true)
}

/// Every value register `r` can have at the end of a run that completes.
fn values(report: &Report, r: u8) -> BTreeSet<u64> {
    for o in &report.allowed {
        assert_eq!(o.outcome, Outcome::Completed, "{o}\n{}", report.because.join("\n"));
    }
    report.allowed.iter().map(|o| o.registers[&r]).collect()
}

fn set(values: &[u64]) -> BTreeSet<u64> {
    values.iter().copied().collect()
}

// Building the VM.

#[test]
fn each_policy_maps_a_bar_as_its_own_rule_says() {
    let unaligned = "store.8 m+1, 7\nload.8 m+1 -> x0";
    // (what is declared of the BAR, of the device) and who lets a Normal-NC mapping through.
    let cases: [(&str, &str, &[Policy]); 3] = [
        ("", "", &[Policy::Linux6_9, Policy::Linux6_17, Policy::X86Ept]),
        (", prefetchable = true", "", &[Policy::Prefetchable, Policy::Linux6_9, Policy::Linux6_17, Policy::X86Ept]),
        ("", "class = \"vga\"", &[Policy::Vga, Policy::Linux6_9, Policy::Linux6_17, Policy::X86Ept]),
    ];
    for (of_bar, of_device, who) in cases {
        let head = bar("", of_device, of_bar, &[("m", "normal-nc")]);
        for policy in Policy::ALL {
            let outcome = run(&head, unaligned, policy).observation.outcome;
            assert_eq!(outcome == Outcome::Completed, who.contains(&policy), "{} {of_bar}{of_device}", policy.name());
        }
    }
}

#[test]
fn attributes_cut_a_bar_into_slots_under_subregions_and_count_for_nothing_elsewhere() {
    let ask = "[[attribute]]\nbar = \"d.0\"\noffset = \"16K\"\nsize = \"4K\"\nask = \"write-combine\"\n";
    let head = bar("", "", "", &[("m", "normal-nc")]) + ask;
    let inside = "store.8 m+0x4001, 7\nload.8 m+0x4001 -> x0";
    let outside = "store.8 m+0x5001, 7";
    assert_eq!(values(&run(&head, inside, Policy::Subregions), 0), set(&[7]));
    assert_eq!(run(&head, outside, Policy::Subregions).observation.outcome.stage(), Some(2));
    let elsewhere = run(&head, inside, Policy::FollowVma);
    assert_eq!(elsewhere.observation.outcome.stage(), Some(2));
    let said = elsewhere.because.iter().filter(|b| b.contains("count for nothing")).count();
    assert_eq!(said, 1);
}

#[test]
fn a_refused_mmap_or_slot_ends_before_the_guest_starts() {
    let cached = "[[attribute]]\nbar = \"d.0\"\nask = \"cached\"\n";
    let head = bar("", "", "", &[("m", "normal-nc")]) + cached;
    let report = run(&head, "load.8 m -> x3", Policy::Subregions);
    assert!(matches!(&report.observation.outcome, Outcome::SlotRefused { errno: 95, .. }), "{}", report.observation);
    assert!(report.observation.registers.is_empty());
    assert_eq!(report.judged.works.is, Is::No);

    // Grace's memory on a CPU without FWB: 6.17 refuses the slot, those before never look, and who follows the VMA dies.
    let s = scenario(&bar("", "", ", cached = true", &[("m", "normal-wb")]), "load.8 m -> x3");
    assert!(matches!(
        run_fwb(&s, Policy::Linux6_17, false).observation.outcome,
        Outcome::SlotRefused { errno: 22, .. }
    ));
    assert_eq!(run_fwb(&s, Policy::FollowVma, false).observation.outcome, Outcome::UncontainedError);
    assert_eq!(run_fwb(&s, Policy::Linux6_9, false).observation.outcome, Outcome::Completed);
    assert_eq!(run_fwb(&s, Policy::Linux6_17, true).observation.outcome, Outcome::Completed);
}

#[test]
fn an_abort_maps_a_block_of_a_large_bar() {
    let head = "[[device]]\nname = \"d\"\nbars = [{ index = 0, size = \"1G\" }]\n\
                [[map]]\nname = \"m\"\nbar = \"d.0\"\ntype = \"normal-nc\"\n";
    let program = "store.8 m, 1\nstore.8 m+0x1fffff8, 2\nstore.8 m+0x3ffffff8, 3\nload.8 m+0x3ffffff8 -> x0";
    let report = run(head, program, Policy::Linux6_9);
    assert_eq!(values(&report, 0), set(&[3]));
    let device = 0x1_0000_0000;
    let made: Vec<u64> = report
        .events
        .iter()
        .filter_map(|e| match e {
            Event::Made { ipa, size } if ipa.0 >= device => Some(*size),
            _ => None,
        })
        .collect();
    // As large as the host's own leaf; one of 1 GiB is in the crate's own tests.
    assert!(made.len() <= 3 && made.iter().all(|size| *size >= 2 << 20), "{made:x?}");
}

// The TLB and the attribute that changes.

#[test]
fn an_attribute_that_changes_takes_the_entries_with_it() {
    let ask = "[[attribute]]\nbar = \"d.0\"\nask = \"write-combine\"\n";
    let head = bar("", "", "", &[("m", "normal-nc")]) + ask;
    let report = run(&head, "store.8 m+1, 7\nattribute m, uncached\nstore.8 m+1, 8", Policy::Subregions);
    assert_eq!(report.observation.outcome.stage(), Some(2), "{}", report.because.join("\n"));
    let bar = |e: &&Event| match e {
        Event::Broke { ipa, .. } | Event::Invalidate { ipa, .. } | Event::Made { ipa, .. } => ipa.0 >= 0x1_0000_0000,
        _ => false,
    };
    let kinds: Vec<&str> = report
        .events
        .iter()
        .filter(bar)
        .map(|e| match e {
            Event::Broke { .. } => "broke",
            Event::Invalidate { .. } => "invalidate",
            _ => "made",
        })
        .collect();
    assert_eq!(kinds, ["made", "broke", "invalidate", "made"]);
    // And back again.
    let program = "attribute m, uncached\nstore.8 m, 7\nattribute m, write-combine\nstore.8 m+1, 8\nload.1 m+1 -> x0";
    assert_eq!(values(&run(&head, program, Policy::Subregions), 0), set(&[8]));
}

#[test]
fn an_attribute_that_is_refused_changes_nothing_and_says_so() {
    let program = "attribute m, write-combine\nstore.8 m, 7\nload.8 m -> x0";
    let head = bar("", "", "", &[("m", "normal-nc")]);
    for policy in Policy::ALL {
        let report = run(&head, program, policy);
        assert_eq!(values(&report, 0), set(&[7]), "{}", policy.name());
        assert!(report.because.iter().any(|b| b.contains("changes nothing")), "{}", policy.name());
    }
}

// User space and DMA.

#[test]
fn user_space_and_the_guest_share_a_bar() {
    let program = "store.8 m, 1\nuser.load.8 m -> x0\nuser.store.8 m+8, 2\nload.8 m+8 -> x1";
    for policy in Policy::ALL {
        let report = run(&bar("", "", "", &[("m", "device-ngnre")]), program, policy);
        assert_eq!((values(&report, 0), values(&report, 1)), (set(&[1]), set(&[2])), "{}", policy.name());
    }
}

#[test]
fn a_device_that_does_not_snoop_reads_what_memory_holds() {
    let program = "store.8 ram, 0x99\ndsb sy\ndma.load.8 ram -> x0";
    let cleaned = "store.8 ram, 0x99\nclean ram\ndsb sy\ndma.load.8 ram -> x0";
    let coherent = bar("", "", "", &[]) + RAM;
    let not = bar("[platform]\ncoherent = false", "", "", &[]) + RAM;
    let no_snoop = bar("[platform]\nno-snoop = \"possible\"", "no-snoop = true", "", &[]) + RAM;
    for policy in Policy::ALL {
        assert_eq!(values(&run(&coherent, program, policy), 0), set(&[0x99]));
        for head in [&not, &no_snoop] {
            let report = run(head, program, policy);
            assert_eq!(report.observation.registers[&0], 0x99, "plain: written back");
            assert_eq!(values(&report, 0), set(&[0, 0x99]), "{}", policy.name());
            assert_eq!(report.judged.works.is, Is::Maybe);
            assert_eq!(values(&run(head, cleaned, policy), 0), set(&[0x99]), "{}", policy.name());
        }
    }
    // A type that no cache keeps helps where stage 2 lets the guest have it: not with FWB.
    let nc = scenario(&(bar("[platform]\ncoherent = false", "", "", &[]) + NC_RAM), program);
    assert_eq!(values(&run_fwb(&nc, Policy::Linux6_9, false), 0), set(&[0x99]));
    assert_eq!(values(&run_fwb(&nc, Policy::Linux6_9, true), 0), set(&[0, 0x99]));
    // On x86 with such a device KVM honours the guest's PAT.
    assert_eq!(values(&run_fwb(&nc, Policy::X86Ept, true), 0), set(&[0x99]));
}

/// What a device reads that the guest stored and did not clean, for each way to declare the device, and a mapping or none.
#[test]
fn an_access_snoops_if_device_mapping_and_no_snoop_let_it() {
    let flags = [false, true];
    for (platform, own) in flags.into_iter().flat_map(|p| [None, Some(false), Some(true)].map(|own| (p, own))) {
        for (sets, counts) in flags.into_iter().flat_map(|s| flags.map(|c| (s, c))) {
            for non_cacheable in [None, Some(false), Some(true)] {
                let no_snoop = if counts { "possible" } else { "never" };
                let declared = format!("[platform]\ncoherent = {platform}\nno-snoop = \"{no_snoop}\"");
                let own_line = own.map_or(String::new(), |own| format!("coherent = {own}\n"));
                let mut head = bar(&declared, &format!("{own_line}no-snoop = {sets}"), "", &[]) + RAM;
                let mut at = "ram";
                if let Some(non_cacheable) = non_cacheable {
                    head += &format!("[[iova]]\nname = \"w\"\nto = \"ram\"\nnon-cacheable = {non_cacheable}\n");
                    at = "d, w";
                }
                let snoops = own.unwrap_or(platform) && !(sets && counts) && non_cacheable != Some(true);
                for policy in [Policy::Linux6_9, Policy::X86Ept] {
                    let report = run(&head, &format!("store.8 ram, 0x99\ndsb sy\ndma.load.8 {at} -> x0"), policy);
                    let refused = policy == Policy::X86Ept && non_cacheable == Some(true);
                    let read = match (refused, snoops) {
                        (true, _) => set(&[u64::MAX]),
                        (_, true) => set(&[0x99]),
                        (_, false) => set(&[0, 0x99]),
                    };
                    assert_eq!(values(&report, 0), read, "{} {at}\n{head}", policy.name());
                    let said = report.because.iter().any(|b| b.contains("does not see the CPU's caches"));
                    assert_eq!(said, !snoops && !refused, "{head}{}", report.because.join("\n"));
                    assert_eq!(report.judged.works.is == Is::Yes, snoops && !refused, "{head}");
                }
            }
        }
    }
}

/// One mapping, by an entry that the guest writes.
#[test]
fn a_walk_reads_what_memory_or_a_cache_holds() {
    let ram = |name| format!("[[map]]\nname = \"{name}\"\nram = \"4K\"\ntype = \"normal-wb\"\n");
    let head = |iommu: &str, device: &str| {
        let maps = ram("old") + &ram("new") + &ram("tables");
        bar(iommu, device, "", &[]) + &maps + "[[iova]]\nname = \"w\"\nto = \"old\"\nentry = \"tables+8\"\n"
    };
    let program = |change: &str| format!("store.8 old+16, 1\nstore.8 new+16, 2\n{change}\ndma.load.8 w+16 -> x0");
    let not = "[iommu]\ncoherent-walks = false";
    for policy in [Policy::Linux6_9, Policy::X86Ept] {
        let read = |iommu, change: &str| values(&run(&head(iommu, ""), &program(change), policy), 0);
        for iommu in ["", not] {
            // What is there at the start, in memory.
            assert_eq!(read(iommu, ""), set(&[1]));
            assert_eq!(read(iommu, "store.8 tables+8, &new+3\nclean tables+8"), set(&[2]));
            // Bits that do not count; no page; no memory.
            assert_eq!(read(iommu, "store.8 tables+8, &new+0xfff\nclean tables+8"), set(&[2]));
            assert_eq!(read(iommu, "store.8 tables+8, &new+1\nclean tables+8"), set(&[u64::MAX]));
            assert_eq!(read(iommu, "store.8 tables+8, 3\nclean tables+8"), set(&[u64::MAX]));
            // Another entry.
            assert_eq!(read(iommu, "store.8 tables, &new+3\nclean tables"), set(&[1]));
        }
        assert_eq!(read("", "store.8 tables+8, &new+3"), set(&[2]));
        assert_eq!(read(not, "store.8 tables+8, &new+3"), set(&[1, 2]));
        // What is unmapped may be mapped still.
        assert_eq!(read(not, "store.8 tables+8, 0"), set(&[1, u64::MAX]));
        // The device writes the entry itself, as it makes any access.
        assert_eq!(read(not, "dma.store.8 tables+8, &new+3"), set(&[2]));
        // A write without a translation is dropped.
        let dropped = "store.8 tables+8, 0\nclean tables+8\ndma.store.8 w+16, 7\nload.8 old+16 -> x1\n";
        let dropped = run(&head("", ""), &program(dropped), policy);
        assert_eq!((values(&dropped, 0), values(&dropped, 1)), (set(&[u64::MAX]), set(&[1])));
        assert!(dropped.because.iter().any(|b| b.contains("no translation for the device's access")));
    }
}

#[test]
fn what_a_device_writes_past_the_caches_may_not_be_seen() {
    let program = "load.8 ram -> x0\ndma.store.8 ram, 5\nload.8 ram -> x1";
    let unread = "dma.store.8 ram, 5\nload.8 ram -> x1";
    let cleaned = "load.8 ram -> x0\ndma.store.8 ram, 5\nclean ram\nload.8 ram -> x1";
    let coherent = bar("", "", "", &[]) + RAM;
    let not = bar("[platform]\ncoherent = false", "", "", &[]) + RAM;
    assert_eq!(values(&run(&coherent, program, Policy::Linux6_9), 1), set(&[5]));
    assert_eq!(values(&run(&not, program, Policy::Linux6_9), 1), set(&[0, 5]));
    // Nobody read it before; the CPU may have (B2.10.1).
    assert_eq!(values(&run(&not, unread, Policy::Linux6_9), 1), set(&[0, 5]));
    assert_eq!(values(&run(&not, cleaned, Policy::Linux6_9), 1), set(&[5]));
}

#[test]
fn mismatched_aliases_of_ram_are_user_spaces_and_the_guests() {
    // The guest's first access maps the page, and without FWB KVM cleans it then; later nobody does.
    let first = "user.store.8 ram, 7\nload.8 ram -> x0";
    let later = "load.8 ram -> x1\nuser.store.8 ram, 7\nload.8 ram -> x0";
    let back = "store.8 ram, 7\nuser.load.8 ram -> x0";
    let s = |program| scenario(NC_RAM, program);
    assert_eq!(values(&run_fwb(&s(first), Policy::Linux6_9, false), 0), set(&[7]));
    assert_eq!(values(&run_fwb(&s(later), Policy::Linux6_9, false), 0), set(&[0, 7]));
    assert_eq!(values(&run_fwb(&s(back), Policy::Linux6_9, false), 0), set(&[0, 7]));
    // With FWB the guest's accesses are Write-Back too; x86 snoops itself.
    for program in [first, later, back] {
        assert_eq!(values(&run_fwb(&s(program), Policy::Linux6_9, true), 0), set(&[7]), "{program}");
        assert_eq!(values(&run_fwb(&s(program), Policy::X86Ept, true), 0), set(&[7]), "{program}");
    }
}

#[test]
fn a_dirty_line_can_undo_a_write_past_it() {
    // A cached BAR with a Write-Back alias and, without stage 2's force, none; so by user space and DMA that does not snoop.
    let program = "store.8 ram, 1\ndma.store.8 ram+8, 2\nclean ram\ndma.load.8 ram+8 -> x0";
    let head = bar("[platform]\ncoherent = false", "", "", &[]) + RAM;
    assert_eq!(values(&run(&head, program, Policy::Linux6_9), 0), set(&[0, 2]));
}

// Reads with side effects.

#[test]
fn a_read_clears_and_a_stray_read_does_too() {
    let program = "store.4 m+4, 0x51\ndsb sy\nload.4 m+4 -> x0\nload.4 m+4 -> x1";
    let clear = |more: &str, ty| bar("", "", &format!(", reads = \"clear\"{more}"), &[("m", ty)]);
    // A guest that maps it Device, a BAR that is not prefetchable: no reads but its own, under every policy.
    for policy in Policy::ALL {
        let report = run(&clear("", "device-ngnre"), program, policy);
        assert_eq!((values(&report, 0), values(&report, 1)), (set(&[0x51]), set(&[0])), "{}", policy.name());
        assert_ne!(report.judged.safe.is, Is::No, "{}", policy.name());
    }
    // The BAR says prefetchable: user space's own mapping is read ahead, though the guest's is Device.
    let report = run(&clear(", prefetchable = true", "device-ngnre"), program, Policy::Prefetchable);
    assert_eq!(values(&report, 0), set(&[0, 0x51]));
    assert!(report.because.iter().any(|b| b.contains("user space's own mapping") && b.contains("thread 000")));
    assert_eq!(report.judged.safe.is, Is::No);
    let report = run(&clear(", prefetchable = true", "device-ngnre"), program, Policy::Linux6_9);
    assert_eq!(values(&report, 0), set(&[0x51]));
    // The guest's own choice, where stage 2 lets it through.
    for (policy, may) in [(Policy::Linux6_9, true), (Policy::Linux6_1, false), (Policy::X86Ept, true)] {
        let report = run(&clear("", "normal-nc"), program, policy);
        assert_eq!(values(&report, 0).contains(&0), may, "{}", policy.name());
        assert_eq!(report.judged.safe.is, if may { Is::Maybe } else { Is::Yes }, "{:?}", report.judged.safe);
    }
    // What is gathered may have left before, and be lost all the same.
    let report = run(&clear("", "normal-nc"), "store.4 m+4, 0x51\nload.4 m+4 -> x0", Policy::Linux6_9);
    assert_eq!(values(&report, 0), set(&[0, 0x51]));
    // Another mapping of the page is as live.
    let two = bar("", "", ", reads = \"clear\"", &[("m", "device-ngnre"), ("n", "normal-nc")]);
    assert_eq!(values(&run(&two, program, Policy::Linux6_9), 0), set(&[0, 0x51]));
    assert_eq!(values(&run(&two, program, Policy::Linux6_1), 0), set(&[0x51]));
}

// Gathering.

#[test]
fn gathered_stores_are_counted_as_one_write() {
    let burst: String = (0..8).map(|i| format!("store.8 m+{}, {i}\n", 8 * i)).collect();
    let head = bar("", "", "", &[("m", "normal-nc")]);
    let wc = run(&head, &burst, Policy::Linux6_9);
    assert_eq!((wc.transactions.writes, wc.bare.writes, wc.judged.fast.is), (1, 1, Is::Yes));
    let device = run(&head, &burst, Policy::Linux6_1);
    assert_eq!((device.transactions.writes, device.bare.writes, device.judged.fast.is), (8, 1, Is::No));
    assert_eq!(run(&head, &burst, Policy::X86Ept).transactions.writes, 1);
    let registers = run(&bar("", "", "", &[("m", "device-ngnre")]), &burst, Policy::Linux6_9);
    assert_eq!((registers.transactions.writes, registers.judged.fast.is), (8, Is::NotAsked));
    // Device-GRE gathers; stage 2's nGnRE takes it away.
    let gre = bar("", "", "", &[("m", "device-gre")]);
    assert_eq!(run(&gre, &burst, Policy::Linux6_9).transactions.writes, 1);
    assert_eq!(run(&gre, &burst, Policy::Linux6_1).transactions.writes, 8);
}

#[test]
fn what_ends_gathering() {
    let head = bar("", "", "", &[("m", "normal-nc"), ("r", "device-ngnre")]) + RAM;
    let writes = |between: &str| {
        let program = format!("store.4 m, 1\n{between}\nstore.4 m+4, 2");
        run(&head, &program, Policy::Linux6_9).transactions.writes
    };
    assert_eq!(writes(""), 1);
    for barrier in ["dmb oshst", "dmb st", "dmb sy", "dsb sy", "dsb oshst", "dmb osh"] {
        assert_eq!(writes(barrier), 2, "{barrier}");
    }
    // Nothing else promises it (memtype::barrier).
    for barrier in ["dmb oshld", "dmb ishst", "isb", "dgh", "store.8 ram, 1"] {
        assert_eq!(writes(barrier), 1, "{barrier}");
    }
    assert_eq!(writes("load.4 m+32 -> x0"), 2, "a load of the line");
    assert_eq!(writes("load.4 m+64 -> x0"), 1, "of another");
    assert_eq!(writes("store.4 m+64, 1"), 3, "another line");
    assert_eq!(writes("store.4 r+0x100, 1"), 3, "a type that does not gather");
    assert_eq!(writes("store.4 m+8, 1"), 1);
    // A write of PCIe has no holes.
    assert_eq!(run(&head, "store.4 m, 1\nstore.4 m+8, 1", Policy::Linux6_9).transactions.writes, 2);
}

#[test]
fn defects_of_normal_nc_show_where_the_guest_gets_it() {
    let head = |nc: &str| bar(&format!("[platform]\nnormal-nc = \"{nc}\""), "", "", &[("m", "normal-nc")]);
    let holes = "store.1 m, 0x11\nstore.1 m+2, 0x22\ndsb sy\nload.4 m -> x0";
    assert_eq!(values(&run(&head("works"), holes, Policy::Linux6_9), 0), set(&[0x22_0011]));
    let report = run(&head("holes"), holes, Policy::Linux6_9);
    assert_eq!(values(&report, 0), set(&[0x22_0011, 0x2211]));
    assert_eq!((report.judged.works.is, report.judged.safe.is), (Is::Maybe, Is::No));
    assert_eq!(values(&run(&head("holes"), holes, Policy::Linux6_1), 0), set(&[0x22_0011]), "Device is not affected");
    let apart = "store.1 m, 0x11\ndmb oshst\nstore.1 m+2, 0x22\ndsb sy\nload.4 m -> x0";
    assert_eq!(values(&run(&head("holes"), apart, Policy::Linux6_9), 0), set(&[0x22_0011]), "a barrier between");

    let halves = "store.4 m, 1\nstore.4 m+4, 2\ndsb sy\nload.8 m -> x0";
    assert_eq!(values(&run(&head("partial"), halves, Policy::Linux6_9), 0), set(&[0, 0x2_0000_0001]));
    assert_eq!(values(&run(&head("partial"), "store.8 m, 3\ndsb sy\nload.8 m -> x0", Policy::Linux6_9), 0), set(&[3]));

    let long = |n: u64| (0..n).map(|i| format!("store.8 m+{}, {i}\n", 8 * i)).collect::<String>();
    let report = run(&head("long"), &long(33), Policy::Linux6_9);
    let outcomes: Vec<&Outcome> = report.allowed.iter().map(|o| &o.outcome).collect();
    assert_eq!(outcomes, [&Outcome::Completed, &Outcome::UncontainedError]);
    assert_eq!(run(&head("long"), &long(32), Policy::Linux6_9).allowed.len(), 1);
    assert_eq!(run(&head("long"), &long(33), Policy::Linux6_1).allowed.len(), 1);

    let fails = run(&head("fails"), "load.4 m -> x0", Policy::Linux6_9);
    assert_eq!(values(&fails, 0), set(&[0xffff_ffff]));
    // An emulator has none of them.
    let s = scenario(&head("partial"), "store.4 m, 1\ndsb sy\nload.4 m -> x0");
    let cpu = Cpu { fwb: true, dic: true };
    let seen =
        |departs: &[Finding]| model::run_as(&s, Policy::Linux6_9, cpu, departs).unwrap().observation.registers[&0];
    assert_eq!((seen(&[]), seen(&[Finding::QemuNcWorks])), (0, 1));
}

// Errors.

#[test]
fn what_a_failing_access_gives_is_declared_by_class() {
    let program = "store.4 m, 1\nload.4 m -> x0";
    let head = |errors: &str, ty| bar(&format!("[platform]\nerrors = {errors}"), "", ", dead = true", &[("m", ty)]);
    for policy in Policy::ALL {
        assert_eq!(values(&run(&head("\"all-ones\"", "normal-nc"), program, policy), 0), set(&[0xffff_ffff]));
        let contained = run(&head("\"contained\"", "device-ngnre"), program, policy).observation.outcome;
        assert!(matches!(contained, Outcome::ContainedError { far: Some(_) }));
        let by_device = head("{ device = \"uncontained\" }", "normal-nc");
        let lost = run(&by_device, program, policy).observation.outcome == Outcome::UncontainedError;
        let nc = matches!(policy, Policy::Linux6_9 | Policy::Linux6_17 | Policy::X86Ept);
        assert_eq!(lost, !nc, "{}: stage 2 decides the class", policy.name());
        // A guest that asks for Device gets Device under all of them.
        assert_eq!(run(&by_device, program, policy).judged.safe.is, Is::No, "{}", policy.name());
    }
    let user = run(&head("\"contained\"", "normal-nc"), "user.load.4 m -> x0", Policy::Linux6_9);
    assert_eq!(user.observation.outcome, Outcome::ContainedError { far: None });
    let s = scenario(&head("\"uncontained\"", "normal-nc"), program);
    let cpu = Cpu { fwb: true, dic: true };
    let seen = model::run_as(&s, Policy::Linux6_9, cpu, &[Finding::QemuNoUncontained]).unwrap();
    assert_eq!(seen.observation.outcome, Outcome::Completed);
}

// x86.

#[test]
fn x86_has_no_alignment_faults_and_a_page_fault_of_its_own() {
    for ty in ["device-ngnrne", "device-gre", "normal-nc", "normal-wb"] {
        let head = bar("", "", "", &[("m", ty)]);
        let program = "store.8 m+3, 0x1122334455667788\natomic.add.8 m+3, 1 -> x0\nexclusive.4 m+0x100, 5 -> x1, x2\n\
                       load.8 m+3 -> x3\nzero m+0x140\nload.4 m+0x100 -> x4";
        let o = run(&head, program, Policy::X86Ept);
        assert_eq!(o.allowed.len(), 1, "{ty}");
        let o = &o.observation;
        assert_eq!(o.outcome, Outcome::Completed, "{ty}");
        let r = |n: u8| o.registers[&n];
        assert_eq!((r(0), r(1), r(2), r(3), r(4)), (0x1122_3344_5566_7788, 0, 0, 0x1122_3344_5566_7789, 5), "{ty}");
    }
    let readonly = "[[map]]\nname = \"m\"\nram = \"4K\"\ntype = \"normal-wb\"\nwritable = false\n";
    let s = scenario(readonly, "load.8 m -> x0\nstore.8 m+8, 1");
    let at = scenario::Layout::of(&s).maps[0].va + 8;
    assert_eq!(run_fwb(&s, Policy::X86Ept, true).observation.outcome, Outcome::PageFault { far: at, write: true });
    let hole = "[[map]]\nname = \"h\"\nhole = \"4K\"\ntype = \"device-ngnre\"\n";
    let exit = run(hole, "store.4 h+4, 0xabcd", Policy::X86Ept).observation.outcome;
    assert!(matches!(exit, Outcome::Mmio { write: true, len: 4, data: 0xabcd, .. }), "{exit:?}");
    let jump = run(&bar("", "", "", &[("m", "normal-nc")]), "jump m", Policy::X86Ept).observation.outcome;
    assert!(matches!(jump, Outcome::PageFault { write: false, .. }), "{jump:?}");
}

// The verdict.

#[test]
fn works_is_judged_by_bare_metal() {
    let unaligned = "store.8 m+1, 7\nload.8 m+1 -> x0";
    let head = bar("", "", "", &[("m", "normal-nc")]);
    let is = |policy| run(&head, unaligned, policy).judged.works.is;
    assert_eq!((is(Policy::Linux6_9), is(Policy::Linux6_1), is(Policy::X86Ept)), (Is::Yes, Is::No, Is::Yes));
    // What faults on bare metal as well works: nobody promised more.
    let report = run(&bar("", "", "", &[("m", "device-ngnre")]), "store.8 m+1, 7", Policy::Linux6_1);
    assert_eq!(report.judged.works.is, Is::Yes, "{:?}", report.judged.works);
}

#[test]
fn cacheable_memory_that_nobody_snoops_is_not_safe() {
    let head = |platform: &str| bar(platform, "", ", cached = true", &[("m", "normal-wb")]);
    let safe =
        |platform: &str, policy, fwb| run_fwb(&scenario(&head(platform), "load.8 m -> x0"), policy, fwb).judged.safe.is;
    assert_eq!(safe("", Policy::Linux6_17, true), Is::Yes);
    assert_eq!(safe("[platform]\ncoherent = false", Policy::Linux6_17, true), Is::No);
    assert_eq!(safe("[platform]\ncoherent = false", Policy::Linux6_9, true), Is::Yes);
    assert_eq!(safe("", Policy::FollowVma, false), Is::No);
    assert_eq!(safe("", Policy::Linux6_17, false), Is::Yes, "no guest runs");
}
