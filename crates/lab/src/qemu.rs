//! The emulator: found in PATH, or fetched beside what is installed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::arch::Arch;
use crate::archive::{self, Archive, Mirror};
use crate::cache::Cache;
use crate::command;
use crate::error::Error;
use crate::progress::Progress;

/// Alignment faults on Device memory came with 9.0, the second serial port of the `virt` machine with 9.1.
const OLDEST: (u32, u32) = (9, 1);
const OLDEST_TEXT: &str = "9.1";

/// UEFI for the emulated Arm server, which then describes itself by ACPI: the package, and the file in it.
const UEFI: (&str, &str) = ("qemu-efi-aarch64", "usr/share/qemu-efi-aarch64/QEMU_EFI.fd");

/// UEFI for an emulated Arm server: installed, or in the cache, or fetched.
///
/// # Errors
/// It is not there and cannot be fetched.
pub fn uefi(cache: &Cache, progress: Progress) -> Result<PathBuf, Error> {
    let (package, file) = UEFI;
    let kept = cache.folder().join("uefi").join("QEMU_EFI.fd");
    if let Some(there) = [Path::new("/").join(file), kept.clone()].into_iter().find(|path| path.is_file()) {
        return Ok(there);
    }
    let _lock = cache.lock()?;
    let mirror = Mirror::of_this_machine(cache, "UEFI")?;
    let archive = Archive::machine(cache, &mirror)?;
    archive.update(progress)?.map_err(|why| Error::OutOfReach { why, fetched: cache.fetched() })?;
    let scratch = cache.scratch("new")?;
    let (debs, tree, made) = (scratch.make("debs")?, scratch.make("tree")?, scratch.make("made")?);
    let files = archive.download(&[package.to_owned()], 0, &debs, "UEFI", progress)?;
    archive::unpack(&files, &tree, "UEFI", progress)?;
    fs::rename(tree.join(file), made.join("QEMU_EFI.fd")).map_err(Error::file("read", tree.join(file)))?;
    scratch.place("made", &cache.folder().join("uefi"))?;
    Ok(kept)
}

/// An emulator that will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    program: PathBuf,
    /// Where its libraries are, if it is not installed.
    libraries: Vec<PathBuf>,
    /// Where its firmware is, if it is not installed.
    firmware: Vec<PathBuf>,
    version: (u32, u32, u32),
}

impl Qemu {
    /// The one in PATH if it is new enough, else the one in the cache; for arm64.
    ///
    /// # Errors
    /// [`Error::NoQemu`] if neither will do.
    pub fn find(cache: &Cache) -> Result<Self, Error> {
        Self::find_for(cache, Arch::Arm64)
    }

    /// The same for any architecture.
    ///
    /// # Errors
    /// [`Error::NoQemu`] if neither will do.
    pub fn find_for(cache: &Cache, arch: Arch) -> Result<Self, Error> {
        let (name, _) = arch.qemu();
        let installed = command::in_path(name).map(|program| Self::at(program, None, arch));
        let fetched = || {
            let root = root(cache, arch);
            let program = root.join("usr/bin").join(name);
            program.is_file().then(|| Self::at(program, Some(&root), arch))
        };
        let mut found = Vec::new();
        for qemu in installed.into_iter().chain(std::iter::once_with(fetched).flatten()) {
            match qemu {
                Ok(qemu) if (qemu.version.0, qemu.version.1) >= OLDEST => return Ok(qemu),
                Ok(qemu) => found.push(format!("{} is {}", qemu.program.display(), qemu.version())),
                Err(error) => found.push(error.to_string()),
            }
        }
        let found = if found.is_empty() { "none was found".to_owned() } else { found.join("; ") };
        Err(Error::NoQemu { program: name, wanted: OLDEST_TEXT, found })
    }

