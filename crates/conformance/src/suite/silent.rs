//! Where the specification is silent, or says two things: what the device does. No verdict.

use serde::Serialize;

use super::{
    Stop, Verdict,
    bench::{Bench, Got, RW, begins, not_shown},
};
use crate::{
    Broken, Device,
    bytes::{
        ATTACH_BYPASS, Attach, Detach, F_ALL, F_BYPASS_CONFIG, F_DOMAIN_RANGE, F_MAP_UNMAP, F_PROBE, FAULT, Map, Probe,
        RESV_RESERVED, ResvMem, TAIL, Unmap, status_name,
    },
    device::CANARY,
};

/// A point on which the specification is silent.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Silent {
    /// Its name.
    pub id: &'static str,
    /// Where it would be said.
    pub section: &'static str,
    /// What is asked.
    pub asks: &'static str,
    /// Why there is no answer.
    pub because: &'static str,
    #[serde(skip)]
    look: fn(&mut Bench<'_>) -> Result<String, Stop>,
}

impl Silent {
    /// What the device does; or, as `Err`, why that is not shown.
    ///
    /// # Errors
    /// It is not shown.
    pub fn look(&self, device: &mut dyn Device) -> Result<String, String> {
        match Bench::start(device).and_then(|mut bench| (self.look)(&mut bench)) {
            Ok(seen) => Ok(seen),
            Err(Stop::Broken(Broken(why))) => Ok(format!("the device breaks: {why}")),
            Err(Stop::Verdict(Verdict::NotShown { why })) => Err(why),
            Err(Stop::Verdict(other)) => Err(format!("{other:?}")),
        }
    }
}

