//! `apiproxy bootstrap replace`: a spare takes the place of a host.

use std::sync::Arc;

use serde_json::json;

use super::access::{Form, Site, Whole, inputs, load};
use super::file::Writing;
use super::job::{Consent, Ending, Job, Question, conclude, interrupts, unless_ended};
use super::leaving;
use crate::bootstrap::engine::StepError;
use crate::bootstrap::spec::{Cluster, Draft, DraftError, Loaded};
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::steps::{remove, replace, status};
use crate::cli::{CliError, output, runtime};

/// Flags of `bootstrap replace`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
NEW takes the roles of OLD, and its labels and taints. It is a host of the file with the role `spare`,
or one that has the roles of OLD already. Without NEW a spare that answers and is prepared is chosen, or
else one that answers, of the same zone if there is one; it is told which (-o json: event `spare`).

The change of the file is shown first, and then the plan: NEW is prepared and joins (an etcd member as
a learner that is promoted), every proxy learns of it, then OLD is drained, taken out of etcd and of the
cluster, and reset. If OLD's etcd member is dead, it goes first, since none can be added beside it; if OLD
does not answer, it is given up. What etcd's quorum does not allow is refused, with the numbers.

A run that was cut off goes on when the same command is run again.

Examples:
  apiproxy bootstrap replace cp2 s1 --write     # and the file names s1 as a control plane from then on
  apiproxy bootstrap replace w17                # by any spare; shows the change of the file
  apiproxy bootstrap replace cp2 s1 --file-only # the change of the file alone, no host is reached

Exit 0 when NEW has the place of OLD, 1 when something is not done or refused, 2 when a name or the
cluster file is wrong.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    whole: Whole,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    file: Writing,
    /// The host that goes, alive or dead.
    old: String,
    /// The host that takes its place [default: a spare that is prepared].
    new: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let said = load(args.whole.file())?;
    let before = Arc::new(said.cluster.clone());
    // A wrong name is told before any host is reached.
    let new = match &args.new {
        Some(new) => Some(new.clone()),
        None => {
            first_choice(&before, &args.old).map(|first| args.file.file_only.then_some(first))?
        }
    };
    let draft = new.as_ref().map(|new| draft(args, &said, new)).transpose()?;
    if !args.file.file_only {
        inputs(&said)?;
        args.consent.can_be_had()?;
    }
    if let Some(Some(draft)) = &draft
        && args.file.show(args.whole.form(), draft)?
    {
        return Ok(());
    }
    let mut site = args.whole.open(Arc::clone(&before), said.sources(), "replace")?;
    let result = runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        let work = async {
            let (chosen, draft) = if let (Some(new), Some(draft)) = (new, draft) {
                (new, draft)
            } else {
                let (chosen, lacks) = choose(&site, &args.old).await?;
                tell_choice(&site, &args.old, &chosen, &lacks)?;
                let draft = self::draft(args, &said, &chosen)?;
                if let Some(draft) = &draft {
                    args.file.show(site.form, draft)?;
                }
                (chosen, draft)
            };
            let job = job(args, &mut site, &before, &chosen, draft.as_ref()).await?;
            Ok((job, draft))
        };
        let (job, draft) = unless_ended(&mut interrupts, work).await?;
        let ending = job.carry_out(&site, &args.consent, &mut interrupts).await?;
        let stays = draft.and_then(|draft| stays(args, &draft));
        match stays {
            Some(stays) if ending == Ending::Applied && site.form == Form::Text => {
                output::emit(&(stays + "\n"))
            }
            _ => Ok(()),
        }
    });
    conclude(&site, result)
}

/// What the user has to know when the file goes on to name the one that went.
fn stays(args: &Args, draft: &Draft) -> Option<String> {
    args.file.note(draft, &format!("until then `apply` would take {} in again", args.old))
}

fn wrong(error: impl std::fmt::Display) -> CliError {
    CliError::Usage(error.to_string())
}

