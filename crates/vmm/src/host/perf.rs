//! The tracepoint of stage-2 aborts, through perf: of this thread only, seen by nobody else, and gone with the process.
#![expect(unsafe_code, reason = "perf is a system call and a ring buffer shared with the kernel")]

use std::{
    fs,
    io::{self, ErrorKind},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr::null_mut,
    sync::atomic::{AtomicU64, Ordering},
};

use super::alarm::thread_id;
use crate::trace::{Fault, Format, last_sample};

/// Pages for records, a power of two. A run has a handful of aborts, one for each page it touches.
const PAGES: usize = 16;
/// Longest record of this tracepoint: with less room than that, one may have been lost.
const RECORD: u64 = 128;
/// Offsets in `struct perf_event_mmap_page`, the first page.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// `struct perf_event_attr` of include/uapi/linux/perf_event.h in its first version, PERF_ATTR_SIZE_VER0.
#[repr(C)]
#[derive(Default)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

/// The stage-2 aborts of the thread that opened it.
#[derive(Debug)]
pub(super) struct Trace {
    format: Format,
    thread: libc::pid_t,
    _event: OwnedFd,
    ring: *mut u8,
    page: usize,
}

impl Trace {
    pub(super) fn open() -> io::Result<Self> {
        let roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
        let read = |root| fs::read_to_string(format!("{root}/events/kvm/kvm_guest_fault/format")).ok();
        let text = roots.into_iter().find_map(read).ok_or(ErrorKind::NotFound)?;
        let format = Format::parse(&text).ok_or(ErrorKind::InvalidData)?;
        let attr = Attr {
            kind: 2, // PERF_TYPE_TRACEPOINT
            size: size_of::<Attr>() as u32,
            config: format.id,
            sample_period: 1,
            sample_type: 1 << 10, // PERF_SAMPLE_RAW
            ..Attr::default()
        };
        let thread = thread_id();
        const CLOEXEC: libc::c_ulong = 1 << 3;
        // SAFETY: the kernel reads `attr`, whose size it is told, and numbers: this thread, any CPU, no group.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, thread, -1, -1, CLOEXEC) };
        let fd = libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel made this descriptor just now, for us.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the call takes a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(|_| ErrorKind::Unsupported)?;
        let (size, protection) = ((1 + PAGES) * page, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing that exists.
        let ring = unsafe { libc::mmap(null_mut(), size, protection, libc::MAP_SHARED, event.as_raw_fd(), 0) };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { format, thread, _event: event, ring: ring.cast(), page })
    }

    /// Whether it is this thread's.
    pub(super) fn is_mine(&self) -> bool {
        self.thread == thread_id()
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both offsets are in the first page, which is mapped as long as `self`, and multiples of 8; the kernel
        // and this process access the two numbers there as whole words only.
        unsafe { AtomicU64::from_ptr(self.ring.add(offset).cast()) }
    }

    /// Forgets what was traced so far.
    pub(super) fn skip(&mut self) {
        let head = self.position(DATA_HEAD).load(Ordering::Acquire);
        self.position(DATA_TAIL).store(head, Ordering::Release);
    }

    /// The last abort since [`skip`](Self::skip); `None` where there was none or it may have been lost.
    pub(super) fn last(&mut self) -> Option<Fault> {
        let head = self.position(DATA_HEAD).load(Ordering::Acquire);
        let tail = self.position(DATA_TAIL).load(Ordering::Relaxed);
        let (used, size) = (head.wrapping_sub(tail), (PAGES * self.page) as u64);
        if used + RECORD > size {
            return None;
        }
        let byte = |at: u64| {
            let at = self.page + (at % size) as usize;
            // SAFETY: `at` is in the pages after the first, mapped as long as `self`. The kernel wrote the bytes from tail to
            // head before it moved the head, and writes none of them again before the tail moves.
            unsafe { self.ring.add(at).read() }
        };
        let records: Vec<u8> = (tail..head).map(byte).collect();
        last_sample(&records).and_then(|sample| self.format.fault(sample))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `open` with this size, and no reference into it outlives a method.
        unsafe { libc::munmap(self.ring.cast(), (1 + PAGES) * self.page) };
    }
}
