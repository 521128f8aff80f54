//! The cluster, asked through one of its control planes.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::report::{Report, script};
use super::{Member, Node, members, nodes, removable};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::spec::Version;
use crate::bootstrap::transport::{Command, Output};

/// Who is admin of the cluster on a control plane. Since 1.29 its rights come from RBAC (the group
/// `kubeadm:cluster-admins`); `super-admin.conf` is on the host of `kubeadm init` alone.
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// How long the apiserver or etcd may take to answer one request.
const PATIENCE: &str = "10s";

/// How long members may take to choose a leader; within seconds, but for machines that have much to do.
const SETTLES: Duration = Duration::from_secs(20);

/// How often they are asked meanwhile.
const PACE: Duration = Duration::from_secs(2);

/// kubectl speaks to etcd's HTTP gateway as well as to apiservers: nothing else has to be on the host.
/// The certificates are those by which the apiserver of this host reaches its etcd.
const ETCD: [&str; 11] = [
    "kubectl",
    "--kubeconfig",
    "/dev/null",
    "--request-timeout",
    PATIENCE,
    "--certificate-authority",
    "/etc/kubernetes/pki/etcd/ca.crt",
    "--client-certificate",
    "/etc/kubernetes/pki/apiserver-etcd-client.crt",
    "--client-key",
    "/etc/kubernetes/pki/apiserver-etcd-client.key",
];

/// A command of the cluster's admin.
pub fn kubectl<W: Into<String>>(arguments: impl IntoIterator<Item = W>) -> Command {
    let head = ["kubectl", "--kubeconfig", ADMIN, "--request-timeout", PATIENCE].map(String::from);
    Command::new(head.into_iter().chain(arguments.into_iter().map(Into::into)))
}

/// A request to the etcd member of the host itself, such as `/v3/cluster/member/list`.
pub fn etcd_command(path: &str, body: &serde_json::Value) -> Command {
    let tail = ["--server", "https://127.0.0.1:2379", "create", "--raw", path, "-f", "-"];
    Command::new(ETCD.into_iter().chain(tail)).stdin(body.to_string())
}

/// The same for scripts: prints the members of the host's own etcd, as [`members`] reads them.
pub fn members_in_shell() -> String {
    let client = ETCD.join(" ");
    let tail = "--server https://127.0.0.1:2379 create --raw /v3/cluster/member/list -f -";
    format!("printf '{{}}' | {client} {tail}")
}

/// The cluster, through this control plane.
#[derive(Clone, Copy, Debug)]
pub struct Api<'a> {
    cx: &'a Context,
    /// The control plane's name in the spec.
    pub host: &'a str,
}

impl<'a> Api<'a> {
    /// The cluster, through this control plane.
    pub fn new(cx: &'a Context, host: &'a str) -> Self {
        Self { cx, host }
    }

    /// Runs a command on the control plane, whatever it ends with.
    ///
    /// # Errors
    /// The host cannot be reached.
    pub async fn run(&self, command: &Command) -> Result<Output, StepError> {
        Ok(self.cx.host(self.host)?.run(command).await?)
    }

    /// Runs a command of the admin; one that fails is an error.
    ///
    /// # Errors
    /// The host cannot be reached, or kubectl complains.
    pub async fn kubectl<W: Into<String>>(
        &self,
        arguments: impl IntoIterator<Item = W>,
    ) -> Result<Output, StepError> {
        self.cx.run(self.host, &kubectl(arguments)).await
    }

