//! `bartender explain`: what the layers of a translation come to, and what follows from it.

pub(crate) mod answer;
pub(crate) mod arm64;
mod loongarch;
mod power;
mod riscv;
mod smmu;
mod x86;

use super::Result;

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mJSON:\u{1b}[0m
  type, inner, outer  the result; inner and outer are null for Device
  unaligned           ok, fault, or may-fault where the architecture leaves it open (stage 1 says Device
                      and FWB forces Write-Back over it, R_RMTWN)
  fault_stage         where it faults or may: 1 (taken to EL1), 2 (taken to EL2), or null
  gather, reorder, early_acknowledgement, speculate, cacheable
                      whether the memory system may do it, not whether this one does
  atomics             guaranteed, or system-defined: they may work, abort, or do nothing
  reserved            the reserved encodings among the inputs; the result is then one of those allowed
  because             the rules in the order they apply, each with its place in DDI 0487
  guarantees          what is promised of the result: each question with its standing and its source
  regime              the control bits given (sctlr.m, hcr.cd and so on), where there are any
  Other architectures: arch, layers, type, because, notes, guarantees.

\u{1b}[1m\u{1b}[4mTerms, KEY=VALUE:\u{1b}[0m
  arm64   after S1 S2: sctlr.m|c|i, hcr.dc|dct|cd|id|ptw = 0|1, access = data|fetch|walk, quirk = nc-as-device
  x86     pat, and one of: mtrr; ept with ipat; npt with mtrr; kvm (an era or a release) with pfn, noncoherent,
          selfsnoop, honour-pat, cd-quirk; and cd
  riscv   pma, g, vs, svpbmt
  smmu    in, ste-type (or mtcfg with memattr), shcfg, s1, s1-sh, s2, s2-sh, fwb, no-snoop, canwbs, ovr, pcie-override
  power   host, guest
  loongarch  host, guest

",
    examples![
        "bartender explain normal-nc device-ngnre" => "a write-combining guest mapping on Linux before 6.9 (thread 002)",
        "bartender explain normal-nc normal-nc --fwb" => "the same from Linux 6.9 on, where the CPU has FEAT_S2FWB",
        "bartender explain device-ngnre normal-wb --fwb" => "stage 2 forces Write-Back over the guest's Device",
        "bartender explain mmu-off normal-nc --json" => "before the guest turns its MMU on, as JSON",
        "bartender explain mair=0x4f memattr=0b1010 --s2-sh osh" => "any attributes by their bits",
        "bartender explain normal-nc normal-nc quirk=nc-as-device" => "on a machine whose Normal-NC writes to PCIe are broken",
        "bartender explain normal-wb normal-wb --fwb sctlr.c=0" => "with a control bit of the guest's or the hypervisor's",
        "bartender explain --arch x86 pat=wc ept=uc" => "x86: a write-combining guest mapping of a BAR under KVM",
        "bartender explain --arch x86 pat=wb kvm=6.12 pfn=ram noncoherent=1" => "x86: what KVM writes, and what it comes to",
        "bartender explain --arch riscv pma=io g=io vs=nc" => "RISC-V: the guest's PBMT over the hypervisor's",
        "bartender explain --arch smmu s1=normal-wb s2=normal-wb fwb=1 no-snoop=1" => "a device's DMA with No Snoop: thread 004",
        "bartender explain --arch power host=ig guest=i" => "Power: a guest that leaves G out",
    ]
);

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// Arm, A-profile: S1 S2
    Arm64,
    /// x86: pat=, with mtrr=, ept=, npt= or kvm=
    X86,
    /// RISC-V: pma=, g=, vs=
    Riscv,
    /// The Arm SMMU: a device's transaction
    Smmu,
    /// Power: host=, guest=
    Power,
    /// LoongArch: guest=, host=; what they come to is not known
    #[value(name = "loongarch")]
    LoongArch,
    /// s390 has no second stage for PCI
    S390,
}

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Arm: what the guest maps (device-ngnrne, device-ngnre, device-ngre, device-gre, normal-nc, normal-wt, normal-wb,
    /// normal-wb-tagged; mmu-off; or the MAIR byte as mair=0x44), then what the hypervisor maps (a type as above, as-s1,
    /// or the bits as memattr=0b0101). Other architectures: each layer as LAYER=TYPE
    #[arg(required = true, value_name = "TERM")]
    pub(super) terms: Vec<String>,
    /// Whose rules
    #[arg(long, value_enum, default_value = "arm64")]
    arch: Arch,
    /// Arm: HCR_EL2.FWB is on (FEAT_S2FWB), which changes what MemAttr means
    #[arg(long)]
    pub(super) fwb: bool,
    /// Arm: shareability in the stage-1 descriptor: nsh, ish (the default), osh
    #[arg(long, value_name = "SH")]
    pub(super) s1_sh: Option<String>,
    /// Arm: shareability in the stage-2 descriptor: nsh, ish (the default), osh
    #[arg(long, value_name = "SH")]
    pub(super) s2_sh: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Combines, and says what follows.
///
/// # Errors
/// A name or number that is none; an option of Arm for another architecture.
pub fn run(args: &Args) -> Result {
    if args.arch == Arch::Arm64 {
        return arm64::run(args);
    }
    if args.fwb || args.s1_sh.is_some() || args.s2_sh.is_some() {
        return Err(
            "--fwb, --s1-sh and --s2-sh are of arm64\nother architectures take LAYER=TYPE, as in pat=wc ept=uc"
                .to_string()
                .into(),
        );
    }
    let answer = match args.arch {
        Arch::Arm64 | Arch::X86 => x86::explain(&args.terms),
        Arch::Riscv => riscv::explain(&args.terms),
        Arch::Smmu => smmu::explain(&args.terms),
        Arch::Power => power::explain(&args.terms),
        Arch::LoongArch => loongarch::explain(&args.terms),
        Arch::S390 => Err(
            "s390 reaches a PCI function by instructions, which the hypervisor interprets or lets pass: there are no \
                           two stages to combine\nwhat is promised of them: bartender contract --type s390:mio-wc"
                .into(),
        ),
    }?;
    answer.print(args.json)
}
