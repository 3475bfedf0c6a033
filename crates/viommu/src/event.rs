//! Faults, on their way to the event queue.
