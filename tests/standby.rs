//! A process stands by while a newer one serves: whatever becomes of that one and of the file, it waits,
//! and serves when it is needed, with the configuration as it is by then.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use common::{Echo, Node, Site, backend_lines, report, wait_for};

const LONG: Duration = Duration::from_secs(30);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

fn lines(backend: SocketAddr) -> String {
    backend_lines(&[backend])
        + "healthCheck: { type: tcp, interval: 500ms, fastInterval: 100ms }\n\
           connections: { drainTimeout: 10s }\n"
}

/// A process of generation 2 that serves, and one of generation 1 that stands by.
fn pair(site: &Site) -> (Node, Node) {
    let newer = site.start(&["--take-over", "--generation", "2"]);
    let older = site.start_not_serving(&["--take-over", "--generation", "1"]);
    older.wait_log("generation 2 serves already, which is newer than 1", LONG);
    (newer, older)
}

/// Waits until this process serves.
fn wait_served(site: &Site, node: &Node) {
    let start = Instant::now();
    wait_for("the one that stood by serves", LONG, || site.is_served_by(node).then_some(()));
    report(&format!("it serves after {:?}", start.elapsed()));
    TcpStream::connect(site.listen).unwrap();
}

/// Regression: it served what the file had said when it had begun to wait.
#[test]
fn it_serves_what_the_file_says_when_its_turn_comes() {
    let (first, second) = (Echo::start(b'1'), Echo::start(b'2'));
    let site = Site::new(&lines(first.address));
    let (newer, older) = pair(&site);
    // Another port, which is not among those that the process needed when it was started.
    site.replace_config(&site.text(&(lines(second.address) + "zone: b\n")));
    let replaced = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    newer.signal(SIGKILL);
    wait_served(&site, &older);
    let status = site.status();
    assert_eq!(status.zone.as_deref(), Some("b"), "{}", older.log());
    assert_eq!((status.config.generation, status.config.refusal.len()), (1, 0));
    assert!(status.config.loaded_at >= replaced, "{replaced}: {:?}", status.config);
    assert_eq!(status.backends[0].name, second.address.to_string());
    site.wait_ready(1);
    assert!(older.log().contains("closed in"), "{}", older.log());
}

#[test]
fn a_file_that_is_bad_by_then_is_refused_and_the_last_good_one_served() {
    let backend = Echo::start(b'1');
    let good = lines(backend.address);
    let site = Site::new(&good);
    let (newer, older) = pair(&site);
    site.replace_config(&site.text(&(good.clone() + "zone: b\n")));
    older.wait_log("the configuration has changed", LONG);
    site.replace_config(&site.text(&(good.clone() + "threads: 65\n")));
    older.wait_log("the configuration is refused", LONG);
    newer.signal(SIGKILL);
    wait_served(&site, &older);
    let status = site.status();
    assert_eq!(status.zone.as_deref(), Some("b"), "the last good one: {}", older.log());
    assert!(status.config.refusal[0].contains("`threads`"), "{:?}", status.config);
    assert_eq!(site.metric("apiproxy_config_reloads_total{result=\"refused\"}"), Some(1.0));
    older.wait_log("refused; the last good one stays in force", LONG);
    site.wait_ready(1);
    // And it is followed from then on.
    site.replace_config(&site.text(&(good + "zone: c\n")));
    wait_for("the mended file is in force", LONG, || {
        let status = site.status();
        (status.zone.as_deref() == Some("c") && status.config.refusal.is_empty()).then_some(())
    });
}

#[test]
fn a_file_that_is_gone_and_one_that_cannot_be_put_in_force_do_not_keep_it_from_serving() {
    let backend = Echo::start(b'1');
    let good = lines(backend.address);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, _taken) = (taken.local_addr().unwrap(), taken);
    for is_there in [false, true] {
        let site = Site::new(&good);
        let (newer, older) = pair(&site);
        if is_there {
            let listen = format!("[\"{}\"]", site.listen);
            let more = format!("[\"{}\", \"{taken}\"]", site.listen);
            site.replace_config(&site.text(&good).replace(&listen, &more));
            older.wait_log("the configuration has changed", LONG);
        } else {
            site.remove_config();
        }
        newer.signal(SIGKILL);
        wait_served(&site, &older);
        let config = site.status().config;
        let fault = if is_there { "cannot listen on" } else { "No such file" };
        assert!(config.refusal.join("\n").contains(fault), "{config:?}");
        site.wait_ready(1);
    }
}

