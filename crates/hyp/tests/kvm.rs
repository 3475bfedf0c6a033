//! What KVM does about a stage-2 abort, path by path, named after the function that does it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use hyp::{
    Abort, CacheableRefused, Cpu, EFAULT, EINVAL, Error, EsrEl2, Pgprot, Policy, Refusal, Resolution, S2Kind, Slot, Vm,
    Vma,
};
use mmu::{
    Arena, Ia, Oa,
    arm::{self, Stage2},
};

const RAM: Slot = Slot::new(Ia(0x4000_0000), 64 << 20, Oa(0x9_4000_0000), Vma::RAM);
const BAR: Slot = Slot::new(Ia(0x1_0000_0000), 1 << 20, Oa(0x80_0000_0000), Vma::VFIO_PCI_BAR);
const HOLE: u64 = 0x2_0000_0000;

type TestVm = Vm<Arena<Vec<u64>>, 4>;

fn vm(policy: Policy, cpu: Cpu) -> TestVm {
    let mut vm = Vm::new(policy, cpu, Arena::new(Oa(0x10_0000), vec![0; 64 * 512])).unwrap();
    vm.add_slot(RAM).unwrap();
    vm.add_slot(BAR).unwrap();
    vm
}

/// A data abort from the guest: IL and the EC are set, the rest given.
fn data(ipa: u64, iss: u64) -> Abort {
    Abort { esr: EsrEl2(0x24 << 26 | 1 << 25 | iss), far: ipa, ipa_page: Some(Ia(ipa & !0xfff)) }
}
fn fetch(ipa: u64, iss: u64) -> Abort {
    Abort { esr: EsrEl2(0x20 << 26 | 1 << 25 | iss), far: ipa, ipa_page: Some(Ia(ipa & !0xfff)) }
}
const TRANSLATION_L3: u64 = 0b00_0111;
const PERMISSION_L3: u64 = 0b00_1111;
const WNR: u64 = 1 << 6;
const S1PTW: u64 = 1 << 7;
const CM: u64 = 1 << 8;
/// ISV, SAS = 8 bytes, SRT = 4, SF.
const ISV: u64 = 1 << 24 | 3 << 22 | 4 << 16 | 1 << 15;

fn leaf(vm: &TestVm, ipa: u64) -> arm::Leaf<arm::S2Attrs> {
    arm::walk::<Stage2, _>(vm.root(), vm.config(), vm.tables(), Ia(ipa)).unwrap()
}

/// A law of thread 003: whatever a guest writes into its tables and MAIR, a BAR under `linux-6.9` (and before) is never
/// cacheable; under 6.9 it may be Normal-NC and any Device type, under 6.1 Device alone.
#[test]
fn no_guest_reaches_a_cacheable_bar() {
    use memtype::arm::{Features, Stage1, Stage2 as Attributes, combine};
    for (policy, reached) in [(Policy::Linux6_1, 2), (Policy::Linux6_9, 5)] {
        for fwb in [false, true] {
            let mut vm = vm(policy, Cpu { fwb, dic: false });
            vm.abort(&data(BAR.ipa.0, TRANSLATION_L3 | WNR), &mut ());
            let attrs = leaf(&vm, BAR.ipa.0).attrs;
            let mut types = std::collections::BTreeSet::new();
            for mair in 0..=255 {
                for sh in 0..4 {
                    for features in [Features::LATEST, Features::NONE] {
                        let s1 = Stage1::decode(mair, sh, features);
                        let s2 = Attributes::decode(fwb, attrs.memattr, attrs.sh, features);
                        let ty = combine(&s1, &s2).ty;
                        assert!(!ty.is_cacheable(), "{policy:?} FWB {fwb} MAIR {mair:#x}: {ty}");
                        types.insert(ty.name());
                    }
                }
            }
            assert_eq!(types.len(), reached, "{policy:?}: {types:?}");
        }
    }
}

