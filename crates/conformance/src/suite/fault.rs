//! Fault reports (5.13.6.9).

use super::{
    Stop, Tested, Verdict,
    bench::{Bench, PASS, fail, not_shown},
};
use crate::bytes::{
    FAULT, FAULT_ADDRESS, FAULT_DOMAIN, FAULT_MAPPING, FAULT_READ, FAULT_UNKNOWN, FAULT_WRITE, Fault, MAP_READ,
};

/// An access that goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// A write of an endpoint that is attached to nothing.
    Unattached,
    /// A write to where nothing is mapped.
    Unmapped,
    /// A read of it.
    UnmappedRead,
    /// A write to a mapping that can be read.
    ReadOnly,
}

use Access::{ReadOnly, Unattached, Unmapped, UnmappedRead};

impl Access {
    const ALL: [Self; 4] = [Unattached, Unmapped, UnmappedRead, ReadOnly];

    fn what(self) -> &'static str {
        match self {
            Unattached => "a write of an endpoint without a domain",
            Unmapped => "a write to what is not mapped",
            UnmappedRead => "a read of what is not mapped",
            ReadOnly => "a write to what is mapped to be read",
        }
    }
    fn is_read(self) -> bool {
        self == UnmappedRead
    }
}

/// Begins anew, so that the access will go nowhere, and says where it is.
fn prepare(b: &mut Bench<'_>, access: Access) -> Result<u64, Stop> {
    b.needs_dma()?;
    if !b.can.events {
        return Err(not_shown("no event queue can be seen"));
    }
    b.start_with(b.taken)?;
    if access != Unattached {
        b.needs_mappings()?;
        let domain = b.domain(0)?;
        b.have_attached(domain, b.one)?;
        b.have_mapped_for(domain, 0, 1, 0, MAP_READ)?;
    }
    b.iova(if access == ReadOnly { 0 } else { 3 })
}

fn make(b: &mut Bench<'_>, access: Access, at: u64) -> Result<(), Stop> {
    if access.is_read() {
        b.device.dma_read(b.one, at, 8)?;
    } else {
        b.device.dma_write(b.one, at, &[0x3c; 8])?;
    }
    Ok(())
}

/// The report of an access, and its address; nothing where none came.
fn report(b: &mut Bench<'_>, access: Access) -> Result<Option<(Fault, u64)>, Stop> {
    let at = prepare(b, access)?;
    for _ in 0..4 {
        b.device.event_buffer(FAULT)?;
    }
    b.device.events()?;
    make(b, access, at)?;
    let events = b.device.events()?;
    let Some(first) = events.first() else { return Ok(None) };
    let written = first.buffer.get(..first.used as usize).unwrap_or(&first.buffer);
    match Fault::parse(written) {
        Some(fault) => Ok(Some((fault, at))),
        None => Err(not_shown(format!("a report of {} bytes, of which virtio 1.4 has none", first.used))),
    }
}

