//! All steps together, ordered and run by the engine, on hosts that are not there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::etcd::Renewal;
use super::shared::Shared;
use super::world::{Plain, World, cluster};
use super::{control_plane, remove, workers};
use crate::bootstrap::engine::{
    Check, Context, Events, Execution, Graph, PARALLEL, Plan, Step, StepError, StepId, Stop,
    Summary, execute, observe,
};
use crate::bootstrap::spec::{Cluster, Role, Topology};
use crate::bootstrap::transport::TransportError;
use crate::bootstrap::transport::recording::{Answer, Asked, When};

/// What another part makes sure of.
#[derive(Debug)]
struct There(StepId);

impl Step for There {
    fn id(&self) -> StepId {
        self.0.clone()
    }

    fn title(&self) -> String {
        self.0.to_string()
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn check<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async { Ok(Check::Done) }.boxed()
    }

    fn apply<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        async { Ok(()) }.boxed()
    }
}

pub(super) fn graph(world: &World, extras: &[remove::Extra]) -> Graph {
    let there =
        |host: &str, name: &str| -> Arc<dyn Step> { Arc::new(There(StepId::new(host, name))) };
    let cluster = &world.shared.cluster;
    let mut steps: Vec<_> =
        cluster.hosts.iter().map(|host| there(&host.name, "prepared")).collect();
    steps.extend(control_plane::steps(&world.shared));
    steps.extend(workers::steps(&world.shared));
    steps.extend(remove::steps(&world.shared, extras));
    Graph::new(&steps).unwrap()
}

async fn plan(world: &World, graph: &Graph) -> Plan {
    observe(graph, &world.cx, None, PARALLEL, &Events::none()).await
}

pub(super) async fn apply(world: &World, graph: &Graph) -> Summary {
    apply_through(&world.cx, graph).await
}

/// Plans and applies through these hosts.
pub(super) async fn apply_through(cx: &Context, graph: &Graph) -> Summary {
    let execution = Execution {
        parallel: PARALLEL,
        cluster: None,
        barred: &|_| None,
        events: Events::none(),
        stop: Stop::never(),
    };
    let plan = observe(graph, cx, None, PARALLEL, &Events::none()).await;
    execute(graph, &plan, cx, &execution).await
}

/// To drain a node takes ten seconds from now on.
pub(super) fn slow_drains(world: &World) {
    for host in world.hosts.values() {
        host.on(" drain ", Answer::ok("").after(Duration::from_secs(10)));
    }
}

/// How many commands that contain this were under way at the same time.
pub(super) fn most_at_once(world: &World, text: &str) -> usize {
    let calls = world.hosts.values().flat_map(|host| host.calls());
    let meant = calls.filter(|call| match &call.asked {
        Asked::Run(command) => command.argv.join(" ").contains(text),
        _ => false,
    });
    let spans: Vec<_> = meant.filter_map(|call| Some((call.began, call.ended?))).collect();
    let at = |moment: Instant| {
        spans.iter().filter(|(began, ended)| *began <= moment && moment < *ended).count()
    };
    spans.iter().map(|(began, _)| at(*began)).max().unwrap_or(0)
}

/// The steps with this outcome.
pub(super) fn with(summary: &Summary, word: &str) -> Vec<String> {
    let found = summary.steps.iter().filter(|(_, outcome)| outcome.word() == word);
    found.map(|(id, _)| id.to_string()).collect()
}

pub(super) fn wide(workers: usize) -> Cluster {
    let mut cluster = cluster();
    let one = cluster.hosts.pop().unwrap();
    for n in 2..=workers {
        let (name, address) = (format!("w{n}"), format!("10.0.1.{n}").parse().unwrap());
        cluster.hosts.push(crate::bootstrap::spec::Host { name, address, ..one.clone() });
    }
    cluster
}

