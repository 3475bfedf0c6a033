//! QEMU's monitor, of which little is needed: a device is taken away, a device is put back. The protocol is lines of JSON
//! (QMP); what a person would type goes through `human-monitor-command`, which takes properties as the command line has them.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// QEMU answers at once or is stuck.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer that is read, events included.
const MOST: u64 = 1 << 20;

/// Gives QEMU one command, as a person would type it; what it answers is an error.
pub(crate) fn tell(socket: &Path, line: &str) -> Result<(), String> {
    let text = |e: std::io::Error| format!("QEMU's monitor: {e}");
    let mut to = UnixStream::connect(socket).map_err(text)?;
    to.set_read_timeout(Some(LIMIT)).and_then(|()| to.set_write_timeout(Some(LIMIT))).map_err(text)?;
    let mut from = BufReader::new(to.try_clone().map_err(text)?.take(MOST));
    let mut ask = |command: Value| {
        to.write_all(format!("{command}\n").as_bytes()).map_err(text)?;
        answer(&mut from)
    };
    ask(json!({ "execute": "qmp_capabilities" }))?;
    let command = json!({ "execute": "human-monitor-command", "arguments": { "command-line": line } });
    match ask(command)? {
        Value::String(said) if said.trim().is_empty() => Ok(()),
        Value::String(said) => Err(format!("QEMU on `{line}`: {}", said.trim())),
        other => Err(format!("QEMU on `{line}`: {other}")),
    }
}

/// The next answer; greetings and events are passed over.
fn answer(from: &mut impl BufRead) -> Result<Value, String> {
    let mut line = String::new();
    loop {
        line.clear();
        match from.read_line(&mut line) {
            Ok(0) => return Err("QEMU's monitor was closed".to_owned()),
            Ok(_) => {}
            Err(e) => return Err(format!("QEMU's monitor: {e}")),
        }
        let Ok(Value::Object(mut said)) = serde_json::from_str(&line) else {
            return Err(format!("QEMU's monitor said: {}", line.chars().take(200).collect::<String>()));
        };
        if let Some(value) = said.remove("return") {
            return Ok(value);
        }
        if let Some(error) = said.remove("error") {
            return Err(format!("QEMU's monitor: {error}"));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_are_passed_over_and_errors_are_told() {
        let mut said = &b"{\"QMP\":{}}\n{\"event\":\"X\"}\n{\"return\":\"a\"}\n{\"error\":{\"desc\":\"no\"}}\nx\n"[..];
        assert_eq!(answer(&mut said).unwrap(), "a");
        assert!(answer(&mut said).unwrap_err().contains("no"));
        assert!(answer(&mut said).unwrap_err().contains("said: x"));
        assert!(answer(&mut said).unwrap_err().contains("closed"));
    }

    proptest! {
        #[test]
        fn any_answer(text in "(\\{\"(return|error|event)\":)?\\PC{0,20}\n?") {
            let _ = answer(&mut text.as_bytes());
        }
    }
}
