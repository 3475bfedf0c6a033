//! What there is to say of each policy: its rule, where it comes from, who wanted it, what was said for and against it, what it
//! breaks. The texts are paraphrases. "thread 000" to "thread 004" are the five mailing-list threads; other mails have their list
//! and their message id.

use crate::Policy;

/// What somebody said of a policy, in our words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Who.
    pub who: &'static str,
    /// When: the day of the mail, or of the one that quotes it; a month where the day is not known.
    pub when: &'static str,
    /// Where: a thread, or a list with a message id; else a commit.
    pub place: &'static str,
    /// What, paraphrased.
    pub what: &'static str,
}

/// What there is to say of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The rule in a sentence.
    pub rule: &'static str,
    /// Where the rule comes from: function and version, or thread.
    pub source: &'static str,
    /// Who decides the type under it.
    pub decides: &'static str,
    /// What user space has to do for it.
    pub needs: &'static str,
    /// Who proposed it, when.
    pub proposed: &'static str,
    /// What was said for it.
    pub for_it: &'static [Said],
    /// What was said against it.
    pub against: &'static [Said],
    /// What it breaks, as scenarios show it.
    pub breaks: &'static [&'static str],
    /// What became of it.
    pub became: &'static str,
}

impl Policy {
    /// The rule in a sentence.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        self.about().rule
    }
    /// Where the rule comes from.
    #[must_use]
    pub const fn source(self) -> &'static str {
        self.about().source
    }
    /// What there is to say of it.
    #[must_use]
    pub const fn about(self) -> &'static About {
        match self {
            Self::Linux6_1 => &LINUX6_1,
            Self::Prefetchable => &PREFETCHABLE,
            Self::Vga => &VGA,
            Self::FollowVma => &FOLLOW_VMA,
            Self::Subregions => &SUBREGIONS,
            Self::Linux6_9 => &LINUX6_9,
            Self::Linux6_17 => &LINUX6_17,
            Self::Firmware => &FIRMWARE,
            Self::X86Ept => &X86EPT,
        }
    }
}

const fn said(who: &'static str, when: &'static str, place: &'static str, what: &'static str) -> Said {
    Said { who, when, place, what }
}

const LINUX6_1: About = About {
    rule: "Device memory is Device-nGnRE at stage 2, always.",
    source: "Linux 6.1 arch/arm64/kvm/mmu.c: user_mem_abort(), kvm_is_device_pfn(); the kernel of thread 002",
    decides: "KVM, alike for all that is not the kernel's own memory",
    needs: "nothing",
    proposed: "Nobody in the threads: it is what they found. All KVM on arm64 before Linux 6.9 does it.",
    for_it: &[
        said(
            "Marc Zyngier",
            "2022-04-01",
            "thread 002",
            "Stage 2 may be stricter than stage 1, and mostly it has to be.",
        ),
        said(
            "Marc Zyngier",
            "2022-04-05",
            "thread 002",
            "There is much hardware that answers an unaligned access to the wrong device with an SError, so that \
             more than Device cannot be left to user space.",
        ),
        said(
            "Marc Zyngier",
            "2023-04-12",
            "linux-kernel, to Agrawal's [PATCH v3 0/6]",
            "It is no bug but was decided so: of the memory that gets mapped KVM knows nothing, and Device is \
             what is safe for any.",
        ),
    ],
    against: &[
        said(
            "xieming",
            "2022-04-01",
            "thread 002",
            "A guest maps its GPU's memory Normal-NC; Device at stage 2 makes every access have to be aligned, \
             and KVM ends with an \"Unsupported FSC\".",
        ),
        said(
            "Jason Gunthorpe",
            "2022-04-04",
            "thread 002",
            "A CPU whose Normal-NC works should run guests that see a CPU whose Normal-NC works.",
        ),
        said(
            "Vikram Sethi",
            "2021-05-02",
            "thread 000",
            "On bare metal ioremap_wc() is Normal-NC on arm64 already; the same driver in a guest should have the \
             same.",
        ),
        said(
            "Jason Gunthorpe",
            "2023-09-13",
            "thread 003",
            "The reason was a belief: that Device has fewer uncontained failures than Normal-NC. The \
             specifications do not say so, and Arm's own IP does not behave so: at best both are equally unsafe.",
        ),
    ],
    breaks: &[
        "An unaligned access through a guest's write-combining mapping is an Alignment fault at stage 2, KVM_RUN \
         fails with EFAULT, and the guest is told nothing (scenario `thread-002-unaligned-copy`).",
        "Gathering: the guest asks for Normal-NC and has Device-nGnRE, so no two of its stores become one PCIe \
         write.",
        "Cacheable memory of a device that the kernel does not map (Grace Hopper's) would be Device as well, \
         whatever its VMA says.",
    ],
    became: "Replaced in 6.9 for the BARs of vfio-pci. Still the rule for what carries no flag and is not \
             cacheable: vfio-platform, sysfs resourceN and resourceN_wc, /dev/mem, the GICv2 CPU interface (Linux \
             7.3). The stable series 6.1 keeps it whole (6.1.192).",
};

