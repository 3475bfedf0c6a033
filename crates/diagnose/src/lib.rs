//! A symptom into its cause and remedy.
#![forbid(unsafe_code)]
