//! A proxy that takes connections and answers nothing, suspended or stuck: whoever asks it is told so,
//! and whoever watches it goes on when it is back.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use apiproxy::admin::{EventStatus, Status};
use common::{Cluster, Proxy, Running, command, outcome, send_signal, wait_for};

const LONG: Duration = Duration::from_secs(20);
const SIGINT: i32 = 2;
const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

/// A command that goes on, and what it says.
struct Watcher {
    child: Running,
    out: PathBuf,
    err: PathBuf,
}

impl Watcher {
    /// Starts it against the proxy's control socket.
    fn start(cluster: &Cluster, proxy: &Proxy, name: &str, arguments: &[&str]) -> Self {
        let file = |kind: &str| cluster.folder.path().join(format!("{name}.{kind}"));
        let (out, err) = (file("out"), file("err"));
        let mut command = command(arguments);
        command.arg("--control-socket").arg(&proxy.control);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Self { child: Running(command.spawn().unwrap()), out, err }
    }

    fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    fn err(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    fn wait_err(&self, text: &str) {
        wait_for(&format!("`{text}` in {}", self.err.display()), LONG, || {
            self.err().contains(text).then_some(())
        });
    }

    /// Its whole lines so far, each a document.
    fn documents<T: serde::de::DeserializeOwned>(&self) -> Vec<T> {
        let text = self.out();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn interrupt(&mut self) {
        send_signal(self.child.0.id(), SIGINT);
        let status = wait_for("it ends", LONG, || self.child.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn who_watches_is_told_since_when_it_is_silent_and_goes_on_when_it_is_back() {
    let cluster = Cluster::new(2);
    let lines = "connections: { drainTimeout: 1h }\n";
    let proxy = cluster.proxy("interval: 200ms, fastInterval: 100ms,", lines);
    let client = cluster.client(&proxy);
    let held = client.open_to("cp1");
    let watcher = |name, arguments: &[&str]| Watcher::start(&cluster, &proxy, name, arguments);
    let mut events = watcher("events", &["status", "--events", "--watch", "-o", "json"]);
    let mut table = watcher("table", &["status", "--watch", "-o", "json"]);
    wait_for("what has happened is told", LONG, || {
        (events.documents::<EventStatus>().len() > 2).then_some(())
    });
    wait_for("there is a status", LONG, || (!table.documents::<Status>().is_empty()).then_some(()));
    let mut drain = watcher("drain", &["drain", "cp1", "--wait=5m"]);
    wait_for("it is drained", LONG, || drain.out().contains("1 connection left").then_some(()));

    proxy.signal(SIGSTOP);
    for watcher in [&events, &table, &drain] {
        watcher.wait_err("apiproxy is suspended or stuck");
        watcher.wait_err("no answer since 2");
        assert!(watcher.err().contains(proxy.control.to_str().unwrap()), "{}", watcher.err());
    }
    let (told, seen) = (events.documents::<EventStatus>().len(), table.documents::<Status>().len());

    proxy.signal(SIGCONT);
    for watcher in [&events, &table, &drain] {
        watcher.wait_err("it answers again, after ");
        assert_eq!(watcher.err().matches("no answer since").count(), 1, "{}", watcher.err());
    }
    wait_for("it is seen again", LONG, || (table.documents::<Status>().len() > seen).then_some(()));
    cluster.server("cp2").crash();
    wait_for("the death is told", LONG, || {
        let events = events.documents::<EventStatus>();
        events[told..].iter().any(|event| event.message.contains("-> dead")).then_some(())
    });
    let numbers: Vec<_> = events.documents::<EventStatus>().iter().map(|e| e.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "each once, in order: {numbers:?}");
    drop((held, client));
    let status = wait_for("the drain ends", LONG, || drain.child.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", drain.err());
    assert!(drain.out().contains("cp1 is empty after "), "{}", drain.out());
    events.interrupt();
    table.interrupt();
}

#[test]
fn a_drain_that_is_waited_for_ends_in_time_when_the_proxy_does_not_answer() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("", "connections: { drainTimeout: 1h }\n");
    let client = cluster.client(&proxy);
    let _held = client.open_to("cp1");
    let mut drain = Watcher::start(&cluster, &proxy, "drain", &["drain", "cp1", "--wait=4s"]);
    wait_for("it is drained", LONG, || drain.out().contains("1 connection left").then_some(()));
    proxy.signal(SIGSTOP);
    let status = wait_for("it gives up", LONG, || drain.child.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    drain.wait_err("cp1 was drained; `apiproxy status` tells whether it is empty");
}

#[test]
fn one_that_does_not_answer_is_told_from_one_that_is_not_apiproxy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("silent.sock");
    // The kernel takes connections; nobody ever answers.
    let _silent = UnixListener::bind(&path).unwrap();
    let ask = |arguments: &[&str]| {
        let began = Instant::now();
        (outcome(command(arguments).arg("--control-socket").arg(&path)), began.elapsed())
    };
    let gone = folder.path().join("gone.sock");
    let ends = UnixListener::bind(&gone).unwrap();
    thread::spawn(move || ends.incoming().for_each(drop));
    outcome(command(&["reload", "--control-socket"]).arg(&gone)).refused(1, "hung up before it");
    let other = folder.path().join("other.sock");
    let speaks = UnixListener::bind(&other).unwrap();
    thread::spawn(move || {
        for stream in speaks.incoming() {
            let _ = stream.unwrap().write_all(b"{ 220 hello\n");
        }
    });
    outcome(command(&["reload", "--control-socket"]).arg(&other)).refused(1, "is not apiproxy (");
    thread::scope(|scope| {
        for arguments in [&["status"][..], &["status", "--events"]] {
            scope.spawn(move || {
                let (answer, took) = ask(arguments);
                answer.refused(1, "within 3s: apiproxy is suspended or stuck, or another program");
                answer.refused(1, "its log may tell why; if it stays so, restart it");
                assert!(took < Duration::from_secs(8), "{took:?}");
            });
        }
        for arguments in [&["reload"][..], &["drain", "cp1"], &["undrain", "cp1"]] {
            scope.spawn(move || {
                let (answer, _) = ask(arguments);
                answer.refused(1, "within 10s: apiproxy is suspended or stuck");
                answer.refused(1, "once it goes on it may still do what it was told");
                assert!(!answer.stderr.contains("is not apiproxy"), "{answer:?}");
            });
        }
    });
}
