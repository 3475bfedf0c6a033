//! The scenario file: TOML, read strictly. `docs/scenario.md` is the format for those who write one; every fault names
//! its line and what would be right.

mod error;
mod number;
mod program;
mod toml;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};
use memtype::Attribute;
use memtype::arm::{NAMES, mair_of};
use platform::{Containment, Errors, NcDefect, NoSnoop, Platform};

pub use error::Error;

use self::error::{Fault, list, near, quoted};
use self::toml::{Field, Table, kind, syntax, unknown_key};
use crate::layout::{MAX_MAPS, MAX_SIZE};
use crate::observation::{FaultKind, Pattern, outcome_names};
use crate::program::{Place, Program, Reg};
use crate::{Asked, Bar, Device, Expect, Iommu, Iova, Layout, Machine, Map, Reads, Scenario, Target};

/// Largest file, in bytes.
pub const MAX_BYTES: usize = 256 << 10;
/// Longest title, in characters.
pub const MAX_TITLE: usize = 120;
/// Most BARs of all devices.
pub const MAX_BARS: usize = 16;
/// Most bytes of all `ram` maps.
pub const MAX_RAM: u64 = 64 << 20;
/// Most different memory types: `MAIR_EL1` has eight bytes.
pub const MAX_TYPES: usize = 8;
/// Most `[[attribute]]`.
pub const MAX_ATTRIBUTES: usize = 64;
/// Largest class code of a device: 24 bits.
pub const MAX_CLASS: u32 = 0xff_ffff;
/// Most policies with an expectation of their own, and most outcomes allowed under one.
pub const MAX_EXPECTED: usize = 64;
/// The types of which the guest itself needs a byte of `MAIR_EL1`: Device-nGnRnE, and Normal-WB for its code.
pub const GUEST_TYPES: [u8; 2] = [0x00, 0xff];

const PAGE: u64 = 4096;

/// Reads a scenario. `name` only says in an error which file it is.
///
/// ```
/// let error = scenario::parse("empty.toml", "").unwrap_err();
/// assert_eq!((error.line, error.message.as_str()), (1, "a scenario needs the key `title`"));
/// ```
///
/// # Errors
///
/// The first fault of the text, with its line and what would be right.
pub fn parse(name: &str, text: &str) -> Result<Scenario, Error> {
    read(text).map_err(|fault| Error::new(name, text, fault))
}

fn read(text: &str) -> Result<Scenario, Fault> {
    if text.len() > MAX_BYTES {
        let message =
            format!("the file has {} bytes; a scenario has at most {}", text.len(), number::size(MAX_BYTES as u64));
        return Err(Fault::new(0..0, message, "make several scenarios of it"));
    }
    let table = DeTable::parse(text).map_err(|e| syntax(&e, text))?.into_inner();
    let keys = [
        "title",
        "story",
        "source",
        "machine",
        "platform",
        "device",
        "attribute",
        "map",
        "iommu",
        "iova",
        "guest",
        "expect",
    ];
    let root = Table::new(&table, 0..0, "a scenario", &keys)?;

    let title = title(&root)?;
    let story = prose(&root, "story")?;
    let source = prose(&root, "source")?;
    let machine = machine(&root)?;
    let (platform, erratum) = platform(&root)?;
    let devices = devices(&root)?;
    let attributes = asked(&root, &devices)?;
    let guest = root
        .need("guest", "add `[guest]` with `program = \"\"\"...\"\"\"`")?
        .table("the guest", &["mmu", "program"])?;
    let mmu = guest.get("mmu").map_or(Ok(true), |f| f.boolean())?;
    let maps = maps(&root, &devices, mmu)?;
    let iommu = iommu(&root)?;
    let iovas = iovas(&root, &maps)?;
    let field = guest.need("program", "add `program = \"\"\"...\"\"\"`; an empty one does nothing")?;

    let mut scenario = Scenario {
        title,
        story,
        source,
        machine,
        platform,
        erratum,
        devices,
        attributes,
        maps,
        iommu,
        iovas,
        mmu,
        program: Program::default(),
        expect: Expect::default(),
    };
    scenario.program = program::read(&lines_of(&field, text)?, &scenario)?;
    scenario.expect = expect(&root, &scenario, text)?;
    Ok(scenario)
}

