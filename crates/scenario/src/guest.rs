//! A guest ready to start: what its RAM holds and the EL1 registers it begins with. Built once, it runs in the model and,
//! carried as JSON into another machine, on real KVM.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

/// A guest ready to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Code and stage-1 tables. All else is zero.
    pub memory: Vec<Piece>,
    /// The first instruction, as a VA (the code is mapped where it lies).
    pub entry: u64,
    /// `SCTLR_EL1`.
    pub sctlr: u64,
    /// `TCR_EL1`.
    pub tcr: u64,
    /// `MAIR_EL1`.
    pub mair: u64,
    /// `TTBR0_EL1`.
    pub ttbr0: u64,
    /// `VBAR_EL1`.
    pub vbar: u64,
}

/// Some bytes of guest memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where the first lies.
    pub ipa: u64,
    /// The bytes.
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
}

/// Pieces are cut at zeroes of this length.
const GAP: usize = 64;

impl Piece {
    /// The pieces of `bytes` at `ipa` that are not zero: aligned runs of 64 bytes, those side by side as one. A page
    /// table is mostly zeroes.
    pub fn of(ipa: u64, bytes: &[u8]) -> impl Iterator<Item = Self> {
        let mut pieces: Vec<Self> = Vec::new();
        for (i, run) in bytes.chunks(GAP).enumerate().filter(|(_, run)| run.iter().any(|b| *b != 0)) {
            let at = ipa + (i * GAP) as u64;
            match pieces.last_mut() {
                Some(last) if last.ipa + last.bytes.len() as u64 == at => last.bytes.extend(run),
                _ => pieces.push(Self { ipa: at, bytes: run.into() }),
            }
        }
        pieces.into_iter()
    }
}

mod hex {
    use super::{String, Vec};
    use alloc::string::ToString;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const DIGITS: &[u8; 16] = b"0123456789abcdef";

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let digit = |d: u8| char::from(DIGITS[usize::from(d)]);
        to.serialize_str(&bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = <&str>::deserialize(from)?;
        let value = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let pair = |p: &[u8]| match p {
            [high, low] => Some(value(*high)? << 4 | value(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes.ok_or_else(|| D::Error::custom("bytes are pairs of the digits 0 to 9 and a to f".to_string()))
    }
}
