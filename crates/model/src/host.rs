//! The host's side: each device under VFIO, user space's mappings of its BARs, the memory slots made of them.

use hyp::{
    Cpu, Facts, Policy, Slot, Vm, Vma,
    region::{self, Index, Mapping, Refused, Uapi},
};
use memtype::Attribute;
use mmu::{Arena, Ia, Oa};
use scenario::{Layout, Outcome, Scenario, layout::Backing};

use crate::{
    Error,
    bus::{BAR_PA, RAM_PA, Window},
};

/// Where the stage-2 tables lie.
const TABLES_PA: u64 = 0x60_0000_0000;
const TABLE_FRAMES: usize = 1024;
/// RAM, 16 BARs, and what 64 attributes cut them into.
const SLOTS: usize = 1 + 16 + 2 * 64;

/// A VFIO device with room for all a scenario can ask for: 64 attributes, and the parts they leave of 6 BARs.
type Device = region::Device<64, 136>;

/// The host of a VM.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) vm: Vm<Arena<Vec<u64>>, SLOTS>,
    devices: Vec<Device>,
    /// No hypervisor: the machine that a scenario is measured by.
    pub(crate) bare: bool,
}

/// Why there is no VM to run.
#[derive(Debug)]
pub(crate) enum NotBuilt {
    /// A call of user space's failed, which is an outcome.
    Refused(Outcome),
    /// The model's own mistake.
    Error(Error),
}

impl NotBuilt {
    fn refused(errno: i32, why: String) -> Self {
        Self::Refused(Outcome::SlotRefused { errno, why })
    }
}

impl From<Refused> for NotBuilt {
    fn from(refused: Refused) -> Self {
        Self::refused(refused.errno(), format!("mmap: {refused}"))
    }
}

impl From<hyp::Error> for NotBuilt {
    fn from(error: hyp::Error) -> Self {
        match error {
            hyp::Error::Refused { .. } => Self::refused(error.errno(), format!("KVM_SET_USER_MEMORY_REGION: {error}")),
            _ => Self::Error(Error::Hyp(error)),
        }
    }
}

/// Where a BAR lies: where its IPA does, relative to its base, so that it is naturally aligned.
fn bar_pa(layout: &Layout, device: usize, bar: usize) -> u64 {
    let slot = layout.slots.iter().find(|s| s.backing == Backing::Bar { device, bar });
    BAR_PA + slot.map_or(0, |s| s.ipa)
}

/// The BARs on the bus.
pub(crate) fn windows(scenario: &Scenario, layout: &Layout) -> Vec<Window> {
    let mut windows = Vec::new();
    for (d, device) in scenario.devices.iter().enumerate() {
        for (b, bar) in device.bars.iter().enumerate() {
            let first = bar_pa(layout, d, b);
            let parts = [(0, bar.clear, true), (bar.clear, bar.size, false)];
            for (from, to, clear) in parts.into_iter().filter(|(from, to, _)| from < to) {
                let (from, last, end) = (first + from, first + (to - 1), first + (bar.size - 1));
                windows.push(Window { first: from, last, end, dead: bar.dead, clear });
            }
        }
    }
    windows
}

