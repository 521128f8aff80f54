//! One thing that has to be so on one host: how to see whether it is, and how to make it so.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use crate::bootstrap::transport::{Command, Output, Transport, TransportError};

/// What names a step: its host and what it is for, such as `cp1/containerd-config`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId {
    /// The host's name in the spec.
    pub host: String,
    /// What it is for: lower case with dashes, unique on its host.
    pub name: String,
}

impl StepId {
    /// The step of this name on this host.
    pub fn new(host: impl Into<String>, name: impl Into<String>) -> Self {
        Self { host: host.into(), name: name.into() }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

/// Which steps may run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Beside steps of any other host, as many hosts at once as the user allows (16 by default).
    Parallel,
    /// One host at a time in the whole cluster: control planes and etcd members.
    Single,
    /// At most so many of all steps of this lane at the same time: workers that are away.
    Batch(usize),
}

/// What its users notice while a step is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disruption {
    /// This etcd member is not in the quorum meanwhile.
    EtcdMember,
    /// The kube-apiserver of this host does not serve meanwhile.
    ApiServer,
    /// Pods leave this node.
    Node,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It is as it should be.
    Done,
    /// It is not yet: what would change, and why.
    Needed(Change),
    /// It cannot be told before this other step was applied; it will most likely be needed then.
    After(StepId),
}

/// What a step would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Why, in one line: `containerd.service is not running`.
    pub why: String,
    /// A unified diff of each file that would change, secrets left out.
    pub diffs: Vec<String>,
}

impl Change {
    /// A change without diffs.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), diffs: Vec::new() }
    }
}

/// Why a step failed: a bootstrap error carries host, step and command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The host could not be reached, or a file not be written.
    #[error("{0}")]
    Transport(#[from] TransportError),
    /// A command failed.
    #[error("{host}: `{command}` failed with exit code {code}: {complaint}")]
    Command {
        /// The host's name in the spec.
        host: String,
        /// The command, without its secrets.
        command: String,
        /// Its exit code.
        code: i32,
        /// The last of what it said.
        complaint: String,
    },
    /// It must not be done: it would break something, or something it needs is not there.
    #[error("{reason}; {remedy}")]
    Refused {
        /// Why, with the numbers.
        reason: String,
        /// What the user can do.
        remedy: String,
    },
    /// It was done and is still not so.
    #[error("{0}")]
    Unverified(String),
}

/// The hosts, each reached, by their names in the spec.
pub type Hosts = BTreeMap<String, Arc<dyn Transport>>;

/// What steps share while they run.
pub struct Context {
    /// All hosts of the spec.
    pub hosts: Hosts,
    /// What a step left for later ones in this run, such as a join token, by its type. Never more
    /// than a cache: a step that does not find it makes it anew.
    notes: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("hosts", &self.hosts.keys()).finish_non_exhaustive()
    }
}

impl Context {
    /// A context of these hosts.
    pub fn new(hosts: Hosts) -> Self {
        Self { hosts, notes: Mutex::default() }
    }

    /// The host of this name.
    ///
    /// # Errors
    /// If no such host is reached.
    pub fn host(&self, name: &str) -> Result<&Arc<dyn Transport>, StepError> {
        self.hosts.get(name).ok_or_else(|| StepError::Refused {
            reason: format!("{name} is not among the hosts that were reached"),
            remedy: format!("see `apiproxy bootstrap check --host {name}`"),
        })
    }

    /// Runs a command on a host; a command that fails is an error.
    ///
    /// # Errors
    /// If the host cannot be reached or the command fails.
    pub async fn run(&self, host: &str, command: &Command) -> Result<Output, StepError> {
        let output = self.host(host)?.run(command).await?;
        if output.ok() {
            return Ok(output);
        }
        let (code, complaint) = (output.code, output.complaint());
        let command = command.brief();
        Err(StepError::Command { host: host.to_owned(), command, code, complaint })
    }

    /// What an earlier step left, if one did.
    pub fn note<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.get(&TypeId::of::<T>()).cloned().and_then(|note| note.downcast().ok())
    }

    /// Leaves something for later steps.
    pub fn leave<T: Any + Send + Sync>(&self, note: T) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.insert(TypeId::of::<T>(), Arc::new(note));
    }
}

/// One thing that has to be so.
pub trait Step: Send + Sync + fmt::Debug {
    /// Its name.
    fn id(&self) -> StepId;

    /// What it does, for people: `join cp2 as a control plane`.
    fn title(&self) -> String;

    /// What has to be done before, on any host.
    fn needs(&self) -> Vec<StepId>;

    /// What has to be over before, done or failed: this step works with whatever is there then. So one
    /// control plane that cannot be had does not keep workers from joining through another.
    fn follows(&self) -> Vec<StepId> {
        Vec::new()
    }

    /// Beside what it may run.
    fn lane(&self) -> Lane {
        Lane::Parallel
    }

    /// What is noticed while it is applied; none by default.
    fn disruption(&self) -> Option<Disruption> {
        None
    }

    /// Looks whether it is so already. Changes nothing.
    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>>;

    /// Makes it so. May be killed at any moment and applied again.
    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>>;

    /// Makes sure that it is so after [`Step::apply`]: by default, that the check finds it done.
    fn verify<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            match self.check(cx).await? {
                Check::Done => Ok(()),
                Check::Needed(change) => Err(StepError::Unverified(change.why)),
                Check::After(step) => Err(StepError::Unverified(format!("{step} was not done"))),
            }
        })
    }
}
