//! Whatever the text, the reader answers; whatever it accepts, every machine can lay out and lower.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use scenario::layout::{CODE_SIZE, DEVICE_BASE, MAX_MAPS, RAM_BASE, RAM_MAPS_BASE, REPORT_IPA, Slot};
use scenario::program::{Insn, Op};
use scenario::{Asked, Layout, Scenario, Target, parse};

use super::{DESIGN, FULL, OPERATIONS, PUT, REPLACED, with};

const MMU_OFF: &str = "title = \"off\"\n[[map]]\nname = \"a\"\nram = \"4K\"\n[guest]\nmmu = false\nprogram = \"store.8 a, 1\\nisb\"\n[expect]\nall = [\"completed\", \"endless\"]\n";

/// What replaces a number, and other things a file may have to bear.
const EXTREMES: [&str; 24] = [
    "0xffffffffffffffff",
    "18446744073709551616",
    "-1",
    "1e400",
    "nan",
    "0",
    "\"\"",
    "17179869183G",
    "\"1G\"",
    "4K",
    "0x",
    "+",
    "->",
    "\"\"\"",
    "'''",
    "\\",
    "\r",
    "\u{feff}",
    "日本",
    "[[map]]",
    "{}",
    "[]",
    "x15",
    "\u{0}",
];

/// The answer to `text`: a scenario that holds together, or an error that helps.
fn answers(text: &str) -> Option<Scenario> {
    match parse("random.toml", text) {
        Ok(scenario) => {
            holds(&scenario);
            Some(scenario)
        }
        Err(e) => {
            assert!(e.line >= 1 && e.line as usize <= text.lines().count().max(1), "{e:?} of {text:?}");
            let line = text.split('\n').nth(e.line as usize - 1).unwrap();
            assert!(e.column >= 1 && e.column as usize <= line.chars().count() + 1, "{e:?} of {text:?}");
            assert!(!e.message.is_empty() && !e.remedy.is_empty(), "{e:?}");
            let shown = e.to_string();
            assert_eq!(shown.lines().count(), 5, "{shown}");
            assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
            assert!(e.excerpt.chars().count() <= 4 * 102, "{shown}");
            None
        }
    }
}