const PREFETCHABLE: About = About {
    rule: "A prefetchable BAR gets a write-combining VMA; stage 2 follows it.",
    source: "thread 000: [RFC 1/2] vfio/pci: keep the prefetchable attribute of a BAR region in VMA",
    decides: "the BAR's prefetchable bit: the device's vendor",
    needs: "nothing; but its own mapping changes",
    proposed: "Shanker Donthineni (NVIDIA), 2021-04-29, an RFC of two patches: vfio-pci maps a prefetchable BAR \
               with pgprot_writecombine(), on arm64 only, and KVM takes the type from the VMA.",
    for_it: &[
        said(
            "Shanker Donthineni",
            "2021-04-29",
            "linux-kernel, [RFC 0/2]",
            "NVIDIA's driver crashes in a guest by unaligned accesses to a prefetchable BAR; the same binary \
             works in the host, and it wants write-combining for speed.",
        ),
        said(
            "Vikram Sethi",
            "2021-05-02",
            "thread 000",
            "NICs, GPUs and NVMe CMBs were tested write-combining on bare metal. A device that cannot stand \
             Normal-NC would be broken there as well, and a quirk there would serve VFIO too.",
        ),
        said(
            "Catalin Marinas",
            "2021-05-05",
            "kvmarm <20210505180228.GA3874@arm.com>",
            "ioremap_wc() is Normal-NC on arm64 also because a frame buffer in user space is accessed by memset() \
             and memcpy(), which do not align.",
        ),
        said(
            "Vikram Sethi",
            "2021-05-02",
            "thread 000",
            "By the PCI specification a prefetchable range has no read side effects, so that speculative reads of \
             it do no harm.",
        ),
    ],
    against: &[
        said(
            "Marc Zyngier",
            "2021-05-02",
            "thread 000, quoted",
            "Write-combining is loosely defined even on x86, is open to interpretation on PCI and is none of \
             Arm's types; and Normal-NC may be read speculatively, which is undesirable on arbitrary devices.",
        ),
        said(
            "Marc Zyngier",
            "2021-05-02",
            "thread 000, quoted",
            "A type at stage 2 is ABI for good. What is expected of write-combining on such regions has to be \
             written down first, for all architectures.",
        ),
        said(
            "Alex Williamson",
            "2021-04-29",
            "kvm, quoted in <e3d7fda8-5263-211c-3686-f699765ab715@nvidia.com>",
            "If write-combining cures an alignment fault, it hides a bug of the driver's, which has to be fixed \
             first.",
        ),
        said(
            "Marc Zyngier",
            "2021-04-30",
            "kvmarm, quoted in <7c685ae6-938b-9d99-20e6-f51398543441@nvidia.com>",
            "The unaligned access, the best argument for Normal-NC, turned out to be a bug. Which attributes are \
             relied on beside that?",
        ),
        said(
            "Alex Williamson",
            "2021-05-04",
            "kvmarm <20210504120348.2eec075b@redhat.com>",
            "All the combining that a prefetchable BAR must stand is PCI's byte merging, which is much less. \
             Either the architecture's code says what fits such a BAR, or a user-space driver chooses by VFIO; \
             QEMU is no driver and cannot know.",
        ),
        said(
            "Catalin Marinas",
            "2023-05-31",
            "thread 001, quoted",
            "The prefetchable bit is no reliable way to tell whether Normal or Device is safe.",
        ),
        said(
            "Christoph Hellwig",
            "2024-08-14",
            "kvm <Zr2Mgst5KNCvUlhV@infradead.org>",
            "The bit never said anything of write-combining, though Linux takes it so for resourceN_wc; and the \
             PCI-SIG wants to be rid of prefetchable BARs.",
        ),
    ],
    breaks: &[
        "User space's own mapping becomes write-combining, unasked: speculative reads reach the BAR through it \
         even where the guest maps Device, and a user-space driver loses the order and the size of its stores.",
        "A BAR that says prefetchable and has read side effects loses what reads clear, to reads that no program \
         made.",
        "Registers in a prefetchable BAR: user space has no way to have them uncached.",
        "A write-combining buffer in a BAR that is not prefetchable stays Device, and its driver dies as under \
         `linux-6.1`.",
    ],
    became: "Rejected. Up to 7.3 VFIO does not look at the prefetchable bit when it maps; sysfs does, for \
             resourceN_wc. Out of tree Amazon's ENA repository has a patch of vfio-pci with this rule, so that \
             such hosts exist.",
};

