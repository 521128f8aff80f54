//! The snapshot and all that goes with it, checked and put into the folder as one bundle.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::TakeError;
use crate::bootstrap::backup::bundle::{self, Content, Ingredient, Summed};
use crate::bootstrap::backup::clock::rfc3339;
use crate::bootstrap::backup::contents::{Contents, check_sum};
use crate::bootstrap::backup::depot::{Depot, Locked};
use crate::bootstrap::backup::etcdctl::{Etcdctl, EtcdctlError, snapshot_status};
use crate::bootstrap::backup::manifest::{FORMAT, Label, Manifest, MemberNote, SNAPSHOT};
use crate::bootstrap::backup::name::BackupName;
use crate::bootstrap::backup::seal::Identities;
use crate::bootstrap::backup::settings::Settings;
use crate::bootstrap::members::Status;

fn at(path: &Path) -> impl Fn(io::Error) -> TakeError + '_ {
    move |source| TakeError::Io { path: path.to_owned(), source }
}

/// Takes a backup of this host's member; what the user should know of it beside.
pub(super) fn pack(
    settings: &Settings,
    depot: &Depot,
    locked: &Locked,
    control: &Etcdctl,
    status: &Status,
) -> Result<(Label, Vec<String>), TakeError> {
    let mut warnings = Vec::new();
    // The snapshot, the bundle that holds it, and what is small.
    depot.require(status.size.saturating_mul(2))?;
    let work = depot.work(locked)?;
    let snapshot = work.join("snapshot.db");
    control.save(&snapshot, status.size)?;
    let contents = read(&snapshot, &mut warnings)?;
    let (mut ingredients, missing) = ingredients(settings)?;
    let content = Content::File(snapshot.clone());
    ingredients.insert(0, Ingredient { path: SNAPSHOT.to_owned(), content });
    let name = BackupName::new(&settings.cluster, SystemTime::now(), contents.revision);
    let parts = ingredients.iter().map(Ingredient::measure).collect::<io::Result<_>>();
    let manifest = Manifest {
        format: FORMAT,
        taken: rfc3339(name.seconds),
        name,
        host: settings.host.clone(),
        cluster_id: format!("{:x}", status.cluster),
        etcd_version: status.version.clone(),
        kubernetes_version: settings.kubernetes_version.clone(),
        members: members(control, &mut warnings),
        contents,
        parts: parts.map_err(at(&work))?,
        missing,
    };
    if settings.recipients.is_empty() {
        let why = "it is not encrypted, and holds the keys of the cluster: name recipients in \
                   `etcd.backup.recipients`";
        warnings.push(why.to_owned());
    }
    let label = write(settings, &work.join("bundle"), manifest, &ingredients)?;
    depot.adopt(&label, &work.join("bundle"))?;
    fs::remove_file(&snapshot).map_err(at(&snapshot))?;
    Ok((label, warnings))
}

/// Reads the snapshot with our own eyes and with etcd's.
fn read(snapshot: &Path, warnings: &mut Vec<String>) -> Result<Contents, TakeError> {
    let file = File::open(snapshot).map_err(at(snapshot))?;
    check_sum(&file)?;
    let contents = Contents::of(&file)?;
    match snapshot_status(snapshot) {
        Ok(theirs) if (theirs.hash, theirs.revision) == (contents.hash, contents.revision) => {}
        Ok(theirs) => {
            return Err(TakeError::Unlike(format!(
                "etcd's tool reads revision {} and hash {}, and we read {} and {}",
                theirs.revision, theirs.hash, contents.revision, contents.hash
            )));
        }
        // etcdctl of 3.6 without etcdutl.
        Err(EtcdctlError::Failed { said, .. }) if said.contains("unknown") => {
            warnings.push("this host has no etcdutl to read the snapshot with as well".to_owned());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(contents)
}

/// The files that go with it, and those that are missing though they are required.
fn ingredients(settings: &Settings) -> Result<(Vec<Ingredient>, Vec<String>), TakeError> {
    let (mut all, mut missing) = (Vec::new(), Vec::new());
    for wanted in &settings.files {
        match fs::read(&wanted.file) {
            Ok(bytes) => {
                let (path, content) = (wanted.path.clone(), Content::Bytes(bytes));
                all.push(Ingredient { path, content });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if wanted.required {
                    missing.push(wanted.file.display().to_string());
                }
            }
            Err(source) => return Err(TakeError::Io { path: wanted.file.clone(), source }),
        }
    }
    Ok((all, missing))
}

/// Without a quorum nobody can say who is in it; the backup counts all the more then.
fn members(control: &Etcdctl, warnings: &mut Vec<String>) -> Vec<MemberNote> {
    let members = control.members().unwrap_or_else(|error| {
        warnings.push(format!("the members are not in it: {error}"));
        crate::bootstrap::members::Members::default()
    });
    let note = |member: crate::bootstrap::members::Member| MemberNote {
        name: member.name,
        id: format!("{:x}", member.id),
        peer_urls: member.peer_urls,
        learner: member.learner,
    };
    members.list.into_iter().map(note).collect()
}

fn write(
    settings: &Settings,
    path: &Path,
    manifest: Manifest,
    ingredients: &[Ingredient],
) -> Result<Label, TakeError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let out = Summed::new(BufWriter::with_capacity(256 << 10, file.map_err(at(path))?));
    let mut out = bundle::write(out, &manifest, ingredients, &settings.recipients)?;
    out.flush().map_err(at(path))?;
    let (size, sha256) = (out.len(), out.sum());
    let encrypted = !settings.recipients.is_empty();
    if !encrypted {
        // Part by part; one that is encrypted can only be read by its recipients.
        let file = File::open(path).map_err(at(path))?;
        bundle::read(file, false, &Identities::default(), &mut |_, _, _| Ok(()))?;
    }
    Ok(Label { size, sha256, encrypted, manifest })
}
