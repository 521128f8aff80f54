//! Gathers servers and addresses, and refuses what the proxy cannot have.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::{Note, Server, Trouble};
use crate::model::{BackendAddress, BackendName, MAX_BACKENDS};

/// The servers of a file, in its order.
#[derive(Debug, Default)]
pub(super) struct Servers {
    found: Vec<Server>,
    names: HashSet<String>,
    addresses: HashSet<BackendAddress>,
    pub(super) notes: Vec<Note>,
}

impl Servers {
    /// Adds a server. A name that the proxy cannot use gives way to the address.
    pub(super) fn add(
        &mut self,
        line: usize,
        name: Option<&str>,
        address: &str,
    ) -> Result<(), Trouble> {
        let address: BackendAddress = address
            .parse()
            .map_err(|error| Trouble::at(line, format!("the server's address: {error}")))?;
        if !self.addresses.insert(address.clone()) {
            self.note(line, format!("{address} is named twice; once is enough"));
            return Ok(());
        }
        if self.found.len() == MAX_BACKENDS {
            return Err(Trouble::at(line, format!("more than {MAX_BACKENDS} servers")));
        }
        let written = address.to_string();
        let name = name.filter(|name| is_name(name) && !self.names.contains(*name));
        let name = name.unwrap_or(&written);
        if self.names.contains(name) {
            return Err(Trouble::at(line, format!("another server is called {name}")));
        }
        self.names.insert(name.to_owned());
        self.found.push(Server { name: BackendName::new(name), address });
        Ok(())
    }

    /// Keeps in mind what is not taken over.
    pub(super) fn note(&mut self, line: usize, text: impl Into<String>) {
        self.notes.push(Note { line, text: text.into() });
    }

    /// The servers; there must be one.
    pub(super) fn finish(self, nothing: Trouble) -> Result<(Vec<Server>, Vec<Note>), Trouble> {
        if self.found.is_empty() { Err(nothing) } else { Ok((self.found, self.notes)) }
    }
}

/// As in the proxy's configuration.
fn is_name(text: &str) -> bool {
    let visible = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '`');
    (1..=253).contains(&text.len()) && text.chars().all(visible)
}

/// An address to listen on: `IP:PORT`, `[IP]:PORT`, `IP6:PORT` with the last colon before the port,
/// `*:PORT`, `:PORT` or, where `bare_port` says so, `PORT`.
pub(super) fn listen_address(
    line: usize,
    text: &str,
    bare_port: bool,
) -> Result<SocketAddr, Trouble> {
    let wrong = || {
        Trouble::at(line, format!("`{text}` is no IP address and port to listen on"))
            .hint("apiproxy listens on IP:PORT, for example 127.0.0.1:6443")
    };
    let (host, port) = match text.rsplit_once(':') {
        Some(parts) => parts,
        None if bare_port => ("*", text),
        None => return Err(wrong()),
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| *port > 0 && digits).ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = match host {
        "" | "*" => "0.0.0.0",
        "localhost" => "127.0.0.1",
        host => host,
    };
    Ok(SocketAddr::new(host.parse().map_err(|_| wrong())?, port))
}
