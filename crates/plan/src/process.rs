//! The mapping in the process: whether it can be had, and of which type it is.

use host::{Bar, Cachemode, Fact, Hole, Why};
use hyp::{Facts, Pgprot, Policy, Vma};
use memtype::linux::{Helper, of};
use memtype::x86::{self, Pat};
use memtype::{Arch, Attribute, MemoryType};

use crate::bus::bytes;
use crate::seat::{Seat, cache_coherency, is_vfio};
use crate::{Layer, Sure, Way, kernel};

/// What is in the way, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) why: String,
    pub(crate) remedy: Option<String>,
}

impl Block {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), remedy: None }
    }
    fn but(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { why: why.into(), remedy: Some(remedy.into()) }
    }
}

/// Everything that is in the way of mapping the BAR so, on this machine, now.
pub(crate) fn blocks(seat: &Seat<'_>, way: Way) -> Vec<Block> {
    if seat.bar.io {
        return vec![Block::new("an I/O BAR cannot be mapped")];
    }
    if seat.bar.size.0 == 0 {
        return vec![Block::new("the BAR has no size")];
    }
    if seat.bar.at.is_none() {
        return vec![Block::but(
            "the BAR has no address here: none was assigned",
            "look for `can't assign` in the kernel log; `pci=realloc` lets Linux make larger bridge windows",
        )];
    }
    let mut found = match way {
        Way::Vfio | Way::VfioWriteCombine | Way::Trap => device_blocks(seat),
        Way::Sysfs | Way::SysfsWriteCombine => sysfs(seat),
    };
    match way {
        Way::Vfio => found.extend(unmappable(seat)),
        Way::VfioWriteCombine => {
            found.extend(unmappable(seat));
            found.extend(no_attribute(seat));
        }
        Way::Sysfs if !seat.bar.file => {
            found.push(Block::new(format!("there is no resource{}", seat.bar.index)));
        }
        Way::SysfsWriteCombine if !seat.bar.file_wc => found.push(no_wc_file(seat)),
        Way::Sysfs | Way::SysfsWriteCombine | Way::Trap => {}
    }
    found
}

/// Whether VFIO would let the BAR be mapped, once the device is its.
pub(crate) fn mappable(seat: &Seat<'_>) -> bool {
    !seat.bar.io && seat.bar.at.is_some() && unmappable(seat).is_none()
}

