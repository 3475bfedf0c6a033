//! The built command, as people run it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // a helper of a test is one too

mod common;

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{json, refused, run, stdout};
use memtype::arm::{Features, Stage1, Stage2, combine};
use serde_json::Value;

const BARTENDER: &str = env!("CARGO_BIN_EXE_bartender");

#[test]
fn explain_json_is_what_the_issue_asks() {
    let it = json(&["explain", "normal-nc", "device-ngnre", "--json"]);
    assert_eq!(it["type"], "device-ngnre");
    assert_eq!(it["unaligned"], "fault");
    assert_eq!(it["fault_stage"], 2);
    for (key, value) in [("gather", false), ("reorder", false), ("speculate", false), ("cacheable", false)] {
        assert_eq!(it[key], value, "{key}");
    }
    let because = it["because"].as_array().unwrap();
    assert!(because.len() >= 3 && because.iter().all(|b| b.as_str().unwrap().contains("[DDI 0487")));
    assert_eq!(it["inner"], Value::Null);
}

#[test]
fn explain_other_inputs() {
    let it = json(&["explain", "normal-nc", "normal-nc", "--fwb", "--json"]);
    assert_eq!((&it["type"], &it["unaligned"], &it["fault_stage"]), (&"normal-nc".into(), &"ok".into(), &Value::Null));
    assert_eq!(it["gather"], true);
    let it = json(&["explain", "Device-nGnRE", "normal-wb", "--fwb", "--json"]);
    assert_eq!(
        (&it["type"], &it["unaligned"], &it["fault_stage"]),
        (&"normal-wb".into(), &"may-fault".into(), &1.into())
    );
    let it = json(&["explain", "mmu-off", "as-s1", "--fwb", "--json"]);
    assert_eq!((&it["type"], &it["stage1"]["mair"]), (&"device-ngnrne".into(), &Value::Null));
    assert!(it["because"][0].as_str().unwrap().contains("MMU is off"));
    let it = json(&["explain", "mair=0x4f", "memattr=0b1111", "--s2-sh", "osh", "--json"]);
    assert_eq!((&it["type"], &it["inner"], &it["outer"]), (&"normal-iwb-onc".into(), &"wb".into(), &"nc".into()));
    let it = json(&["explain", "mair=2", "memattr=4", "--json"]);
    assert_eq!(it["reserved"].as_array().unwrap().len(), 2);
    assert_eq!(json(&["explain", "normal-wb", "normal-wb", "--json"])["atomics"], "guaranteed");
}

