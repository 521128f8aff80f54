//! The steps of monitoring against hosts that are played.

use std::collections::BTreeMap;
use std::path::Path;

use super::place::Place;
use super::programs::Programs;
use super::*;
use crate::bootstrap::engine::{Check, Context, Graph, Hosts, StepError};
use crate::bootstrap::pki::Store;
use crate::bootstrap::render::monitoring::{DEBIANS, OURS};
use crate::bootstrap::spec::{self, Cluster};
use crate::bootstrap::steps::documents::Rendered;
use crate::bootstrap::steps::etcd::KeyHome;
use crate::bootstrap::transport::Transport;
use crate::bootstrap::transport::recording::{Answer, Recording};

/// The words by which the look is known.
const LOOK: &str = "dpkg-query";

pub(super) fn cluster(monitoring: &str) -> Cluster {
    let text = format!(
        "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: {{ name: prod }}\nspec:\n  \
         kubernetesVersion: v1.34.2\n  topology: external\n  hosts:\n  \
         - {{ name: cp1, address: 10.0.0.11, roles: [controlPlane] }}\n  \
         - {{ name: e1, address: 10.0.0.21, roles: [etcd] }}\n  \
         - {{ name: m1, address: 10.0.0.71, roles: [monitoring] }}\n  \
         monitoring: {monitoring}\n"
    );
    spec::parse("cluster.yaml", &text, Path::new(""), None).unwrap()
}

fn shared(monitoring: &str) -> Arc<Shared> {
    Shared::new(Arc::new(cluster(monitoring)), Arc::new(Rendered))
}

pub(super) fn hosts(cluster: &Cluster) -> (Context, BTreeMap<String, Arc<Recording>>) {
    let all = cluster.hosts.iter().map(|host| (host.name.clone(), Recording::new(&host.name)));
    let all: BTreeMap<_, _> = all.collect();
    let reached = |host: &Arc<Recording>| -> Arc<dyn Transport> { host.clone() };
    let hosts: Hosts = all.iter().map(|(name, host)| (name.clone(), reached(host))).collect();
    (Context::new(hosts), all)
}

fn place(shared: &Arc<Shared>, name: &str) -> Place {
    Place { shared: shared.clone(), host: shared.cluster.host(name).unwrap().clone() }
}

