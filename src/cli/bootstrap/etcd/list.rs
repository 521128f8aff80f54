//! `etcd list` and `etcd verify`: every backup, what is in it, and how its copies are.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde::Serialize;

use crate::bootstrap::backup::fleet::{self, Copy, Depth, Fleet, Place};
use crate::bootstrap::backup::{BackupName, Label};
use crate::bootstrap::spec::Cluster;
use crate::cli::bootstrap::access::{Access, Form};
use crate::cli::bootstrap::job::{interrupts, unless_ended};
use crate::cli::{CliError, output, runtime};

/// Flags of `etcd list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Hosts are asked over ssh, a bucket (`spec.etcd.backup.s3`) from here: it needs none of the hosts.
Exit 1 if a place that should have copies gave no answer.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
}

/// Flags of `etcd verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each host reads its own copies from its disk; those in a bucket are read from here, all of them unless NAME
is given. That a backup can be restored shows `etcd drill`.
Exit 1 if a copy is not intact, is missing where it should be named, or a place gave no answer.")]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    access: Access,
    /// Only this backup [default: all].
    name: Option<BackupName>,
}

/// The document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    backups: Vec<Entry<'a>>,
    silent: Vec<Silent<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    name: String,
    age_seconds: u64,
    label: Option<&'a Label>,
    copies: &'a [Copy],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Silent<'a> {
    #[serde(flatten)]
    place: &'a Place,
    reason: &'a str,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let fleet = survey(&args.access, "etcd-list", Depth::Labels)?;
    show(&fleet, None, args.access.form())?;
    if fleet.silent.is_empty() { Ok(()) } else { Err(CliError::Unwell) }
}

pub(super) fn verify(args: &VerifyArgs) -> Result<(), CliError> {
    let chosen = args.name.as_ref();
    let fleet = survey(&args.access, "etcd-verify", Depth::Everything(chosen))?;
    if let Some(name) = chosen.filter(|name| !fleet.backups.contains_key(name)) {
        return Err(CliError::Failed(format!(
            "nobody has {name}; `apiproxy bootstrap etcd list` shows what there is"
        )));
    }
    show(&fleet, chosen, args.access.form())?;
    let mut copies = entries(&fleet, chosen).flat_map(|(_, copies)| copies);
    let well = copies.all(|copy| copy.stored.is_intact() && copy.stored.is_good());
    if well && fleet.silent.is_empty() { Ok(()) } else { Err(CliError::Unwell) }
}

/// The places of a cluster's backups.
pub(super) fn places(cluster: &Cluster) -> Result<Vec<Place>, CliError> {
    let places = fleet::places(cluster);
    if places.is_empty() {
        let problem = "the cluster has no backups: give it `spec.etcd.backup` and run \
                       `apiproxy bootstrap apply`";
        return Err(CliError::Usage(problem.to_owned()));
    }
    Ok(places)
}

fn survey(access: &Access, command: &str, depth: Depth<'_>) -> Result<Fleet, CliError> {
    let site = access.open(command)?;
    let mut places = places(&site.cluster)?;
    if let Some(chosen) = &site.chosen {
        places.retain(|place| chosen.contains(&place.host));
    }
    let runtime = runtime()?;
    let fleet = runtime.block_on(async {
        let mut interrupts = interrupts()?;
        let work = async { Ok(Fleet::survey(&site.cx, &site.cluster.name, &places, depth).await) };
        unless_ended(&mut interrupts, work).await
    });
    // What still reads a bucket must not keep the user waiting.
    runtime.shutdown_background();
    fleet
}

fn entries<'a>(
    fleet: &'a Fleet,
    chosen: Option<&'a BackupName>,
) -> impl Iterator<Item = (&'a BackupName, &'a Vec<Copy>)> {
    let wanted = move |name: &BackupName| chosen.is_none_or(|chosen| chosen == name);
    fleet.backups.iter().rev().filter(move |(name, _)| wanted(name))
}

fn show(fleet: &Fleet, chosen: Option<&BackupName>, form: Form) -> Result<(), CliError> {
    let now = SystemTime::now();
    match form {
        Form::Json => output::emit_json(&document(fleet, chosen, now)),
        Form::Text => output::emit(&render(fleet, chosen, now)),
    }
}

fn document<'a>(fleet: &'a Fleet, chosen: Option<&'a BackupName>, now: SystemTime) -> Document<'a> {
    let entry = |(name, copies): (&BackupName, &'a Vec<Copy>)| Entry {
        name: name.to_string(),
        age_seconds: name.age(now),
        label: fleet::label(copies),
        copies,
    };
    let silent = fleet.silent.iter().map(|(place, reason)| Silent { place, reason });
    Document { backups: entries(fleet, chosen).map(entry).collect(), silent: silent.collect() }
}

fn render(fleet: &Fleet, chosen: Option<&BackupName>, now: SystemTime) -> String {
    let rows: Vec<_> =
        entries(fleet, chosen).map(|(name, copies)| row(name, copies, now)).collect();
    let mut text = if rows.is_empty() {
        "There are no backups.\n".to_owned()
    } else {
        let header = ["NAME", "AGE", "SIZE", "KEYS", "ETCD", "KUBERNETES", "SEALED", "COPIES"];
        output::table(&header, rows)
    };
    for (name, copies) in entries(fleet, chosen) {
        for copy in copies.iter().filter(|copy| copy.stored.fault.is_some()) {
            let Place { host, folder, .. } = &copy.place;
            let _ = writeln!(text, "{name} on {host} ({folder}): {}", copy.state);
        }
        let missing = fleet::label(copies).map(|label| &label.manifest.missing);
        if let Some(missing) = missing.filter(|missing| !missing.is_empty()) {
            let _ = writeln!(text, "{name} is not whole: {} was missing", missing.join(", "));
        }
    }
    for (place, reason) in &fleet.silent {
        let _ = writeln!(text, "{} gave no answer: {reason}", place.host);
    }
    text
}

fn row(name: &BackupName, copies: &[Copy], now: SystemTime) -> Vec<String> {
    let label = fleet::label(copies);
    let of = |value: fn(&Label) -> String| label.map_or_else(|| "-".to_owned(), value);
    let mark = |copy: &Copy| match (&copy.stored.fault, copy.stored.examined) {
        (Some(_), _) => format!("{}!", copy.place.host),
        (None, true) => format!("{}=", copy.place.host),
        (None, false) => copy.place.host.clone(),
    };
    vec![
        name.to_string(),
        output::age(name.age(now)),
        of(|label| output::bytes(label.size)),
        of(|label| label.manifest.contents.keys.to_string()),
        of(|label| label.manifest.etcd_version.clone()),
        of(|label| label.manifest.kubernetes_version.clone()),
        of(|label| if label.encrypted { "yes" } else { "no" }.to_owned()),
        copies.iter().map(mark).collect::<Vec<_>>().join(","),
    ]
}
