//! nginx.conf: the server in `stream` that passes TCP on, and its upstream.

mod tree;

use std::net::SocketAddr;

use tree::{Directive, parse};

use super::collect::{Servers, listen_address};
use super::{Found, Trouble, choose};
use crate::model::Policy;

/// Reads nginx.conf. With several servers in `stream`, `wanted` names the upstream of the one to
/// replace.
///
/// # Errors
/// With its line: what cannot be read, or what the proxy cannot do.
pub fn nginx(text: &str, wanted: Option<&str>) -> Result<Found, Trouble> {
    let file = parse(text)?;
    let streams: Vec<_> = file.iter().filter(|directive| directive.name == "stream").collect();
    let stream: Vec<_> = streams.iter().flat_map(|stream| &stream.block).collect();
    let include = stream.iter().copied().chain(&file).find(|directive| directive.name == "include");
    let missing = |message: String, line: Option<usize>| {
        let trouble = Trouble { line, message, hint: None };
        match include {
            Some(include) => trouble.hint(format!(
                "line {} includes `{}`, which is not read: give the file that has it, or all in one \
                 (`nginx -T`)",
                include.line,
                include.argument(0)
            )),
            None => trouble,
        }
    };
    if streams.is_empty() {
        let message = "there is no `stream` block, so nothing passes TCP on".to_owned();
        return Err(missing(message, None));
    }
    let mut candidates = Vec::new();
    for server in stream.iter().filter(|directive| directive.name == "server") {
        if is_udp(server) {
            continue;
        }
        if let Some(pass) = server.child("proxy_pass") {
            candidates.push((pass.argument(0).to_owned(), server.line, (*server, pass)));
        }
    }
    let none =
        missing("no `server` in `stream` has a `proxy_pass`".to_owned(), Some(streams[0].line));
    let (target, (server, pass)) = choose(candidates, wanted, none)?;
    if target.contains('$') {
        let message = format!("`proxy_pass {target}` is chosen for each client by a variable");
        return Err(Trouble::at(pass.line, message));
    }
    for (name, what) in [
        ("proxy_ssl", "wraps clients' TLS in another"),
        ("proxy_protocol", "is the PROXY protocol"),
    ] {
        if let Some(set) = server.child(name).filter(|set| set.argument(0) == "on") {
            return Err(Trouble::at(
                set.line,
                format!("`{name} on` {what}; apiproxy passes on as it is"),
            ));
        }
    }
    let listen = listens(server)?;
    let mut servers = Servers::default();
    let upstream = stream
        .iter()
        .find(|directive| directive.name == "upstream" && directive.argument(0) == target);
    let balance = match upstream {
        Some(upstream) => {
            for server in upstream.block.iter().filter(|directive| directive.name == "server") {
                self::server(server, &mut servers)?;
            }
            balance(upstream, &mut servers)
        }
        None if target.parse::<crate::model::BackendAddress>().is_ok() => {
            servers.add(pass.line, None, &target)?;
            Policy::default()
        }
        None => {
            return Err(missing(format!("there is no `upstream {target}`"), Some(pass.line)));
        }
    };
    let line = upstream.map_or(pass.line, |upstream| upstream.line);
    let nothing = missing(format!("`upstream {target}` has no server in use"), Some(line));
    let (servers, notes) = servers.finish(nothing)?;
    Ok(Found { place: format!("upstream {target}"), listen, servers, balance, notes })
}

fn is_udp(server: &Directive) -> bool {
    let mut listens = server.block.iter().filter(|directive| directive.name == "listen");
    listens.any(|listen| listen.arguments.iter().any(|argument| argument == "udp"))
}

fn listens(server: &Directive) -> Result<Vec<SocketAddr>, Trouble> {
    let mut addresses = Vec::new();
    for listen in server.block.iter().filter(|directive| directive.name == "listen") {
        for argument in listen.arguments.iter().skip(1) {
            match argument.as_str() {
                "ssl" => {
                    let message = "`listen` with `ssl` ends TLS; apiproxy passes it through";
                    return Err(Trouble::at(listen.line, message));
                }
                "proxy_protocol" => {
                    let message = "apiproxy does not read the PROXY protocol";
                    return Err(Trouble::at(listen.line, message));
                }
                _ => {}
            }
        }
        let address = listen_address(listen.line, listen.argument(0), true)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(Trouble::at(server.line, "the `server` has no `listen`"));
    }
    Ok(addresses)
}

fn balance(upstream: &Directive, servers: &mut Servers) -> Policy {
    for directive in &upstream.block {
        match directive.name.as_str() {
            "least_conn" => return Policy::LeastConnections,
            "random" if directive.argument(0) == "two" => return Policy::PowerOfTwo,
            "random" => return Policy::Random,
            "hash" | "ip_hash" | "least_time" => {
                let text = format!("`{}` becomes leastConnections", directive.name);
                servers.note(directive.line, text);
                return Policy::LeastConnections;
            }
            _ => {}
        }
    }
    Policy::RoundRobin
}

fn server(server: &Directive, servers: &mut Servers) -> Result<(), Trouble> {
    let address = server.argument(0);
    for argument in server.arguments.iter().skip(1) {
        match argument.as_str() {
            "down" => {
                servers.note(server.line, format!("{address} is marked down, and left out"));
                return Ok(());
            }
            "backup" => servers.note(
                server.line,
                format!("{address} is a backup; apiproxy uses every ready server"),
            ),
            other if other.starts_with("weight=") => {
                servers.note(server.line, "weights are not taken over");
            }
            _ => {}
        }
    }
    servers.add(server.line, None, address)
}
