//! Throw-away apiservers that can fail on command, and the clients that notice: what `apiproxy demo`
//! and the integration tests put on either side of the proxy.

mod apiserver;
mod authority;
mod client;
mod content;
mod dialer;

pub use apiserver::{ApiServer, Counters, Telling};
pub use authority::{Authority, Issue, Issued, SERVER_NAMES};
pub use client::{Load, LoadOptions, LoadStats};
pub use content::{Blob, Sha256};
pub use dialer::{Connection, Dialer, Protocol};
