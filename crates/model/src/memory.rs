//! Physical memory: sparse, zero until written, so that a BAR of any size costs what is touched.

use std::collections::BTreeMap;

const PAGE: u64 = 4096;
/// Bytes of a cache line.
pub(crate) const LINE: u64 = 64;

/// The bytes of a cache line.
pub(crate) type Line = [u8; LINE as usize];

/// Sparse memory. Reads of what was never written give zero.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

impl Memory {
    /// Reads up to 8 bytes, little-endian. The bytes lie in one page.
    pub(crate) fn read(&self, pa: u64, bytes: u64) -> u64 {
        let Some(page) = self.pages.get(&(pa / PAGE)) else { return 0 };
        let at = (pa % PAGE) as usize;
        let mut word = [0; 8];
        word[..bytes as usize].copy_from_slice(&page[at..at + bytes as usize]);
        u64::from_le_bytes(word)
    }

    /// Writes the low `bytes` (up to 8) of `value`. The bytes lie in one page.
    pub(crate) fn write(&mut self, pa: u64, bytes: u64, value: u64) {
        let at = (pa % PAGE) as usize;
        self.page(pa)[at..at + bytes as usize].copy_from_slice(&value.to_le_bytes()[..bytes as usize]);
    }

    /// The line of this number.
    pub(crate) fn line(&self, number: u64) -> Line {
        let pa = number * LINE;
        let mut line = [0; LINE as usize];
        if let Some(page) = self.pages.get(&(pa / PAGE)) {
            let at = (pa % PAGE) as usize;
            line.copy_from_slice(&page[at..at + LINE as usize]);
        }
        line
    }

    /// Writes the line of this number.
    pub(crate) fn set_line(&mut self, number: u64, line: &Line) {
        let pa = number * LINE;
        let at = (pa % PAGE) as usize;
        self.page(pa)[at..at + LINE as usize].copy_from_slice(line);
    }

    /// Makes the page of `pa` zero.
    pub(crate) fn clear_page(&mut self, pa: u64) {
        self.pages.remove(&(pa / PAGE));
    }

    /// Copies `data` to `pa`.
    pub(crate) fn load(&mut self, pa: u64, data: &[u8]) {
        let (mut pa, mut rest) = (pa, data);
        while !rest.is_empty() {
            let at = (pa % PAGE) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE as usize - at));
            self.page(pa)[at..at + now.len()].copy_from_slice(now);
            (pa, rest) = (pa + now.len() as u64, later);
        }
    }

    fn page(&mut self, pa: u64) -> &mut [u8; PAGE as usize] {
        self.pages.entry(pa / PAGE).or_insert_with(|| Box::new([0; PAGE as usize]))
    }
}
