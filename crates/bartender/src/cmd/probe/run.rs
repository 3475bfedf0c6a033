//! Maps, probes, compares.

use bar::harmless::{Harmless, harmless};
use bar::measure::Verdict;
use bar::open::{Error, Known, Way};
use bar::probe::{Kind, Memory, READS, Report, Settings};
use bar::{Attributes, Bar};
use memtype::{Arch, Attribute, MemoryType, arm, x86};

use super::agree::{Agreement, Seen, agreement};
use super::{Answer, Args, Device, Machine, Mapping};
use crate::cmd::Result;
use crate::cmd::map::by;
use crate::input;
use crate::show::Hex;

/// Whether something is wrong with the machine or the mapping, and not with the question.
pub(super) fn is_bad(report: &Report) -> bool {
    report.restored == Some(false) || report.tests.iter().any(|t| t.verdict == Verdict::Corrupt)
}

fn machine(host: &host::Host) -> Machine {
    let midr = host.cpu.midr.known().map(|all| all.iter().map(|m| format!("{:#010x} {m}", m.0)).collect());
    let midr: Vec<String> = midr.unwrap_or_default();
    let model = host.cpu.model.known().cloned().or_else(|| midr.first().cloned());
    Machine {
        kernel: host.kernel.release.known().cloned().unwrap_or_else(|| String::from("of an unknown release")),
        arch: std::env::consts::ARCH.into(),
        cpu: model.unwrap_or_else(|| String::from("an unknown CPU")),
        midr,
        hypervisor: host.kernel.hypervisor.known().cloned(),
        page: host.kernel.page.0,
    }
}

/// Ordinary memory of this process.
pub(super) fn own(args: &Args, host: &host::Host) -> Result<Answer> {
    let memory = Memory::new(64 << 10).ok_or_else(|| String::from("no memory to be had for the probe: 64 KiB"))?;
    let settings = Settings { read: true, scratch: true, unaligned: true, vectors: true, time: args.time() };
    let offset = usize::try_from(args.offset).map_err(|e| format!("--offset: {e}"))?;
    let report = bar::probe::run(memory.window(), offset, settings).map_err(|e| format!("--offset: {e}"))?;
    let predicted = match host.kernel.arch {
        Some(Arch::Arm64) => Some(MemoryType::Arm64(arm::Type::NORMAL_WB)),
        Some(Arch::X86) => Some(MemoryType::X86(x86::Type::Wb)),
        _ => None,
    };
    let agreement = agreement(predicted, seen(&report), fault(&report).as_deref(), None);
    Ok(Answer {
        machine: machine(host),
        device: None,
        controls: bar::probe::controls(),
        mappings: vec![Mapping {
            way: String::from("mmap"),
            not_mapped: None,
            predicted,
            why: String::from("anonymous memory is write-back"),
            listed: None,
            agreement,
            report: Some(report),
        }],
    })
}

const fn seen(report: &Report) -> Seen {
    match report.kind {
        Kind::Device => Seen::Device,
        Kind::Normal => Seen::Normal,
        Kind::Unknown => Seen::Nothing,
    }
}

/// The fault of the unaligned load.
fn fault(report: &Report) -> Option<String> {
    report.tests.iter().find(|t| t.name == "unaligned-load").and_then(|t| match &t.verdict {
        Verdict::Fault(kind) => Some(kind.clone()),
        _ => None,
    })
}

/// Bytes from the offset on that are mapped with --scratch; what is written is never more.
const MOST: u64 = 64 << 10;
/// The same without.
const LEAST: u64 = 64;

/// What is asked of one BAR, looked up.
struct Case<'a> {
    args: &'a Args,
    bar: Bar,
    facts: &'a host::Bar,
    plan: Vec<plan::Layers>,
    harmless: Option<&'static Harmless>,
    kind: Attribute,
    /// An arm64 guest, or what may be one.
    guest: bool,
    hypervisor: Option<&'a str>,
}

