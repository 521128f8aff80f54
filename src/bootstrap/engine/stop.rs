//! How a run is stopped: first nothing new is begun, then what runs is killed.

use tokio::sync::watch;

/// How much is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Go,
    /// No step is begun any more; running ones end in peace.
    Finish,
    /// Running ones are killed too.
    Kill,
}

/// Stops a run.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Level>);

/// Hears that a run is to be stopped.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Level>);

impl Stopper {
    /// A stopper and who hears it.
    pub fn new() -> (Self, Stop) {
        let (to, from) = watch::channel(Level::Go);
        (Self(to), Stop(from))
    }

    /// Stops one level more than until now.
    pub fn press(&self) -> Level {
        self.0.send_modify(|level| {
            *level = if *level == Level::Go { Level::Finish } else { Level::Kill };
        });
        *self.0.borrow()
    }
}

impl Stop {
    /// One that is never pressed.
    pub fn never() -> Self {
        Stopper::new().1
    }

    /// The level now.
    pub fn level(&self) -> Level {
        *self.0.borrow()
    }

    /// Waits until it is at least this level; for ever if it never comes.
    pub async fn reached(&mut self, level: Level) {
        if self.0.wait_for(|now| *now >= level).await.is_err() {
            // Nobody can press it any more.
            std::future::pending::<()>().await;
        }
    }
}
