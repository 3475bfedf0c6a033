//! What `viommu` says of an access, and what the model makes of it by the SMMU's or VT-d's own rules: the same.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use hyp::Policy;
use viommu::MemoryType;
use viommu::coherency::{Coherency, Dma, NoSnoop, Walks};

/// Every value that a device can read of what the guest stored, 0x99 where 0 was, and did not clean. The mapping's entry lies
/// in guest RAM if `walked`.
fn read(host: Coherency, memory: MemoryType, sets: bool, walked: bool, policy: Policy) -> BTreeSet<u64> {
    let coherent = host.dma == Dma::Coherent;
    let no_snoop = if host.no_snoop == NoSnoop::Allowed { "possible" } else { "never" };
    let (walks, entry) = (host.walks == Walks::Coherent, if walked { "entry = \"tables\"\n" } else { "" });
    let non_cacheable = memory == MemoryType::NonCacheable;
    let ram = |name| format!("[[map]]\nname = \"{name}\"\nram = \"4K\"\ntype = \"normal-wb\"\n");
    let text = format!(
        "title = \"t\"\n[platform]\nno-snoop = \"{no_snoop}\"\n[iommu]\ncoherent-walks = {walks}\n\
         [[device]]\nname = \"d\"\ncoherent = {coherent}\nno-snoop = {sets}\nbars = [{{ index = 0, size = \"4K\" }}]\n{}{}{}\
         [[iova]]\nname = \"w\"\nto = \"{}\"\nnon-cacheable = {non_cacheable}\n{entry}\
         [guest]\nprogram = \"\"\"\nstore.8 ring, 0x99\n{}dsb sy\ndma.load.8 w -> x0\n\"\"\"\n[expect]\nall = \"completed\"\n",
        ram("ring"),
        ram("other"),
        ram("tables"),
        if walked { "other" } else { "ring" },
        if walked { "clean ring\nstore.8 tables, &ring+3\n" } else { "" },
    );
    let scenario = scenario::parse("test", &text).unwrap_or_else(|e| panic!("{e}"));
    let report = model::run(&scenario, policy).unwrap();
    report.allowed.iter().map(|o| o.registers[&0]).collect()
}

/// An SMMU makes non-cacheable mappings, VT-d does not.
const HOSTS: [(Policy, bool); 2] = [(Policy::Linux6_9, true), (Policy::X86Ept, false)];

#[test]
fn an_access_snoops_in_the_model_as_the_device_says() {
    let both = [false, true];
    let mut told = BTreeSet::new();
    for (policy, non_cacheable) in HOSTS {
        for dma in [Dma::Coherent, Dma::NonCoherent] {
            for no_snoop in [NoSnoop::Allowed, NoSnoop::Enforced] {
                let host = Coherency { dma, non_cacheable, no_snoop, walks: Walks::Coherent };
                for memory in [MemoryType::Normal, MemoryType::NonCacheable] {
                    for sets in both {
                        let says = host.snoops(memory, sets);
                        let expected: &[u64] = match says {
                            // The device refuses to map it.
                            _ if memory == MemoryType::NonCacheable && !non_cacheable => &[u64::MAX],
                            Some(true) => &[0x99],
                            Some(false) => &[0, 0x99],
                            None => panic!("{host:?} {memory:?} {sets}: all is known here"),
                        };
                        let read = read(host, memory, sets, false, policy);
                        let under = format!("{} {host:?} {memory:?} no_snoop {sets}", policy.name());
                        assert_eq!(read, expected.iter().copied().collect(), "{under}");
                        told.insert(says);
                    }
                }
            }
        }
    }
    assert!(told.is_superset(&BTreeSet::from([Some(true), Some(false)])));
}

#[test]
fn a_walk_snoops_in_the_model_as_the_device_says() {
    for (policy, non_cacheable) in HOSTS {
        for (walks, expected) in [(Walks::Coherent, &[0x99][..]), (Walks::NonCoherent, &[0, 0x99])] {
            let host = Coherency { dma: Dma::Coherent, non_cacheable, no_snoop: NoSnoop::Enforced, walks };
            let read = read(host, MemoryType::Normal, false, true, policy);
            assert_eq!(read, expected.iter().copied().collect(), "{} {walks:?}", policy.name());
        }
    }
}
