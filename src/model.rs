//! What the proxy knows: backends, their states, and the immutable snapshot that all threads read.

mod address;
mod backend;
mod hint;
mod probe_times;
mod snapshot;
mod state;
mod store;

pub use address::{BackendAddress, Host, ParseAddressError};
pub use backend::{Active, Backend, BackendName, CloseReason, ConnectOutcome, Counters, Direction};
pub use hint::{Doubt, Hint, Hints};
pub use probe_times::{PROBES_KEPT, ProbeTimes};
pub use snapshot::{Entry, MAX_BACKENDS, Policy, Snapshot, Standing, Tier, Zone};
pub use state::{Condition, Failure, Reason, State};
pub use store::{Reader, Writer, store};
