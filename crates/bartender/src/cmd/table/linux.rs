//! `bartender table linux`.

use std::fmt::Write as _;

use memtype::linux::{Entry, Helper, MmapWc, arch_can_pci_mmap_wc, entry};
use memtype::{Arch, MemoryType};

use super::grid::{Cell, Grid};
use crate::show::{self, FAINT, OPEN, STRONG, paint};

/// The whole table.
pub(super) fn grid() -> Grid {
    let name = |ty: Option<MemoryType>| ty.map_or("-", MemoryType::name);
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for arch in Arch::ALL {
        for helper in Helper::ALL {
            let it = entry(arch, helper);
            let later = name(it.later.map(|l| l.ty).or(it.ty));
            let row = [arch.name(), helper.name(), it.attribute, name(it.ty), it.condition, it.cite.place];
            rows.push(row.into_iter().chain([name(it.otherwise), later]).map(Cell::Word).collect());
        }
        let can = arch_can_pci_mmap_wc(arch);
        let row =
            [arch.name(), "arch_can_pci_mmap_wc", can.v6_12.name(), "-", "", can.cite.place, "-", can.v7_2.name()];
        rows.push(row.map(Cell::Word).into());
    }
    Grid {
        header: &["arch", "helper", "attribute", "type", "condition", "source", "otherwise", "in_7_2"],
        rows,
        picture,
    }
}

const COLUMN: usize = 13;

fn picture() -> String {
    let mut out = format!("{}\n\n", paint(STRONG, "what a mapping of a BAR is, in Linux 6.12"));
    let heads: String = Arch::ALL.iter().map(|arch| format!("{:<COLUMN$}", paint(STRONG, arch.name()))).collect();
    let _ = writeln!(out, "{:20}{}", "", heads.trim_end());
    let mut notes: Vec<String> = Vec::new();
    for helper in Helper::ALL {
        let mut line = format!("{:<20}", paint(STRONG, helper.name()));
        for arch in Arch::ALL {
            line.push_str(&cell(&entry(arch, helper), &mut notes));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let mut line = format!("{:<20}", paint(STRONG, "resourceN_wc"));
    for arch in Arch::ALL {
        let can = arch_can_pci_mmap_wc(arch);
        let says = match (can.v6_12, can.v7_2) {
            (MmapWc::No, MmapWc::No) => "no",
            (MmapWc::No, _) => "in 7.2",
            (MmapWc::IfPat, _) => "with PAT",
            (MmapWc::Yes, _) => "yes",
        };
        let _ = write!(line, "{says:<COLUMN$}");
    }
    let _ = writeln!(out, "{}\n", line.trim_end());
    for (i, note) in notes.iter().enumerate() {
        out.push_str(&show::wrapped(&format!("{:>2}  ", i + 1), note));
    }
    let _ = writeln!(
        out,
        "\n-   not provided: ioremap_np() and ioremap_uc() return NULL, ioremap_cache() is not defined\n\
         The attribute as Linux names it, and its place: bartender table linux --csv"
    );
    out
}

/// A type, and the number of its note.
fn cell(it: &Entry, notes: &mut Vec<String>) -> String {
    let Some(ty) = it.ty else { return format!("{:<COLUMN$}", paint(FAINT, "-")) };
    let note = note(it);
    let number = if note.is_empty() {
        String::new()
    } else {
        let at = notes.iter().position(|n| *n == note).unwrap_or_else(|| {
            notes.push(note);
            notes.len() - 1
        });
        format!(" {}", at + 1)
    };
    let name = short(ty);
    let room = COLUMN.saturating_sub(name.len() + number.len());
    format!("{}{}{:room$}", paint(show::colour_of(ty), &name), paint(OPEN, number), "")
}

fn note(it: &Entry) -> String {
    let mut note = String::new();
    match (it.condition, it.otherwise) {
        ("", None) => {}
        (condition, None) => note.push_str(condition),
        (condition, Some(ty)) => {
            let _ = write!(note, "{condition}; else {}", short(ty));
        }
    }
    if let Some(later) = it.later {
        let _ = write!(note, "; in {} {}", later.version, short(later.ty));
    }
    note
}

/// As the vendor writes it, without what a column has no room for.
fn short(ty: MemoryType) -> String {
    let name = match ty {
        MemoryType::Arm64(ty) => ty.to_string(),
        MemoryType::X86(ty) => ty.name().to_ascii_uppercase(),
        MemoryType::Riscv(ty) => ty.to_string(),
        MemoryType::Power(ty) => ty.to_string(),
        MemoryType::LoongArch(ty) => ty.to_string(),
        MemoryType::S390(ty) => ty.to_string(),
    };
    name.replace("Device-", "").replace("Normal-", "").replace("write-back", "wb").replace("main memory", "main")
}
