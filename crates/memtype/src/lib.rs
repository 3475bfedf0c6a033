//! The vocabulary of **memory types**: what the attribute bits of a translation mean, what two stages of translation
//! combine to, and what follows from the result (may it gather, reorder, speculate; does an unaligned access fault, and
//! at which stage).
//!
//! Pure data and `const fn`, no allocation, no dependency. Arm is here; each rule names the section or the pseudocode
//! function of DDI 0487 (issue M.a.a) it comes from, in [`arm::Rule`].
//!
//! ```
//! use memtype::arm::{self, Features, Stage1, Stage2};
//!
//! // A guest maps a BAR write-combining (Normal-NC), the hypervisor says Device-nGnRE at stage 2: thread 002.
//! let s1 = Stage1::decode(0x44, 0b10, Features::LATEST);
//! let s2 = Stage2::decode(false, 0b0001, 0b11, Features::LATEST);
//! let both = arm::combine(&s1, &s2);
//! assert_eq!(both.ty.to_string(), "Device-nGnRE");
//! assert_eq!(both.unaligned(), arm::Alignment::Fault { stage: 2 });
//! # use std::string::ToString;
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, doc))]
extern crate std;

pub mod arm;
