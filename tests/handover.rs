//! A process takes over from another one: no connection is refused or reset, no byte is lost; and when
//! it does not come to that, the one that runs goes on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "handover/successor.rs"]
mod successor;
#[path = "handover/traffic.rs"]
mod traffic;

use std::io::Read;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Cluster, Echo, Node, Running, Site, backend_lines, command, report, wait_for};
use successor::Successor;
use traffic::Traffic;

const LONG: Duration = Duration::from_secs(30);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// Backends that echo. The silence that is waited for is far from the clients' pace, so that none
/// asks at the moment at which it is told to go.
fn echo_lines(backends: &[Echo]) -> String {
    let addresses: Vec<_> = backends.iter().map(|echo| echo.address).collect();
    backend_lines(&addresses)
        + "healthCheck: { type: tcp, interval: 500ms, fastInterval: 100ms }\n\
           connections: { drainTimeout: 10s }\n\
           rebalance: { quietFor: 300ms }\n"
}

#[test]
fn twenty_handovers_under_load_refuse_reset_and_fail_nothing() {
    let backends = [Echo::start(b'1'), Echo::start(b'2'), Echo::start(b'3')];
    let site = Site::new(&echo_lines(&backends));
    let mut running = vec![site.start(&[])];
    // 100 connections with 5 requests a second each, and 50 new ones a second.
    let traffic = Traffic::start(site.listen, 100, Duration::from_secs(1), 50);
    wait_for("the load runs", LONG, || (traffic.requests() > 500).then_some(()));
    let start = Instant::now();
    for number in 1..=20 {
        let began = Instant::now();
        let next = site.start(&["--take-over"]);
        next.wait_log("taken over", LONG);
        assert_eq!(site.pid(), next.pid(), "the newest answers after handover {number}");
        report(&format!("handover {number} after {:?}", began.elapsed()));
        running.push(next);
        std::thread::sleep(Duration::from_millis(700));
    }
    let (requests, seconds) = (traffic.requests(), start.elapsed().as_secs_f64());
    let newest = running.pop().unwrap();
    for mut node in running {
        assert_eq!(node.wait_end(LONG).code(), Some(0), "{}", node.log());
    }
    assert_eq!(site.metric("apiproxy_handovers_total{result=\"taken\"}"), Some(1.0));
    let result = traffic.stop();
    report(&format!("20 handovers in {seconds:.1} s: {result:?}"));
    assert!(result.faults.is_empty(), "{result:?}");
    assert!(requests > 5_000 && result.opened > 500, "{requests} requests: {result:?}");
    assert!(result.moved >= 100, "the old processes' connections moved: {result:?}");
    drop(newest);
}

/// Regression: it could not start, and was told to use the flag that it was started with.
#[test]
fn listeners_that_overlap_follow_each_other_and_nobody_is_refused() {
    let (_backends, site, node, traffic) = under_load();
    let port = site.listen.port();
    let wide = site.listening(([0, 0, 0, 0], port).into());
    let elsewhere = std::net::SocketAddr::from(([127, 0, 0, 2], port));
    let mut running = vec![node];
    for _ in 0..4 {
        for place in [&wide, &site] {
            let next = place.start(&["--take-over"]);
            next.wait_log("taken over", LONG);
            let status = place.status();
            assert_eq!((status.pid, status.listen), (next.pid(), vec![place.listen]));
            if place.listen == wide.listen {
                TcpStream::connect(elsewhere).unwrap();
            } else {
                wait_for("the wide one is closed", LONG, || TcpStream::connect(elsewhere).err());
            }
            running.push(next);
        }
    }
    let newest = running.pop().unwrap();
    for mut node in running {
        assert_eq!(node.wait_end(LONG).code(), Some(0), "{}", node.log());
    }
    let result = traffic.stop();
    report(&format!("8 handovers to another listener: {result:?}"));
    assert!(result.faults.is_empty(), "{result:?}");
    drop(newest);
}

