//! An upgrade on hosts that are not there: in order, in batches, stopped and gone on with.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Programs, steps};
use crate::bootstrap::engine::{Context, Step, StepError};
use crate::bootstrap::spec::Version;
use crate::bootstrap::steps::world::{World, cluster};
use crate::bootstrap::transport::Command;

/// Programs that come by themselves.
#[derive(Debug)]
struct Installed;

impl Programs for Installed {
    fn kubeadm<'a>(
        &'a self,
        cx: &'a Context,
        host: &'a str,
        version: Version,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        install(cx, host, "kubeadm", version)
    }

    fn kubelet<'a>(
        &'a self,
        cx: &'a Context,
        host: &'a str,
        version: Version,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        install(cx, host, "kubelet", version)
    }
}

fn install<'a>(
    cx: &'a Context,
    host: &'a str,
    program: &'a str,
    version: Version,
) -> BoxFuture<'a, Result<(), StepError>> {
    async move {
        let words = ["install".to_owned(), program.to_owned(), version.to_string()];
        cx.run(host, &Command::new(words)).await.map(drop)
    }
    .boxed()
}

/// A whole cluster of 1.34.2 whose file says this now.
async fn wished(version: Version) -> World {
    let world = World::new(cluster());
    world.apply(&world.steps()).await.unwrap();
    let mut newer = cluster();
    newer.kubernetes_version = version;
    let world = world.with(newer);
    world.later().await;
    world
}

async fn planned(world: &World) -> Result<Vec<Arc<dyn Step>>, StepError> {
    steps(&world.shared, &world.cx, Arc::new(Installed), 1).await
}

const NEXT: Version = Version::new(1, 35, 1);

#[tokio::test(start_paused = true)]
async fn the_first_is_applied_and_the_others_follow() {
    let world = wished(NEXT).await;
    let steps = planned(&world).await.unwrap();
    assert_eq!(world.apply(&steps).await, Ok(5));
    assert_eq!(world.lines("cp1", "kubeadm upgrade apply --yes v1.35.1").len(), 1);
    for host in ["cp2", "cp3", "w1", "w2"] {
        assert_eq!(world.lines(host, "kubeadm upgrade").len(), 1, "{host}");
        assert_eq!(world.lines(host, "kubeadm upgrade node").len(), 1, "{host}");
    }
    for host in ["cp1", "w1"] {
        let lines = world.hosts[host].lines();
        let place = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
        let order =
            ["install kubeadm", "kubeadm upgrade", "install kubelet", "restart kubelet"].map(place);
        assert!(order.is_sorted(), "{lines:?}");
    }
    assert!(world.sim().nodes.values().all(|node| !node.cordoned && node.labels.is_empty()));
    world.later().await;
    assert_eq!(world.apply(&planned(&world).await.unwrap()).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_where_it_was_stopped() {
    let world = wished(NEXT).await;
    let steps = planned(&world).await.unwrap();
    world.apply(&steps[..1]).await.unwrap();
    world.sim().undrainable =
        Some("Cannot evict pod as it would violate the pod's disruption budget.");
    assert!(world.apply(&steps[1..2]).await.is_err());
    assert!(world.sim().nodes["cp2"].cordoned);
    world.sim().undrainable = None;
    world.later().await;
    let steps = planned(&world).await.unwrap();
    assert_eq!(world.apply(&steps).await, Ok(4));
    assert_eq!(world.lines("cp2", "kubeadm upgrade").len(), 0, "its static pods are new already");
    assert!(world.sim().nodes.values().all(|node| !node.cordoned));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_an_operator_cordoned_stays_so() {
    let world = wished(NEXT).await;
    world.sim().nodes.get_mut("w1").unwrap().cordoned = true;
    world.apply(&planned(&world).await.unwrap()).await.unwrap();
    assert!(world.sim().nodes["w1"].cordoned);
}

#[tokio::test(start_paused = true)]
async fn two_minor_releases_at_once_are_refused() {
    let world = wished(Version::new(1, 36, 0)).await;
    let error = planned(&world).await.unwrap_err().to_string();
    assert!(error.starts_with("v1.34.2 cannot become v1.36.0 at once"), "{error}");
    assert!(world.hosts.values().all(|host| host.ran("upgrade") == 0));
}

#[tokio::test(start_paused = true)]
async fn no_worker_goes_before_the_control_planes() {
    let world = wished(NEXT).await;
    let steps = planned(&world).await.unwrap();
    let needs: Vec<_> = steps.iter().flat_map(|step| step.needs()).map(|id| id.host).collect();
    assert_eq!(needs, ["cp1", "cp2", "cp3", "cp3"]);
}
