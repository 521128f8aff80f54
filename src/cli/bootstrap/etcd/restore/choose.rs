//! Which data etcd is restored from: the newest backup that proves good, or what one member has.

use std::path::Path;
use std::time::SystemTime;

use super::super::list::places;
use super::{Args, Chosen, failed, identities, wrong};
use crate::bootstrap::backup::fleet::{self, Copy, Depth, FetchError, Fleet};
use crate::bootstrap::backup::{
    BackupName, BucketError, BundleError, Label, OpenError, SealError, open,
};
use crate::bootstrap::restore::{Restore, Source};
use crate::bootstrap::spec::Topology;
use crate::bootstrap::steps::backup::CLUSTER_FILES;
use crate::bootstrap::steps::restore::Snapshot;
use crate::cli::bootstrap::access::Site;
use crate::cli::{CliError, output};

/// Does the user ask for the restore that is under way?
pub(super) fn must_be_asked(args: &Args, known: &Restore) -> Result<(), CliError> {
    let same = match (&args.name, &args.from_member, &known.source) {
        (None, None, _) => args.before.is_none(),
        (Some(name), _, Source::Backup(known)) => name == known,
        (_, Some(host), Source::Member(known)) => host == known,
        _ => false,
    };
    if same {
        return Ok(());
    }
    Err(wrong(format!(
        "a restore of {} is under way ({}); run this without naming another one to finish it, or give \
         --anew to begin this one",
        known.source, known.id
    )))
}

/// Finds the data, and makes sure that they are good.
pub(super) async fn source(
    args: &Args,
    site: &Site,
    known: Option<&Restore>,
    folder: &Path,
) -> Result<Chosen, CliError> {
    let member = match known.map(|known| &known.source) {
        Some(Source::Member(host)) => Some(host),
        Some(Source::Backup(_)) => None,
        None => args.from_member.as_ref(),
    };
    if let Some(host) = member {
        return Ok(Chosen {
            source: Source::Member(host.clone()),
            snapshot: Snapshot::of_member(folder.join("snapshot.db")),
            files: files_of(site, host).await?,
            etcd_version: None,
            notes: vec![format!(
                "What {host} has is taken as it is: a change that only the others had is lost. Its data \
                 are copied first and then moved aside."
            )],
        });
    }
    let wanted = match known.map(|known| &known.source) {
        Some(Source::Backup(name)) => Some(name),
        _ => args.name.as_ref(),
    };
    if let Some(name) = wanted.filter(|name| name.cluster != site.cluster.name) {
        return Err(wrong(format!(
            "{name} is a backup of the cluster {}, and the file is that of {}; name one of its own \
             (`apiproxy bootstrap etcd list`)",
            name.cluster, site.cluster.name
        )));
    }
    let mut places = places(&site.cluster)?;
    places.extend(fleet::of_former_spares(&site.cluster));
    // Hosts that the file does not name any more, since a run before this one wrote it.
    let gone = site.cx.hosts.keys().filter(|name| site.cluster.host(name).is_none());
    places.extend(gone.flat_map(|name| fleet::of_host(&site.cluster, name)));
    let mut fleet = Fleet::survey(&site.cx, &site.cluster.name, &places, Depth::Labels).await;
    let mut passed_over = Vec::new();
    loop {
        let (name, copies) = pick(args, site, &fleet, wanted)?;
        if let Some(mut chosen) = fetch(args, site, name, &copies, folder).await? {
            chosen.notes.extend(passed_over);
            return Ok(chosen);
        }
        let name = name.clone();
        passed_over.push(format!("{name} is newer and is passed over: no copy of it is intact."));
        for copy in fleet.backups.get_mut(&name).into_iter().flatten() {
            if copy.is_usable() {
                copy.stored.fault = Some(DAMAGED.to_owned());
                DAMAGED.clone_into(&mut copy.state);
            }
        }
    }
}

/// What is said of a copy that is not as its label says.
const DAMAGED: &str = "it is damaged: its checksum does not fit";

/// The keys of the cluster as the control plane has them whose data are taken: spares need them.
async fn files_of(site: &Site, host: &str) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let mut files = Vec::new();
    if site.cluster.topology == Topology::External {
        return Ok(files);
    }
    for (path, _) in CLUSTER_FILES {
        let found = site.cx.host(host).map_err(failed)?.read(path).await.map_err(failed)?;
        files.extend(found.map(|found| (path.to_owned(), found.content)));
    }
    Ok(files)
}

