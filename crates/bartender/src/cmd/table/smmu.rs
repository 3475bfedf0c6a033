//! `bartender table smmu`.

use std::fmt::Write as _;

use memtype::arm::{Features, Stage2, mair_of, memattr_of};
use memtype::smmu::{self, Outcome, Platform, Stream, transform};

use super::arm64::STAGE1;
use super::grid::{Cell, Grid};
use crate::show::{self, BAD, FAINT, GOOD, STRONG, paint};

/// What stage 1 says, the named types of [`STAGE1`] last; bypass leaves the incoming attributes of PCIe.
fn first() -> impl Iterator<Item = (&'static str, &'static str)> {
    std::iter::once(("bypass", "bypass")).chain(STAGE1)
}
const INNER: u8 = 0b11;
const MEMATTRS: [&str; 17] =
    ["-", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];

fn outcome(stage1: &str, stage2: Option<(bool, u8)>, no_snoop: bool) -> Outcome {
    let stream = Stream {
        stage1: mair_of(stage1).map(|mair| smmu::stage1(mair, INNER)),
        stage2: stage2.map(|(fwb, memattr)| Stage2::decode(fwb, memattr, INNER, Features::NONE)),
        no_snoop,
        ..Stream::PCIE
    };
    transform(&stream, Platform::SBSA)
}

/// The whole table.
pub(super) fn grid() -> Grid {
    let mut rows = Vec::new();
    for (stage1, _) in first() {
        for fwb in [false, true] {
            for (i, memattr) in (0u8..).zip(MEMATTRS) {
                for no_snoop in [false, true] {
                    let out = outcome(stage1, i.checked_sub(1).map(|memattr| (fwb, memattr)), no_snoop);
                    rows.push(vec![
                        Cell::Word(stage1),
                        Cell::Flag(fwb),
                        Cell::Word(memattr),
                        Cell::Flag(no_snoop),
                        Cell::Word(out.ty.name()),
                        Cell::Word(out.sh.short()),
                        Cell::Flag(out.is_coherent()),
                    ]);
                }
            }
        }
    }
    Grid { header: &["s1", "s2fwb", "s2_memattr", "no_snoop", "type", "sh", "coherent"], rows, picture }
}

fn picture() -> String {
    let mut out = String::new();
    for fwb in [false, true] {
        let title = if fwb { "STE.S2FWB = 1" } else { "STE.S2FWB = 0" };
        let _ = writeln!(out, "{}\n\n{:10}{}", paint(STRONG, title), "", paint(FAINT, "stage 2"));
        let columns: Vec<_> = [("off", None)]
            .into_iter()
            .chain(
                STAGE1
                    .iter()
                    .chain(fwb.then_some(&("as-s1", "as-s1")))
                    .filter_map(|(name, short)| Some((*short, Some((fwb, memattr_of(fwb, name)?))))),
            )
            .collect();
        let head: String = columns.iter().map(|(short, _)| format!("{:<9}", paint(STRONG, short))).collect();
        let _ = writeln!(out, "{:<10}{}", paint(FAINT, "stage 1"), head.trim_end());
        for (name, short) in first() {
            let mut line = format!("{:<10}", paint(STRONG, short));
            for (_, stage2) in &columns {
                let it = outcome(name, *stage2, false);
                let shown = it.ty.to_string();
                let shown = shown.trim_start_matches("Device-").trim_start_matches("Normal-");
                let mark = match (it.is_coherent(), outcome(name, *stage2, true).is_coherent()) {
                    (true, true) => paint(GOOD, "+").to_string(),
                    (true, false) => paint(BAD, "!").to_string(),
                    _ => " ".into(),
                };
                let _ = write!(line, "{:<6}{mark}  ", paint(show::colour(it.ty), shown));
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out.push('\n');
    }
    out.push_str(
        "bypass: a PCIe transaction as it comes in, cacheable and shared. Unmarked: not coherent\n\
         ! coherent, until a transaction has No Snoop: then Normal-NC, whatever S2FWB says\n\
         No Snoop: Normal-WT becomes Normal-NC too; Device and Normal-NC stay\n\
         Where firmware says CANWBS all of it is coherent, for memory. Reserved MemAttr: see --csv\n\
         Why: bartender explain --arch smmu s1=normal-wb s2=normal-wb fwb=1 no-snoop=1\n",
    );
    out
}
