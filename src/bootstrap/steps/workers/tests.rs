//! Workers on hosts that are not there: fresh, again, half made, and after a change of control planes.

use crate::bootstrap::engine::{Check, StepError};
use crate::bootstrap::spec::Taint;
use crate::bootstrap::steps::world::{World, cluster};
use crate::bootstrap::steps::{control_plane, workers};
use crate::bootstrap::transport::File;

/// A cluster that is whole.
async fn whole() -> World {
    let world = World::new(cluster());
    world.apply(&world.steps()).await.unwrap();
    world
}

/// The order of some commands of a host: the first of each.
fn order(world: &World, host: &str, commands: &[&str]) -> Vec<usize> {
    let lines = world.hosts[host].lines();
    let place = |text: &&str| lines.iter().position(|line| line.contains(*text)).unwrap();
    commands.iter().map(place).collect()
}

#[tokio::test(start_paused = true)]
async fn a_fresh_worker_joins_through_its_own_proxy() {
    let world = whole().await;
    for worker in ["w1", "w2"] {
        let machine = &world.hosts[worker];
        let order = order(&world, worker, &["systemd-run", "kubeadm join", "images import"]);
        assert!(order.is_sorted(), "{order:?}");
        assert_eq!(
            machine.text("/etc/kubernetes/manifests/apiproxy-g2.yaml").as_deref(),
            Some(concat!("pod 2 apiproxy:", env!("CARGO_PKG_VERSION"), "-0123456789ab\n"))
        );
        assert_eq!(machine.text("/etc/apiproxy/ca.crt"), Some(world.sim().ca.clone()));
        assert_eq!(machine.file("/etc/apiproxy/discovery.conf").map(|file| file.mode), Some(0o600));
        assert_eq!(machine.file(workers::look::MARKER), None);
        assert_eq!(machine.file("/etc/kubernetes/kubeadm.yaml"), None);
        assert_eq!(world.sim().proxies[worker], 2);
    }
    // One token for all workers of a run; it is no argument of anything.
    let tokens: usize =
        ["cp1", "cp2", "cp3"].map(|host| world.hosts[host].ran("token create")).iter().sum();
    assert_eq!(tokens, 1);
    world.no_argument_has("abcdef.0123456789abcdef");
    world.no_argument_has("PRIVATE KEY");
}

