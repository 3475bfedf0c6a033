//! The guest side of the lab: this program as the first process of an emulated server. It runs what the host put there,
//! sends a line for each scenario or command, and powers off.

use lab::guest::Guest;
use vmm::{Bdf, Host};

use crate::machine::{About, JOBS, Job, Said, on_host};

/// Does all of it; never returns.
pub(crate) fn run() -> ! {
    match lab::guest::start() {
        Ok(mut guest) => {
            guest.play();
            match all(&mut guest) {
                Ok(()) => guest.power_off(),
                Err(why) => guest.fail(&why),
            }
        }
        Err(why) => {
            // There is no channel to the host; its time limit or the kernel's panic at our end tells it.
            crate::show::error(&why);
            std::process::exit(1)
        }
    }
}

fn all(guest: &mut Guest) -> Result<(), String> {
    let devices: Vec<Bdf> = guest
        .devices
        .iter()
        .map(|d| d.parse().map_err(|e: platform::NotBdf| e.to_string()))
        .collect::<Result<_, _>>()?;
    let mut host = Host::open(&devices).map_err(|e| e.to_string())?;
    let fwb = host.fwb().map_err(|e| e.to_string())?;
    send(guest, &Said::About(About { release: host.kernel_release(), fwb }))?;
    let jobs = guest.read_file(JOBS).map_err(|e| e.to_string())?;
    for line in jobs.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let job: Job = serde_json::from_slice(line).map_err(|e| format!("{JOBS}: {e}"))?;
        let ran = on_host(&mut host, fwb, &job.scenario, &job.guest);
        let scenario = job.name;
        send(
            guest,
            &match ran {
                Ok(observation) => Said::Saw { scenario, observation },
                Err(why) => Said::Cannot { scenario, why },
            },
        )?;
    }
    Ok(())
}

fn send(guest: &mut Guest, said: &Said) -> Result<(), String> {
    let line = serde_json::to_string(said).map_err(|e| e.to_string())?;
    guest.send(&line).map_err(|e| e.to_string())
}
