//! A device, opened through VFIO.
#![expect(unsafe_code, reason = "VFIO is spoken to by ioctl")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, c_int, c_long};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use platform::Bdf;
use vfio_bindings::bindings::vfio as uapi;

use super::{Opened, OpenedRegion, capabilities};
use crate::sys::{self, Vma};
use crate::{Why, text};

/// VFIO's requests are `_IO(';', 100 + n)` (include/uapi/linux/vfio.h). On Power `_IO` sets a bit.
const fn request(n: u32) -> u32 {
    let none = if cfg!(any(target_arch = "powerpc64", target_arch = "powerpc")) { 1 << 29 } else { 0 };
    none | (uapi::VFIO_TYPE as u32) << 8 | (uapi::VFIO_BASE + n)
}
const GET_API_VERSION: u32 = request(0);
const CHECK_EXTENSION: u32 = request(1);
const SET_IOMMU: u32 = request(2);
const GROUP_GET_STATUS: u32 = request(3);
const GROUP_SET_CONTAINER: u32 = request(4);
const GROUP_GET_DEVICE_FD: u32 = request(6);
const DEVICE_GET_REGION_INFO: u32 = request(8);
const DEVICE_SET_IRQS: u32 = request(10);
const DEVICE_FEATURE: u32 = request(17);
const DEVICE_BIND_IOMMUFD: u32 = request(18);

/// Offset of the command register in configuration space, and its Memory Space Enable bit (PCI 3.0, 6.2.2).
pub mod command {
    /// Where it is.
    pub const AT: u64 = 4;
    /// The device answers at its BARs.
    pub const MEMORY: u16 = 1 << 1;
}

/// The largest answer to a question about a region that is believed.
const MAX_INFO: u32 = 1 << 16;

/// How a device was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum By {
    /// `/dev/vfio/GROUP` and a container.
    Group,
    /// `/dev/vfio/devices/vfioN` and iommufd.
    Cdev,
}

impl By {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Cdev => "cdev",
        }
    }
}

/// What VFIO says of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Bytes.
    pub size: u64,
    /// Where it is in the device's file.
    pub offset: u64,
    /// `VFIO_REGION_INFO_FLAG_MMAP`.
    pub mmap: bool,
    /// `VFIO_REGION_INFO_FLAG_WRITE`.
    pub write: bool,
    /// The parts that may be mapped, as (offset, size), where not all may.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Region {
    /// Whether all of these bytes may be mapped. A BAR that is smaller than a page may be mapped to the page's end.
    #[must_use]
    pub fn maps(&self, offset: u64, size: u64) -> bool {
        let Some(end) = offset.checked_add(size) else { return false };
        let within = |&(at, size): &(u64, u64)| at <= offset && end <= at.saturating_add(size);
        self.mmap && self.sparse.as_ref().is_none_or(|areas| areas.iter().any(within))
    }
}

/// A group, in a container of its own.
#[derive(Debug)]
struct Group {
    // Closed in this order.
    group: File,
    _container: File,
    enforces_coherency: Option<bool>,
}

/// An opened device. Closed in the order of the fields.
#[derive(Debug)]
struct Inner {
    file: File,
    key: (PathBuf, Bdf),
    by: By,
    /// VFIO_PCI_REQ_IRQ_INDEX: the kernel asks for the device back.
    asks_back: Option<Arc<OwnedFd>>,
    /// Memory Space Enable was off, and is on for us.
    enabled: Mutex<bool>,
    group: Option<Arc<Group>>,
    _iommufd: Option<File>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if *locked(&self.enabled) {
            // The device may be gone by now: then there is nothing to restore.
            let _ = self.change_command(|now| now & !command::MEMORY);
        }
    }
}

/// A device that is open through VFIO. Clones are the same opening; a second opening in this process is too, as the kernel gives a
/// group to one opener only.
#[derive(Debug)]
pub struct Device(Option<Arc<Inner>>);

#[derive(Default)]
struct Open {
    devices: BTreeMap<(PathBuf, Bdf), Arc<Inner>>,
    groups: BTreeMap<(PathBuf, u32), Weak<Group>>,
}

