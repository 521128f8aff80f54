//! The certificates and kubeconfigs of a control plane.

use std::net::IpAddr;
use std::path::Path;

use super::config::{Cluster, Etcd, Node};
use crate::flags::Line;
use crate::kubeconfig::{self, Identity};
use crate::pki::{self, Pair, Purpose};
use crate::token::{date, now};
use crate::version::Version;

/// Where certificates are.
pub(super) const PKI: &str = "/etc/kubernetes/pki";

/// What goes from one control plane to the next, under these names in the Secret.
pub(super) const SHARED: &[(&str, &str)] = &[
    ("ca.crt", "ca.crt"),
    ("ca.key", "ca.key"),
    ("front-proxy-ca.crt", "front-proxy-ca.crt"),
    ("front-proxy-ca.key", "front-proxy-ca.key"),
    ("sa.key", "sa.key"),
    ("sa.pub", "sa.pub"),
];

/// The same for etcd's, by topology.
pub(super) fn shared_of_etcd(cluster: &Cluster) -> Vec<(String, String)> {
    match &cluster.etcd {
        Etcd::Local { .. } => ["etcd/ca.crt", "etcd/ca.key"]
            .map(|file| (file.replace('/', "-"), format!("{PKI}/{file}")))
            .to_vec(),
        Etcd::External { ca, certificate, key, .. } => [
            ("external-etcd-ca.crt", ca),
            ("external-etcd.crt", certificate),
            ("external-etcd.key", key),
        ]
        .map(|(name, path)| (name.to_owned(), path.clone()))
        .to_vec(),
    }
}

/// Makes what is missing. CAs too only where a cluster begins.
pub(super) fn ensure(cluster: &Cluster, node: &Node, begins: bool) -> Result<(), String> {
    let folder = Path::new(PKI);
    if !begins && Pair::read(folder, "ca")?.is_none() {
        return Err(
            "the control plane's certificates are not there: give a certificateKey, or copy them"
                .to_owned(),
        );
    }
    let ca = pki::ensure_ca(folder, "ca", "kubernetes")?;
    let front = pki::ensure_ca(folder, "front-proxy-ca", "front-proxy-ca")?;
    pki::ensure_service_account(folder)?;
    let mut sans = vec![
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        "kubernetes.default.svc.cluster.local".to_owned(),
        node.name.clone(),
        node.address.clone(),
        cluster.service_address(),
    ];
    sans.extend(cluster.endpoint.rsplit_once(':').map(|(host, _)| host.to_owned()));
    sans.extend(cluster.sans.clone());
    sans.dedup();
    for (file, ca, ca_name, name, organization, purpose, sans) in [
        ("apiserver", &ca, "kubernetes", "kube-apiserver", None, Purpose::Server, sans),
        (
            "apiserver-kubelet-client",
            &ca,
            "kubernetes",
            "kube-apiserver-kubelet-client",
            Some("kubeadm:cluster-admins"),
            Purpose::Client,
            vec![],
        ),
        (
            "front-proxy-client",
            &front,
            "front-proxy-ca",
            "front-proxy-client",
            None,
            Purpose::Client,
            vec![],
        ),
    ] {
        if Pair::read(folder, file)?.is_none() {
            pki::issue(ca, ca_name, (name, organization), purpose, &sans)?.write(folder, file)?;
        }
    }
    match &cluster.etcd {
        Etcd::External { ca, certificate, key, .. } => {
            let missing =
                [ca, certificate, key].into_iter().find(|file| !Path::new(file).is_file());
            missing.map_or(Ok(()), |file| Err(format!("the external etcd's {file} is not there")))
        }
        Etcd::Local { .. } => ensure_for_etcd(node),
    }
}

fn ensure_for_etcd(node: &Node) -> Result<(), String> {
    let folder = Path::new(PKI).join("etcd");
    let ca = pki::ensure_ca(&folder, "ca", "etcd-ca")?;
    let own = [&node.name, "localhost", &node.address, "127.0.0.1", "::1"].map(str::to_owned);
    for (folder, file, name, purpose, sans) in [
        (&folder, "server", node.name.as_str(), Purpose::Both, &own[..]),
        (&folder, "peer", node.name.as_str(), Purpose::Both, &own[..]),
        (&folder, "healthcheck-client", "kube-etcd-healthcheck-client", Purpose::Client, &[]),
        (
            &Path::new(PKI).to_owned(),
            "apiserver-etcd-client",
            "kube-apiserver-etcd-client",
            Purpose::Client,
            &[],
        ),
    ] {
        if Pair::read(folder, file)?.is_none() {
            pki::issue(&ca, "etcd-ca", (name, None), purpose, sans)?.write(folder, file)?;
        }
    }
    Ok(())
}

