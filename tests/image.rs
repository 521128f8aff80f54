//! `apiproxy image`: what it refuses, that it is reproducible, that containerd runs it, and that its
//! containers take over from each other.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;
#[path = "image/containerd.rs"]
mod containerd;
#[path = "image/overlap.rs"]
mod overlap;
#[path = "handover/traffic.rs"]
mod traffic;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use apiproxy::demo::{Dialer, Load, LoadOptions};
use common::{ANY_PORT, Cluster, apiproxy, backend_lines, free_port, report, run, wait_for};
use containerd::Containerd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LONG: Duration = Duration::from_mins(1);

/// The pod's limit, and the connections and bytes that must fit into it.
const MEMORY: u64 = 32 << 20;
const CONNECTIONS: usize = 2000;

/// Both ends of the connections are in this process; the proxy has as many.
const FILES: u64 = 2 * CONNECTIONS as u64 + 500;
const STREAMS: usize = 16;
const BULK: u64 = 128 << 20;

#[test]
fn a_dynamic_program_is_refused_with_what_to_do() {
    if cfg!(target_env = "musl") {
        return;
    }
    let outcome = apiproxy(&["image", "--output", "-"]);
    outcome.refused(1, "is linked dynamically and cannot run on an empty base");
    outcome.refused(1, "cargo build --release --target");
    apiproxy(&["image", "--tag", "Not A Name"]).refused(2, "is no name of an image");
}

#[test]
fn the_archive_is_small_and_the_same_each_time() {
    let Some(program) = common::released() else { skip!("no static release binary") };
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.tar"), folder.path().join("b.tar"));
    run(Command::new(&program).args(["image", "--output"]).arg(&first));
    // Another name of the program, another time, another umask.
    let copy = folder.path().join("renamed");
    common::copy_program(&program, &copy);
    thread::sleep(Duration::from_millis(1100));
    let script = "umask 077; exec \"$0\" image > \"$1\"";
    run(Command::new("sh").args(["-c", script]).args([&copy, &second]));
    let (first, second) = (fs::read(first).unwrap(), fs::read(second).unwrap());
    assert!(first == second, "the archives differ");
    report(&format!("image archive: {} bytes", first.len()));
    assert!(first.len() < 8 << 20, "{} bytes", first.len());
    let elsewhere =
        Command::new(&program).args(["image", "-o", "/nowhere/a.tar"]).output().unwrap();
    assert_eq!(elsewhere.status.code(), Some(1));
    let text = String::from_utf8(elsewhere.stderr).unwrap();
    assert!(text.contains("cannot write /nowhere/a.tar"), "{text}");
}

