//! Asks hosts what they are: one command for each, many at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;

use super::clock::{Skew, skew};
use super::facts::Facts;
use super::finding::{Finding, Findings};
use super::parse;
use crate::bootstrap::artifacts::packages;
use crate::bootstrap::engine::Hosts;
use crate::bootstrap::needs;
use crate::bootstrap::render::host as kernel;
use crate::bootstrap::spec::{Artifacts, Cluster, Host};
use crate::bootstrap::transport::{Command, Transport, TransportError};

/// The script that a host runs: a line for each fact.
const SCRIPT: &str =
    concat!("# look at the host\n", include_str!("common.sh"), include_str!("facts.sh"));

/// Names that do not resolve, a slow disk and a slow package index, one after another.
const PATIENCE: Duration = Duration::from_secs(90);

/// What one host told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// The facts.
    pub facts: Facts,
    /// How far its clock is from ours.
    pub skew: Option<Skew>,
}

/// The command that asks a host of this cluster.
pub fn command(cluster: &Cluster, host: &Host) -> Command {
    let sync = if needs::carries_etcd(cluster, host) { "sync" } else { "" };
    let names: Vec<_> = names(cluster, host).into_iter().collect();
    let targets: BTreeSet<_> = needs::peers(cluster, host)
        .into_iter()
        .map(|(_, address, port)| format!("{address}/{port}"))
        .collect();
    let targets: Vec<_> = targets.into_iter().collect();
    let parameters: Vec<_> = kernel::sysctl(cluster).into_iter().map(|(name, _)| name).collect();
    let lists = [names.join(" "), targets.join(" "), kernel::modules(cluster).join(" ")];
    let [names, targets, modules] = lists.each_ref().map(String::as_str);
    let arguments = [sync, names, targets, modules, &parameters.join(" ")];
    Command::script(SCRIPT, arguments).timeout(PATIENCE)
}

/// The names that this host must resolve to get what it needs.
fn names(cluster: &Cluster, host: &Host) -> BTreeSet<String> {
    let Artifacts::Packages { kubernetes_mirror, registry, .. } = &cluster.artifacts else {
        return BTreeSet::new();
    };
    if !needs::is_node(host) {
        return BTreeSet::new();
    }
    let registry = registry.as_deref().unwrap_or("registry.k8s.io");
    let mirror = kubernetes_mirror.as_deref().unwrap_or(packages::KUBERNETES);
    [mirror, registry].into_iter().filter_map(host_of).collect()
}

/// The name in a URL or in an image's name; none if it is an address.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next()?.rsplit('@').next()?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name = name.to_owned();
    (name.chars().all(plain) && name.parse::<std::net::IpAddr>().is_err() && !name.is_empty())
        .then_some(name)
}

/// Asks all hosts, so many at once. A host that is not reached is a finding.
pub async fn gather(
    cluster: &Cluster,
    hosts: &Hosts,
    at_once: usize,
) -> (BTreeMap<String, Gathered>, Vec<Finding>) {
    let asked = cluster.hosts.iter().filter_map(|host| Some((host, hosts.get(&host.name)?)));
    let asked = asked.map(|(host, transport)| async move {
        (host.name.clone(), ask(transport, &command(cluster, host)).await)
    });
    // Each future is made when its turn comes.
    let mut answers = futures_util::stream::iter(asked).buffer_unordered(at_once.max(1));
    let (mut gathered, mut failed) = (BTreeMap::new(), BTreeMap::new());
    while let Some((host, answer)) = answers.next().await {
        match answer {
            Ok(answer) => drop(gathered.insert(host, answer)),
            Err(error) => drop(failed.insert(host, error)),
        }
    }
    let in_order = cluster.hosts.iter().filter_map(|host| failed.get(&host.name));
    (gathered, in_order.map(unreachable).collect())
}

async fn ask(
    transport: &Arc<dyn Transport>,
    command: &Command,
) -> Result<Gathered, TransportError> {
    // The way is made first, so that the time this takes is none of the clock's.
    transport.run(&Command::new(["true"])).await?;
    let asked = nanoseconds(SystemTime::now());
    let output = transport.run(command).await?;
    let heard = nanoseconds(SystemTime::now());
    let facts = parse::parse(&String::from_utf8_lossy(&output.stdout));
    let skew = facts.clock.map(|theirs| skew(asked, heard, theirs));
    Ok(Gathered { facts, skew })
}

fn nanoseconds(time: SystemTime) -> i128 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}

/// Why a host told nothing.
pub fn unreachable(error: &TransportError) -> Finding {
    let (host, what, remedy) = match error {
        TransportError::Unreachable { host, reason, remedy } => {
            (host, reason.clone(), remedy.clone())
        }
        TransportError::Timeout { host, limit, .. } => (
            host,
            format!("no answer within {} s", limit.as_secs()),
            "see whether the host hangs: a file system that does not answer, or no memory".into(),
        ),
        TransportError::Lost { host, reason } => (
            host,
            format!("the connection was lost: {reason}"),
            "try again; see whether the host went down".into(),
        ),
        TransportError::File { host, path, reason } => {
            (host, format!("{path}: {reason}"), "see to that file".into())
        }
    };
    let mut findings = Findings::of(host);
    findings.error("unreachable", what, remedy);
    let mut found = findings.into_vec();
    found.remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_a_name() {
        for (url, name) in [
            ("https://pkgs.k8s.io/core:/stable:", Some("pkgs.k8s.io")),
            ("registry.local:5000/k8s", Some("registry.local")),
            ("http://user@mirror/apt", Some("mirror")),
            ("10.0.0.1:5000", None),
            ("[fd00::1]:5000/x", None),
            ("", None),
        ] {
            assert_eq!(host_of(url).as_deref(), name, "{url}");
        }
    }
}
