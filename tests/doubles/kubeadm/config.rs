//! What configuration files say, with every value checked.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::flags::{Flags, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, KUBELET};
use crate::schema::Document;
use crate::token::{CertificateKey, Token};
use crate::version::Version;

/// Flags with their values.
pub(super) type Arguments = Vec<(String, String)>;

/// The cluster.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) version: Version,
    /// `HOST:PORT`, or empty.
    pub(super) endpoint: String,
    pub(super) name: String,
    pub(super) sans: Vec<String>,
    pub(super) services: String,
    pub(super) pods: String,
    pub(super) repository: String,
    pub(super) etcd: Etcd,
    /// The document, as it is kept in the cluster.
    pub(super) document: Value,
}

/// Where etcd is.
#[derive(Clone, Debug)]
pub(super) enum Etcd {
    Local { arguments: Arguments, folder: String },
    External { endpoints: Vec<String>, ca: String, certificate: String, key: String },
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            version: Version::own(),
            endpoint: String::new(),
            name: "kubernetes".to_owned(),
            sans: Vec::new(),
            services: "10.96.0.0/12".to_owned(),
            pods: String::new(),
            repository: "registry.k8s.io".to_owned(),
            etcd: Etcd::Local { arguments: Vec::new(), folder: "/var/lib/etcd".to_owned() },
            document: json!({}),
        }
    }
}

/// One node.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) socket: String,
    /// None: what its role brings.
    pub(super) taints: Option<Vec<Value>>,
    pub(super) arguments: Arguments,
    /// Of its apiserver.
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) certificate_key: Option<String>,
    pub(super) ignored: Vec<String>,
    pub(super) skipped: Vec<String>,
    pub(super) patches: Option<String>,
}

/// How a node joins.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub(super) node: Node,
    pub(super) token: Token,
    pub(super) server: String,
    pub(super) pins: Vec<String>,
    pub(super) control_plane: bool,
}

fn find<'a>(documents: &'a [Document], kind: &str) -> Option<&'a Value> {
    documents.iter().find(|document| document.kind == kind).map(|document| &document.value)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

/// Arguments as a map (v1beta3) or a list (v1beta4); only flags that the program has.
pub(super) fn arguments(value: &Value, flags: Option<Flags>) -> Result<Arguments, String> {
    let arguments: Arguments = match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        _ => value
            .as_array()
            .into_iter()
            .flatten()
            .map(|arg| (text(&arg["name"]), text(&arg["value"])))
            .collect(),
    };
    match arguments.iter().find(|(name, _)| flags.is_some_and(|flags| !flags.has(name))) {
        Some((name, _)) => Err(format!("extraArgs: the program has no flag --{name}")),
        None => Ok(arguments),
    }
}

fn network(text: &str, what: &str) -> Result<(), String> {
    for part in text.split(',') {
        let valid = part.split_once('/').is_some_and(|(address, bits)| {
            address.parse::<IpAddr>().is_ok_and(|ip| {
                bits.parse().is_ok_and(|bits: u8| bits <= if ip.is_ipv4() { 32 } else { 128 })
            })
        });
        if !valid {
            return Err(format!("{what}: {part:?} is no CIDR"));
        }
    }
    Ok(())
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty()
            && label.len() < 64
            && label.chars().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.trim_start_matches("*.").split('.').all(label)
}

