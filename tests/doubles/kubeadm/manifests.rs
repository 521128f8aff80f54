//! The static pods of a control plane.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::certificates::PKI;
use super::config::{Arguments, Cluster, Etcd, Node, arguments};
use crate::patch;
use crate::pki;
use crate::schema;
use crate::version::Version;

/// The folder of kubelet's static pods.
pub(super) const FOLDER: &str = "/etc/kubernetes/manifests";

/// Versions of what is not Kubernetes' own, by its minor version.
fn others(version: Version) -> (&'static str, &'static str, &'static str) {
    match version.minor {
        ..=24 => ("3.5.0-0", "v1.8.4", "3.5"),
        25..=29 => ("3.5.9-0", "v1.10.1", "3.9"),
        30..=33 => ("3.5.15-0", "v1.11.3", "3.10"),
        _ => ("3.6.4-0", "v1.12.1", "3.10.1"),
    }
}

/// The images that a cluster needs.
pub(super) fn images(cluster: &Cluster) -> Vec<String> {
    let (etcd, dns, pause) = others(cluster.version);
    let (repository, version) = (&cluster.repository, cluster.version);
    let mut images: Vec<_> =
        ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"]
            .iter()
            .map(|name| format!("{repository}/{name}:{version}"))
            .collect();
    images.push(format!("{repository}/coredns/coredns:{dns}"));
    images.push(format!("{repository}/pause:{pause}"));
    if matches!(cluster.etcd, Etcd::Local { .. }) {
        images.push(format!("{repository}/etcd:{etcd}"));
    }
    images
}

/// Writes the pods of the apiserver, the controller manager and the scheduler.
pub(super) fn write_control_plane(cluster: &Cluster, node: &Node) -> Result<(), String> {
    let image = |name: &str| format!("{}/{name}:{}", cluster.repository, cluster.version);
    let conf = |name: &str| format!("/etc/kubernetes/{name}.conf");
    let mut apiserver = apiserver(cluster, node);
    let mut manager = controller_manager(cluster);
    let mut scheduler: Arguments =
        ["authentication-kubeconfig", "authorization-kubeconfig", "kubeconfig"]
            .map(|flag| (flag.to_owned(), conf("scheduler")))
            .to_vec();
    scheduler.extend(
        [("bind-address", "127.0.0.1"), ("leader-elect", "true")]
            .map(|(a, b)| (a.to_owned(), b.to_owned())),
    );
    for (component, field, flags) in [
        ("kube-apiserver", "apiServer", &mut apiserver),
        ("kube-controller-manager", "controllerManager", &mut manager),
        ("kube-scheduler", "scheduler", &mut scheduler),
    ] {
        let settings = &cluster.document[field];
        let extra = arguments(&settings["extraArgs"], None)?;
        flags.retain(|(name, _)| !extra.iter().any(|(other, _)| other == name));
        flags.extend(extra);
        flags.sort();
        let own = match component {
            "kube-scheduler" => vec![conf("scheduler")],
            "kube-controller-manager" => {
                vec![PKI.to_owned(), conf("controller-manager"), "/etc/ssl/certs".to_owned()]
            }
            _ => vec![PKI.to_owned(), "/etc/ssl/certs".to_owned()],
        };
        let pod = pod(component, &image(component), flags, &own, &settings["extraVolumes"]);
        write(component, pod, node)?;
    }
    Ok(())
}

