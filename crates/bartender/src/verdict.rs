//! A row of the matrix: one scenario, one policy, one machine, what came out, and whether that is what was expected.

use std::collections::BTreeMap;

use hyp::Policy;
use model::{Answer, Finding, Judged, Report};
use scenario::{Observation, Outcome, observation::unmet};
use serde::{Serialize, Serializer};

use crate::{show::Hex, suite::Case};

/// A departure of the machine from the architecture that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Departs {
    /// Its name.
    pub finding: &'static str,
    /// What is seen, and what ought to be.
    pub says: &'static str,
}

/// `met`, `unmet` or `cannot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// What came out is what was expected; on a real machine, it is also what the model predicts. Or the machine departs
    /// from the architecture in a way known by name, and what came out is what the model predicts of that.
    Met,
    /// It is not.
    Unmet,
    /// This machine cannot show it: it has no such device, or no such call. Why is known beforehand, from the scenario alone.
    Cannot,
}

/// One row.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// The policy.
    pub policy: &'static str,
    /// The machine it ran on: `model`, `kvm`, `lab:6.12`.
    pub machine: String,
    /// How it ended, by name; `not run` where it could not be run.
    pub outcome: String,
    /// The outcomes expected. More than one: the architecture allows each.
    pub expected: Vec<String>,
    /// Whether the expectation is met.
    pub verdict: Verdict,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The stage of a fault, 1 or 2.
    pub stage: Option<u8>,
    /// The syndrome of a fault.
    pub esr: Option<Hex>,
    /// The faulting address of a fault.
    pub far: Option<Hex>,
    /// The errno KVM_RUN failed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The kernel's log line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The guest-physical address of an access that left to user space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipa: Option<Hex>,
    /// The registers the program loads into, at the end.
    pub registers: BTreeMap<String, Hex>,
    /// Where the machine departs from the architecture here, as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub departs: Option<Departs>,
    /// Every outcome the architecture allows, where there is more than one, as the model has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choice: Vec<String>,
    /// What the architecture leaves open here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<&'static str>,
    /// Why the model says it comes out so.
    pub because: Vec<String>,
    /// What the model predicts, where a real machine saw something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the policy works for this scenario, is fast, is safe; none where the model could not run it.
    #[serde(flatten, serialize_with = "judged")]
    pub judged: Option<Judged>,
}

/// What a policy is asked in each scenario.
pub const ASKED: [&str; 3] = ["works", "fast", "safe"];

/// The three answers, as [`ASKED`].
#[must_use]
pub const fn answers(judged: &Judged) -> [&Answer; 3] {
    [&judged.works, &judged.fast, &judged.safe]
}

/// As JSON: for each question `is`, the answer in a word, and `because`.
fn judged<S: Serializer>(judged: &Option<Judged>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Said<'a> {
        is: &'static str,
        because: &'a [String],
    }
    let all = judged.iter().flat_map(|j| ASKED.into_iter().zip(answers(j)));
    to.collect_map(all.map(|(asked, a)| (asked, Said { is: a.is.name(), because: &a.because })))
}

fn row(case: &Case, policy: Policy, machine: &str) -> Row {
    let scenario = &case.scenario;
    Row {
        scenario: case.name.clone(),
        title: scenario.title.clone(),
        policy: policy.name(),
        machine: machine.into(),
        outcome: "not run".into(),
        expected: scenario.expect.under(policy.name()).iter().map(ToString::to_string).collect(),
        verdict: Verdict::Unmet,
        why: None,
        stage: None,
        esr: None,
        far: None,
        errno: None,
        log: None,
        ipa: None,
        registers: BTreeMap::new(),
        departs: None,
        choice: Vec::new(),
        choices: Vec::new(),
        because: Vec::new(),
        model: None,
        judged: None,
    }
}

