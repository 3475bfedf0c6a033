//! `bartender table riscv`.

use std::fmt::Write as _;

use anstyle::Style;
use memtype::MemoryType;
use memtype::riscv::{Combined, Exception, Pbmt, Pma, Type, combine};

use super::grid::{Cell, Grid};
use crate::show::{self, BAD, FAINT, OPEN, STRONG, paint};

/// The whole table.
pub(super) fn grid() -> Grid {
    let mut rows = Vec::new();
    for pma in Pma::ALL {
        for g in Pbmt::ALL {
            for vs in Pbmt::ALL {
                let ty = combine(pma, g, vs).ty;
                rows.push(vec![
                    Cell::Word(pma.name()),
                    Cell::Number(g.bits().into()),
                    Cell::Number(vs.bits().into()),
                    Cell::Word(ty.name()),
                ]);
            }
        }
    }
    Grid { header: &["pma", "g", "vs", "type"], rows, picture }
}

/// A matrix for each PMA.
fn picture() -> String {
    const COLUMN: usize = 14;
    let mut out = String::new();
    for pma in Pma::ALL {
        let over = match pma {
            Pma::Main => "over main memory",
            Pma::Io => "over an I/O region, as a BAR is",
        };
        let _ = writeln!(out, "{}\n", paint(STRONG, over));
        let _ = writeln!(out, "{:16}{}", "", paint(FAINT, "VS-stage PBMT (the guest)"));
        let heads: String = Pbmt::ALL.iter().map(|vs| format!("{:<COLUMN$}", paint(STRONG, head(*vs)))).collect();
        let _ = writeln!(out, "{:<16}{}", paint(FAINT, "G-stage PBMT"), heads.trim_end());
        for g in Pbmt::ALL {
            let mut line = format!("{:<16}", paint(STRONG, head(g)));
            let mut room = 0;
            for vs in Pbmt::ALL {
                let both = combine(pma, g, vs);
                let _ = write!(line, "{:room$}{}", "", paint(style(both.ty), short(both.ty)));
                room = COLUMN.saturating_sub(short(both.ty).len());
                let marks = marks(&both);
                if !marks.is_empty() {
                    line.push(' ');
                    room = room.saturating_sub(1 + marks.len());
                }
                for (mark, of) in marks {
                    let _ = write!(line, "{}", paint(of, mark));
                }
            }
            out.push_str(&line);
            out.push('\n');
        }
        out.push('\n');
    }
    let _ = write!(
        out,
        "{} counts as memory and as I/O for FENCE, aq and rl\n\
         {} weaker than the I/O region asks for       {} weaker than the G-stage asks for: the guest wins\n\
         A stage whose MODE is Bare, or that has no Svpbmt, says PMA (0); 3 is reserved, a page fault.\n\
         Why: bartender explain --arch riscv pma=io g=io vs=nc\n",
        paint(FAINT, "+"),
        paint(BAD, "*"),
        paint(BAD, "!"),
    );
    out
}

/// What there is to say beside the type.
fn marks(both: &Combined) -> Vec<(char, Style)> {
    let both_sets = (both.counts_as_io() && both.counts_as_memory()).then_some(('+', FAINT));
    let weaker = both.exceptions().into_iter().flatten().map(|e| match e {
        Exception::NcOverIoRegion => ('*', BAD),
        Exception::GuestNcOverGStageIo => ('!', BAD),
    });
    both_sets.into_iter().chain(weaker).collect()
}

/// What the platform decides has a colour of its own.
fn style(ty: Type) -> Style {
    if ty == Type::PmaIo { OPEN } else { show::colour_of(MemoryType::Riscv(ty)) }
}

const fn head(pbmt: Pbmt) -> &'static str {
    match pbmt {
        Pbmt::Pma => "PMA (0)",
        Pbmt::Nc => "NC (1)",
        Pbmt::Io => "IO (2)",
    }
}

const fn short(ty: Type) -> &'static str {
    match ty {
        Type::PmaMain => "PMA main",
        Type::PmaIo => "PMA io",
        Type::Nc => "NC",
        Type::Io => "IO",
    }
}
