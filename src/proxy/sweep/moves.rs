//! What the moves of [`crate::rebalance`] need to know of the connections of a data thread.

use std::sync::Arc;
use std::time::Instant;

use crate::model::{CloseReason, Snapshot};
use crate::proxy::table::{Record, Table};
use crate::rebalance::{Connections, Movable, Move, Traffic};

impl Movable for Record {
    fn place(&self, snapshot: &Snapshot) -> Option<usize> {
        let backend = self.active.backend();
        snapshot.entries.iter().position(|entry| Arc::ptr_eq(&entry.backend, backend))
    }

    fn wish(&self) -> Option<Move> {
        self.moving()
    }

    fn set_wish(&self, wish: Option<Move>) {
        self.set_moving(wish);
    }

    fn traffic(&self, now: Instant) -> Traffic {
        Record::traffic(self, now)
    }

    fn close(&self, reason: CloseReason) {
        Record::close(self, reason);
    }

    fn reprieve(&self) {
        Record::reprieve(self);
    }
}

impl Connections for Table {
    type Connection = Record;

    fn each(&self, look: impl FnMut(&Record)) {
        Table::each(self, look);
    }
}
