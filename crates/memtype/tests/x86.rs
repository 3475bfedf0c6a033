//! x86, exhaustively.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use memtype::cite::Checked;
use memtype::guarantee::{Question, Standing};
use memtype::x86::kvm::{Asked, Era, Says};
use memtype::x86::{DISAGREEMENTS, Pat, PatMsr, Type, effective, ept, mtrr, npt, was_undefined};

/// Table 11-7 of the SDM, written down as it is printed: the MTRR's type, then the types in force for UC, UC-, WC, WT, WB, WP.
const TABLE_11_7: [(&str, [&str; 6]); 5] = [
    ("uc", ["uc", "uc", "wc", "uc", "uc", "uc"]),
    ("wc", ["uc", "wc", "wc", "uc", "wc", "uc"]),
    ("wt", ["uc", "uc", "wc", "wt", "wt", "wp"]),
    ("wb", ["uc", "uc", "wc", "wt", "wb", "wp"]),
    ("wp", ["uc", "wc", "wc", "wt", "wp", "wp"]),
];
const PRINTED: [&str; 6] = ["uc", "ucm", "wc", "wt", "wb", "wp"];

fn ty(name: &str) -> Type {
    Type::ALL.into_iter().find(|t| t.name() == name).unwrap()
}
fn pat(name: &str) -> Pat {
    Pat::ALL.into_iter().find(|p| p.name() == name).unwrap()
}

#[test]
fn effective_types_are_table_11_7() {
    let mut cells = 0;
    for (mtrr, row) in TABLE_11_7 {
        for (entry, result) in PRINTED.into_iter().zip(row) {
            assert_eq!(effective(ty(mtrr), pat(entry)).name(), result, "{mtrr} {entry}");
            cells += 1;
        }
    }
    assert_eq!(cells, Type::ALL.len() * Pat::ALL.len());
}

/// What the table amounts to, put as rules: UC always wins, WC wins over all but UC, and so on.
#[test]
fn effective_types_by_rules() {
    for mtrr in Type::ALL {
        for pat in Pat::ALL {
            let rule = match (mtrr, pat) {
                (_, Pat::Wc) => Type::Wc,
                (_, Pat::Uc) => Type::Uc,
                (Type::Wc | Type::Wp, Pat::UcMinus) => Type::Wc,
                (_, Pat::UcMinus) | (Type::Uc, _) => Type::Uc,
                (Type::Wc, Pat::Wb) => Type::Wc,
                (Type::Wc, _) => Type::Uc,
                (_, Pat::Wb) => mtrr,
                (_, _) => pat.ty(),
            };
            assert_eq!(effective(mtrr, pat), rule, "{mtrr} {pat}");
        }
    }
}

#[test]
fn idempotent() {
    for t in Type::ALL {
        let same = Pat::from_bits(t as u8).unwrap();
        assert_eq!((same.ty(), effective(t, same)), (t, t));
        assert_eq!(ept::combine(t, false, same), t);
    }
}

/// UC under all, then WC, then what caches may hold. A result is never above both inputs, but for the exceptions named.
#[test]
fn never_weaker_than_both_but_for_named_exceptions() {
    let rank = |t: Type| match t {
        Type::Uc => 0,
        Type::Wc => 1,
        Type::Wt | Type::Wp => 2,
        Type::Wb => 3,
    };
    let mut weaker_than_mtrr = BTreeSet::new();
    for mtrr in Type::ALL {
        for pat in Pat::ALL {
            let result = effective(mtrr, pat);
            // What a page asks for is what it gets at most; UC- leaves WC open.
            let asked = if pat == Pat::UcMinus { Type::Wc } else { pat.ty() };
            assert!(rank(result) <= rank(asked), "{mtrr} {pat}");
            if rank(result) > rank(mtrr) {
                weaker_than_mtrr.insert((mtrr.name(), pat.name()));
            }
        }
    }
    // The named exception: PAT's WC over an MTRR of UC.
    assert_eq!(weaker_than_mtrr, BTreeSet::from([("uc", "wc")]));
    // And of EPT: with IPAT the hypervisor's type holds whatever the guest asked.
    let ipat: BTreeSet<_> = Type::ALL
        .into_iter()
        .filter(|t| Pat::ALL.into_iter().any(|p| rank(ept::combine(*t, true, p)) > rank(p.ty())))
        .map(Type::name)
        .collect();
    assert_eq!(ipat, BTreeSet::from(["wc", "wt", "wp", "wb"]));
}

