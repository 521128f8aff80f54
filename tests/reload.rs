//! The configuration changes while the proxy runs: everything that can be changed is, what is wrong is
//! refused as a whole, and no client notices.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails ends the test")]

mod common;
#[path = "reload/descriptors.rs"]
mod descriptors;
#[path = "reload/load.rs"]
mod load;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use apiproxy::config::Overrides;
use apiproxy::demo::{ApiServer, Dialer};

use common::{ANY_PORT, Cluster, Proxy, Site, free_port, report, wait_for};
use load::{Load, Sums};

const SECOND: Duration = Duration::from_secs(1);

/// The time within which a changed file is in force: settled for a second, looked at twice a second.
const NOTICED: Duration = Duration::from_secs(6);

fn load(cluster: &Cluster, proxy: &Proxy) -> Load {
    Load::start(Dialer::new(proxy.listen, &cluster.authority, None).unwrap())
}

fn assert_unharmed(sums: &Sums) {
    report(&format!(
        "{} requests, {} short connections, {} idle ones moved, {} failures",
        sums.requests,
        sums.short,
        sums.redials,
        sums.failures.len()
    ));
    assert!(sums.failures.is_empty(), "{:?}", sums.failures);
}

fn generation(proxy: &Proxy) -> u64 {
    proxy.status().config.generation
}

fn assert_line(proxy: &Proxy, line: &str) {
    let metrics = proxy.metrics();
    assert!(metrics.lines().any(|found| found == line), "no {line}: {metrics}");
}

/// The names of the backends, in the order of the status.
fn names(proxy: &Proxy) -> Vec<String> {
    proxy.status().backends.into_iter().map(|backend| backend.name).collect()
}

#[test]
fn a_hundred_reloads_under_load_harm_nobody() {
    let cluster = Cluster::new(3);
    let proxy = cluster.proxy("", "");
    let lines = |round: u64| {
        let policy =
            ["leastConnections", "roundRobin", "random", "powerOfTwo"][(round % 4) as usize];
        let check = format!("interval: {}ms, ", 1000 + round % 7 * 100);
        cluster.lines(&check)
            + &format!(
                "balance: {policy}\nconnections: {{ max: {}, keepalive: {}s }}\n\
                 connect: {{ timeout: {}ms }}\nrebalance: {{ after: {}s }}\n\
                 log: {{ level: {} }}\n",
                1000 + round,
                15 + round % 3,
                1000 + round,
                30 + round % 5,
                ["info", "debug"][(round % 2) as usize],
            )
    };
    let load = load(&cluster, &proxy);
    for round in 0..100 {
        proxy.replace_config(&proxy.config(&lines(round)));
        proxy.reload();
        // Ten seconds in all, so that requests of every moment meet a reload.
        std::thread::sleep(Duration::from_millis(100));
    }
    let sums = load.end();
    assert_unharmed(&sums);
    assert!(sums.requests > 1000 && sums.short > 200, "the load was none: {sums:?}");
    assert_eq!(sums.redials, 0, "no lasting connection was closed");
    let status = proxy.status();
    assert_eq!(status.config.generation, 101);
    assert!(status.backends.iter().all(|backend| backend.state.as_str() == "ready"), "{status:?}");
    assert!(status.backends.iter().all(|backend| backend.connections_total > 50), "{status:?}");
    assert_line(&proxy, "apiproxy_config_reloads_total{result=\"applied\"} 100");
    assert_line(&proxy, "apiproxy_config_reloads_total{result=\"refused\"} 0");
}

