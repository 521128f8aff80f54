//! A whole cluster and torn ones.

use super::*;
use crate::bootstrap::engine::PARALLEL;
use crate::bootstrap::spec::Version;
use crate::bootstrap::steps::world::{World, cluster};

async fn seen(world: &World) -> Status {
    world.later().await;
    gather(&world.shared, &world.cx, None, PARALLEL).await
}

async fn whole() -> World {
    let world = World::new(cluster());
    world.apply(&world.steps()).await.unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn before_anything_is_made_each_node_of_the_file_is_missing() {
    let status = seen(&World::new(cluster())).await;
    let missing =
        ["cp1", "cp2", "cp3", "w1", "w2"].map(|name| format!("{name}: not in the cluster"));
    assert_eq!(status.faults, missing);
    assert!(!status.healthy);
}

#[tokio::test(start_paused = true)]
async fn a_whole_cluster_has_no_faults() {
    let status = seen(&whole().await).await;
    assert_eq!(status.faults, Vec::<String>::new());
    assert!(status.healthy);
    assert_eq!((status.hosts.len(), status.members.len(), status.proxies.len()), (5, 3, 2));
    assert!(status.hosts.iter().all(|host| host.node.as_ref().is_some_and(|node| node.ready)));
    let leaders: Vec<_> = status.members.iter().map(|member| member.leader).collect();
    assert_eq!(leaders, [true, false, false]);
    let first = &status.members[0];
    assert_eq!((first.host.as_deref(), first.db_size), (Some("cp1"), Some(20480)));
    assert!(status.proxies.iter().all(|proxy| proxy.usable && proxy.static_pod));
    assert_eq!(status.proxies[0].servers.len(), 3);
    assert_eq!(status.certificates.len(), 5, "the CA, on each");
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["hosts"][0]["roles"][0], "controlPlane");
    assert_eq!(json["hosts"][0]["node"]["controlPlane"], true);
    assert_eq!(json["members"][0]["dbSize"], 20480);
    assert_eq!(json["proxies"][0]["servers"][2]["state"], "ready");
}

#[tokio::test(start_paused = true)]
async fn a_torn_cluster_tells_all_its_faults() {
    let world = whole().await;
    world.hosts["cp3"].die("no power");
    world.hosts["w2"].die("no power");
    {
        let mut sim = world.sim();
        sim.sick.insert(3);
        sim.serving.remove("cp3");
        sim.nodes.get_mut("w2").unwrap().ready = false;
        let mut stranger = sim.nodes["w1"].clone();
        stranger.kubelet = "v1.30.0".to_owned();
        sim.nodes.insert("w9".to_owned(), stranger);
    }
    let status = seen(&world).await;
    assert_eq!(
        status.faults,
        [
            "cp3: the connection was lost: no power; is it up?",
            "w2: the connection was lost: no power; is it up?",
            "the etcd member cp3 is not healthy",
            "etcd: 2 of 3 members are healthy; 0 more may fail",
            "w2: its Node is not ready",
            "w9: its kubelet is v1.30.0, too old for v1.34.2; see `upgrade`",
            "the node w9 is in the cluster and not in the file; `apply --prune` removes it",
            "the proxies of w1 see cp3 as dead: no answer",
        ]
    );
    let last = status.hosts.last().unwrap();
    assert_eq!((last.name.as_str(), last.in_file), ("w9", false));
    assert!(status.hosts[4].unreached.is_some() && !status.proxies[1].usable);
}

#[tokio::test(start_paused = true)]
async fn without_a_control_plane_that_serves_the_rest_is_still_told() {
    let world = whole().await;
    world.sim().serving.clear();
    let status = seen(&world).await;
    assert_eq!(
        status.faults[0].split(';').next(),
        Some("no control plane serves, so its nodes cannot be seen")
    );
    assert_eq!(status.faults.len(), 1 + 3 + 2, "{:?}", status.faults);
    assert!(status.faults[1].starts_with("cp1: its kube-apiserver is not ready"));
    assert!(status.faults[4].starts_with("w1: its proxy finds no apiserver: cp1: no answer"));
    assert_eq!((status.hosts.len(), status.certificates.len()), (5, 5));
}

