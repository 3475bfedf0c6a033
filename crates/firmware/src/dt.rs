//! Flattened device trees: PCI host bridges and what says whether their DMA is coherent.

use serde::Serialize;

/// A PCI host bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostBridge {
    /// Its path: `/pcie@10000000`.
    pub path: String,
    /// Its `compatible`.
    pub compatible: Vec<String>,
    /// `linux,pci-domain`.
    pub domain: Option<u32>,
    /// First and last bus.
    pub buses: Option<(u32, u32)>,
    /// Whether `dma-coherent` (true) or `dma-noncoherent` (false) is on it or a node above; nothing if neither is.
    pub coherent: Option<bool>,
    /// `iommu-map`: (first rid, the IOMMU's path, first id, how many).
    pub iommu_map: Vec<(u32, String, u32, u32)>,
    /// Windows: (prefetchable, 64-bit, PCI address, CPU address, size).
    pub windows: Vec<(bool, bool, u64, u64, u64)>,
}

/// What a tree says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tree {
    /// `compatible` of the root.
    pub compatible: Vec<String>,
    /// The PCI host bridges.
    pub bridges: Vec<HostBridge>,
    /// SMMUs and virtio-iommus: path, `compatible`, whether `dma-coherent`.
    pub iommus: Vec<(String, Vec<String>, bool)>,
}

/// Why a blob is not a device tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device tree: {0}")]
pub struct Error(pub String);

impl Tree {
    /// Reads a flattened tree (`/sys/firmware/fdt`, a `.dtb`).
    ///
    /// # Errors
    /// It is none.
    pub fn parse(_blob: &[u8]) -> Result<Self, Error> {
        todo!()
    }
}
