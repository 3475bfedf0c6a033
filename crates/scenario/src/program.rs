//! The guest program: what the file says ([`Op`]), and the instructions it becomes ([`Insn`]).
//!
//! A machine runs [`Program::lower`]'s instructions: the model executes them, [`a64`](crate::a64) encodes them. The
//! registers are part of the contract, because hardware reports the transfer register of a stage-2 abort in
//! `ESR_EL2.ISS.SRT` (DDI 0487, ISS encoding for an exception from a Data Abort).

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use memtype::Attribute;
use serde::{Deserialize, Serialize};

use crate::Layout;

/// Largest number of operations in a program.
pub const MAX_OPS: usize = 512;
/// Largest `copy`, in bytes.
pub const MAX_COPY: u64 = 4096;
/// What DC ZVA zeroes: `DCZID_EL0.BS` = 4 words of 4 bytes to the power of two, 64 bytes, on every machine known here.
pub const ZVA_BYTES: u64 = 64;
/// How often `exclusive` tries LDXR/STXR before it gives up with status 1.
pub const EXCLUSIVE_TRIES: u16 = 128;

/// A general-purpose register a program may name: x0 to x15. All are zero at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reg(u8);

impl Reg {
    /// How many there are.
    pub const COUNT: usize = 16;
    /// `None` for 16 and above.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 { Some(Self(number)) } else { None }
    }
    /// 0 to 15.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// The registers the lowering uses for itself. The program cannot name them.
pub mod scratch {
    /// The address of every access.
    pub const ADDRESS: u8 = 16;
    /// An immediate value to store; LDADD's operand; the first of a pair.
    pub const VALUE: u8 = 17;
    /// The second of a pair.
    pub const VALUE2: u8 = 19;
    /// What `copy` carries, and its second half.
    pub const COPY: u8 = 20;
    /// The second half of what `copy` carries.
    pub const COPY2: u8 = 21;
    /// The number of tries left to `exclusive`.
    pub const TRIES: u8 = 22;
}

/// The size of one single-register access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Size {
    /// 1 byte.
    B1,
    /// 2 bytes.
    B2,
    /// 4 bytes.
    B4,
    /// 8 bytes.
    B8,
}

impl Size {
    /// 1, 2, 4 or 8.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.log2()
    }
    /// 0 to 3: `ESR_ELx.ISS.SAS` of an access of this size.
    #[must_use]
    pub const fn log2(self) -> u8 {
        self as u8
    }
    /// From 1, 2, 4 or 8.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            1 => Some(Self::B1),
            2 => Some(Self::B2),
            4 => Some(Self::B4),
            8 => Some(Self::B8),
            _ => None,
        }
    }
}

/// An address in a program: a map's name and an offset, `vram+3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Index into [`Scenario::maps`](crate::Scenario::maps).
    pub map: usize,
    /// Bytes from the map's first byte; below its size.
    pub offset: u64,
}

/// What a store stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// A number.
    Imm(u64),
    /// A register's value.
    Reg(Reg),
}

/// A barrier by its architectural name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Barrier {
    /// DMB with the CRm of its option (SY is 15).
    Dmb(u8),
    /// DSB with the CRm of its option.
    Dsb(u8),
    /// ISB.
    Isb,
    /// DGH: a hint that merging is no use (FEAT_DGH; a NOP where absent).
    Dgh,
}

/// The options of DMB and DSB, with their CRm (DDI 0487, C6.2 DMB).
pub const BARRIER_OPTIONS: [(&str, u8); 12] = [
    ("oshld", 0b0001),
    ("oshst", 0b0010),
    ("osh", 0b0011),
    ("nshld", 0b0101),
    ("nshst", 0b0110),
    ("nsh", 0b0111),
    ("ishld", 0b1001),
    ("ishst", 0b1010),
    ("ish", 0b1011),
    ("ld", 0b1101),
    ("st", 0b1110),
    ("sy", 0b1111),
];

/// Where `jump` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JumpTo {
    /// Index into [`Program::ops`]; the number of operations is the program's end.
    Op(usize),
    /// Out of the program, into a map: an instruction fetch from there.
    Place(Place),
}

