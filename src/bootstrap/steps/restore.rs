//! `etcd restore`: etcd is brought back from one snapshot.
//!
//! In this order: the hosts that will carry members are prepared and asked whether they can, while the old
//! cluster still runs; the control planes stop; etcd stops everywhere and its data are moved aside. Of an
//! external etcd every member is made anew of the same snapshot, as part of a new cluster; they start, and
//! their hashes are compared. Of a stacked one the first member is made anew and comes back alone, with its
//! control plane; the other control planes join it as new ones do. Then control planes, proxies and kubelets
//! see the restored cluster, what it remembers of hosts that are gone is taken away, and a backup is taken.
//!
//! What is so far is seen on the hosts: the folder of the restore, and the mark in a member's data. So a run
//! that was cut off is gone on with from any machine.

mod first;
mod ghosts;
mod hosts;
mod keys;
mod later;
mod look;
mod order;
mod scripts;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::etcd;
use super::shared::Shared;
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::restore::Restore;
use crate::bootstrap::spec::{Cluster, Host, Topology};
use look::Look;

pub use first::{choose_first, version_of};
pub use keys::usable;
pub use look::{made_everywhere, quorum, under_way};
pub use order::steps;
pub use snapshot::{Facts, Snapshot};

/// A restore and what its steps share.
#[derive(Debug)]
pub struct Restoring {
    /// The cluster as it will be.
    pub cluster: Arc<Cluster>,
    /// What the steps of that cluster share.
    pub shared: Arc<Shared>,
    /// The restore.
    pub restore: Restore,
    /// What it comes from.
    pub snapshot: Snapshot,
    /// The files of a control plane that the backup holds: they go where they are missing.
    pub files: Vec<(String, Vec<u8>)>,
    /// Hosts that do not answer: nothing is done on them.
    pub away: Vec<String>,
    /// The hosts that leave and answer.
    pub leaving: Vec<Host>,
    /// The restores of which hosts knew when the plan was made.
    pub made: BTreeMap<String, BTreeSet<String>>,
    /// The hosts on which another restore was under way, in whose place this one is.
    pub given_up: Vec<Host>,
}

/// What is done on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The data can be made here: there is a tool for it, and room.
    Fit,
    /// The programs of a control plane stop.
    Halted,
    /// etcd stops, and its data are moved aside.
    Stopped,
    /// The data are made anew.
    Data,
    /// Of a stacked etcd the first member runs, alone.
    First,
    /// All members have the same hashes.
    Checked,
    /// The cluster's keys are put where they are missing.
    Files,
    /// The programs of a control plane run again.
    Back,
    /// kubelet was restarted.
    Kubelet,
    /// Control planes that are to join anew are forgotten.
    Forgotten,
    /// A control plane is cleared, so that it can join anew.
    Cleared,
    /// What the cluster remembers of hosts that are gone is taken away.
    Ghosts,
    /// A backup of the restored cluster was taken.
    Fresh,
    /// The restore is over on this host.
    Closed,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Fit => "restore-fit",
            Self::Halted => "restore-control-plane-stopped",
            Self::Stopped => "restore-etcd-stopped",
            Self::Data => "restore-data",
            Self::First => "restore-first",
            Self::Checked => "restore-compared",
            Self::Files => "restore-keys",
            Self::Back => "restore-control-plane-back",
            Self::Kubelet => "restore-kubelet",
            Self::Forgotten => "restore-forgotten",
            Self::Cleared => "restore-cleared",
            Self::Ghosts => "restore-gone-hosts",
            Self::Fresh => "restore-backup",
            Self::Closed => "restore-closed",
        }
    }
}

/// One part on one host.
#[derive(Clone, Debug)]
struct RestoreStep {
    shared: Arc<Restoring>,
    host: Host,
    part: Part,
    needs: Vec<StepId>,
    follows: Vec<StepId>,
}

impl Restoring {
    fn is_stacked(&self) -> bool {
        self.cluster.topology == Topology::Stacked
    }

