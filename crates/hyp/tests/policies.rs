//! Every policy with everything it can be told: what a guest can have of a BAR is what is written down here a second time.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use hyp::{
    Abort, CacheableRefused, Cpu, EINVAL, EsrEl2, Facts, NoAttribute, Pgprot, Policy, Resolution, S2Kind, Slot, Vm,
    Vma,
    region::{Bar, Device, Index, Refused, Uapi},
};
use memtype::{
    Attribute,
    arm::{Features, Stage1, Stage2 as Attributes, combine},
    x86::{self, Pat, ept},
};
use mmu::{
    Arena, Ia, Oa,
    arm::{self, Stage2},
};
use platform::{NcDefect, Platform};

const CPUS: [Cpu; 4] = [
    Cpu { fwb: false, dic: false },
    Cpu { fwb: false, dic: true },
    Cpu { fwb: true, dic: false },
    Cpu { fwb: true, dic: true },
];

fn all_facts() -> impl Iterator<Item = Facts> {
    (0..16).flat_map(|bits| {
        NcDefect::ALL.map(|normal_nc| Facts {
            prefetchable: bits & 1 != 0,
            vga: bits & 2 != 0,
            cached: bits & 4 != 0,
            platform: Platform { described: bits & 8 != 0, normal_nc, ..Platform::USUAL },
        })
    })
}

/// What a guest may have of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Device-nGnRnE and Device-nGnRE.
    Registers,
    /// Every Device type, and Normal-NC.
    Uncached,
    /// What it likes; with FWB, Write-Back and nothing else.
    Memory,
}

/// What becomes of a BAR that user space maps for a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Reach(Reach),
    /// The attribute cannot be had.
    NotAsked(bool),
    /// KVM_SET_USER_MEMORY_REGION fails.
    SlotRefused,
    /// The host maintains caches by an address that it has not.
    HostLost,
}

/// What the table of the policies comes to, told from the guest's end: first what no policy gives, then who gives what.
fn declared(policy: Policy, facts: &Facts, asked: Attribute, cpu: Cpu) -> Fate {
    use Fate::{HostLost, NotAsked, SlotRefused};
    let user_space_is_asked = policy == Policy::Subregions;
    if asked != Attribute::Default && !user_space_is_asked {
        return NotAsked(false);
    }
    if asked == Attribute::Cached && !facts.cached {
        return NotAsked(true);
    }
    let asked_less = matches!(asked, Attribute::Uncached | Attribute::WriteCombine);
    let memory = facts.cached && !asked_less;
    if memory {
        // Memory with a driver of its own: three policies let a guest have it cached.
        match policy {
            Policy::FollowVma | Policy::Subregions => {
                return if cpu.fwb { Fate::Reach(Reach::Memory) } else { HostLost };
            }
            Policy::Linux6_17 if cpu.fwb && cpu.dic => return Fate::Reach(Reach::Memory),
            Policy::Linux6_17 => return SlotRefused,
            // A cacheable VMA has no flag.
            Policy::Linux6_9 => return Fate::Reach(Reach::Registers),
            _ => {}
        }
    }
    let uncached = [
        (Policy::Prefetchable, facts.prefetchable),
        (Policy::Vga, facts.vga),
        (Policy::Subregions, asked == Attribute::WriteCombine),
        (Policy::Linux6_9, true),
        (Policy::Linux6_17, true),
        (Policy::Firmware, facts.platform.described && facts.platform.normal_nc == NcDefect::None),
        (Policy::X86Ept, true),
    ];
    Fate::Reach(if uncached.contains(&(policy, true)) { Reach::Uncached } else { Reach::Registers })
}

/// Every type a guest can make of a stage-2 leaf, by all its MAIR bytes and shareabilities.
#[derive(Default)]
struct Reachable(BTreeMap<(bool, u8), BTreeSet<&'static str>>);

impl Reachable {
    fn of(&mut self, fwb: bool, memattr: u8) -> &BTreeSet<&'static str> {
        self.0.entry((fwb, memattr)).or_insert_with(|| {
            let mut all = BTreeSet::new();
            for features in [Features::LATEST, Features::NONE] {
                let s2 = Attributes::decode(fwb, memattr, 0b11, features);
                for (mair, sh) in (0..=255).flat_map(|mair| (0..4).map(move |sh| (mair, sh))) {
                    all.insert(combine(&Stage1::decode(mair, sh, features), &s2).ty.name());
                }
            }
            all
        })
    }
}

