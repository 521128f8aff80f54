//! `replace OLD NEW`: a spare takes the place of a host, whether that still lives or not.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::shared::Shared;
use super::{control_plane, remove, workers};
use crate::bootstrap::engine::{Context, Step, StepError};
use crate::bootstrap::kubernetes::Api;
use crate::bootstrap::spec::{Cluster, Host, Role};

/// A replacement, planned.
#[derive(Debug)]
pub struct Replacement {
    /// The cluster as its file has to be from then on.
    pub cluster: Arc<Cluster>,
    /// What the steps share.
    pub shared: Arc<Shared>,
    /// The steps, beside those that prepare the new host.
    pub steps: Vec<Arc<dyn Step>>,
    /// Is the old host taken out before the new one joins? So it is when its etcd member is dead.
    pub removed_first: bool,
}

/// The cluster in which `new` stands for `old`.
///
/// # Errors
/// One of them is not there, or `new` is no spare.
pub fn replaced(cluster: &Cluster, old: &str, new: &str) -> Result<Cluster, StepError> {
    let found = |name: &str| cluster.host(name).ok_or_else(|| missing(name));
    let (gone, spare) = (found(old)?, found(new)?);
    if spare.roles != BTreeSet::from([Role::Spare]) {
        return Err(StepError::Refused {
            reason: format!("{new} has roles already"),
            remedy: "give the host that comes in the role `spare` alone".to_owned(),
        });
    }
    let mut comes = spare.clone();
    comes.roles.clone_from(&gone.roles);
    for (name, value) in &gone.labels {
        comes.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if comes.taints.is_empty() {
        comes.taints.clone_from(&gone.taints);
    }
    let mut replaced = cluster.clone();
    replaced.hosts.retain(|host| host.name != new);
    if let Some(place) = replaced.hosts.iter_mut().find(|host| host.name == old) {
        *place = comes;
    }
    if let Some(backup) = &mut replaced.etcd.backup {
        backup.copy_to.retain(|name| name != old);
    }
    Ok(replaced)
}

fn missing(name: &str) -> StepError {
    StepError::Refused {
        reason: format!("the file has no host {name}"),
        remedy: "name two of its hosts: the one that goes, and a spare".to_owned(),
    }
}

/// Plans it. A dead etcd member goes before the new one comes, since kubeadm adds none beside it; a
/// live one goes last, so that the cluster is never smaller than it was.
///
/// # Errors
/// One of them is not there, `new` is no spare, or no other control plane serves.
pub async fn plan(
    shared: &Shared,
    cx: &Context,
    old: &str,
    new: &str,
) -> Result<Replacement, StepError> {
    let cluster = Arc::new(replaced(&shared.cluster, old, new)?);
    let after = Shared::new(cluster.clone(), shared.documents.clone());
    let gone = shared.host(old)?;
    let extras = remove::extras(&after, cx).await?;
    let extras: Vec<_> = extras.into_iter().filter(|extra| is_of(extra, gone)).collect();
    let dead = is_dead(&after, cx, &extras).await?;
    let first = if dead { BTreeSet::from([old.to_owned()]) } else { BTreeSet::new() };
    let after = Shared::removing_first(cluster.clone(), shared.documents.clone(), first);
    let mut steps = control_plane::steps(&after);
    steps.extend(workers::steps(&after));
    let leaving = remove::steps(&after, &extras);
    if dead {
        steps.splice(0..0, leaving);
    } else {
        steps.extend(leaving);
    }
    Ok(Replacement { cluster, shared: after, steps, removed_first: dead })
}

fn is_of(extra: &remove::Extra, host: &Host) -> bool {
    let member = extra.member.as_ref();
    extra.name == host.name || member.is_some_and(|member| member.is_of(&host.name, host.address))
}

async fn is_dead(
    after: &Shared,
    cx: &Context,
    extras: &[remove::Extra],
) -> Result<bool, StepError> {
    let mut members = extras.iter().filter_map(|extra| extra.member.clone());
    let Some(member) = members.next() else {
        return Ok(false);
    };
    let via = after.through(cx).await?;
    let healthy = Api::new(cx, &via).healthy(std::slice::from_ref(&member)).await?;
    Ok(!healthy.contains(&member.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::steps::world::{World, cluster, spare};

    fn with_spare() -> Cluster {
        let mut cluster = cluster();
        cluster.hosts.push(spare("s1", "10.0.0.41"));
        cluster
    }

    async fn whole() -> World {
        let world = World::new(with_spare());
        world.apply(&world.steps()).await.unwrap();
        world.later().await;
        world
    }

    fn members(world: &World) -> Vec<String> {
        world.sim().members.iter().map(|member| member.name.clone()).collect()
    }

    #[test]
    fn a_spare_takes_roles_labels_and_place() {
        let mut cluster = with_spare();
        cluster.hosts[1].labels.insert("disk".to_owned(), "ssd".to_owned());
        let after = replaced(&cluster, "cp2", "s1").unwrap();
        let names: Vec<_> = after.hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["cp1", "s1", "cp3", "w1", "w2"]);
        assert_eq!(after.hosts[1].roles, cluster.hosts[1].roles);
        assert_eq!(after.hosts[1].labels["disk"], "ssd");
        assert_eq!(after.hosts[1].address, "10.0.0.41".parse::<std::net::IpAddr>().unwrap());
        let refused = |old, new| replaced(&cluster, old, new).unwrap_err().to_string();
        assert!(refused("cp2", "w1").contains("w1 has roles already"));
        assert!(refused("cp9", "s1").contains("no host cp9"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_live_control_plane_goes_when_the_new_one_is_whole() {
        let world = whole().await;
        let planned = plan(&world.shared, &world.cx, "cp2", "s1").await.unwrap();
        assert!(!planned.removed_first);
        let world = world.of(planned.shared);
        world.apply(&planned.steps).await.unwrap();
        assert_eq!(members(&world), ["cp1", "cp3", "s1"]);
        assert_eq!(world.hosts["cp2"].ran("kubeadm reset"), 1);
        let config = world.hosts["w1"].text("/etc/apiproxy/config.yaml").unwrap();
        assert_eq!(config, "10.0.0.11\n10.0.0.41\n10.0.0.13\n", "the proxies know");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_control_plane_goes_first() {
        let world = whole().await;
        world.hosts["cp2"].die("no power");
        {
            let mut sim = world.sim();
            sim.sick.insert(2);
            sim.serving.remove("cp2");
            sim.nodes.get_mut("cp2").unwrap().ready = false;
        }
        let planned = plan(&world.shared, &world.cx, "cp2", "s1").await.unwrap();
        assert!(planned.removed_first);
        let world = world.without_host("cp2").of(planned.shared);
        world.apply(&planned.steps).await.unwrap();
        assert_eq!(members(&world), ["cp1", "cp3", "s1"]);
        assert!(!world.sim().nodes.contains_key("cp2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_replaced_without_etcd() {
        let world = whole().await;
        let planned = plan(&world.shared, &world.cx, "w2", "s1").await.unwrap();
        let world = world.of(planned.shared);
        world.apply(&planned.steps).await.unwrap();
        let nodes: Vec<_> = world.sim().nodes.keys().cloned().collect();
        assert_eq!(nodes, ["cp1", "cp2", "cp3", "s1", "w1"]);
        assert_eq!(members(&world).len(), 3);
    }
}
