//! The guest side of a [`crate::Session`]: devices made ready, commands run, files sent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::guest::{Guest, inside, mount_at};
use crate::image::FILES;
use crate::script::{self, Driver, Ran, Step, filled};
use crate::session::{Found, Ordered, Orders, Told, hex};

/// Where commands put what is to be brought back.
const OUT: &str = "/out";
/// This program.
const PROGRAM: &str = "/init";
/// No command takes longer; a port's button takes five seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// The most of one stream that is kept.
const MOST: u64 = 4 << 20;
/// How often something is looked for.
const PAUSE: Duration = Duration::from_millis(20);
/// A user and group without any right.
const NOBODY: u32 = 65534;
/// Bytes of a file in one line.
const PIECE: usize = 1 << 15;

const DEVICES: &str = "/sys/bus/pci/devices";

/// What a host has beyond a server that only runs scenarios.
pub(crate) fn prepare() -> Result<(), Error> {
    // Not every kernel has it, and what is missing is seen by who looks for it.
    for (kind, place) in [("debugfs", "/sys/kernel/debug"), ("securityfs", "/sys/kernel/security")] {
        let _ = mount_at(kind, place);
    }
    for (folder, mode) in [("/tmp", 0o1777), (OUT, 0o777)] {
        fs::create_dir_all(folder).map_err(inside(format!("make {folder}")))?;
        fs::set_permissions(folder, PermissionsExt::from_mode(mode)).map_err(inside(format!("open {folder}")))?;
    }
    Ok(())
}

struct Running {
    child: Child,
    out: Stream,
    err: Stream,
}

/// What a process prints, as it prints it.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&text);
        let thread = pipe.map(|mut pipe| {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    if let Ok(mut text) = to.lock()
                        && (text.len() as u64) < MOST
                    {
                        text.extend(&buffer[..count]);
                    }
                }
            })
        });
        Self { text, thread }
    }

    fn now(&self) -> String {
        self.text.lock().map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// All of it; the process has ended.
    fn end(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.now()
    }
}

/// Runs the lines one after the other, and tells of each.
pub(crate) fn play(guest: &mut Guest, orders: &Orders) -> Result<(), Error> {
    // Firmware may have begun a line here.
    guest.send("")?;
    let mut player = Player { ordered: &orders.devices, places: BTreeMap::new(), running: BTreeMap::new() };
    let mut devices = Vec::new();
    for ordered in &orders.devices {
        player.find(ordered, LIMIT)?;
        bind(&player.places[&ordered.id], ordered.driver)?;
        devices.push(player.found(ordered));
    }
    tell(guest, &Told::Ready { devices })?;
    for (step, line) in orders.lines.iter().enumerate() {
        let begun = Instant::now();
        let mut ran = match player.step(guest, &line.step) {
            Ok(Some(ran)) => ran,
            Ok(None) => continue,
            Err(failed) => Ran { failed: Some(failed), ..Ran::default() },
        };
        ran.step = step;
        ran.ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tell(guest, &Told::Ran(ran))?;
    }
    for (_, mut left) in std::mem::take(&mut player.running) {
        let _ = left.child.kill();
        let _ = left.child.wait();
    }
    send_files(guest, Path::new(OUT), "")
}

fn tell(guest: &mut Guest, told: &Told) -> Result<(), Error> {
    let line = serde_json::to_string(told).map_err(|e| inside("tell the lab")(e.into()))?;
    guest.send(&line)
}

struct Player<'a> {
    ordered: &'a [Ordered],
    /// By name: where each device is.
    places: BTreeMap<String, String>,
    running: BTreeMap<String, Running>,
}

type Done = Result<Option<Ran>, String>;

