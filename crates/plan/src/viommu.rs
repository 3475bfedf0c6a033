//! A virtio-iommu before devices of the host: what it can say of each endpoint's coherency, which of them can share a domain, and what firmware
//! tells the guest of it.

use ::viommu::coherency::{Coherency, Dma, NoSnoop, Spaces, Walks, serves};
use host::{Fact, Hole, Host, Why};
use platform::Bdf;
use serde::{Serialize, Serializer};

use crate::request::{HostSide, ViommuRequest, hex};
use crate::seat::Seat;
use crate::vm::{DevicePlan, NO_BAR};
use crate::{GuestFirmware, Sure};

/// A virtio-iommu.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ViommuPlan {
    /// It offers VIRTIO_IOMMU_F_COHERENCY, a proposal: docs/virtio-iommu-coherency.md.
    pub offers_coherency: bool,
    /// What the VMM has for a domain on the host.
    pub host: Option<HostSide>,
    /// What that can hold together.
    pub spaces: Spaces,
    /// Why.
    pub spaces_why: String,
    /// Its endpoints.
    pub endpoints: Vec<EndpointPlan>,
    /// Pairs that no domain can hold: the second ATTACH is answered VIRTIO_IOMMU_S_UNSUPP.
    pub apart: Vec<Apart>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EndpointPlan {
    /// Where it is on the host.
    #[serde(serialize_with = "one")]
    pub bdf: Bdf,
    /// What the host says of it, for `viommu::Endpoint` and the property COHERENCY.
    pub coherency: Coherency,
    /// How sure `dma` is.
    pub dma_sure: Sure,
    /// How sure `no-snoop` is.
    pub no_snoop_sure: Sure,
    /// How sure `walks` is.
    pub walks_sure: Sure,
    /// Why mappings can be non-cacheable or not.
    pub non_cacheable_why: String,
    /// Enable No Snoop, as `no-snoop` of the device says.
    pub enable_no_snoop: EnableNoSnoop,
}

/// Whose the bit Enable No Snoop of an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnableNoSnoop {
    /// The VMM keeps it clear: `viommu::config_space`.
    KeptClear,
    /// The guest may set it.
    Guest,
    /// The function has no PCIe Device Control register, and does not set No Snoop.
    None,
}

impl EnableNoSnoop {
    /// For people.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::KeptClear => "kept clear",
            Self::Guest => "the guest's",
            Self::None => "not there",
        }
    }
}

/// Two endpoints that no domain can hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Apart {
    /// Which.
    #[serde(serialize_with = "two")]
    pub endpoints: (Bdf, Bdf),
    /// Why.
    pub why: String,
}

/// What firmware tells the guest of a virtio-iommu on PCI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ViommuFirmware {
    /// Where it stands in the guest; nothing if the file does not say.
    #[serde(serialize_with = "shown")]
    pub at: Option<Bdf>,
    /// Device tree: `compatible` of its node, a child of the host bridge's.
    pub compatible: Option<[&'static str; 2]>,
    /// Device tree: the first of the five cells of its `reg`.
    #[serde(serialize_with = "maybe_hex")]
    pub reg: Option<u64>,
    /// Device tree: entries of the host bridge's `iommu-map`. ACPI: PCI ranges of VIOT. All requester ids of its segment but its own.
    pub ranges: Vec<RidRange>,
}

/// Requester ids, and endpoint ids that are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RidRange {
    /// The first requester id.
    #[serde(serialize_with = "hex")]
    pub first: u64,
    /// Its endpoint id.
    #[serde(serialize_with = "hex")]
    pub endpoint: u64,
    /// How many.
    #[serde(serialize_with = "hex")]
    pub count: u64,
}

fn one<S: Serializer>(bdf: &Bdf, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(bdf)
}

fn two<S: Serializer>((a, b): &(Bdf, Bdf), to: S) -> Result<S::Ok, S::Error> {
    [a.to_string(), b.to_string()].serialize(to)
}

fn shown<S: Serializer>(bdf: &Option<Bdf>, to: S) -> Result<S::Ok, S::Error> {
    bdf.map(|b| b.to_string()).serialize(to)
}

fn maybe_hex<S: Serializer>(n: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    n.map(|n| format!("{n:#x}")).serialize(to)
}

/// What becomes of No Snoop, by whether the IOMMU takes it off.
pub(crate) const fn no_snoop(enforced: Option<bool>) -> NoSnoop {
    match enforced {
        Some(true) => NoSnoop::Enforced,
        Some(false) => NoSnoop::Allowed,
        None => NoSnoop::Unknown,
    }
}

