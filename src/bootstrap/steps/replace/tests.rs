//! A host takes the place of another: live or dead, a control plane or a worker, cut off anywhere.

use super::{Replacement, candidates, plan, replaced};
use crate::bootstrap::engine::{Check, Context, StepError};
use crate::bootstrap::spec::{Cluster, EtcdBackup, Role, Topology};
use crate::bootstrap::steps::etcd::data::Data;
use crate::bootstrap::steps::remove;
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::steps::tests::{apply, apply_through, graph, with};
use crate::bootstrap::steps::world::{Plain, World, cluster, spare};
use crate::bootstrap::transport::recording::Answer;
use std::sync::Arc;

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

fn nodes(world: &World) -> Vec<String> {
    world.sim().nodes.keys().cloned().collect()
}

async fn planned(cx: &Context, old: &str, new: &str) -> Result<Replacement, StepError> {
    let before = with_spare();
    let after = Shared::new(Arc::new(replaced(&before, old, new)?), Arc::new(Plain));
    plan(&after, cx, (old, before.host(old)), new).await
}

/// Replaces as the command does; what failed.
async fn replace(world: World, old: &str, new: &str) -> (World, Vec<String>) {
    let planned = planned(&world.cx, old, new).await.unwrap();
    let world = world.of(planned.shared);
    let all = graph(&world, &planned.extras);
    let summary = apply(&world, &all).await;
    let failed = summary.steps.iter().filter(|(_, outcome)| outcome.word() == "failed");
    let why = failed.map(|(id, outcome)| format!("{id}: {}", outcome.why().unwrap_or_default()));
    (world, why.collect())
}

/// The host has no power any more, and the cluster has noticed.
fn kill(world: &World, name: &str, member: u64) {
    world.hosts[name].die("no power");
    let mut sim = world.sim();
    sim.sick.insert(member);
    sim.serving.remove(name);
    sim.nodes.get_mut(name).unwrap().ready = false;
}

