//! What stage 2 maps, read from its tables entry by entry.

use std::collections::BTreeSet;

use hyp::{S2Kind, Vm};
use mmu::{
    Arena, Ia, Oa, PAGE, Words,
    arm::{self, Entry, S2Attrs, Stage2, entry_size},
};

/// A block or page of stage 2: where, how large, to where, how.
pub(crate) type Mapped = (u64, u64, u64, S2Attrs);

/// Every block and page of stage 2. A table is reached once.
pub(crate) fn mapped<const N: usize>(vm: &Vm<Arena<Vec<u64>>, N>) -> Result<Vec<Mapped>, String> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    let start = vm.config().start_level();
    let mut tables: Vec<(u64, u8, u64)> =
        (0..vm.config().root_frames()).map(|i| (vm.root().0 + i * PAGE, start, i * 512 * entry_size(start))).collect();
    while let Some((table, level, first)) = tables.pop() {
        if !seen.insert(table) {
            return Err(format!("the table at {table:#x} is in two places"));
        }
        for i in 0..512 {
            let ia = first + i * entry_size(level);
            let word = vm.tables().read(Oa(table + 8 * i)).map_err(|e| format!("{e:?}"))?;
            match arm::decode::<Stage2>(word, level) {
                Entry::Invalid if word != 0 => return Err(format!("{word:#x} at level {level} for {ia:#x}")),
                Entry::Invalid => {}
                Entry::Table { next, .. } => tables.push((next.0, level + 1, ia)),
                Entry::Leaf { oa, attrs } => all.push((ia, entry_size(level), oa.0, attrs)),
            }
        }
    }
    Ok(all)
}

/// What must hold of stage 2 at any time.
pub(crate) fn sound<const N: usize>(vm: &Vm<Arena<Vec<u64>>, N>) -> Result<(), String> {
    for (ia, size, oa, attrs) in mapped(vm)? {
        let here = format!("{ia:#x}+{size:#x} -> {oa:#x} {attrs:?}");
        let Some(slot) = vm.slot_at(Ia(ia)) else { return Err(format!("outside of every slot: {here}")) };
        if ia + (size - 1) > slot.last().0 {
            return Err(format!("beyond its slot {slot:?}: {here}"));
        }
        if oa != slot.pa.0 + (ia - slot.ipa.0) {
            return Err(format!("to another place than its slot {slot:?}: {here}"));
        }
        let kind = vm.policy().decide(&slot.vma, vm.cpu()).map_err(|e| e.to_string())?.kind;
        let executable = attrs.xn == 0b00;
        let wanted = S2Attrs {
            memattr: kind.memattr(vm.fwb()),
            sh: 0b11,
            read: true,
            write: !slot.readonly,
            accessed: true,
            fnxs: false,
            contiguous: false,
            xn: if executable { 0b00 } else { 0b10 },
        };
        if attrs != wanted || executable && kind != S2Kind::Normal {
            return Err(format!("not {kind:?} as decided for {slot:?}: {here}"));
        }
    }
    Ok(())
}
