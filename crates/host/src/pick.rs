//! What is kept of a file, and what it says: pure functions of text or bytes, which take any.
//!
//! What is not picked is in no snapshot. That is how no serial number gets into one: of a file that may hold one (`/proc/cpuinfo` of some
//! boards, `/proc/cmdline`, a device tree), only what is listed here is kept.

use std::collections::BTreeSet;

use crate::facts::{Mtrr, Pa, Span};

/// Lines of `/proc/cpuinfo` that are kept, by architecture's own spelling.
const CPU: [&str; 18] = [
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "Model Name",
    "stepping",
    "flags",
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
    "CPU revision",
    "Features",
    "isa",
    "uarch",
    "CPU Family",
    "cpu",
    "revision",
];

/// Flags and Features that are kept: what says how memory is reached, and what virtualizes.
const FLAGS: [&str; 26] = [
    "pat",
    "mtrr",
    "ss",
    "movdiri",
    "movdir64b",
    "enqcmd",
    "clflush",
    "clflushopt",
    "clwb",
    "avx",
    "avx512f",
    "hypervisor",
    "vmx",
    "svm",
    "npt",
    "ept",
    "lm",
    "ls64",
    "ls64_v",
    "dgh",
    "dcpop",
    "dcpodp",
    "atomics",
    "uscat",
    "sve",
    "mte",
];

/// Of `/proc/cpuinfo`: one entry for each kind of core, with the lines that say what it is.
pub(crate) fn cpuinfo(text: &str) -> String {
    let mut kinds: Vec<String> = Vec::new();
    let mut known = BTreeSet::new();
    for core in text.split("\n\n") {
        let mut kind = String::new();
        for line in core.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let (name, value) = (name.trim(), value.trim());
            if !CPU.contains(&name) {
                continue;
            }
            let value = match name {
                "flags" | "Features" => {
                    value.split_whitespace().filter(|flag| FLAGS.contains(flag)).collect::<Vec<_>>().join(" ")
                }
                _ => value.to_owned(),
            };
            kind.push_str(name);
            kind.push_str(": ");
            kind.push_str(&value);
            kind.push('\n');
        }
        if !kind.is_empty() && known.insert(kind.clone()) {
            kinds.push(kind);
        }
    }
    kinds.join("\n").trim_end().to_owned()
}

/// A line of what [`cpuinfo`] kept, of the first kind of core that has it.
pub(crate) fn line<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    lines(cpuinfo, name).next()
}

/// The same of every kind of core.
pub(crate) fn lines<'a>(cpuinfo: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    cpuinfo
        .lines()
        .filter_map(move |line| line.split_once(':').filter(|(n, _)| n.trim() == name).map(|(_, value)| value.trim()))
}

/// Parameters of the kernel that decide something here. One that ends with `.` stands for all that begin so.
const PARAMETERS: [&str; 36] = [
    "acpi",
    "amd_iommu",
    "arm64.",
    "arm-smmu.",
    "arm-smmu-v3.",
    "disable_mtrr_cleanup",
    "disable_mtrr_trim",
    "enable_mtrr_cleanup",
    "enable_mtrr_trim",
    "id_aa64mmfr2.",
    "intel_iommu",
    "iomem",
    "iommu",
    "iommu.",
    "ivrs_acpihid",
    "kvm.",
    "kvm-amd.",
    "kvm_amd.",
    "kvm-arm.",
    "kvm-intel.",
    "kvm_intel.",
    "lockdown",
    "mem",
    "memmap",
    "nopat",
    "nomtrr",
    "pci",
    "pcie_acs_override",
    "pcie_aspm",
    "pcie_ports",
    "strict_devmem",
    "vfio.",
    "vfio-pci.",
    "vfio_pci.",
    "vfio_iommu_type1.",
    "writecombine",
];

