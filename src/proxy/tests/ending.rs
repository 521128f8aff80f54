//! How connections end: for which reason, and what the two ends are told.

use std::task::{Context, Waker};

use super::*;
use crate::proxy::table::Record;

#[test]
fn a_reason_that_cannot_wait_takes_the_place_of_one_that_can() {
    paused(|| async {
        let bench = Bench::new().await;
        let asked = [
            (CloseReason::Drained, CloseReason::Shutdown, CloseReason::Shutdown),
            (CloseReason::Rebalanced, CloseReason::BackendDead, CloseReason::BackendDead),
            (CloseReason::Rebalanced, CloseReason::Drained, CloseReason::Rebalanced),
            (CloseReason::BackendDead, CloseReason::Drained, CloseReason::BackendDead),
            (CloseReason::BackendDead, CloseReason::Shutdown, CloseReason::BackendDead),
        ];
        for (first, second, counts) in asked {
            let (client, server) = bench.connection().await;
            let record = Record::new(client, server, bench.backend.occupy());
            record.close(first);
            record.close(second);
            let closing = record.closing(&Context::from_waker(Waker::noop()));
            assert_eq!(closing, Some(counts), "{first:?}, then {second:?}");
            record.reprieve();
            let closing = record.closing(&Context::from_waker(Waker::noop()));
            assert_eq!(closing.is_none(), counts.is_gentle());
        }
    });
}