#[test]
fn each_host_has_what_its_role_needs() {
    let keys = Arc::new(Keys::new(KeyHome::Operator(Store::new("/nowhere"))));
    let names = |monitoring: &str| {
        let shared = shared(monitoring);
        let all = crate::bootstrap::steps::all(&shared, &keys, &[], Renewal::WhenDue);
        Graph::new(&all).unwrap();
        let ours = steps(&shared, &keys, Renewal::WhenDue);
        ours.iter().map(|step| step.id().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        names("{}"),
        [
            "cp1/monitoring-programs",
            "cp1/monitoring",
            "e1/monitoring-programs",
            "e1/monitoring",
            "m1/monitoring-programs",
            "m1/etcd-client",
            "m1/monitoring",
            "cp1/monitoring-rights",
        ]
    );
    let without = ["cp1/monitoring", "e1/monitoring", "m1/monitoring", "cp1/monitoring-rights"];
    assert_eq!(names("{ enabled: false }"), without);
}

#[tokio::test]
async fn a_host_that_nobody_watches_is_left_alone_or_cleared() {
    let shared = shared("{ enabled: false }");
    let (cx, hosts) = hosts(&shared.cluster);
    let (step, e1) = (place(&shared, "e1"), &hosts["e1"]);
    // Debian's own programs are somebody else's.
    e1.on(LOOK, Answer::ok("package prometheus\ndebian prometheus.service\n"));
    assert_eq!(step.check(&cx).await, Ok(Check::Done));

    let left = "unit apiproxy-node-exporter.service\nfolder /etc/apiproxy/monitoring\n\
                ours prometheus-node-exporter\n";
    e1.on(LOOK, Answer::ok(left));
    let Ok(Check::Needed(change)) = step.check(&cx).await else { panic!("it is not cleared") };
    assert!(change.why.contains("apiproxy-node-exporter.service is not wished"), "{change:?}");
    for command in ["stop what is not wished", "apt-get", "unmask", "rm -rf"] {
        e1.on(command, Answer::ok(""));
    }
    step.apply(&cx).await.unwrap();
    assert_eq!(e1.unexpected(), [""; 0]);
    let lines = e1.lines();
    let removes: Vec<_> = lines.iter().filter(|line| line.contains("apt-get")).collect();
    assert_eq!(removes.len(), 1, "{lines:?}");
    assert!(removes[0].ends_with(" remove prometheus-node-exporter"), "{removes:?}");
    assert_eq!(e1.ran("rm -rf -- /etc/apiproxy/monitoring /etc/apiproxy/monitoring.new"), 1);
}

#[tokio::test]
async fn ports_of_somebody_else_are_not_taken() {
    let shared = shared("{}");
    let (cx, hosts) = hosts(&shared.cluster);
    let host = shared.cluster.host("e1").unwrap().clone();
    let step = Programs { shared: shared.clone(), host };
    hosts["e1"].on(LOOK, Answer::ok("debian prometheus-node-exporter.service\n"));
    let Err(StepError::Refused { reason, .. }) = step.check(&cx).await else {
        panic!("it is not refused")
    };
    assert!(reason.contains("prometheus-node-exporter.service of somebody else"), "{reason}");
    // A Prometheus of somebody else is in no way of an exporter.
    hosts["e1"].on(LOOK, Answer::ok("debian prometheus.service\n"));
    let Ok(Check::Needed(change)) = step.check(&cx).await else { panic!("it is not installed") };
    assert_eq!(change.why, "not installed: prometheus-node-exporter");
}

#[tokio::test]
async fn an_exporter_that_stopped_is_started() {
    let shared = shared("{}");
    let (cx, hosts) = hosts(&shared.cluster);
    let (step, e1) = (place(&shared, "e1"), &hosts["e1"]);
    let unit = "unit apiproxy-node-exporter.service\n";
    e1.on(LOOK, Answer::ok(unit));
    for file in crate::bootstrap::render::monitoring::unit_files(&shared.cluster, &step.host) {
        e1.put(file);
    }
    let Ok(Check::Needed(change)) = step.check(&cx).await else { panic!("it is not started") };
    assert_eq!(change.why, "apiproxy-node-exporter.service does not run");
    e1.on("start what is to run", Answer::ok(""));
    step.apply(&cx).await.unwrap();
    assert_eq!(e1.written(), [""; 0]);
    e1.on(LOOK, Answer::ok(format!("{unit}runs apiproxy-node-exporter.service\n")));
    assert_eq!(step.check(&cx).await, Ok(Check::Done));
}

#[test]
fn our_units_are_not_debians() {
    assert!(OURS.iter().all(|unit| !DEBIANS.contains(unit)));
}

#[tokio::test]
async fn a_host_that_is_given_up_loses_it_all() {
    let (cx, hosts) = hosts(&cluster("{}"));
    let (step, m1) = (Leave { name: "m1".to_owned() }, &hosts["m1"]);
    m1.on(LOOK, Answer::ok("package prometheus\n"));
    assert_eq!(step.check(&cx).await, Ok(Check::Done));
    m1.on(LOOK, Answer::ok("unit apiproxy-prometheus.service\nfolder /etc/apiproxy/monitoring\n"));
    let Ok(Check::Needed(change)) = step.check(&cx).await else { panic!("it stays") };
    assert_eq!(change.why, "there are apiproxy-prometheus.service, /etc/apiproxy/monitoring");
    m1.on("stop what is not wished", Answer::ok("")).on("rm -rf", Answer::ok(""));
    step.apply(&cx).await.unwrap();
    assert_eq!(m1.unexpected(), [""; 0]);
}
