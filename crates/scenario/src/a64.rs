//! The guest program as A64 machine code, for a machine that runs it on silicon (or on an emulator of it).
//!
//! What lies where, as offsets from [`RAM_BASE`], the address it must be loaded at:
//!
//! | offset | what |
//! |---|---|
//! | 0 | the reset vector: a branch to the program |
//! | [`VECTORS`] | the sixteen exception vectors, for `VBAR_EL1` |
//! | [`ENTRY`] | the program, and after it the way to say that it ended |
//!
//! The guest talks to its machine by one store to [`REPORT_IPA`], behind which there is no memory: to [`DONE`] when the
//! program ended, to [`vector_report`]`(n)` when exception vector `n` was taken. The store is of a single register, so that
//! the syndrome of its abort is valid (DDI 0487, ISS encoding for an exception from a Data Abort: ISV); what is stored says
//! nothing. The guest then stays where it is. The report uses x23 alone; x0 to x22 are as the program left them.

use asmkit::{
    Arch, AsmError, CodeBuffer, Environment, Label,
    aarch64::{Assembler, Gp, Mem, imm, ptr, w, x},
};
use thiserror::Error;

use crate::{
    layout::{CODE_SIZE, RAM_BASE, REPORT_IPA},
    program::{Barrier, Insn, Lowered, Size, scratch},
};

/// Offset of the exception vectors; `VBAR_EL1` is aligned to 2 KiB.
pub const VECTORS: u64 = 0x1000;
/// Bytes from one exception vector to the next (DDI 0487, D1.3.1.5).
pub const VECTOR_STRIDE: u64 = 0x80;
/// How many exception vectors there are.
pub const VECTOR_COUNT: u64 = 16;
/// The vector of a synchronous exception from the current EL with SP_ELx: the one a program of this guest can take.
pub const VECTOR_SYNC_SPX: u64 = 4;
/// Offset of the program.
pub const ENTRY: u64 = 0x2000;
/// Offset in the report page of the store that says that the program ended.
pub const DONE: u64 = 0;

/// The register of the report; neither a program nor its lowering uses it.
const REPORT_REG: u8 = 23;
/// The highest register an instruction may name; 31 would be XZR or SP.
const LAST_REG: u8 = 30;

/// Offset in the report page of the store that says that exception vector `vector` was taken.
#[must_use]
pub const fn vector_report(vector: u64) -> u64 {
    8 + 8 * vector
}

/// Machine code, to be loaded at [`RAM_BASE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The bytes, at most [`CODE_SIZE`].
    pub bytes: Vec<u8>,
    /// Offset of the first instruction of the program.
    pub entry: u64,
    /// Offset of the exception vectors.
    pub vectors: u64,
}

/// Why a program is no machine code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// More instructions than the guest has room for.
    #[error(
        "the program is {bytes} bytes of machine code and the guest has room for {room}: use fewer or shorter copies"
    )]
    TooLong {
        /// Bytes needed by the program.
        bytes: u64,
        /// Bytes there are.
        room: u64,
    },
    /// A branch leaves the program.
    #[error("instruction {at} branches to instruction {to} of {len}: branch to 0..={len}, where {len} is the end")]
    Target {
        /// Index of the branch.
        at: usize,
        /// Index of its target.
        to: usize,
        /// Number of instructions.
        len: usize,
    },
    /// A register that does not exist or is not general-purpose.
    #[error("instruction {at} names register {register}: use x0 to x{LAST_REG}")]
    Register {
        /// Index of the instruction.
        at: usize,
        /// The register's number.
        register: u8,
    },
    /// A combination of registers that the architecture leaves CONSTRAINED UNPREDICTABLE.
    #[error("instruction {at}: {what} is CONSTRAINED UNPREDICTABLE: use different registers")]
    Unpredictable {
        /// Index of the instruction.
        at: usize,
        /// What, in words.
        what: &'static str,
    },
    /// A barrier option outside 0 to 15.
    #[error("instruction {at} has barrier option {crm}: an option is 0 to 15")]
    BarrierOption {
        /// Index of the instruction.
        at: usize,
        /// The option.
        crm: u8,
    },
    /// The assembler refused an instruction: a fault in this crate.
    #[error("the assembler refused the program: {0}; please report it with the scenario")]
    Assembler(String),
}

impl From<AsmError> for Error {
    fn from(error: AsmError) -> Self {
        Self::Assembler(error.to_string())
    }
}

