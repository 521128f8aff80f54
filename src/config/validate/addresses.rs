//! Checks what listens, what is connected to, and that the two never meet.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::{Check, quoted};
use crate::config::shape::{self, List};
use crate::config::{Admin, BackendSpec, DEFAULT_CONTROL_SOCKET, Listen};
use crate::model::{BackendAddress, BackendName, ClusterName, Host, MAX_BACKENDS};
use crate::net;

const LISTEN_PORT: u16 = 6443;
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_242);

/// The kernel takes 107 bytes; a socket in the making has a process id at the end of its name.
const LONGEST_SOCKET_PATH: usize = 96;

/// A value, and the path it was given at.
pub(super) type At<T> = (String, T);

impl Check<'_, '_> {
    pub(super) fn listen(&mut self, raw: Option<List<String>>) -> Vec<At<Listen>> {
        let Some(raw) = raw else {
            if !self.within.is_empty() {
                if !self.is_given("listen") {
                    let hint = "add `listen: [\"127.0.0.1:PORT\"]`, with a port of its own";
                    self.hinted("listen", "it has no address to listen on", hint);
                }
                return Vec::new();
            }
            let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            let listen = |ip| Listen { address: SocketAddr::new(ip, LISTEN_PORT), optional: true };
            return local.map(|ip| ("listen".to_owned(), listen(ip))).to_vec();
        };
        if raw.is_empty() {
            self.hinted("listen", "no address to listen on", "leave `listen` out for the default");
        }
        let mut list = Vec::<At<Listen>>::new();
        for (index, text) in raw.into_iter().enumerate() {
            let at = format!("listen[{index}]");
            let Some(text) = self.item(&at, text) else {
                continue;
            };
            let Some(address) = self.socket_address(&at, &text) else {
                continue;
            };
            if address.port() != 0 && list.iter().any(|(_, other)| other.address == address) {
                self.hinted(&at, format!("{address} is listed twice"), "remove one of them");
            } else {
                list.push((at, Listen { address, optional: false }));
            }
        }
        list
    }

    pub(super) fn admin(&mut self, raw: shape::Admin) -> Admin {
        let listen = raw.listen.and_then(|text| self.socket_address("admin.listen", &text));
        let control_socket = self.control_socket(raw.control_socket);
        Admin { listen: listen.unwrap_or(ADMIN), control_socket }
    }

    /// `None`: none is wanted.
    fn control_socket(&mut self, raw: Option<String>) -> Option<PathBuf> {
        let Some(raw) = raw else { return Some(PathBuf::from(DEFAULT_CONTROL_SOCKET)) };
        if raw.is_empty() {
            return None;
        }
        let at = "admin.controlSocket";
        let path = if self.around.overrides.flag(at).is_some() {
            std::path::absolute(&raw).unwrap_or_else(|_| PathBuf::from(&raw))
        } else {
            self.around.base.join(&raw)
        };
        if raw.ends_with('/') || path.file_name().is_none() || raw.contains('\0') {
            let hint = format!("write the path of a file, such as {DEFAULT_CONTROL_SOCKET}");
            self.hinted(at, format!("{} cannot be a socket", quoted(&raw)), hint);
        } else if path.as_os_str().len() > LONGEST_SOCKET_PATH {
            let message = format!("{} is longer than {LONGEST_SOCKET_PATH} bytes", quoted(&raw));
            self.hinted(at, message, "the kernel takes no longer ones: put it into another folder");
        }
        Some(path)
    }

    /// `optional`: others can be found without any of these.
    pub(super) fn backends(
        &mut self,
        raw: Option<List<shape::Backend>>,
        optional: bool,
        cluster: Option<&ClusterName>,
    ) -> Vec<At<BackendSpec>> {
        let raw = raw.unwrap_or_default();
        let empty = |node: &crate::config::tree::Node| node.item(0).is_none();
        let given = self.around.document.and_then(|d| d.node(&self.path("backends")));
        if raw.is_empty()
            && !optional
            && given.is_none_or(|node| node.is_collection() && empty(node))
        {
            let hint = "name each apiserver: `--backend HOST:PORT`, or `- address: HOST:PORT` under \
                        `backends:`";
            self.hinted("backends", "there are no backends", hint);
        }
        if raw.len() > MAX_BACKENDS {
            let message = format!("{} backends are more than {MAX_BACKENDS}", raw.len());
            let hint = "name the apiservers themselves, not the nodes";
            self.hinted("backends", &message, hint);
        }
        let mut list = Vec::<At<BackendSpec>>::new();
        let mut seen = Seen::default();
        for (index, backend) in raw.into_iter().enumerate() {
            let at = format!("backends[{index}]");
            let Some(backend) = self.item(&at, backend) else {
                continue;
            };
            let name_at = if backend.name.is_some() { "name" } else { "address" };
            let name_at = format!("{at}.{name_at}");
            let zone = self.zone(&format!("{at}.zone"), backend.zone);
            let given_name = backend.name.filter(|name| self.is_label(&name_at, name));
            let address = self.backend_address(&at, backend.address);
            let name = given_name.or(address.as_ref().map(ToString::to_string));
            if let Some(address) = &address
                && let Some(first) = seen.addresses.insert(address.clone(), index)
            {
                let first = self.path(&format!("backends[{first}]"));
                let message = format!("{address} is also the address of {first}");
                self.hinted(&format!("{at}.address"), message, "remove one of them");
                continue;
            }
            if let Some(name) = &name
                && let Some(first) = seen.names.insert(name.clone(), index)
            {
                let first = self.path(&format!("backends[{first}]"));
                let message = format!("{} is also the name of {first}", quoted(name));
                self.hinted(&name_at, message, "give each backend a name of its own");
            }
            if let (Some(name), Some(address)) = (name, address) {
                let name = BackendName::new(name).within(cluster);
                list.push((format!("{at}.address"), BackendSpec { name, address, zone }));
            }
        }
        list
    }

