//! One look at a worker: its files, its proxy and its kubelet. Parsing is pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::bootstrap::kubernetes::{Report, script};
use crate::bootstrap::spec::Cluster;
use crate::bootstrap::steps::documents::{MANIFESTS, PROGRAM, PROXY_CA, PROXY_KUBECONFIG};
use crate::bootstrap::steps::shared::{etc_hosts, join};
use crate::bootstrap::transport::Command;

/// Our `kubeadm join` of a worker was begun, and is not known to have ended.
pub const MARKER: &str = "/var/lib/apiproxy/bootstrap/worker";

/// The arguments are the files to compare. The proxy's certificate is public; its key is left alone.
const LOOK: &str = r#"
busy() {
    for comm in /proc/[0-9]*/comm; do
        if read -r name <"$comm" && [ "$name" = kubeadm ]; then return 0; fi
    done
    return 1
}
certificate() { sed -n 's/^ *client-certificate-data: *//p' @KUBECONFIG@ | tr -d '"' | base64 -d; }
part kubelet test -s /etc/kubernetes/kubelet.conf
part marker cat @MARKER@
part busy busy
part hosts cat /etc/hosts
part program sha256sum @PROGRAM@
part status @PROGRAM@ status --output json
part ca cat @CA@
part certificate certificate
for file; do part "content $file" cat "$file"; done
for file in @MANIFESTS@/apiproxy-g*.yaml; do
    if [ -e "$file" ]; then part "pod $file" cat "$file"; fi
done
"#;

/// The command of a look that compares these files.
pub fn command(files: impl IntoIterator<Item = String>) -> Command {
    let body = LOOK
        .replace("@KUBECONFIG@", PROXY_KUBECONFIG)
        .replace("@MARKER@", MARKER)
        .replace("@PROGRAM@", PROGRAM)
        .replace("@CA@", join::CA)
        .replace("@MANIFESTS@", MANIFESTS);
    script(&body, files.into_iter().chain([PROXY_CA.to_owned()]))
}

/// What is taken from the status of a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Is a backend ready?
    pub usable: bool,
    /// Which of the processes that take over from each other it is.
    #[serde(default)]
    pub handover_generation: Option<u32>,
    /// The version of its program.
    #[serde(default)]
    pub version: String,
    /// The servers that it knows.
    #[serde(default)]
    pub backends: Vec<Backend>,
}

/// A server, as a proxy sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// As it is configured or was discovered.
    #[serde(default)]
    pub address: String,
    /// `ready`, `notReady`, `dead`, `unknown` or `drained`.
    #[serde(default)]
    pub state: String,
    /// Why.
    pub reason: Reason,
}

/// Why a server is in its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Reason {
    /// In words.
    pub message: String,
}

impl Status {
    /// What each backend says, in one line.
    pub fn reasons(&self) -> String {
        let reason = |backend: &Backend| format!("{}: {}", backend.name, backend.reason.message);
        self.backends.iter().map(reason).collect::<Vec<_>>().join("; ")
    }
}

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Has kubelet a kubeconfig: has it joined a cluster?
    pub kubelet: bool,
    /// Was our join begun, and is not known to have ended?
    pub begun: bool,
    /// Is a kubeadm at work?
    pub busy: bool,
    /// Where the endpoint's name leads, by `/etc/hosts`.
    pub endpoint: Option<IpAddr>,
    /// The first 12 digits of the program's SHA-256.
    pub program: Option<String>,
    /// What the proxy says of itself; none if it does not run.
    pub status: Option<Status>,
    /// The CA of the cluster that the node belongs to.
    pub ca: Option<String>,
    /// The certificate of the proxy's kubeconfig, in PEM.
    pub certificate: Option<String>,
    /// What is in the files to compare that are there, without white space at the ends.
    pub contents: BTreeMap<String, String>,
    /// The manifests of the proxy's static pods by their generations.
    pub pods: BTreeMap<u32, String>,
}

