//! Which bytes of a scenario's maps its program may store to: what must be zeroed before the next one.

use std::ops::Range;

use scenario::{
    Program,
    program::{JumpTo, Op, Place, ZVA_BYTES},
};

/// What a program may store to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Anything: it runs instructions from a map, and those can be what it put there.
    Everything,
    /// For each store, the index of a map and a range of offsets in it. A range may go past the map's end.
    Ranges(Vec<(usize, Range<u64>)>),
}

impl Reach {
    /// What `program` may store to.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        let mut ranges = Vec::new();
        let mut bytes = |at: Place, size: u64| ranges.push((at.map, at.offset..at.offset.saturating_add(size)));
        for (_, op) in &program.ops {
            match *op {
                Op::Store { size, at, .. } | Op::AtomicAdd { size, at, .. } | Op::Exclusive { size, at, .. } => {
                    bytes(at, size.bytes());
                }
                Op::StorePair { at, .. } => bytes(at, 16),
                Op::Copy { to, bytes: size, .. } => bytes(to, size),
                Op::Zero { at } => {
                    let first = at.offset - at.offset % ZVA_BYTES;
                    bytes(Place { offset: first, ..at }, ZVA_BYTES);
                }
                Op::Jump(JumpTo::Place(_)) => return Self::Everything,
                Op::UserStore { size, at, .. } | Op::DmaStore { size, at, .. } => bytes(at, size.bytes()),
                Op::Load { .. }
                | Op::LoadPair { .. }
                | Op::Barrier(_)
                | Op::Jump(JumpTo::Op(_))
                | Op::Clean { .. }
                | Op::UserLoad { .. }
                | Op::DmaLoad { .. }
                | Op::SetAttribute { .. } => {}
            }
        }
        Self::Ranges(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scenario::program::{Barrier, Reg, Size, Value};

    fn reach(ops: &[Op]) -> Reach {
        Reach::of(&Program { ops: ops.iter().map(|op| (1, *op)).collect(), text: vec![] })
    }

    #[test]
    fn every_operation_that_stores_and_no_other() {
        let at = Place { map: 2, offset: 0x47 };
        let (value, to) = (Value::Imm(1), Reg::new(0).unwrap());
        let ops = [
            (Op::Store { size: Size::B8, at, value }, Some(0x47..0x4f)),
            (Op::StorePair { at, values: [value; 2] }, Some(0x47..0x57)),
            (Op::Copy { to: at, from: Place { map: 0, offset: 0 }, bytes: 100 }, Some(0x47..0xab)),
            (Op::Zero { at }, Some(0x40..0x80)),
            (Op::AtomicAdd { size: Size::B4, at, value, to }, Some(0x47..0x4b)),
            (Op::Exclusive { size: Size::B1, at, value, old: to, status: to }, Some(0x47..0x48)),
            (Op::Load { size: Size::B8, at, to }, None),
            (Op::LoadPair { at, to: [to, to] }, None),
            (Op::Barrier(Barrier::Isb), None),
            (Op::Jump(JumpTo::Op(0)), None),
        ];
        for (op, expected) in ops {
            assert_eq!(reach(&[op]), Reach::Ranges(expected.map(|r| (2, r)).into_iter().collect()), "{op:?}");
        }
        assert_eq!(reach(&[Op::Jump(JumpTo::Place(at))]), Reach::Everything);
    }
}
