//! The fences against statements made a second time, and against the guarantees of the memory types.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use memtype::barrier::{Effect, Effects, FENCES, Fence, PRACTICES, Practice, Project, Relation, Role, judge, needs};
use memtype::cite::Checked;
use memtype::guarantee::{Question, Standing};
use memtype::{Arch, MemoryType};

fn names(arch: Arch, role: Role) -> Vec<&'static str> {
    needs(arch, role).map(|f| f.name).collect()
}

fn fence(arch: Arch, name: &str) -> &'static Fence {
    Fence::named(arch, name).unwrap_or_else(|| panic!("{arch} {name}"))
}

fn practice(project: Project, arch: Arch, role: Role, call: &str) -> &'static Practice {
    let found: Vec<_> =
        PRACTICES.iter().filter(|p| (p.project, p.arch, p.role, p.call) == (project, arch, role, call)).collect();
    assert_eq!(found.len(), 1, "{project:?} {arch} {role:?} {call}");
    found[0]
}

/// The whole of what is needed, written down by hand: what the computation must come to.
#[test]
fn needs_is_this_table() {
    use Role::*;
    let plain = Fence::PLAIN;
    let table: [(Role, [&[&str]; 6]); 8] = [
        // arm64, x86, riscv, power, loongarch, s390
        (DmaToDevice, [&["DMB OSHST"], &[plain], &["fence w,o"], &["sync"], &["dbar 0b01010"], &[plain]]),
        (
            DeviceToDma,
            [&["DMB OSHLD"], &[plain], &["fence i,r", "fence i,ir"], &["twi; isync"], &["dbar 0b00101"], &[plain]],
        ),
        (RecordWrite, [&["DMB OSHST"], &[plain], &["fence w,w"], &["eieio"], &["dbar 0b01010"], &[plain]]),
        (
            RecordRead,
            [&["DMB OSHLD"], &[plain], &["fence r,r"], &["lwsync", "twi; isync"], &["dbar 0b00101"], &[plain]],
        ),
        (
            WcStart,
            [&["DMB OSHST"], &["SFENCE"], &["fence ow,o", "fence ow,w"], &["sync"], &["dbar 0b01010"], &["PCIWB"]],
        ),
        (WcBetween, [&["DMB OSHST"], &["SFENCE"], &[], &["sync"], &["dbar 0b01010"], &["PCIWB"]]),
        (WcFlush, [&["DSB OSHST"], &["SFENCE"], &[], &["sync"], &["dbar 0b01010"], &["PCIWB"]]),
        (StopCombining, [&["DGH"], &["SFENCE"], &[], &["sync"], &["dbar 0b01010"], &["PCIWB"]]),
    ];
    assert_eq!(table.map(|(role, _)| role), Role::ALL);
    for (role, by_arch) in table {
        for (arch, expected) in Arch::ALL.into_iter().zip(by_arch) {
            assert_eq!(names(arch, role), expected, "{arch} {}", role.name());
        }
    }
}

/// Nothing that the architecture can say is weaker than what is listed: all FENCEs of RISC-V, tried by brute force on what
/// the manual says of the four sets.
#[test]
fn no_riscv_fence_is_missing() {
    // Accesses by kind: what bits each counts as, before and after.
    const I: u8 = 8;
    const O: u8 = 4;
    const R: u8 = 2;
    const W: u8 = 1;
    let orders = |pred: u8, succ: u8, role: Role| {
        let (a, b) = match role {
            Role::DmaToDevice => (&[W][..], O),
            Role::DeviceToDma => (&[I][..], R),
            Role::RecordWrite => (&[W][..], W),
            Role::RecordRead => (&[R][..], R),
            // A WC access is in the set if either bit is.
            Role::WcStart => (&[O, W][..], O | W),
            _ => unreachable!(),
        };
        a.iter().all(|bit| pred & bit != 0) && succ & b != 0
    };
    let roles = [Role::DmaToDevice, Role::DeviceToDma, Role::RecordWrite, Role::RecordRead, Role::WcStart];
    let name = |set: u8| -> String {
        [(I, 'i'), (O, 'o'), (R, 'r'), (W, 'w')].iter().filter(|(bit, _)| set & bit != 0).map(|(_, c)| *c).collect()
    };
    for role in roles {
        // Of all 225 pairs, the smallest: no bit can be left out.
        let mut smallest = BTreeSet::new();
        for pred in 1..16u8 {
            for succ in 1..16u8 {
                let fewer = |set: u8| (0..4).map(move |i| set & !(1 << i)).filter(move |s| *s != set && *s != 0);
                if orders(pred, succ, role)
                    && !fewer(pred).any(|p| orders(p, succ, role))
                    && !fewer(succ).any(|s| orders(pred, s, role))
                {
                    smallest.insert(format!("fence {},{}", name(pred), name(succ)));
                }
            }
        }
        let mut listed: BTreeSet<_> = names(Arch::Riscv, role).into_iter().map(String::from).collect();
        // `i` after `i` is no effect of ours: UC reads are ordered anyway.
        listed.remove("fence i,ir");
        assert_eq!(listed, smallest, "{}", role.name());
    }
}

