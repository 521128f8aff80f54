//! Directories that are whole, that lack something, that hold what is torn.

use std::fs;
use std::path::Path;

use super::*;
use crate::bootstrap::artifacts::{Need, manifest, sha256_hex};
use crate::bootstrap::needs::sample;
use crate::bootstrap::spec::Version;

/// Puts a file there, and its checksum into the list.
fn put(root: &Path, name: &str, content: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    let sums = root.join("SHA256SUMS");
    let old = fs::read_to_string(&sums).unwrap_or_default();
    fs::write(sums, format!("{old}{}  {name}\n", sha256_hex(content))).unwrap();
}

/// An archive that names these images, as Docker writes it.
fn archive(names: &[String]) -> Vec<u8> {
    let json = format!(r#"[{{"Config":"c","RepoTags":{names:?},"Layers":[]}}]"#);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(json.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "manifest.json", json.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

/// A directory that lacks nothing for a cluster.
fn whole(cluster: &Cluster, root: &Path) {
    for item in items(cluster, "amd64") {
        if item.need != Need::Optional {
            put(root, &item.path.replace('*', "1.2.3"), item.name.as_bytes());
        }
    }
    let stacked = cluster.topology == Topology::Stacked;
    let images = images::images(cluster.kubernetes_version, images::REGISTRY, stacked);
    let names: Vec<_> = images.iter().map(ToString::to_string).collect();
    put(root, "images/kubernetes.tar", &archive(&names[..4]));
    put(root, "images/others.tar", &archive(&names[4..]));
}

fn amd64() -> Vec<String> {
    vec!["amd64".to_owned()]
}

fn row<'a>(listing: &'a Listing, name: &str) -> &'a Row {
    let found = listing.artifacts.iter().find(|row| row.name == name || row.path == name);
    found.unwrap_or_else(|| panic!("no row {name} in {listing:#?}"))
}

#[test]
fn without_a_directory_it_tells_what_one_would_hold() {
    let mut cluster = sample::external();
    cluster.kubernetes_version = Version::new(1, 30, 4);
    let listing = list(&cluster, &["amd64".into(), "arm64".into()], None).unwrap();
    let paths: Vec<_> = listing.artifacts.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(
        paths[..9],
        [
            "kubernetes/v1.30.4/amd64/kubeadm",
            "kubernetes/v1.30.4/amd64/kubelet",
            "kubernetes/v1.30.4/amd64/kubectl",
            "containerd-*-linux-amd64.tar.gz",
            "runc.amd64",
            "cni-plugins-linux-amd64-v*.tgz",
            "crictl-v*-linux-amd64.tar.gz",
            "etcd-v*-linux-amd64.tar.gz",
            "apiproxy-linux-amd64",
        ]
    );
    assert!(paths.contains(&"kubernetes/v1.30.4/arm64/kubelet"));
    assert_eq!(
        row(&listing, "kubelet").source,
        "https://dl.k8s.io/v1.30.4/bin/linux/amd64/kubelet"
    );
    assert!(listing.artifacts.iter().all(|row| row.state.is_none()));
    assert!(row(&listing, "registry.k8s.io/kube-proxy:v1.30.4").note.is_empty());
    assert!(listing.artifacts.iter().all(|row| !row.name.contains("/etcd:")), "etcd is external");
}

#[test]
fn a_whole_directory_is_complete() {
    for cluster in [sample::stacked(), sample::external()] {
        let folder = tempfile::tempdir().unwrap();
        whole(&cluster, folder.path());
        let cluster = sample::offline(cluster, folder.path());
        let listing = list(&cluster, &amd64(), None).unwrap();
        assert!(listing.complete, "{listing:#?}");
        let containerd = row(&listing, "containerd");
        assert_eq!((containerd.state, containerd.size), (Some(State::Ok), Some(10)));
        assert_eq!(
            containerd.path, "containerd-1.2.3-linux-amd64.tar.gz",
            "the version that is there"
        );
        assert_eq!(
            row(&listing, "registry.k8s.io/kube-proxy:v1.34.2").path,
            "images/kubernetes.tar"
        );
        assert_eq!(row(&listing, "apiproxy").state, Some(State::Absent));
        let arm = list(&cluster, &["arm64".into()], None).unwrap();
        assert!(!arm.complete, "nothing is there for arm64");
        assert_eq!(row(&arm, "kubelet").state, Some(State::Missing));
    }
}

