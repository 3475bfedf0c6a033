//! A time limit for a vCPU: a signal to this thread that makes KVM_RUN return EINTR.
#![expect(unsafe_code, reason = "timers and signal handlers are system calls that take pointers")]

use std::{mem::zeroed, ptr::null_mut, sync::OnceLock, time::Duration};

use super::last_error;
use crate::Error;

/// How soon the next signal follows. The first may come before the vCPU is in KVM_RUN, and would be lost.
const AGAIN: Duration = Duration::from_millis(5);

/// This thread, as the kernel numbers it.
///
/// By the system call: `std` refers to the C library's `gettid` weakly, and in a static musl program made with fat LTO that
/// weakness wins; the function is not linked, the call to it becomes a NOP, and the answer is whatever was in x0.
pub(super) fn thread_id() -> libc::pid_t {
    // SAFETY: it takes nothing and cannot fail.
    (unsafe { libc::syscall(libc::SYS_gettid) }) as libc::pid_t
}

/// Signals this thread after a time, and then again and again until it is dropped.
#[derive(Debug)]
pub(super) struct Alarm(libc::timer_t);

impl Alarm {
    pub(super) fn after(limit: Duration) -> Result<Self, Error> {
        let signal = signal()?;
        // SAFETY: all zeroes is a value of this plain C structure.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_notify_thread_id = thread_id();
        let mut timer = null_mut();
        // SAFETY: both pointers are to values that live through the call.
        if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) } != 0 {
            return Err(last_error("create a timer"));
        }
        let alarm = Self(timer);
        // SAFETY: all zeroes is a value of this plain C structure.
        let mut times: libc::itimerspec = unsafe { zeroed() };
        // A first time of zero would disarm the timer.
        let first = limit.max(Duration::from_nanos(1));
        times.it_value.tv_sec = first.as_secs().min(i32::MAX as u64) as _;
        times.it_value.tv_nsec = first.subsec_nanos().into();
        times.it_interval.tv_nsec = AGAIN.subsec_nanos().into();
        // SAFETY: the timer is the one just made, and the pointer is to a value that lives through the call.
        if unsafe { libc::timer_settime(alarm.0, 0, &raw const times, null_mut()) } != 0 {
            return Err(last_error("start a timer"));
        }
        Ok(alarm)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer was made by `after` and is deleted only here.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// The signal, with a handler that does nothing: being handled is what interrupts KVM_RUN.
fn signal() -> Result<libc::c_int, Error> {
    extern "C" fn nothing(_: libc::c_int) {}
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let signal = libc::SIGRTMIN() + 5;
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: all zeroes is a value of this plain C structure: no flags (no SA_RESTART), an empty mask.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler touches nothing, so it may run at any point; the pointer lives through the call.
        (unsafe { libc::sigaction(signal, &raw const action, null_mut()) }) == 0
    });
    if *installed { Ok(signal) } else { Err(last_error("install a signal handler")) }
}
