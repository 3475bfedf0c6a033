//! MAP (5.13.6.5).

use super::{
    Tested, Verdict,
    bench::{Bench, PASS, RW, answered, begins, fail, not_shown},
};
use crate::bytes::{
    ATTACH_BYPASS, F_ALL, F_BYPASS_CONFIG, F_INPUT_RANGE, F_MAP_UNMAP, F_MMIO, MAP_MMIO, MAP_READ, MAP_WRITE, S_INVAL,
    S_NOENT, S_OK, S_RANGE,
};

pub(super) fn gives_access(b: &mut Bench<'_>) -> Tested {
    b.needs_mappings()?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    b.unit_reaches(b.one, 0, 0)?.nothing("before MAP")?;
    b.have_mapped(domain, 0, 1, 0)?;
    b.unit_reaches(b.one, 0, 0)?.all("after MAP")?;
    // One made before the endpoint joined.
    let domain = b.domain(1)?;
    b.have_attached(domain, b.other)?;
    b.have_mapped(domain, 1, 1, 1)?;
    if b.attach(domain, b.one)?.is_ok() {
        b.unit_reaches(b.one, 1, 1)?.all("by a mapping that the domain had before")?;
        b.unit_reaches(b.one, 0, 0)?.nothing("by a mapping of the domain it left")?;
    }
    PASS
}

pub(super) fn one_byte(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    if b.granule != 1 {
        return Err(not_shown(format!("the granule is {:#x}", b.granule)));
    }
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let (at, memory) = (b.iova(0)?, b.memory(0));
    for (iova, memory) in [(at + 3, memory + 0x101), (at + 4, memory + 0x203)] {
        answered(&b.map(domain, iova, iova, memory, RW)?, S_OK, "MAP of one byte")?;
    }
    if b.needs_dma().is_ok() {
        for (iova, memory, there) in [
            (at + 3, memory + 0x101, true),
            (at + 4, memory + 0x203, true),
            (at + 2, memory + 0x100, false),
            (at + 5, memory + 0x204, false),
        ] {
            if b.writes_bytes(b.one, iova, memory, 1)? != there {
                let saw =
                    format!("a write to {iova:#x}: {}", if there { "does not get through" } else { "gets through" });
                return Ok(fail(saw, "two bytes are mapped, and nothing beside them"));
            }
        }
    }
    answered(&b.unmap(domain, at + 3, at + 3)?, S_OK, "UNMAP of one byte")?;
    PASS
}

pub(super) fn one_granule(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let (at, memory) = (b.iova(0)?, b.memory(0));
    // The second one is on no larger size.
    for index in [1, 2] {
        let from = at + index * b.granule;
        let got = b.map(domain, from, from + (b.granule - 1), memory + index * b.granule, RW)?;
        answered(&got, S_OK, &format!("MAP of a granule of {:#x}", b.granule))?;
    }
    if b.needs_dma().is_ok() && b.granule >= 8 {
        b.reaches(b.one, at + b.granule, memory + b.granule)?.all("at the granule")?;
        b.reaches(b.one, at, memory)?.nothing("before it")?;
        b.reaches(b.one, at + 3 * b.granule, memory + 3 * b.granule)?.nothing("after it")?;
    }
    PASS
}

pub(super) fn input_range_outside(b: &mut Bench<'_>) -> Tested {
    b.needs(F_INPUT_RANGE)?;
    b.needs(F_MAP_UNMAP)?;
    let (from, to) = b.config.input_range;
    if from > to {
        return Ok(fail(format!("input_range is {from:#x} to {to:#x}"), "an address at least"));
    }
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let (unit, memory) = (b.unit, b.memory(0));
    let mut list = Vec::new();
    let first = from.next_multiple_of(unit);
    let last = (to.saturating_add(1) / unit).saturating_mul(unit);
    if first >= unit && from > 0 {
        list.push(("below", first - unit, if first == from { first - 1 } else { first + (unit - 1) }));
        list.push(("over the first address", first - unit, first + (unit - 1)));
    }
    if to != u64::MAX {
        if let Some(end) = last.checked_add(unit - 1) {
            list.push(("above", last, end));
            list.push(("over the last address", last.saturating_sub(unit), end));
        }
        list.push(("at the top", unit.wrapping_neg(), u64::MAX));
    }
    if list.is_empty() {
        return Err(not_shown("input_range is the whole of 2^64"));
    }
    for (what, start, end) in list {
        let got = b.map(domain, start, end, memory, RW)?;
        if got.is_ok() {
            return Ok(fail(format!("MAP {what}, {start:#x} to {end:#x}, of {from:#x} to {to:#x}: {got}"), "not OK"));
        }
    }
    PASS
}

