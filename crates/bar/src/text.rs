//! Texts of the kernel: a function's `resource`, the PAT memtype list, `smaps`. Pure; any text is taken.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A line of `/sys/bus/pci/devices/BDF/resource`: line N is BAR N for 0 to 5, 6 the ROM; of a bridge 7 on are its windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// `IORESOURCE_*` of Linux.
    pub flags: u64,
}

impl Resource {
    const IO: u64 = 0x100;
    const MEMORY: u64 = 0x200;
    const PREFETCH: u64 = 0x2000;
    const UNSET: u64 = 0x2000_0000;
    const MEM_64: u64 = 0x10_0000;

    /// `IORESOURCE_IO`.
    #[must_use]
    pub const fn is_io(&self) -> bool {
        self.flags & Self::IO != 0
    }
    /// `IORESOURCE_MEM`.
    #[must_use]
    pub const fn is_memory(&self) -> bool {
        self.flags & Self::MEMORY != 0
    }
    /// `IORESOURCE_PREFETCH`.
    #[must_use]
    pub const fn is_prefetchable(&self) -> bool {
        self.flags & Self::PREFETCH != 0
    }
    /// `IORESOURCE_MEM_64`: the BAR after it is its upper half.
    #[must_use]
    pub const fn is_wide(&self) -> bool {
        self.flags & Self::MEM_64 != 0
    }
    /// It has an address: neither `IORESOURCE_UNSET` nor 0.
    #[must_use]
    pub const fn is_placed(&self) -> bool {
        self.flags & Self::UNSET == 0 && self.first != 0
    }
    /// Bytes; the whole of 2^64 saturates.
    #[must_use]
    pub const fn size(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

/// The lines of the file; nothing where a line is empty of content (all zero, or an end just before the start) or not understood.
///
/// ```
/// let text = "0x0000004000000000 0x000000400007ffff 0x000000000014220c\n0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
/// let found = bar::text::resources(text);
/// assert_eq!(found[0].unwrap().size(), 0x8_0000);
/// assert!(found[0].unwrap().is_prefetchable() && found[1].is_none());
/// ```
#[must_use]
pub fn resources(text: &str) -> Vec<Option<Resource>> {
    text.lines().map(resource).collect()
}

fn resource(line: &str) -> Option<Resource> {
    let mut words = line.split_whitespace().map(|word| number(word.strip_prefix("0x")?));
    let (first, last, flags) = (words.next()??, words.next()??, words.next()??);
    if words.next().is_some() {
        return None;
    }
    // resource_size() of Linux is end - start + 1: at 0 an empty one ends at 2^64 - 1.
    let empty = (first, last, flags) == (0, 0, 0) || last.wrapping_sub(first) == u64::MAX;
    (!empty && first <= last).then_some(Resource { first, last, flags })
}

/// Hexadecimal digits and nothing else: `from_str_radix` takes a sign.
fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// An entry of the PAT memtype list: what the kernel reserved physical addresses as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// First address.
    pub first: u64,
    /// Last address. The file's end is exclusive; this is not.
    pub last: u64,
    /// As what.
    pub kind: Cachemode,
}

/// Linux's `enum page_cache_mode`, in the words of `pat_memtype_list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cachemode {
    /// UC.
    Uncached,
    /// UC-: an MTRR may make it WC.
    UncachedMinus,
    /// WB.
    WriteBack,
    /// WC.
    WriteCombining,
    /// WT.
    WriteThrough,
    /// WP.
    WriteProtected,
}

impl Cachemode {
    /// All.
    pub const ALL: [Self; 6] = [
        Self::Uncached,
        Self::UncachedMinus,
        Self::WriteBack,
        Self::WriteCombining,
        Self::WriteThrough,
        Self::WriteProtected,
    ];

    /// As the kernel writes it (`cattr_name()`, arch/x86/mm/pat/memtype.c).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uncached => "uncached",
            Self::UncachedMinus => "uncached-minus",
            Self::WriteBack => "write-back",
            Self::WriteCombining => "write-combining",
            Self::WriteThrough => "write-through",
            Self::WriteProtected => "write-protected",
        }
    }
    /// By that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Cachemode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The entries of `/sys/kernel/debug/x86/pat_memtype_list`.
///
/// ```
/// let list = "PAT memtype list:\nPAT: [mem 0x00000000fe000000-0x00000000fe001000] write-combining\n";
/// let found = bar::text::memtypes(list).unwrap();
/// assert_eq!((found[0].last, found[0].kind), (0xfe00_0fff, bar::text::Cachemode::WriteCombining));
/// ```
///
/// # Errors
/// The first line that is not understood.
pub fn memtypes(text: &str) -> Result<Vec<Reserved>, String> {
    let content = |(_, line): &(usize, &str)| !matches!(line.trim(), "" | "PAT memtype list:");
    let lines = text.lines().enumerate().filter(content);
    lines.map(|(i, line)| reserved(line).ok_or_else(|| format!("line {}: {}", i + 1, shortened(line)))).collect()
}

fn reserved(line: &str) -> Option<Reserved> {
    let (range, kind) = line.trim().strip_prefix("PAT: [mem 0x")?.split_once("] ")?;
    let (first, end) = range.split_once("-0x")?;
    let (first, last) = (number(first)?, number(end)?.checked_sub(1)?);
    let kind = Cachemode::named(kind.trim())?;
    (first <= last).then_some(Reserved { first, last, kind })
}

