//! Devices through VFIO, by group and container: Debian's arm64 kernels have no IOMMUFD.
#![expect(unsafe_code, reason = "VFIO is spoken to by ioctl")]

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ffi::{CString, c_int, c_ulong},
    fs::{self, File},
    io,
    mem::size_of,
    os::{fd::FromRawFd, unix::fs::FileExt},
    path::Path,
    rc::Rc,
};

use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_BASE, VFIO_GROUP_FLAGS_VIABLE, VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR5_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_TYPE, VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, vfio_group_status,
    vfio_info_cap_header, vfio_region_info,
};
use vmm_sys_util::ioctl::{
    ioctl, ioctl_with_mut_ptr, ioctl_with_mut_ref, ioctl_with_ptr, ioctl_with_ref, ioctl_with_val,
};

use super::{last_error, mapping::Mapping, system};
use crate::{
    Bdf, Error,
    fit::{Opened, Region},
};

/// VFIO's requests are `_IO(';', 100 + n)` (include/uapi/linux/vfio.h).
const fn request(n: u32) -> c_ulong {
    ((VFIO_TYPE as u32) << 8 | (VFIO_BASE + n)) as c_ulong
}
const GET_API_VERSION: c_ulong = request(0);
const CHECK_EXTENSION: c_ulong = request(1);
const SET_IOMMU: c_ulong = request(2);
const GROUP_GET_STATUS: c_ulong = request(3);
const GROUP_SET_CONTAINER: c_ulong = request(4);
const GROUP_GET_DEVICE_FD: c_ulong = request(6);
const DEVICE_GET_REGION_INFO: c_ulong = request(8);

/// Offset of the command register in configuration space, and its Memory Space Enable bit.
const COMMAND: u64 = 4;
const MEMORY_SPACE: u16 = 1 << 1;
/// Offset of BAR 0.
const BAR0: u64 = 0x10;
/// The largest answer to a question about a region that is believed.
const MAX_INFO: u32 = 1 << 16;

/// The opened devices. The container and the groups stay open as long as they.
#[derive(Debug)]
pub(super) struct Vfio {
    devices: Vec<Device>,
    // Closed in this order, after the devices.
    _groups: BTreeMap<u32, File>,
    _container: Option<File>,
}

#[derive(Debug)]
struct Device {
    bdf: Bdf,
    file: File,
    bars: Vec<Bar>,
}

#[derive(Debug)]
struct Bar {
    region: Region,
    offset: u64,
    mapping: Option<Rc<Mapping>>,
}

impl Vfio {
    pub(super) fn open(bdfs: &[Bdf]) -> Result<Self, Error> {
        let mut vfio = Self { devices: Vec::new(), _groups: BTreeMap::new(), _container: None };
        if bdfs.is_empty() {
            return Ok(vfio);
        }
        let container = open(Path::new("/dev/vfio/vfio"), || "load the module vfio-pci, and run as root".into())?;
        // SAFETY: the request takes no argument.
        let version = unsafe { ioctl(&container, GET_API_VERSION) };
        if u32::try_from(version) != Ok(VFIO_API_VERSION) {
            return Err(system("VFIO_GET_API_VERSION")(io::Error::other(format!("an unknown version, {version}"))));
        }
        for bdf in bdfs {
            let number = group_of(*bdf)?;
            let first = vfio._groups.is_empty();
            let group = match vfio._groups.entry(number) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(vacant) => vacant.insert(join(number, *bdf, &container)?),
            };
            if first {
                set_iommu(&container)?;
            }
            vfio.devices.push(Device::open(*bdf, group)?);
        }
        vfio._container = Some(container);
        Ok(vfio)
    }

    /// What was opened.
    pub(super) fn opened(&self) -> Vec<Opened> {
        let one = |d: &Device| Opened { bdf: d.bdf, regions: d.bars.iter().map(|b| b.region).collect() };
        self.devices.iter().map(one).collect()
    }

    /// BAR `index` of the device, in this process; mapped when first asked for.
    pub(super) fn bar(&mut self, device: usize, index: u8) -> Result<Rc<Mapping>, Error> {
        let Device { bdf, file, bars } = &mut self.devices[device];
        let bar = bars.iter_mut().find(|bar| bar.region.index == index);
        let bar = bar.ok_or_else(|| system(format!("BAR {index} of {bdf}"))(io::ErrorKind::NotFound.into()))?;
        match &bar.mapping {
            Some(mapping) => Ok(Rc::clone(mapping)),
            None => {
                let mapping = Rc::new(Mapping::new(file, bar.offset, bar.region.size)?);
                Ok(Rc::clone(bar.mapping.insert(mapping)))
            }
        }
    }
}

