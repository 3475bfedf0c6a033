//! Maps, touches what was asked for, holds.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use bar::fault::Width;
use bar::open::{ARCH, Tried};
use bar::{Attributes, Bar, Device, Error, Mapping, Way};
use memtype::{Attribute, linux};
use serde::Serialize;

use super::{Args, Part, Place, Span, dumped, loads};
use crate::cmd::{self, Result};
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, Hex, STRONG, paint};

/// How often it is looked whether the device is wanted back.
const LOOK: Duration = Duration::from_millis(50);
/// The most that is dumped.
const MOST: u64 = 1 << 20;

#[derive(Debug, Serialize)]
struct Answer {
    device: String,
    bar: u8,
    address: Hex,
    size: u64,
    prefetchable: bool,
    driver: Option<String>,
    parts: Vec<Mapped>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    written: Vec<Access>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    read: Vec<Access>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dump: Option<Dump>,
}

/// A part: mapped, or refused.
#[derive(Debug, Serialize)]
struct Mapped {
    offset: Hex,
    size: u64,
    asked: &'static str,
    #[serde(flatten)]
    result: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Mapped {
        by: &'static str,
        #[serde(rename = "type")]
        ty: String,
        known: String,
        /// It is what was asked for.
        as_asked: bool,
        writable: bool,
        pages: usize,
        page: usize,
        address: Hex,
        vm_flags: Option<String>,
        #[serde(skip)]
        memory: memtype::MemoryType,
    },
    Refused(Vec<Reason>),
}

