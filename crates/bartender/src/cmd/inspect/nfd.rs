//! A feature file for the `local` source of Kubernetes Node Feature Discovery.
//!
//! The format (NFD v0.18, docs/usage/customization-guide.md and source/local/local.go): lines `<namespace>/<name>=<value>`, comments with
//! `#`, `# +no-label` keeps the next line from being a label of the node (it is still a feature that a NodeFeatureRule can match), and at
//! most 64 KiB. Names and values are those of Kubernetes labels: at most 63 characters of `[A-Za-z0-9._-]` that begin and end with a letter
//! or a digit.
//!
//! Devices are named by vendor and device id: addresses of functions and of BARs may change from one boot to the next.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ::host::{Fact, Host};
use ::plan::{Answer, Glance, Machine, Way};
use memtype::Arch;

use super::{is_bridge, memory_bars};

/// Always allowed by nfd-master, unlike others.
const NAMESPACE: &str = "feature.node.kubernetes.io/bartender.";
/// NFD reads no larger file.
const MOST: usize = 65_536;
/// Kept for the lines that say what was left out.
const SPARE: usize = 256;
/// The longest name and value of a label.
const LABEL: usize = 63;

/// The file.
pub(super) fn file(host: &Host) -> String {
    let mut out = String::from(
        "# bartender inspect --nfd: what guests get of this machine's BARs. docs/inspect.md has the names.\n",
    );
    for (name, value) in machine(host) {
        line(&mut out, &name, &value);
    }
    let mut left = 0;
    for ((id, bar), it) in devices(host) {
        let mut lines = String::new();
        for (what, value) in [
            ("now", it.now.to_string()),
            ("type", it.ty),
            ("works", it.works.1),
            ("fast", it.fast.1),
            ("safe", it.safe.1),
        ] {
            if !it.prefetchable {
                lines.push_str("# +no-label\n");
            }
            line(&mut lines, &format!("pci-{id}.bar{bar}.{what}"), &value);
        }
        if left > 0 || out.len() + lines.len() + SPARE > MOST {
            left += 1;
        } else {
            out.push_str(&lines);
        }
    }
    if left > 0 {
        let _ = writeln!(out, "# {left} more BARs: NFD reads no file of more than 64 KiB");
        line(&mut out, "truncated", "true");
    }
    out
}

fn line(out: &mut String, name: &str, value: &str) {
    let (name, value) = (label(name), label(value));
    if !name.is_empty() && !value.is_empty() {
        let _ = writeln!(out, "{NAMESPACE}{name}={value}");
    }
}

/// As a label may be: what may not stand in it becomes `-`, and it begins and ends with a letter or a digit. `NAMESPACE` has a part of the
/// name after the `/`, which counts too.
fn label(text: &str) -> String {
    let most = LABEL - "bartender.".len();
    let text: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .take(most)
        .collect();
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Facts of the whole machine. What is a hole has no line.
fn machine(host: &Host) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, value: String| {
        all.insert(name.to_owned(), value);
    };
    let yes = |b: bool| b.to_string();
    if let Some(arch) = host.kernel.arch {
        put("arch", arch.name().into());
    }
    if let Some((major, minor, _)) = host.kernel.version {
        put("kernel", format!("{major}.{minor}"));
    }
    let features: &[(&str, &Fact<bool>)] = match host.kernel.arch {
        Some(Arch::Arm64) => {
            &[("fwb", &host.cpu.fwb), ("dic", &host.cpu.dic), ("ls64", &host.cpu.ls64), ("dgh", &host.cpu.dgh)]
        }
        Some(Arch::X86) => &[
            ("pat", &host.cpu.pat),
            ("mtrr", &host.cpu.mtrr),
            ("self-snoop", &host.cpu.self_snoop),
            ("movdir64b", &host.cpu.movdir64b),
        ],
        _ => &[],
    };
    for (name, fact) in features {
        match fact {
            Fact::Known(b) => put(&format!("cpu.{name}"), yes(*b)),
            Fact::Absent => put(&format!("cpu.{name}"), yes(false)),
            Fact::Hole(_) => {}
        }
    }
    match &host.kvm {
        Fact::Known(kvm) => {
            put("kvm", yes(true));
            if host.kernel.arch == Some(Arch::Arm64) {
                put("kvm.cacheable-pfnmap", yes(kvm.cacheable_pfnmap == Some(true)));
            }
        }
        Fact::Absent => put("kvm", yes(false)),
        Fact::Hole(_) => {}
    }
    put("vfio", yes(host.vfio.driver));
    put("vfio.container", yes(host.vfio.container));
    put("vfio.iommufd", yes(host.vfio.iommufd));
    put("iommu", yes(!host.iommus.is_empty()));
    // Of several, the least: a workload may land behind any of them.
    let each: Vec<Option<bool>> = host.iommus.values().map(|i| i.enforces.known().copied()).collect();
    if !each.is_empty() && each.iter().all(Option::is_some) {
        put("iommu.enforces-coherency", yes(each.iter().all(|e| *e == Some(true))));
    }
    for name in &host.errata {
        put(&format!("erratum.{name}"), yes(true));
    }
    put("holes", yes(!host.holes.is_empty()));
    all
}

/// What is said of a BAR of a kind of device. Of several such devices: the least of each.
struct Kind {
    prefetchable: bool,
    /// It can be had on this node as it is.
    now: bool,
    ty: String,
    works: (u8, String),
    fast: (u8, String),
    safe: (u8, String),
}

fn rank(answer: Answer) -> (u8, String) {
    let (rank, name) = match answer {
        Answer::No => (0, "no"),
        Answer::Maybe => (1, "maybe"),
        Answer::NotAsked => (2, "not-asked"),
        Answer::Yes => (3, "yes"),
    };
    (rank, name.into())
}

fn ty(glance: &Glance) -> String {
    match glance.gets {
        _ if glance.way == Way::Trap => "trapped".into(),
        Some(ty) => ty.name().into(),
        None => "unknown".into(),
    }
}

fn devices(host: &Host) -> BTreeMap<(String, u8), Kind> {
    let mut all: BTreeMap<(String, u8), Kind> = BTreeMap::new();
    let machine = Machine::new(host);
    for function in host.functions.values().filter(|f| !is_bridge(f)) {
        let id = format!("{:04x}-{:04x}", function.id.vendor, function.id.device);
        for bar in memory_bars(function) {
            let Some(glance) = machine.at_a_glance(function, bar) else { continue };
            let new = Kind {
                prefetchable: bar.prefetchable,
                now: glance.available.is_ok(),
                ty: ty(&glance),
                works: rank(glance.works),
                fast: rank(glance.fast),
                safe: rank(glance.safe),
            };
            match all.get_mut(&(id.clone(), bar.index)) {
                None => {
                    all.insert((id.clone(), bar.index), new);
                }
                Some(old) => {
                    if old.ty != new.ty {
                        old.ty = "differs".into();
                    }
                    old.prefetchable |= new.prefetchable;
                    old.now &= new.now;
                    old.works = old.works.clone().min(new.works);
                    old.fast = old.fast.clone().min(new.fast);
                    old.safe = old.safe.clone().min(new.safe);
                }
            }
        }
    }
    all
}
