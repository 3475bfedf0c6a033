//! The ESR tables beside those of the `aarch64-esr-decoder` crate (Google), which was written from the same manual by
//! others. Where the two differ, the difference is listed here by name, with who is right.
#![forbid(unsafe_code)]

use aarch64_esr_decoder::{FieldInfo, decode as theirs};
use bartender::decode::esr::{self, Given, class_of};
use bartender::decode::fsc::Side;

fn find<'a>(fields: &'a [FieldInfo], name: &str) -> Option<&'a FieldInfo> {
    fields.iter().find_map(|f| if f.name == name { Some(f) } else { find(&f.subfields, name) })
}

/// Exception classes that DDI 0487 M.a.a has (D24.2.45 to D24.2.47) and the crate, at 0.2.5, does not.
const EC_THEY_LACK: [u8; 12] = [0x08, 0x09, 0x12, 0x13, 0x14, 0x1a, 0x1d, 0x1e, 0x1f, 0x27, 0x2d, 0x3a];
/// The Profiling exception, of the newest issue.
const EC_NEWEST: [u8; 1] = [0x3d];

/// A word or two that both names must have.
fn essence(ec: u8) -> &'static [&'static str] {
    match ec {
        0x00 => &["unknown"],
        0x01 => &["wf"],
        0x03 | 0x05 => &["mcr", "mrc"],
        0x04 => &["mcrr"],
        0x06 => &["ldc", "stc"],
        0x07 => &["simd", "floating"],
        0x0a => &["ld64b"],
        0x0c => &["mrrc"],
        0x0d => &["branch target"],
        0x0e => &["illegal"],
        0x11 => &["svc", "aarch32"],
        0x15 => &["svc", "aarch64"],
        0x16 => &["hvc", "aarch64"],
        0x17 => &["smc", "aarch64"],
        0x18 => &["msr", "mrs", "system"],
        0x19 => &["sve"],
        0x1c => &["pointer authentication", "failure"],
        0x20 | 0x21 => &["instruction abort"],
        0x22 => &["pc alignment"],
        0x24 | 0x25 => &["data abort"],
        0x26 => &["sp alignment"],
        0x28 => &["floating", "aarch32"],
        0x2c => &["floating", "aarch64"],
        0x2f => &["serror"],
        0x30 | 0x31 => &["breakpoint"],
        0x32 | 0x33 => &["software step"],
        0x34 | 0x35 => &["watchpoint"],
        0x38 => &["bkpt"],
        0x3c => &["brk"],
        _ => &[],
    }
}

#[test]
fn exception_classes() {
    let mut agreed = 0;
    for ec in 0..64u8 {
        // Theirs refuses an ISS that a class cannot have: a debug exception has the status code 0x22.
        let theirs = [0, 0x22].into_iter().find_map(|iss| theirs(u64::from(ec) << 26 | iss).ok());
        let (Some(ours), Some(theirs)) = (class_of(ec), &theirs) else {
            let listed = EC_THEY_LACK.contains(&ec) || EC_NEWEST.contains(&ec);
            assert_eq!(class_of(ec).is_some(), listed, "EC {ec:#x}");
            assert!(theirs.is_none(), "EC {ec:#x} is one we lack");
            continue;
        };
        let ours = ours.name.to_lowercase();
        let theirs = find(theirs, "EC").unwrap().description.clone().unwrap().to_lowercase();
        let essence = essence(ec);
        assert!(!essence.is_empty(), "EC {ec:#x}: {theirs}");
        for word in essence {
            assert!(ours.contains(word) && theirs.contains(word), "EC {ec:#x}: {ours} / {theirs}");
        }
        for side in ["lower", "without a change"] {
            assert_eq!(ours.contains(side), theirs.contains(side), "EC {ec:#x}: {ours} / {theirs}");
        }
        agreed += 1;
    }
    assert!(agreed > 30, "{agreed}");
}

/// Level -2 (FEAT_D128): in the manual, not in the crate.
const FSC_THEY_LACK: [u8; 4] = [0x12, 0x22, 0x2a, 0x2c];
/// Codes the manual gives for data aborts only (D24.2.46): the crate has one table for both and accepts them for
/// instruction aborts.
const DATA_ONLY: [u8; 4] = [0x11, 0x21, 0x34, 0x35];

#[test]
fn fault_status_codes() {
    for (ec, side) in [(0x24u64, Side::Data), (0x20, Side::Instruction)] {
        for code in 0..64u8 {
            let ours = side.decode(code);
            let theirs = theirs(ec << 26 | u64::from(code)).ok().map(|fields| {
                let name = if side == Side::Data { "DFSC" } else { "IFSC" };
                find(&fields, name).unwrap().description.clone().unwrap().to_lowercase()
            });
            match (ours, theirs) {
                (None, None) => {}
                (Some(_), None) => assert!(FSC_THEY_LACK.contains(&code), "{code:#x}: they lack it"),
                (None, Some(t)) => assert!(side == Side::Instruction && DATA_ONLY.contains(&code), "{code:#x}: {t}"),
                (Some(ours), Some(theirs)) => {
                    let name = ours.to_string().to_lowercase();
                    let level = theirs.split("level ").nth(1).map(|l| {
                        let end = l.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(l.len());
                        l[..end].parse::<i8>().unwrap()
                    });
                    assert_eq!(ours.level, level, "{code:#x}: {name} / {theirs}");
                    for word in [
                        "address size",
                        "translation fault",
                        "access flag",
                        "permission",
                        "external abort",
                        "tag check",
                        "parity",
                        "alignment",
                        "granule protection",
                        "tlb conflict",
                        "lockdown",
                        "exclusive",
                        "not on",
                    ] {
                        assert_eq!(name.contains(word), theirs.contains(word), "{code:#x} {word}: {name} / {theirs}");
                    }
                }
            }
        }
    }
}

/// Every field of a data abort that both name has the same place, and the same value.
#[test]
fn fields_of_aborts() {
    // Theirs allows no ISS2 above bit 36, and none of the fields that M.a.a has between 23:14 with ISV = 0.
    for esr in
        [0x9200_0061u64, 0x93c0_8047, 0x93c4_8021, 0x9200_0010, 0x9600_0061, 0x8200_000f, 0x93e3_8147, 0x9200_1810]
    {
        let theirs = theirs(esr).unwrap();
        let ours = esr::decode(Given { value: esr, el: None, suspicious: false }, None);
        let mut compared = 0;
        for f in &ours.fields {
            if let Some(t) = find(&theirs, f.name) {
                let iss = (usize::from(f.low), usize::from(f.high - f.low) + 1);
                assert_eq!((t.start, t.width, t.value), (iss.0, iss.1, f.value), "{esr:#x} {}", f.name);
                compared += 1;
            }
        }
        assert!(compared >= 5, "{esr:#x}: {compared}");
    }
}
