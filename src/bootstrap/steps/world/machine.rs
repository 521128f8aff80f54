//! What a host answers: kubeadm, kubectl, etcd and the looks of the steps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Sim, SimNode, VERSION};
use crate::bootstrap::kubernetes::Member;
use crate::bootstrap::spec::{Host, Role};
use crate::bootstrap::transport::recording::Recording;
use crate::bootstrap::transport::{Command, File, Output};

const PKI: &str = "/etc/kubernetes/pki/";
const TOKEN: &str = "abcdef.0123456789abcdef";

fn ok(text: impl Into<Vec<u8>>) -> Output {
    Output { code: 0, stdout: text.into(), stderr: Vec::new() }
}

fn fails(code: i32, text: &str) -> Output {
    Output { code, stdout: Vec::new(), stderr: text.as_bytes().to_vec() }
}

pub(super) fn answer(sim: &mut Sim, host: &Host, machine: &Recording, command: &Command) -> Output {
    let words: Vec<_> = command.argv.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sh", _, script, ..] => shell(sim, host, machine, script, command),
        ["kubeadm", rest @ ..] => kubeadm(sim, host, machine, rest),
        ["kubectl", "--kubeconfig", "/dev/null", ..] => etcd(sim, host, &words, command),
        ["kubectl", _, _, _, _, rest @ ..] => {
            if sim.serving.contains(&host.name) {
                kubectl(sim, rest, command)
            } else {
                fails(1, "The connection to the server was refused")
            }
        }
        ["rm", "-f" | "-rf", "--", paths @ ..] => {
            for path in paths {
                machine.remove(path);
            }
            ok("")
        }
        ["systemd-run", ..] => {
            assert!(machine.file("/etc/apiproxy/config.yaml").is_some(), "no configuration yet");
            sim.proxies.insert(host.name.clone(), 1);
            ok("")
        }
        ["install", "kubelet", version] => {
            if let Some(node) = sim.nodes.get_mut(&host.name) {
                (*version).clone_into(&mut node.kubelet);
            }
            ok("")
        }
        [
            "true"
            | "install"
            | "systemctl"
            | "find"
            | "systemd-tmpfiles"
            | "/usr/local/bin/apiproxy",
            ..,
        ] => ok(""),
        _ => fails(127, &format!("not found: {}", words.join(" "))),
    }
}

fn kubeadm(sim: &mut Sim, host: &Host, machine: &Recording, words: &[&str]) -> Output {
    let document = machine.text("/etc/kubernetes/kubeadm.yaml").unwrap_or_default();
    match words {
        ["token", "create", ..] if sim.serving.contains(&host.name) => ok(format!("{TOKEN}\n")),
        ["upgrade", "apply", "--yes", version] => {
            (*version).clone_into(&mut sim.configured);
            if let Some(node) = sim.nodes.get_mut(&host.name) {
                (*version).clone_into(&mut node.api_server);
            }
            ok("")
        }
        ["init", "phase", "upload-config" | "control-plane", _, ..] => ok(""),
        ["upgrade", "node"] => {
            let version = sim.configured.clone();
            if let Some(node) = sim.nodes.get_mut(&host.name) {
                node.api_server = version;
            }
            ok("")
        }
        ["init", "phase", "upload-certs", ..] => {
            let key = document.strip_prefix(&format!("init {} ", host.name)).unwrap_or_default();
            assert_eq!(key.len(), 64, "{document}");
            ok("")
        }
        ["certs", "renew", "all"] => {
            let is_leaf = |path: &String| path.starts_with(PKI) && !path.ends_with("ca.crt");
            for path in machine.paths().into_iter().filter(is_leaf) {
                machine.put(File::new(path, sim.renewed.clone()));
            }
            ok("")
        }
        ["config", "validate", "--config", "/etc/kubernetes/kubeadm.yaml"] => ok("ok"),
        ["init", rest @ ..] => init(sim, host, machine, rest),
        ["join", ..] => join(sim, host, machine, &document),
        ["reset", "--force", ..] => {
            for path in ["pki", "manifests", "admin.conf", "kubelet.conf"] {
                machine.remove(&format!("/etc/kubernetes/{path}"));
            }
            sim.serving.remove(&host.name);
            // All containers of the host go.
            sim.proxies.remove(&host.name).filter(|generation| *generation == 1).inspect(
                |generation| {
                    sim.proxies.insert(host.name.clone(), *generation);
                },
            );
            ok("")
        }
        _ => fails(1, "the connection to the server was refused"),
    }
}

