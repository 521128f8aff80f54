//! The keys of a `ProxyConfiguration` and their types, as written; nothing is checked yet.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use super::faults::quoted;
use super::{CheckType, LogFormat, LogLevel};
use crate::model::Policy;

/// A list; an item that was refused or left empty is `None`, so that the others keep their numbers.
pub(super) type List<T> = Vec<Option<T>>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Proxy {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    pub(super) listen: Option<List<String>>,
    pub(super) zone: Option<String>,
    pub(super) backends: Option<List<Backend>>,
    pub(super) balance: Option<Policy>,
    pub(super) health_check: Option<HealthCheck>,
    pub(super) connect: Option<Connect>,
    pub(super) connections: Option<Connections>,
    pub(super) rebalance: Option<Rebalance>,
    pub(super) discovery: Option<Discovery>,
    pub(super) clusters: Option<List<Cluster>>,
    pub(super) admin: Option<Admin>,
    pub(super) hardening: Option<Hardening>,
    pub(super) threads: Option<i128>,
    pub(super) log: Option<Log>,
}

/// What can be said of each cluster; without `clusters`, the document itself says it of the only one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) name: Option<String>,
    pub(super) listen: Option<List<String>>,
    pub(super) zone: Option<String>,
    pub(super) backends: Option<List<Backend>>,
    pub(super) balance: Option<Policy>,
    pub(super) health_check: Option<HealthCheck>,
    pub(super) connect: Option<Connect>,
    pub(super) connections: Option<Connections>,
    pub(super) rebalance: Option<Rebalance>,
    pub(super) discovery: Option<Discovery>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Backend {
    pub(super) address: Option<String>,
    pub(super) name: Option<String>,
    pub(super) zone: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HealthCheck {
    #[serde(rename = "type")]
    pub(super) kind: Option<CheckType>,
    pub(super) path: Option<String>,
    pub(super) interval: Option<Duration>,
    pub(super) fast_interval: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) rise: Option<i128>,
    pub(super) fall: Option<i128>,
    pub(super) tls: Option<Tls>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) ca_file: Option<PathBuf>,
    pub(super) server_name: Option<String>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) insecure_skip_verify: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Connect {
    pub(super) timeout: Option<Duration>,
    pub(super) hedge_after: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Connections {
    pub(super) max: Option<i128>,
    pub(super) keepalive: Option<Duration>,
    pub(super) user_timeout: Option<Duration>,
    pub(super) drain_timeout: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rebalance {
    pub(super) enabled: Option<bool>,
    pub(super) after: Option<Duration>,
    pub(super) window: Option<Duration>,
    pub(super) quiet_for: Option<Duration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Discovery {
    pub(super) kubernetes: Option<Kubernetes>,
    pub(super) file: Option<PathBuf>,
    pub(super) cache_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kubernetes {
    pub(super) kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) listen: Option<String>,
    pub(super) control_socket: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hardening {
    pub(super) enabled: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Log {
    pub(super) format: Option<LogFormat>,
    pub(super) level: Option<LogLevel>,
}

/// A span of time with its unit, such as `500ms` or `1m30s`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Duration(pub(super) std::time::Duration);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

struct DurationVisitor;

/// The message and, after the line break, the hint.
fn without_unit<E: de::Error>(number: impl fmt::Display) -> E {
    E::custom(format!("the duration `{number}` has no unit\nwrite `{number}s`, or another unit"))
}

impl de::Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration, such as 500ms, 10s or 1m30s")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(without_unit(text));
        }
        humantime::parse_duration(text).map(Duration).map_err(|_| {
            let text = quoted(text);
            E::custom(format!("{text} is not a duration\nwrite it as 500ms, 10s or 1m30s"))
        })
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Duration, E> {
        if number < 0 {
            return self.visit_str(&number.to_string());
        }
        Err(without_unit(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
        Err(without_unit(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Duration, E> {
        Err(without_unit(number))
    }
}