pub(super) fn input_range_ends(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let (from, to) = b.input_range();
    let unit = b.unit;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let first = from.checked_next_multiple_of(unit).unwrap_or(from);
    // The last unit that ends within the range: with an end of 2^64 - 1, at 2^64 less a unit.
    let last = match to.checked_add(1) {
        None => Some(unit.wrapping_neg()),
        Some(beyond) => (beyond / unit).checked_mul(unit).and_then(|it| it.checked_sub(unit)),
    };
    let mut tried = 0;
    for (start, memory) in [(Some(first), 0), (last, 1)] {
        let Some(start) = start else { continue };
        let Some(end) = start.checked_add(unit - 1).filter(|&end| start >= from && end <= to) else { continue };
        if b.reserved.iter().any(|(_, it)| it.start <= end && start <= it.end) {
            continue;
        }
        tried += 1;
        let memory = b.memory(memory);
        let what = format!("of {start:#x} to {end:#x}");
        answered(&b.map(domain, start, end, memory, RW)?, S_OK, &format!("MAP {what}"))?;
        if b.needs_dma().is_ok() {
            b.reaches(b.one, start, memory)?.all(&format!("at {start:#x}"))?;
            b.reaches(b.one, end - 7, memory + (unit - 8))?.all(&format!("at the end, {:#x}", end - 7))?;
        }
        answered(&b.unmap(domain, start, end)?, S_OK, &format!("UNMAP {what}"))?;
        if b.needs_dma().is_ok() {
            b.reaches(b.one, start, memory)?.nothing(&format!("at {start:#x}, after UNMAP"))?;
        }
    }
    if tried == 0 { Err(not_shown("no room at either end")) } else { PASS }
}

pub(super) fn translates(b: &mut Bench<'_>) -> Tested {
    b.needs_mappings()?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    // Not to the memory of the same number: 4 units at 2, to 3.
    b.have_mapped(domain, 2, 4, 3)?;
    let (at, memory, unit) = (b.iova(2)?, b.memory(3), b.unit);
    for offset in [0, 8, unit - 8, unit, 2 * unit + 16, 4 * unit - 8] {
        b.reaches(b.one, at + offset, memory + offset)?.all(&format!("{offset:#x} after virt_start"))?;
    }
    for (iova, memory) in [(at - 8, memory - 8), (at + 4 * unit, memory + 4 * unit)] {
        b.reaches(b.one, iova, memory)?.nothing("beside the mapping")?;
    }
    // A byte alone at either edge: one that begins outside is outside, whatever is mapped at the next address.
    let edge = 4 * unit - 1;
    if b.writes_bytes(b.one, at - 1, memory - 1, 1)? {
        return Ok(fail("a write of the one byte before virt_start gets to the byte before phys_start", "it does not"));
    }
    if !b.writes_bytes(b.one, at + edge, memory + edge, 1)? {
        return Ok(fail("a write of the last byte alone does not get through", "it does"));
    }
    PASS
}

pub(super) fn read_only(b: &mut Bench<'_>) -> Tested {
    b.needs_mappings()?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    b.have_mapped_for(domain, 0, 1, 0, MAP_READ)?;
    if b.reads(b.one, b.iova(0)?, b.memory(0))? { PASS } else { Ok(fail("a read does not get through", "it does")) }
}

pub(super) fn no_access(b: &mut Bench<'_>) -> Tested {
    b.needs_mappings()?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    b.have_mapped_for(domain, 0, 1, 0, 0)?;
    if b.reads(b.one, b.iova(0)?, b.memory(0))? { Ok(fail("a read gets through", "it does not")) } else { PASS }
}

pub(super) fn write_needs_flag(b: &mut Bench<'_>) -> Tested {
    b.needs_mappings()?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let mut seen = false;
    for (unit, flags, what) in [(0, MAP_READ, "READ"), (1, 0, "no flags")] {
        let at = b.iova(unit)?;
        if !b.map(domain, at, at + (b.unit - 1), b.memory(unit), flags)?.is_ok() {
            continue;
        }
        seen = true;
        if b.writes(b.one, at, b.memory(unit))? {
            return Ok(fail(format!("mapped with {what}: a write gets through"), "it does not"));
        }
    }
    if seen { PASS } else { Err(not_shown("MAP without WRITE is refused")) }
}

