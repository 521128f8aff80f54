//! Files as they should be against files as they are.

use crate::bootstrap::transport::{File, Found};
use similar::TextDiff;

/// What would change, as a unified diff; none if the file is as it should be.
pub(in crate::bootstrap::steps) fn difference(
    wanted: &File,
    found: Option<&Found>,
) -> Option<String> {
    let path = &wanted.path;
    let Some(found) = found else {
        return Some(diff(path, "", &text(wanted)));
    };
    if found.content != wanted.content {
        let old = if wanted.secret {
            "(another secret)\n".into()
        } else {
            String::from_utf8_lossy(&found.content)
        };
        return Some(diff(path, &old, &text(wanted)));
    }
    if (found.mode, &found.owner) == (wanted.mode, &wanted.owner) {
        return None;
    }
    let of = |mode, (user, group): &(String, String)| format!("{mode:o} {user}:{group}");
    let (old, new) = (of(found.mode, &found.owner), of(wanted.mode, &wanted.owner));
    Some(format!("{path}: {old} becomes {new}\n"))
}

fn text(file: &File) -> String {
    if file.secret { "(secret)\n".into() } else { String::from_utf8_lossy(&file.content).into() }
}

/// A unified diff of two texts.
pub(super) fn diff(path: &str, old: &str, new: &str) -> String {
    let header = (format!("{path} (now)"), format!("{path} (then)"));
    TextDiff::from_lines(old, new).unified_diff().header(&header.0, &header.1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_mode_and_owner_count() {
        let wanted = File::new("/etc/x", "b\n");
        let found = |content: &str, mode, group: &str| Found {
            content: content.into(),
            mode,
            owner: ("root".into(), group.into()),
        };
        assert_eq!(difference(&wanted, Some(&found("b\n", 0o644, "root"))), None);
        let changed =
            difference(&wanted, Some(&found("a\n", 0o644, "root"))).expect("other content");
        assert_eq!(changed, "--- /etc/x (now)\n+++ /etc/x (then)\n@@ -1 +1 @@\n-a\n+b\n");
        let mode = difference(&wanted, Some(&found("b\n", 0o600, "adm"))).expect("another mode");
        assert_eq!(mode, "/etc/x: 600 root:adm becomes 644 root:root\n");
        let secret = difference(&File::secret("/etc/x", "hunter2\n"), None).expect("not there");
        assert!(secret.contains("(secret)") && !secret.contains("hunter2"), "{secret}");
        let wanted = File::secret("/etc/x", "hunter2\n");
        let changed = difference(&wanted, Some(&found("hunter1\n", 0o600, "root")));
        let shown =
            "--- /etc/x (now)\n+++ /etc/x (then)\n@@ -1 +1 @@\n-(another secret)\n+(secret)\n";
        assert_eq!(changed.as_deref(), Some(shown), "neither the new one nor the old one");
    }
}
