//! The controls outside the descriptors, against the pseudocode of DDI 0487 M.a.a (J1.1.4.54 to .58) told a second time over
//! attributes of its own shape.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use memtype::arm::*;

const F: Features = Features::LATEST;

/// `MemoryAttributes`: Device with its two bits, or the two policies 0 NC, 1 WT, 2 WB. Hints are left to the other tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attrs {
    device: Option<u8>,
    inner: u8,
    outer: u8,
    sh: u8,
    xs: bool,
    tagged: bool,
}

impl Attrs {
    const fn normal(inner: u8, outer: u8, sh: u8, xs: bool) -> Self {
        Self { device: None, inner, outer, sh, xs, tagged: false }
    }
    const fn nc(self) -> Self {
        Self { sh: self.sh, ..Self::normal(0, 0, 2, self.xs) }
    }
    fn effective(self) -> Self {
        let outer = self.device.is_some() || (self.inner, self.outer) == (0, 0);
        Self { sh: if outer { 2 } else { self.sh }, ..self }
    }
    fn of(ty: Type, sh: Shareability, xs: bool, tagging: Tagging) -> Self {
        let (device, inner, outer) = match ty {
            Type::Device(d) => (Some(d as u8), 0, 0),
            Type::Normal { inner, outer } => (None, inner.policy as u8, outer.policy as u8),
        };
        Self { device, inner, outer, sh: sh as u8, xs, tagged: tagging == Tagging::Tagged }
    }
}

/// `AArch64.S1DisabledOutput`, else what `AArch64.S1Translate` makes of a descriptor.
fn stage1(r: Regime, access: Access, s1: Attrs) -> Attrs {
    if access == Access::Walk {
        // `AArch64.S1Walk`. With stage 1 off there is no walk; HCR_EL2.DC then has it Write-Back (D7.5.5).
        return if r.sctlr_c || r.hcr_dc { s1 } else { s1.nc() };
    }
    if r.hcr_dc {
        return Attrs { tagged: r.hcr_dct, ..Attrs::normal(2, 2, 0, false) };
    }
    if !r.sctlr_m {
        return match access {
            Access::Fetch => Attrs::normal(u8::from(r.sctlr_i), u8::from(r.sctlr_i), 2, true),
            _ => Attrs { device: Some(0), ..Attrs::normal(0, 0, 2, true) },
        };
    }
    let s1 = match (r.quirk, s1.device, s1.inner, s1.outer) {
        (Some(Quirk::NcAsDevice), None, 0, 0) => Attrs { device: Some(1), ..s1 },
        _ => s1,
    };
    let fetch = access == Access::Fetch;
    let treat_as_nc = fetch && (s1.device.is_some() || !r.sctlr_i) || !fetch && !r.sctlr_c && s1.device.is_none();
    if treat_as_nc { s1.nc() } else { s1 }
}

/// `S2CombineS1MemAttrs`.
fn plain(s1: Attrs, s2: Attrs) -> Attrs {
    let both = match (s1.device, s2.device) {
        (Some(a), Some(b)) => Attrs { device: Some(a.min(b)), ..s1 },
        (Some(_), None) => s1,
        (None, Some(_)) => s2,
        (None, None) => Attrs { inner: s1.inner.min(s2.inner), outer: s1.outer.min(s2.outer), ..s1 },
    };
    let wb = both.device.is_none() && (both.inner, both.outer) == (2, 2);
    Attrs { sh: s1.sh.max(s2.sh), xs: !wb && s1.xs && s2.xs, tagged: s1.tagged && wb, ..both }.effective()
}

/// `AArch64.S2ApplyFWBMemAttrs`.
fn forced(s1: Attrs, memattr: u8, sh: u8, fnxs: bool) -> Attrs {
    let both = match memattr & 7 {
        d @ 0..=3 => Attrs { device: Some(s1.device.map_or(d, |it| it.min(d))), inner: 0, outer: 0, ..s1 },
        0b111 => s1,
        0b110 => Attrs { tagged: s1.tagged, ..Attrs::normal(2, 2, 0, false) },
        _ if s1.device.is_some() => s1,
        _ => Attrs::normal(0, 0, 0, s1.xs),
    };
    let wb = both.device.is_none() && (both.inner, both.outer) == (2, 2);
    Attrs { sh: s1.sh.max(sh), tagged: s1.tagged && wb, xs: both.xs && !fnxs, ..both }.effective()
}

