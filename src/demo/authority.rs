//! A throw-away certificate authority: what a cluster's `ca.crt` and `ca.key` are to real apiservers.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The names every server certificate carries unless told otherwise: those of kubeadm's apiserver
/// certificate by which a node reaches its local proxy.
pub const SERVER_NAMES: &[&str] = &["kubernetes", "localhost", "127.0.0.1", "::1"];

/// A certificate authority that lives as long as the value. Two of them never trust each other.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// What to certify. The default is a valid server certificate for [`SERVER_NAMES`].
#[derive(Clone, Copy, Debug)]
pub struct Issue<'a> {
    /// Subject alternative names, DNS or IP; the first one is also the common name.
    pub names: &'a [&'a str],
    /// Ended on 1 January 2001, instead of lasting until 4096.
    pub expired: bool,
    /// For a client (group `system:masters`, user the common name) instead of a server.
    pub client: bool,
}

impl Default for Issue<'_> {
    fn default() -> Self {
        Self { names: SERVER_NAMES, expired: false, client: false }
    }
}

/// A certificate with its private key, as text for files and decoded for rustls.
#[derive(Clone)]
pub struct Issued {
    /// The certificate in PEM.
    pub cert_pem: String,
    /// The PKCS#8 private key in PEM.
    pub key_pem: String,
    /// The chain to present: the certificate alone, since the authority signs without intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: Arc<PrivateKeyDer<'static>>,
    /// Who signed it. A server also accepts client certificates from here.
    pub authority: CertificateDer<'static>,
}

impl Authority {
    /// A new authority with its own ECDSA P-256 key.
    ///
    /// # Errors
    /// When no key can be made, or `common_name` cannot be encoded.
    pub fn new(common_name: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// The authority's certificate in PEM: the content of a `caFile`.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The authority's certificate in DER: for a rustls root store.
    pub fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// A server certificate for [`SERVER_NAMES`].
    ///
    /// # Errors
    /// When no key can be made.
    pub fn server(&self) -> Result<Issued, rcgen::Error> {
        self.issue(Issue::default())
    }

    /// A certificate as `issue` describes it, with a fresh ECDSA P-256 key.
    ///
    /// # Errors
    /// When no key can be made, or a name is neither an IP address nor ASCII.
    pub fn issue(&self, issue: Issue<'_>) -> Result<Issued, rcgen::Error> {
        let names: Vec<String> = issue.names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let common_name = names.first().cloned().unwrap_or_default();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(2000, 1, 1);
        if issue.expired {
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        if issue.client {
            params.distinguished_name.push(DnType::OrganizationName, "system:masters");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        } else {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            key: Arc::new(PrivatePkcs8KeyDer::from(key.serialize_der()).into()),
            authority: self.der().clone(),
        })
    }
}