#[test]
fn containerd_runs_it_as_nobody_and_it_serves() {
    let Some(program) = common::released() else { skip!("no static release binary") };
    let containerd = match Containerd::start() {
        Ok(containerd) => containerd,
        Err(why) => skip!("{why}"),
    };
    containerd.import(&program);
    let cluster = Cluster::new(3);
    let (listen, admin) = addresses();
    let config = config(&cluster.lines(""), listen, admin);
    let files = [("config.yaml", config.as_str()), ("ca.crt", &cluster.authority.pem())];
    let container = containerd.run("traffic", &[], &files);
    let options = LoadOptions {
        period: Duration::from_millis(20),
        timeout: Duration::from_secs(10),
        watches: 3,
    };
    let dialer = Dialer::new(listen, &cluster.authority, None).unwrap();
    wait_for("it is ready", LONG, || ready(admin).then_some(()));
    let load = Load::start(dialer, options).unwrap();
    wait_for("500 answers", LONG, || (load.stats().ok >= 500).then_some(()));
    assert_eq!(load.stats().failed, 0, "{:?}", load.stats());
    // As nobody, and not dumpable: its own figures are still within its reach.
    let metrics = common::http_get(admin, "/metrics").1;
    for name in ["process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"]
    {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        assert!(!line.ends_with(" 0"), "{line}");
    }
    let status = container.proc("status");
    for line in ["Uid:\t65532\t65532\t65532\t65532", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"]
    {
        assert!(status.contains(line), "no {line:?} in {status}");
    }
    // Under the runtime's own profile too; whether that lets Landlock in is its affair.
    let log = container.log();
    let closed_in = log.lines().find(|line| line.contains("closed in in_force")).unwrap();
    report(&format!("in the container: {closed_in}"));
    assert!(closed_in.contains("system calls") && closed_in.contains("no new privileges"));
    assert_eq!(container.stop(), Some(0), "{}", container.log());
}

#[test]
fn the_memory_limit_of_the_pod_holds_under_load() {
    let Some(program) = common::released() else { skip!("no static release binary") };
    let containerd = match Containerd::start() {
        Ok(containerd) => containerd,
        Err(why) => skip!("{why}"),
    };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if maximum.is_some_and(|maximum| maximum < FILES) {
        skip!("the limit of open files is {maximum:?}, and {FILES} are needed");
    }
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    containerd.import(&program);
    let servers: Vec<SocketAddr> = (0..3).map(|_| bulk_server()).collect();
    let (listen, admin) = addresses();
    let lines = "healthCheck: { type: tcp, interval: 1s }\n".to_owned() + &backend_lines(&servers);
    let limit = MEMORY.to_string();
    let config = config(&lines, listen, admin);
    let container =
        containerd.run("memory", &["--memory-limit", &limit], &[("config.yaml", &config)]);
    wait_for("it is ready", LONG, || ready(admin).then_some(()));
    let Some(memory) = container.memory() else { skip!("no cgroup of memory for the container") };
    assert_eq!(memory.limit, MEMORY);
    let idle: Vec<_> = (0..CONNECTIONS - STREAMS).map(|_| ask(listen, 1)).collect();
    let bulk: Vec<_> =
        (0..STREAMS).map(|_| thread::spawn(move || drain(ask(listen, BULK), BULK - 1))).collect();
    for stream in bulk {
        stream.join().unwrap();
    }
    let after = container.memory().unwrap();
    report(&format!(
        "container with {CONNECTIONS} connections and {} MiB of bulk: {} KiB of memory at most, limit {} KiB, {} \
         times at the limit, {} killed",
        STREAMS as u64 * (BULK >> 20),
        after.peak >> 10,
        after.limit >> 10,
        after.at_limit,
        after.killed
    ));
    assert_eq!(after.killed, 0);
    assert!(ready(admin), "{}", container.log());
    for mut stream in idle {
        stream.write_all(&2_u64.to_be_bytes()).unwrap();
        drain(stream, 2);
    }
    assert_eq!(container.stop(), Some(0), "{}", container.log());
}

fn addresses() -> (SocketAddr, SocketAddr) {
    let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    (address(), address())
}

fn config(lines: &str, listen: SocketAddr, admin: SocketAddr) -> String {
    let lines = lines.lines().map(|line| match line.split_once("caFile: \"") {
        // The container sees the folder elsewhere.
        Some((before, _)) => format!("{before}caFile: \"/etc/apiproxy/ca.crt\" }} }}\n"),
        None => format!("{line}\n"),
    });
    format!(
        "apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\nlisten: [\"{listen}\"]\n\
         connections: {{ drainTimeout: 1s }}\nadmin: {{ listen: \"{admin}\" }}\n{}",
        lines.collect::<String>()
    )
}

fn ready(admin: SocketAddr) -> bool {
    TcpStream::connect(admin).is_ok() && common::http_get(admin, "/readyz").0 == 200
}

/// A server that sends as many bytes as it is asked for, again and again.
fn bulk_server() -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = move || -> std::io::Result<()> {
                let mut stream = stream?;
                let chunk = vec![7; 1 << 16];
                loop {
                    let mut count = [0; 8];
                    stream.read_exact(&mut count)?;
                    let mut left = u64::from_be_bytes(count);
                    while left > 0 {
                        let part = left.min(chunk.len() as u64);
                        stream.write_all(&chunk[..usize::try_from(part).unwrap_or(0)])?;
                        left -= part;
                    }
                }
            };
            // A probe comes and goes without a word.
            thread::Builder::new().stack_size(128 << 10).spawn(answer).unwrap();
        }
    });
    address
}

/// Asks for so many bytes, and waits for the first.
fn ask(proxy: SocketAddr, bytes: u64) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(&bytes.to_be_bytes()).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

fn drain(mut stream: TcpStream, mut left: u64) {
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = stream.read(&mut buffer[..want]).unwrap();
        assert!(count > 0, "the stream ended {left} bytes early");
        assert!(buffer[..count].iter().all(|byte| *byte == 7));
        left -= count as u64;
    }
}
