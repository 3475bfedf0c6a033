//! A table that is small enough to be held: CSV, JSON, and a picture of its own for people.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use super::Args;
use crate::cmd::Result;
use crate::show;

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    /// A word.
    Word(&'static str),
    /// A number.
    Number(u64),
    /// 0 or 1; in JSON a boolean.
    Flag(bool),
}

/// The table.
pub(super) struct Grid {
    /// The names of the columns.
    pub(super) header: &'static [&'static str],
    /// The rows, each as long as the header.
    pub(super) rows: Vec<Vec<Cell>>,
    /// For people.
    pub(super) picture: fn() -> String,
}

impl Grid {
    /// Prints it as the arguments say.
    pub(super) fn print(&self, args: &Args) -> Result {
        if args.csv {
            let mut out = self.header.join(",");
            out.push('\n');
            for row in &self.rows {
                for (i, cell) in row.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    let _ = match cell {
                        Cell::Word(word) => write!(out, "{comma}{word}"),
                        Cell::Number(number) => write!(out, "{comma}{number}"),
                        Cell::Flag(flag) => write!(out, "{comma}{}", u8::from(*flag)),
                    };
                }
                out.push('\n');
            }
            io::stdout().lock().write_all(out.as_bytes())?;
        } else if args.json {
            let rows: Vec<serde_json::Map<String, serde_json::Value>> = self
                .rows
                .iter()
                .map(|row| {
                    let cells = row.iter().map(|cell| match cell {
                        Cell::Word(word) => (*word).into(),
                        Cell::Number(number) => (*number).into(),
                        Cell::Flag(flag) => (*flag).into(),
                    });
                    self.header.iter().map(|name| (*name).to_owned()).zip(cells).collect()
                })
                .collect();
            show::json(&rows)?;
        } else {
            show::text(&(self.picture)())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
