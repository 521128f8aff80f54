//! kubectl as a client of the proxy: single calls, an apply that is repeated as a whole, and a watch
//! that is begun again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What kubectl says when its connection was cut or refused. A timeout is not among them: whoever
/// cuts a connection in time spares the client from waiting.
const CUTS: &[&str] =
    &["EOF", "connection refused", "connection reset", "connection lost", "broken pipe", "GOAWAY"];

/// How long a watch that was cut waits before it begins again.
const WATCH_PAUSE: Duration = Duration::from_millis(100);

/// kubectl with the flags that say where and who.
#[derive(Clone)]
pub(crate) struct Kubectl {
    program: PathBuf,
    flags: Vec<String>,
}

/// How applies went.
#[derive(Default)]
pub(crate) struct Applied {
    /// Calls that succeeded.
    pub(crate) ok: u32,
    /// Calls that were repeated because their connection was cut.
    pub(crate) retries: u32,
    /// The longest time from the first attempt to success.
    pub(crate) slowest: Duration,
}

impl Applied {
    pub(crate) fn merge(self, other: &Self) -> Self {
        Self {
            ok: self.ok + other.ok,
            retries: self.retries + other.retries,
            slowest: self.slowest.max(other.slowest),
        }
    }
}

impl Kubectl {
    pub(crate) fn new(program: PathBuf, flags: Vec<String>) -> Self {
        Self { program, flags }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // After the arguments: plugins are looked up by the first words.
        command.args(args).args(&self.flags).stdin(Stdio::null());
        command
    }

    /// One call, no request of which may take more than 30 s: what it printed to standard output,
    /// or to standard error when it failed.
    pub(crate) fn attempt(&self, args: &[&str]) -> Result<String, String> {
        let output = self.command(args).arg("--request-timeout=30s").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// One call that must succeed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        self.attempt(args).unwrap_or_else(|error| panic!("kubectl {args:?}: {error}"))
    }

    /// Applies a file, and repeats that when a connection was cut in the middle.
    pub(crate) fn apply(&self, file: &Path, applied: &mut Applied) {
        let began = Instant::now();
        let file = file.to_str().unwrap();
        while let Err(error) = self.attempt(&["apply", "-f", file]) {
            assert!(CUTS.iter().any(|cut| error.contains(cut)), "kubectl apply: {error}");
            assert!(began.elapsed() < Duration::from_secs(30), "only cut connections: {error}");
            applied.retries += 1;
        }
        applied.ok += 1;
        applied.slowest = applied.slowest.max(began.elapsed());
    }
}

/// `kubectl get namespaces --watch`, begun again whenever it ends.
pub(crate) struct Watch {
    shared: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    starts: u32,
    child: Option<Child>,
    stopped: bool,
}

impl Watch {
    pub(crate) fn start(kubectl: Kubectl) -> Self {
        let shared = Arc::new(Mutex::new(Seen::default()));
        let thread = thread::spawn({
            let shared = shared.clone();
            move || follow(&kubectl, &shared)
        });
        Self { shared, thread: Some(thread) }
    }

    /// Has it shown this namespace?
    pub(crate) fn has_shown(&self, namespace: &str) -> bool {
        lock(&self.shared).lines.iter().any(|line| line == &format!("namespace/{namespace}"))
    }

    /// How often it has been begun.
    pub(crate) fn starts(&self) -> u32 {
        lock(&self.shared).starts
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        {
            let mut seen = lock(&self.shared);
            seen.stopped = true;
            if let Some(child) = &mut seen.child {
                let _ = child.kill();
            }
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn follow(kubectl: &Kubectl, shared: &Mutex<Seen>) {
    loop {
        let stdout = {
            let mut seen = lock(shared);
            if seen.stopped {
                return;
            }
            let mut command = kubectl.command(&["get", "namespaces", "--watch", "--output=name"]);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let stdout = child.stdout.take().unwrap();
            seen.starts += 1;
            seen.child = Some(child);
            stdout
        };
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            lock(shared).lines.push(line);
        }
        let child = lock(shared).child.take();
        if let Some(mut child) = child {
            let _ = child.wait();
        }
        thread::sleep(WATCH_PAUSE);
    }
}
