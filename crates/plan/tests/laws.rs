//! Laws of every machine, however odd what it says: nothing panics, nothing is seen that nobody looked at, and the answers agree with
//! each other.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use host::*;
use memtype::{Arch, x86};
use plan::request::request;
use plan::{Answer, Layers, Sure, Want, Way, at_a_glance, layers, vm};
use proptest::collection::vec;
use proptest::prelude::*;

fn fact<T: Clone + std::fmt::Debug + 'static>(known: impl Strategy<Value = T> + 'static) -> BoxedStrategy<Fact<T>> {
    prop_oneof![
        4 => known.prop_map(Fact::Known),
        1 => Just(Fact::Absent),
        1 => Just(()).prop_map(|()| hole("somewhere")),
    ]
    .boxed()
}

fn bit() -> BoxedStrategy<Fact<bool>> {
    fact(any::<bool>())
}

/// Sizes and addresses at which arithmetic ends, and any.
fn number() -> BoxedStrategy<u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(1),
        (0u32..64).prop_map(|n| 1 << n),
        (12u32..40, any::<u16>()).prop_map(|(n, k)| u64::from(k) << n),
        any::<u64>()
    ]
    .boxed()
}

fn a_span() -> BoxedStrategy<Span> {
    (number(), number()).prop_map(|(a, b)| Span::new(Pa(a.min(b)), Pa(a.max(b))).unwrap()).boxed()
}

fn a_window() -> BoxedStrategy<Window> {
    (a_span(), any::<bool>(), any::<bool>())
        .prop_map(|(span, prefetchable, io)| Window { bridge: bdf(PORT), span, prefetchable, io })
        .boxed()
}

fn a_bar() -> BoxedStrategy<Bar> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (0u8..=5, proptest::option::weighted(0.9, a_span()), proptest::option::of(number()), flags, vec(a_window(), 0..3))
        .prop_map(|(index, at, size, (io, wide, prefetchable, file, file_wc), behind)| Bar {
            index,
            at,
            // Mostly what its address says; sometimes a lie.
            size: size.map_or_else(|| at.map_or(Bytes(4096), Span::size), Bytes),
            io: io && wide,
            wide,
            prefetchable,
            file,
            file_wc,
            behind,
        })
        .boxed()
}

fn an_opened() -> BoxedStrategy<Fact<Opened>> {
    let flags = prop_oneof![Just(MARKED.to_owned()), Just(PLAIN.to_owned()), "[a-z? ]{0,20}"];
    let sparse = proptest::option::of(vec((number(), number()), 0..4));
    let region = (number(), any::<bool>(), sparse, proptest::option::of(flags))
        .prop_map(|(size, mmap, sparse, vm_flags)| OpenedRegion { size, mmap, sparse, vm_flags });
    let regions = proptest::collection::btree_map(0u32..7, region, 0..4);
    fact((proptest::option::of(any::<bool>()), regions, vec("alias|dma-buf", 0..2)).prop_map(
        |(enforces_coherency, regions, attributes)| Opened {
            by: "group".into(),
            enforces_coherency,
            regions,
            attributes,
        },
    ))
}

fn a_function() -> BoxedStrategy<Function> {
    let driver = fact(
        prop_oneof![Just("vfio-pci"), Just("nvgrace-gpu-vfio-pci"), Just("nouveau"), Just("pcieport")]
            .prop_map(String::from),
    );
    let members = vec(prop_oneof![Just(bdf(GPU)), Just(bdf(PORT)), Just(bdf("0000:02:00.0"))], 0..3);
    let group = fact(
        (0u32..3, fact("DMA|identity".prop_map(String::from)), members).prop_map(|(number, kind, members)| Group {
            number,
            kind,
            members,
        }),
    );
    let msix =
        fact((any::<u16>(), (0u8..7, any::<u32>()), (0u8..7, any::<u32>())).prop_map(|(vectors, table, pba)| Msix {
            vectors,
            table,
            pba,
        }));
    let command = fact((any::<bool>(), any::<bool>()).prop_map(|(memory, master)| Command { memory, master }));
    let coherent =
        fact(any::<bool>().prop_map(|coherent| Coherent { coherent, says: "_CCA of \\_SB.PCI0".to_owned() }));
    let iommu = fact("iommu0|gone".prop_map(String::from));
    let power = fact("D0|D3hot|unknown".prop_map(String::from));
    (
        (vec(a_bar(), 0..4), driver, group, iommu, an_opened()),
        (msix, command, coherent, power, bit(), any::<bool>(), 0u32..1 << 24),
    )
        .prop_map(|((bars, driver, group, iommu, opened), (msix, command, coherent, power, no_snoop, cdev, class))| {
            Function {
                bars,
                driver,
                group,
                iommu,
                opened,
                msix,
                command,
                coherent,
                power,
                no_snoop,
                class,
                vfio_cdev: cdev.then(|| "vfio0".into()),
                ..function(GPU)
            }
        })
        .boxed()
}

