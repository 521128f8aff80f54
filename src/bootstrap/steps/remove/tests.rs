//! What is taken out, in which order, and what is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Extra, extras, first, reset, steps, unaccounted, unreachable};
use crate::bootstrap::engine::{Check, Graph, Lane, Step, StepError};
use crate::bootstrap::kubernetes::{Member, Node};
use crate::bootstrap::spec::Cluster;
use crate::bootstrap::steps::etcd::data::Data;
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::steps::tests::{
    apply, apply_through, graph, most_at_once, slow_drains, wide, with,
};
use crate::bootstrap::steps::world::{Plain, World, cluster, spare};
use crate::bootstrap::transport::File;
use crate::bootstrap::transport::recording::Answer;

/// A cluster that is whole, and then a file without these hosts.
async fn without(gone: &[&str]) -> World {
    without_of(cluster(), gone).await
}

async fn without_of(cluster: Cluster, gone: &[&str]) -> World {
    let world = World::new(cluster.clone());
    world.apply(&world.steps()).await.unwrap();
    let mut fewer = cluster;
    fewer.hosts.retain(|host| !gone.contains(&host.name.as_str()));
    let world = world.with(fewer);
    world.later().await;
    world
}

fn refusal(error: StepError) -> String {
    match error {
        StepError::Refused { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn what_the_file_does_not_account_for_is_found() {
    let node = |name: &str| Node { name: name.to_owned(), ..Node::default() };
    let member = |id, name: &str, address: &str| Member {
        id,
        name: name.to_owned(),
        peer_urls: vec![format!("https://{address}:2380")],
        ..Member::default()
    };
    let nodes = ["cp1", "cp2", "cp3", "cp9", "w1", "w9"].map(node).to_vec();
    let members = vec![
        member(1, "cp1", "10.0.0.11"),
        // Of a host that is just joining: its own step sees to it.
        member(2, "", "10.0.0.12"),
        member(9, "cp9", "10.0.0.19"),
        member(8, "", "10.0.0.18"),
    ];
    let extras = unaccounted(&cluster(), nodes, members);
    let found: Vec<_> = extras
        .iter()
        .map(|extra| (extra.name.as_str(), extra.member.as_ref().map(|m| m.id)))
        .collect();
    assert_eq!(found, [("cp9", Some(9)), ("w9", None), ("https://10.0.0.18:2380", Some(8))]);
    assert_eq!(
        extras[1].note(),
        "the node w9 is in the cluster and not in the file; `apply --prune` removes it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_drained_before_it_goes_and_cleaned_after() {
    let world = without(&["w2"]).await;
    let extras = extras(&world.shared, &world.cx).await.unwrap();
    let reached = extras[0].host(&world.shared.cluster).unwrap();
    assert_eq!(
        (reached.name.as_str(), reached.address.to_string()),
        ("w2", "10.0.0.32".to_owned())
    );
    let steps = steps(&world.shared, &extras);
    assert_eq!((steps.len(), steps[0].lane()), (1, Lane::Parallel));
    assert_eq!(world.apply(&steps).await, Ok(1));
    let lines = world.hosts["cp1"].lines();
    let place = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    let order = ["cordon w2", "drain w2", "delete node w2"].map(place);
    assert!(order.is_sorted(), "{lines:?}");
    let machine = &world.hosts["w2"];
    assert_eq!(machine.ran("kubeadm reset --force"), 1);
    assert_eq!(machine.paths(), ["/etc/hosts"], "only what we made");
    assert_eq!(machine.text("/etc/hosts").as_deref(), Some("127.0.0.1 localhost\n"));
    assert_eq!(steps[0].check(&world.cx).await, Ok(Check::Done));
}

#[tokio::test(start_paused = true)]
async fn pods_that_do_not_leave_keep_their_node() {
    let world = without(&["w2"]).await;
    world.sim().undrainable = Some(
        "error when evicting pod db-0: Cannot evict pod as it would violate the pod's disruption budget.",
    );
    let extras = extras(&world.shared, &world.cx).await.unwrap();
    let Err(StepError::Refused { reason, remedy }) =
        world.apply(&steps(&world.shared, &extras)).await
    else {
        panic!("not refused");
    };
    assert!(reason.starts_with("w2 is cordoned, but its pods do not leave it: "), "{reason}");
    assert!(remedy.starts_with("a PodDisruptionBudget"), "{remedy}");
    assert!(world.sim().nodes.contains_key("w2"));
    assert_eq!(world.hosts["w2"].ran("kubeadm reset"), 0);

    // A dead node has nothing to be waited for.
    world.sim().nodes.get_mut("w2").unwrap().ready = false;
    world.hosts["w2"].die("no power");
    let world = world.without_host("w2");
    assert_eq!(world.apply(&steps(&world.shared, &extras)).await, Ok(1));
    assert!(!world.sim().nodes.contains_key("w2"));
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_loses_its_member_before_its_node() {
    let world = without(&["cp3"]).await;
    let extras = extras(&world.shared, &world.cx).await.unwrap();
    let steps = steps(&world.shared, &extras);
    assert_eq!(steps[0].lane(), Lane::Single);
    assert_eq!(world.apply(&steps).await, Ok(1));
    let lines = world.hosts["cp1"].lines();
    let place = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    let order = ["drain cp3", "member/remove", "delete node cp3"].map(place);
    assert!(order.is_sorted(), "{lines:?}");
    let members: Vec<_> = world.sim().members.iter().map(|member| member.id).collect();
    assert_eq!(members, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_breaks_the_quorum_changes_nothing() {
    let world = without(&["cp3"]).await;
    world.sim().sick.insert(2);
    let extras = extras(&world.shared, &world.cx).await.unwrap();
    let error = world.apply(&steps(&world.shared, &extras)).await.unwrap_err();
    assert_eq!(
        refusal(error),
        "cp3 stays: without cp3 etcd has 2 members, of which 1 are healthy and 2 are needed"
    );
    assert_eq!(world.hosts["cp1"].ran("cordon"), 0);
    assert_eq!(world.sim().members.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_last_control_plane_stays() {
    let world = without(&["cp1", "cp2", "cp3"]).await;
    let node = Node { name: "cp1".to_owned(), ready: true, ..Node::default() };
    let extra = Extra { name: "cp1".to_owned(), node: Some(node), ..Extra::default() };
    let error = steps(&world.shared, &[extra])[0].apply(&world.cx).await.unwrap_err();
    assert_eq!(refusal(error), "no control plane of the file serves, so cp1 may be the last");
}

#[tokio::test(start_paused = true)]
async fn a_reset_leaves_backups_and_nothing_of_ours() {
    let world = World::new(cluster());
    world.apply(&world.steps()).await.unwrap();
    world.hosts["cp1"].put(File::new("/var/lib/apiproxy/backups/1.db", "kept"));
    world.hosts["cp1"].put(File::new("/var/lib/etcd/member", "all"));
    let steps = reset::all(&world.shared, Data::Aside);
    assert_eq!(world.apply(&steps).await, Ok(5));
    for (name, host) in &world.hosts {
        let left: Vec<_> = host.paths().into_iter().filter(|path| path != "/etc/hosts").collect();
        let kept = ["/var/lib/apiproxy/backups/1.db", "/var/lib/etcd-removed-20261201T000000Z"];
        assert_eq!(left, if name == "cp1" { &kept[..] } else { &[] }, "{name}");
    }
    assert_eq!(world.apply(&steps).await, Ok(0));
    let workers_first = steps[0].follows();
    assert_eq!(workers_first.len(), 2, "cp1 comes after w1 and w2: {workers_first:?}");
    let words = "kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock --skip-phases remove-etcd-member";
    assert_eq!(world.hosts["cp1"].ran(words), 1, "nobody waits for an etcd without a quorum");
}

#[tokio::test(start_paused = true)]
async fn data_that_are_left_of_a_reset_that_was_cut_short_are_seen_and_deleted_when_asked() {
    let world = World::new(cluster());
    world.hosts["cp2"].put(File::new("/var/lib/etcd/member", "all"));
    assert_eq!(world.apply(&reset::all(&world.shared, Data::Deleted)).await, Ok(1));
    assert_eq!(world.hosts["cp2"].paths(), ["/etc/hosts"]);
}

fn chosen(hosts: &[&str]) -> BTreeSet<String> {
    hosts.iter().map(|host| (*host).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn some_hosts_leave_as_long_as_the_others_can_do_without_them() {
    let world = World::new(cluster());
    world.apply(&world.steps()).await.unwrap();
    world.later().await;
    let leave = async |hosts: &[&str]| {
        let steps = reset::some(&world.shared, &world.cx, &chosen(hosts), Data::Aside).await?;
        // As the graph has them: what is needed first.
        let graph = Graph::new(&steps).unwrap();
        let steps: Vec<_> = (0..graph.len()).map(|at| graph.step(at).clone()).collect();
        world.apply(&steps).await
    };
    let error = leave(&["cp1", "cp2", "cp3"]).await.unwrap_err();
    assert_eq!(refusal(error), "w1 and others would be left without a control plane");
    world.sim().sick.insert(2);
    let error = leave(&["cp1"]).await.unwrap_err();
    let numbers = "without cp1 etcd has 2 members, of which 1 are healthy and 2 are needed";
    assert_eq!(refusal(error), format!("cp1 stays: {numbers}"));
    let ran = world.hosts.values().map(|host| host.ran("kubeadm reset") + host.ran("drain"));
    assert_eq!(ran.sum::<usize>(), 0, "nothing was changed");

    world.sim().sick.clear();
    world.later().await;
    assert_eq!(leave(&["cp1", "w1"]).await, Ok(2));
    let names: Vec<_> = world.sim().nodes.keys().cloned().collect();
    assert_eq!(names, ["cp2", "cp3", "w2"]);
    assert_eq!(world.sim().members.len(), 2);
    assert_eq!(world.hosts["cp1"].ran("kubectl"), 0, "it does not take itself out");
    assert_eq!(leave(&["cp1", "w1"]).await, Ok(0));
    // All that is left: nobody is asked any more.
    assert_eq!(leave(&["cp1", "cp2", "cp3", "w1", "w2"]).await, Ok(3));
    assert_eq!(world.hosts["cp3"].paths(), ["/etc/hosts"]);
}

#[tokio::test(start_paused = true)]
async fn hosts_of_an_external_etcd_leave_it_first_and_the_whole_of_it_goes_last() {
    use crate::bootstrap::spec::{Role, Topology};
    let mut external = cluster();
    external.topology = Topology::External;
    for n in 1..=3 {
        let mut host = spare(&format!("e{n}"), &format!("10.0.0.2{n}"));
        host.roles = BTreeSet::from([Role::Etcd]);
        external.hosts.push(host);
    }
    let world = World::new(external);
    let all = reset::all(&world.shared, Data::Aside);
    let last = all.last().unwrap();
    assert_eq!((last.id().to_string(), last.follows().len()), ("e3/etcd-reset".to_owned(), 5));
    let e2 = &world.hosts["e2"];
    e2.put(File::new("/etc/systemd/system/apiproxy-etcd.service", "unit"));
    e2.put(File::new("/etc/apiproxy/etcd", "folder"));
    e2.put(File::new("/etc/apiproxy/backup", "folder"));
    e2.put(File::new("/etc/systemd/system/apiproxy-etcd-backup.timer", "timer"));
    e2.put(File::new("/var/lib/etcd/member", "all"));
    e2.on(
        "stop etcd for good",
        Answer::ok("").then(|host, _| {
            host.remove("/etc/systemd/system/apiproxy-etcd.service").remove("/etc/apiproxy/etcd");
        }),
    );
    let of_e2 = |step: &&Arc<dyn Step>| step.id().host == "e2";
    let steps: Vec<_> = all.iter().filter(of_e2).cloned().collect();
    assert_eq!(world.apply(&steps).await, Ok(1));
    assert_eq!(e2.paths(), ["/etc/hosts", "/var/lib/etcd-removed-20261201T000000Z"]);
    assert_eq!(world.apply(&steps).await, Ok(0));

    let some = reset::some(&world.shared, &world.cx, &chosen(&["e2"]), Data::Aside).await.unwrap();
    let names: Vec<_> = some.iter().map(|step| step.id().to_string()).collect();
    assert_eq!(names, ["e2/etcd-removed", "e2/etcd-reset"]);
    assert_eq!(some[1].needs(), [some[0].id()]);
}

/// What `apply --prune` does, through these hosts; what failed.
async fn prune(world: World) -> (World, Vec<String>) {
    let extras = extras(&world.shared, &world.cx).await.unwrap();
    let shared =
        Shared::removing_first(world.shared.cluster.clone(), Arc::new(Plain), first(&extras));
    let world = world.of(shared);
    let summary = apply(&world, &graph(&world, &extras)).await;
    (world, with(&summary, "failed"))
}

#[tokio::test(start_paused = true)]
async fn fifty_workers_go_sixteen_at_a_time() {
    let names: Vec<_> = (2..=51).map(|n| format!("w{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let world = without_of(wide(51), &names).await;
    slow_drains(&world);
    let (world, failed) = prune(world).await;
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(world.sim().nodes.len(), 4);
    assert_eq!(most_at_once(&world, " drain w"), 16);
    for name in names {
        assert_eq!(world.hosts[name].paths(), ["/etc/hosts"], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_prune_that_is_cut_off_anywhere_is_finished_by_the_next() {
    for uses in 0.. {
        let world = without(&["cp3", "w2"]).await;
        let cut = world.cut_after(uses);
        let found = extras(&world.shared, &cut).await.unwrap_or_default();
        let summary = apply_through(&cut, &graph(&world, &found)).await;
        if found.len() == 2 && summary.is_done() {
            assert!(uses > 30, "{uses}");
            return;
        }
        world.later().await;
        let (world, failed) = prune(world).await;
        assert_eq!(failed, Vec::<String>::new(), "cut off after {uses}");
        assert_eq!(world.sim().nodes.keys().collect::<Vec<_>>(), ["cp1", "cp2", "w1"], "{uses}");
        assert_eq!(world.sim().members.len(), 2, "{uses}");
        for name in ["cp3", "w2"] {
            assert_eq!(world.hosts[name].paths(), ["/etc/hosts"], "{name} cut off after {uses}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_member_goes_before_a_new_one_joins() {
    let mut wider = cluster();
    wider.hosts.push(crate::bootstrap::steps::world::spare("s1", "10.0.0.41"));
    let world = World::new(wider.clone());
    world.apply(&world.steps()).await.unwrap();
    wider.hosts.retain(|host| host.name != "cp3");
    wider.hosts.last_mut().unwrap().roles = cluster().hosts[0].roles.clone();
    world.hosts["cp3"].die("no power");
    {
        let mut sim = world.sim();
        sim.sick.insert(3);
        sim.serving.remove("cp3");
        sim.nodes.get_mut("cp3").unwrap().ready = false;
    }
    let world = world.with(wider);
    world.later().await;
    let away = unreachable(&world.cx, ["cp3", "w1"]).await.unwrap();
    assert_eq!(away.keys().collect::<Vec<_>>(), ["cp3"]);
    let world = world.without_host("cp3");
    let (world, failed) = prune(world).await;
    assert_eq!(failed, Vec::<String>::new());
    let members: Vec<_> = world.sim().members.iter().map(|member| member.name.clone()).collect();
    assert_eq!(members, ["cp1", "cp2", "s1"]);
}

#[test]
fn members_of_an_external_etcd_are_accounted_for() {
    use crate::bootstrap::spec::{Role, Topology};
    use crate::bootstrap::steps::etcd::{EtcdMember, View};
    let mut external = cluster();
    external.topology = Topology::External;
    for host in &mut external.hosts[3..] {
        host.roles = [Role::Etcd].into();
    }
    let member = |id, name: &str, address: &str| EtcdMember {
        id,
        name: name.to_owned(),
        peer_urls: vec![format!("https://{address}:2380")],
        client_urls: vec![format!("https://{address}:2379")],
        learner: false,
    };
    let mut view = View::default();
    view.members.list = vec![
        member(1, "w1", "10.0.0.31"),
        member(2, "e9", "10.0.0.29"),
        member(0xab, "", "10.0.0.28"),
    ];
    view.healthy.extend([1, 2]);
    let found = super::extra::strangers(&external, &view);
    let of =
        |extra: &Extra| (extra.name.clone(), extra.is_dead, extra.address.unwrap().to_string());
    let found: Vec<_> = found.iter().map(of).collect();
    let expected = [("e9", false, "10.0.0.29"), ("ab", true, "10.0.0.28")];
    assert_eq!(found, expected.map(|(name, dead, at)| (name.to_owned(), dead, at.to_owned())));
}
