//! An etcd on the loopback address, with a folder of its own, that dies with us.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::DrillError;
use crate::bootstrap::backup::contents::Contents;

/// How long a restore may take: 8 GiB at 8 MiB/s.
const RESTORE: Duration = Duration::from_mins(17);
/// How long etcd may take to read what was restored.
const START: Duration = Duration::from_mins(2);
/// How long it may take to answer or to end.
const ANSWER: Duration = Duration::from_secs(20);
/// Between two looks whether it answers.
const PAUSE: Duration = Duration::from_millis(50);

fn failed(text: impl Into<String>) -> DrillError {
    DrillError::Program(text.into())
}

/// A program that is killed when it is dropped, and when we are.
fn program(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", name]);
    command.env("ETCDCTL_API", "3").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a program to its end; what it prints.
async fn run(
    name: &str,
    arguments: &[&OsStr],
    limit: Duration,
) -> Result<Result<String, String>, DrillError> {
    let mut command = program(name);
    let output = timeout(limit, command.args(arguments).output()).await;
    let output = output.map_err(|_| failed(format!("{name} did not end within {limit:?}")))?;
    let output = output.map_err(|error| failed(format!("setpriv(1): {error}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(Ok(text(&output.stdout)));
    }
    let said = text(&output.stderr);
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    Ok(Err(line.trim_start_matches("Error: ").to_owned()))
}

/// Restores a snapshot as the only member of a new cluster: by etcdutl where there is one.
pub(super) async fn restore(snapshot: &Path, data: &Path) -> Result<(), DrillError> {
    let words = ["snapshot", "restore"].map(OsStr::new);
    let arguments = [&words[..], &[snapshot.as_os_str(), "--data-dir".as_ref(), data.as_os_str()]];
    let arguments = arguments.concat();
    let mut said = String::new();
    for name in ["etcdutl", "etcdctl"] {
        match run(name, &arguments, RESTORE).await? {
            Ok(_) => return Ok(()),
            Err(why) if why.contains("failed to execute") => {
                said = format!("there is no {name} to restore with; install it");
            }
            Err(why) => return Err(failed(format!("`{name} snapshot restore` failed: {why}"))),
        }
    }
    Err(failed(said))
}

/// What it says of what it holds.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) revision: i64,
    pub(super) counts: BTreeMap<String, u64>,
    /// The length of the object that was read.
    pub(super) sample: Option<usize>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    revision: i64,
}

#[derive(Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    count: u64,
}

/// An etcd that is running.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    endpoint: String,
}

/// Two ports of the loopback address that are free now.
fn ports() -> io::Result<[u16; 2]> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [one, two] = listeners.each_ref().map(|one| one.local_addr().map(|addr| addr.port()));
    Ok([one?, two?])
}

/// How many keys are counted below each prefix, by how many begin with it: a key counts below its longest
/// prefix alone, and with nothing where it has none.
fn own_counts(all: u64, begin: &BTreeMap<&str, u64>) -> BTreeMap<String, u64> {
    let mut own: BTreeMap<String, u64> = BTreeMap::new();
    // A longer one comes after what it begins with.
    for (prefix, count) in begin.iter().rev() {
        let longer = own.iter().filter(|(other, _)| other.starts_with(prefix));
        let longer: u64 = longer.map(|(_, count)| count).sum();
        own.insert((*prefix).to_owned(), count.saturating_sub(longer));
    }
    let rest = all.saturating_sub(own.values().sum());
    if rest > 0 {
        own.insert(String::new(), rest);
    }
    own
}

impl Drop for Server {
    /// Killed and waited for: what it writes must not come back after its folder is removed.
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.start_kill();
        let end = Instant::now() + Duration::from_secs(1);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Server {
    /// Starts it; its log goes into the folder.
    pub(super) async fn start(folder: &Path, data: &Path) -> Result<Self, DrillError> {
        let log = folder.join("etcd.log");
        let [client, peer] = ports()?.map(|port| format!("http://127.0.0.1:{port}"));
        let out = std::fs::File::create(&log)?;
        let mut command = program("etcd");
        command.arg("--data-dir").arg(data).args(["--listen-client-urls", &client]);
        command.args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
        command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH.replace("aarch64", "arm64"));
        command.stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().map_err(|error| failed(format!("setpriv(1): {error}")))?;
        let mut server = Self { child, endpoint: client };
        let begin = Instant::now();
        loop {
            if server.etcdctl(&["endpoint", "health"]).await?.is_ok() {
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let said = said.lines().next_back().unwrap_or_default();
                if said.contains("failed to execute") {
                    return Err(failed("there is no etcd to try it with; install it here"));
                }
                return Err(failed(format!("etcd ended with {status}: {said}")));
            }
            if begin.elapsed() > START {
                return Err(failed(format!("etcd did not answer within {START:?}")));
            }
            sleep(PAUSE).await;
        }
    }

    async fn etcdctl(&self, words: &[&str]) -> Result<Result<String, String>, DrillError> {
        let endpoint = format!("--endpoints={}", self.endpoint);
        let arguments: Vec<_> = std::iter::once(endpoint.as_str())
            .chain(words.iter().copied())
            .map(OsStr::new)
            .collect();
        run("etcdctl", &arguments, ANSWER).await
    }

    /// How many keys there are from one key to before another.
    async fn range(&self, words: &[&str]) -> Result<Range, DrillError> {
        let words = [&["get"], words, &["--limit=1", "--keys-only", "-w", "json"]].concat();
        let text = self.etcdctl(&words).await?.map_err(failed)?;
        serde_json::from_str(text.trim())
            .map_err(|error| failed(format!("what etcdctl printed cannot be read: {error}")))
    }

    /// Asks it what the backup says of itself.
    pub(super) async fn ask(&self, wanted: &Contents) -> Result<Answers, DrillError> {
        let all = self.range(&["", "--prefix"]).await?;
        let mut answers = Answers { revision: all.header.revision, ..Answers::default() };
        let mut counts = BTreeMap::new();
        for prefix in wanted.prefixes.keys().filter(|prefix| !prefix.is_empty()) {
            counts.insert(prefix.as_str(), self.range(&[prefix, "--prefix"]).await?.count);
        }
        answers.counts = own_counts(all.count, &counts);
        if let Some(key) = &wanted.sample {
            let value = self.etcdctl(&["get", key, "--print-value-only"]).await?;
            answers.sample = value.ok().map(|value| value.trim_end().len()).filter(|len| *len > 0);
        }
        Ok(answers)
    }

    /// Ends it, so that its database is whole.
    pub(super) async fn stop(&mut self) -> Result<(), DrillError> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .map_err(io::Error::from)?;
        }
        let ended = timeout(ANSWER, self.child.wait()).await;
        ended.map_err(|_| failed("etcd did not end"))?.map(drop).map_err(DrillError::Io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_below_its_longest_prefix() {
        let begin = [("/", 10), ("/registry/", 8), ("/registry/pods/", 5), ("a/", 2)];
        let own = own_counts(15, &BTreeMap::from(begin));
        let expected = [("", 3), ("/", 2), ("/registry/", 3), ("/registry/pods/", 5), ("a/", 2)];
        assert_eq!(own, expected.map(|(prefix, count)| (prefix.to_owned(), count)).into());
        assert_eq!(own_counts(0, &BTreeMap::new()), BTreeMap::new());
    }
}
