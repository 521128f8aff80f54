//! All that can be wrong with a configuration and its surroundings when a process starts, found out
//! before anything depends on it: certificates, limits, listeners.

use std::net::{SocketAddr, TcpListener};
use std::time::SystemTime;

use super::listeners::{Bindings, within_file_limit};
use super::{Given, StartError};
use crate::config::{Cluster, Config};
use crate::health::Method;
use crate::proxy::Settings;

/// A configuration that was read, with the certificates that it names.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub(super) config: Config,
    /// How the backends of each cluster are probed.
    pub(super) methods: Vec<Method>,
    /// When.
    pub(super) at: SystemTime,
}

impl Loaded {
    /// Reads the certificates of a configuration that has just been read.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn new(config: Config) -> Result<Self, StartError> {
        let methods = config.clusters.iter().map(|cluster| Method::new(&cluster.health_check));
        let methods = methods.collect::<Result<_, _>>()?;
        Ok(Self { config, methods, at: SystemTime::now() })
    }
}

/// A configuration that the process can start with: its sockets are bound, and no thread has been
/// started.
#[derive(Debug)]
pub struct Prepared {
    pub(super) loaded: Loaded,
    /// Of each cluster.
    pub(super) settings: Vec<Settings>,
    /// Of all clusters, in order.
    pub(super) bindings: Bindings,
    pub(super) admin: TcpListener,
    pub(super) admin_address: SocketAddr,
}

impl Prepared {
    /// Binds what the configuration wants, by way of what is given.
    ///
    /// # Errors
    /// See [`StartError`]; what is given is as it was then.
    pub fn new(loaded: Loaded, given: &Given) -> Result<Self, StartError> {
        let config = &loaded.config;
        let settings = settings(&config.clusters, true)?;
        let listen: Vec<_> = config.clusters.iter().flat_map(|one| one.listen.clone()).collect();
        let bindings = given.bind(&listen, config.has_names())?;
        if bindings.open.is_empty() {
            return Err(StartError::NoListener);
        }
        let admin = given.bind_admin(loaded.config.admin.listen)?;
        let admin_address = admin.local_addr().map_err(StartError::Runtime)?;
        Ok(Self { loaded, settings, bindings, admin, admin_address })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }
}

/// What the data plane of each cluster goes by, within the limit of open files. That this lowers
/// `connections.max` is said when it `is_news`.
///
/// # Errors
/// See [`within_file_limit`].
pub(super) fn settings(clusters: &[Cluster], is_news: bool) -> Result<Vec<Settings>, StartError> {
    let wanted: Vec<_> = clusters.iter().map(|cluster| cluster.connections).collect();
    let within = within_file_limit(&wanted, is_news)?;
    let both = clusters.iter().zip(within);
    let settings = both.map(|(cluster, connections)| Settings {
        connect: cluster.connect,
        connections,
        rebalance: cluster.rebalance,
    });
    Ok(settings.collect())
}
