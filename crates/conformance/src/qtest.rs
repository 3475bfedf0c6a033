//! QEMU's `virtio-iommu-pci`, driven over its qtest socket: a machine without a running CPU, whose memory and registers are
//! read and written from here as a CPU would.
//!
//! The endpoints are two `edu` devices, each behind a root port of its own. `edu` copies between memory and a buffer of
//! 4096 bytes inside of it, and that buffer can be reached by its DMA alone. What it is to write has to be loaded, and what
//! it has read has to be stored, past the IOMMU's state that is under test. To this end the root port's bus has two
//! numbers: the one that the suite knows, and one under which the same function is another endpoint ("aside"). That one is
//! attached to a domain of its own, [`ASIDE`], which maps one page. The bus has its second number only while a buffer is
//! loaded or stored.
mod edu;
mod pci;
mod virtio;
mod wire;

use std::fmt;
use std::process::Command;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use crate::bytes::{Attach, Detach, MAP_READ, MAP_WRITE, Map, S_INVAL, S_OK, TAIL};
use crate::device::{Broken, CANARY, Can, Device, Fresh, Reply, Setup};
use edu::{Copy, Edu};
use pci::Function;
use virtio::{OWN, Queue, Virtio};
use wire::{ANYTHING, Wire};

/// How the device is made: what of QEMU's properties of `virtio-iommu-pci` matters here. The default is QEMU's own, but for the
/// granule, which QEMU takes from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether endpoints are in bypass mode at reset: the initial value of the configuration's `bypass`.
    pub boot_bypass: bool,
    /// Bits of an input address, 32 to 64.
    pub aw_bits: u8,
    /// The granule in KiB: 4, 8, 16 or 64.
    pub granule: u8,
    /// Not QEMU's, but the suite's: the endpoint that does not exist. By default one on a bus that nothing is on.
    pub absent: u32,
}

/// No bus has the number 0x7f.
const ABSENT: u32 = 0x7f00;

impl Default for Options {
    fn default() -> Self {
        Self { boot_bypass: true, aw_bits: 64, granule: 4, absent: ABSENT }
    }
}

impl Options {
    /// The properties, as QEMU takes them.
    fn properties(&self) -> String {
        let bypass = if self.boot_bypass { "on" } else { "off" };
        format!("boot-bypass={bypass},aw-bits={},granule={}k", self.aw_bits, self.granule)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.properties())?;
        if self.absent == ABSENT { Ok(()) } else { write!(f, ",absent={:#x}", self.absent) }
    }
}

/// A text that is no [`Options`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no option of QEMU's virtio-iommu here: boot-bypass=on|off, aw-bits=32 to 64, granule=4k|8k|16k|64k, \
     absent=0xENDPOINT, with commas between"
)]
pub struct NoOption(pub String);

impl FromStr for Options {
    type Err = NoOption;

    fn from_str(text: &str) -> Result<Self, NoOption> {
        let mut options = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let no = || NoOption(part.to_owned());
            match part.split_once('=').ok_or_else(no)? {
                ("boot-bypass", "on") => options.boot_bypass = true,
                ("boot-bypass", "off") => options.boot_bypass = false,
                ("aw-bits", bits) => {
                    options.aw_bits = bits.parse().ok().filter(|bits| (32..=64).contains(bits)).ok_or_else(no)?;
                }
                ("granule", size) => {
                    let size = size.strip_suffix('k').and_then(|size| size.parse().ok());
                    options.granule = size.filter(|size| [4, 8, 16, 64].contains(size)).ok_or_else(no)?;
                }
                ("absent", endpoint) => {
                    let endpoint = endpoint.strip_prefix("0x").map(|hex| u32::from_str_radix(hex, 16));
                    options.absent = endpoint.and_then(Result::ok).filter(|e| !is_there(*e)).ok_or_else(no)?;
                }
                _ => return Err(no()),
            }
        }
        Ok(options)
    }
}

/// How many endpoints there are.
const ENDPOINTS: u8 = 2;

/// The root bus's functions that are used.
const VIOMMU: Function = Function { bus: 0, devfn: 2 << 3 };

/// The root port of an endpoint.
const fn port(index: u8) -> Function {
    Function { bus: 0, devfn: (4 + index) << 3 }
}

