//! The initramfs: what the emulated server has for a disk.

use std::fs;
use std::io::Write;

use cpio::newc::{Builder, ModeFileType, trailer};

use crate::error::Error;
use crate::kernel::Kernel;

/// The word on init's command line by which a program knows that it is the guest side.
pub(crate) const MARK: &str = "in-the-lab";

/// Where the modules are in the emulated server.
pub(crate) const MODULES: &str = "/lab/modules";
/// Where the files are that came with the boot.
pub(crate) const FILES: &str = "/lab/files";

/// The largest initramfs: the emulated server has 512 MiB for everything.
const LARGEST: usize = 128 << 20;

/// Builds the image: an uncompressed cpio archive, since the emulated processor is slow at unpacking.
pub(crate) fn build(
    kernel: &Kernel,
    init: &[u8],
    files: &[(String, Vec<u8>)],
    modules: bool,
) -> Result<Vec<u8>, Error> {
    let mut image = Image { bytes: Vec::with_capacity(init.len() + (1 << 20)), next: 1 };
    for folder in ["dev", "proc", "sys", "lab", &MODULES[1..], &FILES[1..]] {
        image.add(Builder::new(folder).mode(0o755).set_mode_file_type(ModeFileType::Directory).nlink(2), b"")?;
    }
    // The kernel opens it for init before anything is mounted; without it a panic of init would be silent.
    let console = Builder::new("dev/console").mode(0o600).set_mode_file_type(ModeFileType::Char);
    image.add(console.rdev_major(5).rdev_minor(1), b"")?;
    image.file("init", 0o755, init)?;
    if modules {
        for module in kernel.modules() {
            let bytes = fs::read(&module).map_err(Error::file("read", &module))?;
            let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
            image.file(&format!("{}/{name}", &MODULES[1..]), 0o644, unsigned(&bytes))?;
        }
    }
    for (name, bytes) in files {
        let plain = (1..=200).contains(&name.len()) && !name.contains(['/', '\0']) && name != "." && name != "..";
        if !plain {
            let rule = "a file's name is 1 to 200 bytes without `/`".to_owned();
            return Err(Error::BadBoot { what: "file", value: name.chars().take(60).collect(), rule });
        }
        image.file(&format!("{}/{name}", &FILES[1..]), 0o644, bytes)?;
    }
    trailer(&mut image.bytes).map_err(unwritten)?;
    Ok(image.bytes)
}

/// A module without the signature a distribution appends (`struct module_signature`: the length of what precedes it, in
/// its last four bytes, big-endian; then the mark). To check the first one the kernel sets up its public-key code and tests
/// it, which takes an emulated processor a quarter of a second; the server lives for three, and nothing rests on it.
fn unsigned(module: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"~Module signature appended~\n";
    const HEADER: usize = 12;
    let cut = || {
        let rest = module.strip_suffix(MARK)?;
        let (rest, length) = rest.split_last_chunk::<4>()?;
        let signature = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        rest.get(..rest.len().checked_sub(HEADER - 4)?.checked_sub(signature)?)
    };
    cut().unwrap_or(module)
}

/// Writing to memory does not fail, but the library's signature says it may.
fn unwritten(source: std::io::Error) -> Error {
    Error::File { doing: "build", path: "initramfs".into(), source }
}

struct Image {
    bytes: Vec<u8>,
    next: u32,
}

impl Image {
    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<(), Error> {
        self.add(Builder::new(name).mode(mode).set_mode_file_type(ModeFileType::Regular), content)
    }

    fn add(&mut self, entry: Builder, content: &[u8]) -> Result<(), Error> {
        let size = u32::try_from(content.len()).ok().filter(|_| self.bytes.len() + content.len() < LARGEST);
        let Some(size) = size else {
            return Err(Error::BadBoot {
                what: "initramfs",
                value: format!("{} bytes", self.bytes.len().saturating_add(content.len())),
                rule: format!("all files together take at most {LARGEST} bytes"),
            });
        };
        let mut writer = entry.ino(self.next).write(&mut self.bytes, size);
        self.next += 1;
        writer.write_all(content).map_err(unwritten)?;
        writer.finish().map_err(unwritten)?;
        Ok(())
    }
}