#[test]
fn what_is_wrong_with_a_directory_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let cluster = sample::offline(sample::stacked(), root);
    let empty = list(&cluster, &amd64(), None).unwrap();
    assert!(!empty.complete && row(&empty, "kubelet").state == Some(State::Missing), "all of it");
    whole(&cluster, root);
    fs::write(root.join("kubernetes/v1.34.2/amd64/kubelet"), "another").unwrap();
    fs::write(root.join("crictl-v1.34.0-linux-amd64.tar.gz"), "not in the list").unwrap();
    put(root, "containerd-2.0.0-linux-amd64.tar.gz", b"a second");
    put(root, "images/broken.tar", b"no archive");
    put(root, "debs/conntrack_1.4.7_amd64.deb", b"deb");
    fs::write(root.join("debs/conntrack_1.4.7_amd64.deb"), "torn").unwrap();
    fs::remove_file(root.join("kubernetes/v1.34.2/amd64/kubectl")).unwrap();
    fs::remove_file(root.join("images/others.tar")).unwrap();
    let listing = list(&cluster, &amd64(), None).unwrap();
    assert!(!listing.complete);
    let state = |name: &str| row(&listing, name).state.unwrap();
    assert_eq!(state("kubelet"), State::Wrong);
    assert!(row(&listing, "kubelet").note.contains("fetch it again"));
    assert_eq!(state("kubectl"), State::Missing);
    assert_eq!(state("crictl"), State::Unlisted);
    assert_eq!(state("containerd"), State::Ambiguous);
    assert_eq!(state("images/broken.tar"), State::Wrong);
    assert_eq!(state("debs/conntrack_1.4.7_amd64.deb"), State::Wrong);
    assert_eq!(state("registry.k8s.io/pause:3.10.1"), State::Missing);
    assert_eq!(state("registry.k8s.io/kube-proxy:v1.34.2"), State::Ok);
    assert_eq!(state("kubeadm"), State::Ok);
}

#[test]
fn kubeadms_own_list_wins() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = sample::offline(sample::stacked(), folder.path());
    whole(&cluster, folder.path());
    // Our table names another patch of etcd than this one: any of that repository will do.
    let tagged = vec!["registry.k8s.io/etcd:3.6.4-0".to_owned()];
    put(folder.path(), "images/others.tar", &archive(&tagged));
    let listing = list(&cluster, &amd64(), None).unwrap();
    assert_eq!(row(&listing, "registry.k8s.io/etcd:3.6.4-0").state, Some(State::Ok));
    let own = images::listed("registry.k8s.io/etcd:3.6.5-0\nregistry.k8s.io/kube-proxy:v1.34.2\n");
    let listing = list(&cluster, &amd64(), Some(own)).unwrap();
    assert_eq!(row(&listing, "registry.k8s.io/etcd:3.6.5-0").state, Some(State::Missing));
    assert!(listing.artifacts.iter().all(|row| !row.name.contains("coredns")));
}

#[test]
fn a_file_is_verified_against_the_list_and_read_once() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "runc.amd64", b"runc");
    let directory = Directory::open(folder.path()).unwrap();
    let stored = directory.require(&manifest::runc("amd64")).unwrap();
    directory.verify(&stored).unwrap();
    fs::remove_file(&stored.path).unwrap();
    directory.verify(&stored).unwrap();
    let missing = directory.require(&manifest::runc("arm64")).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "the artifacts lack runc.arm64 (https://github.com/opencontainers/runc/releases/download/\
         vVERSION/runc.arm64); see `apiproxy bootstrap artifacts list`"
    );
}
