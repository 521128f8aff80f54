//! What the released program takes: the static binary, with thousands of idle connections.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{Echo, Proxy, backend_lines, report, wait_for};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CONNECTIONS: usize = 4000;

/// Ends of the connections in this process: the client's and the server's.
const FILES: u64 = 2 * CONNECTIONS as u64 + 500;

/// Resident memory at start, KiB, with health checks and admin on.
const MOST_AT_START: u64 = 6 * 1024;

/// What an idle connection may take, in bytes: 1.8 KiB.
const MOST_EACH: u64 = 1843;

const LONG: Duration = Duration::from_secs(30);

/// Resident memory in KiB.
fn resident(proxy: &Proxy) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn open_files(proxy: &Proxy) -> usize {
    fs::read_dir(format!("/proc/{}/fd", proxy.child.id())).unwrap().count()
}

fn connect(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.listen).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"ping").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"!ping");
    stream
}

#[test]
fn idle_connections_cost_little_and_leave_nothing_behind() {
    let Some(program) = common::released() else {
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        skip!("no release binary; build it: cargo build --release --target {target}");
    };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if maximum.is_some_and(|maximum| maximum < FILES) {
        skip!("the limit of open files is {maximum:?}, and {FILES} are needed");
    }
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let servers = [b'!', b'!', b'!'].map(Echo::start);
    let config = "healthCheck: { type: tcp, interval: 200ms }\n".to_owned()
        + &backend_lines(&servers.each_ref().map(|server| server.address));
    let proxy = Proxy::start_program(&program, folder.path(), &config, &[]);
    proxy.wait_ready(3);
    // One every 200 ms at each of three.
    wait_for("several probes", LONG, || {
        (proxy.metric("apiproxy_probes_total", &[]) >= 18.0).then_some(())
    });
    drop(connect(&proxy));
    let at_start = resident(&proxy);
    wait_for("the first connection is over", LONG, || {
        proxy.status().backends.iter().all(|backend| backend.connections == 0).then_some(())
    });
    let files = open_files(&proxy);

    let connections: Vec<_> = (0..CONNECTIONS).map(|_| connect(&proxy)).collect();
    let carried: usize = proxy.status().backends.iter().map(|backend| backend.connections).sum();
    assert_eq!(carried, CONNECTIONS);
    let loaded = resident(&proxy);
    let bytes = (loaded.saturating_sub(at_start)) * 1024 / CONNECTIONS as u64;
    report(&format!(
        "resident: {at_start} KiB at start, {loaded} KiB with {CONNECTIONS} idle connections: \
         {bytes} bytes each"
    ));
    drop(connections);
    wait_for("all connections are over", LONG, || {
        proxy.status().backends.iter().all(|backend| backend.connections == 0).then_some(())
    });
    // A probe or an answer to us may be under way.
    wait_for("all files are closed", LONG, || (open_files(&proxy) <= files).then_some(()));
    report(&format!("resident: {} KiB when all are closed", resident(&proxy)));
    assert!(at_start <= MOST_AT_START, "{at_start} KiB");
    assert!(bytes <= MOST_EACH, "{bytes} bytes a connection");
}
