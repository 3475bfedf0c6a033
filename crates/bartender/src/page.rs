//! The page of a [`Matrix`]: one file that loads nothing, well-formed as XML too, the same bytes for the same matrix. What comes
//! from scenario files passes `Text`, without exception.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use hyp::{Cpu, Facts, Policy};
use memtype::Attribute;
use memtype::arm::{Features, Stage1, Stage2, combine};
use memtype::x86::{self, Pat};
use model::{Answer, Is};
use platform::Platform;

use crate::matrix::{ANSWERS, Agreement, Cell, Column, Line, Mapped, Matrix, THREADS, glyph, part, thread_name};
use crate::verdict::{ASKED, Row, answers};

pub(crate) const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// Text of a page: nothing in it is markup, a control character, or turns the direction of what follows.
pub(crate) struct Text<T>(pub(crate) T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    f.write_char('\u{fffd}')?;
                }
                '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Text in which `` ` `` marks code.
struct Ticked<'a>(&'a str);

impl Display for Ticked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((before, (code, after))) = rest.split_once('`').and_then(|(b, r)| Some((b, r.split_once('`')?)))
        {
            write!(f, "{}<code>{}</code>", Text(before), Text(code))?;
            rest = after;
        }
        write!(f, "{}", Text(rest))
    }
}

/// What a row of the table is called in the page's addresses: by its scenario's name, where that is harmless.
fn id(line: &Line, at: usize) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !line.scenario.is_empty() && line.scenario.chars().all(harmless) {
        format!("s-{}", line.scenario)
    } else {
        format!("n{at}")
    }
}

const fn class(is: Is) -> &'static str {
    match is {
        Is::Yes => "y",
        Is::Maybe => "m",
        Is::No => "n",
        Is::NotAsked => "u",
    }
}

const fn class_of(cell: Agreement) -> &'static str {
    match cell {
        Agreement::Agree => "ok",
        Agreement::Finding => "maybe",
        Agreement::Differ => "bad",
        Agreement::Cannot | Agreement::NotAsked => "off",
    }
}

/// The page.
#[must_use]
pub fn page(matrix: &Matrix) -> String {
    let mut out = String::with_capacity(1 << 20);
    // Writing to a String does not fail.
    let _ = write(&mut out, matrix);
    out
}

fn write(out: &mut String, matrix: &Matrix) -> fmt::Result {
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src \
         'unsafe-inline'; base-uri 'none'; form-action 'none'\"/>\n\
         <title>bartender: who decides the memory type of device memory</title>\n<style>\n{STYLE}</style>\n</head>\n<body>"
    )?;
    intro(out, matrix)?;
    out.push_str(
        "<h2 id=\"policies\">The policies</h2>\n<p class=\"mut\">The bars count these scenarios, which were chosen to \
         show where policies differ. They do not say how common a case is.</p>\n<div class=\"cards\">\n",
    );
    for (at, column) in matrix.policies.iter().enumerate() {
        card(out, at, column)?;
    }
    out.push_str("</div>\n");
    table(out, matrix)?;
    out.push_str("<h2 id=\"scenarios\">Every scenario, every reason</h2>\n");
    for (at, line) in matrix.scenarios.iter().enumerate() {
        details(out, at, line)?;
    }
    foot(out, matrix)?;
    writeln!(
        out,
        "<aside id=\"panel\" aria-label=\"Why\" hidden=\"hidden\"><header><b id=\"of\"></b><button id=\"close\" type=\"button\">Close (Esc)</button></header><div id=\"body\" tabindex=\"0\"></div>\
         </aside>\n<script>\n{SCRIPT}</script>\n</body>\n</html>"
    )
}

