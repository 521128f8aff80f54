//! What is read of certificates, and how they are renewed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::bootstrap::engine::{Check, StepError};
use crate::bootstrap::steps::etcd::{KeyHome, Keys};
use crate::bootstrap::steps::world::{World, cluster, spare};
use crate::bootstrap::transport::File;

/// One that ends in so many days, of a life of a year.
fn certificate(days: i64) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let day = Duration::from_hours(24);
    let now = SystemTime::now() + Duration::from_mins(1);
    let age = day * u32::try_from(365 - days).unwrap();
    params.not_before = (now - age).into();
    params.not_after = (now - age + 365 * day).into();
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn what_ends_and_who_renews_it_is_read() {
    let (old, new) = (certificate(-1), certificate(300));
    let report = format!(
        "\u{1e}pem /etc/kubernetes/pki/ca.crt\n{old}\u{1f}0\n\u{1e}pem /etc/kubernetes/pki/etcd/peer.crt\n{old}\u{1f}0\n\
         \u{1e}pem /etc/kubernetes/pki/apiserver-kubelet-client.crt\n{new}\u{1f}0\n\
         \u{1e}data /etc/kubernetes/admin.conf\n{}\n\u{1f}0\n\u{1e}data /etc/kubernetes/kubelet.conf\n\u{1f}0\n\
         \u{1e}pem /var/lib/kubelet/pki/kubelet-client-current.pem\n{new}\u{1f}0\n\
         \u{1e}data /etc/apiproxy/discovery.conf\n{}\n\u{1f}0\n",
        STANDARD.encode(&new),
        STANDARD.encode(&new),
    );
    let found = read("cp1", &Report::read(report.as_bytes()));
    let of = |found: &Certificate| (found.file.clone(), found.days_left, found.renewed_by);
    let found: Vec<_> = found.iter().map(of).collect();
    let expected = [
        ("/etc/kubernetes/pki/ca.crt", -1, Renewer::Nobody),
        ("/etc/kubernetes/pki/etcd/peer.crt", -1, Renewer::Renew),
        ("/etc/apiproxy/discovery.conf", 300, Renewer::Apply),
        ("/etc/kubernetes/admin.conf", 300, Renewer::Renew),
        ("/etc/kubernetes/pki/apiserver-kubelet-client.crt", 300, Renewer::Renew),
        ("/var/lib/kubelet/pki/kubelet-client-current.pem", 300, Renewer::Kubelet),
    ];
    assert_eq!(found, expected.map(|(file, days, who)| (file.to_owned(), days, who)));
}

#[test]
fn a_real_shell_reads_certificates_and_no_key() {
    let root = crate::bootstrap::steps::shell::Root::new();
    let pem = certificate(20);
    root.write("etc/kubernetes/pki/apiserver.crt", &pem);
    root.write("etc/kubernetes/pki/apiserver.key", "SECRET");
    root.write(
        "etc/apiproxy/etcd/pki/server.crt",
        &format!("{pem}-----BEGIN PRIVATE KEY-----\nSECRET\n"),
    );
    let data = STANDARD.encode(&pem);
    root.write(
        "etc/kubernetes/admin.conf",
        &format!(
            "users:\n- user:\n    client-certificate-data: {data}\n    client-key-data: SECRET\n"
        ),
    );
    let report = root.report(&command());
    assert!(!format!("{report:?}").contains("SECRET"));
    let found = read("cp1", &report);
    let files: Vec<_> = found.iter().map(|one| (one.file.as_str(), one.ending)).collect();
    assert_eq!(
        files,
        [
            ("/etc/apiproxy/etcd/pki/server.crt", true),
            ("/etc/kubernetes/admin.conf", true),
            ("/etc/kubernetes/pki/apiserver.crt", true),
        ]
    );
}

/// A cluster whose control planes have a certificate with so many days left, each.
async fn world(days: [i64; 3]) -> World {
    let world = World::new(cluster());
    world.apply(&world.steps()).await.unwrap();
    for (name, days) in ["cp1", "cp2", "cp3"].iter().zip(days) {
        world.hosts[*name].put(File::new("/etc/kubernetes/pki/apiserver.crt", certificate(days)));
    }
    world.sim().renewed = certificate(364);
    world.later().await;
    world
}

fn steps(world: &World, days: i64) -> Vec<Arc<dyn crate::bootstrap::engine::Step>> {
    let keys = Arc::new(Keys::new(KeyHome::Host("cp1".to_owned())));
    renew::steps(&world.shared, &keys, days)
}

#[tokio::test(start_paused = true)]
async fn all_hosts_are_asked_and_who_does_not_answer_is_named() {
    let world = world([200, 100, 300]).await;
    world.hosts["w2"].die("no power");
    let mut with_spare = cluster();
    with_spare.hosts.push(spare("s1", "10.0.0.41"));
    let found = table(&with_spare, &world.cx, None, 16).await;
    let first = found.certificates.first().unwrap();
    assert_eq!((first.host.as_str(), first.days_left), ("cp2", 100));
    let unreached: Vec<_> = found.unreached.iter().map(|one| one.host.as_str()).collect();
    assert_eq!(unreached, ["w2"], "spares have none");
    let chosen = BTreeSet::from(["cp3".to_owned()]);
    let found = table(&cluster(), &world.cx, Some(&chosen), 16).await;
    assert!(found.certificates.iter().all(|one| one.host == "cp3"));
}

#[tokio::test(start_paused = true)]
async fn what_ends_soon_is_renewed_and_what_is_new_is_left_alone() {
    let world = world([20, 200, 29]).await;
    let renewing = steps(&world, 30);
    let found = renewing[0].check(&world.cx).await.unwrap();
    let Check::Needed(change) = found else { panic!("{found:?}") };
    let words =
        "1 of 1 certificates have fewer than 30 days left, /etc/kubernetes/pki/apiserver.crt 20";
    assert_eq!(change.why, words);
    assert_eq!(world.apply(&renewing).await, Ok(2));
    let ran = ["cp1", "cp2", "cp3"].map(|name| world.hosts[name].ran("kubeadm certs renew"));
    assert_eq!(ran, [1, 0, 1]);
    assert_eq!(world.apply(&steps(&world, 30)).await, Ok(0));
    // More days than any certificate has: each is renewed once in a run, not for ever.
    world.sim().renewed = certificate(365);
    let again = steps(&world, 1000);
    assert_eq!(world.apply(&again).await, Ok(3));
    assert_eq!(world.apply(&again).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_renewed_nothing_or_was_cut_short_is_not_done() {
    let world = world([20, 200, 200]).await;
    world.sim().renewed = certificate(20);
    world.sim().renewed = world.hosts["cp1"].text("/etc/kubernetes/pki/apiserver.crt").unwrap();
    let error = world.apply(&steps(&world, 30)).await.unwrap_err();
    assert!(
        matches!(&error, StepError::Unverified(why) if why.contains("was not renewed")),
        "{error}"
    );
    // The next run does not take the new certificates for all that was to be done.
    world.hosts["cp1"].put(File::new("/etc/kubernetes/pki/apiserver.crt", certificate(300)));
    let found = steps(&world, 30)[0].check(&world.cx).await.unwrap();
    let Check::Needed(change) = found else { panic!("{found:?}") };
    assert_eq!(change.why, "a renewal was cut short");
    world.sim().renewed = certificate(364);
    assert_eq!(world.apply(&steps(&world, 30)).await, Ok(1));
    assert_eq!(steps(&world, 30)[0].check(&world.cx).await, Ok(Check::Done));
}
