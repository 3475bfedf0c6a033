//! The SMMU, exhaustively over what has a name.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use memtype::arm::{Features, NAMES, Shareability, Stage1, Stage2, Type};
use memtype::guarantee::Standing;
use memtype::iommu::{Ecap, IortAccess, IortFlags, Unit};
use memtype::smmu::{
    Bits, Config, Gbpa, Illegal, Incoming, Override, Platform, Rule, Ste, Stream, because, is_reserved_override,
    override_type, stage1, transform,
};

fn stage1s() -> impl Iterator<Item = Option<Stage1>> {
    let named = NAMES.into_iter().flat_map(|(_, mair)| [0b00, 0b11].map(|sh| stage1(mair, sh)));
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
        // Idempotent: what came out, with No Snoop again and no stage to change it, stays.
        let again = Incoming { attributes: Stage1::new(with.ty, with.sh), pcie: false };
        let again = Stream { incoming: again, no_snoop: true, ..Stream::PCIE };
        let again = transform(&again, platform);
        assert_eq!((again.ty, again.sh), (with.ty, with.sh));
    });
}

#[test]
fn canwbs_is_a_promise_about_memory_and_changes_no_attribute() {
    every(|stream, platform| {
        for no_snoop in [false, true] {
            let stream = Stream { no_snoop, ..*stream };
            let out = transform(&stream, platform);
            assert_eq!(out.promised, platform.canwbs);
            assert_eq!(out.is_coherent(), platform.canwbs || out.attributes_are_coherent());
            let says = because(&stream, platform).any(|rule| rule == Rule::Canwbs);
            assert_eq!(says, platform.canwbs && (no_snoop || !out.attributes_are_coherent()));
            if !no_snoop {
                let without = transform(&stream, Platform { canwbs: false, ..platform });
                assert_eq!((out.ty, out.sh), (without.ty, without.sh));
            }
        }
    });
}

/// IHI 0070 5.4, the table of CD.MAIR, a second time: by name, from the bits.
#[test]
fn each_byte_of_mair() {
    for mair in 0..=255u8 {
        let it = stage1(mair, 0b11);
        let (high, low) = (mair >> 4, mair & 15);
        let half = |bits: u8| match bits >> 2 {
            0 | 2 => "wt",
            1 if bits & 3 == 0 => "nc",
            _ => "wb",
        };
        let (name, reserved) = if high == 0 {
            let device = ["device-ngnrne", "device-ngnre", "device-ngre", "device-gre"];
            (device[usize::from(low >> 2)].to_string(), low & 3 != 0)
        } else {
            let (inner, outer) = (if low == 0 { "wt" } else { half(low) }, half(high));
            let name = if inner == outer { format!("normal-{inner}") } else { format!("normal-i{inner}-o{outer}") };
            (name, low == 0)
        };
        assert_eq!((it.ty().name(), it.reserved_mair.is_some()), (name.as_str(), reserved), "{mair:#x}");
        // Where the SMMU does not differ from a CPU without the features, it is the same.
        let cpu = Stage1::decode(mair, 0b11, Features::NONE);
        if !reserved {
            assert_eq!(it, cpu, "{mair:#x}");
        }
        let stream = Stream { stage1: Some(it), ..Stream::PCIE };
        assert_eq!(because(&stream, Platform::SBSA).any(|rule| rule == Rule::ReservedMair), reserved);
    }
    // Tagged memory, which is Write-Back to a CPU: a device that shares the CPU's tables does not snoop for it.
    let tagged = Stream { stage1: Some(stage1(0xf0, 0b11)), ..Stream::PCIE };
    assert!(!transform(&tagged, Platform::SBSA).is_coherent());
    assert_eq!(Stage1::decode(0xf0, 0b11, Features::LATEST).ty(), Type::NORMAL_WB);
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
            let about_snoop = |r: &&Rule| matches!(r, Rule::NoSnoop | Rule::NoSnoopIdle | Rule::NoSnoopIgnored);
            let count = rules.iter().filter(about_snoop).count();
            assert!(count <= usize::from(no_snoop));
            assert_eq!(count > 0 || no_snoop && rules.contains(&Rule::Canwbs), no_snoop);
        }
    });
}

