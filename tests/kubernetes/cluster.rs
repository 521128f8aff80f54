//! A control plane of real binaries on loopback: one etcd and three kube-apiservers.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apiproxy::demo::{Authority, Dialer, Issued};
use tempfile::TempDir;

use super::binaries;
use super::common::{Proxy, send_signal, wait_for};
use super::kubectl::Kubectl;

/// Three kube-apiservers that start at the same time on two busy cores take 15 s.
const START: Duration = Duration::from_mins(1);

/// Long enough for a proxy to see it, so that it can leave before the listener closes.
pub(crate) const SHUTDOWN_DELAY: Duration = Duration::from_secs(5);

/// How many lines of a log are shown when a test fails.
const LAST_LINES: usize = 15;

static CLUSTER: Mutex<Option<Cluster>> = Mutex::new(None);
static TESTS: AtomicUsize = AtomicUsize::new(0);

/// The one cluster of this file, for one test at a time. The last test that holds it ends it, and
/// so does one that fails: the next then begins with a new one.
pub(crate) struct Held(MutexGuard<'static, Option<Cluster>>);

impl Held {
    /// Waits for the other tests, and starts or mends the cluster.
    pub(crate) fn take(assets: &Path) -> Self {
        TESTS.fetch_add(1, SeqCst);
        let mut held = Self(CLUSTER.lock().unwrap_or_else(PoisonError::into_inner));
        held.0.get_or_insert_with(|| Cluster::start(assets)).set_flags(&[]);
        held
    }
}

impl std::ops::Deref for Held {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().unwrap()
    }
}

impl std::ops::DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Cluster {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let last = TESTS.fetch_sub(1, SeqCst) == 1;
        if std::thread::panicking() {
            if let Some(cluster) = &*self.0 {
                cluster.show_logs();
            }
            *self.0 = None;
        } else if last {
            *self.0 = None;
        }
    }
}

/// A process of the cluster. Killed when dropped, also while it is stopped.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One kube-apiserver.
struct Server {
    name: String,
    port: u16,
    flags: Vec<String>,
    daemon: Option<Daemon>,
}

/// Certificates, etcd and the kube-apiservers `cp1` to `cp3`. Dropped in this order.
pub(crate) struct Cluster {
    servers: Vec<Server>,
    _etcd: Daemon,
    etcd_port: u16,
    pub(crate) authority: Authority,
    /// A client of the group `system:masters`.
    pub(crate) admin: Issued,
    assets: PathBuf,
    folder: TempDir,
}

impl Cluster {
    fn start(assets: &Path) -> Self {
        let folder = TempDir::with_prefix("apiproxy-kubernetes-").unwrap();
        let (authority, admin) = binaries::write_certificates(folder.path());
        let etcd_port = lasting_port();
        let etcd = start_etcd(assets, folder.path(), etcd_port);
        let servers = (1..=3)
            .map(|number| Server {
                name: format!("cp{number}"),
                port: lasting_port(),
                flags: Vec::new(),
                daemon: None,
            })
            .collect();
        let assets = assets.to_owned();
        let mut cluster =
            Self { servers, _etcd: etcd, etcd_port, authority, admin, assets, folder };
        for index in 0..cluster.servers.len() {
            cluster.run(index);
        }
        cluster.wait_serving();
        cluster
    }

