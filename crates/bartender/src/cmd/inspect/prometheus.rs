//! Metrics for the textfile collector of Prometheus' node_exporter, in the text format 0.0.4: HELP and TYPE before the samples of a
//! name, labels in quotation marks with `\\`, `\"` and `\n` escaped, no time stamps (the collector refuses them).

use std::fmt::{Display, Write as _};

use ::host::{Fact, Host};
use ::plan::{Answer, Machine, Way};

use super::{grouped, is_bridge, memory_bars};

/// A value of a label.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

/// The metrics of one name.
struct Metric {
    name: &'static str,
    help: &'static str,
    samples: String,
}

impl Metric {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, samples: String::new() }
    }
    fn add(&mut self, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.samples.push_str(self.name);
        for (at, (name, text)) in labels.iter().enumerate() {
            let _ =
                write!(self.samples, "{}{name}=\"{}\"", if at == 0 { '{' } else { ',' }, escaped(&text.to_string()));
        }
        if !labels.is_empty() {
            self.samples.push('}');
        }
        let _ = writeln!(self.samples, " {value}");
    }
    fn write(&self, out: &mut String) {
        if !self.samples.is_empty() {
            let _ = write!(out, "# HELP {0} {1}\n# TYPE {0} gauge\n{2}", self.name, self.help, self.samples);
        }
    }
}

/// 1 yes, 0.5 maybe, 0 no; nothing where the question does not arise.
const fn value(answer: Answer) -> Option<f64> {
    match answer {
        Answer::Yes => Some(1.0),
        Answer::Maybe => Some(0.5),
        Answer::No => Some(0.0),
        Answer::NotAsked => None,
    }
}

/// The file.
pub(super) fn file(host: &Host) -> String {
    let mut out = String::new();
    for metric in machine(host).iter().chain(&bars(host)) {
        metric.write(&mut out);
    }
    out
}

fn machine(host: &Host) -> Vec<Metric> {
    let mut info = Metric::new("bartender_kernel_info", "The running kernel.");
    let release = host.kernel.release.known().map_or("", String::as_str);
    let arch = host.kernel.arch.map_or("", memtype::Arch::name);
    info.add(&[("release", &release), ("arch", &arch)], 1);

    let mut cpu = Metric::new(
        "bartender_cpu_feature",
        "Whether the CPU has a feature that decides memory types. Not known: no sample.",
    );
    let c = &host.cpu;
    for (name, fact) in [
        ("fwb", &c.fwb),
        ("dic", &c.dic),
        ("ls64", &c.ls64),
        ("dgh", &c.dgh),
        ("pat", &c.pat),
        ("mtrr", &c.mtrr),
        ("self-snoop", &c.self_snoop),
        ("movdir64b", &c.movdir64b),
    ] {
        if let Fact::Known(has) = fact {
            cpu.add(&[("feature", &name)], u8::from(*has));
        }
    }

    let mut vfio = Metric::new("bartender_vfio", "Whether there is a part of VFIO.");
    let v = &host.vfio;
    for (name, has) in [("container", v.container), ("iommufd", v.iommufd), ("vfio-pci", v.driver)] {
        vfio.add(&[("part", &name)], u8::from(has));
    }

    let mut iommu = Metric::new("bartender_iommu_info", "The IOMMUs.");
    let mut enforces =
        Metric::new("bartender_iommu_enforces_coherency", "Whether an IOMMU takes No Snoop off. Not known: no sample.");
    for (name, it) in &host.iommus {
        let kind = serde_json::to_value(it.kind).ok();
        let kind = kind.as_ref().and_then(|k| k.as_str()).unwrap_or("other");
        iommu.add(&[("iommu", name), ("kind", &kind)], 1);
        if let Some(b) = it.enforces.known() {
            enforces.add(&[("iommu", name)], u8::from(*b));
        }
    }

    let mut errata = Metric::new("bartender_erratum", "An erratum that matches this machine.");
    for name in &host.errata {
        errata.add(&[("name", name)], 1);
    }

    let mut holes = Metric::new("bartender_holes", "How many things could not be found out, by what would fill them.");
    for (remedy, asked) in grouped(&host.holes) {
        holes.add(&[("remedy", &remedy)], asked.iter().map(|(_, count)| count).sum::<usize>());
    }
    vec![info, cpu, vfio, iommu, enforces, errata, holes]
}

fn bars(host: &Host) -> Vec<Metric> {
    let mut info = Metric::new("bartender_function_info", "A PCI function with a memory BAR.");
    let mut size = Metric::new("bartender_bar_size_bytes", "The size of a memory BAR.");
    let mut can = Metric::new("bartender_bar_available", "Whether a BAR can be mapped that way now.");
    let mut ty = Metric::new(
        "bartender_bar_guest_type",
        "What a guest gets that asks for write-combining, where a BAR is mapped that way.",
    );
    let mut works = Metric::new(
        "bartender_bar_works",
        "Whether a guest's driver that maps it write-combining works: 1 yes, 0.5 maybe, 0 no.",
    );
    let mut fast = Metric::new("bartender_bar_fast", "Whether its bursts are combined: 1 yes, 0.5 maybe, 0 no.");
    let mut safe =
        Metric::new("bartender_bar_safe", "Whether a guest can do no harm through it: 1 yes, 0.5 maybe, 0 no.");
    let machine = Machine::new(host);
    for function in host.functions.values().filter(|f| !is_bridge(f)) {
        let bdf = &function.bdf;
        if memory_bars(function).next().is_some() {
            let (vendor, device) = (format!("{:04x}", function.id.vendor), format!("{:04x}", function.id.device));
            let driver = function.driver.known().map_or("", String::as_str);
            let class = format!("{:06x}", function.class);
            info.add(
                &[("bdf", bdf), ("vendor", &vendor), ("device", &device), ("class", &class), ("driver", &driver)],
                1,
            );
        }
        for bar in memory_bars(function) {
            let index = &bar.index;
            let prefetchable = u8::from(bar.prefetchable);
            size.add(&[("bdf", bdf), ("bar", index), ("prefetchable", &prefetchable)], bar.size.0);
            let best = machine.at_a_glance(function, bar).map(|g| g.way);
            for it in machine.layers(function, bar) {
                let way = &it.way.name();
                can.add(&[("bdf", bdf), ("bar", index), ("way", way)], u8::from(it.available.is_ok()));
                // What cannot be had is told of only if it is what a guest would be given.
                if it.available.is_err() && Some(it.way) != best {
                    continue;
                }
                if let Some(gets) = it.asked_wc().and_then(|row| row.gets).filter(|_| it.way != Way::Trap) {
                    ty.add(&[("bdf", bdf), ("bar", index), ("way", way), ("type", &gets.name())], 1);
                }
                for (metric, answer) in [(&mut works, it.works.0), (&mut fast, it.fast.0), (&mut safe, it.safe.0)] {
                    if let Some(value) = value(answer) {
                        metric.add(&[("bdf", bdf), ("bar", index), ("way", way)], value);
                    }
                }
            }
        }
    }
    vec![info, size, can, ty, works, fast, safe]
}