impl Cluster {
    pub(super) fn read(documents: &[Document], own: Version) -> Result<Self, String> {
        let Some(document) = find(documents, "ClusterConfiguration") else {
            return Ok(Self::default());
        };
        let or = |value: &Value, default: &str| {
            value.as_str().filter(|t| !t.is_empty()).unwrap_or(default).to_owned()
        };
        let mut cluster = Self { document: document.clone(), ..Self::default() };
        if let Some(version) = document["kubernetesVersion"].as_str() {
            cluster.version = Version::parse(version)
                .ok_or(format!("kubernetesVersion: {version:?} is no version"))?;
            if cluster.version.minor > own.minor || cluster.version.minor + 1 < own.minor {
                return Err(format!("this kubeadm, {own}, does not deploy {version}"));
            }
        }
        cluster.endpoint = text(&document["controlPlaneEndpoint"]);
        if !cluster.endpoint.is_empty() {
            let (host, port) =
                cluster.endpoint.rsplit_once(':').unwrap_or((&cluster.endpoint, "6443"));
            let host = host.trim_matches(['[', ']']);
            if port.parse::<u16>().is_err() || host.parse::<IpAddr>().is_err() && !is_dns_name(host)
            {
                return Err(format!(
                    "controlPlaneEndpoint: {:?} is no HOST:PORT",
                    cluster.endpoint
                ));
            }
        }
        cluster.name = or(&document["clusterName"], "kubernetes");
        cluster.repository = or(&document["imageRepository"], "registry.k8s.io");
        let networking = &document["networking"];
        cluster.services = or(&networking["serviceSubnet"], "10.96.0.0/12");
        cluster.pods = or(&networking["podSubnet"], "");
        network(&cluster.services, "serviceSubnet")?;
        if !cluster.pods.is_empty() {
            network(&cluster.pods, "podSubnet")?;
        }
        cluster.sans = texts(&document["apiServer"]["certSANs"]);
        if let Some(san) =
            cluster.sans.iter().find(|san| san.parse::<IpAddr>().is_err() && !is_dns_name(san))
        {
            return Err(format!("apiServer.certSANs: {san:?} is neither an address nor a name"));
        }
        for (component, flags) in [
            ("apiServer", KUBE_APISERVER),
            ("controllerManager", KUBE_CONTROLLER_MANAGER),
            ("scheduler", KUBE_SCHEDULER),
        ] {
            arguments(&document[component]["extraArgs"], Some(flags))?;
        }
        gates(&document["featureGates"], own)?;
        cluster.etcd = etcd(&document["etcd"])?;
        Ok(cluster)
    }

    /// Where it is reached, as kubeconfigs have it.
    pub(super) fn server(&self, node: &Node) -> String {
        let endpoint = if self.endpoint.is_empty() {
            format!("{}:{}", node.address, node.port)
        } else {
            self.endpoint.clone()
        };
        format!("https://{endpoint}")
    }

    /// The first address for services: the apiservers' own.
    pub(super) fn service_address(&self) -> String {
        let first = self.services.split(',').next().unwrap_or_default();
        let address = first.split('/').next().unwrap_or_default();
        match address.parse() {
            Ok(IpAddr::V4(address)) => std::net::Ipv4Addr::from(u32::from(address) + 1).to_string(),
            Ok(IpAddr::V6(address)) => {
                std::net::Ipv6Addr::from(u128::from(address) + 1).to_string()
            }
            Err(_) => String::new(),
        }
    }
}

fn gates(value: &Value, own: Version) -> Result<(), String> {
    let known = [
        ("ControlPlaneKubeletLocalMode", 31..36),
        ("NodeLocalCRISocket", 32..99),
        ("WaitForAllControlPlaneComponents", 30..36),
        ("EtcdLearnerMode", 27..34),
        ("PublicKeysECDSA", 19..37),
        ("RootlessControlPlane", 22..99),
    ];
    for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
        if !known.iter().any(|(gate, versions)| gate == name && versions.contains(&own.minor)) {
            return Err(format!("unrecognized feature-gate key: {name}"));
        }
    }
    Ok(())
}

fn etcd(value: &Value) -> Result<Etcd, String> {
    let (local, external) = (&value["local"], &value["external"]);
    if !local.is_null() && !external.is_null() {
        return Err("etcd: local and external exclude each other".to_owned());
    }
    if external.is_null() {
        let folder = local["dataDir"].as_str().unwrap_or("/var/lib/etcd").to_owned();
        return Ok(Etcd::Local { arguments: arguments(&local["extraArgs"], None)?, folder });
    }
    let endpoints = texts(&external["endpoints"]);
    if endpoints.is_empty() || endpoints.iter().any(|endpoint| !endpoint.starts_with("https://")) {
        return Err("etcd.external.endpoints: there must be some, of https".to_owned());
    }
    let file = |name: &str| text(&external[name]);
    Ok(Etcd::External {
        endpoints,
        ca: file("caFile"),
        certificate: file("certFile"),
        key: file("keyFile"),
    })
}

