//! Exhaustive checks against the tables of DDI 0487 M.a.a, written down here a second time in another shape.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use memtype::arm::*;

const F: Features = Features::LATEST;

/// The seven types that both stages can say without FWB, strictest first, with a MAIR byte and a MemAttr for each.
const ORDER: [(&str, u8, u8); 7] = [
    ("Device-nGnRnE", 0x00, 0b0000),
    ("Device-nGnRE", 0x04, 0b0001),
    ("Device-nGRE", 0x08, 0b0010),
    ("Device-GRE", 0x0c, 0b0011),
    ("Normal-NC", 0x44, 0b0101),
    ("Normal-WT", 0xbb, 0b1010),
    ("Normal-WB", 0xff, 0b1111),
];

#[test]
fn tables_d8_97_and_d8_98_are_the_minimum_of_one_order() {
    for (i, (_, mair, _)) in ORDER.iter().enumerate() {
        for (j, (_, _, attr)) in ORDER.iter().enumerate() {
            let c = combine(&Stage1::decode(*mair, 0b11, F), &Stage2::decode(false, *attr, 0b11, F));
            assert_eq!(c.ty.to_string(), ORDER[i.min(j)].0, "{mair:#x} {attr:#b}");
        }
    }
}

#[test]
fn tables_d8_100_and_d8_101_row_by_row() {
    // Rows as printed: MemAttr[2:0], stage 1 as an index into ORDER, the result as an index into ORDER.
    for (s1, (name, mair, _)) in ORDER.iter().enumerate() {
        for low in 0..8u8 {
            let device = s1 < 4;
            let expect = match low {
                0..=3 if device => s1.min(usize::from(low)),
                0..=3 => usize::from(low),
                0b101 if device => s1,
                0b101 => 4,
                0b110 => 6,
                0b111 => s1,
                _ => continue,
            };
            // Bit 3 is RES0 without FEAT_MTE_PERM and must change nothing.
            for attr in [low, low | 8] {
                let c = combine(&Stage1::decode(*mair, 0b11, F), &Stage2::decode(true, attr, 0b11, F));
                assert_eq!(c.ty.to_string(), ORDER[expect].0, "s1 {name} MemAttr {attr:#06b}");
                assert!(!c.is_reserved());
            }
        }
    }
}

#[test]
fn mair_every_byte_d24_2_127() {
    let (mut device, mut normal, mut reserved) = (0, 0, 0);
    for byte in 0..=255u8 {
        let s = Stage1::decode(byte, 0b11, F);
        let text = format!("{byte:08b}");
        let (hi, lo) = text.split_at(4);
        let policy = |n: &str| match n {
            "0100" => "NC",
            n if n.as_bytes()[1] == b'1' => "WB",
            _ => "WT",
        };
        match (hi, lo) {
            ("0000", lo) if lo.as_bytes()[2] == b'0' => {
                device += 1;
                let name = ["nGnRnE", "nGnRE", "nGRE", "GRE"][usize::from_str_radix(&lo[..2], 2).unwrap()];
                assert_eq!(s.ty().to_string(), format!("Device-{name}"));
                assert_eq!(s.xs, lo.ends_with('0'));
                assert_eq!(s.reserved_mair, None);
            }
            ("0000", _) => {
                reserved += 1;
                assert_eq!(s.reserved_mair, Some(Reserved::MairDevice));
            }
            ("0100" | "1010" | "1111", "0000") => {
                normal += 1;
                assert_eq!(
                    s.ty().name(),
                    ["normal-nc", "normal-wt", "normal-wb"][usize::from(hi != "0100") + usize::from(hi == "1111")]
                );
                assert!(!s.xs && s.reserved_mair.is_none());
                assert_eq!(s.tagging == Tagging::Tagged, hi == "1111");
                // Each of them is reserved without its feature.
                assert_eq!(Stage1::decode(byte, 3, Features::NONE).reserved_mair, Some(Reserved::MairFeature));
            }
            (_, "0000") => {
                reserved += 1;
                assert_eq!(s.reserved_mair, Some(Reserved::MairNormal));
            }
            (hi, lo) => {
                normal += 1;
                let (o, i) = (policy(hi), policy(lo));
                let want = if o == i { format!("Normal-{o}") } else { format!("Normal-i{i}-o{o}") };
                assert_eq!(s.ty().to_string(), want, "{byte:#04x}");
                assert_eq!(s.xs, !(o == "WB" && i == "WB"));
                let Type::Normal { inner, outer } = s.ty() else { panic!("{byte:#04x} is Normal") };
                for (n, c) in [(hi, outer), (lo, inner)] {
                    let hinted = c.policy != Cacheability::NonCacheable;
                    assert_eq!(c.hints.read(), hinted && n.as_bytes()[2] == b'1');
                    assert_eq!(c.hints.write(), hinted && n.as_bytes()[3] == b'1');
                    assert_eq!(c.hints.transient(), hinted && n.starts_with('0'));
                }
            }
        }
    }
    assert_eq!((device, normal, reserved), (8, 225 + 3, 8 + 12));
}

