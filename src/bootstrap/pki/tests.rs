//! What is issued can be read again, serves for what it is for, and ends when it should.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_hours(24);

/// 1 January 2026.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(490_896)
}

fn address() -> IpAddr {
    "10.0.0.21".parse().unwrap()
}

fn authority() -> Authority {
    Authority::create("etcd-ca", now()).unwrap()
}

fn issue(authority: &Authority, profile: &Profile) -> Certificate {
    let issued = authority.issue(profile, now()).unwrap();
    assert!(issued.key_pem.starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS#8");
    Certificate::from_pem(&issued.cert_pem).unwrap()
}

#[test]
fn an_authority_is_one_of_kubeadms_kind() {
    let authority = authority();
    let certificate = authority.certificate();
    assert!(certificate.authority);
    assert_eq!(certificate.subject, "CN=etcd-ca");
    assert_eq!(certificate.issuer, "CN=etcd-ca");
    assert_eq!(certificate.not_before, now() - BACKDATED);
    assert_eq!(certificate.not_after, now() + CA_VALIDITY);
    assert!(certificate.issued_by(certificate));
    let again = Authority::from_pem(authority.pem(), authority.key_pem()).unwrap();
    assert_eq!(again.certificate(), certificate);
}

#[test]
fn a_member_is_server_and_client_under_all_its_names() {
    let authority = authority();
    for profile in [Profile::etcd_server("e1", address()), Profile::etcd_peer("e1", address())] {
        let certificate = issue(&authority, &profile);
        assert_eq!(certificate.common_name, "e1");
        assert_eq!(certificate.usages, BTreeSet::from([Usage::Server, Usage::Client]));
        let names: BTreeSet<_> = certificate.names.iter().map(Name::to_string).collect();
        let wished = ["e1", "localhost", "10.0.0.21", "127.0.0.1", "::1"];
        assert_eq!(names, wished.map(str::to_owned).into());
        assert_eq!(certificate.faults(&profile, authority.certificate(), now()), [""; 0]);
        assert_eq!(certificate.not_after, now() + LEAF_VALIDITY);
        assert!(!certificate.authority);
    }
    let client = issue(&authority, &Profile::client("kube-apiserver-etcd-client"));
    assert_eq!(client.usages, BTreeSet::from([Usage::Client]));
    assert_eq!(client.names, BTreeSet::new());
}

#[test]
fn what_does_not_serve_says_why() {
    let (ours, other) = (authority(), authority());
    let profile = Profile::etcd_server("e1", address());
    let certificate = issue(&ours, &profile);
    let faults = |profile: &Profile, at| certificate.faults(profile, ours.certificate(), at);

    let moved = Profile::etcd_server("e1", "10.0.0.22".parse().unwrap());
    let texts = ["lacks the name 10.0.0.22", "has the name 10.0.0.21"];
    assert_eq!(faults(&moved, now()), texts);
    let client = Profile { usages: [Usage::Client].into(), ..profile.clone() };
    assert_eq!(faults(&client, now()), ["has serverAuth"]);
    let renamed = Profile { common_name: "e2".to_owned(), ..profile.clone() };
    assert_eq!(faults(&renamed, now()), ["is for e1, not e2"]);
    assert_eq!(faults(&profile, now() + 300 * DAY), ["expires on 2027-01-01T00:00:00Z"]);
    assert_eq!(faults(&profile, now() + 366 * DAY), ["expired on 2027-01-01T00:00:00Z"]);
    assert_eq!(faults(&profile, now() - 2 * DAY), ["is not valid before 2025-12-31T00:00:00Z"]);
    let foreign = certificate.faults(&profile, other.certificate(), now());
    assert_eq!(foreign, ["is not issued by CN=etcd-ca"], "the name alone is no proof");
}

#[test]
fn a_clock_that_is_behind_by_hours_takes_a_new_certificate() {
    let authority = authority();
    let profile = Profile::client("x");
    let certificate = issue(&authority, &profile);
    let faults = certificate.faults(&profile, authority.certificate(), now() - DAY / 2);
    assert_eq!(faults, [""; 0]);
}

#[test]
fn a_renewed_certificate_keeps_its_key() {
    let authority = authority();
    let profile = Profile::etcd_peer("e1", address());
    let old = issue(&authority, &profile);
    let later = now() + 300 * DAY;
    let new = Certificate::from_pem(&authority.renew(&profile, &old, later).unwrap()).unwrap();
    assert_eq!(new.public_key().unwrap(), old.public_key().unwrap());
    assert_ne!(new.serial, old.serial);
    assert_eq!(new.made(), later);
    assert_eq!(new.faults(&profile, authority.certificate(), later), [""; 0]);
}

#[test]
fn nothing_outlives_its_authority() {
    let authority = authority();
    let late = now() + CA_VALIDITY - 30 * DAY;
    let issued = authority.issue(&Profile::client("x"), late).unwrap();
    let certificate = Certificate::from_pem(&issued.cert_pem).unwrap();
    assert_eq!(certificate.not_after, authority.certificate().not_after);
    let early = authority.issue(&Profile::client("x"), now() - DAY / 2).unwrap();
    let certificate = Certificate::from_pem(&early.cert_pem).unwrap();
    assert_eq!(certificate.not_before, authority.certificate().not_before);
}

#[test]
fn a_key_of_somebody_else_is_refused() {
    let (one, two) = (authority(), authority());
    let error = Authority::from_pem(one.pem(), two.key_pem()).unwrap_err();
    assert!(error.to_string().contains("does not belong to the certificate"), "{error}");
    let leaf = one.issue(&Profile::client("x"), now()).unwrap();
    let error = Authority::from_pem(&leaf.cert_pem, &leaf.key_pem).unwrap_err();
    assert!(error.to_string().contains("CA:TRUE"), "{error}");
    assert!(Certificate::from_pem(one.key_pem()).is_err());
    assert!(Certificate::from_pem("").is_err());
}

#[test]
fn no_key_shows_when_things_are_printed() {
    let authority = authority();
    let issued = authority.issue(&Profile::client("x"), now()).unwrap();
    let text = format!("{authority:?} {issued:?}");
    assert!(!text.contains("PRIVATE"), "{text}");
}

#[test]
fn the_operators_folder_is_theirs_alone_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let keys = Store::of_cluster("prod", Some(state.as_os_str()), None).unwrap();
    assert!(keys.load("etcd-ca", now()).unwrap().is_none());
    assert!(!state.exists(), "looking makes nothing");

    let made = keys.load_or_create("etcd-ca", now()).unwrap();
    let path = state.join("apiproxy/prod/pki");
    assert_eq!(keys.key_path("etcd-ca"), path.join("etcd-ca.key"));
    let allowed = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(allowed(path.clone()), 0o700);
    assert_eq!(allowed(path.join("etcd-ca.key")), 0o600);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "no temporary file is left");

    let later = now() + 100 * DAY;
    let again = keys.load_or_create("etcd-ca", later).unwrap();
    assert_eq!(again.certificate(), made.certificate());

    // Killed between key and certificate: the key stays what it is.
    fs::remove_file(path.join("etcd-ca.crt")).unwrap();
    let mended = keys.load_or_create("etcd-ca", later).unwrap();
    assert_eq!(mended.key_pem(), made.key_pem());
    let key = |authority: &Authority| authority.certificate().public_key().unwrap();
    assert_eq!(key(&mended), key(&made));

    fs::remove_file(path.join("etcd-ca.key")).unwrap();
    let error = keys.load_or_create("etcd-ca", later).unwrap_err().to_string();
    assert!(error.contains("etcd-ca.key: it is gone"), "{error}");
    assert!(!path.join("etcd-ca.key").exists(), "no new key for an old certificate");
}

