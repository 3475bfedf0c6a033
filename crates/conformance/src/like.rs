//! Devices that behave as others were read to behave: the naive one of [`reference`](crate::reference), with their deviations.
//!
//! These are descriptions of behaviour, not anyone's code. They show that the suite has teeth: where it does not fail one of them, it
//! would not have found the mistake either. Beside what was seen in other projects there are rules that nobody breaks, each switched
//! off alone.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use crate::reference::{Bypass, Config, Endpoint, Reference};

/// Where a deviation was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Project {
    /// QEMU's virtio-iommu.
    Qemu,
    /// Cloud Hypervisor's.
    CloudHypervisor,
    /// crosvm's.
    Crosvm,
}

/// How it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// The source was read; nobody ran it for this.
    Read,
    /// Somebody else says so.
    SecondHand,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The file.
    pub file: &'static str,
    /// The commit.
    pub commit: &'static str,
    /// Its date.
    pub date: &'static str,
    /// How it is known. Of all that stands here the source was read.
    pub how: How,
    /// Which of what there is.
    pub of: &'static str,
}

impl Project {
    /// All.
    pub const ALL: [Self; 3] = [Self::Qemu, Self::CloudHypervisor, Self::Crosvm];

    /// What was read.
    #[must_use]
    pub const fn source(self) -> Source {
        let (file, commit, date, of) = match self {
            Self::Qemu => (
                "hw/virtio/virtio-iommu.c",
                "0522be9a0c0094088ccef7aab352c57f483ca250",
                "2022-23",
                "emulated endpoints on PCI; later versions differ",
            ),
            Self::CloudHypervisor => (
                "virtio-devices/src/iommu.rs",
                "ae44c2971c83dd2b1bd704fa81102ec0dec4e7d4",
                "2026-08-22",
                "endpoints that are virtio devices; of VFIO devices the containers are not described",
            ),
            Self::Crosvm => (
                "devices/src/virtio/iommu.rs, devices/src/virtio/iommu/memory_mapper.rs",
                "f1e797a68dada35cbafef8d0cfae36bacfaea85e",
                "2026-08-21",
                "x86_64, release profile, endpoints with a BasicMemoryMapper; those of VFIO cannot be detached at all",
            ),
        };
        Source { file, commit, date, how: How::Read, of }
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Qemu => "QEMU",
            Self::CloudHypervisor => "Cloud Hypervisor",
            Self::Crosvm => "crosvm",
        })
    }
}

/// A deviation, described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Its name.
    pub id: &'static str,
    /// What the device does.
    pub what: &'static str,
    /// Who was seen to do it; nobody, where it is a rule switched off.
    pub seen: &'static [Project],
    /// The clauses that fail by it alone. None: the specification does not forbid it.
    pub fails: &'static [&'static str],
}

const QEMU: Project = Project::Qemu;
const CLOUD_HYPERVISOR: Project = Project::CloudHypervisor;
const CROSVM: Project = Project::Crosvm;

macro_rules! deviations {
    ($($name:ident: $id:literal, [$($seen:ident),*], $what:literal, [$($clause:literal),*];)*) => {
        /// A rule of the [`Reference`] that is not kept.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Deviation {
            $(#[doc = $what] $name,)*
        }
        impl Deviation {
            /// All.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What it is.
            #[must_use]
            pub const fn description(self) -> Description {
                match self {
                    $(Self::$name => Description { id: $id, what: $what, seen: &[$($seen),*], fails: &[$($clause),*] },)*
                }
            }
        }
    };
}

