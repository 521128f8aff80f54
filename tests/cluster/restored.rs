//! The stacked etcd of a whole cluster comes back: on the same control planes although steps are killed,
//! on spares when all control planes are gone, and from the data of one member onto a mix of both.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret as _;

use crate::common::machines::Machine;
use crate::common::members::{BUMP, done, names, revision, voters};
use crate::common::operator::Operator;
use crate::common::{Outcome, doubles, report};
use crate::view::{are_listed, kubectl, wait_ready};

/// Where a cut costs most: no apiserver anywhere; the first one half up; another half reset or half joined.
const RISKY: [&str; 4] = ["restore-data", "restore-first", "restore-cleared", "control-plane"];

const ETCDCTL: &str = "ETCDCTL_API=3 etcdctl --cacert=/etc/kubernetes/pki/etcd/ca.crt \
    --cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt --key=/etc/kubernetes/pki/etcd/healthcheck-client.key";

/// The key that opens backups, and one that does not.
pub(crate) struct Keys {
    right: age::x25519::Identity,
    wrong: age::x25519::Identity,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let [right, wrong] = [(); 2].map(|()| age::x25519::Identity::generate());
        Self { right, wrong }
    }

    /// The lines of the spec: only who has the key reads what is copied to this host.
    pub(crate) fn spec(&self, store: &str) -> String {
        let recipient = self.right.to_public();
        format!(
            "  encryptionAtRest: true\n  \
             etcd: {{ backup: {{ copyTo: [{store}], schedule: \"0 0 1 1 *\", recipients: [{recipient}] }} }}\n"
        )
    }

    fn file(operator: &Operator, name: &str, key: &age::x25519::Identity) -> String {
        let path = operator.folder().join(name);
        std::fs::write(&path, key.to_string().expose_secret()).unwrap();
        path.display().to_string()
    }
}

fn restore(operator: &Operator, more: &[&str]) -> Outcome {
    operator.run(&[&["etcd", "restore", "--yes"], more].concat())
}

fn note(machine: &Machine, name: &str) {
    kubectl(machine, &format!("create configmap {name} --from-literal=a=b"));
}

fn has(machine: &Machine, name: &str) -> bool {
    let get = format!("kubectl --kubeconfig /etc/kubernetes/admin.conf get configmap {name}");
    machine.attempt(&get).code == Some(0)
}

/// What only a cluster with its own keys can read: a Secret that etcd has encrypted, and the token of a
/// ServiceAccount. A double of kube-apiserver knows of neither.
struct Sealed {
    token: String,
}

impl Sealed {
    fn put(machine: &Machine) -> Option<Self> {
        if !doubles::are_real() {
            report("no Secret and no token is looked at: kube-apiserver is a double");
            return None;
        }
        kubectl(machine, "create secret generic sealed --from-literal=a=b");
        let stored = machine.exec(&format!("{ETCDCTL} get /registry/secrets/default/sealed"));
        assert!(stored.contains("k8s:enc:") && !stored.contains("a=b"), "{stored:?}");
        let token = kubectl(machine, "create token default --duration=8h").trim().to_owned();
        Some(Self { token })
    }

    fn is_read(&self, machine: &Machine) {
        let data = kubectl(machine, "get secret sealed --output 'jsonpath={.data.a}'");
        assert_eq!(data.trim(), "Yg==");
        let ask = |token: &str| {
            machine.attempt(&format!(
                "curl -sk -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {token}' \
                 https://127.0.0.1:6443/api"
            ))
        };
        assert_eq!(ask(&self.token).stdout, "200", "the token from before the restore");
        assert_eq!(ask("a.b.c").stdout, "401", "another one");
        report(&format!("{}: the encrypted Secret and the old token are good", machine.name()));
    }
}

/// Everything is as a cluster of these control planes and workers should be.
fn is_whole(planes: &[&Machine; 3], workers: [&Machine; 2]) {
    let all = planes.iter().chain(&workers).map(|machine| machine.name());
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    for plane in planes {
        wait_ready(plane, &all);
    }
    let own: Vec<_> = planes.iter().map(|machine| machine.name()).collect();
    assert_eq!(voters(planes[0], ETCDCTL), names(&own));
    let mut own = own;
    own.sort_unstable();
    let wanted: Vec<_> = own.iter().map(|name| (*name, "ready")).collect();
    are_listed(&workers, &wanted);
}

