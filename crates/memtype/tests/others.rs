//! Power, LoongArch and s390, and Linux's table of mappings.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use memtype::cite::{Checked, Source};
use memtype::guarantee::{Question, Standing};
use memtype::linux::{Entry, Helper, MmapWc, arch_can_pci_mmap_wc, entry, of};
use memtype::power::{Host, Outcome, Wimg, guest};
use memtype::{Arch, MemoryType, loongarch, power, riscv, s390};

/// The rule of KVM-HV, as a sentence each: what is refused, what becomes cacheable, what stays.
#[test]
fn power_guests_exhaustively() {
    for bits in 0..=u8::MAX {
        let asked = Wimg(bits);
        let [w, i, m, g] = [8, 4, 2, 1].map(|b| bits & b != 0);
        let over_device = match (w, i, g) {
            (true, ..) | (_, false, _) => Outcome::Refused,
            (false, true, true) => Outcome::Granted(power::Type::InhibitedGuarded),
            (false, true, false) => Outcome::Granted(power::Type::Inhibited),
        };
        assert_eq!(guest(Host::Inhibited, asked), over_device, "{bits:#06b}");
        let over_memory = match (w, i, m, g) {
            (false, false, true, false) => Outcome::Granted(power::Type::Cacheable),
            (true, true, true, false) => Outcome::StrongAccessOrder,
            _ => Outcome::MadeCacheable,
        };
        assert_eq!(guest(Host::Cacheable, asked), over_memory, "{bits:#06b}");
    }
}

/// A guest of a BAR gets what it asks for among the two inhibited types, and never a cacheable one.
#[test]
fn power_guests_choose_g_within_i() {
    for ty in power::Type::ALL {
        let granted = guest(Host::Inhibited, Wimg::of(ty));
        let expected = if ty == power::Type::Cacheable { Outcome::Refused } else { Outcome::Granted(ty) };
        assert_eq!(granted, expected);
        assert_eq!(Host::of(ty) == Host::Inhibited, ty != power::Type::Cacheable);
    }
    let reached: Vec<_> = (0..16).map(|bits| guest(Host::Inhibited, Wimg(bits))).collect();
    assert!(!reached.contains(&Outcome::Granted(power::Type::Cacheable)));
    assert!(!reached.contains(&Outcome::MadeCacheable));
}

/// The constants of Linux: arch/powerpc/include/asm/book3s/64/mmu-hash.h, HPTE_R_{G,M,I,W} = 8, 0x10, 0x20, 0x40.
#[test]
fn wimg_is_in_the_order_of_the_entry() {
    for (bit, hpte) in [(Wimg::G, 0x08u64), (Wimg::M, 0x10), (Wimg::I, 0x20), (Wimg::W, 0x40)] {
        assert_eq!(u64::from(bit) << 3, hpte);
    }
}

#[test]
fn loongarch_types() {
    use loongarch::Type;
    // arch/loongarch/include/asm/pgtable-bits.h: _CACHE_SUC 0, _CACHE_CC 1, _CACHE_WUC 2.
    assert_eq!(
        (0..4).map(Type::from_mat).collect::<Vec<_>>(),
        [Some(Type::Suc), Some(Type::Cc), Some(Type::Wuc), None]
    );
    for bits in 0..=u8::MAX {
        assert_eq!(Type::from_mat(bits).map(|ty| ty as u8), (bits & 3 != 3).then_some(bits & 3));
    }
    assert_eq!([false, true].map(loongarch::writecombine), [Type::Suc, Type::Wuc]);
    assert_eq!([false, true].map(loongarch::kvm), [Type::Suc, Type::Cc]);
    assert_eq!(loongarch::COMBINES.checked, Checked::Unverified);
}

/// Nothing that could be a load or a store reaches a PCI function on s390.
#[test]
fn s390_has_no_such_operation() {
    for ty in s390::Type::ALL {
        for question in [Question::Exclusives, Question::Atomics, Question::ZeroLine, Question::Execute] {
            assert!(ty.guarantee(question).is_none());
        }
    }
}

