//! QEMU's `virtio-iommu-pci`, driven over its qtest socket.
