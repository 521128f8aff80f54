//! Certificates of servers that must not be trusted, and those by which probes introduce themselves.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use apiproxy::admin::BackendStatus;
use apiproxy::demo::{ApiServer, Authority, Issue, Issued};
use common::{ANY_PORT, Cluster, Proxy, report, wait_for};
use serde_json::Value;

/// Quick enough to see many probes in a test.
const QUICK: &str = "interval: 200ms, fastInterval: 100ms,";

const LONG: Duration = Duration::from_secs(15);

/// Servers with a certificate that is not to be trusted, under the code that says why.
fn bad_servers(cluster: &Cluster) -> Vec<ApiServer> {
    let foreign = Authority::new("another").unwrap();
    // The same name, but not the same key.
    let forged = Authority::new("test").unwrap();
    let names: &[&str] = &["kubernetes.example.org", "10.0.0.1"];
    let issue = |issue| cluster.authority.issue(issue).unwrap();
    let issued = [
        ("unknownCA", foreign.server().unwrap()),
        ("unknownCA-forged", forged.server().unwrap()),
        ("expired", issue(Issue { expired: true, ..Issue::default() })),
        ("wrongName", issue(Issue { names, ..Issue::default() })),
    ];
    issued.map(|(name, issued)| ApiServer::start(name, &issued, ANY_PORT).unwrap()).into()
}

fn check(cluster: &Cluster, address: SocketAddr, more: &[&str]) -> Output {
    let mut command = Command::new(common::program());
    command.args(["check", "--backend", &address.to_string(), "--ca-file"]);
    command.arg(cluster.ca_file()).args(more).output().unwrap()
}

fn backend(proxy: &Proxy, name: &str) -> BackendStatus {
    proxy.status().backends.into_iter().find(|backend| backend.name == name).unwrap()
}

