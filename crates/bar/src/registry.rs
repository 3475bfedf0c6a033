//! Which pages of device memory this process has mapped, and as what. One rule: **no page has two live mappings of different types**.
//! It is the rule of VFIO's regions in crate `hyp`, kept here by who maps. The same type may be mapped twice.
//!
//! Pages are of the machine's physical addresses: two small BARs may lie on one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memtype::MemoryType;
use platform::Bdf;

use crate::open::Way;

/// A live mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Of which function.
    pub bdf: Bdf,
    /// Of which BAR.
    pub bar: u8,
    /// Its first byte, from the BAR's.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// As what.
    pub ty: MemoryType,
    /// By which way.
    pub way: Way,
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bdf, bar, offset, size, ty, way } = self;
        write!(f, "{bdf} BAR {bar} {offset:#x}+{size:#x} as {ty} by {way}")
    }
}

/// A page is mapped, and was asked for as another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What was asked for.
    pub asked: Live,
    /// What is there.
    pub holds: Live,
    /// The first address that both have.
    pub at: u64,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, holds, at } = self;
        write!(f, "{asked} shares the page at {at:#x} with {holds}, which is mapped in this process")
    }
}

impl std::error::Error for Conflict {}

/// The live mappings, by where their pages begin and a number that makes them unique.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    live: BTreeMap<u64, (u64, u64, Live)>,
    next: u64,
}

impl Registry {
    /// Whether the pages from `first` to `last`, both bytes included, can be mapped so.
    pub(crate) fn check(&self, first: u64, last: u64, asked: &Live) -> Result<(), Conflict> {
        let meets = |(a, b, _): &&(u64, u64, Live)| *a <= last && first <= *b;
        match self.live.values().filter(meets).find(|(_, _, live)| live.ty != asked.ty) {
            None => Ok(()),
            Some((a, _, holds)) => Err(Conflict { asked: asked.clone(), holds: holds.clone(), at: first.max(*a) }),
        }
    }
    /// A mapping of this function by sysfs.
    pub(crate) fn by_sysfs(&self, bdf: Bdf) -> Option<&Live> {
        let live = self.live.values().map(|(_, _, live)| live);
        live.into_iter().find(|live| live.bdf == bdf && matches!(live.way, Way::Sysfs | Way::SysfsWc))
    }
    /// Notes a mapping.
    fn insert(&mut self, first: u64, last: u64, live: Live) -> Result<u64, Conflict> {
        self.check(first, last, &live)?;
        let number = self.next;
        self.next += 1;
        self.live.insert(number, (first, last, live));
        Ok(number)
    }
    fn remove(&mut self, number: u64) {
        self.live.remove(&number);
    }
}

/// One of each machine: tests have machines of their own.
static MACHINES: Mutex<BTreeMap<PathBuf, Arc<Mutex<Registry>>>> = Mutex::new(BTreeMap::new());

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics with it held, and if it did what is noted would still be what is mapped.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The mappings of a machine. While it is held nobody else maps.
#[derive(Debug)]
pub(crate) struct Machine(Arc<Mutex<Registry>>);

impl Machine {
    pub(crate) fn of(root: &Path) -> Self {
        Self(Arc::clone(locked(&MACHINES).entry(root.to_path_buf()).or_default()))
    }
    pub(crate) fn lock(&self) -> MutexGuard<'_, Registry> {
        locked(&self.0)
    }
    /// Notes a mapping until what is returned is dropped.
    pub(crate) fn enter(&self, registry: &mut Registry, first: u64, last: u64, live: Live) -> Result<Entry, Conflict> {
        Ok(Entry { registry: Arc::clone(&self.0), number: registry.insert(first, last, live)? })
    }
}

/// That a mapping is noted.
#[derive(Debug)]
pub(crate) struct Entry {
    registry: Arc<Mutex<Registry>>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        locked(&self.registry).remove(self.number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use memtype::x86::Type;
    use proptest::prelude::*;

    fn live(ty: Type) -> Live {
        let bdf = "00:02.0".parse().unwrap();
        Live { bdf, bar: 0, offset: 0, size: 1, ty: MemoryType::X86(ty), way: Way::Sysfs }
    }

    proptest! {
        /// Against a table that has every page.
        #[test]
        fn no_page_has_two_types(steps in prop::collection::vec((0u64..24, 1u64..8, 0..3usize, any::<bool>()), 1..60)) {
            let mut registry = Registry::default();
            let mut pages: BTreeMap<u64, Vec<(u64, Type)>> = BTreeMap::new();
            let mut numbers = Vec::new();
            for (first, len, ty, remove) in steps {
                if remove && !numbers.is_empty() {
                    let number = numbers.remove(usize::try_from(first).unwrap() % numbers.len());
                    registry.remove(number);
                    pages.values_mut().for_each(|all| all.retain(|(n, _)| *n != number));
                    continue;
                }
                let ty = [Type::Uc, Type::Wc, Type::Wb][ty];
                let other = (first..first + len).find(|p| pages.get(p).is_some_and(|all| all.iter().any(|(_, t)| *t != ty)));
                match registry.insert(first, first + len - 1, live(ty)) {
                    Ok(number) => {
                        prop_assert_eq!(other, None);
                        numbers.push(number);
                        (first..first + len).for_each(|p| pages.entry(p).or_default().push((number, ty)));
                    }
                    Err(conflict) => {
                        prop_assert!(other.is_some());
                        prop_assert_eq!(&conflict.asked, &live(ty));
                        prop_assert!(pages[&conflict.at].iter().any(|(_, t)| MemoryType::X86(*t) == conflict.holds.ty));
                    }
                }
            }
        }
    }

    #[test]
    fn an_entry_is_gone_with_its_value_and_machines_do_not_meet() {
        let (one, other) = (Machine::of(Path::new("/one")), Machine::of(Path::new("/other")));
        let entry = one.enter(&mut one.lock(), 0, 0xfff, live(Type::Uc)).unwrap();
        assert!(one.lock().check(0xfff, 0x1fff, &live(Type::Wc)).is_err());
        assert!(one.lock().check(0x1000, 0x1fff, &live(Type::Wc)).is_ok());
        assert!(other.lock().check(0, 0xfff, &live(Type::Wc)).is_ok());
        drop(entry);
        assert!(one.lock().check(0, 0xfff, &live(Type::Wc)).is_ok());
    }
}
