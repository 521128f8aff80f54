//! A host that holds drills by a timer: its settings and its units.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{DRILL, STORE, Shared, unit};
use crate::bootstrap::backup::fleet::places;
use crate::bootstrap::backup::{DRILL_SETTINGS, DrillSettings, JOURNAL, Schedule, TEXTFILE};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::needs;
use crate::bootstrap::spec::{EtcdDrill, Host};
use crate::bootstrap::steps::hosts::files::difference;
use crate::bootstrap::transport::{Command, File};

use std::path::PathBuf;
use std::sync::Arc;

/// The step.
#[derive(Clone, Debug)]
pub(super) struct Drill {
    pub(super) shared: Arc<Shared>,
    pub(super) host: Host,
    pub(super) wished: EtcdDrill,
}

impl Drill {
    /// All files of it.
    pub(super) fn files(&self) -> Result<Vec<File>, StepError> {
        let wrong = |why: String| StepError::Unverified(format!("the settings of drills: {why}"));
        let cluster = &self.shared.cluster;
        let own = places(cluster).into_iter().filter(|place| place.host == self.host.name);
        let settings = DrillSettings {
            cluster: cluster.name.clone(),
            folders: own.map(|place| PathBuf::from(place.folder)).collect(),
            identity_file: self.wished.identity_file.as_ref().map(PathBuf::from),
            textfile: PathBuf::from(TEXTFILE),
            journal: PathBuf::from(JOURNAL),
        };
        let json =
            serde_json::to_string_pretty(&settings).map_err(|error| wrong(error.to_string()))?;
        let schedule = Schedule::parse(&self.wished.schedule).map_err(wrong)?;
        let settings = File::new(DRILL_SETTINGS, json + "\n").mode(0o600);
        Ok([settings].into_iter().chain(unit::drill(&schedule)).collect())
    }

    /// The files that are not as they should be, with what would change.
    async fn stale(&self, cx: &Context) -> Result<Vec<(File, String)>, StepError> {
        let mut stale = Vec::new();
        for file in self.files()? {
            let found = cx.host(&self.host.name)?.read(&file.path).await?;
            if let Some(diff) = difference(&file, found.as_ref()) {
                stale.push((file, diff));
            }
        }
        Ok(stale)
    }

    /// Why a drill could not be held, which only the operator can change.
    async fn obstacle(&self, cx: &Context) -> Result<Option<String>, StepError> {
        const SCRIPT: &str = r#"[ -z "$1" ] || [ -s "$1" ] || echo "$1""#;
        let file = self.wished.identity_file.clone().unwrap_or_default();
        let lacking = cx.run(&self.host.name, &Command::script(SCRIPT, [&file])).await?.text();
        Ok(Some(lacking.trim().to_owned()).filter(|file| !file.is_empty()))
    }
}

impl Step for Drill {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, DRILL)
    }

    fn title(&self) -> String {
        format!("have {} hold drills with backups", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        let name = &self.host.name;
        let prepared = StepId::new(name, "prepared");
        if needs::carries_etcd(&self.shared.cluster, &self.host) {
            vec![prepared, self.shared.member(&self.host)]
        } else {
            vec![prepared]
        }
    }

    fn follows(&self) -> Vec<StepId> {
        vec![StepId::new(&self.host.name, STORE), StepId::new(&self.host.name, super::BACKUP)]
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async move {
            let stale = self.stale(cx).await?;
            let why = if !stale.is_empty() {
                "what it needs for drills is not as it should be".to_owned()
            } else if !unit::runs(cx, &self.host.name, unit::DRILL_TIMER).await? {
                format!("{} does not run", unit::DRILL_TIMER)
            } else if let Some(file) = self.obstacle(cx).await? {
                format!("there is no private key at {file}")
            } else {
                return Ok(Check::Done);
            };
            let diffs = stale.into_iter().map(|(_, diff)| diff).collect();
            Ok(Check::Needed(Change { why, diffs }))
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let name = &self.host.name;
            if let Some(file) = self.obstacle(cx).await? {
                return Err(StepError::Refused {
                    reason: format!("{name}: there is no private key of age at {file}"),
                    remedy: "put that of one of the recipients there, mode 0600, for root alone"
                        .to_owned(),
                });
            }
            for (file, _) in self.stale(cx).await? {
                cx.host(name)?.write(&file).await?;
            }
            unit::start(cx, name, unit::DRILL_TIMER).await
        }
        .boxed()
    }
}
