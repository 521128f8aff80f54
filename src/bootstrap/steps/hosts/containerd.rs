//! containerd: its configuration, its unit where no package brings one, and that it runs with them.

use super::case::{Case, Found};
use super::look::MARKS;
use super::rendered;
use crate::bootstrap::artifacts::sha256_hex;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::render::{containerd, paths};
use crate::bootstrap::spec::Version;
use crate::bootstrap::transport::{Command, File};

/// The unit, where no package brings one.
pub(super) const UNIT_FILE: &str = "/etc/systemd/system/containerd.service";

/// Where containerd finds the mirror of Kubernetes' registry.
pub(super) const REGISTRY_HOSTS: &str = "/etc/containerd/certs.d/registry.k8s.io/hosts.toml";

/// What tells crictl where containerd is.
pub(super) const CRICTL: &str = "/etc/crictl.yaml";

/// The mark of the configuration that containerd was last started with.
const RUNNING: &str = "containerd-running";

/// As containerd's project advises: no limits, and pods outlive its restart.
fn unit(program: &str) -> File {
    File::new(
        UNIT_FILE,
        format!(
            "# Written by apiproxy bootstrap.\n\
             [Unit]\n\
             Description=containerd container runtime\n\
             Documentation=https://containerd.io\n\
             After=network.target local-fs.target\n\
             \n\
             [Service]\n\
             ExecStartPre=-/sbin/modprobe overlay\n\
             ExecStart={program}\n\
             Type=notify\n\
             Delegate=yes\n\
             KillMode=process\n\
             Restart=always\n\
             RestartSec=5\n\
             LimitNPROC=infinity\n\
             LimitCORE=infinity\n\
             TasksMax=infinity\n\
             OOMScoreAdjust=-999\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        ),
    )
}

/// The files as they should be, for the containerd that is there.
fn wanted(case: &Case<'_>, version: Version) -> Result<Vec<File>, StepError> {
    let config = containerd::config(case.cluster, case.host, version);
    let mut files = vec![config.map_err(|error| rendered(&error))?];
    files.extend(containerd::mirror(case.cluster));
    files.push(File::new(
        CRICTL,
        format!("# Written by apiproxy bootstrap.\nruntime-endpoint: {}\n", paths::CRI_SOCKET),
    ));
    if let Some(found) = case.look.program("containerd").filter(|found| found.package.is_none()) {
        files.push(unit(&found.path));
    }
    Ok(files)
}

/// What containerd has to be started anew for: its program, its configuration and its unit. The
/// folder of registries is read with each pull.
fn running(case: &Case<'_>, files: &[File]) -> String {
    let mut text = case.look.marks.get("containerd").cloned().unwrap_or_default();
    for file in
        files.iter().filter(|file| [paths::CONTAINERD_CONFIG, UNIT_FILE].contains(&&*file.path))
    {
        text += &sha256_hex(&file.content);
    }
    sha256_hex(text.as_bytes())
}

/// None when containerd is not there yet.
pub(super) fn look(case: &Case<'_>) -> Result<Option<Found>, StepError> {
    let Some(program) = case.look.program("containerd") else { return Ok(None) };
    let Some(version) = program.version else {
        return Err(StepError::Unverified(format!("{} does not tell its version", program.path)));
    };
    let mut found = Found::default();
    let files = wanted(case, version)?;
    for file in &files {
        found.file(case, file);
    }
    let unit = case.look.unit("containerd.service");
    if !unit.active {
        found.because("containerd.service does not run");
    } else if case.look.marks.get(RUNNING) != Some(&running(case, &files)) {
        found.because("containerd.service runs with another configuration");
    }
    if !unit.enabled {
        found.because("containerd.service is not started at boot");
    }
    Ok(Some(found))
}

pub(super) async fn apply(case: &Case<'_>, cx: &Context) -> Result<(), StepError> {
    let host = &case.host.name;
    let Some(version) = case.look.facts.version("containerd") else {
        return Err(StepError::Unverified(format!("{host}: containerd is not installed")));
    };
    let files = wanted(case, version)?;
    for file in &files {
        if case.look.file(file).is_some() {
            cx.host(host)?.write(file).await?;
        }
    }
    let wanted = running(case, &files);
    let unit = case.look.unit("containerd.service");
    let restart = !unit.active || case.look.marks.get(RUNNING) != Some(&wanted);
    // The mark comes last: killed before, the restart is done again.
    let script = r#"# start containerd.service
systemctl daemon-reload
systemctl enable --quiet containerd.service
if [ "$1" = restart ]; then
  rm -f "$2/$3"
  systemctl restart containerd.service || {
    journalctl -u containerd.service -n 3 --no-pager -o cat >&2; exit 1; }
  mkdir -p "$2"
  printf '%s\n' "$4" >"$2/.$3.new"
  mv "$2/.$3.new" "$2/$3"
fi"#;
    let how = if restart { "restart" } else { "leave" };
    cx.run(host, &Command::script(script, [how, MARKS, RUNNING, &wanted])).await?;
    Ok(())
}
