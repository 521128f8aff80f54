//! What the moves of the proxy need to know of simulated connections.

use std::cell::RefCell;
use std::time::Instant;

use apiproxy::model::{CloseReason, Snapshot};
use apiproxy::rebalance::{Connections, Movable, Move, Traffic};

use super::connection::Connection;

/// A client's connection.
pub(super) struct Client(RefCell<Connection>);

impl Client {
    pub(super) fn new(connection: Connection) -> Self {
        Self(RefCell::new(connection))
    }
}

/// The connections of a node, by client.
pub(super) struct Clients(Vec<Client>);

impl Clients {
    pub(super) fn new(clients: Vec<Client>) -> Self {
        Self(clients)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn of(&mut self, client: usize) -> &mut Connection {
        self.0[client].0.get_mut()
    }
}

impl Movable for Client {
    fn place(&self, _: &Snapshot) -> Option<usize> {
        self.0.borrow().server()
    }

    fn wish(&self) -> Option<Move> {
        self.0.borrow().wish
    }

    fn set_wish(&self, wish: Option<Move>) {
        self.0.borrow_mut().wish = wish;
    }

    fn traffic(&self, now: Instant) -> Traffic {
        self.0.borrow_mut().traffic(now)
    }

    fn close(&self, _: CloseReason) {
        self.0.borrow_mut().closing = true;
    }

    fn reprieve(&self) {
        self.0.borrow_mut().closing = false;
    }
}

impl Connections for Clients {
    type Connection = Client;

    fn each(&self, look: impl FnMut(&Client)) {
        self.0.iter().filter(|client| client.0.borrow().server().is_some()).for_each(look);
    }
}
