//! The qtest protocol (QEMU docs/devel/testing/qtest.rst): lines of text, one answer to each command, over a socket that
//! QEMU is given as its standard output.
//!
//! QEMU's accelerator `qtest` is in no distribution's package (Debian removes it), but the protocol is served under TCG
//! too. The CPU is therefore one that halts at once: all of its firmware is `cli; hlt`. Virtual time is counted in
//! instructions and does not sleep (`-icount shift=0,sleep=off`): with the CPU halted it jumps from one timer to the next.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::device::Broken;

/// QEMU answers at once or is stuck. It starts within this time too.
const LIMIT: Duration = Duration::from_secs(20);
/// What is kept of what QEMU says on its standard error: the end.
const TAIL: usize = 4096;
/// A command that does nothing: the address of PCI configuration is read.
pub(super) const ANYTHING: &str = "inl 0xcf8";
/// Bytes of guest memory in one line.
const LINE: usize = 1 << 15;

/// A QEMU under qtest. It ends with this value.
#[derive(Debug)]
pub(super) struct Wire {
    child: Child,
    to: UnixStream,
    from: BufReader<UnixStream>,
    said: Arc<Mutex<Vec<u8>>>,
    hears: Option<JoinHandle<()>>,
}

impl Wire {
    /// Starts it. What is given is a command with the machine; the socket is added.
    pub(super) fn start(mut command: Command) -> Result<Self, Broken> {
        let text = |e: io::Error| Broken(format!("QEMU cannot be started: {e}"));
        let (ours, its) = UnixStream::pair().map_err(text)?;
        ours.set_read_timeout(Some(LIMIT)).and_then(|()| ours.set_write_timeout(Some(LIMIT))).map_err(text)?;
        command
            .args(["-accel", "tcg", "-icount", "shift=0,sleep=off", "-bios", "/proc/self/fd/0"])
            .args(["-chardev", "socket,id=qtest,fd=1", "-qtest", "chardev:qtest", "-qtest-log", "none"])
            .stdin(Stdio::from(firmware().map_err(text)?))
            .stdout(Stdio::from(OwnedFd::from(its)))
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(text)?;
        // The command holds QEMU's end of the socket: while it does, QEMU's death would not be seen.
        drop(command);
        let said = Arc::new(Mutex::new(Vec::new()));
        let hears = child.stderr.take().map(|stderr| {
            let said = Arc::clone(&said);
            thread::spawn(move || keep_tail(stderr, &said))
        });
        let from = BufReader::new(ours.try_clone().map_err(text)?);
        let mut wire = Self { child, to: ours, from, said, hears };
        // An answer to anything: the machine is there.
        wire.ask(ANYTHING)?;
        Ok(wire)
    }

    /// One command; what follows the OK.
    pub(super) fn ask(&mut self, line: &str) -> Result<String, Broken> {
        self.to.write_all(format!("{line}\n").as_bytes()).map_err(|e| self.died(line, &e.to_string()))?;
        self.answer(line)
    }