/// Doubleword, highest and lowest bit in it, name: what Linux's `arm-smmu-v3.h` has of the STE (STRTAB_STE_n_*, and for VTCR
/// the field in it), which is a second source to IHI 0070 5.2.
const LINUX: [(usize, u32, u32, &str); 30] = [
    (0, 0, 0, "V"),
    (0, 3, 1, "Config"),
    (0, 5, 4, "S1Fmt"),
    (0, 63, 59, "S1CDMax"),
    (1, 1, 0, "S1DSS"),
    (1, 3, 2, "S1CIR"),
    (1, 5, 4, "S1COR"),
    (1, 7, 6, "S1CSH"),
    (1, 19, 19, "MEV"),
    (1, 25, 25, "S2FWB"),
    (1, 27, 27, "S1STALLD"),
    (1, 29, 28, "EATS"),
    (1, 31, 30, "STRW"),
    (1, 45, 44, "SHCFG"),
    (2, 15, 0, "S2VMID"),
    (2, 32 + 5, 32, "S2T0SZ"),
    (2, 32 + 7, 32 + 6, "S2SL0"),
    (2, 32 + 9, 32 + 8, "S2IR0"),
    (2, 32 + 11, 32 + 10, "S2OR0"),
    (2, 32 + 13, 32 + 12, "S2SH0"),
    (2, 32 + 15, 32 + 14, "S2TG"),
    (2, 32 + 18, 32 + 16, "S2PS"),
    (2, 51, 51, "S2AA64"),
    (2, 52, 52, "S2ENDI"),
    (2, 54, 54, "S2PTW"),
    (2, 57, 57, "S2S"),
    (2, 58, 58, "S2R"),
    // IHI 0070 alone: the overrides Linux does not use, and pointers it has narrower.
    (1, 36, 36, "MTCFG"),
    (1, 35, 32, "MemAttr"),
    (1, 40, 37, "ALLOCCFG"),
];

