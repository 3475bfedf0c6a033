//! One run of an emulated server, from start to power-off.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::command::Reaped;
use crate::console::{self, Trouble};
use crate::device::{self, Device, Plugged};
use crate::error::{Error, tail};
use crate::image::{self, MARK};
use crate::kernel::Kernel;
use crate::monitor;
use crate::qemu::Qemu;
use crate::session::Told;

/// The most that the second channel may bring in one run.
pub(crate) const MOST_SENT: usize = 64 << 20;

/// The most of the console that is kept.
const MOST_CONSOLE: u64 = 16 << 20;

/// Lines of the console shown with an error.
const TAIL: usize = 40;

/// What to boot, and with what.
#[derive(Debug, Clone)]
pub struct Boot<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// A static program for its architecture, which is the server's first process.
    pub init: &'a [u8],
    /// QEMU's name of the processor, with options if need be (`max`, `neoverse-n1`, `max,lpa2=off`).
    pub cpu: String,
    /// Files for [`crate::guest::Guest::read_file`].
    pub files: Vec<(String, Vec<u8>)>,
    /// Whether the drivers for handing devices to VMs come along.
    pub modules: bool,
    /// One PCI device for each size: its BAR 2 is 64-bit prefetchable memory of so many bytes.
    pub bars: Vec<u64>,
    /// More PCI devices, each with a name.
    pub devices: Vec<Plugged>,
    /// UEFI ([`crate::uefi`]): an Arm server then describes itself by ACPI, not by a device tree.
    pub firmware: Option<PathBuf>,
    /// When to give up.
    pub limit: Duration,
}

/// A run that ended as it should: the server powered itself off.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Booted {
    /// What came over the second channel.
    pub lines: Vec<String>,
    /// What the console said.
    pub console: String,
    /// From starting QEMU to its end.
    pub wall: Duration,
}

impl<'a> Boot<'a> {
    /// A boot with the defaults: processor `max`, modules, no device, a limit of one minute.
    #[must_use]
    pub fn new(kernel: &'a Kernel, init: &'a [u8]) -> Self {
        Self {
            kernel,
            init,
            cpu: "max".to_owned(),
            files: Vec::new(),
            modules: true,
            bars: Vec::new(),
            devices: Vec::new(),
            firmware: None,
            limit: Duration::from_secs(60),
        }
    }

    /// Runs it. Each line of the second channel is handed to `on_line` as it comes.
    ///
    /// # Errors
    /// A hang, a panic, an oops, a failure of QEMU or of the guest side; see [`Error`]. QEMU is gone in every case.
    pub fn run(&self, cache: &Cache, on_line: &mut dyn FnMut(&str)) -> Result<Booted, Error> {
        self.check()?;
        let qemu = Qemu::find_for(cache, self.kernel.arch())?;
        let scratch = cache.scratch("run")?;
        let initramfs = scratch.path().join("initramfs");
        let image = image::build(self.kernel, self.init, &self.files, self.modules)?;
        fs::write(&initramfs, image).map_err(Error::file("write", &initramfs))?;
        let console = scratch.path().join("console");
        let mut command = self.command(&qemu, &initramfs, &console);
        let monitor = scratch.path().join("monitor");
        if self.devices.iter().any(|plugged| plugged.port) {
            command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", quoted(&monitor)));
        }
        let mut refused = None;
        let ended = watch(&mut command, self.limit, &mut |line| {
            if let Some(Err(why)) = self.request(line, &monitor) {
                refused = Some(why);
            }
            on_line(line);
        })?;
        let booted = self.verdict(ended, &read_console(&console))?;
        match refused {
            Some(what) => Err(Error::Guest { what, tail: tail(&booted.console, TAIL), lines: booted.lines }),
            None => Ok(booted),
        }
    }

    /// Does what the guest side asks for from outside, if the line is such a request.
    fn request(&self, line: &str, monitor: &Path) -> Option<Result<(), String>> {
        let asks = line.starts_with("{\"lab\":\"plug\"") || line.starts_with("{\"lab\":\"unplug\"");
        let told = asks.then(|| serde_json::from_str(line).ok()).flatten()?;
        let place = |id: &str| self.devices.iter().position(|plugged| plugged.id == id && plugged.port);
        let none = |id: &str| format!("{id} is no device behind a port");
        Some(match told {
            Told::Unplug { device } => match place(&device) {
                Some(_) => monitor::tell(monitor, &format!("device_del {device}")),
                None => Err(none(&device)),
            },
            Told::Plug { device } => match place(&device) {
                // A device that the kernel has given up is there until its port is without power, a moment later.
                Some(index) => {
                    again(|| monitor::tell(monitor, &format!("device_add {}", self.devices[index].argument(index))))
                }
                None => Err(none(&device)),
            },
            _ => return None,
        })
    }

