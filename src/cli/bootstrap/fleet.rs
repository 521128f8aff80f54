//! `apiproxy bootstrap fleet`: several clusters, changed in waves and looked at as one.
//!
//! Each cluster is worked on by a process of this program of its own, as its user would start it by hand: its
//! locks, its log and its faults are those of that cluster alone.

mod apply;
mod child;
mod kubeconfig;
mod plan;
mod status;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::access::{Form, count_of_hosts};
use crate::bootstrap::spec::Fleet;
use crate::cli::CliError;
use child::Program;

/// The fleet's file, unless the user names another.
const FILE: &str = "fleet.yaml";

/// The commands of `bootstrap fleet`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
A fleet is a file that names the files of clusters, in waves:

  apiVersion: apiproxy.io/v1alpha1
  kind: Fleet
  metadata: { name: world }
  spec:
    waves:
    - { clusters: [canary.yaml], settle: 10m }    # well for 10 minutes before the next wave begins
    - { clusters: [west.yaml, east.yaml] }        # at the same time

What concerns one cluster alone, such as `replace` or `etcd restore`, is done with its own file.")]
pub(in crate::cli) enum Args {
    /// Show what `fleet apply` would change in each cluster. Changes nothing.
    Plan(plan::Args),
    /// Make the clusters what their files say, wave by wave; stop when one is not well.
    Apply(apply::Args),
    /// Show all clusters as they are. Exit 1 when one is not well.
    Status(status::Args),
    /// Fetch one kubeconfig for all clusters, with a context for each.
    Kubeconfig(kubeconfig::Args),
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match args {
        Args::Plan(args) => plan::run(args),
        Args::Apply(args) => apply::run(args),
        Args::Status(args) => status::run(args),
        Args::Kubeconfig(args) => kubeconfig::run(args),
    }
}

/// Flags of all commands about fleets.
#[derive(Debug, clap::Args)]
struct Reach {
    /// The fleet's file.
    #[arg(long, short, value_name = "FILE", default_value = FILE)]
    file: PathBuf,
    /// Learn host keys that are not known yet. One that has changed is never accepted.
    #[arg(long)]
    accept_new: bool,
    /// Configuration of ssh in place of ~/.ssh/config.
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// Where the logs of the runs go [default: ~/.local/state/apiproxy/runs].
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// How many hosts of each cluster are worked on at the same time.
    #[arg(long, short = 'j', value_name = "N", value_parser = count_of_hosts)]
    parallel: Option<usize>,
}

/// The same of commands that show something.
#[derive(Debug, clap::Args)]
struct Access {
    #[command(flatten)]
    reach: Reach,
    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

impl Reach {
    fn load(&self) -> Result<Fleet, CliError> {
        if self.file == Path::new(FILE) && !self.file.exists() {
            return Err(CliError::Usage(format!(
                "there is no {FILE} here; name the file with --file: `apiproxy bootstrap fleet --help` \
                 shows one"
            )));
        }
        Fleet::read(&self.file).map_err(|error| CliError::Usage(error.to_string()))
    }

    /// This program, with the flags that each cluster's own command gets.
    fn program(&self) -> Result<Program, CliError> {
        let path = std::env::current_exe().map_err(|error| {
            CliError::Failed(format!("cannot find the program that runs: {error}"))
        })?;
        Ok(Program { path, flags: self.flags() })
    }

    fn flags(&self) -> Vec<OsString> {
        let mut flags = self.ways();
        flags.extend(self.parallel.iter().flat_map(|n| ["-j".into(), n.to_string().into()]));
        flags
    }

    /// How hosts are reached.
    fn ways(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = Vec::new();
        flags.extend(self.accept_new.then(|| "--accept-new".into()));
        for (flag, path) in [("--ssh-config", &self.ssh_config), ("--log-dir", &self.log_dir)] {
            flags.extend(path.iter().flat_map(|path| [flag.into(), path.into()]));
        }
        flags
    }
}
