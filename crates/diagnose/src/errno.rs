//! Error numbers: those that decide something here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An error number of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub u8);

/// Number, name, and what `strerror` says. Linux 7.2, include/uapi/asm-generic/errno-base.h and errno.h; glibc's texts.
pub const ERRNOS: [(u8, &str, &str); 18] = [
    (1, "EPERM", "Operation not permitted"),
    (2, "ENOENT", "No such file or directory"),
    (5, "EIO", "Input/output error"),
    (6, "ENXIO", "No such device or address"),
    (8, "ENOEXEC", "Exec format error"),
    (11, "EAGAIN", "Resource temporarily unavailable"),
    (12, "ENOMEM", "Cannot allocate memory"),
    (13, "EACCES", "Permission denied"),
    (14, "EFAULT", "Bad address"),
    (16, "EBUSY", "Device or resource busy"),
    (17, "EEXIST", "File exists"),
    (19, "ENODEV", "No such device"),
    (22, "EINVAL", "Invalid argument"),
    (25, "ENOTTY", "Inappropriate ioctl for device"),
    (28, "ENOSPC", "No space left on device"),
    (34, "ERANGE", "Numerical result out of range"),
    (38, "ENOSYS", "Function not implemented"),
    (95, "EOPNOTSUPP", "Operation not supported"),
];

impl Errno {
    /// `EINVAL`.
    #[must_use]
    pub fn name(self) -> &'static str {
        ERRNOS.iter().find(|(number, ..)| *number == self.0).map_or("unknown", |(_, name, _)| name)
    }
    /// The first that a text names: `EINVAL`, `-22`, `errno 22`, `os error 22`, `Invalid argument`.
    #[must_use]
    pub fn found_in(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).collect();
        let by_word = words.iter().enumerate().find_map(|(i, word)| {
            let labelled =
                i > 0 && words.get(i - 1).is_some_and(|w| matches!(w.to_ascii_lowercase().as_str(), "errno" | "error"));
            let number = if labelled { word.trim_start_matches('-') } else { word.strip_prefix('-')? };
            Self::known(number.parse().ok()?)
        });
        let by_name = || words.iter().find_map(|word| word.trim_matches('-').to_ascii_uppercase().parse().ok());
        let by_text = || {
            let lower = text.to_ascii_lowercase();
            ERRNOS
                .iter()
                .find(|(.., says)| lower.contains(&says.to_ascii_lowercase()))
                .map(|(number, ..)| Self(*number))
        };
        by_name().or(by_word).or_else(by_text)
    }
    fn known(number: u8) -> Option<Self> {
        ERRNOS.iter().any(|(n, ..)| *n == number).then_some(Self(number))
    }
}

impl FromStr for Errno {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let found = ERRNOS.iter().find(|(_, n, _)| *n == name);
        found.map(|(number, ..)| Self(*number)).ok_or_else(|| format!("`{name}` is not an errno that is known here"))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Errno {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Errno {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_however_it_is_written() {
        for text in [
            "EINVAL x",
            "ioctl: einval",
            "= -22",
            "failed: errno 22",
            "(os error 22)",
            "Invalid argument",
            "error: -22",
        ] {
            assert_eq!(Errno::found_in(text), Some(Errno(22)), "{text}");
        }
        for text in ["", "22", "BAR 22", "EC=0x24", "0000:01:00.0", "errno", "- 22", "evil"] {
            assert_eq!(Errno::found_in(text), None, "{text}");
        }
        assert_eq!(Errno(14).to_string(), "EFAULT");
    }
}
