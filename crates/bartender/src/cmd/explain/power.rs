//! `bartender explain --arch power`: what a guest with hashed page tables gets under KVM-HV.

use memtype::MemoryType;
use memtype::cite::{Cite, Source};
use memtype::power::{GUEST_FAULTS, GUEST_REFUSED, GUEST_RULE, Host, Outcome, Type, Wimg, guest};

use super::answer::{Answer, Because, Layer, Terms};
use crate::input;

const TYPES: &[(&str, Type)] = &[("ig", Type::InhibitedGuarded), ("i", Type::Inhibited), ("m", Type::Cacheable)];

/// Combines the layers.
pub(super) fn explain(terms: &[String]) -> Result<Answer, String> {
    let terms = Terms::new("power", &["host", "guest"], terms)?;
    let host = terms.one_of("host", TYPES)?.unwrap_or(Type::InhibitedGuarded);
    let asked = wimg(terms.get("guest").ok_or("power: guest= is missing\nas in guest=i, guest=ig, guest=0b0101")?)?;
    let layers = vec![
        Layer {
            name: "host",
            says: host.to_string(),
            from: if terms.get("host").is_some() {
                "the host's page table"
            } else {
                "assumed: what VFIO maps a BAR with"
            }
            .into(),
        },
        Layer { name: "guest", says: letters(asked), from: format!("WIMG = {:#06b}", asked.0) },
    ];
    let outcome = guest(Host::of(host), asked);
    let (name, shown, ty) = match outcome {
        Outcome::Granted(ty) => (ty.name(), ty.to_string(), Some(ty)),
        Outcome::StrongAccessOrder => ("sao", "cacheable, strong access order".into(), None),
        Outcome::MadeCacheable => (Type::Cacheable.name(), Type::Cacheable.to_string(), Some(Type::Cacheable)),
        Outcome::Refused => ("refused", "refused: H_PARAMETER".into(), None),
    };
    Ok(Answer {
        arch: "power",
        layers,
        name,
        shown,
        ty: ty.map(MemoryType::Power),
        because: because(outcome),
        notes: notes(outcome),
    })
}

fn because(outcome: Outcome) -> Vec<Because> {
    let rule = |says: &str| Because::new(says, GUEST_RULE);
    match outcome {
        Outcome::Granted(Type::Cacheable) => vec![rule("Over cacheable memory M alone is entered as it is.")],
        Outcome::Granted(_) => {
            vec![rule(
                "Over a mapping that is caching inhibited the guest must ask for I and not for W; G is its choice.",
            )]
        }
        Outcome::StrongAccessOrder => vec![rule("W, I and M together mean strong access order, and count as M.")],
        Outcome::MadeCacheable => vec![
            rule("Over cacheable memory anything but M does not fit."),
            Because::new(
                "Then W, I and G are cleared and M is set, so that a guest may map an emulated device as it likes.",
                GUEST_REFUSED,
            ),
        ],
        Outcome::Refused => vec![
            rule("Over a mapping that is caching inhibited the guest must ask for I and not for W."),
            Because::new("It does not, so H_ENTER fails with H_PARAMETER.", GUEST_REFUSED),
            Because::new(
                "If the host's page was not there yet when the guest entered its translation, the access to it ends KVM_RUN \
                 with -EFAULT instead.",
                GUEST_FAULTS,
            ),
        ],
    }
}

fn notes(outcome: Outcome) -> Vec<String> {
    let mut notes = vec![
        "This is of guests with hashed page tables. Those with radix tables do not ask: the CPU has both attributes, and \
         where they conflict it raises a Data Storage interrupt (DSISR_ATTR_CONFLICT in Linux, from POWER9 on; which \
         combinations conflict is unverified)."
            .into(),
    ];
    if matches!(outcome, Outcome::Granted(Type::Inhibited | Type::InhibitedGuarded)) {
        notes.push(format!(
            "KVM asks only whether the host's mapping is caching inhibited: the guest has I where the host has I+G. [{}]",
            Cite::read(Source::Linux, "arch/powerpc/include/asm/book3s/64/pgtable.h pte_ci()")
        ));
    }
    notes
}

/// By letters (`ig`, `im`), by name (`sao`), or the four bits.
fn wimg(text: &str) -> Result<Wimg, String> {
    let lower = text.to_ascii_lowercase();
    if lower == "sao" {
        return Ok(Wimg(Wimg::SAO));
    }
    if lower.starts_with(|c: char| c.is_ascii_digit()) {
        return input::number_of(&lower, 4).map(Wimg).map_err(|e| format!("power: guest: {e}"));
    }
    let mut bits = 0;
    for letter in lower.chars() {
        let bit = match letter {
            'w' => Wimg::W,
            'i' => Wimg::I,
            'm' => Wimg::M,
            'g' => Wimg::G,
            _ => 0,
        };
        if bit == 0 || bits & bit != 0 {
            return Err(format!(
                "power: guest: `{text}` is no WIMG\nletters of w, i, m, g each once, as in ig; sao; or the bits, as in 0b0101"
            ));
        }
        bits |= bit;
    }
    Ok(Wimg(bits))
}

fn letters(wimg: Wimg) -> String {
    if wimg.0 == Wimg::SAO {
        return "SAO".into();
    }
    let set: Vec<_> = [(Wimg::W, "W"), (Wimg::I, "I"), (Wimg::M, "M"), (Wimg::G, "G")]
        .into_iter()
        .filter(|(bit, _)| wimg.has(*bit))
        .map(|(_, letter)| letter)
        .collect();
    if set.is_empty() { "none of W I M G".into() } else { set.join("+") }
}
