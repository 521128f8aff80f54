//! Sockets as the proxy wants them: options, errors of our own, and how to end a connection.

mod own;
mod tcp_info;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

pub use own::{is_of_this_host, meets};
pub use tcp_info::{Unacknowledged, is_delivering, unacknowledged};

/// Connections that wait for accept: more than a node's kubelet and pods open at once. The kernel
/// caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The interval between keepalive probes once the idle time is over, and how many may stay
/// unanswered. With the default idle time of 15 s a silent peer is given up after 30 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// What the kernel receives ahead at most where bulk goes by. Left alone it lets a fast server fill up
/// to `net.ipv4.tcp_rmem` for a client that has stopped reading: 100 such clients took all of the
/// host's memory for TCP, and the streams that were read stood still for seconds.
const RECEIVED_AHEAD: usize = 4 * 1024 * 1024;

/// The idle time of clients that come before [`tune_accepted`]: the default of
/// `connections.keepalive`.
const FIRST_KEEPALIVE: Duration = Duration::from_secs(15);

/// Binds and listens. Who connects has no Nagle delay, and keepalive, from the first client on.
/// `SO_REUSEADDR` lets a restart bind while old connections are in `TIME_WAIT`;
/// an IPv6 wildcard serves IPv6 only, so that it can stand beside an IPv4 one.
///
/// # Errors
/// What the kernel says: the address is in use, not on this host, or needs privileges.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    listen_as(address, false)
}

/// The same beside a listener at the same port of another address, a wildcard or one under it, while
/// that one's port is shared ([`share_port`]). Who connects meets the one whose address is nearer.
///
/// # Errors
/// As [`listen`].
pub fn listen_beside(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    listen_as(address, true)
}

/// Lets [`listen_beside`] bind the port of this listener, or nobody any more. Only sockets of the same
/// user can (socket(7), `SO_REUSEPORT`).
///
/// # Errors
/// The kernel refuses.
pub fn share_port(listener: &impl AsFd, shared: bool) -> io::Result<()> {
    SockRef::from(listener).set_reuse_port(shared)
}

fn listen_as(address: SocketAddr, beside: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(beside)?;
    socket.bind(&address.into())?;
    tune_accepted(&socket, FIRST_KEEPALIVE)?;
    socket.listen(BACKLOG)?;
    if beside {
        // A second process is told that the port is taken, as ever, unless it is one of the same user
        // that asks to share it: that this was allowed once the kernel remembers with the port.
        share_port(&socket, false)?;
    }
    Ok(socket.into())
}

/// Begins to connect; [`established`] waits for the outcome.
///
/// # Errors
/// What the kernel says at once; see [`is_local`] for which of it is about this host.
pub fn begin_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => TcpStream::from_std(socket.into()),
    }
}

/// Waits until a connection is there; the caller bounds the time.
///
/// # Errors
/// Why there is none; see [`is_local`] for which of it is about this host.
pub async fn established(stream: &TcpStream) -> io::Result<()> {
    stream.writable().await?;
    stream.take_error()?.map_or(Ok(()), Err)
}

/// Connects; the caller bounds the time.
///
/// # Errors
/// What the kernel says; see [`is_local`] for which of it is about this host.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = begin_connect(address)?;
    established(&stream).await?;
    Ok(stream)
}

/// Connects to the first of these addresses that answers: the next one is tried at once on an error
/// and in parallel after `stagger` (RFC 8305).
///
/// # Errors
/// That of the last one to fail; `NotFound` when there is no address.
pub async fn connect_any(
    addresses: impl IntoIterator<Item = SocketAddr>,
    stagger: Duration,
) -> io::Result<TcpStream> {
    let mut left = addresses.into_iter().peekable();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    loop {
        if let Some(address) = left.next() {
            attempts.push(connect(address));
        }
        let more = left.peek().is_some();
        tokio::select! {
            biased;
            attempt = attempts.next() => match attempt {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = error,
                None => return Err(last),
            },
            () = tokio::time::sleep(stagger), if more => {}
        }
    }
}

/// Sets what both legs of a relayed connection have: no Nagle delay and keepalive. To be called on a
/// listener: Linux gives what it accepts the options that it has itself.
///
/// # Errors
/// The kernel refuses.
pub fn tune_accepted(listener: &impl AsFd, keepalive: Duration) -> io::Result<()> {
    SockRef::from(listener).set_tcp_nodelay(true)?;
    keep_alive(&SockRef::from(listener), keepalive)
}

/// The same for a socket of [`begin_connect`], which has no Nagle delay already.
///
/// # Errors
/// The socket is already dead.
pub fn tune_connected(stream: &TcpStream, keepalive: Duration) -> io::Result<()> {
    keep_alive(&SockRef::from(stream), keepalive)
}

