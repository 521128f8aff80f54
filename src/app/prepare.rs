//! All that can be wrong with a configuration and its surroundings when a process starts, found out
//! before anything depends on it: certificates, limits, listeners.

use std::net::{SocketAddr, TcpListener};
use std::time::SystemTime;

use super::listeners::{Bindings, within_file_limit};
use super::{Given, StartError};
use crate::config::Config;
use crate::health::Method;
use crate::proxy::Settings;

/// A configuration that was read, with the certificates that it names.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub(super) config: Config,
    pub(super) method: Method,
    /// When.
    pub(super) at: SystemTime,
}

impl Loaded {
    /// Reads the certificates of a configuration that has just been read.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn new(config: Config) -> Result<Self, StartError> {
        let method = Method::new(&config.health_check)?;
        Ok(Self { config, method, at: SystemTime::now() })
    }
}

/// A configuration that the process can start with: its sockets are bound, and no thread has been
/// started.
#[derive(Debug)]
pub struct Prepared {
    pub(super) loaded: Loaded,
    pub(super) settings: Settings,
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
        let Config { connections, connect, rebalance, .. } = loaded.config;
        let connections = within_file_limit(connections, true)?;
        let settings = Settings { connect, connections, rebalance };
        let bindings = given.bind(&loaded.config.listen)?;
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
