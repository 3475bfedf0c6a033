//! What lies between the CPU and the devices: caches, the buffer that gathers writes, memory, BARs, and what fails on the way.
//!
//! The caches are one set of lines of 64 bytes by physical address, of unlimited size: what hardware drops by itself is
//! [`Choice::Evict`]. Accesses of a cacheable type go through them, all others past them; so mismatched aliases (DDI 0487
//! B2.11) and devices that do not snoop come out by themselves. The buffer holds one line of writes of a type that gathers.

use std::collections::BTreeMap;

use memtype::{
    MemoryType,
    arm::{self, Cacheability},
    x86,
};
use mmu::PAGE;
use platform::{Errors, NcDefect, Platform};

use crate::{
    Choice, Count,
    choice::{Log, Topic},
    memory::{LINE, Line, Memory},
};

/// Where the model puts what is behind the slots.
pub(crate) const RAM_PA: u64 = 0x40_0000_0000;
pub(crate) const BAR_PA: u64 = 0x50_0000_0000;

/// What the caches make of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    Nothing,
    /// Reads are kept; writes go to memory as well.
    Through,
    Back,
}

/// What a memory type is to the memory system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct How {
    pub(crate) keeps: Keeps,
    /// Writes may be gathered.
    pub(crate) gathers: bool,
    /// Its class where an access fails: Normal (x86: all but UC), or Device.
    pub(crate) normal: bool,
    /// Arm's Normal-NC, of which the defects are.
    pub(crate) nc: bool,
}

impl How {
    const DEVICE: Self = Self { keeps: Keeps::Nothing, gathers: false, normal: false, nc: false };

    /// Of Arm. Where inner and outer cacheability differ, the caches keep what either lets them.
    pub(crate) fn arm(ty: arm::Type) -> Self {
        match ty {
            arm::Type::Device(_) => Self { gathers: ty.may_gather(), ..Self::DEVICE },
            arm::Type::Normal { inner, outer } => {
                let keeps = match inner.policy.max(outer.policy) {
                    Cacheability::NonCacheable => Keeps::Nothing,
                    Cacheability::WriteThrough => Keeps::Through,
                    Cacheability::WriteBack => Keeps::Back,
                };
                let nc = keeps == Keeps::Nothing;
                Self { keeps, gathers: nc, normal: true, nc }
            }
        }
    }

    /// Of x86. The defects are those of Arm SoCs: WC is not touched by them.
    pub(crate) fn x86(ty: x86::Type) -> Self {
        let keeps = match ty {
            x86::Type::Uc | x86::Type::Wc => Keeps::Nothing,
            x86::Type::Wt | x86::Type::Wp => Keeps::Through,
            x86::Type::Wb => Keeps::Back,
        };
        Self { keeps, gathers: ty == x86::Type::Wc, normal: ty != x86::Type::Uc, nc: false }
    }

    /// Of either; a mapping whose type depends on the CPU counts as the strictest.
    pub(crate) fn of(ty: Option<MemoryType>) -> Self {
        match ty {
            Some(MemoryType::Arm64(ty)) => Self::arm(ty),
            Some(MemoryType::X86(ty)) => Self::x86(ty),
            _ => Self::DEVICE,
        }
    }
}

/// How an access failed on the bus, where somebody notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    Contained,
    Uncontained,
}

/// A BAR on the bus, or the part of it that reads as it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The last byte of the BAR that it is of.
    pub(crate) end: u64,
    /// Nobody answers.
    pub(crate) dead: bool,
    /// A read clears what it reads.
    pub(crate) clear: bool,
}

/// A cache line.
#[derive(Debug, Clone, Copy)]
struct Cached {
    data: Line,
    dirty: bool,
}

/// The line whose writes are gathered.
#[derive(Debug)]
struct Gathered {
    number: u64,
    data: Line,
    mask: u64,
    how: How,
    /// The writes by themselves, (offset, bytes, value), where it matters: [`NcDefect::Partial`].
    alone: Vec<(u64, u64, u64)>,
}

#[derive(Debug)]
pub(crate) struct Bus {
    memory: Memory,
    lines: BTreeMap<u64, Cached>,
    gathered: Option<Gathered>,
    windows: Vec<Window>,
    platform: Platform,
    /// The CPU's accesses past the caches look into them first: x86 with self-snoop. Arm's do not.
    self_snoop: bool,
    /// Contiguous bytes stored by Normal-NC since the last barrier: the next address, how many. [`NcDefect::Long`].
    burst: (u64, u64),
    pub(crate) count: Count,
}

