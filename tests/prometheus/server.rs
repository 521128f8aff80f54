//! A Prometheus of the test's own: scrapes one proxy, evaluates our rules sixty times as fast.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Running, free_port, run, wait_for};

/// A running server. Killed when dropped.
pub(crate) struct Prometheus {
    _child: Running,
    _folder: TempDir,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts it on a proxy and the text of a rule file.
    pub(crate) fn start(target: SocketAddr, rules: &str) -> Self {
        Self::of_job("apiproxy", target, "apiproxy_build_info", rules)
    }

    /// Starts it on a target of a job, and waits until it has a metric of that.
    pub(crate) fn of_job(job: &str, target: SocketAddr, metric: &str, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("rules.yaml"), rules).unwrap();
        let config = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms }}\n\
             rule_files: [rules.yaml]\nscrape_configs:\n  - job_name: {job}\n    \
             static_configs: [{{ targets: [\"{target}\"] }}]\n"
        );
        fs::write(file("prometheus.yml"), config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let child = Command::new("prometheus")
            .arg(flag("config.file", &file("prometheus.yml")))
            .arg(flag("storage.tsdb.path", &file("data")))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(file("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { _child: Running(child), _folder: folder, address };
        wait_for("Prometheus has scraped its target", Duration::from_mins(1), || {
            let ready = Command::new("curl")
                .args(["-sf", &server.url("/-/ready")])
                .output()
                .is_ok_and(|output| output.status.success());
            (ready && !server.query(metric).is_empty()).then_some(())
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The series of an expression now.
    pub(crate) fn query(&self, expression: &str) -> Vec<Value> {
        let query = format!("query={expression}");
        let url = self.url("/api/v1/query");
        let answer = run(Command::new("curl").args(["-s", &url, "--data-urlencode", &query]));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// The names of the alerts that fire, sorted, each once.
    pub(crate) fn firing(&self) -> Vec<String> {
        let series = self.query("count by (alertname) (ALERTS{alertstate=\"firing\"})");
        let name = |series: &Value| series["metric"]["alertname"].as_str().unwrap().to_owned();
        let mut names: Vec<_> = series.iter().map(name).collect();
        names.sort();
        names
    }
}

/// The rules with every `for`, every range and every age a sixtieth as long, a second at least: in a
/// test, fifteen minutes are fifteen seconds.
pub(crate) fn hastened(rules: &str) -> String {
    let age = "apiproxy_endpoints_age_seconds) > 600\n";
    assert_eq!(rules.matches(age).count(), 1, "the age has changed");
    let rules = rules.replace(age, &age.replace("600", "10"));
    let seconds = |duration: &str| {
        let (number, unit) = duration.split_at(duration.len() - 1);
        let scale = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => panic!("{duration}: another unit"),
        };
        (number.parse::<u64>().unwrap() * scale / 60).max(1)
    };
    let ranges = |line: &str| {
        let part = |part: &str| match part.split_once(']') {
            Some((range, rest)) if range.starts_with(|c: char| c.is_ascii_digit()) => {
                format!("{}s]{rest}", seconds(range))
            }
            _ => part.to_owned(),
        };
        line.split('[').map(part).collect::<Vec<_>>().join("[")
    };
    let line = |line: &str| match line.split_once("for: ") {
        Some((indent, duration)) if indent.trim().is_empty() => {
            format!("{indent}for: {}s\n", seconds(duration))
        }
        _ => ranges(line) + "\n",
    };
    rules.lines().map(line).collect()
}
