//! `bartender explain --arch x86`.

use memtype::MemoryType;
use memtype::cite::{Cite, Source};
use memtype::x86::kvm::{Asked, Era, Says};
use memtype::x86::{DISAGREEMENTS, EFFECTIVE, Pat, Type, effective, ept, npt, was_undefined};

use super::answer::{Answer, Because, Layer, Terms};

const KEYS: &[&str] =
    &["pat", "mtrr", "ept", "ipat", "cd", "npt", "kvm", "pfn", "noncoherent", "selfsnoop", "honour-pat", "cd-quirk"];

fn types() -> [(&'static str, Type); 5] {
    Type::ALL.map(|t| (t.name(), t))
}
fn pats() -> [(&'static str, Pat); 6] {
    Pat::ALL.map(|p| (p.name(), p))
}

fn layer(name: &'static str, says: impl ToString, from: impl Into<String>) -> Layer {
    Layer { name, says: says.to_string(), from: from.into() }
}

/// Combines the layers.
pub(super) fn explain(terms: &[String]) -> Result<Answer, String> {
    let terms = Terms::new("x86", KEYS, terms)?;
    let pat = terms
        .one_of("pat", &pats())?
        .ok_or("x86: what does the page say?\nadd pat=wc, or another of uc, ucm, wc, wt, wp, wb")?;
    let cd = terms.flag("cd")?.unwrap_or(false);
    let mtrr = terms.one_of("mtrr", &types())?;
    let below = terms.one_of("ept", &types())?;
    let ipat = terms.flag("ipat")?;
    let host = terms.one_of("npt", &pats())?;
    let kvm = terms.get("kvm").map(era).transpose()?;
    if kvm.is_none() {
        for key in ["pfn", "noncoherent", "selfsnoop", "honour-pat", "cd-quirk"] {
            if terms.get(key).is_some() {
                return Err(format!("x86: {key} is for KVM's choice\nadd kvm=6.12, or another release"));
            }
        }
    }
    if ipat.is_some() && below.is_none() {
        return Err("x86: ipat is a bit of an EPT entry\nadd ept=uc, or another type".into());
    }
    let page = layer("guest PAT", pat, format!("entry {:#04x}", pat as u8));
    match (mtrr, below, host, kvm) {
        (None, Some(below), None, None) => Ok(by_ept(page, pat, below, ipat.unwrap_or(false), cd)),
        (None, None, None, Some(era)) => by_kvm(&terms, page, pat, era, cd),
        (mtrr, None, Some(host), None) => Ok(by_npt(page, pat, host, mtrr, cd)),
        (Some(mtrr), None, None, None) => Ok(by_mtrr(pat, mtrr, cd)),
        (None, None, None, None) => Err(
            "x86: and what is below the page?\nadd mtrr=uc (no hypervisor), ept=uc (Intel), npt=wb (AMD), or kvm=6.12"
                .into(),
        ),
        (Some(_), Some(_), ..) => {
            Err("x86: MTRRs have no effect on a guest's accesses under EPT\nleave out mtrr, or ept".into())
        }
        (_, Some(_), Some(_), _) => {
            Err("x86: ept is Intel's, npt is AMD's: a guest has one of them\nleave out one".into())
        }
        (_, Some(_), _, Some(_)) => {
            Err("x86: kvm= asks what KVM writes into the EPT entry\nleave out ept, or kvm".into())
        }
        (Some(_), _, _, Some(_)) => Err(
            "x86: MTRRs have no effect on a guest's accesses under EPT, which kvm= is about\nleave out mtrr, or kvm"
                .into(),
        ),
        (_, _, Some(_), Some(_)) => {
            Err("x86: kvm= is KVM on Intel; on AMD it leaves the nested entry at WB\nleave out kvm: npt=wb".into())
        }
    }
}

/// An era by its name, or by a release that belongs to it: `6.8`, `v6.12.80`.
fn era(text: &str) -> Result<Era, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(era) = Era::ALL.into_iter().find(|era| era.name() == lower) {
        return Ok(era);
    }
    let mut parts = lower.trim_start_matches('v').splitn(3, '.').map(str::parse::<u16>);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor)), None) => Ok(Era::of_release(major, minor, 0)),
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Ok(Era::of_release(major, minor, patch)),
        _ => Err(format!(
            "x86: kvm: `{text}` is no release\na release as in 6.8 or 6.12.80, or one of: {}",
            Era::ALL.map(Era::name).join(", ")
        )),
    }
}

