//! How a host becomes a control plane: `kubeadm init` or `kubeadm join`, and what is made sure of
//! before the next one may begin.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::decide::{Way, decide};
use super::look::{Begun, Look, MARKER, Standing};
use super::{ControlPlane, LOOPBACK, leave};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::{Api, Member};
use crate::bootstrap::spec::Topology;
use crate::bootstrap::steps::documents::ENCRYPTION;
use crate::bootstrap::steps::shared::{PACE, join};
use crate::bootstrap::transport::{Command, File};

/// How long a kubeadm of an earlier run may go on.
const BUSY: Duration = Duration::from_mins(12);

/// How long static pods and the Node may take to come up after kubeadm has ended.
const WHOLE: Duration = Duration::from_mins(3);

/// What an init that was stopped half way has left is not in its way: certificates and kubeconfigs are
/// kept, manifests are written again, and no data is lost.
fn again(port: u16) -> String {
    let folder = "DirAvailable--var-lib-etcd".to_owned();
    let manifests = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"]
        .map(|name| format!("FileAvailable--etc-kubernetes-manifests-{name}.yaml"));
    let ports = [port, 10250, 10257, 10259, 2379, 2380].map(|port| format!("Port-{port}"));
    let all: Vec<_> = [folder].into_iter().chain(manifests).chain(ports).collect();
    format!("--ignore-preflight-errors={}", all.join(","))
}

impl ControlPlane {
    /// Whatever has to be done. Everything is looked at anew first.
    pub(super) async fn enter(&self, cx: &Context) -> Result<(), StepError> {
        let name = &self.host.name;
        let look = self.at_rest(cx).await?;
        if look.standing(&self.shared.cluster, &self.host) == Standing::Serving {
            return self.finish(cx).await;
        }
        match decide(name, &self.shared.standings(cx).await) {
            Way::Stay => self.finish(cx).await,
            Way::Init { again } => self.init(cx, again).await,
            Way::Join { via, clean } => self.join(cx, &via, clean).await,
            Way::After(other) => Err(StepError::Refused {
                reason: format!("{other} has a cluster that is half made"),
                remedy: "see why it was not finished there".to_owned(),
            }),
            Way::Refuse { reason, remedy } => Err(StepError::Refused { reason, remedy }),
        }
    }

    /// Makes the first control plane around data of etcd that are there, and keys: nobody else serves.
    pub(in crate::bootstrap::steps) async fn begin_with_data(
        &self,
        cx: &Context,
    ) -> Result<(), StepError> {
        let look = self.at_rest(cx).await?;
        match look.standing(&self.shared.cluster, &self.host) {
            Standing::Serving => self.finish(cx).await,
            _ => self.init(cx, true).await,
        }
    }

    /// Waits for a kubeadm that goes on although the run that began it was killed, and then for what it
    /// has made to come up.
    async fn at_rest(&self, cx: &Context) -> Result<Arc<Look>, StepError> {
        let begun = Instant::now();
        let mut waited = false;
        loop {
            let look = self.shared.look(cx, &self.host.name).await?;
            if !look.busy {
                return if waited { self.whole(cx).await.or(Ok(look)) } else { Ok(look) };
            }
            if begun.elapsed() > BUSY {
                return Err(StepError::Refused {
                    reason: format!("kubeadm has been at work on {} for {BUSY:?}", self.host.name),
                    remedy: "see what it waits for, end it, and run `apply` again".to_owned(),
                });
            }
            waited = true;
            sleep(PACE).await;
            self.shared.changed(&self.host.name);
        }
    }

    async fn init(&self, cx: &Context, finishes: bool) -> Result<(), StepError> {
        self.begin(cx, Begun::Init, LOOPBACK).await?;
        self.lay_down(cx, None).await?;
        let key = join::certificate_key()?;
        let document = self.shared.documents.init(&self.shared.cluster, &self.host, &key)?;
        let mut words =
            vec!["init", "--upload-certs", "--skip-token-print", "--skip-certificate-key-print"];
        let ignored = again(self.shared.cluster.endpoint.port);
        if finishes {
            // kubeadm may not have come so far that there is one.
            let folder = ["install", "-d", "/etc/kubernetes"];
            cx.run(&self.host.name, &Command::new(folder)).await?;
            // One that was being written when the power went.
            let empty = ["find", "/etc/kubernetes", "-type", "f", "-empty", "-delete"];
            cx.run(&self.host.name, &Command::new(empty)).await?;
            words.push(&ignored);
        }
        let version = self.shared.cluster.kubernetes_version;
        join::kubeadm(cx, &self.host.name, &words, &document, version).await?;
        self.finish(cx).await
    }

    async fn join(&self, cx: &Context, via: &str, clean: bool) -> Result<(), StepError> {
        let name = &self.host.name;
        leave::forget(&self.shared, cx, via, &self.host).await?;
        if clean {
            leave::reset(cx, name).await?;
        }
        let ticket = self.shared.ticket(cx, via).await?;
        let key = self.shared.upload_certificates(cx, via).await?;
        let live = self.shared.host(via)?.address;
        self.begin(cx, Begun::Join, live).await?;
        self.lay_down(cx, Some(via)).await?;
        let server = std::net::SocketAddr::new(live, self.shared.cluster.endpoint.port);
        self.shared.join(cx, name, server.to_string(), &ticket, Some(key)).await?;
        self.finish(cx).await?;
        self.verify_members(cx, via).await
    }