fn intro(out: &mut String, matrix: &Matrix) -> fmt::Result {
    let (lines, columns) = (matrix.scenarios.len(), matrix.policies.len());
    let plural = |n: usize, one: &str, many: &str| if n == 1 { format!("{n} {one}") } else { format!("{n} {many}") };
    writeln!(
        out,
        "<h1>Who decides the memory type of device memory, and what each rule means for each driver</h1>\n\
         <p>A <b>scenario</b> is a driver in a guest: what it maps of a passed-through device, with which type, and what it then \
         does. A <b>policy</b> is a rule by which VFIO maps a BAR and KVM chooses the type at stage 2: what Linux has done at some \
         time, what was proposed on the mailing lists, and what KVM does on x86. Every scenario ran under every policy on the \
         model, which follows the Arm architecture (DDI 0487 M.a.a): {} × {}. No cell was measured on hardware.</p>",
        plural(lines, "scenario", "scenarios"),
        plural(columns, "policy", "policies"),
    )?;
    out.push_str(
        "<p>Each cell has three parts. It <b>works</b> where every outcome that the architecture allows is that of the same \
         program on a flawless machine without a hypervisor, be that a fault. It is <b>fast</b> where a guest that asks for \
         gathering needs no more write transactions than there. It is <b>safe</b> where no guest, whatever it does with these \
         BARs under this policy, does harm. Maybe: that depends on what the architecture leaves open, or on the guest.</p>\n\
         <p>Select a cell for the reasons (the arrow keys go on from there); they are all at the end of the page too.</p>\n<ul class=\"key\">",
    );
    for is in ANSWERS {
        write!(out, "<li><i class=\"{}\">{}</i>{}</li>", class(is), glyph(is), is.name())?;
    }
    if matrix.machines.len() > 1 {
        for (a, says) in [
            (Agreement::Agree, "the machines that ran it agree with the model"),
            (Agreement::Finding, "they depart from the architecture as a finding says"),
            (Agreement::Differ, "a machine differs"),
            (Agreement::Cannot, "no machine can show it"),
        ] {
            write!(out, "<li><b class=\"{}\">{}</b> {says}</li>", class_of(a), a.glyph())?;
        }
    }
    if matrix.cells().any(|c| !c.is_met()) {
        out.push_str("<li><b class=\"bad\">!</b> not what the scenario's file expects</li>");
    }
    out.push_str("</ul>\n");
    Ok(())
}

/// A prefetchable BAR of a device that is not VGA; the other kinds differ from it in one thing.
const USUAL: Facts = Facts { prefetchable: true, vga: false, cached: false, platform: Platform::USUAL };

/// The kinds of BAR that the policies tell apart. The second alone is not prefetchable.
const KINDS: [(&str, Facts, Attribute); 6] = [
    ("prefetchable BAR", USUAL, Attribute::Default),
    ("BAR that is not prefetchable", Facts { prefetchable: false, ..USUAL }, Attribute::Default),
    ("prefetchable BAR of a VGA device", Facts { vga: true, ..USUAL }, Attribute::Default),
    ("BAR on a platform described as fit for Normal-NC", Facts { platform: DESCRIBED, ..USUAL }, Attribute::Default),
    ("memory that the device's own driver maps cacheable", Facts { cached: true, ..USUAL }, Attribute::Default),
    ("BAR for which user space asked write-combine", USUAL, Attribute::WriteCombine),
];
const DESCRIBED: Platform = Platform { described: true, ..Platform::USUAL };
/// A CPU on which nothing is refused for what it lacks.
const CPU: Cpu = Cpu { fwb: true, dic: true };

/// What a guest's write-combining mapping becomes: MAIR 0x44 on Arm, WC in the PAT on x86.
fn becomes(policy: Policy, facts: &Facts, asked: Attribute) -> Option<String> {
    let (vma, _) = policy.mmap(facts, asked).ok()?;
    if !policy.is_arm() {
        let ept = Policy::ept(&vma, false);
        return Some(x86::ept::combine(ept.ty, ept.ipat, Pat::Wc).upper().into());
    }
    let memattr = policy.decide(&vma, CPU).ok()?.kind.memattr(CPU.fwb);
    let s1 = Stage1::decode(0x44, 0b11, Features::LATEST);
    let s2 = Stage2::decode(CPU.fwb, memattr, 0b11, Features::LATEST);
    Some(combine(&s1, &s2).ty.to_string())
}

fn chip(kind: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|w| kind.contains(w));
    if has(&["refused", "none"]) {
        "chip no"
    } else if has(&["Normal-NC", "writecombine", "WC"]) {
        "chip nc"
    } else if has(&["Normal", "cacheable"]) {
        "chip wb"
    } else {
        "chip dev"
    }
}

