//! The three calls of the kernel that have no safe form: mmap, ioctl, eventfd.
#![expect(unsafe_code, reason = "mmap, ioctl, eventfd")]

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

/// Memory that was mapped from a file, shared, until it is dropped.
#[derive(Debug)]
pub(crate) struct Vma {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns addresses, not data: what is behind them is reached through raw pointers, by whoever promises to do it right.
unsafe impl Send for Vma {}
// SAFETY: as above.
unsafe impl Sync for Vma {}

impl Vma {
    /// Maps `len` bytes of a file from `offset` on; to read, or to write too. Never to execute, never private.
    pub(crate) fn new(file: BorrowedFd<'_>, offset: u64, len: usize, writable: bool) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing that exists.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), offset) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))?;
        Ok(Self { at, len })
    }
    /// Its first address.
    pub(crate) const fn start(&self) -> *mut u8 {
        self.at.as_ptr()
    }
    /// The address of its byte at `offset`; nothing if that is not within.
    pub(crate) fn at(&self, offset: usize) -> Option<*mut u8> {
        // SAFETY: the offset is within the mapping.
        (offset < self.len).then(|| unsafe { self.at.as_ptr().add(offset) })
    }
    /// Bytes.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Vma {
    fn drop(&mut self) {
        // SAFETY: `new` mapped just this, and what was given out of it is bound to the life of `self`.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

/// An ioctl whose argument is a number, or none.
///
/// # Safety
/// The request takes no pointer.
pub(crate) unsafe fn ioctl_value(file: BorrowedFd<'_>, request: u32, value: c_long) -> io::Result<c_int> {
    #[allow(clippy::cast_lossless, reason = "the type of a request differs by C library")]
    // SAFETY: the caller's promise.
    done(unsafe { libc::ioctl(file.as_raw_fd(), request as _, value) })
}

/// An ioctl whose argument is a pointer.
///
/// # Safety
/// What it points to is what the request takes, as large as it says it is.
pub(crate) unsafe fn ioctl<T>(file: BorrowedFd<'_>, request: u32, argument: *mut T) -> io::Result<c_int> {
    #[allow(clippy::cast_lossless, reason = "the type of a request differs by C library")]
    // SAFETY: the caller's promise.
    done(unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument.cast::<c_void>()) })
}

fn done(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes a descriptor that the kernel returned.
///
/// # Safety
/// It was made just now, and nobody else has it.
pub(crate) unsafe fn own(fd: c_int) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// An eventfd that never blocks.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointer is taken.
    let fd = done(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: made just now.
    Ok(unsafe { own(fd) })
}

/// Whether there is something to read, without waiting for it.
pub(crate) fn readable(file: BorrowedFd<'_>) -> bool {
    let mut one = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, as it is told.
    let ready = unsafe { libc::poll(&raw mut one, 1, 0) };
    ready == 1 && one.revents & libc::POLLIN != 0
}
