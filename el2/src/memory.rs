//! RAM shared out, and EL2's own stage 1, built by `mmu`.
#![expect(unsafe_code, reason = "addresses become memory, and translation is turned on")]

use alloc::{format, string::String};

use memtype::arm::mair_of;
use mmu::{
    Arena, Frames, Ia, Oa, OutsideArena, PAGE, Words, WordsMut,
    arm::{self, Config, S1Attrs, Stage1},
};

use crate::{board::Window, cpu, entry};

unsafe extern "C" {
    static image_code: u8;
    static image_constants: u8;
    static image_data: u8;
    static image_end: u8;
    static device_tree: u8;
}

/// Where the parts of the program begin and where it ends; all of it stays.
pub(crate) fn image() -> [u64; 4] {
    // Only their addresses are meant.
    [&raw const image_code, &raw const image_constants, &raw const image_data, &raw const image_end].map(|p| p as u64)
}

/// Where the device tree is.
pub(crate) fn tree_at() -> u64 {
    &raw const device_tree as u64
}

/// The bytes of a part of RAM that nothing writes to while the program runs.
///
/// # Safety
/// That must be so.
pub(crate) unsafe fn bytes(at: u64, size: u64) -> &'static [u8] {
    // SAFETY: the caller's; RAM is mapped one to one.
    unsafe { core::slice::from_raw_parts(at as *const u8, size as usize) }
}

/// Parts of RAM that nobody has yet.
#[derive(Debug)]
pub(crate) struct Pool {
    next: u64,
    end: u64,
}

impl Pool {
    /// The RAM in `window`.
    ///
    /// # Safety
    /// It is RAM, and neither the program nor anything it was given is in it.
    pub(crate) const unsafe fn new(window: Window) -> Self {
        Self { next: window.base, end: window.base + window.size }
    }

    /// So many bytes, aligned to a power of two, zeroed; `None` where there are not so many left.
    pub(crate) fn take(&mut self, size: u64, align: u64) -> Option<&'static mut [u64]> {
        let at = self.next.next_multiple_of(align);
        let next = at.checked_add(size.next_multiple_of(PAGE))?;
        if next > self.end {
            return None;
        }
        self.next = next;
        // SAFETY: the bytes are of this pool alone, are given out once, and are aligned.
        let words = unsafe { core::slice::from_raw_parts_mut(at as *mut u64, (size / 8) as usize) };
        words.fill(0);
        Some(words)
    }

    /// All that is left, from the next multiple of `align` on, as memory for a guest.
    pub(crate) const fn rest(&mut self, align: u64) -> Region {
        let base = self.next.next_multiple_of(align);
        self.next = self.end;
        Region(Window { base, size: self.end.saturating_sub(base) })
    }
}

/// Memory or registers that EL2 has mapped and holds no Rust reference into: a guest, a device or a driver of it may access
/// them too. Only this module makes one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region(Window);

impl Region {
    /// The first address.
    pub(crate) const fn base(self) -> u64 {
        self.0.base
    }
    /// Bytes.
    pub(crate) const fn size(self) -> u64 {
        self.0.size
    }
    /// A part; `None` where it would leave the region.
    pub(crate) fn part(self, offset: u64, size: u64) -> Option<Self> {
        let inside = offset.checked_add(size).is_some_and(|end| end <= self.0.size);
        inside.then_some(Self(Window { base: self.0.base + offset, size }))
    }
    /// Reads 1, 2, 4 or 8 bytes (`log2` 0 to 3).
    ///
    /// # Errors
    /// ESR_EL2 of the exception that gives; 0 outside of the region.
    pub(crate) fn load(self, offset: u64, log2: u8) -> Result<u64, u64> {
        let at = self.part(offset, 1 << log2).ok_or(0u64)?;
        // SAFETY: inside of the region, which no reference covers.
        unsafe { entry::load(at.base(), log2) }
    }
    /// Writes 1, 2, 4 or 8 bytes (`log2` 0 to 3).
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn store(self, offset: u64, log2: u8, value: u64) -> Result<(), u64> {
        let at = self.part(offset, 1 << log2).ok_or(0u64)?;
        // SAFETY: as above.
        unsafe { entry::store(at.base(), log2, value) }
    }
    /// Reads a register of 4 bytes; all ones where it cannot be read.
    pub(crate) fn read(self, offset: u64) -> u32 {
        self.load(offset, 2).map_or(u32::MAX, |value| value as u32)
    }
    /// Writes a register of 4 bytes; what nothing takes is lost, as on a bus.
    pub(crate) fn write(self, offset: u64, value: u32) {
        let _ = self.store(offset, 2, u64::from(value));
    }
    /// Zeroes all of it. Not for Device memory.
    pub(crate) fn zero(self) {
        // SAFETY: no reference covers the region, and it is mapped writable.
        unsafe { core::ptr::write_bytes(self.0.base as *mut u8, 0, self.0.size as usize) };
        cpu::complete();
    }
    /// Copies bytes to `offset`; `None` where they would leave the region.
    pub(crate) fn copy(self, offset: u64, bytes: &[u8]) -> Option<()> {
        let to = self.part(offset, bytes.len() as u64)?;
        // SAFETY: as above; the bytes are elsewhere, in a reference.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to.base() as *mut u8, bytes.len()) };
        Some(())
    }
}

/// The memory types of EL2's own mappings: MAIR_EL2.
const TYPES: [&str; 8] =
    ["normal-wb", "device-ngnre", "normal-nc", "device-ngnrne", "device-ngre", "device-gre", "normal-wt", "normal-wb"];
