//! QEMU's `virtio-iommu-pci` under the suite: the emulator that the lab fetched, or that is installed.

use conformance::qtest::{Machine, NoOption, Options};
use lab::{Arch, Cache, Qemu};

use crate::cmd;

/// QEMU's device, with those options: `boot-bypass=off,aw-bits=48,granule=64k,absent=0x10100`; an empty text is QEMU's own
/// defaults, with a granule of 4 KiB.
///
/// # Errors
/// The options are none, there is no QEMU, or it does not start.
pub fn device(options: &str) -> Result<Box<dyn conformance::Device>, cmd::Error> {
    Ok(Box::new(machine(options)?))
}

/// The same, as what it is.
///
/// # Errors
/// As [`device`].
pub fn machine(options: &str) -> Result<Machine, cmd::Error> {
    let options: Options = options.parse().map_err(|e: NoOption| e.to_string())?;
    let qemu = Cache::user().and_then(|cache| Qemu::find_for(&cache, Arch::Amd64));
    let qemu = qemu.map_err(|e| format!("{e}\n`bartender lab setup x86-6.12` fetches it"))?;
    let version = qemu.version();
    Ok(Machine::start(move || qemu.command(), &version, options).map_err(|e| e.0)?)
}
