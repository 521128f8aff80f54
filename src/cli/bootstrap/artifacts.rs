//! `apiproxy bootstrap artifacts list`: what an air-gapped directory has to hold, and whether it does.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use super::access::{self, Form};
use crate::bootstrap::artifacts::{self, Directory, Image, Listing, Row, State, images, manifest};
use crate::bootstrap::preflight::arch;
use crate::bootstrap::spec::{Artifacts, Cluster};
use crate::cli::{CliError, output};

/// Commands about artifacts.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Args {
    /// Print every file that the directory has to hold, where it is published, and whether it is
    /// there and right.
    List(List),
}

/// Flags of `bootstrap artifacts list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Needs no network. Exit 1 if the directory of the file lacks something; without a directory, the \
list says what one would have to hold.")]
pub(in crate::cli) struct List {
    /// The cluster file.
    #[arg(long, short, value_name = "FILE", default_value = access::FILE)]
    file: PathBuf,
    /// A machine type of the hosts; repeat for each [default: this machine's].
    #[arg(long = "arch", value_name = "ARCH", value_parser = ["amd64", "arm64"])]
    archs: Vec<String>,
    /// Look into this directory, whatever the file says.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

pub(in crate::cli) fn run(args: &Args) -> Result<(), CliError> {
    let Args::List(args) = args;
    let mut cluster = access::load(&args.file)?.cluster;
    if let Some(directory) = &args.directory {
        cluster.artifacts = Artifacts::Directory(directory.clone());
    }
    let own = arch(std::env::consts::ARCH);
    let archs = if args.archs.is_empty() { vec![own.to_owned()] } else { args.archs.clone() };
    let listing = artifacts::list(&cluster, &archs, kubeadms_list(&cluster, own))
        .map_err(|error| CliError::Failed(error.to_string()))?;
    match args.output {
        Form::Json => output::emit_json(&listing)?,
        Form::Text => output::emit(&render(&listing))?,
    }
    if listing.complete || listing.directory.is_none() { Ok(()) } else { Err(CliError::Unwell) }
}

/// What the kubeadm of the directory says itself, if it is there, is what its checksum says, and
/// runs here. It asks nobody when it is told the version.
fn kubeadms_list(cluster: &Cluster, own: &str) -> Option<Vec<Image>> {
    let Artifacts::Directory(root) = &cluster.artifacts else { return None };
    let directory = Directory::open(root).ok()?;
    let item = manifest::kubernetes("kubeadm", cluster.kubernetes_version, own);
    let stored = directory.find(&item).ok()??;
    directory.verify(&stored).ok()?;
    let version = cluster.kubernetes_version.to_string();
    let arguments = ["config", "images", "list", "--kubernetes-version", &version];
    let output = Command::new(&stored.path).args(arguments).output().ok()?;
    let listed = images::listed(&String::from_utf8_lossy(&output.stdout));
    (output.status.success() && !listed.is_empty()).then_some(listed)
}

fn render(listing: &Listing) -> String {
    let row = |row: &Row| {
        let state = match row.state {
            None => "-",
            Some(State::Ok) => "ok",
            Some(State::Missing) => "missing",
            Some(State::Absent) => "absent",
            Some(State::Unlisted) => "no checksum",
            Some(State::Wrong) => "wrong",
            Some(State::Ambiguous) => "two of them",
        };
        let size = row.size.map_or("-".to_owned(), output::bytes);
        let more = match (row.note.is_empty(), row.state) {
            (true, None | Some(State::Missing | State::Absent)) => row.source.clone(),
            (true, _) => "-".to_owned(),
            (false, None | Some(State::Missing | State::Absent)) => {
                format!("{}, {}", row.note, row.source)
            }
            (false, _) => row.note.clone(),
        };
        vec![row.name.clone(), row.path.clone(), state.to_owned(), size, more]
    };
    let rows = listing.artifacts.iter().map(row).collect();
    let mut text = output::table(&["ARTIFACT", "PATH", "STATE", "SIZE", "FROM"], rows);
    text += "\nSHA256SUMS has to name every file, as `sha256sum` writes it.\n";
    let version = &listing.version;
    let _ = match (&listing.directory, listing.complete) {
        (None, _) => writeln!(text, "This is what a directory for {version} would hold."),
        (Some(directory), true) => writeln!(text, "{directory} has all for {version}."),
        (Some(directory), false) => {
            writeln!(text, "{directory} lacks something for {version}.")
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_its_source() {
        let row = |name: &str, state, note: &str| Row {
            name: name.to_owned(),
            path: format!("p/{name}"),
            source: format!("https://s/{name}"),
            state: Some(state),
            size: (state == State::Ok).then_some(2048),
            note: note.to_owned(),
        };
        let artifacts = vec![
            row("kubeadm", State::Ok, ""),
            row("kubelet", State::Missing, ""),
            row("runc", State::Absent, "unless the hosts have it"),
            row("crictl", State::Wrong, "fetch it again"),
        ];
        let (version, directory) = ("v1.34.2".to_owned(), Some("/a".to_owned()));
        let listing = Listing { version, directory, complete: false, artifacts };
        assert_eq!(
            render(&listing),
            "ARTIFACT  PATH       STATE    SIZE     FROM\n\
             kubeadm   p/kubeadm  ok       2.0 KiB  -\n\
             kubelet   p/kubelet  missing  -        https://s/kubelet\n\
             runc      p/runc     absent   -        unless the hosts have it, https://s/runc\n\
             crictl    p/crictl   wrong    -        fetch it again\n\
             \n\
             SHA256SUMS has to name every file, as `sha256sum` writes it.\n\
             /a lacks something for v1.34.2.\n"
        );
    }
}
