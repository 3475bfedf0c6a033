//! Random scenarios, written as files are, on the model: whatever a guest does is an outcome, and one that fits.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p model --test random` looks further than the few cases of an ordinary run.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    env, fmt,
    fmt::Write,
    time::{Duration, Instant},
};

use hyp::{Cpu, EFAULT, EINVAL, Policy};
use memtype::{
    Attribute,
    arm::{Features, Stage1},
};
use model::Finding;
use platform::{Errors, NcDefect};
use proptest::{option, prelude::*, sample::Index};
use scenario::{
    Bar, Layout, Observation, Outcome, Scenario, Target,
    observation::FaultKind,
    parse,
    program::{Insn, JumpTo, Op, Place, Value, scratch},
};

const PAGE: u64 = 4096;
/// One run with all its choices. A program that loops is run to the bound once for every way its choices can fall, up to 2^21
/// instructions; a build without optimization takes a few seconds for them.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 5 });

fn config(cases: u32) -> ProptestConfig {
    let cases = if env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, max_global_rejects: 1 << 20, ..ProptestConfig::default() }
}

/// A scenario's text; printed as such where a property fails.
#[derive(Clone)]
struct Text(String);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

impl Text {
    fn parse(&self) -> Scenario {
        parse("random", &self.0).unwrap_or_else(|e| panic!("not a valid scenario: {e}\n{}", self.0))
    }
}

#[derive(Debug, Clone)]
enum Of {
    /// Of 2^`log2` bytes; the map takes `pages` of what is left from `offset`, or all.
    Bar {
        log2: u32,
        offset: Index,
        pages: Option<Index>,
        readonly: bool,
    },
    /// The first BAR of the file once more, if there is one.
    SameBar {
        offset: Index,
    },
    Ram {
        pages: u64,
    },
    Hole {
        pages: u64,
    },
}

#[derive(Debug, Clone)]
struct AMap {
    of: Of,
    mair: u8,
    writable: bool,
}

/// An offset into a map: at its start, before its end, around its first page boundary, anywhere. Few enough that what one
/// operation stores another loads.
#[derive(Debug, Clone)]
struct Somewhere {
    map: Index,
    anchor: u8,
    delta: u64,
    any: Index,
}

