//! A kube-apiserver look-alike on a thread of its own, which can hang, crash, restart and refuse.

mod port;
mod process;
mod routes;
mod shared;
mod slices;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::StatusCode;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::Notify;

use self::port::Port;
use self::process::{Message, Order, Process};
pub use self::shared::Counters;
use self::shared::Shared;
pub use self::slices::Telling;
use super::Issued;

/// A TLS server that answers as a kube-apiserver does, over HTTP/2 and HTTP/1.1, and fails on
/// command. Every answer carries the header `x-apiserver` with its name.
///
/// | request | answer |
/// |---|---|
/// | `GET /readyz` | `ok`, or what [`ready`](Self::ready) and [`status`](Self::status) say |
/// | `GET /livez`, `/healthz` | `ok` |
/// | `GET /version`, `/api`, `/api/v1`, `/apis`, `/api/v1/namespaces` | Kubernetes' JSON |
/// | `GET /api/v1/namespaces?watch=true` | bookmarks, one a line, without end |
/// | `GET /blob?bytes=N&seed=S` | [`Blob`](super::Blob) |
/// | `GET /slow?ms=N` | `ok`, N milliseconds later |
/// | `GET /whoami` | `{"name": ..}` |
/// | `POST /echo` | the request's body, as it comes in |
/// | `POST /hash` | `{"sha256": .., "bytes": ..}` of the request's body |
///
/// The faults take effect before their methods return, so a test needs no pause after them. They
/// block for as long as the server's thread takes to notice: well under a millisecond when idle.
/// Dropping the server ends its thread, from any state.
pub struct ApiServer {
    shared: Arc<Shared>,
    port: Port,
    issued: Issued,
    orders: mpsc::Sender<Message>,
    bell: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts a server that already takes connections on `listen` (port 0: any free port) when
    /// this returns. It asks for a client certificate of the authority behind `issued`, but does
    /// not insist.
    ///
    /// # Errors
    /// When the address cannot be bound, rustls refuses the certificate, or the process is out of
    /// threads or file descriptors.
    pub fn start(name: &str, issued: &Issued, listen: SocketAddr) -> io::Result<Self> {
        let port = Port::reserve(listen)?;
        let shared = Shared::new(name);
        let bell = Arc::new(Notify::new());
        let (orders, inbox) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("apiserver {name}")).spawn({
            let (bell, shared) = (Arc::clone(&bell), Arc::clone(&shared));
            move || process::serve(&inbox, &bell, &shared)
        })?;
        let thread = Some(thread);
        let server = Self { shared, port, issued: issued.clone(), orders, bell, thread };
        server.begin()?;
        Ok(server)
    }

    /// The name in `x-apiserver`.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens, or did before it crashed and will again.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Stops the server as SIGSTOP does: the kernel still completes TCP handshakes, but nothing is
    /// read and nothing answered until [`resume`](Self::resume).
    pub fn hang(&self) {
        self.tell(Order::Hang);
    }

    /// Lets a hung server go on with what has piled up.
    pub fn resume(&self) {
        self.tell(Order::Resume);
    }

    /// Ends the server as a kill does, only ruder: the port refuses connections, those that exist
    /// are reset.
    pub fn crash(&self) {
        self.tell(Order::Crash);
    }

    /// Ends the server as a kube-apiserver ends after the delay of its shutdown: the port refuses
    /// connections, those that exist are told to go (GOAWAY), and each ends when its requests are
    /// answered; at the latest after `grace`.
    pub fn leave(&self, grace: Duration) {
        self.tell(Order::Leave(grace));
    }

    /// Starts again on the same port, crashing first if still up. TLS sessions of the past are
    /// not resumed, as the key of the tickets died with the process; counters and controls stay.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub fn restart(&self) -> io::Result<()> {
        self.crash();
        self.begin()
    }

    /// [`restart`](Self::restart) with another certificate, from now on.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub fn restart_with(&mut self, issued: &Issued) -> io::Result<()> {
        self.issued = issued.clone();
        self.restart()
    }

    /// Whether `/readyz` answers 200, or 500 as an apiserver does while it shuts down.
    pub fn ready(&self, ready: bool) {
        self.status(if ready { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR });
    }

    /// What `/readyz` answers: 401 and 403 are those of an apiserver without anonymous access.
    pub fn status(&self, status: StatusCode) {
        self.shared.behave(|behaviour| behaviour.readyz = status);
    }

    /// Says from now on that these are the endpoints of `default/kubernetes`, and tells those who
    /// watch them so.
    pub fn endpoints(&self, addresses: &[SocketAddr], telling: Telling) {
        self.shared.slices.send_modify(|said| {
            said.addresses = addresses.to_vec();
            said.revision += 1;
            said.telling = telling;
        });
    }

    /// Answers each request that comes from now on `delay` late.
    pub fn delay(&self, delay: Duration) {
        self.shared.behave(|behaviour| behaviour.delay = delay);
    }

    /// Sets the pace of the events of watches that open from now on; 1 s at first, 1 ms at least.
    pub fn bookmark_every(&self, period: Duration) {
        self.shared.behave(|behaviour| behaviour.bookmarks = period);
    }

    /// Answers 401 to every request on a connection without a client certificate.
    pub fn require_client_cert(&self, required: bool) {
        self.shared.behave(|behaviour| behaviour.client_cert_required = required);
    }

    /// The client certificate that was shown last, DER.
    pub fn last_client_certificate(&self) -> Option<Vec<u8>> {
        self.shared.last_client()
    }

    /// What it has counted so far.
    pub fn counters(&self) -> Counters {
        *self.shared.counters.borrow()
    }

    /// Waits until `condition` holds, and returns the counters that fulfilled it.
    #[expect(clippy::missing_panics_doc, reason = "the sender lives as long as self")]
    pub async fn counted(&self, condition: impl FnMut(&Counters) -> bool) -> Counters {
        let mut counters = self.shared.counters.subscribe();
        let fulfilled = counters.wait_for(condition).await;
        *fulfilled.expect("self holds the sender")
    }

    fn begin(&self) -> io::Result<()> {
        let tls = tls(&self.issued).map_err(io::Error::other)?;
        self.tell(Order::Serve(Process::new(&self.port, tls)?));
        Ok(())
    }

    /// Gives an order and waits until it took effect, or the thread is gone.
    fn tell(&self, order: Order) {
        let (done, wait) = mpsc::channel();
        if self.orders.send(Message { order, done }).is_ok() {
            self.bell.notify_one();
            // Nothing is ever sent: the other end is dropped when it is done.
            let _ = wait.recv();
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.tell(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// TLS as Go's `crypto/tls` serves it: 1.2 and 1.3, stateless session tickets.
fn tls(issued: &Issued) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(issued.authority.clone())?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(issued.chain.clone(), issued.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(config)
}
