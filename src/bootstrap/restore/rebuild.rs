//! The data of one member are made anew from a snapshot, on its own host: by etcd's own tool, beside the
//! place where they belong, compared with what they should be, and put there as a whole.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bump::{BUMP, BumpError, bump};
use super::tool::{self, Tool, words};
use crate::bootstrap::backup::{Contents, ContentsError};

/// The file beside a member's data that says which restore they are of. etcd passes over it.
pub const MARK: &str = "apiproxy-restore";

/// What a host is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The restore.
    pub id: String,
    /// The snapshot on this host.
    pub snapshot: PathBuf,
    /// Has it etcd's SHA-256 behind it? A database that was copied has none.
    pub summed: bool,
    /// SHA-256 of all keys and values in it, as `Contents` has it.
    pub digest: String,
    /// How many keys there are.
    pub keys: u64,
    /// The newest revision in it.
    pub revision: i64,
    /// The member's name.
    pub name: String,
    /// What the others call it by.
    pub peer_url: String,
    /// All members of the new cluster, as etcd is told them.
    pub initial_cluster: String,
    /// The token of the new cluster.
    pub token: String,
    /// The folder of a member's data; what is in `member` there must have been moved aside.
    pub data: PathBuf,
    /// Whom the data belong to, and its group.
    pub owner: Option<String>,
    /// What restores them.
    #[serde(flatten)]
    pub etcd: Etcd,
}

/// For which etcd data are made: by default for the one that is a program of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Etcd {
    /// Versions whose tool may do it, such as that of the etcd which the snapshot is of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// The image that it runs from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// What a host will be asked to do: can it?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trial {
    /// What restores the data, if they are restored there.
    pub etcd: Option<Etcd>,
    /// Folders, which need not be there, and how many bytes each has to take.
    pub room: Vec<(PathBuf, u64)>,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebuilt {
    /// The revision of the new data.
    pub revision: i64,
    /// The tool that restored them: `etcdutl`.
    pub tool: String,
    /// Did it make the revision greater itself?
    pub tool_bumps: bool,
}

