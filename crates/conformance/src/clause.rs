//! The normative clauses of 5.13, as data: where it stands, whom it binds, MUST, SHOULD or MAY, what it says in our words.
//!
//! One clause for each key word of a requirements section, so that "SHOULD NOT write the buffer and SHOULD set the used length" is
//! two. Beside them the definite statements outside of those sections ([`Level::Text`]), and the one requirement on used lengths
//! (2.7.8.2) that every reply rests on. Sections are numbered as in virtio 1.4 (oasis-tcs/virtio-spec 15f488c).

use std::fmt;

use serde::Serialize;

/// Who is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binds {
    /// The device.
    Device,
    /// The driver: no device can break it.
    Driver,
}

/// How strong (RFC 2119).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Level {
    /// MUST.
    #[serde(rename = "MUST")]
    Must,
    /// MUST NOT.
    #[serde(rename = "MUST NOT")]
    MustNot,
    /// SHOULD.
    #[serde(rename = "SHOULD")]
    Should,
    /// SHOULD NOT.
    #[serde(rename = "SHOULD NOT")]
    ShouldNot,
    /// MAY.
    #[serde(rename = "MAY")]
    May,
    /// Said outside of a requirements section, and definite all the same.
    #[serde(rename = "text")]
    Text,
}

impl Level {
    /// All.
    pub const ALL: [Self; 6] = [Self::Must, Self::MustNot, Self::Should, Self::ShouldNot, Self::May, Self::Text];

    /// MUST or MUST NOT.
    #[must_use]
    pub const fn is_must(self) -> bool {
        matches!(self, Self::Must | Self::MustNot)
    }
    /// SHOULD or SHOULD NOT.
    #[must_use]
    pub const fn is_should(self) -> bool {
        matches!(self, Self::Should | Self::ShouldNot)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "MUST",
            Self::MustNot => "MUST NOT",
            Self::Should => "SHOULD",
            Self::ShouldNot => "SHOULD NOT",
            Self::May => "MAY",
            Self::Text => "text",
        })
    }
}

/// A clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Clause {
    /// Its name; that of its test too.
    pub id: &'static str,
    /// The section it stands in.
    pub section: &'static str,
    /// Where in it.
    pub place: &'static str,
    /// Who is bound.
    pub binds: Binds,
    /// How strong.
    pub level: Level,
    /// What it says, not in its own words.
    pub says: &'static str,
    /// Where the clause holds under a condition, or leaves a choice, what the test makes of that.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub shown: &'static str,
}

/// The clause of that name.
#[must_use]
pub fn by_id(id: &str) -> Option<&'static Clause> {
    CLAUSES.iter().find(|c| c.id == id)
}

const fn device(
    level: Level,
    section: &'static str,
    place: &'static str,
    id: &'static str,
    says: &'static str,
) -> Clause {
    Clause { id, section, place, binds: Binds::Device, level, says, shown: "" }
}

const fn driver(
    level: Level,
    section: &'static str,
    place: &'static str,
    id: &'static str,
    says: &'static str,
) -> Clause {
    Clause { id, section, place, binds: Binds::Driver, level, says, shown: "" }
}

impl Clause {
    const fn shown(self, shown: &'static str) -> Self {
        Self { shown, ..self }
    }
}

use Level::{May, Must, MustNot, Should, ShouldNot, Text};

const P1: &str = "paragraph 1";
const P2: &str = "paragraph 2";
const P3: &str = "paragraph 3";
const P4: &str = "paragraph 4";
const P5: &str = "paragraph 5";
const P6: &str = "paragraph 6";
const P7: &str = "paragraph 7";
const P8: &str = "paragraph 8";

/// A MAY: it is said what the device does.
const REPORTED: &str = "Either is right. It is reported which of the two the device does.";

