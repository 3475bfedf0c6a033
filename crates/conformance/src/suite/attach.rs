//! ATTACH and DETACH (5.13.6.3, 5.13.6.4).

use super::{
    Stop, Tested, Verdict,
    bench::{Bench, Got, PASS, RW, answered, begins, fail, not_shown},
};
use crate::bytes::{
    ATTACH_BYPASS, Attach, Detach, F_BYPASS_CONFIG, F_DOMAIN_RANGE, F_MAP_UNMAP, F_PROBE, Request, S_INVAL, S_NOENT,
    S_OK, S_UNSUPP, status_name,
};

pub(super) fn domain_range_ends(b: &mut Bench<'_>) -> Tested {
    b.needs(F_DOMAIN_RANGE)?;
    let (from, to) = b.domain_range();
    if from > to {
        return Ok(fail(format!("domain_range is {from:#x} to {to:#x}"), "a domain at least"));
    }
    ends(b, from, to)
}

pub(super) fn domain_any(b: &mut Bench<'_>) -> Tested {
    if b.offered & F_DOMAIN_RANGE != 0 {
        return Err(not_shown("DOMAIN_RANGE is offered"));
    }
    ends(b, 0, u32::MAX)
}

fn ends(b: &mut Bench<'_>, from: u32, to: u32) -> Tested {
    for domain in [from, to] {
        answered(&b.attach(domain, b.one)?, S_OK, &format!("ATTACH to domain {domain:#x}"))?;
        answered(&b.detach(domain, b.one)?, S_OK, &format!("DETACH from domain {domain:#x}"))?;
    }
    PASS
}

pub(super) fn creates_domain(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let (domain, never) = (b.domain(0)?, b.domain(1)?);
    if b.is_domain(domain, never)? == Some(true) {
        return Err(not_shown("the domain is there before"));
    }
    answered(&b.attach(domain, b.one)?, S_OK, "ATTACH to a domain that is not there")?;
    let from = b.iova(0)?;
    answered(&b.map(domain, from, from + (b.unit - 1), b.memory(0), RW)?, S_OK, "MAP in it")?;
    PASS
}

fn needs_two_dma(b: &Bench<'_>) -> Result<(), Stop> {
    b.needs_mappings()?;
    if b.device.does_dma(b.other) { Ok(()) } else { Err(not_shown("DMA of one endpoint alone can be seen")) }
}

pub(super) fn shared_domain(b: &mut Bench<'_>) -> Tested {
    needs_two_dma(b)?;
    let domain = b.have_one_mapping()?;
    begins(&b.attach(domain, b.other)?, "second ATTACH")?;
    b.have_mapped(domain, 1, 1, 1)?;
    for unit in [0, 1] {
        b.unit_reaches(b.one, unit, unit)?.all("the first endpoint")?;
        b.unit_reaches(b.other, unit, unit)?.all("the second endpoint")?;
    }
    PASS
}

pub(super) fn isolated(b: &mut Bench<'_>) -> Tested {
    b.needs_mappings()?;
    let (first, second) = (b.domain(0)?, b.domain(1)?);
    b.have_attached(first, b.one)?;
    b.have_attached(second, b.other)?;
    b.have_mapped(first, 0, 1, 0)?;
    b.have_mapped(second, 1, 1, 1)?;
    b.have_mapped(first, 2, 1, 2)?;
    b.have_mapped(second, 2, 1, 3)?;
    for (unit, memory, whose) in [(0, 0, true), (1, 1, false), (2, 2, true), (2, 3, false)] {
        for (endpoint, mine) in [(b.one, whose), (b.other, !whose)] {
            if !b.device.does_dma(endpoint) {
                continue;
            }
            let reach = b.unit_reaches(endpoint, unit, memory)?;
            if mine {
                reach.all("by its own domain")?;
            } else {
                reach.nothing("by the other's domain")?;
            }
        }
    }
    PASS
}

/// Sends ATTACH requests that are to be rejected, and looks whether one was done: whether the endpoint reaches what another has
/// mapped in the domain.
fn rejected(b: &mut Bench<'_>, requests: &[(String, Attach)], status: u8) -> Tested {
    let (domain, never) = (b.domain(0)?, b.domain(1)?);
    for (what, request) in requests {
        answered(&b.ask(&Request::Attach(*request))?, status, what)?;
    }
    if b.is_domain(domain, never)? == Some(true) {
        return Ok(fail(format!("{}, and the domain is there", status_name(status)), "rejected, and no domain"));
    }
    if b.needs_mappings().is_ok() && b.attach(domain, b.other)?.is_ok() {
        b.have_mapped(domain, 0, 1, 0)?;
        for (what, request) in requests {
            answered(&b.ask(&Request::Attach(*request))?, status, what)?;
        }
        b.unit_reaches(b.one, 0, 0)?.nothing("attached after all")?;
    }
    PASS
}