    /// The names of the kube-apiservers.
    pub(crate) fn names(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.name.clone()).collect()
    }

    /// A file of the cluster's folder: certificates, keys and logs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder for what a test writes.
    pub(crate) fn scratch(&self) -> TempDir {
        TempDir::new_in(self.folder.path()).unwrap()
    }

    /// Restarts all kube-apiservers that do not run with exactly these flags besides their own.
    pub(crate) fn set_flags(&mut self, flags: &[&str]) {
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            if server.flags != flags || server.daemon.is_none() {
                server.flags = flags.iter().map(ToString::to_string).collect();
                server.daemon = None;
                self.run(index);
            }
        }
        self.wait_serving();
    }

    /// Starts a kube-apiserver that does not run; see [`Cluster::wait_serving`].
    pub(crate) fn run(&mut self, index: usize) {
        let folder = self.folder.path();
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = &mut self.servers[index];
        let mut command = Command::new(self.assets.join("kube-apiserver"));
        let (etcd, listen) = (local(self.etcd_port), local(server.port));
        command
            .args(binaries::apiserver_flags(folder, etcd, listen, SHUTDOWN_DELAY))
            .args(&server.flags);
        let log = folder.join(format!("{}.log", server.name));
        server.daemon = Some(Daemon::start(&mut command, &log));
    }

    /// Waits until all kube-apiservers answer 200 on /readyz, each of them asked itself.
    pub(crate) fn wait_serving(&mut self) {
        for index in 0..self.servers.len() {
            let name = self.servers[index].name.clone();
            wait_for(&format!("{name} is ready"), START, || {
                let daemon = self.servers[index].daemon.as_mut().unwrap();
                if let Some(status) = daemon.0.try_wait().unwrap() {
                    self.show_logs();
                    panic!("{name} ended with {status}");
                }
                let ready = self.readyz(index) == Some(200);
                if !ready {
                    // A handshake with a server that is starting up takes CPU time from it.
                    std::thread::sleep(Duration::from_millis(200));
                }
                ready.then_some(())
            });
        }
    }

    fn readyz(&self, index: usize) -> Option<u16> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.servers[index].port));
        binaries::readyz(address, &self.authority, &self.admin)
    }

    /// Sends a signal to a kube-apiserver.
    pub(crate) fn signal(&self, index: usize, signal: i32) {
        send_signal(self.servers[index].daemon.as_ref().unwrap().0.id(), signal);
    }

    /// SIGKILL, as when the machine's OOM killer comes.
    pub(crate) fn kill(&mut self, index: usize) {
        self.servers[index].daemon = None;
    }

    /// Starts a proxy in front of the three, with further lines for the section `healthCheck` and
    /// its `tls`, and waits until it sees all of them ready.
    pub(crate) fn proxy(&self, folder: &Path, health_check: &str, tls: &str) -> Proxy {
        use std::fmt::Write as _;
        let mut config = "backends:\n".to_owned();
        for server in &self.servers {
            let Server { name, port, .. } = server;
            let _ = writeln!(config, "  - {{ name: {name}, address: \"127.0.0.1:{port}\" }}");
        }
        let ca_file = self.path("ca.crt");
        let _ = write!(
            config,
            "healthCheck:\n  tls: {{ caFile: {}{tls} }}\n{health_check}",
            ca_file.display()
        );
        let proxy = Proxy::start(folder, &config);
        proxy.wait_ready(self.servers.len());
        proxy
    }

    /// A kubectl of the cluster's administrator that talks to `server`.
    pub(crate) fn kubectl(&self, server: SocketAddr) -> Kubectl {
        let flag = |name: &str, file: &str| format!("--{name}={}", self.path(file).display());
        Kubectl::new(
            self.assets.join("kubectl"),
            vec![
                format!("--server=https://{server}"),
                flag("certificate-authority", "ca.crt"),
                flag("client-certificate", "admin.crt"),
                flag("client-key", "admin.key"),
                flag("cache-dir", "kubectl-cache"),
                "--kubeconfig=/dev/null".to_owned(),
            ],
        )
    }

    /// A dialer of the cluster's administrator.
    pub(crate) fn dialer(&self, address: SocketAddr) -> Dialer {
        Dialer::new(address, &self.authority, Some(&self.admin)).unwrap()
    }

    fn show_logs(&self) {
        for server in &self.servers {
            let text = fs::read(self.path(&format!("{}.log", server.name))).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            super::say(&format!("--- the end of {}'s log ---\n{}", server.name, last.join("\n")));
        }
    }
}

fn start_etcd(assets: &Path, folder: &Path, port: u16) -> Daemon {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut command = Command::new(assets.join("etcd"));
    command.args(binaries::etcd_flags(folder, local(port), local(lasting_port())));
    let etcd = Daemon::start(&mut command, &folder.join("etcd.log"));
    wait_for("etcd listens", START, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    etcd
}

/// A free port that stays free while its server is down: outside the range from which the kernel
/// takes the ports of outgoing connections.
fn lasting_port() -> u16 {
    wait_for("a free port", Duration::from_secs(5), || {
        let port = fastrand::u16(10_000..32_000);
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|_| port)
    })
}