#[test]
fn user_mem_abort_maps_by_policy() {
    for (policy, kind, nc) in [(Policy::Linux6_1, S2Kind::DeviceNgnre, 1), (Policy::Linux6_9, S2Kind::NormalNc, 5)] {
        for fwb in [false, true] {
            let mut vm = vm(policy, Cpu { fwb, dic: false });
            let r = vm.abort(&data(BAR.ipa.0 + 0x3008, TRANSLATION_L3 | WNR), &mut ());
            assert!(
                matches!(r, Resolution::Again { decision, ipa, size: 4096 } if decision.kind == kind && ipa == Ia(BAR.ipa.0 + 0x3000)),
                "{r:?}"
            );
            let l = leaf(&vm, BAR.ipa.0 + 0x3010);
            assert_eq!((l.oa, l.attrs.memattr), (Oa(BAR.pa.0 + 0x3010), nc));
            assert!(l.privileges.read && l.privileges.write && !l.privileges.execute && l.attrs.accessed);
            // RAM is Normal whatever the policy.
            vm.abort(&data(RAM.ipa.0, TRANSLATION_L3), &mut ());
            assert_eq!(leaf(&vm, RAM.ipa.0).attrs.memattr, if fwb { 6 } else { 0xf });
        }
    }
    // A device page whose VMA is not marked stays Device under 6.9: sysfs, vfio-platform.
    let d = Policy::Linux6_9.decide(&Vma::OTHER_DEVICE, Cpu::default()).unwrap();
    assert_eq!(d.kind, S2Kind::DeviceNgnre);
}

#[test]
fn blocks_where_alignment_allows() {
    let mut v = vm(Policy::Linux6_9, Cpu::default());
    let r = v.abort(&data(RAM.ipa.0 + 0x20_1000, TRANSLATION_L3), &mut ());
    assert!(matches!(r, Resolution::Again { size: 0x20_0000, ipa, .. } if ipa.0 == RAM.ipa.0 + 0x20_0000));
    // The same slot a page off: pages.
    let odd = Slot { ipa: Ia(HOLE), size: 64 << 20, pa: Oa(0x7000_1000), ..RAM };
    v.add_slot(odd).unwrap();
    assert!(matches!(v.abort(&data(HOLE, TRANSLATION_L3), &mut ()), Resolution::Again { size: 4096, .. }));
}

#[test]
fn user_mem_abort_grants_execution_on_a_fetch_only() {
    let mut v = vm(Policy::Linux6_1, Cpu::default());
    v.abort(&data(RAM.ipa.0, TRANSLATION_L3), &mut ());
    assert!(!leaf(&v, RAM.ipa.0).privileges.execute);
    assert!(matches!(v.abort(&fetch(RAM.ipa.0, PERMISSION_L3), &mut ()), Resolution::Again { .. }));
    assert!(leaf(&v, RAM.ipa.0).privileges.execute);
    // CTR_EL0.DIC: at once, with FWB or without.
    let mut v = vm(Policy::Linux6_1, Cpu { fwb: false, dic: true });
    v.abort(&data(RAM.ipa.0, TRANSLATION_L3), &mut ());
    assert!(leaf(&v, RAM.ipa.0).privileges.execute);
}

#[test]
fn a_fetch_from_a_bar_or_a_hole_is_injected_as_an_external_abort() {
    for policy in Policy::ALL {
        let mut v = vm(policy, Cpu::default());
        // Linux before 6.12 sign-extends the syndrome (b6db3eb6c373).
        let high = if policy == Policy::Linux6_1 { 0xffff_ffff << 32 } else { 0 };
        for ipa in [BAR.ipa.0, HOLE] {
            let injected = Resolution::Inject { fetch: true, esr: high | 0x8600_0010, far: ipa };
            assert_eq!(v.abort(&fetch(ipa, TRANSLATION_L3), &mut ()), injected);
        }
        let injected = Resolution::Inject { fetch: false, esr: high | 0x9600_0010, far: HOLE };
        assert_eq!(v.abort(&data(HOLE, TRANSLATION_L3 | S1PTW), &mut ()), injected);
    }
}

#[test]
fn io_mem_abort_outside_the_slots() {
    let mut v = vm(Policy::Linux6_1, Cpu::default());
    let mmio = |write| Resolution::Mmio { ipa: Ia(HOLE + 8), len: 8, write, srt: 4 };
    assert_eq!(v.abort(&data(HOLE + 8, TRANSLATION_L3 | ISV), &mut ()), mmio(false));
    assert_eq!(v.abort(&data(HOLE + 8, TRANSLATION_L3 | ISV | WNR), &mut ()), mmio(true));
    let pair = v.abort(&data(HOLE + 8, TRANSLATION_L3 | WNR), &mut ());
    assert_eq!(pair, Resolution::NoValidSyndrome { ipa: Ia(HOLE + 8), iss: TRANSLATION_L3 | WNR });
    assert_eq!(v.abort(&data(HOLE, TRANSLATION_L3 | CM | WNR), &mut ()), Resolution::Skip);
}

