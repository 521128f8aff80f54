//! TLS of the probes: trust, identity, and which part of a certificate is wrong.

mod material;
mod verify;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::Resumption;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{CertificateError, ClientConfig, Error as TlsError};

pub use material::{Material, MaterialError, Paths, Stamps};

/// What is wrong with a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// No CA of ours signed it.
    UnknownCa,
    /// It has expired, or its time has not come.
    Expired,
    /// It is for another name.
    WrongName,
    /// Anything else, such as a bad signature or a wrong purpose.
    Other,
}

/// Which fault of the server's certificate an error is about; `None` when it is about something else.
pub fn certificate_fault(error: &TlsError) -> Option<CertificateFault> {
    let TlsError::InvalidCertificate(error) = error else {
        return None;
    };
    Some(match error {
        // A bad signature is one by another key of a CA of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            CertificateFault::UnknownCa
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => CertificateFault::Expired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateFault::WrongName
        }
        _ => CertificateFault::Other,
    })
}

/// Parses the name that a certificate must carry: a DNS name or an IP address.
///
/// # Errors
/// It is neither.
pub fn server_name(text: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(text.to_owned())
}

/// A client configuration with a session store of its own, so that every backend resumes its own
/// sessions.
///
/// # Errors
/// The client certificate and its key do not belong together.
pub fn client_config(material: &Material, alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match &material.roots {
        Some(roots) => builder.with_root_certificates(roots.clone()),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verify::AnyCertificate::new(provider))),
    };
    let mut config = match &material.identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(4);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// When a certificate's time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// RFC 3339 in UTC.
    pub text: String,
    /// Whole days from now; negative when it is past.
    pub days_left: i64,
}

/// When a certificate (DER) expires; `None` when it cannot be read.
pub fn expiry(certificate: &[u8]) -> Option<Expiry> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let days_left = (seconds - i64::try_from(now.as_secs()).ok()?).div_euclid(86400);
    Some(Expiry { text: humantime::format_rfc3339_seconds(at).to_string(), days_left })
}
