//! Building the guest: its code, its stage-1 tables, and the EL1 registers it starts with.

use memtype::arm::mair_of;
use mmu::{
    Arena, Frames, Ia, Oa, PAGE,
    arm::{self, Config, MapError, S1Attrs, Stage1},
};
use scenario::{
    Guest, Iova, Layout, Scenario, a64,
    guest::Piece,
    layout::{RAM_BASE, REPORT_IPA, TABLES_BASE, TABLES_SIZE},
    program::{Lowered, Place},
};

use crate::Error;

/// SCTLR_EL1 bits that are RES1 or must be set for plain behaviour: LSMAOE, nTLSMD, SPAN, EIS, TSCXT, EOS.
const SCTLR_BASE: u64 = 1 << 29 | 1 << 28 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 11;
/// SCTLR_EL1.{I,C,M}.
const SCTLR_MMU: u64 = 1 << 12 | 1 << 2 | 1;

/// TCR_EL1: T0SZ 16, walks Write-Back Inner Shareable, 4 KiB granule, TTBR1 off (EPD1), IPS 40 bits.
const TCR: u64 = 2 << 32 | 1 << 23 | 3 << 12 | 1 << 10 | 1 << 8 | 16;

/// The shape of the guest's stage 1: what its TCR_EL1 says.
#[must_use]
pub const fn stage1_config() -> Option<Config> {
    Config::stage1(48, 40)
}

/// MAIR_EL1 attribute 0: the guest's code and tables. Attribute 1: the report page.
const CODE_ATTR: u8 = 0;
const REPORT_ATTR: u8 = 1;
const BLOCK: u64 = 2 << 20;

/// Builds the guest of `scenario`.
///
/// # Errors
/// [`Error`]: more memory types than MAIR_EL1 has room for, more code or tables than the layout reserves.
pub fn guest(scenario: &Scenario, layout: &Layout) -> Result<Guest, Error> {
    guest_of(scenario, layout, &scenario.program.lower(layout))
}

pub(crate) fn guest_of(scenario: &Scenario, layout: &Layout, lowered: &Lowered) -> Result<Guest, Error> {
    let code = a64::assemble(lowered)?;
    let mut mair = vec![mair_of("normal-wb").unwrap_or(0xff), mair_of("device-ngnrne").unwrap_or(0)];
    let attr_of = |mair: &mut Vec<u8>, byte: u8| match mair.iter().position(|b| *b == byte) {
        Some(i) => i as u8,
        None => {
            mair.push(byte);
            (mair.len() - 1) as u8
        }
    };

    let config = stage1_config().ok_or(Error::Tables("TCR_EL1".into()))?;
    let mut tables = Arena::new(Oa(TABLES_BASE), vec![0u64; (TABLES_SIZE / 8) as usize]);
    let failed = |e: MapError<_>| Error::Tables(e.to_string());
    let root = tables.frame().ok_or(Error::Tables("no root".into()))?;
    let base = S1Attrs { sh: 0b11, accessed: true, uxn: true, pxn: true, ..S1Attrs::default() };
    let map = |tables: &mut Arena<_>, va, ipa, size, attrs| {
        arm::map::<Stage1, _>(root, config, tables, (Ia(va), Oa(ipa), size), &attrs, BLOCK)
    };
    let code_attrs = S1Attrs { attr_index: CODE_ATTR, pxn: false, ..base };
    // No more than there is: every page is a descriptor to carry along.
    let code_size = (code.bytes.len() as u64).next_multiple_of(PAGE);
    map(&mut tables, RAM_BASE, RAM_BASE, code_size, code_attrs).map_err(failed)?;
    let report = S1Attrs { attr_index: REPORT_ATTR, writable: true, ..base };
    map(&mut tables, REPORT_IPA, REPORT_IPA, PAGE, report).map_err(failed)?;
    if scenario.mmu {
        for (m, at) in scenario.maps.iter().zip(&layout.maps) {
            let attr_index = attr_of(&mut mair, m.mair);
            let attrs = S1Attrs { attr_index, writable: m.writable, ..base };
            map(&mut tables, at.va, at.ipa, at.size, attrs).map_err(failed)?;
        }
    }
    if mair.len() > 8 {
        return Err(Error::TooManyTypes { types: mair.len() - 2 });
    }

    let words: Vec<u8> = tables.used().iter().flat_map(|w| w.to_le_bytes()).collect();
    // What the IOMMU walks in guest RAM, as it is before the guest starts.
    let entries = scenario.iovas.iter().filter_map(|iova| {
        let page = layout.ipa(Place { map: iova.to, offset: 0 });
        Some(Piece { ipa: layout.ipa(iova.entry?), bytes: Iova::descriptor(page).to_le_bytes().into() })
    });
    Ok(Guest {
        memory: Piece::of(RAM_BASE, &code.bytes).chain(Piece::of(TABLES_BASE, &words)).chain(entries).collect(),
        entry: RAM_BASE + code.entry,
        sctlr: SCTLR_BASE | if scenario.mmu { SCTLR_MMU } else { 0 },
        tcr: TCR,
        mair: mair.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)),
        ttbr0: root.0,
        vbar: RAM_BASE + code.vectors,
    })
}
