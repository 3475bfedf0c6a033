//! The state of a device as a value that can be written down, and back.
//!
//! What a driver can tell of the device is part of it, so that a guest does not wake up on another one. What the host says of its
//! endpoints is not: that is the host's, and the host may be another.

use crate::endpoint::EndpointId;

/// The version of [`Saved`].
pub const VERSION: u32 = 1;

/// The state of a device. Plain numbers, none of them trusted: [`Device::restore`](crate::Device::restore) checks them all.
/// The virtqueues are the transport's, and are not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Saved {
    /// [`VERSION`].
    pub version: u32,
    /// The features offered.
    pub offered: u64,
    /// The features that the driver took.
    pub accepted: u64,
    /// `page_size_mask`.
    pub page_size_mask: u64,
    /// `input_range`.
    pub input_range: (u64, u64),
    /// `domain_range`.
    pub domain_range: (u32, u32),
    /// `probe_size`.
    pub probe_size: u32,
    /// `bypass`.
    pub bypass: bool,
    /// The domains.
    pub domains: Vec<SavedDomain>,
    /// The faults that wait for a buffer, oldest first: as their bytes.
    pub faults: Vec<Vec<u8>>,
    /// Whether the device needs a reset.
    pub needs_reset: bool,
    /// The endpoints that are in doubt.
    pub doubtful: Vec<EndpointId>,
}

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct SavedDomain {
    /// Its number.
    pub id: u32,
    /// Whether it is a bypass domain.
    pub bypass: bool,
    /// The endpoints that are attached to it.
    pub endpoints: Vec<EndpointId>,
    /// Its mappings.
    pub mappings: Vec<SavedMapping>,
}

/// A mapping, as the MAP request that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct SavedMapping {
    /// `virt_start`.
    pub virt_start: u64,
    /// `virt_end`.
    pub virt_end: u64,
    /// `phys_start`.
    pub phys_start: u64,
    /// `flags`.
    pub flags: u32,
}
