//! PROBE (5.13.6.7) and RESV_MEM (5.13.6.8.1).

use super::{
    Stop, Tested,
    bench::{Bench, Got, PASS, RW, answered, fail, not_shown},
};
use crate::{
    bytes::{
        F_MAP_UNMAP, F_PROBE, PROBE_RESV_MEM, Probe, Property, RESV_MSI, RESV_RESERVED, Request, ResvMem, S_INVAL,
        S_NOENT, S_OK, TAIL, properties,
    },
    device::CANARY,
};

fn probe(b: &mut Bench<'_>, endpoint: u32) -> Result<Got, Stop> {
    b.ask(&Request::Probe(Probe::new(endpoint)))
}

/// The `properties` of each of the two endpoints.
fn lists(b: &mut Bench<'_>) -> Result<Vec<(u32, Vec<u8>)>, Stop> {
    b.needs(F_PROBE)?;
    let mut lists = Vec::new();
    for endpoint in [b.one, b.other] {
        let got = probe(b, endpoint)?;
        if !got.is_ok() {
            return Err(not_shown(format!("PROBE of an endpoint: {got}")));
        }
        let size = got.reply.buffer.len() - TAIL;
        lists.push((endpoint, got.reply.buffer[..size].to_vec()));
    }
    Ok(lists)
}

/// Every property of the two.
fn each(b: &mut Bench<'_>) -> Result<Vec<(u32, Property)>, Stop> {
    let each: Vec<_> = lists(b)?.iter().flat_map(|(e, list)| properties(list).0.into_iter().map(|p| (*e, p))).collect();
    if each.is_empty() { Err(not_shown("the endpoints have no property")) } else { Ok(each) }
}

/// Every RESV_MEM of the two.
fn regions(b: &mut Bench<'_>) -> Result<Vec<(u32, ResvMem)>, Stop> {
    let regions: Vec<_> = each(b)?.iter().filter_map(|(e, p)| Some((*e, p.resv_mem()?))).collect();
    if regions.is_empty() { Err(not_shown("the endpoints have no RESV_MEM")) } else { Ok(regions) }
}

pub(super) fn endpoint(b: &mut Bench<'_>) -> Tested {
    b.needs(F_PROBE)?;
    for endpoint in [b.one, b.other] {
        let got = probe(b, endpoint)?;
        answered(&got, S_OK, &format!("PROBE of endpoint {endpoint:#x}"))?;
        let size = got.reply.buffer.len() - TAIL;
        if let Some(at) = got.reply.buffer[..size].windows(4).position(|bytes| bytes == [CANARY; 4]) {
            return Ok(fail(format!("properties, {size} bytes: not written at {at}"), "all of them written"));
        }
    }
    PASS
}

pub(super) fn list_ends(b: &mut Bench<'_>) -> Tested {
    for (endpoint, list) in lists(b)? {
        let (_, end) = properties(&list);
        if end > list.len() {
            let saw = format!("endpoint {endpoint:#x}: the last property ends at {end} of {}", list.len());
            return Ok(fail(saw, "within properties"));
        }
    }
    PASS
}

pub(super) fn reserved_ignored(b: &mut Bench<'_>) -> Tested {
    b.needs(F_PROBE)?;
    let before = probe(b, b.one)?;
    let mut last = [0; 64];
    last[63] = 1;
    for reserved in [[0xff; 64], last] {
        let got = b.ask(&Request::Probe(Probe { reserved, ..Probe::new(b.one) }))?;
        if got != before {
            return Ok(fail(format!("PROBE with reserved not zero: {got}"), format!("{before}, as with zeroes")));
        }
    }
    PASS
}

pub(super) fn endpoint_absent(b: &mut Bench<'_>) -> Tested {
    b.needs(F_PROBE)?;
    answered(&probe(b, b.absent)?, S_NOENT, "PROBE of an absent endpoint")?;
    PASS
}

fn not_offered(b: &mut Bench<'_>) -> Result<Got, Stop> {
    if b.offered & F_PROBE != 0 {
        return Err(not_shown("PROBE is offered"));
    }
    b.raw(&Probe::new(b.one).readable(), 512 + TAIL, 512)
}

pub(super) fn not_offered_not_written(b: &mut Bench<'_>) -> Tested {
    let got = not_offered(b)?;
    if got.is_unwritten() { PASS } else { Ok(fail(format!("PROBE, not offered: {got}"), "nothing written")) }
}

pub(super) fn not_offered_used_0(b: &mut Bench<'_>) -> Tested {
    let used = not_offered(b)?.reply.used;
    if used == 0 { PASS } else { Ok(fail(format!("PROBE, not offered: used length {used}"), "used length 0")) }
}

