//! What a host is told to remember of its backups, so that its metrics say it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bootstrap::backup::{
    Drilled, JOURNAL, Logbook, Report, SETTINGS, Settings, TEXTFILE, expect,
};
use crate::bootstrap::engine::Context;
use crate::bootstrap::render::paths::PROXY_PROGRAM;
use crate::bootstrap::transport::Command;
use crate::cli::{CliError, output};

/// Flags of `etcd note`. Without a drill it is when the next backup is due.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// What this host takes backups by.
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    config: PathBuf,
    /// A drill with a backup of this host passed, or did not.
    #[arg(long, value_name = "CLUSTER", requires = "milliseconds")]
    drill: Option<String>,
    /// It passed.
    #[arg(long, requires = "drill")]
    passed: bool,
    /// How long it took.
    #[arg(long, value_name = "N", requires = "drill")]
    milliseconds: Option<u64>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let settings = Settings::load(&args.config);
    let failed = |error: std::io::Error| CliError::Failed(error.to_string());
    let Some(cluster) = &args.drill else {
        let settings = settings.map_err(|error| CliError::Usage(error.to_string()))?;
        return expect(&settings).map_err(failed);
    };
    let own = settings.ok().filter(|settings| settings.cluster == *cluster);
    let book = own.map_or_else(|| default(cluster), |settings| settings.logbook());
    let time = Duration::from_millis(args.milliseconds.unwrap_or_default());
    remember(&book, args.passed, time).map_err(failed)
}

/// Where a host remembers that takes no backups itself.
fn default(cluster: &str) -> Logbook {
    let (journal, textfile) = (PathBuf::from(JOURNAL), PathBuf::from(TEXTFILE));
    Logbook { cluster: cluster.to_owned(), journal, textfile }
}

/// Remembers a drill.
pub(super) fn remember(book: &Logbook, passed: bool, time: Duration) -> std::io::Result<()> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let duration = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    book.change(at, |journal| journal.drilled(Drilled { at, passed, duration }))
}

/// Has the host remember a drill whose backup it gave. The drill is as good without it.
pub(super) async fn tell(cx: &Context, host: &str, cluster: &str, report: &Report) {
    let seconds: f64 = report.timings.iter().map(|(_, seconds)| seconds).sum();
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_millis().to_string();
    let mut words = vec![PROXY_PROGRAM, "bootstrap", "etcd", "note", "--drill", cluster];
    words.extend(["--milliseconds", &time]);
    words.extend(report.passed.then_some("--passed"));
    if let Err(error) = cx.run(host, &Command::new(words)).await {
        output::complain(&format!("{host} could not put it into its metrics: {error}"));
    }
}