pub(super) fn write_only_read(b: &mut Bench<'_>) -> Tested {
    b.needs_mappings()?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    b.have_mapped_for(domain, 0, 1, 0, MAP_WRITE)?;
    let reach = b.unit_reaches(b.one, 0, 0)?;
    let what = format!("mapped with WRITE: {reach}");
    let reads = b.reads(b.one, b.iova(0)?, b.memory(0))?;
    Ok(if reads { Verdict::Does { what } } else { Verdict::DoesNot { what } })
}

pub(super) fn mmio(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    b.needs(F_MMIO)?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let at = b.iova(0)?;
    let got = b.map(domain, at, at + (b.unit - 1), b.memory(0), RW | MAP_MMIO)?;
    match got.status() {
        Some(S_INVAL) => Ok(fail(format!("MAP with MMIO: {got}"), "the flag is known")),
        Some(S_OK) => PASS,
        _ => Err(not_shown(format!("MAP with MMIO, of memory, which is no device's: {got}"))),
    }
}

pub(super) fn mmio_not_taken(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    b.start_with(b.taken & !F_MMIO)?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let at = b.iova(0)?;
    let got = b.map(domain, at, at + (b.unit - 1), b.memory(0), RW | MAP_MMIO)?;
    if got.is_ok() { Ok(fail(format!("MAP with MMIO: {got}"), "not OK")) } else { PASS }
}

pub(super) fn without_feature(b: &mut Bench<'_>) -> Tested {
    b.start_with(F_ALL & !F_MAP_UNMAP & b.taken)?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let at = b.iova(0)?;
    let got = b.map(domain, at, at + (b.unit - 1), b.memory(0), RW)?;
    if got.is_ok() { Ok(fail(format!("MAP: {got}"), "not OK")) } else { PASS }
}

pub(super) fn unaligned(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    if b.granule == 1 {
        return Err(not_shown("the granule is one byte"));
    }
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let (at, granule, memory) = (b.iova(0)?, b.granule, b.memory(0));
    for off in [1, granule / 2, granule - 1] {
        for (what, start, end, phys) in [
            ("virt_start", at + off, at + (2 * granule - 1), memory),
            ("virt_end + 1", at, at + (granule - 1) + off, memory),
            ("phys_start", at, at + (granule - 1), memory + off),
        ] {
            let got = b.map(domain, start, end, phys, RW)?;
            answered(&got, S_RANGE, &format!("MAP with {what} {off:#x} off a granule of {granule:#x}"))?;
        }
    }
    if b.needs_dma().is_ok() {
        b.reaches(b.one, at, memory)?.nothing("after MAPs that were rejected")?;
    }
    PASS
}

pub(super) fn overlap(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    b.have_mapped(domain, 2, 3, 0)?;
    for (what, unit, units) in [
        ("over the same range", 2, 3),
        ("within", 3, 1),
        ("around", 1, 5),
        ("over the beginning", 1, 2),
        ("over the end", 4, 2),
        ("at the beginning", 2, 1),
        ("at the end", 4, 1),
    ] {
        let from = b.iova(unit)?;
        let got = b.map(domain, from, from + (units * b.unit - 1), b.memory(4), RW)?;
        answered(&got, S_INVAL, &format!("MAP {what} of a mapping"))?;
    }
    if b.needs_dma().is_ok() {
        for unit in 0..3 {
            b.unit_reaches(b.one, 2 + unit, unit)?.all("the mapping that was there")?;
        }
        for unit in [1, 5] {
            b.unit_reaches(b.one, unit, 4)?.nothing("where the rejected ones were to be")?;
        }
    }
    PASS
}

pub(super) fn unknown_flag(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    let (at, memory) = (b.iova(0)?, b.memory(0));
    for flag in (3..32).map(|bit| 1_u32 << bit) {
        let got = b.map(domain, at, at + (b.unit - 1), memory, RW | flag)?;
        answered(&got, S_INVAL, &format!("MAP with flags {:#x}", RW | flag))?;
    }
    if b.needs_dma().is_ok() {
        b.reaches(b.one, at, memory)?.nothing("after MAPs that were rejected")?;
    }
    PASS
}

pub(super) fn domain_absent(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let (domain, there) = (b.domain(0)?, b.domain(1)?);
    let at = b.iova(0)?;
    for when in ["MAP in a domain that is not there", "MAP in one that is not there, beside one that is"] {
        answered(&b.map(domain, at, at + (b.unit - 1), b.memory(0), RW)?, S_NOENT, when)?;
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
    answered(&b.map(domain, at, at + (b.unit - 1), b.memory(0), RW)?, S_INVAL, "MAP in a bypass domain")?;
    PASS
}
