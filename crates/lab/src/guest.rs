//! The side that runs inside the emulated server, as its first process.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};
use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};

use crate::arch::Arch;
use crate::error::Error;
use crate::image::{FILES, MARK, MODULES};
use crate::play;
use crate::session::{ORDERS, Orders};

/// The second serial port.
const CHANNEL: &str = Arch::OWN.channel();

/// The emulated device: QEMU's ivshmem.
const VENDOR: &str = "0x1af4";
const DEVICE: &str = "0x1110";

/// Whether this process is the first one of an emulated server that the lab booted.
#[must_use]
pub fn is_init() -> bool {
    std::process::id() == 1 && std::env::args_os().skip(1).any(|word| word == MARK)
}

/// The emulated server, ready for use.
#[derive(Debug)]
pub struct Guest {
    /// The devices that are bound to vfio-pci (`0000:00:01.0`), in the order of [`crate::Boot::bars`].
    pub devices: Vec<String>,
    orders: Option<Orders>,
    channel: File,
}

/// Makes the server ready: mounts, modules, devices. If that fails the host is told and the machine is powered off.
///
/// # Errors
/// [`Error::Inside`] if the channel to the host cannot be opened; everything else ends in a power-off.
pub fn start() -> Result<Guest, Error> {
    mount_at("devtmpfs", "/dev")?;
    let channel = open_channel()?;
    let mut guest = Guest { devices: Vec::new(), orders: None, channel };
    match prepare() {
        Ok((devices, orders)) => {
            guest.devices = devices;
            guest.orders = orders;
            Ok(guest)
        }
        Err(error) => guest.fail(&error.to_string()),
    }
}

fn prepare() -> Result<(Vec<String>, Option<Orders>), Error> {
    mount_at("proc", "/proc")?;
    mount_at("sysfs", "/sys")?;
    // Not every kernel has it, and nothing depends on it.
    let _ = mount_at("tracefs", "/sys/kernel/tracing");
    load_modules()?;
    let orders = Path::new(FILES).join(ORDERS);
    if !orders.exists() {
        return Ok((bind_devices()?, None));
    }
    play::prepare()?;
    let step = || format!("read the file {ORDERS}");
    let text = fs::read(&orders).map_err(inside(step()))?;
    Ok((Vec::new(), Some(serde_json::from_slice(&text).map_err(|e| inside(step())(e.into()))?)))
}

pub(crate) fn inside(step: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let step = step.into();
    move |why| Error::Inside { step, why: why.to_string() }
}

pub(crate) fn mount_at(kind: &str, place: &str) -> Result<(), Error> {
    mount(kind, place, kind, MountFlags::empty(), None)
        .map_err(|e| inside(format!("mount {kind} at {place}"))(e.into()))
}

/// Opens the channel as a plain stream of bytes: no echo, no changed line ends, as fast as the port can be set.
fn open_channel() -> Result<File, Error> {
    let step = || format!("open the channel {CHANNEL}");
    let file = OpenOptions::new().read(true).write(true).open(CHANNEL).map_err(inside(step()))?;
    let mut settings = tcgetattr(&file).map_err(|e| inside(step())(e.into()))?;
    settings.make_raw();
    // The speed is not the emulated port's, but the driver derives from it how long it waits for the last byte.
    settings.set_speed(1_500_000).map_err(|e| inside(step())(e.into()))?;
    tcsetattr(&file, OptionalActions::Now, &settings).map_err(|e| inside(step())(e.into()))?;
    Ok(file)
}

/// Loads what the host put there, in the order of the names.
fn load_modules() -> Result<(), Error> {
    let mut files: Vec<_> = fs::read_dir(MODULES).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        let step = || format!("load {}", path.display());
        let file = File::open(&path).map_err(inside(step()))?;
        finit_module(&file, &CString::default(), 0).map_err(|e| inside(step())(e.into()))?;
    }
    Ok(())
}

/// Gives every emulated device to vfio-pci.
fn bind_devices() -> Result<Vec<String>, Error> {
    let all = Path::new("/sys/bus/pci/devices");
    let mut devices = Vec::new();
    for entry in fs::read_dir(all).map_err(inside("list the PCI devices"))?.flatten() {
        let has = |file: &str, value: &str| {
            fs::read_to_string(entry.path().join(file)).is_ok_and(|text| text.trim_end() == value)
        };
        if has("vendor", VENDOR) && has("device", DEVICE) {
            devices.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    // QEMU gives out slots in the order of its command line, and the names sort by slot.
    devices.sort();
    // Without the driver there is nothing to bind them to: a boot without modules.
    if !Path::new("/sys/bus/pci/drivers/vfio-pci").exists() {
        return Ok(devices);
    }
    for device in &devices {
        let step = || format!("bind {device} to vfio-pci");
        fs::write(all.join(device).join("driver_override"), "vfio-pci").map_err(inside(step()))?;
        fs::write("/sys/bus/pci/drivers_probe", device).map_err(inside(step()))?;
        if !all.join(device).join("driver").exists() {
            return Err(Error::Inside { step: step(), why: "the driver did not take it".to_owned() });
        }
    }
    Ok(devices)
}

impl Guest {
    /// Sends one line to the host; line ends within it become spaces.
    ///
    /// # Errors
    /// [`Error::Inside`] if the channel does not take it.
    pub fn send(&mut self, line: &str) -> Result<(), Error> {
        let mut text = line.replace(['\n', '\r'], " ");
        text.push('\n');
        self.channel.write_all(text.as_bytes()).map_err(inside("send a line"))
    }

    /// Reads a file that came with the boot.
    ///
    /// # Errors
    /// [`Error::Inside`] if there is none of that name.
    pub fn read_file(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let open = File::open(Path::new(FILES).join(name));
        open.and_then(|mut file| file.read_to_end(&mut bytes)).map_err(inside(format!("read the file {name}")))?;
        Ok(bytes)
    }

    /// Does what a [`crate::Session`] asks for, if this is one: then the machine is powered off.
    pub fn play(&mut self) {
        let Some(orders) = self.orders.take() else { return };
        if let Err(error) = play::play(self, &orders) {
            self.tell_failure(&error.to_string());
        }
        self.end()
    }

    /// Powers the machine off, once everything that was sent is out.
    pub fn power_off(self) -> ! {
        self.end()
    }

    fn end(&self) -> ! {
        let _ = tcdrain(&self.channel);
        off()
    }

    /// Tells the host that the guest side cannot go on, and powers off. The host's run ends in [`Error::Guest`].
    pub fn fail(mut self, what: &str) -> ! {
        self.tell_failure(what);
        self.power_off()
    }

    fn tell_failure(&mut self, what: &str) {
        eprintln!("lab: {what}");
        let _ = self.send(&serde_json::json!({ "lab": "error", "what": what }).to_string());
    }
}

/// Ends the machine. If that is refused the process ends, at which the kernel panics: there is an end in any case.
fn off() -> ! {
    let _ = reboot(RebootCommand::PowerOff);
    std::process::exit(1)
}
