//! Why something was refused: what was asked, what the kernel answered, and what would help.

use std::{fmt, io};

use crate::open::Type;
use crate::registry::Conflict;

/// Why a way could not be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The kernel said no.
    System {
        /// The file or call.
        what: String,
        /// What it answered.
        errno: i32,
        /// What would help.
        remedy: String,
    },
    /// There is no such thing, or it is not done: nothing was asked.
    No {
        /// What, and why.
        what: String,
        /// What would help; empty if nothing does.
        remedy: String,
    },
    /// It gives something else than was asked.
    Less {
        /// What.
        gives: Type,
        /// Who or what is in the way.
        because: Vec<String>,
    },
    /// A page has a live mapping of another type.
    Conflict(Conflict),
}

impl Why {
    pub(crate) fn system(what: impl Into<String>, error: &io::Error, remedy: impl Into<String>) -> Self {
        Self::System { what: what.into(), errno: error.raw_os_error().unwrap_or(0), remedy: remedy.into() }
    }
    pub(crate) fn no(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::No { what: what.into(), remedy: remedy.into() }
    }
    /// What would help; empty if nothing does. Commands to type have lines of their own.
    #[must_use]
    pub fn remedy(&self) -> &str {
        match self {
            Self::System { remedy, .. } | Self::No { remedy, .. } => remedy,
            Self::Less { .. } | Self::Conflict(_) => "",
        }
    }
}

/// The name of an error: `EPERM`. The few that the kernel gives here.
fn errno_name(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EIO => "EIO",
        libc::ENXIO => "ENXIO",
        libc::EACCES => "EACCES",
        libc::EBUSY => "EBUSY",
        libc::ENODEV => "ENODEV",
        libc::EINVAL => "EINVAL",
        libc::ENOTTY => "ENOTTY",
        libc::ENOMEM => "ENOMEM",
        libc::EAGAIN => "EAGAIN",
        libc::EOVERFLOW => "EOVERFLOW",
        libc::EFAULT => "EFAULT",
        _ => return None,
    })
}

/// Without the remedy.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { what, errno: 0, .. } => write!(f, "{what}: not understood"),
            Self::System { what, errno, .. } => match errno_name(*errno) {
                Some(name) => write!(f, "{what}: {name}"),
                None => write!(f, "{what}: {}", io::Error::from_raw_os_error(*errno)),
            },
            Self::No { what, .. } => f.write_str(what),
            Self::Less { gives, because } => {
                write!(f, "gives {} ({})", gives.ty, gives.known)?;
                because.iter().try_for_each(|who| write!(f, "; {who}"))
            }
            Self::Conflict(conflict) => conflict.fmt(f),
        }
    }
}

impl std::error::Error for Why {}
