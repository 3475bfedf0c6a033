//! Devices through VFIO.

use std::{io, rc::Rc};

use bar::vfio;

use super::{mapping::Mapping, system};
use crate::{
    Bdf, Error,
    fit::{Opened, Region},
};

/// Offset of BAR 0 in configuration space.
const BAR0: u64 = 0x10;

/// The opened devices.
#[derive(Debug)]
pub(super) struct Vfio {
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    bdf: Bdf,
    // Unmapped before it is closed.
    bars: Vec<Bar>,
    opened: vfio::Device,
}

#[derive(Debug)]
struct Bar {
    region: Region,
    offset: u64,
    mapping: Option<Rc<Mapping>>,
}

impl Vfio {
    pub(super) fn open(bdfs: &[Bdf]) -> Result<Self, Error> {
        let devices = bdfs.iter().map(|bdf| Device::open(*bdf)).collect::<Result<_, _>>()?;
        Ok(Self { devices })
    }

    /// What was opened.
    pub(super) fn opened(&self) -> Vec<Opened> {
        let one = |d: &Device| Opened { bdf: d.bdf, regions: d.bars.iter().map(|b| b.region).collect() };
        self.devices.iter().map(one).collect()
    }

    /// BAR `index` of the device, in this process; mapped when first asked for.
    pub(super) fn bar(&mut self, device: usize, index: u8) -> Result<Rc<Mapping>, Error> {
        let Device { bdf, bars, opened } = &mut self.devices[device];
        let missing = || system(format!("BAR {index} of {bdf}"))(io::ErrorKind::NotFound.into());
        let bar = bars.iter_mut().find(|bar| bar.region.index == index).ok_or_else(missing)?;
        match &bar.mapping {
            Some(mapping) => Ok(Rc::clone(mapping)),
            None => {
                let file = opened.file().ok_or_else(missing)?;
                let mapping = Rc::new(Mapping::new(file, bar.offset, bar.region.size)?);
                Ok(Rc::clone(bar.mapping.insert(mapping)))
            }
        }
    }
}

impl Device {
    fn open(bdf: Bdf) -> Result<Self, Error> {
        let opened = vfio::Device::open(bdf).map_err(|why| Error::Vfio { bdf, why })?;
        // Without it the BARs do not answer, and an access to one is a SIGBUS.
        opened.enable_memory().map_err(system(format!("enable the memory space of {bdf}")))?;
        let mut bars = Vec::new();
        for index in 0..6 {
            let found = opened.region(index.into()).map_err(system(format!("region {index} of {bdf}")))?;
            if found.size == 0 {
                continue;
            }
            let mut register = [0; 4];
            let at = BAR0 + 4 * u64::from(index);
            opened.config(at, &mut register).map_err(system(format!("BAR {index} of {bdf}")))?;
            let register = u32::from_le_bytes(register);
            // Bit 0 says I/O space.
            if register & 1 != 0 {
                continue;
            }
            let region = Region {
                index,
                size: found.size,
                // The whole of it, without holes.
                mappable: found.mmap && found.sparse.is_none(),
                prefetchable: register & 1 << 3 != 0,
            };
            bars.push(Bar { region, offset: found.offset, mapping: None });
        }
        Ok(Self { bdf, bars, opened })
    }
}
