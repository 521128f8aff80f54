//! The keys of the cluster in a backup: are they those of this cluster, are all there, and are they good
//! for what is to be made with them? Told before anything stops.

use std::collections::BTreeSet;
use std::path::Path;

use super::Restoring;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::hex::hex;
use crate::bootstrap::kubernetes::expiry;
use crate::bootstrap::spec::Role;
use crate::bootstrap::steps::documents::ENCRYPTION;
use crate::bootstrap::transport::Command;

/// What a control plane that is made of nothing needs.
const NEEDED: [&str; 8] = [
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/sa.key",
    "/etc/kubernetes/pki/sa.pub",
    "/etc/kubernetes/pki/front-proxy-ca.crt",
    "/etc/kubernetes/pki/front-proxy-ca.key",
    "/etc/kubernetes/pki/etcd/ca.crt",
    "/etc/kubernetes/pki/etcd/ca.key",
];

/// By what a cluster is told from another of its name.
const AUTHORITY: &str = "/etc/kubernetes/pki/ca.crt";

/// Prints the SHA-256 of each file that is there, as sha256sum(1) does.
const SUMS: &str = r#"for file; do if [ -e "$file" ]; then sha256sum "$file"; fi; done"#;

/// The files of one host: each that is there, with its SHA-256.
fn sums(text: &str) -> Vec<(String, String)> {
    let line =
        |line: &str| line.split_once("  ").map(|(sum, path)| (path.to_owned(), sum.to_owned()));
    text.lines().filter_map(line).collect()
}

fn refused(reason: String, remedy: &str) -> StepError {
    StepError::Refused { reason, remedy: remedy.to_owned() }
}

/// Looks at the hosts that get them.
///
/// # Errors
/// They are of another cluster, one is missing, or a certificate among those that are to be used has ended.
pub async fn usable(cx: &Context, restoring: &Restoring) -> Result<(), StepError> {
    let (cluster, source) = (&restoring.cluster, &restoring.restore.source);
    let there = |name: &str| !restoring.away.iter().any(|away| away == name);
    let planes = cluster.with_role(Role::ControlPlane).filter(|host| there(&host.name));
    let gets = |name: &str| !restoring.is_stacked() || restoring.first() == name;
    let mut wanted: BTreeSet<&str> =
        restoring.files.iter().map(|(path, _)| path.as_str()).collect();
    if restoring.is_stacked() {
        wanted.extend(NEEDED);
        wanted.extend(cluster.encryption_at_rest.then_some(ENCRYPTION));
    }
    for host in planes {
        let found = cx.run(&host.name, &Command::script(SUMS, wanted.iter().copied())).await?;
        let found = sums(&found.text());
        let ours = restoring.files.iter().find(|(path, _)| path == AUTHORITY);
        let theirs = found.iter().find(|(path, _)| path == AUTHORITY);
        if let (Some((_, ours)), Some((_, theirs))) = (ours, theirs)
            && hex(ring::digest::digest(&ring::digest::SHA256, ours).as_ref()) != *theirs
        {
            return Err(refused(
                format!(
                    "{source} is of another cluster of this name: its {AUTHORITY} is not that of {}",
                    host.name
                ),
                "name a backup of this cluster (`apiproxy bootstrap etcd list`), or take that cluster off \
                 the hosts first (`apiproxy bootstrap reset`)",
            ));
        }
        if !gets(&host.name) {
            continue;
        }
        let missing = wanted.iter().copied().filter(|path| !found.iter().any(|(p, _)| p == path));
        fit(missing, &restoring.files, &source.to_string())?;
    }
    Ok(())
}

/// Are these in the backup, and good?
fn fit<'a>(
    missing: impl Iterator<Item = &'a str>,
    files: &[(String, Vec<u8>)],
    source: &str,
) -> Result<(), StepError> {
    for path in missing {
        let Some((_, content)) = files.iter().find(|(known, _)| known == path) else {
            return Err(refused(
                format!("{source} has no {path}, and neither has the control plane that needs it"),
                "put it there, or name a backup that has it",
            ));
        };
        if Path::new(path).extension().is_none_or(|ending| ending != "crt") {
            continue;
        }
        let expiry = expiry(content).map_err(|_| {
            refused(format!("{source}: {path} is no certificate"), "name another one")
        })?;
        if expiry.days_left < 0 {
            return Err(refused(
                format!(
                    "{source}: {path} ended at {}: nothing would trust what it signs",
                    expiry.ends
                ),
                "put a renewed one of the same key onto the control planes first",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(years: i32) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020 + years, 1, 1);
        params.self_signed(&key).unwrap().pem().into_bytes()
    }

    #[test]
    fn what_is_missing_ended_or_none_is_refused() {
        let told = |files: &[(&str, Vec<u8>)]| {
            let files: Vec<_> =
                files.iter().map(|(path, content)| ((*path).to_owned(), content.clone())).collect();
            let missing = ["/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/pki/sa.key"];
            fit(missing.into_iter(), &files, "b1").map_err(|error| error.to_string())
        };
        let (ca, sa) = ("/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/pki/sa.key");
        assert_eq!(told(&[(ca, authority(200)), (sa, vec![1])]), Ok(()));
        let said = told(&[(ca, authority(200))]).unwrap_err();
        assert!(said.starts_with("b1 has no /etc/kubernetes/pki/sa.key, and neither"), "{said}");
        let said = told(&[(ca, authority(2)), (sa, vec![1])]).unwrap_err();
        assert!(said.contains("ca.crt ended at 2022-01-01T00:00:00Z"), "{said}");
        let said = told(&[(ca, vec![7]), (sa, vec![1])]).unwrap_err();
        assert!(said.contains("ca.crt is no certificate"), "{said}");
    }
}
