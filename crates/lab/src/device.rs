//! The PCI devices that an emulated machine can have.

use std::process::Command;

use crate::error::Error;

/// The slot of the first device that is given a place of its own; QEMU's choice begins below.
const FIRST_SLOT: u8 = 0x10;
/// Slots 16 to 30 of the root bus; the PC's own bridge sits in 31.
const MOST: usize = 15;

/// A PCI device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// BAR 2 is 64-bit prefetchable memory of so many bytes; BAR 0 has a register at offset 4 that is cleared by a read
    /// (`ivshmem-plain`).
    Memory {
        /// Bytes of BAR 2: a power of two, from 4 KiB to 4 GiB.
        size: u64,
    },
    /// A device that copies between a buffer of its own and the machine's memory; BAR 0 is 1 MiB of registers (`edu`).
    Dma,
    /// An NVMe controller: BAR 0 is registers, BAR 2 its controller memory buffer, prefetchable (`nvme`).
    Nvme {
        /// Bytes of BAR 2: a power of two of MiB, to 1 GiB.
        size: u64,
    },
    /// A display: BAR 0 is its frame buffer, prefetchable, BAR 2 registers (`bochs-display`).
    Display {
        /// Bytes of BAR 0: a power of two, from 1 MiB to 256 MiB.
        size: u64,
    },
}

impl Device {
    /// Whether QEMU could build it.
    pub(crate) fn check(self) -> Result<(), Error> {
        const MIB: u64 = 1 << 20;
        let (size, least, most, rule) = match self {
            Self::Dma => return Ok(()),
            Self::Memory { size } => (size, 4096, 4 << 30, "a BAR has a power of two of bytes, from 4 KiB to 4 GiB"),
            Self::Nvme { size } => {
                (size, MIB, 1 << 30, "a controller memory buffer has a power of two, 1 MiB to 1 GiB")
            }
            Self::Display { size } => (size, MIB, 256 * MIB, "a frame buffer has a power of two, 1 MiB to 256 MiB"),
        };
        if size.is_power_of_two() && (least..=most).contains(&size) {
            return Ok(());
        }
        Err(Error::BadBoot { what: "BAR size", value: size.to_string(), rule: rule.to_owned() })
    }

    /// What the device rests on, as arguments of QEMU; its name is `{id}-mem`.
    fn backend(self, id: &str) -> Option<(&'static str, String)> {
        match self {
            Self::Memory { size } => Some(("-object", format!("memory-backend-ram,id={id}-mem,size={size},share=on"))),
            // A disk of zeroes that keeps nothing.
            Self::Nvme { .. } => {
                Some(("-blockdev", format!("driver=null-co,node-name={id}-mem,size=16777216,read-zeroes=on")))
            }
            Self::Dma | Self::Display { .. } => None,
        }
    }

    /// The driver and its properties, as QEMU's command line and its monitor both take them.
    fn properties(self, id: &str) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        match self {
            Self::Memory { .. } => {
                all.extend([("driver", "ivshmem-plain".to_owned()), ("memdev", format!("{id}-mem"))]);
            }
            Self::Dma => all.extend([("driver", "edu".to_owned()), ("dma_mask", "0xffffffffffffffff".to_owned())]),
            Self::Nvme { size } => all.extend([
                ("driver", "nvme".to_owned()),
                ("serial", "lab".to_owned()),
                ("drive", format!("{id}-mem")),
                ("cmb_size_mb", (size >> 20).to_string()),
            ]),
            // Without its ROM, which is firmware for a PC.
            Self::Display { size } => all.extend([
                ("driver", "bochs-display".to_owned()),
                ("vgamem", size.to_string()),
                ("romfile", String::new()),
            ]),
        }
        all
    }

    /// Adds it to a machine where QEMU chooses its place.
    pub(crate) fn add(self, command: &mut Command, id: &str) {
        if let Some((option, value)) = self.backend(id) {
            command.arg(option).arg(value);
        }
        command.arg("-device").arg(joined(&self.properties(id)));
    }
}

