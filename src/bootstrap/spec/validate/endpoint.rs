//! What every node calls the apiservers.

use std::net::IpAddr;

use super::{Check, roster::Roster};
use crate::bootstrap::spec::{Endpoint, shape, syntax};
use crate::config::quoted;

/// Unless the file says otherwise: that of every apiserver.
const PORT: u16 = 6443;

/// Ports of nodes that are taken, and by whom.
const TAKEN: [(u16, &str); 10] = [
    (22, "sshd"),
    (2379, "etcd"),
    (2380, "etcd"),
    (2381, "etcd's metrics"),
    (10_242, "the proxy's metrics"),
    (10_249, "kube-proxy's metrics"),
    (10_250, "kubelet"),
    (10_256, "kube-proxy"),
    (10_257, "kube-controller-manager"),
    (10_259, "kube-scheduler"),
];

impl Check<'_> {
    pub(super) fn endpoint(
        &mut self,
        raw: shape::Endpoint,
        cluster: &str,
        roster: &Roster,
    ) -> Endpoint {
        // The name of a cluster that cannot be has its fault already.
        let is_sound = raw.name.is_some() || syntax::is_label(cluster);
        let name = raw.name.unwrap_or_else(|| format!("apiserver.{cluster}.local"));
        if is_sound {
            self.endpoint_name(&name, roster);
        }
        let at = "spec.endpoint.port";
        let port = self.number(at, raw.port, 1..=65_535).unwrap_or(PORT);
        if let Some((_, owner)) = TAKEN.iter().find(|(taken, _)| *taken == port) {
            let hint = format!("choose another one; {PORT} is usual");
            self.fault(at, format!("{port} is the port of {owner}"), hint);
        }
        Endpoint { name, port }
    }

    fn endpoint_name(&mut self, name: &str, roster: &Roster) {
        let at = "spec.endpoint.name";
        let shown = quoted(name);
        let (message, hint) = if name.parse::<IpAddr>().is_ok() {
            let message = format!("{shown} is an address");
            (message, "give a name; every node finds it in its /etc/hosts as 127.0.0.1")
        } else if !syntax::is_name(name, 253) {
            let message = format!("{shown} is no DNS name");
            (message, "use lower-case letters, digits, dots and inner hyphens")
        } else if ["localhost", "kubernetes"].contains(&name)
            || name.starts_with("kubernetes.default")
        {
            (format!("{shown} means something else already"), "choose a name of its own")
        } else if roster.has(name) {
            let message = format!("{shown} is also the name of a host");
            (message, "choose a name of its own: on every node it means 127.0.0.1")
        } else {
            return;
        };
        self.fault(at, message, hint);
    }
}
