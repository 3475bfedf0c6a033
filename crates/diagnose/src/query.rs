//! One symptom, as somebody types it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde::Serialize;

use crate::case::{Case, all};
use crate::errno::Errno;
use crate::pattern::{Captured, Pattern};

/// By what a case was found. The first are the surer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// A line of a log.
    Line,
    /// An exception syndrome.
    Esr,
    /// A call and its errno.
    Call,
    /// A call, or an errno, alone.
    HalfCall,
    /// Words.
    Words,
}

/// A case that a symptom may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The case.
    #[serde(serialize_with = "name")]
    pub case: &'static Case,
    /// By what it was found.
    pub how: How,
    /// How much of it matched; comparable where `how` is the same.
    pub specific: usize,
    /// What stood in the places of the pattern.
    pub captured: Vec<Captured>,
}

fn name<S: serde::Serializer>(case: &Case, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&case.name)
}

impl PartialEq for Case {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for Case {}

/// An exception syndrome in a text, and where it was taken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syndrome {
    /// The value.
    pub value: u64,
    /// To EL1 or EL2, where the text says so.
    pub el: Option<u8>,
}

/// The syndrome that a text labels as one: `ESR_EL2=0x…`, `ESR = 0x…`, `ESR: 0x…`, `ESR 0x…`.
pub(crate) fn syndrome(text: &[u8]) -> Option<Syndrome> {
    static LABELLED: OnceLock<Option<regex::bytes::Regex>> = OnceLock::new();
    let labelled = LABELLED.get_or_init(|| {
        regex::bytes::Regex::new(r"(?-u)\b(?i:esr)(?:_(?i:el)([12]))?[ \t]*[=:]?[ \t]*0[xX]([0-9a-fA-F]{1,16})\b").ok()
    });
    let found = labelled.as_ref()?.captures(text)?;
    let digits = std::str::from_utf8(found.get(2)?.as_bytes()).ok()?;
    let el = found.get(1).map(|el| if el.as_bytes() == b"1" { 1 } else { 2 });
    Some(Syndrome { value: u64::from_str_radix(digits, 16).ok()?, el })
}

/// A number alone that is as long as an ESR in hexadecimal.
fn lone(text: &str) -> Option<Syndrome> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let value = matches!(digits.len(), 8 | 16).then(|| u64::from_str_radix(digits, 16).ok())??;
    Some(Syndrome { value, el: None })
}

/// The cases of an exception syndrome, the most specific first.
#[must_use]
pub fn esr(it: Syndrome) -> Vec<Found> {
    let found = all().iter().filter_map(|case| {
        let specific = case.esr.iter().filter_map(|esr| esr.is(it.value, it.el)).max()?;
        Some(Found { case, how: How::Esr, specific, captured: vec![("esr".into(), format!("{:#010x}", it.value))] })
    });
    sorted(found.collect())
}

/// Every pattern with its case, and one search for the plain text of all of them: which can be in a line at all.
struct Patterns {
    all: Vec<(&'static Case, &'static Pattern)>,
    plain: regex::bytes::RegexSet,
}

fn patterns() -> Option<&'static Patterns> {
    static PATTERNS: OnceLock<Option<Patterns>> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        let all: Vec<_> = all().iter().flat_map(|case| case.lines.iter().map(move |pattern| (case, pattern))).collect();
        let plain = all.iter().map(|(_, pattern)| format!("(?-u){}", regex::escape(&pattern.literal)));
        let plain = regex::bytes::RegexSet::new(plain).ok()?;
        Some(Patterns { all, plain })
    });
    patterns.as_ref()
}

/// The cases of a line, those with the most specific pattern, each with it.
fn of_line(text: &[u8]) -> Vec<(&'static Case, &'static Pattern)> {
    let mut out: Vec<(&Case, &Pattern)> = Vec::new();
    let Some(patterns) = patterns() else { return out };
    let mut best = 0;
    for (case, pattern) in patterns.plain.matches(text).iter().filter_map(|i| patterns.all.get(i).copied()) {
        if pattern.specific < best || !pattern.is_in(text) {
            continue;
        }
        // A pattern that has the syndrome speaks of the syndromes of the case.
        if pattern.has_esr && !case.esr.is_empty() {
            let captured = pattern.captures(text).unwrap_or_default();
            let value = captured.iter().find(|(name, _)| name == "esr").and_then(|(_, value)| lone_number(value));
            let el = syndrome(text).and_then(|it| it.el);
            if value.is_some_and(|value| !case.esr.iter().any(|esr| esr.is(value, el).is_some())) {
                continue;
            }
        }
        if pattern.specific > best {
            best = pattern.specific;
            out.clear();
        }
        if !out.iter().any(|(it, _)| it.name == case.name) {
            out.push((case, pattern));
        }
    }
    out
}

