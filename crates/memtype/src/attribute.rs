//! What user space asks of a mapping of device memory, in VFIO's terms and no architecture's: the attribute that thread 001
//! wants to attach to a part of a region.
//!
//! ```
//! use memtype::Attribute;
//!
//! assert_eq!(Attribute::named("write-combine"), Some(Attribute::WriteCombine));
//! assert_eq!(Attribute::default().name(), "default");
//! ```

use core::fmt;

/// An attribute asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Attribute {
    /// Nothing is asked: what the kernel gives without.
    #[default]
    Default,
    /// `pgprot_noncached()`: registers.
    Uncached,
    /// `pgprot_writecombine()`.
    WriteCombine,
    /// The page protection as it is: cacheable. A device's own driver has to say that its memory can be.
    Cached,
}

impl Attribute {
    /// All.
    pub const ALL: [Self; 4] = [Self::Default, Self::Uncached, Self::WriteCombine, Self::Cached];

    /// As a file or a command line writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Uncached => "uncached",
            Self::WriteCombine => "write-combine",
            Self::Cached => "cached",
        }
    }
    /// By name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