#[test]
fn shareability_table_d8_103() {
    // Cacheable memory: the table. 0b00 NSH, 0b10 OSH, 0b11 ISH.
    let table = [
        (0b10, 0b10, "osh"),
        (0b10, 0b11, "osh"),
        (0b10, 0b00, "osh"),
        (0b11, 0b10, "osh"),
        (0b11, 0b11, "ish"),
        (0b11, 0b00, "ish"),
        (0b00, 0b10, "osh"),
        (0b00, 0b11, "ish"),
        (0b00, 0b00, "nsh"),
    ];
    for (s1, s2, want) in table {
        for fwb in [false, true] {
            let wb = if fwb { 0b111 } else { 0b1111 };
            let c = combine(&Stage1::decode(0xff, s1, F), &Stage2::decode(fwb, wb, s2, F));
            assert_eq!(c.sh.short(), want);
            // Device and Normal-NC: Outer Shareable whatever the fields say.
            for mair in [0x00, 0x04, 0x44] {
                assert_eq!(
                    combine(&Stage1::decode(mair, s1, F), &Stage2::decode(fwb, wb, s2, F)).sh,
                    Shareability::Outer
                );
            }
        }
    }
}

/// All 131,072 combinations: nothing panics, and what must hold of any holds.
#[test]
fn every_combination_keeps_the_invariants() {
    let mut reserved = 0;
    for fwb in [false, true] {
        for attr in 0..16 {
            for s2_sh in 0..4 {
                let s2 = Stage2::decode(fwb, attr, s2_sh, F);
                for mair in 0..=255 {
                    for s1_sh in 0..4 {
                        let s1 = Stage1::decode(mair, s1_sh, F);
                        let c = combine(&s1, &s2);
                        reserved += u32::from(c.is_reserved());
                        let bad = s1_sh == 1
                            || s2_sh == 1
                            || (mair < 0x10 && mair & 2 != 0)
                            || (mair & 0xf == 0 && mair > 0 && ![0x40, 0xa0, 0xf0].contains(&mair))
                            || if fwb { attr & 7 == 4 } else { attr & 3 == 0 && attr != 0 };
                        assert_eq!(c.is_reserved(), bad, "{fwb} {attr} {s2_sh} {mair:#x} {s1_sh}");
                        assert!(!c.ty.is_device() || c.sh == Shareability::Outer);
                        assert!(!c.ty.is_device() || !c.ty.may_speculate());
                        assert!(!c.ty.is_normal_wb() || !c.xs);
                        assert_eq!(c.ty.is_cacheable(), c.ty.name().contains('w'));
                        // The faulting stage: never none for Device, stage 1 exactly when stage 1 is Device.
                        match c.unaligned() {
                            Alignment::Ok => assert!(!c.ty.is_device() && !s1.ty().is_device()),
                            Alignment::Fault { stage: 1 } => assert!(c.ty.is_device() && s1.ty().is_device()),
                            Alignment::Fault { stage } => {
                                assert_eq!(stage, 2);
                                assert!(c.ty.is_device() && !s1.ty().is_device());
                            }
                            Alignment::MayFault => assert!(fwb && attr & 7 == 6 && s1.ty().is_device()),
                        }
                        if !fwb && !bad {
                            // Without FWB the result is never weaker than either stage (10.3 of the monotone rules).
                            assert!(!s1.ty().is_device() || c.ty.is_device());
                        }
                        assert!(c.because().count() >= 4);
                        if c.tagging != Tagging::Untagged {
                            assert!(mair == 0xf0 && c.ty.is_normal_wb());
                        }
                    }
                }
            }
        }
    }
    // 131072 less those with no reserved input: 3 of 4 SH twice, 236 of 256 MAIR bytes, 13 and 14 of 16 MemAttr.
    assert_eq!(reserved, 131_072 - 3 * 3 * 236 * (13 + 14));
}

