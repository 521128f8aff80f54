//! `etcd drill`: is a backup worth something? It is restored, looked at, and thrown away.

mod own;

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::list::places;
use super::{note, told};
use crate::bootstrap::backup::fleet::{self, Copy, Depth, Fleet};
use crate::bootstrap::backup::{BackupName, Identities, Label, Report, drill};
use crate::bootstrap::render::paths::PROXY_PROGRAM;
use crate::bootstrap::scratch::Scratch;
use crate::bootstrap::transport::Command;
use crate::cli::bootstrap::access::{Access, Form, Site};
use crate::cli::bootstrap::job::interrupts;
use crate::cli::{CliError, output, runtime};

/// How long a drill with 8 GiB may take.
const PATIENCE: Duration = Duration::from_hours(1);

/// Flags of `etcd drill`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Needs etcd and etcdctl (from 3.6 on etcdutl too) where the drill is held: here, or on the host of --on.
Exit 0 when the backup is as it should be, 1 when it is not. Ctrl-C leaves nothing either.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
    /// The backup [default: the newest that is whole].
    name: Option<BackupName>,
    /// Hold it on this host, which must have a copy [default: here].
    #[arg(long, value_name = "HOST")]
    on: Option<String>,
    /// A private key of age, if the backup is encrypted; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// With a backup of this very host, and no cluster file.
    #[arg(long, conflicts_with = "on")]
    local: bool,
    /// With --local: the folder of backups [default: that of this host's settings].
    #[arg(long, value_name = "DIR", requires = "local")]
    directory: Option<PathBuf>,
    /// With --local: by what `apply` wrote for the timer.
    #[arg(
        long,
        value_name = "FILE",
        requires = "local",
        conflicts_with = "directory",
        hide = true
    )]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let runtime = runtime()?;
    let report = runtime.block_on(async {
        let mut interrupts = interrupts()?;
        let work = async {
            match (&args.on, args.local) {
                (_, true) => own::run(args).await,
                (Some(host), _) => on(args, host).await,
                (None, _) => here(args).await,
            }
        };
        tokio::select! {
            report = work => report,
            signal = interrupts.next() => {
                Err(CliError::Failed(format!("ended by {signal}; nothing is left of the drill")))
            }
        }
    });
    // What still reads a large file must not keep the user waiting.
    runtime.shutdown_background();
    let report = report?;
    match args.access.form() {
        Form::Json => output::emit_json(&report)?,
        Form::Text => output::emit(&render(&report))?,
    }
    if report.passed { Ok(()) } else { Err(CliError::Unwell) }
}

/// The text of the private key, if one is given.
fn identity(path: Option<&Path>) -> Result<Option<String>, CliError> {
    let Some(path) = path else { return Ok(None) };
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map(Some).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}

/// The private keys in a file, if one is given.
pub(super) fn identity_of(path: Option<&Path>) -> Result<Identities, CliError> {
    let Some(text) = identity(path)? else { return Ok(Identities::default()) };
    identities(&text, "--identity")
}

fn identities(text: &str, source: &str) -> Result<Identities, CliError> {
    Identities::parse(text).map_err(|error| CliError::Usage(format!("{source}: {error}")))
}

fn keys(args: &Args) -> Result<Identities, CliError> {
    identity_of(args.identity.as_deref())
}

