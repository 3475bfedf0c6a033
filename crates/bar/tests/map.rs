//! BARs that are files: a machine in a folder, with `resource`, `resource2_wc` and the list of x86, opened and mapped as a real one.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use bar::fault::Width;
use bar::mapping::{Failed, Unfit};
use bar::open::{ARCH, Known, Tried};
use bar::{Attributes, Bar, Device, Error, Mapping, Way, Why};
use memtype::linux::{self, Helper};
use memtype::{Arch, Attribute, MemoryType};
use proptest::prelude::*;

const X86: bool = matches!(ARCH, Arch::X86);
const BAR0: u64 = 0x40_0000_0000;
const BAR2: u64 = 0x40_1000_0000;
const SIZE0: u64 = 0x4000;
const SIZE2: u64 = 0x1_0000;

fn page() -> u64 {
    bar::cpu::page_size() as u64
}

struct Fake(PathBuf);

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Fake {
    /// BAR 0: registers; BAR 1: I/O; BAR 2: prefetchable, 64-bit; BAR 4: without an address; BAR 5: smaller than a page.
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bar-map-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let fake = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(fake.folder()).unwrap();
        let line =
            |first: u64, size: u64, flags: u64| format!("{first:#018x} {:#018x} {flags:#018x}\n", first + size - 1);
        let none = format!("{:#018x} {:#018x} {:#018x}\n", 0, 0, 0);
        let lines = [
            line(BAR0, SIZE0, 0x40200),
            line(0xc000, 0x20, 0x40101),
            line(BAR2, SIZE2, 0x14220c),
            none.clone(),
            line(0, 0x1000, 0x2004_0200),
            line(BAR0 + 0x10_0000 + 0x100, 0x80, 0x40200),
            none,
        ];
        fake.write("resource", lines.concat());
        for (name, size) in [("resource0", SIZE0), ("resource2", SIZE2), ("resource2_wc", SIZE2), ("resource5", 0x1000)]
        {
            fs::File::create(fake.folder().join(name)).unwrap().set_len(size.next_multiple_of(page())).unwrap();
        }
        fake
    }
    fn folder(&self) -> PathBuf {
        self.0.join("sys/bus/pci/devices/0000:00:02.0")
    }
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder().join(name), content).unwrap();
    }
    fn list(&self, lines: &[(u64, u64, &str)]) {
        let folder = self.0.join("sys/kernel/debug/x86");
        fs::create_dir_all(&folder).unwrap();
        let lines: String = lines.iter().map(|(a, b, ty)| format!("PAT: [mem {a:#018x}-{b:#018x}] {ty}\n")).collect();
        fs::write(folder.join("pat_memtype_list"), format!("PAT memtype list:\n{lines}")).unwrap();
    }
    fn driver(&self, name: &str) {
        let drivers = self.0.join("sys/bus/pci/drivers").join(name);
        fs::create_dir_all(&drivers).unwrap();
        std::os::unix::fs::symlink(drivers, self.folder().join("driver")).unwrap();
    }
    fn device(&self) -> Device {
        Device::under(&self.0, "00:02.0".parse().unwrap())
    }
    fn bar(&self, index: u8) -> Bar {
        Bar::open(&self.device(), index).unwrap()
    }
    /// A machine whose kernel confirms what was asked for.
    fn agreeing() -> Self {
        let fake = Self::new();
        fake.list(&[(BAR0, BAR0 + SIZE0, "uncached-minus"), (BAR2, BAR2 + SIZE2, "write-combining")]);
        fake
    }
}

fn ty(helper: Helper) -> MemoryType {
    linux::of(ARCH, helper).unwrap().ty.unwrap()
}

const WC: Attributes = Attributes::of(Attribute::WriteCombine);
const UNCACHED: Attributes = Attributes::of(Attribute::Uncached);

fn tried(error: &Error) -> &[Tried] {
    match error {
        Error::Refused { tried, .. } => tried,
        other => panic!("{other}"),
    }
}

fn why(error: &Error, way: Way) -> &Why {
    &tried(error).iter().find(|one| one.way == way).unwrap_or_else(|| panic!("{way} was not tried: {error}")).why
}

