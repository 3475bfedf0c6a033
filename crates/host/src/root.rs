//! Where files are read from: this machine, a copy of its files, or a snapshot.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::fact::{Fact, Hole, Why};
use crate::facts::Asked;
use crate::snapshot::{self, Entry, Snapshot, hex, unhex};

/// More bytes of a file of text are not read.
pub(crate) const TEXT: u64 = 1 << 20;
/// More names of a folder are not read.
const NAMES: usize = 1 << 16;

/// Where files are read from. It remembers what was read, so that [`Root::save`] can write it.
#[derive(Debug)]
pub struct Root {
    source: Source,
    seen: RefCell<BTreeMap<String, Entry>>,
    /// What was asked when something was gathered.
    asked: OnceCell<Asked>,
}

#[derive(Debug)]
enum Source {
    /// Files below a folder: `/` is this machine.
    Files {
        root: PathBuf,
        live: bool,
    },
    Saved(Box<Snapshot>),
}

/// Why a snapshot cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// The name of the snapshot in its folder.
const NAME: &str = "snapshot.json";

impl Root {
    fn of(source: Source) -> Self {
        Self { source, seen: RefCell::default(), asked: OnceCell::new() }
    }
    /// This machine.
    #[must_use]
    pub fn live() -> Self {
        Self::of(Source::Files { root: PathBuf::from("/"), live: true })
    }
    /// A folder: one that [`Root::save`] wrote (it holds `snapshot.json`), or a copy of `/sys` and `/proc`.
    ///
    /// # Errors
    /// It is neither.
    pub fn at(folder: &Path) -> Result<Self, Error> {
        let file = folder.join(NAME);
        match open(&file) {
            Ok(open) => {
                let failed = |e: &dyn std::fmt::Display| Error(format!("{}: {e}", file.display()));
                let mut bytes = Vec::new();
                open.take(snapshot::MOST as u64 + 1).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
                snapshot::parse(&bytes).map(|read| Self::of(Source::Saved(Box::new(read)))).map_err(|e| failed(&e))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if folder.join("sys").is_dir() || folder.join("proc").is_dir() {
                    Ok(Self::of(Source::Files { root: folder.to_owned(), live: false }))
                } else {
                    Err(Error(format!(
                        "{} holds no {NAME}, and neither sys nor proc; `bartender inspect --save {0}` on the machine writes one",
                        folder.display()
                    )))
                }
            }
            Err(e) => Err(Error(format!("{}: {e}", file.display()))),
        }
    }
    /// A snapshot that was read already.
    #[must_use]
    pub fn of_snapshot(read: Snapshot) -> Self {
        Self::of(Source::Saved(Box::new(read)))
    }
    /// What was asked when the snapshot was made; of this machine and of a copy of files, when something was first gathered from it.
    #[must_use]
    pub fn asked(&self) -> Option<&Asked> {
        match &self.source {
            Source::Saved(read) => Some(read.asked()),
            Source::Files { .. } => self.asked.get(),
        }
    }
    pub(crate) fn was_asked(&self, asked: &Asked) {
        self.asked.get_or_init(|| asked.clone());
    }
    /// Whether it is the machine this runs on.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.source, Source::Files { live: true, .. })
    }
    /// Writes everything that was read through this root so far into a folder, with what was asked; of a snapshot, all that is in it. No
    /// serial number is in it: only what decides something is kept of what was read, and no serial number does.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, folder: &Path, asked: &Asked) -> Result<(), Error> {
        let failed = |e: &dyn std::fmt::Display| Error(format!("{}: {e}", folder.display()));
        let files = match &self.source {
            Source::Saved(saved) => saved.files().clone(),
            Source::Files { .. } => self.seen.borrow().clone(),
        };
        let snapshot = Snapshot::new(asked.clone(), files);
        let text = snapshot.print().map_err(|e| failed(&e))?;
        fs::create_dir_all(folder).map_err(|e| failed(&e))?;
        // Whole or not at all.
        let new = folder.join(format!(".{NAME}.{}", std::process::id()));
        fs::write(&new, text).and_then(|()| fs::rename(&new, folder.join(NAME))).map_err(|e| {
            let _ = fs::remove_file(&new);
            failed(&e)
        })
    }

    /// What is at a path, out of the snapshot or by reading it: as the kind of thing that was asked for.
    fn look<T>(
        &self,
        path: &str,
        kind: &str,
        read: impl FnOnce(&Path) -> Entry,
        take: impl Fn(&Entry) -> Option<T>,
    ) -> Fact<T> {
        let judge = |entry: &Entry| match entry {
            Entry::Absent => Fact::Absent,
            Entry::Why(why) => Fact::Hole(Hole { at: path.to_owned(), why: why.clone() }),
            entry => take(entry).map_or_else(
                || Fact::Hole(Hole { at: path.to_owned(), why: Why::Malformed(format!("not {kind}")) }),
                Fact::Known,
            ),
        };
        match &self.source {
            Source::Saved(saved) => match saved.files().get(path) {
                Some(entry) => judge(entry),
                None => judge(&saved.missing(path)),
            },
            Source::Files { root, .. } => {
                if let Some(entry) = self.seen.borrow().get(path) {
                    return judge(entry);
                }
                let entry = read(&root.join(path.trim_start_matches('/')));
                let fact = judge(&entry);
                self.seen.borrow_mut().insert(path.to_owned(), entry);
                fact
            }
        }
    }
    /// A file of text, without white space at its end.
    pub(crate) fn text(&self, path: &str) -> Fact<String> {
        self.picked(path, TEXT, |text| Ok(text.trim_ascii_end().to_owned()))
    }
    /// What matters of a file of text. Only that is remembered.
    pub(crate) fn picked(
        &self,
        path: &str,
        most: u64,
        pick: impl FnOnce(&str) -> Result<String, String>,
    ) -> Fact<String> {
        self.digest(path, most, |bytes| pick(&String::from_utf8_lossy(bytes)))
    }
    /// What matters of a file of bytes, as text. Only that is remembered.
    pub(crate) fn digest(
        &self,
        path: &str,
        most: u64,
        pick: impl FnOnce(&[u8]) -> Result<String, String>,
    ) -> Fact<String> {
        let read = |file: &Path| match read(file, most) {
            Ok(bytes) => pick(&bytes).map_or_else(|e| Entry::Why(Why::Malformed(e)), Entry::Text),
            Err(entry) => entry,
        };
        self.look(path, "a file of text", read, text)
    }
    /// What matters of a folder and all below it, as text. Only that is remembered.
    pub(crate) fn digest_folder(&self, path: &str, pick: impl FnOnce(&Path) -> Result<String, String>) -> Fact<String> {
        let read = |folder: &Path| match fs::read_dir(folder) {
            Ok(_) => pick(folder).map_or_else(|e| Entry::Why(Why::Failed(e)), Entry::Text),
            Err(e) => failed(&e),
        };
        self.look(path, "a folder", read, text)
    }
    /// A file of bytes, whole.
    pub(crate) fn bytes(&self, path: &str, most: u64) -> Fact<Vec<u8>> {
        let read = |file: &Path| match read(file, most) {
            Ok(bytes) => Entry::Bytes(BTreeMap::from([(0, hex(&bytes))])),
            Err(entry) => entry,
        };
        self.look(path, "a file of bytes", read, |entry| match entry {
            Entry::Bytes(pieces) => unhex(pieces.get(&0)?),
            _ => None,
        })
    }
    /// A file of which pieces are read.
    pub(crate) fn pieces(&self, path: String) -> Pieces<'_> {
        Pieces { root: self, path, open: None, read: BTreeMap::new() }
    }
    /// Where a symbolic link points.
    pub(crate) fn link(&self, path: &str) -> Fact<String> {
        let read = |file: &Path| match fs::read_link(file) {
            Ok(to) => Entry::Link(to.to_string_lossy().into_owned()),
            Err(e) => failed(&e),
        };
        self.look(path, "a symbolic link", read, |entry| match entry {
            Entry::Link(to) => Some(to.clone()),
            _ => None,
        })
    }
    /// The names in a folder that are of interest, sorted.
    pub(crate) fn list(&self, path: &str, keep: impl Fn(&str) -> bool) -> Fact<Vec<String>> {
        let read = |folder: &Path| {
            let names = fs::read_dir(folder).and_then(|entries| {
                entries
                    .take(NAMES)
                    .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
                    .filter(|name| name.as_ref().map_or(true, |name| keep(name)))
                    .collect::<io::Result<Vec<_>>>()
            });
            match names {
                Ok(mut names) => {
                    names.sort_unstable();
                    Entry::List(names)
                }
                Err(e) => failed(&e),
            }
        };
        self.look(path, "a folder", read, |entry| match entry {
            Entry::List(names) => Some(names.clone()),
            _ => None,
        })
    }
}

