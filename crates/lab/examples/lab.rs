//! The lab by hand: `lab list`, `lab setup [SERIES...]`, `lab boot SERIES PROGRAM`, `lab bench SERIES PROGRAM RUNS`.
//! Built for aarch64 it is a PROGRAM itself: it says which devices it was given.

use std::fs;

use lab::{Boot, Cache, Progress, Series};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    if lab::guest::is_init() {
        return guest();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let cache = Cache::user()?;
    match words.as_slice() {
        ["list"] => println!("{:#?}", lab::list(&cache, Progress::stderr())?),
        ["setup", series @ ..] => {
            let series = series.iter().map(|one| one.parse()).collect::<Result<Vec<Series>, _>>()?;
            println!("{:#?}", lab::setup(&cache, &series, false, Progress::stderr())?);
        }
        ["guest"] => println!("{}", lab::build_guest(&cache, Progress::stderr())?.display()),
        ["boot", series, program] => {
            let (kernel, init) = (cache.kernel(series.parse()?)?, fs::read(program)?);
            let booted = boot(&kernel, &init).run(&cache, &mut |line| println!("{line}"))?;
            println!("{}\n{:?}", booted.console, booted.wall);
        }
        ["bench", series, program, runs] => {
            let (kernel, init) = (cache.kernel(series.parse()?)?, fs::read(program)?);
            let timing = lab::bench(&cache, &boot(&kernel, &init), runs.parse()?)?;
            println!("{:.2?}\nratio {:.3}", timing.pairs, timing.ratio());
        }
        _ => return Err("what? list, setup, guest, boot or bench".into()),
    }
    Ok(())
}

fn boot<'a>(kernel: &'a lab::Kernel, init: &'a [u8]) -> Boot<'a> {
    Boot { bars: vec![1 << 20, 1 << 20], files: vec![("note".into(), b"hello".to_vec())], ..Boot::new(kernel, init) }
}

fn guest() -> Outcome {
    let mut guest = lab::guest::start()?;
    let note = String::from_utf8(guest.read_file("note")?)?;
    let devices = guest.devices.join(" ");
    guest.send(&format!("{note}: {devices}"))?;
    guest.send(&fs::read_to_string("/proc/uptime")?)?;
    guest.power_off()
}