/// The number of the bus that an endpoint is on: as the suite knows it, and aside.
const fn buses(index: u8) -> (u8, u8) {
    (1 + index, 0x81 + index)
}

/// Whether an endpoint of that number may be there: all that is on the root bus, and all that is behind a root port, by
/// either number.
fn is_there(endpoint: u32) -> bool {
    let there = |bus: u8| endpoint >> 8 == u32::from(bus);
    there(0) || (0..ENDPOINTS).any(|index| there(buses(index).0) || there(buses(index).1))
}

/// QEMU's arguments for the machine, as text. Timers that would fire for ever are left out of it: while there is one,
/// virtual time does not stand still.
#[must_use]
pub fn arguments(options: Options) -> Vec<String> {
    let mut all: Vec<String> =
        ["-machine", "q35,pit=off,hpet=off", "-m", "64M", "-nodefaults", "-no-user-config", "-display", "none"]
            .map(str::to_owned)
            .to_vec();
    // It comes first: functions that are made before it are not behind it.
    all.extend(["-device".to_owned(), format!("virtio-iommu-pci,addr=2,{}", options.properties())]);
    for index in 0..ENDPOINTS {
        let chassis = 1 + index;
        let port = format!("pcie-root-port,id=port{index},addr={},chassis={chassis},slot={chassis}", 4 + index);
        let edu = format!("edu,bus=port{index},addr=0,dma_mask={:#x}", u64::MAX);
        all.extend(["-device".to_owned(), port, "-device".to_owned(), edu]);
    }
    all
}

/// Guest memory: requests, replies, events, what is loaded and stored aside, and what the suite has.
mod memory {
    pub(super) const REQUESTS: u64 = 0x80_0000;
    pub(super) const EVENTS: u64 = 0x81_0000;
    pub(super) const READABLE: u64 = 0x82_0000;
    pub(super) const WRITABLE: u64 = 0x84_0000;
    pub(super) const EVENT_BUFFERS: u64 = 0x90_0000;
    pub(super) const EVENT_BUFFER: u64 = 0x1000;
    pub(super) const ASIDE: u64 = 0xb0_0000;
    pub(super) const SUITE: std::ops::RangeInclusive<u64> = 0x100_0000..=0x10f_ffff;
}

/// The most bytes of a request, readable or writable.
const MOST: usize = 0x2_0000;

/// Memory for BARs.
const BARS: u64 = 0xd000_0000;
/// Memory behind root ports.
const BEHIND: u64 = 0xe000_0000;
const BEHIND_EACH: u64 = 0x20_0000;

/// The domain of the endpoints aside.
pub const ASIDE: u32 = 0x7a5d_e000;

