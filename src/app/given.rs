//! Sockets that this process need not open: those of systemd's socket activation, and those of the
//! process that it takes over from.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use tracing::info;

use super::StartError;
use super::listeners::{self, Open};
use crate::config::Listen;
use crate::control::{Predecessor, Role, Takeover};
use crate::model::{Entry, Standing};
use crate::net;
use crate::systemd::{self, Activated};

/// What this process starts with besides its configuration.
#[derive(Debug, Default)]
pub struct Given {
    listeners: Vec<TcpListener>,
    admin: Option<TcpListener>,
    control: Option<UnixListener>,
    drained: Vec<String>,
    /// The listeners are all that is listened on, whatever the configuration says.
    instead: bool,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) generation: Option<u32>,
    /// It has waited, and systemd has been told that it has started.
    pub(super) stood_by: bool,
}

impl Given {
    /// The sockets of socket activation, if the process was started so. With any for clients, `listen`
    /// and `admin.listen` of the configuration do not count.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn from_env() -> Result<Self, StartError> {
        Ok(Self::activated(systemd::activated()?))
    }

    fn activated(sockets: Activated) -> Self {
        let Activated { listeners, admin, control } = sockets;
        let instead = !listeners.is_empty();
        Self { listeners, admin, control, instead, ..Self::default() }
    }

    /// What another process has passed on comes in addition.
    #[must_use]
    pub fn taken_over(mut self, takeover: Takeover) -> Self {
        let (sockets, drained, predecessor) = takeover.into_parts();
        for (role, socket) in sockets {
            match role {
                Role::Listen if !self.instead => self.listeners.push(socket.into()),
                Role::Admin if self.admin.is_none() => self.admin = Some(socket.into()),
                Role::Control if self.control.is_none() => self.control = Some(socket.into()),
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
    pub fn stood_by(self, stood_by: bool) -> Self {
        Self { stood_by, ..self }
    }

    /// The listeners of clients: given ones where their addresses are those of the configuration.
    pub(super) fn bind(
        &mut self,
        listen: &[Listen],
    ) -> Result<Vec<(Open, TcpListener)>, StartError> {
        let given = std::mem::take(&mut self.listeners).into_iter().map(prepared);
        let mut given = given.collect::<io::Result<Vec<_>>>().map_err(StartError::Runtime)?;
        if !self.instead {
            return listeners::bind(listen, &mut given);
        }
        info!("the listeners are systemd's; `listen` does not count");
        let open = |listener: TcpListener| {
            let address = listener.local_addr()?;
            Ok((Open { wanted: Listen { address, optional: false }, address }, listener))
        };
        given.into_iter().map(open).collect::<io::Result<_>>().map_err(StartError::Runtime)
    }

    /// Are the listeners systemd's, whatever the configuration says?
    pub(super) fn is_instead(&self) -> bool {
        self.instead
    }

    /// The listener of the admin endpoint.
    pub(super) fn bind_admin(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let given = self.admin.take();
        let same = |listener: &TcpListener| self.instead || is_at(listener, address);
        match given.filter(same) {
            Some(listener) => prepared(listener),
            None => net::listen(address),
        }
    }

    /// The control socket.
    pub(super) fn control(&mut self) -> Option<UnixListener> {
        let listener = self.control.take()?;
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

fn prepared(listener: TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn is_at(listener: &TcpListener, address: SocketAddr) -> bool {
    listener.local_addr().is_ok_and(|bound| bound == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: SocketAddr) -> Listen {
        Listen { address, optional: false }
    }

    #[test]
    fn given_listeners_are_used_where_the_configuration_wants_them() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (wanted, other) = (net::listen(any).unwrap(), net::listen(any).unwrap());
        let (address, elsewhere) = (wanted.local_addr().unwrap(), other.local_addr().unwrap());
        let mut given = Given { listeners: vec![other, wanted], ..Given::default() };
        let listeners = given.bind(&[at(any), at(address)]).unwrap();
        assert_eq!(listeners.len(), 2);
        assert_eq!(listeners[1].1.local_addr().unwrap(), address);
        std::net::TcpStream::connect(elsewhere).unwrap_err();
    }

    #[test]
    fn activated_listeners_stand_instead_of_the_configuration() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (client, admin) = (net::listen(any).unwrap(), net::listen(any).unwrap());
        let (address, admin_address) = (client.local_addr().unwrap(), admin.local_addr().unwrap());
        let mut given = Given::activated(Activated {
            listeners: vec![client],
            admin: Some(admin),
            control: None,
        });
        let listeners = given.bind(&[at("192.0.2.1:1".parse().unwrap())]).unwrap();
        assert_eq!(listeners.len(), 1);
        assert_eq!(listeners[0].1.local_addr().unwrap(), address);
        let admin = given.bind_admin("192.0.2.1:1".parse().unwrap()).unwrap();
        assert_eq!(admin.local_addr().unwrap(), admin_address);
    }
}
