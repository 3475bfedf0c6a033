//! Features, the configuration, bypass.

use viommu::{
    Config, Device, Effect, EndpointId,
    device::{Bypass, MAX_PROBE_SIZE, Wrong},
    effect::{DomainId, Unattached},
    wire::{self, Features, Status},
};

use crate::common::{All, Bench, endpoints, iv};

#[test]
fn what_is_offered() {
    let minimal = Config { probe_size: 0, mmio: false, bypass: Bypass::Never, ..Config::default() };
    let offers = |config: &Config| Device::new(config.clone()).unwrap().features().0;
    assert_eq!(offers(&minimal), 1 << 2);
    assert_eq!(offers(&Config { input_range: iv(0, !0 >> 1), ..minimal.clone() }), 1 << 2 | 1);
    assert_eq!(offers(&Config { domain_range: (DomainId(1), DomainId(!0)), ..minimal.clone() }), 1 << 2 | 1 << 1);
    assert_eq!(offers(&Config { bypass: Bypass::Legacy, ..minimal.clone() }), 1 << 2 | 1 << 3);
    assert_eq!(offers(&Config { probe_size: 1, ..minimal.clone() }), 1 << 2 | 1 << 4);
    assert_eq!(offers(&Config { mmio: true, ..minimal.clone() }), 1 << 2 | 1 << 5);
    assert_eq!(offers(&Config { bypass: Bypass::Config { initially: false }, ..minimal.clone() }), 1 << 2 | 1 << 6);
    assert_eq!(offers(&Config { coherency: true, probe_size: 12, ..minimal }), 1 << 2 | 1 << 4 | 1 << 16);
    assert_eq!(offers(&Config::default()), 0b111_0100);
}

#[test]
fn what_is_wrong() {
    let wrong = |config| Device::new(config).unwrap_err();
    let good = Config::default;
    assert_eq!(wrong(Config { page_size_mask: 0, ..good() }), Wrong::NoGranule);
    let range = iv(0x800, !0);
    assert_eq!(wrong(Config { input_range: range, ..good() }), Wrong::InputRange { range, granule: 0x1000 });
    let range = iv(0, 0x1000);
    assert_eq!(wrong(Config { input_range: range, ..good() }), Wrong::InputRange { range, granule: 0x1000 });
    let (first, last) = (DomainId(2), DomainId(1));
    assert_eq!(wrong(Config { domain_range: (first, last), ..good() }), Wrong::DomainRange { first, last });
    let size = MAX_PROBE_SIZE + 1;
    assert_eq!(wrong(Config { probe_size: size, ..good() }), Wrong::ProbeSize { size });
    assert_eq!(wrong(Config { probe_size: 0, coherency: true, ..good() }), Wrong::CoherencyWithoutProbe);
    let refused = wrong(Config { coherent_virtqueues: false, ..good() });
    assert_eq!(refused, Wrong::VirtqueuesNotCoherent);
    assert!(refused.to_string().contains("dma-coherent"));
    // The granule can be one byte, or half of all.
    assert!(Device::new(Config { page_size_mask: !0, input_range: iv(3, 3), ..good() }).is_ok());
    assert!(Device::new(Config { page_size_mask: 1 << 63, ..good() }).is_ok());
}

#[test]
fn what_is_accepted() {
    let mut device = Device::new(Config::default()).unwrap();
    let offered = device.features();
    for bit in (0..24).chain([41, 42]).chain(50..64).filter(|bit| !offered.has(1 << bit)) {
        let refused = Features(1 << bit);
        assert_eq!(device.accept(Features(offered.0 | 1 << bit)), Err(Wrong::NotOffered { refused, offered }));
        assert_eq!(device.accepted(), Features(0));
    }
    // VIRTIO_F_VERSION_1 and its neighbours are the transport's.
    assert_eq!(device.accept(Features(1 << 32 | 1 << 28 | wire::F_PROBE)), Ok(vec![]));
    assert_eq!(device.accepted(), Features(wire::F_PROBE));
    let (before, now) = (Features(wire::F_PROBE), offered);
    assert_eq!((device.accept(before), device.accept(now)), (Ok(vec![]), Err(Wrong::Renegotiated { before, now })));
    assert_eq!((device.reset(), device.accept(now), device.accepted()), (vec![], Ok(vec![]), now));
}

#[test]
fn the_configuration_is_read_in_any_pieces() {
    let device = Device::new(Config {
        page_size_mask: 0xffff_ffff_ffff_1000,
        input_range: iv(0x1000, 0xff_ffff_ffff),
        domain_range: (DomainId(1), DomainId(0x1_0000)),
        probe_size: 0x200,
        bypass: Bypass::Config { initially: true },
        ..Config::default()
    })
    .unwrap();
    let expected = [
        0, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x10, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0,
        1, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 1, 0, 0, 0,
    ];
    let read = |offset, len| {
        let mut data = vec![0xaa; len];
        device.read_config(offset, &mut data);
        data
    };
    assert_eq!(read(0, 40), expected);
    let padded = [&expected[..], &[0; 60]].concat();
    for offset in 0..50 {
        for len in 0..50 {
            assert_eq!(read(offset as u64, len), padded[offset..offset + len]);
        }
    }
    assert_eq!(read(u64::MAX, 8), [0; 8]);
    assert_eq!(wire::ConfigSpace::parse(&device.config_space().bytes()), device.config_space());
}

