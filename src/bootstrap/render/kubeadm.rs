//! What kubeadm reads: `init`, `join` and the settings of the whole cluster, in the API of its version.

mod api;
mod components;
mod node;

use std::net::IpAddr;

use crate::bootstrap::spec::{Cluster, Host, Role, Topology, Version};
use crate::bootstrap::transport::File;

use super::{RenderError, SecretText, kube_proxy, kubelet, patches, paths, yaml};
use api::{
    ApiEndpoint, BootstrapToken, BootstrapTokenDiscovery, ClusterConfiguration, Discovery,
    InitConfiguration, JoinConfiguration, JoinControlPlane, Networking, Patches, Timeouts,
};

pub use api::Api;
pub(super) use components::REGISTRY;
pub use components::cert_sans;
pub use components::registry;

/// How long a token lives that `kubeadm init` makes: a first apply, with room.
const TOKEN_LIFE: &str = "2h0m0s";

/// How long kubeadm waits for an apiserver to come up; its own default.
const CONTROL_PLANE_WAIT: &str = "4m0s";

/// How long `kubeadm join` looks for the cluster; its own default.
const DISCOVERY_WAIT: &str = "5m0s";

/// How long certificates are valid; kubeadm's own default, said so that an expiry is no surprise.
const CERTIFICATE_LIFE: &str = "8760h0m0s";

/// How long CAs are valid; kubeadm's own default.
const CA_LIFE: &str = "87600h0m0s";

/// What `kubeadm init` needs besides the cluster.
#[derive(Clone, Debug, Default)]
pub struct Init {
    /// What uploaded certificates are encrypted with: 32 bytes in hexadecimal. Without it they are not
    /// uploaded.
    pub certificate_key: Option<SecretText>,
    /// The first token, as `abcdef.0123456789abcdef`; kubeadm makes one if there is none. With
    /// `--skip-token-print` it shows in no log.
    pub token: Option<SecretText>,
}

/// What `kubeadm join` needs besides the cluster.
#[derive(Clone, Debug)]
pub struct Join {
    /// Where the cluster's facts are fetched, as `HOST:PORT`: mostly [`endpoint`], which a host that joins
    /// finds in its `/etc/hosts`.
    pub server: String,
    /// A token that is still valid.
    pub token: SecretText,
    /// Hashes of the public keys of CAs that are trusted, as `sha256:HEX`.
    pub ca_cert_hashes: Vec<String>,
    /// What uploaded certificates are encrypted with: control planes only.
    pub certificate_key: Option<SecretText>,
}

/// The file for `kubeadm init` on this host, at [`paths::KUBEADM_CONFIG`]: four documents.
///
/// # Errors
/// If no API of kubeadm fits, or the overrides cannot be had.
pub fn init(cluster: &Cluster, host: &Host, init: &Init) -> Result<File, RenderError> {
    let api = Api::of(cluster.kubernetes_version)?;
    let document = InitConfiguration {
        api_version: api.name(),
        kind: "InitConfiguration",
        bootstrap_tokens: vec![BootstrapToken {
            token: init.token.clone(),
            ttl: TOKEN_LIFE,
            description: "made by apiproxy bootstrap",
        }],
        certificate_key: init.certificate_key.clone(),
        local_api_endpoint: local(cluster, host),
        node_registration: node::registration(api, cluster, host),
        patches: patch_folder(cluster, host)?,
        timeouts: timeouts(api),
    };
    let documents = [
        yaml::document("InitConfiguration", &document)?,
        cluster_configuration(cluster)?,
        kubelet::configuration(cluster)?,
        kube_proxy::configuration(cluster)?,
    ];
    Ok(File::secret(paths::KUBEADM_CONFIG, yaml::stream(documents)))
}

