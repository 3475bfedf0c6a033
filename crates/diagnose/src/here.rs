//! What the facts of a machine say about a case.

use std::fmt;

use host::{Fact, Function, Host, IommuKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::case::Case;

/// Something that a host's facts say about a case: one of the three conditions, and what it means if it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Note {
    /// If this is not so, it is not this case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<When>,
    /// If this is so, it is likely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likely: Option<When>,
    /// If this is so, it is unlikely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlikely: Option<When>,
    /// What that means.
    pub says: String,
}

/// What a condition is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Without it, it is not this case.
    Needs,
    /// With it, it is likely.
    Likely,
    /// With it, it is unlikely.
    Unlikely,
}

impl Note {
    /// Which condition it has.
    fn condition(&self) -> Option<(Kind, &When)> {
        let all = [(Kind::Needs, &self.needs), (Kind::Likely, &self.likely), (Kind::Unlikely, &self.unlikely)];
        let mut given = all.into_iter().filter_map(|(kind, when)| Some((kind, when.as_ref()?)));
        let first = given.next()?;
        given.next().is_none().then_some(first)
    }
    pub(crate) fn check(&self) -> Result<(), String> {
        let (_, when) = self.condition().ok_or("a note needs one of needs, likely, unlikely")?;
        if *when == When::default() || self.says.trim().is_empty() {
            return Err("a note without a condition, or that says nothing".into());
        }
        let unknown = when.arch.iter().find(|name| !memtype::Arch::ALL.iter().any(|arch| arch.name() == name.as_str()));
        if let Some(name) = unknown {
            return Err(format!("`{name}` is not an architecture"));
        }
        let unknown =
            when.iommu_kind.iter().find(|name| !IommuKind::ALL.iter().any(|kind| kind.name() == name.as_str()));
        if let Some(name) = unknown {
            return Err(format!("`{name}` is not a kind of IOMMU"));
        }
        let unknown = when.erratum.iter().find(|name| platform::errata::named(name).is_none());
        if let Some(name) = unknown {
            return Err(format!("`{name}` is not an erratum"));
        }
        Ok(())
    }
}

/// A version of Linux: `6.9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let parsed =
            text.split_once('.').and_then(|(major, minor)| Some(Self(major.parse().ok()?, minor.parse().ok()?)));
        parsed.ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a version such as 6.9")))
    }
}

/// A condition over the facts: all that is given must hold. Of a device: of the one that is asked about, if one is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct When {
    /// The architecture is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arch: Vec<String>,
    /// The kernel is older. A hint: changes are carried back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_below: Option<Version>,
    /// The kernel is this one or newer. A hint too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_from: Option<Version>,
    /// A page has more bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_above: Option<u64>,
    /// FEAT_S2FWB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fwb: Option<bool>,
    /// `KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED` answers 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cacheable_pfnmap: Option<bool>,
    /// The bit of `KVM_CAP_DISABLE_QUIRKS2` can be turned off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quirk: Option<u8>,
    /// FEAT_LS64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ls64: Option<bool>,
    /// x86 PAT is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pat: Option<bool>,
    /// x86 self-snoop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_snoop: Option<bool>,
    /// The machine has an IOMMU; of a device: it stands behind one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iommu: Option<bool>,
    /// The IOMMU is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iommu_kind: Vec<String>,
    /// The IOMMU takes No Snoop off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforces: Option<bool>,
    /// VFIO is in its mode without an IOMMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noiommu: Option<bool>,
    /// `/dev/iommu` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iommufd: Option<bool>,
    /// One of these errata matches the machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub erratum: Vec<String>,
    /// The firmware is `acpi` or `device-tree`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// The kernel is locked down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lockdown: Option<bool>,
    /// It runs under a hypervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<bool>,
    /// The device's driver is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub driver: Vec<String>,
    /// The device has a memory BAR that is prefetchable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefetchable: Option<bool>,
    /// The device has a `resourceN_wc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_wc: Option<bool>,
    /// The device has a prefetchable BAR that lies in a window that is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_hides: Option<bool>,
    /// The device has a memory BAR that is smaller than a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub small_bar: Option<bool>,
    /// The device decodes memory (PCI_COMMAND.MEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<bool>,
    /// The device is in D0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awake: Option<bool>,
    /// The device may set No Snoop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_snoop: Option<bool>,
    /// The firmware calls the device's DMA coherent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coherent: Option<bool>,
    /// The device shares its IOMMU group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares_group: Option<bool>,
    /// A mapping of a BAR through VFIO has a flag without a name in smaps (`??`): VM_ALLOW_ANY_UNCACHED.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any_uncached: Option<bool>,
}