#[derive(Debug, Clone)]
enum Do {
    Store(u32, Somewhere, Option<u64>, u8),
    Load(u32, Somewhere, u8),
    StorePair(Somewhere, Option<u64>, u8),
    LoadPair(Somewhere, u8),
    Copy(Somewhere, Somewhere, u64),
    Zero(Somewhere),
    Atomic(u32, Somewhere, Option<u64>, u8),
    Exclusive(u32, Somewhere, Option<u64>, u8),
    Barrier(&'static str),
    /// To a label of the program; forwards only unless the program may loop.
    Jump(Index),
    /// To the first operation.
    Again,
    JumpOut(Somewhere),
    Clean(Somewhere),
    /// By user space, or by DMA: to store a number, or to load into a register.
    Outside(bool, u32, Somewhere, Option<u64>, u8),
    Attribute(Somewhere, &'static str),
}

/// What a file declares of machine and devices, beyond a plain server with plain BARs.
#[derive(Debug, Clone, Default)]
struct Wild {
    device: String,
    bar: String,
    platform: String,
    /// What user space asks for all of the first BAR.
    ask: Option<&'static str>,
    /// The IOMMU has a mapping of each map of RAM: whether it is non-cacheable, whether its entry lies in the map's last bytes.
    iova: Option<(bool, bool)>,
}

fn somewhere() -> impl Strategy<Value = Somewhere> {
    let delta = prop_oneof![2 => 0u64..=64, 1 => 24u64..=32, 1 => (0u64..=8).prop_map(|n| 8 * n)];
    (any::<Index>(), 0u8..4, delta, any::<Index>()).prop_map(|(map, anchor, delta, any)| Somewhere {
        map,
        anchor,
        delta,
        any,
    })
}

fn value() -> impl Strategy<Value = Option<u64>> {
    option::weighted(0.7, any::<u64>())
}

fn plain() -> impl Strategy<Value = Do> {
    let log2 = 0u32..4;
    prop_oneof![
        4 => (log2.clone(), somewhere(), value(), 0u8..16).prop_map(|(n, at, v, r)| Do::Store(n, at, v, r)),
        4 => (log2, somewhere(), 0u8..16).prop_map(|(n, at, r)| Do::Load(n, at, r)),
        2 => (somewhere(), value(), 0u8..16).prop_map(|(at, v, r)| Do::StorePair(at, v, r)),
        2 => (somewhere(), 0u8..16).prop_map(|(at, r)| Do::LoadPair(at, r)),
        1 => (somewhere(), somewhere(), prop_oneof![1u64..64, 1u64..=4096])
            .prop_map(|(to, from, n)| Do::Copy(to, from, n)),
        1 => prop::sample::select(vec!["dmb ish", "dsb sy", "dmb oshst", "isb", "dgh"]).prop_map(Do::Barrier),
    ]
}

fn anything() -> impl Strategy<Value = Do> {
    let log2 = 0u32..4;
    prop_oneof![
        12 => plain(),
        2 => somewhere().prop_map(Do::Zero),
        2 => (log2.clone(), somewhere(), value(), 0u8..16).prop_map(|(n, at, v, r)| Do::Atomic(n, at, v, r)),
        2 => (log2, somewhere(), value(), 0u8..16).prop_map(|(n, at, v, r)| Do::Exclusive(n, at, v, r)),
        2 => any::<Index>().prop_map(Do::Jump),
        1 => somewhere().prop_map(Do::JumpOut),
        1 => somewhere().prop_map(Do::Clean),
        4 => (any::<bool>(), 0u32..4, somewhere(), value(), 0u8..16)
            .prop_map(|(dma, n, at, v, r)| Do::Outside(dma, n, at, v, r)),
        1 => (somewhere(), prop::sample::select(ASKS.to_vec())).prop_map(|(at, ask)| Do::Attribute(at, ask)),
    ]
}

const ASKS: [&str; 4] = ["default", "uncached", "write-combine", "cached"];

fn wild() -> impl Strategy<Value = Wild> {
    let errors = prop::sample::select(vec!["all-ones", "all-ones", "contained", "uncontained"]);
    let nc = prop::sample::select(vec!["works", "works", "holes", "partial", "long", "fails"]);
    let class = prop::sample::select(vec!["0xff0000", "\"vga\"", "\"display\""]);
    let flag = prop::bool::weighted;
    let reads = prop::sample::select(vec!["\"plain\"", "\"plain\"", "\"clear\"", "\"clear\", clear = \"4K\""]);
    let bar = (flag(0.5), reads, flag(0.15), flag(0.3)).prop_map(|(prefetchable, reads, dead, cached)| {
        format!(", prefetchable = {prefetchable}, reads = {reads}, dead = {dead}, cached = {cached}")
    });
    let coherent = prop::sample::select(vec!["", "coherent = true\n", "coherent = false\n"]);
    let device = (class, flag(0.5), coherent)
        .prop_map(|(class, no_snoop, coherent)| format!("class = {class}\nno-snoop = {no_snoop}\n{coherent}"));
    let platform = (errors.clone(), errors, nc, flag(0.5), flag(0.5), flag(0.5), flag(0.5)).prop_map(
        |(d, n, nc, coherent, snoop, described, walks)| {
            let no_snoop = if snoop { "never" } else { "possible" };
            format!(
                "[platform]\nerrors = {{ device = \"{d}\", normal = \"{n}\" }}\nnormal-nc = \"{nc}\"\n\
                 coherent = {coherent}\nno-snoop = \"{no_snoop}\"\ndescribed = {described}\n\
                 [iommu]\ncoherent-walks = {walks}\n"
            )
        },
    );
    let ask = option::of(prop::sample::select(ASKS.to_vec()));
    let iova = option::of((flag(0.3), flag(0.3)));
    let wild = (device, bar, platform, ask, iova).prop_map(|(device, bar, platform, ask, iova)| Wild {
        device,
        bar,
        platform,
        ask,
        iova,
    });
    prop_oneof![1 => Just(Wild::default()), 2 => wild]
}

/// Every byte; those that have a name, and their neighbours, more often.
fn mair() -> impl Strategy<Value = u8> {
    let named = vec![0x00, 0x04, 0x08, 0x0c, 0x01, 0x02, 0x40, 0x44, 0x4f, 0xa0, 0xaa, 0xbb, 0xf0, 0xf4, 0xff];
    prop_oneof![any::<u8>(), prop::sample::select(named)]
}

fn maps(mair: impl Strategy<Value = u8>, trouble: bool) -> impl Strategy<Value = Vec<AMap>> {
    let yes = |p: f64| prop::bool::weighted(if trouble { p } else { 0.0 });
    let pages = || prop_oneof![1u64..4, 1u64..4000];
    let of = prop_oneof![
        4 => (prop_oneof![12u32..16, 12u32..=30], any::<Index>(), option::of(any::<Index>()), yes(0.2))
            .prop_map(|(log2, offset, pages, readonly)| Of::Bar { log2, offset, pages, readonly }),
        1 => any::<Index>().prop_map(|offset| Of::SameBar { offset }),
        2 => pages().prop_map(|pages| Of::Ram { pages }),
        u32::from(trouble) => pages().prop_map(|pages| Of::Hole { pages }),
    ];
    let map = (of, mair, yes(0.2)).prop_map(|(of, mair, readonly)| AMap { of, mair, writable: !readonly });
    prop::collection::vec(map, 1..=3)
}

fn attributes(m: &AMap, mmu: bool) -> String {
    if mmu { format!("type = \"mair={:#04x}\"\nwritable = {}\n", m.mair, m.writable) } else { String::new() }
}

/// Writes the scenario, of plain machine and BARs but for `wild`. `inside`: every access stays inside its map. `loops`: jumps
/// go anywhere, else forwards.
fn write(maps: &[AMap], mmu: bool, ops: &[Do], (inside, loops): (bool, bool), wild: &Wild) -> Text {
    let mut devices = String::new();
    let (mut text, mut iovas) = (String::new(), String::new());
    // The first BAR: the device it is of, log2 of its size.
    let mut first = None;
    let mut sizes = Vec::new();
    for (i, m) in maps.iter().enumerate() {
        let mut declare = |log2: u32, readonly: bool| {
            let size = 1u64 << log2;
            let bar = format!("{{ index = {i}, size = {size}, readonly = {readonly}{} }}", wild.bar);
            writeln!(devices, "[[device]]\nname = \"d{i}\"\n{}bars = [{bar}]", wild.device).unwrap();
            (i, log2)
        };
        let ((device, log2), offset, pages) = match &m.of {
            Of::Bar { log2, offset, pages, readonly } => (declare(*log2, *readonly), offset, pages.as_ref()),
            Of::SameBar { offset } => (first.unwrap_or_else(|| declare(16, false)), offset, None),
            Of::Ram { pages } | Of::Hole { pages } => {
                let kind = if matches!(m.of, Of::Ram { .. }) { "ram" } else { "hole" };
                sizes.push(pages * PAGE);
                writeln!(text, "[[map]]\nname = \"m{i}\"\n{kind} = {}", pages * PAGE).unwrap();
                text.push_str(&attributes(m, mmu));
                if let (Of::Ram { .. }, Some((non_cacheable, entry))) = (&m.of, wild.iova) {
                    write!(iovas, "[[iova]]\nname = \"i{i}\"\nto = \"m{i}\"\nnon-cacheable = {non_cacheable}\n")
                        .unwrap();
                    if entry {
                        writeln!(iovas, "entry = \"m{i}+{:#x}\"", pages * PAGE - 8).unwrap();
                    }
                }
                continue;
            }
        };
        first.get_or_insert((device, log2));
        let all = 1usize << (log2 - 12);
        let offset = offset.index(all);
        let size = pages.map_or(all - offset, |p| p.index(all - offset) + 1) as u64 * PAGE;
        sizes.push(size);
        let offset = offset as u64 * PAGE;
        writeln!(text, "[[map]]\nname = \"m{i}\"\nbar = \"d{device}.{device}\"\noffset = {offset}\nsize = {size}")
            .unwrap();
        text.push_str(&attributes(m, mmu));
    }
    let attribute = match (first, wild.ask) {
        (Some((i, _)), Some(ask)) => format!("[[attribute]]\nbar = \"d{i}.{i}\"\nask = \"{ask}\"\n"),
        _ => String::new(),
    };
    let kind = |at: &Somewhere| match maps[at.map.index(sizes.len())].of {
        Of::Bar { .. } | Of::SameBar { .. } => 'b',
        Of::Ram { .. } => 'r',
        Of::Hole { .. } => 'h',
    };
    let place = |at: &Somewhere, length: u64| {
        let map = at.map.index(sizes.len());
        let size = sizes[map];
        let last = size - 1;
        let offset = match at.anchor {
            0 => at.delta,
            1 => last.saturating_sub(at.delta),
            2 => PAGE - 32 + at.delta,
            _ => at.any.index(size as usize) as u64,
        };
        let room = if inside { size - length } else { last };
        format!("m{map}+{:#x}", offset.min(room))
    };
    let cut = |v: u64, log2: u32| if log2 == 3 { v } else { v & ((1 << (8 << log2)) - 1) };
    let value = |v: Option<u64>, r: u8, log2: u32| v.map_or(format!("x{r}"), |v| format!("{:#x}", cut(v, log2)));
    let next = |r: u8, by: u8| (r + by) % 16;
    let mut program = String::new();
    for (i, op) in ops.iter().enumerate() {
        let line = match op {
            Do::Store(n, at, v, r) => format!("store.{} {}, {}", 1 << n, place(at, 1 << n), value(*v, *r, *n)),
            Do::Load(n, at, r) => format!("load.{} {} -> x{r}", 1 << n, place(at, 1 << n)),
            Do::StorePair(at, v, r) => format!("pair.store {}, {}, x{r}", place(at, 16), value(*v, next(*r, 1), 3)),
            Do::LoadPair(at, r) => format!("pair.load {} -> x{r}, x{}", place(at, 16), next(*r, 1)),
            Do::Copy(to, from, n) => format!("copy {}, {}, {n}", place(to, *n), place(from, *n)),
            Do::Zero(at) => format!("zero {}", place(at, 1)),
            Do::Atomic(n, at, v, r) => {
                format!("atomic.add.{} {}, {} -> x{r}", 1 << n, place(at, 1 << n), value(*v, next(*r, 1), *n))
            }
            Do::Exclusive(n, at, v, r) => {
                let v = value(*v, next(*r, 2), *n);
                format!("exclusive.{} {}, {v} -> x{r}, x{}", 1 << n, place(at, 1 << n), next(*r, 1))
            }
            Do::Barrier(name) => (*name).into(),
            Do::Again => "jump l0".into(),
            Do::Jump(to) if loops => format!("jump l{}", to.index(ops.len() + 1)),
            Do::Jump(to) => format!("jump l{}", i + 1 + to.index(ops.len() - i)),
            Do::JumpOut(at) => format!("jump {}", place(at, 4)),
            Do::Clean(at) => format!("clean {}", place(at, 1)),
            Do::Attribute(at, _) if kind(at) != 'b' => "dgh".into(),
            Do::Attribute(at, ask) => format!("attribute {}, {ask}", place(at, 1)),
            Do::Outside(dma, _, at, ..) if kind(at) == 'h' || *dma && first.is_none() => "dgh".into(),
            Do::Outside(dma, n, at, v, r) => {
                let who = if *dma { "dma" } else { "user" };
                let (mut map, offset) =
                    place(at, 8).split_once('+').map(|(m, o)| (m.to_owned(), o.to_owned())).unwrap();
                let mut offset = u64::from_str_radix(&offset[2..], 16).unwrap() & !7;
                if let (true, 'r', Some((_, entry)), true) = (*dma, kind(at), wild.iova, r % 2 == 0) {
                    map = format!("d{}, {}", first.unwrap().0, map.replace('m', "i"));
                    offset = if entry { offset % PAGE } else { offset };
                }
                match v {
                    Some(v) => format!("{who}.store.{} {map}+{offset:#x}, {:#x}", 1 << n, cut(*v, *n)),
                    None => format!("{who}.load.{} {map}+{offset:#x} -> x{r}", 1 << n),
                }
            }
        };
        writeln!(program, "l{i}:\n{line}").unwrap();
    }
    Text(format!(
        "title = \"random\"\n{}{devices}{attribute}{text}{iovas}[guest]\nmmu = {mmu}\nprogram = \"\"\"\n{program}l{}:\n\"\"\"\n[expect]\n\
         all = \"completed\"\n",
        wild.platform,
        ops.len()
    ))
}

fn any_text() -> impl Strategy<Value = Text> {
    (maps(mair(), true), prop::bool::weighted(0.8), prop::collection::vec(anything(), 0..=30), any::<bool>(), wild())
        .prop_map(|(maps, mmu, ops, inside, wild)| write(&maps, mmu, &ops, (inside, false), &wild))
}

/// A short program that, more often than not, begins again where it ends.
fn loop_text() -> impl Strategy<Value = Text> {
    let again = prop_oneof![Just(Do::Again), any::<Index>().prop_map(Do::Jump)];
    let ops = (prop::collection::vec(anything(), 0..=8), again)
        .prop_map(|(ops, again)| ops.into_iter().chain([again]).collect::<Vec<_>>());
    (any::<bool>().prop_flat_map(|trouble| maps(mair(), trouble)), ops, wild())
        .prop_map(|(maps, ops, wild)| write(&maps, true, &ops, (true, true), &wild))
}

/// What user space, a device and the guest do with the same bytes, by aligned accesses of any type: programs that run to
/// their end, where caches, gathering and reading ahead have their say.
fn shared_text() -> impl Strategy<Value = Text> {
    // Few places, so that accesses meet.
    let at = || (any::<Index>(), 0u64..12).prop_map(|(map, n)| Somewhere { map, anchor: 0, delta: 8 * n, any: map });
    let op = prop_oneof![
        3 => (0u32..4, at(), value(), 0u8..16).prop_map(|(n, at, v, r)| Do::Store(n, at, v, r)),
        3 => (0u32..4, at(), 0u8..16).prop_map(|(n, at, r)| Do::Load(n, at, r)),
        1 => (at(), value(), 0u8..16).prop_map(|(at, v, r)| Do::StorePair(at, v, r)),
        6 => (any::<bool>(), 0u32..4, at(), value(), 0u8..16)
            .prop_map(|(dma, n, at, v, r)| Do::Outside(dma, n, at, v, r)),
        1 => at().prop_map(Do::Clean),
        1 => prop::sample::select(vec!["dmb ish", "dsb sy", "dmb oshst"]).prop_map(Do::Barrier),
        1 => (at(), prop::sample::select(ASKS.to_vec())).prop_map(|(at, ask)| Do::Attribute(at, ask)),
    ];
    let mair = prop::sample::select(vec![0x04, 0x0c, 0x44, 0x44, 0xbb, 0xff, 0xff, 0x4f]);
    (maps(mair, false), prop::collection::vec(op, 1..=25), wild()).prop_map(|(maps, ops, wild)| {
        // No entry that the program could overwrite, and no mapping that x86 has not.
        write(&maps, true, &ops, (true, false), &Wild { iova: wild.iova.map(|_| (false, false)), ..wild })
    })
}

fn is_normal(mair: u8) -> bool {
    !Stage1::decode(mair, 0b11, Features::LATEST).is_device()
}

/// Plain accesses inside maps of BARs and RAM, all Normal at stage 1, nothing read-only.
fn normal_text() -> impl Strategy<Value = Text> {
    let mair = mair().prop_filter("Device", |m| is_normal(*m));
    // First something is stored at a map's start and around its first page boundary, so that there is something to load;
    // last the words around the boundary are loaded, so that what was stored is seen.
    let around = (any::<Index>(), any::<Index>(), any::<u64>()).prop_map(|(map, any, value)| {
        let at = |anchor, n: u64| Somewhere { map, anchor, delta: 8 * n, any };
        let fill =
            (0..16).map(|n| Do::Store(3, at(if n < 8 { 2 } else { 0 }, n % 8), Some(value.rotate_left(n as u32)), 0));
        let show = (0..8).map(|n| Do::Load(3, at(2, n), 8 + n as u8));
        (fill.collect::<Vec<_>>(), show.collect::<Vec<_>>())
    });
    let ops =
        (prop::collection::vec(plain(), 1..=30), around).prop_map(|(ops, (fill, show))| [fill, ops, show].concat());
    (maps(mair, false), ops).prop_map(|(maps, ops)| write(&maps, true, &ops, (true, false), &Wild::default()))
}

fn cpus() -> impl Iterator<Item = (Policy, Cpu)> {
    Policy::ALL.into_iter().flat_map(|p| [true, false].map(|fwb| (p, Cpu { fwb, dic: true })))
}

/// The addresses the program accesses: from, bytes; a fetch and DC ZVA report the address itself.
fn accessed(scenario: &Scenario, layout: &Layout) -> Vec<(u64, u64)> {
    let mut at = 0;
    let mut all = Vec::new();
    for insn in scenario.program.lower(layout).insns {
        match insn {
            Insn::Mov { rt: scratch::ADDRESS, imm } => at = imm,
            Insn::Ldr { size, .. }
            | Insn::Str { size, .. }
            | Insn::Ldadd { size, .. }
            | Insn::Ldxr { size, .. }
            | Insn::Stxr { size, .. } => all.push((at, size.bytes())),
            Insn::Ldp { .. } | Insn::Stp { .. } => all.push((at, 16)),
            Insn::Zva => {
                all.push((at, 1));
                all.push((at & !63, 64));
            }
            Insn::Br | Insn::Clean => all.push((at, 1)),
            _ => {}
        }
    }
    all
}

/// That an outcome is one this program can have, and that its registers say what hardware's would.
fn fits(o: &Observation, scenario: &Scenario, layout: &Layout, policy: Policy) -> Result<(), TestCaseError> {
    let keys: Vec<u8> = o.registers.keys().copied().collect();
    let ran = !matches!(o.outcome, Outcome::SlotRefused { .. });
    prop_assert!(ran || keys.is_empty());
    prop_assert!(!ran || keys == scenario.program.destinations().into_iter().collect::<Vec<_>>());

    let ranges = accessed(scenario, layout);
    let inside = |far: u64| ranges.iter().any(|(at, bytes)| (*at..at + bytes).contains(&far));
    // An IPA is that of some map, or of what lies right after it.
    let arm = policy.is_arm();
    let behind = |ipa: u64| layout.maps.iter().any(|m| ipa >= m.ipa & !(PAGE - 1) && ipa < m.ipa + m.size + PAGE + 16);
    match &o.outcome {
        Outcome::Completed => prop_assert!(scenario.program.touches_memory()),
        Outcome::Untouched => prop_assert!(!scenario.program.touches_memory()),
        Outcome::Endless => {
            let back = |(i, (_, op)): (usize, &(u32, Op))| matches!(op, Op::Jump(JumpTo::Op(to)) if *to <= i);
            prop_assert!(scenario.program.ops.iter().enumerate().any(back), "nothing in it goes back");
        }
        Outcome::GuestAbort { esr, far } => {
            prop_assert!(arm, "{o} on x86");
            let (ec, fsc) = (esr >> 26 & 0x3f, esr & 0x3f);
            prop_assert!(esr >> 25 & 1 == 1, "IL is clear in {esr:#x}");
            prop_assert!([0x25, 0x21, 0x22, 0].contains(&ec), "EC {ec:#x} at stage 1");
            // Linux before 6.12 sign-extends the syndrome it injects, which is always an External abort.
            let injected = policy == Policy::Linux6_1 && fsc == 0x10;
            prop_assert!(esr >> 32 == 0 || injected && esr >> 32 == 0xffff_ffff, "{esr:#x}");
            prop_assert_eq!(FaultKind::of_esr(*esr) == FaultKind::Unknown, ec == 0, "{:#x}", esr);
            match ec {
                0 => prop_assert_eq!(*far, 0),
                0x22 => prop_assert!(inside(*far) && far % 4 != 0, "far {far:#x}"),
                _ => prop_assert!(inside(*far), "far {far:#x} of {esr:#x} is no address of the program"),
            }
        }
        Outcome::RunFailed { errno, esr, far, ipa, log } => {
            prop_assert!(arm, "{o} on x86");
            let (Some(esr), Some(far)) = (*esr, *far) else { panic!("the model knows both: {o}") };
            let ec = esr >> 26 & 0x3f;
            prop_assert!(esr >> 25 & 1 == 1, "IL is clear in {esr:#x}");
            prop_assert!([0x24, 0x20].contains(&ec), "EC {ec:#x} at stage 2");
            prop_assert!(esr >> 32 == 0, "{esr:#x}");
            prop_assert!(FaultKind::of_esr(esr) != FaultKind::Unknown, "{esr:#x}");
            prop_assert!(inside(far), "far {far:#x} of {esr:#x} is no address of the program");
            prop_assert!(ipa.is_none_or(behind), "ipa {ipa:x?}");
            prop_assert_eq!(*errno, EFAULT);
            // KVM's own refusal of a fault (a cacheable VM_PFNMAP mapping, Linux 6.17) is not logged.
            let silent = log.is_none() && policy == Policy::Linux6_17;
            prop_assert!(silent || log.as_ref().is_some_and(|l| l.contains(&format!("{esr:#x}"))), "{log:?}");
        }
        Outcome::Mmio { write, ipa, len, data } => {
            // KVM on x86 emulates what crosses a page in two parts; and zeros that are executed use RAX.
            let zeros = *ipa == o.registers.get(&0).copied().unwrap_or(0) && *len == 1;
            prop_assert!([1, 2, 4, 8].contains(len) && behind(*ipa) || !arm && (zeros || *len < 8 && behind(*ipa)));
            prop_assert!(*len == 8 || data >> (8 * len) == 0);
            prop_assert!(*write || *data == 0);
        }
        Outcome::NoValidSyndrome { iss, ipa } => {
            prop_assert!(arm && behind(*ipa), "ipa {ipa:#x}");
            prop_assert_eq!(iss >> 24 & 1, 0);
        }
        Outcome::Other { what } => prop_assert!(!arm && what.contains(" at 0x"), "{}", what),
        Outcome::PageFault { far, .. } => prop_assert!(!arm && inside(*far), "{}", o),
        Outcome::ContainedError { far } => {
            let p = scenario.platform.containment;
            prop_assert!([p.device, p.normal].contains(&Errors::Contained) && far.is_none_or(inside), "{}", o);
        }
        Outcome::UncontainedError => {
            let p = scenario.platform;
            let declared = [p.containment.device, p.containment.normal].contains(&Errors::Uncontained);
            let cached = scenario.devices.iter().flat_map(|d| &d.bars).any(|b| b.cached);
            prop_assert!(declared || cached || p.normal_nc == NcDefect::Long, "{}", o);
        }
        Outcome::SlotRefused { errno, .. } => {
            let asked = scenario.attributes.iter().any(|a| a.ask == Attribute::Cached);
            let cached = scenario.devices.iter().flat_map(|d| &d.bars).any(|b| b.cached);
            let refuses = policy == Policy::Linux6_17 && cached || policy == Policy::Subregions && asked;
            prop_assert!(refuses && [EINVAL, 95].contains(errno), "{}", o);
        }
    }
    Ok(())
}

fn check(text: &Text) -> Result<(), TestCaseError> {
    let scenario = text.parse();
    let layout = Layout::of(&scenario);
    for (policy, cpu) in cpus() {
        let start = Instant::now();
        let report = model::run_with(&scenario, policy, cpu).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let took = start.elapsed();
        let under = format!("{} {cpu:?}", policy.name());
        prop_assert!(took < LIMIT, "{under}: {took:?}");
        prop_assert_eq!(&report.allowed[0], &report.observation, "{}", under);
        for (i, o) in report.allowed.iter().enumerate() {
            prop_assert!(!report.allowed[..i].contains(o), "{under}: twice {o}");
            fits(o, &scenario, &layout, policy).map_err(|e| {
                TestCaseError::fail(format!("{under}: {e}\nobserved: {o}\n{}", report.because.join("\n")))
            })?;
        }
        prop_assert!(report.allowed.len() == 1 || !report.choices.is_empty(), "{under}: outcomes without a choice");
        let cited = report.because.iter().any(|line| line.contains('['));
        // What a fetch finds (EC 0) is told by the word.
        let fault = report.observation.outcome.esr().is_some_and(|esr| esr >> 26 != 0);
        prop_assert!(cited || !fault, "{under}: {} without a citation: {:?}", report.observation, report.because);
        // What ran to the bound runs to it again and again: without optimization once is enough.
        if cfg!(debug_assertions) && report.allowed.iter().any(|o| o.outcome == Outcome::Endless) {
            continue;
        }
        prop_assert_eq!(model::run_with(&scenario, policy, cpu).unwrap(), report, "{}: not deterministic", under);
        // A machine known to depart from the architecture is predicted too.
        for departs in Finding::ALL {
            let departed = model::run_as(&scenario, policy, cpu, &[departs]).unwrap();
            fits(&departed.observation, &scenario, &layout, policy)
                .map_err(|e| TestCaseError::fail(format!("{under} {}: {e}", departs.name())))?;
        }
    }
    Ok(())
}

/// What a program of plain accesses does, told without page tables: each byte by what backs it, each access by the rule.
struct Plain<'a> {
    scenario: &'a Scenario,
    layout: &'a Layout,
    bytes: BTreeMap<(usize, u64), u8>,
    x: [u64; 16],
    /// Whether an unaligned access to a BAR faults.
    strict: bool,
}

/// The first unaligned access to a BAR: `ESR_EL2`, `FAR_EL2`.
#[derive(Debug, PartialEq, Eq)]
struct Unaligned {
    esr: u64,
    far: u64,
}

/// The transfer of a single-register access: log2 of its size and the register.
type Single = Option<(u8, u8)>;

impl Plain<'_> {
    /// The byte: of RAM by its map, of a BAR by the first map of that BAR.
    fn key(&self, at: Place) -> (usize, u64) {
        let maps = &self.scenario.maps;
        let map = &maps[at.map];
        match map.of {
            Target::Bar { .. } => (maps.iter().position(|m| m.of == map.of).unwrap(), map.offset + at.offset),
            _ => (at.map, at.offset),
        }
    }

