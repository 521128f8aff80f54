//! Whoever provisions machines: a cluster file, a home, and `apiproxy bootstrap` over real ssh.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::machines::Lab;
use super::program::{Outcome, outcome_within};
use super::{Running, command};

/// How long any run may take, where two processors boot a dozen machines.
const PATIENCE: Duration = Duration::from_mins(8);

/// The operator's machine is this host.
pub struct Operator {
    /// The cluster file, the home and the sockets of ssh; its path is short, as theirs have to be.
    folder: tempfile::TempDir,
    path: String,
    ssh_config: PathBuf,
}

impl Operator {
    pub fn new(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, path: lab.path(), ssh_config: lab.ssh_config() }
    }

    /// Where the cluster file and what it names are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the cluster file: this is below `spec`.
    pub fn write(&self, spec: &str) {
        let text = format!(
            "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: {{ name: test }}\nspec:\n{spec}"
        );
        fs::write(self.folder().join("cluster.yaml"), text).unwrap();
    }

    /// A command of `apiproxy bootstrap` about the cluster file.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = command(&["bootstrap"]);
        command.args(words).arg("--file").arg(self.folder().join("cluster.yaml"));
        command.arg("--ssh-config").arg(&self.ssh_config);
        command.env("PATH", &self.path).env("HOME", self.folder());
        command.env("XDG_RUNTIME_DIR", self.folder());
        for name in ["SSH_AUTH_SOCK", "XDG_STATE_HOME"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Outcome {
        outcome_within(&mut self.command(words), PATIENCE)
    }

    /// `apply`, which must succeed; how long it took.
    #[track_caller]
    pub fn apply(&self, more: &[&str]) -> (Outcome, Duration) {
        let begun = Instant::now();
        let outcome = self.run(&[&["apply", "--yes"], more].concat());
        assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
        (outcome, begun.elapsed())
    }

    /// `apply` once more, which must find nothing to do; how long it took.
    #[track_caller]
    pub fn apply_again(&self, more: &[&str]) -> Duration {
        let (outcome, time) = self.apply(more);
        assert!(outcome.stdout.starts_with("Nothing to do: "), "{outcome:?}");
        time
    }

    /// Starts `apply`, to be followed.
    pub fn start(&self, more: &[&str]) -> Run {
        self.start_words(&[&["apply", "--yes", "--output", "json"], more].concat())
    }

    /// Starts a command whose events are JSON, to be followed.
    pub fn start_words(&self, words: &[&str]) -> Run {
        let mut command = self.command(words);
        let log = fs::File::create(self.folder().join("errors")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        Run { child: Running(child), events, seen: Vec::new() }
    }
}

impl Drop for Operator {
    /// Connections of a run that was killed would stay for minutes.
    fn drop(&mut self) {
        let folders = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        let sockets = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten());
        for below in sockets.flatten().flat_map(|found| fs::read_dir(found.path())) {
            for socket in below.flatten().filter(|file| file.file_type().unwrap().is_socket()) {
                let mut exit = Command::new("ssh");
                exit.args(["-F", "none", "-O", "exit", "-S"]).arg(socket.path()).arg("none");
                let _ = exit.stdin(Stdio::null()).stderr(Stdio::null()).status();
            }
        }
    }
}

/// An `apply` that is under way. Killed when dropped.
pub struct Run {
    child: Running,
    events: Lines<BufReader<ChildStdout>>,
    /// What it has told until now.
    pub seen: Vec<Value>,
}

impl Run {
    /// Its next event; none when it has ended.
    pub fn event(&mut self) -> Option<Value> {
        let event: Value = serde_json::from_str(&self.events.next()?.ok()?).unwrap();
        self.seen.push(event.clone());
        Some(event)
    }

    /// Waits until it begins a step, as `HOST/STEP`, for which this holds.
    pub fn step(&mut self, mut wanted: impl FnMut(&str) -> bool) -> Option<String> {
        while let Some(event) = self.event() {
            let text = |name: &str| event[name].as_str().unwrap_or_default();
            let step = format!("{}/{}", text("host"), text("step"));
            if event["event"] == "started" && wanted(&step) {
                return Some(step);
            }
        }
        None
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// Its end.
    pub fn end(mut self) -> (Option<i32>, Vec<Value>) {
        while self.event().is_some() {}
        (self.child.0.wait().unwrap().code(), std::mem::take(&mut self.seen))
    }
}
