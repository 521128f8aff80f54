//! The control socket: what an operator asks of the running proxy, and how it hands its listeners to
//! the process that takes over.

mod client;
mod clusters;
mod commands;
mod handover;
mod incumbent;
mod line;
mod passing;
mod protocol;
mod server;
mod socket;
mod sockets;
mod takeover;

pub use client::{AskError, Follower, ask, follow};
pub use clusters::{Cluster, Clusters};
pub use handover::show_counters;
pub use incumbent::Incumbent;
pub use protocol::{Answer, Code, Refusal, Reply, Request, VERSION};
pub use server::{Parts, Reload, serve};
pub use socket::{ClaimError, claim, make_folder};
pub use sockets::{Role, Sockets};
pub use takeover::{PROBE_WITHIN, Predecessor, Prospect, Taken, Takeover, TakeoverError};
