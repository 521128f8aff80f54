//! Real kube-apiservers that join and leave: the proxy finds out by itself. In a network of its own,
//! because an apiserver announces no loopback address. `KUBEBUILDER_ASSETS` as in tests/kubernetes.rs.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails ends the test")]

mod common;

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use apiproxy::admin::BackendStatus;
use apiproxy::demo::{Authority, Dialer, Issue, Issued, Protocol};

use common::{Proxy, Running, in_network, no_network, report, run, send_signal, wait_for};

/// Kube-apiservers that start on two busy cores.
const START: Duration = Duration::from_mins(2);

/// What the proxy is given once an apiserver has joined, or is dead.
const JOINED: Duration = Duration::from_secs(15);
const GONE: Duration = Duration::from_secs(30);

const LINKS: [&str; 4] = ["10.91.0.1/24", "10.91.0.2/24", "10.91.0.3/24", "10.91.0.4/24"];

#[test]
fn apiservers_that_join_and_leave_are_found_out() {
    let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
        skip!("KUBEBUILDER_ASSETS is not set");
    };
    if let Some(why) = no_network() {
        skip!("{why}");
    }
    in_network("kube", &LINKS, move || join_and_leave(&assets));
}

fn address(server: usize) -> SocketAddr {
    format!("10.91.0.{server}:6443").parse().unwrap()
}

/// etcd, certificates and kube-apiservers. Dropped in this order.
struct Cluster {
    servers: Vec<Option<Running>>,
    _etcd: Running,
    authority: Authority,
    admin: Issued,
    assets: PathBuf,
    folder: tempfile::TempDir,
}

