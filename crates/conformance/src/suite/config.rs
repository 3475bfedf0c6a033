//! Features and configuration (5.13.3, 5.13.4), and what a reset leaves (5.13.5).

use super::{
    Stop, Tested, Verdict,
    bench::{Bench, PASS, fail, not_shown},
};
use crate::bytes::{F_ALL, F_BYPASS, F_BYPASS_CONFIG, F_MAP_UNMAP, feature_names};

fn offers(b: &Bench<'_>) -> String {
    format!("offers {}", feature_names(b.offered).join(", "))
}

pub(super) fn offers_map_unmap(b: &mut Bench<'_>) -> Tested {
    if b.offered & F_MAP_UNMAP != 0 { PASS } else { Ok(fail(offers(b), "MAP_UNMAP")) }
}

pub(super) fn no_legacy_bypass(b: &mut Bench<'_>) -> Tested {
    if b.offered & F_BYPASS == 0 { PASS } else { Ok(fail(offers(b), "no BYPASS")) }
}

pub(super) fn not_both_bypass(b: &mut Bench<'_>) -> Tested {
    let both = F_BYPASS | F_BYPASS_CONFIG;
    if b.offered & both == both { Ok(fail(offers(b), "not both BYPASS and BYPASS_CONFIG")) } else { PASS }
}

pub(super) fn page_size_mask(b: &mut Bench<'_>) -> Tested {
    if b.config.page_size_mask == 0 { Ok(fail("page_size_mask is 0", "a bit at least")) } else { PASS }
}

pub(super) fn several_page_sizes(b: &mut Bench<'_>) -> Tested {
    let mask = b.config.page_size_mask;
    let what = format!("page_size_mask is {mask:#x}");
    Ok(if mask.count_ones() > 1 { Verdict::Does { what } } else { Verdict::DoesNot { what } })
}

/// Needs BYPASS_CONFIG; begins without a write to `bypass`.
fn untouched(b: &mut Bench<'_>) -> Result<u8, Stop> {
    b.needs(F_BYPASS_CONFIG)?;
    b.start_as_it_is(F_ALL & !F_BYPASS)?;
    Ok(b.read_bypass())
}

fn needs_system_reset(b: &Bench<'_>) -> Result<(), Stop> {
    if b.can.system_reset {
        Ok(())
    } else {
        Err(not_shown("a reset of the system cannot be told from one of the device"))
    }
}

fn write_and_read_back(b: &mut Bench<'_>, value: u8) -> Result<(), Stop> {
    b.write_bypass(value);
    match b.read_bypass() {
        now if now == value => Ok(()),
        now => Err(not_shown(format!("{value} was written to bypass, which reads {now}"))),
    }
}

pub(super) fn bypass_initially_1(b: &mut Bench<'_>) -> Tested {
    needs_system_reset(b)?;
    let what = match untouched(b)? {
        0 => return Ok(Verdict::DoesNot { what: "bypass is 0".into() }),
        other => format!("bypass is {other}"),
    };
    Ok(Verdict::Does { what })
}

pub(super) fn bypass_survives_device_reset(b: &mut Bench<'_>) -> Tested {
    let first = untouched(b)?;
    for value in [first ^ 1, first] {
        write_and_read_back(b, value & 1)?;
        b.reset(F_ALL & !F_BYPASS)?;
        let now = b.read_bypass();
        if now != value & 1 {
            return Ok(fail(format!("bypass was {} before the reset and is {now} after", value & 1), "unchanged"));
        }
    }
    PASS
}

pub(super) fn bypass_restored_by_system_reset(b: &mut Bench<'_>) -> Tested {
    needs_system_reset(b)?;
    let first = untouched(b)?;
    write_and_read_back(b, (first ^ 1) & 1)?;
    let now = untouched(b)?;
    if now == first { PASS } else { Ok(fail(format!("bypass was {first} at first and is {now}"), format!("{first}"))) }
}

pub(super) fn bypass_0_or_1(b: &mut Bench<'_>) -> Tested {
    let first = untouched(b)?;
    if first > 1 {
        return Ok(fail(format!("bypass is {first:#x} at first"), "0 or 1"));
    }
    for value in [0, 1, 2, 0xff] {
        b.write_bypass(value);
        let now = b.read_bypass();
        if now > 1 {
            return Ok(fail(format!("bypass is {now:#x} after {value:#x} was written"), "0 or 1"));
        }
    }
    PASS
}

pub(super) fn reset_detaches(b: &mut Bench<'_>) -> Tested {
    b.needs(F_MAP_UNMAP)?;
    let domain = b.have_one_mapping()?;
    b.reset(b.taken)?;
    if b.can.dma {
        b.unit_reaches(b.one, 0, 0)?.nothing("after the reset")?;
    }
    let never = b.domain(1)?;
    match b.is_domain(domain, never)? {
        Some(true) => Ok(fail("the domain is there after the reset", "no domain")),
        Some(false) => PASS,
        None if b.can.dma => PASS,
        None => Err(not_shown("no DMA can be seen, and MAP takes domains that are not there")),
    }
}