/// The layout has room for everything, and the program for its code.
fn holds(scenario: &Scenario) {
    let layout = Layout::of(scenario);
    let end = layout.slots.iter().map(|s| s.ipa + s.size).chain(layout.maps.iter().map(|m| m.ipa + m.size)).max();
    assert!(end.unwrap() <= 1 << 39);
    assert_eq!(layout.maps.len(), scenario.maps.len());
    let mut taken = vec![(REPORT_IPA, REPORT_IPA + 4096)];
    taken.extend(layout.slots.iter().map(|s| (s.ipa, s.ipa + s.size)));
    for (map, at) in scenario.maps.iter().zip(&layout.maps) {
        assert!(at.size == map.size && at.va.checked_add(at.size).unwrap() < 1 << 48);
        let inside = |base: u64, size: u64| base <= at.ipa && at.ipa + at.size <= base + size;
        match map.of {
            Target::Bar { device, bar } => {
                assert!(map.offset + map.size <= scenario.devices[device].bars[bar].size);
                assert!(layout.slots.iter().any(|s| inside(s.ipa, s.size)));
            }
            Target::Ram => assert!(inside(RAM_BASE, layout.slots[0].size) && at.ipa >= RAM_MAPS_BASE),
            Target::Hole => taken.push((at.ipa, at.ipa + at.size)),
        }
    }
    taken.sort_unstable();
    assert!(taken.windows(2).all(|w| w[0].1 <= w[1].0), "{taken:x?}");
    assert!(layout.slots[0].size <= DEVICE_BASE - RAM_BASE);

    for (i, a) in scenario.attributes.iter().enumerate() {
        assert!(a.size > 0 && (a.offset | a.size).is_multiple_of(4096));
        assert!(a.offset + a.size <= scenario.devices[a.device].bars[a.bar].size);
        let meets = |b: &&Asked| {
            (a.device, a.bar) == (b.device, b.bar)
                && a.offset.max(b.offset) < (a.offset + a.size).min(b.offset + b.size)
        };
        assert!(scenario.attributes[i + 1..].iter().find(meets).is_none(), "{:?}", scenario.attributes);
    }
    assert!(scenario.devices.iter().all(|d| d.class <= 0xff_ffff));

    for (i, (_, op)) in scenario.program.ops.iter().enumerate() {
        let (at, bytes) = match *op {
            Op::UserStore { size, at, .. } | Op::UserLoad { size, at, .. } => (at, size.bytes()),
            Op::DmaStore { size, at, .. } | Op::DmaLoad { size, at, .. } => {
                assert!(!scenario.devices.is_empty());
                (at, size.bytes())
            }
            Op::SetAttribute { at, .. } => {
                assert!(scenario.asked_at(at).is_some(), "operation {i}");
                continue;
            }
            _ => continue,
        };
        // Aligned, inside one slot: a machine needs no second look.
        assert_eq!(layout.ipa(at) % bytes, 0);
        let inside = |s: &Slot| s.ipa <= layout.ipa(at) && layout.ipa(at) + bytes <= s.ipa + s.size;
        assert!(layout.slots.iter().any(inside), "operation {i}");
    }

    let lowered = scenario.program.lower(&layout);
    assert_eq!(lowered.insns.len(), lowered.op.len());
    let code = scenario::a64::assemble(&lowered).unwrap();
    assert!(code.bytes.len() as u64 <= CODE_SIZE);
    for insn in &lowered.insns {
        if let Insn::B { to } | Insn::Cbz { to, .. } | Insn::DecBne { to, .. } = insn {
            assert!(*to <= lowered.insns.len());
        }
    }
    for (insn, i) in lowered.insns.iter().zip(&lowered.op) {
        let outside = scenario.program.ops[*i].1.outside();
        assert_eq!(*insn == Insn::Hvc { op: *i as u16 }, outside);
        assert_eq!(matches!(insn, Insn::Hvc { .. }), outside);
    }
    let destinations = scenario.program.destinations();
    let patterns = scenario.expect.by_policy.iter().flat_map(|(_, _, p)| p).chain(&scenario.expect.all);
    assert!(patterns.clone().count() > 0);
    for pattern in patterns {
        assert!(pattern.registers.keys().all(|r| destinations.contains(r)));
    }
}

#[derive(Debug, Clone)]
enum Edit {
    DropLine(Index),
    CopyLine(Index, Index),
    SwapLines(Index, Index),
    DropChar(Index),
    Put(Index, String),
    Number(Index, &'static str),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Edit::DropLine),
        (at(), at()).prop_map(|(a, b)| Edit::CopyLine(a, b)),
        (at(), at()).prop_map(|(a, b)| Edit::SwapLines(a, b)),
        at().prop_map(Edit::DropChar),
        (at(), any::<char>()).prop_map(|(a, c)| Edit::Put(a, c.into())),
        (at(), select(&EXTREMES[..])).prop_map(|(a, s)| Edit::Put(a, s.into())),
        (at(), select(&EXTREMES[..])).prop_map(|(a, s)| Edit::Number(a, s)),
        at().prop_map(Edit::Cut),
    ]
}

fn apply(text: &str, edit: &Edit) -> String {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let mut chars: Vec<char> = text.chars().collect();
    match edit {
        Edit::DropLine(i) => drop(lines.remove(i.index(lines.len()))),
        Edit::CopyLine(from, to) => lines.insert(to.index(lines.len()), lines[from.index(lines.len())]),
        Edit::SwapLines(a, b) => {
            let count = lines.len();
            lines.swap(a.index(count), b.index(count));
        }
        Edit::DropChar(_) if chars.is_empty() => {}
        Edit::DropChar(i) => {
            chars.remove(i.index(chars.len()));
            return chars.into_iter().collect();
        }
        Edit::Put(i, s) => {
            let at = i.index(chars.len() + 1);
            return chars[..at].iter().copied().chain(s.chars()).chain(chars[at..].iter().copied()).collect();
        }
        Edit::Number(i, with) => {
            let starts: Vec<usize> = (0..chars.len())
                .filter(|&i| chars[i].is_ascii_digit() && (i == 0 || !chars[i - 1].is_ascii_alphanumeric()))
                .collect();
            if !starts.is_empty() {
                let start = starts[i.index(starts.len())];
                let end = (start..chars.len()).find(|&i| !chars[i].is_ascii_alphanumeric()).unwrap_or(chars.len());
                return chars[..start]
                    .iter()
                    .copied()
                    .chain(with.chars())
                    .chain(chars[end..].iter().copied())
                    .collect();
            }
        }
        Edit::Cut(i) => return chars[..i.index(chars.len() + 1)].iter().collect(),
    }
    lines.join("\n")
}

