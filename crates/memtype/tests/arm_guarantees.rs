//! What Arm's memory types promise: the answers written down a second time as a table, and laws over every MAIR byte.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use memtype::arm::*;
use memtype::cite::{Checked, Source};
use memtype::guarantee::{Guarantee, Question, Standing};

const F: Features = Features::LATEST;

const TYPES: [Type; 7] = [
    Type::Device(Device::nGnRnE),
    Type::Device(Device::nGnRE),
    Type::Device(Device::nGRE),
    Type::Device(Device::GRE),
    Type::NORMAL_NC,
    Type::NORMAL_WT,
    Type::NORMAL_WB,
];

fn ask(ty: Type, q: Question) -> Guarantee {
    ty.guarantee(q).unwrap_or_else(|| panic!("{ty} {q:?}"))
}

const fn letter(standing: Standing) -> char {
    match standing {
        Standing::Guaranteed => 'G',
        Standing::Permitted => 'p',
        Standing::Forbidden => '-',
        Standing::ImplementationDefined => 'i',
    }
}

/// From Device-nGnRnE to Normal-WB: Guaranteed, permitted, - forbidden, implementation-defined.
#[test]
fn the_table() {
    use Question as Q;
    for (q, row) in [
        (Q::Cached, "-----pp"),
        (Q::Gather, "---pppp"),
        (Q::ReorderSame, "--ppppp"),
        (Q::ReorderOther, "ppppppp"),
        (Q::EarlyAcknowledge, "-pppppp"),
        (Q::Hold, "------p"),
        (Q::StrayWrite, "-----pp"),
        (Q::SpeculativeRead, "----ppp"),
        (Q::Repeat, "----ppp"),
        (Q::Unaligned, "iiiiGGG"),
        (Q::Size, "GGGpppp"),
        (Q::Exclusives, "iiiiiiG"),
        (Q::Atomics, "iiiiiiG"),
        (Q::ZeroLine, "----GGG"),
        (Q::Execute, "iiiiGGG"),
        (Q::Orders, "GGGGGGG"),
        (Q::Separates, "GGGGGGG"),
        (Q::Drains, "GGGGGGG"),
        (Q::Burst64, "iiiiiii"),
    ] {
        let said: String = TYPES.iter().map(|ty| letter(ask(*ty, q).standing)).collect();
        assert_eq!(said, row, "{q:?}");
    }
}

#[test]
fn every_question_of_every_mair_byte_has_an_answer_that_is_followed_to_its_source() {
    let mut unverified = std::collections::BTreeSet::new();
    for byte in 0..=255u8 {
        let ty = Stage1::decode(byte, 3, F).ty();
        for q in Question::ALL {
            let g = ask(ty, q);
            assert_eq!(g.cite.source, Source::Arm);
            assert!(g.cite.place.starts_with(['B', 'C', 'D']), "{ty} {q:?}: {}", g.cite);
            assert!(!g.note.ends_with('.') && !g.note.contains("  "), "{ty} {q:?}: {}", g.note);
            assert!(g.by.is_empty() || q.is_means(), "{ty} {q:?}");
            assert_ne!(g.cite.checked, Checked::SecondHand, "{ty} {q:?}");
            if g.cite.checked == Checked::Unverified {
                unverified.insert((ty.name(), q));
            }
        }
    }
    // Nothing says whether a Write-Through cache writes more than it was given.
    let names: Vec<_> = unverified.into_iter().collect();
    assert_eq!(names, ["normal-inc-owt", "normal-iwt-onc", "normal-wt"].map(|name| (name, Question::StrayWrite)));
}

#[test]
fn the_answers_agree_with_the_predicates_of_the_type() {
    for byte in 0..=255u8 {
        let s1 = Stage1::decode(byte, 3, F);
        let ty = s1.ty();
        let may = |q| ask(ty, q).standing == Standing::Permitted;
        assert_eq!(may(Question::Gather), ty.may_gather(), "{ty}");
        assert_eq!(may(Question::ReorderSame), ty.may_reorder(), "{ty}");
        assert_eq!(may(Question::EarlyAcknowledge), ty.may_acknowledge_early(), "{ty}");
        assert_eq!(may(Question::SpeculativeRead), ty.may_speculate(), "{ty}");
        assert_eq!(may(Question::Cached), ty.is_cacheable(), "{ty}");
        // Under a stage 2 that takes what stage 1 says, Inner Shareable.
        let both = combine(&s1, &Stage2::decode(true, 0b0111, 0b11, F));
        for q in [Question::Atomics, Question::Exclusives] {
            assert_eq!(ask(ty, q).standing == Standing::Guaranteed, both.atomics_guaranteed(), "{ty}");
        }
        let fault = both.unaligned() == Alignment::Fault { stage: 1 };
        assert_eq!(ask(ty, Question::Unaligned).standing == Standing::ImplementationDefined, fault, "{ty}");
        assert_eq!(ask(ty, Question::ZeroLine).standing == Standing::Forbidden, fault, "{ty}");
    }
}

