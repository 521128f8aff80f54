//! Dials HTTPS connections one by one, so that the caller decides what shares a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Authority, Issued};

/// Which HTTP a connection offers in ALPN and then speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1: one request at a time.
    Http1,
    /// HTTP/2, as client-go speaks it.
    Http2,
}

/// Where to connect, whom to trust and how to introduce oneself. Clones share the TLS sessions.
#[derive(Clone)]
pub struct Dialer {
    address: SocketAddr,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

/// One connection. Dropping it closes it, also under a response that is still being read.
pub struct Connection {
    sender: Sender,
    resumed: bool,
    /// Ends the tasks that move the bytes, when it is dropped.
    _open: watch::Sender<()>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Dialer {
    /// Connects to `address`, and wants a certificate for `kubernetes` from `authority`.
    ///
    /// # Errors
    /// When rustls refuses the authority or the client's certificate.
    pub fn new(
        address: SocketAddr,
        authority: &Authority,
        client: Option<&Issued>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let tls = match client {
            Some(client) => {
                builder.with_client_auth_cert(client.chain.clone(), client.key.clone_key())?
            }
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from("kubernetes")
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self { address, name, tls: Arc::new(tls) })
    }

    /// The same, wanting a certificate for `name` instead.
    #[must_use]
    pub fn expecting(mut self, name: ServerName<'static>) -> Self {
        self.name = name;
        self
    }

    /// Opens a connection: TCP, TLS and the HTTP preface. Has no time limit of its own.
    ///
    /// # Errors
    /// When any of them fails, or the server does not agree to `protocol`.
    pub async fn dial(&self, protocol: Protocol) -> io::Result<Connection> {
        let (alpn, is_http2) = match protocol {
            Protocol::Http1 => (b"http/1.1".as_slice(), false),
            Protocol::Http2 => (b"h2".as_slice(), true),
        };
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![alpn.to_vec()];
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(self.name.clone(), tcp).await?;
        let session = stream.get_ref().1;
        if is_http2 && session.alpn_protocol() != Some(alpn) {
            return Err(io::Error::other("the server does not speak HTTP/2"));
        }
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        Connection::open(stream, protocol, resumed).await.map_err(io::Error::other)
    }
}

impl Connection {
    async fn open(
        stream: TlsStream<TcpStream>,
        protocol: Protocol,
        resumed: bool,
    ) -> hyper::Result<Self> {
        let io = TokioIo::new(stream);
        let (open, tied) = watch::channel(());
        let tied = Tied(tied);
        // How a connection ended is told to the request that it cut, so the tasks' results are of
        // no further use.
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tied.execute(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(tied.clone(), io).await?;
                tied.execute(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Self { sender, resumed, _open: open })
    }

    /// Whether TLS resumed an earlier session instead of a full handshake.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Asks for `path`. The answer's body is still to be read.
    ///
    /// # Errors
    /// When `path` is not a URI's path, or the connection ends before the answer's head.
    pub async fn get(&mut self, path: &str) -> io::Result<Response<Incoming>> {
        self.send("GET", path, Bytes::new()).await
    }

    /// Posts `body` to `path`. The answer's body is still to be read.
    ///
    /// # Errors
    /// As [`Connection::get`].
    pub async fn post(&mut self, path: &str, body: Bytes) -> io::Result<Response<Incoming>> {
        self.send("POST", path, body).await
    }

    /// Has the other side closed it? Waits for nothing, so that a request sent right after may
    /// still meet a close.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> io::Result<Response<Incoming>> {
        let request = Request::builder().method(method);
        let request = match &self.sender {
            Sender::Http1(_) => request.uri(path).header("host", "kubernetes"),
            Sender::Http2(_) => request.uri(format!("https://kubernetes{path}")),
        };
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(io::Error::other)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(io::Error::other)?;
                sender.send_request(request).await
            }
        }
        .map_err(io::Error::other)
    }
}

/// Spawns tasks that end with their connection. hyper's HTTP/2 keeps the socket in a task of its
/// own, which would otherwise live on for as long as anybody holds a response.
#[derive(Clone)]
struct Tied(watch::Receiver<()>);

impl<F> Executor<F> for Tied
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let mut open = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = task => {}
                // Nothing is ever sent, so this is the end of the sender.
                _ = open.changed() => {}
            }
        });
    }
}
