//! A double of kube-apiserver: TLS, who asks, what one may, and objects of any known kind in etcd.

mod auth;
mod openapi;
mod rbac;
mod resources;
mod store;
mod watch;

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::client::certificates;
use crate::etcd::Etcd;
use crate::flags::{KUBE_APISERVER, Line};
use crate::http::{self, Message};
use crate::version::Version;

use auth::User;
use resources::Target;
use store::Store;

/// An answer that is no success: its status, reason and message.
#[derive(Clone, Debug)]
struct Refusal(u16, &'static str, String);

/// What all connections share.
struct Server {
    store: Store,
    version: Version,
    tls: Arc<ServerConfig>,
}

/// Flags that name a file which must be there.
const FILES: &[&str] = &[
    "audit-policy-file",
    "client-ca-file",
    "encryption-provider-config",
    "etcd-cafile",
    "etcd-certfile",
    "etcd-keyfile",
    "kubelet-client-certificate",
    "kubelet-client-key",
    "proxy-client-cert-file",
    "proxy-client-key-file",
    "requestheader-client-ca-file",
    "service-account-key-file",
    "service-account-signing-key-file",
    "tls-cert-file",
    "tls-private-key-file",
];

pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let line = KUBE_APISERVER.parse(arguments)?;
    for flag in
        ["etcd-servers", "service-account-issuer", "service-cluster-ip-range", "authorization-mode"]
    {
        line.need(flag)?;
    }
    let files = FILES.iter().filter_map(|flag| Some((flag, line.get(flag)?)));
    if let Some((flag, file)) = files.into_iter().find(|(_, file)| !Path::new(file).is_file()) {
        return Err(format!("--{flag}: there is no {file}"));
    }
    let read =
        |flag: &str| fs::read(line.need(flag)?).map_err(|error| format!("--{flag}: {error}"));
    let (ca, certificate, key) =
        (read("etcd-cafile")?, read("etcd-certfile")?, read("etcd-keyfile")?);
    let etcd = Etcd::new(&line.list("etcd-servers"), &ca, &certificate, &key)?;
    let tls = Arc::new(tls(
        &read("client-ca-file")?,
        &read("tls-cert-file")?,
        &read("tls-private-key-file")?,
    )?);
    let server = Arc::new(Server { store: Store::new(etcd), version: Version::own(), tls });
    advertise(&server, &line);

    let port = line.get("secure-port").unwrap_or("6443");
    let address = line.get("bind-address").unwrap_or("0.0.0.0");
    let listener = TcpListener::bind(format!("{address}:{port}"))
        .map_err(|error| format!("{address}:{port}: {error}"))?;
    println!("serving securely on {address}:{port}");
    for stream in listener.incoming().flatten() {
        let server = Arc::clone(&server);
        std::thread::spawn(move || server.serve(stream));
    }
    Ok(())
}

fn tls(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<ServerConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build();
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
    ServerConfig::builder()
        .with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
        .with_single_cert(certificates(certificate)?, key)
        .map_err(|error| error.to_string())
}

/// Keeps this server among the endpoints of the Service `kubernetes` while it lives.
fn advertise(server: &Arc<Server>, line: &Line) {
    let Some(address) = line.get("advertise-address").map(str::to_owned) else { return };
    let port: u16 = line.get("secure-port").and_then(|port| port.parse().ok()).unwrap_or(6443);
    let server = Arc::clone(server);
    std::thread::spawn(move || {
        loop {
            if let Err(error) = server.store.advertise(&address, port) {
                eprintln!("endpoints: {error}");
            }
            std::thread::sleep(Duration::from_secs(2));
        }
    });
}

impl Server {
    fn serve(&self, stream: TcpStream) {
        let Ok(connection) = ServerConnection::new(Arc::clone(&self.tls)) else { return };
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        while let Ok(Some(request)) = Message::read(&mut stream, false) {
            let chain = stream.get_ref().conn.peer_certificates();
            let user = User::of(chain, &request, &self.store);
            let served = match user {
                Ok(user) => self.handle(&request, &user, stream.get_mut()),
                Err(refusal) => refuse(stream.get_mut(), &refusal),
            };
            if served.is_err() {
                return;
            }
        }
    }

