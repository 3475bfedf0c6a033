//! `bartender plan`: what people read, and what it refuses to read.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../plan/tests/common/mod.rs"]
mod machines;

use bartender::cmd::plan::text;
use common::refused;
use memtype::Arch;
use plan::request::request;

const VMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plan/tests/vms");

fn printed(arch: Arch, release: &str, file: &str) -> String {
    let asked = request(file, &std::fs::read_to_string(format!("{VMS}/{file}")).unwrap()).unwrap();
    plain(&text(&plan::vm(&machines::machine(arch, release), &asked)))
}

/// Without colours, as where the output is no terminal.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for piece in text.split('\u{1b}') {
        let from =
            if out.is_empty() && !text.starts_with('\u{1b}') { 0 } else { piece.find('m').map_or(0, |at| at + 1) };
        out.push_str(&piece[from..]);
    }
    out
}

#[test]
fn one_block_for_each_device_and_short_lines() {
    for file in ["gpu.toml", "least.toml", "refused.toml", "trapped.toml"] {
        for (arch, release) in
            [(Arch::Arm64, "6.1.192"), (Arch::Arm64, "7.2.13"), (Arch::X86, "6.12.107"), (Arch::Riscv, "7.2.13")]
        {
            let text = printed(arch, release, file);
            for line in text.lines() {
                assert!(
                    line.chars().count() <= 100 && !line.ends_with(' '),
                    "{file} {arch} {release}: {line:?}\n{text}"
                );
            }
            assert!(text.contains("0000:01:00.0\n  file        /dev/vfio/7\n"), "{text}");
        }
    }
    let text = printed(Arch::Arm64, "6.12.107", "gpu.toml");
    for line in [
        "The VM can be had on Linux 6.12.107, arm64.",
        "              0x10000        0xfff0000      direct  write-combine  0x200000 + 0x10000",
        "    guest     as it asks: device-ngnrne, device-ngnre, device-gre, normal-nc; normal-wb → normal-nc",
        "    stage 2   as of BAR 0",
        "  IORT        root complex: CCA 1, CPM 1, DACS 1, CANWBS 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(printed(Arch::Arm64, "6.12.107", "refused.toml").contains("0000:01:00.0 BARs 0, 2: the VM has MTE"));
}

/// The lab's machines behind a virtio-iommu: a line for each endpoint, below its head, and what firmware says of it.
#[test]
fn the_endpoints_of_a_virtio_iommu() {
    let file = format!("{VMS}/viommu.toml");
    for (host, rows) in [
        (
            "arm64-6.12",
            [
                "  0000:00:10.0   coherent      allowed   coherent      no            not there",
                "  0000:01:00.0   coherent      allowed   coherent      no            kept clear",
            ],
        ),
        (
            "x86-6.12",
            [
                "  0000:00:10.0   coherent      allowed   non-coherent  no            not there",
                "  0000:01:00.0   coherent      allowed   non-coherent  no            the guest's",
            ],
        ),
    ] {
        let root = format!("{}/../host/tests/fixtures/{host}", env!("CARGO_MANIFEST_DIR"));
        let text = common::stdout(&["plan", &file, "--root", &root]);
        let (_, text) = text.split_once("Tell the guest\n").unwrap();
        let head = "                 DMA           No Snoop  walks         non-cacheable Enable No Snoop";
        for line in rows.into_iter().chain([head, "  device tree dma-coherent on the node of the PCI host bridge"]) {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(text.contains("iommu-map with 0x0 to 0x7 and 0x9 to 0xffff") && text.contains("F_COHERENCY offered"));
        assert!(text.lines().all(|l| l.chars().count() <= 100 && !l.ends_with(' ')), "{text}");
    }
}

#[test]
fn what_is_no_vm_is_refused_with_its_line() {
    let file = std::env::temp_dir().join(format!("bartender-plan-{}.toml", std::process::id()));
    std::fs::write(&file, "[vm]\n\narch = \"sparc\"\n").unwrap();
    let path = file.to_str().unwrap();
    let says = refused(&["plan", path]);
    assert!(says.contains(&format!("{path}:3: ")) && says.contains("arm64"), "{says}");
    std::fs::remove_file(&file).unwrap();
    assert!(refused(&["plan", path]).contains("--example"));
    assert!(refused(&["plan"]).contains("VM.toml"));
}

/// What the lab's snapshots say, beside what came out in the lab: on 6.1 a guest cannot have write-combining, on 6.12 it can.
#[test]
fn a_vm_on_the_emulated_hosts() {
    let vm = format!("{VMS}/emulated.toml");
    for (host, code, says) in [
        ("arm64-6.1", 1, "a guest cannot have it write-combining: stage 2 is Device-nGnRE"),
        ("arm64-6.12", 0, "stage 2   Normal-NC (MemAttr 0b0101)"),
        ("arm64-7.2", 0, "stage 2   Normal-NC (MemAttr 0b0101)"),
        ("x86-6.12", 0, "write-combine"),
    ] {
        let root = format!("{}/../host/tests/fixtures/{host}", env!("CARGO_MANIFEST_DIR"));
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_bartender"))
            .args(["plan", &vm, "--root", &root])
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert_eq!(out.status.code(), Some(code), "{host}: {text}");
        assert!(text.contains(says), "{host}: {text}");
    }
}