static OPEN: Mutex<Open> = Mutex::new(Open { devices: BTreeMap::new(), groups: BTreeMap::new() });

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clone for Device {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The last one closes the device with the lock held, so that nobody opens it again before it is closed.
impl Drop for Device {
    fn drop(&mut self) {
        let mut open = locked(&OPEN);
        if let Some(inner) = self.0.take() {
            // One in the table, one here.
            if Arc::strong_count(&inner) == 2 {
                open.devices.remove(&inner.key);
            }
            drop(inner);
        }
        open.groups.retain(|_, group| group.strong_count() > 0);
    }
}

impl Device {
    /// Opens a function of this machine by whichever of group and cdev there is. Opening resets it, if it can be.
    ///
    /// # Errors
    /// Neither way works: why, of the group; of the cdev if there is no group.
    pub fn open(bdf: Bdf) -> Result<Self, Why> {
        let root = Path::new("/");
        Self::open_by(root, bdf, By::Group).or_else(|why| Self::open_by(root, bdf, By::Cdev).map_err(|_| why))
    }

    pub(crate) fn open_by(root: &Path, bdf: Bdf, by: By) -> Result<Self, Why> {
        let mut open = locked(&OPEN);
        let key = (root.to_path_buf(), bdf);
        if let Some(inner) = open.devices.get(&key) {
            return match inner.by {
                is if is == by => Ok(Self(Some(Arc::clone(inner)))),
                is => Err(Why::no(format!("it is open in this process as a {}", is.name()), "")),
            };
        }
        let (file, group, iommufd) = match by {
            By::Group => {
                let group = join(&mut open, root, bdf)?;
                (device_of(&group, bdf)?, Some(group), None)
            }
            By::Cdev => {
                let (file, iommufd) = cdev(root, bdf)?;
                (file, None, Some(iommufd))
            }
        };
        let asks_back = watch(&file).ok().map(Arc::new);
        let enabled = Mutex::new(false);
        let inner = Inner { file, key: key.clone(), by, asks_back, enabled, group, _iommufd: iommufd };
        let inner = Arc::new(inner);
        open.devices.insert(key, Arc::clone(&inner));
        Ok(Self(Some(inner)))
    }

    /// The opening that this process has of it, if it has one.
    pub(crate) fn of(root: &Path, bdf: Bdf) -> Option<Self> {
        locked(&OPEN).devices.get(&(root.to_path_buf(), bdf)).map(|inner| Self(Some(Arc::clone(inner))))
    }

    fn inner(&self) -> Option<&Inner> {
        self.0.as_deref()
    }

    /// The device's file, if it is open: it is until it is dropped.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        self.inner().map(|inner| &inner.file)
    }

    /// What VFIO says of a region: 0 to 5 the BARs, 7 configuration space.
    ///
    /// # Errors
    /// The kernel's.
    pub fn region(&self, index: u32) -> io::Result<Region> {
        region(self.file().ok_or(io::ErrorKind::NotConnected)?, index)
    }

    /// Lets the device answer at its BARs, until it is closed. Without it an access is a SIGBUS.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enable_memory(&self) -> io::Result<()> {
        let inner = self.inner().ok_or(io::ErrorKind::NotConnected)?;
        let mut enabled = locked(&inner.enabled);
        let before = inner.change_command(|now| now | command::MEMORY)?;
        *enabled |= before & command::MEMORY == 0;
        Ok(())
    }

    /// Reads configuration space, as VFIO shows it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn config(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let inner = self.inner().ok_or(io::ErrorKind::NotConnected)?;
        let config = region(&inner.file, uapi::VFIO_PCI_CONFIG_REGION_INDEX)?;
        inner.file.read_exact_at(into, config.offset.saturating_add(at))
    }

    /// By which the kernel says that it wants the device back; nothing if this kernel has no such interrupt.
    pub(crate) fn asks_back(&self) -> Option<Arc<OwnedFd>> {
        self.inner()?.asks_back.clone()
    }

    /// Whether the kernel has VFIO_DEVICE_FEATURE_DMA_BUF: a behaviour, asked by VFIO_DEVICE_FEATURE_PROBE.
    ///
    /// # Errors
    /// ENOTTY where it has not.
    pub(crate) fn exports_dma_buf(&self) -> io::Result<()> {
        let flags = uapi::VFIO_DEVICE_FEATURE_PROBE | uapi::VFIO_DEVICE_FEATURE_GET | uapi::VFIO_DEVICE_FEATURE_DMA_BUF;
        let mut feature = [8u32, flags];
        let file = self.file().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: a vfio_device_feature without data: argsz, which says 8 bytes, and flags.
        unsafe { sys::ioctl(file.as_fd(), DEVICE_FEATURE, feature.as_mut_ptr()) }.map(drop)
    }

    /// Whether what [`exports_dma_buf`](Self::exports_dma_buf) gives can be mapped: one page of a BAR is exported and mapped, and not touched.
    pub(crate) fn maps_dma_buf(&self, index: u32, page: usize) -> io::Result<()> {
        const DATA: u32 = 8 + 16 + 16;
        let mut words = [0u64; DATA as usize / 8];
        let pair = |low: u32, high: u32| {
            let mut both = [0; 8];
            both[..4].copy_from_slice(&low.to_ne_bytes());
            both[4..].copy_from_slice(&high.to_ne_bytes());
            u64::from_ne_bytes(both)
        };
        words[0] = pair(DATA, uapi::VFIO_DEVICE_FEATURE_GET | uapi::VFIO_DEVICE_FEATURE_DMA_BUF);
        words[1] = pair(index, (libc::O_RDWR | libc::O_CLOEXEC).cast_unsigned());
        words[2] = pair(0, 1);
        words[4] = page as u64;
        let file = self.file().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: a vfio_device_feature of DATA bytes, with a vfio_device_feature_dma_buf of one range.
        let fd = unsafe { sys::ioctl(file.as_fd(), DEVICE_FEATURE, words.as_mut_ptr()) }?;
        // SAFETY: a new descriptor is what the call returns.
        let buffer = unsafe { sys::own(fd) };
        Vma::new(buffer.as_fd(), 0, page, false).map(drop)
    }
}

