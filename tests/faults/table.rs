//! The results as a table that can be kept: median and worst of all runs of each case.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::case::{Case, Outcome};

/// The results of one cast.
pub(crate) struct Table {
    title: &'static str,
    rows: String,
    runs: usize,
}

const HEAD: &str = "\
| fault | longest without an answer: bound | median | worst | of it the machine | failed requests: bound | worst | \
again after, worst | longest silence of a watch: bound | worst |
|---|---|---|---|---|---|---|---|---|---|
";

impl Table {
    pub(crate) fn new(title: &'static str, runs: usize) -> Self {
        Self { title, rows: String::new(), runs }
    }

    /// Adds the runs of a case that came to their end.
    pub(crate) fn add(&mut self, case: &Case, outcomes: &[Outcome]) {
        if outcomes.is_empty() {
            let _ = writeln!(self.rows, "| {} | none came to its end | | | | | | | | |", case.name);
            return;
        }
        let mut outages: Vec<_> = outcomes.iter().map(|o| o.stats.longest_outage).collect();
        outages.sort_unstable();
        let worst =
            |of: fn(&Outcome) -> Duration| outcomes.iter().map(of).max().unwrap_or_default();
        let failed = outcomes.iter().map(|outcome| outcome.stats.failed).max().unwrap_or(0);
        let silence = worst(|outcome| outcome.stats.longest_silence);
        let silence = case.watch.then(|| (bound(case.silence), seconds(silence)));
        let (bound_silence, silence) = silence.unwrap_or_default();
        let failed_bound =
            if case.failed == u64::MAX { "any".into() } else { case.failed.to_string() };
        let _ = writeln!(
            self.rows,
            "| {} | {} | {} | {} | {} | {failed_bound} | {failed} | {} | {bound_silence} | {silence} |",
            case.name,
            bound(case.outage),
            seconds(median(&outages)),
            seconds(outages[outages.len() - 1]),
            seconds(worst(|outcome| outcome.pause)),
            seconds(worst(|outcome| outcome.again)),
        );
    }

    /// The table in Markdown.
    pub(crate) fn text(&self) -> String {
        format!(
            "## {}\n\n{}; {} runs of each.\n\n{HEAD}{}",
            self.title,
            here(),
            self.runs,
            self.rows
        )
    }

    /// Puts it into a file, in place of the one with the same title.
    pub(crate) fn save(&self, file: &Path) -> io::Result<()> {
        let old = fs::read_to_string(file).unwrap_or_default();
        let heading = format!("## {}\n", self.title);
        let kept =
            old.split_inclusive('\n').fold((Vec::new(), false), |(mut kept, mut own), line| {
                if line.starts_with("## ") {
                    own = line == heading;
                    if !own {
                        kept.push(String::new());
                    }
                }
                if let (Some(section), false) = (kept.last_mut(), own) {
                    section.push_str(line);
                }
                (kept, own)
            });
        let mut sections: Vec<String> =
            kept.0.into_iter().map(|section| section.trim_end().to_owned() + "\n").collect();
        sections.push(self.text());
        sections.sort_unstable();
        fs::write(file, format!("{INTRODUCTION}\n{}", sections.join("\n")))
    }
}

const INTRODUCTION: &str = "\
# The fault lab

`FAULT_RUNS=10 FAULT_TABLE=benches/results/faults.md cargo test --test faults -- --nocapture` writes this page; with
`KUBEBUILDER_ASSETS` also the part with real kube-apiservers. Three servers and a node, each a network namespace; six
clients on HTTP/2 that ask every 100 ms and wait 2 s for an answer, all of which go into the figures. What a client without a
proxy of a server without faults had to wait is the machine's; what of that is over 0.2 s is added to the bound.
";

/// When, on what.
fn here() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or("unknown CPU", |(_, name)| name);
    let kernel = read("/proc/sys/kernel/osrelease");
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("{now}, {cores} cores of {cpu}, Linux {}, {build} build", kernel.trim())
}

fn median(sorted: &[Duration]) -> Duration {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        (sorted[middle - 1] + sorted[middle]) / 2
    } else {
        sorted[middle]
    }
}

fn bound(time: Duration) -> String {
    if time == Duration::MAX { "any".to_owned() } else { seconds(time) }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[test]
fn a_table_replaces_the_one_of_the_same_title_and_leaves_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("faults.md");
    let table = |title, row: &str| Table { title, rows: format!("{row}\n"), runs: 1 };
    table("B", "first").save(&file).unwrap();
    table("A", "other").save(&file).unwrap();
    table("B", "second").save(&file).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
    assert!(at("# The fault lab") < at("## A") && at("## A") < at("other"));
    assert!(at("other") < at("## B") && at("## B") < at("second"));
    assert!(!text.contains("first"), "{text}");
    assert_eq!(text.matches("# The fault lab").count(), 1);
    assert_eq!(median(&[1, 3].map(Duration::from_secs)), Duration::from_secs(2));
    assert_eq!(median(&[1, 3, 9].map(Duration::from_secs)), Duration::from_secs(3));
}
