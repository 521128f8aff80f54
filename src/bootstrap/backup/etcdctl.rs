//! etcdctl of this host, asked with a limit of time.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::settings::EtcdAccess;
use crate::bootstrap::members::{Members, Status};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// How long etcdctl waits for one.
const WAIT: Duration = Duration::from_secs(5);

/// The slowest disk and link that a snapshot comes over, in bytes per second.
const SLOWEST: u64 = 1 << 20;

/// Why etcd gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EtcdctlError {
    /// The program is not there.
    #[error("there is no {0} on this host; install it (Debian: etcd-client)")]
    NoProgram(String),
    /// It failed.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// The command, in short.
        command: String,
        /// What it said last.
        said: String,
    },
    /// It answered something else.
    #[error("what `{command}` printed cannot be read: {reason}")]
    Answer {
        /// The command, in short.
        command: String,
        /// Why.
        reason: String,
    },
}

impl EtcdctlError {
    /// Has etcd no room for what was to be written? It can be read and saved nevertheless.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Failed { said, .. } if said.contains("database space exceeded"))
    }
}

/// What `snapshot status` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub(super) struct SnapshotStatus {
    /// etcd's checksum.
    pub hash: u32,
    /// The newest revision.
    pub revision: i64,
}

/// etcdctl with its access.
#[derive(Clone, Debug)]
pub(super) struct Etcdctl {
    access: EtcdAccess,
}

impl Etcdctl {
    /// The one of this host.
    pub(super) fn new(access: &EtcdAccess) -> Self {
        Self { access: access.clone() }
    }

    /// Runs it; what it prints.
    ///
    /// # Errors
    /// If it fails, or takes longer than its limit.
    pub(super) fn run(
        &self,
        words: &[&str],
        input: &str,
        limit: Duration,
    ) -> Result<String, EtcdctlError> {
        self.run_within(WAIT, words, input, limit)
    }

    /// The same; etcdctl itself gives up after `wait`, which for a snapshot is until all of it has come.
    fn run_within(
        &self,
        wait: Duration,
        words: &[&str],
        input: &str,
        limit: Duration,
    ) -> Result<String, EtcdctlError> {
        let access = &self.access;
        let mut arguments = vec![
            format!("--endpoints={}", access.endpoint),
            "--dial-timeout=3s".to_owned(),
            format!("--command-timeout={}s", wait.as_secs()),
        ];
        if access.endpoint.starts_with("https:") {
            for (flag, file) in [
                ("cacert", &access.ca_file),
                ("cert", &access.cert_file),
                ("key", &access.key_file),
            ] {
                arguments.push(format!("--{flag}={}", file.display()));
            }
        }
        arguments.extend(words.iter().map(|word| (*word).to_owned()));
        run("etcdctl", &arguments, words, input, limit)
    }

    fn ask<T>(
        &self,
        words: &[&str],
        input: &str,
        read: impl FnOnce(&str) -> Result<T, serde_json::Error>,
    ) -> Result<T, EtcdctlError> {
        let all: Vec<_> = words.iter().copied().chain(["-w", "json"]).collect();
        let text = self.run(&all, input, ANSWER)?;
        read(text.trim()).map_err(|error| EtcdctlError::Answer {
            command: format!("etcdctl {}", words.join(" ")),
            reason: error.to_string(),
        })
    }