impl Host {
    /// VFIO and KVM under `policy`.
    pub(crate) fn new(scenario: &Scenario, layout: &Layout, policy: Policy, cpu: Cpu) -> Result<Self, NotBuilt> {
        let mut host = Self::empty(policy, cpu)?;
        for (d, device) in scenario.devices.iter().enumerate() {
            let bars: Vec<region::Bar> = device
                .bars
                .iter()
                .enumerate()
                .map(|(b, bar)| {
                    let of = Facts::of_device(device.class, scenario.platform);
                    let facts = Facts { prefetchable: bar.prefetchable, cached: bar.cached, ..of };
                    region::Bar::new(bar.index, Oa(bar_pa(layout, d, b)), bar.size).with(facts)
                })
                .collect();
            host.devices.push(Device::new(policy, Uapi::Subregions, &bars)?);
        }
        if policy.takes_attributes() {
            for asked in &scenario.attributes {
                let Some(device) = host.devices.get_mut(asked.device) else { continue };
                let bar = scenario.devices[asked.device].bars[asked.bar].index;
                device.create(Index(u32::from(bar)), asked.offset, asked.size, asked.ask)?;
            }
        }
        for slot in &layout.slots {
            match slot.backing {
                Backing::Ram => {
                    host.vm.add_slot(Slot::new(Ia(slot.ipa), slot.size, Oa(RAM_PA + slot.ipa), Vma::RAM))?;
                }
                Backing::Bar { device, bar } => {
                    let number = scenario.devices[device].bars[bar].index;
                    let vm = &mut host.vm;
                    host.devices[device].mmap_bar::<NotBuilt>(number, |mapping, pa| {
                        let piece = Slot::new(Ia(pa.0 - BAR_PA), mapping.area.size, pa, mapping.vma);
                        vm.add_slot(Slot { readonly: slot.readonly, ..piece })?;
                        Ok(())
                    })?;
                }
            }
        }
        Ok(host)
    }

    /// No hypervisor. Stage 2 that says Normal Write-Back of everything, without FWB, leaves each type as stage 1 says it
    /// (D8.6.5), which is what no stage 2 does; so the bare machine is a VM all of whose slots are RAM to KVM.
    pub(crate) fn bare(layout: &Layout) -> Result<Self, NotBuilt> {
        let mut host = Self::empty(Policy::Linux6_1, Cpu { fwb: false, dic: true })?;
        for slot in &layout.slots {
            let base = if slot.backing == Backing::Ram { RAM_PA } else { BAR_PA };
            host.vm.add_slot(Slot::new(Ia(slot.ipa), slot.size, Oa(base + slot.ipa), Vma::RAM))?;
        }
        Ok(Self { bare: true, ..host })
    }

    fn empty(policy: Policy, cpu: Cpu) -> Result<Self, NotBuilt> {
        let tables = Arena::new(Oa(TABLES_PA), vec![0u64; TABLE_FRAMES * 512]);
        Ok(Self { vm: Vm::new(policy, cpu, tables)?, devices: Vec::new(), bare: false })
    }

    /// The slots of BARs, in ascending order.
    pub(crate) fn bars(&self) -> Vec<Slot> {
        let mut bars: Vec<Slot> = self.vm.slots().filter(|s| s.pa.0 >= BAR_PA).copied().collect();
        bars.sort_by_key(|s| s.ipa);
        bars
    }

    /// The physical address behind an IPA, and user space's own mapping of it.
    pub(crate) fn mapping(&self, ipa: u64) -> Option<(u64, Vma)> {
        let slot = self.vm.slot_at(Ia(ipa))?;
        let pa = slot.pa.0 + (ipa - slot.ipa.0);
        let vma = if self.bare && pa >= BAR_PA { Vma::device(hyp::Pgprot::Noncached) } else { slot.vma };
        Some((pa, vma))
    }

    /// The live mapping of a BAR that this physical address lies in.
    pub(crate) fn mapped(&self, pa: u64) -> Option<&Mapping> {
        self.devices.iter().find_map(|device| {
            let holds = |m: &&Mapping| {
                let first = device.bar(m.bar).map_or(0, |b| b.pa.0) + m.area.offset;
                (first..=first + (m.area.size - 1)).contains(&pa)
            };
            device.mappings().find(holds)
        })
    }

    /// User space changes what it asked for at this offset of a BAR, and KVM is told.
    pub(crate) fn set(
        &mut self,
        (device, bar, offset): (usize, u8, u64),
        ask: Attribute,
        maintenance: &mut impl hyp::Maintenance,
    ) -> Result<(), String> {
        let policy = self.vm.policy();
        if self.bare || !policy.takes_attributes() {
            return Err(format!("under {} there is no call by which to ask for `{ask}`", policy.name()));
        }
        let device = self.devices.get_mut(device).ok_or("there is no such device")?;
        if let Some(zap) = device.set_at(bar, offset, ask).map_err(|e| e.to_string())? {
            self.vm.remapped(zap.pa, zap.size, zap.vma, maintenance);
        }
        Ok(())
    }
}