const VGA: About = About {
    rule: "A BAR of a VGA-class device gets a write-combining VMA; stage 2 follows it.",
    source: "thread 002: [PATCH v2] kvm/arm64: fixed passthrough gpu into vm on arm64",
    decides: "the device's class code",
    needs: "nothing; but its own mapping changes",
    proposed: "xieming, 2022-04-01: vfio_pci_mmap() asks vfio_pci_is_vga() on arm64, and KVM makes an \
               MT_NORMAL_NC VMA Normal-NC at stage 2.",
    for_it: &[said(
        "xieming",
        "2022-04-01",
        "thread 002",
        "GPUs of NVIDIA and AMD fail in guests: VFIO and KVM map their memory Device, the guest's drivers map \
             all of it Normal-NC, and the stricter wins.",
    )],
    against: &[
        said(
            "Jason Gunthorpe",
            "2022-04-01",
            "thread 002",
            "The problem is not of GPUs: many devices map BARs write-combining and will in a guest, so that the \
             test of the class is wrong. Either user space asks for the type, or KVM gives write-combining \
             always.",
        ),
        said(
            "Jason Gunthorpe",
            "2022-04-01",
            "thread 002",
            "User space sees the change: with write-combining it needs other barriers around its accesses.",
        ),
        said(
            "Marc Zyngier",
            "2022-04-01",
            "thread 002",
            "That a device is VGA says nothing of its memory but Device. It may work for one device; as a rule it \
             does not hold, and it likely breaks user space.",
        ),
        said(
            "Marc Zyngier",
            "2022-04-01",
            "thread 002",
            "Arm has no write-combine, and that Normal-NC is the same is not shown. NAK.",
        ),
        said(
            "Marc Zyngier",
            "2022-04-01",
            "thread 002",
            "Its ground is wrong as well: stage 2 can be stricter than stage 1.",
        ),
    ],
    breaks: &[
        "A GPU that is not VGA (3D controller, class 0x0302, or display controller, 0x0380) gets nothing: Device, \
         as under `linux-6.1`. So do NICs and NVMe CMBs.",
        "A VGA-class device that is no frame buffer, and the registers of one that is, are write-combining in \
         user space: the class is of the function, the rule is for each of its BARs.",
        "Speculative reads come by user space's mapping, as under `prefetchable`.",
    ],
    became: "NAKed on the day. It was made for a tree whose arch/arm/include/asm/kvm_mmu.h had been gone for two \
             years. What it wanted to cure, 6.9 cured for every vfio-pci BAR.",
};

