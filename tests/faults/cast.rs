//! Who plays the apiservers: the project's own ones, or real kube-apiservers.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use apiproxy::demo::{Authority, Issued};
use tempfile::TempDir;

use super::binaries;
use super::common::wait_for;
use super::lab::{Lab, NODE, endpoint, host};
use super::server::{self, Server};

/// The folder of the certificate that the proxy trusts.
pub(crate) const TRUSTED: &str = "trusted";

/// The folder of another authority's.
pub(crate) const STRANGER: &str = "stranger";

/// Three kube-apiservers that start at the same time on two busy cores take 15 s.
const START: Duration = Duration::from_mins(2);

/// As in the measurements of other proxies that the bounds come from.
const SHUTDOWN_DELAY: Duration = Duration::from_secs(10);

/// The actors' certificates and programs.
pub(crate) struct Cast {
    authority: Authority,
    real: Option<Real>,
    folder: TempDir,
}

/// What real kube-apiservers need.
struct Real {
    assets: PathBuf,
    admin: Issued,
    etcd: Child,
}

impl Cast {
    /// The project's own apiservers.
    pub(crate) fn own() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("test").unwrap();
        server::write(&folder.path().join(TRUSTED), &authority);
        server::write(&folder.path().join(STRANGER), &Authority::new(STRANGER).unwrap());
        Self { authority, real: None, folder }
    }

    /// The kube-apiserver of these assets; its etcd runs where this thread does, on the node.
    pub(crate) fn real(assets: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trusted = folder.path().join(TRUSTED);
        std::fs::create_dir(&trusted).unwrap();
        let (authority, admin) = binaries::write_certificates(&trusted);
        let mut etcd = Command::new(assets.join("etcd"));
        etcd.args(binaries::etcd_flags(folder.path(), etcd_at(2379), etcd_at(2380)));
        let etcd = start(&mut etcd, &folder.path().join("etcd.log"));
        let real = Some(Real { assets: assets.to_owned(), admin, etcd });
        let cast = Self { authority, real, folder };
        wait_for("etcd listens", START, || TcpStream::connect(etcd_at(2379)).ok());
        cast
    }

    /// Who has signed the servers' certificates.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The authority's certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join(TRUSTED).join("ca.crt")
    }

    /// Where files may be written.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What clients introduce themselves with.
    pub(crate) fn client(&self) -> Option<&Issued> {
        self.real.as_ref().map(|real| &real.admin)
    }

    /// Starts a server on its host; see [`Cast::wait_serving`].
    pub(crate) fn launch(&self, lab: &Lab, server: u8, certificate: &str) -> Server {
        let certificates = self.folder.path().join(certificate);
        let Some(real) = &self.real else { return Server::start(lab, server, &certificates) };
        let (etcd, listen) = (etcd_at(2379), endpoint(server));
        let flags = binaries::apiserver_flags(&certificates, etcd, listen, SHUTDOWN_DELAY);
        let mut command = lab.on(server, real.assets.join("kube-apiserver"));
        let log = self.folder.path().join(format!("{}.log", host(server)));
        Server::real(start(command.args(flags), &log))
    }

    /// Waits until a server that has been launched serves. The project's own ones do at once.
    pub(crate) fn wait_serving(&self, server: u8) {
        if self.real.is_some() {
            let what = format!("{} is ready", host(server));
            wait_for(&what, START, || self.is_ready(server).then_some(()));
        }
    }

    /// Waits until one of the servers is ready.
    pub(crate) fn wait_first_ready(&self) {
        let ready = || (1..=3).any(|server| self.is_ready(server)).then_some(());
        wait_for("one server is ready", START, ready);
    }

    fn is_ready(&self, server: u8) -> bool {
        let Some(real) = &self.real else { return true };
        binaries::readyz(endpoint(server), &self.authority, &real.admin) == Some(200)
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        if let Some(real) = &mut self.real {
            let _ = real.etcd.kill();
            let _ = real.etcd.wait();
        }
    }
}

fn etcd_at(port: u16) -> SocketAddr {
    SocketAddr::from((NODE, port))
}

/// Starts a program that says what it does in a log file. It ends with this thread, and when the lab
/// is removed.
fn start(command: &mut Command, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}
