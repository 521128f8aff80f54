//! `certs renew`: every certificate is another, and whoever goes through a proxy notices nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::case::Case;
use crate::common::machines::Machine;
use crate::common::{report, wait_for};
use crate::view::ENDPOINT;

/// The certificates that kubeadm made there, by file: a checksum of each.
fn certificates(machine: &Machine) -> BTreeMap<String, String> {
    let files = "/etc/kubernetes/*.conf /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt";
    let text = machine.exec(&format!("sha256sum {files}"));
    let pair =
        |line: &str| line.split_once("  ").map(|(sum, file)| (file.to_owned(), sum.to_owned()));
    text.lines().filter_map(pair).collect()
}

/// The certificate that this port shows.
fn shown(machine: &Machine, port: u16, flags: &str) -> String {
    let address = machine.address();
    machine.exec(&format!(
        "openssl s_client -connect {address}:{port} {flags} </dev/null 2>/dev/null | openssl x509 -outform PEM"
    ))
}

/// Requests of a worker, through its proxy, one after the other.
pub(crate) struct Load<'m> {
    worker: &'m Machine,
}

impl<'m> Load<'m> {
    /// Begins.
    pub(crate) fn start(worker: &'m Machine) -> Self {
        let script = format!(
            "rm -f /root/answers\nwhile :; do\n\
             code=$(curl --silent --max-time 5 --output /dev/null --write-out '%{{http_code}}' \
             --cacert /etc/kubernetes/pki/ca.crt --cert /var/lib/kubelet/pki/kubelet-client-current.pem \
             https://{ENDPOINT}:6443/readyz)\n\
             echo \"$(date +%s%3N) $code\" >>/root/answers\nsleep 0.1\ndone\n"
        );
        worker.write("/root/load.sh", script.as_bytes(), 0o755);
        worker.exec("systemd-run --quiet --unit load sh /root/load.sh");
        wait_for("the first answer", Duration::from_secs(10), || {
            worker.exec("cat /root/answers || true").contains(" 200").then_some(())
        });
        Self { worker }
    }

    /// Ends; how many answers there were, how many of them were bad, and the longest time between two
    /// good ones.
    pub(crate) fn end(self) -> (usize, usize, Duration) {
        self.worker.exec("systemctl stop load");
        let text = self.worker.exec("cat /root/answers");
        let answers: Vec<(u64, bool)> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(time, code)| (time.parse().unwrap(), code == "200"))
            .collect();
        let good: Vec<_> =
            answers.iter().filter(|(_, good)| *good).map(|(time, _)| *time).collect();
        let gap = good.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        (answers.len(), answers.len() - good.len(), Duration::from_millis(gap))
    }
}

/// All certificates of these control planes become others, of their servers as well; a second run has
/// nothing to do.
pub(crate) fn all_are_renewed(case: &Case, planes: &[&str], worker: &str) {
    let before: Vec<_> = planes.iter().map(|name| certificates(case.machine(name))).collect();
    let shown_before: Vec<_> =
        planes.iter().map(|name| shown(case.machine(name), 6443, "")).collect();
    let load = Load::start(case.machine(worker));
    case.done(&["certs", "renew", "--yes", "--days", "400"]);
    let (answers, bad, gap) = load.end();
    report(&format!(
        "{answers} answers meanwhile, {bad} bad, {gap:?} between two good ones at most"
    ));
    assert!(gap < Duration::from_secs(5), "{gap:?}");
    for ((name, before), shown_before) in planes.iter().zip(before).zip(shown_before) {
        let machine = case.machine(name);
        let after = certificates(machine);
        assert_eq!(after.len(), before.len());
        for (file, sum) in &before {
            let stays = file.ends_with("ca.crt") || file.ends_with("/kubelet.conf");
            assert_eq!(after[file] == *sum, stays, "{name}: {file}");
        }
        let now = shown(machine, 6443, "");
        assert_ne!(now, shown_before, "{name}: its apiserver has read the new one");
        assert_eq!(now, machine.exec("openssl x509 -in /etc/kubernetes/pki/apiserver.crt"));
        let etcd = "-cert /etc/kubernetes/pki/etcd/healthcheck-client.crt \
                    -key /etc/kubernetes/pki/etcd/healthcheck-client.key";
        let own = machine.exec("openssl x509 -in /etc/kubernetes/pki/etcd/server.crt");
        assert_eq!(shown(machine, 2379, etcd), own, "{name}: its etcd has read the new one");
    }
    case.idle(&["certs", "renew", "--yes"]);
}