/// Of `/proc/cmdline`: the parameters that decide something here, one to a line. What stands after `--` is not the kernel's.
pub(crate) fn parameters(text: &str) -> String {
    let decides = |word: &&str| {
        let name = word.split_once('=').map_or(*word, |(name, _)| name);
        PARAMETERS.iter().any(|p| if p.ends_with('.') { name.starts_with(p) } else { name == *p })
    };
    text.split_whitespace().take_while(|word| *word != "--").filter(decides).collect::<Vec<_>>().join("\n")
}

/// Of `/proc/iomem`: "System RAM" and where PCI buses lie.
pub(crate) fn iomem(text: &str) -> String {
    let keep = |line: &&str| {
        line.split_once(" : ").is_some_and(|(_, name)| name.starts_with("System RAM") || name.starts_with("PCI Bus "))
    };
    text.lines().filter(keep).collect::<Vec<_>>().join("\n")
}

/// The System RAM of what [`iomem`] kept; nothing if addresses are hidden, as they are from who is not root (`kptr_restrict` has no
/// say: `iomem` shows zeros without CAP_SYS_ADMIN, `r_show` of Linux `kernel/resource.c`).
pub(crate) fn ram(iomem: &str) -> Option<Vec<Span>> {
    let mut spans = Vec::new();
    let mut shown = false;
    for line in iomem.lines() {
        let Some((range, name)) = line.split_once(" : ") else { continue };
        let Some((first, last)) = range.trim().split_once('-') else { continue };
        let (Ok(first), Ok(last)) = (u64::from_str_radix(first, 16), u64::from_str_radix(last, 16)) else { continue };
        shown |= last != 0;
        if name.starts_with("System RAM") {
            spans.extend(Span::new(Pa(first), Pa(last)));
        }
    }
    shown.then_some(spans)
}

/// Of the kernel's log (`/dev/kmsg`, or as `dmesg` prints it): whether it begins at boot, and which CPU features were detected.
pub(crate) fn features(text: &str) -> String {
    let mut out = String::from("begins later");
    let mut first = true;
    for line in text.lines() {
        // A record of /dev/kmsg: `priority,sequence,microseconds,flags;text`; its continuation lines begin with a space.
        let message = match line.split_once(';') {
            Some((head, message)) if head.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-' | b'c')) => {
                message
            }
            _ => line.strip_prefix('[').and_then(|l| l.split_once("] ")).map_or(line, |(_, message)| message),
        };
        if first && (message.starts_with("Booting Linux on physical CPU") || message.starts_with("Linux version ")) {
            out = String::from("begins at boot");
        }
        first = false;
        if let Some(feature) = message.strip_prefix("CPU features: detected: ") {
            out.push('\n');
            out.push_str(feature.trim_end());
        }
    }
    out
}

/// Whether a feature is in what [`features`] kept; nothing if the log does not reach back to where it would be.
pub(crate) fn feature(features: &str, name: &str) -> Option<bool> {
    let mut lines = features.lines();
    let whole = lines.next() == Some("begins at boot");
    if lines.any(|line| line == name) { Some(true) } else { whole.then_some(false) }
}

/// Of `/sys/bus/pci/devices/BDF/resource`: every line, without the zeros in front.
pub(crate) fn resource(text: &str) -> String {
    let word = |word: &str| match word.strip_prefix("0x") {
        Some(digits) => match digits.trim_start_matches('0') {
            "" => String::from("0x0"),
            digits => format!("0x{digits}"),
        },
        None => word.to_owned(),
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The one in brackets: `none [integrity] confidentiality`.
pub(crate) fn bracketed(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(chosen, _)| chosen)
}

/// The first numbers of a release: `6.12.107+deb13-arm64`.
pub(crate) fn version(release: &str) -> Option<(u16, u16, u16)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|n| n.parse().ok());
    let (major, minor) = (next()?, next()?);
    // `7.2-rc1` has no third: `rc1` is no number.
    let third =
        release.splitn(3, '.').nth(2).map(|t| t.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    Some((major, minor, third.and_then(|t| t.parse().ok()).unwrap_or(0)))
}

