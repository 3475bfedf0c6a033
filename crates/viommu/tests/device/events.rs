//! Faults and the buffers of the event queue.

use viommu::{
    Config, EndpointId, Iova,
    access::Kind,
    event::{FaultReport, Posted, Raised},
    limits::Limits,
    translate::Reason,
};

use crate::common::{Bench, endpoints};

fn fault(endpoint: u32, at: u64) -> FaultReport {
    let endpoint = EndpointId(endpoint);
    FaultReport { reason: Reason::Mapping, endpoint, access: Some(Kind::Read), address: Some(Iova(at)) }
}

fn bench() -> Bench {
    let limits = Limits { events: 3, ..Limits::default() };
    Bench::started(Config { limits, ..Config::default() }, &endpoints([8, 9]))
}

#[test]
fn oldest_first_and_each_for_itself() {
    let mut it = bench();
    assert_eq!(it.device.event_buffer(24), Posted::Kept);
    for at in [1, 2, 2] {
        assert_eq!(it.device.fault(fault(8, at)), Raised::Waits);
    }
    assert_eq!((it.device.fault(fault(8, 4)), it.device.fault(fault(9, 5))), (Raised::Dropped, Raised::Dropped));
    assert_eq!(it.device.faults_waiting(), 3);
    for at in [1, 2, 2] {
        assert_eq!(it.device.event_buffer(100), Posted::Write(fault(8, at).bytes()));
    }
    assert_eq!(it.device.event_buffer(24), Posted::Kept);
    let counts = it.device.counts();
    assert_eq!((counts.faults_written, counts.faults_dropped), (3, 2));
}

#[test]
fn a_buffer_that_is_too_small_loses_nothing() {
    let mut it = bench();
    assert_eq!(it.device.fault(fault(8, 1)), Raised::Waits);
    for bytes in 0..24 {
        assert_eq!(it.device.event_buffer(bytes), Posted::TooSmall);
    }
    assert_eq!(it.device.event_buffer(24), Posted::Write(fault(8, 1).bytes()));
    assert_eq!(it.device.counts().buffers_too_small, 24);
}

#[test]
fn faults_name_endpoints_that_exist() {
    let mut it = bench();
    assert_eq!(it.device.fault(fault(7, 1)), Raised::Dropped);
    for (endpoint, at) in [(8, 1), (9, 2), (8, 3)] {
        assert_eq!(it.device.fault(fault(endpoint, at)), Raised::Waits);
    }
    assert_eq!(it.device.remove_endpoint(EndpointId(8)), []);
    assert_eq!((it.device.faults_waiting(), it.device.counts().faults_dropped), (1, 3));
    assert_eq!(it.device.event_buffer(24), Posted::Write(fault(9, 2).bytes()));
}

#[test]
fn a_reset_forgets_what_waits() {
    let mut it = bench();
    assert_eq!(it.device.fault(fault(8, 1)), Raised::Waits);
    assert_eq!(it.device.reset(), []);
    assert_eq!(it.device.event_buffer(24), Posted::Kept);
}
