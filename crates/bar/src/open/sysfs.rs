//! By `resourceN` and `resourceN_wc`.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;

use memtype::Arch;
use memtype::linux::{MmapWc, arch_can_pci_mmap_wc};

use super::{ARCH, Attributes, Bar, Pages};
use crate::sys::Vma;
use crate::{Why, cpu, vfio};

impl Bar {
    pub(super) fn by_sysfs(&self, wc: bool, pages: Pages, asked: &Attributes) -> Result<Vma, Why> {
        let folder = self.device.folder();
        let path = folder.join(format!("resource{}{}", self.index, if wc { "_wc" } else { "" }));
        let name = path.display().to_string();
        let file = File::options().read(true).write(!asked.read_only).open(&path);
        let file = file.map_err(|error| Why::system(&name, &error, self.unopened(wc, &error)))?;
        let config = fs::read(folder.join("config")).unwrap_or_default();
        self.answers(&config)?;
        if !asked.read_only && !asked.over_msix {
            self.off_the_vectors(&config, pages)?;
        }
        let vma = Vma::new(file.as_fd(), pages.start, pages.len, !asked.read_only);
        vma.map_err(|error| Why::system(format!("mmap of {name}"), &error, self.unmapped(&error)))
    }

    /// A device that does not decode memory, or sleeps, answers all ones; some machines take that for an error.
    fn answers(&self, config: &[u8]) -> Result<(), Why> {
        let at = vfio::command::AT as usize;
        let off = matches!(config.get(at..at + 2), Some(&[low, high]) if u16::from_le_bytes([low, high]) & vfio::command::MEMORY == 0);
        if off {
            let remedy = format!("echo 1 > {}; VFIO does it by itself", self.device.folder().join("enable").display());
            return Err(Why::no(format!("memory decode of {} is off", self.device.bdf), remedy));
        }
        let power = fs::read_to_string(self.device.folder().join("power_state")).unwrap_or_default();
        match power.trim() {
            state @ ("D1" | "D2" | "D3hot" | "D3cold") => {
                let remedy = format!("echo on > {}", self.device.folder().join("power/control").display());
                Err(Why::no(format!("{} is in {state}", self.device.bdf), remedy))
            }
            _ => Ok(()),
        }
    }

    /// The pages of the MSI-X table are not given out by the way: who writes there chooses where an interrupt's write goes.
    fn off_the_vectors(&self, config: &[u8], pages: Pages) -> Result<(), Why> {
        let Some(table) = msix_table(config).filter(|table| table.bar == self.index) else { return Ok(()) };
        let page = cpu::page_size() as u64;
        let lead = self.resource.first % page;
        let (first, last) = (lead + table.offset, lead + table.offset + table.size - 1);
        if first / page * page >= pages.start + pages.len as u64 || last < pages.start {
            return Ok(());
        }
        let what = format!("the MSI-X table is there, at {:#x}+{:#x}", table.offset, table.size);
        Err(Why::no(what, "map another part, or only to read, or say that you want it (over_msix, --over-msix)"))
    }

    fn unopened(&self, wc: bool, error: &io::Error) -> String {
        match error.raw_os_error() {
            Some(libc::ENOENT) if wc && !self.is_prefetchable() => {
                "the BAR is not prefetchable: Linux makes no such file for it".into()
            }
            Some(libc::ENOENT) if wc => match arch_can_pci_mmap_wc(ARCH) {
                it if it.v7_2 == MmapWc::No => format!("on {ARCH} Linux makes no such files"),
                it if it.v6_12 == MmapWc::IfPat => {
                    "Linux makes it where PAT is on: look for nopat on the kernel's command line".into()
                }
                _ => "this kernel does not make it: it is too old, or the device may not be mapped".into(),
            },
            Some(libc::ENOENT) => {
                "this kernel makes no such file, for any device or for this (non_mappable_bars)".into()
            }
            Some(libc::EACCES | libc::EPERM) => "run as root".into(),
            _ => String::new(),
        }
    }

    fn unmapped(&self, error: &io::Error) -> String {
        let driver = self.device.driver();
        match error.raw_os_error() {
            Some(libc::EPERM) => {
                let lockdown = fs::read_to_string(self.device.root.join("sys/kernel/security/lockdown"));
                let lockdown = lockdown.unwrap_or_default();
                format!("the kernel is locked down ({}): VFIO works all the same", lockdown.trim())
            }
            Some(libc::EINVAL) => {
                let (root, bdf) = (&self.device.root, self.device.bdf);
                let claim = match driver {
                    _ if vfio::Device::of(root, bdf).is_some() => {
                        "VFIO has claimed it, in this process: map all of it by sysfs, the write-combining parts first"
                            .into()
                    }
                    Some(driver) if driver.contains("vfio") => {
                        "a program that has it open through VFIO has claimed it: close that".into()
                    }
                    Some(driver) => {
                        format!("driver {driver} has claimed it exclusively: unbind it, or boot with iomem=relaxed")
                    }
                    None => "somebody has claimed it exclusively: see /proc/iomem".into(),
                };
                match ARCH {
                    Arch::X86 => format!("{claim}; or it is mapped as write-back (dmesg: x86/PAT)"),
                    _ => claim,
                }
            }
            Some(libc::EBUSY) => {
                "x86: parts of it are reserved as different types (/sys/kernel/debug/x86/pat_memtype_list)".into()
            }
            Some(libc::EIO) => "the kernel does not think it a memory BAR".into(),
            _ => String::new(),
        }
    }
}

/// Where the MSI-X table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Table {
    bar: u8,
    offset: u64,
    size: u64,
}

/// Out of configuration space, as far as it may be read (PCI 3.0, 6.8.2).
fn msix_table(config: &[u8]) -> Option<Table> {
    const STATUS_CAPABILITIES: u8 = 1 << 4;
    const MSIX: u8 = 0x11;
    let half = |at: usize| Some(u16::from_le_bytes(config.get(at..at + 2)?.try_into().ok()?));
    if config.get(6)? & STATUS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = usize::from(config.get(0x34)? & !3);
    // There are no more capabilities than words after the header: a circle ends.
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        if *config.get(at)? == MSIX {
            let vectors = u64::from(half(at + 2)? & 0x7ff) + 1;
            let table = u32::from(half(at + 4)?) | u32::from(half(at + 6)?) << 16;
            return Some(Table { bar: (table & 7) as u8, offset: u64::from(table & !7), size: 16 * vectors });
        }
        at = usize::from(config.get(at + 1)? & !3);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_is_found_and_a_circle_ends() {
        let mut config = vec![0; 256];
        (config[6], config[0x34]) = (0x10, 0x40);
        config[0x40..0x42].copy_from_slice(&[0x01, 0x50]);
        config[0x50..0x5c].copy_from_slice(&[0x11, 0, 3, 0, 2, 0x20, 0, 0, 2, 0x30, 0, 0]);
        assert_eq!(msix_table(&config), Some(Table { bar: 2, offset: 0x2000, size: 64 }));
        assert_eq!(msix_table(&config[..64]), None, "what a user may read");
        config[0x50..0x52].copy_from_slice(&[0x05, 0x40]);
        assert_eq!(msix_table(&config), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(config in prop::collection::vec(any::<u8>(), 0..256)) {
            if let Some(table) = msix_table(&config) {
                prop_assert!(table.bar < 8 && table.offset % 8 == 0 && (16..=16 << 11).contains(&table.size));
            }
        }
    }
}
