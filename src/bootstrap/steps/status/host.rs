//! What is seen of one host: all of it in a few commands.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{CopyStatus, HostStatus, NodeStatus};
use crate::bootstrap::backup::fleet::{self, Depth, Fleet};
use crate::bootstrap::engine::{Check, Context, Step, StepError};
use crate::bootstrap::kubernetes::{Member, MemberState, Node, etcd_command, member_state};
use crate::bootstrap::spec::{Cluster, Host, Role, Version};
use crate::bootstrap::steps::certs::{self, Certificate};
use crate::bootstrap::steps::control_plane::look::Standing;
use crate::bootstrap::steps::hosts;
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::steps::workers::look as worker;
use crate::bootstrap::transport::Command;

/// What was seen of a host.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How its control plane stands, if it shall be one.
    pub(super) standing: Option<Standing>,
    /// The version in the manifest of its kube-apiserver.
    pub(super) api_server: Option<Version>,
    /// The members of the stacked etcd, if its own answers.
    pub(super) members: Option<Vec<Member>>,
    /// What its member of the stacked etcd says of itself.
    pub(super) member: Option<MemberState>,
    /// What was seen of a worker behind a proxy.
    pub(super) worker: Option<Arc<worker::Look>>,
    /// Its certificates.
    pub(super) certificates: Vec<Certificate>,
    /// Of a spare: what it lacks; empty if nothing.
    pub(super) lacks: Option<String>,
    /// Of a spare: what it has of backups.
    pub(super) copy: Option<CopyStatus>,
}

impl Seen {
    pub(super) async fn of(shared: &Shared, cx: &Context, host: &Host) -> Result<Self, StepError> {
        let mut seen = Self::default();
        let (cluster, name) = (&shared.cluster, host.name.as_str());
        if host.roles.contains(&Role::ControlPlane) {
            let look = shared.look(cx, name).await?;
            let standing = look.standing(cluster, host);
            let manifest = look.manifests.get("kube-apiserver");
            seen.api_server = manifest.and_then(|manifest| version_of(manifest));
            seen.members.clone_from(&look.members);
            if seen.members.is_some() {
                let command = etcd_command("/v3/maintenance/status", &serde_json::json!({}));
                let answer = cx.host(name)?.run(&command).await?;
                seen.member = member_state(&answer.text()).ok().filter(|_| answer.ok());
            }
            seen.standing = Some(standing);
        } else if host.roles.contains(&Role::Worker) {
            seen.worker = Some(shared.look_at_worker(cx, name).await?);
        } else if host.roles.contains(&Role::Spare) {
            let lacks = lacks(cluster, cx, host).await?;
            if lacks.is_empty() {
                seen.copy = copy(cluster, cx, host).await?;
            }
            seen.lacks = Some(lacks);
        } else if !host.roles.contains(&Role::Etcd) {
            // Nothing of the cluster is there to be looked at.
            cx.run(name, &Command::new(["true"])).await?;
        }
        if certs::has_some(host) {
            seen.certificates = certs::of(cx, name).await?;
        }
        Ok(seen)
    }
}

/// The version of an image in a static pod's manifest.
fn version_of(manifest: &str) -> Option<Version> {
    let mut lines = manifest.lines().map(|line| line.trim().trim_start_matches("- "));
    let image = lines.find_map(|line| line.strip_prefix("image:"))?;
    let (image, _digest) = image.split_once('@').unwrap_or((image, ""));
    image.rsplit_once(':')?.1.trim().parse().ok()
}

/// What a spare lacks to take a place at once: the first step that is not done.
///
/// # Errors
/// It cannot be looked at.
pub async fn lacks(cluster: &Arc<Cluster>, cx: &Context, host: &Host) -> Result<String, StepError> {
    let steps = hosts::steps(cluster, Path::new("/proc/self/exe"));
    let own = steps.into_iter().filter(|step| step.id().host == host.name);
    first_open(cx, own).await
}

/// What it has of backups, if it gets copies.
async fn copy(
    cluster: &Cluster,
    cx: &Context,
    host: &Host,
) -> Result<Option<CopyStatus>, StepError> {
    let Some(place) = fleet::places(cluster).into_iter().find(|place| place.host == host.name)
    else {
        return Ok(None);
    };
    let fleet = Fleet::survey(cx, &cluster.name, &[place], Depth::Labels).await;
    if let Some((_, why)) = fleet.silent.into_iter().next() {
        return Err(StepError::Unverified(why));
    }
    let sound =
        |(_, copies): &(_, Vec<fleet::Copy>)| copies.iter().any(|copy| copy.stored.fault.is_none());
    let newest = fleet.backups.into_iter().rev().find(sound).map(|(name, _)| name);
    let age_seconds = newest.as_ref().map(|name| name.age(SystemTime::now()));
    Ok(Some(CopyStatus { newest, age_seconds }))
}

async fn first_open(
    cx: &Context,
    steps: impl Iterator<Item = Arc<dyn Step>>,
) -> Result<String, StepError> {
    for step in steps {
        match step.check(cx).await? {
            Check::Done => {}
            Check::Needed(change) => return Ok(change.why),
            Check::After(before) => return Ok(format!("{} is not done", before.name)),
        }
    }
    Ok(String::new())
}

/// In words.
fn describe(standing: &Standing) -> String {
    match standing {
        Standing::Fresh => "not in the cluster".to_owned(),
        Standing::Serving => "ready".to_owned(),
        Standing::Ill(reason) => format!("its kube-apiserver is not ready: {reason}"),
        Standing::Unfinished(begun) => format!("kubeadm {} was stopped half way", begun.word()),
        Standing::Foreign(what) => format!("has {what}, not made by this tool"),
        Standing::Away(reason) => reason.clone(),
    }
}

impl HostStatus {
    pub(super) fn new(host: &Host, seen: &Result<Seen, StepError>, nodes: &[Node]) -> Self {
        let node = nodes.iter().find(|node| node.name == host.name);
        let status = Self {
            name: host.name.clone(),
            in_file: true,
            roles: host.roles.clone(),
            node: node.map(NodeStatus::from),
            ..Self::default()
        };
        match seen {
            Err(error) => Self { unreached: Some(error.to_string()), ..status },
            Ok(seen) => Self {
                control_plane: seen.standing.as_ref().map(describe),
                api_server: seen.api_server.map(|version| version.to_string()),
                lacks: seen.lacks.clone(),
                copy: seen.copy.clone(),
                ..status
            },
        }
    }

    /// A Node that the file does not name.
    pub(super) fn unknown(node: &Node) -> Self {
        Self { name: node.name.clone(), node: Some(node.into()), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_image() {
        let manifest = |image: &str| {
            format!(
                "spec:\n  containers:\n  - command:\n    - kube-apiserver\n    image: {image}\n"
            )
        };
        for image in [
            "registry.k8s.io/kube-apiserver:v1.34.2",
            "registry.local:5000/kube-apiserver:v1.34.2@sha256:0123",
        ] {
            assert_eq!(version_of(&manifest(image)), Some(Version::new(1, 34, 2)), "{image}");
        }
        assert_eq!(version_of(&manifest("registry.local:5000/kube-apiserver")), None);
        assert_eq!(version_of("spec: 1"), None);
    }
}
