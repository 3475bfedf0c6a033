//! The commands for RISC-V, Power and Linux's mappings, as people run them.
#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::process::Command;

use common::{json, refused, stdout};
use serde_json::Value;

/// By the rule "the last that is not 0 decides", in numbers.
#[test]
fn table_riscv_csv() {
    let csv = stdout(&["table", "riscv", "--csv"]);
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 18);
    assert_eq!(lines[0], "pma,g,vs,type");
    let names = ["pma-main", "pma-io", "nc", "io"];
    let mut row = 1;
    for (pma, beneath) in [("main", 0), ("io", 1)] {
        for g in 0..3 {
            for vs in 0..3 {
                let last = [beneath, g, vs].into_iter().enumerate().rfind(|(i, v)| *i == 0 || *v != 0).unwrap();
                let ty = if last.0 == 0 { last.1 } else { last.1 + 1 };
                assert_eq!(lines[row], format!("{pma},{g},{vs},{}", names[ty]));
                row += 1;
            }
        }
    }
    let it = json(&["table", "riscv", "--json"]);
    assert_eq!(it.as_array().unwrap().len(), 18);
    assert_eq!((&it[16]["g"], &it[16]["type"]), (&2.into(), &"nc".into()));
}

#[test]
fn explain_riscv() {
    for (terms, ty, rules) in [
        (&["pma=io", "g=2", "vs=1"] as &[&str], "nc", 5),
        (&["pma=IO", "g=io", "vs=nc"], "nc", 5),
        (&["pma=main", "g=0", "vs=io"], "io", 4),
        (&["pma=main"], "pma-main", 1),
        (&["pma=io", "g=bare", "vs=bare"], "pma-io", 1),
        (&["vs=3"], "page-fault", 2),
        (&["g=3", "vs=1"], "guest-page-fault", 2),
        (&["vs=1", "svpbmt=0"], "page-fault", 2),
        (&["g=1", "svpbmt=0"], "guest-page-fault", 2),
        (&["pma=io", "svpbmt=0"], "pma-io", 1),
    ] {
        let args: Vec<_> = ["explain", "--arch", "riscv", "--json"].iter().chain(terms).copied().collect();
        let it = json(&args);
        assert_eq!(it["type"], ty, "{terms:?}");
        assert_eq!(it["because"].as_array().unwrap().len(), rules, "{terms:?}");
        assert!(it["because"].as_array().unwrap().iter().all(|b| b["checked"] == "read"));
        assert_eq!(it["guarantees"].as_array().unwrap().is_empty(), ty.ends_with("fault"), "{terms:?}");
    }
    assert!(refused(&["explain", "--arch", "riscv", "vs=wc"]).contains("pma, nc, io"));
    assert!(refused(&["explain", "--arch", "riscv", "pat=wc"]).contains("pma, g, vs, svpbmt"));
    assert!(refused(&["explain", "--arch", "riscv", "g=1", "g=2"]).contains("twice"));
}

#[test]
fn explain_power() {
    for (host, guest, ty) in [
        ("ig", "ig", "ig"),
        ("i", "ig", "ig"),
        ("ig", "i", "i"),
        ("ig", "0b0100", "i"),
        ("ig", "im", "i"),
        ("ig", "m", "refused"),
        ("ig", "wi", "refused"),
        ("ig", "sao", "refused"),
        ("m", "i", "m"),
        ("m", "m", "m"),
        ("m", "sao", "sao"),
        ("m", "0", "m"),
    ] {
        let (host, guest) = (format!("host={host}"), format!("guest={guest}"));
        let it = json(&["explain", "--arch", "power", &host, &guest, "--json"]);
        assert_eq!(it["type"], ty, "{host} {guest}");
        assert!(it["because"][0]["source"].as_str().unwrap().contains("hpte_cache_flags_ok"));
    }
    assert!(stdout(&["explain", "--arch", "power", "guest=m"]).contains("refused: H_PARAMETER"));
    assert!(refused(&["explain", "--arch", "power", "host=i"]).contains("guest="));
    assert!(refused(&["explain", "--arch", "power", "guest=ii"]).contains("WIMG"));
    assert!(refused(&["explain", "--arch", "power", "guest=16"]).contains("0 to 15"));
}

