//! `kubeconfig`: the admin's, for the operator's own machine.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::shared::Shared;
use crate::bootstrap::engine::{Context, StepError};

/// The admin's kubeconfig on a control plane.
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// What a kubeconfig has as its server: an `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: Option<u16>,
}

impl FromStr for Server {
    type Err = String;

    /// Reads `HOST`, `HOST:PORT` or `https://HOST:PORT`; IPv6 addresses in brackets or alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no HOST, HOST:PORT or https://HOST:PORT");
        let rest = match text.split_once("://") {
            Some(("https", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(_) => return Err(wrong()),
            None => text,
        };
        let bare = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(rest);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self { host: literal(address), port: None });
        }
        let (host, port) = match (rest.parse::<SocketAddr>(), rest.rsplit_once(':')) {
            (Ok(address), _) => (literal(address.ip()), Some(address.port())),
            (Err(_), Some((host, port))) => {
                (host.to_owned(), Some(port.parse().map_err(|_| wrong())?))
            }
            (Err(_), None) => (rest.to_owned(), None),
        };
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let is_host = host.starts_with('[') && rest.parse::<SocketAddr>().is_ok()
            || !host.is_empty() && host.chars().all(letter);
        if is_host && port != Some(0) { Ok(Self { host, port }) } else { Err(wrong()) }
    }
}

fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The admin's kubeconfig.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// All of it: a secret.
    pub text: String,
    /// The server in it.
    pub server: String,
}

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubeconfig").field("server", &self.server).finish_non_exhaustive()
    }
}

/// The admin's kubeconfig of the cluster, for this server; by default the control plane that it comes
/// from, by its address.
///
/// # Errors
/// No control plane serves, or its kubeconfig is none.
pub async fn fetch(
    shared: &Shared,
    cx: &Context,
    server: Option<&Server>,
) -> Result<Kubeconfig, StepError> {
    let via = shared.through(cx).await?;
    let found = cx.host(&via)?.read(ADMIN).await?;
    let text = found.map(|found| String::from_utf8_lossy(&found.content).into_owned());
    let port = shared.cluster.endpoint.port;
    let server = match server {
        Some(Server { host, port: given }) => format!("https://{host}:{}", given.unwrap_or(port)),
        None => format!("https://{}", SocketAddr::new(shared.host(&via)?.address, port)),
    };
    match text.as_deref().and_then(|text| rewrite(text, &server)) {
        Some(text) => Ok(Kubeconfig { text, server }),
        None => {
            Err(StepError::Unverified(format!("{via}: {ADMIN} is no kubeconfig of one cluster")))
        }
    }
}

/// The same kubeconfig for another server. Every other byte stays as it is.
fn rewrite(text: &str, server: &str) -> Option<String> {
    let is_server = |line: &&str| line.trim_start().starts_with("server:");
    if text.lines().filter(is_server).count() != 1 {
        return None;
    }
    let line = |line: &str| {
        let Some((before, _)) = line.split_once("server:").filter(|_| is_server(&line)) else {
            return line.to_owned();
        };
        format!("{before}server: {server}\n")
    };
    Some(text.split_inclusive('\n').map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_with_or_without_scheme_and_port() {
        let read = |text: &str| {
            text.parse::<Server>().map(|Server { host, port }| (host, port.unwrap_or(6443))).ok()
        };
        for (text, host, port) in [
            ("lb.example.com", "lb.example.com", 6443),
            ("https://lb.example.com:443/", "lb.example.com", 443),
            ("10.0.0.5:8443", "10.0.0.5", 8443),
            ("fd00::5", "[fd00::5]", 6443),
            ("https://[fd00::5]", "[fd00::5]", 6443),
            ("[fd00::5]:443", "[fd00::5]", 443),
        ] {
            assert_eq!(read(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in [
            "",
            "http://lb",
            "lb:x",
            "lb:0",
            "10.0.0.5:0",
            "[::1]:0",
            "lb/path",
            "a b",
            "[x]:1",
            "lb\n",
            "https://",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_server_alone_is_rewritten() {
        let text =
            "clusters:\n- cluster:\n    server: https://api.prod:6443\n  name: prod\nusers: []\n";
        let expected =
            "clusters:\n- cluster:\n    server: https://10.0.0.11:6443\n  name: prod\nusers: []\n";
        assert_eq!(rewrite(text, "https://10.0.0.11:6443").as_deref(), Some(expected));
        assert_eq!(rewrite("", "x"), None);
        assert_eq!(rewrite(&text.repeat(2), "x"), None, "two clusters");
    }
}
