//! The mapping structure beside four others: MAP, UNMAP and translation of one page, while so many pages are mapped.
//!
//! `cargo bench -p viommu --bench intervals` prints; `-- --record FILE` also writes FILE as CSV, and a plot of it beside it as SVG;
//! `-- --test` does a little of everything and checks what the structures answer.
//!
//! Each structure and size is measured in a process of its own, so that the memory it takes is the process's, and none has
//! the other's free memory to build in. Pages lie side by side, as a guest's do; their targets do not. What takes over a
//! minute is left out, and the record says so.
#![allow(missing_docs)]
#![forbid(unsafe_code)]

#[path = "intervals/measure.rs"]
mod measure;
#[path = "intervals/plot.rs"]
mod plot;
#[path = "intervals/structures.rs"]
mod structures;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use measure::{Case, OURS, Row, SCAN, STRUCTURES, WALK, concurrent, load};

const SIZES: [usize; 5] = [1 << 10, 1 << 14, 1 << 17, 1 << 20, 10 << 20];
const ROUNDS: usize = 101;
const CONCURRENT: usize = 1 << 20;
const LOCKED: &str = "BTreeMap, locked";
const MEMORY: &str = "memory";

/// A line of the record.
struct Line {
    structure: String,
    order: &'static str,
    n: usize,
    row: Row,
}

fn order(random: bool) -> &'static str {
    if random { "random" } else { "sequential" }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| arguments.iter().position(|a| a == name).map(|at| &arguments[at + 1..]);
    if let Some(case) = after("--case") {
        child(case);
    } else if after("--test").is_some() {
        test();
    } else {
        let lines = all();
        print(&lines);
        if let Some([file, ..]) = after("--record") {
            record(&lines, Path::new(file));
        }
    }
}

/// One case, in a process of its own: its rows go to standard output.
fn child(case: &[String]) {
    let [structure, n, order] = case else { return eprintln!("--case STRUCTURE MAPPINGS ORDER") };
    let n = n.parse().expect("a number of mappings");
    let rows = if structure == MEMORY {
        load(n, ROUNDS)
    } else if order == "concurrent" {
        concurrent(structure, n, 7, Duration::from_millis(500))
    } else {
        let structure = STRUCTURES.into_iter().find(|name| name == structure).expect("a structure");
        Case { structure, n, random: order == "random", rounds: ROUNDS }.run()
    };
    for Row { operation, ns, bytes } in rows {
        let ns = ns.map_or_else(|why| why, |(min, median)| format!("{min} {median}"));
        println!("{operation};{ns};{}", bytes.map_or_else(String::new, |bytes| bytes.to_string()));
    }
}

/// The rows that a child prints.
fn parsed(line: &str) -> Row {
    let mut fields = line.split(';');
    let mut field = || fields.next().unwrap_or_default();
    let (operation, ns, bytes) = (field().to_owned(), field(), field().parse().ok());
    let numbers: Vec<f64> = ns.split(' ').filter_map(|ns| ns.parse().ok()).collect();
    let ns = if let [min, median] = numbers[..] { Ok((min, median)) } else { Err(ns.to_owned()) };
    Row { operation, ns, bytes }
}

fn in_child(structure: &str, n: usize, order: &'static str) -> Vec<Line> {
    let case = [structure, &n.to_string(), order];
    eprintln!("{}", case.join(", "));
    let this = std::env::current_exe().expect("this program");
    let output = Command::new(this).arg("--case").args(case).output().expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = String::from_utf8_lossy(&output.stdout).lines().map(parsed).collect::<Vec<_>>();
    rows.into_iter().map(|row| Line { structure: structure.to_owned(), order, n, row }).collect()
}

fn all() -> Vec<Line> {
    let mut lines = Vec::new();
    for random in [false, true] {
        for n in SIZES {
            for structure in STRUCTURES {
                if structure == SCAN && n > 1 << 20 {
                    let why = "left out: each UNMAP would take a third of a second; MAP and translation are those of the BTreeMap, walked";
                    let row = Row { operation: "all".into(), ns: Err(why.into()), bytes: None };
                    lines.push(Line { structure: structure.to_owned(), order: order(random), n, row });
                } else {
                    lines.extend(in_child(structure, n, order(random)));
                }
            }
        }
    }
    for n in SIZES {
        lines.extend(in_child(MEMORY, n, order(true)));
    }
    for structure in [OURS, LOCKED] {
        lines.extend(in_child(structure, CONCURRENT, "concurrent"));
    }
    lines
}

