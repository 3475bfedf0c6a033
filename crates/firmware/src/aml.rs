//! `_CCA` out of a DSDT or SSDT: only names with a constant, by a walk of the scopes and devices; nothing is executed.

use std::collections::BTreeMap;

use crate::table::Error;

/// Every `_CCA` that is a constant, by the path of its device (`\_SB.PCI0`). A `_CCA` that is a method is left out.
///
/// # Errors
/// The bytes are not a definition block.
pub fn cca(_bytes: &[u8]) -> Result<BTreeMap<String, bool>, Error> {
    todo!()
}
