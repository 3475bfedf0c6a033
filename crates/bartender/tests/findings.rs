//! The findings beside what they are of: the emulator's own answers, the files and names they speak of.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::{collections::BTreeSet, path::Path};

use bartender::findings::{all, letter};

#[test]
fn names_are_unique_and_nothing_is_empty() {
    let all = all();
    let names: BTreeSet<&str> = all.iter().map(|f| f.name).collect();
    assert_eq!(names.len(), all.len());
    for f in &all {
        let parts = [f.who, &f.says, &f.smallest, &f.right, &f.source, &f.reproduce, f.pinned];
        assert!(parts.iter().all(|p| !p.is_empty()), "{f:?}");
        let squeezed = |text: &str| text.split_whitespace().collect::<String>();
        let letter = squeezed(&letter(f));
        assert!(parts[..6].iter().all(|p| letter.contains(&squeezed(p))), "{f:?}");
    }
}

#[test]
fn every_file_a_command_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut seen = 0;
    for f in all() {
        for word in f.reproduce.split_whitespace().filter(|w| w.starts_with("scenarios/")) {
            assert!(root.join(word).is_file(), "{}: {word}", f.name);
            seen += 1;
        }
    }
    assert!(seen > 5);
}

/// The smallest examples of the emulator's classes are those that it gives.
#[test]
#[ignore = "starts QEMU"]
fn the_emulator_says_what_is_written_down() {
    let found = common::json(&["findings", "--area", "emulator", "--json"]);
    let swept = common::json(&["sweep", "--json"]);
    assert_eq!(swept["combinations"], 131_072);
    assert_eq!(swept["unexplained"].as_array().unwrap().len(), 0);
    for class in swept["differences"].as_array().unwrap() {
        let name = class["class"].as_str().unwrap();
        let finding = found.as_array().unwrap().iter().find(|f| f["name"] == name);
        let smallest = finding.unwrap_or_else(|| panic!("{name} is not written down"))["smallest"].as_str().unwrap();
        let row = &class["smallest"];
        let number = |v: &serde_json::Value| v.as_u64().unwrap();
        let inputs = format!(
            "FWB {}, stage 2 MemAttr 0b{:04b} SH 0b{:02b}, stage 1 MAIR {:#04x} SH 0b{:02b}:",
            u8::from(row["fwb"].as_bool().unwrap()),
            number(&row["s2_memattr"]),
            number(&row["s2_sh"]),
            number(&row["s1_attr"]),
            number(&row["s1_sh"])
        );
        let theirs = &row["machine"];
        let theirs = format!("there ATTR {:#04x} SH 0b{:02b}", number(&theirs["attr"]), number(&theirs["sh"]));
        assert!(smallest.starts_with(&inputs) && smallest.ends_with(&theirs), "{name}: {smallest} / {inputs} {theirs}");
    }
}