pub(super) fn reserved_not_zero(b: &mut Bench<'_>) -> Tested {
    let domain = b.domain(0)?;
    let mut requests = Vec::new();
    for byte in 0..4 {
        for value in [1, 0x80, 0xff] {
            let mut reserved = [0; 4];
            reserved[byte] = value;
            requests.push((
                format!("ATTACH with reserved {reserved:02x?}"),
                Attach { reserved, ..Attach::new(domain, b.one) },
            ));
        }
    }
    rejected(b, &requests, S_INVAL)
}

pub(super) fn unknown_flag(b: &mut Bench<'_>) -> Tested {
    let domain = b.domain(0)?;
    let flags = (1..32).map(|bit| 1 << bit);
    let request = |flags| (format!("ATTACH with flags {flags:#x}"), Attach { flags, ..Attach::new(domain, b.one) });
    let requests: Vec<_> = flags.map(request).collect();
    rejected(b, &requests, S_INVAL)
}

pub(super) fn endpoint_absent(b: &mut Bench<'_>) -> Tested {
    let domain = b.domain(0)?;
    answered(&b.attach(domain, b.absent)?, S_NOENT, "ATTACH of an absent endpoint")?;
    b.have_attached(domain, b.one)?;
    answered(&b.attach(domain, b.absent)?, S_NOENT, "ATTACH of it to a domain that is there")?;
    PASS
}

/// The answer for a second endpoint in the domain of the first.
fn second(b: &mut Bench<'_>) -> Result<Got, Stop> {
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    b.attach(domain, b.other)
}

pub(super) fn second_endpoint(b: &mut Bench<'_>) -> Tested {
    let got = second(b)?;
    let what = format!("ATTACH of a second endpoint: {got}");
    Ok(if got.is_ok() { Verdict::Does { what } } else { Verdict::DoesNot { what } })
}

pub(super) fn second_endpoint_unsupp(b: &mut Bench<'_>) -> Tested {
    let got = second(b)?;
    if got.is_ok() {
        return Err(not_shown("the device attaches it"));
    }
    answered(&got, S_UNSUPP, "ATTACH of a second endpoint")?;
    PASS
}

fn properties_of_both(b: &mut Bench<'_>) -> Result<(Vec<u8>, Vec<u8>), Stop> {
    if !b.has(F_PROBE) {
        return Ok((Vec::new(), Vec::new()));
    }
    Ok((b.properties(b.one)?, b.properties(b.other)?))
}

pub(super) fn compatible(b: &mut Bench<'_>) -> Tested {
    let (one, other) = properties_of_both(b)?;
    if one != other {
        return Err(not_shown("the properties of the two endpoints differ"));
    }
    answered(&second(b)?, S_OK, "ATTACH of a second endpoint of the same properties")?;
    PASS
}

pub(super) fn incompatible_unsupp(b: &mut Bench<'_>) -> Tested {
    let (one, other) = properties_of_both(b)?;
    if one == other {
        return Err(not_shown("the properties of the two endpoints are the same"));
    }
    let got = second(b)?;
    if got.is_ok() {
        return Err(not_shown("the device attaches it: it takes the properties for compatible"));
    }
    answered(&got, S_UNSUPP, "ATTACH of a second endpoint of other properties")?;
    PASS
}

pub(super) fn bypass_mismatch(b: &mut Bench<'_>) -> Tested {
    b.needs(F_BYPASS_CONFIG)?;
    let (plain, bypass) = (b.domain(0)?, b.domain(1)?);
    b.have_attached(plain, b.other)?;
    if b.has(F_MAP_UNMAP) {
        b.have_mapped(plain, 0, 1, 0)?;
    }
    answered(
        &b.attach_flags(plain, b.one, ATTACH_BYPASS)?,
        S_INVAL,
        "ATTACH with BYPASS to a domain that is not one of bypass",
    )?;
    if b.needs_mappings().is_ok() {
        b.unit_reaches(b.one, 0, 0)?.nothing("attached after all")?;
    }
    b.start_with(b.taken)?;
    begins(&b.attach_flags(bypass, b.other, ATTACH_BYPASS)?, "ATTACH with BYPASS")?;
    answered(&b.attach(bypass, b.one)?, S_INVAL, "ATTACH without BYPASS to a bypass domain")?;
    if b.needs_dma().is_ok() {
        let memory = b.memory(0);
        b.reaches(b.one, memory, memory)?.nothing("attached after all")?;
    }
    PASS
}

