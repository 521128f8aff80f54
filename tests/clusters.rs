//! One process serves several clusters, each on a port of its own, and none has to do with another.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;
#[path = "reload/load.rs"]
mod load;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use apiproxy::demo::Dialer;
use common::{Cluster, Proxy, Running, apiproxy, free_port, http_get, program, report, wait_for};
use load::Load;

const LONG: Duration = Duration::from_secs(20);

/// A cluster with its name and the port where the proxy serves it.
struct Served {
    name: &'static str,
    cluster: Cluster,
    listen: SocketAddr,
}

impl Served {
    fn new(name: &'static str, servers: usize) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self { name, cluster: Cluster::new(servers), listen }
    }

    /// Its item of `clusters`, with the first so many servers.
    fn item(&self, servers: usize) -> String {
        let ca = self.cluster.ca_file();
        let mut text = format!(
            "- name: {}\n  listen: [\"{}\"]\n  healthCheck: {{ tls: {{ caFile: \"{}\" }} }}\n  backends:\n",
            self.name,
            self.listen,
            ca.display()
        );
        for server in &self.cluster.servers[..servers] {
            let (name, address) = (server.name(), server.address());
            let _infallible = writeln!(text, "  - {{ name: {name}, address: \"{address}\" }}");
        }
        text
    }

    fn all(&self) -> String {
        self.item(self.cluster.servers.len())
    }

    /// The name of a server that a new connection reaches. Its certificate is checked, which is of
    /// this cluster's CA and no other's.
    fn ask(&self) -> std::io::Result<String> {
        self.cluster.client_at(self.listen).ask()
    }

    fn load(&self) -> Load {
        Load::start(Dialer::new(self.listen, &self.cluster.authority, None).unwrap())
    }

