//! The documents that the steps of the cluster put onto hosts: what they ask of the renderer.

mod rendered;

use std::fmt;
use std::net::IpAddr;

use crate::bootstrap::engine::StepError;
use crate::bootstrap::spec::{Cluster, Host};
use crate::bootstrap::transport::File;

pub use rendered::Rendered;

/// What a host needs to join.
#[derive(Clone, PartialEq, Eq)]
pub struct Joining {
    /// Where the cluster's facts are fetched, as `HOST:PORT`.
    pub server: String,
    /// A bootstrap token of short life.
    pub token: String,
    /// The pins of the cluster's CA (`caCertHashes`).
    pub pins: Vec<String>,
    /// What the uploaded certificates are encrypted with: for control planes.
    pub certificate_key: Option<String>,
}

impl fmt::Debug for Joining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").field("server", &self.server).finish_non_exhaustive()
    }
}

/// With what the proxy asks for EndpointSlices.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's CA, in PEM.
    pub ca: String,
    /// The client certificate, in PEM.
    pub certificate: String,
    /// Its private key, in PEM.
    pub key: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The documents, rendered.
pub trait Documents: Send + Sync + fmt::Debug {
    /// For `kubeadm init` and its phases on this control plane.
    ///
    /// # Errors
    /// The cluster cannot be written in the API of its version.
    fn init(&self, cluster: &Cluster, host: &Host, key: &str) -> Result<File, StepError>;

    /// For `kubeadm join` of this host.
    ///
    /// # Errors
    /// The cluster cannot be written in the API of its version.
    fn join(&self, cluster: &Cluster, host: &Host, joining: &Joining) -> Result<File, StepError>;

    /// The `ClusterConfiguration` of [`Documents::init`].
    ///
    /// # Errors
    /// The cluster cannot be written in the API of its version.
    fn settings(&self, cluster: &Cluster) -> Result<String, StepError>;

    /// The files that [`Documents::init`] and [`Documents::join`] name: patches, and the audit policy.
    ///
    /// # Errors
    /// They cannot be written.
    fn beside(&self, cluster: &Cluster, host: &Host) -> Result<Vec<File>, StepError>;

    /// A configuration with a new key by which apiservers encrypt Secrets: one for the whole cluster.
    ///
    /// # Errors
    /// There are no random bytes, or it cannot be written.
    fn encryption(&self) -> Result<File, StepError>;

    /// `/etc/hosts` of this host, on which the endpoint's name leads to this address; what others
    /// wrote into it stays.
    fn hosts(&self, cluster: &Cluster, host: &Host, endpoint: IpAddr, current: &[u8]) -> Vec<u8>;

    /// The same without what we wrote into it.
    fn hosts_without_ours(&self, current: &[u8]) -> Vec<u8>;

    /// The proxy's files on this worker: its configuration first, then what makes its user and its
    /// folders, in the order in which they take effect.
    ///
    /// # Errors
    /// They cannot be written.
    fn proxy(&self, cluster: &Cluster, host: &Host) -> Result<Vec<File>, StepError>;

    /// The command that starts the proxy before kubelet can, as the transient unit [`UNIT`].
    fn unit(&self) -> Vec<String>;

    /// The kubeconfig of the proxy.
    ///
    /// # Errors
    /// It cannot be written.
    fn kubeconfig(&self, cluster: &Cluster, identity: &Identity) -> Result<File, StepError>;

    /// The proxy's static pod of this generation and image.
    ///
    /// # Errors
    /// It cannot be written.
    fn static_pod(&self, generation: u32, image: &str) -> Result<File, StepError>;

    /// The rights that the proxies' user has: a manifest.
    ///
    /// # Errors
    /// It cannot be written.
    fn rights(&self) -> Result<String, StepError>;
}

/// The folder of kubelet's static pods.
pub const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// The apiproxy program of a host.
pub const PROGRAM: &str = "/usr/local/bin/apiproxy";

/// The proxy's configuration.
pub const PROXY_CONFIG: &str = "/etc/apiproxy/config.yaml";

/// The cluster's CA for the proxy. Not kubeadm's file: that must not be there before a worker joins.
pub const PROXY_CA: &str = "/etc/apiproxy/ca.crt";

/// With which the proxy asks for EndpointSlices.
pub const PROXY_KUBECONFIG: &str = "/etc/apiproxy/discovery.conf";

/// The folder of patches for kubeadm.
pub const PATCHES: &str = "/etc/kubernetes/patches";

/// The keys that apiservers encrypt Secrets with: the same on all control planes.
pub const ENCRYPTION: &str = "/etc/kubernetes/encryption/config.yaml";

/// The proxy as a transient unit, until its static pod has taken over.
pub const UNIT: &str = "apiproxy-bootstrap.service";

/// The first generation of the static pod: the unit's is 1.
pub const FIRST_POD: u32 = 2;
