//! Socket activation: listeners that systemd has opened before the service starts
//! (`sd_listen_fds(3)`).

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use socket2::SockRef;

/// The sockets that systemd has passed.
#[derive(Debug, Default)]
pub struct Activated {
    /// For clients: all that have no other name.
    pub listeners: Vec<TcpListener>,
    /// `FileDescriptorName=admin`.
    pub admin: Option<TcpListener>,
    /// `FileDescriptorName=control`.
    pub control: Option<UnixListener>,
}

/// A socket that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "socket {number} of socket activation, named {name:?}: {source}\n  clients' sockets and `admin` are TCP \
     (ListenStream=IP:PORT), `control` is a path"
)]
pub struct ActivationError {
    number: usize,
    name: String,
    source: io::Error,
}

/// Takes what systemd has passed to this process, once. None when it was not started so.
///
/// # Errors
/// A socket is of the wrong type or does not listen, or a name is used twice.
pub fn activated() -> Result<Activated, ActivationError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    take(&mut ListenFd::from_env(), &names)
}

fn take(sockets: &mut ListenFd, names: &str) -> Result<Activated, ActivationError> {
    let mut activated = Activated::default();
    let mut names = names.split(':');
    for number in 0..sockets.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let failed = |source| ActivationError { number, name: name.clone(), source };
        let twice = || failed(io::Error::other("it is the second one of this name"));
        match name.as_str() {
            "control" => {
                let control =
                    sockets.take_unix_listener(number).and_then(listening).map_err(failed)?;
                if std::mem::replace(&mut activated.control, control).is_some() {
                    return Err(twice());
                }
            }
            "admin" => {
                let admin =
                    sockets.take_tcp_listener(number).and_then(listening).map_err(failed)?;
                if std::mem::replace(&mut activated.admin, admin).is_some() {
                    return Err(twice());
                }
            }
            _ => {
                let listener =
                    sockets.take_tcp_listener(number).and_then(listening).map_err(failed)?;
                activated.listeners.extend(listener);
            }
        }
    }
    Ok(activated)
}

/// The same socket, which clients can connect to.
fn listening<T: AsFd>(socket: Option<T>) -> io::Result<Option<T>> {
    match &socket {
        Some(socket) if !SockRef::from(socket).is_listener()? => Err(io::Error::other(
            "it does not listen; whoever passes it is to call listen() first, systemd with Accept=no",
        )),
        _ => Ok(socket),
    }
}