fn title(root: &Table<'_, '_>) -> Result<String, Fault> {
    let field = root.need("title", "start with `title = \"...\"`: one line that says what happens")?;
    let title = field.string()?.trim();
    let length = title.chars().count();
    if title.chars().any(char::is_control) {
        return Err(field.fault("a title is one line", "put the rest into `story`"));
    }
    if !(1..=MAX_TITLE).contains(&length) {
        let remedy = format!("write 1 to {MAX_TITLE} characters, and the rest into `story`");
        return Err(field.fault(format!("the title has {length} characters"), remedy));
    }
    Ok(title.into())
}

fn prose(root: &Table<'_, '_>, name: &str) -> Result<String, Fault> {
    let Some(field) = root.get(name) else { return Ok(String::new()) };
    let text = field.string()?.replace("\r\n", "\n");
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(
            field.fault(format!("`{name}` has a control character"), "write text, spaces, tabs and line ends only")
        );
    }
    Ok(text)
}

fn machine(root: &Table<'_, '_>) -> Result<Machine, Fault> {
    let Some(field) = root.get("machine") else { return Ok(Machine::default()) };
    let table = field.table("the machine", &["arch", "fwb"])?;
    if let Some(arch) = table.get("arch") {
        let name = arch.string()?;
        if name != "arm64" {
            return Err(arch.fault(format!("there is no machine of arch {}", quoted(name)), "write `arch = \"arm64\"`"));
        }
    }
    Ok(Machine { fwb: table.get("fwb").map(|f| f.boolean()).transpose()? })
}

/// What is declared of the machine, and the name of its erratum.
fn platform(root: &Table<'_, '_>) -> Result<(Platform, Option<String>), Fault> {
    let mut platform = Platform::USUAL;
    let Some(field) = root.get("platform") else { return Ok((platform, None)) };
    let keys = ["errors", "normal-nc", "coherent", "no-snoop", "described", "erratum"];
    let table = field.table("the platform", &keys)?;
    if let Some(field) = table.get("errors") {
        platform.containment = containment(&field)?;
    }
    if let Some(field) = table.get("normal-nc") {
        platform.normal_nc = field.one_of("state of Normal-NC", &NcDefect::ALL.map(|d| (d.name(), d)))?;
    }
    if let Some(field) = table.get("coherent") {
        platform.coherent = field.boolean()?;
    }
    if let Some(field) = table.get("no-snoop") {
        let states = [("never", NoSnoop::Never), ("possible", NoSnoop::Possible)];
        platform.no_snoop = field.one_of("state of No Snoop", &states)?;
    }
    if let Some(field) = table.get("described") {
        platform.described = field.boolean()?;
    }
    let Some(field) = table.get("erratum") else { return Ok((platform, None)) };
    let name = field.string()?;
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !(1..=64).contains(&name.len()) || !name.chars().all(letter) {
        let remedy = "the name of an erratum is 1 to 64 of a-z, 0-9 and `-`, such as `altra-pcie65`";
        return Err(field.fault(format!("{} is no erratum", quoted(name)), remedy));
    }
    if let Some(other) = table.get("normal-nc") {
        let message = "the platform has `normal-nc` and `erratum`";
        return Err(Fault::new(other.key, message, "remove one: the erratum says what Normal-NC does wrong"));
    }
    Ok((platform, Some(name.into())))
}

/// What comes of failing accesses: one answer for all, or one for each class of types.
fn containment(field: &Field<'_, '_>) -> Result<Containment, Fault> {
    let answer =
        |field: &Field<'_, '_>| field.one_of("answer to an access that fails", &Errors::ALL.map(|e| (e.name(), e)));
    let table = match field.value.get_ref() {
        DeValue::String(_) => {
            let both = answer(field)?;
            return Ok(Containment { device: both, normal: both });
        }
        DeValue::Table(table) => Table::new(table, field.value.span(), "the errors", &["device", "normal"])?,
        other => {
            let message = format!("`errors` is a string or a table, here it is {}", kind(other));
            let remedy = "write `errors = \"all-ones\"` or `errors = { device = \"uncontained\" }`";
            return Err(field.fault(message, remedy));
        }
    };
    if table.fields().is_empty() {
        return Err(table.fault("errors that say nothing", "write `device = \"...\"`, `normal = \"...\"` or both"));
    }
    let class = |name| table.get(name).map_or(Ok(Errors::AllOnes), |f| answer(&f));
    Ok(Containment { device: class("device")?, normal: class("normal")? })
}