#[test]
fn a_guest_under_ept_uc_reaches_uc_and_wc_only() {
    let reached: BTreeSet<_> = Pat::ALL.into_iter().map(|p| ept::combine(Type::Uc, false, p)).collect();
    assert_eq!(reached, BTreeSet::from([Type::Uc, Type::Wc]));
    for p in Pat::ALL {
        assert_eq!(ept::combine(Type::Uc, true, p), Type::Uc);
        for t in Type::ALL {
            for ipat in [false, true] {
                assert_eq!(ept::combine_cd(t, ipat, p, true), Type::Uc);
                assert_eq!(ept::combine_cd(t, ipat, p, false), ept::combine(t, ipat, p));
            }
        }
    }
}

#[test]
fn uc_minus_differs_from_uc_where_the_mtrr_says_wc_or_wp() {
    let differs: Vec<_> =
        Type::ALL.into_iter().filter(|t| effective(*t, Pat::UcMinus) != effective(*t, Pat::Uc)).collect();
    assert_eq!(differs, [Type::Wc, Type::Wp]);
}

#[test]
fn encodings_are_total_and_go_back() {
    for bits in 0..=255u8 {
        assert_eq!(Type::from_bits(bits).map(|t| t as u8), [0, 1, 4, 5, 6].contains(&bits).then_some(bits));
        assert_eq!(Pat::from_bits(bits).map(|p| p as u8), [0, 1, 4, 5, 6, 7].contains(&bits).then_some(bits));
    }
    for bits in 0..=u64::from(u8::MAX) {
        let leaf = ept::Leaf::decode(bits);
        assert_eq!(leaf.ipat, bits & 0x40 != 0);
        assert_eq!(leaf.ty.map_err(|bad| bad.0), Type::from_bits((bits >> 3 & 7) as u8).ok_or((bits >> 3 & 7) as u8));
    }
}

#[test]
fn the_tables_of_reset_and_of_linux() {
    let names = |msr: PatMsr| (0..8).map(|i| msr.entry(i).unwrap().name()).collect::<Vec<_>>();
    assert_eq!(names(PatMsr::RESET), ["wb", "wt", "ucm", "uc", "wb", "wt", "ucm", "uc"]);
    assert_eq!(names(PatMsr::LINUX), ["wb", "wc", "ucm", "uc", "wb", "wp", "ucm", "wt"]);
    assert_eq!(PatMsr(0x0302).entry(0), None);
    assert_eq!(PatMsr(u64::MAX).entry(200), None);
}

/// Against the constants of the `x86_64` crate: the bits of an entry that select a PAT entry.
#[test]
fn as_the_x86_64_crate_has_it() {
    use x86_64::structures::paging::PageTableFlags as Flags;

    let index = |bits: Flags| {
        let bit = |flag| bits.contains(flag);
        PatMsr::index(bit(Flags::HUGE_PAGE), bit(Flags::NO_CACHE), bit(Flags::WRITE_THROUGH))
    };
    // PAT is bit 7 of a 4 KiB entry, where larger ones have PS.
    assert_eq!(index(Flags::WRITE_THROUGH), 1);
    assert_eq!(index(Flags::NO_CACHE), 2);
    assert_eq!(index(Flags::HUGE_PAGE), 4);
    assert_eq!(index(Flags::HUGE_PAGE | Flags::NO_CACHE | Flags::WRITE_THROUGH), 7);
}

/// Linux's UAPI: `asm/mtrr.h` MTRR_TYPE_UNCACHABLE 0, WRCOMB 1, WRTHROUGH 4, WRPROT 5, WRBACK 6; and `asm/msr-index.h`, where UC-
/// of a PAT entry is 7.
#[test]
fn as_linux_numbers_them() {
    assert_eq!(Type::ALL.map(|t| t as u8), [0, 1, 4, 5, 6]);
    assert_eq!(Pat::ALL.map(|p| p as u8), [0, 7, 1, 4, 5, 6]);
}