/// The machine code of a program, with its vectors and its end.
///
/// # Errors
///
/// Where the program has no encoding (see [`enum@Error`]). A program that [`Program::lower`](crate::Program::lower) made fails
/// only by being too long, or by an `exclusive` whose status register is also its value.
pub fn assemble(lowered: &Lowered) -> Result<Code, Error> {
    let mut bytes = vec![0; ENTRY as usize];
    let mut put = |at: u64, code: &[u8]| bytes[at as usize..at as usize + code.len()].copy_from_slice(code);
    let reset = |asm: &mut Assembler<'_>| {
        mov(asm, REPORT_REG, RAM_BASE + ENTRY);
        asm.br(x(REPORT_REG.into()));
    };
    put(0, &piece(reset)?);
    for vector in 0..VECTOR_COUNT {
        let code = piece(|asm| report(asm, vector_report(vector)))?;
        put(VECTORS + vector * VECTOR_STRIDE, &code);
    }
    bytes.extend(program(&lowered.insns)?);
    Ok(Code { bytes, entry: ENTRY, vectors: VECTORS })
}

fn buffer() -> CodeBuffer {
    CodeBuffer::new(Environment::new(Arch::AArch64))
}

/// A piece of code without labels from outside.
fn piece(fill: impl FnOnce(&mut Assembler<'_>)) -> Result<Vec<u8>, Error> {
    let mut buffer = buffer();
    fill(&mut Assembler::new(&mut buffer));
    Ok(buffer.finish()?.data().to_vec())
}

/// Tells the machine, by a store to `offset` of the report page, and stays.
fn report(asm: &mut Assembler<'_>, offset: u64) {
    mov(asm, REPORT_REG, REPORT_IPA + offset);
    asm.str(x(REPORT_REG.into()), ptr(x(REPORT_REG.into()), 0));
    let here = asm.get_label();
    asm.bind_label(here);
    asm.b(here);
}

fn program(insns: &[Insn]) -> Result<Vec<u8>, Error> {
    let room = CODE_SIZE - ENTRY;
    // Before a label or a byte is spent: every branch of a program that fits is then in range (CBZ and B.cond reach 1 MiB).
    let mut needed = 4 * (mov_words(REPORT_IPA) + 2);
    for (at, insn) in insns.iter().enumerate() {
        check(at, *insn, insns.len())?;
        needed += 4 * words(*insn);
    }
    if needed > room {
        return Err(Error::TooLong { bytes: needed, room });
    }
    let mut buffer = buffer();
    let mut asm = Assembler::new(&mut buffer);
    let labels: Vec<Label> = (0..=insns.len()).map(|_| asm.get_label()).collect();
    for (insn, label) in insns.iter().zip(&labels) {
        asm.bind_label(*label);
        one(&mut asm, *insn, &labels);
    }
    asm.bind_label(labels[insns.len()]);
    report(&mut asm, DONE);
    Ok(buffer.finish()?.data().to_vec())
}

/// Whether `insn` has an encoding and the architecture says what it does.
fn check(at: usize, insn: Insn, len: usize) -> Result<(), Error> {
    let registers = |numbers: &[u8]| match numbers.iter().find(|r| **r > LAST_REG) {
        Some(&register) => Err(Error::Register { at, register }),
        None => Ok(()),
    };
    let target = |to| if to <= len { Ok(()) } else { Err(Error::Target { at, to, len }) };
    let apart = |bad, what| if bad { Err(Error::Unpredictable { at, what }) } else { Ok(()) };
    match insn {
        Insn::Mov { rt, .. } | Insn::Ldr { rt, .. } | Insn::Str { rt, .. } | Insn::Ldxr { rt, .. } => registers(&[rt]),
        Insn::MovReg { rt, from } => registers(&[rt, from]),
        Insn::Stp { rt, rt2 } => registers(&[rt, rt2]),
        Insn::Ldp { rt, rt2 } => {
            registers(&[rt, rt2])?;
            apart(rt == rt2, "LDP of one register twice")
        }
        Insn::Ldadd { rs, rt, .. } => registers(&[rs, rt]),
        Insn::Stxr { rs, rt, .. } => {
            registers(&[rs, rt])?;
            apart(rs == rt, "STXR with one register for the status and the value")?;
            apart(rs == scratch::ADDRESS, "STXR with one register for the status and the address")
        }
        Insn::Barrier(Barrier::Dmb(crm) | Barrier::Dsb(crm)) if crm > 15 => Err(Error::BarrierOption { at, crm }),
        Insn::Barrier(_) | Insn::Zva | Insn::Clean | Insn::Hvc { .. } | Insn::Br => Ok(()),
        Insn::B { to } => target(to),
        Insn::Cbz { rs: r, to } | Insn::DecBne { rt: r, to } => {
            registers(&[r])?;
            target(to)
        }
    }
}

/// How many instructions `insn` becomes.
const fn words(insn: Insn) -> u64 {
    match insn {
        Insn::Mov { imm, .. } => mov_words(imm),
        Insn::DecBne { .. } => 2,
        _ => 1,
    }
}

/// The 16-bit parts of a constant, with their shift.
fn halves(value: u64) -> impl Iterator<Item = (u32, u16)> {
    (0..4).map(move |i| (16 * i, (value >> (16 * i)) as u16))
}

const fn mov_words(value: u64) -> u64 {
    let (mut words, mut left) = (0, value);
    while left != 0 {
        words += (left & 0xffff != 0) as u64;
        left >>= 16;
    }
    if words == 0 { 1 } else { words }
}

/// MOVZ of the lowest part that is not zero, MOVK of each further one.
fn mov(asm: &mut Assembler<'_>, rt: u8, value: u64) {
    let rt = x(rt.into());
    let mut first = true;
    for (shift, half) in halves(value).filter(|(shift, half)| *half != 0 || (value == 0 && *shift == 0)) {
        if first {
            asm.movz_3(rt, imm(half), imm(shift));
        } else {
            asm.movk_3(rt, imm(half), imm(shift));
        }
        first = false;
    }
}

/// The register as an access of `size` names it: Wt up to 4 bytes, Xt for 8.
fn sized(size: Size, number: u8) -> Gp {
    if size == Size::B8 { x(number.into()) } else { w(number.into()) }
}

/// `DC ZVA` as SYS has it: op1 3, CRn 7, CRm 4, op2 1 (DDI 0487, C5.3).
const DC_ZVA: i32 = (3 << 11) | (7 << 7) | (4 << 3) | 1;
/// `DC CIVAC`: op1 3, CRn 7, CRm 14, op2 1 (DDI 0487, C5.3).
const DC_CIVAC: i32 = (3 << 11) | (7 << 7) | (14 << 3) | 1;

fn one(asm: &mut Assembler<'_>, insn: Insn, labels: &[Label]) {
    let at: Mem = ptr(x(scratch::ADDRESS.into()), 0);
    match insn {
        Insn::Mov { rt, imm } => mov(asm, rt, imm),
        Insn::MovReg { rt, from } => asm.mov(x(rt.into()), x(from.into())),
        Insn::Ldr { size, rt } => match size {
            Size::B1 => asm.ldrb(sized(size, rt), at),
            Size::B2 => asm.ldrh(sized(size, rt), at),
            Size::B4 | Size::B8 => asm.ldr(sized(size, rt), at),
        },
        Insn::Str { size, rt } => match size {
            Size::B1 => asm.strb(sized(size, rt), at),
            Size::B2 => asm.strh(sized(size, rt), at),
            Size::B4 | Size::B8 => asm.str(sized(size, rt), at),
        },
        Insn::Ldp { rt, rt2 } => asm.ldp(x(rt.into()), x(rt2.into()), at),
        Insn::Stp { rt, rt2 } => asm.stp(x(rt.into()), x(rt2.into()), at),
        Insn::Zva => asm.dc(imm(DC_ZVA), x(scratch::ADDRESS.into())),
        Insn::Clean => asm.dc(imm(DC_CIVAC), x(scratch::ADDRESS.into())),
        Insn::Hvc { op } => asm.hvc(imm(op)),
        Insn::Ldadd { size, rs, rt } => {
            let (rs, rt) = (sized(size, rs), sized(size, rt));
            match size {
                Size::B1 => asm.ldaddb(rs, rt, at),
                Size::B2 => asm.ldaddh(rs, rt, at),
                Size::B4 | Size::B8 => asm.ldadd(rs, rt, at),
            }
        }
        Insn::Ldxr { size, rt } => match size {
            Size::B1 => asm.ldxrb(sized(size, rt), at),
            Size::B2 => asm.ldxrh(sized(size, rt), at),
            Size::B4 | Size::B8 => asm.ldxr(sized(size, rt), at),
        },
        Insn::Stxr { size, rs, rt } => {
            let (rs, rt) = (w(rs.into()), sized(size, rt));
            match size {
                Size::B1 => asm.stxrb(rs, rt, at),
                Size::B2 => asm.stxrh(rs, rt, at),
                Size::B4 | Size::B8 => asm.stxr(rs, rt, at),
            }
        }
        Insn::Barrier(Barrier::Dmb(crm)) => asm.dmb(imm(crm)),
        Insn::Barrier(Barrier::Dsb(crm)) => asm.dsb(imm(crm)),
        Insn::Barrier(Barrier::Isb) => asm.isb(imm(15)),
        Insn::Barrier(Barrier::Dgh) => asm.hint(imm(6)),
        Insn::B { to } => asm.b(labels[to]),
        Insn::Br => asm.br(x(scratch::ADDRESS.into())),
        Insn::Cbz { rs, to } => asm.cbz(w(rs.into()), labels[to]),
        Insn::DecBne { rt, to } => {
            asm.subs(x(rt.into()), x(rt.into()), imm(1));
            asm.b_ne(labels[to]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::BARRIER_OPTIONS;
    use proptest::prelude::*;

    fn code(insns: &[Insn]) -> Result<Code, Error> {
        assemble(&Lowered { insns: insns.to_vec(), op: vec![0; insns.len()] })
    }

    /// The disassembly of everything from `offset` on, by a crate that shares nothing with the assembler.
    fn text(code: &Code, offset: u64) -> Vec<String> {
        code.bytes[offset as usize..]
            .chunks_exact(4)
            .enumerate()
            .map(|(i, word)| {
                let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                let insn = disarm64::decoder::decode(word).unwrap_or_else(|| panic!("{word:#010x} is no instruction"));
                let mut text = String::new();
                disarm64::format_insn::format_insn_pc(offset + 4 * i as u64, &mut text, &insn).unwrap();
                text.split_whitespace().collect::<Vec<_>>().join(" ").replace(", lsl #0x0", "")
            })
            .collect()
    }

    /// The text of a program without its end.
    fn body(insns: &[Insn]) -> Vec<String> {
        let code = code(insns).unwrap();
        let mut text = text(&code, ENTRY);
        let end: Vec<_> = text.split_off(text.len() - 3);
        assert_eq!(end[..2], ["movz x23, #0x900, lsl #0x10", "str x23, [x23]"]);
        text
    }

    const SIZES: [Size; 4] = [Size::B1, Size::B2, Size::B4, Size::B8];

    #[test]
    fn every_access_of_every_size() {
        type Make = fn(Size) -> Insn;
        let rows: [(Make, [&str; 4]); 5] = [
            (|size| Insn::Ldr { size, rt: 5 }, ["ldrb w5, [x16]", "ldrh w5, [x16]", "ldr w5, [x16]", "ldr x5, [x16]"]),
            (
                |size| Insn::Str { size, rt: 17 },
                ["strb w17, [x16]", "strh w17, [x16]", "str w17, [x16]", "str x17, [x16]"],
            ),
            (
                |size| Insn::Ldadd { size, rs: 17, rt: 3 },
                ["ldaddb w17, w3, [x16]", "ldaddh w17, w3, [x16]", "ldadd w17, w3, [x16]", "ldadd x17, x3, [x16]"],
            ),
            (
                |size| Insn::Ldxr { size, rt: 15 },
                ["ldxrb w15, [x16]", "ldxrh w15, [x16]", "ldxr w15, [x16]", "ldxr x15, [x16]"],
            ),
            (
                |size| Insn::Stxr { size, rs: 1, rt: 0 },
                ["stxrb w1, w0, [x16]", "stxrh w1, w0, [x16]", "stxr w1, w0, [x16]", "stxr w1, x0, [x16]"],
            ),
        ];
        for (make, expected) in rows {
            assert_eq!(body(&SIZES.map(make)), expected);
        }
    }

    #[test]
    fn everything_else() {
        let rows: [(Insn, &[&str]); 12] = [
            (Insn::MovReg { rt: 4, from: 30 }, &["orr x4, xzr, x30"]),
            (Insn::Ldp { rt: 20, rt2: 21 }, &["ldp x20, x21, [x16]"]),
            (Insn::Stp { rt: 17, rt2: 19 }, &["stp x17, x19, [x16]"]),
            (Insn::Stp { rt: 2, rt2: 2 }, &["stp x2, x2, [x16]"]),
            // What DC ZVA is an alias of (DDI 0487, C6.2 DC).
            (Insn::Zva, &["sys #3, c7, c4, #1, x16"]),
            (Insn::Clean, &["sys #3, c7, c14, #1, x16"]),
            (Insn::Hvc { op: 0 }, &["hvc #0x0"]),
            (Insn::Hvc { op: u16::MAX }, &["hvc #0xffff"]),
            (Insn::Barrier(Barrier::Isb), &["isb"]),
            (Insn::Barrier(Barrier::Dgh), &["dgh"]),
            (Insn::Br, &["br x16"]),
            (Insn::Mov { rt: 22, imm: 128 }, &["movz x22, #0x80"]),
        ];
        for (insn, expected) in rows {
            assert_eq!(body(&[insn]), expected, "{insn:?}");
        }
    }

    #[test]
    fn every_barrier_option() {
        for (name, crm) in BARRIER_OPTIONS {
            let insns = [Insn::Barrier(Barrier::Dmb(crm)), Insn::Barrier(Barrier::Dsb(crm))];
            assert_eq!(body(&insns), [format!("dmb {name}"), format!("dsb {name}")]);
        }
    }

    #[test]
    fn constants_take_as_few_instructions_as_movz_and_movk_can() {
        let rows: [(u64, &[&str]); 6] = [
            (0, &["movz x16, #0x0"]),
            (0xffff, &["movz x16, #0xffff"]),
            (0x1_0000, &["movz x16, #0x1, lsl #0x10"]),
            (0x0200_0001_0000_0003, &["movz x16, #0x3", "movk x16, #0x1, lsl #0x20", "movk x16, #0x200, lsl #0x30"]),
            (1 << 63, &["movz x16, #0x8000, lsl #0x30"]),
            (
                u64::MAX,
                &[
                    "movz x16, #0xffff",
                    "movk x16, #0xffff, lsl #0x10",
                    "movk x16, #0xffff, lsl #0x20",
                    "movk x16, #0xffff, lsl #0x30",
                ],
            ),
        ];
        for (imm, expected) in rows {
            assert_eq!(body(&[Insn::Mov { rt: 16, imm }]), expected, "{imm:#x}");
        }
    }

    #[test]
    fn branches_land_on_the_instruction_they_name() {
        // A constant of four instructions in between: an index is not an offset.
        let long = Insn::Mov { rt: 16, imm: u64::MAX };
        let insns = [
            Insn::B { to: 5 },
            long,
            Insn::Cbz { rs: 3, to: 5 },
            Insn::DecBne { rt: 22, to: 1 },
            Insn::B { to: 4 },
            Insn::B { to: 0 },
        ];
        let text = body(&insns);
        assert_eq!(text[0], "b 0x2024");
        assert_eq!(text[5..], ["cbz w3, 0x2024", "subs x22, x22, #0x1", "b.ne 0x2004", "b 0x2020", "b 0x2000"]);
        assert_eq!(body(&[Insn::B { to: 1 }]), ["b 0x2004"], "the end is an instruction like any other");
    }

    #[test]
    fn the_guest_reports_and_stays() {
        let code = code(&[]).unwrap();
        assert_eq!((code.entry, code.vectors), (ENTRY, VECTORS));
        assert_eq!(text(&code, ENTRY), ["movz x23, #0x900, lsl #0x10", "str x23, [x23]", "b 0x2008"]);
        let reset = Code { bytes: code.bytes[..12].to_vec(), ..code.clone() };
        assert_eq!(text(&reset, 0), ["movz x23, #0x2000", "movk x23, #0x4000, lsl #0x10", "br x23"]);
        for vector in 0..VECTOR_COUNT {
            let at = VECTORS + vector * VECTOR_STRIDE;
            let one = Code { bytes: code.bytes[..at as usize + 16].to_vec(), ..code.clone() };
            let text = text(&one, at);
            assert_eq!(text[0], format!("movz x23, #{:#x}", 8 + 8 * vector));
            assert_eq!(text[1..3], ["movk x23, #0x900, lsl #0x10", "str x23, [x23]"]);
            assert_eq!(text[3], format!("b {:#x}", at + 12));
        }
    }

    #[test]
    fn what_has_no_encoding_is_an_error_that_says_what_would_be_right() {
        assert_eq!(
            code(&[Insn::Br, Insn::B { to: 3 }]).unwrap_err().to_string(),
            "instruction 1 branches to instruction 3 of 2: branch to 0..=2, where 2 is the end"
        );
        assert_eq!(
            code(&[Insn::Ldr { size: Size::B8, rt: 31 }]).unwrap_err().to_string(),
            "instruction 0 names register 31: use x0 to x30"
        );
        let status_is_value = Insn::Stxr { size: Size::B8, rs: 1, rt: 1 };
        assert!(matches!(code(&[status_is_value]), Err(Error::Unpredictable { .. })));
        assert!(matches!(code(&[Insn::Ldp { rt: 1, rt2: 1 }]), Err(Error::Unpredictable { .. })));
        assert_eq!(code(&[Insn::Barrier(Barrier::Dsb(16))]), Err(Error::BarrierOption { at: 0, crm: 16 }));
        let full = vec![Insn::Mov { rt: 0, imm: u64::MAX }; 0x10_0000 / 16];
        assert_eq!(code(&full), Err(Error::TooLong { bytes: 0x10_000c, room: 0xf_e000 }));
    }

    #[test]
    fn a_program_that_just_fits_branches_from_end_to_end() {
        let mut insns = vec![Insn::Zva; (0xf_e000 - 12) / 4 - 4];
        let last = insns.len() + 3;
        insns.insert(0, Insn::Cbz { rs: 0, to: last });
        insns.extend([Insn::DecBne { rt: 22, to: 0 }, Insn::B { to: 0 }]);
        let code = code(&insns).unwrap();
        assert_eq!(code.bytes.len() as u64, CODE_SIZE);
        let text = text(&code, ENTRY);
        assert_eq!(text[0], format!("cbz w0, {:#x}", CODE_SIZE - 12));
        assert_eq!(text[text.len() - 5], "b.ne 0x2000");
        insns.insert(1, Insn::Zva);
        assert!(assemble(&Lowered { op: vec![], insns }).is_err());
    }

    fn any_insn(len: usize, past: usize, last: u8) -> impl Strategy<Value = Insn> {
        let r = move || 0..=last;
        let size = || prop::sample::select(&SIZES[..]);
        let to = move || 0..=len + past;
        prop_oneof![
            (r(), any::<u64>()).prop_map(|(rt, imm)| Insn::Mov { rt, imm }),
            (r(), r()).prop_map(|(rt, from)| Insn::MovReg { rt, from }),
            (size(), r()).prop_map(|(size, rt)| Insn::Ldr { size, rt }),
            (size(), r()).prop_map(|(size, rt)| Insn::Str { size, rt }),
            (r(), r()).prop_map(|(rt, rt2)| Insn::Ldp { rt, rt2 }),
            (r(), r()).prop_map(|(rt, rt2)| Insn::Stp { rt, rt2 }),
            Just(Insn::Zva),
            Just(Insn::Clean),
            any::<u16>().prop_map(|op| Insn::Hvc { op }),
            (size(), r(), r()).prop_map(|(size, rs, rt)| Insn::Ldadd { size, rs, rt }),
            (size(), r()).prop_map(|(size, rt)| Insn::Ldxr { size, rt }),
            (size(), r(), r()).prop_map(|(size, rs, rt)| Insn::Stxr { size, rs, rt }),
            (0..=15 + past as u8).prop_map(|crm| Insn::Barrier(Barrier::Dmb(crm))),
            (0..=15 + past as u8).prop_map(|crm| Insn::Barrier(Barrier::Dsb(crm))),
            prop::sample::select(&[Insn::Barrier(Barrier::Isb), Insn::Barrier(Barrier::Dgh), Insn::Br][..]),
            to().prop_map(|to| Insn::B { to }),
            (r(), to()).prop_map(|(rs, to)| Insn::Cbz { rs, to }),
            (r(), to()).prop_map(|(rt, to)| Insn::DecBne { rt, to }),
        ]
    }

    fn any_program(past: usize, last: u8) -> impl Strategy<Value = Vec<Insn>> {
        (0..60usize).prop_flat_map(move |len| prop::collection::vec(any_insn(len, past, last), len))
    }

    proptest! {
        #[test]
        fn a_sound_program_assembles_to_what_was_counted(insns in any_program(0, LAST_REG)) {
            match code(&insns) {
                Ok(code) => {
                    let expected: u64 = insns.iter().map(|i| words(*i)).sum();
                    prop_assert_eq!(code.bytes.len() as u64, ENTRY + 4 * (expected + 3));
                    prop_assert_eq!(text(&code, ENTRY).len() as u64, expected + 3);
                }
                Err(e) => prop_assert!(matches!(e, Error::Unpredictable { .. }), "{}", e),
            }
        }

        #[test]
        fn no_program_panics(insns in any_program(3, 255)) {
            let _ = code(&insns);
        }
    }
}
