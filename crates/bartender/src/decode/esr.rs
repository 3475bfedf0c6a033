//! ESR_EL1 and ESR_EL2: the exception class, the syndrome of aborts field by field, and in words what happened, why in
//! terms of memory types, and what to do about it.
//!
//! The layouts are those of DDI 0487 M.a.a, D24.2.45 and D24.2.46; what Linux does is cited with the function and version.

use memtype::arm::Rule;
use serde::Serialize;

use super::fsc::{Cause, Fsc, Side};
use super::{Field, Means, Spec, bits, fields, mask};
use crate::input;
use crate::show::Hex;

/// What the ISS of an exception class holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Iss {
    Data,
    Instruction,
    SError,
    SysReg,
    Imm16,
    Wf,
    Other,
}

/// An exception class.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// EC.
    pub code: u8,
    /// In a few words.
    pub name: &'static str,
    iss: Iss,
}

const fn class(code: u8, iss: Iss, name: &'static str) -> Class {
    Class { code, name, iss }
}

/// The allocated classes, ESR_EL3's two included.
pub const CLASSES: [Class; 48] = [
    class(0x00, Iss::Other, "unknown reason: an undefined or disallowed instruction"),
    class(0x01, Iss::Wf, "trapped WFI, WFE, WFIT or WFET"),
    class(0x03, Iss::Other, "trapped MCR or MRC, coproc 0b1111 (AArch32)"),
    class(0x04, Iss::Other, "trapped MCRR or MRRC, coproc 0b1111 (AArch32)"),
    class(0x05, Iss::Other, "trapped MCR or MRC, coproc 0b1110 (AArch32)"),
    class(0x06, Iss::Other, "trapped LDC or STC (AArch32)"),
    class(0x07, Iss::Other, "trapped access to SME, SVE, Advanced SIMD or floating point"),
    class(0x08, Iss::Other, "trapped VMRS (AArch32)"),
    class(0x09, Iss::Other, "trapped use of a pointer authentication instruction"),
    class(0x0a, Iss::Other, "trapped instruction without a class of its own (LD64B, ST64B and others)"),
    class(0x0c, Iss::Other, "trapped MRRC, coproc 0b1110 (AArch32)"),
    class(0x0d, Iss::Other, "Branch Target exception"),
    class(0x0e, Iss::Other, "illegal Execution state"),
    class(0x11, Iss::Imm16, "SVC in AArch32 state"),
    class(0x12, Iss::Imm16, "HVC in AArch32 state"),
    class(0x13, Iss::Other, "SMC in AArch32 state"),
    class(0x14, Iss::Other, "trapped MSRR, MRRS or 128-bit System instruction"),
    class(0x15, Iss::Imm16, "SVC in AArch64 state"),
    class(0x16, Iss::Imm16, "HVC in AArch64 state"),
    class(0x17, Iss::Imm16, "SMC in AArch64 state"),
    class(0x18, Iss::SysReg, "trapped MSR, MRS or System instruction"),
    class(0x19, Iss::Other, "trapped access to SVE"),
    class(0x1a, Iss::Other, "trapped ERET, ERETAA or ERETAB"),
    class(0x1c, Iss::Other, "pointer authentication failure"),
    class(0x1d, Iss::Other, "trapped access to SME"),
    class(0x1e, Iss::Other, "Granule Protection Check exception (taken to EL3)"),
    class(0x1f, Iss::Other, "IMPLEMENTATION DEFINED exception (taken to EL3)"),
    class(0x20, Iss::Instruction, "Instruction Abort from a lower Exception level"),
    class(0x21, Iss::Instruction, "Instruction Abort without a change in Exception level"),
    class(0x22, Iss::Other, "PC alignment fault"),
    class(0x24, Iss::Data, "Data Abort from a lower Exception level"),
    class(0x25, Iss::Data, "Data Abort without a change in Exception level"),
    class(0x26, Iss::Other, "SP alignment fault"),
    class(0x27, Iss::Other, "Memory Operation exception (CPY*, SET*)"),
    class(0x28, Iss::Other, "trapped floating-point exception from AArch32 state"),
    class(0x2c, Iss::Other, "trapped floating-point exception from AArch64 state"),
    class(0x2d, Iss::Other, "Guarded Control Stack exception"),
    class(0x2f, Iss::SError, "SError"),
    class(0x30, Iss::Other, "Breakpoint exception from a lower Exception level"),
    class(0x31, Iss::Other, "Breakpoint exception without a change in Exception level"),
    class(0x32, Iss::Other, "Software Step exception from a lower Exception level"),
    class(0x33, Iss::Other, "Software Step exception without a change in Exception level"),
    class(0x34, Iss::Other, "Watchpoint exception from a lower Exception level"),
    class(0x35, Iss::Other, "Watchpoint exception without a change in Exception level"),
    class(0x38, Iss::Imm16, "BKPT instruction in AArch32 state"),
    class(0x3a, Iss::Other, "Vector Catch exception from AArch32 state"),
    class(0x3c, Iss::Imm16, "BRK instruction in AArch64 state"),
    class(0x3d, Iss::Other, "Profiling exception"),
];

/// The class of an EC, `None` where Arm reserves the value.
#[must_use]
pub fn class_of(ec: u8) -> Option<&'static Class> {
    CLASSES.iter().find(|c| c.code == ec)
}

