//! The socket in the file system: made for its owner only, never taken from a process that lives.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Two processes that start at a time look for the other's socket one after the other. It takes
/// microseconds; who takes longer is stuck.
const TURN: Duration = Duration::from_secs(1);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process answers there.
    #[error("another apiproxy{} listens there", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Taken {
        /// Which, as far as the kernel tells.
        pid: Option<i32>,
    },
    /// Something else has the name.
    #[error("it exists and is not a socket: remove it, or choose another path")]
    NotASocket,
    /// The folder cannot be made.
    #[error("cannot make the folder {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("{0}")]
    Socket(#[from] io::Error),
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Makes the folder of a socket, mode 0700, if it is missing and can be made: what cannot is told by
/// [`claim`].
pub fn make_folder(path: &Path) {
    let _told_later = DirBuilder::new().recursive(true).mode(0o700).create(folder_of(path));
}

/// Makes the socket, mode 0600, in a folder that is made with mode 0700 if it is missing. The socket
/// of a process that has died is replaced, that of one that lives is not. Blocks for a second at most.
///
/// # Errors
/// See [`ClaimError`]; what was there is there still.
pub fn claim(path: &Path) -> Result<UnixListener, ClaimError> {
    let folder = folder_of(path);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| ClaimError::Folder { folder: folder.to_owned(), source })?;
    let _turn = wait_for_turn(folder)?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
        Ok(found) if !found.file_type().is_socket() => return Err(ClaimError::NotASocket),
        Ok(_) => match UnixStream::connect(path) {
            Ok(stream) => return Err(ClaimError::Taken { pid: pid_of(&stream) }),
            // Nobody listens: whoever did is dead. Its file is replaced below.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A full queue, or no right to ask: somebody may live.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(ClaimError::Taken { pid: None });
            }
            Err(error) => return Err(error.into()),
        },
    }
    // Made under another name, so that nobody can connect before its mode is right.
    let mut making = path.as_os_str().to_owned();
    making.push(format!(".{}", std::process::id()));
    let making = PathBuf::from(making);
    match fs::remove_file(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&making)?;
    let named = fs::set_permissions(&making, Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&making, path));
    if let Err(error) = named {
        // What is left of it is in nobody's way, and is removed by the next try.
        let _ = fs::remove_file(&making);
        return Err(error.into());
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Locks the folder itself, so that no file is left.
fn wait_for_turn(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    let end = Instant::now() + TURN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn pid_of(stream: &UnixStream) -> Option<i32> {
    let peer = rustix::net::sockopt::socket_peercred(stream).ok()?;
    Some(peer.pid.as_raw_nonzero().get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/control.sock");
        let listener = claim(&path).unwrap();
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left over"
        );
        drop(listener);
    }

    #[test]
    fn the_dead_are_replaced_and_the_living_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let living = claim(&path).unwrap();
        let error = claim(&path).unwrap_err();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(error, ClaimError::Taken { pid: Some(pid) } if pid == own), "{error}");
        UnixStream::connect(&path).unwrap();
        drop(living);
        let _heir = claim(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn of_many_that_start_at_a_time_one_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let claims: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                thread::spawn(move || claim(&path))
            })
            .collect();
        let claims: Vec<_> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
        assert_eq!(claims.iter().filter(|claim| claim.is_ok()).count(), 1, "{claims:?}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(claim(&path), Err(ClaimError::NotASocket)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let error = claim(&path.join("x/control.sock")).unwrap_err();
        assert!(matches!(error, ClaimError::Folder { .. }), "{error}");
    }
}
