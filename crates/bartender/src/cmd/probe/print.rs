//! The answer as text.

use std::fmt::Write as _;

use anstyle::Style;
use bar::measure::{Nanoseconds, Verdict};

use super::agree::{Agreement, typed};
use super::{Answer, Found, Mapping, Test};
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

/// The columns of a test: what, verdict, result.
const WHAT: usize = 33;
const VERDICT: usize = 26;
/// Of a bar in a chart.
const BAR: usize = 24;

pub(super) fn text(answer: &Answer) -> String {
    let m = &answer.machine;
    let mut out = String::new();
    if let Some(d) = &answer.device {
        let _ = write!(out, "{} {}, BAR {}", paint(STRONG, &d.bdf), d.id, d.bar);
        let kind = if d.prefetchable { "prefetchable" } else { "not prefetchable" };
        let _ = writeln!(out, ": {:#x} bytes, {kind}, from {} on", d.size, d.offset);
        if let Some(why) = &d.harmless {
            out.push_str(&show::wrapped("reads do no harm: ", why));
        }
    } else {
        let _ = writeln!(out, "{}", paint(STRONG, "Ordinary memory of this process"));
    }
    let under = m.hypervisor.as_ref().map(|h| format!(", under {h}")).unwrap_or_default();
    out.push_str(&show::wrapped("on ", &format!("{}, Linux {} {}{under}", m.cpu, m.kernel, m.arch)));
    if !answer.controls.is_empty() {
        let _ = writeln!(out, "\n{}", paint(STRONG, "Can the method tell?"));
        answer.controls.iter().for_each(|test| line(&mut out, test));
    }
    answer.mappings.iter().for_each(|mapping| one(&mut out, mapping));
    out
}

fn one(out: &mut String, mapping: &Mapping) {
    let _ = write!(out, "\n{}", paint(STRONG, &mapping.way));
    if let Some(ty) = mapping.predicted {
        let _ = write!(out, ", predicted {}", paint(show::colour_of(ty), typed(ty)));
    }
    out.push('\n');
    if let Some(why) = &mapping.not_mapped {
        out.push_str(&show::wrapped("  not probed: ", why));
        return;
    }
    if !mapping.why.is_empty() {
        let _ = write!(out, "{}", paint(FAINT, show::wrapped("  ", &mapping.why)));
    }
    if let Some(report) = &mapping.report {
        table(out, report);
    }
    let (style, text) = match &mapping.agreement {
        Agreement::Agrees { predicted, seen } => (GOOD, format!("predicted {predicted}; seen: {seen}: agrees")),
        Agreement::Differs { predicted, seen } => (BAD, format!("predicted {predicted}; seen: {seen}: DIFFERS")),
        Agreement::Known { finding, predicted, seen } => {
            (OPEN, format!("predicted {predicted}; seen: {seen}: the finding {finding} (bartender findings {finding})"))
        }
        Agreement::Open(why) => (OPEN, format!("whether it is as predicted is open: {why}")),
    };
    let _ = write!(out, "{}", paint(style, show::wrapped("  ", &text)));
}

fn table(out: &mut String, report: &Found) {
    let (charted, rest): (Vec<&Test>, Vec<&Test>) =
        report.tests.iter().partition(|t| t.name == "throughput" && t.time.is_some());
    rest.iter().filter(|t| t.name != "restored").for_each(|test| line(out, test));
    chart(out, &charted);
    rest.iter().filter(|t| t.name == "restored").for_each(|test| line(out, test));
    for test in rest.iter().filter(|t| !t.curve.is_empty()) {
        curve(out, test);
    }
    if let Some(why) = &report.stopped {
        let _ = write!(out, "{}", paint(BAD, show::wrapped("  stopped: ", why)));
    }
    if let Err(why) = &report.watched {
        let _ = write!(out, "{}", paint(FAINT, show::wrapped("  the kernel's log was not watched: ", why)));
    }
}

fn line(out: &mut String, test: &Test) {
    // A time is no verdict.
    let verdict = if test.time.is_some() { String::new() } else { test.verdict.to_string() };
    let indent = " ".repeat(2 + WHAT + VERDICT);
    let result = show::wrapped(&indent, &test.result);
    let result = result.get(indent.len()..).unwrap_or_default();
    let _ = write!(out, "  {:<WHAT$}{:<VERDICT$}{result}", test.what, paint(colour(&test.verdict), verdict));
}

const fn colour(verdict: &Verdict) -> Style {
    match verdict {
        Verdict::ObservedAlways(_) | Verdict::GuaranteedBySpec => GOOD,
        Verdict::Fault(_) | Verdict::Corrupt => BAD,
        Verdict::ObservedSometimes { .. } | Verdict::NeverObserved => OPEN,
        Verdict::NotTested => FAINT,
    }
}

/// Nanoseconds for a line of 64 bytes, by idiom and size.
fn chart(out: &mut String, tests: &[&Test]) {
    let rows: Vec<(&str, usize, f64)> = tests
        .iter()
        .filter_map(|t| {
            let (bytes, time) = (t.bytes?, t.time?);
            #[expect(clippy::cast_precision_loss, reason = "some thousands of bytes")]
            let each = time.p50 * 64.0 / bytes as f64;
            Some((t.what.split_once(',').map_or(t.what.as_str(), |(idiom, _)| idiom), bytes, each))
        })
        .collect();
    let Some(most) = rows.iter().map(|r| r.2).max_by(f64::total_cmp).filter(|m| *m > 0.0) else { return };
    let _ =
        writeln!(out, "  {}", paint(STRONG, format!("{:<WHAT$}for each 64 bytes, with a drain at the end", "stores")));
    for (i, (idiom, bytes, each)) in rows.iter().enumerate() {
        let name = if i > 0 && rows[i - 1].0 == *idiom { "" } else { idiom };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most BAR")]
        let len = ((each / most * BAR as f64).round() as usize).clamp(1, BAR);
        let rate = 64.0 / each * 1e3;
        let _ = writeln!(
            out,
            "  {name:<WHAT$}{bytes:>5} B {:>8}  {:<BAR$} {rate:>7.0} MB/s",
            Nanoseconds(*each),
            "#".repeat(len)
        );
    }
}

/// What 1 to 32 stores cost, some of them.
fn curve(out: &mut String, test: &Test) {
    let at = |n: usize| test.curve.iter().find(|p| p.stores == n).map(|p| p.cost);
    let shown = [1, 2, 4, 8, 9, 16, 17, 24, 32].into_iter().filter_map(|n| Some((n, at(n)?)));
    let (mut head, mut row) = (String::new(), String::new());
    for (n, cost) in shown {
        let _ = write!(head, "{n:>7}");
        let _ = write!(row, "{cost:>7.0}");
    }
    let _ = writeln!(
        out,
        "  {}\n  {:<WHAT$}{row}",
        paint(FAINT, format!("{:<WHAT$}{head}", "stores of 8 bytes")),
        format!("ns, {}", test.what)
    );
}
