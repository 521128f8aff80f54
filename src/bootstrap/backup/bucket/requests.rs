//! Requests to an object store, signed as S3 has it (signature version 4, in the query).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use rusty_s3::actions::S3Action;
use rusty_s3::{Bucket, Credentials as Signer, UrlStyle};
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::access::{BucketSettings, credentials};
use super::answers::{Object, element, page};
use super::fault::{BucketError, remedy};
use crate::bootstrap::spec::Credentials;

/// How long a signature holds: as long as the slowest part may take.
pub(super) const VALID: Duration = Duration::from_hours(1);

/// How long the store may take to be reached, and to begin its answer or go on with it.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_mins(1);

/// How long what was cut off or put off waits for its next try.
const PAUSES: [Duration; 2] =
    if cfg!(test) { [Duration::ZERO; 2] } else { [Duration::from_secs(1), Duration::from_secs(5)] };

/// Longer labels and lists are none of ours.
const SMALL: u64 = 8 << 20;

/// Whom hosts trust: Debian's file, and that of others.
const TRUSTED: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// A store, with what it is asked by.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) bucket: Bucket,
    pub(super) signer: Signer,
    pub(super) agent: Agent,
    endpoint: String,
    credentials_file: PathBuf,
}

impl Store {
    pub(super) fn open(settings: &BucketSettings) -> Result<Self, BucketError> {
        let Credentials { key, secret, token } = credentials(&settings.credentials_file)?;
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

    pub(super) fn silent(&self, error: ureq::Error) -> BucketError {
        BucketError::silent(&self.endpoint, error)
    }

    pub(super) fn strange(&self, reason: impl Into<String>) -> BucketError {
        BucketError::Strange { endpoint: self.endpoint.clone(), reason: reason.into() }
    }

    /// Does it again, a few times, when it was cut off or put off.
    pub(super) fn patiently<T>(
        &self,
        mut ask: impl FnMut(&Self) -> Result<T, BucketError>,
    ) -> Result<T, BucketError> {
        for pause in PAUSES {
            match ask(self) {
                Err(error) if error.passes() => sleep(pause),
                done => return done,
            }
        }
        ask(self)
    }

    /// The answer, if it is a good one.
    pub(super) fn good(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, BucketError> {
        let mut answer = answer.map_err(|error| self.silent(error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let clocks = date.map(|date| (date, SystemTime::now()));
        let text = answer.body_mut().with_config().limit(SMALL).read_to_string();
        let code = element(&text.unwrap_or_default(), "Code").unwrap_or_default();
        let remedy = remedy(status, &code, clocks, &self.credentials_file);
        let bucket = format!("s3://{}", self.bucket.name());
        Err(BucketError::Refused { bucket, status, code, remedy })
    }

    pub(super) fn text(&self, mut answer: Response<Body>) -> Result<String, BucketError> {
        let text = answer.body_mut().with_config().limit(SMALL).read_to_string();
        text.map_err(|error| self.silent(error))
    }

    /// All objects whose keys begin so.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Object>, BucketError> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut list = self.bucket.list_objects_v2(Some(&self.signer));
            list.with_prefix(prefix);
            if let Some(token) = &token {
                list.with_continuation_token(token.clone());
            }
            let text = self.patiently(|store| {
                store.text(store.good(store.agent.get(list.sign(VALID).as_str()).call())?)
            })?;
            let page = page(&text).ok_or_else(|| self.strange("it gave no list"))?;
            all.extend(page.objects);
            if page.next.is_some() && page.next == token {
                return Err(self.strange("its list has no end"));
            }
            token = page.next;
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
        self.patiently(|store| {
            let mut bytes = Vec::new();
            let read = store.get(key)?.take(SMALL).read_to_end(&mut bytes);
            read.map_err(|error| store.silent(error.into()))?;
            Ok(bytes)
        })
    }

    /// Removes an object; it is no error if there is none.
    pub(super) fn remove(&self, key: &str) -> Result<(), BucketError> {
        let url = self.bucket.delete_object(Some(&self.signer), key).sign(VALID);
        match self.patiently(|store| store.good(store.agent.delete(url.as_str()).call())) {
            Err(error) if error.is_absence() => Ok(()),
            other => other.map(drop),
        }
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