#[test]
fn twenty_additions_and_removals_of_a_backend_under_load_harm_nobody() {
    let cluster = Cluster::new(3);
    let more = "connections: { drainTimeout: 5s }\nrebalance: { after: 0s, window: 2s, quietFor: 100ms }\nhardening: { enabled: false }\n";
    let proxy = cluster.proxy("interval: 500ms, ", more);
    let issued = cluster.authority.server().unwrap();
    let fourth = ApiServer::start("cp4", &issued, ANY_PORT).unwrap();
    let three = cluster.lines("interval: 500ms, ") + more;
    let line = format!("backends:\n  - {{ name: cp4, address: \"{}\" }}\n", fourth.address());
    let four = three.replace("backends:\n", &line);
    let load = load(&cluster, &proxy);
    let mut served = 0;
    for _ in 0..20 {
        proxy.replace_config(&proxy.config(&four));
        proxy.reload();
        wait_for("cp4 takes its share", 20 * SECOND, || {
            let status = proxy.status();
            let backend = status.backends.iter().find(|backend| backend.name == "cp4")?;
            (backend.state.as_str() == "ready" && backend.connections > 0).then_some(())
        });
        proxy.replace_config(&proxy.config(&three));
        proxy.reload();
        wait_for("cp4 has left", 20 * SECOND, || {
            (names(&proxy) == ["cp1", "cp2", "cp3"]).then_some(())
        });
        let requests = fourth.counters().requests;
        assert!(requests > served, "cp4 has carried nothing");
        served = requests;
        assert!(!proxy.metrics().contains("cp4"), "its series have gone too");
    }
    let sums = load.end();
    assert_unharmed(&sums);
    assert_eq!(generation(&proxy), 41);
}

#[test]
fn a_file_torn_at_any_byte_while_it_is_written_never_takes_effect() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("", "");
    let base = cluster.lines("");
    let text =
        |max: u32| proxy.config(&format!("{base}connections: {{ max: {max} }}\nzone: abc\n"));
    // Written in place, byte for byte, with pauses: longer than one look in all of them together.
    for round in 0..2_u32 {
        let text = text(20_000 + round);
        for torn in 0..text.len() {
            let mut file = std::fs::File::create(&proxy.file).unwrap();
            file.write_all(&text.as_bytes()[..torn]).unwrap();
            std::thread::sleep(Duration::from_millis(if torn % 20 == 0 { 300 } else { 5 }));
            file.write_all(&text.as_bytes()[torn..]).unwrap();
            let config = proxy.status().config;
            assert!(config.generation <= u64::from(round) + 2, "torn at {torn}: {config:?}");
        }
        wait_for("the whole file is in force", NOTICED, || {
            (generation(&proxy) == u64::from(round) + 2).then_some(())
        });
    }
    assert_eq!(proxy.status().zone.as_deref(), Some("abc"));
    // Told to read it now, it takes a torn file only if that is a whole configuration.
    let whole = text(20_001);
    for torn in (0..whole.len()).step_by(7) {
        proxy.replace_config(&whole[..torn]);
        proxy.reload();
        let config = proxy.status().config;
        let valid = apiproxy::config::load(Some(&proxy.file), &Overrides::default()).is_ok();
        assert_eq!(config.refusal.is_empty(), valid, "torn at {torn}: {config:?}");
    }
    assert_eq!(cluster.client(&proxy).ask().map(|_| ()).ok(), Some(()));
}

#[test]
fn a_configmaps_links_are_followed() {
    let cluster = Cluster::new(2);
    let folder = tempfile::tempdir().unwrap();
    let (listen, admin) = (free_port(), free_port());
    let text = |max: u32| {
        format!(
            "apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\nlisten: [127.0.0.1:{listen}]\n\
             admin: {{ listen: 127.0.0.1:{admin} }}\nconnections: {{ max: {max} }}\n{}",
            cluster.lines("")
        )
    };
    // As kubelet does it: a folder of its own for each version, and one link that is replaced.
    let swap = |version: &str, text: &str| {
        let path = folder.path().join(version);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("config.yaml"), text).unwrap();
        std::os::unix::fs::symlink(version, folder.path().join("..data_tmp")).unwrap();
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    swap("..1", &text(1000));
    let file = folder.path().join("config.yaml");
    std::os::unix::fs::symlink("..data/config.yaml", &file).unwrap();
    let mut command = std::process::Command::new(common::program());
    command.arg("run").arg("--config").arg(&file).stderr(std::process::Stdio::null());
    let _running = common::Running(command.spawn().unwrap());
    let admin = SocketAddr::from(([127, 0, 0, 1], admin));
    wait_for("it serves", 10 * SECOND, || TcpStream::connect(admin).ok());
    let config = || {
        let status: apiproxy::admin::Status =
            serde_json::from_str(&common::http_get(admin, "/status").1).unwrap();
        status.config
    };
    assert_eq!(config().generation, 1);
    for round in 2..5 {
        swap(&format!("..{round}"), &text(1000 + round));
        std::fs::remove_dir_all(folder.path().join(format!("..{}", round - 1))).unwrap();
        wait_for("the swap is noticed", NOTICED, || {
            (config().generation == u64::from(round)).then_some(())
        });
    }
    swap("..bad", "apiVersion: apiproxy.io/v1alpha1\n");
    wait_for("a bad one is refused", NOTICED, || (!config().refusal.is_empty()).then_some(()));
    swap("..good", &text(1004));
    wait_for("the refusal ends", NOTICED, || config().refusal.is_empty().then_some(()));
    assert_eq!(config().generation, 4);
}