#[test]
fn two_runs_at_once_get_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("pki"));
    let certificates: Vec<_> = std::thread::scope(|scope| {
        let run = || store.load_or_create("etcd-ca", now()).unwrap().certificate().clone();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(certificates.iter().all(|certificate| *certificate == certificates[0]));
}

#[test]
fn where_the_store_is_follows_the_environment() {
    let place = |state: Option<&str>, home: Option<&str>| {
        let store = Store::of_cluster("c", state.map(OsStr::new), home.map(OsStr::new));
        store.map(|store| store.key_path("x").display().to_string())
    };
    assert_eq!(place(Some("/s"), Some("/h")).unwrap(), "/s/apiproxy/c/pki/x.key");
    assert_eq!(place(None, Some("/h")).unwrap(), "/h/.local/state/apiproxy/c/pki/x.key");
    let relative = place(Some("s"), Some("/h")).unwrap();
    assert_eq!(relative, "/h/.local/state/apiproxy/c/pki/x.key");
    assert!(place(None, None).is_err());
}

proptest! {
    #[test]
    fn the_last_third_of_a_life_is_for_renewal(day in 0_u32..400) {
        let authority = authority();
        let certificate = issue(&authority, &Profile::client("x"));
        // Valid for 365 days from now on and one before.
        let due = certificate.needs_renewal(now() + DAY * day);
        prop_assert_eq!(due, day >= 244, "day {}", day);
        let left = certificate.days_left(now() + DAY * day + DAY / 2);
        prop_assert_eq!(left, 364 - i64::from(day));
    }
}
