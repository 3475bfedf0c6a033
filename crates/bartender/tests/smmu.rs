//! `table smmu`, `explain --arch smmu` and `decode ste`, as people run them.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::stdout;
use serde_json::Value;

fn terms<'a>(before: &[&'a str], terms: &'a str) -> Vec<&'a str> {
    before.iter().copied().chain(terms.split_whitespace()).collect()
}

fn explain(of: &str) -> Value {
    common::json(&terms(&["explain", "--arch", "smmu", "--json"], of))
}

fn refused(of: &str) -> String {
    common::refused(&terms(&["explain", "--arch", "smmu"], of))
}

fn notes(it: &Value) -> String {
    it["notes"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// nGnRnE 0 … GRE 3, NC 4, WT 5, WB 6.
const ORDER: [&str; 7] =
    ["device-ngnrne", "device-ngnre", "device-ngre", "device-gre", "normal-nc", "normal-wt", "normal-wb"];

/// Table D8-96 and D8-100 of DDI 0487 a third time, by rank, over what the table prints; No Snoop by 13.6.1.1.
#[test]
fn the_table_by_rank() {
    let text = stdout(&["table", "smmu", "--csv"]);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("s1,s2fwb,s2_memattr,no_snoop,type,sh,coherent"));
    let mut seen = 0;
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let [s1, fwb, memattr, no_snoop, ty, sh, coherent] = cells[..] else { panic!("{line}") };
        // What comes in from PCIe is Write-Back.
        let first = ORDER.iter().position(|n| *n == s1).unwrap_or(6);
        let combined = match (memattr.parse::<usize>(), fwb) {
            (Err(_), _) => Some(first),
            (Ok(bits @ 0..=3), "0") => Some(first.min(bits)),
            (Ok(0b0101), "0") => Some(first.min(4)),
            (Ok(0b1010), "0") => Some(first.min(5)),
            (Ok(0b1111), "0") => Some(first),
            // Mixed or reserved: not of the order.
            (Ok(_), "0") => None,
            (Ok(bits), _) => match bits & 7 {
                device @ 0..=3 => Some(first.min(device)),
                0b101 => Some(first.min(4)),
                0b110 => Some(6),
                0b111 => Some(first),
                _ => None,
            },
        };
        if let Some(rank) = combined {
            let rank = if no_snoop == "1" { rank.min(4) } else { rank };
            assert_eq!(ty, ORDER[rank], "{line}");
            seen += 1;
        }
        if no_snoop == "1" {
            assert!(ty == "normal-nc" || ty.starts_with("device-"), "{line}");
        }
        assert_eq!(coherent == "1", ty == "normal-wb" && sh != "nsh", "{line}");
        assert_eq!(sh == "osh", ty == "normal-nc" || ty.starts_with("device-"), "{line}");
    }
    // Of 17 columns without FWB 8 are of the order, with it 15.
    assert_eq!(seen, 8 * 2 * (8 + 15));
}

#[test]
fn thread_004_case_c() {
    let it = explain("in=pcie s1=normal-wb s2=normal-wb fwb=1 no-snoop=1 canwbs=0 mtcfg=1 memattr=0b0101 shcfg=osh");
    assert_eq!(it["type"], "normal-nc");
    let text = notes(&it);
    assert!(text.contains("Not coherent") && text.contains("case C") && text.contains("configuration space"), "{text}");
    assert!(it["because"].as_array().unwrap().iter().all(|b| b["checked"] == "read"));
    let last = it["because"].as_array().unwrap().last().unwrap();
    assert_eq!(last["source"], "IHI 0070 13.6.1.1");
    // Without No Snoop, coherent; Device is not touched by it.
    assert!(notes(&explain("s1=normal-nc s2=normal-wb fwb=1")).starts_with("Coherent"));
    assert_eq!(explain("s1=device-ngnre no-snoop=1")["type"], "device-ngnre");
}

