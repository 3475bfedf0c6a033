//! The device on virtqueues in guest memory.
