//! From the entry to the power-off.
#![expect(unsafe_code, reason = "called by assembly; the memory of the heap and of the orders is an address at first")]

use alloc::{format, string::String, vec::Vec};
use core::{fmt::Write, panic::PanicInfo};

use dtoolkit::fdt::Fdt;
use el2::{About, JOBS_AT, JOBS_SIZE, Order, RAM_SIZE, Said};
use linked_list_allocator::LockedHeap;

use crate::{
    board::{Board, Window},
    console::{self, Console},
    cpu, gic,
    machine::{Machine, Ran},
    memory::{self, Own, Pool},
    pci::Pci,
    sweep,
};

// A job is read, run and dropped, and the next one has another size: a heap that takes memory back, from a crate that is kept,
// rather than a bump allocator that would have to be emptied behind the back of what lives in it.
#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

/// Bytes for the tables of EL2's own stage 1.
const TABLES: u64 = 0x10_0000;

/// Sends a line to the host.
pub(crate) fn say(said: &Said) {
    if let Ok(line) = serde_json::to_string(said) {
        Console.bytes(line.as_bytes());
        Console.bytes(b"\n");
    }
}

/// The first Rust.
#[unsafe(no_mangle)]
extern "C" fn start() -> ! {
    cpu::set_hcr(cpu::HCR_NONE);
    match all() {
        Ok(()) => say(&Said::Done {}),
        Err(what) => say(&Said::Lost { what }),
    }
    Console.flush();
    cpu::power_off()
}

fn all() -> Result<(), String> {
    // Until translation is on, every access is Device-nGnRnE: no atomics, and so no heap and nothing that needs one.
    let ram = Window { base: memory::tree_at(), size: RAM_SIZE };
    let [.., image_end] = memory::image();
    // SAFETY: between the program and the heap.
    let mut first = unsafe { Pool::new(Window { base: image_end, size: TABLES }) };
    let tables = first.take(TABLES, TABLES).ok_or("no room for EL2's tables")?;
    let mut own = Own::new(ram, tables)?;

    let heap = image_end + TABLES;
    // SAFETY: RAM between the program and the orders, that nothing else uses; initialised once, before the first allocation.
    unsafe { HEAP.lock().init(heap as *mut u8, (JOBS_AT - heap) as usize) };
    // SAFETY: the boot protocol puts a device tree there, which nobody writes to; a bad one is an error, not a misread: its size
    // is read from its header, and what it says it spans is RAM of this machine.
    let tree = unsafe { Fdt::from_raw(memory::tree_at() as *const u8) };
    // There is no console to say it to: the host's time limit tells.
    let Ok(tree) = tree else { cpu::power_off() };
    let board = Board::of(&tree)?;
    own.device(board.console)?;
    console::found(board.console.base);
    if board.ram.base != ram.base || board.ram.size < ram.size {
        return Err(format!("the machine has other RAM than {ram:#x?}: {:#x?}", board.ram));
    }

    let end = JOBS_AT + JOBS_SIZE;
    // SAFETY: RAM behind the orders, up to its end.
    let mut pool = unsafe { Pool::new(Window { base: end, size: ram.base + ram.size - end }) };
    let pci = board.bridge.as_ref().map(|bridge| Pci::find(bridge, &mut own)).transpose()?;
    if let (Some(gic), Some(timer @ 16..32)) = (&board.gic, board.timer) {
        gic::enable(gic, timer, &mut own)?;
    }
    say(&Said::About(About {
        midr: cpu::midr(),
        fwb: cpu::has_fwb(),
        dic: cpu::has_dic(),
        xs: cpu::has_xs(),
        mte2: cpu::has_mte2(),
        bars: pci.iter().flat_map(|pci| &pci.memory).map(|memory| memory.bar.size).collect(),
    }));
    // SAFETY: QEMU's loader put the orders there before the start, and nothing writes to them.
    let orders = unsafe { memory::bytes(JOBS_AT, JOBS_SIZE) };
    let length = orders.iter().position(|byte| *byte == 0).ok_or("the orders have no end: a byte of 0")?;
    let orders = || orders[..length].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    // Sweeps first: a machine takes what is left of RAM.
    let mut jobs = Vec::new();
    for line in orders() {
        match serde_json::from_slice(line).map_err(|error| format!("an order: {error}"))? {
            Order::Sweep {} => sweep::run(&mut pool)?,
            Order::Run(_) => jobs.push(line),
        }
    }
    let mut machine = Machine::new(own, pci, &mut pool)?;
    for line in jobs {
        let Ok(Order::Run(job)) = serde_json::from_slice(line) else { continue };
        for policy in &job.policies {
            let (scenario, policy) = (job.name.clone(), policy.clone());
            say(&match machine.run(&job, &policy) {
                Ok(Ran { observation, el1, injected }) => Said::Saw { scenario, policy, observation, el1, injected },
                Err(why) => Said::Cannot { scenario, policy, why },
            });
        }
    }
    Ok(())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // Not as JSON: the heap may be what failed.
    let _ = writeln!(Console, "panic: {info}");
    Console.flush();
    cpu::power_off()
}

/// An exception of EL2's own.
#[unsafe(no_mangle)]
extern "C" fn unexpected(vector: u64) -> ! {
    let _ = writeln!(Console, "panic: exception {vector} at EL2: {:#x?}", cpu::syndrome());
    Console.flush();
    cpu::power_off()
}
