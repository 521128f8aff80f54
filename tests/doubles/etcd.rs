//! A client of etcd through its JSON gateway.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::Client;

/// A store of several members, any of which is asked.
#[derive(Clone, Debug)]
pub(crate) struct Etcd {
    members: Vec<Client>,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    /// The revision of its last change.
    pub(crate) revision: u64,
}

/// A member of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    /// Empty until it has started.
    pub(crate) name: String,
    pub(crate) peers: Vec<String>,
    pub(crate) clients: Vec<String>,
}

impl Etcd {
    /// A client that asks these addresses one after the other.
    pub(crate) fn new(
        endpoints: &[String],
        ca: &[u8],
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, String> {
        let client = |server: &String| Client::new(server, ca, Some((certificate, key)), None);
        let members: Result<Vec<_>, _> = endpoints.iter().map(client).collect();
        Ok(Self { members: members? })
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value, String> {
        let mut last = "there is no etcd server".to_owned();
        for member in &self.members {
            match member.call("POST", path, Some(body)) {
                Ok((200, value)) => return Ok(value),
                Ok((status, value)) => last = format!("etcd: {path}: {status}: {value}"),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The entries whose keys begin so, and the revision of the store.
    pub(crate) fn list(&self, prefix: &str) -> Result<(Vec<Entry>, u64), String> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let body = json!({ "key": STANDARD.encode(prefix), "range_end": STANDARD.encode(end) });
        let answer = self.call("/v3/kv/range", &body)?;
        Ok((entries(&answer), number(&answer["header"]["revision"])))
    }

    /// The entry of this key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, String> {
        let answer = self.call("/v3/kv/range", &json!({ "key": STANDARD.encode(key) }))?;
        Ok(entries(&answer).into_iter().next())
    }

    /// Writes a value if the key's last change has this revision (0: there is no such key). Returns the
    /// new revision, or none if it was not so.
    pub(crate) fn put(
        &self,
        key: &str,
        value: &[u8],
        revision: u64,
        lease: Option<&str>,
    ) -> Result<Option<u64>, String> {
        let key = STANDARD.encode(key);
        let mut put = json!({ "key": key, "value": STANDARD.encode(value) });
        if let Some(lease) = lease {
            put["lease"] = json!(lease);
        }
        let compare = json!({ "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision.to_string() });
        let body = json!({ "compare": [compare], "success": [{ "request_put": put }] });
        let answer = self.call("/v3/kv/txn", &body)?;
        let done = answer["succeeded"] == json!(true);
        Ok(done.then(|| number(&answer["header"]["revision"])))
    }

    /// Removes a key. Was it there?
    pub(crate) fn delete(&self, key: &str) -> Result<bool, String> {
        let answer = self.call("/v3/kv/deleterange", &json!({ "key": STANDARD.encode(key) }))?;
        Ok(number(&answer["deleted"]) > 0)
    }

    /// A lease of so many seconds.
    pub(crate) fn lease(&self, seconds: u32) -> Result<String, String> {
        let answer = self.call("/v3/lease/grant", &json!({ "TTL": seconds.to_string() }))?;
        answer["ID"].as_str().map(str::to_owned).ok_or_else(|| format!("no lease: {answer}"))
    }

    /// Everyone in the cluster.
    pub(crate) fn members(&self) -> Result<Vec<Member>, String> {
        let answer = self.call("/v3/cluster/member/list", &json!({}))?;
        Ok(answer["members"].as_array().into_iter().flatten().map(member).collect())
    }

    /// Takes a new member in, as a learner. Returns its number.
    pub(crate) fn add_learner(&self, peer: &str) -> Result<String, String> {
        let answer =
            self.call("/v3/cluster/member/add", &json!({ "peerURLs": [peer], "isLearner": true }))?;
        Ok(member(&answer["member"]).id)
    }

    /// Gives a learner its vote.
    pub(crate) fn promote(&self, id: &str) -> Result<(), String> {
        self.call("/v3/cluster/member/promote", &json!({ "ID": id })).map(drop)
    }

    /// Takes a member out.
    pub(crate) fn remove(&self, id: &str) -> Result<(), String> {
        self.call("/v3/cluster/member/remove", &json!({ "ID": id })).map(drop)
    }
}

fn member(value: &Value) -> Member {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let list = |name: &str| {
        let items = value[name].as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Member {
        id: text("ID"),
        name: text("name"),
        peers: list("peerURLs"),
        clients: list("clientURLs"),
    }
}

fn entries(answer: &Value) -> Vec<Entry> {
    let bytes =
        |value: &Value| STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    let entry = |kv: &Value| Entry {
        key: String::from_utf8_lossy(&bytes(&kv["key"])).into_owned(),
        value: bytes(&kv["value"]),
        revision: number(&kv["mod_revision"]),
    };
    answer["kvs"].as_array().into_iter().flatten().map(entry).collect()
}

/// The gateway writes large numbers as text.
fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64()).unwrap_or_default()
}