fn ec_means(ec: u64) -> String {
    match u8::try_from(ec).ok().and_then(class_of) {
        Some(class) => class.name.into(),
        None if ec <= 0x2c => "reserved by Arm (for synchronous exceptions)".into(),
        None => "reserved by Arm".into(),
    }
}

fn dfsc_means(code: u64) -> String {
    fsc_means(Side::Data, code)
}
fn ifsc_means(code: u64) -> String {
    fsc_means(Side::Instruction, code)
}
fn fsc_means(side: Side, code: u64) -> String {
    fsc(side, code).map_or_else(|| "reserved".into(), |fsc| fsc.to_string())
}
fn fsc(side: Side, code: u64) -> Option<Fsc> {
    u8::try_from(code).ok().and_then(|code| side.decode(code))
}

fn register(number: u64) -> String {
    if number == 31 { "xzr or wzr".into() } else { format!("x{number} or w{number}") }
}

/// What decides which fields there are: the whole value.
type Value = u64;

const fn isv(esr: &Value) -> bool {
    *esr >> 24 & 1 == 1
}
const fn code(esr: &Value) -> u64 {
    *esr & 0x3f
}
/// An External abort that is synchronous.
const fn external(esr: &Value) -> bool {
    matches!(code(esr), 0x10 | 0x12..=0x17)
}
const fn no_isv_external(esr: &Value) -> bool {
    !isv(esr) && external(esr)
}
const fn with_lst(esr: &Value) -> bool {
    matches!(code(esr), 0x04..=0x0f | 0x2a | 0x2b)
}

const NO_YES: Means = Means::One(&[(0, "no"), (1, "yes")]);

const COMMON: [Spec<Value>; 2] = [
    Spec::new("EC", 31, 26, Means::By(ec_means)),
    Spec::new("IL", 25, 25, Means::One(&[(0, "16-bit instruction"), (1, "32-bit instruction, or not told")])),
];

const SET: Means = Means::One(&[
    (0, "Recoverable state (UER)"),
    (2, "Uncontainable (UC): the error may have spread"),
    (3, "Restartable state (UEO)"),
]);

const DATA: &[Spec<Value>] = &[
    Spec::new("HDBSSF", 43, 43, NO_YES).quiet(),
    Spec::new("TnD", 42, 42, Means::One(&[(0, "no"), (1, "a write of a tag to Canonically Tagged memory")])).quiet(),
    Spec::new("TagAccess", 41, 41, Means::One(&[(0, "no"), (1, "stage 2 says NoTagAccess")])).quiet(),
    Spec::new("GCS", 40, 40, Means::One(&[(0, "no"), (1, "an access of the Guarded Control Stack")])).quiet(),
    Spec::new("AssuredOnly", 39, 39, NO_YES).quiet(),
    Spec::new("Overlay", 38, 38, Means::One(&[(0, "no"), (1, "the permission overlay forbids it")])).quiet(),
    Spec::new("DirtyBit", 37, 37, Means::One(&[(0, "no"), (1, "the dirty state forbids it")])).quiet(),
    Spec::new("Xs", 36, 32, Means::By(register)).quiet(),
    Spec::new(
        "ISV",
        24,
        24,
        Means::One(&[(0, "the instruction is not described"), (1, "the instruction is described")]),
    ),
    Spec::new("SAS", 23, 22, Means::One(&[(0, "1 byte"), (1, "2 bytes"), (2, "4 bytes"), (3, "8 bytes")])).when(isv),
    Spec::new("SSE", 21, 21, Means::One(&[(0, "no sign extension"), (1, "sign extension")])).when(isv),
    Spec::new("SRT", 20, 16, Means::By(register)).when(isv),
    Spec::new("SF", 15, 15, Means::One(&[(0, "32-bit register"), (1, "64-bit register")])).when(isv),
    Spec::new("AR", 14, 14, Means::One(&[(0, "no acquire or release"), (1, "acquire or release")])).when(isv),
    Spec::new("TopLevel", 21, 21, NO_YES).when(|esr| !isv(esr)).quiet(),
    Spec::new(
        "WU",
        17,
        16,
        Means::One(&[(0, "may have updated memory"), (2, "did not update memory"), (3, "updated memory")]),
    )
    .when(no_isv_external)
    .quiet(),
    Spec::new("FnP", 15, 15, Means::One(&[(0, "FAR is exact"), (1, "FAR is anywhere in the granule (SVE, SME)")]))
        .when(|esr| !isv(esr))
        .quiet(),
    Spec::new("PFV", 14, 14, Means::One(&[(0, "PFAR is UNKNOWN"), (1, "PFAR is valid")])).when(no_isv_external).quiet(),
    Spec::new("VNCR", 13, 13, Means::One(&[(0, "no"), (1, "an access through VNCR_EL2 (nested virtualization)")]))
        .quiet(),
    Spec::new("SET", 12, 11, SET).when(external),
    Spec::new("LST", 12, 11, Means::One(&[(0, "not told"), (1, "ST64BV"), (2, "LD64B or ST64B"), (3, "ST64BV0")]))
        .when(with_lst)
        .quiet(),
    Spec::new("FnV", 10, 10, Means::One(&[(0, "FAR is valid"), (1, "FAR is UNKNOWN")])).when(|esr| code(esr) == 0x10),
    Spec::new("EA", 9, 9, Means::One(&[(0, "0"), (1, "External abort type, IMPLEMENTATION DEFINED")])).quiet(),
    Spec::new("CM", 8, 8, Means::One(&[(0, "no"), (1, "cache maintenance, or an address translation instruction")]))
        .quiet(),
    Spec::new("S1PTW", 7, 7, Means::One(&[(0, "no"), (1, "a stage-2 fault on the walk of a stage-1 table")])).quiet(),
    Spec::new("WnR", 6, 6, Means::One(&[(0, "a read"), (1, "a write")])).when(|esr| !matches!(code(esr), 0x31 | 0x35)),
    Spec::new("WnR", 6, 6, Means::One(&[(0, "UNKNOWN for this fault"), (1, "UNKNOWN for this fault")]))
        .when(|esr| matches!(code(esr), 0x31 | 0x35)),
    Spec::new("DFSC", 5, 0, Means::By(dfsc_means)),
];

