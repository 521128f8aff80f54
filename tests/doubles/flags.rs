//! Command lines: only flags that the program has.

use std::collections::BTreeMap;
use std::time::Duration;

/// The flags of one program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags {
    /// Their names, one a line.
    known: &'static str,
    /// Those that take no value unless one is given with `=`.
    switches: &'static [&'static str],
}

pub(crate) const KUBE_APISERVER: Flags = Flags {
    known: include_str!("flags/kube-apiserver.txt"),
    switches: &["anonymous-auth", "allow-privileged"],
};
pub(crate) const KUBE_CONTROLLER_MANAGER: Flags =
    Flags { known: include_str!("flags/kube-controller-manager.txt"), switches: &["leader-elect"] };
pub(crate) const KUBE_SCHEDULER: Flags =
    Flags { known: include_str!("flags/kube-scheduler.txt"), switches: &["leader-elect"] };
pub(crate) const KUBELET: Flags = Flags {
    known: include_str!("flags/kubelet.txt"),
    switches: &["version", "fail-swap-on", "register-node"],
};

/// What a command line says.
#[derive(Debug, Default)]
pub(crate) struct Line {
    values: BTreeMap<String, Vec<String>>,
    /// What is no flag.
    pub(crate) words: Vec<String>,
}

impl Flags {
    /// Flags with these names, of which the switches end in `!`.
    pub(crate) fn check(known: &[&str], arguments: &[String]) -> Result<Line, String> {
        parse(arguments, |name| {
            known
                .iter()
                .find(|flag| flag.trim_end_matches('!') == name)
                .map(|flag| flag.ends_with('!'))
        })
    }

    /// Reads a command line.
    pub(crate) fn parse(&self, arguments: &[String]) -> Result<Line, String> {
        parse(arguments, |name| {
            let found = self.known.lines().any(|flag| flag == name);
            found.then(|| self.switches.contains(&name))
        })
    }

    /// Is there such a flag?
    pub(crate) fn has(&self, name: &str) -> bool {
        self.known.lines().any(|flag| flag == name)
    }
}

/// `is_switch` says of a known flag whether it is one that needs no value.
fn parse(arguments: &[String], is_switch: impl Fn(&str) -> Option<bool>) -> Result<Line, String> {
    let mut line = Line::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let long = match argument.as_str() {
            "-f" => "force",
            "-y" => "yes",
            "-o" => "output",
            "-v" => "v",
            other => match other.strip_prefix("--") {
                Some(long) => long,
                None if other.starts_with("-v=") => continue,
                None if other.starts_with('-') => {
                    return Err(format!("unknown shorthand flag: {other:?}"));
                }
                None => {
                    line.words.push(other.to_owned());
                    continue;
                }
            },
        };
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let value = match (is_switch(name), value) {
            (None, _) => return Err(format!("unknown flag: --{name}")),
            (Some(_), Some(value)) => value,
            (Some(true), None) => "true".to_owned(),
            (Some(false), None) => match rest.next() {
                Some(value) => value.clone(),
                None => return Err(format!("flag needs an argument: --{name}")),
            },
        };
        line.values.entry(name.to_owned()).or_default().push(value);
    }
    Ok(line)
}

impl Line {
    /// The value of a flag; the last if it was given several times.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str)
    }

    /// The value of a flag that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("--{name} must be given"))
    }

    /// Is it on?
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// All values of a flag that may hold several, split at commas.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let given = self.values.get(name).into_iter().flatten();
        let parts = given.flat_map(|value| value.split(','));
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }
}

/// Does nothing until it is ended.
pub(crate) fn idle() {
    loop {
        std::thread::sleep(Duration::from_hours(1));
    }
}