impl Row {
    fn saw(mut self, seen: &Observation) -> Self {
        self.outcome = seen.outcome.name();
        self.stage = seen.outcome.stage();
        self.esr = seen.outcome.esr().map(Hex);
        self.far = seen.outcome.far().map(Hex);
        self.registers = seen.registers.iter().map(|(r, v)| (format!("x{r}"), Hex(*v))).collect();
        match &seen.outcome {
            Outcome::RunFailed { errno, log, .. } => {
                self.errno = Some(*errno);
                self.log.clone_from(log);
            }
            Outcome::Mmio { ipa, .. } | Outcome::NoValidSyndrome { ipa, .. } => self.ipa = Some(Hex(*ipa)),
            Outcome::SlotRefused { errno, why } => {
                self.errno = Some(*errno);
                self.log = Some(why.clone());
            }
            Outcome::Other { what } => self.log = Some(what.clone()),
            _ => {}
        }
        self
    }

    fn explained(mut self, report: &Report) -> Self {
        self.because.clone_from(&report.because);
        self.judged = Some(report.judged.clone());
        if report.allowed.len() > 1 {
            self.choice = report.allowed.iter().map(ToString::to_string).collect();
            self.choices.clone_from(&report.choices);
        }
        self
    }

    fn judged(mut self, why: Option<String>) -> Self {
        self.verdict = if why.is_none() { Verdict::Met } else { Verdict::Unmet };
        self.why = why;
        self
    }

    /// What the model came to. Met when its outcomes and those expected are the same set.
    #[must_use]
    pub fn of_model(case: &Case, policy: Policy, ran: Result<Report, model::Error>) -> Self {
        let row = row(case, policy, "model");
        match ran {
            Ok(report) => {
                let why = unmet(case.scenario.expect.under(policy.name()), &report.allowed);
                row.saw(&report.observation).explained(&report).judged(why)
            }
            Err(error) => row.judged(Some(error.to_string())),
        }
    }

    /// What a machine cannot show.
    #[must_use]
    pub fn cannot(case: &Case, policy: Policy, machine: &str, why: String) -> Self {
        Self { verdict: Verdict::Cannot, why: Some(why), ..row(case, policy, machine) }
    }

    /// What a real machine saw. Met when it is one of the outcomes expected and one of those the model predicts, or else
    /// what the model predicts of one of the `known` departures of that machine.
    #[must_use]
    pub fn of_machine(
        case: &Case,
        policy: Policy,
        machine: &str,
        seen: Result<&Observation, &str>,
        predict: impl Fn(&[Finding]) -> Result<Report, model::Error>,
        known: &[Finding],
    ) -> Self {
        let row = row(case, policy, machine);
        let seen = match seen {
            Ok(seen) => seen,
            Err(why) => return row.judged(Some(why.into())),
        };
        let row = row.saw(seen);
        let report = match predict(&[]) {
            Ok(report) => report,
            Err(error) => return row.judged(Some(format!("the model cannot predict it: {error}"))),
        };
        let agrees = |report: &Report| report.allowed.iter().any(|p| seen.agrees_with(p));
        if !agrees(&report) {
            let departs = known.iter().find(|f| predict(&[**f]).is_ok_and(|r| agrees(&r)));
            if let Some(finding) = departs {
                let mut row = row.explained(&report).judged(None);
                row.departs = Some(Departs { finding: finding.name(), says: finding.says() });
                return row;
            }
            let model = report.allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", or ");
            let why = format!("the model and the machine differ\n  model   {model}\n  machine {}", full(seen));
            let mut row = row.explained(&report).judged(Some(why));
            row.model = Some(model);
            return row;
        }
        let expected = case.scenario.expect.under(policy.name());
        let met = expected.iter().any(|p| p.matches(seen));
        let why = (!met).then(|| format!("came out, not expected: {}", full(seen)));
        row.explained(&report).judged(why)
    }
}

/// An observation with the log line, for those who compare.
fn full(seen: &Observation) -> String {
    match &seen.outcome {
        Outcome::RunFailed { errno, log, .. } => {
            format!("{seen} (errno {errno}, log {})", log.as_deref().unwrap_or("not seen"))
        }
        _ => seen.to_string(),
    }
}