#[test]
fn thread_002_a_stage_2_alignment_fault() {
    for fwb in [false, true] {
        let guest_nc = Stage1::decode(0x44, 0b10, F);
        let before = combine(&guest_nc, &Stage2::decode(fwb, memattr_of(fwb, "device-ngnre").unwrap(), 0b11, F));
        assert_eq!((before.ty.name(), before.unaligned()), ("device-ngnre", Alignment::Fault { stage: 2 }));
        let after = combine(&guest_nc, &Stage2::decode(fwb, memattr_of(fwb, "normal-nc").unwrap(), 0b11, F));
        assert_eq!((after.ty.name(), after.unaligned()), ("normal-nc", Alignment::Ok));
        // A guest that asks for Device itself gets the fault at its own EL1 under either.
        let device = Stage1::decode(0x04, 0b10, F);
        for name in ["device-ngnre", "normal-nc"] {
            let c = combine(&device, &Stage2::decode(fwb, memattr_of(fwb, name).unwrap(), 0b11, F));
            assert_eq!((c.ty.name(), c.unaligned()), ("device-ngnre", Alignment::Fault { stage: 1 }));
        }
    }
}

#[test]
fn mte_perm_d8_99() {
    let f = Features { mte_perm: true, ..F };
    let tagged = Stage1::decode(0xf0, 0b11, f);
    for (fwb, plain, no_tag_access) in [(false, 0b1111, 0b0100), (true, 0b0110, 0b1110), (true, 0b0111, 0b1111)] {
        let s2 = |a| Stage2::decode(fwb, a, 0b11, f);
        assert_eq!(combine(&tagged, &s2(plain)).tagging, Tagging::Tagged);
        let c = combine(&tagged, &s2(no_tag_access));
        assert_eq!((c.ty.name(), c.tagging, c.is_reserved()), ("normal-wb", Tagging::NoTagAccess, false));
        // NoTagAccess says nothing of memory that is not Tagged.
        assert_eq!(combine(&Stage1::decode(0xff, 0b11, f), &s2(no_tag_access)).tagging, Tagging::Untagged);
    }
    for attr in [0b1000, 0b1001, 0b1010, 0b1011, 0b1100, 0b1101] {
        assert!(Stage2::decode(true, attr, 0b11, f).reserved_attr.is_some(), "{attr:#b}");
    }
    assert!(Stage2::decode(false, 0b0100, 0b11, F).reserved_attr.is_some());
}

#[test]
fn xs_is_cleared_by_fnxs_and_by_write_back() {
    let s1 = Stage1::decode(0x04, 0b10, F);
    for fwb in [false, true] {
        let s2 = Stage2::decode(fwb, 0b0001, 0b11, F);
        assert!(combine(&s1, &s2).xs);
        assert!(!combine(&s1, &s2.with_fnxs()).xs);
        assert!(!combine(&Stage1::decode(0x05, 0b10, F), &s2).xs);
    }
    // R_TBQKG: forced Write-Back over Device has both allocation hints.
    let c = combine(&s1, &Stage2::decode(true, 0b0110, 0b11, F));
    assert_eq!((c.ty, c.xs), (Type::NORMAL_WB, false));
    // R_THYXB: over a cacheable stage 1 it keeps its hints.
    let c = combine(&Stage1::decode(0xee, 0b11, F), &Stage2::decode(true, 0b0110, 0b11, F));
    let Type::Normal { inner, .. } = c.ty else { panic!() };
    assert_eq!(inner.hints, Hints::new(true, false, false));
}

