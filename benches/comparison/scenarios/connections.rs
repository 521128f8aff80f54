//! Connections that come and go.

use std::io;

use super::Context;
use crate::interrupt;
use crate::load::{self, Client};
use crate::tally::Figure;

/// Clients that connect at the same time in `churn`.
const CLIENTS: u64 = 8;

/// A new connection for each request.
pub(super) fn churn(context: &Context<'_>) -> io::Result<Vec<Figure>> {
    let address = context.address;
    let each = context.size.churn.div_ceil(CLIENTS);
    let load = load::at_once(CLIENTS, |_| async move {
        for _ in 0..each {
            Client::connect(address).await?.exchange(1024).await?;
        }
        Ok(())
    });
    let (_, cost) = context.cost(|| interrupt::run(load))?;
    Ok(cost.each("new connection and request", each * CLIENTS))
}

/// All clients of a node at once, as when the proxy or an apiserver was restarted.
pub(super) fn storm(context: &Context<'_>) -> io::Result<Vec<Figure>> {
    let (address, count) = (context.address, context.size.storm);
    let load = load::at_once(count, |_| async move {
        let mut client = Client::connect(address).await?;
        client.exchange(1024).await?;
        Ok(client)
    });
    let (clients, cost) = context.cost(|| interrupt::run(load))?;
    drop(clients);
    let what = format!("{count} connections at once");
    let millis = cost.wall.as_secs_f64() * 1e3;
    let cpu = cost.each(&what, count).into_iter().filter(|figure| figure.unit == "us");
    Ok([Figure::less(format!("{what}: all served"), "ms", millis)].into_iter().chain(cpu).collect())
}