pub(crate) fn device_blocks(seat: &Seat<'_>) -> Vec<Block> {
    let Seat { host, function, .. } = seat;
    let bdf = function.bdf;
    let mut found = Vec::new();
    if function.class >> 8 == 0x0604 {
        return vec![Block::new("it is a bridge: vfio-pci takes only endpoints")];
    }
    let load = if host.vfio.driver { "" } else { "modprobe vfio-pci; then " };
    let bind = |loses: &str| {
        format!(
            "bind {bdf} to vfio-pci{loses}: {load}`driverctl set-override {bdf} vfio-pci`; or write vfio-pci into \
             /sys/bus/pci/devices/{bdf}/driver_override, {bdf} into driver/unbind there, and into \
             /sys/bus/pci/drivers_probe"
        )
    };
    if !seat.on_vfio() {
        match &function.driver {
            Fact::Known(driver) => found.push(Block::but(
                format!("it is bound to {driver}, not to vfio-pci"),
                bind(&format!(" ({driver} and its users lose it)")),
            )),
            Fact::Absent => found.push(Block::but("no driver is bound to it", bind(""))),
            Fact::Hole(hole) => {
                found.push(Block::new(format!("whether it is bound to vfio-pci is not known ({hole})")));
            }
        }
        let coherent = function.coherent.known().map(|c| c.coherent);
        if seat.iommu().is_some_and(|i| cache_coherency(i, coherent) == Some(false)) {
            found.push(Block::but(
                "VFIO will refuse it with EINVAL: its IOMMU is not coherent (IOMMU_CAP_CACHE_COHERENCY) \
                 [Linux __vfio_register_dev, iommufd_device_bind]",
                "an SMMUv3 counts as coherent where firmware says so: `dma-coherent` on its node, or the COHACC override in \
                 IORT; say it only where it is true",
            ));
        }
    }
    match &function.group {
        Fact::Known(group) => {
            let others = group.members.iter().filter(|m| **m != bdf);
            let held: Vec<String> = others
                .filter_map(|member| {
                    let driver = host.functions.get(member)?.driver.known()?;
                    // Those with driver_managed_dma: pcieport and pci-stub, and VFIO's own.
                    let harmless = is_vfio(driver) || driver == "pcieport" || driver == "pci-stub";
                    (!harmless).then(|| format!("{member} ({driver})"))
                })
                .collect();
            if !held.is_empty() {
                let number = group.number;
                let held = held.join(", ");
                found.push(Block::but(
                    format!("IOMMU group {number} is not viable: others in it are bound to drivers of their own: {held}"),
                    format!(
                        "unbind {held}, or bind them to vfio-pci too; another slot may have a group of its own (ACS). \
                         [Linux iommu_group_claim_dma_owner]"
                    ),
                ));
            }
        }
        Fact::Absent if seat.no_iommu() => {}
        Fact::Absent => found.push(Block::but(
            "it is in no IOMMU group",
            "turn the IOMMU on: in the firmware's setup (VT-d, AMD-Vi, SMMU), on x86 also intel_iommu=on; in a VM, give it a \
             virtual IOMMU. Without one there is only enable_unsafe_noiommu_mode of module vfio, and nothing confines the \
             device's DMA",
        )),
        Fact::Hole(hole) => found.push(Block::new(format!("its IOMMU group is not known ({hole})"))),
    }
    if !host.vfio.container && !host.vfio.iommufd {
        found.push(Block::but("neither /dev/vfio/vfio nor /dev/iommu is there", "modprobe vfio-pci"));
    }
    found
}

/// Why vfio-pci does not let the BAR be mapped, `vfio_pci_probe_mmaps()`.
pub(crate) fn unmappable(seat: &Seat<'_>) -> Option<Block> {
    let opened = seat.function.opened.known().and_then(|o| o.regions.get(&u32::from(seat.bar.index)));
    match opened {
        Some(region) if !region.mmap => {
            return Some(Block::new("VFIO says that the region cannot be mapped (no VFIO_REGION_INFO_FLAG_MMAP)"));
        }
        Some(_) => return None,
        None => {}
    }
    let at = seat.bar.at?;
    let page = seat.page();
    if seat.bar.size.0 >= page {
        return None;
    }
    if at.first.0 % page != 0 {
        return Some(Block::but(
            format!("the BAR is smaller than a page and does not begin on one ({:#x})", at.first.0),
            format!("have Linux align it: pci=resource_alignment={}@{}", page.trailing_zeros(), seat.function.bdf),
        ));
    }
    let (sharer, theirs) = seat.page_sharers(at).next()?;
    Some(Block::but(
        format!(
            "the BAR is smaller than a page of {}, and BAR {} of {} is in the same page",
            bytes(page),
            theirs.index,
            sharer.bdf
        ),
        format!("have Linux align it: pci=resource_alignment={}@{}", page.trailing_zeros(), seat.function.bdf),
    ))
}

fn no_attribute(seat: &Seat<'_>) -> Option<Block> {
    match &seat.function.opened {
        Fact::Known(opened) if opened.takes_attributes() => None,
        Fact::Known(_) => {
            Some(Block::new("VFIO has no call here by which to ask for an attribute; no Linux up to 7.3 has"))
        }
        Fact::Absent | Fact::Hole(_) => Some(Block::new(
            "no Linux up to 7.3 has a call by which to ask VFIO for an attribute; this one was not asked",
        )),
    }
}