#[test]
fn a_read_only_slot_reads_and_leaves_on_a_write() {
    let mut v = vm(Policy::Linux6_1, Cpu::default());
    let ro = Slot { ipa: Ia(HOLE), readonly: true, ..BAR };
    v.add_slot(ro).unwrap();
    let write = Resolution::Mmio { ipa: Ia(HOLE), len: 8, write: true, srt: 4 };
    assert_eq!(v.abort(&data(HOLE, TRANSLATION_L3 | ISV | WNR), &mut ()), write);
    assert!(matches!(v.abort(&data(HOLE, TRANSLATION_L3 | ISV), &mut ()), Resolution::Again { .. }));
    assert!(!leaf(&v, HOLE).privileges.write);
    assert_eq!(v.abort(&data(HOLE, PERMISSION_L3 | ISV | WNR), &mut ()), write);
}

#[test]
fn kvm_handle_guest_abort_has_no_answer_to_an_alignment_fault() {
    for policy in Policy::ALL {
        let mut v = vm(policy, Cpu::default());
        // The very syndrome of thread 002; HPFAR is UNKNOWN.
        let abort = Abort { esr: EsrEl2(0x9200_0061), far: 0x1003, ipa_page: None };
        let Resolution::Fail { errno: EFAULT, log: Some(log) } = v.abort(&abort, &mut ()) else { panic!() };
        assert_eq!(log.to_string(), "Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061");
    }
}

#[test]
fn hostile_aborts_end() {
    let mut v = vm(Policy::Linux6_9, Cpu::default());
    for fsc in 0..64 {
        for bits in [0, WNR, S1PTW, CM, ISV, ISV | WNR] {
            for ipa in [0, BAR.ipa.0, BAR.last().0, RAM.ipa.0, HOLE, !0xfff] {
                v.abort(&data(ipa, fsc | bits), &mut ());
                v.abort(&fetch(ipa, fsc | bits), &mut ());
                v.abort(&Abort { ipa_page: None, ..data(ipa, fsc | bits) }, &mut ());
            }
        }
    }
    // Tables run out: an error, not a panic.
    let mut small: TestVm = Vm::new(Policy::Linux6_9, Cpu::default(), Arena::new(Oa(0), vec![0; 3 * 512])).unwrap();
    small.add_slot(BAR).unwrap();
    assert_eq!(small.abort(&data(BAR.ipa.0, TRANSLATION_L3), &mut ()), Resolution::Fail { errno: 12, log: None });
}

#[test]
fn slots_are_checked() {
    let mut v = vm(Policy::Linux6_1, Cpu::default());
    let at = |ipa, size| Slot { ipa: Ia(ipa), size, ..BAR };
    assert!(matches!(v.add_slot(at(BAR.ipa.0 + 0xf_f000, 0x2000)), Err(Error::Overlap { .. })));
    for (ipa, size) in
        [(1, 4096), (HOLE, 1), (HOLE, 0), (1 << 40, 4096), ((1 << 40) - 4096, 8192), (HOLE, u64::MAX - 4095)]
    {
        assert!(matches!(v.add_slot(at(ipa, size)), Err(Error::BadSlot(_))), "{ipa:#x} {size:#x}");
    }
    v.add_slot(at(HOLE, 4096)).unwrap();
    v.add_slot(at((1 << 40) - 4096, 4096)).unwrap();
    assert_eq!(v.add_slot(at(HOLE + 4096, 4096)), Err(Error::TooMany { slots: 4 }));
    // The root of a 40-bit stage 2 is two frames, aligned to their size.
    assert_eq!(
        Vm::<_, 1>::new(Policy::Linux6_1, Cpu::default(), Arena::new(Oa(0x1000), vec![0; 2048])).unwrap_err(),
        Error::NoRoot
    );
}

#[test]
fn policies_have_names() {
    for p in Policy::ALL {
        assert_eq!(Policy::named(p.name()), Some(p));
        assert!(!p.rule().is_empty() && !p.source().is_empty());
    }
    assert_eq!(Policy::named("linux-5.0"), None);
}

