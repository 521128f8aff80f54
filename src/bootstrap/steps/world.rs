//! For tests: hosts that are not there, with a kubeadm, a kubectl and an etcd that act on them as the
//! real ones do as far as the steps can tell.

mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;

use super::documents::{
    Documents, ENCRYPTION, Identity, Joining, MANIFESTS, PROXY_CONFIG, PROXY_KUBECONFIG, Rendered,
};
use super::shared::{Shared, join};
use crate::bootstrap::engine::{Check, Context, Hosts, Step, StepError};
use crate::bootstrap::kubernetes::Member;
use crate::bootstrap::spec::{
    Artifacts, Cluster, Cni, Endpoint, Etcd, Host, Monitoring, Network, Overrides, Role, Ssh,
    Topology, Version,
};
use crate::bootstrap::transport::recording::{Answer, Recording, When};
use crate::bootstrap::transport::{Command, File, Found, Output, Transport, TransportError};

/// The version that everything has at first.
pub(super) const VERSION: &str = "v1.34.2";

/// A Node, as kubectl shows it.
#[derive(Clone, Debug)]
pub(super) struct SimNode {
    pub(super) control_plane: bool,
    pub(super) ready: bool,
    pub(super) address: IpAddr,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// Values by `KEY:EFFECT`.
    pub(super) taints: BTreeMap<String, String>,
    pub(super) cordoned: bool,
    pub(super) kubelet: String,
    pub(super) api_server: String,
}

/// What there is of the cluster.
#[derive(Debug, Default)]
pub(super) struct Sim {
    pub(super) nodes: BTreeMap<String, SimNode>,
    pub(super) members: Vec<Member>,
    /// The members that do not answer.
    pub(super) sick: BTreeSet<u64>,
    /// The hosts whose apiserver is ready.
    pub(super) serving: BTreeSet<String>,
    /// The generation of the proxy that serves on a host.
    pub(super) proxies: BTreeMap<String, u32>,
    /// The hosts whose static pod never starts.
    pub(super) stuck: BTreeSet<String>,
    /// Where the next `kubeadm` stops half way: `manifests`, `learner` or `init`.
    pub(super) stops_at: Option<&'static str>,
    /// Learners are left to whoever promotes them.
    pub(super) leaves_learner: bool,
    /// What `kubectl drain` complains about.
    pub(super) undrainable: Option<&'static str>,
    /// The version in the cluster's own configuration.
    pub(super) configured: String,
    /// The add-ons are there.
    pub(super) addons: bool,
    pub(super) ca: String,
    /// What `kubeadm certs renew` makes.
    pub(super) renewed: String,
    pub(super) last_member: u64,
}

/// The hosts of a cluster.
pub(super) struct World {
    pub(super) shared: Arc<Shared>,
    pub(super) cx: Context,
    pub(super) hosts: BTreeMap<String, Arc<Recording>>,
    sim: Arc<Mutex<Sim>>,
}

/// Documents that say just enough for the doubles.
#[derive(Debug)]
pub(super) struct Plain;

impl Documents for Plain {
    fn init(&self, _: &Cluster, host: &Host, key: &str) -> Result<File, StepError> {
        Ok(File::secret("/etc/kubernetes/kubeadm.yaml", format!("init {} {key}", host.name)))
    }

    fn join(&self, _: &Cluster, host: &Host, joining: &Joining) -> Result<File, StepError> {
        let Joining { server, token, certificate_key, .. } = joining;
        let what = if certificate_key.is_some() { "control-plane" } else { "worker" };
        let text = format!("join {what} {} {server} {token}", host.name);
        Ok(File::secret("/etc/kubernetes/kubeadm.yaml", text))
    }

    fn settings(&self, cluster: &Cluster) -> Result<String, StepError> {
        Rendered.settings(cluster)
    }

    fn beside(&self, cluster: &Cluster, _: &Host) -> Result<Vec<File>, StepError> {
        let policy = cluster.audit.then(|| File::new("/etc/kubernetes/audit/policy.yaml", "rules"));
        Ok(policy.into_iter().collect())
    }

    fn encryption(&self) -> Result<File, StepError> {
        Ok(File::secret(ENCRYPTION, join::certificate_key()?))
    }

    fn hosts(&self, cluster: &Cluster, _: &Host, endpoint: IpAddr, current: &[u8]) -> Vec<u8> {
        let line = format!("{endpoint} {} # ours\n", cluster.endpoint.name);
        [self.hosts_without_ours(current), line.into_bytes()].concat()
    }

