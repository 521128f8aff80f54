//! `fleet status`: all clusters as they are.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::Access;
use super::child::Outcome;
use crate::bootstrap::spec::{Fleet, Member};
use crate::cli::bootstrap::access::Form;
use crate::cli::bootstrap::job::interrupts;
use crate::cli::{CliError, output, runtime};

/// Flags of `fleet status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
All clusters are asked at the same time, each as `bootstrap status` does it. Exit 0 when all of them are
well, 1 when one is not, 2 when a file is wrong.

Examples:
  apiproxy bootstrap fleet status --file fleet.yaml
  apiproxy bootstrap fleet status -o json | jq '.clusters[] | select(.healthy | not) | .faults'")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
}

/// How all clusters are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    fleet: String,
    healthy: bool,
    clusters: Vec<Entry>,
}

/// How a cluster is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    cluster: String,
    wave: usize,
    healthy: bool,
    faults: Vec<String>,
    /// What `bootstrap status -o json` prints; none if it could not tell.
    status: Option<Value>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let Access { reach, output: form } = &args.access;
    let fleet = reach.load()?;
    let program = reach.program()?;
    let members: Vec<Member> = fleet.members().map(|(_, member)| member.clone()).collect();
    let (outcomes, ended) = runtime()?.block_on(async {
        let words = ["status", "-o", "json"];
        program.each(&members, &words, &mut interrupts()?, |_, _, _| Ok(())).await
    })?;
    if ended {
        return Err(CliError::Failed("ended by a signal".to_owned()));
    }
    let document = Document::new(&fleet, &outcomes);
    match form {
        Form::Json => output::emit_json(&document)?,
        Form::Text => output::emit(&render(&document))?,
    }
    if document.healthy { Ok(()) } else { Err(CliError::Unwell) }
}

/// What is not well with a cluster, by what its own command printed.
pub(super) fn faults(outcome: &Outcome) -> Vec<String> {
    if outcome.is_ok() {
        return Vec::new();
    }
    let status: Value = serde_json::from_str(&outcome.output).unwrap_or_default();
    let faults = status["faults"].as_array().into_iter().flatten();
    let faults: Vec<_> = faults.filter_map(|fault| Some(fault.as_str()?.to_owned())).collect();
    if faults.is_empty() { vec![outcome.complaint()] } else { faults }
}

impl Document {
    fn new(fleet: &Fleet, outcomes: &[Outcome]) -> Self {
        let cluster = |((wave, member), outcome): ((usize, &Member), &Outcome)| Entry {
            cluster: member.name.clone(),
            wave,
            healthy: outcome.is_ok(),
            faults: faults(outcome),
            status: serde_json::from_str(&outcome.output).ok(),
        };
        let clusters: Vec<_> = fleet.members().zip(outcomes).map(cluster).collect();
        let healthy = clusters.iter().all(|cluster| cluster.healthy);
        Self { fleet: fleet.name.clone(), healthy, clusters }
    }
}

fn render(document: &Document) -> String {
    let count = |status: &Value, list: &str| match status[list].as_array() {
        Some(all) => all.len().to_string(),
        None => "-".to_owned(),
    };
    let row = |cluster: &Entry| {
        let status = cluster.status.clone().unwrap_or_default();
        let version = status["kubernetesVersion"].as_str().unwrap_or("-").to_owned();
        let how = match (cluster.healthy, cluster.faults.len()) {
            (true, _) => "well".to_owned(),
            (false, 1) => "1 fault".to_owned(),
            (false, faults) => format!("{faults} faults"),
        };
        let (hosts, members) = (count(&status, "hosts"), count(&status, "members"));
        vec![cluster.cluster.clone(), cluster.wave.to_string(), version, hosts, members, how]
    };
    let header = ["CLUSTER", "WAVE", "VERSION", "HOSTS", "ETCD MEMBERS", "STATUS"];
    let mut text = output::table(&header, document.clusters.iter().map(row).collect());
    text.push('\n');
    if document.healthy {
        text += "All clusters are well.\n";
    }
    for cluster in &document.clusters {
        for fault in &cluster.faults {
            let _ = writeln!(text, "{}: {fault}", cluster.cluster);
        }
    }
    text
}
