//! What the CPU under this process can do for accesses.
#![expect(unsafe_code, reason = "MRS, calls to libc, a promise of the caller's")]

/// What the accesses use where the CPU has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features {
    /// A store of 64 bytes that leaves the CPU as one: x86 MOVDIR64B, arm64 ST64B.
    store64: bool,
    /// arm64 FEAT_DGH. The hint is a NOP without it, and is given all the same.
    dgh: bool,
}

impl Features {
    /// Nothing beyond the base architecture.
    pub const BASE: Self = Self { store64: false, dgh: false };

    /// What this CPU has. x86: CPUID. arm64: the auxiliary vector of Linux; without `std` nothing is known, see
    /// [`Features::with_store64`].
    #[must_use]
    pub fn detect() -> Self {
        detect()
    }

    /// The same, with the store of 64 bytes.
    ///
    /// # Safety
    /// The CPU has it (arm64: FEAT_LS64, and EL2 and EL1 let it through), otherwise it is an undefined instruction.
    #[must_use]
    pub const unsafe fn with_store64(self) -> Self {
        Self { store64: true, ..self }
    }

    /// Whether there is a store of 64 bytes that leaves the CPU as one.
    ///
    /// On arm64 that the CPU has it says nothing of the address: where the address does not support it the store faults, or
    /// is byte by byte (DDI 0487 C3.2.8), and nothing can be asked (Linux `Documentation/arch/arm64/elf_hwcaps.rst`).
    #[must_use]
    pub const fn store64(self) -> bool {
        self.store64
    }

    /// Whether the data gathering hint is more than a NOP.
    #[must_use]
    pub const fn dgh(self) -> bool {
        self.dgh
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Features {
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    // SDM vol. 2 CPUID: leaf 7, subleaf 0, ECX bit 28.
    let store64 = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ecx & 1 << 28 != 0;
    Features { store64, dgh: false }
}

#[cfg(all(target_arch = "aarch64", target_os = "linux", feature = "std"))]
fn detect() -> Features {
    // Linux 7.2 arch/arm64/include/uapi/asm/hwcap.h. The third word is not in 6.12, nor in libc by name.
    const AT_HWCAP3: libc::c_ulong = 29;
    const HWCAP3_LS64: libc::c_ulong = 1 << 3;
    const HWCAP2_DGH: libc::c_ulong = 1 << 15;
    // SAFETY: getauxval has no precondition; it gives 0 for what it does not know.
    let (two, three) = unsafe { (libc::getauxval(libc::AT_HWCAP2), libc::getauxval(AT_HWCAP3)) };
    Features { store64: three & HWCAP3_LS64 != 0, dgh: two & HWCAP2_DGH != 0 }
}

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_os = "linux", feature = "std"))))]
const fn detect() -> Features {
    Features::BASE
}

/// x86: whether CPUID says that a hypervisor is there (leaf 1, ECX bit 31). Nothing elsewhere: no instruction tells.
#[must_use]
pub fn hypervisor() -> Option<bool> {
    #[cfg(target_arch = "x86_64")]
    {
        Some(core::arch::x86_64::__cpuid(1).ecx & 1 << 31 != 0)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        None
    }
}

/// arm64: CTR_EL0. Linux lets EL0 read it, or traps and answers with what is safe on every core.
#[must_use]
pub fn ctr() -> Option<u64> {
    #[cfg(target_arch = "aarch64")]
    {
        let value: u64;
        // SAFETY: reads a register that is readable at this level, or is emulated there; no memory is touched.
        unsafe { core::arch::asm!("mrs {}, CTR_EL0", out(reg) value, options(nomem, nostack, preserves_flags)) };
        Some(value)
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        None
    }
}

/// Bytes of a page.
#[cfg(feature = "std")]
#[must_use]
pub fn page_size() -> usize {
    // SAFETY: sysconf has no precondition.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Keeps this thread on the CPU it runs on, whose number it gives; nothing where that is refused.
#[cfg(all(feature = "std", target_os = "linux"))]
#[must_use]
pub fn pin() -> Option<usize> {
    // SAFETY: no precondition.
    let cpu = usize::try_from(unsafe { libc::sched_getcpu() }).ok()?;
    // SAFETY: a set of zeroes is an empty one; it outlives the calls; CPU_SET checks the number against its size.
    let refused = unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        if cpu >= 8 * size_of::<libc::cpu_set_t>() {
            return None;
        }
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    (refused == 0).then_some(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page() {
        assert!(page_size().is_power_of_two());
    }

    /// `/proc/cpuinfo` says the same of MOVDIR64B as CPUID.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn movdir64b() {
        let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else { return };
        let flags = text.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
        assert_eq!(Features::detect().store64(), flags.split(' ').any(|f| f == "movdir64b"));
        assert_eq!(hypervisor(), Some(flags.split(' ').any(|f| f == "hypervisor")));
    }
}
