//! Packages of Debian and Ubuntu, and Kubernetes' own.

use std::time::Duration;

use super::super::case::{Case, Found};
use super::super::shelf::refused;
use crate::bootstrap::artifacts::packages::{self, HELD, KEYRING, Package, Repository};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::needs;
use crate::bootstrap::spec::Cluster;
use crate::bootstrap::transport::Command;

/// A slow mirror, a slow disk, and another apt-get that holds the lock for a while.
const PATIENCE: Duration = Duration::from_mins(15);

/// Fetches the key of the repository; `$1` its URL, `$2` its place. A mirror that wants a login gets the one
/// that apt has for it: its auth.conf is a netrc.
const FETCH_KEY: &str = r#"# fetch the key of the repository
mkdir -p "${2%/*}"
auth=$(mktemp)
trap 'rm -f "$2.new" "$auth"' EXIT
trap 'exit 1' HUP INT TERM
for file in /etc/apt/auth.conf /etc/apt/auth.conf.d/*.conf; do
    if [ -f "$file" ]; then cat "$file" >>"$auth"; fi
done
if command -v curl >/dev/null; then curl -fsSL --netrc-optional --netrc-file "$auth" --retry 3 --connect-timeout 10 -o "$2.new" "$1"
elif command -v wget >/dev/null; then wget -q -T 10 -O "$2.new" "$1"
else echo "neither curl nor wget is installed" >&2; exit 1; fi
grep -q 'BEGIN PGP PUBLIC KEY BLOCK' "$2.new" || { echo "no key at $1" >&2; exit 1; }
chmod 644 "$2.new"
mv "$2.new" "$2""#;

/// The repository of a cluster that takes its programs from packages.
fn repository(cluster: &Cluster) -> Result<Repository, StepError> {
    let found = packages::repository(cluster).map_err(|error| refused(&error))?;
    found.ok_or_else(|| StepError::Unverified("programs come from a directory".to_owned()))
}

/// Packages that are not there, or not of their version.
fn missing(case: &Case<'_>) -> Vec<Package> {
    let mut all = packages::packages(case.cluster, case.host);
    all.retain(|package| !is_there(case, package));
    all
}

fn is_there(case: &Case<'_>, package: &Package) -> bool {
    let installed = case.look.packages.get(package.name);
    let program = package.program.and_then(|name| case.look.program(name));
    if package.version.is_none() {
        return installed.is_some() || program.is_some();
    }
    if case.look.facts.joined() && program.is_some() {
        return true;
    }
    match installed {
        Some(version) => package.is_satisfied_by(version),
        // Put there by hand, and right.
        None => program.is_some_and(|found| found.version == Some(case.cluster.kubernetes_version)),
    }
}

/// Installed packages that nothing holds at their version.
fn loose(case: &Case<'_>) -> Vec<&'static str> {
    let look = case.look;
    let installed = HELD.into_iter().filter(|name| look.packages.contains_key(*name));
    installed.filter(|name| !look.facts.held.contains(*name)).collect()
}

/// Does this host need Kubernetes' repository?
fn wants_repository(case: &Case<'_>) -> bool {
    needs::is_node(case.host) && !case.look.facts.joined()
}

pub(super) fn look(case: &Case<'_>) -> Result<Found, StepError> {
    let mut found = Found::default();
    let repository = repository(case.cluster)?;
    if wants_repository(case) {
        for list in &repository.lists {
            found.file(case, list);
        }
        if !case.look.files.contains_key(KEYRING) {
            found.because("the key of Kubernetes' repository is not there");
        }
    }
    for package in missing(case) {
        match case.look.packages.get(package.name) {
            Some(version) => found.because(format!(
                "{} is {version}, not {}",
                package.name,
                package.version.as_deref().unwrap_or("any")
            )),
            None => found.because(format!("{} is not installed", package.request())),
        }
    }
    let loose = loose(case);
    if !loose.is_empty() {
        found.because(format!("not held at their version: {}", loose.join(", ")));
    }
    Ok(found)
}

/// apt-get that asks nothing, waits for its lock and keeps changed configuration files.
fn apt_get(repository: &Repository, words: impl IntoIterator<Item = String>) -> Command {
    let head = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"];
    let options = [
        "DPkg::Lock::Timeout=300",
        "Dpkg::Options::=--force-confdef",
        "Dpkg::Options::=--force-confold",
    ];
    let options = options.into_iter().flat_map(|option| ["-o", option]);
    let head = head.into_iter().chain(options).map(ToOwned::to_owned);
    Command::new(head.chain(repository.arguments.iter().cloned()).chain(words)).timeout(PATIENCE)
}

pub(super) async fn apply(case: &Case<'_>, cx: &Context) -> Result<(), StepError> {
    let (host, wanted) = (&case.host.name, missing(case));
    let repository = repository(case.cluster)?;
    // Debian's etcd would start a member of its own as soon as it is installed.
    if wanted.iter().any(|package| package.name == "etcd-server") {
        cx.run(host, &Command::new(["systemctl", "mask", "--quiet", "etcd.service"])).await?;
    }
    if needs::is_node(case.host) || !wanted.is_empty() {
        let requests = wanted.iter().map(Package::request).collect();
        let with_key = wants_repository(case);
        bring(cx, host, &repository, with_key, case.look.files.contains_key(KEYRING), requests)
            .await?;
    }
    let installed = |name: &&str| {
        wanted.iter().any(|package| package.name == *name) || case.look.packages.contains_key(*name)
    };
    hold(cx, host, HELD.into_iter().filter(installed)).await
}

async fn hold<'a>(
    cx: &Context,
    host: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), StepError> {
    let names: Vec<_> = names.collect();
    if !names.is_empty() {
        cx.run(host, &Command::new(["apt-mark", "hold"].into_iter().chain(names))).await?;
    }
    Ok(())
}

/// Writes the lists, fetches the key, and installs.
async fn bring(
    cx: &Context,
    host: &str,
    repository: &Repository,
    with_key: bool,
    has_key: bool,
    requests: Vec<String>,
) -> Result<(), StepError> {
    if with_key {
        if !has_key {
            key(cx, host, repository).await?;
        }
        for list in &repository.lists {
            cx.host(host)?.write(list).await?;
        }
    }
    if requests.is_empty() {
        return Ok(());
    }
    cx.run(host, &apt_get(repository, ["update".to_owned()])).await?;
    let words = ["install", "--no-install-recommends", "--allow-change-held-packages"];
    let words = words.into_iter().chain(["--allow-downgrades"]).map(ToOwned::to_owned);
    cx.run(host, &apt_get(repository, words.chain(requests))).await?;
    Ok(())
}

async fn key(cx: &Context, host: &str, repository: &Repository) -> Result<(), StepError> {
    let fetch = Command::script(FETCH_KEY, [repository.key_url.as_str(), KEYRING]);
    let output = cx.host(host)?.run(&fetch).await?;
    if output.ok() {
        return Ok(());
    }
    if output.complaint().contains("neither curl nor wget") {
        // The distribution's own sources, before ours without its key stands among them.
        cx.run(host, &apt_get(repository, ["update".to_owned()])).await?;
        let words = ["install", "--no-install-recommends", "curl", "ca-certificates"];
        cx.run(host, &apt_get(repository, words.map(ToOwned::to_owned))).await?;
        cx.run(host, &fetch).await?;
        return Ok(());
    }
    Err(StepError::Refused {
        reason: format!(
            "{host}: the key of {} was not had: {}",
            repository.key_url,
            output.complaint()
        ),
        remedy: "let the host reach it, name a mirror, or use `artifacts: {from: directory}`"
            .into(),
    })
}

/// Installs these programs of Kubernetes in the cluster's version, also on a node that has joined:
/// for `upgrade`, which sees to the node before and after.
///
/// # Errors
/// If the host cannot be reached, or has no way to the packages.
pub async fn install(
    cx: &Context,
    cluster: &Cluster,
    host: &str,
    programs: &[&'static str],
) -> Result<(), StepError> {
    let repository = repository(cluster)?;
    let wanted = programs.iter().map(|name| packages::kubernetes(name, cluster.kubernetes_version));
    let requests = wanted.map(|package| package.request()).collect();
    let has_key = cx.host(host)?.read(KEYRING).await?.is_some();
    bring(cx, host, &repository, true, has_key, requests).await?;
    hold(cx, host, programs.iter().copied()).await
}
