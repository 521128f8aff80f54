//! What the kernel knows about data of a connection that has not arrived (`TCP_INFO`, `SIOCOUTQ`).

use std::time::Duration;

use tokio::net::TcpStream;

use crate::raw;

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
    let info = raw::tcp_info(stream)?;
    Some(Unacknowledged {
        segments: info.tcpi_unacked,
        retransmits: info.tcpi_retransmits,
        last_ack: Duration::from_millis(u64::from(info.tcpi_last_ack_recv)),
    })
}

/// Does the kernel hold bytes, or a FIN, that the peer has not acknowledged, sent or not (`SIOCOUTQ`,
/// tcp(7))? True while the peer keeps its window closed.
pub fn is_delivering(stream: &TcpStream) -> bool {
    raw::unsent(stream).is_some_and(|bytes| bytes > 0)
}
