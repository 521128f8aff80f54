//! What was found: one line each, with its remedy.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// `apply` would fail, or what it makes would not work.
    Error,
    /// It works, but not well, or not always.
    Warning,
    /// As it should be.
    Ok,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Ok => "ok",
        })
    }
}

/// One thing about one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The host's name in the spec.
    pub host: String,
    /// How bad it is.
    pub level: Level,
    /// What it is about, for programs: `clock-skew`.
    pub code: &'static str,
    /// What was found, in one line.
    pub what: String,
    /// What the user can do; empty when all is well.
    pub remedy: String,
    /// Would `--fix` mend it?
    pub fixable: bool,
    /// How.
    #[serde(skip)]
    pub fix: Option<Fix>,
}

/// What `--fix` and `apply` do by themselves, because it harms nobody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fix {
    /// Set the host's name.
    Hostname(String),
    /// Load the modules, now and at each start.
    Modules,
    /// Set the kernel parameters, now and at each start.
    Sysctls,
    /// Switch swapping off, now and at each start.
    Swap,
    /// Install a package of the distribution.
    Package(&'static str),
}

/// Collects the findings of one host.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    host: &'a str,
    found: Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub(super) fn of(host: &'a str) -> Self {
        Self { host, found: Vec::new() }
    }

    pub(super) fn into_vec(self) -> Vec<Finding> {
        self.found
    }

    fn push(
        &mut self,
        level: Level,
        code: &'static str,
        what: String,
        remedy: String,
        fix: Option<Fix>,
    ) {
        let (host, fixable) = (self.host.to_owned(), fix.is_some());
        self.found.push(Finding { host, level, code, what, remedy, fixable, fix });
    }

    pub(super) fn ok(&mut self, code: &'static str, what: impl Into<String>) {
        self.push(Level::Ok, code, what.into(), String::new(), None);
    }

    pub(super) fn warn(
        &mut self,
        code: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Level::Warning, code, what.into(), remedy.into(), None);
    }

    pub(super) fn error(
        &mut self,
        code: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Level::Error, code, what.into(), remedy.into(), None);
    }

    /// Something that `apply` mends by itself, and `--fix` does before.
    pub(super) fn fixable(
        &mut self,
        level: Level,
        code: &'static str,
        what: impl Into<String>,
        fix: Fix,
    ) {
        let remedy = match &fix {
            Fix::Hostname(name) => format!("`--fix` sets it to {name}, and so does `apply`"),
            Fix::Modules => "`--fix` loads it, and so does `apply`".to_owned(),
            Fix::Sysctls => "`--fix` sets it, and so does `apply`".to_owned(),
            Fix::Swap => "`--fix` switches it off, and so does `apply`".to_owned(),
            Fix::Package(package) => format!("`--fix` installs {package}, and so does `apply`"),
        };
        self.push(level, code, what.into(), remedy, Some(fix));
    }
}
