//! Commands of this program in an emulated host: what goes in, what comes out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::boot::Boot;
use crate::cache::Cache;
use crate::device::{self, Plugged};
use crate::error::Error;
use crate::kernel::Kernel;
use crate::script::{Driver, Judged, Line, Ran, judge};

/// The file of the boot with the [`Orders`].
pub(crate) const ORDERS: &str = "orders";
/// The most that is brought back, all files together.
const MOST_FILES: usize = 32 << 20;

/// What the emulated host is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) devices: Vec<Ordered>,
    pub(crate) lines: Vec<Line>,
}

/// A device as the guest side looks for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ordered {
    pub(crate) id: String,
    /// Its slot on the root bus, or that of its port.
    pub(crate) slot: u8,
    pub(crate) port: bool,
    pub(crate) driver: Driver,
}

/// A device as the guest side found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its name.
    pub id: String,
    /// Where it is, as `0000:00:10.0`.
    pub bdf: String,
    /// What it is bound to.
    pub driver: Option<String>,
    /// The number of its IOMMU group.
    pub group: Option<String>,
}

/// A line from the guest side.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "lab", rename_all = "kebab-case")]
pub(crate) enum Told {
    Ready {
        devices: Vec<Found>,
    },
    Ran(Ran),
    /// A piece of a file that is brought back; bytes that are no text are written in hexadecimal.
    File {
        path: String,
        hex: bool,
        piece: String,
    },
    Unplug {
        device: String,
    },
    Plug {
        device: String,
    },
}

/// An emulated host and what to do there.
#[derive(Debug, Clone)]
pub struct Session<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// This program, built for it.
    pub program: &'a [u8],
    /// QEMU's name of the processor.
    pub cpu: String,
    /// Its devices, and to what each is bound.
    pub devices: Vec<(Plugged, Driver)>,
    /// UEFI, for an Arm server that describes itself by ACPI.
    pub firmware: Option<PathBuf>,
    /// Files that are in `{files}` there.
    pub files: Vec<(String, Vec<u8>)>,
    /// What to do.
    pub lines: Vec<Line>,
    /// When to give up.
    pub limit: Duration,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Played {
    /// `uname -r`.
    pub release: String,
    /// The devices.
    pub devices: Vec<Found>,
    /// The lines.
    pub lines: Vec<Judged>,
    /// The files of `{out}`, by path below it.
    #[serde(skip)]
    pub files: BTreeMap<String, Vec<u8>>,
    /// Seconds from QEMU's start to power-off; nothing where it did not come so far.
    pub seconds: Option<f64>,
    /// Why it did not.
    pub trouble: Option<String>,
}

impl Played {
    /// Whether everything is as expected.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.trouble.is_none() && self.lines.iter().all(|line| line.wrong.is_none())
    }
}

impl Session<'_> {
    /// Runs it; `on_ran` hears of each line as it is done.
    ///
    /// # Errors
    /// What prevents a boot. What goes wrong after that is in the [`Played`].
    pub fn run(&self, cache: &Cache, on_ran: &mut dyn FnMut(&Line, &Ran)) -> Result<Played, Error> {
        let ordered = self.devices.iter().enumerate().map(|(index, (plugged, driver))| Ordered {
            id: plugged.id.clone(),
            slot: device::slot(index),
            port: plugged.port,
            driver: *driver,
        });
        let orders = Orders { devices: ordered.collect(), lines: self.lines.clone() };
        let orders = serde_json::to_vec(&orders).map_err(|e| Error::file("write", ORDERS)(e.into()))?;
        let mut boot = Boot::new(self.kernel, self.program);
        boot.cpu.clone_from(&self.cpu);
        boot.limit = self.limit;
        boot.firmware.clone_from(&self.firmware);
        boot.devices = self.devices.iter().map(|(plugged, _)| plugged.clone()).collect();
        boot.files.clone_from(&self.files);
        boot.files.push((ORDERS.to_owned(), orders));

        let (mut devices, mut all, mut files) = (Vec::new(), Vec::new(), Files::default());
        let booted = boot.run(cache, &mut |line| match serde_json::from_str(line) {
            Ok(Told::Ready { devices: found }) => devices = found,
            Ok(Told::Ran(ran)) => {
                if let Some(line) = self.lines.get(ran.step) {
                    on_ran(line, &ran);
                }
                all.push(ran);
            }
            Ok(Told::File { path, hex, piece }) => files.add(path, hex, &piece),
            // The others are for the boot itself.
            Ok(Told::Unplug { .. } | Told::Plug { .. }) | Err(_) => {}
        });
        let (seconds, trouble) = match booted {
            Ok(booted) => (Some(booted.wall.as_secs_f64()), files.wrong),
            Err(error @ (Error::BadBoot { .. } | Error::NoQemu { .. } | Error::File { .. })) => return Err(error),
            Err(error) => (None, Some(error.to_string())),
        };
        let lines = judge(&self.lines, &all);
        let release = self.kernel.release().to_owned();
        Ok(Played { release, devices, lines, files: files.all, seconds, trouble })
    }
}

/// Files put together from pieces.
#[derive(Debug, Default)]
struct Files {
    all: BTreeMap<String, Vec<u8>>,
    total: usize,
    wrong: Option<String>,
}

impl Files {
    fn add(&mut self, path: String, hex: bool, piece: &str) {
        let inside = path.split('/').all(|part| !matches!(part, "" | "." | "..")) && path.len() <= 1000;
        let bytes = if hex { unhex(piece) } else { Some(piece.as_bytes().to_vec()) };
        self.total = self.total.saturating_add(piece.len());
        match bytes.filter(|_| inside && self.total <= MOST_FILES) {
            Some(bytes) => self.all.entry(path).or_default().extend(bytes),
            None => {
                self.wrong =
                    Some(format!("the file {path:?} was not brought back: its name, its size or a piece is bad"));
            }
        }
    }
}

/// Bytes in hexadecimal.
#[cfg(target_os = "linux")]
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |value: u8| DIGITS[usize::from(value & 15)];
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then_some(())?;
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_cannot_leave_its_folder() {
        for path in ["../a", "/a", "a//b", "", ".", "a/../../b"] {
            let mut files = Files::default();
            files.add(path.to_owned(), false, "x");
            assert!(files.all.is_empty() && files.wrong.is_some(), "{path}");
        }
        let mut files = Files::default();
        files.add("a/b".to_owned(), false, "x");
        files.add("a/b".to_owned(), true, "ff00");
        assert_eq!(files.all["a/b"], [b'x', 0xff, 0]);
    }

    #[cfg(target_os = "linux")]
    proptest! {
        #[test]
        fn bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_bytes_or_not(text in any::<String>()) {
            let _ = unhex(&text);
        }
    }
}
