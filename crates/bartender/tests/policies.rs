//! `bartender policies`: what it says of people is what the threads have, and what it says of types is what the policies do.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{json, refused, stdout};
use hyp::region::Uapi;
use hyp::{Cpu, Facts, Policy, Said, Vma};
use memtype::Attribute;
use memtype::x86::kvm::{Asked, Era, Says};
use platform::{NcDefect, Platform};
use serde_json::Value;

/// Who speaks in each thread, on which days: as its author, or quoted by one. 004 is signed with a first name alone and has the
/// date of the mail it answers.
const SPEAKERS: [(&str, &str, &[&str]); 11] = [
    ("thread 000", "Vikram Sethi", &["2021-05-02"]),
    ("thread 000, quoted", "Marc Zyngier", &["2021-05-02"]),
    ("thread 001", "Benjamin Herrenschmidt", &["2023-07-14"]),
    ("thread 001, quoted", "Catalin Marinas", &["2023-05-31"]),
    ("thread 002", "xieming", &["2022-04-01"]),
    ("thread 002", "Jason Gunthorpe", &["2022-04-01", "2022-04-04", "2022-04-05"]),
    ("thread 002", "Marc Zyngier", &["2022-04-01", "2022-04-04", "2022-04-05"]),
    ("thread 002", "Kevin Tian", &["2022-04-06"]),
    ("thread 003", "Jason Gunthorpe", &["2023-09-13"]),
    ("thread 003", "Lorenzo Pieralisi", &["2023-09-13"]),
    ("thread 004", "Jean-Philippe Brucker", &["2022-07"]),
];

/// Where else a mail or a text is: a list with a message id or a series' name, or the kernel's history.
fn is_elsewhere(place: &str) -> bool {
    let list = ["kvm", "kvmarm", "linux-kernel", "linux-mm"].contains(&place.split([' ', ',']).next().unwrap());
    let mail = list && ["@", "[PATCH", "[RFC", "cover of v3"].iter().any(|what| place.contains(what));
    mail || ["commit ", "merge "].iter().any(|what| place.starts_with(what))
}

#[test]
fn every_text_is_there_and_every_voice_is_in_its_thread() {
    for policy in Policy::ALL {
        let about = policy.about();
        for text in [about.rule, about.source, about.decides, about.needs, about.proposed, about.became] {
            assert!(!text.trim().is_empty(), "{}", policy.name());
        }
        assert!(!about.for_it.is_empty() && !about.against.is_empty() && !about.breaks.is_empty(), "{}", policy.name());
        for Said { who, when, place, what } in about.for_it.iter().chain(about.against) {
            assert!(what.ends_with(['.', '?']), "{what}");
            let day = when.split('-').map(str::len).collect::<Vec<_>>();
            assert!(day == [4, 2, 2] || day == [4, 2], "{when}");
            let known = SPEAKERS.iter().any(|(p, w, days)| (p, w) == (place, who) && days.contains(when));
            assert!(known || (!place.starts_with("thread") && is_elsewhere(place)), "{who}, {when}, {place}");
        }
    }
    // Each of them has a say somewhere.
    let all = || Policy::ALL.into_iter().flat_map(|p| p.about().for_it.iter().chain(p.about().against));
    for (place, who, _) in SPEAKERS {
        assert!(all().any(|s| (s.place, s.who) == (place, who)), "{who} in {place}");
    }
}

/// What stands between backquotes is a policy, a command of this program, or a scenario.
#[test]
fn what_is_named_is_there() {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    for policy in Policy::ALL {
        let about = policy.about();
        for text in about.breaks.iter().chain([&about.became, &about.proposed]) {
            for name in text.split('`').skip(1).step_by(2) {
                let there = Policy::named(name).is_some()
                    || name.starts_with("bartender policies")
                    || scenarios.join(format!("{name}.toml")).is_file();
                assert!(there, "{}: {name}", policy.name());
            }
        }
    }
}

fn facts(column: &str) -> (Facts, Attribute, bool) {
    let plain = Facts::default();
    match column {
        "bar" => (plain, Attribute::Default, true),
        "prefetchable" => (Facts { prefetchable: true, ..plain }, Attribute::Default, true),
        "vga" => (Facts { vga: true, ..plain }, Attribute::Default, true),
        "described" => {
            let platform = Platform { described: true, normal_nc: NcDefect::None, ..Platform::USUAL };
            (Facts { platform, ..plain }, Attribute::Default, true)
        }
        "write-combine-asked" => (plain, Attribute::WriteCombine, true),
        "coherent-fwb" => (Facts { cached: true, ..plain }, Attribute::Default, true),
        "coherent-no-fwb" => (Facts { cached: true, ..plain }, Attribute::Default, false),
        _ => panic!("{column}"),
    }
}