deviations! {
UnknownTypeUnsupp: "unknown-type-unsupp", [QEMU],
    "A request of unknown type gets the status UNSUPP, where nothing should be written.",
    ["unknown-type-not-written", "unknown-type-used-0"];
AttachReservedIgnored: "attach-reserved-ignored", [QEMU],
    "`reserved` of ATTACH is not looked at.",
    ["attach-reserved-not-zero"];
AttachMismatchDetaches: "attach-mismatch-detaches", [QEMU],
    "An ATTACH whose BYPASS flag is not that of the domain is refused, and the endpoint has left the domain it was in, as if a DETACH had come before.",
    [];
ReattachForgets: "reattach-forgets", [QEMU, CROSVM],
    "An endpoint that is alone in its domain and is attached to it again loses all mappings: the domain goes and comes anew.",
    [];
AttachBypassUnnegotiated: "attach-bypass-unnegotiated", [QEMU, CLOUD_HYPERVISOR],
    "The BYPASS flag of ATTACH is known though BYPASS_CONFIG was not taken.",
    [];
DetachUnattachedNoent: "detach-unattached-noent", [QEMU],
    "DETACH of an endpoint that was never attached is NOENT.",
    [];
MapStartUnaligned: "map-start-unaligned", [QEMU],
    "virt_start of MAP may be anywhere.",
    ["map-unaligned"];
MapEndUnaligned: "map-end-unaligned", [QEMU],
    "virt_end + 1 of MAP may be anywhere.",
    ["map-unaligned"];
MapPhysUnaligned: "map-phys-unaligned", [QEMU],
    "phys_start of MAP may be anywhere.",
    ["map-unaligned"];
MapInvertedAccepted: "map-inverted-accepted", [QEMU],
    "MAP with virt_end below virt_start is taken.",
    [];
PhysOverflowAccepted: "phys-overflow-accepted", [QEMU],
    "MAP may reach beyond the end of the physical addresses.",
    [];
InputRangeIgnored: "input-range-ignored", [QEMU, CROSVM],
    "MAP is not held to input_range.",
    ["input-range-outside"];
DomainRangeIgnored: "domain-range-ignored", [QEMU],
    "ATTACH is not held to domain_range.",
    [];
ReservedNotChecked: "reserved-not-checked", [QEMU, CLOUD_HYPERVISOR, CROSVM],
    "MAP takes addresses of RESV_MEM regions.",
    ["resv-mem-map-rejected"];
MmioUnnegotiated: "mmio-unnegotiated", [QEMU, CLOUD_HYPERVISOR, CROSVM],
    "The MMIO flag of MAP is known though F_MMIO was not taken.",
    ["map-mmio-not-taken"];
FeaturesNotLookedAt: "features-not-looked-at", [QEMU, CLOUD_HYPERVISOR, CROSVM],
    "MAP, UNMAP and PROBE are done though the driver did not take their features.",
    ["map-without-feature", "unmap-without-feature"];
UnmapReservedIgnored: "unmap-reserved-ignored", [QEMU, CLOUD_HYPERVISOR, CROSVM],
    "`reserved` of UNMAP is not looked at.",
    [];
UnmapInvertedAccepted: "unmap-inverted-accepted", [QEMU],
    "UNMAP with virt_end below virt_start is OK.",
    [];
UnmapRemovesUntilSplit: "unmap-removes-until-split", [QEMU],
    "An UNMAP that would split a mapping is RANGE, but removes those wholly within that it meets before.",
    ["unmap-split-removes-nothing"];
ShortInval: "short-inval", [QEMU],
    "A request that is too short for its type gets the status INVAL, where nothing can be said.",
    [];
NoHeadNoTailKills: "no-head-no-tail-kills", [QEMU],
    "After a request with no room for its head or its tail the device wants a reset.",
    ["unparsable-not-written", "truncated-not-ok"];
ProbeShortKills: "probe-short-kills", [QEMU],
    "The process ends at a PROBE with room for a tail and for fewer than probe_size bytes.",
    ["probe-small-no-property", "probe-small-inval"];
ForbiddenConfigWriteKills: "forbidden-config-write-kills", [QEMU],
    "After a write to `bypass` that the driver may not do the device wants a reset.",
    [];
FaultAddressOnly: "fault-address-only", [QEMU],
    "Fault reports have neither READ nor WRITE set where nothing is mapped.",
    [];
FaultBufferSmallKills: "fault-buffer-small-kills", [QEMU],
    "After an event buffer that is too small the device wants a reset.",
    ["fault-small-buffer"];
TranslateLooksTwoBytes: "translate-looks-two-bytes", [QEMU],
    "An access that begins at the last byte of a page looks for a mapping of that byte or of the next.",
    ["map-translates"];
StatusLost: "status-lost", [CLOUD_HYPERVISOR],
    "The status of a rejected request is written, but the used length is 0, so that the driver sees none.",
    ["attach-reserved-not-zero", "attach-unknown-flag", "attach-endpoint-absent", "attach-bypass-mismatch", "detach-endpoint-absent", "map-unaligned", "map-overlap", "map-unknown-flag", "map-domain-absent", "map-bypass-domain", "unmap-domain-absent", "unmap-bypass-domain", "unmap-split-range", "probe-endpoint-absent", "probe-small-inval"];
WritePermissionIgnored: "write-permission-ignored", [CLOUD_HYPERVISOR],
    "What is mapped without WRITE can be written.",
    ["map-write-needs-flag"];
ReadPermissionIgnored: "read-permission-ignored", [CLOUD_HYPERVISOR, CROSVM],
    "What is mapped without READ can be read.",
    ["map-no-access"];
EndpointNotLookedUp: "endpoint-not-looked-up", [CLOUD_HYPERVISOR],
    "Endpoints that are not there can be attached, detached and probed.",
    ["attach-endpoint-absent", "detach-endpoint-absent", "probe-endpoint-absent"];
DetachWrongDomainForgets: "detach-wrong-domain-forgets", [CLOUD_HYPERVISOR],
    "DETACH from another domain than the endpoint's is OK: the endpoint is attached to none, and its own domain stays.",
    [];
NoEvents: "no-events", [CLOUD_HYPERVISOR, CROSVM],
    "No fault is reported.",
    [];
ResetKeepsAll: "reset-keeps-all", [CLOUD_HYPERVISOR],
    "After a reset of the device endpoints are attached, and mappings there, as before.",
    ["reset-detaches"];
BypassOnUntilWritten: "bypass-on-until-written", [CLOUD_HYPERVISOR],
    "`bypass` reads 0, but unattached endpoints are in bypass mode until it is written.",
    ["bypass-config-not-taken", "unattached-no-access"];
BypassWritableAlways: "bypass-writable-always", [CLOUD_HYPERVISOR],
    "`bypass` can be written though BYPASS_CONFIG was not taken.",
    [];
BypassTakesLowestBit: "bypass-takes-lowest-bit", [CLOUD_HYPERVISOR],
    "Of what is written to `bypass` the lowest bit counts.",
    [];
EndOfAddressesRefused: "end-of-addresses-refused", [CLOUD_HYPERVISOR],
    "No mapping can end at 2^64 - 1.",
    ["input-range-ends"];
LongRefused: "long-refused", [CLOUD_HYPERVISOR],
    "A request with more bytes than its type has is INVAL.",
    [];
ProbeShortNothing: "probe-short-nothing", [CLOUD_HYPERVISOR],
    "Nothing is written for a PROBE with room for fewer than probe_size bytes.",
    ["probe-small-inval"];
AttachFlagsIgnored: "attach-flags-ignored", [CROSVM],
    "`flags` of ATTACH is not looked at.",
    ["attach-unknown-flag"];
OnlyLastAttachedMaps: "only-last-attached-maps", [CROSVM],
    "What is mapped in a domain is seen by the endpoint alone that was attached to it last.",
    ["map-gives-access", "attach-shared-domain", "attach-moves", "attach-not-rejected"];
DetachDomainIgnored: "detach-domain-ignored", [CROSVM],
    "`domain` of DETACH is not looked at: the endpoint leaves the domain it is in.",
    [];
DetachSharedRefused: "detach-shared-refused", [CROSVM],
    "No endpoint of several leaves a domain: DETACH, and ATTACH to another, are UNSUPP.",
    ["detach-others-stay"];
EndOfAddressesKills: "end-of-addresses-kills", [CROSVM],
    "The process ends at MAP with virt_end 2^64 - 1, and at UNMAP of a range without a size.",
    ["input-range-outside", "input-range-ends"];
MapOneByteRefused: "map-one-byte-refused", [CROSVM],
    "MAP with virt_end equal to virt_start is INVAL.",
    ["map-one-byte", "map-one-granule"];
PhysOverflowNothing: "phys-overflow-nothing", [CROSVM],
    "Nothing is written for a MAP that reaches beyond the end of the physical addresses.",
    [];
ProbeTailAtEnd: "probe-tail-at-end", [CROSVM],
    "The tail of PROBE stands at the end of the device-writable bytes, wherever that is.",
    [];
ResetFails: "reset-fails", [CROSVM],
    "There is no reset of the device.",
    ["config-bypass-survives-device-reset", "reset-detaches"];
UnknownTypeKills: "unknown-type-kills", [],
    "The device does not survive a request of unknown type.",
    ["unknown-type-not-written", "unknown-type-used-0"];
TailReservedNotZero: "tail-reserved-not-zero", [],
    "`reserved` of the tail is not zero.",
    ["tail-reserved-zero"];
HeadReservedChecked: "head-reserved-checked", [],
    "A request whose head has `reserved` not zero is INVAL.",
    ["head-reserved-ignored"];
UsedTooLong: "used-too-long", [],
    "The used length is four bytes more than was written.",
    ["used-length-written"];
UsedTooShort: "used-too-short", [],
    "The used length is that of the status alone.",
    ["domain-range-ends", "domain-any", "success-is-ok", "attach-creates-domain", "attach-reserved-not-zero", "attach-unknown-flag", "attach-endpoint-absent", "detach-endpoint-absent", "map-domain-absent", "unmap-domain-absent", "probe-endpoint", "probe-endpoint-absent", "probe-small-inval"];
UsedZero: "used-zero", [],
    "The used length is always 0.",
    ["domain-range-ends", "domain-any", "success-is-ok", "attach-creates-domain", "attach-reserved-not-zero", "attach-unknown-flag", "attach-endpoint-absent", "detach-endpoint-absent", "map-domain-absent", "unmap-domain-absent", "probe-endpoint", "probe-endpoint-absent", "probe-small-inval"];
ProbeUsedTailOnly: "probe-used-tail-only", [],
    "The used length of PROBE is that of its tail.",
    ["success-is-ok", "probe-endpoint", "probe-endpoint-absent", "probe-small-inval"];
AlwaysOk: "always-ok", [],
    "Every status is OK.",
    ["input-range-outside", "attach-reserved-not-zero", "attach-unknown-flag", "attach-endpoint-absent", "attach-bypass-mismatch", "detach-endpoint-absent", "map-mmio-not-taken", "map-unaligned", "map-overlap", "map-unknown-flag", "map-domain-absent", "map-bypass-domain", "unmap-example-4", "unmap-domain-absent", "unmap-bypass-domain", "unmap-split-range", "probe-endpoint-absent", "probe-small-inval", "resv-mem-map-rejected"];
OkIsOne: "ok-is-one", [],
    "The status of what is done is 1.",
    ["domain-range-ends", "domain-any", "success-is-ok", "attach-creates-domain", "probe-endpoint"];
NoMapUnmap: "no-map-unmap", [],
    "MAP_UNMAP is not offered.",
    ["offers-map-unmap"];
BothBypass: "both-bypass", [],
    "BYPASS and BYPASS_CONFIG are offered together.",
    ["no-legacy-bypass", "not-both-bypass", "bypass-config-unattached", "bypass-legacy", "detach-back-to-bypass"];
NoPageSize: "no-page-size", [],
    "page_size_mask is 0.",
    ["config-page-size-mask", "input-range-ends"];
BypassShowsOther: "bypass-shows-other", [],
    "`bypass` reads as something else than 0 or 1.",
    ["config-bypass-0-or-1", "bypass-config-not-taken"];
BypassTakesAll: "bypass-takes-all", [],
    "Whatever is written to `bypass` is read from it.",
    ["config-bypass-0-or-1"];
BypassResets: "bypass-resets", [],
    "`bypass` is as at first after a reset of the device.",
    ["config-bypass-survives-device-reset"];
BypassSurvivesSystemReset: "bypass-survives-system-reset", [],
    "`bypass` stays after a reset of the system.",
    ["config-bypass-restored-by-system-reset"];
BypassNotHonoured: "bypass-not-honoured", [],
    "Unattached endpoints are blocked whatever `bypass` is.",
    ["bypass-config-unattached", "bypass-config-not-taken", "bypass-legacy", "detach-back-to-bypass"];
BypassDomainBlocks: "bypass-domain-blocks", [],
    "Endpoints of a bypass domain are blocked.",
    ["bypass-domain"];
UnattachedAccesses: "unattached-accesses", [],
    "Unattached endpoints reach everything.",
    ["bypass-config-unattached", "bypass-config-not-taken", "unattached-no-access", "attach-bypass-mismatch"];
AttachAnyEndpoint: "attach-any-endpoint", [],
    "Endpoints that are not there can be attached.",
    ["attach-endpoint-absent"];
AttachNoEndpointInval: "attach-no-endpoint-inval", [],
    "ATTACH of an endpoint that is not there is INVAL.",
    ["attach-endpoint-absent"];
AttachMismatchAccepted: "attach-mismatch-accepted", [],
    "The BYPASS flag counts only for the first endpoint of a domain.",
    ["attach-bypass-mismatch"];
AttachOtherRefused: "attach-other-refused", [],
    "An endpoint that is attached elsewhere is refused with INVAL.",
    ["attach-moves", "attach-move-unsupp"];
AttachLeavesNothing: "attach-leaves-nothing", [],
    "An endpoint that is attached to another domain stays in the first.",
    ["map-gives-access", "attach-moves", "attach-moves-as-detach"];
AttachDoesNothing: "attach-does-nothing", [],
    "ATTACH is OK and attaches nothing.",
    ["map-gives-access", "map-one-byte", "map-one-granule", "domain-range-ends", "domain-any", "input-range-ends", "bypass-domain", "bypass-legacy", "success-is-ok", "attach-shared-domain", "attach-isolated", "attach-moves", "attach-moves-as-detach", "attach-not-rejected", "detach-back-to-bypass", "detach-others-stay", "detach-reserved-ignored", "map-translates", "map-read-only", "map-overlap", "unmap-example-4", "unmap-example-5", "unmap-split-removes-nothing", "resv-mem-map-rejected", "fault-reason-mapping"];
SharingRefusedInval: "sharing-refused-inval", [],
    "A second endpoint of a domain is refused with INVAL.",
    ["attach-second-endpoint-unsupp", "attach-moves", "attach-move-unsupp", "attach-compatible", "attach-incompatible-unsupp"];
DomainOutlives: "domain-outlives", [],
    "A domain without endpoints stays.",
    ["attach-moves-as-detach", "detach-last-ends-domain"];
DetachedStillAccesses: "detached-still-accesses", [],
    "A detached endpoint still reaches what its domain mapped.",
    ["map-gives-access", "attach-moves", "attach-moves-as-detach", "detach-back-to-bypass", "detach-last-ends-domain", "detach-others-stay", "detach-no-access"];
DetachReservedChecked: "detach-reserved-checked", [],
    "DETACH with `reserved` not zero is INVAL.",
    ["detach-reserved-ignored"];
DetachNoEndpointInval: "detach-no-endpoint-inval", [],
    "DETACH of an endpoint that is not there is INVAL.",
    ["detach-endpoint-absent"];
DetachDoesNothing: "detach-does-nothing", [],
    "DETACH is OK and detaches nothing.",
    ["detach-back-to-bypass", "detach-last-ends-domain", "detach-others-stay", "detach-no-access"];
MapFlagsIgnored: "map-flags-ignored", [],
    "`flags` of MAP may have any bit.",
    ["map-mmio-not-taken", "map-unknown-flag"];
MapCreatesDomain: "map-creates-domain", [],
    "MAP creates the domain.",
    ["map-domain-absent"];
MapNoDomainInval: "map-no-domain-inval", [],
    "MAP in a domain that is not there is INVAL.",
    ["map-domain-absent"];
BypassDomainMaps: "bypass-domain-maps", [],
    "MAP in a bypass domain is OK.",
    ["map-bypass-domain"];
BypassDomainUnmaps: "bypass-domain-unmaps", [],
    "UNMAP in a bypass domain is OK.",
    ["unmap-bypass-domain"];
MapOverlapAccepted: "map-overlap-accepted", [],
    "MAP where something is mapped already is OK.",
    ["map-overlap"];
MapOverlapOnlyFirst: "map-overlap-only-first", [],
    "Only a mapping that begins at the same address is seen as an overlap.",
    ["map-overlap"];
MsiNotChecked: "msi-not-checked", [],
    "MAP takes addresses of MSI regions.",
    ["resv-mem-map-rejected"];
DomainsNotIsolated: "domains-not-isolated", [],
    "Endpoints see the mappings of all domains.",
    ["attach-isolated"];
TranslateForgetsOffset: "translate-forgets-offset", [],
    "Of an address only the offset in its page counts.",
    ["map-one-byte", "map-translates", "map-overlap", "unmap-example-4", "unmap-example-5", "unmap-split-removes-nothing"];
UnmapSplits: "unmap-splits", [],
    "UNMAP takes the range out of a mapping and leaves the rest.",
    ["unmap-example-4", "unmap-split-range", "unmap-split-removes-nothing"];
UnmapRemovesAllTouched: "unmap-removes-all-touched", [],
    "UNMAP removes the mappings that it would split.",
    ["unmap-example-4", "unmap-split-range", "unmap-split-removes-nothing"];
UnmapSplitOk: "unmap-split-ok", [],
    "UNMAP that would split a mapping is OK and removes nothing.",
    ["unmap-example-4", "unmap-split-range"];
UnmapHoleRefused: "unmap-hole-refused", [],
    "UNMAP of a range with a hole is RANGE.",
    ["unmap-example-1", "unmap-example-6", "unmap-example-7", "unmap-holes"];
UnmapDoesNothing: "unmap-does-nothing", [],
    "UNMAP is OK and removes nothing.",
    ["unmap-takes-access", "input-range-ends", "unmap-example-2", "unmap-example-3", "unmap-example-5", "unmap-example-6", "unmap-example-7", "unmap-holes"];
UnmapRemovesOne: "unmap-removes-one", [],
    "UNMAP removes one mapping at a time.",
    ["unmap-example-3", "unmap-example-7", "unmap-holes"];
UnmapSparesLast: "unmap-spares-last", [],
    "UNMAP of several mappings spares the last.",
    ["unmap-example-3", "unmap-example-7", "unmap-holes"];
UnmapNoDomainOk: "unmap-no-domain-ok", [],
    "UNMAP in a domain that is not there is OK.",
    ["unmap-domain-absent"];
ProbeAnyEndpoint: "probe-any-endpoint", [],
    "Endpoints that are not there can be probed.",
    ["probe-endpoint-absent"];
ProbeReservedChecked: "probe-reserved-checked", [],
    "PROBE with `reserved` not zero is INVAL.",
    ["probe-reserved-ignored"];
ProbeServedUnoffered: "probe-served-unoffered", [],
    "PROBE is answered INVAL where it is not offered.",
    ["probe-not-offered-not-written", "probe-not-offered-used-0"];
ProbeShortFills: "probe-short-fills", [],
    "A PROBE with room for fewer than probe_size bytes gets what fits.",
    ["probe-small-no-property", "probe-small-inval"];
ProbeRestNotZeroed: "probe-rest-not-zeroed", [],
    "What the properties leave of probe_size bytes is not zero.",
    ["property-next", "probe-rest-zero"];
ProbeTwoMsi: "probe-two-msi", [],
    "An endpoint has two MSI regions more.",
    ["resv-mem-one-msi", "resv-mem-map-rejected"];
ProbeOverlapping: "probe-overlapping", [],
    "An endpoint has two RESV_MEM that overlap.",
    ["resv-mem-apart", "resv-mem-map-rejected"];
ResvMemReservedNotZero: "resv-mem-reserved-not-zero", [],
    "`reserved` of a RESV_MEM is not zero.",
    ["resv-mem-reserved-zero"];
PropertyReservedNotZero: "property-reserved-not-zero", [],
    "The reserved bits of a property are not zero.",
    ["property-reserved-zero"];
PropertyLengthWithHead: "property-length-with-head", [],
    "`length` of a property counts its header too.",
    ["property-length", "property-next", "probe-rest-zero"];
PropertiesPadded: "properties-padded", [],
    "Between two properties there are eight bytes.",
    ["probe-list-ends", "property-reserved-zero"];
FaultFlagsUndefined: "fault-flags-undefined", [],
    "A fault report has an undefined flag set.",
    ["fault-flags-zero"];
FaultEndpointWrong: "fault-endpoint-wrong", [],
    "A fault report names an endpoint that is not there.",
    ["fault-endpoint"];
FaultReasonSwapped: "fault-reason-swapped", [],
    "Fault reports have the reason DOMAIN for MAPPING, and the reverse.",
    ["fault-reason-domain", "fault-reason-mapping"];
FaultDirectionSwapped: "fault-direction-swapped", [],
    "Fault reports have READ for WRITE, and the reverse.",
    ["fault-direction"];
FaultReservedNotZero: "fault-reserved-not-zero", [],
    "`reserved` of a fault report is not zero.",
    ["fault-reserved-zero"];
FaultReserved1NotZero: "fault-reserved-1-not-zero", [],
    "`reserved1` of a fault report is not zero.",
    ["fault-reserved-zero"];
FaultAddressWrong: "fault-address-wrong", [],
    "The address of a fault report is another.",
    ["fault-address"];
FaultInSeveralBuffers: "fault-in-several-buffers", [],
    "A fault report is spread over event buffers that are too small.",
    ["fault-small-buffer"];
MmioRefused: "mmio-refused", [],
    "The MMIO flag of MAP is not known though F_MMIO was taken.",
    ["map-mmio"];
ResvMemReversed: "resv-mem-reversed", [],
    "A RESV_MEM ends before it starts.",
    ["resv-mem-sane"];}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.description().id)
    }
}

