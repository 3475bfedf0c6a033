//! Every combination of attributes through AT S12E1R: a guest's two stages, with nothing in them but the leaves to be combined.

use alloc::{format, string::String, vec};

use el2::{Par, STAGE1, Said, Swept, pack};
use memtype::arm::memattr_of;
use mmu::{
    Arena, Frames, Ia, Oa, PAGE,
    arm::{self, Config, S1Attrs, S2Attrs, Stage1, Stage2},
};

use crate::{cpu, memory::Pool, say};

/// VAs of the pages whose stage 1 differs, and IPAs of those whose stage 2 does.
const VA: u64 = 0x10_0000_0000;
const IPA: u64 = 0x20_0000_0000;
/// What they are mapped to at last. Nothing accesses it.
const PA: u64 = 0x30_0000_0000;
/// Stage 2: MemAttr and SH. Stage 1, for one MAIR_EL1: AttrIndx and SH.
const SECOND: u64 = 16 * 4;
const FIRST: u64 = 8 * 4;
/// Bytes for the tables of one stage.
const TABLES: u64 = 1 << 20;

/// TCR_EL1: T0SZ 16, walks Write-Back Inner Shareable, EPD1, IPS 40 bits.
const TCR: u64 = 2 << 32 | 1 << 23 | 3 << 12 | 1 << 10 | 1 << 8 | 16;
/// SCTLR_EL1: RES1 bits, M.
const SCTLR: u64 = 1 << 29 | 1 << 28 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 11 | 1;

/// VTCR_EL2 of a 40-bit stage 2 from level 1, as `hyp` has it: walks Write-Back Inner Shareable, PS as the CPU has it, 48 bits
/// at most.
pub(crate) fn vtcr() -> u64 {
    1 << 31 | cpu::pa_range().min(5) << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 1 << 6 | (64 - u64::from(hyp::IPA_BITS))
}

/// Does it, and says what came out.
///
/// # Errors
/// Tables that cannot be built.
pub(crate) fn run(pool: &mut Pool) -> Result<(), String> {
    let failed = |stage: u8, error: &dyn core::fmt::Debug| format!("the sweep's stage {stage}: {error:?}");
    let first = pool.take(TABLES, TABLES).ok_or("no room for the sweep")?;
    let first_at = first.as_ptr() as u64;
    let mut first = Arena::new(Oa(first_at), first);
    let first_root = first.frame().ok_or("no root for the sweep")?;
    let config = Config::stage1(48, 40).ok_or("no shape for the sweep's stage 1")?;
    for second in 0..SECOND {
        for page in 0..FIRST {
            let attr_index = (page / 4) as u8;
            let sh = (page % 4) as u8;
            let attrs = S1Attrs { attr_index, sh, writable: true, accessed: true, ..S1Attrs::default() };
            let range = (Ia(VA + (second * FIRST + page) * PAGE), Oa(IPA + second * PAGE), PAGE);
            arm::map::<Stage1, _>(first_root, config, &mut first, range, &attrs, PAGE).map_err(|e| failed(1, &e))?;
        }
    }
    cpu::set_el1(&cpu::El1 { sctlr: SCTLR, tcr: TCR, ttbr0: first_root.0, ..cpu::El1::default() });

    let mut pars = vec![Par { attr: 0, sh: 0, failed: true }; SECOND as usize * STAGE1];
    for fwb in [false, true] {
        if fwb && !cpu::has_fwb() {
            break;
        }
        let tables = pool.take(TABLES, TABLES).ok_or("no room for the sweep")?;
        let mut tables = Arena::new(Oa(tables.as_ptr() as u64), tables);
        let config = Config::stage2(hyp::IPA_BITS, 48, 1).ok_or("no shape for the sweep's stage 2")?;
        let root = tables.frame().ok_or("no root for the sweep")?;
        for _ in 1..config.root_frames() {
            tables.frame();
        }
        let readable = S2Attrs { sh: 0b11, read: true, accessed: true, xn: 0b10, ..S2Attrs::default() };
        for second in 0..SECOND {
            let attrs = S2Attrs { memattr: (second / 4) as u8, sh: (second % 4) as u8, ..readable };
            let range = (Ia(IPA + second * PAGE), Oa(PA), PAGE);
            arm::map::<Stage2, _>(root, config, &mut tables, range, &attrs, PAGE).map_err(|e| failed(2, &e))?;
        }
        // The stage-1 tables themselves, where they lie.
        let normal = S2Attrs { memattr: memattr_of(fwb, "normal-wb").unwrap_or(0), ..readable };
        let range = (Ia(first_at), Oa(first_at), TABLES);
        arm::map::<Stage2, _>(root, config, &mut tables, range, &normal, 1 << 21).map_err(|e| failed(2, &e))?;

        cpu::publish();
        cpu::set_stage2(root.0, vtcr());
        cpu::set_hcr(
            cpu::HCR_GUEST | if fwb { cpu::HCR_FWB } else { 0 } | if cpu::has_mte2() { cpu::HCR_ATA } else { 0 },
        );
        for group in 0..32 {
            cpu::set_mair_el1((0..8).rev().fold(0, |all, i| all << 8 | (group * 8 + i)));
            cpu::forget_guest();
            for second in 0..SECOND {
                for page in 0..FIRST {
                    let par = cpu::translate(VA + (second * FIRST + page) * PAGE);
                    pars[second as usize * STAGE1 + (group * FIRST + page) as usize] = Par::of(par);
                }
            }
        }
        cpu::set_hcr(cpu::HCR_NONE);
        for (second, pars) in pars.chunks(STAGE1).enumerate() {
            let mut par = String::new();
            pack(pars.iter().copied(), |byte| par.push(char::from(byte)));
            say(&Said::Swept(Swept { fwb, memattr: (second / 4) as u8, sh: (second % 4) as u8, par }));
        }
    }
    Ok(())
}
