//! Connections that carry nothing, and fresh processes that have carried nothing yet.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{Echo, Proxy, backend_lines, report};

/// A connection through the proxy, and the backend's greeting on it.
fn connect(proxy: &Proxy) -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(proxy.listen).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut greeting = [0];
    stream.read_exact(&mut greeting).unwrap();
    (stream, greeting[0])
}

/// Sends bytes and gets them back.
fn echo(stream: &mut TcpStream) {
    stream.write_all(b"are you there").unwrap();
    let mut answer = [0; 13];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"are you there");
}

#[test]
fn an_idle_connection_lives() {
    let folder = tempfile::tempdir().unwrap();
    let server = Echo::start(b'a');
    let config = "healthCheck: { type: tcp, interval: 1s }\nconnections: { keepalive: 1s }\n";
    let proxy =
        Proxy::start(folder.path(), &(config.to_owned() + &backend_lines(&[server.address])));
    proxy.wait_ready(1);
    let (mut idle, _) = connect(&proxy);
    let (mut half_idle, _) = connect(&proxy);
    echo(&mut half_idle);
    let start = Instant::now();
    thread::sleep(Duration::from_secs(20));
    echo(&mut idle);
    echo(&mut half_idle);
    report(&format!("a connection silent for {:?} carries bytes again", start.elapsed()));
    assert_eq!(proxy.status().backends[0].connections, 2);
}

#[test]
fn keepalive_is_on_for_both_legs() {
    if !common::has_program("ss") {
        skip!("ss (iproute2) is not there to look at sockets");
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Echo::start(b'a');
    let config = "healthCheck: { type: tcp }\nconnections: { keepalive: 30s }\n".to_owned();
    let proxy = Proxy::start(folder.path(), &(config + &backend_lines(&[server.address])));
    let (mut stream, _) = connect(&proxy);
    echo(&mut stream);
    // A timer for retransmission is shown in place of that for keepalive until all is acknowledged.
    let (client, server) = (format!(" {} ", proxy.listen), format!(" {} ", server.address));
    common::wait_for("both legs have a keepalive timer", Duration::from_secs(5), || {
        let text = common::run(Command::new("ss").args(["-tnoH", "state", "established"]));
        // RECV-Q SEND-Q LOCAL PEER TIMER; the test's ends of the legs have them the other way round.
        let has_timer = |line: &str, column: usize, address: &str| {
            line.split_whitespace().nth(column) == Some(address.trim())
                && line.contains("timer:(keepalive,")
        };
        let client_leg = text.lines().any(|line| has_timer(line, 2, &client));
        let server_leg = text.lines().any(|line| has_timer(line, 3, &server));
        (client_leg && server_leg).then_some(())
    });
}

/// `src/balance/tests.rs` does this with 3000 seeds; here it is seen that each process has its own.
#[test]
fn the_first_connections_of_fresh_processes_are_spread_evenly() {
    const STARTS: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let servers = [b'a', b'b', b'c'].map(Echo::start);
    let config = "healthCheck: { type: tcp }\n".to_owned()
        + &backend_lines(&servers.each_ref().map(|server| server.address));
    let start = Instant::now();
    let mut spread = BTreeMap::new();
    for _ in 0..STARTS {
        let proxy = Proxy::start(folder.path(), &config);
        let (_, greeting) = connect(&proxy);
        *spread.entry(char::from(greeting)).or_insert(0) += 1;
    }
    report(&format!("{STARTS} starts in {:?}: {spread:?}", start.elapsed()));
    // Within four tenths of the fair share of 100, which is 4.9 standard deviations.
    assert_eq!(spread.len(), 3);
    assert!(spread.values().all(|count| (60..=140).contains(count)), "{spread:?}");
}
