//! What kubeadm keeps in the cluster: its configuration, certificates for control planes, what joining
//! nodes may do, and the addons.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::certificates::{PKI, SHARED, shared_of_etcd};
use super::config::{Cluster, Node};
use crate::client::Client;
use crate::kubeconfig::{self, Identity};
use crate::pki;
use crate::token::{CertificateKey, SECRETS};

const CONFIG_MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Whom bootstrap tokens make one.
const BOOTSTRAPPERS: &str = "system:bootstrappers:kubeadm:default-node-token";

fn config_map(name: &str, data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "kube-system" }, "data": data })
}

/// Writes the configuration of the cluster and of all kubelets.
pub(super) fn upload_configuration(
    api: &Client,
    cluster: &Cluster,
    kubelet: &Value,
) -> Result<(), String> {
    upload_cluster(api, cluster)?;
    let data = json!({ "kubelet": crate::schema::text(kubelet) });
    upload(api, "kubelet-config", &data, "kubeadm:kubelet-config")
}

/// Writes the configuration of the cluster.
pub(super) fn upload_cluster(api: &Client, cluster: &Cluster) -> Result<(), String> {
    let mut document = cluster.document.clone();
    document["kubernetesVersion"] = json!(cluster.version.to_string());
    let data = json!({ "ClusterConfiguration": crate::schema::text(&document) });
    upload(api, "kubeadm-config", &data, "kubeadm:nodes-kubeadm-config")
}

/// Writes a configuration, and a role by which nodes may read it.
fn upload(api: &Client, map: &str, data: &Value, name: &str) -> Result<(), String> {
    api.put(CONFIG_MAPS, &config_map(map, data))?;
    let rule = json!({ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [map], "verbs": ["get"] });
    let subjects = [("Group", BOOTSTRAPPERS), ("Group", "system:nodes")];
    role(api, "kube-system", name, &[rule], &subjects)
}

/// A role in a namespace, or everywhere if there is none, bound to subjects of these kinds and names.
fn role(
    api: &Client,
    namespace: &str,
    name: &str,
    rules: &[Value],
    subjects: &[(&str, &str)],
) -> Result<(), String> {
    let (prefix, folder) = if namespace.is_empty() {
        ("Cluster", RBAC.to_owned())
    } else {
        ("", format!("{RBAC}/namespaces/{namespace}"))
    };
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{prefix}Role"),
        "metadata": { "name": name }, "rules": rules,
    });
    api.put(&format!("{folder}/{}roles", prefix.to_lowercase()), &object)?;
    bind(api, namespace, name, (&format!("{prefix}Role"), name), subjects)
}

fn bind(
    api: &Client,
    namespace: &str,
    name: &str,
    role: (&str, &str),
    subjects: &[(&str, &str)],
) -> Result<(), String> {
    let (prefix, folder) = if namespace.is_empty() {
        ("Cluster", RBAC.to_owned())
    } else {
        ("", format!("{RBAC}/namespaces/{namespace}"))
    };
    let subject = |(kind, name): &(&str, &str)| json!({ "kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io" });
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{prefix}RoleBinding"),
        "metadata": { "name": name }, "subjects": subjects.iter().map(subject).collect::<Vec<_>>(),
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1 },
    });
    api.put(&format!("{folder}/{}rolebindings", prefix.to_lowercase()), &object).map(drop)
}

/// Gives admins their rights, as the one who has all of them.
pub(super) fn admit_admins(api: &Client) -> Result<(), String> {
    bind(
        api,
        "",
        "kubeadm:cluster-admins",
        ("ClusterRole", "cluster-admin"),
        &[("Group", "kubeadm:cluster-admins")],
    )
}

