//! Sockets that this process need not open: those of systemd's socket activation, and those of the
//! process that it takes over from.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::error::{Attempt, StartError};
use super::listeners::{self, Bindings, Open};
use crate::config::Listen;
use crate::control::{Predecessor, Role, Takeover};
use crate::model::{Entry, Standing};
use crate::systemd::{self, Activated};

/// What this process starts with besides its configuration.
#[derive(Debug, Default)]
pub struct Given {
    listeners: Vec<TcpListener>,
    admin: Option<TcpListener>,
    control: Option<UnixListener>,
    /// Where the control socket is that another process has passed on; one from systemd is where
    /// systemd wants it.
    control_path: Option<PathBuf>,
    drained: Vec<String>,
    /// The listeners are all that is listened on, whatever the configuration says.
    instead: bool,
    /// So is the one of the admin endpoint.
    admin_instead: bool,
    /// A takeover once this process has asked for the sockets of another one.
    attempt: Attempt,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) generation: Option<u32>,
    /// It has waited, and systemd has been told that it has started.
    pub(super) stood_by: bool,
}

impl Given {
    /// The sockets of socket activation, if the process was started so. With any for clients, `listen`
    /// of the configuration does not count; with one for the admin endpoint, `admin.listen` does not.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn from_env() -> Result<Self, StartError> {
        Ok(Self::activated(systemd::activated()?))
    }

    fn activated(sockets: Activated) -> Self {
        let Activated { listeners, admin, control } = sockets;
        let (instead, admin_instead) = (!listeners.is_empty(), admin.is_some());
        Self { listeners, admin, control, instead, admin_instead, ..Self::default() }
    }

    /// This process asks for the sockets of another one, which need not be there.
    #[must_use]
    pub(super) fn asked(self) -> Self {
        Self { attempt: Attempt::TakeOver, ..self }
    }

    /// What another process has passed on, which was asked at this control socket, comes in addition.
    #[must_use]
    pub(super) fn taken_over(mut self, takeover: Takeover, asked_at: &Path) -> Self {
        let (sockets, drained, predecessor) = takeover.into_parts();
        for (role, socket) in sockets {
            match role {
                Role::Listen if !self.instead => self.listeners.push(socket.into()),
                Role::Admin if self.admin.is_none() => self.admin = Some(socket.into()),
                Role::Control if self.control.is_none() => {
                    self.control = Some(socket.into());
                    self.control_path = Some(asked_at.to_owned());
                }
                // One from systemd is the same.
                _ => {}
            }
        }
        (self.drained, self.predecessor) = (drained, Some(predecessor));
        self
    }

    /// Which of several processes that take over from each other this is.
    #[must_use]
    pub fn generation(self, generation: Option<u32>) -> Self {
        Self { generation, ..self }
    }

    /// It has waited until it was needed.
    #[must_use]
    pub(super) fn stood_by(self, stood_by: bool) -> Self {
        Self { stood_by, ..self }
    }

    /// The listeners of clients, of `several` clusters or one: given ones where their addresses are those
    /// of the configuration. What is given is as it was when this fails.
    pub(super) fn bind(&self, listen: &[Listen], several: bool) -> Result<Bindings, StartError> {
        if self.instead && several {
            return Err(StartError::ActivatedClusters);
        }
        if !self.instead {
            return listeners::bind(listen, &self.listeners, self.attempt);
        }
        let open = |listener: &TcpListener| {
            let (listener, address) = (prepared(listener)?, listener.local_addr()?);
            Ok((Open { wanted: Listen { address, optional: false }, address }, listener))
        };
        let opened = self.listeners.iter().map(open).collect::<io::Result<Vec<_>>>();
        let (open, listeners) =
            opened.map_err(StartError::Runtime)?.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        if let Some(ignored) = ignored(listen, &open) {
            warn!("{ignored}");
        }
        Ok(Bindings { open, listeners, outgoing: Vec::new() })
    }

    /// Are the listeners systemd's, whatever the configuration says?
    pub(super) fn is_instead(&self) -> bool {
        self.instead
    }

    /// Is the listener of the admin endpoint systemd's, whatever the configuration says?
    pub(super) fn is_admin_instead(&self) -> bool {
        self.admin_instead
    }

    /// The listener of the admin endpoint.
    pub(super) fn bind_admin(&self, address: SocketAddr) -> Result<TcpListener, StartError> {
        let bound = match &self.admin {
            Some(listener) if self.admin_instead || is_at(listener, address) => prepared(listener),
            given => listeners::bind_beside(address, given.as_slice()),
        };
        bound.map_err(|source| StartError::Listen { address, source, attempt: self.attempt })
    }

    /// Was this process given the control socket that it asks at?
    pub(super) fn holds_control(&self) -> bool {
        self.control.is_some()
    }

    /// The control socket, if it is the one that is wanted.
    pub(super) fn control(&mut self, wanted: Option<&Path>) -> Option<UnixListener> {
        let is_it = self.control_path.as_deref().is_none_or(|path| Some(path) == wanted);
        let listener = self.control.take().filter(|_| is_it)?;
        listener.set_nonblocking(true).ok().map(|()| listener)
    }

    /// Drains those backends again that are drained in the other process.
    pub(super) fn restore(&self, entries: &mut [Entry], now: std::time::Instant) {
        for entry in entries {
            let name = entry.backend.name.as_str();
            if self.drained.iter().any(|drained| drained == name) {
                info!(backend = name, "stays drained");
                entry.stand(Standing::Drained, now);
            }
        }
    }
}

