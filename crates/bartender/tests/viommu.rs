//! `bartender viommu`: the crate's device under the conformance suite, and the command.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use bartender::cmd::viommu::ours::{Configuration, configurations};
use common::{json, refused, run, stdout};
use conformance::{
    clause::{Binds, CLAUSES, Level},
    report::{Column, Outcome, Report, select},
    suite::{SILENT, run_all},
};

fn named(name: &str) -> Configuration {
    configurations().into_iter().find(|it| it.name == name).unwrap()
}

/// The clauses that came out so with a configuration.
fn with(name: &str, outcome: Outcome) -> Vec<&'static str> {
    let mut device = named(name).device().unwrap();
    let clauses = select(&[], |_| true);
    let column = Column::of(&mut device, &clauses, false);
    clauses.iter().zip(&column.seen).filter(|(_, seen)| seen.outcome == outcome).map(|(clause, _)| clause.id).collect()
}

#[test]
fn nothing_fails() {
    for configuration in configurations().iter().filter(|it| it.conforming) {
        assert_eq!(with(configuration.name, Outcome::Fail), [""; 0], "{}", configuration.name);
    }
    // A new device should not offer what is superseded. This one does, to show that it can.
    assert_eq!(with("legacy", Outcome::Fail), ["no-legacy-bypass"]);
}

/// All configurations together show every clause but this one, which the last one shows.
#[test]
fn every_clause_is_shown() {
    let shown: BTreeSet<_> = configurations()
        .iter()
        .filter(|it| it.conforming)
        .flat_map(|it| [Outcome::Pass, Outcome::Does, Outcome::DoesNot].map(|outcome| with(it.name, outcome)))
        .flatten()
        .collect();
    let device: BTreeSet<_> = CLAUSES.iter().filter(|c| c.binds == Binds::Device).map(|c| c.id).collect();
    let missing: Vec<_> = device.difference(&shown).copied().collect();
    assert_eq!(missing, ["bypass-legacy"]);
    assert!(with("legacy", Outcome::Pass).contains(&"bypass-legacy"));
}

/// What is not shown by the configuration that has most is what it cannot have, and nothing else.
#[test]
fn what_everything_offered_does_not_show() {
    assert_eq!(
        with("full", Outcome::NotShown),
        [
            "map-one-byte",                  // the granule is 4 KiB
            "domain-any",                    // DOMAIN_RANGE is offered
            "bypass-legacy",                 // BYPASS is not
            "attach-second-endpoint-unsupp", // the second one is attached
            "attach-move-unsupp",            // and moved
            "attach-incompatible-unsupp",    // for its properties are the same
            "probe-not-offered-not-written", // PROBE is offered
            "probe-not-offered-used-0",
        ]
    );
}

/// The same bytes to the same device twice give the same.
#[test]
fn it_can_be_repeated() {
    let mut device = named("full").device().unwrap();
    let first = run_all(&mut device);
    assert_eq!(first, run_all(&mut device));
}

#[test]
fn merging_hides_no_failure() {
    let clauses = select(&["no-legacy-bypass".to_owned(), "bypass-legacy".to_owned()], |_| true);
    let column = |name| Column::of(&mut named(name).device().unwrap(), &clauses, true);
    let merged = Column::merged("both".to_owned(), &[column("full"), column("legacy")]);
    let outcomes: Vec<_> = merged.seen.iter().map(|seen| seen.outcome).collect();
    assert_eq!(outcomes, [Outcome::Fail, Outcome::Pass]);
    assert!(merged.seen[0].saw.starts_with("viommu:legacy: "), "{:?}", merged.seen[0]);
    assert!(merged.offers.contains(&"BYPASS".to_owned()) && merged.offers.contains(&"PROBE".to_owned()));
    let report = Report { clauses, columns: vec![merged] };
    assert!(!report.holds());
}

