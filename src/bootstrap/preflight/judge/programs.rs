//! Programs: which are there, of which version, and where they come from.

use super::Case;
use crate::bootstrap::needs;
use crate::bootstrap::preflight::finding::{Findings, Fix, Level};
use crate::bootstrap::spec::{Artifacts, Version};

pub(super) fn judge(case: &Case<'_>, findings: &mut Findings<'_>) {
    if needs::is_node(case.host) {
        tools(case, findings);
        kubernetes(case, findings);
        containerd(case, findings);
    }
    if needs::runs_etcd_itself(case.cluster, case.host) {
        etcd(case, findings);
    }
}

fn tools(case: &Case<'_>, findings: &mut Findings<'_>) {
    let found = &case.gathered.facts.programs;
    let offline = matches!(case.cluster.artifacts, Artifacts::Directory(_));
    for (tool, package) in needs::tools(case.cluster.kubernetes_version) {
        if found.contains_key(tool) {
            continue;
        }
        let what = format!("{tool} is not installed, and kubeadm or kubelet needs it");
        if offline {
            findings.error(
                "tool",
                what,
                format!("put the package {package} into debs/ of the artifacts"),
            );
        } else {
            findings.fixable(Level::Warning, "tool", what, Fix::Package(package));
        }
    }
}

/// Where a program comes from.
fn origin(case: &Case<'_>, program: &str) -> String {
    let facts = &case.gathered.facts;
    let package = facts.programs.get(program).and_then(|found| found.package.as_deref());
    match (package, facts.programs.get(program)) {
        (Some(package), _) => match facts.sources.get(package) {
            Some(source) => format!("package {package} of {source}"),
            None => format!("package {package}"),
        },
        (None, Some(found)) => found.path.clone(),
        (None, None) => String::new(),
    }
}

fn kubernetes(case: &Case<'_>, findings: &mut Findings<'_>) {
    let (facts, wanted) = (&case.gathered.facts, case.cluster.kubernetes_version);
    for program in ["kubeadm", "kubelet"] {
        let Some(version) = facts.version(program) else {
            if !facts.programs.contains_key(program) {
                available(case, program, findings);
            }
            continue;
        };
        let from = origin(case, program);
        if version == wanted {
            findings.ok("version", format!("{program} {version} ({from})"));
        } else if facts.joined() && skew_allowed(program, version, wanted) {
            findings.warn(
                "version",
                format!("{program} is {version}, the file says {wanted} ({from})"),
                "run `apiproxy bootstrap upgrade`: a node that has joined is not changed by `apply`",
            );
        } else if facts.joined() {
            findings.error(
                "version",
                format!("{program} {version} is too far from {wanted} ({from})"),
                "upgrade one minor release at a time with `apiproxy bootstrap upgrade`",
            );
        } else {
            findings.warn(
                "version",
                format!("{program} is {version}, the file says {wanted} ({from})"),
                "`apply` installs the version of the file",
            );
        }
        if !facts.held.contains(program) && facts.programs[program].package.is_some() {
            findings.warn(
                "held",
                format!("{program} is not held: the next `apt upgrade` may replace it"),
                "`apply` holds it with apt-mark",
            );
        }
    }
}

/// The skew policy: kubelet at most three minors older than the apiserver (two before 1.28) and
/// never newer; kubeadm the same minor, or the one before while upgrading.
fn skew_allowed(program: &str, version: Version, wanted: Version) -> bool {
    let behind = wanted.minor.checked_sub(version.minor);
    let most = match program {
        "kubelet" if wanted.minor >= 28 => 3,
        "kubelet" => 2,
        _ => 1,
    };
    version.major == wanted.major && behind.is_some_and(|behind| behind <= most)
}

/// Can the package of a program that is not there be had?
fn available(case: &Case<'_>, program: &str, findings: &mut Findings<'_>) {
    if matches!(case.cluster.artifacts, Artifacts::Directory(_)) {
        return findings.ok("version", format!("{program} will come from the artifacts"));
    }
    let facts = &case.gathered.facts;
    match facts.candidates.get(program) {
        Some(candidate) => findings.ok(
            "version",
            format!(
                "{program} {candidate} can be had from {}",
                facts.sources.get(program).map_or("its repository", String::as_str),
            ),
        ),
        None => {
            findings.ok("version", format!("{program} will come from pkgs.k8s.io, or its mirror"));
        }
    }
}

fn containerd(case: &Case<'_>, findings: &mut Findings<'_>) {
    let facts = &case.gathered.facts;
    let least = needs::least_containerd(case.cluster.kubernetes_version);
    let kubernetes = case.cluster.kubernetes_version.release();
    let from = origin(case, "containerd");
    if let Some(version) = facts.version("containerd") {
        if version < least {
            findings.error(
                "containerd",
                format!("containerd {version} ({from}) is too old: Kubernetes {kubernetes} wants {least}"),
                "take containerd from a newer distribution, or from the artifacts",
            );
        } else {
            findings.ok("containerd", format!("containerd {version} ({from})"));
        }
        return;
    }
    let candidate = facts.candidates.get("containerd");
    match candidate.and_then(|text| crate::bootstrap::preflight::parse::version(text)) {
        Some(version)
            if version < least && !matches!(case.cluster.artifacts, Artifacts::Directory(_)) =>
        {
            findings.error(
                "containerd",
                format!("the distribution has containerd {version}: Kubernetes {kubernetes} wants {least}"),
                "use a newer distribution, or `artifacts: {from: directory}`",
            );
        }
        _ => findings.ok("containerd", "containerd will be installed"),
    }
    if facts.programs.contains_key("kubelet") && facts.joined() {
        findings.error(
            "runtime",
            "this node runs on another container runtime than containerd",
            "drain it, reset it and let `apply` join it again",
        );
    }
}

/// The oldest external etcd that kubeadm takes (`MinExternalEtcdVersion`).
fn least_etcd(version: Version) -> Version {
    match version.minor {
        ..34 => Version::new(3, 4, 13),
        34.. => Version::new(3, 5, 24),
    }
}

fn etcd(case: &Case<'_>, findings: &mut Findings<'_>) {
    let facts = &case.gathered.facts;
    let least = least_etcd(case.cluster.kubernetes_version);
    let candidate = facts.candidates.get("etcd-server");
    let candidate = candidate.and_then(|text| crate::bootstrap::preflight::parse::version(text));
    let offline = matches!(case.cluster.artifacts, Artifacts::Directory(_));
    let found = facts.version("etcd");
    match found.or(candidate.filter(|_| !offline)) {
        Some(version) if version < least => findings.error(
            "etcd",
            format!(
                "etcd {version} is too old: kubeadm {} wants {least} or newer",
                case.cluster.kubernetes_version.release()
            ),
            "put a newer etcd into the artifacts, or use a newer distribution",
        ),
        Some(version) => findings.ok("etcd", format!("etcd {version}")),
        None if offline => findings.ok("etcd", "etcd will come from the artifacts"),
        None => findings.error(
            "etcd",
            "the distribution has no package etcd-server",
            "use a distribution that has, or `artifacts: {from: directory}`",
        ),
    }
}
