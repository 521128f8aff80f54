//! Reads what an installer left on a worker, HAProxy's, nginx's or a kubeconfig, as apiservers to
//! proxy.

mod collect;
mod haproxy;
mod kubeconfig;
mod nginx;
mod words;

use std::fmt;
use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::config::{API_VERSION, KIND};
use crate::model::{BackendAddress, BackendName, Policy};

pub use haproxy::haproxy;
pub use kubeconfig::kubeconfig;
pub use nginx::nginx;

/// What was found: what a configuration of the proxy needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it was found in, such as `frontend kube_api`.
    pub place: String,
    /// Where clients connect; empty when the file does not say.
    pub listen: Vec<SocketAddr>,
    /// The apiservers: 1 to 64, with unique names and addresses.
    pub servers: Vec<Server>,
    /// How a server was chosen, as near as the proxy has it.
    pub balance: Policy,
    /// What is not taken over.
    pub notes: Vec<Note>,
}

/// An apiserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name in the file, or its address.
    pub name: BackendName,
    /// Where it listens.
    pub address: BackendAddress,
}

/// Something in the file that the proxy does otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line, from 1.
    pub line: usize,
    /// What.
    pub text: String,
}

/// Why the file cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Trouble {
    /// The line, from 1; `None` when it is about the whole file.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What can be done.
    pub hint: Option<String>,
}

impl Trouble {
    fn at(line: usize, message: impl Into<String>) -> Self {
        Self { line: Some(line), message: message.into(), hint: None }
    }

    fn whole(message: impl Into<String>) -> Self {
        Self { line: None, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl Found {
    /// The proxy's configuration, with the CA in this file.
    pub fn configuration(&self, ca_file: &str) -> String {
        // JSON strings are YAML: no value can break out of its place.
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let mut text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n");
        if !self.listen.is_empty() {
            let listen: Vec<_> = self.listen.iter().map(|at| quote(&at.to_string())).collect();
            let _infallible = writeln!(text, "listen: [{}]", listen.join(", "));
        }
        text += "backends:\n";
        for Server { name, address } in &self.servers {
            let (name, address) = (quote(name.as_str()), quote(&address.to_string()));
            let _infallible = writeln!(text, "  - {{ name: {name}, address: {address} }}");
        }
        let balance = match self.balance {
            Policy::LeastConnections => "leastConnections",
            Policy::RoundRobin => "roundRobin",
            Policy::Random => "random",
            Policy::PowerOfTwo => "powerOfTwo",
        };
        let _infallible = writeln!(text, "balance: {balance}");
        let _infallible =
            writeln!(text, "healthCheck: {{ tls: {{ caFile: {} }} }}", quote(ca_file));
        text
    }
}

/// Takes the one candidate, or the one of this name; otherwise says what there is.
fn choose<T>(
    mut candidates: Vec<(String, usize, T)>,
    wanted: Option<&str>,
    none: Trouble,
) -> Result<(String, T), Trouble> {
    if let Some(wanted) = wanted {
        candidates.retain(|(name, ..)| name == wanted);
        if candidates.is_empty() {
            return Err(Trouble::whole(format!("there is no `{wanted}` that passes TCP on")));
        }
    }
    match candidates.len() {
        0 => Err(none),
        1 => Ok(candidates.pop().map(|(name, _, found)| (name, found)).ok_or(none)?),
        _ => {
            let names: Vec<_> = candidates
                .iter()
                .map(|(name, line, _)| format!("`{name}` (line {line})"))
                .collect();
            let (first, line) = (&candidates[0].0, candidates[1].1);
            Err(Trouble::at(line, format!("several could be meant: {}", names.join(", ")))
                .hint(format!("choose with --section, for example --section {first}")))
        }
    }
}

#[cfg(test)]
mod tests;
