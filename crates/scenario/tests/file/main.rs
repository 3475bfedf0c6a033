//! The scenario file: what it says when it is right, and what it answers when it is not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod random;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use memtype::Attribute;
use platform::{Containment, Errors, NcDefect, NoSnoop, Platform};
use scenario::observation::{Outcome, Pattern, outcome_names};
use scenario::program::{Barrier, Insn, JumpTo, Op, Place, Reg, Size, Value, scratch};
use scenario::{Asked, Device, Layout, Observation, Reads, Scenario, Target, parse};

/// The example of the design.
const DESIGN: &str = r#"title = "A driver copies to an odd address in write-combining VRAM"

[machine]
arch = "arm64"
fwb = true                       # FEAT_S2FWB present

[[device]]
name = "gpu"
bars = [{ index = 2, size = "1M", prefetchable = true }]

[[map]]                          # the guest's own stage-1 mapping
name = "vram"
bar = "gpu.2"
type = "normal-nc"

[guest]
program = """
store.8  vram+3, 0x1122334455667788
load.8   vram+3 -> x0
"""

[expect]                         # by policy
"linux-6.1" = "stage-2 alignment fault"
"linux-6.9" = { x0 = "0x1122334455667788" }
"#;

/// Everything a file can say.
const FULL: &str = r#"title = " Everything "
story = """
One line,
another."""
source = 'nowhere'

[platform]
errors = { device = "uncontained", normal = "contained" }
coherent = false
no-snoop = "possible"
described = true
erratum = "altra-pcie65"

[[device]]
name = "gpu"
class = "vga"
no-snoop = true
bars = [{ index = 2, size = "1M", prefetchable = true }, { index = 0, size = 4096, readonly = true, reads = "clear", dead = true, cached = true }]
[[device]]
name = "nic"
class = 0x020001
coherent = true
bars = [{ index = 5, size = "0x1000", reads = "plain", dead = false, cached = false }]

[[attribute]]
bar = "gpu.2"
offset = "64K"
size = "8K"
ask = "write-combine"
[[attribute]]
bar = "nic.5"
ask = "uncached"
[[attribute]]
bar = "gpu.2"
offset = 0x12000
ask = "cached"

[[map]]
name = "vram"
bar = "gpu.2"
type = "mair=0x4f"
offset = "64K"
size = 0x2000
writable = false
[[map]]
name = "rest"
bar = "gpu.2"
type = "normal-wb"
offset = 4096
[[map]]
name = "regs"
bar = "nic.5"
type = "device-ngnre"
[[map]]
name = "ram-0"
ram = "8K"
type = "normal-wb"
[[map]]
name = "gap"
hole = "64K"
type = "normal-wt"

[iommu]
coherent-walks = false
[[iova]]
name = "window"
to = "ram-0"
entry = " ram-0 + 0x1ff8 "
[[iova]]
name = "uncached"
to = "ram-0"
non-cacheable = true

[guest]
mmu = true
program = '''
# all of it
        store.1 vram, 255        ; a comment
        store.2 vram + 0x10, x3  // another
again:
        load.4  regs+4 -> x1
        pair.store rest, 1K, x1
        pair.load rest -> x2, x3
        copy ram-0+1, rest, 17

        zero ram-0
        atomic.add.4 ram-0+4, 0xffff_ffff -> x4
        exclusive.8 ram-0, 1 -> x5, x6
        dmb oshst
        dsb sy
        isb
        dgh
        jump again
        jump end
        jump gap+4
        jump gap
        clean gap+3
        user.store.4 vram+4, x7
        user.load.1 vram+3 -> x8
        dma.store.2 ram-0+2, 0xffff
        dma.load.8 vram+8 -> x9
        dma.store.8 nic, window+0xff8, &gap+0x403
        dma.load.4 uncached+0x1ffc -> x9
        attribute vram+5, default
end:
'''

[expect]
all = "completed"
"a" = { outcome = "stage-1 alignment fault", esr = 0x96000021, far = "vram+0x2000" }
"b" = [{ x1 = 5, x6 = "0x0" }, "stage-1 unsupported atomic fault", { outcome = "stage-2 translation fault", far = "0x1000" }]
"c d-1 e.2" = [{ outcome = "contained error", far = "regs" }, "uncontained error", "slot refused", { outcome = "page fault", far = 8 }]
"#;

fn reg(n: u8) -> Reg {
    Reg::new(n).unwrap()
}

fn pattern(outcome: &str, esr: Option<u64>, far: Option<u64>, registers: &[(u8, u64)]) -> Pattern {
    Pattern { outcome: outcome.into(), esr, far, registers: registers.iter().copied().collect() }
}

#[test]
fn the_example_of_the_design() {
    let s = parse("design.toml", DESIGN).unwrap();
    assert_eq!(s.title, "A driver copies to an odd address in write-combining VRAM");
    assert_eq!((s.story.as_str(), s.source.as_str(), s.machine.fwb, s.mmu), ("", "", Some(true), true));
    assert_eq!(s.devices.len(), 1);
    let bar = s.devices[0].bars[0];
    assert_eq!((bar.index, bar.size, bar.prefetchable, bar.readonly), (2, 1 << 20, true, false));
    let map = &s.maps[0];
    assert_eq!((map.of, map.offset, map.size), (Target::Bar { device: 0, bar: 0 }, 0, 1 << 20));
    assert_eq!((map.name.as_str(), map.mair, map.writable), ("vram", 0x44, true));
    let at = Place { map: 0, offset: 3 };
    let store = Op::Store { size: Size::B8, at, value: Value::Imm(0x1122_3344_5566_7788) };
    assert_eq!(s.program.ops, [(18, store), (19, Op::Load { size: Size::B8, at, to: reg(0) })]);
    assert_eq!(s.program.text, ["store.8  vram+3, 0x1122334455667788", "load.8   vram+3 -> x0"]);
    assert!(s.expect.all.is_empty());
    assert_eq!(s.expect.by_policy[0].1, 23);
    assert_eq!(s.expect.under("linux-6.1"), [pattern("stage-2 alignment fault", None, None, &[])]);
    assert_eq!(s.expect.under("linux-6.9"), [pattern("completed", None, None, &[(0, 0x1122_3344_5566_7788)])]);
    assert!(s.expect.under("other").is_empty());
}

