//! Too many clients, and too few file descriptors.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{Cluster, Proxy, is_reset, read_to_end, report, wait_for};

#[test]
fn the_client_over_connections_max_is_reset_at_once() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("", "connections: { max: 5 }\n");
    let client = cluster.client(&proxy);
    let mut held: Vec<_> = (0..5).map(|_| client.open().unwrap()).collect();
    for _ in 0..3 {
        let start = Instant::now();
        let mut refused = TcpStream::connect(proxy.listen).unwrap();
        let end = read_to_end(&mut refused, Duration::from_secs(5));
        assert!(is_reset(&end), "{end:?}");
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
    assert_eq!(proxy.metric("apiproxy_clients_refused_total", &[]).to_string(), "3");
    proxy.wait_log("clients are refused");
    assert_eq!(proxy.log_text().matches("clients are refused").count(), 1, "one line for them all");
    for connection in &mut held {
        client.name(connection).unwrap();
    }
    held.pop();
    // The proxy has to hear of the end first.
    let start = Instant::now();
    wait_for("a client is served again", Duration::from_secs(2), || client.ask().ok());
    report(&format!("after one closed, another is served within {:?}", start.elapsed()));
    for connection in &mut held {
        client.name(connection).unwrap();
    }
}

#[test]
fn a_limit_of_open_files_that_leaves_room_for_nobody_is_refused_with_what_to_do() {
    if !common::has_program("prlimit") {
        skip!("prlimit is not there to limit a process");
    }
    let run = |limit: usize, level: &str| {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).arg(common::program());
        command.args([
            "run",
            "-b",
            "127.0.0.1:1",
            "--insecure-skip-verify",
            "--control-socket",
            "",
        ]);
        command.args(["-l", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-level", level]);
        command.stdin(std::process::Stdio::null());
        command
    };
    let refused = common::outcome(&mut run(120, "error"));
    refused.refused(1, "the limit of open files (120) leaves room for 0 connections");
    refused.refused(1, "LimitNOFILE=65536");
    // At the floor it serves.
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = run(384, "info");
    let _child = common::Running(command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    wait_for("it serves", Duration::from_secs(10), || {
        fs::read_to_string(&log).unwrap().contains("serving").then_some(())
    });
    assert!(fs::read_to_string(&log).unwrap().contains("max=64"), "and says how many it serves");
}

/// Sets the limit of open files of a running process.
fn limit_files(proxy: &Proxy, limit: usize) {
    let pid = format!("--pid={}", proxy.child.id());
    common::run(Command::new("prlimit").arg(pid).arg(format!("--nofile={limit}:20000")));
}

/// The limit that leaves room for so many files more while no probe is under way. What the process
/// inherited may have high numbers, so it is counted from below.
fn limit_for(proxy: &Proxy, room: usize) -> usize {
    let folder = format!("/proc/{}/fd", proxy.child.id());
    let is_free = |number: &usize| fs::symlink_metadata(format!("{folder}/{number}")).is_err();
    let limit = || (0..).filter(is_free).nth(room).unwrap();
    // Longer than from one probe to the next.
    let end = Instant::now() + Duration::from_millis(500);
    let mut least = limit();
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
        least = least.min(limit());
    }
    least
}

/// Waits until files are as short as that leaves them. The proxy cannot be asked: that takes a file.
fn wait_shortage(proxy: &Proxy, room: usize, crowd: &[TcpStream]) {
    match room {
        0 => {
            proxy.wait_log("cannot accept clients");
            proxy.wait_log("this host cannot probe");
        }
        // Who is let in takes the last one, and none is left to connect to a backend.
        1 => {
            for stream in crowd {
                stream.set_nonblocking(true).unwrap();
            }
            wait_for("a client is reset for want of files", Duration::from_secs(10), || {
                crowd.iter().any(|stream| is_reset(&stream.peek(&mut [0]))).then_some(())
            });
        }
        // A probe or a client has them, whoever comes first.
        _ => {}
    }
}

/// The processor time of a process so far, of a hundredth of a second each.
fn ticks(proxy: &Proxy) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", proxy.child.id())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, the 14th and 15th field; the first two have been cut off.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_shortage_of_file_descriptors_is_survived_without_blaming_a_backend() {
    if !common::has_program("prlimit") {
        skip!("prlimit is not there to limit a running process");
    }
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("interval: 200ms, fastInterval: 100ms,", "");
    let client = cluster.client(&proxy);
    let mut held: Vec<_> = (0..4).map(|_| client.open().unwrap()).collect();
    let states = || proxy.log_text().matches("backend state").count();
    wait_for("both became ready", Duration::from_secs(5), || (states() == 2).then_some(()));
    for room in [0, 1, 2, 3] {
        limit_files(&proxy, limit_for(&proxy, room));
        // More than it can accept, at once and for a while.
        let crowd: Vec<_> = (0..50).map(|_| TcpStream::connect(proxy.listen).unwrap()).collect();
        wait_shortage(&proxy, room, &crowd);
        let before = ticks(&proxy);
        thread::sleep(Duration::from_secs(2));
        let used = ticks(&proxy) - before;
        report(&format!(
            "room for {room} files, 50 clients: {} % of a processor for 2 s",
            used / 2
        ));
        assert!(used < 50, "it spins: {used} of 200 hundredths of a second");
        for connection in &mut held {
            client.name(connection).unwrap();
        }
        drop(crowd);
        limit_files(&proxy, 20_000);
        let start = Instant::now();
        wait_for("clients are served again", Duration::from_secs(5), || client.ask().ok());
        report(&format!("files again: served within {:?}", start.elapsed()));
    }
    let errors = proxy.metric("apiproxy_accept_errors_total", &[]);
    let local = proxy.metric("apiproxy_connections_total", &["local"]);
    let probes = proxy.metric("apiproxy_probes_total", &["local"]);
    report(&format!(
        "failed for want of files: {errors} accepts, {local} connects, {probes} probes"
    ));
    assert!(errors >= 1.0 && local >= 1.0 && probes >= 1.0, "nothing was short");
    assert_eq!(states(), 2, "a state changed");
    for backend in proxy.status().backends {
        assert_eq!((backend.state.as_str(), backend.connect_failures_total), ("ready", 0));
    }
}

#[test]
fn a_crowd_that_asks_nothing_does_not_keep_the_admin_endpoint_busy() {
    const CROWD: usize = 600;
    let cluster = Cluster::new(1);
    let proxy = cluster.proxy("", "");
    let open = |number: usize| {
        let mut stream = TcpStream::connect(proxy.admin).unwrap();
        // Every other one begins a request that it does not end.
        if number.is_multiple_of(2) {
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").unwrap();
        }
        stream
    };
    let mut crowd: Vec<_> = (0..CROWD).map(open).collect();
    let mut worst = Duration::ZERO;
    for round in 0..10 {
        let start = Instant::now();
        assert_eq!(common::http_get(proxy.admin, "/livez"), (200, "ok\n".to_owned()));
        worst = worst.max(start.elapsed());
        crowd.extend((0..CROWD / 10).map(|number| open(number + round)));
    }
    report(&format!("/livez behind {CROWD} half-open clients: {worst:?} at most"));
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    let files = fs::read_dir(format!("/proc/{}/fd", proxy.child.id())).unwrap().count();
    assert!(files < 150, "{files} descriptors are open");
    proxy.wait_log("has lost its seat to another one");
    // Also those who have a seat lose it soon.
    let start = Instant::now();
    for stream in &mut crowd {
        let end = read_to_end(stream, Duration::from_secs(5));
        assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "held");
    }
    report(&format!("the last of them was let go after {:?}", start.elapsed()));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
