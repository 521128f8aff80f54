//! `apiproxy bootstrap plan`: what would be changed, and why.

use std::collections::BTreeMap;

use super::access::{Access, Form, inputs};
use super::document::{Around, PlanDocument};
use super::job::{foretell, graph, interrupts, look, unfit, unless_ended};
use super::progress::Progress;
use super::{leaving, report};
use crate::cli::{CliError, output, runtime};

/// Flags of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the cluster has and the file has not is named below the plan; `apply --prune` takes it out. So are
the hosts that would be changed and are not fit, as `check` says it: `apply` leaves them alone.

Exit 0 when all hosts could be looked at, whether there is something to do or not; 1 when one could
not; 2 when the cluster file is wrong.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
    /// Show what would change in files.
    #[arg(long)]
    diff: bool,
    /// Do not look whether the hosts that would be changed are fit.
    #[arg(long)]
    skip_preflight: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let site = args.access.open_if("plan", inputs)?;
    let graph = graph(&site, &site.all_steps())?;
    runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        let work = async {
            let plan = look(&site, &graph, Progress::before_document(site.form)).await?;
            let predictions = foretell(&site, Some(&site.cluster), &plan).await;
            let unfit = if args.skip_preflight {
                BTreeMap::new()
            } else {
                unfit(&site, &plan, &graph).await
            };
            Ok((plan, predictions, unfit, leaving::notes(&site).await))
        };
        let (plan, predictions, unfit, notes) = unless_ended(&mut interrupts, work).await?;
        let around = Around { predictions: &predictions, unfit: &unfit, notes: &notes };
        match site.form {
            Form::Json => output::emit_json(&PlanDocument::new(&plan, around))?,
            Form::Text => output::emit(&report::plan(&plan, around, args.diff))?,
        }
        let blind = plan.faults().any(|(step, _)| step.chosen);
        if blind { Err(CliError::Unwell) } else { Ok(()) }
    })
}