    /// The check of one access of one or two elements of `bytes`.
    fn access(&self, at: Place, bytes: u64, write: bool, single: Single) -> Result<(), Unaligned> {
        let bar = matches!(self.scenario.maps[at.map].of, Target::Bar { .. });
        if !self.strict || !bar || at.offset.is_multiple_of(bytes) {
            return Ok(());
        }
        let isv = single
            .map_or(0, |(log2, rt)| 1 << 24 | u64::from(log2) << 22 | u64::from(rt) << 16 | u64::from(log2 == 3) << 15);
        Err(Unaligned { esr: 0x24 << 26 | 1 << 25 | isv | u64::from(write) << 6 | 0x21, far: self.layout.va(at) })
    }

    /// The BAR there, as declared.
    fn bar(&self, at: Place) -> Option<Bar> {
        match self.scenario.maps[at.map].of {
            Target::Bar { device, bar } => Some(self.scenario.devices[device].bars[bar]),
            _ => None,
        }
    }

    fn read(&mut self, at: Place, bytes: u64) -> Vec<u8> {
        let bar = self.bar(at);
        if bar.is_some_and(|b| b.dead) {
            return vec![0xff; bytes as usize];
        }
        let keys: Vec<_> = (0..bytes).map(|i| self.key(Place { offset: at.offset + i, ..at })).collect();
        let data = keys.iter().map(|key| self.bytes.get(key).copied().unwrap_or(0)).collect();
        if let Some(bar) = bar {
            self.bytes.retain(|key, _| !(key.1 < bar.clear && keys.contains(key)));
        }
        data
    }

