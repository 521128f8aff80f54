//! What the server answers, to whom, and what it counts.

mod faults;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpStream;

use super::ApiServer;
use crate::demo::{Authority, Blob, Connection, Dialer, Issue, Protocol};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

struct Fixture {
    authority: Authority,
    server: ApiServer,
    dialer: Dialer,
}

impl Fixture {
    fn new() -> Self {
        let authority = Authority::new("test").unwrap();
        let server = ApiServer::start("cp1", &authority.server().unwrap(), LOOPBACK).unwrap();
        let dialer = Dialer::new(server.address(), &authority, None).unwrap();
        Self { authority, server, dialer }
    }

    async fn dial(&self, protocol: Protocol) -> Connection {
        self.dialer.dial(protocol).await.unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let mut connection = self.dial(Protocol::Http2).await;
        text(connection.get(path).await.unwrap()).await
    }
}

async fn text(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn every_endpoint_answers_over_both_protocols() {
    let fixture = Fixture::new();
    let expected = [
        ("/readyz", 200, "ok"),
        ("/livez", 200, "ok"),
        ("/healthz?verbose", 200, "ok"),
        ("/version", 200, "\"gitVersion\":\"v1."),
        ("/api", 200, "APIVersions"),
        ("/api/v1", 200, "APIResourceList"),
        ("/apis", 200, "APIGroupList"),
        ("/api/v1/namespaces?limit=500", 200, "kube-system"),
        ("/whoami", 200, "\"cp1\""),
        ("/slow?ms=1", 200, "ok"),
        ("/nowhere", 404, "the server could not find the requested resource"),
    ];
    for protocol in BOTH {
        let mut connection = fixture.dial(protocol).await;
        for (path, status, part) in expected {
            let response = connection.get(path).await.unwrap();
            assert_eq!(response.headers()["x-apiserver"], "cp1", "{protocol:?} {path}");
            let json = response.headers()["content-type"] == "application/json";
            let (answered, body) = text(response).await;
            assert_eq!(answered, status, "{protocol:?} {path}");
            assert!(body.contains(part), "{protocol:?} {path}: {body}");
            assert_eq!(json, serde_json::from_str::<Value>(&body).is_ok(), "{protocol:?} {path}");
        }
    }
    assert_eq!(fixture.server.counters().requests, 2 * expected.len() as u64);
}

#[tokio::test]
async fn bodies_pass_whole_over_both_protocols() {
    let fixture = Fixture::new();
    let blob = Blob::new(7, 1_000_003);
    let sent: Bytes = blob.clone().flatten().collect();
    for protocol in BOTH {
        let mut connection = fixture.dial(protocol).await;
        let response = connection.get("/blob?bytes=1000003&seed=7").await.unwrap();
        assert_eq!(response.body().size_hint().exact(), Some(1_000_003), "{protocol:?}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), sent, "{protocol:?}");
        let echo = connection.post("/echo", sent.clone()).await.unwrap();
        assert_eq!(echo.into_body().collect().await.unwrap().to_bytes(), sent, "{protocol:?}");
        let (_, hash) = text(connection.post("/hash", sent.clone()).await.unwrap()).await;
        let hash: Value = serde_json::from_str(&hash).unwrap();
        assert_eq!(hash["sha256"], blob.clone().sha256(), "{protocol:?}");
        assert_eq!(hash["bytes"], 1_000_003, "{protocol:?}");
    }
}

#[tokio::test]
async fn readyz_says_what_it_is_told_and_livez_does_not_care() {
    let fixture = Fixture::new();
    fixture.server.ready(false);
    let (status, body) = fixture.get("/readyz").await;
    assert_eq!(status, 500);
    assert!(body.contains("[-]shutdown failed"), "{body}");
    assert_eq!(fixture.get("/livez").await.0, 200);
    for refused in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        fixture.server.status(refused);
        let (status, body) = fixture.get("/readyz").await;
        assert_eq!(status, refused);
        assert!(body.contains("\"kind\":\"Status\""), "{body}");
    }
    fixture.server.ready(true);
    assert_eq!(fixture.get("/readyz").await, (StatusCode::OK, "ok".to_owned()));
}

#[tokio::test]
async fn a_client_certificate_can_be_required() {
    let fixture = Fixture::new();
    fixture.server.require_client_cert(true);
    assert_eq!(fixture.get("/readyz").await.0, 401);
    let issue = Issue { names: &["admin"], client: true, ..Issue::default() };
    let admin = fixture.authority.issue(issue).unwrap();
    let dialer = Dialer::new(fixture.server.address(), &fixture.authority, Some(&admin)).unwrap();
    for resumed in [false, true] {
        let mut connection = dialer.dial(Protocol::Http2).await.unwrap();
        assert_eq!(connection.resumed(), resumed);
        assert_eq!(connection.get("/readyz").await.unwrap().status(), 200, "resumed: {resumed}");
    }
}

#[tokio::test]
async fn full_and_resumed_handshakes_are_counted_apart() {
    let fixture = Fixture::new();
    for resumed in [false, true, true] {
        let mut connection = fixture.dial(Protocol::Http2).await;
        assert_eq!(connection.resumed(), resumed);
        // The ticket comes after the handshake, but before the first answer.
        assert_eq!(connection.get("/livez").await.unwrap().status(), 200);
    }
    let counters = fixture.server.counters();
    assert_eq!((counters.full_handshakes, counters.resumed_handshakes), (1, 2));
    assert_eq!(counters.connections, 3);
    fixture.server.counted(|counters| counters.active == 0).await;
}

#[tokio::test]
async fn a_watch_streams_bookmarks_until_the_client_leaves() {
    let fixture = Fixture::new();
    fixture.server.bookmark_every(Duration::from_millis(5));
    for protocol in BOTH {
        let mut connection = fixture.dial(protocol).await;
        let response = connection.get("/api/v1/namespaces?watch=true").await.unwrap();
        let mut events = response.into_body();
        let mut read = String::new();
        while read.lines().count() < 3 || !read.ends_with('\n') {
            let frame = events.frame().await.unwrap().unwrap();
            read.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        for line in read.lines() {
            assert_eq!(serde_json::from_str::<Value>(line).unwrap()["type"], "BOOKMARK");
        }
        assert_eq!(fixture.server.counters().watches, 1, "{protocol:?}");
        drop(connection);
        fixture.server.counted(|counters| counters.watches == 0).await;
    }
}

#[tokio::test]
async fn ipv6_and_ports_in_use() {
    let issued = Authority::new("test").unwrap().server().unwrap();
    let server = ApiServer::start("cp1", &issued, LOOPBACK).unwrap();
    let taken = ApiServer::start("cp2", &issued, server.address()).err().unwrap();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    match ApiServer::start("cp3", &issued, (Ipv6Addr::LOCALHOST, 0).into()) {
        Ok(server) => drop(TcpStream::connect(server.address()).await.unwrap()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "no IPv6 here"),
    }
}
