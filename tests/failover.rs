//! What clients of the proxy notice when backends crash, hang or all fail.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use apiproxy::demo::ApiServer;
use common::{ANY_PORT, Client, Cluster, Proxy, Running, is_reset, read_to_end, report, wait_for};
use socket2::{Domain, Socket, Type};

/// The first bytes of a TLS record: a server waits for the rest.
const HELLO: &[u8] = &[0x16, 0x03, 0x01];

fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The longest of some durations, and all but the worst tenth of them: a busy machine may stall a
/// process for longer than what is measured here takes.
fn longest(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() - 1], times[(times.len() - 1) * 9 / 10])
}

#[test]
fn after_a_crash_the_next_connection_is_served_within_200_ms() {
    let cluster = Cluster::new(3);
    let proxy = cluster.proxy("", "");
    let client = cluster.client(&proxy);
    let mut times = Vec::new();
    for round in 0..10 {
        let server = &cluster.servers[round % 3];
        server.crash();
        for _ in 0..3 {
            let start = Instant::now();
            assert_ne!(client.ask().unwrap(), server.name());
            times.push(start.elapsed());
        }
        server.restart().unwrap();
    }
    let (longest, most) = longest(times);
    report(&format!("a new connection after a crash is served within {longest:?}, 90% {most:?}"));
    assert!(most < millis(200) && longest < millis(1000));
}

#[test]
fn a_server_process_killed_with_sigkill_is_survived_within_200_ms() {
    if !common::has_program("python3") {
        skip!("python3 is not there to serve HTTP");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut servers = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let port = common::free_port();
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]);
        command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        servers.push(Running(command.spawn().unwrap()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_for("python serves", Duration::from_secs(20), || TcpStream::connect(address).ok());
        addresses.push(address);
    }
    let config = "healthCheck: { type: tcp, interval: 1s }\n".to_owned();
    let config = config + &common::backend_lines(&addresses);
    let proxy = Proxy::start(folder.path(), &config);
    proxy.wait_ready(2);
    servers[0].0.kill().unwrap();
    servers[0].0.wait().unwrap();
    let mut times = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        assert_eq!(common::http_get(proxy.listen, "/").0, 200);
        times.push(start.elapsed());
    }
    let (longest, most) = longest(times);
    report(&format!("after SIGKILL: served within {longest:?}, 90% {most:?}"));
    assert!(most < millis(200) && longest < millis(1000));
}

#[test]
fn a_hang_costs_busy_clients_less_than_three_seconds() {
    let cluster = Cluster::new(3);
    // The default check, so that what is measured is what users get.
    let proxy = cluster.proxy("", "");
    let load = cluster.load(&proxy);
    let enough = |ok| (load.stats().ok >= ok).then(|| load.stats());
    let before = wait_for("requests go through", Duration::from_secs(10), || enough(10));
    let hung = before.last_server.clone().unwrap();
    cluster.server(&hung).hang();
    let after = wait_for("requests go through again", Duration::from_secs(10), || {
        load.stats().servers.keys().any(|name| *name != hung).then(|| load.stats())
    });
    report(&format!("a hung server: the longest outage is {:?}", after.longest_outage));
    assert!(after.longest_outage < Duration::from_secs(3), "{after:?}");
    assert_eq!((after.dials, after.failed), (2, 1), "{after:?}");
    let labels = [hung.as_str(), "backendDead"];
    assert_eq!(proxy.metric("apiproxy_connections_closed_total", &labels).to_string(), "1");
}

#[test]
fn a_connection_opened_to_a_hanging_server_is_reset_too() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("", "");
    let client = cluster.client(&proxy);
    let mut held = client.open().unwrap();
    // The next connection goes to the server that has none.
    let idle = cluster.other(&client.name(&mut held).unwrap());
    idle.hang();
    let mut stream = TcpStream::connect(proxy.listen).unwrap();
    let start = Instant::now();
    std::io::Write::write_all(&mut stream, HELLO).unwrap();
    let end = read_to_end(&mut stream, Duration::from_secs(10));
    let time = start.elapsed();
    report(&format!("a connection opened to a hung server is reset after {time:?}"));
    assert!(is_reset(&end), "{end:?}");
    assert!(time < Duration::from_secs(3), "{time:?}");
    assert!(time > millis(1000), "it was not given a second: {time:?}");
    client.name(&mut held).unwrap();
}

#[test]
fn nothing_is_reset_while_there_is_nowhere_better_to_go() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("interval: 500ms,", "");
    let load = cluster.load(&proxy);
    let ok = |more: u64| (load.stats().ok >= more).then_some(());
    wait_for("requests go through", Duration::from_secs(10), || ok(5));
    let serving = load.stats().last_server.unwrap();
    // The idle one first: until it is known to be dead, it is somewhere better.
    for server in [cluster.other(&serving), cluster.server(&serving)] {
        server.hang();
        proxy.wait_state(server.name(), "dead", Duration::from_secs(10));
    }
    let before = load.stats().ok;
    // Longer than what ends a connection when there is another server.
    std::thread::sleep(Duration::from_secs(11));
    cluster.server(&serving).resume();
    wait_for("the request is answered after all", Duration::from_secs(5), || ok(before + 2));
    let stats = load.stats();
    assert_eq!((stats.dials, stats.failed), (1, 0), "{stats:?}");
}