/// One operation of a program, as the file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// `store.N place, value`: one STR.
    Store {
        /// Bytes.
        size: Size,
        /// Where.
        at: Place,
        /// What.
        value: Value,
    },
    /// `load.N place -> xN`: one LDR, zero-extended.
    Load {
        /// Bytes.
        size: Size,
        /// Where.
        at: Place,
        /// Into which register.
        to: Reg,
    },
    /// `pair.store place, value, value`: one STP of two 8-byte registers.
    StorePair {
        /// Where.
        at: Place,
        /// What.
        values: [Value; 2],
    },
    /// `pair.load place -> xN, xM`: one LDP of two different 8-byte registers.
    LoadPair {
        /// Where.
        at: Place,
        /// Into which registers; never the same twice (DDI 0487, LDP: CONSTRAINED UNPREDICTABLE).
        to: [Reg; 2],
    },
    /// `copy to, from, bytes`: as a C library's memcpy does it, 16 bytes at a time by LDP/STP, the rest by 8, 4, 2 and 1.
    Copy {
        /// Where to.
        to: Place,
        /// Where from.
        from: Place,
        /// 1 to [`MAX_COPY`].
        bytes: u64,
    },
    /// `zero place`: one DC ZVA; zeroes the aligned [`ZVA_BYTES`] around the address.
    Zero {
        /// Anywhere in the block.
        at: Place,
    },
    /// `atomic.add.N place, value -> xN`: one LDADD (FEAT_LSE).
    AtomicAdd {
        /// Bytes.
        size: Size,
        /// Where.
        at: Place,
        /// What to add.
        value: Value,
        /// Takes the value before.
        to: Reg,
    },
    /// `exclusive.N place, value -> xOLD, xSTATUS`: LDXR, then STXR of the value, tried [`EXCLUSIVE_TRIES`] times.
    Exclusive {
        /// Bytes.
        size: Size,
        /// Where.
        at: Place,
        /// What to store.
        value: Value,
        /// Takes the value loaded.
        old: Reg,
        /// 0 when the store was performed, 1 when it never was.
        status: Reg,
    },
    /// `dmb oshst`, `dsb sy`, `isb`, `dgh`.
    Barrier(Barrier),
    /// `jump label` or `jump place`.
    Jump(JumpTo),
    /// `clean place`: DC CIVAC.
    Clean {
        /// Anywhere in the line.
        at: Place,
    },
    /// `user.store.N place, value`: user space stores through its own mapping of the page.
    UserStore {
        /// Bytes.
        size: Size,
        /// Where.
        at: Place,
        /// What. A register is the guest's.
        value: Value,
    },
    /// `user.load.N place -> xN`: user space loads through its own mapping of the page.
    UserLoad {
        /// Bytes.
        size: Size,
        /// Where.
        at: Place,
        /// Into which register of the guest, zero-extended.
        to: Reg,
    },
    /// `dma.store.N [device,] place, value`: a device writes to memory.
    DmaStore {
        /// Index into [`Scenario::devices`](crate::Scenario::devices).
        device: usize,
        /// Bytes.
        size: Size,
        /// Where; with a mapping, what that translates to, or did at the start.
        at: Place,
        /// The mapping of the IOMMU's that it goes through, an index into [`Scenario::iovas`](crate::Scenario::iovas).
        /// `None`: the address is guest-physical.
        via: Option<usize>,
        /// What. A register is the guest's.
        value: Value,
    },
    /// `dma.load.N [device,] place -> xN`: a device reads memory.
    DmaLoad {
        /// Index into [`Scenario::devices`](crate::Scenario::devices).
        device: usize,
        /// Bytes.
        size: Size,
        /// Where; with a mapping, what that translates to, or did at the start.
        at: Place,
        /// The mapping of the IOMMU's that it goes through, an index into [`Scenario::iovas`](crate::Scenario::iovas).
        /// `None`: the address is guest-physical.
        via: Option<usize>,
        /// Into which register of the guest, zero-extended.
        to: Reg,
    },
    /// `attribute place, ask`: user space changes what it asked for the [`Asked`](crate::Asked) the place lies in, or for the
    /// whole BAR where there is none.
    SetAttribute {
        /// Anywhere in it.
        at: Place,
        /// What is asked from now on.
        #[serde(with = "crate::attribute")]
        ask: Attribute,
    },
}

impl Op {
    /// Whether it is done outside the guest, which only says when ([`Insn::Hvc`]).
    #[must_use]
    pub const fn outside(&self) -> bool {
        matches!(
            self,
            Self::UserStore { .. }
                | Self::UserLoad { .. }
                | Self::DmaStore { .. }
                | Self::DmaLoad { .. }
                | Self::SetAttribute { .. }
        )
    }
}

/// A guest program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Program {
    /// The operations, with the line of the file each stands on (1 is the first).
    pub ops: Vec<(u32, Op)>,
    /// The text of each operation, for those who print. Not carried along where a program goes elsewhere to be run.
    #[serde(skip)]
    pub text: Vec<String>,
}

