//! `apiproxy bootstrap upgrade`: the cluster gets another version of Kubernetes.

use std::path::Path;
use std::sync::Arc;

use super::access::{Form, Site, Whole, count_of_hosts, inputs, load};
use super::file::Writing;
use super::job::{Consent, Ending, Job, Question, conclude, interrupts, unless_ended};
use crate::bootstrap::spec::{Draft, Version};
use crate::bootstrap::steps::backup;
use crate::bootstrap::steps::upgrade::skew::{Fault, Versions, allows};
use crate::bootstrap::steps::upgrade::{self, versions};
use crate::cli::{CliError, output, runtime};

/// Flags of `bootstrap upgrade`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What runs now is looked at first, and what Kubernetes' rules of skew do not allow is refused: one minor
release at a time, nothing newer than the apiservers, no kubelet too far behind. Then the plan is shown.

The proxies of all workers come first, since they bridge the restart of an apiserver. Then one control
plane after the other: kubeadm and images, its static pods, and drained, its kubelet. When all are
through, the workers follow in batches, each drained before its kubelet is replaced. After the first
worker that fails no other is taken down. A node that was cordoned before stays so.

A run that was cut off goes on when the same command is run again. With --file-only the rules are held
against the version that the file says, since no host is asked what it runs.

Examples:
  apiproxy bootstrap upgrade --to v1.35.1 --write   # and the file says so from then on
  apiproxy bootstrap upgrade                        # to the version that the file says
  apiproxy bootstrap upgrade --batch 20             # so many workers away at the same time

Exit 0 when every node runs the version, 1 when one does not or it is refused, 2 when the version or the
cluster file is wrong.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    whole: Whole,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    file: Writing,
    /// The version to upgrade to [default: that of the cluster file].
    #[arg(long, value_name = "VERSION")]
    to: Option<Version>,
    /// How many workers are drained and replaced at the same time [default: a tenth, at most 16].
    #[arg(long, value_name = "N", value_parser = count_of_hosts)]
    batch: Option<usize>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let said = load(args.whole.file())?;
    let target = args.to.unwrap_or(said.cluster.kubernetes_version);
    let draft =
        Draft::with_version(&said, target).map_err(|error| CliError::Usage(error.to_string()))?;
    if args.file.file_only {
        by_the_file(said.cluster.kubernetes_version, target)?;
    } else {
        inputs(&said)?;
        args.consent.can_be_had()?;
    }
    let changes = draft.diff().is_some();
    if (changes || args.file.file_only) && args.file.show(args.whole.form(), &draft)? {
        return Ok(());
    }
    let site = args.whole.open(Arc::new(draft.cluster().clone()), said.sources(), "upgrade")?;
    let stays = args.file.note(&draft, "until then new nodes cannot join");
    let result = runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        let work = job(args, &site, &draft, target);
        let job = unless_ended(&mut interrupts, work).await?;
        let notes = [job.notes.clone(), stays.iter().cloned().collect()].concat();
        let job = Job { notes, draft: args.file.wanted(&draft), ..job };
        let ending = job.carry_out(&site, &args.consent, &mut interrupts).await?;
        match stays {
            Some(stays) if ending == Ending::Applied && site.form == Form::Text => {
                output::emit(&(stays + "\n"))
            }
            _ => Ok(()),
        }
    });
    conclude(&site, result)
}

/// Without a look at the hosts, the cluster is taken to run the version that its file says: what `upgrade`
/// would refuse then is not written either.
fn by_the_file(said: Version, target: Version) -> Result<(), CliError> {
    let api_servers = [("the cluster, by its file,".to_owned(), said)].into();
    let found = Versions { api_servers, ..Versions::default() };
    let refused = |fault: Fault| {
        CliError::Failed(format!("{}; {}; nothing was written", fault.reason, fault.remedy))
    };
    allows(&found, target).map_err(refused)
}

async fn job(args: &Args, site: &Site, draft: &Draft, target: Version) -> Result<Job, CliError> {
    let batch = args.batch.unwrap_or_else(|| upgrade::batch(&site.cluster));
    let program = Path::new("/proc/self/exe");
    let steps = upgrade::all(&site.shared, &site.cx, program, batch).await;
    let mut steps = steps.map_err(|error| CliError::Failed(error.to_string()))?;
    steps.extend(backup::upgraded(&site.cluster, &draft.sources(), &steps));
    let found = versions(&site.shared, &site.cx).await;
    let found = found.map_err(|error| CliError::Failed(error.to_string()))?;
    let oldest = found.api_servers.values().min();
    let note = oldest.filter(|oldest| **oldest != target).map(|oldest| {
        format!(
            "From {oldest} to {target}: control planes one by one, then workers, at most {batch} at the \
             same time."
        )
    });
    let job = Job::new(site, "apiproxy bootstrap upgrade", &steps)?;
    Ok(Job { notes: note.into_iter().collect(), question: Question::Yes("Upgrade so?"), ..job })
}