impl Player<'_> {
    fn step(&mut self, guest: &mut Guest, step: &Step) -> Done {
        match step {
            Step::Run { words, nobody, name } => {
                let mut running = self.start(words, *nobody, name.is_some())?;
                match name {
                    None => running.end(false).map(Some),
                    Some(name) if self.running.contains_key(name) => Err(format!("`{name}` runs already")),
                    Some(name) => {
                        self.running.insert(name.clone(), running);
                        Ok(Some(Ran::default()))
                    }
                }
            }
            Step::Until { name, text } => self.until(name, text).map(Some),
            Step::Wait { name } => self.take(name)?.end(false).map(Some),
            Step::Kill { name } => self.take(name)?.end(true).map(Some),
            Step::Unplug { device } => {
                tell(guest, &Told::Unplug { device: device.clone() }).map_err(|e| e.to_string())?;
                Ok(Some(Ran::default()))
            }
            Step::Gone { device } => self.gone(device).map(Some),
            Step::Plug { device } => {
                tell(guest, &Told::Plug { device: device.clone() }).map_err(|e| e.to_string())?;
                let ordered = self.ordered(device)?.clone();
                self.find(&ordered, LIMIT).map_err(|e| e.to_string())?;
                bind(&self.places[device], ordered.driver).map_err(|e| e.to_string())?;
                let found = self.found(&ordered);
                let driver = found.driver.unwrap_or_else(|| "no driver".to_owned());
                Ok(Some(printed(format!("{device} is {}, {driver}\n", found.bdf))))
            }
            Step::Bind { device, driver } => {
                let place = self.places.get(device).ok_or_else(|| format!("{device} is not there"))?;
                bind(place, *driver).map_err(|e| e.to_string())?;
                Ok(Some(Ran::default()))
            }
            Step::Sleep { ms } => {
                thread::sleep(Duration::from_millis(*ms));
                Ok(Some(Ran::default()))
            }
            Step::Cat { path } => {
                let path = self.fill(path);
                let mut bytes = Vec::new();
                let read = File::open(&path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
                read.map_err(|e| format!("{path}: {e}"))?;
                Ok(Some(printed(String::from_utf8_lossy(&bytes).into_owned())))
            }
            Step::Write { path, text } => {
                let path = self.fill(path);
                fs::write(&path, self.fill(text)).map_err(|e| format!("{path}: {e}"))?;
                Ok(Some(Ran::default()))
            }
            Step::Log => kernel_log().map(|text| Some(printed(text))).map_err(|e| format!("the kernel's log: {e}")),
            Step::Unheld => match holders() {
                held if held.is_empty() => Ok(Some(Ran::default())),
                held => Err(format!("held: {}", held.join("; "))),
            },
            Step::ExpectExit { .. } | Step::Expect { .. } | Step::Title { .. } => Ok(None),
        }
    }

    fn fill(&self, word: &str) -> String {
        filled(word, |name| match name {
            script::OUT => Some(OUT.to_owned()),
            script::FILES => Some(FILES.to_owned()),
            _ => self.places.get(name).cloned(),
        })
    }

    fn start(&self, words: &[String], nobody: bool, background: bool) -> Result<Running, String> {
        let mut command = Command::new(PROGRAM);
        command.args(words.iter().map(|word| self.fill(word))).current_dir("/tmp").env("PATH", "/").env("HOME", "/tmp");
        // One in the background may live until its input ends.
        let stdin = if background { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        if nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.spawn().map_err(|e| format!("it cannot be started: {e}"))?;
        let (out, err) = (Stream::of(child.stdout.take()), Stream::of(child.stderr.take()));
        Ok(Running { child, out, err })
    }

    fn take(&mut self, name: &str) -> Result<Running, String> {
        self.running.remove(name).ok_or_else(|| format!("nothing runs as `{name}`"))
    }

    /// Waits until a text was printed. If it ends before, that is told with what it printed.
    fn until(&mut self, name: &str, text: &str) -> Result<Ran, String> {
        let running = self.running.get_mut(name).ok_or_else(|| format!("nothing runs as `{name}`"))?;
        let begun = Instant::now();
        loop {
            let ended = running.child.try_wait().map_err(|e| e.to_string())?.is_some();
            let (out, err) = (running.out.now(), running.err.now());
            let there = out.contains(text) || err.contains(text);
            let failed = match (there, ended) {
                (true, _) => None,
                (_, true) => Some("it ended and had not printed that".to_owned()),
                _ if begun.elapsed() > LIMIT => Some(format!("it did not print that within {} s", LIMIT.as_secs())),
                _ => {
                    thread::sleep(PAUSE);
                    continue;
                }
            };
            return Ok(Ran { out, err, failed, ..Ran::default() });
        }
    }

    fn ordered(&self, id: &str) -> Result<&Ordered, String> {
        self.ordered.iter().find(|one| one.id == id).ok_or_else(|| format!("{id} is no device"))
    }

    /// Looks for a device in its place, until it is there.
    fn find(&mut self, ordered: &Ordered, limit: Duration) -> Result<(), Error> {
        let begun = Instant::now();
        let own = format!("0000:00:{:02x}.0", ordered.slot);
        loop {
            let place = if ordered.port { behind(&own) } else { Some(own.clone()) };
            if let Some(place) = place.filter(|place| Path::new(DEVICES).join(place).exists()) {
                self.places.insert(ordered.id.clone(), place);
                return Ok(());
            }
            if begun.elapsed() > limit {
                let why = format!("nothing is at {own} after {} s", limit.as_secs());
                return Err(Error::Inside { step: format!("find the device {}", ordered.id), why });
            }
            thread::sleep(PAUSE);
        }
    }

    fn found(&self, ordered: &Ordered) -> Found {
        let bdf = self.places.get(&ordered.id).cloned().unwrap_or_default();
        let link = |name: &str| {
            let target = fs::read_link(Path::new(DEVICES).join(&bdf).join(name)).ok()?;
            Some(target.file_name()?.to_string_lossy().into_owned())
        };
        Found { id: ordered.id.clone(), driver: link("driver"), group: link("iommu_group"), bdf }
    }

    fn gone(&mut self, id: &str) -> Result<Ran, String> {
        let place = self.places.get(id).cloned().ok_or_else(|| format!("{id} is not there"))?;
        let begun = Instant::now();
        while Path::new(DEVICES).join(&place).exists() {
            if begun.elapsed() > LIMIT {
                return Err(format!("{place} is still there after {} s", LIMIT.as_secs()));
            }
            thread::sleep(PAUSE);
        }
        self.places.remove(id);
        Ok(Ran::default())
    }
}

impl Running {
    /// Waits for the end; one that takes too long is killed, and so is one that is to be.
    fn end(&mut self, kill: bool) -> Result<Ran, String> {
        drop(self.child.stdin.take());
        if kill {
            self.child.kill().map_err(|e| format!("it cannot be killed: {e}"))?;
        }
        let begun = Instant::now();
        let mut failed = None;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if failed.is_none() && begun.elapsed() > LIMIT => {
                    failed = Some(format!("it was killed after {} s", LIMIT.as_secs()));
                    let _ = self.child.kill();
                }
                Ok(None) if begun.elapsed() > LIMIT * 2 => return Err("it cannot be killed".to_owned()),
                Ok(None) => thread::sleep(Duration::from_millis(1)),
                Err(e) => return Err(e.to_string()),
            }
        };
        Ok(Ran { exit: code(status), out: self.out.end(), err: self.err.end(), failed, ..Ran::default() })
    }
}