#[test]
fn what_each_type_allows_b2_10() {
    let row = |name: &str| {
        let t = Stage1::decode(mair_of(name).unwrap(), 0, F).ty();
        (t.may_gather(), t.may_reorder(), t.may_acknowledge_early(), t.may_speculate(), t.is_cacheable())
    };
    assert_eq!(row("device-ngnrne"), (false, false, false, false, false));
    assert_eq!(row("device-ngnre"), (false, false, true, false, false));
    assert_eq!(row("device-ngre"), (false, true, true, false, false));
    assert_eq!(row("device-gre"), (true, true, true, false, false));
    assert_eq!(row("normal-nc"), (true, true, true, true, false));
    assert_eq!(row("normal-wt"), (true, true, true, true, true));
    assert_eq!(row("normal-wb"), (true, true, true, true, true));
}

#[test]
fn every_name_decodes_to_itself() {
    for (name, byte) in NAMES {
        assert_eq!(mair_of(name), Some(byte));
        assert_eq!(name_of_mair(byte), Some(name));
        assert!(name.starts_with(Stage1::decode(byte, 0, F).ty().name()));
    }
}

/// A place in the order from Device-nGnRnE to Normal-WB, for inner and outer each; a Device type has both.
fn places(ty: Type) -> [usize; 2] {
    let place = |name: &str| ORDER.iter().position(|(n, ..)| *n == name).unwrap();
    match ty {
        Type::Device(_) => [place(&ty.to_string()); 2],
        Type::Normal { inner, outer } => {
            [inner, outer].map(|c| place(&format!("Normal-{}", c.policy.short().to_uppercase())))
        }
    }
}

/// Every MAIR byte and every MemAttr, as they decode.
fn every() -> impl Iterator<Item = (u8, bool, u8, Stage1, Stage2)> {
    (0..=255u8).flat_map(|mair| {
        [false, true].into_iter().flat_map(move |fwb| {
            (0..16u8)
                .map(move |attr| (mair, fwb, attr, Stage1::decode(mair, 0b11, F), Stage2::decode(fwb, attr, 0b11, F)))
        })
    })
}

#[test]
fn the_result_is_never_weaker_than_either_stage_but_where_fwb_forces_write_back() {
    let mut forced = 0;
    for (mair, fwb, attr, s1, s2) in every() {
        let result = places(combine(&s1, &s2).ty);
        let first = places(s1.ty());
        // What stage 2 allows at most, by the tables; the exceptions are listed.
        let second = match s2.attr() {
            MemAttr::Combine(ty) => places(ty),
            MemAttr::FwbDevice(device) => places(Type::Device(device)),
            MemAttr::FwbNcUnlessDevice => [4; 2],
            MemAttr::FwbAsStage1 | MemAttr::FwbForceWb => [6; 2],
        };
        for i in 0..2 {
            assert!(result[i] <= second[i], "{mair:#x} {fwb} {attr:#b}: weaker than stage 2");
            if result[i] > first[i] {
                assert_eq!((fwb, attr & 0b111), (true, 0b110), "{mair:#x}: weaker than stage 1");
                forced += 1;
            }
        }
    }
    // FWB 0b110, with MemAttr[3] either way, over the 256 bytes: 16 + 12 Device ones count twice, and each half of the 225
    // Normal ones, of 0x40 and of 0xA0 that is NC or WT; 8 of 15 nibbles are.
    assert_eq!(forced, 2 * (2 * (16 + 12) + 2 * 8 * 15 + 2 + 2));
}

#[test]
fn without_fwb_the_stages_can_change_places() {
    for (a_name, a_mair, a_attr) in ORDER {
        for (b_name, b_mair, b_attr) in ORDER {
            let ab = combine(&Stage1::decode(a_mair, 3, F), &Stage2::decode(false, b_attr, 3, F)).ty;
            let ba = combine(&Stage1::decode(b_mair, 3, F), &Stage2::decode(false, a_attr, 3, F)).ty;
            assert_eq!(ab.name(), ba.name(), "{a_name} {b_name}");
            assert!(a_name != b_name || ab.to_string() == a_name, "{a_name} with itself");
        }
    }
}

