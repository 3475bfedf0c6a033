//! What can go wrong, with the values that matter and the remedy.

use std::path::PathBuf;
use std::time::Duration;

use crate::arch::Arch;

/// Every failure of the lab. Each message ends with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel series that is not written as one.
    #[error("`{given}` is no kernel series; write two numbers with a dot, as in `6.12`, or `newest`")]
    BadSeries {
        /// What was given, cut to a readable length.
        given: String,
    },
    /// The archive does not have this series, and it was not fetched before.
    #[error("there is no kernel {asked} to fetch; the archive has {}, fetched before: {}; ask for one of these",
        or_none(.archive), or_none(.fetched))]
    NoSuchSeries {
        /// The series asked for.
        asked: String,
        /// What the archive offers, oldest first.
        archive: Vec<String>,
        /// What the cache holds, oldest first.
        fetched: Vec<String>,
    },
    /// The series is not in the cache, and a boot never downloads.
    #[error("kernel {asked} was not fetched yet (fetched: {}); run `bartender lab setup {asked}`", or_none(.fetched))]
    NotFetched {
        /// The series asked for.
        asked: String,
        /// What the cache holds, oldest first.
        fetched: Vec<String>,
    },
    /// The archive cannot be reached.
    #[error("the package archive cannot be reached: {why}\nfetched before and usable offline: {}; \
        check the network, then try again", or_none(.fetched))]
    OutOfReach {
        /// The last lines apt wrote.
        why: String,
        /// What the cache holds, oldest first.
        fetched: Vec<String>,
    },
    /// This is not a machine whose package manager can fetch Debian packages.
    #[error("{missing} cannot be fetched here: {why}; run `bartender lab setup` on a Debian machine (a container will \
        do) and copy its cache folder to {}", .cache.display())]
    NotDebian {
        /// What is missing.
        missing: String,
        /// What about this machine prevents it.
        why: String,
        /// Where the cache of a Debian machine may be copied to.
        cache: PathBuf,
    },
    /// There is no emulator that is new enough.
    #[error(
        "no {program} of version {wanted} or newer: {found}; run `bartender lab setup` on Debian, elsewhere \
        install QEMU {wanted} or newer so that it is in PATH"
    )]
    NoQemu {
        /// Its name.
        program: &'static str,
        /// The oldest version that will do.
        wanted: &'static str,
        /// What was found.
        found: String,
    },
    /// A program that was started failed.
    #[error("`{command}` failed ({status}):\n{tail}\n{remedy}")]
    Command {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
        /// The end of its standard error.
        tail: String,
        /// What to do.
        remedy: String,
    },
    /// A file that could not be read or written.
    #[error("cannot {doing} {}: {source}; check that the path exists, is yours and has room", .path.display())]
    File {
        /// "read", "write", "create" ...
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No place for the cache.
    #[error("no cache folder: HOME is not set; set BARTENDER_CACHE to a folder")]
    NoHome,
    /// A fetched kernel package lacks something.
    #[error("kernel {version} cannot be used: {lacks}; remove it with `rm -r {}` and fetch it again, or take another series",
        .folder.display())]
    Kernel {
        /// The kernel's version.
        version: String,
        /// What is missing.
        lacks: String,
        /// Where it was unpacked.
        folder: PathBuf,
    },
    /// The static program cannot be built or found.
    #[error("no {} program to run in the emulated server: {why}; {remedy}", arch.instructions())]
    NoGuest {
        /// What it would run on.
        arch: Arch,
        /// What prevents it.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A boot was described wrongly.
    #[error("{what} `{value}` will not do: {rule}")]
    BadBoot {
        /// Which part of the description.
        what: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        rule: String,
    },
    /// The emulated kernel panicked.
    #[error(
        "kernel {kernel} panicked in the emulated server; its console ended with:\n{tail}\nlook at the first line of the \
        report above: it says which code failed"
    )]
    Panic {
        /// The kernel's version.
        kernel: String,
        /// The end of the console.
        tail: String,
        /// What came over the second channel before.
        lines: Vec<String>,
    },
    /// The emulated kernel reported an oops (which the lab turns into a panic, so that it ends).
    #[error(
        "kernel {kernel} hit an oops in the emulated server; its console ended with:\n{tail}\nlook at `pc :` and the \
        call trace above: they say which code failed"
    )]
    Oops {
        /// The kernel's version.
        kernel: String,
        /// The end of the console.
        tail: String,
        /// What came over the second channel before.
        lines: Vec<String>,
    },
    /// The time limit ended the run.
    #[error(
        "kernel {kernel} was not done after {limit:?} and was stopped; its console ended with:\n{tail}\nif the machine \
        is only slow, give a longer limit"
    )]
    TimedOut {
        /// The kernel's version.
        kernel: String,
        /// The limit.
        limit: Duration,
        /// The end of the console.
        tail: String,
        /// What came over the second channel before.
        lines: Vec<String>,
    },
    /// The emulator itself failed.
    #[error(
        "QEMU ended by itself ({status}): {stderr}\nthe console ended with:\n{tail}\nrun `bartender lab setup` again if \
        QEMU is damaged"
    )]
    QemuExited {
        /// How it ended.
        status: String,
        /// The end of its standard error.
        stderr: String,
        /// The end of the console.
        tail: String,
        /// What came over the second channel before.
        lines: Vec<String>,
    },
    /// The guest sent more than the host is willing to keep.
    #[error("kernel {kernel} sent more than {limit} bytes and was stopped; send less, or in fewer lines")]
    TooMuch {
        /// The kernel's version.
        kernel: String,
        /// The limit in bytes.
        limit: usize,
        /// What came over the second channel before.
        lines: Vec<String>,
    },
    /// The guest side could not set itself up.
    #[error(
        "the emulated server could not be prepared: {what}\nthe console ended with:\n{tail}\nrun `bartender lab setup` \
        again if the kernel's modules are damaged"
    )]
    Guest {
        /// What it reported.
        what: String,
        /// The end of the console.
        tail: String,
        /// What came over the second channel before.
        lines: Vec<String>,
    },
    /// The bare-metal program panicked.
    #[error("{} stopped: {what}\nwhat it said ended with:\n{tail}\nplease report it with the command that led to it", .program.display())]
    Bare {
        /// The program.
        program: PathBuf,
        /// Its own words.
        what: String,
        /// The end of what it said.
        tail: String,
        /// All of it.
        lines: Vec<String>,
    },
    /// The bare-metal program cannot be built or found.
    #[error("no bare-metal program to run at EL2: {why}; {remedy}")]
    NoBare {
        /// What prevents it.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A step of the guest side, inside the emulated server.
    #[error("{step}: {why}; this is the guest side of the lab, the host shows the console's end")]
    Inside {
        /// What was being done.
        step: String,
        /// The system's reason.
        why: String,
    },
}

