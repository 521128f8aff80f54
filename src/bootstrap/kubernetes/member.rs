//! The etcd members of a stacked cluster, as etcd's gateway lists them, and which may be removed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, de};

/// The answer of etcd is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("etcd answered no list of members: {0}")]
pub struct MemberError(#[from] serde_json::Error);

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Member {
    /// Its number.
    #[serde(rename = "ID", deserialize_with = "number")]
    pub id: u64,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where the other members reach it.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// Where clients reach it; none until it has started for the first time.
    #[serde(rename = "clientURLs")]
    pub client_urls: Vec<String>,
    /// It has no vote yet.
    pub is_learner: bool,
}

impl Member {
    /// Has it ever started?
    pub fn started(&self) -> bool {
        !self.name.is_empty()
    }

    /// Is it the one of this host?
    pub fn is_of(&self, name: &str, address: IpAddr) -> bool {
        let literal = match address {
            IpAddr::V4(address) => format!("//{address}:"),
            IpAddr::V6(address) => format!("//[{address}]:"),
        };
        self.name == name || self.peer_urls.iter().any(|url| url.contains(&literal))
    }
}

/// protobuf's JSON writes 64 bits as text, etcdctl as a number.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(de::Error::custom),
    }
}

/// Reads the answer to `/v3/cluster/member/list`.
///
/// # Errors
/// It is none.
pub fn members(json: &str) -> Result<Vec<Member>, MemberError> {
    #[derive(Deserialize)]
    struct List {
        members: Vec<Member>,
    }
    Ok(serde_json::from_str::<List>(json)?.members)
}

/// What one member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberState {
    /// Its number.
    pub id: u64,
    /// Its version: `3.5.26`.
    pub version: String,
    /// The member that it takes for the leader; 0 for none.
    pub leader: u64,
    /// The size of its data in bytes.
    pub size: u64,
    /// Alarms and the like.
    pub errors: Vec<String>,
}

/// Reads the answer to `/v3/maintenance/status`.
///
/// # Errors
/// It is none.
pub fn member_state(json: &str) -> Result<MemberState, MemberError> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(deserialize_with = "number")]
        member_id: u64,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        header: Header,
        version: String,
        #[serde(default, deserialize_with = "number")]
        db_size: u64,
        #[serde(default, deserialize_with = "number")]
        leader: u64,
        #[serde(default)]
        errors: Vec<String>,
    }
    let Answer { header, version, db_size: size, leader, errors } = serde_json::from_str(json)?;
    Ok(MemberState { id: header.member_id, version, leader, size, errors })
}

/// How many of so many voters must be well.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// May this member be removed, when these are healthy? The cluster must be able to decide now, and
/// the others by themselves afterwards.
///
/// # Errors
/// Why not, with the numbers.
pub fn removable(members: &[Member], healthy: &BTreeSet<u64>, id: u64) -> Result<(), String> {
    let voters: Vec<_> = members.iter().filter(|member| !member.is_learner).collect();
    let well = voters.iter().filter(|member| healthy.contains(&member.id)).count();
    let needed = quorum(voters.len());
    if well < needed {
        let total = voters.len();
        return Err(format!(
            "etcd has no quorum: {well} of {total} members are healthy, {needed} are needed"
        ));
    }
    let Some(member) = voters.iter().find(|member| member.id == id) else {
        return Ok(());
    };
    let others = voters.len() - 1;
    if others == 0 {
        return Err("it is the only etcd member".to_owned());
    }
    let (left, needed) = (well - usize::from(healthy.contains(&id)), quorum(others));
    if left < needed {
        let name =
            if member.started() { member.name.as_str() } else { "a member that never started" };
        return Err(format!(
            "without {name} etcd has {others} members, of which {left} are healthy and {needed} are needed"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"header": {"cluster_id": "14841639068965178418", "raft_term": "2"}, "members": [
        {"ID": "10276657743932975437", "name": "cp1", "peerURLs": ["https://10.0.0.11:2380"], "clientURLs": ["https://10.0.0.11:2379"]},
        {"ID": "2", "peerURLs": ["https://10.0.0.12:2380"], "isLearner": true}]}"#;

    fn member(id: u64) -> Member {
        Member { id, name: format!("cp{id}"), ..Member::default() }
    }

    #[test]
    fn members_are_read() {
        let members = members(ANSWER).unwrap();
        assert_eq!(members[0].id, 10_276_657_743_932_975_437);
        assert!(members[0].started() && !members[0].is_learner);
        assert!(!members[1].started() && members[1].is_learner);
        assert!(members[1].is_of("cp2", "10.0.0.12".parse().unwrap()));
        assert!(!members[1].is_of("cp3", "10.0.0.1".parse().unwrap()), "10.0.0.1 is not 10.0.0.12");
        assert!(super::members("{}").is_err());
    }

    #[test]
    fn what_a_member_says_of_itself_is_read() {
        let json = r#"{"header":{"cluster_id":"9","member_id":"10276657743932975437","revision":"7","raft_term":"2"},
            "version":"3.5.26","dbSize":"20480","leader":"10276657743932975437","raftIndex":"9","raftTerm":"2"}"#;
        let state = member_state(json).unwrap();
        assert_eq!(
            (state.id, state.leader),
            (10_276_657_743_932_975_437, 10_276_657_743_932_975_437)
        );
        assert_eq!((state.version.as_str(), state.size), ("3.5.26", 20480));
        assert!(member_state("{}").is_err());
    }

    #[test]
    fn quorum_is_kept_when_a_member_goes() {
        let three = [member(1), member(2), member(3)];
        let all = BTreeSet::from([1, 2, 3]);
        assert_eq!(removable(&three, &all, 3), Ok(()));
        // The dead one may go, a live one beside it may not.
        let two = BTreeSet::from([1, 2]);
        assert_eq!(removable(&three, &two, 3), Ok(()));
        assert_eq!(
            removable(&three, &two, 2).unwrap_err(),
            "without cp2 etcd has 2 members, of which 1 are healthy and 2 are needed"
        );
        assert_eq!(
            removable(&three, &BTreeSet::from([1]), 3).unwrap_err(),
            "etcd has no quorum: 1 of 3 members are healthy, 2 are needed"
        );
        assert_eq!(removable(&three[..1], &all, 1).unwrap_err(), "it is the only etcd member");
        let mut with_learner = three.to_vec();
        with_learner.push(Member { id: 4, is_learner: true, ..Member::default() });
        assert_eq!(removable(&with_learner, &two, 4), Ok(()), "a learner has no vote");
    }
}
