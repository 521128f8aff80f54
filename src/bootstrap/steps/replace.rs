//! `replace OLD NEW`: a spare takes the place of a host, whether that still lives or not.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::remove::{self, Extra};
use super::shared::Shared;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::{Api, Member, quorum, removable};
use crate::bootstrap::spec::{Cluster, Host, Role, Topology};

/// A replacement, planned.
#[derive(Debug)]
pub struct Replacement {
    /// What the steps share: of the cluster as its file has to be from then on.
    pub shared: Arc<Shared>,
    /// What leaves.
    pub extras: Vec<Extra>,
    /// Is the old host taken out before the new one joins? So it is when its etcd member is dead.
    pub removed_first: bool,
}

/// The roles whose place another host can take.
const ROLES: [Role; 3] = [Role::ControlPlane, Role::Etcd, Role::Worker];

fn refused(reason: impl Into<String>, remedy: impl Into<String>) -> StepError {
    StepError::Refused { reason: reason.into(), remedy: remedy.into() }
}

fn is_spare(host: &Host) -> bool {
    host.roles == BTreeSet::from([Role::Spare])
}

/// The cluster in which `new` stands for `old`. A host that the file gives the roles of the old one
/// already may come as well; so it is when this was begun before, and the file was written.
///
/// # Errors
/// One of them is not there, or `new` is neither a spare nor has the roles of `old`.
pub fn replaced(cluster: &Cluster, old: &str, new: &str) -> Result<Cluster, StepError> {
    if old == new {
        let remedy = "a machine that was made anew under its old name is joined by `apiproxy bootstrap apply`";
        return Err(refused(format!("{old} cannot take its own place"), remedy));
    }
    let comes = cluster.host(new).ok_or_else(|| missing(new))?;
    let Some(gone) = cluster.host(old) else {
        return if is_spare(comes) { Err(missing(old)) } else { Ok(cluster.clone()) };
    };
    if !gone.roles.iter().any(|role| ROLES.contains(role)) {
        let remedy = "name a control plane, an etcd host or a worker as the one that goes";
        return Err(refused(format!("{old} has no place in the cluster to take"), remedy));
    }
    let mut replaced = cluster.clone();
    if is_spare(comes) {
        let mut comes = comes.clone();
        comes.roles.clone_from(&gone.roles);
        for (name, value) in &gone.labels {
            comes.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if comes.taints.is_empty() {
            comes.taints.clone_from(&gone.taints);
        }
        comes.overrides = comes.overrides.or(&gone.overrides);
        replaced.hosts.iter_mut().filter(|host| host.name == new).for_each(|host| {
            host.clone_from(&comes);
        });
    } else if !gone.roles.is_subset(&comes.roles) {
        return Err(refused(
            format!("{new} has roles already, and not those of {old}"),
            "give the host that comes the role `spare` alone, or the roles of the one that goes",
        ));
    }
    replaced.hosts.retain(|host| host.name != old);
    let spares: Vec<_> = replaced.with_role(Role::Spare).map(|host| host.name.clone()).collect();
    if let Some(backup) = &mut replaced.etcd.backup {
        if backup.to_spares {
            backup.copy_to = spares;
        }
        let named = backup.copy_to.iter().any(|name| name == new);
        if named {
            backup.copy_to.retain(|name| name != old);
        }
        for name in backup.copy_to.iter_mut().filter(|name| *name == old) {
            new.clone_into(name);
        }
        let drill = backup.drill.as_mut().and_then(|drill| drill.host.as_mut());
        if let Some(host) = drill.filter(|host| *host == old) {
            new.clone_into(host);
        }
    }
    Ok(replaced)
}

fn missing(name: &str) -> StepError {
    let remedy = "name two of its hosts: the one that goes, and a spare";
    refused(format!("the file has no host {name}"), remedy)
}

/// The spares that may take the place of a host, those of its zone first.
pub fn candidates<'a>(cluster: &'a Cluster, old: &str) -> Vec<&'a Host> {
    let zone = cluster.host(old).and_then(|host| host.zone.as_ref());
    let mut spares: Vec<_> = cluster.with_role(Role::Spare).collect();
    spares.sort_by_key(|spare| zone.is_some() && spare.zone.as_ref() != zone);
    spares
}

