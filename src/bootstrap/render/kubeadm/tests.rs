//! What kubeadm is told, by version.

use serde_json::{Value, json};

use super::*;
use crate::bootstrap::render::fixture::{cluster, external, host_mut, map, settings, taint, text};

fn documents(text: &str) -> Vec<Value> {
    text.split("---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

fn init_documents(cluster: &Cluster, host: &str) -> Vec<Value> {
    let host = cluster.host(host).unwrap();
    documents(text(&init(cluster, host, &Init::default()).unwrap()))
}

fn joining(token: &str) -> Join {
    Join {
        server: "apiserver.prod.local:6443".to_owned(),
        token: SecretText::new(token),
        ca_cert_hashes: vec!["sha256:00".to_owned()],
        certificate_key: Some(SecretText::new("0123")),
    }
}

fn joined(cluster: &Cluster, host: &str) -> Value {
    let host = cluster.host(host).unwrap();
    documents(text(&join(cluster, host, &joining("a.b")).unwrap())).remove(0)
}

#[test]
fn the_api_is_the_newest_that_kubeadm_reads() {
    for (version, api) in [
        ("v1.22.0", "kubeadm.k8s.io/v1beta3"),
        ("v1.30.14", "kubeadm.k8s.io/v1beta3"),
        ("v1.31.0", "kubeadm.k8s.io/v1beta4"),
        ("v1.36.0", "kubeadm.k8s.io/v1beta4"),
    ] {
        let cluster = cluster(version);
        let init = init_documents(&cluster, "cp1");
        let kinds: Vec<_> = init.iter().map(|document| &document["kind"]).collect();
        let expected = [
            "InitConfiguration",
            "ClusterConfiguration",
            "KubeletConfiguration",
            "KubeProxyConfiguration",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(init[0]["apiVersion"], api, "{version}");
        assert_eq!(init[1]["apiVersion"], api, "{version}");
        assert_eq!(joined(&cluster, "w1")["apiVersion"], api, "{version}");
    }
    let old = cluster("v1.21.9");
    let refused = init(&old, &old.hosts[0], &Init::default());
    assert_eq!(refused, Err(RenderError::TooOld(Version::new(1, 21, 9))));
}

#[test]
fn flags_are_a_mapping_and_later_a_list() {
    let mut cluster = cluster("v1.30.0");
    cluster.monitoring.enabled = false;
    let args =
        |cluster: &Cluster| init_documents(cluster, "cp1")[1]["apiServer"]["extraArgs"].clone();
    let old = json!({"goaway-chance": "0.001", "shutdown-delay-duration": "20s"});
    assert_eq!(args(&cluster), old);
    cluster.kubernetes_version = Version::new(1, 31, 0);
    let new = json!([
        {"name": "goaway-chance", "value": "0.001"},
        {"name": "shutdown-delay-duration", "value": "20s"},
    ]);
    assert_eq!(args(&cluster), new);
}

#[test]
fn a_feature_gate_is_never_set() {
    for version in ["v1.22.17", "v1.31.0", "v1.33.0", "v1.36.0"] {
        let cluster = cluster(version);
        for document in init_documents(&cluster, "cp1") {
            assert_eq!(document.get("featureGates"), None, "{version}");
        }
    }
}

#[test]
fn waits_moved_to_a_section_of_their_own() {
    for (version, old) in [("v1.30.0", true), ("v1.31.0", false)] {
        let cluster = cluster(version);
        let init = init_documents(&cluster, "cp1");
        let join = joined(&cluster, "w1");
        assert_eq!(init[1]["apiServer"].get("timeoutForControlPlane").is_some(), old);
        assert_eq!(join["discovery"].get("timeout").is_some(), old);
        assert_eq!(init[0].get("timeouts").is_some(), !old);
        assert_eq!(join.get("timeouts").is_some(), !old);
        assert_eq!(init[1].get("certificateValidityPeriod").is_some(), !old);
    }
}

#[test]
fn every_name_of_the_apiservers_once_in_the_order_of_the_file() {
    let mut cluster = cluster("v1.34.2");
    host_mut(&mut cluster, "cp2").name = "localhost".to_owned();
    let expected = [
        "apiserver.prod.local",
        "127.0.0.1",
        "::1",
        "localhost",
        "cp1",
        "10.0.0.11",
        "10.0.0.12",
        "cp3",
        "10.0.0.13",
    ];
    assert_eq!(cert_sans(&cluster), expected);
    assert_eq!(init_documents(&cluster, "cp1")[1]["apiServer"]["certSANs"], json!(expected));
}

#[test]
fn etcd_is_local_or_somewhere_else() {
    let etcd = |cluster: &Cluster| init_documents(cluster, "cp1")[1]["etcd"].clone();
    let local = etcd(&cluster("v1.22.17"));
    let metrics = json!({"listen-metrics-urls": "http://0.0.0.0:2381"});
    assert_eq!(local, json!({"local": {"dataDir": "/var/lib/etcd", "extraArgs": metrics}}));
    let mut outside = external("v1.36.0");
    host_mut(&mut outside, "e2").address = "fd00::22".parse().unwrap();
    let expected = json!({"external": {
        "endpoints": ["https://10.0.0.21:2379", "https://[fd00::22]:2379", "https://10.0.0.23:2379"],
        "caFile": "/etc/kubernetes/pki/etcd/ca.crt",
        "certFile": "/etc/kubernetes/pki/apiserver-etcd-client.crt",
        "keyFile": "/etc/kubernetes/pki/apiserver-etcd-client.key",
    }});
    assert_eq!(etcd(&outside), expected);
}

#[test]
fn a_control_plane_joins_as_one_and_a_worker_does_not() {
    let cluster = cluster("v1.34.2");
    let control_plane = joined(&cluster, "cp2");
    let expected = json!({
        "certificateKey": "0123",
        "localAPIEndpoint": {"advertiseAddress": "10.0.0.12", "bindPort": 6443},
    });
    assert_eq!(control_plane["controlPlane"], expected);
    let worker = joined(&cluster, "w1");
    assert_eq!(worker.get("controlPlane"), None);
    let expected = json!({
        "apiServerEndpoint": "apiserver.prod.local:6443",
        "caCertHashes": ["sha256:00"],
        "token": "a.b",
    });
    assert_eq!(worker["discovery"]["bootstrapToken"], expected);
}

#[test]
fn taints_of_a_control_plane_stay_beside_those_of_the_spec() {
    let mut all = cluster("v1.34.2");
    let taints =
        |cluster: &Cluster, host| joined(cluster, host)["nodeRegistration"].get("taints").cloned();
    assert_eq!(taints(&all, "cp2"), None, "kubeadm gives it its own");
    assert_eq!(taints(&all, "w2"), None);
    let cp = host_mut(&mut all, "cp2");
    cp.taints = vec![taint("only", "me", "NoExecute")];
    let own = |key: &str| json!({"key": key, "effect": "NoSchedule"});
    let given = json!({"key": "only", "value": "me", "effect": "NoExecute"});
    let (old, new) = ("node-role.kubernetes.io/master", "node-role.kubernetes.io/control-plane");
    assert_eq!(taints(&all, "cp2"), Some(json!([own(new), given])));
    all.kubernetes_version = Version::new(1, 24, 0);
    assert_eq!(taints(&all, "cp2"), Some(json!([own(new), own(old), given])));
    all.kubernetes_version = Version::new(1, 23, 0);
    assert_eq!(taints(&all, "cp2"), Some(json!([own(old), given])));
    host_mut(&mut all, "cp2").roles.insert(Role::Worker);
    assert_eq!(taints(&all, "cp2"), Some(json!([given])), "it takes pods");
    host_mut(&mut all, "cp2").taints.clear();
    assert_eq!(taints(&all, "cp2"), Some(json!([])));
}

#[test]
fn old_versions_find_their_images_in_the_new_registry() {
    let images = |cluster: &Cluster| {
        let document = &init_documents(cluster, "cp1")[1];
        (document["imageRepository"].clone(), document.get("dns").cloned())
    };
    let mut all = cluster("v1.24.17");
    let dns = json!({"imageRepository": "registry.k8s.io/coredns"});
    assert_eq!(images(&all), (json!("registry.k8s.io"), Some(dns)));
    all.kubernetes_version = Version::new(1, 25, 0);
    assert_eq!(images(&all), (json!("registry.k8s.io"), None));
    all.artifacts = crate::bootstrap::spec::Artifacts::Packages {
        kubernetes_mirror: None,
        distribution_mirror: None,
        registry: Some("registry.local/k8s/".to_owned()),
    };
    all.kubernetes_version = Version::new(1, 24, 0);
    assert_eq!(images(&all), (json!("registry.local/k8s"), None));
}

#[test]
fn overrides_win() {
    let mut all = cluster("v1.34.2");
    all.overrides.api_server = map(&[("goaway-chance", "0"), ("v", "3")]);
    all.overrides.kubelet =
        settings(json!({"cgroupDriver": "cgroupfs", "rotateCertificates": null}));
    all.overrides.kube_proxy = settings(json!({"mode": "nftables"}));
    let init = init_documents(&all, "cp1");
    let expected = json!([
        {"name": "goaway-chance", "value": "0"},
        {"name": "shutdown-delay-duration", "value": "20s"},
        {"name": "v", "value": "3"},
    ]);
    assert_eq!(init[1]["apiServer"]["extraArgs"], expected);
    assert_eq!(init[2]["cgroupDriver"], "cgroupfs");
    assert_eq!(init[2].get("rotateCertificates"), None);
    assert_eq!(init[2]["clusterDomain"], "cluster.local");
    assert_eq!(init[3]["mode"], "nftables");
}

#[test]
fn one_host_may_have_its_own_where_kubeadm_can_patch() {
    let mut all = cluster("v1.24.0");
    assert_eq!(joined(&all, "w1").get("patches"), None, "a folder that is not there is refused");
    host_mut(&mut all, "w1").overrides.kubelet = settings(json!({"maxPods": 50}));
    let refused = patches::of(&all, all.host("w1").unwrap()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "w1: kubelet cannot be set for one host before Kubernetes v1.25 (this is v1.24.0); move it to \
         spec.kubelet, or use kubeletFlags"
    );
    all.kubernetes_version = Version::new(1, 25, 0);
    assert_eq!(joined(&all, "w1")["patches"], json!({"directory": paths::PATCHES}));
    let files = patches::of(&all, all.host("w1").unwrap()).unwrap();
    assert_eq!(files[0].path, "/etc/kubernetes/patches/kubeletconfiguration+merge.yaml");
    assert_eq!(text(&files[0]), "maxPods: 50\n");
    host_mut(&mut all, "cp1").overrides.api_server = map(&[("v", "4")]);
    let files = patches::of(&all, all.host("cp1").unwrap()).unwrap();
    assert_eq!(files[0].path, "/etc/kubernetes/patches/kube-apiserver+json.yaml");
    let operations: Value = serde_saphyr::from_str(text(&files[0])).unwrap();
    let path = "/spec/containers/0/command/-";
    assert_eq!(operations, json!([{"op": "add", "path": path, "value": "--v=4"}]));
    host_mut(&mut all, "w2").overrides.kube_proxy = settings(json!({"mode": "ipvs"}));
    let refused = patches::of(&all, all.host("w2").unwrap()).unwrap_err().to_string();
    assert!(refused.contains("move it to spec.kubeProxy"), "{refused}");
}

#[test]
fn what_holds_a_secret_is_secret() {
    let cluster = cluster("v1.34.2");
    let token = "fedcba.0123456789abcdef";
    let joining = joining(token);
    assert!(!format!("{joining:?}").contains(token));
    let file = join(&cluster, cluster.host("cp2").unwrap(), &joining).unwrap();
    assert!(text(&file).contains(token));
    assert!(file.secret);
    assert_eq!(file.mode, 0o600);
    let key = SecretText::new("00ff00ff");
    let wish = Init { certificate_key: Some(key), token: Some(SecretText::new(token)) };
    assert!(!format!("{wish:?}").contains("00ff") && !format!("{wish:?}").contains(token));
    let file = init(&cluster, cluster.host("cp1").unwrap(), &wish).unwrap();
    assert!(text(&file).contains("00ff00ff") && text(&file).contains(token));
    assert!(file.secret);
}

#[test]
fn a_flag_that_would_break_its_file_is_refused() {
    let mut all = cluster("v1.34.2");
    host_mut(&mut all, "w1").overrides.kubelet_flags = map(&[("v", "2")]);
    all.overrides.kubelet_flags = map(&[("v", "1"), ("enforce-node-allocatable", "")]);
    let files = kubelet::drop_in(&all, all.host("w1").unwrap()).unwrap();
    let line = "KUBELET_EXTRA_ARGS='--enforce-node-allocatable= --v=2'\n";
    assert!(text(&files[0]).ends_with(line), "{}", text(&files[0]));
    for bad in ["a b", "it's", "\"", "a\nFOO=bar", "\\"] {
        host_mut(&mut all, "w1").overrides.kubelet_flags = map(&[("hostname-override", bad)]);
        let refused = kubelet::drop_in(&all, all.host("w1").unwrap());
        let (host, flag) = ("w1".to_owned(), "hostname-override".to_owned());
        assert_eq!(refused, Err(RenderError::Flag { host, flag }), "{bad:?}");
    }
    all.overrides.kubelet_flags.clear();
    assert_eq!(kubelet::drop_in(&all, all.host("w2").unwrap()), Ok(Vec::new()));
}