fn a_machine() -> BoxedStrategy<Host> {
    let arch = proptest::option::weighted(0.95, proptest::sample::select(Arch::ALL.to_vec()));
    let version = proptest::option::weighted(0.8, (4u16..9, 0u16..20, any::<u16>()));
    let kvm_says = fact((
        proptest::option::of(any::<bool>()),
        proptest::option::of(any::<u64>()),
        proptest::option::of(any::<u64>()),
        proptest::option::of(any::<bool>()),
    ))
    .prop_map(|f| {
        f.map(|(cacheable_pfnmap, mmfr2, ctr, nested_paging)| Kvm {
            cacheable_pfnmap,
            mmfr2,
            ctr,
            quirks: mmfr2,
            ipa_bits: None,
            nested_paging,
            vfio_device: None,
        })
    });
    let kinds = proptest::sample::select(&IommuKind::ALL[..]);
    let iommu = (kinds, bit(), bit(), bit()).prop_map(|(kind, enforces, coherent_walk, s2fwb)| Iommu {
        kind,
        enforces,
        coherent_walk,
        s2fwb,
        register: None,
    });
    let modes = proptest::sample::select(vec![
        Cachemode::Uncached,
        Cachemode::UncachedMinus,
        Cachemode::WriteBack,
        Cachemode::WriteCombining,
        Cachemode::WriteThrough,
        Cachemode::WriteProtected,
    ]);
    let pat = fact(vec((a_span(), modes), 0..4).prop_map(|all| {
        all.into_iter().map(|(s, kind)| Reserved { first: s.first.0, last: s.last.0, kind }).collect()
    }));
    let mtrr = fact(
        vec((a_span(), proptest::sample::select(x86::Type::ALL.to_vec())), 0..3)
            .prop_map(|all| all.into_iter().map(|(span, kind)| Mtrr { register: 0, span, kind }).collect()),
    );
    let names: Vec<&'static str> = platform::errata::all().iter().map(|e| e.name.as_str()).collect();
    let errata = vec(proptest::sample::select(names), 0..3);
    let model = fact("Intel|AMD EPYC|what".prop_map(String::from));
    (
        (arch, version, number(), kvm_says, iommu, a_function()),
        (pat, mtrr, fact(vec(a_span(), 0..2)), errata, model, bit(), bit(), bit(), any::<bool>()),
    )
        .prop_map(
            |(
                (arch, version, page, kvm, iommu, function),
                (pat, mtrr, ram, errata, model, fwb, dic, has_pat, vfio),
            )| {
                let mut host = machine(arch.unwrap_or(Arch::Arm64), "6.12");
                host.kernel.arch = arch;
                host.kernel.version = version;
                if version.is_none() {
                    host.kernel.release = hole("uname -r");
                }
                host.kernel.page = Bytes(page);
                (host.kvm, host.pat, host.mtrr, host.ram, host.errata) = (kvm, pat, mtrr, ram, errata);
                (host.cpu.model, host.cpu.fwb, host.cpu.dic, host.cpu.pat) = (model, fwb, dic, has_pat);
                host.vfio.container = vfio;
                host.vfio.noiommu = host.cpu.fwb.clone();
                host.iommus.insert("iommu0".into(), iommu);
                host.functions.insert(function.bdf, function);
                host
            },
        )
        .boxed()
}

/// Whether anything was looked at that shows what the kernel does, and not only its name.
fn looked(host: &Host) -> bool {
    host.kvm.known().is_some_and(|k| k.cacheable_pfnmap.is_some())
        || host.pat.known().is_some()
        || host.functions.values().any(|f| f.opened.known().is_some())
}