fn sysfs(seat: &Seat<'_>) -> Vec<Block> {
    let Seat { host, function, .. } = seat;
    let mut found = Vec::new();
    if let Some(mode) = host.kernel.lockdown.known()
        && mode != "none"
    {
        found.push(Block::but(
            format!("the kernel is locked down ({mode}): mmap gives EPERM [LOCKDOWN_PCI_ACCESS]"),
            "use VFIO, which lockdown leaves alone",
        ));
    }
    let relaxed = host.kernel.parameters.known().is_some_and(|p| p.iter().any(|p| p == "iomem=relaxed"));
    if let Some(driver) = function.driver.known()
        && !is_vfio(driver)
        && !relaxed
    {
        found.push(Block::but(
            format!(
                "{driver} is bound to it and will have claimed the BAR: mmap gives EINVAL on a kernel with \
                 CONFIG_IO_STRICT_DEVMEM, as distributions have it [Linux pci_mmap_resource, resource_is_exclusive]"
            ),
            format!(
                "unbind {driver} from {}, or boot with iomem=relaxed where nobody else uses the machine",
                function.bdf
            ),
        ));
    }
    if function.command.known().is_some_and(|c| !c.memory) {
        found.push(Block::but(
            "memory decode is off: an access gives ones, or an abort",
            format!("write 1 into /sys/bus/pci/devices/{}/enable", function.bdf),
        ));
    }
    if let Some(power) = function.power.known()
        && power.starts_with("D3")
    {
        found.push(Block::but(
            format!("the function is in {power}: nobody answers"),
            format!("write on into /sys/bus/pci/devices/{}/power/control", function.bdf),
        ));
    }
    found
}

fn no_wc_file(seat: &Seat<'_>) -> Block {
    let file = format!("there is no resource{}_wc", seat.bar.index);
    if !seat.bar.prefetchable {
        return Block::new(format!("{file}: the BAR is not prefetchable [Linux pci_create_resource_files]"));
    }
    match seat.arch() {
        Some(Arch::Riscv | Arch::LoongArch) => {
            Block::new(format!("{file}: Linux has none on this architecture [arch_can_pci_mmap_wc]"))
        }
        Some(Arch::X86) if seat.host.cpu.pat == Fact::Known(false) => {
            Block::but(format!("{file}: PAT is off [arch_can_pci_mmap_wc]"), "boot without nopat")
        }
        _ => Block::new(file),
    }
}

/// The mapping in the process.
pub(crate) fn vma(seat: &Seat<'_>, way: Way) -> Layer {
    if seat.bar.io {
        let sure = Sure::Rule("the file is not offered for I/O space".into());
        return Layer { what: "none".into(), ty: None, why: "I/O space is not mapped".into(), sure };
    }
    let Some(arch) = seat.arch() else {
        return Layer {
            what: "not known".into(),
            ty: None,
            why: "pgprot helpers differ by architecture".into(),
            sure: Sure::Rests(vec![Seat::arch_hole()]),
        };
    };
    if way == Way::Trap {
        let ty = of(arch, Helper::Ioremap).and_then(|e| e.ty);
        return Layer {
            what: "none; the kernel's own ioremap".into(),
            ty,
            why: "pread and pwrite on the VFIO region access the BAR through pci_iomap(), in aligned pieces \
                  [Linux vfio_pci_bar_rw]"
                .into(),
            sure: Sure::Rule("the same in every Linux".into()),
        };
    }
    let helper = helper(seat, way);
    let mut layer = by_helper(seat, arch, helper);
    layer.why = format!("{} [Linux {}]", whose(seat, way), source(way));
    if arch == Arch::X86 {
        x86_reserved(seat, helper, &mut layer);
    }
    if way == Way::VfioWriteCombine {
        layer.sure = Sure::Rests(vec![Hole {
            at: "the attribute call of this kernel".into(),
            why: Why::Failed("no merged kernel has one; it would be pgprot_writecombine by every proposal".into()),
        }]);
    }
    layer
}

/// What Linux calls for it.
fn helper(seat: &Seat<'_>, way: Way) -> Option<Helper> {
    match way {
        Way::Vfio if seat.nvgrace() && seat.bar.index == 4 => None,
        Way::Vfio | Way::Trap => Some(Helper::PgprotNoncached),
        Way::Sysfs => Some(Helper::PgprotDevice),
        Way::SysfsWriteCombine | Way::VfioWriteCombine => Some(Helper::PgprotWritecombine),
    }
}