/// All.
pub const SILENT: &[Silent] = &[
    Silent {
        id: "bypass-write-not-taken",
        section: "5.13.4.1",
        asks: "bypass written where BYPASS_CONFIG was not taken: does it change?",
        because: "The driver may not; nothing is said of the device.",
        look: bypass_write_not_taken,
    },
    Silent {
        id: "bypass-write-2",
        section: "5.13.4.2",
        asks: "2 written to bypass: what does it read?",
        because: "The driver must not; the device must not show it.",
        look: bypass_write_2,
    },
    Silent {
        id: "truncated-with-tail",
        section: "5.13.6",
        asks: "A request that is too short, of which the tail is there: unwritten, or a status?",
        because: "\"Cannot parse\" has as its example one whose tail cannot be found; here it can.",
        look: truncated,
    },
    Silent {
        id: "longer-buffers",
        section: "5.13.6",
        asks: "A request with more readable or writable bytes than it has fields: where is the tail?",
        because: "The layouts end with the tail; nothing is said of what follows.",
        look: longer,
    },
    Silent {
        id: "map-outside-input-range",
        section: "5.13.6",
        asks: "MAP outside of input_range: which status?",
        because: "It fails; with which status is not said.",
        look: map_outside,
    },
    Silent {
        id: "domain-outside-range",
        section: "5.13.6.3.2",
        asks: "ATTACH to a domain outside of domain_range: which status?",
        because: "The driver must not; no requirement says what the device answers.",
        look: domain_outside,
    },
    Silent {
        id: "attach-bypass-not-taken",
        section: "5.13.6.3.2",
        asks: "ATTACH with BYPASS where BYPASS_CONFIG was not taken: is the flag unknown?",
        because: "The flag can be set when the feature is negotiated; that it is unknown otherwise is not said.",
        look: bypass_not_taken,
    },
    Silent {
        id: "attach-again",
        section: "5.13.6.3.2",
        asks: "ATTACH of an endpoint to the domain that it is attached to: are its mappings kept?",
        because: "Only another domain is spoken of.",
        look: attach_again,
    },
    Silent {
        id: "attach-elsewhere-rejected",
        section: "5.13.6.3.2",
        asks: "A move that is rejected, for a flag that is not known: does the endpoint stay where it was?",
        because: "As if DETACH came first, which succeeds; yet the request as a whole is rejected.",
        look: attach_elsewhere_rejected,
    },
    Silent {
        id: "attach-resv-mem-mapped",
        section: "5.13.6.3.2",
        asks: "ATTACH to a domain that maps what is RESV_MEM for the endpoint: which status?",
        because: "MAP over RESV_MEM is to be rejected; the reverse order is not spoken of.",
        look: attach_resv_mem,
    },
    Silent {
        id: "attach-two-errors",
        section: "5.13.6.3.2",
        asks: "ATTACH of an absent endpoint with reserved not zero: INVAL or NOENT?",
        because: "Two requirements apply, in no order.",
        look: attach_two_errors,
    },
    Silent {
        id: "detach-not-attached",
        section: "5.13.6.4.2",
        asks: "DETACH of an endpoint that is attached to nothing: which status?",
        because: "INVAL is allowed, and so is anything else.",
        look: detach_not_attached,
    },
    Silent {
        id: "map-phys-wraps",
        section: "5.13.6.5",
        asks: "MAP whose physical range goes beyond 2^64 - 1: which status?",
        because: "The range should be within the guest-physical address space; no status is named.",
        look: map_phys_wraps,
    },
    Silent {
        id: "map-phys-nowhere",
        section: "5.13.6.5",
        asks: "MAP of physical addresses where there is nothing: which status?",
        because: "The range should be within the guest-physical address space. FAULT, \"bad address\", is used by no requirement.",
        look: map_phys_nowhere,
    },
    Silent {
        id: "map-everything",
        section: "5.13.6.5",
        asks: "MAP of the whole of input_range at once: which status?",
        because: "It is within every limit that is stated, but that of the guest-physical address space.",
        look: map_everything,
    },
    Silent {
        id: "map-end-before-start",
        section: "5.13.6.5.2",
        asks: "MAP with virt_end below virt_start: which status?",
        because: "The driver must not; no requirement says what the device answers.",
        look: map_end_before_start,
    },
    Silent {
        id: "map-two-errors",
        section: "5.13.6.5.2",
        asks: "MAP, not aligned, with a flag that is not known, in a domain that is not there: which status?",
        because: "Three requirements apply, in no order.",
        look: map_two_errors,
    },
    Silent {
        id: "map-no-flags",
        section: "5.13.6.5.2",
        asks: "MAP with neither READ nor WRITE: which status?",
        because: "Which combinations there are depends on the architecture.",
        look: map_no_flags,
    },
    Silent {
        id: "unmap-end-before-start",
        section: "5.13.6.6.2",
        asks: "UNMAP with virt_end below virt_start: which status?",
        because: "It covers nothing, or is wrong; neither is said.",
        look: unmap_end_before_start,
    },
    Silent {
        id: "unmap-unaligned",
        section: "5.13.6.6.2",
        asks: "UNMAP around a mapping, not on the granule: which status?",
        because: "Alignment is asked of MAP alone.",
        look: unmap_unaligned,
    },
    Silent {
        id: "unmap-outside-input-range",
        section: "5.13.6.6.2",
        asks: "UNMAP of the whole of 2^64: which status?",
        because: "With INPUT_RANGE the driver must not; no requirement says what the device answers.",
        look: unmap_everything,
    },
    Silent {
        id: "probe-larger",
        section: "5.13.6.7.2",
        asks: "PROBE with more than probe_size bytes of properties: where is the tail?",
        because: "The driver must not; a device can put it after probe_size bytes, or last.",
        look: probe_larger,
    },
    Silent {
        id: "probe-not-taken",
        section: "5.13.6.7.2",
        asks: "PROBE where it is offered and was not taken: unwritten, or done?",
        because: "The requirement speaks of a device that does not offer it.",
        look: probe_not_taken,
    },
    Silent {
        id: "resv-mem-in-bypass",
        section: "5.13.6.8.1.2",
        asks: "A write of an endpoint in bypass mode to its RESERVED region: does it get to the same address of memory?",
        because: "In bypass mode all accesses are allowed (5.13.6), and those to RESV_MEM should not affect others.",
        look: resv_mem_in_bypass,
    },
    Silent {
        id: "fault-without-buffer",
        section: "5.13.6.9",
        asks: "A fault while there is no event buffer: does it come with the next one, or is it dropped?",
        because: "Either is allowed.",
        look: fault_without_buffer,
    },
];

