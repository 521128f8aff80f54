//! What requests to an object store are signed with.

use std::fmt;

/// A key of an object store.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `aws_access_key_id`.
    pub key: String,
    /// `aws_secret_access_key`.
    pub secret: String,
    /// `aws_session_token`, if there is one.
    pub token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the profile `default`; a file without profiles is one.
    ///
    /// # Errors
    /// If a key is missing: which.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut ours = true;
        let (mut key, mut secret, mut token) = (None, None, None);
        for line in text.lines().map(str::trim) {
            if let Some(profile) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                ours = profile.trim() == "default";
                continue;
            }
            let Some((name, value)) = line.split_once('=').filter(|_| ours) else { continue };
            let slot = match name.trim() {
                "aws_access_key_id" => &mut key,
                "aws_secret_access_key" => &mut secret,
                "aws_session_token" => &mut token,
                _ => continue,
            };
            *slot = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
        let lacks = |name: &str| {
            format!("it has no `{name}` in its profile `default`; write it as `{name} = ...`")
        };
        let key = key.ok_or_else(|| lacks("aws_access_key_id"))?;
        let secret = secret.ok_or_else(|| lacks("aws_secret_access_key"))?;
        Ok(Self { key, secret, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_counts_and_no_secret_is_shown() {
        let text = "[other]\naws_access_key_id = X\n[default]\n# mine\naws_access_key_id=AKIA\n\
                    aws_secret_access_key = a/b+c==\naws_session_token =\nregion = x\n";
        let found = Credentials::parse(text).unwrap();
        assert_eq!((found.key.as_str(), found.secret.as_str()), ("AKIA", "a/b+c=="));
        assert_eq!(found.token, None);
        assert!(!format!("{found:?}").contains("a/b"), "{found:?}");
        let bare = "aws_access_key_id = A\naws_secret_access_key = B\naws_session_token = C\n";
        assert_eq!(Credentials::parse(bare).unwrap().token.as_deref(), Some("C"));
        let lacks = Credentials::parse("[default]\naws_access_key_id = A\n").unwrap_err();
        assert!(lacks.starts_with("it has no `aws_secret_access_key` in its profile"), "{lacks}");
    }
}
