//! `_CCA` and what finds a PCI host bridge (`_HID`, `_CID`, `_SEG`, `_BBN`), out of a DSDT and SSDTs (ACPI 6.5, 20).
//!
//! Only the definitions are walked: scopes, devices and names with a constant. Nothing is executed. What is not
//! understood is skipped to the end of the package it is in; if a `_CCA` may be in there, the device says so
//! ([`Device::open`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::table::{Error, HEADER, Table};

/// What is kept of a device: names that are constants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// `_HID` and `_CID`: `PNP0A08`.
    pub ids: Vec<String>,
    /// `_CCA`.
    pub cca: Option<bool>,
    /// `_SEG`.
    pub segment: Option<u64>,
    /// `_BBN`.
    pub bus: Option<u64>,
    /// One of these is there and no constant, or may be in what was skipped: what is absent above may not be.
    pub open: bool,
}

/// A PCI host bridge: a device with the id PNP0A03 or PNP0A08.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostBridge {
    /// Its path: `\_SB.PCI0`.
    pub path: String,
    /// The PCI segment; 0 where no `_SEG` says another, nothing where that cannot be told.
    pub segment: Option<u16>,
    /// The first bus, `_BBN`.
    pub bus: Option<u8>,
    /// `_CCA`, its own or of the outermost device above that has one (ACPI 6.5, 6.2.17).
    pub cca: Option<bool>,
    /// Whether a `_CCA` that is absent may be one that is computed.
    pub open: bool,
}

/// The devices of all definition blocks of a machine, by their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Namespace {
    /// Those that have a name that is kept.
    pub devices: BTreeMap<String, Device>,
}

/// Every `_CCA` that is a constant, by the path of its device (`\_SB.PCI0`). A `_CCA` that is a method is left out.
///
/// # Errors
/// The bytes are not a definition block.
pub fn cca(bytes: &[u8]) -> Result<BTreeMap<String, bool>, Error> {
    let mut names = Namespace::default();
    names.read(bytes)?;
    Ok(names.cca())
}

/// The PCI host bridges of one definition block.
///
/// # Errors
/// The bytes are not a definition block.
pub fn host_bridges(bytes: &[u8]) -> Result<Vec<HostBridge>, Error> {
    let mut names = Namespace::default();
    names.read(bytes)?;
    Ok(names.host_bridges())
}

impl Namespace {
    /// Adds a DSDT or SSDT, with its header. Later blocks add to devices of earlier ones.
    ///
    /// # Errors
    /// The bytes are not a definition block.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let name = match crate::table::signature(bytes) {
            Some("SSDT") => "SSDT",
            _ => "DSDT",
        };
        let table = Table::open(name, bytes)?;
        let block = table.bytes(HEADER, table.len() - HEADER)?;
        Walk { names: self }.terms(block, &Path::default(), 0);
        Ok(())
    }
    /// Every `_CCA` that is a constant, by the path of its device.
    #[must_use]
    pub fn cca(&self) -> BTreeMap<String, bool> {
        self.devices.iter().filter_map(|(path, device)| Some((path.clone(), device.cca?))).collect()
    }
    /// The PCI host bridges.
    #[must_use]
    pub fn host_bridges(&self) -> Vec<HostBridge> {
        let bridges = self.devices.iter().filter(|(_, device)| device.is_host_bridge());
        bridges
            .map(|(path, device)| {
                // The outermost wins: below it no other is looked at.
                let line = path.match_indices('.').map(|(dot, _)| &path[..dot]).chain([path.as_str()]);
                let line = line.filter_map(|path| self.devices.get(path));
                let mut cca = None;
                let mut open = false;
                for above in line {
                    if above.cca.is_some() {
                        cca = above.cca;
                        break;
                    }
                    open |= above.open;
                }
                let segment = match device.segment {
                    Some(segment) => u16::try_from(segment).ok(),
                    None if device.open => None,
                    None => Some(0),
                };
                let bus = device.bus.and_then(|bus| u8::try_from(bus).ok());
                HostBridge { path: path.clone(), segment, bus, cca, open: open && cca.is_none() }
            })
            .collect()
    }
}