/// A line in an error: no longer than it helps.
fn shortened(line: &str) -> String {
    line.chars().take(120).collect::<String>().escape_debug().to_string()
}

/// `VmFlags` of the mapping at an address, out of `/proc/PID/smaps`.
///
/// ```
/// let smaps = "7f00000000-7f00001000 rw-s 00000000 00:16 9 /sys/x\nSize: 4 kB\nVmFlags: rd wr sh mr mw me ms pf io de dd ?? \n";
/// assert_eq!(bar::text::vm_flags(smaps, 0x7f_0000_0800), Some("rd wr sh mr mw me ms pf io de dd ??"));
/// assert_eq!(bar::text::vm_flags(smaps, 0x7f_0000_1000), None);
/// ```
#[must_use]
pub fn vm_flags(smaps: &str, address: u64) -> Option<&str> {
    let mut inside = false;
    for line in smaps.lines() {
        // Every other line begins with a word that ends in a colon.
        let range = line.split(' ').next().and_then(|word| word.split_once('-'));
        if let Some((start, end)) = range.and_then(|(start, end)| Some((number(start)?, number(end)?))) {
            inside = start <= address && address < end;
        } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
            return Some(flags.trim());
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_that_is_not_one_is_nothing_and_keeps_its_place() {
        let text = "0x10 0x1f 0x200\nrubbish\n0x0 0xffffffffffffffff 0x200\n0x20 0x1f 0x200\n0x+1 0x2 0x3\n0x1 0x2 0x3 0x4\n\n0x0 0xfff 0x20000200\n";
        let found = resources(text);
        assert_eq!(found.len(), 8);
        assert_eq!(found[0], Some(Resource { first: 0x10, last: 0x1f, flags: 0x200 }));
        assert!(found[1..7].iter().all(Option::is_none));
        let unset = found[7].unwrap();
        assert_eq!((unset.size(), unset.is_placed(), unset.is_memory()), (0x1000, false, true));
    }

    #[test]
    fn the_first_bad_line_of_the_list_is_named() {
        let good = "PAT: [mem 0x0000000000001000-0x0000000000002000] uncached-minus";
        for bad in [
            "PAT: [mem 0x1000-0x1000] write-back",
            "PAT: [mem 0x1000-0x0] write-back",
            "PAT: [mem 0x1000-0x2000] pink",
            "PAT: [mem 1000-2000] write-back",
            "x",
        ] {
            let error = memtypes(&format!("PAT memtype list:\n{good}\n{bad}\n{good}\n")).unwrap_err();
            assert!(error.starts_with("line 3: "), "{error}");
        }
    }

    #[test]
    fn this_process_has_flags_of_its_own_code() {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let code = this_process_has_flags_of_its_own_code as *const () as u64;
        assert!(vm_flags(&smaps, code).unwrap().split(' ').any(|flag| flag == "ex"));
        assert_eq!(vm_flags(&smaps, 0), None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC{0,200}|(PAT: \\[mem 0x[0-9a-f]{0,20}-0x[0-9a-f]{0,20}\\] [a-z-]{0,16}\n){0,4}", at: u64) {
            let lines = text.lines().count();
            prop_assert_eq!(resources(&text).len(), lines);
            if let Ok(found) = memtypes(&text) {
                prop_assert!(found.len() <= lines && found.iter().all(|r| r.first <= r.last));
            }
            let _ = vm_flags(&text, at);
        }

        #[test]
        fn what_the_kernel_prints_is_read_back(all in prop::collection::vec((any::<u64>(), 1..=u64::MAX, any::<u64>(), 0..6usize), 0..9)) {
            let all: Vec<_> = all.into_iter().filter(|(first, end, _, _)| first < end).collect();
            let text: String = all.iter().map(|(first, end, flags, _)| format!("0x{first:016x} 0x{:016x} 0x{flags:016x}\n", end - 1)).collect();
            for ((first, end, flags, _), got) in all.iter().zip(resources(&text)) {
                let want = Resource { first: *first, last: end - 1, flags: *flags };
                prop_assert!(got == Some(want) || (*first, end - 1, *flags) == (0, 0, 0));
            }
            let text: String = all.iter().map(|(first, end, _, kind)| format!("PAT: [mem 0x{first:016x}-0x{end:016x}] {}\n", Cachemode::ALL[*kind].name())).collect();
            let want: Vec<_> = all.iter().map(|(first, end, _, kind)| Reserved { first: *first, last: end - 1, kind: Cachemode::ALL[*kind] }).collect();
            prop_assert_eq!(memtypes(&format!("PAT memtype list:\n{text}")), Ok(want));
        }

        #[test]
        fn flags_are_those_of_the_one_that_covers_the_address(starts in prop::collection::btree_set(0u64..1 << 40, 1..8), pick: prop::sample::Index, over in 0u64..0x2000) {
            let starts: Vec<u64> = starts.into_iter().map(|s| s << 13).collect();
            let text: String = starts.iter().map(|s| format!("{s:x}-{:x} rw-s 00000000 00:00 0 [x] a-b\nRss: 0 kB\nVmFlags: {s:x}\n", s + 0x1000)).collect();
            let start = *pick.get(&starts);
            let want = format!("{start:x}");
            prop_assert_eq!(vm_flags(&text, start + over), (over < 0x1000).then_some(want.as_str()));
        }
    }
}