fn said(got: &Got) -> Result<String, Stop> {
    Ok(got.to_string())
}

fn one_mapping(b: &mut Bench<'_>) -> Result<(u32, u64, u64), Stop> {
    b.needs(F_MAP_UNMAP)?;
    let domain = b.have_one_mapping()?;
    let at = b.iova(0)?;
    Ok((domain, at, at + (b.unit - 1)))
}

fn attached(b: &mut Bench<'_>) -> Result<(u32, u64), Stop> {
    b.needs(F_MAP_UNMAP)?;
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    Ok((domain, b.iova(0)?))
}

fn truncated(b: &mut Bench<'_>) -> Result<String, Stop> {
    let domain = b.domain(0)?;
    let (at, memory) = (b.iova(0)?, b.memory(0));
    let mut seen: Vec<(String, Vec<&str>)> = Vec::new();
    let requests = [
        ("ATTACH", Attach::new(domain, b.one).readable()),
        ("DETACH", Detach::new(domain, b.one).readable()),
        ("MAP", Map::new(domain, at, at + (b.unit - 1), memory, RW).readable()),
        ("UNMAP", Unmap::new(domain, at, at + (b.unit - 1)).readable()),
    ];
    for (what, readable) in &requests {
        let got = b.raw(&readable[..readable.len() - 1], TAIL, 0)?.to_string();
        match seen.iter_mut().find(|(answer, _)| *answer == got) {
            Some((_, whats)) => whats.push(what),
            None => seen.push((got, vec![what])),
        }
    }
    Ok(seen.iter().map(|(got, whats)| format!("{}: {got}", whats.join(", "))).collect::<Vec<_>>().join("; "))
}

/// Where a status stands in the last bytes or in those of the layout.
fn where_is_the_tail(got: &Got, layout: usize) -> String {
    let buffer = &got.reply.buffer;
    let written = |at: usize| buffer.get(at).is_some_and(|&byte| byte != CANARY);
    let status = |at: usize| status_name(buffer[at]);
    let used = got.reply.used;
    match buffer.len().checked_sub(TAIL) {
        _ if got.is_unwritten() => format!("nothing written, used length {used}"),
        Some(last) if last != layout && written(last) => {
            format!("{} in the last four bytes, used length {used}", status(last))
        }
        _ if written(layout) => format!("{} where the layout has it, used length {used}", status(layout)),
        _ => format!("no tail, used length {used}"),
    }
}

fn longer(b: &mut Bench<'_>) -> Result<String, Stop> {
    let domain = b.domain(0)?;
    let mut readable = Attach::new(domain, b.one).readable();
    let writable = b.raw(&readable, 64, 0)?;
    readable.extend([0xee; 12]);
    let got = b.raw(&readable, TAIL, 0)?;
    Ok(format!("60 writable bytes more: {}; 12 readable bytes more: {got}", where_is_the_tail(&writable, 0)))
}

fn domain_outside(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs(F_DOMAIN_RANGE)?;
    let (from, to) = b.domain_range();
    let outside = to.checked_add(1).or_else(|| from.checked_sub(1));
    let outside = outside.ok_or_else(|| not_shown("domain_range is all of 32 bits"))?;
    let got = b.attach(outside, b.one)?;
    said(&got)
}

fn bypass_not_taken(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs(F_BYPASS_CONFIG)?;
    b.start_with(b.taken & !F_BYPASS_CONFIG)?;
    let domain = b.domain(0)?;
    let got = b.attach_flags(domain, b.one, ATTACH_BYPASS)?;
    said(&got)
}

fn attach_again(b: &mut Bench<'_>) -> Result<String, Stop> {
    let (domain, at, end) = one_mapping(b)?;
    let got = b.attach(domain, b.one)?;
    let kept = !b.map(domain, at, end, b.memory(0), RW)?.is_ok();
    Ok(format!("{got}, mappings {}", if kept { "kept" } else { "gone" }))
}

