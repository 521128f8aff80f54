//! What the kernel knows about data of a connection that has not arrived (`TCP_INFO`, `SIOCOUTQ`).
#![expect(unsafe_code, reason = "no safe wrapper of getsockopt(TCP_INFO) or SIOCOUTQ is to be had")]

use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;
use std::time::Duration;

use tokio::net::TcpStream;

/// The sending side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacknowledged {
    /// Segments sent and not acknowledged. Zero while the peer keeps its window closed: the probes
    /// of a closed window do not count (tcp(7), `tcpi_unacked`).
    pub segments: u32,
    /// Retransmissions of the oldest of them so far.
    pub retransmits: u8,
    /// Time since the last acknowledgement arrived, to the millisecond.
    pub last_ack: Duration,
}

/// Asks the kernel; `None` when it does not say.
pub fn unacknowledged(stream: &TcpStream) -> Option<Unacknowledged> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: `info` is writable for `length` bytes and outlives the call; the descriptor is open
    // for as long as `stream` is borrowed.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return None;
    }
    // SAFETY: all of `tcp_info` is integers, zeroed above, and the kernel wrote `length` bytes of it.
    let info = unsafe { info.assume_init() };
    Some(Unacknowledged {
        segments: info.tcpi_unacked,
        retransmits: info.tcpi_retransmits,
        last_ack: Duration::from_millis(u64::from(info.tcpi_last_ack_recv)),
    })
}

/// Does the kernel hold bytes, or a FIN, that the peer has not acknowledged, sent or not (`SIOCOUTQ`,
/// tcp(7))? True while the peer keeps its window closed.
pub fn is_delivering(stream: &TcpStream) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes an int, which `bytes` is and which outlives it; the descriptor is open
    // for as long as `stream` is borrowed.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    result == 0 && bytes > 0
}
