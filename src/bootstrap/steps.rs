//! What is done on hosts, one module a part of the cluster.

pub mod etcd;
