//! An apiserver that is a process of its own, so that signals can do to it what they do: this test
//! binary once more, told by an environment variable what to be and by standard input what to do.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::time::Duration;

use apiproxy::demo::{ApiServer, Authority, Issued};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::common::send_signal;
use super::lab::{Lab, endpoint, host};

/// Name, address and folder of certificates of the server that the process is to be.
const TASK: &str = "APXLAB_SERVER";

/// Ends the line by which the process says that it has done what it was told.
const DONE: &str = "done.";

/// A running apiserver. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// `None` for a real kube-apiserver, which only signals tell anything.
    orders: Option<Orders>,
}

struct Orders {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it on its host with the certificate in this folder, and waits until it serves. It
    /// does not outlive the calling thread.
    pub(crate) fn start(lab: &Lab, server: u8, certificate: &Path) -> Self {
        let folder = certificate.display();
        let mut child = lab
            .on(server, std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture", "--test-threads=1"])
            .env(TASK, format!("{} {} {folder}", host(server), endpoint(server)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut orders = Orders { orders, answers };
        orders.wait_done();
        Self { child, orders: Some(orders) }
    }

    /// A kube-apiserver that has been started.
    pub(crate) fn real(child: Child) -> Self {
        Self { child, orders: None }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        send_signal(self.child.id(), signal);
    }

    /// Kills it, as SIGKILL does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What `/readyz` says from now on.
    pub(crate) fn ready(&mut self, ready: bool) {
        self.tell(if ready { "ready" } else { "unready" });
    }

    /// How late it answers from now on.
    pub(crate) fn delay(&mut self, delay: Duration) {
        self.tell(&format!("delay {}", delay.as_millis()));
    }

    /// Ends as an apiserver does that was told to, after the delay of its shutdown.
    pub(crate) fn leave(&mut self) {
        match &mut self.orders {
            Some(orders) => orders.tell("leave"),
            None => self.signal(libc::SIGTERM),
        }
        self.child.wait().unwrap();
    }

    fn tell(&mut self, order: &str) {
        self.orders.as_mut().expect("a real kube-apiserver takes no orders").tell(order);
    }
}

impl Orders {
    fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
        self.wait_done();
    }

    fn wait_done(&mut self) {
        let mut line = String::new();
        while !line.trim_end().ends_with(DONE) {
            line.clear();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the server process has ended");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the server that the environment asks for, if it does, until standard input ends.
pub(crate) fn be_a_server() {
    let Ok(task) = std::env::var(TASK) else { return };
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let [name, address, folder] = task.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let server = ApiServer::start(name, &read(Path::new(folder)), address).unwrap();
    let mut answers = io::stdout();
    let mut done = || writeln!(answers, "{DONE}").unwrap();
    done();
    for order in io::stdin().lines() {
        let order = order.unwrap();
        match order.split_once(' ').unwrap_or((&order, "")) {
            ("ready", _) => server.ready(true),
            ("unready", _) => server.ready(false),
            ("delay", ms) => server.delay(Duration::from_millis(ms.parse().unwrap())),
            ("leave", _) => {
                server.leave(Duration::from_secs(5));
                done();
                return;
            }
            (order, _) => panic!("no such order: {order}"),
        }
        done();
    }
}

/// Writes a certificate of this authority to a folder, for [`Server::start`].
pub(crate) fn write(folder: &Path, authority: &Authority) {
    let issued = authority.server().unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    fs::write(folder.join("tls.crt"), issued.cert_pem).unwrap();
    fs::write(folder.join("tls.key"), issued.key_pem).unwrap();
}

fn read(folder: &Path) -> Issued {
    let text = |name| fs::read_to_string(folder.join(name)).unwrap();
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (cert_pem, key_pem) = (text("tls.crt"), text("tls.key"));
    Issued {
        chain: vec![certificate(&cert_pem)],
        key: Arc::new(PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap()),
        authority: certificate(&text("ca.crt")),
        cert_pem,
        key_pem,
    }
}
