//! Programs of a node and of an etcd host: from packages, or from the directory.
//!
//! A node that has joined keeps its kubelet and kubeadm: replacing them under running pods is what
//! `upgrade` is for.

mod apt;
mod directory;
mod unpack;

use super::case::{Case, Found};
use crate::bootstrap::engine::{Context, StepError};

pub use apt::install as install_packages;
pub use directory::install as install_files;

/// Programs of Kubernetes, and where they lie when they come from the directory.
pub(super) const KUBERNETES: [(&str, &str); 3] = [
    ("kubeadm", "/usr/local/bin/kubeadm"),
    ("kubelet", "/usr/local/bin/kubelet"),
    ("kubectl", "/usr/local/bin/kubectl"),
];

/// The plugin by which we know that the others are there: containerd needs it for every pod.
pub(super) const LOOPBACK: &str = "/opt/cni/bin/loopback";

pub(super) fn look(case: &Case<'_>) -> Result<Found, StepError> {
    match case.shelf.directory()? {
        Some(directory) => directory::look(case, directory),
        None => apt::look(case),
    }
}

pub(super) async fn apply(case: &Case<'_>, cx: &Context) -> Result<(), StepError> {
    match case.shelf.directory()? {
        Some(directory) => directory::apply(case, directory, cx).await,
        None => apt::apply(case, cx).await,
    }
}
