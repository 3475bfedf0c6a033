//! `bartender map`, as far as it goes on any machine: what is refused before anything is mapped.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]

use std::process::{Command, Output, Stdio};

fn map(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartender"));
    command.arg("map").args(args).stdin(Stdio::null()).output().unwrap()
}

/// No machine has it.
const NOBODY: &str = "ffffffff:ff:1f.7";

#[test]
fn bad_input_says_what_would_be_right() {
    for (args, says) in [
        (&[NOBODY, "0"] as &[_], "there is"),
        (&[], "<BDF>"),
        (&[NOBODY, "6"], "0..6"),
        (&["01:00", "0"], "write domain:bus:device.function"),
        (&[NOBODY, "0", "--range", "1+0"], "at least one byte"),
        (&[NOBODY, "0", "--range", "0xffffffffffffffff+1"], "64 bits"),
        (&[NOBODY, "0", "--as", "wc"], "one of: default, uncached, write-combine, cached"),
        (&[NOBODY, "0", "--write", "0=1"], "--scratch"),
        (&[NOBODY, "0", "--write", "0.1=256", "--scratch"], "more than 1 bytes"),
        (&[NOBODY, "0", "--read", "0.3"], "one of: 1, 2, 4, 8"),
        (&[NOBODY, "0", "--part", "0+1=cached", "--range", "0+1"], "cannot be used with"),
    ] {
        let out = map(args);
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let there = words(&text).contains(&words(says)) || args == [NOBODY, "0"] && text.contains("has no PCI");
        assert!(there && out.stdout.is_empty(), "{args:?}: {text}");
    }
}

#[test]
fn every_way_is_listed_with_what_it_needs() {
    let out = map(&["--ways", "--json"]);
    let all: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), bar::Way::ALL.len());
    for one in all {
        let way = bar::Way::named(one["way"].as_str().unwrap()).unwrap();
        assert_eq!(one["gives"].is_null(), way.helper().is_none(), "{way}");
        assert!(!one["needs"].as_str().unwrap().is_empty());
    }
    let text = String::from_utf8(map(&["--ways"]).stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}