/// The lines of `/proc/mtrr`: `reg00: base=0x080000000 ( 2048MB), size= 2048MB, count=1: uncachable` (Linux
/// `arch/x86/kernel/cpu/mtrr/if.c`, `mtrr_seq_show`).
///
/// # Errors
/// The first line that is not understood.
pub(crate) fn mtrrs(text: &str) -> Result<Vec<Mtrr>, String> {
    use memtype::x86::Type;
    let one = |line: &str| {
        let (register, rest) = line.strip_prefix("reg")?.split_once(':')?;
        let (base, rest) = rest.trim().strip_prefix("base=0x")?.split_once(' ')?;
        let (size, rest) = rest.split_once("size=")?.1.split_once(',')?;
        let kind = match rest.rsplit_once(": ")?.1.trim() {
            "uncachable" => Type::Uc,
            "write-combining" => Type::Wc,
            "write-through" => Type::Wt,
            "write-protect" => Type::Wp,
            "write-back" => Type::Wb,
            _ => return None,
        };
        let size = size.trim();
        let (number, shift) =
            size.strip_suffix("KB").map(|n| (n, 10)).or_else(|| size.strip_suffix("MB").map(|n| (n, 20)))?;
        let bytes = number.trim().parse::<u64>().ok()?.checked_mul(1 << shift)?;
        let first = u64::from_str_radix(base, 16).ok()?;
        let last = first.checked_add(bytes.checked_sub(1)?)?;
        Some(Mtrr { register: register.parse().ok()?, span: Span::new(Pa(first), Pa(last))?, kind })
    };
    text.lines().filter(|l| !l.trim().is_empty()).map(|line| one(line).ok_or_else(|| format!("{line:.80}"))).collect()
}

/// What is asked of configuration space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The command register.
    pub(crate) command: u16,
    /// Device Control of the PCI Express capability; nothing if there is no such capability.
    pub(crate) device_control: Option<u16>,
    /// The MSI-X capability: message control, table, pending bits.
    pub(crate) msix: Option<(u16, u32, u32)>,
}

/// How far configuration space could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Walk {
    /// To the end of the list of capabilities.
    Whole,
    /// The file ended before: without CAP_SYS_ADMIN it has 64 bytes (`pci_read_config` of Linux `drivers/pci/pci-sysfs.c`).
    Cut,
}