pub(super) fn property_reserved_zero(b: &mut Bench<'_>) -> Tested {
    for (endpoint, it) in each(b)? {
        if it.reserved != 0 {
            let saw = format!("endpoint {endpoint:#x}, property at {}: reserved {:#x}", it.at, it.reserved);
            return Ok(fail(saw, "0"));
        }
    }
    PASS
}

pub(super) fn property_length(b: &mut Bench<'_>) -> Tested {
    let mut seen = false;
    for (endpoint, it) in each(b)? {
        if it.kind == PROBE_RESV_MEM {
            seen = true;
            if it.length != ResvMem::LENGTH {
                let saw = format!("endpoint {endpoint:#x}, RESV_MEM at {}: length {}", it.at, it.length);
                return Ok(fail(saw, format!("{}", ResvMem::LENGTH)));
            }
        }
    }
    if seen { PASS } else { Err(not_shown("the endpoints have no RESV_MEM")) }
}

pub(super) fn property_next(b: &mut Bench<'_>) -> Tested {
    let mut seen = false;
    for (endpoint, list) in lists(b)? {
        let (list, end) = (properties(&list), list);
        let ((found, ended), bytes) = (list, end);
        seen |= found.len() > 1;
        for it in &found {
            // A RESV_MEM that is one says where the walk was in step.
            let in_step = it.kind == PROBE_RESV_MEM && it.length == ResvMem::LENGTH && it.value.len() == 20;
            if found.len() > 1 && !in_step && it.kind == PROBE_RESV_MEM {
                let saw =
                    format!("endpoint {endpoint:#x}: at {}, {} after the one before, no property", it.at, it.length);
                return Ok(fail(saw, "the next property where the one before ends"));
            }
        }
        // After the last there is nothing but zeroes: a property that was put further on would show.
        let rest = bytes.get(ended.min(bytes.len())..).unwrap_or_default();
        if !found.is_empty() && rest.iter().any(|&byte| byte != 0) {
            let saw =
                format!("endpoint {endpoint:#x}: after the list ended, at {ended}, there are bytes that are not zero");
            return Ok(fail(saw, "every property where the one before ends"));
        }
    }
    if seen { PASS } else { Err(not_shown("no endpoint has two properties")) }
}

/// A PROBE with fewer than `probe_size` bytes for the properties, with the tail after them; each size that says something.
fn small(b: &mut Bench<'_>) -> Result<Vec<(usize, Got)>, Stop> {
    b.needs(F_PROBE)?;
    let full = b.config.probe_size as usize;
    let mut sizes: Vec<_> =
        [0, 1, 4, 8, 23, 24, full / 2, full - full.min(1)].into_iter().filter(|&s| s < full).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.is_empty() {
        return Err(not_shown("probe_size is 0"));
    }
    let readable = Probe::new(b.one).readable();
    sizes.into_iter().map(|size| Ok((size, b.raw(&readable, size + TAIL, size)?))).collect()
}

pub(super) fn small_no_property(b: &mut Bench<'_>) -> Tested {
    for (size, got) in small(b)? {
        // A property has a type: 12 bits that are not all zero. The canary was not written. A tail in the wrong place, at the
        // beginning, is no property either.
        let list = &got.reply.buffer[..size];
        let at = if list.get(1..TAIL) == Some(&[0; 3]) && got.reply.used as usize <= TAIL { TAIL } else { 0 };
        let misplaced = size < TAIL && got.reply.used as usize <= TAIL;
        if !misplaced && list[at..].iter().any(|&byte| byte != 0 && byte != CANARY) {
            let saw = format!("PROBE with {size} bytes of {}: {:02x?}", b.config.probe_size, &list[..size.min(24)]);
            return Ok(fail(saw, "no property"));
        }
    }
    PASS
}

pub(super) fn small_inval(b: &mut Bench<'_>) -> Tested {
    for (size, got) in small(b)? {
        answered(&got, S_INVAL, &format!("PROBE with {size} bytes of {}", b.config.probe_size))?;
    }
    PASS
}

pub(super) fn rest_zero(b: &mut Bench<'_>) -> Tested {
    for (endpoint, list) in lists(b)? {
        let (_, end) = properties(&list);
        let rest = list.get(end.min(list.len())..).unwrap_or_default();
        if let Some(at) = rest.iter().position(|&byte| byte != 0) {
            let saw = format!("endpoint {endpoint:#x}: byte {} of properties is {:#x}", end + at, rest[at]);
            return Ok(fail(saw, format!("zeroes from {end} on")));
        }
    }
    PASS
}

