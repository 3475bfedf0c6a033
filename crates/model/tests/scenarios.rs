//! The scenarios of the repository, on the model, under every policy, with and without FEAT_S2FWB.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path};

use hyp::{Cpu, Policy};
use platform::errata;
use scenario::{Outcome, Scenario, observation::unmet, parse};

fn all() -> Vec<(String, Scenario)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .map(|p| {
            let name = p.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&p).unwrap();
            let mut scenario = parse(&name, &text).unwrap_or_else(|e| panic!("{e}"));
            if let Some(erratum) = &scenario.erratum {
                scenario.platform = errata::named(erratum).unwrap().apply(scenario.platform);
            }
            (name, scenario)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(all.len() >= 16);
    all
}

#[test]
fn every_expectation_is_met_with_and_without_fwb() {
    let mut wrong = Vec::new();
    for (name, scenario) in all() {
        for policy in Policy::ALL {
            for fwb in [true, false] {
                if scenario.machine.fwb.is_some_and(|asked| asked != fwb) {
                    continue;
                }
                if scenario.expect.under(policy.name()).is_empty() {
                    continue;
                }
                let report = model::run_with(&scenario, policy, Cpu { fwb, dic: true }).unwrap();
                if let Some(why) = unmet(scenario.expect.under(policy.name()), &report.allowed) {
                    wrong.push(format!("{name} {} fwb={fwb}: {why}", policy.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_fault_is_explained_with_a_citation() {
    for (name, scenario) in all() {
        for policy in Policy::ALL {
            let report = model::run(&scenario, policy).unwrap();
            let completed = report.observation.outcome == Outcome::Completed;
            let because = report.because.join("\n");
            assert!(completed || because.contains('['), "{name} under {}: {because}", policy.name());
            assert!(!because.is_empty(), "{name} under {}", policy.name());
            assert_eq!(report.allowed.len() > 1, !report.choices.is_empty() && report.allowed.len() > 1, "{name}");
        }
    }
}

#[test]
fn a_run_is_deterministic() {
    for (_, scenario) in all() {
        for policy in Policy::ALL {
            assert_eq!(model::run(&scenario, policy).unwrap(), model::run(&scenario, policy).unwrap());
        }
    }
}

const BAR: &str = "[[device]]\nname = \"gpu\"\nbars = [{ index = 2, size = \"1M\" }]\n[[map]]\nname = \"vram\"\nbar = \"gpu.2\"\ntype = \"normal-nc\"\n";

fn outcome(program: &str) -> Outcome {
    let text =
        format!("title = \"t\"\n{BAR}[guest]\nprogram = \"\"\"\n{program}\n\"\"\"\n[expect]\nall = \"completed\"\n");
    let scenario = parse("inline", &text).unwrap_or_else(|e| panic!("{e}"));
    model::run(&scenario, Policy::Linux6_9).unwrap().observation.outcome
}

#[test]
fn a_program_that_loops_jumps_away_or_touches_nothing_ends() {
    assert_eq!(outcome("again:\nload.1 vram -> x0\njump again"), Outcome::Endless);
    assert_eq!(outcome("again:\njump again"), Outcome::Endless);
    assert_eq!(outcome(""), Outcome::Untouched);
    assert_eq!(outcome("dsb sy"), Outcome::Untouched);
    assert!(matches!(outcome("jump vram+2"), Outcome::GuestAbort { esr: 0x8a00_0000, .. }));
    assert!(matches!(outcome("jump vram"), Outcome::GuestAbort { .. }));
    assert_eq!(outcome("load.1 vram -> x0\njump done\nload.8 vram+1 -> x1\ndone:"), Outcome::Completed);
}

/// Each finding changes what the model predicts of a scenario in the folder, and stands in docs/findings.md.
#[test]
fn every_finding_is_documented_and_reproduced() {
    let doc = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/findings.md")).unwrap();
    let cpu = Cpu { fwb: true, dic: true };
    for finding in model::Finding::ALL {
        assert!(doc.contains(&format!("| `{}` |", finding.name())), "{} is not documented", finding.name());
        let differs = all().iter().any(|(_, s)| {
            Policy::ALL.into_iter().any(|p| {
                let departs = model::run_as(s, p, cpu, &[finding]).unwrap().observation;
                departs != model::run_with(s, p, cpu).unwrap().observation
            })
        });
        assert!(differs, "no scenario shows {}", finding.name());
    }
}