#[test]
fn everything_a_file_can_say() {
    let s = parse("full.toml", FULL).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        (s.title.as_str(), s.story.as_str(), s.source.as_str()),
        ("Everything", "One line,\nanother.", "nowhere")
    );
    assert_eq!(s.machine.fwb, None);
    assert_eq!((s.devices[0].bars[1].size, s.devices[0].bars[1].readonly), (4096, true));
    let containment = Containment { device: Errors::Uncontained, normal: Errors::Contained };
    let platform =
        Platform { containment, coherent: false, no_snoop: NoSnoop::Possible, described: true, ..Platform::USUAL };
    assert_eq!((s.platform, s.erratum.as_deref()), (platform, Some("altra-pcie65")));
    let devices: Vec<_> = s.devices.iter().map(|d| (d.class, d.no_snoop, d.coherent)).collect();
    assert_eq!(devices, [(0x03_0000, true, None), (0x02_0001, false, Some(true))]);
    assert_eq!(s.devices.iter().map(|d| s.snoops(d)).collect::<Vec<_>>(), [false, true]);
    let bars: Vec<_> = s.devices.iter().flat_map(|d| &d.bars).map(|b| (b.reads, b.clear, b.dead, b.cached)).collect();
    assert_eq!(
        bars,
        [(Reads::Plain, 0, false, false), (Reads::Clear, 4096, true, true), (Reads::Plain, 0, false, false)]
    );
    let asked = |device, bar, offset, size, ask| Asked { device, bar, offset, size, ask };
    assert_eq!(
        s.attributes,
        [
            asked(0, 0, 0x1_0000, 0x2000, Attribute::WriteCombine),
            asked(1, 0, 0, 0x1000, Attribute::Uncached),
            asked(0, 0, 0x1_2000, 0xe_e000, Attribute::Cached),
        ]
    );
    let maps: Vec<_> = s.maps.iter().map(|m| (m.of, m.offset, m.size, m.mair, m.writable)).collect();
    let gpu = Target::Bar { device: 0, bar: 0 };
    assert_eq!(
        maps,
        [
            (gpu, 0x10000, 0x2000, 0x4f, false),
            (gpu, 0x1000, 0xf_f000, 0xff, true),
            (Target::Bar { device: 1, bar: 0 }, 0, 4096, 0x04, true),
            (Target::Ram, 0, 8192, 0xff, true),
            (Target::Hole, 0, 65536, 0xbb, true),
        ]
    );
    let at = |map, offset| Place { map, offset };
    assert!(!s.iommu.coherent_walks);
    let iovas: Vec<_> = s.iovas.iter().map(|i| (i.name.as_str(), i.to, i.entry, i.non_cacheable)).collect();
    assert_eq!(iovas, [("window", 3, Some(at(3, 0x1ff8)), false), ("uncached", 3, None, true)]);
    let address = Value::Imm(Layout::of(&s).ipa(at(4, 0x403)));
    let ops: Vec<_> = s.program.ops.iter().map(|(_, op)| *op).collect();
    assert_eq!(
        ops,
        [
            Op::Store { size: Size::B1, at: at(0, 0), value: Value::Imm(255) },
            Op::Store { size: Size::B2, at: at(0, 16), value: Value::Reg(reg(3)) },
            Op::Load { size: Size::B4, at: at(2, 4), to: reg(1) },
            Op::StorePair { at: at(1, 0), values: [Value::Imm(1024), Value::Reg(reg(1))] },
            Op::LoadPair { at: at(1, 0), to: [reg(2), reg(3)] },
            Op::Copy { to: at(3, 1), from: at(1, 0), bytes: 17 },
            Op::Zero { at: at(3, 0) },
            Op::AtomicAdd { size: Size::B4, at: at(3, 4), value: Value::Imm(0xffff_ffff), to: reg(4) },
            Op::Exclusive { size: Size::B8, at: at(3, 0), value: Value::Imm(1), old: reg(5), status: reg(6) },
            Op::Barrier(Barrier::Dmb(2)),
            Op::Barrier(Barrier::Dsb(15)),
            Op::Barrier(Barrier::Isb),
            Op::Barrier(Barrier::Dgh),
            Op::Jump(JumpTo::Op(2)),
            Op::Jump(JumpTo::Op(25)),
            Op::Jump(JumpTo::Place(at(4, 4))),
            Op::Jump(JumpTo::Place(at(4, 0))),
            Op::Clean { at: at(4, 3) },
            Op::UserStore { size: Size::B4, at: at(0, 4), value: Value::Reg(reg(7)) },
            Op::UserLoad { size: Size::B1, at: at(0, 3), to: reg(8) },
            Op::DmaStore { device: 0, size: Size::B2, at: at(3, 2), via: None, value: Value::Imm(0xffff) },
            Op::DmaLoad { device: 0, size: Size::B8, at: at(0, 8), via: None, to: reg(9) },
            Op::DmaStore { device: 1, size: Size::B8, at: at(3, 0xff8), via: Some(0), value: address },
            Op::DmaLoad { device: 0, size: Size::B4, at: at(3, 0x1ffc), via: Some(1), to: reg(9) },
            Op::SetAttribute { at: at(0, 5), ask: Attribute::Default },
        ]
    );
    assert_eq!(s.program.destinations().into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 8, 9]);
    for ((line, _), text) in s.program.ops.iter().zip(&s.program.text) {
        assert!(FULL.lines().nth(*line as usize - 1).unwrap().contains(text.as_str()), "{line}: {text}");
    }
    assert_eq!(s.program.text[1], "store.2 vram + 0x10, x3");
    let layout = Layout::of(&s);
    assert_eq!(s.expect.all, [pattern("completed", None, None, &[])]);
    let far = Some(layout.maps[0].va + 0x2000);
    assert_eq!(s.expect.under("a"), [pattern("stage-1 alignment fault", Some(0x9600_0021), far, &[])]);
    assert_eq!(
        s.expect.under("b"),
        [
            pattern("completed", None, None, &[(1, 5), (6, 0)]),
            pattern("stage-1 unsupported atomic fault", None, None, &[]),
            pattern("stage-2 translation fault", None, Some(0x1000), &[]),
        ]
    );
    let several = FULL.lines().position(|l| l.starts_with("\"c d-1")).unwrap() as u32 + 1;
    for policy in ["c", "d-1", "e.2"] {
        assert_eq!(s.expect.by_policy.iter().find(|(name, ..)| name == policy).unwrap().1, several);
        assert_eq!(
            s.expect.under(policy),
            [
                pattern("contained error", None, Some(layout.maps[2].va), &[]),
                pattern("uncontained error", None, None, &[]),
                pattern("slot refused", None, None, &[]),
                pattern("page fault", None, Some(8), &[]),
            ],
            "{policy}"
        );
    }
}

/// [`DESIGN`] with a line before its first device.
fn with(lines: &str) -> String {
    DESIGN.replacen("[[device]]", &format!("{lines}\n[[device]]"), 1)
}

#[test]
fn what_a_platform_is_declared_to_be() {
    let read = |lines: &str| {
        let s = parse("a", &with(lines)).unwrap_or_else(|e| panic!("{e}"));
        (s.platform, s.erratum)
    };
    let usual = Platform::USUAL;
    assert_eq!(parse("a", DESIGN).unwrap().platform, usual);
    assert_eq!(read("[platform]"), (usual, None));
    let defaults =
        "errors = \"all-ones\"\nnormal-nc = \"works\"\ncoherent = true\nno-snoop = \"never\"\ndescribed = false";
    assert_eq!(read(&format!("[platform]\n{defaults}")), (usual, None));
    for (name, errors) in
        [("all-ones", Errors::AllOnes), ("contained", Errors::Contained), ("uncontained", Errors::Uncontained)]
    {
        let both = Containment { device: errors, normal: errors };
        assert_eq!(read(&format!("[platform]\nerrors = \"{name}\"")).0.containment, both);
        let one = Containment { normal: errors, ..usual.containment };
        assert_eq!(read(&format!("[platform]\nerrors = {{ normal = \"{name}\" }}")).0.containment, one);
        let one = Containment { device: errors, ..usual.containment };
        assert_eq!(read(&format!("[platform.errors]\ndevice = \"{name}\"")).0.containment, one);
    }
    for (name, defect) in [
        ("works", NcDefect::None),
        ("holes", NcDefect::Holes),
        ("partial", NcDefect::Partial),
        ("long", NcDefect::Long),
        ("fails", NcDefect::Fails),
    ] {
        assert_eq!(read(&format!("[platform]\nnormal-nc = \"{name}\"")).0.normal_nc, defect);
    }
    let erratum = "a-".repeat(32);
    assert_eq!(read(&format!("[platform]\nerratum = \"{erratum}\"")), (usual, Some(erratum)));
}

#[test]
fn the_class_of_a_device() {
    let class = |text: &str| {
        let text = DESIGN.replace("name = \"gpu\"", &format!("name = \"gpu\"\nclass = {text}"));
        parse("a", &text).unwrap_or_else(|e| panic!("{e}")).devices[0].class
    };
    assert_eq!(parse("a", DESIGN).unwrap().devices[0].class, 0xff_0000);
    let rows = [
        ("\"vga\"", 0x03_0000),
        ("\"display\"", 0x03_8000),
        ("\"ethernet\"", 0x02_0000),
        ("\"nvme\"", 0x01_0802),
        ("0", 0),
        ("0xffffff", 0xff_ffff),
        ("\"0x030001\"", 0x03_0001),
    ];
    for (text, code) in rows {
        assert_eq!(class(text), code, "{text}");
    }
}

/// What an `attribute` of the program is about, by place.
#[test]
fn the_attribute_a_place_lies_in() {
    let s = parse("full.toml", FULL).unwrap();
    let at = |map: &str, offset| Place { map: s.maps.iter().position(|m| m.name == map).unwrap(), offset };
    // `vram` begins 64K into the BAR, `rest` 4K.
    assert_eq!(s.asked_at(at("vram", 0)), Some(s.attributes[0]));
    assert_eq!(s.asked_at(at("vram", 0x1fff)), Some(s.attributes[0]));
    assert_eq!(s.asked_at(at("rest", 0xf000)), Some(s.attributes[0]));
    assert_eq!(s.asked_at(at("rest", 0x1_0fff)), Some(s.attributes[0]));
    assert_eq!(s.asked_at(at("rest", 0x1_1000)), Some(s.attributes[2]));
    assert_eq!(s.asked_at(at("regs", 0)), Some(s.attributes[1]));
    let whole = Asked { device: 0, bar: 0, offset: 0, size: 1 << 20, ask: Attribute::Default };
    assert_eq!(s.asked_at(at("rest", 0xefff)), Some(whole));
    assert_eq!(s.asked_at(at("ram-0", 0)), None);
    assert_eq!(s.asked_at(at("gap", 0)), None);
}

#[test]
fn what_is_done_outside_is_one_hvc_and_a_clean_is_dc_civac() {
    let program = "isb\nuser.store.4 vram+4, 0xffffffff\nuser.load.8 vram -> x3\ndma.store.1 vram+1, x2\n\
                   dma.load.2 vram+2 -> x4\nattribute vram, cached\nclean vram+9";
    let s = parse("a", &DESIGN.replace("store.8  vram+3, 0x1122334455667788", program)).unwrap();
    let layout = Layout::of(&s);
    let lowered = s.program.lower(&layout);
    let mut expected = vec![Insn::Barrier(Barrier::Isb)];
    expected.extend((1..=5).map(|op| Insn::Hvc { op }));
    expected.extend([Insn::Mov { rt: scratch::ADDRESS, imm: layout.maps[0].va + 9 }, Insn::Clean]);
    assert_eq!(lowered.insns[..8], expected);
    assert_eq!(lowered.op[..8], [0, 1, 2, 3, 4, 5, 6, 6]);
    for (insn, i) in lowered.insns.iter().zip(&lowered.op) {
        assert_eq!(matches!(insn, Insn::Hvc { .. }), s.program.ops[*i].1.outside());
    }
    let place = Place { map: 0, offset: 9 };
    assert_eq!(layout.va(place) - layout.ipa(place), 1 << 40);
    assert!(!Insn::Hvc { op: 0 }.touches() && Insn::Clean.touches());

    let touches = |program: &str| {
        let text = DESIGN.split("[guest]").next().unwrap().to_owned()
            + &format!("[guest]\nprogram = \"{program}\"\n[expect]\nall = \"endless\"");
        parse("a", &text).unwrap_or_else(|e| panic!("{e}")).program.touches_memory()
    };
    for program in
        ["user.store.1 vram, 1", "user.load.1 vram -> x0", "dma.store.1 vram, 1", "dma.load.1 vram -> x0", "clean vram"]
    {
        assert!(touches(program), "{program}");
    }
    assert!(!touches("attribute vram, cached") && !touches("isb"));
}

