//! Images from the directory of artifacts: imported where they are missing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::case::{Case, Found};
use super::shelf::{refused, waiting};
use crate::bootstrap::artifacts::{Directory, Stored, images};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::needs;
use crate::bootstrap::spec::{Role, Topology};
use crate::bootstrap::transport::Command;

/// An image of a gigabyte on a slow disk.
const PATIENCE: Duration = Duration::from_mins(10);

/// Archives that hold an image which this host will run and does not have.
fn lacking(case: &Case<'_>, directory: &Directory) -> Result<Vec<Stored>, StepError> {
    let roles = &case.host.roles;
    let every = roles.contains(&Role::ControlPlane) || roles.contains(&Role::Spare);
    let read = directory.images().map_err(|error| refused(&error))?;
    let mut archives = directory.image_archives().map_err(|error| refused(&error))?;
    archives.retain(|stored| {
        let names = read.get(&stored.name).into_iter().flatten();
        let mut useful = names.filter(|name| every || !images::control_plane_only(name));
        useful.any(|name| !case.look.images.contains(name))
    });
    Ok(archives)
}

pub(super) fn look(case: &Case<'_>) -> Result<Found, StepError> {
    let mut found = Found::default();
    let Some(directory) = case.shelf.directory()?.filter(|_| needs::is_node(case.host)) else {
        return Ok(found);
    };
    for stored in lacking(case, directory)? {
        found.because(format!("{} is not imported", stored.name));
    }
    Ok(found)
}

pub(super) async fn apply(case: &Case<'_>, cx: &Context) -> Result<(), StepError> {
    let Some(directory) = case.shelf.directory()? else { return Ok(()) };
    let host = &case.host.name;
    for stored in lacking(case, directory)? {
        let path = waiting(&stored);
        case.shelf.bring(cx, host, &stored, &path, 0o600).await?;
        // Only this machine's layers are in an archive of one platform.
        let script = "# import images
ctr -n k8s.io images import \"$1\" >/dev/null\nrm -f \"$1\"";
        cx.run(host, &Command::script(script, [path]).timeout(PATIENCE)).await?;
    }
    complete(case, cx).await
}

/// kubeadm itself says what it will start: without a registry it must be there.
async fn complete(case: &Case<'_>, cx: &Context) -> Result<(), StepError> {
    let host = &case.host.name;
    let script = "# compare images
kubeadm config images list --kubernetes-version \"$1\" 2>/dev/null || :
echo ---
ctr -n k8s.io images ls -q";
    let version = case.cluster.kubernetes_version.to_string();
    let output = cx.run(host, &Command::script(script, [version])).await?.text();
    let (wanted, there) = output.split_once("---").unwrap_or(("", &output));
    let there: BTreeSet<_> = there.lines().map(str::trim).collect();
    let every = case.host.roles.contains(&Role::ControlPlane);
    let external = case.cluster.topology == Topology::External;
    let missing: Vec<_> = images::listed(wanted)
        .into_iter()
        .filter(|image| every || !images::control_plane_only(&image.repository))
        .filter(|image| !external || !image.repository.ends_with("/etcd"))
        .map(|image| image.to_string())
        .filter(|name| !there.contains(name.as_str()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(StepError::Refused {
        reason: format!("{host}: no archive in images/ has {}", missing.join(", ")),
        remedy: "pull them where there is a network, and `ctr images export` them".to_owned(),
    })
}