/// What KVM_SET_USER_MEMORY_REGION says of each kind of mapping: the three refusals, each -EINVAL.
#[test]
fn kvm_arch_prepare_memory_region() {
    let cached = Vma::device(Pgprot::Cached);
    let slot = |vma| Slot::new(Ia(HOLE), 1 << 20, Oa(0x50_0000_0000), vma);
    let logged = |vma| Slot { log_dirty: true, ..slot(vma) };
    let vm = |policy, cpu| Vm::<_, 1>::new(policy, cpu, Arena::new(Oa(0x10_0000), vec![0; 2 * 512])).unwrap();
    let add = |mut vm: Vm<Arena<Vec<u64>>, 1>, slot| match vm.add_slot(slot) {
        Err(e @ Error::Refused { slot: s, why }) => {
            assert!(s == slot && e.errno() == EINVAL && vm.slots().next().is_none());
            Err(why)
        }
        other => {
            assert_eq!(other, Ok(()));
            Ok(())
        }
    };
    for policy in Policy::ALL {
        for (fwb, dic) in [(false, false), (false, true), (true, false), (true, true)] {
            let cpu = Cpu { fwb, dic };
            let new = || vm(policy, cpu);
            // VM_MTE_ALLOWED: RAM has it, no BAR has.
            for vma in [Vma::VFIO_PCI_BAR, Vma::OTHER_DEVICE, cached] {
                assert_eq!(add(new().with_mte(), slot(vma)), Err(Refusal::Mte), "{policy:?} {vma:?}");
            }
            assert_eq!(add(new().with_mte(), logged(Vma::RAM)), Ok(()));
            // KVM_MEM_LOG_DIRTY_PAGES: of RAM, not of VM_PFNMAP.
            assert_eq!(add(new(), logged(Vma::RAM)), Ok(()));
            for vma in [Vma::VFIO_PCI_BAR, Vma::OTHER_DEVICE, cached] {
                assert_eq!(add(new(), logged(vma)), Err(Refusal::DirtyLog), "{policy:?} {vma:?}");
                // The order of the kernel's questions.
                assert_eq!(add(new().with_mte(), logged(vma)), Err(Refusal::Mte), "{policy:?} {vma:?}");
            }
            // Cacheable VM_PFNMAP: since 6.17, where FWB or DIC is missing.
            let refused = policy == Policy::Linux6_17 && !(fwb && dic);
            let wanted = if refused { Err(Refusal::Cacheable(CacheableRefused(cpu))) } else { Ok(()) };
            assert_eq!(add(new(), slot(cached)), wanted, "{policy:?} {cpu:?}");
            // It asks for the mapping's protection, not whose memory it is: /dev/mem of RAM.
            assert_eq!(add(new(), slot(Vma { kernel_memory: true, ..cached })), wanted, "{policy:?} {cpu:?}");
            // Not for the flag, nor of another protection, nor of what is not VM_PFNMAP.
            assert_eq!(add(new(), slot(Vma { allow_any_uncached: true, ..cached })), wanted, "{policy:?} {cpu:?}");
            for vma in [Vma::VFIO_PCI_BAR, Vma::OTHER_DEVICE, Vma::device(Pgprot::WriteCombine), Vma::RAM] {
                assert_eq!(add(new(), slot(vma)), Ok(()), "{policy:?} {vma:?}");
            }
        }
    }
    // The words.
    let words = |e: Result<(), Refusal>| e.unwrap_err().to_string();
    let new = |cpu| vm(Policy::Linux6_17, cpu);
    assert_eq!(
        words(add(new(Cpu::default()).with_mte(), slot(cached))),
        "the VM has MTE and the mapping lacks VM_MTE_ALLOWED"
    );
    assert_eq!(
        words(add(new(Cpu::default()), logged(cached))),
        "KVM_MEM_LOG_DIRTY_PAGES, and the mapping is VM_PFNMAP"
    );
    assert_eq!(
        words(add(new(Cpu { fwb: true, dic: false }), slot(cached))),
        "the mapping is cacheable and VM_PFNMAP, and the CPU lacks FWB or DIC (FWB 1, DIC 0)"
    );
}

/// The errno of each error of a slot.
#[test]
fn kvm_set_user_memory_region_errno() {
    let mut v = vm(Policy::Linux6_1, Cpu::default());
    let errno = |e: Result<(), Error>| e.unwrap_err().errno();
    assert_eq!(errno(v.add_slot(BAR)), 17);
    assert_eq!(errno(v.add_slot(Slot { size: 1, ..BAR })), EINVAL);
    assert_eq!(errno(v.remove_slot(Ia(1), &mut ()).map(drop)), EINVAL);
    for i in 0..2 {
        v.add_slot(Slot { ipa: Ia(HOLE + i * 0x1000), size: 0x1000, ..BAR }).unwrap();
    }
    assert_eq!(errno(v.add_slot(Slot { ipa: Ia(HOLE + 0x2000), size: 0x1000, ..BAR })), EINVAL);
    let none = Vm::<_, 1>::new(Policy::Linux6_1, Cpu::default(), Arena::new(Oa(0), vec![0; 512]));
    assert_eq!(none.unwrap_err().errno(), 12);
}
