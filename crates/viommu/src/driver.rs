//! The driver's side: requests written, properties read, and when to use which flag.
