//! An etcd host that takes backups: its settings, what goes into them, and its timer.

use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::cluster_files::{Bundle, SUMS};
use super::unit::TIMER;
use super::{BACKUP, KEY, KNOWN_HOSTS, STORE, Shared, config, unit};
use crate::bootstrap::backup::{SETTINGS, Schedule};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::render::paths::PROXY_PROGRAM;
use crate::bootstrap::spec::{Host, Topology};
use crate::bootstrap::steps::hosts::files::difference;
use crate::bootstrap::transport::{Command, File};

/// The step.
#[derive(Clone, Debug)]
pub struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) host: Host,
    /// The steps of an upgrade, if that is what it comes after: it then sees to what is there already.
    pub(super) upgraded: Option<Vec<StepId>>,
}

/// What was found.
struct Look {
    /// Files that are not as they should be.
    stale: Vec<File>,
    diffs: Vec<String>,
    /// Does the timer run, now and after a restart?
    timer: bool,
    /// The cluster's keys, if there are others than this host has.
    keys: Option<Bundle>,
    /// What has to come first: a control plane that has the keys.
    lacking: Option<StepId>,
}

impl Place {
    async fn look(&self, cx: &Context) -> Result<Look, StepError> {
        let mut look =
            Look { stale: Vec::new(), diffs: Vec::new(), timer: false, keys: None, lacking: None };
        for file in self.files(cx).await? {
            let found = cx.host(&self.host.name)?.read(&file.path).await?;
            if let Some(diff) = difference(&file, found.as_ref()) {
                look.diffs.push(diff);
                look.stale.push(file);
            }
        }
        look.timer = unit::runs(cx, &self.host.name, TIMER).await?;
        if self.shared.cluster.topology == Topology::External {
            self.look_at_keys(cx, &mut look).await?;
        }
        Ok(look)
    }

    /// All files but the cluster's keys.
    async fn files(&self, cx: &Context) -> Result<Vec<File>, StepError> {
        let schedule = Schedule::parse(&self.shared.backup.schedule)
            .map_err(|why| StepError::Unverified(format!("the schedule of backups: {why}")))?;
        let mut files = config::documents(&self.shared)?;
        files.push(config::settings(&self.shared, &self.host)?);
        files.extend(config::bucket_files(&self.shared)?);
        if self.shared.targets(&self.host).next().is_some() {
            files.push(self.known_hosts(cx).await?);
        }
        files.extend(unit::backup(&schedule));
        Ok(files)
    }

    /// The host keys of those that get copies, as we see them over a connection that is trusted. One that
    /// is away keeps the keys that are known of it.
    async fn known_hosts(&self, cx: &Context) -> Result<File, StepError> {
        const SCRIPT: &str = "cat /etc/ssh/ssh_host_*_key.pub";
        let before = cx.host(&self.host.name)?.read(KNOWN_HOSTS).await?;
        let before = before.map(|found| String::from_utf8_lossy(&found.content).into_owned());
        let mut text = String::new();
        for target in self.shared.targets(&self.host) {
            let name = &target.name;
            if let Ok(output) = cx.run(name, &Command::script(SCRIPT, [""; 0])).await {
                for line in output.text().lines() {
                    let words: Vec<_> = line.split_whitespace().take(2).collect();
                    let _ = writeln!(text, "{name} {}", words.join(" "));
                }
            } else {
                let lines = before.iter().flat_map(|text| text.lines());
                let own = lines.filter(|line| line.starts_with(&format!("{name} ")));
                text.extend(own.map(|line| format!("{line}\n")));
            }
        }
        Ok(File::new(KNOWN_HOSTS, text))
    }

    async fn look_at_keys(&self, cx: &Context, look: &mut Look) -> Result<(), StepError> {
        let known = cx.host(&self.host.name)?.read(SUMS).await?;
        let Some(bundle) = Bundle::of(cx, &self.shared).await? else {
            if known.is_none() {
                let first = self.shared.control_planes().next();
                let step = crate::bootstrap::steps::control_plane::STEP;
                look.lacking = first.map(|host| StepId::new(&host.name, step));
            }
            return Ok(());
        };
        // Other recipients need another archive, though the same is in it.
        let sums = self.sums(&bundle);
        if known.is_none_or(|known| known.content != sums.as_bytes()) {
            look.keys = Some(bundle);
        }
        Ok(())
    }

    fn sums(&self, bundle: &Bundle) -> String {
        let mut sums = String::new();
        for key in &self.shared.backup.recipients {
            let _ = writeln!(sums, "# for {key}");
        }
        sums + &bundle.sums()
    }
}

impl Step for Place {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, BACKUP)
    }

    fn title(&self) -> String {
        format!("have {} take backups", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        if self.upgraded.is_some() {
            return Vec::new();
        }
        let name = &self.host.name;
        let mut needs = vec![StepId::new(name, "prepared"), self.shared.member(&self.host)];
        if self.shared.targets(&self.host).next().is_some() {
            needs.push(StepId::new(name, KEY));
        }
        needs
    }

    fn follows(&self) -> Vec<StepId> {
        if let Some(steps) = &self.upgraded {
            return steps.clone();
        }
        let stores = self.shared.targets(&self.host).map(|host| StepId::new(&host.name, STORE));
        let planes = self.shared.control_planes();
        let step = crate::bootstrap::steps::control_plane::STEP;
        stores.chain(planes.map(|host| StepId::new(&host.name, step))).collect()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async move {
            let settings = cx.host(&self.host.name)?.read(SETTINGS).await?;
            if self.upgraded.is_some() && settings.is_none() {
                return Ok(Check::Done);
            }
            let look = self.look(cx).await?;
            let why = if !look.stale.is_empty() {
                "what it needs for backups is not as it should be".to_owned()
            } else if !look.timer {
                format!("{TIMER} does not run")
            } else if look.keys.is_some() {
                "the cluster's keys that go into backups are not there, or others".to_owned()
            } else if let Some(step) = look.lacking {
                return Ok(Check::After(step));
            } else {
                return Ok(Check::Done);
            };
            Ok(Check::Needed(Change { why, diffs: look.diffs }))
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let name = &self.host.name;
            let look = self.look(cx).await?;
            let host = cx.host(name)?;
            if let Some(bundle) = &look.keys {
                host.write(&bundle.archive(&self.shared.backup.recipients)?).await?;
                host.write(&File::new(SUMS, self.sums(bundle))).await?;
            }
            for file in &look.stale {
                host.write(file).await?;
            }
            if !look.timer || look.stale.iter().any(|file| file.path.ends_with(TIMER)) {
                unit::start(cx, name, TIMER).await?;
            } else if !look.stale.is_empty() {
                cx.run(name, &Command::new(["systemctl", "daemon-reload"])).await?;
            }
            // Its metrics tell at once when a backup is due.
            let words = [PROXY_PROGRAM, "bootstrap", "etcd", "note"];
            cx.run(name, &Command::new(words)).await.map(drop)
        }
        .boxed()
    }
}