    fn write(&mut self, at: Place, data: &[u8]) {
        if self.bar(at).is_some_and(|b| b.dead) {
            return;
        }
        for (byte, offset) in data.iter().zip(at.offset..) {
            let key = self.key(Place { offset, ..at });
            self.bytes.insert(key, *byte);
        }
    }

    fn value(&self, value: Value, scratch: u8) -> (u64, u8) {
        match value {
            Value::Imm(v) => (v, scratch),
            Value::Reg(r) => (self.x[usize::from(r.number())], r.number()),
        }
    }

    fn one(&mut self, op: Op) -> Result<(), Unaligned> {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |w, b| w << 8 | u64::from(*b));
        match op {
            Op::Store { size, at, value } => {
                let (v, rt) = self.value(value, scratch::VALUE);
                self.access(at, size.bytes(), true, Some((size.log2(), rt)))?;
                self.write(at, &v.to_le_bytes()[..size.bytes() as usize]);
            }
            Op::Load { size, at, to } => {
                self.access(at, size.bytes(), false, Some((size.log2(), to.number())))?;
                self.x[usize::from(to.number())] = word(&self.read(at, size.bytes()));
            }
            Op::StorePair { at, values } => {
                self.access(at, 8, true, None)?;
                let values = values.map(|v| self.value(v, 0).0.to_le_bytes());
                self.write(at, values.as_flattened());
            }
            Op::LoadPair { at, to } => {
                self.access(at, 8, false, None)?;
                let data = self.read(at, 16);
                for (r, half) in to.into_iter().zip(data.chunks(8)) {
                    self.x[usize::from(r.number())] = word(half);
                }
            }
            Op::Copy { to, from, bytes } => {
                let mut done = 0;
                while done < bytes {
                    let step: u64 = if bytes - done >= 16 { 16 } else { 1 << (bytes - done).ilog2() };
                    let place = |p: Place| Place { offset: p.offset + done, ..p };
                    let single = (step < 16).then_some((step.ilog2() as u8, scratch::COPY));
                    self.access(place(from), step.min(8), false, single)?;
                    let data = self.read(place(from), step);
                    self.access(place(to), step.min(8), true, single)?;
                    self.write(place(to), &data);
                    done += step;
                }
            }
            Op::UserStore { size, at, value } | Op::DmaStore { size, at, value, .. } => {
                let (v, _) = self.value(value, 0);
                self.write(at, &v.to_le_bytes()[..size.bytes() as usize]);
            }
            Op::UserLoad { size, at, to } | Op::DmaLoad { size, at, to, .. } => {
                self.x[usize::from(to.number())] = word(&self.read(at, size.bytes()));
            }
            Op::Barrier(_) | Op::Clean { .. } | Op::SetAttribute { .. } => {}
            other => panic!("{other:?} is not plain"),
        }
        Ok(())
    }
}