/// Writes the pod of this node's etcd member, which has these peers.
pub(super) fn write_etcd(
    cluster: &Cluster,
    node: &Node,
    peers: &[(String, String)],
) -> Result<(), String> {
    let Etcd::Local { arguments: extra, folder } = &cluster.etcd else { return Ok(()) };
    let at = |port: u16| format!("https://{}:{port}", node.address);
    let state = if peers.len() > 1 { "existing" } else { "new" };
    let list =
        peers.iter().map(|(name, url)| format!("{name}={url}")).collect::<Vec<_>>().join(",");
    let file = |name: &str| format!("{PKI}/etcd/{name}");
    let mut flags: Arguments = [
        ("advertise-client-urls", at(2379)),
        ("cert-file", file("server.crt")),
        ("client-cert-auth", "true".to_owned()),
        ("data-dir", folder.clone()),
        ("initial-advertise-peer-urls", at(2380)),
        ("initial-cluster", list),
        ("initial-cluster-state", state.to_owned()),
        ("key-file", file("server.key")),
        ("listen-client-urls", format!("https://127.0.0.1:2379,{}", at(2379))),
        ("listen-metrics-urls", "http://127.0.0.1:2381".to_owned()),
        ("listen-peer-urls", at(2380)),
        ("name", node.name.clone()),
        ("peer-cert-file", file("peer.crt")),
        ("peer-client-cert-auth", "true".to_owned()),
        ("peer-key-file", file("peer.key")),
        ("peer-trusted-ca-file", file("ca.crt")),
        ("snapshot-count", "10000".to_owned()),
        ("trusted-ca-file", file("ca.crt")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    flags.retain(|(name, _)| !extra.iter().any(|(other, _)| other == name));
    flags.extend(extra.iter().cloned());
    let image = format!("{}/etcd:{}", cluster.repository, others(cluster.version).0);
    let volumes = [folder.clone(), format!("{PKI}/etcd")];
    write("etcd", pod("etcd", &image, &flags, &volumes, &Value::Null), node)
}

fn apiserver(cluster: &Cluster, node: &Node) -> Arguments {
    let pki = |file: &str| format!("{PKI}/{file}");
    let (servers, etcd) = match &cluster.etcd {
        Etcd::Local { .. } => (
            "https://127.0.0.1:2379".to_owned(),
            [
                pki("etcd/ca.crt"),
                pki("apiserver-etcd-client.crt"),
                pki("apiserver-etcd-client.key"),
            ],
        ),
        Etcd::External { endpoints, ca, certificate, key } => {
            (endpoints.join(","), [ca.clone(), certificate.clone(), key.clone()])
        }
    };
    let [etcd_ca, etcd_certificate, etcd_key] = etcd;
    [
        ("advertise-address", node.address.clone()),
        ("allow-privileged", "true".to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("client-ca-file", pki("ca.crt")),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("enable-bootstrap-token-auth", "true".to_owned()),
        ("etcd-cafile", etcd_ca),
        ("etcd-certfile", etcd_certificate),
        ("etcd-keyfile", etcd_key),
        ("etcd-servers", servers),
        ("kubelet-client-certificate", pki("apiserver-kubelet-client.crt")),
        ("kubelet-client-key", pki("apiserver-kubelet-client.key")),
        ("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname".to_owned()),
        ("proxy-client-cert-file", pki("front-proxy-client.crt")),
        ("proxy-client-key-file", pki("front-proxy-client.key")),
        ("requestheader-allowed-names", "front-proxy-client".to_owned()),
        ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("secure-port", node.port.to_string()),
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
        ("service-account-key-file", pki("sa.pub")),
        ("service-account-signing-key-file", pki("sa.key")),
        ("service-cluster-ip-range", cluster.services.clone()),
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn controller_manager(cluster: &Cluster) -> Arguments {
    let pki = |file: &str| format!("{PKI}/{file}");
    let conf = "/etc/kubernetes/controller-manager.conf".to_owned();
    let mut flags: Arguments = [
        ("authentication-kubeconfig", conf.clone()),
        ("authorization-kubeconfig", conf.clone()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("client-ca-file", pki("ca.crt")),
        ("cluster-name", cluster.name.clone()),
        ("cluster-signing-cert-file", pki("ca.crt")),
        ("cluster-signing-key-file", pki("ca.key")),
        ("controllers", "*,bootstrapsigner,tokencleaner".to_owned()),
        ("kubeconfig", conf),
        ("leader-elect", "true".to_owned()),
        ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        ("root-ca-file", pki("ca.crt")),
        ("service-account-private-key-file", pki("sa.key")),
        ("service-cluster-ip-range", cluster.services.clone()),
        ("use-service-account-credentials", "true".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    if !cluster.pods.is_empty() {
        flags.push(("allocate-node-cidrs".to_owned(), "true".to_owned()));
        flags.push(("cluster-cidr".to_owned(), cluster.pods.clone()));
    }
    flags
}

/// A static pod that sees these paths of the host, and the volumes that the configuration adds.
fn pod(name: &str, image: &str, flags: &Arguments, paths: &[String], extra: &Value) -> Value {
    let mut command = vec![json!(name)];
    command.extend(flags.iter().map(|(name, value)| json!(format!("--{name}={value}"))));
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    for (index, path) in paths.iter().enumerate() {
        let kind = if Path::new(path).extension().is_some_and(|e| e == "conf") {
            "FileOrCreate"
        } else {
            "DirectoryOrCreate"
        };
        let volume = format!("v{index}");
        volumes.push(json!({ "name": volume, "hostPath": { "path": path, "type": kind } }));
        mounts.push(json!({ "name": volume, "mountPath": path }));
    }
    for volume in extra.as_array().into_iter().flatten() {
        let name = &volume["name"];
        let kind = volume["pathType"].as_str().unwrap_or_default();
        volumes.push(
            json!({ "name": name, "hostPath": { "path": volume["hostPath"], "type": kind } }),
        );
        let read_only = volume["readOnly"] == true;
        mounts
            .push(json!({ "name": name, "mountPath": volume["mountPath"], "readOnly": read_only }));
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "kube-system", "labels": { "component": name, "tier": "control-plane" } },
        "spec": {
            "hostNetwork": true, "priorityClassName": "system-node-critical", "volumes": volumes,
            "containers": [{ "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": command, "volumeMounts": mounts }],
        },
        "status": {},
    })
}

fn write(name: &str, mut pod: Value, node: &Node) -> Result<(), String> {
    patched(name, &mut pod, node)?;
    pki::write(
        &Path::new(FOLDER).join(format!("{name}.yaml")),
        crate::schema::text(&pod).as_bytes(),
        0o600,
    )
}

/// What files of patches are for.
const TARGETS: [&str; 6] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubeletconfiguration",
    "corednsdeployment",
];

/// Applies the patches that the node's folder has for this target.
pub(super) fn patched(target: &str, object: &mut Value, node: &Node) -> Result<(), String> {
    let Some(folder) = &node.patches else { return Ok(()) };
    let entries = fs::read_dir(folder).map_err(|error| format!("patches: {folder}: {error}"))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (stem, _) = name.rsplit_once('.').unwrap_or_default();
        let (own, kind) = stem.split_once('+').unwrap_or((stem, "strategic"));
        if !TARGETS.iter().any(|target| own.starts_with(target)) {
            return Err(format!("patches: {name:?} is for nothing that can be patched"));
        }
        if !own.starts_with(target) {
            continue;
        }
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for change in schema::yaml(&text)? {
            match (kind, &change) {
                ("json", Value::Array(operations)) => {
                    operations
                        .iter()
                        .try_for_each(|operation| patch::operate(object, operation))?;
                }
                ("merge", Value::Object(_)) => patch::merge(object, &change),
                ("strategic", Value::Object(_)) if target == "kubeletconfiguration" => {
                    patch::merge(object, &change);
                }
                _ => return Err(format!("patches: {name:?}: this double does not patch so")),
            }
        }
    }
    Ok(())
}