#[test]
fn the_command_says_what_the_suite_saw() {
    let it = json(&["viommu", "conformance", "--json"]);
    assert_eq!((&it["holds"], it["clauses"].as_array().unwrap().len()), (&true.into(), CLAUSES.len()));
    assert_eq!(it["silent"].as_array().unwrap().len(), SILENT.len());
    let totals = it["devices"][0]["totals"].as_array().unwrap();
    let of = |level: &str, key: &str| totals.iter().find(|t| t["level"] == level).unwrap()[key].as_u64().unwrap();
    let count = |level| CLAUSES.iter().filter(|c| c.level == level && c.binds == Binds::Device).count() as u64;
    assert_eq!((of("MUST", "pass"), of("SHOULD NOT", "pass")), (count(Level::Must), count(Level::ShouldNot)));
    assert_eq!(of("MAY", "does") + of("MAY", "does-not"), count(Level::May));
    assert_eq!(of("text", "not-shown"), 1);

    let it = json(&["viommu", "conformance", "--level", "must", "--device", "viommu:minimal", "--json"]);
    let levels: BTreeSet<_> =
        it["clauses"].as_array().unwrap().iter().map(|c| c["level"].as_str().unwrap().to_owned()).collect();
    assert_eq!(levels, ["MUST", "MUST NOT"].map(str::to_owned).into());
    assert_eq!(it["silent"].as_array().unwrap().len(), 0);
}

/// A device that fails gives 1, and only if what it fails was asked about.
#[test]
fn exit_codes() {
    let code = |args: &[&str]| {
        let args: Vec<_> = ["viommu", "conformance"].iter().chain(args).copied().collect();
        run(&args).status.code()
    };
    assert_eq!(code(&["--device", "viommu:legacy"]), Some(1));
    assert_eq!(code(&["--device", "viommu:legacy", "--level", "must"]), Some(0));
    assert_eq!(code(&["--device", "viommu", "--device", "viommu:legacy"]), Some(1));
    assert_eq!(code(&["--device", "reference"]), Some(0));
    for like in ["like:qemu", "like:cloud-hypervisor", "like:crosvm"] {
        assert_eq!(code(&["--device", like]), Some(1), "{like}");
    }
}

#[test]
fn errors_are_helpful() {
    let says = |args: &[&str], what: &str| {
        let args: Vec<_> = ["viommu"].iter().chain(args).copied().collect();
        let message = refused(&args);
        assert!(message.contains(what), "{args:?}: {message}");
    };
    says(&["conformance", "--device", "viomu"], "did you mean viommu?");
    says(&["conformance", "--device", "like:kvmtool"], "like:crosvm");
    says(&["conformance", "--device", "qemu:aw-bits=3"], "aw-bits=32");
    says(&["conformance", "--clause", "attach-move"], "did you mean attach-moves?");
    says(&["conformance", "--clause", "attach-moves", "--level", "may"], "bartender viommu clauses");
    says(&["conformance", "--html", "-", "--json"], "--html - and --json");
    says(&["clauses", "atach-moves"], "did you mean attach-moves?");
}

#[test]
fn clauses_are_explained() {
    let text = stdout(&["viommu", "clauses"]);
    for clause in CLAUSES {
        assert!(text.contains(clause.id), "{}", clause.id);
        let one = stdout(&["viommu", "clauses", clause.id]);
        assert!(one.contains(clause.section) && one.contains(clause.place), "{one}");
    }
    for point in SILENT {
        assert!(stdout(&["viommu", "clauses", point.id]).contains("silent"), "{}", point.id);
    }
    assert_eq!(json(&["viommu", "clauses", "attach-moves", "--json"])["section"], "5.13.6.3.2");
    let all = json(&["viommu", "clauses", "--json"]);
    assert_eq!(all["clauses"].as_array().unwrap().len(), CLAUSES.len());
}

#[test]
fn lines_are_short_and_the_page_is_whole() {
    let four = ["viommu", "conformance", "--device", "viommu", "--device", "reference", "--device", "viommu:full"];
    for args in [&["viommu", "conformance"][..], &["viommu", "clauses"], &four] {
        for line in stdout(args).lines() {
            assert!(line.chars().count() <= 100 && !line.ends_with(' '), "{args:?}: {line:?}");
        }
    }
    let page = stdout(&["viommu", "conformance", "--device", "viommu", "--device", "viommu:minimal", "--html", "-"]);
    for clause in CLAUSES.iter().filter(|c| c.binds == Binds::Device) {
        assert!(page.contains(&format!("id=\"{}\"", clause.id)), "{}", clause.id);
    }
    assert!(page.ends_with("</html>\n") && !page.contains("http"), "nothing from elsewhere");
    for tag in ["table", "tbody", "tr", "td", "details", "p", "ul"] {
        let count = |what: &str| page.matches(what).count();
        let opened = count(&format!("<{tag}>")) + count(&format!("<{tag} "));
        assert_eq!(opened, count(&format!("</{tag}>")), "{tag}");
    }
}
