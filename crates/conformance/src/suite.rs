//! A test for each clause.
