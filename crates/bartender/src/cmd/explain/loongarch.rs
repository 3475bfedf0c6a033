//! `bartender explain --arch loongarch`: what is known, and that the rest is not.

use memtype::loongarch::{COMBINES, KVM, Type, kvm};

use super::answer::{Answer, Because, Layer, Terms};

const TYPES: &[(&str, Type)] = &[("suc", Type::Suc), ("wuc", Type::Wuc), ("cc", Type::Cc)];

/// Names the layers. What they come to is documented nowhere public, so there is no result.
pub(super) fn explain(terms: &[String]) -> Result<Answer, String> {
    let terms = Terms::new("loongarch", &["host", "guest"], terms)?;
    let guest =
        terms.one_of("guest", TYPES)?.ok_or("loongarch: guest= is missing\nas in guest=wuc, guest=suc, guest=cc")?;
    let host = terms.one_of("host", TYPES)?;
    let mut because =
        vec![Because::new("How the two combine is in the volume on virtualization, which is not public.", COMBINES)];
    if host.is_none() {
        because.push(Because::new("KVM maps a BAR SUC at the second level, whatever the host's own mapping is.", KVM));
    }
    let from = if host.is_some() { "the second level" } else { "assumed: what KVM maps a BAR with" };
    let layer = |name, ty: Type, from: &str| Layer { name, says: ty.to_string(), from: from.into() };
    Ok(Answer {
        arch: "loongarch",
        layers: vec![
            layer("host", host.unwrap_or(kvm(false)), from),
            layer("guest", guest, &format!("MAT of the guest's page table; {}", terms_of(guest))),
        ],
        name: "unknown",
        shown: "unknown".into(),
        ty: None,
        because,
        notes: vec![
            "Measure it: bartender contract --type loongarch:suc and loongarch:wuc say what would differ.".into(),
        ],
    })
}

const fn terms_of(ty: Type) -> &'static str {
    match ty {
        Type::Suc => "registers",
        Type::Wuc => "write-combining, where Linux has it on",
        Type::Cc => "memory",
    }
}