/// What a scenario is elsewhere, where it is carried to be run.
#[test]
fn a_scenario_survives_being_carried() {
    for text in [DESIGN, FULL] {
        let mut s = parse("a", text).unwrap();
        let carried: Scenario = serde_json::from_str(&serde_json::to_string(&s).unwrap()).unwrap();
        (s.story, s.source, s.erratum) = Default::default();
        s.expect = Default::default();
        s.program.text.clear();
        assert_eq!(carried, s);
    }
    let json = serde_json::to_string(&parse("a", FULL).unwrap()).unwrap();
    assert!(json.contains("\"write-combine\""));
    let error = serde_json::from_str::<Scenario>(&json.replace("write-combine", "wc")).unwrap_err();
    assert!(error.to_string().contains("no attribute `wc`"), "{error}");
}

#[test]
fn the_outcomes_that_are_no_faults_of_a_stage() {
    let outcomes = [
        (Outcome::ContainedError { far: Some(4) }, "contained error", Some(4)),
        (Outcome::ContainedError { far: None }, "contained error", None),
        (Outcome::UncontainedError, "uncontained error", None),
        (Outcome::SlotRefused { errno: 22, why: "cacheable without FWB".into() }, "slot refused", None),
        (Outcome::PageFault { far: 8, write: true }, "page fault", Some(8)),
    ];
    let seen = |outcome: &Outcome| Observation { outcome: outcome.clone(), registers: BTreeMap::new() };
    for (outcome, name, far) in &outcomes {
        assert_eq!((outcome.name().as_str(), outcome.far(), outcome.esr(), outcome.stage()), (*name, *far, None, None));
        assert!(outcome_names().iter().any(|n| n == name));
        for (other, ..) in &outcomes {
            let same = outcome == other || outcome.name() == other.name();
            assert_eq!(seen(outcome).agrees_with(&seen(other)), same, "{outcome:?} {other:?}");
        }
        let json = serde_json::to_string(outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), *outcome);
    }
    let agree = |a: Outcome, b: Outcome| seen(&a).agrees_with(&seen(&b));
    let slot = |errno, why: &str| Outcome::SlotRefused { errno, why: why.into() };
    assert!(agree(slot(22, "a"), slot(22, "b")) && !agree(slot(22, "a"), slot(14, "a")));
    let contained = |far| Outcome::ContainedError { far };
    assert!(!agree(contained(Some(4)), contained(Some(8))));
    let fault = |far, write| Outcome::PageFault { far, write };
    assert!(!agree(fault(8, true), fault(8, false)) && !agree(fault(8, true), fault(0, true)));
    let shown = |outcome: Outcome| seen(&outcome).to_string();
    assert_eq!(shown(slot(22, "no FWB")), "slot refused errno=22: no FWB");
    assert_eq!(shown(fault(8, true)), "page fault write far=0x8");
    assert_eq!(shown(contained(Some(4))), "contained error far=0x4");
}

/// What only a whole table shows: the line counts from the first line put in, the 7th of the file.
#[rustfmt::skip]
const PUT: &[(&str, u32, &str, &str)] = &[
    ("[[platform]]", 0, "`platform` is a table, here it is a list", "[platform]"),
    ("[platform]\nerror = 1", 1, "`error` is no key of the platform", "write `errors`"),
    ("[platform]\nerrors = \"all-one\"", 1, "`all-one` is no answer to an access that fails", "write `all-ones`"),
    ("[platform]\nerrors = \"?\"", 1, "`?` is no answer", "one of `all-ones`, `contained` and `uncontained`"),
    ("[platform]\nerrors = 1", 1, "a string or a table, here it is an integer", "errors = \"all-ones\""),
    ("[platform]\nerrors = {}", 1, "errors that say nothing", "`device"),
    ("[platform]\nerrors = { devices = \"contained\" }", 1, "`devices` is no key of the errors", "write `device`"),
    ("[platform]\nerrors = { normal = \"containd\" }", 1, "`containd` is no answer", "write `contained`"),
    ("[platform]\nerrors = { normal = true }", 1, "`normal` is a string", "\"...\""),
    ("[platform]\nnormal-nc = \"hole\"", 1, "`hole` is no state of Normal-NC", "write `holes`"),
    ("[platform]\nnormal-nc = \"none\"", 1, "`none` is no state of Normal-NC", "one of `works`, `holes`"),
    ("[platform]\ncoherent = \"yes\"", 1, "`coherent` is true or false", "without quotes"),
    ("[platform]\nno-snoop = \"possibly\"", 1, "`possibly` is no state of No Snoop", "write `possible`"),
    ("[platform]\nno-snoop = false", 1, "`no-snoop` is a string, here it is true or false", "\"...\""),
    ("[platform]\ndescribed = 1", 1, "`described` is true or false", "`described = true`"),
    ("[platform]\nerratum = \"\"", 1, "`` is no erratum", "1 to 64"),
    ("[platform]\nerratum = \"Altra\"", 1, "`Altra` is no erratum", "a-z"),
    ("[platform]\nerratum = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", 1, "is no erratum", "1 to 64"),
    ("[platform]\nnormal-nc = \"works\"\nerratum = \"a\"", 1, "has `normal-nc` and `erratum`", "remove one"),
    ("[[iommu]]", 0, "`iommu` is a table, here it is a list", "[iommu]"),
    ("[iommu]\ncoherent-walk = true", 1, "`coherent-walk` is no key of the IOMMU", "write `coherent-walks`"),
    ("[iommu]\ncoherent-walks = 1", 1, "`coherent-walks` is true or false", "without quotes"),
    ("[iova]", 0, "`iova` is a list of tables", "[[iova]]"),
    ("[[iova]]", 0, "a mapping of the IOMMU needs the key `name`", "name = \"window\""),
    ("[[iova]]\nname = \"a\"", 0, "a mapping of the IOMMU needs the key `to`", "a map of RAM"),
    ("[[iova]]\nname = \"a\"\nto = \"vram\"", 2, "the map `vram` is not of RAM", "the file has none"),
    ("[[iova]]\nname = \"vram\"\nto = \"vram\"", 0, "there are two maps `vram`", "rename one"),
    ("[[iova]]\nname = \"a\"\nat = 0", 2, "`at` is no key of a mapping of the IOMMU", "`name`, `to`, `entry` and `non-cacheable`"),
    ("[attribute]", 0, "`attribute` is a list of tables", "[[attribute]]"),
    ("[[attribute]]", 0, "an attribute needs the key `bar`", "DEVICE.INDEX"),
    ("[[attribute]]\nbar = \"gpu.2\"", 0, "an attribute needs the key `ask`", "ask = \"write-combine\""),
    ("[[attribute]]\nbar = \"gpu.3\"\nask = \"cached\"", 1, "no BAR `gpu.3`", "write `gpu.2`"),
    ("[[attribute]]\nbar = \"gpu.2\"\nask = \"write-combining\"", 2, "`write-combining` is no attribute", "write `write-combine`"),
    ("[[attribute]]\nbar = \"gpu.2\"\nask = \"wc\"", 2, "`wc` is no attribute", "one of `default`, `uncached`"),
    ("[[attribute]]\nbar = \"gpu.2\"\nattr = \"cached\"", 2, "`attr` is no key of an attribute", "the keys of an attribute"),
    ("[[attribute]]\nbar = \"gpu.2\"\nask = \"cached\"\noffset = 1", 3, "0x1 is no multiple of 4K", "an attribute begins and ends at pages"),
    ("[[attribute]]\nbar = \"gpu.2\"\nask = \"cached\"\noffset = \"1M\"", 3, "beyond the BAR, which has 1M", "at most 0xff000"),
    ("[[attribute]]\nbar = \"gpu.2\"\nask = \"cached\"\nsize = 0", 3, "an attribute of 0x0 bytes", "multiple of 4K"),
    ("[[attribute]]\nbar = \"gpu.2\"\nask = \"cached\"\nsize = 4097", 3, "an attribute of 0x1001 bytes", "multiple of 4K"),
    ("[[attribute]]\nbar = \"gpu.2\"\nask = \"cached\"\noffset = 4096\nsize = \"1M\"", 4, "an attribute that ends beyond the BAR", "at most 0xff000"),
    ("[[attribute]]\nbar = \"gpu.2\"\nask = \"cached\"\nsize = 8192\n[[attribute]]\nbar = \"gpu.2\"\nask = \"cached\"\noffset = 4096\nsize = 4096", 4, "0x1000 to 0x1fff overlaps that of 0x0 to 0x1fff in `gpu.2`", "of its own"),
];

