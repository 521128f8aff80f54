//! What is taken from certificates: the pins of a CA, and when one ends.

use ring::digest::{SHA256, digest};

use crate::bootstrap::hex::hex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::tls;

/// A PEM text without a usable certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no certificate in it that can be read")]
pub struct CertificateError;

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(CertificateError)
}

/// The `caCertHashes` of kubeadm: `sha256:` and the hash of each certificate's public key (its
/// `SubjectPublicKeyInfo` in DER, as RFC 7469 pins).
///
/// # Errors
/// No certificate can be read.
pub fn pins(pem: &[u8]) -> Result<Vec<String>, CertificateError> {
    let pin = |certificate: &CertificateDer<'_>| {
        let parsed = x509_parser::parse_x509_certificate(certificate);
        let (_, certificate) = parsed.map_err(|_| CertificateError)?;
        let hash = digest(&SHA256, certificate.public_key().raw);
        Ok(format!("sha256:{}", hex(hash.as_ref())))
    };
    certificates(pem)?.iter().map(pin).collect()
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// RFC 3339 in UTC.
    pub ends: String,
    /// Whole days until then; negative when it is past.
    pub days_left: i64,
    /// Whole days from its begin to its end.
    pub life: i64,
}

/// When the first certificate ends.
///
/// # Errors
/// No certificate can be read.
pub fn expiry(pem: &[u8]) -> Result<Expiry, CertificateError> {
    let certificates = certificates(pem)?;
    let parsed = x509_parser::parse_x509_certificate(&certificates[0]);
    let (_, certificate) = parsed.map_err(|_| CertificateError)?;
    let validity = certificate.validity();
    let life = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
    let tls::Expiry { text: ends, days_left } =
        tls::expiry(&certificates[0]).ok_or(CertificateError)?;
    Ok(Expiry { ends, days_left, life })
}

/// Is less than a sixth of the first certificate's life left? However long the cluster signs for, there
/// are several chances to renew it then.
///
/// # Errors
/// No certificate can be read.
pub fn is_ending(pem: &[u8]) -> Result<bool, CertificateError> {
    let certificates = certificates(pem)?;
    let parsed = x509_parser::parse_x509_certificate(&certificates[0]);
    let (_, certificate) = parsed.map_err(|_| CertificateError)?;
    let validity = certificate.validity();
    let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    Ok((end - now).saturating_mul(6) < end - begin)
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;

    use super::*;

    #[test]
    fn the_pin_is_the_hash_of_the_public_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        let expected = hex(digest(&SHA256, &key.subject_public_key_info()).as_ref());
        let pem = certificate.pem();
        assert_eq!(pins(pem.as_bytes()), Ok(vec![format!("sha256:{expected}")]));
        assert!(expiry(pem.as_bytes()).unwrap().days_left > 365);
        assert_eq!(pins(b"nothing"), Err(CertificateError));
        assert_eq!(expiry(b""), Err(CertificateError));
    }

    #[test]
    fn a_certificate_ends_in_its_last_sixth() {
        let of = |from, to| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            params.self_signed(&key).unwrap().pem()
        };
        let Expiry { ends, days_left, life } = expiry(of(2010, 2020).as_bytes()).unwrap();
        assert_eq!((ends.as_str(), life), ("2020-01-01T00:00:00Z", 3652));
        assert!(days_left < 0);
        assert_eq!(is_ending(of(2020, 2090).as_bytes()), Ok(false));
        assert_eq!(is_ending(of(1990, 2029).as_bytes()), Ok(true));
        assert_eq!(is_ending(of(2010, 2020).as_bytes()), Ok(true), "it has ended");
        assert_eq!(is_ending(b""), Err(CertificateError));
    }
}
