//! The status page: one file without anything from outside, and the headers that hold it to that.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The page.
pub(super) const HTML: &str = include_str!("page.html");

/// What a browser may do for the page: run its own script and style, and ask this proxy. Nothing that
/// a backend's name or a reason might smuggle in can run or be loaded.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        fingerprint("script"),
        fingerprint("style"),
    )
});

/// The content of the page's only element of this name, as the policy wants it named.
fn fingerprint(element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let content = HTML.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    let digest =
        ring::digest::digest(&ring::digest::SHA256, content.unwrap_or(("", "")).0.as_bytes());
    format!("sha256-{}", STANDARD.encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_outside() {
        for element in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{element}")).count(), 1, "one {element}");
            assert_eq!(
                HTML.matches(&format!("<{element}>")).count(),
                1,
                "{element} without attributes"
            );
        }
        for outside in ["http:", "https:", "//", "@import", "url(", "src=", "<iframe", "<object"] {
            let found = HTML.lines().find(|line| line.contains(outside));
            assert_eq!(found, None, "{outside}");
        }
    }

    #[test]
    fn data_never_becomes_markup() {
        let ways =
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="];
        for way in ways {
            assert!(!HTML.contains(way), "{way}");
        }
    }

    #[test]
    fn the_policy_names_the_script_and_the_style() {
        assert!(POLICY.starts_with("default-src 'none'; script-src 'sha256-"), "{}", *POLICY);
        let empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert!(!POLICY.contains(empty) && !POLICY.contains("unsafe"), "{}", *POLICY);
    }
}