impl Error {
    /// A closure for `map_err` on something that was done to a file.
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    /// The lines that came over the second channel before a run failed.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        match self {
            Self::Panic { lines, .. }
            | Self::Oops { lines, .. }
            | Self::TimedOut { lines, .. }
            | Self::QemuExited { lines, .. }
            | Self::TooMuch { lines, .. }
            | Self::Bare { lines, .. }
            | Self::Guest { lines, .. } => lines,
            _ => &[],
        }
    }
}

fn or_none(list: &[String]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

/// The last `lines` lines of `text`, without control characters that would upset a terminal.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    let kept = all.get(all.len().saturating_sub(lines)..).unwrap_or_default();
    kept.iter()
        .map(|line| line.chars().filter(|c| *c == '\t' || !c.is_control()).take(400).collect::<String>())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end_without_escapes() {
        assert_eq!(tail("a\nb\x1b[2Jc\r\nd\n\n", 2), "b[2Jc\nd");
        assert_eq!(tail("", 3), "");
    }

    #[test]
    fn an_unknown_series_lists_what_there_is() {
        let error = Error::NoSuchSeries { asked: "5.10".into(), archive: vec!["6.1".into()], fetched: vec![] };
        assert!(error.to_string().contains("the archive has 6.1, fetched before: none"), "{error}");
    }
}