/// One instruction (for [`Insn::Mov`], up to four) of a lowered program. Memory is addressed by
/// [`scratch::ADDRESS`] alone, without offset or writeback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insn {
    /// MOVZ/MOVK: load a constant.
    Mov {
        /// Register.
        rt: u8,
        /// Constant.
        imm: u64,
    },
    /// MOV register.
    MovReg {
        /// Destination.
        rt: u8,
        /// Source.
        from: u8,
    },
    /// LDRB, LDRH, LDR Wt, LDR Xt.
    Ldr {
        /// Bytes.
        size: Size,
        /// Register.
        rt: u8,
    },
    /// STRB, STRH, STR Wt, STR Xt.
    Str {
        /// Bytes.
        size: Size,
        /// Register.
        rt: u8,
    },
    /// LDP Xt, Xt2.
    Ldp {
        /// First.
        rt: u8,
        /// Second.
        rt2: u8,
    },
    /// STP Xt, Xt2.
    Stp {
        /// First.
        rt: u8,
        /// Second.
        rt2: u8,
    },
    /// DC ZVA.
    Zva,
    /// DC CIVAC.
    Clean,
    /// HVC: the machine does operation `op` of [`Program::ops`], which is [outside](Op::outside) the guest. It reads a
    /// register that is stored, writes the one that is loaded into, and leaves all others as they are.
    Hvc {
        /// Index into [`Program::ops`], and the immediate of the instruction.
        op: u16,
    },
    /// LDADDB, LDADDH, LDADD Wt, LDADD Xt.
    Ldadd {
        /// Bytes.
        size: Size,
        /// The addend.
        rs: u8,
        /// Takes the value before.
        rt: u8,
    },
    /// LDXRB, LDXRH, LDXR.
    Ldxr {
        /// Bytes.
        size: Size,
        /// Register.
        rt: u8,
    },
    /// STXRB, STXRH, STXR.
    Stxr {
        /// Bytes.
        size: Size,
        /// Takes the status.
        rs: u8,
        /// Register.
        rt: u8,
    },
    /// A barrier.
    Barrier(Barrier),
    /// B to the instruction with this index; the number of instructions is the end.
    B {
        /// Index.
        to: usize,
    },
    /// BR to the address in [`scratch::ADDRESS`].
    Br,
    /// `CBZ ws, to`: to the instruction with this index if the 32-bit register is zero.
    Cbz {
        /// Register.
        rs: u8,
        /// Index.
        to: usize,
    },
    /// `SUBS rt, rt, #1; B.NE to`.
    DecBne {
        /// Register.
        rt: u8,
        /// Index.
        to: usize,
    },
}

impl Insn {
    /// Whether it accesses memory as data. DC CIVAC does; what HVC asks for is no access of this instruction.
    #[must_use]
    pub const fn touches(self) -> bool {
        matches!(
            self,
            Self::Ldr { .. }
                | Self::Str { .. }
                | Self::Ldp { .. }
                | Self::Stp { .. }
                | Self::Zva
                | Self::Clean
                | Self::Ldadd { .. }
                | Self::Ldxr { .. }
                | Self::Stxr { .. }
        )
    }
}

/// A lowered program: the instructions, and for each the index of the operation it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// The instructions.
    pub insns: Vec<Insn>,
    /// For each, the index into [`Program::ops`].
    pub op: Vec<usize>,
}

impl Program {
    /// The instructions of the program. Pure and total: the same program and layout give the same instructions on every
    /// machine.
    #[must_use]
    pub fn lower(&self, layout: &Layout) -> Lowered {
        let mut out = Lower { insns: Vec::new(), op: Vec::new(), current: 0, layout };
        let mut start = Vec::with_capacity(self.ops.len() + 1);
        for (i, (_, op)) in self.ops.iter().enumerate() {
            out.current = i;
            start.push(out.insns.len());
            out.one(op);
        }
        start.push(out.insns.len());
        for (insn, i) in out.insns.iter_mut().zip(&out.op) {
            if let (Insn::B { to }, (_, Op::Jump(JumpTo::Op(op)))) = (insn, &self.ops[*i]) {
                *to = start[*op];
            }
        }
        Lowered { insns: out.insns, op: out.op }
    }

    /// The registers the program names as a destination: those an observation holds.
    #[must_use]
    pub fn destinations(&self) -> BTreeSet<u8> {
        let mut set = BTreeSet::new();
        for (_, op) in &self.ops {
            match op {
                Op::Load { to, .. } | Op::AtomicAdd { to, .. } | Op::UserLoad { to, .. } | Op::DmaLoad { to, .. } => {
                    set.extend([to.number()]);
                }
                Op::LoadPair { to, .. } => set.extend(to.map(Reg::number)),
                Op::Exclusive { old, status, .. } => set.extend([old.number(), status.number()]),
                _ => {}
            }
        }
        set
    }