    /// Applies a manifest, which no argument carries.
    ///
    /// # Errors
    /// The host cannot be reached, or the manifest is refused.
    pub async fn apply(&self, manifest: &[u8]) -> Result<(), StepError> {
        let command = kubectl(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        let command = command.stdin(manifest).timeout(Duration::from_mins(2));
        self.cx.run(self.host, &command).await.map(drop)
    }

    /// The version of the apiserver at this address.
    ///
    /// # Errors
    /// The host cannot be reached, or that apiserver does not answer.
    pub async fn version(&self, server: SocketAddr) -> Result<Version, StepError> {
        let server = format!("https://{server}");
        let words = ["--server", server.as_str(), "get", "--raw", "/version"];
        let text = self.kubectl(words).await?.text();
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let version = answer["gitVersion"].as_str().and_then(|version| version.parse().ok());
        version.ok_or_else(|| self.odd("its kube-apiserver tells no version"))
    }

    /// All Nodes.
    ///
    /// # Errors
    /// The host cannot be reached, or kubectl complains.
    pub async fn nodes(&self) -> Result<Vec<Node>, StepError> {
        let output = self.kubectl(["get", "nodes", "--output", "json"]).await?;
        nodes(&output.text()).map_err(|error| self.odd(error))
    }

    /// All members of the stacked etcd.
    ///
    /// # Errors
    /// The host cannot be reached, or its member does not answer.
    pub async fn members(&self) -> Result<Vec<Member>, StepError> {
        let output = self.etcd("/v3/cluster/member/list", &serde_json::json!({})).await?;
        members(&output.text()).map_err(|error| self.odd(error))
    }

    /// The numbers of the members that say that they are healthy: that they take part in the quorum.
    ///
    /// # Errors
    /// The host cannot be reached.
    pub async fn healthy(&self, members: &[Member]) -> Result<BTreeSet<u64>, StepError> {
        let url = |member: &Member| member.client_urls.first().cloned();
        let client = ETCD.join(" ");
        let body = format!(
            r#"for url; do part "member $url" {client} --server "$url" get --raw /health; done"#
        );
        let command = script(&body, members.iter().filter_map(url)).timeout(Duration::from_mins(2));
        let report = Report::read(&self.cx.run(self.host, &command).await?.stdout);
        let well = |member: &&Member| {
            let part = url(member).map(|url| report.part(&format!("member {url}")));
            part.is_some_and(|part| part.ok() && is_healthy(&part.text))
        };
        Ok(members.iter().filter(well).map(|member| member.id).collect())
    }

    /// Does the quorum allow that a member goes, or why not? Where too few answer they are asked again for
    /// a while: when a member was lost, the others may just be choosing a leader.
    ///
    /// # Errors
    /// The host cannot be reached.
    pub async fn may_remove(
        &self,
        members: &[Member],
        id: u64,
    ) -> Result<Result<(), String>, StepError> {
        let begun = Instant::now();
        loop {
            let judged = removable(members, &self.healthy(members).await?, id);
            if judged.is_ok() || begun.elapsed() > SETTLES {
                return Ok(judged);
            }
            sleep(PACE).await;
        }
    }

    /// Removes a member, if the quorum allows.
    ///
    /// # Errors
    /// It would break the quorum, or the host cannot be reached.
    pub async fn remove_member(&self, members: &[Member], id: u64) -> Result<(), StepError> {
        self.may_remove(members, id).await?.map_err(|reason| StepError::Refused {
            reason,
            remedy:
                "bring the other members back first (`apiproxy bootstrap status`), or restore a \
                     backup (`apiproxy bootstrap etcd restore`)"
                    .to_owned(),
        })?;
        let body = serde_json::json!({ "ID": id.to_string() });
        self.etcd("/v3/cluster/member/remove", &body).await.map(drop)
    }

    /// Gives a learner its vote. etcd refuses while it lags behind.
    ///
    /// # Errors
    /// It lags behind, or the host cannot be reached.
    pub async fn promote_member(&self, id: u64) -> Result<(), StepError> {
        let body = serde_json::json!({ "ID": id.to_string() });
        self.etcd("/v3/cluster/member/promote", &body).await.map(drop)
    }

    async fn etcd(&self, path: &str, body: &serde_json::Value) -> Result<Output, StepError> {
        self.cx.run(self.host, &etcd_command(path, body)).await
    }

    fn odd(&self, error: impl Display) -> StepError {
        StepError::Unverified(format!("{}: {error}", self.host))
    }
}

/// etcd 3.4 and later: `{"health":"true","reason":""}`.
fn is_healthy(json: &str) -> bool {
    let answer: Option<serde_json::Value> = serde_json::from_str(json).ok();
    answer.is_some_and(|answer| answer["health"] == "true" || answer["health"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_read_strictly() {
        assert!(is_healthy(r#"{"health":"true","reason":""}"#));
        for text in [r#"{"health":"false","reason":"RAFT NO LEADER"}"#, "", "true", "[]"] {
            assert!(!is_healthy(text), "{text}");
        }
    }

    #[test]
    fn no_secret_is_an_argument() {
        let command = etcd_command("/v3/cluster/member/remove", &serde_json::json!({ "ID": "1" }));
        assert!(!command.argv.join(" ").contains("ID"));
        assert!(command.stdin.is_some());
    }
}
