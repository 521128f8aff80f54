//! Streams below HTTP's client: bytes both ways at once in odd pieces, half-closes and resets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apiproxy::demo::Authority;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::content::{Expected, blob};
use super::pulse::Pulse;
use super::streams::Stream;

/// Dials TLS without HTTP above it.
#[derive(Clone)]
pub struct Wire {
    address: SocketAddr,
    connector: TlsConnector,
}

/// Which stream.
#[derive(Clone, Copy)]
pub enum RawKind {
    /// An echo with both directions at their own pace; sometimes half-closed after the last byte.
    BothWays,
    /// Resets its connection in the middle of an echo.
    Resetter,
    /// Half-closes a connection, in the middle of the handshake, and waits for the other half.
    HalfCloser,
}

impl Wire {
    pub fn new(address: SocketAddr, authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { address, connector: Arc::new(config).into() }
    }

    pub async fn run(self, mut stream: Stream, kind: RawKind) {
        loop {
            let result = match kind {
                RawKind::BothWays => self.both_ways(&mut stream).await,
                RawKind::Resetter => self.resetter(&mut stream).await,
                RawKind::HalfCloser => self.half_closer(&mut stream).await,
            };
            stream.settle(result).await;
        }
    }

    async fn tcp(&self, pulse: &Pulse) -> io::Result<TcpStream> {
        pulse.beat("a connection");
        let socket = TcpSocket::new_v4()?;
        // So that a pause of the reader is soon felt by the proxy.
        socket.set_recv_buffer_size(16 * 1024)?;
        let tcp = socket.connect(self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    async fn both_ways(&self, stream: &mut Stream) -> io::Result<()> {
        let tcp = self.tcp(&stream.pulse).await?;
        let name = ServerName::try_from("kubernetes").unwrap();
        let tls = self.connector.connect(name, tcp).await?;
        let (seed, length) = (stream.rng.u64(..), stream.rng.u64(1..1_500_000));
        let (receiving, sending) = tokio::io::split(tls);
        let mut rng = stream.rng.fork();
        let pulse = &stream.pulse;
        // What cuts one direction cuts both, and the reader says how far it came.
        let sender = async {
            let _cut = send(sending, seed, length, &mut rng, pulse).await;
        };
        let (received, ()) = tokio::join!(receive(receiving, seed, length, pulse), sender);
        received
    }

    async fn resetter(&self, stream: &mut Stream) -> io::Result<()> {
        let tcp = self.tcp(&stream.pulse).await?;
        // Its end will be a RST, whenever it comes.
        tcp.set_zero_linger()?;
        let name = ServerName::try_from("kubernetes").unwrap();
        let tls = self.connector.connect(name, tcp).await?;
        let (seed, length) = (stream.rng.u64(..), 400_000);
        let (receiving, sending) = tokio::io::split(tls);
        let (mut rng, time) = (stream.rng.fork(), stream.rng.u64(1..1_500));
        let pulse = &stream.pulse;
        let both = async {
            let sender = async {
                let _cut = send(sending, seed, length, &mut rng, pulse).await;
            };
            tokio::join!(receive(receiving, seed, length, pulse), sender).0
        };
        tokio::time::timeout(Duration::from_millis(time), both).await.unwrap_or_else(|_| {
            pulse.finish();
            Ok(())
        })
    }

    async fn half_closer(&self, stream: &mut Stream) -> io::Result<()> {
        let pulse = stream.pulse.clone();
        let mut tcp = self.tcp(&pulse).await?;
        // The header of a record that never comes, so that the server waits for more.
        tcp.write_all(&[22, 3, 1, 1, 0, 1]).await?;
        let pause = Duration::from_millis(stream.rng.u64(0..2_000));
        pulse.rest(pause).await;
        tcp.shutdown().await?;
        pulse.beat("the other half's end");
        let mut buffer = [0; 256];
        while tcp.read(&mut buffer).await? > 0 {}
        pulse.finish();
        Ok(())
    }
}

/// Sends the request and its body in odd pieces.
async fn send(
    mut to: impl AsyncWrite + Unpin,
    seed: u64,
    length: u64,
    rng: &mut fastrand::Rng,
    pulse: &Pulse,
) -> io::Result<()> {
    let head =
        format!("POST /echo HTTP/1.1\r\nHost: kubernetes\r\nContent-Length: {length}\r\n\r\n");
    to.write_all(head.as_bytes()).await?;
    let mut body = blob(seed, length);
    while !body.is_empty() {
        let count = rng.usize(1..60_000).min(body.len());
        to.write_all(&body.split_to(count)).await?;
        to.flush().await?;
        pulse.beat("the echo");
        if rng.u8(..4) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.u64(1..150))).await;
        }
    }
    if rng.bool() {
        to.shutdown().await?;
    }
    Ok(())
}

/// Reads the answer's head and then the echo.
async fn receive(
    mut from: impl AsyncRead + Unpin,
    seed: u64,
    length: u64,
    pulse: &Pulse,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let (mut head, mut expected, mut since) = (Vec::new(), None, 0);
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = &buffer[..count];
        if expected.is_none() {
            head.extend_from_slice(bytes);
            let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
            if !text.starts_with("http/1.1 200") || !text.contains("content-length") {
                pulse.wrong(&format!("answered {text}"));
                return Ok(());
            }
            expected = Some(Expected::new(seed, length));
            bytes = &head[end + 4..];
        }
        let expected = expected.as_mut().unwrap();
        if !expected.take(pulse, bytes) {
            return Ok(());
        }
        since += count;
        if since > 200_000 {
            since = 0;
            pulse.rest(Duration::from_millis(300)).await;
        }
        if expected.is_whole() {
            expected.end(pulse);
            return Ok(());
        }
    }
}
