//! Which endpoints share a domain, what an access then is, and when Enable No Snoop is kept clear.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use viommu::MemoryType;
use viommu::coherency::{Coherency, Dma, NoSnoop, Spaces, Unserved, Walks, serves};
use viommu::config_space::{BIT, DeviceControl, Guest, Malformed, RULES, mask, rule};

const DMA: [Dma; 3] = [Dma::Unknown, Dma::Coherent, Dma::NonCoherent];
const NO_SNOOP: [NoSnoop; 3] = [NoSnoop::Unknown, NoSnoop::Allowed, NoSnoop::Enforced];
const SPACES: [Spaces; 4] = [
    Spaces::ONE_TABLE,
    Spaces { mixed_dma: true, mixed_no_snoop: false },
    Spaces { mixed_dma: false, mixed_no_snoop: true },
    Spaces::TABLE_EACH,
];

fn all() -> Vec<Coherency> {
    let mut all = Vec::new();
    for dma in DMA {
        for no_snoop in NO_SNOOP {
            for non_cacheable in [false, true] {
                all.push(Coherency { dma, non_cacheable, no_snoop, walks: Walks::Unknown });
            }
        }
    }
    all
}

/// 5.13.6.3.2: the first endpoint of a domain is attached, whatever is known of it.
#[test]
fn alone_everything_is_served() {
    for spaces in SPACES {
        for new in all() {
            assert_eq!(serves(spaces, &[], new, false), Ok(()));
        }
    }
}

/// Thread 004, case A: a host with a table for each takes any mix.
#[test]
fn a_table_for_each_mixes_everything() {
    for a in all() {
        for b in all() {
            assert_eq!(serves(Spaces::TABLE_EACH, &[a], b, false), Ok(()));
        }
    }
}

/// In one table the promises that the guest was given of those that are there stay true. Stated without the code's way of asking: a
/// table either serves coherent endpoints or others, and either enforces or not.
#[test]
fn one_table_keeps_what_was_promised() {
    for a in all() {
        for b in all() {
            let same_dma = a.dma == b.dma;
            let same_snoop = a.no_snoop == b.no_snoop;
            let is = serves(Spaces::ONE_TABLE, &[a], b, false);
            assert_eq!(is.is_ok(), same_dma && same_snoop, "{a:?} {b:?}");
            assert_eq!(serves(SPACES[1], &[a], b, false).is_ok(), same_snoop);
            assert_eq!(serves(SPACES[2], &[a], b, false).is_ok(), same_dma);
        }
    }
    let enforced = Coherency { dma: Dma::Coherent, no_snoop: NoSnoop::Enforced, ..Coherency::default() };
    let allowed = Coherency { no_snoop: NoSnoop::Allowed, ..enforced };
    let says = serves(Spaces::ONE_TABLE, &[enforced], allowed, false).unwrap_err();
    assert_eq!(says, Unserved::NoSnoop { present: NoSnoop::Enforced, new: NoSnoop::Allowed });
    assert_eq!(says.to_string(), "No Snoop allowed beside No Snoop enforced, in one address space that holds one kind");
}

/// Of whom nothing is known, that goes with its like, so that a host which was asked nothing still has domains of several endpoints.
#[test]
fn unknown_goes_with_unknown_alone() {
    let unknown = Coherency::default();
    assert_eq!(serves(Spaces::default(), &[unknown, unknown], unknown, false), Ok(()));
    for dma in [Dma::Coherent, Dma::NonCoherent] {
        let known = Coherency { dma, ..unknown };
        let no = Err(Unserved::Dma { present: dma, new: Dma::Unknown });
        assert_eq!(serves(Spaces::default(), &[known], unknown, false), no);
        assert!(serves(Spaces::default(), &[unknown], known, false).is_err());
    }
}

/// The order in which a driver attaches decides nothing of whether all of them fit.
#[test]
fn the_order_does_not_matter() {
    for spaces in SPACES {
        for a in all() {
            for b in all() {
                assert_eq!(serves(spaces, &[a], b, false).is_ok(), serves(spaces, &[b], a, false).is_ok());
            }
        }
    }
}

#[test]
fn a_domain_with_non_cacheable_mappings_takes_those_that_can() {
    for spaces in SPACES {
        for new in all() {
            let is = serves(spaces, &[new], new, true);
            assert_eq!(is, if new.non_cacheable { Ok(()) } else { Err(Unserved::NonCacheable) });
        }
    }
}

