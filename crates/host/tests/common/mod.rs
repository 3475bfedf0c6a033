//! A folder that is a copy of some files of `/sys` and `/proc`, gone again at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use host::{Asked, Bytes, Fact, Host, Root};

#[derive(Debug)]
pub(crate) struct Copy(pub(crate) PathBuf);

impl Copy {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bartender-host-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("sys")).unwrap();
        Self(folder)
    }
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let path = self.0.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
    pub(crate) fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path(path), content).unwrap();
        self
    }
    pub(crate) fn link(&self, path: &str, to: &str) -> &Self {
        std::os::unix::fs::symlink(to, self.path(path)).unwrap();
        self
    }
    /// A PCI function with the usual files; `folder` is where it is in `/sys/devices`.
    pub(crate) fn function(&self, folder: &str, id: (u16, u16), class: u32, resource: &str) -> &Self {
        let at = |file: &str| format!("/sys/devices/{folder}/{file}");
        let name = folder.rsplit('/').next().unwrap();
        self.file(&at("vendor"), format!("{:#06x}\n", id.0))
            .file(&at("device"), format!("{:#06x}\n", id.1))
            .file(&at("class"), format!("{class:#08x}\n"))
            .file(&at("resource"), resource)
            .link(&format!("/sys/bus/pci/devices/{name}"), &format!("../../../devices/{folder}"))
    }
    pub(crate) fn gather(&self, asked: &Asked) -> (Host, Root) {
        let root = Root::at(&self.0).unwrap();
        (Host::gather(&root, asked), root)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn nobody_asked() -> Asked {
    Asked { kvm: Fact::Absent, ctr: Fact::Absent, opened: Default::default(), page: Bytes(4096) }
}

/// Lines of `resource` as the kernel prints them.
pub(crate) fn resource(lines: &[(u64, u64, u64)]) -> String {
    lines.iter().map(|(first, last, flags)| format!("0x{first:016x} 0x{last:016x} 0x{flags:016x}\n")).collect()
}

/// What was saved, gathered again.
pub(crate) fn again(root: &Root, asked: &Asked, folder: &Path) -> (Host, String) {
    root.save(folder, asked).unwrap();
    let saved = Root::at(folder).unwrap();
    assert_eq!(saved.asked(), Some(asked));
    let host = Host::gather(&saved, asked);
    let text = fs::read_to_string(folder.join("snapshot.json")).unwrap();
    // Saving what was read from a snapshot writes the same snapshot.
    let twice = folder.join("twice");
    saved.save(&twice, asked).unwrap();
    assert_eq!(fs::read_to_string(twice.join("snapshot.json")).unwrap(), text);
    (host, text)
}
