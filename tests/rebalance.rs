//! Connections move away from an unready server and to a recovered one, and no request is cut.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use apiproxy::demo::{ApiServer, Authority, Dialer, Load, LoadOptions, LoadStats};
use common::{Proxy, report, wait_for};

/// Clients with a connection each.
const CLIENTS: usize = 45;

/// The requests that must not be cut.
const REQUESTS: u64 = 10_000;

const LONG: Duration = Duration::from_mins(1);

fn results(loads: &[Load]) -> LoadStats {
    loads.iter().map(Load::stats).fold(LoadStats::none(), LoadStats::merge)
}

#[test]
fn ten_thousand_requests_are_not_cut_by_drains_and_rebalancing() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test").unwrap();
    std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
    let certificate = authority.server().unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let servers: Vec<_> = ["cp1", "cp2", "cp3"]
        .iter()
        .map(|name| ApiServer::start(name, &certificate, any).unwrap())
        .collect();
    let backends: String = servers.iter().fold(String::new(), |list, server| {
        format!("{list}  - {{ name: {}, address: \"{}\" }}\n", server.name(), server.address())
    });
    let proxy = Proxy::start(
        folder.path(),
        &format!(
            "backends:\n{backends}healthCheck: {{ interval: 200ms, fastInterval: 100ms, \
             tls: {{ caFile: ca.crt }} }}\nconnections: {{ drainTimeout: 3s }}\n\
             rebalance: {{ after: 1s, window: 3s, quietFor: 60ms }}\n"
        ),
    );
    proxy.wait_ready(3);
    for server in &servers {
        server.delay(Duration::from_millis(50));
    }
    let options = LoadOptions {
        period: Duration::from_millis(200),
        timeout: Duration::from_secs(20),
        ..LoadOptions::default()
    };
    let dialer = Dialer::new(proxy.listen, &authority, None).unwrap();
    let loads: Vec<_> =
        (0..CLIENTS).map(|_| Load::start(dialer.clone(), options).unwrap()).collect();
    wait_for("every client has been answered", LONG, || {
        loads.iter().all(|load| load.stats().ok > 0).then_some(())
    });
    let end = Instant::now() + 4 * LONG;
    let mut rounds = 0;
    while results(&loads).ok < REQUESTS || rounds < 3 {
        assert!(Instant::now() < end, "too slow: {:?}", results(&loads));
        let server = &servers[rounds % 3];
        let before = proxy.metric("apiproxy_rebalanced_total", &[]);
        server.ready(false);
        proxy.wait_state(server.name(), "notReady", LONG);
        wait_for("the unready server has no connection", LONG, || {
            let label = format!("backend=\"{}\"", server.name());
            (proxy.metric("apiproxy_connections_active", &[&label]) < 0.5).then_some(())
        });
        server.ready(true);
        proxy.wait_state(server.name(), "ready", LONG);
        wait_for("connections have moved back", LONG, || {
            (proxy.metric("apiproxy_rebalanced_total", &[]) > before).then_some(())
        });
        rounds += 1;
    }
    let stats = results(&loads);
    let rebalanced = proxy.metric("apiproxy_rebalanced_total", &[]);
    let drained = proxy.metric("apiproxy_connections_closed_total", &["reason=\"drained\""]);
    report(&format!(
        "{} requests of 50 ms, {} failed; {rebalanced} connections rebalanced, {drained} drained in \
         {rounds} rounds",
        stats.ok, stats.failed
    ));
    assert_eq!(stats.failed, 0, "{:?}", stats.last_error);
    assert!(drained >= 3.0 && rebalanced >= 3.0);
}