#[test]
fn every_fault_of_a_table_names_its_line_and_a_remedy() {
    for (lines, line, message, remedy) in PUT {
        check(&with(lines), lines, 7 + line, message, remedy);
    }
    let many = |n: usize| {
        let one = |i: usize| {
            format!("[[attribute]]\nbar = \"gpu.2\"\noffset = {}\nsize = 4096\nask = \"cached\"\n", i * 4096)
        };
        with(&(0..n).map(one).collect::<String>())
    };
    assert!(parse("a", &many(scenario::file::MAX_ATTRIBUTES)).is_ok());
    check(&many(65), "attributes", 7 + 5 * 64, "at most 64 attributes", "several scenarios");
}

#[test]
fn line_ends_of_two_characters_change_nothing() {
    for text in [DESIGN, FULL] {
        assert_eq!(parse("a", &text.replace('\n', "\r\n")).unwrap(), parse("a", text).unwrap());
    }
    let bad = DESIGN.replace("load.8", "laod.8");
    let (error, crlf) = (parse("a", &bad).unwrap_err(), parse("a", &bad.replace('\n', "\r\n")).unwrap_err());
    assert_eq!(error, crlf);
    assert_eq!((error.line, error.column), (19, 1));
}

/// A program in each kind of TOML string; the lines are those of the file as far as they can be known.
#[test]
fn the_lines_of_a_program_are_those_of_the_file() {
    let lines = |program: &str| {
        let text = DESIGN.split("program").next().unwrap().to_owned()
            + "\n\nprogram = "
            + program
            + "\n[expect]\nall = \"completed\"\n";
        let first = text.lines().position(|l| l.starts_with("program")).unwrap() as u32 + 1;
        parse("a", &text)
            .map(|s| s.program.ops.iter().map(|(l, _)| l - first).collect::<Vec<_>>())
            .map_err(|e| (e.line - first, e.column, e.message))
    };
    assert_eq!(lines("\"\"\"\nisb\n\nisb\n\"\"\""), Ok(vec![1, 3]));
    assert_eq!(lines("\"\"\"isb\nisb\"\"\""), Ok(vec![0, 1]));
    assert_eq!(lines("'''\nisb\nisb'''"), Ok(vec![1, 2]));
    assert_eq!(lines("'isb'"), Ok(vec![0]));
    assert_eq!(lines("\"isb\""), Ok(vec![0]));
    assert_eq!(lines("\"\""), Ok(vec![]));
    assert_eq!(lines("\"\"\"\"\"\""), Ok(vec![]));
    // With escapes nobody knows where a line of the program stands.
    assert_eq!(lines("\"isb\\nisb\\n\""), Ok(vec![0, 0]));
    assert_eq!(lines("\"\"\"\nisb\nisb \\\n \n\"\"\""), Ok(vec![0, 0]));
    assert_eq!(lines("'''\n# a \\ here\nisb'''"), Ok(vec![2]));
    assert_eq!(lines("'isc'"), Err((0, 12, "`isc` is no operation".into())));
    assert_eq!(lines("'''\n\n  isc'''"), Err((2, 3, "`isc` is no operation".into())));
    assert_eq!(lines("\"isb\\nisc\""), Err((0, 11, "`isc` is no operation (line 2 of the program)".into())));
}

#[test]
fn an_error_as_people_see_it() {
    let text = DESIGN.replace("type = \"normal-nc\"", "type = \"normal-nc\"\nsiez = \"64K\"");
    let error = parse("vram.toml", &text).unwrap_err();
    assert_eq!(
        error.to_string(),
        "vram.toml:15:1: `siez` is no key of a map\n   |\n15 | siez = \"64K\"\n   | ^^^^\n   = write `size`"
    );
}

