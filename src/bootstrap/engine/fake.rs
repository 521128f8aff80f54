//! Steps and hosts for the engine's own tests: a step is done when its file is on its host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Change, Check, Context, Disruption, Hosts, Lane, Step, StepError, StepId};
use crate::bootstrap::spec::{
    Artifacts, Cluster, Cni, Endpoint, Etcd, Host, Monitoring, Network, Overrides, Role, Ssh,
    Topology, Version,
};
use crate::bootstrap::transport::recording::{Answer, Meter, Recording};
use crate::bootstrap::transport::{Command, File, Output};

/// A step that runs `check NAME` and `apply NAME` on its host.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    id: StepId,
    needs: Vec<StepId>,
    follows: Vec<StepId>,
    lane: Lane,
    disruption: Option<Disruption>,
    /// Before this one is done, nothing can be told.
    told_after: Option<StepId>,
}

pub(super) fn id(text: &str) -> StepId {
    let (host, name) = text.split_once('/').unwrap();
    StepId::new(host, name)
}

impl Fake {
    pub(super) fn new(name: &str) -> Self {
        let (needs, follows) = (Vec::new(), Vec::new());
        let (disruption, told_after) = (None, None);
        Self { id: id(name), needs, follows, lane: Lane::Parallel, disruption, told_after }
    }

    pub(super) fn needs(mut self, needs: &[&str]) -> Self {
        self.needs = needs.iter().map(|need| id(need)).collect();
        self
    }

    pub(super) fn follows(mut self, follows: &[&str]) -> Self {
        self.follows = follows.iter().map(|before| id(before)).collect();
        self
    }

    pub(super) fn single(mut self) -> Self {
        self.lane = Lane::Single;
        self
    }

    pub(super) fn batch(mut self, most: usize) -> Self {
        self.lane = Lane::Batch(most);
        self
    }

    pub(super) fn disrupts(mut self, disruption: Disruption) -> Self {
        self.disruption = Some(disruption);
        self
    }

    pub(super) fn told_after(mut self, other: &str) -> Self {
        self.told_after = Some(id(other));
        self
    }

    pub(super) fn step(self) -> Arc<dyn Step> {
        Arc::new(self)
    }
}

impl Step for Fake {
    fn id(&self) -> StepId {
        self.id.clone()
    }

    fn title(&self) -> String {
        format!("make {} so", self.id)
    }

    fn needs(&self) -> Vec<StepId> {
        self.needs.clone()
    }

    fn follows(&self) -> Vec<StepId> {
        self.follows.clone()
    }

    fn lane(&self) -> Lane {
        self.lane
    }

    fn disruption(&self) -> Option<Disruption> {
        self.disruption.clone()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        Box::pin(async move {
            if let Some(other) = &self.told_after {
                let found = cx.run(&other.host, &Command::new(["check", &other.name])).await?;
                if found.text() != "done" {
                    return Ok(Check::After(other.clone()));
                }
            }
            let found = cx.run(&self.id.host, &Command::new(["check", &self.id.name])).await?;
            let needed = || Check::Needed(Change::new(format!("{} is not there", self.id.name)));
            Ok(if found.text() == "done" { Check::Done } else { needed() })
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            cx.run(&self.id.host, &Command::new(["apply", &self.id.name])).await?;
            Ok(())
        })
    }
}

/// A host for such steps: a check takes 10 ms, what is applied a second.
pub(super) fn host(name: &str, meter: &Arc<Meter>) -> Arc<Recording> {
    let host = Recording::metered(name, meter);
    let check = |host: &Recording, command: &Command| {
        let done = host.file(&format!("/done/{}", command.argv[1])).is_some();
        let text = if done { "done" } else { "needed" };
        Output { code: 0, stdout: text.into(), stderr: Vec::new() }
    };
    let apply = |host: &Recording, command: &Command| {
        host.put(File::new(format!("/done/{}", command.argv[1]), ""));
    };
    host.on(["check"], Answer::computed(check).after(Duration::from_millis(10)));
    host.on(["apply"], Answer::ok("").after(Duration::from_secs(1)).then(apply));
    host
}

/// Hosts of these names, measured together, and a context of them.
pub(super) fn hosts(names: &[&str]) -> (Vec<Arc<Recording>>, Context, Arc<Meter>) {
    let meter = Arc::default();
    let hosts: Vec<_> = names.iter().map(|name| host(name, &meter)).collect();
    let dynamic = |host: &Arc<Recording>| {
        let host: Arc<dyn crate::bootstrap::transport::Transport> = host.clone();
        (host.host().to_owned(), host)
    };
    let context = Context::new(hosts.iter().map(dynamic).collect::<Hosts>());
    (hosts, context, meter)
}

/// A cluster of stacked control planes of these names.
pub(super) fn cluster(names: &[&str]) -> Cluster {
    let ssh = Ssh { user: None, port: None, identity_file: None, sudo: true, local: false };
    let host = |(at, name): (usize, &&str)| Host {
        name: (*name).to_owned(),
        address: std::net::Ipv4Addr::new(10, 0, 0, u8::try_from(at).unwrap()).into(),
        roles: [Role::ControlPlane].into(),
        zone: None,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        ssh: ssh.clone(),
        overrides: Overrides::default(),
    };
    Cluster {
        name: "test".to_owned(),
        kubernetes_version: Version::new(1, 34, 2),
        endpoint: Endpoint { name: "apiserver.test".to_owned(), port: 6443 },
        topology: Topology::Stacked,
        hosts: names.iter().enumerate().map(host).collect(),
        ssh,
        network: Network {
            pod_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            dns_domain: "cluster.local".to_owned(),
            cni: Cni::None,
        },
        artifacts: Artifacts::Directory("artifacts".into()),
        etcd: Etcd { version: None, extra_args: BTreeMap::new(), backup: None },
        monitoring: Monitoring { enabled: false, pushgateway: false },
        extensions: Vec::new(),
        overrides: Overrides::default(),
        audit: false,
        encryption_at_rest: false,
    }
}
