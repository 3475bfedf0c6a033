//! The guest side of the lab: this program as the first process of an emulated server. It runs what the host put there,
//! sends a line for each scenario, and powers off.

use lab::guest::Guest;
use scenario::Scenario;
use vmm::{Bdf, Host};

use crate::machine::{About, LIST, Said, on_host};

/// Does all of it; never returns.
pub(crate) fn run() -> ! {
    match lab::guest::start() {
        Ok(mut guest) => match all(&mut guest) {
            Ok(()) => guest.power_off(),
            Err(why) => guest.fail(&why),
        },
        Err(why) => {
            // There is no channel to the host; its time limit or the kernel's panic at our end tells it.
            crate::show::error(&why);
            std::process::exit(1)
        }
    }
}

fn all(guest: &mut Guest) -> Result<(), String> {
    let devices: Vec<Bdf> =
        guest.devices.iter().map(|d| d.parse().map_err(|e: vmm::Error| e.to_string())).collect::<Result<_, _>>()?;
    let mut host = Host::open(&devices).map_err(|e| e.to_string())?;
    let fwb = host.fwb().map_err(|e| e.to_string())?;
    send(guest, &Said::About(About { release: host.kernel_release(), fwb }))?;
    let list = text(guest, LIST)?;
    for (i, name) in list.lines().enumerate() {
        let ran = parsed(guest, i, name).and_then(|scenario| on_host(&mut host, fwb, &scenario));
        let scenario = name.to_owned();
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

fn parsed(guest: &Guest, i: usize, name: &str) -> Result<Scenario, String> {
    scenario::parse(name, &text(guest, &format!("{i}.toml"))?).map_err(|e| e.to_string())
}

fn text(guest: &Guest, file: &str) -> Result<String, String> {
    let bytes = guest.read_file(file).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|e| format!("{file}: {e}"))
}

fn send(guest: &mut Guest, said: &Said) -> Result<(), String> {
    let line = serde_json::to_string(said).map_err(|e| e.to_string())?;
    guest.send(&line).map_err(|e| e.to_string())
}
