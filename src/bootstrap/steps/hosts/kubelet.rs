//! kubelet's unit: its files where no package brings them, its flags, and that it starts at boot.

use super::case::{Case, Found};
use super::rendered;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::needs;
use crate::bootstrap::render::{kubelet, paths};
use crate::bootstrap::transport::{Command, File};

/// The unit, where no package brings one.
pub(super) const UNIT_FILE: &str = "/etc/systemd/system/kubelet.service";

/// What kubeadm needs of the unit, where no package brings it.
pub(super) const KUBEADM_DROP_IN: &str = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf";

/// All files that may be of the unit.
pub(super) const FILES: [&str; 4] =
    [UNIT_FILE, KUBEADM_DROP_IN, paths::KUBELET_DROP_IN, paths::KUBELET_ENVIRONMENT];

/// kubeadm writes kubelet's files when the node joins; until then kubelet ends, and is tried again.
fn unit(program: &str) -> [File; 2] {
    let unit = format!(
        "# Written by apiproxy bootstrap.\n\
         [Unit]\n\
         Description=kubelet: the agent of a Kubernetes node\n\
         Documentation=https://kubernetes.io/docs/\n\
         Wants=network-online.target\n\
         After=network-online.target containerd.service\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={program}\n\
         Restart=always\n\
         RestartSec=10\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    );
    let drop_in = format!(
        "# Written by apiproxy bootstrap: what kubeadm expects of kubelet's unit.\n\
         [Service]\n\
         Environment=\"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf\"\n\
         Environment=\"KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml\"\n\
         EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\n\
         EnvironmentFile=-/etc/default/kubelet\n\
         ExecStart=\n\
         ExecStart={program} $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n"
    );
    [File::new(UNIT_FILE, unit), File::new(KUBEADM_DROP_IN, drop_in)]
}

/// The files as they should be.
fn wanted(case: &Case<'_>) -> Result<Vec<File>, StepError> {
    let mut files = kubelet::drop_in(case.cluster, case.host).map_err(|error| rendered(&error))?;
    if let Some(program) = case.look.program("kubelet").filter(|found| found.package.is_none()) {
        files.extend(unit(&program.path));
    }
    Ok(files)
}

/// Files of flags that are given no more.
fn stale(case: &Case<'_>, wanted: &[File]) -> Vec<&'static str> {
    let ours = [paths::KUBELET_DROP_IN, paths::KUBELET_ENVIRONMENT].into_iter();
    ours.filter(|path| case.look.files.contains_key(*path))
        .filter(|path| wanted.iter().all(|file| file.path != *path))
        .collect()
}

pub(super) fn look(case: &Case<'_>) -> Result<Found, StepError> {
    let mut found = Found::default();
    if !needs::is_node(case.host) {
        return Ok(found);
    }
    let wanted = wanted(case)?;
    for file in &wanted {
        found.file(case, file);
    }
    for path in stale(case, &wanted) {
        found.because(format!("{path} gives flags that the file no longer has"));
    }
    if !case.look.unit("kubelet.service").enabled {
        found.because("kubelet.service is not started at boot");
    }
    Ok(found)
}

pub(super) async fn apply(case: &Case<'_>, cx: &Context) -> Result<(), StepError> {
    let (host, wanted) = (&case.host.name, wanted(case)?);
    for file in &wanted {
        if case.look.file(file).is_some() {
            cx.host(host)?.write(file).await?;
        }
    }
    // A node that has joined takes up its new flags at once; another has nothing to restart.
    let script = "# set up kubelet.service
if [ $# -gt 0 ]; then rm -f \"$@\"; fi
systemctl daemon-reload
systemctl enable --quiet kubelet.service
if [ -e /etc/kubernetes/kubelet.conf ]; then systemctl try-restart kubelet.service; fi";
    cx.run(host, &Command::script(script, stale(case, &wanted))).await?;
    Ok(())
}
