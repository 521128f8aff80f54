//! Throw-away apiservers with the proxy in front of them, and a client that waits for its answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use apiproxy::demo::{ApiServer, Authority, Connection, Dialer, Load, LoadOptions, Protocol};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::Proxy;

/// As long as a backend's slow start, and some more.
const SLOW_START: Duration = Duration::from_secs(45);

/// No answer takes longer than this, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// Any free port of 127.0.0.1.
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Apiservers `cp1`, `cp2`, .. of one authority, and a folder for files.
pub struct Cluster {
    pub authority: Authority,
    pub servers: Vec<ApiServer>,
    pub folder: TempDir,
}

impl Cluster {
    /// Starts so many servers.
    pub fn new(size: usize) -> Self {
        let authority = Authority::new("test").unwrap();
        let issued = authority.server().unwrap();
        let start = |n| ApiServer::start(&format!("cp{n}"), &issued, ANY_PORT).unwrap();
        let servers = (1..=size).map(start).collect();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        Self { authority, servers, folder }
    }

    /// The authority's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// The lines of the configuration for `healthCheck` and `backends`; `check` is put into
    /// `healthCheck` and ends with a comma, unless it is empty.
    pub fn lines(&self, check: &str) -> String {
        let ca_file = self.ca_file();
        let check = format!("{check} tls: {{ caFile: \"{}\" }}", ca_file.display());
        let backend = |server: &ApiServer| {
            format!("  - {{ name: {}, address: \"{}\" }}\n", server.name(), server.address())
        };
        let backends = self.servers.iter().map(backend).collect::<Vec<_>>().concat();
        format!("healthCheck: {{ {check} }}\nbackends:\n{backends}")
    }

    /// A proxy in front of the servers, which has found all of them ready.
    pub fn proxy(&self, check: &str, more: &str) -> Proxy {
        let proxy = Proxy::start(self.folder.path(), &(self.lines(check) + more));
        proxy.wait_ready(self.servers.len());
        proxy
    }

    /// The server of this name.
    pub fn server(&self, name: &str) -> &ApiServer {
        self.servers.iter().find(|server| server.name() == name).unwrap()
    }

    /// Any other server.
    pub fn other(&self, name: &str) -> &ApiServer {
        self.servers.iter().find(|server| server.name() != name).unwrap()
    }

    /// Clients of the proxy.
    pub fn client(&self, proxy: &Proxy) -> Client {
        self.client_at(proxy.listen)
    }

    /// Clients that connect to this address.
    pub fn client_at(&self, address: SocketAddr) -> Client {
        let dialer = Dialer::new(address, &self.authority, None).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Client { runtime, dialer }
    }

    /// Requests through the proxy, 20 a second, that wait 30 s for their answers: what ends them
    /// earlier is the proxy.
    pub fn load(&self, proxy: &Proxy) -> Load {
        let dialer = Dialer::new(proxy.listen, &self.authority, None).unwrap();
        let (period, timeout) = (Duration::from_millis(50), Duration::from_secs(30));
        Load::start(dialer, LoadOptions { period, timeout, watches: 0 }).unwrap()
    }
}

/// Opens HTTP/1.1 connections and waits for answers on them. Between calls nothing moves on them.
pub struct Client {
    runtime: Runtime,
    dialer: Dialer,
}

impl Client {
    /// Waits for a future.
    pub fn wait<T>(&self, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        self.runtime.block_on(async { timeout(PATIENCE, future).await? })
    }

    /// Opens a connection.
    pub fn open(&self) -> io::Result<Connection> {
        self.wait(self.dialer.dial(Protocol::Http1))
    }

    /// The name of the server behind a connection.
    pub fn name(&self, connection: &mut Connection) -> io::Result<String> {
        self.wait(async {
            let answer = connection.get("/whoami").await?;
            let name = answer.headers()["x-apiserver"].to_str().unwrap().to_owned();
            answer.into_body().collect().await.map_err(io::Error::other)?;
            Ok(name)
        })
    }

    /// Opens a connection and asks on it: the name of the server.
    pub fn ask(&self) -> io::Result<String> {
        self.name(&mut self.open()?)
    }

    /// Opens connections until one goes to this server. One that has just come, or come back, gets
    /// few at first: then it takes a while.
    pub fn open_to(&self, server: &str) -> Connection {
        let mut others = Vec::new();
        let end = Instant::now() + SLOW_START;
        loop {
            let mut connection = self.open().unwrap();
            if self.name(&mut connection).unwrap() == server {
                return connection;
            }
            others.push(connection);
            if others.len() == 50 {
                assert!(Instant::now() < end, "none of many connections goes to {server}");
                others.clear();
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }

    /// Opens a watch and waits for its first event.
    pub fn watch(&self, connection: &mut Connection) -> Incoming {
        let watch = self.wait(async {
            let mut body = connection.get("/api/v1/namespaces?watch=true").await?.into_body();
            body.frame().await.unwrap().map_err(io::Error::other)?;
            Ok(body)
        });
        watch.unwrap()
    }

    /// The next event of a watch; an error when it was cut, or there is none within `within`.
    pub fn event(&self, watch: &mut Incoming, within: Duration) -> io::Result<()> {
        self.runtime.block_on(async {
            match timeout(within, watch.frame()).await? {
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(io::Error::other(error)),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        })
    }
}
