//! `bartender table x86`.

use std::fmt::Write as _;

use memtype::MemoryType;
use memtype::x86::{Pat, Type, ept, was_undefined};

use super::grid::{Cell, Grid};
use crate::show::{self, FAINT, OPEN, STRONG, paint};

/// The EPT types in the order of the columns.
const EPT: [Type; 5] = [Type::Uc, Type::Wc, Type::Wt, Type::Wp, Type::Wb];

/// The whole table.
pub(super) fn grid() -> Grid {
    let mut rows = Vec::new();
    for below in EPT {
        for ipat in [false, true] {
            for guest in Pat::ALL {
                rows.push(vec![
                    Cell::Word(below.name()),
                    Cell::Flag(ipat),
                    Cell::Word(guest.name()),
                    Cell::Word(ept::combine(below, ipat, guest).name()),
                ]);
            }
        }
    }
    Grid { header: &["ept", "ipat", "guest_pat", "type"], rows, picture }
}

fn picture() -> String {
    let mut out = format!(
        "{}\n\n{:13}{}\n",
        paint(STRONG, "IPAT = 0: the guest's PAT counts"),
        "",
        paint(FAINT, "EPT type, or on the host the MTRR's")
    );
    let mut line = |text: String| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(format!("{:<13}{}", paint(FAINT, "PAT entry"), EPT.map(|t| format!("{:<7}", paint(STRONG, t))).concat()));
    for guest in Pat::ALL {
        let mut cells = String::new();
        for below in EPT {
            let both = ept::combine(below, false, guest);
            let mark = if below == Type::Uc && both == Type::Wc {
                paint(OPEN, "!").to_string()
            } else if was_undefined(below, guest) {
                paint(FAINT, "*").to_string()
            } else {
                " ".into()
            };
            let style = show::colour_of(MemoryType::X86(both));
            let _ = write!(cells, "{:<3}{mark}   ", paint(style, both));
        }
        line(format!("{:<13}{cells}", paint(STRONG, guest)));
    }
    let _ = write!(
        out,
        "\n{}\n\n! weaker than the hypervisor asked for: the guest wins\n\
         * undefined in the SDM's older editions; newer ones say that all processors do this. On an AMD host\n  \
           UC- and WT over an MTRR of WP, and WP over WT, are uncacheable (APM vol. 2 7.8.5)\n\
         CR0.CD = 1: UC, whatever the tables say. Why: bartender explain --arch x86 pat=wc ept=uc\n",
        paint(STRONG, "IPAT = 1: the EPT type, whatever the guest asks")
    );
    out
}