fn devices(root: &Table<'_, '_>) -> Result<Vec<Device>, Fault> {
    let Some(field) = root.get("device") else { return Ok(Vec::new()) };
    let mut devices: Vec<Device> = Vec::new();
    let mut total = 0;
    for table in field.tables("a device", &["name", "class", "no-snoop", "coherent", "bars"])? {
        let name = name(&table, "name = \"gpu\"")?;
        let remedy = "add `bars = [{ index = 0, size = \"1M\" }]`";
        let field = table.need("bars", remedy)?;
        if devices.iter().any(|d| d.name == name) {
            return Err(table.fault(format!("there are two devices `{name}`"), "rename one of them"));
        }
        let class = table.get("class").map_or(Ok(Device::NO_CLASS), |f| class(&f))?;
        let no_snoop = table.get("no-snoop").map_or(Ok(false), |f| f.boolean())?;
        let coherent = table.get("coherent").map(|f| f.boolean()).transpose()?;
        let mut bars: Vec<Bar> = Vec::new();
        let keys = ["index", "size", "prefetchable", "readonly", "reads", "clear", "dead", "cached"];
        for table in field.tables("a BAR", &keys)? {
            total += 1;
            if total > MAX_BARS {
                return Err(table.fault(format!("a scenario has at most {MAX_BARS} BARs"), "remove those no map uses"));
            }
            let bar = bar(&table)?;
            if bars.iter().any(|b| b.index == bar.index) {
                return Err(
                    table.fault(format!("`{name}` has two BARs {}", bar.index), "give each its own `index`, 0 to 5")
                );
            }
            bars.push(bar);
        }
        if bars.is_empty() {
            return Err(field.fault("a device has at least one BAR", remedy));
        }
        devices.push(Device { name, class, no_snoop, coherent, bars });
    }
    Ok(devices)
}

fn bar(table: &Table<'_, '_>) -> Result<Bar, Fault> {
    let field = table.need("index", "add `index = 0`, up to 5")?;
    let index = field.number()?;
    let index = u8::try_from(index).ok().filter(|i| *i <= 5);
    let index = index.ok_or_else(|| field.fault("a device has the BARs 0 to 5", "write an index from 0 to 5"))?;
    let field = table.need("size", "add `size = \"1M\"`")?;
    let size = field.number()?;
    if !size.is_power_of_two() || !(PAGE..=MAX_SIZE).contains(&size) {
        let message = format!("a BAR of {size} bytes");
        return Err(field.fault(message, "write a power of two from 4K to 1G"));
    }
    let reads = table.get("reads");
    let reads = reads.map_or(Ok(Reads::Plain), |f| f.one_of("kind of read", &Reads::ALL.map(|r| (r.name(), r))))?;
    let clear = match (reads, table.get("clear")) {
        (Reads::Plain, None) => 0,
        (Reads::Clear, None) => size,
        (Reads::Plain, Some(field)) => {
            let message = "`clear` is for a BAR that a read clears";
            return Err(Fault::new(field.key, message, "add `reads = \"clear\"`, or remove it"));
        }
        (Reads::Clear, Some(field)) => {
            let clear = field.number()?;
            pages(&field, clear, size, "a part")?;
            clear
        }
    };
    let flag = |name| table.get(name).map_or(Ok(false), |f| f.boolean());
    Ok(Bar {
        index,
        size,
        prefetchable: flag("prefetchable")?,
        readonly: flag("readonly")?,
        reads,
        clear,
        dead: flag("dead")?,
        cached: flag("cached")?,
    })
}

/// The class code of a device: a name or a number.
fn class(field: &Field<'_, '_>) -> Result<u32, Fault> {
    match field.value.get_ref() {
        DeValue::String(text) if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            let names = Device::CLASSES.map(|(name, _)| name);
            let remedy = || format!("the classes are {}, or a number 0xCCSSPP up to {MAX_CLASS:#x}", list(&names));
            let found = Device::CLASSES.iter().find(|(name, _)| *name == text.as_ref());
            found.map(|(_, code)| *code).ok_or_else(|| {
                let remedy = near(text, &names).map_or_else(remedy, |n| format!("write `{n}`"));
                field.fault(format!("{} is no class of a device", quoted(text)), remedy)
            })
        }
        _ => {
            let code = field.number()?;
            let class = u32::try_from(code).ok().filter(|c| *c <= MAX_CLASS);
            class.ok_or_else(|| {
                let message = format!("the class code {code:#x} has more than 24 bits");
                field.fault(message, format!("write 0xCCSSPP, at most {MAX_CLASS:#x}"))
            })
        }
    }
}