fn check(host: &Host, bar: &Bar, it: &Layers) {
    let seen = |sure: &Sure| matches!(sure, Sure::Seen(_));
    if !looked(host) {
        assert!(!seen(&it.vma.sure), "{:?}", it.vma);
        assert!(!it.stage2.as_ref().is_some_and(|l| seen(&l.sure)), "{:?}", it.stage2);
    }
    assert!(!seen(&it.bus.sure) || bar.at.is_some());
    for layer in [Some(&it.bus), Some(&it.vma), it.stage2.as_ref()].into_iter().flatten() {
        assert!(!layer.what.is_empty());
        assert!(!matches!(&layer.sure, Sure::Rests(holes) if holes.is_empty()), "{layer:?}");
    }
    // No memory slot of what is trapped, or has no memory type.
    assert!(it.stage2.is_none() || (it.way != Way::Trap && !bar.io));
    // A word for every answer, and a reason.
    for (answer, why) in [&it.works, &it.fast, &it.safe] {
        assert!(!why.is_empty(), "{answer:?}");
    }
    // What is fast gathers: it was asked for, and got.
    if it.fast.0 == Answer::Yes {
        let gets = it.asked_wc().unwrap().gets.unwrap();
        assert!(
            ["normal-nc", "wc", "normal-wb", "normal-wt", "wb", "wt", "wp", "wuc", "cc"].contains(&gets.name()),
            "{gets}"
        );
    }
    // An unknown type is no reason for a yes.
    if it.way != Way::Trap && !bar.io && it.guest.iter().all(|g| g.gets.is_none()) {
        assert!(it.works.0 != Answer::Yes && it.fast.0 != Answer::Yes);
    }
    assert!(it.advice.iter().all(|a| !a.is_empty()));
    serde_json::to_string(it).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_layers(host in a_machine()) {
        for function in host.functions.values() {
            for bar in &function.bars {
                let all = layers(&host, function, bar);
                prop_assert_eq!(all.iter().map(|l| l.way).collect::<Vec<_>>(), Way::ALL);
                all.iter().for_each(|it| check(&host, bar, it));
                let glance = at_a_glance(&host, function, bar);
                prop_assert_eq!(glance.is_none(), bar.io);
                if let Some(glance) = glance {
                    let same = all.iter().find(|l| l.way == glance.way).unwrap();
                    prop_assert_eq!((glance.works, glance.fast, glance.safe), (same.works.0, same.fast.0, same.safe.0));
                    prop_assert_eq!(glance.available, same.available.clone());
                }
            }
        }
    }

    /// To know more never turns what was known into something else: a hole filled leaves what did not rest on it.
    #[test]
    fn a_hole_hides_and_does_not_lie(host in a_machine(), version in (6u16..8, 0u16..20)) {
        let mut blind = host.clone();
        blind.kernel.version = None;
        blind.kernel.release = hole("uname -r");
        let mut told = host;
        told.kernel.version = Some((version.0, version.1, 0));
        if told.kernel.arch == Some(Arch::Arm64) {
            for (function, bar) in blind.functions.values().flat_map(|f| f.bars.iter().map(move |b| (f, b))) {
                let (less, more) = (layers(&blind, function, bar), layers(&told, function, bar));
                for (less, more) in less.iter().zip(&more) {
                    for (less, more) in less.guest.iter().zip(&more.guest) {
                        prop_assert!(less.gets.is_none() || less.gets == more.gets, "{:?} {:?}", less, more);
                    }
                }
            }
        }
    }

    #[test]
    fn of_plans(host in a_machine(), mte: bool, dirty_log: bool, want in 0usize..5, parts in vec((number(), number()), 0..3)) {
        let bdf = bdf(GPU);
        let want = [None, Some(Want::Registers), Some(Want::WriteCombine), Some(Want::Cached), Some(Want::Trap)][want];
        let parts: Vec<_> = parts.into_iter()
            .map(|(offset, size)| plan::PartRequest { offset, size, want: Want::WriteCombine })
            .collect();
        let bars = vec![plan::BarRequest { index: 2, want, parts }];
        let devices = vec![plan::DeviceRequest { bdf, name: None, bars, no_snoop: None }];
        let asked = plan::VmRequest { mte, dirty_log, devices, ..plan::VmRequest::default() };
        let it = vm(&host, &asked);
        prop_assert_eq!(it.possible, it.refusals.is_empty());
        prop_assert!(it.refusals.is_sorted_by_key(|r| r.by));
        for bar in it.devices.iter().flat_map(|d| &d.bars) {
            // Without holes, from the first byte to the last.
            let mut at = 0;
            for part in &bar.parts {
                prop_assert_eq!(part.offset, at);
                prop_assert!(part.size > 0);
                prop_assert_eq!(part.slot.is_some(), part.how == plan::How::Direct);
                prop_assert!(part.how == plan::How::Trap || !bar.io);
                if let Some(slot) = &part.slot {
                    prop_assert!(slot.align.is_power_of_two() && slot.align_offset < slot.align);
                }
                at = part.offset + part.size;
            }
            prop_assert_eq!(at, bar.size);
            if mte && host.kernel.arch == Some(Arch::Arm64) {
                prop_assert!(bar.parts.iter().all(|p| p.how == plan::How::Trap) || !it.possible);
            }
        }
        serde_json::to_string(&it).unwrap();
        let example = plan::example(&host);
        prop_assert!(request("example", &example).is_ok(), "{}", example);
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        let _ = request("any", &text);
    }

    #[test]
    fn a_good_file_with_a_fault(at in 0usize..600, with in "[\\x00-\\x7f]{0,3}", cut in 0usize..8) {
        let good = include_str!("vms/gpu.toml");
        let at = at.min(good.len());
        let text = format!("{}{with}{}", &good[..at], &good[(at + cut).min(good.len())..]);
        if let Err(fault) = request("vm.toml", &text) {
            prop_assert!(fault.line <= text.lines().count() + 1 && !fault.message.is_empty());
        }
    }
}
