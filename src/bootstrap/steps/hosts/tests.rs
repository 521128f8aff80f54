//! A host's steps against a host that is not there: fresh, as it should be, changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::bootstrap::artifacts::{Need, manifest, packages, sha256_hex};
use crate::bootstrap::engine::{Change, Hosts};
use crate::bootstrap::needs::sample;
use crate::bootstrap::render::{host as render_host, paths};
use crate::bootstrap::spec::{Overrides, Role, Version};
use crate::bootstrap::transport::recording::{Answer, Recording};
use crate::bootstrap::transport::{File, Transport};

mod host;
mod scripts;

use host::Machine;

/// The steps of one host, in an order that they may run in.
fn steps_of(cluster: &Arc<Cluster>, host: &str, program: &Path) -> Vec<Arc<dyn Step>> {
    steps(cluster, program).into_iter().filter(|step| step.id().host == host).collect()
}

fn this_program(folder: &Path) -> std::path::PathBuf {
    let program = folder.join("apiproxy");
    fs::write(&program, "this very program").unwrap();
    program
}

fn context(machine: &Machine) -> Context {
    let transport: Arc<dyn Transport> = machine.transport.clone();
    Context::new(Hosts::from([(transport.host().to_owned(), transport)]))
}

async fn checks(steps: &[Arc<dyn Step>], cx: &Context) -> BTreeMap<String, Check> {
    let mut found = BTreeMap::new();
    for step in steps {
        found.insert(step.id().name, step.check(cx).await.unwrap());
    }
    found
}

/// Checks, applies and verifies each step; the names of those that were applied.
async fn run(steps: &[Arc<dyn Step>], cx: &Context) -> Vec<String> {
    let mut applied = Vec::new();
    for step in steps {
        match step.check(cx).await.unwrap() {
            Check::Done => {}
            Check::Needed(_) => {
                step.apply(cx).await.unwrap_or_else(|error| panic!("{}: {error}", step.id()));
                step.verify(cx).await.unwrap_or_else(|error| panic!("{}: {error}", step.id()));
                applied.push(step.id().name);
            }
            Check::After(before) => panic!("{} waits for {before}", step.id()),
        }
    }
    applied
}

#[tokio::test]
async fn a_fresh_node_is_prepared_from_packages_and_then_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Arc::new(sample::stacked());
    let machine = Machine::fresh(&cluster, "w1");
    let cx = context(&machine);
    let steps = steps_of(&cluster, "w1", &this_program(folder.path()));
    let before = checks(&steps, &cx).await;
    assert_eq!(machine.looks(), 1, "all steps of a host look once");
    assert!(matches!(&before["kernel"], Check::Needed(Change { why, diffs })
        if why.contains("it calls itself localhost") && why.contains("it swaps to /dev/sda2")
            && diffs.iter().any(|diff| diff.contains("+127.0.0.1 api.prod.local"))));
    assert!(matches!(&before["programs"], Check::Needed(change)
        if change.why.contains("kubelet=1.34.2-* is not installed")));
    assert_eq!(before["containerd"], Check::After(StepId::new("w1", "programs")));
    assert_eq!(before["prepared"], Check::After(StepId::new("w1", "kernel")));

    let applied = run(&steps, &cx).await;
    assert_eq!(applied, ["kernel", "programs", "containerd", "kubelet-unit", "apiproxy"]);
    let transport = &machine.transport;
    assert_eq!(
        transport.text(packages::LIST).unwrap(),
        "deb [signed-by=/etc/apt/keyrings/kubernetes-apt-keyring.asc] https://pkgs.k8s.io/core:/stable:/v1.34/deb/ /\n"
    );
    assert!(transport.text(paths::ETC_HOSTS).unwrap().starts_with("127.0.0.1 localhost\n"));
    assert_eq!(transport.ran("apt-mark hold kubeadm kubelet kubectl containerd"), 1);
    assert_eq!(transport.ran("--allow-downgrades kubeadm=1.34.2-*"), 1);
    assert_eq!(transport.unexpected(), [""; 0]);

    transport.forget();
    let later = steps_of(&cluster, "w1", &this_program(folder.path()));
    assert!(checks(&later, &cx).await.values().all(|check| *check == Check::Done));
    assert_eq!(transport.calls().len(), 1, "a host that is ready costs one command");
}