/// The spare that would be taken if all answer.
fn first_choice(before: &Cluster, old: &str) -> Result<String, CliError> {
    match replace::candidates(before, old).first() {
        Some(spare) => {
            replace::replaced(before, old, &spare.name).map_err(wrong)?;
            Ok(spare.name.clone())
        }
        None => Err(wrong(
            "the file has no host with the role `spare`; add one, or name the host that comes",
        )),
    }
}

/// The first spare that answers and is prepared, or else the first that answers; with what it lacks.
async fn choose(site: &Site, old: &str) -> Result<(String, String), CliError> {
    let spares = replace::candidates(&site.cluster, old);
    let names: Vec<_> = spares.iter().map(|spare| spare.name.as_str()).collect();
    let away = remove::unreachable(&site.cx, names.iter().copied()).await;
    let away = away.map_err(|error| CliError::Failed(error.to_string()))?;
    let mut found = None;
    for spare in spares.iter().filter(|spare| !away.contains_key(&spare.name)) {
        let lacks = status::lacks(&site.cluster, &site.cx, spare).await;
        let lacks = lacks.unwrap_or_else(|error| error.to_string());
        let is_prepared = lacks.is_empty();
        if is_prepared || found.is_none() {
            found = Some((spare.name.clone(), lacks));
        }
        if is_prepared {
            break;
        }
    }
    found.ok_or_else(|| {
        let reasons: Vec<_> = away.into_values().collect();
        CliError::Failed(format!("no spare answers: {}", reasons.join("; ")))
    })
}

/// Says which spare was chosen.
fn tell_choice(site: &Site, old: &str, chosen: &str, lacks: &str) -> Result<(), CliError> {
    if site.form == Form::Json {
        let event = json!({ "event": "spare", "host": chosen, "for": old, "lacks": lacks });
        return output::emit(&output::json_line(&event)?);
    }
    let how = if lacks.is_empty() {
        "it is prepared".to_owned()
    } else {
        format!("no spare is prepared, and it will be now: {lacks}")
    };
    output::emit(&format!("The spare {chosen} takes the place of {old}; {how}.\n"))
}

/// The file in which the one has the place of the other; none if that stands where we do not write.
fn draft(args: &Args, said: &Loaded, new: &str) -> Result<Option<Draft>, CliError> {
    let after = replace::replaced(&said.cluster, &args.old, new).map_err(wrong)?;
    let comes = after.host(new).ok_or_else(|| wrong(format!("the file has no host {new}")))?;
    match Draft::with_replacement(said, &after, &args.old, comes) {
        Ok(draft) => Ok(Some(draft)),
        Err(DraftError::Edit(error)) if !args.file.write && !args.file.file_only => {
            output::complain(&error);
            Ok(None)
        }
        Err(error) => Err(wrong(error)),
    }
}

async fn job(
    args: &Args,
    site: &mut Site,
    before: &Cluster,
    new: &str,
    draft: Option<&Draft>,
) -> Result<Job, CliError> {
    let failed = |error: StepError| CliError::Failed(error.to_string());
    let old = args.old.as_str();
    let mut notes = leaving::give_up_dead(site, &[old]).await?;
    let after = Arc::new(replace::replaced(before, old, new).map_err(wrong)?);
    let shared = Shared::new(Arc::clone(&after), site.shared.documents.clone());
    let gone = (old, before.host(old));
    let planned = replace::plan(&shared, &site.cx, gone, new).await.map_err(failed)?;
    (site.cluster, site.shared) = (after, planned.shared);
    if before.host(old).is_none() {
        notes.extend(leaving::reach(site, &planned.extras).await?);
    }
    if planned.removed_first {
        notes.push(format!("The etcd member of {old} is dead: it goes before {new} joins."));
    }
    notes.extend(draft.and_then(|draft| stays(args, draft)));
    if let Some(draft) = draft {
        site.sources = draft.sources();
    }
    let steps = site.steps_without(&planned.extras);
    let job = Job::new(site, "apiproxy bootstrap replace", &steps)?;
    let draft = draft.and_then(|draft| args.file.wanted(draft));
    Ok(Job { notes, draft, question: Question::Yes("Replace it so?"), ..job })
}