    fn hosts_without_ours(&self, current: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(current);
        let others = text.split_inclusive('\n').filter(|line| !line.contains("# ours"));
        others.collect::<String>().into_bytes()
    }

    fn proxy(&self, cluster: &Cluster, _: &Host) -> Result<Vec<File>, StepError> {
        let servers = cluster.with_role(Role::ControlPlane).map(|host| host.address.to_string());
        let text = servers.collect::<Vec<_>>().join("\n") + "\n";
        let folders = File::new("/etc/tmpfiles.d/apiproxy.conf", "d /run/apiproxy\n");
        Ok(vec![File::new(PROXY_CONFIG, text), folders])
    }

    fn unit(&self) -> Vec<String> {
        vec!["systemd-run".to_owned(), "apiproxy".to_owned()]
    }

    fn kubeconfig(&self, _: &Cluster, identity: &Identity) -> Result<File, StepError> {
        Ok(File::secret(PROXY_KUBECONFIG, format!("{}{}", identity.certificate, identity.key)))
    }

    fn static_pod(&self, generation: u32, image: &str) -> Result<File, StepError> {
        let path = format!("{MANIFESTS}/apiproxy-g{generation}.yaml");
        Ok(File::new(path, format!("pod {generation} {image}\n")))
    }

    fn rights(&self) -> Result<String, StepError> {
        Ok("kind: Role\n".to_owned())
    }
}

fn host(name: &str, address: &str, role: Role) -> Host {
    let ssh = Ssh { user: None, port: None, identity_file: None, sudo: true, local: false };
    Host {
        name: name.to_owned(),
        address: address.parse().unwrap(),
        roles: BTreeSet::from([role]),
        zone: None,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        ssh,
        overrides: Overrides::default(),
    }
}

/// A host that waits.
pub(super) fn spare(name: &str, address: &str) -> Host {
    host(name, address, Role::Spare)
}

/// Three control planes and two workers, stacked.
pub(super) fn cluster() -> Cluster {
    let control_plane = |n| host(&format!("cp{n}"), &format!("10.0.0.1{n}"), Role::ControlPlane);
    let worker = |n| host(&format!("w{n}"), &format!("10.0.0.3{n}"), Role::Worker);
    Cluster {
        name: "prod".to_owned(),
        kubernetes_version: Version::new(1, 34, 2),
        endpoint: Endpoint { name: "api.prod".to_owned(), port: 6443 },
        topology: Topology::Stacked,
        ssh: host("x", "10.0.0.1", Role::Spare).ssh,
        hosts: vec![control_plane(1), control_plane(2), control_plane(3), worker(1), worker(2)],
        network: Network {
            pod_cidrs: vec![("10.244.0.0".parse().unwrap(), 16)],
            service_cidrs: vec![("10.96.0.0".parse().unwrap(), 12)],
            dns_domain: "cluster.local".to_owned(),
            cni: Cni::None,
        },
        artifacts: Artifacts::Directory("/artifacts".into()),
        etcd: Etcd { version: None, extra_args: BTreeMap::new(), backup: None },
        monitoring: Monitoring { enabled: false, pushgateway: false },
        extensions: Vec::new(),
        overrides: Overrides::default(),
        audit: false,
        encryption_at_rest: false,
    }
}

