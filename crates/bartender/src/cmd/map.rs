//! `bartender map`: a BAR in this process, with the type asked for.

use std::fmt::Write as _;

use memtype::Attribute;
use platform::Bdf;

use super::Result;
use crate::input;

#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
mod run;
#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
pub(super) use run::by;

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mNotes:\u{1b}[0m
  Without --read, --dump and --write nothing is touched: the BAR is mapped, and what the kernel made of it is shown.
  It is mapped only to read unless something is to be written. Reading a register can change it.
  vfio resets the function when it opens it, and turns memory decode on, which the kernel then leaves on.
  vfio and sysfs exclude each other: what VFIO has claimed sysfs does not map, and VFIO's claim takes away what anybody has
  mapped by sysfs (SIGBUS). Parts of several types are therefore all mapped by sysfs.
  What cannot be had is refused, with each way and why; --accept-less takes what can be had.
  On x86 the type is read from /sys/kernel/debug/x86/pat_memtype_list (root, debugfs). Without that list write-combining
  is not certain, and is refused unless less is accepted.
  Exit code 1: refused, or an access failed, or the kernel asked for the device back.

",
    examples![
        "bartender map --ways" => "the ways on this architecture: what each gives, and what it needs",
    ],
    "

\u{1b}[1m\u{1b}[4mOn a device:\u{1b}[0m
  bartender map 0000:00:04.0 2
      the whole of BAR 2 by the best way; not touched
  bartender map 0000:00:04.0 2 --as write-combine --range 0x10000+0x1000 --dump 0x10000+64
      64 bytes of a page that is mapped write-combining
  bartender map 0000:00:04.0 2 --part 0+0x1000=uncached --part 0x10000+0x10000=write-combine
      registers and a buffer of one BAR at once, each with its type
  bartender map 0000:00:04.0 2 --write 0x20.8=0x1122334455667788 --read 0x20.8 --scratch
      8 bytes written and read back, where nobody's data are
  bartender map 0000:00:04.0 2 --hold
      kept until stdin ends or the kernel asks for the device back"
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The device: 0000:01:00.0
    #[arg(value_name = "BDF", required_unless_present = "ways")]
    device: Option<Bdf>,
    /// The BAR: 0 to 5
    #[arg(value_name = "BAR", required_unless_present = "ways", value_parser = clap::value_parser!(u8).range(0..6))]
    bar: Option<u8>,
    /// Only this part of it; all of it otherwise
    #[arg(long, value_name = "OFFSET+SIZE", value_parser = Span::parse)]
    range: Option<Span>,
    /// Which type: default, uncached, write-combine, cached
    #[arg(long = "as", value_name = "TYPE", default_value = "default", value_parser = attribute)]
    kind: Attribute,
    /// Several parts at once, each with its type; may be repeated
    #[arg(long, value_name = "OFFSET+SIZE=TYPE", value_parser = Part::parse, conflicts_with_all = ["range", "kind"])]
    part: Vec<Part>,
    /// Only by this way: vfio (-group, -cdev), or sysfs (-write-combine)
    #[arg(long, value_name = "WAY")]
    by: Option<String>,
    /// Take what can be had where the type asked for cannot
    #[arg(long)]
    accept_less: bool,
    /// Read here, 4 bytes or WIDTH (1, 2, 4, 8); OFFSET is the BAR's; may be repeated
    #[arg(long, value_name = "OFFSET[.WIDTH]", value_parser = Place::parse)]
    read: Vec<Place>,
    /// Write here, before anything is read; needs --scratch; may be repeated
    #[arg(long, value_name = "OFFSET[.WIDTH]=VALUE", value_parser = Store::parse, requires = "scratch")]
    write: Vec<Store>,
    /// What is written is nobody's, and writing it does no harm
    #[arg(long)]
    scratch: bool,
    /// Print these bytes in hexadecimal, read with aligned loads of --width bytes
    #[arg(long, value_name = "OFFSET+SIZE", value_parser = Span::parse)]
    dump: Option<Span>,
    /// How many bytes each load of --dump is of: 1, 2, 4 or 8
    #[arg(long, value_name = "BYTES", default_value = "4", value_parser = width, requires = "dump")]
    width: usize,
    /// Map the pages of the MSI-X table to write by sysfs too: who writes there chooses where an interrupt's write goes
    #[arg(long)]
    over_msix: bool,
    /// Keep it mapped, after a line `held`, until stdin ends or the kernel asks for the device back
    #[arg(long)]
    hold: bool,
    /// The ways in which a BAR can be mapped here
    #[arg(long, conflicts_with_all = ["device", "bar", "range", "part", "by", "read", "write", "dump", "hold"])]
    ways: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// A part of a BAR: not empty, and it ends within 2^64.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

impl Span {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let (start, size) = text.split_once('+').ok_or("write OFFSET+SIZE: 0x1000+64")?;
        let (start, size) = (input::number(start)?, input::number(size)?);
        if size == 0 {
            return Err("a part has at least one byte".into());
        }
        let end = start.checked_add(size).ok_or_else(|| format!("{start:#x} + {size:#x} has more than 64 bits"))?;
        Ok(Self { start, end })
    }
}

/// A part and its type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    span: Span,
    kind: Attribute,
}

impl Part {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let (span, kind) = text.split_once('=').ok_or("write OFFSET+SIZE=TYPE: 0x1000+64=write-combine")?;
        Ok(Self { span: Span::parse(span)?, kind: attribute(kind)? })
    }
}

/// Where, and how wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    offset: u64,
    width: usize,
}

