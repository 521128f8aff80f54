//! What a worker's proxy reads: its configuration, the cluster's CA, and its own credentials. It follows
//! every change of the control planes.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Worker, credentials};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::steps::documents::{PROGRAM, PROXY_CA};
use crate::bootstrap::transport::{Command, File};

/// The name of the step.
pub const STEP: &str = "proxy-config";

/// The proxy's files.
#[derive(Clone, Debug)]
pub struct Config(pub(super) Worker);

impl Config {
    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let Worker { shared, host } = &self.0;
        let Some(via) = shared.serving(cx).await? else {
            return Ok(Check::After(self.0.first_control_plane()));
        };
        self.no_control_plane(cx).await?;
        let look = shared.look_at_worker(cx, &host.name).await?;
        let mut change = Change::new("the proxy's files are not as wished");
        for file in shared.documents.proxy(&shared.cluster, host)? {
            let there = look.contents.get(&file.path);
            let wanted = String::from_utf8_lossy(&file.content);
            if there.map(String::as_str) != Some(wanted.trim()) {
                change.diffs.push(diff(
                    &file.path,
                    there.map_or("", String::as_str),
                    wanted.trim(),
                ));
            }
        }
        if !change.diffs.is_empty() {
            return Ok(Check::Needed(change));
        }
        let ca = shared.authority(cx, &via).await?;
        if look.contents.get(PROXY_CA).map(String::as_str) != Some(ca.trim()) {
            return Ok(Check::Needed(Change::new("the proxy has not the cluster's CA")));
        }
        Ok(match credentials::fault(look.certificate.as_deref()) {
            Some(fault) => Check::Needed(Change::new(fault)),
            None => Check::Done,
        })
    }

    /// Its apiserver has the port that the proxy needs.
    async fn no_control_plane(&self, cx: &Context) -> Result<(), StepError> {
        let name = &self.0.host.name;
        let nodes = self.0.shared.nodes(cx).await?;
        let mut nodes = nodes.iter().flat_map(|nodes| nodes.iter());
        if nodes.any(|node| node.name == *name && node.is_control_plane()) {
            return Err(StepError::Refused {
                reason: format!(
                    "{name} is a control plane of the cluster, and a worker in the file"
                ),
                remedy: "take it out of the file, run `apply --prune`, and put it in again"
                    .to_owned(),
            });
        }
        Ok(())
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let Worker { shared, host } = &self.0;
        let via = shared.through(cx).await?;
        let look = shared.look_at_worker(cx, &host.name).await?;
        let transport = cx.host(&host.name)?;
        let ca = shared.authority(cx, &via).await?;
        // What the configuration names comes before it; what makes users and folders, before both.
        let files = shared.documents.proxy(&shared.cluster, host)?;
        let (configuration, others) = files.split_first().ok_or_else(no_configuration)?;
        for file in others {
            transport.write(file).await?;
            if let Some(command) = takes_effect(&file.path) {
                cx.run(&host.name, &command).await?;
            }
        }
        transport.write(&File::new(PROXY_CA, ca.as_bytes())).await?;
        if credentials::fault(look.certificate.as_deref()).is_some() {
            let identity = credentials::mint(cx, &via, &host.name, ca.to_string()).await?;
            transport.write(&shared.documents.kubeconfig(&shared.cluster, &identity)?).await?;
        }
        transport.write(configuration).await?;
        if look.status.is_some() {
            // It would see the file by itself; asked, it also says what is wrong with it.
            cx.run(&host.name, &Command::new([PROGRAM, "reload"])).await?;
        }
        Ok(())
    }
}

fn no_configuration() -> StepError {
    StepError::Unverified("the proxy has no configuration".to_owned())
}

/// What makes a file count that systemd reads at boot.
fn takes_effect(path: &str) -> Option<Command> {
    if path.starts_with("/etc/sysusers.d/") {
        return Some(Command::new(["systemd-sysusers", path]));
    }
    path.starts_with("/etc/tmpfiles.d/")
        .then(|| Command::new(["systemd-tmpfiles", "--create", path]))
}

/// A unified diff.
fn diff(path: &str, there: &str, wanted: &str) -> String {
    let diff = similar::TextDiff::from_lines(there, wanted);
    diff.unified_diff().context_radius(2).header(path, path).to_string()
}

impl Step for Config {
    fn id(&self) -> StepId {
        self.0.step(STEP)
    }

    fn title(&self) -> String {
        format!("configure the proxy of {}", self.0.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![self.0.step("prepared")]
    }

    fn follows(&self) -> Vec<StepId> {
        let cluster = &self.0.shared.cluster;
        let first = cluster.with_role(crate::bootstrap::spec::Role::ControlPlane).next();
        let addons = crate::bootstrap::steps::control_plane::addons::ADDONS;
        let mut before = self.0.after_control_planes();
        before.extend(first.map(|host| StepId::new(&host.name, addons)));
        before
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            self.0.shared.changed(&self.0.host.name);
            let outcome = self.make(cx).await;
            self.0.shared.changed(&self.0.host.name);
            outcome
        }
        .boxed()
    }
}
