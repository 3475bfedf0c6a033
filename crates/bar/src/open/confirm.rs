//! Whether a mapping is what the rule says: on x86 the kernel keeps a list.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use memtype::{Arch, MemoryType};

use super::{ARCH, Bar, Known, Type, with_mtrr};
use crate::text::{self, Cachemode, Reserved};

/// As what the addresses from `first` to `last`, both included, are reserved. The kernel lets no two reservations of different
/// types overlap (memtype_check_conflict(), arch/x86/mm/pat/memtype_interval.c); a list that says otherwise says nothing.
fn reserved(list: &[Reserved], first: u64, last: u64) -> Result<Cachemode, String> {
    let mut kinds = list.iter().filter(|r| r.first <= last && first <= r.last).map(|r| r.kind);
    let kind = kinds.next().ok_or("the list has nothing there")?;
    kinds.all(|other| other == kind).then_some(kind).ok_or_else(|| "the list has several types there".into())
}

impl Bar {
    /// What a mapping by a rule turned out to be.
    pub(super) fn confirm(&self, rule: Type, first: u64, last: u64) -> Type {
        let seen = match ARCH {
            Arch::X86 => self.list().and_then(|list| reserved(&list, first, last)),
            _ => Err("nothing shows it".into()),
        };
        match (seen, rule.known) {
            (Ok(kind), _) => Type { ty: MemoryType::X86(with_mtrr(kind)), known: Known::Seen(kind) },
            (Err(unseen), Known::Unless { helper, condition, otherwise, .. }) => {
                Type { ty: rule.ty, known: Known::Unless { helper, condition, otherwise, unseen } }
            }
            (Err(_), known) => Type { ty: rule.ty, known },
        }
    }

    fn list(&self) -> Result<Vec<Reserved>, String> {
        let path = self.device.root.join("sys/kernel/debug/x86/pat_memtype_list");
        let text = fs::read_to_string(&path).map_err(|error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => " (mount -t debugfs none /sys/kernel/debug; it needs CONFIG_X86_PAT)",
                std::io::ErrorKind::PermissionDenied => " (root may)",
                _ => "",
            };
            format!("{}: {error}{remedy}", path.display())
        })?;
        text::memtypes(&text).map_err(|line| format!("{}: {line}", path.display()))
    }

    /// Who or what may be why a mapping is not what was asked for.
    pub(super) fn holders(&self, ty: &Type, first: u64, last: u64) -> Vec<String> {
        let mut found = Vec::new();
        if let Known::Seen(kind) = ty.known {
            let ours = self.list().unwrap_or_default();
            let there = ours.iter().filter(|r| r.first <= last && first <= r.last);
            let ranges: BTreeSet<_> = there.map(|r| format!("{:#x}-{:#x}", r.first, r.last)).collect();
            if !ranges.is_empty() {
                let ranges: Vec<_> = ranges.into_iter().take(4).collect();
                found.push(format!("{} was reserved {kind} before", ranges.join(", ")));
            }
        }
        if let Some(driver) = self.device.driver() {
            found.push(format!("driver {driver} is bound to it"));
        }
        found.extend(self.mappers());
        found
    }

    /// The processes that have a file of this BAR mapped.
    fn mappers(&self) -> Vec<String> {
        const MOST: usize = 4;
        let ours = std::process::id();
        let file = format!("/{}/resource{}", self.device.bdf, self.index);
        let all = fs::read_dir(self.device.root.join("proc")).into_iter().flatten().flatten();
        let maps = |folder: &Path| {
            let text = fs::read_to_string(folder.join("maps")).unwrap_or_default();
            text.lines().any(|line| line.strip_suffix("_wc").unwrap_or(line).ends_with(&file))
        };
        all.filter_map(|entry| {
            let number: u32 = entry.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let who =
                if number == ours { "this process".into() } else { format!("process {number} ({})", name.trim()) };
            maps(&entry.path()).then(|| format!("{who} has it mapped"))
        })
        .take(MOST)
        .collect()
    }
}
