//! The flags of a control plane's programs follow the file: what a running one has is compared with what
//! it should have, and kubeadm writes the manifests anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::look::{Look, Standing};
use super::{STEP, processes};
use crate::bootstrap::engine::{Change, Check, Context, Disruption, Lane, Step, StepError, StepId};
use crate::bootstrap::kubernetes::Report;
use crate::bootstrap::spec::{Cluster, Host, Overrides};
use crate::bootstrap::steps::shared::{PACE, Shared, join};

/// The name of the step.
pub const SETTINGS: &str = "control-plane-settings";

/// How long the new programs may take: kubelet looks at its manifests every 20 s, and the apiserver says
/// "not ready" for 20 s when it ends.
const BACK: Duration = Duration::from_mins(5);

/// A program of the control plane: its name, its key in the `ClusterConfiguration`, its flags in a host's
/// own settings.
type Component = (&'static str, &'static str, fn(&Overrides) -> &BTreeMap<String, String>);

const COMPONENTS: [Component; 3] = [
    ("kube-apiserver", "apiServer", |overrides| &overrides.api_server),
    ("kube-controller-manager", "controllerManager", |overrides| &overrides.controller_manager),
    ("kube-scheduler", "scheduler", |overrides| &overrides.scheduler),
];

type Flags = BTreeMap<String, String>;

/// The `extraArgs` of a component: a mapping in v1beta3, a list of names and values in v1beta4.
fn extra_args(configuration: &Value, key: &str) -> Flags {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match &configuration[key]["extraArgs"] {
        Value::Object(map) => {
            map.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
        }
        Value::Array(list) => list
            .iter()
            .filter_map(|arg| Some((text(&arg["name"])?, text(&arg["value"])?)))
            .collect(),
        _ => Flags::new(),
    }
}

/// Where an external etcd is: an apiserver follows its members.
fn etcd_servers(configuration: &Value) -> Option<(String, String)> {
    let endpoints = configuration["etcd"]["external"]["endpoints"].as_array()?;
    let endpoints: Vec<_> = endpoints.iter().filter_map(Value::as_str).collect();
    Some(("etcd-servers".to_owned(), endpoints.join(",")))
}

