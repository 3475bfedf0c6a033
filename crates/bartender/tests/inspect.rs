//! `bartender inspect` on snapshots: what it prints is what lies beside them. `UPDATE_GOLDEN=1 cargo test -p bartender --test inspect`
//! writes that.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use common::{json, refused, stdout};
use serde_json::{Value, json};

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/tests/fixtures");
    let mut all: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("snapshot.json").is_file())
        .collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

fn of(folder: &Path, args: &[&str]) -> String {
    stdout(&[&["inspect", "--root", folder.to_str().unwrap()], args].concat())
}

fn json_of(folder: &Path) -> Value {
    serde_json::from_str(&of(folder, &["--json"])).unwrap()
}

/// A folder of its own, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("bartender-inspect-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A device of each kind, six at most: layer by layer.
fn devices(folder: &Path) -> String {
    let all = json_of(folder);
    let mut kinds = BTreeSet::new();
    let mut out = String::new();
    for (bdf, function) in all["host"]["functions"].as_object().unwrap() {
        let is_bridge = !function["windows"].as_array().unwrap().is_empty();
        if is_bridge
            || all["layers"].get(bdf).is_none()
            || kinds.len() == 6
            || !kinds.insert(function["id"].to_string())
        {
            continue;
        }
        out.push_str(&of(folder, &[bdf]));
        out.push('\n');
    }
    out
}

#[test]
fn on_snapshots_it_prints_what_lies_beside_them() {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for folder in fixtures() {
        let mut json = json_of(&folder);
        // The layers are in devices.txt, in words.
        json.as_object_mut().unwrap().remove("layers").unwrap();
        for (name, is) in [
            ("inspect.txt", of(&folder, &["--all"])),
            ("devices.txt", devices(&folder)),
            ("inspect.json", format!("{}\n", serde_json::to_string_pretty(&json).unwrap())),
            ("inspect.nfd", of(&folder, &["--nfd"])),
            ("inspect.prom", of(&folder, &["--prometheus"])),
        ] {
            let file = folder.join(name);
            let was = fs::read_to_string(&file).unwrap_or_default();
            if was == is {
                continue;
            }
            let at = was
                .lines()
                .zip(is.lines())
                .position(|(a, b)| a != b)
                .unwrap_or(was.lines().count().min(is.lines().count()));
            let says = |text: &str| text.lines().nth(at).unwrap_or("(nothing)").to_owned();
            wrong.push(format!("{}:{}\n  was {}\n  is  {}", file.display(), at + 1, says(&was), says(&is)));
            if update {
                fs::write(&file, is).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 cargo test -p bartender --test inspect\n{}", wrong.join("\n"));
}

#[test]
fn the_json_has_every_memory_bar_by_every_way() {
    for folder in fixtures() {
        let all = json_of(&folder);
        let keys: Vec<&String> = all.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["glance", "host", "layers", "version"]);
        for (bdf, function) in all["host"]["functions"].as_object().unwrap() {
            for bar in function["bars"].as_array().unwrap().iter().filter(|b| b["io"] == false) {
                let index = bar["index"].to_string();
                let ways: Vec<&Value> =
                    all["layers"][bdf][&index].as_array().unwrap().iter().map(|l| &l["way"]).collect();
                assert_eq!(ways, ["vfio", "vfio-write-combine", "sysfs", "sysfs-write-combine", "trap"], "{bdf}");
                assert!(all["glance"][bdf][&index]["way"].is_string());
            }
        }
    }
}

/// A label of Kubernetes: at most 63 of these, a letter or a digit at both ends.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= 63 && text.bytes().all(inner) && ends(text.as_bytes().first()) && ends(text.as_bytes().last())
}

/// What NFD makes of a feature file (source/local/local.go): the features, and those that become labels.
fn features(text: &str) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let (mut features, mut labels) = (BTreeMap::new(), BTreeSet::new());
    let mut no_label = false;
    assert!(text.len() <= 65_536 && text.ends_with('\n'));
    for line in text.lines() {
        assert_eq!(line, line.trim());
        if let Some(directive) = line.strip_prefix("# +") {
            assert_eq!(directive, "no-label", "unknown to NFD");
            no_label = true;
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap();
        let (namespace, name) = key.split_once('/').unwrap();
        assert_eq!(namespace, "feature.node.kubernetes.io");
        assert!(is_label(name) && is_label(value), "{line}");
        assert!(features.insert(name.to_owned(), value.to_owned()).is_none(), "twice: {line}");
        if !std::mem::take(&mut no_label) {
            labels.insert(name.to_owned());
        }
    }
    (features, labels)
}

type Sample = (String, BTreeMap<String, String>, f64);

/// The text format 0.0.4 as a naive parser reads it: HELP, TYPE, then samples of that name, all in one place.
fn samples(text: &str) -> Vec<Sample> {
    let mut all: Vec<Sample> = Vec::new();
    let mut done: Vec<String> = Vec::new();
    let mut typed = false;
    let is_name = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.split_terminator('\n') {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty() && !help.contains('\\'));
            assert!(!done.iter().any(|n| n == name), "{name} in two places");
            done.push(name.into());
            typed = false;
            continue;
        }
        let name = done.last().unwrap().clone();
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind, format!("{name} gauge"));
            typed = true;
            continue;
        }
        assert!(typed);
        let mut rest = line.strip_prefix(&name).unwrap();
        let mut labels = BTreeMap::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (label, after) = rest.split_once("=\"").unwrap();
                assert!(is_name(label), "{line}");
                let mut value = String::new();
                let mut chars = after.char_indices();
                let end = loop {
                    match chars.next().unwrap() {
                        (at, '"') => break at,
                        (_, '\\') => value.push(match chars.next().unwrap().1 {
                            'n' => '\n',
                            c @ ('\\' | '"') => c,
                            c => panic!("\\{c} in {line}"),
                        }),
                        (_, c) => value.push(c),
                    }
                };
                assert!(labels.insert(label.to_owned(), value).is_none());
                rest = &after[end + 1..];
                if let Some(end) = rest.strip_prefix('}') {
                    rest = end;
                    break;
                }
                rest = rest.strip_prefix(',').unwrap();
            }
        }
        let value: f64 = rest.strip_prefix(' ').unwrap().parse().unwrap();
        assert!(!all.iter().any(|(n, l, _)| *n == name && *l == labels), "twice: {line}");
        all.push((name, labels, value));
    }
    all
}