fn text(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// What an entry is if it is not the kind that was asked for.
fn other_kind<T>(path: &str, entry: Entry, kind: &str) -> Fact<T> {
    let why = match entry {
        Entry::Absent => return Fact::Absent,
        Entry::Why(why) => why,
        _ => Why::Malformed(format!("not {kind}")),
    };
    Fact::Hole(Hole { at: path.to_owned(), why })
}

/// What a failed call says of a path.
fn failed(e: &io::Error) -> Entry {
    match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Entry::Absent,
        io::ErrorKind::PermissionDenied => Entry::Why(Why::Denied),
        _ => Entry::Why(Why::Failed(e.to_string())),
    }
}

/// Opens a file without waiting: what is a pipe or a log gives what there is.
fn open(file: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    options.open(file)
}

/// Reads a file, a record at a time where it is a log.
fn read(file: &Path, most: u64) -> Result<Vec<u8>, Entry> {
    let mut open = open(file).map_err(|e| failed(&e))?;
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match open.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(got) => bytes.extend_from_slice(&piece[..got]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(bytes),
            // EINTR; and EPIPE of /dev/kmsg, where a record was overwritten before it could be read.
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::BrokenPipe) => {}
            Err(e) => return Err(failed(&e)),
        }
        if bytes.len() as u64 > most {
            return Err(Entry::Why(Why::TooLarge(most)));
        }
    }
}

