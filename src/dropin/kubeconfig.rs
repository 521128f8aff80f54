//! A kubeconfig, such as kubelet's: the server of its current context.

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::collect::Servers;
use super::{Found, Trouble};
use crate::model::{Host, Policy};

/// A kubeconfig has many more keys; these are what the server follows from.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    kind: Option<String>,
    current_context: Option<Spanned<String>>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Option<Context>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct Context {
    cluster: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: Option<Spanned<String>>,
    proxy_url: Option<Spanned<String>>,
}

/// Reads a kubeconfig. `wanted` names another context than the current one.
///
/// # Errors
/// With its line: what cannot be read, or what the proxy cannot do.
pub fn kubeconfig(text: &str, wanted: Option<&str>) -> Result<Found, Trouble> {
    let file: Kubeconfig = serde_saphyr::from_str(text).map_err(|error| Trouble {
        line: error.location().and_then(|location| usize::try_from(location.line()).ok()),
        message: format!("this is no kubeconfig: {}", first_line(&error.to_string())),
        hint: None,
    })?;
    if file.kind.as_deref().is_some_and(|kind| kind != "Config") {
        return Err(Trouble::whole("this is no kubeconfig: its `kind` is not `Config`"));
    }
    let (name, cluster) = cluster(&file, wanted)?;
    if let Some(proxy) = &cluster.proxy_url {
        return Err(Trouble::at(line(proxy), "apiproxy does not go through a `proxy-url`"));
    }
    let Some(server) = &cluster.server else {
        return Err(Trouble::whole(format!("cluster `{name}` has no `server`")));
    };
    let at = line(server);
    let address = host_and_port(&server.value, at)?;
    let mut servers = Servers::default();
    servers.add(at, None, &address)?;
    let (servers, notes) = servers.finish(Trouble::at(at, "no server"))?;
    let local = servers.iter().any(|server| match server.address.host() {
        Host::Ip(ip) => ip.is_loopback(),
        Host::Name(name) => name == "localhost",
    });
    if local {
        let message = format!("`{}` is this node: something proxies here already", server.value);
        return Err(Trouble::at(at, message)
            .hint("read that proxy's file instead: --from-haproxy or --from-nginx"));
    }
    let place = format!("cluster {name}");
    Ok(Found { place, listen: Vec::new(), servers, balance: Policy::default(), notes })
}

fn cluster<'a>(
    file: &'a Kubeconfig,
    wanted: Option<&str>,
) -> Result<(&'a str, &'a Cluster), Trouble> {
    let current = file.current_context.as_ref().filter(|current| !current.value.is_empty());
    let context = match (wanted, current) {
        (Some(wanted), _) => Some((wanted, None)),
        (None, Some(current)) => Some((current.value.as_str(), Some(line(current)))),
        (None, None) => None,
    };
    let name = match context {
        Some((context, line)) => {
            let trouble = |message| Trouble { line, message, hint: None };
            let found = file.contexts.iter().find(|found| found.name == context);
            let found = found
                .and_then(|found| found.context.as_ref())
                .ok_or_else(|| trouble(format!("there is no context `{context}`")))?;
            let cluster = found.cluster.as_ref();
            let cluster = cluster
                .ok_or_else(|| trouble(format!("context `{context}` names no `cluster`")))?;
            Some(cluster)
        }
        None => None,
    };
    let found = match (name, file.clusters.as_slice()) {
        (Some(name), clusters) => clusters.iter().find(|found| found.name == name.value),
        (None, [only]) => Some(only),
        (None, []) => return Err(Trouble::whole("there is no cluster in it")),
        (None, _) => {
            return Err(Trouble::whole("there are several clusters and no `current-context`")
                .hint("choose a context with --section"));
        }
    };
    let missing = || match name {
        Some(name) => Trouble::at(line(name), format!("there is no cluster `{}`", name.value)),
        None => Trouble::whole("the cluster is empty"),
    };
    let found = found.ok_or_else(missing)?;
    Ok((&found.name, found.cluster.as_ref().ok_or_else(missing)?))
}

/// Where a value stands.
fn line<T>(value: &Spanned<T>) -> usize {
    usize::try_from(value.referenced.line()).unwrap_or(1).max(1)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// `https://HOST[:PORT]`, as client-go reads it: without a port it is 443.
fn host_and_port(url: &str, line: usize) -> Result<String, Trouble> {
    let wrong = |why: &str| Trouble::at(line, format!("`server: {url}` {why}"));
    let Some(rest) = url.strip_prefix("https://") else {
        return Err(wrong("is no https:// address"));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(wrong("has a path; apiproxy passes TLS through and cannot add one"));
    }
    if rest.contains('@') {
        return Err(wrong("holds a user"));
    }
    let after_host = rest.rsplit_once(']').map_or(rest, |(_, after)| after);
    Ok(if after_host.contains(':') { rest.to_owned() } else { format!("{rest}:443") })
}