impl Inner {
    /// Writes the command register, and says what it was.
    fn change_command(&self, change: impl FnOnce(u16) -> u16) -> io::Result<u16> {
        let config = region(&self.file, uapi::VFIO_PCI_CONFIG_REGION_INDEX)?;
        let at = config.offset.saturating_add(command::AT);
        let mut bytes = [0; 2];
        self.file.read_exact_at(&mut bytes, at)?;
        let before = u16::from_le_bytes(bytes);
        let after = change(before);
        if after != before {
            self.file.write_all_at(&after.to_le_bytes(), at)?;
        }
        Ok(before)
    }
}

fn open_file(path: &Path, remedy: impl FnOnce(&io::Error) -> String) -> Result<File, Why> {
    let file = File::options().read(true).write(true).open(path);
    file.map_err(|error| Why::system(path.display().to_string(), &error, remedy(&error)))
}

/// The path in this machine's tree, as people know it.
fn under(root: &Path, path: &str) -> PathBuf {
    root.join(path)
}

/// The name of the driver a function is bound to.
pub(crate) fn driver(root: &Path, bdf: Bdf) -> Option<String> {
    let link = fs::read_link(under(root, &format!("sys/bus/pci/devices/{bdf}/driver"))).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// How to have VFIO take a device.
pub(crate) fn bind(root: &Path, bdf: Bdf) -> String {
    let (bound, release) = match driver(root, bdf) {
        Some(driver) if driver.contains("vfio") => return "load the module that makes the file, or run udev".into(),
        Some(driver) => {
            (format!(", it is bound to {driver}"), format!("\necho {bdf} > /sys/bus/pci/devices/{bdf}/driver/unbind"))
        }
        None => (String::new(), String::new()),
    };
    format!(
        "bind it to vfio-pci{bound}:{release}\necho vfio-pci > /sys/bus/pci/devices/{bdf}/driver_override\n\
         echo {bdf} > /sys/bus/pci/drivers_probe"
    )
}

fn help(error: &io::Error, root: &Path, bdf: Bdf) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => bind(root, bdf),
        Some(libc::EACCES | libc::EPERM) => "run as root, or let a udev rule give you the file".into(),
        Some(libc::EBUSY) => "another program has it open: close that first".into(),
        _ => String::new(),
    }
}

