//! The commands: flags become typed requests, outcomes become text and exit codes. The only place
//! that prints.

mod args;
mod bootstrap;
mod check;
mod client;
mod demo;
mod drain;
mod image;
mod logging;
mod man;
mod manifest;
mod outage;
mod output;
mod reload;
mod run;
mod status;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::app::StartError;
use crate::config::ConfigError;
use crate::control::{Answer, AskError, Code};

/// A node-local, health-checking load balancer for kube-apiservers.
///
/// It listens on localhost:6443 of every node, passes TCP and TLS through untouched, checks all
/// kube-apiservers and keeps the node away from a dead one.
#[derive(Debug, Parser)]
#[command(name = "apiproxy", version, propagate_version = true)]
#[command(after_help = "\
Try it without a cluster:   apiproxy demo
Put it before a cluster:    apiproxy run --backend 10.0.0.11:6443 --backend 10.0.0.12:6443 \\
                                --ca-file /etc/kubernetes/pki/ca.crt
Exit codes: 0 done, 1 failed, 2 bad usage or bad configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy until SIGTERM; then let open connections end (`connections.drainTimeout`).
    Run(run::Args),
    /// Watch it work: three throw-away apiservers, failing now and then. Needs no cluster, no root.
    Demo(demo::Args),
    /// Validate the configuration and probe every backend once. Exit 1 if none is usable.
    Check(check::Args),
    /// Show what the running proxy sees.
    Status(status::Args),
    /// Take a backend out, before its maintenance: its connections leave at quiet moments.
    Drain(drain::Drain),
    /// Put a backend back.
    Undrain(drain::Undrain),
    /// Have the running proxy read its configuration again.
    Reload(reload::Args),
    /// Print manifests that run the proxy on a node.
    #[command(subcommand)]
    Manifest(manifest::Args),
    /// Write this very program as an OCI image archive, for `ctr images import`.
    Image(image::Args),
    /// Build a highly available cluster from bare hosts.
    #[command(subcommand)]
    Bootstrap(bootstrap::Args),
    /// Print the completions of a shell, for example `apiproxy completions bash`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command.
    #[command(hide = true)]
    Man(man::Args),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
    /// The running proxy takes connections and says nothing. It may come back.
    #[error("{0}")]
    Silent(String),
    /// The command did what it should and found that all is not well; it has said so already.
    #[error("not well")]
    Unwell,
    /// Nobody reads our output any more.
    #[error("the output was closed")]
    OutputClosed,
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::Start(StartError::Trust(_)) => {
                ExitCode::from(2)
            }
            Self::Start(_) | Self::Failed(_) | Self::Silent(_) | Self::Unwell => ExitCode::from(1),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }

    /// An answer to another question is a defect of whoever gave it.
    fn odd_answer(answer: &Answer) -> Self {
        Self::Failed(format!("the proxy gave an odd answer: {answer:?}"))
    }
}

impl From<AskError> for CliError {
    fn from(error: AskError) -> Self {
        let text = error.to_string();
        match error {
            AskError::Refused(refusal) if refusal.code == Code::UnknownBackend => Self::Usage(text),
            AskError::Silent { .. } => Self::Silent(text),
            _ => Self::Failed(text),
        }
    }
}

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let mut cli = Cli::from_arg_matches(&matches)
        .unwrap_or_else(|error| error.format(&mut Cli::command()).exit());
    if let (Command::Status(args), Some(matches)) =
        (&mut cli.command, matches.subcommand_matches("status"))
    {
        args.prefer_flags(matches);
    }
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Drain(args) => drain::drain(&args),
        Command::Undrain(args) => drain::undrain(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Manifest(args) => manifest::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Bootstrap(args) => bootstrap::run(&args),
        Command::Completions { shell } => completions(shell),
        Command::Man(args) => man::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, CliError::Unwell | CliError::OutputClosed) {
                output::complain(&error);
            }
            error.exit_code()
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "apiproxy", &mut script);
    output::emit_bytes(&script)
}

/// The runtime that commands wait on.
fn runtime() -> Result<LocalRuntime, CliError> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|error| CliError::Failed(format!("cannot start the runtime: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