fn failed(error: &dyn std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

async fn hold(bundle: &Path, label: &Label, keys: Identities) -> Result<Report, CliError> {
    drill(bundle, label, keys)
        .await
        .map_err(|error| CliError::Failed(format!("{} did not pass: {error}", label.manifest.name)))
}

/// The backup that is meant, with the copies that nothing is known against.
async fn find(
    args: &Args,
    site: &Site,
    on: Option<&str>,
) -> Result<(BackupName, Vec<Copy>), CliError> {
    let places = places(&site.cluster)?;
    let fleet = Fleet::survey(&site.cx, &site.cluster.name, &places, Depth::Labels).await;
    let silent = || {
        let all = fleet.silent.iter().map(|(_, reason)| format!("\n  {reason}"));
        all.collect::<String>()
    };
    let Some((name, copies)) = fleet.good(args.name.as_ref()) else {
        let what = args.name.as_ref().map_or("no backup".to_owned(), |name| format!("no {name}"));
        return Err(CliError::Failed(format!("{what} that is good was found{}", silent())));
    };
    let has = |copy: &Copy, host| copy.place.bucket.is_none() && copy.place.host == host;
    let here = |copy: &&Copy| on.is_none_or(|host| has(copy, host));
    let found: Vec<_> = copies.iter().copied().filter(here).cloned().collect();
    if found.is_empty() {
        let hosts: Vec<_> = copies.iter().map(|copy| copy.place.host.as_str()).collect();
        let hosts = if hosts.is_empty() { "no host".to_owned() } else { hosts.join(", ") };
        return Err(CliError::Failed(format!("good copies of {name} are on: {hosts}{}", silent())));
    }
    Ok((name.clone(), found))
}

/// On a host that has a copy.
async fn on(args: &Args, host: &str) -> Result<Report, CliError> {
    let site = args.access.open("etcd-drill")?;
    let (name, copies) = find(args, &site, Some(host)).await?;
    let folder = copies.first().map(|copy| copy.place.folder.clone()).unwrap_or_default();
    // As the timer's: /tmp is often held in memory.
    let mut words = vec!["env", "TMPDIR=/var/tmp", PROXY_PROGRAM, "bootstrap", "etcd", "drill"];
    words.extend(["--local", "-o", "json"]);
    let name = name.to_string();
    words.extend(["--directory", &folder, &name]);
    let key = identity(args.identity.as_deref())?;
    words.extend(key.is_some().then_some(["--identity", "-"]).into_iter().flatten());
    let mut command = Command::new(words).timeout(PATIENCE);
    if let Some(key) = key {
        command = command.stdin(key);
    }
    let reached = site.cx.host(host).map_err(|error| failed(&error))?;
    let output = reached.run(&command).await.map_err(|error| failed(&error))?;
    let report = serde_json::from_slice(&output.stdout)
        .map_err(|_| CliError::Failed(format!("{host}: {}", told(&output))))?;
    note::tell(&site.cx, host, &site.cluster.name, &report).await;
    Ok(report)
}

/// Here, with a copy that is fetched.
async fn here(args: &Args) -> Result<Report, CliError> {
    let site = args.access.open("etcd-drill")?;
    let keys = keys(args)?;
    let (name, copies) = find(args, &site, None).await?;
    let folder = Scratch::new("apiproxy-drill-").map_err(|error| failed(&error))?;
    let bundle = folder.path().join("bundle");
    let mut faults = Vec::new();
    for copy in copies {
        let Some(label) = &copy.stored.label else { continue };
        match fleet::fetch(&site.cx, &copy.place, label, &bundle).await {
            Ok(()) => {
                let report = hold(&bundle, label, keys).await?;
                // A bucket has nobody to tell: it is a backup of the host that took it.
                let taker = &label.manifest.host;
                let host = if copy.place.bucket.is_some() { taker } else { &copy.place.host };
                note::tell(&site.cx, host, &site.cluster.name, &report).await;
                return Ok(report);
            }
            Err(error) => faults.push(error.to_string()),
        }
        // The next one begins anew.
        let _ = std::fs::remove_file(&bundle);
    }
    Err(CliError::Failed(format!("{name} could not be fetched: {}", faults.join("; "))))
}

fn render(report: &Report) -> String {
    let mut text = String::new();
    let rows = report.findings.iter().map(|finding| {
        let ok = if finding.ok { "ok" } else { "WRONG" };
        vec![ok.to_owned(), finding.what.clone(), finding.found.clone()]
    });
    text += &output::table(&["", "COMPARED", "FOUND"], rows.collect());
    let timings = report.timings.iter().map(|(what, seconds)| format!("{what} {seconds:.1} s"));
    let verdict = if report.passed { "passed" } else { "did not pass" };
    let _ = writeln!(text, "{} {verdict}: {}", report.name, timings.collect::<Vec<_>>().join(", "));
    text
}
