//! The kernel: modules, parameters, cgroups, swap.

use super::Case;
use crate::bootstrap::needs;
use crate::bootstrap::preflight::facts::Module;
use crate::bootstrap::preflight::finding::{Findings, Fix, Level};
use crate::bootstrap::render::host;

/// Controllers that kubelet cannot do without (kubeadm's system verification). `cpuset` and `cpu`
/// have these names in both versions.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

pub(super) fn judge(case: &Case<'_>, findings: &mut Findings<'_>) {
    if !needs::is_node(case.host) {
        return;
    }
    modules(case, findings);
    sysctls(case, findings);
    cgroups(case, findings);
    swap(case, findings);
}

fn modules(case: &Case<'_>, findings: &mut Findings<'_>) {
    for name in host::modules(case.cluster) {
        match case.gathered.facts.modules.get(name) {
            Some(Module::Loaded) => findings.ok("module", format!("{name} is in the kernel")),
            Some(Module::Available) => {
                let what = format!("the kernel module {name} is not loaded");
                findings.fixable(Level::Warning, "module", what, Fix::Modules);
            }
            Some(Module::Missing) | None => findings.error(
                "module",
                format!("the kernel has no module {name}"),
                "install the distribution's whole kernel (not a `cloud` or `minimal` one)",
            ),
        }
    }
}

fn sysctls(case: &Case<'_>, findings: &mut Findings<'_>) {
    for (name, wanted) in host::sysctl(case.cluster) {
        match case.gathered.facts.sysctls.get(name) {
            Some(value) if needs::holds(name, wanted, value) => {
                findings.ok("sysctl", format!("{name} is {value}"));
            }
            Some(value) => {
                let what = format!("{name} is {value}, not {wanted}");
                findings.fixable(Level::Warning, "sysctl", what, Fix::Sysctls);
            }
            // It comes with the module, of which something was said already.
            None if name.starts_with("net.bridge.") => {}
            None => findings.error(
                "sysctl",
                format!("the kernel has no {name}"),
                "switch the address family on, or take it out of the file's CIDRs",
            ),
        }
    }
}

fn cgroups(case: &Case<'_>, findings: &mut Findings<'_>) {
    let facts = &case.gathered.facts;
    let missing: Vec<_> =
        CONTROLLERS.into_iter().filter(|name| !facts.controllers.contains(*name)).collect();
    let minor = case.cluster.kubernetes_version.minor;
    // FailCgroupV1 of the kubelet's configuration is on by default since 1.35.
    let forced = case.cluster.overrides.kubelet.get("failCgroupV1")
        == Some(&serde_json::Value::Bool(false))
        || case.host.overrides.kubelet.get("failCgroupV1") == Some(&serde_json::Value::Bool(false));
    match facts.cgroup {
        None => findings.error(
            "cgroup",
            "no cgroups are mounted",
            "boot with systemd, and without cgroup_disable",
        ),
        Some(_) if !missing.is_empty() => findings.error(
            "cgroup",
            format!("cgroup controllers are missing: {}", missing.join(", ")),
            "boot with `cgroup_enable=memory cgroup_enable=cpuset`, without cgroup_disable",
        ),
        Some(1) if minor >= 35 && !forced => findings.error(
            "cgroup",
            "cgroup v1, on which kubelet refuses to start since 1.35",
            "boot with systemd.unified_cgroup_hierarchy=1, or set `kubelet: {failCgroupV1: false}`",
        ),
        Some(1) if minor >= 31 => findings.warn(
            "cgroup",
            "cgroup v1, which Kubernetes only maintains since 1.31",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
        Some(version) => findings.ok("cgroup", format!("cgroup v{version} with all controllers")),
    }
}

fn swap(case: &Case<'_>, findings: &mut Findings<'_>) {
    let swap = &case.gathered.facts.swap;
    if swap.is_empty() {
        findings.ok("swap", "it does not swap");
    } else if needs::bears_swap(case.cluster, case.host) {
        findings.ok("swap", "it swaps, and kubelet is told to bear it");
    } else {
        let what = format!("it swaps to {}, and kubelet does not start then", swap.join(", "));
        findings.fixable(Level::Warning, "swap", what, Fix::Swap);
    }
}
