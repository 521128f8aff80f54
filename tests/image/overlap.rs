//! Containers that overlap, as two static pods of different names do: one takes over from the other.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, Instant};

use super::common::{self, Echo, backend_lines, report, wait_for};
use super::containerd::{Container, Containerd};
use super::traffic::Traffic;
use super::{LONG, addresses, config, ready};
use crate::skip;

const HANDOVERS: u32 = 20;

/// The user of the image.
const USER: u32 = 65532;

#[test]
fn twenty_handovers_between_containers_refuse_reset_and_fail_nothing() {
    let Some(program) = common::released() else { skip!("no static release binary") };
    let containerd = match Containerd::start() {
        Ok(containerd) => containerd,
        Err(why) => skip!("{why}"),
    };
    containerd.import(&program);
    // The node's /run/apiproxy, which the containers share.
    let shared = tempfile::tempdir().unwrap();
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o700)).unwrap();
    chown(shared.path(), Some(USER), Some(USER)).unwrap();
    let mount =
        format!("type=bind,src={},dst=/run/apiproxy,options=rbind:rw", shared.path().display());
    let backends = [Echo::start(b'1'), Echo::start(b'2'), Echo::start(b'3')];
    let lines = backend_lines(&backends.each_ref().map(|echo| echo.address))
        + "healthCheck: { type: tcp, interval: 500ms, fastInterval: 100ms }\n\
           rebalance: { quietFor: 300ms }\n";
    let (listen, admin) = addresses();
    let config = config(&lines, listen, admin).replace("drainTimeout: 1s", "drainTimeout: 10s");
    let start = |generation: u32| {
        let files = [("config.yaml", config.as_str())];
        let number = generation.to_string();
        let arguments = ["--take-over", "--generation", &number];
        containerd.run_with(&format!("g{number}"), &["--mount", &mount], &files, &arguments)
    };
    let first = start(1);
    wait_for("it is ready", LONG, || ready(admin).then_some(()));
    let mut running = vec![first];
    // 100 connections with 5 requests a second each, and 50 new ones a second.
    let traffic = Traffic::start(listen, 100, Duration::from_secs(1), 50);
    wait_for("the load runs", LONG, || (traffic.requests() > 500).then_some(()));
    let began = Instant::now();
    for generation in 2..=HANDOVERS + 1 {
        let next = start(generation);
        wait_logged(&next, "taken over: the other one drains");
        running.push(next);
        std::thread::sleep(Duration::from_millis(500));
    }
    let (requests, seconds) = (traffic.requests(), began.elapsed().as_secs_f64());
    let newest = running.pop().unwrap();
    for container in &running {
        assert_eq!(container.end(), Some(0), "{}", container.log());
    }
    let metrics = common::http_get(admin, "/metrics").1;
    assert!(metrics.contains("apiproxy_handovers_total{result=\"taken\"} 1\n"), "{metrics}");
    let result = traffic.stop();
    report(&format!("{HANDOVERS} handovers of containers in {seconds:.1} s: {result:?}"));
    assert!(result.faults.is_empty(), "{result:?}");
    // The pace of the load, 500 and 50 a second, with room for a machine that is busy.
    let (asked, opened) = (f64::from(u32::try_from(requests).unwrap()), result.opened);
    assert!(asked > 400.0 * seconds && opened > 500, "{asked} in {seconds} s: {result:?}");
    assert!(result.moved >= 100, "the old processes' connections moved: {result:?}");
    assert_eq!(newest.stop(), Some(0), "{}", newest.log());
}

fn wait_logged(container: &Container<'_>, text: &str) {
    wait_for(&format!("{text:?} is logged"), LONG, || container.log().contains(text).then_some(()));
}
