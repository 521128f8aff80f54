//! The engine over a real sshd: locks that die with their connection, a run that is killed, its log.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiproxy::bootstrap::engine::{
    Change, Check, Context, Events, Execution, Graph, Hosts, Locks, Logged, Owner, RunLog, Step,
    StepError, StepId, Stopper, execute, observe,
};
use apiproxy::bootstrap::transport::{Command, File, Transport};
use common::sshd::{Server, obstacle};
use futures_util::future::BoxFuture;

/// A file that has to be there, after a while.
#[derive(Debug)]
struct Wanted {
    name: String,
    path: String,
    /// Seconds before it is written.
    delay: u32,
}

impl Step for Wanted {
    fn id(&self) -> StepId {
        StepId::new("h1", &self.name)
    }

    fn title(&self) -> String {
        format!("write {}", self.path)
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        Box::pin(async move {
            let found = cx.host("h1")?.read(&self.path).await?;
            let needed = Check::Needed(Change::new("it is not there"));
            Ok(if found.is_some() { Check::Done } else { needed })
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let script = "echo $$ > \"$1.pid\"; sleep \"$2\"";
            let words = [self.path.clone(), self.delay.to_string()];
            cx.run("h1", &Command::script(script, words)).await?;
            Ok(cx.host("h1")?.write(&File::new(&*self.path, "there")).await?)
        })
    }
}

fn context(server: &Server, log: &Arc<RunLog>) -> Context {
    let ssh: Arc<dyn Transport> = Arc::new(server.ssh());
    let logged: Arc<dyn Transport> = Arc::new(Logged::new(ssh, log));
    Context::new(Hosts::from([("h1".to_owned(), logged)]))
}

fn gone(pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    common::wait_for("the command is killed", Duration::from_secs(5), || {
        (!process.exists()).then_some(())
    });
}

#[tokio::test]
async fn a_run_that_is_killed_goes_on_when_it_is_run_again() {
    if let Some(obstacle) = obstacle() {
        skip!("{obstacle}");
    }
    let server = Server::start("");
    let log = Arc::new(RunLog::create(&server.path("runs"), "apply").unwrap());
    let cx = context(&server, &log);
    let wanted = |name: &str, delay| -> Arc<dyn Step> {
        let path = server.path(name).display().to_string();
        Arc::new(Wanted { name: name.to_owned(), path, delay })
    };
    let apply = async |delay| {
        let graph =
            Graph::new(&[wanted("one", 0), wanted("two", delay), wanted("three", 0)]).unwrap();
        let plan = observe(&graph, &cx, None, 16, &Events::none()).await;
        let (stopper, stop) = Stopper::new();
        let (events, barred) = (Events::none(), |_: &str| None);
        let execution = Execution { parallel: 16, cluster: None, barred: &barred, events, stop };
        let kill = async {
            let pid = server.path("two.pid");
            while delay > 0 && !pid.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if delay > 0 {
                stopper.press();
                stopper.press();
            }
        };
        tokio::join!(execute(&graph, &plan, &cx, &execution), kill).0
    };
    let words = |summary: apiproxy::bootstrap::engine::Summary| -> Vec<&'static str> {
        summary.steps.iter().map(|(_, outcome)| outcome.word()).collect()
    };
    assert_eq!(words(apply(300).await), ["applied", "interrupted", "skipped"]);
    gone(&server.path("two.pid"));
    assert!(!server.path("two").exists());
    assert_eq!(words(apply(0).await), ["unchanged", "applied", "applied"]);

    let text = fs::read_to_string(log.path()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str, step: &str| {
        lines.iter().filter(|line| line["kind"] == kind && line["step"] == step).count()
    };
    assert_eq!((of("run", "h1/two"), of("write", "h1/two"), of("write", "h1/one")), (2, 1, 1));
    assert_eq!(lines.iter().filter(|line| line["error"] == "killed").count(), 1, "{text}");
    assert_eq!(fs::metadata(log.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_lock_ends_with_its_connection() {
    if let Some(obstacle) = obstacle() {
        skip!("{obstacle}");
    }
    let server = Server::start("");
    let log = Arc::new(RunLog::create(&server.path("runs"), "apply").unwrap());
    let hosts = BTreeSet::from(["h1".to_owned()]);
    let owner = |name: &str| Owner { name: name.to_owned(), command: "apply".to_owned() };
    let ann = context(&server, &log);
    let held = Locks::take(&ann, &hosts, &owner("ann@desk 1"), false).await.unwrap();
    let bob = context(&server, &log);
    let refused = Locks::take(&bob, &hosts, &owner("bob@desk 2"), false).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.starts_with("h1 is locked by ann@desk 1, who runs `apply` since "), "{text}");

    // Her connection is cut; the lock is his, and she is told.
    let cut = "
        pid=$$
        while [ \"$(cat /proc/$pid/comm)\" != sshd ] && [ \"$pid\" -gt 1 ]; do
            pid=$(sed 's/.*) . //; s/ .*//' /proc/$pid/stat)
        done
        kill -9 $pid";
    ann.host("h1").unwrap().run(&Command::script(cut, [""; 0])).await.unwrap_err();
    let mut free = None;
    for _ in 0..50 {
        free = Locks::take(&bob, &hosts, &owner("bob@desk 2"), false).await.ok();
        if free.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(free.is_some(), "the lock stayed behind");
    let lost = held.lost("h1").unwrap().to_string();
    assert!(lost.starts_with("the lock of h1 was lost: "), "{lost}");
}
