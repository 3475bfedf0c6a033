//! The built command, run as people run it: what every test of a command needs.
#![allow(dead_code, clippy::unwrap_used, reason = "each test program uses a part of it")]

use std::process::{Command, Output};

use serde_json::Value;

/// With these arguments, and no colour asked for.
pub(crate) fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartender"));
    command.args(args).env_remove("CLICOLOR_FORCE").env_remove("NO_COLOR").output().unwrap()
}

/// What it prints, which is all it has to say: exit code 0 and nothing on stderr.
pub(crate) fn stdout(args: &[&str]) -> String {
    let out = run(args);
    assert_eq!(out.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stderr.is_empty(), "{args:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// The same as a JSON value.
pub(crate) fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(args)).unwrap()
}

/// Bad input: exit code 2, nothing on stdout, and a message.
pub(crate) fn refused(args: &[&str]) -> String {
    let out = run(args);
    assert_eq!(out.status.code(), Some(2), "{args:?}");
    assert!(out.stdout.is_empty(), "{args:?}");
    let message = String::from_utf8(out.stderr).unwrap();
    assert!(message.starts_with("error: "), "{args:?}: {message}");
    message
}
