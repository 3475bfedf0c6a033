//! Builds the program that runs in the emulated server: static, for its architecture, without a C compiler for it.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::arch::Arch;
use crate::archive::{self, Archive, Mirror};
use crate::cache::Cache;
use crate::command;
use crate::error::Error;
use crate::progress::Progress;

/// A ready-made program, for machines that cannot build one.
const fn given(arch: Arch) -> &'static str {
    match arch {
        Arch::Arm64 => "BARTENDER_GUEST",
        Arch::Amd64 => "BARTENDER_GUEST_AMD64",
    }
}
/// Set to `debian`, Debian's toolchain is used even where rustup has one: the way to try it out.
const CHOICE: &str = "BARTENDER_TOOLCHAIN";

const ASK_LIMIT: Duration = Duration::from_secs(30);
/// A server that is not there answers late or never.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// The target of the bare-metal program.
const BARE: &str = "aarch64-unknown-none";
/// A ready-made bare-metal program.
const BARE_GIVEN: &str = "BARTENDER_EL2";

/// A way to come to a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// It is there already.
    Given(PathBuf),
    /// The user's own Rust has the target, with the C library in it.
    Rustup,
    /// Debian's Rust, unpacked in this folder, with Debian's C library for arm64.
    Debian(PathBuf),
    /// The user's own Rust for this very machine, with the C compiler that is installed.
    Native,
}

impl Toolchain {
    /// Finds one, or fetches one.
    pub(crate) fn find_or_fetch(cache: &Cache, arch: Arch, progress: Progress) -> Result<Self, Error> {
        let given = given(arch);
        if let Some(path) = std::env::var_os(given).map(PathBuf::from) {
            return Ok(Self::Given(path));
        }
        if command::in_path("cargo").is_none() && std::env::var_os("CARGO").is_none() {
            return Err(Error::NoGuest {
                arch,
                why: "there is no cargo in PATH to build one".to_owned(),
                remedy: format!("install Rust, or set {given} to a static {} bartender", arch.instructions()),
            });
        }
        let (musl, _) = arch.targets();
        let debian = root(cache);
        let choice = std::env::var_os(CHOICE).is_some_and(|choice| choice == "debian");
        if !choice || arch != Arch::Arm64 {
            if has_target(musl) {
                return Ok(Self::Rustup);
            }
            if arch == Arch::Arm64 && debian.is_dir() {
                return Ok(Self::Debian(debian));
            }
            if add_target(musl, progress) && has_target(musl) {
                return Ok(Self::Rustup);
            }
        }
        match arch {
            Arch::Arm64 => {
                if !debian.is_dir() {
                    fetch(cache, &debian, progress)?;
                }
                Ok(Self::Debian(debian))
            }
            _ if arch == Arch::OWN => Ok(Self::Native),
            Arch::Amd64 => Err(Error::NoGuest {
                arch,
                why: format!("rustup has no target {musl}"),
                remedy: format!("make `rustup target add {musl}` work, or set {given} to a static x86-64 bartender"),
            }),
        }
    }

    /// In words.
    pub(crate) fn describe(&self, arch: Arch) -> String {
        let (given, target) = (given(arch), self.target(arch));
        match self {
            Self::Given(path) => format!("{} as it is ({given})", path.display()),
            Self::Rustup | Self::Native => format!("this machine's Rust, target {target}"),
            Self::Debian(folder) => format!("Debian's Rust in {}, target {target}", folder.display()),
        }
    }

    fn target(&self, arch: Arch) -> &'static str {
        let (musl, gnu) = arch.targets();
        if matches!(self, Self::Debian(_) | Self::Native) { gnu } else { musl }
    }

    /// Sets up a cargo command to build with it.
    fn equip(&self, cargo: &mut Command) -> Result<(), Error> {
        let flags: Vec<String> = match self {
            Self::Given(_) => Vec::new(),
            // Rust's own linker and musl's start files come with the target.
            Self::Rustup => vec!["-Clinker=rust-lld".to_owned()],
            Self::Native => vec!["-Ctarget-feature=+crt-static".to_owned()],
            Self::Debian(root) => {
                cargo.env("RUSTC", root.join(WRAPPER));
                let lld = rust_lld().or_else(|| command::in_path("ld.lld")).ok_or_else(|| Error::NoGuest {
                    arch: Arch::Arm64,
                    why: "there is no linker for aarch64".to_owned(),
                    remedy: "install the package lld".to_owned(),
                })?;
                cargo.env(LLD, lld);
                vec![
                    "-Ctarget-feature=+crt-static".to_owned(),
                    "-Crelocation-model=static".to_owned(),
                    format!("-Clinker={}", root.join(LINKER).display()),
                    "-Clinker-flavor=ld".to_owned(),
                ]
            }
        };
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        Ok(())
    }
}

