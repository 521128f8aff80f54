//! Keeps secrets out of what is written down.

/// What is written in place of a secret.
const MASK: &str = "[redacted]";

/// Flags whose value is a secret, with or without `=` between.
const FLAGS: &[&str] =
    &["--token", "--certificate-key", "--discovery-token", "--password", "--pass"];

/// A command's words without secrets: values of flags that carry them, and what looks like one.
pub(super) fn words(argv: &[String]) -> Vec<String> {
    let mut masked = Vec::new();
    let mut value = false;
    for word in argv {
        if value {
            masked.push(MASK.to_owned());
            value = false;
            continue;
        }
        value = FLAGS.contains(&word.as_str());
        let flag = word.split_once('=').filter(|(flag, _)| FLAGS.contains(flag));
        masked.push(match flag {
            Some((flag, _)) => format!("{flag}={MASK}"),
            None => text(word),
        });
    }
    masked
}

/// A text without what looks like a secret: bootstrap tokens (`abcdef.0123456789abcdef`),
/// certificate keys (64 hexadecimal digits that are no checksum) and private keys in PEM.
pub(super) fn text(text: &str) -> String {
    let text = without_keys(text);
    let mut masked = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(is_part) {
        masked += &rest[..start];
        let end = rest[start..].find(|c| !is_part(c)).map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        let checksum = masked.ends_with("sha256:");
        masked +=
            if is_token(word) || (is_certificate_key(word) && !checksum) { MASK } else { word };
        rest = &rest[end..];
    }
    masked + rest
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '.'
}

/// As kubeadm defines it: `\A([a-z0-9]{6})\.([a-z0-9]{16})\z`.
fn is_token(word: &str) -> bool {
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    // A sentence may end behind it.
    let word = word.trim_end_matches('.');
    word.split_once('.').is_some_and(|(id, secret)| {
        id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)
    })
}

/// An AES key of 32 bytes in hexadecimal, as kubeadm prints it.
fn is_certificate_key(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn without_keys(text: &str) -> String {
    const END: &str = "PRIVATE KEY-----";
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ") {
        let (before, block) = rest.split_at(start);
        kept += before;
        let head = block.find('\n').unwrap_or(block.len());
        if !block[..head].contains("PRIVATE KEY") {
            kept += &block[..head];
            rest = &block[head..];
            continue;
        }
        kept += MASK;
        // To its end, or to the end of all if that was cut off.
        let end = block[head..].find(END).map_or(block.len(), |at| head + at + END.len());
        rest = &block[end..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_masked() {
        let key = "0123456789abcdef".repeat(4);
        let line = format!("kubeadm join --token abcdef.0123456789abcdef --certificate-key {key}");
        assert_eq!(text(&line), "kubeadm join --token [redacted] --certificate-key [redacted]");
        let pinned = format!("--discovery-token-ca-cert-hash sha256:{key}");
        assert_eq!(text(&pinned), pinned);
        for plain in ["v1.34.2", "10.0.0.11:6443", "/etc/kubernetes/pki/ca.crt", ""] {
            assert_eq!(text(plain), plain);
        }
        let pem = "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb";
        assert_eq!(text(pem), "a\n[redacted]\nb");
        let cut = "-----BEGIN PRIVATE KEY-----\nMIIE";
        assert_eq!(text(cut), "[redacted]");
        let public = "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----";
        assert_eq!(text(public), public);
    }

    #[test]
    fn values_of_secret_flags_are_masked_whatever_they_look_like() {
        let argv = ["x", "--token", "t", "--password=p", "--name", "n"].map(str::to_owned);
        let masked = ["x", "--token", "[redacted]", "--password=[redacted]", "--name", "n"];
        assert_eq!(words(&argv), masked);
    }

    proptest! {
        #[test]
        fn no_token_gets_through(
            before in "[ -~]{0,20}[^a-zA-Z0-9.]", token in "[a-z0-9]{6}\\.[a-z0-9]{16}",
            after in "([^a-zA-Z0-9.][ -~]{0,20})?",
        ) {
            let masked = text(&format!("{before}{token}{after}"));
            prop_assert!(!masked.contains(&token), "{masked}");
        }
    }
}
