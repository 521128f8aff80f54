//! An authority: its certificate, its key, and what it signs.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{Certificate, Name, PkiError, Profile, Usage};

const DAY: Duration = Duration::from_hours(24);

/// How long an authority is valid, as kubeadm's.
pub const CA_VALIDITY: Duration = DAY.saturating_mul(3650);

/// How long what it issues is valid, as kubeadm's.
pub const LEAF_VALIDITY: Duration = DAY.saturating_mul(365);

/// How long before its making a certificate begins to be valid: hosts whose clocks are behind take
/// it too.
pub const BACKDATED: Duration = DAY;

/// An authority that can sign.
pub struct Authority {
    certificate: Certificate,
    pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate in PEM.
    pub cert_pem: String,
    /// The key in PEM (PKCS#8).
    pub key_pem: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority with an ECDSA P-256 key.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn create(common_name: &str, now: SystemTime) -> Result<Self, PkiError> {
        let key = new_key(common_name)?;
        Self::certify(common_name, &key, now)
    }

    /// The authority of a key that has no certificate yet: its making was cut short.
    ///
    /// # Errors
    /// If the key cannot be read.
    pub fn of_key(common_name: &str, key_pem: &str, now: SystemTime) -> Result<Self, PkiError> {
        Self::certify(common_name, &read_key(common_name, key_pem)?, now)
    }

    fn certify(common_name: &str, key: &KeyPair, now: SystemTime) -> Result<Self, PkiError> {
        let mut params = params(common_name, now, CA_VALIDITY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.subject_alt_names =
            vec![alternative(&Name::Dns(common_name.to_owned()), common_name)?];
        let pem = params.self_signed(key).map_err(issue(common_name))?.pem();
        Self::from_pem(&pem, &key.serialize_pem())
    }

    /// An authority of its certificate and its key (PKCS#8), both in PEM.
    ///
    /// # Errors
    /// If one of them cannot be read, they do not belong together, or it is no authority.
    pub fn from_pem(pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let certificate = Certificate::from_pem(pem)?;
        let name = &certificate.common_name;
        let of_key =
            |reason: &str| PkiError::Key { authority: name.clone(), reason: reason.to_owned() };
        if !certificate.authority {
            return Err(of_key("its certificate is not that of an authority (CA:TRUE)"));
        }
        let key = read_key(name, key_pem)?;
        if key.subject_public_key_info() != certificate.public_key()? {
            return Err(of_key("it does not belong to the certificate"));
        }
        let issuer = Issuer::from_ca_cert_pem(pem, key).map_err(issue(name))?;
        Ok(Self { certificate, pem: pem.to_owned(), key_pem: key_pem.to_owned(), issuer })
    }

    /// Its certificate, read.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its key in PEM: a secret.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A certificate of this profile with a new key.
    ///
    /// # Errors
    /// If no key can be made, or a name is not ASCII.
    pub fn issue(&self, profile: &Profile, now: SystemTime) -> Result<Issued, PkiError> {
        let key = new_key(&profile.common_name)?;
        let cert_pem = self.sign(profile, &key, now)?;
        Ok(Issued { cert_pem, key_pem: key.serialize_pem() })
    }

    /// A certificate of this profile for the key of one that is there: so it can be renewed without
    /// its key being known here, and at no moment do key and certificate not fit.
    ///
    /// # Errors
    /// If its key is of an unknown kind, or a name is not ASCII.
    pub fn renew(
        &self,
        profile: &Profile,
        old: &Certificate,
        now: SystemTime,
    ) -> Result<String, PkiError> {
        let key = SubjectPublicKeyInfo::from_der(&old.public_key()?);
        self.sign(profile, &key.map_err(issue(&profile.common_name))?, now)
    }

    fn sign(
        &self,
        profile: &Profile,
        key: &impl PublicKeyData,
        now: SystemTime,
    ) -> Result<String, PkiError> {
        let name = &profile.common_name;
        let mut params = params(name, now, LEAF_VALIDITY)?;
        // Never valid before or after what vouches for it.
        params.not_before = params.not_before.max(self.certificate.not_before.into());
        params.not_after = params.not_after.min(self.certificate.not_after.into());
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = profile
            .usages
            .iter()
            .map(|usage| match usage {
                Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
                Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            })
            .collect();
        let names = profile.names.iter().map(|other| alternative(other, name));
        params.subject_alt_names = names.collect::<Result<_, _>>()?;
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer).map_err(issue(name))?.pem())
    }
}

fn issue(subject: &str) -> impl Fn(rcgen::Error) -> PkiError {
    let subject = subject.to_owned();
    move |error| PkiError::Issue { subject: subject.clone(), reason: error.to_string() }
}

fn new_key(subject: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(issue(subject))
}

fn read_key(authority: &str, pem: &str) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(pem).map_err(|error| PkiError::Key {
        authority: authority.to_owned(),
        reason: format!("{error} (it has to be PKCS#8: `openssl pkcs8 -topk8 -nocrypt`)"),
    })
}

fn params(
    common_name: &str,
    now: SystemTime,
    validity: Duration,
) -> Result<CertificateParams, PkiError> {
    let seconds = now.duration_since(UNIX_EPOCH).map_err(|_| PkiError::Issue {
        subject: common_name.to_owned(),
        reason: "the clock of this machine is before 1970".to_owned(),
    })?;
    let now = UNIX_EPOCH + Duration::from_secs(seconds.as_secs());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // Of its own for each: left out, it would be made from the key, and that outlives a renewal.
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| PkiError::Issue {
        subject: common_name.to_owned(),
        reason: "there is no randomness".to_owned(),
    })?;
    // Positive and never shorter, as RFC 5280 has it.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + validity).into();
    Ok(params)
}

fn alternative(name: &Name, subject: &str) -> Result<SanType, PkiError> {
    Ok(match name {
        Name::Ip(address) => SanType::IpAddress(*address),
        Name::Dns(name) => SanType::DnsName(name.as_str().try_into().map_err(issue(subject))?),
    })
}
