//! Where a bucket is, and with what it is asked.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::requests::BucketError;

/// Where a host that takes backups has the credentials.
pub const CREDENTIALS: &str = "/etc/apiproxy/backup/s3-credentials";

/// A bucket as it is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BucketSettings {
    /// The URL of the store.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// What the keys of its objects begin with, without a slash at the end; may be empty.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// A file as the tools of AWS have it, of which the profile `default` is read.
    pub credentials_file: PathBuf,
    /// Whom the store's certificate is signed by; without it, whom the host trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl fmt::Display for BucketSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)
    }
}

/// What requests are signed with.
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
    /// Reads them from a file.
    ///
    /// # Errors
    /// If it cannot be read, or has none of the profile `default`.
    pub fn load(path: &Path) -> Result<Self, BucketError> {
        let wrong = |reason: String| BucketError::Credentials { path: path.to_owned(), reason };
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

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