/// What is said to snoop stays so when something is found out that was unknown: no answer is given too early.
#[test]
fn an_answer_holds_for_everything_that_unknown_can_turn_out_to_be() {
    let refine_dma = |it| if it == Dma::Unknown { DMA[1..].to_vec() } else { vec![it] };
    let refine_snoop = |it| if it == NoSnoop::Unknown { NO_SNOOP[1..].to_vec() } else { vec![it] };
    for it in all() {
        for memory in [MemoryType::Normal, MemoryType::NonCacheable, MemoryType::Mmio] {
            for bit in [false, true] {
                let said = it.snoops(memory, bit);
                let mut can_be = Vec::new();
                for dma in refine_dma(it.dma) {
                    for no_snoop in refine_snoop(it.no_snoop) {
                        can_be.push(Coherency { dma, no_snoop, ..it }.snoops(memory, bit));
                    }
                }
                if said.is_some() {
                    assert!(can_be.iter().all(|c| *c == said), "{it:?} {memory:?} {bit}");
                } else {
                    let one = can_be[0];
                    assert!(one.is_none() || can_be.iter().any(|c| *c != one), "{it:?} {memory:?} {bit}: it is known");
                }
                assert_eq!(it.needs_maintenance(memory, false), it.snoops(memory, false) != Some(true));
            }
        }
    }
}

#[test]
fn accesses_one_by_one() {
    let coherent =
        Coherency { dma: Dma::Coherent, no_snoop: NoSnoop::Allowed, non_cacheable: true, walks: Walks::Coherent };
    assert_eq!(coherent.snoops(MemoryType::Normal, false), Some(true));
    assert_eq!(coherent.snoops(MemoryType::Normal, true), Some(false));
    assert_eq!(coherent.snoops(MemoryType::NonCacheable, false), Some(false));
    assert_eq!(coherent.snoops(MemoryType::Mmio, false), None);
    let enforced = Coherency { no_snoop: NoSnoop::Enforced, ..coherent };
    assert_eq!(enforced.snoops(MemoryType::Normal, true), Some(true));
    assert!(!enforced.needs_maintenance(MemoryType::Normal, true));
    assert!(coherent.needs_maintenance(MemoryType::Normal, true));
    let never = Coherency { dma: Dma::NonCoherent, ..enforced };
    for memory in [MemoryType::Normal, MemoryType::NonCacheable, MemoryType::Mmio] {
        assert_eq!(never.snoops(memory, false), Some(false));
    }
}

/// A type 0 header and a chain of capabilities: where, which, next.
fn image(chain: &[(u8, u8, u8)]) -> [u8; 256] {
    let mut image = [0; 256];
    image[..4].copy_from_slice(&[0x86, 0x80, 0x72, 0x15]);
    image[0x06] = 0x10;
    image[0x34] = chain.first().map_or(0, |c| c.0);
    for &(at, id, next) in chain {
        image[usize::from(at)] = id;
        image[usize::from(at) + 1] = next;
    }
    image
}

#[test]
fn device_control_is_found() {
    let found = |it: &[u8]| DeviceControl::find(it).map(|it| it.map(DeviceControl::at));
    assert_eq!(found(&image(&[(0x40, 0x10, 0)])), Ok(Some(0x48)));
    assert_eq!(found(&image(&[(0x40, 0x01, 0x50), (0x50, 0x05, 0xa0), (0xa0, 0x10, 0)])), Ok(Some(0xa8)));
    // The reserved bits of a pointer are masked off.
    assert_eq!(found(&image(&[(0x40, 0x01, 0x53), (0x50, 0x10, 0)])), Ok(Some(0x58)));
    assert_eq!(found(&image(&[(0x40, 0x01, 0)])), Ok(None));
    let mut none = image(&[(0x40, 0x10, 0)]);
    none[0x06] = 0;
    assert_eq!(found(&none), Ok(None));
    let mut many = image(&[(0x40, 0x10, 0)]);
    many[0x0e] = 0x80;
    assert_eq!(found(&many), Ok(Some(0x48)));
    // The last place where it fits, with the two bytes of the register.
    assert_eq!(found(&image(&[(0xf4, 0x10, 0)])), Ok(Some(0xfc)));
}