/// The group of a function, opened and in a container.
fn join(open: &mut Open, root: &Path, bdf: Bdf) -> Result<Arc<Group>, Why> {
    let link = under(root, &format!("sys/bus/pci/devices/{bdf}/iommu_group"));
    let number = fs::read_link(&link).map_err(|error| {
        let remedy = "no IOMMU is in front of it: turn it on in the firmware and the kernel (intel_iommu=on), or, without protection, \
                      enable_unsafe_noiommu_mode of the module vfio";
        Why::system(link.display().to_string(), &error, remedy)
    })?;
    let number = number.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let number = number.ok_or_else(|| Why::no(format!("{}: no number of a group", link.display()), ""))?;
    let key = (root.to_path_buf(), number);
    if let Some(group) = open.groups.get(&key).and_then(Weak::upgrade) {
        return Ok(group);
    }

    let plain = under(root, &format!("dev/vfio/{number}"));
    let unsafe_one = under(root, &format!("dev/vfio/noiommu-{number}"));
    let without = !plain.exists() && unsafe_one.exists();
    let path = if without { unsafe_one } else { plain };
    let group = open_file(&path, |error| help(error, root, bdf))?;
    let container = open_file(&under(root, "dev/vfio/vfio"), |error| match error.raw_os_error() {
        Some(libc::ENOENT) => {
            "load the module vfio; a kernel without containers (CONFIG_VFIO_CONTAINER) has only the cdev".into()
        }
        _ => help(error, root, bdf),
    })?;
    // SAFETY: the request takes no argument.
    let version = unsafe { sys::ioctl_value(container.as_fd(), GET_API_VERSION, 0) };
    if version.as_ref().ok().map(|v| v.cast_unsigned()) != Some(uapi::VFIO_API_VERSION) {
        return Err(Why::no(format!("VFIO_GET_API_VERSION answers {version:?}, which is not known"), ""));
    }
    let mut status = uapi::vfio_group_status { argsz: size_of::<uapi::vfio_group_status>() as u32, flags: 0 };
    // SAFETY: the kernel writes a vfio_group_status, whose size it is told, to one.
    unsafe { sys::ioctl(group.as_fd(), GROUP_GET_STATUS, &raw mut status) }
        .map_err(|error| Why::system(format!("VFIO_GROUP_GET_STATUS of group {number}"), &error, ""))?;
    if status.flags & uapi::VFIO_GROUP_FLAGS_VIABLE == 0 {
        return Err(not_viable(root, number));
    }
    let mut fd: c_int = container.as_raw_fd();
    // SAFETY: the kernel reads one int, the container's descriptor.
    unsafe { sys::ioctl(group.as_fd(), GROUP_SET_CONTAINER, &raw mut fd) }.map_err(|error| {
        Why::system(format!("VFIO_GROUP_SET_CONTAINER of group {number}"), &error, set_remedy(&error, without))
    })?;
    let kinds =
        if without { vec![uapi::VFIO_NOIOMMU_IOMMU] } else { vec![uapi::VFIO_TYPE1v2_IOMMU, uapi::VFIO_TYPE1_IOMMU] };
    // SAFETY: the argument is a number.
    let has = |kind: u32| unsafe { sys::ioctl_value(container.as_fd(), CHECK_EXTENSION, c_long::from(kind)) };
    let Some(kind) = kinds.into_iter().find(|kind| has(*kind).is_ok_and(|yes| yes > 0)) else {
        return Err(Why::no("the container has no type-1 IOMMU", "load the module vfio_iommu_type1"));
    };
    // SAFETY: as above.
    unsafe { sys::ioctl_value(container.as_fd(), SET_IOMMU, c_long::from(kind)) }
        .map_err(|error| Why::system("VFIO_SET_IOMMU", &error, set_remedy(&error, without)))?;
    let enforces_coherency = (!without).then(|| has(uapi::VFIO_DMA_CC_IOMMU).ok().map(|yes| yes > 0)).flatten();
    let group = Arc::new(Group { group, _container: container, enforces_coherency });
    open.groups.insert(key, Arc::downgrade(&group));
    Ok(group)
}

fn set_remedy(error: &io::Error, without_iommu: bool) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) if without_iommu => {
            "without an IOMMU it needs CAP_SYS_RAWIO; with one, interrupts are not isolated: allow_unsafe_interrupts of vfio_iommu_type1"
        }
        Some(libc::EPERM) => {
            "interrupts are not isolated (no interrupt remapping): allow_unsafe_interrupts=1 of vfio_iommu_type1"
        }
        Some(libc::EINVAL) => {
            "the IOMMU does not say IOMMU_CAP_CACHE_COHERENCY, or a driver of the kernel has the group"
        }
        _ => "",
    }
}