/// The file for `kubeadm join` on this host, at [`paths::KUBEADM_CONFIG`]. A host with the role of a
/// control plane joins as one.
///
/// # Errors
/// If no API of kubeadm fits, or the overrides cannot be had.
pub fn join(cluster: &Cluster, host: &Host, join: &Join) -> Result<File, RenderError> {
    let api = Api::of(cluster.kubernetes_version)?;
    let control_plane = host.roles.contains(&Role::ControlPlane).then(|| JoinControlPlane {
        certificate_key: join.certificate_key.clone(),
        local_api_endpoint: local(cluster, host),
    });
    let document = JoinConfiguration {
        api_version: api.name(),
        kind: "JoinConfiguration",
        control_plane,
        discovery: Discovery {
            bootstrap_token: BootstrapTokenDiscovery {
                api_server_endpoint: join.server.clone(),
                ca_cert_hashes: join.ca_cert_hashes.clone(),
                token: join.token.clone(),
            },
            timeout: (api == Api::V1Beta3).then_some(DISCOVERY_WAIT),
        },
        node_registration: node::registration(api, cluster, host),
        patches: patch_folder(cluster, host)?,
        timeouts: timeouts(api),
    };
    let text = yaml::document("JoinConfiguration", &document)?;
    Ok(File::secret(paths::KUBEADM_CONFIG, text))
}

/// The settings of the whole cluster: part of [`init`], and what the `kubeadm-config` `ConfigMap` of a
/// running cluster should hold.
///
/// # Errors
/// If no API of kubeadm fits.
pub fn cluster_configuration(cluster: &Cluster) -> Result<String, RenderError> {
    let api = Api::of(cluster.kubernetes_version)?;
    let list = |cidrs: &[(IpAddr, u8)]| {
        let cidrs: Vec<_> = cidrs.iter().map(|(ip, length)| format!("{ip}/{length}")).collect();
        cidrs.join(",")
    };
    let (repository, dns) = components::images(cluster);
    let v1beta4 = api == Api::V1Beta4;
    let document = ClusterConfiguration {
        api_version: api.name(),
        kind: "ClusterConfiguration",
        api_server: components::api_server(api, cluster),
        ca_certificate_validity_period: v1beta4.then_some(CA_LIFE),
        certificate_validity_period: v1beta4.then_some(CERTIFICATE_LIFE),
        cluster_name: cluster.name.clone(),
        control_plane_endpoint: endpoint(cluster),
        controller_manager: components::controller_manager(api, cluster),
        dns,
        etcd: match cluster.topology {
            Topology::Stacked => components::local_etcd(api, cluster),
            Topology::External => components::external_etcd(cluster),
        },
        image_repository: repository,
        kubernetes_version: cluster.kubernetes_version.to_string(),
        networking: Networking {
            dns_domain: cluster.network.dns_domain.clone(),
            pod_subnet: list(&cluster.network.pod_cidrs),
            service_subnet: list(&cluster.network.service_cidrs),
        },
        scheduler: components::scheduler(api, cluster),
    };
    yaml::document("ClusterConfiguration", &document)
}

/// What every node calls the apiservers, as `NAME:PORT`.
pub fn endpoint(cluster: &Cluster) -> String {
    format!("{}:{}", cluster.endpoint.name, cluster.endpoint.port)
}

/// The taints that kubeadm gives a control plane of its own accord.
pub fn control_plane_taints(version: Version) -> &'static [&'static str] {
    const OLD: &str = "node-role.kubernetes.io/master";
    const NEW: &str = "node-role.kubernetes.io/control-plane";
    match version.minor {
        ..=23 => &[OLD],
        24 => &[NEW, OLD],
        _ => &[NEW],
    }
}

fn local(cluster: &Cluster, host: &Host) -> ApiEndpoint {
    ApiEndpoint { advertise_address: host.address, bind_port: cluster.endpoint.port }
}

/// kubeadm refuses a folder that is not there.
fn patch_folder(cluster: &Cluster, host: &Host) -> Result<Option<Patches>, RenderError> {
    let some = !patches::of(cluster, host)?.is_empty();
    Ok(some.then_some(Patches { directory: paths::PATCHES }))
}

fn timeouts(api: Api) -> Option<Timeouts> {
    (api == Api::V1Beta4).then_some(Timeouts {
        control_plane_component_health_check: CONTROL_PLANE_WAIT,
        discovery: DISCOVERY_WAIT,
    })
}

#[cfg(test)]
mod tests;
