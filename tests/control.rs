//! The control socket: drain and undrain under load, who may ask, and that nothing else commands.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use apiproxy::demo::{Dialer, Load, LoadOptions, LoadStats};
use common::{Cluster, Outcome, Proxy, command, outcome, program, report, wait_for};

const LONG: Duration = Duration::from_secs(30);

/// Quick probes and quick moves.
const LINES: &str = "connections: { drainTimeout: 3s }\n\
                     rebalance: { after: 500ms, window: 2s, quietFor: 60ms }\n";
const CHECK: &str = "interval: 200ms, fastInterval: 100ms,";

/// Runs a command against the proxy's control socket.
fn ask(proxy: &Proxy, arguments: &[&str]) -> Outcome {
    outcome(command(arguments).arg("--control-socket").arg(&proxy.control))
}

#[track_caller]
fn done(outcome: &Outcome, text: &str) {
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    assert!(outcome.stdout.contains(text), "no `{text}` in {outcome:?}");
}

fn state(proxy: &Proxy, backend: &str) -> String {
    let status = proxy.status();
    let found = status.backends.iter().find(|b| b.name == backend).unwrap();
    found.state.to_string()
}

#[test]
fn a_drain_under_load_fails_no_request_and_says_when_it_is_empty() {
    let cluster = Cluster::new(3);
    let proxy = cluster.proxy(CHECK, LINES);
    for server in &cluster.servers {
        server.delay(Duration::from_millis(20));
    }
    let dialer = Dialer::new(proxy.listen, &cluster.authority, None).unwrap();
    let options = LoadOptions {
        period: Duration::from_millis(150),
        timeout: Duration::from_secs(20),
        ..LoadOptions::default()
    };
    let loads: Vec<_> = (0..30).map(|_| Load::start(dialer.clone(), options).unwrap()).collect();
    let total = || loads.iter().map(Load::stats).fold(LoadStats::none(), LoadStats::merge);
    wait_for("every client has been answered", LONG, || {
        loads.iter().all(|load| load.stats().ok > 0).then_some(())
    });
    let carried =
        |name: &str| proxy.metric("apiproxy_connections_active", &[&format!("backend=\"{name}\"")]);
    assert!(carried("cp2") > 0.5);
    let start = Instant::now();
    let drained = ask(&proxy, &["drain", "cp2", "--wait"]);
    report(&format!("30 clients: cp2 is empty {:?} after drain", start.elapsed()));
    done(&drained, "cp2 is drained: no new clients; its ");
    done(&drained, "leave at quiet moments within 3s");
    done(&drained, "cp2 is empty after ");
    assert!(carried("cp2") < 0.5);
    assert!(proxy.metric("apiproxy_connections_closed_total", &["cp2", "\"drained\""]) > 0.5);
    let status = proxy.status();
    let cp2 = status.backends.iter().find(|b| b.name == "cp2").unwrap();
    assert_eq!(cp2.state.as_str(), "drained");
    assert_eq!(cp2.reason.code, "drained");
    assert_eq!(
        cp2.reason.message,
        "taken out by an operator; its health: ready (answers its check)"
    );

    // It goes on being probed, and its health is told.
    cluster.server("cp2").ready(false);
    wait_for("the probes of a drained backend are told", LONG, || {
        let status = proxy.status();
        let cp2 = status.backends.iter().find(|b| b.name == "cp2").unwrap().clone();
        (cp2.state.as_str() == "drained" && cp2.reason.message.contains("notReady")).then_some(())
    });
    cluster.server("cp2").ready(true);
    wait_for("it is well again", LONG, || {
        let status = proxy.status();
        let cp2 = status.backends.iter().find(|b| b.name == "cp2").unwrap().clone();
        cp2.reason.message.contains("ready (answers its check)").then_some(())
    });
    assert!(carried("cp2") < 0.5, "nobody came while it was drained");

    let before = proxy.metric("apiproxy_rebalanced_total", &[]);
    done(&ask(&proxy, &["undrain", "cp2"]), "cp2 takes part again; it is ready: answers its check");
    assert_eq!(state(&proxy, "cp2"), "ready");
    wait_for("others' connections move", LONG, || {
        (proxy.metric("apiproxy_rebalanced_total", &[]) > before).then_some(())
    });
    // Its share grows over 30 s: not all that move get to it at once.
    let client = cluster.client(&proxy);
    wait_for("it gets clients", LONG, || (client.ask().unwrap() == "cp2").then_some(()));
    let all = total();
    report(&format!("{} requests, {} failed", all.ok, all.failed));
    assert!(all.ok > 300);
    assert_eq!(all.failed, 0, "{:?}", all.last_error);
}