impl Bus {
    pub(crate) fn new(platform: Platform, windows: Vec<Window>, self_snoop: bool) -> Self {
        Self {
            memory: Memory::default(),
            lines: BTreeMap::new(),
            gathered: None,
            windows,
            platform,
            self_snoop,
            burst: (0, 0),
            count: Count::default(),
        }
    }

    /// Copies `data` to `pa`, before anything runs.
    pub(crate) fn place(&mut self, pa: u64, data: &[u8]) {
        self.memory.load(pa, data);
    }

    /// What reads clear is kept by no cache: a line that is filled for it is a read ahead, which is [`Choice::Speculate`].
    fn keeps(window: Option<Window>, how: How) -> Keeps {
        if window.is_some_and(|w| w.clear) { Keeps::Nothing } else { how.keeps }
    }

    /// What a table walk or a fetch reads: up to 8 bytes of a line, without side effects.
    pub(crate) fn peek(&self, pa: u64, bytes: u64) -> u64 {
        match self.lines.get(&(pa / LINE)) {
            Some(line) => word(&line.data, pa, bytes),
            None => self.memory.read(pa, bytes),
        }
    }

    fn window(&self, pa: u64) -> Option<Window> {
        if pa < BAR_PA {
            return None;
        }
        self.windows.iter().find(|w| (w.first..=w.last).contains(&pa)).copied()
    }

    /// Whether a read of `pa` clears it.
    pub(crate) fn is_clear(&self, pa: u64) -> bool {
        self.window(pa).is_some_and(|w| w.clear && !w.dead)
    }

    /// The CPU reads ahead: the whole page is read, and what was read is dropped. What was gathered for the page had left.
    pub(crate) fn stray_read(&mut self, pa: u64, log: &mut Log) {
        if self.gathered.as_ref().is_some_and(|g| g.number * LINE / PAGE == pa / PAGE) {
            self.drain(log);
        }
        self.memory.clear_page(pa);
    }

    /// Loads up to 8 bytes of one page.
    pub(crate) fn load(&mut self, pa: u64, bytes: u64, how: How, log: &mut Log) -> Result<u64, Failed> {
        let room = LINE - pa % LINE;
        if bytes <= room {
            return self.load_part(pa, bytes, how, log);
        }
        let low = self.load_part(pa, room, how, log)?;
        let high = self.load_part(pa + room, bytes - room, how, log)?;
        Ok(low | high << (8 * room))
    }

    /// Stores the low `bytes` (up to 8) of `value`, inside one page.
    pub(crate) fn store(&mut self, pa: u64, bytes: u64, value: u64, how: How, log: &mut Log) -> Result<(), Failed> {
        let room = LINE - pa % LINE;
        if bytes <= room {
            return self.store_part(pa, bytes, value, how, log);
        }
        self.store_part(pa, room, value, how, log)?;
        self.store_part(pa + room, bytes - room, value >> (8 * room), how, log)
    }

    fn load_part(&mut self, pa: u64, bytes: u64, how: How, log: &mut Log) -> Result<u64, Failed> {
        let window = self.window(pa);
        if window.is_some() {
            if let Some(answer) = self.fails(window, pa, how, log) {
                return answer.map(|()| ones(bytes));
            }
            if self.gathered.as_ref().is_some_and(|g| g.number == pa / LINE) {
                self.drain(log);
            }
        }
        if Self::keeps(window, how) != Keeps::Nothing {
            return Ok(word(&self.line(pa, bytes, false, window, log).data, pa, bytes));
        }
        self.settle(pa, bytes, log);
        self.count.reads += u64::from(window.is_some());
        Ok(self.take(pa, bytes, window))
    }

    fn store_part(&mut self, pa: u64, bytes: u64, value: u64, how: How, log: &mut Log) -> Result<(), Failed> {
        let window = self.window(pa);
        if window.is_some() {
            if let Some(answer) = self.fails(window, pa, how, log) {
                return answer;
            }
            if how.gathers {
                return self.gather(pa, bytes, value, how, log);
            }
            self.flush(log);
        }
        match Self::keeps(window, how) {
            Keeps::Nothing => {
                self.count.writes += u64::from(window.is_some());
                self.put(pa, bytes, value, log);
            }
            Keeps::Through => {
                set_word(&mut self.line(pa, bytes, true, window, log).data, pa, bytes, value);
                self.count.writes += u64::from(window.is_some());
                self.memory.write(pa, bytes, value);
            }
            Keeps::Back => {
                let line = self.line(pa, bytes, true, window, log);
                set_word(&mut line.data, pa, bytes, value);
                line.dirty = true;
            }
        }
        Ok(())
    }

