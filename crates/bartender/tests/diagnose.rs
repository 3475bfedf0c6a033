//! `bartender diagnose`: what it prints, its exit codes, and docs/diagnose.md, which is written from the table of cases.
//! `UPDATE_DOCS=1 cargo test -p bartender --test diagnose` writes it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use serde_json::Value;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn bartender(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bartender"))
        .arg("diagnose")
        .args(args)
        .current_dir(root())
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who does not read a log closes it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn text(args: &[&str]) -> (i32, String, String) {
    let out = bartender(args, b"");
    (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
}

fn json(args: &[&str]) -> Value {
    let out = bartender(args, b"");
    serde_json::from_slice(&out.stdout).unwrap()
}

const LINE: &str = "kvm [1234]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061";

#[test]
fn a_symptom_by_line_syndrome_call_and_words() {
    for (symptom, case) in [
        (&[LINE][..], "stage2-alignment"),
        (&["esr", "0x92000061"], "stage2-alignment"),
        (&["0x92000061"], "stage2-alignment"),
        (&["esr_el1", "0x92000061"], "process-alignment"),
        (&["EINVAL", "KVM_SET_USER_MEMORY_REGION", "mte"], "slot-mte"),
        (&["EFAULT", "KVM_RUN"], "kvm-run-efault"),
        (&["slow"], "device-type-slow"),
    ] {
        let mut args = vec!["--no-host"];
        args.extend(symptom);
        let (code, out, err) = text(&args);
        assert_eq!((code, err.as_str()), (0, ""), "{symptom:?}");
        // Below the syndrome in words, if it is one.
        assert!(out.lines().any(|line| line.starts_with(&format!("{case}  "))), "{symptom:?}: {out}");
        assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
        args.push("--json");
        let found = json(&args);
        assert_eq!(found["found"][0]["case"], case, "{symptom:?}");
        assert_eq!(found["found"][0]["host"], Value::Array(Vec::new()));
    }
    assert_eq!(json(&["--no-host", "esr", "0x92000061", "--json"])["esr"]["register"], "ESR_EL2");
}

#[test]
fn the_facts_of_this_machine_are_said() {
    let (code, out, err) = text(&["slow"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("device-type-slow"), "{out}");
    // The case needs arm64: on another machine it is ruled out, and shown all the same, since nothing else is found.
    let it = &json(&[LINE, "--json"])["found"][0];
    let arm64 = cfg!(target_arch = "aarch64");
    assert_eq!(it["standing"] == "ruled-out", !arm64, "{it}");
    let (_, out, _) = text(&[LINE]);
    assert_eq!(out.contains("note: this machine cannot have it"), !arm64, "{out}");
}

#[test]
fn exit_codes() {
    let (code, out, _) = text(&["--no-host", "the printer is on fire"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("not known here") && out.contains("bartender inspect --save") && out.contains("kvmarm@"),
        "{out}"
    );
    let (code, out, _) = text(&["--no-host", "Unsuported FSC: EC=0x24 xFSC=0x21"]);
    assert_eq!(code, 1);
    assert!(out.contains("nearest") && out.contains("stage2-alignment"), "{out}");
    for (args, says) in [
        (&["--case", "stage2-alignmet"][..], "did you mean stage2-alignment?"),
        (&["--log", "no/such/file"], "no/such/file"),
        (&["--device", "ffff:ff:1f.7", "slow"], "--device"),
        (&["--root", "no/such/folder", "slow"], "no/such/folder"),
        (&["--no-host", "esr", "0xzz"], "esr"),
        (&["--no-host", " "], "empty"),
        (&["--no-host", "--device", "0000:00:00.0", "slow"], "cannot be used with"),
        (&["--list", "slow"], "cannot be used with"),
    ] {
        let (code, out, err) = text(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
}

#[test]
fn a_log_from_a_file_or_standard_input() {
    let path = "crates/diagnose/tests/arm64-host.log";
    let file = fs::read(root().join(path)).unwrap();
    let piped = bartender(&["--no-host"], &file);
    let (code, out, err) = text(&["--no-host", "--log", path]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, String::from_utf8(piped.stdout).unwrap());
    assert_eq!(out.as_bytes(), bartender(&["--no-host", "--log", "-"], &file).stdout);
    assert!(out.starts_with("15 lines: 3 cases\n"), "{out}");
    let at = |what: &str| out.find(what).unwrap_or_else(|| panic!("{what}: {out}"));
    assert!(at("\nbar-cant-reserve") < at("line 10, and 2 more to line 13") && at("line 10, and") < at("\nsmmu-fault"));
    let found = json(&["--no-host", "--json", "--log", path]);
    assert_eq!(found["lines"], 15);
    assert_eq!(found["found"][1]["count"], 3);
    assert_eq!(found["found"][1]["lines"][0]["number"], 10);

    let none = bartender(&["--no-host"], b"nothing\nof interest\n");
    assert!(none.status.success());
    assert!(String::from_utf8(none.stdout).unwrap().starts_with("2 lines: none of them"));
    // What a log says cannot write to the terminal.
    let evil = bartender(&["--no-host"], format!("\u{1b}]0;x\u{7}{LINE}\u{1b}[2J\n").as_bytes());
    assert!(!evil.stdout.iter().any(|b| *b == 0x1b || *b == 7));
}

#[test]
fn lists_and_single_cases() {
    let (code, out, _) = text(&["--list"]);
    assert_eq!(code, 0);
    let all = diagnose::all();
    for case in all {
        assert!(out.contains(&format!("  {} ", case.name)), "{}", case.name);
    }
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    assert_eq!(json(&["--list", "--json"]).as_array().unwrap().len(), all.len());
    for case in all {
        assert!(case.name.len() < 28, "{}", case.name);
    }
    let (code, out, _) = text(&["--no-host", "--case", "stage2-alignment"]);
    assert_eq!(code, 0);
    for part in [
        "EC 0x24, FSC 0x21, taken to EL2",
        "needs: arch arm64",
        "likely: kernel-below 6.9",
        "checked    read",
        "example ",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let it = json(&["--no-host", "--json", "--case", "stage2-alignment"]);
    assert_eq!((it["name"].as_str(), it["here"]["standing"].as_str()), (Some("stage2-alignment"), Some("open")));
}

/// The document: every case, by area.
fn document() -> String {
    let mut out = String::from(
        "# Symptoms, causes, remedies\n\nWritten from `crates/diagnose/symptoms.toml` by `UPDATE_DOCS=1 cargo test -p bartender --test diagnose`; do not edit.\n`bartender diagnose` finds these \
         from a line of a log, a syndrome, an errno with its call, or words, and orders them by the facts of\nthe machine.\n\n| mark | means |\n|---|---|\n| read | by whoever found it or made it, or in \
         the code that does it, and that was read |\n| second-hand | somebody else reports it, or only the report was read and not its cause |\n| unverified | said or inferred, with nothing found \
         to check it against |\n",
    );
    let all = diagnose::all();
    let mut areas: Vec<&str> = Vec::new();
    for case in all {
        if !areas.contains(&case.area.as_str()) {
            areas.push(&case.area);
        }
    }
    let code = |text: &str| if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") };
    for area in areas {
        let _ = writeln!(out, "\n## {area}");
        for case in all.iter().filter(|case| case.area == area) {
            let _ = writeln!(out, "\n### {}\n\n{}. ({})\n", case.name, case.title, case.checked.name());
            for pattern in &case.lines {
                let _ = writeln!(out, "- line {}", code(&pattern.text));
            }
            for call in &case.calls {
                let _ = writeln!(out, "- {} from `{}`", call.errno, call.call);
            }
            for esr in &case.esr {
                let hex = |all: &[u8]| all.iter().map(|n| format!("{n:#04x}")).collect::<Vec<_>>().join(", ");
                let fsc = if esr.fsc.is_empty() { String::new() } else { format!(", FSC {}", hex(&esr.fsc)) };
                let _ = writeln!(out, "- a syndrome with EC {}{fsc}", hex(&esr.ec));
            }
            if !case.words.is_empty() {
                let _ = writeln!(out, "- words: {}", case.words.join(", "));
            }
            let _ = writeln!(out, "\n{}\n", diagnose::filled(&case.cause, &[]));
            for (i, remedy) in case.remedy.iter().enumerate() {
                let _ = writeln!(out, "{}. {}", i + 1, diagnose::filled(remedy, &[]));
            }
            let _ = writeln!(out, "\nSources: {}.", case.source.join("; "));
        }
    }
    out
}

#[test]
fn the_document_is_what_the_table_says() {
    let path = root().join("docs/diagnose.md");
    let should = document();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &should).unwrap();
    }
    let is = fs::read_to_string(&path).unwrap();
    for (n, (is, should)) in is.lines().zip(should.lines()).enumerate() {
        assert_eq!(is, should, "docs/diagnose.md:{}: UPDATE_DOCS=1 cargo test -p bartender --test diagnose", n + 1);
    }
    assert_eq!(is.lines().count(), should.lines().count());
}
