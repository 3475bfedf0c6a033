//! The kernel, the CPU, KVM, and what x86 keeps of memory types.

use bar::text::memtypes;
use memtype::Arch;
use platform::errata::Midr;

use super::{flag, hole, malformed, must};
use crate::fact::{Fact, Hole, Why};
use crate::facts::{Asked, Cpu, Kernel, Kvm, Mtrr, Reserved, Span};
use crate::pick;
use crate::root::{Root, TEXT};

pub(super) fn kernel(root: &Root, asked: &Asked, cpuinfo: &Fact<String>) -> Kernel {
    let release = must("/proc/sys/kernel/osrelease", root.text("/proc/sys/kernel/osrelease"));
    let arch = arch(root, cpuinfo);
    Kernel {
        version: release.known().and_then(|r| pick::version(r)),
        release,
        arch,
        page: asked.page,
        parameters: must("/proc/cmdline", root.picked("/proc/cmdline", TEXT, |text| Ok(pick::parameters(text))))
            .map(|text| text.lines().map(str::to_owned).collect()),
        lockdown: lockdown(root),
        hypervisor: hypervisor(root, arch, cpuinfo),
    }
}

/// `uname -m`: a file since 6.1. Before, by what `/proc/cpuinfo` has, whose lines differ by architecture.
fn arch(root: &Root, cpuinfo: &Fact<String>) -> Option<Arch> {
    let machine = root.text("/proc/sys/kernel/arch");
    let named = |machine: &str| match machine {
        "aarch64" => Some(Arch::Arm64),
        "x86_64" => Some(Arch::X86),
        "riscv64" => Some(Arch::Riscv),
        "ppc64le" | "ppc64" | "powerpc64" => Some(Arch::Power),
        "loongarch64" => Some(Arch::LoongArch),
        _ => None,
    };
    if let Some(machine) = machine.known() {
        return named(machine);
    }
    if root.is_live() {
        return named(std::env::consts::ARCH);
    }
    let has = |name: &str| cpuinfo.known().and_then(|c| pick::line(c, name));
    if has("CPU architecture").is_some_and(|version| version == "8") {
        Some(Arch::Arm64)
    } else if has("flags").is_some_and(|flags| flags.split_whitespace().any(|f| f == "lm")) {
        Some(Arch::X86)
    } else if has("isa").is_some_and(|isa| isa.starts_with("rv64")) {
        Some(Arch::Riscv)
    } else {
        None
    }
}

/// Without the lockdown module there is no file, but neither is there one where securityfs is not mounted.
fn lockdown(root: &Root) -> Fact<String> {
    let path = "/sys/kernel/security/lockdown";
    match root.text(path) {
        Fact::Known(text) => {
            pick::bracketed(&text).map_or_else(|| malformed(path, &text), |chosen| Fact::Known(chosen.to_owned()))
        }
        Fact::Absent => match root.list("/sys/kernel/security", |name| matches!(name, "lsm" | "lockdown")) {
            Fact::Known(names) if names.is_empty() => hole(
                path,
                Why::NotAsked(String::from("securityfs is not mounted: mount -t securityfs none /sys/kernel/security")),
            ),
            Fact::Hole(hole) => Fact::Hole(hole),
            Fact::Known(_) | Fact::Absent => Fact::Absent,
        },
        Fact::Hole(hole) => Fact::Hole(hole),
    }
}

/// Makers of hypervisors that name themselves in SMBIOS and make no computers.
const HYPERVISORS: [&str; 7] = [
    "QEMU",
    "VMware, Inc.",
    "Xen",
    "KubeVirt",
    "OpenStack Foundation",
    "innotek GmbH",
    "Parallels International GmbH.",
];