const FOLLOW_VMA: About = About {
    rule: "Stage 2 copies the VMA's memory type, cacheable included.",
    source: "thread 002, Gunthorpe 2022-04-01; thread 001, whose subject is [PATCH v3 1/6] kvm: determine memory \
             type from VMA",
    decides: "the VFIO driver that made the VMA",
    needs: "have a VMA of the type the guest is to have",
    proposed: "Jason Gunthorpe, 2022-04-01, in thread 002: KVM mirrors the process's page table, so let it copy \
               the bits. As patches: Ankit Agrawal (NVIDIA), 2023-04-05, for Grace Hopper's cacheable memory.",
    for_it: &[
        said(
            "Jason Gunthorpe",
            "2022-04-01",
            "thread 002",
            "KVM should copy the VMA's exact pgprot; even pgprot_device and pgprot_noncached differ in ways worth \
             keeping.",
        ),
        said(
            "Jason Gunthorpe",
            "2022-04-04",
            "thread 002",
            "The choice then is user space's and VFIO's, and VFIO has a better chance than KVM to learn of a \
             device's properties.",
        ),
        said(
            "Ankit Agrawal",
            "2023-04-05",
            "linux-kernel <20230405180134.16932-2-ankita@nvidia.com>",
            "Whoever made the VMA knows the type, so KVM need not guess by pfn_is_map_memory(); and memory \
             without a struct page can be cacheable in a guest in no other way.",
        ),
        said(
            "Jason Gunthorpe",
            "2023-04-12",
            "linux-kernel, quoted in <ZHcxHbCb439I1Uk2@arm.com>",
            "A variant driver knows its device by PCI id and by what ACPI says of it, so it knows that its memory \
             is on a coherent interconnect. Plain vfio-pci does not change.",
        ),
    ],
    against: &[
        said(
            "Marc Zyngier",
            "2022-04-05",
            "thread 002",
            "What makes it safe? Nobody can tell what Normal-NC does on an implementation, nor whether a device \
             takes it; to let user space decide is not acceptable.",
        ),
        said(
            "Marc Zyngier",
            "2023-04-12",
            "linux-kernel, quoted in <ZHcxHbCb439I1Uk2@arm.com>",
            "VFIO would have to be right for any device, in all circumstances, not for one.",
        ),
        said(
            "Catalin Marinas",
            "2023-07-16",
            "linux-kernel <ZLQIDkFysVJ8kzkQ@arm.com>",
            "vfio-pci cannot tell where write-combining is possible. The guest's driver can, so the hypervisor \
             should not restrict it.",
        ),
        said(
            "Catalin Marinas",
            "2023-10-05",
            "linux-kernel <ZR7hKYU1Wj+VTqpO@arm.com>",
            "A VMA says by which attributes user space mapped the memory, not what memory it is. Cacheable at \
             stage 2 needs FWB, or the VMM's mapping and the guest's differ.",
        ),
    ],
    breaks: &[
        "vfio-pci maps noncached, so for a GPU nothing changes: Device, as under `linux-6.1`.",
        "Cacheable without FWB: KVM has to maintain caches by a kernel address, and memory that the kernel does \
         not map has none; and a guest that maps it Normal-NC misses what its VMM has in the cache.",
        "Where the guest is to write-combine, the VMM's own mapping must too, and may be read speculatively.",
        "sysfs resourceN_wc as a memory slot is Normal-NC: who may open the file decides.",
    ],
    became: "Not merged. The patches differ from the rule here, which is Gunthorpe's as far as KVM's three types \
             go: Agrawal's v3 made a write-combining VMA plain Normal at stage 2 (Write-Back, with FWB) and kept \
             Device-nGnRnE as it is; his next series (2023-09-07) made every uncached VMA alike, Device and by \
             its second patch Normal-NC. The cacheable half was merged for 6.17, on FWB and DIC.",
};

