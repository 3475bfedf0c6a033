//! Sequences of requests at random, on a device and on the reference, made short where they differ.
