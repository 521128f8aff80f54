//! Why an object store does not take or give a backup, and what to do about it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Stores take no request whose time is further off; AWS gives 15 minutes, others 5.
const SKEW: Duration = Duration::from_mins(5);

/// Why an object store does not take or give a backup.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The credentials cannot be used.
    #[error("{path}: {reason}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nobody is trusted for TLS.
    #[error(
        "{path}: {reason}; name a file of certificates as `caFile`, or install ca-certificates"
    )]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The URL or the bucket's name is none.
    #[error("{0} cannot be the URL of a bucket")]
    Address(String),
    /// It gave no answer.
    #[error("{endpoint}: {reason}{remedy}")]
    Silent {
        /// Its URL.
        endpoint: String,
        /// What happened.
        reason: String,
        /// What to do.
        remedy: &'static str,
        /// Was a connection cut that there was?
        cut: bool,
    },
    /// It refused.
    #[error("{bucket} refused it ({status} {code}){remedy}")]
    Refused {
        /// The bucket.
        bucket: String,
        /// The status of HTTP.
        status: u16,
        /// S3's word for it.
        code: String,
        /// What to do.
        remedy: String,
    },
    /// Its answer is not understood.
    #[error("{endpoint} does not answer as S3 does: {reason}; see `endpoint`")]
    Strange {
        /// Its URL.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// What lies there is not what was sent.
    #[error("{0} is damaged: its checksum does not fit")]
    Damaged(String),
    /// A file cannot be read or written here.
    #[error("{path}: {source}")]
    Here {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

impl BucketError {
    /// No answer came, or it was cut off.
    pub(super) fn silent(endpoint: &str, error: ureq::Error) -> Self {
        let cut = [
            ErrorKind::ConnectionReset,
            ErrorKind::ConnectionAborted,
            ErrorKind::BrokenPipe,
            ErrorKind::UnexpectedEof,
        ];
        let mut remedy = "";
        let cut = match &error {
            ureq::Error::Io(error) => cut.contains(&error.kind()),
            _ => false,
        };
        let reason = match error {
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        if reason.contains("certificate") {
            remedy = "; see `caFile`, and this host's clock";
        }
        Self::Silent { endpoint: endpoint.to_owned(), reason, remedy, cut }
    }

    /// May the same go well a moment later?
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Silent { cut, .. } => *cut,
            Self::Refused { status, .. } => matches!(status, 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Is there no such object?
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Refused { status: 404, code, .. } if code != "NoSuchBucket")
    }
}

/// What to do about a refusal: `clocks` are the store's time and ours.
pub(super) fn remedy(
    status: u16,
    code: &str,
    clocks: Option<(SystemTime, SystemTime)>,
    credentials: &Path,
) -> String {
    let key = credentials.display();
    let skewed = clocks.and_then(|(theirs, ours)| skew(theirs, ours));
    match (status, code, skewed) {
        (_, "NoSuchBucket", _) => "; make the bucket, or mend `bucket`".to_owned(),
        (400 | 401 | 403, _, Some(skew)) => {
            format!("; this host's clock is {skew} the store's: set it right (timedatectl)")
        }
        (_, "RequestTimeTooSkewed", None) => {
            "; set this host's clock right (timedatectl)".to_owned()
        }
        _ if status == 507 || code.contains("StorageFull") || code.contains("Quota") => {
            "; make room there or give it more: no backup was removed".to_owned()
        }
        (
            _,
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken",
            _,
        ) => {
            format!(
                "; the key in {key} is not known there: mend the file that `credentialsFile` names, and \
                 run `apiproxy bootstrap apply`"
            )
        }
        (401 | 403, ..) => {
            format!("; the key in {key} must have the right to list, read, write and remove there")
        }
        (301 | 307 | 308 | 400, ..) => "; see `region` and `endpoint`".to_owned(),
        (429 | 500..=599, ..) => "; the next run tries it again".to_owned(),
        _ => String::new(),
    }
}

/// By how much our clock is off, if it matters.
fn skew(theirs: SystemTime, ours: SystemTime) -> Option<String> {
    let whole = |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
    match ours.duration_since(theirs) {
        Ok(ahead) if ahead > SKEW => Some(format!("{} ahead of", whole(ahead))),
        Err(behind) if behind.duration() > SKEW => {
            Some(format!("{} behind", whole(behind.duration())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn each_refusal_says_what_to_do() {
        let now = UNIX_EPOCH + Duration::from_hours(9000);
        let told = |status, code, theirs| {
            remedy(status, code, Some((theirs, now)), Path::new("/etc/keys"))
        };
        let all = |status, code| told(status, code, now);
        assert_eq!(all(404, "NoSuchBucket"), "; make the bucket, or mend `bucket`");
        for (status, code) in [
            (507, "XMinioStorageFull"),
            (403, "QuotaExceeded"),
            (400, "XMinioAdminBucketQuotaExceeded"),
        ] {
            assert!(all(status, code).contains("make room there"), "{code}");
        }
        assert!(all(403, "SignatureDoesNotMatch").contains("the key in /etc/keys is not known"));
        assert!(all(403, "AccessDenied").contains("the right to list, read, write and remove"));
        assert!(all(301, "PermanentRedirect").contains("see `region`"));
        assert!(all(503, "SlowDown").contains("the next run"));
        assert_eq!(all(404, "NoSuchKey"), "");
        // Whatever the word: a clock that is off is the cause.
        let past = now - Duration::from_mins(61);
        assert!(told(403, "AccessDenied", past).contains("is 1h 1m ahead of the store's"));
        let future = now + Duration::from_hours(2);
        assert!(told(403, "RequestTimeTooSkewed", future).contains("is 2h behind the store's"));
        let none = remedy(403, "RequestTimeTooSkewed", None, Path::new("x"));
        assert!(none.contains("clock"), "{none}");
    }
}
