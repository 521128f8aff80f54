//! `etcd restore`: etcd is brought back from a backup, or from the data of one member.

mod choose;
mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::drill::identity_of;
use crate::bootstrap::backup::{BackupName, Opened};
use crate::bootstrap::engine::StepError;
use crate::bootstrap::restore::{BUMP, Leaving, Restore, Source};
use crate::bootstrap::scratch::Scratch;
use crate::bootstrap::spec::{Cluster, Draft, Host, Loaded, Topology};
use crate::bootstrap::steps::documents::Rendered;
use crate::bootstrap::steps::restore::{self, Restoring, Snapshot};
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::steps::{self, remove};
use crate::cli::bootstrap::access::{Form, Site, Whole, inputs, load};
use crate::cli::bootstrap::file::Writing;
use crate::cli::bootstrap::job::{
    Consent, Ending, Job, Question, conclude, interrupts, unless_ended,
};
use crate::cli::{CliError, output, runtime};

/// Flags of `etcd restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The newest backup is taken that is whole, from a host or a bucket (`spec.etcd.backup.s3`, which is asked from
here and needs none of the hosts). It is fetched, opened and compared with its label before anything stops;
one that is damaged gives way to the one before it. The plan is shown first: what stops, what is lost, on
which hosts. Where etcd still has a quorum, the cluster's name is asked for.

Then: the hosts are prepared, and asked whether they have the tool and the room; apiservers,
controller-managers and schedulers stop; etcd stops, and its data are moved aside (/var/lib/etcd/before-*,
never deleted); it is restored with a revision so much greater that nobody takes an old one for a new one.
An external etcd is restored on every member from the same snapshot as a new cluster, and hashes are
compared. A stacked one is restored on one control plane, which comes back alone; the others are reset (what
they had in /etc/kubernetes is kept beside the restore) and join it as new ones do, and every proxy learns of
those that there are. Then kubelets come back, Nodes of hosts that are gone are taken away, and a backup is
taken. A host that carries etcd and does not answer is replaced by a spare of the file that does.

A run that was cut off goes on when the same command is run again: the hosts remember it. With external etcd
the machine needs the key of etcd's authority (~/.local/state/apiproxy/NAME/pki).

Examples:
  apiproxy bootstrap etcd restore                              # the newest backup
  apiproxy bootstrap etcd restore --before 2026-12-01T06:00:00Z
  apiproxy bootstrap etcd restore --identity key.txt --write   # encrypted; spares go into the file
  apiproxy bootstrap etcd restore --place e1=s1                # s1 takes the place of e1, which lives
  apiproxy bootstrap etcd restore --place cp1=s1 --place cp2=s2 --place cp3=s3
  apiproxy bootstrap etcd restore --from-member e2             # no quorum, and e2 has its data

Exit 0 when etcd runs again and a backup of it was taken, 1 when something is not done, 2 when a name or
the cluster file is wrong.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    whole: Whole,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    file: Writing,
    /// The backup [default: the newest that is whole and intact].
    name: Option<BackupName>,
    /// The newest one that was taken before this time, such as 2026-12-01T06:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "name")]
    before: Option<SystemTime>,
    /// From the data of the member on this host, in place of a backup.
    #[arg(long, value_name = "HOST", conflicts_with_all = ["name", "before"])]
    from_member: Option<String>,
    /// This spare takes the place of this etcd host; repeat for more.
    #[arg(long, value_name = "OLD=SPARE", value_parser = pair)]
    place: Vec<(String, String)>,
    /// A private key of age, if the backup is encrypted; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Begin anew, though another restore is under way.
    #[arg(long)]
    anew: bool,
}

fn time(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| "it is a time in UTC such as 2026-12-01T06:00:00Z".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.into(), new.into())),
        _ => Err("it is the name of an etcd host, `=`, and the name of a spare".to_owned()),
    }
}

