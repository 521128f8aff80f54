//! A double of kube-controller-manager: signs certificates of kubelets, signs `cluster-info` with the
//! tokens there are, takes old tokens away, and says which nodes are no longer heard of.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::Client;
use crate::flags::{KUBE_CONTROLLER_MANAGER, Line};
use crate::kubeconfig;
use crate::pki;
use crate::token::{SECRETS, Token, date, hex, now, random};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// What is signed here.
const SIGNERS: [&str; 2] =
    ["kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kube-apiserver-client"];

pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let line = KUBE_CONTROLLER_MANAGER.parse(arguments)?;
    for flag in [
        "kubeconfig",
        "cluster-signing-cert-file",
        "cluster-signing-key-file",
        "root-ca-file",
        "service-account-private-key-file",
    ] {
        let file = line.need(flag)?;
        if !Path::new(file).is_file() {
            return Err(format!("--{flag}: there is no {file}"));
        }
    }
    let grace = line.get("node-monitor-grace-period").unwrap_or("40s");
    let grace = humantime::parse_duration(grace)
        .map_err(|error| format!("--node-monitor-grace-period: {error}"))?;
    let api = kubeconfig::client(Path::new(line.need("kubeconfig")?))?;
    loop {
        for result in
            [sign_requests(&api, &line), sign_cluster_info(&api), judge_nodes(&api, grace)]
        {
            if let Err(error) = result {
                eprintln!("{error}");
            }
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn items(api: &Client, path: &str) -> Result<Vec<Value>, String> {
    let list = api.need(path)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn sign_requests(api: &Client, line: &Line) -> Result<(), String> {
    for mut request in items(api, REQUESTS)? {
        if !request["status"]["certificate"].is_null() || !is_approved(&request) {
            continue;
        }
        let name = request["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let pem = STANDARD
            .decode(request["spec"]["request"].as_str().unwrap_or_default())
            .unwrap_or_default();
        let certificate = sign(line, &pem)?;
        request["status"]["certificate"] = json!(STANDARD.encode(certificate));
        api.done("PUT", &format!("{REQUESTS}/{name}/status"), &request)?;
    }
    Ok(())
}

/// By hand, or because a joining node or a node itself asks for a kubelet's certificate.
fn is_approved(request: &Value) -> bool {
    let signer = request["spec"]["signerName"].as_str().unwrap_or_default();
    let conditions = request["status"]["conditions"].as_array().into_iter().flatten();
    let by_hand = conditions.into_iter().any(|condition| condition["type"] == "Approved");
    let mut groups = request["spec"]["groups"].as_array().into_iter().flatten();
    let of_node = groups.any(|group| group == "system:bootstrappers" || group == "system:nodes");
    SIGNERS.contains(&signer) && (by_hand || signer == SIGNERS[0] && of_node)
}

fn sign(line: &Line, request: &[u8]) -> Result<Vec<u8>, String> {
    let folder = std::env::temp_dir().join(format!("double-csr-{}", hex(&random(8))));
    let told = |error: std::io::Error| error.to_string();
    pki::write(&folder.join("request"), request, 0o600)?;
    pki::write(
        &folder.join("extensions"),
        b"keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n",
        0o600,
    )?;
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-req", "-days", "365", "-in"]).arg(folder.join("request"));
    openssl.arg("-extfile").arg(folder.join("extensions"));
    openssl.args([
        "-CA",
        line.need("cluster-signing-cert-file")?,
        "-CAkey",
        line.need("cluster-signing-key-file")?,
    ]);
    let output = openssl
        .args(["-set_serial", &format!("0x{}", hex(&random(8)))])
        .stdin(Stdio::null())
        .output();
    fs::remove_dir_all(&folder).map_err(told)?;
    let output = output.map_err(told)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn sign_cluster_info(api: &Client) -> Result<(), String> {
    let secrets = items(api, SECRETS)?;
    let is_token = |secret: &&Value| secret["type"] == "bootstrap.kubernetes.io/token";
    let mut tokens = Vec::new();
    for secret in secrets.iter().filter(is_token) {
        if let Some(token) = Token::of_object(secret, now()) {
            tokens.push(token);
        } else {
            let name = secret["metadata"]["name"].as_str().unwrap_or_default();
            api.done("DELETE", &format!("{SECRETS}/{name}"), &json!({}))?;
        }
    }
    let Some(mut info) = api.get(CLUSTER_INFO)? else { return Ok(()) };
    let text = info["data"]["kubeconfig"].as_str().unwrap_or_default().to_owned();
    let mut data = json!({ "kubeconfig": text });
    for token in tokens {
        data[format!("jws-kubeconfig-{}", token.id)] = json!(token.sign(&text));
    }
    if info["data"] == data {
        return Ok(());
    }
    info["data"] = data;
    api.done("PUT", CLUSTER_INFO, &info).map(drop)
}

/// A node whose lease was not renewed for so long is in a state that nobody knows.
fn judge_nodes(api: &Client, grace: Duration) -> Result<(), String> {
    let leases = items(api, LEASES)?;
    for mut node in items(api, "/api/v1/nodes")? {
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let lease = leases.iter().find(|lease| lease["metadata"]["name"] == name.as_str());
        let renewed =
            lease.and_then(|lease| lease["spec"]["renewTime"].as_str()).unwrap_or_default();
        let Ok(renewed) = humantime::parse_rfc3339(renewed) else { continue };
        if renewed.elapsed().is_ok_and(|since| since < grace) {
            continue;
        }
        let Some(conditions) = node["status"]["conditions"].as_array_mut() else { continue };
        let ready =
            conditions.iter_mut().find(|c| c["type"] == "Ready" && c["status"] != "Unknown");
        if let Some(ready) = ready {
            ready["status"] = json!("Unknown");
            ready["reason"] = json!("NodeStatusUnknown");
            ready["message"] = json!("Kubelet stopped posting node status.");
            ready["lastTransitionTime"] = json!(date(now()));
            api.done("PUT", &format!("/api/v1/nodes/{name}/status"), &node)?;
        }
    }
    Ok(())
}
