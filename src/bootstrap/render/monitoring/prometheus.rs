//! Prometheus' configuration: what is scraped, how, and of which class it is.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::render::{RenderError, yaml};
use crate::bootstrap::spec::{Cluster, Host, Role, ServicePort, Topology};

use super::{Program, at, nodes, proxies};

/// The port of stacked etcd's metrics, in plain text.
const STACKED_ETCD: u16 = 2381;
/// The port of an external etcd, whose clients need a certificate.
const EXTERNAL_ETCD: u16 = 2379;
/// The port of every node's proxy.
const PROXY: u16 = 10242;

#[derive(Serialize)]
struct Configuration<'a> {
    global: Global<'a>,
    rule_files: [&'static str; 1],
    alerting: Alerting,
    scrape_configs: Vec<Job>,
}

#[derive(Serialize)]
struct Global<'a> {
    scrape_interval: String,
    scrape_timeout: String,
    evaluation_interval: String,
    external_labels: External<'a>,
}

#[derive(Serialize)]
struct External<'a> {
    cluster: &'a str,
    /// Which of several that see the same.
    replica: &'a str,
}

#[derive(Serialize)]
struct Alerting {
    alert_relabel_configs: [Relabel; 1],
    alertmanagers: [Alertmanagers; 1],
}

#[derive(Serialize)]
struct Alertmanagers {
    static_configs: [Targets; 1],
}

#[derive(Default, Serialize)]
struct Job {
    #[serde(rename = "job_name")]
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_path: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    honor_labels: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_config: Option<Tls>,
    static_configs: Vec<Targets>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metric_relabel_configs: Vec<Relabel>,
}

#[derive(Serialize)]
struct Targets {
    targets: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'static str, String>,
}

#[derive(Clone, Serialize)]
struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<&'static str>,
    cert_file: &'static str,
    key_file: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    insecure_skip_verify: bool,
}

#[derive(Serialize)]
struct Relabel {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_labels: Vec<&'static str>,
    regex: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_label: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
}

impl Relabel {
    /// Metrics whose names are like this are of another class than their target.
    fn class(names: &'static str, class: &'static str) -> Self {
        Self {
            source_labels: vec!["__name__"],
            regex: names,
            target_label: Some("class"),
            replacement: Some(class),
            action: None,
        }
    }

    /// Metrics that cost much and that nothing of ours asks for.
    fn dropped(names: &'static str) -> Self {
        Self {
            source_labels: vec!["__name__"],
            regex: names,
            target_label: None,
            replacement: None,
            action: Some("drop"),
        }
    }
}

/// What the cluster's own programs are shown. The key never leaves the host, so that not even a program
/// whose certificate nobody can check (kubelet's, unless `serverTLSBootstrap` is set) learns a secret.
fn client(verified: bool) -> Tls {
    Tls {
        ca_file: verified.then_some("pki/ca.crt"),
        cert_file: "pki/client.crt",
        key_file: "pki/client.key",
        insecure_skip_verify: !verified,
    }
}

/// One target of each host: `instance` is the host's name everywhere, so that what one host has in
/// different jobs comes together.
fn each<'a>(hosts: impl Iterator<Item = &'a Host>, port: u16, class: &'static str) -> Vec<Targets> {
    let one = |host: &Host| Targets {
        targets: vec![at(host, port)],
        labels: BTreeMap::from([("class", class.to_owned()), ("instance", host.name.clone())]),
    };
    hosts.map(one).collect()
}

/// The configuration of a host's Prometheus; paths start from its folder.
///
/// # Errors
/// If it cannot be written as YAML.
pub fn prometheus(cluster: &Cluster, host: &Host) -> Result<String, RenderError> {
    let interval = cluster.monitoring.interval.as_secs();
    let watchers: Vec<_> = cluster.with_role(Role::Monitoring).collect();
    let alertmanagers =
        watchers.iter().map(|host| at(host, Program::Alertmanager.port())).collect();
    let document = Configuration {
        global: Global {
            scrape_interval: format!("{interval}s"),
            scrape_timeout: format!("{}s", interval.min(10)),
            evaluation_interval: format!("{interval}s"),
            external_labels: External { cluster: &cluster.name, replica: &host.name },
        },
        rule_files: ["rules/*.yaml"],
        alerting: Alerting {
            // Alerts of replicas are the same alert.
            alert_relabel_configs: [Relabel {
                source_labels: Vec::new(),
                regex: "replica",
                target_label: None,
                replacement: None,
                action: Some("labeldrop"),
            }],
            alertmanagers: [Alertmanagers {
                static_configs: [Targets { targets: alertmanagers, labels: BTreeMap::new() }],
            }],
        },
        scrape_configs: jobs(cluster),
    };
    yaml::document("prometheus.yml", &document)
}

