//! The bus: how the BAR is described, and which windows it lies behind.

use std::fmt::Write as _;

use host::{Hole, Why};

use crate::{Layer, Sure, seat::Seat};

/// What the bus makes of it. It has no memory type; what is there decides what the kernel offers, and what can be expected.
pub(crate) fn layer(seat: &Seat<'_>) -> Layer {
    let bar = seat.bar;
    if bar.io {
        let why = "I/O space has no memory type: every access of a guest is the VMM's to do".into();
        return Layer { what: format!("I/O BAR of {}", bytes(bar.size.0)), ty: None, why, sure: sure(seat) };
    }
    let width = if bar.wide { "64-bit" } else { "32-bit" };
    let not = if bar.prefetchable { "" } else { "non-" };
    let mut what = format!("{width} {not}prefetchable BAR of {}", bytes(bar.size.0));
    let windows: Vec<_> = bar.behind.iter().filter(|w| !w.io).collect();
    if let Some(last) = windows.last() {
        let not = if last.prefetchable { "" } else { "non-" };
        let _ = write!(what, " in a {not}prefetchable window of {}", last.bridge);
    }
    let mut why = vec![if bar.prefetchable {
        "reads have no side effects and writes may be merged, says the device (bit 3 of the BAR)".to_owned()
    } else {
        "the device does not say that reads have no side effects (bit 3 of the BAR is clear), so that there is no resourceN_wc"
            .to_owned()
    }];
    if bar.prefetchable && windows.iter().any(|w| !w.prefetchable) {
        why.push(
            "a prefetchable BAR may lie in a non-prefetchable window; neither VFIO, sysfs nor KVM looks at the window, but a \
             bridge must not prefetch or merge there"
                .to_owned(),
        );
    }
    if !bar.prefetchable && windows.iter().any(|w| w.prefetchable) {
        why.push("it lies in a prefetchable window though it is not: a bridge may read ahead".to_owned());
    }
    if bar.size.0 < seat.page() {
        why.push(format!("it is smaller than a page of {}", bytes(seat.page())));
    }
    if let Some(at) = bar.at
        && at.first.0 % seat.page() != 0
    {
        why.push(format!("it begins at {:#x}, within a page", at.first.0));
    }
    if let Some(msix) = seat.function.msix.known() {
        let (table, pba) = (msix.table.0 == bar.index, msix.pba.0 == bar.index);
        if table {
            why.push(format!("the MSI-X table is in it at {:#x}: the VMM has to trap that page", msix.table.1));
        }
        if pba && !table {
            why.push(format!("the MSI-X pending bits are in it at {:#x}", msix.pba.1));
        }
    }
    if seat.function.command.known().is_some_and(|c| !c.memory) {
        why.push("memory decode is off now: VFIO turns it on when the device is opened, sysfs does not".to_owned());
    }
    if let Some(power) = seat.function.power.known()
        && power.starts_with("D3")
    {
        why.push(format!("the function is in {power} now: VFIO wakes it when it is opened, sysfs does not"));
    }
    Layer { what, ty: None, why: why.join("; "), sure: sure(seat) }
}

fn sure(seat: &Seat<'_>) -> Sure {
    if seat.bar.at.is_some() {
        Sure::Seen("the function's `resource`, and the windows of the bridges above".into())
    } else {
        let at = format!("/sys/bus/pci/devices/{}/resource", seat.function.bdf);
        Sure::Rests(vec![Hole { at, why: Why::Failed(format!("BAR {} has no address", seat.bar.index)) }])
    }
}

/// In the largest unit that divides it.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match UNITS.into_iter().find(|(shift, _)| n >> shift != 0 && n.trailing_zeros() >= *shift) {
        Some((shift, unit)) => format!("{} {unit}", n >> shift),
        None => format!("{n} bytes"),
    }
}