const SUBREGIONS: About = About {
    rule: "User space attaches an attribute to a part of a region; stage 2 follows the mapping.",
    source: "thread 001, Herrenschmidt 2023-07-14",
    decides: "user space, for each part of a BAR",
    needs: "know the device, and make one call for each part that is not to be uncached",
    proposed: "Benjamin Herrenschmidt, 2023-07-14: an ioctl makes subregions, new region indexes that are \
               children of a BAR and have attributes that mmap honours. In the same mail the two lesser ones: an \
               attribute for the next mmap, and a whole index set before mmap.",
    for_it: &[
        said(
            "Benjamin Herrenschmidt",
            "2023-07-14",
            "thread 001",
            "The driver in user space is who knows what of a BAR can be write-combining, and how to order it; by \
             the _wc files of sysfs it chooses already.",
        ),
        said(
            "Benjamin Herrenschmidt",
            "2023-07-14",
            "thread 001",
            "It serves the device whose buffer lies in one BAR with registers. For a VM, user space may ask for \
             the most relaxed type that can be passed on, and the guest narrows it.",
        ),
        said(
            "Jason Gunthorpe",
            "2022-04-01",
            "thread 002",
            "User space should be able to ask for the cachability of an mmap, though it is open what KVM makes of \
             it.",
        ),
        said(
            "Jason Gunthorpe",
            "2023-07-16",
            "linux-kernel, quoted in <20230717123524.0cefedd0.alex.williamson@redhat.com>",
            "VFIO will have to allow it page by page.",
        ),
        said(
            "Catalin Marinas",
            "2023-07-16",
            "linux-kernel <ZLQIDkFysVJ8kzkQ@arm.com>",
            "Right for a driver in user space; and it will help KVM where a mapping is to be cacheable.",
        ),
        said(
            "Alex Williamson",
            "2023-07-17",
            "linux-kernel <20230717123524.0cefedd0.alex.williamson@redhat.com>",
            "Nobody is against it for user-space drivers; nobody has brought a complete proposal.",
        ),
        said(
            "Benjamin Herrenschmidt",
            "2025-08-07",
            "kvm, quoted in <20250807130605.644ac9f6.alex.williamson@redhat.com>",
            "A simpler form: the attribute of a range, for every mapping of it, which changes by zapping them. No \
             page can have two types then, which is what Arm's people were concerned about.",
        ),
        said(
            "Alex Williamson",
            "2025-08-07",
            "kvm <20250807130605.644ac9f6.alex.williamson@redhat.com>",
            "New region indexes are neither weird nor hacky: they fit the uAPI there is, best as aliases of the \
             regions there are.",
        ),
    ],
    against: &[
        said(
            "Marc Zyngier",
            "2022-04-05",
            "thread 002",
            "User space may not decide alone: the platform has to advertise something before it can have a say.",
        ),
        said(
            "Alex Williamson",
            "2023-07-17",
            "linux-kernel <20230717123524.0cefedd0.alex.williamson@redhat.com>",
            "QEMU cannot know whether a device or its driver wants a BAR write-combining.",
        ),
        said(
            "Catalin Marinas",
            "2023-07-16",
            "linux-kernel <ZLQIDkFysVJ8kzkQ@arm.com>",
            "For write-combining in a guest KVM needs nothing of VFIO's.",
        ),
        said(
            "Jason Gunthorpe",
            "2024-08-06",
            "kvm, quoted in <20240806124302.21e46cee.alex.williamson@redhat.com>",
            "A region is one piece of memory. If attributes of a mapping become regions their number may explode; \
             the cookie one maps by should carry them.",
        ),
        said(
            "Jason Gunthorpe",
            "2025-08-06",
            "kvm, quoted in <20250807130605.644ac9f6.alex.williamson@redhat.com>",
            "Subregions make a hacky uAPI, and regions should not be sliced: user space can map several times. \
             Nor should what a mapping means change while it is there.",
        ),
        said(
            "Benjamin Herrenschmidt",
            "2023-07-14",
            "thread 001",
            "Of his own lesser one: to set the attribute of the next mmap is a gross interface.",
        ),
    ],
    breaks: &[
        "A VMM that asks for nothing gets uncached, and its guest `linux-6.1`'s faults. To ask, it has to know \
         the device as a driver does.",
        "It takes a uAPI of VFIO's that no Linux has (7.3).",
        "A BAR that is mapped whole is in the way: no page has two types at once, so the VMM unmaps first.",
    ],
    became: "Discussed, not written; the mail of 2023 says nothing of a change while mapped, which is of 2025. It \
             came back for user-space drivers: Busch's RFC of 2024-07-31, Adam's of 2025-08-04, Williamson's \
             region aliases (2025-08-28), Evans's attribute of a dma-buf (v3, 2026-06-10). None is in Linux 7.3. \
             `bartender policies --compare` runs all five forms.",
};