fn open(path: &Path, remedy: impl FnOnce() -> String) -> Result<File, Error> {
    let file = File::options().read(true).write(true).open(path);
    file.map_err(|source| Error::Vfio { path: path.into(), source, remedy: remedy() })
}

/// The number of the device's IOMMU group.
fn group_of(bdf: Bdf) -> Result<u32, Error> {
    let link = fs::read_link(format!("/sys/bus/pci/devices/{bdf}/iommu_group"));
    let link = link.map_err(|source| Error::NoGroup { bdf, source })?;
    let number = link.file_name().and_then(|name| name.to_str()?.parse().ok());
    number.ok_or_else(|| Error::NoGroup { bdf, source: io::ErrorKind::InvalidData.into() })
}

/// Opens a group and puts it into the container.
fn join(number: u32, bdf: Bdf, container: &File) -> Result<File, Error> {
    let group = open(Path::new(&format!("/dev/vfio/{number}")), || {
        format!(
            "bind {bdf} to vfio-pci (echo vfio-pci > /sys/bus/pci/devices/{bdf}/driver_override; \
             echo {bdf} > /sys/bus/pci/drivers_probe), run as root, and let no other program have the device open"
        )
    })?;
    let mut status = vfio_group_status { argsz: size_of::<vfio_group_status>() as u32, flags: 0 };
    // SAFETY: the kernel writes a vfio_group_status, whose size it is told, to one.
    if unsafe { ioctl_with_mut_ref(&group, GROUP_GET_STATUS, &mut status) } != 0 {
        return Err(last_error(format!("VFIO_GROUP_GET_STATUS of group {number}")));
    }
    if status.flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
        return Err(Error::NotViable { group: number, bdf });
    }
    let fd: c_int = std::os::fd::AsRawFd::as_raw_fd(container);
    // SAFETY: the kernel reads one int, the container's descriptor.
    if unsafe { ioctl_with_ref(&group, GROUP_SET_CONTAINER, &fd) } != 0 {
        return Err(last_error(format!("VFIO_GROUP_SET_CONTAINER of group {number}")));
    }
    Ok(group)
}

/// Gives the container, which has its first group, its IOMMU.
fn set_iommu(container: &File) -> Result<(), Error> {
    let kinds = [VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU].map(c_ulong::from);
    // SAFETY: the argument of both requests is a number.
    let has = |kind: &c_ulong| unsafe { ioctl_with_val(container, CHECK_EXTENSION, *kind) } > 0;
    let kind = kinds.into_iter().find(has).ok_or(Error::NoType1)?;
    // SAFETY: as above.
    if unsafe { ioctl_with_val(container, SET_IOMMU, kind) } != 0 {
        return Err(last_error("VFIO_SET_IOMMU"));
    }
    Ok(())
}

