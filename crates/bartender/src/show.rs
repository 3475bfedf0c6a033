//! How it is printed: colour only where a terminal takes it (`NO_COLOR`, `CLICOLOR_FORCE` and `TERM=dumb` are honoured),
//! lines broken for people, JSON for programs.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use memtype::MemoryType;
use memtype::arm::Type;
use memtype::guarantee::{Question, Standing};

/// Columns of running text.
pub const WIDTH: usize = 100;

/// What stands out.
pub const STRONG: Style = Style::new().bold();
/// What stands back.
pub const FAINT: Style = Style::new().dimmed();
/// A fault, a "no".
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// A "yes, and it is fine".
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Neither.
pub const OPEN: Style = AnsiColor::Magenta.on_default();

/// The colour of a memory type.
#[must_use]
pub fn colour(ty: Type) -> Style {
    if ty.is_device() {
        AnsiColor::Yellow.on_default()
    } else if ty.is_normal_nc() {
        AnsiColor::Cyan.on_default()
    } else if ty.is_normal_wb() {
        AnsiColor::Green.on_default()
    } else {
        AnsiColor::Blue.on_default()
    }
}

/// The colour of a memory type of any architecture: by what it promises, in the colours of Arm's.
#[must_use]
pub fn colour_of(ty: MemoryType) -> Style {
    if let MemoryType::Arm64(ty) = ty {
        return colour(ty);
    }
    let may = |q| ty.guarantee(q).is_some_and(|g| g.standing != Standing::Forbidden);
    if may(Question::Cached) {
        AnsiColor::Green.on_default()
    } else if may(Question::Gather) {
        AnsiColor::Cyan.on_default()
    } else {
        AnsiColor::Yellow.on_default()
    }
}

/// `what` in `style`.
pub fn paint(style: Style, what: impl Display) -> impl Display {
    Painted(style, what)
}

struct Painted<T>(Style, T);

/// A width pads the text, not the escape codes around it.
impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let text = self.1.to_string();
        f.write_str(&text)?;
        write!(f, "{:#}", self.0)?;
        let missing = f.width().unwrap_or(0).saturating_sub(text.chars().count());
        for _ in 0..missing {
            f.write_char(' ')?;
        }
        Ok(())
    }
}

/// `text` in lines of [`WIDTH`] columns: the first after `first`, the others indented as far.
#[must_use]
pub fn wrapped(first: &str, text: &str) -> String {
    let indent = first.chars().count();
    let mut out = String::from(first);
    let mut column = indent;
    for (i, word) in text.split_whitespace().enumerate() {
        let len = word.chars().count();
        if i > 0 {
            if column + 1 + len > WIDTH {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            } else {
                out.push(' ');
                column += 1;
            }
        }
        out.push_str(word);
        column += len;
    }
    out.push('\n');
    out
}

/// A headed list, or nothing when it is empty.
#[must_use]
pub fn list<T: Display>(head: &str, items: &[T]) -> String {
    let mut out = String::new();
    if !items.is_empty() {
        out = format!("\n{}\n", paint(STRONG, head));
        for item in items {
            out.push_str(&wrapped("  - ", &item.to_string()));
        }
    }
    out
}

/// Prints text for people.
///
/// # Errors
/// When stdout does not take it.
pub fn text(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints a value as JSON.
///
/// # Errors
/// When stdout does not take it.
pub fn json(value: &impl serde::Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints an error, in clap's form; what follows the first line is a hint. There is nothing left to do where stderr does
/// not take it.
pub fn error(what: &dyn Display) {
    let what = what.to_string().replace('\n', "\n  ");
    let _ = writeln!(anstream::stderr().lock(), "{} {what}", paint(BAD, "error:"));
}

/// Serialises a number as `"0x…"`: JSON numbers of 64 bits lose precision in many readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl serde::Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