/// The machine, under the suite.
pub struct Machine {
    start: Box<dyn Fn() -> Command>,
    wire: Wire,
    name: String,
    options: Options,
    setup: Setup,
    virtio: Virtio,
    /// The queue of requests, and that of events.
    queues: [Queue; 2],
    edus: Vec<Edu>,
    offered: u64,
    /// Why an endpoint's buffer cannot be loaded or stored.
    no_dma: Option<Broken>,
    /// What could not be said where it happened.
    pending: Option<Broken>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Machine {
    /// Starts QEMU: what is given makes a command without the [`arguments`], again each time that QEMU has died.
    ///
    /// # Errors
    /// It does not start, or is not the machine that was asked for.
    pub fn start(start: impl Fn() -> Command + 'static, version: &str, options: Options) -> Result<Self, Broken> {
        let endpoints = (0..ENDPOINTS).map(|index| u32::from(buses(index).0) << 8).collect();
        let mut machine = Self {
            wire: Wire::start(command(&start, options))?,
            start: Box::new(start),
            name: format!("QEMU {version} virtio-iommu-pci ({options})"),
            options,
            setup: Setup { endpoints, absent: options.absent, ram: memory::SUITE },
            virtio: Virtio::default(),
            queues: [Queue::at(memory::REQUESTS), Queue::at(memory::EVENTS)],
            edus: Vec::new(),
            offered: 0,
            no_dma: None,
            pending: None,
        };
        machine.fresh(Fresh { accept: OWN })?;
        Ok(machine)
    }

    /// One byte that the function of an endpoint writes while its bus has another number, as after a guest has numbered
    /// buses anew: it is another endpoint then. The bus has its own number again after it.
    ///
    /// # Errors
    /// QEMU did not survive it, or the endpoint is none of the two.
    pub fn write_renumbered(&mut self, endpoint: u32, bus: u8, iova: u64) -> Result<(), Broken> {
        let edu = self.edu(endpoint)?;
        self.wire.tell(&edu.port.renumber(bus))?;
        edu.copy(&mut self.wire, Copy::Out, iova, 1)?;
        self.wire.tell(&edu.port.renumber(edu.bus))
    }

    /// A reset of the system by its own register (the chipset's Reset Control, port 0xcf9), which QEMU does after it has
    /// answered.
    fn system_reset(&mut self) -> Result<(), Broken> {
        // A number that the reset takes away: nothing else does.
        let marked = port(0).renumber(0x55);
        self.wire.tell(&marked)?;
        self.wire.ask("outb 0xcf9 0x06")?;
        let until = Instant::now() + Duration::from_secs(5);
        while port(0).secondary(&mut self.wire)? != 0 {
            if Instant::now() > until {
                return Err(Broken("QEMU does not reset the machine".into()));
            }
            thread::yield_now();
        }
        Ok(())
    }

    /// Gives everything its address.
    fn assign(&mut self) -> Result<(), Broken> {
        let wire = &mut self.wire;
        let id = VIOMMU.id(wire)?;
        if id != (0x1af4, 0x1057) {
            return Err(Broken(format!("00:02.0 is {:04x}:{:04x}, not a virtio-iommu (1af4:1057)", id.0, id.1)));
        }
        let mut next = BARS;
        let bars = VIOMMU.enable(wire, &mut next)?;
        self.virtio = Virtio::find(wire, VIOMMU, &bars)?;
        self.edus.clear();
        for index in 0..ENDPOINTS {
            let (bus, aside) = buses(index);
            let mut base = BEHIND + BEHIND_EACH * u64::from(index);
            port(index).open(wire, bus, base, base + BEHIND_EACH - 1)?;
            let function = Function { bus, devfn: 0 };
            let id = function.id(wire)?;
            if id != (0x1234, 0x11e8) {
                return Err(Broken(format!("{bus:02x}:00.0 is {:04x}:{:04x}, not an edu (1234:11e8)", id.0, id.1)));
            }
            let bars = function.enable(wire, &mut base)?;
            let registers = bars[0].ok_or_else(|| Broken("the edu has no BAR".into()))?;
            self.edus.push(Edu { registers, port: port(index), bus, aside });
        }
        Ok(())
    }

    /// The driver's start, and the endpoints aside.
    fn begin(&mut self, how: Fresh) -> Result<(), Broken> {
        self.pending = None;
        self.virtio.start(&mut self.wire, how.accept, &mut self.queues)?;
        self.set_aside()
    }

    /// Attaches what is aside. No endpoint that the suite knows is touched: after a reset of the device the suite finds
    /// them as the device has left them.
    ///
    /// QEMU decides which way a function's accesses go (through the IOMMU or past it) when something happens to one of its
    /// endpoints, and by the number that its bus has at that time: so the last that happens, happens under the suite's
    /// number. QEMU knows the bus by its other number from then on, if it was asked for it once while the bus had it.
    fn set_aside(&mut self) -> Result<(), Broken> {
        self.no_dma = None;
        for edu in self.edus.clone() {
            let endpoint = u32::from(edu.aside) << 8;
            self.wire.tell(&edu.port.renumber(edu.aside))?;
            self.own(&Attach::new(ASIDE, endpoint).readable(), &[S_OK])?;
            self.wire.tell(&edu.port.renumber(edu.bus))?;
            self.own(&Detach::new(ASIDE, endpoint).readable(), &[S_OK])?;
            self.own(&Attach::new(ASIDE, endpoint).readable(), &[S_OK])?;
        }
        let (start, granule) = (memory::ASIDE, u64::from(self.options.granule) << 10);
        let map = Map::new(ASIDE, start, start + granule - 1, start, MAP_READ | MAP_WRITE);
        // INVAL: a mapping is there, for the device does not forget its domains at a reset.
        self.own(&map.readable(), &[S_OK, S_INVAL])
    }

    /// A request of the transport's own, without which there is no DMA.
    fn own(&mut self, request: &[u8], accepted: &[u8]) -> Result<(), Broken> {
        let reply = self.handle(request, TAIL)?;
        if reply.used as usize != TAIL || !accepted.contains(&reply.buffer[0]) {
            let answer = Broken(format!("no DMA: the transport's request {request:02x?} was answered {reply:02x?}"));
            self.no_dma.get_or_insert(answer);
        }
        Ok(())
    }

    fn edu(&self, endpoint: u32) -> Result<Edu, Broken> {
        if let Some(why) = &self.no_dma {
            return Err(why.clone());
        }
        let index = self.setup.endpoints.iter().position(|e| *e == endpoint);
        let edu = index.and_then(|index| self.edus.get(index)).copied();
        edu.ok_or_else(|| Broken(format!("{endpoint:#x} is no endpoint that does DMA")))
    }

    /// The error of an access that had no way to tell it.
    fn told(&mut self) -> Result<(), Broken> {
        self.pending.take().map_or(Ok(()), Err)
    }

    /// Keeps it until then.
    fn keep(&mut self, result: Result<(), Broken>) {
        if let Err(why) = result {
            self.pending.get_or_insert(why);
        }
    }

    fn ram(&self, at: u64, bytes: usize) -> Result<(), Broken> {
        let end = at.checked_add(bytes.saturating_sub(1) as u64);
        match end.is_some_and(|end| memory::SUITE.contains(&at) && memory::SUITE.contains(&end)) {
            true => Ok(()),
            false => Err(Broken(format!("{bytes} bytes at {at:#x} are not in the memory {:#x?}", memory::SUITE))),
        }
    }
}

fn command(start: &dyn Fn() -> Command, options: Options) -> Command {
    let mut command = start();
    command.args(arguments(options));
    command
}

impl Device for Machine {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn setup(&self) -> &Setup {
        &self.setup
    }