const LINUX6_9: About = About {
    rule: "Normal-NC at stage 2 where VFIO says so: the guest chooses Device or Normal-NC.",
    source: "Linux 6.9 arch/arm64/kvm/mmu.c: user_mem_abort() (8c47ce3e1d2c); vfio_pci_core_mmap() \
             (a39d3a966a09); thread 003",
    decides: "the guest, page by page, in its own stage 1",
    needs: "nothing",
    proposed: "Ankit Agrawal (NVIDIA), v1 2023-09-07 for all device memory, v9 2024-02-24 for vfio-pci's alone, \
               by the flag VM_ALLOW_ANY_UNCACHED; suggested by Jason Gunthorpe and Catalin Marinas.",
    for_it: &[
        said(
            "Jason Gunthorpe",
            "2023-09-13",
            "thread 003",
            "Whether KVM with VFIO is safe is a property of the platform that no software can know, whatever it \
             chooses; so choose what gives VMs the most.",
        ),
        said(
            "Jason Gunthorpe",
            "2023-09-13",
            "thread 003",
            "Real platforms have no uncontained errors: PCIe integrations answer a failed TLP with all ones, by \
             custom and no specification, and servers built for VMs add RAS.",
        ),
        said(
            "Catalin Marinas",
            "2023-05-31",
            "linux-kernel <ZHcxHbCb439I1Uk2@arm.com>",
            "Device makes no difference to errors and can be worse. What remains, speculation and alignment, is \
             the guest's to answer for, which knows the device. User space's mapping has to stay Device.",
        ),
        said(
            "Ankit Agrawal",
            "2024-02-24",
            "kvm <20240224150546.368-1-ankita@nvidia.com>",
            "Device was held to be safer; its errors turned out to be asynchronous (SError), so it defeats its \
             purpose.",
        ),
    ],
    against: &[
        said(
            "Marc Zyngier",
            "2022-04-04",
            "thread 002",
            "That Normal-NC does what is wanted is not architected and cannot be detected; a rule such as \"for \
             PCIe and nothing else\" is not entirely safe.",
        ),
        said(
            "Lorenzo Pieralisi",
            "2023-09-13",
            "thread 003",
            "It changes every VM, so it has to be written down what hardware and software must do to be safe; and \
             how Normal-NC becomes PCIe transactions.",
        ),
        said(
            "Catalin Marinas",
            "2023-05-31",
            "linux-kernel <ZHcxHbCb439I1Uk2@arm.com>",
            "Two mappings of one page with different types: the VMM's, which is Device, may lose Device's \
             guarantees when the guest's is Normal-NC.",
        ),
        said(
            "Ankit Agrawal",
            "2024-02-24",
            "commit a39d3a966a09",
            "The architecture does not guarantee that it is safe: with Normal-NC the GICv2 VCPU interface can \
             cause uncontained faults. Hence a flag, set by drivers that vouch for it.",
        ),
    ],
    breaks: &[
        "The host's VMA stays Device while the guest may have Normal-NC: mismatched attributes, by design (DDI \
         0487 B2.11).",
        "A driver in user space (DPDK, SPDK) gets no write-combining: its own mapping is as it was.",
        "A guest that maps a BAR with read side effects Normal-NC may lose what reads clear. No rule of the \
         host's stops it.",
        "A SoC whose Normal-NC does not work on PCIe gives it to guests all the same: nothing asks.",
        "Device memory mapped by anything but vfio-pci stays Device.",
        "So does a cacheable mapping of it: what the VMM zeroed may lie in a cache while the guest reads what was \
         there before (Agrawal, 2025-06-20).",
    ],
    became: "Merged for 6.9, and in 7.3 still the rule for every uncached BAR of vfio-pci. Some distributions \
             have it in older kernels, so that a version number proves nothing.",
};

