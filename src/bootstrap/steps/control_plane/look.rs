//! One look at a control plane: what is there of one, and how it stands. Parsing is pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::bootstrap::kubernetes::{
    Member, Node, Report, members, members_in_shell, nodes, script,
};
use crate::bootstrap::spec::{Cluster, Host, Topology};
use crate::bootstrap::steps::shared::etc_hosts;
use crate::bootstrap::transport::Command;

/// What kubeadm was begun for on a host and is not known to have ended: written before, removed when all
/// of it was verified. So one that was killed half way is told from one that somebody else made.
pub const MARKER: &str = "/var/lib/apiproxy/bootstrap/control-plane";

/// `$1` is the apiserver's port, `$2` the Node's name, `$3` says whether etcd is stacked.
const LOOK: &str = r#"
admin="kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 5s --server https://127.0.0.1:$1"
busy() {
    for comm in /proc/[0-9]*/comm; do
        if read -r name <"$comm" && [ "$name" = kubeadm ]; then return 0; fi
    done
    return 1
}
for file in kubelet.conf admin.conf manifests/kube-apiserver.yaml; do
    part "file $file" test -s "/etc/kubernetes/$file"
done
part marker cat @MARKER@
part busy busy
part hosts cat /etc/hosts
if [ -s /etc/kubernetes/admin.conf ]; then
    told readyz $admin get --raw /readyz
    part node $admin get nodes --field-selector "metadata.name=$2" --output json
    members() { @MEMBERS@; }
    if [ "$3" = stacked ]; then part members members; fi
    part configuration $admin --namespace kube-system get configmap kubeadm-config --output 'jsonpath={.data.ClusterConfiguration}'
fi
for program in kube-apiserver kube-controller-manager kube-scheduler; do
    part "manifest $program" cat "/etc/kubernetes/manifests/$program.yaml"
done
"#;

/// The command of a look.
pub fn command(cluster: &Cluster, host: &Host) -> Command {
    let body = LOOK.replace("@MARKER@", MARKER).replace("@MEMBERS@", &members_in_shell());
    let topology = match cluster.topology {
        Topology::Stacked => "stacked",
        Topology::External => "external",
    };
    script(&body, [cluster.endpoint.port.to_string(), host.name.clone(), topology.to_owned()])
}

/// What kubeadm was begun for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// A new cluster.
    Init,
    /// One more control plane.
    Join,
}

impl Begun {
    /// What is in the marker.
    pub fn word(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Join => "join",
        }
    }
}

/// How a control plane stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is nothing of one.
    Fresh,
    /// It runs the cluster, and its apiserver is ready.
    Serving,
    /// It runs the cluster, but its apiserver is not ready: what it says.
    Ill(String),
    /// Our kubeadm was stopped half way.
    Unfinished(Begun),
    /// There is something of kubeadm that we did not begin, and no whole control plane: what.
    Foreign(String),
    /// It could not be looked at: why.
    Away(String),
}

/// What is there of kubeadm's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Files {
    kubelet: bool,
    admin: bool,
    manifest: bool,
}

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    files: Files,
    /// What our kubeadm was begun for.
    pub begun: Option<String>,
    /// Is a kubeadm at work?
    pub busy: bool,
    /// Where the endpoint's name leads, by `/etc/hosts`.
    pub endpoint: Option<IpAddr>,
    /// What its apiserver says, if not that it is ready.
    unready: Option<String>,
    /// Its Node.
    pub node: Option<Node>,
    /// The cluster's own settings: kubeadm's `ClusterConfiguration`.
    pub configuration: String,
    /// The manifests of its programs, by their names.
    pub manifests: BTreeMap<String, String>,
    /// All etcd members, by its own; none if that one does not answer.
    pub members: Option<Vec<Member>>,
}

impl Look {
    /// Reads the report of [`command`].
    pub fn read(cluster: &Cluster, report: &Report) -> Self {
        let readyz = report.part("readyz");
        let found = report.part("node");
        let node = nodes(&found.text).ok().and_then(|nodes| nodes.into_iter().next());
        let marker = report.part("marker");
        Self {
            files: Files {
                kubelet: report.ok("file kubelet.conf"),
                admin: report.ok("file admin.conf"),
                manifest: report.ok("file manifests/kube-apiserver.yaml"),
            },
            begun: marker.ok().then_some(marker.text),
            busy: report.ok("busy"),
            endpoint: etc_hosts::lookup(&report.part("hosts").text, &cluster.endpoint.name),
            unready: (!readyz.ok()).then(|| readyz.last_line().to_owned()),
            node: if found.ok() { node } else { None },
            configuration: report.part("configuration").text,
            manifests: report
                .under("manifest ")
                .filter(|(_, part)| part.ok())
                .map(|(name, part)| (name.to_owned(), part.text.clone()))
                .collect(),
            members: members(&report.part("members").text).ok(),
        }
    }

    /// How it stands.
    pub fn standing(&self, cluster: &Cluster, host: &Host) -> Standing {
        let Files { kubelet, admin, manifest } = self.files;
        match self.begun.as_deref() {
            Some(_) if self.fault(cluster, host).is_none() => Standing::Serving,
            Some("init") => Standing::Unfinished(Begun::Init),
            Some(_) => Standing::Unfinished(Begun::Join),
            None => match (kubelet, admin, manifest) {
                (true, true, true) => match &self.unready {
                    None => Standing::Serving,
                    Some(reason) => Standing::Ill(reason.clone()),
                },
                (false, _, false) => Standing::Fresh,
                (true, _, false) => {
                    Standing::Foreign("kubelet.conf without a control plane".into())
                }
                _ => Standing::Foreign("part of a control plane".into()),
            },
        }
    }

