//! `bartender table arm64`.

use std::io::{self, Write};
use std::process::ExitCode;

use memtype::arm::{self, Alignment, Combined, Features, Stage1, Stage2, Type, mair_of, memattr_of};

use super::Args;
use crate::cmd::Result;
use crate::input;
use crate::show::{self, BAD, FAINT, OPEN, STRONG, paint};

/// Prints the table.
///
/// # Errors
/// A filter that no row can pass.
pub(super) fn run(args: &Args) -> Result {
    let filter = |name: &str, text: &Option<String>, bits| -> Result<Filter> {
        let only = text.as_deref().map(|text| input::number_of(text, bits).map_err(|e| format!("{name}: {e}")));
        Ok(Filter { only: only.transpose()?, bits })
    };
    let rows = Rows {
        fwb: filter("--fwb", &args.fwb, 1)?,
        s2_memattr: filter("--s2-memattr", &args.s2_memattr, 4)?,
        s2_sh: filter("--s2-sh", &args.s2_sh, 2)?,
        s1_attr: filter("--s1-attr", &args.s1_attr, 8)?,
        s1_sh: filter("--s1-sh", &args.s1_sh, 2)?,
    };
    if args.csv || args.json {
        // Not through std's line buffer and not through the filter for colours: this is bytes, and many.
        let mut out = io::BufWriter::with_capacity(1 << 18, io::stdout().lock());
        if args.csv {
            rows.csv(&mut out)?;
        } else {
            rows.json(&mut out)?;
        }
        out.flush()?;
    } else if [&args.s2_memattr, &args.s2_sh, &args.s1_attr, &args.s1_sh].iter().any(|filter| filter.is_some()) {
        return Err("the table for people has named types only: of the filters it knows --fwb\nadd --csv or --json"
            .to_string()
            .into());
    } else {
        let tables: Vec<_> = rows.fwb.values().map(|fwb| matrix(fwb == 1)).collect();
        show::text(&format!("{}\n{}", tables.join("\n"), legend()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The values of one input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    /// This one, or all.
    only: Option<u8>,
    /// Its width.
    bits: u32,
}

impl Filter {
    fn values(self) -> impl Iterator<Item = u8> {
        let (first, last) = self.only.map_or((0, ((1u32 << self.bits) - 1) as u8), |only| (only, only));
        first..=last
    }
}

/// The rows of the whole table, in the order of the header, the last input fastest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    fwb: Filter,
    s2_memattr: Filter,
    s2_sh: Filter,
    s1_attr: Filter,
    s1_sh: Filter,
}

impl Rows {
    /// Calls `row` with what a (fwb, s2_memattr, s2_sh) was turned into by `outer`, what (s1_attr, s1_sh) was by `inner`,
    /// and what the two combine to. Both are called once for each value, so that a row costs two copies.
    fn each<T>(
        self,
        outer: impl Fn(u8, u8, u8) -> T,
        inner: impl Fn(u8, u8) -> T,
        mut row: impl FnMut(&T, &T, &Combined) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut stage1 = Vec::new();
        for attr in self.s1_attr.values() {
            for sh in self.s1_sh.values() {
                stage1.push((Stage1::decode(attr, sh, Features::LATEST), inner(attr, sh)));
            }
        }
        for fwb in self.fwb.values() {
            for memattr in self.s2_memattr.values() {
                for sh in self.s2_sh.values() {
                    let s2 = Stage2::decode(fwb == 1, memattr, sh, Features::LATEST);
                    let head = outer(fwb, memattr, sh);
                    for (s1, middle) in &stage1 {
                        row(&head, middle, &arm::combine(s1, &s2))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn csv(self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"fwb,s2_memattr,s2_sh,s1_attr,s1_sh,type,inner,outer,sh,reserved\n")?;
        self.each(
            |fwb, memattr, sh| format!("{fwb},{memattr},{sh},"),
            |attr, sh| format!("{attr},{sh},"),
            |s2, s1, both| {
                let (inner, outer) = cacheability(both.ty).unwrap_or(("-", "-"));
                let reserved = if both.is_reserved() { ",1\n" } else { ",0\n" };
                for piece in [s2, s1, both.ty.class(), ",", inner, ",", outer, ",", both.sh.short(), reserved] {
                    out.write_all(piece.as_bytes())?;
                }
                Ok(())
            },
        )
    }

    fn json(self, out: &mut impl Write) -> io::Result<()> {
        let mut before: &[u8] = b"[\n";
        self.each(
            |fwb, memattr, sh| format!(r#"{{"fwb":{fwb},"s2_memattr":{memattr},"s2_sh":{sh},"#),
            |attr, sh| format!(r#""s1_attr":{attr},"s1_sh":{sh},"type":""#),
            |s2, s1, both| {
                out.write_all(std::mem::replace(&mut before, b",\n"))?;
                for piece in [s2, s1, both.ty.class()] {
                    out.write_all(piece.as_bytes())?;
                }
                match cacheability(both.ty) {
                    None => out.write_all(br#"","inner":null,"outer":null,"sh":""#)?,
                    Some((inner, outer)) => {
                        for piece in [r#"","inner":""#, inner, r#"","outer":""#, outer, r#"","sh":""#] {
                            out.write_all(piece.as_bytes())?;
                        }
                    }
                }
                out.write_all(both.sh.short().as_bytes())?;
                out.write_all(if both.is_reserved() { br#"","reserved":true}"# } else { br#"","reserved":false}"# })
            },
        )?;
        out.write_all(b"\n]\n")
    }
}

const fn cacheability(ty: Type) -> Option<(&'static str, &'static str)> {
    match ty {
        Type::Device(_) => None,
        Type::Normal { inner, outer } => Some((inner.policy.short(), outer.policy.short())),
    }
}

/// The named types, in the order of strictness, and what a column has room for.
pub(super) const STAGE1: [(&str, &str); 7] = [
    ("device-ngnrne", "nGnRnE"),
    ("device-ngnre", "nGnRE"),
    ("device-ngre", "nGRE"),
    ("device-gre", "GRE"),
    ("normal-nc", "NC"),
    ("normal-wt", "WT"),
    ("normal-wb", "WB"),
];
const ONLY_FWB: (&str, &str) = ("as-s1", "as-s1");

fn matrix(fwb: bool) -> String {
    let inner_shareable = 0b11;
    let columns: Vec<_> = STAGE1
        .into_iter()
        .chain(fwb.then_some(ONLY_FWB))
        .filter_map(|(name, short)| Some((short, memattr_of(fwb, name)?)))
        .map(|(short, memattr)| (short, memattr, Stage2::decode(fwb, memattr, inner_shareable, Features::LATEST)))
        .collect();
    let on = if fwb { "with FWB (HCR_EL2.FWB = 1)" } else { "without FWB (HCR_EL2.FWB = 0)" };
    let mut out = format!("{}\n\n{:18}{}\n", paint(STRONG, on), "", paint(FAINT, "stage 2"));
    let mut line = |text: String| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    let cells = |cell: &dyn Fn(&(&str, u8, Stage2)) -> String| columns.iter().map(cell).collect::<String>();
    line(format!("{:18}{}", "", cells(&|(short, ..)| format!("{:<10}", paint(STRONG, short)))));
    line(format!(
        "{:<18}{}",
        paint(FAINT, "stage 1     bits"),
        cells(&|(_, memattr, _)| format!("{:<10}", paint(FAINT, format!("{memattr:04b}"))))
    ));
    for (name, short) in STAGE1 {
        let Some(byte) = mair_of(name) else { continue };
        let s1 = Stage1::decode(byte, inner_shareable, Features::LATEST);
        let cell = |(.., s2): &(&str, u8, Stage2)| {
            let both = arm::combine(&s1, s2);
            let name = both.ty.to_string();
            let short = name.trim_start_matches("Device-").trim_start_matches("Normal-");
            let mark = match both.unaligned() {
                Alignment::Ok => " ".into(),
                Alignment::Fault { stage: 1 } => paint(FAINT, "1").to_string(),
                Alignment::Fault { .. } => paint(BAD, "2").to_string(),
                Alignment::MayFault => paint(OPEN, "?").to_string(),
            };
            format!("{:<6} {mark}  ", paint(show::colour(both.ty), short))
        };
        line(format!("{:<12}{:<6}{}", paint(STRONG, short), paint(FAINT, format!("{byte:#04x}")), cells(&cell)));
    }
    out
}

fn legend() -> String {
    format!(
        "unaligned accesses, and DC ZVA at any alignment:\n  \
         {} fault at stage 1, taken to EL1       {} fault at stage 2, taken to EL2\n  \
         {} may fault at stage 1 (R_RMTWN)       unmarked: ok\n\
         nG* are Device types, NC WT WB Normal. as-s1: what stage 1 says. Why: bartender explain S1 S2\n",
        paint(FAINT, "1"),
        paint(BAD, "2"),
        paint(OPEN, "?"),
    )
}
