//! The command's Arm half beyond the two stages: the controls of `explain`, and `decode pte`.
#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use serde_json::Value;

fn words(args: &str) -> Vec<&str> {
    args.split_whitespace().collect()
}

fn text(args: &str) -> String {
    let text = common::stdout(&words(args));
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{args}: {line}");
        assert_eq!(line, line.trim_end(), "{args}");
    }
    text
}

fn json(args: &str) -> Value {
    common::json(&words(&format!("{args} --json")))
}

fn refused(args: &str) -> String {
    common::refused(&words(args))
}

#[test]
fn explain_with_nothing_said_is_a_guest_that_runs() {
    let it = json("explain normal-nc normal-nc");
    let regime = &it["regime"];
    for (key, value) in [("sctlr_m", true), ("sctlr_c", true), ("sctlr_i", true), ("hcr_dc", false), ("hcr_cd", false)]
    {
        assert_eq!(regime[key], value, "{key}");
    }
    assert_eq!((&regime["access"], &regime["quirk"]), (&"data".into(), &Value::Null));
    assert_eq!((&regime["permission"], &regime["permission_stage"]), (&"ok".into(), &Value::Null));
    assert_eq!(json("explain mmu-off normal-nc")["regime"]["sctlr_m"], false);
    // Said or not, it is the same.
    assert_eq!(it, json("explain normal-nc normal-nc access=data sctlr.m=1 sctlr.c=1 sctlr.i=1 hcr.cd=0 hcr.ptw=0"));
}

#[test]
fn explain_has_the_guarantees_of_the_result() {
    let it = json("explain normal-nc normal-nc --fwb");
    let all = it["guarantees"].as_array().unwrap();
    let of = |question: &str| all.iter().find(|g| g["question"] == question).unwrap();
    assert_eq!(of("gather")["standing"], "permitted");
    assert_eq!(of("orders")["by"][0], "DMB OSHST");
    assert!(of("unaligned")["source"].as_str().unwrap().starts_with("DDI 0487 B2.8.2"));
    assert!(all.iter().all(|g| g["checked"] == "read"));
}

#[test]
fn the_controls_change_the_result() {
    for (terms, ty, stage1) in [
        ("normal-wb normal-wb sctlr.c=0", "normal-nc", "normal-nc"),
        ("normal-wb normal-wb sctlr.c=0 --fwb", "normal-wb", "normal-nc"),
        ("normal-wb normal-wb hcr.cd=1", "normal-nc", "normal-wb"),
        ("normal-wb normal-wb hcr.cd=1 --fwb", "normal-nc", "normal-wb"),
        ("normal-wb normal-wb hcr.id=1", "normal-wb", "normal-wb"),
        ("normal-wb normal-wb hcr.id=1 access=fetch", "normal-nc", "normal-wb"),
        ("normal-wb normal-wb sctlr.i=0 access=fetch", "normal-nc", "normal-nc"),
        ("device-ngnrne normal-wb hcr.dc=1", "normal-wb", "normal-wb"),
        ("mmu-off normal-wb", "device-ngnrne", "device-ngnrne"),
        ("mmu-off normal-wb access=fetch", "normal-wt", "normal-wt"),
        ("mmu-off normal-wb access=fetch sctlr.i=0", "normal-nc", "normal-nc"),
        ("normal-wb device-ngnre access=walk", "normal-nc", "normal-wb"),
        ("normal-nc normal-nc quirk=nc-as-device", "device-ngnre", "device-ngnre"),
    ] {
        let it = json(&format!("explain {terms}"));
        assert_eq!((&it["type"], &it["regime"]["stage1_type"]), (&ty.into(), &stage1.into()), "{terms}");
        let text = text(&format!("explain {terms}"));
        assert!(text.contains("because"), "{terms}");
    }
    let it = json("explain normal-nc normal-nc quirk=nc-as-device");
    assert_eq!((&it["unaligned"], &it["fault_stage"]), (&"fault".into(), &1.into()));
    assert_eq!(it["stage1"]["type"], "normal-nc");
    assert!(it["because"][0].as_str().unwrap().contains("NV-Kernels"));
    let it = json("explain normal-wb device-ngnre access=walk hcr.ptw=1");
    assert_eq!((&it["regime"]["permission"], &it["regime"]["permission_stage"]), (&"fault".into(), &2.into()));
    let it = json("explain device-ngnre normal-nc access=fetch");
    assert_eq!((&it["regime"]["permission"], &it["regime"]["permission_stage"]), (&"may-fault".into(), &1.into()));
}