#[test]
fn thread_004_case_b() {
    let text = notes(&explain("s1=normal-nc s2=normal-wb"));
    assert!(text.contains("case B") && text.contains("S2FWB") && !text.contains("case C"), "{text}");
    // Both: not No Snoop alone.
    let text = notes(&explain("s1=normal-nc no-snoop=1"));
    assert!(text.contains("case B") && !text.contains("case C"), "{text}");
}

#[test]
fn canwbs_promises_for_memory() {
    for terms in ["s1=normal-nc canwbs=1", "s1=normal-nc no-snoop=1 canwbs=1", "s1=normal-wb no-snoop=1 canwbs=1"] {
        let it = explain(terms);
        assert!(notes(&it).starts_with("Coherent for memory, by firmware's promise"), "{terms}: {}", notes(&it));
        assert_eq!(it["because"].as_array().unwrap().last().unwrap()["checked"], "second-hand");
    }
    // The attributes are as they are.
    assert_eq!(explain("s1=normal-nc canwbs=1")["type"], "normal-nc");
}

#[test]
fn overrides() {
    assert_eq!(explain("mtcfg=1 memattr=0b0101")["type"], "normal-wb");
    assert_eq!(explain("mtcfg=1 memattr=0b0101 pcie-override=1")["type"], "normal-nc");
    assert_eq!(explain("ste-type=normal-nc pcie-override=1")["type"], "normal-nc");
    assert_eq!(explain("ste-type=normal-nc pcie-override=1 ovr=0")["type"], "normal-wb");
    assert_eq!(explain("in=none mtcfg=1 memattr=4")["type"], "device-ngnrne");
    assert_eq!(explain("in=none mtcfg=0 memattr=5")["type"], "normal-wb");
    assert!(notes(&explain("in=none")).contains("Non-shareable"));
    assert!(refused("mtcfg=1").contains("add memattr="));
    assert!(refused("memattr=5").contains("add mtcfg=1"));
    assert!(refused("ste-type=normal-nc memattr=5").contains("give ste-type=TYPE"));
    assert!(refused("mtcfg=1 memattr=16").contains("0 to 15"));
    assert!(refused("s1=mmu-off").contains("s1=bypass"));
    assert!(refused("s1-sh=ish").contains("add s1="));
    assert!(refused("s2=bypass s2-sh=ish").contains("add s2="));
}

/// 5.4: what is Tagged Write-Back to a CPU is reserved here, and inner Write-Through.
#[test]
fn a_reserved_mair_byte() {
    let it = explain("s1=normal-wb-tagged");
    assert_eq!(it["type"], "normal-iwt-owb");
    assert!(it["because"].as_array().unwrap().iter().any(|b| b["source"] == "IHI 0070 5.4 CD.MAIR1, 3.23"), "{it}");
    assert_eq!(explain("s1=mair=0xf0"), it);
    // S2FWB lifts it.
    assert_eq!(explain("s1=mair=0xf0 s2=normal-wb fwb=1")["type"], "normal-wb");
}

#[test]
fn an_entry() {
    let args = ["decode", "ste", "0x4000100f", "0x1000020000d4", "0x44d359000000001", "0x80000000", "--json"];
    let it: Value = serde_json::from_str(&stdout(&args)).unwrap();
    assert_eq!((&it["says"], &it["type"]), (&"stage 1 and stage 2 translate: nested".into(), &Value::Null));
    let fields = it["fields"].as_array().unwrap();
    let of = |name: &str| fields.iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(of("S1ContextPtr")["means"], "context descriptors at 0x40001000");
    assert_eq!((&of("S2FWB")["value"], &of("S2FWB")["low"]), (&1.into(), &89.into()));
    assert_eq!((&of("S2T0SZ")["means"], &of("S2PS")["means"]), (&"48 bits of input address".into(), &"48 bits".into()));
    assert_eq!(of("S2TTB")["means"], "tables at 0x80000000");
    assert_eq!(it["notes"].as_array().unwrap().len(), 1, "{it}");
    let wide: Vec<_> = stdout(&args[..6]).lines().filter(|l| l.chars().count() > 100).map(String::from).collect();
    assert_eq!(wide, Vec::<String>::new());
}
