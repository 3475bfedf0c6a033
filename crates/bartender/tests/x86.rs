//! The commands for x86, as people run them.
#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use serde_json::Value;

fn words(args: &str) -> Vec<&str> {
    args.split(' ').collect()
}

fn stdout(args: &str) -> String {
    common::stdout(&words(args))
}

fn json(args: &str) -> Value {
    common::json(&words(&format!("{args} --json")))
}

fn refused(args: &str) -> String {
    common::refused(&words(args))
}

/// Row by row against Table 11-7 of the SDM as Xen has it in numbers: by MTRR type, for PAT UC, UC-, WC, WT, WP, WB.
#[test]
fn table_x86_csv() {
    const NAMES: [&str; 5] = ["uc", "wc", "wt", "wp", "wb"];
    const PATS: [&str; 6] = ["uc", "ucm", "wc", "wt", "wp", "wb"];
    const ROWS: [[usize; 6]; 5] =
        [[0, 0, 1, 0, 0, 0], [0, 1, 1, 0, 0, 1], [0, 0, 1, 2, 3, 2], [0, 1, 1, 2, 3, 3], [0, 0, 1, 2, 3, 4]];

    let csv = stdout("table x86 --csv");
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("ept,ipat,guest_pat,type"));
    for (ept, name) in NAMES.into_iter().enumerate() {
        for ipat in 0..2 {
            for (pat, entry) in PATS.into_iter().enumerate() {
                let ty = if ipat == 1 { ept } else { ROWS[ept][pat] };
                assert_eq!(lines.next().unwrap(), format!("{name},{ipat},{entry},{}", NAMES[ty]));
            }
        }
    }
    assert_eq!(lines.next(), None);
    let it = json("table x86");
    assert_eq!(it.as_array().unwrap().len(), 60);
    assert_eq!((&it[2]["ipat"], &it[2]["guest_pat"], &it[2]["type"]), (&false.into(), &"wc".into(), &"wc".into()));
    // For people: no line over 100 columns.
    assert!(stdout("table x86").lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn explain_ept_and_mtrr() {
    let it = json("explain --arch x86 pat=wc ept=uc");
    assert_eq!((&it["arch"], &it["type"]), (&"x86".into(), &"wc".into()));
    assert_eq!(it["layers"].as_array().unwrap().len(), 2);
    assert_eq!(it["guarantees"].as_array().unwrap().len(), 19);
    for (terms, ty) in [
        ("pat=wc ept=uc ipat=1", "uc"),
        ("pat=wb ept=uc", "uc"),
        ("pat=WB ept=WB", "wb"),
        ("pat=wb ept=wb cd=1", "uc"),
        ("pat=wc ept=wb cd=1", "uc"),
        ("pat=ucm mtrr=wc", "wc"),
        ("pat=uc mtrr=wc", "uc"),
        ("pat=wc mtrr=uc", "wc"),
        ("pat=wb mtrr=wb cd=1", "uc"),
        // Write-combining is no caching.
        ("pat=wc mtrr=wb cd=1", "wc"),
    ] {
        assert_eq!(json(&format!("explain --arch x86 {terms}"))["type"], ty, "{terms}");
    }
    // Where somebody says otherwise, it says who.
    let it = json("explain --arch x86 pat=wp mtrr=wt");
    let notes = it["notes"].to_string();
    assert!(notes.contains("Bochs") && notes.contains("APM vol. 2 7.8.5") && notes.contains("CD"), "{notes}");
}

#[test]
fn explain_amd() {
    let it = json("explain --arch x86 pat=wc npt=wb");
    assert_eq!(it["type"], "wc");
    let because = it["because"].as_array().unwrap();
    assert!(because[0]["says"].as_str().unwrap().ends_with("come to WC+."));
    assert_eq!((&because[0]["checked"], &because[1]["checked"]), (&"second-hand".into(), &"second-hand".into()));
    for (terms, ty, shown) in [
        ("pat=wc npt=wb mtrr=wb", "wc", "WC+"),
        ("pat=wb npt=wb", "uc", "UC"),
        ("pat=wb npt=wb mtrr=wb", "wb", "WB"),
        ("pat=ucm npt=wb mtrr=wc", "uc", "CD"),
        ("pat=wb npt=wb mtrr=wb cd=1", "uc", "CD"),
        ("pat=wb npt=wc", "wc", "WC"),
    ] {
        assert_eq!(json(&format!("explain --arch x86 {terms}"))["type"], ty, "{terms}");
        let text = stdout(&format!("explain --arch x86 {terms}"));
        let result = text.lines().find(|line| line.trim_start().starts_with("result")).unwrap();
        assert!(result.ends_with(&format!(" {shown}")), "{terms}: {result}");
    }
}

#[test]
fn explain_what_kvm_writes() {
    for (terms, ty) in [
        ("pat=wc kvm=6.12", "wc"),
        ("pat=wb kvm=6.12", "uc"),
        ("pat=wb kvm=6.1 pfn=mmio cd=1", "uc"),
        ("pat=wc kvm=6.12 pfn=ram", "wb"),
        ("pat=wc kvm=6.12 pfn=ram noncoherent=1", "wc"),
        ("pat=wc kvm=6.12.78 pfn=ram honour-pat=1", "wc"),
        ("pat=wc kvm=6.12.77 pfn=ram honour-pat=1", "wb"),
        ("pat=wc kvm=v6.16 pfn=ram honour-pat=1 selfsnoop=0", "wb"),
        ("pat=wc kvm=6.11-rc pfn=ram", "wc"),
        // KVM keeps CR0.CD from the CPU.
        ("pat=wb kvm=6.12 pfn=ram cd=1", "wb"),
        ("pat=wb kvm=6.6 pfn=ram noncoherent=1 cd=1 cd-quirk=0", "uc"),
        ("pat=uc kvm=6.6 pfn=ram noncoherent=1 cd=1", "wb"),
        ("pat=uc kvm=6.7 pfn=ram noncoherent=1 cd=1", "uc"),
    ] {
        assert_eq!(json(&format!("explain --arch x86 {terms}"))["type"], ty, "{terms}");
    }
    assert!(stdout("explain --arch x86 pat=wc kvm=6.8").contains("thread 002, K. Tian"));
}

#[test]
fn errors_say_what_would_be_right() {
    for (terms, says) in [
        ("ept=uc", "add pat=wc"),
        ("pat=wc", "what is below the page?"),
        ("pat=wc ept=uc mtrr=uc", "MTRRs have no effect"),
        ("pat=wc ept=uc npt=wb", "Intel's, npt is AMD's"),
        ("pat=wc ept=uc kvm=6.8", "leave out ept"),
        ("pat=wc npt=wb kvm=6.8", "leave out kvm"),
        ("pat=wc mtrr=uc kvm=6.8", "leave out mtrr"),
        ("pat=wc npt=wb ipat=1", "ipat is a bit of an EPT entry"),
        ("pat=wc ept=uc pfn=ram", "pfn is for KVM's choice"),
        ("pat=wc kvm=6", "`6` is no release"),
        ("pat=wc kvm=6.8.1.2", "is no release"),
        ("pat=wc kvm=6.8 pfn=ram noncoherent=1", "the guest's own MTRRs"),
        ("pat=wcc ept=uc", "did you mean wc?"),
        ("pat=wc ept=ucm", "there is no `ucm`"),
        ("pat=wc pat=uc ept=uc", "given twice"),
    ] {
        let message = refused(&format!("explain --arch x86 {terms}"));
        assert!(message.contains(says), "{terms}: {message}");
    }
}

#[test]
fn decode_pat_mtrr_and_ept() {
    let it = json("decode pat 0x0407050600070106");
    assert_eq!((&it["register"], it["fields"].as_array().unwrap().len()), (&"IA32_PAT".into(), 8));
    assert!(it["says"].as_str().unwrap().contains("Linux"));
    assert_eq!(json("decode mtrr 0xc06")["type"], "wb");
    let it = json("decode mtrr --base 0xc0000000 --mask 0x7fc0000800 --phys-bits 39");
    assert_eq!((&it["type"], &it["says"]), (&"uc".into(), &"UC from 0xc0000000 to 0xffffffff".into()));
    assert_eq!(json("decode ept 0xfe000007")["type"], "uc");
    assert_eq!(json("decode ept 0x1000000f7 --level 2")["type"], "wb");
    assert_eq!(json("decode ept 0x1017")["type"], Value::Null);
    refused("decode mtrr --base 0xc0000000");
    refused("decode ept 0x7 --level 5");
    refused("decode pat zz");
}
