//! What the kernel itself says about a VM in its log.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
};

use super::alarm::thread_id;
use crate::log;

/// Longest record of the log (PRINTKRB_RECORD_MAX and its prefix).
const RECORD: usize = 8192;

/// The kernel's log, from a point in time on.
#[derive(Debug)]
pub(super) struct Log(File);

impl Log {
    pub(super) fn open() -> io::Result<Self> {
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").map(Self)
    }

    /// Leaves out everything said so far.
    pub(super) fn skip(&mut self) {
        // A log that cannot seek holds more than needed; the thread's number still tells whose a message is.
        let _ = self.0.seek(SeekFrom::End(0));
    }

    /// What KVM said about this thread since [`skip`](Self::skip).
    pub(super) fn about_this_thread(&mut self) -> Option<String> {
        let mut records = Vec::new();
        let mut buffer = [0; RECORD];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => records.push(String::from_utf8_lossy(&buffer[..n]).into_owned()),
                // EPIPE: the record was overwritten before it could be read; the next read is the oldest there is.
                Err(e) if e.kind() == ErrorKind::Interrupted || e.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => break,
            }
        }
        log::about(&records, thread_id().try_into().ok()?).map(Into::into)
    }
}
