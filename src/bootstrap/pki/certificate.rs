//! A certificate that is there: what it says, whether it still serves, and who issued it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::time::ASN1Time;

use super::{BACKDATED, Name, PkiError, Profile, Usage};

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its common name; empty if it has none.
    pub common_name: String,
    /// The whole of its subject, such as `CN=e1`.
    pub subject: String,
    /// The subject of who issued it.
    pub issuer: String,
    /// The names it is valid for.
    pub names: BTreeSet<Name>,
    /// What it may be used for.
    pub usages: BTreeSet<Usage>,
    /// May it issue others?
    pub authority: bool,
    /// When it begins to be valid.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    der: Vec<u8>,
}

impl Certificate {
    /// The first certificate of a text in PEM.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let unreadable = |reason: String| PkiError::Unreadable(reason);
        let (_, pem) = parse_x509_pem(text.as_bytes()).map_err(|e| unreadable(e.to_string()))?;
        if pem.label != "CERTIFICATE" {
            return Err(unreadable(format!("it is a {}", pem.label)));
        }
        let parsed = pem.parse_x509().map_err(|e| unreadable(e.to_string()))?;
        let common_name = parsed.subject().iter_common_name().next();
        Ok(Self {
            common_name: common_name.and_then(|n| n.as_str().ok()).unwrap_or("").to_owned(),
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            names: names(&parsed),
            usages: usages(&parsed),
            authority: parsed.is_ca(),
            not_before: time(parsed.validity().not_before),
            not_after: time(parsed.validity().not_after),
            serial: parsed.raw_serial_as_string(),
            der: pem.contents.clone(),
        })
    }

    fn parsed(&self) -> Result<X509Certificate<'_>, PkiError> {
        let parsed = x509_parser::parse_x509_certificate(&self.der);
        Ok(parsed.map_err(|error| PkiError::Unreadable(error.to_string()))?.1)
    }

    /// Its public key with the kind of it (`SubjectPublicKeyInfo`), in DER.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn public_key(&self) -> Result<Vec<u8>, PkiError> {
        Ok(self.parsed()?.public_key().raw.to_vec())
    }

    /// Did the key of this authority sign it?
    pub fn issued_by(&self, authority: &Self) -> bool {
        let (Ok(leaf), Ok(root)) = (self.parsed(), authority.parsed()) else { return false };
        leaf.issuer() == root.subject() && leaf.verify_signature(Some(root.public_key())).is_ok()
    }

    /// When it was made, if we made it.
    pub fn made(&self) -> SystemTime {
        self.not_before + BACKDATED
    }

    /// Is less than a third of its life left? So a certificate of a year is renewed in its last four
    /// months: time enough for runs that come seldom.
    pub fn needs_renewal(&self, now: SystemTime) -> bool {
        let life = self.not_after.duration_since(self.not_before).unwrap_or(Duration::ZERO);
        self.not_after.duration_since(now).is_ok_and(|left| left < life / 3)
            || now >= self.not_after
    }

    /// Whole days until its end; negative afterwards.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let days = |span: Duration| i64::try_from(span.as_secs() / 86400).unwrap_or(i64::MAX);
        match self.not_after.duration_since(now) {
            Ok(left) => days(left),
            Err(past) => -days(past.duration()) - 1,
        }
    }

    /// What is wrong with it where one of this profile and authority should be; nothing if it serves.
    pub fn faults(&self, profile: &Profile, authority: &Self, now: SystemTime) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.issued_by(authority) {
            faults.push(format!("is not issued by {}", authority.subject));
        }
        if self.common_name != profile.common_name {
            faults.push(format!("is for {}, not {}", self.common_name, profile.common_name));
        }
        faults.extend(profile.names.difference(&self.names).map(|n| format!("lacks the name {n}")));
        faults.extend(self.names.difference(&profile.names).map(|n| format!("has the name {n}")));
        faults.extend(profile.usages.difference(&self.usages).map(|u| format!("lacks {u}")));
        faults.extend(self.usages.difference(&profile.usages).map(|u| format!("has {u}")));
        if now < self.not_before {
            let begin = humantime::format_rfc3339_seconds(self.not_before);
            faults.push(format!("is not valid before {begin}"));
        }
        if self.needs_renewal(now) {
            let end = humantime::format_rfc3339_seconds(self.not_after);
            let verb = if now < self.not_after { "expires" } else { "expired" };
            faults.push(format!("{verb} on {end}"));
        }
        faults
    }
}

fn time(at: ASN1Time) -> SystemTime {
    // Before 1970 is long ago either way.
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0))
}

fn names(parsed: &X509Certificate<'_>) -> BTreeSet<Name> {
    let Ok(Some(found)) = parsed.subject_alternative_name() else { return BTreeSet::new() };
    let name = |general: &GeneralName<'_>| match general {
        GeneralName::DNSName(name) => Some(Name::Dns((*name).to_owned())),
        GeneralName::IPAddress(bytes) => address(bytes).map(Name::Ip),
        _ => None,
    };
    found.value.general_names.iter().filter_map(name).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

fn usages(parsed: &X509Certificate<'_>) -> BTreeSet<Usage> {
    let Ok(Some(found)) = parsed.extended_key_usage() else { return BTreeSet::new() };
    let server = found.value.server_auth.then_some(Usage::Server);
    server.into_iter().chain(found.value.client_auth.then_some(Usage::Client)).collect()
}
