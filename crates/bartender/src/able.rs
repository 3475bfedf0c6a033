//! What a machine cannot show, known from the scenario alone.

use scenario::{Reads, Scenario, program::Op};

/// Why a real Linux kernel cannot run `scenario` in an emulated server: no such device, or no such call.
///
/// # Errors
/// In a sentence.
pub fn on_linux(scenario: &Scenario) -> Result<(), String> {
    for device in &scenario.devices {
        if !matches!(device.bars.as_slice(), [bar] if bar.index == 2 && bar.prefetchable) {
            let name = &device.name;
            return Err(format!("`{name}`: an emulated device has one BAR, index 2, prefetchable"));
        }
        for bar in &device.bars {
            let place = format!("{}.{}", device.name, bar.index);
            if bar.dead {
                return Err(format!(
                    "{place} is dead: vfio-pci maps no BAR whose memory decode is off, it gives SIGBUS"
                ));
            }
            if bar.reads == Reads::Clear {
                return Err(format!(
                    "{place} is cleared by reading: no emulated device has such a BAR of its own pages"
                ));
            }
            if bar.cached {
                return Err(format!(
                    "{place} is mapped cacheable by a driver of its own: the emulator has no such device"
                ));
            }
        }
    }
    for (line, op) in &scenario.program.ops {
        let what = match op {
            Op::UserStore { .. } | Op::UserLoad { .. } => {
                "user space's access: KVM hands no HVC of this kind to user space"
            }
            Op::DmaStore { .. } | Op::DmaLoad { .. } => "DMA: the emulated device makes none",
            Op::SetAttribute { .. } => "an attribute: no kernel has a call for it",
            _ => continue,
        };
        return Err(format!("line {line} is {what}"));
    }
    Ok(())
}