/// Who is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Like {
    /// Who.
    pub project: Project,
    /// What it offers.
    pub config: Config,
    /// What it does.
    pub deviations: BTreeSet<Deviation>,
    /// The clauses that fail.
    pub fails: BTreeSet<&'static str>,
}

impl Like {
    /// The description of a project.
    #[must_use]
    pub fn of(project: Project) -> Self {
        let seen = |it: &&Deviation| it.description().seen.contains(&project);
        let deviations: BTreeSet<Deviation> = Deviation::ALL.iter().filter(seen).copied().collect();
        let fails = fails(project).iter().copied().collect();
        Self { project, config: config(project), deviations, fails }
    }
    /// A device that behaves so.
    #[must_use]
    pub fn device(&self) -> Reference {
        let Source { commit, .. } = self.project.source();
        let name = format!("as {} {} was read to behave", self.project, &commit[..9]);
        Reference::deviating(name, self.config.clone(), self.deviations.clone())
    }
}

/// A reference that deviates in one thing.
#[must_use]
pub fn mutant(deviation: Deviation, config: Config) -> Reference {
    Reference::deviating(format!("the reference, but for {deviation}"), config, BTreeSet::from([deviation]))
}

fn config(project: Project) -> Config {
    let all = Config::default();
    let ids = [0x8, 0x9, 0x10];
    // one MSI region, of all endpoints the same
    let msi = |first, last| ids.iter().map(|id| Endpoint::new(*id).reserving(first, last, true)).collect();
    match project {
        Project::Qemu => Config {
            input_range: Some((0, u64::MAX)),
            domain_range: Some((0, u32::MAX)),
            probe_size: 512,
            bypass: Bypass::Config(true),
            endpoints: msi(0xfee0_0000, 0xfeef_ffff),
            ..all
        },
        Project::CloudHypervisor => Config {
            page_size_mask: 0x20_1000,
            input_range: Some((0, (1 << 46) - 1)),
            domain_range: None,
            probe_size: 24,
            mmio: false,
            bypass: Bypass::Config(false),
            endpoints: msi(0xfee0_0000, 0xfeef_ffff),
            ..all
        },
        Project::Crosvm => Config {
            input_range: Some((0, (1 << 46) - 1)),
            domain_range: None,
            probe_size: 24,
            bypass: Bypass::Never,
            endpoints: msi(0xfee0_0000, 0xfeef_ffff),
            ..all
        },
    }
}

