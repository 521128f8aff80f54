//! Binds the listeners, and lowers the limit on connections to what the process may have.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;

use tracing::warn;

use super::{Given, StartError};
use crate::config::{Connections, Listen};
use crate::net;

/// Descriptors that are not connections: runtimes, listeners, probes, admin clients, files.
const OTHER_FILES: u64 = 256;

/// A node with fewer connections is no use: kubelet, kube-proxy and some pods want some dozens.
const FEWEST: usize = 64;

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
    bind_by(listen, given, net::listen)
}

/// The same beside listeners that are open, with a bind of another kind.
pub(super) fn bind_by(
    listen: &[Listen],
    given: &mut Vec<TcpListener>,
    bind: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> Result<Vec<(Open, TcpListener)>, StartError> {
    let mut listeners = Vec::new();
    for wanted in listen {
        let Listen { address, optional } = *wanted;
        let failed = |source| StartError::Listen { address, source };
        let listener = take(given, address).map_or_else(|| bind(address), Ok);
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

/// Do these meet at a port, one of them at all addresses?
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    any && one.port() == other.port() && one.is_ipv4() == other.is_ipv4()
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
///
/// # Errors
/// Fewer than a node needs would be left, unless so few are all that is wanted.
pub(super) fn within_file_limit(
    connections: Connections,
    is_news: bool,
) -> Result<Connections, StartError> {
    let Some(limit) = net::raise_file_limit() else { return Ok(connections) };
    let within = lowered(connections, limit)?;
    if is_news && within.max < connections.max {
        let (wanted, max) = (connections.max, within.max);
        warn!(%wanted, %max, open_files = limit, "connections.max is lowered to what the limit of open files allows");
    }
    Ok(within)
}

fn lowered(connections: Connections, limit: u64) -> Result<Connections, StartError> {
    let room = limit.saturating_sub(OTHER_FILES) / 2;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let needed = connections.max.get().min(FEWEST);
    match NonZeroUsize::new(room) {
        Some(most) if room >= needed => {
            Ok(Connections { max: connections.max.min(most), ..connections })
        }
        _ => Err(StartError::FewFiles { limit, room, needed: OTHER_FILES + 2 * needed as u64 }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_limit_of_open_files_lowers_the_connections_to_some_extent() {
        let second = Duration::from_secs(1);
        let max = |max, limit| {
            let max = NonZeroUsize::new(max).unwrap();
            let (keepalive, user_timeout, drain_timeout) = (second, second, second);
            let connections = Connections { max, keepalive, user_timeout, drain_timeout };
            lowered(connections, limit).map(|lowered| lowered.max.get()).map_err(|e| e.to_string())
        };
        assert_eq!(max(16384, 65536), Ok(16384));
        assert_eq!(max(16384, 1024), Ok(384));
        assert_eq!(max(16384, 384), Ok(64));
        let refused = max(16384, 120).unwrap_err();
        assert!(refused.contains("(120)") && refused.contains("at least 384"), "{refused}");
        max(16384, 383).unwrap_err();
        // Whoever wants fewer gets them.
        assert_eq!((max(5, 266), max(5, 65536)), (Ok(5), Ok(5)));
        max(5, 265).unwrap_err();
    }
}
