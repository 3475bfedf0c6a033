//! Debian's archive, through apt's own tools but with a state of our own: the machine's sources, lists and packages are
//! read and never changed, and no right is needed that an ordinary user does not have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::command::{self, Output};
use crate::debian::{self, Paragraph, Source};
use crate::error::{Error, tail};
use crate::progress::Progress;

/// Releases whose kernels may be asked for, oldest first. One that the mirror does not have is passed over, so names of
/// releases to come cost nothing.
const RELEASES: [&str; 5] = ["bookworm", "trixie", "forky", "duke", "sid"];

/// Long enough for a slow line; what matters is that there is an end.
const FETCH_LIMIT: Duration = Duration::from_secs(1800);
const ASK_LIMIT: Duration = Duration::from_secs(120);

/// What this machine's apt says about where Debian is.
#[derive(Debug)]
pub(crate) struct Mirror {
    archive: Source,
    security: Option<Source>,
    /// The release this machine runs.
    pub(crate) release: String,
}

impl Mirror {
    /// Reads the machine's sources. `missing` says what they are wanted for, in the error.
    pub(crate) fn of_this_machine(cache: &Cache, missing: &str) -> Result<Self, Error> {
        let not_debian =
            |why: String| Error::NotDebian { missing: missing.to_owned(), why, cache: cache.folder().to_owned() };
        for tool in ["apt-get", "apt-cache", "apt-config", "dpkg-deb", "dpkg"] {
            if command::in_path(tool).is_none() {
                return Err(not_debian(format!("`{tool}` is not in PATH")));
            }
        }
        let mut sources = Vec::new();
        for file in source_files()? {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let deb822 = file.extension().is_some_and(|end| end == "sources");
            sources.extend(if deb822 { debian::sources_deb822(&text) } else { debian::sources_one_line(&text) });
        }
        let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self::among(&sources, debian::os_release(&os, "VERSION_CODENAME")).map_err(not_debian)
    }

    fn among(sources: &[Source], codename: Option<&str>) -> Result<Self, String> {
        let known = |suite: &str| RELEASES.contains(&suite) || matches!(suite, "stable" | "testing" | "unstable");
        let archive = sources.iter().find(|source| source.suites.iter().any(|suite| known(suite)));
        let Some(archive) = archive else {
            return Err(format!("apt's sources name no Debian release among {}", RELEASES.join(", ")));
        };
        let security = sources.iter().find(|source| source.suites.iter().any(|suite| suite.ends_with("-security")));
        let release = codename
            .filter(|name| RELEASES.contains(name))
            .or_else(|| archive.suites.iter().map(String::as_str).find(|suite| known(suite)))
            .unwrap_or("stable");
        Ok(Self { archive: archive.clone(), security: security.cloned(), release: release.to_owned() })
    }

    /// Sources for these releases with their updates, backports and security.
    fn sources(&self, releases: &[&str], architectures: &str) -> String {
        let with = |ends: &[&str]| -> Vec<String> {
            let rolling = |release: &str| matches!(release, "sid" | "unstable");
            releases
                .iter()
                .flat_map(|release| ends.iter().map(move |end| (release, end)))
                .filter(|(release, end)| end.is_empty() || !rolling(release))
                .map(|(release, end)| format!("{release}{end}"))
                .collect()
        };
        let paragraph = |source: &Source, suites: &[String]| {
            let suites: Vec<&str> = suites.iter().map(String::as_str).collect();
            if suites.is_empty() { String::new() } else { debian::paragraph_of(source, &suites, architectures) }
        };
        let mut text = paragraph(&self.archive, &with(&["", "-updates", "-backports"]));
        if let Some(security) = &self.security {
            text.push_str(&paragraph(security, &with(&["-security"])));
        }
        text
    }
}

