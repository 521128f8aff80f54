//! `apiproxy bootstrap apply`: makes the hosts what the file says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::access::{Access, Form, Site};
use super::document::{PlanDocument, SummaryDocument};
use super::plan::{foretell, interrupts, look, unless_ended};
use super::progress::Progress;
use super::{prompt, report};
use crate::bootstrap::engine::{
    Events, Execution, Locks, Owner, Plan, StepError, Stopper, Summary, execute,
};
use crate::bootstrap::preflight;
use crate::cli::{CliError, output, runtime};
use crate::signal::Terminations;

/// Flags of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The first Ctrl-C lets running steps end and begins no other, the second kills them; running it again
goes on from there. Exit 0 when all is as the file says, 1 when something is not, 2 when the cluster
file is wrong. With -o json, one event a line.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// End another `apply` that holds a host. It stops there at once.
    #[arg(long)]
    break_lock: bool,
    /// Show what will change in files.
    #[arg(long)]
    diff: bool,
    /// Do not look first whether the hosts that are to be changed are fit, as `check` does.
    #[arg(long)]
    skip_preflight: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let site = args.access.open("apply")?;
    runtime()?.block_on(apply(args, &site))
}

async fn apply(args: &Args, site: &Site) -> Result<(), CliError> {
    let form = args.access.output;
    let mut interrupts = interrupts()?;
    let work = async {
        let plan = look(site, args.access.parallel, Progress::of_run(form)).await?;
        show(args, site, &plan).await?;
        Ok(plan)
    };
    let plan = unless_ended(&mut interrupts, work).await?;
    if plan.is_done() {
        return Ok(());
    }
    let touched = plan.touched(&site.graph);
    if touched.is_empty() {
        return Err(CliError::Unwell);
    }
    let examine = async { Ok(unfit(args, site, &plan, &touched).await) };
    let unfit = unless_ended(&mut interrupts, examine).await?;
    let permission = async {
        // Else the run tells of them.
        if !args.yes && form == Form::Text {
            let lines = unfit.values().map(|error| format!("not fit, and left alone: {error}\n"));
            output::emit(&lines.collect::<String>())?;
        }
        if !args.yes && !prompt::confirm("Apply this?").await? {
            return Err(CliError::Failed("nothing was changed".to_owned()));
        }
        let owner = Owner::here("apiproxy bootstrap apply");
        let locks = Locks::take(&site.cx, &touched, &owner, args.break_lock).await;
        locks.map_err(|error| CliError::Failed(error.to_string()))
    };
    let locks = unless_ended(&mut interrupts, permission).await?;
    let summary = carry_out(args, site, &plan, (&unfit, &locks), &mut interrupts).await?;
    site.log.note("summary", json!({ "done": summary.is_done() }));
    match form {
        Form::Json => line(&SummaryDocument::new(&summary, site.log.path()))?,
        Form::Text => output::emit(&report::summary(&summary, site.log.path()))?,
    }
    if let Some(fault) = site.log.fault() {
        let path = site.log.path().display();
        output::complain(&format!("the log {path} is not complete: {fault}"));
    }
    if summary.is_done() { Ok(()) } else { Err(CliError::Unwell) }
}

/// The hosts that are to be changed and must not be as they are, each with what to do about it.
async fn unfit(
    args: &Args,
    site: &Site,
    plan: &Plan,
    touched: &BTreeSet<String>,
) -> BTreeMap<String, StepError> {
    if args.skip_preflight {
        return BTreeMap::new();
    }
    // Of the ways to a host that is gone there is nothing to say.
    let (gone, mut cluster) = (plan.gone(), (*site.cluster).clone());
    cluster.hosts.retain(|host| !gone.contains_key(&host.name));
    let mut hosts = site.cx.hosts.clone();
    hosts.retain(|host, _| touched.contains(host));
    preflight::examine(&cluster, &hosts, args.access.parallel).await.unfit()
}

/// The plan before it is carried out.
async fn show(args: &Args, site: &Site, plan: &Plan) -> Result<(), CliError> {
    let predictions = foretell(site, plan).await;
    match args.access.output {
        Form::Json => {
            let document = PlanDocument::new(plan, &predictions);
            line(&json!({ "event": "plan", "plan": document }))
        }
        Form::Text => output::emit(&report::plan(plan, &predictions, args.diff)),
    }
}

async fn carry_out(
    args: &Args,
    site: &Site,
    plan: &Plan,
    (unfit, locks): (&BTreeMap<String, StepError>, &Locks),
    interrupts: &mut Terminations,
) -> Result<Summary, CliError> {
    let (events, heard) = Events::channel();
    let (stopper, stop) = Stopper::new();
    let mut left_alone = plan.gone();
    left_alone.extend(unfit.clone());
    let barred = |host: &str| left_alone.get(host).cloned().or_else(|| locks.lost(host));
    let execution = Execution {
        parallel: args.access.parallel,
        cluster: Some(&site.cluster),
        barred: &barred,
        events,
        stop,
    };
    let work = async move { execute(&site.graph, plan, &site.cx, &execution).await };
    let listen = async {
        loop {
            interrupts.next().await;
            stopper.press();
        }
    };
    let shown = Progress::of_run(args.access.output).show(heard);
    tokio::select! {
        (summary, shown) = async { tokio::join!(work, shown) } => {
            shown?;
            Ok(summary)
        }
        () = listen => Err(CliError::Failed("signals are not heard any more".to_owned())),
    }
}

/// A document in one line.
fn line(document: &impl serde::Serialize) -> Result<(), CliError> {
    let json = serde_json::to_string(document)
        .map_err(|error| CliError::Failed(format!("cannot write JSON: {error}")))?;
    output::emit(&(json + "\n"))
}
