//! `bartender matrix`, as it is run: the table, the JSON, the page.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bartender::matrix::{Agreement, Matrix, Ran};
use bartender::suite::{Case, check};
use bartender::verdict::{Departs, Row, Verdict};
use bartender::{machine, page};
use common::{json, refused, run, stdout};
use hyp::Policy;
use serde_json::Value;

/// An unaligned store to a prefetchable BAR that the guest maps Normal-NC: it works where stage 2 is Normal-NC.
const UNALIGNED: &str = r#"
title = "TITLE"
story = """STORY"""
source = "SOURCE"
[[device]]
name = "nic"
bars = [{ index = 2, size = "1M", prefetchable = true }]
[[map]]
name = "wc"
bar = "nic.2"
type = "normal-nc"
[guest]
program = """
store.4 wc+1, 7
load.4  wc+1 -> x0
"""
[expect]
"linux-6.1 vga follow-vma subregions firmware" = "stage-2 alignment fault"
all = { x0 = 7 }
"#;

fn scenario(title: &str, story: &str, source: &str) -> String {
    UNALIGNED.replace("TITLE", title).replace("STORY", story).replace("SOURCE", source)
}

/// A folder of scenario files, gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, String)]) -> Self {
        let folder = std::env::temp_dir().join(format!("bartender-matrix-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(format!("{name}.toml")), text).unwrap();
        }
        Self(folder)
    }
    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn plain(name: &str) -> Folder {
    let here = |source| scenario("A store that is not aligned", "", source);
    Folder::new(
        name,
        &[
            ("of-thread", here("thread 003, thread 001")),
            ("other", here("thread 003")),
            ("of-arm", here("DDI 0487 B2.8.2")),
        ],
    )
}

/// The tags of a page, in order, with its text checked on the way: strict as XML is, but for the DOCTYPE.
fn tags(page: &str) -> Result<Vec<String>, String> {
    const ENTITIES: [&str; 5] = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
    let entities = |text: &str| {
        let bad = text.match_indices('&').find(|(at, _)| !ENTITIES.iter().any(|e| text[*at..].starts_with(e)));
        bad.map_or(Ok(()), |(at, _)| Err(format!("a bare & in {:?}", text[at..].chars().take(40).collect::<String>())))
    };
    let mut rest = page.strip_prefix("<!DOCTYPE html>").ok_or("no DOCTYPE")?;
    let (mut open, mut all) = (Vec::new(), Vec::new());
    while let Some(at) = rest.find('<') {
        entities(&rest[..at])?;
        // No attribute has a `>` in it: it is escaped.
        let end = rest[at..].find('>').ok_or("a tag without an end")? + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(last) if last == name => {}
                last => return Err(format!("</{name}> closes {last:?}, after {:?}", all.last())),
            }
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
        let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
        if name.is_empty() {
            return Err(format!("a bare < before {tag:?}"));
        }
        let mut attributes = tag[name.len()..].trim_start();
        let mut names = BTreeSet::new();
        while !attributes.is_empty() {
            let (key, value) = attributes.split_once("=\"").ok_or(format!("{attributes:?} in <{tag}>"))?;
            let harmless = |c: char| c.is_ascii_lowercase() || c == '-';
            if key.is_empty() || !(key == "viewBox" || key == "preserveAspectRatio" || key.chars().all(harmless)) {
                return Err(format!("the attribute {key:?} of <{tag}>"));
            }
            if key.starts_with("on") || !names.insert(key) {
                return Err(format!("the attribute {key:?} in <{tag}>"));
            }
            let (value, after) = value.split_once('"').ok_or("an open quote")?;
            entities(value)?;
            attributes = after.trim_start();
        }
        all.push(tag.to_owned());
        if !closed {
            open.push(name);
        }
    }
    entities(rest)?;
    if open.is_empty() { Ok(all) } else { Err(format!("never closed: {open:?}")) }
}

/// The values of an attribute, in order.
fn values<'a>(tags: &'a [String], key: &str) -> Vec<&'a str> {
    let key = format!(" {key}=\"");
    tags.iter().filter_map(|t| t.split_once(&key)?.1.split_once('"').map(|(v, _)| v)).collect()
}