/// What user space asked for before the guest starts.
fn asked(root: &Table<'_, '_>, devices: &[Device]) -> Result<Vec<Asked>, Fault> {
    let Some(field) = root.get("attribute") else { return Ok(Vec::new()) };
    let mut all: Vec<Asked> = Vec::new();
    for table in field.tables("an attribute", &["bar", "offset", "size", "ask"])? {
        if all.len() == MAX_ATTRIBUTES {
            let message = format!("a scenario has at most {MAX_ATTRIBUTES} attributes");
            return Err(table.fault(message, "make several scenarios of it"));
        }
        let (device, bar) = bar_of(&table.need("bar", "add `bar = \"DEVICE.INDEX\"`")?, devices)?;
        let (offset, size) = part(&table, devices[device].bars[bar].size, "an attribute")?;
        let ask = table.need("ask", "add `ask = \"write-combine\"`")?;
        let ask = ask.one_of("attribute", &Attribute::ALL.map(|a| (a.name(), a)))?;
        let same = all
            .iter()
            .find(|a| (a.device, a.bar) == (device, bar) && a.offset < offset + size && offset < a.offset + a.size);
        if let Some(other) = same {
            let bytes = |offset: u64, size: u64| format!("{offset:#x} to {:#x}", offset + size - 1);
            let message = format!(
                "the attribute of {} overlaps that of {} in `{}.{}`",
                bytes(offset, size),
                bytes(other.offset, other.size),
                devices[device].name,
                devices[device].bars[bar].index
            );
            return Err(table.fault(message, "write an `offset` and a `size` of its own for each"));
        }
        all.push(Asked { device, bar, offset, size, ask });
    }
    Ok(all)
}

/// The `name` of a device or a map.
fn name(table: &Table<'_, '_>, example: &str) -> Result<String, Fault> {
    let field = table.need("name", &format!("add `{example}`"))?;
    let name = field.string()?;
    match number::name(name) {
        Ok(()) => Ok(name.into()),
        Err((message, remedy)) => Err(field.fault(format!("{} {message}", quoted(name)), remedy)),
    }
}

fn maps(root: &Table<'_, '_>, devices: &[Device], mmu: bool) -> Result<Vec<Map>, Fault> {
    let Some(field) = root.get("map") else { return Ok(Vec::new()) };
    let mut maps: Vec<Map> = Vec::new();
    let mut types = BTreeSet::from(GUEST_TYPES);
    let mut ram = 0;
    for table in field.tables("a map", &["name", "bar", "ram", "hole", "type", "offset", "size", "writable"])? {
        if maps.len() == MAX_MAPS {
            return Err(table.fault(format!("a scenario has at most {MAX_MAPS} maps"), "make several scenarios of it"));
        }
        let name = name(&table, "name = \"vram\"")?;
        if maps.iter().any(|m| m.name == name) {
            return Err(table.fault(format!("there are two maps `{name}`"), "rename one of them"));
        }
        let (of, offset, size) = target(&table, devices)?;
        if of == Target::Ram {
            ram += size;
            if ram > MAX_RAM {
                let message = format!("the `ram` maps have more than {}", number::size(MAX_RAM));
                return Err(table.fault(message, "make one of them smaller"));
            }
        }
        let (mair, writable) = attributes(&table, mmu)?;
        types.insert(mair);
        if types.len() > MAX_TYPES {
            let message =
                format!("a scenario has at most {MAX_TYPES} memory types, device-ngnrne and normal-wb among them");
            return Err(table.fault(message, "make several scenarios of it: MAIR_EL1 has eight bytes"));
        }
        maps.push(Map { name, of, offset, size, mair, writable });
    }
    Ok(maps)
}

fn iommu(root: &Table<'_, '_>) -> Result<Iommu, Fault> {
    let Some(field) = root.get("iommu") else { return Ok(Iommu::default()) };
    let table = field.table("the IOMMU", &["coherent-walks"])?;
    let coherent_walks = table.get("coherent-walks").map_or(Ok(true), |f| f.boolean())?;
    Ok(Iommu { coherent_walks })
}

/// The mappings of the IOMMU.
fn iovas(root: &Table<'_, '_>, maps: &[Map]) -> Result<Vec<Iova>, Fault> {
    let Some(field) = root.get("iova") else { return Ok(Vec::new()) };
    let mut iovas: Vec<Iova> = Vec::new();
    for table in field.tables("a mapping of the IOMMU", &["name", "to", "entry", "non-cacheable"])? {
        if iovas.len() == MAX_MAPS {
            let message = format!("a scenario has at most {MAX_MAPS} mappings of the IOMMU");
            return Err(table.fault(message, "make several scenarios of it"));
        }
        let name = name(&table, "name = \"window\"")?;
        if iovas.iter().any(|i| i.name == name) || maps.iter().any(|m| m.name == name) {
            let message = format!("there are two maps `{name}`");
            return Err(table.fault(message, "rename one of them: `dma.` reaches `[[map]]` and `[[iova]]` by name"));
        }
        let field = table.need("to", "add `to = \"MAP\"`, a map of RAM")?;
        let to = ram(&field, field.string()?, maps)?;
        let entry = table.get("entry").map(|f| entry(&f, maps)).transpose()?;
        if let Some(twin) = iovas.iter().find(|i| entry.is_some() && i.entry == entry) {
            let message = format!("the entry of `{name}` is that of `{}`", twin.name);
            return Err(table.fault(message, "give each 8 bytes of its own"));
        }
        let non_cacheable = table.get("non-cacheable").map_or(Ok(false), |f| f.boolean())?;
        iovas.push(Iova { name, to, entry, non_cacheable });
    }
    Ok(iovas)
}

