//! The contracts as such, and what they come to.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use memtype::contract::{
    Contract, IOREMAP, IOREMAP_NP, IOREMAP_WC, Predicate, RDMA_UC, RDMA_WC, REGISTER, Verdict, WC, WC_MEMORY,
};
use memtype::guarantee::{Question, Standing};
use memtype::{Arch, MemoryType};

fn ty(name: &str) -> MemoryType {
    MemoryType::named(name).unwrap()
}

#[test]
fn a_clause_has_a_name_of_its_own_and_a_question_one_clause() {
    let mut ids = BTreeSet::new();
    for contract in Contract::ALL {
        for clause in contract.own {
            assert!(ids.insert(clause.id), "{}", clause.id);
            assert!(clause.says.ends_with('.') && !clause.cite.place.is_empty(), "{}", clause.id);
        }
        let mut questions = BTreeSet::new();
        for clause in contract.clauses() {
            assert!(questions.insert(clause.predicate.question()), "{}: {}", contract.name, clause.id);
        }
        // One level of extension is all there is.
        assert!(contract.extends.is_none_or(|base| base.extends.is_none()), "{}", contract.name);
        assert_eq!(Contract::named(contract.name), Some(*contract));
    }
}

#[test]
fn write_combining_leaves_no_question_open() {
    let answered: BTreeSet<Question> = WC.clauses().map(|c| c.predicate.question()).collect();
    assert_eq!(answered, Question::ALL.into_iter().collect());
}

#[test]
fn every_type_has_an_answer_or_no_such_operation() {
    for ty in MemoryType::ALL {
        for q in Question::ALL {
            let Some(g) = ty.guarantee(q) else {
                // Only an operation can be missing; a behaviour is there or not.
                let operation =
                    matches!(q, Question::Exclusives | Question::Atomics | Question::ZeroLine | Question::Burst64);
                let s390 = ty.arch() == Arch::S390 && matches!(q, Question::Unaligned | Question::Execute);
                assert!(operation || s390, "{ty} {q:?}");
                continue;
            };
            assert!(!g.cite.place.is_empty(), "{ty} {q:?}");
            assert!(g.by.is_empty() || q.is_means(), "{ty} {q:?}");
            assert!(g.by.is_empty() || g.standing != Standing::Forbidden, "{ty} {q:?}");
        }
    }
}

#[test]
fn what_implies_another_is_kept_by_fewer_types() {
    let mut pairs = 0;
    for a in Contract::ALL {
        for b in Contract::ALL {
            if !a.implies(b) {
                continue;
            }
            pairs += usize::from(a.name != b.name);
            for ty in MemoryType::ALL {
                assert!(b.verdict(*ty) <= a.verdict(*ty), "{ty}: {} implies {}", a.name, b.name);
            }
        }
        assert!(a.implies(a));
    }
    assert!(pairs >= 8, "{pairs}");
}

#[test]
fn the_portable_contract_is_what_both_of_its_users_ask_for() {
    assert!(WC.implies(&IOREMAP_WC) && WC.implies(&RDMA_WC));
    // What may be given instead: Linux does so where an architecture has no write-combining.
    assert!(REGISTER.implies(&WC) && REGISTER.implies(&IOREMAP) && REGISTER.implies(&RDMA_UC));
    assert!(IOREMAP_NP.implies(&IOREMAP) && IOREMAP.implies(&IOREMAP_WC));
    // And what may not: a driver that uses the BAR as memory was promised more than registers give.
    assert!(WC_MEMORY.implies(&WC) && !REGISTER.implies(&WC_MEMORY) && !WC.implies(&WC_MEMORY));
    assert!(!WC.implies(&IOREMAP) && !IOREMAP.implies(&RDMA_WC));
}

#[test]
fn what_a_driver_tolerates_or_hopes_for_breaks_nothing() {
    for contract in Contract::ALL {
        for ty in MemoryType::ALL {
            for j in contract.judge(*ty) {
                match j.clause.predicate {
                    Predicate::May(_) | Predicate::Hoped(_) => assert_eq!(j.verdict, Verdict::Satisfied),
                    Predicate::Always(_) | Predicate::Never(_) | Predicate::Works(_) => {}
                }
                // A doubt that decides is shown.
                if j.is_broken() && !j.is_unverified() {
                    assert!(!contract.is_unverified(*ty), "{ty} {}", contract.name);
                }
            }
        }
    }
}