/// A file of which pieces are read, one after the other: configuration space, of which no more may be touched than is needed.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    root: &'a Root,
    path: String,
    open: Option<Result<File, Entry>>,
    read: BTreeMap<u32, String>,
}

impl Pieces<'_> {
    /// A piece; it is shorter if the file ends.
    pub(crate) fn read(&mut self, at: u32, size: usize) -> Fact<Vec<u8>> {
        let bytes = match &self.root.source {
            Source::Saved(saved) => match saved.files().get(&self.path) {
                Some(Entry::Bytes(pieces)) => {
                    pieces.get(&at).and_then(|hex| unhex(hex)).ok_or(Entry::Why(Why::NotSaved))
                }
                Some(other) => Err(other.clone()),
                None => Err(saved.missing(&self.path)),
            },
            Source::Files { root, .. } => {
                let file = root.join(self.path.trim_start_matches('/'));
                match self.open.get_or_insert_with(|| open(&file).map_err(|e| failed(&e))) {
                    Ok(file) => piece(file, at, size).map_err(|e| failed(&e)),
                    Err(entry) => Err(entry.clone()),
                }
            }
        };
        match bytes {
            Ok(mut bytes) => {
                bytes.truncate(size);
                if matches!(self.root.source, Source::Files { .. }) {
                    self.read.insert(at, hex(&bytes));
                }
                Fact::Known(bytes)
            }
            Err(entry) => {
                if self.read.is_empty() && matches!(self.root.source, Source::Files { .. }) {
                    self.root.seen.borrow_mut().insert(self.path.clone(), entry.clone());
                }
                other_kind(&self.path, entry, "a file of bytes")
            }
        }
    }
}

impl Drop for Pieces<'_> {
    fn drop(&mut self) {
        if !self.read.is_empty() {
            let (path, read) = (std::mem::take(&mut self.path), std::mem::take(&mut self.read));
            self.root.seen.borrow_mut().insert(path, Entry::Bytes(read));
        }
    }
}

#[cfg(unix)]
fn piece(file: &mut File, at: u32, size: usize) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; size];
    let mut got = 0;
    while got < size {
        match file.read_at(&mut bytes[got..], u64::from(at) + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}

#[cfg(not(unix))]
fn piece(file: &mut File, at: u32, size: usize) -> io::Result<Vec<u8>> {
    use std::io::Seek as _;
    let mut bytes = Vec::new();
    file.seek(io::SeekFrom::Start(u64::from(at)))?;
    file.take(size as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