    fn check(&self) -> Result<(), Error> {
        check_cpu(&self.cpu)?;
        if self.bars.len() > 16 {
            let (value, rule) = (self.bars.len().to_string(), "a server takes at most 16".to_owned());
            return Err(Error::BadBoot { what: "number of devices", value, rule });
        }
        self.bars.iter().try_for_each(|size| Device::Memory { size: *size }.check())?;
        device::check_all(&self.devices)
    }

    fn command(&self, qemu: &Qemu, initramfs: &Path, console: &Path) -> Command {
        let arch = self.kernel.arch();
        let mut command = qemu.command();
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"])
            .args(arch.machine())
            .args(["-m", "512M"])
            .args(["-cpu", &self.cpu])
            .arg("-chardev")
            .arg(format!("file,id=console,path={}", quoted(console)))
            .args(["-serial", "chardev:console", "-chardev", "stdio,id=lab,signal=off", "-serial", "chardev:lab"])
            .arg("-kernel")
            .arg(self.kernel.image())
            .arg("-initrd")
            .arg(initramfs)
            .arg("-append")
            // An oops becomes a panic and a panic a reset, at which QEMU ends: neither can hang.
            .arg(format!("{} quiet panic=-1 oops=panic -- {MARK}", arch.parameters()));
        if let Some(firmware) = &self.firmware {
            command.arg("-bios").arg(firmware);
        }
        for (index, size) in self.bars.iter().enumerate() {
            Device::Memory { size: *size }.add(&mut command, &format!("bar{index}"));
        }
        device::add_all(&self.devices, &mut command);
        command
    }

    fn verdict(&self, ended: Ended, console: &str) -> Result<Booted, Error> {
        let Ended { lines, wall, stderr, how } = ended;
        let kernel = self.kernel.version().to_owned();
        let tail_of_console = tail(console, TAIL);
        let tail_of_stderr = tail(&stderr, TAIL);
        match (console::trouble(console), how) {
            (Some((Trouble::Oops, tail)), _) => Err(Error::Oops { kernel, tail, lines }),
            (Some((Trouble::Panic, tail)), _) => Err(Error::Panic { kernel, tail, lines }),
            (None, How::Stopped) => Err(Error::TimedOut { kernel, limit: self.limit, tail: tail_of_console, lines }),
            (None, How::TooMuch) => Err(Error::TooMuch { kernel, limit: MOST_SENT, lines }),
            (None, How::Failed(status)) => {
                Err(Error::QemuExited { status, stderr: tail_of_stderr, tail: tail_of_console, lines })
            }
            (None, How::Well) => match lines.iter().find_map(|line| guest_error(line)) {
                Some(what) => Err(Error::Guest { what, tail: tail_of_console, lines }),
                None => Ok(Booted { lines, console: console.to_owned(), wall }),
            },
        }
    }
}

/// A processor as QEMU's command line takes it.
pub(crate) fn check_cpu(name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,=".contains(c);
    if !name.is_empty() && name.len() <= 200 && name.chars().all(plain) {
        return Ok(());
    }
    let rule = "a processor is named as `qemu-system-aarch64 -cpu help` does, as in `max`".to_owned();
    Err(Error::BadBoot { what: "processor", value: name.chars().take(60).collect(), rule })
}

/// Tries for some seconds.
fn again(mut once: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match once() {
            Err(_) if begun.elapsed() < Duration::from_secs(5) => thread::sleep(Duration::from_millis(100)),
            answer => return answer,
        }
    }
}

/// In QEMU's lists of options a comma is written twice.
pub(crate) fn quoted(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// The line with which the guest side reports that it cannot go on.
#[derive(Debug, Deserialize)]
struct Report {
    lab: String,
    what: String,
}

fn guest_error(line: &str) -> Option<String> {
    // Most lines are long and none of the lab's own: only those that begin like ours are parsed.
    let report: Report = line.starts_with("{\"lab\":").then(|| serde_json::from_str(line).ok()).flatten()?;
    (report.lab == "error").then_some(report.what)
}

/// How the emulator came to its end, and what it said until then.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) lines: Vec<String>,
    pub(crate) wall: Duration,
    pub(crate) stderr: String,
    pub(crate) how: How,
}

