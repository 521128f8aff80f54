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

/// What has been bound, in order, by cluster; `wanted` is what each wants.
pub(super) fn by_cluster<T>(mut bound: Vec<T>, wanted: &[usize]) -> Vec<Vec<T>> {
    // Only a default address may be missing, and only one cluster can have those.
    if let [_] = wanted {
        return vec![bound];
    }
    wanted.iter().map(|count| bound.drain(..(*count).min(bound.len())).collect()).collect()
}

/// Lowers `connections.max` of the clusters to what the limit of open files allows them together: two
/// descriptors a connection. Refusing the client beyond it is better than failing to reach a backend
/// for it. Said when it `is_news`.
///
/// # Errors
/// Fewer than a node needs would be left, unless so few are all that is wanted.
pub(super) fn within_file_limit(
    clusters: &[Connections],
    is_news: bool,
) -> Result<Vec<Connections>, StartError> {
    let Some(limit) = net::raise_file_limit() else { return Ok(clusters.to_vec()) };
    let within = lowered(clusters, limit)?;
    for (wanted, within) in clusters.iter().zip(&within) {
        if is_news && within.max < wanted.max {
            let (wanted, max) = (wanted.max, within.max);
            warn!(%wanted, %max, open_files = limit, "connections.max is lowered to what the limit of open files allows");
        }
    }
    Ok(within)
}

fn lowered(clusters: &[Connections], limit: u64) -> Result<Vec<Connections>, StartError> {
    let room = limit.saturating_sub(OTHER_FILES) / 2;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let wanted: usize = clusters.iter().map(|one| one.max.get()).sum();
    let least = |one: &Connections| one.max.get().min(FEWEST);
    let needed: usize = clusters.iter().map(least).sum();
    if room < needed {
        let needed = OTHER_FILES + 2 * needed as u64;
        return Err(StartError::FewFiles { limit, room, needed });
    }
    if wanted <= room {
        return Ok(clusters.to_vec());
    }
    // Each has the least that a node needs, and of the rest a share by what it wants.
    let (rest, above) = (room - needed, wanted - needed);
    let share = |one: &Connections| {
        let more = (one.max.get() - least(one)) as u128 * rest as u128 / above as u128;
        let max = least(one) + usize::try_from(more).unwrap_or(rest);
        Connections { max: NonZeroUsize::new(max).unwrap_or(one.max), ..*one }
    };
    Ok(clusters.iter().map(share).collect())
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
            lowered(&[connections], limit).map(|all| all[0].max.get()).map_err(|e| e.to_string())
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

    #[test]
    fn clusters_share_what_files_there_are() {
        let second = Duration::from_secs(1);
        let connections = |max| {
            let max = NonZeroUsize::new(max).unwrap();
            Connections { max, keepalive: second, user_timeout: second, drain_timeout: second }
        };
        let max = |wanted: &[usize], limit| {
            let all: Vec<_> = wanted.iter().map(|max| connections(*max)).collect();
            let lowered = lowered(&all, limit).map_err(|error| error.to_string())?;
            Ok::<Vec<_>, String>(lowered.iter().map(|one| one.max.get()).collect())
        };
        assert_eq!(max(&[1000, 2000], 65_536), Ok(vec![1000, 2000]));
        let shared = max(&[16_384, 16_384], 1024).unwrap();
        assert_eq!(shared, [192, 192]);
        let uneven = max(&[16_384, 5], 1024).unwrap();
        assert_eq!(uneven, [379, 5], "one that wants little has it");
        assert!(max(&[16_384, 16_384], 500).unwrap_err().contains("at least 512"));
        assert_eq!(by_cluster(vec![1, 2, 3], &[2, 1]), [vec![1, 2], vec![3]]);
        assert_eq!(by_cluster(vec![1], &[2]), [vec![1]], "a default address that is missing");
    }
}