/// The map of RAM of this name.
fn ram(field: &Field<'_, '_>, name: &str, maps: &[Map]) -> Result<usize, Fault> {
    let found = maps.iter().position(|m| m.name == name);
    if let Some(found) = found.filter(|i| maps[*i].of == Target::Ram) {
        return Ok(found);
    }
    let names: Vec<&str> = maps.iter().filter(|m| m.of == Target::Ram).map(|m| m.name.as_str()).collect();
    let message = match found {
        Some(_) => format!("the map `{name}` is not of RAM"),
        None => format!("there is no map {}", quoted(name)),
    };
    let remedy = match near(name, &names) {
        _ if names.is_empty() => "add a `[[map]]` with `ram = \"4K\"`: the file has none".into(),
        Some(near) => format!("write `{near}`"),
        None => format!("the maps of RAM are {}", list(&names)),
    };
    Err(field.fault(message, remedy))
}

/// Where a page-table entry lies: aligned, in a map of RAM.
fn entry(field: &Field<'_, '_>, maps: &[Map]) -> Result<Place, Fault> {
    let text = field.string()?;
    let name = text.split_once('+').map_or(text, |(name, _)| name).trim();
    let map = ram(field, name, maps)?;
    let place = program::place(text, field.value.span(), maps)?;
    let last = maps[map].size - 8;
    if !place.offset.is_multiple_of(8) || place.offset > last {
        let message = format!("an entry at {:#x} of `{name}`", place.offset);
        return Err(field.fault(message, format!("an entry has 8 bytes: write a multiple of 8, up to {last:#x}")));
    }
    Ok(place)
}

/// What a map maps: the target, the offset in it, the size.
fn target(table: &Table<'_, '_>, devices: &[Device]) -> Result<(Target, u64, u64), Fault> {
    let remedy = "write one of `bar = \"DEVICE.INDEX\"`, `ram = \"64K\"` and `hole = \"64K\"`";
    let targets: Vec<Field<'_, '_>> =
        table.fields().into_iter().filter(|f| ["bar", "ram", "hole"].contains(&f.name)).collect();
    let field = match targets.as_slice() {
        [field] => field,
        [] => return Err(table.fault("a map is of a BAR, of RAM or of a hole", remedy)),
        [first, second, ..] => {
            let message = format!("a map is of one thing, here of `{}` and `{}`", first.name, second.name);
            return Err(Fault::new(second.key.clone(), message, remedy));
        }
    };
    if field.name != "bar" {
        if let Some(extra) = ["offset", "size"].iter().find_map(|n| table.get(n)) {
            let remedy = format!("remove it; the size is what `{}` says", field.name);
            return Err(Fault::new(extra.key, format!("`{}` is for a map of a BAR", extra.name), remedy));
        }
        let size = field.number()?;
        let max = if field.name == "ram" { MAX_RAM } else { MAX_SIZE };
        pages(field, size, max, "a map")?;
        return Ok((if field.name == "ram" { Target::Ram } else { Target::Hole }, 0, size));
    }
    let (device, bar) = bar_of(field, devices)?;
    let (offset, size) = part(table, devices[device].bars[bar].size, "a map")?;
    Ok((Target::Bar { device, bar }, offset, size))
}

