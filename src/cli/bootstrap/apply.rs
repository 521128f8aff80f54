//! `apiproxy bootstrap apply`: makes the hosts what the file says.

use super::access::{Access, Site, inputs};
use super::job::{Consent, Job, conclude, interrupts, unless_ended};
use super::leaving;
use crate::cli::{CliError, runtime};

/// The command as others read it where they find a host locked.
const COMMAND: &str = "apiproxy bootstrap apply";

/// Flags of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the cluster has and the file has not is named below the plan, and stays. With --prune it is taken
out when everything that the file wishes is there: each node is drained, its etcd member removed if the
quorum allows it, the host reset, and its Node deleted; control planes one by one, workers as many at
the same time as -j says. A host that does not answer is given up.

The first Ctrl-C lets running steps end and begins no other, the second kills them; running it again
goes on from there. Exit 0 when all is as the file says, 1 when something is not, 2 when the cluster
file is wrong. With -o json, one event a line, from when hosts are looked at, and the last is `summary`.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    consent: Consent,
    /// Take out nodes and etcd members that the cluster has and the file has not.
    #[arg(long)]
    prune: bool,
    /// Do not look first whether the hosts that are to be changed are fit, as `check` does.
    #[arg(long)]
    skip_preflight: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if args.prune && args.access.has_choice() {
        let problem = "--prune goes by the whole file; give no --host with it";
        return Err(CliError::Usage(problem.to_owned()));
    }
    let mut site = args.access.open_if("apply", |said| {
        inputs(said)?;
        args.consent.can_be_had()
    })?;
    let result = runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        let job = unless_ended(&mut interrupts, job(&mut site, args.prune)).await?;
        let job = Job { fit_only: !args.skip_preflight, ..job };
        job.carry_out(&site, &args.consent, &mut interrupts).await.map(drop)
    });
    conclude(&site, result)
}

async fn job(site: &mut Site, prune: bool) -> Result<Job, CliError> {
    if !prune {
        let notes = leaving::notes(site).await;
        return Ok(Job { notes, ..Job::new(site, COMMAND, &site.all_steps())? });
    }
    let (extras, notes) = leaving::prune(site).await?;
    Ok(Job { notes, ..Job::new(site, COMMAND, &site.steps_without(&extras))? })
}
