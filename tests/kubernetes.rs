//! The proxy in front of three real kube-apiservers, with kubectl behind it. `KUBEBUILDER_ASSETS`
//! names the folder with etcd, kube-apiserver and kubectl, as setup-envtest does.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails ends the test")]

#[path = "kubernetes/binaries.rs"]
mod binaries;
#[path = "kubernetes/cluster.rs"]
mod cluster;
mod common;
#[path = "kubernetes/kubectl.rs"]
mod kubectl;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use apiproxy::admin::{BackendStatus, Status};
use apiproxy::demo::{Load, LoadOptions, LoadStats, Protocol};

use binaries::block_on;
use cluster::{Held, SHUTDOWN_DELAY};
use common::{Proxy, wait_for};
use kubectl::{Applied, Kubectl, Watch};

/// The most that a client may be without an answer when one apiserver of three fails.
const LONGEST_OUTAGE: Duration = Duration::from_millis(3500);

/// A kube-apiserver that starts on two busy cores, and the proxy that finds it again.
const RECOVERY: Duration = Duration::from_mins(1);

/// What is applied while apiservers are killed.
const FILES: usize = 10;
const CONFIG_MAPS: usize = 20;

/// So many applies at a time, so that each kill meets some.
const APPLIERS: usize = 3;

/// Takes the cluster, or leaves the test when there are no binaries for one.
macro_rules! cluster {
    () => {
        match std::env::var_os("KUBEBUILDER_ASSETS") {
            Some(assets) => Held::take(Path::new(&assets)),
            None => skip!("KUBEBUILDER_ASSETS is not set"),
        }
    };
}

/// Tells the reader of the test's output, past the harness.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[test]
fn kubectl_works_through_the_proxy_and_all_three_take_part() {
    let cluster = cluster!();
    let scratch = cluster.scratch();
    let proxy = cluster.proxy(scratch.path(), "", "");
    let kubectl = cluster.kubectl(proxy.listen);
    assert_eq!(kubectl.run(&["get", "--raw", "/readyz"]), "ok");
    let namespaces = kubectl.run(&["get", "ns", "--output=name"]);
    assert!(namespaces.contains("namespace/kube-system"), "{namespaces}");

    let dialer = cluster.dialer(proxy.listen);
    let status = block_on(async {
        let mut open = Vec::new();
        for _ in 0..6 {
            let mut connection = dialer.dial(Protocol::Http2).await.unwrap();
            assert_eq!(connection.get("/api/v1/namespaces").await.unwrap().status(), 200);
            open.push(connection);
        }
        proxy.status()
    });
    for backend in &status.backends {
        assert_eq!(backend.state.as_str(), "ready");
        // /readyz is open to anybody by default.
        assert_eq!(backend.warning, None);
        assert!(backend.connections > 0, "{} has no connection: {status:?}", backend.name);
    }
}

#[test]
fn applies_and_watches_survive_the_kill_of_each_apiserver_in_turn() {
    let mut cluster = cluster!();
    let scratch = cluster.scratch();
    let proxy = cluster.proxy(scratch.path(), "", "");
    let kubectl = cluster.kubectl(proxy.listen);
    let watch = Watch::start(kubectl.clone());
    let (mut seen, mut created) = (Vec::new(), Applied::default());
    let killed = AtomicBool::new(false);
    let appliers: Vec<(Applied, usize)> = thread::scope(|scope| {
        // Ends the applies also when this thread panics.
        let end = SetOnDrop(&killed);
        let (kubectl, folder, killed) = (&kubectl, scratch.path(), &killed);
        let applies: Vec<_> = (0..APPLIERS)
            .map(|index| scope.spawn(move || apply_until(killed, kubectl, folder, index)))
            .collect();
        for (index, name) in cluster.names().iter().enumerate() {
            // Stopped before the restart: an apiserver that starts takes the CPU from the others,
            // and their slowness is not the proxy's.
            let loads = start_loads(&cluster, &proxy, 3);
            cluster.kill(index);
            proxy.wait_state(name, "dead", RECOVERY);
            create_namespace(kubectl, folder, &format!("while-{name}-is-dead"), &mut created);
            seen.push(merged(&loads));
            drop(loads);
            cluster.run(index);
            cluster.wait_serving();
            proxy.wait_state(name, "ready", RECOVERY);
        }
        drop(end);
        applies.into_iter().map(|applier| applier.join().unwrap()).collect()
    });

    let found = kubectl.run(&["get", "configmaps", "--selector=test=kill", "--output=json"]);
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    let found = found["items"].as_array().unwrap();
    assert_eq!(found.len(), FILES * CONFIG_MAPS);
    for (number, found) in found.iter().enumerate() {
        let (_, last_round) = appliers[number / CONFIG_MAPS % APPLIERS];
        assert_eq!(found["metadata"]["name"], config_map_name(number));
        assert_eq!(found["data"]["content"], content(number, last_round));
    }
    for name in cluster.names() {
        let namespace = format!("while-{name}-is-dead");
        wait_for(&format!("the watch shows {namespace}"), RECOVERY, || {
            watch.has_shown(&namespace).then_some(())
        });
    }
    // A server that has not yet read who may do what must not be taken for one without anonymous
    // access: it says 403 to nearly everybody.
    let log = proxy.log_text();
    assert!(!log.contains("with a reservation"), "taken for ready before it said so");
    let stats = seen.into_iter().fold(LoadStats::none(), LoadStats::merge);
    let applied = appliers.iter().map(|(applied, _)| applied);
    let Applied { ok, retries, slowest } = applied.fold(created, Applied::merge);
    say(&format!(
        "SIGKILL of each apiserver in turn: {ok} kubectl applies, {retries} retries, the slowest \
         {slowest:.1?} with its retries; {} connections cut in all; watches begun {}; {}",
        proxy.metric("apiproxy_connections_closed_total", &["backendReset"]),
        watch.starts(),
        figures(&stats),
    ));
    assert!(stats.longest_outage < LONGEST_OUTAGE, "{stats:?}");
}