#[test]
fn what_cannot_be_drained_is_refused_with_the_numbers() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy(CHECK, LINES);
    ask(&proxy, &["drain", "pc1"]).refused(2, "did you mean `cp1`?");
    ask(&proxy, &["undrain", "other"]).refused(2, "the backends are cp1, cp2");
    done(&ask(&proxy, &["undrain", "cp1"]), "cp1 was not drained");
    done(&ask(&proxy, &["drain", "cp1"]), "cp1 is drained: no new clients; it has no connection");
    done(&ask(&proxy, &["drain", "cp1"]), "cp1 was already drained");
    ask(&proxy, &["drain", "cp2"])
        .refused(1, "0 of 2 backends would be ready without cp2: cp1 is drained");
    assert_eq!(state(&proxy, "cp2"), "ready");
    done(&ask(&proxy, &["drain", "cp2", "--force"]), "cp2 is drained");
    // Drained ones serve when there is nothing better.
    assert!(["cp1", "cp2"].contains(&cluster.client(&proxy).ask().unwrap().as_str()));
    done(&ask(&proxy, &["undrain", "cp1"]), "cp1 takes part again");
    assert_eq!(cluster.client(&proxy).ask().unwrap(), "cp1");
}

#[test]
fn a_wait_that_is_too_short_fails_and_says_what_is_left() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy(CHECK, "connections: { drainTimeout: 1h }\n");
    let client = cluster.client(&proxy);
    let mut connection = client.open_to("cp1");
    client.name(&mut connection).unwrap();
    let waited = ask(&proxy, &["drain", "cp1", "--wait=1s"]);
    assert_eq!(waited.code, Some(1), "{waited:?}");
    assert!(
        waited.stderr.contains("cp1 still has 1 connection after 1s; it stays drained"),
        "{waited:?}"
    );
    assert!(waited.stdout.contains("cp1: 1 connection left"), "{waited:?}");
    assert_eq!(client.name(&mut connection).unwrap(), "cp1", "the connection lives");
}

#[test]
fn an_unreachable_proxy_is_told_from_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.sock");
    let asked = |arguments: &[&str]| outcome(command(arguments).arg("--control-socket").arg(&path));
    asked(&["drain", "cp1"]).refused(1, "cannot reach apiproxy at");
    asked(&["reload"]).refused(1, "is it running?");
}

#[test]
fn a_reload_says_what_has_changed_or_why_nothing_has() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("", "");
    let same = ask(&proxy, &["reload"]);
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), "nothing has changed\n"), "{same:?}");
    std::fs::write(&proxy.file, "kind: ProxyConfig\n").unwrap();
    ask(&proxy, &["reload"]).refused(1, "ProxyConfiguration");
    proxy.replace_config(&proxy.config(&(cluster.lines("") + "zone: a\n")));
    let changed = ask(&proxy, &["reload"]);
    assert!(changed.code == Some(0) && changed.stdout.contains("zone"), "{changed:?}");
}