const INSTRUCTION: [Spec<Value>; 11] = [
    Spec::new("HDBSSF", 43, 43, NO_YES).quiet(),
    Spec::new("AssuredOnly", 39, 39, NO_YES).quiet(),
    Spec::new("Overlay", 38, 38, Means::One(&[(0, "no"), (1, "the permission overlay forbids it")])).quiet(),
    Spec::new("DirtyBit", 37, 37, Means::One(&[(0, "no"), (1, "the dirty state forbids it")])).quiet(),
    Spec::new("TopLevel", 21, 21, NO_YES).quiet(),
    Spec::new("PFV", 14, 14, Means::One(&[(0, "PFAR is UNKNOWN"), (1, "PFAR is valid")])).when(external).quiet(),
    Spec::new("SET", 12, 11, SET).when(|esr| code(esr) == 0x10),
    Spec::new("FnV", 10, 10, Means::One(&[(0, "FAR is valid"), (1, "FAR is UNKNOWN")])).when(|esr| code(esr) == 0x10),
    Spec::new("EA", 9, 9, Means::One(&[(0, "0"), (1, "External abort type, IMPLEMENTATION DEFINED")])).quiet(),
    Spec::new("S1PTW", 7, 7, Means::One(&[(0, "no"), (1, "a stage-2 fault on the walk of a stage-1 table")])).quiet(),
    Spec::new("IFSC", 5, 0, Means::By(ifsc_means)),
];

const fn ids(esr: &Value) -> bool {
    *esr >> 24 & 1 == 1
}
const fn ras(esr: &Value) -> bool {
    !ids(esr) && code(esr) == 0x11
}

const SERROR: [Spec<Value>; 12] = [
    Spec::new(
        "IDS",
        24,
        24,
        Means::One(&[(0, "the fields below are Arm's"), (1, "the rest is IMPLEMENTATION DEFINED")]),
    ),
    Spec::new("IMPDEF", 23, 0, Means::Number).when(ids),
    Spec::new("ELS", 18, 18, Means::One(&[(0, "asynchronous"), (1, "caused by the instruction at ELR")]))
        .when(|esr| !ids(esr))
        .quiet(),
    Spec::new(
        "WU",
        17,
        16,
        Means::One(&[(0, "may have updated memory"), (2, "did not update memory"), (3, "updated memory")]),
    )
    .when(|esr| !ids(esr))
    .quiet(),
    Spec::new("VFV", 15, 15, Means::One(&[(0, "FAR is UNKNOWN"), (1, "FAR is valid")])).when(|esr| !ids(esr)).quiet(),
    Spec::new("PFV", 14, 14, Means::One(&[(0, "PFAR is UNKNOWN"), (1, "PFAR is valid")])).when(|esr| !ids(esr)).quiet(),
    Spec::new("IESB", 13, 13, Means::One(&[(0, "no"), (1, "synchronized by an implicit error barrier")]))
        .when(|esr| !ids(esr))
        .quiet(),
    Spec::new(
        "AET",
        12,
        10,
        Means::One(&[
            (0, "Uncontainable (UC): the error may have spread"),
            (1, "Unrecoverable (UEU): contained, the state of this CPU is lost"),
            (2, "Restartable (UEO): contained, the program can go on"),
            (3, "Recoverable (UER): contained, once the location is repaired"),
            (6, "Corrected (CE)"),
        ]),
    )
    .when(ras),
    Spec::new("EA", 9, 9, Means::One(&[(0, "0"), (1, "External abort type, IMPLEMENTATION DEFINED")]))
        .when(|esr| !ids(esr))
        .quiet(),
    Spec::new("WnRV", 7, 7, Means::One(&[(0, "WnR says nothing"), (1, "WnR is valid")])).when(ras).quiet(),
    Spec::new("WnR", 6, 6, Means::One(&[(0, "a read"), (1, "a write")])).when(ras).quiet(),
    Spec::new("DFSC", 5, 0, Means::One(&[(0, "uncategorized"), (0x11, "asynchronous SError")])).when(|esr| !ids(esr)),
];

