//! The address of a PCI function.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Domain (segment), bus, device and function: `0000:00:02.0`, as sysfs names it. A domain of Linux may be wider than the 16 bits
/// of a segment (Intel VMD's begin at `0x10000`).
///
/// ```
/// use platform::Bdf;
///
/// let gpu: Bdf = "01:00.0".parse().unwrap();
/// assert_eq!(gpu.to_string(), "0000:01:00.0");
/// assert_eq!(gpu.rid(), 0x0100);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl Bdf {
    /// Of its parts; nothing if the device is over 31 or the function over 7.
    #[must_use]
    pub const fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 { None } else { Some(Self { domain, bus, device, function }) }
    }
    /// The domain: of firmware, the segment group.
    #[must_use]
    pub const fn domain(self) -> u32 {
        self.domain
    }
    /// The bus.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.bus
    }
    /// The device, 0 to 31.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.device
    }
    /// The function, 0 to 7.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.function
    }
    /// The Requester ID: bus, device and function in 16 bits (PCIe Base 6.0, 2.2.6.2).
    #[must_use]
    pub const fn rid(self) -> u16 {
        (self.bus as u16) << 8 | (self.device as u16) << 3 | self.function as u16
    }
}

/// What was given is not the address of a PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBdf;

impl fmt::Display for NotBdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the address of a PCI function: write domain:bus:device.function, as 0000:00:02.0, or 00:02.0")
    }
}

impl core::error::Error for NotBdf {}

impl FromStr for Bdf {
    type Err = NotBdf;

    /// As sysfs writes it, or as `lspci` does, without domain 0.
    fn from_str(text: &str) -> Result<Self, NotBdf> {
        let digits = |text: &str, of: core::ops::RangeInclusive<usize>| {
            let plain = of.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
        };
        let parse = || {
            let (head, function) = text.rsplit_once('.')?;
            let (head, device) = head.rsplit_once(':')?;
            let (domain, bus) = head
                .rsplit_once(':')
                .map_or((0, head), |(domain, bus)| (digits(domain, 4..=8).map_or(u64::MAX, u64::from), bus));
            let byte = |text, of| digits(text, of).and_then(|n| u8::try_from(n).ok());
            Self::new(u32::try_from(domain).ok()?, byte(bus, 2..=2)?, byte(device, 2..=2)?, byte(function, 1..=1)?)
        };
        parse().ok_or(NotBdf)
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl Serialize for Bdf {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bdf {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bdf;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the address of a PCI function")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bdf, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_str(Visitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString as _;

    #[test]
    fn as_sysfs_and_lspci_have_it_and_no_other_way() {
        assert_eq!("0000:00:02.0".parse::<Bdf>().unwrap().to_string(), "0000:00:02.0");
        assert_eq!("ABCD:ff:1f.7".parse::<Bdf>().unwrap().to_string(), "abcd:ff:1f.7");
        assert_eq!("10000:e1:00.0".parse::<Bdf>().unwrap().to_string(), "10000:e1:00.0");
        assert_eq!("e1:00.1".parse::<Bdf>().unwrap().to_string(), "0000:e1:00.1");
        for bad in [
            "",
            "00:02",
            "0000:00:02.8",
            "0000:00:20.0",
            "0000:00:02.00",
            "0000:+0:02.0",
            "0000-00:02.0",
            "000:00:02.0",
        ] {
            assert_eq!(bad.parse::<Bdf>(), Err(NotBdf), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_the_same(text in "([0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-3][0-9a-f]\\.[0-9]|.{0,16}") {
            if let Ok(bdf) = text.parse::<Bdf>() {
                prop_assert_eq!(bdf.to_string().parse::<Bdf>(), Ok(bdf));
            }
        }
    }
}