/// Every DMB and DSB of Table B2-1 from OSH on, and what it orders, from the table's own rows.
#[test]
fn arm_is_table_b2_1() {
    for (ty, before, after) in [("LD", "r", "rw"), ("ST", "w", "w"), ("", "rw", "rw")] {
        for (domain, far) in [("OSH", true), ("", true), ("ISH", false)] {
            for dsb in [false, true] {
                let option = match (domain, ty) {
                    ("", "") => "SY".into(),
                    _ => format!("{domain}{ty}"),
                };
                let name = format!("{} {option}", if dsb { "DSB" } else { "DMB" });
                let Some(f) = Fence::named(Arch::Arm64, &name) else {
                    assert!(!far || name.contains("ISH"), "{name}");
                    continue;
                };
                let writes = before.contains('w') && after.contains('w');
                for effect in [Effect::WcBeforeWc, Effect::WcApart, Effect::WcBeforeUc, Effect::RamBeforeUc] {
                    assert_eq!(f.standing(effect) == Standing::Guaranteed, writes && far, "{name} {effect:?}");
                    assert_eq!(f.standing(effect) == Standing::ImplementationDefined, writes && !far, "{name}");
                }
                assert_eq!(f.guaranteed.has(Effect::UcReadFirst), before.contains('r') && far, "{name}");
                assert_eq!(f.guaranteed.has(Effect::Drains), dsb && writes && far, "{name}");
                assert_eq!(f.guaranteed.has(Effect::FullSystem), domain.is_empty(), "{name}");
            }
        }
    }
}