/// The `offset` and the `size` of what is part of a BAR of `whole` bytes; all of it where nothing is said.
fn part(table: &Table<'_, '_>, whole: u64, what: &str) -> Result<(u64, u64), Fault> {
    let offset = match table.get("offset") {
        None => 0,
        Some(field) => {
            let offset = field.number()?;
            if !offset.is_multiple_of(PAGE) {
                let remedy = format!("{what} begins and ends at pages of 4K");
                return Err(field.fault(format!("the offset {offset:#x} is no multiple of 4K"), remedy));
            }
            if offset >= whole {
                let message = format!("the offset {offset:#x} is beyond the BAR, which has {}", number::size(whole));
                return Err(field.fault(message, format!("write an offset of at most {:#x}", whole - PAGE)));
            }
            offset
        }
    };
    let left = whole - offset;
    let Some(field) = table.get("size") else { return Ok((offset, left)) };
    let size = field.number()?;
    if size > left {
        let message = format!("{what} that ends beyond the BAR, which has {}", number::size(whole));
        return Err(
            field.fault(message, format!("write a size of at most {left:#x}, or no size for the rest of the BAR"))
        );
    }
    pages(&field, size, MAX_SIZE, what)?;
    Ok((offset, size))
}

/// The size of a map or an attribute.
fn pages(field: &Field<'_, '_>, size: u64, max: u64, what: &str) -> Result<(), Fault> {
    if size == 0 || !size.is_multiple_of(PAGE) || size > max {
        let remedy = format!("write a multiple of 4K, up to {}", number::size(max));
        return Err(field.fault(format!("{what} of {size:#x} bytes"), remedy));
    }
    Ok(())
}

/// `gpu.2`: the indices of the device and of its BAR.
fn bar_of(field: &Field<'_, '_>, devices: &[Device]) -> Result<(usize, usize), Fault> {
    let text = field.string()?;
    let all: Vec<String> =
        devices.iter().flat_map(|d| d.bars.iter().map(move |b| format!("{}.{}", d.name, b.index))).collect();
    let found = devices.iter().enumerate().find_map(|(i, d)| {
        let index = text.strip_prefix(d.name.as_str())?.strip_prefix('.')?;
        let bar = d.bars.iter().position(|b| b.index.to_string() == index)?;
        Some((i, bar))
    });
    found.ok_or_else(|| {
        let remedy = match near(text, &all) {
            _ if all.is_empty() => "add a `[[device]]` with its `bars`: the file has none".into(),
            Some(near) => format!("write `{near}`"),
            None => format!("write DEVICE.INDEX; the BARs are {}", list(&all)),
        };
        field.fault(format!("there is no BAR {}", quoted(text)), remedy)
    })
}

/// The MAIR byte of a map, and whether it is writable.
fn attributes(table: &Table<'_, '_>, mmu: bool) -> Result<(u8, bool), Fault> {
    if !mmu {
        return match ["type", "writable"].iter().find_map(|n| table.get(n)) {
            None => Ok((GUEST_TYPES[0], true)),
            Some(field) => {
                let message = format!("with the MMU off a map has no `{}`", field.name);
                let remedy = "remove it: every access is Device-nGnRnE and may write; or remove `mmu = false`";
                Err(Fault::new(field.key, message, remedy))
            }
        };
    }
    let writable = table.get("writable").map_or(Ok(true), |f| f.boolean())?;
    let names = NAMES.map(|(n, _)| n);
    let remedy = format!("the types are {}, or `mair=0xNN`", list(&names));
    let field = table.need("type", &format!("add `type = \"normal-nc\"`; {remedy}"))?;
    let text = field.string()?;
    if let Some(mair) = mair_of(text) {
        return Ok((mair, writable));
    }
    if let Some(byte) = text.strip_prefix("mair=") {
        let mair = number::number(byte).ok().and_then(|n| u8::try_from(n).ok());
        let mair = mair.ok_or_else(|| {
            field.fault(format!("{} is no MAIR byte", quoted(byte)), "write `mair=0x00` to `mair=0xff`")
        })?;
        return Ok((mair, writable));
    }
    let remedy = near(text, &names).map_or(remedy, |n| format!("write `{n}`"));
    Err(field.fault(format!("{} is no memory type", quoted(text)), remedy))
}

/// The program's text as it stands in the file, so that each line has its number; where the string has escapes, the
/// text they stand for, without.
fn lines_of<'t>(field: &Field<'t, '_>, text: &'t str) -> Result<program::Source<'t>, Fault> {
    let value = field.string()?;
    let span = field.value.span();
    let line = line_at(text, span.start);
    let raw = text.get(span.clone()).unwrap_or_default();
    let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
    let escapes = raw.starts_with('"') && raw.contains('\\');
    match raw.get(quotes..raw.len().saturating_sub(quotes)) {
        Some(inner) if !escapes => {
            let base = span.start + quotes;
            Ok(program::Source { text: inner, base: Some(base), span, line })
        }
        _ => Ok(program::Source { text: value, base: None, span, line }),
    }
}

