//! A part of a BAR, in this process.
#![expect(unsafe_code, reason = "views of memory that was mapped")]

use std::fmt;
use std::ops::Range;

use memtype::guarantee::{Question, Standing};
use platform::Bdf;

use crate::access::{Bad, Registers, Window, WriteCombining};
use crate::cpu::Features;
use crate::fault::{self, Fault, Width};
use crate::open::{Bar, Type, Way};
use crate::registry::Entry;
use crate::sys::Vma;
use crate::vfio;

pub(crate) struct Parts {
    pub(crate) vma: Vma,
    pub(crate) skip: usize,
    pub(crate) way: Way,
    pub(crate) ty: Type,
    pub(crate) writable: bool,
    pub(crate) entry: Option<Entry>,
    pub(crate) handle: Option<vfio::Device>,
}

/// A part of a BAR that is mapped, until it is dropped.
///
/// If the device goes away, an access through a view is a SIGBUS; through [`load`](Self::load) and [`store`](Self::store) it is an
/// error. [`Bar::removal`] says when it is about to.
#[derive(Debug)]
pub struct Mapping {
    // Dropped in this order: unmapped, then forgotten, then the device is closed.
    vma: Vma,
    _entry: Option<Entry>,
    _handle: Option<vfio::Device>,
    skip: usize,
    len: usize,
    bdf: Bdf,
    index: u8,
    range: Range<u64>,
    physical: u64,
    way: Way,
    ty: Type,
    writable: bool,
}

/// Why there is no such view of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It was mapped only to read.
    #[error("it is mapped only to read")]
    ReadOnly,
    /// Its type merges and delays what a register must get as it is written.
    #[error("{ty} may merge stores: it is no mapping for registers")]
    Merges {
        /// Its type.
        ty: memtype::MemoryType,
    },
    /// Its type merges nothing.
    #[error("{ty} merges no stores: ask for a write-combining mapping")]
    Plain {
        /// Its type.
        ty: memtype::MemoryType,
    },
}

