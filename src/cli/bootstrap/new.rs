//! `apiproxy bootstrap new`: a commented cluster file to begin with.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::bootstrap::spec;
use crate::cli::{CliError, output};

/// Flags of `bootstrap new`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  apiproxy bootstrap new --name prod --output cluster.yaml
  apiproxy bootstrap new --topology external | less
A file that is there already is never overwritten.")]
pub(in crate::cli) struct Args {
    /// Where etcd lives.
    #[arg(long, value_enum, default_value_t)]
    topology: Topology,
    /// The cluster's name.
    #[arg(long, default_value = "prod", value_parser = name)]
    name: String,
    /// Where the file goes; `-` is standard output.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

/// Where etcd lives.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Topology {
    /// On the control planes.
    #[default]
    Stacked,
    /// On hosts of its own.
    External,
}

fn name(text: &str) -> Result<String, String> {
    if spec::is_cluster_name(text) {
        return Ok(text.to_owned());
    }
    Err("it is 1 to 63 lower-case letters, digits and inner hyphens".to_owned())
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let topology = match args.topology {
        Topology::Stacked => spec::Topology::Stacked,
        Topology::External => spec::Topology::External,
    };
    let text = spec::example(topology, &args.name);
    if args.output == Path::new("-") {
        return output::emit(&text);
    }
    let file = args.output.display();
    let created = File::create_new(&args.output).and_then(|mut new| new.write_all(text.as_bytes()));
    created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            CliError::Usage(format!("{file} is there already; give another --output, or remove it"))
        }
        _ => CliError::Failed(format!("cannot write {file}: {error}")),
    })
}