/// Whether the device's own driver maps it cacheable.
pub(crate) fn is_cached(seat: &Seat<'_>, way: Way) -> bool {
    helper(seat, way).is_none()
}

fn whose(seat: &Seat<'_>, way: Way) -> &'static str {
    match way {
        Way::Vfio if seat.nvgrace() && seat.bar.index == 4 => "nvgrace-gpu leaves the device's memory cacheable",
        Way::Vfio => "vfio-pci maps every BAR so; it does not look at the prefetchable bit",
        Way::VfioWriteCombine => "what an attribute write-combine would ask for",
        Way::Sysfs => "sysfs maps resourceN so, prefetchable or not",
        Way::SysfsWriteCombine => "sysfs maps resourceN_wc so",
        Way::Trap => "",
    }
}

const fn source(way: Way) -> &'static str {
    match way {
        Way::Vfio | Way::Trap => "vfio_pci_core_mmap",
        Way::VfioWriteCombine => "has none; threads of 2023 to 2026 propose it",
        Way::Sysfs | Way::SysfsWriteCombine => "pci_mmap_resource_range",
    }
}

/// The type by the table of helpers.
fn by_helper(seat: &Seat<'_>, arch: Arch, helper: Option<Helper>) -> Layer {
    let Some(helper) = helper else {
        let ty = Pgprot::Cached.memory_type(arch);
        let sure = Sure::Rule("Linux 6.12 and 7.2, nvgrace_gpu_mmap".into());
        return Layer { what: "cacheable".into(), ty, why: String::new(), sure };
    };
    let entry = memtype::linux::entry(arch, helper);
    let holds = match arch {
        Arch::X86 if entry.otherwise.is_some() => seat.host.cpu.pat.known().copied(),
        _ if entry.otherwise.is_some() => None,
        _ => Some(true),
    };
    let rule = || Sure::Rule(format!("Linux 6.12 and 7.2, {}", entry.cite.place));
    let (ty, sure) = match holds {
        Some(true) => (entry.ty, rule()),
        Some(false) => (entry.otherwise, rule()),
        None => {
            let at = if arch == Arch::X86 { "pat of /proc/cpuinfo".to_owned() } else { entry.condition.to_owned() };
            let asked = Why::NotAsked("the type holds only so".into());
            let hole = match arch {
                Arch::X86 => seat.host.cpu.pat.hole().cloned(),
                _ => None,
            };
            (None, Sure::Rests(vec![hole.unwrap_or(Hole { at, why: asked })]))
        }
    };
    Layer { what: format!("{} ({})", helper.name(), entry.attribute), ty, why: String::new(), sure }
}

/// x86: what the physical addresses are reserved as counts, not what is asked for; and MTRRs.
fn x86_reserved(seat: &Seat<'_>, helper: Option<Helper>, layer: &mut Layer) {
    let Some(at) = seat.bar.at else { return };
    let overlapping = |first: u64, last: u64| first <= at.last.0 && at.first.0 <= last;
    let mtrr = mtrr(seat);
    if let Some(list) = seat.host.pat.known() {
        let mut kinds: Vec<Cachemode> = list.iter().filter(|r| overlapping(r.first, r.last)).map(|r| r.kind).collect();
        kinds.dedup();
        if let [kind] = kinds.as_slice() {
            let asks_wc = helper == Some(Helper::PgprotWritecombine);
            let ty = x86::effective(mtrr, pat_of(*kind));
            layer.ty = Some(MemoryType::X86(ty));
            if asks_wc && *kind != Cachemode::WriteCombining {
                layer.what = format!("{}, given as {}", layer.what, mode(*kind));
            } else {
                layer.what = format!("{} reserved", mode(*kind));
            }
            layer.why.push_str("; the BAR is reserved so already, and a mapping takes that over [Linux reserve_pfn_range, track_pfn_insert]");
            layer.sure = Sure::Seen(format!("pat_memtype_list has {:#x} as {}", at.first.0, mode(*kind)));
            return;
        }
        if !kinds.is_empty() {
            layer
                .why
                .push_str("; parts of the BAR are reserved differently, and each keeps its own (pat_memtype_list)");
            layer.ty = None;
            layer.sure = Sure::Seen("pat_memtype_list".into());
            return;
        }
    }
    if matches!(helper, Some(Helper::PgprotNoncached | Helper::PgprotDevice)) {
        layer.ty = Some(MemoryType::X86(x86::effective(mtrr, Pat::UcMinus)));
    }
    if helper == Some(Helper::PgprotWritecombine)
        && let Some(driver) = seat.function.driver.known()
    {
        layer.why.push_str(&format!("; where {driver} has reserved the BAR UC- before, this succeeds and is UC-"));
        if seat.host.pat.known().is_none() {
            let hole = seat.host.pat.hole().cloned();
            let hole = hole.unwrap_or(Hole { at: "/sys/kernel/debug/x86/pat_memtype_list".into(), why: Why::Denied });
            layer.sure = Sure::Rests(vec![hole]);
        }
    }
}

