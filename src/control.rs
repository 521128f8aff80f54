//! The control socket: what an operator asks of the running proxy, and how it hands its listeners to
//! the process that takes over.

mod client;
mod commands;
mod line;
mod protocol;
mod server;
mod socket;

pub use client::{AskError, ask};
pub use protocol::{Answer, Code, Refusal, Reply, Request, VERSION};
pub use server::{Parts, Reload, serve};
pub use socket::{ClaimError, claim};