/// Looks at the reports of those accesses; not shown if none comes.
fn each(
    b: &mut Bench<'_>,
    which: &[Access],
    wrong: impl Fn(&Bench<'_>, Access, &Fault, u64) -> Option<Verdict>,
) -> Tested {
    let mut seen = false;
    for &access in which {
        if let Some((fault, at)) = report(b, access)? {
            seen = true;
            if let Some(verdict) = wrong(b, access, &fault, at) {
                return Ok(verdict);
            }
        }
    }
    if seen { PASS } else { Err(not_shown("no fault is reported")) }
}

fn reason(b: &mut Bench<'_>, which: &[Access], wanted: u8, name: &str) -> Tested {
    each(b, which, |_, access, fault, _| {
        let fits = fault.reason == wanted || fault.reason == FAULT_UNKNOWN;
        (!fits).then(|| fail(format!("{}: reason {}", access.what(), fault.reason), format!("{name} ({wanted})")))
    })
}

pub(super) fn reason_domain(b: &mut Bench<'_>) -> Tested {
    reason(b, &[Unattached], FAULT_DOMAIN, "DOMAIN")
}

pub(super) fn reason_mapping(b: &mut Bench<'_>) -> Tested {
    reason(b, &[Unmapped, UnmappedRead, ReadOnly], FAULT_MAPPING, "MAPPING")
}

pub(super) fn direction(b: &mut Bench<'_>) -> Tested {
    each(b, &Access::ALL, |_, access, fault, _| {
        let wrong = if access.is_read() { FAULT_WRITE } else { FAULT_READ };
        let name = if access.is_read() { "WRITE" } else { "READ" };
        (fault.flags & wrong != 0)
            .then(|| fail(format!("{}: flags {:#x}", access.what(), fault.flags), format!("{name} is not set")))
    })
}

pub(super) fn address(b: &mut Bench<'_>) -> Tested {
    each(b, &Access::ALL, |_, access, fault, at| {
        // A report may be of any byte of the access.
        let named = (at..at + 8).contains(&fault.address);
        let wrong = fault.flags & FAULT_ADDRESS != 0 && !named;
        wrong.then(|| fail(format!("{}: address {:#x}", access.what(), fault.address), format!("{at:#x}")))
    })
}

pub(super) fn reserved_zero(b: &mut Bench<'_>) -> Tested {
    each(b, &Access::ALL, |_, access, fault, _| {
        let zero = fault.reserved == [0; 3] && fault.reserved1 == 0;
        let saw = || format!("{}: reserved {:02x?}, reserved1 {:#x}", access.what(), fault.reserved, fault.reserved1);
        (!zero).then(|| fail(saw(), "zeroes"))
    })
}

pub(super) fn flags_zero(b: &mut Bench<'_>) -> Tested {
    each(b, &Access::ALL, |_, access, fault, _| {
        let undefined = fault.flags & !(FAULT_READ | FAULT_WRITE | FAULT_ADDRESS);
        (undefined != 0)
            .then(|| fail(format!("{}: flags {:#x}", access.what(), fault.flags), "READ, WRITE, ADDRESS alone"))
    })
}

pub(super) fn endpoint(b: &mut Bench<'_>) -> Tested {
    each(b, &Access::ALL, |b, access, fault, _| {
        (fault.endpoint != b.one)
            .then(|| fail(format!("{}: endpoint {:#x}", access.what(), fault.endpoint), format!("{:#x}", b.one)))
    })
}

pub(super) fn address_omitted(b: &mut Bench<'_>) -> Tested {
    let mut seen = Vec::new();
    let mut omitted = false;
    for access in Access::ALL {
        if let Some((fault, _)) = report(b, access)? {
            let without = fault.flags & FAULT_ADDRESS == 0;
            omitted |= without;
            seen.push(format!("{}: {}", access.what(), if without { "none" } else { "an address" }));
        }
    }
    if seen.is_empty() {
        return Err(not_shown("no fault is reported"));
    }
    let what = if omitted { seen.join("; ") } else { "every report has an address".to_owned() };
    Ok(if omitted { Verdict::Does { what } } else { Verdict::DoesNot { what } })
}

/// One fault, with nothing but buffers that are too small for it: what each of those that were used holds.
fn small(b: &mut Bench<'_>) -> Result<Vec<(usize, u32)>, Stop> {
    if report(b, Unmapped)?.is_none() {
        return Err(not_shown("no fault is reported"));
    }
    let at = prepare(b, Unmapped)?;
    for size in [8, 8, 16, 8] {
        b.device.event_buffer(size)?;
    }
    // Those that are used before there is a fault count too: they are given back for being too small.
    make(b, Unmapped, at)?;
    let events = b.device.events()?;
    Ok(events.iter().map(|it| (it.buffer.len(), it.used)).collect())
}

pub(super) fn small_buffer(b: &mut Bench<'_>) -> Tested {
    let used = small(b)?;
    let written = used.iter().filter(|(_, used)| *used > 0).count();
    if written > 1 {
        Ok(fail(format!("{written} small buffers are written to for one fault"), "one at most"))
    } else {
        PASS
    }
}

pub(super) fn small_buffer_older(b: &mut Bench<'_>) -> Tested {
    let used = small(b)?;
    Ok(match used.first() {
        None => Verdict::DoesNot { what: "buffers that are too small stay unused".into() },
        Some((_, 0)) => Verdict::DoesNot { what: "a buffer that is too small is used with length 0".into() },
        Some((size, used)) => Verdict::Does { what: format!("a buffer of {size} bytes is used with length {used}") },
    })
}
