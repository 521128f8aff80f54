//! Closes the process in after it has read its configuration: what is broken into can do little.
//!
//! All of it is put on before the first thread starts, so that every thread inherits it; nothing of
//! it can be taken off again. What a kernel does not have is left out, with a line in the log.
//!
//! A system call that is not allowed fails with `ENOSYS` instead of killing the process. Libraries
//! know that answer from old kernels and fall back; an attacker gains nothing by it; and a path that
//! no test has seen costs one function with an error in the log, not every connection of the node.

mod files;
mod plan;
mod syscalls;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing::{info, warn};

pub use plan::Plan;

/// What is in force, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it is to be logged once there is a log"]
pub struct Report {
    /// In force.
    pub done: Vec<String>,
    /// Missing, and why.
    pub missing: Vec<String>,
}

impl Report {
    fn note<E: std::fmt::Display>(&mut self, what: &str, result: Result<(), E>) {
        match result {
            Ok(()) => self.done.push(what.to_owned()),
            Err(error) => self.missing.push(format!("{what}: {error}")),
        }
    }

    /// Tells it to the log: one line, and one for each thing that is missing.
    pub fn log(&self) {
        info!(in_force = self.done.join(", "), "closed in");
        for missing in &self.missing {
            warn!(%missing, "not closed in as far as could be");
        }
    }
}

/// Closes in the calling thread, and with it every thread that it starts from now on. Core dumps are
/// switched off for the whole process.
pub fn apply(plan: &Plan) -> Report {
    let mut report = Report::default();
    report.note("no core dumps", no_core_dumps());
    report.note("no new privileges", rustix::thread::set_no_new_privs(true));
    files::restrict(plan, &mut report);
    report.note("system calls", syscalls::restrict());
    report
}

/// The part of [`apply`] that needs no plan, for a process that has none yet. [`apply`] says what has
/// come of it.
pub fn keep_memory_private() {
    let _told_later = no_core_dumps();
}

/// Keys of client certificates are in memory: no core file, and no other process of the same user
/// that looks into this one.
fn no_core_dumps() -> Result<(), Errno> {
    // The process's own metrics want it later. It comes from /proc/self/auxv on kernels before 6.4,
    // which who is not dumpable cannot read.
    let _kept = rustix::param::clock_ticks_per_second();
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A core_pattern that is a pipe does not mind the limit.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

#[cfg(test)]
mod tests;
