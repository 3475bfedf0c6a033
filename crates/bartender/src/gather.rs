//! The facts of the machine that a command is about: this one, or one of which there is a snapshot.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ::host::{Asked, Bytes, Fact, Hole, Host, Root, Why};
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
/// The snapshot cannot be read, or a device of another machine is to be opened.
pub fn gather(place: &Where, open: &[Bdf]) -> cmd::Result<(Host, Root)> {
    let root = match &place.root {
        Some(folder) => Root::at(folder).map_err(|e| e.0)?,
        None => Root::live(),
    };
    if !root.is_live() && !open.is_empty() {
        return Err(String::from("a device can be opened on this machine only\nleave out --open, or --root").into());
    }
    let asked = asked(&root, open);
    Ok((Host::gather(&root, &asked), root))
}

/// What has no file, asked of this machine; of another, what was asked when its snapshot was made.
fn asked(root: &Root, open: &[Bdf]) -> Asked {
    if root.is_live() {
        live(open)
    } else {
        root.asked().cloned().unwrap_or_else(|| {
            let hole = |at: &str| Hole { at: at.into(), why: Why::NotSaved };
            Asked {
                kvm: Fact::Hole(hole("/dev/kvm")),
                ctr: Fact::Hole(hole("CTR_EL0")),
                opened: BTreeMap::new(),
                page: Bytes(4096),
            }
        })
    }
}

fn live(open: &[Bdf]) -> Asked {
    let failed = |at: String| move |e: String| Fact::Hole(Hole { at, why: Why::Failed(e) });
    let opened = |bdf: Bdf| bar::vfio::ask(bdf).map_or_else(failed(format!("VFIO of {bdf}")), Fact::Known);
    Asked {
        kvm: vmm::ask_kvm(),
        // Only arm64 has it.
        ctr: bar::cpu::ctr().map_or(Fact::Absent, Fact::Known),
        opened: open.iter().map(|bdf| (*bdf, opened(*bdf))).collect(),
        page: Bytes(bar::cpu::page_size() as u64),
    }
}