/// A BAR, in each way in which it can be mapped.
pub(super) fn device(args: &Args, host: &host::Host) -> Result<Answer> {
    let (Some(bdf), Some(index)) = (args.device, args.bar) else {
        return Err(String::from("name a device and a BAR: bartender probe 0000:01:00.0 2; or --self").into());
    };
    let function = host.functions.get(&bdf).ok_or_else(|| {
        let known: Vec<String> = host.functions.keys().take(8).map(ToString::to_string).collect();
        let there = if known.is_empty() { String::from("there is no PCI here") } else { known.join(", ") };
        format!("there is no {bdf}\nthere is: {there}")
    })?;
    let bar = Bar::open(&bar::Device::new(bdf), index).map_err(|e| e.to_string())?;
    let facts = function.bars.iter().find(|b| b.index == index);
    let facts = facts.ok_or_else(|| format!("{bdf} has no BAR {index}"))?;
    if !args.offset.is_multiple_of(64) || args.offset >= bar.size() || bar.size() - args.offset < 64 {
        let most = (bar.size() & !63).saturating_sub(64);
        return Err(format!("--offset {:#x}: a multiple of 64, of BAR {index} at most {most:#x}", args.offset).into());
    }
    // `vfio-pci` and its variants leave the device to whoever opens it; any other driver uses it.
    if let Some(driver) = function.driver.known().filter(|driver| args.scratch && !driver.contains("vfio")) {
        let hint = "unbind it, or bind the device to vfio-pci; or leave --scratch out";
        return Err(format!("{driver} drives {bdf}: nothing is written under it\n{hint}").into());
    }
    // All that any kernel has, if none is named.
    let ways: Vec<Way> = match by(args.by.as_deref())? {
        [] => Way::ALL.into_iter().filter(|way| way.helper().is_some()).collect(),
        named => named.to_vec(),
    };
    let kind = match &args.ty {
        Some(name) => {
            let names = Attribute::ALL.map(Attribute::name);
            Attribute::named(name).ok_or_else(|| input::unknown("type", name, &names))?
        }
        None => Attribute::Default,
    };
    let id = (function.id.vendor, function.id.device);
    let case = Case {
        args,
        facts,
        plan: plan::layers(host, function, facts),
        harmless: harmless(id, function.class, index, args.offset, READS as u64),
        kind,
        hypervisor: host.kernel.hypervisor.known().map(String::as_str),
        guest: host.kernel.arch == Some(Arch::Arm64) && host.kvm.known().is_none(),
        bar,
    };
    let root = function.above.first().and_then(|root| host.functions.get(root)).map(|root| root.id.to_string());
    let device = Device {
        bdf: bdf.to_string(),
        id: function.id.to_string(),
        class: format!("{:06x}", function.class),
        bar: index,
        at: facts.at.map(|span| format!("{:#x}", span.first.0)),
        size: case.bar.size(),
        prefetchable: facts.prefetchable,
        wide: facts.wide,
        driver: function.driver.known().cloned(),
        root_port: root,
        offset: Hex(args.offset),
        harmless: case.harmless.map(|it| it.why.to_owned()),
    };
    let mappings = ways.into_iter().map(|way| case.one(way)).collect();
    Ok(Answer { machine: machine(host), device: Some(device), controls: Vec::new(), mappings })
}

impl Case<'_> {
    fn one(&self, way: Way) -> Mapping {
        let plan = self.plan.iter().find(|layers| layers.way == planned(way));
        let mut out = Mapping {
            way: way.name().into(),
            not_mapped: None,
            predicted: plan.and_then(|layers| layers.vma.ty),
            why: plan.map(|layers| format!("{}: {}", layers.vma.what, layers.vma.why)).unwrap_or_default(),
            listed: None,
            agreement: Agreement::Open(String::from("not probed")),
            report: None,
        };
        let mut no = |why: String| {
            out.not_mapped = Some(why);
        };
        if out.predicted.is_some_and(|ty| !is_plain(ty)) && !self.facts.prefetchable {
            no("the BAR is not prefetchable: a register may not be read ahead or merged".into());
            return out;
        }
        let (start, most) = (self.args.offset, if self.args.scratch { MOST } else { LEAST });
        let end = start + most.min(self.bar.size() - start);
        let asked = Attributes { by: Some(way), ..Attributes::of(self.kind) };
        let mapping = match self.bar.map(start..end, asked) {
            Ok(mapping) => mapping,
            Err(Error::Refused { tried, .. }) => {
                let why: Vec<_> = tried.iter().map(|t| format!("{}. {}", t.why, t.why.remedy())).collect();
                no(why.join("; ").trim().to_owned());
                return out;
            }
            Err(other) => {
                no(other.to_string());
                return out;
            }
        };
        if let Known::Seen(mode) = mapping.ty().known {
            out.listed = Some(mode);
        }
        let normal = matches!(out.predicted, Some(MemoryType::Arm64(ty)) if !ty.is_device());
        let settings = Settings {
            read: self.args.read_ok || self.harmless.is_some(),
            scratch: self.args.scratch,
            unaligned: !(self.guest && normal) || self.args.risk_vm,
            vectors: !self.guest,
            time: self.args.time(),
        };
        let window = mapping.window().map_err(|e| e.to_string());
        match window.and_then(|window| bar::probe::run(window, 0, settings).map_err(|e| e.to_string())) {
            Ok(report) => {
                let found = agreement(out.predicted, seen(&report), fault(&report).as_deref(), out.listed);
                let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
                out.agreement = found.unless_serial(self.hypervisor, &possible);
                out.report = Some(report);
            }
            Err(why) => out.not_mapped = Some(why),
        }
        out
    }
}

/// Whether it merges nothing and reads nothing ahead.
fn is_plain(ty: MemoryType) -> bool {
    use memtype::guarantee::{Question, Standing};
    let no = |question| ty.guarantee(question).is_none_or(|it| it.standing == Standing::Forbidden);
    no(Question::Gather) && no(Question::SpeculativeRead)
}

/// The way by the name that a plan has for it: VFIO is one whichever way it is opened.
const fn planned(way: Way) -> plan::Way {
    match way {
        Way::VfioGroup | Way::VfioCdev => plan::Way::Vfio,
        Way::VfioAlias | Way::VfioDmaBuf => plan::Way::VfioWriteCombine,
        Way::Sysfs => plan::Way::Sysfs,
        Way::SysfsWc => plan::Way::SysfsWriteCombine,
    }
}