#[test]
fn the_checker_can_fail() {
    for bad in [
        "<p>",
        "<p></b>",
        "<p a=b></p>",
        "<p>&nbsp;</p>",
        "<p onclick=\"x\"></p>",
        "a < b",
        "<br>",
        "<p a=\"1\" a=\"2\"></p>",
    ] {
        assert!(tags(&format!("<!DOCTYPE html>{bad}")).is_err(), "{bad}");
    }
    assert!(tags("<!DOCTYPE html><p class=\"a\">&amp;<br/></p>").is_ok());
}

#[test]
fn the_page_is_well_formed_and_whole() {
    let folder = plain("whole");
    let page = stdout(&["matrix", folder.path(), "--html", "-"]);
    let tags = tags(&page).unwrap();
    let ids: Vec<&str> = values(&tags, "id");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    for name in ["of-thread", "other", "of-arm"] {
        assert!(ids.contains(&format!("s-{name}").as_str()), "{name}");
        for policy in Policy::ALL {
            assert!(ids.contains(&format!("s-{name}.{}", policy.name()).as_str()), "{name} {}", policy.name());
        }
    }
    for policy in Policy::ALL {
        assert!(ids.contains(&format!("p-{}", policy.name()).as_str()));
    }
    // Every link leads to something here, and nothing is loaded from anywhere.
    for to in values(&tags, "href") {
        assert!(to.strip_prefix('#').is_some_and(|id| ids.contains(&id)), "{to}");
    }
    let stands_for = values(&tags, "data-as");
    assert!(!stands_for.is_empty() && stands_for.iter().all(|id| ids.contains(id)), "{stands_for:?}");
    for word in [" src=\"", "url(", "@import", "http:", "https:", "<link", "<iframe"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'"));
    // What each part becomes is said with its reason.
    let cell = |policy: &str| {
        let at = page.find(&format!("id=\"s-other.{policy}\"")).unwrap();
        &page[at..at + page[at..].find("</section>").unwrap()]
    };
    assert!(cell("linux-6.1").contains("Device-nGnRE") && cell("linux-6.1").contains("stage-2 alignment fault"));
    assert!(cell("linux-6.9").contains("VM_ALLOW_ANY_UNCACHED") && cell("linux-6.9").contains("completed"));
    assert!(cell("prefetchable").contains("pgprot_writecombine") && cell("prefetchable").contains("prefetchable: "));
    assert!(cell("x86-ept").contains("EPT UC, IPAT 0"));
}

#[test]
fn the_page_is_the_same_every_time_and_small() {
    let texts: Vec<(String, String)> =
        (0..70).map(|i| (format!("case-{i}"), scenario("A title", "A story of a driver.", "thread 002"))).collect();
    let files: Vec<(&str, String)> = texts.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let folder = Folder::new("same", &files);
    let args = ["matrix", folder.path(), "--html", "-"];
    let page = stdout(&args);
    assert_eq!(page, stdout(&args));
    assert!(page.len() < 1_500_000, "{} bytes for 70 scenarios", page.len());
}

#[test]
fn hostile_files_stay_text() {
    let evil = "</title><script>alert('1')</script><b onclick='x'>&\\u202e";
    let folder = Folder::new(
        "hostile",
        &[
            (
                "<img src=x onerror=alert(1)>",
                scenario(evil, &format!("{evil} ]]> <!--"), &format!("{evil} thread 999")),
            ),
            ("a\u{1b}[31mb\"'&", scenario("harmless", "", "")),
            (&"long-".repeat(40), scenario("harmless", "", "")),
        ],
    );
    let page = stdout(&["matrix", folder.path(), "--html", "-"]);
    let tags = tags(&page).unwrap();
    assert_eq!(tags.iter().filter(|t| t.starts_with("script")).count(), 1);
    assert!(!tags.iter().any(|t| t.starts_with("img") || t.starts_with("b onclick")));
    assert!(page.contains("&lt;/title&gt;&lt;script&gt;alert(&#39;1&#39;)"));
    assert!(!page.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'));
    let ids = values(&tags, "id");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    let text = stdout(&["matrix", folder.path()]);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 120), "{text}");
    assert!(text.contains("…") && text.contains("thread 999"), "{text}");
    assert_eq!(json(&["matrix", folder.path(), "--json"])["scenarios"].as_array().unwrap().len(), 3);
}

