//! The claim of a slot: a key in etcd with a lease, which the one that takes the backup keeps alive. When
//! it dies, the lease runs out, and another takes its place.

use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::election::Standing;
use super::etcdctl::{Etcdctl, EtcdctlError};
use super::name::BackupName;

/// All keys of ours. Kubernetes' are below `/registry`.
const PREFIX: &str = "/apiproxy.io/backups";

/// How long a claim lives after its owner's last sign of life, in seconds.
const LEASE: u64 = 60;

/// How often its owner gives one.
const BEAT: Duration = Duration::from_secs(15);

/// How long it may take to say so in the end.
const GOODBYE: Duration = Duration::from_secs(10);

/// The keys of a slot.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    cluster: String,
    second: u64,
}

/// A slot that is ours, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    control: Etcdctl,
    lease: String,
    stop: Option<Sender<()>>,
    beat: Option<JoinHandle<()>>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    kvs: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(rename = "ID")]
    id: u64,
}

#[derive(Deserialize)]
struct Transaction {
    #[serde(default)]
    succeeded: bool,
}

fn text(base64: &str) -> String {
    let bytes = STANDARD.decode(base64).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn grant(control: &Etcdctl, seconds: u64) -> Result<String, EtcdctlError> {
    let granted: Granted = control.json(&["lease", "grant", &seconds.to_string()], "")?;
    Ok(format!("{:x}", granted.id))
}

/// The key of the newest backup that was taken on any host.
fn newest_key(cluster: &str) -> String {
    format!("{PREFIX}/{cluster}/newest")
}

/// The newest backup that any member has told of.
///
/// # Errors
/// If etcd does not answer.
pub(super) fn newest(control: &Etcdctl, cluster: &str) -> Result<Option<BackupName>, EtcdctlError> {
    let found: Found = control.json(&["get", &newest_key(cluster)], "")?;
    Ok(found.kvs.first().and_then(|entry| text(&entry.value).parse().ok()))
}

/// Tells the others of a new backup.
///
/// # Errors
/// If etcd does not answer.
pub(super) fn announce(control: &Etcdctl, name: &BackupName) -> Result<(), EtcdctlError> {
    let key = newest_key(&name.cluster);
    control.run(&["put", &key, &name.to_string()], "", GOODBYE).map(drop)
}

impl Slot {
    /// The slot of a cluster that begins at this second.
    pub(super) fn new(cluster: &str, second: u64) -> Self {
        Self { cluster: cluster.to_owned(), second }
    }

    fn key(&self, what: &str) -> String {
        format!("{PREFIX}/{}/{}/{what}", self.cluster, self.second)
    }

    /// What there is to be done for it.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub(super) fn standing(&self, control: &Etcdctl) -> Result<Standing, EtcdctlError> {
        let found: Found = control.json(&["get", "--prefix", &self.key("")], "")?;
        let value = |what: &str| {
            let key = self.key(what);
            found.kvs.iter().find(|entry| text(&entry.key) == key).map(|entry| text(&entry.value))
        };
        Ok(match (value("done"), value("claim")) {
            (Some(name), _) => Standing::Done(name),
            (None, Some(by)) => Standing::Claimed(by),
            (None, None) => Standing::Open,
        })
    }

    /// Makes it ours; none if another was faster.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub(super) fn claim(
        &self,
        control: &Etcdctl,
        host: &str,
    ) -> Result<Option<Claim>, EtcdctlError> {
        let lease = grant(control, LEASE)?;
        let (claim, done) = (self.key("claim"), self.key("done"));
        let input = format!(
            "mod(\"{claim}\") = \"0\"\nmod(\"{done}\") = \"0\"\n\n\
             put {claim} {host} --lease={lease}\n\nget {claim}\n\n"
        );
        let transaction: Result<Transaction, _> = control.json(&["txn"], &input);
        if !matches!(transaction, Ok(Transaction { succeeded: true })) {
            // It runs out by itself if this fails.
            let _ = control.run(&["lease", "revoke", &lease], "", GOODBYE);
            return transaction.map(|_| None);
        }
        let (stop, stopped) = mpsc::channel::<()>();
        let (beating, id) = (control.clone(), lease.clone());
        let beat = std::thread::spawn(move || {
            let running = || stopped.recv_timeout(BEAT) == Err(mpsc::RecvTimeoutError::Timeout);
            while running() {
                // One that fails is made up for by the next, as long as the lease lives; if it ends,
                // another takes a backup too, which does no harm.
                let _ = beating.run(&["lease", "keep-alive", "--once", &id], "", GOODBYE);
            }
        });
        let (stop, beat) = (Some(stop), Some(beat));
        Ok(Some(Claim { control: control.clone(), lease, stop, beat }))
    }

    /// Tells the others that the backup is there. They remember it for so many seconds.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub(super) fn done(
        &self,
        control: &Etcdctl,
        name: &BackupName,
        seconds: u64,
    ) -> Result<(), EtcdctlError> {
        let lease = grant(control, seconds)?;
        let words = ["put", &self.key("done"), &name.to_string(), &format!("--lease={lease}")];
        control.run(&words, "", GOODBYE).map(drop)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(beat) = self.beat.take() {
            // It has nothing to tell.
            let _ = beat.join();
        }
        // If this fails, the lease runs out by itself.
        let _ = self.control.run(&["lease", "revoke", &self.lease], "", GOODBYE);
    }
}