/// [`DESIGN`] with `from` replaced by `to`: the line, and pieces of message and remedy.
#[rustfmt::skip]
const REPLACED: &[(&str, &str, u32, &str, &str)] = &[
    // The whole file.
    ("title = ", "titel = ", 1, "`titel` is no key of a scenario", "write `title`"),
    ("title = ", "qqqqqqqq = ", 1, "`qqqqqqqq` is no key of a scenario", "the keys of a scenario are `title`,"),
    ("title = ", "source = ", 1, "a scenario needs the key `title`", "start with `title"),
    ("A driver copies to an odd address in write-combining VRAM", "  ", 1, "the title has 0 characters", "1 to 120"),
    ("A driver copies to an odd address in write-combining VRAM", "a\\nb", 1, "a title is one line", "`story`"),
    ("\"A driver copies to an odd address in write-combining VRAM\"", "3", 1, "`title` is a string, here it is an integer", "write `title = \"...\"`"),
    ("\n[machine]", "story = \"\\u001b\"\n[machine]", 2, "a control character", "text"),
    ("\n[machine]", "story = 2020-01-01\n[machine]", 2, "here it is a date", "\"...\""),
    // TOML.
    ("[machine]", "[machine", 3, "unclosed table", "bracket"),
    ("\"1M\"", "1M", 9, "quoted", "\"64K\""),
    ("\"gpu.2\"", "\"gpu.2", 13, "invalid basic string", "quote"),
    ("load.8   vram+3 -> x0\n\"\"\"", "", 17, "the string ends nowhere", "end it with the"),
    ("\n[machine]", "\n[machine]\narch = \"arm64\"", 5, "duplicate key", "keep one"),
    ("name = \"vram\"", "name", 12, "key with no value", "key = value"),
    ("index = 2", "index = 02", 9, "leading zero", "leading zeros"),
    ("[guest]", "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1", 16, "recursion limit", "nest less"),
    // The machine.
    ("arch = \"arm64\"", "arch = \"x86\"", 4, "no machine of arch `x86`", "arm64"),
    ("fwb = true", "fwb = \"yes\"", 5, "`fwb` is true or false, here it is a string", "write `fwb = true`"),
    ("fwb = true", "fbw = true", 5, "`fbw` is no key of the machine", "`fwb`"),
    ("[machine]", "[[machine]]", 3, "`machine` is a table, here it is a list", "write `[machine]`"),
    // Devices.
    ("[[device]]", "[device]", 7, "`device` is a list of tables, here it is a table", "write `[[device]]`"),
    ("[[device]]\nname = \"gpu\"", "[[device]]", 7, "a device needs the key `name`", "name = \"gpu\""),
    ("name = \"gpu\"", "name = \"GPU\"", 8, "`GPU` is no name", "1 to 32"),
    ("name = \"gpu\"", "name = \"x0\"", 8, "looks like a register", "choose"),
    ("bars = [{ index = 2, size = \"1M\", prefetchable = true }]", "", 7, "a device needs the key `bars`", "add `bars"),
    ("[{ index = 2, size = \"1M\", prefetchable = true }]", "[]", 9, "at least one BAR", "add `bars"),
    ("[{ index = 2, size = \"1M\", prefetchable = true }]", "{ index = 2 }", 9, "list of tables", "once for each"),
    ("[{ index = 2, size = \"1M\", prefetchable = true }]", "[\"1M\"]", 9, "a BAR is a table, here it is a string", "once for each"),
    ("bars = ", "class = \"vgaa\"\nbars = ", 9, "`vgaa` is no class", "write `vga`"),
    ("bars = ", "class = \"toaster\"\nbars = ", 9, "`toaster` is no class", "`vga`, `display`, `ethernet` and `nvme`, or a number"),
    ("bars = ", "class = 0x1000000\nbars = ", 9, "0x1000000 has more than 24 bits", "at most 0xffffff"),
    ("bars = ", "class = \"-1\"\nbars = ", 9, "is negative", "such as"),
    ("bars = ", "class = true\nbars = ", 9, "`class` is a number", "such as"),
    ("bars = ", "no-snoop = \"never\"\nbars = ", 9, "`no-snoop` is true or false", "without quotes"),
    ("bars = ", "coherent = 0\nbars = ", 9, "`coherent` is true or false", "without quotes"),
    ("bars = ", "no_snoop = true\nbars = ", 9, "`no_snoop` is no key of a device", "write `no-snoop`"),
    ("index = 2, ", "index = 2, reads = \"clears\", ", 9, "`clears` is no kind of read", "write `clear`"),
    ("index = 2, ", "index = 2, clear = \"4K\", ", 9, "`clear` is for a BAR that a read clears", "add `reads = \"clear\"`"),
    ("index = 2, ", "index = 2, reads = \"clear\", clear = \"2M\", ", 9, "a part of 0x200000 bytes", "write a multiple of 4K, up to 1M"),
    ("index = 2, ", "index = 2, reads = true, ", 9, "`reads` is a string", "\"...\""),
    ("index = 2, ", "index = 2, dead = 1, ", 9, "`dead` is true or false", "`dead = true`"),
    ("index = 2, ", "index = 2, cached = \"yes\", ", 9, "`cached` is true or false", "`cached = true`"),
    ("index = 2, ", "index = 2, cache = true, ", 9, "`cache` is no key of a BAR", "write `cached`"),
    ("prefetchable", "prefetcheable", 9, "no key of a BAR", "write `prefetchable`"),
    ("index = 2, ", "", 9, "a BAR needs the key `index`", "index = 0"),
    ("index = 2", "index = 6", 9, "BARs 0 to 5", "0 to 5"),
    ("index = 2", "index = -1", 9, "is negative", "a number"),
    ("size = \"1M\", ", "", 9, "a BAR needs the key `size`", "size = \"1M\""),
    ("\"1M\"", "\"3M\"", 9, "a BAR of 3145728 bytes", "power of two from 4K to 1G"),
    ("\"1M\"", "\"2K\"", 9, "a BAR of 2048 bytes", "power of two from 4K to 1G"),
    ("\"1M\"", "\"2G\"", 9, "a BAR of 2147483648 bytes", "power of two from 4K to 1G"),
    ("\"1M\"", "0", 9, "a BAR of 0 bytes", "power of two"),
    ("\"1M\"", "\"1m\"", 9, "is no number", "such as 4096"),
    ("\"1M\"", "1e400", 9, "here it is a float", "such as 4096"),
    ("\"1M\"", "0xfffffffffffffffff", 9, "larger than 64 bits", "such as 4096"),
    ("true }]", "true }, { index = 2, size = 4096 }]", 9, "`gpu` has two BARs 2", "its own `index`"),
    ("[[map]]", "[[device]]\nname = \"gpu\"\nbars = [{ index = 0, size = \"4K\" }]\n[[map]]", 11, "two devices `gpu`", "rename"),
    // Maps.
    ("[[map]]", "[map]", 11, "list of tables", "write `[[map]]`"),
    ("name = \"vram\"", "", 11, "a map needs the key `name`", "name = \"vram\""),
    ("name = \"vram\"", "name = \"x12\"", 12, "looks like a register", "not `x`"),
    ("[guest]", "[[map]]\nname = \"vram\"\nram = \"4K\"\ntype = \"normal-wb\"\n[guest]", 16, "two maps `vram`", "rename"),
    ("bar = \"gpu.2\"", "bra = \"gpu.2\"", 13, "`bra` is no key of a map", "write `bar`"),
    ("bar = \"gpu.2\"", "", 11, "of a BAR, of RAM or of a hole", "write one of"),
    ("bar = \"gpu.2\"", "bar = \"gpu.2\"\nhole = \"4K\"", 14, "here of `bar` and `hole`", "write one of"),
    ("bar = \"gpu.2\"", "bar = \"gpu.1\"", 13, "no BAR `gpu.1`", "write `gpu.2`"),
    ("bar = \"gpu.2\"", "bar = \"nothing\"", 13, "no BAR `nothing`", "the BARs are `gpu.2`"),
    ("bar = \"gpu.2\"", "bar = 2", 13, "`bar` is a string", "\"...\""),
    ("bar = \"gpu.2\"", "ram = \"5000\"", 13, "a map of 0x1388 bytes", "multiple of 4K"),
    ("bar = \"gpu.2\"", "ram = \"128M\"", 13, "a map of", "up to 64M"),
    ("bar = \"gpu.2\"", "hole = \"2G\"", 13, "a map of", "up to 1G"),
    ("bar = \"gpu.2\"", "hole = 0", 13, "a map of 0x0 bytes", "multiple of 4K"),
    ("bar = \"gpu.2\"", "hole = \"64K\"\nsize = \"64K\"", 14, "`size` is for a map of a BAR", "what `hole` says"),
    ("bar = \"gpu.2\"", "ram = \"64K\"\noffset = 0", 14, "`offset` is for a map of a BAR", "what `ram` says"),
    ("bar = \"gpu.2\"", "bar = \"gpu.2\"\noffset = 100", 14, "no multiple of 4K", "pages"),
    ("bar = \"gpu.2\"", "bar = \"gpu.2\"\noffset = \"1M\"", 14, "the offset 0x100000 is beyond the BAR, which has 1M", "at most 0xff000"),
    ("bar = \"gpu.2\"", "bar = \"gpu.2\"\noffset = \"4K\"\nsize = \"1M\"", 15, "ends beyond the BAR", "at most 0xff000"),
    ("bar = \"gpu.2\"", "bar = \"gpu.2\"\nsize = 0xffffffffffffffff", 14, "ends beyond the BAR", "at most 0x100000"),
    ("bar = \"gpu.2\"", "bar = \"gpu.2\"\nsize = 0", 14, "a map of 0x0 bytes", "multiple of 4K"),
    ("bar = \"gpu.2\"", "bar = \"gpu.2\"\nsize = 4097", 14, "a map of 0x1001 bytes", "multiple of 4K"),
    ("type = \"normal-nc\"", "", 11, "a map needs the key `type`", "normal-nc"),
    ("\"normal-nc\"", "\"Normal-NC\"", 14, "`Normal-NC` is no memory type", "write `normal-nc`"),
    ("\"normal-nc\"", "\"write-combining\"", 14, "no memory type", "the types are `device-ngnrne`"),
    ("\"normal-nc\"", "\"mair=0x100\"", 14, "`0x100` is no MAIR byte", "mair=0xff"),
    ("\"normal-nc\"", "\"mair=\"", 14, "`` is no MAIR byte", "mair=0xff"),
    ("\"normal-nc\"", "\"normal-nc\"\nwritable = 1", 15, "`writable` is true or false", "without quotes"),
    ("[guest]", "[guest]\nmmu = false", 14, "with the MMU off a map has no `type`", "Device-nGnRnE"),
    // The guest.
    ("[guest]", "[gast]", 16, "`gast` is no key of a scenario", "`guest`"),
    ("[guest]", "[guest]\nmuu = true", 17, "`muu` is no key of the guest", "`mmu`"),
    ("[guest]", "[guest]\nmmu = 1", 17, "`mmu` is true or false", "`mmu = true`"),
    // Expectations.
    ("[expect]", "[expected]", 22, "`expected` is no key of a scenario", "`expect`"),
    ("[expect]", "[[expect]]", 22, "`expect` is a table, here it is a list", "[expect]"),
    ("\"linux-6.1\"", "linux-6.1", 23, "`1` is no key of an outcome", "`\"linux-6.1\" = ...`"),
    ("\"linux-6.1\"", "\"linux/6.1\"", 23, "`linux/6.1` is no policy", "policy's name"),
    ("\"linux-6.1\"", "\"vga linux/6.1\"", 23, "`linux/6.1` is no policy", "policy's name"),
    ("\"linux-6.1\"", "\"vga  linux-6.1\"", 23, "are not one space apart", "one space"),
    ("\"linux-6.1\"", "\" vga\"", 23, "are not one space apart", "none before"),
    ("\"linux-6.1\"", "\"vga\\tlinux-6.1\"", 23, "is no policy", "a space between"),
    ("\"linux-6.1\"", "\" \"", 23, "`` is no policy", "policy's name"),
    ("\"linux-6.1\"", "\"vga all\"", 23, "`all` stands with other policies", "`all` alone"),
    ("\"linux-6.1\"", "\"vga x vga\"", 23, "`vga` is named twice", "keep one"),
    ("\"linux-6.1\"", "\"vga linux-6.9\"", 24, "`linux-6.9` is named twice, first in line 23", "keep one"),
    ("\"linux-6.1\"", "\"\"", 23, "`` is no policy", "policy's name"),
    ("stage-2 alignment fault", "stage-2 alignmnet fault", 23, "is no outcome", "write \"stage-2 alignment fault\""),
    ("stage-2 alignment fault", "explosion", 23, "`explosion` is no outcome", "the outcomes are `completed`"),
    ("\"stage-2 alignment fault\"", "1", 23, "a string or a table, here it is an integer", "\"completed\""),
    ("\"stage-2 alignment fault\"", "[]", 23, "no outcome is allowed", "at least one"),
    ("\"stage-2 alignment fault\"", "[[\"completed\"]]", 23, "here it is a list", "\"completed\""),
    ("\"stage-2 alignment fault\"", "[{ x0 = 1 }, { x0 = \"0x1\" }]", 23, "stands here twice", "remove"),
    ("\"stage-2 alignment fault\"", "[\"completed\", { outcome = \"completed\" }]", 23, "stands here twice", "remove"),
    ("\"stage-2 alignment fault\"", "{}", 23, "says nothing", "\"completed\""),
    ("\"stage-2 alignment fault\"", "{ esr = 1 }", 23, "`completed` has no `esr`", "add `outcome"),
    ("\"stage-2 alignment fault\"", "{ outcome = \"mmio read\", far = 1 }", 23, "`mmio read` has no `far`", "remove it"),
    ("\"stage-2 alignment fault\"", "{ outcome = \"contained error\", esr = 1 }", 23, "`contained error` has no `esr`", "remove it"),
    ("\"stage-2 alignment fault\"", "{ outcome = \"uncontained error\", far = 1 }", 23, "`uncontained error` has no `far`", "remove it"),
    ("\"stage-2 alignment fault\"", "{ outcome = \"page fault\", far = \"vram+0x100001\" }", 23, "beyond the map", "at most 0x100000"),
    ("\"stage-2 alignment fault\"", "\"uncontaned error\"", 23, "is no outcome", "write \"uncontained error\""),
    ("\"stage-2 alignment fault\"", "{ outcome = \"stage-2 alignment fault\", esr = \"0x92000007\" }", 23, "0x92000007 reports `translation fault`", "correct"),
    ("\"stage-2 alignment fault\"", "{ outcome = \"stage-2 alignment fault\", far = \"vran\" }", 23, "no map `vran`", "write `vram`"),
    ("\"stage-2 alignment fault\"", "{ outcome = \"stage-2 alignment fault\", far = \"vram+0x100001\" }", 23, "`0x100001` is beyond the map", "at most 0x100000"),
    ("\"stage-2 alignment fault\"", "{ outcome = \"stage-2 alignment fault\", far = \"vram+\" }", 23, "is no number", "such as"),
    ("\"stage-2 alignment fault\"", "{ outcome = \"stage-2 alignment fault\", far = \"-1\" }", 23, "is negative", "such as"),
    ("\"stage-2 alignment fault\"", "{ outcom = \"completed\" }", 23, "`outcom` is no key", "write `outcome`"),
    ("{ x0 =", "{ x1 =", 24, "the program does not write `x1`", "writes `x0`"),
    ("{ x0 =", "{ x00 =", 24, "the program does not write `x00`", "writes `x0`"),
    ("{ x0 =", "{ x256 =", 24, "the program does not write `x256`", "writes `x0`"),
    ("{ x0 =", "{ w0 =", 24, "`w0` is no key of an outcome", "write `x0`"),
    ("{ x0 = \"0x1122334455667788\"", "{ x0 = -1", 24, "the value of `x0` is negative", "such as"),
    ("{ x0 = \"0x1122334455667788\"", "{ x0 = 1.5", 24, "here it is a float", "such as"),
    ("{ x0 = \"0x1122334455667788\"", "{ x0 = \"0x11223344556677889\"", 24, "larger than 64 bits", "such as"),
];