#[test]
fn only_bypass_is_written_and_only_0_or_1() {
    let mut it = Bench::started(Config::default(), &endpoints([8, 9]));
    assert_eq!(it.attach(9, 1), Status::Ok);
    let before = it.device.config_space();
    for (offset, data) in [
        (0, &[1_u8; 36][..]),
        (35, &[1]),
        (37, &[1]),
        (36, &[]),
        (36, &[2]),
        (36, &[0xff]),
        (0, &[9; 40]),
        (u64::MAX, &[1]),
    ] {
        assert_eq!(it.device.write_config(offset, data), [], "{offset} {data:?}");
        assert_eq!(it.device.config_space(), before);
    }
    let unattached = |now| vec![Effect::Unattached { endpoint: EndpointId(8), now }];
    assert_eq!(it.device.write_config(36, &[1]), unattached(Unattached::Identity));
    assert_eq!((it.device.write_config(36, &[1]), it.device.config_space().bypass), (vec![], 1));
    assert_eq!(
        it.device.write_config(32, &[9, 9, 9, 9, 0, 9]),
        unattached(Unattached::Blocked),
        "as part of a longer one"
    );
    assert_eq!(it.device.config_space(), before);
    let mut not_taken = Bench::new(Config::default(), &endpoints([8]));
    assert_eq!((not_taken.device.write_config(36, &[1]), not_taken.device.config_space().bypass), (vec![], 0));
}

#[test]
fn bypass_by_configuration_counts_before_negotiation_and_outlives_a_reset() {
    let config = Config { bypass: Bypass::Config { initially: true }, ..Config::default() };
    let mut it = Bench::new(config.clone(), &endpoints([8]));
    let mode = |it: &Bench| it.host.books.endpoints[&EndpointId(8)];
    assert_eq!(mode(&it), Err(Unattached::Identity), "before negotiation (5.13.6)");
    it.device.accept(Features(wire::F_MAP_UNMAP)).unwrap();
    it.agree();
    assert_eq!(mode(&it), Err(Unattached::Identity), "though the driver did not take it");
    let mut it = Bench::started(config, &endpoints([8]));
    let apply = |it: &mut Bench, effects: Vec<Effect>| {
        it.host.books.all(&effects);
        it.agree();
    };
    let off = it.device.write_config(36, &[0]);
    apply(&mut it, off);
    assert_eq!((it.attach(8, 1), it.detach(8, 1), mode(&it)), (Status::Ok, Status::Ok, Err(Unattached::Blocked)));
    assert_eq!(it.attach(8, 1), Status::Ok);
    let reset = it.device.reset();
    apply(&mut it, reset);
    assert_eq!(
        (mode(&it), it.device.config_space().bypass),
        (Err(Unattached::Blocked), 0),
        "SHOULD NOT change (5.13.4.2)"
    );
    let reset = it.device.system_reset();
    assert_eq!(reset, [Effect::Unattached { endpoint: EndpointId(8), now: Unattached::Identity }]);
    apply(&mut it, reset);
    assert_eq!(it.device.config_space().bypass, 1, "restored (5.13.4.2)");
}

#[test]
fn the_superseded_bypass_counts_if_it_is_negotiated() {
    let mut it = Bench::new(Config { bypass: Bypass::Legacy, ..Config::default() }, &endpoints([8, 9]));
    assert_eq!(it.attach(9, 1), Status::Ok);
    let unattached = |now| vec![Effect::Unattached { endpoint: EndpointId(8), now }];
    assert_eq!(it.device.accept(Features(wire::F_BYPASS)), Ok(unattached(Unattached::Identity)));
    it.host.books.all(&unattached(Unattached::Identity));
    it.agree();
    assert_eq!(it.detach(9, 1), Status::Ok);
    assert_eq!(it.host.books.endpoints[&EndpointId(9)], Err(Unattached::Identity));
    let reset = it.device.reset();
    assert_eq!(reset.len(), 2);
    it.host.books.all(&reset);
    assert_eq!(it.host.books.endpoints[&EndpointId(8)], Err(Unattached::Blocked));
    it.agree();
    assert_eq!(it.device.config_space().bypass, 0);
}

#[test]
fn what_people_are_shown() {
    let mut it = Bench::new(Config::default(), &endpoints([8, 9, 0x1_0010]));
    it.device.accept(Features(wire::F_MAP_UNMAP | wire::F_BYPASS_CONFIG)).unwrap();
    assert_eq!((it.attach(8, 1), it.map(1, 0, 0xfff, 0, 3), it.bypass(9, 70000)), (Status::Ok, Status::Ok, Status::Ok));
    let expected = "\
features            MAP_UNMAP BYPASS_CONFIG
features not taken  PROBE MMIO
unattached          blocked
endpoint 0x8        domain 1
endpoint 0x9        domain 70000
endpoint 0x10010    unattached
domain 1            endpoints 1, mappings 1
domain 70000        endpoints 1, bypass
faults              written 0, waiting 0, dropped 0";
    assert_eq!(it.device.to_string(), expected);
    it.device.broke(&[Effect::Destroy { domain: DomainId(1) }]);
    let shown = it.device.to_string();
    assert!(shown.contains("endpoint 0x8        domain 1, in doubt\n") && shown.contains("needs a reset"), "{shown}");
}