/// Sizes a map or a BAR may have.
fn bar_size() -> impl Strategy<Value = u64> {
    (12u32..=30).prop_map(|n| 1 << n)
}

/// A scenario of as many and as large parts as there may be.
fn large() -> impl Strategy<Value = String> {
    let bars = vec((bar_size(), any::<bool>()), 1..=16);
    let maps = vec((0..3u8, any::<Index>(), any::<Index>(), any::<Index>()), 1..=MAX_MAPS);
    let ops = vec((0..18u8, any::<Index>(), any::<Index>(), any::<Index>(), any::<u64>()), 0..=64);
    (bars, maps, ops, any::<bool>()).prop_map(|(bars, maps, ops, mmu)| {
        let mut text = String::from("title = \"large\"\n");
        for (i, (size, readonly)) in bars.iter().enumerate() {
            text += &format!("[[attribute]]\nbar = \"d{i}.{}\"\nask = \"cached\"\n", i % 6);
            text += &format!(
                "[[device]]\nname = \"d{i}\"\nbars = [{{ index = {}, size = {size}, readonly = {readonly} }}]\n",
                i % 6
            );
        }
        let (mut sizes, mut ram) = (Vec::new(), 0);
        let (mut reached, mut in_bars) = (Vec::new(), Vec::new());
        for (i, (kind, a, b, c)) in maps.iter().enumerate() {
            text += &format!("[[map]]\nname = \"m{i}\"\n");
            let size = match kind {
                0 => {
                    let bar = a.index(bars.len());
                    let pages = (bars[bar].0 / 4096) as usize;
                    let offset = b.index(pages);
                    let size = 1 + c.index(pages - offset);
                    text +=
                        &format!("bar = \"d{bar}.{}\"\noffset = {}\nsize = {}\n", bar % 6, offset * 4096, size * 4096);
                    in_bars.push(i);
                    reached.push(i);
                    size as u64 * 4096
                }
                1 if ram < 60 << 20 => {
                    let size = (1 + a.index(1024)) as u64 * 4096;
                    ram += size;
                    reached.push(i);
                    text += &format!("ram = {size}\n");
                    size
                }
                _ => {
                    let size = (1 + a.index(1 << 18)) as u64 * 4096;
                    text += &format!("hole = {size}\n");
                    size
                }
            };
            if mmu {
                text +=
                    &format!("type = \"mair={:#x}\"\nwritable = {}\n", [0, 0xff, 0x44, 0x4f, 0x0c][i % 5], i % 3 > 0);
            }
            sizes.push(size);
        }
        text += &format!("[guest]\nmmu = {mmu}\nprogram = \"\"\"\nstart:\n");
        for (op, a, b, c, value) in &ops {
            let place = |m: &Index, o: &Index| {
                let map = m.index(sizes.len());
                format!("m{map}+{:#x}", o.index(sizes[map] as usize))
            };
            let (at, other, n) = (place(a, b), place(b, c), 1 << (value % 4));
            let small = value & 0xff;
            text += &match op {
                0 => format!("store.{n} {at}, {small}\n"),
                1 => format!("load.{n} {at} -> x{}\n", value % 16),
                2 => format!("pair.store {at}, {value}, x{}\n", value % 16),
                3 => format!("pair.load {at} -> x1, x2\n"),
                4 | 5 => format!("copy {at}, {other}, {}\n", 1 + value % 4096),
                6 => format!("zero {at}\n"),
                7 => format!("atomic.add.{n} {at}, x{} -> x3\n", value % 16),
                8 => format!("exclusive.{n} {at}, {small} -> x4, x5\n"),
                9 => "dsb sy\n".into(),
                10 => "jump start\n".into(),
                11 => format!("clean {at}\n"),
                // In a BAR or RAM, aligned: what user space and a device may do.
                12..17 if !reached.is_empty() => {
                    let map = reached[a.index(reached.len())];
                    let aligned = format!("m{map}+{:#x}", b.index(sizes[map] as usize / 8) * 8);
                    match op {
                        12 => format!("user.store.{n} {aligned}, {small}\n"),
                        13 => format!("user.load.{n} {aligned} -> x{}\n", value % 16),
                        14 => format!("dma.store.{n} {aligned}, x{}\n", value % 16),
                        15 => format!("dma.load.{n} {aligned} -> x6\n"),
                        _ if in_bars.is_empty() => "isb\n".into(),
                        _ => {
                            let asks = ["default", "uncached", "write-combine", "cached"];
                            format!("attribute m{}, {}\n", in_bars[a.index(in_bars.len())], asks[c.index(4)])
                        }
                    }
                }
                _ => format!("jump {at}\n"),
            };
        }
        text + "\"\"\"\n[expect]\nall = \"completed\"\n"
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_an_answer(bytes in vec(any::<u8>(), 0..400)) {
        answers(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text_in_a_string_gets_an_answer(text in "\\PC{0,80}", quotes in select(&["\"", "'", "\"\"\"", "'''"][..])) {
        answers(&format!("title = {quotes}{text}{quotes}"));
        answers(&DESIGN.replace("store.8  vram+3, 0x1122334455667788", &text));
        answers(&DESIGN.replace("vram+3, 0x1122334455667788", &text));
        answers(&DESIGN.replace("stage-2 alignment fault", &text));
        answers(&DESIGN.replace("\"linux-6.1\"", &format!("\"{text}\"")));
        answers(&with(&format!("[platform]\nerrors = \"{text}\"")));
        answers(&with(&format!("[platform]\nerratum = \"{text}\"")));
    }

    #[test]
    fn any_damage_gets_an_answer(file in select(&[DESIGN, FULL, MMU_OFF][..]), crlf: bool, edits in vec(edit(), 1..6)) {
        let mut text = if crlf { file.replace('\n', "\r\n") } else { file.to_owned() };
        for edit in &edits {
            text = apply(&text, edit);
            answers(&text);
        }
    }

    /// Faults of the tables, two at once.
    #[test]
    fn two_faults_get_an_answer(a in select(REPLACED), b in select(REPLACED), put in select(PUT), op in select(OPERATIONS)) {
        let text = DESIGN.replacen(a.0, a.1, 1).replacen(b.0, b.1, 1);
        answers(&text);
        answers(&with(put.0).replacen(a.0, a.1, 1));
        answers(&text.replace("load.8   vram+3 -> x0", op.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_largest_scenarios_are_accepted_and_hold(text in large()) {
        let scenario = parse("large.toml", &text);
        prop_assert!(scenario.is_ok(), "{}", scenario.unwrap_err());
        holds(&scenario.unwrap());
    }
}

#[test]
fn the_largest_of_all() {
    let mut text = String::from("title = \"all\"\n");
    for i in 0..16 {
        text += &format!("[[device]]\nname = \"d{i}\"\nbars = [{{ index = 0, size = \"1G\" }}]\n");
    }
    for i in 0..MAX_MAPS {
        let of = if i == 0 { "ram = \"64M\"" } else { "hole = \"1G\"" };
        text += &format!("[[map]]\nname = \"m{i}\"\n{of}\ntype = \"normal-wb\"\n");
    }
    text += "[guest]\nprogram = \"\"\"\n";
    text += &"copy m1+0x3fffffff, m63+0x3ffffff1, 511\n".repeat(512);
    text += "\"\"\"\n[expect]\nall = { outcome = \"stage-1 translation fault\", far = \"m1+1G\" }\n";
    assert!(answers(&text).is_some(), "{}", parse("all.toml", &text).unwrap_err());
}
