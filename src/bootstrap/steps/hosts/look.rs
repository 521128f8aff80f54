//! How a host stands: looked at once, in one command, for all steps of that host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;

use crate::bootstrap::artifacts::packages;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::needs;
use crate::bootstrap::preflight::{self, Facts};
use crate::bootstrap::render::{host as kernel, paths};
use crate::bootstrap::spec::{Artifacts, Cluster, Host};
use crate::bootstrap::transport::{Command, Found};

use super::{containerd, files, kubelet, programs};

/// The script; it shares its functions with the preflight's.
const SCRIPT: &str = concat!(
    "# look at the host\n",
    include_str!("../../preflight/common.sh"),
    include_str!("look.sh")
);

/// Checksums of three large programs on a slow disk, with a package manager at work beside it.
const PATIENCE: Duration = Duration::from_mins(2);

/// Where we mark on a host what was unpacked there: a file for each, with the checksum.
pub const MARKS: &str = "/var/lib/apiproxy/artifacts";

/// How long a look counts. What changes a host forgets the look; this is for others' changes.
const FRESH: Duration = Duration::from_secs(20);

/// How a host stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// What the preflight would find too: names, kernel, programs.
    pub facts: Facts,
    /// Files whose content counts.
    pub files: BTreeMap<String, Found>,
    /// SHA-256 of programs, by path.
    pub sums: BTreeMap<String, String>,
    /// Our marks.
    pub marks: BTreeMap<String, String>,
    /// Installed packages and their versions.
    pub packages: BTreeMap<String, String>,
    /// Units.
    pub units: BTreeMap<String, Unit>,
    /// Images that containerd has, by their whole names.
    pub images: BTreeSet<String>,
    /// What `/etc/fstab` would swap to at the next start.
    pub fstab: Vec<String>,
}

/// A systemd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Does it run?
    pub active: bool,
    /// Is it started at boot?
    pub enabled: bool,
}

/// The command that looks at a host.
pub fn command(cluster: &Cluster, host: &Host) -> Command {
    let node = needs::is_node(host);
    let offline = matches!(cluster.artifacts, Artifacts::Directory(_));
    let mut content = vec![paths::ETC_HOSTS];
    let (mut sums, mut found, mut units) = (vec![paths::PROXY_PROGRAM], vec![], vec![]);
    let (mut modules, mut parameters) = (Vec::new(), Vec::new());
    if node {
        content.extend([paths::MODULES, paths::SYSCTL, paths::CONTAINERD_CONFIG]);
        content.extend([containerd::REGISTRY_HOSTS, containerd::UNIT_FILE, containerd::CRICTL]);
        content.extend(kubelet::FILES);
        sums.push(programs::LOOPBACK);
        sums.extend(programs::KUBERNETES.map(|(_, path)| path));
        found.extend(["kubeadm", "kubelet", "kubectl", "containerd", "runc", "crictl"]);
        found.extend(needs::tools(cluster.kubernetes_version).into_iter().map(|(tool, _)| tool));
        units.extend(["containerd.service", "kubelet.service"]);
        modules = kernel::modules(cluster);
        parameters = kernel::sysctl(cluster).into_iter().map(|(name, _)| name).collect();
    }
    if needs::runs_etcd_itself(cluster, host) {
        found.extend(["etcd", "etcdctl", "etcdutl"]);
        units.push("etcd.service");
    } else if needs::holds_drills(cluster, host) {
        found.extend(["etcd", "etcdctl", "etcdutl"]);
    } else if needs::asks_stacked_etcd(cluster, host) {
        found.push("etcdctl");
    }
    let mut wanted: Vec<String> = Vec::new();
    if !offline {
        content.extend([packages::LIST, packages::MIRROR_LIST, packages::KEYRING]);
        wanted.extend(
            packages::packages(cluster, host).iter().map(|package| package.name.to_owned()),
        );
    }
    let debs = if offline { "all" } else { &wanted.join(" ") };
    let images = if node && offline { "images" } else { "" };
    let lists = [&content, &sums, &found].map(|list| list.join(" "));
    let [content, sums, found] = lists.each_ref().map(String::as_str);
    let (units, modules, parameters) = (units.join(" "), modules.join(" "), parameters.join(" "));
    let arguments = [content, sums, found, debs, &units, &modules, &parameters, MARKS, images];
    Command::script(SCRIPT, arguments).timeout(PATIENCE)
}

impl Look {
    /// What the script wrote; none if it broke off.
    pub fn read(output: &str) -> Option<Self> {
        let mut look = Self { facts: preflight::parse(output), ..Self::default() };
        let mut whole = false;
        for line in output.lines() {
            let mut words = line.splitn(3, ' ');
            let (kind, name, rest) =
                (words.next()?, words.next().unwrap_or(""), words.next().unwrap_or("").trim());
            match kind {
                "end" => whole = true,
                "content" => look.files.extend(found(rest).map(|found| (name.to_owned(), found))),
                "sum" => drop(look.sums.insert(name.to_owned(), rest.to_owned())),
                "mark" => drop(look.marks.insert(name.to_owned(), rest.to_owned())),
                "package" => drop(look.packages.insert(name.to_owned(), rest.to_owned())),
                "unit" => drop(look.units.insert(name.to_owned(), unit(rest))),
                "image" => drop(look.images.insert(name.to_owned())),
                "fstab" => look.fstab.push(name.to_owned()),
                _ => {}
            }
        }
        whole.then_some(look)
    }

    /// Is a program there, and from where?
    pub fn program(&self, name: &str) -> Option<&preflight::Program> {
        self.facts.programs.get(name)
    }

    /// A unit; one that is not there if nothing is known of it.
    pub fn unit(&self, name: &str) -> Unit {
        self.units.get(name).cloned().unwrap_or_default()
    }

    /// Is the file as it should be? If not, what would change.
    pub fn file(&self, file: &crate::bootstrap::transport::File) -> Option<String> {
        files::difference(file, self.files.get(&file.path))
    }
}

/// `644 root root` and the content in base64.
fn found(text: &str) -> Option<Found> {
    let mut words = text.split(' ');
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let owner = (words.next()?.to_owned(), words.next()?.to_owned());
    let content = STANDARD.decode(words.next().unwrap_or("")).ok()?;
    Some(Found { content, mode, owner })
}

/// `LoadState`, `ActiveState` and `UnitFileState`, in the order of systemd's choice.
fn unit(text: &str) -> Unit {
    let has = |word: &str| text.split_whitespace().any(|found| found == word);
    Unit { active: has("active"), enabled: has("enabled") || has("enabled-runtime") }
}

type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Arc<Look>)>>>;

/// The latest look at each host.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<BTreeMap<String, Slot>>);

impl Looks {
    /// How the host stands: by the latest look if it is fresh.
    ///
    /// # Errors
    /// If the host cannot be reached, or its answer breaks off.
    pub(super) async fn at(
        &self,
        cx: &Context,
        cluster: &Cluster,
        host: &Host,
    ) -> Result<Arc<Look>, StepError> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(host.name.clone()).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some((at, look)) = &*slot
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(look));
        }
        let output = cx.run(&host.name, &command(cluster, host)).await?;
        let look = Look::read(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            StepError::Unverified(format!("{}: the answer broke off; try again", host.name))
        })?;
        let look = Arc::new(look);
        *slot = Some((Instant::now(), Arc::clone(&look)));
        Ok(look)
    }

    /// The host is being changed: its look counts no more.
    pub(super) fn forget(&self, host: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
    }
}