/// Writes the kubeconfigs that are missing.
pub(super) fn ensure_kubeconfigs(
    cluster: &Cluster,
    node: &Node,
    begins: bool,
) -> Result<(), String> {
    let ca = Pair::read(Path::new(PKI), "ca")?.ok_or("there is no CA")?;
    let local = match node.address.parse() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{}", node.port),
        _ => format!("https://{}:{}", node.address, node.port),
    };
    let server = cluster.server(node);
    let new = Version::own().minor >= 29;
    let admins = if new { "kubeadm:cluster-admins" } else { "system:masters" };
    let kubelet = format!("system:node:{}", node.name);
    let mut wanted = vec![
        ("admin", "kubernetes-admin", Some(admins), &server),
        ("controller-manager", "system:kube-controller-manager", None, &local),
        ("scheduler", "system:kube-scheduler", None, &local),
    ];
    if begins {
        // One that joins gets its own by TLS bootstrap.
        wanted.push(("kubelet", &kubelet, Some("system:nodes"), &server));
        if new {
            wanted.push(("super-admin", "kubernetes-super-admin", Some("system:masters"), &server));
        }
    }
    for (file, user, organization, server) in wanted {
        let path = Path::new("/etc/kubernetes").join(format!("{file}.conf"));
        if !path.exists() {
            let pair = pki::issue(&ca, "kubernetes", (user, organization), Purpose::Client, &[])?;
            let identity = Identity::Certificate(pair.certificate, pair.key);
            let text = kubeconfig::text(server, &ca.certificate, user, &identity);
            pki::write(&path, text.as_bytes(), 0o600)?;
        }
    }
    Ok(())
}

/// The certificates of a control plane, by the names that `kubeadm certs renew` takes.
const NAMES: &[(&str, &str)] = &[
    ("apiserver", "apiserver"),
    ("apiserver-etcd-client", "apiserver-etcd-client"),
    ("apiserver-kubelet-client", "apiserver-kubelet-client"),
    ("etcd-healthcheck-client", "etcd/healthcheck-client"),
    ("etcd-peer", "etcd/peer"),
    ("etcd-server", "etcd/server"),
    ("front-proxy-client", "front-proxy-client"),
];

/// `kubeadm certs check-expiration`.
pub(super) fn check_expiration(line: &Line) -> Result<(), String> {
    let folder = Path::new(line.get("cert-dir").unwrap_or(PKI));
    println!(
        "CERTIFICATE                EXPIRES                  RESIDUAL TIME   CERTIFICATE AUTHORITY   EXTERNALLY MANAGED"
    );
    for (name, file) in NAMES {
        if let Ok(pem) = std::fs::read(folder.join(format!("{file}.crt"))) {
            let end = pki::end(&pem)?;
            let days = (end - i64::try_from(now()).unwrap_or(i64::MAX)) / 86_400;
            let end = date(end.unsigned_abs());
            println!("{name:<26} {end:<24} {:<15} {:<23} no", format!("{days}d"), "ca");
        }
    }
    Ok(())
}

/// `kubeadm certs renew all`, or one of them: they are made anew for the same names.
pub(super) fn renew(line: &Line, which: &str) -> Result<(), String> {
    let chosen: Vec<_> =
        NAMES.iter().filter(|(name, _)| which == "all" || which == *name).collect();
    let confs = ["admin", "controller-manager", "scheduler", "super-admin"];
    let confs: Vec<_> =
        confs.iter().filter(|name| which == "all" || which == format!("{name}.conf")).collect();
    if chosen.is_empty() && confs.is_empty() {
        return Err(format!("unknown command {which:?} for \"kubeadm certs renew\""));
    }
    let documents = line.get("config").map(|file| super::read(file, Version::own())).transpose()?;
    let (cluster, node) = super::node::stored(line, documents.as_deref())?;
    for (_, file) in chosen {
        let external = matches!(cluster.etcd, Etcd::External { .. }) && file.contains("etcd");
        if !external {
            for end in ["crt", "key"] {
                let _ = std::fs::remove_file(format!("{PKI}/{file}.{end}"));
            }
        }
    }
    let begins = Path::new("/etc/kubernetes/super-admin.conf").exists();
    for name in confs {
        let _ = std::fs::remove_file(format!("/etc/kubernetes/{name}.conf"));
    }
    ensure(&cluster, &node, false)?;
    ensure_kubeconfigs(&cluster, &node, begins)?;
    println!(
        "Done renewing certificates. You must restart the kube-apiserver, kube-controller-manager, kube-scheduler and etcd."
    );
    Ok(())
}