fn wrong(error: impl std::fmt::Display) -> CliError {
    CliError::Usage(error.to_string())
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let said = load(args.whole.file())?;
    let before = Arc::new(said.cluster.clone());
    // A wrong name is told before any host is reached.
    let places = places::asked(&before, &args.place).map_err(wrong)?;
    let asked = draft(&said, &places)?;
    if args.file.file_only {
        return asked
            .map_or(Ok(()), |(_, draft)| args.file.show(args.whole.form(), &draft).map(drop));
    }
    // What a backup needs at the end is looked at before anything stops.
    inputs(&said)?;
    args.consent.can_be_had()?;
    let begin = Instant::now();
    let folder = Scratch::new("apiproxy-restore-").map_err(failed)?;
    let mut site = args.whole.open(Arc::clone(&before), said.sources(), "etcd-restore")?;
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let mut interrupts = interrupts()?;
        let work = job(args, &mut site, &said, folder.path());
        let (job, stays) = unless_ended(&mut interrupts, work).await?;
        let ending = job.carry_out(&site, &args.consent, &mut interrupts).await?;
        if site.form == Form::Text {
            output::emit(&last_words(ending, begin.elapsed(), stays.as_deref()))?;
        }
        Ok(())
    });
    // What still reads a large file must not keep the user waiting.
    runtime.shutdown_background();
    conclude(&site, result)
}

fn is_member(cluster: &Cluster, name: &str) -> bool {
    cluster.etcd_hosts().any(|host| host.name == name)
}

fn last_words(ending: Ending, time: Duration, stays: Option<&str>) -> String {
    let mut text = match ending {
        Ending::Nothing => "Nothing to do.\n".to_owned(),
        Ending::Shown => String::new(),
        Ending::Applied => format!(
            "etcd is restored and runs, after {:.0} s. `apiproxy bootstrap apply` brings the rest into line \
             with the file; `apiproxy bootstrap status` shows how it is.\n",
            time.as_secs_f64()
        ),
    };
    text.extend(stays.map(|stays| format!("{stays}\n")));
    text
}

