//! What a load counts when its server is well, fails and comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Load, LoadOptions};
use crate::demo::{ApiServer, Authority, Dialer};

const FAST: LoadOptions = LoadOptions {
    period: Duration::from_millis(5),
    timeout: Duration::from_millis(200),
    watches: 0,
};

fn start(options: LoadOptions) -> (ApiServer, Load) {
    let authority = Authority::new("test").unwrap();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = ApiServer::start("cp1", &authority.server().unwrap(), listen).unwrap();
    let dialer = Dialer::new(server.address(), &authority, None).unwrap();
    let load = Load::start(dialer, options).unwrap();
    (server, load)
}

#[tokio::test]
async fn requests_share_one_connection_while_all_is_well() {
    let (server, load) = start(FAST);
    let stats = load.seen(|stats| stats.ok >= 20).await;
    assert_eq!((stats.failed, stats.dials), (0, 1));
    assert_eq!(stats.servers.keys().collect::<Vec<_>>(), ["cp1"]);
    assert_eq!(stats.last_server.as_deref(), Some("cp1"));
    assert_eq!(server.counters().connections, 1);
}

#[tokio::test]
async fn a_crash_is_counted_and_survived() {
    let (server, load) = start(FAST);
    load.seen(|stats| stats.ok > 0).await;
    server.crash();
    let down = Instant::now();
    load.seen(|stats| stats.failed >= 3).await;
    let least = down.elapsed();
    server.restart().unwrap();
    let before = load.stats();
    let stats = load.seen(|stats| stats.ok > before.ok).await;
    assert!(stats.dials > before.failed, "{stats:?}");
    assert!(stats.longest_outage >= least, "{stats:?}");
    assert!(stats.last_error.is_some());
}

#[tokio::test]
async fn a_hung_server_costs_a_timeout_and_a_new_connection() {
    let (server, load) = start(FAST);
    load.seen(|stats| stats.ok > 0).await;
    server.hang();
    let stats = load.seen(|stats| stats.failed >= 1).await;
    assert!(stats.longest_outage >= FAST.timeout, "{stats:?}");
    server.resume();
    let stats = load.seen(|later| later.ok > stats.ok).await;
    assert!(stats.dials >= 2, "{stats:?}");
}

#[tokio::test]
async fn refusals_are_failures() {
    let (server, load) = start(FAST);
    server.require_client_cert(true);
    let stats = load.seen(|stats| stats.failed > 0).await;
    assert_eq!(stats.last_error.as_deref(), Some("answered 401 Unauthorized"));
}

#[tokio::test]
async fn watches_come_back_when_cut() {
    let (server, load) = start(LoadOptions { watches: 3, ..FAST });
    load.seen(|stats| stats.watches == 3 && stats.events >= 3).await;
    let counters = server.counted(|counters| counters.watches == 3).await;
    assert!(counters.connections >= 3, "a connection each");
    server.restart().unwrap();
    let stats = load.seen(|stats| stats.cuts == 3 && stats.watches == 3).await;
    assert!(stats.events >= 3);
    drop(load);
    server.counted(|counters| counters.active == 0 && counters.watches == 0).await;
}