/// A line of a program, in place of the first of [`DESIGN`]: the column, and pieces of message and remedy.
#[rustfmt::skip]
const OPERATIONS: &[(&str, u32, &str, &str)] = &[
    ("stoer.8 vram, 1", 1, "`stoer.8` is no operation", "write `store.8`"),
    ("STORE.8 vram, 1", 1, "`STORE.8` is no operation", "write `store.8`"),
    ("nop", 1, "`nop` is no operation", "the operations are `store.N`"),
    ("store vram, 1", 1, "`store` needs a size", "write `store.8 PLACE, VALUE`"),
    ("store.3 vram, 1", 1, "`store` has no size `3`", "`store.1`, `store.2`"),
    ("store.08 vram, 1", 1, "`store` has no size `08`", "`store.8`"),
    ("zero.8 vram", 1, "`zero` has no sizes", "write `zero PLACE`"),
    ("pair.load.8 vram -> x0, x1", 1, "`pair.load` has no sizes", "write `pair.load PLACE"),
    ("store.8", 1, "`store.8` has 2 operands, here are none", "write `store.8 PLACE, VALUE`"),
    ("store.8 vram", 9, "has 2 operands, here is 1", "write `store.8"),
    ("store.8 vram, 1, 2", 9, "has 2 operands, here are 3", "write `store.8"),
    ("store.8 vram,", 14, "a value is missing", "such as"),
    ("store.8 , 1", 9, "a place is missing", "`vram`"),
    ("store.8 vram, 1 -> x0", 20, "`store.8` has no result", "write `store.8"),
    ("store.8 vran, 1", 9, "there is no map `vran`", "write `vram`"),
    ("store.8 nothing, 1", 9, "there is no map `nothing`", "maps `vram`"),
    ("store.8 x0, 1", 9, "`x0` is a register, not a place", "MAP+OFFSET"),
    ("store.8 vram+1M, 1", 9, "`1M` is beyond the map `vram`, which has 1M", "at most 0xfffff"),
    ("store.8 vram+0xffffffffffffffff, 1", 9, "is beyond the map", "at most 0xfffff"),
    ("store.8 vram+-1, 1", 14, "`-1` is negative", "such as"),
    ("store.8 vram+x1, 1", 14, "`x1` is no number", "such as"),
    ("store.8 vram+1+1, 1", 14, "`1+1` is no number", "such as"),
    ("store.8 vram, x16", 15, "no register `x16`", "x0 to x15"),
    ("store.8 vram, x01", 15, "no register `x01`", "x0 to x15"),
    ("store.8 vram, w1", 15, "`w1` is no number", "a register"),
    ("store.8 vram, 0x10000000000000000", 15, "larger than 64 bits", "such as"),
    ("store.8 vram, 1e400", 15, "`1e400` is no number", "such as"),
    ("store.1 vram, 256", 15, "`256` does not fit in 1 byte", "at most 0xff, or `store.2`"),
    ("store.2 vram, 0x1_0000", 15, "does not fit in 2 bytes", "or `store.4`"),
    ("store.4 vram, 0x100000000", 15, "does not fit in 4 bytes", "or `store.8`"),
    ("store.1 vram, 0x100000000", 15, "does not fit in 1 byte", "or `store.8`"),
    ("load.8 vram", 1, "`load.8` needs a register for its result", "write `load.8 PLACE -> xR`"),
    ("load.8 vram ->", 1, "has 1 result, here are none", "write `load.8"),
    ("load.8 vram -> 3", 16, "`3` is no register", "x0 to x15"),
    ("load.8 vram -> x16", 16, "no register `x16`", "x0 to x15"),
    ("load.8 vram -> x0, x1", 16, "has 1 result, here are 2", "write `load.8"),
    ("pair.store vram, 1", 12, "has 3 operands, here are 2", "write `pair.store"),
    ("pair.load vram -> x0", 19, "has 2 results, here is 1", "write `pair.load"),
    ("pair.load vram -> x1, x1", 23, "one register twice", "LDP"),
    ("copy vram, vram, 0", 18, "a copy of `0` bytes", "1 to 4096"),
    ("copy vram, vram, 4097", 18, "a copy of `4097` bytes", "1 to 4096"),
    ("copy vram, vram, x1", 18, "`x1` is no number", "1 to 4096"),
    ("copy vram, vram+1M, 1", 12, "beyond the map", "at most"),
    ("zero 4096", 6, "there is no map `4096`", "maps `vram`"),
    ("atomic.add.8 vram, 1", 1, "needs a register for its result", "write `atomic.add.8 PLACE, VALUE -> xR`"),
    ("atomic.add vram, 1 -> x0", 1, "`atomic.add` needs a size", "write `atomic.add.8"),
    ("atomic.add.2 vram, 65536 -> x0", 20, "does not fit in 2 bytes", "`atomic.add.4`"),
    ("exclusive.8 vram, 1 -> x1, x1", 28, "to one register", "two registers"),
    ("exclusive.8 vram, x2 -> x1, x2", 29, "the status goes to the register that is stored", "STXR"),
    ("exclusive.8 vram, x2 -> x2, x1", 25, "the value before goes to the register that is stored", "LDXR"),
    ("clean", 1, "`clean` has 1 operand, here are none", "write `clean PLACE`"),
    ("clean.8 vram", 1, "`clean` has no sizes", "write `clean PLACE`"),
    ("clean vran", 7, "there is no map `vran`", "write `vram`"),
    ("user.store vram, 1", 1, "`user.store` needs a size", "write `user.store.8 PLACE, VALUE`"),
    ("user.stoer.4 vram, 1", 1, "`user.stoer.4` is no operation", "write `user.store.4`"),
    ("user.store.3 vram, 1", 1, "`user.store` has no size `3`", "`user.store.1`"),
    ("user.store.1 vram, 256", 20, "`256` does not fit in 1 byte", "`user.store.2`"),
    ("user.store.1 vram, x16", 20, "no register `x16`", "x0 to x15"),
    ("user.store.4 vram+2, 1", 14, "the offset 0x2 is no multiple of 4 bytes", "aligned to its own size"),
    ("user.load.8 vram", 1, "`user.load.8` needs a register", "write `user.load.8 PLACE -> xR`"),
    ("user.load.2 vram+1 -> x0", 13, "no multiple of 2 bytes", "aligned to its own size"),
    ("dma.store.8 vram+4, 1", 13, "no multiple of 8 bytes", "every access of `dma.store`"),
    ("dma.store.8 vram, 1 -> x1", 24, "`dma.store.8` has no result", "write `dma.store.8"),
    ("dma.load.4 vram+1M -> x0", 12, "beyond the map", "at most"),
    ("dma.load.4 -> x0", 1, "`dma.load.4` has 1 operand, here are none", "write `dma.load.4 [DEVICE,] PLACE -> xR`"),
    ("dma.store.4 vram", 13, "`dma.store.4` has 2 operands, here is 1", "write `dma.store.4 [DEVICE,] PLACE, VALUE`"),
    ("dma.load.4 gpu, vram, 1 -> x0", 12, "`dma.load.4` has 1 operand, here are 3", "write `dma.load.4"),
    ("dma.load.4 gpv, vram -> x0", 12, "there is no device `gpv`", "write `gpu`"),
    ("dma.load.4 vram, vram -> x0", 12, "there is no device `vram`", "the devices are `gpu`"),
    ("dma.load.4 , vram -> x0", 1, "there is no device ``", "the devices are `gpu`"),
    ("dma.load.4 gpu, gpu -> x0", 17, "there is no map `gpu`", "the file maps `vram`"),
    ("store.8 vram, &vran", 16, "there is no map `vran`", "write `vram`"),
    ("store.8 vram, &vram+1M", 16, "beyond the map", "at most"),
    ("store.4 vram, &vram", 15, "`&vram` does not fit in 4 bytes", "`store.8`"),
    ("store.8 vram, &", 16, "a place is missing", "the file maps"),
    ("dma.laod.4 vram -> x0", 1, "`dma.laod.4` is no operation", "write `dma.load.4`"),
    ("attribute vram", 11, "has 2 operands, here is 1", "write `attribute PLACE, ASK`"),
    ("attribute vram, cache", 17, "`cache` is no attribute", "write `cached`"),
    ("attribute vram, wb", 17, "`wb` is no attribute", "the attributes are `default`"),
    ("attribute vram,", 16, "an attribute is missing", "the attributes are"),
    ("attribute.4 vram, cached", 1, "`attribute` has no sizes", "write `attribute PLACE, ASK`"),
    ("dmb", 1, "`dmb` needs an option", "the options are `oshld`"),
    ("dmb oshts", 5, "`oshts` is no option of `dmb`", "write `dmb oshst`"),
    ("dsb everything", 5, "no option of `dsb`", "the options are"),
    ("dmb.sy", 1, "`dmb` has no sizes", "write `dmb OPTION`"),
    ("isb sy", 5, "`isb` has no operands", "write `isb`"),
    ("dgh -> x0", 8, "`dgh` has no result", "write `dgh`"),
    ("jump", 1, "`jump` needs a target", "jump LABEL"),
    ("jump nowhere", 6, "there is no label `nowhere`", "with a colon"),
    ("jump vran", 6, "there is no label `vran`", "write `jump vram`"),
    ("jump vram+1M", 6, "beyond the map", "at most"),
    ("a: isb", 4, "a label stands alone", "next line"),
    ("vram:", 1, "`vram` is the name of a map", "rename the label"),
    ("x3:", 1, "looks like a register", "choose"),
    (":", 1, "`` is no name", "a name is"),
    ("A b:", 1, "`A b` is no name", "a name is"),
];

