//! The table of errata: what it must hold, how it matches, and that no text can break its reader.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use platform::errata::{self, Checked, Erratum, Midr, PciId, Revision};
use platform::{Containment, Errors, NcDefect, NoSnoop, Platform};
use proptest::prelude::*;

const FILE: &str = include_str!("../errata.toml");

/// One entry, with these further lines.
fn entry(more: &str) -> String {
    format!(
        "implementer = []\n[[erratum]]\nname = \"a-1\"\ntitle = \"t\"\nbreaks = \"b\"\nworkaround = \"w\"\nchecked = \"read\"\n{more}\n"
    )
}

fn every_platform() -> Vec<Platform> {
    let mut out = Vec::new();
    for device in Errors::ALL {
        for normal in Errors::ALL {
            for normal_nc in NcDefect::ALL {
                for no_snoop in [NoSnoop::Never, NoSnoop::Possible] {
                    for bits in 0..4 {
                        let (coherent, described) = (bits & 1 != 0, bits & 2 != 0);
                        let containment = Containment { device, normal };
                        out.push(Platform { containment, normal_nc, coherent, no_snoop, described });
                    }
                }
            }
        }
    }
    out
}

/// `a` does wrong whatever `b` does.
fn as_bad(a: NcDefect, b: NcDefect) -> bool {
    b == NcDefect::None || a == NcDefect::Fails || a == b
}

fn rank(e: Errors) -> u8 {
    match e {
        Errors::AllOnes => 0,
        Errors::Contained => 1,
        Errors::Uncontained => 2,
    }
}

fn no_better(after: &Platform, before: &Platform) -> bool {
    rank(after.containment.device) >= rank(before.containment.device)
        && rank(after.containment.normal) >= rank(before.containment.normal)
        && as_bad(after.normal_nc, before.normal_nc)
        && (before.coherent || !after.coherent)
        && (before.no_snoop == NoSnoop::Never || after.no_snoop == NoSnoop::Possible)
        && after.described == before.described
}

#[test]
fn the_file_is_a_table() {
    if let Err(e) = errata::table() {
        panic!("{e}");
    }
    assert_eq!(errata::all().len(), FILE.matches("[[erratum]]").count());
    let names: BTreeSet<_> = errata::all().iter().map(|e| &e.name).collect();
    assert_eq!(names.len(), errata::all().len());
    for e in errata::all() {
        assert!(std::ptr::eq(errata::named(&e.name).unwrap(), e));
        assert!(!e.source.is_empty() && !e.workaround.is_empty(), "{}", e.name);
        assert!(e.title.chars().count() <= 100, "{}: {}", e.name, e.title);
        assert!(!e.breaks.contains('\n'), "{}", e.name);
        // What nobody could read is marked so, and the other way round.
        let unread = e.source.iter().any(|s| s.contains("(not read)"));
        assert_eq!(unread, e.checked == Checked::Unverified, "{}", e.name);
        for text in [&e.breaks, &e.workaround].into_iter().chain(&e.note).chain(&e.source) {
            assert!(!text.contains("http"), "{}: {text}", e.name);
        }
    }
    assert!(errata::named("altra").is_none());
    assert!(FILE.lines().all(|l| l.chars().count() <= 160 && l.trim_end() == l), "long or blank at the end");
}