fn hypervisor(root: &Root, arch: Option<Arch>, cpuinfo: &Fact<String>) -> Fact<String> {
    if let Some(kind) = root.text("/sys/hypervisor/type").known() {
        return Fact::Known(kind.clone());
    }
    let vendor = root.text("/sys/class/dmi/id/sys_vendor");
    match arch {
        Some(Arch::X86) => cpuinfo.clone().and_then(|c| match has(&c, "flags", "hypervisor") {
            // CPUID.1:ECX[31], which hypervisors set and no CPU does.
            Some(true) => {
                Fact::Known(vendor.known().cloned().unwrap_or_else(|| String::from("one that does not name itself")))
            }
            Some(false) => Fact::Absent,
            None => malformed("/proc/cpuinfo", "no flags"),
        }),
        // No register tells. The vendor does where it makes nothing but hypervisors; the board of QEMU has its own name in the tree.
        _ => {
            let dummy = root
                .text("/sys/firmware/devicetree/base/compatible")
                .known()
                .is_some_and(|text| text.split('\0').any(|c| c == "linux,dummy-virt"));
            match vendor {
                Fact::Known(vendor) if HYPERVISORS.contains(&vendor.as_str()) => Fact::Known(vendor),
                _ if dummy => Fact::Known(String::from("QEMU or like (linux,dummy-virt)")),
                Fact::Hole(hole) => Fact::Hole(hole),
                _ => hole("hypervisor", Why::Failed(String::from("nothing here says whether there is one"))),
            }
        }
    }
}

/// Whether a line of flags has one; nothing if there is no such line.
fn has(cpuinfo: &str, line: &str, flag: &str) -> Option<bool> {
    let mut lines = pick::lines(cpuinfo, line).peekable();
    lines.peek()?;
    // Where kinds of cores differ, every one has to have it.
    Some(lines.all(|flags| flags.split_whitespace().any(|f| f == flag)))
}

pub(super) fn cpu(root: &Root, asked: &Asked, kernel: &Kernel, cpuinfo: &Fact<String>) -> Cpu {
    let at = "/proc/cpuinfo";
    let flag = |of: Arch, line: &str, name: &str| {
        if kernel.arch == Some(of) {
            cpuinfo
                .clone()
                .and_then(|c| has(&c, line, name).map_or_else(|| malformed(at, &format!("no {line}")), Fact::Known))
        } else {
            Fact::Absent
        }
    };
    let arm = kernel.arch == Some(Arch::Arm64);
    let nopat = kernel.parameters.known().is_some_and(|p| p.iter().any(|p| p == "nopat"));
    Cpu {
        model: cpuinfo.clone().and_then(|c| model(&c).map_or(Fact::Absent, Fact::Known)),
        midr: if arm { cpuinfo.clone().and_then(|c| midrs(&c)) } else { Fact::Absent },
        fwb: if arm { fwb(root, asked) } else { Fact::Absent },
        dic: if arm { dic(asked) } else { Fact::Absent },
        ls64: flag(Arch::Arm64, "Features", "ls64"),
        dgh: flag(Arch::Arm64, "Features", "dgh"),
        pat: flag(Arch::X86, "flags", "pat").map(|pat| pat && !nopat),
        mtrr: flag(Arch::X86, "flags", "mtrr"),
        self_snoop: flag(Arch::X86, "flags", "ss"),
        movdir64b: flag(Arch::X86, "flags", "movdir64b"),
        vmx: flag(Arch::X86, "flags", "vmx"),
        svm: flag(Arch::X86, "flags", "svm"),
    }
}

fn model(cpuinfo: &str) -> Option<String> {
    let kinds = midrs(cpuinfo);
    if let Some(kinds) = kinds.known() {
        return Some(kinds.iter().map(Midr::to_string).collect::<Vec<_>>().join(", "));
    }
    ["model name", "Model Name", "uarch", "cpu", "isa"]
        .iter()
        .find_map(|name| pick::line(cpuinfo, name))
        .map(str::to_owned)
}

/// `MIDR_EL1` of every kind of core, put together again from what `c_show` of Linux `arch/arm64/kernel/cpuinfo.c` takes it apart into.
/// The architecture field it does not show is `0xF` for every A64 CPU.
fn midrs(cpuinfo: &str) -> Fact<Vec<Midr>> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let mut all = Vec::new();
    for core in cpuinfo.split("\n\n") {
        let field = |name: &str, bits: u32| pick::line(core, name).and_then(number).filter(|n| n >> bits == 0);
        let (Some(implementer), Some(variant), Some(part), Some(revision)) =
            (field("CPU implementer", 8), field("CPU variant", 4), field("CPU part", 12), field("CPU revision", 4))
        else {
            return malformed("/proc/cpuinfo", "a core without implementer, variant, part or revision");
        };
        let midr = Midr(implementer << 24 | variant << 20 | u32::from(Midr::ID_REGISTERS) << 16 | part << 4 | revision);
        if !all.contains(&midr) {
            all.push(midr);
        }
    }
    Fact::Known(all)
}