#[test]
fn ranges() {
    use mtrr::{DefType, Range, of_address, overlap};
    let valid = 1 << 11;
    let low = Range { base: 6, mask: 0x7f_8000_0000 | valid };
    let hole = Range { base: 0xc000_0000, mask: 0x7f_c000_0000 | valid };
    assert_eq!(low.bounds(39), Some((0, 0x7fff_ffff)));
    assert_eq!(hole.bounds(39), Some((0xc000_0000, 0xffff_ffff)));
    assert_eq!(Range { base: 0, mask: 0x7f_5000_0000 | valid }.bounds(39), None);
    assert_eq!(Range { base: u64::MAX, mask: u64::MAX }.bounds(u32::MAX), Some(((1 << 52) - 0x1000, (1 << 52) - 1)));
    assert_eq!(Range { base: 0, mask: valid }.bounds(64), Some((0, (1 << 52) - 1)));
    let on = DefType(1 << 11 | 6);
    assert_eq!(of_address(on, &[hole], 0xc000_0000), Some(Type::Uc));
    assert_eq!(of_address(on, &[hole], 0xbfff_ffff), Some(Type::Wb));
    assert_eq!(of_address(DefType(6), &[hole], 0), Some(Type::Uc), "off: all UC");
    let wt = Range { base: 4, mask: valid };
    assert_eq!(of_address(on, &[low, wt], 0), Some(Type::Wt));
    assert_eq!(of_address(on, &[low, wt, hole], 0xc000_0000), Some(Type::Uc));
    let wc = Range { base: 1, mask: valid };
    assert_eq!(of_address(on, &[low, wc], 0), None, "undefined");
    assert_eq!(of_address(on, &[Range { base: 2, mask: valid }], 0), None, "reserved");
    assert_eq!(of_address(on, &[Range { base: 1, mask: 0 }], 0), Some(Type::Wb), "not valid");
    for a in Type::ALL {
        for b in Type::ALL {
            assert_eq!(overlap(a, b), overlap(b, a));
        }
        assert_eq!(overlap(a, a), Some(a));
    }
}

fn asked() -> impl Iterator<Item = Asked> {
    (0..64u8).map(|bits| Asked {
        mmio: bits & 1 != 0,
        noncoherent_dma: bits & 2 != 0,
        self_snoop: bits & 4 != 0,
        honour_guest_pat: bits & 8 != 0,
        cd: bits & 16 != 0,
        cd_quirk: bits & 32 != 0,
    })
}

#[test]
fn kvm_never_gives_a_guest_a_cacheable_bar() {
    for era in Era::ALL {
        for asked in asked().filter(|a| a.mmio) {
            let Says::Leaf { ty, ipat } = era.leaf(asked).says else { panic!("{era:?}") };
            for pat in Pat::ALL {
                assert!(!ept::combine(ty, ipat, pat).is_cacheable(), "{era:?} {asked:?} {pat}");
            }
        }
    }
}

#[test]
fn kvm_ignores_the_guest_on_ram_unless_dma_may_bypass_caches_or_it_is_told_to() {
    for era in Era::ALL {
        for asked in asked().filter(|a| !a.mmio) {
            let ignored = era.leaf(asked).says == Says::Leaf { ty: Type::Wb, ipat: true };
            let rc = era == Era::V6_11Rc && asked.self_snoop;
            let quirk = era == Era::Quirk && asked.self_snoop && asked.honour_guest_pat;
            let cd = era == Era::V6_6 && asked.cd && asked.cd_quirk;
            assert_eq!(ignored, if asked.noncoherent_dma { cd } else { !rc && !quirk }, "{era:?} {asked:?}");
            // The guest's CR0.CD made RAM uncached only while its MTRRs counted, and only without the quirk.
            let uncached = era.leaf(asked).says == Says::Leaf { ty: Type::Uc, ipat: true };
            let old = era <= Era::V6_7;
            assert_eq!(uncached, old && asked.noncoherent_dma && asked.cd && !asked.cd_quirk, "{era:?} {asked:?}");
            let mtrr = era.leaf(asked).says == Says::GuestMtrr;
            assert_eq!(mtrr, old && asked.noncoherent_dma && !asked.cd, "{era:?} {asked:?}");
        }
    }
}

