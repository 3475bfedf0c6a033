//! GICv3, as far as one private interrupt of the first CPU needs it.

use alloc::string::String;

use crate::{board::Gic, cpu, memory::Own};

/// GICD_CTLR: affinity routing and group 1, with one Security state.
const ENABLE: u32 = 1 << 4 | 1 << 1;
/// Offsets in the redistributor, and of its second frame.
const WAKER: u64 = 0x14;
const SGI: u64 = 0x1_0000;
const GROUP: u64 = SGI + 0x80;
const SET_ENABLE: u64 = SGI + 0x100;

/// Lets a private interrupt (16 to 31) come to EL2.
///
/// # Errors
/// Where the controller cannot be mapped, or does not wake.
pub(crate) fn enable(gic: &Gic, interrupt: u32, own: &mut Own) -> Result<(), String> {
    own.device(gic.distributor)?.write(0, ENABLE);
    let redistributor = own.device(gic.redistributors)?;
    // ProcessorSleep, then ChildrenAsleep.
    redistributor.write(WAKER, redistributor.read(WAKER) & !0b10);
    cpu::wait(100, || redistributor.read(WAKER) & 0b100 == 0).ok_or("the redistributor does not wake")?;
    redistributor.write(GROUP, redistributor.read(GROUP) | 1 << interrupt);
    redistributor.write(SET_ENABLE, 1 << interrupt);
    cpu::open_interrupts();
    Ok(())
}
