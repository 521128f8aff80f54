//! The documents of `kubeadm.k8s.io`, as far as we write them: `v1beta3` for 1.22 to 1.30, `v1beta4`
//! from 1.31.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::bootstrap::render::{RenderError, SecretText};
use crate::bootstrap::spec::Version;

/// A version of kubeadm's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// From Kubernetes 1.22 on; no newer kubeadm than 1.35 has to read it.
    V1Beta3,
    /// From Kubernetes 1.31 on.
    V1Beta4,
}

impl Api {
    /// The newest that kubeadm of this version reads.
    ///
    /// # Errors
    /// Before Kubernetes 1.22.
    pub fn of(version: Version) -> Result<Self, RenderError> {
        match (version.major, version.minor) {
            (0, _) | (1, ..=21) => Err(RenderError::TooOld(version)),
            (1, ..=30) => Ok(Self::V1Beta3),
            _ => Ok(Self::V1Beta4),
        }
    }

    /// The `apiVersion`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1Beta3 => "kubeadm.k8s.io/v1beta3",
            Self::V1Beta4 => "kubeadm.k8s.io/v1beta4",
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InitConfiguration {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) bootstrap_tokens: Vec<BootstrapToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate_key: Option<SecretText>,
    #[serde(rename = "localAPIEndpoint")]
    pub(super) local_api_endpoint: ApiEndpoint,
    pub(super) node_registration: NodeRegistration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) patches: Option<Patches>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeouts: Option<Timeouts>,
}

#[derive(Debug, Serialize)]
pub(super) struct BootstrapToken {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<SecretText>,
    pub(super) ttl: &'static str,
    pub(super) description: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JoinConfiguration {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) control_plane: Option<JoinControlPlane>,
    pub(super) discovery: Discovery,
    pub(super) node_registration: NodeRegistration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) patches: Option<Patches>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeouts: Option<Timeouts>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JoinControlPlane {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate_key: Option<SecretText>,
    #[serde(rename = "localAPIEndpoint")]
    pub(super) local_api_endpoint: ApiEndpoint,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Discovery {
    pub(super) bootstrap_token: BootstrapTokenDiscovery,
    /// Moved to [`Timeouts`] in v1beta4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BootstrapTokenDiscovery {
    pub(super) api_server_endpoint: String,
    pub(super) ca_cert_hashes: Vec<String>,
    pub(super) token: SecretText,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiEndpoint {
    pub(super) advertise_address: IpAddr,
    pub(super) bind_port: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeRegistration {
    pub(super) name: String,
    pub(super) cri_socket: &'static str,
    pub(super) image_pull_policy: &'static str,
    #[serde(skip_serializing_if = "Args::is_empty")]
    pub(super) kubelet_extra_args: Args,
    /// Left out, a control plane gets kubeadm's taints; empty, it gets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) taints: Option<Vec<NodeTaint>>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct NodeTaint {
    pub(super) key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) value: String,
    pub(super) effect: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Patches {
    pub(super) directory: &'static str,
}

/// v1beta4 only.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timeouts {
    pub(super) control_plane_component_health_check: &'static str,
    pub(super) discovery: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterConfiguration {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) api_server: ApiServer,
    /// v1beta4 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_certificate_validity_period: Option<&'static str>,
    /// v1beta4 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate_validity_period: Option<&'static str>,
    pub(super) cluster_name: String,
    pub(super) control_plane_endpoint: String,
    pub(super) controller_manager: Component,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dns: Option<Dns>,
    pub(super) etcd: Etcd,
    pub(super) image_repository: String,
    pub(super) kubernetes_version: String,
    pub(super) networking: Networking,
    pub(super) scheduler: Component,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiServer {
    #[serde(rename = "certSANs")]
    pub(super) cert_sans: Vec<String>,
    pub(super) extra_args: Args,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) extra_volumes: Vec<HostPathMount>,
    /// Moved to [`Timeouts`] in v1beta4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout_for_control_plane: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Component {
    #[serde(skip_serializing_if = "Args::is_empty")]
    pub(super) extra_args: Args,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HostPathMount {
    pub(super) name: &'static str,
    pub(super) host_path: &'static str,
    pub(super) mount_path: &'static str,
    pub(super) read_only: bool,
    pub(super) path_type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dns {
    pub(super) image_repository: String,
}

/// kubeadm wants exactly one of the two.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Etcd {
    Local(LocalEtcd),
    External(ExternalEtcd),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LocalEtcd {
    pub(super) data_dir: &'static str,
    #[serde(skip_serializing_if = "Args::is_empty")]
    pub(super) extra_args: Args,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExternalEtcd {
    pub(super) endpoints: Vec<String>,
    pub(super) ca_file: &'static str,
    pub(super) cert_file: &'static str,
    pub(super) key_file: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Networking {
    pub(super) dns_domain: String,
    pub(super) pod_subnet: String,
    pub(super) service_subnet: String,
}

/// Flags of a program: a mapping in v1beta3, a list of names and values in v1beta4.
#[derive(Debug)]
pub(super) struct Args {
    pub(super) api: Api,
    pub(super) flags: BTreeMap<String, String>,
}

impl Args {
    fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }
}

impl Serialize for Args {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Arg<'a> {
            name: &'a str,
            value: &'a str,
        }
        match self.api {
            Api::V1Beta3 => self.flags.serialize(serializer),
            Api::V1Beta4 => {
                serializer.collect_seq(self.flags.iter().map(|(name, value)| Arg { name, value }))
            }
        }
    }
}
