//! Requests to an object store, signed as S3 has it (signature version 4, in the query).

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials as Signer, UrlStyle};
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use super::access::{BucketSettings, Credentials};

/// How long a signature holds: as long as the slowest part may take.
const VALID: Duration = Duration::from_hours(1);

/// How long the store may take to be reached, and to begin its answer.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_mins(1);

/// What is longer goes in parts. The store takes 10,000 parts, and one of up to 5 GiB.
const PART: u64 = if cfg!(test) { 1 << 10 } else { 64 << 20 };

/// Longer labels and lists are none of ours.
const SMALL: u64 = 8 << 20;

/// Whom hosts trust: Debian's file, and that of others.
const TRUSTED: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Why an object store does not take or give a backup.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The credentials cannot be used.
    #[error("{path}: {reason}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nobody is trusted for TLS.
    #[error("{path}: {reason}; name a file of certificates as `caFile`, or install ca-certificates")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The URL or the bucket's name is none.
    #[error("{0} cannot be the URL of a bucket")]
    Address(String),
    /// It cannot be reached.
    #[error("{endpoint} cannot be reached: {reason}")]
    Silent {
        /// Its URL.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// It refused.
    #[error("{bucket} refused it ({status} {code}){remedy}")]
    Refused {
        /// The bucket.
        bucket: String,
        /// The status of HTTP.
        status: u16,
        /// S3's word for it.
        code: String,
        /// What to do.
        remedy: String,
    },
    /// Its answer is not understood.
    #[error("{endpoint} does not answer as S3 does: {reason}")]
    Strange {
        /// Its URL.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// A bundle did not come as it was sent.
    #[error("{0} is damaged: its checksum does not fit")]
    Damaged(String),
    /// A file cannot be read or written here, or the connection was cut.
    #[error(transparent)]
    Here(io::Error),
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) size: u64,
    /// When it came there, in seconds since 1970.
    pub(super) since: u64,
}

/// A store, with what it is asked by.
#[derive(Debug)]
pub(super) struct Store {
    bucket: Bucket,
    signer: Signer,
    agent: Agent,
    endpoint: String,
    credentials_file: PathBuf,
}