fn answer(layers: Vec<Layer>, ty: Type, because: Vec<Because>, notes: Vec<String>) -> Answer {
    Answer {
        arch: "x86",
        layers,
        name: ty.name(),
        shown: ty.to_string(),
        ty: Some(MemoryType::X86(ty)),
        because,
        notes,
    }
}

/// CR0.CD on a CPU without EPT: what would be cached is not; write-combining is no caching.
fn cache_disabled(because: &mut Vec<Because>, notes: &mut Vec<String>) {
    because.push(Because::new(
        "CR0.CD is set: nothing new is cached.",
        Cite::read(Source::Sdm, "vol. 3A 11.5.3, preventing caching"),
    ));
    notes.push("What caches hold when CR0.CD is set is still hit, until they are flushed (WBINVD).".into());
}

fn of_table(ty: Type, below: Type, pat: Pat, notes: &mut Vec<String>) -> &'static str {
    if was_undefined(below, pat) {
        notes.push("Older editions of the SDM call this combination undefined; note 3 of the table says that all processors do this.".into());
    }
    for it in DISAGREEMENTS.iter().filter(|it| it.mtrr == below && it.pat == pat) {
        notes.push(format!("{} [{}]", it.says, it.who));
    }
    match (below, pat) {
        (Type::Uc, Pat::Wc) => "WC of the page wins over UC below it: the one type that a page can make weaker.",
        (_, Pat::Wc) => "WC of the page wins over what is below it.",
        (_, Pat::Uc) => "UC of the page wins over what is below it.",
        (_, Pat::UcMinus) if ty == Type::Wc => "UC- of the page gives way to what is below it: WC.",
        (_, Pat::UcMinus) => "UC- of the page is UC here: only over WC and WP it gives way.",
        (Type::Uc, _) => "UC below wins over any cacheable type of the page.",
        (_, Pat::Wb) => "WB of the page leaves it to what is below.",
        (Type::Wc, _) => "WC below and a cacheable type of the page: UC.",
        _ => "A cacheable type of the page holds over a cacheable one below.",
    }
}

fn by_mtrr(pat: Pat, mtrr: Type, cd: bool) -> Answer {
    let mut notes = Vec::new();
    let mut ty = effective(mtrr, pat);
    let mut because = vec![Because::new(of_table(ty, mtrr, pat, &mut notes), EFFECTIVE)];
    if cd && ty.is_cacheable() {
        ty = Type::Uc;
        cache_disabled(&mut because, &mut notes);
    }
    let layers =
        vec![layer("MTRR", mtrr, "the physical address"), layer("PAT", pat, format!("entry {:#04x}", pat as u8))];
    answer(layers, ty, because, notes)
}

fn by_ept(page: Layer, pat: Pat, below: Type, ipat: bool, cd: bool) -> Answer {
    let mut notes = Vec::new();
    let ty = ept::combine_cd(below, ipat, pat, cd);
    let mut because = vec![Because::new("MTRRs have no effect on a guest's accesses.", ept::COMBINE)];
    if ipat {
        because.push(Because::new("IPAT is set: the EPT type, and the guest's PAT is ignored.", ept::COMBINE));
    } else {
        because.push(Because::new("IPAT is clear: the EPT type stands in the MTRR's place.", ept::COMBINE));
        because.push(Because::new(of_table(ty, below, pat, &mut notes), EFFECTIVE));
    }
    if cd {
        notes.clear();
        because = vec![
            Because::new("CR0.CD is set in the CPU: the type is UC, whatever the tables say.", ept::COMBINE),
            Because::new(
                "KVM never lets a guest's CR0.CD through to the CPU.",
                Cite::second_hand(Source::Linux, "arch/x86/kvm/vmx/vmx.c KVM_VM_CR0_ALWAYS_OFF"),
            ),
        ];
    }
    let leaf = layer("EPT", below, format!("bits 5:3 = {}, IPAT = {}", below as u8, u8::from(ipat)));
    answer(vec![leaf, page], ty, because, notes)
}

