//! `--fix`: what is mended without asking further, because it harms nobody.

use std::collections::BTreeSet;

use super::finding::{Finding, Fix};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::render::host as files;
use crate::bootstrap::spec::Cluster;
use crate::bootstrap::steps::hosts::kernel;
use crate::bootstrap::transport::Command;

/// What was mended, or why it could not be.
#[derive(Debug)]
pub struct Fixed {
    /// The host's name in the spec.
    pub host: String,
    /// What was done: `loaded the kernel modules`.
    pub what: String,
    /// Whether it could be done.
    pub result: Result<(), StepError>,
}

/// Mends what can be mended of these findings, host after host, and tells of each.
pub async fn fix(cluster: &Cluster, cx: &Context, findings: &[Finding]) -> Vec<Fixed> {
    let fixes = findings.iter().filter_map(|found| Some((found.host.clone(), found.fix.clone()?)));
    // Two findings may ask for the same; modules come before the parameters that they bring.
    let fixes: BTreeSet<(String, Fix)> = fixes.collect();
    let mut done = Vec::new();
    for (host, fix) in fixes {
        let result = mend(cluster, cx, &host, &fix).await;
        done.push(Fixed { what: told(&fix), host, result });
    }
    done
}

fn told(fix: &Fix) -> String {
    match fix {
        Fix::Hostname(name) => format!("set its name to {name}"),
        Fix::Modules => "loaded the kernel modules, and for each start".to_owned(),
        Fix::Sysctls => "set the kernel parameters, and for each start".to_owned(),
        Fix::Swap => "switched swapping off; its lines in /etc/fstab are comments now".to_owned(),
        Fix::Package(package) => format!("installed {package}"),
    }
}

async fn mend(cluster: &Cluster, cx: &Context, host: &str, fix: &Fix) -> Result<(), StepError> {
    let command = match fix {
        Fix::Hostname(name) => kernel::set_hostname(name),
        Fix::Modules => {
            cx.host(host)?.write(&files::modules_file(cluster)).await?;
            kernel::load_modules(&files::modules(cluster))
        }
        Fix::Sysctls => {
            cx.host(host)?.write(&files::sysctl_file(cluster)).await?;
            kernel::set_parameters()
        }
        Fix::Swap => kernel::swap_off(),
        Fix::Package(package) => install(package),
    };
    cx.run(host, &command).await.map(drop)
}

/// A package of the distribution, by the sources that the host has.
fn install(package: &str) -> Command {
    let script = "# install a package
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o DPkg::Lock::Timeout=300 update >/dev/null
apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends \"$1\" >/dev/null";
    Command::script(script, [package]).timeout(std::time::Duration::from_mins(10))
}
