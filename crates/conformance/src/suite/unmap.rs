//! UNMAP (5.13.6.6).

use super::bench::{RW, answered};
use super::{
    Stop, Tested, Verdict,
    bench::{Bench, Got, PASS, begins, fail, not_shown},
};
use crate::bytes::{
    ATTACH_BYPASS, F_ALL, F_BYPASS_CONFIG, F_MAP_UNMAP, Request, S_INVAL, S_NOENT, S_OK, S_RANGE, Unmap,
};

pub(super) fn takes_access(b: &mut Bench<'_>) -> Tested {
    b.needs_mappings()?;
    let domain = b.have_one_mapping()?;
    b.unit_reaches(b.one, 0, 0)?.all("before UNMAP").map_err(|_| not_shown("the mapping is not reached before"))?;
    let at = b.iova(0)?;
    begins(&b.unmap(domain, at, at + (b.unit - 1))?, "UNMAP")?;
    b.unit_reaches(b.one, 0, 0)?.nothing("after UNMAP")?;
    PASS
}

/// One of the examples of 5.13.6.6: mappings from one number to another, one UNMAP, what it is answered, and which mappings are
/// left. A number stands for a granule, from a blank address space on; and, where a granule is less, for 4 KiB.
struct Example {
    maps: &'static [(u64, u64)],
    unmap: (u64, u64),
    succeeds: bool,
    left: &'static [bool],
}

fn example(b: &mut Bench<'_>, it: &Example) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let mut scales = vec![b.granule];
    if b.unit != b.granule {
        scales.push(b.unit);
    }
    for scale in scales {
        b.start_with(b.taken)?;
        let domain = b.domain(0)?;
        b.have_attached(domain, b.one)?;
        let base = b.iova(0)?;
        let (at, end) = (|n: u64| base + n * scale, |n: u64| base + n * scale + (scale - 1));
        for &(from, to) in it.maps {
            let memory = b.memory(0) + memory_of(from) * scale;
            begins(&b.map(domain, at(from), end(to), memory, RW)?, "MAP")?;
        }
        let (from, to) = it.unmap;
        let got = b.unmap(domain, at(from), end(to))?;
        let what = format!("unmap({from}, {to}) of granules of {scale:#x}");
        if got.is_ok() != it.succeeds {
            let wanted = if it.succeeds { "OK" } else { "not OK" };
            return Ok(fail(format!("{what}: {got}"), wanted));
        }
        for (&(from, to), &left) in it.maps.iter().zip(it.left) {
            is_left(
                b,
                domain,
                (at(from), end(to)),
                memory_of(from) * scale,
                left,
                &format!("map({from}, {to}) after {what}"),
            )?;
        }
    }
    PASS
}

/// The memory of the mapping that begins there: in the first five units or the next, as long as both.
fn memory_of(from: u64) -> u64 {
    if from == 0 { 0 } else { 5 }
}

/// Whether a mapping is there: by DMA where it can be seen, and by a MAP, which is refused or not.
fn is_left(
    b: &mut Bench<'_>,
    domain: u32,
    (from, to): (u64, u64),
    memory: u64,
    left: bool,
    what: &str,
) -> Result<(), Stop> {
    let memory = b.memory(0) + memory;
    if b.can.dma {
        let bytes = (to - from + 1).min(8);
        for (iova, memory) in [(from, memory), (to + 1 - bytes, memory + (to + 1 - bytes - from))] {
            let reached = b.writes_bytes(b.one, iova, memory, bytes as usize)?;
            if reached != left {
                let saw = format!(
                    "{what}: a write to {iova:#x} {}",
                    if reached { "gets through" } else { "does not get through" }
                );
                return Err(Stop::Verdict(fail(
                    saw,
                    if left { "it is still mapped" } else { "it is mapped no longer" },
                )));
            }
        }
    }
    if !left {
        answered(&b.map(domain, from, to, memory, RW)?, S_OK, &format!("{what}: MAP of the same"))?;
    }
    Ok(())
}

pub(super) fn example_1(b: &mut Bench<'_>) -> Tested {
    example(b, &Example { maps: &[], unmap: (0, 4), succeeds: true, left: &[] })
}

pub(super) fn example_2(b: &mut Bench<'_>) -> Tested {
    example(b, &Example { maps: &[(0, 9)], unmap: (0, 9), succeeds: true, left: &[false] })
}

pub(super) fn example_3(b: &mut Bench<'_>) -> Tested {
    example(b, &Example { maps: &[(0, 4), (5, 9)], unmap: (0, 9), succeeds: true, left: &[false, false] })
}

pub(super) fn example_4(b: &mut Bench<'_>) -> Tested {
    example(b, &Example { maps: &[(0, 9)], unmap: (0, 4), succeeds: false, left: &[true] })
}

pub(super) fn example_5(b: &mut Bench<'_>) -> Tested {
    example(b, &Example { maps: &[(0, 4), (5, 9)], unmap: (0, 4), succeeds: true, left: &[false, true] })
}

pub(super) fn example_6(b: &mut Bench<'_>) -> Tested {
    example(b, &Example { maps: &[(0, 4)], unmap: (0, 9), succeeds: true, left: &[false] })
}

pub(super) fn example_7(b: &mut Bench<'_>) -> Tested {
    example(b, &Example { maps: &[(0, 4), (10, 14)], unmap: (0, 14), succeeds: true, left: &[false, false] })
}

pub(super) fn without_feature(b: &mut Bench<'_>) -> Tested {
    b.start_with(F_ALL & !F_MAP_UNMAP & b.taken)?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let at = b.iova(0)?;
    let got = b.unmap(domain, at, at + (b.unit - 1))?;
    if got.is_ok() { Ok(fail(format!("UNMAP: {got}"), "not OK")) } else { PASS }
}