const LINUX6_17: About = About {
    rule: "As linux-6.9; a cacheable mapping of device memory is Normal, on a CPU with FWB and DIC.",
    source: "Linux 6.17 arch/arm64/kvm/mmu.c: user_mem_abort() (0c67288e0c8b), kvm_arch_prepare_memory_region() \
             (2a8dfab26677); asm/kvm_mmu.h: kvm_supports_cacheable_pfnmap()",
    decides: "the guest among the uncached types; the device's own driver where its memory is cacheable",
    needs: "nothing; KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED tells beforehand",
    proposed: "Ankit Agrawal (NVIDIA), 2025, the series \"KVM: arm64: Map GPU device memory as cacheable\" (v9 \
               2025-06-21), for Grace Hopper and Blackwell.",
    for_it: &[
        said(
            "Catalin Marinas",
            "2023-05-31",
            "linux-kernel <ZHcxHbCb439I1Uk2@arm.com>",
            "Cacheable at stage 2 exactly where the VMM's mapping is cacheable and FWB lets KVM enforce it.",
        ),
        said(
            "Ankit Agrawal",
            "2025-03",
            "linux-mm, cover of v3",
            "Such memory is DDR behind a coherent link: cached, accessed unaligned and atomically, executed from. \
             Stage 2 gets the type the VMA has, so KVM takes on nothing new.",
        ),
        said(
            "Ankit Agrawal",
            "2025-06-20",
            "linux-kernel, [PATCH v8 3/6]",
            "To refuse the slot closes a hole: memory that a VMM zeroes through a cacheable mapping, and KVM maps \
             uncached, shows a guest what the one before left there.",
        ),
        said(
            "Oliver Upton",
            "2025-07",
            "merge c535d132a30f",
            "KVM wanted an address in the kernel's map to maintain caches by. With FWB and DIC there is nothing \
             to maintain, so to insist on it is needlessly strict.",
        ),
    ],
    against: &[
        said(
            "Catalin Marinas",
            "2023-10-10",
            "linux-kernel <ZSWHkvhutlnvVLUZ@arm.com>",
            "That a VMM may map it cacheable does not make it support all that RAM does: an MTE tag access may go \
             anywhere, exclusives or atomics may fail.",
        ),
        said(
            "Will Deacon",
            "2025-06-27",
            "linux-kernel, quoted in <20250630122501.GQ167785@nvidia.com>",
            "remap_pfn_range() takes a protection of its own, so vm_page_prot need not be what the pages have.",
        ),
        said(
            "Jason Gunthorpe",
            "2025-06-30",
            "linux-kernel <20250630122501.GQ167785@nvidia.com>",
            "KVM should rather copy the host's own entry, page by page. Out of scope: nobody needs it now.",
        ),
    ],
    breaks: &[
        "Without FWB and DIC a cacheable VM_PFNMAP mapping is refused as a memory slot (EINVAL), where earlier \
         kernels took it (6.12) and gave Device.",
        "Under FWB what is cacheable is Write-Back for the guest, whatever its stage 1 says: it cannot have it \
         uncached.",
        "All of `linux-6.9`'s, for uncached BARs.",
    ],
    became: "Merged for 6.17. The same rule in 7.3, in smaller functions.",
};