/// The flags of a static pod. The last of several counts, as for the program.
fn running(manifest: &Value) -> Flags {
    let command = manifest["spec"]["containers"][0]["command"].as_array();
    let words = command.into_iter().flatten().filter_map(Value::as_str);
    let flags = words.filter_map(|word| word.strip_prefix("--"));
    flags.map(|flag| flag.split_once('=').unwrap_or((flag, "true"))).map(own).collect()
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What differs: flags that have another value, and those that the cluster was given once and the file
/// has no more. Flags that kubeadm gives by itself are its own affair.
fn difference(wanted: &Flags, given: &Flags, running: &Flags) -> String {
    let mut lines = String::new();
    let names: BTreeSet<_> = wanted.keys().chain(given.keys()).collect();
    for name in names {
        let (new, old) = (wanted.get(name), running.get(name));
        if new == old {
            continue;
        }
        for (sign, value) in [('-', old), ('+', new)] {
            if let Some(value) = value {
                let _ = writeln!(lines, "{sign}--{name}={value}");
            }
        }
    }
    lines
}

fn parsed(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_default()
}

/// The differences of a control plane, one text a program.
fn differences(wished: &str, host: &Host, look: &Look) -> Vec<String> {
    let (wished, stored) = (parsed(wished), parsed(&look.configuration));
    let of = |(name, key, overrides): &Component| {
        let manifest = parsed(look.manifests.get(*name)?);
        let mut wanted = extra_args(&wished, key);
        if *key == "apiServer" {
            wanted.extend(etcd_servers(&wished));
        }
        wanted.extend(overrides(&host.overrides).clone());
        let lines = difference(&wanted, &extra_args(&stored, key), &running(&manifest));
        (!lines.is_empty()).then(|| format!("--- {name}\n+++ {name}\n{lines}"))
    };
    COMPONENTS.iter().filter_map(of).collect()
}

/// The settings of a control plane.
#[derive(Clone, Debug)]
pub struct Settings {
    shared: Arc<Shared>,
    host: Host,
}

impl Settings {
    /// Those of this host.
    pub(super) fn new(shared: &Arc<Shared>, host: &Host) -> Self {
        Self { shared: shared.clone(), host: host.clone() }
    }

    fn cluster(&self) -> &Cluster {
        &self.shared.cluster
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let look = self.shared.look(cx, &self.host.name).await?;
        if look.standing(self.cluster(), &self.host) != Standing::Serving {
            return Ok(Check::After(StepId::new(&self.host.name, STEP)));
        }
        let wished = self.shared.documents.settings(self.cluster())?;
        let diffs = differences(&wished, &self.host, &look);
        if diffs.is_empty() {
            return Ok(Check::Done);
        }
        let why = "flags of the control plane are not as wished".to_owned();
        Ok(Check::Needed(Change { why, diffs }))
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let (shared, name) = (&self.shared, self.host.name.as_str());
        for file in shared.documents.beside(self.cluster(), &self.host)? {
            cx.host(name)?.write(&file).await?;
        }
        // The phases read the same document; the key in it is for an upload that they do not do.
        let key = join::certificate_key()?;
        let document = shared.documents.init(self.cluster(), &self.host, &key)?;
        let phase = async |words: [&'static str; 2]| {
            let words = [["init", "phase"], words].concat();
            join::kubeadm(cx, name, &words, &document, self.cluster().kubernetes_version).await
        };
        phase(["upload-config", "kubeadm"]).await?;
        phase(["control-plane", "all"]).await?;
        let begun = Instant::now();
        while let Some(fault) = self.fault(cx).await? {
            if begun.elapsed() > BACK {
                return Err(StepError::Unverified(format!(
                    "{name}: {fault} {BACK:?} after its flags were changed; see `crictl ps -a` and `crictl \
                     logs` there, and take back what the file says of them"
                )));
            }
            sleep(PACE).await;
        }
        Ok(())
    }

    /// What there is still to be waited for: new processes first, for until then it is the old apiserver
    /// that says that all is well.
    async fn fault(&self, cx: &Context) -> Result<Option<String>, StepError> {
        let name = self.host.name.as_str();
        self.shared.changed(name);
        let look = self.shared.look(cx, name).await?;
        let programs = look.manifests.keys().map(String::as_str);
        let found = cx.host(name)?.run(&processes::command(programs)).await?;
        let behind = processes::behind(&look, &Report::read(&found.stdout));
        if !behind.is_empty() {
            return Ok(Some(format!("{} has not started anew", behind.join(", "))));
        }
        let serves = look.standing(self.cluster(), &self.host) == Standing::Serving;
        Ok((!serves).then(|| "its kube-apiserver is not ready".to_owned()))
    }
}

impl Step for Settings {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, SETTINGS)
    }

    fn title(&self) -> String {
        format!("set the flags of the control plane {}", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![StepId::new(&self.host.name, STEP)]
    }

    fn lane(&self) -> Lane {
        Lane::Single
    }

    fn disruption(&self) -> Option<Disruption> {
        Some(Disruption::ApiServer)
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.make(cx).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::steps::documents::{Documents as _, Rendered};
    use crate::bootstrap::steps::world::cluster;

    fn manifest(flags: &str) -> String {
        let flags = flags.replace(' ', "\n    - ");
        format!("spec:\n  containers:\n  - command:\n    - kube-apiserver\n    - {flags}\n")
    }

    /// A look at a control plane that was made from this cluster, with these flags.
    fn made_from(cluster: &Cluster, flags: &str) -> Look {
        let manifests = BTreeMap::from([("kube-apiserver".to_owned(), manifest(flags))]);
        let configuration = Rendered.settings(cluster).unwrap();
        let mut look = Look::default();
        (look.manifests, look.configuration) = (manifests, configuration);
        look
    }

    #[test]
    fn apiservers_follow_an_external_etcd() {
        use crate::bootstrap::spec::{Role, Topology};
        let mut cluster = cluster();
        cluster.topology = Topology::External;
        for host in &mut cluster.hosts[3..] {
            host.roles = [Role::Etcd].into();
        }
        let wished = Rendered.settings(&cluster).unwrap();
        let there = "--etcd-servers=https://10.0.0.31:2379,https://10.0.0.32:2379";
        let look = made_from(&cluster, &format!("{OURS} {there}"));
        assert_eq!(differences(&wished, &cluster.hosts[0], &look), Vec::<String>::new());
        let look = made_from(&cluster, &format!("{OURS} {}", there.replace(".31", ".39")));
        let diffs = differences(&wished, &cluster.hosts[0], &look).concat();
        assert!(diffs.contains(&format!("+{there}")), "{diffs}");
    }

    const OURS: &str = "--goaway-chance=0.001 --shutdown-delay-duration=20s --secure-port=6443";

    #[test]
    fn only_what_the_file_says_or_said_counts() {
        for version in ["v1.30.4", "v1.34.2"] {
            let mut cluster = cluster();
            cluster.kubernetes_version = version.parse().unwrap();
            let mut before = cluster.clone();
            before.overrides.api_server.insert("v".to_owned(), "4".to_owned());
            let wished = Rendered.settings(&cluster).unwrap();
            let host = &mut cluster.hosts[0];
            let look = made_from(&before, &format!("{OURS} --v=4"));
            let gone = "--- kube-apiserver\n+++ kube-apiserver\n---v=4\n";
            assert_eq!(differences(&wished, host, &look), [gone], "{version}");
            let look = made_from(&before, OURS);
            assert_eq!(differences(&wished, host, &look), Vec::<String>::new(), "{version}");
            // A host's own flag is a patch behind the others: the last counts.
            host.overrides.api_server.insert("goaway-chance".to_owned(), "0".to_owned());
            let changed = "--- kube-apiserver\n+++ kube-apiserver\n---goaway-chance=0.001\n+--goaway-chance=0\n";
            assert_eq!(differences(&wished, host, &look), [changed], "{version}");
            let look = made_from(&before, &format!("{OURS} --goaway-chance=0"));
            assert_eq!(differences(&wished, host, &look), Vec::<String>::new(), "{version}");
        }
    }
}