impl Device {
    fn is_host_bridge(&self) -> bool {
        self.ids.iter().any(|id| id == "PNP0A03" || id == "PNP0A08")
    }
}

/// Scopes within scopes that are followed.
const DEPTH: usize = 32;
/// Segments of a path that are kept.
const SEGMENTS: usize = 16;
/// Ids of a device that are kept.
const IDS: usize = 8;
/// Operators within operators that are followed.
const NESTED: usize = 32;

/// A path in the namespace, as its segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Path(Vec<[u8; 4]>);

impl Path {
    fn text(&self) -> String {
        let mut out = String::from("\\");
        for (i, segment) in self.0.iter().enumerate() {
            if i > 0 {
                out.push('.');
            }
            // Names are four characters, the last of which are filled with underscores.
            let end = segment.iter().rposition(|c| *c != b'_').map_or(1, |last| last + 1);
            out.extend(segment.iter().take(end).map(|c| char::from(*c)));
        }
        out
    }
}

/// A name as it is written.
struct Name {
    root: bool,
    up: usize,
    segments: Vec<[u8; 4]>,
}

impl Name {
    fn within(&self, scope: &Path) -> Option<Path> {
        let keep = if self.root { 0 } else { scope.0.len().checked_sub(self.up)? };
        let all = keep + self.segments.len();
        (all <= SEGMENTS).then(|| Path(scope.0.iter().take(keep).chain(&self.segments).copied().collect()))
    }
    /// The one segment of a name that is nothing but that.
    fn plain(&self) -> Option<&[u8; 4]> {
        match self.segments.as_slice() {
            [one] if !self.root && self.up == 0 => Some(one),
            _ => None,
        }
    }
}

/// What an object is worth, where that can be told without executing anything.
enum Value<'a> {
    Integer(u64),
    Text(&'a [u8]),
    Package(&'a [u8]),
    Other,
}

/// A device is kept for a name, six bytes of code or more, or for a word in what was skipped, four; its path has at most
/// [`SEGMENTS`]. So memory is bounded by the length of the block.
struct Walk<'n> {
    names: &'n mut Namespace,
}

