//! For people.

use std::fmt::{Display, Write as _};

use ::host::{Bar, Fact, Function, Host, IommuKind, Span};
use ::plan::{Layer, Layers, Machine, Sure, Way, at_a_glance, layers};
use memtype::Arch;
use platform::errata;

use super::{
    answers, bytes, class_word, dma, gets, glyph, grouped, is_shown, memory_bars, name, short, shown, style, tame,
};
use crate::show::{self, BAD, FAINT, OPEN, STRONG, paint};

/// What is not known.
const HOLE: &str = "?";

/// Where the text after a label begins.
const LABEL: usize = 11;

/// A label, and text in lines after it.
fn field(out: &mut String, label: &str, text: &str) {
    indented(out, 0, LABEL, label, text);
}

/// A label that begins at a column, and text in lines from another.
fn indented(out: &mut String, from: usize, to: usize, label: &str, text: &str) {
    let lines = show::wrapped(&" ".repeat(to), text);
    let _ = write!(out, "{:from$}{:2$}{3}", "", paint(FAINT, label), to - from, lines.get(to..).unwrap_or_default());
}

/// `yes`, `no`, `–` where there is no such thing, `?` for a hole.
fn bit(fact: &Fact<bool>) -> &'static str {
    match fact {
        Fact::Known(true) => "yes",
        Fact::Known(false) => "no",
        Fact::Absent => "–",
        Fact::Hole(_) => HOLE,
    }
}

fn maybe(it: Option<bool>) -> &'static str {
    match it {
        Some(true) => "yes",
        Some(false) => "no",
        None => HOLE,
    }
}

fn word<T: Display>(fact: &Fact<T>) -> String {
    match fact {
        Fact::Known(it) => tame(&it.to_string()),
        Fact::Absent => "–".into(),
        Fact::Hole(_) => HOLE.into(),
    }
}

fn plural(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("{n} {one}") } else { format!("{n} {many}") }
}

/// The machine at a glance.
pub(super) fn machine(host: &Host, all: bool) -> String {
    let mut out = String::new();
    for (label, says) in facts(host) {
        if label == ERRATA {
            matched(&mut out, host);
        } else {
            field(&mut out, label, &says);
        }
    }
    out.push('\n');
    table(&mut out, host, all);
    holes(&mut out, host);
    out
}

const ERRATA: &str = "errata";

/// The machine without its PCI functions: labels and sentences. A line that goes on has no label.
pub(super) fn facts(host: &Host) -> Vec<(&'static str, String)> {
    let mut all = vec![("kernel", kernel(host))];
    match &host.kernel.parameters {
        Fact::Known(p) if !p.is_empty() => all.push(("", format!("parameters: {}", tame(&p.join(" "))))),
        Fact::Hole(_) => all.push(("", "parameters: ?".into())),
        _ => {}
    }
    all.push(("CPU", cpu(host)));
    all.push(("KVM", kvm(host)));
    all.push(("VFIO", vfio(host)));
    for (at, says) in iommus(host).into_iter().enumerate() {
        all.push((if at == 0 { "IOMMU" } else { "" }, says));
    }
    all.push(("firmware", firmware(host)));
    if host.kernel.arch == Some(Arch::X86) {
        all.push(("MTRRs", mtrrs(host)));
        all.push(("PAT list", pat(host)));
    }
    let errata: Vec<String> = errata_of(host).map(|(name, title)| format!("{name}: {title}")).collect();
    all.push((ERRATA, if errata.is_empty() { NO_ERRATA.into() } else { errata.join("; ") }));
    all
}

const NO_ERRATA: &str = "none that is known here matches, which says nothing of the machine";

fn errata_of(host: &Host) -> impl Iterator<Item = (&'static str, &'static str)> + use<'_> {
    host.errata.iter().map(|name| (*name, errata::named(name).map_or("", |e| e.title.as_str())))
}

fn kernel(host: &Host) -> String {
    let k = &host.kernel;
    let arch = k.arch.map_or("an architecture without memory types here", Arch::name);
    let mut text = format!("Linux {}, {arch}, pages of {}", word(&k.release), bytes(k.page.0));
    if let Some(hypervisor) = k.hypervisor.known() {
        let _ = write!(text, ", hypervisor: {}", tame(hypervisor));
    }
    if let Some(mode) = k.lockdown.known().filter(|m| *m != "none") {
        let _ = write!(text, ", lockdown {}", tame(mode));
    }
    text
}

