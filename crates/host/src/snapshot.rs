//! A snapshot: what was read of a machine, path by path, in one file that people can read and compare.
//!
//! ```json
//! {
//! "format": 1,
//! "asked": {...},
//! "files": {
//! "/proc/sys/kernel/osrelease": {"text":"6.12.107+deb13-arm64"},
//! "/sys/bus/pci/devices/0000:00:01.0": {"link":"../../../devices/pci0000:00/0000:00:01.0"},
//! "/sys/kernel/debug/x86": {"why":"denied"}
//! }
//! }
//! ```
//!
//! A file that is not in it was not there if the listing of its folder, or of one above, does not have it; otherwise nobody knows
//! ([`crate::Why::NotSaved`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::fact::Why;
use crate::facts::Asked;
use crate::root::Error;

/// The format this version writes. Another is not read.
pub const FORMAT: u32 = 1;

/// More bytes than these are not looked at.
pub const MOST: usize = 32 << 20;

/// What was read at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Entry {
    /// A file of text, as far as it is used: without white space at its end, or what was picked out of it.
    Text(String),
    /// Pieces of a file of bytes, in hexadecimal, by where they begin. A piece that is shorter than was asked ends with the file.
    Bytes(BTreeMap<u32, String>),
    /// Where a symbolic link points.
    Link(String),
    /// The names in a folder that are of interest, sorted.
    List(Vec<String>),
    /// There is none, and no listing says so.
    Absent,
    /// It did not answer.
    Why(Why),
}

/// A snapshot, read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    format: u32,
    asked: Asked,
    files: BTreeMap<String, Entry>,
}

impl Snapshot {
    pub(crate) const fn new(asked: Asked, files: BTreeMap<String, Entry>) -> Self {
        Self { format: FORMAT, asked, files }
    }
    /// What was asked when it was made.
    #[must_use]
    pub const fn asked(&self) -> &Asked {
        &self.asked
    }
    pub(crate) const fn files(&self) -> &BTreeMap<String, Entry> {
        &self.files
    }
    /// What there is at a path that was not read.
    pub(crate) fn missing(&self, path: &str) -> Entry {
        let mut below = path;
        while let Some((folder, name)) = below.rsplit_once('/') {
            match self.files.get(folder) {
                Some(Entry::List(names)) if names.binary_search_by(|n| n.as_str().cmp(name)).is_ok() => break,
                Some(Entry::List(_) | Entry::Absent) => return Entry::Absent,
                Some(Entry::Why(why)) => return Entry::Why(why.clone()),
                _ => below = folder,
            }
        }
        Entry::Why(Why::NotSaved)
    }
    /// As it is written: a path to a line.
    ///
    /// # Errors
    /// A value that JSON does not have; there is none.
    pub(crate) fn print(&self) -> Result<String, serde_json::Error> {
        let mut out = format!(
            "{{\n\"format\": {},\n\"asked\": {},\n\"files\": {{",
            self.format,
            serde_json::to_string(&self.asked)?
        );
        let mut comma = "\n";
        for (path, entry) in &self.files {
            // A listing above that lacks it, or a hole above, says it already.
            if *entry == Entry::Absent && self.missing(path) == Entry::Absent {
                continue;
            }
            let _ = write!(out, "{comma}{}: {}", serde_json::to_string(path)?, serde_json::to_string(entry)?);
            comma = ",\n";
        }
        out.push_str("\n}\n}\n");
        Ok(out)
    }
}

/// Reads a snapshot. Any bytes are taken; time and memory are bounded by their number, which is bounded by [`MOST`].
///
/// # Errors
/// What is not as it should be, with the line.
pub fn parse(bytes: &[u8]) -> Result<Snapshot, Error> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    if bytes.len() > MOST {
        return Err(Error(format!("{} bytes; a snapshot has at most {MOST}", bytes.len())));
    }
    // Of another format, that is what is wrong, whatever else may be.
    let mut snapshot: Snapshot = serde_json::from_slice(bytes).map_err(|e| match serde_json::from_slice(bytes) {
        Ok(Format { format }) if format != FORMAT => other(format),
        _ => Error(format!("not a snapshot: {e}")),
    })?;
    if snapshot.format != FORMAT {
        return Err(other(snapshot.format));
    }
    for (path, entry) in &mut snapshot.files {
        if !path.starts_with('/') {
            return Err(Error(format!("not a snapshot: `{path}` does not begin with /")));
        }
        match entry {
            Entry::List(names) => names.sort_unstable(),
            Entry::Bytes(pieces) => {
                if let Some(bad) = pieces.values().find(|hex| unhex(hex).is_none()) {
                    return Err(Error(format!("not a snapshot: {path}: not bytes in hexadecimal: {bad:.32}")));
                }
            }
            _ => {}
        }
    }
    Ok(snapshot)
}

fn other(format: u32) -> Error {
    Error(format!("format {format}; this version reads {FORMAT}: save the snapshot again"))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// And back.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |d: u8| char::from(d).to_digit(16).and_then(|n| u8::try_from(n).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