fn ours() -> impl Iterator<Item = MemoryType> {
    MemoryType::ALL
        .iter()
        .copied()
        .filter(|ty| matches!(ty.arch(), Arch::Riscv | Arch::Power | Arch::LoongArch | Arch::S390))
}

#[test]
fn every_question_is_answered() {
    for ty in ours() {
        for question in Question::ALL {
            let answer = ty.guarantee(question);
            let missing = match question {
                Question::ZeroLine => matches!(ty.arch(), Arch::LoongArch | Arch::S390),
                Question::Exclusives | Question::Atomics | Question::Execute => ty.arch() == Arch::S390,
                Question::Burst64 => ty.arch() == Arch::Riscv,
                _ => false,
            };
            assert_eq!(answer.is_none(), missing, "{ty} {question:?}");
            let Some(g) = answer else { continue };
            assert!(question.is_means() || g.by.is_empty(), "{ty} {question:?}");
            assert!(!g.note.ends_with('.') && !g.note.contains("  "), "{ty} {question:?}");
            assert!(!g.cite.place.is_empty());
        }
    }
}

/// Uncached types keep no copy and write nothing of their own; the cacheable ones may.
#[test]
fn uncached_types_hold_nothing() {
    for ty in ours() {
        let standing = |q| ty.guarantee(q).unwrap().standing;
        let uncached = !matches!(
            ty,
            MemoryType::Riscv(riscv::Type::PmaMain | riscv::Type::PmaIo)
                | MemoryType::Power(power::Type::Cacheable)
                | MemoryType::LoongArch(loongarch::Type::Cc)
        );
        assert_eq!(standing(Question::Cached) == Standing::Forbidden, uncached, "{ty}");
        assert_eq!(standing(Question::StrayWrite) == Standing::Forbidden, uncached, "{ty}");
    }
}

fn table() -> impl Iterator<Item = Entry> {
    Arch::ALL.into_iter().flat_map(|arch| Helper::ALL.into_iter().map(move |helper| entry(arch, helper)))
}

#[test]
fn linux_rows_are_whole() {
    let mut seen = BTreeSet::new();
    for e in table() {
        assert!(seen.insert((e.arch, e.helper)));
        let types = [e.ty, e.otherwise, e.later.map(|l| l.ty)];
        assert!(types.into_iter().flatten().all(|ty| ty.arch() == e.arch), "{} {}", e.arch, e.helper);
        assert!(types.into_iter().flatten().all(|ty| MemoryType::ALL.contains(&ty)), "{} {}", e.arch, e.helper);
        assert_eq!((e.cite.source, e.cite.checked), (Source::Linux, Checked::Read));
        assert_eq!(of(e.arch, e.helper), e.ty.map(|_| e));
        assert!(
            e.otherwise.is_none() || e.ty.is_some() && e.condition.starts_with("where "),
            "{} {}",
            e.arch,
            e.helper
        );
        assert_eq!(e.otherwise.is_some(), e.condition.starts_with("where "), "{} {}", e.arch, e.helper);
        for text in [e.attribute, e.condition, e.cite.place] {
            assert!(!text.contains([',', '"', '\n']), "CSV: {text}");
        }
    }
    assert_eq!(seen.len(), 60);
}

fn cacheable(ty: MemoryType) -> bool {
    match ty {
        MemoryType::Arm64(ty) => ty.is_cacheable(),
        MemoryType::X86(ty) => !matches!(ty, memtype::x86::Type::Uc | memtype::x86::Type::Wc),
        MemoryType::Riscv(ty) => ty == riscv::Type::PmaMain,
        MemoryType::Power(ty) => ty == power::Type::Cacheable,
        MemoryType::LoongArch(ty) => ty == loongarch::Type::Cc,
        MemoryType::S390(_) => false,
    }
}

