//! Runs the program to its end, which must come.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Running, program, wait_for};

/// Longer than any command takes that was refused.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    pub command: String,
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Was it refused with this exit code and a message that holds `text`, and nothing else?
    #[track_caller]
    pub fn refused(&self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(text), "no `{text}` in {self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let messages =
            self.stderr.matches("apiproxy: ").count() + self.stderr.matches("error: ").count();
        assert!(messages == 1, "one message: {self:?}");
    }
}

/// Runs the program with these arguments; panics when it does not end, or does so in a panic.
#[track_caller]
pub fn apiproxy(arguments: &[&str]) -> Outcome {
    outcome(&mut command(arguments))
}

/// The same for any command.
#[track_caller]
pub fn outcome(command: &mut Command) -> Outcome {
    outcome_within(command, PATIENCE)
}

/// The same for one that may take so long.
#[track_caller]
pub fn outcome_within(command: &mut Command, patience: Duration) -> Outcome {
    let text = format!("{command:?}");
    let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    let mut child = Running(command.spawn().unwrap());
    let status = wait_for(&format!("{text} ends"), patience, || child.0.try_wait().unwrap());
    let outcome = Outcome {
        command: text,
        code: status.code(),
        stdout: content(&mut stdout),
        stderr: content(&mut stderr),
    };
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    outcome
}

/// A command without input.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null());
    // The host's own proxy is not to be met.
    command.env("APIPROXY_CONTROL_SOCKET", "");
    command
}

fn content(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}
