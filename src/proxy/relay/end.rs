//! How a relayed connection ends.

use std::io;

use crate::model::CloseReason;

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