fn card(out: &mut String, at: usize, column: &Column) -> fmt::Result {
    let policy = column.is;
    let about = policy.about();
    write!(
        out,
        "<article class=\"card p{at}\" id=\"p-{0}\">\n<h3>{0}</h3>\n<p>{1}</p>\n<div class=\"bars\">",
        Text(column.policy),
        Ticked(about.rule)
    )?;
    for (asked, count) in ASKED.into_iter().zip(column.counts()) {
        let said: Vec<String> = ANSWERS.into_iter().map(|is| format!("{} {}", count.of(is), is.name())).collect();
        write!(
            out,
            "<span>{asked}</span><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{asked}: {}\">",
            said.join(", ")
        )?;
        let all = (count.asked() + count.not_asked).max(1);
        let mut x = 0;
        for is in ANSWERS {
            // In hundredths of a percent, so that nothing is lost to rounding that can be seen.
            let to = x + count.of(is);
            let (from, until) = (x * 10_000 / all, to * 10_000 / all);
            if until > from {
                let (w, from) = (until - from, format!("{}.{:02}", from / 100, from % 100));
                write!(
                    out,
                    "<rect class=\"{}\" x=\"{from}\" y=\"0\" width=\"{}.{:02}\" height=\"10\"/>",
                    class(is),
                    w / 100,
                    w % 100
                )?;
            }
            x = to;
        }
        write!(out, "</svg><b data-count=\"{asked}\">{}/{}</b>", count.yes, count.asked())?;
    }
    out.push_str("</div>\n");
    for (what, text) in [("Proposed", about.proposed), ("Became", about.became)] {
        if !text.is_empty() {
            writeln!(out, "<p><span class=\"mut\">{what}:</span> {}</p>", Ticked(text))?;
        }
    }
    flow(out, policy)?;
    for (what, said) in [("for", about.for_it), ("against", about.against)] {
        if !said.is_empty() {
            write!(out, "<details><summary>What was said {what} it</summary><ul>")?;
            for s in said {
                let (what, who, when, place) = (Ticked(s.what), Text(s.who), Text(s.when), Text(s.place));
                write!(out, "<li>{what} <small>{who}, {when}, {place}</small></li>")?;
            }
            out.push_str("</ul></details>\n");
        }
    }
    if !about.breaks.is_empty() {
        out.push_str("<details><summary>What it breaks</summary><ul>");
        for it in about.breaks {
            write!(out, "<li>{}</li>", Ticked(it))?;
        }
        out.push_str("</ul></details>\n");
    }
    out.push_str("</article>\n");
    Ok(())
}

/// What a policy makes of each kind of BAR: the host's mapping, stage 2, and what a guest's write-combining mapping becomes.
fn flow(out: &mut String, policy: Policy) -> fmt::Result {
    let mut kinds: Vec<(Vec<&str>, Mapped, String)> = Vec::new();
    for (kind, facts, asked) in KINDS {
        if asked != Attribute::Default && !policy.takes_attributes() {
            continue;
        }
        let mapped = part(policy, &facts, asked, CPU, false, String::new());
        let comes = becomes(policy, &facts, asked).unwrap_or_else(|| "refused".into());
        let same = kinds.iter_mut().find(|(_, m, c)| (&m.vma, &m.stage2, c) == (&mapped.vma, &mapped.stage2, &comes));
        match same {
            Some((names, _, _)) => names.push(kind),
            None => kinds.push((vec![kind], mapped, comes)),
        }
    }
    // The kind most are like is "any other".
    let common = kinds.iter().map(|(n, _, _)| n.len()).max().unwrap_or(0);
    let only = kinds.len() == 1;
    let about = policy.about();
    out.push_str("<details><summary>What it makes of a BAR</summary>\n");
    for (what, text) in [("Decides", about.decides), ("Needed of user space", about.needs)] {
        if !text.is_empty() {
            writeln!(out, "<p><span class=\"mut\">{what}:</span> {}</p>", Ticked(text))?;
        }
    }
    out.push_str(
        "<p class=\"mut\">The host's mapping → stage 2 → what a guest's \
                  write-combining mapping becomes. On a CPU with FWB and DIC.</p><ul class=\"flow\">",
    );
    kinds.sort_by_key(|(n, _, _)| n.len());
    for (names, mapped, comes) in &kinds {
        let name = if only {
            "any BAR".into()
        } else if names.len() == common && common > 1 {
            let all = names.contains(&KINDS[1].0);
            if all { "any other BAR".into() } else { "any prefetchable BAR".into() }
        } else {
            names.join("; ")
        };
        write!(out, "<li><b>{name}</b>")?;
        for (at, it) in [&mapped.vma, &mapped.stage2, comes].into_iter().enumerate() {
            write!(out, "{}<span class=\"{}\">{}</span>", if at > 0 { " → " } else { "" }, chip(it), Text(it))?;
        }
        out.push_str("</li>");
    }
    out.push_str("</ul></details>\n");
    Ok(())
}

