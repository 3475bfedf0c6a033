//! A distribution kernel: which the archive has, how one is fetched and unpacked, what the cache keeps of it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};
use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::archive::{self, Archive};
use crate::cache::Cache;
use crate::debian::Paragraph;
use crate::error::Error;
use crate::progress::Progress;
use crate::series::{self, Series};

/// The largest module that is unpacked; the largest wanted one is a hundredth of it.
const LARGEST_MODULE: u64 = 32 << 20;

/// The file that makes a folder of the cache a kernel.
const RECORD: &str = "kernel.json";

/// A kernel in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    record: Record,
    folder: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// What it runs on.
    #[serde(default)]
    arch: Arch,
    /// The package's version.
    version: String,
    /// What `uname -r` says in it.
    release: String,
    /// The modules to load, in this order.
    modules: Vec<String>,
}

impl Kernel {
    /// Opens what a setup left; nothing if the folder is not a whole kernel.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        let record: Record = serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()?;
        series::numbers(&record.version)?;
        let kernel = Self { record, folder: folder.to_owned() };
        let whole = kernel.image().is_file() && kernel.modules().iter().all(|module| module.is_file());
        whole.then_some(kernel)
    }

    /// The series it belongs to.
    #[must_use]
    pub fn series(&self) -> Series {
        let (major, minor, _) = self.numbers();
        Series::of(self.arch(), major, minor)
    }

    /// What it runs on.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.record.arch
    }

    /// The version of its package, as `6.1.192-2`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.record.version
    }

    /// What `uname -r` says in it, as `6.1.0-56-arm64`.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.record.release
    }

    /// The bootable image.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The modules, uncompressed, in the order in which they can be loaded.
    #[must_use]
    pub fn modules(&self) -> Vec<PathBuf> {
        self.record.modules.iter().map(|name| self.folder.join("modules").join(name)).collect()
    }

    /// Its folder in the cache.
    pub(crate) fn name(&self) -> String {
        name_of(self.arch(), self.version())
    }

    fn numbers(&self) -> (u16, u16, u16) {
        series::numbers(&self.record.version).unwrap_or_default()
    }

    /// Older before newer, one architecture after the other.
    pub(crate) fn age(&self, other: &Self) -> Ordering {
        self.arch().cmp(&other.arch()).then_with(|| age(&self.record.version, &other.record.version))
    }
}

/// What tells a kernel from all others: packages of two architectures may have the same version.
fn name_of(arch: Arch, version: &str) -> String {
    format!("{}{version}", arch.prefix())
}

/// Orders versions of kernel packages: by their numbers; then a backport (`~`) before what it was made from.
fn age(a: &str, b: &str) -> Ordering {
    let key = |version: &str| (series::numbers(version), !version.contains('~'), version.to_owned());
    key(a).cmp(&key(b))
}

/// A kernel that the archive offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Available {
    /// The series.
    #[serde(serialize_with = "as_text")]
    pub series: Series,
    /// The newest version in it.
    pub version: String,
    /// Where it is: a suite of the archive, or `cache` if only the cache has it.
    pub suite: String,
    /// Whether this very version is in the cache.
    pub fetched: bool,
    #[serde(skip)]
    package: String,
}

fn as_text<S: serde::Serializer>(series: &Series, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(series)
}

/// What can be booted, and what could be fetched.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Listing {
    /// The newest kernel of each series, oldest first.
    pub kernels: Vec<Available>,
    /// Why the archive could not be asked, if so: then `kernels` is what the cache has.
    pub offline: Option<String>,
}

/// What the archive has today; what the cache has, if the archive is out of reach.
///
/// # Errors
/// [`Error::File`] and the like where the cache cannot be used at all.
pub fn list(cache: &Cache, progress: Progress) -> Result<Listing, Error> {
    let _lock = cache.lock()?;
    let cached = || {
        let newest: BTreeMap<Series, Kernel> =
            cache.kernels().into_iter().map(|kernel| (kernel.series(), kernel)).collect();
        newest.into_values().map(|kernel| Available {
            series: kernel.series(),
            version: kernel.version().to_owned(),
            suite: "cache".to_owned(),
            fetched: true,
            package: String::new(),
        })
    };
    let mut kernels = Vec::new();
    for arch in Arch::ALL {
        match Offer::of_the_archive(cache, arch, "the list of kernels", progress) {
            Ok(offer) => kernels.extend(offer.newest_of_each()),
            Err(error @ (Error::OutOfReach { .. } | Error::NotDebian { .. })) => {
                let offline = match error {
                    Error::OutOfReach { why, .. } | Error::NotDebian { why, .. } => why,
                    other => other.to_string(),
                };
                return Ok(Listing { kernels: cached().collect(), offline: Some(offline) });
            }
            Err(error) => return Err(error),
        }
    }
    // A series that has left the archive can still be booted.
    let gone: Vec<Available> = cached().filter(|old| !kernels.iter().any(|new| new.series == old.series)).collect();
    kernels.extend(gone);
    kernels.sort_by(|a, b| a.series.arch().cmp(&b.series.arch()).then_with(|| age(&a.version, &b.version)));
    Ok(Listing { kernels, offline: None })
}

