//! The guest program, line by line.

use std::collections::BTreeMap;
use std::ops::Range;

use memtype::Attribute;

use super::error::{Fault, list, near, quoted};
use super::number::{self, NUMBERS, number, register_like};
use crate::program::{BARRIER_OPTIONS, Barrier, JumpTo, MAX_COPY, MAX_OPS, Op, Place, Program, Reg, Size, Value};
use crate::{Iova, Layout, Map, Scenario, Target};

/// Most bytes that all `copy` of a program may move: each 16 bytes become ten instructions, and the code has
/// [`CODE_SIZE`](crate::layout::CODE_SIZE).
pub(super) const MAX_COPIED: u64 = 256 << 10;

/// Every operation: its name without a size, whether it has one, how it is written.
const OPERATIONS: [(&str, bool, &str); 18] = [
    ("store", true, "PLACE, VALUE"),
    ("load", true, "PLACE -> xR"),
    ("pair.store", false, "PLACE, VALUE, VALUE"),
    ("pair.load", false, "PLACE -> xR, xR"),
    ("copy", false, "TO, FROM, BYTES"),
    ("zero", false, "PLACE"),
    ("atomic.add", true, "PLACE, VALUE -> xR"),
    ("exclusive", true, "PLACE, VALUE -> xOLD, xSTATUS"),
    ("clean", false, "PLACE"),
    ("user.store", true, "PLACE, VALUE"),
    ("user.load", true, "PLACE -> xR"),
    ("dma.store", true, "[DEVICE,] PLACE, VALUE"),
    ("dma.load", true, "[DEVICE,] PLACE -> xR"),
    ("attribute", false, "PLACE, ASK"),
    ("dmb", false, "OPTION"),
    ("dsb", false, "OPTION"),
    ("isb", false, ""),
    ("dgh", false, ""),
];

/// The text of a program, and where it stands in the file.
pub(super) struct Source<'a> {
    /// The program.
    pub(super) text: &'a str,
    /// The offset of its first byte in the file; `None` where the string has escapes, so that nobody knows.
    pub(super) base: Option<usize>,
    /// The whole string in the file.
    pub(super) span: Range<usize>,
    /// The line of the file `text` starts on.
    pub(super) line: u32,
}