fn types(reach: Reach, fwb: bool) -> Option<BTreeSet<&'static str>> {
    Some(match (reach, fwb) {
        (Reach::Registers, _) => BTreeSet::from(["device-ngnrne", "device-ngnre"]),
        (Reach::Uncached, _) => {
            BTreeSet::from(["device-ngnrne", "device-ngnre", "device-ngre", "device-gre", "normal-nc"])
        }
        (Reach::Memory, true) => BTreeSet::from(["normal-wb"]),
        // Stage 2 Write-Back takes nothing away.
        (Reach::Memory, false) => return None,
    })
}

/// The whole way: VFIO maps the BAR, the VMM makes a slot of it, the guest touches it; then what is in the tables.
fn fate(policy: Policy, facts: Facts, asked: Attribute, cpu: Cpu, reachable: &mut Reachable) -> Fate {
    const PA: Oa = Oa(0x50_0000_0000);
    const IPA: Ia = Ia(0x1_0000_0000);
    let bar = Bar::new(2, PA, 1 << 20).with(facts);
    let mut device = Device::<0, 1>::new(policy, Uapi::WholeIndex, &[bar]).unwrap();
    if asked != Attribute::Default {
        match device.set(Index(2), asked) {
            Ok(None) => {}
            Err(Refused::Attribute(NoAttribute::NotCacheable)) => return Fate::NotAsked(true),
            Err(Refused::Attribute(NoAttribute::NoCall { policy: p, asked: a })) if (p, a) == (policy, asked) => {
                return Fate::NotAsked(false);
            }
            other => panic!("{other:?}"),
        }
    }
    let id = device.mmap(Index(2), 0, 1 << 20).unwrap();
    let mapping = device.mapping(id).unwrap();
    let words = mapping.why.says();
    assert!(words.ends_with(']') && (words.contains("[thread 00") || words.contains("[Linux ")), "{words}");

    let mut vm = Vm::<_, 1>::new(policy, cpu, Arena::new(Oa(0x10_0000), vec![0; 5 * 512])).unwrap();
    if let Err(refused) = vm.add_slot(Slot::new(IPA, 1 << 20, PA, mapping.vma)) {
        assert_eq!(refused.errno(), EINVAL);
        assert_eq!(policy.decide(&mapping.vma, cpu), Err(CacheableRefused(cpu)));
        return Fate::SlotRefused;
    }
    let abort = Abort { esr: EsrEl2(0x9200_0007), far: IPA.0, ipa_page: Some(IPA) };
    let decision = match vm.abort(&abort, &mut ()) {
        Resolution::Again { decision, .. } => decision,
        Resolution::HostFault { .. } => return Fate::HostLost,
        other => panic!("{other:?}"),
    };
    let (words, source) = (decision.why.says(), decision.why.source());
    assert!(words.ends_with('.') && (source.contains("Linux ") || source.contains("thread")), "{words} {source}");
    assert_eq!(decision.why.to_string(), format!("{words} [{source}]"));

    let leaf = arm::walk::<Stage2, _>(vm.root(), vm.config(), vm.tables(), IPA).unwrap();
    let reached = reachable.of(cpu.fwb, leaf.attrs.memattr);
    let class = match decision.kind {
        S2Kind::DeviceNgnre => Reach::Registers,
        S2Kind::NormalNc => Reach::Uncached,
        S2Kind::Normal => Reach::Memory,
    };
    match types(class, cpu.fwb) {
        Some(types) => assert_eq!(*reached, types, "{policy:?} {facts:?} {asked:?} {cpu:?}"),
        None => assert!(reached.is_superset(&BTreeSet::from(["normal-wb", "normal-wt", "normal-nc", "device-gre"]))),
    }
    Fate::Reach(class)
}

#[test]
fn a_guest_reaches_what_the_policy_declares_and_no_more() {
    let mut reachable = Reachable::default();
    let mut seen = BTreeMap::<_, BTreeSet<_>>::new();
    for policy in Policy::ALL {
        for facts in all_facts() {
            for asked in Attribute::ALL {
                for cpu in CPUS {
                    let fate = fate(policy, facts, asked, cpu, &mut reachable);
                    assert_eq!(fate, declared(policy, &facts, asked, cpu), "{policy:?} {facts:?} {asked:?} {cpu:?}");
                    seen.entry(policy).or_default().insert(format!("{fate:?}"));
                }
            }
        }
    }
    // Each policy gives all that it is said to give somewhere: linux-6.1 one thing, subregions all but a refused slot.
    let counts: Vec<_> = seen.values().map(BTreeSet::len).collect();
    assert_eq!(counts, [2, 3, 3, 4, 5, 3, 4, 3, 2], "{seen:?}");
}

