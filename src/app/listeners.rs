//! Binds the listeners, and lowers the limit on connections to what the process may have.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;

use tracing::warn;

use super::error::{Attempt, StartError};
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

/// Listeners of clients.
#[derive(Debug)]
pub(super) struct Bindings {
    /// What they are.
    pub(super) open: Vec<Open>,
    /// The same, in the same order.
    pub(super) listeners: Vec<TcpListener>,
    /// Of the process that is taken over from: to be served beside them until that has stopped
    /// accepting, and closed then. They overlap with one of the above, and whoever they were told to
    /// would be reset.
    pub(super) outgoing: Vec<TcpListener>,
}

/// Binds all of these addresses, except the optional ones that this host cannot have. Of listeners that
/// are open already, duplicates are used.
pub(super) fn bind(
    listen: &[Listen],
    given: &[TcpListener],
    attempt: Attempt,
) -> Result<Bindings, StartError> {
    let is_at = |listener: &TcpListener, address: SocketAddr| {
        listener.local_addr().is_ok_and(|bound| bound == address)
    };
    let bound = bind_by(listen, attempt, |address| {
        match given.iter().find(|listener| is_at(listener, address)) {
            Some(listener) => {
                listener.set_nonblocking(true)?;
                listener.try_clone()
            }
            None => bind_beside(address, given),
        }
    })?;
    let (open, listeners) = bound.into_iter().unzip::<Open, _, Vec<_>, Vec<_>>();
    let is_outgoing = |listener: &&TcpListener| {
        listener.local_addr().is_ok_and(|address| {
            let is_wanted = open.iter().any(|open| open.address == address);
            !is_wanted && open.iter().any(|open| overlap(open.address, address))
        })
    };
    let outgoing = given.iter().filter(is_outgoing).map(|listener| {
        listener.set_nonblocking(true)?;
        listener.try_clone()
    });
    let outgoing = outgoing.collect::<io::Result<_>>().map_err(StartError::Runtime)?;
    Ok(Bindings { open, listeners, outgoing })
}

/// The same with a bind of another kind.
pub(super) fn bind_by(
    listen: &[Listen],
    attempt: Attempt,
    bind: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> Result<Vec<(Open, TcpListener)>, StartError> {
    let mut listeners = Vec::new();
    for wanted in listen {
        let Listen { address, optional } = *wanted;
        let failed = |source| StartError::Listen { address, source, attempt };
        match bind(address) {
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

/// Binds an address, also one that overlaps with those of these listeners.
pub(super) fn bind_beside(address: SocketAddr, others: &[TcpListener]) -> io::Result<TcpListener> {
    let meets = |other: &&TcpListener| {
        other.local_addr().is_ok_and(|other| other != address && overlap(address, other))
    };
    let met: Vec<_> = others.iter().filter(meets).collect();
    if met.is_empty() {
        return net::listen(address);
    }
    let share = |shared| met.iter().try_for_each(|other| net::share_port(other, shared));
    share(true)?;
    let bound = net::listen_beside(address);
    share(false)?;
    bound
}

/// Do these meet at a port, one of them at all addresses?
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    any && one.port() == other.port() && one.is_ipv4() == other.is_ipv4()
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