    /// What it lacks to be a whole control plane, if anything.
    pub fn fault(&self, cluster: &Cluster, host: &Host) -> Option<String> {
        let Files { kubelet, admin, manifest } = self.files;
        if !(kubelet && admin && manifest) {
            return Some("kubeadm has not made all of it".to_owned());
        }
        if let Some(reason) = &self.unready {
            return Some(format!("its kube-apiserver is not ready: {reason}"));
        }
        match &self.node {
            None => return Some("its Node is not registered".to_owned()),
            Some(node) if !node.is_control_plane() => {
                return Some("its Node is not marked as a control plane".to_owned());
            }
            Some(_) => {}
        }
        if cluster.topology == Topology::External {
            return None;
        }
        let Some(members) = &self.members else {
            return Some("its etcd member does not answer".to_owned());
        };
        match members.iter().find(|member| member.is_of(&host.name, host.address)) {
            None => Some("it has no etcd member".to_owned()),
            Some(member) if !member.started() => Some("its etcd member never started".to_owned()),
            Some(member) if member.is_learner => Some("its etcd member is a learner".to_owned()),
            Some(_) => None,
        }
    }

    /// Its etcd member, if it is a learner that has started: what can be promoted.
    pub fn learner(&self, host: &Host) -> Option<u64> {
        let member = |member: &&Member| member.is_of(&host.name, host.address);
        let own = self.members.as_ref()?.iter().find(member)?;
        (own.started() && own.is_learner).then_some(own.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::steps::shell::Root;
    use crate::bootstrap::steps::world::cluster;

    const KUBECTL: &str = r#"case "$*" in
    *"--kubeconfig /dev/null "*member/list*) [ "$(cat)" = "{}" ] && cat "$ROOT/members" ;;
    *"--server https://127.0.0.1:6443 get --raw /readyz") cat "$ROOT/readyz" || { echo refused >&2; exit 1; } ;;
    *"get nodes --field-selector metadata.name=cp2 "*) cat "$ROOT/nodes" ;;
    *"get configmap kubeadm-config "*) echo "clusterName: prod" ;;
    *) exit 1 ;;
esac
"#;

    fn seen(root: &Root) -> (Look, Standing, Option<String>) {
        let cluster = cluster();
        let host = cluster.host("cp2").unwrap();
        let look = Look::read(&cluster, &root.report(&command(&cluster, host)));
        let (standing, fault) = (look.standing(&cluster, host), look.fault(&cluster, host));
        (look, standing, fault)
    }

    #[test]
    fn a_real_shell_tells_a_control_plane_from_what_is_none() {
        let root = Root::new();
        root.write("etc/hosts", "10.0.0.11 api.prod\n");
        let (look, standing, _) = seen(&root);
        assert_eq!(standing, Standing::Fresh);
        assert_eq!(look.endpoint, "10.0.0.11".parse().ok());
        assert!(!look.busy);
        root.write("proc/4711/comm", "kubeadm\n");
        assert!(seen(&root).0.busy);

        root.program("kubectl", KUBECTL);
        root.write("etc/kubernetes/kubelet.conf", "x");
        assert!(matches!(seen(&root).1, Standing::Foreign(_)));
        root.write(MARKER, "join");
        assert_eq!(seen(&root).1, Standing::Unfinished(Begun::Join));
        root.write("etc/kubernetes/admin.conf", "x");
        root.write("etc/kubernetes/manifests/kube-apiserver.yaml", "spec: 1");
        let (_, standing, fault) = seen(&root);
        assert_eq!(standing, Standing::Unfinished(Begun::Join));
        assert_eq!(fault.as_deref(), Some("its kube-apiserver is not ready: refused"));

        root.write("readyz", "ok");
        root.write("nodes", r#"{"items": []}"#);
        assert_eq!(seen(&root).2.as_deref(), Some("its Node is not registered"));
        let label = r#"{"node-role.kubernetes.io/control-plane": ""}"#;
        root.write(
            "nodes",
            &format!(r#"{{"items": [{{"metadata": {{"name": "cp2", "labels": {label}}}}}]}}"#),
        );
        assert_eq!(seen(&root).2.as_deref(), Some("its etcd member does not answer"));
        let member = r#""ID": "7", "name": "cp2", "peerURLs": ["https://10.0.0.12:2380"]"#;
        root.write("members", &format!(r#"{{"members": [{{{member}, "isLearner": true}}]}}"#));
        let (look, _, fault) = seen(&root);
        assert_eq!(fault.as_deref(), Some("its etcd member is a learner"));
        assert_eq!(look.learner(cluster().host("cp2").unwrap()), Some(7));
        root.write("members", &format!(r#"{{"members": [{{{member}}}]}}"#));
        let (look, standing, fault) = seen(&root);
        assert_eq!((standing, fault), (Standing::Serving, None));
        assert_eq!(look.begun.as_deref(), Some("join"), "it is still to be finished");
        assert_eq!(look.configuration, "clusterName: prod");
        assert_eq!(look.manifests["kube-apiserver"], "spec: 1");
    }
}