fn printed(out: String) -> Ran {
    Ran { out, ..Ran::default() }
}

fn code(status: ExitStatus) -> Option<i32> {
    status.code().or_else(|| status.signal().map(|signal| -signal))
}

/// The device on the bus behind a port.
fn behind(port: &str) -> Option<String> {
    let names = fs::read_dir(Path::new(DEVICES).join(port)).ok()?.flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find(|name| name.len() == port.len() && name.ends_with(":00.0"))
}

/// Binds a device to vfio-pci, or takes it from its driver.
fn bind(place: &str, driver: Driver) -> Result<(), Error> {
    let device = Path::new(DEVICES).join(place);
    let bound = device.join("driver");
    let (over, step) = match driver {
        Driver::Vfio => ("vfio-pci", format!("bind {place} to vfio-pci")),
        Driver::Unbound => ("\n", format!("take {place} from its driver")),
    };
    if bound.exists() {
        fs::write(bound.join("unbind"), place).map_err(inside(step.clone()))?;
    }
    fs::write(device.join("driver_override"), over).map_err(inside(step.clone()))?;
    if driver == Driver::Vfio {
        fs::write("/sys/bus/pci/drivers_probe", place).map_err(inside(step.clone()))?;
        if !bound.exists() {
            return Err(Error::Inside { step, why: "the driver did not take it".to_owned() });
        }
    }
    Ok(())
}

/// What the kernel has logged so far.
fn kernel_log() -> std::io::Result<String> {
    const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut log = fs::OpenOptions::new().read(true).custom_flags(NONBLOCK).open("/dev/kmsg")?;
    let mut text = String::new();
    let mut record = [0; 8192];
    // One record a read; at the end there is nothing to wait for.
    while let Ok(count @ 1..) = log.read(&mut record) {
        let line = String::from_utf8_lossy(&record[..count]).into_owned();
        let first = line.lines().next().unwrap_or_default();
        let (head, said) = first.split_once(';').unwrap_or(("", first));
        let micros: u64 = head.split(',').nth(2).and_then(|word| word.parse().ok()).unwrap_or_default();
        text.push_str(&format!("[{:5}.{:06}] {said}\n", micros / 1_000_000, micros % 1_000_000));
        if text.len() as u64 > MOST {
            break;
        }
    }
    Ok(text)
}

/// Every process that holds a device of VFIO or a PCI resource file, open or mapped.
fn holders() -> Vec<String> {
    let held = |text: &str| text.contains("vfio") || text.contains("/resource") || text.contains("iommufd");
    let mut all = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let folder = process.path();
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let links = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
        let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
        let links = links.map(|link: PathBuf| link.to_string_lossy().into_owned());
        all.extend(links.filter(|link| held(link)).map(|link| format!("process {pid} has {link} open")));
        let maps = fs::read_to_string(folder.join("maps")).unwrap_or_default();
        all.extend(maps.lines().filter(|line| held(line)).map(|line| format!("process {pid} has mapped {line}")));
    }
    all
}

/// Sends what is in a folder.
fn send_files(guest: &mut Guest, folder: &Path, name: &str) -> Result<(), Error> {
    let entries = fs::read_dir(folder).map_err(inside(format!("read {}", folder.display())))?;
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = format!("{name}{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            send_files(guest, &path, &format!("{name}/"))?;
            continue;
        }
        let bytes = fs::read(&path).map_err(inside(format!("read {}", path.display())))?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => {
                let mut rest = text;
                loop {
                    let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
                    tell(guest, &Told::File { path: name.clone(), hex: false, piece: piece.to_owned() })?;
                    rest = after;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            Err(_) => {
                for piece in bytes.chunks(PIECE) {
                    tell(guest, &Told::File { path: name.clone(), hex: true, piece: hex(piece) })?;
                }
            }
        }
    }
    Ok(())
}
