//! A client of apiservers and of etcd's gateway.

use std::fmt::Write as _;
use std::io::{BufReader, Write as _};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use serde_json::Value;

use crate::http::Message;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a server, and who asks.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    host: String,
    port: u16,
    tls: Arc<ClientConfig>,
    token: Option<String>,
}

impl Client {
    /// A client of `https://HOST:PORT` that trusts this CA, with a client certificate or a token.
    pub(crate) fn new(
        server: &str,
        ca: &[u8],
        identity: Option<(&[u8], &[u8])>,
        token: Option<&str>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let tls = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
                let chain = certificates(certificate)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
            }
        };
        Self::with(server, tls, token)
    }

    /// A client that believes any server: for facts that are proven otherwise.
    pub(crate) fn blind(server: &str) -> Result<Self, String> {
        let builder = ClientConfig::builder().dangerous();
        let tls = builder.with_custom_certificate_verifier(Arc::new(Anyone)).with_no_client_auth();
        Self::with(server, tls, None)
    }

    fn with(server: &str, tls: ClientConfig, token: Option<&str>) -> Result<Self, String> {
        let rest =
            server.strip_prefix("https://").ok_or(format!("{server} is no https address"))?;
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':').unwrap_or((rest, "443"));
        let port = port.parse().map_err(|_| format!("{server} has no port"))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Self { host, port, tls: Arc::new(tls), token: token.map(str::to_owned) })
    }

    /// Makes a request; the answer's status and body. One with a token is made again for a while when it
    /// is not known: each request may meet another apiserver, which may not have heard of it yet.
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.call_once(method, path, body)?;
            if answer.0 != 401 || self.token.is_none() || Instant::now() > end {
                return Ok(answer);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn call_once(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        let told = |error: &dyn std::fmt::Display| {
            format!("{method} https://{}:{}{path}: {error}", self.host, self.port)
        };
        let message = self.exchange(method, path, body).map_err(|error| told(&error))?;
        let status = message.word(1).parse().map_err(|error| told(&error))?;
        let text = String::from_utf8_lossy(&message.body).into_owned();
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Message> {
        let other = |error: Box<dyn std::error::Error + Send + Sync>| std::io::Error::other(error);
        let mut last = std::io::Error::other("the name has no address");
        let mut connected = None;
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let Some(stream) = connected else { return Err(last) };
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| other(error.into()))?;
        let connection = ClientConnection::new(Arc::clone(&self.tls), name)
            .map_err(|error| other(error.into()))?;
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind =
            if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nConnection: close\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n",
            self.host,
            body.len()
        );
        if let Some(token) = &self.token {
            let _ = write!(head, "Authorization: Bearer {token}\r\n");
        }
        stream.get_mut().write_all(format!("{head}\r\n{body}").as_bytes())?;
        stream.get_mut().flush()?;
        Message::read(&mut stream, true)?.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }

    /// An object; none if there is none of that name.
    pub(crate) fn get(&self, path: &str) -> Result<Option<Value>, String> {
        match self.call("GET", path, None)? {
            (200, value) => Ok(Some(value)),
            (404, _) => Ok(None),
            (status, value) => Err(complaint("GET", path, status, &value)),
        }
    }

    /// An object that must be there.
    pub(crate) fn need(&self, path: &str) -> Result<Value, String> {
        self.get(path)?.ok_or_else(|| format!("there is no {path}"))
    }

    /// Makes a request that must succeed.
    pub(crate) fn done(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let (status, value) = self.call(method, path, Some(body))?;
        if (200..300).contains(&status) {
            Ok(value)
        } else {
            Err(complaint(method, path, status, &value))
        }
    }

    /// Makes an object of a collection so, whether there is one of its name or not.
    pub(crate) fn put(&self, collection: &str, object: &Value) -> Result<Value, String> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        match self.call("POST", collection, Some(object))? {
            (200..300, value) => Ok(value),
            (409, _) => self.done("PUT", &format!("{collection}/{name}"), object),
            (status, value) => Err(complaint("POST", collection, status, &value)),
        }
    }
}

fn complaint(method: &str, path: &str, status: u16, value: &Value) -> String {
    let text = value["message"].as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("{method} {path}: {status}: {text}")
}

/// The certificates of a PEM text.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| "there is no certificate".to_owned())
}

/// Verifies nothing.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