#[test]
fn the_comparison_is_what_the_policies_do() {
    let it = json(&["policies", "--compare", "--json"]);
    let lines = it["policies"].as_array().unwrap();
    assert_eq!(lines.len(), Policy::ALL.len());
    for line in lines {
        let policy = Policy::named(line["policy"].as_str().unwrap()).unwrap();
        for cell in line["cells"].as_array().unwrap() {
            let (facts, asked, fwb) = facts(cell["column"].as_str().unwrap());
            let Ok((vma, _)) = policy.mmap(&facts, asked) else {
                assert!(cell["refused"].is_string() && cell["host"].is_null(), "{cell}");
                continue;
            };
            assert_eq!(cell["host"]["pgprot"], vma.pgprot.name());
            assert_eq!(cell["host"]["allow_any_uncached"], vma.allow_any_uncached);
            match policy.decide(&vma, Cpu { fwb, dic: fwb }) {
                Err(e) => assert_eq!(cell["refused"], e.to_string()),
                Ok(d) if policy.is_arm() => assert_eq!(cell["stage2"], d.kind.name().to_ascii_lowercase()),
                Ok(_) => assert_eq!(cell["stage2"], "uc, ipat 0"),
            }
        }
    }
}

/// The same from the other side: what the threads and the kernels say each gives. D Device-nGnRE, N Normal-NC, W Normal, x
/// refused, - no call; in the order of the columns.
#[test]
fn the_comparison_is_what_was_proposed() {
    let expected = [
        ("linux-6.1", "D D D D - D D"),
        ("prefetchable", "D N D D - D D"),
        ("vga", "D D N D - D D"),
        ("follow-vma", "D D D D - W W"),
        ("subregions", "D D D D N W W"),
        ("linux-6.9", "N N N N - D D"),
        ("linux-6.17", "N N N N - W x"),
        ("firmware", "D D D N - D D"),
    ];
    let text = stdout(&["policies", "--compare"]);
    let mut lines = text.lines().skip(2);
    for (name, cells) in expected {
        let line = lines.next().unwrap();
        let shown: Vec<&str> =
            line.strip_prefix(name).unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        let words = cells.split(' ').map(|c| match c {
            "D" => "nGnRE",
            "N" => "NC",
            "W" => "Normal",
            "x" => "slot refused",
            _ => "no call",
        });
        assert_eq!(shown, words.collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn every_way_to_ask_is_tried() {
    let it = json(&["policies", "--compare", "--json"]);
    let uapis = it["uapis"].as_array().unwrap();
    assert_eq!(uapis.len(), Uapi::ALL.len());
    // A doorbell beside a buffer, an index of a part, a change while mapped, one page twice.
    for (uapi, expected) in [
        ("next-mmap", [true, false, false, false]),
        ("whole-index", [false, false, false, false]),
        ("subregions", [true, true, true, false]),
        ("alias", [true, false, false, false]),
        ("dma-buf", [true, true, false, false]),
    ] {
        let of = uapis.iter().find(|u| u["uapi"] == uapi).unwrap();
        let tried = of["tried"].as_array().unwrap();
        let works: Vec<bool> = tried.iter().map(|t| t["works"].as_bool().unwrap()).collect();
        assert_eq!(works, expected, "{uapi}");
        for t in tried {
            let says = t["says"].as_str().unwrap();
            let errno = ["EBUSY: ", "ENOTTY: ", "EEXIST: "].iter().any(|e| says.starts_with(e));
            assert_eq!(errno, t["works"] == false, "{uapi}: {says}");
        }
        let doorbell = tried[0]["says"].as_str().unwrap();
        let types = ["pgprot_writecombine", "pgprot_noncached"].map(|p| doorbell.contains(p));
        assert!(types == [true, true] || uapi == "whole-index", "{doorbell}");
    }
}

fn row<'a>(it: &'a Value, case: &str) -> &'a Value {
    it["cases"].as_array().unwrap().iter().find(|r| r["case"] == case).unwrap()
}

#[test]
fn one_policy_in_json() {
    for policy in Policy::ALL {
        let it = json(&["policies", policy.name(), "--json"]);
        assert_eq!((&it["policy"], &it["rule"]), (&policy.name().into(), &policy.rule().into()));
        assert!(it["against"].as_array().unwrap().iter().all(|q| q["who"].is_string() && q["what"].is_string()));
        for row in it["cases"].as_array().unwrap() {
            let decided = row["stage2"].is_string() || row["ept"].is_string();
            assert_eq!(decided, row["refused"].is_null(), "{row}");
            assert_eq!(decided, !row["why"].as_array().unwrap().is_empty() && row["refused"].is_null(), "{row}");
        }
    }
    let it = json(&["policies", "linux-6.9", "--json"]);
    let bar = row(&it, "BAR");
    assert_eq!((&bar["memattr"], &bar["memattr_fwb"]), (&0b0101.into(), &0b101.into()));
    let reach = serde_json::json!(["device-ngnrne", "device-ngnre", "device-ngre", "device-gre", "normal-nc"]);
    assert_eq!((&bar["reach"], &bar["reach_fwb"]), (&reach, &reach));
    let ram = row(&it, "guest RAM");
    assert_eq!((&ram["memattr"], &ram["memattr_fwb"]), (&0b1111.into(), &0b110.into()));
    assert_eq!(ram["reach_fwb"], serde_json::json!(["normal-wb"]));
    let it = json(&["policies", "linux-6.1", "--json"]);
    assert_eq!(row(&it, "BAR")["reach"], serde_json::json!(["device-ngnrne", "device-ngnre"]));
    // Without the case that it would be refused in, FWB's column stands alone, and the other way round.
    let it = json(&["policies", "linux-6.17", "--json"]);
    let coherent = row(&it, "memory of a coherent device");
    assert_eq!((&coherent["memattr"], &coherent["memattr_fwb"]), (&Value::Null, &0b110.into()));
    assert!(row(&it, "the same without FWB and DIC")["refused"].as_str().unwrap().contains("FWB 0, DIC 0"));
}

#[test]
fn x86() {
    let it = json(&["policies", "x86-ept", "--json"]);
    let bar = row(&it, "BAR");
    assert_eq!(
        (&bar["ept"], &bar["ipat"], &bar["reach"]),
        (&"uc".into(), &false.into(), &serde_json::json!(["uc", "wc"]))
    );
    assert_eq!(row(&it, "guest RAM")["reach"], serde_json::json!(["wb"]));
    assert_eq!(row(&it, "guest RAM, DMA may bypass caches")["ipat"], false);
    // The reason printed is the rule of the leaf that is decided.
    for vma in [Vma::RAM, Vma::OTHER_DEVICE] {
        for noncoherent_dma in [false, true] {
            let asked = Asked { mmio: !vma.kernel_memory, noncoherent_dma, ..Asked::RAM };
            let ept = Policy::ept(&vma, noncoherent_dma);
            assert_eq!(Era::Quirk.leaf(asked).says, Says::Leaf { ty: ept.ty, ipat: ept.ipat });
        }
    }
}

#[test]
fn people_can_read_it() {
    let mut pages = vec![stdout(&["policies"]), stdout(&["policies", "--compare"])];
    pages.extend(Policy::ALL.map(|p| stdout(&["policies", p.name()])));
    for page in &pages {
        for line in page.lines() {
            assert!(line.chars().count() <= 100 && !line.ends_with(' ') && !line.contains('\u{1b}'), "{line:?}");
        }
    }
    for policy in Policy::ALL {
        assert!(pages[0].lines().any(|l| l.starts_with(policy.name())), "{}", policy.name());
    }
    assert_eq!(stdout(&["policies", "Linux-6.9"]), stdout(&["policies", "linux-6.9"]));
    assert_eq!(json(&["policies", "--json"]).as_array().unwrap().len(), Policy::ALL.len());
}

#[test]
fn a_name_that_is_none() {
    assert!(refused(&["policies", "linux6.9"]).contains("did you mean linux-6.9?"));
    assert!(refused(&["policies", "prefetch"]).contains("did you mean prefetchable?"));
    let message = refused(&["policies", "qqq"]);
    assert!(Policy::ALL.iter().all(|p| message.contains(p.name())), "{message}");
    assert!(refused(&["policies", "vga", "--compare"]).contains("--compare"));
}

/// What is summed up over scenarios is what the matrix counts.
#[test]
fn compare_sums_up_the_matrix() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/prefetchable-lies.toml");
    let compared = json(&["policies", "--compare", "--over", folder, "--json"]);
    let matrix = json(&["matrix", folder, "--json"]);
    assert_eq!(compared["scenarios"], matrix["policies"]);
    let safe = |policy: &str| {
        let of = compared["scenarios"].as_array().unwrap().iter().find(|p| p["policy"] == policy).unwrap();
        of["safe"]["no"].as_u64().unwrap()
    };
    assert_eq!((safe("prefetchable"), safe("linux-6.1")), (1, 0));
    let text = stdout(&["policies", "--compare", "--over", folder]);
    assert!(text.contains("over 1 scenario,") && text.lines().all(|l| l.chars().count() <= 100), "{text}");
    refused(&["policies", "--over", folder]);
}