/// All, in the order of the specification.
pub const CLAUSES: &[Clause] = &[
    // 2.7.8.2 Device Requirements: The Virtqueue Used Ring
    device(
        Must,
        "2.7.8.2",
        P2,
        "used-length-written",
        "Every byte that the used length counts, from the first device-writable one on, has been written.",
    )
    .shown("Of requests of every type, accepted and rejected, no byte within the used length is as it was before."),
    // 5.13
    device(
        Text,
        "5.13",
        "step 2 of the introduction",
        "map-gives-access",
        "An endpoint of the domain reaches the memory that a MAP names, at the addresses it names.",
    ),
    device(
        Text,
        "5.13",
        "step 3 of the introduction",
        "unmap-takes-access",
        "After an UNMAP nothing gets through any more at the addresses it removed.",
    ),
    // 5.13.3.1
    driver(
        Should,
        "5.13.3.1",
        P1,
        "driver-accepts-features",
        "INPUT_RANGE, DOMAIN_RANGE and PROBE are taken where offered.",
    ),
    // 5.13.3.2
    device(Should, "5.13.3.2", P1, "offers-map-unmap", "MAP_UNMAP is offered."),
    device(
        ShouldNot,
        "5.13.3.2",
        P2,
        "no-legacy-bypass",
        "A new device does not offer BYPASS, which BYPASS_CONFIG supersedes.",
    ),
    device(ShouldNot, "5.13.3.2", P2, "not-both-bypass", "BYPASS and BYPASS_CONFIG are not offered together."),
    // 5.13.4.1
    driver(May, "5.13.4.1", P1, "driver-may-write-bypass", "With BYPASS_CONFIG, bypass can be written."),
    driver(MustNot, "5.13.4.1", P1, "driver-writes-only-bypass", "No other field of the configuration is written."),
    driver(MustNot, "5.13.4.1", P2, "driver-writes-0-or-1", "Nothing but 0 or 1 is written to bypass."),
    driver(Should, "5.13.4.1", P2, "driver-ignores-bypass-bits", "Bits 1 to 7 of bypass are not looked at."),
    // 5.13.4.2
    device(Must, "5.13.4.2", P1, "config-page-size-mask", "page_size_mask has a bit at least: the granule."),
    device(May, "5.13.4.2", P1, "config-several-page-sizes", "page_size_mask has more bits than one.").shown(REPORTED),
    device(May, "5.13.4.2", P2, "config-bypass-initially-1", "With BYPASS_CONFIG, bypass is 1 at first.")
        .shown(REPORTED),
    device(
        ShouldNot,
        "5.13.4.2",
        P2,
        "config-bypass-survives-device-reset",
        "bypass is after a reset of the device what it was before.",
    ),
    device(
        Should,
        "5.13.4.2",
        P2,
        "config-bypass-restored-by-system-reset",
        "bypass is after a reset of the system what it was at first.",
    ),
    device(MustNot, "5.13.4.2", P3, "config-bypass-0-or-1", "bypass never reads as anything but 0 or 1.")
        .shown("At first, and after 0, 1, 2 and 0xff were written to it."),
    // 5.13.5
    device(
        Text,
        "5.13.5",
        P1,
        "reset-detaches",
        "After a reset of the device no endpoint is attached, and no domain is left.",
    ),
    // 5.13.5.1
    driver(
        MustNot,
        "5.13.5.1",
        P1,
        "driver-map-unmap-if-capable",
        "MAP_UNMAP is not taken by who cannot send MAP and UNMAP.",
    ),
    driver(
        Should,
        "5.13.5.1",
        P2,
        "driver-probes-first",
        "With PROBE, every endpoint is probed before it is attached.",
    ),
    // 5.13.6
    device(
        Text,
        "5.13.6",
        "after the status codes",
        "unparsable-not-written",
        "A request that has no room for its tail comes back unwritten.",
    )
    .shown("Each of the five, with every number of device-writable bytes below its tail's."),
    device(
        Text,
        "5.13.6",
        "after the status codes",
        "truncated-not-ok",
        "A request too short for its type is not done.",
    )
    .shown("Each of the five, cut off at every length: unwritten, or another status than OK where the tail is found."),
    device(
        Text,
        "5.13.6",
        "on page_size_mask",
        "map-one-byte",
        "With bit 0 of page_size_mask, a single byte can be mapped.",
    )
    .shown("Its virt_end is its virt_start, which 5.13.6.5.1 keeps the driver from: the specification says both."),
    device(
        Text,
        "5.13.6",
        "on page_size_mask",
        "map-one-granule",
        "The lowest bit is the granule: one granule can be mapped, whatever the other bits are.",
    ),
    device(
        Text,
        "5.13.6",
        "on domain_range",
        "domain-range-ends",
        "With DOMAIN_RANGE, the first and the last number of the range are domains.",
    ),
    device(
        Text,
        "5.13.6",
        "on domain_range",
        "domain-any",
        "Without DOMAIN_RANGE, any number is a domain: 0 and 2^32 - 1.",
    ),
    device(
        Text,
        "5.13.6",
        "on input_range",
        "input-range-outside",
        "With INPUT_RANGE, a MAP that reaches outside of the range fails.",
    ),
    device(
        Text,
        "5.13.6",
        "on input_range",
        "input-range-ends",
        "The first and the last granule of input_range can be mapped; without INPUT_RANGE these are at 0 and below 2^64.",
    ),
    device(
        Text,
        "5.13.6",
        "on bypass mode",
        "bypass-config-unattached",
        "With bypass 1, an endpoint attached to no domain reaches everything by the identity; with 0 it does not.",
    ),
    device(
        Text,
        "5.13.6",
        "on bypass mode",
        "bypass-config-not-taken",
        "Where the driver did not take BYPASS_CONFIG, unattached endpoints go by what bypass was at first.",
    ),
    device(
        Text,
        "5.13.6",
        "on bypass mode",
        "bypass-domain",
        "An endpoint attached with the BYPASS flag reaches everything by the identity, whatever bypass is.",
    ),
    device(
        Text,
        "5.13.6",
        "on bypass mode",
        "bypass-legacy",
        "With BYPASS taken, an endpoint attached to no domain reaches everything by the identity.",
    ),
    // 5.13.6.1
    driver(Should, "5.13.6.1", P1, "driver-head-reserved-zero", "reserved of a request's head is zero."),
    driver(Must, "5.13.6.1", P1, "driver-tail-reserved-ignored", "reserved of a reply's tail is not looked at."),
    driver(Should, "5.13.6.1", P2, "driver-used-0-failed", "A used length of 0 is taken for a failure."),
    driver(MustNot, "5.13.6.1", P3, "driver-within-input-range", "With INPUT_RANGE, no request reaches outside of it."),
    driver(
        MustNot,
        "5.13.6.1",
        P4,
        "driver-within-domain-range",
        "With DOMAIN_RANGE, no request names a domain outside of it.",
    ),
    // 5.13.6.2
    device(Should, "5.13.6.2", P1, "success-is-ok", "The status of a request that is done is OK."),
    device(
        ShouldNot,
        "5.13.6.2",
        P2,
        "unknown-type-not-written",
        "Nothing is written for a request of a type that is not known.",
    ),
    device(Should, "5.13.6.2", P2, "unknown-type-used-0", "The used length of a request of a type that is not known is 0."),
    device(Must, "5.13.6.2", P3, "head-reserved-ignored", "reserved of a request's head makes no difference."),
    device(Should, "5.13.6.2", P3, "tail-reserved-zero", "reserved of a reply's tail is zero.")
        .shown("Of requests of every type, accepted and rejected."),
    device(
        ShouldNot,
        "5.13.6.2",
        P4,
        "unattached-no-access",
        "An endpoint that is neither attached nor in bypass mode reaches no guest memory.",
    ),
    // 5.13.6.3
    device(Text, "5.13.6.3", P1, "attach-creates-domain", "ATTACH to a domain that is not there brings it into being."),
    device(Text, "5.13.6.3", "after the list", "attach-shared-domain", "All endpoints of a domain see its mappings.")
        .shown("Where the device attaches two endpoints to one domain, of both of which DMA can be seen."),
    device(
        Text,
        "5.13.6.3",
        "after the list",
        "attach-isolated",
        "Endpoints of different domains see their own mappings alone.",
    ),
    // 5.13.6.3.1
    driver(Should, "5.13.6.3.1", P1, "driver-attach-reserved-zero", "reserved of ATTACH is zero."),
    driver(Should, "5.13.6.3.1", P2, "driver-attach-unisolated", "Endpoints that cannot be isolated share a domain."),
    driver(
        Should,
        "5.13.6.3.1",
        P3,
        "driver-attach-bypass-flag",
        "The BYPASS flag is set for a domain that is a bypass domain.",
    ),
    driver(ShouldNot, "5.13.6.3.1", P3, "driver-attach-no-bypass-flag", "The BYPASS flag is not set for a domain that is there and is no bypass domain."),
    // 5.13.6.3.2
    device(
        Must,
        "5.13.6.3.2",
        P1,
        "attach-reserved-not-zero",
        "ATTACH with a reserved byte that is not zero: INVAL, and not done.",
    )
    .shown("Each of the four bytes."),
    device(Must, "5.13.6.3.2", P2, "attach-unknown-flag", "ATTACH with a flag that is not known: INVAL, and not done.")
        .shown("Each of the 31 bits that the specification does not name."),
    device(Must, "5.13.6.3.2", P3, "attach-endpoint-absent", "ATTACH of an endpoint that is not there: NOENT."),
    device(
        May,
        "5.13.6.3.2",
        P4,
        "attach-second-endpoint",
        "A second endpoint can be attached to a domain that has one.",
    )
    .shown(REPORTED),
    device(
        Must,
        "5.13.6.3.2",
        P4,
        "attach-second-endpoint-unsupp",
        "A second endpoint that cannot be attached to a domain that has one: UNSUPP.",
    )
    .shown("Shown where the device refuses one."),
    device(
        Should,
        "5.13.6.3.2",
        P5,
        "attach-bypass-mismatch",
        "ATTACH to a domain with the BYPASS flag where that was made without, or the reverse: INVAL, and not done.",
    ),
    device(
        Should,
        "5.13.6.3.2",
        P6,
        "attach-moves",
        "An endpoint that is attached elsewhere leaves that domain, and joins the other.",
    ),
    device(
        Should,
        "5.13.6.3.2",
        P6,
        "attach-moves-as-detach",
        "An endpoint moves as if DETACH had come before: the domain left is gone if that was its last endpoint.",
    ),
    device(Must, "5.13.6.3.2", P6, "attach-move-unsupp", "An endpoint that cannot be moved: UNSUPP.")
        .shown("Shown where the device refuses to move one; it stays where it was."),
    device(
        Should,
        "5.13.6.3.2",
        P7,
        "attach-compatible",
        "An endpoint whose properties go with those of the domain's other endpoints is attached.",
    )
    .shown("Shown with endpoints whose properties are the same, or none."),
    device(Should, "5.13.6.3.2", P7, "attach-incompatible-unsupp", "An endpoint whose properties do not go with theirs: UNSUPP.")
        .shown("Which properties do not go together is not said. Shown where they differ and the device refuses."),
    device(Must, "5.13.6.3.2", P8, "attach-not-rejected", "An ATTACH that is not rejected has attached the endpoint.")
        .shown("After ATTACH was OK, a mapping of the domain is reached; or without DMA, MAP finds the domain."),
    // 5.13.6.4
    device(
        Text,
        "5.13.6.4",
        P1,
        "detach-back-to-bypass",
        "A detached endpoint is in bypass mode again if unattached ones are.",
    ),
    device(
        Text,
        "5.13.6.4",
        P2,
        "detach-last-ends-domain",
        "A domain without endpoints is no more, with all that it mapped.",
    )
    .shown("MAP does not find it, and one of the same number is empty."),
    device(Text, "5.13.6.4", P2, "detach-others-stay", "Endpoints leave a domain one by one; while one is left, the domain stays as it is."),
    // 5.13.6.4.1
    driver(Should, "5.13.6.4.1", P1, "driver-detach-reserved-zero", "reserved of DETACH is zero."),
    // 5.13.6.4.2
    device(Must, "5.13.6.4.2", P1, "detach-reserved-ignored", "reserved of DETACH makes no difference."),
    device(Must, "5.13.6.4.2", P2, "detach-endpoint-absent", "DETACH of an endpoint that is not there: NOENT."),
    device(
        May,
        "5.13.6.4.2",
        P3,
        "detach-wrong-domain",
        "DETACH from a domain that is not there, or that the endpoint is not attached to: INVAL.",
    )
    .shown(REPORTED),
    device(Must, "5.13.6.4.2", P4, "detach-no-access", "A detached endpoint reaches nothing by the domain's mappings."),
    // 5.13.6.5
    device(Text, "5.13.6.5", P1, "map-translates", "An address is translated by its distance from virt_start.")
        .shown("At the first, a middle and the last address of a mapping of four granules."),
    device(Text, "5.13.6.5", P1, "map-read-only", "A mapping with READ can be read."),
    device(Text, "5.13.6.5", P1, "map-no-access", "A mapping with neither READ nor WRITE cannot be read."),
    device(Text, "5.13.6.5", P4, "map-mmio", "With MMIO taken, the MMIO flag is known."),
    device(Text, "5.13.6.5", P4, "map-mmio-not-taken", "Without MMIO taken, a MAP with the MMIO flag does not succeed."),
    device(Text, "5.13.6.5", P5, "map-without-feature", "Without MAP_UNMAP taken, MAP does not succeed."),
    // 5.13.6.5.1
    driver(Should, "5.13.6.5.1", P1, "driver-map-flags-zero", "Flags of MAP that are not defined are zero."),
    driver(ShouldNot, "5.13.6.5.1", P2, "driver-map-bypass", "No MAP is sent on a bypass domain."),
    driver(Must, "5.13.6.5.1", P3, "driver-map-end-above-start", "virt_end of MAP is above virt_start.")
        .shown("It makes a mapping of one byte impossible, which 5.13.6 allows with bit 0 of page_size_mask."),
    driver(Should, "5.13.6.5.1", P4, "driver-map-mmio", "MAP of registers has the MMIO flag set."),
    driver(Should, "5.13.6.5.1", P4, "driver-map-one-type", "What is mapped is memory or registers, not both."),
    driver(Must, "5.13.6.5.1", P5, "driver-map-read", "MAP has READ set where reads are to be allowed."),
    driver(MustNot, "5.13.6.5.1", P6, "driver-map-mmio-not-taken", "Without MMIO taken, the MMIO flag is not used."),
    // 5.13.6.5.2
    device(
        Should,
        "5.13.6.5.2",
        P1,
        "map-unaligned",
        "MAP with virt_start, phys_start or virt_end + 1 not on the granule: RANGE, and not done.",
    )
    .shown("Each of the three alone, where the granule is more than a byte."),
    device(Should, "5.13.6.5.2", P2, "map-overlap", "MAP where something is mapped already: INVAL, and not done.")
        .shown("The same range, one within, one around, one over each end."),
    device(Must, "5.13.6.5.2", P3, "map-unknown-flag", "MAP with a flag that is not known: INVAL, and not done.")
        .shown("Each of the 29 bits that the specification does not name."),
    device(Should, "5.13.6.5.2", P4, "map-domain-absent", "MAP in a domain that is not there: NOENT."),
    device(Should, "5.13.6.5.2", P5, "map-bypass-domain", "MAP in a bypass domain: INVAL."),
    device(MustNot, "5.13.6.5.2", P6, "map-write-needs-flag", "Nothing is written through a mapping without WRITE."),
    device(May, "5.13.6.5.2", P6, "map-write-only-read", "A mapping with WRITE alone can be read too.").shown(REPORTED),
    // 5.13.6.6
    device(Text, "5.13.6.6", "example 1", "unmap-example-1", "UNMAP where nothing is mapped: OK."),
    device(Text, "5.13.6.6", "example 2", "unmap-example-2", "UNMAP of the range of a mapping removes it."),
    device(Text, "5.13.6.6", "example 3", "unmap-example-3", "UNMAP over two neighbours removes both."),
    device(Text, "5.13.6.6", "example 4", "unmap-example-4", "UNMAP of half a mapping fails and removes nothing."),
    device(Text, "5.13.6.6", "example 5", "unmap-example-5", "UNMAP of one of two neighbours removes that one alone."),
    device(Text, "5.13.6.6", "example 6", "unmap-example-6", "UNMAP of more than is mapped removes what is."),
    device(
        Text,
        "5.13.6.6",
        "example 7",
        "unmap-example-7",
        "UNMAP over two mappings with a hole between removes both.",
    ),
    device(
        Text,
        "5.13.6.6",
        "after the examples",
        "unmap-without-feature",
        "Without MAP_UNMAP taken, UNMAP does not succeed.",
    ),
    // 5.13.6.6.1
    driver(Should, "5.13.6.6.1", P1, "driver-unmap-reserved-zero", "reserved of UNMAP is zero."),
    driver(Should, "5.13.6.6.1", P2, "driver-unmap-contiguous", "The range of UNMAP covers mappings that follow each other."),
    driver(May, "5.13.6.6.1", P2, "driver-unmap-spills", "The range of UNMAP reaches over addresses where nothing is mapped."),
    driver(Must, "5.13.6.6.1", P3, "driver-unmap-first", "UNMAP begins where a mapping does, or where none is."),
    driver(Must, "5.13.6.6.1", P3, "driver-unmap-last", "UNMAP ends where a mapping does, or where none is."),
    driver(ShouldNot, "5.13.6.6.1", P4, "driver-unmap-bypass", "No UNMAP is sent on a bypass domain."),
    // 5.13.6.6.2
    device(May, "5.13.6.6.2", P1, "unmap-reserved-inval", "UNMAP with a reserved byte that is not zero: INVAL.")
        .shown(REPORTED),
    device(May, "5.13.6.6.2", P1, "unmap-reserved-done", "UNMAP with a reserved byte that is not zero is done all the same.").shown(REPORTED),
    device(Should, "5.13.6.6.2", P2, "unmap-domain-absent", "UNMAP in a domain that is not there: NOENT."),
    device(Should, "5.13.6.6.2", P3, "unmap-bypass-domain", "UNMAP in a bypass domain: INVAL."),
    device(Should, "5.13.6.6.2", P4, "unmap-split-range", "UNMAP that would split a mapping: RANGE.")
        .shown("At the beginning, in the middle, at the end of a mapping, and over a whole one into the next."),
    device(
        ShouldNot,
        "5.13.6.6.2",
        P4,
        "unmap-split-removes-nothing",
        "UNMAP that would split a mapping removes none, not even those wholly within.",
    )
    .shown("Over a whole mapping into the next: both are left."),
    device(
        Should,
        "5.13.6.6.2",
        P5,
        "unmap-holes",
        "UNMAP over addresses where nothing is mapped: OK, and what is there goes.",
    ),
    // 5.13.6.7
    device(
        Text,
        "5.13.6.7",
        "after the structures",
        "probe-endpoint",
        "PROBE of an endpoint that is there: OK, with its properties.",
    ),
    device(
        Text,
        "5.13.6.7",
        "after the structures",
        "probe-list-ends",
        "The properties end with an empty one, or with properties.",
    ),
    // 5.13.6.7.1
    driver(Must, "5.13.6.7.1", P1, "driver-probe-size", "properties of PROBE has probe_size bytes."),
    driver(Should, "5.13.6.7.1", P2, "driver-probe-reserved-zero", "reserved of PROBE is zero."),
    driver(
        Should,
        "5.13.6.7.1",
        P3,
        "driver-property-unknown",
        "A property of a type that is not known is passed over.",
    ),
    driver(ShouldNot, "5.13.6.7.1", P4, "driver-property-length", "A property's length is not taken from its type."),
    driver(Must, "5.13.6.7.1", P5, "driver-property-reserved", "A property with reserved bits set is passed over."),
    driver(Should, "5.13.6.7.1", P6, "driver-property-continues", "After a property that was passed over, the list goes on."),
    // 5.13.6.7.2
    device(Must, "5.13.6.7.2", P1, "probe-reserved-ignored", "reserved of PROBE makes no difference."),
    device(Should, "5.13.6.7.2", P2, "probe-endpoint-absent", "PROBE of an endpoint that is not there: NOENT."),
    device(
        ShouldNot,
        "5.13.6.7.2",
        P3,
        "probe-not-offered-not-written",
        "Nothing is written for a PROBE where PROBE is not offered.",
    ),
    device(Should, "5.13.6.7.2", P3, "probe-not-offered-used-0", "The used length of a PROBE is 0 where PROBE is not offered."),
    device(Should, "5.13.6.7.2", P4, "property-reserved-zero", "The reserved bits of a property are zero."),
    device(Must, "5.13.6.7.2", P5, "property-length", "length counts a property's bytes without its header.")
        .shown("20 for RESV_MEM; of others the suite does not know the size."),
    device(Must, "5.13.6.7.2", P6, "property-next", "The next property begins where the one before ends.")
        .shown("Of endpoints that have two."),
    device(
        ShouldNot,
        "5.13.6.7.2",
        P7,
        "probe-small-no-property",
        "No property is written to fewer than probe_size bytes.",
    ),
    device(Should, "5.13.6.7.2", P7, "probe-small-inval", "A PROBE with fewer than probe_size bytes: INVAL.")
        .shown("The status is looked for in the last four device-writable bytes."),
    device(Should, "5.13.6.7.2", P8, "probe-rest-zero", "What the properties leave of probe_size bytes is zero."),
    // 5.13.6.8.1
    device(
        Text,
        "5.13.6.8.1",
        P2,
        "resv-mem-sane",
        "A RESV_MEM is of a subtype that is defined, and does not end before it starts.",
    ),
    // 5.13.6.8.1.1
    driver(ShouldNot, "5.13.6.8.1.1", P1, "driver-resv-mem-not-mapped", "No address of a RESV_MEM is mapped."),
    driver(Must, "5.13.6.8.1.1", P2, "driver-resv-mem-reserved", "reserved of a RESV_MEM is not looked at."),
    driver(Should, "5.13.6.8.1.1", P3, "driver-resv-mem-subtype", "A subtype that is not known is taken for RESERVED."),
    // 5.13.6.8.1.2
    device(Should, "5.13.6.8.1.2", P1, "resv-mem-reserved-zero", "reserved of a RESV_MEM is zero."),
    device(ShouldNot, "5.13.6.8.1.2", P2, "resv-mem-one-msi", "An endpoint has no more than one MSI region."),
    device(ShouldNot, "5.13.6.8.1.2", P3, "resv-mem-apart", "The RESV_MEM of an endpoint do not overlap."),
    device(
        Should,
        "5.13.6.8.1.2",
        P4,
        "resv-mem-map-rejected",
        "A MAP that overlaps a RESV_MEM of an endpoint of the domain is rejected.",
    )
    .shown("Its first granule, its last, and a range around it, for each RESV_MEM within input_range."),
    device(
        ShouldNot,
        "5.13.6.8.1.2",
        P5,
        "resv-mem-contained",
        "An endpoint's accesses to its RESV_MEM reach nobody but itself and the driver.",
    )
    .shown("Accesses of an attached endpoint to a RESERVED region that lies where guest memory is do not reach that. In bypass mode 5.13.6 allows every access, which is the silent point resv-mem-in-bypass."),
    // 5.13.6.9
    device(
        Text,
        "5.13.6.9",
        "on reason",
        "fault-reason-domain",
        "An access of an endpoint without a domain is reported as DOMAIN.",
    )
    .shown("UNKNOWN is allowed too: the device does its best."),
    device(
        Text,
        "5.13.6.9",
        "on reason",
        "fault-reason-mapping",
        "An access to what is not mapped, or not so, is reported as MAPPING.",
    )
    .shown("UNKNOWN is allowed too: the device does its best."),
    device(Text, "5.13.6.9", "on flags", "fault-direction", "READ is set for a read, and WRITE for a write.")
        .shown("Neither set is no fault; the wrong one is."),
    device(Text, "5.13.6.9", "on address", "fault-address", "With ADDRESS, address is that of the access."),
    // 5.13.6.9.1
    driver(Must, "5.13.6.9.1", P1, "driver-fault-reserved", "A fault report with reserved not zero is passed over."),
    driver(Must, "5.13.6.9.1", P2, "driver-fault-reserved1", "reserved1 of a fault report is not looked at."),
    driver(Must, "5.13.6.9.1", P3, "driver-fault-flags", "Flags of a fault report that are not defined are not looked at."),
    driver(Should, "5.13.6.9.1", P4, "driver-fault-reason", "A fault's reason that is not known is taken for UNKNOWN."),
    // 5.13.6.9.2
    device(Should, "5.13.6.9.2", P1, "fault-reserved-zero", "reserved and reserved1 of a report are zero."),
    device(Should, "5.13.6.9.2", P2, "fault-flags-zero", "Flags of a report that are not defined are zero."),
    device(Should, "5.13.6.9.2", P3, "fault-endpoint", "A report names an endpoint that is there.")
        .shown("The one whose access it was."),
    device(May, "5.13.6.9.2", P4, "fault-address-omitted", "A report comes without an address.").shown(REPORTED),
    device(
        ShouldNot,
        "5.13.6.9.2",
        P5,
        "fault-small-buffer",
        "A report is not spread over several buffers that are too small.",
    ),
    device(
        May,
        "5.13.6.9.2",
        P5,
        "fault-small-buffer-older",
        "For a buffer that is too small an older, shorter form of report is used.",
    )
    .shown("There is no older form in virtio 1.4; it is reported what the device does."),
];
