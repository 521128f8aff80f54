//! haproxy.cfg: the frontend or listen section that passes TCP on, and its servers.

use std::net::SocketAddr;

use super::collect::{Servers, listen_address};
use super::words::split;
use super::{Found, Trouble, choose};
use crate::model::Policy;

/// The words that begin a section (HAProxy's configuration manual, 2.1 to 3.x).
const SECTIONS: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "userlist",
    "mailers",
    "cache",
    "program",
    "ring",
    "http-errors",
    "fcgi-app",
    "crt-store",
    "crt-list",
    "log-forward",
    "log-profile",
    "traces",
    "acme",
];

/// A line that is no comment.
struct Line {
    number: usize,
    words: Vec<String>,
}

impl Line {
    fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }
}

struct Section {
    line: usize,
    kind: String,
    name: String,
    /// From the section itself, or else from the `defaults` before it.
    is_tcp: bool,
    lines: Vec<Line>,
}

impl Section {
    fn all<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.word(0) == keyword)
    }
}

/// Reads haproxy.cfg. With several sections that pass TCP on, `wanted` names the one to replace.
///
/// # Errors
/// With its line: what cannot be read, or what the proxy cannot do.
pub fn haproxy(text: &str, wanted: Option<&str>) -> Result<Found, Trouble> {
    let sections = sections(text)?;
    let mut candidates = Vec::new();
    for section in &sections {
        let serves = match section.kind.as_str() {
            "frontend" => section.is_tcp,
            "listen" => section.is_tcp && section.all("server").next().is_some(),
            _ => false,
        };
        if serves {
            candidates.push((section.name.clone(), section.line, section));
        }
    }
    let none = Trouble::whole("no `frontend` or `listen` section passes TCP on (`mode tcp`)")
        .hint("the configuration of a load balancer for apiservers has one");
    let (_, front) = choose(candidates, wanted, none)?;
    let backend = if front.kind == "listen" { front } else { backend_of(front, &sections)? };
    let listen = binds(front)?;
    let port = listen.first().map(SocketAddr::port);
    let mut servers = Servers::default();
    let balance = balance(front, backend, &mut servers);
    for line in backend.all("server") {
        server(line, port, &mut servers)?;
    }
    if let Some(line) = backend.all("server-template").next() {
        return Err(Trouble::at(line.number, "`server-template` makes servers from DNS")
            .hint("name the servers with --backend"));
    }
    let nothing = Trouble::at(
        backend.line,
        format!("`{} {}` has no server in use", backend.kind, backend.name),
    );
    let (servers, notes) = servers.finish(nothing)?;
    let place = format!("{} {}", front.kind, front.name);
    Ok(Found { place, listen, servers, balance, notes })
}

fn sections(text: &str) -> Result<Vec<Section>, Trouble> {
    let mut sections: Vec<Section> = Vec::new();
    let mut default_is_tcp = true;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let words = split(line, number)?;
        let Some(first) = words.first() else { continue };
        if SECTIONS.contains(&first.as_str()) {
            let name = words.get(1).cloned().unwrap_or_default();
            if name.is_empty() && matches!(first.as_str(), "frontend" | "backend" | "listen") {
                return Err(Trouble::at(number, format!("`{first}` has no name")));
            }
            if first == "defaults" {
                // Each `defaults` starts anew; HAProxy's own default is TCP.
                default_is_tcp = true;
            }
            let (kind, is_tcp) = (first.clone(), default_is_tcp);
            sections.push(Section { line: number, kind, name, is_tcp, lines: Vec::new() });
            continue;
        }
        let Some(section) = sections.last_mut() else {
            if first.starts_with('.') {
                // Conditional blocks (`.if`) may stand before any section.
                return Err(Trouble::at(number, format!("`{first}` is not understood")));
            }
            return Err(Trouble::at(number, format!("`{first}` stands in no section"))
                .hint("is this an haproxy.cfg?"));
        };
        if first == "mode" {
            section.is_tcp = words.get(1).is_some_and(|mode| mode == "tcp");
            if section.kind == "defaults" {
                default_is_tcp = section.is_tcp;
            }
        }
        section.lines.push(Line { number, words });
    }
    Ok(sections)
}