/// Reads what is asked of configuration space, and no more than that: the header, and of each capability its two first bytes; of
/// those asked for, what is asked. `Several chips lock up trying to read undefined config space` (`pci_read_config`).
///
/// # Errors
/// As the reader.
pub(crate) fn config<E>(mut read: impl FnMut(u32, usize) -> Result<Vec<u8>, E>) -> Result<(Option<Config>, Walk), E> {
    let header = read(0, 64)?;
    let word = |bytes: &[u8], at: usize| bytes.get(at..at + 2).map(|b| u16::from(b[1]) << 8 | u16::from(b[0]));
    let long = |bytes: &[u8], at: usize| Some(u32::from(word(bytes, at + 2)?) << 16 | u32::from(word(bytes, at)?));
    let (Some(command), Some(status), Some(&kind)) = (word(&header, 4), word(&header, 6), header.get(14)) else {
        return Ok((None, Walk::Cut));
    };
    // A device that is gone reads as ones.
    if header.iter().all(|b| *b == 0xFF) {
        return Ok((None, Walk::Whole));
    }
    let mut found = Config { command, device_control: None, msix: None };
    // Status bit 4: there is a list. Type 2 (CardBus) has its head elsewhere.
    let head = if kind & 0x7F == 2 { 0x14 } else { 0x34 };
    if status & 0x10 == 0 {
        return Ok((Some(found), Walk::Whole));
    }
    let Some(mut at) = header.get(head).map(|b| u32::from(b & 0xFC)) else { return Ok((Some(found), Walk::Cut)) };
    // 48 capabilities fit; more is a loop.
    for _ in 0..48 {
        if at < 0x40 {
            break;
        }
        let start = read(at, 2)?;
        let [id, next] = start[..] else { return Ok((Some(found), Walk::Cut)) };
        match id {
            0xFF => break,
            0x10 => found.device_control = word(&read(at + 8, 2)?, 0),
            0x11 => {
                let rest = read(at + 2, 10)?;
                found.msix = match (word(&rest, 0), long(&rest, 2), long(&rest, 6)) {
                    (Some(control), Some(table), Some(pending)) => Some((control, table, pending)),
                    _ => None,
                };
            }
            _ => {}
        }
        at = u32::from(next & 0xFC);
    }
    Ok((Some(found), Walk::Whole))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What of configuration space was read, as (offset, size).
    type Reads = Vec<(u32, usize)>;

    /// Reads configuration space out of bytes, and says which of them were read.
    fn walk(space: &[u8]) -> ((Option<Config>, Walk), Reads) {
        let mut reads = Vec::new();
        let read = |at: u32, size: usize| {
            reads.push((at, size));
            let end = space.len().min(at as usize + size);
            Ok::<_, ()>(space.get(at as usize..end).unwrap_or_default().to_vec())
        };
        (config(read).unwrap(), reads)
    }

    #[test]
    fn versions() {
        assert_eq!(version("6.12.107+deb13-arm64"), Some((6, 12, 107)));
        assert_eq!(version("7.2.0-rc1"), Some((7, 2, 0)));
        assert_eq!(version("7.2-rc1"), Some((7, 2, 0)));
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18, 44)));
        assert_eq!(version("5.15"), Some((5, 15, 0)));
        assert_eq!((version(""), version("next-20260101"), version("6")), (None, None, None));
    }

    #[test]
    fn mtrr_lines_as_the_kernel_prints_them() {
        let text = "reg00: base=0x000000000 (    0MB), size=    64KB, count=1: write-back\nreg07: base=0x0d0000000 ( 3328MB), size=  256MB, count=1: write-combining\n";
        let found = mtrrs(text).unwrap();
        assert_eq!(
            found.iter().map(|m| (m.register, m.span.first.0, m.span.last.0)).collect::<Vec<_>>(),
            [(0, 0, 0xffff), (7, 0xd000_0000, 0xdfff_ffff)]
        );
        assert!(mtrrs("reg00: base=0x0 (0MB), size= 0MB, count=1: write-back").is_err());
        assert!(mtrrs("something else").is_err());
    }

    /// Only the parameters that decide, up to `--`.
    #[test]
    fn a_command_line() {
        let text = "BOOT_IMAGE=/x root=UUID=1 pci=nomsi pcix=1 iommu.strict=1 arm-smmu-v3.disable_bypass=1 iommux=1 nopat -- pci=off";
        assert_eq!(parameters(text), "pci=nomsi\niommu.strict=1\narm-smmu-v3.disable_bypass=1\nnopat");
    }

    /// Two kinds of core, of which there are four; what is no line of a core's kind is gone.
    #[test]
    fn kinds_of_cores() {
        let core = |n: u32, part: &str| {
            format!(
                "processor\t: {n}\nBogoMIPS\t: 50\nFeatures\t: fp dgh\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
            )
        };
        let text = [core(0, "0xd46"), core(1, "0xd46"), core(2, "0xd47"), core(3, "0xd46")].concat() + "Serial\t: 1\n";
        let kept = cpuinfo(&text);
        assert_eq!(
            kept,
            "Features: dgh\nCPU implementer: 0x41\nCPU part: 0xd46\n\nFeatures: dgh\nCPU implementer: 0x41\nCPU part: 0xd47"
        );
        assert_eq!(lines(&kept, "CPU part").collect::<Vec<_>>(), ["0xd46", "0xd47"]);
    }

    /// A list that goes in a circle ends.
    #[test]
    fn a_circle() {
        let mut space = [0; 256];
        space[6] = 0x10;
        space[0x34] = 0x40;
        space[0x41] = 0x40;
        let ((found, walked), reads) = walk(&space);
        assert_eq!((found.unwrap().msix, walked), (None, Walk::Whole));
        assert_eq!(reads.len(), 1 + 48);
    }

    fn capability() -> impl Strategy<Value = (u8, Vec<u8>)> {
        (
            prop_oneof![Just(0x01_u8), Just(0x05), Just(0x09), Just(0x10), Just(0x11)],
            prop::collection::vec(any::<u8>(), 14),
        )
    }

    proptest! {
        /// Any text is taken by every one, and what is kept is kept again.
        #[test]
        fn any_text(text in "([a-zA-Z0-9 :;,.=\\[\\]\\-\n\t]|[^a]){0,200}") {
            prop_assert_eq!(cpuinfo(&cpuinfo(&text)), cpuinfo(&text));
            prop_assert_eq!(parameters(&parameters(&text)), parameters(&text));
            prop_assert_eq!(iomem(&iomem(&text)), iomem(&text));
            let _ = ram(&iomem(&text));
            let _ = feature(&features(&text), "x");
            let _ = mtrrs(&text);
            let _ = version(&text);
            let _ = bracketed(&text);
            prop_assert_eq!(resource(&resource(&text)), resource(&text));
        }

        /// The zeros in front say nothing.
        #[test]
        fn resources_without_zeros(lines in prop::collection::vec(any::<(u64, u64, u64)>(), 0..17)) {
            let text: String = lines.iter().map(|(a, b, c)| format!("{a:#018x} {b:#018x} {c:#018x}\n")).collect();
            prop_assert_eq!(bar::text::resources(&resource(&text)), bar::text::resources(&text));
        }

        /// Any bytes are taken as configuration space, in a bounded number of small reads within 256 bytes and a bit.
        #[test]
        fn any_space(space in prop::collection::vec(any::<u8>(), 0..300)) {
            let (_, reads) = walk(&space);
            prop_assert!(reads.len() <= 1 + 2 * 48);
            prop_assert!(reads.iter().all(|(at, size)| *at as usize + size <= 0x100 + 10));
        }

        /// The capabilities that are asked for are found in whatever order they are chained; the last of a kind wins. Of the others
        /// nothing is read but id and link.
        #[test]
        fn a_chain_of_capabilities(chain in prop::collection::vec(capability(), 1..8), command in any::<u16>(), status in any::<u8>()) {
            let mut space = vec![0; 256];
            space[4..6].copy_from_slice(&command.to_le_bytes());
            space[6] = status | 0x10;
            space[0x34] = 0x40;
            for (i, (id, data)) in chain.iter().enumerate() {
                let at = 0x40 + i * 16;
                space[at] = *id;
                space[at + 1] = if i + 1 == chain.len() { 0 } else { at as u8 + 16 };
                space[at + 2..at + 16].copy_from_slice(data);
            }
            let ((found, walked), reads) = walk(&space);
            let found = found.unwrap();
            let last = |wanted: u8| chain.iter().rev().find(|(id, _)| *id == wanted).map(|(_, data)| data.clone());
            let control = last(0x10).map(|d| u16::from_le_bytes([d[6], d[7]]));
            let msix = last(0x11).map(|d| {
                let long = |at: usize| u32::from_le_bytes([d[at], d[at + 1], d[at + 2], d[at + 3]]);
                (u16::from_le_bytes([d[0], d[1]]), long(2), long(6))
            });
            prop_assert_eq!((found.command, found.device_control, found.msix, walked), (command, control, msix, Walk::Whole));
            for (i, (id, _)) in chain.iter().enumerate() {
                let at = 0x40 + i as u32 * 16;
                let touched = reads.iter().filter(|(a, _)| (at..at + 16).contains(a)).map(|(_, size)| size).sum::<usize>();
                prop_assert_eq!(touched, match id { 0x10 => 4, 0x11 => 12, _ => 2 });
            }
            // Without CAP_SYS_ADMIN there are 64 bytes.
            let ((cut, walked), _) = walk(&space[..64]);
            let cut = cut.unwrap();
            prop_assert_eq!((cut.command, cut.device_control, cut.msix, walked), (command, None, None, Walk::Cut));
        }
    }
}