#[test]
fn decode_thread_002() {
    let line = "Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061";
    let text = stdout(&["decode", "esr", line]);
    for word in ["Alignment fault", "stage 2", "DC ZVA", "6.9", "vfio-pci", "HPFAR_EL2 is UNKNOWN", "EFAULT"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    // Unquoted, the shell makes words of it.
    let words: Vec<_> = ["decode", "esr"].into_iter().chain(line.split(' ')).collect();
    assert_eq!(stdout(&words), text);
    let it = json(&["decode", "esr", "0x92000061", "--json"]);
    assert_eq!(
        (&it["ec"], &it["fsc"], &it["stage"], &it["write"]),
        (&0x24.into(), &0x21.into(), &2.into(), &true.into())
    );
    assert_eq!(it["value"], "0x92000061");
}

#[test]
fn decode_mair_bytes_and_registers() {
    let it = json(&["decode", "mair", "0x40044f0ff", "--json"]);
    assert_eq!(it.as_array().unwrap().len(), 8);
    assert_eq!((&it[2]["index"], &it[2]["type"]), (&2.into(), &"normal-nc".into()));
    for (args, count) in [
        (["0x44", "--json"], 1),
        (["0b01000100", "--json"], 1),
        (["68", "--json"], 1),
        (["0x0044", "--json"], 8),
        (["0x144", "--json"], 8),
        (["256", "--json"], 8),
    ] {
        let it = json(&["decode", "mair", args[0], args[1]]);
        assert_eq!(it.as_array().unwrap().len(), count, "{args:?}");
    }
    assert_eq!(json(&["decode", "mair", "0x44", "--register", "--json"]).as_array().unwrap().len(), 8);
    assert!(refused(&["decode", "mair", "--byte", "0x100"]).contains("0 to 255"));
}

#[test]
fn decode_par_both_ways() {
    let it = json(&["decode", "par", "0x4400000010000b00", "--json"]);
    assert_eq!((&it["pa"], &it["attr"]["type"]), (&"0x10000000".into(), &"normal-nc".into()));
    let it = json(&["decode", "par", "0xa0b", "--json"]);
    assert_eq!((&it["translated"], &it["stage"], &it["level"]), (&false.into(), &2.into(), &1.into()));
}

#[test]
fn errors_are_helpful() {
    for (args, says) in [
        (&["explain", "normalnc", "normal-nc"] as &[_], "did you mean normal-nc?"),
        (&["explain", "normal-nc", "normal-wt", "--fwb"], "normal-wb, as-s1"),
        (&["explain", "normal-nc", "memattr=16"], "0 to 15"),
        (&["explain", "normal-nc", "normal-nc", "--s1-sh", "inner"], "nsh, ish, osh"),
        (&["decode", "esr", "9200006f"], "0x9200006f"),
        (&["decode", "esr", "kvm: something happened"], "ESR_EL2=0x92000061"),
        (&["decode", "esr", "--el", "3", "0"], "1..=2"),
        (&["decode", "par", "0x1_0000_0000_0000_0000"], "more than 64 bits"),
        (&["table", "arm64", "--csv", "--s2-sh", "4"], "--s2-sh: 4 is too large: 0 to 3"),
        (&["table", "arm64", "--s2-sh", "3"], "add --csv or --json"),
        (&["table", "arm46"], "arm64"),
        (&["tabel"], "table"),
    ] {
        let message = refused(args);
        assert!(message.contains(says), "{args:?}: {message}");
    }
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["decode"]).status.code(), Some(2));
    assert_eq!(run(&["--version"]).status.code(), Some(0));
}

/// Whether a test may run this line: not where it fetches, boots or opens anything outside this program and the
/// workspace, which is all that `lab` and `--on` are for, and what `sweep` does unless told otherwise.
fn is_tame(line: &str) -> bool {
    let boots = line.trim().starts_with("bartender sweep") && !line.contains("--of linux");
    !boots && !line.split_whitespace().any(|word| word == "lab" || word.starts_with("--on"))
}

