//! The data of one member are made anew from a snapshot, on its own host: by etcd's own tool, beside the
//! place where they belong, compared with what they should be, and put there as a whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::bump::{BUMP, BumpError, bump};
use crate::bootstrap::backup::{Contents, ContentsError};

/// The file beside a member's data that says which restore they are of. etcd passes over it.
pub const MARK: &str = "apiproxy-restore";

/// What a host is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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

/// etcd's tool of this host.
struct Tool {
    name: &'static str,
    bumps: bool,
}

fn run(program: &str, words: &[&str]) -> Result<(bool, String), RebuildError> {
    let output = Command::new(program)
        .args(words)
        .env("ETCDCTL_API", "3")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| RebuildError::Program(format!("{program}: {error}")))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// Major and minor of the version that a program prints behind these words.
fn minor(text: &str, before: &str) -> Option<(u32, u32)> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(before))?;
    let mut numbers = line.trim().trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl Tool {
    /// The one that knows how to restore: etcdutl, or etcdctl before 3.6. It has to be of etcd's own
    /// minor version, since each may write data as only its own etcd reads them.
    fn find() -> Result<Self, RebuildError> {
        let etcd = run("etcd", &["--version"])?.1;
        let wanted = minor(&etcd, "etcd Version:");
        let mut faults = Vec::new();
        for name in ["etcdutl", "etcdctl"] {
            let Ok((true, help)) = run(name, &["snapshot", "restore", "--help"]) else {
                faults.push(format!("there is no {name} that can restore"));
                continue;
            };
            let version = run(name, &["version"])?.1;
            let found = minor(&version, &format!("{name} version:"));
            if found == wanted && found.is_some() {
                return Ok(Self { name, bumps: help.contains("--bump-revision") });
            }
            let show = |version: Option<(u32, u32)>| {
                version.map_or("?".to_owned(), |(major, minor)| format!("{major}.{minor}"))
            };
            faults.push(format!("{name} is of {} and etcd of {}", show(found), show(wanted)));
        }
        let faults = faults.join("; ");
        let remedy = "install etcdutl (before 3.6 etcdctl) of the version of etcd";
        Err(RebuildError::Program(format!("{faults}; {remedy}")))
    }
}

/// Makes the data of a member. Those that were made by an earlier run of the same restore are left.
///
/// # Errors
/// If they cannot be made.
pub fn rebuild(order: &Order) -> Result<Rebuilt, RebuildError> {
    let tool = Tool::find()?;
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
    restore(order, &tool, &work)?;
    let database = work.join("member/snap/db");
    if !tool.bumps {
        bump(&database, BUMP)?;
    }
    let revision = compare(order, &database)?;
    fs::write(work.join("member").join(MARK), format!("{}\n", order.id))?;
    if let Some(owner) = &order.owner {
        let folder = work.display().to_string();
        let (ok, said) = run("chown", &["-R", &format!("{owner}:{owner}"), &folder])?;
        if !ok {
            return Err(RebuildError::Program(said));
        }
    }
    // Nothing of it may be lost when the power goes.
    run("sync", &["-f", &database.display().to_string()])?;
    fs::rename(work.join("member"), &member)?;
    File::open(&order.data)?.sync_all()?;
    fs::remove_dir_all(&work)?;
    Ok(made(revision))
}

fn restore(order: &Order, tool: &Tool, work: &Path) -> Result<(), RebuildError> {
    let (snapshot, folder) = (order.snapshot.display().to_string(), work.display().to_string());
    let by = BUMP.to_string();
    let mut words = vec!["snapshot", "restore", &snapshot, "--data-dir", &folder];
    words.extend(["--name", &order.name, "--initial-cluster", &order.initial_cluster]);
    words.extend(["--initial-cluster-token", &order.token]);
    words.extend(["--initial-advertise-peer-urls", &order.peer_url]);
    if tool.bumps {
        words.extend(["--bump-revision", &by, "--mark-compacted"]);
    }
    if !order.summed {
        words.push("--skip-hash-check");
    }
    let (ok, said) = run(tool.name, &words)?;
    if ok {
        return Ok(());
    }
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let (name, last) = (tool.name, last.trim_start_matches("Error: "));
    Err(RebuildError::Program(format!("`{name} snapshot restore` failed: {last}")))
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
    fn versions_are_read_as_programs_print_them() {
        let text = "etcd Version: 3.4.23\nGit SHA: Not provided\n";
        assert_eq!(minor(text, "etcd Version:"), Some((3, 4)));
        let text = "etcdutl version: 3.5.21\nAPI version: 3.5\n";
        assert_eq!(minor(text, "etcdutl version:"), Some((3, 5)));
        assert_eq!(minor("", "etcdutl version:"), None);
    }
}