#[test]
fn decode_pbmt() {
    for (value, ty, says) in [
        ("0x20000000200000c7", Value::from("nc"), "write-combining"),
        ("0x40000000200000c7", Value::from("io"), "registers"),
        ("0x200000c7", Value::Null, "the platform decides"),
        ("0x60000000200000c7", Value::Null, "reserved"),
        ("0x20000001", Value::Null, "next level"),
        ("0", Value::Null, "not valid"),
    ] {
        let it = json(&["decode", "pbmt", value, "--json"]);
        assert_eq!(it["type"], ty, "{value}");
        assert!(it["says"].as_str().unwrap().contains(says), "{value}: {}", it["says"]);
    }
    assert!(refused(&["decode", "pbmt", "2000c7"]).contains("0x2000c7"));
}

#[test]
fn table_linux() {
    let csv = stdout(&["table", "linux", "--csv"]);
    let lines: Vec<Vec<_>> = csv.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!(lines[0][..6], ["arch", "helper", "attribute", "type", "condition", "source"]);
    assert_eq!(lines.len(), 1 + 6 * 11);
    assert!(lines.iter().all(|l| l.len() == lines[0].len()));
    let row = |arch: &str, helper: &str| lines.iter().find(|l| l[0] == arch && l[1] == helper).unwrap().clone();
    assert_eq!(row("arm64", "pgprot_noncached")[2..4], ["MT_DEVICE_nGnRnE", "device-ngnrne"]);
    assert_eq!(row("x86", "ioremap_np")[2..4], ["returns NULL", "-"]);
    let wc = row("riscv", "ioremap_wc");
    assert_eq!((wc[3], wc[6], wc[7]), ("io", "pma-io", "nc"));
    let wc = row("s390", "arch_can_pci_mmap_wc");
    assert_eq!((wc[2], wc[7]), ("no", "yes"));
    for name in lines[1..].iter().flat_map(|l| [(l[0], l[3]), (l[0], l[6])]).filter(|(_, ty)| *ty != "-") {
        assert!(memtype::MemoryType::named(&format!("{}:{}", name.0, name.1)).is_some(), "{name:?}");
    }
}

#[test]
fn lines_for_people_are_short() {
    for args in [
        &["table", "riscv"] as &[_],
        &["table", "linux"],
        &["explain", "--arch", "riscv", "pma=io", "g=io", "vs=nc"],
        &["explain", "--arch", "riscv", "g=3"],
        &["explain", "--arch", "power", "guest=i"],
        &["explain", "--arch", "power", "guest=m"],
        &["decode", "pbmt", "0x20000000200000c7"],
        &["decode", "pbmt", "0xffffffffffffffff"],
    ] {
        let text = stdout(args);
        assert!(!text.contains('\u{1b}') && text.is_ascii() || text.contains('─'), "{args:?}");
        for line in text.lines() {
            assert!(line.chars().count() <= 100 && !line.ends_with(' '), "{args:?}: {line:?}");
        }
    }
}

#[test]
fn what_is_not_known_is_said() {
    let out = Command::new(env!("CARGO_BIN_EXE_bartender"))
        .args(["explain", "--arch", "loongarch", "guest=wuc", "--json"])
        .output()
        .unwrap();
    let it: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&it["type"], &it["because"][0]["checked"]), (&"unknown".into(), &"unverified".into()));
    let out =
        Command::new(env!("CARGO_BIN_EXE_bartender")).args(["explain", "--arch", "s390", "x=y"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("--type s390:mio-wc"));
}
