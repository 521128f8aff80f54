//! Every file as it is rendered, beside what a reviewer has read in `tests/golden/`. After a wanted
//! change: `UPDATE_GOLDEN=1 cargo test --lib render`, then read the diff.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::fixture::{cidr, cluster, external, host_mut, map, settings, text};
use super::kubeadm::{Init, Join};
use super::kubeconfig::Credential;
use super::{
    SecretText, audit, containerd, encryption, etc_hosts, host, kubeadm, kubelet, patches, paths,
    proxy,
};
use crate::bootstrap::spec::{Artifacts, Cluster, Host, Role, Version};
use crate::bootstrap::transport::{File, Secret};

const VERSIONS: [&str; 5] = ["v1.22.17", "v1.30.14", "v1.31.14", "v1.34.2", "v1.36.0"];

const CONTAINERDS: [Version; 3] =
    [Version::new(1, 6, 20), Version::new(1, 7, 24), Version::new(2, 1, 4)];

fn check(name: &str, rendered: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, rendered).unwrap();
    }
    let read = std::fs::read_to_string(&path).unwrap_or_default();
    if read != rendered {
        let diff = similar::TextDiff::from_lines(read.as_str(), rendered);
        panic!("{name} has changed:\n{}", diff.unified_diff().context_radius(3));
    }
}

fn show(text_of_all: &mut String, on: &str, file: &File) {
    let owner = &file.owner;
    let secret = if file.secret { " secret" } else { "" };
    let _infallible = write!(
        text_of_all,
        "##### {on} {} {:o} {}:{}{secret}\n{}",
        file.path,
        file.mode,
        owner.0,
        owner.1,
        text(file)
    );
}

fn init() -> Init {
    Init {
        certificate_key: Some(SecretText::new(
            "e6a2eb8581237ab72a4f494f30285ec12a9694d750b9785706a83bfcbbbd2204",
        )),
        token: Some(SecretText::new("abcdef.0123456789abcdef")),
    }
}

fn join(host: &Host) -> Join {
    let control_plane = host.roles.contains(&Role::ControlPlane);
    Join {
        server: "apiserver.prod.local:6443".to_owned(),
        token: SecretText::new("fedcba.0123456789abcdef"),
        ca_cert_hashes: vec![
            "sha256:0e1d2c3b4a59687706152433425160f0e1d2c3b4a59687706152433425160f01".to_owned(),
        ],
        certificate_key: control_plane.then(|| init().certificate_key).flatten(),
    }
}

/// All that kubeadm and kubelet read on these hosts: `init` on the first, `join` on the others.
fn kubernetes(cluster: &Cluster, hosts: [&str; 3]) -> String {
    let mut all = String::new();
    for (at, name) in hosts.into_iter().enumerate() {
        let host = cluster.host(name).unwrap();
        let file = match at {
            0 => kubeadm::init(cluster, host, &init()),
            _ => kubeadm::join(cluster, host, &join(host)),
        };
        show(&mut all, name, &file.unwrap());
        for file in patches::of(cluster, host).unwrap() {
            show(&mut all, name, &file);
        }
        for file in kubelet::drop_in(cluster, host).unwrap() {
            show(&mut all, name, &file);
        }
    }
    if let Some(file) = audit::policy(cluster).unwrap() {
        show(&mut all, hosts[0], &file);
    }
    if cluster.encryption_at_rest {
        let key = |name: &str, byte| {
            encryption::Key::new(name, Secret(vec![byte; encryption::KEY_LENGTH])).unwrap()
        };
        let file = encryption::config(&key("key-2", 2), &[key("key-1", 1)]).unwrap();
        show(&mut all, hosts[0], &file);
    }
    all
}

/// All that the host itself reads: kernel, names, containerd of each version.
fn machine(cluster: &Cluster, name: &str) -> String {
    let mut all = String::new();
    let it = cluster.host(name).unwrap();
    show(&mut all, name, &host::modules_file(cluster));
    show(&mut all, name, &host::sysctl_file(cluster));
    let block = etc_hosts::hosts_block(cluster, it, [127, 0, 0, 1].into());
    let names = etc_hosts::replace_block(b"127.0.0.1 localhost\n", &block);
    show(&mut all, name, &File::new(paths::ETC_HOSTS, names));
    for version in CONTAINERDS {
        let file = containerd::config(cluster, it, version).unwrap();
        show(&mut all, &format!("{name} (containerd {version})"), &file);
    }
    if let Some(file) = containerd::mirror(cluster) {
        show(&mut all, name, &file);
    }
    all
}

#[test]
fn every_version_in_both_topologies() {
    for version in VERSIONS {
        for (topology, cluster) in [("stacked", cluster(version)), ("external", external(version))]
        {
            let release = cluster.kubernetes_version.release();
            let all = kubernetes(&cluster, ["cp1", "cp2", "w1"]) + &machine(&cluster, "w1");
            check(&format!("{release}-{topology}.txt"), &all);
        }
    }
}

