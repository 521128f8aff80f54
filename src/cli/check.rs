//! `apiproxy check`: is the configuration right, and does it reach usable apiservers?

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::ProxyArgs;
use super::output::{self, Format};
use super::{CliError, runtime};
use crate::app::StartError;
use crate::config::{BackendSpec, Cluster, Config};
use crate::discovery::{self, Known};
use crate::health::{Probe, Report, Session, Trust, Verdict};
use crate::model::{ClusterName, Host, Reason, State};
use crate::tls;

/// Flags of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit 0 when at least one backend is usable, of each cluster if there are several; 1 when none is, 2 when
the configuration is wrong.")]
pub(super) struct Args {
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Findings {
    /// Is a backend ready, of each cluster?
    usable: bool,
    /// Their names, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clusters: Vec<String>,
    backends: Vec<Finding>,
    /// Where backends come from besides the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceFinding>,
}

/// What a source of discovery has to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SourceFinding {
    /// The cluster, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    source: &'static str,
    /// Servers that it alone names; absent when only a running proxy asks it, or when it is of no use.
    servers: Option<usize>,
    problem: Option<String>,
}

/// What was found at one backend.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    /// With that of its cluster, if there are several.
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    address: String,
    /// `static` for one of `backends`, else the source of discovery that names it.
    source: &'static str,
    /// What a running proxy would make of this answer.
    state: State,
    code: String,
    message: String,
    milliseconds: u64,
    /// When the server's certificate expires, RFC 3339; absent when none was seen or trusted.
    certificate_expires: Option<String>,
    certificate_days_left: Option<i64>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let config = args.proxy.load()?;
    let findings = runtime()?.block_on(examine(&config))?;
    match args.output {
        Format::Json => output::emit_json(&findings)?,
        Format::Table => output::emit(&render(&findings))?,
    }
    if findings.usable { Ok(()) } else { Err(CliError::Unwell) }
}

async fn examine(config: &Config) -> Result<Findings, CliError> {
    let names = config.clusters.iter().filter_map(|cluster| cluster.name.as_ref());
    let names = names.map(ToString::to_string).collect();
    let mut findings =
        Findings { usable: true, clusters: names, backends: Vec::new(), sources: Vec::new() };
    let clusters = config.clusters.iter().map(|cluster| examine_cluster(config, cluster));
    for found in futures_util::future::join_all(clusters).await {
        let found = found?;
        findings.usable &= found.usable;
        findings.backends.extend(found.backends);
        findings.sources.extend(found.sources);
    }
    Ok(findings)
}

async fn examine_cluster(config: &Config, cluster: &Cluster) -> Result<Findings, CliError> {
    let trust = cluster.health_check.tls.as_ref().map(Trust::read).transpose();
    let trust = trust.map_err(StartError::from)?.map(Rc::new);
    let probe = Probe::new(&cluster.health_check, trust);
    let known = discovery::known(config, cluster);
    let named = known.iter().filter_map(|known| Some((known.origin, known.servers.as_ref()?)));
    let found = named.flat_map(|(origin, servers)| {
        servers.iter().flatten().map(move |server| (origin.as_str(), server))
    });
    let all = cluster.backends.iter().map(|backend| ("static", backend)).chain(found);
    let examined = all.map(|(source, backend)| examine_one(&probe, source, backend));
    let backends = futures_util::future::join_all(examined).await;
    let usable = backends.iter().any(|finding| finding.state == State::Ready);
    let name = cluster.name.as_ref();
    let sources = known.iter().map(|known| SourceFinding::new(name, known)).collect();
    Ok(Findings { usable, clusters: Vec::new(), backends, sources })
}

impl Findings {
    /// The clusters of which nothing is ready, by name.
    fn unusable(&self) -> Vec<&str> {
        let is_ready = |cluster: &str| {
            let of_it = |finding: &Finding| finding.cluster.as_deref() == Some(cluster);
            self.backends.iter().any(|one| of_it(one) && one.state == State::Ready)
        };
        let clusters = self.clusters.iter().map(String::as_str);
        clusters.filter(|cluster| !is_ready(cluster)).collect()
    }
}

impl SourceFinding {
    fn new(cluster: Option<&ClusterName>, known: &Known) -> Self {
        let servers = known.servers.as_ref();
        Self {
            cluster: cluster.map(ToString::to_string),
            source: known.origin.as_str(),
            servers: servers.and_then(|servers| servers.as_ref().ok()).map(Vec::len),
            problem: servers.and_then(|servers| servers.as_ref().err()).cloned(),
        }
    }

