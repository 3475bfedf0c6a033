//! What is known of one thing, or why it is not: a hole is marked, never filled with a guess.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A thing this machine says, does not have, or does not let itself be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact<T> {
    /// It says so.
    Known(T),
    /// There is no such thing here: the file that would say so does not exist, and that means it.
    Absent,
    /// It could not be found out.
    Hole(Hole),
}

impl<T> Fact<T> {
    /// The value, if it is known.
    #[must_use]
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Hole(_) => None,
        }
    }
    /// The hole, if it is one.
    #[must_use]
    pub const fn hole(&self) -> Option<&Hole> {
        match self {
            Self::Hole(hole) => Some(hole),
            Self::Known(_) | Self::Absent => None,
        }
    }
    /// The same of what is within.
    #[must_use]
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(value) => Fact::Known(f(value)),
            Self::Absent => Fact::Absent,
            Self::Hole(hole) => Fact::Hole(hole),
        }
    }
    /// The same, where what is within may turn out to be unknown too.
    #[must_use]
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Fact<U>) -> Fact<U> {
        match self {
            Self::Known(value) => f(value),
            Self::Absent => Fact::Absent,
            Self::Hole(hole) => Fact::Hole(hole),
        }
    }
    /// By reference.
    #[must_use]
    pub fn as_ref(&self) -> Fact<&T> {
        match self {
            Self::Known(value) => Fact::Known(value),
            Self::Absent => Fact::Absent,
            Self::Hole(hole) => Fact::Hole(hole.clone()),
        }
    }
}

/// Something that could not be found out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hole {
    /// The file or call that was asked: `/sys/kernel/debug/x86/pat_memtype_list`, `KVM_CHECK_EXTENSION(243)`.
    pub at: String,
    /// Why it did not answer.
    pub why: Why,
}

/// Why something could not be found out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// EACCES, EPERM: root may.
    Denied,
    /// Nobody asked, since asking changes something, or what asks was left out: how to have it asked.
    NotAsked(String),
    /// The file is not in the snapshot.
    NotSaved,
    /// It answered with an error.
    Failed(String),
    /// It answered something that is not understood.
    Malformed(String),
    /// It answered more than is read.
    TooLarge(u64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("not permitted; run as root"),
            Self::NotAsked(how) => write!(f, "not asked; {how}"),
            Self::NotSaved => f.write_str("not in the snapshot"),
            Self::Failed(error) => f.write_str(error),
            Self::Malformed(what) => write!(f, "not understood: {what}"),
            Self::TooLarge(most) => write!(f, "more than {most} bytes"),
        }
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.why)
    }
}