#[test]
fn a_silent_watch_of_a_hung_server_is_reset_5_to_12_seconds_after_its_death() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("interval: 1s,", "");
    let client = cluster.client(&proxy);
    for server in &cluster.servers {
        server.bookmark_every(Duration::from_hours(1));
    }
    let mut watches = Vec::new();
    for _ in 0..4 {
        let mut connection = client.open_to("cp1");
        let watch = client.watch(&mut connection);
        watches.push((connection, watch));
    }
    cluster.server("cp1").hang();
    proxy.wait_state("cp1", "dead", Duration::from_secs(10));
    let dead = Instant::now();
    let mut cut = Vec::new();
    while cut.len() < 4 {
        assert!(dead.elapsed() < Duration::from_secs(20), "cut so far: {cut:?}");
        watches.retain_mut(|(_, watch)| {
            let event = client.event(watch, millis(10));
            let waits = event.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::TimedOut);
            assert!(event.is_err(), "the watch was to be silent");
            if !waits {
                cut.push(dead.elapsed());
            }
            waits
        });
    }
    report(&format!("silent watches of a dead server are reset after {cut:?}"));
    let right = Duration::from_secs_f64(4.5)..Duration::from_secs(12);
    assert!(cut.iter().all(|time| right.contains(time)), "{cut:?}");
}

/// A listener whose queue is full: SYNs to it are dropped, as by a host that is gone.
struct Blackhole {
    address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl Blackhole {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&ANY_PORT.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        while sockets.len() < 20 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let full = socket.connect_timeout(&address, millis(300)).is_err();
            sockets.push(socket);
            if full {
                return Self { address: address.as_socket().unwrap(), _sockets: sockets };
            }
        }
        panic!("a queue of length 0 takes 20 connections");
    }
}

/// How long connections are held before they are reset.
fn refusal_times(proxy: &Proxy) -> (Duration, Duration) {
    let times = (0..10).map(|_| {
        let start = Instant::now();
        let mut stream = TcpStream::connect(proxy.listen).unwrap();
        let end = read_to_end(&mut stream, Duration::from_secs(10));
        assert!(is_reset(&end), "{end:?}");
        start.elapsed()
    });
    longest(times.collect())
}

#[test]
fn with_all_servers_dead_a_client_is_reset_at_once_and_served_again_within_a_second() {
    let cluster = Cluster::new(3);
    let proxy = cluster.proxy("interval: 1s,", "");
    let client = cluster.client(&proxy);
    cluster.servers.iter().for_each(ApiServer::crash);
    let (longest, most) = refusal_times(&proxy);
    report(&format!("all refuse: clients are reset within {longest:?}, 90% {most:?}"));
    assert!(most < millis(100), "{most:?}");
    for server in &cluster.servers {
        proxy.wait_state(server.name(), "dead", Duration::from_secs(10));
    }
    let (longest, most) = refusal_times(&proxy);
    report(&format!("all are dead: clients are reset within {longest:?}, 90% {most:?}"));
    assert!(most < millis(100), "{most:?}");
    cluster.servers[1].restart().unwrap();
    let start = Instant::now();
    assert_eq!(client.ask().unwrap(), "cp2");
    report(&format!("back again: served within {:?}", start.elapsed()));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn with_all_servers_unreachable_a_client_is_held_for_connect_timeout_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let holes = [Blackhole::new(), Blackhole::new()];
    let config = "healthCheck: { type: tcp }\nconnect: { timeout: 500ms }\n".to_owned();
    let config = config + &common::backend_lines(&holes.each_ref().map(|hole| hole.address));
    let proxy = Proxy::start(folder.path(), &config);
    let (longest, most) = refusal_times(&proxy);
    report(&format!("all swallow SYNs, timeout 500 ms: reset within {longest:?}, 90% {most:?}"));
    assert!(most < millis(600), "{most:?}");
    assert!(proxy.metric("apiproxy_clients_unserved_total", &[]) >= 10.0);
}

#[test]
fn a_server_that_swallows_syns_is_hedged() {
    let cluster = Cluster::new(1);
    let hole = Blackhole::new();
    let lines =
        cluster.lines("") + &format!("  - {{ name: hole, address: \"{}\" }}\n", hole.address);
    let proxy = Proxy::start(cluster.folder.path(), &lines);
    proxy.wait_ready(1);
    let client: Client = cluster.client(&proxy);
    for _ in 0..10 {
        let start = Instant::now();
        assert_eq!(client.ask().unwrap(), "cp1");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[test]
fn with_all_servers_not_ready_clients_are_served_all_the_same() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("interval: 500ms,", "");
    let client = cluster.client(&proxy);
    for server in &cluster.servers {
        server.ready(false);
    }
    for server in &cluster.servers {
        proxy.wait_state(server.name(), "notReady", Duration::from_secs(10));
    }
    let mut names: Vec<_> = (0..20).map(|_| client.ask().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["cp1", "cp2"]);
    assert_eq!(common::http_get(proxy.admin, "/readyz").0, 503);
}

#[test]
fn a_dns_name_is_a_backend() {
    let cluster = Cluster::new(0);
    let server = ApiServer::start("named", &cluster.authority.server().unwrap(), ANY_PORT).unwrap();
    let port = server.address().port();
    let lines = cluster.lines("") + &format!("  - address: \"localhost:{port}\"\n");
    let proxy = Proxy::start(cluster.folder.path(), &lines);
    proxy.wait_ready(1);
    let backend = proxy.status().backends.remove(0);
    assert_eq!(backend.address, format!("localhost:{port}"));
    assert!(backend.resolved.contains(&server.address()), "{:?}", backend.resolved);
    let client = cluster.client(&proxy);
    for _ in 0..10 {
        assert_eq!(client.ask().unwrap(), "named");
    }
}