    /// The same; its JSON.
    ///
    /// # Errors
    /// As [`Etcdctl::run`], or if it is none.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        words: &[&str],
        input: &str,
    ) -> Result<T, EtcdctlError> {
        self.ask(words, input, |text| serde_json::from_str(text))
    }

    /// What this host's member says of itself. It answers without a quorum, too.
    ///
    /// # Errors
    /// If it does not answer.
    pub(super) fn status(&self) -> Result<Status, EtcdctlError> {
        let all = self.ask(&["endpoint", "status"], "", Status::parse)?;
        all.into_iter().next().ok_or_else(|| EtcdctlError::Answer {
            command: "etcdctl endpoint status".to_owned(),
            reason: "it is empty".to_owned(),
        })
    }

    /// The members.
    ///
    /// # Errors
    /// If there is no quorum, or no answer.
    pub(super) fn members(&self) -> Result<Members, EtcdctlError> {
        self.ask(&["member", "list"], "", Members::parse)
    }

    /// Does this member answer a read that needs a quorum? (`endpoint health` is no such read where etcd
    /// has an alarm, as when its space is used up.)
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn healthy(&self) -> Result<(), EtcdctlError> {
        self.run(&["get", "health"], "", ANSWER).map(drop)
    }

    /// Saves a snapshot of a database of about this size.
    ///
    /// # Errors
    /// If it cannot.
    pub(super) fn save(&self, path: &Path, size: u64) -> Result<(), EtcdctlError> {
        let path = path.display().to_string();
        let limit = Duration::from_secs(60 + size / SLOWEST);
        let longer = limit + ANSWER;
        self.run_within(limit, &["snapshot", "save", &path], "", longer).map(drop)
    }
}

/// What the host's own tool says of a snapshot: etcdutl where there is one, for etcdctl's was removed in
/// 3.6.
///
/// # Errors
/// If it finds fault with it.
pub(super) fn snapshot_status(path: &Path) -> Result<SnapshotStatus, EtcdctlError> {
    let file = path.display().to_string();
    let words = ["snapshot", "status", &file, "-w", "json"];
    let arguments = words.map(str::to_owned);
    let limit = Duration::from_mins(10);
    let text = match run("etcdutl", &arguments, &words, "", limit) {
        Err(EtcdctlError::NoProgram(_)) => run("etcdctl", &arguments, &words, "", limit)?,
        other => other?,
    };
    serde_json::from_str(text.trim()).map_err(|error| EtcdctlError::Answer {
        command: "snapshot status".to_owned(),
        reason: error.to_string(),
    })
}

fn run(
    program: &str,
    arguments: &[String],
    words: &[&str],
    input: &str,
    limit: Duration,
) -> Result<String, EtcdctlError> {
    let command = format!("{program} {}", words.join(" "));
    let failed = |said: String| EtcdctlError::Failed { command: command.clone(), said };
    // timeout(1) ends what hangs, and its children.
    let mut child = Command::new("timeout")
        .args(["--kill-after=2", &limit.as_secs().to_string(), program])
        .args(arguments)
        .env("ETCDCTL_API", "3")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("timeout(1): {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It had heard enough, or ended; what it says tells.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(failed(error.to_string()));
            }
            _ => {}
        }
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Some(127) => Err(EtcdctlError::NoProgram(program.to_owned())),
        Some(124 | 137) => Err(failed(format!("no answer within {} s", limit.as_secs()))),
        _ => Err(failed(said(&output.stderr))),
    }
}

/// The last line of what it said; etcdctl says first what its client library logs. Of that, what is wrong
/// with a certificate counts: the last line then tells of a time that is over.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    let line = line.unwrap_or("it said nothing").trim_start_matches("Error: ");
    let reason = text.split_once("x509: ").map(|(_, rest)| rest);
    let end = |c: char| matches!(c, '"' | '\\' | '\n');
    match reason.and_then(|rest| rest.split(end).next()) {
        Some(reason) if !line.contains(reason) => format!("{line}: {reason}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_is_told() {
        let logged = r#"{"level":"warn","error":"rpc error: desc = \"transport: authentication handshake failed: x509: certificate has expired or is not yet valid: current time A is after B\""}"#;
        let line = "Failed to get the status of endpoint (context deadline exceeded)";
        let text = format!("{logged}\n{line}\n");
        let reason = "certificate has expired or is not yet valid: current time A is after B";
        assert_eq!(said(text.as_bytes()), format!("{line}: {reason}"));
        assert_eq!(said(b"log\nError: no quorum\n\n"), "no quorum");
        assert_eq!(said(b""), "it said nothing");
    }
}
