//! How a relayed connection ends.

use std::io;

use crate::model::CloseReason;
use crate::net;

/// One end of a relayed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Leg {
    Client,
    Server,
}

/// How a leg died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum End {
    /// It was reset, or any other error than a timeout.
    Reset,
    /// It stopped acknowledging.
    TimedOut,
}

impl End {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Reset,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Ended {
    /// Both sides said FIN, and both have been told.
    Finished,
    /// One leg died.
    Died(Leg, End),
    /// We ended it.
    Closed(CloseReason),
}

impl Ended {
    /// A leg failed. A shortage of this host, such as memory, is not the peer's doing and says nothing
    /// about it.
    pub(super) fn by(leg: Leg, error: &io::Error) -> Self {
        if net::is_local(error) {
            Self::Closed(CloseReason::Local)
        } else {
            Self::Died(leg, End::of(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_shortage_of_this_host_is_not_the_peers_reset() {
        let by = |errno: Errno| Ended::by(Leg::Server, &errno.into());
        for errno in [Errno::NOMEM, Errno::NOBUFS, Errno::MFILE] {
            assert_eq!(by(errno), Ended::Closed(CloseReason::Local));
        }
        assert_eq!(by(Errno::PIPE), Ended::Died(Leg::Server, End::Reset));
        assert_eq!(by(Errno::CONNRESET), Ended::Died(Leg::Server, End::Reset));
        assert_eq!(by(Errno::TIMEDOUT), Ended::Died(Leg::Server, End::TimedOut));
    }
}
