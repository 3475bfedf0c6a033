//! The scanner: the right lines of a long log, beside a naive reference, in any pieces, on any bytes.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use diagnose::{all, log};
use proptest::prelude::*;

/// Lines that have nothing to do with it, some of which look as if they had.
const NOISE: &[&str] = &[
    "[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x410fd0c1]",
    "[    0.000000] Linux version 6.1.0-28-arm64 (debian-kernel@lists.debian.org) (gcc-12) #1 SMP Debian 6.1.119-1",
    "[    0.182342] CPU features: detected: Instruction cache invalidation not required for I/D coherence",
    "[    1.201188] kvm [1]: IPA Size Limit: 44 bits",
    "[    1.201344] kvm [1]: VHE mode initialized successfully",
    "[    2.441562] pci 0000:01:00.0: BAR 0: assigned [mem 0x10000000-0x1fffffff 64bit pref]",
    "[    2.514211] arm-smmu-v3 arm-smmu-v3.0.auto: ias 48-bit, oas 48-bit (features 0x00001fef)",
    "[    3.012455] AER: enabled with IRQ 31",
    "[    3.318881] vfio-pci 0000:01:00.0: enabling device (0000 -> 0002)",
    "[    4.000001] x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT",
    "[    4.120000] DMAR: DRHD: handling fault status reg 3",
    "[    5.551212] systemd[1]: Started Journal Service.",
    "Nov 21 13:00:01 host CRON[1234]: (root) CMD (run-parts /etc/cron.hourly)",
    "[    6.100000] EXT4-fs (vda1): mounted filesystem with ordered data mode. Quota mode: none.",
    "",
];

fn noise(n: usize) -> impl Iterator<Item = String> {
    (0..n).map(|i| NOISE[(i * 7 + i / 11) % NOISE.len()].to_string())
}

/// Every line by itself, without the search for candidates.
fn naive(log: &[u8]) -> Vec<(String, u64, u64)> {
    let mut found: Vec<(String, u64, u64)> = Vec::new();
    for (number, line) in log.split(|b| *b == b'\n').enumerate() {
        for it in log::scan(line) {
            match found.iter_mut().find(|(name, ..)| *name == it.case.name) {
                Some((_, _, count)) => *count += it.count,
                None => found.push((it.case.name.clone(), number as u64 + 1, it.count)),
            }
        }
    }
    found
}

fn short(found: &[log::Match]) -> Vec<(String, u64, u64)> {
    found.iter().map(|m| (m.case.name.clone(), m.lines[0].number, m.count)).collect()
}

#[test]
fn exactly_the_right_lines() {
    let mut lines: Vec<String> = noise(20_000).collect();
    lines[100] = "[  812.334455] kvm [4242]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061".into();
    for at in (5000..9000).step_by(10) {
        lines[at] = format!(
            "[ 1{at}.0] kvm [4242]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x920000{:02x}",
            if at % 20 == 0 { 0x61 } else { 0x21 }
        );
    }
    lines[12_345] =
        "[ 2000.1] vfio-pci 0000:01:00.0: BAR 3: can't reserve [mem 0xa0000000-0xa1ffffff 64bit pref]".into();
    lines[19_999] = "[ 3000.1] SError Interrupt on CPU1, code 0x00000000bf000002 -- SError".into();
    let found = log::scan(lines.join("\n").as_bytes());
    assert_eq!(
        short(&found),
        [("stage2-alignment".into(), 101, 401), ("bar-cant-reserve".into(), 12_346, 1), ("serror".into(), 20_000, 1)]
    );
    let first = &found[0];
    assert_eq!(first.lines.iter().map(|l| l.number).collect::<Vec<_>>(), [101, 5001, 5011, 5021]);
    assert_eq!(first.last, 8991);
    assert!(first.captured.contains(&("esr".into(), "0x92000061".into())));
    assert_eq!(found[1].lines[0].text, lines[12_345]);
}

#[test]
fn noise_alone_has_nothing() {
    let text: String = noise(5000).map(|line| line + "\n").collect();
    assert_eq!(short(&log::scan(text.as_bytes())), []);
    let (found, lines) = log::read(text.as_bytes(), |_| ()).unwrap();
    assert!(found.is_empty());
    assert_eq!(lines, 5000);
}

#[test]
fn every_example_line_is_found_in_a_log() {
    for case in all() {
        for example in case.examples.iter().filter(|e| case.lines.iter().any(|p| p.is_in(e.as_bytes()))) {
            let text = format!("noise\n{example}\nnoise");
            let found = log::scan(text.as_bytes());
            assert_eq!(found.first().map(|m| (&m.case.name, m.lines[0].number)), Some((&case.name, 2)), "{example}");
        }
    }
}

