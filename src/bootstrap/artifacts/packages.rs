//! Packages of apt: Kubernetes' own repository, a release each, and the distribution's.

use crate::bootstrap::needs;
use crate::bootstrap::spec::{Artifacts, Cluster, Host, Version};
use crate::bootstrap::transport::File;

use super::ArtifactError;

/// Kubernetes' repository; below it one for each minor release.
pub const KUBERNETES: &str = "https://pkgs.k8s.io/core:/stable:";

/// The key that signs Kubernetes' repository; apt takes armoured keys under this ending.
pub const KEYRING: &str = "/etc/apt/keyrings/kubernetes-apt-keyring.asc";

/// Kubernetes' repository for apt.
pub const LIST: &str = "/etc/apt/sources.list.d/kubernetes.list";

/// The only sources that apt is to read, where the spec names a mirror of the distribution.
pub const MIRROR_LIST: &str = "/etc/apt/apiproxy-sources.list";

/// Where packages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Where the key is had.
    pub key_url: String,
    /// The lists of sources to be written.
    pub lists: Vec<File>,
    /// Arguments that every apt-get is given.
    pub arguments: Vec<String>,
}

/// The repositories of a cluster; none when its programs come from a directory.
///
/// # Errors
/// If no repository has its version of Kubernetes.
pub fn repository(cluster: &Cluster) -> Result<Option<Repository>, ArtifactError> {
    let Artifacts::Packages { kubernetes_mirror, distribution_mirror, .. } = &cluster.artifacts
    else {
        return Ok(None);
    };
    let version = cluster.kubernetes_version;
    if version < Version::FIRST_PACKAGED && kubernetes_mirror.is_none() {
        return Err(ArtifactError::NoPackages(version));
    }
    let base = kubernetes_mirror.as_deref().unwrap_or(KUBERNETES).trim_end_matches('/');
    let base = format!("{base}/{}/deb/", version.release());
    let kubernetes = format!("deb [signed-by={KEYRING}] {base} /\n");
    let key_url = format!("{base}Release.key");
    let mut lists = vec![File::new(LIST, kubernetes.clone())];
    let mut arguments = Vec::new();
    if let Some(lines) = distribution_mirror {
        lists.push(File::new(MIRROR_LIST, format!("{}\n{kubernetes}", lines.trim_end())));
        let only =
            ["-o", &format!("Dir::Etc::SourceList={MIRROR_LIST}"), "-o", "Dir::Etc::SourceParts=-"];
        arguments = only.map(ToOwned::to_owned).to_vec();
    }
    Ok(Some(Repository { key_url, lists, arguments }))
}

/// A package that a host should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// The version, but for the package's own revision; any if there is none.
    pub version: Option<String>,
    /// The program by which it is known to be there, whoever installed it.
    pub program: Option<&'static str>,
}

impl Package {
    const fn any(name: &'static str, program: Option<&'static str>) -> Self {
        Self { name, version: None, program }
    }

    /// How apt-get is asked for it: `kubelet=1.34.2-*`.
    pub fn request(&self) -> String {
        match &self.version {
            Some(version) => format!("{}={version}-*", self.name),
            None => self.name.to_owned(),
        }
    }

    /// Is this the version of an installed package?
    pub fn is_satisfied_by(&self, installed: &str) -> bool {
        let wanted = self.version.as_deref();
        wanted.is_none_or(|wanted| {
            installed.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'))
        })
    }
}

/// A package of Kubernetes, pinned.
pub fn kubernetes(program: &'static str, version: Version) -> Package {
    let number = format!("{}.{}.{}", version.major, version.minor, version.patch);
    Package { name: program, version: Some(number), program: Some(program) }
}

/// The packages of a host by its roles. A package is left alone where its program is there
/// already, from wherever (`containerd.io` of Docker instead of `containerd`).
pub fn packages(cluster: &Cluster, host: &Host) -> Vec<Package> {
    let version = cluster.kubernetes_version;
    let mut all = Vec::new();
    if needs::is_node(host) {
        all.extend(["kubeadm", "kubelet", "kubectl"].map(|program| kubernetes(program, version)));
        all.push(Package::any("containerd", Some("containerd")));
        all.push(Package::any("runc", Some("runc")));
        // For kubelet versions whose package no longer depends on it.
        all.push(Package::any("kubernetes-cni", None));
        if needs::wants_crictl(version) {
            all.push(Package::any("cri-tools", Some("crictl")));
        }
        let tools = needs::tools(version);
        all.extend(tools.into_iter().map(|(tool, package)| Package::any(package, Some(tool))));
    }
    if needs::runs_etcd_itself(cluster, host) || needs::holds_drills(cluster, host) {
        all.push(Package::any("etcd-server", Some("etcd")));
        all.push(Package::any("etcd-client", Some("etcdctl")));
    } else if needs::asks_stacked_etcd(cluster, host) {
        all.push(Package::any("etcd-client", Some("etcdctl")));
    }
    all
}

/// Packages that are held at their version, as kubeadm's documentation advises: what is replaced
/// while it runs is replaced by `upgrade`, node by node.
pub const HELD: [&str; 6] =
    ["kubeadm", "kubelet", "kubectl", "containerd", "etcd-server", "etcd-client"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_asked_for_without_its_revision() {
        let kubelet = kubernetes("kubelet", Version::new(1, 34, 2));
        assert_eq!(kubelet.request(), "kubelet=1.34.2-*");
        for (installed, right) in
            [("1.34.2-1.1", true), ("1.34.20-1.1", false), ("1.34.1-1.1", false), ("1.34.2", false)]
        {
            assert_eq!(kubelet.is_satisfied_by(installed), right, "{installed}");
        }
        let runc = Package::any("runc", Some("runc"));
        assert_eq!(runc.request(), "runc");
        assert!(runc.is_satisfied_by("1.1.5+ds1-1"));
    }
}