impl Place {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let (offset, bytes) = text.split_once('.').unwrap_or((text, "4"));
        Ok(Self { offset: input::number(offset)?, width: width(bytes)? })
    }
}

/// Where, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Store {
    place: Place,
    value: u64,
}

impl Store {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let (place, value) = text.split_once('=').ok_or("write OFFSET.WIDTH=VALUE: 0x20.8=0x11")?;
        let (place, value) = (Place::parse(place)?, input::number(value)?);
        if place.width < 8 && value >> (8 * place.width) != 0 {
            return Err(format!("{value:#x} has more than {} bytes", place.width));
        }
        Ok(Self { place, value })
    }
}

fn attribute(text: &str) -> std::result::Result<Attribute, String> {
    Attribute::named(text).ok_or_else(|| input::unknown("type", text, &Attribute::ALL.map(Attribute::name)))
}

fn width(text: &str) -> std::result::Result<usize, String> {
    match text {
        "1" => Ok(1),
        "2" => Ok(2),
        "4" => Ok(4),
        "8" => Ok(8),
        _ => Err(format!("`{text}` is no width\none of: 1, 2, 4, 8 (bytes)")),
    }
}

/// The places of a dump: the loads, ascending, each at a multiple of its width; the first may begin before what was asked for.
fn loads(span: &Span, width: usize) -> impl Iterator<Item = u64> {
    let width = width as u64;
    let first = span.start / width * width;
    (0..(span.end - first).div_ceil(width)).map(move |i| first + i * width)
}

/// Sixteen bytes a line: the offset, words of `width` bytes, and what of it is text. A word that could not be read is `--`.
fn dumped(span: &Span, width: usize, words: &[Option<u64>]) -> String {
    const LINE: u64 = 16;
    let mut out = String::new();
    let Some(first) = loads(span, width).next() else { return out };
    let mut line = first / LINE * LINE;
    while line < span.end {
        let _ = write!(out, "{line:08x} ");
        let mut text = String::new();
        for at in (line..line + LINE).step_by(width) {
            let word = at.checked_sub(first).and_then(|i| words.get(usize::try_from(i).ok()? / width)).copied();
            match word {
                None => {
                    let _ = write!(out, " {:1$}", "", 2 * width);
                    text.push_str(&" ".repeat(width));
                }
                Some(None) => {
                    let _ = write!(out, " {:->1$}", "", 2 * width);
                    text.push_str(&"-".repeat(width));
                }
                Some(Some(word)) => {
                    let _ = write!(out, " {word:0>0$x}", 2 * width);
                    let bytes = word.to_le_bytes();
                    text.extend(
                        bytes
                            .iter()
                            .take(width)
                            .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' }),
                    );
                }
            }
        }
        let _ = writeln!(out, "  {}", text.trim_end());
        line += LINE;
    }
    out
}

/// Runs it.
///
/// # Errors
/// There is no such device or BAR; the part is not within.
pub fn run(args: &Args) -> Result {
    #[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
    return if args.ways { run::ways(args.json) } else { run::map(args) };
    #[cfg(not(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64"))))]
    Err(format!("{args:?}: a BAR is mapped on Linux on arm64 and x86 only").into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_type() {
        assert_eq!(Span::parse("0x1000+64"), Ok(Span { start: 0x1000, end: 0x1040 }));
        let part = Part::parse("0+0x1000=write-combine").unwrap();
        assert_eq!((part.span.end, part.kind), (0x1000, Attribute::WriteCombine));
        assert_eq!(Place::parse("0x10.8"), Ok(Place { offset: 16, width: 8 }));
        assert_eq!(Place::parse("7").unwrap().width, 4);
        assert_eq!(Store::parse("8.1=0xff").unwrap().value, 255);
        for bad in ["", "1", "1+0", "x+1", "0xffffffffffffffff+1", "1+2+3"] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
        assert!(Store::parse("8.1=0x100").is_err() && Store::parse("8.3=1").is_err() && Store::parse("8").is_err());
        assert!(Part::parse("0+1=wc").unwrap_err().contains("write-combine"));
    }

    #[test]
    fn a_dump() {
        let span = Span::parse("0x0c+10").unwrap();
        let at: Vec<_> = loads(&span, 4).collect();
        assert_eq!(at, [0xc, 0x10, 0x14]);
        let want = concat!(
            "00000000                             44434241              ABCD\n",
            "00000010  -------- 00ff2041                    ----A ..\n"
        );
        assert_eq!(dumped(&span, 4, &[Some(0x4443_4241), None, Some(0x00ff_2041)]), want);
    }

    proptest! {
        #[test]
        fn loads_are_aligned_and_cover_what_was_asked_for(start in 0u64..1 << 20, size in 1u64..200, width in 0u32..4) {
            let (span, width) = (Span { start, end: start + size }, 1usize << width);
            let at: Vec<_> = loads(&span, width).collect();
            let wide = width as u64;
            prop_assert!(at.iter().all(|a| a % wide == 0 && a + wide > start && *a < start + size));
            prop_assert!(at[0] <= start && at[at.len() - 1] + wide >= start + size);
            let words: Vec<_> = at.iter().map(|a| Some(a & 0xff)).collect();
            let text = dumped(&span, width, &words);
            prop_assert!(text.lines().all(|line| line.len() <= 100));
            let lines = (start + size - 1) / 16 - start / wide * wide / 16 + 1;
            prop_assert_eq!(text.lines().count() as u64, lines);
        }

        #[test]
        fn any_text_is_taken(text in "\\PC{0,24}|[0-9a-fx+=.]{0,24}") {
            let _ = (Span::parse(&text), Part::parse(&text), Place::parse(&text), Store::parse(&text));
        }
    }
}