fn print(lines: &[Line]) {
    println!(
        "{:<18} {:<31} {:<10} {:>9} {:>12} {:>12} {:>7}",
        "", "", "", "mappings", "ns, least", "ns, median", "bytes"
    );
    for Line { structure, order, n, row } in lines {
        let Row { operation, ns, bytes } = row;
        let ns = ns.clone().map_or_else(|why| why, |(min, median)| format!("{min:>12.1} {median:>12.1}"));
        let bytes = bytes.map_or_else(String::new, |bytes| format!("{bytes:.1}"));
        println!("{structure:<18} {operation:<31} {order:<10} {n:>9} {ns} {bytes:>7}");
    }
}

/// Day of the calendar, by days since 1970-01-01 (Gregorian; four centuries are 146,097 days, counted from March).
fn date() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let days = since.as_secs() / 86400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}

fn record(lines: &[Line], file: &Path) {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cpu = cpu.trim_start_matches([' ', '\t', ':']);
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output();
    let commit = git.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    let mut csv =
        String::from("date,cpu,commit,structure,operation,order,mappings,min_ns,median_ns,bytes_per_mapping,note\n");
    for Line { structure, order, n, row } in lines {
        let Row { operation, ns, bytes } = row;
        let (min, median) =
            ns.as_ref().map_or_else(|_| Default::default(), |(a, b)| (format!("{a:.1}"), format!("{b:.1}")));
        let bytes = bytes.map_or_else(String::new, |bytes| format!("{bytes:.1}"));
        let note = ns.as_ref().err().cloned().unwrap_or_default();
        let fields: [&str; 11] =
            [&date(), cpu, &commit, structure, operation, order, &n.to_string(), &min, &median, &bytes, &note];
        csv +=
            &fields.map(|field| if field.contains(',') { format!("\"{field}\"") } else { field.to_owned() }).join(",");
        csv.push('\n');
    }
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).expect("a directory for the record");
    }
    fs::write(file, csv).expect("the record");
    fs::write(file.with_extension("svg"), plot(lines, &format!("{cpu}, {}", date()))).expect("the plot");
}

fn plot(lines: &[Line], where_and_when: &str) -> String {
    let targets = [("map", 150.0), ("unmap", 150.0), ("translate", 60.0)];
    let mut panels = Vec::new();
    for random in [false, true] {
        for (operation, target) in targets {
            let points = |structure: &str| {
                let mine =
                    |l: &&Line| l.structure == structure && l.order == order(random) && l.row.operation == operation;
                lines.iter().filter(mine).filter_map(|l| Some((l.n as f64, l.row.ns.as_ref().ok()?.1))).collect()
            };
            let lines = STRUCTURES.map(|structure| (structure, points(structure)));
            panels.push(plot::Panel { title: format!("{operation}, {}", order(random)), target, lines: lines.into() });
        }
    }
    plot::svg(&panels, 3, &format!("ns an operation (median) by mappings there; {where_and_when}"))
}

/// A little of all, in this process: the cases check what is translated.
fn test() {
    let mut lines = Vec::new();
    for structure in STRUCTURES {
        for (n, random) in [(256, false), (4096, true)] {
            let rows = Case { structure, n, random, rounds: 3 }.run();
            assert_eq!(rows.len(), 4);
            lines.extend(rows.into_iter().map(|row| Line {
                structure: structure.to_owned(),
                order: order(random),
                n,
                row,
            }));
        }
    }
    for structure in [OURS, WALK] {
        assert_eq!(concurrent(structure, 4096, 1, Duration::from_millis(20)).len(), 3);
    }
    assert_eq!(load(4096, 1).len(), 1);
    let row = parsed("map;left out: why;");
    assert_eq!(row.ns, Err("left out: why".to_owned()));
    assert!(plot(&lines, "a test").ends_with("</svg>\n"));
    println!("the structures agree");
}
