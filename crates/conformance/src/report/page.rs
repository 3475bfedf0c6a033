//! The devices side by side, as one HTML file that needs no other.

use std::fmt::Write as _;

use super::{Outcome, Report, SPECIFICATION};
use crate::{
    clause::{Binds, Clause, Level},
    suite::SILENT,
};

const STYLE: &str = include_str!("page.css");

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// The class of a cell.
fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::NotShown => "none",
        Outcome::Does | Outcome::DoesNot => "may",
        Outcome::BindsTheDriver => "driver",
    }
}

fn level_class(level: Level) -> &'static str {
    match level {
        Level::Must | Level::MustNot => "must",
        Level::Should | Level::ShouldNot => "should",
        Level::May => "may-level",
        Level::Text => "text",
    }
}

/// The titles of 5.13's sections that have clauses.
fn title(section: &str) -> &'static str {
    match section {
        "2.7.8.2" => "Used lengths",
        "5.13" => "Introduction",
        "5.13.3.1" | "5.13.3.2" => "Feature bits",
        "5.13.4.1" | "5.13.4.2" => "Configuration",
        "5.13.5" | "5.13.5.1" => "Initialization",
        "5.13.6" | "5.13.6.1" | "5.13.6.2" => "Device operations",
        "5.13.6.3" | "5.13.6.3.1" | "5.13.6.3.2" => "ATTACH",
        "5.13.6.4" | "5.13.6.4.1" | "5.13.6.4.2" => "DETACH",
        "5.13.6.5" | "5.13.6.5.1" | "5.13.6.5.2" => "MAP",
        "5.13.6.6" | "5.13.6.6.1" | "5.13.6.6.2" => "UNMAP",
        "5.13.6.7" | "5.13.6.7.1" | "5.13.6.7.2" => "PROBE",
        "5.13.6.8.1" | "5.13.6.8.1.1" | "5.13.6.8.1.2" => "RESV_MEM",
        "5.13.6.9" | "5.13.6.9.1" | "5.13.6.9.2" => "Fault reporting",
        _ => "",
    }
}