#[derive(Debug, PartialEq)]
pub(crate) enum How {
    Well,
    Stopped,
    TooMuch,
    Failed(String),
}

/// Starts a command whose standard output is the second channel, and sees it to its end, or ends it.
pub(crate) fn watch(command: &mut Command, limit: Duration, on_line: &mut dyn FnMut(&str)) -> Result<Ended, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(Reaped)
        .map_err(Error::file("start", program))?;
    // A bounded queue: a guest that talks faster than it is heard waits, it does not fill this process.
    let (to, from) = sync_channel(64);
    if let Some(pipe) = child.0.stdout.take() {
        thread::spawn(move || pump(pipe, &to));
    }
    let said = child.0.stderr.take().map(|mut pipe| {
        thread::spawn(move || {
            let mut kept = Vec::new();
            let _ = pipe.by_ref().take(1 << 16).read_to_end(&mut kept);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            kept
        })
    });
    let mut lines = Lines::default();
    let stopped = listen(&from, begun + limit, &mut lines, on_line);
    let how = match stopped {
        Some(how) => how,
        // The pipe is closed, which is the end of the process, or close to it.
        None => loop {
            match child.0.try_wait() {
                Ok(Some(status)) if status.success() => break How::Well,
                Ok(Some(status)) => break How::Failed(status.to_string()),
                Ok(None) if begun.elapsed() < limit => thread::sleep(Duration::from_millis(1)),
                Ok(None) => break How::Stopped,
                Err(error) => break How::Failed(error.to_string()),
            }
        },
    };
    drop(child);
    let wall = begun.elapsed();
    lines.end(on_line);
    let stderr = said.and_then(|thread| thread.join().ok()).unwrap_or_default();
    Ok(Ended { lines: lines.whole, wall, stderr: String::from_utf8_lossy(&stderr).into_owned(), how })
}

/// Moves what comes out of a pipe into a queue, until either closes.
fn pump(mut pipe: impl Read, to: &SyncSender<Vec<u8>>) {
    let mut buffer = [0; 1 << 14];
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        if to.send(buffer[..count].to_vec()).is_err() {
            break;
        }
    }
}

/// Hears the queue out; something is returned if it had to be left before its end.
fn listen(
    from: &Receiver<Vec<u8>>,
    deadline: Instant,
    lines: &mut Lines,
    on_line: &mut dyn FnMut(&str),
) -> Option<How> {
    loop {
        match from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => {
                lines.push(&bytes, on_line);
                if lines.total > MOST_SENT {
                    return Some(How::TooMuch);
                }
            }
            Err(RecvTimeoutError::Timeout) => return Some(How::Stopped),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        if Instant::now() >= deadline {
            return Some(How::Stopped);
        }
    }
}

/// Puts lines together from pieces.
#[derive(Debug, Default)]
struct Lines {
    whole: Vec<String>,
    part: Vec<u8>,
    total: usize,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        self.total = self.total.saturating_add(bytes.len());
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.part.extend(piece);
            if piece.ends_with(b"\n") {
                self.end(on_line);
            }
        }
    }

    /// Ends the line that is under way, if there is one.
    fn end(&mut self, on_line: &mut dyn FnMut(&str)) {
        let bytes = std::mem::take(&mut self.part);
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end_matches(['\r', '\n']);
        if !line.is_empty() {
            on_line(line);
            self.whole.push(line.to_owned());
        }
    }
}