/// What the threads say of one policy beside another, for any BAR.
#[test]
fn policies_beside_one_another() {
    use Policy::{Firmware, FollowVma, Linux6_1, Linux6_9, Linux6_17, Prefetchable, Subregions, Vga};
    let mut reachable = Reachable::default();
    for facts in all_facts() {
        for cpu in CPUS {
            let mut of = |policy| fate(policy, facts, Attribute::Default, cpu, &mut reachable);
            let Fate::Reach(before) = of(Linux6_1) else { panic!() };
            let Fate::Reach(since) = of(Linux6_9) else { panic!() };
            assert_eq!(before, Reach::Registers);
            // Thread 003: Normal-NC at stage 2 keeps a guest from every cacheable type, and Device from all but two.
            assert!(since <= Reach::Uncached);
            if !facts.prefetchable {
                assert_eq!(of(Prefetchable), of(Linux6_1));
            }
            if !facts.vga {
                assert_eq!(of(Vga), of(Linux6_1));
            }
            if !facts.cached {
                assert_eq!((of(FollowVma), of(Subregions)), (of(Linux6_1), of(Linux6_1)));
                assert_eq!(of(Linux6_17), of(Linux6_9));
            }
            let Fate::Reach(described) = of(Firmware) else { panic!() };
            let fit = facts.platform.described && facts.platform.normal_nc == NcDefect::None;
            if !fit {
                assert_eq!(described, before);
            }
            // The one BAR on which `firmware` gives more than `linux-6.9`: there the device's own driver maps it cacheable
            // and carries no flag, here vfio-pci maps it and the platform speaks.
            assert_eq!(described > since, facts.cached && fit, "{facts:?}");
        }
    }
}

/// KVM's part for any VMA, written as the kernels ask: is it a device page, is its mapping cacheable, has it the flag.
#[test]
fn user_mem_abort_for_any_vma() {
    for bits in 0..16 {
        let [kernel_memory, pfnmap, allow_any_uncached, mte_allowed] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        for pgprot in Pgprot::ALL {
            let vma = Vma { pgprot, kernel_memory, pfnmap, allow_any_uncached, mte_allowed, largest: 4096 };
            for cpu in CPUS {
                let flag = if allow_any_uncached { S2Kind::NormalNc } else { S2Kind::DeviceNgnre };
                let copied = match pgprot {
                    Pgprot::Cached => S2Kind::Normal,
                    Pgprot::WriteCombine => S2Kind::NormalNc,
                    Pgprot::Noncached | Pgprot::Device => S2Kind::DeviceNgnre,
                };
                let supported = if cpu.fwb && cpu.dic { Some(S2Kind::Normal) } else { None };
                for policy in Policy::ALL {
                    let device = !kernel_memory && (pfnmap || policy != Policy::Linux6_17);
                    let of_a_device = match policy {
                        Policy::Linux6_1 => Some(S2Kind::DeviceNgnre),
                        Policy::Prefetchable | Policy::Vga if pgprot == Pgprot::Cached => Some(S2Kind::DeviceNgnre),
                        Policy::Prefetchable | Policy::Vga | Policy::FollowVma | Policy::Subregions => Some(copied),
                        Policy::Linux6_17 if pgprot == Pgprot::Cached => supported,
                        Policy::Linux6_9 | Policy::Linux6_17 | Policy::Firmware => Some(flag),
                        Policy::X86Ept => Some(S2Kind::NormalNc),
                    };
                    let wanted = if device { of_a_device } else { Some(S2Kind::Normal) };
                    assert_eq!(policy.decide(&vma, cpu).map(|d| d.kind).ok(), wanted, "{policy:?} {vma:?} {cpu:?}");
                }
            }
        }
    }
}

/// `vmx_get_mt_mask`: MMIO is UC and the guest's PAT counts, so that it has UC or WC and nothing cacheable; RAM is WB, and the
/// guest's PAT counts where a device's DMA may bypass the caches.
#[test]
fn vmx_get_mt_mask() {
    let guest = |leaf: hyp::Ept| -> BTreeSet<_> {
        Pat::ALL.iter().map(|pat| ept::combine(leaf.ty, leaf.ipat, *pat).name()).collect()
    };
    for noncoherent in [false, true] {
        for pgprot in Pgprot::ALL {
            for vma in [Vma::device(pgprot), Vma { allow_any_uncached: true, ..Vma::device(pgprot) }] {
                let leaf = Policy::ept(&vma, noncoherent);
                assert_eq!((leaf.ty, leaf.ipat), (x86::Type::Uc, false));
                assert_eq!(guest(leaf), BTreeSet::from(["uc", "wc"]));
            }
        }
        let leaf = Policy::ept(&Vma::RAM, noncoherent);
        assert_eq!((leaf.ty, leaf.ipat), (x86::Type::Wb, !noncoherent));
        let types = guest(leaf);
        assert!(if noncoherent {
            types.contains("uc") && types.contains("wb")
        } else {
            types == BTreeSet::from(["wb"])
        });
    }
}
