//! What the apiservers put on record: who changed what, without what is in Secrets, and without the
//! noise of the cluster's own programs.

use serde::Serialize;

use crate::bootstrap::spec::{Cluster, Version};
use crate::bootstrap::transport::File;

use super::{RenderError, paths, yaml};

/// Since when the bookkeeping of field owners can be left out of bodies.
const OMITS_MANAGED_FIELDS: Version = Version::new(1, 23, 0);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    api_version: &'static str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    omit_managed_fields: Option<bool>,
    omit_stages: [&'static str; 1],
    rules: Vec<Rule>,
}

/// The first that fits decides.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    users: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    user_groups: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    verbs: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    resources: &'static [Resources],
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "<[_]>::is_empty")]
    non_resource_urls: &'static [&'static str],
}

#[derive(Clone, Copy, Default, Serialize)]
enum Level {
    None,
    #[default]
    Metadata,
    RequestResponse,
}

#[derive(Serialize)]
struct Resources {
    group: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    resources: &'static [&'static str],
}

const READS: &[&str] = &["get", "list", "watch"];

/// The policy; none when the cluster keeps no record.
///
/// # Errors
/// If it cannot be written as YAML.
pub fn policy(cluster: &Cluster) -> Result<Option<File>, RenderError> {
    if !cluster.audit {
        return Ok(None);
    }
    let policy = Policy {
        api_version: "audit.k8s.io/v1",
        kind: "Policy",
        omit_managed_fields: (cluster.kubernetes_version >= OMITS_MANAGED_FIELDS).then_some(true),
        // What is told when a request has been answered says all.
        omit_stages: ["RequestReceived"],
        rules: rules(),
    };
    let text = yaml::document("audit policy", &policy)?;
    Ok(Some(File::new(paths::AUDIT_POLICY, text).mode(0o600)))
}

fn rules() -> Vec<Rule> {
    use Level::{Metadata, None, RequestResponse};
    vec![
        // Health, versions and API documents: asked for every second, by everyone.
        Rule {
            level: None,
            non_resource_urls: &["/healthz*", "/livez*", "/readyz*", "/version", "/openapi*"],
            ..Rule::default()
        },
        // Signs of life and events: several a second from each node.
        Rule {
            level: None,
            resources: &[
                Resources { group: "coordination.k8s.io", resources: &["leases"] },
                Resources { group: "", resources: &["events"] },
                Resources { group: "events.k8s.io", resources: &["events"] },
            ],
            ..Rule::default()
        },
        // Nodes that look at what they run, and report how they are.
        Rule {
            level: None,
            user_groups: &["system:nodes"],
            verbs: READS,
            resources: &[Resources {
                group: "",
                resources: &["nodes", "nodes/status", "pods", "services"],
            }],
            ..Rule::default()
        },
        Rule {
            level: None,
            user_groups: &["system:nodes"],
            verbs: &["patch", "update"],
            resources: &[Resources { group: "", resources: &["nodes/status", "pods/status"] }],
            ..Rule::default()
        },
        // The cluster's own programs, as they look at the cluster.
        Rule {
            level: None,
            users: &[
                "system:apiserver",
                "system:kube-controller-manager",
                "system:kube-proxy",
                "system:kube-scheduler",
                "system:serviceaccount:kube-system:kube-proxy",
            ],
            verbs: READS,
            resources: &[
                Resources {
                    group: "",
                    resources: &["endpoints", "namespaces", "nodes", "pods", "services"],
                },
                Resources { group: "discovery.k8s.io", resources: &["endpointslices"] },
            ],
            ..Rule::default()
        },
        // Never what is in them: a record of secrets would be one more place to steal them from.
        Rule {
            level: Metadata,
            resources: &[
                Resources {
                    group: "",
                    resources: &["configmaps", "secrets", "serviceaccounts/token"],
                },
                Resources { group: "authentication.k8s.io", resources: &["tokenreviews"] },
            ],
            ..Rule::default()
        },
        // Who gave whom which rights, and who changed what guards the cluster: in full. What is done in
        // a pod with exec has no body; its record below has the command in the URI.
        Rule {
            level: RequestResponse,
            verbs: &["create", "delete", "deletecollection", "patch", "update"],
            resources: &[
                Resources { group: "rbac.authorization.k8s.io", resources: &[] },
                Resources { group: "admissionregistration.k8s.io", resources: &[] },
                Resources { group: "apiregistration.k8s.io", resources: &[] },
                Resources { group: "certificates.k8s.io", resources: &[] },
                Resources { group: "policy", resources: &[] },
                Resources { group: "", resources: &["serviceaccounts"] },
            ],
            ..Rule::default()
        },
        // Everything else: who, what and when.
        Rule::default(),
    ]
}