#[test]
fn a_bar_that_is_none_says_what_there_is() {
    let fake = Fake::new();
    let says = |index: u8| Bar::open(&fake.device(), index).unwrap_err().to_string();
    assert!(says(1).ends_with("that one is of I/O ports, which have no memory type"), "{}", says(1));
    assert!(says(3).ends_with("it is the upper half of BAR 2"), "{}", says(3));
    assert!(says(4).ends_with("it was given no address"), "{}", says(4));
    assert!(says(6).ends_with("it has 0, 2, 4, 5"), "{}", says(6));
    assert!(says(255).ends_with("it has 0, 2, 4, 5"));
    let nobody = Device::under(&fake.0, "00:03.0".parse().unwrap());
    assert!(matches!(Bar::open(&nobody, 0), Err(Error::NoDevice { .. })));
    assert_eq!(fake.device().bars().unwrap()[1], (2, SIZE2, true));
}

#[test]
fn the_best_way_for_each_type() {
    let fake = Fake::agreeing();
    let wc = fake.bar(2).map(0..SIZE2, WC).unwrap();
    assert_eq!((wc.way(), wc.ty().ty), (Way::SysfsWc, ty(Helper::PgprotWritecombine)));
    let registers = fake.bar(0).map(0..0x1000, Attributes::default()).unwrap();
    assert_eq!((registers.way(), registers.ty().ty), (Way::Sysfs, ty(Helper::PgprotDevice)));
    if X86 {
        assert!(matches!(wc.ty().known, Known::Seen(_)));
        assert!(matches!(registers.ty().known, Known::Seen(_)));
    } else {
        assert_eq!(wc.ty().known, Known::Rule(Helper::PgprotWritecombine));
    }
    assert!(wc.write_combining().is_ok() && registers.registers().is_ok());
    assert_eq!(wc.registers().unwrap_err(), Unfit::Merges { ty: wc.ty().ty });
    assert_eq!(registers.write_combining().unwrap_err(), Unfit::Plain { ty: registers.ty().ty });
    assert!(wc.vm_flags().unwrap().contains("sh"), "shared, as every mapping of a device");
    assert!(!wc.vm_flags().unwrap().split(' ').any(|flag| flag == "ex"));
}

#[test]
fn what_cannot_be_had_is_refused_with_each_way_and_given_where_less_is_taken() {
    let fake = Fake::agreeing();
    // No resource0_wc: the BAR is not prefetchable.
    let error = fake.bar(0).map(0..0x1000, WC).unwrap_err();
    let ways: Vec<_> = tried(&error).iter().map(|one| one.way).collect();
    assert_eq!(ways.len(), Way::ALL.len(), "{error}");
    let no_file = why(&error, Way::SysfsWc);
    assert!(matches!(no_file, Why::System { errno: 2, remedy, .. } if remedy.contains("not prefetchable")), "{error}");
    assert!(matches!(why(&error, Way::Sysfs), Why::Less { gives, .. } if gives.ty == ty(Helper::PgprotDevice)));
    assert!(why(&error, Way::VfioAlias).to_string().contains("no number"));
    let less = fake.bar(0).map(0..0x1000, Attributes { accept_less: true, ..WC }).unwrap();
    assert_eq!((less.way(), less.ty().ty), (Way::Sysfs, ty(Helper::PgprotDevice)));
    // What VFIO claims is taken away from sysfs.
    let vfio = Attributes { by: Some(Way::VfioGroup), ..UNCACHED };
    let taken = fake.bar(2).map(0..0x1000, vfio).unwrap_err();
    assert!(why(&taken, Way::VfioGroup).to_string().contains("BAR 0 0x0+0x1000 as"), "{taken}");
    drop(less);

    let cached = fake.bar(2).map(0..0x1000, Attributes::of(Attribute::Cached)).unwrap_err();
    assert!(tried(&cached).iter().any(|one| one.why.to_string().contains("own driver")), "{cached}");
    // Only the way asked for.
    let by = fake.bar(2).map(0..0x1000, Attributes { by: Some(Way::VfioGroup), ..UNCACHED }).unwrap_err();
    assert_eq!(tried(&by).len(), 1);
    assert!(matches!(why(&by, Way::VfioGroup), Why::System { errno: 2, .. }), "{by}");
    let text = by.to_string();
    assert!(text.contains("iommu_group: ENOENT") && text.contains("->"), "{text}");
}

#[test]
fn what_is_bound_to_vfio_is_had_from_there_first() {
    let first = |fake: &Fake| {
        fs::remove_file(fake.folder().join("resource0")).unwrap();
        let error = fake.bar(0).map(0..8, Attributes::default()).unwrap_err();
        tried(&error).iter().map(|one| one.way).collect::<Vec<_>>()
    };
    let fake = Fake::agreeing();
    assert_eq!(first(&fake), [Way::Sysfs, Way::VfioGroup, Way::VfioCdev]);
    let fake = Fake::agreeing();
    fake.driver("vfio-pci");
    assert_eq!(first(&fake), [Way::VfioGroup, Way::VfioCdev, Way::Sysfs]);
    // Not if something of it is mapped by sysfs.
    let fake = Fake::agreeing();
    fake.driver("vfio-pci");
    let _frames = fake.bar(2).map(0..8, WC).unwrap();
    assert_eq!(first(&fake), [Way::Sysfs, Way::VfioGroup, Way::VfioCdev]);
}

