//! The proxy of a worker: its configuration, its first form as a transient unit, and its lasting one as
//! a static pod, which takes over from the unit.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::Serialize;

use crate::bootstrap::spec::{Cluster, Host, Role};
use crate::bootstrap::transport::File;
use crate::config::{API_VERSION, KIND};
use crate::manifest::{Source, StaticPod};

use super::kubeconfig::{Credential, Kubeconfig};
use super::{RenderError, kubeadm, paths, yaml};

/// Whom the proxy runs as, in both of its forms: systemd starts nobody who has no name.
pub const USER: &str = "apiproxy";

/// The number of that user, which is that of its image.
pub const USER_ID: u32 = 65532;

/// The generation of the transient unit. A static pod's is higher: it takes over from the unit, and
/// never the other way round.
pub const UNIT_GENERATION: u32 = 1;

/// The transient unit.
pub const UNIT: &str = "apiproxy-bootstrap.service";

/// The name of the static pod, without its generation.
const POD: &str = "apiproxy";

/// Its namespace.
const NAMESPACE: &str = "kube-system";

/// Open files for 16,384 connections of two sockets each.
const OPEN_FILES: u32 = 65536;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyConfiguration<'a> {
    api_version: &'static str,
    kind: &'static str,
    listen: [SocketAddr; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    backends: Vec<Backend<'a>>,
    health_check: HealthCheck,
    discovery: Discovery,
    admin: Admin,
}

#[derive(Serialize)]
struct Backend<'a> {
    name: &'a str,
    address: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
}

