//! Alertmanager's configuration: who is told, and what is kept quiet because something else says it.

use serde::Serialize;

use crate::bootstrap::render::{RenderError, yaml};
use crate::bootstrap::spec::{Alerts, Cluster, Role};

use super::{MAIL_PASSWORD, SLACK_URL, TURN};

#[derive(Serialize)]
struct Configuration<'a> {
    route: Route,
    inhibit_rules: Vec<Inhibition>,
    receivers: [Receiver<'a>; 1],
}

#[derive(Serialize)]
struct Route {
    receiver: &'static str,
    group_by: [&'static str; 4],
    group_wait: String,
    group_interval: String,
    repeat_interval: &'static str,
}

#[derive(Serialize)]
struct Inhibition {
    source_matchers: [&'static str; 1],
    target_matchers: [&'static str; 1],
    equal: &'static [&'static str],
}

#[derive(Default, Serialize)]
struct Receiver<'a> {
    name: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    webhook_configs: Vec<Webhook<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slack_configs: Vec<Slack<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    email_configs: Vec<Email<'a>>,
}

#[derive(Serialize)]
struct Webhook<'a> {
    url: &'a str,
    send_resolved: bool,
}

#[derive(Serialize)]
struct Slack<'a> {
    api_url_file: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    send_resolved: bool,
    title: &'static str,
    text: &'static str,
}

#[derive(Serialize)]
struct Email<'a> {
    to: &'a str,
    from: &'a str,
    smarthost: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_password_file: Option<&'static str>,
    send_resolved: bool,
}

/// What speaks for what: first the host, then the etcd without which nothing works, then a component for
/// what others say of it.
fn inhibitions() -> Vec<Inhibition> {
    let rule = |source, target, equal| Inhibition {
        source_matchers: [source],
        target_matchers: [target],
        equal,
    };
    vec![
        rule(r#"alertname="HostDown""#, r#"alertname!="HostDown""#, &["cluster", "instance"]),
        rule(
            r#"alertname=~"HostDown|KubeApiserverDown""#,
            r#"alertname=~"ApiproxyBackend(Down|Flapping)""#,
            &["cluster", "backend"],
        ),
        rule(
            r#"alertname="EtcdQuorumLost""#,
            r#"alertname=~"Etcd.*|Kube.*|Apiproxy.*""#,
            &["cluster"],
        ),
        rule(
            r#"alertname="KubeApiserversAllDown""#,
            r#"alertname=~"Kube(Apiserver|Component|ControllerManager|Scheduler).*|Apiproxy.*""#,
            &["cluster"],
        ),
        rule(
            r#"severity="critical""#,
            r#"severity="warning""#,
            &["cluster", "alertname", "instance"],
        ),
    ]
}

/// How often Alertmanagers look at what is to be told, in seconds: not before the last of them had its turn, which
/// would tell what it saw then although the others have told since that it is over.
fn pace(cluster: &Cluster) -> u64 {
    let turns = cluster.with_role(Role::Monitoring).map(|_| 2 * TURN).sum();
    (4 * cluster.monitoring.interval.as_secs()).max(turns)
}

/// The configuration. A notification is about one alert of one host, or of the cluster as a whole.
///
/// # Errors
/// If it cannot be written as YAML.
pub fn alertmanager(cluster: &Cluster) -> Result<String, RenderError> {
    let Alerts { webhook, slack, email, .. } = &cluster.monitoring.alerts;
    let interval = cluster.monitoring.interval.as_secs();
    let receiver = Receiver {
        name: "everyone",
        webhook_configs: webhook.iter().map(|url| Webhook { url, send_resolved: true }).collect(),
        slack_configs: slack
            .iter()
            .map(|slack| Slack {
                api_url_file: SLACK_URL,
                channel: slack.channel.as_deref(),
                send_resolved: true,
                title: "[{{ .Status }}] {{ .CommonLabels.cluster }}: {{ .CommonLabels.alertname }}",
                text: "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ .Annotations.description }}\n{{ end }}",
            })
            .collect(),
        email_configs: email
            .iter()
            .map(|email| Email {
                to: &email.to,
                from: &email.from,
                smarthost: &email.smarthost,
                auth_username: email.username.as_deref(),
                auth_password_file: email.password_file.as_ref().map(|_| MAIL_PASSWORD),
                send_resolved: true,
            })
            .collect(),
    };
    let document = Configuration {
        route: Route {
            receiver: "everyone",
            group_by: ["cluster", "alertname", "instance", "backend"],
            // What speaks for others is seen one pace after them at most.
            group_wait: format!("{}s", interval + interval.div_ceil(3)),
            group_interval: format!("{}s", pace(cluster)),
            repeat_interval: "4h",
        },
        inhibit_rules: inhibitions(),
        receivers: [receiver],
    };
    yaml::document("alertmanager.yml", &document)
}