fn read_console(path: &Path) -> String {
    let mut bytes = Vec::new();
    // A console that is not there says nothing, as one that stayed silent.
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(MOST_CONSOLE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Wall times of one kernel: ours, and the same kernel with a first process that powers off at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Timing {
    /// Pairs of (ours, baseline), run one after the other.
    pub pairs: Vec<(Duration, Duration)>,
}

impl Timing {
    /// The quickest of ours to the quickest baseline: what else the machine does makes a boot slower, never quicker.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let least = |of: fn(&(Duration, Duration)) -> Duration| self.pairs.iter().map(of).min();
        match (least(|p| p.0), least(|p| p.1)) {
            (Some(ours), Some(base)) => ours.as_secs_f64() / base.as_secs_f64().max(f64::MIN_POSITIVE),
            _ => f64::NAN,
        }
    }
}

/// Measures a boot against the least that a boot of that kernel can take, `runs` times in turn.
///
/// # Errors
/// Those of [`Boot::run`].
pub fn bench(cache: &Cache, ours: &Boot<'_>, runs: usize) -> Result<Timing, Error> {
    if ours.kernel.arch() != Arch::Arm64 {
        let rule = "what a boot is measured beside is a program for arm64".to_owned();
        return Err(Error::BadBoot { what: "kernel", value: ours.kernel.series().to_string(), rule });
    }
    let off = image::poweroff_init();
    let base = Boot {
        init: &off,
        files: Vec::new(),
        modules: false,
        bars: ours.bars.clone(),
        devices: ours.devices.clone(),
        firmware: ours.firmware.clone(),
        cpu: ours.cpu.clone(),
        kernel: ours.kernel,
        limit: ours.limit,
    };
    let mut pairs = Vec::new();
    for _ in 0..runs {
        let mine = ours.run(cache, &mut |_| {})?.wall;
        pairs.push((mine, base.run(cache, &mut |_| {})?.wall));
    }
    Ok(Timing { pairs })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sh(script: &str, limit: Duration) -> (Ended, Vec<String>) {
        let mut heard = Vec::new();
        let ended =
            watch(Command::new("sh").args(["-c", script]), limit, &mut |line| heard.push(line.to_owned())).unwrap();
        (ended, heard)
    }

    #[test]
    fn lines_come_as_they_are_sent() {
        let (ended, heard) = sh("printf 'a\\r\\n\\nb\\377\\nc'; echo no >&2; exit 4", Duration::from_secs(10));
        assert_eq!(heard, ["a", "b\u{fffd}", "c"]);
        assert_eq!(ended.lines, heard);
        assert_eq!(ended.stderr, "no\n");
        assert_eq!(ended.how, How::Failed("exit status: 4".to_owned()));
    }

    #[test]
    fn a_hang_ends_at_the_limit_and_what_came_is_kept() {
        for script in ["echo a; exec sleep 60", "echo a; exec >&- 2>&-; exec sleep 60"] {
            let (ended, heard) = sh(script, Duration::from_millis(300));
            assert_eq!((ended.how, heard), (How::Stopped, vec!["a".to_owned()]));
            assert!(ended.wall < Duration::from_secs(5));
        }
    }

    #[test]
    fn a_flood_is_stopped() {
        let (ended, _) =
            sh("exec yes 0123456789012345678901234567890123456789012345678901234567", Duration::from_secs(60));
        assert_eq!(ended.how, How::TooMuch);
    }

    #[test]
    fn errors_of_the_guest_are_told_from_its_results() {
        assert_eq!(guest_error(r#"{"lab":"error","what":"no proc"}"#).as_deref(), Some("no proc"));
        assert_eq!(guest_error(r#"{"lab":"ready","what":""}"#), None);
        assert_eq!(guest_error(r#"{"scenario":"error"}"#), None);
    }

    #[test]
    fn the_ratio_of_the_quickest() {
        let ms = Duration::from_millis;
        let timing = Timing { pairs: vec![(ms(30), ms(25)), (ms(90), ms(20)), (ms(40), ms(80))] };
        assert!((timing.ratio() - 1.5).abs() < 1e-9);
        assert!(Timing { pairs: vec![] }.ratio().is_nan());
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_lines(text in "[a-z\r\n]{0,60}", cuts in prop::collection::vec(0usize..60, 0..5)) {
            let whole: Vec<&str> = text.split('\n').map(|l| l.trim_end_matches('\r')).filter(|l| !l.is_empty()).collect();
            let mut lines = Lines::default();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (head, after) = rest.split_at(cut.min(rest.len()));
                lines.push(head, &mut |_| {});
                rest = after;
            }
            lines.push(rest, &mut |_| {});
            lines.end(&mut |_| {});
            prop_assert_eq!(lines.whole, whole);
        }

        #[test]
        fn any_line_is_a_report_or_not(line in "(\\{\"lab\":)?\\PC{0,40}") {
            let _ = guest_error(&line);
        }
    }
}