pub(super) fn resv_mem_sane(b: &mut Bench<'_>) -> Tested {
    for (endpoint, it) in regions(b)? {
        if it.subtype > RESV_MSI || it.end < it.start {
            let saw = format!("endpoint {endpoint:#x}: subtype {}, {:#x} to {:#x}", it.subtype, it.start, it.end);
            return Ok(fail(saw, "subtype 0 or 1, and an end that is not below the start"));
        }
    }
    PASS
}

pub(super) fn resv_mem_reserved_zero(b: &mut Bench<'_>) -> Tested {
    for (endpoint, it) in regions(b)? {
        if it.reserved != [0; 3] {
            return Ok(fail(format!("endpoint {endpoint:#x}: reserved {:02x?}", it.reserved), "zeroes"));
        }
    }
    PASS
}

pub(super) fn resv_mem_one_msi(b: &mut Bench<'_>) -> Tested {
    let regions = regions(b)?;
    for endpoint in [b.one, b.other] {
        let count = regions.iter().filter(|(e, it)| *e == endpoint && it.subtype == RESV_MSI).count();
        if count > 1 {
            return Ok(fail(format!("endpoint {endpoint:#x}: {count} MSI regions"), "one at most"));
        }
    }
    PASS
}

pub(super) fn resv_mem_apart(b: &mut Bench<'_>) -> Tested {
    let regions = regions(b)?;
    for (index, (endpoint, it)) in regions.iter().enumerate() {
        for (_, other) in regions[..index].iter().filter(|(e, _)| e == endpoint) {
            if it.start <= other.end && other.start <= it.end {
                let (a, b) = (other, it);
                let saw =
                    format!("endpoint {endpoint:#x}: {:#x}..={:#x} and {:#x}..={:#x}", a.start, a.end, b.start, b.end);
                return Ok(fail(saw, "apart"));
            }
        }
    }
    PASS
}

pub(super) fn resv_mem_map_rejected(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let (from, to) = b.input_range();
    let granule = b.granule;
    let mut tried = false;
    for (endpoint, it) in regions(b)? {
        b.start_with(b.taken)?;
        let domain = b.domain(0)?;
        b.have_attached(domain, endpoint)?;
        let (first, last) = (it.start / granule * granule, it.end / granule * granule);
        let top = |start: u64| start.checked_add(granule - 1);
        for (what, start, end) in [
            ("the first granule", Some(first), top(first)),
            ("the last granule", Some(last), top(last)),
            (
                "all of it and a granule on each side",
                first.checked_sub(granule),
                last.checked_add(granule).and_then(top),
            ),
        ] {
            let (Some(start), Some(end)) = (start, end) else { continue };
            if start < from || end > to {
                continue;
            }
            tried = true;
            let got = b.map(domain, start, end, b.memory(0), RW)?;
            if got.is_ok() {
                let saw = format!("MAP over {what} of {:#x}..={:#x}: {got}", it.start, it.end);
                return Ok(fail(saw, "rejected"));
            }
        }
    }
    if tried { PASS } else { Err(not_shown("no RESV_MEM lies within input_range")) }
}

pub(super) fn resv_mem_contained(b: &mut Bench<'_>) -> Tested {
    b.needs_dma()?;
    let ram = b.device.setup().ram.clone();
    let mut tried = false;
    for (endpoint, it) in regions(b)? {
        // Where memory is by the identity, an access that got out would show. In bypass mode every access is allowed (5.13.6).
        let shows = ram.contains(&it.start) && ram.contains(&it.end) && it.end.saturating_sub(it.start) >= 7;
        if it.subtype != RESV_RESERVED || !b.device.does_dma(endpoint) || !shows {
            continue;
        }
        b.start_with(b.taken)?;
        let domain = b.domain(0)?;
        b.have_attached(domain, endpoint)?;
        if b.has(F_MAP_UNMAP) {
            b.have_mapped(domain, 0, 1, 0)?;
        }
        tried = true;
        for at in [it.start, it.end - 7] {
            b.reaches(endpoint, at, at)?
                .nothing(&format!("at {at:#x}, in a RESERVED region, to the same address of memory"))?;
            if b.writes(endpoint, at, b.memory(0))? {
                return Ok(fail(format!("a write to {at:#x}, in a RESERVED region, gets to memory"), "it does not"));
            }
        }
    }
    if tried { PASS } else { Err(not_shown("no RESERVED region lies where memory is, by the identity")) }
}