impl Walk<'_> {
    /// A list of terms, to its end or to the first that is not understood.
    fn terms(&mut self, code: &[u8], scope: &Path, depth: usize) {
        let mut at = Cursor(code);
        while !at.0.is_empty() {
            let rest = at.0;
            if self.term(&mut at, scope, depth).is_none() {
                self.skipped(rest, scope);
                return;
            }
        }
    }

    /// Code that is not looked into. If it names `_CCA`, `_SEG` or an id, what is known of its device is open.
    fn skipped(&mut self, code: &[u8], scope: &Path) {
        let names = [b"_CCA", b"_SEG"];
        if code.windows(4).any(|word| names.iter().any(|name| word == *name)) {
            self.device(scope).open = true;
        }
    }

    fn device(&mut self, path: &Path) -> &mut Device {
        self.names.devices.entry(path.text()).or_default()
    }

    /// One term of a definition block (ACPI 6.5, 20.2.5). Nothing: it is not understood.
    fn term(&mut self, at: &mut Cursor<'_>, scope: &Path, depth: usize) -> Option<()> {
        match at.byte()? {
            // Alias: two names.
            0x06 => {
                at.name()?;
                at.name()?;
            }
            // Name.
            0x08 => {
                let name = at.name()?;
                let value = at.value(0)?;
                self.keep(&name, value, scope);
            }
            // Scope.
            0x10 => self.scope(at.package()?, scope, depth, 0),
            // Method: its name may be one that is kept.
            0x14 => {
                let mut body = Cursor(at.package()?);
                let name = body.name()?;
                if name.plain().is_some_and(is_kept) {
                    self.device(scope).open = true;
                }
            }
            // External: a name, a type, a number of arguments.
            0x15 => {
                at.name()?;
                at.take(2)?;
            }
            // If, Else, While: what is in them depends.
            0xa0..=0xa2 => {
                let body = at.package()?;
                self.skipped(body, scope);
            }
            // Create…Field: a buffer, an index, a name.
            0x8a..=0x8d | 0x8f => {
                at.skip(0)?;
                at.skip(0)?;
                at.name()?;
            }
            0x5b => match at.byte()? {
                // Mutex.
                0x01 => {
                    at.name()?;
                    at.take(1)?;
                }
                // Event.
                0x02 => {
                    at.name()?;
                }
                // CreateField.
                0x13 => {
                    for _ in 0..3 {
                        at.skip(0)?;
                    }
                    at.name()?;
                }
                // OperationRegion: a name, a space, an offset, a length.
                0x80 => {
                    at.name()?;
                    at.take(1)?;
                    at.skip(0)?;
                    at.skip(0)?;
                }
                // Field, IndexField, BankField.
                0x81 | 0x86 | 0x87 => {
                    at.package()?;
                }
                // Device, ThermalZone.
                0x82 | 0x85 => self.scope(at.package()?, scope, depth, 0),
                // Processor: an id, an address, a length before its terms.
                0x83 => self.scope(at.package()?, scope, depth, 6),
                // PowerResource: a level, an order.
                0x84 => self.scope(at.package()?, scope, depth, 3),
                // DataRegion.
                0x88 => {
                    at.name()?;
                    for _ in 0..3 {
                        at.skip(0)?;
                    }
                }
                _ => return None,
            },
            _ => return None,
        }
        Some(())
    }

    /// A package that opens a scope: its name, `more` bytes, terms.
    fn scope(&mut self, body: &[u8], outer: &Path, depth: usize, more: usize) {
        let mut at = Cursor(body);
        let inner = at.name().and_then(|name| name.within(outer)).filter(|_| depth < DEPTH);
        match inner {
            Some(inner) if at.take(more).is_some() => self.terms(at.0, &inner, depth + 1),
            _ => self.skipped(body, outer),
        }
    }

    fn keep(&mut self, name: &Name, value: Value<'_>, scope: &Path) {
        let Some(plain) = name.plain().filter(|name| is_kept(name)) else { return };
        let device = self.device(scope);
        let integer = match value {
            Value::Integer(value) => Some(value),
            _ => None,
        };
        match plain {
            b"_CCA" => device.cca = integer.map(|value| value != 0),
            b"_SEG" => device.segment = integer,
            b"_BBN" => device.bus = integer,
            _ => {
                let mut ids = ids(&value);
                ids.retain(|id| !device.ids.contains(id));
                device.ids.extend(ids);
                device.ids.truncate(IDS);
                return;
            }
        }
        device.open |= integer.is_none();
    }
}

fn is_kept(name: &[u8; 4]) -> bool {
    matches!(name, b"_CCA" | b"_SEG" | b"_BBN" | b"_HID" | b"_CID")
}

/// The ids that a `_HID` or `_CID` gives: an EISA id, a text, or a package of these.
fn ids(value: &Value<'_>) -> Vec<String> {
    match value {
        Value::Integer(id) => u32::try_from(*id).ok().map(eisa).into_iter().collect(),
        Value::Text(text) if text.len() <= 16 && text.is_ascii() => {
            text.iter().map(|c| char::from(*c)).collect::<String>().split_whitespace().take(1).map(Into::into).collect()
        }
        Value::Package(body) => {
            let mut at = Cursor(body);
            let count = at.byte().unwrap_or(0);
            let values = (0..count).map_while(|_| at.value(1)).take(IDS);
            values.filter(|value| !matches!(value, Value::Package(_))).flat_map(|value| ids(&value)).collect()
        }
        Value::Text(_) | Value::Other => Vec::new(),
    }
}

/// An EISA id in words: three letters in 5 bits each, four hexadecimal digits, its bytes swapped (ACPI 6.5, 19.3.4).
fn eisa(id: u32) -> String {
    let id = id.swap_bytes();
    let letter = |shift: u32| char::from(u8::try_from(id >> shift & 0x1f).unwrap_or(0).wrapping_add(0x40));
    format!("{}{}{}{:04X}", letter(26), letter(21), letter(16), id & 0xffff)
}

