//! A BAR in this process.
#![expect(unsafe_code, reason = "a BAR is memory that the compiler knows nothing of")]

use std::{cell::RefCell, fs::File, ops::Range, os::fd::AsRawFd, ptr};

use super::last_error;
use crate::Error;

/// A BAR, mapped as VFIO gives it out: on arm64 as Device-nGnRE or Device-nGnRnE, so every access must be aligned.
#[derive(Debug)]
pub(super) struct Mapping {
    at: *mut u64,
    size: usize,
    /// For each [`PAGE`], whether it is known to be all zeroes.
    clean: RefCell<Vec<bool>>,
}

/// What is zeroed at once. It need not be the size of a page of this host.
const PAGE: usize = 4096;

impl Mapping {
    /// Maps `size` bytes of `device` from `offset` on.
    pub(super) fn new(device: &File, offset: u64, size: u64) -> Result<Self, Error> {
        let what = || format!("map {size:#x} bytes of a BAR");
        let (Ok(offset), Ok(size)) = (libc::off_t::try_from(offset), usize::try_from(size)) else {
            return Err(super::system(what())(std::io::ErrorKind::InvalidInput.into()));
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = device.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing that exists.
        let at = unsafe { libc::mmap(ptr::null_mut(), size, protection, libc::MAP_SHARED, fd, offset) };
        if at == libc::MAP_FAILED {
            return Err(last_error(what()));
        }
        Ok(Self { at: at.cast(), size, clean: RefCell::new(vec![false; size.div_ceil(PAGE)]) })
    }

    /// Its first address.
    pub(super) fn address(&self) -> u64 {
        self.at as u64
    }

    /// Its bytes.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// The pages that hold any of `size` bytes from `offset` on, as far as they are in the BAR.
    fn pages(&self, offset: u64, size: u64) -> Range<usize> {
        let last = self.size.div_ceil(PAGE);
        let page = |byte: u64| usize::try_from(byte / PAGE as u64).unwrap_or(usize::MAX).min(last);
        page(offset)..page(offset.saturating_add(size).saturating_add(PAGE as u64 - 1))
    }

    /// Zeroes the pages that hold any of `size` bytes from `offset` on, but those that are known to be zero.
    pub(super) fn zero(&self, offset: u64, size: u64) {
        let mut clean = self.clean.borrow_mut();
        for page in self.pages(offset, size).filter(|page| !std::mem::replace(&mut clean[*page], true)) {
            for word in page * PAGE / 8..((page + 1) * PAGE).min(self.size) / 8 {
                // SAFETY: `word` is below the number of words of the mapping, which lives as long as `self`. A BAR is
                // shared with the device, hence volatile; 8 bytes at a multiple of 8, as Device memory demands.
                unsafe { self.at.add(word).write_volatile(0) };
            }
        }
        // The guest may look at the same bytes as Normal memory: these stores must be there first.
        // SAFETY: a barrier changes neither memory nor registers.
        unsafe { std::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
    }

    /// Notes that a guest may store to any of `size` bytes from `offset` on.
    pub(super) fn soil(&self, offset: u64, size: u64) {
        let pages = self.pages(offset, size);
        self.clean.borrow_mut()[pages].fill(false);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this size, and nobody keeps its address beyond `self`: a VM that has
        // it as a memory slot holds a reference to `self`.
        unsafe { libc::munmap(self.at.cast(), self.size) };
    }
}