/// What maintainers argue about, each as it must come out.
#[test]
fn the_known_points() {
    use Arch::*;
    use Project::*;
    use Role::*;
    let relation = |project, arch, role, call| practice(project, arch, role, call).relation();

    // arm64: the same burst, flushed four ways.
    let Relation::Stronger(more) = relation(RdmaCore, Arm64, WcFlush, "mmio_flush_writes()") else { panic!() };
    assert_eq!(more, Effects::of(&[Effect::FullSystem]));
    assert_eq!(relation(Linux, Arm64, WcFlush, "wmb()"), Relation::Stronger(more));
    let late = Relation::Weaker(Effects::of(&[Effect::Drains]));
    assert_eq!(relation(Dpdk, Arm64, WcFlush, "rte_wmb()"), late);
    assert_eq!(relation(Gdrcopy, Arm64, WcFlush, "wc_store_fence()"), late);
    assert_eq!(relation(Ucx, Arm64, WcFlush, "ucs_memory_bus_cacheline_wc_flush()"), Relation::Hint);
    assert_eq!(relation(Linux, Arm64, StopCombining, "io_stop_wc()"), Relation::Hint);
    assert_eq!(relation(Linux, Arm64, StopCombining, "__iowrite64_copy()"), Relation::Hint);
    // Only the order: OSHST is what it takes, ST reaches further, DSB waits as well.
    assert_eq!(relation(Ucx, Arm64, WcBetween, "ucs_memory_cpu_wc_fence()"), Relation::Exact);
    assert_eq!(
        relation(Gdrcopy, Arm64, WcBetween, "wc_store_fence()"),
        Relation::Stronger(Effects::of(&[Effect::FullSystem]))
    );
    let Relation::Stronger(more) = relation(RdmaCore, Arm64, WcBetween, "mmio_flush_writes()") else { panic!() };
    assert!(more.has_all(Effects::of(&[Effect::FullSystem, Effect::Waits, Effect::Drains])));
    let Relation::Stronger(more) = relation(Spdk, Arm64, DmaToDevice, "spdk_wmb()") else { panic!() };
    assert!(more.has(Effect::Waits));
    for (project, call) in
        [(Linux, "writel()"), (RdmaCore, "udma_to_device_barrier()"), (Ucx, "ucs_memory_bus_store_fence()")]
    {
        assert_eq!(relation(project, Arm64, DmaToDevice, call), Relation::Exact);
    }
    // The hint guarantees nothing whatever.
    let dgh = fence(Arm64, "DGH");
    assert!(dgh.guaranteed.is_empty() && dgh.open.is_empty());
    assert!(Effect::ALL.iter().all(|e| dgh.standing(*e) == Standing::Permitted));
    assert!(matches!(judge(dgh, DmaToDevice), Relation::Weaker(_)), "it is no hint about RAM");

    // x86: nothing from RAM to a register, SFENCE for WC.
    assert_eq!(relation(RdmaCore, X86, DmaToDevice, "udma_to_device_barrier()"), Relation::Exact);
    assert_eq!(relation(Dpdk, X86, DmaToDevice, "rte_io_wmb()"), Relation::Exact);
    assert!(matches!(relation(Ucx, X86, DmaToDevice, "ucs_memory_bus_store_fence()"), Relation::Stronger(_)));
    let io_wmb = practice(Dpdk, X86, DmaToDevice, "rte_io_wmb()").fence().unwrap();
    for role in [WcStart, WcBetween, WcFlush] {
        assert_eq!(judge(io_wmb, role), Relation::Nothing, "{role:?}");
        assert_eq!(judge(fence(X86, "SFENCE"), role), Relation::Exact, "{role:?}");
        assert!(matches!(judge(fence(X86, "MFENCE"), role), Relation::Stronger(_)));
    }
    assert_eq!(relation(Dpdk, X86, WcBetween, "rte_io_wmb()"), Relation::Nothing);
    assert_eq!(relation(Ucx, X86, WcFlush, "ucs_memory_bus_cacheline_wc_flush()"), Relation::Nothing);
    assert!(matches!(relation(RdmaCore, X86, DeviceToDma, "udma_from_device_barrier()"), Relation::Stronger(_)));

    // RISC-V: `rw,rw` orders NC because NC counts as memory too, and nothing that is I/O alone.
    let rw = practice(Ucx, Riscv, WcBetween, "ucs_memory_cpu_wc_fence()").fence().unwrap();
    assert!(rw.guaranteed.has(Effect::WcBeforeWc) && rw.guaranteed.has(Effect::RamBeforeWc));
    for io in [Effect::WcBeforeUc, Effect::UcBeforeWc, Effect::RamBeforeUc, Effect::UcReadFirst] {
        assert!(!rw.guaranteed.has(io), "{io:?}");
    }
    assert!(fence(Riscv, "fence ow,ow").guaranteed.has_all(Effects::of(&[Effect::WcBeforeUc, Effect::UcBeforeWc])));
    assert_eq!(relation(Linux, Riscv, DmaToDevice, "writel()"), Relation::Exact);
    assert_eq!(relation(Dpdk, Riscv, DmaToDevice, "rte_wmb()"), Relation::Weaker(Effects::of(&[Effect::RamBeforeUc])));
    assert!(matches!(relation(Dpdk, Riscv, DmaToDevice, "rte_io_wmb()"), Relation::Stronger(_)));

    // Power: lwsync and eieio are not for a WC mapping, nor lwsync for a register.
    assert_eq!(
        relation(RdmaCore, Power, DeviceToDma, "udma_from_device_barrier()"),
        Relation::Weaker(Effects::of(&[Effect::UcReadFirst]))
    );
    assert_eq!(relation(RdmaCore, Power, RecordRead, "udma_from_device_barrier()"), Relation::Exact);
    for name in ["eieio", "lwsync"] {
        for role in [WcStart, WcBetween, WcFlush, DmaToDevice] {
            assert!(matches!(judge(fence(Power, name), role), Relation::Weaker(_)), "{name} {role:?}");
        }
    }
    // LoongArch: a barrier of the ordering kind is for memory between CPUs.
    assert!(matches!(judge(fence(LoongArch, "dbar 0b11010"), WcBetween), Relation::Weaker(_)));
    // A record that the device reads, kept in order for the inner shareable domain only.
    assert_eq!(
        relation(Ucx, Arm64, RecordWrite, "ucs_memory_cpu_store_fence()"),
        Relation::Weaker(Effects::of(&[Effect::RamBeforeRam]))
    );
    assert_eq!(fence(Arm64, "DMB ISHST").standing(Effect::RamBeforeRam), Standing::ImplementationDefined);
}

