//! The transcripts of the README are what the command prints.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path, process::Command};

#[test]
fn the_transcripts_are_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let mut checked = 0;
    for block in readme.split("```console\n$ bartender ").skip(1) {
        let (command, rest) = block.split_once('\n').unwrap();
        let (shown, _) = rest.split_once("```").unwrap();
        // A real kernel is the lab's business, and QEMU's device that of tests/qemu_viommu.rs; here nothing is started.
        if command.contains("--on") || command.contains("qemu") {
            continue;
        }
        let out = Command::new(env!("CARGO_BIN_EXE_bartender"))
            .args(command.split_whitespace())
            .current_dir(&root)
            .output()
            .unwrap();
        assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
        // What a run takes is another time every time.
        let plain = |text: &str| -> Vec<String> {
            text.lines().map(|l| l.split(" met in ").next().unwrap().trim_end().to_owned()).collect()
        };
        assert_eq!(plain(&String::from_utf8(out.stdout).unwrap()), plain(shown), "{command}");
        checked += 1;
    }
    assert_eq!(checked, 2);
}
