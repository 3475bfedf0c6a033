//! Where files are read from: this machine, a copy of its files, or a snapshot.

use std::path::Path;

use crate::facts::Asked;

/// Where files are read from.
#[derive(Debug)]
pub struct Root {
    _todo: (),
}

/// Why a snapshot cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

impl Root {
    /// This machine.
    #[must_use]
    pub fn live() -> Self {
        Self { _todo: () }
    }
    /// A folder: one that [`Root::save`] wrote (it holds `snapshot.json`), or a copy of `/sys` and `/proc`.
    ///
    /// # Errors
    /// It is neither.
    pub fn at(_folder: &Path) -> Result<Self, Error> {
        Ok(Self { _todo: () })
    }
    /// What was asked when the snapshot was made; nothing for this machine and for a copy of files.
    #[must_use]
    pub fn asked(&self) -> Option<&Asked> {
        None
    }
    /// Writes everything that was read through this root so far into a folder, with what was asked. No serial number is in it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, _folder: &Path, _asked: &Asked) -> Result<(), Error> {
        Ok(())
    }
}