const SYSREG: [Spec<Value>; 7] = [
    Spec::new("Op0", 21, 20, Means::Number),
    Spec::new("Op2", 19, 17, Means::Number),
    Spec::new("Op1", 16, 14, Means::Number),
    Spec::new("CRn", 13, 10, Means::Number),
    Spec::new("Rt", 9, 5, Means::By(register)),
    Spec::new("CRm", 4, 1, Means::Number),
    Spec::new("Direction", 0, 0, Means::One(&[(0, "a write (MSR, SYS)"), (1, "a read (MRS, SYSL)")])),
];

const IMM16: [Spec<Value>; 1] = [Spec::new("imm16", 15, 0, Means::Number)];

const WF: [Spec<Value>; 1] = [Spec::new("TI", 1, 0, Means::One(&[(0, "WFI"), (1, "WFE"), (2, "WFIT"), (3, "WFET")]))];

/// A WFx has more fields than TI (CV, COND, RN, RV), which say nothing here; an unknown ISS is shown whole.
const OTHER: [Spec<Value>; 2] = [
    Spec::new("ISS2", 55, 32, Means::Number).quiet(),
    Spec::new("ISS", 24, 0, Means::By(|_| "as this class defines it".into())).quiet(),
];

/// A value, and where it was said to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// The value.
    pub value: u64,
    /// ESR_EL1 or ESR_EL2, where the text says so.
    pub el: Option<u8>,
    /// Decimal digits only, as many as an ESR has in hexadecimal: likely meant as such.
    pub suspicious: bool,
}

/// Finds the ESR in what was typed or pasted: a number, or a line of a log (`ESR_EL2=0x92000061`, `ESR = 0x…`,
/// `hsr 0x…`, QEMU's `with ESR 0x25/0x96000061`).
///
/// # Errors
/// Says what would be right.
pub fn find(text: &str) -> Result<Given, String> {
    let text = text.trim();
    let labelled = ["esr", "hsr"].iter().any(|label| text.to_ascii_lowercase().contains(label));
    if !labelled && !text.contains(char::is_whitespace) {
        let suspicious = text.len() == 8 && text.chars().all(|c| c.is_ascii_digit());
        return Ok(Given { value: input::number(text)?, el: None, suspicious });
    }
    // ASCII lower case keeps every offset.
    let lower = text.to_ascii_lowercase();
    let found = ["esr", "hsr"].into_iter().flat_map(|label| lower.match_indices(label)).find_map(|(at, label)| {
        let before = lower.get(..at)?;
        if before.ends_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let mut rest = lower.get(at + label.len()..)?;
        let mut el = if label == "hsr" { Some(2) } else { None };
        if let Some(after) = rest.strip_prefix("_el") {
            el = match after.chars().next()? {
                '1' => Some(1),
                '2' => Some(2),
                _ => None,
            };
            rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        let value = rest.trim_start_matches(|c: char| c.is_whitespace() || ":=([,\"'".contains(c));
        let mut value = token(value);
        // QEMU prints EC and ESR, and where the exception went in a line before.
        if let Some((_, esr)) = value.split_once('/') {
            value = esr;
            el = el.or_else(|| {
                ["1", "2"].into_iter().position(|n| lower.contains(&format!("to el{n}"))).map(|n| n as u8 + 1)
            });
        }
        let hexadecimal = value.len() == 8 || value.len() == 16;
        let value = match value.strip_prefix("0x") {
            None if hexadecimal => u64::from_str_radix(value, 16).ok()?,
            _ => input::number(value).ok()?,
        };
        Some(Given { value, el, suspicious: false })
    });
    found.ok_or_else(|| {
        "there is no ESR in this text\ngive the number alone, or a line that has it as ESR_EL2=0x92000061".into()
    })
}

fn token(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '/').unwrap_or(text.len());
    &text[..end]
}

/// A decoded ESR.
#[derive(Debug, Clone, Serialize)]
pub struct Esr {
    /// `ESR_EL1` or `ESR_EL2`.
    pub register: &'static str,
    /// Nothing said which of the two; the class suggests this one.
    pub register_assumed: bool,
    /// The value.
    pub value: Hex,
    /// EC.
    pub ec: u8,
    /// EC in words.
    pub ec_name: String,
    /// DFSC or IFSC of an abort.
    pub fsc: Option<u8>,
    /// The fault in words.
    pub fault: Option<String>,
    /// Its cause.
    pub cause: Option<Cause>,
    /// The level of lookup it names.
    pub level: Option<i8>,
    /// The stage of translation, where it follows.
    pub stage: Option<u8>,
    /// Whether it was a write, where that is known.
    pub write: Option<bool>,
    /// All fields.
    pub fields: Vec<Field>,
    /// What happened.
    pub what: Vec<String>,
    /// Why, in terms of memory types.
    pub why: Vec<String>,
    /// What to do about it.
    pub advice: Vec<String>,
    /// What is odd about the value.
    pub notes: Vec<String>,
}

