//! `apiproxy bootstrap status`: the cluster as it is.

use std::fmt::Write as _;

use super::access::{Access, Form};
use super::job::{interrupts, unless_ended};
use crate::bootstrap::steps::certs::Certificate;
use crate::bootstrap::steps::status::{
    HostStatus, MemberStatus, ProxyStatus, Server, Status, gather,
};
use crate::cli::{CliError, output, runtime};

/// Flags of `bootstrap status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks every host of the file, each for a minute at most, and changes nothing. What cannot be reached is
shown as such, and the rest nevertheless. Exit 0 when all is well, 1 when something is not: then the
last lines say what. With --host these hosts are shown alone, and only what is not well with them counts;
of the others, control planes and etcd are asked as far as is needed for that.

Examples:
  apiproxy bootstrap status --file cluster.yaml
  apiproxy bootstrap status --host 'w[1-20]'
  apiproxy bootstrap status -o json | jq '.faults'")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    access: Access,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let site = args.access.open("status")?;
    let status = runtime()?.block_on(async {
        let work =
            async { Ok(gather(&site.shared, &site.cx, site.chosen.as_ref(), site.parallel).await) };
        unless_ended(&mut interrupts()?, work).await
    })?;
    match site.form {
        Form::Json => output::emit_json(&status)?,
        Form::Text => output::emit(&render(&status))?,
    }
    if status.healthy { Ok(()) } else { Err(CliError::Unwell) }
}

fn render(status: &Status) -> String {
    let Status { cluster, kubernetes_version, .. } = status;
    let mut text = format!("{cluster}, {kubernetes_version} by its file\n\n");
    let header = ["HOST", "ROLES", "STATUS", "KUBELET", "APISERVER"];
    text += &output::table(&header, status.hosts.iter().map(host).collect());
    if !status.members.is_empty() {
        let header = ["ETCD MEMBER", "ID", "STATUS", "LEADER", "VERSION", "SIZE"];
        text.push('\n');
        text += &output::table(&header, status.members.iter().map(member).collect());
    }
    if !status.proxies.is_empty() {
        let header = ["PROXY", "STATUS", "RUNS AS", "VERSION", "APISERVERS"];
        text.push('\n');
        text += &output::table(&header, status.proxies.iter().map(proxy).collect());
    }
    let ending: Vec<_> = status.certificates.iter().filter(|one| one.ending).collect();
    if !ending.is_empty() {
        let row = |one: &&Certificate| {
            vec![one.file.clone(), one.host.clone(), one.ends.clone(), one.days_left.to_string()]
        };
        text.push('\n');
        let header = ["CERTIFICATE", "HOST", "ENDS", "DAYS LEFT"];
        text += &output::table(&header, ending.iter().map(row).collect());
    }
    text.push('\n');
    match status.faults.len() {
        0 => text += "All is well.\n",
        1 => text += "One thing is not as it should be:\n",
        faults => {
            let _ = writeln!(text, "{faults} things are not as they should be:");
        }
    }
    for fault in &status.faults {
        let _ = writeln!(text, "  {fault}");
    }
    text
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

fn host(host: &HostStatus) -> Vec<String> {
    let roles: Vec<_> = host.roles.iter().map(|role| role.as_str()).collect();
    let roles = if host.in_file { roles.join(",") } else { "not in the file".to_owned() };
    let kubelet = host.node.as_ref().and_then(|node| node.kubelet.as_deref());
    vec![
        host.name.clone(),
        roles,
        condition(host),
        or_dash(kubelet),
        or_dash(host.api_server.as_deref()),
    ]
}

/// How a host is, in few words; the faults say more.
fn condition(host: &HostStatus) -> String {
    let mut words: Vec<&str> = Vec::new();
    let copy;
    if host.unreached.is_some() {
        words.push("not reached");
    }
    match host.control_plane.as_deref() {
        None | Some("ready") => {}
        Some("not in the cluster") => words.push("not in the cluster"),
        Some(_) => words.push("control plane not ready"),
    }
    match &host.node {
        Some(node) => {
            words.push(if node.ready { "ready" } else { "node not ready" });
            if node.cordoned {
                words.push("cordoned");
            }
        }
        None if host.lacks.as_deref() == Some("") => {
            words.push("prepared");
            if let Some(found) = &host.copy {
                copy = match found.age_seconds {
                    Some(age) => format!("newest backup {} old", output::age(age)),
                    None => "no backup yet".to_owned(),
                };
                words.push(&copy);
            }
        }
        None if host.lacks.is_some() => words.push("not prepared"),
        None if words.is_empty() => words.push("reached"),
        None => {}
    }
    words.join(", ")
}

fn member(member: &MemberStatus) -> Vec<String> {
    let status = match member {
        MemberStatus { name, .. } if name.is_empty() => "never started",
        MemberStatus { learner: true, .. } => "learner",
        MemberStatus { healthy: true, .. } => "healthy",
        MemberStatus { .. } => "not healthy",
    };
    let name = if member.name.is_empty() { "-" } else { &member.name };
    vec![
        name.to_owned(),
        member.id.clone(),
        status.to_owned(),
        (if member.leader { "yes" } else { "-" }).to_owned(),
        or_dash(member.version.as_deref()),
        member.db_size.map_or_else(|| "-".to_owned(), output::bytes),
    ]
}

fn proxy(proxy: &ProxyStatus) -> Vec<String> {
    let answers = proxy.usable || !proxy.servers.is_empty();
    let status = match (proxy.usable, answers) {
        (true, _) => "serves",
        (false, true) => "no apiserver",
        (false, false) => "no answer",
    };
    let form = match (answers, proxy.static_pod) {
        (false, _) => "-",
        (true, true) => "static pod",
        (true, false) => "unit",
    };
    let ready = proxy.servers.iter().filter(|server| server.state == "ready").count();
    let others = proxy.servers.iter().filter(|server| server.state != "ready");
    let mut servers = vec![format!("{ready} of {} ready", proxy.servers.len())];
    servers.extend(others.map(|Server { name, state, .. }| format!("{name} {state}")));
    let servers = if proxy.servers.is_empty() { "-".to_owned() } else { servers.join(", ") };
    vec![
        proxy.host.clone(),
        status.to_owned(),
        form.to_owned(),
        or_dash(proxy.version.as_deref()),
        servers,
    ]
}

#[cfg(test)]
mod tests;