impl Source<'_> {
    /// Where `part`, a slice of the text, stands in the file.
    fn at(&self, part: &str) -> Range<usize> {
        let offset = (part.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        match self.base {
            Some(base) if offset <= self.text.len() => base + offset..base + offset + part.len(),
            _ => self.span.clone(),
        }
    }

    fn fault(&self, part: &str, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        let mut message = message.into();
        if self.base.is_none() {
            let offset = (part.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
            let line = self.text.get(..offset).map_or(0, |before| before.matches('\n').count());
            message.push_str(&format!(" (line {} of the program)", line + 1));
        }
        Fault::new(self.at(part), message, remedy)
    }
}

/// Reads the program of `scenario`, which is complete but for it.
pub(super) fn read(source: &Source<'_>, scenario: &Scenario) -> Result<Program, Fault> {
    let maps = scenario.maps.as_slice();
    let mut labels = BTreeMap::new();
    let mut lines = Vec::new();
    for (i, line) in (0u32..).zip(source.text.split('\n')) {
        let line = code(line);
        if let Some((label, rest)) = line.split_once(':') {
            check_label(source, label, rest, maps)?;
            if labels.insert(label, lines.len()).is_some() {
                let message = format!("there are two labels {}", quoted(label));
                return Err(source.fault(label, message, "rename one of them"));
            }
        } else if !line.is_empty() {
            if lines.len() == MAX_OPS {
                let message = format!("a program has at most {MAX_OPS} operations");
                return Err(source.fault(line, message, "make several scenarios of it, or repeat by `jump`"));
            }
            let number = if source.base.is_some() { source.line.saturating_add(i) } else { source.line };
            lines.push((number, line));
        }
    }
    let reader = Reader { source, maps, outside: Some((scenario, Layout::of(scenario))), labels };
    let mut program = Program::default();
    let mut copied = 0;
    for (number, line) in lines {
        let op = reader.operation(line)?;
        if let Op::Copy { bytes, .. } = op {
            copied += bytes;
            if copied > MAX_COPIED {
                let message = format!("all copies of a program move at most {} bytes", number::size(MAX_COPIED));
                return Err(source.fault(line, message, "copy less, or repeat one copy by `jump`"));
            }
        }
        program.ops.push((number, op));
        program.text.push(line.into());
    }
    Ok(program)
}

/// A place outside of a program: `vram+3`. One past the map's end is allowed: where an access that leaves the map faults.
pub(super) fn place(text: &str, span: Range<usize>, maps: &[Map]) -> Result<Place, Fault> {
    let source = Source { text, base: Some(span.start), span: span.clone(), line: 1 };
    let reader = Reader { source: &source, maps, outside: None, labels: BTreeMap::new() };
    let (place, offset) = reader.place_unbounded(text.trim()).map_err(|f| Fault { at: span.clone(), ..f })?;
    let size = maps[place.map].size;
    if place.offset > size {
        let message = format!("{} is beyond the map, which has {}", quoted(offset), number::size(size));
        return Err(Fault::new(span, message, format!("write an offset of at most {size:#x}")));
    }
    Ok(place)
}

/// A line without its comment and the spaces around it.
fn code(line: &str) -> &str {
    let end = ["#", ";", "//"].iter().filter_map(|c| line.find(c)).min().unwrap_or(line.len());
    line[..end].trim()
}

fn check_label(source: &Source<'_>, label: &str, rest: &str, maps: &[Map]) -> Result<(), Fault> {
    if !rest.trim().is_empty() {
        return Err(source.fault(
            rest.trim(),
            "a label stands alone on its line",
            "put the operation on the next line",
        ));
    }
    if let Err((message, remedy)) = number::name(label) {
        return Err(source.fault(label, format!("{} {message}", quoted(label)), remedy));
    }
    if maps.iter().any(|m| m.name == label) {
        let message = format!("{} is the name of a map", quoted(label));
        return Err(source.fault(label, message, "rename the label: `jump` could mean either"));
    }
    Ok(())
}

struct Reader<'a> {
    source: &'a Source<'a>,
    maps: &'a [Map],
    /// For a program: what there is beside the maps, and where all lies.
    outside: Option<(&'a Scenario, Layout)>,
    /// The index of the operation each label stands before.
    labels: BTreeMap<&'a str, usize>,
}

impl<'a> Reader<'a> {
    fn fault<T>(&self, part: &str, message: impl Into<String>, remedy: impl Into<String>) -> Result<T, Fault> {
        Err(self.source.fault(part, message, remedy))
    }

    fn operation(&self, line: &'a str) -> Result<Op, Fault> {
        let (mnemonic, operands) = line.split_at(line.find(char::is_whitespace).unwrap_or(line.len()));
        let operands = operands.trim();
        if mnemonic == "jump" {
            return self.jump(mnemonic, operands);
        }
        let (name, size, form) = self.mnemonic(mnemonic)?;
        let usage = format!("write {}", quoted(format!("{mnemonic} {form}").trim()));
        let (sources, results) = match operands.split_once("->") {
            Some((sources, results)) => (sources, Some(results)),
            None => (operands, None),
        };
        let (form_sources, form_results) = match form.split_once("->") {
            Some((sources, results)) => (sources, Some(results)),
            None => (form, None),
        };
        let results = match (results, form_results) {
            (None, Some(_)) => {
                return self.fault(line, format!("{} needs a register for its result", quoted(mnemonic)), usage);
            }
            (Some(results), None) => {
                return self.fault(results.trim(), format!("{} has no result", quoted(mnemonic)), usage);
            }
            (Some(results), Some(form)) => self.operands(results, form, mnemonic, "results", &usage)?,
            (None, None) => Vec::new(),
        };
        if matches!(name, "dmb" | "dsb" | "isb" | "dgh") {
            return self.barrier(name, mnemonic, sources.trim());
        }
        if name.starts_with("dma.") {
            return self.dma(name, size, (line, mnemonic), sources, &results, &usage);
        }
        let sources = self.operands(sources, form_sources, mnemonic, "operands", &usage)?;
        let at = self.place(sources[0])?;
        Ok(match name {
            "store" => Op::Store { size, at, value: self.value(sources[1], name, Some(size))? },
            "load" => Op::Load { size, at, to: self.register(results[0])? },
            "pair.store" => {
                Op::StorePair { at, values: [self.value(sources[1], name, None)?, self.value(sources[2], name, None)?] }
            }
            "pair.load" => {
                let to = [self.register(results[0])?, self.register(results[1])?];
                if to[0] == to[1] {
                    let message = format!("{} loads into one register twice", quoted(mnemonic));
                    return self.fault(
                        results[1],
                        message,
                        "name two registers: LDP of one is CONSTRAINED UNPREDICTABLE",
                    );
                }
                Op::LoadPair { at, to }
            }
            "copy" => Op::Copy { to: at, from: self.place(sources[1])?, bytes: self.copy_bytes(sources[2])? },
            "zero" => Op::Zero { at },
            "clean" => Op::Clean { at },
            "user.store" => {
                self.outside(mnemonic, name, size, sources[0], at)?;
                Op::UserStore { size, at, value: self.value(sources[1], name, Some(size))? }
            }
            "user.load" => {
                self.outside(mnemonic, name, size, sources[0], at)?;
                Op::UserLoad { size, at, to: self.register(results[0])? }
            }
            "attribute" => self.attribute(sources[0], at, sources[1])?,
            "atomic.add" => Op::AtomicAdd {
                size,
                at,
                value: self.value(sources[1], name, Some(size))?,
                to: self.register(results[0])?,
            },
            _ => self.exclusive(size, at, self.value(sources[1], name, Some(size))?, &results)?,
        })
    }

    /// Whether user space or a device can make this access of `size` bytes at `at`, which is written `text`.
    fn outside(&self, mnemonic: &str, name: &str, size: Size, text: &str, at: Place) -> Result<(), Fault> {
        let map = &self.maps[at.map];
        if map.of == Target::Hole {
            let message = format!("the map `{}` is a hole: {} finds no memory there", map.name, quoted(mnemonic));
            return self.fault(text, message, "name a map of a BAR or of RAM");
        }
        if !at.offset.is_multiple_of(size.bytes()) {
            let message = format!("the offset {:#x} is no multiple of {} bytes", at.offset, size.bytes());
            return self.fault(text, message, format!("align it: every access of `{name}` is aligned to its own size"));
        }
        Ok(())
    }

    /// A device's access: by the first device where none is named, to a map or through a mapping of the IOMMU's.
    fn dma(
        &self,
        name: &str,
        size: Size,
        (line, mnemonic): (&'a str, &'a str),
        sources: &'a str,
        results: &[&'a str],
        usage: &str,
    ) -> Result<Op, Fault> {
        let (devices, iovas): (&[_], &[_]) = match &self.outside {
            Some((scenario, _)) => (&scenario.devices, &scenario.iovas),
            None => (&[], &[]),
        };
        if devices.is_empty() {
            let message = format!("{} needs a device, and the file has none", quoted(mnemonic));
            return self.fault(mnemonic, message, "add a `[[device]]`: the first does the DMA where none is named");
        }
        let form =
            if name == "dma.store" { ["PLACE, VALUE", "DEVICE, PLACE, VALUE"] } else { ["PLACE", "DEVICE, PLACE"] };
        let named = sources.split(',').count() == form[1].split(',').count();
        let mut operands = self.operands(sources, form[usize::from(named)], mnemonic, "operands", usage)?;
        let mut device = 0;
        if named {
            let text = operands.remove(0);
            let Some(found) = devices.iter().position(|d| d.name == text) else {
                let names: Vec<&str> = devices.iter().map(|d| d.name.as_str()).collect();
                let remedy = near(text, &names)
                    .map_or_else(|| format!("the devices are {}; {usage}", list(&names)), |n| format!("write `{n}`"));
                return self.fault(self.before(text, line), format!("there is no device {}", quoted(text)), remedy);
            };
            device = found;
        }
        let text = operands[0];
        let called = text.split_once('+').map_or(text, |(n, _)| n.trim());
        let (at, via) = match iovas.iter().position(|i| i.name == called) {
            Some(via) => (self.through(text, called, &iovas[via])?, Some(via)),
            None => (self.place(text)?, None),
        };
        self.outside(mnemonic, name, size, text, at)?;
        Ok(match operands.get(1) {
            Some(value) => Op::DmaStore { device, size, at, via, value: self.value(value, name, Some(size))? },
            None => Op::DmaLoad { device, size, at, via, to: self.register(results[0])? },
        })
    }

    /// The place behind a mapping of the IOMMU's, at the start.
    fn through(&self, text: &str, name: &str, iova: &Iova) -> Result<Place, Fault> {
        let offset = match text.split_once('+') {
            None => 0,
            Some((_, offset)) => {
                let offset = offset.trim();
                number(offset).or_else(|e| self.fault(offset, format!("{} {e}", quoted(offset)), NUMBERS))?
            }
        };
        let size = if iova.entry.is_some() { Iova::PAGE } else { self.maps[iova.to].size };
        if offset < size {
            return Ok(Place { map: iova.to, offset });
        }
        let message = format!("{offset:#x} is beyond the mapping `{name}`, which has {}", number::size(size));
        self.fault(text, message, format!("write an offset of at most {:#x}", size - 1))
    }

    fn attribute(&self, text: &str, at: Place, ask: &str) -> Result<Op, Fault> {
        let map = &self.maps[at.map];
        if !matches!(map.of, Target::Bar { .. }) {
            let message = format!("the map `{}` is of no BAR: it has no attribute", map.name);
            return self.fault(text, message, "name a map of a BAR");
        }
        if let Some(ask) = Attribute::named(ask) {
            return Ok(Op::SetAttribute { at, ask });
        }
        let names = Attribute::ALL.map(Attribute::name);
        let remedy = near(ask, &names)
            .map_or_else(|| format!("the attributes are {}", list(&names)), |n| format!("write `{n}`"));
        let message = match ask {
            "" => "an attribute is missing".into(),
            ask => format!("{} is no attribute", quoted(ask)),
        };
        self.fault(ask, message, remedy)
    }

    fn exclusive(&self, size: Size, at: Place, value: Value, results: &[&str]) -> Result<Op, Fault> {
        let (old, status) = (self.register(results[0])?, self.register(results[1])?);
        if old == status {
            return self.fault(results[1], "the value before and the status go to one register", "name two registers");
        }
        if value == Value::Reg(status) {
            let message = "the status goes to the register that is stored";
            return self.fault(results[1], message, "name another: STXR is CONSTRAINED UNPREDICTABLE here");
        }
        if value == Value::Reg(old) {
            let message = "the value before goes to the register that is stored";
            return self.fault(
                results[0],
                message,
                "name another: LDXR would overwrite the value before STXR stores it",
            );
        }
        Ok(Op::Exclusive { size, at, value, old, status })
    }

    /// The name in [`OPERATIONS`], the size (8 where there is none), the operands' form.
    fn mnemonic(&self, mnemonic: &'a str) -> Result<(&'static str, Size, &'static str), Fault> {
        let find = |name: &str| OPERATIONS.iter().find(|(n, ..)| *n == name);
        match find(mnemonic) {
            Some(&(name, false, form)) => return Ok((name, Size::B8, form)),
            Some(&(name, true, form)) => {
                let remedy = format!("write `{name}.8 {form}`; the size is 1, 2, 4 or 8 bytes");
                return self.fault(mnemonic, format!("`{name}` needs a size"), remedy);
            }
            None => {}
        }
        if let Some((name, size)) = mnemonic.rsplit_once('.')
            && let Some(&(name, sized, form)) = find(name)
        {
            return match size.parse().ok().and_then(Size::from_bytes).filter(|s| sized && s.bytes().to_string() == size)
            {
                Some(size) => Ok((name, size, form)),
                None if sized => {
                    let remedy = format!("write `{name}.1`, `{name}.2`, `{name}.4` or `{name}.8`");
                    self.fault(mnemonic, format!("`{name}` has no size {}", quoted(size)), remedy)
                }
                None => self.fault(
                    mnemonic,
                    format!("`{name}` has no sizes"),
                    format!("write {}", quoted(format!("{name} {form}").trim())),
                ),
            };
        }
        let mut names = vec!["jump".into()];
        for (name, sized, _) in OPERATIONS {
            if sized {
                names.extend([1, 2, 4, 8].map(|n| format!("{name}.{n}")));
            } else {
                names.push(name.into());
            }
        }
        let remedy = near(mnemonic, &names).map_or_else(
            || {
                let mut names: Vec<String> =
                    OPERATIONS.iter().map(|(n, sized, _)| format!("{n}{}", if *sized { ".N" } else { "" })).collect();
                names.push("jump".into());
                format!("the operations are {}", list(&names))
            },
            |n| format!("write `{n}`"),
        );
        self.fault(mnemonic, format!("{} is no operation", quoted(mnemonic)), remedy)
    }

    /// As many operands as `form` has.
    fn operands(
        &self,
        text: &'a str,
        form: &str,
        mnemonic: &str,
        what: &str,
        usage: &str,
    ) -> Result<Vec<&'a str>, Fault> {
        let operands: Vec<&str> = text.split(',').map(str::trim).collect();
        let (there, wanted) = (if text.trim().is_empty() { 0 } else { operands.len() }, form.split(',').count());
        if there == wanted {
            return Ok(operands);
        }
        // With none there, the fault is at the operation.
        let at = if there == 0 { self.before(text, mnemonic) } else { text.trim() };
        let what = if wanted == 1 { what.trim_end_matches('s') } else { what };
        self.fault(at, format!("{} has {wanted} {what}, here {}", quoted(mnemonic), are(there)), usage)
    }

    /// `part` if it is not empty, else `other`.
    fn before<'s>(&self, part: &'s str, other: &'s str) -> &'s str {
        if part.trim().is_empty() { other } else { part }
    }

    fn barrier(&self, name: &str, mnemonic: &str, option: &str) -> Result<Op, Fault> {
        let make = match name {
            "dmb" => Barrier::Dmb,
            "dsb" => Barrier::Dsb,
            _ if !option.is_empty() => {
                return self.fault(option, format!("`{name}` has no operands"), format!("write `{name}`"));
            }
            "isb" => return Ok(Op::Barrier(Barrier::Isb)),
            _ => return Ok(Op::Barrier(Barrier::Dgh)),
        };
        if let Some((_, crm)) = BARRIER_OPTIONS.iter().find(|(n, _)| *n == option) {
            return Ok(Op::Barrier(make(*crm)));
        }
        let names = BARRIER_OPTIONS.map(|(n, _)| n);
        let close = near(option, &names);
        let remedy =
            close.map_or_else(|| format!("the options are {}", list(&names)), |n| format!("write `{name} {n}`"));
        let message = match option {
            "" => format!("`{name}` needs an option"),
            option => format!("{} is no option of `{name}`", quoted(option)),
        };
        self.fault(self.before(option, mnemonic), message, remedy)
    }

    fn jump(&self, mnemonic: &str, target: &'a str) -> Result<Op, Fault> {
        if target.is_empty() {
            return self.fault(mnemonic, "`jump` needs a target", "write `jump LABEL` or `jump PLACE`");
        }
        if let Some(op) = self.labels.get(target) {
            return Ok(Op::Jump(JumpTo::Op(*op)));
        }
        if target.contains('+') || self.maps.iter().any(|m| m.name == target) {
            return Ok(Op::Jump(JumpTo::Place(self.place(target)?)));
        }
        let labels: Vec<&str> = self.labels.keys().copied().collect();
        let maps: Vec<&str> = self.maps.iter().map(|m| m.name.as_str()).collect();
        let remedy = match near(target, &labels).or_else(|| near(target, &maps)) {
            Some(name) => format!("write `jump {name}`"),
            None if labels.is_empty() => "write the label alone on a line, with a colon; there is none yet".into(),
            None => format!("the labels are {}", list(&labels)),
        };
        self.fault(target, format!("there is no label {}", quoted(target)), remedy)
    }

    /// `map` or `map+offset`, the offset below the map's size.
    fn place(&self, text: &str) -> Result<Place, Fault> {
        let (place, offset) = self.place_unbounded(text)?;
        let map = &self.maps[place.map];
        if place.offset < map.size {
            return Ok(place);
        }
        let message =
            format!("{} is beyond the map `{}`, which has {}", quoted(offset), map.name, number::size(map.size));
        self.fault(text, message, format!("write an offset of at most {:#x}, or make the map larger", map.size - 1))
    }

    /// A place, its offset not compared to the map's size; and the text of the offset.
    fn place_unbounded<'s>(&self, text: &'s str) -> Result<(Place, &'s str), Fault> {
        let (name, offset) = text.split_once('+').map_or((text, None), |(n, o)| (n.trim(), Some(o.trim())));
        let Some(map) = self.maps.iter().position(|m| m.name == name) else {
            if self.outside.as_ref().is_some_and(|(scenario, _)| scenario.iovas.iter().any(|i| i.name == name)) {
                let message = format!("{} is an address of devices, by `[[iova]]`", quoted(name));
                return self.fault(text, message, "only `dma.` reaches it: name a `[[map]]`");
            }
            let names: Vec<&str> = self.maps.iter().map(|m| m.name.as_str()).collect();
            let remedy = match near(name, &names) {
                _ if names.is_empty() => "add a `[[map]]`: the file has none".into(),
                Some(near) => format!("write `{near}`"),
                None => format!("a place is a map or MAP+OFFSET; the file maps {}", list(&names)),
            };
            let message = match name {
                "" => "a place is missing".into(),
                name if register_like(name) => format!("{} is a register, not a place", quoted(name)),
                name => format!("there is no map {}", quoted(name)),
            };
            return self.fault(text, message, remedy);
        };
        let (text, offset) = match offset {
            None => ("0", 0),
            Some(text) => (text, number(text).or_else(|e| self.fault(text, format!("{} {e}", quoted(text)), NUMBERS))?),
        };
        Ok((Place { map, offset }, text))
    }

    /// A number that fits in `size`, a register, or the guest-physical address of a place.
    fn value(&self, text: &str, name: &str, size: Option<Size>) -> Result<Value, Fault> {
        if register_like(text) {
            return self.register(text).map(Value::Reg);
        }
        let address = match (text.strip_prefix('&'), &self.outside) {
            (Some(place), Some((_, layout))) => Some(layout.ipa(self.place(place.trim())?)),
            _ => None,
        };
        let value = match address.map_or_else(|| number(text), Ok) {
            Ok(value) => value,
            Err(_) if text.is_empty() => {
                return self.fault(text, "a value is missing", format!("{NUMBERS}, or a register"));
            }
            Err(e) => {
                return self.fault(
                    text,
                    format!("{} {e}", quoted(text)),
                    format!("{NUMBERS}, or a register x0 to x15"),
                );
            }
        };
        if let Some(size) = size.filter(|s| *s != Size::B8) {
            let (n, max) = (size.bytes(), (1u64 << (size.bytes() * 8)) - 1);
            if value > max {
                let message = format!("{} does not fit in {n} byte{}", quoted(text), if n == 1 { "" } else { "s" });
                let larger = [2, 4, 8].into_iter().find(|l| *l == 8 || value >> (l * 8) == 0).unwrap_or(8);
                return self.fault(text, message, format!("write at most {max:#x}, or `{name}.{larger}`"));
            }
        }
        Ok(Value::Imm(value))
    }

    fn register(&self, text: &str) -> Result<Reg, Fault> {
        let reg = text.strip_prefix('x').filter(|n| register_like(text) && (n.len() == 1 || !n.starts_with('0')));
        if let Some(reg) = reg.and_then(|n| n.parse().ok()).and_then(Reg::new) {
            return Ok(reg);
        }
        let message = match text {
            "" => "a register is missing".into(),
            text if register_like(text) => format!("a program has no register {}", quoted(text)),
            text => format!("{} is no register", quoted(text)),
        };
        self.fault(text, message, "write a register x0 to x15")
    }

    fn copy_bytes(&self, text: &str) -> Result<u64, Fault> {
        match number(text) {
            Ok(bytes @ 1..=MAX_COPY) => Ok(bytes),
            Ok(_) => {
                self.fault(text, format!("a copy of {} bytes", quoted(text)), format!("copy 1 to {MAX_COPY} bytes"))
            }
            Err(e) => self.fault(text, format!("{} {e}", quoted(text)), format!("copy 1 to {MAX_COPY} bytes")),
        }
    }
}

/// How many are there, in words.
fn are(n: usize) -> String {
    match n {
        0 => "are none".into(),
        1 => "is 1".into(),
        n => format!("are {n}"),
    }
}
