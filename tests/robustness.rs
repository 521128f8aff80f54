//! What a hostile or broken surrounding must not do to the proxy: a log that nobody reads, a backend
//! that swallows connections, admin clients that never read, a bundle with a strange CA.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Cluster, Running, free_port, http_get, wait_for};

const LONG: Duration = Duration::from_secs(15);

/// `apiproxy run` whose standard error goes where the test says.
fn start(
    cluster: &Cluster,
    stderr: impl Into<Stdio>,
    more: &[&str],
) -> (Running, SocketAddr, SocketAddr) {
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new(common::program());
    command.args(["run", "--log-level", "trace", "--listen"]);
    command.arg(listen.to_string());
    command.args(["--admin-listen", &admin.to_string(), "--ca-file"]).arg(cluster.ca_file());
    for server in &cluster.servers {
        command.args(["--backend", &server.address().to_string()]);
    }
    let child: Child = command.args(more).stderr(stderr).spawn().unwrap();
    wait_for("it serves", LONG, || TcpStream::connect(admin).ok());
    (Running(child), listen, admin)
}

/// Waits until so many backends are ready.
fn wait_ready(admin: SocketAddr, count: usize) {
    wait_for("backends are ready", LONG, || {
        let status: serde_json::Value =
            serde_json::from_str(&http_get(admin, "/status").1).unwrap();
        let backends = status["backends"].as_array().unwrap();
        (backends.iter().filter(|b| b["state"] == "ready").count() == count).then_some(())
    });
}

/// It notices changes, says that it lives, and ends in order.
fn is_alive(cluster: &Cluster, mut proxy: Running, listen: SocketAddr, admin: SocketAddr) {
    wait_ready(admin, 2);
    cluster.server("cp1").crash();
    // A client that meets it raises the doubt.
    wait_for("a change is noticed", LONG, || {
        drop(TcpStream::connect(listen).unwrap());
        http_get(admin, "/status").1.contains("\"state\":\"dead\"").then_some(())
    });
    cluster.server("cp1").restart().unwrap();
    wait_ready(admin, 2);
    assert_eq!(http_get(admin, "/livez").0, 200);
    common::send_signal(proxy.0.id(), 15);
    let status = wait_for("it ends", LONG, || proxy.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn a_log_reader_that_is_gone_stops_nothing() {
    let cluster = Cluster::new(2);
    let (proxy, listen, admin) = start(&cluster, Stdio::piped(), &[]);
    let mut proxy = proxy;
    drop(proxy.0.stderr.take());
    is_alive(&cluster, proxy, listen, admin);
}

#[test]
fn a_log_reader_that_is_stuck_stops_nothing() {
    let cluster = Cluster::new(2);
    // The pipe is full after 64 KiB of trace lines: each scrape writes some.
    let (proxy, listen, admin) = start(&cluster, Stdio::piped(), &[]);
    for _ in 0..500 {
        http_get(admin, "/livez");
    }
    is_alive(&cluster, proxy, listen, admin);
}

#[test]
fn a_full_disk_under_the_log_stops_nothing() {
    let cluster = Cluster::new(2);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (proxy, listen, admin) = start(&cluster, full, &[]);
    is_alive(&cluster, proxy, listen, admin);
}

/// A listener that nobody accepts from and whose backlog is full: it swallows SYNs.
fn black_hole() -> (TcpListener, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let listener: TcpListener = socket.into();
    let address = listener.local_addr().unwrap();
    let filling = (0..8).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address.into());
        socket
    });
    let filling = filling.collect();
    (listener, filling)
}

#[test]
fn hedging_at_once_neither_spins_nor_outlives_the_timeout_or_the_second_signal() {
    let (hole, _filling) = black_hole();
    let folder = tempfile::tempdir().unwrap();
    let mut proxy = common::Proxy::start(
        folder.path(),
        &format!(
            "healthCheck: {{ type: tcp }}\nconnect: {{ timeout: 5s, hedgeAfter: 0s }}\n\
             backends: [{{ address: \"{}\" }}]\n",
            hole.local_addr().unwrap()
        ),
    );
    let ticks = |proxy: &common::Proxy| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", proxy.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks(&proxy);
    let mut client = TcpStream::connect(proxy.listen).unwrap();
    let start = Instant::now();
    client.set_read_timeout(Some(LONG)).unwrap();
    assert!(client.read(&mut [0]).is_err(), "reset");
    let after = start.elapsed();
    assert!(after < Duration::from_secs(6), "{after:?}");
    let used = ticks(&proxy) - before;
    assert!(used < 50, "{used} hundredths of a second of CPU in 5 s");
    let _waiting = TcpStream::connect(proxy.listen).unwrap();
    proxy.signal(15);
    std::thread::sleep(Duration::from_millis(200));
    proxy.signal(15);
    let start = Instant::now();
    assert!(proxy.wait_end(LONG).success());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn admin_clients_that_never_read_do_not_keep_others_out() {
    let cluster = Cluster::new(1);
    let proxy = cluster.proxy("", "");
    proxy.wait_ready(1);
    let mut greedy = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(proxy.admin).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000);
        let _ = stream.write_all(request.as_bytes());
        greedy.push(stream);
    }
    let start = Instant::now();
    let code = wait_for("somebody else is answered", 2 * LONG, || {
        std::panic::catch_unwind(|| http_get(proxy.admin, "/livez").0).ok()
    });
    assert_eq!(code, 200);
    common::report(&format!(
        "behind 80 greedy admin clients: answered after {:?}",
        start.elapsed()
    ));
}

#[test]
fn one_strange_certificate_does_not_disable_a_bundle() {
    let cluster = Cluster::new(1);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(cluster.ca_file(), cluster.authority.pem() + garbage).unwrap();
    let proxy = cluster.proxy("", "");
    proxy.wait_ready(1);
}