/// The matches that Linux has, said again as numbers.
#[test]
fn matches() {
    let by_cpu = |midr: u32| names(&errata::matching(Some(Midr(midr)), &[], &[]));
    // Cortex-A57 r0p0 to r1p2 (0x410fd070 to 0x411fd072), and the edges outside.
    for midr in [0x410f_d070, 0x410f_d07f, 0x411f_d070, 0x411f_d072] {
        assert_eq!(by_cpu(midr), ["cortex-a57-832075", "cortex-a57-834220"], "{midr:#x}");
    }
    for midr in [0x411f_d073, 0x412f_d070, 0x412f_d072, 0x41ff_d07f] {
        assert!(by_cpu(midr).is_empty(), "{midr:#x}");
    }
    // Cortex-A77 r0p0 to r1p0.
    assert_eq!(by_cpu(0x410f_d0d0), ["cortex-a77-1508412"]);
    assert_eq!(by_cpu(0x411f_d0d0), ["cortex-a77-1508412"]);
    assert!(by_cpu(0x411f_d0d1).is_empty());
    // All revisions.
    for midr in [0x4e0f_0100, 0x4eff_010f] {
        assert_eq!(by_cpu(midr), ["olympus-1027"]);
    }
    assert_eq!(by_cpu(0x431f_0af1), ["thunderx2-nc-combine"]);
    assert_eq!(by_cpu(0x420f_5160), ["thunderx2-nc-combine"]);
    // Another implementer with that part, another architecture, a part next to it; Neoverse N1 is Altra's CPU and others'.
    for midr in [0x4e0f_d0d0, 0x4101_d0d0, 0x410f_d0e0, 0x413f_d0c1, 0, u32::MAX] {
        assert!(by_cpu(midr).is_empty(), "{midr:#x}");
    }

    let by_port = |id: &str| names(&errata::matching(None, &[id.parse().unwrap()], &[]));
    assert_eq!(by_port("1def:e100"), ["altra-pcie65"]);
    assert_eq!(by_port("1DEF:E114"), ["altra-pcie65"]);
    assert!(by_port("1def:e00c").is_empty(), "eMAG");
    assert!(by_port("1def:e109").is_empty());
    let by_soc = |it: &str| names(&errata::matching(None, &[], &[it]));
    assert_eq!(by_soc("brcm,bcm2711"), ["bcm2711-pcie", "brcmstb-pcie-abort"]);
    assert!(by_soc("brcm,bcm271").is_empty());

    // All together, each once, in the order of the file; nothing known matches nothing.
    let ids: [PciId; 2] = ["8086:0000".parse().unwrap(), "1def:e110".parse().unwrap()];
    let found = errata::matching(Some(Midr(0x411f_d0d0)), &ids, &["a,b", "brcm,bcm2711", "brcm,bcm2712"]);
    let order: Vec<_> = errata::all().iter().filter(|e| found.contains(e)).map(|e| e.name.as_str()).collect();
    assert_eq!(names(&found), order);
    assert_eq!(order.len(), 6);
    assert!(errata::matching(None, &[], &[]).is_empty());
}

fn names(found: &[&Erratum]) -> Vec<String> {
    found.iter().map(|e| e.name.clone()).collect()
}

#[test]
fn an_erratum_never_makes_a_platform_better() {
    for before in every_platform() {
        for e in errata::all() {
            let after = e.apply(before);
            assert!(no_better(&after, &before), "{}: {before:?} to {after:?}", e.name);
            assert_eq!(e.apply(after), after, "{}: twice is once", e.name);
            assert_eq!(e.effect.is_empty(), every_platform().iter().all(|p| e.apply(*p) == *p), "{}", e.name);
            for other in errata::all() {
                assert_eq!(other.apply(after), e.apply(other.apply(before)), "{} and {}", e.name, other.name);
            }
        }
    }
}

/// Each effect arrives, on a server that has nothing wrong.
#[test]
fn effects() {
    let of = |name: &str| errata::named(name).unwrap().apply(Platform::USUAL);
    let usual = Platform::USUAL;
    assert_eq!(of("altra-pcie65"), Platform { normal_nc: NcDefect::Holes, ..usual });
    assert_eq!(of("vera-pcie-nc"), Platform { normal_nc: NcDefect::Partial, ..usual });
    assert_eq!(of("bcm2711-pcie"), Platform { normal_nc: NcDefect::Long, coherent: false, ..usual });
    assert_eq!(of("apple-pcie-nc"), Platform { normal_nc: NcDefect::Fails, ..usual });
    let containment = Containment { device: Errors::Uncontained, normal: Errors::Uncontained };
    assert_eq!(of("brcmstb-pcie-abort"), Platform { containment, ..usual });
    assert_eq!(of("rk356x-dma"), Platform { coherent: false, ..usual });
    for nothing in ["thunderx2-nc-combine", "lx2160a-nc", "rk3399-pcie-abort", "olympus-1027", "cortex-a77-1508412"] {
        assert_eq!(of(nothing), usual);
    }
    // Two different defects of Normal-NC: neither name is enough.
    let both = errata::named("altra-pcie65").unwrap().apply(of("bcm2711-pcie"));
    assert_eq!((both.normal_nc, both.coherent), (NcDefect::Fails, false));
}