#[test]
fn what_fleets_read_says_what_the_json_says() {
    for folder in fixtures() {
        let all = json_of(&folder);
        let (features, labels) = features(&of(&folder, &["--nfd"]));
        assert_eq!(features["bartender.vfio"], all["host"]["vfio"]["driver"].to_string());
        for name in features.keys().filter(|n| n.contains(".pci-")) {
            assert!(!name.contains("0000:"), "an address may change at boot: {name}");
        }
        assert!(labels.len() < 400, "{}", labels.len());
        let metrics = samples(&of(&folder, &["--prometheus"]));
        let holes: f64 = metrics.iter().filter(|(n, ..)| n == "bartender_holes").map(|(.., v)| v).sum();
        assert_eq!(holes as usize, all["host"]["holes"].as_array().unwrap().len());
        for (name, labels, value) in &metrics {
            let Some(answer) = name.strip_prefix("bartender_bar_").filter(|n| ["works", "fast", "safe"].contains(n))
            else {
                continue;
            };
            let ways = all["layers"][&labels["bdf"]][&labels["bar"]].as_array().unwrap();
            let way = ways.iter().find(|l| l["way"] == labels["way"]).unwrap();
            let says = way[answer]["is"].as_str().unwrap();
            assert_eq!(
                says,
                if *value == 1.0 {
                    "yes"
                } else if *value == 0.0 {
                    "no"
                } else {
                    "maybe"
                }
            );
        }
    }
}