/// What is asked for as uncached is never cacheable, whatever the CPU lacks. `pgprot_dmacoherent()` is the exception, where
/// the page table cannot say it.
#[test]
fn uncached_helpers_are_uncached() {
    for e in table() {
        let any = [e.ty, e.otherwise, e.later.map(|l| l.ty)].into_iter().flatten().any(cacheable);
        let may = match e.helper {
            Helper::IoremapCache => e.ty.is_some(),
            Helper::IoremapWt => e.arch == Arch::X86,
            Helper::PgprotDmacoherent => e.arch == Arch::Riscv,
            _ => false,
        };
        assert_eq!(any, may, "{} {}", e.arch, e.helper);
    }
}

/// Where the write-combining helpers give another type than `ioremap()`, that type may gather; where their condition fails,
/// they give what `ioremap()` gives.
#[test]
fn wc_is_as_free_as_ioremap_or_freer() {
    for arch in Arch::ALL {
        let plain = of(arch, Helper::Ioremap).unwrap();
        for helper in [Helper::IoremapWc, Helper::PgprotWritecombine] {
            let wc = of(arch, helper).unwrap();
            for ty in [wc.ty, wc.later.map(|l| l.ty)].into_iter().flatten().filter(|ty| Some(*ty) != plain.ty) {
                let gather = ty.guarantee(Question::Gather).map(|g| g.standing);
                assert!(gather.is_none_or(|s| s == Standing::Permitted), "{ty}");
            }
            // Where the condition fails it is what ioremap() would have been.
            let fallback = wc.otherwise.unwrap_or(wc.ty.unwrap());
            assert!(
                Some(fallback) == plain.ty || Some(fallback) == plain.otherwise || wc.otherwise.is_none(),
                "{arch}"
            );
        }
    }
}

/// `resourceN_wc` would be a lie where it maps what `resourceN` maps.
#[test]
fn a_wc_file_maps_something_else() {
    let answers = Arch::ALL.map(|arch| (arch, arch_can_pci_mmap_wc(arch)));
    for (arch, can) in answers {
        let wc = of(arch, Helper::PgprotWritecombine).unwrap();
        let device = of(arch, Helper::PgprotDevice).unwrap();
        for v in [can.v6_12, can.v7_2] {
            if v != MmapWc::No {
                assert_ne!(wc.ty, device.ty, "{arch}");
            }
        }
        assert!(can.v6_12 == MmapWc::No || can.v6_12 == can.v7_2, "no architecture lost it");
        assert_eq!(can.cite.checked, Checked::Read);
    }
    // Two could, and do not say so.
    let silent: Vec<_> = answers.iter().filter(|(_, can)| can.v7_2 == MmapWc::No).map(|(arch, _)| *arch).collect();
    assert_eq!(silent, [Arch::Riscv, Arch::LoongArch]);
}

/// The matrix by name: what a maintainer would say from memory.
#[test]
fn linux_by_name() {
    let name = |arch, helper| of(arch, helper).and_then(|e| e.ty).map_or("-", MemoryType::name);
    let rows: [(Helper, [&str; 6]); 10] = [
        // arm64, x86, riscv, power, loongarch, s390
        (Helper::PgprotNoncached, ["device-ngnrne", "uc", "io", "ig", "suc", "mio"]),
        (Helper::PgprotDevice, ["device-ngnre", "uc", "io", "ig", "suc", "mio"]),
        (Helper::PgprotWritecombine, ["normal-nc", "wc", "nc", "i", "wuc", "mio-wc"]),
        (Helper::PgprotDmacoherent, ["normal-nc", "uc", "nc", "ig", "suc", "-"]),
        (Helper::Ioremap, ["device-ngnre", "uc", "io", "ig", "suc", "mio"]),
        (Helper::IoremapNp, ["device-ngnrne", "-", "-", "-", "-", "-"]),
        (Helper::IoremapUc, ["-", "uc", "-", "-", "-", "-"]),
        (Helper::IoremapWc, ["normal-nc", "wc", "io", "i", "wuc", "mio-wc"]),
        (Helper::IoremapWt, ["device-ngnre", "wt", "io", "ig", "suc", "mio"]),
        (Helper::IoremapCache, ["normal-wb", "wb", "-", "m", "cc", "-"]),
    ];
    for (helper, names) in rows {
        assert_eq!(Arch::ALL.map(|arch| name(arch, helper)), names, "{helper}");
    }
}
