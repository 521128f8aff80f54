//! HTTP/1.1 over verified TLS to one apiserver: a request, and its answer whole or line by line.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::kubeconfig::Credentials;
use crate::net;

/// Addresses of one name are tried so far apart.
const STAGGER: Duration = Duration::from_millis(100);

/// As between clients and backends: a peer that has gone silent is noticed within half a minute.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// An open connection. Dropping it closes it.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    token: Option<HeaderValue>,
    /// Moves the bytes.
    _task: JoinSet<()>,
}

/// An answer whose body is still to be read.
pub(super) struct Answer {
    body: Incoming,
    /// Read, but not given out.
    rest: Vec<u8>,
}

impl Connection {
    /// Connects to one of a backend's addresses.
    pub(super) async fn open(
        addresses: &[SocketAddr],
        credentials: &Credentials,
    ) -> Result<Self, String> {
        let Credentials { tls, server_name, token } = credentials;
        let stream = net::connect_any(addresses.iter().copied(), STAGGER).await;
        let stream = stream.map_err(|error| error.to_string())?;
        net::tune_connected(&stream, KEEPALIVE).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(tls.clone()).connect(server_name.clone(), stream).await;
        let stream = stream.map_err(|error| format!("TLS: {error}"))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| error.to_string())?;
        let mut task = JoinSet::new();
        task.spawn_local(async move {
            // How it ended is told to the request.
            let _ = connection.await;
        });
        let token = token.as_ref().map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| "the token holds what no header may".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        Ok(Self { sender, token: token.transpose()?, _task: task })
    }

    /// Asks for a path; anything but 200 is an error.
    pub(super) async fn get(&mut self, path: String) -> Result<Answer, String> {
        let mut request = Request::get(path)
            .header(HOST, "kubernetes.default.svc")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("apiproxy/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        match answer.status() {
            StatusCode::OK => Ok(Answer { body: answer.into_body(), rest: Vec::new() }),
            status @ StatusCode::UNAUTHORIZED => {
                Err(format!("answers {status}: the credentials of the kubeconfig are not taken"))
            }
            status @ StatusCode::FORBIDDEN => Err(format!(
                "answers {status}: the kubeconfig's user may not watch EndpointSlices; see \
                 `apiproxy manifest rbac`"
            )),
            status => Err(format!("answers {status}")),
        }
    }
}

impl Answer {
    /// The body, if it has at most so many bytes.
    pub(super) async fn whole(mut self, largest: usize) -> Result<Vec<u8>, String> {
        while self.read(largest).await? {}
        Ok(self.rest)
    }

    /// The next line; `None` at the end of the body. What follows the last line break is no line: it was
    /// cut off.
    pub(super) async fn line(&mut self, longest: usize) -> Result<Option<Bytes>, String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let line = line.trim_ascii();
                if !line.is_empty() {
                    return Ok(Some(Bytes::copy_from_slice(line)));
                }
            } else if !self.read(longest).await? {
                return Ok(None);
            }
        }
    }

    /// Reads a piece; false at the end. May be dropped at any time: nothing is lost.
    async fn read(&mut self, largest: usize) -> Result<bool, String> {
        let Some(frame) = self.body.frame().await else { return Ok(false) };
        let frame = frame.map_err(|error| error.to_string())?;
        if let Some(data) = frame.data_ref() {
            self.rest.extend_from_slice(data);
        }
        if self.rest.len() > largest {
            return Err(format!("the answer is longer than {largest} bytes"));
        }
        Ok(true)
    }
}
