//! Devices that behave as others were read to behave: the naive one of `reference`, with their deviations.
