//! A TCP port that stays ours while nothing listens on it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel takes for a server that does not accept; Go's default is the same
/// order (`net.core.somaxconn`, 4096 since Linux 5.4).
const BACKLOG: i32 = 4096;

/// A bound port. Its own socket never listens: it keeps others, and the kernel's choice of
/// ephemeral ports, away while the server is down, so that connecting is refused and a restart
/// finds the port free.
pub(super) struct Port {
    address: SocketAddr,
    _reserved: Socket,
}

impl Port {
    pub(super) fn reserve(address: SocketAddr) -> io::Result<Self> {
        let reserved = bind(address)?;
        let address = reserved.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { address, _reserved: reserved })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        let socket = bind(self.address)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
