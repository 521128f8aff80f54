//! Asks the admin endpoint of a running proxy.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::CliError;
use crate::admin::{History, Status};

/// A local process that does not answer for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(3);

/// Far more than the status of 64 backends or 256 events take. What is longer is not from apiproxy.
const LONGEST: usize = 4 * 1024 * 1024;

/// Fetches the status document.
pub(super) async fn status(admin: SocketAddr) -> Result<Status, CliError> {
    fetch(admin, "/status").await
}

/// Fetches what has happened.
pub(super) async fn events(admin: SocketAddr) -> Result<History, CliError> {
    fetch(admin, "/events").await
}

async fn fetch<T: DeserializeOwned>(admin: SocketAddr, path: &str) -> Result<T, CliError> {
    let (code, body) = match timeout(PATIENCE, get(admin, path)).await {
        Ok(answer) => answer?,
        Err(_) => {
            return Err(CliError::Silent(format!(
                "{admin} takes connections, but does not answer within {PATIENCE:?}: apiproxy is \
                 suspended or stuck, or another program listens there\n  its log may tell why; if it \
                 stays so, restart it"
            )));
        }
    };
    let not_ours = |detail: String| {
        CliError::Failed(format!(
            "what answers at {admin} is not apiproxy ({detail}); point --admin at its admin.listen"
        ))
    };
    if code != StatusCode::OK {
        return Err(not_ours(code.to_string()));
    }
    serde_json::from_slice(&body).map_err(|error| not_ours(error.to_string()))
}

async fn get(admin: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), CliError> {
    let stream = TcpStream::connect(admin).await.map_err(|error| {
        CliError::Failed(format!(
            "cannot reach apiproxy at {admin}: {error}\n  is it running? if its admin.listen is \
             another address, give it with --admin"
        ))
    })?;
    let broken = |error: hyper::Error| {
        CliError::Failed(format!("what answers at {admin} does not speak HTTP: {error}"))
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::task::spawn_local(connection);
    let request = Request::get(path)
        .header(hyper::header::HOST, admin.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| CliError::Failed(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|error| {
        CliError::Failed(if error.is::<LengthLimitError>() {
            format!("what answers at {admin} is not apiproxy (its answer is longer than {LONGEST} bytes)")
        } else {
            format!("what answers at {admin} broke off: {error}")
        })
    })?;
    Ok((code, body.to_bytes()))
}
