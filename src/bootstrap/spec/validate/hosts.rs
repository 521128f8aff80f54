//! One entry of `hosts`, or one row of their table: a host, or a range of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::overrides::Given;
use super::{Check, Spot, reserved};
use crate::bootstrap::spec::csv::Row;
use crate::bootstrap::spec::range::Pattern;
use crate::bootstrap::spec::word::texts;
use crate::bootstrap::spec::{Host, Role, Ssh, Taint, Topology, shape, syntax};
use crate::config::{Place, quoted};

/// Labels that follow from something else, and from what.
const OURS: [(&str, &str); 2] = [
    ("kubernetes.io/hostname", "remove it; it is the host's name"),
    ("topology.kubernetes.io/zone", "write `zone` instead"),
];

/// Where a host is written.
#[derive(Clone, Debug)]
pub(super) enum Site {
    /// In the list of the file, by number.
    Item(usize),
    /// In the table.
    Row(Row),
}

impl Site {
    /// What it is called in a message.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Item(index) => format!("hosts[{index}]"),
            Self::Row(row) => match row.place("") {
                Place::Position { line, .. } => format!("line {line} of the table"),
                Place::Flag(flag) => flag.to_owned(),
            },
        }
    }
}

/// What holds for all hosts.
pub(super) struct Settings<'a> {
    pub(super) ssh: &'a Ssh,
    /// None if it cannot be read.
    pub(super) topology: Option<Topology>,
    pub(super) ours: reserved::Options,
}

/// What an entry or a row stands for, as far as it can be read.
pub(super) struct Read {
    pub(super) hosts: Vec<Host>,
    /// Also of hosts that have a fault.
    pub(super) names: Vec<String>,
    /// None if they cannot be read.
    pub(super) roles: Option<BTreeSet<Role>>,
}