/// The rustc that cargo calls for Debian's toolchain.
const WRAPPER: &str = "rustc";
/// The linker that this rustc calls, and the variable that tells it which program does the work.
const LINKER: &str = "link";
const LLD: &str = "LAB_LLD";

fn root(cache: &Cache) -> PathBuf {
    cache.folder().join("rust")
}

/// The source of the workspace this was built from.
fn workspace() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here.ancestors().nth(2).filter(|folder| folder.join("crates/bartender/Cargo.toml").is_file());
    folder.map(Path::to_owned)
}

/// What a program says on standard output, where it is run in the workspace (which may choose a toolchain).
fn answer(program: &str, words: &[&str]) -> Option<String> {
    let mut ask = Command::new(program);
    ask.args(words);
    if let Some(folder) = workspace() {
        ask.current_dir(folder);
    }
    let output = command::run(&mut ask, ASK_LIMIT, &Progress::silent().step(""), || {}).ok()?;
    output.success().then(|| output.stdout.trim().to_owned())
}

/// Whether the user's own Rust has a target, with what linking for it takes.
fn has_target(target: &str) -> bool {
    // What musl needs of a C library comes in a folder of its own; the bare-metal target needs none.
    let part = if target.ends_with("musl") { "self-contained" } else { "" };
    let folder = answer("rustc", &["--print", "target-libdir", "--target", target]);
    folder.is_some_and(|folder| Path::new(&folder).join(part).is_dir()) && rust_lld().is_some()
}

/// Rust's own linker.
fn rust_lld() -> Option<PathBuf> {
    let host = answer("rustc", &["--print", "target-libdir"])?;
    let lld = Path::new(&host).parent()?.join("bin/rust-lld");
    lld.is_file().then_some(lld)
}

/// Asks rustup for the target. There may be no rustup, or no way to its server: then this is just not the way.
fn add_target(target: &str, progress: Progress) -> bool {
    if command::in_path("rustup").is_none() {
        return false;
    }
    let step = progress.step(format!("asking rustup for {target}"));
    let mut add = Command::new("rustup");
    add.args(["target", "add", target]);
    if let Some(folder) = workspace() {
        add.current_dir(folder);
    }
    command::run(&mut add, RUSTUP_LIMIT, &step, || {}).is_ok_and(|output| output.success())
}

/// Unpacks Debian's toolchain: Rust for this machine with the libraries it needs; for arm64 the standard library, the C
/// library and the compiler's support library.
fn fetch(cache: &Cache, target: &Path, progress: Progress) -> Result<(), Error> {
    let what = "a Rust toolchain for arm64";
    let mirror = Mirror::of_this_machine(cache, what)?;
    let archive = Archive::cross(cache, &mirror)?;
    archive.update(progress)?.map_err(|why| Error::OutOfReach { why, fetched: cache.fetched() })?;
    let (musl, _) = Arch::Arm64.targets();
    let missing = |package: &str| Error::NoGuest {
        arch: Arch::Arm64,
        why: format!("rustup has no target {musl} and the archive no package {package} that is new enough"),
        remedy: format!(
            "make `rustup target add {musl}` work, or set {} to a static aarch64 bartender",
            given(Arch::Arm64)
        ),
    };
    let newest = archive.versions(&["rustc-web".to_owned()])?.into_iter().map(|(_, version, _)| version);
    let newest = newest.filter(|version| minor(version) >= minor(env!("CARGO_PKG_RUST_VERSION")));
    let version = newest.max_by_key(|version| minor(version)).ok_or_else(|| missing("rustc-web"))?;
    let support = archive.names("^libgcc-[0-9]+-dev$")?.into_iter();
    let support = support.filter_map(|name| Some((name.split('-').nth(1)?.parse::<u32>().ok()?, name))).max();
    let (_, support) = support.ok_or_else(|| missing("libgcc-dev"))?;

    let scratch = cache.scratch("new")?;
    let (debs, more, made) = (scratch.make("debs")?, scratch.make("more")?, scratch.make("made")?);
    let mut files = archive.download_with_needs(None, &[format!("rustc-web={version}")], &debs, what, progress)?;
    let for_arm =
        [format!("libstd-rust-web-dev:arm64={version}"), "libc6-dev:arm64".to_owned(), format!("{support}:arm64")];
    files.extend(archive.download(&for_arm, 0, &more, "libraries for arm64", progress)?);
    archive::unpack(&files, &made, what, progress)?;
    let _ = fs::remove_dir_all(made.join("usr/share"));
    script(&made.join(WRAPPER), &wrapper_text(&made))?;
    script(&made.join(LINKER), &linker_text(&made)?)?;
    scratch.place("made", target)
}

