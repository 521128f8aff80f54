//! Steps as a command carries them out: looked at, shown, agreed to, locked, applied and told of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::access::{Form, Site};
use super::document::{Around, PlanDocument, SummaryDocument};
use super::progress::Progress;
use super::{file, prompt, report};
use crate::bootstrap::engine::{
    Disruption, Events, Execution, Graph, Locks, Owner, Plan, Planned, Prediction, Step, StepError,
    Stopper, Summary, execute, forecast, observe, vitals,
};
use crate::bootstrap::preflight;
use crate::bootstrap::spec::{Cluster, Draft, Role};
use crate::cli::{CliError, output};
use crate::signal::Terminations;

/// Flags of commands that change hosts.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, clap::Args)]
pub(super) struct Consent {
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// End another run that holds a host. It stops there at once.
    #[arg(long)]
    break_lock: bool,
    /// Show what will change in files.
    #[arg(long)]
    diff: bool,
    /// Show the plan and end: nothing is asked and nothing is changed.
    #[arg(long, conflicts_with_all = ["yes", "break_lock"])]
    dry_run: bool,
}

impl Consent {
    /// Before long work: can the user be asked, if he has to be?
    ///
    /// # Errors
    /// He has to be, and there is no terminal.
    pub(super) fn can_be_had(&self) -> Result<(), CliError> {
        if self.yes || self.dry_run { Ok(()) } else { prompt::terminal() }
    }
}

/// How the user is asked.
#[derive(Debug)]
pub(super) enum Question {
    /// For a yes.
    Yes(&'static str),
    /// For this name, typed.
    Name(String),
}

/// What a command wants to be so.
pub(super) struct Job {
    /// The command as the user types it: others read it where they find a host locked.
    pub(super) command: &'static str,
    pub(super) graph: Graph,
    /// Whose quorum and apiservers are guarded; nobody's if there is none.
    pub(super) guarded: Option<Arc<Cluster>>,
    /// What the user has to know beside the plan, a line each.
    pub(super) notes: Vec<String>,
    /// Are hosts left alone that are not fit, as `check` says?
    pub(super) fit_only: bool,
    pub(super) question: Question,
    /// The cluster file as it has to be for this; written when the user has agreed.
    pub(super) draft: Option<Draft>,
}

/// How a job ended that has no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All was so already.
    Nothing,
    /// The plan was shown, and no more was wished.
    Shown,
    /// What was missing was applied.
    Applied,
}

impl Job {
    /// A job of these steps; of those of the chosen hosts and what they need if there is a choice.
    pub(super) fn new(
        site: &Site,
        command: &'static str,
        steps: &[Arc<dyn Step>],
    ) -> Result<Self, CliError> {
        Ok(Self {
            command,
            graph: graph(site, steps)?,
            guarded: Some(Arc::clone(&site.cluster)),
            notes: Vec::new(),
            fit_only: false,
            question: Question::Yes("Apply this?"),
            draft: None,
        })
    }

    /// Carries it out, as far as the user agrees. When this fails with [`CliError::Unwell`], what failed was
    /// told, and the last event too.
    pub(super) async fn carry_out(
        &self,
        site: &Site,
        consent: &Consent,
        interrupts: &mut Terminations,
    ) -> Result<Ending, CliError> {
        let begun = Instant::now();
        let work = async {
            let plan = look(site, &self.graph, Progress::of_run(site.form)).await?;
            let unfit =
                if self.fit_only { unfit(site, &plan, &self.graph).await } else { BTreeMap::new() };
            self.show(site, &plan, &unfit, consent.diff).await?;
            Ok((plan, unfit))
        };
        let (plan, unfit) = unless_ended(interrupts, work).await?;
        let untouched = || tell_json(site, &Summary::untouched(&plan, begun.elapsed()));
        if consent.dry_run {
            untouched()?;
            let faulty = plan.faults().any(|(step, _)| step.chosen);
            return if faulty { Err(CliError::Unwell) } else { Ok(Ending::Shown) };
        }
        if plan.is_done() && self.draft.is_none() {
            untouched()?;
            return Ok(Ending::Nothing);
        }
        let mut touched = plan.touched(&self.graph);
        if touched.is_empty() && !plan.is_done() {
            untouched()?;
            return Err(CliError::Unwell);
        }
        // Hosts that were given up are not there to be locked.
        touched.retain(|host| site.cx.hosts.contains_key(host));
        some_are_fit(&touched, &unfit)?;
        let permission = async {
            if !consent.yes && !self.question.ask().await? {
                return Err(CliError::Failed("nothing was changed".to_owned()));
            }
            let owner = Owner::here(self.command);
            let locks = async {
                let mut locks = Locks::take(&site.cx, &touched, &owner, consent.break_lock).await?;
                let others = self.others_at_risk(&plan, &touched);
                locks.add(&site.cx, &others, &owner, consent.break_lock).await?;
                Ok::<_, StepError>(locks)
            };
            locks.await.map_err(|error| CliError::Failed(error.to_string()))
        };
        let locks = unless_ended(interrupts, permission).await?;
        if let Some(draft) = &self.draft {
            file::write(draft)?;
        }
        let summary = self.execute(site, &plan, (unfit, &locks), interrupts).await?;
        tell(site, &summary)?;
        if summary.is_done() { Ok(Ending::Applied) } else { Err(CliError::Unwell) }
    }