/// Which functions are in the way.
fn not_viable(root: &Path, group: u32) -> Why {
    let members = fs::read_dir(under(root, &format!("sys/kernel/iommu_groups/{group}/devices")));
    let names =
        members.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<Bdf>().ok());
    // vfio_dev_viable() of Linux lets pass what has no driver, and pci-stub; pcieport where it is a bridge.
    let others: BTreeSet<_> = names
        .filter_map(|bdf| Some((bdf, driver(root, bdf)?)))
        .filter(|(_, driver)| !driver.contains("vfio") && driver != "pci-stub" && driver != "pcieport")
        .map(|(bdf, driver)| format!("{bdf} is bound to {driver}"))
        .collect();
    let others: Vec<_> = others.into_iter().collect();
    let what = format!(
        "group {group} is not viable: {}",
        if others.is_empty() { "a function in it has another driver".into() } else { others.join(", ") }
    );
    Why::no(what, "unbind all functions of the group, or bind them to vfio-pci")
}

fn device_of(group: &Group, bdf: Bdf) -> Result<File, Why> {
    let name = CString::new(bdf.to_string()).unwrap_or_default();
    // SAFETY: the argument is a string with its final zero, which the kernel only reads.
    let fd = unsafe { sys::ioctl(group.group.as_fd(), GROUP_GET_DEVICE_FD, name.as_ptr().cast_mut()) };
    let fd = fd.map_err(|error| {
        Why::system(
            format!("VFIO_GROUP_GET_DEVICE_FD of {bdf}"),
            &error,
            match error.raw_os_error() {
                Some(libc::ENODEV) => "it is in the group, but not bound to vfio-pci",
                _ => "",
            },
        )
    })?;
    // SAFETY: the kernel made this descriptor just now, for us.
    Ok(File::from(unsafe { sys::own(fd) }))
}

/// The cdev of a function and an iommufd it is bound to. It is attached to no page table: it can be mapped, and does no DMA.
fn cdev(root: &Path, bdf: Bdf) -> Result<(File, File), Why> {
    let folder = under(root, &format!("sys/bus/pci/devices/{bdf}/vfio-dev"));
    let name = fs::read_dir(&folder).map(|all| {
        let mut names = all.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.find(|name| name.starts_with("vfio"))
    });
    let name = name.map_err(|error| Why::system(folder.display().to_string(), &error, help(&error, root, bdf)))?;
    let name = name.ok_or_else(|| Why::no(format!("{}: it has no cdev", folder.display()), ""))?;
    let file = open_file(&under(root, &format!("dev/vfio/devices/{name}")), |error| match error.raw_os_error() {
        Some(libc::ENOENT) => "this kernel has no cdevs (CONFIG_VFIO_DEVICE_CDEV)".into(),
        _ => help(error, root, bdf),
    })?;
    let iommufd = open_file(&under(root, "dev/iommu"), |error| match error.raw_os_error() {
        Some(libc::ENOENT) => "load the module iommufd (CONFIG_IOMMUFD)".into(),
        _ => help(error, root, bdf),
    })?;
    // As large as it was when it came; what is newer is not used.
    let mut bind = uapi::vfio_device_bind_iommufd { argsz: 16, iommufd: iommufd.as_raw_fd(), ..Default::default() };
    // SAFETY: a vfio_device_bind_iommufd, of which the kernel reads and writes the 16 bytes it is told of.
    unsafe { sys::ioctl(file.as_fd(), DEVICE_BIND_IOMMUFD, &raw mut bind) }
        .map_err(|error| Why::system(format!("VFIO_DEVICE_BIND_IOMMUFD of {bdf}"), &error, help(&error, root, bdf)))?;
    Ok((file, iommufd))
}

/// Has the kernel signal when it wants the device back.
fn watch(device: &File) -> io::Result<OwnedFd> {
    let event = sys::eventfd()?;
    let fd = event.as_raw_fd();
    let flags = uapi::VFIO_IRQ_SET_DATA_EVENTFD | uapi::VFIO_IRQ_SET_ACTION_TRIGGER;
    // argsz, flags, index, start, count, and one descriptor.
    let mut set = [24, flags, uapi::VFIO_PCI_REQ_IRQ_INDEX, 0, 1, fd.cast_unsigned()];
    // SAFETY: a vfio_irq_set of 24 bytes, as it says, with the data that its flags and count say.
    unsafe { sys::ioctl(device.as_fd(), DEVICE_SET_IRQS, set.as_mut_ptr()) }?;
    Ok(event)
}

