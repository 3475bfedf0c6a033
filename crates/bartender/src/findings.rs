//! Findings: where two sources disagree, by name, with the smallest example, who is right, and one command that shows it. The
//! document docs/findings.md and the texts to be sent upstream are printed from here; what can be computed is.

pub mod qemu_viommu;

use std::fmt::Write as _;

use el2::Par;
use memtype::arm::Features;
use memtype::linux::at::Kernel;
use model::Finding as Departure;
use serde::Serialize;

use crate::sweep::{self, Class, Inputs, Right, Row};
use crate::{linux_at, show};

/// Whose answer is beside whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// An emulator, beside the architecture.
    Emulator,
    /// An emulator's virtio-iommu, beside the specification.
    Viommu,
    /// Linux, beside the architecture.
    Linux,
    /// The model, beside Arm's pseudocode.
    Model,
    /// A manual, beside itself or another.
    Manual,
    /// Other people's code, beside the manuals.
    Code,
}

impl Area {
    /// All, in the order of the document.
    pub const ALL: [Self; 6] = [Self::Emulator, Self::Viommu, Self::Linux, Self::Model, Self::Manual, Self::Code];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Emulator => "emulator",
            Self::Viommu => "viommu",
            Self::Linux => "linux",
            Self::Model => "model",
            Self::Manual => "manual",
            Self::Code => "code",
        }
    }
    /// As a head.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Emulator => "The emulator, beside the architecture",
            Self::Viommu => "QEMU's virtio-iommu, beside the specification",
            Self::Linux => "Linux, beside the architecture",
            Self::Model => "The model, beside the pseudocode",
            Self::Manual => "Manuals, beside themselves",
            Self::Code => "Other people's code, beside the manuals",
        }
    }
}

/// A disagreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name.
    pub name: &'static str,
    /// Whose answer is beside whose.
    pub area: Area,
    /// Who differs, and the version it was seen with.
    pub who: &'static str,
    /// What differs.
    pub says: String,
    /// The smallest example.
    pub smallest: String,
    /// Who is right.
    pub right: String,
    /// Where either side says so.
    pub source: String,
    /// The command that shows it.
    pub reproduce: String,
    /// What fails when it is so no more.
    pub pinned: &'static str,
}

/// What is known beside its name of a departure that the model can put on.
struct Shown {
    smallest: &'static str,
    reproduce: &'static str,
}

const ARCHITECTURE: &str = "the architecture";
const QEMU: &str = "QEMU 10.0.2 (TCG)";

const MODEL_ROWS: [(&str, &str, &str, &str, &str, &str); 5] = [
    (
        "reserved-encodings",
        "Reserved encodings are CONSTRAINED UNPREDICTABLE; the model takes one of the behaviours allowed, always the same. A \
         table needs one answer, and its column `reserved` says that it is one of several.",
        "MAIR byte 0x05 without FEAT_XS",
        "both: the architecture leaves it open",
        "DDI 0487 K1.2; memtype::arm::Reserved",
        "bartender explain mair=0x05 normal-wb",
    ),
    (
        "memattr-bit-3",
        "MemAttr[3] with FWB and without FEAT_MTE_PERM is ignored and not counted as reserved: it is RES0 and the type does not \
         depend on it.",
        "FWB, MemAttr 0b1110: Normal-WB",
        "both",
        "DDI 0487 R_JXGKQ",
        "bartender table arm64 --csv",
    ),
    (
        "device-unaligned",
        "An unaligned access to Device memory always faults. A location may support it, which is IMPLEMENTATION DEFINED; a BAR \
         of the model's does not.",
        "store.8 to regs+3, Device-nGnRE",
        "both: the architecture leaves it open",
        "DDI 0487 B2.8.2",
        "bartender run scenarios/unaligned-device-ngnre.toml --explain",
    ),
    (
        "serror-of-atomics",
        "An atomic that nothing supports may be answered with an SError; that is not an outcome of the model: the guest has it \
         masked.",
        "atomic.add.8 to Normal-NC",
        "both: the architecture leaves it open",
        "DDI 0487 B2.2.6",
        "bartender run scenarios/atomic-normal-nc.toml --explain",
    ),
    (
        "half-done-stores",
        "A pair or an unaligned store that faults on its second part stores nothing; the architecture allows the first part to \
         be stored.",
        "store.8 across the end of a map",
        "both: the architecture leaves it open",
        "DDI 0487 B2.2.1",
        "bartender run scenarios/crossing-into-nothing.toml --explain",
    ),
];

