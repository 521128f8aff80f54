//! A cluster of booted machines that three others watch.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::case::Case;
use crate::common::machines::Lab;
use crate::common::run;
use crate::webhook::Webhook;

/// All machines.
pub(crate) const NAMES: [&str; 9] = ["cp1", "cp2", "e1", "e2", "e3", "w1", "m1", "m2", "m3"];

pub(crate) struct Watched {
    pub(crate) case: Case,
    /// Who is told of alerts.
    pub(crate) webhook: Webhook,
}

impl Watched {
    pub(crate) fn new(lab: &Lab, version: &str, proxy: &Path) -> Self {
        let case = Case::new(lab, version, proxy, NAMES);
        Self { case, webhook: Webhook::start(&lab.gateway()) }
    }

    /// Writes the cluster's file with this about monitoring.
    pub(crate) fn wish(&self, monitoring: &str) {
        let text = self.case.text();
        let others = text.lines().filter(|line| !line.starts_with("  monitoring:"));
        self.case.write_text(&others.fold(String::new(), |text, line| text + line + "\n"));
        self.case.say(&format!("  monitoring: {monitoring}\n"));
    }

    fn address(&self, name: &str) -> String {
        self.case.machine(name).address().to_string()
    }

    /// What a Prometheus answers.
    fn ask(&self, name: &str, path: &str, query: Option<&str>) -> Value {
        let url = format!("http://{}:9090/api/v1/{path}", self.address(name));
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "10", &url]);
        if let Some(query) = query {
            curl.arg("--data-urlencode").arg(format!("query={query}"));
        }
        let answer: Value = serde_json::from_str(&run(&mut curl)).unwrap();
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        answer["data"].clone()
    }

    /// What a query returns.
    pub(crate) fn series(&self, query: &str) -> Vec<Value> {
        let data = self.ask("m2", "query", Some(query));
        data["result"].as_array().unwrap().clone()
    }

    fn targets(&self, name: &str) -> Vec<Value> {
        let targets = self.ask(name, "targets?state=active", None);
        let targets = targets["activeTargets"].as_array().unwrap().clone();
        assert!(targets.len() > 30, "{targets:#?}");
        targets
    }

    /// `JOB@INSTANCE` of each target that is not up.
    pub(crate) fn down(&self, name: &str) -> BTreeSet<String> {
        let targets = self.targets(name);
        let down = targets.iter().filter(|target| target["health"] != "up");
        down.map(|target| format!("{}@{}", label(target, "job"), label(target, "instance")))
            .collect()
    }

    /// Where this Prometheus asks for a job.
    pub(crate) fn urls(&self, name: &str, job: &str) -> Vec<String> {
        let targets = self.targets(name);
        let of_job = targets.iter().filter(|target| label(target, "job") == job);
        of_job.map(|target| target["scrapeUrl"].as_str().unwrap().to_owned()).collect()
    }

    /// What this Alertmanager was silent about for our sake, ended or not: `LABEL=VALUE` beside the cluster's.
    pub(crate) fn silences(&self, name: &str) -> BTreeSet<String> {
        let url = format!("http://{}:9093/api/v2/silences", self.address(name));
        let all: Value =
            serde_json::from_str(&run(Command::new("curl").args(["-sf", &url]))).unwrap();
        let ours = all.as_array().unwrap().iter();
        let ours = ours.filter(|silence| silence["createdBy"] == "apiproxy bootstrap");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let matchers = ours.flat_map(|silence| silence["matchers"].as_array().unwrap());
        let matchers =
            matchers.map(|one| format!("{}={}", text(&one["name"]), text(&one["value"])));
        matchers.collect()
    }

    /// Nobody is told of what matches.
    pub(crate) fn silence(&self, matcher: &str) {
        let amtool = format!("amtool --alertmanager.url http://{}:9093", self.address("m1"));
        let silence = "silence add --comment maintenance --duration 1h";
        self.case.machine("m1").exec(&format!("{amtool} {silence} {matcher}"));
    }
}

fn label(target: &Value, name: &str) -> String {
    target["labels"][name].as_str().unwrap_or_default().to_owned()
}