fn cpu(host: &Host) -> String {
    let c = &host.cpu;
    let mut parts = Vec::new();
    match &c.midr {
        Fact::Known(midrs) if !midrs.is_empty() => {
            parts.push(midrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "));
        }
        _ => parts.push(word(&c.model)),
    }
    let arm = [("FWB", &c.fwb), ("DIC", &c.dic), ("LS64", &c.ls64), ("DGH", &c.dgh)];
    let x86 = [("PAT", &c.pat), ("MTRR", &c.mtrr), ("self-snoop", &c.self_snoop), ("MOVDIR64B", &c.movdir64b)];
    let features: Vec<String> = match host.kernel.arch {
        Some(Arch::Arm64) => arm.into_iter().map(|(n, f)| format!("{n} {}", bit(f))).collect(),
        Some(Arch::X86) => x86.into_iter().map(|(n, f)| format!("{n} {}", bit(f))).collect(),
        _ => Vec::new(),
    };
    if !features.is_empty() {
        parts.push(features.join(", "));
    }
    parts.join("; ")
}

fn kvm(host: &Host) -> String {
    let kvm = match &host.kvm {
        Fact::Known(kvm) => kvm,
        Fact::Absent => return "none: no /dev/kvm".into(),
        Fact::Hole(hole) => return format!("? ({})", tame(&hole.to_string())),
    };
    let mut parts = Vec::new();
    match host.kernel.arch {
        Some(Arch::Arm64) => parts.push(
            match kvm.cacheable_pfnmap {
                Some(true) => "cacheable device memory yes",
                Some(false) => "cacheable device memory no, for want of FWB or DIC",
                None => "cacheable device memory no, not known to this kernel (Linux 6.17 has it)",
            }
            .to_owned(),
        ),
        Some(Arch::X86) => {
            parts.push(format!("EPT or NPT {}", maybe(kvm.nested_paging)));
            if let Some(quirks) = kvm.quirks {
                // Bit 9; since 6.16, and only where the CPU has self-snoop and there is EPT (Documentation/virt/kvm/api.rst).
                let pat = if quirks >> 9 & 1 == 1 {
                    "the quirk IGNORE_GUEST_PAT can be turned off"
                } else {
                    "no quirk IGNORE_GUEST_PAT to turn off"
                };
                parts.push(pat.to_owned());
            }
        }
        _ => {}
    }
    if let Some(bits) = kvm.ipa_bits {
        parts.push(format!("IPA {bits} bits"));
    }
    parts.push(format!("VFIO device {}", maybe(kvm.vfio_device)));
    parts.join("; ")
}

fn vfio(host: &Host) -> String {
    let v = &host.vfio;
    if !v.container && !v.iommufd && !v.driver {
        return "none: vfio-pci is not loaded, and there is neither /dev/vfio/vfio nor /dev/iommu".into();
    }
    let yes = |b: bool| if b { "yes" } else { "no" };
    let mut text = format!(
        "group and container {}, iommufd {}, vfio-pci {}",
        yes(v.container),
        yes(v.iommufd),
        if v.driver { "loaded" } else { "not loaded" }
    );
    match &v.noiommu {
        Fact::Known(true) => text.push_str(", unsafe no-IOMMU mode ON"),
        Fact::Known(false) | Fact::Absent => {}
        Fact::Hole(_) => text.push_str(", no-IOMMU mode ?"),
    }
    text
}

const fn iommu_kind(kind: IommuKind) -> &'static str {
    match kind {
        IommuKind::IntelVtd => "Intel VT-d",
        IommuKind::Amd => "AMD-Vi",
        IommuKind::SmmuV3 => "SMMUv3",
        IommuKind::Smmu => "SMMUv1 or v2",
        IommuKind::Virtio => "virtio-iommu",
        IommuKind::Riscv => "RISC-V IOMMU",
        IommuKind::Other => "of another kind",
    }
}

/// What an IOMMU says of coherency, in a line. Those of a machine are usually all alike: they are told of together.
fn iommu(it: &::host::Iommu) -> String {
    let mut text = format!(
        "{}; takes No Snoop off: {}, coherent walks: {}",
        iommu_kind(it.kind),
        bit(&it.enforces),
        bit(&it.coherent_walk)
    );
    if it.kind == IommuKind::SmmuV3 {
        let _ = write!(text, ", S2FWB: {}", bit(&it.s2fwb));
    }
    if let Some(register) = it.register {
        let name = if it.kind == IommuKind::IntelVtd { "ECAP" } else { "EFR" };
        let _ = write!(text, ", {name} {register:#x}");
    }
    text
}

