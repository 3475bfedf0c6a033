//! A test for each clause that binds the device, and for each point on which the specification is silent a look at what it does there.
//!
//! A test holds a device to what its clause says and to nothing else. A status counts as set where the used length covers it: a
//! driver must not look beyond (2.7.8.3). Where a test begins with requests that the device refuses, the clause is not shown.

mod attach;
mod bench;
mod bypass;
mod config;
mod fault;
mod map;
mod probe;
mod request;
mod silent;
mod unmap;

use crate::{
    Broken, Device,
    clause::{Binds, CLAUSES, Clause, Level},
};

pub use bench::Bench;
pub use silent::{SILENT, Silent};

/// What came of a clause on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not.
    Fail {
        /// What the device did.
        saw: String,
        /// What the clause asks for.
        wanted: String,
    },
    /// This device, or what can be seen of it, does not show it.
    NotShown {
        /// Why.
        why: String,
    },
    /// It makes use of a MAY.
    Does {
        /// What was seen.
        what: String,
    },
    /// It makes no use of a MAY.
    DoesNot {
        /// What was seen.
        what: String,
    },
}

/// Why a test ended before its end.
#[derive(Debug)]
pub enum Stop {
    /// The device broke.
    Broken(Broken),
    /// There is nothing more to see.
    Verdict(Verdict),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

type Tested = Result<Verdict, Stop>;

/// The test of a clause.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// The clause.
    pub id: &'static str,
    run: fn(&mut Bench<'_>) -> Tested,
}

impl Test {
    /// Runs it, from a fresh start.
    ///
    /// # Errors
    /// The device broke.
    pub fn run(&self, device: &mut dyn Device) -> Result<Verdict, Broken> {
        let done = Bench::start(device).and_then(|mut bench| (self.run)(&mut bench));
        match done {
            Ok(verdict) | Err(Stop::Verdict(verdict)) => Ok(verdict),
            Err(Stop::Broken(broken)) => Err(broken),
        }
    }
}

macro_rules! tests {
    ($($id:literal => $run:path,)*) => {
        /// A test for each clause that binds the device.
        pub const TESTS: &[Test] = &[$(Test { id: $id, run: $run }),*];
    };
}

tests! {
    "used-length-written" => request::used_length_written,
    "map-gives-access" => map::gives_access,
    "unmap-takes-access" => unmap::takes_access,
    "offers-map-unmap" => config::offers_map_unmap,
    "no-legacy-bypass" => config::no_legacy_bypass,
    "not-both-bypass" => config::not_both_bypass,
    "config-page-size-mask" => config::page_size_mask,
    "config-several-page-sizes" => config::several_page_sizes,
    "config-bypass-initially-1" => config::bypass_initially_1,
    "config-bypass-survives-device-reset" => config::bypass_survives_device_reset,
    "config-bypass-restored-by-system-reset" => config::bypass_restored_by_system_reset,
    "config-bypass-0-or-1" => config::bypass_0_or_1,
    "reset-detaches" => config::reset_detaches,
    "unparsable-not-written" => request::unparsable_not_written,
    "truncated-not-ok" => request::truncated_not_ok,
    "map-one-byte" => map::one_byte,
    "map-one-granule" => map::one_granule,
    "domain-range-ends" => attach::domain_range_ends,
    "domain-any" => attach::domain_any,
    "input-range-outside" => map::input_range_outside,
    "input-range-ends" => map::input_range_ends,
    "bypass-config-unattached" => bypass::config_unattached,
    "bypass-config-not-taken" => bypass::config_not_taken,
    "bypass-domain" => bypass::domain,
    "bypass-legacy" => bypass::legacy,
    "success-is-ok" => request::success_is_ok,
    "unknown-type-not-written" => request::unknown_type_not_written,
    "unknown-type-used-0" => request::unknown_type_used_0,
    "head-reserved-ignored" => request::head_reserved_ignored,
    "tail-reserved-zero" => request::tail_reserved_zero,
    "unattached-no-access" => bypass::unattached_no_access,
    "attach-creates-domain" => attach::creates_domain,
    "attach-shared-domain" => attach::shared_domain,
    "attach-isolated" => attach::isolated,
    "attach-reserved-not-zero" => attach::reserved_not_zero,
    "attach-unknown-flag" => attach::unknown_flag,
    "attach-endpoint-absent" => attach::endpoint_absent,
    "attach-second-endpoint" => attach::second_endpoint,
    "attach-second-endpoint-unsupp" => attach::second_endpoint_unsupp,
    "attach-bypass-mismatch" => attach::bypass_mismatch,
    "attach-moves" => attach::moves,
    "attach-moves-as-detach" => attach::moves_as_detach,
    "attach-move-unsupp" => attach::move_unsupp,
    "attach-compatible" => attach::compatible,
    "attach-incompatible-unsupp" => attach::incompatible_unsupp,
    "attach-not-rejected" => attach::not_rejected,
    "detach-back-to-bypass" => bypass::detach_back,
    "detach-last-ends-domain" => attach::detach_last_ends_domain,
    "detach-others-stay" => attach::detach_others_stay,
    "detach-reserved-ignored" => attach::detach_reserved_ignored,
    "detach-endpoint-absent" => attach::detach_endpoint_absent,
    "detach-wrong-domain" => attach::detach_wrong_domain,
    "detach-no-access" => attach::detach_no_access,
    "map-translates" => map::translates,
    "map-read-only" => map::read_only,
    "map-no-access" => map::no_access,
    "map-mmio" => map::mmio,
    "map-mmio-not-taken" => map::mmio_not_taken,
    "map-without-feature" => map::without_feature,
    "map-unaligned" => map::unaligned,
    "map-overlap" => map::overlap,
    "map-unknown-flag" => map::unknown_flag,
    "map-domain-absent" => map::domain_absent,
    "map-bypass-domain" => map::bypass_domain,
    "map-write-needs-flag" => map::write_needs_flag,
    "map-write-only-read" => map::write_only_read,
    "unmap-example-1" => unmap::example_1,
    "unmap-example-2" => unmap::example_2,
    "unmap-example-3" => unmap::example_3,
    "unmap-example-4" => unmap::example_4,
    "unmap-example-5" => unmap::example_5,
    "unmap-example-6" => unmap::example_6,
    "unmap-example-7" => unmap::example_7,
    "unmap-without-feature" => unmap::without_feature,
    "unmap-reserved-inval" => unmap::reserved_inval,
    "unmap-reserved-done" => unmap::reserved_done,
    "unmap-domain-absent" => unmap::domain_absent,
    "unmap-bypass-domain" => unmap::bypass_domain,
    "unmap-split-range" => unmap::split_range,
    "unmap-split-removes-nothing" => unmap::split_removes_nothing,
    "unmap-holes" => unmap::holes,
    "probe-endpoint" => probe::endpoint,
    "probe-list-ends" => probe::list_ends,
    "probe-reserved-ignored" => probe::reserved_ignored,
    "probe-endpoint-absent" => probe::endpoint_absent,
    "probe-not-offered-not-written" => probe::not_offered_not_written,
    "probe-not-offered-used-0" => probe::not_offered_used_0,
    "property-reserved-zero" => probe::property_reserved_zero,
    "property-length" => probe::property_length,
    "property-next" => probe::property_next,
    "probe-small-no-property" => probe::small_no_property,
    "probe-small-inval" => probe::small_inval,
    "probe-rest-zero" => probe::rest_zero,
    "resv-mem-sane" => probe::resv_mem_sane,
    "resv-mem-reserved-zero" => probe::resv_mem_reserved_zero,
    "resv-mem-one-msi" => probe::resv_mem_one_msi,
    "resv-mem-apart" => probe::resv_mem_apart,
    "resv-mem-map-rejected" => probe::resv_mem_map_rejected,
    "resv-mem-contained" => probe::resv_mem_contained,
    "fault-reason-domain" => fault::reason_domain,
    "fault-reason-mapping" => fault::reason_mapping,
    "fault-direction" => fault::direction,
    "fault-address" => fault::address,
    "fault-reserved-zero" => fault::reserved_zero,
    "fault-flags-zero" => fault::flags_zero,
    "fault-endpoint" => fault::endpoint,
    "fault-address-omitted" => fault::address_omitted,
    "fault-small-buffer" => fault::small_buffer,
    "fault-small-buffer-older" => fault::small_buffer_older,
}

/// The test of a clause; none for what binds the driver.
#[must_use]
pub fn test(id: &str) -> Option<&'static Test> {
    TESTS.iter().find(|t| t.id == id)
}

/// What comes of a clause on a device. A device that breaks fails the clause, unless that is a MAY, and is begun with anew for the next.
/// Nothing for what binds the driver.
pub fn run(clause: &Clause, device: &mut dyn Device) -> Option<Verdict> {
    if clause.binds == Binds::Driver {
        return None;
    }
    Some(test(clause.id)?.run(device).unwrap_or_else(|broken| {
        let saw = format!("the device broke: {broken}");
        // Of what is allowed nothing can be failed.
        if clause.level == Level::May {
            Verdict::DoesNot { what: saw }
        } else {
            Verdict::Fail { saw, wanted: "it goes on".to_owned() }
        }
    }))
}

/// Every clause of the device, and what came of it.
pub fn run_all(device: &mut dyn Device) -> Vec<(&'static Clause, Verdict)> {
    CLAUSES.iter().filter_map(|clause| Some((clause, run(clause, device)?))).collect()
}
