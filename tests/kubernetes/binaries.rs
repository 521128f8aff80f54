//! How etcd and kube-apiserver are called, and the certificates that they need.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use apiproxy::demo::{Authority, Dialer, Issue, Issued, Protocol};

/// Writes the certificates and keys of a control plane to a folder. Returns its authority and a client
/// of the group `system:masters`.
pub(crate) fn write_certificates(folder: &Path) -> (Authority, Issued) {
    let authority = Authority::new("kubernetes-ca").unwrap();
    let server = authority.server().unwrap();
    let accounts = authority.server().unwrap();
    let admin =
        authority.issue(Issue { names: &["admin"], client: true, ..Issue::default() }).unwrap();
    for (name, content) in [
        ("ca.crt", &authority.pem()),
        ("apiserver.crt", &server.cert_pem),
        ("apiserver.key", &server.key_pem),
        ("admin.crt", &admin.cert_pem),
        ("admin.key", &admin.key_pem),
        // Any key pair would do; the public half is also read from a certificate.
        ("sa.crt", &accounts.cert_pem),
        ("sa.key", &accounts.key_pem),
    ] {
        fs::write(folder.join(name), content).unwrap();
    }
    (authority, admin)
}

/// The flags of an etcd of one member that keeps its data in this folder.
pub(crate) fn etcd_flags(folder: &Path, client: SocketAddr, peer: SocketAddr) -> Vec<String> {
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]
}

/// The flags of a kube-apiserver with the certificates of this folder.
pub(crate) fn apiserver_flags(
    folder: &Path,
    etcd: SocketAddr,
    listen: SocketAddr,
    shutdown_delay: Duration,
) -> Vec<String> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    vec![
        format!("--etcd-servers=http://{etcd}"),
        format!("--bind-address={}", listen.ip()),
        format!("--advertise-address={}", listen.ip()),
        // Three servers that advertise one address would fight over the Endpoints.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={}", listen.port()),
        file("tls-cert-file", "apiserver.crt"),
        file("tls-private-key-file", "apiserver.key"),
        file("client-ca-file", "ca.crt"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        file("service-account-key-file", "sa.crt"),
        file("service-account-signing-key-file", "sa.key"),
        // No controller manager makes the ServiceAccounts that pods need.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        format!("--shutdown-delay-duration={}s", shutdown_delay.as_secs()),
    ]
}

/// What a kube-apiserver answers on `/readyz` when it is asked itself.
pub(crate) fn readyz(address: SocketAddr, authority: &Authority, admin: &Issued) -> Option<u16> {
    let dialer = Dialer::new(address, authority, Some(admin)).unwrap();
    let answer = async {
        let mut connection = dialer.dial(Protocol::Http1).await.ok()?;
        Some(connection.get("/readyz").await.ok()?.status().as_u16())
    };
    block_on(async { tokio::time::timeout(Duration::from_secs(5), answer).await.ok().flatten() })
}

/// Runs a future on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}
