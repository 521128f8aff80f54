//! `status`: the cluster as it is, for people and programs.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::Serialize;

use super::certs::{self, Certificate};
use super::control_plane::look::Standing;
use super::remove;
use super::shared::Shared;
use super::upgrade::skew;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::{Api, Node, quorum};
use crate::bootstrap::spec::{Host, Role, Topology, Version};

/// Certificates with fewer days left are told as faults.
const SOON: i64 = 30;

/// The cluster as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// How each control plane of the file stands.
    pub control_planes: BTreeMap<String, String>,
    /// The Nodes.
    pub nodes: Vec<NodeStatus>,
    /// The members of the stacked etcd.
    pub members: Vec<MemberStatus>,
    /// The proxies of the workers.
    pub proxies: Vec<ProxyStatus>,
    /// The certificates of control planes, those that end first before others.
    pub certificates: Vec<Certificate>,
    /// What is not as it should be, one line each.
    pub faults: Vec<String>,
}

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Does it run a control plane?
    pub control_plane: bool,
    /// Does kubelet say that it is ready?
    pub ready: bool,
    /// Is it cordoned?
    pub cordoned: bool,
    /// The version of kubelet.
    pub version: Option<String>,
}

/// An etcd member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its name; empty if it never started.
    pub name: String,
    /// Its number in hexadecimal, as etcd prints it.
    pub id: String,
    /// It has no vote yet.
    pub learner: bool,
    /// Does it take part in the quorum?
    pub healthy: bool,
}

/// The proxy of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// The worker's name.
    pub host: String,
    /// Is an apiserver ready for it? Not when it does not answer.
    pub usable: bool,
    /// Does its static pod serve, or still the transient unit?
    pub static_pod: bool,
    /// What is wrong, if anything.
    pub problem: Option<String>,
}

/// Looks at everything.
///
/// # Errors
/// There is a cluster, but no control plane of it serves.
pub async fn gather(shared: &Shared, cx: &Context) -> Result<Status, StepError> {
    let cluster = &shared.cluster;
    let mut status = Status::default();
    for (name, standing) in shared.standings(cx).await {
        let (words, fault) = describe(&standing);
        if fault {
            status.faults.push(told(&name, &words));
        }
        status.control_planes.insert(name, words);
    }
    let Some(via) = shared.serving(cx).await? else {
        return Ok(status);
    };
    let api = Api::new(cx, &via);
    let nodes = api.nodes().await?;
    let members = match cluster.topology {
        Topology::Stacked => api.members().await?,
        Topology::External => Vec::new(),
    };
    let healthy = api.healthy(&members).await?;
    status.members = members
        .iter()
        .map(|member| MemberStatus {
            name: member.name.clone(),
            id: format!("{:x}", member.id),
            learner: member.is_learner,
            healthy: healthy.contains(&member.id),
        })
        .collect();
    status.faults.extend(member_faults(&status.members));
    status.faults.extend(node_faults(&nodes, cluster.kubernetes_version));
    let extras = remove::unaccounted(cluster, nodes.clone(), members);
    status.faults.extend(extras.iter().map(remove::Extra::note));
    status.nodes = nodes.into_iter().map(NodeStatus::from).collect();
    let workers = cluster.with_role(Role::Worker);
    let behind = workers.filter(|host| !host.roles.contains(&Role::ControlPlane));
    status.proxies = join_all(behind.map(|host| proxy(shared, cx, host))).await;
    let problem = |proxy: &ProxyStatus| Some(told(&proxy.host, proxy.problem.as_ref()?));
    status.faults.extend(status.proxies.iter().filter_map(problem));
    let control_planes = cluster.with_role(Role::ControlPlane);
    let found = join_all(control_planes.map(|host| certs::of(cx, &host.name))).await;
    status.certificates = found.into_iter().flatten().flatten().collect();
    status.certificates.sort_by_key(|certificate| certificate.days_left);
    let ending = status.certificates.iter().filter(|certificate| certificate.days_left < SOON);
    status.faults.extend(ending.map(|Certificate { host, file, days_left, .. }| {
        format!("{host}: {file} ends in {days_left} days; see `apiproxy bootstrap certs`")
    }));
    Ok(status)
}

/// A fault of a host, with its name before it once.
fn told(host: &str, words: &str) -> String {
    let host = format!("{host}: ");
    if words.starts_with(&host) { words.to_owned() } else { host + words }
}

/// In words, and whether it is a fault.
fn describe(standing: &Standing) -> (String, bool) {
    match standing {
        Standing::Fresh => ("not in the cluster".to_owned(), true),
        Standing::Serving => ("ready".to_owned(), false),
        Standing::Ill(reason) => (format!("its kube-apiserver is not ready: {reason}"), true),
        Standing::Unfinished(begun) => {
            (format!("kubeadm {} was stopped half way", begun.word()), true)
        }
        Standing::Foreign(what) => (format!("has {what}, not made by this tool"), true),
        Standing::Away(reason) => (reason.clone(), true),
    }
}