    /// For people.
    fn line(&self) -> String {
        let of = self.cluster.as_ref().map(|cluster| format!(" of {cluster}")).unwrap_or_default();
        let what = match (&self.problem, self.servers) {
            (Some(problem), _) => problem.clone(),
            (None, Some(0)) => "no other servers".to_owned(),
            (None, Some(1)) => "1 more server, probed above".to_owned(),
            (None, Some(count)) => format!("{count} more servers, probed above"),
            (None, None) => "not asked; a running proxy does, see `apiproxy status`".to_owned(),
        };
        format!("discovery{of} by {}: {what}", self.source)
    }
}

async fn examine_one(probe: &Probe, source: &'static str, spec: &BackendSpec) -> Finding {
    let started = Instant::now();
    let report = match addresses(spec).await {
        Ok(addresses) => {
            let prepared = probe.prepare(&mut Session::default());
            probe.run(&addresses, prepared).await
        }
        Err(problem) => Report::unresolved(&problem),
    };
    finding(spec, source, &report, started.elapsed())
}

async fn addresses(spec: &BackendSpec) -> Result<Vec<SocketAddr>, String> {
    match (spec.address.socket_addr(), spec.address.host()) {
        (Some(address), _) => Ok(vec![address]),
        (None, Host::Name(name)) => discovery::look_up(&spec.address, name).await,
        (None, Host::Ip(_)) => Ok(Vec::new()),
    }
}

fn finding(spec: &BackendSpec, source: &'static str, report: &Report, time: Duration) -> Finding {
    let ok = Reason::new("ok", "answers its check");
    let (state, reason) = match &report.verdict {
        Ok(Verdict::Ready { warning }) => (State::Ready, warning.clone().unwrap_or(ok)),
        Ok(Verdict::Alive(reason)) => (State::Ready, reason.clone()),
        Ok(Verdict::NotReady(reason)) => (State::NotReady, reason.clone()),
        Ok(Verdict::Dead(_, reason)) => (State::Dead, reason.clone()),
        Err(error) => (State::Unknown, Reason::new("local", error.to_string())),
    };
    let expiry = report.certificate.as_deref().and_then(tls::expiry);
    Finding {
        name: spec.name.as_str().to_owned(),
        cluster: spec.name.cluster().map(str::to_owned),
        address: spec.address.to_string(),
        source,
        state,
        code: reason.code,
        message: reason.message,
        milliseconds: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        certificate_expires: expiry.as_ref().map(|expiry| expiry.text.clone()),
        certificate_days_left: expiry.map(|expiry| expiry.days_left),
    }
}

/// Where the table says who names a backend, if there is more than one who can.
const SOURCE_COLUMN: usize = 2;

fn render(findings: &Findings) -> String {
    let mut header = vec!["BACKEND", "ADDRESS", "STATE", "TIME", "CERT", "REASON"];
    let discovers = !findings.sources.is_empty();
    if discovers {
        header.insert(SOURCE_COLUMN, "SOURCE");
    }
    let row = |finding: &Finding| {
        let mut row = vec![
            finding.name.clone(),
            finding.address.clone(),
            finding.state.to_string(),
            format!("{} ms", finding.milliseconds),
            finding.certificate_days_left.map_or("-".to_owned(), |days| format!("{days}d")),
            finding.message.clone(),
        ];
        if discovers {
            row.insert(SOURCE_COLUMN, finding.source.to_owned());
        }
        row
    };
    let mut text = output::table(&header, findings.backends.iter().map(row).collect());
    let lines: Vec<_> = findings.sources.iter().map(SourceFinding::line).collect();
    if discovers {
        let _ = write!(text, "\n{}\n", lines.join("\n"));
    }
    let ready = findings.backends.iter().filter(|f| f.state == State::Ready).count();
    let _ = write!(
        text,
        "\nThe configuration is valid. {ready} of {} backends ",
        findings.backends.len()
    );
    text += "are ready";
    match (findings.usable, findings.unusable().as_slice()) {
        (true, _) => {}
        (false, []) => text += ": nothing could be served",
        (false, clusters) => {
            let _ = write!(text, ": nothing could be served of {}", clusters.join(", "));
        }
    }
    text += ".\n";
    text
}