    fn can(&self) -> Can {
        Can { dma: true, events: true, system_reset: true }
    }

    fn does_dma(&self, endpoint: u32) -> bool {
        self.setup.endpoints.contains(&endpoint)
    }

    fn fresh(&mut self, how: Fresh) -> Result<(), Broken> {
        if self.wire.ask(ANYTHING).is_err() {
            // It has died.
            self.wire = Wire::start(command(&self.start, self.options))?;
        } else {
            self.system_reset()?;
        }
        self.assign()?;
        let bytes = memory::SUITE.end() - memory::SUITE.start() + 1;
        self.wire.ask(&format!("memset {:#x} {bytes:#x} 0", memory::SUITE.start()))?;
        self.offered = self.virtio.offered(&mut self.wire)? & OWN;
        self.begin(how)
    }

    fn reset(&mut self, how: Fresh) -> Result<(), Broken> {
        self.virtio.reset(&mut self.wire)?;
        self.begin(how)
    }

    fn offered(&mut self) -> u64 {
        self.offered
    }

    fn read_config(&mut self, offset: u32, data: &mut [u8]) {
        let result = self.virtio.read_config(&mut self.wire, offset, data);
        self.keep(result);
    }

    fn write_config(&mut self, offset: u32, data: &[u8]) {
        let result = self.virtio.write_config(&mut self.wire, offset, data);
        self.keep(result);
    }

    /// A part of no bytes has no descriptor. A request of no bytes at all has none, and is not put on the queue: no reply.
    fn handle(&mut self, readable: &[u8], writable: usize) -> Result<Reply, Broken> {
        self.told()?;
        if readable.len().max(writable) > MOST {
            return Err(Broken(format!("a request of {} and {writable} bytes: more than {MOST}", readable.len())));
        }
        if readable.is_empty() && writable == 0 {
            return Ok(Reply::default());
        }
        let queue = &mut self.queues[0];
        let readable = (!readable.is_empty()).then_some((memory::READABLE, readable));
        let writable = (writable > 0).then_some((memory::WRITABLE, writable));
        queue.put(&mut self.wire, 0, readable, writable)?;
        let used = queue.wait(&mut self.wire, self.virtio)?;
        Ok(Reply { used: used.length, buffer: used.buffer })
    }

    fn event_buffer(&mut self, bytes: usize) -> Result<(), Broken> {
        self.told()?;
        if bytes == 0 || bytes as u64 > memory::EVENT_BUFFER {
            return Err(Broken(format!("an event buffer of {bytes} bytes: 1 to {} can be", memory::EVENT_BUFFER)));
        }
        let queue = &mut self.queues[1];
        let slot = queue.free().ok_or_else(|| Broken("the event queue is full".into()))?;
        let at = memory::EVENT_BUFFERS + memory::EVENT_BUFFER * u64::from(slot);
        queue.put(&mut self.wire, slot, None, Some((at, bytes)))
    }

