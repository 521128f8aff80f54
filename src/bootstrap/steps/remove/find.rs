//! Looks for what the file does not account for.

use std::collections::BTreeSet;

use super::extra::strangers;
use super::{Extra, unaccounted};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::{Api, Member};
use crate::bootstrap::spec::Topology;
use crate::bootstrap::steps::etcd::Survey;
use crate::bootstrap::steps::shared::Shared;

/// Looks for the members of an external etcd that the file does not account for. Only etcd is asked: no
/// apiserver has to serve. Nothing if etcd is stacked, or has no quorum.
///
/// # Errors
/// There is a quorum that does not say who is in it.
pub async fn etcd_extras(shared: &Shared, cx: &Context) -> Result<Vec<Extra>, StepError> {
    let cluster = &shared.cluster;
    if cluster.topology == Topology::Stacked {
        return Ok(Vec::new());
    }
    let found = Survey::of(cx, cluster).await?.cluster;
    Ok(found.map(|(_, view)| strangers(cluster, &view)).unwrap_or_default())
}

/// Looks for what the file does not account for. Nothing if there is no cluster yet.
///
/// # Errors
/// There is a cluster, but no control plane of the file serves.
pub async fn extras(shared: &Shared, cx: &Context) -> Result<Vec<Extra>, StepError> {
    let cluster = &shared.cluster;
    let mut extras = etcd_extras(shared, cx).await?;
    let Some(via) = shared.serving(cx).await? else {
        return Ok(extras);
    };
    let api = Api::new(cx, &via);
    let nodes = api.nodes().await?;
    let members = match cluster.topology {
        Topology::Stacked => api.members().await?,
        Topology::External => Vec::new(),
    };
    let mut found = unaccounted(cluster, nodes, members);
    if cluster.topology == Topology::Stacked {
        mark_dead(&api, &mut found).await?;
    }
    for node in found {
        // A host may be a node and carry a member of an external etcd.
        match extras.iter_mut().find(|extra| extra.name == node.name) {
            Some(extra) => (extra.node, extra.member) = (node.node, node.member),
            None => extras.push(node),
        }
    }
    Ok(extras)
}

/// A control plane whose member was removed before a run was cut off serves nobody either.
async fn mark_dead(api: &Api<'_>, extras: &mut [Extra]) -> Result<(), StepError> {
    let members: Vec<Member> = extras.iter().filter_map(|extra| extra.member.clone()).collect();
    let healthy = match members.as_slice() {
        [] => BTreeSet::new(),
        members => api.healthy(members).await?,
    };
    for extra in extras {
        extra.is_dead = match (&extra.member, &extra.node) {
            (Some(member), _) => !member.is_learner && !healthy.contains(&member.id),
            (None, Some(node)) => node.is_control_plane(),
            (None, None) => false,
        };
    }
    Ok(())
}