impl Look {
    /// Reads the report of [`command`].
    pub fn read(cluster: &Cluster, report: &Report) -> Self {
        let text = |name: &str| {
            let part = report.part(name);
            (part.ok() && !part.text.is_empty()).then_some(part.text)
        };
        let contents = report.under("content ").filter(|(_, part)| part.ok());
        let pods = report.under("pod ").filter(|(_, part)| part.ok());
        Self {
            kubelet: report.ok("kubelet"),
            begun: report.ok("marker"),
            busy: report.ok("busy"),
            endpoint: etc_hosts::lookup(&report.part("hosts").text, &cluster.endpoint.name),
            program: text("program").and_then(|text| text.get(..12).map(str::to_owned)),
            // Its exit code is 1 while no backend is ready.
            status: serde_json::from_str(&report.part("status").text).ok(),
            ca: text("ca"),
            certificate: text("certificate"),
            contents: contents.map(|(path, part)| (path.to_owned(), part.text.clone())).collect(),
            pods: pods
                .filter_map(|(path, part)| Some((generation(path)?, part.text.clone())))
                .collect(),
        }
    }
}

/// The generation in the name of a manifest, `apiproxy-gN.yaml`.
fn generation(path: &str) -> Option<u32> {
    path.rsplit_once("/apiproxy-g")?.1.strip_suffix(".yaml")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::steps::documents::PROXY_CONFIG;

    #[test]
    fn generations_are_read_from_names() {
        assert_eq!(generation("/etc/kubernetes/manifests/apiproxy-g12.yaml"), Some(12));
        assert_eq!(generation("/etc/kubernetes/manifests/apiproxy-gx.yaml"), None);
        assert_eq!(generation("/etc/kubernetes/manifests/apiproxy.yaml"), None);
    }

    #[test]
    fn a_real_shell_sees_what_is_on_a_worker() {
        use crate::bootstrap::steps::shell::Root;
        let cluster = crate::bootstrap::steps::world::cluster();
        let files = || [PROXY_CONFIG.to_owned()];
        let root = Root::new();
        let seen = || Look::read(&cluster, &root.report(&command(files())));
        assert_eq!(seen(), Look::default(), "nothing is there");

        root.write("etc/hosts", "127.0.0.1 api.prod\n");
        root.write(PROXY_CONFIG, "backends\n");
        root.write(PROXY_CA, "ca");
        root.write(PROXY_KUBECONFIG, "users:\n- user:\n    client-certificate-data: \"UEVN\"\n    client-key-data: c2VjcmV0\n");
        root.write("etc/kubernetes/kubelet.conf", "x");
        root.write("etc/kubernetes/manifests/apiproxy-g2.yaml", "old");
        root.write("etc/kubernetes/manifests/apiproxy-g10.yaml", "new");
        root.write("etc/kubernetes/manifests/apiproxy-g11.yaml.tmp", "torn");
        root.write(MARKER, "join");
        root.program_at(PROGRAM, r#"echo '{"usable": true, "handoverGeneration": 2}'; exit 1"#);
        let look = seen();
        assert!(look.kubelet && look.begun && !look.busy);
        assert_eq!(look.endpoint, "127.0.0.1".parse().ok());
        assert_eq!(look.contents.get(PROXY_CONFIG).map(String::as_str), Some("backends"));
        assert_eq!(look.contents.get(PROXY_CA).map(String::as_str), Some("ca"));
        assert_eq!(look.certificate.as_deref(), Some("PEM"));
        assert_eq!(look.program.map(|hash| hash.len()), Some(12));
        assert_eq!(look.status.and_then(|status| status.handover_generation), Some(2));
        assert_eq!(look.pods, BTreeMap::from([(2, "old".to_owned()), (10, "new".to_owned())]));
    }

    #[test]
    fn the_status_of_a_real_proxy_is_read() {
        let json = r#"{"version": "0.1.0", "pid": 1, "handoverGeneration": 2, "uptimeSeconds": 5, "usable": false,
            "backends": [{"name": "cp1", "state": "dead", "reason": {"code": "refused", "message": "refuses"}}]}"#;
        let status: Option<Status> = serde_json::from_str(json).ok();
        assert_eq!(status.as_ref().and_then(|status| status.handover_generation), Some(2));
        assert_eq!(status.map(|status| status.reasons()).as_deref(), Some("cp1: refuses"));
    }
}