/// A type that is stricter in Arm's order does nothing that a weaker one does not: what an implementation may treat as what.
#[test]
fn a_stricter_type_does_less() {
    let behaviours = [
        Question::Cached,
        Question::Gather,
        Question::ReorderSame,
        Question::ReorderOther,
        Question::EarlyAcknowledge,
        Question::Hold,
        Question::StrayWrite,
        Question::SpeculativeRead,
        Question::Repeat,
    ];
    for pair in TYPES.windows(2) {
        for q in behaviours {
            let (strict, weak) = (ask(pair[0], q).standing, ask(pair[1], q).standing);
            assert!(strict == Standing::Forbidden || weak == Standing::Permitted, "{} {} {q:?}", pair[0], pair[1]);
        }
        // And what a program can rely on of its accesses is not less.
        let size = [ask(pair[0], Question::Size).standing, ask(pair[1], Question::Size).standing];
        assert!(size[0] == Standing::Guaranteed || size[1] != Standing::Guaranteed);
    }
}

/// Inner and outer apart: Non-cacheable only where both are, Write-Back's promises only where both are.
#[test]
fn mixed_cacheability_has_the_freedoms_of_either_and_the_promises_of_both() {
    for byte in 0..=255u8 {
        let Type::Normal { inner, outer } = Stage1::decode(byte, 3, F).ty() else { continue };
        let ty = Type::Normal { inner, outer };
        let alone = |c: Cache| Type::Normal { inner: c, outer: c };
        for q in [Question::Cached, Question::Hold, Question::StrayWrite, Question::SpeculativeRead, Question::Gather] {
            let either = [inner, outer].map(|c| ask(alone(c), q).standing).contains(&Standing::Permitted);
            assert_eq!(ask(ty, q).standing == Standing::Permitted, either, "{ty} {q:?}");
        }
        for q in [Question::Exclusives, Question::Atomics, Question::Unaligned, Question::ZeroLine] {
            let both = [inner, outer].into_iter().all(|c| ask(alone(c), q).standing == Standing::Guaranteed);
            assert_eq!(ask(ty, q).standing == Standing::Guaranteed, both, "{ty} {q:?}");
        }
    }
}

#[test]
fn the_means_are_instructions_and_the_weakest_comes_first() {
    let by = |ty, q| ask(ty, q).by;
    for ty in [Type::Device(Device::nGRE), Type::Device(Device::GRE), Type::NORMAL_NC] {
        assert_eq!(by(ty, Question::Orders)[0], "DMB OSHST");
        // A DSB is stronger than the DMB of the same options (B2.6.9), so it orders too; DGH does nothing of the kind.
        assert!(by(ty, Question::Drains).iter().all(|drain| by(ty, Question::Orders).contains(drain)));
        assert!(!by(ty, Question::Orders).contains(&"DGH"));
    }
    for ty in [Type::Device(Device::nGnRnE), Type::Device(Device::nGnRE)] {
        assert!(by(ty, Question::Orders).is_empty() && by(ty, Question::Separates).is_empty());
    }
    assert!(by(Type::Device(Device::nGRE), Question::Separates).is_empty());
    assert_eq!(by(Type::NORMAL_NC, Question::Separates), by(Type::NORMAL_NC, Question::Orders));
    // A barrier does not empty a Write-Back cache.
    assert!(by(Type::NORMAL_WB, Question::Drains).iter().all(|it| it.starts_with("DC CVAC")));
    for ty in TYPES {
        assert_eq!(by(ty, Question::Burst64)[0], "ST64B");
        assert!(!by(ty, Question::Drains).is_empty());
    }
}
