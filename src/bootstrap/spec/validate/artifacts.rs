//! Where programs and images come from.

use std::path::Path;

use super::Check;
use crate::bootstrap::spec::{Artifacts, Version, shape};
use crate::config::{quoted, without_logins};

const AT: &str = "spec.artifacts";

impl Check<'_> {
    /// Those of a cluster of this version.
    pub(super) fn artifacts(&mut self, raw: shape::Artifacts, version: Version) -> Artifacts {
        // A `from` that was refused says nothing about the others.
        let known = raw.from.is_some() || !self.around.document.has("spec.artifacts.from");
        match raw.from.unwrap_or_default() {
            shape::From::Directory => {
                let mirrors = [
                    ("kubernetesMirror", raw.kubernetes_mirror.is_some()),
                    ("distributionMirror", raw.distribution_mirror.is_some()),
                    ("registry", raw.registry.is_some()),
                ];
                for (key, _) in mirrors.into_iter().filter(|(_, given)| *given) {
                    let message = "nothing is fetched with `from: directory`";
                    self.fault(
                        &format!("{AT}.{key}"),
                        message,
                        "remove it, or use `from: packages`",
                    );
                }
                if raw.path.is_none() {
                    let hint = "name the folder; `apiproxy bootstrap artifacts list` says what is to be in it";
                    self.missing(AT, "path", hint);
                }
                Artifacts::Directory(self.path(&raw.path.unwrap_or_default()))
            }
            shape::From::Packages => {
                self.no_path(raw.path.as_deref().filter(|_| known));
                if known && raw.kubernetes_mirror.is_none() {
                    self.packaged(version);
                }
                self.url(raw.kubernetes_mirror.as_deref());
                self.sources(raw.distribution_mirror.as_deref());
                self.registry(raw.registry.as_deref());
                Artifacts::Packages {
                    kubernetes_mirror: raw.kubernetes_mirror,
                    distribution_mirror: raw.distribution_mirror,
                    registry: raw.registry,
                }
            }
        }
    }

    fn no_path(&mut self, path: Option<&Path>) {
        if path.is_some() {
            let message = "packages come from repositories, not from a folder";
            self.fault("spec.artifacts.path", message, "write `from: directory`, or remove it");
        }
    }

    /// Has Kubernetes' own repository packages of this version?
    fn packaged(&mut self, version: Version) {
        if version < Version::FIRST_PACKAGED {
            let message = format!("pkgs.k8s.io has packages from v1.24 on, and none of {version}");
            let hint = "write `artifacts: { from: directory, path: .. }` and put its programs there, or name \
                        a `kubernetesMirror` that has them";
            self.fault("spec.kubernetesVersion", message, hint);
        }
    }

    /// A login in an address would be readable by everyone on each host, and be in logs and backups.
    fn has_login(&mut self, key: &str, text: &str) -> bool {
        let found = without_logins(text) != text;
        if found {
            let message = "a user or password has no place in an address";
            let hint = "take it out; put `machine HOST login USER password PASSWORD` into a file below \
                        /etc/apt/auth.conf.d of each host, mode 0600, where apt and apiproxy read it";
            self.fault(&format!("{AT}.{key}"), message, hint);
        }
        found
    }

    fn url(&mut self, raw: Option<&str>) {
        let Some(text) = raw else { return };
        if self.has_login("kubernetesMirror", text) {
            return;
        }
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        if !rest.is_some_and(|rest| !rest.is_empty() && is_one_word(text)) {
            let hint = "write it as https://mirror.local/core:/stable:";
            self.fault(
                "spec.artifacts.kubernetesMirror",
                format!("{} is no URL", quoted(text)),
                hint,
            );
        }
    }

    fn sources(&mut self, raw: Option<&str>) {
        let Some(text) = raw else { return };
        if self.has_login("distributionMirror", text) {
            return;
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
        let good = lines.peek().is_some()
            && lines.all(|line| line.starts_with("deb ") || line.starts_with("deb-src "));
        if !good {
            let message = format!("{} is no line of sources.list", quoted(text));
            let hint = "write it as deb http://mirror.local/debian bookworm main";
            self.fault("spec.artifacts.distributionMirror", message, hint);
        }
    }

    fn registry(&mut self, raw: Option<&str>) {
        let Some(text) = raw else { return };
        if text.contains('@') {
            let hint = "write it without; give containerd the login in its hosts.toml";
            let message = "a user or password has no place in an address";
            self.fault("spec.artifacts.registry", message, hint);
            return;
        }
        // The name of an image in it tells whether it is one.
        let name = format!("{text}/pause:1");
        let host = text.split('/').next().unwrap_or_default();
        let good = (host.contains(['.', ':']) || host == "localhost")
            && name.parse::<crate::image::Name>().is_ok();
        if !good {
            let message = format!("{} is no registry", quoted(text));
            self.fault(
                "spec.artifacts.registry",
                message,
                "write it as registry.local:5000/kubernetes",
            );
        }
    }
}

fn is_one_word(text: &str) -> bool {
    !text.chars().any(|c| c.is_whitespace() || c.is_control())
}