    /// Refuses two sockets that would need the same port.
    pub(super) fn no_conflicts(&mut self, listen: &[At<Listen>], admin: SocketAddr) {
        let overlap =
            |ip: IpAddr| ip == admin.ip() || ip.is_unspecified() || admin.ip().is_unspecified();
        let mut clash = listen.iter().filter(|(_, l)| {
            admin.port() != 0 && l.address.port() == admin.port() && overlap(l.address.ip())
        });
        if let Some((at, taken)) = clash.next() {
            let at = if self.is_given("admin.listen") { "admin.listen" } else { at };
            let message = format!("{} is to serve both clients and `admin`", taken.address);
            self.hinted(at, message, "give `admin.listen` another port");
        }
    }

    /// Refuses backends that are this very proxy.
    pub(super) fn no_loops(
        &mut self,
        listen: &[At<Listen>],
        admin: SocketAddr,
        backends: &[At<BackendSpec>],
    ) {
        let is_own = self.around.host.is_own;
        for (at, BackendSpec { address, .. }) in backends {
            let mut own = listen.iter().map(|(_, own)| own.address);
            if let Some(own) = own.find(|own| meets(*own, address, is_own)) {
                let message = format!("{address} is this proxy itself, which listens on {own}");
                let hint = if own.ip().is_unspecified() {
                    "it is an address of this host: name another apiserver's, or listen on 127.0.0.1 alone"
                } else {
                    "name the apiserver's own address, or change `listen`"
                };
                self.hinted(at, message, hint);
            } else if meets(admin, address, is_own) {
                let message = format!("{address} is where `admin` listens");
                self.hinted(at, message, "name the apiserver's own address");
            }
        }
    }

    fn backend_address(&mut self, at: &str, raw: Option<String>) -> Option<BackendAddress> {
        let path = format!("{at}.address");
        let Some(text) = raw else {
            // An unknown key has its own fault: most likely it is a misspelt `address`.
            let known = ["address", "name", "zone"];
            let misspelt =
                self.around.document.is_some_and(|d| d.has_other_keys(&self.path(at), &known));
            if !misspelt && !self.is_given(&path) {
                self.hinted(at, "it has no address", "add `address: HOST:PORT`");
            }
            return None;
        };
        let plain = text.chars().all(|c| c.is_ascii_graphic());
        match text.parse() {
            Ok(address) => return Some(address),
            Err(error) if plain && text.len() <= 300 => self.fault(&path, format!("{error}")),
            Err(_) => {
                self.hinted(&path, format!("{} is no address", quoted(&text)), "write HOST:PORT");
            }
        }
        None
    }

    /// An item of a list, unless it is empty, which is a fault, or was refused, which was one.
    pub(super) fn item<T>(&mut self, at: &str, item: Option<T>) -> Option<T> {
        if item.is_none() && !self.is_given(at) {
            self.hinted(at, "this item is empty", "fill it in, or remove it");
        }
        item
    }

    fn socket_address(&mut self, at: &str, text: &str) -> Option<SocketAddr> {
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let hint = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => format!("add a port: {ip}:{LISTEN_PORT}"),
            Ok(IpAddr::V6(ip)) => format!("add brackets and a port: \"[{ip}]:{LISTEN_PORT}\""),
            Err(_) => match text.strip_prefix("localhost:").or(text.strip_prefix(':')) {
                Some(port) if port.parse::<u16>().is_ok() => {
                    let ip = if text.starts_with(':') { "0.0.0.0" } else { "127.0.0.1" };
                    format!("write {ip}:{port}")
                }
                _ => "write IP:PORT, such as 127.0.0.1:6443 or \"[::1]:6443\"".to_owned(),
            },
        };
        self.hinted(at, format!("{} is not an IP address and port", quoted(text)), hint);
        None
    }
}

/// What earlier backends have taken.
#[derive(Default)]
struct Seen {
    names: HashMap<String, usize>,
    addresses: HashMap<BackendAddress, usize>,
}

/// Would a connection to `backend` reach what listens on `listen`? A name other than `localhost` is not
/// resolved here; so only what is certain.
fn meets(listen: SocketAddr, backend: &BackendAddress, is_own: fn(IpAddr) -> bool) -> bool {
    let ip = listen.ip().to_canonical();
    match (backend.socket_addr(), backend.host()) {
        (Some(target), _) => net::meets(listen, target, is_own),
        (None, Host::Name(name)) if name == "localhost" => {
            listen.port() == backend.port() && (ip.is_loopback() || ip.is_unspecified())
        }
        _ => false,
    }
}
