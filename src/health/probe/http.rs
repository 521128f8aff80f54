//! The HTTP part of a probe: one GET, and what its answer means.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::super::machine::Verdict;
use crate::model::{Failure, Reason};

/// How much of an answer is read for the reason of a refusal.
const MOST_BODY: usize = 4096;

/// How long the explanation of a refusal is waited for.
const EXPLANATION: Duration = Duration::from_millis(50);

/// Asks for `path` on a fresh connection and judges the answer.
pub(in crate::health) async fn get<S>(stream: S, name: &ServerName<'_>, path: &str) -> Verdict
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match exchange(stream, name, path).await {
        Ok((status, body)) => judge(status, &body, path),
        Err(error) if error.is_parse() || error.is_parse_status() => {
            dead(Failure::Protocol, format!("the answer to GET {path} is not HTTP: {error}"))
        }
        Err(error) => {
            dead(Failure::Reset, format!("closed without an answer to GET {path}: {error}"))
        }
    }
}

fn dead(failure: Failure, message: String) -> Verdict {
    Verdict::Dead(failure, Reason::new(failure.as_str(), message))
}

async fn exchange<S>(
    stream: S,
    name: &ServerName<'_>,
    path: &str,
) -> hyper::Result<(StatusCode, String)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let request = Request::get(path)
        .header(hyper::header::HOST, name.to_str().as_ref())
        .header(hyper::header::USER_AGENT, concat!("apiproxy/", env!("CARGO_PKG_VERSION")))
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    // The path was validated as a URI with the configuration.
    let Ok(request) = request else { return Ok((StatusCode::BAD_REQUEST, String::new())) };
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        // The status is the answer; the body only explains it, if it comes at once.
        let body = if status.is_success() {
            String::new()
        } else {
            timeout(EXPLANATION, beginning(response)).await.unwrap_or_default()
        };
        Ok((status, body))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}

/// The first bytes of the body, as text; what goes wrong on the way only shortens it.
async fn beginning(response: Response<Incoming>) -> String {
    let mut body = response.into_body();
    let mut text = Vec::new();
    while text.len() < MOST_BODY && !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(frame)) => text.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            _ => break,
        }
    }
    text.truncate(MOST_BODY);
    String::from_utf8_lossy(&text).into_owned()
}

fn judge(status: StatusCode, body: &str, path: &str) -> Verdict {
    let code = format!("status{}", status.as_u16());
    match status.as_u16() {
        200 => Verdict::Ready { warning: None },
        401 | 403 => {
            let message = format!(
                "GET {path} answers {status}: it is alive, but anonymous access is off; set \
                 healthCheck.tls.certFile and keyFile to learn whether it is ready"
            );
            Verdict::Alive(Reason::new(code, message))
        }
        429 => {
            let message = format!("GET {path} answers {status}: it is overloaded");
            Verdict::Ready { warning: Some(Reason::new(code, message)) }
        }
        404 => {
            let message = format!("GET {path} answers {status}; is healthCheck.path right?");
            Verdict::NotReady(Reason::new(code, message))
        }
        _ => {
            let message = format!("GET {path} answers {status}{}", failed_checks(body));
            Verdict::NotReady(Reason::new(code, message))
        }
    }
}

/// The failed checks that kube-apiserver names, as in `[-]etcd failed: reason withheld`.
fn failed_checks(body: &str) -> String {
    let failed: Vec<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("[-]"))
        .map(|line| line.split(" failed").next().unwrap_or(line))
        .filter(|name| name.chars().all(|c| c.is_ascii_graphic()))
        .take(3)
        .collect();
    if failed.is_empty() { String::new() } else { format!(" (failed: {})", failed.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_answers() {
        let judged =
            |status: u16, body| judge(StatusCode::from_u16(status).unwrap(), body, "/readyz");
        assert_eq!(judged(200, ""), Verdict::Ready { warning: None });
        for status in [401, 403] {
            assert!(matches!(judged(status, ""), Verdict::Alive(_)), "{status}");
        }
        assert!(matches!(judged(429, ""), Verdict::Ready { warning: Some(_) }));
        for status in [301, 404, 500, 502, 503] {
            assert!(matches!(judged(status, ""), Verdict::NotReady(_)), "{status}");
        }
    }

    #[test]
    fn names_the_failed_checks_of_an_apiserver() {
        let body =
            "[+]ping ok\n[-]etcd failed: reason withheld\n[-]shutdown failed: reason withheld\n";
        let Verdict::NotReady(reason) = judge(StatusCode::INTERNAL_SERVER_ERROR, body, "/readyz")
        else {
            panic!("not judged notReady");
        };
        assert_eq!(reason.code, "status500");
        assert_eq!(
            reason.message,
            "GET /readyz answers 500 Internal Server Error (failed: etcd, shutdown)"
        );
    }
}
