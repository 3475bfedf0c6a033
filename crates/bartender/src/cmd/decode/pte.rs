//! `bartender decode pte`.

use memtype::x86::PatMsr;

use super::{Result, print_decoded};
use crate::decode::{arm_pte, pbmt, x86_pte};
use crate::input;

/// Whose tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Arch {
    /// Arm, 4 KiB granule: a descriptor of stage 1 or 2
    Arm64,
    /// x86: an entry of 4-level or 5-level paging
    X86,
    /// RISC-V: an entry of Sv39, Sv48 or Sv57
    Riscv,
}

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender decode pte 0x006800001000070b" => "a write-combining page of arm64 Linux",
    "bartender decode pte --stage 2 0x00400000100007c7" => "a BAR's page as KVM mapped it before 6.9",
    "bartender decode pte --stage 2 --fwb --level 2 0x00400000102007d5" => "a block as KVM maps it with FWB",
    "bartender decode pte --mair 0x040000 0x006800001000070b --json" => "under another MAIR_EL1, as JSON",
    "bartender decode pte --arch x86 0x80000000fe00006b" => "a write-combining page of x86 Linux",
    "bartender decode pte --arch riscv 0x20000000200000c7" => "a write-combining page of RISC-V",
])]
pub(super) struct Args {
    /// The entry: 64 bits (0x, 0b or decimal)
    value: String,
    /// Whose tables
    #[arg(long, value_enum, default_value = "arm64")]
    arch: Arch,
    /// Arm: of which stage
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=2))]
    stage: Option<u8>,
    /// The level it was found at: of Arm 0 to 3 (3, pages, if not given), of x86 5 to 1 (1, pages, if not given)
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=5))]
    level: Option<u8>,
    /// Arm, stage 1: MAIR_ELx (Linux's if not given)
    #[arg(long, value_name = "VALUE")]
    mair: Option<String>,
    /// Arm, stage 2: HCR_EL2.FWB is on
    #[arg(long)]
    fwb: bool,
    /// x86: IA32_PAT (Linux's if not given)
    #[arg(long, value_name = "VALUE")]
    pat: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result {
        let value = input::number(&self.value)?;
        let arm = self.stage.is_some() || self.mair.is_some() || self.fwb;
        if arm && self.arch != Arch::Arm64 {
            return Err("--stage, --mair and --fwb are of arm64".to_string().into());
        }
        if self.pat.is_some() && self.arch != Arch::X86 {
            return Err("--pat is of x86\nas in: bartender decode pte --arch x86 --pat 0x0007040600070406 0xfe00006b"
                .to_string()
                .into());
        }
        let decoded = match self.arch {
            Arch::Arm64 => arm_pte::decode(value, self.at()?),
            Arch::X86 => {
                let pat = self.pat.as_deref().map_or(Ok(PatMsr::LINUX.0), input::number)?;
                x86_pte::decode(value, self.level.unwrap_or(1), pat)?
            }
            Arch::Riscv if self.level.is_some() => {
                return Err("--level is of arm64 and x86: an entry of RISC-V says itself whether it is a leaf"
                    .to_string()
                    .into());
            }
            Arch::Riscv => pbmt::decode(value)?,
        };
        print_decoded(self.json, &decoded)
    }

    fn at(&self) -> std::result::Result<arm_pte::At, String> {
        let stage = self.stage.unwrap_or(1);
        if stage == 1 && self.fwb {
            return Err("--fwb is of stage 2\nadd --stage 2".into());
        }
        if stage == 2 && self.mair.is_some() {
            return Err("--mair is of stage 1: stage 2 has its attributes in the descriptor".into());
        }
        let level = self.level.unwrap_or(3);
        if level > 3 {
            return Err(format!("level {level} is none of Arm's\n0 to 2 have tables and blocks, 3 has pages"));
        }
        let mair = self.mair.as_deref().map_or(Ok(arm_pte::LINUX_MAIR), input::number)?;
        Ok(arm_pte::At { stage, level, mair, fwb: self.fwb })
    }
}