    fn events(&mut self) -> Result<Vec<Reply>, Broken> {
        self.told()?;
        let mut all = Vec::new();
        while let Some(used) = self.queues[1].take(&mut self.wire)? {
            all.push(Reply { used: used.length, buffer: used.buffer });
        }
        self.virtio.whole(&mut self.wire)?;
        Ok(all)
    }

    fn dma_write(&mut self, endpoint: u32, iova: u64, data: &[u8]) -> Result<(), Broken> {
        self.told()?;
        let edu = self.edu(endpoint)?;
        for (index, piece) in data.chunks(edu::BYTES).enumerate() {
            self.wire.write(memory::ASIDE, piece)?;
            edu.aside(&mut self.wire, Copy::In, memory::ASIDE, piece.len())?;
            let iova = iova.wrapping_add((index * edu::BYTES) as u64);
            edu.copy(&mut self.wire, Copy::Out, iova, piece.len())?;
        }
        Ok(())
    }

    fn dma_read(&mut self, endpoint: u32, iova: u64, bytes: usize) -> Result<Vec<u8>, Broken> {
        self.told()?;
        let edu = self.edu(endpoint)?;
        let mut out = Vec::with_capacity(bytes);
        while out.len() < bytes {
            let size = edu::BYTES.min(bytes - out.len());
            let fill = |byte: u8| format!("memset {:#x} {size:#x} {byte:#x}", memory::ASIDE);
            self.wire.ask(&fill(CANARY))?;
            edu.aside(&mut self.wire, Copy::In, memory::ASIDE, size)?;
            edu.copy(&mut self.wire, Copy::In, iova.wrapping_add(out.len() as u64), size)?;
            self.wire.ask(&fill(0))?;
            edu.aside(&mut self.wire, Copy::Out, memory::ASIDE, size)?;
            out.extend(self.wire.read(memory::ASIDE, size)?);
        }
        Ok(out)
    }

    fn ram_write(&mut self, at: u64, data: &[u8]) -> Result<(), Broken> {
        self.ram(at, data.len())?;
        self.wire.write(at, data)
    }

    fn ram_read(&mut self, at: u64, bytes: usize) -> Result<Vec<u8>, Broken> {
        self.ram(at, bytes)?;
        self.wire.read(at, bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_as_text() {
        let other = "boot-bypass=off,aw-bits=48,granule=64k,absent=0x10100";
        for text in ["boot-bypass=on,aw-bits=64,granule=4k", other] {
            assert_eq!(text.parse::<Options>().unwrap().to_string(), text);
        }
        assert_eq!("".parse::<Options>().unwrap(), Options::default());
        assert!(arguments(other.parse().unwrap()).iter().all(|argument| !argument.contains("absent")));
        for text in
            ["boot-bypass", "boot-bypass=yes", "aw-bits=31", "aw-bits=65", "granule=4", "granule=1k", "x=y", "absent=7"]
        {
            assert!(text.parse::<Options>().unwrap_err().to_string().contains(text), "{text}");
        }
        // These are there.
        for text in ["absent=0x10", "absent=0x100", "absent=0x8200"] {
            assert!(text.parse::<Options>().unwrap_err().to_string().contains(text), "{text}");
        }
    }

    #[test]
    fn what_is_in_memory_is_apart() {
        let queue = u64::from(Queue::MOST);
        let mut places = vec![
            (memory::REQUESTS, 0x3000),
            (memory::EVENTS, 0x3000),
            (memory::READABLE, MOST as u64),
            (memory::WRITABLE, MOST as u64),
            (memory::EVENT_BUFFERS, queue * memory::EVENT_BUFFER),
            (memory::ASIDE, 0x1_0000),
            (*memory::SUITE.start(), memory::SUITE.end() - memory::SUITE.start() + 1),
        ];
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{places:x?}");
        // The memory of the machine is 64 MiB, and the lowest of it has holes.
        assert!(places[0].0 >= 1 << 20 && places.last().unwrap().0 < 48 << 20);
    }
}
