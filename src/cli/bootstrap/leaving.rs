//! What the cluster has and the file has not: named beside a plan, or reached to be taken out.

use std::sync::Arc;

use super::access::Site;
use crate::bootstrap::engine::StepError;
use crate::bootstrap::steps::remove::{self, Extra};
use crate::bootstrap::steps::shared::Shared;
use crate::cli::CliError;

/// A line for each of them. That nobody can be asked is worth a line too, but no fault: the plan tells
/// why. When the user chose hosts, it is not about others: nobody is asked.
pub(super) async fn notes(site: &Site) -> Vec<String> {
    if site.chosen.is_some() {
        return Vec::new();
    }
    match remove::extras(&site.shared, &site.cx).await {
        Ok(extras) => extras.iter().map(Extra::note).collect(),
        Err(error) => {
            vec![format!("What the cluster has and the file has not cannot be seen now: {error}")]
        }
    }
}

/// Looks for them to take them out: they are reached as far as they can be, dead etcd members go before
/// others join. Comes with what the user has to know.
pub(super) async fn prune(site: &mut Site) -> Result<(Vec<Extra>, Vec<String>), CliError> {
    let failed = |error: StepError| CliError::Failed(error.to_string());
    let extras = remove::extras(&site.shared, &site.cx).await.map_err(failed)?;
    let notes = reach(site, &extras).await?;
    let (cluster, documents) = (site.cluster.clone(), site.shared.documents.clone());
    site.shared = Shared::removing_first(cluster, documents, remove::first(&extras));
    Ok((extras, notes))
}

/// Reaches the hosts that leave. Those that do not answer are left out: they are given up.
pub(super) async fn reach(site: &mut Site, extras: &[Extra]) -> Result<Vec<String>, CliError> {
    let cluster = Arc::clone(&site.cluster);
    for extra in extras {
        if let Some(host) = extra.host(&cluster) {
            site.reach_too(&host);
        }
    }
    let names: Vec<_> = extras.iter().map(|extra| extra.name.as_str()).collect();
    give_up_dead(site, &names).await
}

/// Leaves those of these hosts out that do not answer, with a line for each.
pub(super) async fn give_up_dead(site: &mut Site, names: &[&str]) -> Result<Vec<String>, CliError> {
    let there = names.iter().copied().filter(|name| site.cx.hosts.contains_key(*name));
    let away = remove::unreachable(&site.cx, there).await;
    let away = away.map_err(|error| CliError::Failed(error.to_string()))?;
    let mut notes = Vec::new();
    for (name, why) in away {
        site.cx.hosts.remove(&name);
        let why = why.strip_prefix(&format!("{name}: ")).unwrap_or(&why).to_owned();
        notes.push(format!(
            "{name} does not answer ({why}): it is taken out of the cluster and not cleaned. Should it \
             come back, run `kubeadm reset -f` on it before it is used again."
        ));
    }
    Ok(notes)
}