#[test]
fn versions_apart_are_told_together() {
    let node = |name: &str, kubelet: &str| Node {
        name: name.to_owned(),
        ready: true,
        kubelet: kubelet.parse().ok(),
        ..Node::default()
    };
    let nodes: Vec<_> =
        ["v1.34.2", "v1.33.0", "v1.33.0", "v1.33.0", "v1.33.0", "v1.33.0", "v1.30.0", "v1.35.0"]
            .iter()
            .enumerate()
            .map(|(n, kubelet)| node(&format!("w{n}"), kubelet))
            .collect();
    assert_eq!(
        faults::of_nodes(&nodes, Version::new(1, 34, 2)),
        [
            "w6: its kubelet is v1.30.0, too old for v1.34.2; see `upgrade`",
            "w1, w2, w3, w4 and 1 more: their kubelets are v1.33.0, and the file says v1.34.2; see `upgrade`",
            "w7: its kubelet is v1.35.0, newer than the apiservers may be by the file (v1.34.2); see `upgrade`",
        ]
    );
    let host = |name: &str, version: Option<&str>| HostStatus {
        name: name.to_owned(),
        api_server: version.map(str::to_owned),
        ..HostStatus::default()
    };
    let hosts = [host("cp1", Some("v1.34.2")), host("cp2", Some("v1.33.0")), host("w1", None)];
    assert_eq!(
        faults::of_api_servers(&hosts, Version::new(1, 34, 2)),
        ["cp2: kube-apiserver v1.33.0, and the file says v1.34.2; see `upgrade`"]
    );
}

#[test]
fn a_spare_that_is_not_prepared_and_a_certificate_that_ends_are_told() {
    let spare = |lacks: &str| HostStatus {
        name: "s1".to_owned(),
        lacks: Some(lacks.to_owned()),
        ..HostStatus::default()
    };
    assert_eq!(faults::of_hosts(&[spare("")]), [""; 0]);
    assert_eq!(
        faults::of_hosts(&[spare("containerd.service does not run")]),
        ["s1: this spare is not prepared: containerd.service does not run; see `apply`"]
    );
    let mut one = crate::bootstrap::steps::certs::Certificate {
        days_left: 12,
        host: "cp1".to_owned(),
        file: "/etc/kubernetes/admin.conf".to_owned(),
        ends: String::new(),
        renewed_by: crate::bootstrap::steps::certs::Renewer::Renew,
        ending: true,
    };
    let told = |one: &Certificate| faults::of_certificates(std::slice::from_ref(one)).join("");
    assert_eq!(
        told(&one),
        "cp1: /etc/kubernetes/admin.conf ends in 12 days; see `apiproxy bootstrap certs`"
    );
    one.days_left = -1;
    assert!(told(&one).contains("has ended"));
    one.ending = false;
    assert_eq!(told(&one), "");
}

#[tokio::test(start_paused = true)]
async fn chosen_hosts_are_told_of_alone() {
    let world = whole().await;
    world.hosts["w2"].die("no power");
    world.sim().nodes.get_mut("w2").unwrap().ready = false;
    world.later().await;
    let of = async |names: &[&str]| {
        let chosen = names.iter().map(|name| (*name).to_owned()).collect();
        gather(&world.shared, &world.cx, Some(&chosen), PARALLEL).await
    };
    let status = of(&["w1"]).await;
    assert_eq!(status.faults, Vec::<String>::new());
    assert!(status.healthy);
    let names: Vec<_> = status.hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!((names, status.members.len(), status.proxies.len()), (vec!["w1"], 0, 1));
    assert!(status.hosts[0].node.as_ref().is_some_and(|node| node.ready));
    let status = of(&["w2"]).await;
    assert!(status.faults.iter().any(|fault| fault.contains("no power")), "{:?}", status.faults);
    assert!(status.faults.iter().all(|fault| fault.starts_with("w2: ")), "{:?}", status.faults);
    // A member of etcd is well as long as all are.
    world.sim().sick.insert(3);
    world.later().await;
    let status = of(&["cp1"]).await;
    assert_eq!(status.members.len(), 1);
    assert!(
        status.faults.iter().any(|fault| fault.contains("2 of 3 members")),
        "{:?}",
        status.faults
    );
}