fn attach_elsewhere_rejected(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs_mappings()?;
    let domain = b.have_one_mapping()?;
    let elsewhere = b.domain(1)?;
    let got = b.attach_flags(elsewhere, b.one, 1 << 31)?;
    let reach = b.unit_reaches(b.one, 0, 0)?;
    let _ = domain;
    let stays = reach == super::bench::Reach::ALL;
    Ok(format!("{got}, and the endpoint is {}", if stays { "where it was" } else { "detached" }))
}

fn attach_resv_mem(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs(F_MAP_UNMAP)?;
    let (from, to) = b.input_range();
    let granule = b.granule;
    let alone = |b: &Bench<'_>, of: u32, not: u32| {
        b.reserved.iter().filter(|(e, _)| *e == of).map(|(_, it)| it.start / granule * granule).find(|&at| {
            let end = at.saturating_add(granule - 1);
            let free = b.reserved.iter().filter(|(e, _)| *e == not).all(|(_, it)| it.end < at || end < it.start);
            free && at >= from && end <= to
        })
    };
    let found = alone(b, b.one, b.other).map(|at| (at, b.one, b.other));
    let found = found.or_else(|| alone(b, b.other, b.one).map(|at| (at, b.other, b.one)));
    let (at, whose, other) = found.ok_or_else(|| not_shown("no RESV_MEM that one endpoint alone has"))?;
    let domain = b.domain(0)?;
    b.have_attached(domain, other)?;
    begins(&b.map(domain, at, at + (granule - 1), b.memory(0), RW)?, "MAP")?;
    let got = b.attach(domain, whose)?;
    said(&got)
}

fn attach_two_errors(b: &mut Bench<'_>) -> Result<String, Stop> {
    let domain = b.domain(0)?;
    let request = Attach { reserved: [1; 4], ..Attach::new(domain, b.absent) };
    let got = b.raw(&request.readable(), TAIL, 0)?;
    said(&got)
}

fn detach_not_attached(b: &mut Bench<'_>) -> Result<String, Stop> {
    let domain = b.domain(0)?;
    let got = b.detach(domain, b.one)?;
    said(&got)
}

fn map_end_before_start(b: &mut Bench<'_>) -> Result<String, Stop> {
    let (domain, at) = attached(b)?;
    let unit = b.unit;
    let near = b.map(domain, at + unit, at + (unit - 1), b.memory(0), RW)?;
    let far = b.map(domain, at + 4 * unit, at + (unit - 1), b.memory(0), RW)?;
    Ok(if near == far { near.to_string() } else { format!("by one: {near}; by more: {far}") })
}

fn map_two_errors(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs(F_MAP_UNMAP)?;
    let (domain, at) = (b.domain(0)?, b.iova(0)?);
    let got = b.map(domain, at + 1, at + b.unit, b.memory(0), RW | 1 << 31)?;
    said(&got)
}

fn map_outside(b: &mut Bench<'_>) -> Result<String, Stop> {
    let (domain, _) = attached(b)?;
    let (from, to) = b.input_range();
    let beyond = to.checked_add(1).and_then(|at| Some((at, at.checked_add(b.unit - 1)?)));
    let below = from.checked_sub(b.unit).map(|at| (at, at + (b.unit - 1)));
    let (start, end) = beyond.or(below).ok_or_else(|| not_shown("input_range is the whole of 2^64"))?;
    let got = b.map(domain, start, end, b.memory(0), RW)?;
    said(&got)
}

fn map_phys_wraps(b: &mut Bench<'_>) -> Result<String, Stop> {
    let (domain, at) = attached(b)?;
    let got = b.map(domain, at, at + (2 * b.unit - 1), b.unit.wrapping_neg(), RW)?;
    said(&got)
}

fn map_phys_nowhere(b: &mut Bench<'_>) -> Result<String, Stop> {
    let (domain, at) = attached(b)?;
    let got = b.map(domain, at, at + (b.unit - 1), 1 << 62, RW)?;
    said(&got)
}

fn map_everything(b: &mut Bench<'_>) -> Result<String, Stop> {
    let (domain, _) = attached(b)?;
    let (from, to) = b.input_range();
    let got = b.map(domain, from, to, 0, RW)?;
    Ok(format!("{from:#x} to {to:#x}: {got}"))
}

