//! What goes for every request (5.13.6), and used lengths (2.7.8.2).

use super::{
    Stop, Tested, Verdict,
    bench::{Bench, Got, PASS, RW, answered, begins, fail, not_shown},
};
use crate::{
    bytes::{Attach, Detach, F_MAP_UNMAP, F_PROBE, Head, Map, Probe, Request, S_OK, TAIL, Unmap},
    device::CANARY,
};

/// One request of each type that the driver may send, all of them to be done, in this order.
fn ordinary(b: &mut Bench<'_>) -> Result<Vec<(&'static str, Request)>, Stop> {
    let domain = b.domain(0)?;
    let mut list = Vec::new();
    if b.has(F_PROBE) {
        list.push(("PROBE", Request::Probe(Probe::new(b.one))));
    }
    list.push(("ATTACH", Request::Attach(Attach::new(domain, b.one))));
    if b.has(F_MAP_UNMAP) {
        let (from, memory) = (b.iova(0)?, b.memory(0));
        let to = from + (b.unit - 1);
        list.push(("MAP", Request::Map(Map::new(domain, from, to, memory, RW))));
        list.push(("UNMAP", Request::Unmap(Unmap::new(domain, from, to))));
    }
    list.push(("DETACH", Request::Detach(Detach::new(domain, b.one))));
    Ok(list)
}

/// As many that cannot be done, whatever the device: of an endpoint or in a domain that is not there.
fn refused(b: &mut Bench<'_>) -> Result<Vec<(&'static str, Request)>, Stop> {
    let domain = b.domain(0)?;
    let mut list = vec![
        ("ATTACH of an absent endpoint", Request::Attach(Attach::new(domain, b.absent))),
        ("DETACH of an absent endpoint", Request::Detach(Detach::new(domain, b.absent))),
        ("ATTACH with reserved not zero", Request::Attach(Attach { reserved: [1; 4], ..Attach::new(domain, b.one) })),
    ];
    if b.has(F_MAP_UNMAP) {
        let (from, memory) = (b.iova(0)?, b.memory(0));
        let to = from + (b.unit - 1);
        list.push(("MAP in an absent domain", Request::Map(Map::new(domain, from, to, memory, RW))));
        list.push(("UNMAP in an absent domain", Request::Unmap(Unmap::new(domain, from, to))));
    }
    if b.has(F_PROBE) {
        list.push(("PROBE of an absent endpoint", Request::Probe(Probe::new(b.absent))));
    }
    Ok(list)
}

fn both(b: &mut Bench<'_>) -> Result<Vec<(&'static str, Request)>, Stop> {
    let mut list = refused(b)?;
    list.extend(ordinary(b)?);
    Ok(list)
}

pub(super) fn used_length_written(b: &mut Bench<'_>) -> Tested {
    for (what, request) in both(b)? {
        let got = b.ask(&request)?;
        let used = got.reply.used as usize;
        let Some(written) = got.reply.buffer.get(..used) else {
            let room = got.reply.buffer.len();
            return Ok(fail(
                format!("{what}: used length {used} of {room} device-writable bytes"),
                format!("at most {room}"),
            ));
        };
        // A property's value may have a byte or two that look unwritten.
        let run = if matches!(request, Request::Probe(_)) { TAIL } else { 1 };
        if let Some(at) = written.windows(run).position(|bytes| bytes.iter().all(|&byte| byte == CANARY)) {
            return Ok(fail(
                format!("{what}: used length {used}, and byte {at} is not written"),
                "all of them written",
            ));
        }
    }
    PASS
}