/// `AArch64.S2Translate`: the result, or `None` for the Permission fault of a walk (`AArch64.S2CheckPermissions`); and whether
/// what the stage-2 walk returned is Device.
fn stage2(r: Regime, access: Access, s1: Attrs, bits: (bool, u8, u8)) -> (Option<Attrs>, bool) {
    let (fwb, memattr, sh) = bits;
    let sh = [0, 2, 2, 1][usize::from(sh)];
    let walkstate = if fwb {
        forced(s1, memattr, sh, false)
    } else if memattr >> 2 == 0 {
        Attrs { device: Some(memattr), ..Attrs::normal(0, 0, sh, true) }
    } else {
        let policy = |bits: u8| bits.saturating_sub(1);
        Attrs::normal(policy(memattr & 3), policy(memattr >> 2), sh, true)
    };
    let device = walkstate.device.is_some();
    if access == Access::Walk && device && r.hcr_ptw {
        return (None, device);
    }
    let treat_as_nc = match access {
        Access::Walk => device || r.hcr_cd,
        Access::Fetch => device || r.hcr_id,
        Access::Data => !device && r.hcr_cd,
    };
    let s2 = if treat_as_nc { Attrs { sh: 2, ..walkstate.nc() } } else { walkstate };
    (Some(if fwb { s2 } else { plain(s1, s2) }), device)
}

/// Every setting of the nine controls.
fn regimes() -> impl Iterator<Item = Regime> {
    (0..512u32).map(|bits| {
        let bit = |n: u32| bits >> n & 1 != 0;
        Regime {
            sctlr_m: bit(0),
            sctlr_c: bit(1),
            sctlr_i: bit(2),
            hcr_dc: bit(3),
            hcr_dct: bit(4),
            hcr_cd: bit(5),
            hcr_id: bit(6),
            hcr_ptw: bit(7),
            quirk: bit(8).then_some(Quirk::NcAsDevice),
        }
    })
}

/// A byte for each type and each way to encode it.
const BYTES: [u8; 20] = [
    0x00, 0x04, 0x08, 0x0c, 0x01, 0x05, 0x44, 0x40, 0xbb, 0xa0, 0xff, 0xf0, 0x4f, 0xf4, 0x4b, 0xb4, 0xfb, 0xbf, 0x33,
    0x77,
];

#[test]
fn every_control_as_the_pseudocode_has_it() {
    let mut seen = 0u64;
    for regime in regimes() {
        for access in [Access::Data, Access::Fetch, Access::Walk] {
            for mair in BYTES {
                for s1_sh in [0b00, 0b11] {
                    // A walk has Normal attributes, from TCR_EL1.
                    let s1 = match access {
                        Access::Walk => Stage1::of_walk(mair & 3, mair >> 2 & 3, s1_sh),
                        _ => Stage1::decode(mair, s1_sh, F),
                    };
                    let first = stage1(regime, access, Attrs::of(s1.ty(), s1.sh, s1.xs, s1.tagging));
                    for (fwb, attr) in (0..16).map(|a| (false, a)).chain((0..8).map(|a| (true, a))) {
                        if if fwb { attr == 4 } else { attr & 3 == 0 && attr != 0 } {
                            continue;
                        }
                        let s2_sh = 0b11;
                        let it = regime.combine(access, &s1, &Stage2::decode(fwb, attr, s2_sh, F));
                        let (want, s2_device) = stage2(regime, access, first, (fwb, attr, s2_sh));
                        let c = it.combined();
                        let what = format!("{regime:?} {access:?} {mair:#04x} {s1_sh} {fwb} {attr:#06b}");
                        match want {
                            Some(want) => assert_eq!(Attrs::of(c.ty, c.sh, c.xs, c.tagging), want, "{what}"),
                            None => assert_eq!(it.permission(), Permission::Fault { stage: 2 }, "{what}"),
                        }
                        let s1_device = access == Access::Fetch && regime.stage1_on() && {
                            let quirk = regime.quirk.is_some() && s1.ty().is_normal_nc();
                            s1.ty().is_device() || quirk
                        };
                        let permission = match (access, want) {
                            (Access::Fetch, _) if s1_device => Permission::MayFault { stage: 1 },
                            (Access::Fetch, _) if s2_device => Permission::MayFault { stage: 2 },
                            (_, None) => Permission::Fault { stage: 2 },
                            _ => Permission::Ok,
                        };
                        assert_eq!(it.permission(), permission, "{what}");
                        seen += 1;
                    }
                }
            }
        }
    }
    assert_eq!(seen, 512 * 3 * 20 * 2 * (13 + 7));
}

#[test]
fn with_nothing_overridden_it_is_the_combination() {
    for mair in 0..=255 {
        for (fwb, attr) in (0..32u8).map(|i| (i & 16 != 0, i & 15)) {
            let (s1, s2) = (Stage1::decode(mair, 0b11, F), Stage2::decode(fwb, attr, 0b11, F));
            let it = Regime::RUNNING.combine(Access::Data, &s1, &s2);
            assert_eq!(*it.combined(), combine(&s1, &s2));
            assert_eq!((it.unaligned(), it.permission()), (combine(&s1, &s2).unaligned(), Permission::Ok));
            assert!(it.because().eq(combine(&s1, &s2).because()));
        }
    }
}

