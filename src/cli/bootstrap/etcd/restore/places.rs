//! Who takes whose place: what the user says, and a spare for each etcd host that does not answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::bootstrap::engine::StepError;
use crate::bootstrap::spec::{Cluster, Host};
use crate::bootstrap::steps::replace::{candidates, replaced};

/// Old and new, by name.
pub(super) type Places = Vec<(String, String)>;

fn refused(reason: String, remedy: &str) -> StepError {
    StepError::Refused { reason, remedy: remedy.to_owned() }
}

/// What the user says, if it can be so.
pub(super) fn asked(cluster: &Cluster, pairs: &[(String, String)]) -> Result<Places, StepError> {
    let (mut old, mut new) = (BTreeSet::new(), BTreeSet::new());
    for (gone, comes) in pairs {
        // One that the file does not name any more was replaced by a run before this one.
        let member =
            cluster.host(gone).is_none() || cluster.etcd_hosts().any(|host| host.name == *gone);
        if !member {
            let remedy = "name one of its etcd hosts before the `=`";
            return Err(refused(format!("{gone} is no etcd host of the file"), remedy));
        }
        if !old.insert(gone) || !new.insert(comes) {
            let remedy = "give each host one place";
            return Err(refused(format!("{gone}={comes} names a host that has its place"), remedy));
        }
    }
    Ok(pairs.to_vec())
}

/// What the user says, and a spare that answers for each etcd host that does not, of its zone if there is
/// one.
pub(super) fn chosen(
    cluster: &Cluster,
    pairs: &[(String, String)],
    away: &BTreeMap<String, String>,
) -> Result<Places, StepError> {
    let mut places = asked(cluster, pairs)?;
    let mut taken: BTreeSet<String> = pairs.iter().map(|(_, new)| new.clone()).collect();
    let is_asked = |host: &&Host| pairs.iter().any(|(old, _)| *old == host.name);
    let gone = cluster.etcd_hosts().filter(|host| away.contains_key(&host.name));
    let gone: Vec<_> = gone.filter(|host| !is_asked(host)).collect();
    for host in &gone {
        let mut free = candidates(cluster, &host.name).into_iter();
        let spare =
            free.find(|spare| !away.contains_key(&spare.name) && !taken.contains(&spare.name));
        let Some(spare) = spare else {
            let names: Vec<_> = gone.iter().map(|host| host.name.as_str()).collect();
            let (count, names) = (gone.len(), names.join(", "));
            let there = taken.len() - pairs.len();
            return Err(refused(
                format!(
                    "{count} etcd hosts do not answer ({names}), and the file has {there} spares that do"
                ),
                "bring hosts back, or add hosts with `roles: [spare]` to the file, and run this again",
            ));
        };
        taken.insert(spare.name.clone());
        places.push((host.name.clone(), spare.name.clone()));
    }
    Ok(places)
}

/// The cluster in which all have their places, and the new hosts with those whose place they take.
pub(super) fn applied(
    cluster: &Cluster,
    places: &[(String, String)],
) -> Result<(Cluster, Vec<(String, Host)>), StepError> {
    let (mut after, mut pairs) = (cluster.clone(), Vec::new());
    for (old, new) in places {
        after = replaced(&after, old, new)?;
        if let Some(host) = after.host(new) {
            pairs.push((old.clone(), host.clone()));
        }
    }
    Ok((after, pairs))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bootstrap::spec::parse;

    fn cluster() -> Cluster {
        let text = "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: { name: prod }\nspec:\n  \
             kubernetesVersion: v1.33.4\n  topology: external\n  hosts:\n  \
             - { name: cp1, address: 10.0.0.11, roles: [controlPlane] }\n  \
             - { name: e1, address: 10.0.0.21, roles: [etcd], zone: a }\n  \
             - { name: e2, address: 10.0.0.22, roles: [etcd], zone: b }\n  \
             - { name: e3, address: 10.0.0.23, roles: [etcd] }\n  \
             - { name: s1, address: 10.0.0.41, roles: [spare], zone: b }\n  \
             - { name: s2, address: 10.0.0.42, roles: [spare], zone: a }\n";
        parse("cluster.yaml", text, Path::new(""), None).unwrap()
    }

    fn away(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), "off".to_owned())).collect()
    }

    fn pair(old: &str, new: &str) -> (String, String) {
        (old.to_owned(), new.to_owned())
    }

    #[test]
    fn spares_take_the_places_of_those_that_are_away() {
        let cluster = cluster();
        assert_eq!(chosen(&cluster, &[], &away(&["cp1"])).unwrap(), []);
        let found = chosen(&cluster, &[], &away(&["e1", "e2"])).unwrap();
        assert_eq!(found, [pair("e1", "s2"), pair("e2", "s1")], "each of its zone");
        let found = chosen(&cluster, &[pair("e3", "s2")], &away(&["e1"])).unwrap();
        assert_eq!(found, [pair("e3", "s2"), pair("e1", "s1")]);
        let (after, pairs) = applied(&cluster, &found).unwrap();
        let members: Vec<_> = after.etcd_hosts().map(|host| host.name.as_str()).collect();
        assert_eq!(members, ["e2", "s1", "s2"]);
        assert_eq!(pairs.len(), 2);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_numbers() {
        let cluster = cluster();
        let refused = |pairs: &[(String, String)], names: &[&str]| {
            chosen(&cluster, pairs, &away(names)).unwrap_err().to_string()
        };
        let said = refused(&[], &["e1", "e2", "e3"]);
        assert!(
            said.contains("3 etcd hosts do not answer (e1, e2, e3), and the file has 2 spares")
        );
        let said = refused(&[], &["e1", "e2", "s1"]);
        assert!(said.contains("2 etcd hosts do not answer (e1, e2), and the file has 1 spares"));
        assert!(refused(&[pair("cp1", "s1")], &[]).contains("cp1 is no etcd host"));
        assert!(refused(&[pair("e1", "s1"), pair("e2", "s1")], &[]).contains("has its place"));
    }
}