/// What there is to say about a `listen` of the configuration that does not count, because these
/// listeners are systemd's; nothing when it says the same, or nothing itself.
pub(super) fn ignored(listen: &[Listen], open: &[Open]) -> Option<String> {
    let is_open = |listen: &Listen| open.iter().any(|open| open.address == listen.address);
    let says_so = listen.len() == open.len() && listen.iter().all(is_open);
    if says_so || listen.iter().all(|listen| listen.optional) {
        return None;
    }
    Some(format!(
        "`listen` is ignored ({}): the sockets are systemd's ({}); change ListenStream= of the socket unit",
        words(listen.iter().map(|listen| listen.address)),
        words(open.iter().map(|open| open.address)),
    ))
}

fn words(addresses: impl Iterator<Item = SocketAddr>) -> String {
    addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(", ")
}

/// A duplicate to serve on.
fn prepared(listener: &TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    listener.try_clone()
}

fn is_at(listener: &TcpListener, address: SocketAddr) -> bool {
    listener.local_addr().is_ok_and(|bound| bound == address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net;

    fn at(address: SocketAddr) -> Listen {
        Listen { address, optional: false }
    }

    #[test]
    fn given_listeners_are_used_where_the_configuration_wants_them() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (wanted, other) = (net::listen(any).unwrap(), net::listen(any).unwrap());
        let (address, elsewhere) = (wanted.local_addr().unwrap(), other.local_addr().unwrap());
        let given = Given { listeners: vec![other, wanted], ..Given::default() };
        let bound = given.bind(&[at(any), at(address)], false).unwrap();
        drop(given);
        assert_eq!((bound.listeners.len(), bound.outgoing.len()), (2, 0));
        assert_eq!(bound.listeners[1].local_addr().unwrap(), address);
        std::net::TcpStream::connect(elsewhere).unwrap_err();
    }

    /// Regression: one that was to listen at all addresses could not take over from one that listened
    /// at a single one.
    #[test]
    fn a_given_listener_that_overlaps_is_served_until_it_can_be_closed() {
        for (old, new) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")] {
            let listener = net::listen(format!("{old}:0").parse().unwrap()).unwrap();
            let (address, port) =
                (listener.local_addr().unwrap(), listener.local_addr().unwrap().port());
            let given = Given { listeners: vec![listener], ..Given::default() };
            let wanted = format!("{new}:{port}").parse().unwrap();
            let bound = given.bind(&[at(wanted)], false).unwrap();
            assert_eq!(bound.open[0].address, wanted);
            assert_eq!(bound.outgoing.len(), 1);
            assert_eq!(bound.outgoing[0].local_addr().unwrap(), address);
            // As ever, nobody else gets the port.
            for address in [address, wanted] {
                let error = net::listen(address).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            }
        }
    }

    #[test]
    fn what_is_given_is_left_alone_when_it_does_not_come_to_a_start() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (given, taken) = (net::listen(any).unwrap(), net::listen(any).unwrap());
        let address = given.local_addr().unwrap();
        let given = Given { listeners: vec![given], ..Given::default() }.asked();
        let error = given.bind(&[at(address), at(taken.local_addr().unwrap())], false).unwrap_err();
        assert!(error.to_string().contains("If it is the process that was asked"), "{error}");
        assert_eq!(given.bind(&[at(address)], false).unwrap().listeners.len(), 1);
    }

    #[test]
    fn activated_listeners_stand_instead_of_the_configuration() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (client, admin) = (net::listen(any).unwrap(), net::listen(any).unwrap());
        let (address, admin_address) = (client.local_addr().unwrap(), admin.local_addr().unwrap());
        let given = Given::activated(Activated {
            listeners: vec![client],
            admin: Some(admin),
            control: None,
        });
        let other = at("192.0.2.1:1".parse().unwrap());
        let bound = given.bind(&[other], false).unwrap();
        assert_eq!(bound.listeners.len(), 1);
        assert_eq!(bound.listeners[0].local_addr().unwrap(), address);
        let admin = given.bind_admin("192.0.2.1:1".parse().unwrap()).unwrap();
        assert_eq!(admin.local_addr().unwrap(), admin_address);
        let said = ignored(&[other], &bound.open).unwrap();
        assert!(said.contains("192.0.2.1:1") && said.contains(&address.to_string()), "{said}");
        assert_eq!(ignored(&[at(address)], &bound.open), None);
        let default = Listen { optional: true, ..other };
        assert_eq!(ignored(&[default], &bound.open), None, "nobody has asked for it");
    }

    #[test]
    fn a_control_socket_of_another_place_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let passed_on = || Given {
            control: Some(crate::control::claim(&path).unwrap()),
            control_path: Some(path.clone()),
            ..Given::default()
        };
        assert!(passed_on().control(Some(Path::new("/elsewhere"))).is_none());
        assert!(passed_on().control(None).is_none());
        assert!(passed_on().control(Some(&path)).is_some());
    }
}
