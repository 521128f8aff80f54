//! The programs of a control plane: their flags, mounts, names and images.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::bootstrap::render::{merge, paths};
use crate::bootstrap::spec::{Artifacts, Cluster, Role, Version};

use super::api::{
    Api, ApiServer, Args, Component, Dns, Etcd, ExternalEtcd, HostPathMount, LocalEtcd,
};

/// Kubernetes' registry: what kubeadm takes since 1.25, and what older ones find everything in too.
pub(crate) const REGISTRY: &str = "registry.k8s.io";

/// The port on which etcd serves clients.
const ETCD_PORT: u16 = 2379;

/// Since when an apiserver can read its encryption keys again without a restart.
const ENCRYPTION_RELOADS: Version = Version::new(1, 26, 0);

/// Names in the apiservers' certificates: whatever a client may call one, each once.
pub fn cert_sans(cluster: &Cluster) -> Vec<String> {
    let fixed =
        [cluster.endpoint.name.as_str(), "127.0.0.1", "::1", "localhost"].map(str::to_owned);
    let hosts = cluster.with_role(Role::ControlPlane);
    let hosts = hosts.flat_map(|host| [host.name.clone(), host.address.to_string()]);
    let mut names = Vec::new();
    for name in fixed.into_iter().chain(hosts) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

pub(super) fn api_server(api: Api, cluster: &Cluster) -> ApiServer {
    let mut ours = flags(&[
        // Spreads HTTP/2 clients: one request in 1,000 is told to connect anew.
        ("goaway-chance", "0.001"),
        // It says "not ready" for so long before it ends; proxies see that within seconds.
        ("shutdown-delay-duration", "20s"),
    ]);
    let mut extra_volumes = Vec::new();
    if cluster.audit {
        ours.append(&mut flags(&[
            ("audit-log-maxage", "30"),
            ("audit-log-maxbackup", "10"),
            ("audit-log-maxsize", "100"),
            ("audit-log-path", paths::AUDIT_LOG),
            ("audit-policy-file", paths::AUDIT_POLICY),
        ]));
        extra_volumes.push(mount("audit-policy", paths::AUDIT_FOLDER, true));
        extra_volumes.push(mount("audit-log", paths::AUDIT_LOG_FOLDER, false));
    }
    if cluster.encryption_at_rest {
        ours.append(&mut flags(&[("encryption-provider-config", paths::ENCRYPTION_CONFIG)]));
        if cluster.kubernetes_version >= ENCRYPTION_RELOADS {
            ours.append(&mut flags(&[("encryption-provider-config-automatic-reload", "true")]));
        }
        extra_volumes.push(mount("encryption", paths::ENCRYPTION_FOLDER, true));
    }
    ApiServer {
        cert_sans: cert_sans(cluster),
        extra_args: Args { api, flags: merge::flags([&ours, &cluster.overrides.api_server]) },
        extra_volumes,
        timeout_for_control_plane: (api == Api::V1Beta3).then_some(super::CONTROL_PLANE_WAIT),
    }
}

pub(super) fn controller_manager(api: Api, cluster: &Cluster) -> Component {
    elected(api, cluster, &cluster.overrides.controller_manager)
}

pub(super) fn scheduler(api: Api, cluster: &Cluster) -> Component {
    elected(api, cluster, &cluster.overrides.scheduler)
}

/// One on each control plane, of which one at a time works.
fn elected(api: Api, cluster: &Cluster, overrides: &BTreeMap<String, String>) -> Component {
    let mut ours = flags(&[("leader-elect", "true")]);
    if cluster.monitoring.enabled {
        // Metrics stay behind authentication and authorization on any address.
        ours.append(&mut flags(&[("bind-address", wildcard(cluster))]));
    }
    Component { extra_args: Args { api, flags: merge::flags([&ours, overrides]) } }
}

pub(super) fn local_etcd(api: Api, cluster: &Cluster) -> Etcd {
    let mut ours = BTreeMap::new();
    if cluster.monitoring.enabled {
        let address = SocketAddr::new(wildcard_ip(cluster), 2381);
        ours.insert("listen-metrics-urls".to_owned(), format!("http://{address}"));
    }
    let flags = merge::flags([&ours, &cluster.etcd.extra_args]);
    Etcd::Local(LocalEtcd { data_dir: "/var/lib/etcd", extra_args: Args { api, flags } })
}

pub(super) fn external_etcd(cluster: &Cluster) -> Etcd {
    let members = cluster.etcd_hosts();
    Etcd::External(ExternalEtcd {
        endpoints: members
            .map(|host| format!("https://{}", SocketAddr::new(host.address, ETCD_PORT)))
            .collect(),
        ca_file: paths::ETCD_CA_FILE,
        cert_file: paths::ETCD_CLIENT_CERT,
        key_file: paths::ETCD_CLIENT_KEY,
    })
}

/// The registry of Kubernetes' images, and `CoreDNS`'s where it is not the same.
///
/// kubeadm looks for `CoreDNS` one level deeper in its default registry only; before 1.25 that was
/// another one. In a registry of the user's own it lies beside the others, as kubeadm has it.
pub(super) fn images(cluster: &Cluster) -> (String, Option<Dns>) {
    let registry = registry(cluster);
    let old = cluster.kubernetes_version < Version::new(1, 25, 0);
    let dns = (old && registry == REGISTRY)
        .then(|| Dns { image_repository: format!("{REGISTRY}/coredns") });
    (registry.to_owned(), dns)
}

/// The registry of Kubernetes' images.
pub fn registry(cluster: &Cluster) -> &str {
    match &cluster.artifacts {
        Artifacts::Packages { registry: Some(registry), .. } => registry.trim_end_matches('/'),
        Artifacts::Packages { .. } | Artifacts::Directory(_) => REGISTRY,
    }
}

fn mount(name: &'static str, folder: &'static str, read_only: bool) -> HostPathMount {
    // A folder, not a file: a file that is mounted by itself stays the old one when it is replaced.
    HostPathMount {
        name,
        host_path: folder,
        mount_path: folder,
        read_only,
        path_type: "DirectoryOrCreate",
    }
}

fn flags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Every address of a host, of the family that the control planes have.
fn wildcard(cluster: &Cluster) -> &'static str {
    if wildcard_ip(cluster).is_ipv6() { "::" } else { "0.0.0.0" }
}

fn wildcard_ip(cluster: &Cluster) -> std::net::IpAddr {
    let mut hosts = cluster.with_role(Role::ControlPlane);
    match hosts.next() {
        Some(host) if host.address.is_ipv6() => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => std::net::Ipv4Addr::UNSPECIFIED.into(),
    }
}
