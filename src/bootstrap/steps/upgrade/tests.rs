//! An upgrade on hosts that are not there: in order, in batches, stopped and gone on with.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Programs, batch, steps};
use crate::bootstrap::engine::{Context, Graph, Step, StepError};
use crate::bootstrap::spec::{Cluster, Version};
use crate::bootstrap::steps::tests::{apply_through, most_at_once, slow_drains, wide, with};
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
    wished_of(cluster(), version).await
}

async fn wished_of(cluster: Cluster, version: Version) -> World {
    let world = World::new(cluster.clone());
    world.apply(&world.steps()).await.unwrap();
    let mut newer = cluster;
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

/// The whole upgrade by the engine, with batches of this size: what became of its steps.
async fn upgraded(world: &World, batch: usize) -> crate::bootstrap::engine::Summary {
    let steps = steps(&world.shared, &world.cx, Arc::new(Installed), batch).await.unwrap();
    apply_through(&world.cx, &Graph::new(&steps).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn workers_go_in_batches_after_every_control_plane() {
    let world = wished_of(wide(40), NEXT).await;
    assert_eq!(batch(&world.shared.cluster), 4);
    slow_drains(&world);
    assert_eq!(with(&upgraded(&world, 4).await, "applied").len(), 43);
    assert_eq!(most_at_once(&world, "drain w"), 4);
    assert_eq!(most_at_once(&world, "drain cp"), 1);
    let nodes = world.sim().nodes.clone();
    assert!(nodes.values().all(|node| !node.cordoned && node.kubelet == "v1.35.1"), "{nodes:?}");
    assert_eq!((batch(&wide(5)), batch(&wide(200))), (1, 16));
}

#[tokio::test(start_paused = true)]
async fn the_first_worker_that_fails_is_the_last_that_is_taken_down() {
    let world = wished_of(wide(20), NEXT).await;
    slow_drains(&world);
    world.hosts["w1"].on(
        ["systemctl", "restart", "kubelet.service"],
        crate::bootstrap::transport::recording::Answer::fails(1, "no"),
    );
    let summary = upgraded(&world, 2).await;
    // Who was at it already comes to its end.
    let applied = with(&summary, "applied");
    assert!((3..=5).contains(&applied.len()), "{applied:?}");
    let why: Vec<_> = summary.steps.iter().filter_map(|(_, outcome)| outcome.why()).collect();
    let left =
        "was left alone, since the upgrade of w1 has failed; see to w1, and run the upgrade again";
    assert!(why.iter().filter(|why| why.ends_with(left)).count() >= 15, "{why:?}");
    assert!(world.sim().nodes["w1"].cordoned);
    // Mended, it goes on from there.
    world.hosts["w1"].on(
        ["systemctl", "restart", "kubelet.service"],
        crate::bootstrap::transport::recording::Answer::ok(""),
    );
    world.later().await;
    assert_eq!(with(&upgraded(&world, 2).await, "failed"), Vec::<String>::new());
    assert!(world.sim().nodes.values().all(|node| !node.cordoned));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_no_node_yet_is_left_to_apply() {
    let world = wished(NEXT).await;
    world.sim().nodes.remove("w2");
    let hosts: Vec<_> = planned(&world).await.unwrap().iter().map(|step| step.id().host).collect();
    assert_eq!(hosts, ["cp1", "cp2", "cp3", "w1"]);
}

#[tokio::test(start_paused = true)]
async fn the_proxies_come_first_and_only_what_nodes_need() {
    let world = wished(NEXT).await;
    let steps =
        super::all(&world.shared, &world.cx, std::path::Path::new("/proc/self/exe"), 1).await;
    let graph = Graph::new(&steps.unwrap()).unwrap();
    let place = |host: &str, step: &str| {
        graph.find(&crate::bootstrap::engine::StepId::new(host, step)).unwrap()
    };
    for worker in ["w1", "w2"] {
        assert!(place(worker, "apiproxy") < place(worker, "static-pod"));
        assert!(place(worker, "static-pod") < place("cp1", "upgrade-control-plane"));
    }
    assert!(place("cp2", "prepared") < place("cp2", "upgrade-control-plane"));
    assert!(place("cp3", "upgrade-control-plane") < place("w1", "upgrade-worker"));
    let other =
        |name: &str| ["control-plane", "control-plane-settings", "node-labels"].contains(&name);
    assert!((0..graph.len()).all(|at| !other(&graph.id(at).name)), "{graph:?}");
}
