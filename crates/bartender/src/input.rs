//! What people type: numbers, and the names of memory types.

use memtype::arm::{Features, NAMES, Stage1, Stage2, mair_of, memattr_of};

/// A number: decimal, `0x`, `0b` or `0o`, with underscores where one likes.
///
/// # Errors
/// Says what is wrong with it and what would be right.
pub fn number(text: &str) -> Result<u64, String> {
    let clean = text.trim().to_ascii_lowercase();
    let (digits, radix, base) = match clean.get(..2) {
        Some("0x") => (&clean[2..], 16, "a hexadecimal"),
        Some("0b") => (&clean[2..], 2, "a binary"),
        Some("0o") => (&clean[2..], 8, "an octal"),
        _ => (&clean[..], 10, "a decimal"),
    };
    let digits = digits.replace('_', "");
    if digits.is_empty() {
        return Err(format!("`{text}` is not a number\nnumbers look like 0x92000061, 0b0101 or 68"));
    }
    if let Some(odd) = digits.chars().find(|c| !c.is_digit(radix)) {
        let hint = if radix == 10 && digits.chars().all(|c| c.is_ascii_hexdigit()) {
            format!("hexadecimal needs its 0x: 0x{digits}")
        } else {
            "numbers look like 0x92000061, 0b0101 or 68".into()
        };
        return Err(format!("`{text}` is not a number: {odd:?} is not {base} digit\n{hint}"));
    }
    u64::from_str_radix(&digits, radix).map_err(|_| format!("`{text}` has more than 64 bits"))
}

/// A number of at most `bits` bits.
///
/// # Errors
/// As [`number`], and when it is too large.
pub fn number_of(text: &str, bits: u32) -> Result<u8, String> {
    let value = number(text)?;
    match u8::try_from(value) {
        Ok(byte) if bits >= 8 || byte >> bits == 0 => Ok(byte),
        _ => Err(format!("{text} is too large: 0 to {}", (1u32 << bits.min(8)) - 1)),
    }
}

/// The SH field of a name; 0b01 is reserved and has none.
///
/// # Errors
/// Lists the names.
pub fn shareability(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "nsh" => Ok(0b00),
        "osh" => Ok(0b10),
        "ish" => Ok(0b11),
        _ => Err(format!("`{text}` is no shareability\none of: nsh, ish, osh")),
    }
}

/// What stands for stage 1 on the command line: a name, `mair=BYTE`, or `mmu-off`.
///
/// # Errors
/// Says what would be right.
pub fn stage1(text: &str, sh: Option<u8>) -> Result<(Stage1, Option<u8>), String> {
    const MMU_OFF: &str = "mmu-off";
    let lower = text.to_ascii_lowercase();
    if lower == MMU_OFF {
        return match sh {
            None => Ok((Stage1::MMU_OFF, None)),
            Some(_) => Err("stage 1 is off, so there is no descriptor that could have an SH\nleave out --s1-sh".into()),
        };
    }
    let byte = match lower.strip_prefix("mair=") {
        Some(value) => number_of(value, 8).map_err(|e| format!("stage 1: {e}"))?,
        None => mair_of(&lower).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name);
            let names: Vec<_> = names.into_iter().chain([MMU_OFF, "mair=0x44"]).collect();
            unknown("stage 1", text, &names)
        })?,
    };
    Ok((Stage1::decode(byte, sh.unwrap_or(0b11), Features::LATEST), Some(byte)))
}