/// The counts, as they are in each of the three outputs.
#[test]
fn counts_agree() {
    let folder = plain("counts");
    let it = json(&["matrix", folder.path(), "--json"]);
    let policies = it["policies"].as_array().unwrap();
    assert_eq!(policies.len(), Policy::ALL.len());
    let text = stdout(&["matrix", folder.path()]);
    let page = stdout(&["matrix", folder.path(), "--html", "-"]);
    for asked in ["works", "fast", "safe"] {
        let counted: Vec<String> = policies
            .iter()
            .map(|p| {
                // Counted again from the cells.
                let cells = it["scenarios"].as_array().unwrap().iter().flat_map(|s| s["cells"].as_array().unwrap());
                let mine: Vec<&str> = cells
                    .filter(|c| c["policy"] == p["policy"])
                    .map(|c| c["model"][asked]["is"].as_str().unwrap())
                    .collect();
                let count = |is: &str| mine.iter().filter(|m| **m == is).count();
                for is in ["yes", "maybe", "no", "not asked"] {
                    assert_eq!(p[asked][is], count(is), "{asked} {is} of {}", p["policy"]);
                }
                format!("{}/{}", count("yes"), mine.len() - count("not asked"))
            })
            .collect();
        let line = text.lines().find(|l| l.trim_start().starts_with(asked)).unwrap();
        assert_eq!(line.split_whitespace().skip(1).collect::<Vec<_>>(), counted, "{line}");
        let key = format!("<b data-count=\"{asked}\">");
        let cards: Vec<&str> = page.split(&key).skip(1).map(|p| p.split('<').next().unwrap()).collect();
        assert_eq!(cards, counted);
    }
    let works = |policy: &str| policies.iter().find(|p| p["policy"] == policy).unwrap()["works"]["yes"].clone();
    assert_eq!((works("linux-6.1"), works("linux-6.9")), (Value::from(0), Value::from(3)));
}

#[test]
fn the_table_is_by_thread_and_narrow() {
    let folder = plain("table");
    let text = stdout(&["matrix", folder.path()]);
    assert!(text.lines().all(|l| l.chars().count() <= 120 && !l.ends_with(' ')), "{text}");
    let heads: Vec<&str> = text.lines().filter(|l| ["thread 001", "thread 003", "architecture"].contains(l)).collect();
    assert_eq!(heads, ["thread 003", "architecture"], "{text}");
    let row = text.lines().find(|l| l.trim_start().starts_with("other")).unwrap();
    assert_eq!(row.split_whitespace().count(), 1 + Policy::ALL.len());
    let two = stdout(&["matrix", folder.path(), "--policy", "linux-6.9", "--policy", "linux-6.1"]);
    let row = two.lines().find(|l| l.trim_start().starts_with("other")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().skip(1).collect();
    assert!(cells[0].starts_with('✗') && cells[1].starts_with('✓') && cells.len() == 2, "{row}");
}

#[test]
fn json_says_why() {
    let folder = plain("json");
    let it = json(&["matrix", folder.path(), "--policy", "linux-6.9", "--json"]);
    assert_eq!(it["machines"][0]["machine"], "model");
    let line = &it["scenarios"][0];
    assert_eq!((&line["scenario"], &line["threads"]), (&"of-thread".into(), &serde_json::json!([3, 1])));
    let cell = &line["cells"][0];
    let mapped = &cell["mapped"][0];
    assert_eq!((&mapped["place"], &mapped["stage2"]), (&"nic.2".into(), &"Normal-NC".into()));
    assert!(mapped["why_stage2"].as_str().unwrap().contains("Linux 6.9"));
    assert_eq!((&cell["model"]["verdict"], &cell["model"]["outcome"]), (&"met".into(), &"completed".into()));
    assert_eq!((&cell["model"]["works"]["is"], &cell["model"]["safe"]["is"]), (&"yes".into(), &"yes".into()));
    assert!(cell["model"]["fast"]["because"][0].as_str().unwrap().contains("Write transactions"), "{cell}");
}

#[test]
fn exit_codes_and_refusals() {
    let folder = plain("exit");
    assert_eq!(run(&["matrix", folder.path()]).status.code(), Some(0));
    let wrong = Folder::new("wrong", &[("wrong", scenario("t", "", "").replace("x0 = 7", "x0 = 8"))]);
    for args in [&["--json"] as &[_], &[], &["--html", "-"]] {
        let out = run(&[&["matrix", wrong.path()], args].concat());
        assert_eq!((out.status.code(), out.stderr.is_empty()), (Some(1), true), "{args:?}");
    }
    let text = String::from_utf8(run(&["matrix", wrong.path()]).stdout).unwrap();
    assert!(text.contains("✓!") || text.contains("!\n"), "{text}");
    for (args, says) in [
        (&["--policy", "linux-6.8"] as &[_], "did you mean linux-6"),
        (&["--on", "lab:banana"], "banana"),
        (&["--on", "qemu"], "one of: model"),
        (&["--on", "kvm"], "bartender run --on kvm"),
        (&["--html", "-", "--json"], "both go to stdout"),
        (&["--html", "/no/such/folder/page.html"], "cannot write the page to /no/such/folder/page.html"),
        (&["no-such.toml"], "no-such.toml"),
    ] {
        let message = refused(&[&["matrix", folder.path()], args].concat());
        assert!(message.contains(says), "{args:?}: {message}");
    }
    // In a folder without a folder `scenarios`.
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_bartender"))
        .arg("matrix")
        .current_dir(&folder.0)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8(out.stderr).unwrap().contains("there is no folder `scenarios` here"));
}

