//! What differs between two configurations, in words.

use std::time::Duration;

use crate::config::{Cluster, Config, LogFormat, LogLevel};

/// What a reload from `old` to `new` changes, one line a key.
pub(super) fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = match (old.clusters.as_slice(), new.clusters.as_slice()) {
        ([old], [new]) if old.name.is_none() && new.name.is_none() => of_cluster(old, new),
        (old, new) => of_clusters(old, new),
    };
    let level = |config: &Config| vec![("log.level", level_word(config.log.level).to_owned())];
    lines.extend(differences(&level(old), &level(new)));
    lines
}

/// The same of several clusters: those that came and went, and what differs in each that stays.
fn of_clusters(old: &[Cluster], new: &[Cluster]) -> Vec<String> {
    let names = |clusters: &[Cluster]| -> Vec<String> {
        clusters
            .iter()
            .filter_map(|cluster| cluster.name.as_ref())
            .map(ToString::to_string)
            .collect()
    };
    let words = list_words(&names(old), &names(new));
    let listed = (!words.is_empty()).then(|| format!("clusters: {}", words.join(" ")));
    let both = new.iter().filter_map(|new| {
        let old = old.iter().find(|old| old.name == new.name)?;
        Some((new.name.as_ref()?, of_cluster(old, new)))
    });
    let within =
        both.flat_map(|(name, lines)| lines.into_iter().map(move |line| format!("{name}: {line}")));
    listed.into_iter().chain(within).collect()
}

fn of_cluster(old: &Cluster, new: &Cluster) -> Vec<String> {
    let mut lines = lists(old, new);
    lines.extend(differences(&live(old), &live(new)));
    lines
}

/// What `new` says otherwise than the process was started with, and cannot be changed while it runs.
pub(super) fn needs_restart(started: &Config, new: &Config) -> Vec<String> {
    let fixed = |config: &Config| {
        vec![
            ("admin.listen", config.admin.listen.to_string()),
            ("admin.controlSocket", socket_word(config)),
            ("threads", config.threads.to_string()),
            ("log.format", format_word(config.log.format).to_owned()),
        ]
    };
    let differences = differences(&fixed(started), &fixed(new));
    differences.into_iter().map(|line| format!("{line} needs a restart")).collect()
}

/// Is this line about that key?
pub(super) fn is_about(line: &str, key: &str) -> bool {
    line.split_once(": ").is_some_and(|(of, _)| of == key)
}

fn socket_word(config: &Config) -> String {
    let path = config.admin.control_socket.as_ref();
    path.map_or_else(|| "none".to_owned(), |path| path.display().to_string())
}

fn differences(old: &[(&str, String)], new: &[(&str, String)]) -> Vec<String> {
    let pairs = old.iter().zip(new).filter(|((_, old), (_, new))| old != new);
    pairs.map(|((key, old), (_, new))| format!("{key}: {old} -> {new}")).collect()
}

fn lists(old: &Cluster, new: &Cluster) -> Vec<String> {
    let mut lines = Vec::new();
    let address = |config: &Cluster| -> Vec<String> {
        config.listen.iter().map(|listen| listen.address.to_string()).collect()
    };
    let words = list_words(&address(old), &address(new));
    if !words.is_empty() {
        lines.push(format!("listen: {}", words.join(" ")));
    }
    let name = |config: &Cluster| -> Vec<String> {
        config.backends.iter().map(|backend| backend.name.to_string()).collect()
    };
    let mut words = list_words(&name(old), &name(new));
    for backend in &new.backends {
        let mut before = old.backends.iter().filter(|other| other.name == backend.name);
        if let Some(before) = before.next().filter(|before| *before != backend) {
            let zone =
                |zone: &Option<_>| zone.as_deref().map_or(String::new(), |z| format!(" in {z}"));
            words.push(format!(
                "{}: {}{} -> {}{}",
                backend.name,
                before.address,
                zone(&before.zone),
                backend.address,
                zone(&backend.zone)
            ));
        }
    }
    if words.is_empty() && old.backends != new.backends {
        words.push("another order".to_owned());
    }
    if !words.is_empty() {
        lines.push(format!("backends: {}", words.join(" ")));
    }
    lines
}

/// `+` for what came, `-` for what went.
fn list_words(old: &[String], new: &[String]) -> Vec<String> {
    let came = new.iter().filter(|item| !old.contains(item)).map(|item| format!("+{item}"));
    let went = old.iter().filter(|item| !new.contains(item)).map(|item| format!("-{item}"));
    came.chain(went).collect()
}

