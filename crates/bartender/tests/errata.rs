//! `bartender errata`, as it is run.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use platform::errata;

fn stdout(args: &[&str]) -> String {
    common::stdout(&[&["errata"], args].concat())
}

fn names(args: &[&str]) -> Vec<String> {
    let all = common::json(&[&["errata", "--json"], args].concat());
    all.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn text_fits() {
    let mut runs = vec![stdout(&[]), stdout(&["--cpu", "0x411fd072"]), stdout(&["--soc", "brcm,bcm2711"])];
    runs.extend(errata::all().iter().map(|e| stdout(&[&e.name])));
    for text in runs {
        for line in text.lines() {
            // A Message-ID is one word.
            assert!(line.chars().count() <= 100 || line.contains('@'), "{line:?}");
            assert!(!line.ends_with(' '), "{line:?}");
        }
    }
}

#[test]
fn the_list_has_every_entry_once() {
    let text = stdout(&[]);
    let starts: Vec<_> = text.lines().filter(|l| !l.starts_with(' ')).map(|l| l.split(' ').next().unwrap()).collect();
    let all: Vec<_> = errata::all().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(starts, all);
    assert_eq!(names(&[]), all);
    // The mark of each stands under its name.
    for (e, mark) in errata::all().iter().zip(text.lines().filter(|l| !l.starts_with(' ')).map(|l| {
        let rest = &text[text.find(l).unwrap()..];
        rest.lines()
            .map(str::trim)
            .find(|l| ["read", "second-hand", "unverified"].iter().any(|m| l.starts_with(m)))
            .unwrap()
    })) {
        assert!(mark.starts_with(e.checked.name()), "{}: {mark}", e.name);
    }
}

#[test]
fn one_entry_with_all_that_is_known() {
    for e in errata::all() {
        let text = stdout(&[&e.name]);
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let parts = [&e.title, &e.breaks, &e.workaround].into_iter().chain(&e.source).chain(&e.note).chain(&e.no_id);
        for part in parts {
            let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(squeezed.contains(&part), "{}: {part}\n{text}", e.name);
        }
        assert!(squeezed.ends_with(&format!("checked {}", e.checked.name())), "{text}");
        for id in e.matches.root_port.iter().map(ToString::to_string).chain(e.matches.soc.iter().cloned()) {
            assert!(squeezed.contains(&id), "{id}\n{text}");
        }
    }
    let text = stdout(&["altra-pcie65"]);
    assert!(text.contains("normal-nc = \"holes\""), "{text}");
    let text = stdout(&["brcmstb-pcie-abort"]);
    assert!(text.contains("errors = \"uncontained\""), "{text}");
    let text = stdout(&["bcm2711-pcie"]);
    assert!(text.contains("normal-nc = \"long\", coherent = false"), "{text}");
    let text = stdout(&["cortex-a77-1508412"]);
    assert!(text.contains("Arm Cortex-A77 up to r1p0"), "{text}");
}

#[test]
fn by_ids() {
    assert_eq!(names(&["--cpu", "0x411fd0d0"]), ["cortex-a77-1508412"]);
    assert_eq!(names(&["--cpu", "0x0000_0000_411f_d0d0"]), ["cortex-a77-1508412"]);
    assert_eq!(names(&["--root-port", "1def:e100", "--root-port", "8086:1234"]), ["altra-pcie65"]);
    assert_eq!(names(&["--root-port", "1def:e100", "--soc", "rockchip,rk3566"]), ["altra-pcie65", "rk356x-dma"]);
    assert_eq!(stdout(&["--cpu", "0x411fd0d0"]).lines().next(), Some("0x411fd0d0 is Arm Cortex-A77 r1p0"));
    let none = stdout(&["--cpu", "0x413fd0c1"]);
    assert!(none.starts_with("0x413fd0c1 is Arm Neoverse N1 r3p1\n") && none.contains("says nothing"), "{none}");
    assert!(names(&["--cpu", "0x413fd0c1"]).is_empty());
}

#[test]
fn json_is_what_the_table_says() {
    let all = common::json(&["errata", "altra-pcie65", "--json"]);
    let it = &all[0];
    assert_eq!(it["effect"], serde_json::json!({ "normal-nc": "holes" }));
    assert_eq!(it["checked"], "read");
    assert_eq!(it["match"]["root-port"][0], "1def:e100");
    let all = common::json(&["errata", "cortex-a57-832075", "--json"]);
    assert_eq!(all[0]["match"]["cpu"][0], serde_json::json!({ "implementer": 0x41, "part": 0xd07, "to": "r1p2" }));
}

#[test]
fn bad_input_says_what_would_be_right() {
    let refused = |args: &[&str]| common::refused(&[&["errata"], args].concat());
    assert!(refused(&["altra"]).contains("did you mean altra-pcie65?"));
    assert!(refused(&["--cpu", "413fd0c1"]).contains("0x413fd0c1"));
    assert!(refused(&["--cpu", "0x1413fd0c1"]).contains("63 to 32"));
    assert!(refused(&["--root-port", "1def"]).contains("1def:e100"));
    assert!(refused(&["--root-port", "1def:e1000"]).contains("1def:e1000"));
    assert!(refused(&["altra-pcie65", "--cpu", "1"]).contains("cannot be used"));
}