#[test]
fn requests_over_tls_go_on_and_a_drain_is_handed_on() {
    let cluster = Cluster::new(3);
    let lines = cluster.lines("interval: 500ms, fastInterval: 100ms,");
    let lines = lines + "connections: { drainTimeout: 10s }\nrebalance: { quietFor: 60ms }\n";
    let site = Site::new(&lines);
    let mut first = site.start(&[]);
    site.wait_ready(3);
    let dialer = apiproxy::demo::Dialer::new(site.listen, &cluster.authority, None).unwrap();
    let options = apiproxy::demo::LoadOptions {
        period: Duration::from_millis(150),
        timeout: Duration::from_secs(20),
        watches: 2,
    };
    let loads: Vec<_> =
        (0..5).map(|_| apiproxy::demo::Load::start(dialer.clone(), options).unwrap()).collect();
    wait_for("every client is answered", LONG, || {
        loads.iter().all(|load| load.stats().ok > 5).then_some(())
    });
    site.ask(&["drain", "cp2"]);
    let mut second = site.start(&["--take-over"]);
    second.wait_log("taken over", LONG);
    assert_eq!(site.state("cp2"), "drained", "the drain is handed on");
    assert_eq!(first.wait_end(LONG).code(), Some(0));
    // Commands reach the new process.
    site.ask(&["undrain", "cp2"]);
    assert_eq!(site.state("cp2"), "ready");
    let ok = || loads.iter().map(|load| load.stats().ok).sum::<u64>();
    let before = ok();
    wait_for("requests go on", LONG, || (ok() > before + 100).then_some(()));
    for load in &loads {
        let stats = load.stats();
        assert_eq!(stats.failed, 0, "{:?}", stats.last_error);
    }
    // And the last one ends as one that never took over.
    second.signal(SIGTERM);
    assert_eq!(second.wait_end(LONG).code(), Some(0));
}

/// Regression: the new process has no connection of it, so that it was called empty.
#[test]
fn a_drain_that_is_waited_for_does_not_call_empty_what_the_old_process_still_carries() {
    let backends = [Echo::start(b'1')];
    let name = backends[0].address.to_string();
    let lines = echo_lines(&backends).replace("drainTimeout: 10s", "drainTimeout: 1h");
    let site = Site::new(&lines);
    let mut first = site.start(&[]);
    site.wait_ready(1);
    let mut held = TcpStream::connect(site.listen).unwrap();
    held.read_exact(&mut [0]).unwrap();
    let mut drain = command(&["drain", &name, "--force", "--wait=5m"]);
    drain.arg("--control-socket").arg(&site.control).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut drain = Running(drain.spawn().unwrap());
    let (mut out, mut err) = (drain.0.stdout.take().unwrap(), drain.0.stderr.take().unwrap());
    let (mut told, mut buffer) = (String::new(), [0; 1024]);
    while !told.contains("1 connection left") {
        let count = out.read(&mut buffer).unwrap();
        assert!(count > 0, "it has ended: {told}");
        told += std::str::from_utf8(&buffer[..count]).unwrap();
    }
    let _second = site.start(&["--take-over"]);
    let status = wait_for("it ends", LONG, || drain.0.try_wait().unwrap());
    out.read_to_string(&mut told).unwrap();
    let mut complaint = String::new();
    err.read_to_string(&mut complaint).unwrap();
    assert_eq!(status.code(), Some(1), "{told}{complaint}");
    assert!(!told.contains("is empty"), "{told}");
    assert!(complaint.contains("another process has taken over"), "{complaint}");
    assert!(complaint.contains("run the command again after that"), "{complaint}");
    assert!(first.is_running(), "it still carries the connection");
}

/// A site with one process and load on it.
fn under_load() -> (Vec<Echo>, Site, Node, Traffic) {
    let backends = vec![Echo::start(b'1'), Echo::start(b'2')];
    let site = Site::new(&echo_lines(&backends));
    let node = site.start(&[]);
    let traffic = Traffic::start(site.listen, 20, Duration::from_secs(1), 50);
    wait_for("the load runs", LONG, || (traffic.requests() > 50).then_some(()));
    (backends, site, node, traffic)
}