/// FEAT_S2FWB: what KVM gives a vCPU, which nobody can change (`FWB` is not among the writable bits of `ID_AA64MMFR2_EL1` in Linux
/// `arch/arm64/kvm/sys_regs.c`); else the kernel's log, as far as it reaches back.
fn fwb(root: &Root, asked: &Asked) -> Fact<bool> {
    if let Some(mmfr2) = asked.kvm.known().and_then(|kvm| kvm.mmfr2) {
        return Fact::Known(mmfr2 >> 40 & 0xF != 0);
    }
    let path = "/dev/kmsg";
    must(path, root.picked(path, 16 << 20, |text| Ok(pick::features(text)))).and_then(|log| {
        let wrapped =
            || hole(path, Why::Failed(String::from("the log no longer begins at boot; KVM would say it (/dev/kvm)")));
        pick::feature(&log, "Stage-2 Force Write-Back").map_or_else(wrapped, Fact::Known)
    })
}

/// CTR_EL0.DIC, bit 29: as a process reads it, or as a vCPU has it.
fn dic(asked: &Asked) -> Fact<bool> {
    let ctr = match (&asked.ctr, asked.kvm.known().and_then(|kvm| kvm.ctr)) {
        (Fact::Known(ctr), _) => Fact::Known(*ctr),
        (_, Some(ctr)) => Fact::Known(ctr),
        (other, None) => other.clone(),
    };
    ctr.map(|ctr| ctr >> 29 & 1 == 1)
}

/// KVM as it was asked, with the module's parameter that has a file.
pub(super) fn kvm(root: &Root, asked: &Asked) -> Fact<Kvm> {
    asked.kvm.clone().map(|mut kvm| {
        if kvm.nested_paging.is_none() {
            kvm.nested_paging = ["/sys/module/kvm_intel/parameters/ept", "/sys/module/kvm_amd/parameters/npt"]
                .iter()
                .find_map(|path| flag(root, path).known().copied());
        }
        kvm
    })
}

/// x86's own: the PAT memtype list and the MTRRs.
pub(super) fn x86(root: &Root, kernel: &Kernel) -> (Fact<Vec<Reserved>>, Fact<Vec<Mtrr>>) {
    if kernel.arch != Some(Arch::X86) {
        return (Fact::Absent, Fact::Absent);
    }
    let path = "/sys/kernel/debug/x86/pat_memtype_list";
    let pat = match root.text(path) {
        Fact::Known(text) => memtypes(&text).map_or_else(|line| malformed(path, &line), Fact::Known),
        // The folder is there whenever debugfs is (`arch_kdebugfs_init` of Linux `arch/x86/kernel/kdebugfs.c`), the file if PAT is on.
        Fact::Absent => match root.list("/sys/kernel/debug/x86", |name| name == "pat_memtype_list") {
            Fact::Known(_) => Fact::Absent,
            Fact::Absent => hole(
                path,
                Why::NotAsked(String::from(
                    "debugfs is not mounted, or not built in: mount -t debugfs none /sys/kernel/debug",
                )),
            ),
            Fact::Hole(hole) => Fact::Hole(hole),
        },
        Fact::Hole(hole) => Fact::Hole(hole),
    };
    let path = "/proc/mtrr";
    let mtrr =
        root.text(path).and_then(|text| pick::mtrrs(&text).map_or_else(|line| malformed(path, &line), Fact::Known));
    (pat, mtrr)
}

pub(super) fn ram(root: &Root) -> Fact<Vec<Span>> {
    let path = "/proc/iomem";
    must(path, root.picked(path, 4 << 20, |text| Ok(pick::iomem(text)))).and_then(|text| {
        if text.is_empty() {
            return malformed(path, "no System RAM");
        }
        pick::ram(&text).map_or_else(|| Fact::Hole(Hole { at: path.to_owned(), why: Why::Denied }), Fact::Known)
    })
}
