//! What a recording host answers, and to which commands.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Recording;
use crate::bootstrap::transport::{Command, Output, TransportError};

type Choice = Arc<dyn Fn(&Command) -> bool + Send + Sync>;
type Effect = Arc<dyn Fn(&Recording, &Command) + Send + Sync>;
type Compute = Arc<dyn Fn(&Recording, &Command) -> Output + Send + Sync>;

/// Which commands a rule answers.
#[derive(Clone)]
pub struct When(Choice);

impl When {
    /// Those that this is true of.
    pub fn is(choice: impl Fn(&Command) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(choice))
    }

    /// All.
    pub fn any() -> Self {
        Self::is(|_| true)
    }
}

impl From<&str> for When {
    fn from(text: &str) -> Self {
        let text = text.to_owned();
        Self::is(move |command| command.argv.join(" ").contains(&text))
    }
}

impl<const N: usize> From<[&str; N]> for When {
    fn from(words: [&str; N]) -> Self {
        let words = words.map(str::to_owned);
        Self::is(move |command| command.argv.starts_with(&words))
    }
}

/// What a recording host answers.
#[derive(Clone)]
pub struct Answer {
    pub(super) delay: Duration,
    pub(super) end: End,
    pub(super) effect: Option<Effect>,
    /// How often it is still given; always if there is no number.
    left: Option<usize>,
}

#[derive(Clone)]
pub(super) enum End {
    Output(Output),
    Computed(Compute),
    Error(TransportError),
    Dies,
}

impl Answer {
    fn of(end: End) -> Self {
        Self { delay: Duration::ZERO, end, effect: None, left: None }
    }

    /// Success, with this on standard output.
    pub fn ok(stdout: impl Into<Vec<u8>>) -> Self {
        Self::of(End::Output(Output { code: 0, stdout: stdout.into(), stderr: Vec::new() }))
    }

    /// Failure with an exit code, and this on standard error.
    pub fn fails(code: i32, stderr: &str) -> Self {
        let stderr = stderr.as_bytes().to_vec();
        Self::of(End::Output(Output { code, stdout: Vec::new(), stderr }))
    }

    /// Whatever this makes of the command and the host's files.
    pub fn computed(
        compute: impl Fn(&Recording, &Command) -> Output + Send + Sync + 'static,
    ) -> Self {
        Self::of(End::Computed(Arc::new(compute)))
    }

    /// The transport's failure.
    pub fn error(error: TransportError) -> Self {
        Self::of(End::Error(error))
    }

    /// The host dies before the command ends, until it is revived.
    pub fn dies() -> Self {
        Self::of(End::Dies)
    }

    /// The same, after a time. A command whose limit is shorter is killed at its limit.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, and the command changes the host.
    #[must_use]
    pub fn then(mut self, effect: impl Fn(&Recording, &Command) + Send + Sync + 'static) -> Self {
        self.effect = Some(Arc::new(effect));
        self
    }

    /// The same, but only so often; then older rules answer.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }

    /// The same, but only once.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("delay", &self.delay).finish_non_exhaustive()
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("When")
    }
}

pub(super) struct Rule {
    pub(super) when: When,
    pub(super) answer: Answer,
}

impl Rule {
    pub(super) fn matches(&self, command: &Command) -> bool {
        self.answer.left != Some(0) && (self.when.0)(command)
    }

    pub(super) fn take(&mut self) -> Answer {
        if let Some(left) = &mut self.answer.left {
            *left -= 1;
        }
        self.answer.clone()
    }
}
