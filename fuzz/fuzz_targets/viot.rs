#![no_main]

use firmware::lint::Description;
use firmware::viot::{Node, Viot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Viot::parse(data);
    let table = bartender_fuzz::sealed(b"VIOT", data);
    let Ok(viot) = Viot::parse(&table) else { return };
    assert!(viot.nodes.len() * 4 + 48 <= table.len());
    for (offset, node) in &viot.nodes {
        assert!(usize::from(*offset) < table.len());
        if let Node::PciRange { to, segments, rids, .. } = node {
            assert!(viot.node(*to).is_some() && segments.0 <= segments.1 && rids.0 <= rids.1);
        }
    }
    bartender_fuzz::linted(&Description { viot: Some(viot), ..Description::default() }, table.len());
});