    /// Several, none of whose answers is of interest.
    pub(super) fn tell(&mut self, lines: &[String]) -> Result<(), Broken> {
        let all = lines.iter().fold(String::new(), |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        });
        self.to.write_all(all.as_bytes()).map_err(|e| self.died("commands", &e.to_string()))?;
        lines.iter().try_for_each(|line| self.answer(line).map(drop))
    }

    /// A command that is answered with a number.
    pub(super) fn number(&mut self, line: &str) -> Result<u64, Broken> {
        let said = self.ask(line)?;
        let digits = said.strip_prefix("0x").map(|hex| u64::from_str_radix(hex, 16));
        digits.unwrap_or_else(|| said.parse()).map_err(|_| Broken(format!("QEMU on `{line}`: {said}")))
    }

    /// Writes guest memory, as a CPU.
    pub(super) fn write(&mut self, at: u64, data: &[u8]) -> Result<(), Broken> {
        for (index, piece) in data.chunks(LINE).enumerate() {
            self.ask(&write(at + (index * LINE) as u64, piece))?;
        }
        Ok(())
    }

    /// Reads guest memory, as a CPU.
    pub(super) fn read(&mut self, at: u64, bytes: usize) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::with_capacity(bytes);
        while out.len() < bytes {
            let size = LINE.min(bytes - out.len());
            let line = format!("read {:#x} {size:#x}", at + out.len() as u64);
            let said = self.ask(&line)?;
            let data = unhex(said.strip_prefix("0x").unwrap_or(&said)).filter(|data| data.len() == size);
            out.extend(data.ok_or_else(|| Broken(format!("QEMU on `{line}`: {} characters", said.len())))?);
        }
        Ok(out)
    }

    fn answer(&mut self, to: &str) -> Result<String, Broken> {
        loop {
            let mut line = String::new();
            // An answer is as long as what was asked for, twice and a little.
            match (&mut self.from).take(4 * LINE as u64).read_line(&mut line) {
                Ok(0) => return Err(self.died(to, "the socket was closed")),
                Ok(_) => {}
                Err(e) => return Err(self.died(to, &e.to_string())),
            }
            let line = line.trim_end();
            if line.starts_with("IRQ ") {
                continue;
            }
            return match line.strip_prefix("OK") {
                Some(rest) => Ok(rest.trim_start().to_owned()),
                None => Err(Broken(format!("QEMU on `{}`: {line}", short(to)))),
            };
        }
    }

    /// Why nothing more can be had of it.
    fn died(&mut self, on: &str, why: &str) -> Broken {
        let until = Instant::now() + Duration::from_secs(1);
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
                _ => break None,
            }
        };
        // What it said last may not have been heard yet.
        let deaf = || self.hears.as_ref().is_none_or(JoinHandle::is_finished);
        while status.is_some() && !deaf() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let mut text = match status {
            Some(status) => format!("QEMU ended ({status}) on `{}`", short(on)),
            None => format!("QEMU on `{}`: {why}", short(on)),
        };
        if !said.is_empty() {
            let _ = write!(text, ": {said}");
        }
        Broken(text)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A PC's firmware of 64 KiB that ends with the reset vector: `cli`, `hlt`, and back to `hlt`. The file has no name any more.
fn firmware() -> io::Result<File> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut rom = vec![0xf4; 0x1_0000];
    rom[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    let name = format!("bartender-qtest-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = env::temp_dir().join(name);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let written = file.write_all(&rom);
    fs::remove_file(&path)?;
    written.map(|()| file)
}

/// The command that writes guest memory.
pub(super) fn write(at: u64, data: &[u8]) -> String {
    let mut line = format!("write {at:#x} {:#x} 0x", data.len());
    for byte in data {
        let _ = write!(line, "{byte:02x}");
    }
    line
}

fn short(line: &str) -> &str {
    line.get(..60).unwrap_or(line)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| Some(u8::try_from(c.to_digit(16)?).unwrap_or(0))).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn keep_tail(mut from: impl Read, to: &Mutex<Vec<u8>>) {
    let mut piece = [0; 1024];
    while let Ok(bytes @ 1..) = from.read(&mut piece) {
        let mut said = to.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&piece[..bytes]);
        let over = said.len().saturating_sub(TAIL);
        said.drain(..over);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_as_text() {
        assert_eq!(write(0x1000, &[0, 0xa5]), "write 0x1000 0x2 0x00a5");
        assert_eq!(unhex("00a5").unwrap(), [0, 0xa5]);
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0x"), None);
    }

    #[test]
    fn what_is_no_qemu_is_told() {
        let broken = Wire::start(Command::new("/nonexistent/qemu")).unwrap_err();
        assert!(broken.0.contains("cannot be started"), "{broken}");
        let mut command = Command::new("sh");
        command.args(["-c", "echo this is not QEMU >&2; exit 3", "sh"]);
        let broken = Wire::start(command).unwrap_err();
        assert!(broken.0.contains("this is not QEMU") && broken.0.contains('3'), "{broken}");
    }

    #[test]
    fn the_tail_is_kept() {
        let said = Mutex::new(Vec::new());
        keep_tail(&[vec![b'a'; 5000], b"end".to_vec()].concat()[..], &said);
        let said = said.into_inner().unwrap();
        assert_eq!(said.len(), TAIL);
        assert!(said.ends_with(b"end"));
    }

    proptest! {
        #[test]
        fn any_text(text in "\\PC{0,40}") {
            let _ = (unhex(&text), short(&text));
        }

        #[test]
        fn there_and_back(data in prop::collection::vec(any::<u8>(), 0..64)) {
            let line = write(0, &data);
            prop_assert_eq!(unhex(line.rsplit("0x").next().unwrap()).unwrap(), data);
        }
    }
}
