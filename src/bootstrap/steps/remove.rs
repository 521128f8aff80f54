//! What the cluster has and the file has not: shown by every plan, taken out by `apply --prune`.

mod clean;
mod extra;
mod find;
mod node;
pub mod reset;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::after::after;
use super::etcd;
use super::etcd::data::Data;
use super::shared::Shared;
use crate::bootstrap::engine::{Context, Step, StepError, StepId};
use crate::bootstrap::spec::Topology;
use crate::bootstrap::transport::{Command, TransportError};

pub use extra::{Extra, unaccounted};
pub use find::{etcd_extras, extras};
pub use node::{Remove, STEP, drain};

/// The steps that take them out, after everything that the file wishes is there: replacements have
/// joined, and no proxy names them any more. The member of an external etcd has a step of its own.
pub fn steps(shared: &Arc<Shared>, extras: &[Extra]) -> Vec<Arc<dyn Step>> {
    let mut steps: Vec<Arc<dyn Step>> = Vec::new();
    for extra in extras {
        if extra.is_etcd_host {
            let name = extra.name.clone();
            let first = shared.removed_first.contains(&name);
            let (cluster, data) = (shared.cluster.clone(), Data::Aside);
            steps.push(Arc::new(etcd::Remove { cluster, name, first, data }));
        }
        if extra.is_node_host() {
            steps.push(Arc::new(Remove::new(shared, extra.clone())));
        }
    }
    steps
}

/// The names of those whose etcd member is dead: they go before others join, since neither etcd nor
/// kubeadm adds a member beside a dead one.
pub fn first(extras: &[Extra]) -> BTreeSet<String> {
    extras.iter().filter(|extra| extra.is_dead).map(|extra| extra.name.clone()).collect()
}

/// Puts the members of an external etcd in order: dead ones go before others join, those that live when
/// the others have joined, and then it is looked at as a whole.
pub fn in_order(shared: &Shared, steps: Vec<Arc<dyn Step>>) -> Vec<Arc<dyn Step>> {
    if shared.cluster.topology != Topology::External {
        return steps;
    }
    let leaves = |id: &StepId| id.name == etcd::REMOVED;
    let all: Vec<_> = steps.iter().map(|step| step.id()).filter(leaves).collect();
    let is_first = |id: &StepId| shared.removed_first.contains(&id.host);
    let (dead, live): (Vec<_>, Vec<_>) = all.iter().cloned().partition(is_first);
    let members = shared.cluster.etcd_hosts();
    let members: Vec<_> = members.map(|host| StepId::new(&host.name, etcd::MEMBER)).collect();
    let steps = after(steps, &dead, |id| members.contains(id));
    let steps = after(steps, &members, |id| live.contains(id));
    after(steps, &all, |id| id.name == etcd::HEALTHY)
}

/// Those of these hosts that cannot be reached, each with the reason. One that refuses us, or whose key
/// is unknown, is an error: it may be alive.
///
/// # Errors
/// A host could be reached and is not let in.
pub async fn unreachable<'a>(
    cx: &Context,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>, StepError> {
    let knock = |name: &'a str| async move {
        let command = Command::new(["true"]).timeout(Duration::from_secs(20));
        (name, cx.run(name, &command).await)
    };
    let mut away = BTreeMap::new();
    for (name, answer) in join_all(names.into_iter().map(knock)).await {
        match answer {
            Ok(_) => {}
            Err(StepError::Transport(
                error @ (TransportError::Unreachable { .. }
                | TransportError::Lost { .. }
                | TransportError::Timeout { .. }),
            )) => {
                away.insert(name.to_owned(), error.to_string());
            }
            Err(other) => return Err(other),
        }
    }
    Ok(away)
}
