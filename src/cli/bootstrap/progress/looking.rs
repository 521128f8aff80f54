//! Who is still being looked at: what is told while hosts take their time.

use std::collections::BTreeMap;

use crate::bootstrap::engine::Event;

/// How many hosts are named; of the others, their number.
const NAMED: usize = 5;

/// The steps of hosts that are not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Looking {
    open: BTreeMap<String, usize>,
    all: usize,
}

impl Looking {
    /// Something has happened.
    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Observing { hosts } => self.begin(hosts),
            Event::Checked { host, .. } => self.checked(host),
            Event::Applying { .. } => self.open.clear(),
            _ => {}
        }
    }

    fn begin(&mut self, hosts: &BTreeMap<String, usize>) {
        self.open.clone_from(hosts);
        self.open.retain(|_, steps| *steps > 0);
        self.all = hosts.values().sum();
    }

    fn checked(&mut self, host: &str) {
        if let Some(steps) = self.open.get_mut(host) {
            *steps -= 1;
            if *steps == 0 {
                self.open.remove(host);
            }
        }
    }

    /// How far it is and who is waited for; none when all is seen.
    pub(super) fn line(&self) -> Option<String> {
        let left: usize = self.open.values().sum();
        let hosts = self.waiting()?;
        Some(format!("looked at {} of {} steps; waiting for {hosts}", self.all - left, self.all))
    }

    /// Who is waited for.
    pub(super) fn waiting(&self) -> Option<String> {
        let names: Vec<_> = self.open.keys().take(NAMED).map(String::as_str).collect();
        let more = self.open.len() - names.len();
        match (names.as_slice(), more) {
            ([], _) => None,
            (names, 0) => Some(names.join(", ")),
            (names, more) => Some(format!("{} and {more} more", names.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_those_that_are_waited_for() {
        let mut looking = Looking::default();
        assert_eq!(looking.line(), None);
        let hosts = (1..=7).map(|n| (format!("w{n}"), 2));
        looking.begin(&hosts.collect());
        let five = "w1, w2, w3, w4, w5 and 2 more";
        assert_eq!(looking.line(), Some(format!("looked at 0 of 14 steps; waiting for {five}")));
        for host in ["w1", "w2", "w3", "w4", "w5", "w6"] {
            looking.checked(host);
            looking.checked(host);
        }
        looking.checked("w7");
        assert_eq!(looking.line().unwrap(), "looked at 13 of 14 steps; waiting for w7");
        looking.checked("w7");
        assert_eq!(looking.line(), None);
    }
}