/// The first endpoint in a domain of its own, with a mapping, and the second in another, with another; then the first joins the
/// second.
fn moved(b: &mut Bench<'_>) -> Result<(u32, u32, Got), Stop> {
    let (from, to) = (b.domain(0)?, b.domain(1)?);
    b.have_attached(from, b.one)?;
    b.have_attached(to, b.other)?;
    if b.has(F_MAP_UNMAP) {
        b.have_mapped(from, 0, 1, 0)?;
        b.have_mapped(to, 1, 1, 1)?;
    }
    let got = b.attach(to, b.one)?;
    Ok((from, to, got))
}

pub(super) fn moves(b: &mut Bench<'_>) -> Tested {
    // To a domain that is new.
    let (from, to) = (b.domain(0)?, b.domain(1)?);
    b.have_attached(from, b.one)?;
    if b.has(F_MAP_UNMAP) {
        b.have_mapped(from, 0, 1, 0)?;
    }
    answered(&b.attach(to, b.one)?, S_OK, "ATTACH of an endpoint that is attached elsewhere")?;
    if b.needs_mappings().is_ok() {
        b.unit_reaches(b.one, 0, 0)?.nothing("by the domain it left")?;
        b.have_mapped(to, 1, 1, 1)?;
        b.unit_reaches(b.one, 1, 1)?.all("by the domain it joined")?;
    }
    // To one that is there.
    b.start_with(b.taken)?;
    let (_, _, got) = moved(b)?;
    if !got.is_ok() {
        return if got.status() == Some(S_UNSUPP) {
            PASS
        } else {
            Ok(fail(format!("to a domain with another endpoint: {got}"), "OK, or UNSUPP"))
        };
    }
    if b.needs_mappings().is_ok() {
        b.unit_reaches(b.one, 0, 0)?.nothing("by the domain it left")?;
        b.unit_reaches(b.one, 1, 1)?.all("by the domain it joined")?;
    }
    PASS
}

pub(super) fn moves_as_detach(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let (from, to, never) = (b.domain(0)?, b.domain(1)?, b.domain(2)?);
    b.have_attached(from, b.one)?;
    b.have_mapped(from, 0, 1, 0)?;
    begins(&b.attach(to, b.one)?, "ATTACH elsewhere")?;
    match b.is_domain(from, never)? {
        Some(true) => return Ok(fail("the domain that lost its only endpoint is there", "it is no more")),
        Some(false) => {}
        None => return Err(not_shown("MAP takes domains that are not there")),
    }
    // One of that number is another one, and empty.
    begins(&b.attach(from, b.one)?, "ATTACH back")?;
    if b.can.dma {
        b.unit_reaches(b.one, 0, 0)?.nothing("by the mapping of the domain that is no more")?;
    }
    let at = b.iova(0)?;
    answered(&b.map(from, at, at + (b.unit - 1), b.memory(0), RW)?, S_OK, "MAP where the former domain had one")?;
    PASS
}

pub(super) fn move_unsupp(b: &mut Bench<'_>) -> Tested {
    let (_, _, got) = moved(b)?;
    if got.is_ok() {
        return Err(not_shown("the device moves it"));
    }
    answered(&got, S_UNSUPP, "ATTACH of an endpoint that is attached elsewhere")?;
    PASS
}

pub(super) fn not_rejected(b: &mut Bench<'_>) -> Tested {
    let domain = b.domain(0)?;
    let got = b.attach(domain, b.one)?;
    begins(&got, "ATTACH")?;
    b.needs(F_MAP_UNMAP)?;
    let at = b.iova(0)?;
    let mapped = b.map(domain, at, at + (b.unit - 1), b.memory(0), RW)?;
    if !b.can.dma {
        answered(&mapped, S_OK, "MAP after an ATTACH that was OK")?;
        return PASS;
    }
    b.needs_dma()?;
    begins(&mapped, "MAP")?;
    b.unit_reaches(b.one, 0, 0)?.all("after an ATTACH that was OK")?;
    // And the second, where it was not rejected.
    if b.device.does_dma(b.other) && b.attach(domain, b.other)?.is_ok() {
        b.unit_reaches(b.other, 0, 0)?.all("the second, after an ATTACH that was OK")?;
        b.unit_reaches(b.one, 0, 0)?.all("the first, after the second was attached")?;
    }
    PASS
}

