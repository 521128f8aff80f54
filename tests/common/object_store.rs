//! An object store in memory that understands what is asked of S3 here: it checks signatures and times as
//! AWS does, can speak TLS, and can be made to fail.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use ring::{digest, hmac};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The only key that it knows, and the only bucket that it has.
pub const CREDENTIALS: &str =
    "[default]\naws_access_key_id = AKIATEST\naws_secret_access_key = not/a+secret\n";
pub const BUCKET: &str = "backups";

const KEY: &str = "AKIATEST";
const SECRET: &str = "not/a+secret";

/// What it has, and how it behaves.
#[derive(Default)]
pub struct Kept {
    pub objects: BTreeMap<String, Vec<u8>>,
    /// The parts of uploads that are neither completed nor aborted.
    pub uploads: BTreeMap<String, BTreeMap<u16, Vec<u8>>>,
    /// `METHOD /path` of each request that was signed well.
    pub requests: Vec<String>,
    /// It keeps what is put there with one bit changed.
    pub spoils: bool,
    /// The next requests of these methods are refused with these statuses and words; one each.
    pub refusals: Vec<(&'static str, u16, &'static str)>,
    /// So many bodies are cut off after their first half.
    pub cuts: usize,
    /// Its clock is so far ahead.
    pub ahead: Duration,
    /// It answers nobody.
    pub down: bool,
    /// So many keys fit on a page, if that is limited.
    pub page: Option<usize>,
    uploads_ever: u32,
}

/// A store that runs until the test ends.
pub struct ObjectStore {
    pub address: SocketAddr,
    pub kept: Arc<Mutex<Kept>>,
}

impl ObjectStore {
    /// Speaks plain HTTP, or TLS with this certificate and key.
    pub fn start(at: IpAddr, tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind((at, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        let (shared, tls) = (Arc::clone(&kept), tls.map(Arc::new));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, tls) = (Arc::clone(&shared), tls.clone());
                thread::spawn(move || {
                    let mut input = BufReader::new(wrap(stream.unwrap(), tls));
                    while serve(&mut input, &kept).is_some() {}
                });
            }
        });
        Self { address, kept }
    }

    /// What lies there.
    pub fn keys(&self) -> Vec<String> {
        self.kept.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Changes what lies there under the key that ends so.
    pub fn change(&self, end: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut kept = self.kept.lock().unwrap();
        change(kept.objects.iter_mut().find(|(key, _)| key.ends_with(end)).unwrap().1);
    }

    /// What a store at this address needs to speak TLS, and the certificate of the authority that it is
    /// signed by.
    pub fn private_authority(at: IpAddr) -> (ServerConfig, String) {
        let [authority_key, key] = [(); 2].map(|()| rcgen::KeyPair::generate().unwrap());
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, authority_key);
        let leaf = rcgen::CertificateParams::new([at.to_string()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            );
        (config.unwrap(), authority)
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

fn wrap(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Box<dyn Stream> {
    match tls {
        Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream)),
        None => Box::new(stream),
    }
}

/// A request as it came.
struct Request {
    method: String,
    path: String,
    query: String,
    host: String,
    body: Vec<u8>,
}

impl Request {
    /// A parameter, decoded.
    fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let value = pairs.into_iter().find(|(key, _)| *key == name)?.1;
        Some(value.replace("%2F", "/").replace("%3A", ":"))
    }

    /// Is it signed by the key, and about now?
    fn authentic(&self, now: SystemTime) -> Result<(), (u16, &'static str)> {
        let missing = (403, "AccessDenied");
        let credential = self.parameter("X-Amz-Credential").ok_or(missing)?;
        let (key, scope) = credential.split_once('/').ok_or(missing)?;
        let time = self.parameter("X-Amz-Date").ok_or(missing)?;
        if key != KEY {
            return Err((403, "InvalidAccessKeyId"));
        }
        let mut pairs: Vec<_> = self
            .query
            .split('&')
            .filter(|pair| !pair.starts_with("X-Amz-Signature="))
            .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
            .collect();
        pairs.sort();
        let canonical = format!(
            "{}\n{}\n{}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD",
            self.method,
            self.path,
            pairs.join("&"),
            self.host
        );
        let digest = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let sign = |key: &[u8], text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
        };
        let first = format!("AWS4{SECRET}").into_bytes();
        let key = scope.split('/').fold(first, |key, word| sign(&key, word));
        if self.parameter("X-Amz-Signature") != Some(hex(&sign(&key, &text))) {
            return Err((403, "SignatureDoesNotMatch"));
        }
        let [date, clock] = [&time[..8], &time[9..15]];
        let signed = humantime::parse_rfc3339(&format!(
            "{}-{}-{}T{}:{}:{}Z",
            &date[..4],
            &date[4..6],
            &date[6..],
            &clock[..2],
            &clock[2..4],
            &clock[4..]
        ));
        let signed = signed.unwrap();
        let off = now.duration_since(signed).or_else(|_| signed.duration_since(now)).unwrap();
        if off > Duration::from_mins(15) { Err((403, "RequestTimeTooSkewed")) } else { Ok(()) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// One request of a connection; none when it is over.
fn serve(input: &mut BufReader<Box<dyn Stream>>, kept: &Mutex<Kept>) -> Option<()> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let (mut length, mut host) = (0, String::new());
    loop {
        let mut header = String::new();
        input.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => length = value.parse().ok()?,
            ("host", value) => value.clone_into(&mut host),
            ("expect", _) => input.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?,
            _ => {}
        }
    }
    if kept.lock().unwrap().down {
        return None;
    }
    let mut body = vec![0; length];
    if length > 0 && kept.lock().unwrap().cuts > 0 {
        kept.lock().unwrap().cuts -= 1;
        input.read_exact(&mut body[..length / 2]).ok()?;
        return None;
    }
    input.read_exact(&mut body).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let request = Request { method, path, query, host, body };
    let mut kept = kept.lock().unwrap();
    let now = SystemTime::now() + kept.ahead;
    let (status, headers, answer) = match answer(&request, now, &mut kept) {
        Ok((headers, answer)) => (200, headers, answer),
        Err((status, code)) => {
            (status, String::new(), format!("<Error><Code>{code}</Code></Error>").into_bytes())
        }
    };
    let date = httpdate::fmt_http_date(now);
    let length = answer.len();
    let head =
        format!("HTTP/1.1 {status} X\r\ndate: {date}\r\ncontent-length: {length}\r\n{headers}\r\n");
    let output = input.get_mut();
    output.write_all(head.as_bytes()).ok()?;
    output.write_all(&answer).ok()?;
    output.flush().ok()
}

