//! Waits for the turn of this process, while another one serves that it is to take over from or to
//! replace, and finds out what it then starts with: the configuration as it is by then.

use std::fmt::Display;
use std::future::pending;
use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::prepare::{Loaded, Prepared};
use super::standby::StandBy;
use super::{Given, Refusal, Source, StartError};
use crate::control::{Incumbent, TakeoverError};
use crate::watch::{Watch, has_end};

/// How often it asks whether it is needed.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A process that ends closes its control socket a moment before the last of its listeners.
const LAST_STEPS: Duration = Duration::from_millis(50);

/// How long the running process may take to answer before this one says that it stands by.
const PATIENCE: Duration = Duration::from_secs(5);

/// Good configurations that are kept: the newest ones.
const MOST_KEPT: usize = 8;

/// What a process starts with.
#[derive(Debug)]
pub struct Turn {
    /// Its configuration.
    pub prepared: Prepared,
    /// Sockets that are open already, and the process that it takes over from.
    pub given: Given,
    /// Why the file as it is now is not that configuration, if it is not.
    pub refusal: Option<Refusal>,
    /// Where later ones come from.
    pub source: Source,
}

/// A process that is not needed yet.
#[derive(Debug)]
pub struct Candidate {
    source: Source,
    watch: Watch,
    /// What it would start with, the newest last; never empty.
    good: Vec<Loaded>,
    /// What is wrong with the file since.
    refusal: Option<Refusal>,
    stand_by: StandBy,
}

impl Candidate {
    /// One with this configuration of that source.
    pub fn new(source: Source, loaded: Loaded) -> Self {
        let watch = source.watch();
        let stand_by = StandBy::from_env();
        Self { source, watch, good: vec![loaded], refusal: None, stand_by }
    }

    /// Starts at once.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(self, given: Given) -> Result<Turn, StartError> {
        let (prepared, refusal) = self.prepare(&given)?;
        Ok(Turn { prepared, given, refusal, source: self.source })
    }

    /// Waits until the incumbent passes its sockets on, or is gone. Once it has begun to stand by,
    /// nothing that can pass ends it, and the configuration is read again when its turn comes.
    ///
    /// # Errors
    /// The incumbent goes on and will not hand over to this process, or this process cannot start.
    pub async fn turn(
        mut self,
        mut incumbent: Incumbent,
        given: Given,
    ) -> Result<Turn, StartError> {
        let mut given = given.asked();
        loop {
            let takeover = match self.answer(incumbent.ask()).await {
                Ok(takeover) => takeover,
                Err(error) if error.passes() || self.stand_by.is_told() => {
                    let is_usual = matches!(error, TakeoverError::Refused(_));
                    let gone = async {
                        incumbent.hung_up().await;
                        sleep(LAST_STEPS).await;
                    };
                    self.wait(&error, is_usual, gone).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if self.stand_by.is_told() {
                self.read();
                if let (None, Some(socket)) = (&takeover, self.other_socket(&incumbent)) {
                    // Somebody may serve there.
                    info!(socket = %socket.path().display(), "admin.controlSocket has changed");
                    incumbent = socket;
                    continue;
                }
            }
            let is_alone = takeover.is_none();
            if let Some(takeover) = takeover {
                given = given.taken_over(takeover, incumbent.path());
            }
            match self.prepare(&given) {
                Ok((prepared, refusal)) => {
                    let given = given.stood_by(self.stand_by.is_told());
                    return Ok(Turn { prepared, given, refusal, source: self.source });
                }
                // Who has the address may be ending, or will end.
                Err(error) if is_alone && self.stand_by.is_told() && is_taken(&error) => {
                    self.wait(&error, false, pending()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// With the newest good configuration that the process can start with, and why that is not what
    /// the file says, if it is not.
    fn prepare(&self, given: &Given) -> Result<(Prepared, Option<Refusal>), StartError> {
        let mut refusal = self.refusal.clone();
        let mut first = None;
        for loaded in self.good.iter().rev() {
            match Prepared::new(loaded.clone(), given) {
                Ok(prepared) => return Ok((prepared, refusal)),
                Err(error) => {
                    let lines = error.to_string().lines().map(str::to_owned).collect();
                    refusal.get_or_insert(Refusal(lines));
                    first.get_or_insert(error);
                }
            }
        }
        // There is always one.
        Err(first.unwrap_or(StartError::NoListener))
    }

    /// Reads the configuration again.
    fn read(&mut self) {
        self.source.begin_anew();
        self.watch.note(self.source.stamp());
        let loaded = self.source.read().and_then(|config| {
            Loaded::new(config).map_err(|error| Refusal(vec![error.to_string()]))
        });
        match loaded {
            Ok(loaded) => {
                self.refusal = None;
                if self.good.last().is_some_and(|newest| newest.config == loaded.config) {
                    self.good.pop();
                } else {
                    info!("the configuration has changed: it is what this process starts with");
                    self.good.drain(..self.good.len().saturating_sub(MOST_KEPT - 1));
                }
                self.good.push(loaded);
            }
            Err(refusal) => {
                if self.refusal.as_ref() != Some(&refusal) {
                    warn!(%refusal, "the configuration is refused: the last good one is what this process starts with");
                }
                self.refusal = Some(refusal);
            }
        }
    }

    /// The process behind another control socket that the configuration names by now.
    fn other_socket(&self, incumbent: &Incumbent) -> Option<Incumbent> {
        let socket = self.good.last()?.config.admin.control_socket.as_deref()?;
        (socket != incumbent.path()).then(|| incumbent.behind(socket))
    }

    /// Waits for an answer, and stands by if it takes long.
    async fn answer<T>(&mut self, answer: impl Future<Output = T>) -> T {
        let start = Instant::now();
        self.spend(answer, |stand_by| {
            if start.elapsed() >= PATIENCE {
                let reason = format!("the running process does not answer within {PATIENCE:?}");
                stand_by.tell(&reason, false);
            }
        })
        .await
    }

    /// Stands by for this reason until it is time to ask again.
    async fn wait(
        &mut self,
        reason: &impl Display,
        is_usual: bool,
        wake: impl Future<Output = ()>,
    ) {
        self.stand_by.tell(reason, is_usual);
        self.tick();
        let end = async {
            tokio::select! {
                () = wake => {}
                () = sleep(ASK_EVERY) => {}
            }
        };
        self.spend(end, |_| {}).await;
    }

    /// Lives and follows the file until something has happened.
    async fn spend<T>(&mut self, until: impl Future<Output = T>, each: impl Fn(&mut StandBy)) -> T {
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                outcome = &mut until => return outcome,
                () = sleep(self.stand_by.pace()) => {}
            }
            each(&mut self.stand_by);
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.stand_by.live();
        if self.has_changed() {
            self.read();
        }
    }

    fn has_changed(&mut self) -> bool {
        let Self { watch, source, .. } = self;
        let Some(file) = source.file() else { return false };
        watch.look(source.stamp(), Instant::now(), || has_end(file))
    }
}

fn is_taken(error: &StartError) -> bool {
    matches!(error, StartError::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse)
}
