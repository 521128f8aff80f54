//! `certs renew`: certificates are renewed in place, on one host after the other.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Certificate, Renewer, of};
use crate::bootstrap::engine::{
    Alone, Change, Check, Context, Disruption, Lane, Step, StepError, StepId,
};
use crate::bootstrap::spec::{Host, Role, Topology};
use crate::bootstrap::steps::control_plane::look::Standing;
use crate::bootstrap::steps::etcd::{self, Keys, Renewal};
use crate::bootstrap::steps::shared::{PACE, Shared};
use crate::bootstrap::transport::{Command, File};

/// The name of the step.
pub const STEP: &str = "renew-certificates";

/// Renewal was begun there, and is not known to have ended: certificates may be newer than what the
/// components have read.
pub const MARKER: &str = "/var/lib/apiproxy/bootstrap/renewing";

/// kubeadm waits for nothing; it signs a dozen certificates.
const RENEW: Duration = Duration::from_mins(2);

/// How long the restarted components may take: the apiserver says "not ready" for 20 s first.
const BACK: Duration = Duration::from_mins(3);

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

/// Renews what kubeadm made, when some of it has fewer days left than this.
#[derive(Debug)]
pub struct Renew {
    shared: Arc<Shared>,
    host: Host,
    days: i64,
    /// As they were found before they were renewed; none until then.
    before: Mutex<Option<Vec<Certificate>>>,
    /// All of it was done: what is new is not renewed again, however many days were asked for.
    done: AtomicBool,
}

/// The steps that renew, on each control plane and each member of an external etcd, what has fewer
/// days left than this.
pub fn steps(shared: &Arc<Shared>, keys: &Arc<Keys>, days: i64) -> Vec<Arc<dyn Step>> {
    let renewal = Renewal::Ending { days, made_before: SystemTime::now() };
    let certificates = etcd::steps(&shared.cluster, keys, renewal).into_iter();
    let only = [etcd::CERTIFICATES, etcd::CLIENT];
    let certificates = certificates.filter(|step| only.contains(&step.id().name.as_str()));
    // What else these hosts need is the business of `apply`.
    let certificates = certificates.map(|step| -> Arc<dyn Step> { Arc::new(Alone(step)) });
    let of_plane = |host: &Host| -> Arc<dyn Step> {
        let (shared, host, before) = (shared.clone(), host.clone(), Mutex::default());
        Arc::new(Renew { shared, host, days, before, done: AtomicBool::new(false) })
    };
    certificates.chain(shared.cluster.with_role(Role::ControlPlane).map(of_plane)).collect()
}

impl Renew {
    /// What kubeadm renews there.
    async fn certificates(&self, cx: &Context) -> Result<Vec<Certificate>, StepError> {
        let mut found = of(cx, &self.host.name).await?;
        let external = self.shared.cluster.topology == Topology::External;
        let etcds = |file: &str| file == etcd::paths::API_CERT || file.contains("/etcd/");
        found.retain(|certificate| {
            certificate.renewed_by == Renewer::Renew && !(external && etcds(&certificate.file))
        });
        Ok(found)
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        if self.done.load(Ordering::Relaxed) {
            return Ok(Check::Done);
        }
        if cx.host(&self.host.name)?.read(MARKER).await?.is_some() {
            return Ok(Check::Needed(Change::new("a renewal was cut short")));
        }
        let found = self.certificates(cx).await?;
        let ending: Vec<_> = found.iter().filter(|found| found.days_left < self.days).collect();
        let Some(first) = ending.first() else {
            return Ok(Check::Done);
        };
        Ok(Check::Needed(Change::new(format!(
            "{} of {} certificates have fewer than {} days left, {} {}",
            ending.len(),
            found.len(),
            self.days,
            first.file,
            first.days_left
        ))))
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let (shared, name) = (&self.shared, self.host.name.as_str());
        let before = self.certificates(cx).await?;
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        cx.host(name)?.write(&File::new(MARKER, "")).await?;
        cx.run(name, &Command::new(["kubeadm", "certs", "renew", "all"]).timeout(RENEW)).await?;
        let components = ["kube-controller", "kube-scheduler", "kube-apiserver", "etcd"];
        let output = cx.host(name)?.run(&Command::script(RESTART, components)).await?;
        if !output.ok() {
            return Err(StepError::Unverified(format!("{name}: {}", output.complaint())));
        }
        let begun = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(PACE).await;
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

    /// Each ends later than before.
    async fn is_renewed(&self, cx: &Context) -> Result<(), StepError> {
        let now = self.certificates(cx).await?;
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        let before: BTreeSet<_> = before.into_iter().flatten().map(|c| (c.file, c.ends)).collect();
        // Text of RFC 3339 in one zone is in the order of time.
        let is_old =
            |c: &&Certificate| before.iter().any(|(file, ends)| *file == c.file && c.ends <= *ends);
        if let Some(old) = now.iter().find(is_old) {
            return Err(StepError::Unverified(format!(
                "{}: {} was not renewed; see `kubeadm certs check-expiration` there",
                self.host.name, old.file
            )));
        }
        cx.run(&self.host.name, &Command::new(["rm", "-f", "--", MARKER])).await?;
        self.done.store(true, Ordering::Relaxed);
        Ok(())
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
        // etcd beside it is started anew as well.
        Some(match self.shared.cluster.topology {
            Topology::Stacked => Disruption::EtcdMember,
            Topology::External => Disruption::ApiServer,
        })
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.make(cx).boxed()
    }

    fn verify<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.is_renewed(cx).boxed()
    }
}
