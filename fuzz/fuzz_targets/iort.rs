#![no_main]

use firmware::iort::Iort;
use firmware::lint::Description;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Iort::parse(data);
    let table = bartender_fuzz::sealed(b"IORT", data);
    let Ok(iort) = Iort::parse(&table) else { return };
    let mappings: usize = iort.nodes.iter().map(|node| node.mappings.len()).sum();
    assert!(iort.nodes.len() * 16 + mappings * 20 + 48 <= table.len());
    for node in &iort.nodes {
        assert!((node.offset as usize) < table.len());
        assert_eq!(iort.node(node.offset), Some(node));
        assert!(node.mappings.iter().all(|mapping| iort.node(mapping.to).is_some() && mapping.last() >= mapping.input));
    }
    bartender_fuzz::linted(&Description { iort: Some(iort), ..Description::default() }, table.len());
});
