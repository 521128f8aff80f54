//! containerd's configuration, by its version and what the spec sets.

use serde_json::json;

use super::*;
use crate::bootstrap::render::fixture::{cluster, host_mut, settings, text};

const V1_7: Version = Version::new(1, 7, 24);
const V2_1: Version = Version::new(2, 1, 4);

fn rendered(cluster: &Cluster, version: Version) -> Result<toml::Table, RenderError> {
    let file = config(cluster, cluster.host("w1").unwrap(), version)?;
    Ok(text(&file).parse().unwrap())
}

#[test]
fn the_format_is_that_of_the_version() {
    let cluster = cluster("v1.34.2");
    let old = rendered(&cluster, V1_7).unwrap();
    assert_eq!(old["version"].as_integer(), Some(2));
    let cri = &old["plugins"][V1];
    assert_eq!(cri["sandbox_image"].as_str(), Some("registry.k8s.io/pause:3.10.1"));
    let options = &cri["containerd"]["runtimes"]["runc"]["options"];
    assert_eq!(options["SystemdCgroup"].as_bool(), Some(true));
    let new = rendered(&cluster, V2_1).unwrap();
    assert_eq!(new["version"].as_integer(), Some(3));
    let images = &new["plugins"][V2_IMAGES];
    let sandbox = &images["pinned_images"]["sandbox"];
    assert_eq!(sandbox.as_str(), Some("registry.k8s.io/pause:3.10.1"));
    assert_eq!(images["registry"]["config_path"].as_str(), Some(paths::CONTAINERD_REGISTRIES));
    let options = &new["plugins"][V2_RUNTIME]["containerd"]["runtimes"]["runc"]["options"];
    assert_eq!(options["SystemdCgroup"].as_bool(), Some(true));
}

#[test]
fn the_pause_image_is_kubeadms() {
    for (version, tag) in [
        ("v1.22.17", "3.5"),
        ("v1.24.0", "3.7"),
        ("v1.26.0", "3.9"),
        ("v1.30.0", "3.9"),
        ("v1.31.0", "3.10"),
        ("v1.33.0", "3.10"),
        ("v1.34.2", "3.10.1"),
        ("v1.36.0", "3.10.2"),
    ] {
        assert_eq!(pause_image(&cluster(version)), format!("registry.k8s.io/pause:{tag}"));
    }
}

#[test]
fn the_hosts_settings_win_over_the_clusters_and_those_over_ours() {
    let mut all = cluster("v1.34.2");
    all.overrides.containerd = settings(json!({
        "oom_score": -1,
        "plugins": {V2_RUNTIME: {"containerd": {"runtimes": {"runc": {"options": {"SystemdCgroup": false}}}}}},
    }));
    host_mut(&mut all, "w1").overrides.containerd = settings(json!({"oom_score": -2}));
    let table = rendered(&all, V2_1).unwrap();
    assert_eq!(table["oom_score"].as_integer(), Some(-2));
    let runc = &table["plugins"][V2_RUNTIME]["containerd"]["runtimes"]["runc"];
    assert_eq!(runc["options"]["SystemdCgroup"].as_bool(), Some(false));
    assert_eq!(runc["runtime_type"].as_str(), Some("io.containerd.runc.v2"));
}

#[test]
fn settings_of_the_old_plugin_keep_the_old_format() {
    let mut all = cluster("v1.34.2");
    let old = settings(json!({"plugins": {V1: {"restrict_oom_score_adj": true}}}));
    all.overrides.containerd.clone_from(&old);
    for version in [V1_7, V2_1] {
        let table = rendered(&all, version).unwrap();
        assert_eq!(table["version"].as_integer(), Some(2), "{version}");
        assert_eq!(table["plugins"][V1]["restrict_oom_score_adj"].as_bool(), Some(true));
        assert!(table["plugins"][V1].get("sandbox_image").is_some());
    }
    // What 2.x still has there is no reason.
    all.overrides.containerd = settings(json!({"plugins": {V1: {"stream_server_port": "10010"}}}));
    assert_eq!(rendered(&all, V2_1).unwrap()["version"].as_integer(), Some(3));
    // Settings of both formats cannot be in one file.
    all.overrides.containerd = old;
    let new = json!({"plugins": {V2_RUNTIME: {"enable_selinux": true}}});
    host_mut(&mut all, "w1").overrides.containerd = settings(new);
    for (version, plugin) in [(V1_7, V2_RUNTIME), (V2_1, V1)] {
        let refused = rendered(&all, version).unwrap_err();
        assert!(
            matches!(&refused, RenderError::Containerd { plugin: found, .. } if found == plugin),
            "{refused}"
        );
    }
}

#[test]
fn mirrors_of_the_spec_stand_without_the_folder_of_mirrors() {
    let mut all = cluster("v1.34.2");
    let mirrors = json!({"mirrors": {"docker.io": {"endpoint": ["https://mirror.local"]}}});
    all.overrides.containerd = settings(json!({"plugins": {V1: {"registry": mirrors}}}));
    let table = rendered(&all, V1_7).unwrap();
    let registry = table["plugins"][V1]["registry"].as_table().unwrap();
    assert!(registry.contains_key("mirrors") && !registry.contains_key("config_path"));
}

#[test]
fn what_toml_cannot_say_is_refused() {
    let mut all = cluster("v1.34.2");
    all.overrides.containerd = settings(json!({"imports": [null]}));
    let refused = rendered(&all, V2_1).unwrap_err();
    assert!(matches!(refused, RenderError::Format { .. }), "{refused}");
}

#[test]
fn a_registry_of_ones_own_comes_before_kubernetes() {
    let mut all = cluster("v1.34.2");
    assert_eq!(mirror(&all), None);
    for (own, url, path) in [
        ("registry.local:5000", "https://registry.local:5000", false),
        ("harbor.local/k8s", "https://harbor.local/v2/k8s", true),
    ] {
        all.artifacts = Artifacts::Packages {
            kubernetes_mirror: None,
            distribution_mirror: None,
            registry: Some(own.to_owned()),
        };
        let file = mirror(&all).unwrap();
        assert_eq!(file.path, "/etc/containerd/certs.d/registry.k8s.io/hosts.toml");
        let table: toml::Table = text(&file).parse().unwrap();
        let host = &table["host"][url];
        assert_eq!(host.get("override_path").is_some(), path);
        assert_eq!(host["capabilities"].as_array().map(Vec::len), Some(2));
        assert_eq!(pause_image(&all), format!("{own}/pause:3.10.1"));
    }
}