/// A script that starts the unpacked rustc; it finds its place from its own path, so the folder may be moved.
fn wrapper_text(root: &Path) -> String {
    let folders = crate::qemu::library_folders(root);
    let folders = folders.iter().filter_map(|folder| folder.strip_prefix(root).ok()?.to_str());
    // The libraries for arm64 are for linking only.
    let native = folders.filter(|folder| !folder.contains("aarch64") || cfg!(target_arch = "aarch64"));
    let libraries: Vec<String> = native.map(|folder| format!("$here/{folder}")).collect();
    format!(
        "#!/bin/sh\nhere=${{0%/*}}\nLD_LIBRARY_PATH=\"{}\" exec \"$here/usr/bin/rustc\" --sysroot \"$here/usr\" \"$@\"\n",
        libraries.join(":")
    )
}

/// The second number of a Rust version (`1.96.0+dfsg1-1` → 96); 0 if there is none.
fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A script that links a static program for arm64 from Debian's files. A C compiler would put the start files around the
/// program by itself; the linker alone has to be told.
fn linker_text(root: &Path) -> Result<String, Error> {
    let gcc = root.join("usr/lib/gcc/aarch64-linux-gnu");
    let entries = fs::read_dir(&gcc).map_err(Error::file("read", &gcc))?;
    let newest = entries.flatten().map(|entry| entry.file_name()).max().unwrap_or_default();
    let newest = newest.to_string_lossy();
    Ok(format!(
        "#!/bin/sh\nhere=${{0%/*}}/usr/lib\nc=$here/aarch64-linux-gnu\ns=$here/gcc/aarch64-linux-gnu/{newest}\n\
         exec \"${LLD}\" -flavor gnu -static \"$c/crt1.o\" \"$c/crti.o\" \"$s/crtbeginT.o\" \"-L$c\" \"-L$s\" \"$@\" \\\n  \
         --start-group -lgcc -lgcc_eh -lc --end-group \"$s/crtend.o\" \"$c/crtn.o\"\n"
    ))
}

/// Writes a program that a shell runs.
fn script(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::file("write", path))?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(path, executable).map_err(Error::file("change", path))
}

/// Builds the program for the emulated server, or finds that it is up to date, and returns its path.
///
/// `BARTENDER_GUEST`, if set, names a static aarch64 bartender to be used instead; `BARTENDER_GUEST_AMD64` one for x86-64.
///
/// # Errors
/// [`Error::NoGuest`] if there is no way to build it, [`Error::Command`] with what the compiler said if that fails.
pub fn build_guest(cache: &Cache, arch: Arch, progress: Progress) -> Result<PathBuf, Error> {
    let toolchain = {
        let _lock = cache.lock()?;
        Toolchain::find_or_fetch(cache, arch, progress)?
    };
    if let Toolchain::Given(path) = toolchain {
        return checked(&path, arch);
    }
    let target = toolchain.target(arch);
    let workspace = workspace().ok_or_else(|| Error::NoGuest { arch, why: gone(), remedy: again(given(arch)) })?;
    let (mut cargo, folder) = cargo(cache, &workspace, "bartender", target)?;
    toolchain.equip(&mut cargo)?;
    let step = progress.step(format!("building bartender for the emulated server ({})", arch.debian()));
    let output = command::run(&mut cargo, BUILD_LIMIT, &step, || {})?;
    output.checked(&format!(
        "mend the source, or set {} to a static {} bartender",
        given(arch),
        arch.instructions()
    ))?;
    checked(&folder.join(target).join("guest/bartender"), arch)
}

/// What to say where the source is no longer there.
fn gone() -> String {
    format!("the source that this was built from is no longer beside {}", env!("CARGO_MANIFEST_DIR"))
}

