//! Which of the opened devices serves which device of a scenario.

use std::fmt::Write as _;

use scenario::{Bar, Device};

use crate::{Bdf, Error};

/// A BAR that an opened device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// BAR index, 0 to 5.
    pub index: u8,
    /// Bytes.
    pub size: u64,
    /// The whole of it can be mapped.
    pub mappable: bool,
    /// Bit 3 of the BAR.
    pub prefetchable: bool,
}

/// An opened device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its address.
    pub bdf: Bdf,
    /// Its BARs.
    pub regions: Vec<Region>,
}

impl Opened {
    fn serves(&self, device: &Device) -> bool {
        device.bars.iter().all(|bar| self.regions.iter().any(|region| region.serves(*bar)))
    }
}

impl Region {
    const fn serves(self, bar: Bar) -> bool {
        self.index == bar.index && self.size == bar.size && self.mappable && (self.prefetchable || !bar.prefetchable)
    }
}

/// For each of `devices`, the index of an opened one that serves it; no opened one serves two.
///
/// # Errors
/// [`Error::NoDevice`], with what the device that is left over needs and what there is.
pub fn assign(devices: &[Device], opened: &[Opened]) -> Result<Vec<usize>, Error> {
    // Kuhn's matching: whoever comes later may make an earlier one move to another that serves it too.
    fn settle(
        who: usize,
        devices: &[Device],
        opened: &[Opened],
        taken: &mut [Option<usize>],
        seen: &mut [bool],
    ) -> bool {
        (0..opened.len()).any(|i| {
            if seen[i] || !opened[i].serves(&devices[who]) {
                return false;
            }
            seen[i] = true;
            let free = taken[i].is_none_or(|other| settle(other, devices, opened, taken, seen));
            if free {
                taken[i] = Some(who);
            }
            free
        })
    }
    let mut taken = vec![None; opened.len()];
    for (who, device) in devices.iter().enumerate() {
        if !settle(who, devices, opened, &mut taken, &mut vec![false; opened.len()]) {
            return Err(Error::NoDevice { needed: needed(device, who), have: have(opened) });
        }
    }
    let mut result = vec![0; devices.len()];
    for (i, who) in taken.iter().enumerate() {
        if let Some(who) = who {
            result[*who] = i;
        }
    }
    Ok(result)
}

fn needed(device: &Device, before: usize) -> String {
    let bars: Vec<_> = device.bars.iter().map(|b| bar(b.index, b.size, b.prefetchable, true)).collect();
    let mut text = format!("for {:?} a device with {}", device.name, bars.join(" and "));
    if before > 0 {
        text.push_str(", beside those for the devices before it");
    }
    text
}

fn have(opened: &[Opened]) -> String {
    if opened.is_empty() {
        return "none".into();
    }
    let one = |device: &Opened| {
        let bars: Vec<_> = device.regions.iter().map(|r| bar(r.index, r.size, r.prefetchable, r.mappable)).collect();
        format!("{} with {}", device.bdf, if bars.is_empty() { "no memory BAR".into() } else { bars.join(", ") })
    };
    opened.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn bar(index: u8, size: u64, prefetchable: bool, mappable: bool) -> String {
    let mut text = format!("BAR {index} of ");
    let (count, unit) = match size {
        0 => (0, " bytes"),
        s if s.is_multiple_of(1 << 30) => (s >> 30, "G"),
        s if s.is_multiple_of(1 << 20) => (s >> 20, "M"),
        s if s.is_multiple_of(1 << 10) => (s >> 10, "K"),
        s => (s, " bytes"),
    };
    // Writing to a String cannot fail.
    let _ = write!(text, "{count}{unit}");
    if prefetchable {
        text.push_str(" prefetchable");
    }
    if !mappable {
        text.push_str(" (not mappable)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use scenario::Reads;

    fn opened(slot: u8, regions: &[(u8, u64, bool)]) -> Opened {
        let regions =
            regions.iter().map(|&(index, size, prefetchable)| Region { index, size, mappable: true, prefetchable });
        Opened { bdf: format!("0000:00:{slot:02x}.0").parse().unwrap(), regions: regions.collect() }
    }

    fn device(bars: &[(u8, u64, bool)]) -> Device {
        let bars = bars.iter().map(|&(index, size, prefetchable)| Bar {
            index,
            size,
            prefetchable,
            readonly: false,
            reads: Reads::Plain,
            clear: 0,
            dead: false,
            cached: false,
        });
        Device { name: "gpu".into(), class: Device::NO_CLASS, no_snoop: false, coherent: None, bars: bars.collect() }
    }

    const M: u64 = 1 << 20;

    #[test]
    fn exact_size_same_index_prefetchable_where_asked() {
        let have = [opened(1, &[(0, 256, false), (2, M, true)])];
        assert_eq!(assign(&[device(&[(2, M, true)])], &have).unwrap(), [0]);
        assert_eq!(assign(&[device(&[(2, M, false)])], &have).unwrap(), [0]);
        for wrong in [device(&[(2, 2 * M, true)]), device(&[(4, M, true)]), device(&[(2, M, true), (4, M, true)])] {
            assert!(assign(&[wrong], &have).is_err());
        }
        let plain = [opened(1, &[(2, M, false)])];
        assert_eq!(
            assign(&[device(&[(2, M, true)])], &plain).unwrap_err().to_string(),
            "the scenario needs for \"gpu\" a device with BAR 2 of 1M prefetchable; opened are 0000:00:01.0 with BAR 2 of \
             1M: name devices that have it, or use --on lab:6.12"
        );
        let mut trapped = have[0].clone();
        trapped.regions[1].mappable = false;
        let said = assign(&[device(&[(2, M, true)])], &[trapped]).unwrap_err().to_string();
        assert!(said.contains("BAR 0 of 256 bytes, BAR 2 of 1M prefetchable (not mappable)"), "{said}");
        assert!(assign(&[device(&[(2, M, true)])], &[]).unwrap_err().to_string().contains("opened are none"));
    }

    #[test]
    fn an_earlier_device_moves_over_for_a_later_one() {
        let have = [opened(1, &[(2, M, true)]), opened(2, &[(2, M, false)])];
        let (any, prefetchable) = (device(&[(2, M, false)]), device(&[(2, M, true)]));
        assert_eq!(assign(&[any.clone(), prefetchable.clone()], &have).unwrap(), [1, 0]);
        assert_eq!(assign(&[prefetchable.clone(), any.clone()], &have).unwrap(), [0, 1]);
        assert!(assign(&[prefetchable.clone(), prefetchable], &have).is_err());
        assert!(assign(&[any.clone(), any.clone(), any], &have).is_err());
        assert_eq!(assign(&[], &have).unwrap(), [0; 0]);
    }
}
