//! Programs from the directory of artifacts: debs, programs of Kubernetes, and what is unpacked.

use std::sync::Arc;
use std::time::Duration;

use super::super::case::{Case, Found};
use super::super::shelf::{Shelf, refused, waiting};
use super::unpack::unpack;
use super::{KUBERNETES, LOOPBACK};
use crate::bootstrap::artifacts::{Directory, Item, Stored, manifest};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::needs;
use crate::bootstrap::spec::{Cluster, Version};
use crate::bootstrap::transport::Command;

/// Where Debian's package puts the plugins of CNI, which containerd looks for in `/opt/cni/bin`.
const LINK_PLUGINS: &str = r#"# link the plugins of CNI
[ -x /usr/lib/cni/loopback ] || exit 3
mkdir -p /opt/cni/bin
for plugin in /usr/lib/cni/*; do ln -sf "$plugin" "/opt/cni/bin/${plugin##*/}"; done"#;

/// What a host lacks, each with the file that brings it.
#[derive(Debug, Default)]
struct Lacking {
    debs: Vec<Stored>,
    programs: Vec<(&'static str, &'static str, Stored)>,
    archives: Vec<(&'static str, Stored)>,
    /// The plugins of CNI, and no archive of them: Debian's may be there.
    plugins: bool,
}

fn lacking(case: &Case<'_>, directory: &Directory) -> Result<Lacking, StepError> {
    let arch = &case.look.facts.arch;
    let mut lacking = Lacking::default();
    let node = needs::is_node(case.host);
    let etcd = needs::runs_etcd_itself(case.cluster, case.host) || lacks_etcd(case);
    let debs = directory.packages(arch).map_err(|error| refused(&error))?;
    let installed = |stored: &Stored| {
        let name = stored.name.trim_start_matches("debs/").split('_').next().unwrap_or("");
        case.look.packages.contains_key(name)
    };
    if node || etcd {
        lacking.debs = debs.into_iter().filter(|stored| !installed(stored)).collect();
    }
    // A package brings its program: what it will bring need not come by another way.
    let coming =
        |name: &str| lacking.debs.iter().any(|deb| deb.name.starts_with(&format!("debs/{name}_")));
    let mut archives = Vec::new();
    if node {
        let version = case.cluster.kubernetes_version;
        for (program, path) in KUBERNETES {
            if !coming(program) && !kubernetes_is_there(case, directory, program, path)? {
                let item = manifest::kubernetes(program, version, arch);
                lacking.programs.push((program, path, require(directory, &item)?));
            }
        }
        let least = needs::least_containerd(version);
        archives.push((manifest::containerd(arch), "containerd", Some(least)));
        archives.push((manifest::runc(arch), "runc", None));
        archives.push((manifest::crictl(version, arch), "crictl", None));
        let plugins = manifest::cni_plugins(arch);
        match directory.find(&plugins).map_err(|error| refused(&error))? {
            Some(stored) if !marked(case, "cni-plugins", &stored) && !kept(case, LOOPBACK) => {
                lacking.archives.push(("cni-plugins", stored));
            }
            None => lacking.plugins = !case.look.sums.contains_key(LOOPBACK),
            Some(_) => {}
        }
    }
    if etcd {
        archives.push((manifest::etcd(case.cluster.etcd.version, arch), "etcd", None));
    }
    for (item, program, least) in archives {
        if !coming(program) && !coming(&format!("{program}-server")) {
            lacking
                .archives
                .extend(archive(case, directory, &item, least)?.map(|a| (item.name, a)));
        }
    }
    Ok(lacking)
}

/// Does the host lack programs of etcd that backups or drills call, though etcd itself runs as a pod?
fn lacks_etcd(case: &Case<'_>) -> bool {
    let lacks = |name: &str| case.look.program(name).is_none();
    needs::holds_drills(case.cluster, case.host) && (lacks("etcd") || lacks("etcdctl"))
        || needs::asks_stacked_etcd(case.cluster, case.host) && lacks("etcdctl")
}

fn require(directory: &Directory, item: &Item) -> Result<Stored, StepError> {
    directory.require(item).map_err(|error| refused(&error))
}

/// Was this very file unpacked there?
fn marked(case: &Case<'_>, name: &str, stored: &Stored) -> bool {
    case.look.marks.get(name) == Some(&stored.sha256)
}

/// Is a file there that somebody else sees to, or that a joined node runs with?
fn kept(case: &Case<'_>, path: &str) -> bool {
    let there = case.look.sums.contains_key(path);
    there && (case.look.facts.joined() || !case.look.marks.contains_key("cni-plugins"))
}

fn kubernetes_is_there(
    case: &Case<'_>,
    directory: &Directory,
    program: &'static str,
    path: &str,
) -> Result<bool, StepError> {
    let (look, version) = (case.look, case.cluster.kubernetes_version);
    let Some(found) = look.program(program) else { return Ok(false) };
    if look.facts.joined() || (found.path != path && found.version == Some(version)) {
        return Ok(true);
    }
    let stored = require(directory, &manifest::kubernetes(program, version, &look.facts.arch))?;
    Ok(look.sums.get(path) == Some(&stored.sha256))
}

/// The archive that a host lacks. What the host has from elsewhere stays, if it is new enough.
fn archive(
    case: &Case<'_>,
    directory: &Directory,
    item: &Item,
    least: Option<Version>,
) -> Result<Option<Stored>, StepError> {
    let (look, name) = (case.look, item.name);
    let found = look.program(name);
    let stored = directory.find(item).map_err(|error| refused(&error))?;
    let fits = |version: Version| {
        let wanted = case.cluster.etcd.version.filter(|_| name == "etcd");
        least.is_none_or(|least| version >= least) && wanted.is_none_or(|wanted| version == wanted)
    };
    let ours = look.marks.contains_key(name);
    let right = found.is_some_and(|found| found.version.is_none_or(fits));
    match stored {
        Some(stored) if ours && marked(case, name, &stored) && found.is_some() => Ok(None),
        // Under running pods or members nothing is replaced here.
        _ if right && (!ours || look.facts.joined() || name == "etcd") => Ok(None),
        Some(stored) => Ok(Some(stored)),
        None if right || item.need == manifest::Need::Optional => Ok(None),
        None => require(directory, item).map(Some),
    }
}

pub(super) fn look(case: &Case<'_>, directory: &Directory) -> Result<Found, StepError> {
    let lacking = lacking(case, directory)?;
    let mut found = Found::default();
    let files = lacking.debs.iter().map(|stored| &stored.name);
    let files = files.chain(lacking.programs.iter().map(|(.., stored)| &stored.name));
    for name in files.chain(lacking.archives.iter().map(|(_, stored)| &stored.name)) {
        found.because(format!("{name} of the artifacts is not installed"));
    }
    if lacking.plugins {
        found.because("the plugins of CNI are not in /opt/cni/bin");
    }
    Ok(found)
}

pub(super) async fn apply(
    case: &Case<'_>,
    directory: &Directory,
    cx: &Context,
) -> Result<(), StepError> {
    let (host, lacking) = (&case.host.name, lacking(case, directory)?);
    if !lacking.debs.is_empty() {
        debs(case.shelf, cx, host, &lacking.debs).await?;
    }
    for (_, path, stored) in &lacking.programs {
        case.shelf.bring(cx, host, stored, path, 0o755).await?;
    }
    for (name, stored) in &lacking.archives {
        unpack(case.shelf, cx, host, name, stored).await?;
    }
    if lacking.plugins {
        let linked = cx.host(host)?.run(&Command::script(LINK_PLUGINS, [""; 0])).await?;
        if !linked.ok() {
            require(directory, &manifest::cni_plugins(&case.look.facts.arch))?;
        }
    }
    Ok(())
}

/// All at once: they may need each other.
async fn debs(
    shelf: &Arc<Shelf>,
    cx: &Context,
    host: &str,
    stored: &[Stored],
) -> Result<(), StepError> {
    let mut paths = Vec::new();
    for deb in stored {
        let path = waiting(deb);
        shelf.bring(cx, host, deb, &path, 0o644).await?;
        paths.push(path);
    }
    // Debian's etcd would start a member of its own.
    if stored.iter().any(|deb| deb.name.starts_with("debs/etcd-server_")) {
        cx.run(host, &Command::new(["systemctl", "mask", "--quiet", "etcd.service"])).await?;
    }
    let script = "# install debs
DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold -i \"$@\"
rm -f \"$@\"";
    cx.run(host, &Command::script(script, paths).timeout(Duration::from_mins(10))).await?;
    Ok(())
}

/// Installs these programs of Kubernetes in the cluster's version, also on a node that has joined:
/// for `upgrade`, which sees to the node before and after.
///
/// # Errors
/// If the directory lacks one, or the host cannot be reached.
pub async fn install(
    shelf: &Arc<Shelf>,
    cx: &Context,
    cluster: &Cluster,
    host: &str,
    arch: &str,
    programs: &[&'static str],
) -> Result<(), StepError> {
    let Some(directory) = shelf.directory()? else { return Ok(()) };
    for (program, path) in KUBERNETES {
        if programs.contains(&program) {
            let item = manifest::kubernetes(program, cluster.kubernetes_version, arch);
            shelf.bring(cx, host, &require(directory, &item)?, path, 0o755).await?;
        }
    }
    Ok(())
}
