//! The proxy between real clients (curl, h2load, openssl) and three real nginx servers, and between
//! two bare sockets.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

mod common;
#[path = "nginx/half_close.rs"]
mod half_close;
#[path = "nginx/load.rs"]
mod load;
#[path = "nginx/servers.rs"]
mod servers;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use common::{Proxy, run, wait_for};
use load::Load;
use servers::{Cluster, NAMES, Process, SLOW_RATE, active, connected, missing, sha256, url};

/// Held for writing by the test that measures time, so that the others leave it the machine.
static QUIET: RwLock<()> = RwLock::new(());

fn among_others() -> RwLockReadGuard<'static, ()> {
    QUIET.read().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn big_downloads_and_uploads_are_byte_exact() {
    if let Some(program) = missing(&["nginx", "curl"]) {
        skip!("there is no {program}");
    }
    let _quiet = among_others();
    let cluster = Cluster::start();
    let proxy = cluster.proxy("interval: 1s, timeout: 5s", "");
    let size: u32 = 64 * 1024 * 1024;
    let (file, hash) = cluster.offer("big", size.into());
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let copy = cluster.folder.path().join("copy");
        let mut download = cluster.curl();
        download.args([flag, "--fail", "--write-out", "%{http_version} %{http_code}", "--output"]);
        assert_eq!(
            run(download.arg(&copy).arg(url(&proxy, "/files/big"))),
            format!("{version} 200")
        );
        assert_eq!(sha256(&copy), hash, "download over {version}");

        let mut upload = cluster.curl();
        let path = format!("/upload/{version}");
        upload.args([
            flag,
            "--fail",
            "--write-out",
            "%{http_version} %{http_code} %header{x-server}",
        ]);
        let said = run(upload.arg("--upload-file").arg(&file).arg(url(&proxy, &path)));
        let server = said.strip_prefix(&format!("{version} 201 ")).expect(&said);
        let stored = cluster.folder.path().join(server).join(&path[1..]);
        assert_eq!(sha256(&stored), hash, "upload over {version}");
    }
    for direction in ["up", "down"] {
        let relayed = proxy.metric("apiproxy_bytes_total", &[direction]);
        assert!(relayed > 2.0 * f64::from(size), "{direction}: {relayed}");
    }
}

/// Clients of h2load, each with a connection of its own.
const CLIENTS: u32 = 120;

#[test]
fn many_http2_clients_fail_no_request_and_are_spread_evenly() {
    if let Some(program) = missing(&["nginx", "h2load"]) {
        skip!("there is no {program}");
    }
    let _quiet = among_others();
    let cluster = Cluster::start();
    let proxy = cluster.proxy("interval: 1s, timeout: 5s", "");
    let mut h2load = Command::new("h2load");
    h2load.args(["--requests=6000", &format!("--clients={CLIENTS}"), "--max-concurrent-streams=5"]);
    let report = run(h2load.arg(url(&proxy, "/readyz")));
    let all = "6000 done, 6000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(report.contains(all), "{report}");
    assert!(report.contains("status codes: 6000 2xx"), "{report}");
    assert!(report.contains("Application protocol: h2"), "{report}");
    let counts = NAMES.map(|name| connected(&proxy, name));
    assert!((counts.iter().sum::<f64>() - f64::from(CLIENTS)).abs() < 0.5, "{counts:?}");
    // A third each, if all are open at the same time; some may be done before the last one comes.
    assert!(counts.iter().all(|count| *count >= f64::from(CLIENTS) / 4.0), "{counts:?}");
}

/// Three times, another server is killed under clients in the middle of downloads. They may have to
/// come again (curl's own retry) but get everything, and who comes just after the kill, without any
/// retry, is served in time.
///
/// Times are curl's own account of connecting, TLS handshake and answer: 5 ms on a quiet machine.
/// Since a busy one may take half a second for that, it is what the kill adds that has to stay below
/// 200 ms: the slowest of three connections after it, so that one that waits for the dead server
/// cannot hide, against the slowest of three before it; in the best of the three rounds.
#[test]
fn a_killed_server_costs_no_request_and_no_time() {
    if let Some(program) = missing(&["nginx", "curl"]) {
        skip!("there is no {program}");
    }
    let _quiet = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    let mut cluster = Cluster::start();
    // At the default pace of 10 s, steady probes are no help: the data path has to notice.
    let proxy = cluster.proxy("interval: 10s, fastInterval: 100ms", "");
    let (_, hash) = cluster.offer("file", 2 * SLOW_RATE);
    let load = Load::start(&cluster, &url(&proxy, "/slow/file"), 6);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (index, victim) in NAMES.iter().enumerate() {
        before.push(slowest_of_three(&cluster, &proxy));
        wait_for("the victim carries a client", Duration::from_secs(20), || {
            (active(&proxy, victim) > 0.0).then_some(())
        });
        cluster.servers[index].kill();
        after.push(slowest_of_three(&cluster, &proxy));
        cluster.servers[index].start();
        proxy.wait_ready(NAMES.len());
    }
    let done = load.finish(&hash);
    assert!(done.retries > 0, "no client was cut in {} downloads", done.downloads);
    // Whether a connection still meets a dead server is a matter of a millisecond: the resets of the
    // cut ones make it suspect, and a suspect one gets nobody while another is ready.
    let suspicions = proxy.metric("apiproxy_suspicions_total", &[]);
    assert!(suspicions > 0.0, "the cut clients raised no suspicion");
    let in_time = before.iter().zip(&after).any(|(before, after)| after - before < 0.2);
    assert!(in_time, "seconds before each kill {before:?}, after it {after:?}");
}

