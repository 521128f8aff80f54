//! The control socket of a running proxy, or a warning that there is none.

use std::future::pending;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;

use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

use super::{Commands, Outcome};
use crate::control::{self, Reload, Role, Sockets};
use crate::systemd::Notifier;

/// Requests to reload that wait; more are told that the proxy is busy.
pub(super) const WAITING_RELOADS: usize = 4;

/// Makes the socket. The proxy serves without it as well, so that a fault is told and lived with.
pub(super) fn claim(path: Option<&Path>) -> Option<UnixListener> {
    let path = path?;
    match control::claim(path) {
        Ok(listener) => Some(listener),
        Err(error) => {
            warn!(
                path = %path.display(), %error,
                "no control socket: drain, undrain and reload cannot reach this process; set \
                 admin.controlSocket to a path that it may make, or to \"\" for none"
            );
            None
        }
    }
}

/// Keeps what is to be passed on in a handover.
pub(super) fn keep(
    sockets: &Sockets,
    listeners: &[TcpListener],
    admin: &TcpListener,
    socket: &UnixListener,
) -> io::Result<()> {
    sockets.add_all(listeners)?;
    sockets.add(Role::Admin, admin)?;
    sockets.add_control(socket)
}

/// Hears commands until the drain begins, and then waits to be dropped. Without a socket, only that.
/// `done` is told when nobody waits for an answer any more.
pub(super) async fn run(socket: Option<(UnixListener, control::Parts)>, done: &Notify) {
    if let Some((listener, parts)) = socket {
        match control::serve(listener, parts).await {
            Ok(()) => info!("the control socket is closed"),
            Err(error) => warn!(%error, "the control socket cannot be served"),
        }
    }
    done.notify_one();
    pending::<()>().await;
}

/// Answers requests to reload. systemd hears that they are under way.
pub(super) async fn reload(
    mut requests: mpsc::Receiver<Reload>,
    commands: Commands,
    notifier: &Notifier,
) {
    while let Some(answer) = requests.recv().await {
        notifier.reloading();
        let result = commands.reload().await;
        notifier.ready(false, "serving");
        let result = match result {
            Ok(Outcome { changes, needs_restart, ignored }) => {
                let lines =
                    changes.into_iter().chain(needs_restart).chain(ignored).collect::<Vec<_>>();
                Ok(if lines.is_empty() {
                    "nothing has changed".to_owned()
                } else {
                    lines.join("\n")
                })
            }
            Err(refusal) => Err(refusal.to_string()),
        };
        // The client may have gone away.
        let _ = answer.send(result);
    }
    pending::<()>().await;
}