const MANUAL_ROWS: [(&str, &str, &str, &str, &str, &str); 5] = [
    (
        "ddi-memattr-3-res0",
        "Bit 5 of a stage-2 descriptor, MemAttr[3], with FWB: Table D8-53 calls it RES0, R_NQDNZ does not with FEAT_MTE_PERM.",
        "MemAttr 0b1110, FEAT_MTE_PERM",
        "R_NQDNZ: NoTagAccess",
        "DDI 0487 Table D8-53, R_NQDNZ",
        "cargo test -p memtype --test arm",
    ),
    (
        "ddi-cd-with-fwb",
        "HCR_EL2.CD and ID together with FWB: the pseudocode applies them to the combined type, the prose is silent.",
        "FWB, MemAttr 0b110, CD = 1: Normal-NC",
        "the pseudocode (memtype::arm::Regime)",
        "DDI 0487 D24.2.62, AArch64.S2Translate",
        "cargo test -p memtype --test arm_regime",
    ),
    (
        "ddi-id-of-device-fetch",
        "HCR_EL2.ID: the prose speaks of fetches from Normal memory, the pseudocode makes every fetch Non-cacheable.",
        "a fetch from Device memory, ID = 1",
        "the pseudocode; where the fetch is performed at all, both come to the same",
        "DDI 0487 D24.2.62, AArch64.S2Translate",
        "cargo test -p memtype --test arm_regime",
    ),
    (
        "smmu-mair-f0",
        "MAIR byte 0xF0 is Tagged Normal-WB to a CPU with FEAT_MTE2 and reserved to an SMMU, which takes it as inner \
         Write-Through Transient. Linux SVA copies MAIR_EL1, whose Attr1 is 0xF0. From the specifications, not seen on hardware.",
        "a page of a process with PROT_MTE, used by a device that shares its tables: not coherent by its type",
        "each its own: memtype::smmu::stage1()",
        "IHI 0070 5.4, 3.23; DDI 0487 D24.2.127",
        "bartender explain --arch smmu --help",
    ),
    (
        "mtrr-with-pat",
        "MTRR and PAT on x86: Intel, AMD, Bochs and Linux's pat.rst differ in four combinations.",
        "MTRR WP, PAT UC-: WC (Intel), CD (AMD)",
        "Intel's, on Intel; each other answer is kept (memtype::x86::DISAGREEMENTS)",
        "SDM Table 11-7, note 3; APM 7.8.5, Table 7-11",
        "bartender table x86",
    ),
];

const VIRTIO_ROWS: [(&str, &str, &str, &str, &str, &str); 2] = [
    (
        "virtio-bypass-resv-mem",
        "virtio-iommu: all accesses of an endpoint in bypass mode are allowed, says one section; accesses to RESV_MEM regions should \
         not affect anything but the endpoint and the driver, says another. Where a RESERVED region lies over guest memory, both \
         cannot be. Here the first holds in bypass mode and the second for attached endpoints, and the suite reports what a device \
         does without judging it.",
        "RESERVED over memory, bypass 1, not attached: a write gets there",
        "both: the specification does not say which",
        "virtio 5.13.6, on bypass mode; 5.13.6.8.1.2",
        "bartender viommu conformance (silent: resv-mem-in-bypass)",
    ),
    (
        "virtio-map-one-byte",
        "virtio-iommu: it is legal to map one byte at a time where the granule is one byte; virt_end MUST be strictly greater than \
         virt_start, which with inclusive ends makes two bytes the least. The second binds the driver, so that a device that takes \
         one byte breaks nothing; here it is taken.",
        "page_size_mask 1, MAP 0x1000 to 0x1000: OK",
        "the first: a device has nothing to gain by the second",
        "virtio 5.13.6, on page_size_mask; 5.13.6.5.1",
        "bartender viommu conformance --device viommu:bytes --clause map-one-byte",
    ),
];

