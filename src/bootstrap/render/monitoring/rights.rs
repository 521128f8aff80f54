//! What Prometheus may ask of the cluster: metrics, and nothing else.

use serde_json::json;

use crate::bootstrap::spec::Cluster;

/// The name of the user, of its roles and of their bindings.
pub const ROLE: &str = "apiproxy-monitoring";

/// The manifest of its rights.
pub fn rights(cluster: &Cluster) -> String {
    let labels = json!({ "app.kubernetes.io/managed-by": "apiproxy-bootstrap", "app.kubernetes.io/name": ROLE });
    let group = "rbac.authorization.k8s.io";
    let api = format!("{group}/v1");
    let meta = |namespace: Option<&str>| {
        let mut meta = json!({ "name": ROLE, "labels": labels });
        if let Some(namespace) = namespace {
            meta["namespace"] = json!(namespace);
        }
        meta
    };
    let binding = |kind: &str, role: &str, namespace: Option<&str>| {
        json!({
            "apiVersion": api, "kind": kind, "metadata": meta(namespace),
            "roleRef": { "apiGroup": group, "kind": role, "name": ROLE },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": ROLE }],
        })
    };
    let mut all = vec![
        json!({
            "apiVersion": api, "kind": "ClusterRole", "metadata": meta(None),
            "rules": [
                { "nonResourceURLs": ["/metrics"], "verbs": ["get"] },
                { "apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"] },
            ],
        }),
        binding("ClusterRoleBinding", "ClusterRole", None),
    ];
    if let Some(service) = &cluster.monitoring.kube_state_metrics {
        let namespace = Some(service.namespace.as_str());
        all.push(json!({
            "apiVersion": api, "kind": "Role", "metadata": meta(namespace),
            "rules": [{
                "apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"],
                "resourceNames": [format!("{}:{}", service.name, service.port)],
            }],
        }));
        all.push(binding("RoleBinding", "Role", namespace));
    }
    // JSON is read one after another; with `---` between them kubectl would expect YAML.
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") + "\n"
}
