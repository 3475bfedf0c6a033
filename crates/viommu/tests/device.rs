//! What the device answers, to the byte.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

#[path = "device/bytes.rs"]
mod bytes;
#[path = "device/configuration.rs"]
mod configuration;
#[path = "device/events.rs"]
mod events;
#[path = "device/mappings.rs"]
mod mappings;
#[path = "device/random.rs"]
mod random;
#[path = "device/requests.rs"]
mod requests;
#[path = "device/rollback.rs"]
mod rollback;
