//! Waiting for this host's turn in a slot, until the slot is claimed or done.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use super::{TakeError, seconds};
use crate::bootstrap::backup::claim::{Claim, Slot};
use crate::bootstrap::backup::election::{Standing, Turn, decide, rank};
use crate::bootstrap::backup::etcdctl::{Etcdctl, EtcdctlError};
use crate::bootstrap::backup::name::BackupName;
use crate::bootstrap::backup::settings::Settings;
use crate::bootstrap::members::Status;

/// How long a host waits for one that is at it.
const LIMIT: Duration = Duration::from_hours(1);

/// For how long etcd may be without a quorum meanwhile.
const SILENCE: Duration = Duration::from_mins(1);

/// How long is waited after it gave no answer.
const PAUSE: Duration = Duration::from_secs(2);

/// What came of waiting.
pub(super) enum Turned {
    /// It is ours to take.
    Ours(Ours),
    /// It is not: why.
    Left(String),
}

/// A slot that is ours.
pub(super) struct Ours {
    slot: Slot,
    /// For how many seconds others remember that it is done: until the next one has begun everywhere.
    remember: u64,
    /// None where etcd has no room for it: then each goes by its rank alone.
    _claim: Option<Claim>,
}

impl Ours {
    pub(super) fn done(&self, control: &Etcdctl, name: &BackupName) -> Result<(), EtcdctlError> {
        self.slot.done(control, name, self.remember)
    }
}

pub(super) fn wait(
    settings: &Settings,
    control: &Etcdctl,
    status: &Status,
    turn: Duration,
) -> Result<Turned, TakeError> {
    let schedule = settings.schedule().map_err(TakeError::Schedule)?;
    let now = seconds(SystemTime::now());
    let due = schedule.last(now);
    let due = due.ok_or_else(|| TakeError::Schedule("no slot has begun yet".to_owned()))?;
    let next = schedule.next(now).unwrap_or(now);
    let members = control.members()?;
    control.healthy()?;
    let voting: Vec<_> =
        members.list.iter().filter(|member| !member.learner).map(|member| member.id).collect();
    let Some(rank) = rank(due, &voting, status.id) else {
        return Ok(Turned::Left("this member only learns: the others take it".to_owned()));
    };
    let slot = Slot::new(&settings.cluster, due);
    let begin = Instant::now();
    let mut heard = begin;
    loop {
        let standing = match slot.standing(control) {
            Ok(standing) => standing,
            Err(error) if heard.elapsed() >= SILENCE => return Err(error.into()),
            Err(_) => {
                sleep(PAUSE);
                continue;
            }
        };
        heard = Instant::now();
        match decide(rank, begin.elapsed(), turn, LIMIT, &standing) {
            Turn::Leave(name) => return Ok(Turned::Left(format!("{name} was taken already"))),
            Turn::TooLate(by) => return Err(TakeError::TooLate(by)),
            Turn::Wait(time) => sleep(time),
            Turn::Claim => {
                let claim = match slot.claim(control, &settings.host) {
                    // That is when a backup is wanted most.
                    Err(error) if error.is_full() => Some(None),
                    claim => claim?.map(Some),
                };
                if let Some(claim) = claim {
                    let remember = next.saturating_sub(now) + 3600;
                    return Ok(Turned::Ours(Ours { slot, remember, _claim: claim }));
                }
                // Another was faster; what it does is seen at the next look.
                debug_assert!(standing == Standing::Open, "only an open slot is claimed");
            }
        }
    }
}
