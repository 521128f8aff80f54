//! Reaches the hosts of a cluster: over ssh, or as this machine, with every use written down.

use std::sync::Arc;

use super::{Context, Hosts, Logged, RunLog};
use crate::bootstrap::spec::{Cluster, Host};
use crate::bootstrap::transport::{Dialer, Local, Ssh, Transport};

/// The context of all hosts of a cluster. Nothing is connected before the first command.
pub fn reach(cluster: &Cluster, dialer: &Arc<Dialer>, log: &Arc<RunLog>) -> Context {
    let hosts = cluster.hosts.iter();
    let hosts = hosts.map(|host| (host.name.clone(), reach_host(host, dialer, log)));
    Context::new(hosts.collect::<Hosts>())
}

/// One host, for which the same goes.
pub fn reach_host(host: &Host, dialer: &Arc<Dialer>, log: &Arc<RunLog>) -> Arc<dyn Transport> {
    let transport: Arc<dyn Transport> = if host.ssh.local {
        Arc::new(Local::new(&host.name))
    } else {
        Arc::new(Ssh::new(host, dialer))
    };
    Arc::new(Logged::new(transport, log))
}