#[test]
fn listeners_come_and_go_and_a_failure_changes_nothing() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("", "");
    let client = cluster.client(&proxy);
    let mut old = client.open().unwrap();
    client.name(&mut old).unwrap();
    let second = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let listen = |addresses: &[SocketAddr], more: &str| {
        let list: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        let text = proxy.config(&(cluster.lines("") + more));
        let now = format!("listen: [\"{}\"]", proxy.listen);
        text.replace(&now, &format!("listen: [{}]", list.join(", ")))
    };
    // A listener that cannot be had, and a change besides.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    proxy.replace_config(&listen(&[second, taken.1], "zone: elsewhere\n"));
    proxy.reload();
    let status = proxy.status();
    assert!(status.config.refusal[0].contains("cannot listen on"), "{:?}", status.config);
    assert_eq!((status.zone, status.listen), (None, vec![proxy.listen]));
    assert!(TcpStream::connect(second).is_err(), "the other one is not left open");
    proxy.wait_log("refused");
    assert_line(&proxy, "apiproxy_config_reloads_total{result=\"refused\"} 1");
    client.ask().unwrap();

    proxy.replace_config(&listen(&[proxy.listen, second], ""));
    proxy.reload();
    let through_second = || Dialer::new(second, &cluster.authority, None).unwrap();
    client.wait(through_second().dial(apiproxy::demo::Protocol::Http1)).unwrap();
    client.ask().unwrap();

    proxy.replace_config(&listen(&[second], ""));
    proxy.reload();
    wait_for("the first one is closed", SECOND, || TcpStream::connect(proxy.listen).err());
    client.wait(through_second().dial(apiproxy::demo::Protocol::Http1)).unwrap();
    assert_eq!(proxy.status().listen, [second]);
    // The connection that came through it lives.
    client.name(&mut old).unwrap();
}

/// Regression: what had been added before the failure was left behind, and took clients whom nobody
/// accepted.
#[test]
fn a_reload_that_runs_out_of_descriptors_leaves_nothing_behind() {
    let cluster = Cluster::new(1);
    let lines = cluster.lines("interval: 1h, ") + "connections: { max: 4 }\n";
    let site = Site::new(&lines);
    let node = descriptors::start(&site);
    node.wait_log("serving", 20 * SECOND);
    site.wait_ready(1);
    let new = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let now = format!("[\"{}\"]", site.listen);
    let more = format!("[\"{}\", \"{}\", \"{}\"]", site.listen, new[0], new[1]);
    site.replace_config(&site.text(&lines).replace(&now, &more));
    let idle = descriptors::idle(&node);
    // A limit can only be lowered.
    for (left, fault) in [
        (3, "cannot listen: Too many open files"),
        (2, "cannot listen: Too many open files"),
        (1, "cannot listen on"),
        (0, "cannot read"),
    ] {
        let answer = descriptors::reload_with(&node, &site.control, idle, left);
        assert!(answer.contains(fault) && answer.contains("Too many open files"), "{answer}");
        for address in new {
            assert!(TcpStream::connect(address).is_err(), "{address} is open with {left} left");
        }
        assert_eq!(site.status().listen, [site.listen]);
    }
}

