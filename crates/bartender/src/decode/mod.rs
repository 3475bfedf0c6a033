//! Registers into words: the layout of each register as data, pure functions over it, no printing.

pub mod arm_pte;
pub mod ept;
pub mod esr;
pub mod fsc;
pub mod mair;
pub mod mtrr;
pub mod par;
pub mod pat;
pub mod pbmt;
pub mod ste;
pub mod x86_pte;

use std::fmt::Write as _;

use serde::Serialize;

use crate::show::{BAD, FAINT, STRONG, paint};

/// A field of a register, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// As Arm names it.
    pub name: &'static str,
    /// The highest bit.
    pub high: u8,
    /// The lowest.
    pub low: u8,
    /// What it holds.
    pub value: u64,
    /// What that means.
    pub means: String,
    /// Worth no line of its own when it is zero.
    #[serde(skip)]
    quiet: bool,
}

/// A field in the layout of a register, for a `T` that decides whether these bits are that field.
struct Spec<T> {
    name: &'static str,
    high: u8,
    low: u8,
    /// Nothing to say about when it is zero.
    quiet: bool,
    when: fn(&T) -> bool,
    means: Means,
}

/// How a value is put into words.
#[derive(Clone, Copy)]
enum Means {
    /// By a table; a value it does not have is reserved.
    One(&'static [(u64, &'static str)]),
    /// As a number.
    Number,
    /// By a function.
    By(fn(u64) -> String),
}

impl<T> Spec<T> {
    const fn new(name: &'static str, high: u8, low: u8, means: Means) -> Self {
        Self { name, high, low, quiet: false, when: |_| true, means }
    }
    const fn when(self, when: fn(&T) -> bool) -> Self {
        Self { when, ..self }
    }
    const fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }
}

const fn mask(high: u8, low: u8) -> u64 {
    (u64::MAX >> (63 - high)) & (u64::MAX << low)
}

const fn bits(value: u64, high: u8, low: u8) -> u64 {
    (value & mask(high, low)) >> low
}

/// The fields of `value` by a layout, and the bits that belong to none of them and should be zero.
fn fields<T>(layout: &[Spec<T>], of: &T, value: u64) -> (Vec<Field>, u64) {
    let mut rest = value;
    let mut out = Vec::new();
    for spec in layout.iter().filter(|spec| (spec.when)(of)) {
        let held = bits(value, spec.high, spec.low);
        rest &= !mask(spec.high, spec.low);
        let means = match spec.means {
            Means::One(table) => {
                table.iter().find(|(v, _)| *v == held).map_or("reserved", |(_, means)| *means).to_string()
            }
            Means::Number => held.to_string(),
            Means::By(words) => words(held),
        };
        out.push(Field { name: spec.name, high: spec.high, low: spec.low, value: held, means, quiet: spec.quiet });
    }
    (out, rest)
}

/// A register or an entry of a table in words; what `decode` prints of everything but the registers that have more to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decoded {
    /// What it is, as its manual names it.
    pub register: String,
    /// The value; of something longer than 64 bits each doubleword, the lowest first.
    pub value: Vec<crate::show::Hex>,
    /// In a few words.
    pub says: String,
    /// The memory type it gives, as in files; null where it gives none on its own.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// The fields.
    pub fields: Vec<Field>,
    /// What follows.
    pub what: Vec<String>,
    /// What is odd about it.
    pub notes: Vec<String>,
}

/// The fields as lines for people; the quiet ones that are zero share the last.
#[must_use]
pub fn lines(fields: &[Field]) -> String {
    let (silent, spoken): (Vec<&Field>, Vec<&Field>) = fields.iter().partition(|f| f.quiet && f.value == 0);
    let wide = spoken.iter().map(|f| f.name.len()).max().unwrap_or(0);
    let place = |f: &Field| if f.high == f.low { f.low.to_string() } else { format!("{}:{}", f.high, f.low) };
    let places = spoken.iter().map(|f| place(f).len()).max().unwrap_or(0).max(5);
    let mut out = String::new();
    for f in spoken {
        let at = place(f);
        let value = if f.high - f.low < 4 {
            format!("{:#0width$b}", f.value, width = usize::from(f.high - f.low) + 3)
        } else {
            format!("{:#x}", f.value)
        };
        let first = format!("  {at:>places$}  {:<wide$}  {value:<8}  ", f.name);
        let text = crate::show::wrapped(&first, &f.means);
        // The position stands back, the name stands out.
        let name = format!("{:<wide$}", f.name);
        let painted = format!("  {}  {}", paint(FAINT, format!("{at:>places$}")), paint(STRONG, &name));
        out.push_str(&painted);
        out.push_str(text.get(4 + places + wide..).unwrap_or_default());
    }
    if !silent.is_empty() {
        let names: Vec<_> = silent.iter().map(|f| f.name).collect();
        let text = crate::show::wrapped("  ", &format!("zero: {}", names.join(", ")));
        let _ = writeln!(out, "{}", paint(FAINT, text.trim_end()));
    }
    out
}

/// What is odd about a value, in a line each.
#[must_use]
pub fn notes(notes: &[String]) -> String {
    let mut out = String::new();
    for note in notes {
        let text = crate::show::wrapped("note: ", note);
        let _ = write!(out, "\n{}{}", paint(BAD, "note:"), text.get(5..).unwrap_or_default());
    }
    out
}