    /// From now on, this host is known to be half made.
    async fn begin(&self, cx: &Context, what: Begun, endpoint: IpAddr) -> Result<(), StepError> {
        self.shared.point_endpoint(cx, &self.host, endpoint).await?;
        cx.host(&self.host.name)?.write(&File::new(MARKER, what.word())).await?;
        Ok(())
    }

    /// Puts down what kubeadm's documents name. The encryption key is the cluster's: a new one only for a
    /// new cluster, and never over one that is there, since data may be encrypted with it.
    async fn lay_down(&self, cx: &Context, via: Option<&str>) -> Result<(), StepError> {
        let (shared, transport) = (&self.shared, cx.host(&self.host.name)?);
        for file in shared.documents.beside(&shared.cluster, &self.host)? {
            transport.write(&file).await?;
        }
        if !shared.cluster.encryption_at_rest {
            return Ok(());
        }
        let Some(via) = via else {
            if transport.read(ENCRYPTION).await?.is_none() {
                transport.write(&shared.documents.encryption()?).await?;
            }
            return Ok(());
        };
        let found = cx.host(via)?.read(ENCRYPTION).await?.ok_or_else(|| StepError::Refused {
            reason: format!("the file wishes Secrets encrypted, and {via} has no {ENCRYPTION}"),
            remedy:
                "encryption is chosen when a cluster is made: take `encryptionAtRest` out, or put \
                     that file onto every control plane first"
                    .to_owned(),
        })?;
        Ok(transport.write(&File::secret(ENCRYPTION, found.content)).await?)
    }

    /// Waits until the control plane is whole, points it at itself, and takes the marker away.
    async fn finish(&self, cx: &Context) -> Result<(), StepError> {
        let name = &self.host.name;
        let look = self.whole(cx).await?;
        if look.endpoint != Some(LOOPBACK) {
            self.shared.point_endpoint(cx, &self.host, LOOPBACK).await?;
            // kubelet has resolved the name before, and kube-proxy has a copy of the file from its start.
            cx.run(name, &Command::new(["systemctl", "restart", "kubelet.service"])).await?;
            self.shared.changed(name);
            self.whole(cx).await?;
            let on_it = format!("spec.nodeName={name}");
            let pods = [
                "delete",
                "pods",
                "--namespace",
                "kube-system",
                "--selector",
                "k8s-app=kube-proxy",
            ];
            let rest = ["--field-selector", on_it.as_str(), "--ignore-not-found", "--wait=false"];
            Api::new(cx, name).kubectl(pods.into_iter().chain(rest)).await?;
        }
        cx.run(name, &Command::new(["rm", "-f", "--", MARKER])).await?;
        self.shared.changed(name);
        Ok(())
    }

    /// Waits until nothing is missing. A learner that has caught up gets its vote.
    async fn whole(&self, cx: &Context) -> Result<Arc<Look>, StepError> {
        let name = &self.host.name;
        let begun = Instant::now();
        loop {
            self.shared.changed(name);
            let look = self.shared.look(cx, name).await?;
            let Some(fault) = look.fault(&self.shared.cluster, &self.host) else {
                return Ok(look);
            };
            if let Some(id) = look.learner(&self.host) {
                // etcd says no until it has caught up: that is what is waited for.
                let _ = Api::new(cx, name).promote_member(id).await;
            }
            if begun.elapsed() > WHOLE {
                return Err(StepError::Unverified(format!(
                    "{name}: {fault}, {WHOLE:?} after kubeadm had ended; see `crictl ps -a` and \
                     `journalctl -u kubelet` there, and run `apply` again"
                )));
            }
            sleep(PACE).await;
        }
    }

    /// After a join: as many members as control planes, each with a vote.
    async fn verify_members(&self, cx: &Context, via: &str) -> Result<(), StepError> {
        if self.shared.cluster.topology == Topology::External {
            return Ok(());
        }
        let api = Api::new(cx, via);
        let nodes = api.nodes().await?;
        let expected = nodes.iter().filter(|node| node.is_control_plane()).count();
        let members = api.members().await?;
        match members_fault(&members, expected) {
            None => Ok(()),
            Some(fault) => Err(StepError::Unverified(format!(
                "{via}: {fault}; see `apiproxy bootstrap status`"
            ))),
        }
    }
}

/// What is wrong with the members, of which so many are expected.
fn members_fault(members: &[Member], expected: usize) -> Option<String> {
    let name = |member: &Member| match member.name.as_str() {
        "" => member.peer_urls.join(", "),
        name => name.to_owned(),
    };
    if let Some(member) = members.iter().find(|member| !member.started()) {
        return Some(format!("the etcd member {} never started", name(member)));
    }
    if let Some(member) = members.iter().find(|member| member.is_learner) {
        return Some(format!("the etcd member {} is a learner", name(member)));
    }
    let found = members.len();
    (found != expected)
        .then(|| format!("etcd has {found} members, and the cluster has {expected} control planes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_has_to_have_a_vote() {
        let member = |name: &str, is_learner| Member {
            name: name.to_owned(),
            peer_urls: vec![format!("https://{name}:2380")],
            is_learner,
            ..Member::default()
        };
        let two = [member("cp1", false), member("cp2", false)];
        assert_eq!(members_fault(&two, 2), None);
        assert_eq!(
            members_fault(&two, 3).as_deref(),
            Some("etcd has 2 members, and the cluster has 3 control planes")
        );
        let fault = members_fault(&[member("cp1", false), member("cp2", true)], 2);
        assert_eq!(fault.as_deref(), Some("the etcd member cp2 is a learner"));
        let fault = members_fault(&[member("cp1", false), member("", true)], 2);
        assert_eq!(fault.as_deref(), Some("the etcd member https://:2380 never started"));
    }
}
