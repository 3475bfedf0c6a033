//! The instructions: loads and stores of one register, and the fences. One file for each architecture, each the same functions.
#![cfg_attr(any(target_arch = "aarch64", target_arch = "x86_64"), expect(unsafe_code, reason = "fences"))]

#[cfg(target_arch = "aarch64")]
#[path = "arch/aarch64.rs"]
mod imp;
#[cfg(target_arch = "x86_64")]
#[path = "arch/x86_64.rs"]
mod imp;
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
#[path = "arch/volatile.rs"]
mod imp;

pub(crate) use imp::*;

use memtype::Arch;
use memtype::barrier::{Fence, Role};

/// The fence that is emitted for a role, on each architecture: by its name in [`memtype::barrier::FENCES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emitted {
    /// The architecture.
    pub arch: Arch,
    /// For what.
    pub role: Role,
    /// Which.
    pub name: &'static str,
}

impl Emitted {
    /// What the architecture says of it.
    #[must_use]
    pub fn fence(self) -> Option<&'static Fence> {
        Fence::named(self.arch, self.name)
    }
}

/// `fences! { (arch, "target_arch") { function role "name" "instruction", … } }` makes the functions of the architecture that is
/// compiled for, and the table of all of them, out of one list: what the table says is what is assembled.
macro_rules! fences {
    ($(($arch:ident, $target:literal) { $($function:ident $role:ident $name:literal $asm:literal;)+ })+) => {
        /// Every fence that the views of this crate emit.
        pub const EMITTED: &[Emitted] = &[$($(
            Emitted { arch: Arch::$arch, role: Role::$role, name: $name },
        )+)+];
        $($(
            #[cfg(target_arch = $target)]
            #[inline(always)]
            pub(crate) fn $function() {
                // No `nomem`: the compiler moves no access across it either.
                // SAFETY: a fence touches no memory and no register.
                unsafe { core::arch::asm!($asm, options(nostack, preserves_flags)) };
            }
        )+)+
    };
}

// Around a register access as Linux has it in readl() and writel(): arch/arm64/include/asm/io.h and barrier.h (`__io_ar` is
// dma_rmb(), `__io_bw` dma_wmb()), arch/x86/include/asm/io.h (a "memory" clobber), arch/riscv/include/asm/mmio.h. Not taken over is
// arm64's branch that depends on the value read: it orders a later read of the counter, for udelay().
fences! {
    (Arm64, "aarch64") {
        after_read DeviceToDma "DMB OSHLD" "DMB OSHLD";
        before_write DmaToDevice "DMB OSHST" "DMB OSHST";
        begin WcStart "DMB OSHST" "DMB OSHST";
        between WcBetween "DMB OSHST" "DMB OSHST";
        flush WcFlush "DSB OSHST" "DSB OSHST";
        hint StopCombining "DGH" "HINT #6";
    }
    (X86, "x86_64") {
        after_read DeviceToDma "compiler only" "";
        before_write DmaToDevice "compiler only" "";
        begin WcStart "SFENCE" "SFENCE";
        between WcBetween "SFENCE" "SFENCE";
        flush WcFlush "SFENCE" "SFENCE";
    }
    (Riscv, "riscv64") {
        after_read DeviceToDma "fence i,ir" "fence i,ir";
        before_write DmaToDevice "fence w,o" "fence w,o";
        begin WcStart "fence ow,ow" "fence ow,ow";
        between WcBetween "fence ow,ow" "fence ow,ow";
        flush WcFlush "fence ow,ow" "fence ow,ow";
    }
    (LoongArch, "loongarch64") {
        after_read DeviceToDma "dbar 0" "dbar 0";
        before_write DmaToDevice "dbar 0" "dbar 0";
        begin WcStart "dbar 0" "dbar 0";
        between WcBetween "dbar 0" "dbar 0";
        flush WcFlush "dbar 0" "dbar 0";
    }
}

/// Only arm64 has a hint.
#[cfg(not(target_arch = "aarch64"))]
pub(crate) const fn hint() {}

/// Elsewhere the strongest fence that Rust knows: `sync` on Power, which suffices for each role; on s390 `BCR`, which says nothing
/// of PCI stores (there a plain store does not reach a device at all). Nobody has run it.
#[cfg(not(any(
    target_arch = "aarch64",
    target_arch = "x86_64",
    target_arch = "riscv64",
    target_arch = "loongarch64"
)))]
mod fences {
    use core::sync::atomic::{Ordering, fence};

    macro_rules! strongest {
        ($($function:ident)+) => { $(pub(crate) fn $function() { fence(Ordering::SeqCst); })+ };
    }
    strongest! { after_read before_write begin between flush }
}
#[cfg(not(any(
    target_arch = "aarch64",
    target_arch = "x86_64",
    target_arch = "riscv64",
    target_arch = "loongarch64"
)))]
pub(crate) use fences::*;

#[cfg(test)]
mod tests {
    use super::*;
    use memtype::barrier::{Effect, FENCES, needs};

    /// Each does what its role needs; where an architecture promises that of no fence (RISC-V: that one drains), none promises
    /// more of it than the one emitted.
    #[test]
    fn each_suffices() {
        for it in EMITTED {
            let fence = it.fence().unwrap();
            if needs(it.arch, it.role).next().is_some() {
                assert!(fence.suffices(it.role), "{it:?}");
                continue;
            }
            let wants = it.role.wants();
            assert!(fence.guaranteed.with(fence.open).has_all(wants), "{it:?}");
            let does = fence.guaranteed.common(wants);
            assert!(
                FENCES.iter().filter(|f| f.arch == it.arch).all(|f| does.has_all(f.guaranteed.common(wants))),
                "{it:?}"
            );
        }
    }

    /// [`crate::access::Burst::order`] gives the token for the doorbell with the fence of [`Role::WcBetween`].
    #[test]
    fn between_orders_the_doorbell() {
        for it in EMITTED.iter().filter(|it| it.role == Role::WcBetween) {
            assert!(it.fence().unwrap().guaranteed.has(Effect::WcBeforeUc), "{it:?}");
        }
    }

    /// arm64 and x86 emit nothing that is dearer than needed.
    #[test]
    fn none_is_dearer_than_needed() {
        for it in EMITTED.iter().filter(|it| matches!(it.arch, Arch::Arm64 | Arch::X86)) {
            assert!(needs(it.arch, it.role).any(|f| f.name == it.name), "{it:?}");
        }
    }
}