/// Each command line in each `--help` works as it stands, in a shell at the root of the workspace.
#[test]
fn every_example_works() {
    let path = std::env::join_paths(
        [std::path::Path::new(BARTENDER).parent().unwrap().to_path_buf()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let mut examples = 0;
    let mut todo = vec![Vec::<String>::new()];
    while let Some(command) = todo.pop() {
        let mut args: Vec<_> = command.iter().map(String::as_str).collect();
        args.push("--help");
        let help = stdout(&args);
        let mut section = "";
        let mut here = 0;
        for line in help.lines() {
            if !line.starts_with(' ') && line.ends_with(':') {
                section = line;
            } else if section == "Commands:" && line.starts_with("  ") {
                let name = line.split_whitespace().next().unwrap();
                if name != "help" && is_tame(name) {
                    todo.push(command.iter().cloned().chain([name.to_string()]).collect());
                }
            } else if section == "Examples:" && line.starts_with("  bartender ") && is_tame(line) {
                let out = Command::new("sh")
                    .args(["-ec", line.trim()])
                    .env("PATH", &path)
                    .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
                    .stdin(Stdio::null())
                    .output()
                    .unwrap();
                assert!(out.status.success() && out.stderr.is_empty(), "{line}: {out:?}");
                assert!(!out.stdout.is_empty(), "{line}");
                here += 1;
            }
        }
        assert!(here > 0, "no examples in the help of {command:?}");
        examples += here;
    }
    assert!(examples >= 20, "{examples}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    for args in [&["table", "arm64", "--csv"] as &[_], &["table", "arm64", "--json"], &["explain", "--help"]] {
        let mut child =
            Command::new(BARTENDER).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 3];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{args:?}: {out:?}");
    }
}

#[test]
fn colour_only_where_it_is_wanted() {
    for args in
        [&["explain", "normal-nc", "device-ngnre"] as &[_], &["table", "arm64"], &["decode", "esr", "0x92000061"]]
    {
        assert!(!stdout(args).contains('\u{1b}'), "{args:?}");
        let forced =
            Command::new(BARTENDER).args(args).env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1").output().unwrap();
        assert!(forced.stdout.contains(&0x1b), "{args:?}");
        let both = Command::new(BARTENDER).args(args).env("CLICOLOR_FORCE", "0").env("NO_COLOR", "1").output().unwrap();
        assert!(!both.stdout.contains(&0x1b), "{args:?}");
    }
}

#[test]
fn lines_for_people_are_short() {
    for args in [
        &["explain", "device-ngnre", "normal-wb", "--fwb"] as &[_],
        &["table", "arm64"],
        &["decode", "esr", "0x92000061"],
        &["decode", "esr", "0x93c08007"],
        &["decode", "par", "0x4400000010000b00"],
    ] {
        for line in stdout(args).lines() {
            assert!(line.chars().count() <= 100 && !line.ends_with(' '), "{args:?}: {line:?}");
        }
    }
}

const HEADER: &str = "fwb,s2_memattr,s2_sh,s1_attr,s1_sh,type,inner,outer,sh,reserved";

#[test]
fn csv_shape_order_and_spots() {
    let started = Instant::now();
    let csv = stdout(&["table", "arm64", "--csv"]);
    let took = started.elapsed();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 131_072 + 1);
    assert_eq!(lines[0], HEADER);
    let mut row = 1;
    for fwb in 0..2 {
        for memattr in 0..16 {
            for s2_sh in 0..4 {
                for attr in 0..256 {
                    for s1_sh in 0..4 {
                        let start = format!("{fwb},{memattr},{s2_sh},{attr},{s1_sh},");
                        assert!(lines[row].starts_with(&start), "{}", lines[row]);
                        row += 1;
                    }
                }
            }
        }
    }
    for spot in [
        "0,0,0,0,0,device-ngnrne,-,-,osh,0",
        "0,1,3,68,3,device-ngnre,-,-,osh,0",
        "0,5,3,68,3,normal,nc,nc,osh,0",
        "1,5,3,68,3,normal,nc,nc,osh,0",
        "1,5,3,4,3,device-ngnre,-,-,osh,0",
        "1,6,3,4,3,normal,wb,wb,ish,0",
        "0,15,3,255,3,normal,wb,wb,ish,0",
        "0,15,0,255,0,normal,wb,wb,nsh,0",
        "1,7,0,79,2,normal,wb,nc,osh,0",
        "1,4,3,255,3,normal,nc,nc,osh,1",
        "0,15,3,255,1,normal,wb,wb,osh,1",
    ] {
        assert!(lines.contains(&spot), "{spot}");
    }
    // A debug build on a busy machine; the release build takes a few milliseconds.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Rows without reserved encodings, recomputed from the tables of the architecture in another way: by strictness.
#[test]
fn csv_agrees_with_an_independent_computation() {
    const DEVICES: [&str; 4] = ["device-ngnrne", "device-ngnre", "device-ngre", "device-gre"];
    const CACHE: [&str; 3] = ["nc", "wt", "wb"];
    const SH: [Option<usize>; 4] = [Some(0), None, Some(2), Some(1)];
    // Device d is Ok(d), else inner and outer as an index of CACHE.
    type Ty = Result<usize, (usize, usize)>;
    fn nibble(n: usize) -> usize {
        if n == 4 {
            0
        } else if n & 4 == 0 {
            1
        } else {
            2
        }
    }
    fn stage1(attr: usize) -> Option<Ty> {
        match (attr >> 4, attr & 15) {
            (0, 0 | 1 | 4 | 5 | 8 | 9 | 12 | 13) => Some(Ok(attr >> 2 & 3)),
            (0, _) => None,
            (4, 0) => Some(Err((0, 0))),
            (10, 0) => Some(Err((1, 1))),
            (15, 0) => Some(Err((2, 2))),
            (_, 0) => None,
            (outer, inner) => Some(Err((nibble(inner), nibble(outer)))),
        }
    }
    fn both(fwb: bool, memattr: usize, s1: Ty) -> Option<Ty> {
        Some(match (fwb, memattr & 7) {
            (true, 4) => return None,
            (true, 5) => s1.map_err(|_| (0, 0)),
            (true, 6) => Err((2, 2)),
            (true, 7) => s1,
            (true, d) => Ok(s1.map_or(d, |s1| s1.min(d))),
            (false, _) if memattr < 4 => Ok(s1.map_or(memattr, |s1| s1.min(memattr))),
            (false, _) => {
                let (inner, outer) = ((memattr & 3).checked_sub(1)?, (memattr >> 2) - 1);
                s1.map_err(|(i, o)| (i.min(inner), o.min(outer)))
            }
        })
    }
    let csv = stdout(&["table", "arm64", "--csv"]);
    let (mut checked, mut reserved) = (0, 0);
    for line in csv.lines().skip(1) {
        let columns: Vec<_> = line.split(',').collect();
        let n: Vec<usize> = columns[..5].iter().map(|c| c.parse().unwrap()).collect();
        let expected = stage1(n[3]).and_then(|s1| both(n[0] == 1, n[1], s1)).zip(SH[n[2]].zip(SH[n[4]]));
        let Some((ty, (sh2, sh1))) = expected else {
            assert_eq!(columns[9], "1", "{line}");
            reserved += 1;
            continue;
        };
        let (name, inner, outer) = match ty {
            Ok(device) => (DEVICES[device], "-", "-"),
            Err((inner, outer)) => ("normal", CACHE[inner], CACHE[outer]),
        };
        let sh = if matches!(ty, Ok(_) | Err((0, 0))) { 2 } else { sh1.max(sh2) };
        assert_eq!(columns[5..], [name, inner, outer, ["nsh", "ish", "osh"][sh], "0"], "{line}");
        checked += 1;
    }
    assert_eq!(checked + reserved, 131_072);
    assert!(checked > 50_000, "{checked}");
}

#[test]
fn filters_pick_rows_of_the_whole() {
    let csv = stdout(&["table", "arm64", "--csv"]);
    let picked = stdout(&["table", "arm64", "--csv", "--fwb", "1", "--s2-memattr", "0b0101", "--s1-attr", "0x44"]);
    let expected: String = csv
        .lines()
        .filter(|l| *l == HEADER || (l.starts_with("1,5,") && l.split(',').nth(3) == Some("68")))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_eq!(picked, expected);
    assert_eq!(picked.lines().count(), 1 + 16);
}

#[test]
fn table_json_is_the_csv() {
    let all = json(&["table", "arm64", "--json"]);
    let all = all.as_array().unwrap();
    let csv = stdout(&["table", "arm64", "--csv"]);
    let names: Vec<_> = HEADER.split(',').collect();
    assert_eq!(all.len(), 131_072);
    for (row, line) in all.iter().zip(csv.lines().skip(1)) {
        let line = line.split(',');
        for (name, cell) in names.iter().zip(line) {
            let same = match &row[name] {
                Value::Null => cell == "-",
                Value::Bool(b) => cell == if *b { "1" } else { "0" },
                Value::String(s) => s == cell,
                number => number.as_u64() == cell.parse().ok(),
            };
            assert!(same, "{name}: {row} {cell}");
        }
    }
    assert_eq!(
        json(&["table", "arm64", "--json", "--s1-sh", "0", "--s2-sh", "0", "--s1-attr", "0"]).as_array().unwrap().len(),
        32
    );
}

/// What is printed for people says the same as the library.
#[test]
fn the_matrix_is_the_library() {
    let text = stdout(&["table", "arm64", "--fwb", "0"]);
    let nc = text.lines().find(|l| l.starts_with("NC ")).unwrap();
    let cells: Vec<_> = nc.split_whitespace().skip(2).collect();
    assert_eq!(cells, ["nGnRnE", "2", "nGnRE", "2", "nGRE", "2", "GRE", "2", "NC", "NC", "NC"]);
    let s1 = Stage1::decode(0x44, 3, Features::LATEST);
    assert_eq!(combine(&s1, &Stage2::decode(false, 0b1111, 3, Features::LATEST)).ty.name(), "normal-nc");
    assert!(stdout(&["table", "arm64"]).lines().filter(|l| l.starts_with("NC ")).count() == 2);
}