#[test]
fn on_x86_the_list_has_the_last_word() {
    if !X86 {
        return;
    }
    let fake = Fake::new();
    let unseen = fake.bar(2).map(0..0x1000, WC).unwrap_err();
    assert!(unseen.to_string().contains("pat_memtype_list"), "{unseen}");
    let taken = fake.bar(2).map(0..0x1000, Attributes { accept_less: true, ..WC }).unwrap();
    assert!(matches!(taken.ty().known, Known::Unless { .. }));
    drop(taken);

    // A driver has it uncached: the kernel gives that to whoever asks for write-combining.
    fake.list(&[(BAR2, BAR2 + SIZE2, "uncached-minus")]);
    fake.driver("qxl");
    let error = fake.bar(2).map(0..0x1000, WC).unwrap_err();
    let Why::Less { gives, because } = why(&error, Way::SysfsWc) else { panic!("{error}") };
    assert_eq!(gives.ty.to_string(), "x86:uc");
    assert!(because[0].contains("was reserved uncached-minus before") && because[1].contains("qxl"), "{error}");
    let less = fake.bar(2).map(0..0x1000, Attributes { accept_less: true, ..WC }).unwrap();
    assert_eq!((less.way(), less.ty().ty.to_string().as_str()), (Way::SysfsWc, "x86:uc"));
    assert!(less.registers().is_ok() && less.write_combining().is_err());
    drop(less);

    // And the other way round: who asks for uncached where it is write-combining gets that.
    fake.list(&[(BAR2, BAR2 + SIZE2, "write-combining")]);
    let error = fake.bar(2).map(0..0x1000, UNCACHED).unwrap_err();
    assert!(matches!(why(&error, Way::Sysfs), Why::Less { gives, .. } if gives.ty.to_string() == "x86:wc"), "{error}");

    // A list that says two things says nothing.
    fake.list(&[(BAR2, BAR2 + 0x800, "write-combining"), (BAR2 + 0x800, BAR2 + SIZE2, "uncached-minus")]);
    assert!(fake.bar(2).map(0..0x1000, WC).unwrap_err().to_string().contains("several types"));
}

#[test]
fn a_page_has_one_type_and_both_parties_are_named() {
    let fake = Fake::agreeing();
    let bar = fake.bar(2);
    let p = page();
    if X86 {
        fake.list(&[(BAR2, BAR2 + p, "uncached-minus"), (BAR2 + p, BAR2 + SIZE2, "write-combining")]);
    }
    let registers = bar.map(0..0x10, UNCACHED).unwrap();
    let frames = bar.map(p..SIZE2, WC).unwrap();
    let again = bar.map(p..p + 8, WC).unwrap();
    let error = bar.map(0x20..0x28, WC).unwrap_err();
    let conflict = error.conflict().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((conflict.holds.offset, conflict.holds.size, conflict.asked.offset), (0, 0x10, 0x20));
    assert_eq!(conflict.at, BAR2);
    let text = error.to_string();
    assert!(text.contains("BAR 2 0x20+0x8 as") && text.contains(" by sysfs, which is mapped"), "{text}");
    drop(frames);
    assert!(bar.map(p..2 * p, UNCACHED).is_err(), "one of the two is still there");
    drop((registers, again));
    assert!(bar.map(0x20..0x28, WC).is_ok() || X86);
}

