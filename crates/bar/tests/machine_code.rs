//! What is assembled is what is written: the instructions of arm64 and x86-64, from the compiler's assembly for a target without an
//! operating system. Nothing is run, so that it works on any machine that has the target.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::Command;

/// The instructions of every function, each as it stands between the labels. Nothing where the compiler does not have the target.
fn assembled(target: &str, source: &str) -> Option<Vec<(String, Vec<String>)>> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (wrapper, out) = (folder.join(format!("{target}.rs")), folder.join(format!("{target}.s")));
    let arch = concat!(env!("CARGO_MANIFEST_DIR"), "/src/arch/");
    // One function for each that is inlined.
    let mut text = format!("#![no_std]\n#[path = {:?}]\nmod imp;\n", format!("{arch}{source}"));
    for (bits, ty) in [(8, "u8"), (16, "u16"), (32, "u32"), (64, "u64")] {
        text += &format!(
            "#[unsafe(no_mangle)] pub unsafe fn f_load{bits}(at: *const u8) -> {ty} {{ unsafe {{ imp::load{bits}(at) }} }}\n"
        );
        text += &format!(
            "#[unsafe(no_mangle)] pub unsafe fn f_store{bits}(at: *mut u8, v: {ty}) {{ unsafe {{ imp::store{bits}(at, v) }} }}\n"
        );
    }
    for name in ["line", "store64_bytes"] {
        text += &format!(
            "#[unsafe(no_mangle)] pub unsafe fn f_{name}(at: *mut u8, v: &[u64; 8]) {{ unsafe {{ imp::{name}(at, v) }} }}\n"
        );
    }
    // A loop over registers, which a compiler would like to merge, to vectorise or to index.
    text += "#[unsafe(no_mangle)] pub unsafe fn f_loop(at: *mut u8, n: usize) { for i in 0..n { unsafe { imp::store32(at.add(4 * i), 7) } } }\n";
    std::fs::write(&wrapper, text).unwrap();
    let out_arg = out.to_str().unwrap();
    let done = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "asm", "-C", "opt-level=3", "-C", "panic=abort"])
        .args(["--target", target, "-A", "warnings", "-o", out_arg])
        .arg(&wrapper)
        .output()
        .unwrap();
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        assert!(why.contains("target may not be installed"), "{why}");
        return None;
    }
    let asm = std::fs::read_to_string(&out).unwrap();
    let mut functions: Vec<(String, Vec<String>)> = Vec::new();
    for line in asm.lines().map(str::trim) {
        match line.strip_suffix(':') {
            Some(label) if label.starts_with("f_") => functions.push((label.into(), Vec::new())),
            Some(_) => {}
            None if line.is_empty() || line.starts_with(['.', '#', '/']) && !line.starts_with(".inst") => {}
            None => {
                let line = line.split("//").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
                if let Some((_, body)) = functions.last_mut() {
                    body.push(line);
                }
            }
        }
    }
    Some(functions)
}

fn of<'a>(functions: &'a [(String, Vec<String>)], name: &str) -> Vec<&'a str> {
    let (_, body) = functions.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}: {functions:?}"));
    body.iter().map(String::as_str).collect()
}

/// A mnemonic without what follows.
fn mnemonic(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

#[test]
fn arm64() {
    let Some(all) = assembled("aarch64-unknown-none", "aarch64.rs") else { return };
    for (name, first) in [
        ("f_load8", "ldrb w"),
        ("f_load16", "ldrh w"),
        ("f_load32", "ldr w"),
        ("f_load64", "ldr x"),
        ("f_store8", "strb w"),
        ("f_store16", "strh w"),
        ("f_store32", "str w"),
        ("f_store64", "str x"),
    ] {
        let body = of(&all, name);
        let accesses: Vec<_> =
            body.iter().filter(|l| mnemonic(l).starts_with("ld") || mnemonic(l).starts_with("st")).collect();
        assert_eq!(accesses.len(), 1, "{name}: {body:?}");
        // A base register and nothing else: `[x0]`, no `!` and no offset after the bracket.
        assert!(accesses[0].starts_with(first) && accesses[0].ends_with("[x0]"), "{name}: {body:?}");
    }
    let body = of(&all, "f_line");
    let at = body.iter().position(|l| mnemonic(l) == "str").unwrap();
    for (i, store) in body[at..at + 8].iter().enumerate() {
        let end = if i == 0 { "]".into() } else { format!("#{}]", 8 * i) };
        assert!(store.starts_with("str x") && store.ends_with(&end), "{i}: {body:?}");
    }
    assert_eq!(body.iter().filter(|l| mnemonic(l).starts_with("st")).count(), 8);
    // ST64B x0, [x8]: 1111 1000 0011 1111 1001 00 nnnnn ttttt.
    let body = of(&all, "f_store64_bytes");
    let word: Vec<u32> =
        body.iter().filter_map(|l| u32::from_str_radix(l.strip_prefix(".inst 0x")?, 16).ok()).collect();
    assert_eq!(word, [0b1111_1000_0011_1111_1001_0001_0000_0000], "{body:?}");
    let body = of(&all, "f_loop");
    let stores: Vec<_> = body.iter().filter(|l| mnemonic(l).starts_with("st")).collect();
    assert!(
        !stores.is_empty() && stores.iter().all(|l| l.starts_with("str w") && l.ends_with(']') && !l.contains('#')),
        "{body:?}"
    );
}

#[test]
fn x86() {
    let Some(all) = assembled("x86_64-unknown-linux-gnu", "x86_64.rs") else { return };
    for (name, size) in [("8", "byte"), ("16", "word"), ("32", "dword"), ("64", "qword")] {
        for what in ["f_load", "f_store"] {
            let body = of(&all, &format!("{what}{name}"));
            // The compiler prints AT&T syntax: `movl (%rdi), %eax`.
            let accesses: Vec<_> = body.iter().filter(|l| l.contains("(%rdi)")).collect();
            let suffix = match size {
                "byte" => "movb",
                "word" => "movw",
                "dword" => "movl",
                _ => "movq",
            };
            assert_eq!(accesses.len(), 1, "{what}{name}: {body:?}");
            assert_eq!(mnemonic(accesses[0]), suffix, "{what}{name}: {body:?}");
        }
    }
    let body = of(&all, "f_line");
    let stores: Vec<_> = body.iter().filter(|l| mnemonic(l) == "movq" && l.ends_with("(%rdi)")).collect();
    let offsets = ["(%rdi)", "8(%rdi)", "16(%rdi)", "24(%rdi)", "32(%rdi)", "40(%rdi)", "48(%rdi)", "56(%rdi)"];
    assert_eq!(stores.len(), 8, "{body:?}");
    assert!(stores.iter().zip(offsets).all(|(l, o)| l.ends_with(&format!(", {o}"))), "{body:?}");
    assert!(of(&all, "f_store64_bytes").iter().any(|l| mnemonic(l) == "movdir64b"));
    assert!(
        of(&all, "f_loop")
            .iter()
            .filter(|l| l.contains("(%rdi") && l.starts_with("mov"))
            .all(|l| mnemonic(l) == "movl")
    );
}
