//! Backups of a cluster: what a bundle is, who takes it when, where it goes, and how it is proven.

pub mod bolt;
mod bucket;
mod bundle;
mod claim;
mod clock;
mod contents;
mod copies;
mod crc32c;
mod depot;
mod drill;
pub mod election;
mod etcdctl;
pub mod fleet;
mod journal;
mod manifest;
mod name;
mod opened;
mod prune;
mod receive;
mod rehearsal;
mod schedule;
mod seal;
mod settings;
mod take;
mod wire;

pub use bucket::{Bucket, BucketError, BucketSettings, CREDENTIALS};
pub use bundle::BundleError;
pub use clock::rfc3339;
pub use contents::{Contents, ContentsError, check_sum};
pub use copies::Copied;
pub use depot::{Arrival, Depot, DepotError, Stored};
pub use drill::{DrillError, Finding, Report, drill};
pub use journal::{Drilled, JOURNAL, Journal, Logbook, METRICS};
pub use manifest::{Label, Manifest, MemberNote, Part};
pub use name::{BackupName, NameError};
pub use opened::{OpenError, Opened, open};
pub use prune::Rules;
pub use receive::{Permit, receive};
pub use rehearsal::{DRILL_SETTINGS, DrillSettings};
pub use schedule::Schedule;
pub use seal::{Identities, SealError, sealed};
pub use settings::{EtcdAccess, SETTINGS, Settings, SettingsError, SshAccess, Target, Wanted};
pub use take::{Asked, Outcome, TakeError, Taken, expect, take};
pub use wire::{Order, Reply};

/// Where node-exporter of Debian reads metrics of others from.
pub const TEXTFILE: &str = "/var/lib/prometheus/node-exporter/apiproxy_etcd_backup.prom";

/// The unit that holds drills on a host.
pub const DRILL_UNIT: &str = "apiproxy-etcd-drill.service";

/// The unit that takes backups on a host.
pub const UNIT: &str = "apiproxy-etcd-backup.service";