/// The keys with one value each that a reload can change.
fn live(config: &Cluster) -> Vec<(&'static str, String)> {
    let Cluster { health_check: check, connect, connections, rebalance, discovery, .. } = config;
    let tls = check.tls.as_ref();
    let path = |path: Option<&std::path::PathBuf>| {
        path.map_or("none".to_owned(), |path| path.display().to_string())
    };
    let identity = tls.and_then(|tls| tls.identity.as_ref());
    vec![
        ("zone", config.zone.as_deref().unwrap_or("none").to_owned()),
        ("balance", format!("{:?}", config.balance)),
        ("healthCheck.type", format!("{:?}", check.kind).to_lowercase()),
        ("healthCheck.path", check.path.clone()),
        ("healthCheck.interval", time(check.interval)),
        ("healthCheck.fastInterval", time(check.fast_interval)),
        ("healthCheck.timeout", time(check.timeout)),
        ("healthCheck.rise", check.rise.to_string()),
        ("healthCheck.fall", check.fall.to_string()),
        ("healthCheck.tls.caFile", path(tls.and_then(|tls| tls.ca_file.as_ref()))),
        (
            "healthCheck.tls.serverName",
            tls.map_or("none".to_owned(), |tls| tls.server_name.clone()),
        ),
        ("healthCheck.tls.certFile", path(identity.map(|(cert, _)| cert))),
        ("healthCheck.tls.keyFile", path(identity.map(|(_, key)| key))),
        (
            "healthCheck.tls.insecureSkipVerify",
            tls.is_some_and(|tls| tls.insecure_skip_verify).to_string(),
        ),
        ("connect.timeout", time(connect.timeout)),
        ("connect.hedgeAfter", time(connect.hedge_after)),
        ("connections.max", connections.max.to_string()),
        ("connections.keepalive", time(connections.keepalive)),
        ("connections.userTimeout", time(connections.user_timeout)),
        ("connections.drainTimeout", time(connections.drain_timeout)),
        ("rebalance.enabled", rebalance.enabled.to_string()),
        ("rebalance.after", time(rebalance.after)),
        ("rebalance.window", time(rebalance.window)),
        ("rebalance.quietFor", time(rebalance.quiet_for)),
        ("discovery.kubernetes.kubeconfig", path(discovery.kubeconfig.as_ref())),
        ("discovery.file", path(discovery.file.as_ref())),
        ("discovery.cacheFile", path(discovery.cache_file.as_ref())),
    ]
}

/// A duration as it is written in a file.
fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

fn format_word(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

fn level_word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Overrides};

    fn config(lines: &str) -> Config {
        let text = format!("apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\n{lines}");
        let overrides = Overrides { insecure_skip_verify: true, ..Overrides::default() };
        config::parse("test.yaml", &text, Path::new(""), &overrides).unwrap()
    }

    #[test]
    fn a_difference_is_told_in_words() {
        let old = config(
            "backends: [{ name: cp1, address: 10.0.0.1:1 }, { name: cp2, address: 10.0.0.2:1 }]\n\
             threads: 1\n",
        );
        let new = config(
            "listen: [127.0.0.1:6443, 10.0.0.9:6443]\nconnections: { max: 200, drainTimeout: 1m30s }\n\
             backends: [{ name: cp1, address: 10.0.0.1:2, zone: a }, { name: cp4, address: 10.0.0.4:1 }]\n\
             threads: 2\n",
        );
        assert_eq!(
            changes(&old, &new),
            [
                "listen: +10.0.0.9:6443 -[::1]:6443",
                "backends: +cp4 -cp2 cp1: 10.0.0.1:1 -> 10.0.0.1:2 in a",
                "connections.max: 16384 -> 200",
                "connections.drainTimeout: 1m -> 1m30s",
            ]
        );
        assert_eq!(needs_restart(&old, &new), ["threads: 1 -> 2 needs a restart"]);
        assert!(changes(&old, &old).is_empty() && needs_restart(&old, &old).is_empty());
    }

    #[test]
    fn no_difference_goes_untold() {
        let old = config("backends: [{ address: 10.0.0.1:1 }, { address: 10.0.0.2:1 }]\n");
        let new = config("backends: [{ address: 10.0.0.2:1 }, { address: 10.0.0.1:1 }]\n");
        assert_eq!(changes(&old, &new), ["backends: another order"]);
    }
}