    /// Where something disturbs etcd or the apiservers, the other hosts that have one: nobody may disturb
    /// those meanwhile.
    fn others_at_risk(&self, plan: &Plan, touched: &BTreeSet<String>) -> BTreeSet<String> {
        let risky = |step: &Planned| {
            matches!(step.disruption, Some(Disruption::EtcdMember | Disruption::ApiServer))
        };
        let Some(cluster) = self.guarded.as_deref().filter(|_| plan.needed().any(risky)) else {
            return BTreeSet::new();
        };
        let hosts = cluster.etcd_hosts().chain(cluster.with_role(Role::ControlPlane));
        hosts.map(|host| host.name.clone()).filter(|host| !touched.contains(host)).collect()
    }

    /// The plan before it is carried out.
    async fn show(
        &self,
        site: &Site,
        plan: &Plan,
        unfit: &BTreeMap<String, StepError>,
        diff: bool,
    ) -> Result<(), CliError> {
        let predictions = foretell(site, self.guarded.as_deref(), plan).await;
        let around = Around { predictions: &predictions, unfit, notes: &self.notes };
        match site.form {
            Form::Json => {
                let document = PlanDocument::new(plan, around);
                output::emit(&output::json_line(&json!({ "event": "plan", "plan": document }))?)
            }
            Form::Text => output::emit(&report::plan(plan, around, diff)),
        }
    }

    async fn execute(
        &self,
        site: &Site,
        plan: &Plan,
        (unfit, locks): (BTreeMap<String, StepError>, &Locks),
        interrupts: &mut Terminations,
    ) -> Result<Summary, CliError> {
        let (events, heard) = Events::channel();
        let (stopper, stop) = Stopper::new();
        let mut left_alone = plan.gone();
        left_alone.extend(unfit);
        let barred = |host: &str| left_alone.get(host).cloned().or_else(|| locks.lost(host));
        let execution = Execution {
            parallel: site.parallel,
            cluster: self.guarded.as_deref(),
            barred: &barred,
            events,
            stop,
        };
        let work = async move { execute(&self.graph, plan, &site.cx, &execution).await };
        let listen = async {
            loop {
                interrupts.next().await;
                stopper.press();
            }
        };
        let shown = Progress::of_run(site.form).show(heard);
        tokio::select! {
            (summary, shown) = async { tokio::join!(work, shown) } => {
                shown?;
                Ok(summary)
            }
            () = listen => Err(CliError::Failed("signals are not heard any more".to_owned())),
        }
    }
}

impl Question {
    async fn ask(&self) -> Result<bool, CliError> {
        match self {
            Self::Yes(question) => prompt::confirm(question).await,
            Self::Name(name) => prompt::name(name).await,
        }
    }
}

/// Steps in order; of the chosen hosts and what those need if there is a choice.
pub(super) fn graph(site: &Site, steps: &[Arc<dyn Step>]) -> Result<Graph, CliError> {
    let graph = Graph::new(steps)
        .map_err(|error| CliError::Failed(format!("a fault of apiproxy itself: {error}")))?;
    Ok(match &site.chosen {
        Some(hosts) => graph.of_hosts(hosts),
        None => graph,
    })
}

