//! Layouts by hand, and what is too short, too long, unknown or not negotiated.

use proptest::prelude::*;
use viommu::{
    Config, Endpoint, EndpointId, Gpa, Iova,
    access::Kind,
    coherency::{Coherency, Dma, NoSnoop, Walks},
    effect::DomainId,
    endpoint::{Reserved, ReservedKind},
    event::FaultReport,
    translate::Reason,
    wire::{self, ConfigSpace, Features, Property, Request, RequestKind, Status},
};

use crate::common::{Bench, endpoints, iv};

/// The requests of 5.13's introduction, and a PROBE, written out.
const REQUESTS: [(&[u8], RequestKind, usize); 5] = [
    (&[1, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], RequestKind::Attach, 4),
    (
        &[
            3, 0, 0, 0, 1, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0xff, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0, 0, 0, 0, 0, 0,
            1, 0, 0, 0,
        ],
        RequestKind::Map,
        4,
    ),
    (
        &[3 + 1, 0, 0, 0, 1, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0xff, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        RequestKind::Unmap,
        4,
    ),
    (&[2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], RequestKind::Detach, 4),
    (
        &[
            5, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        RequestKind::Probe,
        516,
    ),
];

#[test]
fn the_example_of_the_introduction() {
    let mut it = Bench::started(Config::default(), &endpoints([8]));
    for (bytes, kind, writable) in REQUESTS {
        let request = Request::parse(bytes).unwrap();
        assert_eq!((request.kind(), &*request.bytes()), (kind, bytes));
        assert_eq!(it.reply(bytes, writable).written, vec![0; writable], "{kind}");
        assert_eq!(it.device.counts().requests(kind, Status::Ok), 1);
        it.agree();
    }
    assert_eq!(it.device.domains().count(), 0);
}

#[test]
fn fields_stand_where_the_structures_have_them() {
    let bytes: Vec<u8> = (0..72).collect();
    let with = |kind: u8| Request::parse(&[&[kind], &bytes[1..]].concat()).unwrap();
    let (domain, second) = (DomainId(0x0706_0504), EndpointId(0x0b0a_0908));
    assert_eq!(with(1), Request::Attach { domain, endpoint: second, flags: 0x0f0e_0d0c, reserved: 0x1312_1110 });
    assert_eq!(with(2), Request::Detach { domain, endpoint: second });
    let (virt_start, virt_end) = (Iova(0x0f0e_0d0c_0b0a_0908), Iova(0x1716_1514_1312_1110));
    let phys_start = Gpa(0x1f1e_1d1c_1b1a_1918);
    assert_eq!(with(3), Request::Map { domain, virt_start, virt_end, phys_start, flags: 0x2322_2120 });
    assert_eq!(with(4), Request::Unmap { domain, virt_start, virt_end, reserved: 0x1b1a_1918 });
    assert_eq!(with(5), Request::Probe { endpoint: EndpointId(0x0706_0504) });
}

#[test]
fn of_every_length() {
    for (bytes, kind, writable) in REQUESTS {
        for readable in 0..=bytes.len() + 8 {
            for room in (0..=writable + 8).filter(|room| *room < 12 || *room + 12 > writable) {
                let mut it = Bench::started(Config::default(), &endpoints([8]));
                if kind != RequestKind::Attach {
                    it.attach(8, 1);
                }
                let mut request = bytes.to_vec();
                request.resize(readable, 0);
                let before = it.device.save();
                let reply = it.reply(&request, room);
                let expected = match () {
                    () if readable < bytes.len() || room < 4 => vec![],
                    () if kind == RequestKind::Probe && room < writable => {
                        [vec![0; room - 4], vec![4, 0, 0, 0]].concat()
                    }
                    () => vec![0; writable],
                };
                assert_eq!(reply.written, expected, "{kind}: {readable} readable, {room} writable");
                if reply.status() != Some(Status::Ok) {
                    assert_eq!(it.device.save(), before);
                }
                it.agree();
            }
        }
    }
}

#[test]
fn unknown_types_are_not_written() {
    let mut it = Bench::started(Config::default(), &endpoints([8]));
    for kind in (0..=255).filter(|kind| !(1..=5).contains(kind)) {
        let mut request = [0; 200];
        request[0] = kind;
        assert_eq!(it.reply(&request, 600).written, []);
    }
    assert_eq!(it.device.counts().not_understood, 251);
}

#[test]
fn what_is_not_negotiated_is_not_written() {
    let config = Config { mmio: true, coherency: true, ..Config::default() };
    for (bytes, kind, writable) in REQUESTS {
        let mut it = Bench::new(config.clone(), &endpoints([8]));
        let expected = if matches!(kind, RequestKind::Attach | RequestKind::Detach) { 4 } else { 0 };
        assert_eq!(it.reply(bytes, writable).written.len(), expected, "{kind} without any feature");
        it.device.accept(Features(kind.needs())).unwrap();
        assert_eq!(it.reply(bytes, writable).written.len(), writable, "{kind} with its feature");
    }
    let none = Config { probe_size: 0, ..Config::default() };
    let mut it = Bench::started(none, &endpoints([8]));
    assert!(!it.device.features().has(wire::F_PROBE));
    assert_eq!(it.reply(REQUESTS[4].0, 516).written, []);
}

#[test]
fn reserved_fields() {
    let mut it = Bench::started(Config::default(), &endpoints([8]));
    // head.reserved MUST be ignored (5.13.6.2); DETACH's and PROBE's too (5.13.6.4.2, 5.13.6.7.2).
    for (bytes, kind, writable) in REQUESTS {
        let mut request = bytes.to_vec();
        request[1..4].fill(0xff);
        match kind {
            RequestKind::Detach => request[12..20].fill(0xff),
            RequestKind::Probe => request[8..72].fill(0xff),
            _ => {}
        }
        assert_eq!(it.reply(&request, writable).written, vec![0; writable], "{kind}");
    }
    // ATTACH's MUST be zero (5.13.6.3.2), UNMAP's may be held against the driver (5.13.6.6.2): nothing is done.
    for byte in 16..20 {
        let mut request = REQUESTS[0].0.to_vec();
        request[byte] = 1;
        assert_eq!(it.reply(&request, 4).written, [4, 0, 0, 0]);
    }
    assert_eq!((it.attach(8, 1), it.map(1, 0x1000, 0x1fff, 0, 3)), (Status::Ok, Status::Ok));
    for byte in 24..28 {
        let mut request = REQUESTS[2].0.to_vec();
        request[byte] = 0x80;
        assert_eq!(it.reply(&request, 4).written, [4, 0, 0, 0]);
    }
    assert_eq!(it.mapped(1), [(0x1000, 0x1fff)]);
}

#[test]
fn probe_to_the_byte() {
    let reserved = vec![
        Reserved { at: iv(0x1000, 0x2fff), kind: ReservedKind::Reserved },
        Reserved { at: iv(0xfee0_0000, 0xfeef_ffff), kind: ReservedKind::Msi },
    ];
    let coherency =
        Coherency { dma: Dma::NonCoherent, non_cacheable: true, no_snoop: NoSnoop::Allowed, walks: Walks::Coherent };
    let endpoint = Endpoint { id: EndpointId(8), reserved: reserved.clone(), coherency };
    let config = Config { probe_size: 64, coherency: true, ..Config::default() };
    let probe = REQUESTS[4].0;
    let resv_mem = [
        [1, 0, 20, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0xff, 0x2f, 0, 0, 0, 0, 0, 0],
        [1, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0xe0, 0xfe, 0, 0, 0, 0, 0xff, 0xff, 0xef, 0xfe, 0, 0, 0, 0],
    ]
    .concat();

    let mut it = Bench::started(config.clone(), std::slice::from_ref(&endpoint));
    let full = it.reply(probe, 68).written;
    assert_eq!(full, [&resv_mem[..], &[16, 0, 8, 0, 2, 1, 1, 1, 0, 0, 0, 0], &[0; 4], &[0; 4]].concat());
    let [first, second] = [0, 1].map(|at| Property::ResvMem(reserved[at]));
    assert_eq!(wire::properties(&full[..64]).collect::<Vec<_>>(), [first, second, Property::Coherency(coherency)]);
    assert_eq!(it.reply(probe, 1000).written, full, "the tail is where the structure has it");

    // The proposal's property only for who took the proposal's feature.
    let mut it = Bench::new(config.clone(), std::slice::from_ref(&endpoint));
    it.device.accept(Features(wire::F_PROBE)).unwrap();
    assert_eq!(it.reply(probe, 68).written, [&resv_mem[..], &[0; 20]].concat());

    let mut absent = probe.to_vec();
    absent[4] = 9;
    assert_eq!(it.reply(&absent, 68).written, [vec![0; 64], vec![6, 0, 0, 0]].concat());
    assert_eq!(it.reply(&absent, 67).written, [vec![0; 63], vec![4, 0, 0, 0]].concat());
}

#[test]
fn a_driver_steps_over_properties_that_it_does_not_know() {
    let coherency = [16, 0, 8, 0, 1, 2, 2, 0, 9, 9, 9, 9];
    let told =
        Coherency { dma: Dma::Coherent, no_snoop: NoSnoop::Enforced, walks: Walks::NonCoherent, non_cacheable: false };
    let mut list = vec![2, 0, 3, 0, 7, 7, 7]; // a type that nobody knows
    list.extend([1, 0x10, 20, 0].iter().chain(&[0; 20])); // reserved bits
    list.extend([1, 0, 2, 0, 0, 0]); // too short for its type
    list.extend([16, 0, 9, 0].iter().chain(&coherency[4..]).chain(&[0])); // longer than its type
    list.extend([0; 8]);
    list.extend(coherency); // after the empty one
    assert_eq!(wire::properties(&list).collect::<Vec<_>>(), [Property::Coherency(told)]);
    assert_eq!(wire::properties(&coherency[..11]).count(), 0, "reaches beyond the end");
}

#[test]
fn fault_reports() {
    let report = FaultReport {
        reason: Reason::Mapping,
        endpoint: EndpointId(0x0102_0304),
        access: Some(Kind::Write),
        address: Some(Iova(0x1122_3344_5566_7788)),
    };
    let bytes = [2, 0, 0, 0, 2, 1, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11];
    assert_eq!((report.bytes(), FaultReport::parse(&bytes)), (bytes, Some(report)));
    let bare = FaultReport { reason: Reason::Unknown, access: None, address: None, ..report };
    let bytes = [0, 0, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!((bare.bytes(), FaultReport::parse(&bytes)), (bytes, Some(bare)));
    for reserved in 1..4 {
        let mut bytes = bytes;
        bytes[reserved] = 1;
        assert_eq!(FaultReport::parse(&bytes), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(request) = Request::parse(&bytes) {
            prop_assert_eq!(Request::parse(&request.bytes()), Ok(request));
        }
        let _ = wire::properties(&bytes).count();
        if let Some(config) = bytes.first_chunk() {
            let mut expected = *config;
            expected[37..].fill(0);
            prop_assert_eq!(ConfigSpace::parse(config).bytes(), expected);
        }
        if let Some(fault) = bytes.first_chunk().and_then(FaultReport::parse) {
            prop_assert_eq!(FaultReport::parse(&fault.bytes()), Some(fault));
        }
    }
}
