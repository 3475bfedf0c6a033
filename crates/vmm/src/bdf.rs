//! The address of a PCI function.

use std::{fmt, str::FromStr};

use crate::Error;

/// Domain, bus, device and function: `0000:00:02.0`, as sysfs names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf {
    domain: u16,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for Bdf {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let part = |range: std::ops::Range<usize>, max: u16| {
            let digits = text.get(range).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u16::from_str_radix(digits, 16).ok().filter(|value| *value <= max)
        };
        let parse = || {
            let marks = [text.get(4..5)?, text.get(7..8)?, text.get(10..11)?];
            if marks != [":", ":", "."] || text.len() != 12 {
                return None;
            }
            Some(Self {
                domain: part(0..4, u16::MAX)?,
                bus: part(5..7, 0xff)? as u8,
                device: part(8..10, 0x1f)? as u8,
                function: part(11..12, 7)? as u8,
            })
        };
        parse().ok_or_else(|| Error::Bdf { text: text.into() })
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.device, self.function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_sysfs_has_it_and_no_other_way() {
        assert_eq!("0000:00:02.0".parse::<Bdf>().unwrap().to_string(), "0000:00:02.0");
        assert_eq!("ABCD:ff:1f.7".parse::<Bdf>().unwrap().to_string(), "abcd:ff:1f.7");
        for bad in ["", "00:02.0", "0000:00:02.8", "0000:00:20.0", "0000:00:02.00", "0000:+0:02.0", "0000-00:02.0"] {
            let said = bad.parse::<Bdf>().unwrap_err().to_string();
            assert!(said.contains("0000:00:02.0"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "[0-9a-f]{4}:[0-9a-f]{2}:[0-3][0-9a-f]\\.[0-9]|.{0,16}") {
            if let Ok(bdf) = text.parse::<Bdf>() {
                prop_assert_eq!(bdf.to_string(), text.to_lowercase());
            }
        }
    }
}
