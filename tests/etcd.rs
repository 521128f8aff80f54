//! External etcd with real etcd processes: Debian's 3.4, and 3.5 where `KUBEBUILDER_ASSETS` has it,
//! on machines of namespaces with their own network, files and process tree.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails ends the test")]

mod common;
#[path = "etcd/machines.rs"]
mod machines;
#[path = "etcd/site.rs"]
mod site;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use apiproxy::bootstrap::engine::{Check, Step, StepError};
use apiproxy::bootstrap::pki::Certificate;
use apiproxy::bootstrap::steps::certs::{self, Renewer};
use apiproxy::bootstrap::steps::etcd::data::Data;
use apiproxy::bootstrap::steps::etcd::{
    KeyHome, Keys, Remove, Renewal, Replace, Survey, remove, steps,
};

use common::{report, wait_for};
use site::{Programs, Site, later, spec};

/// Three members and a load are enough for two cores.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes two tests of a scenario: one of each etcd.
macro_rules! scenarios {
    ($($name:ident)*) => {
        mod debian {$(
            #[test]
            fn $name() {
                let programs = crate::site::Programs::Debian;
                if let Some(why) = crate::site::no_machines(&programs) { crate::skip!("{why}"); }
                let _alone = crate::alone();
                crate::$name(&programs);
            }
        )*}
        mod assets {$(
            #[test]
            fn $name() {
                let Some(programs) = crate::site::Programs::of_assets() else {
                    crate::skip!("KUBEBUILDER_ASSETS has no etcdctl");
                };
                if let Some(why) = crate::site::no_machines(&programs) { crate::skip!("{why}"); }
                let _alone = crate::alone();
                crate::$name(&programs);
            }
        )*}
    };
}

scenarios! {
    a_cluster_is_founded_and_the_second_run_changes_nothing
    a_replacement_that_is_cut_off_anywhere_is_finished_by_the_next
    a_destroyed_member_is_replaced_without_loss
    a_living_member_makes_room_for_another
    what_breaks_the_quorum_is_refused
    drift_is_shown_and_put_right_one_member_at_a_time
    certificates_are_renewed_under_load
    a_cluster_that_was_switched_off_comes_back
}

fn needed(check: &Result<Check, StepError>) -> &apiproxy::bootstrap::engine::Change {
    match check {
        Ok(Check::Needed(change)) => change,
        other => panic!("{other:?}"),
    }
}

