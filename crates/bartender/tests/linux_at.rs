//! Linux's own combination of the two stages beside the architecture's, over every encoding.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use bartender::linux_at::{CLASSES, rows};
use memtype::linux::at::Kernel;

#[test]
fn every_difference_is_of_a_class_and_every_class_differs() {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for kernel in Kernel::ALL {
        let mut agree = 0;
        for row in rows(kernel) {
            if row.agrees() {
                agree += 1;
                continue;
            }
            let parts = row.differs();
            assert!(!parts.is_empty(), "{}: {row:?}", kernel.name());
            for part in parts {
                let class = CLASSES.iter().find(|c| c.part == part && (c.holds)(&row));
                let class = class.unwrap_or_else(|| panic!("Linux {}: of no class: {part:?} {row:?}", kernel.name()));
                *counts.entry((class.name, kernel.name())).or_default() += 1;
            }
        }
        // Most of all encodings are none that anybody writes.
        assert!(agree > 40_000, "Linux {}: {agree}", kernel.name());
    }
    for class in CLASSES {
        let of = |kernel| counts.get(&(class.name, kernel)).copied().unwrap_or(0);
        assert!(of("6.12") > 0, "{} is nowhere", class.name);
        // What 7.2 mended.
        assert_eq!(of("7.2") == 0, class.name == "linux-fwb-device-zero", "{}: {}", class.name, of("7.2"));
    }
}