#[test]
fn audit_and_encryption() {
    for version in ["v1.22.17", "v1.34.2"] {
        let mut cluster = cluster(version);
        cluster.audit = true;
        cluster.encryption_at_rest = true;
        cluster.monitoring.enabled = false;
        let release = cluster.kubernetes_version.release();
        let all = kubernetes(&cluster, ["cp1", "cp3", "w2"]);
        check(&format!("{release}-audit-encryption.txt"), &all);
    }
}

#[test]
fn dual_stack() {
    for version in ["v1.22.17", "v1.36.0"] {
        let mut cluster = external(version);
        cluster.network.pod_cidrs.push(cidr("fd00:10:244::", 56));
        cluster.network.service_cidrs.push(cidr("fd00:10:96::", 112));
        for (name, address) in [("cp3", "fd00::13"), ("e2", "fd00::22"), ("w2", "fd00::32")] {
            host_mut(&mut cluster, name).address = address.parse().unwrap();
        }
        let release = cluster.kubernetes_version.release();
        let all = kubernetes(&cluster, ["cp1", "cp3", "w2"]) + &machine(&cluster, "w2");
        check(&format!("{release}-dual-stack.txt"), &all);
    }
}

/// The cluster's win over ours, and the host's over the cluster's.
fn overridden(version: &str) -> Cluster {
    let mut cluster = cluster(version);
    cluster.artifacts = Artifacts::Packages {
        kubernetes_mirror: None,
        distribution_mirror: None,
        registry: Some("registry.local:5000/kubernetes/".to_owned()),
    };
    let all = &mut cluster.overrides;
    all.api_server = map(&[("goaway-chance", "0"), ("event-ttl", "2h0m0s")]);
    all.controller_manager = map(&[("bind-address", "127.0.0.1")]);
    all.scheduler = map(&[("v", "2")]);
    all.kubelet = settings(
        json!({"maxPods": 200, "shutdownGracePeriod": "60s", "rotateCertificates": null, "evictionHard": {"memory.available": "5%"}}),
    );
    all.kubelet_flags = map(&[("enforce-node-allocatable", "")]);
    all.kube_proxy = settings(json!({"mode": "ipvs", "conntrack": {"maxPerCore": 0}}));
    all.containerd = settings(
        json!({"oom_score": -999, "plugins": {"io.containerd.internal.v1.opt": {"path": "/opt/own"}}}),
    );
    cluster.etcd.extra_args = map(&[("quota-backend-bytes", "8589934592")]);
    let first = &mut host_mut(&mut cluster, "cp1").overrides;
    first.api_server = map(&[("event-ttl", "1h0m0s"), ("feature-gates", "A=true")]);
    first.scheduler = map(&[("v", "4")]);
    host_mut(&mut cluster, "cp2").taints = vec![super::fixture::taint("only", "me", "NoExecute")];
    host_mut(&mut cluster, "cp3").roles.insert(Role::Worker);
    let worker = &mut host_mut(&mut cluster, "w1").overrides;
    worker.kubelet_flags = map(&[("enforce-node-allocatable", "pods"), ("v", "3")]);
    worker.containerd = settings(json!({"oom_score": -500}));
    cluster
}

#[test]
fn overrides() {
    for version in ["v1.24.17", "v1.34.2"] {
        let mut cluster = overridden(version);
        if cluster.kubernetes_version >= Version::new(1, 25, 0) {
            host_mut(&mut cluster, "w1").overrides.kubelet = settings(json!({"maxPods": 50}));
        }
        let release = cluster.kubernetes_version.release();
        let mut all = kubernetes(&cluster, ["cp1", "cp2", "w1"]);
        let both = cluster.host("cp3").unwrap();
        show(&mut all, "cp3", &kubeadm::join(&cluster, both, &join(both)).unwrap());
        all += &machine(&cluster, "w1");
        check(&format!("{release}-overrides.txt"), &all);
    }
}

#[test]
fn the_proxy_of_a_worker() {
    let mut all = String::new();
    let cluster = cluster("v1.34.2");
    for name in ["w1", "w2"] {
        let worker = cluster.host(name).unwrap();
        show(&mut all, name, &proxy::config(&cluster, worker).unwrap());
    }
    for file in proxy::user_and_folders() {
        show(&mut all, "w1", &file);
    }
    let _infallible =
        writeln!(all, "##### w1 the transient unit\n{}", proxy::unit_command().join("\n"));
    show(&mut all, "w1", &proxy::static_pod(2, "apiproxy:0.1.0").unwrap());
    let pem = |what: &str| format!("-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n");
    let ca = pem("CERTIFICATE");
    let files = Credential::Files {
        certificate: paths::PROXY_CLIENT_CERT.to_owned(),
        key: paths::PROXY_CLIENT_KEY.to_owned(),
    };
    let embedded = Credential::Certificate {
        certificate: pem("CERTIFICATE"),
        key: Secret(pem("PRIVATE KEY").into_bytes()),
    };
    let token = Credential::Token(SecretText::new("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"));
    for credential in [files, embedded, token] {
        show(&mut all, "w1", &proxy::kubeconfig(&cluster, &ca, credential).unwrap());
    }
    let version = concat!("\"", env!("CARGO_PKG_VERSION"), "\"");
    check("proxy.txt", &all.replace(version, "\"VERSION\""));
}