const CODE_ROWS: [(&str, &str, &str, &str, &str, &str); 3] = [
    (
        "aarch64-paging-mair-1",
        "aarch64-paging 0.12.3 reads a MAIR nibble of 0b0001 as Write-Back non-transient; it is Write-Through transient.",
        "MAIR byte 0x11",
        ARCHITECTURE,
        "DDI 0487 D24.2.127",
        "cargo test -p memtype --test arm",
    ),
    (
        "rdma-core-memcpy",
        "rdma-core's mmio_memcpy_x64() on Arm takes any constant size for 64 bytes. No caller passes another constant today.",
        "mmio_memcpy_x64(d, s, 128)",
        "its own comment",
        "rdma-core 691953d8, util/mmio.h",
        "bartender barriers --differences",
    ),
    (
        "fences",
        "rdma-core, UCX, DPDK, Linux: fences that promise less than they are used for, or than their comments say.",
        "each row names function and revision",
        "the manual of the architecture",
        "the rows' own",
        "bartender barriers --differences",
    ),
];

/// The first difference of each class that `bartender sweep` finds, and what the machine said: ATTR and SH.
const SWEPT: [(&str, Inputs, u8, u8); 12] = [
    ("reserved-mair", at(false, 0b0000, 0b00, 0x03, 0b00), 0x00, 0b10),
    ("reserved-memattr", at(false, 0b0100, 0b00, 0x01, 0b00), 0x0c, 0b10),
    ("reserved-memattr-fwb", at(true, 0b0100, 0b00, 0x01, 0b00), 0x00, 0b10),
    ("fwb-memattr-bit-3", at(true, 0b1000, 0b00, 0x01, 0b00), 0x00, 0b10),
    ("fwb-device-over-device", at(true, 0b0001, 0b00, 0x00, 0b00), 0x04, 0b10),
    ("xs-not-reported", at(false, 0b0000, 0b00, 0x01, 0b00), 0x00, 0b10),
    ("xs-device-mair", at(false, 0b0001, 0b00, 0x01, 0b00), 0x04, 0b10),
    ("xs-normal-mair", at(false, 0b0001, 0b00, 0x40, 0b00), 0x00, 0b10),
    ("cacheability-as-device", at(false, 0b0010, 0b00, 0x14, 0b00), 0x04, 0b10),
    ("transient-lost", at(false, 0b0110, 0b00, 0x15, 0b00), 0x49, 0b00),
    ("reserved-sh", at(false, 0b0100, 0b00, 0x11, 0b01), 0x41, 0b00),
    ("reserved-mair-sh", at(false, 0b1000, 0b00, 0x10, 0b00), 0x10, 0b00),
];

const fn at(fwb: bool, s2_memattr: u8, s2_sh: u8, s1_attr: u8, s1_sh: u8) -> Inputs {
    Inputs { fwb, s2_memattr, s2_sh, s1_attr, s1_sh }
}

/// The features of the machine that was swept (`-cpu max`, without tags).
const SWEPT_WITH: Features = Features { xs: true, mte2: false, mte_perm: false };

fn swept(class: &str) -> Option<Row> {
    let (_, inputs, attr, sh) = *SWEPT.iter().find(|(name, ..)| *name == class)?;
    let (combined, ours) = sweep::ours(inputs, SWEPT_WITH);
    Some(Row { inputs, combined, ours, theirs: Par { attr, sh, failed: false } })
}