/// What is to be done; with what the user has to know at the end.
async fn job(
    args: &Args,
    site: &mut Site,
    said: &Loaded,
    folder: &std::path::Path,
) -> Result<(Job, Option<String>), CliError> {
    let before = Arc::clone(&site.cluster);
    let before = &before;
    let names: Vec<_> = site.cx.hosts.keys().cloned().collect();
    let away = remove::unreachable(&site.cx, names.iter().map(String::as_str)).await;
    let mut away = away.map_err(failed)?;
    let found = restore::under_way(&site.cx).await;
    let found = if args.anew { found.unwrap_or_default() } else { found.map_err(failed)? };
    // The one that was begun last.
    let known = found.values().max_by(|one, other| one.id.cmp(&other.id));
    let known = known.filter(|_| !args.anew).cloned();
    if let Some(known) = &known {
        choose::must_be_asked(args, known)?;
    } else if let Some(host) = args.from_member.as_ref().filter(|name| !is_member(before, name)) {
        return Err(wrong(format!("{host} is no etcd host of the file")));
    }
    let remembered = remembered(before, &found);
    away.extend(reach_remembered(site, &remembered).await?);
    let chosen = choose::source(args, site, known.as_ref(), folder).await?;
    let places = match &known {
        Some(known) => known.leaving.iter().map(|(old, l)| (old.clone(), l.by.clone())).collect(),
        None => places::chosen(before, &args.place, &away).map_err(failed)?,
    };
    let drafted = draft(said, &places)?;
    let (after, draft) = match drafted {
        Some((after, draft)) => (Arc::new(after), Some(draft)),
        None => (Arc::clone(before), None),
    };
    if let Some(draft) = &draft {
        args.file.show(site.form, draft)?;
        site.sources = draft.sources();
    }
    let lost: Vec<_> = after.etcd_hosts().filter_map(|host| away.get(&host.name)).collect();
    if let Some(lost) = lost.first() {
        let how = if known.is_some() {
            "give --anew with --place and a spare that takes its place"
        } else {
            "name a spare that takes its place with --place"
        };
        return Err(failed(format!("{lost}; {how}, or bring it back")));
    }
    let mut leaving = BTreeMap::new();
    for (old, new) in &places {
        let Some(host) = remembered.get(old).or_else(|| before.host(old)) else {
            return Err(failed(format!(
                "the file names {old} no more, and no host remembers a restore in which {new} takes its place: \
                 if that is over, leave --place out; if not, put {old} into the file again"
            )));
        };
        leaving.insert(old.clone(), Leaving { address: host.address, by: new.clone() });
    }
    let restore = match &known {
        Some(known) => known.clone(),
        None => begun(site, &after, &chosen, leaving).await.map_err(failed)?,
    };
    let mut notes = chosen.notes;
    notes.extend(notes_of(known.as_ref(), &restore, &away, before));
    let mut question = Question::Yes("Restore it so?");
    if known.is_none()
        && let Some(host) = restore::quorum(&site.cx, before).await
    {
        notes.push(format!(
            "etcd has a quorum ({host} answers): nothing is lost yet, and what was written since is thrown away."
        ));
        question = Question::Name(before.name.clone());
    }
    let made = restore::made_everywhere(&site.cx).await;
    let leaving = stopping_for_good(before, &after, &restore, &found, &remembered, &away);
    if restore.new_authority {
        notes.push(format!(
            "The key of etcd's authority is not here ({}): etcd gets a new authority, and all \
             certificates of it are made anew.",
            site.keys.place()
        ));
    }
    for name in away.keys() {
        site.cx.hosts.remove(name);
    }
    let given_up = found.keys().filter_map(|name| after.host(name)).cloned().collect();
    let restoring = Arc::new(Restoring {
        cluster: Arc::clone(&after),
        shared: Shared::new(Arc::clone(&after), Arc::new(Rendered)),
        restore,
        snapshot: chosen.snapshot,
        files: chosen.files,
        away: away.into_keys().collect(),
        leaving,
        made,
        given_up,
    });
    restore::usable(&site.cx, &restoring).await.map_err(failed)?;
    let ordinary = steps::hosts::steps(&after, std::path::Path::new("/proc/self/exe"));
    let steps = restore::steps(&restoring, &site.keys, ordinary, &site.sources);
    site.cluster = after;
    let stays = draft.as_ref().and_then(|draft| stays(args, draft));
    notes.extend(stays.clone());
    let job = Job::new(site, "apiproxy bootstrap etcd restore", &steps)?;
    let draft = draft.and_then(|draft| args.file.wanted(&draft));
    Ok((Job { notes, draft, question, guarded: None, ..job }, stays))
}

/// A restore that begins now.
async fn begun(
    site: &Site,
    after: &Cluster,
    chosen: &Chosen,
    leaving: BTreeMap<String, Leaving>,
) -> Result<Restore, StepError> {
    let begun = Restore::new(&after.name, chosen.source.clone(), leaving, SystemTime::now());
    if after.topology == Topology::External {
        let authority = site.keys.certificate(&site.cx).await?;
        return Ok(Restore { new_authority: authority.is_none(), ..begun });
    }
    let (member, etcd_version) = match &begun.source {
        Source::Member(host) => (Some(host.as_str()), restore::version_of(&site.cx, host).await?),
        Source::Backup(_) => (None, chosen.etcd_version.clone()),
    };
    let first = restore::choose_first(&site.cx, after, &begun.leaving, member).await?;
    Ok(Restore { first, etcd_version, ..begun })
}

fn stays(args: &Args, draft: &Draft) -> Option<String> {
    args.file.note(draft, "until then `apply` would look for etcd on the hosts that are gone")
}