    /// Finds it, or fetches it from this machine's release or its backports.
    pub(crate) fn find_or_fetch(cache: &Cache, arch: Arch, progress: Progress) -> Result<Self, Error> {
        if let Ok(found) = Self::find_for(cache, arch) {
            return Ok(found);
        }
        let (program, package) = arch.qemu();
        let what = format!("QEMU {OLDEST_TEXT} or newer for {}", arch.debian());
        let mirror = Mirror::of_this_machine(cache, &what)?;
        let archive = Archive::machine(cache, &mirror)?;
        archive.update(progress)?.map_err(|why| Error::OutOfReach { why, fetched: cache.fetched() })?;
        let package = package.to_owned();
        let versions = archive.versions(std::slice::from_ref(&package))?;
        // What was made for this release comes before its backports.
        let suite = [mirror.release.clone(), format!("{}-backports", mirror.release)].into_iter().find(|suite| {
            let mut here = versions.iter().filter(|(_, _, of)| of == suite);
            here.any(|(_, version, _)| package_version(version).is_some_and(|version| version >= OLDEST))
        });
        let suite = suite.ok_or_else(|| Error::NoQemu {
            program,
            wanted: OLDEST_TEXT,
            found: format!("the archive has {}", list(&versions)),
        })?;
        let scratch = cache.scratch("new")?;
        let (debs, made) = (scratch.make("debs")?, scratch.make("made")?);
        let files = archive.download_with_needs(Some(&suite), &[package], &debs, "QEMU", progress)?;
        archive::unpack(&files, &made, "QEMU", progress)?;
        // Firmware for machines that the lab never starts is most of what is unpacked.
        for spare in ["usr/share/doc", "usr/share/man", "usr/share/qemu"] {
            if !arch.firmware().contains(&spare) {
                let _ = fs::remove_dir_all(made.join(spare));
            }
        }
        scratch.place("made", &root(cache, arch))?;
        Self::find_for(cache, arch)
    }

    /// A program, with the folder of all that belongs to it if it is not installed.
    fn at(program: PathBuf, root: Option<&Path>, arch: Arch) -> Result<Self, Error> {
        let libraries = root.map(library_folders).unwrap_or_default();
        let firmware = root.into_iter().flat_map(|root| arch.firmware().iter().map(|part| root.join(part))).collect();
        let mut qemu = Self { program, libraries, firmware, version: (0, 0, 0) };
        let step = Progress::silent().step("");
        let answer = command::run(qemu.command().arg("--version"), Duration::from_secs(30), &step, || {})?;
        let answer = answer.checked("remove it, or install a whole one")?;
        qemu.version = version(&answer.stdout).unwrap_or_default();
        Ok(qemu)
    }

    /// A command that starts it.
    pub fn command(&self) -> Command {
        let mut command = if let Some(setpriv) = command::in_path("setpriv") {
            // The kernel then ends the emulator even when this process is killed outright.
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        if !self.libraries.is_empty() {
            let before = std::env::var_os("LD_LIBRARY_PATH").filter(|value| !value.is_empty());
            let before: Vec<PathBuf> = before.iter().flat_map(std::env::split_paths).collect();
            let joined: OsString = std::env::join_paths(self.libraries.iter().chain(&before)).unwrap_or_default();
            command.env("LD_LIBRARY_PATH", joined);
        }
        for folder in &self.firmware {
            command.arg("-L").arg(folder);
        }
        command
    }

    /// The program's path.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its version, as `10.0.2`.
    #[must_use]
    pub fn version(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{major}.{minor}.{patch}")
    }
}

fn root(cache: &Cache, arch: Arch) -> PathBuf {
    cache.folder().join(match arch {
        Arch::Arm64 => "qemu",
        Arch::Amd64 => "qemu-amd64",
    })
}

/// The library folders of an unpacked tree, in both the old and the new place.
pub(crate) fn library_folders(root: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for base in ["usr/lib", "lib"] {
        let base = root.join(base);
        for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with("-linux-gnu") {
                folders.push(entry.path());
            }
        }
        folders.push(base);
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

fn list(versions: &[(String, String, String)]) -> String {
    let all: Vec<String> = versions.iter().map(|(_, version, suite)| format!("{version} ({suite})")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// The three numbers of `QEMU emulator version 10.0.2 (...)`.
fn version(text: &str) -> Option<(u32, u32, u32)> {
    let word = text.split_once("version ")?.1.split_whitespace().next()?;
    let mut numbers = word.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
}

/// The first two numbers of a package's version (`1:10.0.2+ds-2`).
fn package_version(text: &str) -> Option<(u32, u32)> {
    let text = text.split_once(':').map_or(text, |(_, rest)| rest);
    let (major, rest) = text.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions() {
        assert_eq!(version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n"), Some((10, 0, 2)));
        assert_eq!(version("QEMU emulator version 9.1\n"), Some((9, 1, 0)));
        assert_eq!(version("nonsense"), None);
        assert_eq!(package_version("1:7.2+dfsg-7+deb12u18"), Some((7, 2)));
        assert_eq!(package_version("1:10.0.13+ds-0"), Some((10, 0)));
    }

    proptest! {
        #[test]
        fn any_answer(text in "(QEMU emulator version )?[0-9.]{0,30}\\PC{0,20}") {
            let _ = (version(&text), package_version(&text));
        }
    }
}
