//! The machine as a drawing: one file that loads nothing, well-formed as XML too, the same bytes for the same machine. Bridges hold what is
//! behind them; a window is a strip with the BARs in it, to scale; a BAR has the colour of what a guest gets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use ::host::{Bar, Fact, Function, Host, Window};
use ::plan::{Answer, Glance, Layers, Machine, Way};
use memtype::MemoryType;
use memtype::guarantee::{Question, Standing};
use platform::Bdf;

use super::{answers, bytes, class_word, gets, glyph, is_bridge, memory_bars, name, text};
use crate::page::{STYLE, Text};

const OWN: &str = include_str!("style.css");

/// The page.
pub(super) fn page(host: &Host) -> String {
    let mut out = String::with_capacity(1 << 18);
    // Writing to a String does not fail.
    let _ = write(&mut out, host);
    out
}

/// A BAR with what becomes of it.
struct Drawn<'a> {
    bar: &'a Bar,
    glance: Glance,
    why: Option<Layers>,
}

fn write(out: &mut String, host: &Host) -> fmt::Result {
    let release = host.kernel.release.known().map_or("an unknown kernel", String::as_str);
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
         form-action 'none'\"/>\n<title>bartender: what guests get of this machine's BARs ({0})</title>\n<style>\n{STYLE}{OWN}</style>\n\
         </head>\n<body>\n<h1>What guests get of this machine's BARs</h1>",
        Text(release)
    )?;
    out.push_str("<dl class=\"facts\">\n");
    for (label, says) in text::facts(host) {
        writeln!(out, "<dt>{}</dt><dd>{}</dd>", Text(label), Text(says))?;
    }
    out.push_str("</dl>\n");

    if host.functions.is_empty() {
        out.push_str("<p>There is no PCI function here.</p>\n");
    } else {
        key(out)?;
        tree(out, host)?;
    }
    holes(out, host)?;
    out.push_str("</body>\n</html>\n");
    Ok(())
}

fn key(out: &mut String) -> fmt::Result {
    out.push_str(
        "<p>A BAR has the colour of the memory type that a guest gets which asks for write-combining, by the best way there is to hand \
         it over. Its marks: a driver that maps it write-combining <b>works</b>, its bursts are combined (<b>fast</b>), it can do no harm \
         (<b>safe</b>). Open a device for the reasons.</p>\n<ul class=\"key\">",
    );
    for (class, says) in [
        ("dev", "as a register: nothing merged (Device, UC, IO)"),
        ("nc", "write-combining (Normal-NC, WC, NC)"),
        ("wb", "cacheable"),
        ("trap", "trapped: the VMM does each access"),
        ("unk", "not known"),
    ] {
        write!(out, "<li><span class=\"bar {class}\">BAR</span> {says}</li>")?;
    }
    out.push_str("<li><span class=\"bar nc not\">BAR</span> dashed: it would, but cannot be had now</li>");
    for answer in [Answer::Yes, Answer::Maybe, Answer::No, Answer::NotAsked] {
        write!(out, "<li><i class=\"{}\">{}</i>{}</li>", mark(answer), glyph(answer), answer.name())?;
    }
    out.push_str("</ul>\n");
    Ok(())
}

const fn mark(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "y",
        Answer::Maybe => "m",
        Answer::No => "n",
        Answer::NotAsked => "u",
    }
}

/// The colour of a BAR.
fn class(glance: &Glance) -> &'static str {
    let may = |ty: MemoryType, q| ty.guarantee(q).is_some_and(|g| g.standing != Standing::Forbidden);
    match glance.gets {
        _ if glance.way == Way::Trap => "trap",
        Some(ty) if may(ty, Question::Cached) => "wb",
        Some(ty) if may(ty, Question::Gather) => "nc",
        Some(_) => "dev",
        None => "unk",
    }
}

