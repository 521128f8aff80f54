//! The members of etcd, stacked and external, and what is wrong with them.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Told;
use super::host::Seen;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::quorum;
use crate::bootstrap::spec::{Cluster, Host, Topology};
use crate::bootstrap::steps::etcd::paths::peer_url;
use crate::bootstrap::steps::etcd::{Fault, Survey, View, faults};

/// An etcd member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its name; empty if it never started.
    pub name: String,
    /// Its number in hexadecimal, as etcd prints it.
    pub id: String,
    /// The host of the file that it is of.
    pub host: Option<String>,
    /// It has no vote yet.
    pub learner: bool,
    /// Does it take part in the quorum?
    pub healthy: bool,
    /// Is it the leader?
    pub leader: bool,
    /// Its version, if it said so.
    pub version: Option<String>,
    /// The size of its data in bytes, if it said so.
    pub db_size: Option<u64>,
}

/// The members beside the control planes, as one that serves knows them and as they see themselves.
pub(super) fn stacked(
    cluster: &Cluster,
    told: &Told,
    seen: &[(&Host, Result<Seen, StepError>)],
) -> (Vec<MemberStatus>, Vec<String>) {
    let states = seen.iter().filter_map(|(_, seen)| seen.as_ref().ok()?.member.as_ref());
    let states: Vec<_> = states.collect();
    let leaders: BTreeSet<_> = states.iter().map(|state| state.leader).collect();
    let leader = leaders.first().filter(|id| leaders.len() == 1 && **id != 0);
    let row = |member: &crate::bootstrap::kubernetes::Member| {
        let state = states.iter().find(|state| state.id == member.id);
        let host = cluster.etcd_hosts().find(|host| member.is_of(&host.name, host.address));
        MemberStatus {
            name: member.name.clone(),
            id: format!("{:x}", member.id),
            host: host.map(|host| host.name.clone()),
            learner: member.is_learner,
            healthy: told.healthy.contains(&member.id),
            leader: leader == Some(&member.id),
            version: state.map(|state| state.version.clone()),
            db_size: state.map(|state| state.size),
        }
    };
    let members: Vec<_> = told.members.iter().map(row).collect();
    let mut faults = judge(&members);
    if !members.is_empty() && leader.is_none() {
        faults.push("etcd: its members do not agree on a leader".to_owned());
    }
    for state in states {
        let name = members.iter().find(|member| member.id == format!("{:x}", state.id));
        let name = name.map_or_else(|| format!("{:x}", state.id), |member| member.name.clone());
        faults.extend(state.errors.iter().map(|error| format!("the etcd member {name}: {error}")));
    }
    (members, faults)
}

/// The members of an external etcd; nothing if etcd is stacked.
pub(super) async fn external(cx: &Context, cluster: &Cluster) -> (Vec<MemberStatus>, Vec<String>) {
    if cluster.topology != Topology::External {
        return (Vec::new(), Vec::new());
    }
    // Each of its commands has a limit of its own.
    let survey = match Survey::of(cx, cluster).await {
        Ok(survey) => survey,
        Err(error) => return (Vec::new(), vec![error.to_string()]),
    };
    let Some((_, view)) = &survey.cluster else {
        // Who could not be asked is told with the hosts.
        return (Vec::new(), vec!["etcd has no quorum".to_owned()]);
    };
    let reason = |fault| match fault {
        Fault::Passing(reason) | Fault::Lasting { reason, .. } => format!("etcd: {reason}"),
    };
    (of_view(cluster, view), faults(cluster, &survey).into_iter().map(reason).collect())
}

fn of_view(cluster: &Cluster, view: &View) -> Vec<MemberStatus> {
    let leader = view.leader();
    let status = |member: &crate::bootstrap::steps::etcd::EtcdMember| {
        let own = view.status.get(&member.id);
        let is_of = |host: &&Host| member.peer_urls.contains(&peer_url(host.address));
        MemberStatus {
            name: member.name.clone(),
            id: format!("{:x}", member.id),
            host: cluster.etcd_hosts().find(is_of).map(|host| host.name.clone()),
            learner: member.learner,
            healthy: view.is_healthy(member.id),
            leader: leader == Some(member.id),
            version: own.map(|own| own.version.clone()),
            db_size: own.map(|own| own.size),
        }
    };
    view.members.list.iter().map(status).collect()
}

/// What is wrong with members, in numbers.
pub(super) fn judge(members: &[MemberStatus]) -> Vec<String> {
    let voters = members.iter().filter(|member| !member.learner).count();
    let well = members.iter().filter(|member| !member.learner && member.healthy).count();
    let mut faults: Vec<_> = members
        .iter()
        .filter_map(|member| match member {
            MemberStatus { name, id, .. } if name.is_empty() => {
                Some(format!("the etcd member {id} never started"))
            }
            MemberStatus { name, learner: true, .. } => {
                Some(format!("the etcd member {name} is a learner"))
            }
            MemberStatus { name, healthy: false, .. } => {
                Some(format!("the etcd member {name} is not healthy"))
            }
            _ => None,
        })
        .collect();
    if voters > 0 && well < voters {
        let spare = well.saturating_sub(quorum(voters));
        faults.push(format!("etcd: {well} of {voters} members are healthy; {spare} more may fail"));
    }
    faults
}
