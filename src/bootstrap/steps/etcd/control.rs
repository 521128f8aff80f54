//! etcdctl on a host whose member is part of the quorum, and the unit of a host.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::spec::{Cluster, Host};
use crate::bootstrap::transport::{Command, Output};

use super::members::View;
use super::paths::{
    CA_CERT, CLIENT_CERT, CLIENT_KEY, DATA, INITIAL, PKI, UNIT, USER, local_url, peer_url,
};
use super::probe::Probe;

/// A script with `ctl`, which runs etcdctl with the certificates of its host. An etcd that does not
/// answer is given up after 2 to 3 s.
pub(in crate::bootstrap::steps) fn with_etcdctl(script: &str) -> String {
    format!(
        "ctl() {{ ETCDCTL_API=3 etcdctl --dial-timeout=2s --command-timeout=3s --cacert={CA_CERT} \
         --cert={CLIENT_CERT} --key={CLIENT_KEY} \"$@\"; }}\n{script}"
    )
}

/// All members, as far as they can be asked, at one moment.
#[derive(Debug)]
pub struct Survey {
    /// Each host that was asked, in the order of the file.
    pub probes: Vec<(String, Result<Probe, StepError>)>,
    /// A host whose member is part of the quorum, and the cluster as it sees it; none if there is no
    /// quorum.
    pub cluster: Option<(String, View)>,
}

impl Survey {
    /// Asks every host that should carry a member, and then one of a quorum about the whole.
    ///
    /// # Errors
    /// If there is a quorum that does not say who is in it. A host that cannot be reached is no error.
    pub async fn of(cx: &Context, cluster: &Cluster) -> Result<Self, StepError> {
        Self::beside(cx, cluster, None).await
    }

    /// The same, with what one host has just said.
    pub(super) async fn beside(
        cx: &Context,
        cluster: &Cluster,
        known: Option<(&str, &Probe)>,
    ) -> Result<Self, StepError> {
        let hosts: Vec<_> = cluster.etcd_hosts().map(|host| host.name.clone()).collect();
        let ask = |host: &String| {
            let host = host.clone();
            async move {
                match known {
                    Some((name, probe)) if *name == host => Ok(probe.clone()),
                    _ => Probe::of(cx, &host).await,
                }
            }
        };
        let probes = join_all(hosts.iter().map(ask)).await;
        let probes: Vec<_> = hosts.into_iter().zip(probes).collect();
        // One that was part of a quorum a moment ago and cannot say more must not pass for none.
        let mut trouble = None;
        for (host, probe) in &probes {
            if probe.as_ref().is_ok_and(|probe| probe.members.is_some()) {
                match view(cx, host).await {
                    Ok(view) => return Ok(Self { cluster: Some((host.clone(), view)), probes }),
                    Err(error) => trouble = Some(error),
                }
            }
        }
        trouble.map_or(Ok(Self { probes, cluster: None }), Err)
    }

    /// Hosts that could not be asked, with why.
    pub fn silent(&self) -> impl Iterator<Item = (&str, &StepError)> {
        self.probes.iter().filter_map(|(host, probe)| Some((host.as_str(), probe.as_ref().err()?)))
    }

    /// Why nothing can be done: there is no quorum of others, and who could not even be asked.
    pub(super) fn refusal(&self, reason: &str) -> StepError {
        let silent = self.silent().map(|(_, error)| error.to_string());
        let all: Vec<_> = std::iter::once(reason.to_owned()).chain(silent).collect();
        StepError::Refused {
            reason: all.join("; "),
            remedy: "start enough of them, or see `apiproxy bootstrap etcd restore`".to_owned(),
        }
    }

    /// Hosts whose member was part of a cluster once.
    pub fn formed(&self) -> Vec<&str> {
        let formed = self.probes.iter();
        let formed = formed.filter(|(_, probe)| probe.as_ref().is_ok_and(Probe::was_member));
        formed.map(|(host, _)| host.as_str()).collect()
    }
}