fn jobs(cluster: &Cluster) -> Vec<Job> {
    let mut jobs = vec![Job {
        name: "node",
        static_configs: each(cluster.hosts.iter(), Program::NodeExporter.port(), "hosts"),
        // What backups leave for node-exporter.
        metric_relabel_configs: vec![Relabel::class("apiproxy_.*", "components")],
        ..Job::default()
    }];
    jobs.extend(control_plane(cluster));
    jobs.extend([
        Job {
            name: "kubelet",
            scheme: Some("https"),
            tls_config: Some(client(false)),
            static_configs: each(nodes(cluster), 10250, "components"),
            ..Job::default()
        },
        plain("kube-proxy", nodes(cluster), 10249),
        plain("apiproxy", proxies(cluster), PROXY),
    ]);
    for (program, name) in
        [(Program::Prometheus, "prometheus"), (Program::Alertmanager, "alertmanager")]
    {
        jobs.push(plain(name, cluster.with_role(Role::Monitoring), program.port()));
    }
    if cluster.monitoring.pushgateway {
        let first = cluster.with_role(Role::Monitoring).take(1);
        let job = plain("pushgateway", first, Program::Pushgateway.port());
        jobs.push(Job { honor_labels: true, ..job });
    }
    jobs.extend(cluster.monitoring.kube_state_metrics.as_ref().map(|port| objects(cluster, port)));
    // A job without targets says nothing.
    jobs.retain(|job| !job.static_configs.is_empty());
    jobs
}

fn plain<'a>(name: &'static str, hosts: impl Iterator<Item = &'a Host>, port: u16) -> Job {
    Job { name, static_configs: each(hosts, port, "components"), ..Job::default() }
}

fn control_plane(cluster: &Cluster) -> Vec<Job> {
    let planes = || cluster.with_role(Role::ControlPlane);
    let secure = |name, port, verified| Job {
        name,
        scheme: Some("https"),
        tls_config: Some(client(verified)),
        static_configs: each(planes(), port, "components"),
        ..Job::default()
    };
    let apiserver = Job {
        metric_relabel_configs: vec![
            // How many there are of each kind: what apiservers know of core objects.
            Relabel::class("apiserver_storage_objects|apiserver_resource_objects", "objects"),
            Relabel::dropped(
                "apiserver_(request_slo|request_sli|response_sizes|watch_events_sizes|flowcontrol_.*).*_bucket",
            ),
        ],
        ..secure("kube-apiserver", cluster.endpoint.port, true)
    };
    vec![
        apiserver,
        etcd(cluster),
        secure("kube-controller-manager", 10257, false),
        secure("kube-scheduler", 10259, false),
    ]
}

fn etcd(cluster: &Cluster) -> Job {
    match cluster.topology {
        Topology::Stacked => plain("etcd", cluster.etcd_hosts(), STACKED_ETCD),
        Topology::External => Job {
            scheme: Some("https"),
            tls_config: Some(Tls {
                ca_file: Some("pki/etcd-ca.crt"),
                cert_file: "pki/etcd-client.crt",
                key_file: "pki/etcd-client.key",
                insecure_skip_verify: false,
            }),
            ..plain("etcd", cluster.etcd_hosts(), EXTERNAL_ETCD)
        },
    }
}

/// kube-state-metrics, which lives in the network of pods: through each apiserver, so that none of them is
/// missed. Rules take the greatest of what all say.
fn objects(cluster: &Cluster, ServicePort { namespace, name, port }: &ServicePort) -> Job {
    Job {
        name: "kube-state-metrics",
        scheme: Some("https"),
        metrics_path: Some(format!(
            "/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy/metrics"
        )),
        honor_labels: true,
        tls_config: Some(client(true)),
        static_configs: each(
            cluster.with_role(Role::ControlPlane),
            cluster.endpoint.port,
            "objects",
        ),
        ..Job::default()
    }
}
