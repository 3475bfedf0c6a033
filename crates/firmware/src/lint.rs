//! Contradictions in a description of a machine: on coherency, and on which IOMMU translates what.
