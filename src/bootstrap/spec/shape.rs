//! The keys of a `Cluster` file and their types, as written; nothing is checked yet.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::word::Words;
use super::{ExtensionKind, Role, Topology};

/// A list; an item that was refused or left empty is `None`, so that the others keep their numbers.
pub(super) type List<T> = Vec<Option<T>>;

/// Settings of any keys.
pub(super) type Settings = serde_json::Map<String, serde_json::Value>;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    #[serde(rename = "apiVersion")]
    #[schemars(required)]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    #[schemars(required)]
    _kind: Option<String>,
    #[schemars(required)]
    pub(super) metadata: Option<Metadata>,
    #[schemars(required)]
    pub(super) spec: Option<Spec>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metadata {
    #[schemars(required)]
    pub(super) name: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    #[schemars(required)]
    pub(super) kubernetes_version: Option<String>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) topology: Option<Topology>,
    pub(super) ssh: Option<Ssh>,
    #[schemars(with = "Option<Vec<Host>>")]
    pub(super) hosts: Option<List<Host>>,
    pub(super) hosts_from: Option<PathBuf>,
    pub(super) network: Option<Network>,
    pub(super) artifacts: Option<Artifacts>,
    pub(super) etcd: Option<Etcd>,
    pub(super) monitoring: Option<Monitoring>,
    #[schemars(with = "Option<Vec<Extension>>")]
    pub(super) extensions: Option<List<Extension>>,
    pub(super) audit: Option<bool>,
    pub(super) encryption_at_rest: Option<bool>,
    pub(super) kubelet: Option<Settings>,
    pub(super) containerd: Option<Settings>,
    pub(super) api_server: Option<Component>,
    pub(super) controller_manager: Option<Component>,
    pub(super) scheduler: Option<Component>,
    pub(super) kube_proxy: Option<Settings>,
    pub(super) kubelet_extra_args: Option<Words>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Endpoint {
    pub(super) name: Option<String>,
    #[schemars(with = "Option<u16>")]
    pub(super) port: Option<i128>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Ssh {
    pub(super) user: Option<String>,
    #[schemars(with = "Option<u16>")]
    pub(super) port: Option<i128>,
    pub(super) identity_file: Option<String>,
    pub(super) sudo: Option<bool>,
    pub(super) local: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Host {
    #[schemars(required)]
    pub(super) name: Option<String>,
    #[schemars(required)]
    pub(super) address: Option<String>,
    #[schemars(required, with = "Option<Vec<Role>>")]
    pub(super) roles: Option<List<Role>>,
    pub(super) zone: Option<String>,
    pub(super) labels: Option<Words>,
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) taints: Option<List<String>>,
    pub(super) ssh: Option<Ssh>,
    pub(super) kubelet: Option<Settings>,
    pub(super) containerd: Option<Settings>,
    pub(super) api_server: Option<Component>,
    pub(super) controller_manager: Option<Component>,
    pub(super) scheduler: Option<Component>,
    pub(super) kubelet_extra_args: Option<Words>,
}

/// A component that is told what to do by flags alone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Component {
    pub(super) extra_args: Option<Words>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Network {
    #[serde(rename = "podCIDR")]
    pub(super) pod_cidr: Option<String>,
    #[serde(rename = "serviceCIDR")]
    pub(super) service_cidr: Option<String>,
    pub(super) dns_domain: Option<String>,
    pub(super) cni: Option<Cni>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Cni {
    #[schemars(required)]
    pub(super) manifest: Option<PathBuf>,
}

/// Where artifacts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum From {
    #[default]
    Packages,
    Directory,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Artifacts {
    pub(super) from: Option<From>,
    pub(super) path: Option<PathBuf>,
    pub(super) kubernetes_mirror: Option<String>,
    pub(super) distribution_mirror: Option<String>,
    pub(super) registry: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Etcd {
    pub(super) version: Option<String>,
    pub(super) extra_args: Option<Words>,
    pub(super) backup: Option<Backup>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Backup {
    pub(super) schedule: Option<String>,
    #[schemars(with = "Option<u32>", range(min = 1, max = 10000))]
    pub(super) keep: Option<i128>,
    pub(super) directory: Option<String>,
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) copy_to: Option<List<String>>,
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) recipients: Option<List<String>>,
    pub(super) s3: Option<S3>,
    pub(super) drill: Option<Drill>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct S3 {
    #[schemars(required)]
    pub(super) endpoint: Option<String>,
    #[schemars(required)]
    pub(super) bucket: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) region: Option<String>,
    #[schemars(required)]
    pub(super) credentials_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Drill {
    pub(super) schedule: Option<String>,
    pub(super) host: Option<String>,
    pub(super) identity_file: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Monitoring {
    pub(super) enabled: Option<bool>,
    pub(super) pushgateway: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Extension {
    #[schemars(required)]
    pub(super) name: Option<String>,
    #[schemars(required)]
    pub(super) kind: Option<ExtensionKind>,
    #[schemars(required)]
    pub(super) placement: Option<Where>,
    pub(super) image: Option<String>,
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) command: Option<List<String>>,
}

/// Where an extension runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum Where {
    ControlPlane,
    External,
}