fn iommus(host: &Host) -> Vec<String> {
    const TOLD: usize = 4;
    if host.iommus.is_empty() {
        let text = "none: nothing in /sys/class/iommu; VFIO hands a device to a process in no-IOMMU mode alone";
        return vec![text.into()];
    }
    let mut kinds: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, it) in &host.iommus {
        let says = iommu(it);
        match kinds.iter_mut().find(|(s, _)| *s == says) {
            Some((_, names)) => names.push(name),
            None => kinds.push((says, vec![name])),
        }
    }
    let told = |(says, names): (String, Vec<&str>)| {
        let mut first: Vec<String> = names.iter().take(TOLD).map(|n| tame(n)).collect();
        if names.len() > TOLD {
            first.push(format!("{} more", names.len() - TOLD));
        }
        format!("{}, {says}", first.join(", "))
    };
    kinds.into_iter().map(told).collect()
}

fn firmware(host: &Host) -> String {
    let f = &host.firmware;
    let Some(kind) = f.kind else {
        return "neither ACPI nor a device tree is to be seen".into();
    };
    let mut parts = vec![if kind == "acpi" { "ACPI".to_owned() } else { "device tree".to_owned() }];
    if !f.compatible.is_empty() {
        parts.push(tame(&f.compatible.join(", ")));
    }
    if kind == "acpi" {
        parts.push(match &f.iort {
            Fact::Known(iort) => {
                let complexes: Vec<String> = iort
                    .nodes
                    .iter()
                    .filter_map(|n| match n.kind {
                        ::firmware::iort::Kind::RootComplex { segment, access, .. } => Some(format!(
                            "segment {segment} CCA {} CPM {} DACS {} CANWBS {}",
                            access.cca,
                            u8::from(access.cpm()),
                            u8::from(access.dacs()),
                            u8::from(access.canwbs())
                        )),
                        _ => None,
                    })
                    .collect();
                let nodes = plural(iort.nodes.len(), "node", "nodes");
                if complexes.is_empty() {
                    format!("IORT {nodes}")
                } else {
                    format!("IORT {nodes}, {}", complexes.join(", "))
                }
            }
            other => format!("IORT {}", table_is(other)),
        });
        parts.push(match &f.viot {
            Fact::Known(viot) => format!("VIOT {}", plural(viot.nodes.len(), "node", "nodes")),
            other => format!("VIOT {}", table_is(other)),
        });
        parts.push(match &f.mcfg {
            Fact::Known(windows) => format!("MCFG {}", plural(windows.len(), "window", "windows")),
            other => format!("MCFG {}", table_is(other)),
        });
        parts.push(match &f.cca {
            Fact::Known(all) if all.is_empty() => "_CCA on no device".into(),
            Fact::Known(all) => {
                let not =
                    all.iter().filter(|(_, coherent)| !**coherent).map(|(path, _)| tame(path)).collect::<Vec<_>>();
                let most =
                    if not.is_empty() { "all coherent".into() } else { format!("not coherent: {}", not.join(", ")) };
                format!("_CCA on {}, {most}", plural(all.len(), "device", "devices"))
            }
            other => format!("_CCA {}", table_is(other)),
        });
    }
    match &f.bridges {
        Fact::Known(bridges) if !bridges.is_empty() => {
            let says = |c: Option<bool>| match c {
                Some(true) => "dma-coherent",
                Some(false) => "dma-noncoherent",
                None => "says nothing of coherency",
            };
            parts.extend(bridges.iter().map(|b| format!("{} {}", tame(&b.path), says(b.coherent))));
        }
        Fact::Hole(_) => parts.push("host bridges ?".into()),
        _ => {}
    }
    parts.join("; ")
}

const fn table_is<T>(fact: &Fact<T>) -> &'static str {
    match fact {
        Fact::Known(_) => "there",
        Fact::Absent => "none",
        Fact::Hole(_) => HOLE,
    }
}

fn span(span: Span) -> String {
    format!("{:#x}-{:#x}", span.first.0, span.last.0)
}

fn mtrrs(host: &Host) -> String {
    match &host.mtrr {
        Fact::Known(all) if all.is_empty() => "no variable range".into(),
        Fact::Known(all) => {
            all.iter().map(|m| format!("{} {}", span(m.span), m.kind.upper())).collect::<Vec<_>>().join("; ")
        }
        Fact::Absent => "none: no /proc/mtrr".into(),
        Fact::Hole(_) => HOLE.into(),
    }
}

