//! What several targets need.
#![forbid(unsafe_code)]

pub mod iommu;

use firmware::lint::{self, Description};

/// The bytes as a table whose header holds, so that a fuzzer gets past signature, length and checksum.
pub fn sealed(signature: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    out.resize(data.len().max(36), 0);
    out[..4].copy_from_slice(signature);
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out[4..8].copy_from_slice(&length.to_le_bytes());
    out[9] = 0;
    out[9] = out.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b)).wrapping_neg();
    out
}

/// No rule panics, and what they say is bounded by what there is to say it of: `bytes` were read.
pub fn linted(description: &Description, bytes: usize) {
    let complaints = lint::check(description);
    // A fault takes at least 16 bytes of a table or a tree, and breaks at most a few rules.
    assert!(complaints.len() <= 8 + bytes / 4, "{} complaints of {bytes} bytes", complaints.len());
    for complaint in &complaints {
        assert!(complaint.at.len() <= 8192 && complaint.found.len() <= 8192, "{complaint:?}");
    }
}
