//! Seats for those who ask the proxy: few, and not for who only sits there.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its request is not complete.
    Asking,
    /// Its answer is being made.
    Waiting,
    /// It is to take its answer.
    Taking,
}

/// Tells how far a client has come. Kept by its task.
#[derive(Clone, Debug)]
pub struct Progress {
    stage: Rc<Cell<Stage>>,
    /// Somebody may have come to where its seat can be taken.
    news: Rc<Notify>,
}

impl Progress {
    /// The request is complete.
    pub fn asked(&self) {
        self.stage.set(Stage::Waiting);
    }

    /// The answer is made.
    pub fn answered(&self) {
        self.stage.set(Stage::Taking);
        self.news.notify_one();
    }

    /// The answer is taken, and another request may come.
    pub fn asks_again(&self) {
        self.stage.set(Stage::Asking);
        self.news.notify_one();
    }
}

/// A client that has a seat.
#[derive(Debug)]
struct Seat {
    task: AbortHandle,
    progress: Progress,
}

/// The seats, and who has them, the oldest first.
#[derive(Debug)]
pub struct Seats {
    most: usize,
    taken: VecDeque<Seat>,
    tasks: JoinSet<()>,
    news: Rc<Notify>,
}

impl Seats {
    /// So many, all of them free.
    pub fn new(most: usize) -> Self {
        Self { most, taken: VecDeque::new(), tasks: JoinSet::new(), news: Rc::default() }
    }

    /// Can another client be seated, if need be in the place of one that has to go?
    pub fn has_room(&mut self) -> bool {
        self.taken.retain(|seat| !seat.task.is_finished());
        self.taken.len() < self.most || self.idle().is_some()
    }

    /// Seats a client. When none is free the oldest of those goes that have not asked anything, or of
    /// those that do not take their answer; true when it came to that.
    pub fn seat<F>(&mut self, client: impl FnOnce(Progress) -> F) -> bool
    where
        F: Future<Output = ()> + 'static,
    {
        let idle = if self.taken.len() < self.most { None } else { self.idle() };
        let shed = idle.and_then(|place| self.taken.remove(place));
        if let Some(seat) = &shed {
            seat.task.abort();
        }
        let stage = Rc::new(Cell::new(Stage::Asking));
        let progress = Progress { stage, news: self.news.clone() };
        let task = self.tasks.spawn_local(client(progress.clone()));
        self.taken.push_back(Seat { task, progress });
        shed.is_some()
    }

    fn idle(&self) -> Option<usize> {
        let at = |stage| self.taken.iter().position(|seat| seat.progress.stage.get() == stage);
        at(Stage::Asking).or_else(|| at(Stage::Taking))
    }

    /// Waits until somebody has left, or may have to.
    pub async fn changed(&mut self) {
        tokio::select! {
            Some(_) = self.tasks.join_next() => {}
            () = self.news.notified() => {}
        }
    }

    /// Waits until all have left.
    pub async fn emptied(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::task::{LocalSet, yield_now};
    use tokio::time::timeout;

    use super::*;

    /// Counts whoever is still there.
    struct Present(Rc<Cell<usize>>);

    impl Drop for Present {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    fn sit(seats: &mut Seats, present: &Rc<Cell<usize>>, speak: impl Fn(&Progress)) -> bool {
        present.set(present.get() + 1);
        let here = Present(present.clone());
        seats.seat(|progress| {
            speak(&progress);
            async move {
                pending::<()>().await;
                drop((here, progress));
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_ask_goes_first_and_who_waits_for_us_never() {
        let rules = async {
            let present = Rc::new(Cell::new(0));
            let mut seats = Seats::new(2);
            assert!(!sit(&mut seats, &present, Progress::asked));
            assert!(!sit(&mut seats, &present, |_| {}));
            assert!(seats.has_room());
            assert!(sit(&mut seats, &present, Progress::asked), "the silent one goes");
            seats.changed().await;
            yield_now().await;
            assert_eq!(present.get(), 2);
            assert!(!seats.has_room(), "both wait for an answer of ours");
            let soon = Duration::from_secs(1);
            timeout(soon, seats.changed()).await.unwrap_err();
            seats.taken[0].progress.answered();
            timeout(soon, seats.changed()).await.unwrap();
            assert!(seats.has_room());
            assert!(sit(&mut seats, &present, Progress::asked), "who does not take it goes");
            timeout(soon, seats.changed()).await.unwrap();
            assert_eq!(present.get(), 2);
            assert!(!seats.has_room());
        };
        LocalSet::new().run_until(rules).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_there_is_no_news() {
        let mut seats = Seats::new(1);
        timeout(Duration::from_secs(1), seats.changed()).await.unwrap_err();
        assert!(seats.has_room());
        timeout(Duration::from_secs(1), seats.emptied()).await.unwrap();
    }
}
