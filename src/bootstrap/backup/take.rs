//! Taking a backup on a host that carries an etcd member, from whose turn it is to the last copy.

mod pack;
mod turn;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::bucket::Bucket;
use super::bundle::BundleError;
use super::claim;
use super::contents::ContentsError;
use super::copies::{Copied, Copier, Keeper as _};
use super::depot::{Depot, DepotError, Stored};
use super::etcdctl::{Etcdctl, EtcdctlError};
use super::journal::Journal;
use super::manifest::Label;
use super::name::{AHEAD, BackupName};
use super::prune::Rules;
use super::settings::Settings;
use turn::Turned;

/// How a backup is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By the timer, on every host that carries a member: one of them takes it.
    BySchedule {
        /// How long each waits for the one before it.
        turn: Duration,
    },
    /// By somebody, of this very host.
    Now,
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// It was taken here.
    Taken(Box<Taken>),
    /// It is not for this host to take.
    Left {
        /// Why.
        why: String,
        /// What became of the copies of earlier ones, if some were missing.
        copied: Option<Vec<Copied>>,
    },
}

/// A backup that was taken.
#[derive(Debug)]
pub struct Taken {
    /// What it is.
    pub label: Label,
    /// How long it took, with its copies.
    pub time: Duration,
    /// What became of its copies.
    pub copied: Vec<Copied>,
    /// The backups of this host that went for it.
    pub pruned: Vec<BackupName>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Taken {
    /// Is it whole and in all places where it should be?
    pub fn is_well(&self) -> bool {
        self.label.manifest.is_whole() && self.copied.iter().all(|copied| copied.fault.is_none())
    }
}

/// Why no backup was taken. Those that were there still are.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// etcd does not answer.
    #[error("etcd on this host is not fit for a backup: {0}")]
    Etcd(#[from] EtcdctlError),
    /// The folder does not take it.
    #[error(transparent)]
    Depot(#[from] DepotError),
    /// The snapshot is no good.
    #[error(transparent)]
    Snapshot(#[from] ContentsError),
    /// The snapshot is read in another way by etcd's own tool.
    #[error("the snapshot is not what it seems: {0}")]
    Unlike(String),
    /// The bundle cannot be written or is no good.
    #[error("the bundle: {0}")]
    Bundle(#[from] BundleError),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The schedule is none.
    #[error("the schedule: {0}")]
    Schedule(String),
    /// Another host was at it for too long.
    #[error("{0} has been taking the backup for too long; see `journalctl -u {unit}` there", unit = super::UNIT)]
    TooLate(String),
}

/// Takes a backup, if it is this host's turn, and remembers what came of it.
///
/// # Errors
/// If none was taken.
pub fn take(settings: &Settings, asked: Asked) -> Result<Outcome, TakeError> {
    let begin = Instant::now();
    let control = Etcdctl::new(&settings.etcd);
    let book = settings.logbook();
    let result = Depot::open(&settings.directory)
        .map_err(TakeError::from)
        .and_then(|depot| run(settings, asked, &depot, &control, begin, &book.read()));
    if let Err(TakeError::Depot(DepotError::Busy(_))) = result {
        // The other one tells what comes of it.
        return result;
    }
    let newest = claim::newest(&control, &settings.cluster).ok().flatten();
    let stored = Depot::existing(&settings.directory).and_then(|depot| depot.list().ok());
    let now = seconds(SystemTime::now());
    let saved = book.change(now, |journal| {
        journal.stored = stored.map(|all| all.len());
        // What a clock said that was ahead is not waited for.
        journal.newest = journal.newest.filter(|at| *at <= now + AHEAD);
        note(journal, now, &result);
        let newest = newest.filter(|name| !name.is_ahead(SystemTime::now()));
        journal.newest = journal.newest.max(newest.map(|name| name.seconds));
        due(settings, journal);
    });
    match (result, saved) {
        (Ok(Outcome::Taken(mut taken)), Err(error)) => {
            taken.warnings.push(format!("the metrics cannot be written: {error}"));
            Ok(Outcome::Taken(taken))
        }
        (result, _) => result,
    }
}

/// Has this host remember since when it takes backups and when the next one is due, and tell it.
///
/// # Errors
/// If that cannot be written.
pub fn expect(settings: &Settings) -> io::Result<()> {
    settings.logbook().change(seconds(SystemTime::now()), |journal| due(settings, journal))
}

/// When the next one is due, by the schedule as it is now.
fn due(settings: &Settings, journal: &mut Journal) {
    let since = journal.newest.max(journal.since);
    journal.due = settings.schedule().ok().zip(since).and_then(|(all, since)| all.next(since));
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn note(journal: &mut Journal, now: u64, result: &Result<Outcome, TakeError>) {
    journal.last_run = Some(now);
    journal.last_run_ok = match result {
        Ok(Outcome::Taken(taken)) => {
            let name = &taken.label.manifest.name;
            journal.newest = journal.newest.max(Some(name.seconds));
            if taken.is_well() {
                journal.last_success = Some(name.seconds);
            }
            journal.size = Some(taken.label.size);
            journal.duration = u64::try_from(taken.time.as_millis()).ok();
            note_copies(journal, &taken.copied);
            taken.is_well()
        }
        Ok(Outcome::Left { copied, .. }) => {
            if let Some(copied) = copied {
                note_copies(journal, copied);
            }
            journal.copies.values().all(|complete| *complete)
        }
        // Of the copies nothing is known any more.
        Err(_) => {
            journal.copies.clear();
            false
        }
    };
}

fn note_copies(journal: &mut Journal, copied: &[Copied]) {
    let each = copied.iter().map(|copied| (copied.host.clone(), copied.fault.is_none()));
    journal.copies = each.collect();
}

fn run(
    settings: &Settings,
    asked: Asked,
    depot: &Depot,
    control: &Etcdctl,
    begin: Instant,
    journal: &Journal,
) -> Result<Outcome, TakeError> {
    let status = control.status()?;
    let turn = match asked {
        Asked::Now => None,
        Asked::BySchedule { turn } => match turn::wait(settings, control, &status, turn)? {
            Turned::Ours(ours) => Some(ours),
            Turned::Left(why) => {
                // A host that was away gets what it missed, whoever takes the next one.
                let lacking = journal.copies.values().any(|complete| !complete);
                let copied = if lacking { Some(copy(settings, depot)?) } else { None };
                return Ok(Outcome::Left { why, copied });
            }
        },
    };
    let locked = depot.lock()?;
    let (label, mut warnings) = pack::pack(settings, depot, &locked, control, &status)?;
    let name = label.manifest.name.clone();
    // From here on it is there; what does not go well now is told and is no failure of it.
    let told = claim::announce(control, &name);
    let told = told.and_then(|()| turn.as_ref().map_or(Ok(()), |ours| ours.done(control, &name)));
    if let Err(error) = told {
        warnings.push(format!("the other members were not told of it: {error}"));
    }
    drop(turn);
    let copied = copy(settings, depot)?;
    let well = label.manifest.is_whole() && copied.iter().all(|copied| copied.fault.is_none());
    let pruned = if well { prune(settings, depot, &mut warnings)? } else { Vec::new() };
    let time = begin.elapsed();
    Ok(Outcome::Taken(Box::new(Taken { label, time, copied, pruned, warnings })))
}

/// Brings all that should be kept to every place that gets copies: one that was away gets what it missed.
fn copy(settings: &Settings, depot: &Depot) -> Result<Vec<Copied>, TakeError> {
    let (cluster, keep) = (&settings.cluster, settings.keep);
    let ours = |stored: &Stored| stored.name.cluster == *cluster && stored.fault.is_none();
    let all: Vec<_> = depot.list()?.into_iter().filter(ours).take(keep).collect();
    let others = settings.copy_to.iter().filter(|target| target.name != settings.host);
    let hosts =
        others.map(|target| Copier::new(&settings.ssh, target).bring(cluster, keep, depot, &all));
    let bucket = settings.s3.iter().map(|s3| match Bucket::open(s3) {
        Ok(bucket) => bucket.bring(cluster, keep, depot, &all),
        Err(error) => Copied { host: s3.to_string(), sent: 0, fault: Some(error.to_string()) },
    });
    Ok(hosts.chain(bucket).collect())
}

/// Removes what is superfluous of this host's, and of the bucket's, which has nobody else to do it.
fn prune(
    settings: &Settings,
    depot: &Depot,
    warnings: &mut Vec<String>,
) -> Result<Vec<BackupName>, TakeError> {
    let rules = Rules { keep: settings.keep, at_least: 0 };
    let pruned = depot.prune(&settings.cluster, rules, SystemTime::now())?;
    if let Some(s3) = &settings.s3 {
        let gone =
            Bucket::open(s3).and_then(|bucket| bucket.prune(&settings.cluster, settings.keep));
        if let Err(error) = gone {
            warnings.push(format!("old backups stay in {s3}: {error}"));
        }
    }
    Ok(pruned)
}
