//! What the bare-metal program and its host say to each other: lines of JSON, both ways.
//!
//! The program itself is `main.rs` and what it includes; it is compiled for `aarch64-unknown-none` alone. It gets [`Order`]s,
//! one a line, as one file that QEMU's loader puts at [`JOBS_AT`], ended by a byte of 0; it answers with one [`Said`] a line on
//! the PL011 and powers the machine off.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, string::String, vec::Vec};

use scenario::{Guest, Observation, Scenario};
use serde::{Deserialize, Serialize};

/// The physical address of the orders.
pub const JOBS_AT: u64 = 0x4800_0000;
/// The most bytes they may have, the 0 included.
pub const JOBS_SIZE: u64 = 0x400_0000;
/// Bytes of RAM the machine must have, from 0x4000_0000 on.
pub const RAM_SIZE: u64 = 0x2000_0000;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Every combination of attributes through AT S12E1R.
    Sweep {},
    /// A scenario, under each of some policies.
    Run(Box<Job>),
}

/// A scenario to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The scenario's name.
    pub name: String,
    /// The policies, by name.
    pub policies: Vec<String>,
    /// The scenario. HCR_EL2.FWB is as it asks; else on, where the processor has it.
    pub scenario: Scenario,
    /// Its guest.
    pub guest: Guest,
}

/// What the machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// MIDR_EL1.
    pub midr: u64,
    /// FEAT_S2FWB.
    pub fwb: bool,
    /// CTR_EL0.DIC.
    pub dic: bool,
    /// FEAT_XS.
    pub xs: bool,
    /// FEAT_MTE2.
    pub mte2: bool,
    /// The devices found with a memory BAR for a scenario: its bytes.
    pub bars: Vec<u64>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// The first line.
    About(About),
    /// 1024 combinations of one stage 2.
    Swept(Swept),
    /// A scenario ran.
    Saw {
        /// Its name.
        scenario: String,
        /// The policy.
        policy: String,
        /// What came out. A store to the report page is an access that left the VM as any other: what it says is for the host.
        observation: Observation,
        /// ESR_EL1, FAR_EL1 and ELR_EL1 at the end.
        el1: [u64; 3],
        /// The exception they are of was made by the hypervisor.
        injected: bool,
    },
    /// A scenario could not be run.
    Cannot {
        /// Its name.
        scenario: String,
        /// The policy.
        policy: String,
        /// Why.
        why: String,
    },
    /// The program cannot go on.
    Lost {
        /// Why.
        what: String,
    },
    /// Every order was carried out.
    Done {},
}

/// What AT S12E1R gave for one stage 2 over every stage 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// HCR_EL2.FWB.
    pub fwb: bool,
    /// Stage-2 MemAttr\[3:0\].
    pub memattr: u8,
    /// Stage-2 SH\[1:0\].
    pub sh: u8,
    /// By MAIR byte, then by stage-1 SH, the last fastest; see [`Par`].
    pub par: String,
}

/// The parts of PAR_EL1 that say what a translation gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Par {
    /// ATTR, bits 63:56.
    pub attr: u8,
    /// SH, bits 8:7.
    pub sh: u8,
    /// F, bit 0: the translation failed, and the rest says nothing.
    pub failed: bool,
}

impl Par {
    /// Of the register.
    #[must_use]
    pub const fn of(register: u64) -> Self {
        Self { attr: (register >> 56) as u8, sh: (register >> 7 & 3) as u8, failed: register & 1 != 0 }
    }
}

/// Stage-1 combinations of one [`Swept`]: 256 MAIR bytes, 4 values of SH.
pub const STAGE1: usize = 1024;

/// Writes [`Par`]s as text: three hexadecimal digits each (ATTR, then F and SH), and after it `*` and two digits where it is
/// followed by so many more that are equal.
pub fn pack(pars: impl IntoIterator<Item = Par>, mut to: impl FnMut(u8)) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pars = pars.into_iter().peekable();
    while let Some(par) = pars.next() {
        let mut more = 0;
        while more < 0xff && pars.next_if_eq(&par).is_some() {
            more += 1;
        }
        let mut digit = |value: u8| to(DIGITS[usize::from(value & 0xf)]);
        digit(par.attr >> 4);
        digit(par.attr);
        digit(u8::from(par.failed) << 2 | par.sh & 3);
        if more > 0 {
            to(b'*');
            let mut digit = |value: u8| to(DIGITS[usize::from(value & 0xf)]);
            digit(more >> 4);
            digit(more);
        }
    }
}

/// Reads what [`pack`] wrote. `None` where it did not write that, or more than [`STAGE1`].
#[must_use]
pub fn unpack(text: &str) -> Option<Vec<Par>> {
    let mut digits = text.bytes().peekable();
    let value = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    let mut pars = Vec::new();
    while let Some(first) = digits.next() {
        let attr = value(first)? << 4 | value(digits.next()?)?;
        let rest = value(digits.next()?)?;
        let par = Par { attr, sh: rest & 3, failed: rest & 4 != 0 };
        let more = match digits.next_if_eq(&b'*') {
            Some(_) => value(digits.next()?)? << 4 | value(digits.next()?)?,
            None => 0,
        };
        pars.extend(core::iter::repeat_n(par, usize::from(more) + 1));
        if rest > 7 || pars.len() > STAGE1 {
            return None;
        }
    }
    Some(pars)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(pars: &[Par]) -> String {
        let mut text = String::new();
        pack(pars.iter().copied(), |byte| text.push(char::from(byte)));
        text
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let par = |attr, sh, failed| Par { attr, sh, failed };
        let mut pars = alloc::vec![par(0xff, 3, false); 300];
        pars.extend([par(0, 2, false), par(0x44, 2, false), par(0x44, 2, true), par(0x44, 2, true)]);
        let text = packed(&pars);
        assert_eq!(text, "ff3*ffff3*2b002442446*01");
        assert_eq!(unpack(&text), Some(pars));
        assert_eq!(unpack(""), Some(Vec::new()));
        assert_eq!(unpack(&packed(&[par(1, 1, false); STAGE1])).map(|p| p.len()), Some(STAGE1));
    }

    #[test]
    fn what_was_not_packed_is_refused() {
        for text in ["f", "ff", "fg3", "ff8", "ff3*", "ff3*1", "*00", "ff3*ffff3*ffff3*ffff3*ffff3"] {
            assert_eq!(unpack(text), None, "{text}");
        }
    }
}
