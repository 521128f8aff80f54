//! A stacked etcd begins anew on one control plane, and the others are made ready to join it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::RestoreStep;
use super::hosts::done;
use super::scripts::{FIRST, KEEP};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::{Api, etcd_command};
use crate::bootstrap::restore::{BUMP, CURRENT, FOLDER, Leaving};
use crate::bootstrap::spec::{Cluster, Host};
use crate::bootstrap::steps::control_plane::{ControlPlane, leave};
use crate::bootstrap::steps::etcd::paths::{DATA, peer_url};
use crate::bootstrap::steps::shared::PACE;
use crate::bootstrap::transport::Command;

/// How long etcd may take to start as a pod, with a database of 8 GiB.
const STARTS: Duration = Duration::from_mins(5);

/// 8 GiB onto another file system at 8 MiB/s.
const LARGE: Duration = Duration::from_mins(17);

/// The control plane that begins: the one whose data are taken, or the first that stays and has all that
/// makes one, or else the first.
///
/// # Errors
/// One cannot be asked.
pub async fn choose_first(
    cx: &Context,
    after: &Cluster,
    leaving: &BTreeMap<String, Leaving>,
    wanted: Option<&str>,
) -> Result<Option<String>, StepError> {
    const WHOLE: &str = r#"
for file in kubelet.conf pki/ca.crt pki/ca.key; do
    [ -s "/etc/kubernetes/$file" ] || exit 0
done
# Another restore may have moved it aside.
old=$(sed -n 's/^ *"id": *"\([^"]*\)".*/\1/p' "$1" 2>/dev/null | head -n 1)
[ -s /etc/kubernetes/manifests/etcd.yaml ] || [ -s "$2/$old/manifests/etcd.yaml" ] || exit 0
echo whole
"#;
    let stays = |host: &&Host| !leaving.values().any(|leaving| leaving.by == host.name);
    let staying: Vec<_> = after.etcd_hosts().filter(stays).collect();
    if let Some(host) = staying.iter().find(|host| wanted == Some(host.name.as_str())) {
        return Ok(Some(host.name.clone()));
    }
    for host in &staying {
        if cx.run(&host.name, &Command::script(WHOLE, [CURRENT, FOLDER])).await?.text().trim()
            == "whole"
        {
            return Ok(Some(host.name.clone()));
        }
    }
    let first = staying.first().copied().or_else(|| after.etcd_hosts().next());
    Ok(first.map(|host| host.name.clone()))
}

/// The version of the etcd on a control plane, if it answers.
///
/// # Errors
/// The host cannot be reached.
pub async fn version_of(cx: &Context, host: &str) -> Result<Option<String>, StepError> {
    let output = cx.host(host)?.run(&etcd_command(STATUS, &json!({}))).await?;
    let status: Value = serde_json::from_str(&output.text()).unwrap_or_default();
    Ok(status["version"].as_str().map(str::to_owned))
}

const STATUS: &str = "/v3/maintenance/status";

/// Where the host was a control plane, its manifest comes back; where it was none, kubeadm makes one
/// around the data.
pub(super) async fn come_up(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let (shared, host) = (&step.shared, &step.host);
    let member = format!("{}={}", host.name, peer_url(host.address));
    let words = [shared.restore.folder(), member];
    let output = cx.run(&host.name, &Command::script(FIRST, words)).await?;
    if output.text().trim() != "there" {
        ControlPlane::of(&shared.shared, host).begin_with_data(cx).await?;
    }
    let end = Instant::now() + STARTS;
    while Api::new(cx, &host.name).members().await.is_err() {
        if Instant::now() >= end {
            let name = &host.name;
            return Err(StepError::Unverified(format!(
                "{name}: etcd does not answer {STARTS:?} after its manifest was put back; see `crictl \
                 logs` and `journalctl -u kubelet` there"
            )));
        }
        sleep(PACE).await;
    }
    done(step, cx, "first").await
}

/// One member, this host's, with the revision that the snapshot was given.
pub(super) async fn compare(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let (shared, name) = (&step.shared, step.host.name.as_str());
    let members = Api::new(cx, name).members().await?;
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    if names != [name] {
        let all = names.join(", ");
        return Err(StepError::Unverified(format!("{name}: etcd has the members {all}")));
    }
    let status = cx.run(name, &etcd_command(STATUS, &json!({}))).await?.text();
    let status: Value = serde_json::from_str(&status).unwrap_or_default();
    let text = status["header"]["revision"].as_str().unwrap_or_default();
    let found: i64 = text.parse().unwrap_or_default();
    let least = shared.snapshot.ready(cx, &shared.restore).await?.contents.revision + BUMP;
    if found < least {
        let why = format!("{name}: etcd is at revision {found}, and {least} was restored");
        return Err(StepError::Unverified(why));
    }
    done(step, cx, "compared").await
}

/// Control planes that join anew, and those whose place others take, are Nodes of the restored cluster:
/// kubeadm would count them, and look for their members.
pub(super) async fn forget_others(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let name = step.host.name.as_str();
    let api = Api::new(cx, name);
    for node in api.nodes().await? {
        let leaves = step.shared.restore.leaving.contains_key(&node.name);
        if node.name == name || !(leaves || node.is_control_plane()) {
            continue;
        }
        let on_it = format!("spec.nodeName={}", node.name);
        let pods = ["delete", "pods", "--namespace", "kube-system", "--field-selector", &on_it];
        let rest = ["--selector", "tier=control-plane", "--ignore-not-found", "--wait=false"];
        api.kubectl(pods.into_iter().chain(rest)).await?;
        api.kubectl(["delete", "node", &node.name, "--ignore-not-found"]).await?;
    }
    done(step, cx, "forgotten").await
}

pub(super) async fn clear(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let name = step.host.name.as_str();
    let words = [step.shared.restore.folder(), DATA.to_owned()];
    cx.run(name, &Command::script(KEEP, words).timeout(LARGE)).await?;
    leave::reset_keeping_data(cx, name).await?;
    step.shared.shared.changed(name);
    done(step, cx, "cleared").await
}