fn map_no_flags(b: &mut Bench<'_>) -> Result<String, Stop> {
    let (domain, at) = attached(b)?;
    let got = b.map(domain, at, at + (b.unit - 1), b.memory(0), 0)?;
    said(&got)
}

fn unmap_end_before_start(b: &mut Bench<'_>) -> Result<String, Stop> {
    let (domain, at, _) = one_mapping(b)?;
    let got = b.unmap(domain, at + b.unit, at)?;
    said(&got)
}

fn unmap_unaligned(b: &mut Bench<'_>) -> Result<String, Stop> {
    let domain = b.domain(0)?;
    b.needs(F_MAP_UNMAP)?;
    b.have_attached(domain, b.one)?;
    b.have_mapped(domain, 1, 1, 1)?;
    let (from, unit) = (b.iova(1)?, b.unit);
    let got = b.unmap(domain, from - 1, from + unit)?;
    let gone = b.map(domain, from, from + (unit - 1), b.memory(1), RW)?.is_ok();
    Ok(format!("{got}, and the mapping is {}", if gone { "gone" } else { "still there" }))
}

fn unmap_everything(b: &mut Bench<'_>) -> Result<String, Stop> {
    let (domain, at, end) = one_mapping(b)?;
    let got = b.unmap(domain, 0, u64::MAX)?;
    let gone = b.map(domain, at, end, b.memory(0), RW)?.is_ok();
    Ok(format!("{got}, and the mapping is {}", if gone { "gone" } else { "still there" }))
}

fn probe_larger(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs(F_PROBE)?;
    let size = b.config.probe_size as usize;
    let got = b.raw(&Probe::new(b.one).readable(), size + 64 + TAIL, size)?;
    Ok(where_is_the_tail(&got, size))
}

fn probe_not_taken(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs(F_PROBE)?;
    b.start_with(F_ALL & b.taken & !F_PROBE)?;
    let size = b.config.probe_size as usize;
    let got = b.raw(&Probe::new(b.one).readable(), size + TAIL, size)?;
    said(&got)
}

fn resv_mem_in_bypass(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs(F_BYPASS_CONFIG)?;
    b.needs_dma()?;
    let ram = b.device.setup().ram.clone();
    let shows = |it: &ResvMem| it.subtype == RESV_RESERVED && ram.contains(&it.start) && ram.contains(&it.end);
    let found =
        b.reserved.iter().find(|(e, it)| b.device.does_dma(*e) && shows(it) && it.end.saturating_sub(it.start) >= 7);
    let &(endpoint, it) = found.ok_or_else(|| not_shown("no RESERVED region lies where memory is"))?;
    b.write_bypass(1);
    let gets = b.writes(endpoint, it.start, it.start)?;
    Ok(if gets { "it does".into() } else { "it does not".into() })
}

fn fault_without_buffer(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs_dma()?;
    if !b.can.events {
        return Err(not_shown("no event queue can be seen"));
    }
    let at = b.iova(3)?;
    b.device.dma_write(b.one, at, &[0; 8])?;
    b.device.event_buffer(FAULT)?;
    let waited = b.device.events()?.iter().any(|it| it.used > 0);
    if waited {
        return Ok("it comes with the next buffer".into());
    }
    b.device.dma_write(b.one, at, &[0; 8])?;
    let events = b.device.events()?;
    if events.is_empty() { Err(not_shown("no fault is reported")) } else { Ok("it is dropped".into()) }
}

fn bypass_write_2(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs(F_BYPASS_CONFIG)?;
    b.write_bypass(2);
    Ok(format!("{} (0 before)", b.read_bypass()))
}

fn bypass_write_not_taken(b: &mut Bench<'_>) -> Result<String, Stop> {
    b.needs(F_BYPASS_CONFIG)?;
    b.start_as_it_is(b.taken & !F_BYPASS_CONFIG)?;
    let before = b.read_bypass();
    b.write_bypass(before ^ 1);
    let after = b.read_bypass();
    Ok(if before == after { "it stays".into() } else { format!("it changes, from {before} to {after}") })
}
