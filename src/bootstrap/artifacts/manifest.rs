//! Exactly which files an air-gapped directory has to hold for a cluster.

use crate::bootstrap::needs;
use crate::bootstrap::spec::{Cluster, Topology, Version};

/// Must a file be there?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Yes.
    Always,
    /// Only if the hosts do not have the program yet.
    UnlessInstalled,
    /// It is used when it is there.
    Optional,
}

/// A file of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it brings: `kubelet`.
    pub name: &'static str,
    /// Below the directory. One `*` may stand for a version that is yours to choose.
    pub path: String,
    /// Where its project publishes it, with VERSION for the one you choose.
    pub url: String,
    /// Must it be there?
    pub need: Need,
}

impl Item {
    /// Is this the path of such a file?
    pub fn matches(&self, path: &str) -> bool {
        match self.path.split_once('*') {
            None => self.path == path,
            Some((head, tail)) => path
                .strip_prefix(head)
                .and_then(|rest| rest.strip_suffix(tail))
                .is_some_and(|middle| {
                    middle.starts_with(|c: char| c.is_ascii_digit()) && !middle.contains('/')
                }),
        }
    }
}

/// A program of Kubernetes.
pub fn kubernetes(program: &'static str, version: Version, arch: &str) -> Item {
    Item {
        name: program,
        path: format!("kubernetes/{version}/{arch}/{program}"),
        url: format!("https://dl.k8s.io/{version}/bin/linux/{arch}/{program}"),
        need: Need::Always,
    }
}

/// containerd with its shim and `ctr`.
pub fn containerd(arch: &str) -> Item {
    Item {
        name: "containerd",
        path: format!("containerd-*-linux-{arch}.tar.gz"),
        url: format!(
            "https://github.com/containerd/containerd/releases/download/vVERSION/containerd-VERSION-linux-{arch}.tar.gz"
        ),
        need: Need::UnlessInstalled,
    }
}

/// runc, as its project names it: without its version.
pub fn runc(arch: &str) -> Item {
    Item {
        name: "runc",
        path: format!("runc.{arch}"),
        url: format!(
            "https://github.com/opencontainers/runc/releases/download/vVERSION/runc.{arch}"
        ),
        need: Need::UnlessInstalled,
    }
}

/// The plugins that CNI manifests build on (loopback, bridge, host-local, portmap ..).
pub fn cni_plugins(arch: &str) -> Item {
    Item {
        name: "cni-plugins",
        path: format!("cni-plugins-linux-{arch}-v*.tgz"),
        url: format!(
            "https://github.com/containernetworking/plugins/releases/download/vVERSION/cni-plugins-linux-{arch}-vVERSION.tgz"
        ),
        need: Need::UnlessInstalled,
    }
}

/// crictl, which kubeadm calls until 1.30.
pub fn crictl(version: Version, arch: &str) -> Item {
    Item {
        name: "crictl",
        path: format!("crictl-v*-linux-{arch}.tar.gz"),
        url: format!(
            "https://github.com/kubernetes-sigs/cri-tools/releases/download/vVERSION/crictl-vVERSION-linux-{arch}.tar.gz"
        ),
        need: if needs::wants_crictl(version) { Need::UnlessInstalled } else { Need::Optional },
    }
}

/// etcd with etcdctl and etcdutl, for hosts that run it themselves.
pub fn etcd(version: Option<Version>, arch: &str) -> Item {
    let pattern = version.map_or("*".to_owned(), number);
    let wanted = version.map_or("VERSION".to_owned(), number);
    Item {
        name: "etcd",
        path: format!("etcd-v{pattern}-linux-{arch}.tar.gz"),
        url: format!(
            "https://github.com/etcd-io/etcd/releases/download/v{wanted}/etcd-v{wanted}-linux-{arch}.tar.gz"
        ),
        need: if version.is_some() { Need::Always } else { Need::UnlessInstalled },
    }
}

/// This program for hosts that cannot run the one that is running here.
pub fn apiproxy(arch: &str) -> Item {
    Item {
        name: "apiproxy",
        path: format!("apiproxy-linux-{arch}"),
        url: "the static build of the same release".to_owned(),
        need: Need::Optional,
    }
}

/// The version without its `v`.
fn number(version: Version) -> String {
    format!("{}.{}.{}", version.major, version.minor, version.patch)
}

/// All files but images, for hosts of one machine type.
pub fn items(cluster: &Cluster, arch: &str) -> Vec<Item> {
    let version = cluster.kubernetes_version;
    let mut all: Vec<_> = ["kubeadm", "kubelet", "kubectl"]
        .into_iter()
        .map(|program| kubernetes(program, version, arch))
        .collect();
    all.extend([containerd(arch), runc(arch), cni_plugins(arch), crictl(version, arch)]);
    // With etcd in pods, etcdctl is what backups are taken with, and all of it what drills are held with.
    if cluster.topology == Topology::External || cluster.etcd.backup.is_some() {
        all.push(etcd(cluster.etcd.version, arch));
    }
    all.push(apiproxy(arch));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_version() {
        let containerd = containerd("amd64");
        for (path, fits) in [
            ("containerd-2.1.4-linux-amd64.tar.gz", true),
            ("containerd-2.1.4-linux-arm64.tar.gz", false),
            ("containerd-static-2.1.4-linux-amd64.tar.gz", false),
            ("containerd-/2-linux-amd64.tar.gz", false),
            ("containerd--linux-amd64.tar.gz", false),
        ] {
            assert_eq!(containerd.matches(path), fits, "{path}");
        }
        assert!(
            etcd(Some(Version::new(3, 5, 26)), "arm64").matches("etcd-v3.5.26-linux-arm64.tar.gz")
        );
        assert!(
            !etcd(Some(Version::new(3, 5, 26)), "arm64").matches("etcd-v3.5.27-linux-arm64.tar.gz")
        );
        assert_eq!(crictl(Version::new(1, 30, 9), "amd64").need, Need::UnlessInstalled);
        assert_eq!(crictl(Version::new(1, 31, 0), "amd64").need, Need::Optional);
    }
}