/// Whether a condition holds, and what says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truth {
    /// It does: by which facts.
    Yes(String),
    /// It does not: by which fact.
    No(String),
    /// It could not be found out: what would say it.
    Unknown(String),
}

/// A note, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Here {
    /// What the condition is good for.
    pub kind: Kind,
    /// Whether it holds.
    pub truth: Truth,
    /// What that means.
    pub says: String,
}

/// What all facts together say about a case, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Facts speak for it.
    Likely,
    /// Nothing is known for or against it.
    Open,
    /// Facts speak against it.
    Unlikely,
    /// It cannot be this on this machine.
    RuledOut,
}

/// A case, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// In a word.
    pub standing: Standing,
    /// Every note.
    pub notes: Vec<Here>,
}

/// What a machine, and a device of it, say about a case. Without a machine nothing is said.
#[must_use]
pub fn judge(case: &Case, host: Option<&Host>, device: Option<&Function>) -> Judged {
    let Some(host) = host else { return Judged { standing: Standing::Open, notes: Vec::new() } };
    let notes: Vec<Here> = case
        .host
        .iter()
        .filter_map(|note| {
            let (kind, when) = note.condition()?;
            Some(Here { kind, truth: when.holds(host, device), says: note.says.clone() })
        })
        .collect();
    let any = |kind, yes| {
        notes.iter().any(|n| {
            n.kind == kind && if yes { matches!(n.truth, Truth::Yes(_)) } else { matches!(n.truth, Truth::No(_)) }
        })
    };
    let standing = match (any(Kind::Needs, false), any(Kind::Likely, true), any(Kind::Unlikely, true)) {
        (true, ..) => Standing::RuledOut,
        (false, true, false) => Standing::Likely,
        (false, false, true) => Standing::Unlikely,
        (false, true, true) | (false, false, false) => Standing::Open,
    };
    Judged { standing, notes }
}

/// One thing that a condition asks for.
fn fact<T>(asked: Option<T>, judge: impl FnOnce(T) -> Truth) -> Option<Truth> {
    asked.map(judge)
}

/// A yes or no that is a fact.
fn flag(asked: bool, is: &Fact<bool>, yes: &str, no: &str) -> Truth {
    match is {
        Fact::Known(is) => say(asked == *is, if *is { yes } else { no }),
        Fact::Absent => say(!asked, no),
        Fact::Hole(hole) => Truth::Unknown(hole.to_string()),
    }
}

fn say(holds: bool, what: impl Into<String>) -> Truth {
    if holds { Truth::Yes(what.into()) } else { Truth::No(what.into()) }
}

impl When {
    /// Whether it holds on a machine. Unknown counts before no only if nothing says no.
    #[must_use]
    pub fn holds(&self, host: &Host, device: Option<&Function>) -> Truth {
        let all: Vec<Truth> = self
            .of_host(host)
            .into_iter()
            .chain(self.of_iommu(host, device))
            .chain(self.of_device(host, device))
            .collect();
        if let Some(no) = all.iter().find(|t| matches!(t, Truth::No(_))) {
            return no.clone();
        }
        if let Some(unknown) = all.iter().find(|t| matches!(t, Truth::Unknown(_))) {
            return unknown.clone();
        }
        let yes: Vec<String> =
            all.into_iter().filter_map(|t| if let Truth::Yes(what) = t { Some(what) } else { None }).collect();
        Truth::Yes(yes.join(", "))
    }

