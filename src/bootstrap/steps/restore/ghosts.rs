//! What the restored cluster remembers of hosts that are no part of it any more: their Nodes, and members
//! of a stacked etcd. A Node that the file does not name stays if its kubelet says that it lives.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::RestoreStep;
use super::hosts::done;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::Api;
use crate::bootstrap::steps::remove;

/// kubelet says every 10 s that it lives, and tries again within 7 s when it was not heard.
const BEATS: Duration = Duration::from_secs(25);

/// When each Node said last that it lives.
async fn beats(api: &Api<'_>) -> Result<BTreeMap<String, String>, StepError> {
    let words = ["get", "leases", "--namespace", "kube-node-lease", "--output", "json"];
    read(&api.kubectl(words).await?.text())
}

fn read(json: &str) -> Result<BTreeMap<String, String>, StepError> {
    // Who cannot be heard is not taken for dead.
    let list: Value = serde_json::from_str(json)
        .map_err(|error| StepError::Unverified(format!("the leases of Nodes: {error}")))?;
    let leases = list["items"].as_array().into_iter().flatten();
    let lease = |lease: &Value| {
        let name = lease["metadata"]["name"].as_str()?.to_owned();
        Some((name, lease["spec"]["renewTime"].as_str()?.to_owned()))
    };
    Ok(leases.filter_map(lease).collect())
}

pub(super) async fn remove(step: &RestoreStep, cx: &Context) -> Result<(), StepError> {
    let (all, leaving) = (&step.shared.shared, &step.shared.restore.leaving);
    let Some(via) = all.serving(cx).await? else {
        return done(step, cx, "ghosts").await;
    };
    let api = Api::new(cx, &via);
    let extras = remove::extras(all, cx).await?;
    let unsure =
        |extra: &&remove::Extra| extra.node.is_some() && !leaving.contains_key(&extra.name);
    let (before, after) = if extras.iter().any(|extra| unsure(&extra)) {
        let before = beats(&api).await?;
        sleep(BEATS).await;
        (before, beats(&api).await?)
    } else {
        (BTreeMap::new(), BTreeMap::new())
    };
    for extra in &extras {
        let name = &extra.name;
        if unsure(&extra) && after.get(name) != before.get(name) {
            continue;
        }
        if let Some(member) = &extra.member {
            let members = api.members().await?;
            api.remove_member(&members, member.id).await?;
        }
        if extra.node.is_some() {
            api.kubectl(["delete", "node", name, "--ignore-not-found"]).await?;
        }
        all.changed(name);
    }
    done(step, cx, "ghosts").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_said_when_that_it_lives_is_read() {
        let json = r#"{"items": [
            {"metadata": {"name": "w1"}, "spec": {"renewTime": "2026-12-01T06:00:00.000000Z"}},
            {"metadata": {"name": "w2"}, "spec": {}}]}"#;
        let found = read(json).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found["w1"], "2026-12-01T06:00:00.000000Z");
        read("").unwrap_err();
    }
}
