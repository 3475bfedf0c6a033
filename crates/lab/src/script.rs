//! What an emulated host is to do, line by line: command lines of this program, and what happens around them.

use serde::{Deserialize, Serialize};

/// Lines of a script that are read.
const MOST_LINES: usize = 500;
/// Bytes of one line.
const LONGEST: usize = 4000;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number in the file.
    pub number: usize,
    /// As it was written.
    pub text: String,
    /// What it asks for.
    pub step: Step,
}

/// What one line asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Run this program with these words.
    Run {
        /// Its arguments.
        words: Vec<String>,
        /// As a user without any right.
        nobody: bool,
        /// Under this name, without waiting for its end.
        name: Option<String>,
    },
    /// Wait until what runs in the background has printed a text.
    Until {
        /// Its name.
        name: String,
        /// The text.
        text: String,
    },
    /// End its standard input, and wait for its end.
    Wait {
        /// Its name.
        name: String,
    },
    /// End it with SIGKILL, and wait for its end.
    Kill {
        /// Its name.
        name: String,
    },
    /// Ask for a device to be taken away, as its button does; the kernel gives it up when it can.
    Unplug {
        /// The device.
        device: String,
    },
    /// Wait until the kernel knows the device no more.
    Gone {
        /// The device.
        device: String,
    },
    /// Put a device back, wait until the kernel knows it, and bind it as it was at the start.
    Plug {
        /// The device.
        device: String,
    },
    /// Bind a device to another driver, or to none.
    Bind {
        /// The device.
        device: String,
        /// To what.
        driver: Driver,
    },
    /// Let time pass.
    Sleep {
        /// Milliseconds.
        ms: u64,
    },
    /// Print a file.
    Cat {
        /// Its path.
        path: String,
    },
    /// Write a file.
    Write {
        /// Its path.
        path: String,
        /// What.
        text: String,
    },
    /// Print what the kernel has logged.
    Log,
    /// No process may have a device of VFIO or a PCI resource file open or mapped.
    Unheld,
    /// The command before ended with this code; a signal is negative.
    ExpectExit {
        /// The code.
        code: i32,
    },
    /// What was printed last has this text in it, or has not.
    Expect {
        /// The text.
        text: String,
        /// Or not.
        there: bool,
    },
    /// A heading for what follows.
    Title {
        /// The text.
        text: String,
    },
}

/// What a device is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// vfio-pci.
    #[default]
    Vfio,
    /// None at all.
    Unbound,
}

impl Driver {
    fn of(name: &str) -> Option<Self> {
        match name {
            "vfio" => Some(Self::Vfio),
            "unbound" => Some(Self::Unbound),
            _ => None,
        }
    }
}

/// The steps that begin with `@`, as a help text.
pub const STEPS: &str = "\
COMMAND...                  run bartender with these words; it must end with 0 unless @expect-exit follows
@as nobody COMMAND...       the same without any right
@background NAME COMMAND... the same without waiting for its end
@until NAME TEXT            wait until what runs in the background has printed TEXT
@wait NAME, @kill9 NAME     end its input and wait for its end, or end it
@unplug DEVICE              ask for a device behind a port to be taken away, as its button does
@gone DEVICE                wait until the kernel knows it no more
@plug DEVICE                put it back, and bind it as at the start
@bind DEVICE vfio|unbound   bind it to vfio-pci, or to no driver
@sleep MS                   let time pass
@cat PATH, @write PATH TEXT a file of the emulated host
@log                        what its kernel has logged
@unheld                     no process holds a VFIO device or a PCI resource file
@expect-exit N              the command before ended with N (-9: killed)
@expect TEXT                what was printed last has TEXT in it
@expect-not TEXT            it has not
@title TEXT                 a heading";

/// Reads a script; `devices` are the names that may stand in braces.
///
/// # Errors
/// The line and what would be right.
pub fn parse(text: &str, devices: &[&str]) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let wrong = |why: String| format!("line {number}: {why}");
        if lines.len() >= MOST_LINES || text.len() > LONGEST {
            return Err(wrong(format!("a script has at most {MOST_LINES} steps of {LONGEST} bytes")));
        }
        // A heading is prose, apostrophes and all.
        let step = match text.strip_prefix("@title ") {
            Some(title) => Step::Title { text: title.trim().to_owned() },
            None => words(text).and_then(|words| step(&words, devices)).map_err(wrong)?,
        };
        lines.push(Line { number, text: text.to_owned(), step });
    }
    Ok(lines)
}

/// One command line as a script of its own.
///
/// # Errors
/// A name in braces that is no device.
pub fn single(words: &[String], nobody: bool, devices: &[&str]) -> Result<Vec<Line>, String> {
    let step = run(words, nobody, None, devices)?;
    Ok(vec![Line { number: 1, text: words.join(" "), step }])
}