/// Every kernel the archive has for an architecture.
#[derive(Debug)]
pub(crate) struct Offer {
    archive: Archive,
    kernels: Vec<Available>,
}

impl Offer {
    pub(crate) fn of_the_archive(cache: &Cache, arch: Arch, missing: &str, progress: Progress) -> Result<Self, Error> {
        let mirror = archive::Mirror::of_this_machine(cache, missing)?;
        let archive = Archive::kernels(cache, &mirror, arch)?;
        archive.update(progress)?.map_err(|why| Error::OutOfReach { why, fetched: cache.fetched() })?;
        let names = archive.names(&format!("^linux-image-[0-9].*-{}$", arch.debian()))?;
        let names: Vec<String> = names.into_iter().filter(|name| release_of(name, arch).is_some()).collect();
        let fetched: Vec<String> = cache.kernels().iter().map(Kernel::name).collect();
        let mut kernels: Vec<Available> = archive
            .versions(&names)?
            .into_iter()
            .filter_map(|(package, version, suite)| {
                let (major, minor, _) = series::numbers(&version)?;
                let fetched = fetched.contains(&name_of(arch, &version));
                Some(Available { series: Series::of(arch, major, minor), version, suite, fetched, package })
            })
            .collect();
        kernels.sort_by(|a, b| age(&a.version, &b.version));
        Ok(Self { archive, kernels })
    }

    fn newest_of_each(&self) -> Vec<Available> {
        let newest: BTreeMap<Series, &Available> = self.kernels.iter().map(|kernel| (kernel.series, kernel)).collect();
        newest.into_values().cloned().collect()
    }

    /// The newest kernel of a series.
    pub(crate) fn find(&self, series: Series, cache: &Cache) -> Result<&Available, Error> {
        self.kernels.iter().rfind(|kernel| series.takes(kernel.series)).ok_or_else(|| {
            let archive = self.newest_of_each().iter().map(|kernel| kernel.series.to_string()).collect();
            Error::NoSuchSeries { asked: series.to_string(), archive, fetched: cache.fetched() }
        })
    }

    /// Fetches one into the cache. What is there appears in one step, or not at all.
    pub(crate) fn fetch(&self, chosen: &Available, cache: &Cache, progress: Progress) -> Result<Kernel, Error> {
        let what = format!("kernel {}", chosen.version);
        let scratch = cache.scratch("new")?;
        let (debs, tree, made) = (scratch.make("debs")?, scratch.make("tree")?, scratch.make("made")?);
        let same = |record: &Paragraph| record.get("version") == Some(&chosen.version);
        let mut records = self.archive.records(std::slice::from_ref(&chosen.package))?;
        let parts: Vec<String> = records.iter().filter(|record| same(record)).flat_map(parts_of).collect();
        records.extend(self.archive.records(&parts)?);
        records.retain(same);
        let bytes = records.iter().filter_map(|record| record.get("size")?.parse::<u64>().ok()).sum();
        let packages: Vec<String> =
            std::iter::once(&chosen.package).chain(&parts).map(|name| format!("{name}={}", chosen.version)).collect();
        let files = self.archive.download(&packages, bytes, &debs, &what, progress)?;
        archive::unpack(&files, &tree, &what, progress)?;
        let arch = chosen.series.arch();
        let folder = cache.kernels_folder().join(name_of(arch, &chosen.version));
        let release = release_of(&chosen.package, arch).unwrap_or_default();
        keep(&tree, &made, arch, &chosen.version, release).map_err(|lacks| match lacks {
            Lacks::What(lacks) => Error::Kernel { version: chosen.version.clone(), lacks, folder: folder.clone() },
            Lacks::Error(error) => error,
        })?;
        scratch.place("made", &folder)?;
        Kernel::open(&folder).ok_or_else(|| Error::Kernel {
            version: chosen.version.clone(),
            lacks: "its record cannot be read back".to_owned(),
            folder,
        })
    }
}

