//! What monitoring puts on hosts: programs, units, Prometheus' and Alertmanager's files, and the rights
//! in the cluster.

mod alertmanager;
mod prometheus;
mod rights;
mod rules;
#[cfg(test)]
mod tests;
mod units;

use std::net::SocketAddr;

use crate::bootstrap::needs;
use crate::bootstrap::spec::{Cluster, Host, Role};
use crate::bootstrap::transport::File;

pub use alertmanager::alertmanager;
pub use prometheus::prometheus;
pub use rights::{ROLE, rights};
pub use rules::rules;
pub use units::{DEBIANS, OURS, Program};

use super::RenderError;
use super::proxy::is_scraped;

/// The folder of everything that monitoring reads.
pub const FOLDER: &str = "/etc/apiproxy/monitoring";
/// The packages that we installed, one a line; others were there before.
pub const INSTALLED: &str = "/etc/apiproxy/monitoring/installed";
/// Prometheus' configuration; what it names lies beside it.
pub const PROMETHEUS: &str = "prometheus.yml";
/// Alertmanager's.
pub const ALERTMANAGER: &str = "alertmanager.yml";
/// The cluster's CA, which apiservers are checked with.
pub const CA: &str = "/etc/apiproxy/monitoring/pki/ca.crt";
/// What Prometheus shows apiservers, kubelets and their like.
pub const CERT: &str = "/etc/apiproxy/monitoring/pki/client.crt";
/// Its key.
pub const KEY: &str = "/etc/apiproxy/monitoring/pki/client.key";
/// The CA of an external etcd.
pub const ETCD_CA: &str = "/etc/apiproxy/monitoring/pki/etcd-ca.crt";
/// What Prometheus shows an external etcd.
pub const ETCD_CERT: &str = "/etc/apiproxy/monitoring/pki/etcd-client.crt";
/// Its key.
pub const ETCD_KEY: &str = "/etc/apiproxy/monitoring/pki/etcd-client.key";
/// The URL of the channel that is told of alerts.
pub const SLACK_URL: &str = "/etc/apiproxy/monitoring/slack-url";
/// The password of the mail server.
pub const MAIL_PASSWORD: &str = "/etc/apiproxy/monitoring/mail-password";
/// What Prometheus and Alertmanager keep, each in a folder of its own.
pub const DATA: &str = "/var/lib/apiproxy-monitoring";
/// How long each Alertmanager waits for those before it to tell people, in seconds; what was told is known to
/// all of them within one.
const TURN: u64 = 5;
/// Whom all of them run as: the user of Debian's packages.
pub const USER: &str = "prometheus";

/// The programs that a host is to run, in the order in which they start; none if nobody watches.
pub fn programs(cluster: &Cluster, host: &Host) -> Vec<Program> {
    if !cluster.monitoring.enabled {
        return Vec::new();
    }
    let mut all = vec![Program::NodeExporter];
    if host.roles.contains(&Role::Monitoring) {
        all.extend([Program::Alertmanager, Program::Prometheus]);
        let first = cluster.with_role(Role::Monitoring).next();
        if cluster.monitoring.pushgateway && first.is_some_and(|first| first.name == host.name) {
            all.push(Program::Pushgateway);
        }
    }
    all
}

/// The units of a host.
pub fn unit_files(cluster: &Cluster, host: &Host) -> Vec<File> {
    let units = programs(cluster, host).into_iter();
    units.map(|program| program.file(cluster, host)).collect()
}

/// The configuration of Prometheus and Alertmanager on a host with the role, to be checked before it is
/// put in place: paths within the folder. `raw` is Alertmanager's, where the user has one.
///
/// # Errors
/// If it cannot be written as YAML.
pub fn configuration(
    cluster: &Cluster,
    host: &Host,
    raw: Option<&[u8]>,
) -> Result<Vec<File>, RenderError> {
    let mut files = vec![File::new(PROMETHEUS, prometheus(cluster, host)?)];
    files.extend(rules().map(|(name, text)| File::new(format!("rules/{name}"), text)));
    let alerts = match raw {
        Some(raw) => raw.to_vec(),
        None => alertmanager(cluster)?.into_bytes(),
    };
    // A webhook's URL may be a secret.
    let alerts = File::secret(ALERTMANAGER, alerts).mode(0o640).owned_by("root", USER);
    files.push(alerts);
    Ok(files)
}

/// Where a program of a host is asked.
fn at(host: &Host, port: u16) -> String {
    SocketAddr::new(host.address, port).to_string()
}

/// The hosts that are Nodes.
fn nodes(cluster: &Cluster) -> impl Iterator<Item = &Host> {
    let is_member = |host: &&Host| needs::is_node(host) && !host.roles.contains(&Role::Spare);
    cluster.hosts.iter().filter(is_member)
}

/// The hosts that have a proxy which can be asked.
fn proxies(cluster: &Cluster) -> impl Iterator<Item = &Host> {
    let workers = nodes(cluster).filter(|host| !host.roles.contains(&Role::ControlPlane));
    workers.filter(|host| is_scraped(cluster, host))
}
