//! A cluster of etcd is brought back from a snapshot: what is done on the host of each member, and what
//! hosts remember of it until it is finished.

mod bump;
mod journal;
mod page;
mod rebuild;
mod tool;

pub use bump::{BUMP, BumpError, bump};
pub use journal::{CURRENT, FOLDER, Leaving, Restore, Source};
pub use rebuild::{Etcd, MARK, Order, RebuildError, Rebuilt, Trial, rebuild, rehearse};
