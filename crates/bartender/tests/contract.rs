//! `bartender contract`, and `table smmu`, `explain --arch smmu`, `decode ste`, as people run them.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::{json, refused, stdout};

#[test]
fn one_contract_in_json() {
    let it = json(&["contract", "wc-memory", "--json"]);
    assert_eq!((&it["name"], &it["extends"]), (&"wc-memory".into(), &"wc".into()));
    let clauses = it["clauses"].as_array().unwrap();
    assert!(clauses.iter().all(|c| ["rely", "tolerate", "hope"].contains(&c["kind"].as_str().unwrap())));
    let types = it["types"].as_array().unwrap();
    let of = |arch: &str, ty: &str| types.iter().find(|t| t["arch"] == arch && t["type"] == ty).unwrap();
    assert_eq!(of("arm64", "normal-nc")["verdict"], "satisfied");
    let device = of("arm64", "device-ngnre");
    assert_eq!(device["verdict"], "broken");
    let zero = device["clauses"].as_array().unwrap().iter().find(|c| c["id"] == "WM-2").unwrap();
    assert_eq!(
        (&zero["verdict"], &zero["standing"], &zero["checked"]),
        (&"broken".into(), &"forbidden".into(), &"read".into())
    );
    assert!(zero["source"].as_str().unwrap().starts_with("DDI 0487"));
}

#[test]
fn all_contracts_and_one_type() {
    let all = json(&["contract", "--json"]);
    let names: BTreeSet<&str> = all.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.is_superset(&BTreeSet::from(["wc", "wc-memory", "register", "cacheable", "ioremap", "rdma-wc"])));
    let nc = json(&["contract", "--type", "riscv:nc", "--json"]);
    assert_eq!((&nc["arch"], &nc["type"]), (&"riscv".into(), &"nc".into()));
    assert_eq!(nc["guarantees"].as_array().unwrap().len(), 19);
    let standings: BTreeSet<&str> =
        nc["guarantees"].as_array().unwrap().iter().filter_map(|g| g["standing"].as_str()).collect();
    let known = BTreeSet::from(["guaranteed", "permitted", "forbidden", "implementation-defined"]);
    assert!(standings.is_subset(&known), "{standings:?}");
}

#[test]
fn csv_has_a_row_for_each_contract_and_type() {
    let text = stdout(&["contract", "--csv"]);
    assert!(text.starts_with("contract,arch,type,verdict,unverified,unmet\n"));
    assert!(text.lines().all(|line| line.split(',').count() == 6));
    assert!(text.contains("wc-memory,arm64,device-gre,broken,0,"));
    assert_eq!(text.lines().count(), 1 + 11 * 24);
}

#[test]
fn text_names_what_fails() {
    let text = stdout(&["contract", "wc-memory"]);
    assert!(text.contains("WM-2: zero-line is forbidden (DC ZVA"), "{text}");
    let text = stdout(&["contract", "wc", "--type", "x86:uc"]);
    assert!(text.starts_with("x86:uc satisfies wc"), "{text}");
    assert!(refused(&["contract", "wcc"]).contains("did you mean wc?"));
    assert!(refused(&["contract", "--type", "arm64:normal"]).contains("did you mean arm64:normal-"));
}

#[test]
fn the_smmu() {
    let text = stdout(&["table", "smmu", "--csv"]);
    assert!(text.starts_with("s1,s2fwb,s2_memattr,no_snoop,type,sh,coherent\n"));
    assert_eq!(text.lines().count(), 1 + 8 * 2 * 17 * 2);
    // S2FWB's force is undone by No Snoop, whatever stage 1 said.
    for s1 in ["bypass", "device-ngnre", "normal-nc", "normal-wb"] {
        assert!(text.contains(&format!("{s1},1,6,0,normal-wb,ish,1\n")), "{s1}");
        assert!(text.contains(&format!("{s1},1,6,1,normal-nc,osh,0\n")), "{s1}");
    }
    let it = json(&[
        "explain",
        "--arch",
        "smmu",
        "s1=normal-wb",
        "s2=normal-wb",
        "fwb=1",
        "no-snoop=1",
        "canwbs=1",
        "--json",
    ]);
    assert_eq!(it["type"], "normal-wb");
    assert!(it["because"].as_array().unwrap().iter().any(|b| b["checked"] == "second-hand"));
    let it = json(&["explain", "--arch", "smmu", "in=none", "ste-type=device-ngnre", "--json"]);
    assert_eq!(it["type"], "device-ngnre");
    assert!(refused(&["explain", "--arch", "smmu", "fwb=1"]).contains("add s2="));
    assert!(refused(&["explain", "--arch", "smmu", "shcgf=osh"]).contains("did you mean shcfg?"));
    let it = json(&["decode", "ste", "0x9", "0x100000000000", "--json"]);
    assert_eq!((&it["type"], it["value"].as_array().unwrap().len()), (&"normal-wb".into(), 8));
}