fn by_kvm(terms: &Terms<'_>, page: Layer, pat: Pat, era: Era, cd: bool) -> Result<Answer, String> {
    let mmio = terms.one_of("pfn", &[("mmio", true), ("ram", false)])?.unwrap_or(true);
    let asked = Asked {
        mmio,
        noncoherent_dma: terms.flag("noncoherent")?.unwrap_or(false),
        self_snoop: terms.flag("selfsnoop")?.unwrap_or(true),
        honour_guest_pat: terms.flag("honour-pat")?.unwrap_or(false),
        cd,
        cd_quirk: terms.flag("cd-quirk")?.unwrap_or(true),
    };
    let chosen = era.leaf(asked);
    let Says::Leaf { ty: below, ipat } = chosen.says else {
        return Err(format!(
            "x86: {} writes the type of the guest's own MTRRs here, IPAT clear\nask again with ept=TYPE, the type that they say",
            era.says()
        ));
    };
    // The CPU never sees the guest's CR0.CD: KVM_VM_CR0_ALWAYS_OFF.
    let mut it = by_ept(page, pat, below, ipat, false);
    if cd {
        it.notes.push("KVM does not let the guest's CR0.CD through to the CPU.".into());
    }
    if let Some(leaf) = it.layers.first_mut() {
        leaf.from.push_str(if mmio { "; MMIO" } else { "; RAM" });
    }
    it.because.insert(0, Because::new(format!("{}: {}", era.says(), chosen.rule), era.cite()));
    let rule = match (mmio, asked.noncoherent_dma) {
        (true, _) => "1) MMIO is UC: the guest's attributes make it UC or WC.",
        (false, false) => "2) Memory is WB by force, if no device's DMA can be non-coherent.",
        (false, true) => "3) Where DMA can be non-coherent, the guest's attributes count on memory.",
    };
    it.because.insert(1, Because::new(rule, Cite::read(Source::Said, "thread 002, K. Tian, of KVM in 2022")));
    Ok(it)
}

fn by_npt(page: Layer, pat: Pat, host: Pat, given: Option<Type>, cd: bool) -> Answer {
    use npt::InForce::{Cd, Wb, WcPlus, Wp, Wt};

    let mtrr = given.unwrap_or(Type::Uc);
    let both = npt::pats(pat, host);
    let mut in_force = npt::with_mtrr(mtrr, both);
    let mut because = vec![
        Because::new(format!("The guest's PAT entry {pat} and the host's {host} come to {both}."), npt::PATS),
        Because::new(format!("{both} and the MTRR's {mtrr} come to {in_force}."), npt::WITH_MTRR),
    ];
    let mut notes = Vec::new();
    if cd && matches!(in_force, Wp | Wt | Wb) {
        in_force = Cd;
        because.push(Because::new("CR0.CD is set, in the guest or the host: nothing is cached.", npt::TYPES));
    }
    match in_force {
        WcPlus => notes.push("WC+ is WC that looks into the caches: what the host wrote to them is seen.".into()),
        Cd => notes.push("CD is UC that looks into the caches first, and takes lines out of them.".into()),
        _ => {}
    }
    if host == Pat::Wb {
        because.push(Because::new(
            "KVM leaves the nested entry at entry 0 of the host's PAT, WB, and the guest's PAT always counts.",
            Cite::read(Source::Linux, "6.12 arch/x86/kvm/svm/svm.c: no get_mt_mask"),
        ));
    }
    let from = if given.is_some() { "the host-physical address" } else { "as of a BAR, since no mtrr= is given" };
    let layers = vec![layer("MTRR", mtrr, from), layer("nested", host, "an entry of the host's PAT"), page];
    let mut it = answer(layers, in_force.ty(), because, notes);
    it.shown = in_force.to_string();
    it
}