/// The words of a line, as a shell splits them: quotes of both kinds, no escapes.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for c in text.chars() {
        match (c, quote) {
            (_, Some(q)) if c == q => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '\t', None) => all.extend(word.take()),
            (_, None) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(q) = quote {
        return Err(format!("a {q} is not closed"));
    }
    all.extend(word);
    Ok(all)
}

fn step(words: &[String], devices: &[&str]) -> Result<Step, String> {
    let Some((first, rest)) = words.split_first() else { return Err("it says nothing".to_owned()) };
    let Some(name) = first.strip_prefix('@') else { return run(words, false, None, devices) };
    let device = |word: &String| match devices.contains(&word.as_str()) {
        true => Ok(word.clone()),
        false => Err(no_device(word, devices)),
    };
    let number = |word: &String| word.parse::<i64>().map_err(|_| format!("`{word}` is no number"));
    Ok(match (name, rest) {
        ("as", [user, words @ ..]) if user == "nobody" => run(words, true, None, devices)?,
        ("background", [name, words @ ..]) => run(words, false, Some(name.clone()), devices)?,
        ("until", [name, text @ ..]) if !text.is_empty() => Step::Until { name: name.clone(), text: text.join(" ") },
        ("wait", [name]) => Step::Wait { name: name.clone() },
        ("kill9", [name]) => Step::Kill { name: name.clone() },
        ("unplug", [word]) => Step::Unplug { device: device(word)? },
        ("gone", [word]) => Step::Gone { device: device(word)? },
        ("plug", [word]) => Step::Plug { device: device(word)? },
        ("bind", [word, driver]) => Step::Bind {
            device: device(word)?,
            driver: Driver::of(driver).ok_or_else(|| format!("`{driver}` is neither `vfio` nor `unbound`"))?,
        },
        ("sleep", [ms]) => Step::Sleep {
            ms: u64::try_from(number(ms)?)
                .ok()
                .filter(|ms| *ms <= 60_000)
                .ok_or("it sleeps 0 to 60000 milliseconds")?,
        },
        ("cat", [path]) => Step::Cat { path: path.clone() },
        ("write", [path, text]) => Step::Write { path: path.clone(), text: text.clone() },
        ("log", []) => Step::Log,
        ("unheld", []) => Step::Unheld,
        ("expect-exit", [code]) => {
            Step::ExpectExit { code: i32::try_from(number(code)?).map_err(|_| format!("`{code}` is no exit code"))? }
        }
        ("expect", text @ [_, ..]) => Step::Expect { text: text.join(" "), there: true },
        ("expect-not", text @ [_, ..]) => Step::Expect { text: text.join(" "), there: false },
        _ => return Err(format!("`{}` is no step; these are:\n{STEPS}", words.join(" "))),
    })
}

fn run(words: &[String], nobody: bool, name: Option<String>, devices: &[&str]) -> Result<Step, String> {
    if words.is_empty() {
        return Err("there is no command to run".to_owned());
    }
    for word in words {
        for place in places(word) {
            if place != OUT && place != FILES && !devices.contains(&place) {
                return Err(no_device(place, devices));
            }
        }
    }
    Ok(Step::Run { words: words.to_vec(), nobody, name })
}

fn no_device(name: &str, devices: &[&str]) -> String {
    let all = if devices.is_empty() { "there are none, see --device".to_owned() } else { devices.join(", ") };
    format!("`{name}` is no device of this host: {all}")
}

/// The folder whose files are brought back.
pub(crate) const OUT: &str = "out";
/// The folder with the files that came along.
pub(crate) const FILES: &str = "files";

/// The names in braces.
fn places(word: &str) -> impl Iterator<Item = &str> {
    word.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).filter(|name| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

/// The word with the names in braces replaced by what they stand for.
pub(crate) fn filled(word: &str, of: impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        match after.split_once('}').and_then(|(name, end)| Some((of(name)?, end))) {
            Some((value, end)) => {
                text.push_str(&value);
                rest = end;
            }
            None => {
                text.push('{');
                rest = after;
            }
        }
    }
    text + rest
}

/// What came of one line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ran {
    /// The line's place in the script, from 0.
    pub step: usize,
    /// Of a command that ended: its code, or minus the signal.
    pub exit: Option<i32>,
    /// What it printed.
    pub out: String,
    /// And to its standard error.
    pub err: String,
    /// Milliseconds.
    pub ms: u64,
    /// Why the step itself could not be done.
    pub failed: Option<String>,
}

/// A line with what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// The line.
    pub line: Line,
    /// What came of it; nothing for an expectation, and where the host did not come so far.
    pub ran: Option<Ran>,
    /// What is wrong, if something is.
    pub wrong: Option<String>,
}