#[tokio::test]
async fn a_changed_configuration_restarts_containerd_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Arc::new(sample::stacked());
    let machine = Machine::fresh(&cluster, "w1");
    let (cx, program) = (context(&machine), this_program(folder.path()));
    run(&steps_of(&cluster, "w1", &program), &cx).await;
    assert_eq!(machine.restarts(), 1);

    let mut changed = sample::stacked();
    changed.overrides.containerd.insert("oom_score".into(), (-500).into());
    let changed = Arc::new(changed);
    machine.transport.forget();
    let applied = run(&steps_of(&changed, "w1", &program), &cx).await;
    assert_eq!((applied, machine.restarts()), (vec!["containerd".to_owned()], 2));

    // Only crictl's file is lost: containerd goes on.
    machine.transport.remove(containerd::CRICTL);
    let applied = run(&steps_of(&changed, "w1", &program), &cx).await;
    assert_eq!((applied, machine.restarts()), (vec!["containerd".to_owned()], 2));

    // Killed between the new configuration and the restart: the mark tells.
    machine.transport.remove(&format!("{MARKS}/containerd-running"));
    let applied = run(&steps_of(&changed, "w1", &program), &cx).await;
    assert_eq!((applied, machine.restarts()), (vec!["containerd".to_owned()], 3));
}

#[tokio::test]
async fn a_node_that_has_joined_keeps_its_kubelet_and_takes_new_flags() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Arc::new(sample::stacked());
    let machine = Machine::fresh(&cluster, "w1");
    let (cx, program) = (context(&machine), this_program(folder.path()));
    run(&steps_of(&cluster, "w1", &program), &cx).await;
    machine.transport.put(File::new("/etc/kubernetes/kubelet.conf", "joined"));

    let mut newer = sample::stacked();
    newer.kubernetes_version = Version::new(1, 34, 3);
    newer.overrides = Overrides {
        kubelet_flags: [("v".to_owned(), "4".to_owned())].into(),
        ..Overrides::default()
    };
    let newer = Arc::new(newer);
    let applied = run(&steps_of(&newer, "w1", &program), &cx).await;
    assert_eq!(applied, ["kubelet-unit"]);
    // And gives them up again.
    let applied = run(&steps_of(&cluster, "w1", &program), &cx).await;
    assert_eq!(applied, ["kubelet-unit"]);
    assert_eq!(machine.transport.file(paths::KUBELET_DROP_IN), None);
    // `upgrade` installs what it is told to.
    install_packages(&cx, &newer, "w1", &["kubeadm"]).await.unwrap();
    assert_eq!(machine.transport.ran("--allow-downgrades kubeadm=1.34.3-*"), 1);
}

#[tokio::test]
async fn while_a_control_plane_joins_its_endpoint_may_be_another() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Arc::new(sample::stacked());
    let machine = Machine::fresh(&cluster, "cp2");
    let (cx, program) = (context(&machine), this_program(folder.path()));
    run(&steps_of(&cluster, "cp2", &program), &cx).await;
    let host = cluster.host("cp2").unwrap();
    let point = |address: [u8; 4]| {
        let block = crate::bootstrap::render::hosts_block(&cluster, host, address.into());
        let text = crate::bootstrap::render::replace_block(b"", &block);
        machine.transport.put(File::new(paths::ETC_HOSTS, text));
    };
    let kernel = |steps: Vec<Arc<dyn Step>>| steps.into_iter().next().unwrap();
    point([10, 0, 0, 11]);
    let check = kernel(steps_of(&cluster, "cp2", &program)).check(&cx).await.unwrap();
    assert_eq!(check, Check::Done);
    machine.transport.put(File::new("/etc/kubernetes/kubelet.conf", "joined"));
    let check = kernel(steps_of(&cluster, "cp2", &program)).check(&cx).await.unwrap();
    assert!(matches!(check, Check::Needed(_)), "then it is its own apiserver");
}