    /// Whether any operation accesses memory, be it by user space or a device.
    #[must_use]
    pub fn touches_memory(&self) -> bool {
        let silent = |op: &Op| matches!(op, Op::Barrier(_) | Op::Jump(JumpTo::Op(_)) | Op::SetAttribute { .. });
        self.ops.iter().any(|(_, op)| !silent(op))
    }
}

struct Lower<'a> {
    insns: Vec<Insn>,
    op: Vec<usize>,
    current: usize,
    layout: &'a Layout,
}

impl Lower<'_> {
    fn push(&mut self, insn: Insn) {
        self.insns.push(insn);
        self.op.push(self.current);
    }

    fn address(&mut self, at: Place) {
        self.push(Insn::Mov { rt: scratch::ADDRESS, imm: self.layout.va(at) });
    }

    /// The register that holds `value`: its own, or `scratch` after a MOV.
    fn value(&mut self, value: Value, scratch: u8) -> u8 {
        match value {
            Value::Reg(r) => r.number(),
            Value::Imm(imm) => {
                self.push(Insn::Mov { rt: scratch, imm });
                scratch
            }
        }
    }

    fn one(&mut self, op: &Op) {
        match *op {
            Op::Store { size, at, value } => {
                let rt = self.value(value, scratch::VALUE);
                self.address(at);
                self.push(Insn::Str { size, rt });
            }
            Op::Load { size, at, to } => {
                self.address(at);
                self.push(Insn::Ldr { size, rt: to.number() });
            }
            Op::StorePair { at, values } => {
                let rt = self.value(values[0], scratch::VALUE);
                let rt2 = self.value(values[1], scratch::VALUE2);
                self.address(at);
                self.push(Insn::Stp { rt, rt2 });
            }
            Op::LoadPair { at, to } => {
                self.address(at);
                self.push(Insn::Ldp { rt: to[0].number(), rt2: to[1].number() });
            }
            Op::Copy { to, from, bytes } => self.copy(to, from, bytes),
            Op::Zero { at } => {
                self.address(at);
                self.push(Insn::Zva);
            }
            Op::Clean { at } => {
                self.address(at);
                self.push(Insn::Clean);
            }
            Op::UserStore { .. }
            | Op::UserLoad { .. }
            | Op::DmaStore { .. }
            | Op::DmaLoad { .. }
            | Op::SetAttribute { .. } => self.push(Insn::Hvc { op: self.current as u16 }),
            Op::AtomicAdd { size, at, value, to } => {
                let rs = self.value(value, scratch::VALUE);
                self.address(at);
                self.push(Insn::Ldadd { size, rs, rt: to.number() });
            }
            Op::Exclusive { size, at, value, old, status } => {
                let rt = self.value(value, scratch::VALUE);
                self.address(at);
                self.push(Insn::Mov { rt: scratch::TRIES, imm: u64::from(EXCLUSIVE_TRIES) });
                let again = self.insns.len();
                self.push(Insn::Ldxr { size, rt: old.number() });
                self.push(Insn::Stxr { size, rs: status.number(), rt });
                self.push(Insn::Cbz { rs: status.number(), to: again + 4 });
                self.push(Insn::DecBne { rt: scratch::TRIES, to: again });
            }
            Op::Barrier(b) => self.push(Insn::Barrier(b)),
            // `lower` fills the index in once every operation has its place.
            Op::Jump(JumpTo::Op(_)) => self.push(Insn::B { to: 0 }),
            Op::Jump(JumpTo::Place(at)) => {
                self.address(at);
                self.push(Insn::Br);
            }
        }
    }

    fn copy(&mut self, to: Place, from: Place, bytes: u64) {
        let mut done = 0;
        while done < bytes {
            let left = bytes - done;
            let (load, store, step) = if left >= 16 {
                let (rt, rt2) = (scratch::COPY, scratch::COPY2);
                (Insn::Ldp { rt, rt2 }, Insn::Stp { rt, rt2 }, 16)
            } else {
                let size = match left {
                    8.. => Size::B8,
                    4.. => Size::B4,
                    2.. => Size::B2,
                    _ => Size::B1,
                };
                let rt = scratch::COPY;
                (Insn::Ldr { size, rt }, Insn::Str { size, rt }, size.bytes())
            };
            self.address(Place { map: from.map, offset: from.offset + done });
            self.push(load);
            self.address(Place { map: to.map, offset: to.offset + done });
            self.push(store);
            done += step;
        }
    }
}
