//! What the hypervisor asks of the CPU beside writing descriptors: the maintenance of TLBs and caches, as events. A machine
//! executes them ([`Maintenance`]), a test checks their order.

use mmu::{Ia, Oa};

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A valid entry became invalid: the *break* of break-before-make (D8.17.1).
    Broke {
        /// First IPA it mapped.
        ipa: Ia,
        /// Its level.
        level: u8,
    },
    /// `DSB ISHST`; `TLBI IPAS2E1IS` of every page or `TLBI VMALLS12E1IS`; `DSB ISH`; `TLBI VMALLE1IS`; `DSB ISH`; `ISB`: nothing
    /// of these IPAs is cached any more (`__kvm_tlb_flush_vmid_ipa`).
    Invalidate {
        /// First IPA.
        ipa: Ia,
        /// Bytes.
        size: u64,
    },
    /// A valid entry was written where there was none: the *make*; `DSB ISHST` before anything relies on it.
    Made {
        /// First IPA.
        ipa: Ia,
        /// Bytes.
        size: u64,
    },
    /// Without FWB, memory that becomes Normal is cleaned and invalidated to the Point of Coherency, so that a guest that maps
    /// it Non-cacheable sees it (`dcache_clean_inval_poc`).
    CleanDcache {
        /// First PA.
        pa: Oa,
        /// Bytes.
        size: u64,
    },
    /// Without DIC, memory that becomes executable has its instruction cache invalidated (`icache_inval_pou`).
    InvalidateIcache {
        /// First PA.
        pa: Oa,
        /// Bytes.
        size: u64,
    },
}

/// Who executes the events. They come in the order in which they must happen.
pub trait Maintenance {
    /// Executes one.
    fn event(&mut self, event: Event);
}

/// Nobody: for a machine without TLBs and caches.
impl Maintenance for () {
    fn event(&mut self, _: Event) {}
}

impl<F: FnMut(Event)> Maintenance for F {
    fn event(&mut self, event: Event) {
        self(event);
    }
}
