//! MAIR_ELx (D24.2.127): what each attribute byte means.

use memtype::arm::{Alignment, Cache, Cacheability, Features, Reserved, Stage1, Stage2, Tagging, Type, combine};
use serde::Serialize;

/// One attribute of MAIR_ELx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attribute {
    /// Its AttrIndx; `None` for a byte on its own.
    pub index: Option<u8>,
    /// The byte.
    pub byte: u8,
    /// The memory type, as in files.
    #[serde(rename = "type")]
    pub name: &'static str,
    /// Inner cacheability with hints; `None` for Device.
    pub inner: Option<String>,
    /// Outer cacheability with hints; `None` for Device.
    pub outer: Option<String>,
    /// The XS attribute.
    pub xs: bool,
    /// The Tagged attribute.
    pub tagged: bool,
    /// What an unaligned access does at stage 1: `ok` or `fault`.
    pub unaligned: &'static str,
    /// Whether it is a reserved encoding; then the type is one of those the architecture allows.
    pub reserved: Option<&'static str>,
    /// The type.
    #[serde(skip)]
    pub ty: Type,
}

/// One attribute byte, with FEAT_XS and FEAT_MTE2.
#[must_use]
pub fn attribute(index: Option<u8>, byte: u8) -> Attribute {
    let s1 = Stage1::decode(byte, 0b11, Features::LATEST);
    // Alone: under a stage 2 that takes what stage 1 says.
    let alone = combine(&s1, &Stage2::decode(true, 0b0111, 0b11, Features::LATEST));
    let (inner, outer) = match s1.ty() {
        Type::Device(_) => (None, None),
        Type::Normal { inner, outer } => (Some(cache(inner)), Some(cache(outer))),
    };
    Attribute {
        index,
        byte,
        name: s1.ty().name(),
        inner,
        outer,
        xs: s1.xs,
        tagged: matches!(s1.tagging, Tagging::Tagged),
        unaligned: if matches!(alone.unaligned(), Alignment::Ok) { "ok" } else { "fault" },
        reserved: s1.reserved_mair.map(reserved),
        ty: s1.ty(),
    }
}

/// All eight, Attr0 first.
#[must_use]
pub fn attributes(mair: u64) -> Vec<Attribute> {
    (0u8..).zip(mair.to_le_bytes()).map(|(index, byte)| attribute(Some(index), byte)).collect()
}

const fn reserved(which: Reserved) -> &'static str {
    crate::cmd::explain::arm64::reserved_says(which)
}

/// `nc`, or `wb` with its allocation hints: `wb-ra-wa`, `wt-transient-ra`.
fn cache(cache: Cache) -> String {
    let mut out = String::from(cache.policy.short());
    if cache.policy != Cacheability::NonCacheable {
        for (hint, name) in
            [(cache.hints.transient(), "-transient"), (cache.hints.read(), "-ra"), (cache.hints.write(), "-wa")]
        {
            if hint {
                out.push_str(name);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux() {
        let all = attributes(0x0000_0004_0044_f0ff);
        let names: Vec<_> = all.iter().map(|a| a.name).collect();
        assert_eq!(names[..5], ["normal-wb", "normal-wb", "normal-nc", "device-ngnrne", "device-ngnre"]);
        assert_eq!((all[0].index, all[7].index), (Some(0), Some(7)));
        assert!(all[1].tagged && !all[0].tagged);
        assert_eq!(all[0].inner.as_deref(), Some("wb-ra-wa"));
        assert_eq!(all[2].outer.as_deref(), Some("nc"));
        assert_eq!((all[2].unaligned, all[3].unaligned), ("ok", "fault"));
    }

    #[test]
    fn reserved_bytes_are_named() {
        for byte in [0x02, 0x03, 0x10, 0xe0] {
            assert!(attribute(None, byte).reserved.is_some(), "{byte:#x}");
        }
        for byte in [0x00, 0x01, 0x40, 0xa0, 0xf0, 0x44, 0x11] {
            assert!(attribute(None, byte).reserved.is_none(), "{byte:#x}");
        }
        assert_eq!(attribute(None, 0x21).inner.as_deref(), Some("wt-transient-wa"));
    }
}
