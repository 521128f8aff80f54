//! Addresses of this host, and connections that would come back to a listener of ours.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Does an interface of this host have this address? Nothing is sent.
pub fn is_of_this_host(ip: IpAddr) -> bool {
    // The kernel would bind a socket to one of these, and chooses none as a source itself.
    if ip.is_multicast() {
        return false;
    }
    let from: IpAddr = match ip {
        // Even where `net.ipv4.ip_nonlocal_bind` lets a socket bind to any address, as beside keepalived, it can
        // connect from one of this host alone. Left to choose, the kernel takes the first one of a subnet.
        IpAddr::V4(_) => ip,
        // The source that the kernel chooses is the very same address for one of this host, and for no other.
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((from, 0)).and_then(|socket| {
        // Any port will do.
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == ip)
}

/// Would a connection to `target` reach what listens on `listen`? Only what is certain counts. A
/// wildcard takes what is sent to any address that `is_own`, which is asked of no others.
pub fn meets(listen: SocketAddr, target: SocketAddr, is_own: fn(IpAddr) -> bool) -> bool {
    if listen.port() != target.port() {
        return false;
    }
    let (at, ip) = (listen.ip().to_canonical(), target.ip().to_canonical());
    if !at.is_unspecified() {
        return at == ip;
    }
    let same_family = at.is_ipv4() == ip.is_ipv4();
    // `[::]` may take IPv4 as well; `0.0.0.0` never takes IPv6.
    if ip.is_loopback() { same_family || at.is_ipv6() } else { same_family && is_own(ip) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_its_own_addresses() {
        assert!(is_of_this_host("127.0.0.1".parse().unwrap()));
        // Of the networks for documentation, multicast, and none at all.
        for other in ["192.0.2.1", "2001:db8::1", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert!(!is_of_this_host(other.parse().unwrap()), "{other}");
        }
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            assert!(is_of_this_host("::1".parse().unwrap()));
        }
    }

    #[test]
    fn a_wildcard_meets_the_addresses_of_this_host_alone() {
        let own = |ip: IpAddr| ip.to_string().ends_with('5');
        for (listen, target, expected) in [
            ("0.0.0.0:1", "10.0.0.5:1", true),
            ("0.0.0.0:1", "[::ffff:10.0.0.5]:1", true),
            ("[::]:1", "[2001:db8::5]:1", true),
            ("0.0.0.0:1", "10.0.0.5:2", false),
            ("0.0.0.0:1", "10.0.0.6:1", false),
            ("0.0.0.0:1", "[2001:db8::5]:1", false),
            ("[::]:1", "10.0.0.5:1", false),
            ("0.0.0.0:1", "127.0.0.9:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("10.0.0.4:1", "10.0.0.5:1", false),
            ("10.0.0.4:1", "10.0.0.4:1", true),
        ] {
            let meets = meets(listen.parse().unwrap(), target.parse().unwrap(), own);
            assert_eq!(meets, expected, "{listen} {target}");
        }
    }
}
