//! The machine, as its device tree describes it.

use alloc::{format, string::String, vec::Vec};

use dtoolkit::{
    Node, Property,
    fdt::{Fdt, FdtNode},
};

/// First address and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first address.
    pub(crate) base: u64,
    /// How many bytes.
    pub(crate) size: u64,
}

/// A PCI host bridge with ECAM.
#[derive(Debug, Clone)]
pub(crate) struct Bridge {
    /// Configuration space.
    pub(crate) ecam: Window,
    /// Memory windows: the bus address (what a BAR holds), the CPU's, bytes, and whether bus addresses are of 64 bits.
    pub(crate) windows: Vec<(u64, Window, bool)>,
}

/// GICv3.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gic {
    /// The distributor.
    pub(crate) distributor: Window,
    /// The redistributors; that of the first CPU comes first.
    pub(crate) redistributors: Window,
}

/// The machine.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    /// RAM.
    pub(crate) ram: Window,
    /// PL011.
    pub(crate) console: Window,
    /// PCI, where there is any.
    pub(crate) bridge: Option<Bridge>,
    /// The interrupt controller, where it is a GICv3.
    pub(crate) gic: Option<Gic>,
    /// The interrupt of the EL2 physical timer.
    pub(crate) timer: Option<u32>,
}

fn compatible<'a>(tree: &Fdt<'a>, name: &str) -> Option<FdtNode<'a>> {
    tree.root().children().find(|node| node.compatible().is_some_and(|mut all| all.any(|one| one == name)))
}

fn windows(node: FdtNode<'_>) -> Vec<Window> {
    let of = |reg: dtoolkit::standard::Reg<'_>| Some(Window { base: reg.address().ok()?, size: reg.size().ok()? });
    node.reg().ok().flatten().into_iter().flatten().filter_map(of).collect()
}

/// Bits 25:24 of the first cell of a PCI address: what space it is in (IEEE 1275, PCI bus binding 2.2.1.1).
const MEMORY_32: u32 = 0b10;
const MEMORY_64: u32 = 0b11;

fn bridge(node: FdtNode<'_>) -> Option<Bridge> {
    let mut found = Vec::new();
    for range in node.ranges().ok()?? {
        // Three cells: what space, and an address of 64 bits.
        let address: u128 = range.child_bus_address().ok()?;
        let space = (address >> 64) as u32 >> 24 & 0b11;
        if space == MEMORY_32 || space == MEMORY_64 {
            let window = Window { base: range.parent_bus_address().ok()?, size: range.length().ok()? };
            found.push((address as u64, window, space == MEMORY_64));
        }
    }
    Some(Bridge { ecam: windows(node).first().copied()?, windows: found })
}

/// The fourth of `interrupts`: secure, non-secure, virtual, hypervisor (the binding `arm,armv8-timer`). A PPI counts from 16.
fn hypervisor_timer(node: FdtNode<'_>) -> Option<u32> {
    let property = node.property("interrupts")?;
    let [kind, number, _] = property.as_prop_encoded_array([1, 1, 1]).ok()?.nth(3)?;
    let cell = |cells: dtoolkit::Cells<'_>| dtoolkit::ToCellInt::to_int::<u32>(cells).ok();
    (cell(kind)? == 1).then_some(cell(number)? + 16)
}

impl Board {
    /// What the tree says.
    ///
    /// # Errors
    /// What is missing in it.
    pub(crate) fn of(tree: &Fdt<'_>) -> Result<Self, String> {
        let missing = |what: &str| format!("the device tree has no {what}");
        let memory = tree.root().children().find(|node| node.name_without_address() == "memory");
        let ram = memory.and_then(|node| windows(node).first().copied()).ok_or_else(|| missing("memory"))?;
        let console = compatible(tree, "arm,pl011").and_then(|node| windows(node).first().copied());
        let gic = compatible(tree, "arm,gic-v3").and_then(|node| match *windows(node) {
            [distributor, redistributors, ..] => Some(Gic { distributor, redistributors }),
            _ => None,
        });
        Ok(Self {
            ram,
            console: console.ok_or_else(|| missing("PL011"))?,
            bridge: compatible(tree, "pci-host-ecam-generic").and_then(bridge),
            gic,
            timer: compatible(tree, "arm,armv8-timer").and_then(hypervisor_timer),
        })
    }
}