impl Store {
    pub(super) fn open(settings: &BucketSettings) -> Result<Self, BucketError> {
        let Credentials { key, secret, token } = Credentials::load(&settings.credentials_file)?;
        let signer = match token {
            Some(token) => Signer::new_with_token(key, secret, token),
            None => Signer::new(key, secret),
        };
        let wrong = || BucketError::Address(format!("{}/{}", settings.endpoint, settings.bucket));
        let url = settings.endpoint.parse().map_err(|_| wrong())?;
        let (name, region) = (settings.bucket.clone(), settings.region.clone());
        let bucket = Bucket::new(url, UrlStyle::Path, name, region).map_err(|_| wrong())?;
        let mut config = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(ANSWER))
            .timeout_per_write(Some(ANSWER))
            .max_redirects(0)
            .http_status_as_error(false);
        if settings.endpoint.starts_with("https:") {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = TlsConfig::builder()
                .root_certs(trusted(settings.ca_file.as_deref())?)
                .unversioned_rustls_crypto_provider(provider);
            config = config.tls_config(tls.build());
        }
        Ok(Self {
            bucket,
            signer,
            agent: config.build().into(),
            endpoint: settings.endpoint.clone(),
            credentials_file: settings.credentials_file.clone(),
        })
    }

    fn silent(&self, error: &ureq::Error) -> BucketError {
        let (endpoint, reason) = (self.endpoint.clone(), error.to_string());
        BucketError::Silent { endpoint, reason }
    }

    fn strange(&self, reason: impl ToString) -> BucketError {
        BucketError::Strange { endpoint: self.endpoint.clone(), reason: reason.to_string() }
    }

    /// The answer, if it is a good one.
    fn good(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, BucketError> {
        let mut answer = answer.map_err(|error| self.silent(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(SMALL).read_to_string();
        let text = text.unwrap_or_default();
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        let code = code.map_or("", |(code, _)| code).to_owned();
        let remedy = match (status, code.as_str()) {
            (_, "NoSuchBucket") => "; make the bucket, or mend its name".to_owned(),
            (_, "RequestTimeTooSkewed") => "; this host's clock is wrong".to_owned(),
            (301 | 307 | 400, _) => "; see its `region` and `endpoint`".to_owned(),
            (401 | 403, _) => {
                format!("; see what the key in {} may do", self.credentials_file.display())
            }
            _ => String::new(),
        };
        let bucket = format!("s3://{}", self.bucket.name());
        Err(BucketError::Refused { bucket, status, code, remedy })
    }

    fn text(&self, mut answer: Response<Body>) -> Result<String, BucketError> {
        let text = answer.body_mut().with_config().limit(SMALL).read_to_string();
        text.map_err(|error| self.silent(&error))
    }

    /// All objects whose keys begin so.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Object>, BucketError> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut list = self.bucket.list_objects_v2(Some(&self.signer));
            list.with_prefix(prefix);
            if let Some(token) = token {
                list.with_continuation_token(token);
            }
            let answer = self.good(self.agent.get(list.sign(VALID).as_str()).call())?;
            let page = ListObjectsV2::parse_response(&self.text(answer)?)
                .map_err(|error| self.strange(error))?;
            all.extend(page.contents.into_iter().map(|found| {
                let time = found.last_modified.as_deref().unwrap_or_default();
                let time = humantime::parse_rfc3339(time).unwrap_or(std::time::UNIX_EPOCH);
                let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                let size = found.size.unwrap_or_default();
                Object { key: found.key, size, since: since.as_secs() }
            }));
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(all);
            }
        }
    }

    /// An object as it comes.
    pub(super) fn get(&self, key: &str) -> Result<impl Read + use<>, BucketError> {
        let url = self.bucket.get_object(Some(&self.signer), key).sign(VALID);
        Ok(self.good(self.agent.get(url.as_str()).call())?.into_body().into_reader())
    }

    /// A small object.
    pub(super) fn read(&self, key: &str) -> Result<Vec<u8>, BucketError> {
        let mut bytes = Vec::new();
        self.get(key)?.take(SMALL).read_to_end(&mut bytes).map_err(BucketError::Here)?;
        Ok(bytes)
    }

    /// Removes an object; it is no error if there is none.
    pub(super) fn remove(&self, key: &str) -> Result<(), BucketError> {
        let url = self.bucket.delete_object(Some(&self.signer), key).sign(VALID);
        match self.good(self.agent.delete(url.as_str()).call()) {
            Err(BucketError::Refused { status: 404, .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends an object of this length.
    pub(super) fn put(
        &self,
        key: &str,
        size: u64,
        input: &mut dyn Read,
    ) -> Result<(), BucketError> {
        if size > PART {
            return self.put_parts(key, size, input);
        }
        let url = self.bucket.put_object(Some(&self.signer), key).sign(VALID);
        self.send(url.as_str(), size, input).map(drop)
    }

    fn send(
        &self,
        url: &str,
        size: u64,
        input: &mut dyn Read,
    ) -> Result<Response<Body>, BucketError> {
        let mut body = input.take(size);
        let request = self.agent.put(url).header("content-length", size.to_string());
        self.good(request.send(SendBody::from_reader(&mut body)))
    }

    fn put_parts(&self, key: &str, size: u64, input: &mut dyn Read) -> Result<(), BucketError> {
        let url = self.bucket.create_multipart_upload(Some(&self.signer), key).sign(VALID);
        let answer = self.good(self.agent.post(url.as_str()).send_empty())?;
        let upload = CreateMultipartUpload::parse_response(&self.text(answer)?)
            .map_err(|error| self.strange(error))?;
        let id = upload.upload_id();
        let sent = self.send_parts(key, id, size, input);
        if sent.is_err() {
            // What was sent would be paid for as long as it lies there.
            let abort = self.bucket.abort_multipart_upload(Some(&self.signer), key, id);
            let _ = self.agent.delete(abort.sign(VALID).as_str()).call();
        }
        sent
    }

    fn send_parts(
        &self,
        key: &str,
        id: &str,
        size: u64,
        input: &mut dyn Read,
    ) -> Result<(), BucketError> {
        let mut tags = Vec::new();
        let mut left = size;
        // Of one length, so that 10,000 are enough for whatever etcd can hold.
        for number in 1..=u16::try_from(size.div_ceil(PART)).unwrap_or(u16::MAX) {
            let length = left.min(PART);
            let part = self.bucket.upload_part(Some(&self.signer), key, number, id);
            let answer = self.send(part.sign(VALID).as_str(), length, input)?;
            let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok());
            tags.push(tag.ok_or_else(|| self.strange("a part has no ETag"))?.to_owned());
            left -= length;
        }
        let each = tags.iter().map(String::as_str);
        let done = self.bucket.complete_multipart_upload(Some(&self.signer), key, id, each);
        let url = done.sign(VALID);
        let answer = self.good(self.agent.post(url.as_str()).send(done.body()))?;
        // It may say so with a good status.
        let text = self.text(answer)?;
        if text.contains("<Error>") { Err(self.strange(text)) } else { Ok(()) }
    }
}

/// Whom the store's certificate must be signed by.
fn trusted(file: Option<&Path>) -> Result<RootCerts, BucketError> {
    let usual = || TRUSTED.iter().map(Path::new).find(|path| path.is_file());
    let path = file.or_else(usual).unwrap_or(Path::new(TRUSTED[0]));
    let wrong = |reason: String| BucketError::Authorities { path: path.to_owned(), reason };
    let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut all: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(error.to_string()))? {
            all.push(certificate);
        }
    }
    if all.is_empty() { Err(wrong("it has no certificate".to_owned())) } else { Ok(all.into()) }
}