/// The cases of a line; of what was captured nothing for those that `skip` names.
pub(crate) fn line(text: &[u8], skip: impl Fn(&Case) -> bool) -> Vec<Found> {
    let found = |(case, pattern): (&'static Case, &Pattern)| {
        let captured = if skip(case) { Vec::new() } else { pattern.captures(text).unwrap_or_default() };
        Found { case, how: How::Line, specific: pattern.specific, captured }
    };
    let out: Vec<Found> = of_line(text).into_iter().map(found).collect();
    if !out.is_empty() {
        return out;
    }
    syndrome(text).map_or(out, |it| esr(it).into_iter().take(1).collect())
}

fn lone_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The cases of a symptom, the likeliest first: a line of a log, `esr 0x92000061`, `EINVAL KVM_SET_USER_MEMORY_REGION`, words. Nothing if
/// it is not known.
#[must_use]
pub fn ask(text: &str) -> Vec<Found> {
    let text = text.trim();
    if let Some(it) = lone(text) {
        return esr(it);
    }
    let found = line(text.as_bytes(), |_| false);
    if !found.is_empty() {
        return found;
    }
    let found = calls(text);
    if !found.is_empty() {
        return found;
    }
    words(text)
}

fn calls(text: &str) -> Vec<Found> {
    let errno = Errno::found_in(text);
    let names: Vec<String> = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.len() > 2 && word.parse::<Errno>().is_err())
        .map(str::to_ascii_lowercase)
        .collect();
    // What is typed may have more at its end, and a call of an ioctl is often named without its prefix.
    let named = |call: &str| {
        let call = call.to_ascii_lowercase();
        names.iter().any(|name| name.starts_with(&call) || (name.contains('_') && call.ends_with(name.as_str())))
    };
    let mut whole = Vec::new();
    let mut half = Vec::new();
    for case in all() {
        let mut how = None;
        for it in &case.calls {
            match (named(&it.call), errno) {
                (true, Some(errno)) if errno == it.errno => how = how.max(Some((2, it.call.len()))),
                (true, None) => how = how.max(Some((1, it.call.len()))),
                (false, Some(errno)) if errno == it.errno && names.is_empty() => how = how.max(Some((1, 0))),
                _ => {}
            }
        }
        let found = |how, specific| Found { case, how, specific, captured: Vec::new() };
        match how {
            Some((2, specific)) => whole.push(found(How::Call, specific)),
            Some((_, specific)) => half.push(found(How::HalfCall, specific)),
            None => {}
        }
    }
    // The other words choose among several cases of one call.
    let scores: BTreeMap<&str, usize> =
        score(text).into_iter().map(|(case, score)| (case.name.as_str(), score)).collect();
    // Among many other words a call alone is only one of them.
    let mut out = match (whole.is_empty(), errno.is_none() && tokens(text).len() > 2) {
        (false, _) => whole,
        (true, false) => half,
        (true, true) => return words(text),
    };
    for it in &mut out {
        it.specific = it.specific * 10_000 + scores.get(it.case.name.as_str()).copied().unwrap_or(0).min(9_999);
    }
    sorted(out)
}

fn sorted(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|a, b| (a.how, b.specific).cmp(&(b.how, a.specific)));
    found
}

const STOP: &[&str] = &[
    "a", "an", "and", "are", "at", "but", "by", "do", "does", "for", "from", "get", "gets", "has", "have", "i", "if",
    "in", "is", "it", "its", "my", "no", "not", "of", "on", "or", "our", "so", "than", "that", "the", "there", "this",
    "to", "very", "we", "when", "where", "while", "why", "with", "you",
];

/// The words of a text that say something, in lower case; at most 64, so that what is pasted cannot take long.
fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let all = lower.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).map(|word| word.trim_matches('-'));
    let all: BTreeSet<&str> = all.filter(|word| !word.is_empty() && !STOP.contains(word)).collect();
    all.into_iter().take(64).map(String::from).collect()
}

