//! `apiproxy bootstrap check`: are the hosts fit for the cluster that is wished?

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::access::{Access, Form, inputs};
use super::job::{interrupts, unless_ended};
use crate::bootstrap::engine::{Locks, Owner};
use crate::bootstrap::preflight::{self, Fixed, Level, Report};
use crate::cli::{CliError, output, runtime};

/// Flags of `bootstrap check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes nothing, unless --fix is given. Exit 0 when no finding is an error, 1 when one is.")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
    /// Mend what is harmless to mend: kernel modules and parameters, swap, hostname, packages.
    #[arg(long)]
    fix: bool,
    /// Show what is well, too.
    #[arg(long)]
    all: bool,
}

/// The document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    hosts: usize,
    fixed: Vec<Mended<'a>>,
    #[serde(flatten)]
    report: &'a Report,
}

/// One thing that was mended, or not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mended<'a> {
    host: &'a str,
    what: &'a str,
    error: Option<String>,
}

pub(in crate::cli) fn run(args: &Args) -> Result<(), CliError> {
    let mut site = args.access.open_if("check", inputs)?;
    if let Some(chosen) = &site.chosen {
        site.cx.hosts.retain(|host, _| chosen.contains(host));
    }
    let (cluster, cx, at_once) = (&site.cluster, &site.cx, site.parallel);
    let (report, fixed) = runtime()?.block_on(async {
        let mut interrupts = interrupts()?;
        let examined = async { Ok(preflight::examine(cluster, &cx.hosts, at_once).await) };
        let report = unless_ended(&mut interrupts, examined).await?;
        let fixable = report.findings.iter().filter(|finding| args.fix && finding.fixable);
        let hosts: BTreeSet<String> = fixable.map(|finding| finding.host.clone()).collect();
        if hosts.is_empty() {
            return Ok((report, Vec::new()));
        }
        let locks =
            Locks::take(cx, &hosts, &Owner::here("apiproxy bootstrap check --fix"), false).await;
        let _locks = locks.map_err(|error| CliError::Failed(error.to_string()))?;
        // What is begun is brought to its end: a signal is heard after it.
        let fixed = preflight::fix(cluster, cx, &report.findings).await;
        Ok::<_, CliError>((preflight::examine(cluster, &cx.hosts, at_once).await, fixed))
    })?;
    let document = Document {
        hosts: cx.hosts.len(),
        fixed: fixed.iter().map(mended).collect(),
        report: &report,
    };
    match site.form {
        Form::Json => output::emit_json(&document)?,
        Form::Text => output::emit(&render(&document, args.all))?,
    }
    if report.fit { Ok(()) } else { Err(CliError::Unwell) }
}

fn mended(fixed: &Fixed) -> Mended<'_> {
    let error = fixed.result.as_ref().err().map(ToString::to_string);
    Mended { host: &fixed.host, what: &fixed.what, error }
}

fn render(document: &Document<'_>, all: bool) -> String {
    let mut text = String::new();
    for Mended { host, what, error } in &document.fixed {
        let _ = match error {
            None => writeln!(text, "{host}: {what}"),
            Some(error) => writeln!(text, "{host}: not {what}: {error}"),
        };
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let report = document.report;
    let shown = |level: Level| level != Level::Ok || all;
    let rows: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| shown(finding.level))
        .map(|finding| {
            let remedy = if finding.remedy.is_empty() { "-" } else { &finding.remedy };
            let level = finding.level.to_string();
            let words = [finding.code, &finding.what, remedy];
            let words = words.map(ToOwned::to_owned).into_iter();
            [level, finding.host.clone()].into_iter().chain(words).collect()
        })
        .collect();
    if !rows.is_empty() {
        text += &output::table(&["LEVEL", "HOST", "CHECK", "FOUND", "REMEDY"], rows);
        text.push('\n');
    }
    let fixable = report.findings.iter().filter(|finding| finding.fixable).count();
    let _ = write!(
        text,
        "{} hosts: {} errors, {} warnings, {} ok.",
        document.hosts,
        report.errors,
        report.warnings,
        report.findings.len() - report.errors - report.warnings,
    );
    text += if report.fit { " They are fit.\n" } else { " They are not fit yet.\n" };
    if fixable > 0 {
        let _ = writeln!(text, "`--fix` mends {fixable} of them.");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::preflight::{Finding, Fix};

    fn finding(level: Level, code: &'static str, fix: Option<Fix>) -> Finding {
        let remedy = if level == Level::Ok { "" } else { "mend it" }.to_owned();
        let (host, what, fixable) = ("w1".to_owned(), format!("{code} found"), fix.is_some());
        Finding { host, level, code, what, remedy, fixable, fix }
    }

    #[test]
    fn the_worst_comes_first_and_what_is_well_when_asked_for() {
        let report = Report::new(vec![
            finding(Level::Ok, "os", None),
            finding(Level::Warning, "swap", Some(Fix::Swap)),
            finding(Level::Error, "port", None),
        ]);
        let fixed = vec![
            Mended { host: "w1", what: "loaded the kernel modules", error: None },
            Mended { host: "w2", what: "installed iptables", error: Some("no way".to_owned()) },
        ];
        let document = Document { hosts: 2, fixed, report: &report };
        assert_eq!(
            render(&document, false),
            "w1: loaded the kernel modules\n\
             w2: not installed iptables: no way\n\
             \n\
             LEVEL    HOST  CHECK  FOUND       REMEDY\n\
             error    w1    port   port found  mend it\n\
             warning  w1    swap   swap found  mend it\n\
             \n\
             2 hosts: 1 errors, 1 warnings, 1 ok. They are not fit yet.\n\
             `--fix` mends 1 of them.\n"
        );
        assert!(render(&document, true).contains("ok       w1    os     os found    -\n"));
        let json = serde_json::to_value(&document).unwrap();
        assert_eq!((&json["errors"], &json["fit"]), (&1.into(), &false.into()));
        assert_eq!(json["findings"][0]["code"], "port");
        assert_eq!(json["fixed"][1]["error"], "no way");
    }
}
