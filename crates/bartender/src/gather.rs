//! The facts of the machine that a command is about: this one, or one of which there is a snapshot.

use std::path::PathBuf;

use ::host::{Host, Root};
use platform::Bdf;

use crate::cmd;

/// The arguments of every command that looks at a machine.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Where {
    /// Look at a snapshot of another machine (`--save` wrote it), or a copy of its /sys and /proc
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Gathers the facts. Devices in `open` are opened through VFIO and asked, which resets them.
///
/// # Errors
/// The snapshot cannot be read.
pub fn gather(place: &Where, open: &[Bdf]) -> cmd::Result<(Host, Root)> {
    todo!("{place:?} {open:?}")
}
