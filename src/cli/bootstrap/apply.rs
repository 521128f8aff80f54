//! `apiproxy bootstrap apply`: makes the hosts what the file says.

use super::access::Access;
use super::job::{Consent, Job, interrupts};
use crate::cli::{CliError, runtime};

/// Flags of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The first Ctrl-C lets running steps end and begins no other, the second kills them; running it again
goes on from there. Exit 0 when all is as the file says, 1 when something is not, 2 when the cluster
file is wrong. With -o json, one event a line.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    consent: Consent,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let site = args.access.open("apply")?;
    let job = Job::new(&site, "apiproxy bootstrap apply", &site.all_steps())?;
    runtime()?
        .block_on(async { job.carry_out(&site, &args.consent, &mut interrupts()?).await.map(drop) })
}