/// What the VMM has for a domain, and what it can hold together. Every table of VFIO's and of iommufd's is IOMMU_CACHE, which does an endpoint
/// that does not snoop no harm; what differs is No Snoop.
fn spaces(host: &Host, asked: &ViommuRequest) -> (Option<HostSide>, Spaces, &'static str) {
    let side = asked.host.or(match (host.vfio.container, host.vfio.iommufd) {
        (true, _) => Some(HostSide::Container),
        (false, true) => Some(HostSide::Ioas),
        (false, false) => None,
    });
    let (spaces, why) = match side {
        Some(HostSide::Container) => (
            Spaces::TABLE_EACH,
            "in a container Linux makes a table for each kind of endpoint [vfio_iommu_type1_attach_group]",
        ),
        Some(HostSide::Ioas) => (
            Spaces::IOMMUFD,
            "an endpoint of which snooping can be enforced joins a table that does not, if one is there: it goes by who is first \
             [iommufd_device_auto_get_domain, iommufd_hwpt_paging_alloc]",
        ),
        Some(HostSide::Hwpt) => (
            Spaces::IOMMUFD,
            "a table that enforces snooping takes no endpoint of which that cannot be; another enforces for none \
             [iommufd_hwpt_paging_alloc]",
        ),
        None => (Spaces::ONE_TABLE, "there is neither a container nor iommufd here: the least is taken"),
    };
    (side, spaces, why)
}

/// What the host says of the endpoint that a device is, out of what the plan says of the device.
fn endpoint(host: &Host, device: &DevicePlan) -> EndpointPlan {
    let seat = host.functions.get(&device.bdf).map(|f| Seat::new(host, f, &NO_BAR));
    let nothing = || Sure::Rests(vec![Hole { at: "the IOMMU".into(), why: Why::Failed("nothing says".into()) }]);
    let dma = match (device.coherent, &device.coherent_sure) {
        (true, Sure::Rests(_)) => Dma::Unknown,
        (true, _) => Dma::Coherent,
        (false, _) => Dma::NonCoherent,
    };
    let no_snoop_sure = seat.as_ref().map_or_else(nothing, |s| s.enforced().1);
    let iommu = seat.as_ref().and_then(Seat::iommu);
    let (walks, walks_sure) = match iommu.map(|it| (&it.coherent_walk, it.kind)) {
        Some((Fact::Known(walks), kind)) => (
            if *walks { Walks::Coherent } else { Walks::NonCoherent },
            Sure::Rule(format!("by what the {} says", kind.name())),
        ),
        Some((Fact::Hole(hole), _)) => (Walks::Unknown, Sure::Rests(vec![hole.clone()])),
        Some((Fact::Absent, _)) | None => (Walks::Unknown, nothing()),
    };
    EndpointPlan {
        bdf: device.bdf,
        coherency: Coherency { dma, non_cacheable: false, no_snoop: no_snoop(device.no_snoop.enforced), walks },
        dma_sure: device.coherent_sure.clone(),
        no_snoop_sure,
        walks_sure,
        non_cacheable_why: "VFIO_IOMMU_MAP_DMA and IOMMU_IOAS_MAP have no flag for it, and map everything IOMMU_CACHE \
                            [Linux up to 7.3]"
            .into(),
        enable_no_snoop: match host.functions.get(&device.bdf).map(|f| &f.no_snoop) {
            Some(Fact::Absent) => EnableNoSnoop::None,
            _ if device.no_snoop.mask => EnableNoSnoop::KeptClear,
            _ => EnableNoSnoop::Guest,
        },
    }
}

/// The virtio-iommu before these devices.
pub(crate) fn of(host: &Host, asked: &ViommuRequest, devices: &[DevicePlan]) -> ViommuPlan {
    let (side, spaces, spaces_why) = spaces(host, asked);
    let endpoints: Vec<EndpointPlan> = devices.iter().map(|d| endpoint(host, d)).collect();
    let mut apart = Vec::new();
    for (i, a) in endpoints.iter().enumerate() {
        for b in endpoints.iter().skip(i + 1) {
            if let Err(why) = serves(spaces, &[a.coherency], b.coherency, false) {
                apart.push(Apart { endpoints: (a.bdf, b.bdf), why: why.to_string() });
            }
        }
    }
    ViommuPlan {
        offers_coherency: asked.coherency,
        host: side,
        spaces,
        spaces_why: spaces_why.into(),
        endpoints,
        apart,
    }
}

/// What firmware tells of it.
pub(crate) fn firmware(asked: &ViommuRequest, kind: GuestFirmware) -> ViommuFirmware {
    let tree = kind == GuestFirmware::DeviceTree;
    let ranges = asked.at.map_or_else(Vec::new, |at| {
        let own = u64::from(at.rid());
        [(0, own), (own + 1, 0xffff - own)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(first, count)| RidRange { first, endpoint: first, count })
            .collect()
    });
    ViommuFirmware {
        at: asked.at,
        compatible: tree.then_some(["virtio,pci-iommu", "pci1af4,1057"]),
        reg: asked.at.filter(|_| tree).map(|at| u64::from(at.rid()) << 8),
        ranges,
    }
}
