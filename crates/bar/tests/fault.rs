//! Faults are caught where they are ours, and are others' where they are not.
#![cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![expect(unsafe_code, reason = "mappings that fault, and handlers")]

use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::ptr;

use bar::cpu::{Features, page_size};
use bar::fault::{self, Curve, Fault, Idiom, Width};

struct Mapping(*mut u8, usize);

impl Mapping {
    fn new(len: usize, protection: i32, file: Option<&std::fs::File>) -> Self {
        let (flags, fd) =
            file.map_or((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1), |f| (libc::MAP_SHARED, f.as_raw_fd()));
        // SAFETY: a new mapping.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Self(at.cast(), len)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap, used no more.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}

const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

#[test]
fn what_works_answers() {
    let memory = Mapping::new(page_size(), RW, None);
    // SAFETY: within the mapping.
    unsafe {
        fault::store(memory.0.add(8), Width::U64, 0x1122_3344_5566_7788).unwrap();
        for (width, value) in Width::ALL.into_iter().zip([0x88, 0x7788, 0x5566_7788, 0x1122_3344_5566_7788]) {
            assert_eq!(fault::load(memory.0.add(8), width), Ok(value));
            fault::store(memory.0.add(64), Width::U64, u64::MAX).unwrap();
            fault::store(memory.0.add(64), width, 0).unwrap();
            let left = u64::MAX.checked_shl(8 * width.bytes() as u32).unwrap_or(0);
            assert_eq!(fault::load(memory.0.add(64), Width::U64), Ok(left));
        }
    }
}

/// Each idiom stores what it is to, from the first byte to the last.
#[test]
fn idioms() {
    let memory = Mapping::new(page_size(), RW, None);
    for &idiom in Idiom::ALL {
        // ST64B is refused on memory that is cached.
        if idiom == Idiom::Wide && (!Features::detect().store64() || cfg!(target_arch = "aarch64")) {
            continue;
        }
        // SAFETY: within the mapping, at multiples of 64.
        let bytes = unsafe {
            ptr::write_bytes(memory.0, 0x11, 512);
            fault::fill(memory.0.add(64), 192, idiom, 0xa5a5_a5a5_a5a5_a5a5).unwrap();
            fault::fill(memory.0.add(64), 0, idiom, 0).unwrap();
            std::slice::from_raw_parts(memory.0, 512)
        };
        let expected: Vec<u8> = (0..512).map(|i| if (64..256).contains(&i) { 0xa5 } else { 0x11 }).collect();
        assert_eq!(bytes, expected, "{idiom:?}");
    }
    for kind in [Curve::Plain, Curve::Fenced, Curve::Stream, Curve::StreamFenced] {
        // SAFETY: within the mapping.
        let bytes = unsafe {
            ptr::write_bytes(memory.0, 0x11, 128);
            fault::curve(memory.0.add(8), 5, 3, kind, u64::MAX).unwrap();
            std::slice::from_raw_parts(memory.0, 128)
        };
        assert!((0..128).all(|i| (bytes[i] == 0xff) == (8..48).contains(&i)), "{kind:?}");
    }
    // SAFETY: within the mapping.
    unsafe { fault::chase(memory.0, 10) }.unwrap();
}

#[test]
fn no_access_is_a_segmentation_fault() {
    let memory = Mapping::new(page_size(), libc::PROT_NONE, None);
    for width in Width::ALL {
        // SAFETY: it faults.
        let (load, store) = unsafe { (fault::load(memory.0.add(16), width), fault::store(memory.0.add(16), width, 1)) };
        let expected = Fault { signal: libc::SIGSEGV, code: 2, address: memory.0 as u64 + 16 };
        assert_eq!((load, store), (Err(expected), Err(expected)));
        assert_eq!(expected.to_string(), "SIGSEGV SEGV_ACCERR");
    }
}

#[test]
fn nothing_mapped() {
    let at = Mapping::new(page_size(), RW, None).0;
    // SAFETY: it was unmapped just now; whatever another thread has mapped there is not harmed by a load.
    if let Err(fault) = unsafe { fault::load(at, Width::U32) } {
        assert_eq!((fault.signal, fault.code), (libc::SIGSEGV, 1));
    }
}

/// A file that became shorter under its mapping: a BAR whose device went away looks the same. Every way to store is caught, in the
/// middle of its loop.
#[test]
fn a_mapping_beyond_its_file_is_a_bus_error() {
    let page = page_size();
    let path = std::env::temp_dir().join(format!("bar-fault-{}", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.set_len(2 * page as u64).unwrap();
    let memory = Mapping::new(2 * page, RW, Some(&file));
    // SAFETY: within the mapping.
    assert_eq!(unsafe { fault::load(memory.0.add(page), Width::U8) }, Ok(0));
    file.set_len(page as u64).unwrap();
    let expected = Fault { signal: libc::SIGBUS, code: 2, address: memory.0 as u64 + page as u64 };
    // SAFETY: what is mapped is written, the rest faults.
    unsafe {
        assert_eq!(fault::load(memory.0.add(page), Width::U64), Err(expected));
        assert_eq!(expected.to_string(), "SIGBUS BUS_ADRERR");
        assert!(!expected.is_alignment());
        for &idiom in Idiom::ALL.iter().filter(|i| **i != Idiom::Wide) {
            let fault = fault::fill(memory.0.add(page - 128), 256, idiom, 7).unwrap_err();
            assert_eq!(fault.address, expected.address, "{idiom:?}");
        }
        for kind in [Curve::Plain, Curve::Fenced, Curve::Stream, Curve::StreamFenced] {
            assert_eq!(fault::curve(memory.0.add(page - 16), 4, 9, kind, 7), Err(expected));
        }
        assert_eq!(fault::chase(memory.0.add(page), 2), Err(expected));
        assert_eq!(fault::load(memory.0, Width::U8), Ok(0));
    }
}

/// Two threads that fault all the time do not disturb each other, nor a third that does not fault.
#[test]
fn threads() {
    let none = Mapping::new(page_size(), libc::PROT_NONE, None);
    let some = Mapping::new(page_size(), RW, None);
    let (none, some) = (none.0 as usize, some.0 as usize);
    std::thread::scope(|scope| {
        for thread in 0..2usize {
            scope.spawn(move || {
                for i in 0..20_000 {
                    let at = none + 8 * (i % 400) + thread;
                    // SAFETY: it faults.
                    let fault = unsafe { fault::load(at as *const u8, Width::U32) }.unwrap_err();
                    assert_eq!((fault.signal, fault.address), (libc::SIGSEGV, at as u64));
                }
            });
        }
        scope.spawn(move || {
            for i in 0..200_000u64 {
                // SAFETY: this memory is only used here.
                let back = unsafe {
                    fault::store(some as *mut u8, Width::U64, i).unwrap();
                    fault::load(some as *const u8, Width::U64)
                };
                assert_eq!(back, Ok(i));
            }
        });
    });
}

const CHILD: &str = "BAR_FAULT_CHILD";

fn child(what: &str) -> std::process::ExitStatus {
    let test = std::env::current_exe().unwrap();
    let mut command = Command::new(test);
    command.args(["--exact", "in_a_child", "--nocapture", "--test-threads=1"]).env(CHILD, what);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
}

extern "C" fn before(_: i32) {
    // SAFETY: ends the process, and may be called in a handler.
    unsafe { libc::_exit(42) };
}

extern "C" fn before_with_info(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: as above; the kernel gives the info.
    unsafe { libc::_exit(if (*info).si_addr() as usize == 0x10 { 43 } else { 1 }) };
}

/// Not a test by itself: what the children below do. Each catches one fault, then makes one that is not ours.
#[test]
fn in_a_child() {
    let Ok(what) = std::env::var(CHILD) else { return };
    // SAFETY: the handlers are functions of the types that the flags say; the accesses fault.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        match what.as_str() {
            "handler" => action.sa_sigaction = before as *const () as usize,
            "info" => {
                action.sa_sigaction = before_with_info as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
            }
            "ignored" => action.sa_sigaction = libc::SIG_IGN,
            _ => {}
        }
        if what != "rust" {
            assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()), 0);
        }
        fault::load(ptr::without_provenance(0x10), Width::U8).unwrap_err();
        if what == "ignored" {
            libc::raise(libc::SIGSEGV);
            libc::_exit(44);
        }
        if what == "sent" {
            libc::raise(libc::SIGSEGV);
            libc::_exit(1);
        }
        ptr::without_provenance_mut::<u8>(0x10).write_volatile(1);
    }
}

#[test]
fn the_handler_before_gets_what_is_not_ours() {
    assert_eq!(child("handler").code(), Some(42));
    assert_eq!(child("info").code(), Some(43));
    assert_eq!(child("ignored").code(), Some(44));
    for default in ["default", "sent", "rust"] {
        assert_eq!(child(default).signal(), Some(libc::SIGSEGV), "{default}");
    }
}