const FIRMWARE: About = About {
    rule: "Normal-NC where the platform's description says that it works and no quirk takes that back.",
    source: "thread 002, Zyngier 2022-04-05 (a description) and Gunthorpe 2022-04-05 (a quirk list)",
    decides: "whoever writes the platform's firmware",
    needs: "nothing",
    proposed: "Marc Zyngier, 2022-04-05: the platform must advertise what can be mapped how. Jason Gunthorpe, the \
               same day, the other way round: firmware says where Normal-NC does not work, with a list of CPUs. \
               Here nothing is had without a description, and the list takes back.",
    for_it: &[
        said(
            "Marc Zyngier",
            "2022-04-05",
            "thread 002",
            "A description by firmware of what can be mapped with which attributes would be useful: then user \
             space can have a say.",
        ),
        said(
            "Jason Gunthorpe",
            "2022-04-05",
            "thread 002",
            "Firmware may mark the chip where pgprot_writecombine() does not work; arch_can_pci_mmap_wc() is half \
             of the hook for it.",
        ),
        said(
            "Jason Gunthorpe",
            "2022-04-04",
            "thread 002",
            "VFIO can consult the device tree; there are SoCs whose Normal-NC does not fully work for this.",
        ),
        said(
            "Jean-Philippe Brucker",
            "2022-07",
            "thread 004",
            "Of No Snoop, which cannot be discovered on Arm either: leave it to a method of firmware's.",
        ),
    ],
    against: &[
        said("Marc Zyngier", "2022-04-05", "thread 002", "Of his own: it is not clear how that scales."),
        said(
            "Jason Gunthorpe",
            "2022-04-05",
            "thread 002",
            "Systems have worked without it for so long that it cannot be made a condition; 47 drivers call \
             pgprot_writecombine(), and none of them asks.",
        ),
        said(
            "Catalin Marinas",
            "2023-05-31",
            "linux-kernel <ZHcxHbCb439I1Uk2@arm.com>",
            "Who offers passthrough knows the platform. KVM cannot police it properly, and need not; Arm works on \
             having the BSA require it.",
        ),
    ],
    breaks: &[
        "Linux knows no such description, so with firmware as it is stage 2 stays Device, with all that \
         `linux-6.1` breaks.",
        "The same driver then write-combines on the host, which does not ask, and not in a guest.",
    ],
    became: "Not built: VFIO and KVM read no such thing from ACPI or a device tree (7.3), and arm64's \
             arch_can_pci_mmap_wc() is 1 on every platform (6.1 to 7.3).",
};

const X86EPT: About = About {
    rule: "x86: UC for MMIO with the guest's PAT honoured; RAM is forced Write-Back unless DMA may be non-coherent.",
    source: "Linux arch/x86/kvm/vmx/vmx.c: vmx_get_mt_mask(); thread 002, Tian 2022-04-06",
    decides: "the guest, page by page, by its PAT: UC or WC",
    needs: "give KVM its device's file (KVM_DEV_TYPE_VFIO), where DMA may bypass the caches",
    proposed: "Nobody in the threads: Kevin Tian told, on 2022-04-06, how KVM on Intel does it.",
    for_it: &[
        said(
            "Kevin Tian",
            "2022-04-06",
            "thread 002",
            "MMIO is UC and comes out as UC or WC, by the guest's attributes; RAM is forced WB, unless a device \
             is assigned whose DMA may be non-coherent: then the guest's attributes count.",
        ),
        said(
            "Alex Williamson",
            "2021-05-04",
            "kvmarm <20210504120348.2eec075b@redhat.com>",
            "A mapping should follow what the guest's driver means, which KVM sees on x86.",
        ),
    ],
    against: &[
        said("Marc Zyngier", "2021-05-02", "thread 000, quoted", "Write-combining is loosely defined even on x86."),
        said(
            "Jean-Philippe Brucker",
            "2022-07",
            "thread 004",
            "No Snoop always works on x86, as he understands it, while the IOMMU may enforce snooping and the \
             guest may be unable to maintain caches.",
        ),
    ],
    breaks: &[
        "Device memory is never cacheable in a guest, not even a coherent device's: MMIO is UC, whatever its VMA \
         says.",
        "A VMM that does not give KVM its device's file (KVM_DEV_TYPE_VFIO) gets RAM with IPAT: a guest's \
         uncached mapping for a device that does not snoop is Write-Back.",
        "On Arm no stage-2 type says just this: Normal-NC, which `linux-6.9` uses, comes nearest.",
    ],
    became: "Linux's rule before, during and after the threads. Since 6.11 guest MTRRs do not count; since \
             KVM_X86_QUIRK_IGNORE_GUEST_PAT a VMM can have the guest's PAT count for RAM too. On AMD there is \
             nothing to decide: NPT leaves are Write-Back and the guest's PAT always counts.",
};
