//! Prometheus and its company, as wished.

use std::path::PathBuf;
use std::time::Duration;

/// Prometheus and its company, on the hosts with the role `monitoring`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitoring {
    /// Is it wished? Only where a host has the role.
    pub enabled: bool,
    /// Do components show their metrics to other hosts? Unless it is switched off: so that it can be had
    /// later, when stacked etcd and kube-proxy take no other settings from us.
    pub reachable: bool,
    /// Pushgateway too, on the first of them?
    pub pushgateway: bool,
    /// How far apart scrapes are, and evaluations of rules.
    pub interval: Duration,
    /// How long Prometheus keeps what it has, as its flag takes it: `15d`.
    pub retention: String,
    /// The Service of kube-state-metrics, where one is installed.
    pub kube_state_metrics: Option<ServicePort>,
    /// Who is told of alerts.
    pub alerts: Alerts,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            enabled: false,
            reachable: false,
            pushgateway: false,
            interval: Duration::from_secs(15),
            retention: "15d".to_owned(),
            kube_state_metrics: None,
            alerts: Alerts::default(),
        }
    }
}

/// A port of a Service: `NAMESPACE/NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The port's name or number.
    pub port: String,
}

/// Who is told of alerts; nobody if all of it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    /// Gets Alertmanager's JSON by POST.
    pub webhook: Option<String>,
    /// A channel of Slack, or of what takes the same messages.
    pub slack: Option<Slack>,
    /// Mail.
    pub email: Option<Email>,
    /// Alertmanager's whole configuration, in place of ours.
    pub config_file: Option<PathBuf>,
}

/// A channel of Slack, or of what takes the same messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slack {
    /// The file of this machine that has the URL, which is a secret.
    pub url_file: PathBuf,
    /// The channel, where the URL does not say.
    pub channel: Option<String>,
}

/// Mail through a server that takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// Who gets it.
    pub to: String,
    /// Whom it is from.
    pub from: String,
    /// `HOST:PORT` of the server.
    pub smarthost: String,
    /// Who we are to that server.
    pub username: Option<String>,
    /// The file of this machine that has the password.
    pub password_file: Option<PathBuf>,
}