/// A program that turns the machine off at once, and nothing else: the least that a boot can take.
///
/// ```
/// assert_eq!(lab::poweroff_init()[..4], *b"\x7fELF");
/// ```
#[must_use]
pub fn poweroff_init() -> Vec<u8> {
    program(&[
        0xd29b_d5a0, // movz x0, #0xdead            first magic number of reboot(2): 0xfee1dead
        0xf2bf_dc20, // movk x0, #0xfee1, lsl #16
        0xd283_2d21, // movz x1, #0x1969            second one: 0x28121969
        0xf2a5_0241, // movk x1, #0x2812, lsl #16
        0xd29f_db82, // movz x2, #0xfedc            LINUX_REBOOT_CMD_POWER_OFF: 0x4321fedc
        0xf2a8_6422, // movk x2, #0x4321, lsl #16
        0xd280_11c8, // movz x8, #142               __NR_reboot
        0xd400_0001, // svc  #0
        0x1400_0000, // b    .
    ])
}

/// The smallest static ELF file around some A64 instructions: one header, one loadable segment.
pub(crate) fn program(instructions: &[u32]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + 4 * instructions.len() as u64;
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01"); // 64 bits, little endian, version 1
    elf.resize(16, 0);
    for half in [2_u16, 183] {
        elf.extend(half.to_le_bytes()); // ET_EXEC, EM_AARCH64
    }
    elf.extend(1_u32.to_le_bytes());
    for long in [BASE + HEADERS, 64, 0] {
        elf.extend(long.to_le_bytes()); // entry, program headers, no section headers
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        elf.extend(half.to_le_bytes()); // sizes of the headers, one program header, no sections
    }
    for word in [1_u32, 5] {
        elf.extend(word.to_le_bytes()); // PT_LOAD, readable and executable
    }
    for long in [0, BASE, BASE, size, size, 0x1_0000] {
        elf.extend(long.to_le_bytes()); // file offset, addresses, sizes, alignment
    }
    elf.extend(instructions.iter().flat_map(|word| word.to_le_bytes()));
    elf
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use object::read::elf::{FileHeader, ProgramHeader};
    use object::{Endianness, elf};
    use std::io::Read;

    #[test]
    fn a_signature_is_cut_off_and_nothing_else() {
        let mut signed = b"module".to_vec();
        signed.extend([b's'; 20]);
        signed.extend([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 20]);
        signed.extend(b"~Module signature appended~\n");
        assert_eq!(unsigned(&signed), b"module");
        // A length that cannot be, a mark without a header, no mark: as it is.
        let mut wrong = signed.clone();
        let at = wrong.len() - 28 - 4;
        wrong[at] = 0xff;
        for module in [&wrong[..], b"~Module signature appended~\n", b"module", b""] {
            assert_eq!(unsigned(module), module);
        }
    }

    #[test]
    fn the_image_reads_back() {
        let own = crate::cache::tests::Own::new("image");
        let folder = own.0.kernels_folder().join("k");
        fs::create_dir_all(folder.join("modules")).unwrap();
        fs::write(folder.join("vmlinuz"), "").unwrap();
        fs::write(folder.join("modules/00-a.ko"), "module").unwrap();
        fs::write(folder.join("kernel.json"), r#"{"version":"6.1.1-1","release":"r","modules":["00-a.ko"]}"#).unwrap();
        let kernel = Kernel::open(&folder).unwrap();
        let bytes = build(&kernel, b"init!", &[("plan".to_owned(), b"xyz".to_vec())], true).unwrap();
        let mut found = Vec::new();
        let mut rest = &bytes[..];
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = String::new();
            reader.read_to_string(&mut content).unwrap();
            found.push((name, mode, content));
            rest = reader.finish().unwrap();
        }
        let has = |name: &str, mode: u32, content: &str| {
            assert!(found.contains(&(name.to_owned(), mode, content.to_owned())), "{name} in {found:?}");
        };
        has("dev", 0o40755, "");
        has("dev/console", 0o20600, "");
        has("init", 0o100_755, "init!");
        has("lab/modules/00-a.ko", 0o100_644, "module");
        has("lab/files/plan", 0o100_644, "xyz");

        for name in ["", "a/b", "..", "\0"] {
            assert!(build(&kernel, b"", &[(name.to_owned(), vec![])], false).is_err(), "{name:?}");
        }
        let large = vec![0; LARGEST];
        assert!(build(&kernel, &large, &[], false).unwrap_err().to_string().contains("at most"));
    }

    #[test]
    fn the_program_is_a_static_aarch64_one() {
        let bytes = poweroff_init();
        let header = elf::FileHeader64::<Endianness>::parse(&*bytes).unwrap();
        let endian = header.endian().unwrap();
        assert_eq!(header.e_machine(endian), elf::EM_AARCH64);
        assert_eq!(header.e_type(endian), elf::ET_EXEC);
        let segments = header.program_headers(endian, &*bytes).unwrap();
        assert_eq!(segments.len(), 1);
        assert_eq!(segments[0].p_filesz(endian), bytes.len() as u64);
        assert_eq!(header.e_entry(endian), segments[0].p_vaddr(endian) + 120);
    }
}