/// The voting members that answer.
fn voters(site: &Site, members: &[u8]) -> BTreeSet<String> {
    let cx = site.context();
    let survey = site.runtime.block_on(Survey::of(&cx, &spec(members))).unwrap();
    let (_, view) = survey.cluster.unwrap();
    let voting = view.members.list.iter();
    let voting = voting.filter(|member| !member.learner && view.is_healthy(member.id));
    voting.map(|member| member.name.clone()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn pid(site: &Site, name: &str) -> String {
    site.machine(name).text("cat /mnt/state/apiproxy-etcd.service.pid")
}

fn a_cluster_is_founded_and_the_second_run_changes_nothing(programs: &Programs) {
    let site = Site::new(programs);
    let cluster = spec(&[1, 2, 3]);
    let steps = site.steps(&cluster, Renewal::WhenDue);
    let before = site.check(&steps);
    assert!(matches!(before[0], Ok(Check::Needed(_))), "{before:?}");
    assert!(matches!(before[1], Ok(Check::After(_))), "no certificates yet: {before:?}");
    assert!(!site.state().join("pki").exists(), "looking makes no authority");

    let begin = Instant::now();
    let done = site.apply(&steps).unwrap();
    report(&format!("{programs:?}: three members founded in {:?}", begin.elapsed()));
    let all = [
        "e1/etcd-certificates",
        "e1/etcd-member",
        "e2/etcd-certificates",
        "e2/etcd-member",
        "e3/etcd-certificates",
        "e3/etcd-member",
        "e1/etcd-client",
        "e1/etcd-healthy",
    ];
    assert_eq!(done, all);

    let (begin, used) = (Instant::now(), site.fuse.used());
    assert_eq!(site.apply(&steps).unwrap(), [""; 0], "the second run changes nothing");
    let commands = site.fuse.used() - used;
    report(&format!("{programs:?}: second run: {commands} commands, {:?}", begin.elapsed()));
    assert!(commands <= 11, "{commands} commands");

    assert_eq!(voters(&site, &[1, 2, 3]), names(&["e1", "e2", "e3"]));
    let member = site.machine("e2");
    member.text("[ ! -e /etc/apiproxy/etcd/initial.env ]");
    // The authority's key is nowhere on the machines, and the others are for etcd alone.
    member.text("[ -e /mnt/_etc/new/apiproxy ] && ! find /mnt -name '*ca.key' | grep .");
    let keys = member.text("stat -c '%a %U %n' /etc/apiproxy/etcd/pki/*.key");
    assert_eq!(keys.lines().filter(|line| line.starts_with("600 etcd ")).count(), 3, "{keys}");
    for (cert, purpose) in [
        ("server", "sslserver"),
        ("server", "sslclient"),
        ("peer", "sslserver"),
        ("peer", "sslclient"),
        ("healthcheck-client", "sslclient"),
    ] {
        let pki = "/etc/apiproxy/etcd/pki";
        let said = member.text(&format!(
            "openssl verify -x509_strict -purpose {purpose} -CAfile {pki}/ca.crt {pki}/{cert}.crt"
        ));
        assert!(said.ends_with(": OK"), "{said}");
    }
    // Nobody gets in without a certificate, and an apiserver does with its own.
    let bare = site.machine("e1").shell(
        "ETCDCTL_API=3 etcdctl --cacert=/etc/apiproxy/etcd/pki/ca.crt \
         --endpoints=https://10.99.0.2:2379 get x",
    );
    assert_ne!(bare.code, 0, "{bare:?}");
    site.machine("e1").text(
        "ETCDCTL_API=3 etcdctl --cacert=/etc/kubernetes/pki/etcd/ca.crt \
         --cert=/etc/kubernetes/pki/apiserver-etcd-client.crt \
         --key=/etc/kubernetes/pki/apiserver-etcd-client.key \
         --endpoints=https://10.99.0.1:2379,https://10.99.0.2:2379,https://10.99.0.3:2379 \
         endpoint health",
    );
    another_operator_can_look_but_not_issue(&site);
}

fn another_operator_can_look_but_not_issue(site: &Site) {
    let elsewhere = tempfile::tempdir().unwrap();
    let store = apiproxy::bootstrap::pki::Store::new(elsewhere.path().join("pki"));
    let keys = Arc::new(Keys::new(KeyHome::Operator(store)));
    let cluster = spec(&[1, 2, 3]);
    assert_eq!(site.apply(&steps(&cluster, &keys, Renewal::WhenDue)).unwrap(), [""; 0]);
    let renew = steps(&cluster, &keys, Renewal::MadeBefore(later()));
    let error = site.apply(&renew).unwrap_err().to_string();
    assert!(error.contains("authority whose key is not here"), "{error}");
    let error = site.runtime.block_on(async {
        let cx = site.context();
        keys.open(&cx, &cluster, SystemTime::now()).await.unwrap_err().to_string()
    });
    assert!(error.contains("etcd-ca.key"), "{error}");
    assert!(!elsewhere.path().join("pki").exists(), "no second authority is made");
}

/// That a run which founds is finished is tested by killing `apply`, in `tests/bootstrap_etcd.rs`.
fn a_replacement_that_is_cut_off_anywhere_is_finished_by_the_next(programs: &Programs) {
    let (mut site, _) = Site::founded(programs);
    site.fill("e1", 1000);
    let before = site.content("e1");
    site.machine("e2").destroy();
    site.switch_on(4);
    let cluster = spec(&[1, 4, 3]);
    let new = cluster.host("e4").unwrap().clone();
    let replace = Replace { cluster, old: "e2".to_owned(), new, keys: site.keys.clone() };
    let replace: [Arc<dyn Step>; 1] = [Arc::new(replace)];
    let cuts = cut_off_until_done(&site, 5, || site.apply(&replace).map(drop));
    report(&format!("{programs:?}: replaced after {cuts} runs that were cut off"));
    assert!(cuts > 3, "{cuts}");
    assert_eq!(voters(&site, &[1, 3, 4]), names(&["e1", "e3", "e4"]));
    assert_eq!(site.content("e4"), before);
}

/// Runs it again and again, each time allowed some more commands than the last, until it is through.
fn cut_off_until_done(site: &Site, more: i64, run: impl Fn() -> Result<(), StepError>) -> usize {
    for cuts in 0.. {
        site.fuse.set(more * (i64::try_from(cuts).unwrap() + 1));
        let result = run();
        site.fuse.set(i64::MAX);
        match result {
            Ok(()) => return cuts,
            Err(error) => assert!(error.to_string().contains("killed"), "{error}"),
        }
    }
    unreachable!()
}

fn a_destroyed_member_is_replaced_without_loss(programs: &Programs) {
    let (mut site, _) = Site::founded(programs);
    site.fill("e1", 1000);
    let before = site.content("e1");
    assert_eq!(before.0, 1000);

    site.machine("e3").destroy();
    site.switch_on(4);
    let cluster = spec(&[1, 2, 4]);
    let new = cluster.host("e4").unwrap().clone();
    let keys = site.keys.clone();
    let replace = Replace { cluster: cluster.clone(), old: "e3".to_owned(), new, keys };
    let begin = Instant::now();
    assert_eq!(site.apply(&[Arc::new(replace) as _]).unwrap(), ["e4/etcd-replaced"]);
    report(&format!("{programs:?}: a destroyed member replaced in {:?}", begin.elapsed()));
    assert_eq!(voters(&site, &[1, 2, 4]), names(&["e1", "e2", "e4"]));
    assert_eq!(site.content("e4"), before);
    let again = site.steps(&cluster, Renewal::WhenDue);
    assert_eq!(site.apply(&again).unwrap(), [""; 0]);

    // Only the data are lost, while etcd stands still; apply alone sees that they are gone.
    site.machine("e1").text("systemctl stop apiproxy-etcd.service; rm -rf /var/lib/etcd/member");
    let found = site.check(&site.steps(&cluster, Renewal::WhenDue));
    assert!(needed(&found[1]).why.contains("the data of e1 are gone"), "{found:?}");
    site.apply(&site.steps(&cluster, Renewal::WhenDue)).unwrap();
    assert_eq!(site.content("e1"), before);
    assert_eq!(voters(&site, &[1, 2, 4]), names(&["e1", "e2", "e4"]));
}

fn a_living_member_makes_room_for_another(programs: &Programs) {
    let (mut site, _) = Site::founded(programs);
    site.fill("e1", 1000);
    let before = site.content("e1");
    site.switch_on(4);
    let cluster = spec(&[2, 3, 4]);
    let new = cluster.host("e4").unwrap().clone();
    let keys = site.keys.clone();
    let replace = Replace { cluster: cluster.clone(), old: "e1".to_owned(), new, keys };
    let replace: [Arc<dyn Step>; 1] = [Arc::new(replace)];
    assert_eq!(site.apply(&replace).unwrap(), ["e4/etcd-replaced"]);
    assert_eq!(site.apply(&replace).unwrap(), [""; 0], "it is done once");
    assert_eq!(voters(&site, &[2, 3, 4]), names(&["e2", "e3", "e4"]));
    assert_eq!(site.content("e4"), before);
    let old = site.machine("e1");
    assert_eq!(old.text("systemctl show -p ActiveState --value apiproxy-etcd.service"), "inactive");
    old.text("ls -d /var/lib/etcd-removed-*/wal && [ ! -e /var/lib/etcd/member ]");
    old.text("[ ! -e /etc/apiproxy/etcd ] && [ ! -e /etc/systemd/system/apiproxy-etcd.service ]");
}

fn what_breaks_the_quorum_is_refused(programs: &Programs) {
    let (site, cluster) = Site::founded(programs);
    site.machine("e3").destroy();
    let cx = site.context();
    let refused = |name: &str| {
        let removed = site.runtime.block_on(remove(&cx, &cluster, name, Data::Aside));
        removed.unwrap_err().to_string()
    };
    let said = refused("e1");
    assert!(said.contains("e1 must not be removed now: 1 of 2 voting members"), "{said}");
    let step =
        Remove { cluster: cluster.clone(), name: "e2".to_owned(), first: false, data: Data::Aside };
    let said = site.check(&[Arc::new(step)]).remove(0).unwrap_err().to_string();
    assert!(said.contains("e2 must not be removed now"), "{said}");

    // A restart for drift would be one too many.
    site.machine("e1").text("echo ETCD_SNAPSHOT_COUNT=7 >>/etc/apiproxy/etcd/member.env");
    let before = pid(&site, "e1");
    let steps = site.steps(&cluster, Renewal::WhenDue);
    let said = site.apply(&steps[1..2]).unwrap_err().to_string();
    assert!(said.contains("e1 must not go down now: 1 of 3 voting members"), "{said}");
    assert_eq!(pid(&site, "e1"), before);
    assert_eq!(voters(&site, &[1, 2]), names(&["e1", "e2"]));

    // The dead one may go, and then there are two.
    site.runtime.block_on(remove(&cx, &cluster, "e3", Data::Aside)).unwrap();
    let said = site.etcdctl("e1", "member list");
    assert_eq!(said.lines().count(), 2, "{said}");
}

fn drift_is_shown_and_put_right_one_member_at_a_time(programs: &Programs) {
    let (site, cluster) = Site::founded(programs);
    let pids = |names: &[&str]| names.iter().map(|name| pid(&site, name)).collect::<Vec<_>>();
    let before = pids(&["e1", "e2", "e3"]);
    site.machine("e2").text("sed -i s/NAME=e2/NAME=other/ /etc/apiproxy/etcd/member.env");
    site.machine("e3").text("sed -i /OOMScore/d /etc/systemd/system/apiproxy-etcd.service");
    let steps = site.steps(&cluster, Renewal::WhenDue);
    let found = site.check(&steps);
    let change = needed(&found[3]);
    assert_eq!(change.why, "its files are not as they should be");
    assert_eq!(change.diffs.len(), 1, "{change:?}");
    assert!(change.diffs[0].contains("\n-ETCD_NAME=other\n+ETCD_NAME=e2\n"), "{change:?}");
    assert!(needed(&found[5]).diffs[0].contains("\n+OOMScoreAdjust=-900\n"), "{found:?}");
    assert_eq!(found[1], Ok(Check::Done));

    assert_eq!(site.apply(&steps).unwrap(), ["e2/etcd-member", "e3/etcd-member"]);
    let after = pids(&["e1", "e2", "e3"]);
    assert_eq!(after[0], before[0], "e1 was left alone");
    assert_ne!(after[1], before[1]);
    assert_ne!(after[2], before[2]);
    assert_eq!(site.apply(&steps).unwrap(), [""; 0]);

    // Written but not read yet: the run was killed between the two.
    site.machine("e1").text("touch /etc/apiproxy/etcd/restart-needed");
    assert_eq!(site.apply(&steps).unwrap(), ["e1/etcd-member"]);
    assert_ne!(pid(&site, "e1"), before[0]);

    // A mistyped argument is refused before anything is touched.
    let mut wrong = (*cluster).clone();
    wrong.etcd.extra_args.insert("max-wal".to_owned(), "9".to_owned());
    let steps = site.steps(&Arc::new(wrong), Renewal::WhenDue);
    let said = site.apply(&steps).unwrap_err().to_string();
    assert!(said.contains("has no argument max-wal"), "{said}");
    assert_eq!(voters(&site, &[1, 2, 3]).len(), 3);
}

fn certificates_are_renewed_under_load(programs: &Programs) {
    let (site, cluster) = Site::founded(programs);
    let pki = "/etc/apiproxy/etcd/pki";
    let read = |name: &str| site.machine(name).text(&format!("cat {pki}/server.crt"));
    let read = |name| Certificate::from_pem(&read(name)).unwrap();
    let served = |name: &str| {
        site.machine(name).text(&format!(
            "echo | openssl s_client -connect 127.0.0.1:2379 -CAfile {pki}/ca.crt \
             -cert {pki}/healthcheck-client.crt -key {pki}/healthcheck-client.key 2>/dev/null | \
             openssl x509 -noout -serial | tr -d : | tr A-F a-f"
        ))
    };
    let (before, pids) = (read("e1"), ["e1", "e2", "e3"].map(|name| pid(&site, name)));
    let authority = site.machine("e1").text(&format!("cat {pki}/ca.crt"));

    let (stop, writes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failures = std::thread::scope(|scope| {
        let (machine, stop, writes) = (site.machine("e3"), &stop, &writes);
        let load = scope.spawn(move || {
            let mut failures = Vec::new();
            let end = Instant::now() + Duration::from_mins(3);
            while !stop.load(SeqCst) && Instant::now() < end {
                let put = machine.shell(&format!(
                    "ETCDCTL_API=3 etcdctl --cacert={pki}/ca.crt --cert={pki}/healthcheck-client.crt \
                     --key={pki}/healthcheck-client.key --endpoints=https://10.99.0.1:2379,\
                     https://10.99.0.2:2379,https://10.99.0.3:2379 put load x"
                ));
                writes.fetch_add(1, SeqCst);
                if !put.ok() {
                    failures.push(put.complaint());
                }
            }
            failures
        });
        let some_more = |more| {
            let now = writes.load(SeqCst);
            wait_for("the load goes on", Duration::from_secs(30), || {
                (writes.load(SeqCst) >= now + more).then_some(())
            });
        };
        some_more(5);
        let renewal = site.steps(&cluster, Renewal::MadeBefore(later()));
        let done = site.apply(&renewal);
        some_more(10);
        stop.store(true, SeqCst);
        let names = [
            "e1/etcd-certificates",
            "e2/etcd-certificates",
            "e3/etcd-certificates",
            "e1/etcd-client",
        ];
        assert_eq!(done.unwrap(), names);
        // The same call goes on where it was: nothing is made twice.
        assert_eq!(site.apply(&renewal).unwrap(), [""; 0]);
        load.join().unwrap()
    });
    let count = writes.load(SeqCst);
    report(&format!("{programs:?}: {count} writes while certificates were renewed"));
    assert_eq!(failures, [""; 0], "of {count} writes");

    let after = read("e1");
    assert_ne!(after.serial, before.serial);
    assert_eq!(after.public_key(), before.public_key());
    let serial = after.serial.replace(':', "");
    let shown = served("e1");
    assert!(
        shown.trim_start_matches("serial=0").ends_with(serial.trim_start_matches('0')),
        "{shown}"
    );
    assert_eq!(["e1", "e2", "e3"].map(|name| pid(&site, name)), pids, "nobody was restarted");
    assert_eq!(site.machine("e1").text(&format!("cat {pki}/ca.crt")), authority);

    let cx = site.context();
    let table = site.runtime.block_on(certs::table(&cluster, &cx, None, 16));
    assert_eq!(table.unreached, []);
    assert_eq!(table.certificates.len(), 3 * 4 + 2, "{table:?}");
    let authorities = table.certificates.iter().filter(|one| one.renewed_by == Renewer::Nobody);
    assert_eq!(authorities.count(), 4);
    assert!(table.certificates.iter().all(|one| one.days_left > 300), "{table:?}");
}

fn a_cluster_that_was_switched_off_comes_back(programs: &Programs) {
    let (site, cluster) = Site::founded(programs);
    site.fill("e2", 500);
    let before = site.content("e2");
    for name in ["e1", "e2", "e3"] {
        site.machine(name).text("systemctl stop apiproxy-etcd.service");
    }
    let steps = site.steps(&cluster, Renewal::WhenDue);
    let done = site.apply(&steps).unwrap();
    assert!(done.contains(&"e1/etcd-member".to_owned()), "{done:?}");
    assert_eq!(voters(&site, &[1, 2, 3]).len(), 3);
    assert_eq!(site.content("e3"), before);
    assert_eq!(site.apply(&steps).unwrap(), [""; 0]);

    // Most are off and one has lost its data: that is for a restore, not for a new cluster.
    for name in ["e1", "e2"] {
        site.machine(name).text("systemctl stop apiproxy-etcd.service");
    }
    site.machine("e1").text("rm -rf /var/lib/etcd/member");
    let said = site.apply(&steps[1..2]).unwrap_err().to_string();
    assert!(said.contains("e1 has no data of etcd and cannot be added"), "{said}");
    assert!(said.contains("etcd restore"), "{said}");
}