/// Decodes. `el` is where the exception was taken to, 1 or 2.
#[must_use]
pub fn decode(given: Given, el: Option<u8>) -> Esr {
    let esr = given.value;
    let ec = bits(esr, 31, 26) as u8;
    let class = class_of(ec);
    let iss = class.map_or(Iss::Other, |c| c.iss);
    let told = el.or(given.el);
    // A guest's own abort stays in the guest; all else that ends up in a log is the hypervisor's.
    let el = told.unwrap_or(if matches!(ec, 0x21 | 0x25) { 1 } else { 2 });

    let layout: &[Spec<Value>] = match iss {
        Iss::Data => DATA,
        Iss::Instruction => &INSTRUCTION,
        Iss::SError => &SERROR,
        Iss::SysReg => &SYSREG,
        Iss::Imm16 => &IMM16,
        Iss::Wf => &WF,
        Iss::Other => &OTHER,
    };
    let (mut all, _) = fields(&COMMON, &esr, esr);
    let (rest, _) = fields(layout, &esr, esr);
    let known = all.iter().chain(&rest).fold(0, |known, f| known | mask(f.high, f.low));
    // In front of EC are the fields of ISS2.
    let (iss2, iss1): (Vec<_>, Vec<_>) = rest.into_iter().partition(|f| f.low >= 32);
    all.splice(0..0, iss2);
    all.extend(iss1);

    let side = match iss {
        Iss::Data => Some(Side::Data),
        Iss::Instruction => Some(Side::Instruction),
        _ => None,
    };
    let fsc_code = side.map(|_| code(&esr) as u8);
    let fault = side.and_then(|side| fsc(side, code(&esr)));
    let s1ptw = esr >> 7 & 1 == 1;
    let lower = matches!(ec, 0x20 | 0x24);
    let stage = match fault.map(|f| f.cause) {
        Some(Cause::AddressSize | Cause::Translation | Cause::AccessFlag | Cause::Permission | Cause::Alignment) => {
            Some(if (lower && el == 2) || s1ptw { 2 } else { 1 })
        }
        _ => None,
    };
    let write = match (iss, fault.map(|f| f.cause)) {
        (Iss::Data, Some(Cause::UnsupportedAtomic | Cause::AtomicUpdate)) => None,
        (Iss::Data, _) => Some(esr >> 6 & 1 == 1),
        _ => None,
    };

    let mut notes = Vec::new();
    if given.suspicious {
        notes.push(format!("read as decimal, {esr:#x}; for hexadecimal write 0x{esr}"));
    }
    let strange = esr & !known;
    if strange != 0 && iss != Iss::Wf {
        notes.push(format!("bits {strange:#x} belong to no field of this class and should be zero: is this an ESR?"));
    }
    if told.is_none() && side.is_some() {
        let other = 3 - el;
        notes.push(match (el, lower) {
            (2, true) => {
                "read as ESR_EL2, a guest's fault; with --el 1 as one of a process (ESR_EL1; or ESR_EL2 of a VHE host, whose \
                 processes fault to EL2)"
                    .into()
            }
            _ => format!("read as ESR_EL{el}; with --el {other} as ESR_EL{other}"),
        });
    }

    let case = Case { el, lower, esr, cause: fault.map(|f| f.cause), fault, s1ptw, write };
    let Words { what, why, advice } = match iss {
        Iss::Data => case.data(),
        Iss::Instruction => case.instruction(),
        Iss::SError => case.serror(),
        _ => Words::new(&[&match class {
            Some(class) => format!("Not an abort, and nothing about memory types: {}.", class.name),
            None => format!("EC {ec:#04x} is reserved by Arm: no CPU reports it; is this an ESR?"),
        }]),
    };
    Esr {
        register: if el == 1 { "ESR_EL1" } else { "ESR_EL2" },
        register_assumed: told.is_none(),
        value: Hex(esr),
        ec,
        ec_name: ec_means(u64::from(ec)),
        fsc: fsc_code,
        fault: fault.map(|f| f.to_string()),
        cause: fault.map(|f| f.cause),
        level: fault.and_then(|f| f.level),
        stage,
        write,
        fields: all,
        what,
        why,
        advice,
        notes,
    }
}

#[derive(Default)]
struct Words {
    what: Vec<String>,
    why: Vec<String>,
    advice: Vec<String>,
}

impl Words {
    fn new(what: &[&str]) -> Self {
        Self::default().what(what)
    }
    fn what(mut self, more: &[&str]) -> Self {
        self.what.extend(more.iter().map(ToString::to_string));
        self
    }
    fn why(mut self, more: &[&str]) -> Self {
        self.why.extend(more.iter().map(ToString::to_string));
        self
    }
    fn advice(mut self, more: &[&str]) -> Self {
        self.advice.extend(more.iter().map(ToString::to_string));
        self
    }
}

struct Case {
    el: u8,
    lower: bool,
    esr: u64,
    fault: Option<Fsc>,
    cause: Option<Cause>,
    s1ptw: bool,
    write: Option<bool>,
}

const HPFAR: &str = "HPFAR_EL2 has the page of the IPA.";

