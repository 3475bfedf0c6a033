//! IA32_PAT (MSR 0x277; SDM vol. 3A 11.12.2).

use memtype::x86::PatMsr;

use super::{Decoded, Field};
use crate::show::Hex;

const NAMES: [&str; 8] = ["PA0", "PA1", "PA2", "PA3", "PA4", "PA5", "PA6", "PA7"];

/// Decodes the register.
#[must_use]
pub fn decode(value: u64) -> Decoded {
    let msr = PatMsr(value);
    let mut notes = Vec::new();
    let fields = (0u8..)
        .zip(NAMES)
        .map(|(index, name)| {
            let byte = msr.byte(index);
            let bits = format!("PAT {}, PCD {}, PWT {}", index >> 2, index >> 1 & 1, index & 1);
            let means = msr.entry(index).map_or_else(
                || {
                    notes.push(format!("{name} = {byte:#x} is reserved: writing it raises #GP"));
                    format!("reserved; chosen by {bits}")
                },
                |pat| format!("{pat}, {}; chosen by {bits}", words(pat.name())),
            );
            Field { name, high: index * 8 + 7, low: index * 8, value: byte.into(), means, quiet: false }
        })
        .collect();
    let says = match msr {
        PatMsr::RESET => "the table after reset",
        PatMsr::LINUX => "the table that Linux writes",
        _ => "the page attribute table",
    };
    let wc = (0..8).filter(|i| msr.entry(*i).is_some_and(|p| p.name() == "wc")).count();
    let what = match wc {
        0 => vec!["No entry is WC: no page can be write-combining through this table.".to_string()],
        _ => Vec::new(),
    };
    Decoded { register: "IA32_PAT".into(), value: vec![Hex(value)], says: says.into(), ty: None, fields, what, notes }
}

fn words(name: &str) -> &'static str {
    match name {
        "uc" => "uncacheable",
        "ucm" => "UC, or the MTRR's WC",
        "wc" => "write-combining",
        "wt" => "write-through",
        "wp" => "write-protected",
        _ => "write-back",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_and_reset() {
        let it = decode(0x0407_0506_0007_0106);
        assert!(it.says.contains("Linux") && it.notes.is_empty() && it.what.is_empty());
        assert!(
            it.fields[1].means.starts_with("WC, write-combining")
                && it.fields[1].means.ends_with("PAT 0, PCD 0, PWT 1")
        );
        assert!(decode(0x0007_0406_0007_0406).what[0].starts_with("No entry is WC"));
    }

    #[test]
    fn reserved_entries_are_named() {
        assert_eq!(decode(0x0203).notes.len(), 2);
        assert_eq!(decode(u64::MAX).notes.len(), 8);
    }
}
