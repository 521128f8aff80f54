//! Binds the listeners, and lowers the limit on connections to what the process may have.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;

use tracing::warn;

use super::{Given, StartError};
use crate::config::{Connections, Listen};
use crate::net;

/// Descriptors that are not connections: runtimes, listeners, probes, admin clients, files.
const OTHER_FILES: u64 = 256;

/// A listener: what was asked for, and what it has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) wanted: Listen,
    pub(super) address: SocketAddr,
}

/// Binds all of these addresses, except the optional ones that this host cannot have. Listeners that
/// are open already, by these addresses, are used.
pub(super) fn bind(
    listen: &[Listen],
    given: &mut Vec<TcpListener>,
) -> Result<Vec<(Open, TcpListener)>, StartError> {
    let mut listeners = Vec::new();
    for wanted in listen {
        let Listen { address, optional } = *wanted;
        let failed = |source| StartError::Listen { address, source };
        let listener = take(given, address).map_or_else(|| net::listen(address), Ok);
        match listener {
            Ok(listener) => {
                let address = listener.local_addr().map_err(failed)?;
                listeners.push((Open { wanted: *wanted, address }, listener));
            }
            Err(error) if optional && net::is_missing_family(&error) => {
                warn!(%address, %error, "this host lacks the address family; not listening there");
            }
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(listeners)
}

fn take(listeners: &mut Vec<TcpListener>, address: SocketAddr) -> Option<TcpListener> {
    let is_it = |listener: &TcpListener| listener.local_addr().is_ok_and(|bound| bound == address);
    let index = listeners.iter().position(is_it)?;
    Some(listeners.swap_remove(index))
}

pub(super) fn bind_admin(
    address: SocketAddr,
    given: &mut Given,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = given.bind_admin(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Lowers `connections.max` to what the limit of open files allows: two descriptors a connection.
/// Refusing the client beyond it is better than failing to reach a backend for it. Said when it
/// `is_news`.
pub(super) fn within_file_limit(connections: Connections, is_news: bool) -> Connections {
    let Some(limit) = net::raise_file_limit() else { return connections };
    let room = limit.saturating_sub(OTHER_FILES) / 2;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let max = connections.max.min(NonZeroUsize::new(room).unwrap_or(NonZeroUsize::MIN));
    if is_news && max < connections.max {
        let wanted = connections.max;
        warn!(%wanted, %max, open_files = limit, "connections.max is lowered to what the limit of open files allows");
    }
    Connections { max, ..connections }
}