/// The copies of a backup that nothing is known against; they are compared when they are fetched.
fn pick<'a>(
    args: &Args,
    site: &Site,
    fleet: &'a Fleet,
    wanted: Option<&BackupName>,
) -> Result<(&'a BackupName, Vec<&'a Copy>), CliError> {
    let ours = |name: &BackupName| name.cluster == site.cluster.name;
    let now = SystemTime::now();
    let early = |name: &BackupName| {
        args.before.is_none_or(|time| name.time() < time) && !name.is_ahead(now)
    };
    let intact = |copies: &'a [Copy]| -> Vec<&'a Copy> {
        copies.iter().filter(|copy| copy.is_usable()).collect()
    };
    let found = match wanted {
        Some(name) => fleet.backups.get_key_value(name).map(|(name, all)| (name, intact(all))),
        None => fleet
            .backups
            .iter()
            .rev()
            .filter(|(name, _)| ours(name) && early(name))
            .map(|(name, copies)| (name, intact(copies)))
            .find(|(_, copies)| copies.iter().any(|copy| copy.stored.is_good())),
    };
    if let Some((name, copies)) = found.filter(|(_, copies)| !copies.is_empty()) {
        return Ok((name, copies));
    }
    let what = match (wanted, args.before) {
        (Some(name), _) => format!("no intact copy of {name} was found"),
        (None, Some(_)) => "no good backup from before that time was found".to_owned(),
        (None, None) => "no good backup was found".to_owned(),
    };
    let mut reasons: Vec<String> = Vec::new();
    for (name, copies) in &fleet.backups {
        let why = if ours(name) { "" } else { " is of another cluster" };
        let of = |copy: &Copy| format!("{name} on {}: {}{why}", copy.place.host, copy.state);
        reasons.extend(copies.iter().map(of));
    }
    reasons.extend(fleet.silent.iter().map(|(_, reason)| reason.clone()));
    let reasons = reasons.iter().fold(String::new(), |all, reason| all + "\n  " + reason);
    Err(CliError::Failed(format!(
        "{what}; put one into the folder of backups of a host that answers, or see --from-member if one \
         member has its data{reasons}"
    )))
}

/// Fetches the first copy that can be had, and opens it. None if all turn out to be damaged.
async fn fetch(
    args: &Args,
    site: &Site,
    name: &BackupName,
    copies: &[&Copy],
    folder: &Path,
) -> Result<Option<Chosen>, CliError> {
    let (bundle, snapshot) = (folder.join("bundle"), folder.join("snapshot.db"));
    let keys = std::sync::Arc::new(identities(args)?);
    let (mut faults, mut damaged) = (Vec::new(), true);
    for copy in copies {
        let Some(label) = &copy.stored.label else { continue };
        if let Err(error) = fleet::fetch(&site.cx, &copy.place, label, &bundle).await {
            damaged &= matches!(&error, FetchError::Bucket(BucketError::Damaged(_)));
            faults.push(error.to_string());
            // The next one begins anew.
            let _ = std::fs::remove_file(&bundle);
            continue;
        }
        let work = {
            let (bundle, snapshot, label) = (bundle.clone(), snapshot.clone(), label.clone());
            let keys = std::sync::Arc::clone(&keys);
            move || open(&bundle, &label, &keys, &snapshot)
        };
        let opened = tokio::task::spawn_blocking(work).await.map_err(failed)?;
        let mut opened = match opened {
            Ok(opened) => opened,
            Err(error) if is_of_keys(&error) => return Err(not_opened(site, name, &error)),
            Err(error) => {
                faults.push(format!("{}: {error}", copy.place.host));
                for file in [&bundle, &snapshot] {
                    let _ = std::fs::remove_file(file);
                }
                continue;
            }
        };
        // Nothing else is ever put back.
        opened.files.retain(|(path, _)| CLUSTER_FILES.iter().any(|(ours, _)| ours == path));
        if site.cluster.topology == Topology::External {
            // The authority of an external etcd is not the backup's to say.
            opened.files.retain(|(path, _)| !path.starts_with("/etc/kubernetes/pki/etcd/"));
        }
        let notes = vec![lost(name, label)];
        return Ok(Some(Chosen::of_backup(opened, snapshot, notes)));
    }
    if damaged {
        return Ok(None);
    }
    Err(CliError::Failed(format!("{name} could not be fetched: {}", faults.join("; "))))
}

/// Does another key open it? Then other copies do not help.
fn is_of_keys(error: &OpenError) -> bool {
    use SealError::{Sealed, WrongIdentity};
    let (OpenError::Bundle(BundleError::Seal(seal)) | OpenError::Keys(seal)) = error else {
        return false;
    };
    matches!(seal, Sealed | WrongIdentity)
}

fn not_opened(site: &Site, name: &BackupName, error: &OpenError) -> CliError {
    let recipients = site.cluster.etcd.backup.as_ref().map(|backup| backup.recipients.join(", "));
    let recipients = recipients.filter(|all| !all.is_empty());
    let recipients = recipients.map(|all| format!(" (the file names {all})")).unwrap_or_default();
    CliError::Failed(format!("{name} cannot be opened: {error}{recipients}"))
}

fn lost(name: &BackupName, label: &Label) -> String {
    let age = output::age(name.age(SystemTime::now()));
    let contents = &label.manifest.contents;
    format!(
        "{name}, taken {age} ago, holds {} keys at revision {}. All that was written since then is lost.",
        contents.keys, contents.revision
    )
}