/// `vmx_get_mt_mask()` of 6.12.107: the type is shifted by VMX_EPT_MT_EPTE_SHIFT, 3, and VMX_EPT_IPAT_BIT is 1 << 6.
#[test]
fn what_kvm_writes_is_what_a_leaf_decodes_to() {
    for (bits, says) in [
        (0u64 << 3, Says::Leaf { ty: Type::Uc, ipat: false }),
        (6 << 3 | 1 << 6, Says::Leaf { ty: Type::Wb, ipat: true }),
        (6 << 3, Says::Leaf { ty: Type::Wb, ipat: false }),
    ] {
        let leaf = ept::Leaf::decode(0xfe00_0007 | bits);
        assert_eq!(Says::Leaf { ty: leaf.ty.unwrap(), ipat: leaf.ipat }, says);
        assert!(asked().any(|asked| Era::Quirk.leaf(asked).says == says));
    }
}

#[test]
fn releases_fall_into_eras_in_order() {
    let mut before = Era::V6_6;
    for (release, era) in [
        ((4, 19, 300), Era::V6_6),
        ((5, 15, 0), Era::V6_6),
        ((6, 6, 99), Era::V6_6),
        ((6, 7, 0), Era::V6_7),
        ((6, 10, 14), Era::V6_7),
        ((6, 11, 0), Era::V6_12),
        ((6, 12, 77), Era::V6_12),
        ((6, 15, 99), Era::V6_12),
        ((6, 16, 0), Era::Quirk),
        ((7, 2, 0), Era::Quirk),
        ((u16::MAX, 0, 0), Era::Quirk),
    ] {
        assert_eq!(Era::of_release(release.0, release.1, release.2), era, "{release:?}");
        assert!(before <= era);
        before = era;
    }
    assert_eq!(Era::of_release(6, 12, 78), Era::Quirk, "the stable series");
}

/// AMD's Table 15-19 as it is printed: the guest's PAT type, then the combined type for the host's UC, UC-, WC, WP, WT, WB.
const TABLE_15_19: [(&str, [&str; 6]); 6] = [
    ("uc", ["UC", "UC", "UC", "UC", "UC", "UC"]),
    ("ucm", ["UC", "UC-", "WC", "UC", "UC", "UC"]),
    ("wc", ["WC", "WC", "WC", "WC+", "WC+", "WC+"]),
    ("wp", ["UC", "UC", "UC", "WP", "UC", "WP"]),
    ("wt", ["UC", "UC", "UC", "UC", "WT", "WT"]),
    ("wb", ["UC", "UC", "WC", "WP", "WT", "WB"]),
];
/// AMD's Table 15-20: the combined PAT type, then the type in force for an MTRR of UC, WC, WP, WT, WB. Without the row of WC+ it
/// is Table 7-11.
const TABLE_15_20: [(&str, [&str; 5]); 7] = [
    ("UC", ["UC", "CD", "CD", "CD", "CD"]),
    ("UC-", ["UC", "WC", "CD", "CD", "CD"]),
    ("WC", ["WC", "WC", "WC", "WC", "WC"]),
    ("WC+", ["WC", "WC", "WC+", "WC+", "WC+"]),
    ("WP", ["UC", "CD", "WP", "CD", "WP"]),
    ("WT", ["UC", "CD", "CD", "WT", "WT"]),
    ("WB", ["UC", "WC", "WP", "WT", "WB"]),
];