/// Why an access was not made, or what came of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// It is not within, or not at a multiple of its width.
    #[error(transparent)]
    Bad(#[from] Bad),
    /// It is mapped only to read.
    #[error("it is mapped only to read")]
    ReadOnly,
    /// The CPU or the kernel refused it: the device is gone, or does not decode memory.
    #[error("{0}")]
    Fault(#[from] Fault),
}

impl Mapping {
    pub(crate) fn new(bar: &Bar, range: Range<u64>, parts: Parts) -> Self {
        let Parts { vma, skip, way, ty, writable, entry, handle } = parts;
        Self {
            len: usize::try_from(range.end - range.start).unwrap_or(0).min(vma.len() - skip.min(vma.len())),
            physical: bar.resource.first + range.start,
            bdf: bar.device.bdf,
            index: bar.index,
            vma,
            _entry: entry,
            _handle: handle,
            skip,
            range,
            way,
            ty,
            writable,
        }
    }

    /// Of which function.
    #[must_use]
    pub const fn bdf(&self) -> Bdf {
        self.bdf
    }
    /// Of which BAR.
    #[must_use]
    pub const fn bar(&self) -> u8 {
        self.index
    }
    /// Which bytes of the BAR.
    #[must_use]
    pub const fn range(&self) -> &Range<u64> {
        &self.range
    }
    /// By which way it was made.
    #[must_use]
    pub const fn way(&self) -> Way {
        self.way
    }
    /// Which type it has, and how that is known.
    #[must_use]
    pub const fn ty(&self) -> &Type {
        &self.ty
    }
    /// Whether it may be written.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.writable
    }
    /// Bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }
    /// There is always at least one byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Its first byte, as the CPU's physical address.
    #[must_use]
    pub const fn physical(&self) -> u64 {
        self.physical
    }
    /// Its first byte, in this process.
    #[must_use]
    pub fn address(&self) -> *mut u8 {
        self.vma.start().wrapping_add(self.skip)
    }
    /// The pages that are mapped, from the BAR's first page on: (offset from the page in which the range begins, bytes).
    #[must_use]
    pub const fn mapped(&self) -> (usize, usize) {
        (self.skip, self.vma.len())
    }
    /// `VmFlags` of the mapping, out of `/proc/self/smaps`: `??` is a flag without a name, VM_ALLOW_ANY_UNCACHED.
    #[must_use]
    pub fn vm_flags(&self) -> Option<String> {
        vfio::flags_of(&self.vma)
    }

    /// What accesses are made through. Whether its type fits is the caller's to know: see [`registers`](Self::registers).
    ///
    /// # Errors
    /// It is mapped only to read.
    pub fn window(&self) -> Result<Window<'_>, Unfit> {
        if !self.writable {
            return Err(Unfit::ReadOnly);
        }
        // SAFETY: the bytes are mapped, readable and writable for as long as `self` is borrowed, and no reference of Rust's is ever
        // made to them. `len` was cut to what is mapped after `skip`.
        Ok(unsafe { Window::new(self.address(), self.len) })
    }
    fn merges(&self) -> bool {
        self.ty.ty.guarantee(Question::Gather).is_some_and(|it| it.standing != Standing::Forbidden)
    }
    /// The view for registers: ordered, sized, never merged.
    ///
    /// # Errors
    /// It is of a type that merges stores, or mapped only to read.
    pub fn registers(&self) -> Result<Registers<'_>, Unfit> {
        match self.window()? {
            _ if self.merges() => Err(Unfit::Merges { ty: self.ty.ty }),
            window => Ok(window.registers()),
        }
    }
    /// The view for bursts.
    ///
    /// # Errors
    /// It is of a type that merges no stores, or mapped only to read.
    pub fn write_combining(&self) -> Result<WriteCombining<'_>, Unfit> {
        match self.window()? {
            window if self.merges() => Ok(window.write_combining(Features::detect())),
            _ => Err(Unfit::Plain { ty: self.ty.ty }),
        }
    }

    /// One load of this width, at a multiple of it. A fault is an error and not the end of the process.
    ///
    /// # Errors
    /// It is not within; it is not aligned; it faulted.
    pub fn load(&self, offset: usize, width: Width) -> Result<u64, Failed> {
        let at = self.checked(offset, width)?;
        // SAFETY: it is within the mapping, where nothing of Rust's lives. What reading does to the device the caller has to know,
        // as with every register.
        Ok(unsafe { fault::load(at, width) }?)
    }
    /// One store of this width, at a multiple of it. A fault is an error and not the end of the process.
    ///
    /// # Errors
    /// It is not within; it is not aligned; it is mapped only to read; it faulted.
    pub fn store(&self, offset: usize, width: Width, value: u64) -> Result<(), Failed> {
        if !self.writable {
            return Err(Failed::ReadOnly);
        }
        let at = self.checked(offset, width)?;
        // SAFETY: as in `load`.
        Ok(unsafe { fault::store(at, width, value) }?)
    }
    fn checked(&self, offset: usize, width: Width) -> Result<*mut u8, Bad> {
        let bytes = width.bytes();
        let range = Bad::Range { offset, width: bytes, len: self.len };
        if offset.checked_add(bytes).is_none_or(|end| end > self.len) {
            return Err(range);
        }
        let at = self.skip.checked_add(offset).and_then(|at| self.vma.at(at)).ok_or(range)?;
        if at.addr().is_multiple_of(bytes) { Ok(at) } else { Err(Bad::Alignment { offset, width: bytes }) }
    }
}

/// `0000:00:02.0 BAR 2 0x0+0x1000: x86:wc by sysfs-write-combine`.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bdf, index, range, way, ty, .. } = self;
        write!(f, "{bdf} BAR {index} {:#x}+{:#x}: {} by {way}", range.start, range.end - range.start, ty.ty)
    }
}
