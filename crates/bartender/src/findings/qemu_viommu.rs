//! Where QEMU's virtio-iommu departs from virtio 5.13: what fails of the conformance suite there, each failure in one of these.

use super::{Area, Finding};

/// Who.
const WHO: &str = "QEMU 10.0.2, virtio-iommu-pci";

/// The source that was read, and its version: the names of functions below are of it.
const READ: &str = "QEMU 10.0.13 hw/virtio/virtio-iommu.c";

/// A departure, and the clauses that fail for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// Its name.
    pub name: &'static str,
    /// The options of the device with which it shows; none: the default ones, and then with any.
    pub options: &'static str,
    /// The clauses that fail.
    pub clauses: &'static [&'static str],
    says: &'static str,
    smallest: &'static str,
    right: &'static str,
    source: &'static str,
}

/// The specification's word against QEMU's.
const RIGHT: &str = "the specification";

/// All that show as clauses.
pub const DEPARTURES: &[Departure] = &[
    Departure {
        name: "qemu-viommu-reset",
        options: "",
        clauses: &["reset-detaches"],
        says: "A reset of the device by its driver (status 0) leaves every endpoint attached, and every domain with what it maps. \
               QEMU 10.0 made the handler one of the exit phase, which a reset of the system runs and a reset by the driver does \
               not; before, it was the device's own. A guest that starts another kernel without a reset of the system (kexec, \
               kdump) can notice: devices reach what the kernel before had mapped until they are attached anew, and a domain that \
               keeps an endpoint meanwhile keeps its mappings, at which a MAP can be refused. That follows from the sources; no guest \
               was booted for it.",
        smallest: "ATTACH, MAP, status 0, the driver's start: the endpoint reads and writes through the mapping",
        right: RIGHT,
        source: "virtio 5.13.5; virtio_iommu_class_init: rc->phases.exit; hw/virtio/virtio.c: virtio_reset; \"hw/virtio/virtio-iommu: \
                 Migrate to 3-phase reset\", qemu-devel 2025-02-06",
    },
    Departure {
        name: "qemu-viommu-byte-below",
        options: "",
        clauses: &["map-translates"],
        says: "An access that begins one byte below a mapping is translated by it: the endpoint reads and writes the byte before \
               phys_start, which nothing maps, and no fault is reported. An address is looked up as the range of it and the next, and \
               a mapping that begins at the next overlaps that. Where two mappings follow each other, the last byte of the first is \
               translated by the one that the search meets first. A guest notices where a device's access begins at the last byte of \
               a page. Devices of VFIO are mapped at MAP, and not concerned.",
        smallest: "MAP 0x2000 to 0x2fff at P; a byte written to 0x1fff is in memory at P - 1",
        right: RIGHT,
        source: "virtio 5.13.6.5; virtio_iommu_translate: interval.high = addr + 1",
    },
    Departure {
        name: "qemu-viommu-short-request",
        options: "",
        clauses: &["unparsable-not-written", "truncated-not-ok"],
        says: "A request with fewer than four readable or four writable bytes is never returned: QEMU sets DEVICE_NEEDS_RESET and \
               serves no other until the device is reset. The specification has such a request returned unwritten. One that has its head \
               and is too short for its type is answered INVAL, which the specification leaves open. Linux sends none of them.",
        smallest: "ATTACH with 3 writable bytes: DEVICE_NEEDS_RESET",
        right: RIGHT,
        source: "virtio 5.13.6, after the status codes; virtio_iommu_handle_command: \"bad head/tail size\"",
    },
    Departure {
        name: "qemu-viommu-unknown-request",
        options: "",
        clauses: &["unknown-type-not-written", "unknown-type-used-0"],
        says: "A request of a type that is not known is answered UNSUPP, with a used length of 4. A driver that asks for more than the \
               device has cannot tell it from one that was understood. Linux sends none.",
        smallest: "type 0: status UNSUPP, used length 4",
        right: RIGHT,
        source: "virtio 5.13.6.2; virtio_iommu_handle_command: the default of its switch",
    },
    Departure {
        name: "qemu-viommu-attach-reserved",
        options: "",
        clauses: &["attach-reserved-not-zero"],
        says: "ATTACH with a reserved byte that is not zero is done; the device MUST reject it. What a later version of the \
               specification puts there is taken for an ATTACH without it. Linux writes zeroes.",
        smallest: "ATTACH, reserved 01 00 00 00: OK",
        right: RIGHT,
        source: "virtio 5.13.6.3.2; virtio_iommu_attach, which does not look at it",
    },
    Departure {
        name: "qemu-viommu-not-negotiated",
        options: "",
        clauses: &["map-mmio-not-taken", "map-without-feature", "unmap-without-feature"],
        says: "MAP, UNMAP and the flag MMIO are served to a driver that has not accepted their features. The specification has them \
               available when negotiated, and says no more. Linux accepts all three that QEMU offers.",
        smallest: "no feature of the device accepted; ATTACH, MAP: OK",
        right: "the specification; it is no MUST and no SHOULD",
        source: "virtio 5.13.6.5, 5.13.6.6; virtio_iommu_handle_command, virtio_iommu_map: flags are held against \
                 VIRTIO_IOMMU_MAP_F_MASK alone",
    },
    Departure {
        name: "qemu-viommu-map-unchecked",
        options: "",
        clauses: &["map-unaligned", "resv-mem-map-rejected"],
        says: "MAP accepts addresses that are not aligned to the granule, and ranges over a RESV_MEM region that PROBE has told of, and a \
               virt_end below virt_start, on which the specification is silent. What it maps so is not translated so: with virt_start \
               0x100001 and phys_start P, an access to 0x100001 reaches P + 1. Linux aligns, and keeps off the regions.",
        smallest: "MAP with virt_start 0x1 and a granule of 0x1000: OK",
        right: RIGHT,
        source: "virtio 5.13.6.5.2, 5.13.6.8.1.2; virtio_iommu_map: flags, domain and overlap are all that is looked at",
    },
    Departure {
        name: "qemu-viommu-input-range",
        options: "aw-bits=48",
        clauses: &["input-range-outside"],
        says: "MAP accepts a range outside of input_range, which the property aw-bits makes smaller than 2^64. Linux keeps within it.",
        smallest: "aw-bits=48, MAP 0x1000000000000 to 0x1000000000fff: OK",
        right: RIGHT,
        source: "virtio 5.13.6, on input_range; virtio_iommu_map",
    },
    Departure {
        name: "qemu-viommu-unmap-split",
        options: "",
        clauses: &["unmap-split-removes-nothing"],
        says: "UNMAP of a range that would split a mapping is answered RANGE, and has removed mappings that were wholly within by then; \
               none should be removed. Which ones goes by the shape of the tree. Linux unmaps whole mappings alone.",
        smallest: "five mappings in a row, UNMAP of four of them and half of the last: RANGE, and some are gone",
        right: RIGHT,
        source: "virtio 5.13.6.6.2; virtio_iommu_unmap: the loop removes as it goes",
    },
    Departure {
        name: "qemu-viommu-probe-small",
        options: "",
        clauses: &["probe-small-no-property", "probe-small-inval"],
        says: "PROBE with fewer than probe_size bytes for properties is answered DEVERR where INVAL is asked for, the status is in the \
               first byte and not in the tail, the used length is 4, and behind it are the properties, as many bytes as there was \
               room for. Linux gives probe_size bytes.",
        smallest: "PROBE with 96 of 512 bytes: used length 4, DEVERR, then a RESV_MEM without its first 4 bytes",
        right: RIGHT,
        source: "virtio 5.13.6.7.2; virtio_iommu_handle_command: iov_from_buf comes before its length is looked at",
    },
    Departure {
        name: "qemu-viommu-event-buffer",
        options: "",
        clauses: &["fault-small-buffer"],
        says: "A fault that meets an event buffer of fewer than 24 bytes makes QEMU set DEVICE_NEEDS_RESET: the IOMMU serves nothing any \
               more, and the endpoints stay as they are. The specification has a buffer that is too small among what can happen, and \
               has no more at stake than the report. Linux gives 24 bytes.",
        smallest: "an event buffer of 8 bytes, an access to what is not mapped: DEVICE_NEEDS_RESET",
        right: "the specification, which does not say what the device is to do with such a buffer",
        source: "virtio 5.13.6.9.2; virtio_iommu_report_fault: \"error buffer of wrong size\"",
    },
    Departure {
        name: "qemu-viommu-endpoint-number",
        options: "absent=0x10100",
        clauses: &["attach-endpoint-absent", "probe-endpoint-absent"],
        says: "An endpoint is looked up by the lower 16 bits of its number: ATTACH and PROBE of 0x10100 are OK where 0x100 is there. The \
               one that is there is not attached by it. No firmware gives a guest such a number.",
        smallest: "endpoints 0x100 and 0x200, ATTACH of 0x10100: OK",
        right: RIGHT,
        source: "virtio 5.13.6.3.2, 5.13.6.7.2; virtio_iommu_mr: PCI_BUS_NUM",
    },
];

