//! The configuration as its users meet it: good files, bad files, hostile files, flags.

mod bad;
mod bad_values;
mod clusters;
mod files;
mod good;
mod hostile;
mod reader;
mod reference;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::validate::ThisHost;
use super::{Config, ConfigError, Overrides};

/// The sample of the design, with files that exist in the folder of [`certificates`].
const SAMPLE: &str = r#"apiVersion: apiproxy.io/v1alpha1
kind: ProxyConfiguration
listen: ["127.0.0.1:6443", "[::1]:6443"]   # the default
zone: a                                    # of this node; optional
backends:
  - address: 10.0.0.11:6443                # IP or DNS name
    name: cp1                              # default: the address
    zone: a
  - address: cp2.example.com:6443
balance: leastConnections                  # | roundRobin | random | powerOfTwo
healthCheck:
  type: https                              # | tls | tcp
  path: /readyz
  interval: 10s
  fastInterval: 500ms
  timeout: 1s
  rise: 2
  fall: 2
  tls: { caFile: ca.crt, serverName: kubernetes, certFile: , keyFile: , insecureSkipVerify: false }
connect: { timeout: 1s, hedgeAfter: 200ms }
connections: { max: 16384, keepalive: 15s, userTimeout: 5s, drainTimeout: 60s }
admin: { listen: "127.0.0.1:10242" }
threads: 1
log: { format: text, level: info }
"#;

const HEAD: &str = "apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\n";

/// A folder with `ca.crt`, `client.crt`, `client.key` and `other.key`.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    let client = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    for (name, pem) in [
        ("ca.crt", ca.cert.pem()),
        ("client.crt", client.cert.pem()),
        ("client.key", client.signing_key.serialize_pem()),
        ("other.key", ca.signing_key.serialize_pem()),
    ] {
        fs::write(folder.path().join(name), pem).unwrap();
    }
    folder
}

/// A host without a default CA, whose addresses are those that end in 5.
fn host() -> ThisHost<'static> {
    let is_own = |ip: std::net::IpAddr| ip.to_string().ends_with('5');
    ThisHost { default_ca: Path::new("/nowhere/ca.crt"), is_own }
}

/// Parses on that host.
fn parse_in(base: &Path, text: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
    super::read("proxy.yaml", text, base, overrides, host())
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    parse_in(Path::new("/nowhere"), text, &Overrides::default())
}

/// Flags alone, on that host.
fn flags(overrides: &Overrides) -> Result<Config, ConfigError> {
    let none = super::Faults::new("", "");
    super::finish(None, none, Path::new(""), overrides, host())
}

/// Flags that suffice.
fn minimal_flags() -> Overrides {
    Overrides {
        backends: vec!["a:6443".to_owned(), "b:6443".to_owned()],
        insecure_skip_verify: true,
        ..Overrides::default()
    }
}

fn path(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}