/// No control weakens: each can only make memory less cacheable, but for DC, which is there to make it cacheable, and for the
/// fetches and walks that Device memory becomes Non-cacheable for.
#[test]
fn the_controls_never_weaken_a_data_access() {
    let rank = |ty: Type| match ty {
        Type::Device(d) => [d as u8; 2],
        Type::Normal { inner, outer } => [4 + inner.policy as u8, 4 + outer.policy as u8],
    };
    for regime in regimes().filter(|r| !r.hcr_dc) {
        for mair in BYTES {
            for (fwb, attr) in (0..32u8).map(|i| (i & 16 != 0, i & 15)) {
                let (s1, s2) = (Stage1::decode(mair, 0b11, F), Stage2::decode(fwb, attr, 0b11, F));
                let plain = rank(combine(&s1, &s2).ty);
                let ruled = rank(regime.combine(Access::Data, &s1, &s2).combined().ty);
                assert!(ruled[0] <= plain[0] && ruled[1] <= plain[1], "{regime:?} {mair:#x} {fwb} {attr:#b}");
            }
        }
    }
}

#[test]
fn a_machine_without_normal_nc() {
    let quirk = Regime { quirk: Some(Quirk::NcAsDevice), ..Regime::RUNNING };
    let nc = Stage1::decode(0x44, 0b10, F);
    let s2 = Stage2::decode(true, 0b0101, 0b11, F);
    // ioremap_wc() still succeeds, and what it gives is Device: an unaligned access now faults at stage 1.
    let it = quirk.combine(Access::Data, &nc, &s2);
    assert_eq!(it.combined().ty, Type::Device(Device::nGnRE));
    assert_eq!(it.unaligned(), Alignment::Fault { stage: 1 });
    assert_eq!(it.because().next(), Some(Rule::NcAsDevice));
    let said = Rule::NcAsDevice.to_string();
    assert!(said.contains("NV-Kernels") && !said.contains("DDI"), "{said}");
    // Without the quirk it is as ever, and nothing else in MAIR changes.
    assert_eq!(Regime::RUNNING.combine(Access::Data, &nc, &s2).unaligned(), Alignment::Ok);
    for byte in [0x00, 0x04, 0x0c, 0xff, 0xbb, 0x4f] {
        let s1 = Stage1::decode(byte, 0b11, F);
        assert_eq!(
            quirk.combine(Access::Data, &s1, &s2).combined(),
            Regime::RUNNING.combine(Access::Data, &s1, &s2).combined()
        );
    }
    // It is MAIR that changes: what SCTLR_EL1.C makes Non-cacheable is not from there.
    let cold = Regime { sctlr_c: false, ..quirk };
    assert_eq!(cold.combine(Access::Data, &Stage1::decode(0xff, 3, F), &s2).combined().ty, Type::NORMAL_NC);
}

#[test]
fn the_rules_are_named_where_they_apply() {
    use Access::{Data, Fetch, Walk};
    let s2 = Stage2::decode(false, 0b1111, 0b11, F);
    let device = Stage2::decode(false, 0b0001, 0b11, F);
    let wb = Stage1::decode(0xff, 0b11, F);
    let has = |regime: Regime, access, s1: &Stage1, s2: &Stage2, rule| {
        let because = regime.combine(access, s1, s2).because();
        assert!(because.clone().any(|r| r == rule), "{rule:?}: {:?}", because.collect::<Vec<_>>());
        assert!(!Regime::RUNNING.combine(Data, s1, s2).because().any(|r| r == rule), "{rule:?}");
    };
    let r = Regime::RUNNING;
    has(Regime::OFF, Data, &wb, &s2, Rule::MmuOff);
    has(Regime::OFF, Fetch, &wb, &s2, Rule::MmuOffFetch);
    has(Regime { hcr_dc: true, ..r }, Data, &wb, &s2, Rule::DefaultCacheable);
    has(Regime { sctlr_c: false, ..r }, Data, &wb, &s2, Rule::Stage1Uncached);
    has(Regime { sctlr_c: false, ..r }, Walk, &wb, &s2, Rule::Stage1Uncached);
    has(Regime { sctlr_c: false, ..r }, Data, &Stage1::decode(0xf0, 3, F), &s2, Rule::Stage1UncachedTagged);
    has(Regime { sctlr_i: false, ..r }, Fetch, &wb, &s2, Rule::Stage1UncachedFetch);
    has(Regime { hcr_cd: true, ..r }, Data, &wb, &s2, Rule::Stage2Uncached);
    has(Regime { hcr_id: true, ..r }, Fetch, &wb, &s2, Rule::Stage2UncachedFetch);
    has(r, Fetch, &wb, &device, Rule::FetchFromDevice);
    has(r, Walk, &wb, &device, Rule::WalkOnDevice);
    has(Regime { hcr_ptw: true, ..r }, Walk, &wb, &device, Rule::WalkFaults);
    // No answer has more rules than fit.
    for regime in regimes() {
        for access in [Data, Fetch, Walk] {
            for (s1, s2) in [(wb, s2), (Stage1::decode(0x06, 1, F), Stage2::decode(true, 0b0110, 1, F))] {
                assert!(regime.combine(access, &s1, &s2).because().count() < 16);
            }
        }
    }
}