fn again(given: &str) -> String {
    format!("set {given} to a program built elsewhere, or build this program again from its source")
}

/// The folder of a workspace's targets. Each has its own: to cargo a package of another checkout is the same package, and by the
/// age of its sources it can take the other's program for this one's.
fn of_workspace(workspace: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    workspace.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A cargo that builds the program of a package for a target in the cache, and the folder of its targets.
fn cargo(cache: &Cache, workspace: &Path, package: &str, target: &str) -> Result<(Command, PathBuf), Error> {
    let folder = cache.sub("target")?.join(of_workspace(workspace));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--message-format=short", "--package", package, "--bin", package, "--profile", "guest"])
        .args(["--target", target])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(workspace);
    // What the caller's own build was set to is not meant for this one.
    for name in
        ["RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"]
    {
        cargo.env_remove(name);
    }
    Ok((cargo, folder))
}

/// Builds the bare-metal program, or finds that it is up to date, and returns its path.
///
/// `BARTENDER_EL2`, if set, names one to be used instead.
///
/// # Errors
/// [`Error::NoBare`] if there is no way to build it, [`Error::Command`] with what the compiler said if that fails.
pub fn build_bare(cache: &Cache, progress: Progress) -> Result<PathBuf, Error> {
    if let Some(given) = std::env::var_os(BARE_GIVEN).map(PathBuf::from) {
        return Ok(given);
    }
    let workspace = workspace().ok_or_else(|| Error::NoBare { why: gone(), remedy: again(BARE_GIVEN) })?;
    let (mut cargo, folder) = cargo(cache, &workspace, "el2", BARE)?;
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
    let there = || has_target(BARE) || add_target(BARE, progress) && has_target(BARE);
    if !there() {
        return Err(Error::NoBare {
            why: format!(
                "this machine's Rust has not the target {BARE}, and Debian's toolchain for arm64 is for Linux alone"
            ),
            remedy: format!("make `rustup target add {BARE}` work, or set {BARE_GIVEN} to a program built elsewhere"),
        });
    }
    let step = progress.step("building el2");
    let output = command::run(&mut cargo, BUILD_LIMIT, &step, || {})?;
    output.checked(&format!("mend the source, or set {BARE_GIVEN} to a program built elsewhere"))?;
    Ok(folder.join(BARE).join("guest/el2"))
}

/// The path, if a static program for that architecture is there.
fn checked(path: &Path, arch: Arch) -> Result<PathBuf, Error> {
    use object::read::elf::{FileHeader, ProgramHeader};
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    let fits = || {
        let header = object::elf::FileHeader64::<object::Endianness>::parse(&*bytes).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, &*bytes).ok()?;
        let interpreted = segments.iter().any(|segment| segment.p_type(endian) == object::elf::PT_INTERP);
        Some(header.e_machine(endian) == arch.elf() && !interpreted)
    };
    if fits() == Some(true) {
        return Ok(path.to_owned());
    }
    Err(Error::NoGuest {
        arch,
        why: format!("{} is no static {} program", path.display(), arch.instructions()),
        remedy: format!("set {} to one, or unset it to have it built", given(arch)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn two_checkouts_do_not_share_what_is_built() {
        let [one, two] = ["/a/x", "/b/x"].map(|folder| of_workspace(Path::new(folder)));
        assert!(one != two && one == of_workspace(Path::new("/a/x")));
    }

    #[test]
    fn versions_of_rust() {
        assert_eq!((minor("1.96.0+dfsg1-1~deb12u2"), minor("1.95"), minor("x")), (96, 95, 0));
    }

    #[test]
    fn only_a_static_aarch64_program_will_do() {
        let own = crate::cache::tests::Own::new("guest");
        let file = own.0.sub("x").unwrap().join("program");
        fs::write(&file, crate::poweroff_init()).unwrap();
        assert_eq!(checked(&file, Arch::Arm64).unwrap(), file);
        assert!(checked(&file, Arch::Amd64).is_err());
        for wrong in [&b""[..], b"#!/bin/sh", &fs::read("/proc/self/exe").unwrap()] {
            fs::write(&file, wrong).unwrap();
            let message = checked(&file, Arch::Arm64).unwrap_err().to_string();
            assert!(message.contains(given(Arch::Arm64)), "{message}");
        }
    }

    #[test]
    fn the_source_is_found() {
        assert!(workspace().unwrap().join("Cargo.toml").is_file());
    }
}
