//! The scenarios of a run: found, read, checked.

use std::path::{Path, PathBuf};
use std::{fs, io};

use hyp::Policy;
use platform::errata;
use scenario::Scenario;

use crate::input::unknown;

/// Most files of one run.
const MOST: usize = 4096;
/// Deepest folder that is looked into.
const DEEPEST: u32 = 8;

/// A scenario, and the file it comes from.
#[derive(Debug)]
pub struct Case {
    /// The file's name without its ending.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
    /// What that says.
    pub scenario: Scenario,
}

/// Reads every scenario file named and, of the folders named, every `.toml` file in them, sorted by path.
///
/// # Errors
/// Everything that is wrong with any of them, one message.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Case>, String> {
    let mut files = Vec::new();
    for path in paths {
        let found = files.len();
        collect(path, 0, &mut files).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        if files.len() == found {
            return Err(format!("{} holds no scenario: a folder needs files that end in .toml", path.display()));
        }
    }
    files.dedup();
    if files.len() > MOST {
        return Err(format!("{} scenario files: at most {MOST} make one run; name a smaller folder", files.len()));
    }
    let mut cases: Vec<Case> = Vec::with_capacity(files.len());
    let mut wrong = Vec::new();
    for path in files {
        match read(&path) {
            Ok(case) => match cases.iter().find(|c| c.name == case.name) {
                Some(twin) => wrong.push(format!(
                    "{} and {} have the same name: rename one, a run tells scenarios apart by their file's name",
                    twin.path.display(),
                    case.path.display()
                )),
                None => cases.push(case),
            },
            Err(error) => wrong.push(error),
        }
    }
    if wrong.is_empty() { Ok(cases) } else { Err(wrong.join("\n\n")) }
}

fn collect(path: &Path, depth: u32, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)?.map(|e| Ok(e?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for entry in entries {
        let is_dir = fs::metadata(&entry)?.is_dir();
        if is_dir && depth < DEEPEST || !is_dir && entry.extension().is_some_and(|e| e == "toml") {
            collect(&entry, depth + 1, files)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Case, String> {
    let shown = path.display().to_string();
    let length = fs::metadata(path).map_err(|e| format!("cannot read {shown}: {e}"))?.len();
    if length > scenario::file::MAX_BYTES as u64 {
        return Err(format!("{shown} has {length} bytes: a scenario has at most {}", scenario::file::MAX_BYTES));
    }
    let text = fs::read_to_string(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    let scenario = check(&shown, &text)?;
    let name = path.file_stem().map_or_else(|| shown.clone(), |s| s.to_string_lossy().into_owned());
    Ok(Case { name, path: path.to_owned(), text, scenario })
}

/// Parses a scenario and checks what only the layers above its format know: the policies.
///
/// # Errors
/// With the file's name, the line, and what would be right.
pub fn check(name: &str, text: &str) -> Result<Scenario, String> {
    let mut scenario = scenario::parse(name, text).map_err(|e| e.to_string())?;
    if let Some(erratum) = &scenario.erratum {
        let found = errata::named(erratum).ok_or_else(|| {
            let names: Vec<&str> = errata::all().iter().map(|e| e.name.as_str()).collect();
            unknown(&format!("{name}: [platform] erratum"), erratum, &names)
        })?;
        scenario.platform = found.apply(scenario.platform);
    }
    let names: Vec<&str> = Policy::ALL.iter().map(|p| p.name()).collect();
    for (policy, line, _) in &scenario.expect.by_policy {
        if !names.contains(&policy.as_str()) {
            let what = format!("{name}:{line}: [expect] by policy");
            return Err(unknown(&what, policy, &names));
        }
    }
    if let Some(silent) = names.iter().find(|n| scenario.expect.under(n).is_empty()) {
        return Err(format!(
            "{name}: [expect] says nothing about the policy {silent}\n   = add `\"{silent}\" = ...`, or `all = ...` for \
             every policy it does not name"
        ));
    }
    Ok(scenario)
}
