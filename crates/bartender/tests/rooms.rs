//! The rooms and arrows of docs/architecture.md, held against the manifests and the sources.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Where `unsafe` may be, and nowhere else.
const UNSAFE: [&str; 3] = ["bar", "vmm", "el2"];
/// The rooms that are not in `crates/`: no library for others, but a program for a machine without a system.
const OUTSIDE: [&str; 1] = ["el2"];

/// What the document says of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    floor: u8,
    no_std: bool,
}

type Rows = BTreeMap<String, Row>;

/// The rows of the document's table: ``| 2 | `mmu` | what lives there | yes |``.
fn rows(doc: &str) -> Rows {
    doc.lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let floor = cells.next()?.parse().ok()?;
            let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name.to_owned(), Row { floor, no_std: !cells.nth(1)?.is_empty() }))
        })
        .collect()
}

/// The lines of the document's drawing, `3  hyp ──► mmu, memtype`: the floor, and whom the room knows.
fn drawn(doc: &str) -> BTreeMap<String, (u8, BTreeSet<String>)> {
    doc.lines()
        .filter_map(|line| {
            let (from, to) = line.split_once("──►")?;
            let (floor, name) = from.trim().split_once(' ')?;
            let to = to.split(',').map(str::trim).filter(|name| *name != "–");
            Some((name.trim().to_owned(), (floor.parse().ok()?, to.map(str::to_owned).collect())))
        })
        .collect()
}

/// The crates a manifest's dependency tables name, those of a target too; what only tests use is no arrow.
fn arrows(manifest: &str) -> BTreeSet<String> {
    let table: toml::Table = manifest.parse().unwrap();
    let sub = |table: &toml::Table, key: &str| table.get(key).and_then(|t| t.as_table()).cloned().unwrap_or_default();
    let targets: Vec<toml::Table> = sub(&table, "target").values().filter_map(|t| t.as_table()).cloned().collect();
    let mut found = BTreeSet::new();
    for table in targets.iter().chain([&table]) {
        for kind in ["dependencies", "build-dependencies"] {
            let named = |(key, value): (String, toml::Value)| {
                value.get("package").and_then(|p| p.as_str()).map_or(key, str::to_owned)
            };
            found.extend(sub(table, kind).into_iter().map(named));
        }
    }
    found
}

/// What is wrong with a crate's manifest: an arrow that does not point down, or is not drawn; lints of its own.
fn wrong_manifest(name: &str, manifest: &str, doc: &str) -> Vec<String> {
    let (rows, drawn) = (rows(doc), drawn(doc));
    let Some(Row { floor, .. }) = rows.get(name) else { return vec![format!("{name} has no row in the table")] };
    let rooms: BTreeSet<String> = arrows(manifest).into_iter().filter(|to| rows.contains_key(to)).collect();
    let mut wrong: Vec<String> = rooms
        .iter()
        .filter_map(|to| rows.get(to).map(|row| (to, row.floor)))
        // None on the same floor either: rooms side by side do not know each other.
        .filter(|(_, below)| below >= floor)
        .map(|(to, below)| format!("{name} (floor {floor}) depends on {to} (floor {below})"))
        .collect();
    if drawn.get(name) != Some(&(*floor, rooms.clone())) {
        wrong.push(format!("{name}, on floor {floor}, knows {rooms:?}; drawn: {:?}", drawn.get(name)));
    }
    let table: toml::Table = manifest.parse().unwrap();
    if table.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
        wrong.push(format!("{name} has not the lints of the workspace"));
    }
    wrong
}

/// What is wrong with a crate's files. Unsafe code is forbidden in every room but one, and there a file that has some says
/// why. A room that is said to do without the standard library says so itself.
fn wrong_sources(name: &str, row: &Row, files: &[(PathBuf, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, text) in files {
        let shown = path.display();
        let says = |attribute: &str| text.lines().any(|line| line.trim_end() == attribute);
        let (lib, main) = (path.ends_with("src/lib.rs"), path.ends_with("src/main.rs"));
        let code = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
        if UNSAFE.contains(&name) {
            let mut words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
            // For all architectures or for some; or there is none, and the word stands in a string.
            let reason = text.lines().any(|line| {
                line.starts_with("#![") && line.contains("expect(unsafe_code, reason = ")
                    || line == "#![forbid(unsafe_code)]"
            });
            if words.any(|word| word == "unsafe") && !reason {
                wrong.push(format!("{shown} has unsafe code without a reason"));
            }
        } else {
            let opts_in =
                |line: &str| line.starts_with('#') && line.contains("unsafe_code") && !line.contains("forbid(");
            if code.into_iter().any(opts_in) {
                wrong.push(format!("{shown} opts in to unsafe code"));
            }
            if (lib || main) && !says("#![forbid(unsafe_code)]") {
                wrong.push(format!("{shown} does not forbid unsafe code"));
            }
        }
        let no_std = says("#![no_std]")
            || says("#![cfg_attr(not(feature = \"std\"), no_std)]")
            || says("#![cfg_attr(target_os = \"none\", no_std)]");
        if lib && no_std != row.no_std {
            wrong.push(format!("{shown} is {}no_std, the table says otherwise", if no_std { "" } else { "not " }));
        }
    }
    wrong
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            all.push((path, text));
        }
    }
    all
}

