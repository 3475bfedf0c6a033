//! `bartender probe`, on ordinary memory and on what is not there.
#![forbid(unsafe_code)]
#![cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::{json, refused, stdout};

#[test]
fn itself() {
    let it = json(&["probe", "--self", "--json"]);
    let mapping = &it["mappings"][0];
    let tests = mapping["report"]["tests"].as_array().unwrap();
    let verdict = |name: &str| tests.iter().find(|t| t["name"] == name).unwrap()["verdict"].as_str().unwrap();
    for name in ["aligned-store", "wide-and-narrow", "unaligned-store", "holes", "restored"] {
        assert!(verdict(name).starts_with("observed-always("), "{name}: {it:#}");
    }
    assert!(tests.iter().all(|t| !t["verdict"].as_str().unwrap().starts_with("corrupt")));
    assert_eq!(mapping["report"]["restored"], true);
    // The record says on what it was measured.
    for field in ["kernel", "arch", "cpu", "page"] {
        assert!(!it["machine"][field].is_null(), "{field}");
    }
    if cfg!(target_arch = "aarch64") {
        assert_eq!(mapping["report"]["kind"], "normal");
        assert!(mapping["agreement"]["agrees"].is_object(), "{it:#}");
    }
    if cfg!(target_arch = "x86_64") {
        // The control that combines by the architecture, and the one that cannot. A busy machine blurs some curves, not most.
        let control = |i: usize| it["controls"][i]["verdict"].as_str().unwrap();
        assert!(control(0).starts_with("observed-"), "{it:#}");
        assert_ne!(control(1), "observed-always(16)", "{it:#}");
    }
}

#[test]
fn from_an_offset_that_is_not_there() {
    assert!(refused(&["probe", "--self", "--offset", "0x10000"]).contains("--offset"));
    assert!(stdout(&["probe", "--self", "--offset", "0xff80", "--time", "5"]).contains("there again"));
}

#[test]
fn what_is_not_understood() {
    for (args, says) in [
        (&["probe", "ffff:1f:1f.7", "0"] as &[_], "there is no ffff:1f:1f.7"),
        (&["probe", "0000:00:00.0", "6"], "0..6"),
        (&["probe", "--self", "--scratch"], "cannot be used with"),
        (&["probe"], "required"),
    ] {
        let message = refused(args);
        assert!(message.contains(says), "{args:?}: {message}");
    }
}
