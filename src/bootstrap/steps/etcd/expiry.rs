//! When the certificates of etcd end, on every host that has one.

use std::time::SystemTime;

use futures_util::future::join_all;

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::pki::Certificate;
use crate::bootstrap::spec::{Cluster, Host, Role, Topology};

use super::certificates::Place;
use super::found::Found;

/// When one certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The host's name in the spec.
    pub host: String,
    /// Its file.
    pub path: String,
    /// What it says; none if it is missing or cannot be read.
    pub certificate: Option<Certificate>,
    /// Whole days until its end; negative afterwards.
    pub days_left: Option<i64>,
    /// Would the next `apply` renew it?
    pub due: bool,
}

/// When the certificates of external etcd end, by host; nothing if etcd is stacked, for they are
/// kubeadm's then.
pub async fn expiry(
    cx: &Context,
    cluster: &Cluster,
    now: SystemTime,
) -> Vec<(String, Result<Vec<Expiry>, StepError>)> {
    if cluster.topology != Topology::External {
        return Vec::new();
    }
    let members = cluster.etcd_hosts().map(|host| (host, Place::member(host)));
    let planes = cluster.with_role(Role::ControlPlane).map(|host| (host, Place::apiserver()));
    let all: Vec<_> = members.chain(planes).collect();
    let rows = all.iter().map(|(host, place)| of_host(cx, host, place, now));
    let names = all.iter().map(|(host, _)| host.name.clone());
    names.zip(join_all(rows).await).collect()
}

async fn of_host(
    cx: &Context,
    host: &Host,
    place: &Place,
    now: SystemTime,
) -> Result<Vec<Expiry>, StepError> {
    let found = Found::of(cx, &host.name, place).await?;
    let row = |path: &str, certificate: Option<Certificate>| Expiry {
        host: host.name.clone(),
        path: path.to_owned(),
        days_left: certificate.as_ref().map(|certificate| certificate.days_left(now)),
        // The authority is never renewed by itself: everything it vouches for would end with it.
        due: certificate.as_ref().is_none_or(|c| c.needs_renewal(now) && !c.authority),
        certificate,
    };
    let mut rows = vec![row(place.ca, found.authority.clone())];
    let leaves = place.items.iter().zip(found.certificates);
    rows.extend(leaves.map(|(item, certificate)| row(item.cert, certificate)));
    Ok(rows)
}
