//! `etcd backup`: takes one, over ssh on a member that is fit for it, or here on a member's own host.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::list::places;
use super::told;
use crate::bootstrap::backup::{
    Asked, Copied, Label, Outcome, SETTINGS, Settings, Taken, election, take,
};
use crate::bootstrap::render::paths::PROXY_PROGRAM;
use crate::bootstrap::transport::Command;
use crate::cli::bootstrap::access::{Access, Form, Site};
use crate::cli::bootstrap::job::{interrupts, unless_ended};
use crate::cli::{CliError, output, runtime};

/// How long a backup of 8 GiB may take, with its copies.
const PATIENCE: Duration = Duration::from_hours(2);

/// Flags of `etcd backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit 0 when it is whole and verified in all places, 1 when it is not; what was there before still is.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
    /// Here, on the host of a member: takes the backup of the schedule if it is this member's turn.
    #[arg(long)]
    local: bool,
    /// With --local: now, whoever's turn it is.
    #[arg(long, requires = "local")]
    now: bool,
    /// With --local: the settings that `apply` wrote.
    #[arg(long, value_name = "FILE", requires = "local", default_value = SETTINGS)]
    config: PathBuf,
    /// With --local: how long each member waits for the one before it.
    #[arg(long, value_name = "SECONDS", requires = "local", hide = true)]
    turn: Option<u64>,
}

/// What a host says of a run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    /// None if it was another member's to take.
    taken: Option<TakenDocument>,
    /// Why it was left.
    left: Option<String>,
    /// Then, what became of the copies of earlier ones, if some were missing.
    #[serde(default)]
    copies: Vec<CopyDocument>,
}

impl Document {
    fn is_well(&self) -> bool {
        let taken = self.taken.as_ref().is_none_or(|taken| taken.well);
        taken && self.copies.iter().all(|copy| copy.fault.is_none())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TakenDocument {
    label: Label,
    seconds: f64,
    well: bool,
    copies: Vec<CopyDocument>,
    pruned: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CopyDocument {
    host: String,
    sent: usize,
    fault: Option<String>,
}

impl From<&Outcome> for Document {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Left { why, copied } => Self {
                taken: None,
                left: Some(why.clone()),
                copies: copied.iter().flatten().map(CopyDocument::from).collect(),
            },
            Outcome::Taken(taken) => {
                Self { taken: Some(taken.as_ref().into()), left: None, copies: Vec::new() }
            }
        }
    }
}

impl From<&Copied> for CopyDocument {
    fn from(copied: &Copied) -> Self {
        let Copied { host, sent, fault } = copied.clone();
        Self { host, sent, fault }
    }
}

impl From<&Taken> for TakenDocument {
    fn from(taken: &Taken) -> Self {
        let copies = taken.copied.iter().map(CopyDocument::from);
        Self {
            label: taken.label.clone(),
            seconds: taken.time.as_secs_f64(),
            well: taken.is_well(),
            copies: copies.collect(),
            pruned: taken.pruned.iter().map(ToString::to_string).collect(),
            warnings: taken.warnings.clone(),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let document = if args.local { here(args)? } else { there(args)? };
    match args.access.form() {
        Form::Json => output::emit_json(&document)?,
        Form::Text => output::emit(&render(&document))?,
    }
    if document.is_well() { Ok(()) } else { Err(CliError::Unwell) }
}

fn here(args: &Args) -> Result<Document, CliError> {
    let settings =
        Settings::load(&args.config).map_err(|error| CliError::Usage(error.to_string()))?;
    let turn = args.turn.map_or(election::TURN, Duration::from_secs);
    let asked = if args.now { Asked::Now } else { Asked::BySchedule { turn } };
    let outcome = take(&settings, asked);
    outcome.map(|outcome| (&outcome).into()).map_err(|error| CliError::Failed(error.to_string()))
}

fn there(args: &Args) -> Result<Document, CliError> {
    let site = args.access.open("etcd-backup")?;
    places(&site.cluster)?;
    runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        unless_ended(&mut interrupts, on_some_member(&site)).await
    })
}

/// On the first member that is fit for it.
async fn on_some_member(site: &Site) -> Result<Document, CliError> {
    let words = [PROXY_PROGRAM, "bootstrap", "etcd", "backup", "--local", "--now", "-o", "json"];
    let command = Command::new(words).timeout(PATIENCE);
    let chosen = |name: &String| site.chosen.as_ref().is_none_or(|chosen| chosen.contains(name));
    let mut faults = Vec::new();
    for name in site.cluster.etcd_hosts().map(|host| &host.name).filter(|name| chosen(name)) {
        let host = site.cx.host(name).map_err(|error| CliError::Failed(error.to_string()))?;
        match host.run(&command).await {
            // What was taken is told on standard output, whether all went well or not.
            Ok(output) => match serde_json::from_slice(&output.stdout) {
                Ok(document) => return Ok(document),
                Err(_) => faults.push(format!("{name}: {}", told(&output))),
            },
            Err(error) => faults.push(error.to_string()),
        }
    }
    let none = "no etcd host was asked".to_owned();
    let faults = if faults.is_empty() { none } else { faults.join("\n  ") };
    Err(CliError::Failed(format!("no backup was taken, and those there still are:\n  {faults}")))
}

fn render(document: &Document) -> String {
    let Some(taken) = &document.taken else {
        let left = document.left.as_deref().unwrap_or("nothing was to be done");
        return format!("{left}\n{}", copies(&document.copies));
    };
    let manifest = &taken.label.manifest;
    let mut text = format!(
        "{} taken on {} in {:.1} s: {}, revision {}, {} keys\n",
        manifest.name,
        manifest.host,
        taken.seconds,
        output::bytes(taken.label.size),
        manifest.contents.revision,
        manifest.contents.keys,
    );
    text += &copies(&taken.copies);
    for name in &taken.pruned {
        let _ = writeln!(text, "{name} was removed");
    }
    if !manifest.is_whole() {
        let missing = manifest.missing.join(", ");
        let _ = writeln!(text, "it is not whole: {missing} is missing; nothing old was removed");
    }
    for warning in &taken.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn copies(all: &[CopyDocument]) -> String {
    let line = |copy: &CopyDocument| match &copy.fault {
        None => format!("{}: has all, {} sent\n", copy.host, copy.sent),
        Some(fault) => format!("{}: no copy: {fault}\n", copy.host),
    };
    all.iter().map(line).collect()
}
