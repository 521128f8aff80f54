//! `apiproxy bootstrap`: from bare hosts to a highly available cluster.

mod access;
mod apply;
mod artifacts;
mod certs;
mod check;
mod document;
mod etcd;
mod file;
mod fleet;
mod job;
mod kubeconfig;
mod leaving;
mod new;
mod plan;
mod progress;
mod prompt;
mod replace;
mod report;
mod reset;
mod schema;
mod status;
mod upgrade;

use super::CliError;

/// The commands of `bootstrap`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Begin with an example, and put your hosts in:
  apiproxy bootstrap new --name prod --output cluster.yaml
  apiproxy bootstrap schema > cluster.schema.json     # editors complete and check the file with it
Then see whether the hosts are fit and what would be done, and do it:
  apiproxy bootstrap check --file cluster.yaml
  apiproxy bootstrap plan --file cluster.yaml
  apiproxy bootstrap apply --file cluster.yaml
And from then on:
  apiproxy bootstrap status --file cluster.yaml       # exit 1 when something is not well
  apiproxy bootstrap kubeconfig --file cluster.yaml   # the admin's, for kubectl
  apiproxy bootstrap certs renew --file cluster.yaml  # what ends within four months
  apiproxy bootstrap replace cp2 s1 --write           # a spare takes the place of a host, dead or alive
  apiproxy bootstrap upgrade --to v1.35.1 --write")]
pub(super) enum Args {
    /// Print a commented cluster file to begin with.
    New(new::Args),
    /// Look whether the hosts are fit, each finding with its remedy. Changes nothing without --fix.
    Check(check::Args),
    /// What an air-gapped directory of programs and images has to hold.
    #[command(subcommand)]
    Artifacts(artifacts::Args),
    /// Show what `apply` would change on which host, and why. Changes nothing.
    Plan(plan::Args),
    /// Make the hosts what the file says. Can be run again at any time.
    Apply(apply::Args),
    /// Let a spare take the place of a host, dead or alive: a control plane, an etcd member or a worker.
    Replace(replace::Args),
    /// Bring the cluster to another version of Kubernetes, node by node.
    Upgrade(upgrade::Args),
    /// Show the cluster as it is: nodes, etcd, proxies, versions, and what is not well.
    Status(status::Args),
    /// Show when certificates end; `certs renew` renews them in place.
    Certs(certs::Args),
    /// Fetch the admin's kubeconfig.
    Kubeconfig(kubeconfig::Args),
    /// Take the cluster apart, or some hosts out of it. Asks for the cluster's name.
    Reset(reset::Args),
    /// Change several clusters in waves, and look at them as one.
    #[command(subcommand)]
    Fleet(fleet::Args),
    /// Back up the cluster, and prove the backups.
    #[command(subcommand)]
    Etcd(etcd::Args),
    /// Print the JSON Schema of cluster files, for editors.
    Schema,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match args {
        Args::New(args) => new::run(args),
        Args::Check(args) => check::run(args),
        Args::Artifacts(args) => artifacts::run(args),
        Args::Plan(args) => plan::run(args),
        Args::Apply(args) => apply::run(args),
        Args::Replace(args) => replace::run(args),
        Args::Upgrade(args) => upgrade::run(args),
        Args::Status(args) => status::run(args),
        Args::Certs(args) => certs::run(args),
        Args::Kubeconfig(args) => kubeconfig::run(args),
        Args::Reset(args) => reset::run(args),
        Args::Fleet(args) => fleet::run(args),
        Args::Etcd(args) => etcd::run(args),
        Args::Schema => schema::run(),
    }
}
