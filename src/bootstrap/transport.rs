//! How a host is reached: commands and files, by whatever means.

mod files;
mod line;
mod local;
mod quote;
#[cfg(test)]
pub mod recording;
mod ssh;
mod supervisor;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use local::Local;
pub use ssh::{Dialer, Dialing, Ssh};

/// How long a command may take unless it says otherwise.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A command on a host, run as root.
///
/// Arguments are visible to every user of the host and are logged: secrets go to `stdin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments; no shell reads them.
    pub argv: Vec<String>,
    /// What it reads, never logged.
    pub stdin: Option<Secret>,
    /// How long it may take. It is killed then.
    pub timeout: Duration,
}

impl Command {
    /// A command of these words, without input.
    pub fn new<W: Into<String>>(argv: impl IntoIterator<Item = W>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { argv, stdin: None, timeout: PATIENCE }
    }

    /// A script for `sh -eu`; `$1` and on are the arguments.
    pub fn script<W: Into<String>>(script: &str, arguments: impl IntoIterator<Item = W>) -> Self {
        let head = ["sh", "-euc", script, "sh"].map(String::from);
        Self::new(head.into_iter().chain(arguments.into_iter().map(Into::into)))
    }

    /// The command in one short line, for error messages: of a script, its first line.
    pub fn brief(&self) -> String {
        let script = match self.argv.as_slice() {
            [sh, flags, script, ..] if sh == "sh" && flags == "-euc" => script,
            words => return words.join(" "),
        };
        let script = script.trim();
        let line = script.lines().next().unwrap_or_default().trim_start_matches("# ");
        let mut brief: String = line.chars().take(60).collect();
        if brief.len() < script.len() {
            brief += " ..";
        }
        brief
    }

    /// The same command, reading this.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(Secret(bytes.into()));
        self
    }

    /// The same command with another limit of time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Bytes that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// What a command that ran to its end left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; 128 + N if signal N ended it.
    pub code: i32,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Did it succeed?
    pub fn ok(&self) -> bool {
        self.code == 0
    }

    /// Its standard output as text, without white space at the ends.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// The last lines that it wrote to standard error, in one: what an error message shows.
    pub fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }
}

/// A file as it should be on a host.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Where; absolute.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Its permissions, such as 0o600.
    pub mode: u32,
    /// Its owner and group, by name.
    pub owner: (String, String),
    /// May a diff or a log show what is in it?
    pub secret: bool,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({}, {:o}, {} bytes)", self.path, self.mode, self.content.len())
    }
}

impl File {
    /// A file of root that everyone may read.
    pub fn new(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        let owner = ("root".to_owned(), "root".to_owned());
        let (path, content) = (path.into(), content.into());
        Self { path, content, mode: 0o644, owner, secret: false }
    }

    /// A file that only root may read and that no diff shows.
    pub fn secret(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { mode: 0o600, secret: true, ..Self::new(path, content) }
    }

    /// The same file with other permissions.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The same file with another owner and group.
    #[must_use]
    pub fn owned_by(mut self, owner: &str, group: &str) -> Self {
        self.owner = (owner.to_owned(), group.to_owned());
        self
    }
}

/// What is in a file of a host now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its content.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Its owner and group, by name.
    pub owner: (String, String),
}

/// Why a host could not be reached, or a file not be written: never that a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// It was not reached, or not let in: what was said, and what to do about it.
    #[error("{host}: {reason}; {remedy}")]
    Unreachable {
        /// The host's name in the spec.
        host: String,
        /// What happened, in one line.
        reason: String,
        /// What the user can do.
        remedy: String,
    },
    /// The command took longer than its limit and was killed.
    #[error("{host}: no end of `{command}` within {limit:?}")]
    Timeout {
        /// The host's name in the spec.
        host: String,
        /// The command, without its secrets.
        command: String,
        /// Its limit.
        limit: Duration,
    },
    /// The connection was lost while something was under way.
    #[error("{host}: the connection was lost: {reason}; is it up?")]
    Lost {
        /// The host's name in the spec.
        host: String,
        /// What happened.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{host}: {path}: {reason}")]
    File {
        /// The host's name in the spec.
        host: String,
        /// The file.
        path: String,
        /// What happened.
        reason: String,
    },
}

/// One host, reached.
pub trait Transport: Send + Sync + fmt::Debug {
    /// The host's name in the spec.
    fn host(&self) -> &str;

    /// Runs a command to its end. A command that fails is an [`Output`], not an error.
    fn run<'a>(&'a self, command: &'a Command) -> BoxFuture<'a, Result<Output, TransportError>>;

    /// What is in the file; none if there is no such file.
    fn read<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Found>, TransportError>>;

    /// Writes the file as a whole or not at all: beside it, checked by its checksum, made durable,
    /// renamed. Folders above it are made.
    fn write<'a>(&'a self, file: &'a File) -> BoxFuture<'a, Result<(), TransportError>>;

    /// Copies a file of this machine, of any size, to the host, as [`Transport::write`] does.
    fn upload<'a>(
        &'a self,
        source: &'a Path,
        path: &'a str,
        mode: u32,
    ) -> BoxFuture<'a, Result<(), TransportError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_in_brief_is_one_line() {
        let script = "\n# set the hostname\nhostnamectl set-hostname \"$1\"";
        assert_eq!(Command::script(script, ["w1"]).brief(), "set the hostname ..");
        assert_eq!(Command::script("true", [""; 0]).brief(), "true");
        assert_eq!(Command::new(["apt-get", "update"]).brief(), "apt-get update");
        let long = "x".repeat(100);
        assert_eq!(Command::script(&long, [""; 0]).brief(), "x".repeat(60) + " ..");
    }
}
