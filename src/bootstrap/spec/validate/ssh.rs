//! How hosts are reached.

use std::path::{Path, PathBuf};

use super::Check;
use crate::bootstrap::spec::{Ssh, shape};
use crate::config::quoted;

impl Check<'_> {
    /// The settings at a path, over those of the whole cluster.
    pub(super) fn ssh(&mut self, at: &str, raw: shape::Ssh, cluster: Option<&Ssh>) -> Ssh {
        let user_at = format!("{at}.user");
        let user = raw.user.filter(|user| self.is_user(&user_at, user));
        let user = user.or_else(|| cluster.and_then(|ssh| ssh.user.clone()));
        let port = self.number(&format!("{at}.port"), raw.port, 1..=65_535);
        let file_at = format!("{at}.identityFile");
        let identity_file = raw.identity_file.and_then(|file| self.home_path(&file_at, &file));
        // What the cluster says of sudo is said of its user.
        let same_user = cluster.filter(|ssh| ssh.user == user);
        let sudo = raw.sudo.or_else(|| same_user.map(|ssh| ssh.sudo));
        Ssh {
            sudo: sudo.unwrap_or(user.as_deref() != Some("root")),
            user,
            port: port.or_else(|| cluster.and_then(|ssh| ssh.port)),
            identity_file: identity_file
                .or_else(|| cluster.and_then(|ssh| ssh.identity_file.clone())),
            local: raw.local.unwrap_or(cluster.is_some_and(|ssh| ssh.local)),
        }
    }

    /// A name that no program takes for an option, a host or more than one word.
    fn is_user(&mut self, at: &str, user: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-$\\@".contains(c);
        let good = !user.is_empty() && !user.starts_with('-') && user.chars().all(plain);
        if !good {
            let message = format!("{} cannot be the name of a user", quoted(user));
            self.fault(at, message, "write the name to log in with, such as `ops`");
        }
        good
    }

    /// A path that may begin with `~`.
    fn home_path(&mut self, at: &str, text: &str) -> Option<PathBuf> {
        let (message, hint) = match text.strip_prefix('~') {
            None if !text.is_empty() => return Some(self.path(Path::new(text))),
            Some(rest) if rest.is_empty() || rest.starts_with('/') => match self.around.home {
                Some(home) => return Some(home.join(rest.trim_start_matches('/'))),
                None => ("`~` cannot be resolved: HOME is not set", "write the whole path"),
            },
            _ => {
                ("it is no path that can be resolved", "write the whole path, or one from `~/` on")
            }
        };
        self.fault(at, message, hint);
        None
    }
}
