//! The kinds of objects there are, and the paths that name them.

use serde_json::{Value, json};

/// One kind of objects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// `v1`, or `GROUP/VERSION`.
    pub(super) api: &'static str,
    /// As paths have it.
    pub(super) name: &'static str,
    /// As objects have it.
    pub(super) word: &'static str,
    pub(super) namespaced: bool,
    /// What kubectl also calls it.
    short: &'static str,
}

const fn kind(
    api: &'static str,
    name: &'static str,
    word: &'static str,
    namespaced: bool,
    short: &'static str,
) -> Kind {
    Kind { api, name, word, namespaced, short }
}

pub(super) const KINDS: &[Kind] = &[
    kind("v1", "configmaps", "ConfigMap", true, "cm"),
    kind("v1", "endpoints", "Endpoints", true, "ep"),
    kind("v1", "events", "Event", true, "ev"),
    kind("v1", "namespaces", "Namespace", false, "ns"),
    kind("v1", "nodes", "Node", false, "no"),
    kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim", true, "pvc"),
    kind("v1", "persistentvolumes", "PersistentVolume", false, "pv"),
    kind("v1", "pods", "Pod", true, "po"),
    kind("v1", "replicationcontrollers", "ReplicationController", true, "rc"),
    kind("v1", "secrets", "Secret", true, ""),
    kind("v1", "serviceaccounts", "ServiceAccount", true, "sa"),
    kind("v1", "services", "Service", true, "svc"),
    kind("apps/v1", "daemonsets", "DaemonSet", true, "ds"),
    kind("apps/v1", "deployments", "Deployment", true, "deploy"),
    kind("apps/v1", "replicasets", "ReplicaSet", true, "rs"),
    kind("apps/v1", "statefulsets", "StatefulSet", true, "sts"),
    kind(
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        false,
        "crd",
    ),
    kind("batch/v1", "jobs", "Job", true, ""),
    kind(
        "certificates.k8s.io/v1",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        false,
        "csr",
    ),
    kind("coordination.k8s.io/v1", "leases", "Lease", true, ""),
    kind("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", true, ""),
    kind("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", true, "netpol"),
    kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", true, "pdb"),
    kind("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", false, ""),
    kind("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", false, ""),
    kind("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding", true, ""),
    kind("rbac.authorization.k8s.io/v1", "roles", "Role", true, ""),
    kind("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", false, "pc"),
];

/// What a path names.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) kind: &'static Kind,
    /// Empty: all of them, or none.
    pub(super) namespace: String,
    /// Empty: the whole collection.
    pub(super) name: String,
    pub(super) subresource: String,
}

impl Target {
    /// An object of the core group.
    pub(super) fn named(resource: &str, namespace: &str, name: &str) -> Self {
        let kind = KINDS.iter().find(|kind| kind.name == resource).unwrap_or(&KINDS[0]);
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
        }
    }

    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        let api = match *parts.first()? {
            "api" if parts.len() > 2 => parts.drain(..2).nth(1)?.to_owned(),
            "apis" if parts.len() > 3 => parts.drain(..3).skip(1).collect::<Vec<_>>().join("/"),
            _ => return None,
        };
        let mut namespace = "";
        if parts[0] == "namespaces"
            && parts.len() > 2
            && !["status", "finalize"].contains(&parts[2])
        {
            namespace = parts[1];
            parts.drain(..2);
        }
        let kind = KINDS.iter().find(|kind| kind.api == api && kind.name == parts[0])?;
        let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
        let target =
            Self { kind, namespace: namespace.to_owned(), name: part(1), subresource: part(2) };
        let fits = kind.namespaced || target.namespace.is_empty();
        (fits && parts.len() < 4).then_some(target)
    }

    /// What is done to it, in the words of RBAC.
    pub(super) fn verb(&self, method: &str, watching: bool) -> &'static str {
        match method {
            "GET" if watching => "watch",
            "GET" if self.name.is_empty() => "list",
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if !self.name.is_empty() => "delete",
            _ => "none",
        }
    }

    /// The group of its kind; empty for the core.
    pub(super) fn group(&self) -> &'static str {
        self.kind.api.split_once('/').map_or("", |(group, _)| group)
    }

    /// The key in etcd of the object, or what the keys of the collection begin with.
    pub(super) fn key(&self) -> String {
        let mut key = format!("/registry/{}/", self.kind.name);
        if self.kind.namespaced && !self.namespace.is_empty() {
            key += &self.namespace;
            key.push('/');
        }
        key + &self.name
    }
}

/// What tells clients which kinds there are.
pub(super) fn discovery(path: &str) -> Option<Value> {
    let groups = || {
        let mut apis: Vec<_> =
            KINDS.iter().map(|kind| kind.api).filter(|api| *api != "v1").collect();
        apis.dedup();
        apis
    };
    match path.trim_end_matches('/') {
        "/api" => Some(
            json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        ),
        "/apis" => {
            let group = |api: &str| {
                let (name, version) = api.split_once('/').unwrap_or_default();
                let entry = json!({ "groupVersion": api, "version": version });
                json!({ "name": name, "versions": [entry], "preferredVersion": entry })
            };
            let groups: Vec<_> = groups().into_iter().map(group).collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        other => {
            let api = other
                .strip_prefix("/api/")
                .filter(|api| *api == "v1")
                .or(other.strip_prefix("/apis/"))?;
            let of_it: Vec<_> = KINDS.iter().filter(|kind| kind.api == api).map(resource).collect();
            (!of_it.is_empty()).then(|| {
                json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api, "resources": of_it })
            })
        }
    }
}

fn resource(kind: &Kind) -> Value {
    let short: Vec<_> = Some(kind.short).filter(|short| !short.is_empty()).into_iter().collect();
    json!({
        "name": kind.name, "singularName": kind.word.to_lowercase(), "namespaced": kind.namespaced,
        "kind": kind.word, "shortNames": short,
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_objects() {
        let key = |path: &str| Target::parse(path).map(|target| target.key());
        assert_eq!(key("/api/v1/nodes/a").as_deref(), Some("/registry/nodes/a"));
        assert_eq!(key("/api/v1/nodes").as_deref(), Some("/registry/nodes/"));
        assert_eq!(key("/api/v1/namespaces/x").as_deref(), Some("/registry/namespaces/x"));
        assert_eq!(
            key("/api/v1/namespaces/x/pods/p/eviction").as_deref(),
            Some("/registry/pods/x/p")
        );
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a";
        assert_eq!(key(lease).as_deref(), Some("/registry/leases/kube-node-lease/a"));
        for path in [
            "/",
            "/api/v1",
            "/api/v2/nodes/a",
            "/apis/apps/v1/nodes/a",
            "/api/v1/namespaces/x/nodes/a",
            "/x",
        ] {
            assert_eq!(key(path), None, "{path}");
        }
    }
}
