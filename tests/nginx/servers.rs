//! Three nginx servers as stand-ins for apiservers, and the real clients that come to them through
//! the proxy.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use apiproxy::demo::{Authority, Blob, Sha256};
use tempfile::TempDir;

use crate::common::{self, Proxy, wait_for};

/// What the servers are called, in the proxy's configuration and in their `X-Server` header.
pub(crate) const NAMES: [&str; 3] = ["alpha", "bravo", "charlie"];

/// The pace of downloads from `/slow/`, in bytes a second. nginx gives the first second's bytes at
/// once.
pub(crate) const SLOW_RATE: u64 = 256 * 1024;

/// The first of these programs that is not on this host.
pub(crate) fn missing(programs: &[&'static str]) -> Option<&'static str> {
    let found = |name: &str| name == "nginx" && nginx().is_some() || common::has_program(name);
    programs.iter().find(|name| !found(name)).copied()
}

/// nginx lives where only root's PATH looks.
fn nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("nginx")).find(|program| program.is_file())
}

/// A process that is killed when dropped.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One nginx: a single process, so that SIGKILL ends all of it at once.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Holds its configuration, certificate, log and what was uploaded to it.
    pub(crate) folder: PathBuf,
    process: Option<Process>,
}

impl Server {
    fn new(name: &'static str, parent: &Path, authority: &Authority) -> Self {
        let folder = parent.join(name);
        fs::create_dir(&folder).unwrap();
        let issued = authority.server().unwrap();
        fs::write(folder.join("server.crt"), &issued.cert_pem).unwrap();
        fs::write(folder.join("server.key"), &issued.key_pem).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], common::free_port()));
        let text = configuration(name, address, &folder, parent);
        fs::write(folder.join("nginx.conf"), text).unwrap();
        let mut server = Self { name, address, folder, process: None };
        server.start();
        server
    }

    /// Starts it, or starts it again after [`Server::kill`], and waits until it accepts.
    pub(crate) fn start(&mut self) {
        let log = self.folder.join("error.log");
        let mut command = Command::new(nginx().unwrap());
        command.arg("-p").arg(&self.folder).arg("-c").arg(self.folder.join("nginx.conf"));
        command.arg("-e").arg(&log).stdin(Stdio::null()).stdout(Stdio::null());
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let mut process = Process(command.stderr(output).spawn().unwrap());
        wait_for("nginx accepts", Duration::from_secs(10), || {
            if let Some(status) = process.0.try_wait().unwrap() {
                panic!("nginx ended with {status}: {}", fs::read_to_string(&log).unwrap());
            }
            TcpStream::connect(self.address).ok()
        });
        self.process = Some(process);
    }

    /// SIGKILL: its connections and its listener are gone when this returns.
    pub(crate) fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Lets `/readyz` say 500, as an apiserver that is about to shut down, or 200 again.
    pub(crate) fn set_ready(&self, ready: bool) {
        let flag = self.folder.join("not-ready");
        if ready { fs::remove_file(flag).unwrap() } else { fs::write(flag, "").unwrap() }
    }
}

fn configuration(name: &str, address: SocketAddr, folder: &Path, shared: &Path) -> String {
    let (folder, shared) = (folder.display(), shared.display());
    format!(
        r#"daemon off;
master_process off;
pid "{folder}/nginx.pid";
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path "{folder}/body";
    proxy_temp_path "{folder}/proxy";
    fastcgi_temp_path "{folder}/fastcgi";
    uwsgi_temp_path "{folder}/uwsgi";
    scgi_temp_path "{folder}/scgi";
    client_max_body_size 0;
    keepalive_requests 1000000;
    server {{
        listen {address} ssl http2 backlog=1024;
        ssl_certificate "{folder}/server.crt";
        ssl_certificate_key "{folder}/server.key";
        add_header X-Server {name} always;
        location = /readyz {{
            if (-f "{folder}/not-ready") {{ return 500 "not ready"; }}
            return 200 "ok";
        }}
        location /files/ {{ alias "{shared}/"; }}
        location /slow/ {{ alias "{shared}/"; limit_rate {SLOW_RATE}; }}
        location /upload/ {{ root "{folder}"; dav_methods PUT; create_full_put_path on; }}
    }}
}}
"#
    )
}

/// Three servers with certificates of one authority, in a folder that goes with them.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    pub(crate) folder: TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new("nginx test").unwrap();
        let ca = folder.path().join("ca.crt");
        fs::write(&ca, authority.pem()).unwrap();
        let servers = NAMES.map(|name| Server::new(name, folder.path(), &authority)).into();
        Self { servers, ca, folder }
    }

    /// The proxy in front of the servers, with all of them ready. `config` adds further keys.
    pub(crate) fn proxy(&self, health_check: &str, config: &str) -> Proxy {
        let mut text = format!(
            "healthCheck: {{ {health_check}, tls: {{ caFile: \"{}\", serverName: kubernetes }} }}\n\
             {config}\nbackends:\n",
            self.ca.display()
        );
        for Server { name, address, .. } in &self.servers {
            writeln!(text, "  - {{ name: {name}, address: \"{address}\" }}").unwrap();
        }
        let proxy = Proxy::start(self.folder.path(), &text);
        proxy.wait_ready(self.servers.len());
        proxy
    }

    /// curl that trusts the servers and nothing of this host's settings.
    pub(crate) fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command.args(["-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30"]);
        command.arg("--cacert").arg(&self.ca).stdin(Stdio::null());
        command
    }

    /// Makes a file that all servers offer and returns its path and SHA-256.
    pub(crate) fn offer(&self, name: &str, bytes: u64) -> (PathBuf, String) {
        let path = self.folder.path().join(name);
        let mut file = File::create(&path).unwrap();
        let mut hash = Sha256::default();
        for chunk in Blob::new(fastrand::u64(..), bytes) {
            hash.update(&chunk);
            file.write_all(&chunk).unwrap();
        }
        (path, hash.hex())
    }
}

/// A URL by which a client reaches the servers through the proxy.
pub(crate) fn url(proxy: &Proxy, path: &str) -> String {
    format!("https://{}{path}", proxy.listen)
}

/// SHA-256 of a file.
pub(crate) fn sha256(path: &Path) -> String {
    let mut file = File::open(path).unwrap();
    let (mut hash, mut buffer) = (Sha256::default(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hash.hex(),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Connections that a backend has been given so far.
pub(crate) fn connected(proxy: &Proxy, backend: &str) -> f64 {
    let backend = format!("backend=\"{backend}\"");
    proxy.metric("apiproxy_connections_total", &[&backend, "result=\"connected\""])
}

/// Connections that a backend carries now.
pub(crate) fn active(proxy: &Proxy, backend: &str) -> f64 {
    proxy.metric("apiproxy_connections_active", &[&format!("backend=\"{backend}\"")])
}