impl World {
    /// Bare hosts.
    pub(super) fn new(cluster: Cluster) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let configured = VERSION.to_owned();
        let sim = Sim { ca: ca.pem(), configured, ..Sim::default() };
        let sim = Arc::new(Mutex::new(sim));
        let mut hosts = BTreeMap::new();
        for host in &cluster.hosts {
            hosts.insert(host.name.clone(), machine(host, &sim));
        }
        let reached = hosts.iter().map(|(name, host): (&String, &Arc<Recording>)| {
            let transport: Arc<dyn Transport> = host.clone();
            (name.clone(), transport)
        });
        let reached: Hosts = reached.collect();
        let shared = Shared::new(Arc::new(cluster), Arc::new(Plain));
        Self { shared, cx: Context::new(reached), hosts, sim }
    }

    /// The same hosts by another file.
    pub(super) fn with(self, cluster: Cluster) -> Self {
        self.of(Shared::new(Arc::new(cluster), Arc::new(Plain)))
    }

    /// The same hosts for other steps.
    pub(super) fn of(self, shared: Arc<Shared>) -> Self {
        Self { shared, ..self }
    }

    /// The same hosts without one that could not be reached.
    pub(super) fn without_host(self, name: &str) -> Self {
        let others = self.hosts.iter().filter(|(host, _)| *host != name);
        let others = others.map(|(name, host)| {
            let transport: Arc<dyn Transport> = host.clone();
            (name.clone(), transport)
        });
        let others: Hosts = others.collect();
        Self { cx: Context::new(others), ..self }
    }

    /// The same hosts as a run finds them that is cut off after so many uses of them.
    pub(super) fn cut_after(&self, uses: usize) -> Context {
        let left = Arc::new(AtomicUsize::new(uses));
        let cut = self.cx.hosts.iter().map(|(name, host)| {
            let cut: Arc<dyn Transport> = Arc::new(Cut { host: host.clone(), left: left.clone() });
            (name.clone(), cut)
        });
        Context::new(cut.collect())
    }

    pub(super) fn sim(&self) -> MutexGuard<'_, Sim> {
        self.sim.lock().unwrap()
    }

    /// All steps of the file in an order that the graph allows.
    pub(super) fn steps(&self) -> Vec<Arc<dyn Step>> {
        let mut steps = super::control_plane::steps(&self.shared);
        steps.extend(super::workers::steps(&self.shared));
        steps
    }

    /// Applies what is needed, each after the other; ends at the first fault.
    pub(super) async fn apply(&self, steps: &[Arc<dyn Step>]) -> Result<usize, StepError> {
        let mut applied = 0;
        for step in steps {
            if step.check(&self.cx).await? == Check::Done {
                continue;
            }
            step.apply(&self.cx).await?;
            step.verify(&self.cx).await?;
            applied += 1;
        }
        Ok(applied)
    }

    /// All commands of a host that contain this.
    pub(super) fn lines(&self, host: &str, text: &str) -> Vec<String> {
        let lines = self.hosts[host].lines().into_iter();
        lines.filter(|line| line.contains(text)).collect()
    }

    /// Every command of every host is looked for a secret.
    pub(super) fn no_argument_has(&self, secret: &str) {
        for host in self.hosts.values() {
            assert!(host.lines().iter().all(|line| !line.contains(secret)), "{secret} in {host:?}");
        }
    }

    /// What was seen until now counts no more, and what was done is told no more.
    pub(super) async fn later(&self) {
        tokio::time::advance(std::time::Duration::from_secs(3)).await;
        for host in self.hosts.values() {
            host.forget();
        }
    }
}

/// A host that a run cannot use any more once it was cut off.
#[derive(Debug)]
struct Cut {
    host: Arc<dyn Transport>,
    left: Arc<AtomicUsize>,
}

impl Cut {
    fn used(&self) -> Result<(), TransportError> {
        let take = |left: usize| left.checked_sub(1);
        let host = self.host.host().to_owned();
        let lost = |_| TransportError::Lost { host, reason: "this run was cut off".to_owned() };
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map(drop).map_err(lost)
    }
}

impl Transport for Cut {
    fn host(&self) -> &str {
        self.host.host()
    }

    fn run<'a>(&'a self, command: &'a Command) -> BoxFuture<'a, Result<Output, TransportError>> {
        Box::pin(async move {
            self.used()?;
            self.host.run(command).await
        })
    }

    fn read<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Found>, TransportError>> {
        Box::pin(async move {
            self.used()?;
            self.host.read(path).await
        })
    }

    fn write<'a>(&'a self, file: &'a File) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            self.used()?;
            self.host.write(file).await
        })
    }

    fn upload<'a>(
        &'a self,
        source: &'a Path,
        path: &'a str,
        mode: u32,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            self.used()?;
            self.host.upload(source, path, mode).await
        })
    }
}

fn machine(host: &Host, sim: &Arc<Mutex<Sim>>) -> Arc<Recording> {
    let machine = Recording::new(&host.name);
    machine.put(File::new("/etc/hosts", "127.0.0.1 localhost\n"));
    let (own, sim) = (host.clone(), sim.clone());
    let answer = Answer::computed(move |machine, command| {
        machine::answer(&mut sim.lock().unwrap(), &own, machine, command)
    });
    machine.on(When::any(), answer);
    machine
}
