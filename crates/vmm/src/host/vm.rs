//! One VM with one vCPU.
#![expect(unsafe_code, reason = "memory slots are addresses, and an exit of KVM a union")]

use std::rc::Rc;

use kvm_bindings::{
    KVM_CAP_ARM_NISV_TO_USER, KVM_EXIT_ARM_NISV, KVM_MEM_READONLY, kvm_enable_cap, kvm_userspace_memory_region,
    kvm_vcpu_init,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use scenario::{Guest, guest::Piece, layout::Slot};
use vm_memory::{MmapRegion, VolatileMemory};

use super::{kvm_error, mapping::Mapping};
use crate::{Error, regs};

/// Bits of a guest-physical address, as TCR_EL1.IPS of the guest has it; fewer where the host has fewer.
const IPA_BITS: u32 = 40;

/// What is behind a memory slot.
#[derive(Debug)]
pub(super) enum Memory {
    /// Anonymous memory.
    Ram(MmapRegion),
    /// A BAR.
    Bar(Rc<Mapping>),
}

impl Memory {
    /// `size` bytes from `ipa` that hold `pieces`; the rest is zero, and costs nothing until it is touched.
    pub(super) fn ram(ipa: u64, size: u64, pieces: &[Piece]) -> Result<Self, Error> {
        let failed = |e: &dyn std::fmt::Display| Error::System {
            what: format!("{size:#x} bytes of guest RAM"),
            source: std::io::Error::other(e.to_string()),
        };
        let region = MmapRegion::new(size as usize).map_err(|e| failed(&e))?;
        for piece in pieces {
            let outside = || Error::Piece { ipa: piece.ipa, bytes: piece.bytes.len(), ram: ipa, size };
            let offset = piece.ipa.checked_sub(ipa).and_then(|o| usize::try_from(o).ok()).ok_or_else(outside)?;
            region.get_slice(offset, piece.bytes.len()).map_err(|_| outside())?.copy_from(&piece.bytes);
        }
        Ok(Self::Ram(region))
    }

    fn address_and_size(&self) -> (u64, usize) {
        match self {
            Self::Ram(region) => (region.as_ptr() as u64, region.size()),
            Self::Bar(mapping) => (mapping.address(), mapping.size()),
        }
    }
}

/// Why KVM_RUN came back.
#[derive(Debug)]
pub(super) enum Exit {
    /// A signal.
    Interrupted,
    /// An access left to user space.
    Mmio { write: bool, ipa: u64, len: u32, data: u64 },
    /// An access left to user space undecoded.
    NoValidSyndrome { iss: u64, ipa: u64 },
    /// It failed.
    Failed { errno: i32 },
    /// Anything else, in words.
    Other(String),
}

/// A VM with one vCPU and its memory.
#[derive(Debug)]
pub(super) struct Vm {
    // Dropped in this order: the memory outlives the VM that has it as slots.
    vcpu: VcpuFd,
    vm: VmFd,
    memory: Vec<Memory>,
    ipa_bits: u32,
}

impl Vm {
    /// A VM without memory, its vCPU as after reset.
    pub(super) fn new(kvm: &Kvm) -> Result<Self, Error> {
        let limit = u32::try_from(kvm.get_host_ipa_limit()).unwrap_or(0);
        // 0: the host cannot choose, and an IPA has 40 bits.
        let ipa_bits = if limit == 0 { IPA_BITS } else { limit.min(IPA_BITS) };
        let vm = if limit == 0 { kvm.create_vm() } else { kvm.create_vm_with_ipa_size(ipa_bits) };
        let vm = vm.map_err(kvm_error("KVM_CREATE_VM"))?;
        // Without it an access that KVM cannot decode makes KVM_RUN fail with ENOSYS.
        let to_user = kvm_enable_cap { cap: KVM_CAP_ARM_NISV_TO_USER, ..kvm_enable_cap::default() };
        vm.enable_cap(&to_user).map_err(kvm_error("KVM_CAP_ARM_NISV_TO_USER"))?;
        let vcpu = vm.create_vcpu(0).map_err(kvm_error("KVM_CREATE_VCPU"))?;
        let mut kind = kvm_vcpu_init::default();
        vm.get_preferred_target(&mut kind).map_err(kvm_error("KVM_ARM_PREFERRED_TARGET"))?;
        // Sets every general-purpose register to 0 (Linux, Documentation/virt/kvm/api.rst, 4.82).
        vcpu.vcpu_init(&kind).map_err(kvm_error("KVM_ARM_VCPU_INIT"))?;
        Ok(Self { vcpu, vm, memory: Vec::new(), ipa_bits })
    }

    /// Whether every address below `end` is one of the guest's.
    pub(super) fn can_address(&self, end: u64) -> Result<(), Error> {
        if end > 1 << self.ipa_bits { Err(Error::Addresses { end, bits: self.ipa_bits }) } else { Ok(()) }
    }

    /// Adds a memory slot.
    pub(super) fn add(&mut self, slot: &Slot, memory: Memory) -> Result<(), Error> {
        let (userspace_addr, size) = memory.address_and_size();
        let region = kvm_userspace_memory_region {
            slot: self.memory.len() as u32,
            flags: if slot.readonly { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: slot.ipa,
            memory_size: size as u64,
            userspace_addr,
        };
        // SAFETY: the guest gets exactly the bytes of `memory`, which this value keeps until the VM is gone; nobody holds
        // a reference into them.
        let added = unsafe { self.vm.set_user_memory_region(region) };
        // Also where it failed: the number of a slot is its place in this list.
        self.memory.push(memory);
        added.map_err(kvm_error(format!("KVM_SET_USER_MEMORY_REGION of {size:#x} bytes at {:#x}", slot.ipa)))
    }

    /// Sets the registers the guest starts with.
    pub(super) fn start(&self, guest: &Guest) -> Result<(), Error> {
        let values = [
            (regs::SCTLR_EL1, guest.sctlr),
            (regs::TCR_EL1, guest.tcr),
            (regs::MAIR_EL1, guest.mair),
            (regs::TTBR0_EL1, guest.ttbr0),
            (regs::VBAR_EL1, guest.vbar),
            (regs::PSTATE, regs::START_PSTATE),
            (regs::PC, guest.entry),
        ];
        for (register, value) in values {
            let set = self.vcpu.set_one_reg(register, &value.to_le_bytes());
            set.map_err(kvm_error(format!("KVM_SET_ONE_REG {register:#x}")))?;
        }
        Ok(())
    }

    /// A register's value.
    pub(super) fn get(&self, register: u64) -> Result<u64, Error> {
        let mut value = [0; 8];
        let got = self.vcpu.get_one_reg(register, &mut value);
        got.map_err(kvm_error(format!("KVM_GET_ONE_REG {register:#x}")))?;
        Ok(u64::from_le_bytes(value))
    }

    /// KVM_RUN, once.
    pub(super) fn run(&mut self) -> Exit {
        let mmio = |write, ipa, data: &[u8]| {
            let value = data.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
            Exit::Mmio { write, ipa, len: data.len() as u32, data: if write { value } else { 0 } }
        };
        match self.vcpu.run() {
            Ok(VcpuExit::MmioWrite(ipa, data)) => mmio(true, ipa, data),
            Ok(VcpuExit::MmioRead(ipa, data)) => mmio(false, ipa, data),
            Ok(VcpuExit::Intr) => Exit::Interrupted,
            // The exit that comes with a failure: `errno` is EFAULT (or EHWPOISON, which the crate does not tell apart).
            Ok(VcpuExit::MemoryFault { .. }) => Exit::Failed { errno: libc::EFAULT },
            Ok(VcpuExit::Unsupported(KVM_EXIT_ARM_NISV)) => {
                // SAFETY: the exit's number, just read, says that this is the member the kernel filled in.
                let nisv = unsafe { self.vcpu.get_kvm_run().__bindgen_anon_1.arm_nisv };
                Exit::NoValidSyndrome { iss: nisv.esr_iss, ipa: nisv.fault_ipa }
            }
            Ok(VcpuExit::SystemEvent(kind, data)) => {
                Exit::Other(format!("KVM_EXIT_SYSTEM_EVENT of type {kind} with {data:#x?}"))
            }
            Ok(VcpuExit::FailEntry(reason, cpu)) => {
                Exit::Other(format!("KVM_EXIT_FAIL_ENTRY: reason {reason:#x} on CPU {cpu}"))
            }
            Ok(VcpuExit::Unsupported(number)) => {
                Exit::Other(format!("KVM exit {number}, of which nothing is known here"))
            }
            Ok(exit) => Exit::Other(format!("KVM exit {exit:?}")),
            Err(e) if e.errno() == libc::EINTR || e.errno() == libc::EAGAIN => Exit::Interrupted,
            Err(e) => Exit::Failed { errno: e.errno() },
        }
    }
}