fn region(device: &File, index: u32) -> io::Result<Region> {
    const HEADER: usize = size_of::<uapi::vfio_region_info>();
    let mut info = uapi::vfio_region_info { argsz: HEADER as u32, index, ..Default::default() };
    // SAFETY: the kernel writes a vfio_region_info, whose size it is told, to one.
    unsafe { sys::ioctl(device.as_fd(), DEVICE_GET_REGION_INFO, &raw mut info) }?;
    let mut found = Region {
        size: info.size,
        offset: info.offset,
        mmap: info.flags & uapi::VFIO_REGION_INFO_FLAG_MMAP != 0,
        write: info.flags & uapi::VFIO_REGION_INFO_FLAG_WRITE != 0,
        sparse: None,
    };
    if info.flags & uapi::VFIO_REGION_INFO_FLAG_CAPS != 0 && info.argsz as usize > HEADER {
        let argsz = info.argsz.min(MAX_INFO);
        // Words: the header is of them.
        let mut words = vec![0u32; (argsz as usize).div_ceil(8) * 2];
        (words[0], words[2]) = (argsz, index);
        // SAFETY: the kernel writes at most `argsz` bytes, and so many there are; it reads argsz, flags, index and cap_offset, each of
        // 32 bits, of which the first and third were set above and the others are 0. Every bit pattern is a word.
        unsafe { sys::ioctl(device.as_fd(), DEVICE_GET_REGION_INFO, words.as_mut_ptr()) }?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        found.sparse = capabilities(&bytes, words[3].max(HEADER as u32)).sparse;
    }
    Ok(found)
}

/// Whether the kernel wants the device back, or it is gone.
#[derive(Debug, Clone)]
pub struct Removal {
    pub(crate) event: Option<Arc<OwnedFd>>,
    pub(crate) folder: PathBuf,
}

impl Removal {
    /// Whether it does, or is. Everything of the device has to be dropped then; a driver's removal waits for it.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.event.as_ref().is_some_and(|event| sys::readable(event.as_fd())) || !self.folder.exists()
    }
    /// What becomes readable when it does, to poll. Only VFIO says so; of a sysfs mapping the device's folder goes away, and accesses
    /// are SIGBUS.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.event.as_ref().map(|event| event.as_fd())
    }
}

pub(super) fn ask(bdf: Bdf) -> Result<Opened, String> {
    let device = Device::open(bdf).map_err(|why| match why.remedy() {
        "" => why.to_string(),
        remedy => format!("{why}; {remedy}"),
    })?;
    let inner = device.inner().ok_or("it is closed")?;
    let page = crate::cpu::page_size();
    let mut regions = BTreeMap::new();
    for index in uapi::VFIO_PCI_BAR0_REGION_INDEX..=uapi::VFIO_PCI_BAR5_REGION_INDEX {
        let region =
            device.region(index).map_err(|error| format!("VFIO_DEVICE_GET_REGION_INFO of BAR {index}: {error}"))?;
        if region.size == 0 {
            continue;
        }
        let first = region.sparse.as_ref().map_or(Some(0), |areas| areas.first().map(|(offset, _)| *offset));
        let vm_flags = first.filter(|_| region.mmap).and_then(|first| {
            // A page is enough: what is asked is how a mapping is made.
            let vma = Vma::new(inner.file.as_fd(), region.offset.saturating_add(first), page, region.write).ok()?;
            flags_of(&vma)
        });
        regions.insert(index, OpenedRegion { size: region.size, mmap: region.mmap, sparse: region.sparse, vm_flags });
    }
    let mut attributes = Vec::new();
    if device.exports_dma_buf().is_ok() {
        attributes.push("dma-buf-export".into());
        let mappable = regions.iter().find(|(_, region)| region.vm_flags.is_some());
        if mappable.is_some_and(|(index, _)| device.maps_dma_buf(*index, page).is_ok()) {
            attributes.push("dma-buf-mmap".into());
        }
    }
    let enforces_coherency = inner.group.as_ref().and_then(|group| group.enforces_coherency);
    Ok(Opened { by: inner.by.name().into(), enforces_coherency, regions, attributes })
}

/// `VmFlags` of a mapping.
pub(crate) fn flags_of(vma: &Vma) -> Option<String> {
    let smaps = fs::read_to_string("/proc/self/smaps").ok()?;
    text::vm_flags(&smaps, vma.start() as u64).map(String::from)
}