/// What shows a departure of the model's.
fn shown(departure: Departure) -> Shown {
    let (smallest, reproduce) = match departure.name() {
        "qemu-dc-zva" => ("zero regs, Device-nGnRE", "bartender run scenarios/zero-device.toml --on el2"),
        "qemu-mmu-off" => {
            ("store.8 to an odd address, MMU off", "bartender run scenarios/mmu-off-unaligned.toml --on el2")
        }
        "qemu-pc-alignment" => ("jump bar+2", "bartender run scenarios/jump-unaligned.toml --on el2"),
        "qemu-tlb-alignment" => (
            "store.8 vram, 1; store.8 vram+3, 2; Normal-NC over Device-nGnRE",
            "bartender run scenarios/unaligned-after-aligned.toml --on el2",
        ),
        "qemu-no-uncontained" => (
            "load.8 from a BAR that is gone, errors uncontained",
            "bartender run scenarios/uncontained-by-device.toml --on el2",
        ),
        "qemu-nc-works" => ("store.4, normal-nc partial", "bartender run scenarios/nc-partial.toml --on el2"),
        _ => ("", ""),
    };
    Shown { smallest, reproduce }
}

/// All, in the order of the document.
#[must_use]
pub fn all() -> Vec<Finding> {
    let mut all = Vec::new();
    for departure in Departure::ALL {
        let shown = shown(departure);
        let (says, source) = cited(departure.says());
        all.push(Finding {
            name: departure.name(),
            area: Area::Emulator,
            who: QEMU,
            says,
            smallest: shown.smallest.into(),
            right: match departure {
                // No architecture speaks of it: the scenario declares a platform, and the emulator is another.
                Departure::QemuNoUncontained | Departure::QemuNcWorks => "both: they are different platforms".into(),
                _ => ARCHITECTURE.into(),
            },
            source,
            reproduce: shown.reproduce.into(),
            pinned: "crates/model/tests/scenarios.rs; every run on lab and el2",
        });
    }
    for class in sweep::CLASSES {
        all.push(of_class(
            &class,
            Area::Emulator,
            QEMU,
            swept(class.name).as_ref(),
            "bartender sweep",
            "crates/bartender/tests/findings.rs",
        ));
    }
    all.push(Finding {
        name: "qemu-serial",
        area: Area::Emulator,
        who: QEMU,
        says: "With a single possible CPU (-smp 1) no alignment check for Device memory is made at all: in serial mode TCG takes \
               the atomicity off every access, and the size to check is derived from the atomicity. A later QEMU separates the \
               two. Every machine here has -smp 1,maxcpus=2."
            .into(),
        smallest: "an unaligned load from Device-nGnRnE completes".into(),
        right: ARCHITECTURE.into(),
        source: "QEMU tcg/tcg-op-ldst.c: tcg_canonicalize_memop; accel/tcg/cputlb.c: memop_atomicity_bits, \
                 memop_tlb_alignment_bits"
            .into(),
        reproduce: "not by a command of this project, which avoids it".into(),
        pinned: "nothing",
    });
    all.push(Finding {
        name: "qemu-tea",
        area: Area::Emulator,
        who: QEMU,
        says: "HCR_EL2.TEA routes a guest's synchronous External abort to EL2; there it is taken to EL1 all the same. The two are \
               one outcome here, a contained error, so nothing depends on it but who is told. The cause is not traced."
            .into(),
        smallest: "a store to a BAR that is gone, with gpex's allow-unmapped-accesses off: ESR_EL1 0x96000050".into(),
        right: ARCHITECTURE.into(),
        source: "DDI 0487 D24.2.62 HCR_EL2.TEA".into(),
        reproduce: "bartender run scenarios/dead-device-contained.toml --on el2".into(),
        pinned: "nothing",
    });
    all.extend(qemu_viommu::all());
    all.push(Finding {
        name: "port-in-group-of-device",
        area: Area::Linux,
        who: "Linux 6.1.192 and 6.12.117 with a device tree; not with ACPI, not with VT-d, not 7.2.13",
        says: "A root port that is there at boot is in the IOMMU group of the device behind it. While VFIO has that group, the port's \
               own MSI is not translated (SMMUv3 event 0x10), so that nobody hears the button by which the device is to be taken \
               away. What fits: ACS is turned on too late for the port, which 7.2 mends by pci_enable_acs() in \
               drivers/pci/pci-driver.c; that it is the cause was not tested."
            .into(),
        smallest: "an NVMe controller behind a root port, mapped by VFIO, device_del: pciehp logs a timeout, no request arrives".into(),
        right: "Linux 7.2".into(),
        source: "PCIe Base 6.0, 6.12 (ACS); Linux iommu_group of a function without ACS: pci_device_group()".into(),
        reproduce: "bartender lab check 6.12".into(),
        pinned: "crates/bartender/tests/hosts/deaf.lab",
    });
    all.push(Finding {
        name: "decode-left-on",
        area: Area::Linux,
        who: "Linux 6.1.192, 6.12.117 and 7.2.13, arm64",
        says: "A function whose Memory Space Enable was off before VFIO opened it has it on after VFIO has closed it, though the last \
               who had it open turned it off again through the configuration region. A mapping by sysfs that was refused before can \
               be had then, so that what `inspect` says holds until the next who opens the function. The cause is not traced: \
               what fits is the state that the kernel saves when it opens a function and restores when it closes it."
            .into(),
        smallest: "bochs-display bound to vfio-pci: command register 0 before, memory decode on after".into(),
        right: "nobody: no interface promises it".into(),
        source: "Linux drivers/vfio/pci/vfio_pci_core.c: vfio_pci_core_enable, vfio_pci_core_disable (not read for this)".into(),
        reproduce: "bartender lab host 6.12 --device display --script crates/bartender/tests/hosts/decode.lab".into(),
        pinned: "crates/bartender/tests/hosts/decode.lab",
    });
    all.push(Finding {
        name: "linux-esr-sign",
        area: Area::Linux,
        who: "Linux before 6.12; seen on 6.1.192, not on 6.12.117 and 7.2.13",
        says: "The ESR_EL1 that KVM makes up for an injected External abort has its upper half all ones: the exception class is \
               shifted as a signed 32-bit number. 6.9 to 6.11 have it too; the policy `linux-6.9` is the mended kernel."
            .into(),
        smallest: "a fetch from a BAR with the MMU off: ESR_EL1 0xffffffff86000010".into(),
        right: ARCHITECTURE.into(),
        source: "DDI 0487 D24.2.40; Linux b6db3eb6c373, \"arm64: esr: Define ESR_ELx_EC_* constants as UL\"".into(),
        reproduce: "bartender run scenarios/jump-into-bar-mmu-off.toml --on lab:6.1".into(),
        pinned: "crates/hyp/tests/kvm.rs; the run on lab:6.1",
    });
    let [older, newer] = Kernel::ALL.map(|kernel| linux_at::sweep(kernel).classes);
    for ((class, _, older), (_, _, newer)) in older.iter().zip(newer) {
        let (who, row) = match (*older, newer) {
            (Some(row), Some(_)) => ("Linux 6.12.107 and 7.2.13", Some(row)),
            (Some(row), None) => ("Linux 6.12.107; mended in 7.2.13", Some(row)),
            (None, row) => ("Linux 7.2.13", row),
        };
        let reproduce = "bartender sweep --of linux-6.12";
        all.push(of_class(class, Area::Linux, who, row.as_ref(), reproduce, "crates/bartender/tests/linux_at.rs"));
    }
    let memtype = "the tests of memtype";
    for (area, rows, who, pinned) in [
        (Area::Model, &MODEL_ROWS[..], "the model", memtype),
        (Area::Manual, &MANUAL_ROWS[..], "manuals", memtype),
        (Area::Manual, &VIRTIO_ROWS[..], "virtio 1.4", "crates/bartender/tests/viommu.rs"),
        (Area::Code, &CODE_ROWS[..], "other projects", memtype),
    ] {
        for (name, says, smallest, right, source, reproduce) in rows {
            all.push(Finding {
                name,
                area,
                who,
                says: (*says).into(),
                smallest: (*smallest).into(),
                right: (*right).into(),
                source: (*source).into(),
                reproduce: (*reproduce).into(),
                pinned,
            });
        }
    }
    all
}

