//! `apiproxy manifest`: what runs the proxy on a node.

mod replace;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::args::DEFAULT_CONFIG;
use super::{CliError, output};
use crate::manifest::{self, ManifestError, Source};
use crate::model::BackendAddress;

/// The hardened units of systemd; packaging/ has them as files too.
const SERVICE: &str = include_str!("../../packaging/apiproxy.service");
const SOCKET: &str = include_str!("../../packaging/apiproxy.socket");

/// The manifests.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Args {
    /// A static pod, for /etc/kubernetes/manifests of every worker.
    StaticPod(Box<StaticPod>),
    /// Who may watch the EndpointSlices, for `discovery.kubernetes`, and how to make its kubeconfig.
    Rbac(Rbac),
    /// The units of systemd, for nodes that run the proxy without a container.
    Systemd(Systemd),
}

/// Flags of `manifest rbac`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: apiproxy manifest rbac | kubectl apply -f -")]
pub(super) struct Rbac {
    /// The namespace of the ServiceAccount.
    #[arg(long, default_value = "kube-system")]
    namespace: String,
}

/// Flags of `manifest systemd`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The Debian package installs both. By hand:
  apiproxy manifest systemd --unit service > /etc/systemd/system/apiproxy.service
  apiproxy manifest systemd --unit socket > /etc/systemd/system/apiproxy.socket    # optional
  systemctl daemon-reload && systemctl enable --now apiproxy.service")]
pub(super) struct Systemd {
    /// The unit to print [default: both, each under a line with its name].
    #[arg(long, value_enum)]
    unit: Option<Unit>,
}

/// A unit of systemd.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Unit {
    /// apiproxy.service.
    Service,
    /// apiproxy.socket.
    Socket,
}

/// Flags of `manifest static-pod`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --backend, everything is in the manifest; without, the pod reads the configuration file.
With --from-*, the configuration and the manifest are printed that replace what an installer left on
a worker, with the line that swaps them and the way back.

Examples:
  apiproxy manifest static-pod --backend 10.0.0.11:6443 --backend 10.0.0.12:6443 \\
      > /etc/kubernetes/manifests/apiproxy.yaml
  apiproxy manifest static-pod --config /etc/apiproxy/config.yaml
  apiproxy manifest static-pod --generation 2 --image apiproxy:0.2.0 \\
      > /etc/kubernetes/manifests/apiproxy-g2.yaml
  apiproxy manifest static-pod --from-haproxy /etc/kubekey/haproxy/haproxy.cfg
  apiproxy manifest static-pod --from-nginx /etc/nginx/nginx.conf --ca-file /etc/kubernetes/ssl/ca.crt
  apiproxy manifest static-pod --from-kubeconfig /etc/kubernetes/kubelet.conf")]
pub(super) struct StaticPod {
    /// The image, as the node's container runtime knows it.
    #[arg(long, default_value = concat!("apiproxy:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// The configuration file on the node.
    #[arg(long, short, value_name = "FILE", conflicts_with = "backends")]
    config: Option<PathBuf>,
    /// A kube-apiserver; repeat for each.
    #[arg(long = "backend", short, value_name = "HOST:PORT")]
    backends: Vec<BackendAddress>,
    /// The cluster's CA on the node.
    #[arg(long, value_name = "FILE", default_value = "/etc/kubernetes/pki/ca.crt")]
    ca_file: PathBuf,
    /// The pod's name; the node's name is appended by kubelet.
    #[arg(long, default_value = "apiproxy")]
    name: String,
    /// Take over from the pod of the generation before, which runs beside this one until its manifest is
    /// removed: the pod is called NAME-gN. Put N one higher with every upgrade.
    #[arg(long, value_name = "N")]
    generation: Option<u32>,
    /// The pod's namespace.
    #[arg(long, default_value = "kube-system")]
    namespace: String,
    #[command(flatten)]
    replace: replace::Args,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match args {
        Args::StaticPod(args) => match args.replace.source() {
            Some(source) => output::emit(&replace::print(args, &source)?),
            None => output::emit(&static_pod(args)?),
        },
        Args::Rbac(args) => output::emit(&rbac(args)?),
        Args::Systemd(args) => output::emit(&match args.unit {
            Some(Unit::Service) => SERVICE.to_owned(),
            Some(Unit::Socket) => SOCKET.to_owned(),
            None => format!("### apiproxy.service\n{SERVICE}\n### apiproxy.socket\n{SOCKET}"),
        }),
    }
}

fn static_pod(args: &StaticPod) -> Result<String, CliError> {
    let config = args.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    folder("--config", &config)?;
    folder("--ca-file", &args.ca_file)?;
    let pod = match args.generation {
        Some(generation) => format!("{}-g{generation}", args.name),
        None => args.name.clone(),
    };
    for (flag, name) in [("--name", &pod), ("--namespace", &args.namespace)] {
        check_label(flag, name)?;
    }
    let distinct: HashSet<_> = args.backends.iter().collect();
    if distinct.len() < args.backends.len() {
        return Err(CliError::Usage("--backend: the same address is given twice".to_owned()));
    }
    let backends: Vec<_> = args.backends.iter().map(ToString::to_string).collect();
    let source =
        if backends.is_empty() { Source::File(config) } else { Source::Backends(backends) };
    let pod = manifest::StaticPod {
        name: pod,
        generation: args.generation,
        namespace: args.namespace.clone(),
        image: args.image.clone(),
        source,
        ca_file: args.ca_file.clone(),
        state_folder: None,
    };
    pod.render().map_err(|error| failed(&error))
}

fn rbac(args: &Rbac) -> Result<String, CliError> {
    check_label("--namespace", &args.namespace)?;
    manifest::rbac(&args.namespace).map_err(|error| failed(&error))
}

fn failed(error: &ManifestError) -> CliError {
    CliError::Failed(error.to_string())
}

fn folder<'a>(flag: &str, file: &'a Path) -> Result<&'a Path, CliError> {
    manifest::folder(file).map_err(|error| CliError::Usage(format!("{flag} {error}")))
}

fn check_label(flag: &str, name: &str) -> Result<(), CliError> {
    manifest::check_name(name).map_err(|error| CliError::Usage(format!("{flag}: {error}")))
}
