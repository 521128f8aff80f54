//! `certs`: when the certificates of control planes end, and how kubeadm renews them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::control_plane::look::Standing;
use super::shared::Shared;
use crate::bootstrap::engine::{Change, Check, Context, Disruption, Lane, Step, StepError, StepId};
use crate::bootstrap::kubernetes::{Report, days_left, script};
use crate::bootstrap::spec::{Host, Role};
use crate::bootstrap::transport::Command;

/// The name of the step.
pub const STEP: &str = "renew-certificates";

/// kubeadm waits for nothing; it signs a dozen certificates.
const RENEW: Duration = Duration::from_mins(2);

/// How long the restarted components may take: the apiserver says "not ready" for 20 s first.
const BACK: Duration = Duration::from_mins(3);

/// Public parts only: certificates, and the client certificates inside kubeconfigs.
const LOOK: &str = r#"
inside() { sed -n 's/^ *client-certificate-data: *//p' "$1" | tr -d '"'; }
for file in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt; do
    if [ -e "$file" ]; then part "pem $file" cat "$file"; fi
done
for file in /etc/kubernetes/*.conf; do
    if [ -e "$file" ]; then part "data $file" inside "$file"; fi
done
kubelet=/var/lib/kubelet/pki/kubelet-client-current.pem
part "pem $kubelet" sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' "$kubelet"
"#;

/// The components read their certificates when they start. kubelet starts each again that ends; the
/// kernel has the first 15 characters of their names.
const RESTART: &str = r#"
for process in /proc/[0-9]*; do
    read -r name <"$process/comm" 2>/dev/null || continue
    for wanted; do
        if [ "$name" = "$wanted" ]; then kill -TERM "${process#/proc/}" || true; fi
    done
done
"#;

/// A certificate of a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The host's name in the spec.
    pub host: String,
    /// The file that it is in.
    pub file: String,
    /// Whole days until it ends; negative when it has.
    pub days_left: i64,
    /// Does `kubeadm certs renew` renew it? Not CAs, and not kubelet's, which renews its own.
    pub renewable: bool,
}

/// The certificates of a host, by what it reported.
fn read(host: &str, report: &Report) -> Vec<Certificate> {
    let pem = report.under("pem ").map(|(file, part)| (file, part.text.clone().into_bytes()));
    let data = report.under("data ").filter_map(|(file, part)| {
        let decoded = STANDARD.decode(part.text.trim()).ok()?;
        Some((file, decoded))
    });
    let certificate = |(file, pem): (&str, Vec<u8>)| {
        let days_left = days_left(&pem).ok()?;
        let kubelets = file.contains("kubelet");
        let is_ca = file.ends_with("/ca.crt") || file.ends_with("-ca.crt");
        let (host, file, renewable) = (host.to_owned(), file.to_owned(), !kubelets && !is_ca);
        Some(Certificate { host, file, days_left, renewable })
    };
    let mut found: Vec<_> = pem.chain(data).filter_map(certificate).collect();
    found.sort();
    found
}

/// The certificates of a node.
///
/// # Errors
/// It cannot be reached.
pub async fn of(cx: &Context, host: &str) -> Result<Vec<Certificate>, StepError> {
    let output = cx.run(host, &script(LOOK, [""; 0])).await?;
    Ok(read(host, &Report::read(&output.stdout)))
}

/// Renews what kubeadm made, when it has fewer days left than this.
#[derive(Clone, Debug)]
pub struct Renew {
    shared: Arc<Shared>,
    host: Host,
    days: i64,
}

/// The steps that renew on each control plane what has fewer days left than this, one by one.
pub fn steps(shared: &Arc<Shared>, days: i64) -> Vec<Arc<dyn Step>> {
    let step = |host: &Host| -> Arc<dyn Step> {
        Arc::new(Renew { shared: shared.clone(), host: host.clone(), days })
    };
    shared.cluster.with_role(Role::ControlPlane).map(step).collect()
}

impl Renew {
    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let certificates = of(cx, &self.host.name).await?;
        let ending =
            certificates.iter().filter(|found| found.renewable && found.days_left < self.days);
        let words = ending.map(|found| format!("{} ({} days)", found.file, found.days_left));
        let words: Vec<_> = words.collect();
        if words.is_empty() {
            return Ok(Check::Done);
        }
        Ok(Check::Needed(Change::new(format!("these end soon: {}", words.join(", ")))))
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let (shared, name) = (&self.shared, self.host.name.as_str());
        cx.run(name, &Command::new(["kubeadm", "certs", "renew", "all"]).timeout(RENEW)).await?;
        let components = ["kube-controller", "kube-scheduler", "kube-apiserver", "etcd"];
        let output = cx.host(name)?.run(&Command::script(RESTART, components)).await?;
        if !output.ok() {
            return Err(StepError::Unverified(format!("{name}: {}", output.complaint())));
        }
        let begun = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(super::shared::PACE).await;
            shared.changed(name);
            let look = shared.look(cx, name).await?;
            if look.standing(&shared.cluster, &self.host) == Standing::Serving {
                return Ok(());
            }
            if begun.elapsed() > BACK {
                return Err(StepError::Unverified(format!(
                    "{name}: its kube-apiserver is not ready {BACK:?} after its certificates were renewed; \
                     see `crictl ps -a` there"
                )));
            }
        }
    }
}

impl Step for Renew {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, STEP)
    }

    fn title(&self) -> String {
        format!("renew the certificates of {}", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn lane(&self) -> Lane {
        Lane::Single
    }

    fn disruption(&self) -> Option<Disruption> {
        Some(Disruption::ApiServer)
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.make(cx).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn what_ends_and_who_renews_it_is_read() {
        let (old, new) = (certificate(2020), certificate(2090));
        let report = format!(
            "\u{1e}pem /etc/kubernetes/pki/ca.crt\n{old}\u{1f}0\n\u{1e}pem /etc/kubernetes/pki/etcd/peer.crt\n{old}\u{1f}0\n\
             \u{1e}data /etc/kubernetes/admin.conf\n{}\n\u{1f}0\n\u{1e}data /etc/kubernetes/kubelet.conf\n\u{1f}0\n\
             \u{1e}pem /var/lib/kubelet/pki/kubelet-client-current.pem\n{new}\u{1f}0\n",
            STANDARD.encode(&new)
        );
        let found = read("cp1", &Report::read(report.as_bytes()));
        let of = |found: &Certificate| (found.file.clone(), found.days_left < 0, found.renewable);
        let found: Vec<_> = found.iter().map(of).collect();
        let expected = [
            ("/etc/kubernetes/admin.conf", false, true),
            ("/etc/kubernetes/pki/ca.crt", true, false),
            ("/etc/kubernetes/pki/etcd/peer.crt", true, true),
            ("/var/lib/kubelet/pki/kubelet-client-current.pem", false, false),
        ];
        let expected = expected.map(|(file, ended, ours)| (file.to_owned(), ended, ours));
        assert_eq!(found, expected);
    }
}
