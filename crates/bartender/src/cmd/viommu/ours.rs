//! `viommu`'s device under the conformance suite: the configurations that it is run in.

use conformance::{Broken, Setup};
use viommu::{
    Config, Endpoint, EndpointId, Gpa, Interval, Iova,
    coherency::{Coherency, Dma},
    device::Bypass,
    effect::DomainId,
    endpoint::{Reserved, ReservedKind},
    suite::Under,
};

/// Guest memory: 1 MiB.
const RAM: u64 = 0x4000_0000;
const RAM_SIZE: u64 = 1 << 20;
/// Guest-physical addresses have this many bits; the host maps none beyond.
const PHYSICAL: u32 = 52;

/// What a device is to be.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Its name, after `viommu:`.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Whether it is one that the specification would have of a new device.
    pub conforming: bool,
    config: Config,
    endpoints: Vec<Endpoint>,
}

/// The whole of 2^64 but for what is said.
fn range(first: u64, last: u64) -> Interval {
    Interval::new(Iova(first), Iova(last)).unwrap_or(Interval::ALL)
}

fn endpoint(id: u32, reserved: &[Reserved], dma: Dma) -> Endpoint {
    let coherency = Coherency { dma, ..Coherency::default() };
    Endpoint { reserved: reserved.to_vec(), coherency, ..Endpoint::new(EndpointId(id)) }
}

/// The configurations that the suite is run on: no single one has everything that there is a clause about.
#[must_use]
pub fn configurations() -> Vec<Configuration> {
    // In the second half of guest memory, where an access that goes by the identity would show.
    let held = Reserved { at: range(RAM + 0x8_0000, RAM + 0x8_ffff), kind: ReservedKind::Reserved };
    let msi = Reserved { at: range(0xfee0_0000, 0xfeef_ffff), kind: ReservedKind::Msi };
    let both = |reserved: &[Reserved]| [0x8, 0x9].map(|id| endpoint(id, reserved, Dma::Coherent)).to_vec();
    let full = Config {
        input_range: range(0x1000, 0xffff_ffff_ffff),
        domain_range: (DomainId(1), DomainId(0xffff)),
        ..Config::default()
    };
    let minimal = Config {
        page_size_mask: 0x1000,
        input_range: Interval::ALL,
        probe_size: 0,
        mmio: false,
        bypass: Bypass::Never,
        ..Config::default()
    };
    vec![
        Configuration {
            name: "full",
            what: "everything is offered, but for BYPASS and for coherency, which is a proposal",
            conforming: true,
            config: full.clone(),
            endpoints: both(&[held, msi]),
        },
        Configuration {
            name: "minimal",
            what: "MAP_UNMAP alone, all addresses, one page size",
            conforming: true,
            config: minimal.clone(),
            endpoints: both(&[]),
        },
        Configuration {
            name: "narrow",
            what: "16 MiB of addresses, five domains, a granule of 64 KiB",
            conforming: true,
            config: Config {
                page_size_mask: 0x1_0000,
                input_range: range(0x1_0000, 0x100_ffff),
                domain_range: (DomainId(5), DomainId(9)),
                ..full.clone()
            },
            endpoints: both(&[Reserved { at: range(0x10_0000, 0x10_0fff), kind: ReservedKind::Reserved }]),
        },
        Configuration {
            name: "bytes",
            what: "a granule of one byte, and bypass 1 at first",
            conforming: true,
            config: Config {
                page_size_mask: u64::MAX,
                bypass: Bypass::Config { initially: true },
                ..Config::default()
            },
            endpoints: both(&[held, msi]),
        },
        Configuration {
            name: "mixed",
            what: "an endpoint that is coherent and one that is not, which the host has no table for both of",
            conforming: true,
            config: full,
            endpoints: vec![endpoint(0x8, &[held, msi], Dma::Coherent), endpoint(0x9, &[msi], Dma::NonCoherent)],
        },
        Configuration {
            name: "legacy",
            what: "BYPASS, which BYPASS_CONFIG supersedes: a new device should not offer it",
            conforming: false,
            config: Config { bypass: Bypass::Legacy, ..minimal },
            endpoints: both(&[]),
        },
    ]
}

impl Configuration {
    /// The device, and what is around it.
    ///
    /// # Errors
    /// The configuration is none.
    pub fn device(&self) -> Result<Under, Broken> {
        let setup = Setup {
            endpoints: self.endpoints.iter().map(|it| it.id.0).collect(),
            absent: 0x77,
            ram: RAM..=RAM + (RAM_SIZE - 1),
        };
        let name = format!("viommu:{}", self.name);
        let mut it = Under::new(name, self.config.clone(), self.endpoints.clone(), setup)?;
        it.host.last = Some(Gpa((1 << PHYSICAL) - 1));
        Ok(it)
    }
}
