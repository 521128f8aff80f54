//! What we set ourselves in each component, and what to do instead of overriding it.

/// Which options of the cluster set further flags.
#[derive(Clone, Copy)]
pub(super) struct Options {
    pub(super) audit: bool,
    pub(super) encryption_at_rest: bool,
}

const FILES: &str = "remove it: kubeadm makes these files and puts them where it belongs";
const HOSTS: &str = "remove it: it follows from `spec.hosts`";
const ADDRESS: &str = "remove it: it is the host's `address`";
const PORT: &str = "write `spec.endpoint.port` instead";
const PODS: &str = "write `spec.network.podCIDR` instead";
const SERVICES: &str = "write `spec.network.serviceCIDR` instead";
const NODE: &str = "remove it: it is the host's `name`";

const API_SERVER: &[(&str, &str)] = &[
    ("advertise-address", ADDRESS),
    ("bind-address", "remove it: the proxies of other nodes have to reach it"),
    ("client-ca-file", FILES),
    ("etcd-cafile", FILES),
    ("etcd-certfile", FILES),
    ("etcd-keyfile", FILES),
    ("etcd-servers", HOSTS),
    ("kubelet-client-certificate", FILES),
    ("kubelet-client-key", FILES),
    ("proxy-client-cert-file", FILES),
    ("proxy-client-key-file", FILES),
    ("requestheader-client-ca-file", FILES),
    ("secure-port", PORT),
    ("service-account-key-file", FILES),
    ("service-account-signing-key-file", FILES),
    ("service-cluster-ip-range", SERVICES),
    ("tls-cert-file", FILES),
    ("tls-private-key-file", FILES),
];

const AUDIT: &[(&str, &str)] = &[
    ("audit-log-path", "remove it, or write `audit: false` and set all of it yourself"),
    ("audit-policy-file", "remove it, or write `audit: false` and set all of it yourself"),
];

const ENCRYPTION: &[(&str, &str)] = &[(
    "encryption-provider-config",
    "remove it, or write `encryptionAtRest: false` and set it yourself",
)];

/// Of kube-apiserver.
pub(super) fn api_server(options: Options) -> Vec<(&'static str, &'static str)> {
    let audit = if options.audit { AUDIT } else { &[] };
    let encryption = if options.encryption_at_rest { ENCRYPTION } else { &[] };
    [API_SERVER, audit, encryption].concat()
}

/// Of kube-controller-manager.
pub(super) const CONTROLLER_MANAGER: &[(&str, &str)] = &[
    ("authentication-kubeconfig", FILES),
    ("authorization-kubeconfig", FILES),
    ("client-ca-file", FILES),
    ("cluster-cidr", PODS),
    ("cluster-name", "write `metadata.name` instead"),
    ("cluster-signing-cert-file", FILES),
    ("cluster-signing-key-file", FILES),
    ("kubeconfig", FILES),
    ("requestheader-client-ca-file", FILES),
    ("root-ca-file", FILES),
    ("service-account-private-key-file", FILES),
    ("service-cluster-ip-range", SERVICES),
];

/// Of kube-scheduler.
pub(super) const SCHEDULER: &[(&str, &str)] = &[
    ("authentication-kubeconfig", FILES),
    ("authorization-kubeconfig", FILES),
    ("kubeconfig", FILES),
];

/// Of kubelet, as flags.
pub(super) const KUBELET_FLAGS: &[(&str, &str)] = &[
    ("bootstrap-kubeconfig", FILES),
    ("config", "write `kubelet: { .. }` instead"),
    ("container-runtime-endpoint", "remove it: it is containerd's socket"),
    ("hostname-override", NODE),
    ("kubeconfig", FILES),
    ("node-ip", ADDRESS),
    ("node-labels", "write the host's `labels` instead"),
    ("register-with-taints", "write the host's `taints` instead"),
];

/// Of etcd.
pub(super) const ETCD: &[(&str, &str)] = &[
    ("advertise-client-urls", HOSTS),
    ("auto-tls", FILES),
    ("cert-file", FILES),
    ("client-cert-auth", "remove it: clients always need a certificate"),
    ("config-file", "remove it: etcd would read no other settings"),
    ("data-dir", "remove it: backups and restores have to know where the data is"),
    ("discovery", HOSTS),
    ("discovery-srv", HOSTS),
    ("force-new-cluster", "remove it: it would throw the other members out at each start"),
    ("initial-advertise-peer-urls", HOSTS),
    ("initial-cluster", HOSTS),
    ("initial-cluster-state", HOSTS),
    ("initial-cluster-token", HOSTS),
    ("key-file", FILES),
    ("listen-client-urls", HOSTS),
    ("listen-peer-urls", HOSTS),
    ("name", NODE),
    ("peer-auto-tls", FILES),
    ("peer-cert-file", FILES),
    ("peer-client-cert-auth", "remove it: members always need a certificate"),
    ("peer-key-file", FILES),
    ("peer-trusted-ca-file", FILES),
    ("trusted-ca-file", FILES),
    ("unsafe-no-fsync", "remove it: a loss of power would take keys that were said to be written"),
    ("wal-dir", "remove it: backups and restores have to know where the data is"),
];

/// Of the `KubeletConfiguration`, by path.
pub(super) const KUBELET: &[(&str, &str)] = &[
    ("apiVersion", "remove it: it follows from `spec.kubernetesVersion`"),
    ("kind", "remove it: what stands here is a KubeletConfiguration"),
    ("authentication.x509.clientCAFile", FILES),
    ("cgroupDriver", "remove it: kubelet and containerd both use systemd"),
    ("clusterDomain", "write `spec.network.dnsDomain` instead"),
    ("containerRuntimeEndpoint", "remove it: it is containerd's socket"),
    ("registerWithTaints", "write the host's `taints` instead"),
    ("staticPodPath", "remove it: the control plane and the proxy are static pods there"),
];

/// Of containerd's configuration, by path.
pub(super) const CONTAINERD: &[(&str, &str)] = &[
    ("version", "remove it: it follows from containerd's version"),
    ("grpc.address", "remove it: kubelet has to find the socket"),
];

/// Of the `KubeProxyConfiguration`, by path.
pub(super) const KUBE_PROXY: &[(&str, &str)] = &[
    ("apiVersion", "remove it: it follows from `spec.kubernetesVersion`"),
    ("kind", "remove it: what stands here is a KubeProxyConfiguration"),
    ("clientConnection.kubeconfig", FILES),
    ("clusterCIDR", PODS),
];