#[test]
fn ids() {
    let midr = Midr(0x413f_d0c1);
    assert_eq!((midr.implementer(), midr.variant(), midr.architecture()), (0x41, 3, 0xF));
    assert_eq!((midr.part(), midr.revision()), (0xD0C, 1));
    for (midr, says) in [
        (0x413f_d0c1, "Arm Neoverse N1 r3p1"),
        (0x431f_0af1, "Cavium ThunderX2 r1p1"),
        (0x4e0f_0100, "NVIDIA Olympus r0p0"),
        (0x410f_ffff, "Arm part 0xfff r0p15"),
        (0xffff_ffff, "implementer 0xff part 0xfff r15p15"),
    ] {
        assert_eq!(Midr(midr).to_string(), says);
    }
    assert_eq!("0x413fd0c1".parse(), Ok(midr));
    assert_eq!("0x00000000413FD0C1".parse(), Ok(midr));
    assert_eq!("1094701249".parse::<Midr>().unwrap(), midr);
    for (bad, says) in [
        ("", "like 0x413fd0c1"),
        ("0x", "like"),
        ("0x-1", "like"),
        ("+1", "like"),
        ("413fd0c1", "like"),
        ("0x1413fd0c1", "63 to 32"),
        ("0x10000000000000000", "64 bits"),
        ("é", "like"),
    ] {
        let e = bad.parse::<Midr>().unwrap_err().to_string();
        assert!(e.contains(says) && e.contains(bad), "{bad}: {e}");
    }
    assert_eq!("1def:e100".parse(), Ok(PciId { vendor: 0x1DEF, device: 0xE100 }));
    assert_eq!("0000:ffff".parse::<PciId>().unwrap().to_string(), "0000:ffff");
    for bad in [
        "",
        ":",
        "1def",
        "1def:",
        "1def:e10",
        "1def:e1000",
        "1def:+100",
        "0x1def:e100",
        "1def:e100:0",
        "1def e100",
        "é:é",
    ] {
        assert!(bad.parse::<PciId>().is_err(), "{bad}");
    }
    for r in 0..=15 {
        for p in 0..=15 {
            let it = Revision { variant: r, revision: p };
            assert_eq!(it.to_string().parse(), Ok(it));
        }
    }
    for bad in ["", "r1", "p0", "r1p", "rp", "r16p0", "r0p16", "r+1p0", "r001p0", "R1p0", "r1p0 ", "r256p0"] {
        assert!(bad.parse::<Revision>().is_err(), "{bad}");
    }
}