/// A machine of so many functions, each as one of a snapshot: with a BAR, MSI-X, a driver.
fn many(count: usize) -> Scratch {
    const LIKE: &str = "/sys/devices/pci0000:00/0000:00:03.0";
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/tests/fixtures/x86-firecracker-guest/snapshot.json");
    let mut snapshot: Value = serde_json::from_str(&fs::read_to_string(from).unwrap()).unwrap();
    let files = snapshot["files"].as_object_mut().unwrap();
    let own: Vec<(String, Value)> =
        files.iter().filter_map(|(path, file)| Some((path.strip_prefix(LIKE)?.to_owned(), file.clone()))).collect();
    assert!(own.len() > 5);
    let mut names = Vec::new();
    for n in 0..count {
        let bdf = format!("0001:{:02x}:{:02x}.{}", n / 256, n / 8 % 32, n % 8);
        let folder = format!("/sys/devices/pci0001:00/{bdf}");
        for (path, file) in &own {
            files.insert(format!("{folder}{path}"), file.clone());
        }
        files.insert(
            format!("/sys/bus/pci/devices/{bdf}"),
            json!({"link": format!("../../../devices/pci0001:00/{bdf}")}),
        );
        names.push(Value::from(bdf));
    }
    files["/sys/bus/pci/devices"]["list"].as_array_mut().unwrap().extend(names);
    let scratch = Scratch::new(&format!("many-{count}"));
    fs::write(scratch.0.join("snapshot.json"), serde_json::to_string(&snapshot).unwrap()).unwrap();
    scratch
}

/// Generous: of a debug build on a machine that does other things too. `benchmarks/run` has the time of a release build.
#[test]
fn a_thousand_functions_do_not_take_long() {
    let scratch = many(1000);
    let begin = Instant::now();
    let text = of(&scratch.0, &[]);
    let took = begin.elapsed();
    assert!(text.lines().count() > 1000, "{}", text.lines().count());
    assert!(text.lines().rev().take_while(|l| !l.starts_with("w f s")).count() < 40, "holes of each device");
    assert!(took < Duration::from_secs(10), "{took:?}");
    eprintln!("1,000 functions: {took:?}");
}

#[test]
fn hostile_texts_of_a_snapshot_stay_within_their_lines() {
    let folder = &fixtures()[0];
    let mut snapshot: Value = serde_json::from_str(&fs::read_to_string(folder.join("snapshot.json")).unwrap()).unwrap();
    let evil = "e\"vil\\\n# TYPE x gauge\u{202e}\u{1b}[31m=,{}";
    for (path, file) in snapshot["files"].as_object_mut().unwrap() {
        if path.ends_with("/osrelease") || path.ends_with("/power_state") {
            *file = json!({ "text": evil });
        } else if path.ends_with("/driver") {
            *file = json!({ "link": format!("../../../bus/pci/drivers/{evil}") });
        }
    }
    let scratch = Scratch::new("hostile");
    fs::write(scratch.0.join("snapshot.json"), serde_json::to_string(&snapshot).unwrap()).unwrap();
    let text = of(&scratch.0, &["--all"]);
    assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
    features(&of(&scratch.0, &["--nfd"]));
    samples(&of(&scratch.0, &["--prometheus"]));
    assert!(!of(&scratch.0, &["--html", "-"]).contains(evil));
}

#[test]
fn bad_input_is_refused() {
    let folder = &fixtures()[0];
    let root = folder.to_str().unwrap();
    let says = refused(&["inspect", "--root", root, "7777:00:00.0"]);
    assert!(says.contains("there is no 7777:00:00.0") && says.contains("the nearest:"), "{says}");
    assert!(refused(&["inspect", "--root", "no/such/folder"]).contains("no/such/folder"));
    refused(&["inspect", "--root", root, "not-an-address"]);
    refused(&["inspect", "--root", root, "--open", "0000:00:00.0"]);
    refused(&["inspect", "--nfd", "--json"]);
    refused(&["inspect", "--html", "-", "--json"]);
    let scratch = Scratch::new("broken");
    fs::write(scratch.0.join("snapshot.json"), "{").unwrap();
    refused(&["inspect", "--root", scratch.0.to_str().unwrap()]);
}

#[test]
fn a_snapshot_of_a_snapshot_is_the_same() {
    let scratch = Scratch::new("again");
    let to = scratch.0.to_str().unwrap();
    let from = &fixtures()[0];
    let says = of(from, &["--save", to]);
    assert!(says.contains("snapshot.json") && says.contains("bytes"), "{says}");
    assert_eq!(of(&scratch.0, &["--json"]), of(from, &["--json"]));
}

#[test]
fn this_machine_is_looked_at_whatever_it_has() {
    stdout(&["inspect"]);
    stdout(&["inspect", "--all"]);
    features(&stdout(&["inspect", "--nfd"]));
    samples(&stdout(&["inspect", "--prometheus"]));
    assert_eq!(json(&["inspect", "--json"])["version"], 1);
    let page = stdout(&["inspect", "--html", "-"]);
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    for outside in ["src=", "href=\"http", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}