/// Sends bytes and reads what comes until the end.
fn say(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    // Who is refused early cannot say all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut text = String::new();
    // Bytes that nobody read make the end a reset.
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn nonsense_is_refused_and_hurts_nobody() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy(CHECK, LINES);
    for (bytes, code) in [
        (&b"hello\n"[..], "malformed"),
        (&[0xff, 0, b'\n'], "malformed"),
        (br#"{"version":7,"request":{"status":{}}}"#, ""),
        (b"{\"version\":7,\"request\":{\"status\":{}}}\n", "unsupported"),
        (b"{\"version\":1,\"request\":{\"drain\":{\"backend\":\"cp1\",\"x\":1}}}\n", "unsupported"),
        (&vec![b'x'; 100_000], "malformed"),
        (b"", ""),
    ] {
        let answer = say(&proxy.control, bytes);
        assert!(answer.contains(code), "{answer}");
        assert_eq!(answer.is_empty(), code.is_empty(), "{answer}");
    }
}

#[test]
fn who_asks_nothing_gives_way_to_who_does() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy(CHECK, LINES);
    let open = || UnixStream::connect(&proxy.control).unwrap();
    // Many more than there are seats: some say nothing, some half of something, some no more.
    let mut clients: Vec<_> = (0..300).map(|_| open()).collect();
    for client in clients.iter_mut().skip(1).step_by(3) {
        let _ = client.write_all(b"{\"version\":1,");
    }
    for client in clients.iter_mut().skip(2).step_by(3) {
        let _ = client.write_all(b"{\"version\":1,\"request\":{\"status\":{}}}\n");
    }
    let start = Instant::now();
    done(&ask(&proxy, &["reload"]), "nothing has changed");
    let took = start.elapsed();
    report(&format!("heard after {took:?} behind 300 clients that ask nothing"));
    assert!(took < Duration::from_secs(2), "{took:?}");
    proxy.wait_log("a client of the control socket that asked nothing has lost its seat");
    // Nor does one that is heard go for those that are silent.
    let mut follower = open();
    follower.set_read_timeout(Some(LONG)).unwrap();
    follower.write_all(b"{\"version\":1,\"request\":{\"events\":{\"follow\":true}}}\n").unwrap();
    let mut lines = BufReader::new(follower);
    let mut told = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line
    };
    assert!(told().contains("\"started\""));
    clients.extend((0..300).map(|_| open()));
    done(&ask(&proxy, &["drain", "cp1"]), "cp1 is drained");
    while !told().contains("drained by an operator") {}
}

#[test]
fn followers_leave_seats_for_commands_and_say_nothing_more() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy(CHECK, LINES);
    let follow = b"{\"version\":1,\"request\":{\"events\":{\"follow\":true}}}\n";
    let open = || {
        let mut stream = UnixStream::connect(&proxy.control).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(follow).unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        (stream, line)
    };
    let mut followers: Vec<_> = (0..8).map(|_| open()).collect();
    for (_, line) in &followers {
        assert!(line.contains("\"started\"") && line.contains("\"number\":1,"), "{line}");
    }
    assert!(open().1.contains("8 clients follow the events already"), "no seat is left for it");
    done(&ask(&proxy, &["drain", "cp1"]), "cp1 is drained");
    for (stream, _) in &mut followers {
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        // There may have been nothing to tell before.
        let line = lines.into_iter().find(|line| !line.contains("\"events\":[]")).unwrap();
        assert!(line.contains("drained by an operator") && !line.contains("\"started\""), "{line}");
    }
    // A command on such a connection would be heard late, or never.
    let (mut stream, _) = followers.pop().unwrap();
    stream.write_all(b"{\"version\":1,\"request\":{\"status\":{}}}\n").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("this connection tells of events"), "{rest}");
    // Who hangs up gives its seat back.
    drop(followers);
    wait_for("seats are free", LONG, || open().1.contains("started").then_some(()));
    // And what is newer than one that is known can be asked for.
    let after = |number: u64| {
        let request =
            format!("{{\"version\":1,\"request\":{{\"events\":{{\"after\":{number}}}}}}}\n");
        say(&proxy.control, request.as_bytes())
    };
    assert!(after(0).contains("\"started\"") && !after(1).contains("\"started\""));
    assert!(after(u64::MAX).contains("\"events\":[]"), "{}", after(u64::MAX));
}