fn marks(line: &Line) -> String {
    let threads = line.threads.iter().map(|t| format!("{t:03}")).collect::<Vec<_>>().join(" ");
    let threads = if threads.is_empty() { "none".into() } else { threads };
    let same = line.cells.windows(2).all(|w| matches!(w, [a, b] if a.answers() == b.answers()));
    format!("data-t=\"{threads}\" data-d=\"{}\"", u8::from(!same))
}

fn table(out: &mut String, matrix: &Matrix) -> fmt::Result {
    out.push_str(
        "<h2 id=\"matrix\">The matrix</h2>\n<form id=\"filter\" hidden=\"hidden\"><label>From <select id=\"thread\">\
                  <option value=\"\">anywhere</option>",
    );
    let mut threads: Vec<u16> = matrix.scenarios.iter().flat_map(|l| l.threads.iter().copied()).collect();
    threads.sort_unstable();
    threads.dedup();
    for thread in threads {
        let name = THREADS.iter().find(|(n, _)| *n == thread).map_or("", |(_, name)| name);
        write!(out, "<option value=\"{thread:03}\">{}: {}</option>", thread_name(Some(thread)), Text(name))?;
    }
    out.push_str(
        "<option value=\"none\">the architecture alone</option></select></label>\
                  <label><input type=\"checkbox\" id=\"differ\"/> only where the policies differ</label>",
    );
    for (at, column) in matrix.policies.iter().enumerate() {
        let name = Text(column.policy);
        write!(out, "<label><input type=\"checkbox\" data-p=\"{at}\" checked=\"checked\"/> {name}</label>")?;
    }
    out.push_str(
        "</form>\n<div class=\"scroll\">\n<table class=\"x\" id=\"t\">\n<thead><tr><th scope=\"col\">scenario</th>",
    );
    for (at, column) in matrix.policies.iter().enumerate() {
        write!(out, "<th scope=\"col\" class=\"p{at}\"><a href=\"#p-{0}\">{0}</a></th>", Text(column.policy))?;
    }
    out.push_str("</tr></thead>\n");
    let mut at = 0;
    for (thread, lines) in matrix.groups() {
        let about = THREADS.iter().find(|(n, _)| Some(*n) == thread).map_or("", |(_, name)| name);
        writeln!(
            out,
            "<tbody><tr class=\"g\"><th colspan=\"{}\" scope=\"colgroup\"><span>{}<small>{}</small></span></th></tr>",
            matrix.policies.len() + 1,
            thread_name(thread),
            Text(about)
        )?;
        for line in lines {
            let id = id(line, at);
            write!(
                out,
                "<tr {}><th scope=\"row\"><a href=\"#{id}\">{}</a><small>{}</small></th>",
                marks(line),
                Text(&line.scenario),
                Text(&line.title)
            )?;
            for (p, cell) in line.cells.iter().enumerate() {
                segment(out, &id, p, cell)?;
            }
            out.push_str("</tr>\n");
            at += 1;
        }
        out.push_str("</tbody>\n");
    }
    out.push_str("<tfoot>");
    for (i, asked) in ASKED.into_iter().enumerate() {
        write!(out, "<tr><th scope=\"row\">{asked}, of those that ask</th>")?;
        for (p, column) in matrix.policies.iter().enumerate() {
            let count = column.counts()[i];
            write!(out, "<td class=\"p{p}\">{}/{}</td>", count.yes, count.asked())?;
        }
        out.push_str("</tr>");
    }
    out.push_str("</tfoot>\n</table>\n</div>\n");
    Ok(())
}