/// A machine without caches, gathering, reading ahead and defects is one of those allowed, and the first: there every access
/// finds what the last one left.
fn check_shared(text: &Text) -> Result<(), TestCaseError> {
    let scenario = text.parse();
    let layout = Layout::of(&scenario);
    let mut plain = Plain { scenario: &scenario, layout: &layout, bytes: BTreeMap::new(), x: [0; 16], strict: false };
    let told = scenario.program.ops.iter().try_for_each(|(_, op)| plain.one(*op));
    prop_assert_eq!(told, Ok(()));
    let cached = scenario.devices.iter().flat_map(|d| &d.bars).any(|b| b.cached);
    for (policy, cpu) in cpus() {
        let flawless = [Finding::QemuNoUncontained, Finding::QemuNcWorks];
        let report = model::run_as(&scenario, policy, cpu, &flawless).unwrap();
        let o = &report.observation;
        let under = format!("{} {cpu:?}: {o}\n{}", policy.name(), report.because.join("\n"));
        match o.outcome {
            Outcome::SlotRefused { .. } => continue,
            Outcome::UncontainedError if cached && !cpu.fwb => continue,
            Outcome::Completed | Outcome::Untouched => {}
            _ => prop_assert!(false, "{}", under),
        }
        for (r, v) in &o.registers {
            prop_assert_eq!(plain.x[usize::from(*r)], *v, "x{} under {}", r, under);
        }
    }
    Ok(())
}

