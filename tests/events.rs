//! What happened and why: the ring, the log, `/events` and `status --events`.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use apiproxy::admin::{EventStatus, History, Severity};
use common::{Cluster, Proxy, Running, Site, apiproxy, command, http_get, wait_for};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(20);

fn history(proxy: &Proxy) -> Vec<EventStatus> {
    let (code, body) = http_get(proxy.admin, "/events");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str::<History>(&body).unwrap().events
}

/// Waits for the event of this kind and backend.
fn wait_event(proxy: &Proxy, kind: &str, backend: &str) -> EventStatus {
    wait_for(&format!("{kind} of {backend}"), LONG, || {
        let is_it = |e: &EventStatus| e.kind == kind && e.backend.as_deref() == Some(backend);
        history(proxy).into_iter().find(is_it)
    })
}

/// The lines of the JSON log that tell of an event of this kind.
fn logged(proxy: &Proxy, kind: &str) -> Vec<Value> {
    let log = proxy.log_text();
    // The last line may not be whole yet.
    let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == kind).collect()
}

#[test]
fn what_happens_is_told_with_its_reason() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy(
        "interval: 500ms, fastInterval: 100ms,",
        "log: { format: json }\nconnections: { drainTimeout: 1s }\nrebalance: { after: 0s, window: 3s, quietFor: 100ms }\n",
    );
    let client = cluster.client(&proxy);
    let held: Vec<_> = (0..3).map(|_| client.open_to("cp1")).collect();

    // A backend dies, with three silent connections.
    cluster.server("cp1").hang();
    let failover = wait_event(&proxy, "failover", "cp1");
    assert!(
        failover.message.starts_with("3 connections reset: takes connections, but no"),
        "{failover:?}"
    );
    assert_eq!((failover.severity, failover.code.as_deref()), (Severity::Warning, Some("timeout")));
    assert_eq!(proxy.status().failovers, [failover]);
    // A thread of its own writes the log.
    wait_for("a line for the failover", LONG, || {
        (!logged(&proxy, "failover").is_empty()).then_some(())
    });
    let [line] = &logged(&proxy, "failover")[..] else { panic!("one line for a failover") };
    assert_eq!((&line["backend"], &line["connections"]), (&"cp1".into(), &3.into()));
    assert!(line["reason"].as_str().unwrap().starts_with("takes connections"), "{line}");
    drop(held);

    // It comes back, and gets a share of the connections of the other one.
    let held: Vec<_> = (0..4).map(|_| client.open_to("cp2")).collect();
    cluster.server("cp1").resume();
    let begun = wait_event(&proxy, "rebalanceBegun", "cp1");
    assert_eq!(begun.message, "about 2 connections to move here within 3s");
    assert_eq!(wait_event(&proxy, "rebalanceEnded", "cp1").message, "2 connections moved");

    // The other one says no: its connections leave.
    cluster.server("cp2").ready(false);
    let begun = wait_event(&proxy, "drainBegun", "cp2");
    assert_eq!(begun.message, "2 connections to leave within 1s");
    let ended = wait_event(&proxy, "drainEnded", "cp2");
    assert_eq!(ended.message, "2 connections moved away, 0 left");
    drop(held);

    // One line for each change of a state, and none for a connection.
    let events = history(&proxy);
    let of = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
    wait_for("as many lines as changes", LONG, || {
        (logged(&proxy, "state").len() >= of("state")).then_some(())
    });
    assert_eq!((logged(&proxy, "state").len(), logged(&proxy, "failover").len()), (of("state"), 1));
    assert!(of("state") >= 5, "two ready, one dead, ready again, one not ready: {events:?}");
    assert_eq!(of("started"), 1);
    assert!(!proxy.log_text().contains("a connection ended"));
    assert!(events.is_sorted_by_key(|event| event.number) && events.is_sorted_by_key(|e| &e.at));
    assert_eq!(events.last().unwrap().number, proxy.status().latest_event);

    // The same counted.
    let entered = |backend: &str, state: &str| {
        let labels = [&format!("backend=\"{backend}\"")[..], &format!("state=\"{state}\"")];
        proxy.metric("apiproxy_backend_transitions_total", &labels).to_string()
    };
    let counts = [entered("cp1", "dead"), entered("cp2", "dead"), entered("cp2", "notReady")];
    assert_eq!(counts, ["1", "0", "1"]);

    let admin = proxy.admin.to_string();
    let table = apiproxy(&["status", "--events", "--admin", &admin]);
    assert_eq!(table.code, Some(0), "{table:?}");
    for word in ["TIME", "failover", "3 connections reset: takes", "drainEnded", "-> dead"] {
        assert!(table.stdout.contains(word), "no {word} in {}", table.stdout);
    }
    let json = apiproxy(&["status", "--events", "-o", "json", "--admin", &admin]);
    let printed: History = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(printed.events, events);
}

