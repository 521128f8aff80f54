//! The programs of an upgrade: from the same places as those of a new host.

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Programs;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::preflight::arch;
use crate::bootstrap::spec::{Artifacts, Cluster, Version};
use crate::bootstrap::steps::hosts::{Shelf, install_files, install_packages};
use crate::bootstrap::transport::Command;

/// Programs from packages or from the directory, as the file says.
#[derive(Debug)]
pub struct Sourced {
    cluster: Arc<Cluster>,
    shelf: Arc<Shelf>,
}

impl Sourced {
    /// Programs for this cluster. `program` is this very program.
    pub fn new(cluster: &Arc<Cluster>, program: &Path) -> Self {
        Self { cluster: cluster.clone(), shelf: Arc::new(Shelf::new(cluster, program)) }
    }

    async fn install(
        &self,
        cx: &Context,
        host: &str,
        version: Version,
        programs: &[&'static str],
    ) -> Result<(), StepError> {
        let mut cluster = (*self.cluster).clone();
        cluster.kubernetes_version = version;
        match cluster.artifacts {
            Artifacts::Packages { .. } => install_packages(cx, &cluster, host, programs).await,
            Artifacts::Directory(_) => {
                let machine = cx.run(host, &Command::new(["uname", "-m"])).await?.text();
                install_files(&self.shelf, cx, &cluster, host, arch(&machine), programs).await
            }
        }
    }
}

impl Programs for Sourced {
    fn kubeadm<'a>(
        &'a self,
        cx: &'a Context,
        host: &'a str,
        version: Version,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        self.install(cx, host, version, &["kubeadm", "kubectl"]).boxed()
    }

    fn kubelet<'a>(
        &'a self,
        cx: &'a Context,
        host: &'a str,
        version: Version,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        self.install(cx, host, version, &["kubelet"]).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::steps::world::cluster;
    use crate::bootstrap::transport::recording::{Answer, Recording};

    #[tokio::test]
    async fn a_directory_that_lacks_the_version_is_told_before_anything_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = cluster();
        cluster.artifacts = Artifacts::Directory(folder.path().to_owned());
        let host = Recording::new("cp1");
        host.on(["uname", "-m"], Answer::ok("x86_64\n"));
        let transport: Arc<dyn crate::bootstrap::transport::Transport> = host.clone();
        let cx = Context::new([("cp1".to_owned(), transport)].into());
        let programs = Sourced::new(&Arc::new(cluster), Path::new("/proc/self/exe"));
        let outcome = programs.kubelet(&cx, "cp1", Version::new(1, 35, 1)).await;
        assert!(matches!(outcome, Err(StepError::Refused { .. })), "{outcome:?}");
        assert_eq!(host.written(), Vec::<String>::new());
    }
}