/// By name.
#[must_use]
pub fn named(name: &str) -> Option<Finding> {
    all().into_iter().find(|f| f.name == name)
}

/// The sentences without the citation at their end, and the citation.
fn cited(says: &str) -> (String, String) {
    match says.strip_suffix(']').and_then(|s| s.rsplit_once(" [")) {
        Some((what, source)) => (what.into(), source.into()),
        None => (says.into(), String::new()),
    }
}

fn of_class(
    class: &Class,
    area: Area,
    who: &'static str,
    row: Option<&Row>,
    reproduce: &str,
    pinned: &'static str,
) -> Finding {
    Finding {
        name: class.name,
        area,
        who,
        says: class.says.into(),
        smallest: row.map_or_else(String::new, example),
        right: match class.right {
            Right::Architecture => ARCHITECTURE.into(),
            Right::Open => "both: the architecture leaves it open".into(),
        },
        source: class.source.into(),
        reproduce: reproduce.into(),
        pinned,
    }
}

/// A combination in words, with both answers.
#[must_use]
pub fn example(row: &Row) -> String {
    let Inputs { fwb, s2_memattr, s2_sh, s1_attr, s1_sh } = row.inputs;
    format!(
        "FWB {}, stage 2 MemAttr 0b{s2_memattr:04b} SH 0b{s2_sh:02b}, stage 1 MAIR {s1_attr:#04x} SH 0b{s1_sh:02b}: ATTR {:#04x} SH \
         0b{:02b} ({}), there ATTR {:#04x} SH 0b{:02b}",
        u8::from(fwb),
        row.ours.attr,
        row.ours.sh,
        row.combined.ty,
        row.theirs.attr,
        row.theirs.sh,
    )
}

