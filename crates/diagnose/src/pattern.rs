//! Patterns of lines: text as the kernel prints it, with places for what differs.
//!
//! `{name}` is a word: no white space, none of `,;()[]{}"'`. `{name#}` is a number, decimal or hexadecimal. `{name*}` is any text,
//! as short as possible. `{*}` is any text without a name. Everything else stands for itself, case and all. A pattern becomes a regular
//! expression of crate `regex`, whose searches are linear in the text.

use std::fmt::Write as _;

/// The fewest bytes of plain text in a row that a pattern must have: the search for candidates is one for these.
const SHORTEST: usize = 6;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As it is written.
    pub text: String,
    /// The longest run of plain text.
    pub(crate) literal: String,
    /// Bytes of plain text: how specific it is.
    pub specific: usize,
    /// It captures a syndrome.
    pub(crate) has_esr: bool,
    regex: regex::bytes::Regex,
}

/// A value that was found in a line: its name in the pattern, and the text.
pub type Captured = (String, String);

impl Pattern {
    /// Compiles.
    ///
    /// # Errors
    /// An open brace, a bad name, a name that is there twice, too little plain text.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut source = String::from("(?-u)");
        let (mut literal, mut specific, mut rest) = (String::new(), 0, text);
        let mut names: Vec<&str> = Vec::new();
        loop {
            let (plain, after) = rest.split_once('{').map_or((rest, None), |(plain, after)| (plain, Some(after)));
            specific += plain.len();
            source.push_str(&regex::escape(plain));
            if plain.len() > literal.len() {
                literal = plain.into();
            }
            let Some(after) = after else { break };
            let (place, after) = after.split_once('}').ok_or_else(|| format!("`{text}`: a brace is not closed"))?;
            rest = after;
            let (name, what) = match (place.strip_suffix('#'), place.strip_suffix('*')) {
                (Some(name), _) => (name, "(?:0[xX][0-9a-fA-F]+|[0-9]+)"),
                (_, Some(name)) => (name, "[^\n]*?"),
                (None, None) => (place, r#"[^\s,;()\[\]{}"']+"#),
            };
            if name.is_empty() && place == "*" {
                source.push_str("[^\n]*?");
                continue;
            }
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase()) {
                return Err(format!("`{text}`: `{place}` is not a name in lower case"));
            }
            if names.contains(&name) {
                return Err(format!("`{text}`: `{name}` is there twice"));
            }
            names.push(name);
            let _ = write!(source, "(?P<{name}>{what})");
        }
        if literal.len() < SHORTEST {
            return Err(format!("`{text}`: needs {SHORTEST} characters in a row that stand for themselves"));
        }
        let regex = regex::bytes::Regex::new(&source).map_err(|e| format!("`{text}`: {e}"))?;
        Ok(Self { text: text.into(), literal, specific, has_esr: names.contains(&"esr"), regex })
    }

    /// Whether the line has it.
    #[must_use]
    pub fn is_in(&self, line: &[u8]) -> bool {
        self.regex.is_match(line)
    }

    /// What stands in its places, if the line has it.
    #[must_use]
    pub fn captures(&self, line: &[u8]) -> Option<Vec<Captured>> {
        let found = self.regex.captures(line)?;
        let names = self.regex.capture_names().flatten();
        Some(
            names
                .filter_map(|name| {
                    Some((name.into(), String::from_utf8_lossy(found.name(name)?.as_bytes()).into_owned()))
                })
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let p = Pattern::new("kvm [{pid#}]: FSC: EC={ec#} of {what*} at {where}").unwrap();
        let found = p.captures(b"x kvm [12]: FSC: EC=0x24 of two words at 0000:01:00.0, y").unwrap();
        let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(found, [("pid", "12"), ("ec", "0x24"), ("what", "two words"), ("where", "0000:01:00.0")]);
        assert!(p.captures(b"kvm 12: FSC: EC=0x24 of a at b").is_none());
        assert_eq!((p.literal.as_str(), p.specific), ("]: FSC: EC=", 24));
    }

    #[test]
    fn bad_ones_say_why() {
        for (bad, why) in [
            ("something {open", "not closed"),
            ("something {Name}", "lower case"),
            ("something {}", "lower case"),
            ("something {a} {a}", "twice"),
            ("a {b} c {d} e", "in a row"),
            ("", "in a row"),
        ] {
            assert!(Pattern::new(bad).unwrap_err().contains(why), "{bad}");
        }
    }
}