/// The answers people came for, written down by hand.
#[test]
fn who_satisfies_what() {
    use Verdict::{Broken, Depends, Satisfied};
    for (contract, name, verdict) in [
        (&WC, "arm64:normal-nc", Satisfied),
        (&WC, "arm64:device-gre", Satisfied),
        (&WC, "arm64:device-ngnre", Satisfied),
        (&WC, "arm64:normal-wb", Broken),
        (&WC, "x86:wc", Satisfied),
        (&WC, "x86:uc", Satisfied),
        (&WC, "x86:wb", Broken),
        (&WC, "riscv:nc", Depends),
        (&IOREMAP_WC, "riscv:nc", Satisfied),
        (&WC_MEMORY, "arm64:normal-nc", Satisfied),
        (&WC_MEMORY, "arm64:device-gre", Broken),
        (&WC_MEMORY, "arm64:device-ngnre", Broken),
        (&WC_MEMORY, "x86:wc", Satisfied),
        (&WC_MEMORY, "x86:uc", Satisfied),
        (&REGISTER, "arm64:device-ngnre", Satisfied),
        (&REGISTER, "arm64:device-ngnrne", Satisfied),
        (&REGISTER, "arm64:device-ngre", Broken),
        (&REGISTER, "arm64:normal-nc", Broken),
        (&REGISTER, "x86:uc", Satisfied),
        (&REGISTER, "x86:wc", Broken),
        (&IOREMAP, "arm64:device-ngnre", Satisfied),
        (&IOREMAP, "arm64:normal-nc", Broken),
        (&IOREMAP_NP, "arm64:device-ngnrne", Satisfied),
        (&IOREMAP_NP, "arm64:device-ngnre", Broken),
        (&memtype::contract::CACHEABLE, "arm64:normal-wb", Satisfied),
        (&memtype::contract::CACHEABLE, "arm64:normal-nc", Depends),
    ] {
        let unmet: Vec<_> = contract
            .judge(ty(name))
            .filter(|j| j.verdict != Satisfied)
            .map(|j| format!("{} {:?}", j.clause.id, j.answer))
            .collect();
        assert_eq!(contract.verdict(ty(name)), verdict, "{} {name}: {unmet:#?}", contract.name);
    }
}

/// On Arm a stricter type keeps what a weaker one keeps, but for what only Normal memory can do.
#[test]
fn stricter_is_safer_but_for_what_only_normal_memory_can() {
    let types: Vec<_> = MemoryType::ALL.iter().filter(|ty| ty.arch() == Arch::Arm64).copied().collect();
    let normal_only =
        [Question::Unaligned, Question::ZeroLine, Question::Execute, Question::Atomics, Question::Exclusives];
    for (i, strict) in types.iter().enumerate() {
        for weak in &types[i..] {
            for contract in Contract::ALL {
                for (s, w) in contract.judge(*strict).zip(contract.judge(*weak)) {
                    if w.verdict == Verdict::Satisfied && s.verdict != Verdict::Satisfied {
                        assert!(
                            normal_only.contains(&s.clause.predicate.question()),
                            "{strict} {weak} {}",
                            s.clause.id
                        );
                    }
                }
            }
        }
    }
}

/// The table "Through a hypervisor" of docs/write-combining.md: what a host must say so that a guest which asks for
/// write-combining gets memory it may use as such, and what the host cannot keep it from.
#[test]
fn through_a_hypervisor() {
    use memtype::arm::{self, Features, Stage1, Stage2, mair_of};
    use memtype::x86::{self, Pat, ept, npt};
    use memtype::{power, riscv};

    let arm = |fwb, memattr| {
        let s1 = Stage1::decode(mair_of("normal-nc").unwrap(), 0b11, Features::LATEST);
        let s2 = Stage2::decode(fwb, memattr, 0b11, Features::LATEST);
        WC_MEMORY.verdict(MemoryType::Arm64(arm::combine(&s1, &s2).ty))
    };
    // Without FWB: Normal, and not Device; what is cacheable at stage 2 leaves the guest's Non-cacheable as it is.
    for memattr in [0b0000, 0b0001, 0b0010, 0b0011] {
        assert_eq!(arm(false, memattr), Verdict::Broken, "{memattr:#b}");
    }
    for memattr in [0b0101, 0b1010, 0b1111] {
        assert_eq!(arm(false, memattr), Verdict::Satisfied, "{memattr:#b}");
    }
    // With FWB: 0b101 or 0b111.
    let given: Vec<u8> = (0..8).filter(|m| *m != 0b100 && arm(true, *m) == Verdict::Satisfied).collect();
    assert_eq!(given, [0b101, 0b111]);

    // x86: always, with IPAT clear, whatever the EPT type; with IPAT what the host says.
    for below in x86::Type::ALL {
        assert_eq!(WC_MEMORY.verdict(MemoryType::X86(ept::combine(below, false, Pat::Wc))), Verdict::Satisfied);
        let forced = WC_MEMORY.verdict(MemoryType::X86(ept::combine(below, true, Pat::Wc)));
        assert_eq!(forced == Verdict::Satisfied, !below.is_cacheable(), "{below}");
    }
    for host in Pat::ALL {
        assert_eq!(npt::combine(x86::Type::Uc, host, Pat::Wc), npt::InForce::Wc, "a BAR, whose MTRR says UC");
    }
    assert_eq!(npt::combine(x86::Type::Wb, Pat::Wb, Pat::Wc), npt::InForce::WcPlus, "RAM");

    // RISC-V: the guest wins over any G-stage. Power: it leaves out G.
    for g in [riscv::Pbmt::Pma, riscv::Pbmt::Nc, riscv::Pbmt::Io] {
        assert_eq!(riscv::combine(riscv::Pma::Io, g, riscv::Pbmt::Nc).ty, riscv::Type::Nc);
    }
    for host in [power::Type::InhibitedGuarded, power::Type::Inhibited] {
        let outcome = power::guest(power::Host::of(host), power::Wimg(0b0100));
        assert_eq!(outcome, power::Outcome::Granted(power::Type::Inhibited));
    }
}