#[test]
fn a_second_application_of_stage_2_changes_nothing() {
    for (mair, fwb, attr, s1, s2) in every() {
        let once = combine(&s1, &s2);
        let twice = combine(&Stage1::new(once.ty, once.sh), &s2);
        assert_eq!((once.ty, once.sh), (twice.ty, twice.sh), "{mair:#x} {fwb} {attr:#b}");
    }
}

/// Linux from 6.9 on: whatever the guest writes into MAIR, its descriptors and its enables, it does not get the BAR cached.
#[test]
fn under_the_normal_nc_of_linux_6_9_nothing_becomes_cacheable() {
    let mut reached = std::collections::BTreeSet::new();
    for fwb in [false, true] {
        // KVM's two encodings are the same bits.
        for attr in [memattr_of(fwb, "normal-nc").unwrap(), 0b0101] {
            for s2_sh in 0..4 {
                let s2 = Stage2::decode(fwb, attr, s2_sh, F);
                for mair in 0..=255 {
                    for s1_sh in 0..4 {
                        let s1 = Stage1::decode(mair, s1_sh, F);
                        reached.insert(combine(&s1, &s2).ty.name());
                        for regime in [Regime::RUNNING, Regime::OFF, Regime { hcr_dc: true, ..Regime::RUNNING }] {
                            for access in [Access::Data, Access::Fetch, Access::Walk] {
                                assert!(!regime.combine(access, &s1, &s2).combined().ty.is_cacheable());
                            }
                        }
                    }
                }
            }
        }
    }
    let want = ["device-gre", "device-ngnre", "device-ngnrne", "device-ngre", "normal-nc"];
    assert!(reached.into_iter().eq(want));
}

#[test]
fn the_names_and_bytes_of_aarch64_paging() {
    use aarch64_paging::descriptor::{El1Attributes, Stage2Attributes as S2};
    use aarch64_paging::mair::{Mair, MairAttribute, NormalMemory};

    // Every byte, in their words. They know no XS and no tags, so those encodings are unpredictable to them.
    for byte in 0..=255u8 {
        let s = Stage1::decode(byte, 3, Features::NONE);
        let words = |cache: Cache| {
            let policy = match cache.policy {
                Cacheability::NonCacheable => return "Non-Cacheable".to_string(),
                Cacheability::WriteThrough => "Write-through",
                Cacheability::WriteBack => "Write-back",
            };
            let transient = if cache.hints.transient() { "transient" } else { "non-transient" };
            let allocate = match (cache.hints.read(), cache.hints.write()) {
                (false, false) => "do not allocate",
                (false, true) => "write-allocate",
                (true, false) => "read-allocate",
                (true, true) => "read-write-allocate",
            };
            format!("{policy} {transient}, {allocate}")
        };
        let ours = match s.ty() {
            _ if s.reserved_mair.is_some() => format!("Unpredictable ({byte:#04x})"),
            Type::Device(_) => s.ty().to_string(),
            Type::Normal { inner, outer } => format!("Normal, Inner {}, Outer {}", words(inner), words(outer)),
        };
        // Their version 0.12.3 reads the nibble 0b0001 as Write-back non-transient; D24.2.127 has Write-through transient.
        if byte & 0xf == 1 && byte > 0xf || byte >> 4 == 1 && byte & 0xf != 0 {
            assert_ne!(MairAttribute(byte).to_string(), ours, "{byte:#04x}: mended");
        } else {
            assert_eq!(MairAttribute(byte).to_string(), ours, "{byte:#04x}");
        }
    }
    for (name, theirs) in [
        ("device-ngnrne", MairAttribute::DEVICE_NGNRNE),
        ("device-ngnre", MairAttribute::DEVICE_NGNRE),
        ("device-ngre", MairAttribute::DEVICE_NGRE),
        ("device-gre", MairAttribute::DEVICE_GRE),
        ("normal-nc", MairAttribute::normal(NormalMemory::NonCacheable, NormalMemory::NonCacheable)),
    ] {
        assert_eq!(mair_of(name), Some(theirs.0));
        assert_eq!(Mair::EMPTY.with_attribute(2, theirs).0, u64::from(theirs.0) << 16);
    }
    assert_eq!(El1Attributes::ATTRIBUTE_INDEX_7.bits(), 7 << 2);

    // Stage 2, without FWB.
    let normal = |inner: S2, outer: S2| ((inner | outer).bits() >> 2) as u8;
    for (name, theirs) in [
        ("device-ngnrne", (S2::MEMATTR_DEVICE_nGnRnE.bits() >> 2) as u8),
        ("device-ngnre", (S2::MEMATTR_DEVICE_nGnRE.bits() >> 2) as u8),
        ("device-ngre", (S2::MEMATTR_DEVICE_nGRE.bits() >> 2) as u8),
        ("device-gre", (S2::MEMATTR_DEVICE_GRE.bits() >> 2) as u8),
        ("normal-nc", normal(S2::MEMATTR_NORMAL_INNER_NC, S2::MEMATTR_NORMAL_OUTER_NC)),
        ("normal-wt", normal(S2::MEMATTR_NORMAL_INNER_WT, S2::MEMATTR_NORMAL_OUTER_WT)),
        ("normal-wb", normal(S2::MEMATTR_NORMAL_INNER_WB, S2::MEMATTR_NORMAL_OUTER_WB)),
    ] {
        assert_eq!(memattr_of(false, name), Some(theirs));
        let MemAttr::Combine(ty) = Stage2::decode(false, theirs, 3, F).attr() else { panic!("{name}") };
        assert_eq!(ty.name(), name);
    }
    let mixed = normal(S2::MEMATTR_NORMAL_INNER_WB, S2::MEMATTR_NORMAL_OUTER_WT);
    let MemAttr::Combine(ty) = Stage2::decode(false, mixed, 3, F).attr() else { panic!() };
    assert_eq!(ty.name(), "normal-iwb-owt");
    for (sh, theirs) in
        [(Shareability::Outer, S2::SH_OUTER), (Shareability::Inner, S2::SH_INNER), (Shareability::Non, S2::SH_NONE)]
    {
        assert_eq!(Shareability::from_bits((theirs.bits() >> 8) as u8), (sh, false));
    }
}

