//! Hosts that flags name.

use proptest::prelude::*;

use super::*;

fn cluster() -> Cluster {
    good("BASE\n- { name: 'w[1-20]', address: '10.0.1.[1-20]', roles: [worker] }")
}

fn selected<'a>(cluster: &'a Cluster, texts: &[&str]) -> Result<Vec<&'a str>, String> {
    let selection = Selection::parse(texts).map_err(|error| error.to_string())?;
    let hosts = selection.of(cluster).map_err(|error| error.to_string())?;
    Ok(hosts.into_iter().map(|host| host.name.as_str()).collect())
}

#[test]
fn hosts_are_selected_by_name_and_range() {
    let cluster = cluster();
    assert_eq!(
        selected(&cluster, &["w[3-4,20]", "cp1", "w3"]).unwrap(),
        ["cp1", "w3", "w4", "w20"]
    );
    assert_eq!(selected(&cluster, &[]).unwrap().len(), 21);
    assert!(Selection::parse::<&str>(&[]).unwrap().is_everything());
    assert!(!Selection::parse(&["cp1"]).unwrap().is_everything());
}

#[test]
fn unknown_names_are_told() {
    let cluster = cluster();
    let wrong = |text: &str| selected(&cluster, &["cp1", text]).unwrap_err();
    assert_eq!(wrong("w21"), "--host w21: no host is called `w21`; did you mean `w1`?");
    assert_eq!(
        wrong("master"),
        "--host master: no host is called `master`; see `hosts` of the cluster file"
    );
    assert_eq!(
        wrong("w[19-25]"),
        "--host w[19-25]: no hosts are called `w21`, `w22`, `w23` and 2 more; see `hosts` of the cluster file"
    );
    assert_eq!(wrong("w[1"), "--host w[1: a bracket has no partner; write a range as w[1-20]");
}

proptest! {
    #[test]
    fn a_range_selects_what_it_names(first in 1u64..=20, more in 0u64..20) {
        let cluster = cluster();
        let last = first + more;
        let result = selected(&cluster, &[&format!("w[{first}-{last}]")]);
        if last <= 20 {
            let names: Vec<_> = (first..=last).map(|number| format!("w{number}")).collect();
            prop_assert_eq!(result.unwrap(), names);
        } else {
            prop_assert!(result.is_err());
        }
    }
}
