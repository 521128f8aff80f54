//! What the document says above its `clusters` holds for each of them that does not say otherwise, key
//! by key.

use super::CheckType;
use super::shape::{Cluster, Connect, Connections, HealthCheck, Proxy, Rebalance, Tls};

impl Proxy {
    /// What is said of the only cluster, or of each of several that does not say otherwise.
    pub(super) fn take_cluster(&mut self) -> Cluster {
        Cluster {
            name: None,
            listen: self.listen.take(),
            zone: self.zone.take(),
            backends: self.backends.take(),
            balance: self.balance.take(),
            health_check: self.health_check.take(),
            connect: self.connect.take(),
            connections: self.connections.take(),
            rebalance: self.rebalance.take(),
            discovery: self.discovery.take(),
        }
    }
}

impl Cluster {
    /// With the values of `above` where it has none. Where it listens and who its servers are is its
    /// own.
    pub(super) fn below(self, above: &Self) -> Self {
        Self {
            zone: self.zone.or_else(|| above.zone.clone()),
            balance: self.balance.or(above.balance),
            health_check: both(self.health_check, above.health_check.as_ref(), HealthCheck::below),
            connect: both(self.connect, above.connect.as_ref(), Connect::below),
            connections: both(self.connections, above.connections.as_ref(), Connections::below),
            rebalance: both(self.rebalance, above.rebalance.as_ref(), Rebalance::below),
            ..self
        }
    }
}

fn both<T: Clone>(own: Option<T>, above: Option<&T>, below: fn(T, &T) -> T) -> Option<T> {
    match (own, above) {
        (Some(own), Some(above)) => Some(below(own, above)),
        (own, above) => own.or_else(|| above.cloned()),
    }
}

impl HealthCheck {
    fn below(self, above: &Self) -> Self {
        // A check that uses no TLS has no use for that of the others.
        let above_tls = above.tls.as_ref().filter(|_| self.kind != Some(CheckType::Tcp));
        Self {
            kind: self.kind.or(above.kind),
            path: self.path.or_else(|| above.path.clone()),
            interval: self.interval.or(above.interval),
            fast_interval: self.fast_interval.or(above.fast_interval),
            timeout: self.timeout.or(above.timeout),
            rise: self.rise.or(above.rise),
            fall: self.fall.or(above.fall),
            tls: both(self.tls, above_tls, Tls::below),
        }
    }
}

impl Tls {
    fn below(self, above: &Self) -> Self {
        Self {
            ca_file: self.ca_file.or_else(|| above.ca_file.clone()),
            server_name: self.server_name.or_else(|| above.server_name.clone()),
            cert_file: self.cert_file.or_else(|| above.cert_file.clone()),
            key_file: self.key_file.or_else(|| above.key_file.clone()),
            insecure_skip_verify: self.insecure_skip_verify.or(above.insecure_skip_verify),
        }
    }
}

impl Connect {
    fn below(self, above: &Self) -> Self {
        Self {
            timeout: self.timeout.or(above.timeout),
            hedge_after: self.hedge_after.or(above.hedge_after),
        }
    }
}

impl Connections {
    fn below(self, above: &Self) -> Self {
        Self {
            max: self.max.or(above.max),
            keepalive: self.keepalive.or(above.keepalive),
            user_timeout: self.user_timeout.or(above.user_timeout),
            drain_timeout: self.drain_timeout.or(above.drain_timeout),
        }
    }
}

impl Rebalance {
    fn below(self, above: &Self) -> Self {
        Self {
            enabled: self.enabled.or(above.enabled),
            after: self.after.or(above.after),
            window: self.window.or(above.window),
            quiet_for: self.quiet_for.or(above.quiet_for),
        }
    }
}