impl Check<'_> {
    pub(super) fn host(&mut self, site: &Site, raw: shape::Host, settings: &Settings<'_>) -> Read {
        let names = self.names(site, raw.name.as_deref());
        let addresses = self.addresses(site, raw.address.as_deref());
        if let (Some(names), Some((addresses, _))) = (&names, &addresses)
            && names.len() != addresses.len()
        {
            let many =
                |count, one, more| format!("{count} {}", if count == 1 { one } else { more });
            let message = format!(
                "{} for {}",
                many(addresses.len(), "address", "addresses"),
                many(names.len(), "name", "names")
            );
            let spot = self.spot(site, "address");
            self.fault_at(&spot, message, "give name and address ranges of the same length");
        }
        let roles = self.roles(site, raw.roles);
        if let Some(roles) = &roles {
            self.role_mix(site, roles, settings.topology);
        }
        let is_node = roles.as_ref().is_none_or(|roles| roles.iter().any(|role| role.is_node()));
        let at = match site {
            Site::Item(index) => format!("spec.hosts[{index}]"),
            Site::Row(_) => String::new(),
        };
        let given = Given {
            kubelet: raw.kubelet,
            containerd: raw.containerd,
            api_server: raw.api_server,
            controller_manager: raw.controller_manager,
            scheduler: raw.scheduler,
            kube_proxy: None,
            kubelet_extra_args: raw.kubelet_extra_args,
        };
        if let Some(roles) = &roles {
            self.runs_what_is_set(&at, &given, roles);
        }
        let template = Host {
            name: String::new(),
            address: IpAddr::from([0, 0, 0, 0]),
            zone: raw.zone.filter(|zone| self.is_zone(site, zone)),
            labels: self.labels(site, texts(raw.labels), is_node),
            taints: self.taints(site, raw.taints, is_node),
            ssh: match raw.ssh {
                Some(ssh) => self.ssh(&format!("{at}.ssh"), ssh, Some(settings.ssh)),
                None => settings.ssh.clone(),
            },
            overrides: self.overrides(&at, given, settings.ours),
            roles: roles.clone().unwrap_or_default(),
        };
        let names = names.unwrap_or_default();
        let addresses = addresses.unwrap_or_default().1;
        let pairs = names.iter().zip(addresses);
        let hosts = pairs.filter_map(|(name, address)| {
            Some(Host { name: name.clone(), address: address?, ..template.clone() })
        });
        Read { hosts: hosts.collect(), names: names.clone(), roles }
    }

    /// The texts of a range, each once.
    fn expand(&mut self, site: &Site, key: &str, text: Option<&str>) -> Option<Vec<String>> {
        let Some(text) = text else {
            self.missing_at(site, key);
            return None;
        };
        let spot = self.spot(site, key);
        let texts = match text.parse::<Pattern>() {
            Ok(pattern) => pattern.expand(),
            Err(error) => {
                let error = error.to_string();
                let (what, hint) = error.split_once("; ").unwrap_or((&error, "make two of it"));
                self.fault_at(&spot, format!("{}: {what}", quoted(text)), hint);
                return None;
            }
        };
        let mut seen = BTreeSet::new();
        if let Some(twice) = texts.iter().find(|text| !seen.insert(*text)) {
            self.fault_at(&spot, format!("`{twice}` is in it twice"), "name each host once");
        }
        Some(texts)
    }

    fn names(&mut self, site: &Site, text: Option<&str>) -> Option<Vec<String>> {
        let names = self.expand(site, "name", text)?;
        let is_taken = |name: &String| name == "localhost" || name.parse::<IpAddr>().is_ok();
        if let Some(name) = names.iter().find(|name| is_taken(name) || !syntax::is_name(name, 63)) {
            let spot = self.spot(site, "name");
            let hint = if is_taken(name) {
                "give a name that stands for this host alone: it becomes its hostname"
            } else {
                "use 1 to 63 lower-case letters, digits, dots and inner hyphens"
            };
            self.fault_at(&spot, format!("{} cannot be the name of a host", quoted(name)), hint);
        }
        Some(names)
    }

    /// The texts and what they are.
    fn addresses(
        &mut self,
        site: &Site,
        text: Option<&str>,
    ) -> Option<(Vec<String>, Vec<Option<IpAddr>>)> {
        let texts = self.expand(site, "address", text)?;
        let read: Vec<_> = texts.iter().map(|text| (text, address(text))).collect();
        if let Some((text, (what, hint))) =
            read.iter().find_map(|(text, read)| read.as_ref().err().map(|error| (text, error)))
        {
            let spot = self.spot(site, "address");
            self.fault_at(&spot, format!("{} {what}", quoted(text)), *hint);
        }
        let addresses = read.iter().map(|(_, read)| read.as_ref().ok().copied()).collect();
        Some((texts.clone(), addresses))
    }

    fn roles(&mut self, site: &Site, raw: Option<shape::List<Role>>) -> Option<BTreeSet<Role>> {
        let Some(list) = raw else {
            self.missing_at(site, "roles");
            return None;
        };
        let mut roles = BTreeSet::new();
        let mut is_whole = true;
        for (index, role) in list.into_iter().enumerate() {
            let role = match site {
                Site::Item(host) => self.item(&format!("spec.hosts[{host}].roles[{index}]"), role),
                Site::Row(_) => role,
            };
            match role {
                Some(role) if !roles.insert(role) => {
                    let spot = self.spot(site, &format!("roles[{index}]"));
                    let message = format!("`{}` is given twice", role.as_str());
                    self.fault_at(&spot, message, "keep one of them");
                }
                Some(_) => {}
                None => is_whole = false,
            }
        }
        is_whole.then_some(roles)
    }

    fn is_zone(&mut self, site: &Site, zone: &str) -> bool {
        let good = !zone.is_empty() && syntax::is_label_value(zone);
        if !good {
            let spot = self.spot(site, "zone");
            let hint =
                "it becomes a label: use up to 63 letters, digits and inner `-`, `_` and `.`";
            self.fault_at(&spot, format!("{} cannot be a zone", quoted(zone)), hint);
        }
        good
    }

    fn labels(
        &mut self,
        site: &Site,
        labels: BTreeMap<String, String>,
        is_node: bool,
    ) -> BTreeMap<String, String> {
        if !labels.is_empty() && !is_node {
            let spot = self.spot(site, "labels");
            self.fault_at(&spot, "the host is no Node of the cluster", "remove them");
        }
        for (name, value) in &labels {
            let (message, hint) =
                if let Some((_, hint)) = OURS.iter().find(|(ours, _)| ours == name) {
                    (format!("{} is set by us", quoted(name)), *hint)
                } else if !syntax::is_qualified_name(name) {
                    let hint = "write NAME or PREFIX/NAME, such as `example.com/disk`";
                    (format!("{} cannot be the name of a label", quoted(name)), hint)
                } else if !syntax::is_label_value(value) {
                    let hint = "use up to 63 letters, digits and inner `-`, `_` and `.`";
                    (format!("{} cannot be the value of a label", quoted(value)), hint)
                } else {
                    continue;
                };
            let spot = match site {
                Site::Item(index) => {
                    let label = format!("spec.hosts[{index}].labels");
                    let place = self.around.document.key_place(&label, name);
                    Spot { in_table: false, place, label }
                }
                Site::Row(_) => self.spot(site, "labels"),
            };
            self.fault_at(&spot, message, hint);
        }
        labels
    }

    fn taints(
        &mut self,
        site: &Site,
        raw: Option<shape::List<String>>,
        is_node: bool,
    ) -> Vec<Taint> {
        let list = raw.unwrap_or_default();
        if !list.is_empty() && !is_node {
            let spot = self.spot(site, "taints");
            self.fault_at(&spot, "the host is no Node of the cluster", "remove them");
        }
        let mut taints = Vec::<Taint>::new();
        for (index, text) in list.into_iter().enumerate() {
            let key = format!("taints[{index}]");
            let text = match site {
                Site::Item(host) => self.item(&format!("spec.hosts[{host}].{key}"), text),
                Site::Row(_) => text,
            };
            let Some(text) = text else { continue };
            let (message, hint) = match syntax::taint(&text) {
                Ok(taint)
                    if taints
                        .iter()
                        .any(|t| (&t.key, &t.effect) == (&taint.key, &taint.effect)) =>
                {
                    let message = "another taint has this key and effect".to_owned();
                    (message, "keep one of them".to_owned())
                }
                Ok(taint) => {
                    taints.push(taint);
                    continue;
                }
                Err(error) => error,
            };
            let spot = self.spot(site, &key);
            self.fault_at(&spot, format!("{}: {message}", quoted(&text)), hint);
        }
        taints
    }

    fn missing_at(&mut self, site: &Site, key: &str) {
        let hint = match key {
            "name" => "give the host a name: it becomes its hostname and the name of its Node",
            "address" => "give the address where the other hosts reach it",
            _ => "give it one or more of controlPlane, etcd, worker, spare, external, monitoring",
        };
        match site {
            Site::Item(index) => self.missing(&format!("spec.hosts[{index}]"), key, hint),
            Site::Row(_) => {
                let spot = self.spot(site, key);
                self.fault_at(&spot, "it is missing", hint);
            }
        }
    }
}

/// Reads an address that other hosts can reach; if it is none, why, and what to do.
fn address(text: &str) -> Result<IpAddr, (&'static str, &'static str)> {
    let hint = "give the address where the other hosts reach it";
    let address: IpAddr = match text.parse() {
        Ok(address) => address,
        Err(_) if text.parse::<std::net::SocketAddr>().is_ok() => {
            return Err(("has a port", "write the address alone; the port goes to `ssh.port`"));
        }
        Err(_) => return Err(("is no IP address", hint)),
    };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let what = if address.is_unspecified() || address.is_multicast() || link_local {
        "is not the address of one host"
    } else if address.is_loopback() {
        "is this host itself wherever it is used"
    } else {
        return Ok(address);
    };
    Err((what, hint))
}