    /// What comes of an access that fails; `None`: it does not. `Some(Ok)`: ones are read, or what is written is dropped.
    fn fails(&self, window: Option<Window>, pa: u64, how: How, log: &mut Log) -> Option<Result<(), Failed>> {
        let dead = window.is_some_and(|w| w.dead);
        let defect = how.nc && self.platform.normal_nc == NcDefect::Fails;
        if !dead && !defect {
            return None;
        }
        let containment = self.platform.containment;
        let (class, errors) = if how.normal { ("Normal", containment.normal) } else { ("Device", containment.device) };
        log.once(Topic::Failed, u64::from(how.normal), || {
            let cause = if dead { "Nobody answers behind the BAR" } else { NcDefect::Fails.says() };
            let then = match errors {
                Errors::AllOnes => "a read gives ones, a write is dropped, nobody is told",
                Errors::Contained => "whoever made the access is told, by an External abort or an SError",
                Errors::Uncontained => "an SError that nobody can put down to the guest: the host is lost",
            };
            format!(
                "{} (PA {pa:#x}). What this platform makes of a failing access of a {class} type is {}: {then}. [declared; \
                 thread 003]",
                cause.trim_end_matches('.'),
                errors.name()
            )
        });
        Some(match errors {
            Errors::AllOnes => Ok(()),
            Errors::Contained => Err(Failed::Contained),
            Errors::Uncontained => Err(Failed::Uncontained),
        })
    }

    /// Reads from memory or a device, with its side effects.
    fn take(&mut self, pa: u64, bytes: u64, window: Option<Window>) -> u64 {
        let value = self.memory.read(pa, bytes);
        if window.is_some_and(|w| w.clear) {
            self.memory.write(pa, bytes, 0);
        }
        value
    }

    /// The cache line of a cacheable access; `whole`: all of it matters, not only the bytes accessed, since it becomes dirty.
    fn line(&mut self, pa: u64, bytes: u64, whole: bool, window: Option<Window>, log: &mut Log) -> &mut Cached {
        let number = pa / LINE;
        if let Some(line) = self.lines.get(&number)
            && !line.dirty
        {
            let memory = self.memory.line(number);
            let differs =
                if whole { line.data != memory } else { word(&line.data, pa, bytes) != word(&memory, pa, bytes) };
            if differs && log.choose(Choice::Evict) == 0 {
                self.lines.remove(&number);
            } else if differs {
                log.once(Topic::StaleLine, number, || {
                    format!(
                        "The cache still holds the line of PA {pa:#x} as it was before it was written past the cache: a \
                         cacheable access finds the old bytes. [DDI 0487 B2.11]"
                    )
                });
            }
        }
        if !self.lines.contains_key(&number) {
            let data = self.memory.line(number);
            self.count.reads += u64::from(window.is_some());
            self.lines.insert(number, Cached { data, dirty: false });
        }
        self.lines.entry(number).or_insert(Cached { data: [0; LINE as usize], dirty: false })
    }

    /// Before a read past the caches: a dirty line that says otherwise was written back, or was not.
    fn settle(&mut self, pa: u64, bytes: u64, log: &mut Log) {
        let number = pa / LINE;
        let Some(line) = self.lines.get(&number) else { return };
        if self.self_snoop {
            self.clean(number);
        } else if line.dirty && word(&line.data, pa, bytes) != self.memory.read(pa, bytes) {
            if log.choose(Choice::Evict) == 0 {
                self.clean(number);
            } else {
                log.once(Topic::Stale, number, || {
                    format!(
                        "What was written to PA {pa:#x} is in a dirty cache line still: who reads memory past the cache finds \
                         the old bytes. [DDI 0487 B2.11]"
                    )
                });
            }
        }
    }

    /// A write past the caches.
    fn put(&mut self, pa: u64, bytes: u64, value: u64, log: &mut Log) {
        let number = pa / LINE;
        if self.self_snoop {
            self.clean(number);
        } else if let Some(line) = self.lines.get(&number) {
            let same = line.data == self.memory.line(number) && word(&line.data, pa, bytes) == value & ones(bytes);
            if line.dirty && !same {
                if log.choose(Choice::Evict) == 0 {
                    self.clean(number);
                } else {
                    log.once(Topic::Lost, number, || {
                        format!(
                            "A dirty cache line of PA {pa:#x} stays over what is written past it, and replaces it when it is \
                             written back. [DDI 0487 B2.11]"
                        )
                    });
                }
            }
        } else {
            self.fetched_before(pa, bytes, value);
        }
        self.memory.write(pa, bytes, value);
    }