/// Seconds that the slowest of three new connections takes to be answered, without any retry.
fn slowest_of_three(cluster: &Cluster, proxy: &Proxy) -> f64 {
    let times = (0..3).map(|_| {
        let mut curl = cluster.curl();
        curl.args(["--fail", "--output", "/dev/null", "--write-out", "%{time_total}"]);
        run(curl.arg(url(proxy, "/readyz"))).parse::<f64>().unwrap()
    });
    times.fold(0.0, f64::max)
}

#[test]
fn tls_is_passed_through_to_the_servers_own_certificate() {
    if let Some(program) = missing(&["nginx", "openssl"]) {
        skip!("there is no {program}");
    }
    let _quiet = among_others();
    let cluster = Cluster::start();
    let proxy = cluster.proxy("interval: 1s, timeout: 5s", "balance: roundRobin");
    let fingerprint = |certificate: &Path| {
        let mut x509 = Command::new("openssl");
        run(x509.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(certificate))
    };
    let mut seen = Vec::new();
    for _ in NAMES {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-alpn", "h2", "-servername", "kubernetes"]);
        client.args(["-verify_hostname", "kubernetes", "-verify_return_error", "-CAfile"]);
        client.arg(&cluster.ca).arg("-connect").arg(proxy.listen.to_string());
        let said = run(&mut client);
        assert!(said.contains("ALPN protocol: h2"), "{said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        let shown = cluster.folder.path().join("shown.crt");
        fs::write(&shown, said).unwrap();
        seen.push(fingerprint(&shown));
    }
    let issued =
        cluster.servers.iter().map(|server| fingerprint(&server.folder.join("server.crt")));
    let mut issued: Vec<_> = issued.collect();
    issued.sort();
    seen.sort();
    assert_eq!(seen, issued, "three connections in turn show the three servers' certificates");
}

#[test]
fn a_server_that_is_not_ready_gets_nobody_new_and_keeps_its_stream() {
    if let Some(program) = missing(&["nginx", "curl"]) {
        skip!("there is no {program}");
    }
    let _quiet = among_others();
    let cluster = Cluster::start();
    let proxy = cluster.proxy("interval: 200ms, fastInterval: 100ms, timeout: 5s", "");
    // Takes 8 s: far longer than what happens meanwhile.
    let (_, hash) = cluster.offer("stream", 9 * SLOW_RATE);
    let copy = cluster.folder.path().join("copy");
    let mut curl = cluster.curl();
    curl.args(["--fail", "--output"]).arg(&copy).arg(url(&proxy, "/slow/stream"));
    let mut stream = Process(curl.stdout(Stdio::null()).spawn().unwrap());
    let server = wait_for("a server carries the stream", Duration::from_secs(10), || {
        let begun = fs::metadata(&copy).is_ok_and(|file| file.len() > 0);
        cluster.servers.iter().find(|server| begun && active(&proxy, server.name) > 0.0)
    });

    server.set_ready(false);
    proxy.wait_state(server.name, "notReady", Duration::from_secs(10));
    let before = connected(&proxy, server.name);
    for _ in 0..12 {
        let mut curl = cluster.curl();
        curl.args(["--fail", "--output", "/dev/null", "--write-out", "%header{x-server}"]);
        let answered = run(curl.arg(url(&proxy, "/readyz")));
        assert!(NAMES.contains(&answered.as_str()) && answered != server.name, "{answered}");
    }
    assert!((connected(&proxy, server.name) - before).abs() < 0.5, "it got a new connection");
    assert_eq!(stream.0.try_wait().unwrap(), None, "the stream ended early");

    assert!(stream.0.wait().unwrap().success(), "the stream was cut");
    assert_eq!(sha256(&copy), hash);
    server.set_ready(true);
    proxy.wait_ready(NAMES.len());
}