/// Regression: the first question without an answer ended it.
#[test]
fn it_waits_for_one_that_hangs_and_serves_when_that_is_gone() {
    let backend = Echo::start(b'1');
    let site = Site::new(&lines(backend.address));
    let (newer, older) = pair(&site);
    newer.signal(SIGSTOP);
    older.wait_log("the running process does not answer within 5s", LONG);
    // One that is started now waits as well.
    let late = site.start_not_serving(&["--take-over", "--generation", "1"]);
    late.wait_log("the running process does not answer within 5s", LONG);
    newer.signal(SIGCONT);
    wait_for("both hear from it", LONG, || {
        let heard = |node: &Node| {
            node.log().rsplit_once("does not answer").unwrap().1.contains("generation 2 serves")
        };
        (heard(&older) && heard(&late)).then_some(())
    });
    assert_eq!(site.pid(), newer.pid());
    assert_eq!(older.log().matches("does not answer").count(), 1, "{}", older.log());
    assert_eq!(site.metric("apiproxy_handovers_total{result=\"failed\"}"), Some(0.0));
    assert_eq!(site.metric("apiproxy_handovers_total{result=\"refused\"}"), Some(2.0));
    drop(late);
    newer.signal(SIGSTOP);
    wait_for("it has heard nothing again", LONG, || {
        (older.log().matches("does not answer").count() == 2).then_some(())
    });
    newer.signal(SIGKILL);
    wait_served(&site, &older);
}

#[test]
fn one_that_hung_hands_over_when_it_comes_to_itself() {
    let backend = Echo::start(b'1');
    let site = Site::new(&lines(backend.address));
    let mut old = site.start(&["--take-over", "--generation", "1"]);
    old.signal(SIGSTOP);
    let new = site.start_not_serving(&["--take-over", "--generation", "2"]);
    new.wait_log("the running process does not answer within 5s", LONG);
    old.signal(SIGCONT);
    new.wait_log("taken over", LONG);
    assert_eq!(site.pid(), new.pid());
    assert_eq!(old.wait_end(LONG).code(), Some(0));
}

/// Regression: it was counted anew with every question, once a second.
#[test]
fn each_process_that_stands_by_is_counted_once() {
    let backend = Echo::start(b'1');
    let site = Site::new(&lines(backend.address));
    let (newer, older) = pair(&site);
    let refused = || site.metric("apiproxy_handovers_total{result=\"refused\"}");
    let stays = |count| {
        let end = Instant::now() + Duration::from_secs(4);
        while Instant::now() < end {
            assert_eq!(refused(), Some(count));
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    stays(1.0);
    let _another = site.start_not_serving(&["--take-over", "--generation", "1"]);
    wait_for("it is counted too", LONG, || (refused() == Some(2.0)).then_some(()));
    stays(2.0);
    assert_eq!(older.log().matches("standing by").count(), 1, "{}", older.log());
    assert_eq!(site.pid(), newer.pid());
}

/// Regression: it could not have the admin address before the other one had drained.
#[test]
fn it_serves_while_the_other_one_drains() {
    let backend = Echo::start(b'1');
    let site = Site::new(&lines(backend.address));
    let (mut newer, older) = pair(&site);
    // A connection that keeps the drain from its end.
    let _open = TcpStream::connect(site.listen).unwrap();
    wait_for("it is relayed", LONG, || (site.status().backends[0].connections == 1).then_some(()));
    newer.signal(SIGTERM);
    wait_served(&site, &older);
    assert!(newer.log().contains("draining") && newer.is_running(), "{}", newer.log());
    assert_eq!(newer.wait_end(LONG).code(), Some(0));
}

#[test]
fn it_waits_for_an_address_that_a_third_one_has() {
    let backend = Echo::start(b'1');
    let site = Site::new(&lines(backend.address));
    let (mut newer, older) = pair(&site);
    older.signal(SIGSTOP);
    newer.signal(SIGKILL);
    newer.wait_end(LONG);
    let third = TcpListener::bind(site.listen).unwrap();
    older.signal(SIGCONT);
    older.wait_log("standing by reason=\"cannot listen on", LONG);
    drop(third);
    wait_served(&site, &older);
}

#[test]
fn another_control_socket_that_the_file_names_by_then_is_its_own() {
    let backend = Echo::start(b'1');
    let site = Site::new(&lines(backend.address));
    let (newer, older) = pair(&site);
    let other = site.control.with_file_name("other.sock");
    let text = site.text(&lines(backend.address));
    site.replace_config(&text.replace("control.sock", "other.sock"));
    newer.signal(SIGKILL);
    wait_served(&site, &older);
    let outcome = common::outcome(common::command(&["reload", "--control-socket"]).arg(&other));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}
