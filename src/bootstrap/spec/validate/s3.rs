//! A bucket that gets copies of backups.

use super::Check;
use crate::bootstrap::spec::{S3, shape};
use crate::config::quoted;

const AT: &str = "spec.etcd.backup.s3";

impl Check<'_> {
    pub(super) fn s3(&mut self, raw: shape::S3, encrypted: bool) -> S3 {
        let endpoint = self.endpoint_of_s3(raw.endpoint, encrypted);
        let bucket = raw.bucket.unwrap_or_else(|| {
            self.missing(AT, "bucket", "name the bucket; it is not made");
            String::new()
        });
        if !bucket.is_empty() && !is_bucket(&bucket) {
            let message = format!("{} is no name of a bucket", quoted(&bucket));
            let hint = "write 3 to 63 lower-case letters, digits, dots and dashes";
            self.fault(&format!("{AT}.bucket"), message, hint);
        }
        let prefix = raw.prefix.unwrap_or_default();
        if !prefix.split('/').all(is_word) && !prefix.is_empty() {
            let message = format!("{} cannot begin keys", quoted(&prefix));
            let hint = "write it as etcd/prod: no slash at its ends, no blanks";
            self.fault(&format!("{AT}.prefix"), message, hint);
        }
        let region = raw.region.unwrap_or_else(|| "us-east-1".to_owned());
        if !is_word(&region) {
            let message = format!("{} is no name of a region", quoted(&region));
            self.fault(&format!("{AT}.region"), message, "write it as eu-central-1");
        }
        let credentials = raw.credentials_file.unwrap_or_else(|| {
            let hint = "name a file with aws_access_key_id and aws_secret_access_key";
            self.missing(AT, "credentialsFile", hint);
            std::path::PathBuf::new()
        });
        let ca_file = raw.ca_file.map(|path| self.path(&path));
        S3 { endpoint, bucket, prefix, region, credentials_file: self.path(&credentials), ca_file }
    }

    fn endpoint_of_s3(&mut self, raw: Option<String>, encrypted: bool) -> String {
        let at = format!("{AT}.endpoint");
        let hint = "write it as https://s3.eu-central-1.amazonaws.com";
        let Some(text) = raw else {
            self.missing(AT, "endpoint", hint);
            return String::new();
        };
        let url = text.parse::<ureq::http::Uri>().ok();
        let scheme = url.as_ref().and_then(|url| url.scheme_str());
        let plain = url.as_ref().is_some_and(|url| {
            url.host().is_some_and(|host| !host.is_empty())
                && url.query().is_none()
                && !url.authority().is_some_and(|authority| authority.as_str().contains('@'))
        });
        match scheme {
            Some("https" | "http") if !plain => {
                let message = format!("{} cannot be the URL of an object store", quoted(&text));
                self.fault(&at, message, "leave user, password and query out");
            }
            Some("https") => {}
            Some("http") if encrypted => {}
            Some("http") => {
                let message = "backups that are not encrypted do not go over plain HTTP";
                self.fault(&at, message, "write `https://`, or give `recipients`");
            }
            _ => self.fault(&at, format!("{} is no URL", quoted(&text)), hint),
        }
        text
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn is_bucket(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
    let ends = |c: char| c.is_ascii_alphanumeric();
    (3..=63).contains(&text.len())
        && text.chars().all(plain)
        && text.starts_with(ends)
        && text.ends_with(ends)
}
