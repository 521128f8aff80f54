//! The proxy as a static pod: its image is made of the host's own program, and it takes the listeners
//! over from whatever serves before it, so that no connection is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::look::Look;
use super::{Worker, node};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::steps::documents::{FIRST_POD, MANIFESTS, PROGRAM, UNIT};
use crate::bootstrap::steps::shared::PACE;
use crate::bootstrap::transport::{Command, File};

/// The name of the step.
pub const STEP: &str = "static-pod";

/// How long kubelet may take to start the pod, and the pod to take over.
const TAKEN_OVER: Duration = Duration::from_mins(3);

/// No registry: containerd gets the image from the program itself.
const IMPORT: &str = r#"
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
"$1" image --tag "$2" --output "$folder/image.tar"
ctr --namespace k8s.io images import "$folder/image.tar" >&2
"#;

/// The proxy's static pod.
#[derive(Clone, Debug)]
pub struct StaticPod(pub(super) Worker);

/// What has to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// The manifest of this generation is to be placed.
    Place(u32),
    /// It is there, and its pod does not serve yet.
    Await(u32),
    /// It serves, and these older manifests are to go.
    Retire(Vec<u32>),
    /// It serves, and no other is there.
    Stay,
}

/// `wanted` renders the manifest of a generation.
fn way(
    pods: &BTreeMap<u32, String>,
    serving: Option<u32>,
    wanted: impl Fn(u32) -> Result<String, StepError>,
) -> Result<Way, StepError> {
    let Some((newest, there)) = pods.last_key_value() else {
        return Ok(Way::Place(FIRST_POD));
    };
    if wanted(*newest)?.trim() != there.trim() {
        return Ok(Way::Place(newest + 1));
    }
    if serving != Some(*newest) {
        return Ok(Way::Await(*newest));
    }
    let older: Vec<_> = pods.keys().copied().filter(|generation| generation < newest).collect();
    Ok(if older.is_empty() { Way::Stay } else { Way::Retire(older) })
}

impl StaticPod {
    fn manifest(&self, look: &Look, generation: u32) -> Result<File, StepError> {
        let image = self.image(look)?;
        self.0.shared.documents.static_pod(generation, &image)
    }

    /// Named by the program's hash: another program is another image, and another generation.
    fn image(&self, look: &Look) -> Result<String, StepError> {
        let program = look.program.as_deref().ok_or_else(|| {
            StepError::Unverified(format!("{}: there is no {PROGRAM}", self.0.host.name))
        })?;
        Ok(format!("apiproxy:{}-{program}", env!("CARGO_PKG_VERSION")))
    }

    fn way(&self, look: &Look) -> Result<Way, StepError> {
        let serving = look.status.as_ref().and_then(|status| status.handover_generation);
        way(&look.pods, serving, |generation| {
            let file = self.manifest(look, generation)?;
            Ok(String::from_utf8_lossy(&file.content).into_owned())
        })
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let look = self.0.shared.look_at_worker(cx, &self.0.host.name).await?;
        if !look.kubelet {
            return Ok(Check::After(self.0.step(node::STEP)));
        }
        let why = match self.way(&look)? {
            Way::Stay => return Ok(Check::Done),
            Way::Place(generation) => {
                format!("the static pod of generation {generation} is not there")
            }
            Way::Await(generation) => {
                format!("the static pod of generation {generation} does not serve yet")
            }
            Way::Retire(older) => {
                format!("{} older manifests of the static pod are there", older.len())
            }
        };
        Ok(Check::Needed(Change::new(why)))
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let Worker { shared, host } = &self.0;
        let begun = Instant::now();
        loop {
            let look = shared.look_at_worker(cx, &host.name).await?;
            match self.way(&look)? {
                Way::Stay => return Ok(()),
                Way::Place(generation) => {
                    let image = self.image(&look)?;
                    let command = Command::script(IMPORT, [PROGRAM, &image]).timeout(TAKEN_OVER);
                    self.import(cx, &command).await?;
                    cx.host(&host.name)?.write(&self.manifest(&look, generation)?).await?;
                }
                Way::Await(generation) if begun.elapsed() > TAKEN_OVER => {
                    return Err(StepError::Unverified(format!(
                        "{}: the static pod apiproxy-g{generation} has not taken over within {TAKEN_OVER:?}; \
                         what served before goes on ({UNIT}, or the pod before it); see `crictl ps -a \
                         --name apiproxy` there",
                        host.name
                    )));
                }
                Way::Await(_) => sleep(PACE).await,
                Way::Retire(older) => {
                    let path = |generation| format!("{MANIFESTS}/apiproxy-g{generation}.yaml");
                    let words = ["rm", "-f", "--"].map(str::to_owned);
                    let paths = older.into_iter().map(path);
                    cx.run(&host.name, &Command::new(words.into_iter().chain(paths))).await?;
                }
            }
            shared.changed(&host.name);
        }
    }

    async fn import(&self, cx: &Context, command: &Command) -> Result<(), StepError> {
        let host = &self.0.host.name;
        let output = cx.host(host)?.run(command).await?;
        if output.ok() {
            return Ok(());
        }
        let command = "apiproxy image | ctr -n k8s.io images import -".to_owned();
        let (code, complaint) = (output.code, output.complaint());
        Err(StepError::Command { host: host.clone(), command, code, complaint })
    }
}

impl Step for StaticPod {
    fn id(&self) -> StepId {
        self.0.step(STEP)
    }

    fn title(&self) -> String {
        format!("hand the proxy of {} over to its static pod", self.0.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![self.0.step(node::STEP)]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(pods: &[(u32, &str)], serving: Option<u32>) -> Way {
        let pods = pods.iter().map(|(n, text)| (*n, (*text).to_owned())).collect();
        way(&pods, serving, |generation| Ok(format!("pod {generation} v2\n"))).unwrap()
    }

    #[test]
    fn a_generation_takes_over_before_the_older_goes() {
        assert_eq!(decided(&[], Some(1)), Way::Place(2));
        assert_eq!(decided(&[(2, "pod 2 v2")], Some(1)), Way::Await(2));
        assert_eq!(decided(&[(2, "pod 2 v2")], None), Way::Await(2));
        assert_eq!(decided(&[(2, "pod 2 v2")], Some(2)), Way::Stay);
        // Another image or another setting: the next generation.
        assert_eq!(decided(&[(2, "pod 2 v1")], Some(2)), Way::Place(3));
        assert_eq!(decided(&[(2, "pod 2 v1"), (3, "pod 3 v2")], Some(2)), Way::Await(3));
        assert_eq!(decided(&[(2, "pod 2 v1"), (3, "pod 3 v2")], Some(3)), Way::Retire(vec![2]));
        assert_eq!(decided(&[(2, "pod 2 v2"), (3, "pod 3 v1")], Some(3)), Way::Place(4));
    }
}
