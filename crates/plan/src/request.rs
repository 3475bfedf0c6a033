//! The VM that is asked for: a value, or a file in TOML, read strictly.

use std::fmt;

use memtype::Arch;
use platform::Bdf;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use toml::Spanned;

/// Largest file, in bytes.
pub const MAX_BYTES: usize = 256 << 10;
/// Most devices.
pub const MAX_DEVICES: usize = 256;
/// Most parts of a BAR.
pub const MAX_PARTS: usize = 64;

/// A VM with devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRequest {
    /// Of the guest; nothing for the host's.
    pub arch: Option<Arch>,
    /// arm64: KVM_CAP_ARM_MTE.
    pub mte: bool,
    /// Every slot has KVM_MEM_LOG_DIRTY_PAGES.
    pub dirty_log: bool,
    /// The IOMMU that the guest sees.
    pub iommu: GuestIommu,
    /// What describes the machine to the guest.
    pub firmware: GuestFirmware,
    /// Bytes of a page of the guest's.
    pub page: u64,
    /// Of a virtio-iommu.
    pub viommu: ViommuRequest,
    /// The devices.
    pub devices: Vec<DeviceRequest>,
}

/// What is wanted of a virtio-iommu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViommuRequest {
    /// Where it stands in the guest, if that is known.
    pub at: Option<Bdf>,
    /// What the VMM has for a domain on the host; nothing for what the host has.
    pub host: Option<HostSide>,
    /// It offers VIRTIO_IOMMU_F_COHERENCY, a proposal (docs/virtio-iommu-coherency.md).
    pub coherency: bool,
}

/// What a VMM has on the host for a domain of a virtio-iommu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostSide {
    /// A container of VFIO: Linux makes a table in it for each kind of endpoint.
    Container,
    /// An address space of iommufd to which endpoints are attached: Linux finds or makes a table for each that takes it.
    Ioas,
    /// A hardware page table of iommufd that the VMM allocated (IOMMU_HWPT_ALLOC) and attaches all endpoints to.
    Hwpt,
}

impl HostSide {
    /// As the file writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Ioas => "ioas",
            Self::Hwpt => "hwpt",
        }
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRequest {
    /// Where it is on the host.
    pub bdf: Bdf,
    /// What it is called in the plan.
    pub name: Option<String>,
    /// What is wanted of its BARs. Of the others: write-combining where prefetchable, else registers.
    pub bars: Vec<BarRequest>,
    /// Whether it may set No Snoop; nothing to have that decided.
    pub no_snoop: Option<SnoopWish>,
}

/// What is wanted of a BAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarRequest {
    /// Which.
    pub index: u8,
    /// Of all that is in no part; nothing for what the prefetchable bit says.
    pub want: Option<Want>,
    /// Parts of it, in ascending order.
    pub parts: Vec<PartRequest>,
}

/// A part of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRequest {
    /// From the BAR's first byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// What is wanted of it.
    pub want: Want,
}

/// What a guest is to be able to have of a part of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Want {
    /// Strictly ordered, nothing merged.
    Registers,
    /// Write-combining.
    WriteCombine,
    /// Cacheable.
    Cached,
    /// No access of the guest's reaches the device but through the VMM.
    Trap,
}

impl Want {
    /// As the file writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::WriteCombine => "write-combine",
            Self::Cached => "cached",
            Self::Trap => "trap",
        }
    }
}

/// The IOMMU that the guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestIommu {
    /// None: the device's addresses are the guest's physical ones.
    #[default]
    None,
    /// A virtual SMMUv3.
    Smmuv3,
    /// virtio-iommu.
    VirtioIommu,
}

impl GuestIommu {
    /// As the file writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Smmuv3 => "smmuv3",
            Self::VirtioIommu => "virtio-iommu",
        }
    }
}

/// What describes the machine to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestFirmware {
    /// ACPI.
    #[default]
    Acpi,
    /// A device tree.
    DeviceTree,
}

impl GuestFirmware {
    /// As the file writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acpi => "acpi",
            Self::DeviceTree => "device-tree",
        }
    }
}

/// Whether a device may set No Snoop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnoopWish {
    /// The guest may turn Enable No Snoop on.
    Allow,
    /// The VMM keeps it off.
    Forbid,
}