/// Takes the signals over that end the command. From now on they are heard only where one listens.
pub(super) fn interrupts() -> Result<Terminations, CliError> {
    Terminations::of_terminal()
        .map_err(|error| CliError::Failed(format!("cannot handle signals: {error}")))
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

/// Looks at the hosts of all steps.
pub(super) async fn look(site: &Site, graph: &Graph, progress: Progress) -> Result<Plan, CliError> {
    let (events, heard) = Events::channel();
    let looking =
        async move { observe(graph, &site.cx, site.chosen.as_ref(), site.parallel, &events).await };
    let (plan, shown) = tokio::join!(looking, progress.show(heard));
    shown?;
    Ok(plan)
}

/// What is expected at disruptive steps; hosts are asked only if there are some.
pub(super) async fn foretell(
    site: &Site,
    guarded: Option<&Cluster>,
    plan: &Plan,
) -> BTreeMap<usize, Prediction> {
    match guarded {
        Some(cluster) if plan.needed().any(|step| step.disruption.is_some()) => {
            forecast(cluster, plan, &vitals(cluster, &site.cx).await)
        }
        _ => BTreeMap::new(),
    }
}

/// The hosts that are to be changed and must not be as they are, each with what to do about it.
pub(super) async fn unfit(site: &Site, plan: &Plan, graph: &Graph) -> BTreeMap<String, StepError> {
    let touched = plan.touched(graph);
    // Of the ways to a host that is gone there is nothing to say.
    let (gone, mut cluster) = (plan.gone(), (*site.cluster).clone());
    cluster.hosts.retain(|host| !gone.contains_key(&host.name));
    let mut hosts = site.cx.hosts.clone();
    hosts.retain(|host, _| touched.contains(host));
    if hosts.is_empty() {
        return BTreeMap::new();
    }
    preflight::examine(&cluster, &hosts, site.parallel).await.unfit()
}

/// Is there anything that may be done? Hosts that are not fit are left alone.
fn some_are_fit(
    touched: &BTreeSet<String>,
    unfit: &BTreeMap<String, StepError>,
) -> Result<(), CliError> {
    let them = match touched.len() {
        0 => return Ok(()),
        _ if touched.iter().any(|host| !unfit.contains_key(host)) => return Ok(()),
        1 => "the only host that is to be changed is not fit".to_owned(),
        hosts => format!("none of the {hosts} hosts that are to be changed is fit"),
    };
    Err(CliError::Failed(format!(
        "{them}, and nothing was changed: mend what the plan tells of them, as `apiproxy bootstrap check` \
         does too, or go on nevertheless with --skip-preflight"
    )))
}

/// How a command ends whose output are events: the last of them tells of what it could not begin, too. What
/// was told already ([`CliError::Unwell`]) is not told again.
pub(super) fn conclude<T>(site: &Site, result: Result<T, CliError>) -> Result<T, CliError> {
    if let Err(error @ (CliError::Failed(_) | CliError::Usage(_))) = &result {
        let text = error.to_string();
        site.log.note("summary", json!({ "done": false, "error": text }));
        if site.form == Form::Json {
            let document = SummaryDocument::failed(text, site.log.path());
            output::emit(&output::json_line(&document)?)?;
        }
    }
    result
}

/// The last event, for programs.
fn tell_json(site: &Site, summary: &Summary) -> Result<(), CliError> {
    let path = site.log.path();
    site.log.note("summary", json!({ "done": summary.is_done() }));
    match site.form {
        Form::Json => output::emit(&output::json_line(&SummaryDocument::new(summary, path))?),
        Form::Text => Ok(()),
    }
}

/// What became of the steps.
fn tell(site: &Site, summary: &Summary) -> Result<(), CliError> {
    let path = site.log.path();
    tell_json(site, summary)?;
    if site.form == Form::Text {
        output::emit(&report::summary(summary, path))?;
    }
    if let Some(fault) = site.log.fault() {
        output::complain(&format!("the log {} is not complete: {fault}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_any_fit_host_does_not_begin() {
        let refused = || StepError::Unverified("port 6443 is taken".to_owned());
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let unfit = [("a".to_owned(), refused()), ("b".to_owned(), refused())].into();
        assert!(some_are_fit(&names(&["a", "b", "c"]), &unfit).is_ok());
        assert!(some_are_fit(&BTreeSet::new(), &unfit).is_ok());
        let text = some_are_fit(&names(&["a", "b"]), &unfit).unwrap_err().to_string();
        assert!(text.starts_with("none of the 2 hosts that are to be changed is fit"), "{text}");
        assert!(text.contains("bootstrap check` does too, or go on"), "{text}");
        let text = some_are_fit(&names(&["b"]), &unfit).unwrap_err().to_string();
        assert!(text.starts_with("the only host that is to be changed is not fit"), "{text}");
    }
}
