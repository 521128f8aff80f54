//! Prometheus and its company.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Check;
use super::roster::Roster;
use crate::bootstrap::spec::{Alerts, Email, Monitoring, Role, ServicePort, Slack, shape, syntax};
use crate::config::quoted;

const AT: &str = "spec.monitoring";

/// The shortest and the longest pace of scrapes.
const PACE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(2);

impl Check<'_> {
    pub(super) fn monitoring(&mut self, raw: shape::Monitoring, roster: &Roster) -> Monitoring {
        let default = Monitoring::default();
        let has_host = roster.count(&[Role::Monitoring]) > 0;
        if raw.enabled == Some(true) && !has_host && roster.is_complete {
            let message = "no host has the role `monitoring`, and it runs nowhere else";
            let hint =
                "give one host this role, or three, outside of the cluster; or remove the line";
            self.fault(&format!("{AT}.enabled"), message, hint);
        }
        if raw.pushgateway == Some(true) && !has_host && roster.is_complete {
            let message = "no host has the role `monitoring`, where it would run";
            self.fault(&format!("{AT}.pushgateway"), message, "give a host this role");
        }
        let interval = raw.interval.and_then(|text| self.pace(&text));
        let retention = raw.retention.inspect(|text| {
            if !is_retention(text) {
                let message = format!("{} is no time to keep metrics for", quoted(text));
                let hint = "write a number and `h`, `d`, `w` or `y`, as in 15d";
                self.fault(&format!("{AT}.retention"), message, hint);
            }
        });
        let service = raw.kube_state_metrics.and_then(|text| {
            let service = service_port(&text);
            if service.is_none() {
                let message = format!("{} is no port of a Service", quoted(&text));
                let hint = "write NAMESPACE/NAME:PORT, as in kube-system/kube-state-metrics:8080";
                self.fault(&format!("{AT}.kubeStateMetrics"), message, hint);
            }
            service
        });
        Monitoring {
            enabled: raw.enabled.unwrap_or(true) && has_host,
            reachable: raw.enabled.unwrap_or(true),
            pushgateway: raw.pushgateway.unwrap_or(default.pushgateway),
            interval: interval.unwrap_or(default.interval),
            retention: retention.unwrap_or(default.retention),
            kube_state_metrics: service,
            alerts: raw.alerts.map_or_else(Alerts::default, |alerts| self.alerts(alerts)),
        }
    }

    fn pace(&mut self, text: &str) -> Option<Duration> {
        let pace = humantime::parse_duration(text).ok();
        let whole = |pace: &Duration| pace.subsec_nanos() == 0 && PACE.contains(pace);
        let pace = pace.filter(whole);
        if pace.is_none() {
            let message = format!("{} is no pace of scrapes", quoted(text));
            self.fault(&format!("{AT}.interval"), message, "write 1s to 2m in whole seconds");
        }
        pace
    }

    fn alerts(&mut self, raw: shape::Alerts) -> Alerts {
        let at = format!("{AT}.alerts");
        if raw.config_file.is_some()
            && (raw.webhook.is_some() || raw.slack.is_some() || raw.email.is_some())
        {
            let hint = "keep `configFile` alone, or say who is told without it";
            self.fault(&format!("{at}.configFile"), "it takes the place of the other keys", hint);
        }
        if let Some(url) = &raw.webhook
            && !is_url(url)
        {
            let message = format!("{} is no URL", quoted(url));
            self.fault(&format!("{at}.webhook"), message, "begin it with http:// or https://");
        }
        Alerts {
            slack: raw.slack.and_then(|slack| self.slack(&format!("{at}.slack"), slack)),
            email: raw.email.and_then(|email| self.email(&format!("{at}.email"), email)),
            config_file: raw
                .config_file
                .map(|path| self.own_file(&format!("{at}.configFile"), &path)),
            webhook: raw.webhook,
        }
    }

    fn slack(&mut self, at: &str, raw: shape::Slack) -> Option<Slack> {
        let Some(file) = raw.url_file else {
            self.missing(at, "urlFile", "name a file that has the URL alone");
            return None;
        };
        let url_file = self.own_file(&format!("{at}.urlFile"), &file);
        Some(Slack { url_file, channel: raw.channel })
    }

    fn email(&mut self, at: &str, raw: shape::Email) -> Option<Email> {
        for (key, there) in [
            ("to", raw.to.is_some()),
            ("from", raw.from.is_some()),
            ("smarthost", raw.smarthost.is_some()),
        ] {
            if !there {
                self.missing(at, key, "mail needs `to`, `from` and `smarthost`");
            }
        }
        if let Some(text) = &raw.smarthost
            && text.rsplit_once(':').is_none_or(|(host, port)| {
                host.is_empty() || port.parse::<std::num::NonZeroU16>().is_err()
            })
        {
            let message = format!("{} is no HOST:PORT", quoted(text));
            self.fault(&format!("{at}.smarthost"), message, "write it as mail.example.com:587");
        }
        if raw.username.is_some() != raw.password_file.is_some() {
            let hint = "give both, or none of them";
            self.fault(at, "`username` and `passwordFile` go together", hint);
        }
        let password_file =
            raw.password_file.map(|path| self.own_file(&format!("{at}.passwordFile"), &path));
        let (to, from, smarthost) = (raw.to?, raw.from?, raw.smarthost?);
        Some(Email { to, from, smarthost, username: raw.username, password_file })
    }

    /// A file of this machine.
    fn own_file(&mut self, at: &str, raw: &Path) -> PathBuf {
        let path = self.path(raw);
        if !path.is_file() {
            let message = format!("{} is no file", path.display());
            self.fault(
                at,
                message,
                "name a file that is there; relative paths start from this one's folder",
            );
        }
        path
    }
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let plain = |c: char| c.is_ascii_graphic() && c != '"';
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(plain))
}

/// One number with a unit, as Prometheus takes it.
fn is_retention(text: &str) -> bool {
    let number = text.strip_suffix(['h', 'd', 'w', 'y']);
    number.is_some_and(|number| number.parse::<u16>().is_ok_and(|number| number > 0))
}

fn service_port(text: &str) -> Option<ServicePort> {
    let (namespace, rest) = text.split_once('/')?;
    let (name, port) = rest.rsplit_once(':')?;
    let all = [namespace, name, port];
    let [namespace, name, port] = all.map(str::to_owned);
    all.iter().all(|part| syntax::is_label(part)).then_some(ServicePort { namespace, name, port })
}