pub(super) fn detach_last_ends_domain(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let domain = b.have_one_mapping()?;
    let never = b.domain(1)?;
    begins(&b.detach(domain, b.one)?, "DETACH")?;
    let gone = b.is_domain(domain, never)?;
    if gone == Some(true) {
        return Ok(fail("the domain is there", "it is no more"));
    }
    b.have_attached(domain, b.one)?;
    if b.can.dma {
        b.unit_reaches(b.one, 0, 0)?.nothing("by the mapping of the domain that is no more")?;
    }
    let at = b.iova(0)?;
    answered(&b.map(domain, at, at + (b.unit - 1), b.memory(0), RW)?, S_OK, "MAP where the former domain had one")?;
    PASS
}

pub(super) fn detach_others_stay(b: &mut Bench<'_>) -> Tested {
    b.needs_mappings()?;
    let domain = b.have_one_mapping()?;
    begins(&b.attach(domain, b.other)?, "second ATTACH")?;
    answered(&b.detach(domain, b.other)?, S_OK, "DETACH of the second")?;
    b.unit_reaches(b.one, 0, 0)?.all("the first, after the second was detached")?;
    b.have_mapped(domain, 1, 1, 1)?;
    b.unit_reaches(b.one, 1, 1)?.all("the first, by a mapping made after")?;
    if b.device.does_dma(b.other) {
        b.unit_reaches(b.other, 0, 0)?.nothing("the second, which was detached")?;
    }
    PASS
}

pub(super) fn detach_reserved_ignored(b: &mut Bench<'_>) -> Tested {
    let domain = b.domain(0)?;
    for reserved in [[0xff; 8], [1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0x80]] {
        b.have_attached(domain, b.one)?;
        let got = b.ask(&Request::Detach(Detach { reserved, ..Detach::new(domain, b.one) }))?;
        answered(&got, S_OK, &format!("DETACH with reserved {reserved:02x?}"))?;
    }
    PASS
}

pub(super) fn detach_endpoint_absent(b: &mut Bench<'_>) -> Tested {
    let domain = b.domain(0)?;
    answered(&b.detach(domain, b.absent)?, S_NOENT, "DETACH of an absent endpoint")?;
    b.have_attached(domain, b.one)?;
    answered(&b.detach(domain, b.absent)?, S_NOENT, "DETACH of it from a domain that is there")?;
    PASS
}

pub(super) fn detach_wrong_domain(b: &mut Bench<'_>) -> Tested {
    let (mine, others, absent) = (b.domain(0)?, b.domain(1)?, b.domain(2)?);
    b.have_attached(mine, b.one)?;
    b.have_attached(others, b.other)?;
    let mut what = Vec::new();
    let mut invalid = true;
    for (domain, whose) in [(others, "another's domain"), (absent, "a domain that is not there")] {
        let got = b.detach(domain, b.one)?;
        invalid &= got.status() == Some(S_INVAL);
        what.push(format!("from {whose}: {got}"));
    }
    if b.needs_mappings().is_ok() {
        let at = b.iova(0)?;
        let mapped = b.map(mine, at, at + (b.unit - 1), b.memory(0), RW)?;
        let stays = mapped.is_ok() && b.unit_reaches(b.one, 0, 0)? == super::bench::Reach::ALL;
        what.push(format!("it is {}attached after", if stays { "still " } else { "no longer " }));
    }
    let what = what.join("; ");
    Ok(if invalid { Verdict::Does { what } } else { Verdict::DoesNot { what } })
}

pub(super) fn detach_no_access(b: &mut Bench<'_>) -> Tested {
    b.needs_mappings()?;
    let domain = b.have_one_mapping()?;
    b.unit_reaches(b.one, 0, 0)?.all("before DETACH").map_err(|_| not_shown("the mapping is not reached before"))?;
    begins(&b.detach(domain, b.one)?, "DETACH")?;
    b.unit_reaches(b.one, 0, 0)?.nothing("after DETACH")?;
    // With the domain living on by another endpoint.
    b.have_attached(domain, b.other)?;
    if b.attach(domain, b.one)?.is_ok() {
        b.have_mapped(domain, 1, 1, 1)?;
        begins(&b.detach(domain, b.one)?, "DETACH of one of two")?;
        b.unit_reaches(b.one, 1, 1)?.nothing("after DETACH of one of two")?;
    }
    PASS
}
