//! A folder for what a command fetches or makes for a while, for its user alone. One that a killed run has left is taken away by
//! the next: it may hold all that a cluster keeps secret.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So old must a folder be that nobody seems to use: one that is just made is not locked yet.
const SETTLED: Duration = Duration::from_mins(1);

/// It is gone when this is dropped, even if what was killed a moment ago still wrote into it.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    /// Held as long as the folder is used.
    _lock: File,
}

impl Scratch {
    /// One in the system's folder for temporary files; those before it that nobody uses any more are removed.
    ///
    /// # Errors
    /// If none can be made.
    pub fn new(prefix: &str) -> io::Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent, prefix, SETTLED);
        Self::within(&parent, prefix)
    }

    fn within(parent: &Path, prefix: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        let lock = File::open(folder.path())?;
        lock.lock()?;
        Ok(Self { folder: folder.keep(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for _ in 0..40 {
            match fs::remove_dir_all(&self.folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(25));
                }
                _ => return,
            }
        }
    }
}

/// What cannot be removed stays: it is in nobody's way.
fn sweep(parent: &Path, prefix: &str, settled: Duration) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        if ours && is_left(&entry.path(), settled) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_left(folder: &Path, settled: Duration) -> bool {
    let Ok(found) = fs::symlink_metadata(folder) else { return false };
    let age = found.modified().ok().and_then(|time| time.elapsed().ok());
    let own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    let lock = File::open(folder).map(|folder| folder.try_lock().is_ok());
    own && age.is_some_and(|age| age >= settled) && lock.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let used = Scratch::within(parent.path(), "apiproxy-x-").unwrap();
        for name in ["apiproxy-x-left", "apiproxy-y-other"] {
            fs::create_dir(parent.path().join(name)).unwrap();
            fs::write(parent.path().join(name).join("snapshot.db"), "secret").unwrap();
        }
        sweep(parent.path(), "apiproxy-x-", SETTLED);
        assert!(parent.path().join("apiproxy-x-left").exists(), "it is too young to be judged");
        sweep(parent.path(), "apiproxy-x-", Duration::ZERO);
        assert!(!parent.path().join("apiproxy-x-left").exists());
        assert!(parent.path().join("apiproxy-y-other").exists() && used.path().exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
