//! What KVM answers, asked with a VM of no memory that is gone again at once. Nothing outside of that VM is changed.

use ::host::{Fact, Kvm};

/// Asks KVM.
#[must_use]
pub fn ask_kvm() -> Fact<Kvm> {
    imp::ask()
}

#[cfg(not(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64"))))]
mod imp {
    use super::{Fact, Kvm};

    pub(super) const fn ask() -> Fact<Kvm> {
        Fact::Absent
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
mod imp {
    use ::host::{Hole, Why};
    use kvm_bindings::{KVM_API_VERSION, kvm_create_device, kvm_device_type_KVM_DEV_TYPE_VFIO};
    use kvm_ioctls::{Error, Kvm as Open, VmFd};

    use super::{Fact, Kvm};

    pub(super) fn ask() -> Fact<Kvm> {
        match try_ask() {
            Ok(kvm) => Fact::Known(kvm),
            Err((at, e)) => match e.errno() {
                // No node, or a node with nothing behind it.
                libc::ENOENT | libc::ENXIO | libc::ENODEV => Fact::Absent,
                libc::EACCES | libc::EPERM => Fact::Hole(Hole { at: at.into(), why: Why::Denied }),
                _ => Fact::Hole(Hole { at: at.into(), why: Why::Failed(e.to_string()) }),
            },
        }
    }

    type Failed = (&'static str, Error);

    fn try_ask() -> Result<Kvm, Failed> {
        let kvm = Open::new().map_err(|e| ("/dev/kvm", e))?;
        if u32::try_from(kvm.get_api_version()) != Ok(KVM_API_VERSION) {
            return Err(("KVM_GET_API_VERSION", Error::new(libc::ENOTTY)));
        }
        let vm = smallest(&kvm).map_err(|e| ("KVM_CREATE_VM", e))?;
        of_arch(&kvm, &vm, vfio_device(&vm))
    }

    /// A VM of no memory. Its table goes with it, and Linux 7.2 walks all of a 52-bit one: seconds. 32 bits are the least there are; a
    /// kernel that knows no sizes answers 0 and makes 40.
    #[cfg(target_arch = "aarch64")]
    fn smallest(kvm: &Open) -> Result<VmFd, Error> {
        if kvm.get_host_ipa_limit() > 0 { kvm.create_vm_with_ipa_size(32) } else { kvm.create_vm() }
    }

    #[cfg(target_arch = "x86_64")]
    fn smallest(kvm: &Open) -> Result<VmFd, Error> {
        kvm.create_vm()
    }

    /// By making one, in the VM that is gone at once. ENODEV: this kernel has none.
    fn vfio_device(vm: &VmFd) -> Option<bool> {
        let mut device = kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 };
        match vm.create_device(&mut device) {
            Ok(_) => Some(true),
            Err(e) if e.errno() == libc::ENODEV => Some(false),
            Err(_) => None,
        }
    }

    /// `KVM_CAP_DISABLE_QUIRKS2`: the quirks that can be turned off; 0 of a kernel that does not know it.
    #[cfg(target_arch = "x86_64")]
    fn of_arch(_: &Open, vm: &VmFd, vfio_device: Option<bool>) -> Result<Kvm, Failed> {
        let quirks = u64::try_from(vm.check_extension_raw(213)).ok().filter(|quirks| *quirks != 0);
        Ok(Kvm {
            cacheable_pfnmap: None,
            mmfr2: None,
            ctr: None,
            quirks,
            ipa_bits: None,
            nested_paging: None,
            vfio_device,
        })
    }

    #[cfg(target_arch = "aarch64")]
    fn of_arch(kvm: &Open, vm: &VmFd, vfio_device: Option<bool>) -> Result<Kvm, Failed> {
        /// `KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED`, answered by a VM only.
        const CACHEABLE_PFNMAP: u64 = 243;
        let vcpu = vm.create_vcpu(0).map_err(|e| ("KVM_CREATE_VCPU", e))?;
        let mut target = kvm_bindings::kvm_vcpu_init::default();
        vm.get_preferred_target(&mut target).map_err(|e| ("KVM_ARM_PREFERRED_TARGET", e))?;
        vcpu.vcpu_init(&target).map_err(|e| ("KVM_ARM_VCPU_INIT", e))?;
        let of_vm = vm.check_extension_raw(CACHEABLE_PFNMAP);
        let read = |id| {
            let mut value = [0; 8];
            vcpu.get_one_reg(id, &mut value).ok().map(|_| u64::from_le_bytes(value))
        };
        Ok(Kvm {
            // A VM's 0 may be that of a kernel before 6.17. /dev/kvm itself tells them apart: 0 of a number that is not known,
            // EINVAL of this one, which is about a VM (Linux 7.2, arch/arm64/kvm/arm.c, kvm_vm_ioctl_check_extension).
            cacheable_pfnmap: (kvm.check_extension_raw(CACHEABLE_PFNMAP) < 0 || of_vm > 0).then_some(of_vm > 0),
            mmfr2: read(crate::regs::ID_AA64MMFR2_EL1),
            ctr: read(crate::regs::CTR_EL0),
            quirks: None,
            ipa_bits: u32::try_from(kvm.get_host_ipa_limit()).ok().filter(|bits| *bits != 0),
            nested_paging: None,
            vfio_device,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is an answer on every machine, and the same one twice.
    #[test]
    fn it_answers_and_leaves_nothing_behind() {
        let files = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let before = files();
        let answer = ask_kvm();
        assert_eq!(answer, ask_kvm());
        assert_eq!(files(), before);
        if let Fact::Known(kvm) = answer {
            assert!(kvm.mmfr2.is_some() == cfg!(target_arch = "aarch64"), "{kvm:?}");
        }
    }
}