#[tokio::test]
async fn etcd_hosts_get_etcd_and_no_service_of_debians() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Arc::new(sample::external());
    let machine = Machine::fresh(&cluster, "e1");
    let cx = context(&machine);
    let steps = steps_of(&cluster, "e1", &this_program(folder.path()));
    let applied = run(&steps, &cx).await;
    assert_eq!(applied, ["kernel", "programs", "apiproxy"]);
    let lines = machine.transport.lines();
    let at = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(at("mask --quiet etcd.service") < at("--allow-downgrades etcd-server etcd-client"));
    assert_eq!(machine.transport.file(packages::LIST), None, "no Kubernetes there");
    assert!(checks(&steps, &cx).await.values().all(|check| *check == Check::Done));
}

#[tokio::test]
async fn no_key_and_no_way_to_it_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Arc::new(sample::stacked());
    let machine = Machine::fresh(&cluster, "w1");
    let complaint = "curl: (6) Could not resolve host: pkgs.k8s.io";
    machine.transport.on("Release.key", Answer::fails(6, complaint));
    let cx = context(&machine);
    let steps = steps_of(&cluster, "w1", &this_program(folder.path()));
    let programs = steps.iter().find(|step| step.id().name == "programs").unwrap();
    let error = programs.apply(&cx).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "w1: the key of https://pkgs.k8s.io/core:/stable:/v1.34/deb/Release.key was not had: \
         curl: (6) Could not resolve host: pkgs.k8s.io; let the host reach it, name a mirror, or use \
         `artifacts: {from: directory}`"
    );
    let mut old = sample::stacked();
    old.kubernetes_version = Version::new(1, 22, 17);
    let old = Arc::new(old);
    let steps = steps_of(&old, "w1", &this_program(folder.path()));
    let programs = steps.iter().find(|step| step.id().name == "programs").unwrap();
    let error = programs.check(&cx).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "no repository has packages of Kubernetes v1.22.17; use `artifacts: {from: directory}`"
    );
}

#[tokio::test]
async fn a_program_that_the_host_cannot_run_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Arc::new(sample::external());
    let machine = Machine::fresh(&cluster, "e1");
    let complaint = "apiproxy: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.39' not found";
    machine.transport.on([paths::PROXY_PROGRAM, "--version"], Answer::fails(1, complaint));
    let cx = context(&machine);
    let steps = steps_of(&cluster, "e1", &this_program(folder.path()));
    let proxy = steps.iter().find(|step| step.id().name == "apiproxy").unwrap();
    let error = proxy.apply(&cx).await.unwrap_err().to_string();
    assert!(
        error.starts_with("e1 cannot run this apiproxy") && error.contains("static build"),
        "{error}"
    );
}

/// A directory that lacks nothing.
fn artifacts(cluster: &Cluster, root: &Path) {
    let mut sums = Vec::new();
    let mut put = |name: &str, content: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        sums.push(format!("{}  {name}\n", sha256_hex(content)));
    };
    for item in manifest::items(cluster, "amd64") {
        if item.need != Need::Optional {
            put(&item.path.replace('*', "2.1.4"), item.name.as_bytes());
        }
    }
    let names = |names: &[&str]| format!(r#"[{{"RepoTags":{names:?}}}]"#);
    for (archive, json) in [
        ("images/control.tar", names(&["registry.k8s.io/kube-apiserver:v1.34.2"])),
        (
            "images/all.tar",
            names(&["registry.k8s.io/kube-proxy:v1.34.2", "registry.k8s.io/pause:3.10.1"]),
        ),
    ] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(json.len() as u64);
        builder.append_data(&mut header, "manifest.json", json.as_bytes()).unwrap();
        put(archive, &builder.into_inner().unwrap());
    }
    put("debs/socat_1.7_amd64.deb", b"deb");
    fs::write(root.join("SHA256SUMS"), sums.concat()).unwrap();
}