/// Plans it for the cluster in which `new` stands for `old`. A dead etcd member goes before the new one
/// comes, since kubeadm and etcd add none beside it; a live one goes last, so that the cluster is never
/// smaller than it was. `gone` is the old host as the file had it.
///
/// A host of etcd alone is replaced through etcd alone: no apiserver has to serve.
///
/// # Errors
/// No other control plane serves, or the quorum does not allow it: with the numbers.
pub async fn plan(
    after: &Shared,
    cx: &Context,
    (old, gone): (&str, Option<&Host>),
    new: &str,
) -> Result<Replacement, StepError> {
    let is_node =
        |host: &&Host| host.roles.iter().any(|role| ROLES.contains(role) && *role != Role::Etcd);
    if let Some(gone) = gone.filter(is_node)
        && after.serving(cx).await?.is_none()
    {
        return Err(no_other(gone, new));
    }
    // When the file was written before, the one that comes has the roles of the one that went.
    let of_etcd_alone = |host: &Host| host.roles == BTreeSet::from([Role::Etcd]);
    let found = if gone.or(after.cluster.host(new)).is_some_and(of_etcd_alone) {
        remove::etcd_extras(after, cx).await?
    } else {
        remove::extras(after, cx).await?
    };
    let mut leaving = gone.map(Extra::of_host);
    let mut extras = Vec::new();
    for mut extra in found {
        if extra.name != old && !gone.is_some_and(|gone| is_of(&extra, gone)) {
            continue;
        }
        match leaving.take() {
            // What has the host's name is one with it; a member that never started has none.
            Some(host) if extra.name == old || extra.member.is_some() => {
                extra.name = host.name;
                extra.is_etcd_host |= host.is_etcd_host;
                extra.was_node = host.was_node;
                extra.address = host.address;
            }
            other => leaving = other,
        }
        extras.push(extra);
    }
    extras.extend(leaving);
    for extra in extras
        .iter_mut()
        .filter(|extra| gone.is_some_and(|gone| is_node(&gone)) || extra.node.is_some())
    {
        extra.successor = Some(new.to_owned());
    }
    let first = remove::first(&extras);
    let shared =
        Shared::removing_first(after.cluster.clone(), after.documents.clone(), first.clone());
    if after.cluster.topology == Topology::Stacked {
        quorum_allows(&shared, cx, &extras, new).await?;
    }
    Ok(Replacement { shared, extras, removed_first: !first.is_empty() })
}

/// Nothing of the file serves but perhaps the one that goes: the new one would make a cluster of its own.
fn no_other(gone: &Host, new: &str) -> StepError {
    let name = &gone.name;
    if gone.roles.contains(&Role::ControlPlane) {
        return refused(
            format!("{name} is the only control plane of the cluster"),
            format!(
                "give {new} the role `controlPlane` beside it in the file and run `apiproxy bootstrap \
                 apply`; then take {name} out of the file and run `apiproxy bootstrap apply --prune`"
            ),
        );
    }
    let remedy = "change the file, and run `apiproxy bootstrap apply`";
    refused(format!("there is no cluster yet that {name} could leave"), remedy)
}

fn is_of(extra: &Extra, host: &Host) -> bool {
    let member = extra.member.as_ref();
    let at = extra.is_etcd_host && extra.address == Some(host.address);
    at || member.is_some_and(|member| member.is_of(&host.name, host.address))
}

/// kubeadm adds a member only where all others answer; and a dead one must be removable.
async fn quorum_allows(
    after: &Shared,
    cx: &Context,
    extras: &[Extra],
    new: &str,
) -> Result<(), StepError> {
    let comes = after.host(new)?;
    if !comes.roles.contains(&Role::ControlPlane) {
        return Ok(());
    }
    let Some(via) = after.serving(cx).await? else { return Ok(()) };
    let api = Api::new(cx, &via);
    let members = api.members().await?;
    if members.iter().any(|member| member.is_of(new, comes.address)) {
        return Ok(());
    }
    let healthy = api.healthy(&members).await?;
    let goes = |member: &Member| {
        extras.iter().any(|extra| extra.member.as_ref().is_some_and(|own| own.id == member.id))
    };
    for member in members.iter().filter(|member| goes(member) && !healthy.contains(&member.id)) {
        removable(&members, &healthy, member.id).map_err(|reason| {
            let remedy =
                "bring another member back first, or see `apiproxy bootstrap etcd restore`";
            refused(format!("{} stays: {reason}", member.name), remedy)
        })?;
    }
    let voters = members.iter().filter(|member| !member.is_learner);
    let ill = voters.clone().filter(|member| !healthy.contains(&member.id) && !goes(member));
    let ill: Vec<_> = ill.map(|member| member.name.as_str()).collect();
    if ill.is_empty() {
        return Ok(());
    }
    let (all, names) = (voters.clone().count(), ill.join(", "));
    let well = voters.filter(|member| healthy.contains(&member.id)).count();
    Err(refused(
        format!(
            "{new} cannot join while the etcd member of {names} does not answer: {well} of {all} members \
             are healthy, {} are needed",
            quorum(all)
        ),
        format!(
            "bring it back, or replace it first; if it is gone for good and no spare is left for it, take \
             {names} out of the file and run `apiproxy bootstrap apply --prune`"
        ),
    ))
}