/// Lets nodes join: what anybody may read, and what tokens are good for.
pub(super) fn admit_nodes(api: &Client, cluster: &Cluster, node: &Node) -> Result<(), String> {
    let ca = fs::read(Path::new(PKI).join("ca.crt")).map_err(|error| error.to_string())?;
    let text = kubeconfig::text(&cluster.server(node), &ca, "", &Identity::None);
    let maps = "/api/v1/namespaces/kube-public/configmaps";
    if api.get(&format!("{maps}/cluster-info"))?.is_none() {
        let info = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "cluster-info", "namespace": "kube-public" },
            "data": { "kubeconfig": text },
        });
        api.put(maps, &info)?;
    }
    let read = json!({ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cluster-info"], "verbs": ["get"] });
    role(
        api,
        "kube-public",
        "kubeadm:bootstrap-signer-clusterinfo",
        &[read],
        &[("User", "system:anonymous")],
    )?;
    let get_nodes = json!({ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get"] });
    role(api, "", "kubeadm:get-nodes", &[get_nodes], &[("Group", BOOTSTRAPPERS)])?;
    bind(
        api,
        "",
        "kubeadm:kubelet-bootstrap",
        ("ClusterRole", "system:node-bootstrapper"),
        &[("Group", BOOTSTRAPPERS)],
    )?;
    for (name, kind, group) in [
        ("kubeadm:node-autoapprove-bootstrap", "nodeclient", BOOTSTRAPPERS),
        ("kubeadm:node-autoapprove-certificate-rotation", "selfnodeclient", "system:nodes"),
    ] {
        let role = format!("system:certificates.k8s.io:certificatesigningrequests:{kind}");
        bind(api, "", name, ("ClusterRole", &role), &[("Group", group)])?;
    }
    Ok(())
}

/// Writes the control plane's certificates, encrypted.
pub(super) fn upload_certificates(
    api: &Client,
    cluster: &Cluster,
    key: &str,
) -> Result<(), String> {
    let cipher = CertificateKey::parse(key)?;
    let own = SHARED.iter().map(|(name, file)| ((*name).to_owned(), format!("{PKI}/{file}")));
    let mut data = json!({});
    for (name, path) in own.chain(shared_of_etcd(cluster)) {
        let plain = fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
        data[name] = json!(STANDARD.encode(cipher.encrypt(&plain)));
    }
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": "kubeadm-certs", "namespace": "kube-system" }, "data": data,
    });
    api.put(SECRETS, &secret)?;
    let rule = json!({ "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["kubeadm-certs"], "verbs": ["get"] });
    role(api, "kube-system", "kubeadm:kubeadm-certs", &[rule], &[("Group", BOOTSTRAPPERS)])
}

/// Brings them here.
pub(super) fn download_certificates(
    api: &Client,
    cluster: &Cluster,
    key: &str,
) -> Result<(), String> {
    let cipher = CertificateKey::parse(key)?;
    let secret = api.get(&format!("{SECRETS}/kubeadm-certs"))?.ok_or(
        "error downloading the secret: Secret \"kubeadm-certs\" was not found in the \"kube-system\" Namespace. This Secret might \
         have expired. Please, run `kubeadm init phase upload-certs --upload-certs` on a control plane to generate a new one",
    )?;
    let own = SHARED.iter().map(|(name, file)| ((*name).to_owned(), format!("{PKI}/{file}")));
    for (name, path) in own.chain(shared_of_etcd(cluster)) {
        let data = secret["data"][&name]
            .as_str()
            .ok_or(format!("the Secret kubeadm-certs has no {name}"))?;
        let sealed = STANDARD.decode(data).map_err(|error| error.to_string())?;
        let mode =
            if Path::new(&path).extension().is_some_and(|e| e == "key") { 0o600 } else { 0o644 };
        pki::write(Path::new(&path), &cipher.decrypt(&sealed)?, mode)?;
    }
    Ok(())
}

/// The addons, of which nothing runs.
pub(super) fn addons(
    api: &Client,
    cluster: &Cluster,
    proxy: &Value,
    skipped: &[String],
) -> Result<(), String> {
    let skips = |phase: &str| skipped.iter().any(|skipped| skipped == phase || skipped == "addon");
    let apps = "/apis/apps/v1/namespaces/kube-system";
    let object = |kind: &str, name: &str| {
        let labels = json!({ "k8s-app": name });
        let image = format!("{}/{name}:{}", cluster.repository, cluster.version);
        json!({
            "apiVersion": "apps/v1", "kind": kind,
            "metadata": { "name": name, "namespace": "kube-system", "labels": labels },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": name, "image": image }] },
                },
            },
        })
    };
    if !skips("addon/coredns") {
        api.put(&format!("{apps}/deployments"), &object("Deployment", "coredns"))?;
    }
    if !skips("addon/kube-proxy") {
        let server = cluster.server(&Node::default());
        let conf = json!({ "kubeconfig.conf": format!("server: {server}\n"), "config.conf": crate::schema::text(proxy) });
        api.put(CONFIG_MAPS, &config_map("kube-proxy", &conf))?;
        api.put(&format!("{apps}/daemonsets"), &object("DaemonSet", "kube-proxy"))?;
    }
    Ok(())
}

/// A document that is kept in a ConfigMap.
pub(super) fn stored(api: &Client, map: &str, key: &str) -> Result<Value, String> {
    let map = api.need(&format!("{CONFIG_MAPS}/{map}"))?;
    let text = map["data"][key].as_str().ok_or(format!("there is no {key} in the ConfigMap"))?;
    crate::schema::yaml(text)?.into_iter().next().ok_or_else(|| format!("{key} is empty"))
}