    /// The host where the checks of the whole are made; of a stacked etcd the one that begins.
    fn first(&self) -> &str {
        let listed = self.cluster.etcd_hosts().next().map_or("", |host| &host.name);
        self.restore.first.as_deref().unwrap_or(listed)
    }

    /// Are the data made anew on this host? On the others that carry a stacked etcd they are not: those join.
    fn is_rebuilt(&self, host: &str) -> bool {
        let members = &mut self.cluster.etcd_hosts();
        if self.is_stacked() {
            return self.first() == host;
        }
        members.any(|member| member.name == host)
    }

    /// All members of the new cluster as it begins, as etcd is told them.
    fn initial_cluster(&self) -> String {
        let mut peers = etcd::founders(&self.cluster);
        peers.retain(|(name, _)| self.is_rebuilt(name));
        let peers: Vec<_> = peers.iter().map(|(name, url)| format!("{name}={url}")).collect();
        peers.join(",")
    }

    /// Where apiservers reach etcd.
    fn servers(&self) -> String {
        let url = |host: &Host| {
            let address = SocketAddr::new(host.address, etcd::paths::CLIENT_PORT);
            format!("https://{address}")
        };
        self.cluster.etcd_hosts().map(url).collect::<Vec<_>>().join(",")
    }

    fn is_member(&self, host: &Host) -> bool {
        self.cluster.etcd_hosts().any(|member| member.name == host.name)
    }
}

impl RestoreStep {
    fn after(&self, part: Part) -> Check {
        Check::After(StepId::new(&self.host.name, part.name()))
    }