#[test]
fn the_page_goes_to_a_file_beside_the_table() {
    let folder = plain("file");
    let file = folder.0.join("page.html");
    let text = stdout(&["matrix", folder.path(), "--html", file.to_str().unwrap()]);
    assert_eq!(text, stdout(&["matrix", folder.path()]));
    assert_eq!(fs::read_to_string(file).unwrap(), stdout(&["matrix", folder.path(), "--html", "-"]));
}

/// What real machines saw is put beside the model's: the worst is the cell's mark, and decides.
#[test]
fn machines_beside_the_model() {
    let text = scenario("t", "", "thread 002");
    let case =
        Case { name: "one".into(), path: Path::new("one.toml").into(), scenario: check("one", &text).unwrap(), text };
    let cases = [case];
    let policies = [Policy::Linux6_1, Policy::Linux6_9];
    let model = machine::on_model(&cases, &policies);
    let saw = |machine: &str, verdict, finding: Option<&'static str>| {
        let departs = finding.map(|finding| Departs { finding, says: "It departs." });
        Row { machine: machine.into(), verdict, departs, ..model[1].clone() }
    };
    let with = |rows: &[Row]| {
        let all = model.iter().chain(rows).cloned().collect();
        let machines = ["model", "a", "b"].map(|m| Ran { machine: m.into(), about: "emulated".into() });
        Matrix::new(&cases, &policies, machines.into(), all)
    };
    let cannot = Row::cannot(&cases[0], Policy::Linux6_9, "a", "it has no such device".into());
    for (rows, says, mark, holds) in [
        (vec![], Agreement::NotAsked, ' ', true),
        (vec![cannot.clone()], Agreement::Cannot, '–', true),
        (vec![cannot, saw("b", Verdict::Met, None)], Agreement::Agree, '=', true),
        (vec![saw("a", Verdict::Met, Some("f")), saw("b", Verdict::Met, None)], Agreement::Finding, '≈', true),
        (vec![saw("a", Verdict::Unmet, None), saw("b", Verdict::Met, Some("f"))], Agreement::Differ, '≠', false),
    ] {
        let matrix = with(&rows);
        let [other, cell] = matrix.scenarios[0].cells.as_slice() else { panic!() };
        assert_eq!(other.agreement(), Agreement::NotAsked);
        assert_eq!((cell.agreement(), cell.mark(), matrix.holds()), (says, mark, holds));
        let page = page::page(&matrix);
        tags(&page).unwrap();
        assert_eq!(page.matches("What each machine saw").count(), usize::from(!rows.is_empty()));
    }
    // A row under a policy that was not asked for has no cell.
    let elsewhere = Row { policy: "vga", verdict: Verdict::Unmet, ..saw("a", Verdict::Unmet, None) };
    assert!(with(&[elsewhere]).holds());
}