#[test]
fn what_is_no_list_is_said() {
    let found = |it: &[u8]| DeviceControl::find(it).unwrap_err();
    assert_eq!(found(&image(&[(0x40, 0x01, 0x40)])), Malformed::Loop { at: 0x40 });
    assert_eq!(found(&image(&[(0x40, 0x01, 0x50), (0x50, 0x05, 0x40)])), Malformed::Loop { at: 0x40 });
    assert_eq!(found(&image(&[(0x40, 0x01, 0x3c)])), Malformed::InHeader { at: 0x3c });
    assert_eq!(found(&image(&[(0xf8, 0x10, 0)])), Malformed::Beyond { at: 0xf8 });
    assert_eq!(found(&[0xff; 256]), Malformed::NoFunction(0xffff));
    assert_eq!(found(&[]), Malformed::Short { len: 0, at: 0 });
    assert_eq!(found(&image(&[(0x40, 0x10, 0)])[..0x49]), Malformed::Short { len: 0x49, at: 0x49 });
    let mut bus = image(&[(0x40, 0x10, 0)]);
    bus[0x0e] = 2;
    assert_eq!(found(&bus), Malformed::HeaderType(2));
}

#[test]
fn the_state_at_start() {
    let control = DeviceControl::find(&image(&[(0x40, 0x10, 0)])).unwrap().unwrap();
    assert_eq!(control.at_start(0x2810), Some(0x2010));
    assert_eq!(control.at_start(0x2010), None);
    // It starts no reset of the function.
    assert_eq!(control.at_start(0xffff), Some(0x77ff));
}

#[test]
fn the_rule_has_a_row_for_everything() {
    for no_snoop in NO_SNOOP {
        for guest in [Guest::Unaware, Guest::Maintains] {
            let rows: Vec<_> = RULES.iter().filter(|r| (r.no_snoop, r.guest) == (no_snoop, guest)).collect();
            assert_eq!(rows, [&rule(no_snoop, guest)]);
            // Harm is done where the attribute can count and nobody maintains. Nothing is masked without need.
            let coherency = Coherency { dma: Dma::Coherent, no_snoop, ..Coherency::default() };
            let may_go_past = coherency.needs_maintenance(MemoryType::Normal, true);
            assert_eq!(mask(no_snoop, guest), may_go_past && guest == Guest::Unaware);
        }
    }
}

proptest! {
    /// Any image: an answer, and in bounds.
    #[test]
    fn any_image_is_walked(bytes in proptest::collection::vec(any::<u8>(), 0..300), force in any::<bool>()) {
        let mut bytes = bytes;
        if force && bytes.len() > 0x40 {
            bytes[0x06] |= 0x10;
            bytes[0x0e] = 0;
        }
        if let Ok(Some(control)) = DeviceControl::find(&bytes) {
            prop_assert!(usize::from(control.at()) + 2 <= bytes.len().min(256));
            prop_assert_eq!(bytes[usize::from(control.at()) - 8], 0x10);
        }
    }

    /// Whatever the guest writes and wherever, the register never has the bit, every other bit is as the guest wrote it; and it never reads it as 1.
    #[test]
    fn no_access_sets_the_bit(
        at in 0u8..48,
        before in any::<u16>(),
        offset in prop_oneof![0u64..300, any::<u64>()],
        data in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let at = 0x40 + at * 4;
        prop_assume!(usize::from(at) + 10 <= 256);
        let control = DeviceControl::find(&image(&[(at, 0x10, 0)])).unwrap().unwrap();
        let mut hardware = [0u8; 512];
        let register = usize::from(control.at());
        hardware[register..register + 2].copy_from_slice(&(before & !BIT).to_le_bytes());
        let mut plain = hardware;
        let mut write = data.clone();
        control.keep_clear(offset, &mut write);
        for (i, (masked, asked)) in write.iter().zip(&data).enumerate() {
            if let Some(to) = offset.checked_add(i as u64).and_then(|o| usize::try_from(o).ok()).filter(|o| *o < 512) {
                hardware[to] = *masked;
                plain[to] = *asked;
            }
        }
        let word = |bytes: &[u8; 512]| u16::from_le_bytes([bytes[register], bytes[register + 1]]);
        prop_assert_eq!(word(&hardware), word(&plain) & !BIT);
        plain[register..register + 2].copy_from_slice(&word(&hardware).to_le_bytes());
        prop_assert_eq!(hardware, plain);
        // Reads.
        let mut read = data.clone();
        control.keep_clear(offset, &mut read);
        let high = (register as u64 + 1).checked_sub(offset).map(|i| i as usize);
        for (i, (masked, was)) in read.iter().zip(&data).enumerate() {
            prop_assert_eq!(*masked, if Some(i) == high { was & !8 } else { *was });
        }
    }
}