#[test]
fn the_registry_holds_among_threads() {
    let fake = Fake::agreeing();
    let bar = fake.bar(2);
    if X86 {
        // Nothing reserved: by rule, and less is taken.
        fs::remove_file(fake.0.join("sys/kernel/debug/x86/pat_memtype_list")).unwrap();
    }
    let live = [AtomicU32::new(0), AtomicU32::new(0)];
    let refused = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (bar, live, refused) = (&bar, &live, &refused);
            scope.spawn(move || {
                let mine = usize::try_from(thread % 2).unwrap();
                let by = [Way::Sysfs, Way::SysfsWc][mine];
                for i in 0..200 {
                    let asked = Attributes { by: Some(by), accept_less: true, ..Attributes::default() };
                    let at = (i * 64 + thread) % 4000;
                    match bar.map(at..at + 8, asked) {
                        Ok(mapping) => {
                            live[mine].fetch_add(1, Ordering::SeqCst);
                            assert_eq!(live[1 - mine].load(Ordering::SeqCst), 0, "two types at once");
                            mapping.load(0, Width::U8).unwrap();
                            live[mine].fetch_sub(1, Ordering::SeqCst);
                            drop(mapping);
                        }
                        Err(error) => {
                            assert!(error.conflict().is_some(), "{error}");
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
    assert!(bar.map(0..8, Attributes { by: Some(Way::SysfsWc), accept_less: true, ..WC }).is_ok(), "nothing is left");
}

#[test]
fn what_is_stored_is_in_the_file_and_ranges_are_kept() {
    let fake = Fake::agreeing();
    let part = fake.bar(0).map(0x10..0x18, UNCACHED).unwrap();
    part.registers().unwrap().write(4, 0xdead_beef_u32).unwrap();
    part.store(0, Width::U16, 0x1234).unwrap();
    let file = fs::read(fake.folder().join("resource0")).unwrap();
    assert_eq!(file[0x10..0x18], [0x34, 0x12, 0, 0, 0xef, 0xbe, 0xad, 0xde]);
    assert_eq!(part.load(4, Width::U32), Ok(0xdead_beef));
    assert_eq!((part.len(), part.physical()), (8, BAR0 + 0x10));
    for (offset, width) in [(8, Width::U8), (5, Width::U32), (usize::MAX, Width::U64), (1, Width::U16)] {
        assert!(matches!(part.load(offset, width), Err(Failed::Bad(_))), "{offset:#x}");
    }
    assert!(part.registers().unwrap().read::<u8>(8).is_err());

    let read = fake.bar(0).map(0..0x10, Attributes { read_only: true, ..UNCACHED }).unwrap();
    assert_eq!(read.store(0, Width::U8, 1), Err(Failed::ReadOnly));
    assert_eq!(read.registers().unwrap_err(), Unfit::ReadOnly);
    assert_eq!(read.load(0, Width::U64), Ok(0));
}

#[test]
fn a_device_that_goes_away_is_an_error() {
    let fake = Fake::agreeing();
    let bar = fake.bar(0);
    let mapping = bar.map(0..0x1000, UNCACHED).unwrap();
    let removal = bar.removal();
    assert!(!removal.requested());
    // What a file that got shorter does, a device that was removed does.
    fs::File::options().write(true).open(fake.folder().join("resource0")).unwrap().set_len(0).unwrap();
    let Err(Failed::Fault(fault)) = mapping.load(0, Width::U32) else { panic!("it read") };
    assert_eq!(fault.to_string(), "SIGBUS BUS_ADRERR");
    fs::remove_dir_all(fake.folder()).unwrap();
    assert!(removal.requested());
}

#[test]
fn a_bar_smaller_than_a_page_begins_where_it_begins() {
    let fake = Fake::new();
    fake.list(&[(BAR0 + 0x10_0000, BAR0 + 0x10_0000 + page(), "uncached-minus")]);
    let mapping = fake.bar(5).map(0..0x80, UNCACHED).unwrap();
    mapping.store(0, Width::U8, 7).unwrap();
    assert_eq!(fs::read(fake.folder().join("resource5")).unwrap()[0x100], 7);
    assert!(mapping.load(0x80, Width::U8).is_err());
}

#[test]
fn a_device_that_cannot_answer_is_not_mapped_by_sysfs() {
    let fake = Fake::agreeing();
    let mut config = vec![0; 256];
    fake.write("config", &config);
    let error = fake.bar(0).map(0..8, UNCACHED).unwrap_err();
    assert!(why(&error, Way::Sysfs).to_string().contains("memory decode of 0000:00:02.0 is off"), "{error}");
    config[4] = 2;
    fake.write("config", &config);
    fake.write("power_state", "D3hot\n");
    let error = fake.bar(0).map(0..8, UNCACHED).unwrap_err();
    assert!(why(&error, Way::Sysfs).to_string().contains("D3hot"), "{error}");
    fake.write("power_state", "D0\n");
    // The MSI-X table: in BAR 0 at 0x2000.
    (config[6], config[0x34], config[0x40], config[0x45]) = (0x10, 0x40, 0x11, 0x20);
    fake.write("config", &config);
    let size = SIZE0.max(0x2000 + page());
    let table = (0x2000 / page() * page()).min(SIZE0 - 8);
    let error = fake.bar(0).map(table..SIZE0.min(size), UNCACHED).unwrap_err();
    assert!(why(&error, Way::Sysfs).to_string().contains("MSI-X table is there, at 0x2000+0x10"), "{error}");
    assert!(fake.bar(0).map(0..SIZE0, Attributes { read_only: true, ..UNCACHED }).is_ok());
    assert!(fake.bar(0).map(0..SIZE0, Attributes { over_msix: true, ..UNCACHED }).is_ok());
    if page() <= 0x2000 {
        assert!(fake.bar(0).map(0..8, UNCACHED).is_ok());
    }
}

#[test]
fn a_kernel_that_refuses_the_file_is_quoted() {
    let fake = Fake::agreeing();
    // No device can be mapped by this: mmap of a folder's file is not the point, its errno is.
    fs::remove_file(fake.folder().join("resource0")).unwrap();
    std::os::unix::fs::symlink("/proc/self/maps", fake.folder().join("resource0")).unwrap();
    let error = fake.bar(0).map(0..8, Attributes { read_only: true, by: Some(Way::Sysfs), ..UNCACHED }).unwrap_err();
    assert!(
        matches!(why(&error, Way::Sysfs), Why::System { what, errno, .. } if what.starts_with("mmap of ") && *errno != 0),
        "{error}"
    );
}

fn naive(range: &Range<u64>, size: u64) -> bool {
    u128::from(range.start) < u128::from(range.end) && u128::from(range.end) <= u128::from(size)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ranges_are_taken_or_refused_and_never_leave_the_bar(
        start in prop_oneof![0..SIZE2 + 9, any::<u64>()],
        len in prop_oneof![0..SIZE2 + 9, any::<u64>()],
    ) {
        let fake = Fake::agreeing();
        let range = start..start.wrapping_add(len);
        match fake.bar(2).map(range.clone(), WC) {
            Ok(mapping) => {
                prop_assert!(naive(&range, SIZE2));
                prop_assert_eq!(mapping.len() as u64, range.end - range.start);
                let (skip, pages) = mapping.mapped();
                prop_assert_eq!(pages as u64 % page(), 0);
                prop_assert_eq!(skip as u64, start % page());
                prop_assert!(skip + mapping.len() <= pages && (pages as u64) < len + 2 * page());
                mapping.load(mapping.len() - 1, Width::U8).unwrap();
                prop_assert!(mapping.load(mapping.len(), Width::U8).is_err());
            }
            Err(Error::Range { .. }) => prop_assert!(!naive(&range, SIZE2)),
            Err(other) => panic!("{other}"),
        }
    }
}

/// The child of the next test: maps and waits.
#[test]
#[ignore = "the child of the test after it"]
fn holds_until_killed() {
    let root = std::env::var_os("BAR_ROOT").unwrap();
    let device = Device::under(Path::new(&root), "00:02.0".parse().unwrap());
    let mapping = Bar::open(&device, 2).unwrap().map(0..SIZE2, WC).unwrap();
    mapping.store(8, Width::U32, 0x77).unwrap();
    println!("held");
    std::io::stdout().flush().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_killed_process_leaves_nothing_and_is_named_while_it_lives() {
    let fake = Fake::agreeing();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "holds_until_killed"])
        .env("BAR_ROOT", &fake.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("held")));
    let maps = |id: u32| {
        let text = fs::read_to_string(format!("/proc/{id}/maps")).unwrap_or_default();
        text.contains(fake.folder().join("resource2_wc").to_str().unwrap())
    };
    assert!(maps(child.id()));
    // Another process maps the same, as the kernel lets it; on x86 whoever holds what is in the way is named.
    let ours = fake.bar(2).map(0..SIZE2, WC).unwrap();
    assert_eq!(ours.load(8, Width::U32), Ok(0x77));
    drop(ours);
    if X86 {
        fake.list(&[(BAR2, BAR2 + SIZE2, "uncached-minus")]);
        std::os::unix::fs::symlink("/proc", fake.0.join("proc")).unwrap();
        let error = fake.bar(2).map(0..SIZE2, WC).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} (", child.id())), "{error}");
        fake.list(&[(BAR2, BAR2 + SIZE2, "write-combining")]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!maps(child.id()));
    let again: Mapping = fake.bar(2).map(0..SIZE2, WC).unwrap();
    assert_eq!(again.load(8, Width::U32), Ok(0x77), "what was stored is there, the mapping is not");
    drop(again);
    assert!(!maps(std::process::id()), "ours is gone too");
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    assert!(!open.into_iter().any(|path| path.starts_with(&fake.0)), "no file stays open");
}
