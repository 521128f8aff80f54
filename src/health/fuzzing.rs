//! What the fuzz targets in `fuzz/` need of the probe. Built by cargo-fuzz alone.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

use super::machine::Verdict;
use super::probe::http;

/// Asks for `/readyz` on a stream in place of a TLS connection, and judges the answer.
#[expect(clippy::missing_panics_doc, reason = "the name is a constant")]
pub async fn verdict<S>(stream: S) -> Verdict
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from("kubernetes").expect("a DNS name");
    http::get(stream, &name, "/readyz").await
}