/// Applies this applier's share of the files, again and again with other content. Ends after a
/// whole round, and returns its number.
fn apply_until(
    end: &AtomicBool,
    kubectl: &Kubectl,
    folder: &Path,
    index: usize,
) -> (Applied, usize) {
    let mut applied = Applied::default();
    let mut round = 0;
    while round == 0 || !end.load(SeqCst) {
        round += 1;
        for number in (index..FILES).step_by(APPLIERS) {
            let file = folder.join(format!("config-maps-{number}.yaml"));
            let config_maps = number * CONFIG_MAPS..(number + 1) * CONFIG_MAPS;
            let text: String = config_maps.map(|number| config_map(number, round)).collect();
            fs::write(&file, text).unwrap();
            kubectl.apply(&file, &mut applied);
        }
    }
    (applied, round)
}

#[test]
fn no_request_fails_while_an_apiserver_shuts_down_gracefully() {
    let mut cluster = cluster!();
    let scratch = cluster.scratch();
    // SHUTDOWN_DELAY is to be noticed also of a backend without connections, so at a third of the
    // pace.
    let proxy = cluster.proxy(scratch.path(), "  interval: 500ms\n", "");
    let kubectl = cluster.kubectl(proxy.listen);
    // One for each apiserver.
    let loads = start_loads(&cluster, &proxy, 3);
    let victim = 1;
    let name = cluster.names()[victim].clone();
    let ended = AtomicBool::new(false);
    let (mut passed, mut reasons) = (vec!["ready"], Vec::new());
    let mut refusing = None;
    let (calls, slowest) = thread::scope(|scope| {
        let end = SetOnDrop(&ended);
        let calls = scope.spawn(|| {
            let (mut calls, mut slowest) = (0, Duration::ZERO);
            while !ended.load(SeqCst) {
                let began = Instant::now();
                kubectl.run(&["get", "--raw", "/api"]);
                slowest = slowest.max(began.elapsed());
                calls += 1;
            }
            (calls, slowest)
        });
        wait_for("the victim takes part", RECOVERY, || {
            (backend(&proxy.status(), &name).connections_total > 2).then_some(())
        });
        cluster.signal(victim, libc::SIGTERM);
        wait_for("the victim is dead", RECOVERY, || {
            let status = proxy.status();
            let victim = backend(&status, &name);
            let state = victim.state.as_str();
            if passed.last() != Some(&state) {
                passed.push(state);
                reasons.push(victim.reason.message.clone());
                if state == "notReady" {
                    // One that was chosen in the moment before is counted by then.
                    thread::sleep(Duration::from_millis(200));
                    refusing = Some(backend(&proxy.status(), &name).connections_total);
                }
            }
            (state == "dead").then_some(())
        });
        // Long enough for a request that was cut to be missed.
        thread::sleep(Duration::from_secs(2));
        drop(end);
        calls.join().unwrap()
    });
    assert_eq!(passed, ["ready", "notReady", "dead"], "{reasons:?}");
    assert!(reasons[0].contains("shutdown"), "{reasons:?}");
    let total = backend(&proxy.status(), &name).connections_total;
    assert_eq!(Some(total), refusing, "connections went to a server that is not ready");
    let stats = merged(&loads);
    say(&format!(
        "graceful shutdown of an apiserver ({SHUTDOWN_DELAY:?} delay): {calls} kubectl calls, none \
         failed, the slowest took {slowest:.2?}; {}",
        figures(&stats),
    ));
    assert!(stats.longest_outage < LONGEST_OUTAGE, "{stats:?}");

    cluster.kill(victim);
    cluster.run(victim);
    cluster.wait_serving();
    proxy.wait_state(&name, "ready", RECOVERY);
}