/// What the MTRRs say of the BAR: UC where nothing is known of it, as firmware leaves what is no RAM.
pub(crate) fn mtrr(seat: &Seat<'_>) -> x86::Type {
    let (Some(at), Some(mtrrs)) = (seat.bar.at, seat.host.mtrr.known()) else { return x86::Type::Uc };
    let over = mtrrs.iter().filter(|m| m.span.overlaps(at)).map(|m| m.kind);
    over.reduce(|a, b| x86::mtrr::overlap(a, b).unwrap_or(x86::Type::Uc)).unwrap_or(x86::Type::Uc)
}

const fn pat_of(kind: Cachemode) -> Pat {
    match kind {
        Cachemode::Uncached => Pat::Uc,
        Cachemode::UncachedMinus => Pat::UcMinus,
        Cachemode::WriteBack => Pat::Wb,
        Cachemode::WriteCombining => Pat::Wc,
        Cachemode::WriteThrough => Pat::Wt,
        Cachemode::WriteProtected => Pat::Wp,
    }
}

const fn mode(kind: Cachemode) -> &'static str {
    match kind {
        Cachemode::Uncached => "uncached",
        Cachemode::UncachedMinus => "uncached-minus",
        Cachemode::WriteBack => "write-back",
        Cachemode::WriteCombining => "write-combining",
        Cachemode::WriteThrough => "write-through",
        Cachemode::WriteProtected => "write-protected",
    }
}

/// The mapping as KVM on Arm sees it, under each policy that the kernel may have.
pub(crate) fn as_kvm_sees(seat: &Seat<'_>, way: Way, policy: Policy, marks: Option<bool>) -> Option<Vma> {
    let kernel_memory = seat.in_ram();
    let vma = match way {
        Way::Vfio | Way::VfioWriteCombine => {
            let facts = Facts {
                prefetchable: seat.bar.prefetchable,
                cached: helper(seat, way).is_none(),
                ..Facts::of_device(seat.function.class, seat.platform)
            };
            let (mut vma, _) = policy.mmap(&facts, Attribute::Default).ok()?;
            if let Some(marks) = marks {
                vma.allow_any_uncached = marks;
            }
            if way == Way::VfioWriteCombine {
                vma.pgprot = Pgprot::WriteCombine;
            }
            vma
        }
        Way::Sysfs => Vma::device(Pgprot::Device),
        Way::SysfsWriteCombine => Vma::device(Pgprot::WriteCombine),
        Way::Trap => return None,
    };
    Some(Vma { kernel_memory, ..vma })
}

/// The version in words, for reasons.
pub(crate) fn says_version(seat: &Seat<'_>) -> String {
    kernel::version(&seat.host.kernel)
}

/// Whether the BAR holds the MSI-X table.
pub(crate) fn has_table(seat: &Seat<'_>, bar: &Bar) -> bool {
    seat.function.msix.known().is_some_and(|m| m.table.0 == bar.index)
}
