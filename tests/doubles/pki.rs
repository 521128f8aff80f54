//! Keys and certificates in a folder, as kubeadm lays them out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use ring::digest::{SHA256, digest};

use crate::client::certificates;
use crate::token::hex;

/// A certificate in PEM with its key.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Server,
    Client,
    Both,
}

/// How long certificates that are no CA last, in days.
const DAYS: i64 = 365;

fn parameters(
    name: &str,
    organization: Option<&str>,
    sans: &[String],
) -> Result<CertificateParams, String> {
    let mut parameters =
        CertificateParams::new(sans.to_vec()).map_err(|error| error.to_string())?;
    parameters.distinguished_name = DistinguishedName::new();
    if let Some(organization) = organization {
        parameters.distinguished_name.push(DnType::OrganizationName, organization);
    }
    parameters.distinguished_name.push(DnType::CommonName, name);
    let start =
        x509_parser::time::ASN1Time::now().to_datetime() - std::time::Duration::from_mins(1);
    parameters.not_before = start;
    parameters.not_after = start + std::time::Duration::from_secs(86_400 * DAYS.unsigned_abs());
    Ok(parameters)
}

fn authority(name: &str) -> Result<CertificateParams, String> {
    let mut parameters = parameters(name, None, &[name.to_owned()])?;
    parameters.not_after += std::time::Duration::from_secs(86_400 * 9 * DAYS.unsigned_abs());
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    Ok(parameters)
}

/// The CA of this name in these files, made if it is not there.
pub(crate) fn ensure_ca(folder: &Path, file: &str, name: &str) -> Result<Pair, String> {
    if let Some(pair) = Pair::read(folder, file)? {
        return Ok(pair);
    }
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = authority(name)?.self_signed(&key).map_err(|error| error.to_string())?;
    let pair =
        Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() };
    pair.write(folder, file)?;
    Ok(pair)
}

/// A new certificate of a CA of this name.
pub(crate) fn issue(
    ca: &Pair,
    ca_name: &str,
    name: (&str, Option<&str>),
    purpose: Purpose,
    sans: &[String],
) -> Result<Pair, String> {
    let text = |error: rcgen::Error| error.to_string();
    let ca_key = KeyPair::from_pem(&String::from_utf8_lossy(&ca.key)).map_err(text)?;
    let issuer = Issuer::new(authority(ca_name)?, ca_key);
    let mut parameters = parameters(name.0, name.1, sans)?;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    if purpose != Purpose::Client {
        parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if purpose != Purpose::Server {
        parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    let key = KeyPair::generate().map_err(text)?;
    let certificate = parameters.signed_by(&key, &issuer).map_err(text)?;
    Ok(Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() })
}

/// A key, and a request to sign it for this name: both in PEM.
pub(crate) fn request(name: &str, organization: &str) -> Result<(String, String), String> {
    let text = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate().map_err(text)?;
    let request =
        parameters(name, Some(organization), &[])?.serialize_request(&key).map_err(text)?;
    Ok((key.serialize_pem(), request.pem().map_err(text)?))
}

/// Writes `sa.key` and `sa.pub`, with which tokens of service accounts are signed.
pub(crate) fn ensure_service_account(folder: &Path) -> Result<(), String> {
    if folder.join("sa.key").exists() {
        return Ok(());
    }
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    write(&folder.join("sa.key"), key.serialize_pem().as_bytes(), 0o600)?;
    write(&folder.join("sa.pub"), key.public_key_pem().as_bytes(), 0o600)
}

impl Pair {
    /// What is in a folder under this name; an error if there is only one of the two.
    pub(crate) fn read(folder: &Path, file: &str) -> Result<Option<Self>, String> {
        let read = |suffix| fs::read(folder.join(format!("{file}.{suffix}"))).ok();
        match (read("crt"), read("key")) {
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(format!("{}/{file}.crt is there, but not its key", folder.display()))
            }
            (None, Some(_)) => {
                Err(format!("{}/{file}.key is there, but not its certificate", folder.display()))
            }
        }
    }

    pub(crate) fn write(&self, folder: &Path, file: &str) -> Result<(), String> {
        write(&folder.join(format!("{file}.crt")), &self.certificate, 0o644)?;
        write(&folder.join(format!("{file}.key")), &self.key, 0o600)
    }
}

/// Writes a file with these permissions, and the folders above it.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(told)?;
    }
    fs::write(path, content).map_err(told)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(told)
}

/// `sha256:` and the hash of the public key of the first certificate.
pub(crate) fn pin(pem: &[u8]) -> Result<String, String> {
    let certificate = &certificates(pem)?[0];
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    Ok(format!("sha256:{}", hex(digest(&SHA256, parsed.public_key().raw).as_ref())))
}

/// When the first certificate of a PEM text ends, in Unix time.
pub(crate) fn end(pem: &[u8]) -> Result<i64, String> {
    let certificate = &certificates(pem)?[0];
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.validity().not_after.timestamp())
}
