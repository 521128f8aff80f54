//! A cluster of machines, the steps for it, and what is in its etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use apiproxy::bootstrap::engine::{Check, Context, Hosts, Step, StepError};
use apiproxy::bootstrap::pki::Store;
use apiproxy::bootstrap::spec::{
    Artifacts, Cluster, Cni, Endpoint, Etcd, Host, Monitoring, Network, Overrides, Role, Ssh,
    Topology, Version,
};
use apiproxy::bootstrap::steps::etcd::{KeyHome, Keys, Renewal, steps};
use apiproxy::bootstrap::transport::Transport;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::machines::{Fuse, Machine, Reached, Switch};
use crate::common::has_program;

/// Reads and writes as etcdctl on a member does.
const ETCDCTL: &str = "ETCDCTL_API=3 etcdctl --cacert=/etc/apiproxy/etcd/pki/ca.crt \
    --cert=/etc/apiproxy/etcd/pki/healthcheck-client.crt \
    --key=/etc/apiproxy/etcd/pki/healthcheck-client.key";

/// Where etcd comes from.
#[derive(Clone, Debug)]
pub(crate) enum Programs {
    /// The distribution's packages.
    Debian,
    /// A folder with etcd and etcdctl.
    Folder(PathBuf),
}

impl Programs {
    /// Those of `KUBEBUILDER_ASSETS`, if it has them.
    pub(crate) fn of_assets() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("KUBEBUILDER_ASSETS")?);
        folder.join("etcdctl").is_file().then_some(Self::Folder(folder))
    }
}

/// Why no machines can be had here, if none can.
pub(crate) fn no_machines(programs: &Programs) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("machines of namespaces need root".to_owned());
    }
    let mut needed = vec!["ip", "unshare", "nsenter", "setpriv", "openssl"];
    if matches!(programs, Programs::Debian) {
        needed.extend(["etcd", "etcdctl"]);
    }
    let missing = needed.into_iter().find(|program| !has_program(program))?;
    Some(format!("there is no {missing}"))
}

/// The cluster.
pub(crate) struct Site {
    pub(crate) fuse: Arc<Fuse>,
    pub(crate) machines: BTreeMap<String, Arc<Machine>>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) runtime: Runtime,
    programs: Option<PathBuf>,
    switch: Switch,
    state: TempDir,
}