/// It goes on: it answers, nothing failed, and it can be taken over from.
fn assert_goes_on(site: &Site, mut node: Node, traffic: Traffic, failed: bool) {
    assert_eq!(site.pid(), node.pid());
    let before = traffic.requests();
    wait_for("requests go on", LONG, || (traffic.requests() > before + 100).then_some(()));
    if failed {
        wait_for("the failure is counted", LONG, || {
            site.metric("apiproxy_handovers_total{result=\"failed\"}").filter(|count| *count > 0.5)
        });
        assert!(node.log().contains("the handover failed; this process goes on"), "{}", node.log());
    }
    let next = site.start(&["--take-over"]);
    next.wait_log("taken over", LONG);
    assert_eq!(site.pid(), next.pid());
    assert_eq!(node.wait_end(LONG).code(), Some(0));
    let result = traffic.stop();
    assert!(result.faults.is_empty(), "{result:?}");
}

#[test]
fn it_goes_on_when_the_new_one_dies_with_the_sockets() {
    let (_backends, site, node, traffic) = under_load();
    for _ in 0..5 {
        let mut successor = Successor::connect(&site.control);
        successor.ask_for_sockets();
        assert_eq!(successor.sockets(), 3, "listener, admin, control");
        drop(successor);
    }
    assert_goes_on(&site, node, traffic, true);
}