fn check(text: &str, case: &str, line: u32, message: &str, remedy: &str) -> scenario::Error {
    let error = parse("case.toml", text).err().unwrap_or_else(|| panic!("accepted: {case}"));
    assert_eq!(error.line, line, "{case}: {error}");
    assert!(error.message.contains(message), "{case}: {error}");
    assert!(error.remedy.contains(remedy), "{case}: {error}");
    error
}

#[test]
fn every_fault_names_its_line_and_a_remedy() {
    for (from, to, line, message, remedy) in REPLACED {
        assert!(DESIGN.contains(from), "{from}");
        check(&DESIGN.replacen(from, to, 1), to, *line, message, remedy);
    }
}

#[test]
fn every_fault_of_an_operation_names_its_column_and_a_remedy() {
    for (operation, column, message, remedy) in OPERATIONS {
        let text = DESIGN.replace("store.8  vram+3, 0x1122334455667788", operation);
        let error = check(&text, operation, 18, message, remedy);
        assert_eq!(error.column, *column, "{operation}: {error}");
    }
}

#[test]
fn faults_that_need_more_than_a_line() {
    let program = |p: &str| DESIGN.replace("store.8  vram+3, 0x1122334455667788\n", p);
    check(&program("a:\nisb\na:\n"), "labels", 20, "two labels `a`", "rename");
    check(&program("one:\ntwo:\njump nowhere\n"), "jump", 20, "no label `nowhere`", "the labels are `one` and `two`");
    check(&program("one:\njump ona\n"), "jump", 19, "no label `ona`", "write `jump one`");
    check(&program(&"isb\n".repeat(512)), "ops", 530, "at most 512 operations", "several scenarios");
    assert!(parse("a", &program(&"isb\n".repeat(511))).is_ok());
    check(&program(&"copy vram, vram, 4096\n".repeat(65)), "copies", 82, "at most 256K", "copy less");
    assert!(parse("a", &program(&"copy vram, vram, 4096\n".repeat(64))).is_ok());
    check(&program("\u{1b}").replace("\"\"\"", "'''"), "escape", 18, "control character", "remove");

    // What user space and a device reach: a BAR and RAM, no hole.
    let of = |of: &str, operation: &str| {
        let text = DESIGN.replace("bar = \"gpu.2\"", of);
        text.replace("store.8  vram+3, 0x1122334455667788", operation)
    };
    let outside = ["user.store.1 vram, 1", "user.load.1 vram -> x1", "dma.store.1 vram, 1", "dma.load.1 vram -> x1"];
    for operation in outside {
        check(&of("hole = \"1M\"", operation), operation, 18, "the map `vram` is a hole", "of a BAR or of RAM");
        assert!(parse("a", &of("ram = \"1M\"", operation)).is_ok());
        let off = of("ram = \"1M\"", operation).replace("type = \"normal-nc\"\n", "");
        assert!(parse("a", &off.replace("[guest]", "[guest]\nmmu = false")).is_ok());
    }
    for target in ["hole", "ram"] {
        let text = of(&format!("{target} = \"1M\""), "attribute vram, cached");
        check(&text, target, 18, "the map `vram` is of no BAR", "of a BAR");
    }
    // What a device reaches through the IOMMU: RAM, by 4K where the entry is the guest's own.
    let iova = |iova: &str, operation: &str| {
        let text = of("ram = \"8K\"", operation);
        let gap = "[[map]]\nname = \"gap\"\nhole = \"4K\"\ntype = \"normal-wb\"\n";
        text.replace("[guest]", &format!("{gap}[[iova]]\nname = \"w\"\nto = \"vram\"\n{iova}\n[guest]"))
    };
    let load = "dma.load.8 w+4096 -> x1";
    assert!(parse("a", &iova("", load)).is_ok());
    check(
        &iova("entry = \"vram\"", load),
        "page",
        26,
        "0x1000 is beyond the mapping `w`, which has 4K",
        "at most 0xfff",
    );
    check(
        &iova("", "dma.load.8 w+8K -> x1"),
        "end",
        26,
        "0x2000 is beyond the mapping `w`, which has 8K",
        "at most 0x1fff",
    );
    check(&iova("", "dma.load.8 w+z -> x1"), "number", 26, "`z` is no number", "such as");
    check(&iova("", "dma.load.8 w+4 -> x1"), "aligned", 26, "no multiple of 8 bytes", "aligned to its own size");
    check(&iova("", "store.8 w, 1"), "cpu", 26, "`w` is an address of devices", "only `dma.` reaches it");
    check(&iova("", "jump w+4"), "cpu", 26, "`w` is an address of devices", "only `dma.` reaches it");
    check(&iova("entry = \"vram+4\"", ""), "entry", 23, "an entry at 0x4 of `vram`", "a multiple of 8, up to 0x1ff8");
    check(&iova("entry = \"vram+8K\"", ""), "entry", 23, "an entry at 0x2000 of `vram`", "up to 0x1ff8");
    check(&iova("entry = \"vram+3G\"", ""), "entry", 23, "is beyond the map", "at most 0x2000");
    check(&iova("entry = \"gap\"", ""), "entry", 23, "the map `gap` is not of RAM", "the maps of RAM are `vram`");
    check(&iova("entry = \"vran\"", ""), "entry", 23, "there is no map `vran`", "write `vram`");
    check(&iova("entry = 8", ""), "entry", 23, "`entry` is a string", "\"...\"");
    let twin = "entry = \"vram\"\n[[iova]]\nname = \"v\"\nto = \"vram\"\nentry = \"vram+0\"";
    check(&iova(twin, ""), "twin", 24, "the entry of `v` is that of `w`", "8 bytes of its own");
    check(&iova("[[iova]]\nname = \"w\"\nto = \"vram\"", ""), "twin", 23, "two maps `w`", "rename one");
    let all = |n: usize| (0..n).map(|i| format!("[[iova]]\nname = \"w{i}\"\nto = \"vram\"\n")).collect::<String>();
    assert!(parse("a", &iova(&all(63), "")).is_ok());
    check(&iova(&all(64), ""), "iovas", 23 + 3 * 63, "at most 64 mappings of the IOMMU", "several scenarios");
    let alone = |operation: &str| {
        format!(
            "title = \"t\"\n[[map]]\nname = \"a\"\nram = \"4K\"\ntype = \"normal-wb\"\n[guest]\nprogram = '{operation}'\n[expect]\nall = \"completed\"\n"
        )
    };
    check(&alone("dma.store.1 a, 1"), "dma", 7, "`dma.store.1` needs a device", "[[device]]");
    assert!(parse("a", &alone("user.store.1 a, 1")).is_ok());
    check(
        &alone("attribute a, default").replace("ram = \"4K\"", "bar = \"a.0\""),
        "bar",
        4,
        "no BAR `a.0`",
        "[[device]]",
    );
    let list = "[[attribute]]\nbar = \"a.0\"\nask = \"cached\"\n[[map]]";
    check(&alone("").replace("[[map]]", list), "attribute", 3, "no BAR `a.0`", "[[device]]");

    let start = DESIGN.split("[expect]").next().unwrap();
    check(start, "expect", 1, "needs the key `expect`", "add `[expect]`");
    check(&format!("{start}[expect]\n"), "expect", 22, "nothing is expected", "all = \"completed\"");
    check(&format!("expect = 3\n{start}"), "expect", 1, "`expect` is a table", "[expect]");
    let text = DESIGN.replace("load.8   vram+3 -> x0\n", "");
    check(&text, "register", 23, "does not write `x0`", "no register");

    let text =
        DESIGN.replace("program = \"\"\"\nstore.8  vram+3, 0x1122334455667788\nload.8   vram+3 -> x0\n\"\"\"", "");
    check(&text, "program", 16, "needs the key `program`", "program = ");
    let text = DESIGN.split("[guest]").next().unwrap();
    check(text, "guest", 1, "needs the key `guest`", "[guest]");
    check(&format!("program = 3\n{text}"), "root", 1, "`program` is no key of a scenario", "the keys");

    let title = |n| DESIGN.replace("A driver copies to an odd address in write-combining VRAM", &"é".repeat(n));
    check(&title(121), "title", 1, "has 121 characters", "1 to 120");
    assert!(parse("a", &title(120)).is_ok());

    let more = |n: u32| {
        (0..n).fold(String::new(), |mut s, i| {
            write!(s, "[[map]]\nname = \"m{i}\"\nram = \"64K\"\ntype = \"normal-wb\"\n").unwrap();
            s
        })
    };
    let max = scenario::layout::MAX_MAPS as u32;
    let maps = |n| DESIGN.replace("[guest]", &(more(n) + "[guest]"));
    check(&maps(max), "maps", 16 + 4 * (max - 1), "at most", "several scenarios");
    assert!(parse("a", &maps(max - 1)).is_ok());
    let ram = maps(2).replace("64K", "32M");
    assert!(parse("a", &ram).is_ok());
    check(&ram.replacen("32M", "36M", 1), "ram", 20, "more than 64M", "smaller");

    let bars = |n: u32| {
        (0..n).fold(String::new(), |mut s, i| {
            write!(s, "[[device]]\nname = \"d{i}\"\nbars = [{{ index = 0, size = \"1G\" }}]\n").unwrap();
            s
        })
    };
    let devices = |n| DESIGN.replace("[[map]]", &(bars(n) + "[[map]]"));
    check(&devices(16), "bars", 11 + 3 * 15 + 2, "at most 16 BARs", "remove");
    assert!(parse("a", &devices(15)).is_ok());

    let types = |bytes: &[u8]| {
        let maps = bytes.iter().fold(String::new(), |mut s, b| {
            write!(s, "[[map]]\nname = \"m{b}\"\nram = \"4K\"\ntype = \"mair={b:#x}\"\n").unwrap();
            s
        });
        DESIGN.replace("[guest]", &(maps + "[guest]"))
    };
    assert!(parse("a", &types(&[0, 0xff, 4, 8, 0xc, 0xbb, 0xf0])).is_ok());
    check(&types(&[4, 8, 0xc, 0xbb, 0xf0, 0x4f]), "types", 36, "at most 8 memory types", "MAIR_EL1");

    let all = |n: u64| (0..n).map(|i| format!("{{ x0 = {i} }},")).collect::<String>();
    let outcomes = |n| DESIGN.replace("\"stage-2 alignment fault\"", &format!("[{}]", all(n)));
    assert!(parse("a", &outcomes(64)).is_ok());
    check(&outcomes(65), "outcomes", 23, "at most 64 outcomes", "remove");
    let policies = |n: u64| (0..n).fold(DESIGN.to_owned(), |s, i| s + &format!("p{i} = \"endless\"\n"));
    assert!(parse("a", &policies(62)).is_ok());
    let several = |n: u64| {
        format!("{DESIGN}\"{}\" = \"endless\"\n", (0..n).map(|i| format!("p{i}")).collect::<Vec<_>>().join(" "))
    };
    assert!(parse("a", &several(62)).is_ok());
    check(&several(63), "policies", 25, "at most 64 policies", "`all`");
    check(&policies(63), "policies", 25 + 62, "at most 64 policies", "`all`");

    let large = format!("{DESIGN}#{}", "a".repeat(256 << 10));
    check(&large, "large", 1, "at most 256K", "several scenarios");
    let nested = format!("a = {}", "[".repeat(100_000));
    check(&nested, "nested", 1, "recurse", "nest less");
}

