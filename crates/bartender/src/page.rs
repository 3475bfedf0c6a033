//! The page of a matrix.
use crate::matrix::Matrix;
/// The page.
#[must_use]
pub fn page(_: &Matrix) -> String { String::new() }
