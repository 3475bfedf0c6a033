//! `bartender plan`: for a VM with devices, what is direct, what is trapped, of which type, what is refused, and what to tell the
//! guest.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use memtype::MemoryType;
use plan::request::{MAX_BYTES, request};
use plan::viommu::{ViommuFirmware, ViommuPlan};
use plan::{BarPlan, DevicePlan, Gets, How, Layer, PartPlan, Plan, Sure, VmRequest};
use viommu::coherency::{Dma, NoSnoop, Walks};

use super::{Error, Result};
use crate::gather::{self, Where};
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mThe file:\u{1b}[0m
  docs/plan.md describes it; --example writes one for this machine. Of each BAR it says what the guest is to have of
  it, and of parts of it: registers, write-combine, cached or trap. What is left out is decided by the device's
  prefetchable bit. The exit code is 1 where KVM, VFIO or the machine would refuse what is asked.

",
    examples![
        "bartender plan --example" => "a file with the devices of this machine",
        "bartender plan crates/plan/tests/vms/emulated.toml --root crates/host/tests/fixtures/arm64-6.12" => "two devices of an emulated host, by its snapshot",
        "bartender plan crates/plan/tests/vms/viommu.toml --root crates/host/tests/fixtures/arm64-6.12" => "the same behind a virtio-iommu: what it can say of their coherency",
    ],
    "

\u{1b}[1m\u{1b}[4mWith a file:\u{1b}[0m
  bartender plan vm.toml
      what to do for this VM on this machine
  bartender plan vm.toml --root snapshot --json
      the same on a machine of which there is a snapshot, for a VMM to read"
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The VM; `-` is standard input
    #[arg(value_name = "VM.toml", required_unless_present = "example", conflicts_with = "example")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: Where,
    /// Open its devices through VFIO, which resets them, to see instead of to derive
    #[arg(long, conflicts_with_all = ["example", "root"])]
    open: bool,
    /// Print a file that asks for the devices of this machine
    #[arg(long, conflicts_with = "json")]
    example: bool,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// The file cannot be read, or is no VM; the snapshot cannot be read.
pub fn run(args: &Args) -> Result {
    let Some(file) = &args.file else {
        let (host, _) = gather::gather(&args.place, &[])?;
        show::text(&plan::example(&host))?;
        return Ok(ExitCode::SUCCESS);
    };
    let asked = read(file)?;
    let open: Vec<_> = if args.open { asked.devices.iter().map(|d| d.bdf).collect() } else { Vec::new() };
    let (host, _) = gather::gather(&args.place, &open)?;
    let plan = plan::vm(&host, &asked);
    if args.json {
        show::json(&plan)?;
    } else {
        show::text(&text(&plan))?;
    }
    Ok(if plan.possible { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(file: &Path) -> Result<VmRequest> {
    let cannot = |e: std::io::Error| {
        let hint = "`bartender plan --example` writes such a file";
        Error::Input(format!("cannot read {}: {e}\n{hint}", file.display()))
    };
    // One byte more than may be: the parser says so.
    let most = MAX_BYTES as u64 + 1;
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_string(&mut text).map_err(cannot)?;
    } else {
        std::fs::File::open(file).and_then(|f| f.take(most).read_to_string(&mut text)).map_err(cannot)?;
    }
    request(&file.display().to_string(), &text).map_err(|e| Error::Input(e.to_string()))
}

/// The plan for people.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    let verdict = if plan.possible { paint(GOOD, "can be had") } else { paint(BAD, "is refused") };
    let arch = plan.arch.map_or("an architecture not known here", memtype::Arch::name);
    let _ = writeln!(out, "The VM {verdict} on {}, {arch}.", plan.kernel);
    if !plan.refusals.is_empty() {
        let _ = writeln!(out, "\n{}", paint(STRONG, "Refused"));
    }
    for it in &plan.refusals {
        let mut whose = it.device.map_or_else(String::new, |bdf| format!("{bdf} "));
        match it.bars.as_slice() {
            [] => {}
            [bar] => {
                let _ = write!(whose, "BAR {bar} ");
            }
            bars => {
                let bars: Vec<_> = bars.iter().map(ToString::to_string).collect();
                let _ = write!(whose, "BARs {} ", bars.join(", "));
            }
        }
        let whose = whose.trim_end();
        let colon = if whose.is_empty() { "" } else { ": " };
        field(&mut out, it.by.name(), &format!("{whose}{colon}{}", it.why));
        if let Some(remedy) = &it.remedy {
            field(&mut out, "", &format!("remedy: {remedy}"));
        }
    }
    if !plan.warnings.is_empty() {
        let _ = writeln!(out, "\n{}", paint(STRONG, "Beware"));
    }
    for warning in &plan.warnings {
        out.push_str(&show::wrapped("  - ", warning));
    }
    for device in &plan.devices {
        one(&mut out, device);
    }
    let _ = writeln!(out, "\n{}", paint(STRONG, "Tell KVM"));
    let told = if plan.kvm.vfio_device { "needed" } else { "not needed" };
    field(&mut out, "VFIO device", &format!("{told}: {}", plan.kvm.vfio_device_why));
    if let Some(ram) = &plan.kvm.ram {
        field(&mut out, "RAM", &format!("EPT {ram}"));
    }
    if plan.kvm.guest_pat_quirk == Some(true) {
        let says = "KVM_X86_QUIRK_IGNORE_GUEST_PAT (KVM_CAP_DISABLE_QUIRKS2, bit 9) can be disabled: only for a guest that maps \
                    its RAM uncached for a virtual device; no BAR depends on it";
        field(&mut out, "quirk", says);
    }
    let _ = writeln!(out, "\n{}", paint(STRONG, "Tell the guest"));
    let told = &plan.firmware;
    let yes = |it: bool| if it { "yes" } else { "no" };
    if let Some(cca) = told.cca {
        field(&mut out, "ACPI", &format!("_CCA of the PCI host bridge = {cca}"));
    }
    if let Some(coherent) = told.dma_coherent {
        let says = if coherent { "dma-coherent" } else { "dma-noncoherent" };
        field(&mut out, "device tree", &format!("{says} on the node of the PCI host bridge"));
    }
    if let Some(it) = told.iort {
        let bit = u8::from;
        let says = format!("CCA {}, CPM {}, DACS {}, CANWBS {}", it.cca, bit(it.cpm), bit(it.dacs), bit(it.canwbs));
        field(&mut out, "IORT", &format!("root complex: {says}"));
    }
    if let Some(cohacc) = told.smmu_cohacc {
        field(&mut out, "SMMUv3", &format!("COHACC override, or dma-coherent on its node: {}", yes(cohacc)));
    }
    if let Some(it) = &told.viommu {
        field(&mut out, "IOMMU", &described(it));
    }
    for why in &told.because {
        field(&mut out, "", why);
    }
    if let Some(it) = &plan.viommu {
        viommu(&mut out, it);
    }
    out
}

/// What firmware says of a virtio-iommu.
fn described(it: &ViommuFirmware) -> String {
    let ranges: Vec<_> = it.ranges.iter().map(|r| format!("{:#x} to {:#x}", r.first, r.first + r.count - 1)).collect();
    let behind = if ranges.is_empty() { "every requester id but its own".into() } else { ranges.join(" and ") };
    let at = it.at.map_or_else(String::new, |at| format!(" at {at}"));
    match (&it.compatible, it.reg) {
        (Some(names), reg) => {
            let reg = reg.map_or_else(String::new, |reg| format!(", reg = <{reg:#x} 0 0 0 0>"));
            format!("a node \"{}\"{at} below the host bridge's{reg}; iommu-map with {behind}", names.join("\", \""))
        }
        (None, _) => format!("VIOT: a virtio-iommu on PCI{at}, and a PCI range with {behind}"),
    }
}

/// The endpoints of a virtio-iommu.
fn viommu(out: &mut String, plan: &ViommuPlan) {
    let _ = writeln!(out, "\n{}", paint(STRONG, "Endpoints of the virtio-iommu"));
    let host = plan.host.map_or("?", plan::HostSide::name);
    field(out, "host", &format!("{host}: {}", plan.spaces_why));
    let head = format!(
        "{:<14} {:<13} {:<9} {:<13} {:<13} {}",
        "", "DMA", "No Snoop", "walks", "non-cacheable", "Enable No Snoop"
    );
    let _ = writeln!(out, "  {}", paint(FAINT, head));
    for it in &plan.endpoints {
        let c = it.coherency;
        let style = |known: bool| if known { GOOD } else { OPEN };
        // Padded before it is painted: colours have no width.
        let cell = |text: &str, width: usize, known: bool| paint(style(known), format!("{text:<width$}"));
        let _ = writeln!(
            out,
            "  {:<14} {} {} {} {:<13} {}",
            it.bdf.to_string(),
            cell(c.dma.name(), 13, c.dma != Dma::Unknown),
            cell(c.no_snoop.name(), 9, c.no_snoop != NoSnoop::Unknown),
            cell(c.walks.name(), 13, c.walks != Walks::Unknown),
            if c.non_cacheable { "yes" } else { "no" },
            it.enable_no_snoop.says(),
        );
    }
    for it in &plan.endpoints {
        for (what, how) in [("DMA", &it.dma_sure), ("No Snoop", &it.no_snoop_sure), ("walks", &it.walks_sure)] {
            if let Sure::Rests(_) = how {
                field(out, "", &format!("{} {what}: {}", it.bdf, sure(how)));
            }
        }
    }
    if let Some(it) = plan.endpoints.first() {
        field(out, "mappings", &format!("non-cacheable: {}", it.non_cacheable_why));
    }
    for it in &plan.apart {
        let (a, b) = it.endpoints;
        field(out, "apart", &format!("{a} and {b} in no domain together: {}", it.why));
    }
    let offered = match (plan.offers_coherency, plan.endpoints.iter().any(|it| it.coherency.non_cacheable)) {
        (true, true) => {
            "offered: a property of each endpoint says the above, and MAP_F_NON_CACHEABLE can be had where it says so"
        }
        (true, false) => "offered: a property of each endpoint says the above; none can have MAP_F_NON_CACHEABLE",
        (false, _) => "not offered: the guest has what firmware says, and nothing of No Snoop",
    };
    field(out, "F_COHERENCY", offered);
}

/// The column after the label.
const TEXT: usize = 14;

fn field(out: &mut String, label: &str, text: &str) {
    let lines = show::wrapped(&" ".repeat(TEXT), text);
    let _ = write!(out, "  {:<12}{}", paint(FAINT, label), lines.get(TEXT..).unwrap_or_default());
}

fn one(out: &mut String, device: &DevicePlan) {
    let name = device.name.as_ref().map_or_else(String::new, |n| format!("{n}  "));
    let _ = writeln!(out, "\n{}", paint(STRONG, format!("{name}{}", device.bdf)));
    let files: Vec<&str> = device.group.iter().chain(&device.cdev).map(String::as_str).collect();
    if !files.is_empty() {
        field(out, "file", &files.join(" or "));
    }
    for (i, bar) in device.bars.iter().enumerate() {
        table(out, bar, device.bars.get(..i).unwrap_or_default());
    }
    let snoops = if device.coherent { "DMA snoops" } else { "DMA does not snoop" };
    field(out, "coherent", &format!("{snoops}: {}", sure(&device.coherent_sure)));
    let mask = if device.no_snoop.mask { "keep Enable No Snoop clear" } else { "Enable No Snoop is the guest's" };
    field(out, "No Snoop", &format!("{mask}: {}", device.no_snoop.why));
}

/// A BAR; what is as of one `above` is not said again.
fn table(out: &mut String, bar: &BarPlan, above: &[BarPlan]) {
    let kind = match (bar.io, bar.wide) {
        (true, _) => "I/O",
        (false, true) => "64-bit",
        (false, false) => "32-bit",
    };
    let bit = if bar.io || bar.window == "prefetchable" { "" } else { "non-" };
    let what = if bar.io { kind.to_owned() } else { format!("{kind} {bit}prefetchable, as the guest's is to be") };
    field(out, &format!("BAR {}", bar.index), &what);
    if bar.guest_size != bar.size {
        field(out, "", &format!("the guest's has {:#x} bytes: it cannot be smaller than a page", bar.guest_size));
    }
    let _ = writeln!(
        out,
        "{:TEXT$}{}",
        "",
        paint(FAINT, format!("{:<14} {:<14} {:<7} {:<14} {}", "offset", "size", "how", "wanted", "align"))
    );
    for part in &bar.parts {
        row(out, part);
    }
    let same = |it: fn(&BarPlan) -> Option<&Layer>| {
        let there = above.iter().find(|b| it(b).is_some() && it(b) == it(bar))?;
        Some(format!("as of BAR {}", there.index))
    };
    if let Some(vma) = &bar.vma {
        field(out, "  VMM", &same(|b| b.vma.as_ref()).unwrap_or_else(|| layer(vma)));
    }
    if let Some(stage2) = &bar.stage2 {
        let as_above = same(|b| b.stage2.as_ref());
        field(out, "  stage 2", as_above.as_ref().unwrap_or(&layer(stage2)));
        if as_above.is_some() {
            return;
        }
    }
    let (own, other): (Vec<&Gets>, Vec<&Gets>) = bar.guest.iter().partition(|it| it.asks == it.gets);
    let mut gets: Vec<String> = other.into_iter().map(guest).collect();
    if !own.is_empty() {
        gets.insert(0, format!("as it asks: {}", own.into_iter().map(guest).collect::<Vec<_>>().join(", ")));
    }
    if !gets.is_empty() {
        field(out, "  guest", &gets.join("; "));
    }
}

/// What it asks and, where that is another, what it gets; and what an unaligned access does that bare metal would perform.
fn guest(it: &Gets) -> String {
    let (asks, gets) = (shown(it.asks), shown(it.gets));
    let normal = matches!(it.asks, Some(MemoryType::Arm64(ty)) if !ty.is_device());
    let ends = if it.unaligned.is_err() && normal && it.gets.is_some() { " (aligned accesses only)" } else { "" };
    if asks == gets { format!("{asks}{ends}") } else { format!("{asks} → {gets}{ends}") }
}

fn row(out: &mut String, part: &PartPlan) {
    let style = match part.how {
        How::Direct => GOOD,
        How::Trap => OPEN,
    };
    let align = match &part.slot {
        Some(slot) if slot.align_offset == 0 => format!("{:#x}", slot.align),
        Some(slot) => format!("{:#x} + {:#x}", slot.align, slot.align_offset),
        None => part.why.clone(),
    };
    let head = format!("{:<14} {:<14} ", format!("{:#x}", part.offset), format!("{:#x}", part.size));
    // What of a reason does not fit stands below it.
    let indent = TEXT + head.len() + 8 + 15;
    let lines = show::wrapped(&" ".repeat(indent), &align);
    let rest = lines.get(indent..).unwrap_or_default();
    let _ = write!(out, "{:TEXT$}{head}{:<7} {:<14} {rest}", "", paint(style, part.how.name()), part.want.name());
}

fn layer(layer: &Layer) -> String {
    let dot = if layer.why.ends_with('.') { "" } else { "." };
    format!("{}: {}{dot} {}", layer.what, layer.why, sure(&layer.sure))
}

fn sure(sure: &Sure) -> String {
    match sure {
        Sure::Seen(how) => format!("Seen: {how}."),
        Sure::Rule(rule) => match rule.strip_prefix("by ") {
            Some(rest) => format!("By {rest}."),
            None => format!("By rule: {rule}."),
        },
        Sure::Rests(holes) => {
            let holes: Vec<_> = holes.iter().map(ToString::to_string).collect();
            format!("It rests on what is not known: {}.", holes.join("; "))
        }
    }
}

fn shown(ty: Option<MemoryType>) -> String {
    ty.map_or_else(|| "?".into(), |ty| ty.name().to_owned())
}