fn check_plain(text: &Text) -> Result<(), TestCaseError> {
    let scenario = text.parse();
    let layout = Layout::of(&scenario);
    for (policy, cpu) in cpus() {
        let bytes = BTreeMap::new();
        let strict = !matches!(policy, Policy::Linux6_9 | Policy::Linux6_17 | Policy::X86Ept);
        let mut plain = Plain { scenario: &scenario, layout: &layout, bytes, x: [0; 16], strict };
        let told = scenario.program.ops.iter().try_for_each(|(_, op)| plain.one(*op));
        let report = model::run_with(&scenario, policy, cpu).unwrap();
        let o = &report.observation;
        let under = format!("{} {cpu:?}: {o}\n{}", policy.name(), report.because.join("\n"));
        prop_assert_eq!(report.allowed.len(), 1, "{}", under);
        match (told, &o.outcome) {
            (Ok(()), Outcome::Completed) => {}
            // Nothing but barriers.
            (Ok(()), Outcome::Untouched) => {}
            (Err(fault), Outcome::RunFailed { errno: EFAULT, esr: Some(esr), far: Some(far), ipa: None, .. }) => {
                prop_assert_eq!(fault, Unaligned { esr: *esr, far: *far }, "{}", under);
            }
            (told, _) => prop_assert!(false, "{told:x?}, not {under}"),
        }
        for (r, v) in &o.registers {
            prop_assert_eq!(plain.x[usize::from(*r)], *v, "x{} under {}", r, under);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn what_is_shared_is_found_again_where_nothing_hides_it(text in shared_text()) {
        check_shared(&text)?;
    }

    /// Normal-NC at stage 2 leaves a plain access to Normal memory alone; Device-nGnRE faults each that is unaligned. What
    /// is stored is what is loaded.
    #[test]
    fn plain_accesses_to_normal_memory_fault_where_unaligned_and_stage_2_is_device(text in normal_text()) {
        check_plain(&text)?;
    }
}

proptest! {
    #![proptest_config(config(40))]

    /// Jumps go forwards only: every program ends by itself.
    #[test]
    fn any_scenario_has_an_outcome_that_fits(text in any_text()) {
        check(&text)?;
    }
}

proptest! {
    #![proptest_config(config(5))]

    #[test]
    fn what_is_shared_has_an_outcome_that_fits(text in shared_text()) {
        check(&text)?;
    }

    #[test]
    fn any_program_that_may_loop_ends(text in loop_text()) {
        check(&text)?;
    }
}

/// The last bytes of a page, fetched by a machine that looks at the PC's alignment late.
#[test]
fn a_late_pc_alignment_check_reads_no_word_across_a_page() {
    let map = "[[map]]\nname = \"m\"\nram = \"4K\"";
    let guest = "[guest]\nmmu = false\nprogram = \"\"\"\nstore.1 m, 1\njump m+0xffd\n\"\"\"";
    let text = Text(format!("title = \"t\"\n{map}\n{guest}\n[expect]\nall = \"pc alignment fault\"\n"));
    check(&text).unwrap();
}