/// The files in which this machine's apt looks for sources.
fn source_files() -> Result<Vec<PathBuf>, Error> {
    let step = Progress::silent().step("");
    let mut ask = Command::new("apt-config");
    ask.args(["shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]);
    let answer = command::run(&mut ask, ASK_LIMIT, &step, || {})?.checked("check this machine's apt configuration")?;
    let place = |name| debian::os_release(&answer.stdout, name).map(PathBuf::from);
    let mut files: Vec<PathBuf> = place("LIST").into_iter().collect();
    let mut parts: Vec<PathBuf> = place("PARTS")
        .and_then(|folder| fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    parts.retain(|file| file.extension().is_some_and(|end| end == "sources" || end == "list"));
    parts.sort();
    files.extend(parts);
    Ok(files)
}

/// The architecture whose programs this machine runs, as Debian names it.
pub(crate) fn native() -> Result<String, Error> {
    let step = Progress::silent().step("");
    let mut ask = Command::new("dpkg");
    let answer = command::run(ask.arg("--print-architecture"), ASK_LIMIT, &step, || {})?;
    Ok(answer.checked("check that dpkg works")?.stdout.trim().to_owned())
}

/// A view of the archive with its own lists and configuration.
#[derive(Debug)]
pub(crate) struct Archive {
    config: PathBuf,
    name: &'static str,
}

impl Archive {
    /// The kernels' view: an architecture's packages of every release, and nothing installed.
    pub(crate) fn kernels(cache: &Cache, mirror: &Mirror, arch: Arch) -> Result<Self, Error> {
        let name = match arch {
            Arch::Arm64 => "kernels",
            Arch::Amd64 => "kernels-amd64",
        };
        Self::at(cache, name, &mirror.sources(&RELEASES, arch.debian()), &[arch.debian()], false)
    }

    /// This machine's own release, backports included: programs to run here beside what is installed.
    pub(crate) fn machine(cache: &Cache, mirror: &Mirror) -> Result<Self, Error> {
        let native = native()?;
        Self::at(cache, "machine", &mirror.sources(&[&mirror.release], &native), &[&native], true)
    }

    /// As `machine`, with arm64 packages as well, to build programs for the emulated server.
    pub(crate) fn cross(cache: &Cache, mirror: &Mirror) -> Result<Self, Error> {
        let native = native()?;
        let architectures = if native == "arm64" { native.clone() } else { format!("{native} arm64") };
        let list: Vec<&str> = architectures.split(' ').collect();
        Self::at(cache, "cross", &mirror.sources(&[&mirror.release], &architectures), &list, true)
    }

    /// Writes the configuration. `installed`: whether what this machine has installed counts.
    fn at(
        cache: &Cache,
        name: &'static str,
        sources: &str,
        architectures: &[&str],
        installed: bool,
    ) -> Result<Self, Error> {
        let folder = cache.sub(&format!("apt/{name}"))?;
        for sub in ["lists/partial", "archives/partial", "sources", "none"] {
            let path = folder.join(sub);
            fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        }
        let text = folder.to_str().filter(|text| !text.contains(['"', '\n', '\\']));
        let Some(text) = text else {
            return Err(Error::BadBoot {
                what: "cache folder",
                value: folder.display().to_string(),
                rule: "apt cannot work in a path with quotes, backslashes or bytes that are not UTF-8".to_owned(),
            });
        };
        let write = |file: &str, content: &str| {
            let path = folder.join(file);
            fs::write(&path, content).map_err(Error::file("write", &path))
        };
        write("sources/debian.sources", sources)?;
        let mut config = format!(
            "Dir::State \"{text}\";\nDir::State::lists \"{text}/lists\";\nDir::Cache \"{text}\";\n\
             Dir::Cache::archives \"{text}/archives\";\nDir::Cache::pkgcache \"pkgcache.bin\";\n\
             Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{text}/sources\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"{text}/none\";\n"
        );
        if !installed {
            write("status", "")?;
            config.push_str(&format!("Dir::State::status \"{text}/status\";\n"));
            config.push_str(&format!("APT::Architecture \"{}\";\n", architectures.first().unwrap_or(&"arm64")));
        }
        let quoted: Vec<String> = architectures.iter().map(|name| format!("\"{name}\";")).collect();
        config.push_str(&format!("#clear APT::Architectures;\nAPT::Architectures {{ {} }};\n", quoted.join(" ")));
        // The machine's own hooks look after its own lists and packages, not ours.
        for hooks in ["APT::Update", "DPkg::Pre-Install-Pkgs", "DPkg::Pre-Invoke", "DPkg::Post-Invoke"] {
            config.push_str(&format!("#clear {hooks};\n"));
        }
        // Only the lists of packages are wanted; a lock of our own guards the folder; and a mirror that does not answer
        // is to be noticed soon.
        config.push_str(
            "#clear Acquire::IndexTargets::deb::DEP-11;\n#clear Acquire::IndexTargets::deb::Contents-deb;\n\
             #clear Acquire::IndexTargets::deb::CNF;\nAcquire::Languages \"none\";\nDebug::NoLocking \"true\";\n\
             Acquire::Retries \"2\";\nAcquire::http::Timeout \"15\";\nAcquire::https::Timeout \"15\";\n",
        );
        if rustix::process::geteuid().is_root() {
            // As root apt fetches as another user, who cannot enter a cache in root's home.
            config.push_str("APT::Sandbox::User \"root\";\n");
        }
        write("apt.conf", &config)?;
        Ok(Self { config: folder.join("apt.conf"), name })
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // `-c` is read after the machine's own configuration (so a proxy set there holds), APT_CONFIG would be before.
        command.arg("-c").arg(&self.config).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Fetches the lists anew. The error is the end of what apt said when not one of them was to be had.
    pub(crate) fn update(&self, progress: Progress) -> Result<Result<(), String>, Error> {
        let step = progress.step(format!("asking the package archive ({})", self.name));
        let output = command::run(self.tool("apt-get").args(["update", "-q"]), FETCH_LIMIT, &step, || {})?;
        let reached = output.stdout.lines().any(|line| line.starts_with("Hit:") || line.starts_with("Get:"));
        // Suites that the mirror lacks or that this machine has no key for make apt fail, and are none of our business.
        Ok(if reached { Ok(()) } else { Err(tail(&output.stderr, 4)) })
    }

    /// The records of packages in every version that the archive has; names it does not know are passed over.
    pub(crate) fn records(&self, names: &[String]) -> Result<Vec<Paragraph>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        Ok(debian::paragraphs(&self.ask("apt-cache", &["show", "--all-versions"], names)?.stdout))
    }

    /// (package, version, suite) of each version that the archive has.
    pub(crate) fn versions(&self, names: &[String]) -> Result<Vec<(String, String, String)>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        Ok(debian::madison(&self.ask("apt-cache", &["madison"], names)?.stdout))
    }

    /// The names of packages that match a regular expression.
    pub(crate) fn names(&self, pattern: &str) -> Result<Vec<String>, Error> {
        let output = self.ask("apt-cache", &["search", "--names-only"], &[pattern.to_owned()])?;
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        Ok(output.stdout.lines().filter_map(first).collect())
    }

    fn ask(&self, program: &str, words: &[&str], names: &[String]) -> Result<Output, Error> {
        let step = Progress::silent().step("");
        // An unknown name makes apt-cache exit with a failure after it has answered for the others.
        command::run(self.tool(program).args(words).arg("--").args(names), ASK_LIMIT, &step, || {})
    }

    /// Fetches packages (`name=version`) as files into a folder. apt checks them against the signed lists.
    pub(crate) fn download(
        &self,
        packages: &[String],
        bytes: u64,
        into: &Path,
        what: &str,
        progress: Progress,
    ) -> Result<Vec<PathBuf>, Error> {
        let step = progress.step(format!("fetching {what}"));
        step.expect_bytes(bytes);
        let mut command = self.tool("apt-get");
        command.args(["download", "-q", "--"]).args(packages).current_dir(into);
        let output = command::run(&mut command, FETCH_LIMIT, &step, || step.at_bytes(size_of(into)))?;
        output.checked("check the network and the room on the disk, then try again")?;
        packages_in(into)
    }

    /// Fetches packages with everything they need that this machine does not have installed.
    pub(crate) fn download_with_needs(
        &self,
        suite: Option<&str>,
        packages: &[String],
        into: &Path,
        what: &str,
        progress: Progress,
    ) -> Result<Vec<PathBuf>, Error> {
        let remedy = "check that this machine's own packages are in order (`apt-get check`), then try again";
        let install = |more: &[&str]| {
            let mut command = self.tool("apt-get");
            command.args(["install", "--no-install-recommends", "-y", "-q"]).args(more);
            if let Some(suite) = suite {
                command.args(["-t", suite]);
            }
            command.arg("-o").arg(format!("Dir::Cache::archives={}/", into.display()));
            command.arg("--").args(packages);
            command
        };
        let plan = {
            let step = progress.step(format!("choosing the packages of {what}"));
            command::run(&mut install(&["--print-uris", "-qq"]), ASK_LIMIT, &step, || {})?.checked(remedy)?
        };
        let files = debian::print_uris(&plan.stdout);
        let step = progress.step(format!("fetching {what}"));
        step.expect_bytes(files.iter().map(|file| file.size).sum());
        let partial = into.join("partial");
        fs::create_dir_all(&partial).map_err(Error::file("create", &partial))?;
        let watch = || step.at_bytes(size_of(into) + size_of(&partial));
        command::run(&mut install(&["--download-only"]), FETCH_LIMIT, &step, watch)?.checked(remedy)?;
        // Programs run with the C library that is installed: beside another one its loader would fail.
        let mut files = packages_in(into)?;
        files.retain(|file| !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libc6_")));
        Ok(files)
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        // apt's digest of the lists is as large as all lists, and is made anew in a second or two.
        let _ = fs::remove_file(self.config.with_file_name("pkgcache.bin"));
    }
}

/// The bytes in a folder's own files.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|data| data.len()).sum()
}

fn packages_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    let files = entries.flatten().map(|entry| entry.path());
    Ok(files.filter(|file| file.extension().is_some_and(|end| end == "deb")).collect())
}

/// Unpacks packages side by side into a folder; nothing is installed.
pub(crate) fn unpack(packages: &[PathBuf], into: &Path, what: &str, progress: Progress) -> Result<(), Error> {
    let step = progress.step(format!("unpacking {what}"));
    for package in packages {
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(package).arg(into);
        command::run(&mut command, FETCH_LIMIT, &step, || {})?.checked("check the room on the disk, then try again")?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn source(uri: &str, suites: &[&str]) -> Source {
        Source { uris: vec![uri.into()], suites: suites.iter().map(|s| (*s).into()).collect(), options: vec![] }
    }

    #[test]
    fn the_mirror_is_found_among_others() {
        let sources = [
            source("http://tools.example", &["nodistro"]),
            source("http://m.example/debian", &["bookworm", "bookworm-updates"]),
            source("http://m.example/security", &["bookworm-security"]),
        ];
        let mirror = Mirror::among(&sources, Some("bookworm")).unwrap();
        assert_eq!(mirror.release, "bookworm");
        let text = mirror.sources(&["bookworm", "sid"], "arm64");
        assert!(text.contains("Suites: bookworm bookworm-updates bookworm-backports sid\n"), "{text}");
        assert!(text.contains("URIs: http://m.example/security\nSuites: bookworm-security\n"), "{text}");
    }

    #[test]
    fn a_machine_without_debian_is_told_so() {
        let why = Mirror::among(&[source("http://u.example", &["noble"])], Some("noble")).unwrap_err();
        assert!(why.contains("no Debian release"), "{why}");
    }
}
