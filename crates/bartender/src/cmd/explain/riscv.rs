//! `bartender explain --arch riscv`.

use memtype::MemoryType;
use memtype::cite::{Cite, Source};
use memtype::riscv::{Combined, Exception, Pbmt, Pma, Type, combine};

use super::answer::{Answer, Because, Layer, Terms};

const KEYS: &[&str] = &["pma", "g", "vs", "svpbmt"];
/// What a PBMT can be called: the bits or the name.
const PBMT: &[(&str, u8)] = &[("pma", 0), ("nc", 1), ("io", 2), ("0", 0), ("1", 1), ("2", 2), ("3", 3), ("bare", 0)];

/// Combines the layers.
pub(super) fn explain(terms: &[String]) -> Result<Answer, String> {
    let terms = Terms::new("riscv", KEYS, terms)?;
    let pma = terms.one_of("pma", &[("main", Pma::Main), ("io", Pma::Io)])?;
    let (g, vs) = (terms.one_of("g", PBMT)?, terms.one_of("vs", PBMT)?);
    let svpbmt = terms.flag("svpbmt")?.unwrap_or(true);
    let layers = vec![
        Layer {
            name: "PMA",
            says: match pma.unwrap_or(Pma::Io) {
                Pma::Main => "main memory".into(),
                Pma::Io => "I/O".into(),
            },
            from: if pma.is_some() { "the platform" } else { "assumed: a BAR lies in an I/O region; else pma=main" }
                .into(),
        },
        stage("G-stage", terms.get("g"), g),
        stage("VS-stage", terms.get("vs"), vs),
    ];
    let answer = Answer {
        arch: "riscv",
        layers,
        name: "page-fault",
        shown: String::new(),
        ty: None,
        because: Vec::new(),
        notes: Vec::new(),
    };
    // The VS-stage is walked first; its fault is the guest's own. Each step of the walk is itself a G-stage translation.
    let stages = [("VS-stage", vs.unwrap_or(0)), ("G-stage", g.unwrap_or(0))];
    if !svpbmt && let Some((stage, bits)) = stages.into_iter().find(|(_, bits)| *bits != 0) {
        return Ok(fault(
            answer,
            stage,
            &format!("Without Svpbmt bits 62:61 must be zero, and they are {bits}: a page fault."),
            Cite::read(Source::Riscv, "vol. II Sv39 (Sv39_pte_svpbmt_rsv)"),
        ));
    }
    if let Some((stage, _)) = stages.into_iter().find(|(_, bits)| *bits == 3) {
        return Ok(fault(
            answer,
            stage,
            "PBMT = 3 is reserved: using it in a leaf raises a page fault.",
            Cite::read(Source::Riscv, "vol. II Svpbmt (leaf_pte_pbmt_reserved_3_fault)"),
        ));
    }
    let pbmt = |bits: Option<u8>| bits.and_then(Pbmt::from_bits).unwrap_or(Pbmt::Pma);
    let both = combine(pma.unwrap_or(Pma::Io), pbmt(g), pbmt(vs));
    Ok(Answer {
        name: both.ty.name(),
        shown: both.ty.to_string(),
        ty: Some(MemoryType::Riscv(both.ty)),
        because: both.because().into_iter().flatten().map(|rule| Because::new(rule.says(), rule.cite())).collect(),
        notes: notes(&both, svpbmt),
        ..answer
    })
}

fn stage(name: &'static str, given: Option<&str>, bits: Option<u8>) -> Layer {
    let says = match bits.unwrap_or(0) {
        0 => "PMA",
        1 => "NC",
        2 => "IO",
        _ => "reserved",
    };
    let from = match (given, bits) {
        (Some("bare"), _) => "MODE is Bare".to_string(),
        (_, Some(bits)) => format!("PBMT = {bits}"),
        (_, None) => "assumed: no override".into(),
    };
    Layer { name, says: says.into(), from }
}

fn fault(answer: Answer, stage: &str, says: &str, cite: Cite) -> Answer {
    let (shown, taken) = if stage == "G-stage" {
        ("guest-page fault", "The G-stage raises guest-page-fault exceptions, which are for the hypervisor.")
    } else {
        ("page fault", "The VS-stage raises page-fault exceptions, which are for the guest.")
    };
    let name = if stage == "G-stage" { "guest-page-fault" } else { "page-fault" };
    let mut because = vec![Because::new(says, cite)];
    because.push(Because::new(taken, Cite::read(Source::Riscv, "vol. II Hypervisor, two-stage address translation")));
    Answer { name, shown: shown.into(), because, ..answer }
}

fn notes(both: &Combined, svpbmt: bool) -> Vec<String> {
    let mut notes: Vec<String> = both
        .exceptions()
        .into_iter()
        .flatten()
        .map(|e| match e {
            Exception::NcOverIoRegion => {
                "Weaker than the I/O region asks for: a driver that counts on strong ordering breaks; the manual discourages \
                 it for those, and names write combining as what it is good for."
            }
            Exception::GuestNcOverGStageIo => {
                "Weaker than the hypervisor asks for: it can only prevent this by keeping Svpbmt from the guest \
                 (henvcfg.PBMTE = 0), or by trapping."
            }
        })
        .map(Into::into)
        .collect();
    if !svpbmt {
        notes.push("Without Svpbmt no page table has a say.".into());
    }
    if matches!(both.ty, Type::Nc) && both.counts_as_io() {
        notes.push(
            "fence w,w orders these writes among themselves; before a doorbell in an IO mapping it takes fence o,o or \
             fence ow,ow."
                .into(),
        );
    }
    notes
}