fn init(sim: &mut Sim, host: &Host, machine: &Recording, words: &[&str]) -> Output {
    let there = machine.file("/etc/kubernetes/manifests/kube-apiserver.yaml").is_some();
    if there && !words.iter().any(|word| word.starts_with("--ignore-preflight-errors=")) {
        return fails(1, "[ERROR FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml]");
    }
    control_plane_files(sim, machine);
    if sim.stops_at.take() == Some("init") {
        return fails(137, "Killed");
    }
    if sim.members.is_empty() {
        add_member(sim, host, true, false);
    }
    sim.serving.insert(host.name.clone());
    register(sim, host, true);
    ok("")
}

fn join(sim: &mut Sim, host: &Host, machine: &Recording, document: &str) -> Output {
    let words: Vec<_> = document.split(' ').collect();
    let ["join", what, name, server, TOKEN] = words.as_slice() else {
        return fails(1, "couldn't validate the identity of the API Server");
    };
    assert_eq!(*name, host.name);
    if machine.file("/etc/kubernetes/kubelet.conf").is_some() {
        return fails(1, "[ERROR FileAvailable--etc-kubernetes-kubelet.conf]");
    }
    let entry = machine.text("/etc/hosts").unwrap_or_default();
    if *what == "worker" {
        assert!(entry.contains("127.0.0.1 api.prod"), "{entry}");
        assert_eq!(*server, "api.prod:6443");
        assert!(sim.proxies.contains_key(&host.name), "no proxy");
        machine.put(File::new("/etc/kubernetes/kubelet.conf", "x"));
        machine.put(File::new("/etc/kubernetes/pki/ca.crt", sim.ca.clone()));
        if sim.stops_at.take() == Some("kubelet") {
            return fails(137, "Killed");
        }
        register(sim, host, false);
        return ok("");
    }
    assert!(
        !entry.contains("127.0.0.1 api.prod"),
        "its own apiserver does not answer yet: {entry}"
    );
    let live: IpAddr =
        server.rsplit_once(':').unwrap_or_default().0.parse().unwrap_or(host.address);
    assert_ne!(live, host.address);
    if sim.members.iter().any(|member| sim.sick.contains(&member.id)) {
        return fails(1, "error execution phase check-etcd: etcd cluster is not healthy");
    }
    control_plane_files(sim, machine);
    if sim.stops_at == Some("manifests") {
        sim.stops_at = None;
        return fails(137, "Killed");
    }
    if sim.members.iter().any(|member| member.is_of(&host.name, host.address)) {
        return fails(1, "etcdserver: Peer URLs already exists");
    }
    let stops = sim.stops_at.take() == Some("learner");
    add_member(sim, host, !stops, stops || sim.leaves_learner);
    if stops {
        return fails(137, "Killed");
    }
    sim.serving.insert(host.name.clone());
    register(sim, host, true);
    ok("")
}

fn control_plane_files(sim: &Sim, machine: &Recording) {
    for file in ["kubelet.conf", "admin.conf", "manifests/kube-apiserver.yaml"] {
        machine.put(File::new(format!("/etc/kubernetes/{file}"), "x"));
    }
    machine.put(File::new("/etc/kubernetes/pki/ca.crt", sim.ca.clone()));
}

