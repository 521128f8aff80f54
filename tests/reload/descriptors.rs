//! A process that is left with so many descriptors and no more, and is told to reload then.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::common::{Node, Site, wait_for};

/// Numbers from 10 up to this one are taken: the limit must leave some room for connections.
const TAKEN_BELOW: u64 = 300;

/// Starts a process on this site with many descriptors.
pub(crate) fn start(site: &Site) -> Node {
    let script = format!(
        "for i in {{10..{}}}; do eval \"exec $i</dev/null\"; done; exec \"$@\"",
        TAKEN_BELOW - 1
    );
    site.start_with(&[], |command| {
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        *command = std::process::Command::new("bash");
        command.args(["-c", &script, "bash"]).arg(program).args(arguments);
    })
}

/// How many descriptors the process has open while nobody asks it anything.
pub(crate) fn idle(node: &Node) -> usize {
    let (mut count, mut since) = (0, Instant::now());
    wait_for("it is idle", Duration::from_secs(20), || {
        let now = open(node).len();
        if std::mem::replace(&mut count, now) != now {
            since = Instant::now();
        }
        (since.elapsed() > Duration::from_millis(500)).then_some(count)
    })
}

/// Has the process reload while it can open just so many descriptors besides the `idle` ones; returns
/// what it answers. The limit stays.
pub(crate) fn reload_with(node: &Node, control: &Path, idle: usize, left: usize) -> String {
    let stream = UnixStream::connect(control).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut lines = BufReader::new(&stream).lines();
    let mut ask = |request: &str| {
        let line = format!("{{\"version\":1,\"request\":{request}}}\n");
        (&stream).write_all(line.as_bytes()).unwrap();
        lines.next().unwrap().unwrap()
    };
    // It has the connection from then on, and that only.
    ask("{\"status\":{}}");
    let open = wait_for("only this connection is open", Duration::from_secs(4), || {
        Some(open(node)).filter(|open| open.len() == idle + 1)
    });
    let mut free = (0..).filter(|number| !open.contains(number));
    let limit = free.nth(left).unwrap();
    assert!(limit >= TAKEN_BELOW, "{limit}");
    let pid = Pid::from_raw(i32::try_from(node.pid()).unwrap());
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
    ask("{\"reload\":{}}")
}

fn open(node: &Node) -> Vec<u64> {
    let open = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap();
    let open = open.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    open.map(|name| name.parse().unwrap()).collect()
}