    /// After the members were compared, or what is missing of it.
    fn once_compared(&self, compared: bool, why: &str) -> Check {
        if compared {
            return Check::Needed(Change::new(why));
        }
        Check::After(StepId::new(self.shared.first(), Part::Checked.name()))
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let look = Look::of(cx, &self.host.name, &self.shared.restore).await?;
        let needed = |why: &str| Check::Needed(Change::new(why));
        let compared = async || -> Result<bool, StepError> {
            Ok(Look::of(cx, self.shared.first(), &self.shared.restore).await?.has("compared"))
        };
        let stacked = self.shared.is_stacked();
        let begins = stacked && self.shared.first() == self.host.name;
        let joins = stacked && !begins;
        Ok(match self.part {
            Part::Fit if look.has("fit") || look.is_restored() => Check::Done,
            Part::Fit => needed("it is to be asked whether data can be restored here"),
            // It joins, or has joined: what runs there now is of the restored cluster.
            Part::Halted | Part::Stopped if joins && look.has("cleared") => Check::Done,
            Part::Halted if look.has("back") || look.has("halted") && look.is_halted() => {
                Check::Done
            }
            Part::Halted if look.is_halted() && !self.shared.restore.new_authority => Check::Done,
            Part::Halted => needed("its kube-apiserver and what writes through it stop"),
            Part::Stopped if look.is_restored() || look.is_stopped() => Check::Done,
            Part::Stopped if self.shared.is_member(&self.host) => {
                needed("etcd stops here, and its data are moved aside")
            }
            Part::Stopped => needed("etcd stops here for good, and its data are moved aside"),
            Part::Data if look.is_restored() => Check::Done,
            Part::Data if !look.is_stopped() => self.after(Part::Stopped),
            Part::Data => needed("it has no data of the snapshot yet"),
            Part::First if look.has("first") => Check::Done,
            Part::First if !look.is_restored() => self.after(Part::Data),
            Part::First => needed("etcd runs here alone at first"),
            Part::Checked if look.has("compared") => Check::Done,
            Part::Checked if self.shared.is_stacked() && !look.has("first") => {
                self.after(Part::First)
            }
            Part::Checked if self.shared.is_stacked() => {
                needed("its revision and its members are to be compared")
            }
            Part::Checked if !look.is_restored() => self.after(Part::Data),
            Part::Checked => needed("the hashes of all members are to be compared"),
            Part::Files => match hosts::missing_files(self, cx).await?.len() {
                0 => Check::Done,
                count => needed(&format!("{count} keys of the cluster are missing")),
            },
            Part::Back if look.has("back") || !begins && look.never_ran() => Check::Done,
            Part::Back => self.once_compared(compared().await?, "its programs are to run again"),
            Part::Kubelet if look.has("kubelet") || !begins && !look.kubelet => Check::Done,
            Part::Kubelet => {
                self.once_compared(compared().await?, "kubelet is to see the restored cluster")
            }
            Part::Forgotten if look.has("forgotten") => Check::Done,
            Part::Forgotten => self.once_compared(
                look.has("back"),
                "other control planes are Nodes of the restored cluster, and are to join anew",
            ),
            Part::Cleared if look.has("cleared") => Check::Done,
            Part::Cleared => {
                let first = Look::of(cx, self.shared.first(), &self.shared.restore).await?;
                let why = "it is reset, and what is in /etc/kubernetes kept aside, to join anew";
                if first.has("forgotten") {
                    needed(why)
                } else {
                    Check::After(StepId::new(self.shared.first(), Part::Forgotten.name()))
                }
            }
            Part::Ghosts if look.has("ghosts") => Check::Done,
            Part::Ghosts => self.once_compared(
                compared().await?,
                "Nodes and etcd members are to be looked for whose hosts the file does not name, and of which no \
                 kubelet is heard",
            ),
            Part::Fresh if look.has("fresh") => Check::Done,
            Part::Fresh => {
                self.once_compared(compared().await?, "there is no backup since the restore")
            }
            Part::Closed if look.is_closed() => Check::Done,
            Part::Closed => self.once_compared(compared().await?, "the restore is under way"),
        })
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        match self.part {
            Part::Fit => hosts::fit(self, cx).await,
            Part::Halted => hosts::halt(self, cx).await,
            Part::Stopped => hosts::stop(self, cx).await,
            Part::Data => hosts::data(self, cx).await,
            Part::First => first::come_up(self, cx).await,
            Part::Checked if self.shared.is_stacked() => first::compare(self, cx).await,
            Part::Checked => hosts::compare(self, cx).await,
            Part::Files => hosts::files(self, cx).await,
            Part::Back => hosts::back(self, cx).await,
            Part::Kubelet => hosts::kubelet(self, cx).await,
            Part::Forgotten => first::forget_others(self, cx).await,
            Part::Cleared => first::clear(self, cx).await,
            Part::Ghosts => ghosts::remove(self, cx).await,
            Part::Fresh => hosts::fresh(self, cx).await,
            Part::Closed => hosts::close(self, cx).await,
        }
    }
}

impl Step for RestoreStep {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, self.part.name())
    }

    fn title(&self) -> String {
        let host = &self.host.name;
        match self.part {
            Part::Fit => format!("ask {host} whether it has the tool and the room"),
            Part::Halted => format!("stop the programs of the control plane {host}"),
            Part::Stopped => format!("stop etcd on {host} and move its data aside"),
            Part::Data => format!("restore {} on {host}", self.shared.restore.source),
            Part::First => format!("start etcd on {host} as the only member"),
            Part::Checked if self.shared.is_stacked() => {
                format!("compare what etcd on {host} has with the snapshot")
            }
            Part::Checked => "compare the hashes of all members".to_owned(),
            Part::Files => format!("put the cluster's keys onto {host}"),
            Part::Back => format!("let the control plane {host} run again"),
            Part::Kubelet => format!("restart kubelet on {host}"),
            Part::Forgotten => "forget the other control planes, which join anew".to_owned(),
            Part::Cleared => format!("reset {host}, so that it can join anew"),
            Part::Ghosts => "take away the Nodes and members of hosts that are gone".to_owned(),
            Part::Fresh => "take a backup of what was restored".to_owned(),
            Part::Closed => format!("the restore is over on {host}"),
        }
    }

    fn needs(&self) -> Vec<StepId> {
        self.needs.clone()
    }

    fn follows(&self) -> Vec<StepId> {
        self.follows.clone()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        Box::pin(self.found(cx))
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(self.make(cx))
    }
}
