//! Tables of TOML, each key known and each value with its place in the file.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{Fault, list, near, quoted};
use super::number::{NUMBERS, number};

/// A table whose keys are all known.
pub(super) struct Table<'t, 'i> {
    table: &'t DeTable<'i>,
    span: Range<usize>,
    /// With its article: `a map`.
    what: &'static str,
}

/// A key that is there.
pub(super) struct Field<'t, 'i> {
    pub(super) name: &'t str,
    pub(super) key: Range<usize>,
    pub(super) value: &'t Spanned<DeValue<'i>>,
}

impl<'t, 'i> Table<'t, 'i> {
    pub(super) fn new(
        table: &'t DeTable<'i>,
        span: Range<usize>,
        what: &'static str,
        keys: &[&str],
    ) -> Result<Self, Fault> {
        let this = Self::open(table, span, what);
        match this.fields().into_iter().find(|f| !keys.contains(&f.name)) {
            Some(unknown) => Err(unknown_key(&unknown, what, keys)),
            None => Ok(this),
        }
    }

    /// A table with keys of any name.
    pub(super) fn open(table: &'t DeTable<'i>, span: Range<usize>, what: &'static str) -> Self {
        Self { table, span, what }
    }

    /// All of them, in the order of the file.
    pub(super) fn fields(&self) -> Vec<Field<'t, 'i>> {
        let mut fields: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| Field { name: key.get_ref().as_ref(), key: key.span(), value })
            .collect();
        fields.sort_by_key(|f| f.key.start);
        fields
    }

    pub(super) fn get(&self, name: &str) -> Option<Field<'t, 'i>> {
        let (key, value) = self.table.get_key_value(name)?;
        Some(Field { name: key.get_ref().as_ref(), key: key.span(), value })
    }

    pub(super) fn need(&self, name: &str, remedy: &str) -> Result<Field<'t, 'i>, Fault> {
        self.get(name).ok_or_else(|| self.fault(format!("{} needs the key `{name}`", self.what), remedy))
    }

    pub(super) fn fault(&self, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault::new(self.span.clone(), message, remedy)
    }
}

pub(super) fn unknown_key(field: &Field<'_, '_>, what: &str, keys: &[&str]) -> Fault {
    let remedy = near(field.name, keys)
        .map_or_else(|| format!("the keys of {what} are {}", list(keys)), |n| format!("write `{n}`"));
    Fault::new(field.key.clone(), format!("{} is no key of {what}", quoted(field.name)), remedy)
}

impl<'t, 'i> Field<'t, 'i> {
    /// A fault of the value.
    pub(super) fn fault(&self, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault::new(self.value.span(), message, remedy)
    }

    fn wrong(&self, wanted: &str, remedy: impl Into<String>) -> Fault {
        let there = kind(self.value.get_ref());
        self.fault(format!("{} is {wanted}, here it is {there}", quoted(self.name)), remedy)
    }