#[test]
fn what_is_odd_and_allowed() {
    // Nothing but what must be there.
    let least = parse("a", "title = \"t\"\nguest.program = \"\"\n[expect]\nall = \"untouched\"\n").unwrap();
    assert_eq!((least.maps.len(), least.devices.len(), least.program.ops.len()), (0, 0, 0));
    assert!(!least.program.touches_memory());
    // An access may end beyond its map; so may a copy.
    for operation in
        ["store.8 vram+0xfffff, 1", "copy vram+0xfffff, vram, 4096", "jump vram+3", "a:\njump a", "load.1 vram->x1"]
    {
        let text = DESIGN.replace("store.8  vram+3, 0x1122334455667788", operation);
        assert!(parse("a", &text).is_ok(), "{operation}");
    }
    // With the MMU off every map is Device-nGnRnE.
    let off = DESIGN.replace("type = \"normal-nc\"\n", "").replace("[guest]", "[guest]\nmmu = false");
    let off = parse("a", &off).unwrap();
    assert_eq!((off.mmu, off.maps[0].mair, off.maps[0].writable), (false, 0, true));
    // A byte order mark is no text.
    assert_eq!(parse("a", &format!("\u{feff}{DESIGN}")).unwrap(), parse("a", DESIGN).unwrap());
    // A large integer without quotes.
    let text = DESIGN.replace("\"0x1122334455667788\"", "0xffff_ffff_ffff_ffff");
    let s = parse("a", &text).unwrap();
    assert_eq!(s.expect.under("linux-6.9")[0].registers[&0], u64::MAX);
}

/// `docs/scenario.md` is for those who write a file: what it shows is accepted, and what there is it names.
#[test]
fn the_documentation_is_right() {
    let text = include_str!("../../../../docs/scenario.md");
    let examples: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|t| t.split("```").next()).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        parse("docs", example).unwrap_or_else(|e| panic!("{e}"));
    }
    let bad = DESIGN.replace("type = \"normal-nc\"", "type = \"normal-nc\"\nsiez = \"64K\"");
    assert!(text.contains(&parse("vram.toml", &bad).unwrap_err().to_string()));
    let names = outcome_names();
    let options = scenario::program::BARRIER_OPTIONS.map(|(n, _)| n);
    let types = memtype::arm::NAMES;
    let platform = Errors::ALL.map(Errors::name).into_iter().chain(NcDefect::ALL.map(NcDefect::name));
    let asks = Attribute::ALL.map(Attribute::name).into_iter().chain(Reads::ALL.map(Reads::name));
    let names = names.iter().map(String::as_str).chain(options).chain(types.map(|(n, _)| n));
    let names =
        names.chain(platform).chain(asks).chain(["never", "possible", "coherent-walks", "entry", "non-cacheable"]);
    for name in names {
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
    for (name, byte) in types {
        assert!(text.contains(&format!("`{name}` | {byte:#04x} ")), "{name}");
    }
    for (name, code) in Device::CLASSES {
        assert!(text.contains(&format!("`{name}` | {code:#08x} ")), "{name}");
    }
    let limits = [
        (scenario::file::MAX_ATTRIBUTES, "at most 64 attributes"),
        (scenario::layout::MAX_MAPS, "at most 64 maps"),
        (scenario::layout::MAX_MAPS, "at most 64 mappings of the IOMMU"),
        (scenario::program::MAX_OPS, "at most 512 operations"),
        (scenario::file::MAX_BARS, "at most 16 BARs"),
        (scenario::file::MAX_TITLE, "1 to 120 characters"),
        (scenario::file::MAX_EXPECTED, "at most 64 policies"),
        (scenario::file::MAX_BYTES / 1024, "at most 256 KiB"),
        (scenario::file::MAX_RAM as usize >> 20, "at most 64M"),
        (scenario::program::EXCLUSIVE_TRIES as usize, "tried 128 times"),
        (scenario::program::MAX_COPY as usize, "1 to 4096 bytes"),
    ];
    for (limit, sentence) in limits {
        assert!(sentence.contains(&limit.to_string()) && text.contains(sentence), "{sentence}: {limit}");
    }
}