#[tokio::test]
async fn a_fresh_node_is_prepared_from_a_directory_and_each_file_comes_once() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = sample::offline(sample::stacked(), folder.path().join("artifacts"));
    artifacts(&cluster, &folder.path().join("artifacts"));
    let cluster = Arc::new(cluster);
    let machine = Machine::fresh(&cluster, "w1");
    let (cx, program) = (context(&machine), this_program(folder.path()));
    let steps = steps_of(&cluster, "w1", &program);
    let applied = run(&steps, &cx).await;
    assert_eq!(applied, ["kernel", "programs", "containerd", "images", "kubelet-unit", "apiproxy"]);
    let written = machine.transport.written();
    let uploads: Vec<_> = written.iter().filter(|path| !path.starts_with("/etc/")).collect();
    let waiting = |name: &str| format!("{MARKS}/incoming/{name}");
    let expected = [
        waiting("socat_1.7_amd64.deb"),
        "/usr/local/bin/kubeadm".to_owned(),
        "/usr/local/bin/kubelet".to_owned(),
        "/usr/local/bin/kubectl".to_owned(),
        waiting("cni-plugins-linux-amd64-v2.1.4.tgz"),
        waiting("containerd-2.1.4-linux-amd64.tar.gz"),
        waiting("runc.amd64"),
        waiting("all.tar"),
        "/usr/local/bin/apiproxy".to_owned(),
    ];
    assert_eq!(uploads, expected.iter().collect::<Vec<_>>(), "a worker needs no kube-apiserver");
    let unit = machine.transport.text(kubelet::KUBEADM_DROP_IN).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS"), "{unit}");
    assert!(machine.transport.text(containerd::UNIT_FILE).unwrap().contains("Type=notify"));
    assert_eq!(machine.transport.file(packages::LIST), None);
    assert_eq!(machine.transport.ran("apt-get"), 0, "nothing of apt");

    machine.transport.forget();
    let later = steps_of(&cluster, "w1", &program);
    assert!(checks(&later, &cx).await.values().all(|check| *check == Check::Done));
    assert_eq!(machine.transport.calls().len(), 1);
}

#[tokio::test]
async fn a_torn_artifact_goes_to_no_host() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("artifacts");
    let cluster = sample::offline(sample::stacked(), &root);
    artifacts(&cluster, &root);
    fs::write(root.join("debs/socat_1.7_amd64.deb"), "torn").unwrap();
    let cluster = Arc::new(cluster);
    let machine = Machine::fresh(&cluster, "w1");
    let cx = context(&machine);
    let steps = steps_of(&cluster, "w1", &this_program(folder.path()));
    let programs = steps.iter().find(|step| step.id().name == "programs").unwrap();
    let error = programs.apply(&cx).await.unwrap_err().to_string();
    assert!(error.contains("SHA256SUMS says") && error.ends_with("fetch it again"), "{error}");
    assert_eq!(machine.transport.written(), [""; 0]);
}

#[tokio::test]
async fn images_that_kubeadm_wants_and_no_archive_has_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("artifacts");
    let cluster = sample::offline(sample::stacked(), &root);
    artifacts(&cluster, &root);
    let cluster = Arc::new(cluster);
    let machine = Machine::fresh(&cluster, "cp1");
    let cx = context(&machine);
    let steps = steps_of(&cluster, "cp1", &this_program(folder.path()));
    for step in &steps[..3] {
        step.apply(&cx).await.unwrap();
    }
    let listed = "registry.k8s.io/etcd:3.6.5-0\nregistry.k8s.io/kube-proxy:v1.34.2\n---\nregistry.k8s.io/kube-proxy:v1.34.2\n";
    machine.transport.on("config images list", Answer::ok(listed));
    let error = steps[3].apply(&cx).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "cp1: no archive in images/ has registry.k8s.io/etcd:3.6.5-0; pull them where there is a \
         network, and `ctr images export` them"
    );
}

#[test]
fn every_need_of_a_step_is_a_step_of_the_same_host() {
    let mut cluster = sample::external();
    cluster.hosts.push(sample::host("s1", 41, Role::Spare));
    cluster.hosts.push(sample::host("x1", 51, Role::External));
    for cluster in [cluster.clone(), sample::offline(cluster, "/a")] {
        let all = steps(&Arc::new(cluster.clone()), Path::new("/proc/self/exe"));
        let ids: Vec<_> = all.iter().map(|step| step.id()).collect();
        for step in &all {
            let at = ids.iter().position(|id| *id == step.id());
            for need in step.needs() {
                assert!(ids.iter().position(|id| *id == need) < at, "{need} before {}", step.id());
                assert_eq!(need.host, step.id().host);
            }
        }
        for host in &cluster.hosts {
            assert!(ids.contains(&StepId::new(&host.name, "prepared")));
        }
        let of = |host: &str| ids.iter().filter(|id| id.host == host).count();
        assert_eq!((of("x1"), of("e1")), (3, 4));
        assert!(of("s1") >= 6, "a spare takes any place");
    }
}