#[derive(Debug, Serialize)]
struct Reason {
    way: &'static str,
    why: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

#[derive(Debug, Serialize)]
struct Access {
    offset: Hex,
    width: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Dump {
    offset: Hex,
    width: usize,
    words: Vec<Option<Hex>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The ways on this architecture.
pub(super) fn ways(json: bool) -> Result {
    #[derive(Serialize)]
    struct One {
        way: &'static str,
        helper: Option<&'static str>,
        gives: Option<String>,
        condition: Option<&'static str>,
        needs: &'static str,
    }
    let all = Way::ALL.map(|way| {
        let entry = way.helper().and_then(|helper| linux::of(ARCH, helper));
        One {
            way: way.name(),
            helper: way.helper().map(linux::Helper::name),
            gives: entry.and_then(|entry| entry.ty).map(|ty| ty.to_string()),
            condition: entry.map(|entry| entry.condition).filter(|text| !text.is_empty()),
            needs: way.needs(),
        }
    });
    if json {
        show::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = String::new();
    for one in all {
        const LABEL: usize = 22;
        let indent = " ".repeat(LABEL);
        let gives = match (one.gives, one.helper) {
            (Some(ty), Some(helper)) => format!("{ty}, {helper}()"),
            _ => "nothing".into(),
        };
        let gives = one.condition.map_or_else(|| gives.clone(), |condition| format!("{gives}; {condition}"));
        let gives = show::wrapped(&indent, &gives);
        let _ = write!(out, "{:<LABEL$}{}", paint(STRONG, one.way), gives.trim_start());
        let needs = show::wrapped(&indent, &format!("needs {}", one.needs));
        let _ = write!(out, "{indent}{}", paint(FAINT, needs.trim_start()));
    }
    show::text(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// Maps, and does what was asked for.
pub(super) fn map(args: &Args) -> Result {
    let (Some(bdf), Some(index)) = (args.device, args.bar) else {
        return Err(String::from("name a device and a BAR: bartender map 0000:01:00.0 2").into());
    };
    let device = Device::new(bdf);
    let bar = Bar::open(&device, index).map_err(|error| absent(&error))?;
    let by = by(args.by.as_deref())?;
    let parts = if args.part.is_empty() {
        let span = args.range.clone().unwrap_or(Span { start: 0, end: bar.size() });
        vec![Part { span, kind: args.kind }]
    } else {
        args.part.clone()
    };
    if let Some(dump) = args.dump.as_ref().filter(|dump| dump.end - dump.start > MOST) {
        return Err(format!("--dump: {} bytes are too many: at most {MOST}", dump.end - dump.start).into());
    }

    let mut mappings = Vec::new();
    let mut answer = Answer {
        device: bdf.to_string(),
        bar: index,
        address: Hex(bar.address()),
        size: bar.size(),
        prefetchable: bar.is_prefetchable(),
        driver: device.driver(),
        parts: Vec::new(),
        written: Vec::new(),
        read: Vec::new(),
        dump: None,
    };
    // Write-combining is had by sysfs, and then the others have to be too.
    let mut order: Vec<_> = (0..parts.len()).collect();
    order.sort_by_key(|i| parts[*i].kind != Attribute::WriteCombine);
    for Part { span, kind } in order.into_iter().map(|i| &parts[i]) {
        let kind = *kind;
        let asked = Attributes {
            kind,
            accept_less: args.accept_less,
            by: None,
            read_only: args.write.is_empty(),
            over_msix: args.over_msix,
        };
        let result = match mapped(&bar, span, asked, by) {
            Ok(mapping) => {
                let outcome = outcome(&mapping, kind);
                mappings.push(mapping);
                outcome
            }
            Err(Error::Refused { tried, .. }) => Outcome::Refused(tried.iter().map(way).collect()),
            Err(error) => return Err(error.to_string().into()),
        };
        answer.parts.push(Mapped { offset: Hex(span.start), size: span.end - span.start, asked: kind.name(), result });
    }
    answer.parts.sort_by_key(|part| part.offset.0);
    let refused = answer.parts.iter().any(|part| matches!(part.result, Outcome::Refused(_)));
    if !refused {
        touch(args, &mappings, &mut answer)?;
    }
    if args.json {
        show::json(&answer)?;
    } else {
        show::text(&printed(args, &answer))?;
    }
    let accesses = answer.written.iter().chain(&answer.read);
    let failed = accesses
        .filter_map(|access| access.error.as_ref())
        .chain(answer.dump.iter().filter_map(|dump| dump.error.as_ref()));
    if refused || failed.count() > 0 {
        return Ok(ExitCode::from(1));
    }
    if args.hold {
        return hold(&bar, mappings);
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is, where what was asked for is not.
fn absent(error: &Error) -> cmd::Error {
    let Error::NoDevice { .. } = error else { return error.to_string().into() };
    let all = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    let mut names: Vec<_> = all.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let more = names.len().saturating_sub(8);
    names.truncate(8);
    let there = match (names.is_empty(), more) {
        (true, _) => "this machine has no PCI".into(),
        (false, 0) => format!("there is: {}", names.join(", ")),
        (false, more) => format!("there is: {} and {more} more", names.join(", ")),
    };
    format!("{error}\n{there}").into()
}

/// The ways that may be gone; all if there are none.
pub(in crate::cmd) fn by(name: Option<&str>) -> Result<&'static [Way]> {
    const VFIO: &[Way] = &[Way::VfioGroup, Way::VfioCdev];
    let Some(name) = name else { return Ok(&[]) };
    let found = match name {
        "vfio" => VFIO,
        "vfio-group" => &VFIO[..1],
        "vfio-cdev" => &VFIO[1..],
        "vfio-alias" => &[Way::VfioAlias],
        "vfio-dma-buf" => &[Way::VfioDmaBuf],
        "sysfs" => &[Way::Sysfs, Way::SysfsWc],
        "sysfs-write-combine" => &[Way::SysfsWc],
        _ => {
            let names: Vec<_> = std::iter::once("vfio").chain(Way::ALL.map(Way::name)).collect();
            return Err(input::unknown("way", name, &names).into());
        }
    };
    if name.starts_with("vfio") && !std::path::Path::new("/dev/vfio").exists() {
        let hint = "load the module vfio-pci (modprobe vfio-pci) and bind the device to it; or map it by sysfs";
        return Err(format!("there is no VFIO here: no /dev/vfio\n{hint}").into());
    }
    Ok(found)
}

fn mapped(bar: &Bar, span: &Span, asked: Attributes, by: &[Way]) -> std::result::Result<Mapping, Error> {
    let range = || span.start..span.end;
    let Some((first, rest)) = by.split_first() else { return bar.map(range(), asked) };
    let one = |way: &Way| bar.map(range(), Attributes { by: Some(*way), ..asked });
    rest.iter().fold(one(first), |result, way| match result {
        Err(Error::Refused { tried: mut before, .. }) => one(way).map_err(|error| match error {
            Error::Refused { bdf, index, asked, tried } => {
                before.extend(tried);
                Error::Refused { bdf, index, asked, tried: before }
            }
            other => other,
        }),
        other => other,
    })
}

fn way(tried: &Tried) -> Reason {
    Reason { way: tried.way.name(), why: tried.why.to_string(), remedy: tried.why.remedy().to_owned() }
}

fn outcome(mapping: &Mapping, asked: Attribute) -> Outcome {
    let (skip, bytes) = mapping.mapped();
    let page = bar::cpu::page_size();
    Outcome::Mapped {
        by: mapping.way().name(),
        ty: mapping.ty().ty.to_string(),
        known: mapping.ty().known.to_string(),
        as_asked: mapping.ty().is(asked),
        writable: mapping.is_writable(),
        pages: bytes / page,
        page,
        address: Hex((mapping.address() as u64).saturating_sub(skip as u64)),
        vm_flags: mapping.vm_flags(),
        memory: mapping.ty().ty,
    }
}

const fn width(bytes: usize) -> Width {
    match bytes {
        1 => Width::U8,
        2 => Width::U16,
        8 => Width::U64,
        _ => Width::U32,
    }
}

/// The mapping that has a place whole, and where in it.
fn holder(mappings: &[Mapping], place: Place) -> Result<(&Mapping, usize)> {
    let whole = |mapping: &&Mapping| {
        let end = place.offset.checked_add(place.width as u64);
        mapping.range().start <= place.offset && end.is_some_and(|end| end <= mapping.range().end)
    };
    let found = mappings.iter().find(whole).ok_or_else(|| {
        let parts: Vec<_> =
            mappings.iter().map(|m| format!("{:#x} to {:#x}", m.range().start, m.range().end)).collect();
        format!("{:#x}.{}: not within what is mapped: {}", place.offset, place.width, parts.join(", "))
    })?;
    if !place.offset.is_multiple_of(place.width as u64) {
        let says =
            "is not at a multiple of its width: on Device memory such an access faults, and no register takes it";
        return Err(format!("{:#x}.{} {says}", place.offset, place.width).into());
    }
    Ok((found, usize::try_from(place.offset - found.range().start).unwrap_or(usize::MAX)))
}

/// Writes, reads, dumps; nothing is touched if any of it is not within.
fn touch(args: &Args, mappings: &[Mapping], answer: &mut Answer) -> Result<()> {
    let dump: Vec<u64> = args.dump.as_ref().map(|span| loads(span, args.width).collect()).unwrap_or_default();
    let places = args.write.iter().map(|store| store.place).chain(args.read.iter().copied());
    for place in places.chain(dump.iter().map(|at| Place { offset: *at, width: args.width })) {
        holder(mappings, place)?;
    }
    for store in &args.write {
        let (mapping, at) = holder(mappings, store.place)?;
        let error = mapping.store(at, width(store.place.width), store.value).err().map(|error| error.to_string());
        let (offset, width) = (Hex(store.place.offset), store.place.width);
        answer.written.push(Access { offset, width, value: Some(Hex(store.value)), error });
    }
    for place in &args.read {
        let (mapping, at) = holder(mappings, *place)?;
        let (value, error) = match mapping.load(at, width(place.width)) {
            Ok(value) => (Some(Hex(value)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        answer.read.push(Access { offset: Hex(place.offset), width: place.width, value, error });
    }
    if let Some(span) = &args.dump {
        let mut words = Vec::with_capacity(dump.len());
        let mut failed = None;
        for offset in dump {
            let (mapping, at) = holder(mappings, Place { offset, width: args.width })?;
            // What follows a fault is left alone.
            let word = if failed.is_some() { None } else { Some(mapping.load(at, width(args.width))) };
            words.push(
                word.and_then(|word| word.map_err(|error| failed = Some(format!("{offset:#x}: {error}"))).ok())
                    .map(Hex),
            );
        }
        answer.dump = Some(Dump { offset: Hex(span.start), width: args.width, words, error: failed });
    }
    Ok(())
}

fn printed(args: &Args, answer: &Answer) -> String {
    let mut out = String::new();
    let what = if answer.prefetchable { "prefetchable" } else { "not prefetchable" };
    let driver = answer.driver.as_deref().map_or_else(|| "no driver".into(), |driver| format!("driver {driver}"));
    let head = format!("{} BAR {}", answer.device, answer.bar);
    let _ = writeln!(out, "{}, {:#x} bytes at {}, {what}; {driver}", paint(STRONG, head), answer.size, answer.address);
    for part in &answer.parts {
        match &part.result {
            Outcome::Mapped { .. } => one(&mut out, part),
            Outcome::Refused(ways) => refusal(&mut out, part, ways),
        }
    }
    if answer.parts.len() > 1 {
        table(&mut out, &answer.parts);
    }
    for (head, all) in [("Written", &answer.written), ("Read", &answer.read)] {
        if !all.is_empty() {
            let _ = writeln!(out, "\n{}", paint(STRONG, head));
        }
        for access in all {
            let place = format!("{}.{}", access.offset, access.width);
            let value =
                access.value.map_or_else(|| "-".into(), |value| format!("{:#01$x}", value.0, 2 + 2 * access.width));
            match &access.error {
                None => drop(writeln!(out, "  {place:<14}{value}")),
                Some(error) => drop(writeln!(out, "  {place:<14}{value}  {}", paint(BAD, error))),
            }
        }
    }
    if let (Some(dump), Some(span)) = (&answer.dump, &args.dump) {
        let words: Vec<_> = dump.words.iter().map(|word| word.map(|word| word.0)).collect();
        let _ = write!(out, "\n{}", dumped(span, dump.width, &words));
        if let Some(error) = &dump.error {
            let _ = writeln!(out, "{}", paint(BAD, error));
        }
    }
    out
}

fn span(part: &Mapped) -> String {
    format!("{}+{:#x}", part.offset, part.size)
}

/// A part that is mapped.
fn one(out: &mut String, part: &Mapped) {
    let Outcome::Mapped { by, ty, known, as_asked, writable, pages, page, address, vm_flags, memory } = &part.result
    else {
        return;
    };
    let _ = writeln!(out, "\n{}", paint(STRONG, span(part)));
    let mut field = |label: &str, text: &str| {
        const LABEL: usize = 11;
        let lines = show::wrapped(&" ".repeat(LABEL), text);
        let _ = write!(out, "  {:<9}{}", paint(FAINT, label), lines.get(LABEL..).unwrap_or_default());
    };
    field("asked", part.asked);
    let less = if *as_asked { String::new() } else { format!("  {}", paint(BAD, "less than was asked for")) };
    field("type", &format!("{}{less}", paint(show::colour_of(*memory), ty)));
    field("known", known);
    field("by", by);
    let access = if *writable { "to read and write" } else { "only to read" };
    field("pages", &format!("{pages} x {page} bytes from {address} on, {access}"));
    field("VmFlags", vm_flags.as_deref().unwrap_or("not known"));
}

/// A part that cannot be had.
fn refusal(out: &mut String, part: &Mapped, ways: &[Reason]) {
    const LABEL: usize = 23;
    let what = format!("{}: {} cannot be had", span(part), part.asked);
    let _ = writeln!(out, "\n{}", paint(BAD, what));
    for Reason { way, why, remedy } in ways {
        let lines = show::wrapped(&" ".repeat(LABEL), why);
        let _ = write!(out, "  {:<21}{}", paint(STRONG, way), lines.get(LABEL..).unwrap_or_default());
        for line in remedy.lines() {
            // A command is not broken: it is there to be copied.
            let lines = if line.starts_with("echo ") {
                format!("{:LABEL$}  {line}\n", "")
            } else {
                show::wrapped(&" ".repeat(LABEL), line)
            };
            let _ = write!(out, "{:LABEL$}{}", "", paint(FAINT, lines.get(LABEL..).unwrap_or_default()));
        }
    }
}

/// Several parts at a glance.
fn table(out: &mut String, parts: &[Mapped]) {
    let _ = writeln!(out, "\n{}", paint(STRONG, format!("{:<24}{:<15}{:<22}{}", "part", "asked", "type", "by")));
    for part in parts {
        let _ = match &part.result {
            Outcome::Mapped { by, ty, memory, .. } => {
                writeln!(out, "{:<24}{:<15}{:<22}{by}", span(part), part.asked, paint(show::colour_of(*memory), ty))
            }
            Outcome::Refused(_) => writeln!(out, "{:<24}{:<15}{:<22}-", span(part), part.asked, paint(BAD, "refused")),
        };
    }
}

/// Keeps it until stdin ends or the device is wanted back.
fn hold(bar: &Bar, mappings: Vec<Mapping>) -> Result {
    let removal = bar.removal();
    show::text(&format!("{}\n", paint(GOOD, "held")))?;
    let (ended, end) = mpsc::channel();
    // It waits in a read: at the end of the process it goes with it.
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut bytes = [0; 256];
        while stdin.read(&mut bytes).is_ok_and(|n| n > 0) {}
        let _ = ended.send(());
    });
    loop {
        if removal.requested() {
            drop(mappings);
            let what = format!("the kernel asks for {} back: it is unmapped and closed", bar.device().bdf());
            show::error(&what);
            let _ = io::stderr().flush();
            return Ok(ExitCode::from(1));
        }
        if !matches!(end.recv_timeout(LOOK), Err(mpsc::RecvTimeoutError::Timeout)) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}
