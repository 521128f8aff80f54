//! `apiproxy image`: this very program as a container image.

use std::fs::{self, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{CliError, output};
use crate::image::{self, ImageError, Name};

/// The program that runs, also when its file has been replaced or removed since.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Flags of `image`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The archive holds an OCI image layout: this program on an empty base, run by user 65532. The same
program makes the same archive, byte for byte. No registry and no other tool is needed:
  apiproxy image | ctr -n k8s.io images import -
  apiproxy image --output apiproxy.tar --tag registry.example/apiproxy:0.1.0")]
pub(super) struct Args {
    /// Where the archive goes; `-` is standard output.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// The image's name and tag.
    #[arg(long, short, value_name = "NAME:TAG", default_value = concat!("apiproxy:", env!("CARGO_PKG_VERSION")))]
    tag: Name,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let to_stdout = args.output == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(CliError::Usage(
            "the archive is not for a terminal: give --output FILE, or pipe it to \
             `ctr -n k8s.io images import -`"
                .to_owned(),
        ));
    }
    let binary = fs::read(THIS_PROGRAM)
        .map_err(|error| CliError::Failed(format!("cannot read {THIS_PROGRAM}: {error}")))?;
    let archive = image::archive(&binary, &args.tag, env!("CARGO_PKG_VERSION"));
    let archive = archive.map_err(|error| CliError::Failed(format!("{error}{}", hint(&error))))?;
    if to_stdout {
        output::emit_bytes(&archive)
    } else {
        write(&args.output, &archive).map_err(|error| {
            CliError::Failed(format!("cannot write {}: {error}", args.output.display()))
        })
    }
}

fn hint(error: &ImageError) -> String {
    if !matches!(error, ImageError::Dynamic) {
        return String::new();
    }
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    format!(
        "\n  build the static one and let it make the image:\n  cargo build --release --target {target} \
         && target/{target}/release/apiproxy image --output apiproxy.tar"
    )
}

/// Writes a file whole or not at all, unless something else than a file is there already.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // As `File::create`: the umask takes its share.
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .prefix(".apiproxy-image")
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
