//! The SMMU, exhaustively over what has a name.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use memtype::arm::{Features, NAMES, Shareability, Stage1, Stage2, Type};
use memtype::guarantee::Standing;
use memtype::iommu::{Ecap, IortFlags, Unit};
use memtype::smmu::{
    Config, Incoming, Override, Platform, Rule, Ste, Stream, because, is_reserved_override, override_type, transform,
};

fn stage1s() -> impl Iterator<Item = Option<Stage1>> {
    let named = NAMES.into_iter().flat_map(|(_, mair)| [0b00, 0b11].map(|sh| Stage1::decode(mair, sh, Features::NONE)));
    [None].into_iter().chain(named.map(Some))
}

fn stage2s() -> impl Iterator<Item = Option<Stage2>> {
    let all = (0..64u8).map(|bits| {
        Stage2::decode(bits & 32 != 0, bits >> 1 & 0xf, if bits & 1 != 0 { 0b11 } else { 0 }, Features::NONE)
    });
    [None].into_iter().chain(all.map(Some))
}

fn overrides() -> impl Iterator<Item = Override> {
    let memattrs = [None].into_iter().chain((0..16).map(Some));
    memattrs.flat_map(|memattr| (0..4).map(move |shcfg| Override { memattr, shcfg }))
}

fn platforms() -> impl Iterator<Item = Platform> {
    (0..16u8).map(|bits| Platform {
        attr_types_ovr: bits & 1 != 0,
        override_pcie: bits & 2 != 0,
        no_snoop: bits & 4 != 0,
        canwbs: bits & 8 != 0,
    })
}

fn every(mut check: impl FnMut(&Stream, Platform)) {
    for stage1 in stage1s() {
        for stage2 in stage2s() {
            for overrides in overrides() {
                for platform in platforms() {
                    for incoming in [Incoming::PCIE, Incoming::NONE] {
                        check(&Stream { incoming, overrides, stage1, stage2, no_snoop: false }, platform);
                    }
                }
            }
        }
    }
}

/// nGnRnE 0 … GRE 3, NC 4, WT 5, WB 6 by the weaker half.
fn rank(ty: Type) -> (u8, u8) {
    match ty {
        Type::Device(d) => (d as u8, d as u8),
        Type::Normal { inner, outer } => (4 + inner.policy as u8, 4 + outer.policy as u8),
    }
}

#[test]
fn no_snoop_takes_caches_away_and_nothing_else() {
    every(|stream, platform| {
        let with = transform(&Stream { no_snoop: true, ..*stream }, platform);
        let without = transform(stream, platform);
        if !without.ty.is_cacheable() || !platform.no_snoop || platform.canwbs {
            assert_eq!((with.ty, with.sh), (without.ty, without.sh));
        } else {
            assert_eq!((with.ty, with.sh), (Type::NORMAL_NC, Shareability::Outer));
        }
        assert!(!with.is_coherent() || without.is_coherent());
    });
}

#[test]
fn never_weaker_than_a_stage_without_fwb() {
    every(|stream, platform| {
        let out = transform(stream, platform);
        let (inner, outer) = rank(out.ty);
        if let (Some(s2), Some(s1)) = (stream.stage2.filter(|s| !s.is_fwb()), stream.stage1) {
            let (i1, o1) = rank(s1.ty());
            assert!(inner <= i1 && outer <= o1, "{stream:?}");
            let alone = transform(
                &Stream { stage1: Some(Stage1::new(Type::NORMAL_WB, Shareability::Inner)), ..*stream },
                platform,
            );
            let (i2, o2) = rank(alone.ty);
            assert!(inner <= i2 && outer <= o2, "{stream:?} {s2:?}");
        }
        // Device and Normal-NC are outer shareable.
        assert!(out.ty.is_cacheable() || out.sh == Shareability::Outer);
    });
}

#[test]
fn s2fwb_forces_write_back_whatever_stage_1_and_the_ste_say() {
    let force = Stage2::decode(true, 0b0110, 0b11, Features::NONE);
    every(|stream, platform| {
        let stream = Stream { stage2: Some(force), ..*stream };
        assert!(transform(&stream, platform).is_coherent(), "{stream:?}");
        // And No Snoop undoes it, unless firmware promises.
        let out = transform(&Stream { no_snoop: true, ..stream }, platform);
        assert_eq!(out.is_coherent(), platform.canwbs || !platform.no_snoop);
    });
}

