//! This very program on a host: the proxy of its node, and what takes backups there.

use std::path::PathBuf;

use super::case::{Case, Found};
use super::shelf::refused;
use crate::bootstrap::artifacts::{Stored, manifest};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::preflight::arch;
use crate::bootstrap::render::paths;
use crate::bootstrap::transport::Command;

/// Where the program for a host comes from.
enum Source {
    Own(PathBuf, String),
    Stored(Stored),
}

impl Source {
    fn sum(&self) -> &str {
        match self {
            Self::Own(_, sum) => sum,
            Self::Stored(stored) => &stored.sha256,
        }
    }
}

/// The directory's program for the host's machine type, if it has one; else our own.
fn source(case: &Case<'_>) -> Result<Source, StepError> {
    let machine = &case.look.facts.arch;
    if let Some(directory) = case.shelf.directory()? {
        let found =
            directory.find(&manifest::apiproxy(machine)).map_err(|error| refused(&error))?;
        if let Some(stored) = found {
            return Ok(Source::Stored(stored));
        }
    }
    let own = arch(std::env::consts::ARCH);
    if machine != own {
        return Err(StepError::Refused {
            reason: format!("{} is {machine}, and this apiproxy is for {own}", case.host.name),
            remedy: format!(
                "put the static build for it into the artifacts as apiproxy-linux-{machine}"
            ),
        });
    }
    let (path, sum) = case.shelf.program()?;
    Ok(Source::Own(path.to_owned(), sum.to_owned()))
}

pub(super) fn look(case: &Case<'_>) -> Result<Found, StepError> {
    let mut found = Found::default();
    let source = source(case)?;
    match case.look.sums.get(paths::PROXY_PROGRAM) {
        Some(sum) if sum == source.sum() => {}
        Some(_) => found.because("the apiproxy there is another one"),
        None => found.because("apiproxy is not there"),
    }
    Ok(found)
}

pub(super) async fn apply(case: &Case<'_>, cx: &Context) -> Result<(), StepError> {
    let (host, path) = (&case.host.name, paths::PROXY_PROGRAM);
    match source(case)? {
        Source::Stored(stored) => case.shelf.bring(cx, host, &stored, path, 0o755).await?,
        Source::Own(program, _) => cx.host(host)?.upload(&program, path, 0o755).await?,
    }
    let output = cx.host(host)?.run(&Command::new([path, "--version"])).await?;
    if output.ok() {
        return Ok(());
    }
    let said = output.complaint();
    // Linked with the C library of this machine, and the host has another or an older one.
    let library = said.contains("GLIBC") || said.contains("ld-linux") || output.code == 127;
    Err(StepError::Refused {
        reason: format!("{host} cannot run this apiproxy: {said}"),
        remedy: if library {
            "use the static build (x86_64-unknown-linux-musl), which needs no library".to_owned()
        } else {
            format!("see what `{path} --version` says there")
        },
    })
}