#[tokio::test(start_paused = true)]
async fn one_apply_makes_the_cluster_and_the_next_changes_nothing() {
    let world = World::new(cluster());
    let all = graph(&world, &[]);
    let first = apply(&world, &all).await;
    assert_eq!(with(&first, "failed"), Vec::<String>::new());
    assert_eq!(world.sim().nodes.len(), 5);
    assert_eq!(world.sim().proxies.values().collect::<Vec<_>>(), [&2, &2]);
    world.later().await;
    let again = plan(&world, &all).await;
    assert!(again.is_done(), "{:?}", again.needed().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn fifty_workers_are_looked_at_once_each_and_join_sixteen_at_a_time() {
    let world = World::new(wide(50));
    let all = graph(&world, &[]);
    let summary = apply(&world, &all).await;
    assert_eq!(with(&summary, "failed"), Vec::<String>::new());
    assert_eq!(world.sim().nodes.len(), 53);
    let tokens: usize = world.hosts.values().map(|host| host.ran("kubeadm token create")).sum();
    assert!(tokens <= 2, "{tokens} tokens");

    world.later().await;
    let began = Instant::now();
    assert!(plan(&world, &all).await.is_done());
    assert!(began.elapsed() < Duration::from_secs(1));
    for (name, host) in &world.hosts {
        let most = if name.starts_with('w') { 1 } else { 4 };
        assert!(host.commands().len() <= most, "{name}: {:?}", host.lines());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_control_plane_keeps_no_worker_back() {
    let world = World::new(cluster());
    apply(&world, &graph(&world, &[])).await;
    world.hosts["cp1"].die("no power");
    world.sim().serving.remove("cp1");
    world.sim().sick.insert(1);
    world.later().await;
    let mut wider = cluster();
    wider.hosts = wide(2).hosts;
    let world = world.with(wider);
    world.sim().nodes.remove("w2");
    world.hosts["w2"].remove("/etc/kubernetes").remove("/etc/apiproxy");
    world.sim().proxies.remove("w2");
    let summary = apply(&world, &graph(&world, &[])).await;
    let failed = with(&summary, "failed");
    assert!(failed.iter().all(|step| step.starts_with("cp1/")), "{failed:?}");
    assert!(world.sim().nodes.contains_key("w2"));
    assert!(with(&summary, "applied").contains(&"w2/static-pod".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_goes_comes_last_after_every_proxy_knows() {
    let world = World::new(cluster());
    apply(&world, &graph(&world, &[])).await;
    let mut fewer = cluster();
    fewer.hosts.retain(|host| host.name != "cp3" && host.name != "w2");
    let world = world.with(fewer);
    world.later().await;
    let extras = remove::extras(&world.shared, &world.cx).await.unwrap();
    let all = graph(&world, &extras);
    let planned = plan(&world, &all).await;
    let touched: BTreeSet<_> = planned.touched(&all);
    assert_eq!(touched.into_iter().collect::<Vec<_>>(), ["cp3", "w1", "w2"]);
    let summary = apply(&world, &all).await;
    assert_eq!(with(&summary, "failed"), Vec::<String>::new());
    assert_eq!(with(&summary, "applied"), ["w1/proxy-config", "cp3/remove", "w2/remove"]);
    assert_eq!(world.sim().members.len(), 2);
}

#[test]
fn a_control_plane_waits_for_an_external_etcd() {
    let mut external = cluster();
    external.topology = Topology::External;
    external.hosts.push(super::world::spare("e1", "10.0.0.21"));
    external.hosts[5].roles = BTreeSet::from([Role::Etcd]);
    let world = World::new(external);
    let needs: Vec<_> = control_plane::steps(&world.shared)[0].needs();
    let needs: Vec<_> = needs.iter().map(ToString::to_string).collect();
    assert_eq!(needs, ["cp1/prepared", "e1/etcd-healthy", "cp1/etcd-client"]);
}

#[test]
fn the_steps_of_all_parts_make_a_graph() {
    let cluster = Arc::new(wide(3));
    let keys = Arc::new(super::etcd::Keys::new(super::etcd::KeyHome::Host("cp1".to_owned())));
    let shared = Shared::new(cluster, Arc::new(Plain));
    let all = Graph::new(&super::all(&shared, &keys, &[], Renewal::WhenDue)).unwrap();
    let place = |host: &str, step: &str| all.find(&StepId::new(host, step)).unwrap();
    assert!(place("cp1", "prepared") < place("cp1", "control-plane"));
    assert!(place("cp3", "control-plane") < place("w1", "proxy-config"));
    assert!(place("w1", "node") < place("w1", "static-pod"));
}

#[test]
fn members_of_an_external_etcd_leave_in_order() {
    let mut external = cluster();
    external.topology = Topology::External;
    for (name, at) in [("e1", "10.0.0.21"), ("e3", "10.0.0.23"), ("s1", "10.0.0.41")] {
        external.hosts.push(super::world::spare(name, at));
    }
    external.hosts[5..].iter_mut().for_each(|host| host.roles = BTreeSet::from([Role::Etcd]));
    let cluster = Arc::new(external);
    let keys = Arc::new(super::etcd::Keys::new(super::etcd::KeyHome::Host("cp1".to_owned())));
    let mut gone = remove::Extra::of_host(&super::world::spare("e2", "10.0.0.22"));
    (gone.is_etcd_host, gone.was_node) = (true, false);
    for dead in [false, true] {
        gone.is_dead = dead;
        let extras = [gone.clone()];
        let first = remove::first(&extras);
        let shared = Shared::removing_first(cluster.clone(), Arc::new(Plain), first);
        let all = Graph::new(&super::without(&shared, &keys, &[], &extras)).unwrap();
        let place = |host: &str, step: &str| all.find(&StepId::new(host, step)).unwrap();
        let (removed, healthy) = (place("e2", "etcd-removed"), place("e1", "etcd-healthy"));
        assert_eq!(removed < place("s1", "etcd-member"), dead);
        assert!(removed < healthy && healthy < place("cp1", "control-plane"));
        assert_eq!(all.find(&StepId::new("e2", "remove")), None);
    }
}

#[tokio::test(start_paused = true)]
async fn dead_control_planes_cost_no_time_while_one_serves() {
    let world = World::new(cluster());
    world.apply(&world.steps()).await.unwrap();
    world.later().await;
    for dead in ["cp1", "cp3"] {
        let gone = TransportError::Unreachable {
            host: dead.to_owned(),
            reason: "no answer on port 22".to_owned(),
            remedy: "is it up?".to_owned(),
        };
        world.hosts[dead].on(When::any(), Answer::error(gone).after(Duration::from_secs(10)));
    }
    let began = Instant::now();
    assert_eq!(world.shared.serving(&world.cx).await, Ok(Some("cp2".to_owned())));
    // A moment for cp1, which served last, and one for the others.
    assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
    // From then on it is asked alone.
    world.later().await;
    let began = Instant::now();
    assert_eq!(world.shared.serving(&world.cx).await, Ok(Some("cp2".to_owned())));
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
}