const fn cachemode(kind: ::host::Cachemode) -> &'static str {
    use ::host::Cachemode as C;
    match kind {
        C::Uncached => "UC",
        C::UncachedMinus => "UC-",
        C::WriteBack => "WB",
        C::WriteCombining => "WC",
        C::WriteThrough => "WT",
        C::WriteProtected => "WP",
    }
}

/// What the kernel has reserved of a BAR, by the PAT list.
fn reserved<'a>(host: &'a Host, at: Span) -> impl Iterator<Item = (Span, &'static str)> + use<'a> {
    host.pat.known().into_iter().flatten().filter_map(move |r| {
        let it = Span::new(::host::Pa(r.first), ::host::Pa(r.last))?;
        it.overlaps(at).then(|| (it, cachemode(r.kind)))
    })
}

fn pat(host: &Host) -> String {
    match &host.pat {
        Fact::Known(all) => {
            let combining = all.iter().filter(|r| r.kind == ::host::Cachemode::WriteCombining).count();
            format!("{}, {combining} of them write-combining", plural(all.len(), "reservation", "reservations"))
        }
        Fact::Absent => "none".into(),
        Fact::Hole(_) => HOLE.into(),
    }
}

fn matched(out: &mut String, host: &Host) {
    if host.errata.is_empty() {
        field(out, ERRATA, NO_ERRATA);
    }
    for (at, (name, title)) in errata_of(host).enumerate() {
        let label = if at == 0 { ERRATA } else { "" };
        let lines = show::wrapped(&" ".repeat(LABEL), &format!("{name}: {title}"));
        let text = lines.get(LABEL + name.len()..).unwrap_or_default();
        let _ = write!(out, "{:LABEL$}{}{text}", paint(FAINT, label), paint(BAD, name));
    }
}

/// A line of the table: its cells without the marks, and the marks.
struct Line {
    cells: [String; 10],
    glance: Option<([::plan::Answer; 3], bool)>,
}

const HEADS: [&str; 10] =
    ["address", "device", "class", "driver", "group", "BAR", "size", "flags", "_wc", "guest gets"];
/// Which of them stand to the right.
const RIGHT: [bool; 10] = [false, false, false, false, true, false, true, false, false, false];
/// The most characters of a device's name, and of a driver's.
const NAME: usize = 26;
const DRIVER: usize = 12;

fn table(out: &mut String, host: &Host, all: bool) {
    if host.functions.is_empty() {
        out.push_str("There is no PCI function here: nothing in /sys/bus/pci/devices.\n");
        return;
    }
    let machine = Machine::new(host);
    let mut lines = Vec::new();
    let mut left = 0;
    for function in host.functions.values() {
        if all || is_shown(function) {
            rows(&mut lines, &machine, function);
        } else {
            left += 1;
        }
    }
    if lines.is_empty() {
        let _ = writeln!(
            out,
            "No PCI function here has a memory BAR, but for bridges; --all shows {}.",
            plural(left, "function", "functions")
        );
        return;
    }
    let mut widths = HEADS.map(|h| h.chars().count());
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(&line.cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut head = String::new();
    for ((name, width), right) in HEADS.iter().zip(widths).zip(RIGHT) {
        let _ = if right { write!(head, "{name:>width$} ") } else { write!(head, "{name:width$} ") };
    }
    let _ = writeln!(out, "{}", paint(FAINT, format!("{head}w f s")));
    for line in &lines {
        let mut text = String::new();
        for (at, ((cell, width), right)) in line.cells.iter().zip(widths).zip(RIGHT).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            let faint = at == 9 && line.glance.is_some_and(|(_, now)| !now);
            let cell = if faint { paint(FAINT, cell).to_string() } else { cell.clone() };
            text.push_str(&if right { format!("{pad}{cell} ") } else { format!("{cell}{pad} ") });
        }
        if let Some((answers, _)) = line.glance {
            for (at, answer) in answers.into_iter().enumerate() {
                if at > 0 {
                    text.push(' ');
                }
                let _ = write!(text, "{}", paint(style(answer), glyph(answer)));
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    let mut foot = vec!["w f s: works, fast, safe, by the best way: ✓ yes  ~ maybe  ✗ no  · not asked".to_owned()];
    if lines.iter().any(|l| l.glance.is_some_and(|(_, now)| !now)) {
        foot.push(
            "(in brackets: what a guest would get; it cannot be had now, `bartender inspect BDF` says why)".to_owned(),
        );
    }
    if left > 0 {
        foot.push(format!("{} without a memory BAR, or bridges: --all", plural(left, "function", "functions")));
    }
    for line in foot {
        let _ = writeln!(out, "{}", paint(FAINT, line));
    }
}

fn rows<'a>(lines: &mut Vec<Line>, machine: &Machine<'a>, function: &'a Function) {
    let group = match &function.group {
        Fact::Known(group) => group.number.to_string(),
        Fact::Absent => "–".into(),
        Fact::Hole(_) => HOLE.into(),
    };
    let driver = match &function.driver {
        Fact::Known(driver) => short(driver, DRIVER),
        other => word(other),
    };
    let mut cells = [const { String::new() }; 10];
    cells[0] = function.bdf.to_string();
    cells[1] = short(&name(function), NAME);
    cells[2] = class_word(function.class).into();
    cells[3] = driver;
    cells[4] = group;
    let mut any = false;
    for bar in memory_bars(function) {
        let glance = machine.at_a_glance(function, bar);
        cells[5] = bar.index.to_string();
        cells[6] = bytes(bar.size.0);
        cells[7] = flags(bar);
        cells[8] = if bar.file_wc { "yes".into() } else { "–".into() };
        cells[9] = glance
            .as_ref()
            .map_or_else(String::new, |g| if g.available.is_ok() { gets(g) } else { format!("({})", gets(g)) });
        let glance = glance.map(|g| (answers(&g), g.available.is_ok()));
        lines.push(Line { cells: std::mem::replace(&mut cells, [const { String::new() }; 10]), glance });
        any = true;
    }
    if !any {
        lines.push(Line { cells, glance: None });
    }
}

/// `m64p`: memory, 64-bit, prefetchable; `io`.
fn flags(bar: &Bar) -> String {
    let mut text = String::from(if bar.io { "io" } else { "m" });
    if bar.wide {
        text.push_str("64");
    }
    if bar.prefetchable {
        text.push('p');
    }
    text
}

fn holes(out: &mut String, host: &Host) {
    const TOLD: usize = 8;
    if host.holes.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", paint(STRONG, format!("Not known: {}", plural(host.holes.len(), "hole", "holes"))));
    for (remedy, asked) in grouped(&host.holes) {
        let mut says: Vec<String> = asked
            .iter()
            .take(TOLD)
            .map(|(at, count)| if *count > 1 { format!("{at} (×{count})") } else { at.clone() })
            .collect();
        if asked.len() > TOLD {
            says.push(format!("{} more", asked.len() - TOLD));
        }
        let lines = show::wrapped("  ", &remedy);
        let _ = writeln!(out, "{}", paint(OPEN, lines.trim_end()));
        out.push_str(&show::wrapped("    ", &says.join(", ")));
    }
}

/// A device, layer by layer.
pub(super) fn device(host: &Host, function: &Function) -> String {
    let mut out = String::new();
    let full = function.name.map_or_else(String::new, |(vendor, device)| format!("{vendor} {}", device.unwrap_or("")));
    let text = format!("{} {} {:06x}  {}", function.id, class_word(function.class), function.class, tame(full.trim()));
    let _ = writeln!(out, "{}  {}", paint(STRONG, function.bdf), text.trim_end());
    field(
        &mut out,
        "kernel",
        &format!(
            "Linux {}, {}",
            word(&host.kernel.release),
            host.kernel.arch.map_or("an architecture without memory types here", Arch::name)
        ),
    );
    about(&mut out, function);
    matched(&mut out, host);

    let _ = writeln!(out, "\n{}", paint(STRONG, "DMA: does it see what the CPU has in its caches?"));
    for (label, text) in dma::says(host, function) {
        indented(&mut out, 2, LABEL, label, &text);
    }
    for text in dma::follows(host, function) {
        indented(&mut out, 2, LABEL, "→", &text);
    }

    if memory_bars(function).next().is_none() {
        let io = if function.bars.is_empty() { "" } else { ": I/O only, which has no memory type" };
        let _ = writeln!(out, "\nIt has no memory BAR{io}.");
    }
    for bar in memory_bars(function) {
        out.push('\n');
        one(&mut out, host, function, bar);
    }
    out
}

fn about(out: &mut String, function: &Function) {
    let mut parts = vec![match &function.driver {
        Fact::Known(driver) => format!("driver {}", tame(driver)),
        Fact::Absent => "no driver".into(),
        Fact::Hole(_) => "driver ?".into(),
    }];
    parts.push(match &function.group {
        Fact::Known(group) => {
            let others: Vec<String> =
                group.members.iter().filter(|b| **b != function.bdf).take(5).map(ToString::to_string).collect();
            let with = match (others.is_empty(), group.members.len()) {
                (true, _) => "alone".to_owned(),
                (false, n) if n > 6 => format!("with {} and {} more", others.join(", "), n - 6),
                (false, _) => format!("with {}", others.join(", ")),
            };
            format!("IOMMU group {} ({}), {with}", group.number, word(&group.kind))
        }
        Fact::Absent => "no IOMMU group".into(),
        Fact::Hole(_) => "IOMMU group ?".into(),
    });
    if let Some(cdev) = &function.vfio_cdev {
        parts.push(format!("VFIO cdev {}", tame(cdev)));
    }
    field(out, "bound", &parts.join("; "));
    let mut parts = Vec::new();
    if let Some(of) = function.physical {
        parts.push(format!("a virtual function of {of}"));
    }
    if !function.above.is_empty() {
        let above: Vec<String> = function.above.iter().map(ToString::to_string).collect();
        parts.push(format!("behind {}", above.join(", ")));
    }
    parts.push(match &function.power {
        Fact::Known(power) => format!("power state {}", tame(power)),
        other => format!("power state {}", word(other)),
    });
    parts.push(match &function.command {
        Fact::Known(c) => {
            let on = |b: bool| if b { "on" } else { "off" };
            format!("memory decode {}, bus mastering {}", on(c.memory), on(c.master))
        }
        other => format!("memory decode {}", table_is(other)),
    });
    field(out, "bus", &parts.join("; "));
    match &function.msix {
        Fact::Known(msix) => field(
            out,
            "MSI-X",
            &format!(
                "{}; table in BAR {} at {:#x}, pending bits in BAR {} at {:#x}",
                plural(msix.vectors.into(), "vector", "vectors"),
                msix.table.0,
                msix.table.1,
                msix.pba.0,
                msix.pba.1
            ),
        ),
        Fact::Absent => {}
        Fact::Hole(_) => field(out, "MSI-X", HOLE),
    }
    match &function.opened {
        Fact::Known(opened) => {
            let attributes = if opened.attributes.is_empty() {
                "no call for attributes".into()
            } else {
                tame(&opened.attributes.join(", "))
            };
            field(
                out,
                "VFIO says",
                &format!(
                    "opened by {}; takes No Snoop off (VFIO_DMA_CC_IOMMU) {}; {attributes}",
                    tame(&opened.by),
                    maybe(opened.enforces_coherency)
                ),
            );
        }
        Fact::Absent | Fact::Hole(_) => {}
    }
}

/// A BAR: where it is, and each way to map it.
fn one(out: &mut String, host: &Host, function: &Function, bar: &Bar) {
    let mut text = format!(
        "{}-bit, {}; {}",
        if bar.wide { 64 } else { 32 },
        if bar.prefetchable { "prefetchable" } else { "not prefetchable" },
        bar.at.map_or_else(|| "at an address that is not known".into(), |at| format!("at {}", span(at)))
    );
    let files = match (bar.file, bar.file_wc) {
        (true, true) => format!("resource{0} and resource{0}_wc", bar.index),
        (true, false) => format!("resource{0}, no resource{0}_wc", bar.index),
        (false, true) => format!("resource{}_wc alone", bar.index),
        (false, false) => "no file in sysfs".into(),
    };
    let _ = write!(text, "; {files}");
    let head = format!("BAR {}  {}", bar.index, bytes(bar.size.0));
    let lines = show::wrapped(&" ".repeat(LABEL + 4), &text);
    let pad = (LABEL + 4).saturating_sub(head.chars().count());
    let _ = write!(out, "{}{:pad$}{}", paint(STRONG, &head), "", lines.trim_start());
    let windows: Vec<String> = bar
        .behind
        .iter()
        .filter(|w| !w.io)
        .map(|w| format!("{} {}{}", w.bridge, span(w.span), if w.prefetchable { " prefetchable" } else { "" }))
        .collect();
    if !windows.is_empty() {
        indented(out, 2, TEXT, "windows", &windows.join("; "));
    }
    if let Some(at) = bar.at {
        let all: Vec<String> = reserved(host, at).map(|(s, kind)| format!("{} {kind}", span(s))).collect();
        if !all.is_empty() {
            indented(out, 2, TEXT, "PAT list", &all.join("; "));
        }
        let all: Vec<String> = host
            .mtrr
            .known()
            .into_iter()
            .flatten()
            .filter(|m| m.span.overlaps(at))
            .map(|m| format!("reg{:02} {} {}", m.register, span(m.span), m.kind.upper()))
            .collect();
        if !all.is_empty() {
            indented(out, 2, TEXT, "MTRR", &all.join("; "));
        }
    }
    if let Some(Fact::Known(region)) = function.opened.known().map(|o| match o.regions.get(&u32::from(bar.index)) {
        Some(region) => Fact::Known(region),
        None => Fact::Absent,
    }) {
        let mut parts = vec![format!("{} bytes", region.size), (if region.mmap { "mmap" } else { "no mmap" }).into()];
        if let Some(sparse) = &region.sparse {
            parts.push(format!(
                "only {}",
                sparse.iter().map(|(at, size)| format!("{at:#x}+{size:#x}")).collect::<Vec<_>>().join(", ")
            ));
        }
        if let Some(flags) = &region.vm_flags {
            parts.push(format!("VmFlags {}", tame(flags)));
        }
        indented(out, 2, TEXT, "VFIO", &parts.join(", "));
    }
    let ways = layers(host, function, bar);
    let best = at_a_glance(host, function, bar).map(|g| g.way);
    // The bus is the same whatever is mapped.
    if let Some(it) = ways.first() {
        layer(out, 2, "bus", &it.bus);
    }
    for group in folded(&ways) {
        way(out, &group, bar.index, best);
    }
}

/// Ways that come to the same, together.
fn folded(ways: &[Layers]) -> Vec<Vec<&Layers>> {
    let mut groups: Vec<Vec<&Layers>> = Vec::new();
    for it in ways {
        let same = |other: &Layers| Layers { way: it.way, ..other.clone() } == *it;
        match groups.iter_mut().find(|g| g.first().is_some_and(|o| same(o))) {
            Some(group) => group.push(it),
            None => groups.push(vec![it]),
        }
    }
    groups
}

fn way(out: &mut String, group: &[&Layers], bar: u8, best: Option<Way>) {
    let Some(it) = group.first() else { return };
    let names: Vec<String> = group.iter().map(|l| l.way.says(bar)).collect();
    let names = names.join(", or ");
    let _ = write!(out, "\n  {}", paint(STRONG, &names));
    let pad = 42usize.saturating_sub(names.chars().count());
    let _ = write!(out, "{:pad$}", "");
    for (asked, answer) in ["works", "fast", "safe"].into_iter().zip([it.works.0, it.fast.0, it.safe.0]) {
        let _ = write!(out, "  {} {asked}", paint(style(answer), glyph(answer)));
    }
    if best.is_some_and(|b| group.iter().any(|l| l.way == b)) {
        let _ = write!(out, "  {}", paint(FAINT, "← the best for a guest"));
    }
    out.push('\n');
    if let Err(why) = &it.available {
        indented(out, 4, TEXT, "not now", &tame(why));
        // What cannot be had is told of in full only if it is what a guest would be given.
        if best.is_none_or(|b| group.iter().all(|l| l.way != b)) {
            return;
        }
    }
    layer(out, 4, "host VMA", &it.vma);
    match &it.stage2 {
        Some(stage2) => layer(out, 4, "stage 2", stage2),
        None => indented(out, 4, TEXT, "stage 2", "not in a memory slot"),
    }
    guest(out, it);
    for (label, (answer, why)) in [("works", &it.works), ("fast", &it.fast), ("safe", &it.safe)] {
        let lines = show::wrapped(&" ".repeat(TEXT), &tame(why));
        let label = format!("{} {label}", glyph(*answer));
        let _ =
            write!(out, "    {:1$}{2}", paint(style(*answer), label), TEXT - 4, lines.get(TEXT..).unwrap_or_default());
    }
    for (at, text) in it.advice.iter().enumerate() {
        indented(out, 4, TEXT, if at == 0 { "do" } else { "" }, &format!("- {}", tame(text)));
    }
}

/// Where the text of a layer begins.
const TEXT: usize = 15;

/// Stands before what stands back, where text is still to be broken into lines. No text has it: [`tame`] sees to that.
const BACK: char = '\u{1}';

/// What a layer makes of a mapping, and why.
pub(super) fn says(it: &Layer) -> String {
    let mut text = tame(&it.what);
    if let Some(ty) = it.ty.map(shown).filter(|ty| !text.contains(ty)) {
        text = format!("{ty}: {text}");
    }
    if !it.why.is_empty() {
        let begins = it.why.starts_with(|c: char| c.is_ascii_uppercase());
        let _ = write!(text, "{} {}", if begins { "." } else { ";" }, tame(&it.why));
    }
    text
}

fn layer(out: &mut String, from: usize, label: &str, it: &Layer) {
    let mut text = says(it);
    let _ = match &it.sure {
        Sure::Seen(how) => write!(text, " {BACK}[seen: {}]", tame(how)),
        Sure::Rule(which) => write!(text, " {BACK}[by rule: {}]", tame(which)),
        Sure::Rests(holes) => {
            let all: Vec<String> = holes.iter().map(|h| tame(&h.to_string())).collect();
            write!(text, " {BACK}[rests on what is not known: {}]", all.join("; "))
        }
    };
    let mut lines = String::new();
    indented(&mut lines, from, TEXT, label, &text);
    match lines.trim_end().split_once(BACK) {
        Some((front, back)) => {
            let style = if matches!(it.sure, Sure::Rests(_)) { OPEN } else { FAINT };
            let _ = writeln!(out, "{front}{}", paint(style, back));
        }
        None => out.push_str(&lines),
    }
}

/// What a guest may ask, and gets: types that fare alike in one line.
fn guest(out: &mut String, it: &Layers) {
    struct Row {
        asks: Vec<String>,
        /// What it gets; nothing where each gets what it asks.
        gets: Option<Option<memtype::MemoryType>>,
        unaligned: String,
    }
    if it.guest.is_empty() {
        return;
    }
    let mut rows: Vec<Row> = Vec::new();
    for g in &it.guest {
        let asks = g.asks.map_or_else(|| "anything".to_owned(), shown);
        let gets = if g.asks.is_some() && g.asks == g.gets { None } else { Some(g.gets) };
        let unaligned = match &g.unaligned {
            Ok(()) => "works".to_owned(),
            Err(who) => tame(who),
        };
        match rows.iter_mut().find(|r| r.gets == gets && r.unaligned == unaligned) {
            Some(row) => row.asks.push(asks),
            None => rows.push(Row { asks: vec![asks], gets, unaligned }),
        }
    }
    // A type that gets itself stands with those that get it too.
    let alone = |r: &Row| (r.gets.is_none() && r.asks.len() == 1).then(|| r.asks.concat());
    if let Some(at) = rows.iter().position(|r| alone(r).is_some()) {
        let name = alone(&rows[at]);
        let same = |r: &Row| r.unaligned == rows[at].unaligned && r.gets.flatten().map(shown) == name && name.is_some();
        if let Some(to) = rows.iter().position(same) {
            let one = rows[at].asks.concat();
            rows[to].asks.insert(0, one);
            rows.remove(at);
        }
    }
    let gets = |row: &Row| match row.gets {
        None if row.asks.len() == 1 => row.asks.join(""),
        None => "as asked".to_owned(),
        Some(Some(ty)) => shown(ty),
        Some(None) => "no mapping".to_owned(),
    };
    let longest = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let asks = longest(&|r| r.asks.join(", ").chars().count()).max(4);
    let got = longest(&|r| gets(r).chars().count()).max(4);
    let head = format!("{:asks$}  {:got$}  unaligned access", "asks", "gets");
    let _ = writeln!(out, "    {:1$}{2}", paint(FAINT, "guest"), TEXT - 4, paint(FAINT, head));
    for row in &rows {
        let gets = gets(row);
        let pad = got - gets.chars().count();
        let coloured = match row.gets {
            Some(Some(ty)) => paint(show::colour_of(ty), &gets).to_string(),
            _ => gets,
        };
        let left = TEXT + asks + 2 + got + 2;
        let lines = show::wrapped(&" ".repeat(left), &row.unaligned);
        let _ = write!(
            out,
            "{:TEXT$}{:asks$}  {coloured}{:pad$}  {}",
            "",
            row.asks.join(", "),
            "",
            lines.get(left..).unwrap_or_default()
        );
    }
}