/// A table of one area, as the document has it.
#[must_use]
pub fn markdown(area: Area) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('[', "\\[").replace(']', "\\]");
    let mut out =
        String::from("| finding | what | smallest | right | source | shown by |\n|---|---|---|---|---|---|\n");
    for f in all().into_iter().filter(|f| f.area == area) {
        let _ = writeln!(
            out,
            "| `{}` | {} ({}) | {} | {} | {} | `{}` |",
            f.name,
            cell(&f.says),
            cell(f.who),
            cell(&f.smallest),
            cell(&f.right),
            cell(&f.source),
            f.reproduce
        );
    }
    out
}

/// One finding as a text that can be sent to those whom it concerns.
#[must_use]
pub fn letter(f: &Finding) -> String {
    let mut out = format!("{}: {}\n\n", f.who, f.name);
    out.push_str(&show::wrapped("", &f.says));
    let _ = writeln!(out, "\nSmallest example\n");
    out.push_str(&show::wrapped("  ", &f.smallest));
    let _ = writeln!(out, "\nWho is right\n");
    out.push_str(&show::wrapped("  ", &f.right));
    let _ = writeln!(out, "\nSources\n");
    out.push_str(&show::wrapped("  ", &f.source));
    let _ = writeln!(out, "\nTo reproduce\n\n  {}", f.reproduce);
    out
}