fn backend_of<'a>(front: &Section, sections: &'a [Section]) -> Result<&'a Section, Trouble> {
    if let Some(line) = front.all("use_backend").next() {
        return Err(Trouble::at(
            line.number,
            "`use_backend` chooses by rules, which apiproxy has not",
        ));
    }
    let Some(line) = front.all("default_backend").last() else {
        let message = format!("frontend {} has no `default_backend`", front.name);
        return Err(Trouble::at(front.line, message));
    };
    let name = line.word(1);
    let named = |section: &&Section| {
        matches!(section.kind.as_str(), "backend" | "listen") && section.name == name
    };
    sections
        .iter()
        .find(named)
        .ok_or_else(|| Trouble::at(line.number, format!("there is no `backend {name}`")))
}

fn binds(front: &Section) -> Result<Vec<SocketAddr>, Trouble> {
    let mut listen = Vec::new();
    for line in front.all("bind") {
        if let Some(word) = line.words.iter().find(|word| *word == "ssl" || *word == "crt") {
            let message = format!("`bind` with `{word}` ends TLS; apiproxy passes it through");
            return Err(Trouble::at(line.number, message));
        }
        if line.words.iter().any(|word| word == "accept-proxy") {
            return Err(Trouble::at(line.number, "apiproxy does not read the PROXY protocol"));
        }
        for address in line.word(1).split(',') {
            let plain = address.strip_prefix("ipv4@").or(address.strip_prefix("ipv6@"));
            let plain = plain.unwrap_or(address);
            // Without a host, as `ipv6@:6443`, it is any address of the family.
            let any =
                address.starts_with("ipv6@") && plain.starts_with(':') && !plain[1..].contains(':');
            let plain = if any { format!("[::]{plain}") } else { plain.to_owned() };
            let address = listen_address(line.number, &plain, false)?;
            if !listen.contains(&address) {
                listen.push(address);
            }
        }
    }
    if listen.is_empty() {
        let message = format!("{} {} has no `bind`", front.kind, front.name);
        return Err(Trouble::at(front.line, message));
    }
    Ok(listen)
}

fn balance(front: &Section, backend: &Section, servers: &mut Servers) -> Policy {
    let Some(line) = backend.all("balance").last().or_else(|| front.all("balance").last()) else {
        return Policy::RoundRobin;
    };
    match line.word(1) {
        "leastconn" => Policy::LeastConnections,
        "roundrobin" | "static-rr" => Policy::RoundRobin,
        "random(1)" => Policy::Random,
        // It draws two unless told otherwise.
        word if word.starts_with("random") => Policy::PowerOfTwo,
        other => {
            servers.note(line.number, format!("`balance {other}` becomes leastConnections"));
            Policy::LeastConnections
        }
    }
}

fn server(line: &Line, port: Option<u16>, servers: &mut Servers) -> Result<(), Trouble> {
    let (name, address) = (line.word(1), line.word(2));
    if address.is_empty() {
        let message = "`server` needs a name and an address";
        return Err(Trouble::at(line.number, message));
    }
    for word in line.words.iter().skip(3) {
        match word.as_str() {
            "disabled" => {
                servers.note(line.number, format!("server {name} is disabled, and left out"));
                return Ok(());
            }
            "backup" => servers.note(
                line.number,
                format!("server {name} is a backup; apiproxy uses every ready server"),
            ),
            "weight" => servers.note(line.number, "weights are not taken over"),
            "ssl" => {
                let message = "`ssl` wraps clients' TLS in another; apiproxy passes it through";
                return Err(Trouble::at(line.number, message));
            }
            "send-proxy" | "send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {
                return Err(Trouble::at(line.number, "apiproxy does not send the PROXY protocol"));
            }
            _ => {}
        }
    }
    let address =
        address.strip_prefix("ipv4@").or(address.strip_prefix("ipv6@")).unwrap_or(address);
    servers.add(line.number, Some(name), &with_port(address, port))
}

/// As HAProxy reads it: the last colon is before the port, also in IPv6 without brackets; without a
/// port, it is the one that the client connected to.
fn with_port(address: &str, port: Option<u16>) -> String {
    let bracketed = address.starts_with('[');
    match address.rsplit_once(':') {
        Some((host, port)) if !bracketed && host.contains(':') => format!("[{host}]:{port}"),
        Some((host, _)) if !bracketed || host.ends_with(']') => address.to_owned(),
        _ => port.map_or(address.to_owned(), |port| format!("{address}:{port}")),
    }
}
