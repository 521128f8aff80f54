//! apiproxy: a node-local, health-checking TCP load balancer for kube-apiservers.

pub mod config;
pub mod model;
