//! `apiproxy bootstrap kubeconfig`: the admin's, for the operator's own machine.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::access::Reach;
use super::job::{interrupts, unless_ended};
use crate::bootstrap::steps::kubeconfig::{Server, fetch};
use crate::cli::{CliError, output, runtime};

/// Flags of `bootstrap kubeconfig`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Whoever has the file is admin of the cluster. A file that is there already is left alone without
--force; to have several clusters in one, merge them with kubectl:
  KUBECONFIG=~/.kube/config:prod.kubeconfig kubectl config view --flatten

By default the server is a control plane that serves, by its address. A load balancer can stand
before all of them:
  apiproxy bootstrap kubeconfig --server lb.example.com --output ~/.kube/config
Its certificate must carry that name: the endpoint's name, and the names and addresses of control
planes are in it.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    reach: Reach,
    /// Where it goes, readable for you alone; `-` is standard output [default: CLUSTER.kubeconfig].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The server in it: `HOST`, `HOST:PORT` or `https://HOST:PORT`.
    #[arg(long, value_name = "SERVER")]
    server: Option<Server>,
    /// Overwrite the file if there is one.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let site = args.reach.open("kubeconfig")?;
    let default = PathBuf::from(format!("{}.kubeconfig", site.cluster.name));
    let path = args.output.as_ref().unwrap_or(&default);
    let to_stdout = path == Path::new("-");
    // Before any host is asked.
    if !to_stdout && !args.force && path.symlink_metadata().is_ok() {
        return Err(there_is_one(path));
    }
    let kubeconfig = runtime()?.block_on(async {
        let work = async {
            let fetched = fetch(&site.shared, &site.cx, args.server.as_ref()).await;
            fetched.map_err(|error| CliError::Failed(error.to_string()))
        };
        unless_ended(&mut interrupts()?, work).await
    })?;
    if to_stdout {
        return output::emit(&kubeconfig.text);
    }
    save(path, kubeconfig.text.as_bytes(), args.force)?;
    let path = path.display();
    output::emit(&format!(
        "{path} is the admin's kubeconfig of {}, by {}. Keep it to yourself, and try it:\n  \
         kubectl --kubeconfig {path} get nodes\n",
        site.cluster.name, kubeconfig.server
    ))
}

pub(super) fn there_is_one(path: &Path) -> CliError {
    let path = path.display();
    CliError::Usage(format!("{path} is there already; give another --output, or --force"))
}

/// Writes it as a whole or not at all, readable for its owner alone from the start.
pub(super) fn save(path: &Path, content: &[u8], force: bool) -> Result<(), CliError> {
    let failed = |error: &dyn std::fmt::Display| {
        CliError::Failed(format!("cannot write {}: {error}", path.display()))
    };
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut builder = tempfile::Builder::new();
    builder.permissions(Permissions::from_mode(0o600)).prefix(".kubeconfig");
    let new = builder.tempfile_in(folder.unwrap_or(Path::new(".")));
    let mut new = new.map_err(|error| failed(&error))?;
    new.write_all(content).and_then(|()| new.as_file().sync_all()).map_err(|e| failed(&e))?;
    let saved = if force { new.persist(path) } else { new.persist_noclobber(path) };
    match saved {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(there_is_one(path)),
        Err(error) => Err(failed(&error.error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kubeconfig_is_for_its_owner_and_overwrites_nothing_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prod.kubeconfig");
        save(&path, b"one", false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = save(&path, b"two", false).unwrap_err().to_string();
        assert!(refused.ends_with("is there already; give another --output, or --force"));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        save(&path, b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(save(Path::new("/nowhere/x"), b"", false).is_err());
    }
}