fn reason(outcome: Result<Replacement, StepError>) -> (String, String) {
    match outcome {
        Err(StepError::Refused { reason, remedy }) => (reason, remedy),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_spare_takes_roles_labels_and_copies() {
    let mut cluster = with_spare();
    cluster.hosts[1].labels.insert("disk".to_owned(), "ssd".to_owned());
    for (host, pods) in [(1, 80), (5, 50)] {
        cluster.hosts[host].overrides.kubelet.insert("maxPods".to_owned(), pods.into());
    }
    cluster.hosts[1].overrides.kubelet_flags.insert("v".to_owned(), "4".to_owned());
    let after = replaced(&cluster, "cp2", "s1").unwrap();
    let names: Vec<_> = after.hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["cp1", "cp3", "w1", "w2", "s1"]);
    let comes = after.host("s1").unwrap();
    assert_eq!(comes.roles, cluster.hosts[1].roles);
    assert_eq!(comes.labels["disk"], "ssd");
    assert_eq!(comes.overrides.kubelet["maxPods"], 50, "its own, since it has some");
    assert_eq!(comes.overrides.kubelet_flags["v"], "4");
    assert_eq!(comes.address, "10.0.0.41".parse::<std::net::IpAddr>().unwrap());
    let refused = |old, new| replaced(&cluster, old, new).unwrap_err().to_string();
    assert!(refused("cp2", "w1").contains("w1 has roles already, and not those of cp2"));
    assert!(refused("cp9", "s1").contains("no host cp9"));
    assert!(refused("cp2", "s9").contains("no host s9"));
    assert!(refused("s1", "w1").contains("s1 has no place"));
    assert!(refused("w1", "w1").contains("apiproxy bootstrap apply"));
    // A new host that the file gives the roles already; and again, after the file was written.
    assert_eq!(replaced(&cluster, "w1", "w2").unwrap().hosts.len(), 5);
    assert_eq!(replaced(&after, "cp2", "s1").unwrap(), after);
}

#[test]
fn the_spares_that_are_left_get_copies() {
    let (mut cluster, mut other) = (with_spare(), with_spare().hosts[5].clone());
    "s2".clone_into(&mut other.name);
    cluster.hosts.push(other);
    let backup = |copy_to: &[&str], to_spares| EtcdBackup {
        schedule: "0 0 * * *".to_owned(),
        keep: 1,
        directory: "/a/b".to_owned(),
        copy_to: copy_to.iter().map(|name| (*name).to_owned()).collect(),
        to_spares,
        recipients: Vec::new(),
        s3: None,
        drill: None,
    };
    let mut copies = |given| {
        cluster.etcd.backup = Some(given);
        replaced(&cluster, "cp2", "s1").unwrap().etcd.backup.unwrap().copy_to
    };
    assert_eq!(copies(backup(&["s1", "s2"], true)), ["s2"]);
    assert_eq!(copies(backup(&["s1"], false)), ["s1"], "as the file says");
}

#[test]
fn spares_of_the_same_zone_come_first() {
    let mut cluster = with_spare();
    cluster.hosts.push(spare("s2", "10.0.0.42"));
    cluster.hosts[1].zone = Some("b".to_owned());
    cluster.hosts[6].zone = Some("b".to_owned());
    let names =
        |old| candidates(&cluster, old).iter().map(|host| host.name.clone()).collect::<Vec<_>>();
    assert_eq!(names("cp2"), ["s2", "s1"]);
    assert_eq!(names("cp1"), ["s1", "s2"]);
}

#[tokio::test(start_paused = true)]
async fn a_live_control_plane_goes_when_the_new_one_is_whole() {
    let world = whole().await;
    assert!(!planned(&world.cx, "cp2", "s1").await.unwrap().removed_first);
    let (world, failed) = replace(world, "cp2", "s1").await;
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(members(&world), ["cp1", "cp3", "s1"]);
    assert_eq!(nodes(&world), ["cp1", "cp3", "s1", "w1", "w2"]);
    assert_eq!(world.hosts["cp2"].ran("kubeadm reset"), 1);
    assert_eq!(world.hosts["cp2"].paths(), ["/etc/hosts"]);
    let config = world.hosts["w1"].text("/etc/apiproxy/config.yaml").unwrap();
    assert_eq!(config, "10.0.0.11\n10.0.0.13\n10.0.0.41\n", "the proxies know");
    // It joined while the old one was there.
    assert!(world.hosts["s1"].ran("kubeadm join") == 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_control_plane_goes_first() {
    let world = whole().await;
    kill(&world, "cp2", 2);
    let world = world.without_host("cp2");
    assert!(planned(&world.cx, "cp2", "s1").await.unwrap().removed_first);
    let (world, failed) = replace(world, "cp2", "s1").await;
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(members(&world), ["cp1", "cp3", "s1"]);
    assert!(!world.sim().nodes.contains_key("cp2"));
}

#[tokio::test(start_paused = true)]
async fn the_only_control_plane_stays_until_there_is_another() {
    let mut small = with_spare();
    small.hosts.retain(|host| !["cp2", "cp3"].contains(&host.name.as_str()));
    let world = World::new(small.clone());
    world.apply(&world.steps()).await.unwrap();
    world.later().await;
    let after = replaced(&small, "cp1", "s1").unwrap();
    let after = Shared::new(Arc::new(after), Arc::new(Plain));
    let outcome = plan(&after, &world.cx, ("cp1", small.host("cp1")), "s1").await;
    let (reason, remedy) = reason(outcome);
    assert!(reason.contains("cp1 is the only control plane"), "{reason}");
    assert!(remedy.contains("the role `controlPlane` beside it"), "{remedy}");
    assert_eq!(nodes(&world), ["cp1", "w1", "w2"]);
}

#[tokio::test(start_paused = true)]
async fn a_quorum_that_does_not_allow_it_is_told_in_numbers() {
    // Another one is ill: kubeadm would add nobody.
    let world = whole().await;
    world.sim().sick.insert(3);
    let (why, remedy) = reason(planned(&world.cx, "cp2", "s1").await);
    assert_eq!(
        why,
        "s1 cannot join while the etcd member of cp3 does not answer: 2 of 3 members are healthy, 2 are \
         needed"
    );
    assert!(remedy.starts_with("bring it back, or replace it first"), "{remedy}");
    // Two of three are dead.
    kill(&world, "cp2", 2);
    let world = world.without_host("cp2");
    let (why, remedy) = reason(planned(&world.cx, "cp2", "s1").await);
    assert_eq!(why, "cp2 stays: etcd has no quorum: 1 of 3 members are healthy, 2 are needed");
    assert!(remedy.contains("etcd restore"), "{remedy}");
    assert_eq!(world.sim().members.len(), 3);
    // Workers do not ask etcd.
    assert!(planned(&world.cx, "w1", "s1").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_replaced_without_etcd() {
    let (world, failed) = replace(whole().await, "w2", "s1").await;
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(nodes(&world), ["cp1", "cp2", "cp3", "s1", "w1"]);
    assert_eq!(members(&world).len(), 3);
    assert_eq!(world.hosts["w2"].paths(), ["/etc/hosts"]);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_stays_when_the_new_one_cannot_join() {
    for old in ["cp2", "w2"] {
        let world = whole().await;
        world.hosts["s1"].die("no power");
        let (world, failed) = replace(world, old, "s1").await;
        let told = format!("{old}/remove: {old} stays until s1 has joined: ");
        assert!(failed.iter().any(|why| why.starts_with(&told)), "{failed:?}");
        assert_eq!(nodes(&world), ["cp1", "cp2", "cp3", "w1", "w2"]);
        assert_eq!(members(&world), ["cp1", "cp2", "cp3"]);
        assert_eq!(world.hosts[old].ran("kubeadm reset"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_file_may_be_written_before_it_is_run_again() {
    let world = whole().await;
    let cut = world.cut_after(60);
    let first = planned(&cut, "cp2", "s1").await.unwrap();
    let world = world.of(first.shared);
    apply_through(&cut, &graph(&world, &first.extras)).await;
    world.later().await;
    assert!(world.sim().nodes.contains_key("cp2"), "it was cut off before the end");
    // Now the file has no cp2 any more.
    let after = Shared::new(world.shared.cluster.clone(), Arc::new(Plain));
    let again = plan(&after, &world.cx, ("cp2", None), "s1").await.unwrap();
    let world = world.of(again.shared);
    let summary = apply(&world, &graph(&world, &again.extras)).await;
    assert_eq!(with(&summary, "failed"), Vec::<String>::new());
    assert_eq!(members(&world), ["cp1", "cp3", "s1"]);
}

/// Cuts a replacement off after each use of a host, and runs it again.
async fn cut_everywhere(old: &str, dead: bool) -> usize {
    for uses in 0.. {
        let mut world = whole().await;
        if dead {
            kill(&world, old, 2);
            world = world.without_host(old);
        }
        let cut = world.cut_after(uses);
        if let Ok(first) = planned(&cut, old, "s1").await {
            let shared = std::mem::replace(&mut world.shared, first.shared);
            let summary = apply_through(&cut, &graph(&world, &first.extras)).await;
            if summary.is_done() {
                return uses;
            }
            world.shared = shared;
        }
        world.later().await;
        let (world, failed) = replace(world, old, "s1").await;
        assert_eq!(failed, Vec::<String>::new(), "cut off after {uses}");
        let expected: Vec<_> = ["cp1", "cp2", "cp3", "s1", "w1", "w2"].map(str::to_owned).into();
        let expected: Vec<_> = expected.into_iter().filter(|name| name != old).collect();
        assert_eq!(nodes(&world), expected, "cut off after {uses}");
        if !dead {
            assert_eq!(world.hosts[old].paths(), ["/etc/hosts"], "cut off after {uses}");
        }
        if world.shared.cluster.host("s1").unwrap().roles.contains(&Role::ControlPlane) {
            assert_eq!(members(&world), ["cp1", "cp3", "s1"], "cut off after {uses}");
        }
    }
    unreachable!("it is never through")
}

#[tokio::test(start_paused = true)]
async fn a_live_control_plane_cut_off_anywhere_is_replaced_by_the_next_run() {
    assert!(cut_everywhere("cp2", false).await > 40);
}

#[tokio::test(start_paused = true)]
async fn a_dead_control_plane_cut_off_anywhere_is_replaced_by_the_next_run() {
    assert!(cut_everywhere("cp2", true).await > 40);
}

#[tokio::test(start_paused = true)]
async fn a_worker_cut_off_anywhere_is_replaced_by_the_next_run() {
    assert!(cut_everywhere("w1", false).await > 30);
}

/// An external etcd of e1, e2 and e3, of which e3 is dead, as is every apiserver.
fn without_apiservers() -> (Cluster, World) {
    let mut external = with_spare();
    external.topology = Topology::External;
    for n in 1..=3 {
        let mut host = spare(&format!("e{n}"), &format!("10.0.0.2{n}"));
        host.roles = [Role::Etcd].into();
        external.hosts.push(host);
    }
    let world = World::new(external.clone());
    for dead in ["cp1", "cp2", "cp3", "e3"] {
        world.hosts[dead].die("no power");
    }
    let member = |n| {
        format!(
            r#"{{"ID":{n},"name":"e{n}","peerURLs":["https://10.0.0.2{n}:2380"],"clientURLs":["https://10.0.0.2{n}:2379"]}}"#
        )
    };
    let members = format!(
        r#"{{"header":{{"cluster_id":7}},"members":[{}]}}"#,
        [1, 2, 3].map(member).join(",")
    );
    let health =
        [1, 2].map(|n| format!(r#"{{"endpoint":"https://10.0.0.2{n}:2379","health":true}}"#));
    let view = format!("{members}\n[{}]\n[]\n", health.join(","));
    for name in ["e1", "e2"] {
        world.hosts[name]
            .on("unit_file=$2", Answer::ok(format!("ActiveState=active\nmembers={members}\n")))
            .on("endpoint status --cluster", Answer::ok(view.clone()));
    }
    (external, world)
}

#[tokio::test(start_paused = true)]
async fn a_dead_etcd_member_is_replaced_though_no_apiserver_serves() {
    let (before, world) = without_apiservers();
    let world = world.without_host("e3");
    let after = Arc::new(replaced(&before, "e3", "s1").unwrap());
    let shared = Shared::new(after.clone(), Arc::new(Plain));
    let found = plan(&shared, &world.cx, ("e3", before.host("e3")), "s1").await.unwrap();
    assert!(found.removed_first, "it is dead");
    let names: Vec<_> = found.extras.iter().map(|extra| extra.name.as_str()).collect();
    assert_eq!(names, ["e3"]);
    let steps = remove::steps(&found.shared, &found.extras);
    let Ok(Check::Needed(change)) = steps[0].check(&world.cx).await else {
        panic!("e3 is to go");
    };
    assert!(change.why.contains("etcd: 2 of 3"), "{}", change.why);
    // The file was written, and the run was cut off.
    let again = plan(&shared, &world.cx, ("e3", None), "s1").await.unwrap();
    assert_eq!(again.extras.len(), 1);
    // A node cannot leave so: its pods are to be moved.
    let worker = Arc::new(replaced(&before, "w1", "s1").unwrap());
    let worker = Shared::new(worker, Arc::new(Plain));
    let (why, _) = reason(plan(&worker, &world.cx, ("w1", before.host("w1")), "s1").await);
    assert!(why.starts_with("no control plane serves: "), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_etcd_member_is_given_up_though_no_apiserver_serves() {
    let (_, world) = without_apiservers();
    let world = world.without_host("e3");
    let leave = async |name: &str| {
        let chosen = [name.to_owned()].into();
        remove::reset::some(&world.shared, &world.cx, &chosen, Data::Aside).await
    };
    let steps = leave("e3").await.unwrap();
    let names: Vec<_> = steps.iter().map(|step| step.id().to_string()).collect();
    assert_eq!(names, ["e3/etcd-removed"]);
    assert!(matches!(steps[0].check(&world.cx).await, Ok(Check::Needed(_))));
    assert!(leave("w1").await.is_err(), "a node leaves through an apiserver");
}
