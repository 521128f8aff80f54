//! What is wished: the cluster of one file, validated.

mod cluster;
mod version;

pub use cluster::{
    Artifacts, Cluster, Cni, Endpoint, Etcd, EtcdBackup, Extension, ExtensionKind, Host,
    Monitoring, Network, Overrides, Placement, Role, Ssh, Taint, Topology,
};
pub use version::{Version, VersionError};