#[test]
fn a_line_is_cut_and_cleaned() {
    let long =
        format!("Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061 {}\u{1b}[31mred\u{7}\n", "x".repeat(1_000_000));
    let found = log::scan(long.as_bytes());
    assert!(found[0].lines[0].text.chars().count() <= 401 && found[0].lines[0].text.ends_with('…'));
    let found = log::scan(b"\x1b[2J\xffUnsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061\x07\r\n");
    assert!(!found[0].lines[0].text.contains(char::is_control));
    // What is beyond the bytes that are looked at is not found: the line is only so long.
    let late = format!("{}Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061", "x".repeat(log::LONGEST));
    assert_eq!(short(&log::scan(late.as_bytes())), []);
}

/// A log of examples, noise and bytes.
fn any_log() -> impl Strategy<Value = Vec<u8>> {
    let examples: Vec<Vec<u8>> = all().iter().flat_map(|c| &c.examples).map(|e| e.clone().into_bytes()).collect();
    let noise: Vec<Vec<u8>> = NOISE.iter().map(|l| l.as_bytes().to_vec()).collect();
    let piece = prop_oneof![
        3 => prop::sample::select(examples),
        3 => prop::sample::select(noise),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        3 => Just(b"\n".to_vec()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = log::scan(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = diagnose::ask(&text);
        let _ = diagnose::nearest(&text);
    }

    #[test]
    fn as_line_by_line(log in any_log()) {
        prop_assert_eq!(short(&log::scan(&log)), naive(&log));
    }

    #[test]
    fn however_it_is_cut(log in any_log(), cuts in prop::collection::vec(1usize..50, 1..20)) {
        let whole = log::scan(&log);
        let mut scanner = log::Scanner::new();
        let (mut rest, mut cuts) = (log.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            scanner.push(piece);
            rest = after;
        }
        let (found, lines) = scanner.finish();
        prop_assert_eq!(&found, &whole);
        let expected = log.iter().filter(|b| **b == b'\n').count() as u64 + u64::from(log.last().is_some_and(|b| *b != b'\n'));
        prop_assert_eq!(lines, expected);
    }

    #[test]
    fn an_example_with_bytes_exchanged(at in any::<prop::sample::Index>(), which in any::<prop::sample::Index>(), by in any::<u8>()) {
        let examples: Vec<&String> = all().iter().flat_map(|c| &c.examples).collect();
        let mut bytes = which.get(&examples).as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = by;
        for found in diagnose::ask(&String::from_utf8_lossy(&bytes)) {
            let _ = diagnose::filled(&found.case.cause, &found.captured);
        }
    }
}

/// Beside `grep -F` of one string, on a log of 100 MB: `cargo test -p diagnose --release --test log -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn a_hundred_megabytes() {
    use std::time::Instant;
    let mut text = String::new();
    for (i, line) in noise(usize::MAX).enumerate() {
        text.push_str(&line);
        text.push('\n');
        if i % 100_000 == 0 {
            text.push_str("[  812.334455] kvm [4242]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061\n");
        }
        if text.len() > 100_000_000 {
            break;
        }
    }
    let file = std::env::temp_dir().join("diagnose-100mb.log");
    std::fs::write(&file, &text).unwrap();
    let begun = Instant::now();
    let (found, lines) = log::read(std::fs::File::open(&file).unwrap(), |_| ()).unwrap();
    let ours = begun.elapsed();
    let begun = Instant::now();
    let out = std::process::Command::new("grep").args(["-cF", "Unsupported FSC"]).arg(&file).output().unwrap();
    let grep = begun.elapsed();
    let hostile = "Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061\n".repeat(200_000);
    let begun = Instant::now();
    let worst = log::scan(hostile.as_bytes());
    let each = begun.elapsed();
    std::fs::remove_file(&file).unwrap();
    let count = String::from_utf8(out.stdout).unwrap().trim().parse::<u64>().unwrap();
    assert_eq!((short(&found)[0].2, worst[0].count), (count, 200_000));
    let per_second = lines as f64 / ours.as_secs_f64() / 1e6;
    println!(
        "{} MB, {lines} lines: {ours:?} ({per_second:.1} million lines/s); grep -F {grep:?}",
        text.len() / 1_000_000
    );
    println!("every line a symptom: {:.2} million lines/s", 200_000.0 / each.as_secs_f64() / 1e6);
}
