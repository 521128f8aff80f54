//! The clusters that commands and handovers act on.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;

use super::protocol::{Code, Refusal};
use crate::events::Rules;
use crate::model::{ClusterName, Writer};

/// A cluster that is served.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name; `None` for the only one of a configuration without `clusters`.
    pub name: Option<ClusterName>,
    /// Publishes who is drained.
    pub writer: Rc<Writer>,
    /// In which time the connections of a drained backend leave.
    pub rules: watch::Receiver<Rules>,
    /// It is no longer in the configuration.
    pub leaving: Rc<Cell<bool>>,
}

/// All of them. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Clusters(Rc<RefCell<Vec<Cluster>>>);

impl Clusters {
    /// Adds one.
    pub fn add(&self, cluster: Cluster) {
        self.0.borrow_mut().push(cluster);
    }

    /// This one has left.
    pub fn remove(&self, cluster: &Rc<Cell<bool>>) {
        self.0.borrow_mut().retain(|other| !Rc::ptr_eq(&other.leaving, cluster));
    }

    /// All of them.
    pub fn all(&self) -> Ref<'_, [Cluster]> {
        Ref::map(self.0.borrow(), Vec::as_slice)
    }

    /// The longest `connections.drainTimeout`.
    pub fn longest_drain_timeout(&self) -> Duration {
        let timeouts = self.0.borrow();
        timeouts.iter().map(|one| one.rules.borrow().drain_timeout).max().unwrap_or_default()
    }

    /// The one that a backend of this name belongs to: `east/cp1`, where there are several.
    ///
    /// # Errors
    /// There is none, in words.
    pub(super) fn of(&self, backend: &str) -> Result<Cluster, Refusal> {
        let wanted: Vec<_> = self.all().iter().filter(|one| !one.leaving.get()).cloned().collect();
        if let [only] = wanted.as_slice()
            && only.name.is_none()
        {
            return Ok(only.clone());
        }
        let prefix = backend.split_once('/').map(|(prefix, _)| prefix);
        let is_it = |one: &&Cluster| one.name.as_ref().map(ClusterName::as_str) == prefix;
        if let Some(found) = wanted.iter().find(is_it) {
            return Ok(found.clone());
        }
        let shown: String = backend.chars().take(100).collect();
        let refusal = |message: String| Refusal::new(Code::UnknownBackend, message);
        let names = wanted.iter().filter_map(|one| one.name.as_ref());
        let names: Vec<_> = names.map(ToString::to_string).collect();
        if prefix.is_some() {
            let message = format!("there is no cluster with a backend {shown:?}");
            return Err(refusal(message).hint(format!("the clusters are {}", names.join(", "))));
        }
        let which: Vec<_> = names.iter().map(|name| format!("`{name}/{shown}`")).collect();
        let message = format!("{shown:?} does not say of which cluster");
        Err(refusal(message).hint(format!("write {}", which.join(" or "))))
    }
}
