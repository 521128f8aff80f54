//! What a Node is to have, what it was given before, and what follows from both. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bootstrap::kubernetes::Node;
use crate::bootstrap::render::labels;
use crate::bootstrap::spec::{Host, Taint};

/// The annotation of a Node that says what we gave it.
pub(super) const GIVEN: &str = "apiproxy.io/given";

/// Labels and taints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Given {
    labels: BTreeMap<String, String>,
    /// The values of taints by `KEY:EFFECT`, of which a Node has one each.
    taints: BTreeMap<String, String>,
}

impl Given {
    /// What the file wishes for a host.
    pub(super) fn of(host: &Host) -> Self {
        Self { labels: labels::all(host), taints: by_key(&host.taints) }
    }

    /// What a Node says that it was given. What cannot be read was not written by us.
    fn on(node: &Node) -> Self {
        let text = node.annotations.get(GIVEN);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// As it is written onto a Node; none for nothing.
    pub(super) fn written(&self) -> Option<String> {
        (*self != Self::default()).then(|| serde_json::json!(self).to_string())
    }

    fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.labels.extend(other.labels.clone());
        both.taints.extend(other.taints.clone());
        both
    }
}

fn by_key(taints: &[Taint]) -> BTreeMap<String, String> {
    let pair = |taint: &Taint| (format!("{}:{}", taint.key, taint.effect), taint.value.clone());
    taints.iter().map(pair).collect()
}

/// A taint as kubectl takes it.
fn word(key: &str, value: &str) -> String {
    match key.rsplit_once(':') {
        Some((key, effect)) if !value.is_empty() => format!("{key}={value}:{effect}"),
        _ => key.to_owned(),
    }
}

/// What has to be done about a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    wanted: Given,
    given: Given,
    /// What the Node lacks.
    lacks: Given,
    /// What it still has of what we gave and the file no longer names.
    spare: Given,
}

impl Work {
    pub(super) fn on(node: &Node, wanted: &Given) -> Self {
        let given = Given::on(node);
        let there = Given { labels: node.labels.clone(), taints: by_key(&node.taints) };
        let parts = |part: fn(&Given) -> &BTreeMap<String, String>| {
            let (wanted, given, there) = (part(wanted), part(&given), part(&there));
            let mut lacks = wanted.clone();
            lacks.retain(|key, value| there.get(key) != Some(value));
            let mut spare = given.clone();
            // What has another value by now is somebody else's.
            spare.retain(|key, value| !wanted.contains_key(key) && there.get(key) == Some(value));
            (lacks, spare)
        };
        let (labels, taints) = (parts(|given| &given.labels), parts(|given| &given.taints));
        Self {
            lacks: Given { labels: labels.0, taints: taints.0 },
            spare: Given { labels: labels.1, taints: taints.1 },
            wanted: wanted.clone(),
            given,
        }
    }

    pub(super) fn wanted(&self) -> &Given {
        &self.wanted
    }

    pub(super) fn on_record(&self) -> &Given {
        &self.given
    }

    /// What is on record while it is done: all that is ours before or afterwards.
    pub(super) fn meanwhile(&self) -> Given {
        self.given.and(&self.wanted)
    }

    /// The arguments of `kubectl label`.
    pub(super) fn labels(&self) -> Vec<String> {
        let gone = self.spare.labels.keys().map(|name| format!("{name}-"));
        let new = self.lacks.labels.iter().map(|(name, value)| format!("{name}={value}"));
        new.chain(gone).collect()
    }

    /// The arguments of `kubectl taint`.
    pub(super) fn taints(&self) -> Vec<String> {
        let gone = self.spare.taints.keys().map(|key| format!("{key}-"));
        let new = self.lacks.taints.iter().map(|(key, value)| word(key, value));
        new.chain(gone).collect()
    }

    /// Why anything has to be done; none if nothing has.
    pub(super) fn why(&self) -> Option<String> {
        let list = |given: &Given| {
            let labels = given.labels.iter().map(|(name, value)| format!("{name}={value}"));
            let taints = given.taints.iter().map(|(key, value)| word(key, value));
            labels.chain(taints).collect::<Vec<_>>().join(", ")
        };
        let (lacks, spare) = (list(&self.lacks), list(&self.spare));
        let mut reasons = Vec::new();
        if !lacks.is_empty() {
            reasons.push(format!("its Node lacks {lacks}"));
        }
        if !spare.is_empty() {
            reasons.push(format!("it was given {spare}, which the file no longer names"));
        }
        if reasons.is_empty() && self.given != self.wanted {
            reasons.push("what it was given is not on record".to_owned());
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(value: &str) -> Taint {
        Taint { key: "gpu".into(), value: value.into(), effect: "NoSchedule".into() }
    }

    fn wished(labels: &[(&str, &str)], taints: &[Taint]) -> Given {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Given { labels: labels.iter().map(own).collect(), taints: by_key(taints) }
    }

    fn node(labels: &[(&str, &str)], taints: &[Taint], given: Option<&Given>) -> Node {
        let annotations = given.and_then(Given::written).map(|json| (GIVEN.to_owned(), json));
        Node {
            labels: wished(labels, &[]).labels,
            taints: taints.to_vec(),
            annotations: annotations.into_iter().collect(),
            ..Node::default()
        }
    }

    #[test]
    fn what_we_gave_and_the_file_no_longer_names_goes() {
        let before = wished(&[("disk", "ssd"), ("rack", "7")], &[taint("a100")]);
        let there = [("disk", "ssd"), ("rack", "8"), ("theirs", "x")];
        let found = node(&there, &[taint("a100")], Some(&before));
        let work = Work::on(&found, &wished(&[], &[]));
        // The rack has another value by now, so somebody else gave it.
        assert_eq!(
            (work.labels(), work.taints()),
            (vec!["disk-".into()], vec!["gpu:NoSchedule-".into()])
        );
        assert_eq!(
            work.why().as_deref(),
            Some("it was given disk=ssd, gpu=a100:NoSchedule, which the file no longer names")
        );
        assert_eq!((work.meanwhile(), work.wanted().written()), (before, None));
    }

    #[test]
    fn what_others_gave_stays() {
        let found = node(&[("theirs", "x")], &[taint("a100")], None);
        assert_eq!(Work::on(&found, &wished(&[], &[])).why(), None);
        let odd = Node { annotations: [(GIVEN.to_owned(), "no json".to_owned())].into(), ..found };
        assert_eq!(Work::on(&odd, &wished(&[], &[])).labels(), Vec::<String>::new());
    }

    #[test]
    fn what_is_wished_is_given_and_put_on_record() {
        let wanted = wished(&[("disk", "ssd")], &[taint("b")]);
        let work = Work::on(&node(&[], &[taint("a")], None), &wanted);
        assert_eq!(work.labels(), ["disk=ssd"]);
        assert_eq!(work.taints(), ["gpu=b:NoSchedule"]);
        let there = node(&[("disk", "ssd")], &[taint("b")], None);
        let work = Work::on(&there, &wanted);
        assert_eq!(work.why().as_deref(), Some("what it was given is not on record"));
        let there = node(&[("disk", "ssd")], &[taint("b")], Some(&wanted));
        assert_eq!(Work::on(&there, &wanted).why(), None);
        assert_eq!(
            wanted.written().as_deref(),
            Some(r#"{"labels":{"disk":"ssd"},"taints":{"gpu:NoSchedule":"b"}}"#)
        );
    }
}