#[derive(Serialize)]
struct HealthCheck {
    tls: Tls,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tls {
    ca_file: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Discovery {
    kubernetes: Kubernetes,
    cache_file: &'static str,
}

#[derive(Serialize)]
struct Kubernetes {
    kubeconfig: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Admin {
    control_socket: &'static str,
}

/// The proxy's configuration on this host: every control plane with its zone, in the order of the file.
/// The same for both of its forms. What it names may come later, except the CA.
///
/// # Errors
/// If it cannot be written as YAML.
pub fn config(cluster: &Cluster, host: &Host) -> Result<File, RenderError> {
    let port = cluster.endpoint.port;
    let backends = cluster.with_role(Role::ControlPlane).map(|host| Backend {
        name: &host.name,
        address: SocketAddr::new(host.address, port),
        zone: host.zone.as_deref(),
    });
    let document = ProxyConfiguration {
        api_version: API_VERSION,
        kind: KIND,
        listen: [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
        zone: host.zone.as_deref(),
        backends: backends.collect(),
        health_check: HealthCheck { tls: Tls { ca_file: paths::PROXY_CA_FILE } },
        discovery: Discovery {
            kubernetes: Kubernetes { kubeconfig: paths::PROXY_KUBECONFIG },
            cache_file: paths::PROXY_CACHE,
        },
        admin: Admin { control_socket: paths::PROXY_SOCKET },
    };
    Ok(File::new(paths::PROXY_CONFIG, yaml::document("ProxyConfiguration", &document)?))
}

/// The cluster's CA (PEM) for the proxy.
pub fn ca(pem: &str) -> File {
    File::new(paths::PROXY_CA_FILE, pem)
}

/// Who the proxy is when it watches the list of apiservers; only it and root may read that. The
/// server in it is never asked: the proxy asks its own backends.
///
/// # Errors
/// If it cannot be written as YAML.
pub fn kubeconfig(
    cluster: &Cluster,
    ca: &str,
    credential: Credential,
) -> Result<File, RenderError> {
    let document = Kubeconfig {
        cluster: cluster.name.clone(),
        server: format!("https://{}", kubeadm::endpoint(cluster)),
        ca: ca.to_owned(),
        user: USER.to_owned(),
        credential,
    };
    Ok(document.file(paths::PROXY_KUBECONFIG)?.owned_by(USER, USER))
}

/// The user and the folders of the proxy, for `systemd-sysusers` and `systemd-tmpfiles --create`, in
/// this order. They outlive the unit, and the folder in `/run` every boot.
pub fn user_and_folders() -> [File; 2] {
    let user = format!(
        "# Written by apiproxy bootstrap.\nu {USER} {USER_ID} \"Load balancer for kube-apiservers\"\n"
    );
    let folders = format!(
        "# Written by apiproxy bootstrap.\nd /run/apiproxy 0700 {USER} {USER} -\n\
         d {} 0700 {USER} {USER} -\n",
        paths::PROXY_STATE
    );
    [File::new(paths::PROXY_USER, user), File::new(paths::PROXY_TMPFILES, folders)]
}

/// The command that starts the proxy before kubelet can: as a transient unit, which is forgotten when
/// it ends. It ends by itself when the static pod has taken over and its connections are gone.
pub fn unit_command() -> Vec<String> {
    let properties = [
        "Description=Load balancer for kube-apiservers on this node, until its static pod runs"
            .to_owned(),
        "Type=notify".to_owned(),
        "NotifyAccess=main".to_owned(),
        // It ends well when it has handed over.
        "Restart=on-failure".to_owned(),
        "RestartSec=1s".to_owned(),
        // As long as connections.drainTimeout, and a little more.
        "TimeoutStopSec=65s".to_owned(),
        "KillMode=mixed".to_owned(),
        "OOMScoreAdjust=-999".to_owned(),
        format!("LimitNOFILE={OPEN_FILES}"),
        "LimitCORE=0".to_owned(),
        "CapabilityBoundingSet=".to_owned(),
        "NoNewPrivileges=yes".to_owned(),
        "UMask=0077".to_owned(),
        "ProtectSystem=strict".to_owned(),
        format!("ReadWritePaths=/run/apiproxy {}", paths::PROXY_STATE),
        "ProtectHome=yes".to_owned(),
        "PrivateTmp=yes".to_owned(),
        "PrivateDevices=yes".to_owned(),
    ];
    let mut command = Vec::from(["systemd-run", "--collect", "--quiet"].map(str::to_owned));
    command.push(format!("--unit={UNIT}"));
    command.push(format!("--uid={USER}"));
    command.push(format!("--gid={USER}"));
    command.extend(properties.into_iter().map(|property| format!("--property={property}")));
    let program = [paths::PROXY_PROGRAM, "run", "--config", paths::PROXY_CONFIG, "--take-over"];
    command.extend(program.map(str::to_owned));
    command.extend(["--generation".to_owned(), UNIT_GENERATION.to_string()]);
    command
}

/// The static pod of this generation, with this image. It reads [`config`] and takes over from the
/// generation before, whichever form that has; then the old manifest is removed.
///
/// # Errors
/// If the image's name does not fit into the manifest.
pub fn static_pod(generation: u32, image: &str) -> Result<File, RenderError> {
    let pod = StaticPod {
        name: format!("{POD}-g{generation}"),
        generation: Some(generation),
        namespace: NAMESPACE.to_owned(),
        image: image.to_owned(),
        source: Source::File(PathBuf::from(paths::PROXY_CONFIG)),
        ca_file: PathBuf::from(paths::PROXY_CA_FILE),
        state_folder: Some(PathBuf::from(paths::PROXY_STATE)),
    };
    Ok(File::new(format!("{}/{POD}-g{generation}.yaml", paths::MANIFESTS), pod.render()?)
        .mode(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::render::fixture;
    use crate::config;

    /// The proxy itself reads it, with a CA that is there.
    #[test]
    fn the_proxy_takes_its_configuration() {
        let cluster = fixture::cluster("v1.34.2");
        let worker = cluster.host("w1").unwrap();
        let file = super::config(&cluster, worker).unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap();
        let key = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        std::fs::write(ca.path(), key.cert.pem()).unwrap();
        let text = String::from_utf8(file.content).unwrap();
        let text = text.replace(paths::PROXY_CA_FILE, ca.path().to_str().unwrap());
        let read = config::parse("config.yaml", &text, "/".as_ref(), &config::Overrides::default());
        let read = read.unwrap_or_else(|faults| panic!("{faults}\n{text}"));
        let backends: Vec<_> =
            read.clusters[0].backends.iter().map(|b| b.address.to_string()).collect();
        assert_eq!(backends, ["10.0.0.11:6443", "10.0.0.12:6443", "10.0.0.13:6443"]);
        assert_eq!(read.clusters[0].zone.as_ref().map(ToString::to_string).as_deref(), Some("a"));
        assert_eq!(
            read.clusters[0].backends[1].zone.as_ref().map(ToString::to_string).as_deref(),
            Some("b")
        );
        assert_eq!(read.admin.control_socket.as_deref(), Some(paths::PROXY_SOCKET.as_ref()));
        assert_eq!(
            read.clusters[0].discovery.kubeconfig.as_deref(),
            Some(paths::PROXY_KUBECONFIG.as_ref())
        );
        assert_eq!(
            read.clusters[0].discovery.cache_file.as_deref(),
            Some(paths::PROXY_CACHE.as_ref())
        );
    }

    #[test]
    fn the_static_pod_is_newer_than_the_unit_and_may_keep_its_cache() {
        let file = static_pod(UNIT_GENERATION + 1, "apiproxy:0.1.0").unwrap();
        assert_eq!(file.path, "/etc/kubernetes/manifests/apiproxy-g2.yaml");
        let pod: serde_json::Value =
            serde_saphyr::from_str(std::str::from_utf8(&file.content).unwrap()).unwrap();
        let container = &pod["spec"]["containers"][0];
        assert_eq!(
            container["args"],
            serde_json::json!([
                "run",
                "--take-over",
                "--generation",
                "2",
                "--config",
                paths::PROXY_CONFIG
            ])
        );
        let mounts: Vec<_> = container["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mount| (mount["mountPath"].as_str().unwrap(), mount["readOnly"] == true))
            .collect();
        let folders =
            [(paths::PROXY_FOLDER, true), (paths::PROXY_STATE, false), ("/run/apiproxy", false)];
        assert_eq!(mounts, folders);
    }
}