    pub(super) fn string(&self) -> Result<&'t str, Fault> {
        self.value.get_ref().as_str().ok_or_else(|| self.wrong("a string", format!("write `{} = \"...\"`", self.name)))
    }

    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        let remedy = || format!("write `{0} = true` or `{0} = false`, without quotes", self.name);
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong("true or false", remedy()))
    }

    /// A string that is one of the names in `values`. `what` is what they are, without an article.
    pub(super) fn one_of<T: Copy>(&self, what: &str, values: &[(&'static str, T)]) -> Result<T, Fault> {
        let text = self.string()?;
        let found = values.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            let remedy =
                near(text, &names).map_or_else(|| format!("write one of {}", list(&names)), |n| format!("write `{n}`"));
            self.fault(format!("{} is no {what}", quoted(text)), remedy)
        })
    }

    /// An integer, or a string that holds a number.
    pub(super) fn number(&self) -> Result<u64, Fault> {
        let fault = |e: &str| self.fault(format!("the value of {} {e}", quoted(self.name)), NUMBERS);
        match self.value.get_ref() {
            DeValue::String(text) => number(text).map_err(fault),
            DeValue::Integer(n) => match n.as_str() {
                text if text.starts_with('-') => Err(fault("is negative")),
                text => u64::from_str_radix(text.strip_prefix('+').unwrap_or(text), n.radix())
                    .map_err(|_| fault("is larger than 64 bits hold")),
            },
            _ => Err(self.wrong("a number", NUMBERS)),
        }
    }

    /// The table of `[name]`.
    pub(super) fn table(&self, what: &'static str, keys: &[&str]) -> Result<Table<'t, 'i>, Fault> {
        match self.value.get_ref() {
            DeValue::Table(table) => Table::new(table, self.value.span(), what, keys),
            _ => Err(self.wrong("a table", format!("write `[{}]`, once, with its keys below", self.name))),
        }
    }

    /// The tables of `[[name]]`.
    pub(super) fn tables(&self, what: &'static str, keys: &[&str]) -> Result<Vec<Table<'t, 'i>>, Fault> {
        let remedy = || format!("write `[[{}]]` with its keys below, once for each", self.name);
        self.array(remedy)?
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::Table(table) => Table::new(table, item.span(), what, keys),
                other => {
                    Err(Fault::new(item.span(), format!("{what} is a table, here it is {}", kind(other)), remedy()))
                }
            })
            .collect()
    }

    fn array(&self, remedy: impl Fn() -> String) -> Result<&'t DeArray<'i>, Fault> {
        self.value.get_ref().as_array().ok_or_else(|| self.wrong("a list of tables", remedy()))
    }
}

/// A value's type, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What the TOML reader found, with a remedy of ours.
pub(super) fn syntax(error: &toml::de::Error, text: &str) -> Fault {
    let message = error.message();
    let remedies = [
        ("duplicate key", "keep one of the two; a further device or map starts with `[[device]]` or `[[map]]`"),
        ("string values must be quoted", "put text, and numbers with a unit, in quotes: `size = \"64K\"`"),
        (
            "invalid basic string",
            "end the string with a quote on its line; text of several lines goes between `\"\"\"`",
        ),
        ("invalid literal string", "end the string with a quote on its line; text of several lines goes between `'''`"),
        ("missing escaped value", "write `\\\\` for a backslash"),
        ("unclosed", "add the bracket that closes it"),
        ("key with no value", "write `key = value`; what the guest does stands between the quotes of `program`"),
        ("missing value", "write a value after `=`"),
        ("missing comma", "put a comma between the two"),
        ("unexpected key or value", "start a new line for the next key"),
        ("unexpected leading zero", "write the number without leading zeros, or as 0x... for hexadecimal"),
        ("radix must be lowercase", "write 0x in lower case"),
        ("integers with a radix cannot be signed", "write the number without a sign"),
        ("invalid multi-line", "end the string with the three quotes it starts with"),
        ("recursion limit", "nest less: nothing in a scenario is deeper than four levels"),
        ("cannot recurse further", "nest less: nothing in a scenario is deeper than four levels"),
        ("carriage return", "end lines with a line feed, or with both"),
        ("invalid comment character", "remove the control character"),
    ];
    let remedy = remedies.iter().find(|(start, _)| message.starts_with(start)).map_or(
        "write TOML: `key = value`, text in quotes, `[table]` or `[[list of tables]]` on a line of its own",
        |(_, r)| r,
    );
    let at = error.span().unwrap_or_else(|| {
        // A key of too many parts has no place in the file; it is on the line with the most dots.
        let line = text.lines().rev().max_by_key(|l| l.matches('.').count()).unwrap_or_default();
        let start = (line.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize).min(text.len());
        start..start + line.len()
    });
    if message.contains("expected non-") {
        return Fault::new(at, "a string has a control character", "remove it");
    }
    if message.starts_with("invalid multi-line") && at.start >= text.len() {
        // It ends nowhere, so the last three quotes are those it starts with.
        let quotes = if message.contains("literal") { "'''" } else { "\"\"\"" };
        let start = text.rfind(quotes).unwrap_or(text.len());
        return Fault::new(
            start..start + 3,
            "the string ends nowhere",
            format!("end it with the {quotes} it starts with"),
        );
    }
    let message = if message.is_empty() { "this is no TOML" } else { message };
    Fault::new(at, message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>(), remedy)
}
