//! What the integration tests share: the program under test as a process, and waiting for facts.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "every test binary uses another part of this module"
)]

pub mod bulk;
mod cluster;
pub mod doubles;
pub mod machines;
pub mod members;
mod net;
pub mod object_store;
pub mod operator;
mod program;
mod site;
pub mod sshd;
mod tcp;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use apiproxy::admin::Status;

pub use cluster::{ANY_PORT, Client, Cluster};
pub use net::{in_network, no_network};
pub use program::{Outcome, apiproxy, command, outcome, outcome_within};
pub use site::{Node, Site};
pub use tcp::Echo;

/// Says why a test cannot run here, and leaves it. In CI nothing may be skipped but what needs
/// binaries that no registry has.
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {{
        let why = format!($($why)*);
        // Past the test harness, which would keep it to itself.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("skipped: {why}\n"),
        );
        assert!(
            std::env::var_os("CI").is_none() || why.starts_with("KUBEBUILDER_ASSETS"),
            "skipped in CI: {why}"
        );
        return;
    }};
}

/// The program under test: `APIPROXY_BIN`, or what cargo built.
pub fn program() -> PathBuf {
    std::env::var_os("APIPROXY_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_apiproxy")), PathBuf::from)
}

/// The static program that is built for release: `APIPROXY_MUSL_BIN`, or what cargo built.
pub fn released() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("APIPROXY_MUSL_BIN") {
        return Some(path.into());
    }
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    Some(root.join(target).join("release/apiproxy")).filter(|path| path.is_file())
}

/// Copies a program by another process: one that is started at this moment by another test would
/// inherit the file that is written, and what is being written cannot be run.
pub fn copy_program(from: &Path, to: &Path) {
    run(Command::new("cp").arg(from).arg(to));
}

/// A port of 127.0.0.1 that nobody has at this moment. It is below those that the kernel gives to
/// outgoing connections, so that none of these takes it before it is used; the process id keeps
/// test binaries that run side by side apart.
pub fn free_port() -> u16 {
    const FIRST: u32 = 11_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + (std::process::id().wrapping_mul(211) + number) % COUNT;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The lines of the configuration for backends without names.
pub fn backend_lines(addresses: &[SocketAddr]) -> String {
    let line = |address| format!("  - address: \"{address}\"\n");
    "backends:\n".to_owned() + &addresses.iter().map(line).collect::<Vec<_>>().concat()
}

/// Tells a measured figure, past the test harness, which would keep it to itself.
pub fn report(figure: &str) {
    let _ = writeln!(io::stderr(), "measured: {figure}");
}

/// Reads until the end of a connection and says how it came.
pub fn read_to_end(stream: &mut TcpStream, within: Duration) -> io::Result<usize> {
    stream.set_read_timeout(Some(within)).unwrap();
    stream.read_to_end(&mut Vec::new())
}

/// Is this the end of a connection that was reset?
pub fn is_reset<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| {
        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    })
}

/// A child process. Killed when dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Is there such a program on the PATH?
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Waits until `fact` is there, looking every 10 ms; panics with `what` when it does not come.
pub fn wait_for<T>(what: &str, within: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A running `apiproxy run`. Killed when dropped.
pub struct Proxy {
    pub child: Child,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub log: PathBuf,
    /// Its configuration file.
    pub file: PathBuf,
    pub control: PathBuf,
}

impl Proxy {
    /// Starts it with a configuration file of these lines (without listen and admin) and waits until
    /// it serves.
    pub fn start(folder: &Path, config: &str) -> Self {
        Self::start_program(&program(), folder, config, &[])
    }

    /// The same, of another binary and with environment variables.
    pub fn start_program(
        program: &Path,
        folder: &Path,
        config: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let with_listen = |admin, control: &Path| text(listen, admin, control, config);
        Self::start_text(program, folder, listen, with_listen, environment)
    }

    /// The same with a text of its own, by the admin address and the control socket.
    pub fn start_text(
        program: &Path,
        folder: &Path,
        listen: SocketAddr,
        text: impl FnOnce(SocketAddr, &Path) -> String,
        environment: &[(&str, &str)],
    ) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let control = folder.join(format!("apiproxy-{}.sock", listen.port()));
        let text = text(admin, &control);
        let file = folder.join(format!("apiproxy-{}.yaml", listen.port()));
        std::fs::write(&file, &text).unwrap();
        let log = folder.join(format!("apiproxy-{}.log", listen.port()));
        let mut child = Command::new(program)
            .args(["run", "--config"])
            .arg(&file)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        wait_for("the proxy serves", Duration::from_secs(10), || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the proxy ended with {status}: {}", std::fs::read_to_string(&log).unwrap());
            }
            TcpStream::connect(admin).ok()
        });
        Self { child, listen, admin, log, file, control }
    }

    /// The text of a configuration like its own, with other lines.
    pub fn config(&self, lines: &str) -> String {
        text(self.listen, self.admin, &self.control, lines)
    }

    /// Replaces its configuration file at a stroke.
    pub fn replace_config(&self, text: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }

    /// Has it read its configuration file again, and waits for what comes of it.
    pub fn reload(&self) {
        let counted = || self.metric("apiproxy_config_reloads_total", &[]);
        let before = counted();
        self.signal(1);
        wait_for("it reloads", Duration::from_secs(5), || (counted() > before).then_some(()));
    }

    /// Waits until so many backends are ready.
    pub fn wait_ready(&self, backends: usize) {
        wait_for("backends are ready", Duration::from_secs(20), || {
            let ready = |status: &Status| {
                status.backends.iter().filter(|b| b.state.as_str() == "ready").count()
            };
            (ready(&self.status()) == backends).then_some(())
        });
    }

    /// Waits until a backend, by name or address, is in a state.
    pub fn wait_state(&self, backend: &str, state: &str, within: Duration) {
        wait_for(&format!("{backend} is {state}"), within, || {
            let status = self.status();
            let mut backends = status.backends.iter();
            let found = backends.find(|b| b.name == backend || b.address == backend).unwrap();
            (found.state.as_str() == state).then_some(())
        });
    }

    /// The status document.
    pub fn status(&self) -> Status {
        let (code, body) = http_get(self.admin, "/status");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        http_get(self.admin, "/metrics").1
    }

    /// The sum of all series of a metric whose line contains all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.metrics()
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|l| l.starts_with(['{', ' '])))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .fold(0.0, |sum, value| sum + value)
    }

    /// What it has logged so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has logged this: lines are written by a thread of their own.
    pub fn wait_log(&self, text: &str) {
        wait_for(&format!("it logs {text:?}"), Duration::from_secs(10), || {
            self.log_text().contains(text).then_some(())
        });
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        send_signal(self.child.id(), signal);
    }

    /// Waits for its end.
    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the proxy ends", within, || child.try_wait().unwrap())
    }
}

/// The text of a configuration.
fn text(listen: SocketAddr, admin: SocketAddr, control: &Path, lines: &str) -> String {
    format!(
        "apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\nlisten: [\"{listen}\"]\n\
         admin: {{ listen: \"{admin}\", controlSocket: \"{}\" }}\n{lines}",
        control.display()
    )
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = format!("--- the proxy's log ---\n{}\n", self.log_text());
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        }
    }
}

/// Sends a signal to a process.
pub fn send_signal(pid: u32, signal: i32) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(status.unwrap().success(), "cannot signal {pid}");
}

/// A plain HTTP GET: status code and body.
pub fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let code = text.split(' ').nth(1).unwrap().parse().unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1;
    (code, body.to_owned())
}

/// Runs a command and returns what it printed to standard output; panics when it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
