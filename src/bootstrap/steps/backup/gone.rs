//! What a host had for backups and needs no more: timers, units and keys go, backups stay.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::cluster_files::{ARCHIVES, SUMS};
use super::config::S3_CA;
use super::unit::{DRILL_TIMER, TIMER};
use super::{AUTHORIZED_KEYS, FOLDER, GONE, HOME, IDENTITY, KNOWN_HOSTS, USER};
use crate::bootstrap::backup::fleet::COPIES;
use crate::bootstrap::backup::{
    CREDENTIALS, DRILL_SETTINGS, DRILL_UNIT, JOURNAL, SETTINGS, TEXTFILE, UNIT,
};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::needs;
use crate::bootstrap::spec::{Cluster, Host};
use crate::bootstrap::transport::Command;

/// What a host shall do for backups from now on.
#[expect(clippy::struct_excessive_bools, reason = "each duty is had or not, whatever the others")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Duties {
    /// Take some.
    pub(super) takes: bool,
    /// Bring copies to others.
    pub(super) gives: bool,
    /// Take copies of others.
    pub(super) keeps: bool,
    /// Bring copies to a bucket.
    pub(super) sends: bool,
    /// Hold drills.
    pub(super) drills: bool,
}

impl Duties {
    pub(super) fn of(cluster: &Cluster, host: &Host) -> Self {
        let Some(backup) = &cluster.etcd.backup else { return Self::default() };
        let takes = needs::carries_etcd(cluster, host);
        let gives = takes && backup.copy_to.iter().any(|name| *name != host.name);
        let others = cluster.etcd_hosts().any(|other| other.name != host.name);
        let keeps = others && backup.copy_to.contains(&host.name);
        let sends = takes && backup.s3.is_some();
        Self { takes, gives, keeps, sends, drills: needs::holds_drills(cluster, host) }
    }

    /// The files of ours that are not needed any more; of a folder, nothing is.
    pub(super) fn superfluous(self) -> Vec<String> {
        let unit = |name: &str| format!("/etc/systemd/system/{name}");
        let mut files = Vec::new();
        if !self.takes {
            files.extend([TIMER, UNIT].map(unit));
        }
        if !self.drills {
            files.extend([DRILL_TIMER, DRILL_UNIT].map(unit));
        }
        match (self.takes, self.drills) {
            (false, false) => files.push(FOLDER.to_owned()),
            (true, false) => files.push(DRILL_SETTINGS.to_owned()),
            // The rest of it is of backups: the keys of the cluster among them.
            (false, true) => {
                files.extend([SETTINGS, SUMS].map(str::to_owned));
                files.extend(ARCHIVES.map(str::to_owned));
            }
            (true, true) => {}
        }
        if !self.gives {
            files.extend([IDENTITY, KNOWN_HOSTS].map(str::to_owned));
            files.push(format!("{IDENTITY}.pub"));
        }
        if (self.takes || self.drills) && !self.sends {
            files.extend([CREDENTIALS, S3_CA].map(str::to_owned));
        }
        if !self.keeps {
            files.push(AUTHORIZED_KEYS.to_owned());
        }
        if self == Self::default() {
            // A host that keeps copies tells of drills that were held with them.
            files.extend([JOURNAL, TEXTFILE].map(str::to_owned));
            files.push(JOURNAL.replace(".json", ".lock"));
        }
        files
    }

    /// Takes them away: the timers first, then the keys.
    ///
    /// # Errors
    /// The host cannot be reached, or does not let go.
    pub(super) async fn clear(self, cx: &Context, host: &str) -> Result<(), StepError> {
        // Copies stay, for root alone.
        const SCRIPT: &str = r#"
# take away who took copies of backups
systemctl daemon-reload
if [ -n "$1" ] && getent passwd "$1" >/dev/null; then
    if [ -d "$3" ]; then chown -R root:root "$3"; fi
    rm -rf -- "$2/.ssh"
    userdel --force "$1" 2>/dev/null || ! getent passwd "$1" >/dev/null
fi
"#;
        let timers = [(self.takes, TIMER), (self.drills, DRILL_TIMER)];
        for (_, timer) in timers.iter().filter(|(stays, _)| !stays) {
            // It is in the way of nothing if there is none.
            let stop = Command::new(["systemctl", "disable", "--now", timer]);
            cx.host(host)?.run(&stop).await?;
        }
        let files = self.superfluous();
        let words = ["rm", "-rf", "--"].map(str::to_owned).into_iter().chain(files);
        cx.run(host, &Command::new(words)).await?;
        let user = if self.keeps { "" } else { USER };
        cx.run(host, &Command::script(SCRIPT, [user, HOME, COPIES])).await.map(drop)
    }
}

/// The step.
#[derive(Clone, Debug)]
pub(super) struct Gone {
    pub(super) cluster: Arc<Cluster>,
    pub(super) host: Host,
}

impl Step for Gone {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, GONE)
    }

    fn title(&self) -> String {
        format!("take away what {} no longer needs for backups, which stay", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        const SCRIPT: &str = r#"
user=$1; shift
for file; do if [ -e "$file" ]; then echo "$file"; fi; done
if [ -n "$user" ] && getent passwd "$user" >/dev/null; then echo "the user $user"; fi
"#;
        async move {
            let duties = Duties::of(&self.cluster, &self.host);
            let user = if duties.keeps { "" } else { USER };
            let words = [user.to_owned()].into_iter().chain(duties.superfluous());
            let found = cx.run(&self.host.name, &Command::script(SCRIPT, words)).await?.text();
            let found: Vec<_> = found.lines().collect();
            if found.is_empty() {
                return Ok(Check::Done);
            }
            Ok(Check::Needed(Change::new(format!("there are {}", found.join(", ")))))
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Duties::of(&self.cluster, &self.host).clear(cx, &self.host.name).boxed()
    }
}
