//! What is put on hosts: pure functions from the validated cluster to files, byte for byte the same
//! for the same cluster.
//!
//! Settings come from three places, each of which wins over the one before: ours, the cluster's
//! `overrides`, the host's. Whatever holds a secret is a [`File::secret`], and no `Debug` shows it.
//!
//! [`File::secret`]: crate::bootstrap::transport::File::secret

pub mod audit;
pub mod containerd;
pub mod encryption;
pub mod etc_hosts;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod golden;
pub mod host;
pub mod kube_proxy;
pub mod kubeadm;
pub mod kubeconfig;
pub mod kubelet;
pub mod labels;
mod merge;
pub mod patches;
pub mod paths;
pub mod proxy;
mod secret;
mod yaml;

use crate::bootstrap::spec::Version;
use crate::manifest::ManifestError;

pub use etc_hosts::{hosts_block, replace_block};
pub use secret::SecretText;

/// Why something cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// No API of kubeadm that is known here fits.
    #[error("Kubernetes {0} is older than v1.22; write a newer kubernetesVersion")]
    TooOld(Version),
    /// A setting of one host that only a whole cluster can have.
    #[error("{host}: {setting} cannot be set for one host {why}; {remedy}")]
    HostSetting {
        /// The host's name in the spec.
        host: String,
        /// The setting.
        setting: &'static str,
        /// Why not.
        why: String,
        /// What the user can do.
        remedy: &'static str,
    },
    /// A flag that the file it goes into cannot hold.
    #[error(
        "{host}: the kubelet flag {flag} has a character that its environment file cannot hold; leave out quotes, \
             backslashes, white space and control characters"
    )]
    Flag {
        /// The host's name in the spec.
        host: String,
        /// The flag, without dashes.
        flag: String,
    },
    /// Settings of containerd that are not for the version that the host has.
    #[error(
        "{host}: overrides.containerd names the plugin {plugin}, which containerd {version} does not have; {remedy}"
    )]
    Containerd {
        /// The host's name in the spec.
        host: String,
        /// The plugin.
        plugin: String,
        /// The version on the host.
        version: Version,
        /// What the user can do.
        remedy: &'static str,
    },
    /// Something has no form in the format of its file, such as a null in TOML.
    #[error("{what} cannot be written: {reason}")]
    Format {
        /// The file or document.
        what: &'static str,
        /// What the serializer said.
        reason: String,
    },
    /// The static pod's values are not fit for it.
    #[error("the proxy's static pod: {0}")]
    StaticPod(#[from] ManifestError),
}