#[test]
fn nested_paging_is_amds_two_tables() {
    let hosts = ["uc", "ucm", "wc", "wp", "wt", "wb"];
    let mtrrs = ["uc", "wc", "wp", "wt", "wb"];
    let mut cells = 0;
    for (guest, row) in TABLE_15_19 {
        for (host, both) in hosts.into_iter().zip(row) {
            assert_eq!(npt::pats(pat(guest), pat(host)).to_string(), both, "{guest} over {host}");
            let (_, row) = TABLE_15_20.iter().find(|(name, _)| *name == both).unwrap();
            for (mtrr, in_force) in mtrrs.into_iter().zip(row) {
                let it = npt::combine(ty(mtrr), pat(host), pat(guest));
                assert_eq!(it.to_string(), *in_force, "{guest} over {host}, MTRR {mtrr}");
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 6 * 6 * 5);
    for (name, row) in TABLE_15_20.into_iter().filter(|(name, _)| *name != "WC+") {
        let pat = Pat::ALL.into_iter().find(|p| p.upper() == name).unwrap();
        for (mtrr, in_force) in mtrrs.into_iter().zip(row) {
            assert_eq!(npt::native(ty(mtrr), pat).to_string(), in_force, "{name}, MTRR {mtrr}");
        }
    }
}

/// What tandasat's SimpleSvm says of a nested entry of WB, without the table: WC becomes WC+ over a cacheable MTRR, UC- becomes
/// CD over WC.
#[test]
fn nested_paging_as_simplesvm_describes_it() {
    for mtrr in [Type::Wp, Type::Wt, Type::Wb] {
        assert_eq!(npt::combine(mtrr, Pat::Wb, Pat::Wc), npt::InForce::WcPlus);
    }
    assert_eq!(npt::combine(Type::Wc, Pat::Wb, Pat::UcMinus), npt::InForce::Cd);
}

/// KVM leaves the nested entry at WB: a BAR is then as under EPT, UC or WC, and RAM is what the guest's PAT says.
#[test]
fn nested_paging_gives_a_bar_uc_or_wc() {
    for pat in Pat::ALL {
        assert_eq!(npt::combine(Type::Uc, Pat::Wb, pat).ty(), ept::combine(Type::Uc, false, pat), "{pat}");
        assert_eq!(npt::combine(Type::Wb, Pat::Wb, pat).ty(), pat.ty(), "{pat}");
    }
}

#[test]
fn nested_paging_keeps_the_laws() {
    for t in Type::ALL {
        let same = Pat::from_bits(t as u8).unwrap();
        assert_eq!((npt::native(t, same).ty(), npt::combine(t, same, same).ty()), (t, t), "idempotent");
    }
    for p in Pat::ALL {
        assert_eq!(npt::pats(p, p), npt::Combined::Pat(p), "idempotent");
        // A host's WB leaves it to the guest, but that UC- becomes UC and WC becomes WC+.
        let kept = npt::pats(p, Pat::Wb) == npt::Combined::Pat(p);
        assert_eq!(kept, !matches!(p, Pat::UcMinus | Pat::Wc), "{p}");
        for host in Pat::ALL {
            for mtrr in Type::ALL {
                let it = npt::combine(mtrr, host, p).ty();
                // Nothing but a guest's or a host's WC makes an MTRR's UC weaker.
                if mtrr == Type::Uc && it != Type::Uc {
                    assert_eq!(it, Type::Wc);
                    assert!(p == Pat::Wc || host == Pat::Wc, "{p} {host}");
                }
                assert!(!it.is_cacheable() || (p.ty().is_cacheable() && host.ty().is_cacheable()), "{p} {host}");
            }
        }
    }
}

/// Where Intel's manual and AMD's have another type in force, and that the data says so.
#[test]
fn disagreements_are_so() {
    let mut names = BTreeSet::new();
    for it in DISAGREEMENTS {
        assert_ne!(effective(it.mtrr, it.pat), it.other, "{}", it.name);
        assert!(names.insert(it.name) && it.name.ends_with(&format!("-{}-{}", it.mtrr.name(), it.pat.name())));
    }
    for mtrr in Type::ALL {
        for pat in Pat::ALL {
            let amd = npt::native(mtrr, pat).ty();
            let named: Vec<_> = DISAGREEMENTS
                .iter()
                .filter(|it| it.name.starts_with("amd-") && it.mtrr == mtrr && it.pat == pat)
                .map(|it| it.other)
                .collect();
            if amd == effective(mtrr, pat) {
                assert!(named.is_empty(), "{mtrr} {pat}");
            } else {
                assert_eq!(named, [amd], "{mtrr} {pat}");
                assert!(was_undefined(mtrr, pat), "only where Intel once called it undefined");
            }
        }
    }
    let undefined =
        Type::ALL.into_iter().flat_map(|t| Pat::ALL.map(|p| (t, p))).filter(|(t, p)| was_undefined(*t, *p)).count();
    assert_eq!(undefined, 5, "the cells with note 3 in Table 11-7");
}

/// `resolve_memtype()` of Bochs, as its rules read.
#[test]
fn bochs_differs_where_it_is_said() {
    for mtrr in Type::ALL {
        for pat in Pat::ALL {
            let bochs = match pat {
                Pat::Uc | Pat::Wc => pat.ty(),
                Pat::Wt | Pat::Wp if mtrr == Type::Wc => Type::Uc,
                Pat::Wt | Pat::Wp => mtrr.min(pat.ty()),
                Pat::Wb => mtrr,
                Pat::UcMinus if mtrr == Type::Wc => Type::Wc,
                Pat::UcMinus => Type::Uc,
            };
            let named: Vec<_> = DISAGREEMENTS
                .iter()
                .filter(|it| it.name.starts_with("bochs-") && it.mtrr == mtrr && it.pat == pat)
                .map(|it| it.other)
                .collect();
            if bochs == effective(mtrr, pat) {
                assert!(named.is_empty(), "{mtrr} {pat}");
            } else {
                assert_eq!(named, [bochs], "{mtrr} {pat}");
            }
        }
    }
}

#[test]
fn guarantees_of_uc_and_wc() {
    use Standing::{Forbidden, Guaranteed, Permitted};
    // Question, UC, WC.
    for (q, uc, wc) in [
        (Question::Cached, Forbidden, Forbidden),
        (Question::Gather, Forbidden, Permitted),
        (Question::ReorderSame, Forbidden, Permitted),
        (Question::ReorderOther, Permitted, Permitted),
        (Question::Hold, Forbidden, Permitted),
        (Question::StrayWrite, Forbidden, Forbidden),
        (Question::SpeculativeRead, Forbidden, Permitted),
        (Question::Repeat, Forbidden, Permitted),
        (Question::Unaligned, Guaranteed, Guaranteed),
        (Question::Size, Guaranteed, Permitted),
        (Question::Orders, Guaranteed, Guaranteed),
        (Question::Separates, Guaranteed, Guaranteed),
        (Question::Drains, Guaranteed, Guaranteed),
    ] {
        for (ty, standing) in [(Type::Uc, uc), (Type::Wc, wc)] {
            let g = ty.guarantee(q).unwrap();
            assert_eq!(g.standing, standing, "{ty} {q:?}");
            assert_ne!(g.cite.checked, Checked::Unverified, "{ty} {q:?}");
            // Of UC nothing is needed, of WC a fence.
            let needs: &[&str] = if q.is_means() && ty == Type::Wc { &["SFENCE", "MFENCE"] } else { &[] };
            assert_eq!(g.by, needs, "{ty} {q:?}");
        }
    }
    for ty in Type::ALL {
        assert_eq!(ty.guarantee(Question::Exclusives), None);
        assert_eq!(ty.guarantee(Question::Cached).unwrap().standing != Forbidden, ty.is_cacheable());
        // One access of 64 bytes is of CPUs that have the instruction.
        assert_eq!(ty.guarantee(Question::Burst64).unwrap().by, ["MOVDIR64B"]);
    }
}

#[test]
fn nested_paging_from_its_table_is_the_two_steps() {
    for mtrr in Type::ALL {
        for host in Pat::ALL {
            for guest in Pat::ALL {
                assert_eq!(npt::combine(mtrr, host, guest), npt::with_mtrr(mtrr, npt::pats(guest, host)));
            }
        }
    }
}
