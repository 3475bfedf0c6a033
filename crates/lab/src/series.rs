//! The name of a kernel: a series, as 6.12 for arm64 and x86-6.12.

use std::fmt;
use std::str::FromStr;

use crate::arch::Arch;
use crate::error::Error;

/// A kernel series: `6.1`, `6.12`, `7.2`, or `newest`; those are arm64's. `x86-6.12` and `x86-newest` are amd64's.
///
/// ```
/// use lab::{Arch, Series};
/// assert_eq!("6.12".parse::<Series>()?.to_string(), "6.12");
/// assert_eq!("x86-6.12".parse::<Series>()?.arch(), Arch::Amd64);
/// assert!("6.12.3".parse::<Series>().is_err());
/// # Ok::<(), lab::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series(Arch, Which);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Which {
    Numbered(u16, u16),
    Newest,
}

impl Series {
    /// The newest there is for arm64.
    pub const NEWEST: Self = Self(Arch::Arm64, Which::Newest);

    /// The series of arm64 kernels with these two numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self::of(Arch::Arm64, major, minor)
    }

    /// The series of an architecture's kernels with these two numbers.
    #[must_use]
    pub const fn of(arch: Arch, major: u16, minor: u16) -> Self {
        Self(arch, Which::Numbered(major, minor))
    }

    /// What its kernels are for.
    #[must_use]
    pub const fn arch(self) -> Arch {
        self.0
    }

    /// Whether this is `newest`.
    #[must_use]
    pub const fn is_newest(self) -> bool {
        matches!(self.1, Which::Newest)
    }

    /// Whether a kernel of that series is one that was asked for with this name.
    pub(crate) fn takes(self, kernel: Self) -> bool {
        self.0 == kernel.0 && (self.is_newest() || self == kernel)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.prefix())?;
        match self.1 {
            Which::Numbered(major, minor) => write!(f, "{major}.{minor}"),
            Which::Newest => f.write_str("newest"),
        }
    }
}

impl FromStr for Series {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let amd64 = text.strip_prefix(Arch::Amd64.prefix()).map(|rest| (Arch::Amd64, rest));
        let (arch, name) = amd64.unwrap_or((Arch::Arm64, text));
        if name == "newest" {
            return Ok(Self(arch, Which::Newest));
        }
        let numbers = name.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        match numbers {
            Some((major, minor)) => Ok(Self::of(arch, major, minor)),
            None => Err(Error::BadSeries { given: text.chars().filter(|c| !c.is_control()).take(40).collect() }),
        }
    }
}

/// A decimal number as a kernel version has them: at most three digits, no sign, no leading zero.
fn number(text: &str) -> Option<u16> {
    let plain = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

/// The three leading numbers of a kernel's version (`6.12.117-1` → 6, 12, 117).
pub(crate) fn numbers(version: &str) -> Option<(u16, u16, u16)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut parts = version.splitn(3, '.');
    let (major, minor, rest) = (parts.next()?, parts.next()?, parts.next()?);
    Some((number(major)?, number(minor)?, rest.get(..digits(rest))?.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_names() {
        for name in ["6.1", "6.12", "7.2", "10.0", "newest", "x86-6.12", "x86-newest"] {
            assert_eq!(name.parse::<Series>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn bad_names_say_what_is_right() {
        for name in [
            "",
            ".",
            "6",
            "6.",
            ".1",
            "6.01",
            "06.1",
            "+6.1",
            "6.1 ",
            "6.1.2",
            "6.1234",
            "٦.١",
            "Newest",
            "6,1",
            "x86-",
            "x86-x86-6.1",
        ] {
            let message = name.parse::<Series>().unwrap_err().to_string();
            assert!(message.contains("as in `6.12`"), "{message}");
        }
        let long = "9".repeat(1 << 20);
        assert!(long.parse::<Series>().unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn numbers_of_versions() {
        assert_eq!(numbers("6.1.192-2"), Some((6, 1, 192)));
        assert_eq!(numbers("7.2.12-1~bpo13+1"), Some((7, 2, 12)));
        assert_eq!(numbers("6.12"), None);
        assert_eq!(numbers("6.12.x"), None);
        assert_eq!(numbers("6.12.99999999999"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_series_or_an_error(text in any::<String>()) {
            if let Ok(series) = text.parse::<Series>() {
                prop_assert_eq!(series.to_string(), text);
            }
        }

        #[test]
        fn near_misses_never_panic(text in "[0-9]{0,5}[.,]?[0-9]{0,5}(newest)?") {
            let _ = text.parse::<Series>();
            let _ = numbers(&text);
        }
    }
}
