#![no_main]

use firmware::dt;
use firmware::lint::Description;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok((tree, wiring)) = dt::parse(data) else { return };
    assert_eq!(tree.bridges.len(), wiring.bridges.len());
    assert_eq!(tree.iommus.len(), wiring.iommus.len());
    // A node takes twelve bytes, an entry of a map twelve more.
    assert!(tree.bridges.len() + wiring.devices.len() + wiring.iommus.len() <= data.len() / 12);
    let entries: usize = tree.bridges.iter().map(|bridge| bridge.iommu_map.len()).sum();
    assert!(entries <= data.len() / 12);
    let paths = tree.bridges.iter().map(|it| &it.path).chain(wiring.devices.iter().map(|it| &it.path));
    assert!(
        paths.chain(wiring.iommus.iter().map(|it| &it.path)).all(|path| path.starts_with('/') && path.len() <= 1024)
    );
    bartender_fuzz::linted(&Description { tree: Some((tree, wiring)), ..Description::default() }, data.len());
});
