//! Every case by its examples, the log scanner on a long log, and any bytes.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use diagnose::{all, ask};

#[test]
fn every_example_finds_its_case_first() {
    diagnose::parse(include_str!("../symptoms.toml")).unwrap();
    let mut wrong = Vec::new();
    for case in all() {
        for example in &case.examples {
            let found: Vec<_> =
                ask(example).iter().take(3).map(|f| format!("{} ({:?} {})", f.case.name, f.how, f.specific)).collect();
            if !found.first().is_some_and(|f| f.starts_with(&format!("{} ", case.name))) {
                wrong.push(format!("{}: `{example}` finds {found:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_bad_table_is_refused() {
    let good = "[[case]]\nname = \"a\"\ntitle = \"t\"\narea = \"x\"\nwords = [\"w\"]\ncause = \"c\"\nremedy = [\"r\"]\nsource = [\"s\"]\nchecked = \"read\"\nexamples = [\"w\"]\n";
    diagnose::parse(good).unwrap();
    let cases = [
        (good.repeat(2), "twice"),
        (good.replace("[\"s\"]", "[]"), "source"),
        (good.replace("[\"s\"]", "[\" \"]"), "source"),
        (good.replace("words = [\"w\"]\n", ""), "no symptom"),
        (good.replace("words = [\"w\"]", "words = [\"W\"]"), "lower case"),
        (good.replace("\"c\"", "\"c {open\""), "{name|else}"),
        (good.replace("\"c\"", "\"c {name}\""), "{name|else}"),
        (good.replace("words = ", "wards = "), "wards"),
        (good.replace("\"read\"", "\"sure\""), "sure"),
        (format!("{good}lines = [\"ab {{x}}\"]\n"), "in a row"),
        (format!("{good}esr = [{{ ec = [] }}]\n"), "EC"),
        (format!("{good}esr = [{{ ec = [64] }}]\n"), "six bits"),
        (format!("{good}host = [{{ says = \"x\" }}]\n"), "needs one of"),
        (format!("{good}host = [{{ likely = {{}}, says = \"x\" }}]\n"), "without a condition"),
        (format!("{good}host = [{{ needs = {{ arch = [\"vax\"] }}, says = \"x\" }}]\n"), "vax"),
        (format!("{good}host = [{{ needs = {{ iommu-kind = [\"none\"] }}, says = \"x\" }}]\n"), "kind of IOMMU"),
        (format!("{good}host = [{{ needs = {{ erratum = [\"none\"] }}, says = \"x\" }}]\n"), "erratum"),
        (format!("{good}host = [{{ needs = {{ kernel-below = \"six\" }}, says = \"x\" }}]\n"), "six"),
        (format!("{good}calls = [{{ errno = \"EWHAT\", call = \"mmap\" }}]\n"), "EWHAT"),
    ];
    for (bad, why) in cases {
        let e = diagnose::parse(&bad).unwrap_err().to_string();
        assert!(e.contains(why), "{why}: {e}");
    }
}

#[test]
fn captured_values_are_in_the_cause() {
    let found = ask(
        "x86/PAT: Xorg:812 map pfn expected mapping type uncached-minus for [mem 0xf8200000-0xf85cbfff], got write-back",
    );
    let text = diagnose::filled(&found[0].case.cause, &found[0].captured);
    for part in ["Xorg asked for uncached-minus", "0xf8200000-0xf85cbfff as write-back"] {
        assert!(text.contains(part), "{text}");
    }
    // Every name in a cause or remedy is one that some pattern captures.
    for case in all() {
        let line_names: String = case.lines.iter().map(|p| p.text.clone()).collect();
        for text in case.remedy.iter().chain([&case.cause]) {
            for place in text.split('{').skip(1) {
                let name = place.split('|').next().unwrap();
                let captured = [format!("{{{name}}}"), format!("{{{name}#}}"), format!("{{{name}*}}")];
                let esr = name == "esr" && !case.esr.is_empty();
                assert!(esr || captured.iter().any(|it| line_names.contains(it)), "{}: {name}", case.name);
            }
        }
        // Nothing is written to be shown with an empty hole.
        let shown = diagnose::filled(&case.cause, &[]);
        assert!(!shown.contains("  ") && !shown.contains(" ,") && !shown.contains(" . "), "{}: {shown}", case.name);
    }
}

#[test]
fn syndromes_by_their_fields() {
    let first = |value, el| diagnose::esr(diagnose::Syndrome { value, el }).first().map(|f| f.case.name.as_str());
    assert_eq!(first(0x9200_0061, Some(2)), Some("stage2-alignment"));
    assert_eq!(first(0x9200_0061, Some(1)), Some("process-alignment"));
    assert_eq!(first(0x9600_0021, None), Some("guest-own-alignment"));
    assert_eq!(first(0xbf00_0002, None), Some("serror"));
    // A translation fault that KVM can emulate (ISV) is no symptom; one without syndrome is.
    assert_eq!(first(0x9200_0046, Some(2)), Some("mmio-no-syndrome"));
    assert_eq!(first(0x93c3_8046, Some(2)), None);
    assert_eq!(first(0x5600_0000, None), None);
}

#[test]
fn what_is_not_known_is_not_found() {
    for text in [
        "",
        " ",
        "the printer is on fire",
        "usb 1-1: new high-speed USB device number 2 using xhci_hcd",
        "0x1234",
        "esr 0x56000000",
    ] {
        assert!(ask(text).is_empty(), "{text}: {:?}", ask(text)[0].case.name);
    }
    let near: Vec<_> = diagnose::nearest("Unsuported FSC: EC=0x24 xFSC=0x21").iter().map(|c| c.name.as_str()).collect();
    assert!(near.contains(&"stage2-alignment"), "{near:?}");
    assert!(diagnose::nearest("").is_empty());
}
