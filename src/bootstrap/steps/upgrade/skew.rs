//! Which versions may run beside each other (Kubernetes' version skew policy). Pure.

use std::collections::BTreeMap;

use crate::bootstrap::spec::Version;

/// Since then, kubelet may be three minor releases older than the apiservers; before, two.
const WIDER: Version = Version::new(1, 28, 0);

/// What runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// kube-apiserver, by the control plane's name.
    pub api_servers: BTreeMap<String, Version>,
    /// kubelet, by the Node's name.
    pub kubelets: BTreeMap<String, Version>,
}

/// Why an upgrade must not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why, with the versions.
    pub reason: String,
    /// What the user can do.
    pub remedy: String,
}

/// How many minor releases kubelet may be behind apiservers of this version.
pub fn kubelet_skew(target: Version) -> u32 {
    if target >= WIDER { 3 } else { 2 }
}

/// May the cluster be upgraded to this version?
///
/// # Errors
/// Why not.
pub fn allows(found: &Versions, target: Version) -> Result<(), Fault> {
    let fault = |reason: String, remedy: String| Err(Fault { reason, remedy });
    let Some(oldest) = found.api_servers.values().min().copied() else {
        return fault(
            "no apiserver runs".to_owned(),
            "run `apiproxy bootstrap apply` first".to_owned(),
        );
    };
    if let Some((name, version)) = found.api_servers.iter().find(|(_, version)| **version > target)
    {
        return fault(
            format!("{name} runs {version}, which is newer than {target}"),
            "Kubernetes cannot be taken back: write that version, or a newer one".to_owned(),
        );
    }
    if (oldest.major, oldest.minor + 1) < (target.major, target.minor) {
        let next = Version::new(oldest.major, oldest.minor + 1, 0).release();
        return fault(
            format!("{oldest} cannot become {target} at once: one minor release at a time"),
            format!("upgrade to a version of {next} first"),
        );
    }
    let most = kubelet_skew(target);
    let behind = |version: Version| target.minor.saturating_sub(version.minor) > most;
    let late: Vec<_> = found.kubelets.iter().filter(|(_, version)| behind(**version)).collect();
    if !late.is_empty() {
        let names = late.iter().map(|(name, version)| format!("{name} ({version})"));
        return fault(
            format!(
                "apiservers of {} take no kubelet more than {most} minor releases older: {}",
                target.release(),
                names.collect::<Vec<_>>().join(", ")
            ),
            format!("upgrade these to the version of the cluster, {oldest}, first, or remove them"),
        );
    }
    if let Some((name, version)) = found.kubelets.iter().find(|(_, v)| v.minor > target.minor) {
        return fault(
            format!("kubelet of {name} is {version}, newer than {target}"),
            "kubelet must not be newer than the apiservers: write that version".to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(api_servers: &[&str], kubelets: &[&str]) -> Versions {
        let map = |prefix: &str, all: &[&str]| {
            let named = all.iter().enumerate();
            named
                .filter_map(|(n, text)| Some((format!("{prefix}{}", n + 1), text.parse().ok()?)))
                .collect()
        };
        Versions { api_servers: map("cp", api_servers), kubelets: map("w", kubelets) }
    }

    fn refused(found: &Versions, target: &str) -> Option<String> {
        target.parse().ok().and_then(|target| allows(found, target).err()).map(|fault| fault.reason)
    }

    #[test]
    fn one_minor_release_at_a_time() {
        let found = versions(&["v1.33.5", "v1.33.5"], &["v1.33.5", "v1.31.0"]);
        for target in ["v1.33.5", "v1.33.7", "v1.34.2"] {
            assert_eq!(refused(&found, target), None, "{target}");
        }
        assert_eq!(
            refused(&found, "v1.35.0").as_deref(),
            Some("v1.33.5 cannot become v1.35.0 at once: one minor release at a time")
        );
        assert_eq!(
            refused(&found, "v1.33.4").as_deref(),
            Some("cp1 runs v1.33.5, which is newer than v1.33.4")
        );
        // Stopped half way: the one that is through does not count against the others.
        assert_eq!(refused(&versions(&["v1.34.2", "v1.33.5"], &["v1.33.5"]), "v1.34.2"), None);
        assert!(refused(&versions(&[], &[]), "v1.34.2").is_some());
    }

    #[test]
    fn kubelets_must_not_fall_too_far_behind_or_be_ahead() {
        let found = versions(&["v1.33.5"], &["v1.33.5", "v1.30.9"]);
        assert_eq!(
            refused(&found, "v1.34.0").as_deref(),
            Some(
                "apiservers of v1.34 take no kubelet more than 3 minor releases older: w2 (v1.30.9)"
            )
        );
        assert_eq!(refused(&found, "v1.33.9"), None);
        // Before 1.28 two.
        assert_eq!(refused(&versions(&["v1.26.1"], &["v1.25.0"]), "v1.27.1"), None);
        assert!(refused(&versions(&["v1.26.1"], &["v1.24.0"]), "v1.27.1").is_some());
        assert!(refused(&versions(&["v1.27.1"], &["v1.25.0"]), "v1.28.1").is_none());
        assert!(refused(&versions(&["v1.33.5"], &["v1.35.0"]), "v1.34.0").is_some());
    }
}
