//! Copies in other places: on other hosts by ssh and a key that can do nothing else there, or in a bucket.

use std::fs::File;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::depot::{Depot, Stored};
use super::settings::{SshAccess, Target};
use super::wire::{Order, Reply, send_label};

/// How long a host may take to answer.
const ANSWER: Duration = Duration::from_mins(1);

/// The slowest link that a bundle goes over, in bytes per second.
const SLOWEST: u64 = 512 << 10;

/// A place that keeps copies, as the host that sends them sees it.
pub(super) trait Keeper {
    /// What it is called.
    fn name(&self) -> String;

    /// What it has of a cluster, or why it does not say.
    fn list(&self, cluster: &str) -> Result<Vec<Stored>, String>;

    /// Gives it a backup of this host. It was read back there when this is done; else why not.
    fn put(&self, depot: &Depot, stored: &Stored) -> Result<(), String>;

    /// Does it want this one beside those that it has? Several hosts bring theirs: what would go again at
    /// once is not brought.
    fn wants(&self, there: &[Stored], keep: usize, stored: &Stored) -> bool {
        let now = SystemTime::now();
        let newer = there.iter().filter(|one| one.name > stored.name && one.stands(now));
        newer.count() < keep.max(1)
    }

    /// Gives it all of these that it does not have, the newest first.
    fn bring(&self, cluster: &str, keep: usize, depot: &Depot, all: &[Stored]) -> Copied {
        let host = self.name();
        let there = match self.list(cluster) {
            Ok(there) => there,
            Err(fault) => return Copied { host, sent: 0, fault: Some(fault) },
        };
        let has = |stored: &Stored| {
            let sum = |one: &Stored| one.label.as_ref().map(|label| label.sha256.clone());
            let found = there.iter().find(|other| other.name == stored.name);
            found.is_some_and(|other| other.fault.is_none() && sum(other) == sum(stored))
        };
        let mut sent = 0;
        for stored in all.iter().filter(|one| !has(one) && self.wants(&there, keep, one)) {
            if let Err(fault) = self.put(depot, stored) {
                return Copied { host, sent, fault: Some(format!("{}: {fault}", stored.name)) };
            }
            sent += 1;
        }
        Copied { host, sent, fault: None }
    }
}

/// A host as the one that sends sees it.
#[derive(Debug)]
pub(super) struct Copier<'a> {
    ssh: &'a SshAccess,
    target: &'a Target,
}

/// What became of the copies in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The host, or the bucket.
    pub host: String,
    /// How many were sent that it did not have.
    pub sent: usize,
    /// Why not all of them are there now.
    pub fault: Option<String>,
}

impl<'a> Copier<'a> {
    /// The way to a host.
    pub(super) fn new(ssh: &'a SshAccess, target: &'a Target) -> Self {
        Self { ssh, target }
    }

    fn command(&self, order: Order, limit: Duration) -> Command {
        let Self { ssh, target } = self;
        let option = |text: String| ["-o".to_owned(), text];
        let mut command = Command::new("timeout");
        command.args(["--kill-after=2", &limit.as_secs().to_string(), "ssh", "-F", "none", "-T"]);
        for text in [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            format!("IdentityFile={}", ssh.identity_file.display()),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={}", ssh.known_hosts_file.display()),
            "GlobalKnownHostsFile=none".to_owned(),
            format!("HostKeyAlias={}", target.name),
            "ConnectTimeout=10".to_owned(),
            "ServerAliveInterval=10".to_owned(),
            "ServerAliveCountMax=3".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ] {
            command.args(option(text));
        }
        command.args(["-p", &target.port.to_string(), "-l", &ssh.user]);
        command.args(["--", &target.address.to_string(), order.as_str()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Asks, with what `write` sends.
    fn ask(
        &self,
        order: Order,
        limit: Duration,
        write: impl FnOnce(&mut std::process::ChildStdin) -> io::Result<()>,
    ) -> Result<Reply, String> {
        let mut child =
            self.command(order, limit).spawn().map_err(|error| format!("timeout(1): {error}"))?;
        let sent = child.stdin.take().map_or(Ok(()), |mut stdin| {
            write(&mut stdin)?;
            stdin.flush()
        });
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let last = String::from_utf8_lossy(&output.stdout);
        let reply = last.lines().next_back().and_then(|line| serde_json::from_str(line).ok());
        match (reply, sent) {
            (Some(Reply::Refused(why)), _) => Err(why),
            (Some(reply), Ok(())) => Ok(reply),
            (_, sent) => Err(self.silence(&output, sent.err())),
        }
    }

    /// Why no answer came.
    fn silence(&self, output: &std::process::Output, sent: Option<io::Error>) -> String {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().map(str::trim).rfind(|line| !line.is_empty());
        let key = self.ssh.identity_file.display();
        match (said, output.status.code()) {
            (_, Some(124 | 137)) => "it did not answer in time".to_owned(),
            (Some(said), _) if said.contains("Permission denied") => {
                format!("it does not take the key {key}; run `apiproxy bootstrap apply`")
            }
            (Some(said), _) if said.contains("Host key verification failed") => {
                "its host key is another one; run `apiproxy bootstrap apply` if that is right"
                    .to_owned()
            }
            (Some(said), _) => said.to_owned(),
            (None, Some(127)) => "there is no ssh on this host".to_owned(),
            (None, _) => sent.map_or("it gave no answer".to_owned(), |error| error.to_string()),
        }
    }
}

impl Keeper for Copier<'_> {
    fn name(&self) -> String {
        self.target.name.clone()
    }

    /// Its key lets it see this cluster's alone.
    fn list(&self, _cluster: &str) -> Result<Vec<Stored>, String> {
        match self.ask(Order::List, ANSWER, |_| Ok(()))? {
            Reply::List(all) => Ok(all),
            _ => Err("it gave another answer than it was asked for".to_owned()),
        }
    }

    fn put(&self, depot: &Depot, stored: &Stored) -> Result<(), String> {
        let label = stored.label.as_ref().ok_or("it has no label")?;
        let limit = ANSWER + Duration::from_secs(label.size / SLOWEST);
        let mut bundle =
            File::open(depot.path(&label.file())).map_err(|error| error.to_string())?;
        let reply = self.ask(Order::Put, limit, |stdin| {
            send_label(stdin, label)?;
            io::copy(&mut bundle, stdin).map(drop)
        })?;
        match reply {
            Reply::Put { .. } => Ok(()),
            _ => Err("it gave another answer than it was asked for".to_owned()),
        }
    }
}