    /// How long so many requests take, each on a new connection: the median and the longest.
    fn times(&self, count: usize) -> (Duration, Duration) {
        let client = self.cluster.client_at(self.listen);
        let mut times: Vec<_> = (0..count)
            .map(|_| {
                let start = Instant::now();
                client.ask().unwrap();
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        (times[count / 2], times[count - 1])
    }
}

fn text(admin: SocketAddr, control: &std::path::Path, items: &[String]) -> String {
    format!(
        "apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\n\
         admin: {{ listen: \"{admin}\", controlSocket: \"{}\" }}\n\
         hardening: {{ enabled: false }}\n\
         healthCheck: {{ interval: 500ms, fastInterval: 100ms }}\n\
         connections: {{ drainTimeout: 5s }}\nrebalance: {{ quietFor: 60ms }}\n\
         clusters:\n{}",
        control.display(),
        items.concat()
    )
}

fn start(folder: &std::path::Path, first: &Served, items: &[String]) -> Proxy {
    let with_clusters = |admin, control: &std::path::Path| text(admin, control, items);
    Proxy::start_text(&program(), folder, first.listen, with_clusters, &[])
}

fn command(proxy: &Proxy, arguments: &[&str]) -> common::Outcome {
    let control = proxy.control.to_str().unwrap();
    apiproxy(&[arguments, &["--control-socket", control]].concat())
}

/// A reload says this; the proxy looks at its file by itself too, and may have been there before.
#[track_caller]
fn assert_told(outcome: &common::Outcome, text: &str) {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let told = outcome.stdout.contains(text) || outcome.stdout == "nothing has changed\n";
    assert!(told, "{outcome:?}");
}

/// One external host, two clusters: each port reaches its own; a dead cluster does not disturb the other.
#[test]
fn a_dead_cluster_does_not_disturb_the_other() {
    let (east, west) = (Served::new("east", 2), Served::new("west", 2));
    let folder = tempfile::tempdir().unwrap();
    let proxy = start(folder.path(), &east, &[east.all(), west.all()]);
    proxy.wait_ready(4);
    for served in [&east, &west] {
        served.ask().unwrap();
    }
    assert!(east.cluster.client_at(west.listen).ask().is_err(), "the other CA's servers are there");
    assert_eq!(http_get(proxy.admin, "/readyz"), (200, "east: ok\nwest: ok\n".to_owned()));
    let load = east.load();
    let before = east.times(200);
    // One hangs and one is gone; their clients come all the same.
    west.cluster.servers[0].hang();
    west.cluster.servers[1].crash();
    let (dead, began) = (west.listen, Instant::now());
    let knocking = std::thread::spawn(move || {
        while began.elapsed() < Duration::from_secs(6) {
            let _refused_or_reset = TcpStream::connect_timeout(&dead, Duration::from_secs(1))
                .and_then(|mut stream| common::read_to_end(&mut stream, Duration::from_secs(1)));
        }
    });
    for backend in ["west/cp1", "west/cp2"] {
        proxy.wait_state(backend, "dead", LONG);
    }
    let during = east.times(200);
    knocking.join().unwrap();
    let sums = load.end();
    report(&format!(
        "a request at the live cluster, median and longest: {before:?} before, {during:?} while the other \
         is dead; {} requests, {} moved",
        sums.requests, sums.redials
    ));
    assert!(sums.failures.is_empty(), "{:?}", sums.failures);
    assert_eq!(sums.redials, 0, "no connection of the live cluster was closed");
    // Twice the median, or as much as a busy machine may add.
    assert!(during.0 < before.0 * 2 + Duration::from_millis(20), "{before:?} -> {during:?}");
    let states: Vec<_> = proxy.status().backends.iter().map(|b| b.state.as_str()).collect();
    assert_eq!(states, ["ready", "ready", "dead", "dead"]);
    assert_shown(&proxy, &east);
    // It comes back by itself.
    west.cluster.servers[1].restart().unwrap();
    proxy.wait_state("west/cp2", "ready", LONG);
    assert_eq!(west.ask().unwrap(), "cp2");
}

/// What status, metrics and commands say while `west` is dead.
fn assert_shown(proxy: &Proxy, east: &Served) {
    let lines = "east: ok\nwest: no backend is ready\n".to_owned();
    assert_eq!(http_get(proxy.admin, "/readyz"), (200, lines));
    assert_eq!(http_get(proxy.admin, "/readyz/east").0, 200);
    assert_eq!(http_get(proxy.admin, "/readyz/west").0, 503);
    assert_eq!(http_get(proxy.admin, "/readyz/north").0, 404);
    assert_eq!(http_get(proxy.admin, "/livez").0, 200);
    let status = proxy.status();
    let usable: Vec<_> =
        status.clusters.iter().map(|one| (one.name.as_str(), one.usable)).collect();
    assert_eq!(usable, [("east", true), ("west", false)]);
    assert_eq!(status.clusters[0].listen, [east.listen]);
    let state = |cluster: &str, backend: &str, state: &str| {
        let labels = [("cluster", cluster), ("backend", backend), ("state", state)];
        let labels = labels.map(|(label, value)| format!("{label}=\"{value}\""));
        proxy.metric("apiproxy_backend_state", &[&labels[0], &labels[1], &labels[2]])
    };
    assert_eq!((state("east", "cp1", "ready"), state("west", "cp1", "dead")), (1.0, 1.0));
    for metric in ["apiproxy_connect_seconds_count", "apiproxy_probe_seconds_count"] {
        assert!(proxy.metric(metric, &["cluster=\"east\"", "backend=\"cp1\""]) > 0.0, "{metric}");
    }
    let metrics = proxy.metrics();
    for cluster in ["east", "west"] {
        let unserved = format!("apiproxy_clients_unserved_total{{cluster=\"{cluster}\"}} ");
        let endpoints = format!("apiproxy_endpoints{{cluster=\"{cluster}\",source=\"static\"}} 2");
        assert!(metrics.contains(&unserved) && metrics.contains(&endpoints), "{metrics}");
    }
    let shown = command(proxy, &["status"]);
    assert_eq!(shown.code, Some(1), "a cluster has nothing: {shown:?}");
    let head = format!("  east: 2 of 2 backends ready on {}\n  west: 0 of 2", east.listen);
    assert!(shown.stdout.contains(&head), "{}", shown.stdout);
    // A drain counts the backends of its own cluster.
    let drained = command(proxy, &["drain", "cp1", "--cluster", "east"]);
    assert!(drained.stdout.starts_with("east/cp1 is drained"), "{drained:?}");
    let last = command(proxy, &["drain", "east/cp2"]);
    assert!(last.stderr.contains("0 of 2 backends would be ready without east/cp2"), "{last:?}");
    let unclear = command(proxy, &["drain", "cp1"]);
    assert!(unclear.stderr.contains("write `east/cp1` or `west/cp1`"), "{unclear:?}");
    let unknown = command(proxy, &["undrain", "north/cp1"]);
    assert!(unknown.stderr.contains("the clusters are east, west"), "{unknown:?}");
    assert_eq!(command(proxy, &["undrain", "east/cp1"]).code, Some(0));
    let checked = apiproxy(&["check", "--config", proxy.file.to_str().unwrap()]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stdout.contains("2 of 4 backends are ready: nothing could be served of west."));
}

/// Clusters come, change and go, and those that stay notice nothing.
#[test]
fn a_reload_touches_only_the_clusters_that_change() {
    let served = [Served::new("east", 1), Served::new("west", 2), Served::new("north", 1)];
    let [east, west, north] = &served;
    let folder = tempfile::tempdir().unwrap();
    let proxy = start(folder.path(), east, &[east.all(), west.all()]);
    proxy.wait_ready(3);
    let replace = |items: &[String]| {
        proxy.replace_config(&text(proxy.admin, &proxy.control, items));
        command(&proxy, &["reload"])
    };
    let load = east.load();
    let client = west.cluster.client_at(west.listen);
    let mut held = client.open().unwrap();
    client.name(&mut held).unwrap();

    let added = replace(&[east.all(), west.item(1), north.all()]);
    assert_told(&added, "clusters: +north");
    assert_told(&added, "west: backends: -west/cp2");
    assert_eq!(north.ask().unwrap(), "cp1");

    // What is wrong anywhere is refused as a whole.
    let bad = north.all().replace("north", "east");
    let refused = replace(&[east.all(), bad]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("`east` is also the name of clusters[0]"), "{refused:?}");
    assert_eq!(north.ask().unwrap(), "cp1");
    let one = proxy.config(&east.cluster.lines(""));
    proxy.replace_config(&one);
    let refused = command(&proxy, &["reload"]);
    assert!(refused.stderr.contains("--take-over"), "{refused:?}");
    assert_eq!(proxy.status().clusters.len(), 3);

    // Another cluster takes the place of one, at its port, while clients come.
    let south = Served { name: "south", cluster: Cluster::new(1), listen: north.listen };
    let moved = replace(&[east.all(), west.item(1), south.all()]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    wait_for("its port is the other cluster's", LONG, || south.ask().ok());
    for _ in 0..20 {
        south.ask().unwrap();
    }

    // One goes: no new clients, and its connections leave.
    let removed = replace(&[east.all(), south.all()]);
    assert_told(&removed, "clusters: -west");
    wait_for("its port is closed", LONG, || TcpStream::connect(west.listen).err());
    proxy.wait_log("cluster=\"west\"");
    wait_for("it has left", LONG, || {
        let names: Vec<_> = proxy.status().clusters.into_iter().map(|one| one.name).collect();
        (names == ["east", "south"]).then_some(())
    });
    assert!(!proxy.metrics().contains("cluster=\"west\""), "{}", proxy.metrics());
    client.name(&mut held).unwrap_err();
    let sums = load.end();
    report(&format!(
        "through five reloads: {} requests, {} short connections, {} moved",
        sums.requests, sums.short, sums.redials
    ));
    assert!(sums.failures.is_empty(), "{:?}", sums.failures);
    assert_eq!(sums.redials, 0, "its connections were left alone");
}

/// All clusters go over to another process at once, also when one of them is dead.
#[test]
fn a_handover_takes_all_clusters_along() {
    let (east, west) = (Served::new("east", 2), Served::new("west", 2));
    let folder = tempfile::tempdir().unwrap();
    let mut proxy = start(folder.path(), &east, &[east.all(), west.all()]);
    proxy.wait_ready(4);
    assert_eq!(command(&proxy, &["drain", "west/cp1"]).code, Some(0));
    let (load, first) = ([east.load(), west.load()], proxy.status().pid);
    let file = proxy.file.clone();
    let take_over = || {
        let mut command = Command::new(program());
        command.args(["run", "--take-over", "--config"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    };
    let second = take_over();
    wait_for("the other one serves", LONG, || (proxy.status().pid == second.0.id()).then_some(()));
    assert_ne!(first, second.0.id());
    let status = proxy.status();
    let names: Vec<_> = status.clusters.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["east", "west"]);
    let cp1 = status.backends.iter().find(|b| b.name == "west/cp1").unwrap();
    assert_eq!(cp1.state.as_str(), "drained", "it stays drained");
    assert_eq!(west.ask().unwrap(), "cp2");
    for (load, name) in load.into_iter().zip(["east", "west"]) {
        let sums = load.end();
        report(&format!(
            "{name} through a handover: {} requests, {} moved",
            sums.requests, sums.redials
        ));
        assert!(sums.failures.is_empty(), "{name}: {:?}", sums.failures);
    }
    assert_eq!(proxy.wait_end(LONG).code(), Some(0));
    // One that is dead for the old process may be so for the new one.
    west.cluster.servers.iter().for_each(apiproxy::demo::ApiServer::crash);
    for backend in ["west/cp1", "west/cp2"] {
        wait_for("it is known to be dead", LONG, || {
            let status = proxy.status();
            let found = status.backends.iter().find(|b| b.name == backend).unwrap();
            let is_dead = found.state.as_str() == "dead" || found.reason.message.contains("dead");
            is_dead.then_some(())
        });
    }
    let third = take_over();
    wait_for("the third serves", LONG, || (proxy.status().pid == third.0.id()).then_some(()));
    east.ask().unwrap();
}