/// Where windows are: no RAM and no device has such an address.
const WINDOW: u64 = 1 << 47;
/// The largest block of what stays mapped.
const LARGEST: u64 = 1 << 30;
/// Index of RAM's.
const RAM: u8 = 0;

/// Tables that an MMU may walk while they change. A descriptor is one 64-bit store: a fill of many may be made of DC ZVA, which is
/// atomic by bytes (DDI 0487 B2.2.1). So this memory gives no slice of itself ([`WordsMut::words_mut`]).
#[derive(Debug)]
pub(crate) struct Live<'a>(Arena<&'a mut [u64]>);

impl<'a> Live<'a> {
    /// Of zeroed words, whose addresses are physical ones.
    pub(crate) fn new(words: &'a mut [u64]) -> Self {
        Self(Arena::new(Oa(words.as_ptr() as u64), words))
    }
}

impl Words for Live<'_> {
    type Error = OutsideArena;
    fn read(&self, at: Oa) -> Result<u64, OutsideArena> {
        self.0.read(at)
    }
}

impl WordsMut for Live<'_> {
    fn write(&mut self, at: Oa, word: u64) -> Result<(), OutsideArena> {
        self.0.write(at, word)
    }
}

impl Frames for Live<'_> {
    fn frame(&mut self) -> Option<Oa> {
        self.0.frame()
    }
}

/// EL2's own stage 1: RAM and devices one to one, windows for accesses of another type elsewhere.
#[derive(Debug)]
pub(crate) struct Own {
    tables: Live<'static>,
    root: Oa,
    config: Config,
}

/// How EL2 uses what it maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Code,
    Constants,
    Data,
}

impl Own {
    /// Maps the program and RAM, and turns translation on.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn new(ram: Window, tables: &'static mut [u64]) -> Result<Self, String> {
        let config = Config::stage1(48, 48).ok_or("no shape for EL2's stage 1")?;
        let mut tables = Live::new(tables);
        let root = tables.frame().ok_or("no frame for EL2's stage 1")?;
        let mut own = Self { tables, root, config };
        let [code, constants, data, end] = image();
        let ram_end = ram.base + ram.size;
        let parts = [
            (ram.base, code, Use::Data),
            (code, constants, Use::Code),
            (constants, data, Use::Constants),
            (data, end, Use::Data),
            (end, ram_end, Use::Data),
        ];
        for (from, to, how) in parts {
            own.add(from, Window { base: from, size: to - from }, RAM, how, LARGEST)?;
        }
        let mair = TYPES.iter().rev().fold(0, |all, name| all << 8 | u64::from(mair_of(name).unwrap_or(0)));
        // T0SZ 16; walks Write-Back, Inner Shareable; 4 KiB; PS as the CPU has it, 48 bits at most; RES1.
        let tcr = 1 << 31 | 1 << 23 | cpu::pa_range().min(5) << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 16;
        let translation = cpu::Translation { root: root.0, mair, tcr };
        // SAFETY: the code, constants, data, stack, heap and tables are mapped where they are, as Normal Write-Back, by the loop
        // above; nothing maps RAM differently later: `device` and `window` map what is not RAM, or fail.
        unsafe { translation.turn_on() };
        Ok(own)
    }

    fn add(&mut self, va: u64, at: Window, attr_index: u8, how: Use, largest: u64) -> Result<(), String> {
        // EL2 with E2H = 0 has one privilege level: AP[1] is RES1, bit 54 is XN, bit 53 is RES0 (D8.4, Table D8-65).
        let attrs = S1Attrs {
            attr_index,
            sh: 0b11,
            writable: how == Use::Data,
            el0: true,
            accessed: true,
            uxn: how != Use::Code,
            ..S1Attrs::default()
        };
        let range = (Ia(va), Oa(at.base), at.size.next_multiple_of(PAGE));
        arm::map::<Stage1, _>(self.root, self.config, &mut self.tables, range, &attrs, largest)
            .map_err(|error| format!("EL2's own stage 1: {error}"))?;
        cpu::publish();
        Ok(())
    }

    /// Maps a device's registers one to one, as Device-nGnRE.
    ///
    /// # Errors
    /// Where that is mapped already, or cannot be.
    pub(crate) fn device(&mut self, at: Window) -> Result<Region, String> {
        let page = Window { base: at.base & !(PAGE - 1), size: at.size + (at.base & (PAGE - 1)) };
        self.add(page.base, page, 1, Use::Data, LARGEST)?;
        Ok(Region(at))
    }

    /// Maps device memory in a place of its own, as a memory type by its MAIR byte, while `with` uses it: some MiB at most.
    ///
    /// # Errors
    /// A type EL2 has no attribute for.
    pub(crate) fn window<R>(&mut self, at: Window, mair: u8, with: impl FnOnce(Region) -> R) -> Result<R, String> {
        let index = TYPES.iter().position(|name| mair_of(name) == Some(mair));
        let index = index.ok_or_else(|| format!("EL2 maps no memory of MAIR byte {mair:#04x}"))?;
        // Pages alone: the tables of one window stay, and a block would be in their way.
        self.add(WINDOW, at, index as u8, Use::Data, PAGE)?;
        let result = with(Region(Window { base: WINDOW, size: at.size }));
        cpu::complete();
        // The arena fails on addresses outside of it alone, and the tables have none.
        let _ = arm::unmap::<Stage1, _>(self.root, self.config, &mut self.tables, Ia(WINDOW), at.size);
        cpu::forget_own();
        Ok(result)
    }
}