#[tokio::test(start_paused = true)]
async fn the_second_run_looks_once_at_each_host() {
    let world = whole().await;
    world.later().await;
    for step in world.steps() {
        assert_eq!(step.check(&world.cx).await, Ok(Check::Done), "{}", step.id());
    }
    for (name, host) in &world.hosts {
        assert!(host.commands().len() <= 3, "{name}: {:?}", host.lines());
        assert_eq!(host.written(), Vec::<String>::new());
    }
    assert_eq!(world.hosts["w1"].commands().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_was_killed_is_begun_anew_behind_the_proxy() {
    let world = World::new(cluster());
    world.apply(&control_plane::steps(&world.shared)).await.unwrap();
    world.sim().stops_at = Some("kubelet");
    let steps = workers::steps(&world.shared);
    assert!(world.apply(&steps[..5]).await.is_err());
    assert!(world.hosts["w1"].file(workers::look::MARKER).is_some());
    world.apply(&steps[..5]).await.unwrap();
    assert_eq!(world.lines("w1", "kubeadm reset --force").len(), 1);
    assert!(world.sim().nodes.contains_key("w1"));
}

#[tokio::test(start_paused = true)]
async fn a_reset_takes_the_static_pod_and_the_unit_serves_again() {
    let world = whole().await;
    // kubelet came back with nothing but its credentials, and registers no more.
    world.sim().nodes.remove("w1");
    world.later().await;
    world.apply(&workers::steps(&world.shared)).await.unwrap();
    assert_eq!(world.lines("w1", "systemctl restart kubelet").len(), 1);
    let order =
        order(&world, "w1", &["kubeadm reset", "systemd-run", "kubeadm join", "images import"]);
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(world.sim().proxies["w1"], 2);
}

#[tokio::test(start_paused = true)]
async fn every_proxy_follows_a_change_of_control_planes() {
    let world = whole().await;
    let mut fewer = cluster();
    fewer.hosts.retain(|host| host.name != "cp3");
    let world = world.with(fewer);
    world.later().await;
    let steps = workers::steps(&world.shared);
    let check = steps[0].check(&world.cx).await;
    let Ok(Check::Needed(change)) = check else { panic!("{check:?}") };
    assert!(change.diffs[0].contains("\n-10.0.0.13"), "{change:?}");
    assert_eq!(world.apply(&steps).await, Ok(2), "one of each worker");
    for worker in ["w1", "w2"] {
        assert_eq!(world.lines(worker, "apiproxy reload").len(), 1);
        assert_eq!(world.lines(worker, "systemd-run").len(), 0, "no restart");
        assert_eq!(
            world.hosts[worker].text("/etc/apiproxy/config.yaml").as_deref(),
            Some("10.0.0.11\n10.0.0.12\n")
        );
    }
    let minted: usize =
        ["cp1", "cp2"].map(|host| world.hosts[host].ran("certificate approve")).iter().sum();
    assert_eq!(minted, 0, "the credentials are good for a year");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_start_leaves_the_unit_serving() {
    let world = World::new(cluster());
    world.sim().stuck.insert("w1".to_owned());
    let error = world.apply(&world.steps()).await.unwrap_err().to_string();
    assert!(error.contains("has not taken over within 180s"), "{error}");
    assert_eq!(world.sim().proxies["w1"], 1);
    assert_eq!(world.lines("w1", "systemctl stop").len(), 1, "only before it was started");
    world.sim().stuck.clear();
    world.apply(&world.steps()).await.unwrap();
    assert_eq!(world.lines("w1", "images import").len(), 1, "the manifest was there already");
}

#[tokio::test(start_paused = true)]
async fn another_program_is_another_generation() {
    let world = whole().await;
    let pod = |generation| format!("/etc/kubernetes/manifests/apiproxy-g{generation}.yaml");
    world.hosts["w1"].put(File::new(pod(2), "pod 2 apiproxy:0.0.9\n"));
    world.later().await;
    assert_eq!(world.apply(&workers::steps(&world.shared)).await, Ok(1));
    assert!(world.hosts["w1"].file(&pod(3)).is_some());
    assert_eq!(world.hosts["w1"].file(&pod(2)), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_cluster_is_left_alone() {
    let world = World::new(cluster());
    world.apply(&control_plane::steps(&world.shared)).await.unwrap();
    world.hosts["w1"]
        .put(File::new("/etc/kubernetes/kubelet.conf", "x"))
        .put(File::new("/etc/kubernetes/pki/ca.crt", "another"));
    let steps = workers::steps(&world.shared);
    world.apply(&steps[..2]).await.unwrap();
    for outcome in [steps[2].check(&world.cx).await.map(drop), steps[2].apply(&world.cx).await] {
        let Err(StepError::Refused { reason, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(reason, "w1 is a node of another cluster");
    }
    assert!(world.hosts["w1"].lines().iter().all(|line| !line.starts_with("kubeadm")));
}

#[tokio::test(start_paused = true)]
async fn without_a_control_plane_nothing_is_begun() {
    let world = World::new(cluster());
    let steps = workers::steps(&world.shared);
    for at in [0, 2, 3, 4] {
        let check = steps[at].check(&world.cx).await;
        assert!(
            matches!(check, Ok(Check::After(_) | Check::Done)),
            "{}: {check:?}",
            steps[at].id()
        );
    }
    world.hosts["cp1"].die("no route");
    world.later().await;
    let error = steps[0].check(&world.cx).await.unwrap_err().to_string();
    assert!(error.contains("no control plane serves") || error.contains("no route"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn labels_taints_and_zones_are_given_and_others_stay() {
    let mut cluster = cluster();
    cluster.hosts[3].zone = Some("a".to_owned());
    cluster.hosts[3].labels.insert("disk".to_owned(), "ssd".to_owned());
    let world = World::new(cluster);
    world.apply(&world.steps()).await.unwrap();
    let labels = world.sim().nodes["w1"].labels.clone();
    assert_eq!(labels["topology.kubernetes.io/zone"], "a");
    assert_eq!(labels["disk"], "ssd");
    world.sim().nodes.get_mut("w1").unwrap().labels.insert("team".to_owned(), "x".to_owned());

    let mut tainted = (*world.shared.cluster).clone();
    let (key, effect) = ("dedicated".to_owned(), "NoSchedule".to_owned());
    tainted.hosts[3].taints.push(Taint { key, value: "db".to_owned(), effect });
    let world = world.with(tainted);
    let steps = workers::steps(&world.shared);
    let check = steps[4].check(&world.cx).await;
    let Ok(Check::Needed(change)) = check else { panic!("{check:?}") };
    assert_eq!(change.why, "its Node lacks dedicated=db:NoSchedule");
    assert_eq!(world.sim().nodes["w1"].labels["team"], "x");
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_is_not_made_a_worker_in_place() {
    let world = whole().await;
    let mut other = cluster();
    other.hosts[2].roles.clone_from(&cluster().hosts[3].roles);
    let world = world.with(other);
    let steps = workers::steps(&world.shared);
    let error = steps[0].check(&world.cx).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cp3 is a control plane of the cluster, and a worker in the file"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_node_joins_that_is_newer_than_the_cluster() {
    let world = World::new(cluster());
    world.apply(&control_plane::steps(&world.shared)).await.unwrap();
    let mut newer = cluster();
    newer.kubernetes_version = "v1.35.0".parse().unwrap();
    let world = world.with(newer);
    let error = world.apply(&workers::steps(&world.shared)).await.unwrap_err().to_string();
    assert!(error.starts_with("the cluster runs v1.34.2, and the file says v1.35.0; "), "{error}");
    assert_eq!(world.lines("w1", "kubeadm join").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_given_is_taken_away_when_the_file_no_longer_names_it() {
    let taint = crate::bootstrap::spec::Taint {
        key: "gpu".to_owned(),
        value: "a100".to_owned(),
        effect: "NoSchedule".to_owned(),
    };
    let mut first = cluster();
    first.hosts[3].labels.insert("disk".to_owned(), "ssd".to_owned());
    first.hosts[3].taints.push(taint);
    let world = World::new(first);
    world.apply(&world.steps()).await.unwrap();
    world.sim().nodes.get_mut("w1").unwrap().labels.insert("theirs".into(), "x".into());
    let node = |world: &World| world.sim().nodes["w1"].clone();
    assert_eq!(node(&world).taints["gpu:NoSchedule"], "a100");
    assert!(node(&world).annotations.contains_key("apiproxy.io/given"));
    let world = world.with(cluster());
    world.later().await;
    assert_eq!(world.apply(&world.steps()).await, Ok(1));
    let left = node(&world);
    assert_eq!(left.labels.into_keys().collect::<Vec<_>>(), ["theirs"]);
    assert!(left.taints.is_empty() && left.annotations.is_empty());
    world.later().await;
    assert_eq!(world.apply(&world.steps()).await, Ok(0));
}
