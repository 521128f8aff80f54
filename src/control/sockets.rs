//! The listening sockets of this process, in the order in which they are passed on.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Clients connect to it.
    Listen,
    /// Metrics and status are served on it.
    Admin,
    /// Commands are heard on it.
    Control,
}

/// Duplicates of the sockets that this process listens on, to be passed to the one that takes over.
/// Clones share them. To be cleared when the process stops listening: a socket is open for as long
/// as one of its duplicates is.
#[derive(Clone, Debug, Default)]
pub struct Sockets(Rc<RefCell<Vec<(Role, OwnedFd)>>>);

impl Sockets {
    /// Adds a TCP listener.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn add(&self, role: Role, listener: &TcpListener) -> io::Result<()> {
        self.put(role, listener.try_clone()?.into());
        Ok(())
    }

    /// Adds TCP listeners of clients: all of them, or none when a descriptor is missing.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn add_all(&self, listeners: &[TcpListener]) -> io::Result<()> {
        let copies: Vec<_> =
            listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        for copy in copies {
            self.put(Role::Listen, copy.into());
        }
        Ok(())
    }

    /// Adds the control socket.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn add_control(&self, listener: &UnixListener) -> io::Result<()> {
        self.put(Role::Control, listener.try_clone()?.into());
        Ok(())
    }

    /// Forgets the listener of clients with this address, which is being closed; of two, the older.
    pub fn remove(&self, address: SocketAddr) {
        let is_it = |(role, socket): &(Role, OwnedFd)| {
            let bound = rustix::net::getsockname(socket).ok();
            let bound = bound.and_then(|bound| SocketAddr::try_from(bound).ok());
            *role == Role::Listen && bound == Some(address)
        };
        let mut sockets = self.0.borrow_mut();
        if let Some(place) = sockets.iter().position(is_it) {
            sockets.remove(place);
        }
    }

    /// What [`Self::truncate`] goes back to.
    pub fn mark(&self) -> usize {
        self.0.borrow().len()
    }

    /// Forgets those that have been added since this mark.
    pub fn truncate(&self, mark: usize) {
        self.0.borrow_mut().truncate(mark);
    }

    /// Forgets them all.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    fn put(&self, role: Role, socket: OwnedFd) {
        self.0.borrow_mut().push((role, socket));
    }

    /// Duplicates to send.
    pub(super) fn copies(&self) -> io::Result<(Vec<Role>, Vec<OwnedFd>)> {
        let sockets = self.0.borrow();
        let copies: io::Result<Vec<_>> =
            sockets.iter().map(|(_, socket)| socket.as_fd().try_clone_to_owned()).collect();
        Ok((sockets.iter().map(|(role, _)| *role).collect(), copies?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_is_closed_is_not_passed_on() {
        let sockets = Sockets::default();
        let listener = |role| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            sockets.add(role, &listener).unwrap();
            listener.local_addr().unwrap()
        };
        let (first, admin, _) =
            (listener(Role::Listen), listener(Role::Admin), listener(Role::Listen));
        sockets.remove(first);
        sockets.remove(admin);
        assert_eq!(sockets.copies().unwrap().0, [Role::Admin, Role::Listen]);
        std::net::TcpStream::connect(first).unwrap_err();
        sockets.clear();
        std::net::TcpStream::connect(admin).unwrap_err();
    }
}
