//! `fleet plan`: what would be changed in each cluster.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::Access;
use super::child::{Outcome, Program};
use crate::bootstrap::spec::{Fleet, Member};
use crate::cli::bootstrap::access::Form;
use crate::cli::bootstrap::job::interrupts;
use crate::cli::{CliError, output, runtime};
use crate::signal::Terminations;

/// Flags of `fleet plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
All clusters are looked at at the same time, and shown in the order of their waves. Exit 0 when all hosts
could be looked at, 1 when one could not, 2 when a file is wrong.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
}

/// The plans of all clusters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    fleet: &'a str,
    clusters: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    cluster: &'a str,
    wave: usize,
    /// What `bootstrap plan -o json` prints.
    plan: Option<Value>,
    error: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let Access { reach, output: form } = &args.access;
    let fleet = reach.load()?;
    let program = reach.program()?;
    let all_seen = runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        show(&program, &fleet, &[], *form, &mut interrupts).await
    })?;
    if all_seen { Ok(()) } else { Err(CliError::Unwell) }
}

/// Shows the plans of all clusters, which are asked for with these words more. Could all hosts be looked at?
pub(super) async fn show(
    program: &Program,
    fleet: &Fleet,
    more: &[&str],
    form: Form,
    interrupts: &mut Terminations,
) -> Result<bool, CliError> {
    let members: Vec<Member> = fleet.members().map(|(_, member)| member.clone()).collect();
    let json: &[&str] = if form == Form::Json { &["-o", "json"] } else { &[] };
    let words = [&["plan"], more, json].concat();
    let (outcomes, ended) = program.each(&members, &words, interrupts, |_, _, _| Ok(())).await?;
    if ended {
        return Err(CliError::Failed("ended by a signal; nothing was changed".to_owned()));
    }
    match form {
        Form::Json => output::emit_json(&document(fleet, &outcomes))?,
        Form::Text => output::emit(&text(fleet, &outcomes))?,
    }
    Ok(outcomes.iter().all(Outcome::is_ok))
}

fn document<'a>(fleet: &'a Fleet, outcomes: &[Outcome]) -> Document<'a> {
    let entry = |((wave, member), outcome): ((usize, &'a Member), &Outcome)| {
        let plan = serde_json::from_str(&outcome.output).ok();
        let error = plan.is_none().then(|| outcome.complaint());
        Entry { cluster: &member.name, wave, plan, error }
    };
    let clusters = fleet.members().zip(outcomes).map(entry).collect();
    Document { fleet: &fleet.name, clusters }
}

fn text(fleet: &Fleet, outcomes: &[Outcome]) -> String {
    let (mut text, waves) = (String::new(), fleet.waves.len());
    for ((wave, member), outcome) in fleet.members().zip(outcomes) {
        let _ = writeln!(text, "== {}, wave {wave} of {waves}\n", member.name);
        text += &outcome.output;
        if outcome.output.trim().is_empty() {
            let _ = writeln!(text, "{}", outcome.complaint());
        }
        text.push('\n');
    }
    text
}
