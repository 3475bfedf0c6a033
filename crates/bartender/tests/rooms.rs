//! The rooms and arrows of docs/architecture.md, held against the manifests and the sources.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

type Floors = BTreeMap<String, u8>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The floors of the table in the document: rows `| 2 | `mmu` | ...`.
fn floors(doc: &str) -> Floors {
    doc.lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let floor = cells.next()?.parse().ok()?;
            let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name.to_owned(), floor))
        })
        .collect()
}

/// The crates a manifest's dependency tables name, those of a target too; what only tests use is no arrow.
fn arrows(manifest: &str) -> Vec<String> {
    let table: toml::Table = manifest.parse().unwrap();
    let mut found = Vec::new();
    let mut tables = vec![&table];
    tables.extend(
        table
            .get("target")
            .and_then(|t| t.as_table())
            .into_iter()
            .flat_map(|t| t.values())
            .filter_map(|t| t.as_table()),
    );
    for table in tables {
        for kind in ["dependencies", "build-dependencies"] {
            found.extend(table.get(kind).and_then(|t| t.as_table()).into_iter().flat_map(|t| t.keys().cloned()));
        }
    }
    found
}

/// What is wrong with a crate's arrows.
fn wrong_arrows(name: &str, manifest: &str, floors: &Floors) -> Vec<String> {
    let Some(from) = floors.get(name) else { return vec![format!("{name} has no floor in docs/architecture.md")] };
    arrows(manifest)
        .into_iter()
        .filter_map(|to| floors.get(&to).map(|floor| (to, floor)))
        // Two rooms of one floor may know each other in one direction only where the table says so; none does.
        .filter(|(_, floor)| *floor >= from)
        .map(|(to, floor)| format!("{name} (floor {from}) depends on {to} (floor {floor})"))
        .collect()
}

/// What is wrong with a crate's opt-ins: unsafe code is forbidden in every room but `vmm`, and there opted into by file.
fn wrong_unsafe(name: &str, files: &[(PathBuf, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, text) in files {
        let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        if name == "vmm" {
            let uses = text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains("unsafe {"));
            if uses && !text.contains("#![expect(unsafe_code, reason = ") {
                wrong.push(format!("{} has unsafe code without its reason", path.display()));
            }
        } else if is_root && !text.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("{} does not forbid unsafe code", path.display()));
        }
    }
    wrong
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

fn crates() -> Vec<(String, PathBuf)> {
    let mut all: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))
        .collect();
    all.sort();
    all
}

#[test]
fn arrows_point_down() {
    let floors = floors(&fs::read_to_string(root().join("docs/architecture.md")).unwrap());
    let crates = crates();
    assert_eq!(crates.len(), floors.len(), "the table and the folder crates/ hold the same rooms");
    let wrong: Vec<String> = crates
        .iter()
        .flat_map(|(name, path)| wrong_arrows(name, &fs::read_to_string(path.join("Cargo.toml")).unwrap(), &floors))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_where_it_may_be_and_the_lints_are_one_table() {
    let mut wrong = Vec::new();
    for (name, path) in crates() {
        wrong.extend(wrong_unsafe(&name, &sources(&path.join("src"))));
        let manifest: toml::Table = fs::read_to_string(path.join("Cargo.toml")).unwrap().parse().unwrap();
        if manifest.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
            wrong.push(format!("{name} has lints of its own"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_no_std_rooms_say_so() {
    for name in ["memtype", "mmu", "hyp", "scenario"] {
        let text = fs::read_to_string(root().join("crates").join(name).join("src/lib.rs")).unwrap();
        let says = text.contains("#![no_std]") || text.contains("#![cfg_attr(not(feature = \"std\"), no_std)]");
        assert!(says, "{name}");
    }
}

#[test]
fn each_check_can_fail() {
    let floors = floors(
        "| floor | crate |\n|---|---|\n| 1 | `low` | x |\n| 2 | `mid` | x |\n| 2 | `side` | x |\n| 3 | `top` | x |\n",
    );
    assert_eq!(floors.len(), 4);
    assert!(
        wrong_arrows("top", "[dependencies]\nlow.workspace = true\nmid.workspace = true\nserde = \"1\"\n", &floors)
            .is_empty()
    );
    for manifest in [
        "[dependencies]\ntop.workspace = true\n",
        "[dependencies]\nside = { path = \"../side\" }\n",
        "[target.'cfg(unix)'.dependencies]\ntop.workspace = true\n",
        "[build-dependencies]\ntop.workspace = true\n",
    ] {
        assert_eq!(wrong_arrows("mid", manifest, &floors).len(), 1, "{manifest}");
    }
    assert!(wrong_arrows("mid", "[dev-dependencies]\ntop.workspace = true\n", &floors).is_empty());
    assert_eq!(wrong_arrows("new", "", &floors).len(), 1);
    let file = |path: &str, text: &str| vec![(PathBuf::from(path), text.to_owned())];
    assert_eq!(wrong_unsafe("hyp", &file("hyp/src/lib.rs", "#![no_std]")).len(), 1);
    assert_eq!(wrong_unsafe("vmm", &file("vmm/src/a.rs", "fn f() { unsafe { g() } }")).len(), 1);
    assert!(wrong_unsafe("vmm", &file("vmm/src/a.rs", "// unsafe { is a word")).is_empty());
}
