//! `/metrics` of what runs beside apiservers: over TLS, for whoever has a certificate of the cluster.

use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::http::{self, Message};
use crate::{apiserver, pki};

/// Answers at this address, with a certificate that nobody vouches for, as kubelet and its like do.
pub(crate) fn serve(address: &str, ca: &[u8]) -> Result<(), String> {
    let own = pki::self_signed("localhost")?;
    let tls = Arc::new(apiserver::tls(ca, &own.certificate, &own.key)?);
    let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
    let text = started();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (tls, text) = (Arc::clone(&tls), text.clone());
            std::thread::spawn(move || answer(stream, tls, &text));
        }
    });
    Ok(())
}

fn answer(stream: TcpStream, tls: Arc<ServerConfig>, text: &str) {
    let Ok(connection) = ServerConnection::new(tls) else { return };
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    while let Ok(Some(request)) = Message::read(&mut stream, false) {
        let known = stream.get_ref().conn.peer_certificates().is_some();
        let (status, body) = match request.word(1) {
            _ if !known => (401, "Unauthorized"),
            "/metrics" => (200, text),
            _ => (404, "404 page not found"),
        };
        if http::answer(stream.get_mut(), status, "text/plain", body.as_bytes()).is_err() {
            return;
        }
    }
}

/// When this process has started.
pub(crate) fn started() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!(
        "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {}\n",
        now.as_secs()
    )
}
