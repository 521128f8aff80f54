//! What etcdctl says about a cluster, read from its JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// A member of the cluster, as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Its name; empty as long as it was added but never started.
    pub name: String,
    /// What other members call it by.
    pub peer_urls: Vec<String>,
    /// What clients call it by; none as long as it was never started.
    pub client_urls: Vec<String>,
    /// Does it only learn, without a vote?
    pub learner: bool,
}

impl Member {
    /// Has it ever been part of the cluster? A member publishes what clients call it by then.
    pub fn started(&self) -> bool {
        !self.client_urls.is_empty()
    }

    /// What people call it by: its name, or its number in hexadecimal as etcdctl shows it.
    pub fn title(&self) -> String {
        if self.name.is_empty() { format!("{:x}", self.id) } else { self.name.clone() }
    }
}

/// All members, and the cluster that they are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The number of the cluster.
    pub cluster: u64,
    /// Its members.
    pub list: Vec<Member>,
}

/// What one member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its number.
    pub id: u64,
    /// The number of its cluster.
    pub cluster: u64,
    /// Its version: `3.5.26`.
    pub version: String,
    /// The member that it takes for the leader; 0 for none.
    pub leader: u64,
    /// The revision of its data.
    pub revision: i64,
    /// The last entry of the log that it has.
    pub index: u64,
    /// The last entry that it has applied.
    pub applied: u64,
    /// Does it only learn?
    pub learner: bool,
    /// The size of its data in bytes.
    pub size: u64,
    /// Alarms and the like.
    pub errors: Vec<String>,
}

/// The whole cluster, as one of its members sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Its members.
    pub members: Members,
    /// Those that answered a read that needs a quorum, and learners that said how they are.
    pub healthy: BTreeSet<u64>,
    /// What each that answered says of itself.
    pub status: BTreeMap<u64, Status>,
}

#[derive(Deserialize)]
struct HeaderShape {
    #[serde(default)]
    cluster_id: u64,
    #[serde(default)]
    member_id: u64,
    #[serde(default)]
    revision: i64,
}

#[derive(Deserialize)]
struct MemberShape {
    #[serde(rename = "ID")]
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs", default)]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner", default)]
    learner: bool,
}

#[derive(Deserialize)]
struct ListShape {
    header: HeaderShape,
    members: Vec<MemberShape>,
}

#[derive(Deserialize)]
struct StatusShape {
    header: HeaderShape,
    version: String,
    #[serde(default)]
    leader: u64,
    #[serde(rename = "raftIndex", default)]
    index: u64,
    #[serde(rename = "raftAppliedIndex", default)]
    applied: u64,
    #[serde(rename = "isLearner", default)]
    learner: bool,
    #[serde(rename = "dbSize", default)]
    size: u64,
    #[serde(default)]
    errors: Vec<String>,
}

#[derive(Deserialize)]
struct EndpointShape {
    #[serde(rename = "Status")]
    status: StatusShape,
}

#[derive(Deserialize)]
struct HealthShape {
    endpoint: String,
    health: bool,
}

impl Members {
    /// What `etcdctl member list -w json` printed.
    ///
    /// # Errors
    /// If it is no such thing.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        let ListShape { header, members } = serde_json::from_str(json)?;
        let member = |shape: MemberShape| {
            let MemberShape { id, name, peer_urls, client_urls, learner } = shape;
            Member { id, name, peer_urls, client_urls, learner }
        };
        let list = members.into_iter().map(member).collect();
        Ok(Self { cluster: header.cluster_id, list })
    }

    /// The member that other members call this.
    pub fn at(&self, peer_url: &str) -> Option<&Member> {
        self.list.iter().find(|member| member.peer_urls.iter().any(|url| url == peer_url))
    }

    /// The member of this name.
    pub fn named(&self, name: &str) -> Option<&Member> {
        self.list.iter().find(|member| member.name == name)
    }
}

impl Status {
    /// What `etcdctl endpoint status -w json` printed.
    ///
    /// # Errors
    /// If it is no such thing.
    pub fn parse(json: &str) -> Result<Vec<Self>, serde_json::Error> {
        let endpoints: Vec<EndpointShape> = serde_json::from_str(json)?;
        let status = |EndpointShape { status }: EndpointShape| Self {
            id: status.header.member_id,
            cluster: status.header.cluster_id,
            version: status.version,
            leader: status.leader,
            revision: status.header.revision,
            index: status.index,
            applied: status.applied,
            learner: status.learner,
            size: status.size,
            errors: status.errors,
        };
        Ok(endpoints.into_iter().map(status).collect())
    }
}

impl View {
    /// A view of what `member list`, `endpoint health` and `endpoint status` printed.
    ///
    /// # Errors
    /// If one of them is no such thing.
    pub fn parse(members: &str, health: &str, status: &str) -> Result<Self, serde_json::Error> {
        let members = Members::parse(members)?;
        let healthy: Vec<HealthShape> = serde_json::from_str(health)?;
        let healthy: BTreeSet<_> =
            healthy.into_iter().filter(|one| one.health).map(|one| one.endpoint).collect();
        let status: BTreeMap<_, _> =
            Status::parse(status)?.into_iter().map(|one| (one.id, one)).collect();
        let answers = |member: &&Member| {
            // A learner refuses reads that need a quorum (etcd: api/v3rpc/interceptor.go).
            if member.learner {
                return status.contains_key(&member.id);
            }
            member.client_urls.iter().any(|url| healthy.contains(url))
        };
        let healthy = members.list.iter().filter(answers).map(|member| member.id).collect();
        Ok(Self { members, healthy, status })
    }

    /// Does this member answer?
    pub fn is_healthy(&self, id: u64) -> bool {
        self.healthy.contains(&id)
    }

    /// The leader, if the members agree on one.
    pub fn leader(&self) -> Option<u64> {
        let leaders: BTreeSet<_> = self.status.values().map(|status| status.leader).collect();
        let one = leaders.first().copied().filter(|id| *id != 0);
        one.filter(|_| leaders.len() == 1)
    }
}
