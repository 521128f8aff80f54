//! A double of kubelet: gets itself a certificate, registers its Node, says that it lives, and runs
//! static pods.

mod node;
mod pods;

pub(crate) use node::own_address;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::flags::{KUBELET, Line};
use crate::kubeconfig::{self, Identity};
use crate::pki;
use crate::schema;
use crate::token::{hex, random};
use crate::version::Version;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// The client certificate and its key, in one file.
const CERTIFICATE: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";

/// How often everything is looked at.
const PACE: Duration = Duration::from_millis(500);

pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let line = KUBELET.parse(arguments)?;
    let version = Version::own();
    if line.is_on("version") {
        println!("Kubernetes {version}");
        return Ok(());
    }
    if line.get("container-runtime").is_some() || line.get("network-plugin").is_some() {
        return Err("unknown flag: it went away with dockershim".to_owned());
    }
    let config = line.need("config")?;
    let text = fs::read_to_string(config)
        .map_err(|error| format!("failed to load Kubelet config file {config}: {error}"))?;
    let documents = schema::documents(&text, version)?;
    let [document] = &documents[..] else { return Err(format!("{config} has no single document")) };
    if document.kind != "KubeletConfiguration" {
        return Err(format!("{config} is a {}", document.kind));
    }
    let config = &document.value;
    endpoint_is_there(&line, config)?;
    fs::create_dir_all("/var/lib/kubelet/pki").map_err(|error| error.to_string())?;
    healthz(config)?;
    let port =
        TcpListener::bind("0.0.0.0:10250").map_err(|error| format!("port 10250: {error}"))?;
    std::thread::spawn(move || for _ in port.incoming() {});
    let name = node::name(&line);
    let manifests = config["staticPodPath"].as_str().unwrap_or_default().to_owned();
    // Static pods need no apiserver: they may be what serves it.
    std::thread::spawn(move || {
        loop {
            if !manifests.is_empty() {
                pods::reconcile(Path::new(&manifests));
            }
            std::thread::sleep(PACE);
        }
    });
    loop {
        if let Err(error) =
            bootstrap(&line, &name).and_then(|()| node::register(&line, &name, version))
        {
            eprintln!("{error}");
        }
        std::thread::sleep(PACE);
    }
}

/// kubelet ends when it finds no container runtime.
fn endpoint_is_there(line: &Line, config: &Value) -> Result<(), String> {
    let flag = line.get("container-runtime-endpoint");
    let endpoint =
        flag.or(config["containerRuntimeEndpoint"].as_str().filter(|text| !text.is_empty()));
    let endpoint = endpoint.unwrap_or("unix:///run/containerd/containerd.sock");
    let path =
        endpoint.strip_prefix("unix://").ok_or(format!("{endpoint} is no unix:// address"))?;
    if Path::new(path).exists() {
        Ok(())
    } else {
        Err(format!("unable to determine runtime API version: there is no {path}"))
    }
}

/// Answers on 127.0.0.1:10248.
fn healthz(config: &Value) -> Result<(), String> {
    let port = config["healthzPort"].as_u64().unwrap_or(10_248);
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("port {port}: {error}"))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(PACE));
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    Ok(())
}

/// Gets a client certificate by the bootstrap kubeconfig, if there is no kubeconfig yet.
fn bootstrap(line: &Line, name: &str) -> Result<(), String> {
    let kubeconfig = Path::new(line.need("kubeconfig")?);
    if kubeconfig.exists() {
        return Ok(());
    }
    let file = line.get("bootstrap-kubeconfig").unwrap_or_default();
    let text = fs::read_to_string(file)
        .map_err(|error| format!("there is no {}, and {file}: {error}", kubeconfig.display()))?;
    let api = kubeconfig::client(Path::new(file))?;
    let (key, request) = pki::request(&format!("system:node:{name}"), "system:nodes")?;
    let own = format!("node-csr-{}", hex(&random(16)));
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": { "name": own },
        "spec": {
            "request": STANDARD.encode(request), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    });
    api.done("POST", REQUESTS, &object)?;
    for _ in 0..60 {
        let found = api.need(&format!("{REQUESTS}/{own}"))?;
        if let Some(certificate) = found["status"]["certificate"].as_str() {
            let certificate = STANDARD.decode(certificate).map_err(|error| error.to_string())?;
            pki::write(Path::new(CERTIFICATE), &[&certificate, key.as_bytes()].concat(), 0o600)?;
            let (server, ca) = kubeconfig::cluster(&text)?;
            let text = kubeconfig::text(
                &server,
                &ca,
                "default-auth",
                &Identity::File(CERTIFICATE.to_owned()),
            );
            return pki::write(kubeconfig, text.as_bytes(), 0o600);
        }
        std::thread::sleep(PACE);
    }
    Err(format!("nobody signed {own}"))
}
