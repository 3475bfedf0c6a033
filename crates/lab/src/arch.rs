//! The architectures an emulated server can have, and everything in the lab that depends on which.

use serde::{Deserialize, Serialize};

/// What the emulated server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// Arm's 64-bit architecture, on QEMU's `virt` with EL2, GICv3 and SMMUv3.
    #[default]
    Arm64,
    /// The PC's, on QEMU's `q35` with VT-d; KVM there is AMD's, the one that QEMU emulates.
    Amd64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Arm64, Self::Amd64];

    /// As Debian names it.
    #[must_use]
    pub const fn debian(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::Amd64 => "amd64",
        }
    }

    /// What stands before the numbers of a kernel's name: `x86-6.12`.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Arm64 => "",
            Self::Amd64 => "x86-",
        }
    }

    /// The emulator, and the package it is in.
    pub(crate) const fn qemu(self) -> (&'static str, &'static str) {
        match self {
            Self::Arm64 => ("qemu-system-aarch64", "qemu-system-arm"),
            Self::Amd64 => ("qemu-system-x86_64", "qemu-system-x86"),
        }
    }

    /// Parts of that package's data that the lab starts: a PC needs its firmware, even to load a kernel.
    pub(crate) const fn firmware(self) -> &'static [&'static str] {
        match self {
            Self::Arm64 => &[],
            Self::Amd64 => &["usr/share/seabios", "usr/share/qemu"],
        }
    }

    /// The machine.
    pub(crate) const fn machine(self) -> &'static [&'static str] {
        match self {
            Self::Arm64 => {
                // With one CPU and room for no other QEMU 10.0 checks no alignment of Device accesses.
                &["-M", "virt,virtualization=on,gic-version=3,iommu=smmuv3", "-smp", "1,maxcpus=2"]
            }
            Self::Amd64 => &[
                "-M",
                "q35,kernel-irqchip=split,accel=tcg",
                "-smp",
                "1",
                "-device",
                "intel-iommu,intremap=on,caching-mode=on",
                // Devices come and go as on a server, by the port's own registers.
                "-global",
                "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
            ],
        }
    }

    /// The kernel's own part of its command line.
    pub(crate) const fn parameters(self) -> &'static str {
        match self {
            Self::Arm64 => "console=ttyAMA0",
            Self::Amd64 => "console=ttyS0 intel_iommu=on",
        }
    }

    /// The second serial port, as the server's kernel names it.
    #[cfg(target_os = "linux")]
    pub(crate) const fn channel(self) -> &'static str {
        match self {
            Self::Arm64 => "/dev/ttyAMA1",
            Self::Amd64 => "/dev/ttyS1",
        }
    }

    /// The drivers the server needs to hand a device to a VM; what they depend on comes with them.
    pub(crate) const fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Arm64 => &["vfio", "vfio_iommu_type1", "vfio_pci"],
            Self::Amd64 => &["vfio", "vfio_iommu_type1", "vfio_pci", "kvm_amd"],
        }
    }

    /// Rust's target for a static program, and the one that Debian's Rust has.
    pub(crate) const fn targets(self) -> (&'static str, &'static str) {
        match self {
            Self::Arm64 => ("aarch64-unknown-linux-musl", "aarch64-unknown-linux-gnu"),
            Self::Amd64 => ("x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"),
        }
    }

    /// As its instruction set is called.
    pub(crate) const fn instructions(self) -> &'static str {
        match self {
            Self::Arm64 => "aarch64",
            Self::Amd64 => "x86-64",
        }
    }

    /// The ELF number of its programs.
    pub(crate) const fn elf(self) -> u16 {
        match self {
            Self::Arm64 => object::elf::EM_AARCH64,
            Self::Amd64 => object::elf::EM_X86_64,
        }
    }

    /// The one that this program was built for.
    pub(crate) const OWN: Self = if cfg!(target_arch = "x86_64") { Self::Amd64 } else { Self::Arm64 };
}
