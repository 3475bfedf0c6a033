//! The header that every ACPI table begins with (ACPI 6.5, 5.2.6), and its checksum.

/// Bytes of the header.
pub const HEADER: usize = 36;

/// Why bytes are not the table they should be. It carries where, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table} at byte {at}: {what}")]
pub struct Error {
    /// Which table.
    pub table: &'static str,
    /// Offset of what is wrong.
    pub at: usize,
    /// What is wrong, with the values that are.
    pub what: String,
}

/// A table whose header holds: the signature is the one that was asked for, the length is there, the bytes sum to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table<'a> {
    name: &'static str,
    bytes: &'a [u8],
}

/// The signature of what may be a table: four letters or digits at its start, and room for a header.
#[must_use]
pub fn signature(bytes: &[u8]) -> Option<&str> {
    let name = bytes.get(..HEADER).and_then(|header| std::str::from_utf8(&header[..4]).ok())?;
    name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_').then_some(name)
}

impl<'a> Table<'a> {
    /// Checks the header. Bytes past the table's own length are left alone.
    ///
    /// # Errors
    /// What does not hold, with the values.
    pub fn open(name: &'static str, bytes: &'a [u8]) -> Result<Self, Error> {
        let wrong = |at, what| Err(Error { table: name, at, what });
        if bytes.len() < HEADER {
            return wrong(0, format!("{} bytes; a table's header alone has {HEADER}", bytes.len()));
        }
        if bytes[..4] != *name.as_bytes() {
            let found: String = bytes[..4].iter().map(|b| b.escape_ascii().to_string()).collect();
            return wrong(0, format!("the signature is `{found}`"));
        }
        let length = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let whole = usize::try_from(length).ok().filter(|&n| n >= HEADER).and_then(|n| bytes.get(..n));
        let Some(whole) = whole else {
            return wrong(4, format!("it says to have {length} bytes; {} are here", bytes.len()));
        };
        let sum = whole.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
        if sum != 0 {
            let right = whole[9].wrapping_sub(sum);
            return wrong(
                9,
                format!("the checksum is {:#04x}; {right:#04x} would make its bytes sum to zero", whole[9]),
            );
        }
        Ok(Self { name, bytes: whole })
    }
    /// How many bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        self.bytes.len()
    }
    /// Never: a table has a header.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }
    /// The revision in the header.
    #[must_use]
    pub fn revision(self) -> u8 {
        self.bytes.get(8).copied().unwrap_or_default()
    }
    /// An error at an offset.
    pub(crate) fn error(self, at: usize, what: impl Into<String>) -> Error {
        Error { table: self.name, at, what: what.into() }
    }
    /// Bytes at an offset.
    pub(crate) fn bytes(self, at: usize, count: usize) -> Result<&'a [u8], Error> {
        let found = at.checked_add(count).and_then(|end| self.bytes.get(at..end));
        found
            .ok_or_else(|| self.error(at, format!("{count} bytes are needed here; the table has {}", self.bytes.len())))
    }
    pub(crate) fn u8(self, at: usize) -> Result<u8, Error> {
        self.array(at).map(u8::from_le_bytes)
    }
    pub(crate) fn u16(self, at: usize) -> Result<u16, Error> {
        self.array(at).map(u16::from_le_bytes)
    }
    pub(crate) fn u32(self, at: usize) -> Result<u32, Error> {
        self.array(at).map(u32::from_le_bytes)
    }
    pub(crate) fn u64(self, at: usize) -> Result<u64, Error> {
        self.array(at).map(u64::from_le_bytes)
    }
    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(at, N)?);
        Ok(out)
    }
}

/// An offset or a count of the table as an index; one that does not fit is past any end.
pub(crate) fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