    fn of_host(&self, host: &Host) -> Vec<Truth> {
        let list = |asked: &[String]| (!asked.is_empty()).then(|| asked.to_vec());
        let kernel = &host.kernel;
        let release = || kernel.release.known().map_or_else(|| "the kernel".into(), |r| format!("Linux {r}"));
        let version = |holds: &dyn Fn(Version) -> bool| match kernel.version {
            Some((major, minor, _)) => say(holds(Version(major, minor)), release()),
            None => Truth::Unknown("the kernel's version".into()),
        };
        let kvm = |asked: bool, what: &str, of: &dyn Fn(&host::Kvm) -> Option<bool>| match &host.kvm {
            Fact::Known(kvm) => match of(kvm) {
                Some(is) => say(asked == is, format!("{what} is {}", if is { "there" } else { "not there" })),
                None => say(!asked, format!("{what} is not there")),
            },
            Fact::Absent => Truth::Unknown(format!("{what}: there is no KVM")),
            Fact::Hole(hole) => Truth::Unknown(hole.to_string()),
        };
        [
            fact(list(&self.arch), |asked| match kernel.arch {
                Some(arch) => say(asked.iter().any(|name| name == arch.name()), format!("the machine is {arch}")),
                None => Truth::Unknown("the architecture".into()),
            }),
            fact(self.kernel_below, |than| version(&|is| is < than)),
            fact(self.kernel_from, |from| version(&|is| is >= from)),
            fact(self.page_above, |than| say(kernel.page.0 > than, format!("a page has {} KiB", kernel.page.0 >> 10))),
            fact(self.fwb, |asked| flag(asked, &host.cpu.fwb, "the CPU has FEAT_S2FWB", "the CPU has no FEAT_S2FWB")),
            fact(self.cacheable_pfnmap, |asked| {
                kvm(asked, "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED", &|kvm| kvm.cacheable_pfnmap)
            }),
            fact(self.quirk, |bit| {
                kvm(true, &format!("bit {bit} of KVM_CAP_DISABLE_QUIRKS2"), &|kvm| {
                    kvm.quirks.map(|mask| mask.checked_shr(u32::from(bit)).unwrap_or(0) & 1 == 1)
                })
            }),
            fact(self.ls64, |asked| flag(asked, &host.cpu.ls64, "the CPU has LS64", "the CPU has no LS64")),
            fact(self.pat, |asked| flag(asked, &host.cpu.pat, "PAT is on", "PAT is off")),
            fact(self.self_snoop, |asked| {
                flag(asked, &host.cpu.self_snoop, "the CPU snoops itself", "the CPU does not snoop itself")
            }),
            fact(self.noiommu, |asked| {
                flag(asked, &host.vfio.noiommu, "VFIO allows devices without an IOMMU", "VFIO wants an IOMMU")
            }),
            fact(self.iommufd, |asked| {
                let is = host.vfio.iommufd;
                say(asked == is, if is { "/dev/iommu is there" } else { "there is no /dev/iommu" })
            }),
            fact(list(&self.erratum), |asked| {
                match host.errata.iter().find(|it| asked.iter().any(|name| name == *it)) {
                    Some(it) => Truth::Yes(format!("erratum {it}")),
                    None => Truth::No("no such erratum is known of this machine".into()),
                }
            }),
            fact(self.firmware.as_deref(), |asked| match host.firmware.kind {
                Some(is) => say(is == asked, format!("the firmware gives {is}")),
                None => Truth::Unknown("what the firmware gives".into()),
            }),
            fact(self.lockdown, |asked| match &kernel.lockdown {
                Fact::Known(is) => say(asked == (is != "none"), format!("lockdown is {is}")),
                Fact::Absent => say(!asked, "there is no lockdown"),
                Fact::Hole(hole) => Truth::Unknown(hole.to_string()),
            }),
            fact(self.guest, |asked| match &kernel.hypervisor {
                Fact::Known(is) => say(asked, format!("it runs under {is}")),
                Fact::Absent => say(!asked, "it runs under no hypervisor"),
                Fact::Hole(hole) => Truth::Unknown(hole.to_string()),
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Of the IOMMU before the device; without a device, of all: they must agree.
    fn of_iommu(&self, host: &Host, device: Option<&Function>) -> Vec<Truth> {
        let mine = match device.map(|d| &d.iommu) {
            Some(Fact::Known(name)) => Ok(host.iommus.get_key_value(name).into_iter().collect::<Vec<_>>()),
            Some(Fact::Absent) => Ok(Vec::new()),
            Some(Fact::Hole(hole)) => Err(Truth::Unknown(hole.to_string())),
            None => Ok(host.iommus.iter().collect()),
        };
        let asked = self.iommu.is_some() || !self.iommu_kind.is_empty() || self.enforces.is_some();
        let mine = match mine {
            _ if !asked => return Vec::new(),
            Ok(mine) => mine,
            Err(unknown) => return vec![unknown],
        };
        let who = if device.is_some() { "the device stands behind" } else { "the machine has" };
        let mut out = Vec::new();
        out.extend(fact(self.iommu, |asked| {
            say(asked != mine.is_empty(), format!("{who} {} IOMMU", if mine.is_empty() { "no" } else { "an" }))
        }));
        if !self.iommu_kind.is_empty() {
            let kinds: Vec<&str> = mine.iter().map(|(_, iommu)| iommu.kind.name()).collect();
            let is = kinds.iter().any(|kind| self.iommu_kind.iter().any(|asked| asked == kind));
            let shown = if kinds.is_empty() { String::from("no IOMMU") } else { kinds.join(" and ") };
            out.push(say(is, format!("{who} {shown}")));
        }
        out.extend(fact(self.enforces, |asked| {
            let says: Vec<Truth> = mine
                .iter()
                .map(|(_, iommu)| {
                    flag(asked, &iommu.enforces, "the IOMMU takes No Snoop off", "the IOMMU lets No Snoop through")
                })
                .collect();
            let first = says.first().cloned();
            match first {
                None => say(!asked, format!("{who} no IOMMU")),
                Some(first) if says.iter().all(|it| *it == first) => first,
                Some(_) => Truth::Unknown("the IOMMUs differ; name the device".into()),
            }
        }));
        out
    }

    fn of_device(&self, host: &Host, device: Option<&Function>) -> Vec<Truth> {
        let needs = [
            self.prefetchable,
            self.resource_wc,
            self.window_hides,
            self.small_bar,
            self.decode,
            self.awake,
            self.no_snoop,
            self.coherent,
            self.shares_group,
            self.any_uncached,
        ];
        let Some(device) = device else {
            let asked = needs.iter().any(Option::is_some) || !self.driver.is_empty();
            return if asked { vec![Truth::Unknown("which device; name it with --device".into())] } else { Vec::new() };
        };
        let bdf = device.bdf;
        let bars = || device.bars.iter().filter(|bar| !bar.io);
        let known = |holds: bool, asked: bool, yes: &str, no: &str| {
            say(holds == asked, format!("{bdf} {}", if holds { yes } else { no }))
        };
        [
            (!self.driver.is_empty()).then(|| match &device.driver {
                Fact::Known(is) => say(self.driver.contains(is), format!("{bdf} is bound to {is}")),
                Fact::Absent => Truth::No(format!("{bdf} has no driver")),
                Fact::Hole(hole) => Truth::Unknown(hole.to_string()),
            }),
            fact(self.prefetchable, |asked| {
                known(bars().any(|b| b.prefetchable), asked, "has a prefetchable BAR", "has no prefetchable BAR")
            }),
            fact(self.resource_wc, |asked| {
                known(bars().any(|b| b.file_wc), asked, "has a resourceN_wc", "has no resourceN_wc")
            }),
            fact(self.window_hides, |asked| {
                let hidden = bars().any(|b| b.prefetchable && b.behind.iter().any(|w| !w.prefetchable && !w.io));
                known(
                    hidden,
                    asked,
                    "has a prefetchable BAR in a window that is not",
                    "has no prefetchable BAR in a window that is not",
                )
            }),
            fact(self.small_bar, |asked| {
                let small = bars().any(|b| b.size.0 < host.kernel.page.0);
                known(small, asked, "has a BAR smaller than a page", "has no BAR smaller than a page")
            }),
            fact(self.decode, |asked| match &device.command {
                Fact::Known(is) => known(is.memory, asked, "decodes memory", "does not decode memory"),
                Fact::Absent => Truth::Unknown(format!("the command register of {bdf}")),
                Fact::Hole(hole) => Truth::Unknown(hole.to_string()),
            }),
            fact(self.awake, |asked| match &device.power {
                Fact::Known(is) => say(asked == (is == "D0"), format!("{bdf} is in {is}")),
                Fact::Absent => Truth::Unknown(format!("the power state of {bdf}")),
                Fact::Hole(hole) => Truth::Unknown(hole.to_string()),
            }),
            fact(self.no_snoop, |asked| {
                flag(asked, &device.no_snoop, "the device may set No Snoop", "the device may not set No Snoop")
            }),
            fact(self.coherent, |asked| match &device.coherent {
                Fact::Known(is) => say(
                    asked == is.coherent,
                    format!("{} says of {bdf} that it is {}coherent", is.says, if is.coherent { "" } else { "not " }),
                ),
                Fact::Absent => Truth::Unknown(format!("what the firmware says of {bdf}")),
                Fact::Hole(hole) => Truth::Unknown(hole.to_string()),
            }),
            fact(self.shares_group, |asked| match &device.group {
                Fact::Known(group) => {
                    known(group.members.len() > 1, asked, "shares its IOMMU group", "is alone in its IOMMU group")
                }
                Fact::Absent => known(false, asked, "", "is in no IOMMU group"),
                Fact::Hole(hole) => Truth::Unknown(hole.to_string()),
            }),
            fact(self.any_uncached, |asked| match &device.opened {
                Fact::Known(opened) => {
                    let flags: Vec<&str> = opened.regions.values().filter_map(|r| r.vm_flags.as_deref()).collect();
                    if flags.is_empty() {
                        return Truth::Unknown(format!("VmFlags of a mapping of {bdf}"));
                    }
                    let is = flags.iter().any(|f| f.split_whitespace().any(|f| f == "??"));
                    known(
                        is,
                        asked,
                        "shows a flag without a name (`??`) in smaps",
                        "shows no flag without a name (`??`) in smaps",
                    )
                }
                Fact::Absent => Truth::Unknown(format!("{bdf} is not bound to VFIO")),
                Fact::Hole(hole) => Truth::Unknown(hole.to_string()),
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