fn notes_of(
    known: Option<&Restore>,
    restore: &Restore,
    away: &BTreeMap<String, String>,
    before: &Cluster,
) -> Vec<String> {
    let mut notes = Vec::new();
    if known.is_some() {
        notes.push(format!("The restore {} was cut off: it is gone on with.", restore.id));
    }
    notes.extend(restore.first.as_ref().map(|first| {
        format!(
            "etcd and its control plane come back on {first}; until then no kube-apiserver runs. Other control \
             planes are reset and join it: their pods are started anew."
        )
    }));
    for (old, Leaving { by, .. }) in &restore.leaving {
        notes.push(if away.contains_key(old) {
            format!(
                "{old} does not answer: {by} takes its place. Should {old} come back, its etcd is a stranger \
                 to the new cluster; reset it before it is used again."
            )
        } else {
            format!("{by} takes the place of {old}, whose etcd stops for good.")
        });
    }
    let others = before.hosts.iter().map(|host| &host.name).filter(|name| away.contains_key(*name));
    let others: Vec<_> = others.filter(|name| !restore.leaving.contains_key(*name)).collect();
    for name in others {
        notes.push(format!("{name} does not answer and is left alone."));
    }
    notes.push(format!(
        "All revisions grow by {BUMP} and older ones count as compacted: who watched before lists anew."
    ));
    notes
}

/// The hosts that the file does not name any more, since a restore that is under way wrote it.
fn remembered(before: &Cluster, found: &BTreeMap<String, Restore>) -> BTreeMap<String, Host> {
    let leaving = found.values().flat_map(|restore| &restore.leaving);
    let host = |(name, Leaving { address, .. }): (&String, &Leaving)| {
        let extra = remove::Extra {
            name: name.clone(),
            address: Some(*address),
            is_etcd_host: true,
            ..remove::Extra::default()
        };
        Some((name.clone(), extra.host(before)?))
    };
    leaving.filter(|(name, _)| before.host(name).is_none()).filter_map(host).collect()
}

/// Makes a way to them; comes back with those that do not answer.
async fn reach_remembered(
    site: &mut Site,
    remembered: &BTreeMap<String, Host>,
) -> Result<BTreeMap<String, String>, CliError> {
    for host in remembered.values() {
        site.reach_too(host);
    }
    let names = remembered.keys().map(String::as_str);
    remove::unreachable(&site.cx, names).await.map_err(failed)
}

/// The hosts whose etcd stops for good, and that answer: those whose places others take, and all that a
/// restore in whose place this one is had begun to change.
fn stopping_for_good(
    before: &Cluster,
    after: &Cluster,
    restore: &Restore,
    found: &BTreeMap<String, Restore>,
    remembered: &BTreeMap<String, Host>,
    away: &BTreeMap<String, String>,
) -> Vec<Host> {
    let mut names = BTreeSet::new();
    for restore in found.values().chain([restore]) {
        names.extend(restore.leaving.keys());
        names.extend(restore.leaving.values().map(|leaving| &leaving.by));
        names.extend(&restore.first);
    }
    let stops = |name: &&String| !is_member(after, name) && !away.contains_key(*name);
    let host = |name: &String| before.host(name).or_else(|| remembered.get(name)).cloned();
    names.into_iter().filter(stops).filter_map(host).collect()
}

/// The cluster and the file in which spares have the places of others; none if nothing changes.
fn draft(said: &Loaded, places: &[(String, String)]) -> Result<Option<(Cluster, Draft)>, CliError> {
    if places.is_empty() {
        return Ok(None);
    }
    let (after, pairs) = places::applied(&said.cluster, places).map_err(wrong)?;
    match Draft::with_replacements(said, &after, &pairs) {
        Ok(draft) => Ok(Some((after, draft))),
        Err(error) => Err(wrong(error)),
    }
}

/// What a restore is made of.
struct Chosen {
    source: Source,
    snapshot: Snapshot,
    files: Vec<(String, Vec<u8>)>,
    /// The version of the etcd that a backup is of.
    etcd_version: Option<String>,
    notes: Vec<String>,
}

impl Chosen {
    fn of_backup(opened: Opened, path: PathBuf, notes: Vec<String>) -> Self {
        let Opened { manifest, files } = opened;
        let source = Source::Backup(manifest.name);
        let etcd_version = Some(manifest.etcd_version);
        let snapshot = Snapshot::of_backup(path, manifest.contents);
        Self { source, snapshot, files, etcd_version, notes }
    }
}

/// The private keys that are given.
fn identities(args: &Args) -> Result<crate::bootstrap::backup::Identities, CliError> {
    identity_of(args.identity.as_deref())
}