impl Report {
    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut out = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        let _ = write!(
            out,
            "<meta name=\"viewport\" content=\"width=device-width\">\n<title>virtio-iommu conformance</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>virtio-iommu conformance</h1>\n<p>Each device against {SPECIFICATION}, clause by clause. What was seen is under each \
             result: open it, or point at it.</p>\n"
        );
        self.summary(&mut out);
        out.push_str("<p class=\"filter\">");
        for (id, label) in [("f-all", "every clause"), ("f-diff", "where devices differ"), ("f-fail", "what fails")] {
            let checked = if id == "f-all" { " checked" } else { "" };
            let _ = write!(out, "<label><input type=\"radio\" name=\"f\" id=\"{id}\"{checked}> {label}</label> ");
        }
        out.push_str("</p>\n<table class=\"clauses\">\n<thead><tr><th>clause</th><th>level</th>");
        for column in &self.columns {
            let _ = write!(out, "<th>{}</th>", escaped(&column.device));
        }
        out.push_str("</tr></thead>\n");
        let mut heading = "";
        let of_device = || self.clauses.iter().enumerate().filter(|(_, clause)| clause.binds == Binds::Device);
        for (at, clause) in of_device() {
            if title(clause.section) != heading {
                if !heading.is_empty() {
                    out.push_str("</tbody>\n");
                }
                heading = title(clause.section);
                let span = self.columns.len() + 2;
                let _ = writeln!(out, "<tbody><tr class=\"section\"><th colspan=\"{span}\">{heading}</th></tr>");
            }
            self.row(&mut out, at, clause);
        }
        out.push_str("</tbody>\n</table>\n");
        self.silent_table(&mut out);
        let driver: Vec<_> = self.clauses.iter().filter(|c| c.binds == Binds::Driver).collect();
        if !driver.is_empty() {
            let _ = writeln!(
                out,
                "<h2>Clauses that bind the driver ({})</h2>\n<p>No device shows them.</p>\n<ul class=\"driver\">",
                driver.len()
            );
            for clause in driver {
                let _ = writeln!(
                    out,
                    "<li><span class=\"at\">{}</span> <b class=\"{}\">{}</b> {}</li>",
                    clause.section,
                    level_class(clause.level),
                    clause.level,
                    escaped(clause.says)
                );
            }
            out.push_str("</ul>\n");
        }
        out.push_str("</body>\n</html>\n");
        out
    }

    fn summary(&self, out: &mut String) {
        out.push_str("<table class=\"summary\">\n<thead><tr><th>device</th><th>offers</th>");
        let levels: Vec<_> = self.levels().collect();
        for level in &levels {
            let _ = write!(out, "<th>{level}</th>");
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for column in &self.columns {
            let _ = write!(
                out,
                "<tr><th>{}<span class=\"at\">{}</span></th><td class=\"offers\">{}</td>",
                escaped(&column.device),
                escaped(if column.what == column.device { "" } else { &column.what }),
                escaped(&column.offers.join(", "))
            );
            for &level in &levels {
                let t = self.total(column, level);
                let (shown, all) = (t.pass + t.fail, t.pass + t.fail + t.not_shown);
                let class = if t.fail > 0 { "fail" } else { "pass" };
                let cell = if level == Level::May {
                    format!("<td class=\"may\">{} of {}</td>", t.does, t.does + t.does_not)
                } else {
                    let hint = format!("{shown} shown of {all}");
                    format!("<td class=\"{class}\" title=\"{hint}\">{} of {shown}</td>", t.pass)
                };
                out.push_str(&cell);
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table>\n<p class=\"note\">Passed, of those that could be shown; of MAY, those made use of.</p>\n");
    }

    fn row(&self, out: &mut String, at: usize, clause: &Clause) {
        let first = self.columns.first().map(|c| c.seen[at].outcome);
        let differs = self.columns.iter().any(|c| Some(c.seen[at].outcome) != first);
        let fails = self.columns.iter().any(|c| c.seen[at].outcome == Outcome::Fail);
        let _ = write!(
            out,
            "<tr class=\"row{}{}\" id=\"{}\"><td><a class=\"id\" href=\"#{}\">{}</a><span class=\"at\">{}, {}</span><span class=\"says\">{}</span></td><td><b class=\"{}\">{}</b></td>",
            if differs { " differs" } else { "" },
            if fails { " fails" } else { "" },
            clause.id,
            clause.id,
            clause.id,
            clause.section,
            clause.place,
            escaped(clause.says),
            level_class(clause.level),
            clause.level
        );
        for column in &self.columns {
            let seen = &column.seen[at];
            let (class, word) = (class(seen.outcome), seen.outcome.word());
            if seen.saw.is_empty() {
                let _ = write!(out, "<td class=\"{class}\">{word}</td>");
                continue;
            }
            let _ = write!(
                out,
                "<td class=\"{class}\" title=\"{}\"><details><summary>{word}</summary><p>{}</p>",
                escaped(&seen.line()),
                escaped(&seen.saw)
            );
            if !seen.wanted.is_empty() {
                let _ = write!(out, "<p><i>wanted:</i> {}</p>", escaped(&seen.wanted));
            }
            out.push_str("</details></td>");
        }
        out.push_str("</tr>\n");
    }

    fn silent_table(&self, out: &mut String) {
        if self.columns.iter().all(|c| c.silent.is_empty()) {
            return;
        }
        out.push_str(
            "<h2>Where the specification is silent</h2>\n<p>What each device does there; none of it is wrong.</p>\n",
        );
        out.push_str("<table class=\"silent\">\n<thead><tr><th>question</th>");
        for column in &self.columns {
            let _ = write!(out, "<th>{}</th>", escaped(&column.device));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for (at, point) in SILENT.iter().enumerate() {
            let _ = write!(
                out,
                "<tr id=\"{}\"><td>{}<span class=\"at\">{}: {}</span></td>",
                point.id,
                escaped(point.asks),
                point.section,
                escaped(point.because)
            );
            for column in &self.columns {
                match column.silent.get(at) {
                    Some(Ok(does)) => {
                        let _ = write!(out, "<td>{}</td>", escaped(does));
                    }
                    Some(Err(why)) => {
                        let _ = write!(out, "<td class=\"none\" title=\"{}\">not shown</td>", escaped(why));
                    }
                    None => out.push_str("<td></td>"),
                }
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table>\n");
    }
}
