//! The keys of the cluster on the hosts of an external etcd, which have none of their own: without them a
//! restored etcd is worth little. They come from a control plane, sealed for the recipients of backups
//! where there are some, so that no etcd host can read them then.

use std::io::{self, Write as _};

use crate::bootstrap::backup::sealed;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::hex::hex;
use crate::bootstrap::steps::documents::ENCRYPTION;
use crate::bootstrap::transport::File;

use super::Shared;

/// The checksums of what is in it.
pub(super) const SUMS: &str = "/etc/apiproxy/backup/cluster-files.sha256";

/// What makes a cluster what it is, on every control plane; whether it is always there.
pub const FILES: [(&str, bool); 9] = [
    ("/etc/kubernetes/pki/ca.crt", true),
    ("/etc/kubernetes/pki/ca.key", false),
    ("/etc/kubernetes/pki/front-proxy-ca.crt", false),
    ("/etc/kubernetes/pki/front-proxy-ca.key", false),
    ("/etc/kubernetes/pki/sa.key", true),
    ("/etc/kubernetes/pki/sa.pub", true),
    ("/etc/kubernetes/pki/etcd/ca.crt", false),
    ("/etc/kubernetes/pki/etcd/ca.key", false),
    (ENCRYPTION, false),
];

/// The archive of them on an etcd host, plain and encrypted.
pub(super) const ARCHIVES: [&str; 2] =
    ["/etc/apiproxy/backup/cluster-files.tar", "/etc/apiproxy/backup/cluster-files.tar.age"];

/// The one that there is.
pub(super) fn archive(recipients: &[String]) -> String {
    ARCHIVES[usize::from(!recipients.is_empty())].to_owned()
}

/// Those of a control plane.
pub(super) struct Bundle(Vec<(&'static str, Vec<u8>)>);

impl Bundle {
    /// Reads them from the first control plane that has them; none if no one has.
    ///
    /// # Errors
    /// If one that was reached cannot give them.
    pub(super) async fn of(cx: &Context, shared: &Shared) -> Result<Option<Self>, StepError> {
        'hosts: for host in shared.control_planes() {
            let Ok(reached) = cx.host(&host.name) else { continue };
            let mut all = Vec::new();
            for (path, always) in FILES {
                match reached.read(path).await {
                    Ok(Some(found)) => all.push((path, found.content)),
                    Ok(None) if always => continue 'hosts,
                    Ok(None) => {}
                    Err(_) => continue 'hosts,
                }
            }
            return Ok(Some(Self(all)));
        }
        Ok(None)
    }

    /// Their checksums, as sha256sum(1) writes them.
    pub(super) fn sums(&self) -> String {
        let line = |(path, content): &(&str, Vec<u8>)| {
            let sum = ring::digest::digest(&ring::digest::SHA256, content);
            format!("{}  {path}\n", hex(sum.as_ref()))
        };
        self.0.iter().map(line).collect()
    }

    /// The archive, sealed.
    pub(super) fn archive(&self, recipients: &[String]) -> Result<File, StepError> {
        let wrong = |error: &dyn std::fmt::Display| {
            StepError::Unverified(format!("the cluster's keys cannot be put into one: {error}"))
        };
        let plain = self.tar().map_err(|error| wrong(&error))?;
        let bytes = sealed(&plain, recipients).map_err(|error| wrong(&error))?;
        Ok(File::secret(archive(recipients), bytes))
    }

    fn tar(&self) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            archive.append_data(&mut header, path.trim_start_matches('/'), content.as_slice())?;
        }
        let mut bytes = archive.into_inner()?;
        bytes.flush()?;
        Ok(bytes)
    }
}