/// Why the data were not made. What was there before is where it was.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// A program failed, or is not there.
    #[error("{0}")]
    Program(String),
    /// There are data where the new ones belong.
    #[error("there are data of another member in {0}; they were to be moved aside first")]
    Occupied(PathBuf),
    /// There is no room for them.
    #[error("{folder} has {free} MiB free, and {needed} MiB are needed")]
    Full {
        /// The folder.
        folder: PathBuf,
        /// What is free, in MiB.
        free: u64,
        /// What is needed, in MiB.
        needed: u64,
    },
    /// They are not what they should be.
    #[error("what was restored is not what is in the snapshot: {0}")]
    Unlike(String),
    /// The database cannot be read.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// Its revision cannot be made greater.
    #[error("its revision cannot be made greater: {0}")]
    Bump(#[from] BumpError),
    /// A file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Makes the data of a member. Those that were made by an earlier run of the same restore are left.
///
/// # Errors
/// If they cannot be made.
pub fn rebuild(order: &Order) -> Result<Rebuilt, RebuildError> {
    let tool = Tool::find(&order.etcd.versions, order.etcd.image.as_deref())?;
    let member = order.data.join("member");
    let made = |revision| Rebuilt { revision, tool: tool.name.to_owned(), tool_bumps: tool.bumps };
    match fs::read_to_string(member.join(MARK)) {
        Ok(id) if id.trim() == order.id => return Ok(made(order.revision + BUMP)),
        _ if member.exists() => return Err(RebuildError::Occupied(order.data.clone())),
        _ => {}
    }
    let work = order.data.join(format!("restoring-{}", order.id));
    match fs::remove_dir_all(&work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&order.data)?;
    restore(order, &tool, &work)?;
    let database = work.join("member/snap/db");
    if !tool.bumps {
        bump(&database, BUMP)?;
    }
    let revision = compare(order, &database)?;
    fs::write(work.join("member").join(MARK), format!("{}\n", order.id))?;
    if let Some(owner) = &order.owner {
        let folder = work.display().to_string();
        let (ok, said) = tool::run(&words(&["chown", "-R", &format!("{owner}:{owner}"), &folder]))?;
        if !ok {
            return Err(RebuildError::Program(said));
        }
    }
    // Nothing of it may be lost when the power goes.
    tool::run(&words(&["sync", "-f", &database.display().to_string()]))?;
    fs::rename(work.join("member"), &member)?;
    File::open(&order.data)?.sync_all()?;
    fs::remove_dir_all(&work)?;
    Ok(made(revision))
}

fn restore(order: &Order, tool: &Tool, work: &Path) -> Result<(), RebuildError> {
    let all = arguments(order, tool, work);
    let mut folders = vec![order.data.display().to_string()];
    folders.extend(order.snapshot.parent().map(|folder| folder.display().to_string()));
    let (ok, said) = tool::run(&tool.command(&all, &folders))?;
    if ok {
        return Ok(());
    }
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let (name, last) = (tool.name, last.trim_start_matches("Error: "));
    Err(RebuildError::Program(format!("`{name} snapshot restore` failed: {last}")))
}

/// What the tool is told.
fn arguments(order: &Order, tool: &Tool, work: &Path) -> Vec<String> {
    let (snapshot, folder) = (order.snapshot.display().to_string(), work.display().to_string());
    let by = BUMP.to_string();
    let mut all = vec!["snapshot", "restore", &snapshot, "--data-dir", &folder];
    all.extend(["--name", &order.name, "--initial-cluster", &order.initial_cluster]);
    all.extend(["--initial-cluster-token", &order.token]);
    all.extend(["--initial-advertise-peer-urls", &order.peer_url]);
    if tool.bumps {
        all.extend(["--bump-revision", &by, "--mark-compacted"]);
    }
    if !order.summed {
        all.push("--skip-hash-check");
    }
    words(&all)
}

/// Could the data be made here? The tool is looked for, and the room.
///
/// # Errors
/// If not.
pub fn rehearse(trial: &Trial) -> Result<(), RebuildError> {
    if let Some(etcd) = &trial.etcd {
        Tool::find(&etcd.versions, etcd.image.as_deref())?;
    }
    room(&trial.room)
}

/// Folders on one file system share its room.
fn room(folders: &[(PathBuf, u64)]) -> Result<(), RebuildError> {
    let mut wanted: Vec<(u64, u64, PathBuf, u64)> = Vec::new();
    for (folder, bytes) in folders {
        // One that is not there yet will be where its nearest parent is.
        let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        let stat = rustix::fs::statvfs(there).map_err(io::Error::from)?;
        let device = fs::metadata(there)?.dev();
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        match wanted.iter_mut().find(|(known, ..)| *known == device) {
            Some((.., all)) => *all = all.saturating_add(*bytes),
            None => wanted.push((device, free, folder.clone(), *bytes)),
        }
    }
    match wanted.into_iter().find(|(_, free, _, needed)| free < needed) {
        None => Ok(()),
        Some((_, free, folder, needed)) => {
            let (free, needed) = (free >> 20, needed.div_ceil(1 << 20));
            Err(RebuildError::Full { folder, free, needed })
        }
    }
}

/// Is every key there, and is the revision greater? The revision.
fn compare(order: &Order, database: &Path) -> Result<i64, RebuildError> {
    let found = Contents::of(&File::open(database)?)?;
    if (&found.digest, found.keys) != (&order.digest, order.keys) {
        let (found, wanted) = (found.keys, order.keys);
        return Err(RebuildError::Unlike(format!("{found} keys in place of {wanted}")));
    }
    if found.revision < order.revision + BUMP {
        let (found, wanted) = (found.revision, order.revision + BUMP);
        return Err(RebuildError::Unlike(format!("revision {found} in place of {wanted}")));
    }
    Ok(found.revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_told_with_the_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let told = |bytes| {
            let both = [(folder.path().join("a/b"), bytes), (folder.path().to_owned(), bytes)];
            room(&both).map_err(|error| error.to_string())
        };
        assert_eq!(told(1), Ok(()));
        let said = told(u64::MAX / 4).unwrap_err();
        assert!(said.contains("a/b has ") && said.ends_with(" MiB are needed"), "{said}");
    }
}
