//! What `inspect` predicted beside what `probe` found, from the JSON of both. Pure: any JSON is taken.

use lab::script::{Judged, Step};
use serde::Serialize;
use serde_json::Value;

/// One way to map one BAR of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The device's name in the lab.
    pub device: String,
    /// The BAR.
    pub bar: u64,
    /// The way, as `probe` names it.
    pub way: String,
    /// The type `inspect` predicts; nothing where it says that the way cannot be had now.
    pub predicted: Option<String>,
    /// What was found.
    pub found: String,
    /// Whether that is the same.
    pub same: Same,
}

/// Whether it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Same {
    /// It is: seen by behaviour, or both say that it cannot be had.
    Yes,
    /// It is as far as can be seen: why nothing says more.
    Open(String),
    /// It is not: how.
    No(String),
}

/// A way of `probe`, and the same of `inspect`.
const WAYS: [(&str, &str); 4] =
    [("vfio-group", "vfio"), ("vfio-cdev", "vfio"), ("sysfs", "sysfs"), ("sysfs-write-combine", "sysfs-write-combine")];

/// A row for each mapping that `probe` tried, in the order of the script. `devices` are the names with their addresses.
#[must_use]
pub fn rows(devices: &[(String, String)], lines: &[Judged]) -> Vec<Row> {
    let json = |line: &Judged| serde_json::from_str::<Value>(&line.ran.as_ref()?.out).ok();
    let words = |line: &Judged| match &line.line.step {
        Step::Run { words, .. } => words.clone(),
        _ => Vec::new(),
    };
    let inspected = lines.iter().find(|line| words(line).first().is_some_and(|word| word == "inspect"));
    let inspected = inspected.and_then(json).unwrap_or(Value::Null);
    let mut rows = Vec::new();
    for line in lines {
        let words = words(line);
        let [probe, device, bar, ..] = &words[..] else { continue };
        let name = device.trim_start_matches('{').trim_end_matches('}');
        let Some((_, bdf)) = devices.iter().find(|(id, _)| id == name).filter(|_| probe == "probe") else { continue };
        let probed = json(line).unwrap_or(Value::Null);
        let mappings = probed["mappings"].as_array().cloned().unwrap_or_default();
        let bar: u64 = bar.parse().unwrap_or(u64::MAX);
        let layers = inspected["layers"][bdf][bar.to_string()].as_array().cloned().unwrap_or_default();
        let before = rows.len();
        rows.extend(mappings.iter().filter_map(|mapping| row(name, bar, &layers, mapping)));
        if rows.len() == before {
            let err = line.ran.as_ref().map(|ran| ran.err.trim().to_owned()).unwrap_or_default();
            rows.push(Row {
                device: name.to_owned(),
                bar,
                way: "-".to_owned(),
                predicted: None,
                found: if err.is_empty() { "nothing".to_owned() } else { err },
                same: Same::No("the probe says nothing of it".to_owned()),
            });
        }
    }
    rows
}

fn row(device: &str, bar: u64, layers: &[Value], mapping: &Value) -> Option<Row> {
    let way = mapping["way"].as_str()?;
    let (_, planned) = WAYS.iter().find(|(probed, _)| *probed == way)?;
    let layer = layers.iter().find(|layer| layer["way"] == *planned).unwrap_or(&Value::Null);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (ty, blocked) = (text(&layer["vma"]["ty"]), text(&layer["available"]["why"]));
    let (predicted_there, not_mapped) = (text(&mapping["predicted"]), text(&mapping["not_mapped"]));
    let (found, same) = match (&blocked, &not_mapped) {
        _ if layer.is_null() => ("-".to_owned(), Same::No("inspect says nothing of it".to_owned())),
        (Some(_), Some(_)) => ("cannot be had".to_owned(), Same::Yes),
        // There are two ways to open VFIO, and inspect says only whether there is one.
        (None, Some(why)) if way == "vfio-cdev" || way == "vfio-group" && other_way(why) => {
            ("cannot be had".to_owned(), Same::Open(why.clone()))
        }
        (None, Some(why)) => ("cannot be had".to_owned(), Same::No(format!("inspect says it can; probe: {why}"))),
        (Some(why), None) => ("mapped".to_owned(), Same::No(format!("inspect says it cannot: {why}"))),
        (None, None) if ty != predicted_there => {
            let other = predicted_there.unwrap_or_else(|| "nothing".to_owned());
            ("mapped".to_owned(), Same::No(format!("probe itself predicts {other}")))
        }
        (None, None) => seen(ty.as_deref(), mapping),
    };
    let predicted = if blocked.is_some() { None } else { ty };
    Some(Row { device: device.to_owned(), bar, way: way.to_owned(), predicted, found, same })
}

