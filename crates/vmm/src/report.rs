//! What a store of the guest to the report page says.

use scenario::{a64, layout::REPORT_IPA};

/// What the guest reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The program reached its end.
    Done,
    /// This exception vector was taken, 0 to 15.
    Vector(u64),
}

impl Report {
    /// What an access that left to the machine reports; `None` where it is an access of the program's own.
    #[must_use]
    pub const fn of(write: bool, ipa: u64, len: u32) -> Option<Self> {
        // The glue stores 8 bytes, at a multiple of 8.
        if !write || len != 8 || ipa < REPORT_IPA || !ipa.is_multiple_of(8) {
            return None;
        }
        match ipa - REPORT_IPA {
            a64::DONE => Some(Self::Done),
            offset if offset < a64::vector_report(a64::VECTOR_COUNT) => {
                Some(Self::Vector((offset - a64::vector_report(0)) / 8))
            }
            _ => None,
        }
    }
}

/// An exception vector in words.
#[must_use]
pub const fn vector_name(vector: u64) -> &'static str {
    match vector {
        0..4 => "from the current EL with SP_EL0",
        4 => "synchronous, from the current EL",
        5 => "IRQ, from the current EL",
        6 => "FIQ, from the current EL",
        7 => "SError, from the current EL",
        _ => "from a lower EL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_each_vector_and_nothing_else() {
        assert_eq!(Report::of(true, REPORT_IPA, 8), Some(Report::Done));
        for vector in 0..a64::VECTOR_COUNT {
            assert_eq!(Report::of(true, REPORT_IPA + a64::vector_report(vector), 8), Some(Report::Vector(vector)));
        }
        for (write, ipa, len) in [
            (false, REPORT_IPA, 8),
            (true, REPORT_IPA, 4),
            (true, REPORT_IPA + 4, 8),
            (true, REPORT_IPA + a64::vector_report(16), 8),
            (true, REPORT_IPA - 8, 8),
            (true, u64::MAX - 7, 8),
            (true, 0, 8),
        ] {
            assert_eq!(Report::of(write, ipa, len), None, "{write} {ipa:#x} {len}");
        }
    }
}
