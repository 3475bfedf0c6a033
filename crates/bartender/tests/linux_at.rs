//! Linux's own combination of the two stages beside the architecture's, over every encoding.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use bartender::linux_at::sweep;
use memtype::linux::at::Kernel;

#[test]
fn every_difference_is_of_a_class_and_every_class_differs() {
    let [older, newer] = Kernel::ALL.map(sweep);
    for outcome in [&older, &newer] {
        assert_eq!(outcome.combinations, 131_072);
        assert!(outcome.unexplained.is_empty(), "{:?}", outcome.unexplained.first());
        // Most of all encodings are none that anybody writes.
        assert!(outcome.agree > 40_000, "{}", outcome.agree);
    }
    for ((class, old, _), (_, new, _)) in older.classes.iter().zip(&newer.classes) {
        assert!(*old > 0, "{} is nowhere", class.name);
        // What 7.2 mended.
        assert_eq!(*new == 0, class.name == "linux-fwb-device-zero", "{}: {new}", class.name);
    }
}