/// The node of an `InitConfiguration` or a `JoinConfiguration`; `endpoint` is where it says how its apiserver is
/// reached.
fn node(document: &Value, endpoint: &Value, key: &Value) -> Result<Node, String> {
    let registration = &document["nodeRegistration"];
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = registration["name"].as_str().unwrap_or(hostname.trim()).to_owned();
    if !is_dns_name(&name) {
        return Err(format!("nodeRegistration.name: {name:?} is no name of a Node"));
    }
    let socket = registration["criSocket"]
        .as_str()
        .unwrap_or("unix:///run/containerd/containerd.sock")
        .to_owned();
    if !socket.starts_with("unix:///") {
        return Err(format!("nodeRegistration.criSocket: {socket:?} is no unix:// address"));
    }
    if ![None, Some("Always"), Some("IfNotPresent"), Some("Never")]
        .contains(&registration["imagePullPolicy"].as_str())
    {
        return Err(
            "nodeRegistration.imagePullPolicy: none of Always, IfNotPresent and Never".to_owned()
        );
    }
    let taints = registration["taints"].as_array().cloned();
    for taint in taints.iter().flatten() {
        if !["NoSchedule", "PreferNoSchedule", "NoExecute"]
            .contains(&taint["effect"].as_str().unwrap_or_default())
        {
            return Err(format!("nodeRegistration.taints: {taint} has no effect"));
        }
    }
    let address = match endpoint["advertiseAddress"].as_str() {
        Some(address) => address
            .parse::<IpAddr>()
            .map_err(|_| format!("advertiseAddress: {address:?} is no address"))?
            .to_string(),
        None => crate::kubelet::own_address()?,
    };
    let certificate_key = key.as_str().map(str::to_owned);
    certificate_key.as_deref().map(CertificateKey::parse).transpose()?;
    let port = endpoint["bindPort"].as_u64().unwrap_or(6443);
    Ok(Node {
        name,
        socket,
        taints,
        arguments: arguments(&registration["kubeletExtraArgs"], Some(KUBELET))?,
        address,
        port: u16::try_from(port).map_err(|_| format!("bindPort: {port} is no port"))?,
        certificate_key,
        ignored: texts(&registration["ignorePreflightErrors"]),
        skipped: texts(&document["skipPhases"]),
        patches: document["patches"]["directory"].as_str().map(str::to_owned),
    })
}

/// The node that `kubeadm init` makes.
pub(super) fn init(documents: &[Document]) -> Result<Node, String> {
    let none = json!({});
    let document = find(documents, "InitConfiguration").unwrap_or(&none);
    for token in document["bootstrapTokens"].as_array().into_iter().flatten() {
        Token::parse(token["token"].as_str().unwrap_or_default())?;
    }
    node(document, &document["localAPIEndpoint"], &document["certificateKey"])
}

/// What `kubeadm join` is to do.
pub(super) fn join(documents: &[Document]) -> Result<Join, String> {
    let document = find(documents, "JoinConfiguration").ok_or("there is no JoinConfiguration")?;
    let discovery = &document["discovery"]["bootstrapToken"];
    if discovery.is_null() {
        return Err("discovery.bootstrapToken: this double discovers in no other way".to_owned());
    }
    let pins = texts(&discovery["caCertHashes"]);
    let is_pin = |pin: &String| {
        pin.strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if let Some(pin) = pins.iter().find(|pin| !is_pin(pin)) {
        return Err(format!("caCertHashes: invalid hash {pin:?}"));
    }
    if pins.is_empty() && discovery["unsafeSkipCAVerification"] != true {
        return Err("caCertHashes: using token-based discovery without caCertHashes can be unsafe"
            .to_owned());
    }
    let server = text(&discovery["apiServerEndpoint"]);
    if server.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(format!("apiServerEndpoint: {server:?} is no HOST:PORT"));
    }
    let control_plane = &document["controlPlane"];
    let node =
        node(document, &control_plane["localAPIEndpoint"], &control_plane["certificateKey"])?;
    let token = Token::parse(discovery["token"].as_str().unwrap_or_default())?;
    if let Some(token) = document["discovery"]["tlsBootstrapToken"].as_str() {
        Token::parse(token)?;
    }
    Ok(Join { node, token, server, pins, control_plane: !control_plane.is_null() })
}

/// Checks the values of whatever documents there are.
pub(super) fn values(documents: &[Document], own: Version) -> Result<(), String> {
    if find(documents, "JoinConfiguration").is_some() {
        join(documents)?;
    } else if find(documents, "InitConfiguration").is_some() {
        init(documents)?;
    }
    Cluster::read(documents, own).map(drop)
}

/// The document of this kind for a component, or an empty one.
pub(super) fn component(documents: &[Document], kind: &str, api: &str) -> Value {
    find(documents, kind).cloned().unwrap_or_else(|| json!({ "apiVersion": api, "kind": kind }))
}