#[test]
fn a_client_of_a_stopped_apiserver_is_answered_again_soon() {
    let cluster = cluster!();
    let scratch = cluster.scratch();
    let proxy = cluster.proxy(scratch.path(), "", "");
    let loads = start_loads(&cluster, &proxy, 1);
    let load = &loads[0];
    block_on(load.seen(|stats| stats.ok >= 20));
    let status = proxy.status();
    let carrier = status.backends.iter().position(|backend| backend.connections > 0).unwrap();
    let name = &status.backends[carrier].name;
    let before = load.stats();
    assert_eq!(before.dials, 1, "{before:?}");

    cluster.signal(carrier, libc::SIGSTOP);
    // The first new connection is opened when the old one has been reset.
    let again = block_on(load.seen(|stats| stats.dials > 1 && stats.ok > before.ok + 40));
    assert_eq!(backend(&proxy.status(), name).state.as_str(), "dead");
    cluster.signal(carrier, libc::SIGCONT);
    let resumed = Instant::now();
    proxy.wait_state(name, "ready", RECOVERY);
    say(&format!(
        "SIGSTOP of the apiserver under an open HTTP/2 connection: {}; ready again {:.2?} after SIGCONT",
        figures(&again),
        resumed.elapsed(),
    ));
    assert!(again.longest_outage < LONGEST_OUTAGE, "{again:?}");
}

#[test]
fn the_printed_static_pods_are_accepted() {
    let cluster = cluster!();
    let scratch = cluster.scratch();
    let proxy = cluster.proxy(scratch.path(), "", "");
    let kubectl = cluster.kubectl(proxy.listen);
    let backends = ["--backend", "10.0.0.11:6443", "--backend", "cp2.example.com:6443"];
    let file = ["--config", "/etc/apiproxy/config.yaml", "--name", "apiproxy-2"];
    for (args, pod) in [(backends, "apiproxy"), (file, "apiproxy-2")] {
        let mut print = Command::new(common::program());
        let manifest = common::run(print.args(["manifest", "static-pod"]).args(args));
        let args = ["apply", "--dry-run=server", "--output=name", "-f", "-"];
        let mut apply = kubectl.command(&args);
        let mut apply = apply
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        apply.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
        let output = apply.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}\n{manifest}");
        // Also no warning about a field.
        assert_eq!(error, "");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("pod/{pod}\n"));
    }
}

#[test]
fn without_anonymous_access_probes_warn_unless_they_have_a_certificate() {
    let mut cluster = cluster!();
    cluster.set_flags(&["--anonymous-auth=false"]);
    let scratch = cluster.scratch();
    let status = |proxy: &Proxy| {
        let admin = proxy.admin.to_string();
        common::run(Command::new(common::program()).args(["status", "--admin", &admin]))
    };

    let anonymous = cluster.proxy(scratch.path(), "", "");
    let text = status(&anonymous);
    assert!(text.contains("3 of 3 backends ready"), "{text}");
    for name in cluster.names() {
        let warning = format!("warning: {name}: GET /readyz answers 401");
        assert!(text.contains(&warning), "{text}");
    }
    drop(anonymous);

    let (cert, key) = (cluster.path("admin.crt"), cluster.path("admin.key"));
    let tls = format!(", certFile: {}, keyFile: {}", cert.display(), key.display());
    let known = cluster.proxy(scratch.path(), "", &tls);
    let text = status(&known);
    assert!(text.contains("3 of 3 backends ready"), "{text}");
    assert!(!text.contains("warning"), "{text}");
}

/// Sets a flag at the end, also at that of a panic.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Clients that list namespaces, each on an HTTP/2 connection of its own every 50 ms, and are more
/// patient than a proxy may be slow. Leaves when all of them have been answered.
fn start_loads(cluster: &Held, proxy: &Proxy, count: usize) -> Vec<Load> {
    let (period, timeout) = (Duration::from_millis(50), Duration::from_secs(30));
    let options = LoadOptions { period, timeout, watches: 0 };
    let start = |_| Load::start(cluster.dialer(proxy.listen), options).unwrap();
    let loads: Vec<Load> = (0..count).map(start).collect();
    for load in &loads {
        block_on(load.seen(|stats| stats.ok > 0));
    }
    loads
}

fn merged(loads: &[Load]) -> LoadStats {
    loads.iter().map(Load::stats).fold(LoadStats::none(), LoadStats::merge)
}

fn figures(stats: &LoadStats) -> String {
    let LoadStats { ok, failed, dials, longest_outage, .. } = stats;
    format!(
        "HTTP/2 clients: longest outage {longest_outage:.2?}, {ok} requests ok, {failed} failed, \
         {dials} connections"
    )
}

fn backend<'a>(status: &'a Status, name: &str) -> &'a BackendStatus {
    status.backends.iter().find(|backend| backend.name == name).unwrap()
}

fn create_namespace(kubectl: &Kubectl, folder: &Path, name: &str, created: &mut Applied) {
    let file: PathBuf = folder.join(format!("{name}.yaml"));
    let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name} }}\n");
    fs::write(&file, text).unwrap();
    kubectl.apply(&file, created);
}

fn config_map_name(number: usize) -> String {
    format!("kill-{number:03}")
}

/// Some KiB that no other `ConfigMap` and no other round has.
fn content(number: usize, round: usize) -> String {
    format!("{number}.{round} ").repeat(400)
}

fn config_map(number: usize, round: usize) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {}, labels: {{ test: kill }} }}\n\
         data: {{ content: \"{}\" }}\n",
        config_map_name(number),
        content(number, round),
    );
    text
}
