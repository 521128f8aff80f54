//! Where a backend listens: an IP address or a DNS name, and a port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The host part of a [`BackendAddress`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal IPv4 or IPv6 address; never resolved.
    Ip(IpAddr),
    /// A DNS name in lower case, without a trailing dot; resolved off the data path.
    Name(String),
}

/// A backend's `HOST:PORT`. IPv6 literals are written in brackets: `[2001:db8::1]:6443`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendAddress {
    host: Host,
    port: u16,
}

/// Why a text is not a [`BackendAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// No text at all.
    #[error("an address is missing; write HOST:PORT, for example 10.0.0.11:6443")]
    Empty,
    /// No `:PORT` at the end.
    #[error("`{0}` has no port; write HOST:PORT, for example {0}:6443")]
    MissingPort(String),
    /// The part after the last colon is not a port number from 1 to 65535.
    #[error("`{0}` is not a port; a port is a number from 1 to 65535")]
    BadPort(String),
    /// An IPv6 literal without brackets.
    #[error("`{0}` is an IPv6 address without brackets; write [{0}]:6443")]
    UnbracketedIpv6(String),
    /// A scheme, path or user part: this is a URL.
    #[error("`{0}` is a URL; write only its HOST:PORT")]
    Url(String),
    /// Not an IP address and not a DNS name (RFC 1123).
    #[error("`{0}` is neither an IP address nor a DNS name")]
    BadHost(String),
    /// `0.0.0.0` or `::`: an address to listen on, not to connect to.
    #[error("`{0}` is a wildcard address, which nothing can connect to; name the server itself")]
    Unspecified(String),
}

impl BackendAddress {
    /// The host, as written.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The TCP port, 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, when the host is an IP address and needs no resolution.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

impl From<SocketAddr> for BackendAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

impl FromStr for BackendAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('/') || text.contains('@') {
            return Err(ParseAddressError::Url(text.to_owned()));
        }
        if let Ok(ip) = text.parse::<std::net::Ipv6Addr>() {
            return Err(ParseAddressError::UnbracketedIpv6(ip.to_string()));
        }
        if text.is_empty() {
            return Err(ParseAddressError::Empty);
        }
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| ParseAddressError::MissingPort(text.to_owned()))?;
        if host.starts_with('[') && !host.ends_with(']') {
            return Err(ParseAddressError::MissingPort(text.to_owned()));
        }
        let port = match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => number,
            _ => return Err(ParseAddressError::BadPort(port.to_owned())),
        };
        Ok(Self { host: parse_host(host)?, port })
    }
}

fn parse_host(text: &str) -> Result<Host, ParseAddressError> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = match bracketed {
        Some(inner) => Some(IpAddr::V6(
            inner.parse().map_err(|_| ParseAddressError::BadHost(inner.to_owned()))?,
        )),
        None if text.contains(':') => {
            return Err(ParseAddressError::UnbracketedIpv6(text.to_owned()));
        }
        None => text.parse().ok(),
    };
    match ip {
        Some(ip) if ip.is_unspecified() => Err(ParseAddressError::Unspecified(text.to_owned())),
        Some(ip) => Ok(Host::Ip(ip)),
        None if is_dns_name(text) => {
            Ok(Host::Name(text.trim_end_matches('.').to_ascii_lowercase()))
        }
        None => Err(ParseAddressError::BadHost(text.to_owned())),
    }
}

/// RFC 1123 section 2.1: labels of letters, digits and inner hyphens, 63 octets a label and 253 in
/// all. A last label of digits only would be a mistyped IPv4 address.
fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label_ok) && !last_is_number
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_addresses() {
        for text in ["10.0.0.11:6443", "[2001:db8::1]:6443", "cp1.example.com:443", "cp1:1"] {
            assert_eq!(text.parse::<BackendAddress>().expect(text).to_string(), text);
        }
        assert_eq!(
            "CP1.Example.:6443".parse::<BackendAddress>().unwrap().to_string(),
            "cp1.example:6443"
        );
    }

    #[test]
    fn names_what_is_wrong() {
        use ParseAddressError as E;

        type Expected = fn(String) -> E;
        let cases: [(&str, Expected); 12] = [
            ("10.0.0.11", E::MissingPort),
            ("[::1]", E::MissingPort),
            ("10.0.0.11:0", E::BadPort),
            ("10.0.0.11:65536", E::BadPort),
            ("10.0.0.11:+443", E::BadPort),
            ("2001:db8::1", E::UnbracketedIpv6),
            ("https://cp1:6443", E::Url),
            ("ops@cp1:6443", E::Url),
            ("10.0.0.256:6443", E::BadHost),
            ("-cp1:6443", E::BadHost),
            (":6443", E::BadHost),
            ("0.0.0.0:6443", E::Unspecified),
        ];
        for (text, expected) in cases {
            let error = text.parse::<BackendAddress>().expect_err(text);
            assert_eq!(
                std::mem::discriminant(&error),
                std::mem::discriminant(&expected(String::new())),
                "{text}: {error}"
            );
        }
    }
}