fn keep_alive(socket: &SockRef<'_>, idle: Duration) -> io::Result<()> {
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(idle)
            .with_interval(KEEPALIVE_INTERVAL.min(idle))
            .with_retries(KEEPALIVE_PROBES),
    )
}

/// Bounds what the kernel receives ahead on a socket that carries bulk, to 4 MiB. Where
/// `net.core.rmem_max` does not allow as much, `net.ipv4.tcp_rmem` stays the bound: a smaller one would
/// hold bulk up (Linux 6.16 raised both, to 4 and 32 MiB).
pub fn bound_receive_buffer(stream: &TcpStream) {
    static IS_ALLOWED: LazyLock<bool> = LazyLock::new(|| {
        // Asked of another socket, because the attempt would end the tuning of this one.
        Socket::new(Domain::UNIX, Type::STREAM, None).is_ok_and(|socket| {
            let _ = socket.set_recv_buffer_size(RECEIVED_AHEAD / 2);
            socket.recv_buffer_size().is_ok_and(|size| size >= RECEIVED_AHEAD)
        })
    });
    if *IS_ALLOWED {
        // The kernel doubles it, for its own book-keeping (socket(7)). It only fails on a dead socket.
        let _ = SockRef::from(stream).set_recv_buffer_size(RECEIVED_AHEAD / 2);
    }
}

/// Makes the coming close of this socket an RST instead of a FIN.
pub fn reset_on_close(stream: &impl AsFd) {
    // The only failure is a socket that is dead already, and then there is nobody to tell.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Takes the error that the kernel holds for this socket (`SO_ERROR`), if any.
pub fn pending_error(stream: &TcpStream) -> Option<io::Error> {
    stream.take_error().ok().flatten()
}

/// Has the kernel received bytes, a FIN or an error on this socket that have not been read?
pub fn has_unread(stream: &TcpStream) -> bool {
    use rustix::net::{RecvFlags, recv};
    let peeked = recv(stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    !matches!(peeked, Err(Errno::AGAIN))
}

/// Is this an error of this host (descriptors, ports, memory, a local firewall), which says nothing
/// about the peer?
pub fn is_local(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| {
        matches!(
            errno,
            Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::ADDRNOTAVAIL
                | Errno::ADDRINUSE
                | Errno::PERM
                | Errno::ACCESS
                | Errno::AFNOSUPPORT
                | Errno::AGAIN
        )
    })
}

/// Does this host have no such address family (IPv6 switched off)?
pub fn is_missing_family(error: &io::Error) -> bool {
    Errno::from_io_error(error)
        .is_some_and(|errno| matches!(errno, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Is this accept error about one connection that is already gone, so that accept may go on at once?
/// Linux passes pending network errors of the new socket through accept (accept(2)).
pub fn is_transient_accept(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let kind = matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted | Kind::TimedOut
    );
    kind || Errno::from_io_error(error).is_some_and(|errno| {
        matches!(
            errno,
            Errno::NETDOWN
                | Errno::PROTO
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::PERM
        )
    })
}

/// Raises the soft limit of open files to the hard one and returns it; `None` for no limit.
pub fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return maximum;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

/// Turns a bound listener into one of this runtime's.
///
/// # Errors
/// No descriptor is left for the runtime's poller.
pub fn into_async(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_legs_have_their_options_without_one_more_call_for_each_client() {
        let idle = Duration::from_secs(17);
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        tune_accepted(&listener, idle).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = into_async(listener).unwrap();
        let connected = begin_connect(address).unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        established(&connected).await.unwrap();
        tune_connected(&connected, idle).unwrap();
        for stream in [&accepted, &connected] {
            let socket = SockRef::from(stream);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), idle);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
        }
    }

    #[tokio::test]
    async fn what_is_received_ahead_of_a_stalled_reader_is_bounded() {
        let listener = into_async(listen(([127, 0, 0, 1], 0).into()).unwrap()).unwrap();
        let connected = begin_connect(listener.local_addr().unwrap()).unwrap();
        established(&connected).await.unwrap();
        let size = || SockRef::from(&connected).recv_buffer_size().unwrap();
        let before = size();
        bound_receive_buffer(&connected);
        let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
        let is_allowed = limit.trim().parse::<usize>().unwrap() >= RECEIVED_AHEAD / 2;
        assert_eq!(size(), if is_allowed { RECEIVED_AHEAD } else { before });
    }

    #[tokio::test]
    async fn a_refused_connection_says_so() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(!is_local(&error));
    }
}