/// An UNMAP with `reserved` not zero, of one mapping; and whether that is there after it.
fn with_reserved(b: &mut Bench<'_>) -> Result<(Got, bool), Stop> {
    b.needs(F_MAP_UNMAP)?;
    let domain = b.have_one_mapping()?;
    let (from, memory) = (b.iova(0)?, b.memory(0));
    let to = from + (b.unit - 1);
    let request = Unmap { reserved: [1, 0, 0, 0], ..Unmap::new(domain, from, to) };
    let got = b.ask(&Request::Unmap(request))?;
    let gone = b.map(domain, from, to, memory, RW)?.is_ok();
    Ok((got, gone))
}

pub(super) fn reserved_inval(b: &mut Bench<'_>) -> Tested {
    let (got, _) = with_reserved(b)?;
    let what = format!("UNMAP with reserved not zero: {got}");
    Ok(if got.status() == Some(S_INVAL) { Verdict::Does { what } } else { Verdict::DoesNot { what } })
}

pub(super) fn reserved_done(b: &mut Bench<'_>) -> Tested {
    let (got, gone) = with_reserved(b)?;
    let what = format!("{got}, and the mapping is {}", if gone { "gone" } else { "still there" });
    Ok(if gone { Verdict::Does { what } } else { Verdict::DoesNot { what } })
}

pub(super) fn domain_absent(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let (domain, there) = (b.domain(0)?, b.domain(1)?);
    let at = b.iova(0)?;
    for when in ["UNMAP in a domain that is not there", "UNMAP in one that is not there, beside one that is"] {
        answered(&b.unmap(domain, at, at + (b.unit - 1))?, S_NOENT, when)?;
        b.have_attached(there, b.one)?;
    }
    PASS
}

pub(super) fn bypass_domain(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    b.needs(F_BYPASS_CONFIG)?;
    let domain = b.domain(0)?;
    begins(&b.attach_flags(domain, b.one, ATTACH_BYPASS)?, "ATTACH with BYPASS")?;
    let at = b.iova(0)?;
    answered(&b.unmap(domain, at, at + (b.unit - 1))?, S_INVAL, "UNMAP in a bypass domain")?;
    PASS
}

pub(super) fn split_range(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    // One unit at 1, four at 2.
    b.have_mapped(domain, 1, 1, 0)?;
    b.have_mapped(domain, 2, 4, 1)?;
    for (what, unit, units) in [
        ("the beginning of a mapping", 2, 2),
        ("the middle of a mapping", 3, 1),
        ("the end of a mapping", 4, 2),
        ("the end of a mapping and beyond", 4, 4),
        ("one mapping and the beginning of the next", 1, 2),
        ("a hole, one mapping and the beginning of the next", 0, 4),
    ] {
        let from = b.iova(unit)?;
        answered(&b.unmap(domain, from, from + (units * b.unit - 1))?, S_RANGE, &format!("UNMAP of {what}"))?;
    }
    PASS
}

pub(super) fn split_removes_nothing(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    // Before and after the one that would be split: some look from one end, some from the other.
    for (what, unit, units) in [("before", 1, 3), ("after", 4, 3), ("before and after", 1, 7)] {
        b.start_with(b.taken)?;
        let domain = b.domain(0)?;
        b.have_attached(domain, b.one)?;
        b.have_mapped(domain, 1, 1, 0)?;
        b.have_mapped(domain, 2, 3, 1)?;
        b.have_mapped(domain, 5, 1, 4)?;
        b.have_mapped(domain, 6, 1, 5)?;
        b.have_mapped(domain, 7, 2, 6)?;
        let from = b.iova(unit)?;
        let got = b.unmap(domain, from, from + (units * b.unit - 1))?;
        for (unit, units, memory) in [(1, 1, 0), (2, 3, 1), (5, 1, 4), (6, 1, 5), (7, 2, 6)] {
            for part in 0..units {
                let gone = if b.can.dma {
                    b.unit_reaches(b.one, unit + part, memory + part)? != super::bench::Reach::ALL
                } else {
                    let at = b.iova(unit + part)?;
                    b.map(domain, at, at + (b.unit - 1), b.memory(memory), RW)?.is_ok()
                };
                if gone {
                    let saw = format!("whole mappings {what} the one that would be split: {got}, and one is gone");
                    return Ok(fail(saw, "all are there"));
                }
            }
        }
    }
    PASS
}

pub(super) fn holes(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    for (what, maps, unit, units) in [
        ("nothing at all", &[][..], 0, 8),
        ("a hole before", &[4], 2, 3),
        ("a hole after", &[4], 4, 3),
        ("a hole between", &[1, 4], 1, 4),
        ("holes everywhere", &[1, 3, 6], 0, 12),
    ] {
        for &at in maps {
            b.have_mapped(domain, at, 1, at)?;
        }
        let from = b.iova(unit)?;
        answered(&b.unmap(domain, from, from + (units * b.unit - 1))?, S_OK, &format!("UNMAP with {what}"))?;
        for &at in maps {
            if b.can.dma {
                b.unit_reaches(b.one, at, at)?.nothing(&format!("after UNMAP with {what}"))?;
            }
            let from = b.iova(at)?;
            let again = b.map(domain, from, from + (b.unit - 1), b.memory(at), RW)?;
            answered(&again, S_OK, &format!("MAP again after UNMAP with {what}"))?;
            begins(&b.unmap(domain, from, from + (b.unit - 1))?, "UNMAP")?;
        }
    }
    PASS
}
