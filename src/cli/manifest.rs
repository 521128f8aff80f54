//! `apiproxy manifest`: what runs the proxy on a node.

use std::path::PathBuf;

use minijinja::{Environment, UndefinedBehavior, context};

use super::args::DEFAULT_CONFIG;
use super::{CliError, output};
use crate::model::BackendAddress;

const STATIC_POD: &str = include_str!("../../packaging/static-pod.yaml");

/// The manifests.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Args {
    /// A static pod, for /etc/kubernetes/manifests of every worker.
    StaticPod(StaticPod),
}

/// Flags of `manifest static-pod`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --backend, everything is in the manifest; without, the pod reads the configuration file.

Examples:
  apiproxy manifest static-pod --backend 10.0.0.11:6443 --backend 10.0.0.12:6443 \\
      > /etc/kubernetes/manifests/apiproxy.yaml
  apiproxy manifest static-pod --config /etc/apiproxy/config.yaml")]
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
    /// The pod's namespace.
    #[arg(long, default_value = "kube-system")]
    namespace: String,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match args {
        Args::StaticPod(args) => output::emit(&static_pod(args)?),
    }
}

fn static_pod(args: &StaticPod) -> Result<String, CliError> {
    let config = args.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    for (flag, path) in [("--config", &config), ("--ca-file", &args.ca_file)] {
        if !path.is_absolute() {
            return Err(CliError::Usage(format!(
                "{flag} {}: a path on the node begins with `/`",
                path.display()
            )));
        }
    }
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    // Values are quoted as JSON, which is YAML: no value can break out of its place.
    templates.add_filter("quote", |text: String| serde_json::Value::String(text).to_string());
    let folder = config.parent().unwrap_or(&config);
    templates
        .render_str(
            STATIC_POD,
            context! {
                name => args.name.clone(),
                namespace => args.namespace.clone(),
                image => args.image.clone(),
                version => env!("CARGO_PKG_VERSION"),
                config => config.display().to_string(),
                folder => folder.display().to_string(),
                ca_file => args.ca_file.display().to_string(),
                backends => args.backends.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
        )
        .map(|manifest| manifest + "\n")
        .map_err(|error| CliError::Failed(format!("cannot render the manifest: {error}")))
}
