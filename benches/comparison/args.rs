//! What the user asks for.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Parser;

/// All peers, in the order of the table's columns.
const PEERS: [&str; 7] =
    ["direct", "apiproxy", "haproxy", "haproxy-splice", "nginx", "envoy", TWO_THREADS];

/// Those that take part unless asked otherwise: every one with a single worker thread.
const USUAL: [&str; 6] = ["direct", "apiproxy", "haproxy", "haproxy-splice", "nginx", "envoy"];

/// Our own program with two data threads.
pub(crate) const TWO_THREADS: &str = "apiproxy-2-threads";

/// The name of the results that the README shows.
pub(crate) const NAME: &str = "comparison";

/// Compares apiproxy with other TCP proxies in front of one server.
#[derive(Clone, Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(name = "comparison", bin_name = "cargo bench --bench comparison --")]
pub(crate) struct Options {
    /// Rounds. In each, every peer runs every scenario, in turn.
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) rounds: NonZeroU32,

    /// Scenarios, separated by commas [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Peers, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = USUAL, value_parser = PEERS)]
    pub(crate) peers: Vec<String>,

    /// One more build of apiproxy to compare; with the name `apiproxy`, instead of the released one.
    #[arg(long = "program", value_name = "NAME=PATH", value_parser = program)]
    pub(crate) programs: Vec<(String, PathBuf)>,

    /// What the ratios are to.
    #[arg(long, value_name = "PEER", default_value = "haproxy")]
    pub(crate) reference: String,

    /// One round of a few seconds with the peers that are there, to see whether everything works.
    #[arg(long)]
    pub(crate) short: bool,

    /// The server on another host: network namespaces joined by veth, MTU 1500, no offloads. Needs
    /// root.
    #[arg(long)]
    pub(crate) veth: bool,

    /// Install nothing: do with what is there.
    #[arg(long)]
    pub(crate) no_install: bool,

    /// Write the results to benches/results as well as to target/comparison, and the headlines into
    /// the README.
    #[arg(long)]
    pub(crate) save: bool,

    /// The name of the results [default: comparison, or comparison-veth]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// May missing peers be installed?
    pub(crate) fn installs(&self) -> bool {
        !self.short && !self.no_install
    }

    /// How many rounds are run.
    pub(crate) fn rounds(&self) -> u32 {
        if self.short { 1 } else { self.rounds.get() }
    }

    /// The name of the files with the results, without their endings.
    pub(crate) fn name(&self) -> &str {
        let default = if self.veth { "comparison-veth" } else { NAME };
        self.name.as_deref().unwrap_or(default)
    }
}

fn program(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("it has no `=`")?;
    let path = PathBuf::from(path);
    if path.is_file() {
        Ok((name.to_owned(), path))
    } else {
        Err("there is no such file".to_owned())
    }
}
