//! Numbers and names, as the file and its program write them.

/// What a number looks like, for remedies.
pub(super) const NUMBERS: &str = "write a number such as 4096, 0x1000, 64K, 1M or 1G";

/// `4096`, `0x1000`, `64K`, `1M`, `1G`; underscores between digits. The message says what is wrong with it otherwise.
pub(super) fn number(text: &str) -> Result<u64, &'static str> {
    let too_large = "is larger than 64 bits hold";
    if text.is_empty() {
        return Err("is no number");
    }
    if text.starts_with('-') {
        return Err("is negative");
    }
    let (digits, radix, shift) = if let Some(hex) = text.strip_prefix("0x") {
        (hex, 16, 0)
    } else {
        let (digits, shift) = match text.as_bytes()[text.len() - 1] {
            b'K' => (&text[..text.len() - 1], 10),
            b'M' => (&text[..text.len() - 1], 20),
            b'G' => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        (digits, 10, shift)
    };
    if digits.is_empty() || digits.starts_with('_') || digits.ends_with('_') {
        return Err("is no number");
    }
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return Err("is no number");
    }
    let n = u64::from_str_radix(&digits, radix).map_err(|_| too_large)?;
    n.checked_mul(1 << shift).ok_or(too_large)
}

/// `n` as people write it: `64K` where that is exact, else hexadecimal.
pub(super) fn size(n: u64) -> String {
    for (shift, unit) in [(30, 'G'), (20, 'M'), (10, 'K')] {
        if n > 0 && n.trailing_zeros() >= shift {
            return format!("{}{unit}", n >> shift);
        }
    }
    format!("{n:#x}")
}

/// Why `name` cannot name a device, a map or a label: what is wrong, and what would be right.
pub(super) fn name(name: &str) -> Result<(), (&'static str, &'static str)> {
    let form = "a name is 1 to 32 of a-z, 0-9, `-` and `_`, and starts with a letter";
    let all = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !(1..=32).contains(&name.len()) || !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(all)
    {
        Err(("is no name", form))
    } else if register_like(name) {
        Err(("looks like a register", "choose a name that is not `x` and digits"))
    } else {
        Ok(())
    }
}

/// `x` and digits.
pub(super) fn register_like(name: &str) -> bool {
    name.strip_prefix('x').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, n) in [
            ("0", 0),
            ("4096", 4096),
            ("4_096", 4096),
            ("0x10_00", 4096),
            ("64K", 65536),
            ("1M", 1 << 20),
            ("1G", 1 << 30),
            ("0xFFFFffffFFFFffff", u64::MAX),
            ("18446744073709551615", u64::MAX),
            ("17179869183G", 17179869183 << 30),
        ] {
            assert_eq!(number(text), Ok(n), "{text}");
        }
        for text in
            ["", "K", "_1", "1_", "0x", "0x_1", "+1", "1e400", "1.5", "64k", "64KiB", "1 K", "é", "0b1", "0x10K", "٣"]
        {
            assert_eq!(number(text), Err("is no number"), "{text}");
        }
        assert_eq!(number("-1"), Err("is negative"));
        for text in ["18446744073709551616", "0x10000000000000000", "17179869184G"] {
            assert_eq!(number(text), Err("is larger than 64 bits hold"), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!([0, 1, 4096, 4097, 1 << 20, 3 << 30].map(size), ["0x0", "0x1", "4K", "0x1001", "1M", "3G"]);
    }

    #[test]
    fn names() {
        for good in ["a", "vram", "x", "x-0", "xs", "gpu_0-b", &"a".repeat(32)] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in ["", "A", "0a", "-a", "a.b", "a b", "é", "x0", "x30", "x99", &"a".repeat(33)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