/// Not the sum of what fails by each deviation alone: one hides another, and what is not offered is not tested.
const fn fails(project: Project) -> &'static [&'static str] {
    match project {
        Project::Qemu => &[
            "unparsable-not-written",
            "truncated-not-ok",
            "unknown-type-not-written",
            "unknown-type-used-0",
            "attach-reserved-not-zero",
            "map-translates",
            "map-mmio-not-taken",
            "map-without-feature",
            "map-unaligned",
            "unmap-without-feature",
            "unmap-split-removes-nothing",
            "probe-small-no-property",
            "probe-small-inval",
            "resv-mem-map-rejected",
            "fault-small-buffer",
        ],
        Project::CloudHypervisor => &[
            "reset-detaches",
            "bypass-config-not-taken",
            "attach-reserved-not-zero",
            "attach-unknown-flag",
            "attach-endpoint-absent",
            "attach-bypass-mismatch",
            "detach-endpoint-absent",
            "map-no-access",
            "map-mmio-not-taken",
            "map-without-feature",
            "map-unaligned",
            "map-overlap",
            "map-unknown-flag",
            "map-domain-absent",
            "map-bypass-domain",
            "map-write-needs-flag",
            "unmap-without-feature",
            "unmap-domain-absent",
            "unmap-bypass-domain",
            "unmap-split-range",
            "probe-endpoint-absent",
            "probe-small-inval",
            "resv-mem-map-rejected",
        ],
        Project::Crosvm => &[
            "map-gives-access",
            "reset-detaches",
            "input-range-outside",
            "attach-shared-domain",
            "attach-unknown-flag",
            "attach-moves",
            "attach-not-rejected",
            "detach-others-stay",
            "map-no-access",
            "map-mmio-not-taken",
            "map-without-feature",
            "unmap-without-feature",
            "resv-mem-map-rejected",
        ],
    }
}