impl Default for VmRequest {
    fn default() -> Self {
        Self {
            arch: None,
            mte: false,
            dirty_log: false,
            iommu: GuestIommu::None,
            firmware: GuestFirmware::Acpi,
            page: 4096,
            viommu: ViommuRequest::default(),
            devices: Vec::new(),
        }
    }
}

/// What is wrong with a file, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    /// The name given.
    pub file: String,
    /// Line; 1 is the first.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl std::error::Error for RequestError {}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default)]
    vm: VmTable,
    viommu: Option<Spanned<ViommuTable>>,
    #[serde(default)]
    device: Vec<DeviceTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ViommuTable {
    at: Option<Spanned<String>>,
    host: Option<HostSide>,
    #[serde(default)]
    coherency: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct VmTable {
    arch: Option<GuestArch>,
    #[serde(rename = "vmm")]
    _vmm: Vmm,
    mte: bool,
    dirty_log: bool,
    iommu: GuestIommu,
    firmware: GuestFirmware,
    page: Page,
}

/// The architectures of which KVM's behaviour is known here.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum GuestArch {
    Arm64,
    X86,
    Riscv,
    LoongArch,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
enum Vmm {
    #[default]
    Kvm,
}

#[derive(Deserialize, Clone, Copy, Default)]
enum Page {
    #[default]
    #[serde(rename = "4K")]
    Small,
    #[serde(rename = "16K")]
    Middle,
    #[serde(rename = "64K")]
    Large,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DeviceTable {
    bdf: Spanned<String>,
    name: Option<Spanned<String>>,
    #[serde(default)]
    bars: Vec<Spanned<BarTable>>,
    no_snoop: Option<SnoopWish>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct BarTable {
    index: u8,
    want: Option<Want>,
    #[serde(default)]
    parts: Vec<Spanned<PartTable>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PartTable {
    offset: Size,
    size: Size,
    want: Want,
}

/// `65536`, `"0x10000"`, `"64K"`, `"1M"`, `"1G"`.
#[derive(Clone, Copy)]
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct It;
        impl de::Visitor<'_> for It {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as 4096, \"0x1000\", \"64K\", \"1M\" or \"1G\"")
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Size, E> {
                u64::try_from(n).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Size, E> {
                Ok(Size(n))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                size(text).map(Size).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(It)
    }
}

fn size(text: &str) -> Option<u64> {
    let (digits, radix, shift) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16, 0),
        None => match text.char_indices().last()? {
            (at, 'K') => (&text[..at], 10, 10),
            (at, 'M') => (&text[..at], 10, 20),
            (at, 'G') => (&text[..at], 10, 30),
            (at, 'T') => (&text[..at], 10, 40),
            _ => (text, 10, 0),
        },
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()?.checked_mul(1 << shift)
}

/// Reads a file. `name` only says in an error which it is.
///
/// # Errors
/// The first fault, with its line and what would be right.
pub fn request(name: &str, text: &str) -> Result<VmRequest, RequestError> {
    let at = |offset: usize, message: String| RequestError {
        file: name.to_owned(),
        line: text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1,
        message,
    };
    if text.len() > MAX_BYTES {
        return Err(at(0, format!("the file has {} bytes; one has at most {MAX_BYTES}", text.len())));
    }
    let file: File = toml::from_str(text).map_err(|e| {
        // Of what is missing in a table the span is the whole of it.
        at(e.span().map_or(0, |s| s.start), e.message().trim().replace('\n', "; "))
    })?;
    if file.device.len() > MAX_DEVICES {
        return Err(at(0, format!("{} devices; a VM has at most {MAX_DEVICES}", file.device.len())));
    }
    let mut viommu = ViommuRequest::default();
    if let Some(table) = file.viommu {
        if file.vm.iommu != GuestIommu::VirtioIommu {
            let says = "[viommu] is of a guest that sees one: iommu = \"virtio-iommu\" in [vm]";
            return Err(at(table.span().start, says.into()));
        }
        let table = table.into_inner();
        if let Some(text) = table.at {
            let parsed = text.get_ref().parse::<Bdf>().ok().filter(|bdf| bdf.domain() <= u32::from(u16::MAX));
            viommu.at = Some(parsed.ok_or_else(|| {
                let says = format!("`{}` is no place in a guest: write 0000:00:01.0", text.get_ref());
                at(text.span().start, says)
            })?);
        }
        viommu.host = table.host;
        viommu.coherency = table.coherency;
    }
    let mut devices: Vec<DeviceRequest> = Vec::new();
    for table in file.device {
        let here = |offset, message| Err(at(offset, message));
        let start = table.bdf.span().start;
        let Ok(bdf) = table.bdf.get_ref().parse::<Bdf>() else {
            return here(
                start,
                format!("`{}` is no address of a PCI function: write 0000:01:00.0", table.bdf.get_ref()),
            );
        };
        if devices.iter().any(|d| d.bdf == bdf) {
            return here(start, format!("{bdf} is given twice: one [[device]] for each function"));
        }
        if let Some(name) = &table.name {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            let text = name.get_ref();
            let start = name.span().start;
            if !(1..=32).contains(&text.len()) || !text.chars().all(plain) {
                return here(start, format!("`{}` is no name: 1 to 32 of a-z, 0-9, `-` and `_`", text.escape_debug()));
            }
            if devices.iter().any(|d| d.name.as_ref() == Some(text)) {
                return here(start, format!("two devices are called `{text}`"));
            }
        }
        let mut bars: Vec<BarRequest> = Vec::new();
        for bar in table.bars {
            let (start, bar) = (bar.span().start, bar.into_inner());
            if bar.index > 5 {
                return here(start, format!("BAR {}: a function has BARs 0 to 5", bar.index));
            }
            if bars.iter().any(|b| b.index == bar.index) {
                return here(start, format!("BAR {} is given twice: put all its parts into one", bar.index));
            }
            let parts = parts(bar.index, bar.parts).map_err(|(offset, message)| at(offset, message))?;
            bars.push(BarRequest { index: bar.index, want: bar.want, parts });
        }
        let name = table.name.map(Spanned::into_inner);
        devices.push(DeviceRequest { bdf, name, bars, no_snoop: table.no_snoop });
    }
    let vm = file.vm;
    Ok(VmRequest {
        arch: vm.arch.map(|arch| match arch {
            GuestArch::Arm64 => Arch::Arm64,
            GuestArch::X86 => Arch::X86,
            GuestArch::Riscv => Arch::Riscv,
            GuestArch::LoongArch => Arch::LoongArch,
        }),
        mte: vm.mte,
        dirty_log: vm.dirty_log,
        iommu: vm.iommu,
        firmware: vm.firmware,
        page: match vm.page {
            Page::Small => 4 << 10,
            Page::Middle => 16 << 10,
            Page::Large => 64 << 10,
        },
        viommu,
        devices,
    })
}

fn parts(bar: u8, tables: Vec<Spanned<PartTable>>) -> Result<Vec<PartRequest>, (usize, String)> {
    if let Some(over) = tables.get(MAX_PARTS) {
        return Err((over.span().start, format!("BAR {bar} has more than {MAX_PARTS} parts")));
    }
    let mut out: Vec<PartRequest> = Vec::new();
    for table in tables {
        let start = table.span().start;
        let PartTable { offset: Size(offset), size: Size(size), want } = table.into_inner();
        let shown = format!("the part of BAR {bar} at {offset:#x} of {size:#x} bytes");
        let Some(last) = size.checked_sub(1).and_then(|s| offset.checked_add(s)) else {
            return Err((start, format!("{shown} is empty, or ends beyond 64 bits: `size` is 4K or more")));
        };
        if !(offset | size).is_multiple_of(4096) {
            return Err((start, format!("{shown} is not of whole pages: `offset` and `size` are multiples of 4K")));
        }
        if let Some(with) = out.iter().find(|p| p.offset <= last && offset <= p.offset + (p.size - 1)) {
            return Err((start, format!("{shown} overlaps the one at {:#x} of {:#x} bytes", with.offset, with.size)));
        }
        out.push(PartRequest { offset, size, want });
    }
    out.sort_by_key(|p| p.offset);
    Ok(out)
}

/// `0x…`: JSON numbers of 64 bits lose precision in many readers.
pub(crate) fn hex<S: Serializer>(n: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{n:#x}"))
}