/// Headers and a body, or a status and S3's word for what is wrong.
fn answer(
    request: &Request,
    now: SystemTime,
    kept: &mut Kept,
) -> Result<(String, Vec<u8>), (u16, &'static str)> {
    request.authentic(now)?;
    kept.requests.push(format!("{} {}", request.method, request.path));
    let refusal = kept.refusals.iter().position(|(method, ..)| *method == request.method);
    if let Some((_, status, code)) = refusal.map(|at| kept.refusals.remove(at)) {
        return Err((status, code));
    }
    let key = request.path.strip_prefix(&format!("/{BUCKET}")).ok_or((404, "NoSuchBucket"))?;
    let key = key.trim_start_matches('/').to_owned();
    let upload = request.parameter("uploadId");
    let done = |body: Vec<u8>| Ok((String::new(), body));
    match (request.method.as_str(), upload) {
        ("GET", _) if key.is_empty() => done(list(kept, request).into_bytes()),
        ("GET", _) => done(kept.objects.get(&key).cloned().ok_or((404, "NoSuchKey"))?),
        ("PUT", upload) => {
            let mut body = request.body.clone();
            if let Some(byte) = body.first_mut().filter(|_| kept.spoils) {
                *byte ^= 1;
            }
            if let Some(upload) = upload {
                let number = request.parameter("partNumber").unwrap().parse().unwrap();
                let parts = kept.uploads.get_mut(&upload).ok_or((404, "NoSuchUpload"))?;
                parts.insert(number, body);
            } else {
                kept.objects.insert(key, body);
            }
            Ok(("etag: \"tag\"\r\n".to_owned(), Vec::new()))
        }
        ("POST", None) => {
            kept.uploads_ever += 1;
            let id = kept.uploads_ever.to_string();
            kept.uploads.insert(id.clone(), BTreeMap::new());
            let ids = format!("<Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>");
            done(element("InitiateMultipartUploadResult", &ids).into_bytes())
        }
        ("POST", Some(upload)) => {
            let parts = kept.uploads.remove(&upload).ok_or((404, "NoSuchUpload"))?;
            kept.objects.insert(key, parts.into_values().flatten().collect());
            done(element("CompleteMultipartUploadResult", "<ETag>\"tag\"</ETag>").into_bytes())
        }
        ("DELETE", Some(upload)) => {
            kept.uploads.remove(&upload).ok_or((404, "NoSuchUpload"))?;
            done(Vec::new())
        }
        ("DELETE", None) => {
            kept.objects.remove(&key);
            done(Vec::new())
        }
        _ => Err((405, "MethodNotAllowed")),
    }
}

fn element(name: &str, content: &str) -> String {
    format!("<{name} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{content}</{name}>")
}

fn list(kept: &Kept, request: &Request) -> String {
    let [prefix, after] =
        ["prefix", "continuation-token"].map(|name| request.parameter(name).unwrap_or_default());
    let mut found =
        kept.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let mut text = String::new();
    let mut last = String::new();
    for (key, object) in found.by_ref().take(kept.page.unwrap_or(1000)) {
        write!(
            text,
            "<Contents><Key>{key}</Key><Size>{}</Size>\
             <LastModified>2026-12-01T06:00:00.000Z</LastModified></Contents>",
            object.len()
        )
        .unwrap();
        last.clone_from(key);
    }
    let more = found.next().is_some();
    if more {
        write!(text, "<NextContinuationToken>{last}</NextContinuationToken>").unwrap();
    }
    element("ListBucketResult", &format!("{text}<IsTruncated>{more}</IsTruncated>"))
}