/// Regression: the change from an address to all of them, and back, was refused, because the old
/// listener had the port.
#[test]
fn a_listener_gives_way_to_one_that_overlaps_and_nobody_is_refused() {
    let cluster = Cluster::new(3);
    let proxy = cluster.proxy("", "");
    let port = proxy.listen.port();
    let everywhere = SocketAddr::from(([0, 0, 0, 0], port));
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], port));
    let now = format!("listen: [\"{}\"]", proxy.listen);
    let text = proxy.config(&cluster.lines(""));
    let load = load(&cluster, &proxy);
    for _ in 0..10 {
        assert!(TcpStream::connect(elsewhere).is_err());
        proxy.replace_config(&text.replace(&now, &format!("listen: [\"{everywhere}\"]")));
        proxy.reload();
        assert_eq!(proxy.status().listen, [everywhere], "{:?}", proxy.status().config.refusal);
        TcpStream::connect(elsewhere).unwrap();
        // A second process is told that the port is taken, as ever.
        for address in [proxy.listen, everywhere] {
            let taken = std::net::TcpListener::bind(address).unwrap_err();
            assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        }
        std::thread::sleep(Duration::from_millis(200));
        proxy.replace_config(&text);
        proxy.reload();
        assert_eq!(proxy.status().listen, [proxy.listen], "{:?}", proxy.status().config.refusal);
        wait_for("the wide one is closed", SECOND, || TcpStream::connect(elsewhere).err());
        std::thread::sleep(Duration::from_millis(200));
    }
    let sums = load.end();
    assert_unharmed(&sums);
    assert!(sums.requests > 400 && sums.short > 80, "the load was none: {sums:?}");
    assert_eq!(sums.redials, 0, "no lasting connection was closed");
}

#[test]
fn the_last_good_configuration_stays_and_what_needs_a_restart_is_told() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("", "");
    proxy.replace_config(
        &proxy.config("backends: [{ adress: 10.0.0.1:1 }, { address: nonsense }]\n"),
    );
    proxy.reload();
    let config = proxy.status().config;
    assert!(config.refusal.len() >= 2, "every fault: {config:?}");
    assert!(config.refusal.iter().any(|line| line.contains("adress")), "{config:?}");
    assert_eq!((config.generation, names(&proxy).len()), (1, 2));
    assert_eq!(config.file.as_deref(), Some(proxy.file.as_path()));

    let text = proxy.config(&(cluster.lines("") + "threads: 2\nzone: a\nlog: { level: debug }\n"));
    proxy.replace_config(&text);
    proxy.reload();
    let status = proxy.status();
    assert_eq!(status.config.refusal, Vec::<String>::new());
    assert_eq!(status.config.needs_restart, ["threads: 1 -> 2 needs a restart"]);
    assert_eq!((status.config.generation, status.zone.as_deref()), (2, Some("a")));
    assert_line(&proxy, "apiproxy_config_needs_restart 1");
    proxy.wait_log("needs a restart");
    cluster.client(&proxy).ask().unwrap();
    proxy.wait_log("a connection ended");

    proxy.replace_config(&text.replace("threads: 2\n", ""));
    proxy.reload();
    assert_line(&proxy, "apiproxy_config_needs_restart 0");
    assert_line(&proxy, "apiproxy_config_reloads_total{result=\"unchanged\"} 1");
}

#[test]
fn another_check_is_in_force_at_once_and_states_stay() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("interval: 1h, ", "");
    let since = proxy.status().backends[0].since.clone();
    proxy.replace_config(&proxy.config(&cluster.lines("interval: 1h, path: /livez, ")));
    proxy.reload();
    let status = proxy.status();
    assert!(status.backends.iter().all(|b| b.state.as_str() == "ready" && b.since == since));
    // A path that the server does not know: told by new probes, long before an hour is over.
    proxy.replace_config(&proxy.config(&cluster.lines("interval: 1h, path: /nowhere, ")));
    proxy.reload();
    proxy.wait_state("cp1", "notReady", 10 * SECOND);
}