impl Case {
    fn who(&self) -> &'static str {
        match (self.el, self.lower) {
            (2, false) if bits(self.esr, 13, 13) == 1 => "the guest's own hypervisor, through VNCR_EL2",
            (2, true) => "the guest",
            (_, true) => "a process at EL0",
            (2, false) => "the code at EL2 itself (the hypervisor, or the host kernel under VHE)",
            (_, false) => "the kernel at EL1 (in a virtual machine: the guest's)",
        }
    }
    /// DC ZVA is a write without an instruction syndrome.
    fn may_be_zva(&self) -> bool {
        self.write == Some(true) && !isv(&self.esr)
    }
    fn guest(&self) -> bool {
        self.el == 2 && self.lower
    }
    /// "A write of 8 bytes from x3".
    fn access(&self) -> String {
        if self.esr >> 8 & 1 == 1 {
            return "Cache maintenance or an address translation instruction".into();
        }
        let (what, way) = match self.write {
            Some(true) => ("A write", "from"),
            Some(false) => ("A read", "into"),
            None => ("An access", "with"),
        };
        if !isv(&self.esr) {
            return what.into();
        }
        let width = if self.esr >> 15 & 1 == 1 { 'x' } else { 'w' };
        let register = match bits(self.esr, 20, 16) {
            31 => format!("{width}zr"),
            number => format!("{width}{number}"),
        };
        let bytes = match bits(self.esr, 23, 22) {
            0 => "1 byte".to_string(),
            size => format!("{} bytes", 1 << size),
        };
        format!("{what} of {bytes} {way} {register}")
    }
    /// "a Translation fault, level 3": with its article.
    fn fault(&self) -> String {
        let name = self.fault.map_or_else(|| "fault of a reserved status code".to_string(), |f| f.to_string());
        let article = if name.starts_with(['A', 'I', 'u']) { "an" } else { "a" };
        format!("{article} {name}")
    }

    fn data(&self) -> Words {
        let (access, who, el) = (self.access(), self.who(), self.el);
        let first = format!("{access} by {who}: {}, taken to EL{el}.", self.fault());
        let words = match self.cause {
            Some(Cause::Alignment) if self.guest() => return self.stage2_alignment(),
            Some(Cause::Alignment) => return self.stage1_alignment(),
            Some(Cause::UnsupportedAtomic) => {
                let words = Words::new(&[&first]).why(&[
                    &Rule::AtomicsSystemDefined.to_string(),
                    "LD64B and ST64B report this too, where the memory type is not one they support [C3.2.8].",
                ]);
                let words = if self.guest() {
                    words.why(&["KVM before 7.0 has no answer to this status code: it logs \"Unsupported FSC\" and KVM_RUN \
                                 fails with EFAULT. From 7.0 on the guest gets a data abort [kvm_handle_guest_abort]."])
                } else {
                    words
                };
                words.advice(&["Use exclusives and atomics on shareable Normal Write-Back memory only; towards a device use \
                                plain accesses and barriers."])
            }
            Some(Cause::SyncExternal | Cause::SyncExternalOnWalk) => Words::new(&[&first])
                .why(&[
                    "The bus answered with an error. For a BAR: the device is gone, in reset, in low power or has memory \
                     decoding off, and the root port reports that instead of answering all ones. No memory type prevents \
                     it; whether it is reported synchronously depends on the type and the system [D7.6].",
                ])
                .advice(&[
                    "Look at the device (lspci -vv: Memory+, D0, link up) and at what the platform reports (AER, RAS).",
                ]),
            Some(Cause::Translation | Cause::AddressSize | Cause::AccessFlag) if self.guest() => {
                let mut words = Words::new(&[&first, HPFAR]).why(&[
                    "Nothing about memory types: stage 2 has no usable mapping of this IPA. KVM fills stage 2 on demand, so \
                     every first touch of a page comes here and is resolved [user_mem_abort]; only then it chooses a type.",
                ]);
                words = words.advice(&[if isv(&self.esr) {
                    "Where no memory slot holds the IPA it is an emulated access: KVM_EXIT_MMIO."
                } else {
                    "Where no memory slot holds the IPA, KVM cannot emulate this one: ISV = 0, the instruction is not \
                     described (a pair, SIMD, writeback, an atomic). It ends as KVM_EXIT_ARM_NISV, or KVM_RUN fails with \
                     ENOSYS. Let the guest's driver use single-register accesses (readl, writel, memcpy_toio)."
                }]);
                words
            }
            Some(Cause::Permission) if self.guest() => Words::new(&[&first]).why(&[if self.s1ptw {
                "The guest's stage-1 tables are where stage 2 forbids the walk: read-only memory, or with HCR_EL2.PTW = 1 \
                 memory that is Device at stage 2."
            } else {
                "Stage 2 forbids the access: a read-only memory slot, or dirty logging. Nothing about memory types."
            }]),
            Some(Cause::TagCheck) => Words::new(&[&first])
                .why(&["The tag of the pointer is not that of the memory. Only Normal Write-Back memory with the Tagged \
                        attribute (MAIR byte 0xf0) is checked; a BAR never is [D10]."]),
            Some(Cause::TlbConflict) => Words::new(&[&first]).why(&[
                "Two TLB entries matched: a mapping was changed without break-before-make, as when a block becomes pages or \
                 its memory type changes [D8.17.1].",
            ]),
            _ => Words::new(&[&first]),
        };
        if words.why.is_empty() && words.advice.is_empty() && self.cause.is_some() {
            return words.why(&["Nothing about memory types."]);
        }
        words
    }

    fn stage2_alignment(&self) -> Words {
        let zva = self.may_be_zva();
        let odd = if zva { "unaligned, or a DC ZVA" } else { "unaligned" };
        let first = format!(
            "{} by the guest, {odd}: an Alignment fault at stage 2. It was taken to EL2: the hypervisor gets it, the guest \
             never sees it.",
            self.access(),
        );
        let mut words = Words::new(&[&first]);
        if !isv(&self.esr) {
            words = words.what(&[if zva {
                "ISV = 0: not the store of a single general-purpose register. What is left is a pair or a SIMD register \
                 (what memcpy uses), a store with writeback, or DC ZVA (what memset uses)."
            } else {
                "ISV = 0: not the load of a single general-purpose register. What is left is a pair or a SIMD register \
                 (what memcpy uses), or a load with writeback."
            }]);
        }
        words
            .what(&["FAR_EL2 has the guest's virtual address. HPFAR_EL2 is UNKNOWN for this fault: the BAR has to be found \
                     through the guest's own tables [D24.2.76; IPAValid]."])
            .why(&[
                "The guest's stage 1 said Normal, most likely Normal-NC for write-combining: had it said Device, the fault \
                 would be one of stage 1, taken to EL1 [D8.15, R_XCHFJ; AArch64.S1HasAlignmentFault].",
                &Rule::UnalignedStage2.to_string(),
                "Linux before 6.9 maps every page that is not kernel memory Device-nGnRE at stage 2, whatever the guest or the \
                 VMA asks for [arch/arm64/kvm/mmu.c: user_mem_abort, kvm_is_device_pfn].",
                "KVM has no answer to this status code: it logs \"Unsupported FSC\" and KVM_RUN fails with EFAULT \
                 [kvm_handle_guest_abort, 6.1 to 7.3].",
            ])
            .advice(&[
                "Host: Linux 6.9 or later, with the BAR mapped through vfio-pci. Its VMAs carry VM_ALLOW_ANY_UNCACHED, so stage \
                 2 becomes Normal-NC and the guest's stage 1 decides [8c47ce3e1d2c, a39d3a966a09]. Some distributions have it \
                 in older kernels.",
                "Not with vfio-platform, vfio-cdx, sysfs resourceN, UIO or /dev/mem: those mappings lack the flag and stay \
                 Device at stage 2 in every version.",
                "Guest, where the host cannot change: copy and clear with aligned accesses of one register (memcpy_toio, \
                 memset_io; no memcpy, no memset), or map the BAR Device (ioremap, not ioremap_wc), so that what is still \
                 unaligned faults in the guest, where it can be found.",
                "To compare: bartender explain normal-nc device-ngnre, and: bartender explain normal-nc normal-nc",
            ])
    }

    fn stage1_alignment(&self) -> Words {
        let zva = if self.may_be_zva() { ", or a DC ZVA" } else { "" };
        let words = Words::new(&[&format!(
            "{} by {}, unaligned{zva}: an Alignment fault at stage 1, taken to EL{}.",
            self.access(),
            self.who(),
            self.el
        )])
        .what(&[&format!("FAR_EL{} has the address.", self.el)])
        .why(&[
            &Rule::UnalignedStage1.to_string(),
            "Otherwise the access needs alignment on any memory: SCTLR_ELx.A = 1, or an exclusive, an atomic or an \
             acquire/release beyond what FEAT_LSE2 allows [B2.8.2].",
        ]);
        if self.lower {
            words.advice(&[
                "In the program: aligned accesses of one register; no memcpy and no memset on a BAR.",
                "Or a Normal-NC mapping: sysfs resourceN_wc instead of resourceN, where the BAR is prefetchable. VFIO's own \
                 mappings are Device in every version up to 7.3.",
            ])
        } else {
            words.advice(&[
                "In the driver: memcpy_toio and memset_io instead of memcpy and memset; or ioremap_wc instead of ioremap, \
                 where the BAR is prefetchable and reading it has no side effects.",
                "In a virtual machine ioremap_wc needs a host that follows it (Linux 6.9 and vfio-pci); with an older one \
                 stage 2 stays Device and the same access ends the whole machine: bartender decode esr 0x92000061",
            ])
        }
    }

    fn instruction(&self) -> Words {
        let words = Words::new(&[&format!(
            "An instruction fetch by {}: {}, taken to EL{}.",
            self.who(),
            self.fault(),
            self.el
        )]);
        match self.cause {
            Some(Cause::Permission) if self.guest() && !self.s1ptw => words.why(&[
                "Stage 2 forbids execution. KVM maps what is Device or Normal-NC at stage 2 never executable \
                 [stage2_set_prot_attr]; it answers with an abort in the guest.",
            ]),
            Some(Cause::Translation | Cause::AddressSize | Cause::AccessFlag) if self.guest() => words
                .what(&[HPFAR])
                .why(&["Nothing about memory types: stage 2 has no usable mapping of this IPA; KVM fills it on demand."]),
            Some(Cause::Permission) => words.why(&[
                "Execution is forbidden where PXN or UXN is set, as Linux sets it on every Device and Normal-NC mapping.",
            ]),
            Some(_) => words.why(&["Nothing about memory types."]),
            None => words,
        }
    }

    fn serror(&self) -> Words {
        let words = Words::new(&[&format!(
            "An asynchronous error, taken to EL{}: the access that caused it completed some time ago, and may be another's.",
            self.el
        )]);
        let words = words.why(&[
            "Writes that are acknowledged early (all but Device-nGnRnE), and Normal-NC accesses, usually report a bus error \
             this way; no type promises a synchronous one [D7.6]. Device or Normal-NC does not decide whether it is \
             contained: the root port and the RAS design do.",
        ]);
        if self.el == 2 && ras(&self.esr) {
            return words.advice(&[match bits(self.esr, 12, 10) {
                0 => {
                    "Linux panics on an uncontainable SError [arm64_is_fatal_ras_serror]: find what made the root port \
                      report it (AER, RAS records)."
                }
                2 | 6 => "Linux ignores it [arm64_is_fatal_ras_serror].",
                _ => "Linux gives the guest a virtual SError [kvm_handle_guest_serror].",
            }]);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: u64) -> Esr {
        decode(Given { value, el: None, suspicious: false }, None)
    }

    #[test]
    fn thread_002() {
        let esr = plain(0x9200_0061);
        assert_eq!((esr.register, esr.ec, esr.fsc), ("ESR_EL2", 0x24, Some(0x21)));
        assert_eq!((esr.stage, esr.write, esr.cause), (Some(2), Some(true), Some(Cause::Alignment)));
        let all = [esr.what, esr.why, esr.advice].concat().join("\n");
        for word in ["DC ZVA", "ISV = 0", "HPFAR_EL2 is UNKNOWN", "Normal-NC", "6.9", "EFAULT", "vfio-platform"] {
            assert!(all.contains(word), "{word} in {all}");
        }
    }

    #[test]
    fn the_guests_own() {
        let esr = plain(0x9600_0061);
        assert_eq!((esr.register, esr.stage), ("ESR_EL1", Some(1)));
        assert!(esr.what[0].contains("kernel at EL1"), "{:?}", esr.what);
        assert!(esr.advice.join("").contains("memcpy_toio"));
        // A process, when told so.
        let esr = decode(Given { value: 0x9200_0061, el: None, suspicious: false }, Some(1));
        assert_eq!((esr.register, esr.stage), ("ESR_EL1", Some(1)));
        assert!(esr.advice.join("").contains("resourceN_wc"));
    }

    #[test]
    fn found_in_logs() {
        for (text, value, el) in [
            ("0x92000061", 0x9200_0061, None),
            ("2449473633", 0x9200_0061, None),
            ("0x9200_0061", 0x9200_0061, None),
            ("Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061", 0x9200_0061, Some(2)),
            ("[   12.3] kvm [812]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061", 0x9200_0061, Some(2)),
            ("ESR_EL2=0x92000061", 0x9200_0061, Some(2)),
            ("  ESR = 0x0000000096000061", 0x9600_0061, None),
            ("ESR:96000061 FAR:0", 0x9600_0061, None),
            ("kvm_guest_fault: ipa 0x10000000, hsr 0x93c08007, hxfar 0x0, pc 0x0", 0x93c0_8007, Some(2)),
            ("...from EL1 to EL1\n...with ESR 0x25/0x96000061", 0x9600_0061, Some(1)),
            ("unhandled alignment fault (11) at 0x1, esr 0x92000061, in a.out", 0x9200_0061, None),
        ] {
            let given = find(text).unwrap();
            assert_eq!((given.value, given.el), (value, el), "{text}");
        }
        for text in ["user 0x12 went home", "HSR_EC: 0x24 (DABT_LOW)", "ESR_EL2=", "ESR_EL2 = none", "esr"] {
            assert!(find(text).unwrap_err().contains("ESR_EL2=0x92000061"), "{text}");
        }
        assert!(find("92000061").unwrap().suspicious);
        assert!(find("9200004f").unwrap_err().contains("0x9200004f"));
    }

    #[test]
    fn instruction_syndrome() {
        let esr = plain(0x93c3_8047); // an 8-byte write from x3, Translation fault level 3
        assert!(esr.what[0].starts_with("A write of 8 bytes from x3 by the guest"), "{:?}", esr.what);
        assert_eq!((esr.cause, esr.level), (Some(Cause::Translation), Some(3)));
        assert!(esr.notes.len() == 1, "{:?}", esr.notes);
        // Seen on Linux 6.1 for an unaligned load of one register: it is described.
        let esr = plain(0x93c4_8021);
        assert!(esr.what[0].starts_with("A read of 8 bytes into x4 by the guest, unaligned: "), "{:?}", esr.what);
        assert!(!esr.what.concat().contains("ISV = 0"));
        // A described store is no DC ZVA.
        assert!(!plain(0x93c4_8061).what.concat().contains("DC ZVA"));
    }

    #[test]
    fn fields_do_not_overlap_and_cover() {
        for ec in 0..64u64 {
            for fsc in 0..64u64 {
                for isv in 0..2u64 {
                    let esr = plain(ec << 26 | isv << 24 | fsc);
                    let mut seen = 0u64;
                    for f in &esr.fields {
                        let m = mask(f.high, f.low);
                        assert_eq!(seen & m, 0, "{} of {ec:#x} {fsc:#x}", f.name);
                        seen |= m;
                    }
                    assert!(!esr.what.is_empty());
                }
            }
        }
    }

    #[test]
    fn strange_bits_are_named() {
        assert!(plain(0xff00_0000_9200_0061).notes[0].contains("0xff00000000000000"));
        assert!(plain(0x2 << 26).ec_name.contains("reserved"));
        assert!(plain(0x2e << 26).ec_name.contains("reserved"));
    }
}