#[test]
fn the_rooms_are_as_drawn() {
    let doc = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let workspace: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let outside = OUTSIDE.map(toml::Value::from);
    assert_eq!(members[0], toml::Value::from("crates/*"));
    assert_eq!(members[1..], outside, "a crate elsewhere would not be looked at");

    let mut wrong = Vec::new();
    let mut rows = rows(&doc);
    let drawn: Vec<String> = drawn(&doc).into_keys().collect();
    assert_eq!(drawn, rows.keys().cloned().collect::<Vec<_>>(), "the drawing and the table have the same rooms");
    let inside = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    for path in inside.chain(OUTSIDE.map(|name| root().join(name))) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap();
        wrong.extend(wrong_manifest(&name, &manifest, &doc));
        if let Some(row) = rows.remove(&name) {
            wrong.extend(wrong_sources(&name, &row, &sources(&path)));
        }
    }
    wrong.extend(rows.keys().map(|name| format!("{name} is in the table and nowhere else")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const DOC: &str = "
| floor | crate | what | no_std |
|---|---|---|---|
| 1 | `low` | x | yes |
| 2 | `mid` | x | |
| 2 | `side` | x | |
| 3 | `top` | x | |

 3  top  ──► mid, low
 2  mid  ──► low
 2  side ──► –
 1  low  ──► –
";

#[test]
fn an_arrow_that_points_up_is_seen() {
    let wrong = |name, manifest: &str| wrong_manifest(name, &format!("{manifest}\n[lints]\nworkspace = true"), DOC);
    assert_eq!(wrong("mid", "[dependencies]\nlow.workspace = true\nserde = \"1\""), [""; 0]);
    assert_eq!(wrong("top", "[dependencies]\nlow.workspace = true\nmid.workspace = true"), [""; 0]);
    for up in [
        "[dependencies]\nlow.workspace = true\ntop.workspace = true",
        "[dependencies]\nlow.workspace = true\nmid.workspace = true",
        "[dependencies]\nlow.workspace = true\nside = { path = \"../side\" }",
        "[dependencies]\nlow.workspace = true\nother = { path = \"../top\", package = \"top\" }",
        "[dependencies]\nlow.workspace = true\n[target.'cfg(unix)'.dependencies]\ntop.workspace = true",
        "[dependencies]\nlow.workspace = true\n[build-dependencies]\ntop.workspace = true",
    ] {
        let wrong = wrong("mid", up);
        assert!(wrong.iter().any(|w| w.starts_with("mid (floor 2) depends on ")), "{up}: {wrong:?}");
    }
    assert_eq!(wrong("mid", "[dependencies]\nlow.workspace = true\n[dev-dependencies]\ntop.workspace = true"), [""; 0]);
}

#[test]
fn a_drawing_that_is_not_so_is_seen() {
    let lints = "[lints]\nworkspace = true";
    assert_eq!(wrong_manifest("side", lints, DOC), [""; 0]);
    assert_eq!(wrong_manifest("mid", lints, DOC).len(), 1, "drawn, and not there");
    assert_eq!(wrong_manifest("side", &format!("{lints}\n[dependencies]\nlow = \"1\""), DOC).len(), 1, "not drawn");
    assert_eq!(wrong_manifest("side", lints, &DOC.replace(" 2  side", " 3  side")).len(), 1, "on another floor");
    assert_eq!(wrong_manifest("new", lints, DOC), ["new has no row in the table"]);
    assert_eq!(wrong_manifest("side", "", DOC), ["side has not the lints of the workspace"]);
}

#[test]
fn unsafe_code_out_of_place_is_seen() {
    let wrong = |name, path: &str, text: &str| {
        wrong_sources(name, &Row { floor: 1, no_std: false }, &[(path.into(), text.to_owned())]).len()
    };
    assert_eq!(wrong("hyp", "hyp/src/lib.rs", "//! x\n#![forbid(unsafe_code)]\n"), 0);
    assert_eq!(wrong("hyp", "hyp/src/lib.rs", "//! x\n"), 1);
    assert_eq!(wrong("hyp", "hyp/src/main.rs", "// #![forbid(unsafe_code)]\n"), 1);
    assert_eq!(wrong("hyp", "hyp/src/abort.rs", ""), 0);
    assert_eq!(wrong("hyp", "hyp/tests/a.rs", "#![allow(unsafe_code)]\n"), 1);
    assert_eq!(wrong("vmm", "vmm/src/lib.rs", "// unsafe is a word\n#![deny(unsafe_code)]\n"), 0);
    for text in ["fn f() { unsafe { g() } }", "unsafe impl Send for X {}", "pub unsafe fn f() {}"] {
        assert_eq!(wrong("vmm", "vmm/src/a.rs", text), 1, "{text}");
        let reason = "#![expect(unsafe_code, reason = \"a system call\")]\n";
        assert_eq!(wrong("vmm", "vmm/src/a.rs", &format!("{reason}{text}")), 0, "{text}");
    }
}

#[test]
fn a_room_that_needs_the_standard_library_unsaid_is_seen() {
    let wrong = |no_std, text: &str| {
        let text = format!("#![forbid(unsafe_code)]\n{text}");
        wrong_sources("low", &Row { floor: 1, no_std }, &[("low/src/lib.rs".into(), text)]).len()
    };
    assert_eq!((wrong(true, "#![no_std]"), wrong(false, "")), (0, 0));
    assert_eq!(wrong(true, "#![cfg_attr(not(feature = \"std\"), no_std)]"), 0);
    assert_eq!((wrong(true, ""), wrong(true, "// #![no_std]"), wrong(false, "#![no_std]")), (1, 1, 1));
}