fn member_faults(members: &[MemberStatus]) -> Vec<String> {
    let voters = members.iter().filter(|member| !member.learner).count();
    let well = members.iter().filter(|member| !member.learner && member.healthy).count();
    let mut faults: Vec<_> = members
        .iter()
        .filter_map(|member| match member {
            MemberStatus { name, id, .. } if name.is_empty() => {
                Some(format!("the etcd member {id} never started"))
            }
            MemberStatus { name, learner: true, .. } => {
                Some(format!("the etcd member {name} is a learner"))
            }
            MemberStatus { name, healthy: false, .. } => {
                Some(format!("the etcd member {name} is not healthy"))
            }
            _ => None,
        })
        .collect();
    if voters > 0 && well < voters {
        let spare = well.saturating_sub(quorum(voters));
        faults.push(format!("etcd: {well} of {voters} members are healthy; {spare} more may fail"));
    }
    faults
}

fn node_faults(nodes: &[Node], target: Version) -> Vec<String> {
    let most = skew::kubelet_skew(target);
    let fault = |node: &Node| match node.kubelet {
        _ if !node.ready => Some(format!("{}: its Node is not ready", node.name)),
        Some(version) if target.minor.saturating_sub(version.minor) > most => {
            Some(format!("{}: its kubelet {version} is too old for {target}", node.name))
        }
        Some(version) if version != target => {
            Some(format!("{}: its kubelet is {version}, and the file says {target}", node.name))
        }
        _ => None,
    };
    nodes.iter().filter_map(fault).collect()
}

impl From<Node> for NodeStatus {
    fn from(node: Node) -> Self {
        let version = node.kubelet.map(|version| version.to_string());
        let (control_plane, Node { name, ready, cordoned, .. }) = (node.is_control_plane(), node);
        Self { name, control_plane, ready, cordoned, version }
    }
}

async fn proxy(shared: &Shared, cx: &Context, host: &Host) -> ProxyStatus {
    let (usable, static_pod, problem) = match shared.look_at_worker(cx, &host.name).await {
        Err(error) => (false, false, Some(error.to_string())),
        Ok(look) => match &look.status {
            None => (false, false, Some("its proxy does not answer".to_owned())),
            Some(proxy) => {
                let serves = proxy.handover_generation;
                let pod = serves.is_some_and(|generation| look.pods.contains_key(&generation));
                let reasons = || format!("its proxy finds no apiserver: {}", proxy.reasons());
                (proxy.usable, pod, (!proxy.usable).then(reasons))
            }
        },
    };
    ProxyStatus { host: host.name.clone(), usable, static_pod, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::steps::world::{World, cluster};

    #[tokio::test(start_paused = true)]
    async fn a_whole_cluster_has_no_faults_and_a_torn_one_all_of_them() {
        let world = World::new(cluster());
        assert_eq!(
            gather(&world.shared, &world.cx).await.unwrap().faults.len(),
            3,
            "nothing is made yet"
        );
        world.apply(&world.steps()).await.unwrap();
        let status = gather(&world.shared, &world.cx).await.unwrap();
        assert_eq!(status.faults, Vec::<String>::new());
        assert_eq!((status.nodes.len(), status.members.len(), status.proxies.len()), (5, 3, 2));
        assert!(status.proxies.iter().all(|proxy| proxy.usable && proxy.static_pod));

        world.hosts["cp3"].die("no power");
        world.hosts["w2"].die("no power");
        world.sim().sick.insert(3);
        world.sim().nodes.get_mut("w2").unwrap().ready = false;
        world.later().await;
        let status = gather(&world.shared, &world.cx).await.unwrap();
        assert_eq!(
            status.faults,
            [
                "cp3: the connection was lost: no power; is it up?",
                "the etcd member cp3 is not healthy",
                "etcd: 2 of 3 members are healthy; 0 more may fail",
                "w2: its Node is not ready",
                "w2: the connection was lost: no power; is it up?",
            ]
        );
    }

    #[test]
    fn versions_apart_are_told() {
        let node = |kubelet: &str| Node {
            name: "w1".to_owned(),
            ready: true,
            kubelet: kubelet.parse().ok(),
            ..Node::default()
        };
        let faults = node_faults(
            &[node("v1.34.2"), node("v1.33.0"), node("v1.30.0")],
            Version::new(1, 34, 2),
        );
        assert_eq!(
            faults,
            [
                "w1: its kubelet is v1.33.0, and the file says v1.34.2",
                "w1: its kubelet v1.30.0 is too old for v1.34.2",
            ]
        );
    }
}
