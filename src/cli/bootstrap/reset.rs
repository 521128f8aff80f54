//! `apiproxy bootstrap reset`: takes the cluster apart, or some hosts out of it.

use std::collections::BTreeSet;

use super::access::{Access, Form, Site};
use super::job::{Consent, Ending, Job, Question, interrupts, unless_ended};
use super::leaving;
use crate::bootstrap::spec::Topology;
use crate::bootstrap::steps::etcd::data::Data;
use crate::bootstrap::steps::remove::reset;
use crate::cli::{CliError, output, runtime};

/// Flags of `bootstrap reset`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --host the whole cluster is given up: workers first, then control planes, then etcd. With
--host these hosts leave the cluster: each is drained, taken out of etcd and reset, and what would
break etcd's quorum is refused; one that does not answer is given up. The plan is shown first, and
the cluster's name has to be typed.

Only what Kubernetes, etcd and apiproxy made goes. Programs, packages, settings of the kernel,
containerd and backups stay, and so does the data of etcd, beside its folder, unless
--delete-etcd-data is given.

Exit 0 when nothing of the cluster is left on these hosts, 1 when something is.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    consent: Consent,
    /// Delete the data of etcd. Without a backup, all that the cluster knew is lost then.
    #[arg(long)]
    delete_etcd_data: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let mut site = args.access.open("reset")?;
    let data = if args.delete_etcd_data { Data::Deleted } else { Data::Aside };
    runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        let job = unless_ended(&mut interrupts, job(&mut site, data)).await?;
        let ending = job.carry_out(&site, &args.consent, &mut interrupts).await?;
        match &site.chosen {
            Some(hosts) if ending == Ending::Applied && site.form == Form::Text => {
                output::emit(&after(hosts))
            }
            _ => Ok(()),
        }
    })
}

async fn job(site: &mut Site, data: Data) -> Result<Job, CliError> {
    let mut notes = notes(site, data);
    let steps = match site.chosen.clone() {
        None => reset::all(&site.shared, data),
        Some(chosen) => {
            let names: Vec<_> = chosen.iter().map(String::as_str).collect();
            notes.extend(leaving::give_up_dead(site, &names).await?);
            let steps = reset::some(&site.shared, &site.cx, &chosen, data).await;
            steps.map_err(|error| CliError::Failed(error.to_string()))?
        }
    };
    let guarded = site.chosen.as_ref().map(|_| site.cluster.clone());
    let job = Job::new(site, "apiproxy bootstrap reset", &steps)?;
    Ok(Job { guarded, notes, question: Question::Name(site.cluster.name.clone()), ..job })
}

/// What stays, and what does not.
fn notes(site: &Site, data: Data) -> Vec<String> {
    let mut notes = vec![match data {
        Data::Aside => {
            "The data of etcd are kept on their hosts, as /var/lib/etcd-removed-TIME.".to_owned()
        }
        Data::Deleted => "The data of etcd are DELETED.".to_owned(),
    }];
    if site.chosen.is_none() && site.cluster.topology == Topology::External {
        notes.push(format!("The key of etcd's authority stays at {}.", site.keys.place()));
    }
    notes.push(
        "Rules of the packet filter and /etc/cni/net.d stay as kube-proxy and the CNI made them: \
         restart the hosts before they are used for something else."
            .to_owned(),
    );
    notes
}

/// What to do next, when these hosts have left.
fn after(hosts: &BTreeSet<String>) -> String {
    let names: Vec<_> = hosts.iter().map(String::as_str).collect();
    format!(
        "The next `apply` makes {} part of the cluster again, as long as the file names them; take \
         them out of it, or give them the role `spare`, and `apply` tells all proxies.\n",
        names.join(", ")
    )
}