/// The cluster as a host sees it whose member is part of the quorum.
///
/// # Errors
/// If it does not answer any more.
pub async fn view(cx: &Context, speaker: &str) -> Result<View, StepError> {
    // At once, for each waits some seconds for members that are away.
    const SCRIPT: &str = r#"
set +e
ctl --endpoints="$1" member list -w json 2>/dev/null || exit 1
status=$(mktemp) || exit 1
ctl --endpoints="$1" endpoint status --cluster -w json >"$status" 2>/dev/null &
ctl --endpoints="$1" endpoint health --cluster -w json 2>/dev/null
echo
wait
cat "$status"
rm -f "$status"
exit 0
"#;
    let command = Command::script(&with_etcdctl(SCRIPT), [local_url()]);
    let output = cx.run(speaker, &command.timeout(Duration::from_secs(40))).await?.text();
    let mut lines = output.lines().filter(|line| !line.trim().is_empty());
    let mut next = || lines.next().unwrap_or_default();
    let (members, health, status) = (next(), next(), next());
    View::parse(members, health, status).map_err(|error| {
        StepError::Unverified(format!("{speaker}: what etcdctl printed cannot be read: {error}"))
    })
}

/// Runs etcdctl on a host whose member is part of the quorum.
pub(super) async fn etcdctl(
    cx: &Context,
    speaker: &str,
    words: &[&str],
) -> Result<Output, StepError> {
    const SCRIPT: &str = r#"url=$1; shift; ctl --endpoints="$url" "$@""#;
    let local = local_url();
    let arguments = std::iter::once(local.as_str()).chain(words.iter().copied());
    let command = Command::script(&with_etcdctl(SCRIPT), arguments);
    let output = cx.host(speaker)?.run(&command).await?;
    if output.ok() {
        return Ok(output);
    }
    let complaint = output.complaint();
    // The whole script would say little; this is what can be tried by hand.
    let command = format!("etcdctl {}", words.join(" "));
    Err(StepError::Command { host: speaker.to_owned(), command, code: output.code, complaint })
}

/// The same for a change of the members. Within 5 s of a start or a removal etcd refuses it, because
/// not all of them have been connected for that long (etcd: etcdserver/server.go, `HealthInterval`).
pub(super) async fn change_members(
    cx: &Context,
    speaker: &str,
    words: &[&str],
) -> Result<Output, StepError> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match etcdctl(cx, speaker, words).await {
            Err(StepError::Command { complaint, .. })
                if complaint.contains("unhealthy cluster") && Instant::now() < end =>
            {
                sleep(Duration::from_secs(1)).await;
            }
            result => return result,
        }
    }
}

/// Makes the user and the folders of a member.
pub(in crate::bootstrap::steps) async fn prepare(
    cx: &Context,
    host: &str,
) -> Result<(), StepError> {
    const SCRIPT: &str = r#"
getent group "$1" >/dev/null || groupadd --system "$1"
getent passwd "$1" >/dev/null ||
    useradd --system --gid "$1" --home-dir "$2" --no-create-home --shell /usr/sbin/nologin "$1"
install -d -m 0700 -o "$1" -g "$1" "$2"
umask 022
mkdir -p "$3"
# etcd is not root: it has to get through.
chmod 0755 "${3%/*/*}" "${3%/*}" "$3"
"#;
    cx.run(host, &Command::script(SCRIPT, [USER, DATA, PKI])).await.map(drop)
}

/// (Re)starts the unit, without waiting for a quorum: who answers afterwards is the new process.
/// Debian's own unit must not hold the ports.
pub(super) async fn start(cx: &Context, host: &str) -> Result<(), StepError> {
    const SCRIPT: &str = r#"
if [ "$(systemctl show -p LoadState --value etcd.service)" = loaded ]; then
    systemctl disable --now etcd.service
fi
systemctl daemon-reload
systemctl enable "$1"
systemctl reset-failed "$1" || true
systemctl stop "$1"
systemctl start --no-block "$1"
"#;
    cx.run(host, &Command::script(SCRIPT, [UNIT])).await.map(drop)
}

/// Stops the unit and moves the data of its member aside, under a name that says when.
pub(super) async fn retire(cx: &Context, host: &str) -> Result<(), StepError> {
    const SCRIPT: &str = r#"
systemctl stop "$1" || true
rm -f "$3"
if [ -d "$2/member" ]; then
    mv "$2/member" "$2/removed-$(date -u +%Y%m%dT%H%M%SZ)"
fi
"#;
    cx.run(host, &Command::script(SCRIPT, [UNIT, DATA, INITIAL])).await.map(drop)
}

/// Removes files of a host.
pub(super) async fn forget(cx: &Context, host: &str, paths: &[&str]) -> Result<(), StepError> {
    let words = ["rm", "-f", "--"].into_iter().chain(paths.iter().copied());
    cx.run(host, &Command::new(words)).await.map(drop)
}

/// The member of a host, as the others call it.
pub(super) fn url_of(host: &Host) -> String {
    peer_url(host.address)
}