fn start(command: &mut Command, log: &Path) -> Running {
    let log = File::create(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Running(command.spawn().unwrap())
}

impl Cluster {
    fn new(assets: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("kubernetes-ca").unwrap();
        let server = authority.server().unwrap();
        let accounts = authority.server().unwrap();
        let issue = Issue { names: &["admin"], client: true, ..Issue::default() };
        let admin = authority.issue(issue).unwrap();
        for (name, content) in [
            ("ca.crt", &authority.pem()),
            ("apiserver.crt", &server.cert_pem),
            ("apiserver.key", &server.key_pem),
            ("admin.crt", &admin.cert_pem),
            ("admin.key", &admin.key_pem),
            ("sa.crt", &accounts.cert_pem),
            ("sa.key", &accounts.key_pem),
        ] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let mut command = Command::new(assets.join("etcd"));
        command.arg("--data-dir").arg(folder.path().join("etcd"));
        let etcd = start(&mut command, &folder.path().join("etcd.log"));
        wait_for("etcd listens", START, || TcpStream::connect("127.0.0.1:2379").ok());
        let servers = (0..4).map(|_| None).collect();
        let assets = assets.to_owned();
        Self { servers, _etcd: etcd, authority, admin, assets, folder }
    }

    /// Starts kube-apiserver number 1 to 4, as kubeadm would: with its lease among the endpoints.
    fn run(&mut self, server: usize) {
        let folder = self.folder.path();
        let ip = address(server).ip();
        let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
        let mut command = Command::new(self.assets.join("kube-apiserver"));
        command
            .arg("--etcd-servers=http://127.0.0.1:2379")
            .arg(format!("--bind-address={ip}"))
            .arg(format!("--advertise-address={ip}"))
            .args(["--secure-port=6443", "--endpoint-reconciler-type=lease"])
            .arg(file("tls-cert-file", "apiserver.crt"))
            .arg(file("tls-private-key-file", "apiserver.key"))
            .arg(file("client-ca-file", "ca.crt"))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(file("service-account-key-file", "sa.crt"))
            .arg(file("service-account-signing-key-file", "sa.key"))
            .arg("--disable-admission-plugins=ServiceAccount")
            .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"])
            .arg("--shutdown-delay-duration=5s");
        let log = folder.join(format!("cp{server}.log"));
        self.servers[server - 1] = Some(start(&mut command, &log));
    }

    fn wait_serving(&self, server: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        wait_for(&format!("cp{server} is ready"), START, || {
            let dialer = Dialer::new(address(server), &self.authority, Some(&self.admin)).unwrap();
            let answer = runtime.block_on(async {
                let mut connection = dialer.dial(Protocol::Http1).await.ok()?;
                Some(connection.get("/readyz").await.ok()?.status() == 200)
            });
            if answer != Some(true) {
                std::thread::sleep(Duration::from_millis(200));
            }
            (answer == Some(true)).then_some(())
        });
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let file = |flag: &str, name: &str| {
            format!("--{flag}={}", self.folder.path().join(name).display())
        };
        let mut command = Command::new(self.assets.join("kubectl"));
        command
            .args(args)
            .arg(format!("--server=https://{}", address(1)))
            .args(["--tls-server-name=kubernetes", "--kubeconfig=/dev/null"])
            .arg(file("certificate-authority", "ca.crt"))
            .arg(file("client-certificate", "admin.crt"))
            .arg(file("client-key", "admin.key"))
            .arg(file("cache-dir", "cache"));
        run(&mut command)
    }

    /// The rights that `manifest rbac` prints, and a kubeconfig with a token of its ServiceAccount.
    fn give_rights(&self) {
        let folder = self.folder.path();
        let rights = common::apiproxy(&["manifest", "rbac"]).stdout;
        fs::write(folder.join("rbac.yaml"), rights).unwrap();
        self.kubectl(&["apply", "-f", folder.join("rbac.yaml").to_str().unwrap()]);
        let token = self.kubectl(&["create", "token", "apiproxy", "--namespace=kube-system"]);
        fs::write(folder.join("token"), token).unwrap();
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
            clusters: [{ name: c, cluster: { certificate-authority: ca.crt } }]\n\
            contexts: [{ name: x, context: { cluster: c, user: u } }]\n\
            users: [{ name: u, user: { tokenFile: token } }]\n";
        fs::write(folder.join("apiproxy.conf"), text).unwrap();
    }
}

fn find(proxy: &Proxy, server: usize) -> Option<BackendStatus> {
    let address = address(server).to_string();
    proxy.status().backends.into_iter().find(|backend| backend.address == address)
}

/// Waits until a backend has left, and tells how long that took.
fn wait_gone(proxy: &Proxy, server: usize) -> Duration {
    let start = Instant::now();
    wait_for(&format!("cp{server} is gone"), GONE, || find(proxy, server).is_none().then_some(()));
    start.elapsed()
}

fn join_and_leave(assets: &Path) {
    let mut cluster = Cluster::new(assets);
    for server in 1..=3 {
        cluster.run(server);
        // One after another: they would take the CPU from each other.
        cluster.wait_serving(server);
    }
    cluster.give_rights();
    let seeds = |address: SocketAddr| {
        format!(
            "backends: [{{ address: \"{address}\" }}]\n\
             healthCheck: {{ tls: {{ caFile: ca.crt }} }}\nrebalance: {{ after: 0s, window: 5s }}\n\
             discovery: {{ kubernetes: {{ kubeconfig: apiproxy.conf }}, cacheFile: cache.json }}\n"
        )
    };
    let folder = cluster.folder.path().to_owned();
    let proxy = Proxy::start(&folder, &seeds(address(1)));
    proxy.wait_ready(3);

    cluster.run(4);
    cluster.wait_serving(4);
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dialer = Dialer::new(proxy.listen, &cluster.authority, Some(&cluster.admin)).unwrap();
    let ask = |dialer: &Dialer| {
        runtime.block_on(async {
            let mut connection = dialer.dial(Protocol::Http1).await?;
            connection.get("/api/v1/namespaces").await.map(|answer| answer.status().as_u16())
        })
    };
    wait_for("traffic reaches the fourth apiserver", JOINED, || {
        assert_eq!(ask(&dialer).unwrap(), 200);
        find(&proxy, 4).filter(|backend| backend.connections_total > 0)
    });
    report(&format!("traffic reaches a fourth apiserver {:?} after it is ready", start.elapsed()));

    cluster.servers[3] = None;
    proxy.wait_state(&address(4).to_string(), "dead", JOINED);
    report(&format!("a killed apiserver is gone {:?} after it is dead", wait_gone(&proxy, 4)));

    send_signal(cluster.servers[2].as_ref().unwrap().0.id(), libc::SIGTERM);
    report(&format!("one that shuts down is gone {:?} after it was told", wait_gone(&proxy, 3)));
    assert_eq!(ask(&dialer).unwrap(), 200);
    assert!(fs::read_to_string(folder.join("cache.json")).unwrap().contains("10.91.0.2"));
    drop(proxy);

    // The only seed is dead: the documentation's network answers nothing.
    let start = Instant::now();
    let proxy = Proxy::start(&folder, &seeds("192.0.2.1:6443".parse().unwrap()));
    let dialer = Dialer::new(proxy.listen, &cluster.authority, Some(&cluster.admin)).unwrap();
    while ask(&dialer).ok() != Some(200) {
        assert!(start.elapsed() < Duration::from_secs(2), "not served within 2 s");
    }
    report(&format!("with a dead seed and a cache, served {:?} after the start", start.elapsed()));
    wait_for("the slices are watched through what the cache named", JOINED, || {
        let sources = proxy.status().sources;
        sources
            .iter()
            .any(|source| source.source == "kubernetes" && source.servers == 2)
            .then_some(())
    });
}