#[test]
fn check_says_what_is_wrong_with_a_certificate() {
    let cluster = Cluster::new(1);
    for server in bad_servers(&cluster) {
        let code = server.name().split('-').next().unwrap();
        let output = check(&cluster, server.address(), &["-o", "json"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(findings["backends"][0]["code"], code, "{findings}");
        assert_eq!(findings["backends"][0]["state"], "dead", "{findings}");
        assert_eq!(findings["usable"], false);
        let output = check(&cluster, server.address(), &[]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        let told = match code {
            "unknownCA" => "not from a CA in healthCheck.tls.caFile",
            "expired" => "has expired",
            _ => "not for `kubernetes` (healthCheck.tls.serverName)",
        };
        assert!(text.contains(told), "{text}");
    }
    let good = &cluster.servers[0];
    let output = check(&cluster, good.address(), &["-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(findings["backends"][0]["state"], "ready");
    assert!(findings["backends"][0]["certificateDaysLeft"].as_i64().unwrap() > 365, "{findings}");
    let output = check(&cluster, good.address(), &[]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("1 of 1 backends are ready"));
}

#[test]
fn servers_with_a_bad_certificate_never_become_ready() {
    let mut cluster = Cluster::new(1);
    cluster.servers.extend(bad_servers(&cluster));
    let proxy = Proxy::start(cluster.folder.path(), &cluster.lines(QUICK));
    for server in &cluster.servers[1..] {
        proxy.wait_state(server.name(), "dead", LONG);
        let code = server.name().split('-').next().unwrap();
        assert_eq!(backend(&proxy, server.name()).reason.code, code);
        let labels = [server.name(), code];
        wait_for("many probes", LONG, || {
            (proxy.metric("apiproxy_probes_total", &labels) >= 5.0).then_some(())
        });
        let log = proxy.log_text();
        let name = format!("backend=\"{}\" ", server.name());
        let of_it = |line: &&str| line.contains("backend state") && line.contains(&name);
        assert_eq!(log.lines().filter(of_it).count(), 1, "dead once and for all");
    }
    proxy.wait_ready(1);
    let client = cluster.client(&proxy);
    for _ in 0..10 {
        assert_eq!(client.ask().unwrap(), "cp1");
    }
}

#[test]
fn a_server_that_comes_back_with_an_expired_certificate_is_not_ready_any_more() {
    let mut cluster = Cluster::new(2);
    let proxy = cluster.proxy(QUICK, "");
    let expired = Issue { expired: true, ..Issue::default() };
    let expired = cluster.authority.issue(expired).unwrap();
    cluster.servers[0].restart_with(&expired).unwrap();
    proxy.wait_state("cp1", "dead", LONG);
    assert_eq!(backend(&proxy, "cp1").reason.code, "expired");
    let renewed = cluster.authority.server().unwrap();
    cluster.servers[0].restart_with(&renewed).unwrap();
    proxy.wait_state("cp1", "ready", LONG);
}

#[test]
fn probes_resume_their_tls_session() {
    let cluster = Cluster::new(1);
    let proxy = cluster.proxy("interval: 100ms, fastInterval: 100ms,", "");
    let server = &cluster.servers[0];
    let counters = wait_for("many probes", LONG, || {
        Some(server.counters()).filter(|counters| counters.resumed_handshakes >= 20)
    });
    report(&format!(
        "TLS handshakes of probes: {} in full, {} resumed",
        counters.full_handshakes, counters.resumed_handshakes
    ));
    assert!(counters.full_handshakes <= 3, "{counters:?}");
    drop(proxy);
}

/// A client certificate of this authority.
fn identity(authority: &Authority) -> Issued {
    let names: &[&str] = &["apiproxy"];
    authority.issue(Issue { names, client: true, ..Issue::default() }).unwrap()
}

/// Puts a file in place of another, as kubelet and cert-manager do.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

/// Waits until so many more probes of a backend have ended like this.
fn wait_probes(proxy: &Proxy, result: &str, more: f64) {
    let count = || proxy.metric("apiproxy_probes_total", &["cp1", &format!("\"{result}\"")]);
    let before = count();
    wait_for(&format!("more probes are {result}"), LONG, || {
        (count() >= before + more).then_some(())
    });
}

/// A cluster of one server that wants client certificates, and where those of the probes are.
fn cluster_with_identity(issued: &Issued) -> (Cluster, String) {
    let cluster = Cluster::new(1);
    cluster.servers[0].require_client_cert(true);
    let folder = cluster.folder.path();
    fs::write(folder.join("client.crt"), &issued.cert_pem).unwrap();
    fs::write(folder.join("client.key"), &issued.key_pem).unwrap();
    let files = "tls: { certFile: client.crt, keyFile: client.key, ";
    let lines = cluster.lines(QUICK).replace("tls: {", files);
    (cluster, lines)
}

#[test]
fn without_a_client_certificate_the_server_is_ready_with_a_warning() {
    let cluster = Cluster::new(1);
    cluster.servers[0].require_client_cert(true);
    let proxy = cluster.proxy(QUICK, "");
    let warning = backend(&proxy, "cp1").warning.unwrap();
    assert!(warning.message.contains("401"), "{warning:?}");
}

#[test]
fn a_client_certificate_replaced_on_disk_is_used_from_then_on() {
    let (cluster, lines) = cluster_with_identity(&identity(&Authority::new("another").unwrap()));
    let proxy = Proxy::start(cluster.folder.path(), &lines);
    proxy.wait_state("cp1", "dead", LONG);
    let good = identity(&cluster.authority);
    replace(&cluster.folder.path().join("client.crt"), &good.cert_pem);
    replace(&cluster.folder.path().join("client.key"), &good.key_pem);
    proxy.wait_state("cp1", "ready", LONG);
    assert_eq!(backend(&proxy, "cp1").warning, None);
    assert!(proxy.log_text().contains("have changed and were read again"));
}

#[test]
fn while_the_files_are_broken_the_last_good_ones_stay_in_force() {
    let authority = Authority::new("first").unwrap();
    let (mut cluster, lines) = cluster_with_identity(&identity(&authority));
    // One authority for all, so that the certificates are good.
    cluster.authority = authority;
    let server = cluster.authority.server().unwrap();
    cluster.servers[0].restart_with(&server).unwrap();
    let folder = cluster.folder.path();
    fs::write(cluster.ca_file(), cluster.authority.pem()).unwrap();
    let proxy = Proxy::start(folder, &lines);
    proxy.wait_ready(1);
    let good = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let stranger = identity(&cluster.authority);
    let cases = [
        ("client.crt", "garbage".to_owned()),
        ("client.key", String::new()),
        ("client.key", stranger.key_pem.clone()),
        ("client.crt", stranger.cert_pem[..200].to_owned()),
        ("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
    ];
    for (name, broken) in cases {
        let before = good(name);
        let warned = proxy.log_text().matches("the old ones stay in force").count();
        replace(&folder.join(name), &broken);
        wait_for(&format!("{name} is refused: {broken:?}"), LONG, || {
            let now = proxy.log_text().matches("the old ones stay in force").count();
            (now > warned).then_some(())
        });
        wait_probes(&proxy, "ready", 2.0);
        replace(&folder.join(name), &before);
        wait_probes(&proxy, "ready", 2.0);
    }
    fs::remove_file(folder.join("client.key")).unwrap();
    wait_probes(&proxy, "ready", 2.0);
    assert_eq!(proxy.log_text().matches("backend state").count(), 1, "it was ready throughout");
    assert_eq!(backend(&proxy, "cp1").warning, None);
}

#[test]
fn clients_that_break_off_their_handshakes_are_noticed_before_the_next_probe() {
    let mut cluster = Cluster::new(2);
    // The default pace: without a hint, the next probe is up to half a minute away.
    let proxy = cluster.proxy("", "");
    let foreign = Authority::new("another").unwrap().server().unwrap();
    // No connection is open that its end could tell of.
    cluster.servers[0].restart_with(&foreign).unwrap();
    let client = cluster.client(&proxy);
    let refused = (0..10).filter(|_| client.ask().is_err()).count();
    proxy.wait_state("cp1", "dead", Duration::from_secs(3));
    assert_eq!(backend(&proxy, "cp1").reason.code, "unknownCA");
    report(&format!("a server with a foreign certificate gets {refused} of 10 clients"));
    assert!((1..=3).contains(&refused), "{refused}");
    assert_eq!(client.ask().unwrap(), "cp2");
}