/// Whether a word that was typed is a keyword: itself, or with an ending.
fn same(typed: &str, keyword: &str) -> bool {
    if typed == keyword {
        return true;
    }
    let (short, long) = if typed.len() < keyword.len() { (typed, keyword) } else { (keyword, typed) };
    short.len() >= 4
        && long
            .strip_prefix(short)
            .is_some_and(|rest| matches!(rest, "s" | "es" | "ed" | "d" | "ing" | "n" | "en" | "ly" | "ness"))
}

/// The cases with words of the text, and how much: a word that few cases have counts more.
fn score(text: &str) -> Vec<(&'static Case, usize)> {
    let typed = tokens(text);
    let all = all();
    let has = |case: &Case, token: &str| case.words.iter().any(|word| same(token, word));
    let weights: Vec<usize> = typed
        .iter()
        .map(|token| {
            let cases = all.iter().filter(|case| has(case, token)).count();
            if cases == 0 { 0 } else { 10 + 10 * all.len().div_ceil(cases).ilog2() as usize }
        })
        .collect();
    all.iter()
        .filter_map(|case| {
            let place = |token: &str| case.words.iter().position(|word| same(token, word));
            // The words that come first in the file are those that matter most.
            let score = |token: &str, weight: usize| Some(weight * 10 + 9_usize.saturating_sub(place(token)?));
            let score: usize = typed.iter().zip(&weights).filter_map(|(token, weight)| score(token, *weight)).sum();
            (score > 0).then_some((case, score))
        })
        .collect()
}

/// By words: those with the most of them, and those that come near. A third of what is typed must be known.
fn words(text: &str) -> Vec<Found> {
    let typed = tokens(text);
    let scores = score(text);
    let best = scores.iter().map(|(_, score)| *score).max().unwrap_or(0);
    let enough =
        |case: &Case| 3 * typed.iter().filter(|t| case.words.iter().any(|w| same(t, w))).count() >= typed.len();
    let found = scores
        .into_iter()
        .filter(|(case, score)| 3 * score >= 2 * best && enough(case))
        .map(|(case, specific)| Found { case, how: How::Words, specific, captured: Vec::new() });
    sorted(found.collect())
}

/// The cases whose symptoms look most like a text that is none of them, the nearest first: at most three.
#[must_use]
pub fn nearest(text: &str) -> Vec<&'static Case> {
    let typed = trigrams(text);
    let mut near: Vec<(f64, &Case)> = all()
        .iter()
        .map(|case| {
            let texts = case
                .lines
                .iter()
                .map(|p| p.text.as_str())
                .chain([case.title.as_str()])
                .chain(case.examples.iter().map(String::as_str));
            let close = texts.map(|it| dice(&typed, &trigrams(it))).fold(0.0, f64::max);
            (close, case)
        })
        .filter(|(close, _)| *close > 0.2)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(3).map(|(_, case)| case).collect()
}

fn trigrams(text: &str) -> BTreeSet<[u8; 3]> {
    let lower = text.to_ascii_lowercase();
    lower.as_bytes().windows(3).take(1000).filter_map(|w| w.try_into().ok()).collect()
}

fn dice(a: &BTreeSet<[u8; 3]>, b: &BTreeSet<[u8; 3]>) -> f64 {
    let both = a.intersection(b).count();
    2.0 * both as f64 / (a.len() + b.len()).max(1) as f64
}

/// A place of a text: what stands before it, its name, and what stands there if nothing was captured.
type Place<'a> = (&'a str, &'a str, &'a str);

/// A text with places, `{name|else}`, in pieces: what is before each, its name and its else; and what comes after the last.
pub(crate) fn places(text: &str) -> Result<(Vec<Place<'_>>, &str), String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let place = after.split_once('}').and_then(|(place, after)| Some((place.split_once('|')?, after)));
        let ((name, or), after) = place.ok_or_else(|| format!("`{{{after:.20}`: a place is written {{name|else}}"))?;
        out.push((before, name, or));
        rest = after;
    }
    Ok((out, rest))
}

/// A cause or a remedy with what was captured in its places.
#[must_use]
pub fn filled(text: &str, captured: &[Captured]) -> String {
    let Ok((all, rest)) = places(text) else { return text.into() };
    let mut out = String::new();
    for (before, name, or) in all {
        out.push_str(before);
        out.push_str(captured.iter().find(|(it, _)| it == name).map_or(or, |(_, value)| value.as_str()));
    }
    out.push_str(rest);
    out
}
