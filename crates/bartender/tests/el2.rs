//! The machine `el2`, by way of the command. These tests start QEMU: `cargo test -p bartender --test el2 -- --ignored`, after
//! `bartender lab setup`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::{json, run};

#[test]
#[ignore = "starts QEMU"]
fn the_sweep_is_explained_to_the_last_combination() {
    let it = json(&["sweep", "--json"]);
    assert_eq!(it["combinations"], 131_072);
    assert_eq!(it["unexplained"].as_array().unwrap().len(), 0, "{}", it["unexplained"][0]);
    assert_eq!(it["agree"].as_u64().unwrap() + it["known"].as_u64().unwrap(), 131_072);
    let classes: Vec<(&str, u64)> = it["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["class"].as_str().unwrap(), d["count"].as_u64().unwrap()))
        .collect();
    // Of QEMU 10.0: another release that departs in other ways is news.
    let expected = [
        ("reserved-mair", 7312),
        ("reserved-memattr", 10352),
        ("reserved-memattr-fwb", 7488),
        ("fwb-memattr-bit-3", 23360),
        ("fwb-device-over-device", 192),
        ("xs-not-reported", 8624),
        ("xs-device-mair", 528),
        ("xs-normal-mair", 144),
        ("cacheability-as-device", 816),
        ("transient-lost", 4176),
        ("reserved-sh", 14625),
        ("reserved-mair-sh", 702),
    ];
    assert_eq!(classes, expected, "{}", it["machine"]);
    assert!(it["seconds"].as_f64().unwrap() < 5.0, "{}", it["seconds"]);
}

#[test]
#[ignore = "starts QEMU"]
fn the_sweep_without_fwb() {
    let it = json(&["sweep", "--cpu", "neoverse-n1", "--json"]);
    assert_eq!(it["combinations"], 65_536);
    assert_eq!(it["unexplained"].as_array().unwrap().len(), 0, "{}", it["unexplained"][0]);
}

#[test]
#[ignore = "starts QEMU"]
fn what_is_no_processor_is_refused() {
    let out = run(&["sweep", "--cpu", "z80", "--json"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(out.stdout.is_empty());
}
