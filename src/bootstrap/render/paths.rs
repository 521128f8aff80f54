//! Where the rendered files lie on a host: every step names them from here.

/// What `kubeadm init` and `kubeadm join` read: in memory, since it holds a token and the key of the
/// uploaded certificates.
pub const KUBEADM_CONFIG: &str = "/run/apiproxy-bootstrap/kubeadm.yaml";

/// The folder of patches for kubeadm; only there on hosts that have some.
pub const PATCHES: &str = "/etc/kubernetes/patches";

/// The cluster's CA, as kubeadm puts it on every node.
pub const CA_FILE: &str = "/etc/kubernetes/pki/ca.crt";

/// The CA of an external etcd, on control planes.
pub const ETCD_CA_FILE: &str = "/etc/kubernetes/pki/etcd/ca.crt";

/// The certificate with which apiservers come to an external etcd.
pub const ETCD_CLIENT_CERT: &str = "/etc/kubernetes/pki/apiserver-etcd-client.crt";

/// Its key.
pub const ETCD_CLIENT_KEY: &str = "/etc/kubernetes/pki/apiserver-etcd-client.key";

/// The folder of the audit policy, mounted into apiservers.
pub const AUDIT_FOLDER: &str = "/etc/kubernetes/audit";

/// The audit policy.
pub const AUDIT_POLICY: &str = "/etc/kubernetes/audit/policy.yaml";

/// The folder of the audit log.
pub const AUDIT_LOG_FOLDER: &str = "/var/log/kubernetes/audit";

/// The audit log.
pub const AUDIT_LOG: &str = "/var/log/kubernetes/audit/audit.log";

/// The folder of the keys that Secrets are encrypted with, mounted into apiservers.
pub const ENCRYPTION_FOLDER: &str = "/etc/kubernetes/encryption";

/// Those keys.
pub const ENCRYPTION_CONFIG: &str = "/etc/kubernetes/encryption/config.yaml";

/// containerd's configuration.
pub const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";

/// The folder in which containerd finds each registry's mirrors.
pub const CONTAINERD_REGISTRIES: &str = "/etc/containerd/certs.d";

/// containerd's socket, as a URL: kubeadm of every version since 1.22 takes it so.
pub const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// Kernel modules that are loaded at boot.
pub const MODULES: &str = "/etc/modules-load.d/apiproxy-kubernetes.conf";

/// Kernel parameters.
pub const SYSCTL: &str = "/etc/sysctl.d/90-apiproxy-kubernetes.conf";

/// Names of hosts.
pub const ETC_HOSTS: &str = "/etc/hosts";

/// What has kubelet's unit read [`KUBELET_ENVIRONMENT`]. It comes after kubeadm's own drop-in.
pub const KUBELET_DROP_IN: &str = "/etc/systemd/system/kubelet.service.d/20-apiproxy.conf";

/// Flags of kubelet from the spec.
pub const KUBELET_ENVIRONMENT: &str = "/etc/kubernetes/kubelet-flags.env";

/// The proxy's folder, mounted into its static pod.
pub const PROXY_FOLDER: &str = "/etc/apiproxy";

/// The proxy's configuration.
pub const PROXY_CONFIG: &str = "/etc/apiproxy/config.yaml";

/// The cluster's CA for the proxy. Not kubeadm's file: that must not be there before a worker joins,
/// and the proxy must run by then.
pub const PROXY_CA_FILE: &str = "/etc/apiproxy/ca.crt";

/// Who the proxy is when it watches the list of apiservers. It may come after the proxy has started.
pub const PROXY_KUBECONFIG: &str = "/etc/apiproxy/discovery.conf";

/// The proxy's client certificate, which its kubeconfig names.
pub const PROXY_CLIENT_CERT: &str = "/etc/apiproxy/client.crt";

/// Its key.
pub const PROXY_CLIENT_KEY: &str = "/etc/apiproxy/client.key";

/// The folder of what the proxy keeps, mounted into its static pod.
pub const PROXY_STATE: &str = "/var/lib/apiproxy";

/// The list of apiservers that the proxy last knew.
pub const PROXY_CACHE: &str = "/var/lib/apiproxy/endpoints.json";

/// The proxy's control socket, in a folder that outlives both of its forms.
pub const PROXY_SOCKET: &str = "/run/apiproxy/control.sock";

/// The program itself.
pub const PROXY_PROGRAM: &str = "/usr/local/bin/apiproxy";

/// The proxy's user, for systemd-sysusers(8).
pub const PROXY_USER: &str = "/etc/sysusers.d/apiproxy.conf";

/// The proxy's folders, for systemd-tmpfiles(8).
pub const PROXY_TMPFILES: &str = "/etc/tmpfiles.d/apiproxy.conf";

/// The folder of kubelet's static pods.
pub const MANIFESTS: &str = "/etc/kubernetes/manifests";
