//! A server that says "not ready": spared by new connections, left alone by those it has, and
//! given its share back gradually.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, Proxy, report};

/// Client connections that went to a backend so far.
fn total(proxy: &Proxy, server: &str) -> u64 {
    let status = proxy.status();
    status.backends.iter().find(|backend| backend.name == server).unwrap().connections_total
}

#[test]
fn a_server_that_says_not_ready_keeps_its_connections_gets_none_and_comes_back_slowly() {
    let cluster = Cluster::new(3);
    let proxy = cluster.proxy("interval: 500ms,", "");
    let client = cluster.client(&proxy);
    let mut held: Vec<_> = (0..12).map(|_| client.open().unwrap()).collect();
    let before: Vec<_> = held.iter_mut().map(|held| client.name(held).unwrap()).collect();
    assert_eq!(before.iter().filter(|name| *name == "cp1").count(), 4, "{before:?}");

    cluster.server("cp1").ready(false);
    proxy.wait_state("cp1", "notReady", Duration::from_secs(10));
    let taken = total(&proxy, "cp1");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        for _ in 0..10 {
            assert_ne!(client.ask().unwrap(), "cp1");
        }
        let now: Vec<_> = held.iter_mut().map(|held| client.name(held).unwrap()).collect();
        assert_eq!(now, before, "connections live on where they are");
        std::thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(total(&proxy, "cp1"), taken);
    let labels = ["cp1", "backendDead"];
    assert_eq!(proxy.metric("apiproxy_connections_closed_total", &labels).to_string(), "0");

    cluster.server("cp1").ready(true);
    proxy.wait_state("cp1", "ready", Duration::from_secs(20));
    // It has no connection now and the others get some, so that without a slow start it would take
    // about every new one until it has as many.
    drop(held);
    let mut others: Vec<_> = (0..20).map(|_| client.open().unwrap()).collect();
    let before = others.len();
    let taken = total(&proxy, "cp1");
    let start = Instant::now();
    let mut early = None;
    while start.elapsed() < Duration::from_secs(10) {
        others.push(client.open().unwrap());
        if start.elapsed() > Duration::from_secs(1) {
            early = early.or_else(|| Some((total(&proxy, "cp1") - taken, others.len() - before)));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (early, early_of) = early.unwrap();
    let late = total(&proxy, "cp1") - taken;
    report(&format!(
        "recovered: {early} of {early_of} new connections in the first second, {late} of {} in ten",
        others.len() - before
    ));
    assert!(early <= 5, "a share in the first second of less than 4% is due");
    assert!(late > early && late > 5, "it gets its share back");
}

#[test]
fn a_server_that_is_only_slow_is_not_ready_but_keeps_its_connections() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("interval: 500ms,", "");
    let client = cluster.client(&proxy);
    let mut held = client.open_to("cp1");
    cluster.server("cp1").delay(Duration::from_secs(4));
    for _ in 0..2 {
        assert_eq!(client.name(&mut held).unwrap(), "cp1");
    }
    proxy.wait_state("cp1", "notReady", Duration::from_secs(1));
    assert!(!proxy.log_text().contains("to=dead"));
    assert_eq!(client.ask().unwrap(), "cp2");
}
