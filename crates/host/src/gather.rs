//! From files to facts.

mod firmware;
mod iommu;
mod kernel;
mod pci;

use std::collections::{BTreeSet, HashSet};

use platform::errata;

use crate::fact::{Fact, Hole, Why};
use crate::facts::{Asked, Coherent, Cpu, Firmware, Function, Host, Iommu, Kernel, Kvm, Vfio};
use crate::pick;
use crate::root::Root;

impl Host {
    /// Gathers what the files under a root say, together with what has no file. Nothing is changed by that: no file is written, and
    /// no device that sleeps in D3cold is woken by a look at its configuration space.
    #[must_use]
    pub fn gather(root: &Root, asked: &Asked) -> Self {
        root.was_asked(asked);
        let cpuinfo = must("/proc/cpuinfo", root.picked("/proc/cpuinfo", 8 << 20, |text| Ok(pick::cpuinfo(text))));
        let kernel = kernel::kernel(root, asked, &cpuinfo);
        let cpu = kernel::cpu(root, asked, &kernel, &cpuinfo);
        let kvm = kernel::kvm(root, asked);
        let vfio = vfio(root);
        let (firmware, said) = firmware::firmware(root);
        let iommus = iommu::iommus(root, &kernel, &firmware, &said);
        let functions = pci::functions(root, asked, &kernel, &firmware, &said);
        let (pat, mtrr) = kernel::x86(root, &kernel);
        let ram = kernel::ram(root);
        let errata = errata(&cpu, &firmware, functions.values());
        let mut host =
            Self { kernel, cpu, kvm, vfio, iommus, functions, firmware, pat, mtrr, ram, errata, holes: Vec::new() };
        host.holes = holes(&host);
        host
    }
}

/// A hole.
fn hole<T>(at: impl Into<String>, why: Why) -> Fact<T> {
    Fact::Hole(Hole { at: at.into(), why })
}

/// What every machine has: that the file is not there says nothing.
fn must<T>(at: &str, fact: Fact<T>) -> Fact<T> {
    match fact {
        Fact::Absent => hole(at, Why::Failed(String::from("there is no such file"))),
        other => other,
    }
}

/// A file's text is not understood.
fn malformed<T>(at: impl Into<String>, what: &str) -> Fact<T> {
    hole(at, Why::Malformed(format!("`{what:.80}`")))
}

fn vfio(root: &Root) -> Vfio {
    let has = |folder: &str, name: &str| {
        root.list(folder, |n| matches!(n, "vfio" | "iommu" | "vfio-pci"))
            .known()
            .is_some_and(|names| names.iter().any(|n| n == name))
    };
    let noiommu = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    Vfio {
        container: has("/dev/vfio", "vfio"),
        iommufd: has("/dev", "iommu"),
        driver: has("/sys/bus/pci/drivers", "vfio-pci"),
        noiommu: flag(root, noiommu),
    }
}

/// A parameter of a module: `Y` or `N`, `1` or `0`.
fn flag(root: &Root, path: &str) -> Fact<bool> {
    root.text(path).and_then(|text| match text.as_str() {
        "Y" | "y" | "1" => Fact::Known(true),
        "N" | "n" | "0" => Fact::Known(false),
        other => malformed(path, other),
    })
}

/// The errata that match: by CPU, by host bridge or root port, by the device tree's root.
fn errata<'a>(cpu: &Cpu, firmware: &Firmware, functions: impl Iterator<Item = &'a Function>) -> Vec<&'static str> {
    // Class 0x0600: host bridge, 0x0604: PCI bridge.
    let ports: Vec<_> = functions
        .filter(|f| f.above.is_empty() && matches!(f.class >> 8, 0x0600 | 0x0604))
        .map(|f| f.id)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let compatible: Vec<&str> = firmware.compatible.iter().map(String::as_str).collect();
    let mut found: Vec<&'static str> = Vec::new();
    let midrs = cpu.midr.known().map(Vec::as_slice).unwrap_or_default();
    for midr in midrs.iter().copied().map(Some).chain([None]) {
        for erratum in errata::matching(midr, &ports, &compatible) {
            if !found.contains(&erratum.name.as_str()) {
                found.push(&erratum.name);
            }
        }
    }
    found
}

/// Every hole, in the order of the facts, each once. That a device was not opened is none: nobody is expected to.
fn holes(host: &Host) -> Vec<Hole> {
    #[derive(Default)]
    struct Found(Vec<Hole>, HashSet<Hole>);
    impl Found {
        fn see<T>(&mut self, fact: &Fact<T>) {
            if let Some(hole) = fact.hole()
                && self.1.insert(hole.clone())
            {
                self.0.push(hole.clone());
            }
        }
    }
    let Host { kernel, cpu, kvm, vfio, iommus, functions, firmware, pat, mtrr, ram, errata: _, holes: _ } = host;
    let mut all = Found::default();
    let Kernel { release, version: _, arch: _, page: _, parameters, lockdown, hypervisor } = kernel;
    all.see(release);
    all.see(parameters);
    all.see(lockdown);
    all.see(hypervisor);
    let Cpu { model, midr, fwb, dic, ls64, dgh, pat: cpu_pat, mtrr: cpu_mtrr, self_snoop, movdir64b, vmx, svm } = cpu;
    all.see(model);
    all.see(midr);
    for fact in [fwb, dic, ls64, dgh, cpu_pat, cpu_mtrr, self_snoop, movdir64b, vmx, svm] {
        all.see(fact);
    }
    all.see::<Kvm>(kvm);
    all.see(&vfio.noiommu);
    for Iommu { kind: _, enforces, coherent_walk, s2fwb, register: _ } in iommus.values() {
        all.see(enforces);
        all.see(coherent_walk);
        all.see(s2fwb);
    }
    let Firmware { kind: _, compatible: _, iort, mcfg, viot, cca, bridges } = firmware;
    all.see(iort);
    all.see(mcfg);
    all.see(viot);
    all.see(cca);
    all.see(bridges);
    for f in functions.values() {
        all.see(&f.driver);
        all.see(&f.group);
        if let Some(group) = f.group.known() {
            all.see(&group.kind);
        }
        all.see(&f.iommu);
        all.see(&f.command);
        all.see(&f.power);
        all.see(&f.no_snoop);
        all.see(&f.msix);
        all.see::<Coherent>(&f.coherent);
        if !matches!(f.opened.hole(), Some(Hole { why: Why::NotAsked(_), .. })) {
            all.see(&f.opened);
        }
    }
    all.see(pat);
    all.see(mtrr);
    all.see(ram);
    all.0
}
