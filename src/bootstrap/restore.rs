//! A cluster of etcd is brought back from a snapshot: what is done on the host of each member, and what
//! hosts remember of it until it is finished.

mod bump;
mod journal;
mod page;
mod rebuild;

pub use bump::{BUMP, BumpError, bump};
pub use journal::{CURRENT, FOLDER, Leaving, Restore, Source};
pub use rebuild::{MARK, Order, RebuildError, Rebuilt, rebuild};