    /// RAM is always mapped Write-Back by the kernel (its linear map), so that a line of it may be in the caches though no
    /// program read it (B2.10.1). Before it is written past the caches it is put there; that it is not is
    /// [`Choice::Evict`], plain.
    fn fetched_before(&mut self, pa: u64, bytes: u64, value: u64) {
        if pa < BAR_PA && self.memory.read(pa, bytes) != value & ones(bytes) {
            let data = self.memory.line(pa / LINE);
            self.lines.insert(pa / LINE, Cached { data, dirty: false });
        }
    }

    /// Writes a line back, if it is dirty, and drops it.
    fn clean(&mut self, number: u64) {
        if let Some(line) = self.lines.remove(&number)
            && line.dirty
        {
            self.count.writes += u64::from(self.window(number * LINE).is_some());
            self.memory.set_line(number, &line.data);
        }
    }

    /// Cleans and invalidates these bytes (DC CIVAC, CLFLUSH).
    pub(crate) fn clean_range(&mut self, pa: u64, size: u64) {
        let last = pa.saturating_add(size.saturating_sub(1)) / LINE;
        let there: Vec<u64> = self.lines.range(pa / LINE..=last).map(|(number, _)| *number).collect();
        for number in there {
            self.clean(number);
        }
    }

    /// A device reads up to 8 bytes of a line. Nobody is told where it fails: a device gets ones.
    pub(crate) fn dma_load(&mut self, pa: u64, bytes: u64, snoops: bool, log: &mut Log) -> u64 {
        let window = self.window(pa);
        if window.is_some_and(|w| w.dead) {
            return ones(bytes);
        }
        if snoops && let Some(line) = self.lines.get(&(pa / LINE)) {
            let cached = word(&line.data, pa, bytes);
            // A clean line that memory was changed under may still answer, if it is still there (B2.11).
            if line.dirty || cached == self.memory.read(pa, bytes) || log.choose(Choice::Evict) == 1 {
                return cached;
            }
            self.lines.remove(&(pa / LINE));
        }
        if !snoops {
            self.settle_for_device(pa, bytes, log);
        }
        self.take(pa, bytes, window)
    }

    /// A device writes up to 8 bytes of a line.
    pub(crate) fn dma_store(&mut self, pa: u64, bytes: u64, value: u64, snoops: bool, log: &mut Log) {
        if self.window(pa).is_some_and(|w| w.dead) {
            return;
        }
        if snoops {
            self.clean(pa / LINE);
            self.memory.write(pa, bytes, value);
        } else {
            self.past_snooping(|bus| bus.put(pa, bytes, value, log));
        }
    }

    fn settle_for_device(&mut self, pa: u64, bytes: u64, log: &mut Log) {
        self.past_snooping(|bus| bus.settle(pa, bytes, log));
    }

    /// Self-snoop is the CPU's: a device that does not snoop has none.
    fn past_snooping(&mut self, act: impl FnOnce(&mut Self)) {
        let own = std::mem::replace(&mut self.self_snoop, false);
        act(self);
        self.self_snoop = own;
    }

