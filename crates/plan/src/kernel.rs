//! Which of its behaviours the kernel has: shown by what it answered, else by its version, which is a hint.

use host::{Bar, Function, Host, Kernel, Why};
use hyp::{Cpu, Policy};

use crate::{Sure, seat::Seat};

/// What arm64's KVM and vfio-pci do, as far as it is known.
#[derive(Debug)]
pub(crate) struct Arm {
    /// The policies it may be: one, if version or behaviour tells.
    pub(crate) policies: Vec<Policy>,
    /// Whether vfio-pci marks its mappings VM_ALLOW_ANY_UNCACHED, if that was seen.
    pub(crate) marks: Option<bool>,
    /// What the CPU may be.
    pub(crate) cpus: Vec<Cpu>,
    /// Whether KVM said that it has the code of 6.17.
    pub(crate) asked_kvm: bool,
    /// By what it is known.
    pub(crate) sure: Sure,
}

/// Of this BAR's machine.
pub(crate) fn arm(seat: &Seat<'_>) -> Arm {
    let host = seat.host;
    let knows_243 = host.kvm.known().and_then(|k| k.cacheable_pfnmap);
    let seen = own(seat.function, seat.bar).or_else(|| seat.elsewhere.get_or_init(|| elsewhere(host)).clone());
    let by_version = host.kernel.version.map(policy_of);
    let policies = match (knows_243, &seen, by_version) {
        (Some(_), _, _) => vec![Policy::Linux6_17],
        // Marked: 6.9 or later. The two do the same with what vfio-pci itself maps.
        (None, Some((true, _)), None | Some(Policy::Linux6_1)) => vec![Policy::Linux6_9, Policy::Linux6_17],
        (None, _, Some(policy)) => vec![policy],
        (None, _, None) => vec![Policy::Linux6_1, Policy::Linux6_9, Policy::Linux6_17],
    };
    let sure = match (&seen, knows_243) {
        (Some((_, how)), _) => Sure::Seen(how.clone()),
        (None, Some(_)) => Sure::Seen(
            "KVM knows KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED (243): this is the code of 6.17, before which vfio-pci marked \
             its BARs already"
                .into(),
        ),
        (None, None) => match host.kernel.version {
            Some(version) => Sure::Rule(by(version)),
            None => Sure::Rests(vec![seat.version_hole()]),
        },
    };
    Arm { policies, asked_kvm: knows_243.is_some(), marks: seen.map(|(marks, _)| marks), cpus: cpus(host), sure }
}

/// The policy of a release as upstream made it.
const fn policy_of((major, minor, _): (u16, u16, u16)) -> Policy {
    match (major, minor) {
        (..=5, _) | (6, ..=8) => Policy::Linux6_1,
        (6, 9..=16) => Policy::Linux6_9,
        _ => Policy::Linux6_17,
    }
}

/// The rule that is no more than a version.
pub(crate) fn by((major, minor, _): (u16, u16, u16)) -> String {
    format!("by version {major}.{minor}; a backport or an older base would differ")
}

/// Which version it is, in words.
pub(crate) fn version(kernel: &Kernel) -> String {
    match (kernel.version, kernel.release.known()) {
        (Some((major, minor, patch)), _) => format!("Linux {major}.{minor}.{patch}"),
        (None, Some(release)) => format!("Linux {release}"),
        (None, None) => "this kernel".into(),
    }
}

/// Whether VFIO marks its mappings, and how that was seen.
pub(crate) type Marks = (bool, String);

/// Of this BAR.
fn own(function: &Function, bar: &Bar) -> Option<Marks> {
    let region = function.opened.known()?.regions.get(&u32::from(bar.index))?;
    let marked = marked(region.vm_flags.as_deref()?)?;
    Some((marked, how(marked, "a mapping of this BAR")))
}

/// Of any BAR that vfio-pci itself mapped.
pub(crate) fn elsewhere(host: &Host) -> Option<Marks> {
    host.functions.values().find_map(|f| {
        let flags = f.opened.known()?.regions.values().find_map(|r| marked(r.vm_flags.as_deref()?))?;
        let plain = f.driver.known().is_some_and(|d| d == "vfio-pci");
        plain.then(|| (flags, how(flags, &format!("a BAR of {} that vfio-pci mapped", f.bdf))))
    })
}

fn how(marked: bool, of: &str) -> String {
    if marked {
        format!("VmFlags of {of} have `??`, a flag without a name: VM_ALLOW_ANY_UNCACHED")
    } else {
        format!("VmFlags of {of} have `pf io` and no `??`: no VM_ALLOW_ANY_UNCACHED")
    }
}

/// Whether the flags of a mapping of device memory have the one without a name.
fn marked(flags: &str) -> Option<bool> {
    let has = |flag| flags.split_whitespace().any(|f| f == flag);
    (has("pf") && has("io")).then(|| has("??"))
}

/// What the CPU may be: KVM's own answer counts most.
fn cpus(host: &Host) -> Vec<Cpu> {
    let kvm = host.kvm.known();
    let fwb = host.cpu.fwb.known().copied().or_else(|| Some(kvm?.mmfr2? >> 40 & 0xf != 0));
    let dic = host.cpu.dic.known().copied().or_else(|| Some(kvm?.ctr? >> 29 & 1 != 0));
    let both = kvm.and_then(|k| k.cacheable_pfnmap);
    let maybe = |it: Option<bool>| it.map_or(vec![false, true], |it| vec![it]);
    let all = maybe(fwb).into_iter().flat_map(|fwb| maybe(dic).into_iter().map(move |dic| Cpu { fwb, dic }));
    let fits: Vec<_> = all.clone().filter(|cpu| both.is_none_or(|b| b == cpu.cacheable_pfnmap())).collect();
    // Answers that contradict each other: KVM's, which is the one that it acts on.
    if fits.is_empty() { vec![Cpu { fwb: both == Some(true), dic: both == Some(true) }] } else { fits }
}

/// What would have to be known of the CPU.
pub(crate) fn cpu_holes(host: &Host) -> Vec<host::Hole> {
    let missing = |at: &str| host::Hole { at: at.into(), why: Why::Failed("not there".into()) };
    [(&host.cpu.fwb, "ID_AA64MMFR2_EL1.FWB"), (&host.cpu.dic, "CTR_EL0.DIC")]
        .into_iter()
        .filter(|(fact, _)| fact.known().is_none())
        .map(|(fact, at)| fact.hole().cloned().unwrap_or_else(|| missing(at)))
        .collect()
}