fn joined(properties: &[(&'static str, String)]) -> String {
    let words = properties
        .iter()
        .map(|(name, value)| if *name == "driver" { value.clone() } else { format!("{name}={value}") });
    words.collect::<Vec<_>>().join(",")
}

/// A device with a name and a place of its own, so that the guest finds it and the host can take it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugged {
    /// Its name, to QEMU too: letters, digits and dashes.
    pub id: String,
    /// What it is.
    pub device: Device,
    /// It is behind a root port of its own, and can be taken away and put back.
    pub port: bool,
}

/// The slot on the root bus of the device with this place in the list, or of its port.
pub(crate) fn slot(index: usize) -> u8 {
    FIRST_SLOT.saturating_add(u8::try_from(index).unwrap_or(u8::MAX))
}

impl Plugged {
    /// The properties it is plugged with; `index` is its place in the list.
    fn properties(&self, index: usize) -> Vec<(&'static str, String)> {
        let mut all = self.device.properties(&self.id);
        all.push(("id", self.id.clone()));
        if self.port {
            all.push(("bus", port(&self.id)));
        } else {
            all.extend([("bus", "pcie.0".to_owned()), ("addr", format!("{:#x}", slot(index)))]);
        }
        all
    }

    /// The same as a word of a command line.
    pub(crate) fn argument(&self, index: usize) -> String {
        joined(&self.properties(index))
    }

    fn add(&self, command: &mut Command, index: usize) {
        if self.port {
            let (port, slot) = (port(&self.id), slot(index));
            command
                .arg("-device")
                .arg(format!("pcie-root-port,id={port},bus=pcie.0,addr={slot:#x},chassis={slot},slot={slot}"));
        }
        if let Some((option, value)) = self.device.backend(&self.id) {
            command.arg(option).arg(value);
        }
        command.arg("-device").arg(self.argument(index));
    }
}

fn port(id: &str) -> String {
    format!("{id}-port")
}

/// Whether these can be in one machine.
pub(crate) fn check_all(devices: &[Plugged]) -> Result<(), Error> {
    let bad = |what, value: &str, rule: &str| {
        Err(Error::BadBoot { what, value: value.chars().take(60).collect(), rule: rule.to_owned() })
    };
    if devices.len() > MOST {
        return bad("number of devices", &devices.len().to_string(), "a server takes at most 15");
    }
    for (index, plugged) in devices.iter().enumerate() {
        let id = &plugged.id;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let begins = id.starts_with(|c: char| c.is_ascii_alphabetic());
        if !begins || id.len() > 20 || !id.chars().all(plain) || id.ends_with("-port") || id.ends_with("-mem") {
            return bad("device name", id, "it has 1 to 20 letters, digits and dashes, and begins with a letter");
        }
        if devices[..index].iter().any(|other| other.id == *id) {
            return bad("device name", id, "each device has a name of its own: add `name=...`");
        }
        plugged.device.check()?;
    }
    Ok(())
}

/// Adds them all to a command line.
pub(crate) fn add_all(devices: &[Plugged], command: &mut Command) {
    for (index, plugged) in devices.iter().enumerate() {
        plugged.add(command, index);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plugged(id: &str, device: Device) -> Plugged {
        Plugged { id: id.to_owned(), device, port: false }
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let edu = |id: &str| plugged(id, Device::Dma);
        for (bad, says) in [
            (vec![edu("")], "begins with a letter"),
            (vec![edu("a,b")], "letters"),
            (vec![edu("0a")], "begins with a letter"),
            (vec![edu("a-port")], "letters"),
            (vec![edu("a"), edu("a")], "name of its own"),
            ((0..16).map(|n| edu(&format!("e{n}"))).collect(), "at most 15"),
            (vec![plugged("a", Device::Memory { size: 3 << 20 })], "power of two"),
            (vec![plugged("a", Device::Nvme { size: 4096 })], "1 MiB"),
            (vec![plugged("a", Device::Display { size: 1 << 30 })], "256 MiB"),
        ] {
            let message = check_all(&bad).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
        check_all(&[edu("a"), plugged("b", Device::Nvme { size: 16 << 20 })]).unwrap();
    }

    #[test]
    fn the_command_line() {
        let mut command = Command::new("qemu");
        let behind = Plugged { id: "edu".to_owned(), device: Device::Dma, port: true };
        add_all(&[plugged("nvme", Device::Nvme { size: 16 << 20 }), behind], &mut command);
        let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            words,
            [
                "-blockdev",
                "driver=null-co,node-name=nvme-mem,size=16777216,read-zeroes=on",
                "-device",
                "nvme,serial=lab,drive=nvme-mem,cmb_size_mb=16,id=nvme,bus=pcie.0,addr=0x10",
                "-device",
                "pcie-root-port,id=edu-port,bus=pcie.0,addr=0x11,chassis=17,slot=17",
                "-device",
                "edu,dma_mask=0xffffffffffffffff,id=edu,bus=edu-port",
            ]
        );
    }
}