impl Site {
    /// Machines `e1`, `e2` and `e3`, bare.
    pub(crate) fn new(programs: &Programs) -> Self {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path().join("pki"));
        let folder = match programs {
            Programs::Debian => None,
            Programs::Folder(folder) => Some(folder.clone()),
        };
        let mut site = Self {
            fuse: Fuse::new(),
            machines: BTreeMap::new(),
            keys: Arc::new(Keys::new(KeyHome::Operator(store))),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            programs: folder,
            switch: Switch::new(),
            state,
        };
        for number in 1..=3 {
            site.switch_on(number);
        }
        site
    }

    /// Starts a bare machine.
    pub(crate) fn switch_on(&mut self, number: u8) {
        let (name, address) = (format!("e{number}"), format!("10.99.0.{number}"));
        let programs = self.programs.as_deref();
        let machine = Machine::start(&self.switch, &name, &address, programs, &self.fuse);
        self.machines.insert(name, machine);
    }

    /// The operator's folder.
    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    /// The hosts, reached.
    pub(crate) fn context(&self) -> Context {
        let reached = |machine: &Arc<Machine>| Arc::new(Reached(machine.clone()));
        let hosts = self.machines.iter().map(|(name, machine)| {
            let transport: Arc<dyn Transport> = reached(machine);
            (name.clone(), transport)
        });
        Context::new(hosts.collect::<Hosts>())
    }

    pub(crate) fn steps(&self, cluster: &Arc<Cluster>, renewal: Renewal) -> Vec<Arc<dyn Step>> {
        steps(cluster, &self.keys, renewal)
    }

    /// Does all steps in order: looks, does what is needed, looks again. The names of those done.
    pub(crate) fn apply(&self, steps: &[Arc<dyn Step>]) -> Result<Vec<String>, StepError> {
        let cx = self.context();
        self.runtime.block_on(async {
            let mut done = Vec::new();
            for step in steps {
                if step.check(&cx).await? == Check::Done {
                    continue;
                }
                step.apply(&cx).await?;
                step.verify(&cx).await?;
                done.push(step.id().to_string());
            }
            Ok(done)
        })
    }

    /// What each step finds.
    pub(crate) fn check(&self, steps: &[Arc<dyn Step>]) -> Vec<Result<Check, StepError>> {
        let cx = self.context();
        self.runtime.block_on(async {
            let mut found = Vec::new();
            for step in steps {
                found.push(step.check(&cx).await);
            }
            found
        })
    }

    /// Makes the cluster of e1, e2 and e3.
    pub(crate) fn founded(programs: &Programs) -> (Self, Arc<Cluster>) {
        let site = Self::new(programs);
        let cluster = spec(&[1, 2, 3]);
        site.apply(&site.steps(&cluster, Renewal::WhenDue)).unwrap();
        (site, cluster)
    }

    pub(crate) fn machine(&self, name: &str) -> &Machine {
        &self.machines[name]
    }

    /// Writes so many keys, 100 in a transaction.
    pub(crate) fn fill(&self, on: &str, keys: usize) {
        let script = format!(
            r#"n=0; while [ $n -lt {keys} ]; do {{ echo; i=0; while [ $i -lt 100 ]; do
            echo "put keys/$((n + i)) value-$((n + i))"; i=$((i + 1)); done; echo; echo; }} |
            {ETCDCTL} txn >/dev/null; n=$((n + 100)); done"#
        );
        self.machine(on).text(&script);
    }

    /// How many of them there are, and a checksum of all, as this member has them.
    pub(crate) fn content(&self, on: &str) -> (usize, String) {
        let script =
            format!("{ETCDCTL} get keys/ --prefix | tee /mnt/all | sha256sum; wc -l </mnt/all");
        let text = self.machine(on).text(&script);
        let (sum, lines) = text.split_once('\n').unwrap();
        (lines.trim().parse::<usize>().unwrap() / 2, sum.to_owned())
    }

    /// What etcdctl says.
    pub(crate) fn etcdctl(&self, on: &str, words: &str) -> String {
        self.machine(on).text(&format!("{ETCDCTL} {words}"))
    }
}

/// The spec with these etcd hosts; the first is a control plane too.
pub(crate) fn spec(members: &[u8]) -> Arc<Cluster> {
    Arc::new(cluster(members))
}

fn cluster(members: &[u8]) -> Cluster {
    let ssh = Ssh { user: None, port: None, identity_file: None, sudo: false, local: false };
    let host = |(at, number): (usize, &u8)| {
        let mut roles = BTreeSet::from([Role::Etcd]);
        if at == 0 {
            roles.insert(Role::ControlPlane);
        }
        Host {
            name: format!("e{number}"),
            address: [10, 99, 0, *number].into(),
            roles,
            zone: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            ssh: ssh.clone(),
            overrides: Overrides::default(),
        }
    };
    Cluster {
        name: "test".to_owned(),
        kubernetes_version: Version::new(1, 34, 2),
        endpoint: Endpoint { name: "apiserver.test.local".to_owned(), port: 6443 },
        topology: Topology::External,
        hosts: members.iter().enumerate().map(host).collect(),
        ssh: ssh.clone(),
        network: Network {
            pod_cidrs: vec![([10, 244, 0, 0].into(), 16)],
            service_cidrs: vec![([10, 96, 0, 0].into(), 12)],
            dns_domain: "cluster.local".to_owned(),
            cni: Cni::None,
        },
        artifacts: Artifacts::Packages {
            kubernetes_mirror: None,
            distribution_mirror: None,
            registry: None,
        },
        etcd: Etcd { version: None, extra_args: BTreeMap::new(), backup: None },
        monitoring: Monitoring { enabled: false, pushgateway: false },
        extensions: Vec::new(),
        overrides: Overrides::default(),
        audit: false,
        encryption_at_rest: false,
    }
}

/// A moment before which every certificate of a founded cluster was made.
pub(crate) fn later() -> SystemTime {
    std::thread::sleep(std::time::Duration::from_secs(1));
    SystemTime::now()
}
