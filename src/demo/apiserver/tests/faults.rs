//! What clients see when the server fails in each of its ways.

use std::io::ErrorKind;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Fixture;
use crate::demo::{Authority, Issue, Protocol};

/// Long enough for an answer, had there been one.
const SILENCE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_delay_makes_answers_late() {
    let fixture = Fixture::new();
    fixture.server.delay(Duration::from_millis(50));
    let start = Instant::now();
    assert_eq!(fixture.get("/livez").await.0, 200);
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_hung_server_is_silent_on_old_and_new_connections_until_resumed() {
    let fixture = Fixture::new();
    let mut connection = fixture.dial(Protocol::Http2).await;
    assert_eq!(connection.get("/livez").await.unwrap().status(), 200);
    fixture.server.hang();
    TcpStream::connect(fixture.server.address()).await.unwrap();
    let mut old = pin!(connection.get("/livez"));
    let mut new = pin!(fixture.dial(Protocol::Http1));
    assert!(timeout(SILENCE, old.as_mut()).await.is_err());
    assert!(timeout(SILENCE, new.as_mut()).await.is_err());
    fixture.server.resume();
    assert_eq!(old.await.unwrap().status(), 200);
    assert_eq!(new.await.get("/livez").await.unwrap().status(), 200);
}

#[tokio::test]
async fn one_hung_server_does_not_hang_another() {
    let (hung, other) = (Fixture::new(), Fixture::new());
    hung.server.hang();
    assert_eq!(other.get("/livez").await.0, 200);
}

#[tokio::test]
async fn a_crash_resets_what_is_open_and_refuses_what_comes() {
    for hung in [false, true] {
        let fixture = Fixture::new();
        let mut connection = fixture.dial(Protocol::Http2).await;
        assert_eq!(connection.get("/livez").await.unwrap().status(), 200);
        let mut accepted = TcpStream::connect(fixture.server.address()).await.unwrap();
        fixture.server.counted(|counters| counters.active == 2).await;
        if hung {
            fixture.server.hang();
        }
        let mut backlog = TcpStream::connect(fixture.server.address()).await.unwrap();
        fixture.server.crash();
        assert_eq!(accepted.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(backlog.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        connection.get("/livez").await.unwrap_err();
        let refused = TcpStream::connect(fixture.server.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(fixture.server.counters().active, 0);
    }
}

#[tokio::test]
async fn a_restart_serves_on_the_same_port_with_a_new_ticket_key() {
    let mut fixture = Fixture::new();
    let address = fixture.server.address();
    for round in 0..3 {
        assert_eq!(fixture.get("/livez").await.0, 200, "round {round}");
        fixture.server.restart().unwrap();
        assert_eq!(fixture.server.address(), address);
    }
    fixture.server.crash();
    fixture.server.restart().unwrap();
    assert_eq!(fixture.get("/livez").await.0, 200);
    assert_eq!(fixture.server.counters().full_handshakes, 4);
    let stranger = Authority::new("stranger").unwrap().server().unwrap();
    fixture.server.restart_with(&stranger).unwrap();
    assert!(fixture.dialer.dial(Protocol::Http2).await.is_err(), "the certificate is the new one");
}

#[tokio::test]
async fn certificates_that_clients_must_refuse_are_refused() {
    let mut fixture = Fixture::new();
    let faults = [
        (Issue { expired: true, ..Issue::default() }, "expired"),
        (Issue { names: &["elsewhere"], ..Issue::default() }, "not valid for name"),
    ];
    for (issue, expected) in faults {
        let issued = fixture.authority.issue(issue).unwrap();
        fixture.server.restart_with(&issued).unwrap();
        let error = fixture.dialer.dial(Protocol::Http2).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let there = fixture.dialer.clone().expecting("elsewhere".try_into().unwrap());
    there.dial(Protocol::Http2).await.unwrap();
}
