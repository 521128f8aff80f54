//! `apiproxy bootstrap reset`: takes the cluster apart, or some hosts out of it.

use std::collections::BTreeSet;

use super::access::{Access, Form, Site};
use super::job::{Consent, Ending, Job, Question, conclude, interrupts, unless_ended};
use super::leaving;
use crate::bootstrap::spec::{Host, Role, Topology};
use crate::bootstrap::steps::etcd::data::Data;
use crate::bootstrap::steps::remove::{self, reset};
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

Of the whole cluster, a host that does not answer keeps the others from nothing: what is left on it is
told, and how it is cleaned when it is back.

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
    let mut site = args.access.open_if("reset", |_| args.consent.can_be_had())?;
    let data = if args.delete_etcd_data { Data::Deleted } else { Data::Aside };
    let result = runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        let (job, left) = unless_ended(&mut interrupts, job(&mut site, data)).await?;
        let ending = job.carry_out(&site, &args.consent, &mut interrupts).await;
        if let Err(CliError::Unwell) = ending
            && site.form == Form::Text
        {
            // Below a long run the notes of the plan are out of sight.
            for line in left {
                output::emit(&(line + "\n"))?;
            }
        }
        let ending = ending?;
        match &site.chosen {
            Some(hosts) if ending == Ending::Applied && site.form == Form::Text => {
                output::emit(&after(hosts))
            }
            _ => Ok(()),
        }
    });
    conclude(&site, result)
}

/// The job, and a line for each host that it leaves as it is.
async fn job(site: &mut Site, data: Data) -> Result<(Job, Vec<String>), CliError> {
    let mut notes = notes(site, data);
    let mut left = Vec::new();
    let steps = match site.chosen.clone() {
        None => {
            left = dead(site).await;
            notes.extend(left.iter().cloned());
            reset::all(&site.shared, data)
        }
        Some(chosen) => {
            let names: Vec<_> = chosen.iter().map(String::as_str).collect();
            notes.extend(leaving::give_up_dead(site, &names).await?);
            let steps = reset::some(&site.shared, &site.cx, &chosen, data).await;
            steps.map_err(|error| CliError::Failed(error.to_string()))?
        }
    };
    let guarded = site.chosen.as_ref().map(|_| site.cluster.clone());
    let job = Job::new(site, "apiproxy bootstrap reset", &steps)?;
    let question = Question::Name(site.cluster.name.clone());
    Ok((Job { guarded, notes, question, ..job }, left))
}

/// The hosts that do not answer, when the whole cluster is given up: what is left on each, and how it is
/// cleaned later. The others do not wait for them.
async fn dead(site: &Site) -> Vec<String> {
    let meant: Vec<_> = site.cluster.hosts.iter().filter(|host| is_part(host)).collect();
    let names = meant.iter().map(|host| host.name.as_str());
    // Who refuses us is told by the plan.
    let away = remove::unreachable(&site.cx, names).await.unwrap_or_default();
    let gone = meant.iter().filter_map(|host| Some((*host, away.get(&host.name)?)));
    gone.map(|(host, why)| not_cleaned(host, why)).collect()
}

fn is_part(host: &Host) -> bool {
    [Role::ControlPlane, Role::Worker, Role::Etcd].iter().any(|role| host.roles.contains(role))
}

fn not_cleaned(host: &Host, why: &str) -> String {
    let name = &host.name;
    let why = why.strip_prefix(&format!("{name}: ")).unwrap_or(why);
    let mut things = Vec::new();
    if host.roles != BTreeSet::from([Role::Etcd]) {
        things.push("kubelet and its pods, /etc/kubernetes");
    }
    if host.roles.contains(&Role::Etcd) || host.roles.contains(&Role::ControlPlane) {
        things.push("etcd's keys and data");
    }
    things.push("what apiproxy put there");
    format!(
        "{name} does not answer ({why}) and is NOT cleaned: {} stay on it. When it is back, run this again \
         before it is used for anything else: hosts that are clean are left alone. Until then the exit \
         code is 1.",
        things.join(", "),
    )
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