#[test]
fn only_the_owner_and_root_may_ask() {
    if !common::has_program("setpriv") || !rustix::process::geteuid().is_root() {
        skip!("needs root and setpriv");
    }
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy(CHECK, LINES);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&proxy.control), 0o600);
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    open(cluster.folder.path(), 0o755).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    open(elsewhere.path(), 0o755).unwrap();
    let binary = elsewhere.path().join("apiproxy");
    common::copy_program(&program(), &binary);
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&binary);
        command.args(["drain", "cp1", "--control-socket"]).arg(&proxy.control);
        outcome(&mut command)
    };
    as_nobody().refused(1, "run the command as root, or as the user that apiproxy runs as");
    // And when the mode of the file does not say so.
    open(&proxy.control, 0o666).unwrap();
    as_nobody().refused(1, "user 65534 may not command this proxy, which runs as user 0");
    assert_eq!(state(&proxy, "cp1"), "ready");
    done(&ask(&proxy, &["drain", "cp1"]), "cp1 is drained");
}

#[test]
fn the_tcp_port_commands_nothing() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy(CHECK, LINES);
    let before = proxy.status().generation;
    for method in ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "DRAIN"] {
        for path in ["/", "/status", "/drain", "/drain/cp1", "/undrain", "/reload", "/control"] {
            let target = if method == "CONNECT" { "cp1:6443" } else { path };
            let mut stream = TcpStream::connect(proxy.admin).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            let body = "{\"version\":1,\"request\":{\"drain\":{\"backend\":\"cp1\"}}}";
            write!(
                stream,
                "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(answer.starts_with("HTTP/1.1 405 "), "{method} {path}: {answer}");
        }
    }
    for path in ["/drain", "/drain?backend=cp1", "/undrain", "/reload", "/control"] {
        assert_eq!(common::http_get(proxy.admin, path).0, 404, "{path}");
    }
    assert_eq!(state(&proxy, "cp1"), "ready");
    assert_eq!(proxy.status().generation, before);
}

#[test]
fn without_a_socket_it_serves_and_says_so() {
    let cluster = Cluster::new(1);
    let file = cluster.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let blocked = Proxy::start_program(
        &program(),
        cluster.folder.path(),
        &cluster.lines(""),
        &[("APIPROXY_CONTROL_SOCKET", &file.join("x.sock").display().to_string())],
    );
    blocked.wait_ready(1);
    assert_eq!(cluster.client(&blocked).ask().unwrap(), "cp1");
    let log = blocked.log_text();
    assert!(log.contains("no control socket") && log.contains("admin.controlSocket"), "{log}");

    let off = Proxy::start_program(
        &program(),
        cluster.folder.path(),
        &cluster.lines(""),
        &[("APIPROXY_CONTROL_SOCKET", "")],
    );
    off.wait_ready(1);
    assert!(!off.control.exists());
    assert!(!off.log_text().contains("control socket"), "{}", off.log_text());
}

#[test]
fn the_socket_of_a_killed_process_is_replaced_and_a_living_ones_is_not() {
    let cluster = Cluster::new(1);
    let mut first = cluster.proxy("", "");
    let path = first.control.display().to_string();
    let environment = [("APIPROXY_CONTROL_SOCKET", path.as_str())];
    let start = || {
        let folder = cluster.folder.path();
        let proxy = Proxy::start_program(&program(), folder, &cluster.lines(""), &environment);
        proxy.wait_ready(1);
        proxy
    };
    let second = start();
    let taken = format!("another apiproxy (process {}) listens there", first.child.id());
    assert!(second.log_text().contains(&taken), "{}", second.log_text());
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let third = start();
    let answer = say(Path::new(&path), b"{\"version\":1,\"request\":{\"status\":{}}}\n");
    assert!(answer.contains(&format!("\"pid\":{}", third.child.id())), "{answer}");
}
