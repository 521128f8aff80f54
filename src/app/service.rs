//! Tells systemd what the proxy does: ready, ending, and alive while its data threads are.

use std::future::pending;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{interval, timeout};
use tracing::warn;

use crate::admin::Clusters;
use crate::drain::Phases;
use crate::proxy::WorkerHandle;
use crate::systemd::Notifier;

/// Signs of life are given so many times within the time that systemd allows.
pub(super) const SIGNS: u32 = 3;

/// Says when the drain begins, unless another process has taken over: then it is that one's service.
pub(super) async fn tell_end(notifier: &Notifier, mut phases: Phases) {
    phases.draining().await;
    if !phases.current().is_handed_over() {
        notifier.stopping();
    }
    pending::<()>().await;
}

/// Gives a sign of life while `is_alive` says so in time, until another process has taken over. Begins
/// when this process serves, or at once when systemd has been told already that it has `started`.
pub(super) async fn feed_watchdog(
    notifier: &Notifier,
    time: Option<Duration>,
    is_alive: impl AsyncFn() -> bool,
    mut phases: Phases,
    started: bool,
) {
    let Some(time) = time else { return pending().await };
    if !started {
        phases.serving().await;
    }
    let mut ticks = interval(time / SIGNS);
    let mut silent = false;
    while !phases.current().is_handed_over() {
        ticks.tick().await;
        let alive = timeout(time / SIGNS, is_alive()).await.unwrap_or(false);
        if alive {
            notifier.alive();
        } else if !silent {
            warn!(watchdog = ?time, "a data thread does not answer; systemd gets no sign of life");
        }
        silent = !alive;
    }
    pending::<()>().await;
}

/// Do all data threads answer?
pub(super) async fn all_answer(clusters: &Clusters) -> bool {
    let workers: Vec<_> = {
        let wanted = clusters.all();
        let wanted = wanted.iter().filter(|cluster| !cluster.leaving.get());
        wanted.map(|cluster| cluster.workers.clone()).collect()
    };
    let all = workers.iter().flat_map(|workers| workers.iter());
    join_all(all.map(WorkerHandle::ping)).await.iter().all(|answered| *answered)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::net::UnixDatagram;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::drain::Drain;

    #[tokio::test(start_paused = true)]
    async fn systemd_hears_nothing_of_threads_that_are_stuck() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        let heard = || {
            let mut bytes = [0; 100];
            std::iter::from_fn(|| systemd.recv(&mut bytes).ok()).count()
        };
        let stuck = Cell::new(false);
        let is_alive = async || !stuck.get() || pending().await;
        let drain = Drain::starting();
        let time = Some(Duration::from_secs(3));
        let feed = feed_watchdog(&notifier, time, is_alive, drain.phases(), false);
        let script = async {
            let seconds = |count: u64| sleep(Duration::from_millis(count * 1000 + 500));
            seconds(5).await;
            assert_eq!(heard(), 0, "it does not serve yet");
            drain.open();
            seconds(5).await;
            assert!((5..=6).contains(&heard()));
            stuck.set(true);
            seconds(5).await;
            assert!(heard() <= 1);
            stuck.set(false);
            seconds(5).await;
            assert!(heard() >= 4);
            drain.hand_over(Instant::now());
            seconds(1).await;
            heard();
            seconds(5).await;
            assert_eq!(heard(), 0, "it is the other process's service now");
        };
        tokio::select! {
            () = feed => panic!("it ended"),
            () = script => {}
        }
    }
}