    fn handle(
        &self,
        request: &Message,
        user: &User,
        stream: &mut (impl Read + Write),
    ) -> std::io::Result<()> {
        let (method, whole) = (request.word(0), request.word(1));
        let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
        if let Some((status, kind, body)) = self.document(path) {
            return http::answer(stream, status, kind, &body);
        }
        let query = http::query(query);
        let Some(target) = Target::parse(path) else {
            return refuse(stream, &Refusal(404, "NotFound", format!("the server has no {path}")));
        };
        let watching = query.get("watch").is_some_and(|watch| watch == "1" || watch == "true");
        let verb = target.verb(method, watching);
        let result = rbac::check(&self.store, user, verb, &target).and_then(|()| {
            if watching {
                Ok(None)
            } else {
                self.act(verb, &target, &query, request, user).map(Some)
            }
        });
        match result {
            Ok(None) => watch::stream(&self.store, &target, &query, stream),
            Ok(Some((status, value))) => json_answer(stream, status, &value),
            Err(refusal) => refuse(stream, &refusal),
        }
    }

    fn act(
        &self,
        verb: &str,
        target: &Target,
        query: &std::collections::BTreeMap<String, String>,
        request: &Message,
        user: &User,
    ) -> Result<(u16, Value), Refusal> {
        let body = || -> Result<Value, Refusal> {
            let text = String::from_utf8_lossy(&request.body);
            serde_saphyr::from_str(&text)
                .map_err(|error| Refusal(400, "BadRequest", error.to_string()))
        };
        let applies =
            request.headers.get("content-type").is_some_and(|kind| kind.contains("apply-patch"));
        let store = self.store.dry(query.get("dryRun").is_some_and(|dry| dry == "All"));
        match verb {
            "get" => store.get(target).map(|value| (200, value)),
            "list" => store.list(target, query).map(|value| (200, value)),
            "create" if target.subresource == "eviction" => store.delete(target).map(|v| (201, v)),
            "create" => store.create(target, user.stamp(target, body()?)).map(|value| (201, value)),
            "update" => store.update(target, &body()?).map(|value| (200, value)),
            "patch" => store.patch(target, &body()?, applies).map(|value| (200, value)),
            "delete" => store.delete(target).map(|value| (200, value)),
            _ => Err(Refusal(405, "MethodNotAllowed", format!("{verb} is not allowed"))),
        }
    }

    /// What is no object.
    fn document(&self, path: &str) -> Option<(u16, &'static str, Vec<u8>)> {
        let text = |value: Value| Some((200, "application/json", value.to_string().into_bytes()));
        match path {
            "/livez" | "/healthz" => Some((200, "text/plain", b"ok".to_vec())),
            "/readyz" => Some(match self.store.is_well() {
                Ok(()) => (200, "text/plain", b"ok".to_vec()),
                Err(error) => {
                    let text = format!("[-]etcd failed: {error}\nreadyz check failed");
                    (500, "text/plain", text.into_bytes())
                }
            }),
            "/version" => text(json!({
                "major": "1", "minor": self.version.minor.to_string(), "gitVersion": self.version.to_string(),
                "platform": "linux/amd64",
            })),
            "/openapi/v2" => {
                let kind = "application/octet-stream";
                Some((200, kind, openapi::document()))
            }
            "/openapi/v3" => text(json!({ "paths": {} })),
            _ => resources::discovery(path).and_then(text),
        }
    }
}

fn json_answer(stream: &mut impl Write, status: u16, value: &Value) -> std::io::Result<()> {
    http::answer(stream, status, "application/json", value.to_string().as_bytes())
}

fn refuse(
    stream: &mut impl Write,
    Refusal(status, reason, message): &Refusal,
) -> std::io::Result<()> {
    let value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status,
        "reason": reason, "message": message,
    });
    json_answer(stream, *status, &value)
}