impl Device {
    fn open(bdf: Bdf, group: &File) -> Result<Self, Error> {
        let name = CString::new(bdf.to_string()).unwrap_or_default();
        // SAFETY: the argument is a string with its final zero, which the kernel reads.
        let fd = unsafe { ioctl_with_ptr(group, GROUP_GET_DEVICE_FD, name.as_ptr()) };
        if fd < 0 {
            return Err(last_error(format!("VFIO_GROUP_GET_DEVICE_FD of {bdf}")));
        }
        // SAFETY: the kernel made this descriptor just now, for us.
        let file = unsafe { File::from_raw_fd(fd) };

        let config =
            region(&file, VFIO_PCI_CONFIG_REGION_INDEX).map_err(system(format!("configuration space of {bdf}")))?;
        let mut command = [0; 2];
        let mut enable = || {
            file.read_exact_at(&mut command, config.offset + COMMAND)?;
            let on = u16::from_le_bytes(command) | MEMORY_SPACE;
            file.write_all_at(&on.to_le_bytes(), config.offset + COMMAND)
        };
        // Without it the BARs do not answer, and an access to one is a SIGBUS.
        enable().map_err(system(format!("enable the memory space of {bdf}")))?;

        let mut bars = Vec::new();
        for index in VFIO_PCI_BAR0_REGION_INDEX..=VFIO_PCI_BAR5_REGION_INDEX {
            let found = region(&file, index).map_err(system(format!("region {index} of {bdf}")))?;
            if found.size == 0 {
                continue;
            }
            let mut register = [0; 4];
            let at = config.offset + BAR0 + 4 * u64::from(index);
            file.read_exact_at(&mut register, at).map_err(system(format!("BAR {index} of {bdf}")))?;
            let register = u32::from_le_bytes(register);
            // Bit 0 says I/O space.
            if register & 1 != 0 {
                continue;
            }
            let region = Region {
                index: index as u8,
                size: found.size,
                mappable: found.mappable,
                prefetchable: register & 1 << 3 != 0,
            };
            bars.push(Bar { region, offset: found.offset, mapping: None });
        }
        Ok(Self { bdf, file, bars })
    }
}

/// What VFIO says of a region.
struct Found {
    offset: u64,
    size: u64,
    /// The whole of it, without holes.
    mappable: bool,
}

fn region(device: &File, index: u32) -> io::Result<Found> {
    const HEADER: usize = size_of::<vfio_region_info>();
    let mut info = vfio_region_info { argsz: HEADER as u32, index, ..vfio_region_info::default() };
    // SAFETY: the kernel writes a vfio_region_info, whose size it is told, to one.
    if unsafe { ioctl_with_mut_ref(device, DEVICE_GET_REGION_INFO, &mut info) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut mappable = info.flags & VFIO_REGION_INFO_FLAG_MMAP != 0;
    if info.flags & VFIO_REGION_INFO_FLAG_CAPS != 0 && info.argsz as usize > HEADER {
        let argsz = info.argsz.min(MAX_INFO);
        // Words, so that the kernel's structure is aligned in it.
        let mut words = vec![0u64; (argsz as usize).div_ceil(8)];
        words[0] = u64::from(argsz);
        words[1] = u64::from(index);
        // SAFETY: the kernel writes at most `argsz` bytes, and so many there are; it reads argsz, flags, index and
        // cap_offset, each 32 bits, of which the first and third were set above and the others are 0.
        if unsafe { ioctl_with_mut_ptr(device, DEVICE_GET_REGION_INFO, words.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        mappable &= !has_capability(&bytes, info.cap_offset.max(HEADER as u32), VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    }
    Ok(Found { offset: info.offset, size: info.size, mappable })
}

/// Whether the chain of capabilities that begins at `at` has one with this number.
fn has_capability(info: &[u8], mut at: u32, id: u32) -> bool {
    // id and version of 16 bits each, then the offset of the next: vfio_info_cap_header.
    const _: () = assert!(size_of::<vfio_info_cap_header>() == 8);
    // Each step goes forward, so the chain ends.
    loop {
        let start = at as usize;
        let Some(header) = info.get(start..start + 8) else { return false };
        if u32::from(u16::from_le_bytes([header[0], header[1]])) == id {
            return true;
        }
        let next = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if next <= at {
            return false;
        }
        at = next;
    }
}
