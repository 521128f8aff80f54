//! What has to be done about the member of one host: decided from what was seen, without any I/O.

use crate::bootstrap::engine::StepError;
use crate::bootstrap::spec::Host;

use super::members::{Member, Members};
use super::paths::peer_url;
use super::probe::Probe;

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing.
    Nothing,
    /// Start as one of the founders of a new cluster, without waiting for the others.
    Found,
    /// Start it, or restart it with what its files say now, without waiting: there is no quorum that
    /// could be waited for, or lost.
    Start,
    /// The cluster does not know it, or knows one with lost data or another address: remove those,
    /// add it as a learner, start it, promote it.
    Join {
        /// Members that are to be removed first.
        stale: Vec<u64>,
    },
    /// It was added, but is not a voting member that has started: start it, promote it.
    Finish {
        /// Its number.
        id: u64,
        /// Are there data of an earlier life of it, to be moved aside?
        aside: bool,
    },
    /// It is down, or does not answer: start it and wait until it does.
    Revive {
        /// Its number.
        id: u64,
    },
    /// It runs with other settings or another program than it should: restart it, if the others are
    /// a quorum meanwhile.
    Restart {
        /// Its number.
        id: u64,
    },
    /// It is part of the cluster: the settings of its first start go.
    Seal,
}

/// What is known of the other members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Others {
    /// There is a quorum, which says so.
    Quorum(Members),
    /// There is no quorum.
    NoQuorum {
        /// Hosts whose members were part of a cluster once.
        formed: Vec<String>,
        /// Why hosts could not be asked, each with its host.
        silent: Vec<String>,
    },
}

/// Decides about a host whose files are as they should be, or not.
///
/// # Errors
/// If nothing can be done without harm.
pub fn decide(
    host: &Host,
    probe: &Probe,
    files_match: bool,
    others: &Others,
) -> Result<Move, StepError> {
    let current = files_match && !probe.pending && !probe.reload && probe.enabled;
    match others {
        Others::Quorum(members) => Ok(with_quorum(host, probe, current, members)),
        Others::NoQuorum { formed, silent } => without_quorum(host, probe, current, formed, silent),
    }
}

fn with_quorum(host: &Host, probe: &Probe, current: bool, members: &Members) -> Move {
    let Some(own) = members.at(&peer_url(host.address)) else {
        // Its name with another address is its earlier self, or that of its machine.
        let stale = members.named(&host.name).map(|member| member.id);
        return Move::Join { stale: stale.into_iter().collect() };
    };
    let id = own.id;
    if !own.started() {
        // A founder that runs will be part of the cluster in a moment; a learner has to be promoted.
        let founder = probe.running && current && probe.initial && !own.learner;
        let finish = Move::Finish { id, aside: probe.was_member() };
        return if founder { Move::Nothing } else { finish };
    }
    if !probe.data {
        return Move::Join { stale: vec![id] };
    }
    if own.learner {
        return Move::Finish { id, aside: false };
    }
    if !probe.running {
        return Move::Revive { id };
    }
    if !current || outdated(probe) {
        return Move::Restart { id };
    }
    if !answers(probe, own) {
        return Move::Revive { id };
    }
    if probe.initial { Move::Seal } else { Move::Nothing }
}

/// Is it part of the quorum, as itself?
fn answers(probe: &Probe, own: &Member) -> bool {
    let itself = probe.status.as_ref().is_some_and(|status| status.id == own.id);
    probe.members.is_some() && itself
}

/// Does it run another version than what is installed?
fn outdated(probe: &Probe) -> bool {
    let running = probe.status.as_ref().and_then(|status| status.version.parse().ok());
    running.is_some() && probe.version.is_some() && running != probe.version
}

fn without_quorum(
    host: &Host,
    probe: &Probe,
    current: bool,
    formed: &[String],
    silent: &[String],
) -> Result<Move, StepError> {
    if probe.was_member() {
        // A quorum may only be waiting for this one; and none can be lost.
        return Ok(if probe.running && current { Move::Nothing } else { Move::Start });
    }
    if !formed.is_empty() {
        let reason = format!(
            "{} has no data of etcd and cannot be added: there is no quorum of the members on {}",
            host.name,
            formed.join(", ")
        );
        let all: Vec<_> = [reason].iter().chain(silent).cloned().collect();
        return Err(StepError::Refused {
            reason: all.join("; "),
            remedy: "start enough of them, or see `apiproxy bootstrap etcd restore`".to_owned(),
        });
    }
    if !silent.is_empty() {
        return Err(StepError::Refused {
            reason: format!(
                "no new etcd cluster is made while a host cannot be asked: one may be there ({})",
                silent.join("; ")
            ),
            remedy: "make all etcd hosts reachable first".to_owned(),
        });
    }
    let founded = probe.running && current && probe.initial;
    Ok(if founded { Move::Nothing } else { Move::Found })
}
