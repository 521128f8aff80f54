//! The flags that stand above the file.

use std::path::PathBuf;

use super::shape::{Backend, Cluster, Proxy};
use super::{LogFormat, LogLevel};

/// What the command line says. What is given replaces the file's value; a list replaces the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--backend HOST:PORT`, any number of times.
    pub backends: Vec<String>,
    /// `--ca-file`; relative to the working directory.
    pub ca_file: Option<PathBuf>,
    /// `--listen IP:PORT`, any number of times.
    pub listen: Vec<String>,
    /// `--zone`.
    pub zone: Option<String>,
    /// `--admin-listen IP:PORT`.
    pub admin_listen: Option<String>,
    /// `--control-socket PATH`; relative to the working directory, empty for none.
    pub control_socket: Option<String>,
    /// `--insecure-skip-verify`.
    pub insecure_skip_verify: bool,
    /// `--log-level`.
    pub log_level: Option<LogLevel>,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
    /// `--threads`.
    pub threads: Option<usize>,
}

impl Overrides {
    /// Puts what is given in place of what the file says.
    pub(super) fn apply(&self, raw: &mut Proxy) {
        if !self.backends.is_empty() {
            let backend =
                |text: &String| Some(Backend { address: Some(text.clone()), ..Backend::default() });
            raw.backends = Some(self.backends.iter().map(backend).collect());
        }
        if !self.listen.is_empty() {
            raw.listen = Some(self.listen.iter().cloned().map(Some).collect());
        }
        if let Some(threads) = self.threads {
            raw.threads = i128::try_from(threads).ok();
        }
        if self.admin_listen.is_some() {
            raw.admin.get_or_insert_default().listen.clone_from(&self.admin_listen);
        }
        if self.control_socket.is_some() {
            let admin = raw.admin.get_or_insert_default();
            admin.control_socket.clone_from(&self.control_socket);
        }
        for cluster in raw.clusters.iter_mut().flatten().flatten() {
            self.apply_to_each(cluster);
        }
        if self.ca_file.is_some() || self.insecure_skip_verify {
            let tls = raw.health_check.get_or_insert_default().tls.get_or_insert_default();
            tls.ca_file = self.ca_file.clone().or(tls.ca_file.take());
            tls.insecure_skip_verify =
                self.insecure_skip_verify.then_some(true).or(tls.insecure_skip_verify);
        }
        let log = raw.log.get_or_insert_default();
        log.level = self.log_level.or(log.level);
        log.format = self.log_format.or(log.format);
        raw.zone = self.zone.clone().or(raw.zone.take());
    }

    /// What can be meant for each of several clusters.
    fn apply_to_each(&self, cluster: &mut Cluster) {
        cluster.zone = self.zone.clone().or(cluster.zone.take());
        let tls = cluster.health_check.as_mut().and_then(|check| check.tls.as_mut());
        if let (Some(tls), true) = (tls, self.insecure_skip_verify) {
            tls.insecure_skip_verify = Some(true);
        }
    }

    /// The flags that are given and can only be meant for one cluster.
    pub(super) fn for_one_cluster(&self) -> impl Iterator<Item = &'static str> {
        ["listen", "backends", "healthCheck.tls.caFile"].into_iter().filter_map(|at| self.flag(at))
    }

    /// The flag that gave the value at this path, if one did.
    pub(super) fn flag(&self, path: &str) -> Option<&'static str> {
        let given = match top(path) {
            "backends" => !self.backends.is_empty(),
            "listen" => !self.listen.is_empty(),
            "zone" => self.zone.is_some(),
            "admin.listen" => self.admin_listen.is_some(),
            "admin.controlSocket" => self.control_socket.is_some(),
            "healthCheck.tls.caFile" => self.ca_file.is_some(),
            "healthCheck.tls.insecureSkipVerify" => self.insecure_skip_verify,
            "threads" => self.threads.is_some(),
            _ => false,
        };
        given.then(|| flag_for(path))
    }
}

/// The flag that could give the value at this path.
pub(super) fn flag_for(path: &str) -> &'static str {
    match top(path) {
        "listen" => "--listen",
        "zone" => "--zone",
        "admin.listen" => "--admin-listen",
        "admin.controlSocket" => "--control-socket",
        "healthCheck.tls.caFile" => "--ca-file",
        "healthCheck.tls.insecureSkipVerify" => "--insecure-skip-verify",
        "threads" => "--threads",
        _ => "--backend",
    }
}

fn top(path: &str) -> &str {
    path.split('[').next().unwrap_or(path)
}