/// What a step of the walk over the tree does.
enum Step {
    Enter(Bdf),
    Close(&'static str),
}

/// Every function once: those behind a bridge within it. What a hostile snapshot puts behind itself stands at the end.
fn tree(out: &mut String, host: &Host) -> fmt::Result {
    let mut below: BTreeMap<Option<Bdf>, Vec<Bdf>> = BTreeMap::new();
    for function in host.functions.values() {
        let parent = function.above.last().copied().filter(|p| host.functions.contains_key(p) && *p != function.bdf);
        below.entry(parent).or_default().push(function.bdf);
    }
    let machine = Machine::new(host);
    let drawn: BTreeMap<Bdf, Vec<Drawn<'_>>> = host.functions.values().map(|f| (f.bdf, draw(&machine, f))).collect();
    let mut seen = BTreeSet::new();
    let roots = below.get(&None).cloned().unwrap_or_default();
    let mut buses: BTreeMap<(u32, u8), Vec<Bdf>> = BTreeMap::new();
    for bdf in roots.into_iter().chain(host.functions.keys().copied()) {
        buses.entry((bdf.domain(), bdf.bus())).or_default().push(bdf);
    }
    // Roots come first in each bus; whoever was drawn behind a bridge by then is not drawn again.
    let root: BTreeSet<Bdf> = below.get(&None).into_iter().flatten().copied().collect();
    let (first, rest): (Vec<_>, Vec<_>) = buses.into_iter().partition(|(_, all)| all.iter().any(|b| root.contains(b)));
    for ((domain, bus), all) in first.into_iter().chain(rest) {
        let mut all: Vec<Bdf> = all.into_iter().filter(|b| root.contains(b) || !is_below(host, *b)).collect();
        all.dedup();
        all.retain(|b| !seen.contains(b));
        if all.is_empty() {
            continue;
        }
        write!(out, "<h2>Bus {domain:04x}:{bus:02x}</h2>\n<ul class=\"tree\">")?;
        let mut steps: Vec<Step> = all.into_iter().rev().map(Step::Enter).collect();
        while let Some(step) = steps.pop() {
            match step {
                Step::Close(text) => out.push_str(text),
                Step::Enter(bdf) => {
                    let Some(function) = host.functions.get(&bdf).filter(|_| seen.insert(bdf)) else { continue };
                    out.push_str("<li>");
                    one(out, function, &drawn)?;
                    match below.get(&Some(bdf)) {
                        Some(children) => {
                            out.push_str("<ul>\n");
                            steps.push(Step::Close("</ul></li>\n"));
                            steps.extend(children.iter().rev().map(|b| Step::Enter(*b)));
                        }
                        None => out.push_str("</li>\n"),
                    }
                }
            }
        }
        out.push_str("</ul>\n");
    }
    Ok(())
}

/// Whether a function that is drawn stands above it, so that it is drawn there.
fn is_below(host: &Host, bdf: Bdf) -> bool {
    let mut at = bdf;
    let mut steps = 0;
    while let Some(parent) =
        host.functions.get(&at).and_then(|f| f.above.last()).filter(|p| host.functions.contains_key(p))
    {
        at = *parent;
        steps += 1;
        if steps > host.functions.len() {
            return false;
        }
    }
    steps > 0
}

fn draw<'a>(machine: &Machine<'a>, function: &'a Function) -> Vec<Drawn<'a>> {
    memory_bars(function)
        .filter_map(|bar| {
            let glance = machine.at_a_glance(function, bar)?;
            let why = machine.layers(function, bar).into_iter().find(|l| l.way == glance.way);
            Some(Drawn { bar, glance, why })
        })
        .collect()
}

fn one(out: &mut String, function: &Function, drawn: &BTreeMap<Bdf, Vec<Drawn<'_>>>) -> fmt::Result {
    let own = drawn.get(&function.bdf).map_or(&[][..], Vec::as_slice);
    let bridge = is_bridge(function);
    let mut head = format!("<b>{}</b> <span class=\"who\">{}</span>", function.bdf, Text(name(function)));
    let mut tag = |text: &str| {
        let _ = write!(head, "<span class=\"tag\">{}</span>", Text(text));
    };
    tag(class_word(function.class));
    if let Fact::Known(driver) = &function.driver {
        tag(driver);
    }
    if let Fact::Known(group) = &function.group {
        tag(&format!("group {}", group.number));
    }
    for it in own {
        strip(&mut head, function, it)?;
    }
    if own.is_empty() {
        writeln!(out, "<div class=\"{}\"><div class=\"head\">{head}</div>", if bridge { "br" } else { "fn" })?;
    } else {
        writeln!(out, "<details class=\"{}\"><summary>{head}</summary>", if bridge { "fn br" } else { "fn" })?;
        for it in own {
            reasons(out, it)?;
        }
    }
    let close = if own.is_empty() { "</div>" } else { "</details>" };
    if !own.is_empty() {
        out.push_str(close);
    }
    for window in function.windows.iter().filter(|w| !w.io) {
        strips(out, window, drawn)?;
    }
    if own.is_empty() {
        out.push_str(close);
    }
    Ok(())
}

/// A BAR, the wider the more bits its size has.
fn strip(out: &mut String, function: &Function, it: &Drawn<'_>) -> fmt::Result {
    let bits = 64 - it.bar.size.0.max(1).leading_zeros();
    let width = 6 + bits.saturating_sub(12) / 2;
    write!(
        out,
        "<span class=\"bar {}{}\" style=\"min-width:{width}rem\" title=\"{}\"><span>{} · {}{}</span><span>",
        class(&it.glance),
        if it.glance.available.is_ok() { "" } else { " not" },
        Text(title(function, it)),
        it.bar.index,
        bytes(it.bar.size.0),
        if it.bar.prefetchable { " p" } else { "" },
    )?;
    for answer in answers(&it.glance) {
        out.push(glyph(answer));
    }
    out.push_str("</span></span>");
    Ok(())
}

fn title(function: &Function, it: &Drawn<'_>) -> String {
    let mut text = format!(
        "{} BAR {}, {}, {}-bit{}\n{}: a guest gets {}",
        function.bdf,
        it.bar.index,
        bytes(it.bar.size.0),
        if it.bar.wide { 64 } else { 32 },
        if it.bar.prefetchable { ", prefetchable" } else { "" },
        it.glance.way.says(it.bar.index),
        gets(&it.glance)
    );
    if let Err(why) = &it.glance.available {
        let _ = write!(text, "\nnot now: {why}");
    }
    if let Some(why) = &it.why {
        for (asked, (answer, because)) in [("works", &why.works), ("fast", &why.fast), ("safe", &why.safe)] {
            let _ = write!(text, "\n{asked}: {}. {because}", answer.name());
        }
    }
    text
}

fn reasons(out: &mut String, it: &Drawn<'_>) -> fmt::Result {
    write!(
        out,
        "<table class=\"why\"><tr><th colspan=\"2\"><b>BAR {}</b>, {}: a guest gets {}{}</th></tr>",
        it.bar.index,
        Text(it.glance.way.says(it.bar.index)),
        Text(gets(&it.glance)),
        it.glance.available.as_ref().err().map_or_else(String::new, |why| format!("; not now: {}", Text(why)))
    )?;
    if let Some(why) = &it.why {
        let layers = [("bus", Some(&why.bus)), ("host VMA", Some(&why.vma)), ("stage 2", why.stage2.as_ref())];
        for (label, layer) in layers.into_iter().filter_map(|(label, layer)| Some((label, layer?))) {
            write!(out, "<tr><td class=\"mut\">{label}</td><td>{}</td></tr>", Text(text::says(layer)))?;
        }
        for (asked, (answer, because)) in [("works", &why.works), ("fast", &why.fast), ("safe", &why.safe)] {
            let (class, glyph) = (mark(*answer), glyph(*answer));
            write!(out, "<tr><td><i class=\"{class}\">{glyph}</i> {asked}</td><td>{}</td></tr>", Text(because))?;
        }
        for (at, advice) in why.advice.iter().enumerate() {
            let label = if at == 0 { "do" } else { "" };
            write!(out, "<tr><td class=\"mut\">{label}</td><td>{}</td></tr>", Text(advice))?;
        }
    }
    out.push_str("</table>\n");
    Ok(())
}

/// A bridge's window with the BARs in it, to scale; nothing is drawn narrower than can be seen.
fn strips(out: &mut String, window: &Window, drawn: &BTreeMap<Bdf, Vec<Drawn<'_>>>) -> fmt::Result {
    const WIDE: u128 = 10_000;
    let span = window.span;
    let size = u128::from(span.last.0 - span.first.0) + 1;
    write!(
        out,
        "<div class=\"win\"><code>{:#x}-{:#x}</code><svg viewBox=\"0 0 {WIDE} 10\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"window\">",
        span.first.0, span.last.0
    )?;
    for (bdf, it) in drawn.iter().flat_map(|(bdf, all)| all.iter().map(move |it| (bdf, it))) {
        let Some(at) = it.bar.at.filter(|at| span.contains(*at)) else { continue };
        let from = u128::from(at.first.0 - span.first.0) * WIDE / size;
        let width = ((u128::from(at.last.0 - at.first.0) + 1) * WIDE / size).max(12);
        let from = from.min(WIDE - width);
        write!(
            out,
            "<rect class=\"{}\" x=\"{from}\" y=\"0\" width=\"{width}\" height=\"10\"><title>{bdf} BAR {}, {}: {}</title></rect>",
            class(&it.glance),
            it.bar.index,
            bytes(it.bar.size.0),
            Text(gets(&it.glance))
        )?;
    }
    let kind = if window.prefetchable { ", prefetchable" } else { "" };
    writeln!(out, "</svg><span>window, {}{kind}</span></div>", bytes(span.size().0))
}

fn holes(out: &mut String, host: &Host) -> fmt::Result {
    if host.holes.is_empty() {
        return Ok(());
    }
    out.push_str("<h2>Not known</h2>\n<ul>");
    for (remedy, asked) in super::grouped(&host.holes) {
        let asked: Vec<String> =
            asked.iter().map(|(at, count)| if *count > 1 { format!("{at} (×{count})") } else { at.clone() }).collect();
        write!(out, "<li>{}: <span class=\"mut\">{}</span></li>", Text(remedy), Text(asked.join(", ")))?;
    }
    out.push_str("</ul>\n");
    Ok(())
}