/// A kernel that has cdevs may have no groups.
fn other_way(why: &str) -> bool {
    why.contains("VFIO_GROUP")
}

/// What was seen of a mapping beside its predicted type: on arm64 by the unaligned load, on x86 by the kernel's list.
fn seen(ty: Option<&str>, mapping: &Value) -> (String, Same) {
    let Some(ty) = ty else { return ("mapped".to_owned(), Same::No("inspect predicts no type".to_owned())) };
    if let Some(why) = mapping["agreement"]["differs"].as_object() {
        let seen = why.get("seen").and_then(Value::as_str).unwrap_or("something else");
        return (seen.to_owned(), Same::No("probe says that it differs".to_owned()));
    }
    // Whatever the type: bytes that came back as others, or could not be put back.
    let report = &mapping["report"];
    let corrupt = |test: &Value| test["verdict"].as_str().is_some_and(|verdict| verdict.starts_with("corrupt"));
    if report["tests"].as_array().is_some_and(|tests| tests.iter().any(corrupt)) {
        return ("corrupt".to_owned(), Same::No("bytes came back as others".to_owned()));
    }
    if report["restored"] == false {
        return ("not put back".to_owned(), Same::No("what was there could not be put back".to_owned()));
    }
    let verdict = |found: &str, same: bool| {
        let same = if same { Same::Yes } else { Same::No(format!("{ty} is something else")) };
        (found.to_owned(), same)
    };
    if let Some(name) = ty.strip_prefix("arm64:") {
        let device = name.starts_with("device");
        match mapping["report"]["kind"].as_str() {
            Some("device") => return verdict("an unaligned load faults", device),
            Some("normal") => return verdict("an unaligned load works", !device),
            _ => {}
        }
    } else if let Some(name) = ty.strip_prefix("x86:") {
        match mapping["listed"].as_str() {
            Some(listed @ ("uncached" | "uncached-minus")) => {
                return verdict(&format!("listed {listed}"), name == "uc");
            }
            Some(listed) => return verdict(&format!("listed {listed}"), listed == "write-combining" && name == "wc"),
            None => {}
        }
    }
    let why = mapping["agreement"]["open"].as_str().unwrap_or("nothing was seen that could say");
    ("mapped".to_owned(), Same::Open(why.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lab::script::{Line, Ran};
    use proptest::prelude::*;
    use serde_json::json;

    fn judged(words: &[&str], out: &Value) -> Judged {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let step = Step::Run { words, nobody: false, name: None };
        let ran = Ran { out: out.to_string(), ..Ran::default() };
        Judged { line: Line { number: 1, text: String::new(), step }, ran: Some(ran), wrong: None }
    }

    fn one(layer: Value, mapping: Value) -> Same {
        let inspected = json!({ "layers": { "0000:00:10.0": { "2": [layer] } } });
        let probed = json!({ "mappings": [mapping] });
        let lines = [judged(&["inspect", "--json"], &inspected), judged(&["probe", "{mem}", "2"], &probed)];
        let rows = rows(&[("mem".to_owned(), "0000:00:10.0".to_owned())], &lines);
        assert_eq!(rows.len(), 1);
        rows.into_iter().next().unwrap().same
    }

    #[test]
    fn what_differs_is_seen() {
        let layer = |ty: &str| json!({ "way": "sysfs", "available": { "ok": true }, "vma": { "ty": ty } });
        let mapping = |ty: &str, kind: &str| json!({ "way": "sysfs", "predicted": ty, "report": { "kind": kind } });
        let (device, normal) = ("arm64:device-ngnre", "arm64:normal-nc");
        assert_eq!(one(layer(device), mapping(device, "device")), Same::Yes);
        assert_eq!(one(layer(normal), mapping(normal, "normal")), Same::Yes);
        assert!(matches!(one(layer(normal), mapping(normal, "device")), Same::No(_)));
        assert!(matches!(one(layer(device), mapping(device, "normal")), Same::No(_)));
        assert!(matches!(one(layer(device), mapping(normal, "normal")), Same::No(_)));
        assert!(matches!(one(layer(device), mapping(device, "unknown")), Same::Open(_)));
        let refused = json!({ "way": "sysfs", "predicted": device, "not_mapped": "no" });
        assert!(matches!(one(layer(device), refused.clone()), Same::No(_)));
        let blocked = json!({ "way": "sysfs", "available": { "ok": false, "why": "off" }, "vma": { "ty": device } });
        assert_eq!(one(blocked.clone(), refused), Same::Yes);
        assert!(matches!(one(blocked, mapping(device, "device")), Same::No(_)));
        assert!(matches!(one(Value::Null, mapping(device, "device")), Same::No(_)));
    }

    #[test]
    fn bytes_that_are_lost_are_no_agreement() {
        let ty = "arm64:normal-nc";
        let layer = json!({ "way": "sysfs", "available": { "ok": true }, "vma": { "ty": ty } });
        let mapping = |report: Value| json!({ "way": "sysfs", "predicted": ty, "report": report });
        let fine = json!({ "kind": "normal", "restored": true, "tests": [{ "verdict": "observed-always(4)" }] });
        assert_eq!(one(layer.clone(), mapping(fine)), Same::Yes);
        for report in [
            json!({ "kind": "normal", "restored": true, "tests": [{ "verdict": "corrupt(2)" }] }),
            json!({ "kind": "normal", "restored": false, "tests": [] }),
        ] {
            assert!(matches!(one(layer.clone(), mapping(report)), Same::No(_)));
        }
    }

    #[test]
    fn the_list_of_x86_is_read() {
        let layer =
            |ty: &str| json!({ "way": "sysfs-write-combine", "available": { "ok": true }, "vma": { "ty": ty } });
        let mapping =
            |ty: &str, listed: &str| json!({ "way": "sysfs-write-combine", "predicted": ty, "listed": listed });
        assert_eq!(one(layer("x86:wc"), mapping("x86:wc", "write-combining")), Same::Yes);
        assert_eq!(one(layer("x86:uc"), mapping("x86:uc", "uncached-minus")), Same::Yes);
        for (ty, listed) in [("x86:wc", "uncached-minus"), ("x86:uc", "write-combining"), ("x86:wc", "write-back")] {
            assert!(matches!(one(layer(ty), mapping(ty, listed)), Same::No(_)), "{ty} {listed}");
        }
    }

    #[test]
    fn a_probe_that_says_nothing_is_no_agreement() {
        let lines = [judged(&["probe", "{mem}", "2"], &Value::Null)];
        let rows = rows(&[("mem".to_owned(), "0000:00:10.0".to_owned())], &lines);
        assert!(matches!(rows[0].same, Same::No(_)));
    }

    proptest! {
        #[test]
        fn any_output_is_taken(text in "\\PC{0,60}", bar in "\\PC{0,4}") {
            let mut line = judged(&["probe", "{mem}", &bar], &Value::Null);
            line.ran.as_mut().unwrap().out = text;
            let lines = [judged(&["inspect"], &json!({ "layers": [] })), line];
            prop_assert_eq!(rows(&[("mem".to_owned(), "x".to_owned())], &lines).len(), 1);
        }
    }
}