/// A request's name, its device-readable bytes, and how many are device-writable.
type Parts = (&'static str, Vec<u8>, usize);

/// Each type, with what a request of it has.
fn types(b: &mut Bench<'_>) -> Result<Vec<Parts>, Stop> {
    let list = ordinary(b)?;
    Ok(list.into_iter().map(|(what, it)| (what, it.readable(), it.writable(b.config.probe_size))).collect())
}

pub(super) fn unparsable_not_written(b: &mut Bench<'_>) -> Tested {
    for (what, readable, _) in types(b)? {
        for writable in 0..TAIL {
            let got = b.raw(&readable, writable, 0)?;
            if got.reply.used != 0 || !got.is_unwritten() {
                let saw = format!(
                    "{what} with {writable} device-writable bytes: {:02x?}, used length {}",
                    got.reply.buffer, got.reply.used
                );
                return Ok(fail(saw, "nothing written, used length 0"));
            }
        }
    }
    PASS
}

pub(super) fn truncated_not_ok(b: &mut Bench<'_>) -> Tested {
    for (what, readable, writable) in types(b)? {
        for length in 0..readable.len() {
            let got = b.raw(&readable[..length], writable, writable - TAIL)?;
            if got.is_ok() {
                return Ok(fail(format!("{what} of {length} bytes: {got}"), "unwritten, or another status"));
            }
        }
    }
    PASS
}

pub(super) fn success_is_ok(b: &mut Bench<'_>) -> Tested {
    for (what, request) in ordinary(b)? {
        let got = b.ask(&request)?;
        answered(&got, S_OK, what)?;
    }
    PASS
}

/// Types that no version of the specification has given a meaning.
const UNKNOWN: [u8; 6] = [0, 6, 7, 0x20, 0x80, 0xff];

fn unknown_type(b: &mut Bench<'_>, wrong: fn(&Got) -> bool, wanted: &str) -> Tested {
    for kind in UNKNOWN {
        for length in [4, 20, 72] {
            let mut readable = vec![0; length];
            readable[0] = kind;
            let got = b.raw(&readable, TAIL, 0)?;
            if wrong(&got) {
                return Ok(fail(
                    format!("type {kind:#x} of {length} bytes: {got}, used length {}", got.reply.used),
                    wanted,
                ));
            }
        }
    }
    PASS
}

pub(super) fn unknown_type_not_written(b: &mut Bench<'_>) -> Tested {
    unknown_type(b, |got| !got.is_unwritten(), "nothing written")
}

pub(super) fn unknown_type_used_0(b: &mut Bench<'_>) -> Tested {
    unknown_type(b, |got| got.reply.used != 0, "used length 0")
}

/// The request with other bytes after its type.
fn with_head(request: &Request, reserved: [u8; 3]) -> Request {
    let head = Head { reserved };
    let mut request = *request;
    match &mut request {
        Request::Attach(it) => it.head = head,
        Request::Detach(it) => it.head = head,
        Request::Map(it) => it.head = head,
        Request::Unmap(it) => it.head = head,
        Request::Probe(it) => it.head = head,
    }
    request
}

pub(super) fn head_reserved_ignored(b: &mut Bench<'_>) -> Tested {
    // What the device makes of them with zeroes is what it has to make of them with anything.
    let mut plain = Vec::new();
    for (what, request) in ordinary(b)? {
        let got = b.ask(&request)?;
        begins(&got, what)?;
        plain.push((what, request, got));
    }
    for reserved in [[1, 0, 0], [0, 0x80, 0], [0, 0, 1], [0xff; 3]] {
        b.start_with(b.taken)?;
        for (what, request, before) in &plain {
            let got = b.ask(&with_head(request, reserved))?;
            if got != *before {
                return Ok(fail(
                    format!("{what} with reserved {reserved:02x?}: {got}"),
                    format!("{before}, as with zeroes"),
                ));
            }
        }
    }
    PASS
}

pub(super) fn tail_reserved_zero(b: &mut Bench<'_>) -> Tested {
    let mut seen = false;
    for (what, request) in both(b)? {
        let got = b.ask(&request)?;
        if let Some(tail) = got.tail() {
            seen = true;
            if tail.reserved != [0; 3] {
                return Ok(fail(format!("{what}: {got}, reserved {:02x?}", tail.reserved), "zeroes"));
            }
        }
    }
    if seen { Ok(Verdict::Pass) } else { Err(not_shown("no request was answered with a tail")) }
}