#[test]
fn judging_is_coherent() {
    let mut seen = BTreeSet::new();
    for f in FENCES {
        for role in Role::ALL {
            let relation = judge(f, role);
            let weakest: Vec<_> = needs(f.arch, role).collect();
            match relation {
                Relation::Exact => assert!(weakest.iter().any(|w| w.guaranteed == f.guaranteed), "{} {role:?}", f.name),
                Relation::Stronger(more) => {
                    assert!(!more.is_empty() && f.guaranteed.has_all(more));
                    assert!(!more.has_all(role.wants()) || role.is_hint(), "{} {role:?}", f.name);
                    assert!(weakest.iter().any(|w| w.is_weaker_than(f)) && f.suffices(role));
                }
                Relation::Weaker(missing) => {
                    assert!(!missing.is_empty() && role.wants().has_all(missing));
                    assert!(!f.suffices(role) && f.is_instruction());
                }
                Relation::Hint => {
                    assert!(!f.hints.common(role.wants()).is_empty() && f.is_instruction());
                    assert!(f.guaranteed.common(role.wants()).is_empty());
                }
                Relation::Nothing => assert!(!f.is_instruction() && !f.suffices(role)),
            }
            if relation.is_enough() {
                assert!(f.suffices(role));
            }
            for other in Fence::of(f.arch).filter(|o| f.is_weaker_than(o)) {
                assert!(!f.suffices(role) || other.suffices(role) || role.is_hint(), "{} < {}", f.name, other.name);
                assert!(!other.is_weaker_than(f));
            }
        }
    }
    for p in PRACTICES {
        seen.insert(p.relation().name());
    }
    // Each relation is found in practice.
    assert_eq!(seen, BTreeSet::from(["exact", "stronger", "weaker", "hint", "nothing"]));
}

#[test]
fn the_tables_are_whole() {
    for f in FENCES {
        let same = FENCES.iter().filter(|o| o.arch == f.arch && o.name.eq_ignore_ascii_case(f.name)).count();
        assert_eq!(same, 1, "{} {}", f.arch, f.name);
        assert!(f.guaranteed.iter().all(|e| !f.open.has(e) && !f.hints.has(e)), "{}", f.name);
        let plain = fence(f.arch, Fence::PLAIN);
        assert!(f.guaranteed.has_all(plain.guaranteed) || !f.open.is_empty(), "{}", f.name);
        for effect in Effect::ALL {
            assert!(!f.cite(effect).place.is_empty());
        }
    }
    for arch in Arch::ALL {
        assert_eq!(Fence::of(arch).next().unwrap().name, Fence::PLAIN);
        // Each architecture has a fence for each role, but RISC-V for what its manual does not promise.
        for role in Role::ALL {
            let none = arch == Arch::Riscv && (role.wants().has(Effect::WcApart) || role.wants().has(Effect::Drains));
            assert_eq!(names(arch, role).is_empty(), none, "{arch} {role:?}");
        }
    }
    let mut rows = BTreeSet::new();
    for p in PRACTICES {
        assert!(p.fence().is_some(), "{p:?}");
        assert!(rows.insert((p.project.name(), p.arch.name(), p.role.name(), p.call)), "{p:?}");
        assert_eq!(p.source().checked, Checked::Read);
        assert!(!p.project.revision().is_empty() && p.place.contains('/'), "{p:?}");
    }
    for project in Project::ALL {
        assert!(PRACTICES.iter().any(|p| p.project == project));
    }
    for set in [Effects::NONE, Effects::of(&Effect::ALL)] {
        assert_eq!(set.iter().count(), if set.is_empty() { 0 } else { Effect::ALL.len() });
    }
    assert_eq!(Effects::of(&[Effect::Drains, Effect::WcApart]).to_string(), "wc-apart, drains");
    let names: BTreeSet<_> = Effect::ALL.iter().map(|e| e.name()).collect();
    assert_eq!(names.len(), Effect::ALL.len());
}

/// The type that is write-combining on each architecture.
const WC: [&str; 6] = ["arm64:normal-nc", "x86:wc", "riscv:nc", "power:i", "loongarch:wuc", "s390:mio-wc"];

/// What the memory types say orders and drains them is a fence that does.
#[test]
fn the_guarantees_of_wc_types_agree() {
    for (arch, name) in Arch::ALL.into_iter().zip(WC) {
        let ty = MemoryType::named(name).unwrap();
        assert_eq!(ty.arch(), arch);
        for (question, effects) in [
            (Question::Orders, Effects::of(&[Effect::WcBeforeWc])),
            (Question::Separates, Effects::of(&[Effect::WcApart])),
            (Question::Drains, Effects::of(&[Effect::Drains])),
        ] {
            let Some(g) = ty.guarantee(question) else { continue };
            let fences: Vec<_> = g.by.iter().map(|by| (by, Fence::named(arch, by))).collect();
            if g.standing == Standing::Guaranteed {
                let (by, first) = fences.first().unwrap_or_else(|| panic!("{name} {question:?}: by nothing"));
                let first = first.unwrap_or_else(|| panic!("{name} {question:?}: {by} is no fence"));
                assert!(first.guaranteed.has_all(effects), "{name} {question:?}: {by} is not said to");
            } else {
                assert!(
                    !Fence::of(arch).any(|f| f.guaranteed.has_all(effects)),
                    "{name} {question:?}: a fence does, the type says {:?}",
                    g.standing
                );
            }
        }
    }
}
