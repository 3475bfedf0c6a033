//! The folder that holds all that was fetched or built.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Error;
use crate::kernel::Kernel;
use crate::series::Series;

/// The folder that holds QEMU, the kernels, the toolchain and the guest program. Nothing is written outside of it.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The user's own: `$BARTENDER_CACHE`, else `$XDG_CACHE_HOME/bartender`, else `~/.cache/bartender`.
    ///
    /// # Errors
    /// [`Error::NoHome`] if none of these is set, [`Error::File`] if a relative one cannot be resolved.
    pub fn user() -> Result<Self, Error> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(folder) = set("BARTENDER_CACHE") {
            return Self::at(folder);
        }
        let base = set("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
        let base = base.or_else(|| set("HOME").map(|home| home.join(".cache"))).ok_or(Error::NoHome)?;
        Self::at(base.join("bartender"))
    }

    /// A cache in the folder given, which need not exist.
    ///
    /// # Errors
    /// [`Error::File`] if a relative path cannot be resolved.
    pub fn at(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        // Programs that are started elsewhere are given paths in it.
        let folder = std::path::absolute(folder).map_err(Error::file("find", folder))?;
        Ok(Self { folder })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was fetched, oldest first.
    #[must_use]
    pub fn kernels(&self) -> Vec<Kernel> {
        let mut kernels: Vec<Kernel> = fs::read_dir(self.kernels_folder())
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Kernel::open(&entry.path()))
            .collect();
        kernels.sort_by(|a, b| a.age(b));
        kernels
    }

    /// The newest fetched kernel of a series; no network is used.
    ///
    /// # Errors
    /// [`Error::NotFetched`] if there is none.
    pub fn kernel(&self, series: Series) -> Result<Kernel, Error> {
        let kernels = self.kernels();
        let fetched = names(&kernels);
        kernels
            .into_iter()
            .rfind(|kernel| series.takes(kernel.series()))
            .ok_or_else(|| Error::NotFetched { asked: series.to_string(), fetched })
    }

    /// The series of what was fetched, for messages.
    pub(crate) fn fetched(&self) -> Vec<String> {
        names(&self.kernels())
    }

    pub(crate) fn kernels_folder(&self) -> PathBuf {
        self.folder.join("kernels")
    }

    /// A folder of the cache, made if it is not there.
    pub(crate) fn sub(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        Ok(folder)
    }

    /// Waits until no other process sets this cache up; the lock ends with the returned value.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        fs::create_dir_all(&self.folder).map_err(Error::file("create", &self.folder))?;
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(Error::file("create", &path))?;
        file.lock().map_err(Error::file("lock", &path))?;
        // Whatever an interrupted setup left is of no use, and under the lock nobody else is writing.
        if let Ok(entries) = fs::read_dir(self.folder.join("new")) {
            for entry in entries.flatten() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(Lock { _file: file })
    }

    /// A fresh folder in which something is made before it is moved to its place; removed when dropped.
    pub(crate) fn scratch(&self, parent: &str) -> Result<Scratch, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let parent = self.sub(parent)?;
        forget_old(&parent);
        let folder = parent.join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).map_err(Error::file("create", &folder))?;
        Ok(Scratch { folder })
    }
}

/// Removes what processes that were killed left behind: older than an hour, and its process gone.
fn forget_old(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.split_once('-')).map_or("", |(pid, _)| pid);
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        let old = age.is_some_and(|age| age.as_secs() > 3600);
        if old && !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn names(kernels: &[Kernel]) -> Vec<String> {
    let mut names: Vec<String> = kernels.iter().map(|kernel| kernel.series().to_string()).collect();
    names.dedup();
    names
}

/// The right to change the cache.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// A folder that does not outlive this value.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn make(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        Ok(folder)
    }

    /// Moves a folder made here to its final place, in one step.
    pub(crate) fn place(&self, name: &str, target: &Path) -> Result<(), Error> {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
        }
        if target.exists() {
            // Renaming does not replace a filled folder: the old one goes first, out of sight of readers.
            fs::rename(target, self.folder.join("old")).map_err(Error::file("replace", target))?;
        }
        fs::rename(self.folder.join(name), target).map_err(Error::file("create", target))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    /// A cache of its own for a test, removed with the returned value.
    pub(crate) struct Own(pub(crate) Cache);

    impl Own {
        pub(crate) fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("lab-test-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Self(Cache::at(folder).unwrap())
        }
    }

    impl Drop for Own {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.folder());
        }
    }

    #[test]
    fn an_empty_cache_says_what_to_run() {
        let own = Own::new("empty");
        let message = own.0.kernel(Series::new(6, 1)).unwrap_err().to_string();
        assert!(message.contains("bartender lab setup 6.1"), "{message}");
    }

    #[test]
    fn half_made_things_vanish() {
        let own = Own::new("half");
        let scratch = own.0.scratch("new").unwrap();
        fs::write(scratch.make("thing").unwrap().join("a"), "1").unwrap();
        std::mem::forget(scratch);
        assert!(own.0.folder().join("new").read_dir().unwrap().next().is_some());
        drop(own.0.lock().unwrap());
        assert!(own.0.folder().join("new").read_dir().unwrap().next().is_none());
    }

    #[test]
    fn placing_replaces_in_one_step() {
        let own = Own::new("place");
        let target = own.0.folder().join("thing");
        for text in ["1", "2"] {
            let scratch = own.0.scratch("new").unwrap();
            fs::write(scratch.make("made").unwrap().join("a"), text).unwrap();
            scratch.place("made", &target).unwrap();
            assert_eq!(fs::read_to_string(target.join("a")).unwrap(), text);
        }
    }
}