/// The ready control planes, two workers of which the second takes copies, and machines with nothing on them.
pub(crate) fn comes_back(
    operator: &Operator,
    keys: &Keys,
    planes: [&Machine; 3],
    workers: [&Machine; 2],
    [s1, s2, s3, s4]: [&Machine; 4],
) {
    let key = Keys::file(operator, "key.txt", &keys.right);
    let sealed = Sealed::put(planes[0]);
    the_same_machines_although_steps_are_killed(operator, keys, &key, planes, workers);
    if let Some(sealed) = &sealed {
        sealed.is_read(planes[1]);
    }
    for plane in planes {
        plane.power_off();
    }
    let begin = Instant::now();
    let outcome = done(restore(operator, &["--write", "--identity", &key]));
    let time = begin.elapsed().as_secs_f64();
    report(&format!("three control planes that are gone, on three spares: {time:.1} s"));
    assert!(outcome.stdout.contains("cp1 does not answer: s1 takes its place"), "{outcome:?}");
    is_whole(&[s1, s2, s3], workers);
    assert!(has(s1, "kept") && has(s3, "after"));
    if let Some(sealed) = &sealed {
        sealed.is_read(s2);
    }
    assert!(revision(s1, ETCDCTL) >= 2 * BUMP, "{}", revision(s1, ETCDCTL));

    // Two have lost their data; what the third has was never backed up. One of the two is replaced.
    note(s2, "unsaved");
    for plane in [s1, s3] {
        plane.exec(
            "mv /etc/kubernetes/manifests/etcd.yaml /root/; sleep 3; rm -rf /var/lib/etcd/member",
        );
    }
    let begin = Instant::now();
    let words = ["--write", "--from-member", "s2", "--place", "s1=s4"];
    let outcome = done(restore(operator, &words));
    let time = begin.elapsed().as_secs_f64();
    report(&format!("from the member that is left, one replaced: {time:.1} s"));
    assert!(outcome.stdout.contains("What s2 has is taken as it is"), "{outcome:?}");
    assert!(outcome.stdout.contains("s4 takes the place of s1"), "{outcome:?}");
    is_whole(&[s2, s3, s4], workers);
    assert!(has(s4, "unsaved") && has(s4, "kept"));
    if let Some(sealed) = &sealed {
        sealed.is_read(s4);
    }
    s1.exec("! systemctl is-active --quiet kubelet; [ ! -e /etc/kubernetes/manifests/etcd.yaml ]");
}

fn the_same_machines_although_steps_are_killed(
    operator: &Operator,
    keys: &Keys,
    key: &str,
    planes: [&Machine; 3],
    workers: [&Machine; 2],
) {
    let [cp1, cp2, _] = planes;
    note(cp2, "kept");
    // A host that is gone, of which the backup still knows.
    cp1.exec(
        "echo '{\"apiVersion\": \"v1\", \"kind\": \"Node\", \"metadata\": {\"name\": \"w9\"}}' |
        kubectl --kubeconfig /etc/kubernetes/admin.conf create -f -",
    );
    done(operator.run(&["etcd", "backup"]));
    let old = revision(cp1, ETCDCTL);
    note(cp2, "late");

    let wrong = Keys::file(operator, "wrong.txt", &keys.wrong);
    restore(operator, &[]).refused(1, "give the private key of one of its recipients");
    restore(operator, &["--identity", &wrong]).refused(1, "for other recipients");
    cp1.small_disk("/var/lib/apiproxy/restore", 1);
    cp1.fill_disk("/var/lib/apiproxy/restore");
    let full = restore(operator, &["--identity", key]);
    cp1.exec("umount /var/lib/apiproxy/restore");
    assert_eq!(full.code, Some(1), "{full:?}");
    let told = full.stdout.clone() + &full.stderr;
    assert!(told.contains("MiB free, and") && told.contains("nothing was stopped"), "{full:?}");
    assert!(has(cp1, "late"), "the cluster runs as before");

    let (mut killed, begin) = (BTreeSet::new(), Instant::now());
    loop {
        // The second run is another restore in place of the one that was cut off, the rest go on with it.
        let anew: &[&str] = if killed.len() == 1 { &["--anew"] } else { &[] };
        let words = ["etcd", "restore", "--yes", "-o", "json", "--identity", key];
        let mut run = operator.start_words(&[&words, anew].concat());
        let wanted = |step: &str| {
            let name = step.split_once('/').unwrap().1.to_owned();
            RISKY.contains(&name.as_str()) && killed.insert(name)
        };
        if run.step(wanted).is_none() {
            let (code, events) = run.end();
            assert_eq!(code, Some(0), "{events:#?}");
            break;
        }
        std::thread::sleep(Duration::from_millis(300) * u32::try_from(killed.len()).unwrap());
        run.kill();
    }
    let time = begin.elapsed().as_secs_f64();
    report(&format!("the same control planes, killed at {} steps: {time:.1} s", killed.len()));
    assert_eq!(killed, names(&RISKY));
    is_whole(&planes, workers);
    assert!(has(cp1, "kept") && !has(cp1, "late"), "as it was when the backup was taken");
    assert!(revision(cp1, ETCDCTL) >= old + BUMP);
    // The ways back.
    cp1.exec("ls -d /var/lib/etcd/before-*/snap/db");
    cp2.exec("ls /var/lib/etcd-before-*/snap/db /var/lib/apiproxy/restore/*/kubernetes/pki/ca.key");
    let told = cp1.attempt(&format!("timeout 5 env {ETCDCTL} watch a --rev={} 2>&1", old + 1));
    assert!(told.stdout.contains("compacted"), "{told:?}");
    let fresh = done(operator.run(&["etcd", "verify"]));
    let copies = fresh.stdout.lines().filter(|line| line.contains("w2=")).count();
    assert!(copies >= 2, "a backup was taken of what was restored: {fresh:?}");
    note(cp1, "after");
    done(operator.run(&["etcd", "backup"]));
}
