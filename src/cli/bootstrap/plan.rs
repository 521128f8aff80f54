//! `apiproxy bootstrap plan`: what would be changed, and why.

use std::collections::BTreeMap;

use super::access::{Access, Form, Site};
use super::document::PlanDocument;
use super::progress::Progress;
use super::report;
use crate::bootstrap::engine::{Events, Plan, Prediction, forecast, observe, vitals};
use crate::cli::{CliError, output, runtime};
use crate::signal::Terminations;

/// Flags of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit 0 when all hosts could be looked at, whether there is something to do or not; 1 when one could
not; 2 when the cluster file is wrong.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
    /// Show what would change in files.
    #[arg(long)]
    diff: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let site = args.access.open("plan")?;
    runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        let progress = Progress::before_document(args.access.output);
        let work = async {
            let plan = look(&site, args.access.parallel, progress).await?;
            let predictions = foretell(&site, &plan).await;
            Ok((plan, predictions))
        };
        let (plan, predictions) = unless_ended(&mut interrupts, work).await?;
        match args.access.output {
            Form::Json => output::emit_json(&PlanDocument::new(&plan, &predictions))?,
            Form::Text => output::emit(&report::plan(&plan, &predictions, args.diff))?,
        }
        let blind = plan.faults().any(|(step, _)| step.chosen);
        if blind { Err(CliError::Unwell) } else { Ok(()) }
    })
}

/// Takes the signals over that end the command. From now on they are heard only where one listens.
pub(super) fn interrupts() -> Result<Terminations, CliError> {
    Terminations::new().map_err(|error| CliError::Failed(format!("cannot handle signals: {error}")))
}

/// Work that changes nothing, unless the user ends it first.
pub(super) async fn unless_ended<T>(
    interrupts: &mut Terminations,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    tokio::select! {
        result = work => result,
        signal = interrupts.next() => {
            Err(CliError::Failed(format!("ended by {signal}; nothing was changed")))
        }
    }
}

/// Looks at all hosts.
pub(super) async fn look(
    site: &Site,
    parallel: usize,
    progress: Progress,
) -> Result<Plan, CliError> {
    let (events, heard) = Events::channel();
    let looking = async move {
        let chosen = site.chosen.as_ref();
        observe(&site.graph, &site.cx, chosen, parallel, &events).await
    };
    let (plan, shown) = tokio::join!(looking, progress.show(heard));
    shown?;
    Ok(plan)
}

/// What is expected at disruptive steps; hosts are asked only if there are some.
pub(super) async fn foretell(site: &Site, plan: &Plan) -> BTreeMap<usize, Prediction> {
    if plan.needed().all(|step| step.disruption.is_none()) {
        return BTreeMap::new();
    }
    forecast(&site.cluster, plan, &vitals(&site.cluster, &site.cx).await)
}
