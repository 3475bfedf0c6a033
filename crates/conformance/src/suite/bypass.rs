//! Bypass mode (5.13.6), and what an endpoint that is not in it reaches without a domain.

use super::{
    Stop, Tested,
    bench::{Bench, PASS, begins, fail, not_shown},
};
use crate::bytes::{ATTACH_BYPASS, F_ALL, F_BYPASS, F_BYPASS_CONFIG, F_MAP_UNMAP};

/// By the identity, at two places of memory.
fn identity(b: &mut Bench<'_>, endpoint: u32, open: bool, when: &str) -> Result<(), Stop> {
    for unit in [0, 5] {
        let memory = b.memory(unit);
        let reach = b.reaches(endpoint, memory, memory)?;
        if open { reach.all(when)? } else { reach.nothing(when)? }
    }
    Ok(())
}

/// The endpoints whose DMA can be seen.
fn seen(b: &Bench<'_>) -> Vec<u32> {
    [b.one, b.other].into_iter().filter(|&endpoint| b.device.does_dma(endpoint)).collect()
}

pub(super) fn unattached_no_access(b: &mut Bench<'_>) -> Tested {
    b.needs_dma()?;
    for endpoint in seen(b) {
        identity(b, endpoint, false, "unattached, not in bypass mode")?;
    }
    // One that is attached, and detached again.
    let domain = b.domain(0)?;
    if b.attach(domain, b.one)?.is_ok() && b.detach(domain, b.one)?.is_ok() {
        identity(b, b.one, false, "detached, not in bypass mode")?;
    }
    PASS
}

pub(super) fn config_unattached(b: &mut Bench<'_>) -> Tested {
    b.needs(F_BYPASS_CONFIG)?;
    b.needs_dma()?;
    for value in [1, 0, 1] {
        b.write_bypass(value);
        for endpoint in seen(b) {
            identity(b, endpoint, value == 1, &format!("unattached, bypass {value}"))?;
        }
    }
    PASS
}

pub(super) fn config_not_taken(b: &mut Bench<'_>) -> Tested {
    b.needs(F_BYPASS_CONFIG)?;
    b.needs_dma()?;
    if !b.can.system_reset {
        return Err(not_shown("what bypass is at first cannot be told"));
    }
    b.start_as_it_is(F_ALL & !F_BYPASS)?;
    let first = b.read_bypass();
    b.start_as_it_is(F_ALL & !F_BYPASS & !F_BYPASS_CONFIG)?;
    identity(b, b.one, first == 1, &format!("BYPASS_CONFIG not taken, bypass {first} at first"))?;
    PASS
}

pub(super) fn domain(b: &mut Bench<'_>) -> Tested {
    b.needs(F_BYPASS_CONFIG)?;
    b.needs_dma()?;
    let (domain, plain) = (b.domain(0)?, b.domain(1)?);
    for value in [0, 1] {
        b.write_bypass(value);
        begins(&b.attach_flags(domain, b.one, ATTACH_BYPASS)?, "ATTACH with BYPASS")?;
        identity(b, b.one, true, &format!("in a bypass domain, bypass {value}"))?;
        begins(&b.detach(domain, b.one)?, "DETACH")?;
        // And one that is attached without is not, whatever bypass is.
        b.have_attached(plain, b.one)?;
        identity(b, b.one, false, &format!("in a domain that is not one of bypass, bypass {value}"))?;
        begins(&b.detach(plain, b.one)?, "DETACH")?;
    }
    PASS
}

pub(super) fn legacy(b: &mut Bench<'_>) -> Tested {
    if b.offered & F_BYPASS == 0 {
        return Err(not_shown("BYPASS is not offered"));
    }
    b.needs_dma()?;
    b.start_with(F_ALL & !F_BYPASS_CONFIG)?;
    for endpoint in seen(b) {
        identity(b, endpoint, true, "unattached, BYPASS taken")?;
    }
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    identity(b, b.one, false, "attached, BYPASS taken")?;
    PASS
}

pub(super) fn detach_back(b: &mut Bench<'_>) -> Tested {
    b.needs_dma()?;
    if b.has(F_BYPASS_CONFIG) {
        b.write_bypass(1);
    } else if b.offered & F_BYPASS != 0 {
        b.start_with(F_ALL & !F_BYPASS_CONFIG)?;
    } else {
        return Err(not_shown("neither BYPASS nor BYPASS_CONFIG is offered"));
    }
    let domain = b.domain(0)?;
    b.have_attached(domain, b.one)?;
    if b.has(F_MAP_UNMAP) {
        b.have_mapped(domain, 0, 1, 0)?;
    }
    identity(b, b.one, false, "attached")?;
    begins(&b.detach(domain, b.one)?, "DETACH")?;
    identity(b, b.one, true, "detached, with unattached ones in bypass mode")?;
    if b.has(F_MAP_UNMAP) && b.writes(b.one, b.iova(0)?, b.memory(0))? {
        return Ok(fail("by the mapping of the domain it left", "by the identity"));
    }
    PASS
}
