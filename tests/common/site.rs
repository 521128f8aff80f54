//! One place where processes take over from each other: the same addresses, the same control socket.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use apiproxy::admin::{History, Status};
use tempfile::TempDir;

use super::{command, free_port, outcome, program, send_signal, wait_for};

/// Addresses, a control socket and a configuration file.
pub struct Site {
    folder: TempDir,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub control: PathBuf,
    lines: String,
    count: AtomicU32,
}

/// A process.
pub struct Node {
    child: Child,
    log: PathBuf,
}

impl Site {
    /// A site whose configuration has these lines.
    pub fn new(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (listen, admin) = (local(free_port()), local(free_port()));
        let control = folder.path().join("control.sock");
        let count = AtomicU32::new(0);
        Self { folder, listen, admin, control, lines: lines.to_owned(), count }
    }

    /// The same place with more lines.
    pub fn with_config(&self, more: &str) -> Self {
        self.with_lines(self.lines.clone() + more)
    }

    /// The same place, where clients connect elsewhere.
    pub fn listening(&self, listen: SocketAddr) -> Self {
        Self { listen, ..self.with_config("") }
    }

    /// The same place with one other backend.
    pub fn with_backends(&self, address: &str) -> Self {
        self.with_lines(format!(
            "backends: [{{ address: \"{address}\" }}]\nhealthCheck: {{ type: tcp }}\n"
        ))
    }

    fn with_lines(&self, lines: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (listen, admin, control) = (self.listen, self.admin, self.control.clone());
        Self { folder, listen, admin, control, lines, count: AtomicU32::new(0) }
    }

    /// Starts a process and waits until the site answers.
    pub fn start(&self, arguments: &[&str]) -> Node {
        let node = self.start_not_serving(arguments);
        node.wait_log("serving", Duration::from_secs(20));
        node
    }

    /// Starts a process.
    pub fn start_not_serving(&self, arguments: &[&str]) -> Node {
        self.start_with(arguments, |_| {})
    }

    /// Starts a process with a command that is changed first.
    pub fn start_with(&self, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Node {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let file = self.file();
        std::fs::write(&file, self.text(&self.lines)).unwrap();
        let log = self.folder.path().join(format!("{number}.log"));
        let mut command = Command::new(program());
        command.args(["run", "--config"]).arg(&file).args(arguments);
        change(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        Node { child: command.spawn().unwrap(), log }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("apiproxy.yaml")
    }

    /// The configuration of this place with these lines.
    pub fn text(&self, lines: &str) -> String {
        format!(
            "apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\nlisten: [\"{}\"]\n\
             admin: {{ listen: \"{}\", controlSocket: \"{}\" }}\n{lines}",
            self.listen,
            self.admin,
            self.control.display(),
        )
    }

    /// Replaces the configuration file at a stroke.
    pub fn replace_config(&self, text: &str) {
        let new = self.folder.path().join("new.yaml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    pub fn remove_config(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }

    /// Runs a command against the site, which must succeed.
    pub fn ask(&self, arguments: &[&str]) {
        let outcome = outcome(command(arguments).arg("--control-socket").arg(&self.control));
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }

    fn get(&self, path: &str) -> Option<String> {
        use std::io::Write;
        let mut stream = TcpStream::connect(self.admin).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// The status document of whoever answers.
    pub fn status(&self) -> Status {
        serde_json::from_str(&self.get("/status").unwrap()).unwrap()
    }

    /// What has happened in the process that answers.
    pub fn history(&self) -> History {
        serde_json::from_str(&self.get("/events").unwrap()).unwrap()
    }

    /// The process that answers.
    pub fn pid(&self) -> u32 {
        self.status().pid
    }

    /// Does this process answer?
    pub fn is_served_by(&self, node: &Node) -> bool {
        let status =
            self.get("/status").and_then(|text| serde_json::from_str::<Status>(&text).ok());
        status.is_some_and(|status| status.pid == node.pid())
    }

    /// The state of a backend.
    pub fn state(&self, name: &str) -> String {
        let status = self.status();
        status.backends.iter().find(|b| b.name == name).unwrap().state.to_string()
    }

    /// Waits until so many backends are ready.
    pub fn wait_ready(&self, count: usize) {
        wait_for("backends are ready", Duration::from_secs(20), || {
            let status = self.status();
            let ready = status.backends.iter().filter(|b| b.state.as_str() == "ready").count();
            (ready == count).then_some(())
        });
    }

    /// One series of `/metrics`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(series).map(str::to_owned));
        line?.trim().parse().ok()
    }
}

impl Node {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has logged this.
    pub fn wait_log(&self, text: &str, within: Duration) {
        let end = std::time::Instant::now() + within;
        while !self.log().contains(text) {
            assert!(std::time::Instant::now() < end, "no `{text}` in {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: i32) {
        send_signal(self.pid(), signal);
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        let end = std::time::Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(std::time::Instant::now() < end, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
