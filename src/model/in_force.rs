//! What is known of the configuration in force, for those who show it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

/// The configuration in force, and the last one that was refused.
#[derive(Clone, Debug)]
pub struct InForce {
    /// 1 at start; grows with every change that is put in force.
    pub generation: u64,
    /// When it was put in force; at start, when it was read.
    pub loaded_at: SystemTime,
    /// The file it was read from; `None` when flags gave all of it.
    pub file: Option<PathBuf>,
    /// Where clients are accepted: real ports, also where 0 was asked for.
    pub listen: Vec<SocketAddr>,
    /// What is wrong with what was read last, one line a fault; empty when it is in force.
    pub refusal: Vec<String>,
    /// What the file says and only a restart can bring about.
    pub needs_restart: Vec<String>,
}

impl InForce {
    /// That of a process that starts with what it read then.
    pub fn new(listen: Vec<SocketAddr>, loaded_at: SystemTime) -> Self {
        Self {
            generation: 1,
            loaded_at,
            file: None,
            listen,
            refusal: Vec::new(),
            needs_restart: Vec::new(),
        }
    }
}
