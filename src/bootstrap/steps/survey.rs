//! Looks at many hosts: so many at once, and at none for longer than a moment.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::bootstrap::engine::StepError;
use crate::bootstrap::spec::Host;
use crate::bootstrap::transport::TransportError;

/// How long a host may take for all that is asked of it: 10 s for the handshake, and 25 s for kubectl
/// where apiserver and etcd take connections and say nothing.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Looks at each host, so many at the same time; what was found comes in the order of the hosts. Who
/// does not answer in time is no better than who does not answer.
pub async fn each<'a, T, F: Future<Output = Result<T, StepError>>>(
    hosts: impl IntoIterator<Item = &'a Host>,
    parallel: usize,
    look: impl Fn(&'a Host) -> F,
) -> Vec<(&'a Host, Result<T, StepError>)> {
    let looks = hosts.into_iter().enumerate().map(|(at, host)| {
        let look = look(host);
        async move { (at, host, bounded(&host.name, look).await) }
    });
    // In the order of their ends: one that takes long keeps no other from its turn.
    let mut found: Vec<_> = stream::iter(looks).buffer_unordered(parallel.max(1)).collect().await;
    found.sort_by_key(|(at, ..)| *at);
    found.into_iter().map(|(_, host, found)| (host, found)).collect()
}

/// What is asked of one host, within the limit.
///
/// # Errors
/// Those of the look, or that it takes too long.
pub async fn bounded<T>(
    host: &str,
    look: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    match tokio::time::timeout(LIMIT, look).await {
        Ok(found) => found,
        Err(_) => Err(StepError::Transport(TransportError::Unreachable {
            host: host.to_owned(),
            reason: format!("it was asked how it is and did not answer within {LIMIT:?}"),
            remedy: "see whether its disk or its memory is stuck".to_owned(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::bootstrap::steps::world::spare;

    #[tokio::test(start_paused = true)]
    async fn sixteen_at_once_in_order_and_a_stuck_one_holds_nobody_up_for_long() {
        let hosts: Vec<_> = (0..50).map(|n| spare(&format!("w{n}"), "10.0.0.1")).collect();
        let (now, most) = (Cell::new(0_usize), Cell::new(0));
        let began = Instant::now();
        let found = each(&hosts, 16, async |host| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            sleep(Duration::from_secs(if host.name == "w3" { 3600 } else { 1 })).await;
            now.set(now.get() - 1);
            Ok(())
        });
        let found = found.await;
        assert_eq!(most.get(), 16);
        assert_eq!(began.elapsed(), LIMIT);
        let names: Vec<_> = found.iter().map(|(host, _)| &host.name).collect();
        assert_eq!(names, hosts.iter().map(|host| &host.name).collect::<Vec<_>>());
        let faults: Vec<_> = found.iter().filter_map(|(_, found)| found.as_ref().err()).collect();
        let words = "w3: it was asked how it is and did not answer within 60s; see whether";
        assert!(faults.len() == 1 && faults[0].to_string().starts_with(words), "{faults:?}");
    }
}