fn segment(out: &mut String, id: &str, p: usize, cell: &Cell) -> fmt::Result {
    let all = cell.answers();
    write!(out, "<td class=\"p{p}\"><a class=\"v\" href=\"#{id}.{}\" aria-label=\"", cell.policy)?;
    for (asked, is) in ASKED.into_iter().zip(all) {
        write!(out, "{asked} {}; ", is.name())?;
    }
    if !cell.is_met() {
        out.push_str("not as expected; ");
    }
    if cell.agreement() > Agreement::NotAsked {
        write!(out, "{}", cell.agreement().says())?;
    }
    out.push_str("\">");
    for is in all {
        write!(out, "<i class=\"{}\">{}</i>", class(is), glyph(is))?;
    }
    let style = if cell.is_met() { class_of(cell.agreement()) } else { "bad" };
    match cell.mark() {
        ' ' => {}
        mark => write!(out, "<b class=\"{style}\">{mark}</b>")?,
    }
    out.push_str("</a></td>");
    Ok(())
}

fn details(out: &mut String, at: usize, line: &Line) -> fmt::Result {
    let id = id(line, at);
    writeln!(
        out,
        "<details class=\"sc\" id=\"{id}\" {}><summary>{}<small>{}</small></summary>",
        marks(line),
        Text(&line.title),
        Text(&line.scenario)
    )?;
    if !line.story.trim().is_empty() {
        writeln!(out, "<p>{}</p>", Text(line.story.trim()))?;
    }
    if !line.source.is_empty() {
        writeln!(out, "<p class=\"mut\">Source: {}</p>", Text(&line.source))?;
    }
    writeln!(out, "<details><summary>the file</summary><pre>{}</pre></details>", Text(line.text.trim()))?;
    let mut told = Told { id: &id, at, blocks: BTreeMap::new() };
    for (p, cell) in line.cells.iter().enumerate() {
        section(out, &mut told, p, cell)?;
    }
    out.push_str("</details>\n");
    Ok(())
}

/// The blocks of a scenario, so that what is the same under two policies is in the page once: the script puts it back.
struct Told<'a> {
    /// The scenario's name in the page.
    id: &'a str,
    /// And its number.
    at: usize,
    /// By the block: where it is, and under which policy.
    blocks: BTreeMap<String, (String, &'static str)>,
}

/// Below this a block is shorter than what would stand for it.
const WORTH: usize = 160;

impl Told<'_> {
    fn block(&mut self, out: &mut String, policy: &'static str, block: String) -> fmt::Result {
        if block.len() < WORTH {
            out.push_str(&block);
            return Ok(());
        }
        match self.blocks.get(&block) {
            Some((at, first)) => {
                write!(out, "<p data-as=\"{at}\">As under <a href=\"#{}.{first}\">{first}</a>.</p>", self.id)
            }
            None => {
                let id = format!("b{}-{}", self.at, self.blocks.len());
                write!(out, "<div id=\"{id}\">{block}</div>")?;
                self.blocks.insert(block, (id, policy));
                Ok(())
            }
        }
    }
}

fn listed(kind: &str, items: &[impl AsRef<str>]) -> String {
    let items: String = items.iter().map(|it| format!("<li>{}</li>", Ticked(it.as_ref()))).collect();
    format!("<{kind}>{items}</{kind}>")
}

fn section(out: &mut String, told: &mut Told<'_>, p: usize, cell: &Cell) -> fmt::Result {
    let policy = cell.policy;
    write!(
        out,
        "<section class=\"cell p{p}\" id=\"{0}.{policy}\">\n<h4>{policy}</h4>\n<div \
         class=\"cols\"><div>\n<p>It ended: <b>{1}</b>",
        told.id,
        Text(&cell.model.outcome)
    )?;
    values(out, &cell.model)?;
    out.push_str("</p>");
    if !cell.is_met() {
        let why = cell.model.why.as_deref().unwrap_or("no reason given");
        write!(out, "<p class=\"bad\">! Not what the file expects. {}</p>", Text(why))?;
    }
    if let Some(judged) = &cell.model.judged {
        let mut block = String::from("<dl>");
        for (asked, answer) in ASKED.into_iter().zip(answers(judged)) {
            question(&mut block, asked, answer)?;
        }
        block.push_str("</dl>");
        told.block(out, policy, block)?;
    }
    out.push_str("</div><div>");
    if !cell.mapped.is_empty() {
        out.push_str("<h5>What VFIO makes of it</h5>");
        let of = |what: fn(&Mapped) -> (&str, &str)| mapped(&cell.mapped, what);
        told.block(out, policy, of(|m| (&m.vma, &m.why_vma)))?;
        out.push_str("<h5>What KVM makes of that</h5>");
        told.block(out, policy, of(|m| (&m.stage2, &m.why_stage2)))?;
    }
    if !cell.model.choices.is_empty() {
        out.push_str("<h5>What the architecture leaves open</h5>");
        let outcomes = cell.model.choice.iter().map(|it| format!("<li><code>{}</code></li>", Text(it)));
        let outcomes: String = outcomes.collect();
        let choices = listed("ul", &cell.model.choices);
        told.block(out, policy, format!("{choices}<p>So each of these may come out:</p><ul>{outcomes}</ul>"))?;
    }
    if !cell.machines.is_empty() {
        out.push_str("<h5>What each machine saw</h5><ul>");
        for row in &cell.machines {
            machine(out, row)?;
        }
        out.push_str("</ul>");
    }
    out.push_str("</div>");
    // What VFIO and KVM decided, and why, is said above. Without it, policies that decide alike have the same steps.
    let said = |step: &str| cell.mapped.iter().any(|m| step.contains(&m.why_vma) || step.contains(&m.why_stage2));
    let steps: Vec<&String> = cell.model.because.iter().filter(|step| !said(step)).collect();
    if !steps.is_empty() {
        out.push_str("<div><h5>Step by step</h5>");
        told.block(out, policy, listed("ol", &steps))?;
        out.push_str("</div>");
    }
    out.push_str("</div></section>\n");
    Ok(())
}