    /// A write of a type that gathers, inside one line of a BAR.
    fn gather(&mut self, pa: u64, bytes: u64, value: u64, how: How, log: &mut Log) -> Result<(), Failed> {
        let number = pa / LINE;
        if self.gathered.as_ref().is_some_and(|g| g.number != number || g.how != how) {
            self.drain(log);
        }
        let defect = if how.nc { self.platform.normal_nc } else { NcDefect::None };
        let g = self.gathered.get_or_insert_with(|| Gathered {
            number,
            data: [0; LINE as usize],
            mask: 0,
            how,
            alone: Vec::new(),
        });
        set_word(&mut g.data, pa, bytes, value);
        g.mask |= ones_mask(pa % LINE, bytes);
        match defect {
            NcDefect::Partial => g.alone.push((pa % LINE, bytes, value)),
            NcDefect::Long => {
                self.burst = (pa + bytes, if self.burst.0 == pa { self.burst.1 + bytes } else { bytes });
                if self.burst.1 > 256 && log.choose(Choice::Merge) == 1 {
                    log.once(Topic::Defect, 0, || {
                        format!("{} [declared; thread 002, Gunthorpe]", NcDefect::Long.says())
                    });
                    return Err(Failed::Uncontained);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// All that was gathered leaves, and nothing after it is gathered with it: a barrier, the end, an exit.
    pub(crate) fn flush(&mut self, log: &mut Log) {
        self.burst = (0, 0);
        if self.gathered.is_some() {
            self.drain(log);
        }
    }

    /// What was gathered leaves. A memory write of PCIe has no holes, so each run of bytes is one.
    fn drain(&mut self, log: &mut Log) {
        let Some(g) = self.gathered.take() else { return };
        self.count.writes += u64::from((g.mask & !(g.mask << 1)).count_ones());
        let base = g.number * LINE;
        let defect = if g.how.nc { self.platform.normal_nc } else { NcDefect::None };
        let right = g.bytes();
        let landed = match defect {
            NcDefect::Holes => {
                let wrong = g.without_holes();
                if image(&wrong) != image(&right) && log.choose(Choice::Merge) == 1 { wrong } else { right.clone() }
            }
            NcDefect::Partial => {
                let (gathered, alone) = (g.moved(), g.moved_alone());
                if image(&gathered) != image(&alone) && log.choose(Choice::Merge) == 0 { alone } else { gathered }
            }
            _ => {
                for at in (0..LINE).step_by(8).filter(|at| g.mask >> at & 0xff == 0xff) {
                    self.put(base + at, 8, word(&g.data, at, 8), log);
                }
                for (at, byte) in right.into_iter().filter(|(at, _)| g.mask >> (at & !7) & 0xff != 0xff) {
                    self.put(base + at, 1, u64::from(byte), log);
                }
                return;
            }
        };
        if landed != right {
            log.once(Topic::Defect, g.number, || {
                format!("{} (PA {base:#x}) [declared; thread 002, Gunthorpe]", defect.says())
            });
        }
        // What goes beyond the BAR is lost: nobody knows where to.
        let last = self.window(base).map_or(u64::MAX, |w| w.end);
        for (offset, byte) in landed {
            if base + offset <= last {
                self.put(base + offset, 1, u64::from(byte), log);
            }
        }
    }
}

impl Gathered {
    /// What was written, by offset.
    fn bytes(&self) -> Vec<(u64, u8)> {
        (0..LINE).filter(|i| self.mask >> i & 1 != 0).map(|i| (i, self.data[i as usize])).collect()
    }

    /// [`NcDefect::Holes`]: bytes after the first gap land right behind the first run, one of the corruptions possible.
    fn without_holes(&self) -> Vec<(u64, u8)> {
        let first = u64::from(self.mask.trailing_zeros());
        self.bytes().into_iter().zip(first..).map(|((_, byte), at)| (at, byte)).collect()
    }

    /// [`NcDefect::Partial`]: bytes of an incomplete beat of 8 land 8 bytes further, one of the corruptions possible.
    fn moved(&self) -> Vec<(u64, u8)> {
        let whole = |at: u64| (self.mask >> (at & !7)) & 0xff == 0xff;
        self.bytes().into_iter().map(|(at, byte)| (if whole(at) { at } else { at + 8 }, byte)).collect()
    }

    /// The same of each write by itself, in order.
    fn moved_alone(&self) -> Vec<(u64, u8)> {
        let one = |(offset, bytes, value): &(u64, u64, u64)| {
            let mut data = [0; LINE as usize];
            set_word(&mut data, *offset, *bytes, *value);
            let mask = ones_mask(*offset, *bytes);
            Self { number: self.number, data, mask, how: self.how, alone: Vec::new() }.moved()
        };
        self.alone.iter().flat_map(one).collect()
    }
}

/// What some writes in order leave behind.
fn image(writes: &[(u64, u8)]) -> BTreeMap<u64, u8> {
    writes.iter().copied().collect()
}

/// The bytes of a line at `pa`, little-endian. They lie in the line.
fn word(line: &Line, pa: u64, bytes: u64) -> u64 {
    let at = (pa % LINE) as usize;
    let mut word = [0; 8];
    word[..bytes as usize].copy_from_slice(&line[at..at + bytes as usize]);
    u64::from_le_bytes(word)
}

fn set_word(line: &mut Line, pa: u64, bytes: u64, value: u64) {
    let at = (pa % LINE) as usize;
    line[at..at + bytes as usize].copy_from_slice(&value.to_le_bytes()[..bytes as usize]);
}

/// `bytes` bytes, up to 8, of ones.
pub(crate) const fn ones(bytes: u64) -> u64 {
    if bytes >= 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 }
}

/// A mask of `bytes` bytes, up to 8, from `offset` in a line.
const fn ones_mask(offset: u64, bytes: u64) -> u64 {
    ((1 << bytes) - 1) << offset
}
