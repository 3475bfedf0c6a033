//! The state of a device as a value, and back.
