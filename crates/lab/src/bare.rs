//! One run of a program without an operating system: an emulated Arm machine with EL2, and nothing in it but the program.
//!
//! The machine is QEMU's `virt` with EL2 and GICv3. The program is an ELF file for aarch64; what it is to do is a file that
//! QEMU's loader puts into its memory; what it says comes over the machine's PL011; it ends by powering the machine off.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::boot::{self, Ended, How, MOST_SENT};
use crate::cache::Cache;
pub use crate::device::Device;
use crate::error::{Error, tail};
use crate::qemu::Qemu;

/// Lines of what the program said that are shown with an error.
const TAIL: usize = 20;
/// What the program's own panics begin with.
const PANIC: &str = "panic: ";

/// What to run, and on what.
#[derive(Debug, Clone)]
pub struct Bare<'a> {
    /// The program.
    pub program: &'a Path,
    /// Where what it is to do goes, as a physical address, and the bytes.
    pub orders: (u64, &'a [u8]),
    /// Bytes of RAM.
    pub ram: u64,
    /// QEMU's name of the processor, with options if need be.
    pub cpu: String,
    /// The PCI devices, in the order of their addresses.
    pub devices: Vec<Device>,
    /// An access to PCI memory that no device answers is an External abort; if not, a read gives ones.
    pub aborts: bool,
    /// When to give up.
    pub limit: Duration,
}

/// A run that ended as it should: the program powered the machine off.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ran {
    /// What it said.
    pub lines: Vec<String>,
    /// From starting QEMU to its end.
    pub wall: Duration,
}

impl Bare<'_> {
    /// Runs it. Each line is handed to `on_line` as it comes.
    ///
    /// # Errors
    /// A hang, a panic of the program, a failure of QEMU; see [`Error`]. QEMU is gone in every case.
    pub fn run(&self, cache: &Cache, on_line: &mut dyn FnMut(&str)) -> Result<Ran, Error> {
        boot::check_cpu(&self.cpu)?;
        self.devices.iter().try_for_each(|device| device.check())?;
        // Slot 0 of the bus is the bridge's own.
        if self.devices.len() > 30 {
            let (value, rule) = (self.devices.len().to_string(), "a bus takes at most 30".to_owned());
            return Err(Error::BadBoot { what: "number of devices", value, rule });
        }
        let qemu = Qemu::find(cache)?;
        let scratch = cache.scratch("run")?;
        let orders = scratch.path().join("orders");
        fs::write(&orders, self.orders.1).map_err(Error::file("write", &orders))?;
        let ended = boot::watch(&mut self.command(&qemu, &orders), self.limit, on_line)?;
        self.verdict(ended)
    }

    fn command(&self, qemu: &Qemu, orders: &Path) -> Command {
        let mut command = qemu.command();
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"])
            // With one CPU and room for no other QEMU 10.0 checks no alignment of Device accesses.
            .args(["-M", "virt,virtualization=on,gic-version=3", "-smp", "1,maxcpus=2"])
            .args(["-m", &format!("{}K", self.ram / 1024)])
            .args(["-cpu", &self.cpu])
            .args(["-chardev", "stdio,id=said,signal=off", "-serial", "chardev:said"])
            .arg("-kernel")
            .arg(self.program)
            .arg("-device")
            .arg(format!("loader,file={},addr={:#x},force-raw=on", boot::quoted(orders), self.orders.0));
        if self.aborts {
            command.args(["-global", "gpex-pcihost.allow-unmapped-accesses=off"]);
        }
        for (index, device) in self.devices.iter().enumerate() {
            device.add(&mut command, &format!("bar{index}"));
        }
        command
    }

    fn verdict(&self, ended: Ended) -> Result<Ran, Error> {
        let Ended { lines, wall, stderr, how } = ended;
        let kernel = format!("program {}", self.program.file_name().unwrap_or_default().to_string_lossy());
        let said = tail(&lines.join("\n"), TAIL);
        if let Some(what) = lines.iter().find(|line| line.starts_with(PANIC)) {
            return Err(Error::Bare { program: self.program.to_owned(), what: what.clone(), tail: said, lines });
        }
        match how {
            How::Well => Ok(Ran { lines, wall }),
            How::Stopped => Err(Error::TimedOut { kernel, limit: self.limit, tail: said, lines }),
            How::TooMuch => Err(Error::TooMuch { kernel, limit: MOST_SENT, lines }),
            How::Failed(status) => Err(Error::QemuExited { status, stderr: tail(&stderr, TAIL), tail: said, lines }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cache::tests::Own;

    fn bare() -> Bare<'static> {
        Bare {
            program: Path::new("/nowhere/el2"),
            orders: (0x4800_0000, b"\0"),
            ram: 1 << 29,
            cpu: "max".into(),
            devices: vec![],
            aborts: false,
            limit: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_panic_is_told_in_its_own_words_however_it_ended() {
        for how in [How::Well, How::Stopped] {
            let lines = vec!["{\"about\":{}}".to_owned(), "panic: exception 4 at EL2".to_owned()];
            let ended = Ended { lines, wall: Duration::ZERO, stderr: String::new(), how };
            let error = bare().verdict(ended).unwrap_err();
            assert!(matches!(&error, Error::Bare { what, .. } if what.ends_with("at EL2")), "{error}");
            assert_eq!(error.lines().len(), 2);
        }
    }

    #[test]
    fn what_cannot_be_started_is_refused_before() {
        let own = Own::new("bare");
        let bare = bare();
        for (bad, says) in [
            (Bare { cpu: "max;reboot".into(), ..bare.clone() }, "processor"),
            (Bare { devices: vec![Device::Memory { size: 3 << 20 }], ..bare.clone() }, "power of two"),
            (Bare { devices: vec![Device::Dma; 31], ..bare }, "at most 30"),
        ] {
            let message = bad.run(&own.0, &mut |_| {}).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }
}