/// `6.1.0-56-arm64` of `linux-image-6.1.0-56-arm64`; nothing for other flavours (cloud, rt, 16k) and for the packages
/// that only point at the newest one.
fn release_of(package: &str, arch: Arch) -> Option<&str> {
    let release = package.strip_prefix("linux-image-")?;
    let version = release.strip_suffix(arch.debian())?.strip_suffix('-')?;
    series::numbers(version)?;
    let plain = version.split('-').skip(1).all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    plain.then_some(release)
}

/// The packages that hold the image and the modules since Debian splits them.
fn parts_of(record: &Paragraph) -> Vec<String> {
    let names = record.get("depends").map(String::as_str).unwrap_or_default().split([',', '|']);
    let names = names.filter_map(|one| one.split_whitespace().next());
    names
        .filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"))
        .map(str::to_owned)
        .collect()
}

enum Lacks {
    What(String),
    Error(Error),
}

/// Takes the image and the wanted modules out of an unpacked package.
fn keep(tree: &Path, made: &Path, arch: Arch, version: &str, release: &str) -> Result<(), Lacks> {
    let mut files = Vec::new();
    walk(tree, &mut files);
    let named = |file: &Path, test: &dyn Fn(&str) -> bool| file.file_name().and_then(|n| n.to_str()).is_some_and(test);
    let image = files.iter().find(|file| named(file, &|name| name == "vmlinuz" || name.starts_with("vmlinuz-")));
    let image = image.ok_or_else(|| Lacks::What("its package holds no vmlinuz".to_owned()))?;
    let target = made.join("vmlinuz");
    fs::rename(image, &target).map_err(|e| Lacks::Error(Error::file("create", &target)(e)))?;

    let by_name: BTreeMap<String, &PathBuf> =
        files.iter().filter_map(|file| Some((module_name(file)?, file))).collect();
    let built_in = files.iter().find(|file| named(file, &|name| name == "modules.builtin"));
    let built_in = built_in.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let mut order = Vec::new();
    for wanted in arch.modules() {
        let inside = built_in.lines().any(|line| module_name(Path::new(line)).as_deref() == Some(*wanted));
        if !by_name.contains_key(*wanted) && !inside {
            return Err(Lacks::What(format!("its package holds no module {wanted}")));
        }
        take(wanted, &by_name, &mut order, 0)?;
    }
    let folder = made.join("modules");
    fs::create_dir(&folder).map_err(|e| Lacks::Error(Error::file("create", &folder)(e)))?;
    let mut modules = Vec::new();
    for (place, (name, bytes)) in order.iter().enumerate() {
        // The number in front lets the guest load them in the order of their names.
        let file = format!("{place:02}-{name}.ko");
        let target = folder.join(&file);
        fs::write(&target, bytes).map_err(|e| Lacks::Error(Error::file("write", &target)(e)))?;
        modules.push(file);
    }
    let record = Record { arch, version: version.to_owned(), release: release.to_owned(), modules };
    let text = serde_json::to_string_pretty(&record).map_err(|e| Lacks::What(e.to_string()))?;
    let target = made.join(RECORD);
    fs::write(&target, text).map_err(|e| Lacks::Error(Error::file("write", &target)(e)))
}

/// Adds a module after what it depends on. One that is no file is part of the kernel.
fn take(
    name: &str,
    files: &BTreeMap<String, &PathBuf>,
    order: &mut Vec<(String, Vec<u8>)>,
    depth: u32,
) -> Result<(), Lacks> {
    let Some(file) = files.get(name) else { return Ok(()) };
    // A cycle would not load anyway; the bound only keeps a damaged package from looping.
    if depth > 16 || order.iter().any(|(taken, _)| taken == name) {
        return Ok(());
    }
    let bytes = read_module(file)?;
    let needs = depends(&bytes).ok_or_else(|| Lacks::What(format!("its module {name} is no module")))?;
    for need in needs {
        take(&need, files, order, depth + 1)?;
    }
    order.push((name.to_owned(), bytes));
    Ok(())
}

/// `vfio_pci` of `…/vfio-pci.ko.xz`: the kernel takes both dashes for the same.
fn module_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let (stem, end) = name.split_once(".ko")?;
    matches!(end, "" | ".xz").then(|| stem.replace('-', "_"))
}

