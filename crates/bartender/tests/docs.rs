//! The tables in the documents are what the command prints. `UPDATE_DOCS=1 cargo test -p bartender --test docs` writes them.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{env, fs, path::Path, process::Command};

const BEGIN: &str = "<!-- $ bartender ";
const END: &str = "<!-- end -->";

fn printed(root: &Path, command: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_bartender"))
        .args(command.split_whitespace())
        .current_dir(root)
        .env_remove("CLICOLOR_FORCE")
        .output()
        .unwrap();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The document with every table as it is printed now, and how many there are.
fn renewed(root: &Path, text: &str) -> (String, usize) {
    let mut out = String::new();
    let mut rest = text;
    let mut tables = 0;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (command, after) = after.split_once(" -->").unwrap_or_else(|| panic!("an open comment: {after:.60}"));
        let (_, after) = after.split_once(END).unwrap_or_else(|| panic!("{command}: no {END}"));
        let printed = printed(root, command);
        let fenced = if printed.starts_with('|') { printed } else { format!("```text\n{}\n```\n", printed.trim_end()) };
        out.push_str(&format!("{before}{BEGIN}{command} -->\n\n{fenced}\n{END}"));
        rest = after;
        tables += 1;
    }
    out.push_str(rest);
    (out, tables)
}

fn check(document: &str, tables: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(document);
    let text = fs::read_to_string(&path).unwrap();
    let (renewed, found) = renewed(&root, &text);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &renewed).unwrap();
    }
    for (line, (is, should)) in text.lines().zip(renewed.lines()).enumerate() {
        assert_eq!(is, should, "{document}:{}: UPDATE_DOCS=1 cargo test -p bartender --test docs", line + 1);
    }
    assert_eq!(text.lines().count(), renewed.lines().count(), "{document}");
    assert!(found >= tables, "{document} has {found} tables");
}

#[test]
fn write_combining() {
    check("docs/write-combining.md", 8);
}

#[test]
fn findings() {
    check("docs/findings.md", 6);
}

#[test]
fn inspect() {
    check("docs/inspect.md", 1);
}

#[test]
fn a_table_that_is_not_so_is_seen() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let stale = format!("x\n\n{BEGIN}contract wc --csv -->\n\nold\n\n{END}\ny\n");
    let (renewed, tables) = renewed(&root, &stale);
    assert_eq!(tables, 1);
    assert!(renewed.starts_with("x\n\n") && renewed.ends_with(&format!("\n\n{END}\ny\n")), "{renewed}");
    assert!(!renewed.contains("old") && renewed.contains("wc,x86,uc,satisfied"), "{renewed}");
}
