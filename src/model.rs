//! What the proxy knows: backends, their states, and the immutable snapshot that all threads read.

mod address;
mod backend;
mod cluster;
mod hint;
mod in_force;
mod probe_times;
mod snapshot;
mod sources;
mod state;
mod store;

pub use address::{BackendAddress, Host, ParseAddressError};
pub use backend::{Active, Backend, BackendName, CloseReason, ConnectOutcome, Counters, Direction};
pub use cluster::ClusterName;
pub use hint::{Doubt, Hint, Hints};
pub use in_force::InForce;
pub use probe_times::{PROBES_KEPT, ProbeTimes};
pub use snapshot::{Entry, MAX_BACKENDS, Policy, Snapshot, Standing, Tier, Zone};
pub use sources::SourceState;
pub use state::{Condition, Failure, Reason, State};
pub use store::{Reader, Writer, store};
