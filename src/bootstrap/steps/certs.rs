//! `certs`: when the certificates of a cluster end, on every host that has some, and who renews them.

pub mod renew;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::documents::PROXY_KUBECONFIG;
use super::etcd::paths::PKI as ETCD_PKI;
use super::survey;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::{Expiry, Report, expiry, script};
use crate::bootstrap::spec::{Cluster, Host, Role};
use crate::bootstrap::transport::Command;

/// Whoever renews a certificate has done it by then: kubelet renews its own at the latest when a tenth
/// of its life is left, `apply` etcd's with a third left and the proxies' with a sixth.
const LAST: i64 = 10;

/// Of a certificate that people renew, they hear so many days before its end.
const SOON: i64 = 30;

/// Public parts only: certificates, and the client certificates inside kubeconfigs. The arguments are
/// files; `pem` ones may hold a key beside the certificate.
const LOOK: &str = r#"
inside() { sed -n 's/^ *client-certificate-data: *//p' "$1" | tr -d '"'; }
certificate() { sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' "$1"; }
for file in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt @ETCD@/*.crt \
    /var/lib/kubelet/pki/kubelet-client-current.pem /var/lib/kubelet/pki/kubelet-server-current.pem; do
    if [ -e "$file" ]; then part "pem $file" certificate "$file"; fi
done
for file in /etc/kubernetes/*.conf @PROXY@; do
    if [ -e "$file" ]; then part "data $file" inside "$file"; fi
done
"#;

/// Who renews a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Renewer {
    /// `certs renew`.
    Renew,
    /// `apply`, when it is due.
    Apply,
    /// kubelet itself.
    Kubelet,
    /// Nobody: it is an authority, and all that it vouches for ends with it.
    Nobody,
}

/// A certificate of a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Whole days until it ends; negative when it has.
    pub days_left: i64,
    /// The host's name in the spec.
    pub host: String,
    /// The file that it is in.
    pub file: String,
    /// When it ends, RFC 3339 in UTC.
    pub ends: String,
    /// Who renews it.
    pub renewed_by: Renewer,
    /// Does it end soon, though whoever renews it should have done so?
    pub ending: bool,
}

impl Certificate {
    fn new(host: &str, file: &str, Expiry { ends, days_left, life }: Expiry) -> Self {
        let (host, file) = (host.to_owned(), file.to_owned());
        let renewed_by = renewer(&file);
        let ending = days_left < SOON.min(life / LAST);
        Self { days_left, host, file, ends, renewed_by, ending }
    }

    /// Has it ended?
    pub fn has_ended(&self) -> bool {
        self.days_left < 0
    }
}

fn renewer(file: &str) -> Renewer {
    match file {
        PROXY_KUBECONFIG => Renewer::Apply,
        "/etc/kubernetes/kubelet.conf" => Renewer::Kubelet,
        _ if file.starts_with("/var/lib/kubelet/") => Renewer::Kubelet,
        _ if file.ends_with("/ca.crt") || file.ends_with("-ca.crt") => Renewer::Nobody,
        _ => Renewer::Renew,
    }
}

/// The certificates of a host, by what it reported.
fn read(host: &str, report: &Report) -> Vec<Certificate> {
    let pem = report.under("pem ").map(|(file, part)| (file, part.text.clone().into_bytes()));
    let data = report.under("data ").filter_map(|(file, part)| {
        let decoded = STANDARD.decode(part.text.trim()).ok()?;
        Some((file, decoded))
    });
    let certificate = |(file, pem): (&str, Vec<u8>)| {
        expiry(&pem).ok().map(|expiry| Certificate::new(host, file, expiry))
    };
    let mut found: Vec<_> = pem.chain(data).filter_map(certificate).collect();
    found.sort();
    found
}

fn command() -> Command {
    let look = LOOK.replace("@ETCD@", ETCD_PKI).replace("@PROXY@", PROXY_KUBECONFIG);
    script(&look, [""; 0])
}

/// The certificates of a host, those that end first before others.
///
/// # Errors
/// It cannot be reached.
pub async fn of(cx: &Context, host: &str) -> Result<Vec<Certificate>, StepError> {
    let output = cx.run(host, &command()).await?;
    Ok(read(host, &Report::read(&output.stdout)))
}

/// Does this host have certificates of the cluster?
pub fn has_some(host: &Host) -> bool {
    [Role::ControlPlane, Role::Worker, Role::Etcd].iter().any(|role| host.roles.contains(role))
}

/// The certificates of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Those that end first before others.
    pub certificates: Vec<Certificate>,
    /// The hosts that could not be asked, each with why.
    pub unreached: Vec<Unreached>,
}

/// A host that could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreached {
    /// Its name in the spec.
    pub host: String,
    /// Why.
    pub why: String,
}

/// The certificates of all chosen hosts of a cluster; of all if there is no choice.
pub async fn table(
    cluster: &Cluster,
    cx: &Context,
    chosen: Option<&BTreeSet<String>>,
    parallel: usize,
) -> Table {
    let is_chosen = |host: &&Host| chosen.is_none_or(|chosen| chosen.contains(&host.name));
    let hosts = cluster.hosts.iter().filter(|host| has_some(host)).filter(is_chosen);
    let mut table = Table::default();
    for (host, found) in survey::each(hosts, parallel, |host| of(cx, &host.name)).await {
        match found {
            Ok(found) => table.certificates.extend(found),
            Err(error) => {
                let why = error.to_string();
                table.unreached.push(Unreached { host: host.name.clone(), why });
            }
        }
    }
    table.certificates.sort();
    table
}

#[cfg(test)]
mod tests;