/// The line of a byte of the file; 1 is the first.
fn line_at(text: &str, offset: usize) -> u32 {
    let lines = text.get(..offset).map_or(0, |before| before.matches('\n').count());
    u32::try_from(lines).map_or(u32::MAX, |n| n.saturating_add(1))
}

fn expect(root: &Table<'_, '_>, scenario: &Scenario, text: &str) -> Result<Expect, Fault> {
    let remedy = "add `[expect]` with `all = \"completed\"`, or with outcomes by policy";
    let field = root.need("expect", remedy)?;
    let DeValue::Table(table) = field.value.get_ref() else {
        return field.table("the expectations", &[]).map(|_| Expect::default());
    };
    let reader = Expectations { scenario, layout: Layout::of(scenario), written: scenario.program.destinations() };
    let table = Table::open(table, field.value.span(), "the expectations");
    let mut expect = Expect::default();
    for field in table.fields() {
        let names = policies(&field)?;
        let patterns = reader.patterns(&field)?;
        let line = line_at(text, field.key.start);
        for name in names {
            if name == "all" {
                expect.all.clone_from(&patterns);
                continue;
            }
            if expect.by_policy.len() == MAX_EXPECTED {
                let message = format!("at most {MAX_EXPECTED} policies have an expectation of their own");
                return Err(Fault::new(field.key, message, "use `all` for what several have in common"));
            }
            if let Some((_, other, _)) = expect.by_policy.iter().find(|(n, ..)| n == name) {
                let message = match *other {
                    other if other == line => format!("{} is named twice", quoted(name)),
                    other => format!("{} is named twice, first in line {other}", quoted(name)),
                };
                return Err(Fault::new(field.key, message, "keep one"));
            }
            expect.by_policy.push((name.into(), line, patterns.clone()));
        }
    }
    if expect == Expect::default() {
        return Err(table.fault("nothing is expected", remedy));
    }
    Ok(expect)
}

/// The policies a key names: `all`, or one or several with a space between.
fn policies<'t>(field: &Field<'t, '_>) -> Result<Vec<&'t str>, Fault> {
    let letters = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&c);
    let names: Vec<&str> = field.name.split(' ').collect();
    let fault = |message: String, remedy: &str| Err(Fault::new(field.key.clone(), message, remedy));
    if let Some(bad) = names.iter().find(|n| !(1..=64).contains(&n.len()) || !n.chars().all(letters)) {
        if bad.is_empty() && !field.name.trim().is_empty() {
            let message = format!("the policies of {} are not one space apart", quoted(field.name));
            return fault(message, "write one space between two names, none before the first or after the last");
        }
        let remedy = "write `all`, a policy's name in quotes such as \"linux-6.1\", or several with a space between";
        return fault(format!("{} is no policy", quoted(bad)), remedy);
    }
    if names.len() > 1 && names.contains(&"all") {
        return fault("`all` stands with other policies".into(), "write `all` alone: it is for those no key names");
    }
    Ok(names)
}

struct Expectations<'a> {
    scenario: &'a Scenario,
    layout: Layout,
    /// The registers an observation holds.
    written: BTreeSet<u8>,
}