#[test]
fn it_goes_on_when_the_new_one_talks_nonsense_or_asks_out_of_turn() {
    let (_backends, site, node, traffic) = under_load();
    let handover = r#"{"version":1,"request":{"handover":{}}}"#;
    let ready = r#"{"version":1,"request":{"ready":{}}}"#;
    for lines in [
        vec!["GET / HTTP/1.1\r\n\r\n"],
        vec![handover, "\u{1}\u{2}"],
        vec![handover, handover],
        vec![handover, r#"{"version":1,"request":{"drain":{"backend":"x"}}}"#],
        vec![handover, r#"{"version":2,"request":{"ready":{}}}"#],
        vec![r#"{"version":2,"request":{"handover":{}}}"#],
        vec![ready],
        vec![r#"{"version":1,"request":{"handover":{"generation":-1}}}"#],
    ] {
        let mut successor = Successor::connect(&site.control);
        for line in &lines {
            successor.say(line);
        }
        let answer = successor.last_word();
        assert!(answer.contains("refused") && !answer.contains("released"), "{lines:?}: {answer}");
    }
    assert_goes_on(&site, node, traffic, true);
}

#[test]
fn it_goes_on_when_the_new_one_says_nothing() {
    let (_backends, site, node, traffic) = under_load();
    let mut mute = Successor::connect(&site.control);
    let start = Instant::now();
    mute.ask_for_sockets();
    // Meanwhile nobody else can take over; whoever wants to stands by.
    let mut next = site.start_not_serving(&["--take-over"]);
    next.wait_log("another handover is under way", LONG);
    next.signal(SIGTERM);
    assert_eq!(next.wait_end(LONG).code(), Some(0));
    let word = mute.last_word();
    let time = start.elapsed();
    assert!(word.contains("the handover was given up: it did not say within 15s"), "{word}");
    assert!(time > Duration::from_secs(14) && time < Duration::from_secs(20), "{time:?}");
    // Its word comes too late.
    drop(mute);
    assert_goes_on(&site, node, traffic, true);
}

/// A backend that takes connections and never answers holds a new process in its probes.
fn slow_site() -> (Vec<std::net::TcpListener>, Site, Node) {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lines = backend_lines(&[silent.local_addr().unwrap()])
        + "healthCheck: { timeout: 5s, tls: { insecureSkipVerify: true } }\n";
    let site = Site::new(&lines);
    let node = site.start(&[]);
    (vec![silent], site, node)
}

#[test]
fn it_goes_on_when_the_new_one_is_killed_or_told_to_end_while_it_probes() {
    let (_silent, site, node) = slow_site();
    for signal in [SIGKILL, SIGTERM] {
        let mut next = site.start_not_serving(&["--take-over"]);
        next.wait_log("taking over from a running process", LONG);
        TcpStream::connect(site.listen).unwrap();
        next.signal(signal);
        let status = next.wait_end(LONG);
        assert_eq!(status.code(), (signal == SIGTERM).then_some(0), "{}", next.log());
        TcpStream::connect(site.listen).unwrap();
        assert_eq!(site.pid(), node.pid());
    }
    node.wait_log("it went away before it served", LONG);
    assert_eq!(site.metric("apiproxy_handovers_total{result=\"failed\"}"), Some(2.0));
}

#[test]
fn the_new_one_serves_when_the_old_one_dies_while_it_probes() {
    let (_silent, site, mut node) = slow_site();
    let next = site.start_not_serving(&["--take-over"]);
    next.wait_log("taking over from a running process", LONG);
    node.signal(SIGKILL);
    node.wait_end(LONG);
    // Nobody is refused: the listener is open in the new one.
    TcpStream::connect(site.listen).unwrap();
    next.wait_log("taken over from a process that ended", LONG);
    assert_eq!(site.pid(), next.pid());
}

#[test]
fn a_version_that_cannot_start_changes_nothing() {
    let (_backends, site, node, traffic) = under_load();
    let bad = site.with_config("threads: 65\n");
    let mut next = bad.start_not_serving(&["--take-over"]);
    assert_eq!(next.wait_end(LONG).code(), Some(2));
    // It starts, and finds no backend where the running one has some.
    let blind = site.with_backends("127.0.0.1:1");
    let mut next = blind.start_not_serving(&["--take-over"]);
    assert_eq!(next.wait_end(LONG).code(), Some(1));
    assert!(
        next.log().contains("no backend is ready for this process within 10s"),
        "{}",
        next.log()
    );
    assert_goes_on(&site, node, traffic, true);
}

#[test]
fn a_newer_generation_is_not_taken_over_from_and_is_stood_by_for() {
    let backends = [Echo::start(b'1')];
    let site = Site::new(&echo_lines(&backends));
    let mut first = site.start(&["--take-over", "--generation", "1"]);
    let second = site.start(&["--take-over", "--generation", "2"]);
    second.wait_log("taken over", LONG);
    assert_eq!(first.wait_end(LONG).code(), Some(0));
    // As kubelet does with a container that has ended.
    let first = site.start_not_serving(&["--take-over", "--generation", "1"]);
    first.wait_log("generation 2 serves already, which is newer than 1", LONG);
    assert_eq!(site.pid(), second.pid());
    // The newer one is lost: the one that stood by serves.
    second.signal(SIGKILL);
    let start = Instant::now();
    wait_for("the one that stood by serves", LONG, || site.is_served_by(&first).then_some(()));
    report(&format!("the process that stood by serves {:?} after the kill", start.elapsed()));
}

#[test]
fn without_the_flag_nothing_is_taken_over() {
    let backends = [Echo::start(b'1')];
    let site = Site::new(&echo_lines(&backends));
    let first = site.start(&[]);
    let mut second = site.start_not_serving(&[]);
    assert_eq!(second.wait_end(LONG).code(), Some(1));
    assert!(second.log().contains("--take-over"), "{}", second.log());
    // With it, but at the wrong control socket, it is told that and not to use it.
    let elsewhere = site.control.with_file_name("elsewhere.sock");
    let arguments = ["--take-over", "--control-socket", elsewhere.to_str().unwrap()];
    let mut third = site.start_not_serving(&arguments);
    assert_eq!(third.wait_end(LONG).code(), Some(1));
    let log = third.log();
    assert!(log.contains("give this one its control socket"), "{log}");
    assert!(!log.contains("--take-over"), "{log}");
    assert_eq!(site.pid(), first.pid());
}
