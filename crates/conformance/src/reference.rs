//! A naive device: lists, searched from end to end. What is obviously right is compared with what is fast.