#[test]
fn fields_of_the_ste() {
    for (word, high, low, name) in LINUX {
        let bits = Bits::ALL.into_iter().find(|b| b.name == name).unwrap();
        assert_eq!(
            (u32::from(bits.high), u32::from(bits.low)),
            (word as u32 * 64 + high, word as u32 * 64 + low),
            "{name}"
        );
        let mut words = [0; 8];
        words[word] = u64::MAX;
        assert_eq!(Ste(words).get(bits), (1 << (high - low + 1)) - 1, "{name}");
        words[word] = !((u64::MAX >> (63 - high)) & (u64::MAX << low));
        assert_eq!(Ste(words).get(bits), 0, "{name}");
    }
    // In order, apart, each in one doubleword. What is between them is reserved or IMPLEMENTATION DEFINED (5.2).
    let between: Vec<(u16, u16)> =
        Bits::ALL.windows(2).map(|w| (w[0].high + 1, w[1].low)).filter(|(a, b)| a != b).collect();
    assert_eq!(between, [(56, 59), (82 + 23, 108), (116, 128), (144, 160), (248, 253)]);
    assert!(Bits::ALL.iter().all(|b| b.low <= b.high && b.low / 64 == b.high / 64));

    let one = |word: usize, bit: u32| {
        let mut words = [0; 8];
        words[word] = 1 << bit;
        Ste(words)
    };
    assert!(one(0, 0).is_valid() && one(1, 25).s2fwb());
    assert_eq!(one(1, 36).overrides(), Override { memattr: Some(0), shcfg: 0 });
    assert_eq!(Ste([0, 1 << 36 | 0xf << 32, 0, 0, 0, 0, 0, 0]).overrides().memattr, Some(15));
    assert_eq!((one(1, 44).overrides().shcfg, one(1, 45).overrides().shcfg), (1, 2));
    assert_eq!((one(1, 37).alloccfg(), one(1, 40).alloccfg()), (1, 8));
    for (bits, config) in [
        (0, Config::Abort),
        (1, Config::Abort),
        (2, Config::Abort),
        (3, Config::Abort),
        (4, Config::Bypass),
        (5, Config::Stage1),
        (6, Config::Stage2),
        (7, Config::Both),
    ] {
        let ste = Ste([bits << 1, 0b01 << 28, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ste.config(), config);
        // STRTAB_STE_0_CFG_{ABORT, BYPASS, S1_TRANS, S2_TRANS}; EATS is ignored where nothing translates.
        assert_eq!(ste.eats(), u8::from(config.stage1() || config.stage2()));
        assert_eq!((config.stage1(), config.stage2()), (bits > 4 && bits & 1 != 0, bits > 4 && bits & 2 != 0));
    }
}

/// 5.2 STE.S1DSS: counts with stage 1 and more than one context descriptor.
#[test]
fn without_a_substream() {
    for config in 0..8u64 {
        for s1cdmax in [0, 1, 20] {
            for s1dss in 0..4 {
                let ste = Ste([1 | config << 1 | s1cdmax << 59, s1dss, 0, 0, 0, 0, 0, 0]);
                let without = ste.config_without_substream();
                let want = match (config & 0b101 == 0b101 && s1cdmax > 0, s1dss) {
                    (false, _) | (true, 0b10) => ste.config(),
                    // As though Config were 0b1x0.
                    (true, 0b01) => Ste([1 | (config & 0b110) << 1, 0, 0, 0, 0, 0, 0, 0]).config(),
                    (true, _) => Config::Abort,
                };
                assert_eq!(without, want, "{config:#b} {s1cdmax} {s1dss}");
            }
        }
    }
}

#[test]
fn illegal_entries() {
    let all = |dword0: u64, dword1: u64, dword2: u64| -> Vec<Illegal> {
        Ste([dword0, dword1, dword2, 0, 0, 0, 0, 0]).illegal().iter().collect()
    };
    let (aa64, stall, fwb) = (1 << 51, 1 << 57, 1 << 25);
    assert_eq!(all(0b1101, fwb, aa64), []);
    assert_eq!(all(0b1101, fwb, 0), [Illegal::FwbOnLpae]);
    // S2FWB is ignored where stage 2 does not translate.
    assert_eq!(all(0b1011, fwb, 0), []);
    assert_eq!(all(0b1111, 0b10 << 28, aa64), []);
    assert_eq!(all(0b1101, 0b10 << 28, aa64), [Illegal::SplitAts]);
    assert_eq!(all(0b1111, 0b10 << 28, aa64 | stall), [Illegal::SplitAts]);
    assert_eq!(all(0b1111, 0b01 << 28, aa64 | stall), [Illegal::StallingAts]);
    assert_eq!(all(0b1011, 0b01 << 28, stall), []);
    assert_eq!(all(0b1001, 0b10 << 28, 0), []);
    assert_eq!(all(0b1011, 0b01 << 30, 0), [Illegal::StreamWorld]);
    assert_eq!(all(0b1111, 0b01 << 30, aa64), []);
    assert_eq!(all(0b1101, 0, aa64 | 0b11 << 46), [Illegal::Granule]);
    // Of an entry that is not valid the rest is ignored.
    assert_eq!(all(0b1100, fwb, 0), []);
    assert!(Ste([0b1100, fwb, 0, 0, 0, 0, 0, 0]).illegal().is_empty());
    assert!(!Ste([0b1101, fwb, 0, 0, 0, 0, 0, 0]).illegal().is_empty());
}

/// GBPA has what the STE has, elsewhere (6.3.14): the same bits mean the same.
#[test]
fn gbpa_overrides_as_an_ste_that_bypasses() {
    for (memattr, mtcfg, shcfg) in (0..16u32).flat_map(|m| (0..8).map(move |r| (m, r & 1, r >> 1))) {
        let gbpa = Gbpa(memattr | mtcfg << 4 | shcfg << 12);
        let dword1 = u64::from(memattr) << 32 | u64::from(mtcfg) << 36 | u64::from(shcfg) << 44;
        assert_eq!(gbpa.overrides(), Ste([0b1001, dword1, 0, 0, 0, 0, 0, 0]).overrides());
        // ABORT, ALLOCCFG and the rest change nothing about it.
        let noisy = Gbpa(gbpa.0 | !(0xf | 1 << 4 | 3 << 12));
        assert_eq!(noisy.overrides(), gbpa.overrides());
        assert!(noisy.aborts() && !gbpa.aborts());
        assert_eq!((noisy.alloccfg(), gbpa.alloccfg()), (15, 0));
    }
}

/// Total, on any bits.
#[test]
fn any_pattern_decodes() {
    let mut state = 1u64;
    for _ in 0..20_000 {
        let ste = Ste([(); 8].map(|()| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        }));
        let sum = Bits::ALL.iter().fold(0u64, |sum, b| sum ^ ste.get(*b));
        let _ = (sum, ste.config_without_substream(), ste.eats(), ste.illegal().iter().count());
        let _ = ste.field((state >> 32) as u32, (state >> 40) as u32 % 64 + 1);
        let stream = Stream { overrides: ste.overrides(), no_snoop: state & 1 != 0, ..Stream::PCIE };
        for override_pcie in [false, true] {
            let platform = Platform { override_pcie, ..Platform::SBSA };
            let out = transform(&stream, platform);
            assert!(out.ty.is_cacheable() || out.sh == Shareability::Outer);
            assert!(because(&stream, platform).count() > 0);
        }
    }
}

