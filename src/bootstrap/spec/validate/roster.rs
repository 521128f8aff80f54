//! All hosts together: those of the file and those of the table that it names.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::hosts::{Read, Settings, Site};
use super::{Check, Spot};
use crate::bootstrap::spec::csv::{self, Row};
use crate::bootstrap::spec::shape::{self, List};
use crate::bootstrap::spec::word::Word;
use crate::bootstrap::spec::{Host, Role};
use crate::config::{Faults, quoted, read_text, suggestion};

/// The hosts, as far as they can be read.
#[derive(Default)]
pub(super) struct Roster {
    /// With the entry of the file or row of the table that each is from.
    hosts: Vec<(usize, Host)>,
    /// Those entries and rows.
    sites: Vec<Site>,
    /// Roles and how many hosts have them, one for each entry or row.
    roles: Vec<(BTreeSet<Role>, usize)>,
    /// All names, also of hosts that have a fault.
    names: HashMap<String, usize>,
    /// Has every host been read? Otherwise what seems to be missing may be there.
    pub(super) is_complete: bool,
}

impl Roster {
    /// Is this the name of a host?
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// All names, in no order.
    pub(super) fn names(&self) -> Vec<&str> {
        self.names.keys().map(String::as_str).collect()
    }

    /// How many hosts have one of these roles.
    pub(super) fn count(&self, wanted: &[Role]) -> usize {
        let has = |roles: &BTreeSet<Role>| wanted.iter().any(|role| roles.contains(role));
        self.roles.iter().filter(|(roles, _)| has(roles)).map(|(_, count)| count).sum()
    }

    /// Each host with where it is written.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Site, &Host)> {
        self.hosts.iter().map(|(site, host)| (&self.sites[*site], host))
    }

    pub(super) fn into_hosts(self) -> Vec<Host> {
        self.hosts.into_iter().map(|(_, host)| host).collect()
    }
}

impl Check<'_> {
    pub(super) fn roster(
        &mut self,
        list: Option<List<shape::Host>>,
        table: Option<PathBuf>,
        settings: &Settings<'_>,
    ) -> Roster {
        let document = self.around.document;
        if list.is_none() && table.is_none() {
            let hint = "name each: `- { name: cp1, address: 10.0.0.11, roles: [controlPlane] }`";
            if !document.has("spec.hostsFrom") && !document.has_misspelt("spec", "hostsFrom") {
                self.missing("spec", "hosts", hint);
            }
            return Roster::default();
        }
        let mut roster = Roster { is_complete: true, ..Roster::default() };
        let mut addresses = HashMap::new();
        for (index, host) in list.unwrap_or_default().into_iter().enumerate() {
            let at = format!("spec.hosts[{index}]");
            match self.item(&at, host) {
                Some(host) => {
                    let read = self.host(&Site::Item(index), host, settings);
                    self.enrol(&mut roster, &mut addresses, Site::Item(index), read);
                }
                None => roster.is_complete = false,
            }
        }
        if let Some(path) = table {
            let Some(rows) = self.rows(&path) else {
                return Roster { is_complete: false, ..roster };
            };
            for row in rows {
                let host = self.row(&row);
                let read = self.host(&Site::Row(row.clone()), host, settings);
                self.enrol(&mut roster, &mut addresses, Site::Row(row), read);
            }
        }
        roster
    }

    /// Adds what an entry or row stands for, and tells what others have too.
    fn enrol(
        &mut self,
        roster: &mut Roster,
        addresses: &mut HashMap<IpAddr, usize>,
        site: Site,
        read: Read,
    ) {
        let this = roster.sites.len();
        roster.is_complete &= read.roles.is_some() && !read.names.is_empty();
        roster.roles.push((read.roles.unwrap_or_default(), read.names.len()));
        roster.sites.push(site);
        let names = read.names.iter().filter_map(|name| {
            let first = *roster.names.entry(name.clone()).or_insert(this);
            (first != this).then_some((name.clone(), first))
        });
        let taken: Vec<_> = names.collect();
        let again = read.hosts.iter().filter_map(|host| {
            let first = *addresses.entry(host.address).or_insert(this);
            (first != this).then_some((host.address.to_string(), first))
        });
        let again: Vec<_> = again.collect();
        let sites = &roster.sites;
        for (key, clashes) in [("name", taken), ("address", again)] {
            let Some((text, first)) = clashes.first() else { continue };
            let more = match clashes.len() - 1 {
                0 => String::new(),
                more => format!(", and so it is with {more} more"),
            };
            let message = format!("`{text}` is also the {key} of {}{more}", sites[*first].name());
            let hint = format!("give each host its own {key}");
            let spot = self.spot(&sites[this], key);
            self.fault_at(&spot, message, hint);
        }
        roster.hosts.extend(read.hosts.into_iter().map(|host| (this, host)));
    }

    /// The rows of the table; none if there is no table.
    fn rows(&mut self, path: &Path) -> Option<Vec<Row>> {
        let path = self.path(path);
        let text = self.around.rows.map_or_else(|| read_text(&path), |rows| Ok(rows.to_owned()));
        match text {
            Ok(text) => {
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                let mut faults = Faults::new(path.display().to_string(), text);
                let rows = csv::read(text, &mut faults);
                let is_whole = faults.is_empty();
                self.table = Some(faults);
                is_whole.then_some(rows)
            }
            Err(error) => {
                let text = error.to_string();
                let (message, hint) =
                    text.split_once("\n  hint: ").unwrap_or((&text, "check the path"));
                self.fault("spec.hostsFrom", message, hint);
                None
            }
        }
    }

    /// A row as if it were an entry of the file. Without roles it is a worker.
    fn row(&mut self, row: &Row) -> shape::Host {
        let site = Site::Row(row.clone());
        let names = Role::ALL.map(Role::as_str);
        let mut roles = Vec::new();
        for text in row.list("roles") {
            let role = Role::ALL.into_iter().find(|role| role.as_str() == text);
            if role.is_none() {
                let spot = self.spot(&site, "roles");
                let message = format!("unknown value {}", quoted(&text));
                self.fault_at(&spot, message, suggestion(&text, &names));
            }
            roles.push(role);
        }
        if row.text("roles").is_none() {
            roles.push(Some(Role::Worker));
        }
        let mut labels = std::collections::BTreeMap::new();
        for text in row.list("labels") {
            if let Some((name, value)) = text.split_once('=') {
                labels.insert(name.trim().to_owned(), Word(value.trim().to_owned()));
            } else {
                let spot = self.spot(&site, "labels");
                let message = format!("{} is no label", quoted(&text));
                self.fault_at(&spot, message, "write labels as a=b;c=d");
            }
        }
        let taints = row.list("taints").into_iter().map(Some).collect::<Vec<_>>();
        let text = |column| row.text(column).map(str::to_owned);
        shape::Host {
            name: text("name"),
            address: text("address"),
            roles: Some(roles),
            zone: text("zone"),
            labels: Some(labels),
            taints: Some(taints).filter(|taints| !taints.is_empty()),
            ..shape::Host::default()
        }
    }

    /// Where a value of an entry or row is written.
    pub(super) fn spot(&self, site: &Site, key: &str) -> Spot {
        match site {
            Site::Item(index) => {
                let label = format!("spec.hosts[{index}].{key}");
                Spot { in_table: false, place: self.around.document.place(&label), label }
            }
            Site::Row(row) => {
                let column = key.split('[').next().unwrap_or(key);
                Spot { in_table: true, place: row.place(column), label: column.to_owned() }
            }
        }
    }
}