#[test]
fn overrides_count_where_they_may_and_stage_1_does_not_replace() {
    every(|stream, platform| {
        let plain = transform(&Stream { overrides: Override::INCOMING, ..*stream }, platform);
        let out = transform(stream, platform);
        let counts = platform.attr_types_ovr && (!stream.incoming.pcie || platform.override_pcie);
        if !counts || stream.stage1.is_some() {
            assert_eq!((out.ty, out.sh), (plain.ty, plain.sh), "{stream:?}");
        } else if let (Some(memattr), None) = (stream.overrides.memattr, stream.stage2) {
            assert_eq!(out.ty, override_type(memattr));
        }
    });
    // The other three of the four with 0b00 in the low half are reserved, and Device-nGnRnE.
    for memattr in 0..=255 {
        let reserved = [4, 8, 12].contains(&(memattr & 15));
        assert_eq!(is_reserved_override(memattr), reserved);
        assert!(!reserved || override_type(memattr).name() == "device-ngnrne");
    }
    assert_eq!(override_type(0b0101).name(), "normal-nc");
    assert_eq!(override_type(0b1111).name(), "normal-wb");
}

#[test]
fn every_outcome_says_why() {
    every(|stream, platform| {
        for no_snoop in [false, true] {
            let rules: Vec<Rule> = because(&Stream { no_snoop, ..*stream }, platform).collect();
            assert_eq!(rules.contains(&Rule::Stage1), stream.stage1.is_some());
            assert!(rules.iter().all(|r| r.says().ends_with('.') && !r.cite().place.is_empty()));
            let about_snoop = rules
                .iter()
                .filter(|r| matches!(r, Rule::NoSnoop | Rule::NoSnoopIdle | Rule::NoSnoopIgnored | Rule::Canwbs));
            assert_eq!(about_snoop.count(), usize::from(no_snoop));
        }
    });
}

/// IHI 0070 5.2, written down a second time: the doubleword and the bit in it; those of Linux's `arm-smmu-v3.h` among them
/// (STRTAB_STE_1_SHCFG 45:44, STRTAB_STE_1_S2FWB 25, STRTAB_STE_1_EATS 29:28, STRTAB_STE_0_CFG 3:1).
#[test]
fn fields_of_the_ste() {
    let one = |word: usize, bit: u32| {
        let mut words = [0; 8];
        words[word] = 1 << bit;
        Ste(words)
    };
    assert!(one(0, 0).is_valid());
    assert!(one(1, 25).s2fwb());
    assert_eq!(one(1, 36).overrides(), Override { memattr: Some(0), shcfg: 0 });
    assert_eq!(Ste([0, 1 << 36 | 0xf << 32, 0, 0, 0, 0, 0, 0]).overrides().memattr, Some(15));
    assert_eq!((one(1, 44).overrides().shcfg, one(1, 45).overrides().shcfg), (1, 2));
    assert_eq!((one(1, 28).eats(), one(1, 29).eats()), (1, 2));
    assert_eq!((one(1, 37).alloccfg(), one(1, 40).alloccfg()), (1, 8));
    for (bits, config) in [
        (0, Config::Abort),
        (3, Config::Abort),
        (4, Config::Bypass),
        (5, Config::Stage1),
        (6, Config::Stage2),
        (7, Config::Both),
    ] {
        assert_eq!(Ste([bits << 1, 0, 0, 0, 0, 0, 0, 0]).config(), config);
    }
    // Total, on any bits and any field.
    let mut state = 1u64;
    for _ in 0..2000 {
        let ste = Ste([(); 8].map(|()| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state
        }));
        let _ = (ste.config(), ste.overrides(), ste.field((state >> 32) as u32, (state >> 40) as u32 % 64 + 1));
    }
}

#[test]
fn who_can_force_snooping() {
    let forces = |unit: Unit| unit.forces_snoop().standing == Standing::Guaranteed;
    for bits in 0..64 {
        assert_eq!(forces(Unit::VtD(Ecap(1 << bits))), bits == 7);
    }
    assert!(forces(Unit::AmdVi) && forces(Unit::Smmu { canwbs: true }));
    for unit in [Unit::Smmu { canwbs: false }, Unit::SmmuV2, Unit::Riscv, Unit::Virtio, Unit::VtD(Ecap(!(1 << 7)))] {
        assert!(!forces(unit) && !unit.snoops(true) && unit.snoops(false), "{unit:?}");
    }
    for bits in 0..=255u8 {
        let flags = IortFlags(bits);
        let back = u8::from(flags.coherent_path())
            | u8::from(flags.device_attributes_cacheable()) << 1
            | u8::from(flags.canwbs()) << 2;
        assert_eq!(back, bits & 7);
    }
}