#[test]
fn what_is_wrong_with_a_table_is_said() {
    let good = "source = [\"s\"]\nnote = \"n\"\nno-id = \"i\"";
    assert_eq!(errata::parse(&entry(good)).unwrap().errata().len(), 1);
    let cpu = |it: &str| format!("source = [\"s\"]\nnote = \"n\"\nmatch.cpu = [{it}]");
    for (more, says) in [
        ("source = []\nnote = \"n\"\nno-id = \"i\"".to_owned(), "no source"),
        ("source = [\" \"]\nnote = \"n\"\nno-id = \"i\"".into(), "empty text"),
        ("note = \"n\"\nno-id = \"i\"".into(), "source"),
        ("source = [\"s\"]\nno-id = \"i\"".into(), "cannot express"),
        ("source = [\"s\"]\nnote = \"n\"".into(), "no-id"),
        (format!("{good}\nmatch.soc = [\"a,b\"]"), "no-id"),
        (format!("{good}\nworks = true"), "works"),
        (format!("{good}\neffect.normal-nc = \"none\""), "no defect"),
        (format!("{good}\neffect.normal-nc = \"often\""), "often"),
        (format!("{good}\neffect.coherent = true"), "no defect"),
        (format!("{good}\neffect.no-snoop = \"never\""), "no defect"),
        (format!("{good}\neffect.containment.normal = \"all-ones\""), "worse"),
        (format!("{good}\neffect.containment = {{}}"), "worse"),
        (format!("{good}\neffect.described = true"), "described"),
        (cpu("{ implementer = 0x41 }"), "part"),
        (cpu("{ implementer = 0x141, part = 1 }"), "321"),
        (cpu("{ implementer = 0x41, part = 0x1000 }"), "12 bits"),
        (cpu("{ implementer = 0x41, part = 1, from = \"r1p0\", to = \"r0p9\" }"), "not after"),
        (cpu("{ implementer = 0x41, part = 1, from = \"1.0\" }"), "r1p0"),
        ("source = [\"s\"]\nnote = \"n\"\nmatch.root-port = [\"1def\"]".into(), "1def:e100"),
    ] {
        let e = errata::parse(&entry(&more)).unwrap_err().to_string();
        assert!(e.contains(says), "{more}\n{e}");
    }
    let twice = format!("{}{}", entry(good), entry(good).replacen("implementer = []", "", 1));
    assert!(errata::parse(&twice).unwrap_err().to_string().contains("given twice"));
    for name in ["", "A", "a_b", "-a", "a--b", "a b", "é"] {
        let text = entry(good).replacen("a-1", name, 1);
        assert!(errata::parse(&text).unwrap_err().to_string().contains("hyphens"), "{name}");
    }
    let parts = "erratum = []\n[[implementer]]\ncode = 1\nname = \"x\"\nparts = [{ part = 1, name = \"y\" }, { part = 1, name = \"z\" }]";
    assert!(errata::parse(parts).unwrap_err().to_string().contains("twice"));
    assert!(errata::parse("").is_err());
}

/// As JSON an entry is what it was: nothing is lost or renamed on the way.
#[test]
fn entries_read_back() {
    for e in errata::all() {
        let text = toml::Value::try_from(e).unwrap();
        assert_eq!(text.clone().try_into::<Erratum>().unwrap(), *e, "{text:?}");
    }
}

proptest! {
    /// No text, and no damage to the real one, does more than fail.
    #[test]
    fn hostile_text(text in ".{0,300}") {
        let _ = errata::parse(&text);
        let _ = errata::parse(&entry(&text));
        let _ = (text.parse::<Midr>().is_ok(), text.parse::<PciId>().is_ok(), text.parse::<Revision>().is_ok());
    }

    #[test]
    fn damaged(at in 0..FILE.len(), len in 0..40usize, with in "[\\PC\n\"\\[\\]{}=.]{0,6}") {
        let mut bytes = FILE.as_bytes().to_vec();
        let end = (at + len).min(bytes.len());
        bytes.splice(at..end, with.bytes());
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(table) = errata::parse(&text) {
            for e in table.errata() {
                prop_assert!(!e.source.is_empty());
                prop_assert!(no_better(&e.apply(Platform::USUAL), &Platform::USUAL));
            }
        }
    }

    /// A range holds what lies between its ends, in the order of variant and then revision.
    #[test]
    fn ranges(from in 0..=255u8, to in 0..=255u8, it in 0..=255u8) {
        let revision = |n: u8| Revision { variant: n >> 4, revision: n & 15 };
        let cpu = errata::CpuMatch { implementer: 0x41, part: 0xD07, from: revision(from), to: revision(to) };
        let midr = Midr(0x410F_D070 | u32::from(it >> 4) << 20 | u32::from(it & 15));
        prop_assert_eq!(cpu.is(midr), from <= it && it <= to);
    }
}

#[test]
fn deep_nesting_is_refused_quickly() {
    for open in ["[", "{a=", "a."] {
        assert!(errata::parse(&format!("x = {}", open.repeat(200_000))).is_err());
    }
}