#[test]
fn a_type_becomes_stage_1_and_comes_back() {
    for byte in 0..=255u8 {
        let s = Stage1::decode(byte, 3, F);
        let again = Stage1::new(s.ty(), s.sh);
        assert_eq!(again.ty(), s.ty(), "{byte:#04x}");
        assert_eq!(again.is_device(), again.ty().is_device());
        // The encodings that only clear XS or set Tagged are the others.
        assert_eq!(
            again == s,
            s.reserved_mair.is_none() && s.xs != s.ty().is_normal_wb() && byte != 0xf0,
            "{byte:#04x}"
        );
    }
    // What no MAIR byte says: Transient without allocation, hints of Non-cacheable.
    let odd = Cache { policy: Cacheability::WriteBack, hints: Hints::new(false, false, true) };
    let Type::Normal { inner, .. } = Stage1::new(Type::Normal { inner: odd, outer: odd }, Shareability::Non).ty()
    else {
        panic!()
    };
    assert_eq!((inner.policy, inner.hints), (Cacheability::WriteBack, Hints::NONE));
    let odd = Cache { policy: Cacheability::NonCacheable, hints: Hints::ALLOCATE };
    assert_eq!(Stage1::new(Type::Normal { inner: odd, outer: odd }, Shareability::Non).ty(), Type::NORMAL_NC);
}

#[test]
fn the_attributes_of_the_tables_themselves() {
    for (bits, name) in [(0b00, "normal-nc"), (0b01, "normal-wb"), (0b10, "normal-wt"), (0b11, "normal-wb")] {
        assert_eq!(Stage1::of_walk(bits, bits, 3).ty().name(), name);
    }
    let s = Stage1::of_walk(0b01, 0b00, 0b10);
    assert_eq!((s.ty().name(), s.sh, s.xs), ("normal-iwb-onc", Shareability::Outer, true));
    assert!(Stage1::of_walk(0, 0, 1).reserved_sh.is_some());
}