/// The clauses that fail on a device with those options.
#[must_use]
pub fn failing(options: &str) -> Vec<&'static str> {
    let shows = |it: &&Departure| it.options.is_empty() || it.options == options;
    DEPARTURES.iter().filter(shows).flat_map(|it| it.clauses).copied().collect()
}

/// As findings: those, and what no request shows.
pub(super) fn all() -> Vec<Finding> {
    let mut all: Vec<Finding> = DEPARTURES.iter().map(finding).collect();
    all.push(Finding {
        name: "qemu-viommu-bus-number",
        area: Area::Viommu,
        who: WHO,
        says: "A guest ends QEMU: with bypass 1, which is the default (boot-bypass=on), it attaches an endpoint behind a bridge, gives \
               the bridge's bus another number, and has the device access memory. The function is another endpoint then, attached to \
               nothing; but whether its accesses pass the IOMMU is decided when an endpoint is attached or detached, and not again, and \
               that an access that gets there is one of an attached endpoint is an assertion. Only the guest's own kernel can do \
               it. A guest that numbers buses anew after its IOMMU driver has attached something would notice."
            .into(),
        smallest: "ATTACH of 0x100, the root port's secondary bus from 1 to 0x20, a DMA write: virtio_iommu_translate: Assertion `ep && \
                   ep->domain && !ep->domain->bypass' failed"
            .into(),
        right: "the specification: an endpoint attached to nothing is in bypass mode where bypass is 1".into(),
        source: format!("virtio 5.13.6, on bypass mode; {READ}: virtio_iommu_translate, virtio_iommu_switch_address_space"),
        reproduce: "cargo test -p bartender --test qemu_viommu -- --ignored renumbered".into(),
        pinned: PINNED,
    });
    all
}

const PINNED: &str = "crates/bartender/tests/qemu_viommu.rs";

fn finding(it: &Departure) -> Finding {
    let (specification, function) = it.source.split_once("; ").unwrap_or((it.source, ""));
    let device = if it.options.is_empty() { "qemu".to_owned() } else { format!("qemu:{}", it.options) };
    let clauses: Vec<String> = it.clauses.iter().map(|id| format!(" --clause {id}")).collect();
    Finding {
        name: it.name,
        area: Area::Viommu,
        who: WHO,
        says: it.says.into(),
        smallest: it.smallest.into(),
        right: it.right.into(),
        source: format!("{specification}; {READ}: {function}"),
        reproduce: format!("bartender viommu conformance --device {device}{}", clauses.concat()),
        pinned: PINNED,
    }
}
