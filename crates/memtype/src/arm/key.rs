//! A memory type as one byte: the MAIR byte that says it. What there is to be combined is then an index into a table.
//!
//! ```
//! use memtype::arm::{Features, Stage1, Type};
//!
//! // Two bytes that say one type: with and without XS.
//! let (a, b) = (Stage1::decode(0x44, 3, Features::LATEST), Stage1::decode(0x40, 3, Features::LATEST));
//! assert_eq!((a.ty(), b.ty()), (Type::NORMAL_NC, Type::NORMAL_NC));
//! assert!(a.xs && !b.xs);
//! ```

use super::{Cache, Cacheability, Device, Hints, Shareability, Type};

/// The MAIR byte of a type, with XS = 1 where it is Device: never a reserved one. What MAIR cannot say is left out: a
/// Transient hint where neither Read- nor Write-Allocate is, any hint of Non-cacheable.
pub(super) const fn key(ty: Type) -> u8 {
    const fn nibble(cache: Cache) -> u8 {
        let (read, write) = (cache.hints.read(), cache.hints.write());
        let hints = (read as u8) << 1 | write as u8;
        let not_transient = if cache.hints.transient() && hints != 0 { 0 } else { 0b1000 };
        match cache.policy {
            Cacheability::NonCacheable => 0b0100,
            Cacheability::WriteThrough => not_transient | hints,
            Cacheability::WriteBack => not_transient | 0b0100 | hints,
        }
    }
    match ty {
        Type::Device(device) => (device as u8) << 2,
        Type::Normal { inner, outer } => nibble(outer) << 4 | nibble(inner),
    }
}

/// A nibble of a Normal MAIR byte (`DecodeLDFAttr`); never 0.
pub(super) const fn cache(nibble: u8) -> Cache {
    if nibble == 0b0100 {
        return Cache::NC;
    }
    let policy = if nibble & 0b0100 == 0 { Cacheability::WriteThrough } else { Cacheability::WriteBack };
    // Without a hint there is no Transient: 0b0100 is NC, and 0b0000 encodes something else altogether.
    let (read, write) = (nibble & 0b10 != 0, nibble & 0b01 != 0);
    Cache { policy, hints: Hints::new(read, write, nibble & 0b1000 == 0 && (read || write)) }
}

/// What a key stands for.
#[derive(Debug, Clone, Copy)]
#[repr(align(8))]
pub(super) struct Known {
    pub(super) ty: Type,
    /// Outer for Device and Non-cacheable (`EffectiveShareability`).
    pub(super) least: Shareability,
    /// Write-Back.
    pub(super) back: bool,
    /// Write-Back with both allocation hints and not Transient: what can be Tagged (`IsTaggableMemAttr`).
    pub(super) taggable: bool,
}

/// By key; Device-nGnRnE where that is none.
pub(super) static KNOWN: [Known; 256] = {
    let mut table = [known(0); 256];
    let mut i = 0;
    while i < table.len() {
        table[i] = known(i as u8);
        i += 1;
    }
    table
};

const fn known(key: u8) -> Known {
    let ty = match (key >> 4, key & 0xf) {
        (0, low) => Type::Device(Device::from_bits(low >> 2)),
        (_, 0) => Type::Device(Device::nGnRnE),
        (outer, inner) => Type::Normal { inner: cache(inner), outer: cache(outer) },
    };
    Known {
        ty,
        least: Shareability::Non.effective(ty),
        back: ty.is_normal_wb(),
        taggable: key == self::key(Type::NORMAL_WB),
    }
}
