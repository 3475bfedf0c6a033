//! The suite has teeth: it fails what deviates, at the clauses that the deviation is about, and nothing else.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use conformance::{
    Device,
    clause::{Binds, CLAUSES, Level},
    like::{Deviation, Like, Project, mutant},
    reference::{Config, Reference},
    suite::{Verdict, run_all},
};

type Clauses = BTreeSet<&'static str>;

fn fails(device: &mut dyn Device) -> Clauses {
    let failed = |verdict: &Verdict| matches!(verdict, Verdict::Fail { .. });
    run_all(device).into_iter().filter(|(_, verdict)| failed(verdict)).map(|(clause, _)| clause.id).collect()
}

/// No one device shows everything: some clauses are about what is not offered.
fn configs() -> [Config; 3] {
    [Config::default(), Config::plain(), Config::bytewise()]
}

fn alone(deviation: Deviation) -> Clauses {
    let mut all = Clauses::new();
    for config in configs() {
        let without = fails(&mut Reference::new(config.clone()));
        all.extend(fails(&mut mutant(deviation, config)).difference(&without));
    }
    all
}

/// What is said and what was seen, where they differ.
fn row(name: &str, said: &Clauses, seen: &Clauses) -> Option<String> {
    let list = |it: Vec<&&str>| it.iter().map(|it| (**it).to_owned()).collect::<Vec<_>>().join(" ");
    let (more, fewer) = (list(seen.difference(said).collect()), list(said.difference(seen).collect()));
    (said != seen)
        .then(|| format!("{name}\n    fails, and is not said to:  {more}\n    is said to fail, and holds: {fewer}\n"))
}

fn none(rows: impl Iterator<Item = Option<String>>) {
    let table: String = rows.flatten().collect();
    assert!(table.is_empty(), "\n{table}");
}

#[test]
fn the_reference_fails_nothing() {
    for config in configs() {
        let seen = fails(&mut Reference::new(config.clone()));
        // of the superseded BYPASS it is the offer that is wrong
        let said: &[&str] = if config == Config::plain() { &["no-legacy-bypass"] } else { &[] };
        none([row("the reference", &said.iter().copied().collect(), &seen)].into_iter());
    }
}

#[test]
fn each_deviation_fails_what_it_is_about() {
    none(Deviation::ALL.iter().map(|deviation| {
        let description = deviation.description();
        row(description.id, &description.fails.iter().copied().collect(), &alone(*deviation))
    }));
}

/// What three others were read to do, together: the clauses that fail are those that are said to, no more and no fewer.
#[test]
fn the_others_fail_what_they_are_said_to() {
    none(Project::ALL.iter().map(|project| {
        let like = Like::of(*project);
        assert!(!like.fails.is_empty(), "{project}");
        row(&project.to_string(), &like.fails, &fails(&mut like.device()))
    }));
}

/// Deviations that no clause is about: here the specification leaves a choice, or binds the driver alone. (Random testing against the
/// reference, which has made its choices, finds every one.)
#[test]
fn what_no_clause_is_about() {
    let unseen: Vec<&str> =
        Deviation::ALL.iter().map(|it| it.description()).filter(|it| it.fails.is_empty()).map(|it| it.id).collect();
    let said = [
        // "as if the driver issued a DETACH request [...], followed by the ATTACH request" (5.13.6.3.2): so it may
        "attach-mismatch-detaches",
        // 5.13.6.3.2 is about "another domain"
        "reattach-forgets",
        // whether a flag whose feature was not taken is one that the device recognizes is not said
        "attach-bypass-unnegotiated",
        // MAY (5.13.6.4.2)
        "detach-unattached-noent",
        "detach-wrong-domain-forgets",
        "detach-domain-ignored",
        // the driver MUST NOT (5.13.6.5.1, 5.13.6.1)
        "map-inverted-accepted",
        "domain-range-ignored",
        "unmap-inverted-accepted",
        // "should be within the guest-physical address space" (5.13.6.5), and no status for it
        "phys-overflow-accepted",
        "phys-overflow-nothing",
        // MAY (5.13.6.6.2)
        "unmap-reserved-ignored",
        // too small for its type, and the tail can be found all the same (5.13.6)
        "short-inval",
        // buffers that are larger than the request are not spoken of
        "long-refused",
        "probe-tail-at-end",
        // the driver MUST NOT (5.13.4.1)
        "forbidden-config-write-kills",
        "bypass-writable-always",
        "bypass-takes-lowest-bit",
        // "can report" (5.13.6.9)
        "no-events",
        "fault-address-only",
    ];
    assert_eq!(unseen.iter().copied().collect::<Clauses>(), said.into_iter().collect::<Clauses>());
}

/// Clauses that some deviation fails, and which not: what cannot be failed by this device, or by none.
#[test]
fn each_clause_is_failed_by_something() {
    let failed: Clauses = Deviation::ALL.iter().flat_map(|it| it.description().fails).copied().collect();
    let of_device = CLAUSES.iter().filter(|it| it.binds == Binds::Device && it.level != Level::May);
    let never: Clauses = of_device.map(|it| it.id).filter(|it| !failed.contains(it)).collect();
    let said = [
        // "All accesses from an endpoint in bypass mode are allowed" (5.13.6), and those to RESV_MEM SHOULD NOT affect others (5.13.6.8.1.2):
        // the reference goes by the first, so none of its RESERVED regions is where memory is
        "resv-mem-contained",
    ];
    none([row("clauses without a deviation", &said.into_iter().collect(), &never)].into_iter());
}

#[test]
fn names_are_told_apart() {
    let ids: BTreeSet<&str> = Deviation::ALL.iter().map(|it| it.description().id).collect();
    assert_eq!(ids.len(), Deviation::ALL.len());
    for deviation in Deviation::ALL {
        let description = deviation.description();
        assert!(description.fails.iter().all(|id| conformance::clause::by_id(id).is_some()), "{deviation}");
    }
}
