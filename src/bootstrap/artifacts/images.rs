//! The images that kubeadm of a version starts from.

use std::fmt;

use crate::bootstrap::spec::Version;

/// Where they come from unless a mirror is named. Before 1.25 kubeadm's default was `k8s.gcr.io`,
/// which is frozen; the same images are here.
pub const REGISTRY: &str = "registry.k8s.io";

/// What only control planes run.
const CONTROL_PLANE: [&str; 4] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"];

/// An image by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    /// The name without tag: `registry.k8s.io/pause`.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// Does every patch release of this minor use this very tag?
    pub exact: bool,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

/// The images of a minor release that are not named by its version. etcd and `CoreDNS` moved on within
/// some minors: the last tag of each is here, and whether it was the only one (from the constants of
/// kubeadm's release branches). What a kubeadm itself lists wins over this.
struct Companions {
    minor: u32,
    pause: &'static str,
    etcd: (&'static str, bool),
    coredns: (&'static str, bool),
}

const fn companions(
    minor: u32,
    pause: &'static str,
    etcd: (&'static str, bool),
    coredns: (&'static str, bool),
) -> Companions {
    Companions { minor, pause, etcd, coredns }
}

const TABLE: [Companions; 15] = [
    companions(22, "3.5", ("3.5.0-0", false), ("v1.8.4", true)),
    companions(23, "3.6", ("3.5.6-0", false), ("v1.8.6", true)),
    companions(24, "3.7", ("3.5.6-0", false), ("v1.8.6", true)),
    companions(25, "3.8", ("3.5.9-0", false), ("v1.9.3", true)),
    companions(26, "3.9", ("3.5.10-0", false), ("v1.9.3", true)),
    companions(27, "3.9", ("3.5.12-0", false), ("v1.10.1", true)),
    companions(28, "3.9", ("3.5.15-0", false), ("v1.10.1", true)),
    companions(29, "3.9", ("3.5.16-0", false), ("v1.11.1", false)),
    companions(30, "3.9", ("3.5.15-0", false), ("v1.11.3", false)),
    companions(31, "3.10", ("3.5.24-0", false), ("v1.11.3", false)),
    companions(32, "3.10", ("3.5.24-0", false), ("v1.11.3", true)),
    companions(33, "3.10", ("3.5.24-0", false), ("v1.12.0", true)),
    companions(34, "3.10.1", ("3.6.5-0", false), ("v1.12.1", true)),
    companions(35, "3.10.1", ("3.6.6-0", false), ("v1.13.1", true)),
    companions(36, "3.10.1", ("3.6.8-0", false), ("v1.14.2", false)),
];

/// The images for a version: of the nearest known minor where it is not known itself.
pub fn images(version: Version, registry: &str, with_etcd: bool) -> Vec<Image> {
    let image = |name: &str, tag: &str, exact| Image {
        repository: format!("{registry}/{name}"),
        tag: tag.to_owned(),
        exact,
    };
    let known = TABLE.iter().find(|row| row.minor >= version.minor).unwrap_or(&TABLE[14]);
    let sure = known.minor == version.minor;
    let own = version.to_string();
    let mut all: Vec<_> =
        ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"]
            .into_iter()
            .map(|name| image(name, &own, true))
            .collect();
    all.push(image("pause", known.pause, sure && version.minor != 36));
    // Only in the upstream registry CoreDNS has a folder of its own.
    let coredns = if registry == REGISTRY { "coredns/coredns" } else { "coredns" };
    all.push(image(coredns, known.coredns.0, sure && known.coredns.1));
    if with_etcd {
        all.push(image("etcd", known.etcd.0, sure && known.etcd.1));
    }
    all
}

/// The pause image's tag for a version: containerd's sandbox image.
pub fn pause_tag(version: Version) -> &'static str {
    TABLE.iter().find(|row| row.minor >= version.minor).unwrap_or(&TABLE[14]).pause
}

/// Reads what `kubeadm config images list` printed.
pub fn listed(output: &str) -> Vec<Image> {
    let lines = output.lines().map(str::trim).filter(|line| !line.contains(char::is_whitespace));
    let parts = lines.filter_map(|line| line.rsplit_once(':'));
    let named = parts.filter(|(repository, tag)| repository.contains('/') && !tag.contains('/'));
    named
        .map(|(repository, tag)| Image {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            exact: true,
        })
        .collect()
}

/// Is an image, by its whole name, of use to control planes only?
pub fn control_plane_only(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    CONTROL_PLANE.contains(&name.split(':').next().unwrap_or(name))
}

/// A name as containerd stores it: Docker's short names made whole.
pub fn whole_name(name: &str) -> String {
    let first = name.split('/').next().unwrap_or(name);
    if name.contains('/') && (first.contains(['.', ':']) || first == "localhost") {
        return name.to_owned();
    }
    let library = if name.contains('/') { "" } else { "library/" };
    format!("docker.io/{library}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(version: Version, registry: &str, etcd: bool) -> Vec<String> {
        images(version, registry, etcd).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_list_is_kubeadms() {
        // As `kubeadm config images list --kubernetes-version v1.33.0` prints it, but for etcd,
        // which later patch releases replaced.
        assert_eq!(
            names(Version::new(1, 33, 7), REGISTRY, true),
            [
                "registry.k8s.io/kube-apiserver:v1.33.7",
                "registry.k8s.io/kube-controller-manager:v1.33.7",
                "registry.k8s.io/kube-scheduler:v1.33.7",
                "registry.k8s.io/kube-proxy:v1.33.7",
                "registry.k8s.io/pause:3.10",
                "registry.k8s.io/coredns/coredns:v1.12.0",
                "registry.k8s.io/etcd:3.5.24-0",
            ]
        );
        let mirrored = names(Version::new(1, 22, 4), "mirror:5000/k8s", false);
        assert_eq!(mirrored[4..], ["mirror:5000/k8s/pause:3.5", "mirror:5000/k8s/coredns:v1.8.4"]);
        let unknown = images(Version::new(1, 40, 0), REGISTRY, true);
        assert!(unknown[4..].iter().all(|image| !image.exact));
        assert_eq!(pause_tag(Version::new(1, 34, 2)), "3.10.1");
    }

    #[test]
    fn what_kubeadm_prints_is_read() {
        let output = "W1124 could not fetch a version: http://x\nregistry.k8s.io/etcd:3.6.5-0\n";
        let found = listed(output);
        assert_eq!(
            found.last().map(ToString::to_string).as_deref(),
            Some("registry.k8s.io/etcd:3.6.5-0")
        );
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn names_are_made_whole() {
        for (short, whole) in [
            ("busybox:1", "docker.io/library/busybox:1"),
            ("flannel/flannel:v1", "docker.io/flannel/flannel:v1"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            ("localhost/x:1", "localhost/x:1"),
            ("mirror:5000/x:1", "mirror:5000/x:1"),
        ] {
            assert_eq!(whole_name(short), whole);
        }
        assert!(control_plane_only("registry.k8s.io/etcd:3.6.5-0"));
        assert!(!control_plane_only("registry.k8s.io/kube-proxy:v1.34.2"));
    }
}
