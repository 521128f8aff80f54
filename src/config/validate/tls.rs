//! Checks whom a probe trusts and who it is, down to the files.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};

use super::{Check, quoted};
use crate::config::{CheckType, ProbeTls, file, shape};

const SECTION: &str = "healthCheck.tls";
const CA: &str = "healthCheck.tls.caFile";
const CERT: &str = "healthCheck.tls.certFile";
const KEY: &str = "healthCheck.tls.keyFile";
const SKIP: &str = "healthCheck.tls.insecureSkipVerify";

impl Check<'_, '_> {
    pub(super) fn tls(
        &mut self,
        raw: Option<shape::Tls>,
        kind: CheckType,
        kind_is_given: bool,
    ) -> Option<ProbeTls> {
        if kind == CheckType::Tcp {
            if raw.is_some() {
                let at = [CA, SKIP].into_iter().find(|at| self.around.overrides.flag(at).is_some());
                let message = "a check of type `tcp` uses no TLS";
                self.hinted(
                    at.unwrap_or(SECTION),
                    message,
                    "leave it out, or use `https` or `tls`",
                );
            }
            return None;
        }
        let raw = raw.unwrap_or_default();
        let insecure_skip_verify = raw.insecure_skip_verify.unwrap_or(false);
        let type_is_known = kind_is_given || !self.is_given("healthCheck.type");
        let ca_file = match raw.ca_file {
            Some(path) => self.ca_file(path),
            None if insecure_skip_verify || self.is_given(CA) => None,
            None => self.default_ca(type_is_known),
        };
        Some(ProbeTls {
            ca_file,
            server_name: self.server_name(raw.server_name),
            identity: self.identity(raw.cert_file, raw.key_file),
            insecure_skip_verify,
        })
    }

    fn default_ca(&mut self, type_is_known: bool) -> Option<PathBuf> {
        let path = self.around.host.default_ca;
        if path.exists() {
            return self.ca_file(path.to_owned());
        }
        if type_is_known {
            let message = format!(
                "no CA to check the apiservers' certificates with, and {} does not exist",
                path.display()
            );
            let hint = "give `--ca-file FILE` or `healthCheck.tls.caFile`, or accept any \
                        certificate with `insecureSkipVerify: true`";
            self.hinted(CA, message, hint);
        }
        None
    }

    fn server_name(&mut self, raw: Option<String>) -> String {
        let name = raw.unwrap_or_else(|| "kubernetes".to_owned());
        if ServerName::try_from(name.as_str()).is_err() {
            let message = format!("{} is neither a DNS name nor an IP address", quoted(&name));
            let hint = "write a name of the apiservers' certificates, such as kubernetes";
            self.hinted("healthCheck.tls.serverName", message, hint);
        }
        name
    }

    fn ca_file(&mut self, path: PathBuf) -> Option<PathBuf> {
        let path = self.resolve(CA, path);
        let certificates = self.certificates(CA, &path)?;
        let mut store = RootCertStore::empty();
        let (usable, _unusable) = store.add_parsable_certificates(certificates);
        if usable == 0 {
            self.fault(CA, format!("no certificate in {} can be read", path.display()));
        }
        Some(path)
    }

    fn identity(
        &mut self,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Option<(PathBuf, PathBuf)> {
        let hint = "a client certificate needs both `certFile` and `keyFile`";
        match (&cert, &key) {
            (Some(_), None) if !self.is_given(KEY) => {
                self.hinted(CERT, "there is no `keyFile` for it", hint);
            }
            (None, Some(_)) if !self.is_given(CERT) => {
                self.hinted(KEY, "there is no `certFile` for it", hint);
            }
            _ => {}
        }
        let cert = cert.map(|path| self.resolve(CERT, path));
        let key = key.map(|path| self.resolve(KEY, path));
        let chain = cert.as_ref().and_then(|path| self.certificates(CERT, path));
        let secret = key.as_ref().and_then(|path| self.key(path));
        if let (Some(chain), Some(secret)) = (chain, secret) {
            let provider = rustls::crypto::ring::default_provider();
            if let Err(error) = CertifiedKey::from_der(chain, secret, &provider) {
                let message = match error {
                    Error::InconsistentKeys(_) => "this is not the key of `certFile`".to_owned(),
                    other => format!("`certFile` and this key cannot be used: {other}"),
                };
                self.fault(KEY, message);
            }
        }
        cert.zip(key)
    }

    /// All certificates of a PEM file, at least one.
    fn certificates(&mut self, at: &str, path: &Path) -> Option<Vec<CertificateDer<'static>>> {
        let pem = self.pem(at, path)?;
        match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if !certificates.is_empty() => return Some(certificates),
            Ok(_) => {
                let message = format!("{} holds no PEM certificate", path.display());
                self.hinted(at, message, "it needs a block `-----BEGIN CERTIFICATE-----`");
            }
            Err(error) => {
                self.fault(at, format!("{} is damaged: {error}", path.display()));
            }
        }
        None
    }

    fn key(&mut self, path: &Path) -> Option<PrivateKeyDer<'static>> {
        let pem = self.pem(KEY, path)?;
        let key = PrivateKeyDer::from_pem_slice(&pem);
        if key.is_err() {
            let message = format!("{} holds no PEM private key", path.display());
            self.hinted(
                KEY,
                message,
                "it needs an unencrypted block `-----BEGIN PRIVATE KEY-----`",
            );
        }
        key.ok()
    }

    fn pem(&mut self, at: &str, path: &Path) -> Option<Vec<u8>> {
        // Opening a pipe would wait for its writer.
        let special = std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir());
        if special {
            self.fault(at, format!("{} is not a regular file", path.display()));
            return None;
        }
        match file::read_bytes(path) {
            Ok(Some(bytes)) => return Some(bytes),
            Ok(None) => self.fault(at, format!("{} is larger than 1 MiB", path.display())),
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                self.hinted(at, message, file::advice(&error));
            }
        }
        None
    }

    /// Paths of the file start from its folder, paths of flags from the working directory.
    fn resolve(&self, at: &str, path: PathBuf) -> PathBuf {
        match self.around.overrides.flag(at) {
            Some(_) => path,
            None => self.around.base.join(path),
        }
    }
}