fn register(sim: &mut Sim, host: &Host, control_plane: bool) {
    let node = SimNode {
        control_plane,
        ready: true,
        address: host.address,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        taints: BTreeMap::new(),
        cordoned: false,
        kubelet: VERSION.to_owned(),
        api_server: VERSION.to_owned(),
    };
    sim.nodes.insert(host.name.clone(), node);
}

fn add_member(sim: &mut Sim, host: &Host, started: bool, is_learner: bool) {
    sim.last_member += 1;
    let url = |port| format!("https://{}:{port}", host.address);
    sim.members.push(Member {
        id: sim.last_member,
        name: if started { host.name.clone() } else { String::new() },
        peer_urls: vec![url(2380)],
        client_urls: if started { vec![url(2379)] } else { Vec::new() },
        is_learner,
    });
}

fn etcd(sim: &mut Sim, host: &Host, words: &[&str], command: &Command) -> Output {
    if !sim.serving.contains(&host.name) {
        return fails(1, "connection refused");
    }
    let body = command.stdin.as_ref().map(|body| body.0.clone()).unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let id: u64 = body["ID"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
    let path = words.iter().find(|word| word.starts_with("/v3/")).copied().unwrap_or_default();
    match path {
        "/v3/maintenance/status" => {
            let own = sim.members.iter().find(|member| member.is_of(&host.name, host.address));
            let leader = sim.members.first().map_or(0, |first| first.id).to_string();
            let id = own.map_or(0, |own| own.id).to_string();
            ok(serde_json::json!({
                "header": { "member_id": id }, "version": "3.6.5", "dbSize": "20480", "leader": leader,
            })
            .to_string())
        }
        "/v3/cluster/member/list" => ok(members(sim)),
        "/v3/cluster/member/remove" => {
            sim.members.retain(|member| member.id != id);
            ok("{}")
        }
        "/v3/cluster/member/promote" => {
            let member = sim.members.iter_mut().find(|member| member.id == id);
            member.map_or_else(
                || fails(1, "not found"),
                |member| {
                    member.is_learner = false;
                    ok("{}")
                },
            )
        }
        other => fails(1, other),
    }
}

fn members(sim: &Sim) -> String {
    let member = |member: &Member| {
        serde_json::json!({
            "ID": member.id.to_string(), "name": member.name, "peerURLs": member.peer_urls,
            "clientURLs": member.client_urls, "isLearner": member.is_learner,
        })
    };
    serde_json::json!({ "members": sim.members.iter().map(member).collect::<Vec<_>>() }).to_string()
}

fn nodes(sim: &Sim, only: Option<&str>) -> String {
    let item = |(name, node): (&String, &SimNode)| {
        let mut labels = node.labels.clone();
        if node.control_plane {
            labels.insert("node-role.kubernetes.io/control-plane".to_owned(), String::new());
        }
        let taints = node.taints.iter().filter_map(|(key, value)| {
            let (key, effect) = key.rsplit_once(':')?;
            Some(serde_json::json!({ "key": key, "value": value, "effect": effect }))
        });
        let ready = if node.ready { "True" } else { "Unknown" };
        serde_json::json!({
            "metadata": { "name": name, "labels": labels, "annotations": node.annotations },
            "spec": { "unschedulable": node.cordoned, "taints": taints.collect::<Vec<_>>() },
            "status": {
                "conditions": [{ "type": "Ready", "status": ready }],
                "addresses": [{ "type": "InternalIP", "address": node.address }],
                "nodeInfo": { "kubeletVersion": node.kubelet },
            },
        })
    };
    let found = sim.nodes.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    serde_json::json!({ "items": found.map(item).collect::<Vec<_>>() }).to_string()
}

fn kubectl(sim: &mut Sim, words: &[&str], command: &Command) -> Output {
    match words {
        ["get", "nodes", ..] => ok(nodes(sim, None)),
        ["delete", "node", name, ..] => {
            sim.nodes.remove(*name);
            ok("")
        }
        ["diff", ..] if sim.addons => ok(""),
        ["diff", ..] => fails(1, ""),
        ["apply", ..] => {
            sim.addons = true;
            ok("")
        }
        ["create", "-f", "-", ..] => {
            let body = command.stdin.as_ref().map(|body| body.0.clone()).unwrap_or_default();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            assert_eq!(body["spec"]["signerName"], "kubernetes.io/kube-apiserver-client");
            ok(format!("{}x", body["metadata"]["generateName"].as_str().unwrap_or_default()))
        }
        ["get", "csr", ..] => ok(STANDARD.encode(&sim.ca)),
        ["label", "node", name, label] => {
            let label = label.trim_end_matches('-');
            if let Some(node) = sim.nodes.get_mut(*name) {
                node.labels.remove(label);
            }
            ok("")
        }
        ["cordon" | "uncordon", name] => {
            let cordoned = words[0] == "cordon";
            if let Some(node) = sim.nodes.get_mut(*name) {
                node.cordoned = cordoned;
            }
            ok("")
        }
        ["--server", server, "get", "--raw", "/version"] => {
            let address = server.trim_start_matches("https://").trim_end_matches(":6443");
            let node = sim.nodes.values().find(|node| node.address.to_string() == address);
            let version = node.map(|node| node.api_server.clone()).unwrap_or_default();
            ok(serde_json::json!({ "gitVersion": version }).to_string())
        }
        ["get", "configmap", ..] => ok(format!(
            "clusterName: prod\nkubernetesVersion: {}\nscheduler: {{}}\n",
            sim.configured
        )),
        [verb @ ("label" | "annotate" | "taint"), "node", name, "--overwrite", words @ ..] => {
            let Some(node) = sim.nodes.get_mut(*name) else { return fails(1, "NotFound") };
            let there = match *verb {
                "label" => &mut node.labels,
                "annotate" => &mut node.annotations,
                _ => &mut node.taints,
            };
            for word in words {
                change(there, word, *verb == "taint");
            }
            ok("")
        }
        ["drain", ..] => match sim.undrainable {
            Some(complaint) => fails(1, complaint),
            None => ok(""),
        },
        ["certificate" | "delete", ..] => ok(""),
        _ => fails(1, &format!("kubectl: {}", words.join(" "))),
    }
}

/// `NAME=VALUE`, `NAME-`, and of taints `KEY=VALUE:EFFECT`, `KEY:EFFECT` and `KEY:EFFECT-`.
fn change(there: &mut BTreeMap<String, String>, word: &str, is_taint: bool) {
    if let Some(name) = word.strip_suffix('-') {
        there.remove(name);
        return;
    }
    let (pair, effect) = match word.rsplit_once(':') {
        Some((pair, effect)) if is_taint => (pair, format!(":{effect}")),
        _ => (word, String::new()),
    };
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    there.insert(format!("{name}{effect}"), value.to_owned());
}

/// What `part` prints.
fn part(name: &str, text: Option<String>) -> String {
    let code = i32::from(text.is_none());
    format!("\u{1e}{name}\n{}\u{1f}{code}\n", text.unwrap_or_default())
}

fn shell(
    sim: &mut Sim,
    host: &Host,
    machine: &Recording,
    script: &str,
    command: &Command,
) -> Output {
    let arguments = &command.argv[4..];
    if script.contains("told readyz") {
        return ok(look_at_control_plane(sim, host, machine));
    }
    if script.contains("part certificate") {
        return ok(look_at_worker(sim, host, machine, arguments));
    }
    if script.contains("member $url") {
        let is_well = |url: &String| {
            let of = sim.members.iter().find(|member| member.client_urls.contains(url));
            of.is_some_and(|member| !sim.sick.contains(&member.id))
        };
        let health = |url: &String| is_well(url).then(|| r#"{"health":"true"}"#.to_owned());
        let parts = arguments.iter().map(|url| part(&format!("member {url}"), health(url)));
        return ok(parts.collect::<String>());
    }
    if script.contains("inside()") {
        let files = machine.paths().into_iter().filter(|path| path.starts_with(PKI));
        return ok(files
            .map(|path| part(&format!("pem {path}"), machine.text(&path)))
            .collect::<String>());
    }
    if script.contains("settle the data of etcd") {
        if let Some(member) = machine.text("/var/lib/etcd/member")
            && arguments[1] == "aside"
        {
            machine.put(File::new("/var/lib/etcd-removed-20261201T000000Z", member));
        }
        machine.remove("/var/lib/etcd/member");
        return ok("");
    }
    if script.contains("images import") {
        return ok("");
    }
    let there = arguments.iter().filter(|path| machine.file(path).is_some());
    ok(there.cloned().collect::<Vec<_>>().join("\n"))
}

fn look_at_control_plane(sim: &Sim, host: &Host, machine: &Recording) -> String {
    let mut report = String::new();
    for file in ["kubelet.conf", "admin.conf", "manifests/kube-apiserver.yaml"] {
        report += &part(&format!("file {file}"), machine.text(&format!("/etc/kubernetes/{file}")));
    }
    report += &part("marker", machine.text("/var/lib/apiproxy/bootstrap/control-plane"));
    report += &part("busy", None);
    report += &part("hosts", machine.text("/etc/hosts"));
    if machine.file("/etc/kubernetes/admin.conf").is_some() {
        let serves = sim.serving.contains(&host.name);
        report += &part("readyz", serves.then(|| "ok".to_owned()));
        report += &part("node", serves.then(|| nodes(sim, Some(&host.name))));
        report += &part("members", serves.then(|| members(sim)));
    }
    report
}

/// The apiservers, as a proxy shows them.
fn servers(sim: &Sim) -> Vec<serde_json::Value> {
    let planes = sim.nodes.iter().filter(|(_, node)| node.control_plane);
    let server = |(name, node): (&String, &SimNode)| {
        let serves = sim.serving.contains(name);
        let (state, message) =
            if serves { ("ready", "answers 200") } else { ("dead", "no answer") };
        let address = std::net::SocketAddr::new(node.address, 6443);
        serde_json::json!({
            "name": name, "address": address, "state": state, "reason": { "message": message },
        })
    };
    planes.map(server).collect()
}

fn look_at_worker(sim: &mut Sim, host: &Host, machine: &Recording, files: &[String]) -> String {
    assert!(!host.roles.contains(&Role::ControlPlane));
    let prefix = "/etc/kubernetes/manifests/apiproxy-g";
    let pods: Vec<_> =
        machine.paths().into_iter().filter(|path| path.starts_with(prefix)).collect();
    let generation = |path: &String| path[prefix.len()..].strip_suffix(".yaml")?.parse().ok();
    // kubelet has started the newest pod in the meantime, and it has taken over.
    if let Some(newest) = pods.iter().filter_map(generation).max()
        && !sim.stuck.contains(&host.name)
    {
        sim.proxies.insert(host.name.clone(), newest);
    }
    let status = sim.proxies.get(&host.name).map(|generation| {
        serde_json::json!({ "usable": !sim.serving.is_empty(), "handoverGeneration": generation,
            "version": "0.1.0", "backends": servers(sim),
        })
        .to_string()
    });
    let mut report = part("kubelet", machine.text("/etc/kubernetes/kubelet.conf"));
    report += &part("marker", machine.text("/var/lib/apiproxy/bootstrap/worker"));
    report += &part("busy", None);
    report += &part("hosts", machine.text("/etc/hosts"));
    report += &part("program", Some("0123456789abcdef0123  /usr/local/bin/apiproxy".to_owned()));
    report += &part("status", status);
    report += &part("ca", machine.text("/etc/kubernetes/pki/ca.crt"));
    report += &part("certificate", machine.text("/etc/apiproxy/discovery.conf"));
    for file in files {
        report += &part(&format!("content {file}"), machine.text(file));
    }
    for pod in pods {
        report += &part(&format!("pod {pod}"), machine.text(&pod));
    }
    report
}