impl Expectations<'_> {
    fn patterns(&self, field: &Field<'_, '_>) -> Result<Vec<Pattern>, Fault> {
        let DeValue::Array(array) = field.value.get_ref() else {
            return Ok(vec![self.pattern(field.name, field.value)?]);
        };
        let mut patterns: Vec<Pattern> = Vec::new();
        for item in array.iter() {
            if patterns.len() == MAX_EXPECTED {
                let message = format!("at most {MAX_EXPECTED} outcomes are allowed under one policy");
                return Err(Fault::new(item.span(), message, "remove what the architecture does not ask for"));
            }
            let pattern = self.pattern(field.name, item)?;
            if patterns.contains(&pattern) {
                return Err(Fault::new(
                    item.span(),
                    format!("{} stands here twice", quoted(&pattern.to_string())),
                    "remove one",
                ));
            }
            patterns.push(pattern);
        }
        if patterns.is_empty() {
            return Err(field.fault("no outcome is allowed", "write at least one, such as \"completed\""));
        }
        Ok(patterns)
    }

    fn pattern(&self, policy: &str, value: &Spanned<DeValue<'_>>) -> Result<Pattern, Fault> {
        match value.get_ref() {
            DeValue::String(name) => {
                let outcome = outcome(name, value.span())?;
                Ok(Pattern { outcome, esr: None, far: None, registers: BTreeMap::new() })
            }
            DeValue::Table(table) => self.table(policy, table, value.span()),
            other => {
                let message = format!("an outcome is a string or a table, here it is {}", kind(other));
                Err(Fault::new(value.span(), message, "write \"completed\" or { x0 = \"0x11\" }"))
            }
        }
    }

    fn table(&self, policy: &str, table: &DeTable<'_>, span: Range<usize>) -> Result<Pattern, Fault> {
        let table = Table::open(table, span, "an outcome");
        if table.fields().is_empty() {
            return Err(table.fault("an outcome that says nothing", "write \"completed\""));
        }
        let mut pattern = Pattern { outcome: "completed".into(), esr: None, far: None, registers: BTreeMap::new() };
        if let Some(field) = table.get("outcome") {
            pattern.outcome = outcome(field.string()?, field.value.span())?;
        }
        for field in table.fields() {
            match field.name {
                "outcome" => {}
                "esr" => pattern.esr = Some(esr(&field, &pattern.outcome)?),
                "far" => pattern.far = Some(self.far(&field, &pattern.outcome)?),
                name if number::register_like(name) => {
                    pattern.registers.insert(self.register(&field)?, field.number()?);
                }
                name => return Err(self.unknown(policy, &field, name)),
            }
        }
        Ok(pattern)
    }

    fn unknown(&self, policy: &str, field: &Field<'_, '_>, name: &str) -> Fault {
        // `linux-6.1 = ...` without quotes is the key `1` of a table `linux-6`.
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            let remedy = format!("put the name in quotes: {}", quoted(&format!("\"{policy}.{name}\" = ...")));
            return Fault::new(field.key.clone(), format!("{} is no key of an outcome", quoted(name)), remedy);
        }
        let registers: Vec<String> = self.written.iter().map(|r| format!("x{r}")).collect();
        let mut keys = vec!["outcome", "esr", "far"];
        keys.extend(registers.iter().map(String::as_str));
        unknown_key(field, "an outcome", &keys)
    }

    fn register(&self, field: &Field<'_, '_>) -> Result<u8, Fault> {
        let register = (0..Reg::COUNT as u8).find(|r| format!("x{r}") == field.name && self.written.contains(r));
        register.ok_or_else(|| {
            let names: Vec<String> = self.written.iter().map(|r| format!("x{r}")).collect();
            let remedy = match names.as_slice() {
                [] => "the program loads into no register; expect an outcome only".into(),
                names => format!("the program writes {}", list(names)),
            };
            Fault::new(field.key.clone(), format!("the program does not write {}", quoted(field.name)), remedy)
        })
    }

    /// A number, or a place of the program.
    fn far(&self, field: &Field<'_, '_>, outcome: &str) -> Result<u64, Fault> {
        fault_only(field, outcome)?;
        match field.value.get_ref() {
            DeValue::String(text) if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                let place = program::place(text, field.value.span(), &self.scenario.maps)?;
                Ok(self.layout.va(place))
            }
            _ => field.number(),
        }
    }
}

/// The name of an outcome.
fn outcome(name: &str, at: Range<usize>) -> Result<String, Fault> {
    let names = outcome_names();
    if names.iter().any(|n| n == name) {
        return Ok(name.into());
    }
    let remedy =
        near(name, &names).map_or_else(|| format!("the outcomes are {}", list(&names)), |n| format!("write \"{n}\""));
    Err(Fault::new(at, format!("{} is no outcome", quoted(name)), remedy))
}

/// `esr` and `far` are of faults; an error on the bus and a page fault of x86 have an address alone.
fn fault_only(field: &Field<'_, '_>, outcome: &str) -> Result<(), Fault> {
    let addressed = field.name == "far" && ["contained error", "page fault"].contains(&outcome);
    if outcome.starts_with("stage-") || outcome == FaultKind::PcAlignment.name() || addressed {
        return Ok(());
    }
    let message = format!("{} has no `{}`", quoted(outcome), field.name);
    Err(Fault::new(field.key.clone(), message, "remove it, or add `outcome = \"stage-1 ...\"` or `\"stage-2 ...\"`"))
}

fn esr(field: &Field<'_, '_>, outcome: &str) -> Result<u64, Fault> {
    fault_only(field, outcome)?;
    let esr = field.number()?;
    let kind = FaultKind::of_esr(esr).name();
    if outcome.strip_prefix("stage-1 ").or_else(|| outcome.strip_prefix("stage-2 ")).unwrap_or(outcome) == kind {
        return Ok(esr);
    }
    let message = format!("{} has another ESR: {esr:#x} reports `{kind}`", quoted(outcome));
    Err(field.fault(message, "correct the `esr` or the `outcome`"))
}