/// Code that is read from its start on.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
    fn integer(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// PkgLength (20.2.4): what is left of the package after it.
    fn package(&mut self) -> Option<&'a [u8]> {
        let whole = self.0;
        let lead = usize::from(self.byte()?);
        let more = lead >> 6;
        let mut length = if more == 0 { lead & 0x3f } else { lead & 0xf };
        for i in 0..more {
            length |= usize::from(self.byte()?) << (4 + 8 * i);
        }
        // It counts itself.
        let body = whole.get(more + 1..length)?;
        self.0 = whole.get(length..)?;
        Some(body)
    }

    /// NameString (20.2.2).
    fn name(&mut self) -> Option<Name> {
        let mut name = Name { root: false, up: 0, segments: Vec::new() };
        if self.0.first() == Some(&b'\\') {
            self.byte();
            name.root = true;
        }
        while self.0.first() == Some(&b'^') && !name.root {
            self.byte();
            name.up += 1;
        }
        let count = match *self.0.first()? {
            0x00 => {
                self.byte();
                0
            }
            0x2e => {
                self.byte();
                2
            }
            0x2f => {
                self.byte();
                usize::from(self.byte()?)
            }
            _ => 1,
        };
        let (segments, _) = self.take(count * 4)?.as_chunks::<4>();
        let is_lead = |c: u8| c.is_ascii_uppercase() || c == b'_';
        let is_name = |s: &[u8; 4]| is_lead(s[0]) && s.iter().all(|c| is_lead(*c) || c.is_ascii_digit());
        if !segments.iter().all(is_name) {
            return None;
        }
        // One that is too long to be kept is still read to its end.
        name.segments = segments.iter().take(SEGMENTS + 1).copied().collect();
        Some(name)
    }

    /// A data object (20.2.3), or an expression that is stepped over.
    fn value(&mut self, nested: usize) -> Option<Value<'a>> {
        Some(match *self.0.first()? {
            0x00 => self.constant(0, Value::Integer(0)),
            0x01 => self.constant(0, Value::Integer(1)),
            0xff => self.constant(0, Value::Integer(u64::MAX)),
            0x0a => self.number(1)?,
            0x0b => self.number(2)?,
            0x0c => self.number(4)?,
            0x0e => self.number(8)?,
            0x0d => {
                self.byte();
                let end = self.0.iter().position(|c| *c == 0)?;
                let text = self.take(end)?;
                self.byte();
                Value::Text(text)
            }
            0x12 => {
                self.byte();
                Value::Package(self.package()?)
            }
            _ => {
                self.skip(nested)?;
                Value::Other
            }
        })
    }
    fn constant(&mut self, more: usize, value: Value<'a>) -> Value<'a> {
        self.0 = self.0.get(1 + more..).unwrap_or_default();
        value
    }
    fn number(&mut self, bytes: usize) -> Option<Value<'a>> {
        self.byte();
        self.integer(bytes).map(Value::Integer)
    }

    /// Steps over an argument (20.2.5). Nothing: how long it is cannot be told without knowing what is called.
    fn skip(&mut self, nested: usize) -> Option<()> {
        if nested > NESTED {
            return None;
        }
        let arguments = match *self.0.first()? {
            0x00 | 0x01 | 0xff | 0x0a..=0x0e => return self.value(nested).map(|_| ()),
            // Buffer, Package, VarPackage.
            0x11..=0x13 => {
                self.byte();
                return self.package().map(|_| ());
            }
            // Locals and arguments.
            0x60..=0x6e => 0,
            // RefOf, Increment, Decrement, DerefOf, SizeOf, ObjectType, LNot.
            0x71 | 0x75 | 0x76 | 0x83 | 0x87 | 0x8e | 0x92 => 1,
            // Store, Not, FindSet…Bit, Notify, LAnd, LOr, comparisons, conversions, CopyObject.
            0x70 | 0x80..=0x82 | 0x86 | 0x90 | 0x91 | 0x93..=0x99 | 0x9d => 2,
            // Arithmetic, Concatenate, Index, ToString: two and a target.
            0x72..=0x74 | 0x77 | 0x79..=0x7f | 0x84 | 0x85 | 0x88 | 0x9c => 3,
            // Divide, Mid.
            0x78 | 0x9e => 4,
            _ => return None,
        };
        self.byte();
        for _ in 0..arguments {
            self.skip(nested + 1)?;
        }
        Some(())
    }
}
