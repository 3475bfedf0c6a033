#![no_main]

use bartender_fuzz::iommu::agree;
use libfuzzer_sys::fuzz_target;
use viommu::{
    Config, Device, Endpoint, EndpointId, Interval, Iova,
    book::Book,
    coherency::Coherency,
    device::Bypass,
    endpoint::{Reserved, ReservedKind},
    limits::Limits,
    save::Saved,
};

// A state that was written down by nobody knows whom: it is refused, or it is one that requests could have led to.
fuzz_target!(|data: &[u8]| {
    let Ok(saved) = serde_json::from_slice::<Saved>(data) else { return };
    let msi = Reserved { at: Interval::new(Iova(0xfee0_0000), Iova(0xfeef_ffff)).unwrap(), kind: ReservedKind::Msi };
    let endpoints = [8, 9, 16].map(|id| Endpoint {
        id: EndpointId(id),
        reserved: if id == 8 { vec![msi] } else { Vec::new() },
        coherency: Coherency { non_cacheable: true, ..Coherency::default() },
    });
    let limits = Limits { domains: 2, mappings_per_domain: 3, mappings: 4, events: 2 };
    for (bypass, coherency) in [(Bypass::Config { initially: false }, true), (Bypass::Never, false)] {
        let config = Config { bypass, coherency, limits, ..Config::default() };
        let Ok((device, effects)) = Device::restore(config.clone(), endpoints.clone(), &saved) else { continue };
        // The host can do the effects, in their order, and the translators say what it says.
        if device.needs_reset() {
            Book::default().write_all(&effects).unwrap();
        } else {
            agree(&device, &endpoints, &effects);
        }
        let domains: Vec<_> = device.domains().collect();
        assert!(domains.len() <= limits.domains && device.faults_waiting() <= limits.events);
        assert!(domains.iter().all(|it| it.endpoints > 0 && it.mappings <= limits.mappings_per_domain));
        assert!(domains.iter().map(|it| it.mappings).sum::<usize>() <= limits.mappings);
        // It is the same state, and it can be saved again.
        let again = device.save();
        assert_eq!(again.domains.len(), saved.domains.len());
        let (anew, _) = Device::restore(config, endpoints.clone(), &again).unwrap();
        assert_eq!(anew.save(), again);
    }
});
