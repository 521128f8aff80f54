//! `kubeadm upgrade`.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::certificates;
use super::manifests;
use super::node::{self, wait};
use super::objects;
use crate::client::Client;
use crate::flags::{Flags, Line};
use crate::kubeconfig;
use crate::version::Version;

const FLAGS: &[&str] = &[
    "v",
    "kubeconfig",
    "config",
    "yes!",
    "force!",
    "ignore-preflight-errors",
    "patches",
    "certificate-renewal",
    "etcd-upgrade",
    "allow-experimental-upgrades!",
    "output",
    "skip-phases",
    "dry-run!",
];

pub(super) fn run(command: &[&str], rest: &[String]) -> Result<(), String> {
    let line = Flags::check(FLAGS, rest)?;
    if let Some(flag) =
        ["config", "force", "skip-phases", "dry-run"].iter().find(|flag| line.get(flag).is_some())
    {
        return Err(format!("this double does not know what --{flag} would do"));
    }
    match command {
        ["plan"] => plan(&line),
        ["apply", version] => apply(&line, version),
        // Flags may come before it.
        ["apply"] => {
            match &line.words[..] {
                [version] => apply(&line, version),
                _ => Err("missing one or more required arguments. Required arguments: [version]"
                    .to_owned()),
            }
        }
        ["node"] => node(&line),
        _ => Err(format!("unknown command \"upgrade {}\" for \"kubeadm\"", command.join(" "))),
    }
}

fn plan(line: &Line) -> Result<(), String> {
    let own = Version::own();
    let cluster = node::of_cluster(&super::admin(line)?, own)?;
    println!(
        "[upgrade/versions] Cluster version: {}\n[upgrade/versions] kubeadm version: {own}",
        cluster.version
    );
    if cluster.version < own {
        println!(
            "You can now apply the upgrade by executing the following command:\n\n\tkubeadm upgrade apply {own}\n"
        );
    }
    Ok(())
}

/// The first control plane: the cluster is of that version from then on.
fn apply(line: &Line, version: &str) -> Result<(), String> {
    let own = Version::own();
    let wanted = Version::parse(version).ok_or(format!("{version} is no version"))?;
    if !line.is_on("yes") {
        return Err(
            "[upgrade] Are you sure you want to proceed? Nobody is there to ask: give --yes"
                .to_owned(),
        );
    }
    let api = super::admin(line)?;
    let old = node::of_cluster(&api, own)?.version;
    if wanted > own || wanted.minor < own.minor {
        return Err(format!(
            "Specified version to upgrade to {wanted} is not that of kubeadm, {own}"
        ));
    }
    if wanted < old || wanted.minor > old.minor + 1 {
        return Err(format!(
            "Specified version to upgrade to {wanted} is too far from the cluster's, {old}"
        ));
    }
    nodes_are_well(&api, wanted)?;
    let (mut cluster, this) = node::stored(line, None)?;
    cluster.version = wanted;
    renew(&cluster, &this, line)?;
    let mut kubelet = objects::stored(&api, "kubelet-config", "kubelet")?;
    objects::upload_configuration(&api, &cluster, &kubelet)?;
    write_kubelet(&mut kubelet, &this)?;
    let skipped = ["addon/coredns", "addon/kube-proxy"].map(str::to_owned);
    objects::addons(&api, &cluster, &json!({}), &skipped)?;
    println!("[upgrade/successful] SUCCESS! Your cluster was upgraded to \"{wanted}\". Enjoy!");
    Ok(())
}

/// Every other node.
fn node(line: &Line) -> Result<(), String> {
    let own = Version::own();
    let control_plane = Path::new(manifests::FOLDER).join("kube-apiserver.yaml").exists();
    let api = if control_plane {
        super::admin(line)?
    } else {
        kubeconfig::client(Path::new("/etc/kubernetes/kubelet.conf"))?
    };
    let (cluster, this) = {
        let cluster = node::of_cluster(&api, own)?;
        let (_, this) = if control_plane {
            node::stored(line, None)?
        } else {
            (
                cluster.clone(),
                super::config::Node {
                    patches: line.get("patches").map(str::to_owned),
                    ..super::config::Node::default()
                },
            )
        };
        (cluster, this)
    };
    if cluster.version.minor != own.minor {
        return Err(format!("the cluster is of {}, and this kubeadm of {own}", cluster.version));
    }
    if control_plane {
        renew(&cluster, &this, line)?;
    }
    let mut kubelet = objects::stored(&api, "kubelet-config", "kubelet")?;
    write_kubelet(&mut kubelet, &this)?;
    println!("[upgrade] The configuration for this node was successfully updated!");
    Ok(())
}

/// No node may be behind by more than kubelets may be.
fn nodes_are_well(api: &Client, wanted: Version) -> Result<(), String> {
    let nodes = api.need("/api/v1/nodes")?;
    for node in nodes["items"].as_array().into_iter().flatten() {
        let kubelet =
            node["status"]["nodeInfo"]["kubeletVersion"].as_str().and_then(Version::parse);
        let skew = if wanted.minor >= 28 { 3 } else { 2 };
        if kubelet.is_none_or(|kubelet| kubelet.minor + skew < wanted.minor) {
            return Err(format!(
                "the kubelet of {} is too old for {wanted}",
                node["metadata"]["name"]
            ));
        }
    }
    Ok(())
}

/// New certificates, unless they are not wished, and new static pods one after the other.
fn renew(
    cluster: &super::config::Cluster,
    this: &super::config::Node,
    line: &Line,
) -> Result<(), String> {
    if line.get("certificate-renewal") != Some("false") {
        let all = Flags::check(&["kubeconfig"], &[])?;
        certificates::renew(&all, "all")?;
    }
    let backup = format!("/etc/kubernetes/tmp/kubeadm-backup-manifests-{}", crate::token::now());
    fs::create_dir_all(&backup).map_err(|error| format!("{backup}: {error}"))?;
    for entry in fs::read_dir(manifests::FOLDER).into_iter().flatten().flatten() {
        let _ = fs::copy(entry.path(), Path::new(&backup).join(entry.file_name()));
    }
    manifests::write_control_plane(cluster, this)?;
    let admin = kubeconfig::client(Path::new(super::ADMIN))?;
    // The old one answers until kubelet has seen the manifest.
    let wanted = cluster.version.to_string();
    let is_new = || match admin.call("GET", "/version", None)? {
        (200, value) if value["gitVersion"] == wanted.as_str() => Ok(()),
        (status, value) => Err(format!("{status}: {value}")),
    };
    wait("the apiserver", is_new)
}

/// Puts what is kept in the cluster into this host's file, with this host's patches.
fn write_kubelet(
    configuration: &mut serde_json::Value,
    this: &super::config::Node,
) -> Result<(), String> {
    manifests::patched("kubeletconfiguration", configuration, this)?;
    crate::pki::write(
        Path::new("/var/lib/kubelet/config.yaml"),
        crate::schema::text(configuration).as_bytes(),
        0o644,
    )
}