/// Puts lines and what came of them together, and says what is not as expected.
#[must_use]
pub fn judge(lines: &[Line], all: &[Ran]) -> Vec<Judged> {
    let mut last: Option<&Ran> = None;
    let of = |index: usize| all.iter().find(|ran| ran.step == index);
    let judged = lines.iter().enumerate().map(|(index, line)| {
        let ran = of(index);
        let before = last;
        last = ran.or(last);
        let said = |ran: &Ran| format!("{}{}", ran.out, ran.err);
        let wrong = match (&line.step, ran) {
            (Step::Title { .. }, _) => None,
            (Step::ExpectExit { code }, _) => match before.map(|ran| ran.exit) {
                Some(Some(exit)) if exit == *code => None,
                Some(Some(exit)) => Some(format!("it ended with {exit}")),
                _ => Some("no command ended before".to_owned()),
            },
            (Step::Expect { text, there }, _) => match before.map(said) {
                Some(said) if said.contains(text) == *there => None,
                Some(_) if *there => Some("it was not printed".to_owned()),
                Some(_) => Some("it was printed".to_owned()),
                None => Some("nothing was printed before".to_owned()),
            },
            (_, None) => Some("the emulated host did not come so far".to_owned()),
            (_, Some(Ran { failed: Some(why), .. })) => Some(why.clone()),
            (Step::Run { name: None, .. } | Step::Wait { .. } | Step::Kill { .. }, Some(ran)) => {
                let asked = lines[index + 1..]
                    .iter()
                    .take_while(|next| matches!(next.step, Step::Expect { .. } | Step::ExpectExit { .. }))
                    .any(|next| matches!(next.step, Step::ExpectExit { .. }));
                let killed = matches!(line.step, Step::Kill { .. }) && ran.exit == Some(-9);
                match ran.exit {
                    _ if asked || killed => None,
                    Some(0) => None,
                    Some(exit) => Some(format!("it ended with {exit}")),
                    None => Some("it did not end".to_owned()),
                }
            }
            _ => None,
        };
        Judged { line: line.clone(), ran: ran.cloned(), wrong }
    });
    judged.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEVICES: [&str; 2] = ["edu", "mem"];

    #[test]
    fn a_script_is_read() {
        let text = "# a comment\n\n@title the host's\ninspect {edu} --json\n@as nobody inspect\n@background one map {mem} 2 --hold \"a b\"\n\
            @until one ready now\n@kill9 one\n@unplug edu\n@expect-exit -9\n";
        let lines = parse(text, &DEVICES).unwrap();
        assert_eq!(lines.len(), 8);
        assert_eq!((lines[0].number, &lines[0].step), (3, &Step::Title { text: "the host's".into() }));
        let Step::Run { words, name, .. } = &lines[3].step else { panic!() };
        assert_eq!((words.last().unwrap().as_str(), name.as_deref()), ("a b", Some("one")));
        assert_eq!(lines[4].step, Step::Until { name: "one".into(), text: "ready now".into() });
        assert_eq!(lines[7].step, Step::ExpectExit { code: -9 });
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, says) in [
            ("inspect\n@unplug nvme", "line 2: `nvme` is no device"),
            ("inspect {nvme}", "edu, mem"),
            ("@fly", "these are:"),
            ("@sleep 1h", "no number"),
            ("@sleep 99999999", "60000"),
            ("map \"x", "not closed"),
            ("@background a", "no command"),
            ("@bind edu nvme", "neither"),
        ] {
            let message = parse(text, &DEVICES).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
        assert!(parse(&"inspect\n".repeat(501), &[]).is_err());
        assert!(parse(&"i".repeat(5000), &[]).is_err());
    }

    #[test]
    fn names_are_filled_in() {
        let of = |name: &str| (name == "edu").then(|| "0000:00:10.0".to_owned());
        assert_eq!(filled("{edu}:{x}{{edu}}{", of), "0000:00:10.0:{x}{0000:00:10.0}{");
    }

    #[test]
    fn an_exit_that_nobody_expects_is_wrong() {
        let text = "a\n@expect-exit 1\nb\nc\n@expect yes\n@expect-exit 2\nd\n@expect-not no";
        let lines = parse(text, &[]).unwrap();
        let ran = |step, exit, out: &str| Ran { step, exit: Some(exit), out: out.into(), ..Ran::default() };
        let judged = judge(&lines, &[ran(0, 1, ""), ran(2, 1, ""), ran(3, 2, "oh yes"), ran(6, 0, "no")]);
        let wrong: Vec<usize> = judged.iter().filter(|j| j.wrong.is_some()).map(|j| j.line.number).collect();
        assert_eq!(wrong, [3, 8]);
        // A host that stopped in the middle is not one that passed.
        assert!(judge(&lines, &[]).iter().all(|j| j.wrong.is_some()));
    }

    proptest! {
        #[test]
        fn any_text_is_a_script_or_not(text in "(@?[a-z0-9-]{0,12}[ \t{}\"'\n]{0,2}\\PC{0,3}){0,12}") {
            if let Ok(lines) = parse(&text, &DEVICES) {
                prop_assert_eq!(judge(&lines, &[]).len(), lines.len());
            }
            let _ = filled(&text, |name| Some(name.to_owned()));
        }
    }
}
