//! The virtio-iommu device beside the reference of `conformance`: both made of the same bytes.

use conformance::{
    Broken, Fresh,
    reference::{self, Reference},
};
use viommu::{
    Device, Effect, Endpoint, HostError, Iova,
    access::Kind,
    book::{Book, Bookkeeper},
    suite::Under,
};

/// Bytes, taken one after another; zeroes when there are no more.
#[derive(Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// So many.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let (now, then) = self.0.split_at(N.min(self.0.len()));
        out[..now.len()].copy_from_slice(now);
        self.0 = then;
        out
    }
    /// One.
    pub fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }
    /// Two.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
    /// Whether there are no more.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }
}

/// A device of some bytes, as the reference takes it: any bytes give one.
pub fn made(from: &mut Bytes<'_>) -> reference::Config {
    use reference::Bypass;
    let granule: u64 = from.one_of(&[0x1000, 0x1000, 0x1_0000, 1, 1 << 21]);
    let page_size_mask = granule | ((u64::from(from.byte()) << 30) & granule.wrapping_neg());
    let input_range =
        from.one_of(&[None, Some((0, 0xffff_ffff_ffff)), Some((1 << 30, u64::MAX)), Some((1 << 21, (1 << 34) - 1))]);
    let domain_range = from.one_of(&[None, Some((1, 0xffff)), Some((0, 2)), Some((7, u32::MAX))]);
    let probe_size: u32 = from.one_of(&[512, 128, 96, 0]);
    let mmio = from.byte() % 4 != 0;
    let bypass = from.one_of(&[Bypass::Config(false), Bypass::Config(true), Bypass::Never, Bypass::Legacy]);
    let kind = from.byte();
    let limits = match from.byte() % 4 {
        0 => reference::Config::default().limits,
        _ => reference::Limits {
            domains: 1 + usize::from(from.byte() % 4),
            mappings_per_domain: 1 + usize::from(from.byte() % 8),
            mappings: 1 + usize::from(from.byte() % 16),
            events: 1 + usize::from(from.byte() % 4),
        },
    };
    let ids: &[u32] = from.one_of(&[&[8, 9, 0x10][..], &[8, 9], &[0, u32::MAX, 0x100, 5], &[3]]);
    reference::Config {
        page_size_mask,
        input_range,
        domain_range,
        probe_size,
        mmio,
        bypass,
        coherency: probe_size > 0 && kind % 2 == 1,
        mixed_dma: kind & 2 != 0,
        mixed_no_snoop: kind & 4 != 0,
        endpoints: ids.iter().map(|&id| endpoint(id, probe_size > 0, from)).collect(),
        absent: 0x77,
        limits,
        ram: (RAM, RAM + (8 * granule).max(1 << 21) - 1),
    }
}

const RAM: u64 = 0x4000_0000;

fn endpoint(id: u32, reserves: bool, from: &mut Bytes<'_>) -> reference::Endpoint {
    let msi = (0xfee0_0000, 0xfeef_ffff, true);
    let all: [&[(u64, u64, bool)]; 5] = [
        &[msi],
        &[],
        &[(0xfec0_0000, 0xfec0_0fff, false), msi],
        &[(0x4000_2000, 0x4000_2fff, true), (u64::MAX - 1, u64::MAX, false)],
        &[(0, 0x10, false), (0x8000_0010, 0x8000_0010, false), msi],
    ];
    let reserved = if reserves {
        from.one_of(&all)
    } else {
        let _ = from.one_of(&all);
        &[]
    };
    let kind = from.byte();
    let coherency = reference::Coherency {
        dma: [1, 2, 0, 1][usize::from(kind % 4)],
        no_snoop: if kind & 0x30 == 0x30 { 2 } else { 0 },
        walks: if kind & 8 != 0 { 2 } else { 1 },
        non_cacheable: kind & 4 != 0,
    };
    let it = reference::Endpoint::new(id).coherency(coherency);
    reserved.iter().fold(it, |it, &(first, last, msi)| it.reserving(first, last, msi))
}

/// Numbers that follow from one.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, of: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % of
    }
}

/// The device. With dice, its host fails now and then, after which all is as before; sometimes it cannot even undo.
pub fn ours(made: &reference::Config, seed: u64) -> Under {
    let it = Under::like(made).unwrap();
    if seed % 4 == 0 {
        return it;
    }
    let (mut dice, mut requests) = (Dice(seed), 0);
    it.before(Box::new(move |it, readable, writable| {
        requests += 1;
        if requests % 16 == 0 {
            it.agrees()?;
        }
        if dice.roll(4) == 0 { failing(it, readable, writable, &mut dice) } else { Ok(()) }
    }))
}

/// A request whose effects fail somewhere: nothing has changed after it.
fn failing(it: &mut Under, readable: &[u8], writable: usize, dice: &mut Dice) -> Result<(), Broken> {
    let saved = it.device.save();
    let effects = it.device.handle(readable, writable).effects().len();
    // Dropped, nothing has happened.
    assert_eq!(it.device.save(), saved);
    if effects == 0 {
        return Ok(());
    }
    let done = dice.roll(effects as u64) as usize;
    let (why, status) =
        [(HostError::NoMemory, 8), (HostError::BadAddress, 7), (HostError::Unsupported, 2), (HostError::Failed, 3)]
            [dice.roll(4) as usize];
    let reply = it.fails(readable, writable, done, why)?;
    assert_eq!(reply.map(|it| it.written), Some(vec![status, 0, 0, 0]));
    if done > 0 && dice.roll(4) == 0 { breaking(it, readable, writable, done, why) } else { Ok(()) }
}

/// One whose effects cannot even be undone: on a copy, which the reference does not follow.
fn breaking(it: &Under, readable: &[u8], writable: usize, done: usize, why: HostError) -> Result<(), Broken> {
    let (mut device, book) = it.copy()?;
    let fails = std::iter::repeat_n(None, done).chain([Some(why), Some(HostError::Failed)]).collect();
    let mut host = Bookkeeper { book, fails, ..Bookkeeper::default() };
    assert_eq!(device.handle_with(readable, writable, &mut host).written, [3, 0, 0, 0]);
    assert!(device.needs_reset());
    // The host's side of who is in doubt is not known, and nobody gets through there.
    for view in device.endpoints() {
        let mut translator = device.translator(view.endpoint.id).unwrap();
        for at in [0, RAM, u64::MAX] {
            assert!(!view.doubtful || translator.translate(Iova(at), Kind::Read).is_err());
        }
    }
    let saved = device.save();
    assert_eq!(device.handle_with(readable, writable, &mut host).written, [3, 0, 0, 0]);
    assert_eq!(device.save(), saved);
    let _ = device.reset();
    assert!(!device.needs_reset());
    agree(&device, it.endpoints(), &device.replay());
    Ok(())
}

/// That a host made of effects agrees with a device's translators.
pub fn agree(device: &Device, endpoints: &[Endpoint], effects: &[Effect]) {
    let mut book = Book::default();
    book.write_all(effects).unwrap();
    let mut translators: Vec<_> = endpoints.iter().map(|it| device.translator(it.id).unwrap()).collect();
    book.check_all(endpoints.iter().zip(&mut translators)).unwrap();
}

/// The reference of a device, after a system reset; its driver has taken those features.
pub fn reference(made: &reference::Config, accept: u64) -> Reference {
    let mut it = Reference::new(made.clone());
    let _ = conformance::Device::fresh(&mut it, Fresh { accept });
    it
}
