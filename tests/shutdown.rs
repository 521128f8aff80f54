//! SIGTERM: no new clients, time for those that are there, and an end.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use apiproxy::app;
use apiproxy::config::{self, Overrides};
use common::{Cluster, Echo, Proxy, backend_lines, report, wait_for};

const SIGTERM: i32 = 15;

/// Sends SIGTERM and waits until new clients are refused.
fn terminate(proxy: &Proxy) {
    proxy.signal(SIGTERM);
    let start = Instant::now();
    wait_for("new clients are refused", Duration::from_secs(2), || {
        let refused = TcpStream::connect(proxy.listen);
        refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
    report(&format!("the listener is closed {:?} after SIGTERM", start.elapsed()));
}

#[test]
fn without_clients_it_ends_at_once() {
    let cluster = Cluster::new(1);
    let mut proxy = cluster.proxy("", "");
    proxy.signal(SIGTERM);
    let status = proxy.wait_end(Duration::from_secs(2));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn an_open_request_is_answered_and_then_it_ends() {
    let cluster = Cluster::new(1);
    let mut proxy = cluster.proxy("", "");
    let client = cluster.client(&proxy);
    let mut connection = client.open().unwrap();
    let answer = thread::spawn(move || {
        let answer = client.wait(connection.get("/slow?ms=2000"));
        answer.map(|answer| answer.status().as_u16())
    });
    wait_for("the request is under way", Duration::from_secs(5), || {
        // The TLS handshake of the client and the request.
        (proxy.status().backends[0].bytes_up > 300).then_some(())
    });
    let start = Instant::now();
    terminate(&proxy);
    assert!(proxy.child.try_wait().unwrap().is_none(), "it waits for the client");
    assert!(proxy.status().draining);
    assert_eq!(common::http_get(proxy.admin, "/readyz").0, 503);
    assert_eq!(answer.join().unwrap().unwrap(), 200);
    let status = proxy.wait_end(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0));
    let time = start.elapsed();
    assert!(time > Duration::from_secs(1) && time < Duration::from_secs(10), "{time:?}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let cluster = Cluster::new(1);
    let mut proxy = cluster.proxy("", "");
    let client = cluster.client(&proxy);
    let mut connection = client.open().unwrap();
    let mut watch = client.watch(&mut connection);
    terminate(&proxy);
    client.event(&mut watch, Duration::from_secs(5)).unwrap();
    let start = Instant::now();
    proxy.signal(SIGTERM);
    let status = proxy.wait_end(Duration::from_secs(2));
    report(&format!("it ends {:?} after the second signal", start.elapsed()));
    assert_eq!(status.code(), Some(0));
    let mut event = Ok(());
    while event.is_ok() {
        event = client.event(&mut watch, Duration::from_secs(5));
    }
    assert_ne!(event.unwrap_err().kind(), ErrorKind::TimedOut, "the client is told");
}

#[test]
fn drain_timeout_cuts_the_rest() {
    let cluster = Cluster::new(1);
    let mut proxy = cluster.proxy("", "connections: { drainTimeout: 2s }\n");
    let client = cluster.client(&proxy);
    let mut connection = client.open().unwrap();
    let mut watch = client.watch(&mut connection);
    let start = Instant::now();
    terminate(&proxy);
    client.event(&mut watch, Duration::from_secs(5)).unwrap();
    let status = proxy.wait_end(Duration::from_secs(5));
    let time = start.elapsed();
    report(&format!("drainTimeout 2 s: it ends after {time:?}"));
    assert_eq!(status.code(), Some(0));
    assert!(time > Duration::from_millis(1900) && time < Duration::from_secs(4), "{time:?}");
}

/// Regression: an acceptor that heard of the drain first took its thread with it, in one of ten drains.
#[test]
fn no_drain_cuts_what_is_open() {
    let server = Echo::start(b'a');
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\n\
         listen: [\"127.0.0.1:0\", \"127.0.0.2:0\", \"127.0.0.3:0\"]\nadmin: {{ listen: \"127.0.0.1:0\" }}\n\
         healthCheck: {{ type: tcp }}\nthreads: 2\n{}",
        backend_lines(&[server.address])
    );
    let config = config::parse("test", &text, folder.path(), &Overrides::default()).unwrap();
    for round in 0..200 {
        let proxy = app::spawn(config.clone()).unwrap();
        let mut client = TcpStream::connect(proxy.addresses[0]).unwrap();
        let mut answer = [0; 1];
        client.read_exact(&mut answer).unwrap();
        proxy.drain.start(tokio::time::Instant::now() + Duration::from_mins(1));
        wait_for("new clients are refused", Duration::from_secs(2), || {
            TcpStream::connect(proxy.addresses[0]).err()
        });
        client.write_all(b"x").unwrap();
        let answered = client.read_exact(&mut answer);
        assert!(answered.is_ok(), "round {round}: {answered:?}");
    }
}
