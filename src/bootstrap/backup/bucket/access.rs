//! Where a bucket is, and with what it is asked.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fault::BucketError;
use crate::bootstrap::spec::{Credentials, S3};

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

impl From<&S3> for BucketSettings {
    /// As it is seen from the operator's machine.
    fn from(s3: &S3) -> Self {
        Self {
            endpoint: s3.endpoint.clone(),
            bucket: s3.bucket.clone(),
            prefix: s3.prefix.clone(),
            region: s3.region.clone(),
            credentials_file: s3.credentials_file.clone(),
            ca_file: s3.ca_file.clone(),
        }
    }
}

/// Reads credentials from a file.
///
/// # Errors
/// If it cannot be read, or has none of the profile `default`.
pub(super) fn credentials(path: &Path) -> Result<Credentials, BucketError> {
    let wrong = |reason: String| BucketError::Credentials { path: path.to_owned(), reason };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Credentials::parse(&text).map_err(wrong)
}