/// What stands for stage 2 on the command line: a name or `memattr=BITS`. Also returns MemAttr.
///
/// # Errors
/// Says what would be right.
pub fn stage2(text: &str, fwb: bool, sh: u8) -> Result<(Stage2, u8), String> {
    let lower = text.to_ascii_lowercase();
    let memattr = match lower.strip_prefix("memattr=") {
        Some(value) => number_of(value, 4).map_err(|e| format!("stage 2: {e}"))?,
        None => memattr_of(fwb, &lower).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name);
            let can: Vec<_> = names.into_iter().chain(["as-s1"]).filter(|n| memattr_of(fwb, n).is_some()).collect();
            if memattr_of(!fwb, &lower).is_some() || mair_of(&lower).is_some() {
                let with = if fwb { "with FWB" } else { "without FWB" };
                format!("stage 2 cannot say `{text}` {with}\none of: {}, memattr=0b0101", can.join(", "))
            } else {
                let can: Vec<_> = can.into_iter().chain(["memattr=0b0101"]).collect();
                unknown("stage 2", text, &can)
            }
        })?,
    };
    Ok((Stage2::decode(fwb, memattr, sh, Features::LATEST), memattr))
}

/// "There is no such name", with the closest one first.
#[must_use]
pub fn unknown(what: &str, text: &str, names: &[&str]) -> String {
    let lower = text.to_ascii_lowercase();
    let closest = names
        .iter()
        .map(|name| (strsim::jaro_winkler(&lower, name), name))
        .filter(|(close, _)| *close > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = closest.map_or_else(String::new, |(_, name)| format!("did you mean {name}?\n"));
    format!("{what}: there is no `{text}`\n{hint}one of: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number("0x92000061"), Ok(0x9200_0061));
        assert_eq!(number(" 0X9200_0061 "), Ok(0x9200_0061));
        assert_eq!(number("0b0101"), Ok(5));
        assert_eq!(number("0o17"), Ok(15));
        assert_eq!(number("1_000"), Ok(1000));
        assert_eq!(number("0xffffffffffffffff"), Ok(u64::MAX));
        for (bad, says) in [
            ("", "is not a number"),
            ("0x", "is not a number"),
            ("_", "is not a number"),
            ("9200004f", "0x9200004f"),
            ("0b012", "'2' is not a binary digit"),
            ("-1", "'-' is not a decimal digit"),
            ("0x1_0000_0000_0000_0000", "more than 64 bits"),
            ("é", "is not a number"),
        ] {
            let e = number(bad).unwrap_err();
            assert!(e.contains(says), "{bad}: {e}");
        }
        assert_eq!(number_of("255", 8), Ok(255));
        assert!(number_of("256", 8).unwrap_err().contains("0 to 255"));
        assert!(number_of("16", 4).unwrap_err().contains("0 to 15"));
    }

    #[test]
    fn names_in_any_case() {
        assert_eq!(stage1("Device-nGnRE", None).unwrap().1, Some(0x04));
        assert_eq!(stage1("MAIR=0x44", None).unwrap().1, Some(0x44));
        assert_eq!(stage1("mmu-off", None).unwrap(), (Stage1::MMU_OFF, None));
        assert_eq!(stage2("as-s1", false, 3).unwrap().1, 0b1111);
        assert_eq!(stage2("as-s1", true, 3).unwrap().1, 0b0111);
        assert_eq!(stage2("memattr=0b0101", true, 3).unwrap().1, 5);
    }

    #[test]
    fn errors_say_what_would_be_right() {
        assert!(stage1("normalnc", None).unwrap_err().contains("did you mean normal-nc?"));
        assert!(stage1("mmu-off", Some(0)).unwrap_err().contains("leave out --s1-sh"));
        assert!(stage1("mair=0x144", None).unwrap_err().contains("0 to 255"));
        let e = stage2("normal-wt", true, 3).unwrap_err();
        assert!(e.contains("cannot say `normal-wt` with FWB") && e.contains("normal-wb, as-s1, memattr"), "{e}");
        assert!(!e.contains("normal-wb-tagged"), "{e}");
        assert!(stage2("device-gree", false, 3).unwrap_err().contains("did you mean device-gre?"));
        assert!(stage2("normal-wb-tagged", false, 3).unwrap_err().contains("cannot say"));
    }
}