#[test]
fn the_picture_shows_what_a_control_made_of_a_stage() {
    let shown = text("explain normal-wb normal-wb sctlr.c=0 hcr.cd=1");
    let lines: Vec<_> = shown.lines().take(6).map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[0], "stage 1 Normal-WB ish MAIR byte 0xff");
    assert_eq!(lines[1], "Normal-NC ish SCTLR_EL1.C = 0");
    assert_eq!(lines[2], "stage 2 Normal-WB ish MemAttr 0b1111, no FWB");
    assert!(lines[4].starts_with("result Normal-NC osh"), "{shown}");
    // A control that changes nothing shows nothing.
    assert_eq!(text("explain device-ngnre normal-nc"), text("explain device-ngnre normal-nc sctlr.c=0"));
    assert!(text("explain normal-wb normal-wb access=fetch").contains("instruction fetch       ok"));
}

#[test]
fn terms_that_are_none_are_refused() {
    assert!(refused("explain normal-nc").contains("two stages"));
    assert!(refused("explain normal-nc normal-nc device-gre").contains("LAYER=TYPE"));
    assert!(refused("explain normal-nc normal-nc sctlr.cc=1").contains("did you mean sctlr.c?"));
    assert!(refused("explain normal-nc normal-nc hcr.cd=2").contains("one of: 0, 1"));
    assert!(refused("explain normal-nc normal-nc hcr.cd=1 hcr.cd=1").contains("twice"));
    assert!(refused("explain normal-nc normal-nc access=store").contains("one of: data, fetch, walk"));
    assert!(refused("explain normal-nc normal-nc quirk=none").contains("nc-as-device"));
    assert!(refused("explain mmu-off normal-nc sctlr.m=1").contains("contradict"));
    assert!(refused("explain device-gre normal-nc access=walk").contains("TCR_EL1"));
}

#[test]
fn decode_pte() {
    let it = json("decode pte 0x006800001000070b");
    assert_eq!((&it["type"], &it["says"]), (&"normal-nc".into(), &"4 KiB page, Normal-NC".into()));
    let attr = it["fields"].as_array().unwrap().iter().find(|f| f["name"] == "AttrIndx").unwrap().clone();
    assert_eq!((&attr["high"], &attr["low"], &attr["value"]), (&4.into(), &2.into(), &2.into()));
    assert_eq!(json("decode pte --mair 0x040000 0x006800001000070b")["type"], "device-ngnre");
    let shown = text("decode pte --stage 2 0x00400000100007c7");
    assert!(shown.contains("Device-nGnRE (without FWB)") && shown.contains("faults at stage 2"), "{shown}");
    assert_eq!(json("decode pte --stage 2 --fwb 0x00400000100007d7")["type"], Value::Null);
    assert!(text("decode pte --level 2 0x8000001003").contains("next table at 0x8000001000"));
    assert!(text("decode pte 0").contains("not valid"));
    assert_eq!(json("decode pte --arch riscv 0x20000000200000c7")["type"], "nc");
    assert_eq!(json("decode pte --arch x86 0x80000000fe00006b")["type"], "wc");
    // The table after reset has no write-combining: PWT selects WT.
    assert_eq!(json("decode pte --arch x86 --pat 0x0007040600070406 0x80000000fe00006b")["type"], "wt");
    assert_eq!(json("decode pte --arch x86 --level 2 0x10e3")["type"], "wb");
}

#[test]
fn options_of_another_table_are_refused() {
    assert!(refused("decode pte --fwb 0x3").contains("add --stage 2"));
    assert!(refused("decode pte --stage 2 --mair 0x44 0x3").contains("--mair is of stage 1"));
    assert!(refused("decode pte --arch riscv --stage 2 0x3").contains("of arm64"));
    assert!(refused("decode pte --arch riscv --level 2 0x3").contains("--level"));
    assert!(refused("decode pte --pat 0x7 0x3").contains("--pat is of x86"));
    assert!(refused("decode pte pte").contains("not a number"));
    assert!(refused("decode pte --level 4 0x3").contains("none of Arm's"));
    assert!(refused("decode pte --arch x86 --level 0 0x3").contains("level 0 is none"));
    refused("decode pte --arch x86 --level 6 0x3");
    refused("decode pte --stage 3 0x3");
}
