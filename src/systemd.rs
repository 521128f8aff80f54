//! What systemd passes to a service and wants to hear from it: sockets, readiness, signs of life.

mod notify;
mod sockets;

pub use notify::{Notifier, watchdog};
pub use sockets::{Activated, ActivationError, activated};
