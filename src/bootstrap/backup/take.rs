//! Taking a backup on a host that carries an etcd member, from whose turn it is to the last copy.

mod pack;
mod turn;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::bundle::BundleError;
use super::claim;
use super::contents::ContentsError;
use super::copies::{Copied, Copier};
use super::depot::{Depot, DepotError, Stored};
use super::etcdctl::{Etcdctl, EtcdctlError};
use super::journal::Journal;
use super::manifest::Label;
use super::name::BackupName;
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
    /// It is not for this host to take: why.
    Left(String),
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
    let depot = Depot::open(&settings.directory)?;
    let control = Etcdctl::new(&settings.etcd);
    let result = run(settings, asked, &depot, &control, begin);
    let mut journal = Journal::load(depot.folder());
    journal.last_run = Some(seconds(SystemTime::now()));
    journal.last_run_ok = match &result {
        Ok(Outcome::Taken(taken)) => {
            record(&mut journal, taken);
            taken.is_well()
        }
        Ok(Outcome::Left(_)) => true,
        Err(_) => false,
    };
    if let Ok(Some(newest)) = claim::newest(&control, &settings.cluster) {
        journal.newest = journal.newest.max(Some(newest.seconds));
    }
    journal.stored = depot.list().map_or(0, |all| all.len());
    let saved = journal.save(depot.folder(), &settings.cluster, &settings.textfile);
    match (result, saved) {
        (Ok(Outcome::Taken(mut taken)), Err(error)) => {
            taken.warnings.push(format!("the metrics cannot be written: {error}"));
            Ok(Outcome::Taken(taken))
        }
        (result, _) => result,
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn record(journal: &mut Journal, taken: &Taken) {
    let name = &taken.label.manifest.name;
    journal.newest = journal.newest.max(Some(name.seconds));
    if taken.is_well() {
        journal.last_success = Some(name.seconds);
    }
    journal.size = Some(taken.label.size);
    journal.duration = u64::try_from(taken.time.as_millis()).ok();
    let copies = taken.copied.iter();
    journal.copies = copies.map(|copied| (copied.host.clone(), copied.fault.is_none())).collect();
}

fn run(
    settings: &Settings,
    asked: Asked,
    depot: &Depot,
    control: &Etcdctl,
    begin: Instant,
) -> Result<Outcome, TakeError> {
    let status = control.status()?;
    let turn = match asked {
        Asked::Now => None,
        Asked::BySchedule { turn } => match turn::wait(settings, control, &status, turn)? {
            Turned::Ours(ours) => Some(ours),
            Turned::Left(why) => return Ok(Outcome::Left(why)),
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
    let rules = Rules { keep: settings.keep, at_least: 0 };
    let pruned =
        if well { depot.prune(&settings.cluster, rules, SystemTime::now())? } else { Vec::new() };
    let time = begin.elapsed();
    Ok(Outcome::Taken(Box::new(Taken { label, time, copied, pruned, warnings })))
}

/// Brings all that should be kept to every host that gets copies: one that was away gets what it missed.
fn copy(settings: &Settings, depot: &Depot) -> Result<Vec<Copied>, TakeError> {
    let ours = |stored: &Stored| stored.name.cluster == settings.cluster && stored.fault.is_none();
    let all: Vec<_> = depot.list()?.into_iter().filter(ours).take(settings.keep).collect();
    let others = settings.copy_to.iter().filter(|target| target.name != settings.host);
    Ok(others.map(|target| Copier::new(&settings.ssh, target).bring(depot, &all)).collect())
}
