//! Runs other programs: bounded in time and output, with progress, and never left behind.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, tail};
use crate::progress::Step;

/// No program that the lab asks writes more than this (the largest answer, the records of every kernel package of all
/// suites, is below a megabyte); the rest is thrown away.
const MOST_OUTPUT: u64 = 64 << 20;

/// A child that is killed and reaped when this is dropped, whatever the way out.
#[derive(Debug)]
pub(crate) struct Reaped(pub(crate) Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only if the child is gone already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    shown: String,
}

impl Output {
    pub(crate) fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The output, or an error with the end of what it said.
    pub(crate) fn checked(self, remedy: &str) -> Result<Self, Error> {
        if self.success() {
            return Ok(self);
        }
        let status = self.status.map_or_else(|| "stopped at its time limit".to_owned(), |status| status.to_string());
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        Err(Error::Command { tail: tail(said, 30), command: self.shown, status, remedy: remedy.to_owned() })
    }
}

/// Runs a program to its end or to `limit`, calling `watch` many times a second.
pub(crate) fn run(
    command: &mut Command,
    limit: Duration,
    step: &Step,
    mut watch: impl FnMut(),
) -> Result<Output, Error> {
    let shown = shown(command);
    let begun = Instant::now();
    let mut child =
        Reaped(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| {
            Error::Command {
                command: shown.clone(),
                status: "not started".to_owned(),
                tail: e.to_string(),
                remedy: "check that the program is installed and in PATH".to_owned(),
            }
        })?);
    let stdout = collect(child.0.stdout.take());
    let stderr = collect(child.0.stderr.take());
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.0.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begun.elapsed() < limit => {}
            Ok(None) | Err(_) => break None,
        }
        thread::sleep(pause);
        // Short programs are noticed at once, long ones do not keep a core busy.
        pause = (pause * 2).min(Duration::from_millis(50));
        step.tick();
        watch();
    };
    drop(child);
    let ended = status.is_some();
    Ok(Output { status, stdout: text(stdout, ended), stderr: text(stderr, ended), shown })
}

type Collector = Option<thread::JoinHandle<Vec<u8>>>;

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collector {
    pipe.map(|mut pipe| {
        thread::spawn(move || {
            let mut kept = Vec::new();
            // A read error ends the text early; the exit status tells the rest.
            let _ = pipe.by_ref().take(MOST_OUTPUT).read_to_end(&mut kept);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            kept
        })
    })
}

/// What was collected. After a kill a grandchild may still hold the pipe: then it is not waited for.
fn text(collector: Collector, ended: bool) -> String {
    let bytes = collector
        .filter(|thread| ended || thread.is_finished())
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The command as a person would write it, cut to a readable length.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ").chars().take(600).collect()
}

/// A file of that name in PATH.
pub(crate) fn in_path(name: &str) -> Option<std::path::PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    fn sh(script: &str, limit: Duration) -> Output {
        let step = Progress::silent().step("test");
        run(Command::new("sh").args(["-c", script]), limit, &step, || {}).unwrap()
    }

    #[test]
    fn output_and_status_are_kept() {
        let output = sh("echo out; echo err >&2; exit 3", Duration::from_secs(10));
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        let message = output.checked("mend it").unwrap_err().to_string();
        assert!(message.contains("err") && message.contains("mend it") && message.contains('3'), "{message}");
    }

    #[test]
    fn a_limit_ends_a_program() {
        let begun = Instant::now();
        let output = sh("sleep 60", Duration::from_millis(200));
        assert!(output.status.is_none() && begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let step = Progress::silent().step("test");
        let error = run(&mut Command::new("no-such-program-here"), Duration::from_secs(1), &step, || {}).unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"));
    }
}