#[test]
fn who_can_force_snooping() {
    let forces = |unit: Unit| unit.forces_snoop().standing == Standing::Guaranteed;
    for bits in 0..64 {
        assert_eq!(forces(Unit::VtD(Ecap(1 << bits))), bits == 7);
    }
    assert!(forces(Unit::AmdVi { v2: false }) && forces(Unit::Smmu { canwbs: true }));
    let cannot = [
        Unit::Smmu { canwbs: false },
        Unit::SmmuV2,
        Unit::Riscv,
        Unit::Virtio,
        Unit::VtD(Ecap(!(1 << 7))),
        Unit::AmdVi { v2: true },
    ];
    for unit in cannot {
        assert!(!forces(unit) && !unit.snoops(true) && unit.snoops(false), "{unit:?}");
        // Linux answers as it is, but for one.
        assert_eq!(unit.linux_enforces(), unit == Unit::AmdVi { v2: true }, "{unit:?}");
        assert_eq!(unit.noncoherent_dma(), unit != Unit::AmdVi { v2: true });
    }
    // The bits, as Linux's headers have them: DMA_PTE_SNP, PASID_PTE bit 88, IOMMU_PTE_FC.
    use memtype::iommu::{AMD_LEAF_FC, VTD_LEAF_SNP, VTD_PASID_PGSNP};
    assert_eq!((VTD_LEAF_SNP, VTD_PASID_PGSNP, AMD_LEAF_FC), (0x800, 0x0100_0000, 0x1000_0000_0000_0000));
    for bits in 0..=255u8 {
        let flags = IortFlags(bits);
        let back = u8::from(flags.coherent_path())
            | u8::from(flags.device_attributes_cacheable()) << 1
            | u8::from(flags.canwbs()) << 2;
        assert_eq!(back, bits & 7);
        let clear = flags.says().iter().filter(|says| says.contains("= 0:")).count();
        assert_eq!(clear, (!bits & 7).count_ones() as usize);
        let access = IortAccess(u64::from(bits) << 56 | 1);
        assert_eq!((access.flags(), access.fully_coherent()), (flags, true));
        assert!(!IortAccess(u64::from(bits) << 56).fully_coherent());
    }
}