fn read_module(file: &Path) -> Result<Vec<u8>, Lacks> {
    let open = fs::File::open(file).map_err(|e| Lacks::Error(Error::file("read", file)(e)))?;
    let mut bytes = Vec::new();
    let read = if file.extension().is_some_and(|end| end == "xz") {
        // 64 MiB of dictionary is the most that `xz -9` asks for.
        lzma_rust2::XzReader::new_mem_limit(open, true, 80 << 10).take(LARGEST_MODULE).read_to_end(&mut bytes)
    } else {
        open.take(LARGEST_MODULE).read_to_end(&mut bytes)
    };
    read.map_err(|e| Lacks::Error(Error::file("unpack", file)(e)))?;
    Ok(bytes)
}

/// What a module depends on, from its `.modinfo` section; nothing if this is no module.
fn depends(module: &[u8]) -> Option<Vec<String>> {
    let file = object::read::elf::ElfFile64::<object::Endianness>::parse(module).ok()?;
    let info = file.section_by_name(".modinfo")?.data().ok()?;
    let value = info.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"depends="))?;
    let names = std::str::from_utf8(value).ok()?.split(',');
    Some(names.filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_plain_flavour() {
        assert_eq!(release_of("linux-image-6.1.0-56-arm64", Arch::Arm64), Some("6.1.0-56-arm64"));
        assert_eq!(release_of("linux-image-6.12.74+deb13+1-arm64", Arch::Arm64), Some("6.12.74+deb13+1-arm64"));
        assert_eq!(release_of("linux-image-6.12.74+deb13-amd64", Arch::Amd64), Some("6.12.74+deb13-amd64"));
        for other in [
            "linux-image-6.12-arm64",
            "linux-image-arm64",
            "linux-image-6.1.0-56-cloud-arm64",
            "linux-image-6.12.117+deb13-rt-arm64",
            "linux-image-6.12.117+deb13-arm64-16k",
            "linux-image-7.2.1-arm64-unsigned",
            "linux-image-6.12.74-amd64",
        ] {
            assert_eq!(release_of(other, Arch::Arm64), None, "{other}");
        }
    }

    #[test]
    fn newer_is_newer() {
        let mut versions = ["7.2.13-1", "6.1.192-2", "6.12.95-1~bpo12+1", "7.2.12-1", "7.2.12-1~bpo13+1", "6.12.117-1"];
        versions.sort_by(|a, b| age(a, b));
        assert_eq!(
            versions,
            ["6.1.192-2", "6.12.95-1~bpo12+1", "6.12.117-1", "7.2.12-1~bpo13+1", "7.2.12-1", "7.2.13-1"]
        );
    }

    #[test]
    fn the_parts_of_a_split_package() {
        let mut record = Paragraph::new();
        record.insert(
            "depends".into(),
            "dracut | kmod, linux-binary-7.2 (= 1), linux-modules-7.2 (= 1), linux-base".into(),
        );
        assert_eq!(parts_of(&record), ["linux-binary-7.2", "linux-modules-7.2"]);
    }

    #[test]
    fn names_of_modules() {
        assert_eq!(module_name(Path::new("/x/vfio-pci-core.ko.xz")).as_deref(), Some("vfio_pci_core"));
        assert_eq!(module_name(Path::new("kernel/virt/irqbypass.ko")).as_deref(), Some("irqbypass"));
        assert_eq!(module_name(Path::new("a.ko.zst")), None);
    }

    #[test]
    fn a_folder_that_is_no_kernel_is_passed_over() {
        let own = crate::cache::tests::Own::new("nokernel");
        let folder = own.0.kernels_folder().join("6.1.1-1");
        fs::create_dir_all(&folder).unwrap();
        assert!(own.0.kernels().is_empty());
        fs::write(folder.join(RECORD), r#"{"version":"6.1.1-1","release":"r","modules":["00-a.ko"]}"#).unwrap();
        fs::write(folder.join("vmlinuz"), "").unwrap();
        assert!(own.0.kernels().is_empty());
        fs::create_dir(folder.join("modules")).unwrap();
        fs::write(folder.join("modules/00-a.ko"), "").unwrap();
        assert_eq!(own.0.kernel(Series::NEWEST).unwrap().series(), Series::new(6, 1));
        assert!(own.0.kernel(Series::new(6, 2)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_module_or_not(mut bytes in prop::collection::vec(any::<u8>(), 0..512), elf in any::<bool>()) {
            if elf && bytes.len() > 16 {
                bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
            }
            let _ = depends(&bytes);
        }

        #[test]
        fn any_name_of_a_package(name in "(linux-image-)?[0-9a-z.+~-]{0,24}(-arm64|amd64)?") {
            let _ = Arch::ALL.map(|arch| release_of(&name, arch).is_some());
        }
    }
}