/// The registers and syndromes of a row.
fn values(out: &mut String, row: &Row) -> fmt::Result {
    let known = [("esr", row.esr), ("far", row.far), ("ipa", row.ipa)];
    let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let registers = row.registers.iter().map(|(name, value)| (name.as_str(), *value));
    let all: Vec<String> = known.chain(registers).map(|(name, value)| format!("{name}={value}")).collect();
    if !all.is_empty() {
        write!(out, " <code>{}</code>", Text(all.join(" ")))?;
    }
    Ok(())
}

fn question(out: &mut String, asked: &str, answer: &Answer) -> fmt::Result {
    let is = answer.is;
    write!(out, "<div><dt><i class=\"{}\">{}</i> {asked}: {}</dt>", class(is), glyph(is), is.name())?;
    for why in &answer.because {
        write!(out, "<dd>{}</dd>", Ticked(why))?;
    }
    out.push_str("</div>");
    Ok(())
}

fn mapped(all: &[Mapped], what: fn(&Mapped) -> (&str, &str)) -> String {
    let item = |it: &Mapped| {
        let (what, why) = what(it);
        format!(
            "<li><code>{}</code> <span class=\"{}\">{}</span> {}</li>",
            Text(&it.place),
            chip(what),
            Text(what),
            Text(why)
        )
    };
    format!("<ul>{}</ul>", all.iter().map(item).collect::<String>())
}

fn machine(out: &mut String, row: &Row) -> fmt::Result {
    let says = Agreement::of(row);
    write!(
        out,
        "<li><b class=\"{}\">{}</b> {}: {}",
        class_of(says),
        says.glyph(),
        Text(&row.machine),
        Text(&row.outcome)
    )?;
    values(out, row)?;
    write!(out, ", {}.", says.says())?;
    if let Some(departs) = &row.departs {
        write!(out, " The finding: <a href=\"#f-{0}\">{0}</a>.", Text(departs.finding))?;
    }
    if let Some(why) = &row.why {
        write!(out, " {}", Text(why))?;
    }
    out.push_str("</li>");
    Ok(())
}

fn foot(out: &mut String, matrix: &Matrix) -> fmt::Result {
    write!(
        out,
        "<footer>\n<p>Made by <code>bartender matrix --html</code>, version {}. Machines:</p>\n<ul>",
        matrix.version
    )?;
    for ran in &matrix.machines {
        write!(out, "<li>{}: {}</li>", Text(&ran.machine), Text(&ran.about))?;
    }
    out.push_str("</ul>\n");
    let departs = matrix.cells().flat_map(|c| &c.machines).filter_map(|r| r.departs);
    let findings: BTreeMap<_, _> = departs.map(|d| (d.finding, d.says)).collect();
    if !findings.is_empty() {
        out.push_str("<p>Findings, where a machine departs from the architecture in a way known by name:</p>\n<ul>");
        for (name, says) in findings {
            write!(out, "<li id=\"f-{0}\">{0}: {1}</li>", Text(name), Text(says))?;
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</footer>\n");
    Ok(())
}