#[test]
fn events_are_followed_through_the_control_socket() {
    let cluster = Cluster::new(2);
    let mut proxy = cluster.proxy("interval: 500ms, fastInterval: 100ms,", "");
    let socket = proxy.control.to_str().unwrap().to_owned();
    let listed = apiproxy(&["status", "--events", "-o", "json", "--control-socket", &socket]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let listed: History = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!((listed.pid, listed.events.clone()), (proxy.child.id(), history(&proxy)));
    let file = cluster.folder.path().join("followed");
    let mut command = command(&["status", "--events", "--watch", "-o", "json"]);
    command.args(["--control-socket", &socket]);
    command.stdout(File::create(&file).unwrap()).stderr(Stdio::null());
    let mut follower = Running(command.spawn().unwrap());
    let told = || -> Vec<EventStatus> {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    wait_for("what has happened is told", LONG, || (told().len() >= 3).then_some(()));
    cluster.server("cp1").crash();
    let death = |events: &[EventStatus]| {
        events.iter().any(|event| event.kind == "state" && event.message.contains("-> dead"))
    };
    wait_for("the death is told", LONG, || death(&told()).then_some(()));
    let known = history(&proxy);
    wait_for("all of it is told", LONG, || (told().len() >= known.len()).then_some(()));
    assert_eq!(told(), known, "each once, in order");
    // The last word of the process is told too.
    proxy.signal(15);
    proxy.wait_end(LONG);
    wait_for("the end is told", LONG, || {
        told().last().is_some_and(|event| event.kind == "shuttingDown").then_some(())
    });
    common::send_signal(follower.0.id(), 2);
    let status = wait_for("it ends", LONG, || follower.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    // Who names a socket means it.
    apiproxy(&["status", "--events", "--control-socket", &socket]).refused(1, "cannot reach");
}

/// Has a program run in a container's way: it is process 1 where it is.
fn alone(command: &mut Command) {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]);
    unshare.arg(command.get_program()).args(command.get_args());
    *command = unshare;
}

#[test]
fn all_events_of_the_next_process_are_told_where_both_are_process_1() {
    if !common::has_program("unshare") || !rustix::process::geteuid().is_root() {
        skip!("needs root and unshare");
    }
    let cluster = Cluster::new(3);
    let lines = cluster.lines("") + "connections: { drainTimeout: 1s }\n";
    let site = Site::new(&lines);
    let _first = site.start_with(&[], alone);
    let told = |file: &Path| -> Vec<EventStatus> {
        let text = std::fs::read_to_string(file).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let follow = |name: &str, flags: &[&str]| {
        let file = cluster.folder.path().join(name);
        let mut command = command(&["status", "--events", "--watch", "-o", "json"]);
        command.args(flags).stdout(File::create(&file).unwrap()).stderr(Stdio::null());
        (Running(command.spawn().unwrap()), file)
    };
    wait_for("it serves", LONG, || TcpStream::connect(site.admin).ok());
    site.wait_ready(3);
    // It has more to tell than the next one will have for long.
    for _ in 0..5 {
        site.ask(&["drain", "cp1"]);
        site.ask(&["undrain", "cp1"]);
    }
    let (control, admin) = (site.control.to_str().unwrap(), site.admin.to_string());
    let (_one, followed) = follow("followed", &["--control-socket", control]);
    let (_other, polled) = follow("polled", &["--admin", &admin]);
    let before = site.history();
    for file in [&followed, &polled] {
        wait_for("all is told", LONG, || (told(file).len() >= before.events.len()).then_some(()));
        assert_eq!(told(file), before.events);
    }
    let next = site.start_with(&["--take-over"], alone);
    next.wait_log("taken over", LONG);
    site.wait_ready(3);
    let after = wait_for("the next one answers", LONG, || {
        Some(site.history()).filter(|history| history.instance != before.instance)
    });
    assert_eq!((before.pid, after.pid), (1, 1));
    assert!(after.events.len() < before.events.len(), "its numbers are known ones");
    assert_eq!(site.status().instance, after.instance);
    for file in [&followed, &polled] {
        wait_for("all of the next one is told", LONG, || {
            told(file).ends_with(&site.history().events).then_some(())
        });
        let count = told(file).iter().filter(|event| event.kind == "started").count();
        assert_eq!(count, 2, "each once");
    }
}

#[test]
fn events_are_read_only() {
    let cluster = Cluster::new(1);
    let proxy = cluster.proxy("", "");
    for path in ["/events", "/", "/status"] {
        for verb in ["POST", "PUT", "DELETE", "PATCH"] {
            let mut stream = TcpStream::connect(proxy.admin).unwrap();
            write!(stream, "{verb} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 405 "), "{verb} {path}: {answer}");
        }
    }
}

#[test]
fn the_last_probes_are_in_the_status() {
    let cluster = Cluster::new(1);
    let proxy = cluster.proxy("interval: 100ms, fastInterval: 50ms,", "");
    let times = || proxy.status().backends.remove(0).probe_milliseconds;
    wait_for("three probes", LONG, || (times().len() > 2).then_some(()));
    assert!(times().iter().all(|time| time.is_some_and(|time| time > 0.0)), "{:?}", times());
    cluster.servers[0].ready(false);
    wait_for("a probe that finds it not ready", LONG, || times().contains(&None).then_some(()));
    wait_for("sixty probes", LONG, || (times().len() == 60).then_some(()));
}
